"""An exercise's check says ok with evidence, or not yet, or what is wrong where."""

import numpy as np
import pytest
import torch

import radwb as rw


def double(x):
    return x * 2


def stub(x):
    raise NotImplementedError


def test_equal_functions_pass_and_say_how_equal(capsys):
    rw.check.matches(double, lambda x: x + x + 1e-7, np.ones(3))
    printed = capsys.readouterr().out
    assert printed.count("\n") == 1
    assert "ok" in printed
    assert "double" in printed
    assert "1e-07" in printed


def test_a_stub_is_not_attempted_rather_than_wrong(capsys):
    rw.check.matches(stub, double, 3.0)
    assert "not attempted yet" in capsys.readouterr().out


def test_a_reference_that_is_not_written_is_no_excuse():
    with pytest.raises(NotImplementedError):
        rw.check.matches(double, stub, 3.0)


def test_every_case_counts_not_only_the_first():
    with pytest.raises(AssertionError, match=r"<lambda>\(3\): expected 9, got 6"):
        rw.check.matches(lambda x: x * 2, lambda x: x**2, cases=[(2,), (3,)])


def test_the_worst_place_is_named():
    mine = np.zeros((2, 3))
    mine[1, 2] = 0.5
    with pytest.raises(
        AssertionError, match=r"expected 0 at \(1, 2\), got 0.5; 1 of 6 values"
    ):
        rw.check.matches(mine, np.zeros((2, 3)))


@pytest.mark.parametrize(
    ("mine", "reference", "says"),
    [
        (None, 1.0, "got None"),
        (np.zeros(3), np.zeros((3, 1)), "shape"),
        (np.array([1.0, np.nan]), [1.0, 2.0], "got nan"),
        ([1.0, np.inf], [1.0, 2.0], "got inf"),
        ({"a": 1.0}, {"b": 1.0}, "keys"),
        ("right", "left", "'left'"),
        (0.0, True, "True"),
        ([torch.zeros(2)], [torch.zeros(2), torch.zeros(2)], "2 entries"),
        (np.array(["a", "b"]), np.array(["a", "c"]), "'c'"),
    ],
)
def test_wrong_values_are_caught_with_evidence(mine, reference, says):
    with pytest.raises(AssertionError, match=says):
        rw.check.matches(mine, reference)


@pytest.mark.parametrize(
    ("mine", "reference"),
    [
        (torch.ones(2, dtype=torch.bfloat16), np.ones(2)),
        (torch.ones(2, requires_grad=True), [1, 1]),
        ([np.nan, np.inf], [np.nan, np.inf]),
        ({"a": [1, (2.0,)]}, {"a": [1, (2.0,)]}),
        (1000.001, 1000.0),
        (np.zeros(0), np.zeros(0)),
    ],
)
def test_equal_values_pass_whatever_they_are_made_of(mine, reference):
    rw.check.matches(mine, reference)


def test_close_is_strict_beyond_its_tolerance():
    rw.check.close(1.0, 1.0 + 9e-6)
    with pytest.raises(AssertionError):
        rw.check.close(1.0, 1.0 + 2e-5)


def test_shape_reads_names_numbers_and_given_sizes(capsys):
    assert rw.check.shape(torch.zeros(2, 101, 192), "B T E", T=101) == {
        "B": 2,
        "T": 101,
        "E": 192,
    }
    assert "B=2, T=101, E=192" in capsys.readouterr().out
    rw.check.shape(np.zeros((4, 3, 3)), "N 3 3")
    for pattern, sizes in (
        ("B T", {}),
        ("B B E", {}),
        ("B T E", {"T": 100}),
        ("B T 64", {}),
    ):
        with pytest.raises(AssertionError, match="got the shape"):
            rw.check.shape(torch.zeros(2, 101, 192), pattern, **sizes)
