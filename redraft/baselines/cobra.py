"""COBRA: a sparse ID and then a dense vector for each item in turn (Yang et al. 2025, arXiv 2503.02453).

The sparse ID is one code: the item's cluster under k-means (FAISS) of the texts. A catalogue without words is one
cluster. Inside a cluster of a few dozen items the nearest neighbours are found by products with all of them: an index
would find the same, but has to be built anew for each state of the weights, and lists hold whole clusters anyway.
"""

from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import nn

from redraft.baselines.dssm import in_batch_softmax
from redraft.baselines.neural import Facts, Network, NeuralRecommender, Training
from redraft.baselines.parts import CausalBlock, ItemFeatures
from redraft.dropout import Dropout
from redraft.model.hstu import may_attend
from redraft.records import Batch, check_above, check_least
from redraft.tokenizer.kmeans import nearest_codes, residual_kmeans

__all__ = ["COBRA", "COBRASettings"]


@dataclass(frozen=True)
class COBRASettings:
    """The shape of the network, the sparse IDs, and how lists are made of both representations."""

    clusters: int = 256
    """Sparse IDs C, at most; never more than items."""
    beams: int = 32
    """Sparse IDs R that a dense vector is generated for and whose items are searched."""
    tau: float = 0.9
    """BeamFusion: what the log-probability of a sparse ID is multiplied by."""
    psi: float = 16.0
    """BeamFusion, and the contrast it comes from: what cosines are multiplied by."""
    history: int = 50
    """Items of the history that it reads, most recent last."""
    width: int = 128
    """Width D of dense vectors and residual stream."""
    feed_forward: int = 640
    """Hidden width of the feed-forward layers."""
    heads: int = 4
    """Attention heads."""
    layers: int = 3
    """Blocks."""
    dropout: float = 0.3
    """Dropout on embeddings and residual branches."""
    training: Training = field(default_factory=Training)
    """The training loop."""


