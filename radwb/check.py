"""Checks for exercises: they take what the learner wrote, say "ok" with evidence, or
raise with it.
"""

import re
from collections.abc import Callable, Sequence

import numpy as np

OK, TODO = "\033[32mok\033[0m", "\033[33mnot attempted yet\033[0m"


def matches(
    mine, reference, *args, cases: Sequence[tuple] | None = None, tol: float = 1e-5
) -> None:
    """Show that what was written by hand equals the reference.

    >>> rw.check.matches(my_rollout, rw.attend.rollout, attention)
    ok  my_rollout equals rollout on 1 case (largest difference 0)
    >>> rw.check.matches(loss_by_hand, loss_of_the_library)
    ok  the two equal each other (largest difference 2.4e-07)

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
        worst = difference(mine, reference, tol, "the value")
        print(f"{OK}  the two equal each other (largest difference {worst:.2g})")
        return
    name, worst, cases = name_of(mine), 0.0, [args] if cases is None else list(cases)
    for case in cases:
        want = reference(*case) if callable(reference) else reference
        try:
            got = mine(*case)
        except NotImplementedError:
            print(f"{TODO}: {name}")
            return
        shown = ", ".join(brief(a) for a in case)
        worst = max(worst, difference(got, want, tol, f"{name}({shown})"))
    other = name_of(reference) if callable(reference) else "the expected value"
    counted = "1 case" if len(cases) == 1 else f"{len(cases)} cases"
    print(f"{OK}  {name} equals {other} on {counted} (largest difference {worst:.2g})")


def close(a, b, *, tol: float = 1e-5) -> None:
    """Show that two values are equal within `tol`.

    >>> rw.check.close(weights.sum(), 1)
    """
    print(f"{OK}  equal (largest difference {difference(a, b, tol, 'the value'):.2g})")


def shape(x, pattern: str, **sizes: int) -> dict[str, int]:
    """Show that an array has the axes that `pattern` names, and say their lengths.

    >>> rw.check.shape(tokens, "B T E", T=101)
    ok  B=2, T=101, E=192

    Args:
        x: anything with a shape.
        pattern: names in order; a number must be that length; the same name twice must
            be the same length.
        sizes: lengths that must hold.
    Returns:
        name -> length.
    """
    names, got = pattern.split(), tuple(int(n) for n in x.shape)
    found = {}
    fits = len(names) == len(got)
    for name, n in zip(names, got, strict=False):
        want = (
            int(name)
            if re.fullmatch(r"\d+", name)
            else found.setdefault(name, sizes.get(name, n))
        )
        fits &= want == n
    if not fits:
        held = ", ".join(f"{k}={v}" for k, v in sizes.items())
        raise AssertionError(
            f"expected the axes {pattern}{f' with {held}' if held else ''}, got the shape {got}"
        )
    print(f"{OK}  " + ", ".join(f"{k}={v}" for k, v in found.items()))
    return found


def difference(got, want, tol: float, where: str) -> float:
    """The largest difference of two values, or an AssertionError that says where it is
    too large.
    """
    if got is None:
        raise AssertionError(
            f"{where}: expected {brief(want)}, got None. Does the function return its result?"
        )
    if isinstance(want, dict):
        if not isinstance(got, dict) or set(got) != set(want):
            raise AssertionError(
                f"{where}: expected a dict with the keys {sorted(want)}, got {brief(got)}"
            )
        return max(
            (difference(got[k], want[k], tol, f"{where}[{k!r}]") for k in want),
            default=0.0,
        )
    if isinstance(want, (str, bytes, bool, set, frozenset)):
        if got != want:
            raise AssertionError(f"{where}: expected {want!r}, got {got!r}")
        return 0.0
    if isinstance(want, (list, tuple)) and not all(
        isinstance(w, (int, float)) for w in want
    ):
        if len(got) != len(want):
            raise AssertionError(
                f"{where}: expected {len(want)} entries, got {len(got)}"
            )
        pairs = enumerate(zip(got, want, strict=True))
        return max(
            (difference(g, w, tol, f"{where}[{n}]") for n, (g, w) in pairs), default=0.0
        )
    return array_difference(to_array(got), to_array(want), tol, where)


def array_difference(
    got: np.ndarray, want: np.ndarray, tol: float, where: str
) -> float:
    if got.shape != want.shape:
        raise AssertionError(
            f"{where}: expected the shape {want.shape}, got {got.shape}"
        )
    if want.dtype.kind not in "biufc":
        wrong = np.argwhere(got != want)
        if len(wrong):
            at = tuple(wrong[0].tolist())
            raise AssertionError(
                f"{where}: expected {want[at]!r} at {at}, got {got[at]!r} ({len(wrong)} differ)"
            )
        return 0.0
    got, want = (
        got.astype(np.result_type(got, np.float64)),
        want.astype(np.result_type(want, np.float64)),
    )
    with np.errstate(invalid="ignore"):
        gap = np.where(
            (got == want) | (np.isnan(got) & np.isnan(want)), 0, np.abs(got - want)
        )
    gap = np.where(
        np.isnan(gap), np.inf, gap
    )  # NaN against a number is as wrong as it gets
    allowed = tol * np.maximum(1, np.abs(np.where(np.isfinite(want), want, 0)))
    wrong = np.argwhere(gap > allowed)
    if len(wrong):
        at = tuple(np.unravel_index(int((gap - allowed).argmax()), gap.shape))
        place = f" at {tuple(int(i) for i in at)}" if at else ""
        raise AssertionError(
            f"{where}: expected {want[at]:.6g}{place}, got {got[at]:.6g}; "
            f"{len(wrong)} of {gap.size} values differ by more than {tol:g}"
        )
    return float(gap.max()) if gap.size else 0.0


def to_array(value) -> np.ndarray:
    if hasattr(value, "detach"):  # a tensor; bfloat16 has no numpy type
        value = value.detach().cpu()
        value = value.float() if value.is_floating_point() else value
    return np.asarray(value)


def name_of(function: Callable) -> str:
    return getattr(function, "__name__", type(function).__name__)


def brief(value) -> str:
    if hasattr(value, "shape") and getattr(value, "shape", ()) != ():
        return f"{type(value).__name__} {tuple(value.shape)}"
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
