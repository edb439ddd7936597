import hashlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from full_disk import room_for

from redraft.data import download as module
from redraft.data.download import DownloadConfig, amazon_urls, download, main
from redraft.records import InputError

CONTENT = bytes(range(256)) * 5_000
CHECKSUM = hashlib.sha256(CONTENT).hexdigest()


class Server(ThreadingHTTPServer):
    """Serves CONTENT at every path but /missing; hangs up after `cut` bytes of each of the first `cuts` answers."""

    cuts = 0
    cut = 400_000
    failures = 0
    ranges = True
    content = CONTENT

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[str | None] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/file.gz"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        wanted = self.headers.get("Range")
        self.server.asked.append(wanted)
        if self.server.failures:
            self.server.failures -= 1
            return self.send_error(503)
        if "missing" in self.path:
            return self.send_error(404)
        start = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted and self.server.ranges else 0
        size = len(self.server.content)
        if start >= size:
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{size}")
            self.send_header("Content-Length", "0")
            return self.end_headers()
        body = self.server.content[start:]
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.server.cuts:
            self.server.cuts -= 1
            body = body[: self.server.cut]
        self.wfile.write(body)
        return None

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def fetched(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_resumes_where_the_connection_broke(server: Server, tmp_path: Path):
    server.cuts = 2
    seen: list[tuple[int, int | None]] = []
    path = tmp_path / "new" / "file.gz"
    download(server.url, path, sha256=CHECKSUM, wait=0, report=lambda done, total: seen.append((done, total)))
    assert path.read_bytes() == CONTENT
    assert server.asked == [None, "bytes=400000-", "bytes=800000-"]
    assert seen[-1] == (len(CONTENT), len(CONTENT))
    assert fetched(path.parent) == ["file.gz"]


def test_a_later_call_resumes(server: Server, tmp_path: Path):
    server.cuts = 1
    with pytest.raises(InputError, match=r"broke at 400,000 of 1,280,000 bytes.*400,000 bytes are kept"):
        download(server.url, tmp_path / "file.gz", tries=1)
    assert fetched(tmp_path) == ["file.gz.part"]
    download(server.url, tmp_path / "file.gz", sha256=CHECKSUM)
    assert server.asked == [None, "bytes=400000-"]


def test_starts_again_where_the_server_cannot_resume(server: Server, tmp_path: Path):
    server.cuts, server.ranges = 1, False
    download(server.url, tmp_path / "file.gz", sha256=CHECKSUM, wait=0)
    assert server.asked == [None, "bytes=400000-"]


def test_a_complete_part_is_taken(server: Server, tmp_path: Path):
    (tmp_path / "file.gz.part").write_bytes(CONTENT)
    download(server.url, tmp_path / "file.gz", sha256=CHECKSUM, wait=0)
    assert fetched(tmp_path) == ["file.gz"]


def test_a_part_longer_than_the_file_is_thrown_away(server: Server, tmp_path: Path):
    (tmp_path / "file.gz.part").write_bytes(CONTENT + b"more")
    download(server.url, tmp_path / "file.gz", sha256=CHECKSUM, wait=0)
    assert (tmp_path / "file.gz").read_bytes() == CONTENT


def test_tries_again_while_the_server_is_busy(server: Server, tmp_path: Path):
    server.failures = 3
    download(server.url, tmp_path / "file.gz", tries=4, wait=0)
    assert (tmp_path / "file.gz").read_bytes() == CONTENT


def test_gives_up_on_a_server_that_stays_busy(server: Server, tmp_path: Path):
    server.failures = 9
    with pytest.raises(InputError, match=r"answers 503.*resume"):
        download(server.url, tmp_path / "file.gz", tries=3, wait=0)
    assert (len(server.asked), fetched(tmp_path)) == (3, [])


def test_wrong_checksum(server: Server, tmp_path: Path):
    with pytest.raises(InputError, match=f"sha256 is {CHECKSUM}, not 00"):
        download(server.url, tmp_path / "file.gz", sha256="0" * 64)
    assert fetched(tmp_path) == []


def test_a_full_disk_keeps_what_fits_and_goes_on_later(server: Server, tmp_path: Path):
    with room_for(700_000), pytest.raises(InputError, match=r"file.gz.part: cannot be written \(File too large\)"):
        download(server.url, tmp_path / "file.gz", wait=0)
    assert fetched(tmp_path) == ["file.gz.part"]
    download(server.url, tmp_path / "file.gz", sha256=CHECKSUM)
    assert server.asked == [None, "bytes=700000-"]


def test_missing_file_is_not_tried_again(server: Server, tmp_path: Path):
    with pytest.raises(InputError, match=r"missing.*answers 404.*check the category"):
        download(server.url.replace("file", "missing"), tmp_path / "file.gz")
    assert (len(server.asked), fetched(tmp_path)) == (1, [])


def test_nobody_listens(tmp_path: Path):
    with Server() as closed:
        url = closed.url
    with pytest.raises(InputError, match="connection failed"):
        download(url, tmp_path / "file.gz", tries=2, wait=0)


def test_what_is_there_is_not_fetched_again(server: Server, tmp_path: Path):
    (tmp_path / "file.gz").write_bytes(CONTENT)
    download(server.url, tmp_path / "file.gz", sha256=CHECKSUM)
    with pytest.raises(InputError, match="remove the file"):
        download(server.url, tmp_path / "file.gz", sha256="0" * 64)
    assert server.asked == []


def test_main(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.setattr(module, "MCAULEY_LAB", server.url.removesuffix("/file.gz"))
    main(DownloadConfig("amazon", tmp_path / "raw", category="Beauty", reviews_sha256=CHECKSUM))
    assert fetched(tmp_path / "raw") == ["meta_Beauty.json.gz", "reviews_Beauty_5.json.gz"]
    said = capsys.readouterr().out
    assert CHECKSUM in said
    assert f"redraft data import amazon {tmp_path / 'raw'}" in said


@pytest.mark.parametrize("year", [2014, 2018, 2023])
def test_urls(year: int):
    reviews, metadata = amazon_urls(year, "Beauty")
    assert metadata.rsplit("/", 1)[-1].startswith("meta_Beauty.json")
    assert "Beauty" in reviews
    assert reviews.endswith(".gz")


def test_any_category_makes_an_address():
    assert amazon_urls(2023, "Arts & Crafts/x")[1].endswith("/meta_Arts%20%26%20Crafts%2Fx.jsonl.gz")
