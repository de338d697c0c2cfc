"""The attention widget: a scan, every layer and head over it, and what is drawn scored
beside it.
"""

import base64
import io
import textwrap
import threading
import time
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path

import anywidget
import numpy as np
import traitlets
from PIL import Image, ImageDraw, ImageFont

from radwb.show.images import LUT, MAX_SIDE, blend, extent, outline, shrink
from radwb.show.theme import COLOUR_OF, FAINT, INK, LONGEST, TRUTH

LOOK = {"window": 1.0, "level": 0.5, "alpha": 0.75, "truth": True}
SLOW = 1_000_000  # pixels of a film whose map isn't kept waiting for its score
LEGAL, PANEL = (
    "Not for clinical use",
    480,
)  # px that a scan's longer side has in a still


def explore(
    model,
    table,
    *,
    finding: str | None = None,
    against=None,
    method: str | None = None,
    target: str | None = None,
    targets=None,
    badges: dict | None = None,
) -> "Explorer":
    """Look at attention, film by film: click a head or a patch, type a phrase, compare,
    start with the worst.

    >>> rw.show.explore(model, table.head(6), finding="Pleural Effusion")
    >>> w = rw.show.explore(model, scans, against="gradcam"); w.choose(layer=2); w.wait(); w.save("a.png")

    Args:
        model: a `rw.models.Model`; a list, or a dict {name: Model}, of two opens two
            panes.
        table: rows that `rw.data.scan_of` reads, or a list of Scans.
        finding: what every map is scored against. None = the finding that the target's
            words name.
        against: what a second pane shows: another Model, or a method's name.
        method: of the first map; None = "relevance", for a CNN "gradcam".
        target: of the first map: a phrase, "this vs that", or a class. None = the first
            of `targets`.
        targets: offered by the drop-down. None = the findings; where all models read,
            each against "no ...".
        badges: method -> Badge, known already; "Check" runs `rw.attend.sanity_check`
            for others.
    Returns:
        the widget. A saved notebook and an exported page keep the picture of the moment
        when the cell ran.
    Raises:
        ValueError: no film, more than two models, or an unknown method.
    """
    from radwb.attend.maps import METHODS, ONE_LAYER, OUTSIDE, UNASKED, has_attention
    from radwb.explore.cases import Cases, Choice

    models = _named(model, against)
    cases, names = Cases(models, table, finding=finding, badges=badges), list(models)
    method = method or ("relevance" if has_attention(models[names[0]]) else "gradcam")
    wanted = [method, against if isinstance(against, str) else method]
    if wrong := [m for m in wanted if m not in METHODS]:
        raise ValueError(f"expected a method of {METHODS}, got {wrong[0]!r}")
    targets = list(targets or cases.targets())
    panes = [
        Choice(names[i], m, target or targets[0])
        for i, m in zip((0, -1), wanted, strict=True)
    ]
    two = len(models) == 2 or against is not None
    kinds = dict(
        methods=METHODS, of_head=ONE_LAYER, no_layer=OUTSIDE, no_target=UNASKED
    )
    return Explorer(
        cases,
        panes[: 1 + two],
        targets=targets,
        **{kind: list(names) for kind, names in kinds.items()},
    )


def _named(model, against) -> dict:
    """name -> Model, one or two."""
    if isinstance(model, dict):
        return dict(model)
    several = list(model) if isinstance(model, list | tuple) else [model]
    several += [] if against is None or isinstance(against, str) else [against]
    if not 1 <= len(several) <= 2:
        raise ValueError(f"expected one model or two, got {len(several)}")
    names = [m.name for m in several]
    return {
        f"{n} ({i})" if names.count(n) > 1 else n: m
        for i, (n, m) in enumerate(zip(names, several, strict=True))
    }


