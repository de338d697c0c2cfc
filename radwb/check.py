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
        shown = ", ".join(_brief(value) for value in case)
        worst = max(worst, _difference(got, expected, tol, f"{name}({shown})"))
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
            fits &= int(name) == length
        else:
            expected = lengths.setdefault(name, sizes.get(name, length))
            fits &= expected == length
    if not fits:
        held = ", ".join(f"{name}={length}" for name, length in sizes.items())
        held = f" with {held}" if held else ""
        raise AssertionError(f"expected the axes {pattern}{held}, got the shape {got}")
    print(f"{OK}  " + ", ".join(f"{name}={n}" for name, n in lengths.items()))
    return lengths


def _difference(got, expected, tol, where):
    """The largest difference of two values; where it is too large an AssertionError."""
    if got is None:
        raise AssertionError(
            f"{where}: expected {_brief(expected)}, got None. "
            "Does the function return its result?"
        )
    if isinstance(expected, dict):
        if not isinstance(got, dict) or set(got) != set(expected):
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
        if len(got) != len(expected):
            raise AssertionError(
                f"{where}: expected {len(expected)} entries, got {len(got)}"
            )
        return _largest(list(got), expected, range(len(expected)), tol, where)
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
        wrong = np.argwhere(got != expected)
        if len(wrong):
            at = tuple(wrong[0].tolist())
            raise AssertionError(
                f"{where}: expected {expected[at]!r} at {at}, got {got[at]!r} "
                f"({len(wrong)} differ)"
            )
        return 0.0
    gap = _gap(got, expected)
    finite = np.where(np.isfinite(expected), expected, 0)
    excess = gap - tol * np.maximum(1, np.abs(finite))
    wrong = int((excess > 0).sum())
    if wrong:
        at = np.unravel_index(int(excess.argmax()), gap.shape)
        place = f" at {tuple(int(i) for i in at)}" if at else ""
        raise AssertionError(
            f"{where}: expected {expected[at]:.6g}{place}, got {got[at]:.6g}; "
            f"{wrong} of {gap.size} values differ by more than {tol:g}"
        )
    return float(gap.max()) if gap.size else 0.0


def _gap(got, expected):
    """|got - expected|, 0 where both are NaN, infinite where one is."""
    got = got.astype(np.result_type(got, np.float64))
    expected = expected.astype(np.result_type(expected, np.float64))
    same = (got == expected) | (np.isnan(got) & np.isnan(expected))
    with np.errstate(invalid="ignore"):
        gap = np.where(same, 0, np.abs(got - expected))
    return np.where(np.isnan(gap), np.inf, gap)


def _array(value):
    if hasattr(value, "detach"):  # a tensor; bfloat16 has no numpy type
        value = value.detach().cpu()
        if value.is_floating_point():
            value = value.float()
    return np.asarray(value)


def _name(function: Callable):
    return getattr(function, "__name__", type(function).__name__)


def _brief(value):
    if getattr(value, "shape", ()) != ():
        return f"{type(value).__name__} {tuple(value.shape)}"
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
