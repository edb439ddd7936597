"""Every number that we quote: written by the program to results/NAME.json, and from there into the documents."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from redraft.bench.columns import Column, markdown_table
from redraft.files import atomic_file, measured, read_json, write_json
from redraft.folders import Kind, check_file, json_object
from redraft.provenance import provenance
from redraft.records import InputError
from redraft.stored import read_settings

__all__ = [
    "RESULTS",
    "DocumentsConfig",
    "check_result",
    "fill_tables",
    "main",
    "result_columns",
    "seeds_of",
    "write_result",
]

RESULTS = Path("results")
RESULT = Kind("a result", lambda path: {"metrics", "columns", "protocol"} <= json_object(path).keys())
NAME = re.compile(r"\w[\w.+-]*")
CHOICE = re.compile(r' ([^\s"=]+)=([^\s"]+|"[^"]*")')
OPEN, CLOSE = re.compile(rf"<!-- table: (\S+)((?:{CHOICE.pattern})*) -->"), "<!-- /table -->"


@dataclass(frozen=True)
class DocumentsConfig:
    """Make the tables of the documents from the result files."""

    documents: Annotated[tuple[Path, ...], tyro.conf.Positional] = (Path("README.md"), Path("docs"))
    """Markdown files, and folders of them; a table stands between <!-- table: NAME --> and <!-- /table -->.
    <!-- table: NAME FIELD=VALUE --> holds the rows with that value alone, without a column for it; FIELD=VALUE,VALUE
    those with one of several values; columns=HEADING,HEADING shows these columns alone."""
    results: Path = RESULTS
    """The folder with NAME.json."""
    check: bool = False
    """Change nothing; fail if a table is not what its result file makes."""


def main(config: DocumentsConfig) -> None:
    """Fill or check every table, and say which files were written."""
    for path in config.documents:
        for document in sorted(path.glob("**/*.md")) if path.is_dir() else [path]:
            if fill_tables(document, config.results, check=config.check):
                print(f"wrote {document}")


def check_result(name: str | None, folder: Path = RESULTS) -> None:
    """Raise InputError if folder/NAME.json cannot be written, or holds anything but a result; None is no result.

    A result is replaced by the next one of its name.
    """
    if name is None:
        return
    if not NAME.fullmatch(name):
        raise InputError(f"{name!r} is no name of a result; give letters, digits and any of _ - + . after the first")
    check_file(folder / f"{name}.json", RESULT, replace=True)


def write_result(
    name: str,
    metrics: Sequence[Mapping[str, Any]],
    *,
    columns: Sequence[Column],
    protocol: str,
    fingerprints: Mapping[str, str] | None = None,
    seeds: Sequence[int] = (),
    folder: Path = RESULTS,
) -> Path:
    """Write folder/NAME.json: the numbers, and all that one needs to know to measure them again.

    metrics: the rows, with everything that was measured. columns: what the documents' table shows; the file has the
    template of each cell by its heading. protocol: what was measured and how, in a sentence or two. fingerprints: of
    the data ("data") and the semantic IDs ("semantic_ids").
    Raises InputError as `check_result`; what was measured is printed then.
    """
    table = markdown_table(metrics, columns)
    path = folder / f"{name}.json"
    content = {
        **provenance(),
        "fingerprints": dict(fingerprints or {}),
        "seeds": list(seeds),
        "protocol": protocol,
        "columns": {column.heading: column.template for column in columns},
        "metrics": measured([dict(row) for row in metrics]),
    }
    try:
        check_result(name, folder)
        write_json(path, content)
    except InputError:
        print(table)
        raise
    return path


def seeds_of(runs: Sequence[Path]) -> list[int]:
    """The seeds that run folders were trained with, where their config.json tells."""
    configs = [read_settings(run).config for run in runs if (run / "config.json").exists()]
    return [config["seed"] for config in configs if "seed" in config]


def result_columns(result: Mapping[str, Any]) -> list[Column]:
    """The columns of a result file."""
    return [Column.read(heading, template) for heading, template in result["columns"].items()]


def fill_tables(document: Path, folder: Path = RESULTS, *, check: bool = False) -> bool:
    """Put the table of folder/NAME.json between each `<!-- table: NAME -->` and the `<!-- /table -->` after it.

    `<!-- table: NAME FIELD=VALUE -->` takes the rows with that value alone, without a column for it;
    `FIELD=VALUE,VALUE` those with one of several values; `columns=HEADING,HEADING` shows these columns alone. What has
    spaces stands in quotes: `method="reflection on drafts,HSTU"`.

    Returns whether the document changed.
    Raises InputError, naming document and line, for a marker that is not closed or of another form, for a missing
    result file, for a value that no row has, for an unknown column, and with `check` for a table that differs.
    """
    if not document.is_file():
        raise InputError(f"{document}: no such file; name Markdown files or folders of them")
    before = document.read_text(encoding="utf-8")
    filled: list[str] = []
    lines = iter(enumerate(before.split("\n"), start=1))
    for number, line in lines:
        filled.append(line)
        marker, where = OPEN.fullmatch(line.strip()), f"{document}, line {number}"
        if marker is None:
            if line.strip().startswith("<!-- table"):
                raise InputError(f"{where}: write <!-- table: NAME --> or <!-- table: NAME FIELD=VALUE -->")
            continue
        source = folder / f"{marker[1]}.json"
        present = _until_close(lines, where)
        if not source.exists():
            raise InputError(f"{where}: the table needs {source}, which is not there; measure it first")
        result = read_json(source)
        made = _chosen(result, {name: value.strip('"') for name, value in CHOICE.findall(marker[2])}, where)
        if check and present != made:
            raise InputError(f"{where}: the table is not the one that {source} makes; run `redraft bench documents`")
        filled += [*made, CLOSE]
    after = "\n".join(filled)
    if after != before:
        with atomic_file(document) as partial:
            partial.write_text(after, encoding="utf-8")
    return after != before


def _chosen(result: Mapping[str, Any], wanted: dict[str, str], where: str) -> list[str]:
    """The lines of the table of the rows that have, in each field, one of the values that are wanted."""
    headings = wanted.pop("columns", "")
    columns = result_columns(result)
    values = {name: value.split(",") for name, value in wanted.items()}
    rows = [row for row in result["metrics"] if all(str(row.get(name)) in some for name, some in values.items())]
    if wanted and not rows:
        words = " ".join(f"{name}={value}" for name, value in wanted.items())
        fields = ", ".join({name: None for row in result["metrics"] for name in row})
        raise InputError(f"{where}: no row has {words}; the rows' fields are {fields}")
    missing = [name for name in headings.split(",") if headings and name not in result["columns"]]
    if missing:
        raise InputError(f"{where}: no column {missing[0]!r}; there are {', '.join(result['columns'])}")
    if headings:
        columns = [Column.read(name, result["columns"][name]) for name in headings.split(",")]
    single = {name for name, some in values.items() if len(some) == 1}
    return markdown_table(rows, [column for column in columns if not single & {*column.fields}]).split("\n")


def _until_close(lines: Iterator[tuple[int, str]], where: str) -> list[str]:
    inside: list[str] = []
    for _, line in lines:
        if line.strip() == CLOSE:
            return inside
        inside.append(line)
    raise InputError(f"{where}: the table is not closed; write {CLOSE} after it")
