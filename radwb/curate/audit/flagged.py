"""What an audit flagged, one thing a row: to be looked at, and judged."""

import numpy as np
import pandas as pd

from radwb.curate.audit.copies import KINDS, LIKE
from radwb.curate.audit.leaks import KEPT_TOGETHER, NAMES
from radwb.curate.audit.passages import MOST_LETTERS
from radwb.curate.audit.result import Audit
from radwb.curate.audit.texts import IDENTIFIERS, unusual_passages
from radwb.curate.sections import sections
from radwb.identifiers import identifiers

COPIES = ("same pixels", *KINDS)
IN_TWO_PARTS = {
    f"{NAMES[name].split()[0]} in two parts": name for name in KEPT_TOGETHER
}
COLUMNS = ["check", "severity", "about", "first", "second", "droppable"]
MOST_SAID = 3  # sentences of one check


def flagged(audit: Audit) -> pd.DataFrame:
    """Each pair, film and report that an audit flagged, in the order of its rows.

    >>> twice = pd.concat([table.head(3), table.head(1).assign(patient_id="other")])
    >>> flagged(rw.curate.audit(twice))[["check", "first", "second"]].values.tolist()[0]
    ['same pixels', 0, 3]

    Returns:
        check; severity; about (finding or column), first and second (rows of the table
        counted from 0, -1 for none); droppable: whether there is something to drop. A
        row of the audit that is about the table as a whole has its evidence, and
        nothing to drop; without a film or report as its evidence it isn't here.
    """
    parts = [_in_two_parts(audit), _copies(audit), _single(audit)]
    things = pd.concat(parts, ignore_index=True).assign(about="", droppable=True)
    rows = audit.rows[audit.rows["first"] >= 0]
    whole = rows[~rows["check"].isin(things["check"])]
    things = pd.concat([things, whole.assign(droppable=False)[COLUMNS]])
    place = {check: n for n, check in reversed([*enumerate(audit.rows["check"])])}
    order = things["check"].map(place).fillna(len(place))
    things = things.iloc[np.argsort(order, kind="stable")]
    return things[COLUMNS].reset_index(drop=True)


def concerned(audit: Audit, thing: pd.Series) -> pd.DataFrame:
    """The rows of the audit that a flagged thing belongs to.

    Args:
        thing: a row of `flagged`.
    """
    rows = audit.rows[audit.rows["check"] == thing["check"]]
    if not thing["droppable"]:
        return rows[rows["about"] == thing["about"]]
    if thing["check"] in COPIES:
        pair = _pair(audit, thing)
        where = "in two parts of the split" if pair["across"] else "in one part"
        return rows[rows["about"] == where]
    if thing["check"] not in ("identifier left", "section missing"):
        return rows
    text = audit.table["report"].iloc[thing["first"]][:MOST_LETTERS]
    if thing["check"] == "identifier left":
        return rows[[bool(IDENTIFIERS[kind].search(text)) for kind in rows["about"]]]
    there = sections(text)
    return rows[[not there[name] for name in rows["about"]]]


def sentence(audit: Audit, thing: pd.Series) -> str:
    """What was found of a flagged thing: of a pair its own, else that of its check."""
    if thing["check"] in COPIES:
        return _said_of_pair(audit, thing)
    if thing["check"] in IN_TWO_PARTS:
        return _said_of_parts(audit, thing)
    said = list(concerned(audit, thing)["sentence"])
    more = len(said) - MOST_SAID
    end = [f"and {more} more of this check"] if more > 0 else []
    return "; ".join([*said[:MOST_SAID], *end])


def _pair(audit, thing):
    pairs = audit.pairs
    here = (pairs["first"] == thing["first"]) & (pairs["second"] == thing["second"])
    return pairs[here].iloc[0]


