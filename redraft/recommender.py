"""A trained generative recommender: histories in, ranked items out, each with its reasons."""

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Self

import numpy as np
import polars as pl
import torch

from redraft.arrays import read_parquet
from redraft.checkpoint import load_backbone, save_backbone
from redraft.data.store import catalogue_from_frame, catalogue_to_frame
from redraft.decode.correct import TrajectoryBatch, correct, draft, ranked
from redraft.decode.correction import DEFAULT_CORRECTION, Correction
from redraft.decode.engine import Engine, Plan, avoided, rank
from redraft.decode.explain import Explanation, explanations, trajectory_of_one
from redraft.decode.verify import verified
from redraft.device import configure_attention, find_device
from redraft.files import atomic_file
from redraft.folders import MODEL, new_folder
from redraft.model.backbone import Backbone
from redraft.model.growing import grown
from redraft.model.template import GRC
from redraft.records import (
    BoolArray,
    Catalogue,
    InputError,
    Interactions,
    Recommendations,
    Recommender,
    SemanticIds,
    Trajectory,
    check_allow,
    check_least,
    check_whole,
)
from redraft.tokenizer.semantic_ids import load_semantic_ids, save_semantic_ids
from redraft.tokenizer.trie import Trie

__all__ = [
    "GenerativeRecommender",
    "SelfCorrectingRecommender",
    "check_used",
    "load",
    "read_catalogue",
    "save_items",
]

BEAMS = 50


