"""Learn to correct by reward: GRPO on whole generate-reflect-correct trajectories (GRC_RL; paper section 4.2)."""

import copy
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from redraft.checkpoint import weights_fingerprint
from redraft.data.loader import every_prefix
from redraft.data.split import sample_users, split_of
from redraft.data.store import load_dataset
from redraft.decode.correction import Correction
from redraft.decode.merge import MergePolicy
from redraft.device import use_half
from redraft.model.template import GRC
from redraft.recommender import GenerativeRecommender, SelfCorrectingRecommender, load
from redraft.records import (
    MAX_COUNT,
    Batch,
    Holdout,
    InputError,
    Interactions,
    check_above,
    check_between,
    check_least,
)
from redraft.stored import learnt_from, read_settings
from redraft.terminal import plain_console
from redraft.tokenizer.trie import Trie
from redraft.train.processes import join_processes
from redraft.train.progress import read_metrics
from redraft.train.rewards import RewardWeights, check_weights
from redraft.train.rollout import Experience, roll_out, trajectory_losses
from redraft.train.run import Learner, Losses, Run, begin
from redraft.train.settings import RunConfig, check_folder, check_shared, fitted, keep_settings, say_trained
from redraft.train.sft import validate
from redraft.train.start import check_backbone, check_events, only_fold

__all__ = [
    "GRPOConfig",
    "check_settings",
    "check_start",
    "collapse",
    "grpo",
    "main",
    "policy_losses",
]

RECALLS = (10, 50, 200)


@dataclass(frozen=True, kw_only=True)
class GRPOConfig(RunConfig):
    """Train a supervised GRC model further, by the reward of its own trajectories."""

    sft: Path
    """Run folder of the supervised model (recipe grc): the first policy, the reference and the first candidate."""
    ids: Path | None = None
    """The semantic IDs that it must have [semantic_ids.safetensors in the data-set folder]."""
    fold: tuple[int, int] | None = None
    """I N: roll out on the users whose number is I modulo N, left out of the model's training by `--fold I N`."""
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
    """Training events per batch, each with its history, over all processes."""
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
    max_kl: float = 5.0
    """Stop when a trajectory is so many nats away from the reference on average."""
    min_entropy: float = 0.3
    """Stop when drafts or corrections keep less than this share of the reference's entropy."""
    evaluate_every: int = 25
    """Batches between evaluations on validation, where the best weights by NDCG@10 of the corrected lists are kept."""
    keep_start: bool = True
    """Keep the start's weights if none that were trained are better; False keeps the best of those that were."""
    keep_tail: float = 1.0
    """Share of the start's recall at the longest list that weights must keep to count as best; 0 does not ask."""
    evaluate_users: int = 2000
    """Users of each evaluation on validation, drawn once by seed."""
    evaluate_beams: int = 200
    """Beam budget of each such evaluation; recalls up to this length are logged."""
    evaluate_budget: int = 50
    """Drafts that may be corrected there."""
    policy: MergePolicy = "union-logsumexp"
    """How drafts and corrections become one list there."""
    save_every: int = 25
    """Batches between states from which a killed run can go on; one is also saved after every evaluation."""


def main(config: GRPOConfig) -> None:
    """Train, say what was written and what to run next."""
    check_settings(config)
    dataset = load_dataset(config.data)
    config = fitted(config, dataset.catalogue.n_items, "evaluate_beams")
    config = fitted(config, config.evaluate_beams, "evaluate_budget", "beams")
    accelerator = join_processes()
    correction = Correction(budget=config.evaluate_budget, policy=config.policy)
    loaded = load(config.sft, beams=config.evaluate_beams, device=str(accelerator.device), correction=correction)
    start = check_start(config.sft, loaded, config.fold)
    check_backbone(config.sft, start, config.data, dataset, config.ids)
    if config.distinct and config.group > start.ids.n_items:
        raise InputError(f"group is {config.group}, but there are only {start.ids.n_items} distinct drafts; lower it")
    if config.near_miss > start.ids.n_levels:
        raise InputError(f"near_miss is {config.near_miss}, but an item has {start.ids.n_levels} codes; lower it")
    split = split_of(dataset)
    train = only_fold(split.train, config.fold)
    check_events(train, config.data)
    fingerprints: dict[str, Any] = {"data": dataset.fingerprint, "semantic_ids": start.ids.fingerprint}
    fingerprints["learnt"] = learnt_from(dataset.fingerprint, config.sft)
    fingerprints["sft"] = weights_fingerprint(start.model)
    check_folder(asdict(config), fingerprints)
    keep_settings(asdict(config), fingerprints)
    collapsed = grpo(train, split.validation, start, config)
    if collapsed and accelerator.is_main_process:
        plain_console().print(f"stopped early: {collapsed}")
    say_trained(config.data, config.sft, config.out)


def check_settings(config: GRPOConfig) -> None:
    """Raise InputError for settings that cannot work on any data, before any work is done."""
    check_weights(config.reward)
    check_shared(vars(config))
    if config.group < 2:
        raise InputError(f"group is {config.group}: a group of one has no one to be compared with; it must be >= 2")
    check_between(1, MAX_COUNT, group=config.group, inner_steps=config.inner_steps)
    check_least(RECALLS[0], evaluate_beams=config.evaluate_beams)
    check_least(0, near_miss=config.near_miss, kl_weight=config.kl_weight, sft_weight=config.sft_weight)
    check_least(0, max_kl=config.max_kl, min_entropy=config.min_entropy, keep_tail=config.keep_tail)
    check_above(0, learning_rate=config.learning_rate, temperature=config.temperature, clip_ratio=config.clip_ratio)


