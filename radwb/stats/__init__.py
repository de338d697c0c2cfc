"""The one home of the statistics: AUROCs, means by patient, comparisons in words.

>>> import radwb as rw
>>> rw.stats.format_interval(rw.stats.clustered_auroc(y, y, patients))
'1.00 (0.91 to 1.00)'
"""

from radwb.stats.clustered import clustered_auroc
from radwb.stats.comparison import compare, compare_auroc, compare_seeds
from radwb.stats.means import clustered_mean
from radwb.stats.resample import auroc, bootstrap, resample_patients, wilson
from radwb.stats.sentence import format_interval

__all__ = [
    "auroc",
    "bootstrap",
    "clustered_auroc",
    "clustered_mean",
    "compare",
    "compare_auroc",
    "compare_seeds",
    "format_interval",
    "resample_patients",
    "wilson",
]
