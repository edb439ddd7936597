"""Learn to correct by reward: GRPO on whole generate-reflect-correct trajectories (GRC_RL; paper section 4.2)."""

import copy
import json
import time
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import tyro
from accelerate import Accelerator
from torch import nn
from torch.optim import Optimizer

from redraft.checkpoint import save_backbone
from redraft.data.loader import batches, every_prefix
from redraft.data.split import leave_one_out, sample_users
from redraft.data.store import load_dataset
from redraft.decode.merge import MergePolicy
from redraft.eval.evaluate import evaluate
from redraft.files import read_json, write_json
from redraft.provenance import provenance
from redraft.recommender import (
    Correction,
    GenerativeRecommender,
    Precision,
    SelfCorrectingRecommender,
    load,
    save_items,
    use_half,
)
from redraft.records import Batch, Holdout, InputError, Interactions, check_least
from redraft.terminal import next_command, plain_console
from redraft.train.processes import join_processes
from redraft.train.progress import check_tensorboard, log_metrics, progress_bar
from redraft.train.rewards import RewardWeights, check_weights
from redraft.train.rollout import Experience, Objective, roll_out
from redraft.train.sft import SFTConfig, check_backbone
from redraft.train.state import Standing, resume_run, save_state
from redraft.train.step import descend, new_optimizer, set_learning_rate

