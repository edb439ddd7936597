"""What every verb says in the terminal: plain text that can be copied as it stands."""

import shlex
import shutil
import sys
from io import TextIOWrapper
from pathlib import Path

from rich.console import Console

__all__ = ["can_print", "next_command", "plain_console"]


def plain_console() -> Console:
    """A console that leaves text as it is: brackets are no markup, numbers get no colour, long lines are not broken.

    What the encoding of the terminal lacks becomes "?".
    """
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")
    return Console(highlight=False, markup=False, soft_wrap=True)


def can_print(text: str) -> bool:
    """Whether the encoding of the terminal has these characters."""
    try:
        text.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:
        return False
    return True


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
