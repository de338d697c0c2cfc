"""benchmarks/gpu.py: its parts on this processor and on a card that isn't there."""

import json
import sys
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
import torch
from fake_gpu import CARD, fake_gpu
from test_devices import fabric_on_card

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
pytest.importorskip("monai")
import gpu  # noqa: E402
import gpu_machine  # noqa: E402
import gpu_parts  # noqa: E402

OF_CUDA = {
    "is_bf16_supported": lambda *_, **__: True,
    "synchronize": lambda: None,
    "empty_cache": lambda: None,
    "reset_peak_memory_stats": lambda: None,
    "max_memory_allocated": lambda: 2**30,
    "get_device_name": lambda: "a card that isn't there",
}


def in_float32(*, precision, **options):
    """Autocast knows the card's tensors only where there is one."""
    assert precision == "bf16-mixed"
    return fabric_on_card(precision="32-true", **options)


@contextmanager
def on_card():
    """A card with what the benchmark asks CUDA itself."""
    with (
        fake_gpu(),
        patch.multiple(torch.cuda, **OF_CUDA),
        patch("radwb.pretrain.fit.Fabric", in_float32),
        patch.object(torch.Tensor, "pin_memory", lambda tensor: tensor),
        patch.object(gpu_machine.Machine, "seconds", once),
    ):
        yield


def once(machine, call, repeats=1):
    call()
    return 1.0


@pytest.mark.parametrize("part", gpu_parts.PARTS)
def test_a_part_runs_on_a_card(part):
    """All of it lies where it should, and what should be equal is."""
    with (
        on_card(),
        patch.object(gpu_parts.rw.attend, "METHODS", ("gradcam", "rollout")),
    ):
        machine = gpu_machine.Machine(small=True)
        machine.device = CARD.type
        rows = list(gpu_parts.PARTS[part](machine))
    assert rows
    assert [row for row in rows if "error" in row] == []
    assert all(np.isfinite(row["value"]) for row in rows)
    assert all(row.get("met", True) for row in rows)
    json.dumps(rows)


def test_every_part_has_a_limit_and_all_fit_in_eight_minutes():
    assert list(gpu.LIMITS) == list(gpu_parts.PARTS)
    assert gpu.TOTAL_S < 8 * 60


def test_another_map_is_seen():
    """The claim of equality can fail."""

    machine = gpu_machine.Machine(small=True)
    here = gpu_parts.rw.models.load("radwb-tiny")
    there = gpu_parts.rw.models.load("radwb-tiny")
    assert gpu_parts.same_map(machine, here, there, "rollout")["met"]
    with torch.no_grad():
        there.net.visual.positional_embedding[::2] *= 1.2
    assert not gpu_parts.same_map(machine, here, there, "rollout")["met"]


def test_what_goes_wrong_in_a_row_is_a_row():
    def row():
        raise ValueError("expected\nmore")

    error = gpu_machine.guarded("this", row)
    assert error == {"what": "this", "error": "ValueError: expected more"}


# the parts' processes, with a program that stands for this one

PROGRAM = """import json, sys, time
part, _, path = sys.argv[1:4]
open(path, "w").write(json.dumps([{"what": part, "value": 1.0, "unit": "s"}]))
if part == "slow":
    time.sleep(60)
if part == "broken":
    raise RuntimeError("CUDA error: out of memory")
"""


@pytest.fixture
def program(tmp_path):
    path = tmp_path / "program.py"
    path.write_text(PROGRAM)
    return path


@pytest.mark.parametrize(
    ("part", "error"),
    [
        ("fine", None),
        ("broken", "RuntimeError: CUDA error: out of memory"),
        ("slow", "stopped after 1 s"),
    ],
)
def test_a_part_that_fails_or_is_slow_leaves_its_rows(
    program, part, error, monkeypatch
):
    monkeypatch.setattr(gpu, "LEAST_S", 0)
    first, last = gpu.isolated(part, False, 1 if part == "slow" else 60, program)
    assert first["value"] == 1.0
    assert last.get("error") == error


def test_what_time_does_not_allow_is_not_begun(program):
    (row,) = gpu.isolated("fine", False, gpu.LEAST_S - 1, program)
    assert "not begun" in row["error"]


def test_the_file_is_written_after_each_part(tmp_path, monkeypatch, capsys):
    out = tmp_path / "build" / "gpu.json"
    seen = []

    def isolated(part, small, seconds):
        if out.is_file():
            seen.append(len(json.loads(out.read_text())["rows"]))
        return [{"what": part, "error": "no card"}]

    monkeypatch.setattr(gpu, "isolated", isolated)
    status = gpu.main(["card", "maps", "astra", "--small", "--out", str(out)])
    assert status == 1
    assert seen == [1, 2]
    rows = json.loads(out.read_text())["rows"]
    assert [row["part"] for row in rows] == ["card", "maps", "astra"]
    assert "no card" in capsys.readouterr().out
