"""`from_dicomweb`: what a query finds on a server becomes a folder and its table."""

import os
import re
import warnings
from pathlib import Path
from time import monotonic
from urllib.parse import urlsplit

import pandas as pd
import pydicom
import requests
from pydicom.datadict import tag_for_keyword
from requests.adapters import HTTPAdapter
from tqdm.auto import tqdm
from urllib3.exceptions import HTTPError, ReadTimeoutError
from urllib3.util import Retry

from radwb.curate.index import index
from radwb.data.fetch import FetchError
from radwb.data.limits import max_bytes
from radwb.data.names import path_text
from radwb.data.private import FILE, private_folder

SERIES_WORDS = (
    "Modality",
    "SeriesInstanceUID",
    "SeriesNumber",
    "SeriesDescription",
    "BodyPartExamined",
    "Laterality",
    "ProtocolName",
    "Manufacturer",
    "PerformedProcedureStepStartDate",
)
INSTANCE_WORDS = ("SOPInstanceUID", "SOPClassUID", "InstanceNumber", "Rows", "Columns")
UIDS = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")
UID = re.compile(r"[0-9]+(\.[0-9]+)*")  # a part of a path, so nothing else
CONNECT_S = 10
SLOWEST = 20_000  # bytes a second
PAGE = 500  # rows of an answer
BUSY = (408, 429, 502, 503, 504)  # statuses that another try may mend
SILENT = 3  # instances in a row without an answer: the server is gone
ODD_LISTS = (AttributeError, IndexError, KeyError, TypeError)
UNHEARD = (requests.ConnectionError, requests.Timeout)


def from_dicomweb(
    url: str,
    out: str | Path,
    *,
    query: dict[str, str],
    auth: tuple[str, str] | None = None,
    headers: dict[str, str] | None = None,
    timeout_s: float = 60,
) -> pd.DataFrame:
    """Fetch the instances that a DICOMweb server has for a query, and index them.

    Studies, series and instances are searched by QIDO-RS and fetched by WADO-RS one by
    one, in the transfer syntax in which they are stored. Stopped, or cut off, the next
    call fetches what isn't there yet. Needs the extra `curate`.

    >>> from radwb.curate.dicomweb import from_dicomweb
    >>> from_dicomweb("http://127.0.0.1:9/dicom-web", "inbox", query={"PatientId": "7"})
    Traceback (most recent call last):
    ...
    ValueError: expected DICOM keywords in query, got PatientId. Try PatientID, ...

    Args:
        url: of the DICOMweb root, such as https://pacs/dicom-web.
        out: folder, made for its owner alone; a file an instance, below its study and
            series.
        query: DICOM keyword -> value, such as PatientID, StudyDate (20200101-20201231
            is a range), ModalitiesInStudy, Modality; DOE* is all that begins so, and
            `{}` all that the server has.
        auth: (user, password). It is neither kept nor shown.
        headers: sent with each request, such as {"Authorization": "Bearer ..."}.
        timeout_s: without a byte, and at most so long (and 20 kB a second) an answer.
    Returns:
        `rw.curate.index` of what was asked for, whatever else lies in the folder, with
        study_id, series_id and image_id (the UIDs); an instance that can't be had is a
        row whose `refused` says why, and a warning counts them. Another one counts
        what the server lists without a UID that is one, which isn't asked for.
    Raises:
        ValueError: an unknown keyword, or a password within the address.
        FetchError: no server, one that refuses, stalls or isn't DICOMweb, or nothing
            found.
    """
    _check(url, query)
    client = _client(url, auth, headers, timeout_s)
    instances = _found(client, url, query)
    folder = private_folder(out)
    failed = _fetch_all(client, instances, folder)
    table = index(out)
    # a file of before stays where fetching another in its place failed
    asked = {path_text(_place(folder, names)) for names in instances}
    asked -= {row["path"] for row in failed}
    table = table[table["path"].isin(asked)].reset_index(drop=True)
    if failed:
        warnings.warn(
            f"{len(failed)} of {len(instances)} instances weren't fetched: column "
            "refused says why. The next call tries them again.",
            stacklevel=2,
        )
        table = pd.concat([table, pd.DataFrame(failed)], ignore_index=True)
    return table


