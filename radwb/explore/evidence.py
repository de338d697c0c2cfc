"""What is seen of a flagged thing: films, texts with the words found, facts."""

import pandas as pd

from radwb.curate.audit.flagged import IN_TWO_PARTS, concerned, sentence
from radwb.curate.audit.marks import marks
from radwb.curate.audit.verdicts import stays_first
from radwb.explore.film import whole
from radwb.explore.films import Films
from radwb.show.mix import encoded
from radwb.stats import format_interval

NO_FILM = "no film: the table has no column path"
ON_TEXT = (
    "identifier left",
    "section missing",
    "no report",
    "same report",
    "passage in common",
    "label noise",
    "label named",
)
LONGEST = 20_000  # letters of a text that are shown
BEFORE = 500  # letters before the first mark, where that lies further on


class Evidence:
    """Looks the evidence up when it is asked for, a thing at a time.

    Args:
        audit: an `Audit`.
        things: as `flagged(audit)` gives them.
    """

    def __init__(self, audit, things):
        self.audit = audit
        self.things = things
        # the tables of audits that found nothing may be empty
        self.films = Films(audit.table) if len(things) else None
        self.rank = stays_first(audit.table)

    def of(self, number: int) -> dict:
        """What the browser shows of a thing, but for its verdict."""
        thing = self.things.iloc[number]
        places = [place for place in thing[["first", "second"]] if place >= 0]
        rows = concerned(self.audit, thing)
        droppable = bool(thing["droppable"])
        is_pair = len(places) == 2 and thing["check"] not in IN_TWO_PARTS
        return dict(
            check=thing["check"],
            severity=thing["severity"],
            sentence=sentence(self.audit, thing),
            value=_value(rows),
            droppable=droppable,
            pair=droppable and is_pair,
            sides=[self._side(thing, rows, places, n) for n in range(len(places))],
        )

    def _side(self, thing, rows, places, n):
        place = places[n]
        picture, problem = self._picture(place)
        facts = [fact for fact in self.films.facts(place) if fact[0] != "Report"]
        column, text = self._text(thing, rows, place)
        other = ""
        if len(places) == 2:
            other = self._text(thing, rows, places[1 - n])[1]
        about = tuple(rows["about"])
        found = marks(thing["check"], text, about=about, other=other)
        return dict(
            name=self.films.name(place),
            facts=facts,
            picture=picture,
            problem=problem,
            column=column,
            text=pieces(text, found),
            read=thing["check"] in ON_TEXT,
            goes=bool(thing["droppable"]) and self._goes(places, n),
        )

    def _picture(self, place):
        """A film's JPEG, or b"" and why there is none."""
        if "path" not in self.audit.table.columns:
            return b"", NO_FILM
        try:
            picture = whole(self.films.scan(place))
        except Exception as error:  # of a reader, on a file that is anything
            text = " ".join(str(error).split()) or type(error).__name__
            return b"", f"the film can't be read: {text}"
        return encoded(picture, "JPEG", quality=92), ""

    def _text(self, thing, rows, place):
        """The column and the text that the check is about."""
        column = "report"
        if thing["check"] == "label named":
            named = rows["about"].iloc[0].rpartition(" in ")[2]
            column = named if named in self.audit.table.columns else column
        text = self.films.rows[place].get(column)
        return column, text if isinstance(text, str) else ""

    def _goes(self, places, n):
        """Whether "drop" takes this one out."""
        if len(places) == 1:
            return True
        stays = min(places, key=lambda place: (self.rank[place], place))
        return bool(places[n] != stays)


def _value(rows):
    """The number of the audit's row with its interval, "" where there is none."""
    numbers = rows[pd.notna(rows["value"])]
    if len(numbers) != 1:
        return ""
    return format_interval(numbers.iloc[0], "value")


def pieces(text: str, found: list[tuple[int, int, str]]) -> list[list[str]]:
    """A text as pieces, each with what was found there, "" for nothing.

    >>> pieces("by Dr. Weiss.", [(3, 12, "name")])
    [['by ', ''], ['Dr. Weiss', 'name'], ['.', '']]
    """
    begin = 0
    if found and found[0][0] > LONGEST:
        begin = found[0][0] - BEFORE
    end = min(len(text), begin + LONGEST)
    parts = [["... ", ""]] if begin else []
    at = begin
    for start, stop, what in found:
        if stop > end:
            break
        parts += [[text[at:start], ""], [text[start:stop], what]]
        at = stop
    parts.append([text[at:end], ""])
    if end < len(text):
        parts.append([" ...", ""])
    return [part for part in parts if part[0]]
