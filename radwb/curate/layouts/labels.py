"""How sets code their labels: each as 1, 0, -1 (uncertain) or NaN (not mentioned)."""

import ast
import warnings
from fnmatch import fnmatchcase

import numpy as np
import pandas as pd

from radwb.data.names import printable
from radwb.data.table import FINDINGS
from radwb.findings.parents import with_parents


def labels_of(raw, films, blocks):
    """A column a finding, one row an image.

    Args:
        raw: the set's rows; an image may have several.
        films: the first row of each image, by image.
        blocks: [[labels]] of the set's TOML.
    """
    labels = pd.DataFrame(index=films.index)
    _warn_of_two(raw, blocks)
    for block in blocks:
        for finding, values in CODINGS[block["coding"]](raw, films, block).items():
            labels[finding] = np.asarray(values, float)
    if not blocks[0].get("published"):
        labels = with_parents(labels)
    return labels[[finding for finding in FINDINGS if finding in labels]]


def _warn_of_two(raw, blocks):
    """An image of several rows has the labels of its first, unless readers vote."""
    doubled = raw[raw["_image"].duplicated(keep=False)]
    rows = doubled.set_index("_image", drop=False)
    said = [
        pd.DataFrame(CODINGS[block["coding"]](rows, rows, block), rows.index)
        for block in blocks
        if len(rows) and block["coding"] != "readers"
    ]
    if not said:
        return
    different = pd.concat(said, axis=1).groupby(level=0).nunique(dropna=False) > 1
    images = different.index[different.any(axis=1)]
    if len(images):
        warnings.warn(
            f"{len(images)} images have several rows with different labels, and keep "
            f"those of the first, such as {printable(images[0])}.",
            stacklevel=4,
        )


def _columns(raw, films, block):
    """A column a finding, of the same name where nothing else is said."""
    names = block.get("names", {finding: [finding] for finding in FINDINGS})
    return {
        finding: pd.to_numeric(films[column])
        for finding, (column,) in names.items()
        if column in films
    }


def _listed(raw, films, block):
    """One column that lists what is there: what isn't listed is 0."""
    if block["column"] not in films:
        return {}
    texts = films[block["column"]]
    sets = {text: _names(text, block.get("between")) for text in texts.unique()}
    labels = {}
    for finding, patterns in block["names"].items():
        value = {
            text: _value(names, patterns, finding, block)
            for text, names in sets.items()
        }
        labels[finding] = [value[text] for text in texts]
    return labels


def _names(text, between):
    """Of NIH's and Open-i's "a|b", of PadChest's "['a', 'b']" or of one name."""
    if not isinstance(text, str):
        return []
    names = text.split(between) if between else [text]
    if text.startswith("["):
        try:
            names = ast.literal_eval(text)
        except (ValueError, SyntaxError):
            return []
    return [str(name).strip() for name in names]


def _value(names, patterns, finding, block):
    silent = [*block.get("silent", [""]), *block.get("unknown", {}).get(finding, [])]
    unsure = block.get("unsure", {}).get(finding, [])
    if any(_fits(name, patterns) for name in names):
        return 1
    if any(_fits(name, unsure) for name in names):
        return -1
    return np.nan if all(_fits(name, silent) for name in names) else 0


def _fits(name, patterns):
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _readers(raw, films, block):
    """Several readers an image: 1 of more than half of them, 0 of none, else -1."""
    reader = block["reader"]
    if reader not in raw:
        raw = raw.assign(**{reader: None})
    raw = raw.assign(**{reader: raw[reader].fillna("consensus")})
    readers = raw.groupby("_image")[reader].nunique()
    labels = {}
    for finding, names in block["names"].items():
        said = raw[_says(raw, names, block["column"])]
        votes = said.groupby("_image")[reader].nunique()
        share = (votes / readers).reindex(films.index).fillna(0)
        label = np.where(share > 0.5, 1.0, np.where(share > 0, -1.0, 0.0))
        without = [t for t, lack in block.get("missing", {}).items() if finding in lack]
        labels[finding] = np.where(films["_table"].isin(without), np.nan, label)
    return labels


def _says(raw, names, column):
    """(N,) whether a row says one of the names, in one column or in one of each."""
    if column in raw:
        return raw[column].isin(names)
    own = raw[[name for name in names if name in raw]]
    return own.apply(pd.to_numeric).eq(1).any(axis=1)


CODINGS = {"columns": _columns, "list": _listed, "readers": _readers}
