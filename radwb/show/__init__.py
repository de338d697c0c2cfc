"""Plotly figures that carry their images as compact PNG: light, and whole without a network."""

from radwb.show.charts import bars, curve, forest, heat, hist, scatter
from radwb.show.images import grid, overlay, planes, scan
from radwb.show.theme import COLOURS

__all__ = ["COLOURS", "bars", "curve", "forest", "grid", "heat", "hist", "overlay", "planes", "scan", "scatter"]
