"""Learn to correct by reward: GRPO on whole generate-reflect-correct trajectories (GRC_RL; paper section 4.2)."""

import copy
import json
import math
import time
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import torch
import tyro
from accelerate import Accelerator
from torch import nn
from torch.optim import Optimizer

from redraft.checkpoint import save_backbone, weights_fingerprint
from redraft.data.loader import batches, every_prefix
from redraft.data.split import leave_one_out, sample_users
from redraft.data.store import load_dataset
from redraft.decode.merge import MergePolicy
from redraft.decode.rewriting import Correction
from redraft.device import Precision, use_half
from redraft.recommender import GenerativeRecommender, SelfCorrectingRecommender, load
from redraft.records import Batch, Holdout, InputError, Interactions, check_above, check_least
from redraft.stored import learnt_from, read_settings
from redraft.terminal import next_command, plain_console
from redraft.train.processes import join_processes
from redraft.train.progress import log_metrics, progress_bar
from redraft.train.rewards import RewardWeights, check_weights
from redraft.train.rollout import Experience, Objective, roll_out
from redraft.train.settings import check_folder, check_shared, fitted, keep_settings
from redraft.train.sft import validate
from redraft.train.start import check_backbone, check_events, only_fold
from redraft.train.state import Standing, begin_run, save_state
from redraft.train.step import descend, new_optimizer, set_learning_rate

__all__ = [
    "GRPOConfig",
    "check_settings",
    "check_start",
    "collapse",
    "grpo",
    "main",
]

RECALLS = (10, 50, 200)


@dataclass(frozen=True)
class GRPOConfig:
    """Train a supervised GRC model further, by the reward of its own trajectories."""

    data: Annotated[Path, tyro.conf.Positional]
    """Data-set folder."""
    out: Annotated[Path, tyro.conf.Positional]
    """Run folder to write."""
    sft: Path
    """Run folder of the supervised model (recipe grc): the first policy, the reference and the first candidate."""
    ids: Path | None = None
    """The semantic IDs that it must have [semantic_ids.safetensors in the data-set folder]."""
    fold: tuple[int, int] | None = None
    """I N: roll out on the users whose number is I modulo N, left out of the model's training by `--fold I N`."""
    resume: bool = False
    """Go on where a run that was stopped left off, or start if there is none."""
    replace: bool = False
    """Lose the run that is in the folder, and start again."""
    reward: RewardWeights = field(default_factory=RewardWeights)
    """The weights of the reward's terms."""
    group: int = 16
    """Trajectories of a user, G."""
    temperature: float = 1.0
    """Of the policy that is sampled and trained."""
    distinct: bool = False
    """Draw the drafts of a group without replacement."""
    near_miss: int = 1
    """A group teaches nothing unless some draft or correction has so many right codes before the first wrong one."""
    steps: int = 100
    """Batches of users to roll out on."""
    users: int = 256
    """Training events a batch, each with its history, over all processes."""
    inner_steps: int = 2
    """Steps of the optimizer on each batch of trajectories; from the second on clipping can bind."""
    learning_rate: float = 1e-5
    """Peak of AdamW after a warm-up of 1/40 of the batches; a cosine takes it to 2 % of that."""
    clip_ratio: float = 0.15
    """Epsilon: how far the ratio to the policy that was sampled may go before its gradient stops (paper Eq. 23)."""
    kl_weight: float = 0.03
    """beta_kl: weight of the KL divergence from the reference, estimated by k3 (paper Eq. 23)."""
    sft_weight: float = 0.1
    """Weight of the supervised loss (paper Eq. 10) on the same events, with a sampled draft each; 0 leaves it out."""
    correction_weight: float = 1.2
    """Weight lambda_rc inside the supervised loss."""
    clip: float = 1.0
    """Largest norm of the gradient."""
    max_kl: float = 5.0
    """Stop when a trajectory is so many nats away from the reference on average."""
    min_entropy: float = 0.3
    """Stop when drafts or corrections keep less than this share of the reference's entropy."""
    precision: Precision = "auto"
    """bfloat16 runs matrix products under autocast, weights stay float32; auto does so where the processor can."""
    evaluate_every: int = 25
    """Batches between evaluations on validation, where the best weights by NDCG@10 of the corrected lists are kept."""
    keep_start: bool = True
    """Keep the start's weights if none that were trained are better; False keeps the best of those that were."""
    keep_tail: float = 1.0
    """Share of the start's recall at the longest list that weights must keep to count as best; 0 does not ask."""
    evaluate_users: int = 2000
    """Users of each such evaluation, drawn once by seed."""
    evaluate_beams: int = 200
    """Beam budget of each such evaluation; recalls up to this length are logged."""
    evaluate_budget: int = 50
    """Drafts that may be corrected there."""
    policy: MergePolicy = "union-logsumexp"
    """How drafts and corrections become one list there."""
    save_every: int = 25
    """Batches between states from which a killed run can go on; one is also saved after every evaluation."""
    seed: int = 0
    """Seed of order, samples and dropout."""
    tensorboard: bool = False
    """Also log to TensorBoard, in the run folder."""


