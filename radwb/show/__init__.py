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
    "scan",
    "scatter",
    "volume",
]


def __getattr__(name):
    # the reading window stands to the right of every stage: it comes when asked for
    if name == "explore":
        from radwb.explore import explore

        globals()[name] = explore
        return explore
    raise AttributeError(f"rw.show has {', '.join(__all__)}; got {name!r}")
