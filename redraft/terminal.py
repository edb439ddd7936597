"""What every verb says in the terminal: plain text that can be copied as it stands."""

import shlex

from rich.console import Console

__all__ = ["next_command", "plain_console"]


def plain_console() -> Console:
    """A console that leaves text as it is: brackets are no markup, numbers get no colour, long lines are not broken."""
    return Console(highlight=False, markup=False, soft_wrap=True)


def next_command(*words: object) -> str:
    """The line that says what to run next: redraft and these words, quoted for a shell."""
    return "next: " + shlex.join(["redraft", *map(str, words)])
