"""An Orthanc of one's own on loopback, for lessons and tests."""

import contextlib
import json
import secrets
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from time import monotonic, sleep
from typing import NamedTuple

import requests

PROGRAM_FOLDERS = ("/usr/sbin", "/usr/local/sbin", "/opt/homebrew/bin")
PLUGIN_FOLDERS = ("/usr/share/orthanc/plugins", "/usr/local/share/orthanc/plugins")
START_S = 30
STOP_S = 10


class Orthanc(NamedTuple):
    """A server that runs.

    Attributes:
        url: of its DICOMweb root.
        rest: of its own interface.
        process: that runs it.
        auth: (user, password) that it asks for.
    """

    url: str
    rest: str
    process: subprocess.Popen
    auth: tuple[str, str]

    def store(self, path: str | Path) -> None:
        """Put a DICOM file into it."""
        data = Path(path).read_bytes()
        answer = requests.post(f"{self.rest}/instances", data, auth=self.auth)
        answer.raise_for_status()


@contextlib.contextmanager
def orthanc(
    *files: str | Path, auth: tuple[str, str] | None = None
) -> Iterator[Orthanc]:
    """Run a DICOM archive of your own while the block lasts.

    Only programs on this machine reach it, and only with its password: on loopback
    alone, its other users could. What it stored is gone afterwards.

    >>> from radwb.curate.dicomweb import orthanc
    >>> archive = orthanc("film.dcm")  # with archive as server: server.url, server.auth

    Args:
        files: DICOM files that it holds.
        auth: (user, password) that it is to ask for; None makes one up.
    Raises:
        FileNotFoundError: Orthanc or its DICOMweb plugin isn't installed.
        RuntimeError: it didn't start.
    """
    program, plugin = _installed()
    auth = auth or ("radwb", secrets.token_hex(16))
    with tempfile.TemporaryDirectory(prefix="orthanc-") as folder:
        port = _free_port()
        settings = Path(folder, "orthanc.json")
        settings.write_text(json.dumps(_settings(folder, plugin, port, auth)))
        log = Path(folder, "log")
        with log.open("wb") as lines:
            command = [program, str(settings)]
            process = subprocess.Popen(command, stdout=lines, stderr=lines)
        rest = f"http://127.0.0.1:{port}"
        server = Orthanc(f"{rest}/dicom-web", rest, process, auth)
        try:
            _wait(server, log)
            for path in files:
                server.store(path)
            yield server
        finally:
            _stop(process)


def _installed():
    """Where the program and its plugin are."""
    program = shutil.which("Orthanc")
    for folder in PROGRAM_FOLDERS:
        program = program or shutil.which("Orthanc", path=folder)
    plugins = [
        path
        for folder in PLUGIN_FOLDERS
        for path in sorted(Path(folder).glob("libOrthancDicomWeb.*"))
    ]
    if program is None or not plugins:
        raise FileNotFoundError(
            "expected Orthanc with its DICOMweb plugin, got none. Try apt install "
            "orthanc orthanc-dicomweb, or a server that is there already."
        )
    return program, plugins[0]


def _settings(folder, plugin, port, auth):
    return {
        "StorageDirectory": folder,
        "IndexDirectory": folder,
        "HttpPort": port,
        "DicomServerEnabled": False,
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": True,
        "RegisteredUsers": dict([auth]),
        "Plugins": [str(plugin)],
        "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
    }


def _free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _wait(server, log):
    """Until it answers."""
    end = monotonic() + START_S
    while server.process.poll() is None and monotonic() < end:
        with contextlib.suppress(requests.ConnectionError):
            requests.get(f"{server.rest}/system", auth=server.auth, timeout=5)
            return
        sleep(0.1)
    lines = log.read_text(errors="replace").splitlines()
    raise RuntimeError(f"expected Orthanc to start, got: {' | '.join(lines[-3:])}")


def _stop(process):
    process.terminate()
    try:
        process.wait(STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