class COBRANetwork(Network):
    """Causal blocks over ID, vector, ID, vector, ...; a vector's state tells the next ID, an ID's state its vector.

    codes: int64 [N], the sparse ID of each item.
    """

    counts: torch.Tensor
    codes: torch.Tensor

    def __init__(self, settings: COBRASettings, facts: Facts):
        super().__init__()
        check_least(1, clusters=settings.clusters, beams=settings.beams, history=settings.history)
        check_above(0, tau=settings.tau, psi=settings.psi)
        self.history = settings.history
        self.n_beams, self.tau, self.psi = settings.beams, settings.tau, settings.psi
        width = settings.width
        self.register_buffer("counts", facts.counts, persistent=False)
        self.register_buffer("codes", sparse_ids(facts, settings.clusters, settings.training.seed))
        self.items = ItemFeatures(facts, width)
        self.code = nn.Embedding(min(settings.clusters, len(facts.counts)), width)
        self.place = nn.Parameter(torch.randn(settings.history + 1, 2, width) * width**-0.5)
        shape = width, settings.heads, settings.feed_forward, settings.dropout
        self.blocks = nn.ModuleList(CausalBlock(*shape) for _ in range(settings.layers))
        self.norm = nn.LayerNorm(width)
        self.to_code, self.to_vector = nn.Linear(width, width), nn.Linear(width, width)
        self.dropout = Dropout(settings.dropout)
        nn.init.normal_(self.code.weight, std=width**-0.5)

    def vectors(self) -> torch.Tensor:
        """The dense vectors of all items, [N, D], unit rows."""
        return F.normalize(self.items().float(), dim=-1)

    def states(
        self, history: torch.Tensor, following: torch.Tensor, vectors: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """What has been understood of histories [U, T], each followed by R alternative sparse IDs [U, R].

        vectors: [N, D] of all items. Returns states at the dense vectors [U, T, D], which the next ID is told from, and
        at the sparse IDs [U, T + R, D], which their dense vectors are told from.
        """
        n_places, n_following = history.shape[1], following.shape[1]
        real, item = (history >= 0)[..., None, None], history.clamp(min=0)
        pairs = torch.stack([self.code(self.codes[item]), F.embedding(item, vectors)], dim=2)
        scale = self.place.shape[-1] ** 0.5
        past = (pairs * real * scale + self.place[-1 - n_places : -1]).flatten(1, 2)
        x = torch.cat([past, self.code(following) * scale + self.place[-1, 0]], dim=1)
        x, allowed = self.dropout(x), may_attend_pairs(history, n_following)
        for block in self.blocks:
            x = block(x, allowed)
        past, next_ids = self.norm(x).split([2 * n_places, n_following], dim=1)
        at_ids, at_vectors = past.unflatten(1, (n_places, 2)).unbind(dim=2)
        return at_vectors, torch.cat([at_ids, next_ids], dim=1)

    def loss(self, batch: Batch) -> torch.Tensor:
        """See `Network.loss`; cross-entropy of the sparse ID plus contrast of the dense vector."""
        vectors = self.vectors()
        following, has_loss = batch.predictions()
        at_vectors, at_ids = self.states(batch.history, self.codes[batch.target][:, None], vectors)
        targets = following[has_loss]
        sparse = F.cross_entropy(self.code_logits(at_vectors[has_loss]), self.codes[targets], reduction="sum")
        dense = self.dense_vectors(at_ids[:, 1:][has_loss])
        return sparse + in_batch_softmax(self.psi * dense, vectors[targets], targets, self.counts)

    def code_logits(self, states: torch.Tensor) -> torch.Tensor:
        """[..., C] from states at dense vectors [..., D]."""
        return (self.to_code(states) @ self.code.weight.T).float()

    def dense_vectors(self, states: torch.Tensor) -> torch.Tensor:
        """Unit rows [..., D] from states at sparse IDs [..., D]."""
        return F.normalize(self.to_vector(states).float(), dim=-1)

    def score(self, history: torch.Tensor) -> torch.Tensor:
        """See `Network.score`: BeamFusion, in logs. What stands in no searched cluster comes after all that does.

        Such items are compared with the dense vector of the likeliest sparse ID.
        """
        vectors = self.vectors()
        sizes = self.codes.bincount(minlength=self.code.num_embeddings)
        logits = self.code_logits(self.states(history, history[:, :0], vectors)[0][:, -1])
        beam_scores = logits.masked_fill(sizes == 0, -torch.inf).log_softmax(dim=-1)
        beams = beam_scores.topk(min(self.n_beams, int((sizes > 0).sum()))).indices
        dense = self.dense_vectors(self.states(history, beams, vectors)[1][:, history.shape[1] :])
        return beam_fusion(beam_scores, beams, dense, vectors, self.codes, tau=self.tau, psi=self.psi)


class COBRA(NeuralRecommender):
    """See COBRASettings."""

    kind = "cobra"
    Settings = COBRASettings
    Network = COBRANetwork
    read = True


def sparse_ids(facts: Facts, clusters: int, seed: int) -> torch.Tensor:
    """int64 [N]: the cluster of each item's text vector among at most `clusters`; all 0 where there are no texts."""
    if not facts.vectors.shape[1]:
        return torch.zeros_like(facts.counts)
    vectors = facts.vectors.cpu().numpy()
    books = residual_kmeans(vectors, levels=1, codebook_size=min(clusters, len(vectors)), seed=seed)
    return torch.from_numpy(nearest_codes(vectors, books)[:, 0]).long()


def may_attend_pairs(history: torch.Tensor, n_following: int) -> torch.Tensor:
    """bool [U, 1, 2T + R, 2T + R] for histories [U, T] as pairs of ID and vector, followed by R alternative IDs.

    Each position may attend to itself and to what comes before it; of the R positions none attends to another.
    """
    return may_attend(F.pad(history.repeat_interleave(2, dim=1), (0, n_following), value=-1))


def beam_fusion(
    beam_scores: torch.Tensor,
    beams: torch.Tensor,
    dense: torch.Tensor,
    vectors: torch.Tensor,
    codes: torch.Tensor,
    *,
    tau: float,
    psi: float,
) -> torch.Tensor:
    """Log of softmax(tau x beam score) x softmax(psi x cosine), [U, N], of items with sparse IDs [N], vectors [N, D].

    beam_scores: [U, C], log-probabilities of all sparse IDs. beams: int64 [U, R], those searched, likeliest first.
    dense: [U, R, D], a vector for each. The first softmax is over the beams, the second over the items of a cluster.
    Items of other clusters are compared with the first dense vector, and lowered until all come after those searched.
    """
    n_users, n_codes = beam_scores.shape
    queries = dense[:, :1].repeat(1, n_codes, 1)
    queries.scatter_(1, beams[..., None].expand_as(dense), dense)
    sparse = tau * beam_scores
    sparse = sparse - sparse.gather(1, beams).logsumexp(dim=1, keepdim=True)
    fused = sparse.new_empty(n_users, len(codes))
    for code in codes.unique().tolist():
        members = (codes == code).nonzero()[:, 0]
        cosines = queries[:, code] @ vectors[members].T
        fused[:, members] = sparse[:, code, None] + (psi * cosines).log_softmax(dim=1)
    searched = torch.zeros_like(beam_scores, dtype=torch.bool).scatter_(1, beams, True)[:, codes]
    lowest = fused.masked_fill(~searched, torch.inf).amin(dim=1, keepdim=True)
    highest = fused.masked_fill(searched, -torch.inf).amax(dim=1, keepdim=True)
    return torch.where(searched, fused, fused - (highest - lowest + 1).clamp(min=0))
