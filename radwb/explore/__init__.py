"""The reading window: cases in order of doubt, maps on the scan, one widget in Python
and JavaScript.
"""

from radwb.explore.widget import explore

__all__ = ["explore"]
