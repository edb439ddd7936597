"""What the documents say is so: their Python runs, their commands parse, their names and links exist."""

import contextlib
import importlib
import io
import re
import shlex
from pathlib import Path

import pytest

import redraft
from redraft import api, cli
from redraft.bench.results import fill_tables

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```([^\n`]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SMALL = {
    "model": {"width": 16, "embedding": 8, "feed_forward": 16, "heads": 2},
    "epochs": 1,
    "evaluate_users": 9,
}


def blocks(page: Path, language: str) -> list[str]:
    return [text for name, text in BLOCK.findall(page.read_text(encoding="utf-8")) if name == language]


def small_train(recipe: str, data: str, out: str, **options: object) -> object:
    limits = {"draft_beams": 3, "epochs": 1, "evaluate_users": 9} if recipe == "grc" else SMALL
    return api.train(recipe, data, out, **{**options, **limits})


@pytest.fixture
def small_world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same calls on a small shop with a small model."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(redraft, "make_shop", lambda out: api.make_shop(out, users=60, items=80))
    monkeypatch.setattr(redraft, "tokenize", lambda data, **_: api.tokenize(data, method="kmeans", codebook_size=16))
    monkeypatch.setattr(redraft, "train", small_train)


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "python")], ids=lambda page: page.stem)
@pytest.mark.usefixtures("small_world")
def test_the_python_of_a_page_runs(page: Path) -> None:
    names: dict[str, object] = {}
    for block in blocks(page, "python"):
        exec(compile(block, str(page), "exec"), names)


COMMANDS = [
    pytest.param(line.strip(), id=f"{page.stem}: {line.strip()}"[:80])
    for page in PAGES
    if page.name != "LOG.md"
    for block in blocks(page, "")
    for line in block.splitlines()
    if line.strip().startswith("redraft ") and "VERB" not in line
]


@pytest.mark.parametrize("line", COMMANDS)
def test_a_command_of_a_page_is_one_that_the_program_takes(line: str) -> None:
    words = shlex.split(line, comments=True)[1:]
    name = next(n for n in (" ".join(words[:2]), words[0]) if n in cli.VERBS)
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
            cli.parse(name, words[len(name.split()) :])
    except SystemExit:
        pytest.fail(f"{line}\n{said.getvalue()}")


def test_every_equation_has_its_function_and_its_test() -> None:
    rows = re.findall(
        r"^\| (\d+) \| .* \| `(\S+)` \| `(\S+)::(\S+)` \|$", (ROOT / "docs/paper.md").read_text(), re.MULTILINE
    )
    assert [int(number) for number, *_ in rows] == list(range(1, 26))
    for _, function, file, test in rows:
        assert callable(found_at(function)), function
        assert f"def {test}(" in (ROOT / file).read_text(), f"{file}::{test}"


def found_at(name: str) -> object:
    """redraft.package.module.Class.method, or without the method."""
    parts = name.split(".")
    for cut in range(len(parts) - 1, 0, -1):
        try:
            found: object = importlib.import_module(".".join(parts[:cut]))
        except ModuleNotFoundError:
            continue
        for part in parts[cut:]:
            found = getattr(found, part)
        return found
    raise ModuleNotFoundError(name)


def test_every_file_of_a_data_set_and_a_run_is_described(shop: Path) -> None:
    described = (ROOT / "docs/files.md").read_text()
    written = {path.name + "/" * path.is_dir() for room in ("data", "run", "grc") for path in (shop / room).iterdir()}
    assert written
    assert not {name for name in written if f"`{name}`" not in described}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_tables_are_the_results_and_links_lead_somewhere(page: Path) -> None:
    fill_tables(page, ROOT / "results", check=True)
    for link in re.findall(r"\]\((?!https?://)([^)#\s]+)", page.read_text(encoding="utf-8")):
        assert (page.parent / link).exists(), link
