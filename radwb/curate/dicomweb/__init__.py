"""Scans from a hospital's archive by DICOMweb, and an archive of your own to try it."""

from radwb.curate.dicomweb.client import from_dicomweb
from radwb.curate.dicomweb.server import orthanc

__all__ = ["from_dicomweb", "orthanc"]
