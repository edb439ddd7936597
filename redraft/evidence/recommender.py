"""A generator whose drafts are put into order by a listwise reflection that reads evidence; a run folder of its own."""

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import torch
from safetensors.torch import save_file

from redraft.baselines.fitted import find_class
from redraft.baselines.neural import NeuralRecommender
from redraft.baselines.storage import kind_of
from redraft.checkpoint import weights_fingerprint
from redraft.decode.engine import Engine
from redraft.evidence.drafting import Drafting, Rewriting, check_rewriting
from redraft.evidence.kinds import Case, Known, check_kinds, columns_of, read_kinds
from redraft.evidence.memory import Memory
from redraft.evidence.reflection import ListReflection, Said, Shape
from redraft.files import atomic_file
from redraft.folders import RUN, new_folder
from redraft.recommender import GenerativeRecommender
from redraft.recommender import load as load_generative
from redraft.records import (
    BoolArray,
    Catalogue,
    FloatArray,
    InputError,
    Interactions,
    Recommendations,
    SemanticIds,
)
from redraft.stored import check_tensors, parsed, read_tensors, record

__all__ = ["Judged", "ReflectingRecommender", "Verdict", "is_reflecting_run", "known_of", "load_reflecting"]

FILE, FORMAT = "reflection.safetensors", "redraft-reflection"
FIX = "train it again with `redraft train reflect`"


@dataclass(frozen=True)
class Judged:
    """An item of a list, and what was thought of it.

    draft: its place among the drafts and, after them, the corrections, from 0. corrected: whether it is a correction.
    log_prob: that it is right, its score. evidence: by kind, what it adds to log_prob, see
    `ReflectingRecommender.reasons`. location: float32 [L + 1], how probably 0, 1, ... leading codes are right. match:
    by attribute, the probability that it is the right item's.
    """

    item: int
    draft: int
    corrected: bool
    log_prob: float
    evidence: dict[str, float]
    location: FloatArray
    match: dict[str, float]


@dataclass(frozen=True)
class Verdict:
    """How a list came about: its items, best first, and the probability that none of the drafts is right."""

    items: tuple[Judged, ...]
    none: float


def known_of(writer: GenerativeRecommender, popularity: torch.Tensor, memory: Memory) -> Known:
    """What is known of a generator's items. Raises InputError for counts that are negative, or of other items."""
    if len(popularity) != writer.ids.n_items or bool((popularity < 0).any()):
        raise InputError(f"popularity: is no number of events of {writer.ids.n_items} items; {FIX}")
    memory.check(writer.ids.n_items)
    codes, attributes = torch.from_numpy(writer.ids.codes).long(), torch.from_numpy(writer.catalogue.attributes).long()
    return Known(codes, attributes, tuple(writer.catalogue.attribute_names), popularity, memory)


