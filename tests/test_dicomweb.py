"""Scans by DICOMweb, from a real Orthanc and from servers that misbehave."""

import filecmp
import json
import threading
import time
import warnings
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.data import get_testdata_file

import radwb as rw
from radwb.curate.dicomweb import client, from_dicomweb, orthanc

pytest.importorskip("dicomweb_client")
PLAIN = ("CT_small.dcm", "MR_small.dcm")
JPEG = ("SC_rgb_jpeg_dcmtk.dcm", "JPEG2000.dcm")
STUDY, SERIES, INSTANCE = "1.2.3", "1.2.3.4", "1.2.3.4.5"
TAGS = {STUDY: "0020000D", SERIES: "0020000E", INSTANCE: "00080018"}


def paths(names):
    return [Path(get_testdata_file(name)) for name in names]


@contextmanager
def archive(*files, **options):
    try:
        server = orthanc(*files, **options)
        running = server.__enter__()
    except FileNotFoundError as error:
        pytest.skip(str(error))
    try:
        yield running
    finally:
        server.__exit__(None, None, None)


@pytest.fixture(scope="module")
def server():
    with archive(*paths(PLAIN + JPEG)) as running:
        yield running


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("RADWB_CACHE", str(tmp_path_factory.mktemp("cache")))


# a real server


def test_every_file_comes_back_byte_for_byte_compressed_ones_too(server, tmp_path):
    table = from_dicomweb(server.url, tmp_path, query={}, auth=server.auth)
    assert len(table) == 4
    assert (table["refused"] == "").all()
    for path in paths(PLAIN + JPEG):
        header = pydicom.dcmread(path, stop_before_pixels=True)
        row = table[table["image_id"] == header.SOPInstanceUID].iloc[0]
        assert filecmp.cmp(path, row["path"], shallow=False), path.name
        assert row["study_id"] == header.StudyInstanceUID
        assert row["series_id"] == header.SeriesInstanceUID
        folders = Path(row["path"]).relative_to(tmp_path).parts[:2]
        assert folders == (row["study_id"], row["series_id"])
        assert rw.data.read(row["path"]).shape == rw.data.read(path).shape


def test_what_is_fetched_is_its_owners_alone(server, tmp_path):
    from_dicomweb(
        server.url, tmp_path / "new", query={"Modality": "CT"}, auth=server.auth
    )
    made = [tmp_path / "new", *(tmp_path / "new").rglob("*")]
    assert len(made) == 4
    assert not any(path.stat().st_mode & 0o077 for path in made)


@pytest.mark.parametrize(
    ("query", "patients"),
    [
        ({"PatientID": "1CT1"}, {"1CT1"}),
        ({"ModalitiesInStudy": "MR"}, {"4MR1"}),
        ({"Modality": "MR"}, {"4MR1"}),
        ({"StudyDate": "20040101-20040131"}, {"1CT1"}),
        ({"PatientID": "*MR1"}, {"4MR1"}),
        (
            {"SOPInstanceUID": "1.3.6.1.4.1.5962.1.1.1.1.1.20040119072730.12322"},
            {"1CT1"},
        ),
    ],
)
def test_keywords_of_each_level_narrow_the_search(server, tmp_path, query, patients):
    table = from_dicomweb(server.url, tmp_path, query=query, auth=server.auth)
    assert set(table["patient_id"]) == patients


def test_all_pages_are_read(server, tmp_path, monkeypatch):
    monkeypatch.setattr(client, "PAGE", 1)
    assert len(from_dicomweb(server.url, tmp_path, query={}, auth=server.auth)) == 4


def test_films_of_the_simulators_kind_go_in_and_come_out(tmp_path):
    from radwb.simulate.files import dx_data_set

    film = tmp_path / "film.dcm"
    pixels = np.linspace(0, 1, 64 * 48, dtype=np.float32).reshape(64, 48)
    scan = rw.data.Scan(pixels, (0.5, 0.5), "PA")
    data_set = dx_data_set(scan, {"patient_id": "0007"}, "film", seed=0)
    data_set.save_as(film, enforce_file_format=True)
    with archive(film) as running:
        back = from_dicomweb(
            running.url, tmp_path / "out", query={"Modality": "DX"}, auth=running.auth
        )
    assert back["patient_id"].tolist() == ["0007"]
    assert (rw.data.read(back["path"][0]).pixels == rw.data.read(film).pixels).all()


