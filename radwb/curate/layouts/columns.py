"""Columns of the schema from a set's own."""

import re

import numpy as np
import pandas as pd

OLDEST = 120
PER_YEAR = {"": 1, "Y": 1, "M": 12, "W": 52.18, "D": 365.25}


def fill(template, table):
    """Text with {column} in it; None where a column is absent or empty.

    >>> fill("{a}_{b}", pd.DataFrame({"a": ["1", "2"], "b": ["x", None]})).tolist()
    ['1_x', None]
    """
    literal, *rest = re.split(r"\{(.+?)\}", template)
    text = pd.Series(literal, table.index, dtype=object)
    for column, literal in zip(rest[::2], rest[1::2], strict=True):
        if column not in table:
            return pd.Series(None, table.index, dtype=object)
        text = text + table[column].astype(object) + literal
    return text.where(text.notna(), None)


def first_of(templates, table, values=None):
    """(N,) of the first template that can be filled in a row.

    Args:
        templates: as `fill` takes them.
        table: a set's own columns.
        values: {text: what it is called here}; what isn't in it is None.
    """
    out = pd.Series(None, table.index, dtype=object)
    for template in templates:
        text = fill(template, table)
        if values is not None:
            text = text.map(values)
        out = out.where(out.notna(), text)
    return out.where(out.notna(), None)


def ages(columns, table):
    """(N,) in years of an age, such as 46, 046Y or 006M, or of a year of birth."""
    if "born" in columns:
        day = first_of(columns["study_date"], table)
        born = first_of(columns["born"], table)
        year = pd.to_numeric(day.str[:4], errors="coerce")
        years = year - pd.to_numeric(born, errors="coerce")
    else:
        text = first_of(columns.get("age", []), table).astype("string")
        parts = text.str.strip().str.extract(r"^(\d+)(?:\.0)?([DWMY]?)$")
        years = pd.to_numeric(parts[0]) / parts[1].map(PER_YEAR)
    years = years.astype(float)
    odd = (years > OLDEST) | (years == columns.get("age_unknown", -1))
    return np.where(odd, np.nan, years)
