"""The reading window: maps on the scan, cases in order of doubt.

One widget in Python (widget.py) and JavaScript (js/).
"""

from radwb.explore.start import explore

__all__ = ["explore"]
