"""A folder becomes a table, reports become sections, patients stay on one side."""

from radwb.curate.audit import audit, near_duplicates
from radwb.curate.audit.verdicts import apply_verdicts
from radwb.curate.deidentify import deidentify
from radwb.curate.deidentify.known import find_values
from radwb.curate.dicomweb.client import from_dicomweb
from radwb.curate.films import films, join_labels
from radwb.curate.flow import Flow
from radwb.curate.index import index
from radwb.curate.layouts import layout, layouts
from radwb.curate.parts import split
from radwb.curate.publish import publish, verify
from radwb.curate.reports import label_reports, why
from radwb.curate.sections import sections
from radwb.curate.series import read_volume, series
from radwb.curate.split import check_split, one_patient_per_image, split_by_patient

__all__ = [
    "Flow",
    "apply_verdicts",
    "audit",
    "check_split",
    "deidentify",
    "films",
    "find_values",
    "from_dicomweb",
    "index",
    "join_labels",
    "label_reports",
    "layout",
    "layouts",
    "near_duplicates",
    "one_patient_per_image",
    "publish",
    "read_volume",
    "sections",
    "series",
    "split",
    "split_by_patient",
    "verify",
    "why",
]
