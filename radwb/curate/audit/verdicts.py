"""Verdicts on what an audit flagged, applied to the table."""

import warnings
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from radwb.curate.audit.flagged import IN_TWO_PARTS
from radwb.identifiers import identifiers

VERDICTS = ("drop", "drop first", "drop second", "keep", "unsure")
COLUMNS = ("case", "check", "first", "second", "verdict", "note", "when")
NAMED_BY = ("path", "study_id", "image_id", "patient_id")
STAYS = {"test": 0, "val": 1, "train": 2}  # the lower number stays
ELSEWHERE = 3  # another part, or none


def apply_verdicts(
    table: pd.DataFrame, verdicts: pd.DataFrame | str | Path
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Take out of a table what was judged "drop", so that its split gets clean.

    A film or report goes itself. Of films that are one film one stays: that of the
    test part before val before train, in one part the first; "drop first" and "drop
    second" name the one that goes, and together must leave one. A patient (or study,
    ...) in two parts stays in test before val before train. A patient whose film goes
    keeps all other films.

    >>> verdicts = pd.DataFrame({"check": ["label noise"], "verdict": ["drop"]})
    >>> verdicts["first"] = table["path"].iloc[2]
    >>> kept, dropped = apply_verdicts(table, verdicts)
    >>> len(table) - len(kept), dropped["reason"].tolist()
    (1, ['label noise'])

    Args:
        table: that was audited, in any order. A "drop" on rows that it has no more is
            passed over, with a warning.
        verdicts: the CSV that `rw.show.review` wrote, or its `verdicts`.
    Returns:
        what is kept; and what goes, with `reason`: the check it goes for. Both have the
        table's index.
    Raises:
        ValueError: no table of verdicts, a word that is none, verdicts that aren't on
            films of this table, or that leave none of films that are one film.
    """
    places = {name: place for place, name in enumerate(row_names(table))}
    judged = _checked(verdicts)
    # of a pair whose other film is gone, what is left is no copy any more
    judged["alone"] = judged["second"] == ""
    _leaves_one(judged, places)
    for column in ("first", "second"):
        judged[column] = judged[column].map(places)
    if len(judged) and judged[["first", "second"]].isna().all(axis=None):
        raise ValueError(
            f"expected verdicts on rows of this table, got {len(judged)} on others. "
            "Try the table that was audited, with the same paths"
        )
    _warn_of_strangers(judged)
    reasons = _alone(judged)
    drops = judged[judged["verdict"] == "drop"]
    _outside(reasons, drops, table)
    copies = drops[~drops["check"].isin(IN_TWO_PARTS)]
    _copies(reasons, copies.dropna(subset=["first", "second"]), table)
    goes = np.zeros(len(table), bool)
    goes[list(reasons)] = True
    reason = [reasons[place] for place in np.flatnonzero(goes)]
    return table[~goes], table[goes].assign(reason=reason)


def row_names(table: pd.DataFrame) -> list[str]:
    """A name for each row, by which a verdict finds it in another order of the table.

    Its path, or else its study, image or patient; rows of one name have their patient,
    or their number among themselves, behind it.

    >>> row_names(pd.DataFrame({"path": ["a", "b", "a"], "patient_id": [1, 2, 3]}))
    ['a (1)', 'b', 'a (3)']
    """
    columns = [column for column in NAMED_BY if column in table.columns]
    values = table[columns[0]] if columns else table.index.to_series()
    names = values.astype(str).reset_index(drop=True)
    if "patient_id" in table.columns:
        patient = table["patient_id"].astype(str).reset_index(drop=True)
        alone = ~names.duplicated(keep=False)
        names = names.where(alone, names + " (" + patient + ")")
    number = names.groupby(names).cumcount() + 1
    alone = ~names.duplicated(keep=False)
    return names.where(alone, names + " #" + number.astype(str)).tolist()


def stays_first(table: pd.DataFrame) -> np.ndarray:
    """(N,) rank of each row: of two copies that with the lower one stays."""
    if "split" not in table.columns:
        return np.full(len(table), ELSEWHERE)
    part = table["split"].map(STAYS).fillna(ELSEWHERE)
    return part.to_numpy(dtype=int)


def _checked(verdicts):
    """check, first, second and verdict of each, as text."""
    if not isinstance(verdicts, pd.DataFrame):
        path = Path(verdicts).expanduser()
        if not path.exists():
            raise ValueError(
                f"expected a CSV of verdicts, got {path}, which isn't there. Try "
                "rw.show.review(audit, verdicts=...), which writes it at the first one"
            )
        verdicts = pd.read_csv(path, dtype=str, keep_default_na=False)
    missing = {"check", "first", "verdict"} - set(verdicts.columns)
    if missing:
        raise ValueError(
            f"expected verdicts with the columns {', '.join(COLUMNS)}; got "
            f"{list(verdicts.columns)}"
        )
    verdicts = verdicts.reindex(columns=["check", "first", "second", "verdict"])
    verdicts = verdicts.fillna("").astype(str).reset_index(drop=True)
    unknown = set(verdicts["verdict"]) - {*VERDICTS, ""}
    if unknown:
        raise ValueError(f"expected a verdict of {VERDICTS}, got {sorted(unknown)}")
    return verdicts


def _leaves_one(judged, places):
    """Refuse verdicts on pairs that together take out all that are one film.

    By names, not rows: where the one that should stay has left the table since, nothing
    contradicts itself.
    """
    is_pair = ~judged["alone"] & ~judged["check"].isin(IN_TWO_PARTS)
    pairs = judged[is_pair & judged["verdict"].str.startswith("drop")]
    number, names = pd.factorize(pairs[["first", "second"]].to_numpy().ravel())
    rows = pd.DataFrame({"name": names, "film": _films(number, len(names))})
    first = pairs.loc[pairs["verdict"] == "drop first", "first"]
    second = pairs.loc[pairs["verdict"] == "drop second", "second"]
    rows["goes"] = rows["name"].isin({*first, *second})
    rows = rows[rows.groupby("film")["goes"].transform("all")]
    here = rows.loc[rows["name"].isin(places), "film"]
    if len(here):
        one = rows.loc[rows["film"] == here.iloc[0], "name"].tolist()
        raise ValueError(
            "expected verdicts that leave one of films that are one film, got some "
            f"that take out all {len(one)} of {one[:5]}. Try 'drop' on one "
            "of their pairs, which keeps one by itself"
        )


def _warn_of_strangers(judged):
    """Say how many verdicts would drop something and don't find what they name."""
    verdict = judged["verdict"]
    no_first = judged["first"].isna() & (verdict != "drop second")
    no_second = judged["second"].isna() & (verdict != "drop first") & ~judged["alone"]
    drops = verdict.str.startswith("drop")
    strange = (no_first | no_second)[drops]
    if strange.any():
        warnings.warn(
            f"{strange.sum()} verdicts that drop something are on rows that this table "
            "has no more, or under another name: they are passed over. Try the table "
            "that was audited, whole",
            stacklevel=3,
        )