class GenerativeRecommender:
    """A backbone with its semantic IDs, catalogue and trie; keeps the Recommender protocol.

    beams: the beam budget B [50, or all items of a smaller catalogue]; a search for k items uses at least k.
    half: run matrix products in bfloat16; scores and their sums stay float32. trust: weight of the verifier's logits
    or of those of a generator's item head, beside log-probabilities in the order of a list.
    Raises InputError for more beams than items and for a negative trust.
    """

    def __init__(
        self,
        model: Backbone,
        ids: SemanticIds,
        catalogue: Catalogue,
        *,
        beams: int | None = None,
        half: bool = False,
        trust: float = 1.0,
    ):
        if not 0 <= trust < math.inf:
            raise InputError(f"trust = {trust}: items that fit would come last; it must be >= 0")
        check_least(1, beams=1 if beams is None else beams)
        if beams is not None and beams > ids.n_items:
            raise InputError(f"beams = {beams} exceeds the catalogue of {ids.n_items} items; ask for at most that many")
        self.model = model
        self.ids = ids
        self.catalogue = catalogue
        self.beams = min(BEAMS, ids.n_items) if beams is None else beams
        self.half = half
        self.trust = trust
        self.trie = Trie.build(ids).to(model.codes.device)
        self._engines: dict[Plan, Engine] = {}

    def __repr__(self) -> str:
        weights = sum(weight.numel() for weight in self.model.parameters())
        facts = [f"{self.ids.n_items:,} items", f"{weights:,} weights", f"{self.beams} beams"]
        facts += ["with a verifier"] if self.model.verifier is not None else []
        return f"{type(self).__name__}({', '.join([*facts, f'on {self.model.codes.device}'])})"

    def recommend(
        self, histories: Interactions, k: int, *, filter_seen: bool = True, allow: BoolArray | None = None
    ) -> Recommendations:
        """The k most probable items for each history by constrained beam search; see records.Recommender.

        Scores are log-probabilities, plus trust times the logit of a verifier if the model has one. The model reads the
        most recent items; the filter heeds the whole history.
        """
        allow = self._checked(histories, k, allow)
        items = np.empty((histories.n_users, k), dtype=np.int64)
        scores = np.empty((histories.n_users, k), dtype=np.float32)
        engine = self.engine(k)
        order = np.argsort(histories.lengths, kind="stable")  # long histories together: all of a batch are padded alike
        for start in range(0, histories.n_users, engine.buckets[-1]):
            users = order[start : start + engine.buckets[-1]]
            mask = allow[users] if allow is not None and allow.ndim == 2 else allow
            best = engine(*self._inputs(histories.take(users), filter_seen, mask))
            items[users], scores[users] = (part.cpu().numpy() for part in best)
        if np.isnan(scores).any():
            raise InputError("the model gives scores that are not numbers; train it again, with a lower learning rate")
        return Recommendations(items, scores)

    @torch.inference_mode()
    def explain(
        self, history: Sequence[int], k: int = 5, *, filter_seen: bool = True, allow: BoolArray | None = None
    ) -> list[Explanation]:
        """The k best items for one history (item numbers, oldest first), each with the steps that write it.

        allow: as in `recommend`.
        """
        histories = Interactions.from_lists([history])
        best = self.recommend(histories, k, filter_seen=filter_seen, allow=allow)
        chosen = torch.from_numpy(best.items[0][best.items[0] >= 0]).to(self.model.codes.device)
        read, _ = self._inputs(histories, False, None)
        read = read.to(chosen.device).expand(len(chosen), -1)
        with torch.autocast(read.device.type, torch.bfloat16, enabled=self.half):
            log_probs = self.model(read, chosen[:, None])[:, 0].float().log_softmax(dim=-1)
        added = self.trust * self._judged(histories, chosen[None])[0]
        return explanations(chosen, self.model.codes[chosen], log_probs, added, self.trie)

    def save(self, path: Path | str, *, replace: bool = False) -> None:
        """Write weights, semantic IDs and catalogue to a folder, from which `load` makes the same recommender.

        replace: lose the saved model that is there. Raises InputError as `redraft.folders.check_replace`, so never
        over the run of a training.
        """
        with new_folder(Path(path), MODEL, replace=replace) as folder:
            save_items(folder, self.ids, self.catalogue)
            save_backbone(self.model, folder / "model.safetensors", self.ids, self.catalogue)

    def with_items(self, ids: SemanticIds, catalogue: Catalogue) -> Self:
        """The same recommender over more items: the old ones keep their numbers, and new ones stand after them.

        What the model knows of a new item are its codes and attributes, as far as it knows their values; see
        redraft.model.growing.
        """
        n_known = np.array([len(values) for values in self.catalogue.attribute_values], dtype=np.int64)
        known = np.where(catalogue.attributes < n_known, catalogue.attributes, -1)[self.ids.n_items :]
        more = copy.copy(self)
        more.trie = Trie.build(ids).to(self.model.codes.device)
        more.model = grown(self.model, torch.from_numpy(ids.codes), torch.from_numpy(known), more.trie)
        more.ids, more.catalogue, more._engines = ids, catalogue, {}
        return more

    def plan(self, k: int) -> Plan:
        """How lists of k items are made."""
        return Plan(
            k, max(k, self.beams), self.half, None, self.trust if self.model.judge_name else 0.0, self.model.judge_name
        )

    def engine(self, k: int) -> Engine:
        """What makes lists of k items from tensors, batch by batch; see redraft.decode.engine.Engine."""
        self._end_training()
        plan = self.plan(k)
        if plan not in self._engines:
            made = Engine(partial(rank, self.model, self.trie, plan), self.model.codes.device)
            return self._engines.setdefault(plan, made)
        return self._engines[plan]

    @torch.inference_mode()
    def verified(
        self, histories: Interactions, items: torch.Tensor, scores: torch.Tensor, k: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The k best of ranked items [U, R] after the verifier's second look; the first k for a model without one."""
        if not self.plan(k).trust:
            return items[:, :k], scores[:, :k]
        return verified(items, scores, self._judged(histories, items), self.trust, k)

    def _end_training(self) -> None:
        if self.model.training:
            self.model.eval()

    def _judged(self, histories: Interactions, items: torch.Tensor) -> torch.Tensor:
        """The verifier's logits [U, R] of items [U, R]; 0 for a model without one."""
        if not self.model.judge_name:
            return torch.zeros(items.shape, device=items.device)
        history, _ = self._inputs(histories, False, None)
        with torch.autocast(items.device.type, torch.bfloat16, enabled=self.half):
            return self.model.judge(self.model.remember(history.to(items.device)), items)

    def _checked(self, histories: Interactions, k: int, allow: BoolArray | None) -> BoolArray | None:
        """What may be shown, as an array; raises InputError for what no list can be made of."""
        check_whole(k=k)
        check_least(1, k=k)
        if k > self.ids.n_items:
            raise InputError(f"k = {k} exceeds the catalogue of {self.ids.n_items} items; ask for at most that many")
        histories.check_items(self.ids.n_items)
        return check_allow(allow, histories.n_users, self.ids.n_items)

    def _inputs(self, histories: Interactions, filter_seen: bool, allow: BoolArray | None) -> list[torch.Tensor]:
        """What an engine takes: history [U, T], seen [U, S] and, if given, allow [1 or U, N]."""
        seen = histories.distinct() if filter_seen else histories
        longest = max(1, int(seen.lengths.max())) if filter_seen else 0
        parts = (histories.padded(self.model.config.history), seen.padded(longest))
        tensors = [torch.from_numpy(part) for part in parts]
        return tensors if allow is None else [*tensors, torch.from_numpy(np.atleast_2d(allow))]


class SelfCorrectingRecommender(GenerativeRecommender):
    """A GRC model: drafts, reflects on all drafts at once, corrects some of them, merges both into one list.

    Raises InputError also for a correction that so many beams cannot have.
    """

    model: GRC

    def __init__(
        self,
        model: GRC,
        ids: SemanticIds,
        catalogue: Catalogue,
        *,
        beams: int | None = None,
        half: bool = False,
        trust: float = 1.0,
        correction: Correction = DEFAULT_CORRECTION,
    ):
        super().__init__(model, ids, catalogue, beams=beams, half=half, trust=trust)
        self.correction, self.budget = correction, correction.spent(self.beams)

    @torch.inference_mode()
    def trajectories(
        self,
        histories: Interactions,
        corrections: Sequence[Correction] = (),
        *,
        filter_seen: bool = True,
        allow: BoolArray | None = None,
        n_beams: int = 0,
    ) -> list[TrajectoryBatch]:
        """Drafts, reflection and corrections for U histories, all in one batch, once for each way to correct [its own].

        The drafts are written once. Each correction needs a budget above 0.
        """
        self._end_training()
        allow = self._checked(histories, max(1, n_beams), allow)
        n_beams, device = max(n_beams, self.beams), self.model.codes.device
        history, seen, *rest = (x.to(device) for x in self._inputs(histories, filter_seen, allow))
        with torch.autocast(device.type, torch.bfloat16, enabled=self.half):
            memory, blocked = self.model.remember(history), avoided(self.trie, seen, rest[0] if rest else None)
            drafted = draft(self.model, memory, self.trie, histories.n_users, n_beams, blocked=blocked)
            return [
                correct(
                    self.model,
                    memory,
                    self.trie,
                    drafted,
                    how.n_beams,
                    budget=how.budget,
                    alpha=how.alpha,
                    hypotheses=how.hypotheses,
                    blocked=blocked,
                )
                for how in (correction.plan(self.beams) for correction in corrections or (self.correction,))
            ]

    @torch.inference_mode()
    def trajectory(
        self, history: Sequence[int], k: int = 5, *, filter_seen: bool = True, allow: BoolArray | None = None
    ) -> Trajectory:
        """Drafts, reflection, corrections and the k best items for one history (item numbers, oldest first).

        allow: as in `recommend`.
        Raises InputError with a budget of 0, where nothing is reflected on.
        """
        if self.budget == 0:
            raise InputError("with a budget of 0 there is no reflection to explain; give a correction budget")
        check_least(1, k=k)
        histories = Interactions.from_lists([history])
        [batch] = self.trajectories(histories, filter_seen=filter_seen, allow=allow, n_beams=k)
        merged = ranked(batch, self.correction.policy, max(k, self.beams))
        items, scores = self.verified(histories, *merged, k)
        return trajectory_of_one(batch, self.model.slots(self.catalogue.attribute_names), items[0], scores[0])

    def drafts_alone(self) -> GenerativeRecommender:
        """The same weights without reflection and correction: the drafts as they are."""
        return GenerativeRecommender(
            self.model, self.ids, self.catalogue, beams=self.beams, half=self.half, trust=self.trust
        )

    def plan(self, k: int) -> Plan:
        """How lists of k items are made: with a budget of 0, as the drafts are."""
        plan = super().plan(k)
        if self.budget == 0:
            return plan
        return replace(plan, correction=self.correction.plan(self.beams))


def save_items(folder: Path, ids: SemanticIds, catalogue: Catalogue) -> None:
    """Write what a run's weights refer to: semantic_ids.safetensors and catalogue.parquet."""
    save_semantic_ids(ids, folder / "semantic_ids.safetensors", source={})
    with atomic_file(folder / "catalogue.parquet") as partial:
        catalogue_to_frame(catalogue).write_parquet(partial)


def load(
    run: Path | str,
    *,
    beams: int | None = None,
    half: bool = False,
    trust: float = 1.0,
    device: str = "cpu",
    correction: Correction = DEFAULT_CORRECTION,
) -> GenerativeRecommender:
    """The recommender of a run folder, ready to use: a SelfCorrectingRecommender if its model corrects itself.

    The options are those of the two classes.
    Raises InputError if the folder holds no trained run, or weights that belong to other semantic IDs.
    """
    run = Path(run)
    if (run / "fitted").is_dir():
        raise InputError(f"{run}: a run of a baseline, which writes no semantic IDs; give a run of a generative recipe")
    if (run / "reflection.safetensors").exists():
        raise InputError(f"{run}: a run of recipe reflect; give {run / 'generator'} for its drafts alone")
    if not (run / "catalogue.parquet").exists():
        raise InputError(f"{run}: not a trained run; make one with `redraft train`")
    catalogue = read_catalogue(run / "catalogue.parquet")
    ids = load_semantic_ids(run / "semantic_ids.safetensors")
    model = load_backbone(run / "model.safetensors", ids, catalogue).to(configure_attention(find_device(device)))
    if isinstance(model, GRC):
        return SelfCorrectingRecommender(
            model, ids, catalogue, beams=beams, half=half, trust=trust, correction=correction
        )
    return GenerativeRecommender(model, ids, catalogue, beams=beams, half=half, trust=trust)


def check_used(models: Mapping[Path, Recommender], correction: Correction, trust: float = 1.0) -> None:
    """Raise InputError for a correction or a trust that none of the models of some runs heeds."""
    runs = ", ".join(map(str, models)) or "no run"
    correcting = [model for model in models.values() if isinstance(model, SelfCorrectingRecommender)]
    if correction != DEFAULT_CORRECTION and not correcting:
        raise InputError(f"{runs}: does not correct itself; leave out --correction..., or give a run of recipe grc")
    plain = replace(correction, alpha=DEFAULT_CORRECTION.alpha, hypotheses=DEFAULT_CORRECTION.hypotheses)
    if correction != plain and not any(model.model.reflection for model in correcting):
        raise InputError(f"{runs}: does not reflect; leave out --correction.alpha and --correction.hypotheses")
    if trust != 1.0 and not any(
        model.model.judge_name for model in models.values() if isinstance(model, GenerativeRecommender)
    ):
        raise InputError(
            f"{runs}: has no item head and no verifier; leave out --trust, or give a run of recipe small or verifier"
        )


def read_catalogue(path: Path) -> Catalogue:
    """The items that a run's numbers mean. Raises InputError for what is missing or no catalogue."""
    fix = "copy the run again or train again"
    frame = read_parquet(path, fix=fix)
    first = ["id", "title", "description"]
    if frame.columns[:3] != first or set(frame.dtypes) != {pl.String} or any(frame[name].has_nulls() for name in first):
        raise InputError(f"{path}: not a catalogue, which has the columns {', '.join(first)} and attributes; {fix}")
    return catalogue_from_frame(frame, frame.columns[3:])
