"""What the terminal is told to run next can be run as it stands."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from redraft.terminal import next_command

PROGRAM = Path(sys.executable).parent / "redraft"


def test_words_are_quoted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["pytest"])
    assert next_command("data", "show", Path("my shop")) == "next: redraft data show 'my shop'"


@pytest.mark.parametrize("how", ["path", "module", "name"])
def test_the_next_command_runs_as_printed_however_redraft_was_called(how: str, tmp_path: Path) -> None:
    program = {"path": [str(PROGRAM)], "module": [sys.executable, "-m", "redraft"], "name": ["redraft"]}[how]
    path = os.pathsep.join([str(PROGRAM.parent), os.environ["PATH"]] if how == "name" else ["/usr/bin", "/bin"])
    options = {"cwd": tmp_path, "env": {**os.environ, "PATH": path}, "capture_output": True, "text": True}
    done = subprocess.run([*program, "data", "shop", "s", "--users", "9", "--items", "60"], check=True, **options)
    line = re.search(r"^next: (.*)$", done.stdout, re.MULTILINE)
    assert line
    assert shlex.split(line[1])[: len(program)] == program
    shown = subprocess.run(line[1], shell=True, check=True, **options)
    assert "9 users, 60 items" in shown.stdout
