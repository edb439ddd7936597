"""A run whose catalogue goes on living: items that change, leave the shop, or are new since the training."""

import hashlib
import json
import threading
from collections.abc import Sequence
from functools import cached_property

import numpy as np
import polars as pl

from redraft.records import Catalogue
from redraft.service.served import Servable, Served, fingerprint
from redraft.service.store import StoredItem
from redraft.tokenizer.frozen import FrozenTokenizer, extend, read_back

__all__ = ["LiveModel", "changed_catalogue", "item_text"]


class LiveModel:
    """A loaded run, and what is served of it now.

    served: replaced as a whole by `renew`; whoever holds an older one may go on using it.
    """

    def __init__(self, run: str, base: Servable, changes: Sequence[StoredItem] = ()):
        self.run, self.base, self.fingerprint = run, base, fingerprint(base)
        self._own = set(base.catalogue.ids.to_list())
        self._renewing = threading.Lock()
        self.served = self._made(base, changes)
        self.renew(changes)

    def renew(self, changes: Sequence[StoredItem]) -> Served:
        """Serve the run with these changes to its items, all that were ever made, in order.

        New items get semantic IDs by the frozen tokenizer, in the order in which they came, whatever came together: so
        the same changes give the same fingerprint again. Raises InputError if there is no room for them.
        """
        with self._renewing:
            new = [item for item in changes if item.id not in self._own]
            now = self.served.recommender
            missing = new[now.ids.n_items - self.base.ids.n_items :]
            catalogue = changed_catalogue(self.base.catalogue, changes)
            if missing:
                ids = extend(self._tokenizer, now.ids, [item.born or "" for item in missing])
                now = self.base.with_items(ids, catalogue)
            self.served = self._made(now, changes)
            return self.served

    @cached_property
    def _tokenizer(self) -> FrozenTokenizer:
        return read_back(self.base.catalogue, self.base.ids)

    def _made(self, recommender: Servable, changes: Sequence[StoredItem]) -> Served:
        n_base, n_items = self.base.ids.n_items, recommender.ids.n_items
        catalogue = changed_catalogue(self.base.catalogue, changes if n_items > n_base else self._known(changes))
        numbers = {item: number for number, item in enumerate(catalogue.ids.to_list())}
        by_number = {numbers[item.id]: item for item in changes if item.id in numbers}
        on_sale = np.ones(n_items, dtype=bool)
        on_sale[[number for number, item in by_number.items() if not item.available or item.removed]] = False
        removed = frozenset(number for number, item in by_number.items() if item.removed)
        if n_items == n_base:
            return Served(self.run, recommender, catalogue, on_sale, removed, self.fingerprint)
        added = json.dumps([catalogue.ids[n_base:].to_list(), recommender.ids.codes[n_base:].tolist()])
        mark = hashlib.sha256(f"{self.fingerprint} {added}".encode()).hexdigest()[:16]
        return Served(self.run, recommender, catalogue, on_sale, removed, mark, self.fingerprint)

    def _known(self, changes: Sequence[StoredItem]) -> list[StoredItem]:
        return [item for item in changes if item.id in self._own]


def changed_catalogue(base: Catalogue, changes: Sequence[StoredItem]) -> Catalogue:
    """A catalogue with changes: new items stand after the old ones, new attribute values after the known ones."""
    ids, titles, descriptions = (column.to_list() for column in (base.ids, base.titles, base.descriptions))
    numbers = {item: number for number, item in enumerate(ids)}
    attributes = base.attributes.tolist()
    values = [column.to_list() for column in base.attribute_values]
    codes = [{value: code for code, value in enumerate(column)} for column in values]
    for item in changes:
        number = numbers.setdefault(item.id, len(ids))
        if number == len(ids):
            ids.append(item.id)
            titles.append("")
            descriptions.append("")
            attributes.append([-1] * len(base.attribute_names))
        titles[number] = titles[number] if item.title is None else item.title
        descriptions[number] = descriptions[number] if item.description is None else item.description
        for k, name in enumerate(base.attribute_names):
            value = item.attributes.get(name)
            if value is not None and value not in codes[k]:
                codes[k][value] = len(values[k])
                values[k].append(value)
            if value is not None:
                attributes[number][k] = codes[k][value]
    return Catalogue(
        pl.Series("id", ids, dtype=pl.String),
        pl.Series("title", titles, dtype=pl.String),
        pl.Series("description", descriptions, dtype=pl.String),
        np.array(attributes, dtype=np.int32).reshape(len(ids), len(base.attribute_names)),
        base.attribute_names,
        tuple(pl.Series("value", column, dtype=pl.String) for column in values),
    )


def item_text(item: StoredItem) -> str:
    """What the tokenizer reads of a new item, as of those of the run: title, description, attributes."""
    named = [f"{name}: {value}" for name, value in item.attributes.items()]
    return "\n".join(part for part in (item.title, item.description, *named) if part)
