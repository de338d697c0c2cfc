"""What the widget shows as a plain dict, and the way back."""

import json

from radwb.attend.methods import METHODS
from radwb.explore.arrange import FIRST
from radwb.explore.choice import DIRECTIONS, Choice

PARTS = ("film", "panes", "look", "arranged")


def state_of(widget) -> dict:
    """What a widget shows, as JSON has it."""
    state = {
        "film": widget.cases.name(widget.case),
        "panes": widget.panes,
        "look": widget.look,
        "arranged": widget.arranged | {"label": ""},
    }
    return json.loads(json.dumps(state))  # a copy, without tuples


def require_state(state: dict, cases, look: dict) -> dict:
    """The state, checked against the films and models that are there now.

    Returns:
        case, panes (a `Choice` each), look and arranged.
    Raises:
        ValueError: a film, model or method isn't there, or it's no such dict.
    """
    if not isinstance(state, dict) or not {"film", "panes"} <= state.keys():
        raise ValueError(
            f"expected what a widget's .state gives, with {PARTS}; got {state!r:.200}"
        )
    panes = [_choice(pane, cases) for pane in state["panes"]]
    if len(panes) not in (1, 2):
        raise ValueError(f"expected one pane or two, got {len(panes)}")
    return {
        "case": cases.films.of(state["film"]),
        "panes": panes,
        "look": look | _known(state.get("look"), look),
        "arranged": FIRST | _known(state.get("arranged"), FIRST),
    }


def _known(part, whole):
    """Those entries of a part that there still are."""
    return {name: value for name, value in (part or {}).items() if name in whole}


def _choice(pane, cases):
    try:
        choice = Choice(**pane)
    except TypeError as problem:
        raise ValueError(f"expected a pane's choice, got {pane!r:.200}") from problem
    if choice.model not in cases.models:
        raise ValueError(
            f"expected one of the models {list(cases.models)}, got {choice.model!r}, "
            "which isn't there"
        )
    if choice.method not in METHODS:
        raise ValueError(f"expected a method of {METHODS}, got {choice.method!r}")
    if choice.direction not in DIRECTIONS:
        raise ValueError(f"expected one of {DIRECTIONS}, got {choice.direction!r}")
    return choice
