"""Every writing verb and every `save` against every kind of destination: each byte that was there must stay."""

import dataclasses
import io
import shutil
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from redraft import recipes
from redraft.baselines.popularity import Popularity
from redraft.data import shop
from redraft.data.importer import ImportConfig, import_dataset
from redraft.data.store import load_dataset, save_dataset
from redraft.faults.world import World, snapshot
from redraft.files import write_json
from redraft.recommender import load
from redraft.records import InputError
from redraft.serve import export, recommend
from redraft.serve.recommend import RecommendConfig
from redraft.train import tokenize
from redraft.train.tokenize import TokenizeConfig

__all__ = ["DESTINATIONS", "WRITERS", "Tried", "try_all"]


@dataclass(frozen=True)
class Tried:
    """One writer against one destination. fault: what went wrong, None if every byte stayed and one line said why."""

    writer: str
    destination: str
    replace: bool
    fault: str | None


Write = Callable[[World, Path, bool], object]
KMEANS: dict[str, Any] = {"method": "kmeans", "levels": 3, "codebook_size": 9}
WRITERS: dict[str, Write] = {
    "data import": lambda w, to, replace: import_dataset(
        ImportConfig("table", w.events, to, duplicates="drop", replace=replace)
    ),
    "data shop": lambda w, to, replace: shop.main(shop.ShopConfig(to, users=5, items=60, replace=replace)),
    "tokenize": lambda w, to, replace: tokenize.main(TokenizeConfig(w.data, out=to, replace=replace, **KMEANS)),
    "train tiny": lambda w, to, replace: recipes.train(_again(recipes.tiny(w.data, to), replace)),
    "train grc": lambda w, to, replace: recipes.train(_again(recipes.grc(w.data, to), replace, backbone=w.run)),
    "train grpo": lambda w, to, replace: recipes.train(_again(recipes.grpo(w.data, to), replace, sft=w.grc)),
    "train verifier": lambda w, to, replace: recipes.train(_again(recipes.verifier(w.data, to), replace, run=w.run)),
    "train reflect": lambda w, to, replace: recipes.train(
        dataclasses.replace(recipes.reflect(w.data, to), run=w.generator, tower=w.tower, beams=10, replace=replace)
    ),
    "recommend": lambda w, to, replace: recommend.main(RecommendConfig(w.run, data=w.data, out=to, replace=replace)),
    "recommend to CSV": lambda w, to, replace: recommend.main(
        RecommendConfig(w.run, history=("i3",), out=to, replace=replace)
    ),
    "export": lambda w, to, replace: export.main(export.ExportConfig(w.run, to, compile=False, replace=replace)),
    "save of a recommender": lambda w, to, replace: load(w.run).save(to, replace=replace),
    "save of a baseline": lambda w, to, replace: Popularity(np.arange(3)).save(to, replace=replace),
    "save of an oracle": lambda w, to, replace: shop.generate_shop(5, 60, 0).oracle().save(to, replace=replace),
    "save of a data set": lambda w, to, replace: save_dataset(load_dataset(w.data), to, source="x", replace=replace),
}
ENDS = {"tokenize": ".safetensors", "recommend": ".parquet", "recommend to CSV": ".csv"}
SAME = {
    "a data set": {"data import", "data shop", "save of a data set"},
    "a run": {"train tiny", "train grc", "train grpo", "train verifier"},
    "an export": {"export"},
    "a baseline": {"save of a baseline"},
}


def _foreign(world: World, path: Path) -> Path:
    (path / "deep").mkdir(parents=True)
    (path / "deep" / "thesis.txt").write_text("years of work")
    (path / "model.safetensors").write_text("of somebody else")
    return path


def _copied(part: str) -> Callable[[World, Path], Path]:
    return lambda world, path: shutil.copytree(world.folder / part, path)


def _export(world: World, path: Path) -> Path:
    write_json(path / "export.json", {"format": "redraft-export 1"})
    (path / "1.pt2").write_text("a program")
    return path


def _baseline(world: World, path: Path) -> Path:
    Popularity(np.arange(9)).save(path)
    return path


def _file(world: World, path: Path) -> Path:
    path.write_text("years of work")
    return path


def _link_to(make: Callable[[World, Path], Path]) -> Callable[[World, Path], Path]:
    def linked(world: World, path: Path) -> Path:
        target = make(world, path.with_name("elsewhere" + path.suffix))
        path.symlink_to(target.name)
        return path

    return linked


DESTINATIONS: dict[str, Callable[[World, Path], Path]] = {
    "foreign files": _foreign,
    "a data set": _copied("data"),
    "a run": _copied("run"),
    "an export": _export,
    "a baseline": _baseline,
    "inside a data set": lambda world, path: _copied("data")(world, path) / f"new{path.suffix}",
    "inside a run": lambda world, path: _copied("run")(world, path) / f"new{path.suffix}",
    "a file": _file,
    "below a file": lambda world, path: _file(world, path) / "below",
    "a link to foreign files": _link_to(_foreign),
    "a link to a run": _link_to(_copied("run")),
    "a link to a file": _link_to(_file),
    "a link to itself": _link_to(lambda world, path: path.with_name("it" + path.suffix)),
    "a place where nothing can be written": lambda world, path: Path("/proc/redraft"),
    "a device": lambda world, path: Path("/dev/null"),
}


def try_all(world: World, scratch: Path) -> list[Tried]:
    """Each writer against each destination, without and with the flag that replaces what is of the same kind."""
    tried = []
    for writer, destination, replace in product(WRITERS, DESTINATIONS, (False, True)):
        if not (replace and writer in SAME.get(destination.removeprefix("a link to "), ())):
            place = scratch / "place"
            tried.append(Tried(writer, destination, replace, _fault(world, writer, destination, replace, place)))
            shutil.rmtree(place)
    return tried


def _fault(world: World, writer: str, destination: str, replace: bool, place: Path) -> str | None:
    place.mkdir(parents=True)
    is_file, end = writer in ENDS, ENDS.get(writer, "")
    to = DESTINATIONS[destination](world, place / f"it{end}")
    if is_file and to.is_dir():
        to = next(path for path in sorted(to.rglob("*")) if path.is_file())
        to = to.rename(to.with_suffix(end))
    before = snapshot(place)
    code, said = _write(world, writer, to, replace)
    after = snapshot(place)
    lost = [name for name, content in before.items() if after.get(name) != content]
    if lost:
        return f"lost {', '.join(lost)}"
    if is_file and destination.startswith("inside"):
        return None if code == 0 else said  # a new file in a folder of ours takes nothing away
    if code != 2 or after != before:
        return f"status {code}, new: {', '.join(after.keys() - before.keys())}; {said}"
    return None if said.startswith("error: ") and said.count("\n") == 1 else f"said {said!r}"


def _write(world: World, writer: str, to: Path, replace: bool) -> tuple[int, str]:
    """Status and message as the command line gives them."""
    try:
        with redirect_stdout(io.StringIO()):
            WRITERS[writer](world, to, replace)
    except InputError as error:
        return 2, f"error: {error}\n"
    return 0, ""


def _again(config: recipes.TrainConfig, again: bool, **start: Any) -> recipes.TrainConfig:
    return dataclasses.replace(config, replace=again, **start)
