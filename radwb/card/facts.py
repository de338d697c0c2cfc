"""What a card says of the model and of the films: asked of both, never typed."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch.utils.flop_counter import FlopCounterMode

from radwb import data
from radwb.curate.split import PARTS
from radwb.models import Model
from radwb.models.zoo import SHIPPED
from radwb.pretrain.run import read_config

GROUPS = ("view", "site", "sex")
UNKNOWN = "not stated"


@dataclass(frozen=True)
class ModelFacts:
    """Which model it was.

    Attributes:
        name, kind, licence, notes, findings: as `rw.models.Model` has them.
        sha256: over names, kinds, shapes and values of all its tensors.
        weights, megabytes: numbers in it, and their size in memory.
        input: what it is fed.
        gflop_per_film: of its image tower, two a multiplication; None where it can't be
            counted.
        training_minutes, energy_wh: as its run's log has them; None without.
    """

    name: str
    kind: str
    sha256: str
    weights: int
    megabytes: float
    input: str
    findings: tuple[str, ...]
    licence: str
    notes: tuple[str, ...]
    gflop_per_film: float | None
    training_minutes: float | None
    energy_wh: float | None


@dataclass(frozen=True)
class DataFacts:
    """Which films it was tried on.

    Attributes:
        films, patients: that it was tried on.
        chosen: which rows of the table these are.
        parts: (part, films, patients) of the whole table.
        in_two_parts: patients that more than one part has.
        findings: (finding, films with it, patients with it, films without, films not
            said) of the films it was tried on.
        groups: (column, group, films, patients) of these.
        age_years: least, median and greatest; () where no age is known.
        card: what `rw.curate.publish` states of the cohort; {} without.
    """

    films: int
    patients: int
    chosen: str
    parts: tuple[tuple, ...]
    in_two_parts: int
    findings: tuple[tuple, ...]
    groups: tuple[tuple, ...]
    age_years: tuple[float, ...]
    card: dict


def of_model(model: Model) -> ModelFacts:
    """The facts of a model.

    >>> of_model(model).weights
    2895817
    """
    tensors = model.net.state_dict()
    size = sum(t.numel() * t.element_size() for t in tensors.values())
    minutes, energy = _cost(model.name)
    preprocessing = f"{model.size} x {model.size} px, fit {model.fit!s}"
    return ModelFacts(
        name=_without_place(model.name),
        kind=model.kind,
        sha256=sha256_of(tensors),
        weights=sum(p.numel() for p in model.net.parameters()),
        megabytes=round(size / 1e6, 1),
        input=f"{preprocessing}, {model.channels} channel(s), greys {model.tone}",
        findings=tuple(model.findings or ()),
        licence=model.licence or UNKNOWN,
        notes=tuple(model.notes),
        gflop_per_film=_gflop(model),
        training_minutes=minutes,
        energy_wh=energy,
    )


def sha256_of(tensors: Mapping[str, torch.Tensor]) -> str:
    """Over names, kinds, shapes and values, whatever file they came from.

    >>> one = {"w": torch.zeros(3)}
    >>> sha256_of(one) == sha256_of({"w": torch.zeros(3) + 1})
    False
    """
    total = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        about = f"{name} {tensor.dtype} {tuple(tensor.shape)}\n"
        total.update(about.encode())
        total.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return total.hexdigest()


def _without_place(name):
    """A folder of this machine says nothing to others."""
    return Path(name).name if Path(name).is_dir() else str(name)


def _gflop(model):
    x = model.preprocess(np.zeros((1, model.size, model.size), np.uint8))
    try:
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            model.encode_image(x)
    except Exception:  # a network of one's own may do what can't be counted
        return None
    return round(counter.get_total_flops() / 1e9, 3)


def _cost(name):
    """Minutes and Wh of the run that made a model, where its folder is here."""
    shipped = SHIPPED / name
    folder = shipped if shipped.is_dir() else Path(name)
    cost = read_config(folder).get("cost", {})
    energy = cost.get("energy_wh_estimate")
    log = folder / "log.csv"
    minutes = None
    if log.is_file():
        minutes = round(float(pd.read_csv(log)["seconds"].max()) / 60, 1)
    return minutes, energy if energy is None else round(float(energy), 2)


def of_data(table: pd.DataFrame, test: pd.DataFrame, chosen: str, card) -> DataFacts:
    """The facts of the films.

    >>> of_data(table, table, "all of them", None).films
    60

    Args:
        table: all rows.
        test: those that the model is tried on.
        chosen: which these are, in words.
        card: of the cohort: what `rw.curate.publish` returned, or its folder.
    """
    ages = pd.to_numeric(test.get("age_years", pd.Series(dtype=float))).dropna()
    years = [ages.min(), ages.median(), ages.max()] if len(ages) else []
    return DataFacts(
        films=len(test),
        patients=int(test["patient_id"].nunique()),
        chosen=chosen,
        parts=tuple(_parts(table)),
        in_two_parts=_in_two_parts(table),
        findings=tuple(_findings(test)),
        groups=tuple(_groups(test)),
        age_years=tuple(float(year) for year in years),
        card=_stated(card),
    )


def _parts(table):
    if "split" not in table:
        return
    for part in PARTS:
        rows = table[table["split"] == part]
        if len(rows):
            yield part, len(rows), int(rows["patient_id"].nunique())


def _in_two_parts(table):
    if "split" not in table:
        return 0
    parts = table.groupby("patient_id")["split"].nunique()
    return int((parts > 1).sum())


def _findings(test):
    for finding in data.findings_of(test):
        labels = pd.to_numeric(test[finding])
        has = labels == 1
        without = int((labels == 0).sum())
        people = int(test["patient_id"][has].nunique())
        unsaid = len(test) - int(has.sum()) - without
        yield finding, int(has.sum()), people, without, unsaid


def _groups(test):
    for column in GROUPS:
        if column in test:
            for name, rows in test.groupby(column):
                yield column, str(name), len(rows), int(rows["patient_id"].nunique())


def _stated(card):
    """Of a published cohort what a reader needs to find and judge it."""
    if card is None:
        return {}
    if not isinstance(card, Mapping):
        card = json.loads((Path(card) / "manifest.json").read_text())
    pages = {file["name"]: file["sha256"] for file in card["cards"]}
    audit = card["audit"]
    return {
        "title": card["title"],
        "licence": card["licence"],
        "source": card["source"],
        "split by": card["split"]["by"],
        "films": card["films"],
        "patients": card["patients"],
        "limits": list(card["limits"]),
        "audit": [row["sentence"] for row in audit["rows"]] if audit else [],
        "sha256 of its data card": pages.get("card.html", ""),
    }