def main(config: GRPOConfig) -> None:
    """Train, say what was written and what to run next."""
    check_settings(config)
    dataset = load_dataset(config.data)
    config = fitted(config, dataset.catalogue.n_items, "evaluate_beams")
    config = fitted(config, config.evaluate_beams, "evaluate_budget", "beams")
    accelerator = join_processes()
    correction = Correction(budget=config.evaluate_budget, policy=config.policy)
    found = load(config.sft, beams=config.evaluate_beams, device=str(accelerator.device), correction=correction)
    start = check_start(config.sft, found, config.fold)
    check_backbone(config.sft, start, config.data, dataset, config.ids)
    if config.distinct and config.group > start.ids.n_items:
        raise InputError(f"group is {config.group}, but there are only {start.ids.n_items} distinct drafts; lower it")
    if config.near_miss > start.ids.n_levels:
        raise InputError(f"near_miss is {config.near_miss}, but an item has {start.ids.n_levels} codes; lower it")
    split = leave_one_out(dataset.interactions)
    train = only_fold(split.train, config.fold)
    check_events(train, config.data)
    fingerprints: dict[str, Any] = {"data": dataset.fingerprint, "semantic_ids": start.ids.fingerprint}
    fingerprints["learnt"] = learnt_from(dataset.fingerprint, config.sft)
    fingerprints["sft"] = weights_fingerprint(start.model)
    check_folder(asdict(config), fingerprints)
    knobs: dict[str, Any] = {name: getattr(config, name) for name in asdict(config)}
    for name in (
        "replace",
        "data",
        "sft",
        "ids",
        "fold",
        "evaluate_users",
        "evaluate_beams",
        "evaluate_budget",
        "policy",
    ):
        del knobs[name]
    keep_settings(asdict(config), fingerprints)
    validation = sample_users(split.validation, config.evaluate_users, config.seed)
    collapsed = grpo(train, validation, start, **knobs)
    if accelerator.is_main_process:
        console = plain_console()
        if collapsed:
            console.print(f"stopped early: {collapsed}")
        console.print(f"wrote {config.out} (weights of the best validation NDCG@10, log in metrics.jsonl)")
        console.print(next_command("evaluate", config.data, "--runs", config.sft, config.out))


def check_settings(config: GRPOConfig) -> None:
    """Raise InputError for settings that cannot work on any data, before any work is done."""
    check_weights(config.reward)
    check_shared(vars(config))
    if config.group < 2:
        raise InputError(f"group is {config.group}: a group of one has no one to be compared with; give 2 or more")
    check_least(1, inner_steps=config.inner_steps)
    check_least(RECALLS[0], evaluate_beams=config.evaluate_beams)
    check_least(0, near_miss=config.near_miss, kl_weight=config.kl_weight, sft_weight=config.sft_weight)
    check_least(0, max_kl=config.max_kl, min_entropy=config.min_entropy, keep_tail=config.keep_tail)
    check_above(0, learning_rate=config.learning_rate, temperature=config.temperature, clip_ratio=config.clip_ratio)


