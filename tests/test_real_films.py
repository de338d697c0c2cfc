"""Real films by https: each set is what its local folder is, whatever a mirror does.

The server is a loopback one. Where RADWB_REPOSITORIES names a folder of OWNER/NAME/path
with the sources themselves, every set is fetched and compared; they're too large to
lie beside the tests.
"""

import contextlib
import csv
import hashlib
import http.server
import io
import json
import os
import re
import shutil
import ssl
import subprocess
import sys
import tarfile
import threading
import time
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import radwb as rw
from radwb.data import FetchError, fetch, films, https, repositories

fetching = sys.modules["radwb.data.fetch"]
SETS = [name for name, entry in fetching.CATALOG.items() if "repositories" in entry]
REPOSITORY = "somebody/films"
COMMIT = "c0ffee" + 34 * "0"


# A server that does as it's told


class Mirror:
    """`files` are served; `first[path]` is a list of what happens before that."""

    def __init__(self):
        self.files = {}
        self.first = {}
        self.asked = []
        mirror = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                path = unquote(self.path).lstrip("/")
                mirror.asked.append(path)
                if mirror.first.get(path):
                    mirror.first[path].pop(0)(self, path)
                elif path in mirror.files:
                    send(200, mirror.files[path])(self, path)
                else:
                    send(404, b"no such file")(self, path)

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


def send(status, body=b"", length=None, **headers):
    def act(handler, _):
        handler.send_response(status)
        size = len(body) if length is None else length
        handler.send_header("Content-Length", str(size))
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.end_headers()
        handler.wfile.write(body)

    return act


def stall(body, length):
    def act(handler, path):
        send(200, body, length)(handler, path)
        handler.wfile.flush()
        time.sleep(1)

    return act


def trickle(body):
    def act(handler, path):
        send(200, b"", len(body))(handler, path)
        for start in range(0, 20, 2):
            handler.wfile.write(body[start : start + 2])
            handler.wfile.flush()
            time.sleep(0.1)

    return act


def chunked(body, *, whole=True):
    """As the host sends an archive: in chunks, no length said beforehand."""

    def act(handler, _):
        handler.send_response(200)
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        with contextlib.suppress(OSError):  # who has enough hangs up
            for start in range(0, len(body), 1000):
                chunk = body[start : start + 1000]
                handler.wfile.write(b"%x\r\n%b\r\n" % (len(chunk), chunk))
            if whole:
                handler.wfile.write(b"0\r\n\r\n")

    return act


