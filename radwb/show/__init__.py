"""Plotly figures that carry their images as compact PNG.

They are light, and whole without a network.
"""

from radwb.show.charts import bars, curve, heatmap, hist
from radwb.show.flow import flow
from radwb.show.images import grid, overlay, scan
from radwb.show.intervals import forest
from radwb.show.live import live
from radwb.show.points import scatter
from radwb.show.volume import volume
from radwb.show.volume_planes import planes

__all__ = [
    "bars",
    "cases",
    "curve",
    "explore",
    "flow",
    "forest",
    "grid",
    "heatmap",
    "hist",
    "live",
    "overlay",
    "planes",
    "reading_study",
    "review",
    "scan",
    "scatter",
    "volume",
]
WINDOWS = ("cases", "explore", "reading_study", "review")


def __getattr__(name):
    # these windows stand to the right of every stage: they come when asked for
    if name in WINDOWS:
        from radwb import explore

        globals()[name] = getattr(explore, name)
        return globals()[name]
    raise AttributeError(f"rw.show has {', '.join(__all__)}; got {name!r}")
