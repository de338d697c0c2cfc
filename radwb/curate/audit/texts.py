"""What is wrong with reports and prompts."""

import re

import numpy as np
import pandas as pd

from radwb.curate.audit.passages import MOST_LETTERS, common_passages
from radwb.curate.audit.result import row
from radwb.curate.sections import sections
from radwb.data.table import findings_of
from radwb.findings.rows import FINDINGS, synonyms
from radwb.identifiers import identifiers, numbered
from radwb.stats import clustered_auroc, format_interval

INPUTS = ("prompt", "question", "indication", "history", "text", "caption")
SURPRISE = 25.0  # `common_passages`: clean virtual cohorts of 150 stay below 11
WORDS = 30
MOST_REPORTS = 20_000  # reports whose sections are read
DATE = r"\b(?:\d{1,2}[./-]\d{1,2}[./-](?:19|20)?\d{2}|(?:19|20)\d{2}-\d{2}-\d{2})\b"
IDENTIFIERS = {
    "date": re.compile(DATE),
    "number of a patient": re.compile(
        r"\b(?:MRN|SSN|DOB|accession|patient (?:id|no|number))\b\W{0,4}"
        # "MRN [removed]" is no number
        r"(?=[A-Z-]*\d)[\dA-Z-]{4,}",
        re.I,
    ),
    "name": re.compile(r"\b(?:Dr|Mr|Mrs|Ms|Prof)\.? [A-Z][a-z]+"),
    "telephone": re.compile(r"(?:\+\d{1,2}[ -]?)?\(?\b\d{3}\)?[ -]\d{3}[ -]\d{4}\b"),
    "e-mail": re.compile(r"\b[\w.]{1,60}@[\w-]{1,60}\.[a-z]{2,6}\b"),
}


def reported(table: pd.DataFrame) -> tuple[list[dict], pd.DataFrame]:
    """All rows on reports, and the flags of single rows (row, check)."""
    reports = table["report"]
    rows, flags = [], []
    for found, places in (
        *_left(table),
        *_without_sections(table),
        *_alike(table),
    ):
        rows.append(found)
        flags += [{"row": place, "check": found["check"]} for place in places]
    empty = np.flatnonzero([not isinstance(r, str) or not r.strip() for r in reports])
    if len(empty) and len(empty) < len(table):
        sentence = f"{len(empty)} of {len(table)} rows have no report"
        rows.append(_plain("no report", "note", sentence, empty, table))
        flags += [{"row": place, "check": "no report"} for place in empty]
    return rows, pd.DataFrame(flags, columns=["row", "check"])


def _plain(check, severity, sentence, places, table, about=""):
    patients = identifiers(table["patient_id"])[places]
    return row(
        check,
        severity,
        sentence,
        about=about,
        n=len(places),
        of=len(table),
        patients=len(set(patients)),
        evidence=tuple(places[:1]),
    )


def _left(table):
    """Identifiers that a text still has, by simple patterns; the words aren't told."""
    texts = [r[:MOST_LETTERS] if isinstance(r, str) else "" for r in table["report"]]
    for kind, pattern in IDENTIFIERS.items():
        places = np.flatnonzero([bool(pattern.search(text)) for text in texts])
        if len(places):
            sentence = f"what looks like a {kind}, in reports: {len(places)}"
            yield (
                _plain("identifier left", "look", sentence, places, table, kind),
                places,
            )


def _without_sections(table):
    reports = table["report"].iloc[:MOST_REPORTS]
    known = np.flatnonzero([isinstance(r, str) and bool(r.strip()) for r in reports])
    headed = []
    for place in known:
        parts = sections(reports.iloc[place][:MOST_LETTERS])
        headed.append((bool(parts["findings"]), bool(parts["impression"])))
    headed = np.array(headed, bool).reshape(-1, 2)
    if not headed.any():
        return  # free text without headings: nothing is missing
    for column, name in enumerate(("findings", "impression")):
        places = known[~headed[:, column]]
        if len(places):
            sentence = f"{len(places)} of {len(known)} reports have no {name}"
            yield (
                _plain("section missing", "note", sentence, places, table, name),
                places,
            )


