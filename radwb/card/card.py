"""`evidence_card`: what a model can do, where it fails, and what nobody looked at."""

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pandas as pd

from radwb.card import answers, battery, chai, facts, page, pictures, trial
from radwb.data.table import check_table
from radwb.fail.evidence import Evidence
from radwb.models import Model, embed

FORM = "radwb evidence card 1"
USE = "For teaching and research. Not for clinical use."
SOFTWARE = ("radwb", "torch", "numpy", "scikit-learn")
DIGITS = 6  # kept of a number: more would tell machines apart, and nothing else
# what a card counts, and the sections of its page, in order
VERDICTS = {
    "failure": "failures found",
    "no failure seen": "looked for and not found",
    "can't tell": "can't tell",
    "measured": "measured",
}


@dataclass(frozen=True)
class Card:
    """What was tried on a model and what came of it; `evidence_card` makes it.

    Attributes:
        model: which one.
        data: the films it was tried on.
        evidence: rows; their `figure` is a picture as a data address, or None.
        not_tested: what nobody looked at, and why.
        answers: when, why and why not, by rules from the rows above.
        seed: of whatever was drawn.
        software: that made it: name -> version.
        use: what it is meant for.
    """

    model: facts.ModelFacts
    data: facts.DataFacts
    evidence: tuple[Evidence, ...]
    not_tested: tuple[trial.NotTested, ...]
    answers: tuple[answers.Answer, ...]
    seed: int
    software: dict[str, str]
    use: str = USE

    def of(self, verdict: str) -> list[Evidence]:
        """The rows of one verdict, but what it can do: that has a section of its own.

        >>> card.of("failure")
        """
        return [row for row in self.evidence if row.verdict == verdict]

    @property
    def table(self) -> pd.DataFrame:
        """The evidence as a table, a row each, without pictures."""
        rows = [
            {**asdict(row), "figure": row.figure is not None} for row in self.evidence
        ]
        return pd.DataFrame(rows, columns=[field.name for field in fields(Evidence)])

    @property
    def summary(self) -> str:
        """One sentence with the numbers of it."""
        counts = [f"{name} {len(self.of(v))}" for v, name in VERDICTS.items()]
        kinds = trial.silent(self.evidence, self.not_tested)
        return (
            f"{len(self.evidence)} things were tried on {self.data.films} films of "
            f"{self.data.patients} patients: {', '.join(counts)}. Not tested: "
            f"{', '.join(kinds) or 'nothing'}."
        )

    def to_json(self) -> str:
        """The card for machines; `read_card` reads it back."""
        values = {"form": FORM, **_plain(asdict(self))}
        return json.dumps(values, indent=1, allow_nan=False) + "\n"

    def to_html(self, name: str = "card") -> str:
        """The page, which needs nothing but itself.

        Args:
            name: of the JSON and the XML that lie beside it.
        """
        return page.html(self, name)

    def to_xml(self) -> str:
        """As CHAI's applied model card (mc-schema 0.2)."""
        return chai.xml(self)

    def _repr_html_(self):
        return page.short(self)

    def save(self, path: str | os.PathLike) -> Path:
        """Write card.html, and card.json and card.xml beside it.

        Args:
            path: of the page; the others have its name.
        Returns:
            the path of the page.
        Raises:
            ValueError: it isn't called .html, is the data card of a published cohort,
                or the XML isn't valid (where lxml is there to tell).
        """
        path = Path(path)
        if path.suffix != ".html":
            raise ValueError(f"expected a name that ends in .html, got {path.name!r}")
        if path.name == "card.html" and (path.parent / "manifest.json").is_file():
            raise ValueError(
                f"expected another name than {path}, which is the data card of a "
                "published cohort. Try evidence.html"
            )
        xml = self.to_xml()
        chai.check(xml)
        path.parent.mkdir(parents=True, exist_ok=True)
        # half a letter, as a damaged file may bring, is no UTF-8
        page_bytes = self.to_html(path.stem).encode("utf-8", "replace")
        path.write_bytes(page_bytes)
        path.with_suffix(".json").write_text(self.to_json(), "utf-8")
        path.with_suffix(".xml").write_text(xml, "utf-8")
        return path


