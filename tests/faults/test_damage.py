import json

import numpy as np
import torch
from safetensors.torch import load, save_file

from redraft.faults.damage import damages, flips, garbled


def test_every_damage_changes_the_file(tmp_path):
    save_file({"a": torch.ones(3), "b": torch.ones(2, dtype=torch.int32)}, tmp_path / "w.safetensors", {"about": "{}"})
    (tmp_path / "w.json").write_text(json.dumps({"a": 1}))
    for name, least in {"w.safetensors": 20, "w.json": 15}.items():
        found = list(damages(tmp_path / name, [tmp_path / "w.json"] if name != "w.json" else []))
        assert len(found) > least
        assert (tmp_path / name).read_bytes() not in [content for _, content in found]
    spoilt = dict(damages(tmp_path / "w.safetensors", []))["a not a number"]
    assert spoilt is not None
    assert load(spoilt)["a"].isnan().all()


def test_a_flip_changes_one_byte():
    content = bytes(range(50))
    for _, changed in flips(content, 9, np.random.default_rng(0)):
        assert sum(a != b for a, b in zip(content, changed, strict=True)) == 1


def test_logs_are_garbled_in_many_ways():
    content = b'{"u1": 1600, "more": "and more of the same, so that there is room"}'
    found = dict(garbled(content, [b"other"], np.random.default_rng(0)))
    assert found["other file 0 instead"] == b"other"
    assert found["b'1600' as b'NaN'"][:10] == b'{"u1": NaN'
    assert len(found) > 25
