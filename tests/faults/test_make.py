"""In a process of its own, because it forks: what polars and torch have begun does not outlive a fork."""

import json
import subprocess
import sys
from pathlib import Path

from redraft.faults.kills import CASES

DESTINATIONS = "writers against destinations"
QUICK = [name for name in CASES if name != "export"]


def test_every_byte_stays_and_every_kill_leaves_something_whole(tmp_path: Path) -> None:
    words = ["bench", "faults", "--kills", "1", "--results", str(tmp_path), "--cases", *QUICK, "--others", DESTINATIONS]
    done = subprocess.run([sys.executable, "-m", "redraft", *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = {row["what"]: row for row in json.loads((tmp_path / "faults.json").read_text())["metrics"]}
    assert all(row["held"] == row["tried"] for row in rows.values())
    assert rows[DESTINATIONS]["tried"] > 300
    assert sum(rows[name]["tried"] for name in QUICK) == sum(round(CASES[name].share) for name in QUICK)