def _said_of_pair(audit, thing):
    pair = _pair(audit, thing)
    patient = identifiers(
        audit.table["patient_id"].iloc[list(pair[["first", "second"]])]
    )
    who = "one patient" if patient[0] == patient[1] else "two patients"
    where = "in two parts of the split" if pair["across"] else "in one part"
    return (
        f"two films of {who} {where} are one film: likeness {pair['likeness']:.2f} "
        f"(one film is {LIKE} or more), {pair['bits']} of 64 bits apart"
    )


def _said_of_parts(audit, thing):
    column = IN_TWO_PARTS[thing["check"]]
    names = identifiers(audit.table[column])
    count = audit.table["split"][names == names[thing["first"]]].value_counts()
    parts = [f"{n} in {part}" for part, n in count.items()]
    return f"one {NAMES[column]} has rows in {len(parts)} parts: {', '.join(parts)}"


def _in_two_parts(audit):
    """A row for each identifier that stands in two parts, with a film of two."""
    found = []
    for check, column in IN_TWO_PARTS.items():
        if check not in set(audit.rows["check"]):
            continue
        names = identifiers(audit.table[column])
        rows = pd.DataFrame({"name": names, "part": audit.table["split"].to_numpy()})
        rows = rows.dropna().drop_duplicates().assign(first=lambda made: made.index)
        rows["second"] = rows.groupby("name")["first"].shift(-1)
        rows = rows.dropna().drop_duplicates("name").astype({"second": int})
        found.append(rows.assign(check=check, severity="leak"))
    return _together(found)


def _copies(audit):
    pairs = audit.pairs
    if pairs.empty:
        return _together([])
    patient = identifiers(audit.table["patient_id"])
    one = patient[pairs["first"]] == patient[pairs["second"]]
    severity = np.where(one, "note", "look")
    severity = np.where(pairs["across"], "leak", severity)
    return _together([pairs.assign(check=pairs["kind"], severity=severity)])


def _single(audit):
    """A row for each flag of one film or report, and the report that is like it."""
    flags = audit.flags[~audit.flags["check"].isin(COPIES)]
    severity = audit.rows.drop_duplicates("check").set_index("check")["severity"]
    flags = flags.rename(columns={"row": "first"}).assign(second=-1)
    flags["severity"] = flags["check"].map(severity)
    others = {"same report": _same_report, "passage in common": _passage}
    for check, find in others.items():
        here = flags["check"] == check
        if here.any():
            partner = find(audit.table)
            flags.loc[here, "second"] = flags["first"].map(partner).fillna(-1)
    alike = flags["check"].isin(others) & (flags["second"] >= 0)
    pairs = flags[alike]
    ends = np.sort(pairs[["first", "second"]].to_numpy(dtype=int), axis=1)
    flags.loc[alike, ["first", "second"]] = ends
    return _together([flags.drop_duplicates(["check", "first", "second"])])


def _same_report(table):
    """Row -> the first row with the same report that is another patient's."""
    texts = table["report"].where([isinstance(r, str) for r in table["report"]])
    rows = pd.DataFrame({"text": texts.str.strip()})
    rows["patient"] = identifiers(table["patient_id"])
    rows = rows[rows["text"].fillna("") != ""]
    first = rows.drop_duplicates("text").assign(head=lambda made: made.index)
    rows = rows.reset_index(names="row").merge(first, on="text", suffixes=("", "_head"))
    is_other = rows["patient"] != rows["patient_head"]
    others = rows[is_other].drop_duplicates("head").set_index("head")["row"]
    rows["partner"] = rows["head"].where(is_other, rows["head"].map(others))
    return rows.set_index("row")["partner"].dropna().to_dict()


def _passage(table):
    """Row -> the row whose report has the most surprising passage in common."""
    pairs = unusual_passages(table)
    partner = {}
    for pair in pairs.itertuples():
        partner.setdefault(pair.first, pair.second)
        partner.setdefault(pair.second, pair.first)
    return partner


def _together(parts):
    columns = ["check", "severity", "first", "second"]
    empty = pd.DataFrame(columns=columns).astype({"first": int, "second": int})
    return pd.concat([empty, *(part[columns] for part in parts if len(part))])
