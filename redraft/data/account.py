"""What an import found: what it left out, which events met an item, and what looks wrong."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import polars as pl

from redraft.ids import looser_match

__all__ = ["Account", "Matches", "Ties", "first_odd", "suspicions"]

Ties = Literal["random", "file"]

FEW = 0.9
"""Below this share of events that meet a described item, something is wrong with the ids."""
MISSING = ("nan", "none", "null", "<na>", "nat", "n/a", "undefined")


@dataclass(frozen=True)
class Matches:
    """How events and described items go together.

    bought, described: the distinct item ids of the events and of the items. events: how many there are, and met: how
    many of them are of a described item.
    """

    bought: pl.Series
    described: pl.Series
    events: int
    met: int

    def line(self) -> str:
        """The counts in words."""
        unbought = len(self.described) - self.described.is_in(self.bought.implode()).sum()
        return (
            f"{self.met:,} of {self.events:,} events ({self.met / self.events:.1%}) are of a described item; "
            f"{unbought:,} of {len(self.described):,} described items were never bought"
        )

    def warning(self) -> str | None:
        """What may be wrong if few events are of a described item."""
        if self.met >= FEW * self.events:
            return None
        strange = self.bought.filter(~self.bought.is_in(self.described.implode()))
        looser = looser_match(strange, self.described)
        return (
            f"only {self.met / self.events:.1%} of the events are of a described item; the events have "
            f"{strange.min()!r}, the items {self.described.min()!r}: "
            + (f"most would meet one if {looser} did not count" if looser else "check that both write ids alike")
        )


@dataclass(frozen=True)
class Account:
    """What there is to say of an import.

    dropped: how many duplicates, interactions, users and items were left out. ties, seed: how the order of a user's
    events at one moment was settled, and tied: how many such events there are; None where nothing but the file says
    what came first. matches: None where no item is described. suspicions: what looks wrong, a line each.
    """

    dropped: Mapping[str, int]
    ties: Ties
    seed: int
    tied: int | None
    matches: Matches | None
    suspicions: tuple[str, ...]

    def lines(self) -> list[str]:
        """The counts in words."""
        left_out = ", ".join(f"{count:,} {what}" for what, count in self.dropped.items() if count)
        lines = [f"dropped: {left_out}"] if left_out else []
        if self.matches:
            lines.append(self.matches.line())
        if self.tied:
            settled = {
                "random": f"their order was drawn (--seed {self.seed}); if that of the file is real, say --ties file",
                "file": "they stand in the order of the file (--ties file)",
            }
            lines.append(f"{self.tied:,} events share user and time with another: {settled[self.ties]}")
        return lines

    def warnings(self) -> list[str]:
        """What looks wrong, a line each."""
        few = self.matches and self.matches.warning()
        return [*([few] if few else []), *self.suspicions]


def first_odd(ids: pl.Series) -> str | None:
    """The first of some ids that looks like a missing value."""
    odd = ids.filter(ids.str.to_lowercase().is_in(MISSING))
    return odd[0] if len(odd) else None


def suspicions(odd: Mapping[str, str | None], early: int, events: int) -> list[str]:
    """Warnings about ids that look like missing values and times that look like none.

    odd: the first such id by what it is of. early: how many of so many events come before 1980.
    """
    warnings = [
        f"{what} id {id_!r} looks like a missing value; if it is one, leave it empty and import again"
        for what, id_ in odd.items()
        if id_ is not None
    ]
    if early:
        warnings.append(
            f"{early:,} of {events:,} events lie before 1980; if their numbers are a mere order, import with "
            "--time None --order COLUMN"
        )
    return warnings