def evidence_card(
    model: Model,
    table: pd.DataFrame,
    *,
    evidence: Sequence[Evidence] | None = None,
    data_card: dict | str | os.PathLike | None = None,
    battery_too: bool = True,
    seed: int = 0,
) -> Card:
    """What your model can do, where it fails, and what nobody looked at: one card.

    >>> card = evidence_card(model, table)
    >>> card.save("card.html").name
    'card.html'

    It is made from a run: whatever the card says was measured here, is a fact of the
    model or the table, or came with `evidence`. The default battery asks for each
    finding (in words, or by the model's own head), holds that against controls and
    probes, and looks at groups, at what the scores follow besides, and at calibration.
    What can't be tried stands under "not tested" with its reason. Two runs give the
    same card.

    Args:
        model: with a text tower or a head; of another the card says what it can.
        table: rows with path, patient_id and label columns. Where `split` has "test",
            these rows are tried; "train" is what probes learn from.
        evidence: further rows, such as analyses of `rw.fail` give.
        data_card: of the cohort: what `rw.curate.publish` returned, or its folder.
        battery_too: False leaves the battery out and states `evidence` alone.
        seed: of whatever is drawn.
    Raises:
        ValueError: the table breaks the schema, or has no rows.
    """
    test, chosen = _tested(check_table(table))
    rows = []
    not_tested = []
    if battery_too:
        rows, not_tested = _tried(model, table, test, seed)
    rows, unsure = battery.sorted_out([*rows, *(evidence or [])])
    not_tested += unsure
    not_tested += battery.untouched(rows, not_tested)
    rows = [_rounded(row) for row in rows]
    about = facts.of_model(model)
    films = facts.of_data(table, test, chosen, data_card)
    return Card(
        model=about,
        data=films,
        evidence=tuple(pictures.drawn(rows)),
        not_tested=tuple(not_tested),
        answers=tuple(answers.answered(about, films, rows, not_tested)),
        seed=seed,
        software={name: version(name) for name in SOFTWARE},
    )


def _tested(table):
    """The rows that the model is tried on, and which these are in words."""
    parts = table.get("split", pd.Series("", index=table.index))
    is_test = parts == "test"
    is_train = parts == "train"
    if is_test.any():
        test, chosen = table[is_test], 'the rows of split "test"'
    elif is_train.all() and len(table):
        test, chosen = table, 'rows of split "train" alone, which the model has met'
    elif is_train.any():
        test, chosen = table[~is_train], 'the rows that are not of split "train"'
    else:
        test = table
        chosen = "all rows of the table; which the model has met isn't stated"
    if test.empty:
        raise ValueError("expected films to try the model on, got a table without rows")
    return test.reset_index(drop=True), chosen


def _tried(model, table, test, seed):
    """The battery; without scores, each part of it with the reason."""
    try:
        Z = embed(model, test)
        scores = trial.asked(model, test, Z)
    except Exception as error:  # a network of one's own may break anywhere
        return [], battery.impossible(trial.in_one_line(error))
    return battery.try_all(trial.Trial(model, table, test, scores, Z, seed))


def _rounded(row):
    """Its numbers to `DIGITS` digits."""
    numbers = {}
    for name in ("value", "low", "high", "control"):
        number = float(getattr(row, name))
        numbers[name] = float(np.format_float_positional(number, DIGITS))
    return replace(row, **numbers)


def _plain(value):
    """What JSON can hold: NaN is null, a tuple a list."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and np.isnan(value):
        return None
    return value


def read_card(path: str | os.PathLike) -> Card:
    """The card that `Card.save` wrote as JSON, to go on with its numbers.

    >>> path = card.save("card.html")
    >>> read_card(path.with_suffix(".json")).model.name
    'radwb-tiny'

    Raises:
        ValueError: it isn't such a card.
    """
    try:
        values = json.loads(Path(path).read_text("utf-8"))
        if values.pop("form") != FORM:
            raise ValueError("another form")
        values["model"] = _read(facts.ModelFacts, values["model"])
        values["data"] = _read(facts.DataFacts, values["data"])
        for name, kind in LISTED.items():
            values[name] = tuple(_read(kind, row) for row in values[name])
        return Card(**values)
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise ValueError(
            f"expected {Path(path).name} as Card.save writes it ({FORM!r}), got "
            f"{type(error).__name__}: {str(error)[:200]}"
        ) from error


LISTED = {
    "evidence": Evidence,
    "not_tested": trial.NotTested,
    "answers": answers.Answer,
}


def _read(kind, values):
    """A dataclass from what `_plain` made of it."""
    read = {name: _tuples(value) for name, value in values.items()}
    if kind is Evidence:
        for name in ("value", "low", "high", "control"):
            read[name] = np.nan if read[name] is None else float(read[name])
    return kind(**read)


def _tuples(value):
    return tuple(map(_tuples, value)) if isinstance(value, list) else value
