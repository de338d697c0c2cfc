"""The numbers that a notebook is remembered by."""

import numbers
import sys

MIME = "application/vnd.radwb.headline+json"


def headline(**values: object) -> None:
    """Show named numbers, and hand them to `radwb tour` for gallery and tour.json.

    >>> rw.book.headline(mean_auroc=0.871, interval="0.84 to 0.90")
    mean auroc: 0.871    interval: 0.84 to 0.90

    Args:
        values: name -> number or short text; "_" is shown as a blank.
    """
    pairs = [(name, as_json(value)) for name, value in values.items()]
    words = [f"{name.replace('_', ' ')}: {number_text(value)}" for name, value in pairs]
    line = "    ".join(words)
    ipython = sys.modules.get("IPython")
    if ipython is None or ipython.get_ipython() is None:
        print(line)
    else:
        data = {MIME: [list(pair) for pair in pairs], "text/plain": line}
        ipython.display.display(data, raw=True)


def as_json(value):
    """Scalars of numpy and torch as JSON can hold them."""
    if hasattr(value, "item"):
        value = value.item()
    if value is None or isinstance(value, bool | str):
        return value
    return int(value) if isinstance(value, numbers.Integral) else float(value)


def number_text(value):
    """A number as a headline has it; any other value as it is."""
    if isinstance(value, float):
        return f"{value:.3g}"
    return f"{value:,}" if type(value) is int else str(value)
