"""The evidence cards of `radwb-tiny` and of the published Xception, into a folder.

    python benchmarks/evidence_cards.py FOLDER

The first is tried on virtual films of a seed on which nothing was chosen, the second on
real films of children (Kermany) and, where they are here, of adults (NIH).
"""

import sys
from pathlib import Path

import pandas as pd

import radwb as rw
from radwb.card.trial import some_films

MOST = 100  # films of children, and of adults: the Xception takes two minutes for all


def real_films():
    """Films of children, and of adults where they are on this machine."""
    tables = []
    for names in (("kermany", "kermany-16"), ("nih-64",)):
        for name in names:
            try:
                tables.append(some_films(rw.data.real(name), MOST, seed=0))
                break
            except rw.data.FetchError:
                print(f"{name} isn't here")
    return pd.concat(tables, ignore_index=True)


def main(folder):
    virtual = rw.simulate.cohort(n=1200, seed=7)
    virtual = rw.curate.split_by_patient(virtual, fractions=(0.4, 0.1, 0.5))
    for name, films in (("radwb-tiny", virtual), ("kermany-xception", real_films())):
        card = rw.card.evidence_card(rw.models.load(name), films)
        print(card.save(folder / f"{name}.html"), card.summary, sep="\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
