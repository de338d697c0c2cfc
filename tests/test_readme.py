"""What the README counts is counted from the code."""

import re
from pathlib import Path

import pytest

import radwb as rw

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
NUMBERS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight"]
NUMBERS += ["nine", "ten", "eleven", "twelve"]


def counted(pattern):
    """The number that the README gives before or after some words."""
    word = re.search(pattern, README, re.IGNORECASE).group(1)
    return NUMBERS.index(word.lower())


@pytest.mark.parametrize(
    ("pattern", "count"),
    [
        (r"(\w+) Jupyter notebooks", lambda: len([*ROOT.glob("notebooks/*.ipynb")])),
        (r"(\w+) recipes: CLIP", lambda: len(rw.pretrain.RECIPES)),
        (r"with (\w+)\s+findings planted", lambda: len(rw.simulate.PLANTED)),
    ],
)
def test_a_count_is_that_of_the_code(pattern, count):
    assert counted(pattern) == count()


def test_every_notebook_has_its_row():
    for notebook in ROOT.glob("notebooks/*.ipynb"):
        assert f"notebooks/{notebook.name}" in README


def test_every_name_of_the_package_that_it_uses_is_there():
    for room, name in set(re.findall(r"\brw\.(\w+)\.(\w+)", README)):
        assert hasattr(getattr(rw, room), name), f"rw.{room}.{name}"
