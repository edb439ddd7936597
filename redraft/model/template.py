"""The generate-reflect-correct template on top of the backbone (paper section 4.1): draft | reflection | correction."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import nn

from redraft.model.backbone import Backbone, ModelConfig, last_places
from redraft.model.memory import Cache, Encoded, Memory
from redraft.model.slots import DEFAULT, KINDS, Case, label_drafts, slots_of
from redraft.prefix_tree import PrefixTree
from redraft.records import Labels, Reflection, Slot

__all__ = ["GRC", "TemplateLogits", "template_mask"]


class TemplateLogits(NamedTuple):
    """Teacher-forced logits of one template a target: target and correction [U, R, L, C], and the reflection.

    reflection is None for a model without reflection labels.
    """

    target: torch.Tensor
    reflection: Reflection | None
    correction: torch.Tensor


def template_mask(n_levels: int) -> torch.Tensor:
    """Who sees whom among a target's row and the three segments of its template, bool [3L + 1, 3L + 1] (paper Eq. 7).

    The target's row is apart, each of the two is causal; the delimiters take no position, the labels share one.
    """
    target, template = (torch.ones(n, n).tril() for n in (n_levels, 2 * n_levels + 1))
    return torch.block_diag(target, template).bool()


class GRC(Backbone):
    """The backbone, and what it takes to reflect on a draft and to correct it.

    A template is one causal sequence of 2L + 1 positions: BOS1 and the draft's L codes, the last of which is also BOS2,
    then BOS3 and all but the last code of the correction. The label slots (`redraft.model.slots`) share the position
    BOS2, each with a head of its own: labels are independent given the draft (Eq. 8), and reach the correction as
    values in BOS3 (Eq. 9). The delimiters EOF1 to EOF3 are known beforehand and take no position.

    With reflection=False (the ablation GC) there are no labels: the correction sees the draft alone.
    """

    training_mask: torch.Tensor

    def __init__(
        self,
        config: ModelConfig,
        codes: torch.Tensor,
        codebook_size: int,
        attributes: torch.Tensor,
        tree: PrefixTree | None = None,
        *,
        reflection: bool = True,
        slots: Sequence[str] = DEFAULT,
    ):
        super().__init__(config, codes, codebook_size, attributes, tree)
        self.reflection = reflection
        self.kinds = tuple(KINDS[name] for name in slots) if reflection else ()
        width = config.width
        self.end_embedding = nn.Parameter(torch.zeros(width))
        self.correction_embedding = nn.Parameter(torch.zeros(self.n_levels, width))
        for part in ("head", "embedding"):
            for kind in self.kinds:
                n_slots = (attributes.shape[1],) if kind.per_attribute else ()
                weight = torch.zeros(*n_slots, len(kind.classes(self.n_levels)), width)
                self.register_parameter(f"{kind.name}_{part}", nn.Parameter(weight))
        self.register_buffer("training_mask", template_mask(self.n_levels), persistent=False)

    @torch.no_grad()
    def start_labels(self, spread: float) -> None:
        """Draw anew what labels, ends and corrections are embedded as, where nothing has been learnt of them yet."""
        for weight in (self.end_embedding, self.correction_embedding):
            nn.init.normal_(weight, std=spread)
        for kind in self.kinds:
            nn.init.normal_(getattr(self, f"{kind.name}_embedding"), std=spread)

    def template(
        self, history: torch.Tensor, targets: torch.Tensor, drafts: torch.Tensor, labels: Labels
    ) -> TemplateLogits:
        """Teacher-forced logits of targets [U, R] and of the templates of their drafts [U, R], in one pass.

        A target is also predicted in a row of its own, as in pre-training. -1 stands for what is not asked for.
        """
        encoded, last_seen = self.encode(history), last_places(history, targets)
        own = self.target_inputs(targets, encoded, last_seen)
        x = torch.cat([own, self._template_inputs(drafts, labels, targets, encoded, last_seen)], dim=2)
        x = self.run_decoder(x, self.training_mask, encoded, last_seen)
        target, template = x[:, :, : self.n_levels], x[:, :, self.n_levels :]
        return self._template_logits(target, targets, template, targets, encoded, last_seen)

    def trajectory(
        self, encoded: Encoded, drafts: torch.Tensor, labels: Labels, corrections: torch.Tensor
    ) -> TemplateLogits:
        """Teacher-forced logits of whole trajectories that read the whole history, in one pass (paper Eq. 12).

        drafts, corrections: items [U, R], with labels [U, R]; `target` of the result holds the draft's logits.
        """
        mask = self.training_mask[self.n_levels :, self.n_levels :]
        last_seen = encoded.item_of[-1:]
        x = self._template_inputs(drafts, labels, corrections, encoded, last_seen)
        x = self.run_decoder(x, mask, encoded, last_seen)
        return self._template_logits(x[:, :, : self.n_levels], drafts, x, corrections, encoded, last_seen)

    def reflect(
        self, tokens: torch.Tensor, parents: torch.Tensor, cache: Cache, memory: Memory
    ) -> tuple[Reflection | None, Cache]:
        """All labels of R whole drafts in one step, and the drafts' cache with their last codes.

        tokens, parents: int64 [U, R], as the next `decode_step` of the draft would get them.
        """
        last, cache = self.code_input(tokens, parents, cache, self.n_levels - 1)
        ends, cache = self.step_decoder(last[:, :, None] + self.end_embedding, memory, cache)
        return self._reflection_logits(ends[:, :, 0]), cache

    def correct_step(
        self, labels: Labels, tokens: torch.Tensor | None, parents: torch.Tensor, cache: Cache, memory: Memory
    ) -> tuple[torch.Tensor, Cache]:
        """One step of a correction, as `decode_step`: logits [U, R, C] of the next code, and the cache to hand back.

        At the start tokens is None and parents [U, R] names the draft that each correction starts from, with its
        labels [U, R]; later the labels are not read again.
        """
        level = cache.length - self.n_levels - 1
        if tokens is None:
            x, cache = self._values(labels) + self.start_input(memory), cache.follow(parents)
        else:
            x, cache = self.code_input(tokens, parents, cache, level - 1)
        return self.write(x + self.level_embedding[level] + self.correction_embedding[level], level, memory, cache)

    def _template_inputs(
        self,
        drafts: torch.Tensor,
        labels: Labels,
        corrections: torch.Tensor,
        encoded: Encoded,
        last_seen: torch.Tensor,
    ) -> torch.Tensor:
        """Inputs [U, R, P, D] of the template's three segments for items and labels [U, R]; any item for -1."""
        last = self.last_inputs(drafts, encoded) + self.end_embedding
        correction = self.target_inputs(corrections, encoded, last_seen) + self.correction_embedding
        correction = torch.cat([correction[:, :, :1] + self._values(labels)[:, :, None], correction[:, :, 1:]], dim=2)
        return torch.cat([self.target_inputs(drafts, encoded, last_seen), last, correction], dim=2)

    def _template_logits(
        self,
        target: torch.Tensor,
        targets: torch.Tensor,
        template: torch.Tensor,
        corrections: torch.Tensor,
        encoded: Encoded,
        last_seen: torch.Tensor,
    ) -> TemplateLogits:
        """Logits from the states [U, R, L, D] that write the targets, and those of the template [U, R, P, D]."""
        reflection = self._reflection_logits(template[:, :, self.n_levels])
        own = self.target_logits(target, targets, encoded, last_seen)
        correction = self.target_logits(template[:, :, self.n_levels + 1 :], corrections, encoded, last_seen)
        return TemplateLogits(own, reflection, correction)

    def labels(self, drafts: torch.Tensor, targets: torch.Tensor, history: torch.Tensor) -> Labels:
        """The true labels [..., S] of drafts [...] for targets [...]; history: [..., T], what came before each target.

        There are none without reflection.
        """
        if not self.reflection:
            return drafts.new_zeros((*drafts.shape, 0))
        return label_drafts(self.kinds, Case(drafts, targets, history, self.codes, self.attributes))

    def slots(self, attributes: Sequence[str]) -> tuple[Slot, ...]:
        """The S label slots, given the names of the K attributes."""
        return slots_of(self.kinds, self.n_levels, attributes)

    def right_labels(self) -> torch.Tensor:
        """int64 [S]: the class of each slot that a right draft has, -1 for slots that do not judge."""
        slots = self.slots([""] * self.attributes.shape[1])
        right = [len(slot.classes) - 1 if slot.judges else -1 for slot in slots]
        return torch.tensor(right, device=self.codes.device)

    def _values(self, labels: Labels) -> torch.Tensor:
        """What BOS3 carries [..., D]: the sum of the labels' embeddings; nothing without reflection."""
        embedded = torch.zeros((), device=labels.device).expand(*labels.shape[:-1], self.config.width)
        start = 0
        for kind in self.kinds:
            embedding = getattr(self, f"{kind.name}_embedding")
            if kind.per_attribute:
                slots = torch.arange(len(embedding), device=labels.device)
                embedded = embedded + embedding[slots, labels[..., start : start + len(embedding)]].sum(dim=-2)
                start += len(embedding)
            else:
                embedded, start = embedded + embedding[labels[..., start]], start + 1
        return embedded

    def _reflection_logits(self, ends: torch.Tensor) -> Reflection | None:
        """What the states [U, R, D] at the end of drafts say of them; nothing without reflection."""
        if not self.reflection:
            return None
        with torch.autocast(ends.device.type, enabled=False):
            ends, said = self.decoder_norm(ends).float(), []
            for kind in self.kinds:
                head = getattr(self, f"{kind.name}_head")
                logits = torch.einsum("...d,kvd->...kv", ends, head) if kind.per_attribute else ends @ head.T
                said.append(logits if kind.per_attribute else logits[..., None, :])
            return Reflection(tuple(said))
