"""What published models are worth on real films: each figure with n and interval.

python benchmarks/published.py [FILE]     prints a table, and writes it as JSON to FILE

The classifier of children's films, on the 16 films of its wheel, and on the sets that
RADWB_MIRROR names where they are there: Kermany's children, adults of NIH
ChestX-ray14 at 64 px. A set that is missing is named and left out.
"""

import sys

import numpy as np
import pandas as pd
import torch

import radwb as rw

SETS = ("kermany-16", "kermany", "nih-64")
FINDINGS = ("Consolidation", "Lung Opacity")
BATCH = 32


def answers(model, films, fit):
    """(N,) log odds of pneumonia, and (N, E) features, of one pass."""
    squares = rw.data.images(films, model.size, fit=fit)
    features = []

    def keep(module, inputs, output):
        features.append(output.numpy())

    hook = model.net.parts[model.net.pool].register_forward_hook(keep)
    odds = []
    with torch.no_grad():
        for start in range(0, len(squares), BATCH):
            x = model.preprocess(squares[start : start + BATCH])
            odds.append(model.classify(x)[:, model.findings.index("Pneumonia")])
    hook.remove()
    return torch.cat(odds).numpy(), np.concatenate(features)


def row(figure, films, measured, value="auroc"):
    """One line of the table."""
    about = {"figure": figure, "films": measured["n"], "patients": measured["patients"]}
    says = rw.stats.format_interval(measured, value)
    ends = {end: measured[end] for end in ("low", "high")}
    return about | {"value": float(measured[value]), **ends, "says": says, "of": films}


def share_called_sick(name, films, odds):
    """Of the films without a finding."""
    well = (films["No Finding"] == 1).to_numpy()
    called = odds[well] > 0
    share = rw.stats.clustered_mean(called, films["patient_id"][well], share=True)
    return row("well, called sick", name, share, "mean")


def of_children(name, films, odds):
    ranked = rw.stats.clustered_auroc(films["Pneumonia"], odds, films["patient_id"])
    return [row("AUROC, pneumonia", name, ranked), share_called_sick(name, films, odds)]


def of_adults(name, films, odds, features):
    rows = [share_called_sick(name, films, odds)]
    for finding in FINDINGS:
        case = films[finding] == 1
        # all others, or those without any finding: the second is the easier question
        for others in ("all others", "no finding"):
            asked = case | (films["No Finding"] == 1)
            if others == "all others":
                asked = films[finding].isin([0, 1])
            kept = asked.to_numpy()
            ranked = rw.stats.clustered_auroc(
                films[finding][kept] == 1, odds[kept], films["patient_id"][kept]
            )
            rows.append(row(f"AUROC, {finding} against {others}", name, ranked))
    return rows + view_told(name, films, odds, features)


def view_told(name, films, odds, features):
    """AP or PA by linear probes, in folds by patient, and by the answer itself."""
    viewed = films.assign(AP=(films["view"] == "AP").astype(float))
    asked = {
        "its features": features,
        "16 x 16 pixels": rw.probe.raw_pixels(films, 16, fit="squash"),
    }
    rows = []
    for what, scores in rw.probe.baselines(asked, viewed, label="AP").items():
        told = scores[0].auroc().iloc[0]
        rows.append(row(f"AUROC, AP or PA by a probe of {what}", name, told))
    told = rw.stats.clustered_auroc(viewed["AP"], odds, films["patient_id"])
    return [*rows, row("AUROC, AP or PA by the answer", name, told)]


def measured(model):
    rows = []
    for name in SETS:
        try:
            films = rw.data.real(name)
        except rw.data.FetchError:
            print(f"{name}: not on this machine, left out")
            continue
        odds, features = answers(model, films, model.fit)
        if name == "nih-64":
            rows += of_adults(name, films, odds, features)
        else:
            rows += of_children(name, films, odds)
        smooth, _ = answers(model, films[films["No Finding"] == 1], "squash")
        healthy = films[films["No Finding"] == 1].reset_index(drop=True)
        again = share_called_sick(name, healthy, smooth)
        rows.append(again | {"figure": "well, called sick, films resized smoothly"})
    return pd.DataFrame(rows)


def main(out=None):
    table = measured(rw.models.load("kermany-xception", download=True))
    shown = ["of", "figure", "says", "films", "patients"]
    print(table[shown].to_string(index=False))
    if out:
        table.to_json(out, orient="records", indent=1)


if __name__ == "__main__":
    main(*sys.argv[1:])