def _alike(table):
    """Reports word for word the same, and long passages in common, of two patients."""
    patient, _ = numbered(table["patient_id"])
    reports = table["report"]
    texts = reports.where([isinstance(r, str) for r in reports]).str.strip()
    rows = pd.DataFrame({"text": texts.to_numpy(), "patient": patient})
    rows = rows[rows["text"].fillna("") != ""]
    holders = rows.groupby("text")["patient"].transform("nunique")
    same = rows.index[holders > 1].to_numpy()
    if len(same):
        most = rows.loc[holders.idxmax(), "text"]
        example = rows[rows["text"] == most].drop_duplicates("patient").index[:2]
        sentence = (
            f"{len(same)} reports are word for word another patient's; the most usual "
            f"one is {holders.max()} patients'"
        )
        yield _evident("same report", "note", sentence, same, table, example), same
    passages = unusual_passages(table)
    if len(passages):
        pair = passages.iloc[0][["first", "second"]].astype(int)
        places = np.unique(passages[["first", "second"]])
        sentence = (
            f"{len(passages)} pairs of patients have passages in common that hardly "
            f"anybody else has, up to {passages['words'].max()} words: a habit of who "
            "wrote them, or one patient"
        )
        yield (
            _evident("passage in common", "note", sentence, places, table, pair),
            places,
        )


def unusual_passages(table: pd.DataFrame) -> pd.DataFrame:
    """Pairs of two patients' reports whose common passages are more than chance."""
    patient, _ = numbered(table["patient_id"])
    passages = common_passages(table["report"], patient)
    return passages[(passages["surprise"] > SURPRISE) & (passages["words"] >= WORDS)]


def _evident(check, severity, sentence, places, table, pair):
    return _plain(check, severity, sentence, places, table) | {
        "first": int(pair[0] if not hasattr(pair, "iloc") else pair.iloc[0]),
        "second": int(pair[1] if not hasattr(pair, "iloc") else pair.iloc[1]),
    }


def named(table: pd.DataFrame) -> list[dict]:
    """Labels that a text given to a model names: its indication, question or prompt.

    The mention alone is held against the label, as a model would be. A report names
    its findings by nature, and is looked at in its indication alone.
    """
    patient, _ = numbered(table["patient_id"])
    texts = {c: table[c] for c in table.columns.intersection(INPUTS, sort=False)}
    if "report" in table.columns:
        texts["indication of the report"] = _indications(table["report"])
    rows = []
    for column, text in texts.items():
        small = [t[:MOST_LETTERS].lower() if isinstance(t, str) else "" for t in text]
        for label, words in _labels(table):
            y = label.to_numpy(dtype=float)
            mention = np.array([any(w in t for w in words) for t in small], float)
            number = clustered_auroc(y, mention, patient)
            if not number["low"] > 0.5:
                continue
            case = np.flatnonzero((y == 1) & (mention == 1))
            rows.append(
                row(
                    "label named",
                    "look",
                    f"{column} names {words[0]!r} in {len(case)} of "
                    f"{number['positives']} rows that have it: AUROC "
                    f"{format_interval(number)} with no look at a film",
                    about=f"{label.name} in {column}",
                    n=len(case),
                    of=number["n"],
                    patients=len(set(patient[case])),
                    value=number,
                    evidence=tuple(case[:1]),
                )
            )
    return rows


def _indications(reports):
    some = [
        r[:MOST_LETTERS] if isinstance(r, str) else "" for r in reports[:MOST_REPORTS]
    ]
    found = [sections(text)["indication"] for text in some]
    return [*found, *[""] * (len(reports) - len(found))]


def _labels(table):
    """(labels, words that name it) of findings, and of each frequent diagnosis."""
    for finding in findings_of(table):
        yield table[finding], synonyms(finding)
    if "diagnosis" in table.columns:
        known = table["diagnosis"].dropna().astype(str)
        for name in known.value_counts().index[:10]:
            y = (table["diagnosis"] == name).astype(float)
            yield y.rename(name), words_naming(name)


def words_naming(label: str) -> tuple[str, ...]:
    """Words by which a text names a finding, or a diagnosis such as A/B/C."""
    if label in FINDINGS:
        return synonyms(label)
    return (re.split(r"[/;,]", label)[-1].strip().lower(),)
