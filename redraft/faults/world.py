"""A tiny world to try faults on: a data set with ids, a run, one that corrects itself, and what a reflection needs."""

import hashlib
import io
import os
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

from redraft import cli

__all__ = ["SMALL", "TRAINED", "World", "build", "call", "quiet", "snapshot"]

SMALL = ["--model.width", "16", "--model.embedding", "8", "--model.heads", "2", "--model.feed-forward", "16"]
TRAINED = [
    *("--epochs", "2", "--batch-size", "64", "--save-every", "2"),
    *("--evaluate-every", "1", "--evaluate-users", "10", "--evaluate-beams", "10"),
]
TOWER = ["--settings.width", "16", "--settings.heads", "2", "--settings.training.epochs", "1"]


@dataclass(frozen=True)
class World:
    """Where its parts are."""

    folder: Path

    @property
    def events(self) -> Path:
        """Raw logs: one CSV file."""
        return self.folder / "events.csv"

    @property
    def data(self) -> Path:
        """The data set, with semantic IDs."""
        return self.folder / "data"

    @property
    def run(self) -> Path:
        """A trained backbone."""
        return self.folder / "run"

    @property
    def grc(self) -> Path:
        """A run that corrects itself."""
        return self.folder / "grc"

    @property
    def generator(self) -> Path:
        """A trained generator that knows its items."""
        return self.folder / "generator"

    @property
    def tower(self) -> Path:
        """A baseline to ask about its drafts."""
        return self.folder / "tower"


def build(world: World) -> None:
    """Write all parts. Raises AssertionError with what was said if a verb fails."""
    world.folder.mkdir(parents=True, exist_ok=True)
    rows = [f"u{u},i{(u + t * t) % 30},{t},b{u % 3}" for u in range(40) for t in range(3 + u % 6)]
    world.events.write_text("\n".join(["user_id,item_id,timestamp,brand", *rows]) + "\n")
    titles = [f"i{i},thing {i} of kind {i % 7},b{i % 3}" for i in range(30)]
    (world.folder / "items.csv").write_text("\n".join(["item_id,title,brand", *titles]) + "\n")
    described = ["--items", world.folder / "items.csv", "--attributes", "brand"]
    for words in (
        ["data", "import", "table", world.events, world.data, "--duplicates", "drop", *described],
        ["tokenize", world.data, "--method", "kmeans", "--levels", 3, "--codebook-size", 9],
        ["train", "tiger", world.data, world.run, *SMALL, *TRAINED],
        ["train", "grc", world.data, world.grc, "--backbone", world.run, "--draft-beams", 3, *TRAINED],
        ["train", "tiny", world.data, world.generator, *SMALL, *TRAINED],
        ["train", "hstu", world.data, world.tower, *TOWER],
    ):
        code, said = call(words)
        assert code == 0, said


def call(words: list[object]) -> tuple[int, str]:
    """Exit code of a command in this process, and what it said on stderr."""
    said = io.StringIO()
    with redirect_stdout(io.StringIO()), redirect_stderr(said):
        try:
            code = cli.main([str(word) for word in words])
        except SystemExit as stop:
            code = int(stop.code or 0)
    return code, said.getvalue()


@contextmanager
def quiet() -> Iterator[None]:
    """What the block prints is not shown."""
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        yield


def snapshot(folder: Path) -> dict[str, str]:
    """Everything below a folder by its path: what a link leads to, "folder", or the hash of a file."""
    contents = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.is_symlink():
            contents[name] = f"link to {os.readlink(path)}"
        else:
            contents[name] = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "folder"
    return contents
