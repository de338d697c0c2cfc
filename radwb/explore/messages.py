"""What the browser asks for, and the answers."""

from radwb.explore.film import small
from radwb.show.mix import to_bytes

THUMB = 96  # px of a thumbnail's longer side


def hear(widget, message: dict) -> None:
    """Do what a message of the browser says; one that isn't known is passed over."""
    for name, argument in message.items():
        if name in ANSWERS:
            ANSWERS[name](widget, argument)


def _thumbs(widget, cases):
    for case in reversed(cases):  # the newest errand is the first
        widget.work.errands.add(_thumb, widget, widget.cases.films, case)


def _thumb(widget, films, case):
    try:
        pixels = small(films.read(case), THUMB)
    except (OSError, ValueError):
        pixels = None
    _send(widget, "thumbs", case, pixels, several=True)


def _full(widget, case):
    widget.work.errands.add(_film, widget, widget.cases.films, case)


def _film(widget, films, case):
    try:
        pixels = to_bytes(films.scan(case).pixels.clip(0, 1))
    except (OSError, ValueError):
        pixels = None
    _send(widget, "full", case, pixels)


def _send(widget, name, case, pixels, several=False):
    """A film's bytes, none where it can't be read."""
    rows, cols = (0, 0) if pixels is None else pixels.shape
    data = b"" if pixels is None else pixels.tobytes()
    about = {"case": case, "rows": rows, "cols": cols}
    widget.send({name: [about] if several else about}, [data])


def _note(widget, asked):
    try:
        widget.note(asked["verdict"], asked["note"], case=asked["case"])
        problem = ""
    except (OSError, ValueError) as error:
        problem = str(error)
    widget.send({"noted": {"case": asked["case"], "error": problem}})


def _link(widget, _):
    widget.send({"state": widget.state, "code": code_of(widget.state)})


def code_of(state: dict) -> str:
    """Python that opens the same again; model and films go by the notebook's names."""
    return f"rw.show.explore(model, films, state={state!r})"


ANSWERS = {
    "cancel": lambda widget, pane: widget.cancel(pane),
    "check": lambda widget, pane: widget.check(pane),
    "thumbs": _thumbs,
    "full": _full,
    "note": _note,
    "link": _link,
    "ping": lambda widget, n: widget.send({"pong": n}),
}
