"""Explanations as JSON, in the shop's own ids: codes of a list that was written once, drafts of a corrected one,
evidence of a judged one."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from redraft.decode.explain import Explanation
from redraft.evidence.recommender import Verdict
from redraft.records import Trajectory
from redraft.service.served import Served

__all__ = ["explanation_json"]


def explanation_json(served: Served, explained: Trajectory | Sequence[Explanation] | Verdict) -> dict[str, Any]:
    """What `explain` of a recommender gave, as JSON with titles beside numbers."""
    if isinstance(explained, Trajectory):
        return _trajectory(served, explained)
    if isinstance(explained, Verdict):
        return _verdict(served, explained)
    return {
        "kind": "written",
        "items": [
            _item(served, written.item)
            | {
                "log_prob": written.log_prob,
                "verifier": written.verifier,
                "steps": [step.__dict__ for step in written.steps],
            }
            for written in explained
        ],
    }


def _trajectory(served: Served, trajectory: Trajectory) -> dict[str, Any]:
    names = served.recommender.catalogue.attribute_names
    drafts = []
    for row, item in enumerate(trajectory.drafts.tolist()):
        draft = _item(served, item) | {
            "log_prob": float(trajectory.draft_log_probs[row]),
            "entropy": float(trajectory.entropy[row]),
            "corrected": bool(trajectory.corrected[row]),
        }
        if trajectory.slots:
            said = {
                slot.name: dict(zip(slot.classes, p[row].tolist()))
                for slot, p in zip(trajectory.slots, trajectory.said)
            }
            draft["location"] = trajectory.said[0][row].tolist()
            draft["match"] = {name: said[name]["right"] for name in names if name in said}
            draft["labels"] = said
        drafts.append(draft)
    corrections = [
        _item(served, item) | {"log_prob": float(log_prob), "draft": int(origin)}
        for item, log_prob, origin in zip(
            trajectory.corrections.tolist(), trajectory.correction_log_probs, trajectory.origins
        )
    ]
    places = {item: place for place, item in enumerate(trajectory.drafts.tolist())}
    listed = [
        _item(served, item) | {"score": float(score), "draft": places.get(item)}
        for item, score in zip(trajectory.items.tolist(), trajectory.scores)
        if item >= 0 and np.isfinite(score)
    ]
    return {"kind": "corrected", "drafts": drafts, "corrections": corrections, "items": listed}


def _verdict(served: Served, verdict: Verdict) -> dict[str, Any]:
    items = [
        _item(served, judged.item)
        | {
            "score": judged.log_prob,
            "draft": judged.draft,
            "corrected": judged.corrected,
            "evidence": judged.evidence,
            "location": judged.location.tolist(),
            "match": judged.match,
        }
        for judged in verdict.items
    ]
    return {"kind": "judged", "none": verdict.none, "items": items}


def _item(served: Served, number: int) -> dict[str, Any]:
    return served.card(number) | {"codes": served.recommender.ids.codes[number].tolist()}
