"""Every example of a docstring runs; what it says that comes out, comes out.

An example may use what is imported or defined in its module, and the few names that
`PROVIDED` makes: a reader knows them from the notebooks.
"""

import ast
import doctest
import re
from functools import cache
from importlib import import_module
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

import radwb as rw

PACKAGE = Path(rw.__file__).parent
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
FINDING = "Pleural Effusion"


@cache
def table():
    return rw.curate.split_by_patient(rw.simulate.cohort(n=60, seed=0), seed=0)


@cache
def model():
    return rw.models.load("radwb-tiny")


@cache
def scan():
    ill = table()[table()[FINDING] == 1]
    return rw.data.scan_of(ill.iloc[0])


@cache
def scores():
    return rw.probe.zero_shot(model(), table(), [FINDING, "Pneumothorax"])


@cache
def run():
    shape = {"size": 32, "batch": 16, "epochs": 1}
    return rw.pretrain.fit(table(), out=Path("run").absolute(), **shape)


@cache
def ct():
    affine = np.diag([-1.5, -1.5, 3.0, 1.0])
    voxels = np.random.default_rng(0).normal(-600, 300, (12, 20, 20))
    return rw.data.Volume(voxels.astype(np.float32), affine, "CT")


@cache
def card():
    return rw.card.evidence_card(model(), table(), battery_too=False)


PROVIDED = {
    "rw": lambda: rw,
    "np": lambda: np,
    "pd": lambda: pd,
    "torch": lambda: torch,
    "table": lambda: table().copy(),
    "test": lambda: table()[table()["split"] == "test"].reset_index(drop=True),
    "train": lambda: table()[table()["split"] == "train"].reset_index(drop=True),
    "model": model,
    "scan": scan,
    "scans": lambda: [rw.data.scan_of(row) for _, row in table().head(3).iterrows()],
    "mask": lambda: scan().truth[FINDING],
    "scores": scores,
    "Z": lambda: rw.models.embed(model(), table()),
    "y": lambda: table()[FINDING].to_numpy(),
    "patients": lambda: table()["patient_id"].to_numpy(),
    "run": run,
    "ct": ct,
    "card": card,
}


class WhereSaid(doctest.OutputChecker):
    """An example that doesn't say what comes out is run, and nothing more."""

    def check_output(self, want, got, optionflags):
        return not want or super().check_output(want, got, optionflags)


def documented(path):
    """(name, docstring) of a module and of all that it defines."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef)
    for node in ast.walk(tree):
        text = ast.get_docstring(node) if isinstance(node, kinds) else None
        if text and ">>>" in text:
            yield getattr(node, "name", "module"), text


EXAMPLES = [
    pytest.param(path, text, id=f"{path.relative_to(PACKAGE).as_posix()}:{name}")
    for path in sorted(PACKAGE.rglob("*.py"))
    for name, text in documented(path)
]


def module_of(path):
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return import_module(".".join(parts).removesuffix(".__init__"))


@pytest.fixture(scope="module", autouse=True)
def brought():
    """The data of the examples: a first call says licence and citation besides."""
    return rw.data.fetch("kermany-16"), rw.data.fetch("lidc-ct")


@pytest.mark.parametrize(("path", "text"), EXAMPLES)
def test_the_example_runs(path, text, request, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)  # some examples make a network
    examples = doctest.DocTestParser().get_examples(text)
    words = set(re.findall(r"[A-Za-z_]\w*", "\n".join(e.source for e in examples)))
    names = vars(module_of(path)) | {w: PROVIDED[w]() for w in words & set(PROVIDED)}
    name = request.node.callspec.id
    case = doctest.DocTest(examples, dict(names), name, str(path), 0, text)
    told = []
    runner = doctest.DocTestRunner(WhereSaid(), verbose=False, optionflags=FLAGS)
    runner.run(case, out=told.append)
    assert runner.failures == 0, "".join(told)


def test_an_example_that_says_something_else_fails():
    wrong = doctest.DocTestParser().get_doctest(">>> 1 + 1\n3\n", {}, "wrong", "", 0)
    runner = doctest.DocTestRunner(WhereSaid(), verbose=False, optionflags=FLAGS)
    runner.run(wrong, out=lambda text: None)
    assert runner.failures == 1
