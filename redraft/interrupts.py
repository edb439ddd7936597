"""Ctrl-C: noted when it comes, and raised again where a library has swallowed it."""

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from weakref import ReferenceType, ref

__all__ = ["Interrupts", "noted_interrupts"]

AGAIN = 0.2
"""Seconds after which an interrupt is looked for that nobody has answered."""


@dataclass
class Interrupts:
    """noted: whether Ctrl-C was pressed."""

    noted: bool = False
    on_its_way: list[ReferenceType["_Interrupt"]] = field(default_factory=list)

    def press(self, *_: Any) -> None:
        """What is done on Ctrl-C."""
        self.noted = True
        signal.setitimer(signal.ITIMER_REAL, AGAIN, AGAIN)
        raise _Interrupt(self.on_its_way)

    def look(self, *_: Any) -> None:
        """Raise it again, unless one is still on its way up."""
        if not any(known() for known in self.on_its_way):
            raise _Interrupt(self.on_its_way)


class _Interrupt(KeyboardInterrupt):
    """Known by a weak reference, so that it is seen when somebody drops it."""

    def __init__(self, known: list[ReferenceType["_Interrupt"]]) -> None:
        super().__init__()
        known[:] = [ref(self)]


@contextmanager
def noted_interrupts() -> Iterator[Interrupts]:
    """Ctrl-C raises KeyboardInterrupt in the block as ever, is noted, and comes again if a library swallows it.

    Extensions call back into Python, and some of them drop what is raised there, or raise an error of their own.
    Outside the main thread nothing is changed.
    """
    interrupts = Interrupts()
    if threading.current_thread() is not threading.main_thread():
        yield interrupts
        return
    before = signal.signal(signal.SIGINT, interrupts.press), signal.signal(signal.SIGALRM, interrupts.look)
    hook = sys.unraisablehook
    sys.unraisablehook = lambda args: None if isinstance(args.exc_value, _Interrupt) else hook(args)
    try:
        yield interrupts
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGINT, before[0])
        signal.signal(signal.SIGALRM, before[1])
        sys.unraisablehook = hook
