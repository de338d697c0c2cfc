"""A simulator: virtual radiographs of one real chest CT whose findings, masks and words are known by construction."""

from radwb.simulate.anatomy import Anatomy, default_anatomy, from_arrays
from radwb.simulate.cohort import PREVALENCE, cohort, render
from radwb.simulate.display import SITES
from radwb.simulate.findings import PLANTED, Finding
from radwb.simulate.project import Body
from radwb.simulate.words import report

__all__ = ["PLANTED", "PREVALENCE", "SITES", "Anatomy", "Body", "Finding", "cohort", "default_anatomy",
           "from_arrays", "render", "report"]
