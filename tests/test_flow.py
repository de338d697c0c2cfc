"""`Flow` loses no film in silence, and takes none that it hasn't counted."""

import pandas as pd
import pytest

from radwb.curate import Flow


def films(names="abcd"):
    return pd.DataFrame({"path": [f"{name}.png" for name in names]})


@pytest.mark.parametrize(
    ("names", "why"),
    [
        ("abc", ""),
        ("abc", {}),
        ("abc", {" ": 1}),
        ("abcd", "lateral"),
        ("abcd", {"lateral": 1}),
        ("abc", {"lateral": 3, "cut": -2}),
        ("abc", {"lateral": 0.5, "cut": 0.5}),
    ],
)
def test_a_loss_has_its_reason_and_a_reason_its_loss(names, why):
    flow = Flow("files", films())
    with pytest.raises(ValueError, match=r"expected reasons for [01] films"):
        flow.keep("are frontal", films(names), why=why)
    assert len(flow.steps) == 1


def test_a_reason_that_was_counted_may_be_of_none():
    flow = Flow("files", films())
    flow.keep("are frontal", films(), why={"lateral": 0})
    assert flow.steps["why"].tolist() == [{}, {}]


@pytest.mark.parametrize(("names", "more"), [("abx", 1), ("aab", 1), ("xyy", 1)])
def test_a_film_that_is_doubled_or_new_is_refused(names, more):
    flow = Flow("files", films())
    with pytest.raises(ValueError, match=f"got {more} of 3 doubled or new in 'fit'"):
        flow.keep("fit", films(names), why="no film")
    assert len(flow.steps) == 1


def test_films_may_be_written_anew_and_their_paths_spelt_in_another_way():
    flow = Flow("drawn films", films("aabc"))
    flow.keep("are drawn once", films("cba"), why="twice")
    flow.keep("lie here", "./" + films("abc"))
    flow.keep("name nobody", "clean/" + films("ab"), why="not cleaned")
    assert flow.steps["films"].tolist() == [4, 3, 3, 2]
