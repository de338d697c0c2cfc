"""Checks for exercises: they take what the learner wrote and say "ok" with evidence.

Where it is wrong they raise, with evidence.
"""

import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

OK = "\033[32mok\033[0m"
TODO = "\033[33mnot attempted yet\033[0m"


def matches(
    mine: Any,
    reference: Any,
    *args: Any,
    cases: Sequence[tuple] | None = None,
    tol: float = 1e-5,
) -> None:
    """Show that what was written by hand equals the reference.

    >>> matches(0.1 + 0.2, 0.3)
    \x1b[32mok\x1b[0m  the two equal each other (largest difference 5.6e-17)
    >>> def double(x):
    ...     return x + x
    >>> matches(double, lambda x: 2 * x, 3)
    \x1b[32mok\x1b[0m  double equals <lambda> on 1 case (largest difference 0)

    Args:
        mine: a value (number, array, tensor, table, or a list or dict of them), or a
            function.
        reference: the value or the function to compare with. A value also serves for a
            function called on `args`.
        args: what both functions are called on.
        cases: several tuples of arguments instead of one.
        tol: largest difference allowed, as a share of max(1, |reference|).
    Raises:
        AssertionError: where and how far they differ. A function that raises
            NotImplementedError only gets the line "not attempted yet".
    """
    if not callable(mine):
        worst = _difference(mine, reference, tol, "the value")
        print(f"{OK}  the two equal each other (largest difference {worst:.2g})")
        return
    name = _name(mine)
    worst = 0.0
    cases = [args] if cases is None else list(cases)
    for case in cases:
        expected = reference(*case) if callable(reference) else reference
        try:
            got = mine(*case)
        except NotImplementedError:
            print(f"{TODO}: {name}")
            return
        arguments = ", ".join(_brief(value) for value in case)
        where = f"{name}({arguments})"
        worst = max(worst, _difference(got, expected, tol, where))
    other = _name(reference) if callable(reference) else "the expected value"
    counted = "1 case" if len(cases) == 1 else f"{len(cases)} cases"
    print(f"{OK}  {name} equals {other} on {counted} (largest difference {worst:.2g})")


def close(a: Any, b: Any, *, tol: float = 1e-5) -> None:
    """Show that two values of your own are equal within `tol`.

    >>> close(np.ones(4).sum() / 4, 1)
    \x1b[32mok\x1b[0m  equal (largest difference 0)

    Args:
        a, b: as in `matches`, but no functions.
        tol: largest difference allowed, as a share of max(1, |b|).
    """
    worst = _difference(a, b, tol, "the value")
    print(f"{OK}  equal (largest difference {worst:.2g})")


def shape(x: Any, pattern: str, **sizes: int) -> dict[str, int]:
    """Show that your array has the axes that `pattern` names, and say their lengths.

    >>> lengths = shape(np.zeros((2, 101, 192)), "B T E", T=101)
    \x1b[32mok\x1b[0m  B=2, T=101, E=192

    Args:
        x: anything with a shape.
        pattern: names in order; a number must be that length; the same name twice must
            be the same length.
        sizes: lengths that must hold.
    Returns:
        name -> length.
    """
    names = pattern.split()
    got = tuple(int(length) for length in x.shape)
    lengths = {}
    fits = len(names) == len(got)
    for name, length in zip(names, got, strict=False):
        if re.fullmatch(r"\d+", name):
            expected = int(name)
        else:
            required = sizes.get(name, length)
            expected = lengths.setdefault(name, required)
        fits &= expected == length
    if not fits:
        held = f" with {_listed(sizes)}" if sizes else ""
        raise AssertionError(f"expected the axes {pattern}{held}, got the shape {got}")
    print(f"{OK}  {_listed(lengths)}")
    return lengths


def _listed(lengths):
    parts = [f"{name}={length}" for name, length in lengths.items()]
    return ", ".join(parts)


def _difference(got, expected, tol, where):
    """The largest difference of two values; where it is too large an AssertionError."""
    if got is None:
        raise AssertionError(
            f"{where}: expected {_brief(expected)}, got None. "
            "Does the function return its result?"
        )
    if isinstance(expected, dict):
        keys = set(expected)
        if not isinstance(got, dict) or set(got) != keys:
            raise AssertionError(
                f"{where}: expected a dict with the keys {sorted(expected)}, "
                f"got {_brief(got)}"
            )
        return _largest(got, expected, expected, tol, where)
    if isinstance(expected, (str, bytes, bool, set, frozenset)):
        if got != expected:
            raise AssertionError(f"{where}: expected {expected!r}, got {got!r}")
        return 0.0
    if isinstance(expected, (list, tuple)) and not _numbers(expected):
        length = len(expected)
        if len(got) != length:
            raise AssertionError(f"{where}: expected {length} entries, got {len(got)}")
        return _largest(list(got), expected, range(length), tol, where)
    return _array_difference(_array(got), _array(expected), tol, where)


def _numbers(values):
    return all(isinstance(value, (int, float)) for value in values)


def _largest(got, expected, keys, tol, where):
    worst = 0.0
    for key in keys:
        place = f"{where}[{key!r}]"
        worst = max(worst, _difference(got[key], expected[key], tol, place))
    return worst


def _array_difference(got, expected, tol, where):
    if got.shape != expected.shape:
        raise AssertionError(
            f"{where}: expected the shape {expected.shape}, got {got.shape}"
        )
    if expected.dtype.kind not in "biufc":
        _require_same(got, expected, where)
        return 0.0
    gap = _gap(got, expected)
    finite = np.where(np.isfinite(expected), expected, 0)
    size = np.maximum(1, np.abs(finite))
    excess = gap - tol * size
    wrong = int((excess > 0).sum())
    if wrong:
        worst = int(excess.argmax())
        at = np.unravel_index(worst, gap.shape)
        indices = tuple(int(i) for i in at)
        place = f" at {indices}" if indices else ""
        raise AssertionError(
            f"{where}: expected {expected[at]:.6g}{place}, got {got[at]:.6g}; "
            f"{wrong} of {gap.size} values differ by more than {tol:g}"
        )
    return float(gap.max()) if gap.size else 0.0


def _require_same(got, expected, where):
    """AssertionError where entries that are no numbers, such as words, differ."""
    wrong = np.argwhere(got != expected)
    if not len(wrong):
        return
    at = tuple(wrong[0].tolist())
    raise AssertionError(
        f"{where}: expected {expected[at]!r} at {at}, got {got[at]!r} "
        f"({len(wrong)} differ)"
    )


def _gap(got, expected):
    """|got - expected|, 0 where both are NaN, infinite where one is."""
    got = _wide(got)
    expected = _wide(expected)
    both_nan = np.isnan(got) & np.isnan(expected)
    same = (got == expected) | both_nan
    with np.errstate(invalid="ignore"):
        distance = np.abs(got - expected)
    gap = np.where(same, 0, distance)
    return np.where(np.isnan(gap), np.inf, gap)


def _wide(values):
    """In float64 at the least, or complex."""
    wide = np.result_type(values, np.float64)
    return values.astype(wide)


def _array(value):
    if hasattr(value, "detach"):  # a tensor; bfloat16 has no numpy type
        value = value.detach().cpu()
        if value.is_floating_point():
            value = value.float()
    return np.asarray(value)


def _name(function: Callable):
    return getattr(function, "__name__", type(function).__name__)


def _brief(value):
    shape = getattr(value, "shape", ())
    if shape != ():
        return f"{type(value).__name__} {tuple(shape)}"
    text = repr(value)
    if len(text) <= 60:
        return text
    return text[:57] + "..."
