"""The widget for what an audit flagged: one thing at a time, and a verdict on it."""

from pathlib import Path

from radwb.curate.audit import Audit
from radwb.curate.audit.flagged import IN_TWO_PARTS, flagged
from radwb.curate.audit.verdicts import COLUMNS, VERDICTS, row_names
from radwb.explore.evidence import Evidence
from radwb.explore.framed import Judged, module, sheets
from radwb.explore.notes import LONGEST, Notes
from radwb.explore.reviewed import spoken, still
from radwb.show.theme import LEGAL

OF_BOTH = VERDICTS[1:3]  # of a pair alone


def review(audit: Audit, *, verdicts: str | Path | None = None) -> "Review":
    """Look through what an audit flagged, and say what is to be dropped.

    A film, a pair of them or a report at a time, with the words that were found.

    >>> found = rw.curate.audit(table)
    >>> widget = rw.show.review(found, verdicts="verdicts.csv")
    >>> widget.judge("keep", "a follow-up") if len(widget.flagged) else None
    >>> kept, dropped = rw.curate.apply_verdicts(table, widget.verdicts)

    Args:
        audit: what `rw.curate.audit` gave.
        verdicts: a CSV, written (for its owner alone) at the first verdict, and read
            again the next time. None = they go with the widget.
    Returns:
        the widget: `judge` (drop, keep or unsure; of a pair also "drop first" and "drop
        second"), `go`, `filter` drive it, `flagged` is what it goes through, `verdicts`
        what was judged, for `rw.curate.apply_verdicts`. A saved notebook and an
        exported page keep the films seen last with the names of their files, studies
        and patients, as the table has them: de-identify first. They keep no report and
        no note.
    Raises:
        ValueError: a file in the place of the verdicts that is none of theirs.
    """
    return Review(audit, Notes(verdicts, COLUMNS))


class Review(Judged):
    """What `review` returns."""

    _esm = module("review")
    _css = sheets()

    def __init__(self, audit, noted):
        self.flagged = flagged(audit)
        self.evidence = Evidence(audit, self.flagged)
        named = _named(self.flagged, row_names(audit.table))
        nothing = "" if len(named) else _nothing(audit)
        words = dict(longest=LONGEST, legal=LEGAL, things="flagged")
        super().__init__(noted, named, self.flagged["check"], nothing, words)

    def allowed(self, number: int) -> list[str]:
        """The verdicts that a row of `flagged` can have."""
        thing = self.flagged.iloc[number]
        if not thing["droppable"]:
            return ["keep", "unsure"]
        is_pair = thing["second"] >= 0 and thing["check"] not in IN_TWO_PARTS
        return [v for v in VERDICTS if is_pair or v not in OF_BOTH]

    def found(self, number):
        found = self.evidence.of(number)
        self.texts = [side.pop("text") for side in found["sides"]]
        return found

    def close(self):
        """Let go of the table and its films."""
        super().close()
        self.evidence = None

    def drawn(self):
        return still(self.about, self.shown)

    def spoken(self):
        return spoken(self.about, self.shown)


def _nothing(audit):
    checks = len(audit.examined)
    return (
        f"No film, pair or report is flagged: {checks} checks were made of "
        f"{len(audit.table)} rows"
    )


def _named(things, names):
    """Each thing by the names of its films, which no new order of the table moves."""
    names = [*names, ""]  # the last one, of place -1, is no film's
    named = []
    for thing in things.itertuples():
        first, second = names[thing.first], names[thing.second]
        case = f"{thing.check}, {thing.about or first} | {second}"
        named.append(dict(case=case, check=thing.check, first=first, second=second))
    return named
