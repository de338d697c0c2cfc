"""The widget of a reading study: films read with and without the model's help.

What is true of a film, and whether advice is wrong, stays in Python until all is read.
"""

import time
from datetime import UTC, datetime
from pathlib import Path
from zlib import crc32

import numpy as np
import pandas as pd
from PIL import Image

from radwb.explore.film import whole
from radwb.explore.films import Films
from radwb.explore.framed import Framed, module, sheets
from radwb.explore.saved import Saved
from radwb.explore.words import sentence
from radwb.fail.readers import ALONE, HELPED, reading_effect
from radwb.show.mix import encoded
from radwb.show.stills import LINE, MARGIN, fitted, write_lines
from radwb.show.theme import LEGAL

COLUMNS = (
    "reader",
    "case",
    "finding",
    "arm",
    "sitting",
    "number",
    "advice",
    "answer",
    "confidence",
    "seconds",
    "when",
)
NUMBERS = ["sitting", "number", "advice", "answer", "confidence", "seconds"]
TWO, PAIRED = "two sittings", "one after the other"
DESIGNS = (TWO, PAIRED)
WIDTH = 720  # px of a still
TYPE = 14  # px
UNREAD = "the film can't be read"  # a file's name may say what is true


def reading_study(
    cases: pd.DataFrame,
    *,
    advice: np.ndarray | pd.Series,
    finding: str,
    reader: str = "A",
    out: str | Path | None = None,
    design: str = TWO,
    seed: int = 0,
) -> "ReadingStudy":
    """Read your films without and with a model's help, to see what the help does.

    >>> films = table[table["Pleural Effusion"].isin((0, 1))].head(4)
    >>> advice = rw.fail.planted_advice(films["Pleural Effusion"], wrong=0.25)
    >>> study = rw.show.reading_study(films, advice=advice, finding="Pleural Effusion")
    >>> study.begin()
    >>> study.read(80, 1)
    >>> study.readings[["arm", "confidence", "answer"]].shape
    (1, 3)

    Each film is read twice, in an order of the reader's own: how sure one is that the
    finding is there, from 0 to 100, and yes or no. A reading is saved at once and is
    final. `rw.fail.reading_effect` says what came of it.

    Args:
        cases: the films; what they are called is not shown. With a column `finding` the
            reader hears at the end how it went.
        advice: (N,) what the model says of each film: 1 and 0, or a probability.
            `rw.fail.planted_advice` makes some that is wrong on a known share.
        finding: what is looked for.
        reader: who reads; several readers and findings may share one file.
        out: a CSV, written (for its owner alone) at the first reading; the study goes
            on from there the next time. None = the readings go with the widget.
        design: "two sittings", half of the films with help in the first and the other
            half in the second; or "one after the other", each film alone and at once
            again with help.
        seed: of the order, which differs by reader.
    Returns:
        the widget: `begin` and `read` drive it, `readings` are those of all readers of
        this finding in the file, `problems` says why a film can't be read. A saved
        notebook and an exported page keep no film of it.
    Raises:
        ValueError: advice of other films or beyond 0 and 1, an unknown design, or a
            file in the place of the readings that is none of theirs.
    """
    advice = np.asarray(advice, dtype=float).ravel()
    within = ((advice >= 0) & (advice <= 1)).all()
    if len(advice) != len(cases) or not within or design not in DESIGNS:
        raise ValueError(
            f"expected advice from 0 to 1 for each of {len(cases)} films and a design "
            f"of {DESIGNS}; got {len(advice)} pieces and {design!r}. "
            "Try rw.fail.planted_advice(truth)"
        )
    plan = schedule(len(cases), reader=reader, seed=seed, design=design)
    saved = Saved(out, COLUMNS, "readings")
    saved.read()  # a file of something else is refused before there is a window
    return ReadingStudy(Films(cases), advice, finding, reader, plan, saved)


