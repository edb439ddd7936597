import csv
import gzip
import io
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from redraft.data.places import find_fault, locate_in

HEADER = "item_id,title\n"


@pytest.mark.parametrize("name", ["items.csv", "items.csv.gz"])
@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ('1,a\n2,5" pipe\n3,c\n', "line 3: a quote that does not enclose"),
        ('1,a\n2,"The Best\n3,c\n', "line 3: a quote that does not enclose"),
        ('1,"two\nlines"\n2,"The Best\n3,c\n', "line 4: a quote that does not enclose"),
        ('1,a\n2,"ok"x\n', "line 3: a quote that does not enclose"),
        ('1,"a,b"\n2,b,c\n', "line 3: 3 fields where the header has 2"),
        ('1,"two\nlines",x\n', "line 2: 3 fields where the header has 2"),
        ("1,a\n", "cannot be parsed"),
    ],
)
def test_the_first_broken_line_is_named(tmp_path: Path, name: str, text: str, fault: str):
    content = (HEADER + text).encode()
    path = tmp_path / name
    path.write_bytes(gzip.compress(content) if name.endswith("gz") else content)
    assert fault in find_fault(path, ",")


def test_bytes_and_gzip(tmp_path: Path):
    (tmp_path / "a.csv").write_bytes(HEADER.encode() + b'1,"two\nlines \xff"\n')
    assert "a.csv, line 3: byte 0xff is not UTF-8" in find_fault(tmp_path / "a.csv", ",")
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(HEADER.encode() * 100)[:-9])
    assert "a.csv.gz: broken gzip" in find_fault(tmp_path / "a.csv.gz", ",")


@given(st.lists(st.tuples(*[st.text('ab",\n', max_size=6)] * 2), max_size=6))
def test_what_csv_writes_has_no_fault(tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str]]):
    path = tmp_path_factory.mktemp("csv") / "items.csv"
    written = io.StringIO()
    csv.writer(written, quoting=csv.QUOTE_ALL, lineterminator="\n").writerows([("item_id", "title"), *rows])
    path.write_text(written.getvalue())
    assert find_fault(path, ",").endswith("cannot be parsed; export it again")


def test_rows_are_lines_where_people_see_lines():
    assert locate_in(Path("a.csv.gz"))(3) == "a.csv.gz, line 5"
    assert locate_in(Path("a.parquet"))(3) == "a.parquet, row 4"
