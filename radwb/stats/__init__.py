"""The one home of the statistics: AUROCs and means by patient, paired comparisons and
their sentences, ratios.

>>> import radwb as rw
>>> rw.stats.stated(rw.stats.clustered_auroc(y, s, patients))
'0.84 (0.80 to 0.88)'
"""

from radwb.stats.clustered import clustered_auroc, mean_clustered_auroc, stated
from radwb.stats.comparison import Comparison, compare, compare_auroc, compare_seeds
from radwb.stats.means import MIN_PATIENTS, clustered_mean
from radwb.stats.pull import MIN_CONTROL_PATIENTS, MIN_POSITIVE_PATIENTS
from radwb.stats.resample import (
    auroc,
    bootstrap,
    ratio,
    resample_patients,
    wilson,
)

__all__ = [
    "MIN_CONTROL_PATIENTS",
    "MIN_PATIENTS",
    "MIN_POSITIVE_PATIENTS",
    "Comparison",
    "auroc",
    "bootstrap",
    "clustered_auroc",
    "clustered_mean",
    "compare",
    "compare_auroc",
    "compare_seeds",
    "mean_clustered_auroc",
    "ratio",
    "resample_patients",
    "stated",
    "wilson",
]
