"""A real Chromium with the network off.

Where there is none, the tests skip, and say so.
"""

import json
import os
import re
import shutil
import socket
import subprocess
import time
import urllib.request
from contextlib import contextmanager

import pytest

from radwb.book import lab
from radwb.book.sync import checkout

FLAGS = [
    "--headless=new",
    "--no-sandbox",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--use-gl=angle",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
]
LOCAL = (
    "file:",
    "data:",
    "blob:",
    "http://127.0.0.1:",
    "ws://127.0.0.1:",
    "chrome:",
    "about:",
)


@pytest.fixture(
    scope="module"
)  # closed before the next file: its event loop would be in the way of nbclient
def chromium():
    path = (
        os.environ.get("BROWSER_PATH")
        or shutil.which("chromium")
        or shutil.which("google-chrome")
    )
    if not path:
        pytest.skip("no Chromium on this machine: apt install chromium")
    api = pytest.importorskip("playwright.sync_api")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield browser
        browser.close()


@contextmanager
def guarded_page(chromium):
    """A page that lets nothing out of this machine.

    `page.outside` names what it tried, `page.errors` what broke.
    """
    context = chromium.new_context(viewport={"width": 1280, "height": 900})
    page = context.new_page()
    page.set_default_timeout(90_000)  # a busy machine with two cores
    page.outside, page.errors = [], []

    def gate(route):
        if route.request.url.startswith(LOCAL):
            route.continue_()
        else:
            page.outside.append(route.request.url)
            route.abort()

    context.route("**/*", gate)
    page.on("pageerror", lambda error: page.errors.append(str(error)))
    try:
        yield page
    finally:
        context.close()


@pytest.fixture
def page(chromium):
    with guarded_page(chromium) as page:
        yield page


@pytest.fixture(scope="module")
def address(server):
    """The running lab as if new: no kernel, and nobody's earlier answers.

    (It takes some ten seconds to start and to stop, so it is started once.)
    """
    url, port, home = server
    yield url, port
    shut_down_kernels(url)
    for name in ("settings", "workspaces"):
        shutil.rmtree(home / name, ignore_errors=True)


def shut_down_kernels(url):
    """Else a notebook that is opened again finds its widgets alive."""
    base, _, token = url.partition("/lab")
    headers = {"Authorization": f"token {token.partition('token=')[2]}"}
    listing = urllib.request.Request(f"{base}/api/sessions", headers=headers)
    for session in json.load(urllib.request.urlopen(listing)):
        one = f"{base}/api/sessions/{session['id']}"
        call = urllib.request.Request(one, headers=headers, method="DELETE")
        urllib.request.urlopen(call)


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    """A lab with its own settings: its address, its port and its home."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    home = tmp_path_factory.mktemp("home")
    environment = lab.environment() | {
        "JUPYTERLAB_SETTINGS_DIR": str(home / "settings"),
        "JUPYTERLAB_WORKSPACES_DIR": str(home / "workspaces"),
        "JUPYTER_RUNTIME_DIR": str(home / "runtime"),
        "JUPYTER_NO_CONFIG": "",
        "HOME": str(home),
    }
    call = lab.command(checkout(), port=port, browser=False)
    call.append("--LabApp.expose_app_in_browser=True")  # its key bindings are asked for
    with (home / "log").open("w") as log:
        server = subprocess.Popen(
            call, env=environment, cwd=checkout(), stdout=log, stderr=subprocess.STDOUT
        )
    try:
        match, deadline = None, time.monotonic() + 90
        while not match and time.monotonic() < deadline and server.poll() is None:
            time.sleep(0.5)
            match = re.search(
                rf"http://127\.0\.0\.1:{port}/\S+token=\w+", (home / "log").read_text()
            )
        assert match, (home / "log").read_text()
        yield match.group(), port, home
    finally:
        server.terminate()
        server.wait(60)
