"""A folder becomes a table, reports become sections, patients stay on one side."""

from radwb.curate.audit import audit, near_duplicates
from radwb.curate.films import films, join_labels
from radwb.curate.index import index
from radwb.curate.sections import sections
from radwb.curate.split import check_split, one_patient_per_image, split_by_patient

__all__ = [
    "audit",
    "check_split",
    "films",
    "index",
    "join_labels",
    "near_duplicates",
    "one_patient_per_image",
    "sections",
    "split_by_patient",
]