class Explorer(anywidget.AnyWidget):
    """What `explore` returns. Its traits are its state; `case` and `choose` drive it
    from Python.
    """

    _esm = Path(__file__).with_name("widget.js")
    _css = Path(__file__).with_name("widget.css")
    about = traitlets.Dict().tag(sync=True)
    case = traitlets.Int(0).tag(sync=True)
    order = traitlets.List().tag(sync=True)
    sorted_by = traitlets.Unicode("").tag(
        sync=True
    )  # the label of the map that the order comes from
    panes = traitlets.List().tag(sync=True)  # a `Choice` each, as a dict
    look = traitlets.Dict(LOOK).tag(sync=True)
    scan = traitlets.Dict().tag(sync=True)
    views = traitlets.List().tag(
        sync=True
    )  # what `Cases.view` says, and `busy`: a text while a pane computes

    def __init__(self, cases, panes, **offer):
        self.cases, self.lock, self.jobs = cases, threading.RLock(), {}
        self.workers = [
            ThreadPoolExecutor(1, "explore") for _ in range(2)
        ]  # so that "cancel" is heard meanwhile
        about = (
            dict(models=list(cases.models), colours=LUT.tobytes(), legal=LEGAL) | offer
        )
        super().__init__(
            about=about, order=list(range(len(cases))), panes=[vars(p) for p in panes]
        )
        self.observe(self._changed, ["case", "panes"])
        self.on_msg(self._heard)
        self._changed()
        self.wait()

    def choose(self, pane: int = 0, **changes) -> None:
        """Change a pane's model, method, target, layer, head or patch; pane 1 opens the
        second.

        >>> w.choose(layer=3, head=0)                   # a head or a patch is shown by the method "attention"
        """
        if changes.keys() & {"head", "patch"}:
            changes = {"method": "attention"} | changes
        elif "method" in changes:
            changes = {"layer": None, "head": None, "patch": None} | changes
        panes = [*self.panes, self.panes[0]][: max(pane + 1, len(self.panes))]
        self.panes = [p | changes if i == pane else p for i, p in enumerate(panes)]

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until all is drawn; False when `timeout` seconds were not enough."""
        end = time.monotonic() + (1e9 if timeout is None else timeout)
        while pending := [job for job, _ in self.jobs.values() if not job.done()]:
            if wait(pending, max(0, end - time.monotonic())).not_done:
                return False
        return True

    def worst_first(self, yes: bool = True) -> None:
        """Order the films so that the first pane's map misses the truth most in the
        first one; or as in the table.
        """
        self.order, self.sorted_by = sorted(self.order), ""
        if yes:
            self._submit(0, self._sort)

    def check(self, pane: int = 0) -> None:
        """Put what the pane shows to `rw.attend.sanity_check` on the first films, for
        its badge.
        """
        self._submit(pane, self._check)

    def cancel(self, pane: int = 0) -> None:
        """Stop what a pane computes; its controls go back to the map that is still
        there.
        """
        with self.lock:
            self.jobs[pane][1].set()
            self._publish(pane, None, busy="")
        if choice := self.views[pane].get("choice"):
            self.choose(pane, **choice)

    def save(self, path) -> Path:
        """Write what the panes show as a picture, with captions; the suffix says of
        which kind.
        """
        self._still().save(path)
        return Path(path)

    def _still(self) -> Image.Image:
        from radwb.explore.cases import Choice

        panels = []
        for view in self.views[: len(self.panes)]:
            choice = None if view["grid"] is None else Choice(**view["choice"])
            values = choice and self.cases.values(view["case"], choice)
            panels.append(
                _panel(self.cases.scan(view["case"]), values, view, self.look)
            )
        sheet = Image.new(
            "RGB",
            (sum(p.width for p in panels), max(p.height for p in panels) + 28),
            "white",
        )
        for n, panel in enumerate(panels):
            sheet.paste(panel, (n * panel.width, 0))
        _write(
            sheet,
            (12, sheet.height - 26),
            f"{self.cases.name(self.case)}. {LEGAL}.",
            FAINT,
        )
        return sheet

    def close(self):
        for _, stop in self.jobs.values():
            stop.set()
        for worker in self.workers:
            worker.shutdown(wait=False)
        super().close()

    def set_state(self, sync_data):
        with (
            self.lock
        ):  # traitlets holds notifications back meanwhile, the workers' too
            super().set_state(sync_data)

    def _repr_mimebundle_(self, **kwargs):
        data, metadata = super()._repr_mimebundle_(**kwargs)
        self._still().save(
            out := io.BytesIO(), "JPEG", quality=88
        )  # for pages that have no kernel: a fifth of a PNG
        return data | {
            "image/jpeg": base64.b64encode(out.getvalue()).decode()
        }, metadata

    def _heard(self, _, message, __):
        call = {
            "cancel": self.cancel,
            "check": self.check,
            "worst_first": self.worst_first,
        }
        for name, argument in message.items():
            call[name](argument)

    def _changed(self, change=None):
        before = change.old if change and change.name == "panes" else []
        for n, pane in enumerate(self.panes):
            if before[n : n + 1] != [pane]:
                self._submit(n, self._draw)

    def _submit(self, pane, work):
        from radwb.explore.cases import Choice

        if pane in self.jobs:
            self.jobs[pane][1].set()  # a newer wish
        stop = threading.Event()
        job = self.workers[pane].submit(
            self._run, work, pane, self.case, Choice(**self.panes[pane]), stop
        )
        self.jobs[pane] = job, stop

    def _run(self, work, pane, case, choice, stop):
        from radwb.attend.progress import followed
        from radwb.explore.cases import Cancelled, sentence

        began, said, what = time.monotonic(), 0.0, choice.method

        def tell(text=""):
            nonlocal said, what
            what = text or what
            if stop.is_set():
                raise Cancelled
            if time.monotonic() > max(began, said) + 0.2:
                said = time.monotonic()
                self._publish(pane, stop, busy=f"{what}, {said - began:.0f} s")

        try:
            tell()
            with followed(self.cases.models[choice.model].net, tell):
                work(pane, case, choice, stop)
        except Cancelled:
            return
        except Exception as problem:
            self.scan = (
                self.scan
                if self.scan.get("case") == case
                else {"name": self.cases.name(case)}
            )  # unreadable
            self._publish(pane, stop, busy="", error=sentence(problem))

    def _draw(self, pane, case, choice, stop):
        self._show(case)
        if self.cases.scan(case).pixels.size > SLOW:
            self._publish(pane, stop, **self.cases.view(case, choice, scored=False))
        self._publish(pane, stop, busy="", **self.cases.view(case, choice))

    def _sort(self, pane, case, choice, stop):
        self._draw(pane, case, choice, stop)
        order = self.cases.worst_first(choice)
        with self.lock:
            if not stop.is_set():
                self._publish(pane, stop, busy="")
                self.order, self.sorted_by, self.case = (
                    order,
                    self.views[pane]["label"],
                    order[0],
                )

    def _check(self, pane, case, choice, stop):
        self.cases.check(choice)
        self._draw(pane, case, choice, stop)

    def _show(self, case):
        with self.lock:
            if self.scan.get("case") != case:
                self.scan = {"case": case, "name": self.cases.name(case)} | _packed(
                    self.cases.scan(case)
                )

    def _publish(self, pane, stop, **changes):
        with self.lock:
            if stop is None or not stop.is_set():
                views = [dict(v) for v in self.views] + [{}] * (
                    pane + 1 - len(self.views)
                )
                self.views = [
                    v | changes if n == pane else v for n, v in enumerate(views)
                ]


def _packed(scan) -> dict:
    """A scan as the browser gets it, once: bytes, and its outlines as line pieces in
    fractions of width and height.
    """
    pixels = np.round(shrink(scan.pixels, MAX_SIDE).clip(0, 1) * 255).astype(np.uint8)
    return {
        "pixels": pixels.tobytes(),
        "rows": pixels.shape[0],
        "cols": pixels.shape[1],
        "aspect": extent(scan)[0] / extent(scan)[1],
        "right": scan.right or "",
        "truth": {
            f: {"lines": _pieces(m).tobytes(), "colour": _colour(f)}
            for f, m in scan.truth.items()
        },
    }


def _pieces(mask) -> np.ndarray:
    """(n, 4) float32: x0, y0, x1, y1 as fractions of the width and height."""
    x, y = (
        v.reshape(-1, 3)[:, :2] / n
        for v, n in zip(outline(mask), mask.shape[::-1], strict=True)
    )
    return np.stack([x, y], -1).reshape(-1, 4).astype(np.float32)


def _colour(finding: str) -> str:
    return COLOUR_OF.get(finding, TRUTH[0])


def _panel(scan, values, view, look) -> Image.Image:
    """One pane: what it shows in words, the scan with its map and outline, the score
    and the badge.
    """
    tall, wide = np.array(extent(scan)) / max(extent(scan)) * PANEL
    picture = _picture(scan, values, look).resize(
        (round(wide), round(tall)), Image.Resampling.BICUBIC
    )
    if look["truth"] and view["finding"] in scan.truth:
        for x0, y0, x1, y1 in _pieces(scan.truth[view["finding"]]) * [
            wide,
            tall,
            wide,
            tall,
        ]:
            ImageDraw.Draw(picture).line((x0, y0, x1, y1), _colour(view["finding"]), 2)
    if scan.right:
        _mark_right(picture, scan.right)
    panel = Image.new("RGB", (PANEL + 24, picture.height + 104), "white")
    panel.paste(picture, (12, 32))
    _write(panel, (12, 8), f"{view['choice']['model']}. {view['label']}", INK)
    for n, line in enumerate(
        [*textwrap.wrap(view["error"], 66)[:2]] or [view["verdict"], view["badge"]]
    ):
        _write(
            panel, (12, picture.height + 40 + 22 * n), line, INK if n == 0 else FAINT
        )
    return panel


def _mark_right(picture, edge) -> None:
    """An R at the edge where the patient's right lies, where widget.js draws it."""
    x = {"left": 8, "right": picture.width - 8}.get(edge, picture.width // 2)
    y = picture.height - 8 if edge == "bottom" else 8
    anchor = {"left": "l", "right": "r"}.get(edge, "m") + (
        "d" if edge == "bottom" else "a"
    )
    font = ImageFont.load_default(16)
    style = dict(font=font, anchor=anchor, stroke_width=2, stroke_fill="black")
    ImageDraw.Draw(picture).text((x, y), "R", "white", **style)


def _picture(scan, values, look) -> Image.Image:
    """The same mixture as widget.js draws: the windowed scan under the map's colours,
    clear where the map is low.
    """
    grey = (shrink(scan.pixels, MAX_SIDE).clip(0, 1) - look["level"]) / max(
        look["window"], 1e-3
    ) + 0.5
    if values is not None:
        values = shrink(values, MAX_SIDE)
        values = (values - values.min()) / (np.ptp(values) or 1)
    return blend(grey.clip(0, 1), values, look["alpha"])


def _write(sheet, place, text, colour):
    text = " ".join(text[:LONGEST].split())  # one line: the next one stands below it
    ImageDraw.Draw(sheet).text(place, text, colour, ImageFont.load_default(14))
