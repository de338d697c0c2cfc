"""Published networks that the catalog of data names, each by its own name."""

import importlib.util

import pandas as pd

from radwb import data
from radwb.models.encoders3d import load_astra
from radwb.models.hub import published_folder
from radwb.models.keras_file import keras_model, read_keras
from radwb.models.language import load_smollm2
from radwb.models.sources import fill
from radwb.models.text import MiniLM

KERMANY_NOTES = (
    "trained by its publisher on children's films of Kermany et al.; how they were "
    "made square isn't stated: squashed by nearest pixels, as Keras's load_img does, "
    "is assumed",
)


def _kermany_xception(name, *, download):
    (file,) = published_folder(name, download=download).glob("*.keras")
    net, tensors = read_keras(file)
    classes = ["No Finding", "Pneumonia"]  # NORMAL, PNEUMONIA
    nearest = data.fit.Fit("squash", filter="nearest")
    model = keras_model(net, name, classes, KERMANY_NOTES, nearest)
    model.notes += fill(net, tensors, file)
    model.licence = data.catalog().set_index("name").loc[name, "licence"]
    return model


def _minilm(name, *, download):
    return MiniLM(download=download)


# name -> (name, download) -> the network
PUBLISHED = {
    "astra-ct": load_astra,
    "kermany-xception": _kermany_xception,
    "minilm": _minilm,
    "smollm2": load_smollm2,
}
# what each of them can be asked
ASKED = {
    "astra-ct": "features of places in a chest CT: attend.cells, attend.volume_map",
    "kermany-xception": "pneumonia in a child's chest film: probes, maps",
    "minilm": "how alike two sentences are",
    "smollm2": "text that goes on from a text; attention over its words",
}
SHIPPED = {
    "name": "radwb-tiny",
    "what": "the teaching model of notebook 02, trained on virtual films and reports",
    "asked": "a phrase about a chest film: zero-shot, probes, maps",
    "licence": "the package's own",
    "size_mb": 6,
    "source": "the package",
    "here": True,
}
BEFORE = SHIPPED | {
    "name": "radwb-tiny-v2",
    "what": "the release before, trained on plain virtual films alone",
}
# family -> its package, what it gives, what is asked of its networks
FAMILIES = {
    "open_clip:NAME": ("open_clip", "image and text towers", "a phrase, probes, maps"),
    "timm:NAME": ("timm", "image towers", "probes, neurons, maps"),
    "xrv:NAME": ("torchxrayvision", "classifiers of chest films", "findings, maps"),
    "monai:NAME/FILE": ("monai", "2-D networks from a file", "findings, maps"),
    "keras:FILE": ("h5py", "image classifiers of Keras 3", "classes, maps"),
    "merlin:FILE": ("monai", "an encoder of abdomen CTs", "cells, 3-D maps"),
    "ct-fm:FILE": ("monai", "an encoder of CTs", "cells, 3-D maps"),
    "hlip-chest:FILE": ("timm", "an encoder of chest CTs", "cells, 3-D maps"),
    "spectre:FILE": ("timm", "an encoder of CTs", "cells, 3-D maps"),
}


def published() -> pd.DataFrame:
    """Which networks `load` can get, from where, and which run offline now.

    >>> published().set_index("name").loc["smollm2", "licence"]
    'Apache-2.0'

    Returns:
        name, what it is, what it can be asked, licence, size_mb, source, and whether
        it's here; at the end a row for each family whose weights come from its hub or a
        file of yours (here: its package is installed).
    """
    rows = [SHIPPED, BEFORE]
    catalog = data.catalog().set_index("name")
    for name, asked in ASKED.items():
        entry = catalog.loc[name]
        row = {"name": name, "asked": asked, "source": entry["mirrors"]}
        for key in ("what", "licence", "size_mb", "here"):
            row[key] = entry[key]
        rows.append(row)
    for name, (package, what, asked) in FAMILIES.items():
        row = {"name": name, "what": what, "asked": asked}
        row |= {"licence": "each its own", "source": f"{package}, or a file of yours"}
        row["here"] = importlib.util.find_spec(package) is not None
        rows.append(row)
    order = ["name", "what", "asked", "licence", "size_mb", "source", "here"]
    return pd.DataFrame(rows)[order]
