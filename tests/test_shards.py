"""Shards: webdataset reads back what went in; damage is reported, never silent."""

import io
import json
import tarfile
from hashlib import sha256
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from radwb.data import ReadError, Scan, read
from radwb.data.read import read_truth, write_png
from radwb.data.shards import read_shards, sample_keys, write_shards
from radwb.pretrain.index import index, shard_paths


@pytest.fixture
def table(tmp_path):
    """Seven films of five patients; two share their file name; one is a JPEG, one has
    no report.
    """
    rng, rows = np.random.default_rng(0), []
    for n in range(7):
        path = tmp_path / f"study.{n}" / ("film.png" if n < 2 else f"film.{n}.png")
        truth = {"Pneumothorax": rng.random((9, 8)) > 0.5} if n % 2 else {}
        path.parent.mkdir()
        write_png(
            Scan(
                rng.random((9, 8)).astype(np.float32),
                (1.5, 1.5),
                "PA",
                "DX",
                truth=truth,
            ),
            path,
        )
        rows.append(
            {
                "path": str(path),
                "patient_id": f"V{n * 5 // 7}",
                "study_id": f"S.{n}",
                "age_years": 40 + n,
                "report": f"Film {n}: größer." if n != 3 else np.nan,
                "split": "train",
                "Pneumothorax": (1, 0, -1, np.nan)[n % 4],
            }
        )
    jpeg = tmp_path / "study.6" / "film.jpg"
    Image.fromarray(np.full((9, 8), 77, np.uint8)).save(jpeg)
    rows[6]["path"] = str(jpeg)
    return pd.DataFrame(rows)


def test_webdataset_reads_back_every_row(table, tmp_path):
    webdataset = pytest.importorskip(
        "webdataset", reason="webdataset, the independent reader, isn't installed"
    )
    paths = write_shards(table, tmp_path / "out", per_shard=3)
    assert [p.name for p in paths] == [
        "shard-000000.tar",
        "shard-000001.tar",
        "shard-000002.tar",
    ]
    samples = list(
        webdataset.WebDataset(
            [str(p) for p in paths], shardshuffle=False, nodesplitter=None
        )
    )
    assert [s["__key__"] for s in samples] == sample_keys(table)
    for sample, row in zip(samples, table.to_dict("records"), strict=True):
        values = json.loads(sample["json"])
        assert all(
            values[c] == row[c]
            for c in ("patient_id", "study_id", "age_years", "split")
        )
        assert values["Pneumothorax"] == (
            None if pd.isna(row["Pneumothorax"]) else row["Pneumothorax"]
        )
        assert sample.get("txt", b"").decode() == (
            "" if pd.isna(row["report"]) else row["report"]
        )
        if row["path"].endswith(".png"):
            assert sample["png"] == Path(row["path"]).read_bytes()
        (tmp_path / "again.png").write_bytes(sample["png"])
        assert np.array_equal(
            read(tmp_path / "again.png").pixels, read(row["path"]).pixels
        )
        assert ("truth.png" in sample) == bool(read(row["path"]).truth)
        if "truth.png" in sample:
            (tmp_path / "truth.png").write_bytes(sample["truth.png"])
            masks = read_truth(tmp_path / "truth.png")
            assert np.array_equal(
                masks["Pneumothorax"], read(row["path"]).truth["Pneumothorax"]
            )


def test_the_stream_holds_every_patient_with_pixels_report_and_values(table, tmp_path):
    rows = list(read_shards(write_shards(table, tmp_path / "out", per_shard=2)))
    back = pd.DataFrame(rows)
    assert back["patient_id"].tolist() == table["patient_id"].tolist()
    assert back["report"].fillna("").tolist() == table["report"].fillna("").tolist()
    assert back["Pneumothorax"].equals(table["Pneumothorax"].astype(float))
    for row, path in zip(rows, table["path"], strict=True):
        assert row["pixels"].dtype == np.uint8
        assert np.array_equal(row["pixels"], np.round(read(path).pixels * 255))


