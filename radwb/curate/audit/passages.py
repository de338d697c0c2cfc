"""Reports of two patients that have more words in common than chance gives."""

import re

import numpy as np
import pandas as pd

WORD = re.compile(r"\w+")
RUN = 8  # words: a passage is made of such runs
FEW = 8  # patients: a run that more of them share is a phrase, and says nothing
MOST_WORDS = 5_000  # of a report that are looked at
MOST_LETTERS = 60_000
BASE = np.uint64(0x9E3779B97F4A7C15)  # odd: of the running hash


def common_passages(reports: pd.Series, patients: np.ndarray) -> pd.DataFrame:
    """Pairs of two patients' reports with runs of words that hardly anybody else has.

    A run of eight words that k of N patients have is in two given ones by chance
    (k / N) squared times; eight words further on it counts anew. `surprise` is the log
    of how many times rarer than once in all pairs the common runs together are.

    >>> long = "a woman of seventy was admitted with a fever and a cough for nine days"
    >>> reports = pd.Series([long, *(f"report {n} is short" for n in range(50)), long])
    >>> common_passages(reports, np.arange(52))[["first", "second"]].values.tolist()
    [[0, 51]]

    Args:
        reports: (N,) texts; anything else is passed over.
        patients: (N,) number of each row's patient.
    Returns:
        a row a pair of patients, most surprising first: `first`, `second` (rows of the
        reports that share most), `words` in common, `surprise`.
    """
    runs = _runs(reports)
    runs["patient"] = np.asarray(patients)[runs["row"]]
    runs = runs.drop_duplicates(["run", "patient"])
    holders = runs.groupby("run")["patient"].transform("size")
    runs = runs[(holders > 1) & (holders <= FEW)].assign(holders=holders)
    N = max(len(np.unique(patients)), 2)
    pairs = runs.merge(runs, on="run", suffixes=("", "_other"))
    pairs = pairs[pairs["patient"] < pairs["patient_other"]]
    pairs["surprise"] = 2 * np.log(N / pairs["holders"]) / RUN
    both = ["patient", "patient_other"]
    out = pairs.groupby(both).agg(words=("run", "size"), surprise=("surprise", "sum"))
    out.insert(0, "first", _usual(pairs, both, "row"))
    out.insert(1, "second", _usual(pairs, both, "row_other"))
    out["words"] += RUN - 1
    out["surprise"] -= np.log(N * (N - 1) / 2)
    out = out.sort_values("surprise", ascending=False, kind="stable")
    return out.reset_index(drop=True)


def _usual(pairs, both, column):
    """Each two patients' most frequent value; of several the smallest."""
    counts = pairs.groupby([*both, column]).size().rename("times").reset_index()
    counts["times"] = -counts["times"]
    counts = counts.sort_values([*both, "times", column])
    return counts.drop_duplicates(both).set_index(both)[column]


def words_of(report) -> list[str]:
    """The words of a report, in small letters; none of what is no text."""
    if not isinstance(report, str):
        return []
    return WORD.findall(report[:MOST_LETTERS].lower())[:MOST_WORDS]


def _runs(reports):
    """Each run of words in each report: `row`, and `run`, a hash of its words."""
    words = [words_of(report) for report in reports]
    lengths = np.array([len(some) for some in words], dtype=int)
    row = np.repeat(np.arange(len(words)), lengths)
    codes, _ = pd.factorize(np.array([w for some in words for w in some], dtype=object))
    last = len(codes) - RUN + 1
    if last < 1:
        return pd.DataFrame({"row": row[:0], "run": np.empty(0, np.uint64)})
    run = np.zeros(last, np.uint64)
    for step in range(RUN):
        run = run * BASE + codes[step : step + last].astype(np.uint64) + np.uint64(1)
        run ^= run >> np.uint64(29)
    whole = row[:last] == row[RUN - 1 :]
    frame = pd.DataFrame({"row": row[:last][whole], "run": run[whole]})
    return frame.drop_duplicates()
