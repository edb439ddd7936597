"""The generate-reflect-correct template on top of the backbone (paper section 4.1): draft | reflection | correction."""

from typing import NamedTuple

import torch
from torch import nn

from redraft.model.backbone import Backbone, Cache, Encoded, Memory, ModelConfig, last_places
from redraft.model.prefixes import PrefixTree
from redraft.records import Labels, Reflection

__all__ = ["GRC", "TemplateLogits", "reflection_labels"]


class TemplateLogits(NamedTuple):
    """Teacher-forced logits of one template a target: target and correction [U, R, L, C], and the reflection.

    reflection is None for a model without reflection labels.
    """

    target: torch.Tensor
    reflection: Reflection | None
    correction: torch.Tensor


def reflection_labels(
    draft: torch.Tensor, target: torch.Tensor, draft_attributes: torch.Tensor, target_attributes: torch.Tensor
) -> Labels:
    """Where drafts first go wrong and which attributes are the target's (paper Eq. 4 and 5).

    draft, target: codes [..., L]. Attributes: [..., K], -1 = unknown, which matches nothing.
    """
    wrong = draft != target
    location = torch.where(wrong.any(dim=-1), wrong.byte().argmax(dim=-1), draft.shape[-1])
    match = (draft_attributes == target_attributes) & (target_attributes >= 0)
    return Labels(location, match.long())


class GRC(Backbone):
    """The backbone, and what it takes to reflect on a draft and to correct it.

    A template is one causal sequence of 2L + 1 positions: BOS1 and the draft's L codes, the last of which is also BOS2,
    then BOS3 and all but the last code of the correction. The K + 1 slots share the position BOS2, each with a head of
    its own: labels are independent given the draft (Eq. 8), and reach the correction as values in BOS3 (Eq. 9). The
    delimiters EOF1 to EOF3 are known beforehand and take no position.

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
    ):
        super().__init__(config, codes, codebook_size, attributes, tree)
        self.reflection = reflection
        n_attributes, width = attributes.shape[1], config.width
        self.end_embedding = nn.Parameter(torch.zeros(width))
        self.correction_embedding = nn.Parameter(torch.zeros(self.n_levels, width))
        if reflection:
            self.location_head = nn.Parameter(torch.zeros(self.n_levels + 1, width))
            self.match_head = nn.Parameter(torch.zeros(n_attributes, 2, width))
            self.location_embedding = nn.Parameter(torch.zeros(self.n_levels + 1, width))
            self.match_embedding = nn.Parameter(torch.zeros(n_attributes, 2, width))
        target, template = (torch.ones(n, n).tril() for n in (self.n_levels, 2 * self.n_levels + 1))
        self.register_buffer("training_mask", torch.block_diag(target, template).bool(), persistent=False)

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
        last_seen = encoded.place[-1:]
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
        correction = self.target_logits(template[:, :, self.n_levels + 1 :], corrections, encoded, last_seen)
        return TemplateLogits(self.target_logits(target, targets, encoded, last_seen), reflection, correction)

    def _values(self, labels: Labels) -> torch.Tensor:
        """What BOS3 carries [..., D]: the sum of the labels' embeddings; nothing without reflection."""
        if not self.reflection:
            return torch.zeros((*labels.location.shape, self.config.width), device=labels.location.device)
        attributes = torch.arange(labels.match.shape[-1], device=labels.match.device)
        return self.location_embedding[labels.location] + self.match_embedding[attributes, labels.match].sum(dim=-2)

    def _reflection_logits(self, ends: torch.Tensor) -> Reflection | None:
        """What the states [U, R, D] at the end of drafts say of them; nothing without reflection."""
        if not self.reflection:
            return None
        with torch.autocast(ends.device.type, enabled=False):
            ends = self.decoder_norm(ends).float()
            return Reflection(ends @ self.location_head.T, torch.einsum("...d,kvd->...kv", ends, self.match_head))
