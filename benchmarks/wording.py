"""How near are the virtual reports' words to those of real ones?

python benchmarks/wording.py [REPORTS]     prints two tables (default 5,000 reports)

Real: Open-i's reports that nothing was counted in when the wide grammar was written, a
third by a hash of their number. Covered: share of the real words (every one, different
ones, those that come five times, pairs of neighbours) that the virtual reports have.
Nearest: how alike a real sentence is to the nearest of the virtual ones, as MiniLM's
cosine (where its weights are at hand), and how often it is one of them.
"""

import hashlib
import re
import sys
from collections import Counter

import numpy as np
import pandas as pd

import radwb as rw
from radwb.curate import sections
from radwb.simulate.patient import draw_lasting, draw_patient, draw_study
from radwb.simulate.words import GRAMMARS, STYLES, report_and_key

PARTS = ("findings", "impression")
ASKED = 1000  # real sentences whose nearest virtual one is looked for


def held_out(report_id):
    """Whether a report is of the third that nobody looked at."""
    digest = hashlib.sha256(f"openi{report_id}".encode()).hexdigest()
    return int(digest, 16) % 3 == 2


def virtual_reports(n, wording, seed=0):
    """Reports of a plain hospital's virtual patients, without their films."""
    dials = rw.simulate.Dials(wording=wording)
    anatomy = rw.simulate.default_anatomy(8.0)
    reports = []
    while len(reports) < n:
        rng = np.random.default_rng([seed, len(reports)])
        patient = draw_patient(rng, dials)
        lasting = draw_lasting(rng, patient, dials, anatomy)
        before = None
        for _ in range(int(rng.choice([1, 2, 3], p=[0.5, 0.3, 0.2]))):
            findings = draw_study(rng, patient, lasting, before, dials, anatomy)
            how = dict(before=before, style=str(rng.choice(list(STYLES))))
            text, _ = report_and_key(findings, rng, wording=wording, **how)
            reports.append(text)
            before = findings
    return reports[:n]


def words(text):
    return re.findall("[a-z]+", re.sub("X{2,}", " ", text).lower())


def sentences(reports):
    """Sentences of FINDINGS and IMPRESSION, without the numbers of a list."""
    found = []
    for report in reports:
        parts = sections(report)
        for part in PARTS:
            text = re.sub(r"(^|(?<=[.?!])\s+)\d+[.)]\s+", " ", parts[part])
            found += re.split(r"(?<=[.?!])\s+|(?<=[a-z]\.)(?=[A-Z])", text.strip())
    return [sentence for sentence in found if words(sentence)]


def counted(texts):
    """(Counter of words, Counter of pairs) of some sentences."""
    single = Counter()
    pairs = Counter()
    for text in texts:
        line = words(text)
        single.update(line)
        pairs.update(zip(line, line[1:], strict=False))
    return single, pairs


def share(real, known, least=1, each=False):
    """Share of the real words that are known; of different ones with `each`."""
    kept = {word: 1 if each else n for word, n in real.items() if n >= least}
    return sum(n for word, n in kept.items() if word in known) / sum(kept.values())


def covered(real, reports):
    """One row a section: what of the real words the virtual reports have."""
    said, said_pairs = counted(sentences(reports))
    rows = []
    for part in (*PARTS, "both"):
        names = PARTS if part == "both" else (part,)
        texts = [f"{name.upper()}: {t}" for name in names for t in real[name] if t]
        single, pairs = counted(sentences(texts))
        row = {
            "section": part,
            "words": share(single, said),
            "different words": share(single, said, each=True),
            "those that come 5 times": share(single, said, 5, each=True),
            "pairs": share(pairs, said_pairs),
            "different pairs": share(pairs, said_pairs, each=True),
        }
        rows.append(row)
    return pd.DataFrame(rows)


def nearest(real, reports):
    """How alike real sentences are to the nearest of 10,000 virtual ones."""
    rng = np.random.default_rng(0)
    ours = rng.permutation([s.lower() for s in sentences(reports)])[:10_000]
    known = sorted(set(ours))
    theirs = [s.lower() for s in sentences(list(real["report"]))]
    row = {
        "different ones in 10,000": len(known) * 10_000 / len(ours),
        "is one of them": np.mean([sentence in known for sentence in theirs]),
    }
    try:
        minilm = rw.models.load("minilm")
    except rw.data.FetchError:
        return row
    asked = minilm.encode_text(rng.permutation(theirs)[:ASKED].tolist())
    best = (asked @ minilm.encode_text(known).T).numpy().max(axis=1)
    row["nearest, mean"] = best.mean()
    row["nearest, lowest tenth"] = np.quantile(best, 0.1)
    row["nearest above 0.9"] = np.mean(best > 0.9)
    return row


def main(n=5000):
    table = rw.data.reports(rw.data.fetch("openi-reports"))
    real = table[[held_out(report_id) for report_id in table["report_id"]]]
    print(f"{len(real)} real reports, {n} virtual ones")
    rows = []
    for wording in GRAMMARS:
        reports = virtual_reports(int(n), wording)
        print(f"\n{wording}\n")
        print(covered(real, reports).round(3).to_string(index=False), flush=True)
        rows.append({"wording": wording, **nearest(real, reports)})
    print(f"\nsentences\n\n{pd.DataFrame(rows).round(3).to_string(index=False)}")


if __name__ == "__main__":
    main(*sys.argv[1:])
