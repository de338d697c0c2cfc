"""A simulator: virtual radiographs of one real chest CT whose findings are known."""

from radwb.simulate.anatomy import default_anatomy, from_arrays
from radwb.simulate.cohort import cohort, stream
from radwb.simulate.film import render
from radwb.simulate.findings import PLANTED, Finding, draw
from radwb.simulate.identifiers import plant_identifiers
from radwb.simulate.patient import Dials
from radwb.simulate.ratios import add_ratios
from radwb.simulate.realism import realism
from radwb.simulate.refilm import refilm
from radwb.simulate.repair import blob_response
from radwb.simulate.scanned import ct_findings
from radwb.simulate.statistics import report_statistics

__all__ = [
    "Dials",
    "Finding",
    "PLANTED",
    "add_ratios",
    "blob_response",
    "cohort",
    "ct_findings",
    "default_anatomy",
    "draw",
    "from_arrays",
    "plant_identifiers",
    "realism",
    "refilm",
    "render",
    "report_statistics",
    "stream",
]