def test_keys_are_unique_and_without_dots(table):
    keys = sample_keys(table)
    assert len(set(keys)) == len(table)
    assert not any("." in k or "/" in k for k in keys)
    assert sample_keys(table.iloc[1:3]) == [
        "film",
        "film_2",
    ]  # a lone name stays as it is
    same = pd.concat([table, table])[["path", "patient_id"]]
    assert len(set(sample_keys(same))) == 14


def test_the_same_table_gives_the_same_bytes_and_the_list_has_their_sums(
    table, tmp_path
):
    one, two = (
        write_shards(table, tmp_path / name, per_shard=4) for name in ("one", "two")
    )
    assert [p.read_bytes() for p in one] == [p.read_bytes() for p in two]
    listed = json.loads((tmp_path / "one" / "shards.json").read_text())
    assert [s["sha256"] for s in listed] == [
        sha256(p.read_bytes()).hexdigest() for p in one
    ]
    assert [s["rows"] for s in listed] == [4, 3]
    assert {p.name for p in (tmp_path / "one").iterdir()} == {p.name for p in one} | {
        "shards.json"
    }
    with tarfile.open(one[0]) as tar:
        assert {(m.mtime, m.uid, m.uname) for m in tar} == {(0, 0, "")}


def test_only_the_columns_asked_for_go_in(table, tmp_path):
    row = next(read_shards(write_shards(table, tmp_path / "out", columns=["split"])))
    assert set(row) == {"key", "position", "pixels", "report", "patient_id", "split"}


def test_a_stream_goes_on_where_it_stopped(table, tmp_path):
    paths = write_shards(table, tmp_path / "out", per_shard=3)
    keys = [row["key"] for row in read_shards(paths)]
    for n, row in enumerate(read_shards(paths)):
        assert [r["key"] for r in read_shards(paths, after=row["position"])] == keys[
            n + 1 :
        ]
    with pytest.raises(ValueError, match="shard-9.tar"):
        next(read_shards(paths, after=("shard-9.tar", 0)))


def test_wherever_a_shard_is_cut_the_loss_is_reported(table, tmp_path):
    paths = write_shards(table, tmp_path / "out", per_shard=4)
    whole, keys = paths[0].read_bytes(), sample_keys(table)
    end = len(whole.rstrip(b"\0"))
    for cut in [
        0,
        1,
        *range(256, end + 512, 256),
    ]:  # inside headers, inside data, and between two members
        paths[0].write_bytes(whole[:cut])
        bad = []
        back = [row["key"] for row in read_shards(paths, on_bad=bad.append)]
        first = back[: len(back) - 3]
        assert first == keys[: len(first)]
        assert back[len(first) :] == keys[4:]  # the next shard is whole
        assert bad, cut
        assert bad[0]["position"] == ("shard-000000.tar", len(first))


def test_a_damaged_sample_is_skipped_and_named(table, tmp_path):
    paths, keys = write_shards(table, tmp_path / "out"), sample_keys(table)
    whole = paths[0].read_bytes()
    with tarfile.open(paths[0]) as tar:
        member = tar.getmember(f"{keys[2]}.png")
    for place in range(
        0, member.size - 12, 3
    ):  # one bit anywhere before the end mark (12 bytes, no content)
        data = bytearray(whole)
        data[member.offset_data + place] ^= 1
        paths[0].write_bytes(data)
        bad = []
        assert [row["key"] for row in read_shards(paths, on_bad=bad.append)] == keys[
            :2
        ] + keys[3:], place
        assert [(b["key"], b["position"]) for b in bad] == [
            (keys[2], ("shard-000000.tar", 2))
        ]
    with pytest.raises(ReadError, match=keys[2]):
        list(read_shards(paths))


def test_a_broken_header_in_the_middle_is_not_taken_for_the_end(table, tmp_path):
    paths = write_shards(table, tmp_path / "out")
    data = bytearray(paths[0].read_bytes())
    with tarfile.open(paths[0]) as tar:
        data[tar.getmembers()[9].offset + 150] ^= 1
    paths[0].write_bytes(data)
    bad = []
    back = [row["key"] for row in read_shards(paths, on_bad=bad.append)]
    assert back == sample_keys(table)[: len(back)]
    assert len(back) < 7
    assert "the rest is lost" in bad[-1]["error"]


