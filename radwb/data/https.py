"""Bring a file by https alone: bounded in size and time, with patience, politely."""

import contextlib
import email.utils
from collections.abc import Callable, Iterator
from pathlib import Path
from time import monotonic, sleep, time

import requests
from requests.adapters import HTTPAdapter
from urllib3.exceptions import HTTPError

SCHEMES = ("https://",)  # what may be asked, and where a redirect may lead
AGENT = "radwb (a teaching workbench; one connection, pauses between files)"
TIMEOUT_S = (5, 20)  # to connect, and without a byte
SLOWEST = 20_000  # bytes a second
TRIES = 4
LONGEST_WAIT_S = 60
BUSY = (408, 429, 500, 502, 503, 504)  # statuses that another try may mend


class DownloadError(OSError):
    """An address didn't give what was asked of it."""


class Unreachable(DownloadError):
    """No connection came about, so that other files of the host needn't be tried."""


class _Passing(DownloadError):
    """What another try may mend, after `wait_s` seconds."""

    def __init__(self, message: str, wait_s: float = 0) -> None:
        super().__init__(message)
        self.wait_s = wait_s


def open_web() -> requests.Session:
    """A session that speaks https and nothing else, redirects included.

    >>> sorted(open_web().adapters)
    ['https://']
    """
    web = requests.Session()
    web.adapters.clear()
    for scheme in SCHEMES:
        web.mount(scheme, HTTPAdapter())
    web.headers = {"User-Agent": AGENT, "Accept-Encoding": "identity"}
    web.max_redirects = 5
    return web


def download(
    web: requests.Session,
    url: str,
    path: Path,
    *,
    most: int,
    progress: Callable[[int], object] = lambda _: None,
) -> Path:
    """Write what an address sends into a file, in a few tries.

    Args:
        web: from `open_web`.
        url: of one file.
        path: where it goes; a failed try leaves no part of it.
        most: bytes that it may have.
        progress: is told of each block's bytes.
    Raises:
        DownloadError: the address has no such file, sends too much, stays busy or
            asks for a wait of more than a minute. Or Unreachable.
    """

    def write():
        with answer(web, url, most) as blocks, path.open("wb") as target:
            for block in blocks:
                target.write(block)
                progress(len(block))
        return path

    try:
        return patiently(write)
    except DownloadError:
        path.unlink(missing_ok=True)
        raise


def patiently(action: Callable[[], object]) -> object:
    """What the action gives: tried again while its errors may pass, ever later."""
    for pause_s in (2**n for n in range(TRIES - 1)):
        try:
            return action()
        except _Passing as error:
            if error.wait_s > LONGEST_WAIT_S:
                raise
            sleep(max(pause_s, error.wait_s))
    return action()


@contextlib.contextmanager
def answer(web: requests.Session, url: str, most: int) -> Iterator[Iterator[bytes]]:
    """The blocks of bytes that an address sends, counted and timed."""
    try:
        response = web.get(url, stream=True, timeout=TIMEOUT_S)
    except requests.exceptions.InvalidSchema as error:
        raise DownloadError(f"{url}: expected https, got {error}") from error
    except requests.exceptions.TooManyRedirects as error:
        raise DownloadError(f"{url} is redirected again and again") from error
    except requests.exceptions.ReadTimeout as error:
        raise _Passing(f"{url} doesn't answer") from error
    except requests.RequestException as error:
        host = url.split("/")[2]
        raise Unreachable(f"{host} can't be reached ({_cause(error)})") from error
    with response:
        _check_status(response, url)
        yield _blocks(response, url, most)


def _check_status(response, url):
    if response.status_code in BUSY:
        wait_s = _wait_s(response.headers.get("Retry-After", ""))
        hint = f" and asks to wait {wait_s:.0f} s" if wait_s else ""
        raise _Passing(f"{url} answers {response.status_code}{hint}", wait_s)
    if response.status_code != 200:
        raise DownloadError(f"{url} answers {response.status_code}")


def _wait_s(retry_after):
    """Seconds of a Retry-After header, which is a number or a date."""
    if retry_after.isdigit():
        return float(retry_after)
    with contextlib.suppress(ValueError):
        date = email.utils.parsedate_to_datetime(retry_after)
        return max(0.0, date.timestamp() - time())
    return 0.0


def _blocks(response, url, most):
    size = int(response.headers.get("Content-Length") or 0)
    _check_size(url, size, most)
    end = monotonic() + TIMEOUT_S[1] + most / SLOWEST
    got = 0
    try:
        # read1: what has come, so that the clock is looked at between two trickles
        while block := response.raw.read1(1 << 16):
            got += len(block)
            _check_size(url, got, most)
            if monotonic() > end:
                raise DownloadError(f"{url} sends less than {SLOWEST:,} bytes a second")
            yield block
    except HTTPError as error:
        raise _Passing(f"{url} was cut short ({_cause(error)})") from error


def _check_size(url, size, most):
    if size > most:
        raise DownloadError(
            f"{url} sends more than the {most:,} bytes expected at most"
        )


def _cause(error):
    """The innermost reason of an error in a library's many layers."""
    inner = error
    while inner.__cause__ or inner.__context__:
        inner = inner.__cause__ or inner.__context__
    return str(inner)[:80] or type(inner).__name__