__all__ = [
    "GRPOConfig",
    "check_settings",
    "check_start",
    "collapse",
    "grpo",
    "main",
    "only_fold",
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
    reward: RewardWeights = field(default_factory=RewardWeights)
    """The weights of the reward's terms."""
    group: int = 16
    """Trajectories of a user, G."""
    temperature: float = 1.0
    """Of the policy that is sampled and trained."""
    distinct: bool = False
    """Draw the drafts of a group without replacement."""
    near_miss: int = 0
    """A group teaches nothing unless some draft or correction has so many right codes before the first wrong one."""
    steps: int = 400
    """Batches of users to roll out on."""
    users: int = 64
    """Training events a batch, each with its history, over all processes."""
    inner_steps: int = 2
    """Steps of the optimizer on each batch of trajectories; from the second on clipping can bind."""
    learning_rate: float = 2e-5
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
    evaluate_every: int = 50
    """Batches between evaluations on validation, where the best weights by NDCG@10 of the corrected lists are kept."""
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
    accelerator = join_processes()
    correction = Correction(budget=config.evaluate_budget, policy=config.policy)
    found = load(config.sft, beams=config.evaluate_beams, device=str(accelerator.device), correction=correction)
    start = check_start(config.sft, found, config.fold)
    check_backbone(SFTConfig(config.data, config.out, backbone=config.sft, ids=config.ids), start, dataset)
    if (config.out / "model.safetensors").exists() and not config.resume:
        raise InputError(f"{config.out}: holds a trained run; pass --resume to go on with it, or give another folder")
    if config.distinct and config.group > start.ids.n_items:
        raise InputError(f"group is {config.group}, but there are only {start.ids.n_items} distinct drafts; lower it")
    split = leave_one_out(dataset.interactions)
    train = only_fold(split.train, config.fold)
    knobs: dict[str, Any] = {name: getattr(config, name) for name in asdict(config)}
    for name in ("data", "sft", "ids", "fold"):
        del knobs[name]
    if accelerator.is_main_process:
        given = json.loads(json.dumps(asdict(config), default=str))
        fingerprints = {"data": dataset.fingerprint, "semantic_ids": start.ids.fingerprint}
        write_json(config.out / "config.json", {"config": given, "fingerprints": fingerprints} | provenance())
    collapsed = grpo(train, split.validation, start, **knobs)
    if accelerator.is_main_process:
        console = plain_console()
        if collapsed:
            console.print(f"stopped early: {collapsed}")
        console.print(f"wrote {config.out} (weights of the best validation NDCG@10, log in metrics.jsonl)")
        console.print(next_command("evaluate", config.data, "--runs", config.sft, config.out))


def check_settings(config: GRPOConfig) -> None:
    """Raise InputError for settings that cannot work on any data, before any work is done."""
    check_weights(config.reward)
    if config.group < 2:
        raise InputError(f"group is {config.group}: a group of one has no one to be compared with; give 2 or more")
    check_least(1, steps=config.steps, users=config.users, inner_steps=config.inner_steps, save_every=config.save_every)
    check_least(1, evaluate_every=config.evaluate_every, evaluate_users=config.evaluate_users)
    check_least(RECALLS[0], evaluate_beams=config.evaluate_beams)
    check_least(0, kl_weight=config.kl_weight, sft_weight=config.sft_weight, correction_weight=config.correction_weight)
    check_least(0, max_kl=config.max_kl, min_entropy=config.min_entropy, keep_tail=config.keep_tail, seed=config.seed)
    for name in ("temperature", "clip_ratio", "learning_rate"):
        if not getattr(config, name) > 0:
            raise InputError(f"{name} is {getattr(config, name)}; give a number above 0")
    if config.tensorboard:
        check_tensorboard()


def check_start(
    run: Path, found: GenerativeRecommender, fold: tuple[int, int] | None = None
) -> SelfCorrectingRecommender:
    """The recommender of a run to start from.

    Raises InputError unless it reflects on its drafts and, for a fold, was trained without that fold's users.
    """
    if not isinstance(found, SelfCorrectingRecommender) or not found.model.reflection:
        raise InputError(f"{run}: its model has no reflection to learn from; train one with `redraft train grc`")
    if found.model.verifier is not None:
        raise InputError(f"{run}: has a verifier, which would no longer fit; give the run that it was added to")
    if fold is not None:
        left_out = read_json(run / "config.json")["config"].get("fold")
        if left_out != list(fold):
            wanted = f"--fold {fold[0]} {fold[1]}"
            raise InputError(f"{run}: trained with fold {left_out}, not without these users; train it with `{wanted}`")
    return found


def only_fold(train: Interactions, fold: tuple[int, int] | None) -> Interactions:
    """The events of the users whose number is i modulo n, for fold (i, n); everybody's for None.

    Raises InputError if none of them has two events, a history and what came next.
    """
    found = train if fold is None else train.take(np.arange(fold[0], train.n_users, fold[1]))
    if found.lengths.max(initial=0) < 2:
        raise InputError("no user has two training events to roll out on; give another fold or import more events")
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
    keep_tail: float,
    evaluate_users: int,
    evaluate_beams: int,
    evaluate_budget: int,
    policy: MergePolicy,
    save_every: int,
    seed: int,
    resume: bool = False,
    tensorboard: bool = False,
) -> str | None:
    """Train from the start's weights, and keep the best in out/model.safetensors; the start is the first candidate.

    Returns why the run was stopped if the policy collapsed. Writes and resumes as `redraft.train.pretrain`; what the
    log calls an epoch is `evaluate_every` batches.
    Raises InputError if the loss stops being finite; the last good weights stay.
    """
    accelerator = join_processes()
    half = use_half(precision, accelerator.device)
    autocast = torch.autocast(accelerator.device.type, torch.bfloat16, enabled=half)
    ids, catalogue = start.ids, start.catalogue
    reference = start.model.eval().requires_grad_(False)
    network = copy.deepcopy(reference).requires_grad_(True)
    if network.verifier is not None:
        network.verifier.requires_grad_(False)
    optimizer = new_optimizer(network, learning_rate, weight_decay=0.0)
    objective = Objective(network, start.trie, temperature, clip_ratio, kl_weight, sft_weight, correction_weight)
    parallel, optimizer = accelerator.prepare(objective, optimizer)
    torch.manual_seed(seed + accelerator.process_index)
    windows = every_prefix(train, reference.config.history)
    assert len(windows), "events to roll out on"
    shard = {"seed": seed, "rank": accelerator.process_index, "world": accelerator.num_processes}
    sample = sample_users(validation, evaluate_users, seed)
    correction = Correction(budget=evaluate_budget, policy=policy)
    recommender = SelfCorrectingRecommender(
        network, ids, catalogue, beams=evaluate_beams, half=half, correction=correction
    )
    recalls = [k for k in RECALLS if k <= evaluate_beams]
    tail = f"R@{recalls[-1]}"
    metrics_file, state_file = out / "metrics.jsonl", out / "state.safetensors"
    at = Standing()
    if resume and state_file.exists():
        at = resume_run(out, ids, {"model": network}, optimizer)
    elif accelerator.is_main_process:
        state_file.unlink(missing_ok=True)
        save_items(out, ids, catalogue)
        metrics_file.write_text("")
        metrics = {"epoch": 0, "step": 0, **_validate(recommender, sample, recalls), "seconds": 0.0}
        at.best = metrics["N@10"]
        save_backbone(network, out / "model.safetensors", ids, catalogue)
        log_metrics(metrics_file, metrics, tensorboard=tensorboard)
        save_state(state_file, {"model": network}, optimizer, asdict(at))
    least_tail = keep_tail * _first_line(metrics_file)[tail] if accelerator.is_main_process else 0.0
    started = time.monotonic() - at.seconds
    collapsed = None
    with progress_bar("train", steps, completed=at.step, shown=accelerator.is_main_process) as advance:
        while not collapsed and (at.step < steps or at.batch > 0):
            left = min(evaluate_every - at.batch, steps - at.step)
            for batch in islice(batches(train, windows, users, epoch=at.epoch, skip=at.batch, **shard), left):
                set_learning_rate(optimizer, learning_rate, at.step, steps)
                batch = batch.to(accelerator.device)
                with autocast:
                    seen = roll_out(
                        network,
                        reference,
                        batch,
                        start.trie,
                        reward,
                        group=group,
                        temperature=temperature,
                        distinct=distinct,
                        near_miss=near_miss,
                    )
                sums, count = _learn(
                    accelerator, parallel, optimizer, batch, seen, autocast, inner_steps=inner_steps, clip=clip, at=at
                )
                at.count(sums, count, time.monotonic() - started)
                means = {name: total / count for name, total in sums.items()}
                advance(f"reward {means['reward']:.3f} KL {means['kl']:.3f} draft entropy {means['entropy draft']:.2f}")
                collapsed = collapse(means, at.step, max_kl=max_kl, min_entropy=min_entropy)
                if collapsed:
                    break
                if accelerator.is_main_process and at.step % save_every == 0:
                    save_state(state_file, {"model": network}, optimizer, asdict(at))
            if accelerator.is_main_process:
                metrics = at.line()
                if not collapsed:
                    metrics |= _validate(recommender, sample, recalls)
                    if metrics["N@10"] > at.best and metrics[tail] >= least_tail:
                        at.best = metrics["N@10"]
                        save_backbone(network, out / "model.safetensors", ids, catalogue)
                log_metrics(metrics_file, metrics, tensorboard=tensorboard)
            at.next_epoch()
            if accelerator.is_main_process and not collapsed:
                save_state(state_file, {"model": network}, optimizer, asdict(at))
            accelerator.wait_for_everyone()
    return collapsed