def _found(client, url, query):
    """What `_search` finds, or a sentence that says why there is nothing."""
    try:
        instances, odd = _search(client, query)
    except (requests.JSONDecodeError, *ODD_LISTS) as error:
        raise FetchError(
            f"expected a list in DICOM JSON from {url}, got {type(error).__name__}. "
            "Try the address of the DICOMweb root, such as http://host:8042/dicom-web."
        ) from None
    except requests.RequestException as error:
        raise FetchError(_no_answer(url, error)) from None
    if odd:
        warnings.warn(
            f"{odd} studies, series or instances are left out: the server lists them "
            "without a UID of digits and points. Ask whoever runs it.",
            stacklevel=3,
        )
    if not instances:
        raise FetchError(
            f"expected instances, got none for {', '.join(query) or 'any query'}. "
            "Try fewer keywords, or an asterisk in a value (DOE*)."
        )
    return instances


def _check(url, query):
    if "@" in urlsplit(url).netloc:
        raise ValueError(
            "expected an address without a password, got one with it. Try auth=(user, "
            "password)."
        )
    unknown = [word for word in query if tag_for_keyword(word) is None]
    if unknown:
        raise ValueError(
            f"expected DICOM keywords in query, got {', '.join(unknown)}. Try "
            "PatientID, StudyDate, ModalitiesInStudy or Modality."
        )


class _Bounded(requests.Session):
    """A session whose answers end in time and fit into memory."""

    def get(self, url, **options):
        # as they may stand in an address: Orthanc's plugin 1.7 doesn't decode them
        url = url.replace("%2A", "*").replace("%2C", ",")
        answer = super().get(url, **options | {"stream": True})
        with answer:
            answer._content = _body(answer, monotonic() + options["timeout"][1])
        return answer


def _body(answer, end):
    body = bytearray()
    try:
        # read1: what has come, so that the clock is looked at between two trickles
        while block := answer.raw.read1(1 << 16, decode_content=True):
            body += block
            if monotonic() > end + len(body) / SLOWEST:
                raise requests.Timeout("sends too slowly")
            if len(body) > max_bytes():
                raise requests.RequestException("sends more than fits into memory")
    except ReadTimeoutError as error:
        raise requests.Timeout("sends nothing more") from error
    except HTTPError as error:
        raise requests.ConnectionError("was cut short") from error
    return bytes(body)


def _client(url, auth, headers, timeout_s):
    try:
        from dicomweb_client import DICOMwebClient
    except ImportError:
        raise ImportError(
            "expected the package dicomweb-client, got none. Try pip install "
            "'radwb[curate]'."
        ) from None
    session = _Bounded()
    # always one, so that requests doesn't look for a password in ~/.netrc
    session.auth = auth or (lambda request: request)
    session.headers.update(headers or {})
    # a busy server is asked again, in 2 and 4 s, one that doesn't answer isn't
    again = Retry(2, connect=0, read=0, status_forcelist=BUSY, backoff_factor=2)
    again.raise_on_status = again.respect_retry_after_header = False
    for scheme in ("http://", "https://"):
        session.mount(scheme, HTTPAdapter(max_retries=again))
    timeout = (min(CONNECT_S, timeout_s), timeout_s)
    client = DICOMwebClient(url, session=session, timeout=timeout)
    client.set_http_retry_params(retry=False, retriable_error_codes=())
    return client


