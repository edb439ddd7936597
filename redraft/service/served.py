"""A model and its items as one thing under one fingerprint; requests hold on to the one that they began with."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from redraft.baselines.fitted import BaselineRecommender
from redraft.checkpoint import weights_fingerprint
from redraft.evidence.recommender import ReflectingRecommender
from redraft.recommender import GenerativeRecommender
from redraft.records import BoolArray, Catalogue, InputError, IntArray
from redraft.runs import load
from redraft.service.errors import invalid

__all__ = ["Range", "Servable", "Served", "fingerprint", "load_servable"]

Servable = GenerativeRecommender | ReflectingRecommender
"""What lists can be made with: items have semantic IDs, and more items can be added."""


@dataclass(frozen=True)
class Range:
    """Numbers from least to most, both included; None leaves an end open."""

    least: float | None = None
    most: float | None = None


@dataclass(frozen=True, eq=False)
class Served:
    """What answers requests. Never changed: a new model or a changed item makes a new one.

    run: the folder's name. catalogue: for display and filters. on_sale: bool [N]. removed: items that are no more.
    parent: fingerprint of the run that items were added to, None for the run itself.
    """

    run: str
    recommender: Servable
    catalogue: Catalogue
    on_sale: BoolArray
    removed: frozenset[int]
    fingerprint: str
    parent: str | None = None

    @property
    def n_items(self) -> int:
        """N, items off sale included."""
        return len(self.ids)

    @cached_property
    def uses_time(self) -> bool:
        """Whether the model reads when things happened."""
        return isinstance(self.recommender, ReflectingRecommender) and self.recommender.uses_time

    @cached_property
    def ids(self) -> list[str]:
        """Item ids by number."""
        return self.catalogue.ids.to_list()

    @cached_property
    def numbers(self) -> dict[str, int]:
        """Item numbers by id."""
        return {item: number for number, item in enumerate(self.ids)}

    @cached_property
    def titles(self) -> list[str]:
        """Item titles by number."""
        return self.catalogue.titles.to_list()

    @cached_property
    def all_on_sale(self) -> bool:
        """Whether no list needs a mask."""
        return bool(self.on_sale.all())

    @cached_property
    def values(self) -> list[list[str]]:
        """Attribute values by attribute and code."""
        return [series.to_list() for series in self.catalogue.attribute_values]

    def number(self, item: str, where: str) -> int:
        """An item's number; raises ApiError 422 if there is none."""
        number = self.numbers.get(item)
        if number is None or number in self.removed:
            raise invalid(
                "unknown_item", f"{where}: item {item!r} is not in the catalogue; leave it out or add it first"
            )
        return number

    def attributes(self, number: int) -> dict[str, str]:
        """An item's known attributes by name."""
        codes = self.catalogue.attributes[number].tolist()
        names = self.catalogue.attribute_names
        return {name: self.values[k][code] for k, (name, code) in enumerate(zip(names, codes)) if code >= 0}

    def card(self, number: int) -> dict[str, Any]:
        """What a person sees of an item."""
        return {"id": self.ids[number], "title": self.titles[number], "attributes": self.attributes(number)}

    def allowed(
        self,
        allow: Sequence[str] | None,
        exclude: Sequence[str],
        filters: Mapping[str, Sequence[str] | Range],
        seen: Sequence[int] = (),
    ) -> BoolArray | None:
        """bool [N], what a list may hold; None if that is everything. seen: items that the search will leave out.

        Raises ApiError 422 for an unknown item or attribute, a range of an attribute without numbers, and if nothing
        is left.
        """
        if self.all_on_sale and allow is None and not exclude and not filters:
            return None
        mask = self.on_sale.copy()
        if allow is not None:
            given = np.zeros_like(mask)
            given[[self.number(item, "allow") for item in allow]] = True
            mask &= given
        mask[[self.number(item, "exclude") for item in exclude]] = False
        for name, wanted in filters.items():
            mask &= self._matching(name, wanted)
        if mask.sum() == mask[np.unique(np.array(seen, dtype=np.int64))].sum():
            unseen = " and is not in the history" if mask.any() else ""
            raise invalid("nothing_allowed", f"no item on sale passes allow, exclude and filters{unseen}; widen them")
        return mask

    def similar(self, number: int, k: int) -> list[tuple[int, int]]:
        """The k items on sale that share most leading codes with an item, then most attributes.

        Each with how many leading codes it shares.
        """
        codes, attributes = self.recommender.ids.codes, self.catalogue.attributes
        shared = np.cumprod(codes == codes[number], axis=1).sum(axis=1)
        alike = ((attributes == attributes[number]) & (attributes >= 0)).sum(axis=1)
        closeness: IntArray = np.where(self.on_sale, shared * (attributes.shape[1] + 1) + alike, -1)
        closeness[number] = -1
        order = np.argsort(-closeness, kind="stable")[:k]
        return [(int(item), int(shared[item])) for item in order if closeness[item] >= 0]

    def _matching(self, name: str, wanted: Sequence[str] | Range) -> BoolArray:
        if name not in self.catalogue.attribute_names:
            known = ", ".join(self.catalogue.attribute_names) or "none"
            raise invalid("unknown_filter", f"filters: no attribute {name!r}; the attributes are: {known}")
        k = self.catalogue.attribute_names.index(name)
        values = self.values[k]
        if isinstance(wanted, Range):
            numbers = np.array([_number(value) for value in values])
            if np.isnan(numbers).all():
                raise invalid("not_numeric", f"filters: {name!r} has no numbers; filter it by values")
            least, most = wanted.least, wanted.most
            passes = (numbers >= (-np.inf if least is None else least)) & (
                numbers <= (np.inf if most is None else most)
            )
        else:
            unknown = sorted(set(wanted) - set(values))
            if unknown:
                raise invalid("unknown_filter", f"filters: {name!r} has no value {unknown[0]!r}; ask for one it has")
            passes = np.isin(np.array(values, dtype=object), list(wanted))
        codes = self.catalogue.attributes[:, k]
        matching: BoolArray = np.append(passes.astype(bool), False)[codes]
        return matching


def load_servable(run: Path, **options: Any) -> Servable:
    """Read a run, with the options of `redraft.runs.load`. Raises InputError as that does, and for a baseline's."""
    recommender = load(run, **options)
    if isinstance(recommender, BaselineRecommender):
        raise InputError(
            f"{run}: a run of a baseline, which writes no semantic IDs; give one of a generative recipe, or reflect"
        )
    return recommender


def fingerprint(recommender: Servable) -> str:
    """16 hexadecimal digits over weights, semantic IDs and item ids: what a list depends on."""
    if isinstance(recommender, ReflectingRecommender):
        digest = hashlib.sha256(recommender.fingerprint.encode())
    else:
        digest = hashlib.sha256(weights_fingerprint(recommender.model).encode())
    digest.update(recommender.ids.fingerprint.encode())
    digest.update(json.dumps(recommender.catalogue.ids.to_list()).encode())
    return digest.hexdigest()[:16]


def _number(value: str) -> float:
    try:
        return float(value)
    except ValueError:
        return float("nan")