def test_a_missing_shard_is_reported(table, tmp_path):
    paths = write_shards(table, tmp_path / "out", per_shard=4)
    paths[0].unlink()
    bad = []
    assert len(list(read_shards(paths, on_bad=bad.append))) == 3
    assert bad[0]["position"] == ("shard-000000.tar", 0)


def test_a_run_that_fails_leaves_no_half_shard_and_old_shards_are_not_mixed_in(
    table, tmp_path
):
    out = tmp_path / "out"
    broken = table.assign(
        path=[*table["path"][:5], str(tmp_path / "none.png"), table["path"][6]]
    )
    with pytest.raises(FileNotFoundError):
        write_shards(broken, out, per_shard=3)
    assert [p.name for p in out.iterdir()] == [
        "shard-000000.tar"
    ]  # no shards.json: not finished
    write_shards(table, out, per_shard=2)
    with pytest.raises(ValueError, match="without other shards"):
        write_shards(table, out, per_shard=5)


def picture(kind="PNG", value=9, **more):
    buffer = io.BytesIO()
    Image.fromarray(np.full((6, 4), value, np.uint8)).save(buffer, kind, **more)
    return buffer.getvalue()


def write_tar(path, members, links=()):
    with tarfile.open(path, "w") as tar:
        for name in links:
            link = tarfile.TarInfo(name)
            link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
            tar.addfile(link)
        for name, data in members:
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return path


