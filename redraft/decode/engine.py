"""A recommendation from encoder to merged list as one program of fixed shapes, and the engine that runs it.

Nothing in the program asks the device for a value or branches on one: what is not needed is masked. So a batch of a
given shape can be captured once as a CUDA graph, or exported, and evaluation and serving run the same code.
"""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar, cast

import torch

from redraft.decode.beam import Blocked, Decoder, beam_search, block
from redraft.decode.correct import Corrector, correct, draft, ranked
from redraft.decode.correction import CorrectionPlan
from redraft.decode.verify import verified
from redraft.prefix_tree import PrefixTree
from redraft.records import InputError

__all__ = ["BUCKETS", "CUDA_BUCKETS", "Engine", "Plan", "Program", "Searchable", "avoided", "rank"]

Memory = TypeVar("Memory")
Cache = TypeVar("Cache")
Program = Callable[..., tuple[torch.Tensor, ...]]

BUCKETS = (1, 2, 4, 8, 16)
CUDA_BUCKETS = (1, 8, 64, 256)
WARM_UPS = 3
_GRAPHS = threading.Lock()
"""Held from filling a graph's inputs to copying its outputs, which all callers share, and while one is captured, when
no other may run."""


class Searchable(Decoder[Memory, Cache], Protocol[Memory, Cache]):
    """What the program asks of a model: to read histories, the steps of a search, and to judge what it found."""

    def remember(self, history: torch.Tensor) -> Memory:
        """What a search reads at every step, from histories int64 [U, T], most recent last, -1 pads."""
        ...

    def judge(self, memory: Memory, items: torch.Tensor) -> torch.Tensor:
        """Logits [U, R] of items [U, R] as wholes; only asked for by a plan with trust in them."""
        ...


@dataclass(frozen=True)
class Plan:
    """What a program is made for: k items from n_beams beams, with products in bfloat16 or not, corrected or not.

    trust: weight of the logits of the judge, a verifier or an item head, see redraft.decode.verify.verified; 0 for a
    model without one.
    """

    k: int
    n_beams: int
    half: bool
    correction: CorrectionPlan | None
    trust: float = 0.0
    judge: str = ""


def avoided(trie: PrefixTree, seen: torch.Tensor, allow: torch.Tensor | None) -> Blocked | None:
    """What the search must avoid, see redraft.decode.beam.block: nothing if seen is [U, 0] and all is allowed."""
    return block(trie, seen, allow) if seen.shape[1] > 0 or allow is not None else None


