"""The settings of a run: checked before any work, kept beside its weights, and compared when it goes on."""

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

from redraft.files import place_of, write_json
from redraft.folders import DRAFTS, RUN, check_place, clear
from redraft.provenance import provenance
from redraft.records import MAX_COUNT, MAX_SEED, InputError, check_above, check_between, check_least
from redraft.stored import read_settings
from redraft.train.processes import join_processes
from redraft.train.progress import check_tensorboard

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

__all__ = ["check_folder", "check_shared", "fitted", "keep_settings"]

Config = TypeVar("Config", bound="DataclassInstance")

COUNTS = ("epochs", "steps", "batch_size", "users", "save_every", "evaluate_every", "evaluate_users", "evaluate_beams")
AMOUNTS = ("learning_rate", "weight_decay", "correction_weight")
FREE = {"out", "resume", "replace", "save_every", "tensorboard"}
"""Nothing that is learned depends on these, so a run may go on with others."""
STARTS = {"init", "backbone", "drafters", "sft", "run"}
PATHS = {"data", "ids", "drafts", *STARTS}
"""These may have moved: what they hold is compared, by its fingerprint."""


def check_shared(settings: Mapping[str, Any]) -> None:
    """Raise InputError for a value that no loop can have; every loop has some of these settings."""
    check_between(1, MAX_COUNT, **{name: settings[name] for name in COUNTS if name in settings})
    check_least(0, **{name: settings[name] for name in AMOUNTS if name in settings})
    check_between(0, MAX_SEED, seed=settings["seed"])
    check_above(0, clip=settings["clip"])
    if settings["tensorboard"]:
        check_tensorboard()


def fitted(config: Config, n: int, name: str, what: str = "items") -> Config:
    """A config whose default for a field is lowered to the n items (or `what` else) there are, where it exceeds them.

    Raises InputError, naming the flag, for a value above n that is not the default.
    """
    value = getattr(config, name)
    if value <= n:
        return config
    if value != type(config).__dataclass_fields__[name].default:
        raise InputError(f"--{name.replace('_', '-')} {value}: there are only {n} {what}; give {n} at most")
    return replace(config, **{name: n})


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
        if name not in FREE | PATHS and value != now.get(name):
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


def _as_json(settings: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(json.dumps(settings, default=str))
    return found


def _by_flag(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings by the name of their flag: those of the model are model.width and so on."""
    flat: dict[str, Any] = {}
    for name, value in settings.items():
        flat |= {f"{name}.{key}": x for key, x in value.items()} if isinstance(value, dict) else {name: value}
    return flat