class ReflectingRecommender:
    """Drafts by a generator, evidence about each, and a reflection that orders them; keeps the Recommender protocol.

    writer: its drafts are as many as its beams, or as the list is long. tower: a model with an encoder of its own.
    kinds: of the evidence that the reflection reads, in the order of its columns. rewriting: how its
    corrections are written.
    """

    def __init__(
        self,
        writer: GenerativeRecommender,
        tower: NeuralRecommender,
        known: Known,
        reflection: ListReflection,
        kinds: Sequence[str],
        rewriting: Rewriting,
    ):
        self.writer, self.tower, self.known, self.reflection = writer, tower, known, reflection
        self.kinds, self.rewriting = tuple(kinds), rewriting
        self.catalogue, self.ids = writer.catalogue, writer.ids
        self._drafting: dict[int, Drafting] = {}

    def __repr__(self) -> str:
        told = f"{type(self.tower).__name__}, {', '.join(self.kinds)}, {self.rewriting.budget} corrections"
        return f"{type(self).__name__}({self.writer!r}, {told})"

    @property
    def uses_time(self) -> bool:
        """Whether histories must come with their times."""
        return self.tower.uses_time

    @property
    def fingerprint(self) -> str:
        """sha256 over the weights of its parts, what it remembers and how it corrects."""
        parts = [self.writer.model, self.tower.network, self.reflection]
        digest = hashlib.sha256(" ".join([*map(weights_fingerprint, parts), *self.kinds, str(self.rewriting)]).encode())
        for tensor in (*self.known.memory, self.known.popularity):
            digest.update(tensor.numpy().tobytes())
        return digest.hexdigest()

    def recommend(
        self, histories: Interactions, k: int, *, filter_seen: bool = True, allow: BoolArray | None = None
    ) -> Recommendations:
        """The k drafts most probably right; scores are log-probabilities that an item is right."""
        case = self.case(histories, k, filter_seen=filter_seen, allow=allow)
        scores, best = self.judged(case, 0).right[:, :-1].topk(k, dim=1)
        items = case.items.gather(1, best)
        return Recommendations(items.numpy(), scores.float().numpy())

    def case(
        self, histories: Interactions, k: int, *, filter_seen: bool = True, allow: BoolArray | None = None
    ) -> Case:
        """The drafts of histories and their corrections, and what has been said of them."""
        allow = self.writer._checked(histories, k, allow)
        return self.drafting(k)(histories, filter_seen=filter_seen, allow=allow)

    def drafting(self, k: int = 1) -> Drafting:
        """What writes for lists of k items."""
        n_drafts = max(k, self.n_drafts)
        if n_drafts not in self._drafting:
            made = Drafting(self.writer, self.tower, self.known.memory, n_drafts, self.rewriting)
            self._drafting.setdefault(n_drafts, made)
        return self._drafting[n_drafts]

    def engine(self, k: int) -> Engine:
        """What drafts and corrects for lists of k items, batch by batch."""
        return self.drafting(k).engine

    @property
    def n_drafts(self) -> int:
        """Drafts of each user, where the list is not longer."""
        return self.writer.beams

    @torch.inference_mode()
    def explain(
        self,
        history: Sequence[int],
        k: int = 5,
        *,
        times: Sequence[int] | None = None,
        filter_seen: bool = True,
        allow: BoolArray | None = None,
    ) -> Verdict:
        """The list of `recommend` for one history (item numbers, oldest first), and what spoke for and against them.

        times: when each item of the history came, seconds since 1970. allow: as in `recommend`.
        """
        histories = Interactions.from_lists([history], None if times is None else [times])
        case = self.case(histories, k, filter_seen=filter_seen, allow=allow)
        said, reasons = self.judged(case, case.items.shape[1]), self.reasons(case)
        names = self.known.attribute_names
        right = said.right[0, :-1]
        items = tuple(
            Judged(
                int(case.items[0, row]),
                row,
                bool(case.corrected[0, row]),
                float(right[row]),
                {kind: float(each[0, row]) for kind, each in reasons.items()},
                said.location[0, row].exp().numpy(),
                {name: float(said.match[0, row, at, 1].exp()) for at, name in enumerate(names)},
            )
            for row in right.topk(k).indices.tolist()
            if case.items[0, row] >= 0
        )
        return Verdict(items, float(said.right[0, -1].exp()))

    def with_items(self, ids: SemanticIds, catalogue: Catalogue) -> Self:
        """The same recommender over more items; see `GenerativeRecommender.with_items`.

        Of new items the memory knows nothing, and the tower has no opinion.
        """
        n_new = ids.n_items - self.ids.n_items
        writer = self.writer.with_items(ids, catalogue)
        popularity = torch.nn.functional.pad(self.known.popularity, (0, n_new))
        known = known_of(writer, popularity, self.known.memory.with_items(n_new))
        return type(self)(writer, self.tower, known, self.reflection, self.kinds, self.rewriting)

    def judged(self, case: Case, n_labelled: int) -> Said:
        """What the reflection says of a case."""
        return self.reflection.reflect(case, read_kinds(self.kinds, case, self.known), self.known, n_labelled)

    @torch.inference_mode()
    def reasons(self, case: Case) -> dict[str, torch.Tensor]:
        """What each kind of evidence did to each draft's score: how much lower it were with that kind at its mean."""
        columns, names = read_kinds(self.kinds, case, self.known), columns_of(self.kinds, self.known.attribute_names)
        whole = self.reflection.scores(case, columns, self.known)
        lowered = {}
        for kind in self.kinds:
            mine = torch.tensor([name == kind for name, _ in names])
            without = torch.where(mine, self.reflection.mean, columns)
            lowered[kind] = whole - self.reflection.scores(case, without, self.known)
        return lowered

    def save(self, path: Path, *, replace: bool = False) -> None:
        """Write the whole to a folder, from which `redraft.load` makes the same recommender.

        replace: lose the run that is there. Raises InputError as `redraft.folders.check_replace`.
        """
        with new_folder(path, RUN, replace=replace) as folder:
            self.save_parts(folder)

    def save_parts(self, folder: Path) -> None:
        """Write generator, tower and reflection into a run folder that stands already."""
        self.writer.save(folder / "generator", replace=(folder / "generator").exists())
        self.tower.save(folder / "tower", replace=(folder / "tower").exists())
        shape = Shape(len(self.reflection.mean), self.known.codes.shape[1], self.known.attributes.shape[1])
        shape = dataclasses.replace(shape, hidden=self.reflection.read.out_features)
        about = {
            "format": FORMAT,
            "shape": json.dumps(dataclasses.asdict(shape)),
            "kinds": json.dumps(self.kinds),
            "beams": json.dumps(self.writer.beams),
            "rewriting": json.dumps(dataclasses.asdict(self.rewriting)),
            "generator": weights_fingerprint(self.writer.model),
            "tower": weights_fingerprint(self.tower.network),
        }
        tensors = {f"reflection.{name}": x for name, x in self.reflection.state_dict().items()}
        tensors |= {f"memory.{name}": x for name, x in self.known.memory._asdict().items()}
        tensors["popularity"] = self.known.popularity
        with atomic_file(folder / FILE) as written:
            save_file({name: x.contiguous() for name, x in tensors.items()}, written, about)


