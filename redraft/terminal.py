"""What every verb says in the terminal: plain text that can be copied as it stands."""

import shlex
import shutil
import sys
from pathlib import Path

from rich.console import Console

__all__ = ["next_command", "plain_console"]


def plain_console() -> Console:
    """A console that leaves text as it is: brackets are no markup, numbers get no colour, long lines are not broken."""
    return Console(highlight=False, markup=False, soft_wrap=True)


def next_command(*words: object) -> str:
    """The line that says what to run next, quoted for a shell: redraft as it was called just now, and these words."""
    return "next: " + shlex.join([*_program(), *map(str, words)])


def _program() -> list[str]:
    """`redraft` where the shell would find this one under that name, else its path, or the interpreter's."""
    called = Path(sys.argv[0])
    if called.parent.name == "redraft" and called.name == "__main__.py":
        return [sys.executable, "-m", "redraft"]
    known = shutil.which("redraft")
    by_path = called.name == "redraft" and not (known and called.exists() and called.samefile(known))
    return [str(called) if by_path else "redraft"]
