"""Tables that several test files start from."""

import numpy as np
import pandas as pd


def patients_table(patients, findings, *, images=(1, 3), train=None, seed=0):
    """Films of patients with images[0] to images[1] each; a label holds for a patient.

    Args:
        findings: name -> share of the patients who have it.
        train: so many patients are in split "train", the others in "test".
    """
    rng = np.random.default_rng(seed)
    fewest, most = images
    patient = np.repeat(np.arange(patients), rng.integers(fewest, most + 1, patients))
    table = pd.DataFrame({"patient_id": [f"p{p}" for p in patient]})
    table["path"] = [f"{film}.png" for film in table.index]
    for finding, share in findings.items():
        table[finding] = (rng.random(patients) < share)[patient].astype(int)
    if train is not None:
        table["split"] = np.where(patient < train, "train", "test")
    return table
