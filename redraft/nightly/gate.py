"""May the new model take over? Both models are asked about the newest events, which neither has learnt."""

from dataclasses import dataclass
from typing import Any

from redraft.checkpoint import weights_fingerprint
from redraft.data.split import sample_users, split_of
from redraft.device import find_device
from redraft.eval.evaluate import evaluate
from redraft.eval.significance import paired_test
from redraft.nightly.learning import model_in_service
from redraft.nightly.night import Night
from redraft.recommender import GenerativeRecommender, load
from redraft.records import Dataset, SemanticIds

__all__ = ["GateConfig", "compare", "verdict"]

K = 10


@dataclass(frozen=True)
class GateConfig:
    """When a new model may take over."""

    tolerance: float = 0.01
    """What it may lose in N@10: the 95 % interval of the difference, paired by user, must not reach below this loss."""
    users: int = 20_000
    """Most users who are asked about, drawn by seed."""


def compare(
    night: Night, dataset: Dataset, ids: SemanticIds, config: GateConfig, seed: int, device: str
) -> dict[str, Any]:
    """Metrics of the new model and of the one in service on the test events of the night's data set, and the verdict.

    The one in service answers as a service that was told of the new items. The first night has none, and passes.
    Raises InputError if the run is not what the night trained.
    """
    holdout = sample_users(split_of(dataset).test, config.users, seed)
    asked: dict[str, Any] = {"ks": (K,), "longest": ids.n_items, "filter_seen": True}
    with night.reading("model"):
        trained = load(night.run, device=device)
        night.check("model", night.run, weights_fingerprint(trained.model))
    new = evaluate(trained, holdout, **asked)
    said = {"users": len(holdout.targets), "new": new.metrics}
    if night.parent is None:
        return said | {"passed": True}
    known = model_in_service(night.parent, ids, dataset.catalogue).to(find_device(device))
    old = evaluate(GenerativeRecommender(known, ids, dataset.catalogue), holdout, **asked)
    test = paired_test(new.ranks, old.ranks, K, seed=seed)
    return said | {
        "in_service": {"night": night.parent.name, **old.metrics},
        "difference": test.difference,
        "low": test.low,
        "high": test.high,
        "tolerance": config.tolerance,
        "passed": test.low >= -config.tolerance,
    }


def verdict(said: dict[str, Any]) -> str:
    """What `compare` found, in one line."""
    new = f"N@{K} {said['new'][f'N@{K}']:.4f}, R@{K} {said['new'][f'R@{K}']:.4f} on {said['users']:,} users"
    if "in_service" not in said:
        return f"{new}, nothing in service to compare with"
    old = said["in_service"]
    return (
        f"{new}; night {old['night']}, in service, has {old[f'N@{K}']:.4f} and {old[f'R@{K}']:.4f}; difference "
        f"{said['difference']:+.4f} ({said['low']:+.4f} to {said['high']:+.4f}), may lose {said['tolerance']:g}"
    )