def check_start(
    run: Path, loaded: GenerativeRecommender, fold: tuple[int, int] | None = None
) -> SelfCorrectingRecommender:
    """The recommender of a run to start from.

    Raises InputError unless it reflects on its drafts and, for a fold, was trained without that fold's users.
    """
    if not isinstance(loaded, SelfCorrectingRecommender) or not loaded.model.reflection:
        raise InputError(f"{run}: its model has no reflection to learn from; train one with `redraft train grc`")
    if fold is not None:
        left_out = read_settings(run).config.get("fold")
        if left_out != list(fold):
            wanted = f"--fold {fold[0]} {fold[1]}"
            raise InputError(f"{run}: trained with fold {left_out}, not without these users; train it with `{wanted}`")
    return loaded


def grpo(train: Interactions, validation: Holdout, start: SelfCorrectingRecommender, config: GRPOConfig) -> str | None:
    """Train from the start's weights, and keep the best in out/model.safetensors; the start is the first candidate.

    Validated are lists as the start makes them. Writes and resumes as `redraft.train.pretrain`; what the log calls an
    epoch is `evaluate_every` batches.
    Returns why the run was stopped if the policy collapsed.
    Raises InputError if the loss stops being finite; the last good weights stay.
    """
    device = join_processes().device
    half = use_half(config.precision, device)
    reference = start.model.eval().requires_grad_(False)
    network = copy.deepcopy(reference).requires_grad_(True)
    windows = every_prefix(train, reference.config.history)
    assert len(windows), "events to roll out on"
    sample = sample_users(validation, config.evaluate_users, config.seed)
    recommender = SelfCorrectingRecommender(
        network, start.ids, start.catalogue, beams=start.beams, half=half, correction=start.correction
    )
    losses = partial(policy_losses, trie=start.trie, config=config)
    run = begin(config, recommender, Learner(network, losses), {"model": network}, config.steps)
    recalls = [k for k in RECALLS if k <= start.beams] or [RECALLS[0]]
    if run.main and not read_metrics(run.log):
        metrics = validate(recommender, sample, recalls)
        run.keep_best(metrics["N@10"])
        if not config.keep_start:
            run.at.best = -math.inf
        run.write_line({"epoch": 0, "step": 0, "seconds": 0.0} | metrics)
        run.save()
    with run.progress() as advance:
        while run.at.step < config.steps or run.at.batch > 0:
            left = min(config.evaluate_every - run.at.batch, config.steps - run.at.step)
            for batch in run.batches(train, windows, config.users, left):
                batch = batch.to(device)
                with run.autocast:
                    experience = roll_out(
                        network,
                        reference,
                        batch,
                        start.trie,
                        config.reward,
                        group=config.group,
                        temperature=config.temperature,
                        distinct=config.distinct,
                        near_miss=config.near_miss,
                    )
                means = _learn(run, batch, experience, config.inner_steps)
                shown = {"reward": means["reward"], "KL": means["kl"], "draft entropy": means["entropy draft"]}
                advance(" ".join([*(f"{name} {x:.3f}" for name, x in shown.items()), *run.judged()]))
                if collapsed := collapse(means, run.at.step, max_kl=config.max_kl, min_entropy=config.min_entropy):
                    if run.main:
                        run.write_line(run.at.line())
                    return collapsed
            metrics = validate(recommender, sample, recalls) if run.main else {}
            run.end_epoch(metrics, eligible=_keeps_tail(run.log, metrics, f"R@{recalls[-1]}", config.keep_tail))
    return None


def policy_losses(network: GRC, batch: Batch, experience: Experience, *, trie: Trie, config: GRPOConfig) -> Losses:
    """The loss of the users of a batch, of whom some may stand there for another process's sake."""
    losses, stats = trajectory_losses(
        network,
        batch,
        experience,
        trie=trie,
        temperature=config.temperature,
        clip_ratio=config.clip_ratio,
        kl_weight=config.kl_weight,
        sft_weight=config.sft_weight,
        correction_weight=config.correction_weight,
    )
    has_loss = batch.n_targets > 0
    return Losses((losses * has_loss).sum(), {name: (stat * has_loss).sum() for name, stat in stats.items()})


def _learn(run: Run, batch: Batch, experience: Experience, inner_steps: int) -> dict[str, float]:
    """Several steps on one batch of rollouts; what to log, as means over its users."""
    sums: dict[str, float] = {}
    for _ in range(inner_steps):
        run.learn(batch, experience)
        sums = {name: sums.get(name, 0.0) + x / inner_steps for name, x in run.descend().items()}
    run.counted(sums)
    return {name: total / run.count.item() for name, total in sums.items()}


def _keeps_tail(log: Path, metrics: Mapping[str, float], tail: str, share: float) -> bool:
    """Whether a candidate has kept that share of the start's longest recall, with which the log begins."""
    return not metrics or metrics[tail] >= share * read_metrics(log)[0][tail]


def collapse(means: dict[str, float], step: int, *, max_kl: float, min_entropy: float) -> str | None:
    """In one line why a policy is no longer worth training, or None."""
    if means["kl"] > max_kl:
        return f"at step {step} the KL divergence from the start is {means['kl']:.2f} nats, above max_kl = {max_kl}"
    for segment in ("draft", "correction"):
        entropy, first = means[f"entropy {segment}"], means[f"reference entropy {segment}"]
        if entropy < min_entropy * first:
            return f"at step {step} the {segment}'s entropy is {entropy:.2f}, below {min_entropy} of {first:.2f}"
    return None
