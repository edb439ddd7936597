import json
import re
import signal
import time
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from redraft.faults.kills import CASES, _fault, contents, in_child

KNOWN = {"old": {"a": "1", "b": "1"}, "new": {"a": "2", "b": "2"}}
WHOLE, PARTS, RESUMED = "data import", "evaluate", "train tiger"


@pytest.mark.parametrize(
    ("case", "status", "said", "state", "fault"),
    [
        (WHOLE, 0, "", KNOWN["new"], None),
        (WHOLE, 0, "", KNOWN["old"], "other a than of a call in peace"),
        (WHOLE, -9, "", {}, None),
        (WHOLE, -9, "", KNOWN["old"], None),
        (WHOLE, -9, "", {"a": "2", "b": "1"}, "neither old nor new"),
        (WHOLE, -9, "", {"a": "2"}, "neither old nor new"),
        (WHOLE, -9, "", "not JSON", "half-written: not JSON"),
        (PARTS, -9, "", {"a": "2", "b": "1"}, None),
        (PARTS, -9, "", {"a": "3"}, r"neither old nor new: \['a'\]"),
        (WHOLE, 130, "stopped\n", {}, None),
        (WHOLE, 130, "", {}, "no line of its own"),
        (WHOLE, 130, "Traceback\nstopped\n", {}, "status 130"),
        (WHOLE, 1, "", {}, "status 1"),
        (RESUMED, -9, "", {"model.safetensors": "3"}, None),
        (RESUMED, 0, "", {"model.safetensors": "3"}, "other model.safetensors than"),
    ],
)
def test_what_is_wrong_after_a_call_is_seen(
    case: str, status: int, said: str, state: dict[str, str] | str, fault: str | None
) -> None:
    found = _fault(CASES[case], status, said, state, KNOWN)
    assert (found is None) == (fault is None)
    if fault:
        assert re.search(fault, str(found))


def test_contents_are_read_and_half_a_file_is_not(tmp_path: Path) -> None:
    save_file({"x": np.zeros(3)}, tmp_path / "m.safetensors")
    (tmp_path / "meta.json").write_text(json.dumps({"name": "shop", "date": "today"}))
    (tmp_path / ".meta.json.partial-here-1").write_text("{")
    first = contents(tmp_path)
    assert first.keys() == {"m.safetensors", "meta.json"}
    assert first["meta.json"] == "shop"
    save_file({"x": np.ones(3)}, tmp_path / "m.safetensors")
    assert contents(tmp_path)["m.safetensors"] != first["m.safetensors"]
    (tmp_path / "meta.json").write_text('{"name": ')
    with pytest.raises(ValueError, match="Expecting"):
        contents(tmp_path)


def test_a_child_works_or_is_killed(tmp_path: Path) -> None:
    assert in_child(lambda: 7, tmp_path / "said", 60, signal.SIGKILL) == 7
    assert in_child(lambda: time.sleep(60) or 0, tmp_path / "said", 0.1, signal.SIGKILL) == -signal.SIGKILL
    assert in_child(lambda: 1 / 0, tmp_path / "said", 60, signal.SIGKILL) == 1
    assert "ZeroDivisionError" in (tmp_path / "said").read_text()


def test_ctrl_c_comes_when_the_work_has_begun(tmp_path: Path) -> None:
    def work() -> int:
        (tmp_path / "begun").touch()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        time.sleep(60)
        return 0

    assert in_child(work, tmp_path / "said", 0, signal.SIGINT) == 1
    assert (tmp_path / "begun").exists()
    assert "KeyboardInterrupt" in (tmp_path / "said").read_text()