def check_start(
    run: Path, found: GenerativeRecommender, fold: tuple[int, int] | None = None
) -> SelfCorrectingRecommender:
    """The recommender of a run to start from.

    Raises InputError unless it reflects on its drafts and, for a fold, was trained without that fold's users.
    """
    if not isinstance(found, SelfCorrectingRecommender) or not found.model.reflection:
        raise InputError(f"{run}: its model has no reflection to learn from; train one with `redraft train grc`")
    if fold is not None:
        left_out = read_settings(run).config.get("fold")
        if left_out != list(fold):
            wanted = f"--fold {fold[0]} {fold[1]}"
            raise InputError(f"{run}: trained with fold {left_out}, not without these users; train it with `{wanted}`")
    return found


def grpo(
    train: Interactions,
    validation: Holdout,
    start: SelfCorrectingRecommender,
    out: Path,
    *,
    reward: RewardWeights,
    group: int,
    temperature: float,
    distinct: bool,
    near_miss: int,
    steps: int,
    users: int,
    inner_steps: int,
    learning_rate: float,
    clip_ratio: float,
    kl_weight: float,
    sft_weight: float,
    correction_weight: float,
    clip: float,
    max_kl: float,
    min_entropy: float,
    precision: Precision,
    evaluate_every: int,
    keep_start: bool,
    keep_tail: float,
    save_every: int,
    seed: int,
    resume: bool = False,
    tensorboard: bool = False,
) -> str | None:
    """Train from the start's weights, and keep the best in out/model.safetensors; the start is the first candidate.

    validation: the users to validate on, with the start's beams and correction. Writes and resumes as
    `redraft.train.pretrain`; what the log calls an epoch is `evaluate_every` batches.
    Returns why the run was stopped if the policy collapsed.
    Raises InputError if the loss stops being finite; the last good weights stay.
    """
    accelerator = join_processes()
    half = use_half(precision, accelerator.device)
    autocast = torch.autocast(accelerator.device.type, torch.bfloat16, enabled=half)
    reference = start.model.eval().requires_grad_(False)
    network = copy.deepcopy(reference).requires_grad_(True)
    optimizer = new_optimizer(network, learning_rate, weight_decay=0.0)
    objective = Objective(network, start.trie, temperature, clip_ratio, kl_weight, sft_weight, correction_weight)
    learner, optimizer = accelerator.prepare(objective, optimizer)
    torch.manual_seed(seed + accelerator.process_index)
    windows = every_prefix(train, reference.config.history)
    assert len(windows), "events to roll out on"
    shard = {"seed": seed, "rank": accelerator.process_index, "world": accelerator.num_processes}
    rolling: dict[str, Any] = {"group": group, "temperature": temperature, "distinct": distinct, "near_miss": near_miss}
    recommender = SelfCorrectingRecommender(
        network, start.ids, start.catalogue, beams=start.beams, half=half, correction=start.correction
    )
    candidates = _Candidates(
        recommender, validation, out, keep_start=keep_start, keep_tail=keep_tail, tensorboard=tensorboard
    )
    state_file = out / "state.safetensors"
    at = begin_run(out, start.ids, start.catalogue, {"model": network}, optimizer, resume=resume)
    if accelerator.is_main_process and not candidates.first:
        candidates.consider({"epoch": 0, "step": 0, "seconds": 0.0}, at)
        save_state(state_file, {"model": network}, optimizer, asdict(at))
    started = time.monotonic() - at.seconds
    with progress_bar("train", steps, completed=at.step, shown=accelerator.is_main_process) as advance:
        while at.step < steps or at.batch > 0:
            left = min(evaluate_every - at.batch, steps - at.step)
            for batch in islice(batches(train, windows, users, epoch=at.epoch, skip=at.batch, **shard), left):
                set_learning_rate(optimizer, learning_rate, at.step, steps)
                batch = batch.to(accelerator.device)
                with autocast:
                    seen = roll_out(network, reference, batch, start.trie, reward, **rolling)
                sums, count = _learn(accelerator, learner, optimizer, batch, seen, autocast, inner_steps, clip, at.step)
                at.count(sums, count, time.monotonic() - started)
                means = {name: total / count for name, total in sums.items()}
                advance(f"reward {means['reward']:.3f} KL {means['kl']:.3f} draft entropy {means['entropy draft']:.2f}")
                if collapsed := collapse(means, at.step, max_kl=max_kl, min_entropy=min_entropy):
                    if accelerator.is_main_process:
                        log_metrics(candidates.log, at.line(), tensorboard=tensorboard)
                    return collapsed
                if accelerator.is_main_process and at.step % save_every == 0:
                    save_state(state_file, {"model": network}, optimizer, asdict(at))
            if accelerator.is_main_process:
                candidates.consider(at.line(), at)
            at.next_epoch()
            if accelerator.is_main_process:
                save_state(state_file, {"model": network}, optimizer, asdict(at))
            accelerator.wait_for_everyone()
    return None


