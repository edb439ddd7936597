"""What the terminal is told to run next can be run as it stands."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from redraft.terminal import next_command

PROGRAM = Path(sys.executable).parent / "redraft"


@pytest.mark.parametrize(
    ("called", "folder", "said"),
    [
        ("/somewhere/pytest", "", "redraft"),
        (str(PROGRAM), str(PROGRAM.parent), "redraft"),
        (str(PROGRAM), "", str(PROGRAM)),
        ("/somewhere/redraft/__main__.py", "", f"{sys.executable} -m redraft"),
    ],
)
def test_the_next_command_is_redraft_as_it_was_called(
    called: str, folder: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", [called])
    monkeypatch.setenv("PATH", folder)
    assert next_command("data", "show", Path("my shop")) == f"next: {said} data show 'my shop'"


def test_the_next_command_runs_as_printed_where_the_environment_is_not_active(tmp_path: Path) -> None:
    options = {"cwd": tmp_path, "env": {**os.environ, "PATH": "/usr/bin:/bin"}, "capture_output": True, "text": True}
    words = ["data", "shop", "s", "--users", "9", "--items", "60"]
    done = subprocess.run([PROGRAM, *words], check=True, **options)
    line = re.search(r"^next: (.*)$", done.stdout, re.MULTILINE)
    assert line
    assert "9 users, 60 items" in subprocess.run(line[1], shell=True, check=True, **options).stdout
