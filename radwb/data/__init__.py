"""Read DICOM, NIfTI, PNG and JPEG into a `Scan` or a `Volume`; fetch and verify what
the catalog names.
"""

from radwb.data.fetch import FetchError, cache_folder, catalog, fetch
from radwb.data.fit import Fit
from radwb.data.geometry import to_input, to_scan
from radwb.data.read import read, write_png
from radwb.data.real import real, reports
from radwb.data.scan import ReadError, Scan, Volume
from radwb.data.shards import read_shards, write_shards
from radwb.data.table import (
    COLUMNS,
    FINDINGS,
    check_table,
    film_keys,
    findings_of,
    images,
    read_table,
    scan_of,
)
from radwb.identifiers import identifiers

__all__ = [
    "COLUMNS",
    "FINDINGS",
    "FetchError",
    "Fit",
    "ReadError",
    "Scan",
    "Volume",
    "cache_folder",
    "catalog",
    "check_table",
    "fetch",
    "film_keys",
    "findings_of",
    "identifiers",
    "images",
    "read",
    "read_shards",
    "read_table",
    "real",
    "reports",
    "scan_of",
    "to_input",
    "to_scan",
    "write_png",
    "write_shards",
]