def _no_answer(url, error):
    """A sentence without the request: its address holds what was asked for."""
    status = getattr(error.response, "status_code", None)
    got = f"status {status}" if status else type(error).__name__
    advice = "Try the address in a browser; it is the DICOMweb root that is needed."
    if status in (401, 403):
        advice = "Try auth=(user, password), or headers={'Authorization': ...}."
    elif isinstance(error, requests.Timeout):
        advice = "Try a longer timeout_s, or a narrower query."
    return f"expected an answer of the DICOMweb server {url}, got {got}. {advice}"


def _search(client, query):
    """(study, series, instance) UIDs of all that the query finds; how many were odd."""
    levels = {"study": {}, "series": {}, "instance": {}}
    for word, value in query.items():
        level = "study"
        if word in SERIES_WORDS:
            level = "series"
        elif word in INSTANCE_WORDS:
            level = "instance"
        levels[level][word] = value
    found = []
    studies, odd = _uids(client.search_for_studies, UIDS[0], levels["study"])
    for study in tqdm(studies, "searching", delay=2, leave=False):
        rows, more = _uids(client.search_for_series, UIDS[1], levels["series"], study)
        odd += more
        for series in rows:
            instances, more = _uids(
                client.search_for_instances, UIDS[2], levels["instance"], study, series
            )
            odd += more
            found += [(study, series, instance) for instance in instances]
    return found, odd


def _uids(search, keyword, filters, *parents):
    """All pages of a search, whether the server knows of pages, and its odd rows."""
    tag = f"{tag_for_keyword(keyword):08X}"
    found = {}
    odd = offset = 0
    while True:
        page = search(*parents, search_filters=filters, limit=PAGE, offset=offset)
        names = [(row.get(tag, {}).get("Value") or [""])[0] for row in page]
        new = [name for name in names if name not in found]
        found |= dict.fromkeys(new)
        odd += sum(not UID.fullmatch(name) for name in new)
        offset += len(page)
        if not new:
            return [name for name in found if UID.fullmatch(name)], odd


def _place(folder, names):
    return folder.joinpath(*names[:2], f"{names[2]}.dcm")


def _fetch_all(client, instances, folder):
    """Rows of those that can't be had; what is there already isn't asked for."""
    failed = []
    silent = 0
    for names in tqdm(instances, "fetching", delay=2, leave=False):
        path = _place(folder, names)
        if _is_there(path, names[2]):
            continue
        try:
            _fetch(client, names, path)
            silent = 0
        except Exception as error:
            failed.append(_failed_row(path, names, error))
            silent = silent + 1 if isinstance(error, UNHEARD) else 0
        if silent == SILENT:
            raise FetchError(
                f"expected {len(instances)} instances, got no answer to the last "
                f"{SILENT} requests. Try again later: what is there is kept."
            )
    return failed


def _is_there(path, name):
    """Only a whole file has such a path (`_fetch`); another's content doesn't count."""
    try:
        words = ["SOPInstanceUID"]
        header = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=words)
    except Exception:  # whatever lies there is fetched again
        return False
    return header.get("SOPInstanceUID") == name


def _fetch(client, names, path):
    as_stored = (("application/dicom", "*"),)
    instance = client.retrieve_instance(*names, media_types=as_stored)
    if instance.SOPInstanceUID != names[2]:
        raise ValueError("another instance than the one asked for")
    private_folder(path.parent.parent)
    private_folder(path.parent)
    part = path.with_name(f".{path.name}.part")  # hidden: an index leaves it out
    place = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, FILE)
    with os.fdopen(place, "wb") as file:
        instance.save_as(file)
        file.flush()
        os.fsync(place)
    part.replace(path)


def _failed_row(path, names, error):
    status = getattr(getattr(error, "response", None), "status_code", None)
    got = f"status {status}" if status else type(error).__name__
    return {
        "path": path_text(path),
        **dict(zip(("study_id", "series_id", "image_id"), names, strict=True)),
        "refused": f"{path.name}: expected a DICOM instance, got {got}",
        "notes": "",
    }
