"""Damaged files: no stop of `index`, no crash, no error but ReadError.

No gigabytes, nothing slow.
"""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
import damaged  # noqa: E402


def test_three_hundred_damaged_files(tmp_path, monkeypatch):
    monkeypatch.delenv("RADWB_MIRROR", raising=False)
    counts, cases = damaged.run(300, seed=1, kept=tmp_path)
    assert {name: counts[name] for name in damaged.COUNTED} == dict.fromkeys(
        damaged.COUNTED, 0
    ), cases
    assert counts["read"] + counts["refused"] == 300
    assert counts["read"] > 30  # otherwise nothing behind the first check was tried
    assert counts["refused"] > 30


def test_the_harness_counts_what_goes_wrong():
    fine = {"error": "", "read": True, "mb": 1, "seconds": 1}
    assert damaged.judge(fine, 100) == ["read"]
    assert damaged.judge({**fine, "mb": 101, "seconds": 31}, 100) == [
        "read",
        "over the memory limit",
        "slow",
    ]
    assert damaged.judge({**fine, "error": "TypeError"}, 100) == ["other error"]
    assert damaged.judge({"index": "49 rows of 50 files"}, 100) == ["index stopped"]


def test_a_reader_that_dies_is_counted_and_the_next_file_read(tmp_path, monkeypatch):
    script = tmp_path / "dies.py"
    script.write_text(
        "import json, os, sys\n"
        "seed, first, last, kept = sys.argv[2:]\n"
        "for n in range(int(first), int(last)):\n"
        "    open(f'{kept}/now', 'w').write('x')\n"
        "    print(json.dumps({'n': n, 'begins': True}), flush=True)\n"
        "    if n == 2: os.abort()\n"
        "    about = {'n': n, 'error': '', 'read': True, 'mb': 1, 'seconds': 1}\n"
        "    print(json.dumps(about), flush=True)\n"
    )
    monkeypatch.setattr(damaged, "__file__", str(script))
    counts, cases = damaged.run(5, kept=tmp_path)
    assert (counts["crashed"], counts["read"]) == (1, 4)
    assert cases[0][1]["n"] == 2


@pytest.mark.slow
def test_ten_thousand_damaged_files(tmp_path):
    counts, cases = damaged.run(10_000, seed=2, kept=tmp_path)
    assert {name: counts[name] for name in damaged.COUNTED} == dict.fromkeys(
        damaged.COUNTED, 0
    ), cases