def _alone(judged):
    """{row: reason} of those that were named one by one."""
    is_drop = judged["verdict"] == "drop"
    single = judged["alone"] & ~judged["check"].isin(IN_TWO_PARTS)
    named = {
        "first": (judged["verdict"] == "drop first") | (is_drop & single),
        "second": judged["verdict"] == "drop second",
    }
    reasons = {}
    for column, rows in named.items():
        rows = judged[rows].dropna(subset=column)
        reasons |= dict(zip(rows[column].astype(int), rows["check"], strict=True))
    return reasons


def _outside(reasons, drops, table):
    """Add the rows of a patient, study, ... in another part than that which stays."""
    rank = stays_first(table)
    for check, column in IN_TWO_PARTS.items():
        here = drops[drops["check"] == check]
        if here.empty:
            continue
        names = identifiers(table[column])
        rows = pd.DataFrame({"name": names, "part": table["split"].to_numpy()})
        rows = rows.assign(rank=rank).dropna()
        ends = here[["first", "second"]].stack().dropna().astype(int)
        rows = rows[rows["name"].isin(names[ends])].sort_values(["rank", "part"])
        stays = rows.groupby("name", sort=False)["part"].transform("first")
        for place in rows.index[rows["part"] != stays]:
            reasons.setdefault(place, check)


def _copies(reasons, drops, table):
    """Add all but one of the rows that are one film, be it a pair or a dozen."""
    ends = drops[["first", "second"]].to_numpy(dtype=int)
    film = _films(ends, len(table))
    rows = pd.DataFrame({"film": film, "rank": stays_first(table)})
    rows = rows.loc[np.setdiff1d(ends, list(reasons))]
    rows = rows.sort_values("rank", kind="stable")
    why = {}
    for (first, second), check in zip(ends, drops["check"], strict=True):
        why.setdefault(first, check)
        why.setdefault(second, check)
    for place in rows.index[rows.duplicated("film")]:
        reasons[place] = why[place]


def _films(ends, n):
    """(n,) which film each of n rows is, where pairs of them are one film."""
    ends = ends.reshape(-1, 2)
    graph = coo_array((np.ones(len(ends)), ends.T), shape=(n, n))
    return connected_components(graph, directed=False)[1]