JSON = b'{"patient_id": "p"}'
LAYOUTS = {
    "a dot and a slash": [
        ("./a.json", JSON),
        ("./a.png", picture()),
        ("./b.json", JSON),
        ("./b.png", picture()),
    ],
    "dots in names": [
        ("a.1.json", JSON),
        ("a.1.png", picture()),
        ("a.2.png", picture()),
        ("b.x.y.jpg", picture()),
    ],
    "dots in folders": [
        ("v1.0/a.json", JSON),
        ("v1.0/a.png", picture()),
        ("v1.1/a.png", picture()),
    ],
    "unsorted": [
        ("a.json", JSON),
        ("b.json", JSON),
        ("a.png", picture()),
        ("b.png", picture()),
    ],
    "a name above": [
        ("../../a.json", JSON),
        ("../../a.png", picture()),
        ("/abs/b.png", picture()),
    ],
    "capitals": [("A.JSON", JSON), ("A.PNG", picture()), ("b.JPG", picture("JPEG"))],
    "passed over": [
        ("__meta__.json", b"["),
        ("README", b"x"),
        ("a.json", JSON),
        (".x", b""),
        ("a.png", picture()),
    ],
    "every kind": [
        ("a.jpg", picture("JPEG")),
        ("b.jpeg", picture("JPEG")),
        ("c.png", picture()),
        ("d.txt", b"x"),
    ],
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_members_are_grouped_as_webdataset_groups_them(layout, tmp_path):
    webdataset = pytest.importorskip(
        "webdataset", reason="webdataset, the independent reader, isn't installed"
    )
    path = write_tar(tmp_path / "a.tar", LAYOUTS[layout], links=["a.png", "link.json"])
    theirs = list(
        webdataset.WebDataset([str(path)], shardshuffle=False, nodesplitter=None)
    )
    shown = [s for s in theirs if {"png", "jpg", "jpeg"} & set(s)]
    pictures = [s["__key__"] for s in shown]
    bad = []
    rows = list(read_shards([path], on_bad=bad.append))
    assert [row["key"] for row in rows] == pictures
    assert sorted([*pictures, *(b["key"] for b in bad)]) == sorted(
        s["__key__"] for s in theirs
    )
    for row, sample in zip(rows, shown, strict=True):
        assert ("patient_id" in row) == ("json" in sample)
    samples, skipped = index({"a.tar": path})
    assert [s["key"] for s in samples] == pictures
    assert [s["number"] for s in skipped] == [b["position"][1] for b in bad]
    assert {p.name for p in tmp_path.iterdir()} == {"a.tar"}


def test_two_members_of_one_suffix_are_damage(tmp_path):
    members = [("a.png", picture()), ("a.PNG", picture()), ("b.png", picture())]
    path, bad = write_tar(tmp_path / "a.tar", members), []
    assert [row["key"] for row in read_shards([path], on_bad=bad.append)] == ["b"]
    assert "each suffix once, got png, png" in bad[0]["error"]


@pytest.mark.parametrize("kind", ["turned", "deep", "colour"])
def test_a_picture_in_a_shard_is_the_one_that_read_shows(kind, tmp_path):
    rng = np.random.default_rng(0)
    turned = Image.Exif()
    turned[0x0112] = 6
    values = {
        "turned": rng.integers(0, 256, (8, 5)),
        "deep": rng.integers(0, 65536, (8, 5)),
        "colour": rng.integers(0, 256, (8, 5, 3)),
    }[kind]
    image = Image.fromarray(values.astype(np.uint16 if kind == "deep" else np.uint8))
    for suffix in ("png",) if kind == "deep" else ("png", "jpg"):
        alone = tmp_path / f"a.{suffix}"
        image.save(alone, exif=turned if kind == "turned" else Image.Exif())
        shard = write_tar(tmp_path / "a.tar", [(alone.name, alone.read_bytes())])
        row = next(read_shards([shard]))
        assert row["pixels"].shape == ((5, 8) if kind == "turned" else (8, 5))
        assert np.array_equal(row["pixels"], np.round(read(alone).pixels * 255))


NOT_A_ROW = {
    "list": b"[]",
    "number": b"5",
    "null": b"null",
    "text": b'"x"',
    "deep": b"[" * 100_000,
    "cut": b"{",
    "long number": b'{"n": ' + b"9" * 5000 + b"}",
    "bytes": b"\xff\xfe",
}


@pytest.mark.parametrize("kind", NOT_A_ROW)
def test_a_sample_whose_json_is_no_object_is_skipped_with_its_row(kind, tmp_path):
    members = [
        (f"{k}.{s}", d) for k in "amz" for s, d in (("json", JSON), ("png", picture()))
    ]
    members[2] = ("m.json", NOT_A_ROW[kind])
    path, bad = write_tar(tmp_path / "a.tar", members), []
    assert [row["key"] for row in read_shards([path], on_bad=bad.append)] == ["a", "z"]
    assert [(b["key"], b["position"]) for b in bad] == [("m", ("a.tar", 1))]
    samples, skipped = index({"a.tar": path})
    assert [s["key"] for s in samples] == ["a", "z"]
    assert [(s["key"], s["number"]) for s in skipped] == [("m", 1)]


def test_an_error_never_quotes_a_report(tmp_path):
    members = [("a.txt", b"Jane Doe \xff"), ("a.png", picture())]
    bad = []
    list(read_shards([write_tar(tmp_path / "a.tar", members)], on_bad=bad.append))
    assert "can't decode byte 0xff" in bad[0]["error"]
    assert "Jane" not in bad[0]["error"]


@pytest.mark.parametrize(
    "listed",
    ["[{", "{}x", '[{"name": "../b.tar", "rows": 1}]', "[5]", '[{"name": "a"}]'],
)
def test_a_list_of_shards_that_is_damaged_says_so(listed, tmp_path):
    write_tar(tmp_path / "a.tar", [("a.png", picture())])
    (tmp_path / "shards.json").write_text(listed)
    with pytest.raises(
        ValueError, match="expected a list of name, rows and sha256 in .*shards.json"
    ):
        shard_paths(tmp_path)


def test_a_byte_order_mark_is_no_letter_of_a_report(tmp_path):
    report = "\ufeffNormal.".encode()
    members = [("a.txt", report), ("a.json", JSON), ("a.png", picture())]
    path = write_tar(tmp_path / "s.tar", members)
    assert [row["report"] for row in read_shards(path)] == ["Normal."]
