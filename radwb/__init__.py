"""radwb: a workbench for radiology foundation models.

For teaching and research; not for clinical use.

>>> import radwb as rw
>>> table = rw.simulate.cohort(n=12, seed=0)
"""

from importlib import import_module
from importlib.metadata import version

STAGES = (
    "data",
    "simulate",
    "curate",
    "models",
    "pretrain",
    "probe",
    "attend",
    "fail",
    "card",
)
ROOMS = ("stats", "findings", *STAGES, "show", "explore", "check", "book")
__version__ = version("radwb")
__all__ = [*ROOMS]


def __getattr__(name):
    # lazy, so that `import radwb` is quick and torch loads only with the room that
    # needs it
    if name in ROOMS:
        return import_module(f"radwb.{name}")
    raise AttributeError(f"radwb has the rooms {', '.join(ROOMS)}; got {name!r}")


def __dir__():
    return sorted([*globals(), *ROOMS])
