"""What a number or a run needs beside it to be trusted later: command, date, machine, versions, revision."""

import os
import platform
import subprocess
import sys
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil
import torch

__all__ = ["provenance"]

PACKAGES = ("redraft", "torch", "numpy", "polars", "scikit-learn", "faiss-cpu", "accelerate", "transformers")


def provenance() -> dict[str, Any]:
    """Command line, UTC date, machine, package versions and git revision; paths outside the working folder by name."""
    return {
        "command": " ".join(["redraft", *(_short(word) for word in sys.argv[1:])]),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": _machine(),
        "versions": {"python": platform.python_version()} | _versions(),
        "revision": _revision(),
    }


def _machine() -> dict[str, Any]:
    names = [line.split(":", 1)[1].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")]
    return {
        "processor": names[0] if names else platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "accelerator": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }


def _versions() -> dict[str, str]:
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return versions


def _revision() -> str | None:
    """The commit, with -dirty where the package differs from it; None outside a git checkout."""
    package = Path(__file__).parent
    try:
        commit = _git("rev-parse", "--short=12", "HEAD", folder=package)
        return commit + ("-dirty" if _git("status", "--porcelain", "--", ".", folder=package) else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def _git(*words: str, folder: Path) -> str:
    return subprocess.run(["git", *words], cwd=folder, capture_output=True, text=True, check=True).stdout.strip()


def _short(word: str) -> str:
    flag, equals, value = word.rpartition("=")
    return flag + equals + (Path(value).name if Path(value).is_absolute() else value)


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text().splitlines()
    except OSError:
        return []
