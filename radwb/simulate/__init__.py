"""A simulator: virtual radiographs of one real chest CT whose findings, masks and words
are known by construction.
"""

from radwb.simulate.anatomy import Anatomy, default_anatomy, from_arrays
from radwb.simulate.cohort import cohort, stream
from radwb.simulate.display import SITES
from radwb.simulate.files import write_ct, write_dx
from radwb.simulate.film import render, render_ct
from radwb.simulate.findings import DEVICES, PLANTED, Finding, draw
from radwb.simulate.identifiers import plant_identifiers, write_dicom
from radwb.simulate.patient import PREVALENCE, Dials
from radwb.simulate.project import Body
from radwb.simulate.realism import anatomy_ratios, ratios_of, realism
from radwb.simulate.repair import blobs
from radwb.simulate.scanned import as_read
from radwb.simulate.statistics import report_statistics
from radwb.simulate.words import report

__all__ = [
    "Anatomy",
    "Body",
    "DEVICES",
    "Dials",
    "Finding",
    "PLANTED",
    "PREVALENCE",
    "SITES",
    "anatomy_ratios",
    "as_read",
    "blobs",
    "cohort",
    "default_anatomy",
    "draw",
    "from_arrays",
    "plant_identifiers",
    "ratios_of",
    "realism",
    "render",
    "render_ct",
    "report",
    "report_statistics",
    "stream",
    "write_ct",
    "write_dicom",
    "write_dx",
]
