"""The one home of the statistics: AUROCs and means by patient, paired comparisons and
their sentences, ratios.

>>> import radwb as rw
>>> rw.stats.format_interval(rw.stats.clustered_auroc(y, s, patients))
'0.84 (0.80 to 0.88)'
"""

from radwb.stats.clustered import clustered_auroc, format_interval, mean_clustered_auroc
from radwb.stats.comparison import compare, compare_auroc, compare_seeds
from radwb.stats.means import clustered_mean
from radwb.stats.resample import auroc, bootstrap, ratio, resample_patients, wilson

__all__ = [
    "auroc",
    "bootstrap",
    "clustered_auroc",
    "clustered_mean",
    "compare",
    "compare_auroc",
    "compare_seeds",
    "format_interval",
    "mean_clustered_auroc",
    "ratio",
    "resample_patients",
    "wilson",
]
