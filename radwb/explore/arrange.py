"""In which order the films are shown, and which of them."""

FIRST = {"by": "", "down": False, "keep": {}, "label": ""}


def arranged(rows: list[dict], by: str, down: bool, keep: dict) -> list[int]:
    """The cases that are kept, sorted by a column; those without a value last.

    >>> arranged([{"age": 3}, {"age": None}, {"age": 1}], "age", False, {})
    [2, 0, 1]

    Args:
        rows: column -> value, of each case.
        by: a column, "" = as they are.
        down: the highest first.
        keep: column -> the value that is kept.
    """
    cases = kept(rows, keep)
    if not by:
        return cases
    known = [case for case in cases if rows[case].get(by) is not None]
    unknown = [case for case in cases if rows[case].get(by) is None]
    known.sort(key=lambda case: _sortable(rows[case][by]), reverse=down)
    return known + unknown


def kept(rows: list[dict], keep: dict) -> list[int]:
    """The cases whose columns have these values."""
    cases = []
    for case, row in enumerate(rows):
        if all(row.get(column) == value for column, value in keep.items()):
            cases.append(case)
    return cases


def require_columns(columns: list[str], asked) -> None:
    """ValueError where one isn't there."""
    for column in asked:
        if column not in columns:
            raise ValueError(f"expected one of {columns}, got {column!r}")


def _sortable(value):
    # numbers before words, each among their own
    if isinstance(value, int | float):
        return 0, value, ""
    return 1, 0, str(value).casefold()
