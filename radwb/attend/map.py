"""`Map`, one value a pixel or voxel, and `Badge`, what the sanity checks said of it."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Badge:
    """The verdict of `sanity_check` on a method with a model: drawn beside each map that carries it.

    Args:
        tests: name of the test -> passed. A map that would look the same with other weights or other words fails.
        n: scans that the verdict rests on.
    """

    tests: dict[str, bool]
    n: int

    @property
    def passed(self) -> bool:
        return all(self.tests.values())

    def __str__(self):
        failed = [name for name, passed in self.tests.items() if not passed]
        verdict = f"fails {', '.join(failed)}" if failed else f"passes {', '.join(self.tests)}"
        return f"sanity: {verdict} (n = {self.n})"


@dataclass(frozen=True, eq=False)
class Map:
    """One value a pixel of the scan, or a voxel of the volume: how much this place counted.

    Args:
        values: (H, W) or (D, H, W) float32 in the pixels of the scan, not of the model's input; 0 or more.
        method: one of `METHODS`.
        layer: the attention's layer, the first layer that rollout or relevance multiplies, Grad-CAM's block.
        head: the attention's head; None = mean over heads.
        target: the phrase, (positive, negative) pair, finding or class; None where the method has none.
        model: the model's name.
        affine: (4, 4) of the volume, index to LPS mm; None for a scan.
        badge: what `sanity_check` said; None = not checked.
    """

    values: np.ndarray
    method: str
    layer: int | None = None
    head: int | None = None
    target: str | tuple | int | None = None
    model: str = ""
    affine: np.ndarray | None = None
    badge: Badge | None = None