def _learn(
    accelerator: Accelerator,
    objective: nn.Module,
    optimizer: Optimizer,
    batch: Batch,
    seen: Experience,
    autocast: torch.autocast,
    inner_steps: int,
    clip: float,
    step: int,
) -> tuple[dict[str, float], float]:
    """Several steps on one batch of rollouts: what to log, summed over its users, and how many there are."""
    asked = batch.n_targets > 0
    means: dict[str, float] = {}
    for _ in range(inner_steps):
        with autocast:
            losses, stats = objective(batch, seen)
        stats = seen.stats | stats
        sums = torch.stack([(part.float() * asked).sum() for part in (*stats.values(), asked)])
        *found, count = descend(accelerator, objective, optimizer, (losses * asked).sum(), sums, clip=clip, step=step)
        means = {name: means.get(name, 0.0) + x / inner_steps for name, x in zip(stats, found, strict=True)}
    return means, count


def collapse(means: dict[str, float], step: int, *, max_kl: float, min_entropy: float) -> str | None:
    """In one line why a policy is no longer worth training, or None."""
    if means["kl"] > max_kl:
        return f"at step {step} the KL divergence from the start is {means['kl']:.2f} nats, above max_kl = {max_kl}"
    for segment in ("draft", "correction"):
        entropy, first = means[f"entropy {segment}"], means[f"reference entropy {segment}"]
        if entropy < min_entropy * first:
            return f"at step {step} the {segment}'s entropy is {entropy:.2f}, below {min_entropy} of {first:.2f}"
    return None


@dataclass(frozen=True)
class _Candidates:
    """The weights of a recommender's model at several times, of which the best on validation are kept."""

    recommender: SelfCorrectingRecommender
    validation: Holdout
    out: Path
    keep_start: bool
    keep_tail: float
    tensorboard: bool

    @property
    def log(self) -> Path:
        return self.out / "metrics.jsonl"

    @property
    def first(self) -> str:
        """The log's line on the start, empty before that is considered."""
        return self.log.read_text(encoding="utf-8").partition("\n")[0]

    def consider(self, line: dict[str, float], at: Standing) -> None:
        """Validate the weights, save them if they are the best so far, and log a line with what was found.

        The first candidate is the start, whose longest recall no later one may fall too far below.
        """
        recalls = [k for k in RECALLS if k <= self.recommender.beams] or [RECALLS[0]]
        line = line | validate(self.recommender, self.validation, recalls)
        tail, first = f"R@{recalls[-1]}", self.first
        least = self.keep_tail * json.loads(first)[tail] if first else 0.0
        if line["N@10"] > at.best and line[tail] >= least:
            at.best = line["N@10"] if first or self.keep_start else -math.inf
            model = self.recommender.model
            save_backbone(model, self.out / "model.safetensors", self.recommender.ids, self.recommender.catalogue)
        log_metrics(self.log, line, tensorboard=self.tensorboard)
