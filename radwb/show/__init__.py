"""Plotly figures that carry their images as compact PNG: light, and whole without a
network.
"""

from radwb.show.charts import bars, curve, forest, heat, hist, scatter
from radwb.show.explore import explore
from radwb.show.images import grid, overlay, planes, scan
from radwb.show.live import live
from radwb.show.theme import COLOURS
from radwb.show.volume import volume

__all__ = [
    "COLOURS",
    "bars",
    "curve",
    "explore",
    "forest",
    "grid",
    "heat",
    "hist",
    "live",
    "overlay",
    "planes",
    "scan",
    "scatter",
    "volume",
]
