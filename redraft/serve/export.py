"""`redraft export`: a run as programs of fixed shapes, for machines that serve it without the model's code."""

import copy
import hashlib
import io
import shutil
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated

import torch
import tyro
from torch import nn

from redraft.checkpoint import weights_fingerprint
from redraft.data.store import catalogue_to_frame
from redraft.decode.correction import Correction
from redraft.decode.engine import Plan, rank
from redraft.device import Precision, find_device, use_half
from redraft.files import write_json
from redraft.folders import EXPORT, check_replace, new_folder
from redraft.options import fitted
from redraft.recommender import GenerativeRecommender, check_used, load
from redraft.records import InputError
from redraft.serve.exported import FORMAT, About, machine
from redraft.train.progress import progress_bar

__all__ = ["ExportConfig", "export", "find_compiler", "main"]

MOST = 1 << 20


@dataclass(frozen=True)
class ExportConfig:
    """Export a run."""

    run: Annotated[Path, tyro.conf.Positional]
    """Run folder."""
    out: Annotated[Path, tyro.conf.Positional]
    """Folder to write: a program for each batch size, export.json, catalogue.parquet."""
    replace: bool = False
    """Lose the export that is in the folder."""
    users: tuple[int, ...] = (1, 8)
    """Batch sizes; other batches are filled up to the next one."""
    k: int = 10
    """Items per list."""
    beams: int | None = None
    """Beam budget [50, or all items of a smaller catalogue]."""
    seen: int = 64
    """Most different items of a history that can be left out of its list; rounded up to a power of two."""
    correction: Correction = field(default_factory=Correction)
    """For runs that correct themselves."""
    precision: Precision = "float32"
    """Matrix products: float32, which gives the lists of `redraft recommend`, bfloat16, or auto, by what the processor
    can; scores are float32."""
    compile: bool = True
    """Compile to machine code (a few minutes a batch size); else keep a graph of operations."""
    device: str = "cpu"
    """Where the programs will compute: cpu, cuda."""


def main(config: ExportConfig) -> None:
    """Export and say how to load."""
    check_replace(config.out, EXPORT, replace=config.replace)
    if config.compile and not find_compiler():
        raise InputError(
            "compiling needs a C++ compiler, not available on this machine; install g++, name one in CXX, or pass "
            "--no-compile"
        )
    half = use_half(config.precision, find_device(config.device))
    model = load(config.run, beams=config.beams, half=half, device=config.device, correction=config.correction)
    check_used({config.run: model}, config.correction)
    config = fitted(config, model.catalogue.n_items, "k")
    knobs = {name: getattr(config, name) for name in ("users", "k", "seen", "compile", "replace")}
    export(model, config.out, **knobs)
    print(f"wrote {config.out}; load it with redraft.serve.exported.load_export({str(config.out)!r})")


def find_compiler() -> str | None:
    """Where the C++ compiler is that torch would use; None if there is none."""
    return shutil.which(torch._inductor.config.cpp.cxx[-1])


class _Program(nn.Module):
    def __init__(self, model: GenerativeRecommender, plan: Plan):
        super().__init__()
        self.model = copy.deepcopy(model.model).eval().requires_grad_(False)
        self.trie = model.trie
        self.plan = plan

    def forward(self, history: torch.Tensor, seen: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return rank(self.model, self.trie, self.plan, history, seen)


def export(
    model: GenerativeRecommender,
    out: Path,
    *,
    users: tuple[int, ...],
    k: int,
    seen: int,
    compile: bool,
    replace: bool = False,
) -> None:
    """Write the export of a recommender; see ExportConfig.

    Raises InputError for more items than the catalogue has, for no batch size, for any number below 1, and as
    `redraft.folders.check_replace`.
    """
    if k > model.ids.n_items:
        raise InputError(f"k = {k} exceeds the catalogue of {model.ids.n_items} items; ask for at most that many")
    if not users or min(k, seen, *users) < 1:
        raise InputError(f"batch sizes {users}, k = {k} and seen = {seen}: give a batch size, and 1 or more for each")
    if max(seen, *users) > MOST:
        raise InputError(f"batch sizes {users} and seen = {seen}: a program has fixed shapes; it must be <= {MOST}")
    plan, device = model.plan(k), model.model.codes.device
    seen = 1 << (seen - 1).bit_length()
    program = _Program(model, plan)
    about = About(
        format=FORMAT,
        torch=torch.__version__,
        device="cuda" if device.type == "cuda" else "cpu",
        processor=machine(device),
        compiled=compile,
        precision="bfloat16" if plan.half else "float32",
        users=tuple(sorted(set(users))),
        k=k,
        beams=plan.n_beams,
        history=model.model.config.history,
        seen=seen,
        n_items=model.ids.n_items,
        semantic_ids=model.ids.fingerprint,
        weights=weights_fingerprint(model.model),
    )
    bar = progress_bar("export", len(about.users))
    with new_folder(out, EXPORT, replace=replace) as folder, torch.no_grad(), bar as advance:
        for size in about.users:
            inputs = (torch.full((size, n), -1, device=device) for n in (about.history, seen))
            traced = torch.export.export(program, tuple(inputs))
            written = io.BytesIO()  # torch ends the process if it cannot write a file itself
            if compile:
                # threads: those of the process that serves, not of this one
                how = {"freezing": device.type == "cpu", "cpp.dynamic_threads": True}
                torch._inductor.aoti_compile_and_package(traced, package_path=written, inductor_configs=how)
            else:
                torch.export.save(traced, written)
            (folder / f"{size}.pt2").write_bytes(written.getbuffer())
            about.programs[str(size)] = hashlib.sha256(written.getbuffer()).hexdigest()
            advance(f"batch size {size}")
        catalogue_to_frame(model.catalogue).write_parquet(folder / "catalogue.parquet")
        write_json(folder / "export.json", asdict(about) | {"seal": about.sealed()})
