"""A recommender exported once: programs of fixed shapes that need neither the model's code nor its training's."""

import hashlib
import io
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from redraft.decode.engine import Engine
from redraft.files import read_json
from redraft.records import InputError, Interactions, Recommendations, check_least
from redraft.stored import record

__all__ = ["FORMAT", "About", "Exported", "load_export", "machine"]

FORMAT = "redraft-export 1"
FIX = "copy it again or export again"


@dataclass(frozen=True)
class About:
    """What an export is and where it runs.

    compiled: machine code, which runs on this kind of processor and with this torch only; else a graph of operations,
    which also belongs to this torch. users: the batch sizes it holds a program for. history: items that are read.
    seen: items that can be left out of a list. semantic_ids, weights: their fingerprints. programs: sha256 of the file
    for each batch size. seal: of all of this. Exports of earlier versions lack the last two.
    """

    format: str
    torch: str
    device: Literal["cpu", "cuda"]
    processor: str
    compiled: bool
    precision: str
    users: tuple[int, ...]
    k: int
    beams: int
    history: int
    seen: int
    n_items: int
    semantic_ids: str
    weights: str
    programs: dict[str, str] = field(default_factory=dict)
    seal: str = ""

    def sealed(self) -> str:
        """sha256 over everything else."""
        return hashlib.sha256(json.dumps(asdict(replace(self, seal="")), sort_keys=True).encode()).hexdigest()


class Exported:
    """Lists of k items from item numbers; made by `load_export`."""

    def __init__(self, about: About, programs: dict[int, Callable[..., Any]]):
        self.about = about
        self.engine = Engine(
            lambda history, seen: tuple(programs[len(history)](history, seen)),
            torch.device(about.device),
            about.users,
            capture=not about.compiled,
        )

    def recommend(self, histories: Interactions, k: int, *, filter_seen: bool = True) -> Recommendations:
        """The k best items for each history; see redraft.records.Recommender.

        Raises InputError for more items than the export gives or can leave out, and for items that it does not know.
        """
        histories.check_items(self.about.n_items)
        about, seen = self.about, histories.distinct() if filter_seen else histories
        longest = int(seen.lengths.max(initial=0))
        check_least(1, k=k)
        if k > about.k:
            raise InputError(f"k = {k}, but the export gives {about.k} items; export again with --k {k}")
        if filter_seen and longest > about.seen:
            raise InputError(
                f"a history of {longest} different items, but the export can leave out {about.seen}; "
                f"export again with --seen {longest}"
            )
        items = np.empty((histories.n_users, k), dtype=np.int64)
        scores = np.empty((histories.n_users, k), dtype=np.float32)
        for start in range(0, histories.n_users, about.users[-1]):
            users = np.arange(start, min(start + about.users[-1], histories.n_users))
            some = histories.take(users)
            avoided = seen.take(users).padded(about.seen) if filter_seen else np.full((some.n_users, about.seen), -1)
            best = self.engine(torch.from_numpy(some.padded(about.history)), torch.from_numpy(avoided))
            items[users], scores[users] = (part[:, :k].cpu().numpy() for part in best)
        return Recommendations(items, scores)


def machine(device: torch.device) -> str:
    """What compiled code depends on beside torch: the GPU, or the vector instructions of the processor."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else torch.backends.cpu.get_cpu_capability()


def load_export(path: Path | str) -> Exported:
    """Read what `redraft export` wrote.

    Raises InputError if the folder holds no export, one that is damaged, or one for another version of torch, device or
    processor.
    """
    path = Path(path)
    if not (path / "export.json").exists():
        raise InputError(f"{path}: not an export; make one with `redraft export`")
    content = read_json(path / "export.json")
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise InputError(f"{path}: not an export of this version of redraft; export again with `redraft export`")
    about = record(About, content, path / "export.json", FIX, newer=("programs", "seal"))
    if not about.users or min(about.k, about.beams, about.history, about.seen, about.n_items, *about.users) < 1:
        raise InputError(f"{path / 'export.json'}: has a number below 1; {FIX}")
    if about.torch != torch.__version__:
        raise InputError(
            f"{path}: exported with torch {about.torch}, but this is {torch.__version__}; "
            "install that version or export again"
        )
    device = torch.device(about.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise InputError(
            f"{path}: exported for {about.device}, not available on this machine; export again with --device cpu"
        )
    if about.compiled and about.processor != machine(device):
        raise InputError(
            f"{path}: compiled for {about.processor}, but this is {machine(device)}; "
            "export again on this machine or with --no-compile"
        )
    if about.seal and about.seal != about.sealed():
        raise InputError(f"{path / 'export.json'}: was changed after it was written; {FIX}")
    return Exported(about, {users: _program(path / f"{users}.pt2", about, users) for users in about.users})


def _program(path: Path, about: About, users: int) -> Callable[..., Any]:
    if not path.is_file():
        raise InputError(f"{path}: missing from the export; {FIX}")
    content = path.read_bytes()
    if about.programs and about.programs.get(str(users)) != hashlib.sha256(content).hexdigest():
        raise InputError(f"{path}: damaged, or of another export; {FIX}")
    try:
        if about.compiled:
            program: Callable[..., Any] = torch._inductor.aoti_load_package(str(path))
            return program
        return torch.export.load(io.BytesIO(content)).module()
    except Exception as error:  # torch raises whatever the damage leads to
        raise InputError(f"{path}: not a readable program ({_reason(error)}); {FIX}") from None


def _reason(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)