def is_reflecting_run(run: Path) -> bool:
    """Whether a folder holds a run of recipe reflect."""
    return (run / FILE).is_file()


def load_reflecting(
    run: Path, *, beams: int | None = None, half: bool = False, device: str = "cpu"
) -> ReflectingRecommender:
    """Read a run back. Raises InputError for what is missing or damaged, or belongs to another generator or tower."""
    path = run / FILE
    about, tensors = read_tensors(path, "reflection", FIX)
    if about.get("format") != FORMAT:
        raise InputError(f"{path}: not a reflection; {FIX}")
    if device != "cpu":
        raise InputError("a reflection with evidence runs on the processor; leave out --device")
    writer = load_generative(run / "generator", beams=beams or parsed(path, about, "beams", FIX), half=half)
    tower = find_class(kind_of(run / "tower")).load(run / "tower")
    for name, network in (("generator", writer.model), ("tower", tower.network)):
        if about.get(name) != weights_fingerprint(network):
            raise InputError(f"{path}: belongs to another {name} than stands in {run / name}; {FIX}")
    kinds = parsed(path, about, "kinds", FIX)
    check_kinds(kinds)
    try:
        memory = Memory(*(tensors.pop(f"memory.{name}") for name in Memory._fields))
        known = known_of(writer, tensors.pop("popularity"), memory)
    except KeyError as error:
        raise InputError(f"{path}: the tensor {error} is missing; {FIX}") from None
    shape = record(Shape, parsed(path, about, "shape", FIX), path, FIX)
    if shape.n_columns != len(columns_of(kinds, known.attribute_names)):
        raise InputError(f"{path}: reads other evidence than this version of redraft gives; {FIX}")
    reflection = ListReflection(shape)
    weights = {name.removeprefix("reflection."): x for name, x in tensors.items()}
    check_tensors(path, weights, reflection.state_dict(), FIX)
    reflection.load_state_dict(weights)
    told = parsed(path, about, "rewriting", FIX) if "rewriting" in about else {"budget": 0}
    rewriting = record(Rewriting, told, path, FIX, newer=("tower", "memory"))
    check_rewriting(rewriting)
    return ReflectingRecommender(writer, tower, known, reflection.eval(), kinds, rewriting)
