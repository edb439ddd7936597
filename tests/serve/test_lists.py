import re
import shlex
from itertools import pairwise
from pathlib import Path

import pytest
from verbs import run

ROW = re.compile(r"^│ (?:\d+ +│ )?(item-\d+) ", re.MULTILINE)


@pytest.mark.parametrize("name", ["run", "grc"])
@pytest.mark.parametrize("flags", [[], ["--keep-seen"], ["--beams", 8, "--k", 9], ["--k", 7]])
def test_what_is_explained_is_what_was_recommended(
    name: str, flags: list[object], shop: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, _ = run(capsys, "recommend", shop / name, "--data", shop / "data", "--user", "user-7", *flags)
    assert code == 0
    listed = ROW.findall(out)
    assert len(listed) == dict(pairwise(flags)).get("--k", 10)
    words = shlex.split(out.splitlines()[-1].removeprefix("next: "))
    words = words[words.index("explain") :]
    code, out, _ = run(capsys, *words)
    assert code == 0
    assert ROW.findall(out.partition("the list")[2] if name == "grc" else out) == listed


@pytest.mark.parametrize("verb", ["recommend", "explain", "export"])
def test_a_correction_that_a_model_would_ignore_is_refused(
    verb: str, shop: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [tmp_path / "out", "--no-compile"] if verb == "export" else ["--history", "item-3"]
    code, _, err = run(capsys, verb, shop / "run", *words, "--correction.budget", 2)
    assert code == 2
    assert "run: does not correct itself; leave out --correction" in err
    assert not (tmp_path / "out").exists()


def test_a_correction_is_for_those_of_several_runs_that_heed_it(
    shop: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["evaluate", shop / "data", "--runs", shop / "run", shop / "grc", "--beams", 10, "--ranks", tmp_path]
    code, out, _ = run(capsys, *words, "--baselines", "popularity", "--correction.budget", 2)
    assert code == 0
    assert "note: run: its folder does not say what it learnt from" in out


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--trust", 2], "has no item head and no verifier; leave out --trust"),
        (["--correction.alpha", 1], "does not correct itself"),
    ],
)
def test_what_no_run_heeds_is_refused(
    flags: list[object], said: str, shop: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, err = run(capsys, "evaluate", shop / "data", "--runs", shop / "run", "--ranks", tmp_path, *flags)
    assert code == 2
    assert said in err


@pytest.mark.parametrize("k", [0, -1, 31])
@pytest.mark.parametrize("name", ["run", "grc"])
def test_a_list_to_explain_has_an_item_and_no_more_than_there_are(
    k: int, name: str, shop: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, err = run(capsys, "explain", shop / name, "--history", "item-3", "--k", k)
    assert code == 2
    assert re.search(rf"k( is)? {k}[:; ].*(must be >= 1|there are only 30 items)", err)
