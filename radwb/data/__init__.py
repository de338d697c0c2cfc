"""Read DICOM, NIfTI, PNG and JPEG into a `Scan` or a `Volume`; fetch real sets."""

from radwb.data.fetch import FetchError, cache_folder, catalog, fetch
from radwb.data.geometry import to_input, to_scan
from radwb.data.read import read, write_png
from radwb.data.real import real, reports
from radwb.data.scan import ReadError, Scan, Volume
from radwb.data.shards import read_shards, write_shards
from radwb.data.table import check_table, findings_of, images, read_table, scan_of

__all__ = [
    "FetchError",
    "ReadError",
    "Scan",
    "Volume",
    "cache_folder",
    "catalog",
    "check_table",
    "fetch",
    "findings_of",
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
