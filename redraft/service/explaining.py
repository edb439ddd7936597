"""Explanations as JSON, in the shop's own ids: codes of a list that was written once, drafts of a corrected one,
evidence of a judged one."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from redraft.evidence.recommender import Verdict
from redraft.recommender import Explanation
from redraft.records import Trajectory
from redraft.service.served import Served

__all__ = ["explanation_json"]


def explanation_json(served: Served, found: Trajectory | Sequence[Explanation] | Verdict) -> dict[str, Any]:
    """What `explain` of a recommender gave, as JSON with titles beside numbers."""
    if isinstance(found, Trajectory):
        return _trajectory(served, found)
    if isinstance(found, Verdict):
        return _verdict(served, found)
    return {
        "kind": "written",
        "items": [
            _item(served, written.item)
            | {
                "log_prob": written.log_prob,
                "verifier": written.verifier,
                "steps": [step.__dict__ for step in written.steps],
            }
            for written in found
        ],
    }


def _trajectory(served: Served, found: Trajectory) -> dict[str, Any]:
    names = served.recommender.catalogue.attribute_names
    drafts = []
    for row, item in enumerate(found.drafts.tolist()):
        draft = _item(served, item) | {
            "log_prob": float(found.draft_log_probs[row]),
            "entropy": float(found.entropy[row]),
            "corrected": bool(found.corrected[row]),
        }
        if found.slots:
            said = {slot.name: dict(zip(slot.classes, p[row].tolist())) for slot, p in zip(found.slots, found.said)}
            draft["location"] = found.said[0][row].tolist()
            draft["match"] = {name: said[name]["right"] for name in names if name in said}
            draft["labels"] = said
        drafts.append(draft)
    corrections = [
        _item(served, item) | {"log_prob": float(log_prob), "draft": int(origin)}
        for item, log_prob, origin in zip(found.corrections.tolist(), found.correction_log_probs, found.origins)
    ]
    places = {item: place for place, item in enumerate(found.drafts.tolist())}
    listed = [
        _item(served, item) | {"score": float(score), "draft": places.get(item)}
        for item, score in zip(found.items.tolist(), found.scores)
        if item >= 0 and np.isfinite(score)
    ]
    return {"kind": "corrected", "drafts": drafts, "corrections": corrections, "items": listed}


def _verdict(served: Served, found: Verdict) -> dict[str, Any]:
    items = [
        _item(served, judged.item)
        | {
            "score": judged.log_prob,
            "draft": judged.draft,
            "evidence": judged.evidence,
            "location": judged.location.tolist(),
            "match": judged.match,
        }
        for judged in found.items
    ]
    return {"kind": "judged", "none": found.none, "items": items}


def _item(served: Served, number: int) -> dict[str, Any]:
    return served.card(number) | {"codes": served.recommender.ids.codes[number].tolist()}