def _learn(
    accelerator: Accelerator,
    objective: nn.Module,
    optimizer: Optimizer,
    batch: Batch,
    seen: Experience,
    autocast: torch.autocast,
    *,
    inner_steps: int,
    clip: float,
    at: Standing,
) -> tuple[dict[str, float], float]:
    """Several steps on one batch of rollouts: what to log, summed over its users, and how many there are."""
    asked = batch.n_targets > 0
    means: dict[str, float] = {}
    for _ in range(inner_steps):
        with autocast:
            losses, stats = objective(batch, seen)
        stats = seen.stats | stats
        sums = torch.stack([(part.float() * asked).sum() for part in (*stats.values(), asked)])
        *found, count = descend(
            accelerator, objective, optimizer, (losses * asked).sum(), sums, clip=clip, step=at.step
        )
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


def _validate(recommender: SelfCorrectingRecommender, holdout: Holdout, recalls: list[int]) -> dict[str, float]:
    """Recall of the corrected lists and of the drafts alone, and their NDCG at 10; seen items kept."""
    lists = {"": recommender, "draft ": recommender.uncorrected()}
    found = {name: evaluate(model, holdout, ks=recalls, filter_seen=False).metrics for name, model in lists.items()}
    wanted = [*(f"R@{k}" for k in recalls), "N@10"]
    return {name + metric: found[name][metric] for name in lists for metric in wanted}


def _first_line(path: Path) -> dict[str, float]:
    with path.open(encoding="utf-8") as file:
        line: dict[str, float] = json.loads(file.readline())
    return line