def slices(folder, n):
    """The same small CT as n instances of one series."""
    files = []
    for number in range(n):
        header = pydicom.dcmread(get_testdata_file("CT_small.dcm"))
        header.SOPInstanceUID = f"{header.StudyInstanceUID}.{number}"
        header.file_meta.MediaStorageSOPInstanceUID = header.SOPInstanceUID
        files.append(folder / f"{number}.dcm")
        header.save_as(files[-1])
    return files


def test_a_server_killed_in_the_middle_is_gone_on_with(tmp_path, monkeypatch):
    (tmp_path / "in").mkdir()
    files = slices(tmp_path / "in", 12)
    fetch = client._fetch
    fetched = []

    def fetch_five(client_, names, path):
        if len(fetched) == 5:
            running.process.kill()
            running.process.wait()
        fetched.append(names)
        fetch(client_, names, path)

    out = tmp_path / "out"
    with archive(*files) as running:
        monkeypatch.setattr(client, "_fetch", fetch_five)
        with pytest.raises(rw.data.FetchError, match="12 instances.*what is there is"):
            from_dicomweb(running.url, out, query={}, auth=running.auth)
    there = sorted(out.rglob("*.dcm"))
    assert len(there) == 5
    before = {path: path.stat().st_mtime_ns for path in there}
    there[0].with_name(".half.dcm.part").write_bytes(b"half")  # never counts
    there[1].write_bytes(there[2].read_bytes())  # another instance: fetched again
    fetched.clear()
    monkeypatch.setattr(client, "_fetch", lambda *a: (fetched.append(a), fetch(*a)))
    with archive(*files) as running:
        table = from_dicomweb(running.url, out, query={}, auth=running.auth)
    assert len(table) == 12
    assert (table["refused"] == "").all()
    assert len(fetched) == 8
    after = {path: path.stat().st_mtime_ns for path in there}
    assert [path for path in there if before[path] != after[path]] == [there[1]]


def test_a_password_is_asked_for_taken_and_never_told(tmp_path, capsys):
    films = paths(["CT_small.dcm"])
    with archive(*films, auth=("ann", "s3cret")) as running:
        with pytest.raises(rw.data.FetchError, match=r"401.*auth=") as refused:
            from_dicomweb(running.url, tmp_path, query={})
        with pytest.raises(rw.data.FetchError, match="401") as wrong:
            from_dicomweb(running.url, tmp_path, query={}, auth=("ann", "s3cret!"))
        table = from_dicomweb(running.url, tmp_path, query={}, auth=("ann", "s3cret"))
    told = [refused.value, wrong.value, table.to_csv(), capsys.readouterr()]
    assert "s3cret" not in "".join(map(str, told))
    assert rw.curate.find_values(tmp_path, ["s3cret"]) == []


def test_an_archive_is_gone_when_its_block_ends():
    with archive() as running:
        folder = Path(running.process.args[1]).parent  # of its settings and storage
        assert list(folder.iterdir())
    assert running.process.poll() is not None
    assert not folder.exists()
    with pytest.raises(rw.data.FetchError, match="ConnectionError"):
        from_dicomweb(running.url, "nowhere", query={})


def test_nobody_reaches_an_archive_without_the_password_that_it_made_up(tmp_path):
    with archive(*paths(["CT_small.dcm"])) as first, archive() as second:
        with pytest.raises(rw.data.FetchError, match="401"):
            from_dicomweb(first.url, tmp_path, query={})
        with pytest.raises(rw.data.FetchError, match="401"):
            from_dicomweb(first.url, tmp_path, query={}, auth=second.auth)
        assert len(from_dicomweb(first.url, tmp_path, query={}, auth=first.auth)) == 1


# servers that misbehave


def listed(*uids):
    row = {TAGS[uid]: {"vr": "UI", "Value": [uid]} for uid in uids}
    return json.dumps([row]).encode()


def dicom_part(data):
    head = b"--part\r\nContent-Type: application/dicom\r\n\r\n"
    return head + data + b"\r\n--part--\r\n"


