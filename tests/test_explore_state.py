"""The same film, map, look and order again, from a plain dict."""

import ast
import json

import numpy as np
import pytest

import radwb as rw


@pytest.fixture
def widget(model, table):
    widget = rw.show.explore(model, table, against="gradcam")
    widget.case = 3
    widget.choose(layer=2, head=1, patch=[9, 10], direction="to")
    widget.look = widget.look | {"window": 0.4, "invert": True, "place": [0.2, 0.6, 3]}
    widget.sort("age_years")
    assert widget.wait(30, idle=True)
    yield widget
    widget.close()


def test_a_state_opens_the_same_view_again(widget, model, table):
    state = json.loads(json.dumps(widget.state))
    assert state == widget.state
    again = rw.show.explore(model, table, state=state)
    assert again.wait(30, idle=True)
    assert (again.case, again.order, again.look) == (3, widget.order, widget.look)
    for mine, theirs in zip(again.views, widget.views, strict=True):
        assert mine["label"] == theirs["label"]
        assert mine["grid"] == theirs["grid"]
    assert again.arranged == widget.arranged
    assert again.state == state
    again.close()


def test_films_are_found_by_name_whatever_their_order(widget, model, table):
    turned = table.iloc[::-1].reset_index(drop=True)
    again = rw.show.explore(model, turned, state=widget.state)
    assert again.case == 2
    assert again.scan["name"] == widget.scan["name"]
    again.close()


def test_an_order_by_the_map_is_made_again_and_moves_no_film(model, table):
    first = rw.show.explore(model, table)
    first.worst_first()
    assert first.wait(30)
    first.case = first.order[2]
    again = rw.show.explore(model, table, state=first.state)
    assert again.wait(30)
    assert (again.order, again.case) == (first.order, first.order[2])
    first.close()
    again.close()


def test_the_link_is_python_that_opens_it(widget, monkeypatch):
    sent = []
    monkeypatch.setattr(
        widget, "send", lambda content, buffers=None: sent.append(content)
    )
    widget._handle_custom_msg({"link": True}, [])
    assert sent[0]["state"] == widget.state
    call = ast.parse(sent[0]["code"], mode="eval").body
    assert ast.literal_eval(call.keywords[0].value) == widget.state


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"film": "V9-gone"}, "'V9-gone', which isn't there"),
        ({"panes": [{"model": "gone"}]}, "'gone', which isn't there"),
        ({"panes": [{"model": "radwb-tiny", "method": "magic"}]}, "method of"),
        ({"panes": [{"model": "radwb-tiny", "zoom": 3}]}, "expected a pane's choice"),
        ({"panes": []}, "one pane or two, got 0"),
        ("x", "expected what a widget's .state gives"),
    ],
)
def test_what_is_not_there_any_more_is_said(widget, model, table, change, words):
    state = widget.state | change if isinstance(change, dict) else change
    with pytest.raises(ValueError, match=words):
        rw.show.explore(model, table, state=state)


def test_small_pictures_and_whole_films_come_when_asked_for(widget, table, monkeypatch):
    sent = []
    monkeypatch.setattr(widget, "send", lambda *message: sent.append(message))
    widget._handle_custom_msg({"thumbs": [4, 1], "full": 2, "ping": 7}, [])
    widget.work.errands.join()
    assert ({"pong": 7},) in sent
    by_case = {}
    for message in sent:
        if "thumbs" in message[0]:
            (about,) = message[0]["thumbs"]
            by_case[about["case"]] = about, message[1][0]
    assert sorted(by_case) == [1, 4]
    about, data = by_case[4]
    assert max(about["rows"], about["cols"]) == 96
    assert len(data) == about["rows"] * about["cols"]
    (about, data) = next((m[0]["full"], m[1][0]) for m in sent if "full" in m[0])
    pixels = np.frombuffer(data, np.uint8).reshape(about["rows"], about["cols"])
    scan = rw.data.scan_of(table.iloc[2])
    assert np.abs(pixels / 255 - scan.pixels).max() <= 0.5 / 255 + 1e-6
