"""What experiments must not be: each mistake named, with the fix."""

from itertools import combinations

from redraft.experiment.traffic.assignment import BUCKETS
from redraft.experiment.traffic.design import MIXED, Design, Experiment
from redraft.records import InputError

__all__ = ["check_design", "check_experiment"]


def check_experiment(experiment: Experiment, where: str) -> None:
    """Raise InputError for an experiment that could not be run or not be analysed."""
    names = [arm.name for arm in experiment.arms]
    doubled = next((name for name in names if names.count(name) > 1), None)
    if doubled is not None:
        raise InputError(f"{where}: two arms are called {doubled!r}; rename one")
    if len(names) < 2 or (experiment.kind == "interleaving" and len(names) > 2):
        wanted = "two" if experiment.kind == "interleaving" else "two or more"
        raise InputError(f"{where}: has {len(names)} arms; a comparison of this kind needs {wanted}")
    if experiment.control not in names:
        raise InputError(f"{where}: control is {experiment.control!r}, but the arms are {', '.join(names)}")
    if experiment.days < 1:
        raise InputError(f"{where}: days is {experiment.days}; it must be >= 1")
    if experiment.before_days < 0:
        raise InputError(f"{where}: before_days is {experiment.before_days}; it must be >= 0")
    if not 0 < experiment.window_hours <= 24 * experiment.days:
        raise InputError(
            f"{where}: window_hours is {experiment.window_hours:g}; it must be > 0 and no longer than the experiment"
        )
    total = sum(arm.share for arm in experiment.arms)
    if total > 1 + 1e-9:
        raise InputError(f"{where}: the arms' shares sum to {total:g}; lower them to 1 or less together")
    if experiment.kind in MIXED and experiment.overrides:
        raise InputError(f"{where}: overrides name arms, and {experiment.kind} mixes them; leave overrides out")
    for unit, arm in experiment.overrides.items():
        if arm not in names:
            raise InputError(f"{where}: overrides puts {unit!r} into {arm!r}, but the arms are {', '.join(names)}")


def check_design(design: Design, where: str) -> None:
    """Raise InputError for experiments that stand in each other's way."""
    names = [experiment.name for experiment in design.experiments]
    doubled = next((name for name in names if names.count(name) > 1), None)
    if doubled is not None:
        raise InputError(f"{where}: two experiments are called {doubled!r}; rename one")
    layers = {experiment.layer.name: experiment.layer for experiment in design.experiments}
    salts = [(layer.salt, f"layer {layer.name!r}") for layer in layers.values()] + [
        (design.holdout_salt, "the holdout")
    ]
    for (salt, first), (same, second) in combinations(salts, 2):
        if salt == same:
            raise InputError(f"{where}: {first} and {second} both have the salt {salt!r}; give each its own")
    for layer in layers:
        _check_layer([each for each in design.experiments if each.layer.name == layer], f"{where}: layer {layer!r}")
    mixing = {each.layer.name: each.name for each in design.experiments if each.kind in MIXED}
    if len(mixing) > 1:
        named = " and ".join(map(repr, mixing.values()))
        raise InputError(f"{where}: {named} both mix lists, and a list is mixed once; put them into one layer")
    for one, other in combinations(design.experiments, 2):
        if one.layer != other.layer and (common := _changes(one) & _changes(other)):
            raise InputError(
                f"{where}: experiments {one.name!r} and {other.name!r} both set {min(common)} but are in different "
                "layers, so a user could need two values; put them into one layer"
            )


def _check_layer(experiments: list[Experiment], where: str) -> None:
    lanes = [
        (lane.first, lane.end, f"{name!r} of {each.name!r}", each)
        for each in experiments
        for name, lane in each.lanes.items()
    ]
    for first, end, name, _ in lanes:
        if end > BUCKETS:
            raise InputError(
                f"{where}: {name} would reach from {first / BUCKETS:g} to {end / BUCKETS:g}; give it another `from`"
            )
    for low, high in combinations(sorted(lanes, key=lambda lane: lane[:2]), 2):
        if low[1] > high[0] and _together(low[3], high[3]):
            raise InputError(
                f"{where}: {low[2]} ({low[0] / BUCKETS:g} to {low[1] / BUCKETS:g}) overlaps {high[2]} "
                f"({high[0] / BUCKETS:g} to {high[1] / BUCKETS:g}); lower a share or set `from`"
            )
    units = [(unit, each) for each in experiments for unit in each.overrides]
    for (unit, one), (same, other) in combinations(units, 2):
        if unit == same and _together(one, other):
            raise InputError(f"{where}: {unit!r} is put into {one.name!r} and {other.name!r}; remove one override")


def _together(one: Experiment, other: Experiment) -> bool:
    return one.start < other.end and other.start < one.end


def _changes(experiment: Experiment) -> set[str]:
    return {name for arm in experiment.arms for name in arm.changes}