def packed(files, prefix="films-c0ffee/"):
    """A commit's archive as the host packs it."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(prefix + name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


@pytest.fixture
def mirror(monkeypatch, tmp_path):
    mirror = Mirror()
    monkeypatch.setattr(https, "SCHEMES", ("https://", "http://127.0.0.1"))
    monkeypatch.setattr(https, "TIMEOUT_S", (0.5, 0.5))
    file_url = mirror.url + "/raw/{repository}/{commit}/{path}"
    monkeypatch.setattr(repositories, "FILE_URL", file_url)
    archive_url = mirror.url + "/archive/{repository}/{commit}"
    monkeypatch.setattr(repositories, "ARCHIVE_URL", archive_url)
    monkeypatch.setattr(repositories, "PAUSE_S", 0)
    mirror.waits = []
    monkeypatch.setattr(https, "sleep", mirror.waits.append)
    monkeypatch.delenv("RADWB_OFFLINE", raising=False)
    yield mirror
    mirror.server.shutdown()
    mirror.server.server_close()


# A set of three films


def png(pixels):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def ramp(height, width, start=0):
    return (
        (start + np.arange(height * width) % 200)
        .astype(np.uint8)
        .reshape(height, width)
    )


HANNOVER_CSV = """patient_id,image_id,sex,age,size,weight,admission_offset,\
icu_admission_offset,icu_release_offset,death_offset,modality,projection,crp_offset,\
crp_val
p2,b,m,,,,0,1.0,,,CR,ap,0.0,3.0
p1,a,f,,,,-1,,,,CR,pa,,
p2,c,m,,,,4,1.0,,9.0,DX,ap,,
"""
SOURCES = {
    "data.csv": HANNOVER_CSV.encode(),
    "png/a.png": png(ramp(30, 20)),
    "png/b.png": png(ramp(8, 1024)),
    "png/c.png": png(ramp(20, 20, 50)),
}


@pytest.fixture
def small(mirror, monkeypatch, tmp_path):
    """The recipe of Hannover with three films of our own, served by the mirror."""
    recipes = {"small": (hannover_of(REPOSITORY), "/png/")}
    monkeypatch.setattr(films, "RECIPES", recipes)
    lines = []
    for name, content in SOURCES.items():
        checksum = hashlib.sha256(content).hexdigest()
        lines.append(f"{checksum} {len(content)} {REPOSITORY}/{name}\n")
        mirror.files[f"raw/{REPOSITORY}/{COMMIT}/{name}"] = content
    mirror.files[f"archive/{REPOSITORY}/{COMMIT}"] = packed(SOURCES)
    (tmp_path / "small.txt").write_text("".join(lines))
    monkeypatch.setattr(repositories, "MANIFESTS", tmp_path)
    entry = {
        "what": "three films",
        "licence": "CC BY 3.0",
        "citation": "Nobody 2020",
        "size_mb": 1,
        "folder": "small_folder",
        "digest": "0" * 64,
        "repositories": {REPOSITORY: {"commit": COMMIT, "archive_mb": 1}},
    }
    monkeypatch.setattr(fetching, "CATALOG", {"small": entry})
    monkeypatch.setenv("RADWB_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("RADWB_MIRROR", raising=False)
    return mirror


def hannover_of(repository):
    recipe, _ = films.RECIPES["hannover"]

    def rows(source):
        theirs = source.folder / "ml-workgroup/covid-19-image-repository"
        theirs.parent.mkdir(exist_ok=True)
        theirs.symlink_to(source.folder / repository)
        return recipe(source)

    return rows


def path_of(name):
    return f"raw/{REPOSITORY}/{COMMIT}/{name}"


def contents(folder):
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def test_a_set_is_its_files_in_the_order_of_the_manifest(small, capsys):
    folder = fetch("small")
    with (folder / "metadata.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["image"] for row in rows] == [f"images/{x}.jpg" for x in "abc"]
    assert rows[1] == {
        "image": "images/b.jpg",
        "patient_id": "hannover-p2",
        "sex": "m",
        "view": "AP",
        "finding": "COVID-19",
        "license": "CC BY 3.0",
        "source": "Hannover Medical School",
        "orig_w": "1024",
        "orig_h": "8",
        "admission_offset": "0",
        "icu_admission_offset": "1.0",
        "icu_release_offset": "",
        "death_offset": "",
        "crp_offset": "0.0",
        "crp_val": "3.0",
        "icu_ever": "1",
        "died": "0",
    }
    assert [row["died"] for row in rows] == ["0", "0", "1"]
    assert Image.open(folder / "images/b.jpg").size == (512, 4)  # side 512 at most
    near = np.asarray(Image.open(folder / "images/c.jpg"), int) - ramp(20, 20, 50)
    assert np.abs(near).max() <= 60  # a JPEG of the same film
    assert np.abs(near).mean() < 10
    shown = capsys.readouterr().out
    assert (
        "4 files of 0 MB from github.com/somebody/films (archives of 1 MB at most"
        in shown
    )
    assert "licence: CC BY 3.0" in shown
    assert "Nobody 2020" in shown
    assert small.asked == [path_of(name) for name in SOURCES]  # few: one by one
    assert [path.name for path in (folder.parent).iterdir()] == ["small"]
    small.asked.clear()
    assert fetch("small") == folder
    assert small.asked == []


def test_many_files_come_in_one_request(small, monkeypatch):
    monkeypatch.setattr(repositories, "FEW", 2)
    assert (fetch("small") / "images/a.jpg").exists()
    assert small.asked == [f"archive/{REPOSITORY}/{COMMIT}"]


def test_an_archive_in_chunks_is_read_to_its_end(small, monkeypatch):
    monkeypatch.setattr(repositories, "FEW", 2)
    path = f"archive/{REPOSITORY}/{COMMIT}"
    noise = np.random.default_rng(0).bytes(50_000)
    archive = packed({**SOURCES, "z": noise})
    small.first[path] = [chunked(archive)]
    fetch("small")
    assert small.asked == [path]
    fetching.shutil.rmtree(fetching.cache_folder())
    small.asked.clear()
    some = {name: SOURCES[name] for name in ("data.csv", "png/a.png")}
    small.first[path] = [chunked(packed({**some, "z": noise})[:40_000], whole=False)]
    fetch("small")
    assert small.asked == [path, path_of("png/b.png"), path_of("png/c.png")]


def test_an_archive_is_left_once_all_is_there(small, monkeypatch):
    monkeypatch.setattr(repositories, "FEW", 2)
    path = f"archive/{REPOSITORY}/{COMMIT}"
    more = np.random.default_rng(0).bytes(3 << 20)  # than the megabyte it may have
    small.first[path] = [chunked(packed({**SOURCES, "z": more}))]
    progress = []
    files = repositories.manifest("small")
    pins = fetching.CATALOG["small"]["repositories"]
    folder = fetching.private_folder(fetching.cache_folder() / "files")
    repositories.collect(files, pins, folder, progress.append)
    assert small.asked == [path]
    assert progress.count(0) == len(SOURCES)  # members that were looked at
    assert sum(progress) == sum(map(len, SOURCES.values()))


@pytest.mark.parametrize("fault", ["cut short", "absent", "no archive", "endless"])
def test_what_an_archive_lacks_comes_file_by_file(small, monkeypatch, fault):
    monkeypatch.setattr(repositories, "FEW", 2)
    path = f"archive/{REPOSITORY}/{COMMIT}"
    noise = np.random.default_rng(0).bytes(3 << 20)
    answers = {
        # the first two members are whole; what follows them isn't
        "cut short": packed({**dict(list(SOURCES.items())[:2]), "z": noise})[: 1 << 19],
        "absent": None,
        "no archive": b"<html>busy</html>",
        "endless": packed({"noise": noise, **SOURCES}),
    }
    small.files[path] = answers[fault]
    if answers[fault] is None:
        del small.files[path]
    folder = fetch("small")
    assert len(list((folder / "images").iterdir())) == 3
    rest = list(SOURCES)[2:] if fault == "cut short" else list(SOURCES)
    assert small.asked == [path, *map(path_of, rest)]


def test_an_archive_keeps_what_is_pinned_and_nothing_else(small, monkeypatch, tmp_path):
    monkeypatch.setattr(repositories, "FEW", 2)
    evil = {
        **SOURCES,
        "../../evil.txt": b"x",
        "png/a.png": bytes(len(SOURCES["png/a.png"])),
    }
    small.files[f"archive/{REPOSITORY}/{COMMIT}"] = packed(evil)
    fetch("small")
    assert small.asked[1:] == [path_of("png/a.png")]  # the wrong one, by itself
    assert not list(tmp_path.rglob("evil*"))


# What a mirror may do to one file

A = SOURCES["png/a.png"]
PASSING = {
    "cut off": send(200, A[:40], len(A)),
    "stalls": stall(A[:40], len(A)),
    "silent": lambda *_: time.sleep(1),
    "503": send(503),
    "429": send(429, Retry_After="7"),
}


@pytest.mark.parametrize("fault", PASSING)
def test_a_passing_fault_is_tried_again_after_a_wait(small, fault):
    path = path_of("png/a.png")
    small.first[path] = [PASSING[fault], PASSING[fault]]
    fetch("small")
    assert small.asked.count(path) == 3
    assert small.waits == ([7, 7] if fault == "429" else [1, 2])  # ever later


FINAL = {
    "404": (send(404), "answers 404; 1 of 4 files are here", 1),
    "lies": (send(200, A[::-1]), "png/a.png came with another sha256", 1),
    "too long": (send(200, A + b"x"), f"sends more than the {len(A):,} bytes", 1),
    "too short": (send(200, A[:-1]), "png/a.png came with another sha256", 1),
    "no length": (send(200, A + A, 0), "another sha256|more than", 1),
    "trickles": (trickle(A), "sends less than 1,000 bytes a second", 1),
    "always cut": (send(200, A[:40], len(A)), r"cut short .*40 bytes read", 4),
    "always busy": (send(503), "answers 503", 4),
    "long wait": (send(429, Retry_After="3600"), "asks to wait 3600 s", 1),
    "a date": (
        send(503, Retry_After="Fri, 31 Dec 2999 23:59:59 GMT"),
        "asks to wait",
        1,
    ),
    "to http": (send(302, Location="http://localhost/a.png"), "expected https", 1),
    "to a file": (send(302, Location="file:///etc/passwd"), "expected https", 1),
}


@pytest.mark.parametrize("fault", FINAL)
def test_a_lasting_fault_is_one_sentence_and_the_next_call_goes_on(
    small, monkeypatch, fault
):
    act, reason, times = FINAL[fault]
    if fault == "trickles":
        monkeypatch.setattr(https, "SLOWEST", 1000)
    path = path_of("png/a.png")
    small.first[path] = [act] * times
    with pytest.raises(FetchError, match=reason) as error:
        fetch("small")
    text = str(error.value)
    assert "\n" not in text
    assert "1 of 4 files are here, and the next call goes on from there" in text
    assert "run radwb fetch small (at most 1 MB from github.com)" in text
    assert small.asked == [path_of("data.csv"), *[path] * times]
    small.asked.clear()
    fetch("small")
    rest = [path_of(name) for name in SOURCES if name != "data.csv"]
    assert small.asked == rest  # what was there isn't asked for again


def test_a_redirect_by_https_or_to_itself_is_followed(small):
    other = small.url + "/elsewhere"
    small.files["elsewhere"] = A
    path = path_of("png/a.png")
    small.first[path] = [send(302, Location=other)]
    assert (fetch("small") / "images/a.jpg").exists()
    small.first[path] = [send(302, Location=f"{small.url}/{path}")] * 9
    fetching.shutil.rmtree(fetching.cache_folder())
    with pytest.raises(FetchError, match="is redirected again and again"):
        fetch("small")


def test_a_file_that_was_damaged_meanwhile_is_asked_for_again(small):
    path = path_of("png/b.png")
    small.first[path] = [send(404)]
    with pytest.raises(FetchError):
        fetch("small")
    store = fetching.cache_folder() / ".small.files" / REPOSITORY
    (store / "png/a.png").write_bytes(b"damaged")
    small.asked.clear()
    fetch("small")
    assert path_of("png/a.png") in small.asked


def test_without_a_network_one_sentence_at_once(small, capsys):
    small.server.shutdown()
    small.server.server_close()
    start = time.monotonic()
    with pytest.raises(FetchError, match="127.0.0.1:.* can't be reached"):
        fetch("small")
    assert small.waits == []
    assert time.monotonic() - start < 5
    assert capsys.readouterr().out == ""  # no licence of what doesn't come
    with pytest.raises(FetchError) as error:
        fetch("small", offline=True)
    assert "reached" not in str(error.value)


def test_the_local_folder_goes_first_and_nothing_is_asked(small, monkeypatch, tmp_path):
    (tmp_path / "local" / "small_folder").mkdir(parents=True)
    monkeypatch.setenv("RADWB_MIRROR", str(tmp_path / "local"))
    assert fetch("small") == tmp_path / "local" / "small_folder"
    assert small.asked == []


def test_a_damaged_set_in_the_cache_is_made_anew(small):
    folder = fetch("small")
    before = contents(folder)
    (folder / "images/a.jpg").write_bytes(b"damaged")
    fetching._VERIFIED.clear()
    with pytest.raises(FetchError, match="doesn't match the pinned sha256"):
        fetch("small", offline=True)
    assert contents(fetch("small")) == before


def test_only_the_reference_bytes_pass_without_a_word(small, capsys):
    folder = fetch("small")
    assert "packed otherwise than the reference" in capsys.readouterr().out
    fetching.CATALOG["small"]["digest"] = fetching.digest(folder)
    fetching.shutil.rmtree(folder)
    fetch("small")
    assert "packed otherwise" not in capsys.readouterr().out


def test_a_table_begins_no_large_download(small, monkeypatch):
    real = sys.modules["radwb.data.real"]
    monkeypatch.setattr(real, "SETS", ["small"])
    monkeypatch.setattr(real, "CATALOG", fetching.CATALOG)
    fetching.CATALOG["small"]["repositories"][REPOSITORY]["archive_mb"] = 101
    fetching.CATALOG["small"]["site"] = "nowhere"
    with pytest.raises(FetchError, match="run radwb fetch small .at most 101 MB"):
        real.real("small")
    assert small.asked == []
    fetch("small")
    assert len(real.real("small")) == 3


def test_plain_http_is_refused():
    with https.open_web() as web, pytest.raises(https.DownloadError, match="https"):
        https.download(web, "http://127.0.0.1:9/a", Path("a"), most=1)


def test_a_certificate_is_asked_for(mirror, monkeypatch, tmp_path):
    """By real TLS: unknown ones are refused, those of the machine's own list taken."""
    if not shutil.which("openssl"):
        pytest.skip("TLS isn't tried: no openssl makes a certificate")
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    make = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1"]
    make += ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    make += ["-keyout", str(key), "-out", str(certificate)]
    subprocess.run(make, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    socket = mirror.server.socket
    mirror.server.socket = context.wrap_socket(socket, server_side=True)
    mirror.files["a"] = b"film"
    url = mirror.url.replace("http:", "https:") + "/a"
    monkeypatch.setattr(https, "SCHEMES", ("https://",))
    with https.open_web() as web:
        with pytest.raises(https.Unreachable, match="certificate verify failed"):
            https.download(web, url, tmp_path / "a", most=4)
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
        https.download(web, url, tmp_path / "a", most=4)
    assert (tmp_path / "a").read_bytes() == b"film"


# What the catalog pins


@pytest.mark.parametrize("name", SETS)
def test_a_manifest_pins_every_file_at_a_commit(name):
    entry = fetching.CATALOG[name]
    files = repositories.manifest(name)
    assert len({file.name for file in files}) == len(files)
    assert {file.repository for file in files} == set(entry["repositories"])
    for file in files:
        assert re.fullmatch("[0-9a-f]{64}", file.sha256)
        assert file.size > 0
        assert ".." not in file.name.split("/")
    for pin in entry["repositories"].values():
        assert re.fullmatch("[0-9a-f]{40}", pin["commit"])
    assert (repositories.MANIFESTS / f"{name}.txt").stat().st_size < 300_000


def local_folder(name):
    for root in fetching._local_roots():
        folder = root / fetching.CATALOG[name]["folder"]
        if folder.is_dir():
            return folder
    pytest.skip(f"{name} isn't compared: no local mirror holds it")


def made_of(folder):
    return {
        k: v for k, v in contents(folder).items() if k not in ("SOURCE.md", ".digest")
    }


@pytest.mark.parametrize("name", SETS)
def test_the_pinned_digest_is_the_local_folder(name, tmp_path):
    for path, content in made_of(local_folder(name)).items():
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_bytes(content)
    assert fetching.digest(tmp_path) == fetching.CATALOG[name]["digest"]
    images = pd.read_csv(tmp_path / "metadata.csv")["image"].map(lambda x: Path(x).stem)
    sources = [Path(file.path).stem for file in repositories.manifest(name)]
    assert [stem for stem in sources if stem in set(images)] == [*images]


def fetched_by_https(name, sources, mirror, monkeypatch, tmp_path):
    """The set by way of the loopback server, from the sources' own bytes."""
    entry = fetching.CATALOG[name]
    for repository, pin in entry["repositories"].items():
        files = {}
        for file in repositories.manifest(name):
            if file.repository == repository:
                files[file.path] = sources(file)
                path = f"raw/{repository}/{pin['commit']}/{file.path}"
                mirror.files[path] = files[file.path]
        mirror.files[f"archive/{repository}/{pin['commit']}"] = packed(files)
    if "tables" in entry:
        tables = fetch(entry["tables"], offline=True)
        monkeypatch.setattr(fetching, "fetch", lambda _: tables)
    monkeypatch.delenv("RADWB_MIRROR")
    monkeypatch.setenv("RADWB_CACHE", str(tmp_path / "cache"))
    return fetch(name)


def test_nih_64_by_https_is_the_local_folder(mirror, monkeypatch, tmp_path):
    """Its films are stored as they are, so that the local folder has the sources."""
    local = local_folder("nih-64")
    try:
        fetch("nih-tables", offline=True)
    except FetchError as error:
        pytest.skip(f"nih-64 isn't assembled: {error}")

    def source(file):
        return (local / "images" / Path(file.path).name).read_bytes()

    folder = fetched_by_https("nih-64", source, mirror, monkeypatch, tmp_path)
    assert made_of(folder) == made_of(local)
    assert len(mirror.asked) == 1


def test_vqa_rad_is_the_local_folder(tmp_path):
    """Its images are stored as they are; of the questions these are here."""
    local = local_folder("vqa-rad")
    root = tmp_path / "sources" / films.VQA
    (root / "VQA_RAD Image Folder").mkdir(parents=True)
    questions = (local / "qa.json").read_bytes()
    (root / "VQA_RAD Dataset Public.json").write_bytes(questions)
    for image in (local / "images").iterdir():
        (root / "VQA_RAD Image Folder" / image.name).symlink_to(image)
    out = tmp_path / "out"
    out.mkdir()
    names = [file.name for file in repositories.manifest("vqa-rad")]
    films.assemble("vqa-rad", names, tmp_path / "sources", out)
    assert contents(out) == made_of(local)


@pytest.mark.parametrize("name", SETS)
def test_a_set_by_https_is_the_local_folder(name, mirror, monkeypatch, tmp_path):
    root = os.environ.get("RADWB_REPOSITORIES")
    if not root:
        pytest.skip(
            f"{name} isn't compared with its sources: RADWB_REPOSITORIES isn't set"
        )
    local = local_folder(name)
    table = rw.data.real(name) if "site" in fetching.CATALOG[name] else None

    def source(file):
        return (Path(root) / file.name).read_bytes()

    folder = fetched_by_https(name, source, mirror, monkeypatch, tmp_path)
    assert made_of(folder) == made_of(local)
    if table is not None:
        again = rw.data.real(name)
        paths = again["path"].str.removeprefix(str(folder))
        assert [*paths] == [*table["path"].str.removeprefix(str(local))]
        where = ["path", "truth_path"]
        pd.testing.assert_frame_equal(
            again.drop(columns=where, errors="ignore"),
            table.drop(columns=where, errors="ignore"),
        )


# Recipes, by hand


def assembled(name, sources, tmp_path, tables=None):
    for path, content in sources.items():
        (tmp_path / "sources" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "sources" / path).write_bytes(content)
    out = tmp_path / "out"
    out.mkdir()
    films.assemble(name, [*sources], tmp_path / "sources", out, tables=tables)
    return pd.read_csv(out / "metadata.csv"), out


def test_kermany_reads_patient_and_finding_off_the_names(tmp_path):
    names = (
        "person7_virus_12",
        "IM-0416-0001",
        "person7_bacteria_9",
        "IM-0499-0001-0002",
    )
    film = png(ramp(448, 896))
    root = "ozanguldali/final-covid-chestxray/dataset/train/x"
    table, out = assembled(
        "kermany", {f"{root}/{n}.png": film for n in names}, tmp_path
    )
    assert [*table["patient_id"]] == [
        "kermany-person7",
        "kermany-normal0416",
        "kermany-person7",
        "kermany-normal0499",
    ]
    assert [*table["finding"]] == [
        "viral pneumonia",
        "normal",
        "bacterial pneumonia",
        "normal",
    ]
    assert Image.open(out / table["image"][0]).size == (448, 224)


COHEN_HEAD = (
    "patientid,offset,sex,age,finding,survival,intubated,went_icu,view,modality,\
date,location,filename,doi,url,license,clinical_notes,other_notes\n"
)
COHEN_CSV = COHEN_HEAD + (
    '5,3,M,54,COVID-19,Y,N,,AP,X-ray,2020,"Riccione, Italy ",a.png,d,u,CC BY,'
    '"hazy  zones\nboth sides",\n'
    "6,,,,todo,,,,PA,X-ray,,,b.png,,,CC BY-SA,clear,\n"
)


def test_covid_text_joins_zones_scores_and_a_clear_part_is_black(tmp_path):
    see_through = np.full((10, 20, 4), 200, np.uint8)
    see_through[..., 3] = 255
    see_through[:, 10:, 3] = 0
    grey_mask = np.full((20, 40), 127, np.uint8)
    grey_mask[:, 20:] = 128
    sources = {
        f"{films.COHEN}/metadata.csv": COHEN_CSV.encode(),
        f"{films.COHEN}/annotations/covid-severity-scores.csv": b"## by three\n"
        b"filename,geographic_mean,opacity_mean\na.png,6.0,4.5\n",
        f"{films.BRIXIA}/data/public-annotations.csv": b"\xef\xbb\xbffilename,S-A,S-B,"
        b"S-C,S-D,S-E,S-F,S-Global,J-A\na.png,0,1,2,3,2,1,9,3\n",
        f"{films.COHEN}/images/a.png": png(see_through),
        f"{films.COHEN}/images/b.png": png(ramp(20, 40)),
        f"{films.COHEN}/annotations/lungVAE-masks/b_mask.png": png(grey_mask),
    }
    table, out = assembled("covid-text", sources, tmp_path)
    first, second = table.to_dict("records")
    assert first["text"] == "hazy zones both sides"
    assert first["location"] == "Riccione, Italy"
    assert [first[f"brixia_{zone}"] for zone in "ABCDEF"] == [0, 1, 2, 3, 2, 1]
    assert (first["sev_geographic_mean"], first["sev_opacity_mean"]) == (6.0, 4.5)
    assert pd.isna(second["brixia_A"])
    assert pd.isna(second["sev_opacity_mean"])
    assert second["lung_mask"] == "lung_masks/b.png"
    assert pd.isna(first["lung_mask"])
    pixels = np.asarray(Image.open(out / first["image"]))
    assert pixels[:, :5].mean() > 190
    assert pixels[:, 15:].mean() < 10
    mask = np.asarray(Image.open(out / second["lung_mask"]))
    assert np.array_equal(mask > 0, grey_mask > 127)


def test_covid_masks_pastes_a_cut_mask_where_it_was(tmp_path):
    piece = np.zeros((20, 30, 4), np.uint8)
    piece[..., 3] = 255
    piece[5:, :, :3] = 90  # drawn is what isn't black
    drawn = "Filename,Template Name,Mask,Resolution,Top,Left,Width,Height\n"
    drawn += "a.jpg,Left Lung,masks/1.png,1024x512,100,200,30,20\n"
    drawn += "a.jpg,Monitoring Probes,,1024x512,0,0,1024,512\n"
    sources = {
        f"{films.MASKS}/metadata.csv": COHEN_CSV.replace("a.png", "a.jpg").encode(),
        f"{films.MASKS}/structure.csv": drawn.encode(),
        f"{films.MASKS}/images/a.jpg": png(ramp(512, 1024)),
        f"{films.MASKS}/masks/1.png": png(piece),
    }
    table, out = assembled("covid-masks", sources, tmp_path)
    mask = np.asarray(Image.open(out / table["mask_left_lung"][0]))
    rows, columns = np.nonzero(mask)
    assert (rows.min(), rows.max() + 1) == (
        52,
        60,
    )  # 105 to 120 of the original, halved
    assert (columns.min(), columns.max() + 1) == (100, 115)
    assert mask.shape == (256, 512)
    assert json.loads(table["boxes_left_lung"][0]) == [[100, 50, 15, 10]]
    assert not table.filter(like="probes").columns.any()