def schedule(n: int, *, reader: str, seed: int, design: str) -> pd.DataFrame:
    """Which film comes when, and whether with help: a row a reading.

    >>> plan = schedule(5, reader="A", seed=0, design="two sittings")
    >>> plan.groupby(["film", "arm"]).size().tolist() == [1] * 10
    True
    >>> plan.groupby("sitting")["film"].nunique().tolist()
    [5, 5]
    """
    # a name's own, the same on every machine
    rng = np.random.default_rng([seed, crc32(reader.encode())])
    order = rng.permutation(n)
    arms = np.array([ALONE, HELPED])
    if design == PAIRED:
        plan = pd.DataFrame({"film": np.repeat(order, 2), "arm": np.tile(arms, n)})
        return plan.assign(sitting=1)
    helped_first = rng.permutation(n) < n // 2  # (n,)
    again = rng.permutation(n)
    first = pd.DataFrame({"film": order, "sitting": 1})
    second = pd.DataFrame({"film": again, "sitting": 2})
    first["arm"] = arms[helped_first[order].astype(int)]
    second["arm"] = arms[1 - helped_first[again].astype(int)]
    return pd.concat([first, second], ignore_index=True)


class ReadingStudy(Framed):
    """What `reading_study` returns."""

    _esm = module("reading")
    _css = sheets("reading/reading.css")
    alive = ".rs"

    def __init__(self, films, advice, finding, reader, plan, saved):
        self.films = films
        self.advice = advice
        self.finding = finding
        self.reader = reader
        self.plan = plan
        self.saved = saved
        self.left_out = set()  # places of the plan whose film can't be read
        self.problems = {}  # case -> why it can't be read
        self.at = None  # place in the plan, None at the end
        self.started = None
        self._advance()
        super().__init__(dict(finding=finding, reader=reader, legal=LEGAL))
        self._wait()

    @property
    def readings(self) -> pd.DataFrame:
        """All readings of this finding in the file, a row each."""
        table = self._of_finding()
        table[NUMBERS] = table[NUMBERS].apply(pd.to_numeric)
        return table

    def begin(self) -> None:
        """Show the next film; the clock runs from here on."""
        if self.at is None:
            return
        row = self.plan.iloc[self.at]
        shown = self._place() | dict(state="read", arm=row["arm"], advice="")
        if row["arm"] == HELPED:
            shown["advice"] = self._advice(row["film"])
        self.shown = shown | self._film(row["film"])
        self.started = time.monotonic()
        self.stand_in.changed()

    def read(
        self, confidence: float, answer: bool | int, *, seconds: float | None = None
    ) -> None:
        """Say what is seen of the film that is shown; it is saved, and the next comes.

        Args:
            confidence: from 0, surely not there, to 100, surely there.
            answer: 1 = there, 0 = not.
            seconds: that the reading took; None = since the film was shown.
        Raises:
            ValueError: no film is shown, a confidence beyond 0 and 100, or the file of
                the readings has become something else.
        """
        reading = self.shown.get("state") == "read"
        if not reading or not 0 <= confidence <= 100 or answer not in (0, 1):
            raise ValueError(
                "expected a film that is shown (begin() shows one), a confidence from "
                f"0 to 100 and an answer of 1 or 0; got {confidence!r} and {answer!r}"
            )
        if seconds is None:
            seconds = time.monotonic() - self.started
        row = self.plan.iloc[self.at]
        helped = row["arm"] == HELPED
        line = dict(reader=self.reader, case=self.films.name(row["film"]))
        line |= dict(finding=self.finding, arm=row["arm"], sitting=row["sitting"])
        line["number"] = self.at + 1
        line["advice"] = f"{self.advice[row['film']]:.4g}" if helped else ""
        line |= dict(answer=int(answer), confidence=f"{confidence:.4g}")
        line["seconds"] = f"{seconds:.2f}"
        line["when"] = datetime.now(UTC).isoformat(timespec="seconds")
        # another reader may have written meanwhile
        new = pd.DataFrame([line], columns=COLUMNS).astype(str)
        self.saved.write(pd.concat([self.saved.read(), new], ignore_index=True))
        self._go_on()

    def skip(self) -> None:
        """Leave out a film that can't be read."""
        if self.shown.get("problem"):
            self.left_out.add(self.at)
            self._go_on()

    def answer(self, message):
        if "begin" in message:
            self.begin()
        current = message.get("number") == self.shown.get("number")
        if "skip" in message and current:
            self.skip()
        if "read" in message and current:  # not one that was pressed twice
            try:
                self.read(**message["read"])
                problem = ""
            except (OSError, ValueError) as error:
                problem = str(error)
            self.send({"noted": {"error": problem}})

    def drawn(self):
        """Words alone: a film that is seen on a page would be read twice."""
        lines = fitted(self.spoken(), TYPE, WIDTH)
        page = Image.new("RGB", (WIDTH, LINE * len(lines) + 2 * MARGIN), "white")
        write_lines(page, MARGIN, lines, TYPE)
        return page

    def spoken(self):
        if self.at is None:
            return f"A reading study that is done. {self.shown['words']} {LEGAL}."
        return (
            f"A reading study of {self.finding}: reader {self.reader}, reading "
            f"{self.at + 1} of {len(self.plan)}. It goes on in a notebook with a "
            f"kernel. {LEGAL}."
        )

    def _of_finding(self):
        table = self.saved.read()
        return table[table["finding"] == self.finding].reset_index(drop=True)

    def _go_on(self):
        before = self.plan["sitting"].iloc[self.at]
        self._advance()
        if self.at is None or self.plan["sitting"].iloc[self.at] != before:
            self._wait()
        else:
            self.begin()

    def _advance(self):
        """To the first reading that is still to be made."""
        own = self._of_finding()
        own = own[own["reader"] == self.reader]
        done = set(zip(own["case"], own["arm"], strict=True))
        self.at = None
        for place, row in enumerate(self.plan.itertuples()):
            is_done = (self.films.name(row.film), row.arm) in done
            if not is_done and place not in self.left_out:
                self.at = place
                break

    def _wait(self):
        """Between two sittings, before the first and after the last."""
        if self.at is None:
            self.shown = dict(state="done", words=self._outcome())
        else:
            self.shown = self._place() | {"state": "wait"}
        self.stand_in.changed()

    def _place(self):
        sitting = int(self.plan["sitting"].iloc[self.at])
        last = int(self.plan["sitting"].max())
        place = dict(number=self.at + 1, of=len(self.plan))
        return place | dict(sitting=sitting, sittings=last)

    def _advice(self, film):
        value = self.advice[film]
        there = "is there" if value >= 0.5 else "isn't there"
        share = "" if value in (0, 1) else f" ({100 * value:.0f} %)"
        return f"The model says: {self.finding} {there}{share}"

    def _film(self, film):
        """A JPEG without a name, or that there is none."""
        try:
            picture = whole(self.films.scan(film))
        except Exception as error:  # of a reader, on a file that is anything
            self.problems[self.films.name(film)] = sentence(error)
            return dict(film=b"", problem=UNREAD)
        return dict(film=encoded(picture, "JPEG", quality=92), problem="")

    def _outcome(self):
        """How it went, now that all is read."""
        readings = self.readings
        own = readings[readings["reader"] == self.reader]
        told = f"All {len(own)} readings of reader {self.reader} are saved."
        if self.finding not in self.films.table:
            return told
        names = [self.films.name(n) for n in range(len(self.films))]
        truth = dict(zip(names, self.films.table[self.finding], strict=True))
        try:
            effect = reading_effect(own, truth)
        except ValueError:  # films of one kind
            return told
        pairs = effect.pairs
        right = [
            (pairs[f"answer {arm}"] == pairs["truth"]).sum() for arm in (ALONE, HELPED)
        ]
        to_wrong = effect.switches.iloc[0]
        followed = round(to_wrong["n"] * to_wrong["mean"]) if to_wrong["n"] else 0
        return (
            f"{told} Of {len(pairs)} films you were right on {right[0]} alone and on "
            f"{right[1]} with help. On {to_wrong['n']} that you had right the model's "
            f"advice was wrong; you followed it on {followed}."
        )
