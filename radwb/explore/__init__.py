"""Windows: maps in order of doubt, flagged films, worst errors, a reading study.

Each is one widget in Python (widget.py, review.py, gallery.py, reading.py) and
JavaScript (js/).
"""

from radwb.explore.gallery import cases
from radwb.explore.reading import reading_study
from radwb.explore.review import review
from radwb.explore.start import explore

__all__ = ["cases", "explore", "reading_study", "review"]
