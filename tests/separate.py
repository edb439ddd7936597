"""Code in processes of its own, for what one process cannot show: a kill, and several that share the work."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

TWO = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
"""Launches two processes."""


@contextmanager
def separate(script: Path, code: str, *launcher: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run code, written to `script`, on one thread a process."""
    tests = Path(__file__).resolve().parent
    script.write_text(f"import torch\nfrom pathlib import Path\ntorch.set_num_threads(1)\n{code}\n")
    environment = {
        **os.environ,
        "PYTHONPATH": f"{tests}{os.pathsep}{tests.parent}",
        "OMP_NUM_THREADS": "1",
        "GLOO_SOCKET_IFNAME": "lo",
    }
    with subprocess.Popen([sys.executable, *launcher, str(script)], env=environment, stderr=subprocess.PIPE) as process:
        try:
            yield process
        finally:
            process.terminate()
