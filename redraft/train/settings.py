"""The settings of a run: checked before any work, kept beside its weights, and compared when it goes on."""

import json
from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from redraft.device import Precision
from redraft.files import place_of, write_json
from redraft.folders import DRAFTS, RUN, check_place, clear
from redraft.options import fitted
from redraft.provenance import provenance
from redraft.records import MAX_COUNT, MAX_SEED, InputError, check_above, check_between, check_least
from redraft.stored import read_settings
from redraft.terminal import next_command, plain_console
from redraft.train.processes import join_processes
from redraft.train.progress import check_tensorboard

__all__ = ["EpochsConfig", "RunConfig", "check_folder", "check_shared", "fitted", "keep_settings", "say_trained"]

LENGTHS = ("epochs", "patience", "steps", "batch_size", "accumulate", "users")
COUNTS = (*LENGTHS, "save_every", "evaluate_every", "evaluate_users", "evaluate_beams")
AMOUNTS = ("learning_rate", "weight_decay", "correction_weight", "label_start")
FREE = {"out", "resume", "replace", "save_every", "patience", "tensorboard"}
"""Nothing that is learned depends on these, so a run may go on with others."""
LONGER = {"epochs", "steps"}
"""How long a run lasts: it may go on for longer, and its learning rate follows the longer course from there."""
STARTS = {"init", "backbone", "drafters", "sft", "run"}
PATHS = {"data", "ids", "drafts", *STARTS}
"""These may have moved: what they hold is compared, by its fingerprint."""


@dataclass(frozen=True)
class RunConfig:
    """The settings that every loop has."""

    data: Annotated[Path, tyro.conf.Positional]
    """Data-set folder."""
    out: Annotated[Path, tyro.conf.Positional]
    """Run folder to write."""
    _: KW_ONLY
    resume: bool = False
    """Go on where a run left off, or start if there is none; with more epochs or steps also one that has ended."""
    replace: bool = False
    """Lose the run that is in the folder, and start again."""
    learning_rate: float = 1e-3
    """Peak of AdamW after a warm-up of 1/40 of the steps; a cosine takes it to 2 % of that."""
    clip: float = 1.0
    """Largest norm of the gradient."""
    precision: Precision = "auto"
    """bfloat16 runs matrix products under autocast, weights stay float32; auto does so where the processor can."""
    evaluate_users: int = 4000
    """Users of each evaluation on validation, drawn once by seed."""
    save_every: int = 500
    """Steps between states from which a killed run can go on; one is also saved after every epoch."""
    seed: int = 0
    """Seed of everything random: weights, order, draws, dropout."""
    tensorboard: bool = False
    """Also log to TensorBoard, in the run folder."""


@dataclass(frozen=True, kw_only=True)
class EpochsConfig(RunConfig):
    """The settings of a loop that passes over all training events again and again."""

    epochs: int = 8
    """Passes over the training events."""
    patience: int | None = None
    """Epochs without a better validation before training ends [never]."""
    batch_size: int = 512
    """Predicted events per step, over all processes."""
    accumulate: int = 1
    """Parts in which each batch is learned, one after the other: less memory for the same step."""
    weight_decay: float = 0.05
    """AdamW's weight decay."""
    evaluate_every: int = 2
    """Epochs between evaluations on validation; the best weights by NDCG@10 are kept."""

    def validates(self, epoch: int) -> bool:
        """Whether there is an evaluation after an epoch, counted from 0; always after the last one."""
        return (epoch + 1) % self.evaluate_every == 0 or epoch + 1 == self.epochs


def check_shared(settings: Mapping[str, Any]) -> None:
    """Raise InputError for a value that no loop can have; every loop has some of these settings."""
    counts = {name: settings[name] for name in COUNTS if settings.get(name) is not None}
    check_between(1, MAX_COUNT, **counts)
    check_least(0, **{name: settings[name] for name in AMOUNTS if name in settings})
    check_between(0, MAX_SEED, seed=settings["seed"])
    check_above(0, clip=settings["clip"])
    if settings["tensorboard"]:
        check_tensorboard()


def check_folder(settings: Mapping[str, Any], fingerprints: Mapping[str, Any]) -> None:
    """Raise InputError if what is in the folder `out` would be lost, or is a run that cannot go on as it was begun.

    fingerprints: of what the run learns from and starts from, by name.
    """
    out, resume, again = settings["out"], settings["resume"], settings["replace"]
    if resume and again:
        raise InputError("--resume goes on with a run and --replace loses it; give one of them")
    check_place(out, RUN)
    if settings.get("drafts"):
        check_place(settings["drafts"], DRAFTS)
    for name in sorted(STARTS & settings.keys()):
        starts = settings[name] if isinstance(settings[name], tuple) else (settings[name],)
        if any(start is not None and place_of(start) == place_of(out) for start in starts):
            raise InputError(f"{out}: is what the run starts from ({name}); give another folder to write")
    kept = [name for name in ("model.safetensors", "state.safetensors") if (out / name).exists()]
    if kept and not (again or (resume and (out / "config.json").exists())):
        raise InputError(
            f"{out}: holds a trained run; pass --resume to go on with it, --replace to lose its {' and '.join(kept)}, "
            "or give another folder"
        )
    if not (resume and (out / "state.safetensors").exists()):
        return
    begun = read_settings(out)
    for name, fingerprint in begun.fingerprints.items():
        if fingerprint != fingerprints.get(name):
            raise InputError(f"{out}: cannot resume, its run has other {name}; start again in another folder")
    now = _by_flag(_as_json(settings))
    for name, value in _by_flag(begun.config).items():
        if (
            name not in FREE | PATHS
            and value != now.get(name)
            and not (name in LONGER and _grows(value, now.get(name)))
        ):
            raise InputError(
                f"{out}: cannot resume with {name} = {now.get(name)}, its run has {value}; "
                "give that again, or start again in another folder"
            )


def keep_settings(settings: Mapping[str, Any], fingerprints: Mapping[str, Any]) -> None:
    """Write out/config.json, in the first of several processes."""
    if not join_processes().is_main_process:
        return
    out = settings["out"]
    if settings["replace"]:
        clear(out, RUN)
    write_json(out / "config.json", {"config": _as_json(settings), "fingerprints": fingerprints} | provenance())


def say_trained(data: Path, *runs: Path) -> None:
    """Say that the last of these runs was written, and how to evaluate all; the first of several processes does."""
    if join_processes().is_main_process:
        console = plain_console()
        console.print(f"wrote {runs[-1]} (weights of the best validation NDCG@10, log in metrics.jsonl)")
        console.print(next_command("evaluate", data, "--runs", *runs))


def _grows(before: Any, now: Any) -> bool:
    return isinstance(before, int) and isinstance(now, int) and before < now


def _as_json(settings: Mapping[str, Any]) -> dict[str, Any]:
    plain: dict[str, Any] = json.loads(json.dumps(settings, default=str))
    return plain


def _by_flag(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings by the name of their flag: those of the model are model.width and so on."""
    flat: dict[str, Any] = {}
    for name, value in settings.items():
        flat |= {f"{name}.{key}": x for key, x in value.items()} if isinstance(value, dict) else {name: value}
    return flat
