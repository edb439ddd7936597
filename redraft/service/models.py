"""The models of one process: the one that answers, the one before, and one that stands ready."""

import re
from collections.abc import Callable, Sequence
from pathlib import Path

from redraft.records import InputError
from redraft.service.errors import ApiError, invalid
from redraft.service.live import LiveModel
from redraft.service.served import Servable, Served
from redraft.service.store import StoredItem

__all__ = ["Models"]

RUN_NAME = re.compile(r"[\w][\w.-]*")


class Models:
    """Models come in by `load`, answer after `promote`, and one step can be taken back.

    folder: where runs lie. read: from a run folder to its recommender.
    """

    def __init__(self, current: LiveModel, folder: Path, read: Callable[[Path], Servable]):
        self.current, self._folder, self._read = current, folder, read
        self.previous: LiveModel | None = None
        self.staged: LiveModel | None = None
        self.others: Sequence[LiveModel] = ()

    @property
    def served(self) -> Served:
        """What answers now."""
        return self.current.served

    def load(self, run: str, changes: Sequence[StoredItem]) -> LiveModel:
        """Load a run of the folder beside the one that answers.

        Raises ApiError 422 for a name that is none and for a run that cannot be used.
        """
        if not RUN_NAME.fullmatch(run):
            raise invalid("no_run_name", "run: give the name of a run folder beside the one that was started with")
        try:
            return LiveModel(run, self._read(self._folder / run), changes)
        except InputError as error:
            message = str(error).replace(f"{self._folder}/", "")
            raise invalid("unusable_run", message) from None

    def promote(self, mark: str, changes: Sequence[StoredItem]) -> None:
        """Let the model that stands ready answer; raises ApiError 409 if its fingerprint is not `mark`."""
        if self.staged is None or self.staged.served.fingerprint != mark:
            raise ApiError(409, "not_staged", f"no model {mark!r} stands ready; load it first")
        self.staged.renew(changes)
        self.previous, self.current, self.staged = self.current, self.staged, None

    def roll_back(self, changes: Sequence[StoredItem]) -> None:
        """Let the model before this one answer; the one that answers now becomes the one before."""
        if self.previous is None:
            raise ApiError(409, "no_previous", "there is no model before this one")
        self.previous.renew(changes)
        self.previous, self.current = self.current, self.previous

    def renew(self, changes: Sequence[StoredItem]) -> Served:
        """Put changes of items in place, in the arms of experiments too."""
        for live in self.others:
            live.renew(changes)
        return self.current.renew(changes)
