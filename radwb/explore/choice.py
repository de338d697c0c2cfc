"""What a pane shows of a film, as a value."""

from dataclasses import dataclass

LONGEST = 300  # letters of a phrase
DIRECTIONS = ("from", "to")


class Cancelled(Exception):
    """A computation was stopped on demand."""


@dataclass(frozen=True)
class Choice:
    """What a pane shows of a case.

    Args:
        model: its name in the widget.
        method, layer, head: as in `attention_map`.
        target: a phrase, a finding or "neuron 5"; "this vs that" is a (positive,
            negative) pair. Blanks around it don't count.
        patch: of method "attention": what this patch's token attends to; counted by
            rows from the upper left. Several are a region, of which the mean is taken.
        direction: "from", what the patch or region attends to; "to", what attends to
            it.
    """

    model: str
    method: str = "relevance"
    target: str | None = None
    layer: int | None = None
    head: int | None = None
    patch: int | tuple[int, ...] | None = None
    direction: str = "from"

    def __post_init__(self):
        if self.target is not None:
            object.__setattr__(self, "target", " ".join(self.target.split()))
        if isinstance(self.patch, list | tuple):
            patches = tuple(sorted(set(self.patch)))
            object.__setattr__(self, "patch", patches or None)

    @property
    def patches(self) -> tuple[int, ...]:
        """The region, one patch or none."""
        if self.patch is None:
            return ()
        return self.patch if isinstance(self.patch, tuple) else (self.patch,)
