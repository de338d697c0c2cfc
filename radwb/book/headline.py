"""The numbers that a notebook is remembered by."""

import numbers

MIME = "application/vnd.radwb.headline+json"


def headline(**values) -> None:
    """Show named numbers, and hand them to `radwb tour`, which puts them into the
    gallery and tour.json.

    >>> rw.book.headline(mean_auroc=0.871, interval="0.84 to 0.90")
    mean auroc: 0.871    interval: 0.84 to 0.90

    Args:
        values: name -> number or short text; "_" is shown as a blank.
    """
    values = {name: plain(value) for name, value in values.items()}
    line = "    ".join(
        f"{name.replace('_', ' ')}: {said(value)}" for name, value in values.items()
    )
    try:
        from IPython import get_ipython
        from IPython.display import display
    except ImportError:
        get_ipython = lambda: None  # noqa: E731
    if get_ipython() is None:
        print(line)
    else:
        display(
            {MIME: [list(pair) for pair in values.items()], "text/plain": line},
            raw=True,
        )


def plain(value):
    """numpy and torch scalars as JSON can hold them."""
    value = value.item() if hasattr(value, "item") else value
    if value is None or isinstance(value, (bool, str)):
        return value
    return int(value) if isinstance(value, numbers.Integral) else float(value)


def said(value) -> str:
    return (
        f"{value:.3g}"
        if isinstance(value, float)
        else f"{value:,}"
        if type(value) is int
        else str(value)
    )