@contextmanager
def answering(instance, *, search=None, status=200, lists=None):
    """A server that lists one instance and answers a request for it by `instance`.

    Args:
        instance: bytes, or a function that writes to the open answer.
        search: bytes instead of each list.
        status: of each list, or a function that gives it.
        lists: {STUDY, SERIES or INSTANCE: bytes instead of its list}.
    """
    told = {uid: search or listed(uid) for uid in TAGS} | (lists or {})

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            path = self.path.partition("?")[0]
            if path.endswith(INSTANCE):
                self.send(200, 'multipart/related; boundary="part"', instance)
            elif path.endswith("/instances"):
                self.send(status, "application/json", told[INSTANCE])
            elif path.endswith("/series"):
                self.send(status, "application/json", told[SERIES])
            else:
                self.send(status, "application/json", told[STUDY])

        def send(self, code, kind, body):
            self.send_response(code() if callable(code) else code)
            self.send_header("Content-Type", kind)
            self.end_headers()
            if callable(body):
                body(self.wfile)
            else:
                self.wfile.write(body)

        def log_message(self, *words):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/dicom-web"
    finally:
        server.shutdown()
        server.server_close()


def one_instance():
    header = pydicom.dcmread(get_testdata_file("CT_small.dcm"))
    header.StudyInstanceUID = STUDY
    header.SeriesInstanceUID = SERIES
    header.SOPInstanceUID = header.file_meta.MediaStorageSOPInstanceUID = INSTANCE
    return header


def as_bytes(header):
    buffer = pydicom.filebase.DicomBytesIO()
    header.save_as(buffer)
    return buffer.getvalue()


def test_the_stand_in_serves_an_instance_that_is_whole(tmp_path):
    with answering(dicom_part(as_bytes(one_instance()))) as url:
        table = from_dicomweb(url, tmp_path, query={})
    assert table["refused"].tolist() == [""]


def test_only_what_was_asked_for_is_in_the_table(tmp_path):
    lies_there = pydicom.dcmread(get_testdata_file("CT_small.dcm"))
    lies_there.save_as(tmp_path / "another.dcm")
    with answering(dicom_part(as_bytes(one_instance()))) as url:
        table = from_dicomweb(url, tmp_path, query={})
    assert table["image_id"].tolist() == [INSTANCE]
    lies_there.save_as(table["path"][0])  # in its place, and it can't be had again
    with answering(b"") as url, pytest.warns(UserWarning, match="1 of 1 instances"):
        table = from_dicomweb(url, tmp_path, query={})
    assert table["image_id"].tolist() == [INSTANCE]
    assert len(rw.curate.index(tmp_path)) == 2


@pytest.mark.parametrize("place", [STUDY, SERIES, INSTANCE])
def test_what_is_listed_under_no_uid_is_counted_and_never_fetched(tmp_path, place):
    odd = ["1.2.3.4.5.", "1.2.840.ABC.6", "../../x", ""]
    rows = [{TAGS[place]: {"vr": "UI", "Value": [uid]}} for uid in [place, *odd]]
    rows += [{}, {TAGS[place]: {"vr": "UI"}}]
    whole = dicom_part(as_bytes(one_instance()))
    lists = {place: json.dumps(rows).encode()}
    with (
        answering(whole, lists=lists) as url,
        pytest.warns(UserWarning, match="^6 studies, series or instances are left"),
    ):
        table = from_dicomweb(url, tmp_path / "out", query={})
    assert table["image_id"].tolist() == [INSTANCE]
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert len(list(tmp_path.rglob("*"))) == 4


@pytest.mark.parametrize("body", [b"", b"junk", dicom_part(b"no DICOM"), None])
def test_a_broken_instance_is_a_row_with_its_reason(tmp_path, body):
    if body is None:  # another one than was asked for
        body = dicom_part(Path(get_testdata_file("CT_small.dcm")).read_bytes())
    with answering(body) as url, pytest.warns(UserWarning, match="1 of 1 instances"):
        table = from_dicomweb(url, tmp_path, query={})
    row = table.iloc[0]
    assert [row["study_id"], row["series_id"], row["image_id"]] == [*TAGS]
    assert "expected a DICOM instance, got" in row["refused"]
    assert not list(tmp_path.rglob("*.dcm"))


