"""Two windows: maps on films in order of doubt, and what an audit flagged.

Each is one widget in Python (widget.py, review.py) and JavaScript (js/).
"""

from radwb.explore.review import review
from radwb.explore.start import explore

__all__ = ["explore", "review"]
