"""`redraft data download`: fetch the published files, resuming where a connection broke."""

import hashlib
import ssl
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Annotated, Literal

import tyro
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from redraft.files import write_failures_named
from redraft.records import InputError
from redraft.terminal import next_command, plain_console

__all__ = ["DownloadConfig", "amazon_urls", "download", "main"]

MCAULEY_LAB = "https://mcauleylab.ucsd.edu/public_datasets/data"
AMAZON = {  # edition -> reviews, metadata; the reviews of 2014 and 2018 are the published 5-core, 2023 has them all
    2014: ("amazon/categoryFiles/reviews_{}_5.json.gz", "amazon/categoryFiles/meta_{}.json.gz"),
    2018: ("amazon_v2/categoryFilesSmall/{}_5.json.gz", "amazon_v2/metaFiles2/meta_{}.json.gz"),
    2023: (
        "amazon_2023/raw/review_categories/{}.jsonl.gz",
        "amazon_2023/raw/meta_categories/meta_{}.jsonl.gz",
    ),
}
BLOCK = 1 << 20
PASSING = (408, 425, 429)  # refusals that a later try may not meet; so are all from 500 on

Report = Callable[[int, int | None], None]


@dataclass(frozen=True)
class DownloadConfig:
    """Download published logs: Amazon reviews and metadata of one category."""

    source: Annotated[Literal["amazon"], tyro.conf.Positional]
    """Whose logs: amazon."""
    dst: Annotated[Path, tyro.conf.Positional]
    """The folder for the files."""
    category: str
    """The category as the file names spell it, e.g. Beauty (2014), Luxury_Beauty (2018), All_Beauty (2023)."""
    year: Literal[2014, 2018, 2023] = 2014
    """The edition: 2014, 2018 or 2023."""
    reviews_sha256: str | None = None
    """What the file of reviews must hash to [not checked: the publisher gives no checksums]."""
    metadata_sha256: str | None = None
    """What the file of metadata must hash to [not checked]."""


def main(config: DownloadConfig) -> None:
    """Download the files, say what was written and what to run next."""
    console = plain_console()
    checksums = (config.reviews_sha256, config.metadata_sha256)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    for url, checksum in zip(amazon_urls(config.year, config.category), checksums):
        path = config.dst / url.rsplit("/", 1)[-1]
        with Progress(*columns, console=console) as progress:
            task = progress.add_task(path.name, total=None)

            def report(done: int, total: int | None, progress: Progress = progress, task: int = task) -> None:
                progress.update(task, completed=done, total=total)  # type: ignore[arg-type]

            download(url, path, sha256=checksum, report=report)
        console.print(f"wrote {path}, sha256 {_sha256(path)}")
    console.print(next_command("data", "import", "amazon", config.dst, Path("data") / config.category))


def amazon_urls(year: int, category: str) -> tuple[str, str]:
    """Where the McAuley Lab publishes the reviews and the metadata of a category (Amazon reviews, UCSD)."""
    reviews, metadata = AMAZON[year]
    name = urllib.parse.quote(category, safe="")
    return f"{MCAULEY_LAB}/{reviews.format(name)}", f"{MCAULEY_LAB}/{metadata.format(name)}"


def download(
    url: str,
    path: Path,
    *,
    sha256: str | None = None,
    tries: int = 5,
    wait: float = 1.0,
    timeout: float = 60.0,
    report: Report = lambda done, total: None,
) -> None:
    """Fetch a file unless it is there already; what has arrived is kept in PATH.part and resumed, also by a later call.

    tries: how often in a row nothing may arrive before giving up. wait: seconds before the second try, doubled each
    time. timeout: seconds without data. report: called with the bytes so far and in all, None where not known.
    Raises InputError if the server does not have the file, cannot be reached, or sends another checksum.
    """
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(path.name + ".part")
        failures = 0
        while (trouble := _fetch(url, part, timeout, report)) is not None:
            arrived, reason = trouble
            failures = 1 if arrived else failures + 1
            if failures == tries:
                kept = part.stat().st_size if part.exists() else 0
                raise InputError(f"{url}: {reason}; run the same command later to resume ({kept:,} bytes are kept)")
            time.sleep(wait * 2 ** (failures - 1))
        if sha256 is not None and (actual := _sha256(part)) != sha256:
            part.unlink()
            raise InputError(f"{url}: sha256 is {actual}, not {sha256}; download again, or check the checksum")
        part.replace(path)
    elif sha256 is not None and (actual := _sha256(path)) != sha256:
        raise InputError(f"{path}: sha256 is {actual}, not {sha256}; remove the file to download it again")


def _fetch(url: str, part: Path, timeout: float, report: Report) -> tuple[bool, str] | None:
    """Append what is missing to the part; None when complete, else whether any bytes arrived and what went wrong."""
    start = part.stat().st_size if part.exists() else 0
    headers = {"User-Agent": "redraft", **({"Range": f"bytes={start}-"} if start else {})}
    done = start
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=timeout) as answer:
            if answer.status != 206:  # the server sends the whole file, whatever was asked
                start = done = 0
            length = answer.headers.get("Content-Length")
            total = start + int(length) if length else None
            with part.open("ab" if start else "wb") as file:
                while block := answer.read(BLOCK):
                    with write_failures_named(part):
                        file.write(block)
                        file.flush()
                    done += len(block)
                    report(done, total)
    except urllib.error.HTTPError as error:
        if error.code == 416:  # nothing is left to send, or the part is of another file
            if error.headers.get("Content-Range") == f"bytes */{start}":
                return None
            part.unlink()
            return False, "the file on the server has changed"
        if error.code < 500 and error.code not in PASSING:
            raise InputError(
                f"{url}: the server answers {error.code} {error.reason}; check the category and the year"
            ) from None
        return False, f"the server answers {error.code} {error.reason}"
    except (urllib.error.URLError, HTTPException, ssl.SSLError, ConnectionError, TimeoutError) as error:
        return done > start, f"the connection failed ({getattr(error, 'reason', error)})"
    if total is not None and done < total:
        return done > start, f"the connection broke at {done:,} of {total:,} bytes"
    return None


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