def rank(
    model: "Searchable[Memory, Cache]",
    trie: PrefixTree,
    plan: Plan,
    history: torch.Tensor,
    seen: torch.Tensor,
    allow: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The whole of it: items int64 [U, k] and scores float32 [U, k], best first, -1 and -inf where there are fewer.

    model: with a plan to correct, one that is also a redraft.decode.correct.Corrector.
    history: int64 [U, T], most recent last, -1 pads. seen: int64 [U, S], items to leave out, -1 pads. allow: None, or
    bool [1 or U, N].
    """
    with torch.autocast(history.device.type, torch.bfloat16, enabled=plan.half):
        memory, blocked = model.remember(history), avoided(trie, seen, allow)
        items, scores = _written(model, memory, trie, plan, len(history), blocked)
        if plan.trust:
            return verified(items, scores, model.judge(memory, items), plan.trust, plan.k)
        return items[:, : plan.k], scores[:, : plan.k]


def _written(
    model: "Searchable[Memory, Cache]",
    memory: Memory,
    trie: PrefixTree,
    plan: Plan,
    n_users: int,
    blocked: Blocked | None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Items [U, n_beams] and scores, of drafts alone or merged with their corrections."""
    how = plan.correction
    if how is None:
        beams = beam_search(model, memory, trie, n_users, plan.n_beams, blocked=blocked)
        return beams.items, beams.log_probs
    corrector = cast("Corrector[Memory, Cache]", model)
    drafted = draft(corrector, memory, trie, n_users, plan.n_beams, blocked=blocked)
    batch = correct(
        corrector,
        memory,
        trie,
        drafted,
        how.n_beams,
        budget=how.budget,
        alpha=how.alpha,
        hypotheses=how.hypotheses,
        blocked=blocked,
    )
    return ranked(batch, how.policy, plan.n_beams)


class Engine:
    """Runs a program on batches of any size up to the largest bucket, always in one of a few shapes.

    program: takes tensors whose first dimension is users (or 1, for all users) and gives tensors [U, ...]; the second
    input's width varies. A batch is filled up to the next bucket with users without history, and the second input to a
    power of two. capture: on a GPU, capture every shape as a graph when it is first met, and replay it after that; not
    for machine code, which launches its kernels itself.
    """

    def __init__(self, program: Program, device: torch.device, buckets: Sequence[int] = (), *, capture: bool = True):
        self.program = program
        self.device = device
        self.captures = capture and device.type == "cuda"
        self.buckets = tuple(sorted(buckets)) or (CUDA_BUCKETS if device.type == "cuda" else BUCKETS)
        self._graphs: dict[tuple[torch.Size, ...], _Graph] = {}
        self._pool: Any = None
        if device.type == "cpu":
            _keep_freed_memory()

    @torch.inference_mode()
    def __call__(self, history: torch.Tensor, seen: torch.Tensor, *rest: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """The program's answer for U users; see `rank` for the inputs.

        Raises InputError for more users than the largest bucket holds.
        """
        n_users = len(history)
        bucket = next((size for size in self.buckets if size >= n_users), None)
        if bucket is None:
            raise InputError(
                f"a batch of {n_users} users, but the engine's buckets are {', '.join(map(str, self.buckets))}; "
                "split the batch or make the engine with a larger bucket"
            )
        width = seen.shape[1]
        seen = torch.nn.functional.pad(seen, (0, (1 << (width - 1).bit_length()) - width if width else 0), value=-1)
        rest = tuple(_filled(x, bucket, 1) if len(x) == n_users > 1 else x for x in rest)
        inputs = tuple(x.to(self.device) for x in (_filled(history, bucket, -1), _filled(seen, bucket, -1), *rest))
        if not self.captures:
            return tuple(x[:n_users] for x in self.program(*inputs))
        with _GRAPHS:
            return tuple(x[:n_users] for x in self._graph(inputs)(*inputs))

    def _graph(self, inputs: tuple[torch.Tensor, ...]) -> "_Graph":
        shapes = tuple(x.shape for x in inputs)
        if shapes not in self._graphs:
            self._pool = self._pool or torch.cuda.graph_pool_handle()
            self._graphs[shapes] = _Graph(self.program, inputs, self._pool)
        return self._graphs[shapes]


class _Graph:
    """A program captured on a GPU for inputs of one shape; it reads the model's weights where they are.

    pool: memory that graphs share. None may run before what another one wrote has been copied: so a call gives copies,
    made on the stream that all run on.
    """

    def __init__(self, program: Program, inputs: tuple[torch.Tensor, ...], pool: Any):
        self.inputs = tuple(x.clone() for x in inputs)
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(WARM_UPS):
                program(*self.inputs)
        torch.cuda.current_stream().wait_stream(side)
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph, pool=pool):
            self.outputs = program(*self.inputs)

    def __call__(self, *inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        for kept, new in zip(self.inputs, inputs):
            kept.copy_(new)
        self.graph.replay()
        return tuple(x.clone() for x in self.outputs)


def _filled(x: torch.Tensor, n_rows: int, value: int) -> torch.Tensor:
    return torch.nn.functional.pad(x, (0, 0, 0, n_rows - len(x)), value=value)


def _keep_freed_memory() -> None:
    """Let glibc keep what tensors free, for the next ones.

    It gives blocks above a threshold back to the system, which then clears new pages for every intermediate result: up
    to a quarter of a search. Freeing one block of just under 32 MiB raises the threshold to that size (mallopt(3)).
    """
    torch.empty((32 << 20) - (1 << 16), dtype=torch.uint8)