def test_an_instance_with_half_its_pixels_is_a_row_with_its_reason(tmp_path):
    whole = as_bytes(one_instance())
    with answering(dicom_part(whole[:-5000])) as url, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        table = from_dicomweb(url, tmp_path, query={})
    assert len(table) == 1
    assert table["refused"][0] != ""


def trickle(answer):
    for _ in range(400):
        answer.write(b".")
        answer.flush()
        time.sleep(0.05)


def test_a_server_that_stalls_or_trickles_is_left(tmp_path):
    start = time.monotonic()
    for body in (lambda answer: time.sleep(5), trickle):
        with answering(body) as url, pytest.warns(UserWarning, match="1 of 1"):
            table = from_dicomweb(url, tmp_path, query={}, timeout_s=0.5)
        assert "Timeout" in table["refused"][0]
        with (
            answering(b"", search=body) as url,
            pytest.raises(rw.data.FetchError, match=r"Timeout.*timeout_s"),
        ):
            from_dicomweb(url, tmp_path, query={}, timeout_s=0.5)
    assert time.monotonic() - start < 15


def test_an_answer_that_never_ends_is_bounded(tmp_path, monkeypatch):
    def flood(answer):
        for _ in range(1000):
            answer.write(bytes(1 << 16))

    monkeypatch.setenv("RADWB_MAX_BYTES", "3e6")
    with answering(flood) as url, pytest.warns(UserWarning, match="1 of 1"):
        table = from_dicomweb(url, tmp_path, query={})
    assert "RequestException" in table["refused"][0]


@pytest.mark.parametrize(
    ("search", "status", "said"),
    [
        (b"<html>", 200, "DICOM JSON.*root"),
        (b'["a"]', 200, "DICOM JSON.*root"),
        (b"[]", 200, "got none for PatientID.*fewer keywords"),
        (b"[]", 500, "500"),
        (b"[]", 403, "403.*auth"),
        (b"{}", 200, "got none"),
        (b'[{"0020000D": 7}]', 200, "DICOM JSON.*root"),
    ],
)
def test_what_is_wrong_is_said_without_what_was_asked(
    tmp_path, search, status, said, caplog
):
    with (
        answering(b"", search=search, status=status) as url,
        pytest.raises(rw.data.FetchError, match=said) as error,
    ):
        from_dicomweb(url, tmp_path, query={"PatientID": "Miller-1234"})
    assert "Miller" not in str(error.value) + caplog.text


def test_no_server_is_said_in_one_sentence_without_what_was_asked(tmp_path, caplog):
    with answering(b"") as url:
        pass  # it is gone again
    with pytest.raises(rw.data.FetchError, match=r"got ConnectionError\. Try") as error:
        from_dicomweb(url, tmp_path, query={"PatientID": "Miller-1234"})
    assert "Miller" not in str(error.value) + caplog.text


def test_a_busy_server_is_asked_again(tmp_path):
    busy = iter([503, 200])
    whole = dicom_part(as_bytes(one_instance()))
    with answering(whole, status=lambda: next(busy, 200)) as url:
        table = from_dicomweb(url, tmp_path, query={})
    assert table["refused"].tolist() == [""]


def test_a_uid_never_leads_out_of_the_folder(tmp_path):
    evil = json.dumps(
        [{tag: {"Value": ["../../evil"]} for tag in TAGS.values()}]
    ).encode()
    with (
        answering(b"", search=evil) as url,
        pytest.raises(rw.data.FetchError, match="got none"),
        pytest.warns(UserWarning, match="^1 studies"),
    ):
        from_dicomweb(url, tmp_path / "out", query={})
    assert list(tmp_path.iterdir()) == []


def test_arguments_that_are_wrong_are_refused_before_a_request(tmp_path):
    with pytest.raises(ValueError, match="PatientId.*Try PatientID"):
        from_dicomweb("http://127.0.0.1:9", tmp_path, query={"PatientId": "7"})
    with pytest.raises(ValueError, match="without a password") as error:
        from_dicomweb("http://ann:s3cret@127.0.0.1:9", tmp_path, query={})
    assert "s3cret" not in str(error.value)
