"""`Map`, one value a pixel or voxel, and `Badge`, what the sanity checks said of it."""

import warnings
from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True)
class Badge:
    """The verdict of `sanity_check` on a method with a model, drawn beside its maps.

    >>> print(Badge({"random weights": True, "other finding": False}, n=16))
    sanity: fails other finding (n = 16)

    Args:
        tests: name of the test -> passed. A map that would look the same with other
            weights or other words fails. None: the test was made and says nothing, for
            the reason in `notes`.
        n: scans that the verdict rests on.
        notes: name of the test -> why it can't be interpreted.
    """

    tests: dict[str, bool | None]
    n: int
    notes: dict[str, str] = field(default_factory=dict)

    @property
    def passed(self) -> bool | None:
        """Whether all tests were passed.

        None where none was failed and one can't be interpreted.
        """
        if False in self.tests.values():
            return False
        return None if None in self.tests.values() else True

    def __str__(self):
        parts = []
        failed = [name for name, passed in self.tests.items() if passed is False]
        passed = [name for name, passed in self.tests.items() if passed]
        if failed:
            parts.append(f"fails {', '.join(failed)}")
        elif passed:
            parts.append(f"passes {', '.join(passed)}")
        for name, passed in self.tests.items():
            if passed is None:
                reason = self.notes.get(name, "no reason known")
                parts.append(f"not interpretable: {name} ({reason})")
        return f"sanity: {'; '.join(parts)} (n = {self.n})"


@dataclass(frozen=True, eq=False)
class Map:
    """One value a pixel of the scan, or a voxel of the volume: how much it counted.

    Args:
        values: (H, W) or (D, H, W) float32 in the pixels of the scan, not of the
            model's input; 0 or more.
        method: one of `METHODS`.
        layer: the attention's layer, the first layer that rollout or relevance
            multiplies, Grad-CAM's block.
        head: the attention's head; None = mean over heads.
        target: the phrase, (positive, negative) pair, finding or class; None where the
            method has none.
        model: the model's name.
        affine: (4, 4) of the volume, index to LPS mm; None for a scan.
        badge: what `sanity_check` said; None = not checked.
        note: what a reader has to know of this map, shown on figures; "" = nothing.
    """

    values: np.ndarray
    method: str
    layer: int | None = None
    head: int | None = None
    target: str | tuple | int | None = None
    model: str = ""
    affine: np.ndarray | None = None
    badge: Badge | None = None
    note: str = ""


def values_of(map) -> np.ndarray:
    """The array of a `Map`, or an array as it is."""
    return np.asarray(getattr(map, "values", map))


def note_of(values: np.ndarray, method: str, target) -> str:
    """Of a map that is zero everywhere, that it says nothing, and a warning."""
    if values.max() > 0:
        return ""
    note = f"no positive evidence: {method} is zero everywhere for {target!r}"
    warnings.warn(f"{note}. Nothing on this scan raises the score.", stacklevel=3)
    return note
