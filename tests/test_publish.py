"""What goes out: shards, manifest and card are made from the run, and fit together."""

import hashlib
import json
import re
import tarfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from tables import squares_table

import radwb as rw
from radwb.curate.card import check_card
from radwb.data.table import findings_of

ABOUT = {"title": "Squares", "licence": "CC0-1.0", "source": "drawn by a test"}


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """Films with reports; patients' numbers begin with zeros."""
    films = squares_table(tmp_path_factory.mktemp("films"), n=40)
    names = [f"{n:04d}" for n in range(len(films))]
    return films.assign(
        patient_id=names,
        sex=np.resize(["F", "M"], len(films)),
        site="A",
        age_years=np.where(films.index % 7 == 0, np.nan, 30.5 + films.index),
        source=films["path"],
    )


@pytest.fixture(scope="module")
def whole(table, tmp_path_factory):
    """Everything given: flow and audit."""
    folder = tmp_path_factory.mktemp("whole") / "out"
    flow = rw.curate.Flow("drawn films", pd.concat([table, table.head(3)]))
    flow.keep("are drawn once", table, why={"twice": 3})
    audit = rw.curate.audit(table, pictures=False)
    rw.curate.publish(
        table, folder, **ABOUT, flow=flow, audit=audit, seed=3, per_shard=16
    )
    return folder


@pytest.fixture
def copy(whole, tmp_path):
    """One that a test may spoil."""
    for file in whole.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    return tmp_path


def change(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def test_what_is_read_back_is_the_table(table, whole):
    back = rw.curate.verify(whole)
    columns = ["patient_id", "sex", "site", "age_years", "split", *findings_of(table)]
    pd.testing.assert_frame_equal(
        back[columns], table[columns], check_dtype=False, check_exact=True
    )


def test_the_shards_hold_the_films_and_reports(table, whole):
    samples = list(rw.data.shards.read_shards(sorted(whole.glob("shard-*.tar"))))
    assert [s["report"] for s in samples] == table["report"].tolist()
    for sample, path in zip(samples, table["path"], strict=True):
        film = np.round(rw.data.read(path).pixels * 255)
        np.testing.assert_array_equal(sample["pixels"], film)


def test_the_trainer_reads_the_same_rows(table, whole, tmp_path):
    small = {"size": 32, "batch": 8, "epochs": 1}
    run = rw.pretrain.fit(shards=whole, out=tmp_path / "run", **small)
    assert np.isfinite(run.log["loss"]).all()
    from radwb.pretrain.index import digest, shard_paths
    from radwb.pretrain.stream import index, indexed

    paths = shard_paths(whole)
    source = indexed(*index(paths)[:1], paths, [], digest(paths))
    for column in ("patient_id", "split", "report", "Lung Lesion"):
        assert source.rows[column].tolist() == table[column].tolist()


def test_checksums_are_those_of_the_files(whole):
    manifest = json.loads((whole / "manifest.json").read_text())
    listed = {file["name"]: file["sha256"] for file in manifest["files"]}
    assert {n for n in listed if n.endswith(".tar")} == {
        path.name for path in whole.glob("*.tar")
    }
    for name, digest in listed.items():
        content = (whole / name).read_bytes()
        assert hashlib.sha256(content).hexdigest() == digest


def test_two_runs_give_the_same_bytes(table, tmp_path):
    for name in "ab":
        rw.curate.publish(table, tmp_path / name, **ABOUT)
    files = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert "card.html" in files
    for name in files:
        first, second = (tmp_path / n / name for n in "ab")
        assert first.read_bytes() == second.read_bytes(), name


def test_nothing_leads_back_to_the_originals(table, whole):
    folder = str(Path(table["path"][0]).parent)
    assert not rw.curate.find_values(whole, [folder])
    with tarfile.open(whole / "shard-000000.tar") as tar:
        name = next(n for n in tar.getnames() if n.endswith("json"))
        row = json.load(tar.extractfile(name))
    assert not {"source", "path"} & set(row)


@pytest.fixture
def named(table, tmp_path):
    """Films whose names, texts and masks' texts name a patient, one of them damaged."""
    folder = tmp_path / "named"
    folder.mkdir()
    paths = []
    for n, path in enumerate(table["path"]):
        text = PngInfo()
        text.add_text("PatientName", "DOE^JOHN")
        facts = {"spacing_mm": [0.5, 0.5], "view": "DOE^JOHN", "modality": "DOE^JOHN"}
        text.add_text("radwb", json.dumps(facts))
        paths.append(folder / f"Doe_John_{n}.png")
        Image.open(path).save(paths[-1], pnginfo=text)
        text = PngInfo()
        text.add_text("PatientName", "DOE^JOHN")
        text.add_text("radwb", json.dumps({"findings": ["Lung Lesion"]}))
        mask = Image.fromarray(np.eye(32, dtype=np.uint8))
        mask.save(paths[-1].with_suffix(".truth.png"), pnginfo=text)
    return table.assign(path=[str(path) for path in paths])


def test_no_name_or_text_of_a_file_goes_out(table, named, tmp_path):
    whole = Path(named["path"][7]).read_bytes()
    Path(named["path"][7]).write_bytes(whole[:50])
    audit = rw.curate.audit(named)
    assert "Doe_John_7" in str(audit)
    Path(named["path"][7]).write_bytes(whole)
    rw.curate.publish(named, tmp_path / "out", **ABOUT, audit=audit)
    assert not rw.curate.find_values(tmp_path / "out", ["Doe_John", "DOE^JOHN"])
    samples = rw.data.shards.read_shards(sorted(tmp_path.glob("out/*.tar")))
    for sample, path in zip(samples, table["path"], strict=True):
        film = np.round(rw.data.read(path).pixels * 255)
        np.testing.assert_array_equal(sample["pixels"], film)
    with tarfile.open(tmp_path / "out" / "shard-000000.tar") as tar:
        tar.extract("000003.truth.png", tmp_path, filter="data")
        tar.extract("000003.png", tmp_path, filter="data")
    scan = rw.data.read(tmp_path / "000003.png")
    assert (scan.spacing_mm, scan.truth["Lung Lesion"].sum()) == ((0.5, 0.5), 32)


# the cards


def test_mlcroissant_validates_the_card_and_reads_the_table(table, whole):
    mlcroissant = pytest.importorskip("mlcroissant")
    card = mlcroissant.Dataset(whole / "croissant.json")
    assert not card.metadata.issues.errors
    rows = list(card.records("table"))
    names = [row["table/patient_id"].decode() for row in rows]
    assert names == table["patient_id"].tolist()  # 0000, 0001, ...
    ages = np.array([row["table/age_years"] for row in rows], dtype=float)
    np.testing.assert_array_equal(ages, table["age_years"])
    lesions = [row["table/Lung_Lesion"] for row in rows]
    assert lesions == table["Lung Lesion"].tolist()
    for file in card.metadata.file_objects:
        content = (whole / file.content_url).read_bytes()
        assert hashlib.sha256(content).hexdigest() == file.sha256


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"@type": "sc:Dataset"', '"@type": "sc:Person"', "expected a valid card"),
        ('"name": "Squares"', '"name": "Circles"', "got others: the title"),
        ('"@id": "table.json"', '"@id": "rows.json"', "expected a valid card"),
        ('"sha256": "', '"sha256": "0', "expected title and files of the"),
        ("{", "", "expected a valid card"),
    ],
)
def test_a_broken_card_is_refused(copy, old, new, message):
    pytest.importorskip("mlcroissant")
    change(copy / "croissant.json", old, new)
    forge(copy, "croissant.json")
    with pytest.raises(ValueError, match=message):
        rw.curate.verify(copy)


def test_without_mlcroissant_the_page_is_there_and_a_warning(
    table, tmp_path, monkeypatch
):
    monkeypatch.setattr("radwb.curate.card.find_spec", lambda name: None)
    with pytest.warns(UserWarning, match=r"pip install 'radwb\[curate\]'"):
        rw.curate.publish(table, tmp_path / "out", **ABOUT)
    assert (tmp_path / "out" / "card.html").is_file()
    assert not (tmp_path / "out" / "croissant.json").exists()


def test_the_page_says_what_the_run_was(table, whole):
    page = (whole / "card.html").read_text()
    words = re.sub("<[^>]+>", " ", page.split("<main>")[1])
    for text in (
        "CC0-1.0",
        "drawn by a test",
        "seed 3",
        "3 twice",
        f"n = {len(table)}",
        "No de-identification is recorded.",
        "Not for clinical use.",
    ):
        assert text in words
    train = table[table["split"] == "train"]
    with_it = train.loc[train["Lung Lesion"] == 1, "patient_id"].nunique()
    assert re.search(rf"Lung Lesion\s+{with_it}\s", words)
    for row in json.loads((whole / "manifest.json").read_text())["audit"]["rows"]:
        assert row["check"] in words


def test_the_page_needs_no_network_and_no_script(whole):
    page = (whole / "card.html").read_text()
    assert not re.search(r"https?:|src=|href=|@import|<script|url\(", page)


def test_words_of_others_stay_words(table, tmp_path):
    hostile = "<img src=x onerror=alert(1)>"
    about = {name: hostile for name in ABOUT}
    flow = rw.curate.Flow(hostile, table)
    table = table.assign(site=hostile)
    rw.curate.publish(table, tmp_path / "out", **about, flow=flow)
    page = (tmp_path / "out" / "card.html").read_text()
    assert "<img" not in page
    assert "&lt;img" in page


def test_de_identified_films_are_counted(table, tmp_path):
    keep = ("dates", "patient", "pixels")
    shared = rw.curate.deidentify(
        table.drop(columns="source"), tmp_path / "s", keep=keep
    )
    manifest = rw.curate.publish(shared, tmp_path / "out", **ABOUT, deidentified=shared)
    assert manifest["deidentified"]["written"] == len(table)
    assert "No de-identification is recorded." not in manifest["limits"]
    assert not rw.curate.find_values(tmp_path / "out", [str(tmp_path)])
    with pytest.raises(ValueError, match="expected films that rw.curate.deidentify"):
        rw.curate.publish(table, tmp_path / "b", **ABOUT, deidentified=shared)


@pytest.mark.parametrize("column", ["patient_id", "site", "report", "age_years"])
def test_rows_that_are_not_the_copies_are_refused(table, tmp_path, column):
    keep = ("dates", "patient", "pixels")
    shared = rw.curate.deidentify(table, tmp_path / "s", keep=keep)
    mixed = shared.copy()
    mixed.loc[4, column] = 42.0 if column == "age_years" else "DOE^JOHN"
    message = f"expected {column} as .* another in 1 of 50 rows, such as row 4"
    with pytest.raises(ValueError, match=message):
        rw.curate.publish(mixed, tmp_path / "o", **ABOUT, deidentified=shared)
    rw.curate.publish(shared[::-1], tmp_path / "o", **ABOUT, deidentified=shared)


def test_a_column_that_was_not_cleaned_is_refused(table, tmp_path):
    bare = table[["path", "patient_id", "split"]]
    shared = rw.curate.deidentify(bare, tmp_path / "s", keep=("pixels",))
    late = shared.assign(study_id="1.2.840.1")
    with pytest.raises(ValueError, match="expected study_id as rw.curate.deidentify"):
        rw.curate.publish(late, tmp_path / "o", **ABOUT, deidentified=shared)


# what doesn't fit together


def spoil_a_picture(folder):
    path = folder / "shard-000001.tar"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 255
    path.write_bytes(data)


def spoil_a_row(folder):
    rows = json.loads((folder / "table.json").read_text())
    rows[5]["sex"] = "X"
    (folder / "table.json").write_text(json.dumps(rows))


def swap_a_part(folder):
    """Counts of another table than table.json."""
    change(
        folder / "manifest.json", '"films",\n   "",\n   32', '"films",\n   "",\n   33'
    )


def forge(folder, name):
    manifest = json.loads((folder / "manifest.json").read_text())
    for file in [*manifest["files"], *manifest["cards"]]:
        if file["name"] == name:
            content = (folder / name).read_bytes()
            file["sha256"] = hashlib.sha256(content).hexdigest()
    (folder / "manifest.json").write_text(json.dumps(manifest))


def test_a_changed_byte_is_found(copy):
    spoil_a_picture(copy)
    with pytest.raises(ValueError, match=r"shard-000001.tar: expected the SHA-256"):
        rw.curate.verify(copy)


def test_a_row_that_is_not_the_shards_is_found(copy):
    spoil_a_row(copy)
    with pytest.raises(ValueError, match=r"table.json: expected the SHA-256"):
        rw.curate.verify(copy)
    forge(copy, "table.json")
    with pytest.raises(
        ValueError, match=r"row 5 of table.json has it, got another sex"
    ):
        rw.curate.verify(copy)


def test_other_counts_are_found(copy):
    swap_a_part(copy)
    with pytest.raises(ValueError, match="expected the counts of table.json"):
        rw.curate.verify(copy)


def test_a_shard_too_many_or_too_few_is_found(copy):
    (copy / "shard-000009.tar").write_bytes(b"")
    with pytest.raises(ValueError, match="expected shard-000009.tar among the files"):
        rw.curate.verify(copy)
    (copy / "shard-000009.tar").unlink()
    (copy / "shard-000000.tar").unlink()
    with pytest.raises(ValueError, match="expected shard-000000.tar in"):
        rw.curate.verify(copy)


@pytest.mark.parametrize("name", ["card.html", "croissant.json"])
def test_a_card_that_says_something_else_is_found(copy, name):
    change(copy / name, "Not for clinical use", "Cleared for clinical use")
    with pytest.raises(ValueError, match=f"{name}: expected the SHA-256"):
        rw.curate.verify(copy)


@pytest.mark.parametrize("name", ["table.json", "shards.json", "card.html"])
def test_a_manifest_that_leaves_a_file_out_is_refused(copy, name):
    manifest = json.loads((copy / "manifest.json").read_text())
    for key in ("files", "cards"):
        manifest[key] = [file for file in manifest[key] if file["name"] != name]
    (copy / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ValueError, match=f"expected {name} among the files"):
        rw.curate.verify(copy)


@pytest.mark.parametrize("key", ["title", "split", "counts", "files", "cards"])
def test_a_manifest_that_lacks_something_is_refused(copy, key):
    manifest = json.loads((copy / "manifest.json").read_text())
    del manifest[key]
    (copy / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ValueError, match="expected manifest.json as"):
        rw.curate.verify(copy)


@pytest.mark.parametrize("text", ["5", "[5]", "{}"])
def test_a_table_of_something_else_is_refused(copy, text):
    (copy / "table.json").write_text(text)
    forge(copy, "table.json")
    with pytest.raises(ValueError, match="table.json: expected a list of rows"):
        rw.curate.verify(copy)


def test_a_folder_without_a_manifest_is_said(tmp_path):
    with pytest.raises(ValueError, match="expected manifest.json as"):
        rw.curate.verify(tmp_path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"licence": ""}, "expected a licence in words"),
        ({"columns": ["lab"]}, "expected the columns"),
        ({"by": "site"}, "expected each site in one part"),
        ({"by": "time"}, r'Try columns=\["study_date"\]'),
        ({"columns": ["source", "path"]}, r"got \['source', 'path'\]: a sample has"),
        ({"per_shard": 0}, "expected 1 or more rows a shard, got per_shard=0"),
        ({"per_shard": -3}, "expected 1 or more rows a shard"),
    ],
)
def test_what_is_missing_is_said_before_a_shard_is_written(
    table, tmp_path, options, message
):
    with pytest.raises(ValueError, match=message):
        rw.curate.publish(table, tmp_path / "out", **(ABOUT | options))
    assert not list(tmp_path.iterdir())


def test_a_run_that_fails_leaves_nothing_and_can_be_tried_again(
    table, tmp_path, monkeypatch
):
    def broken(name):
        raise RuntimeError("of the card")

    (tmp_path / "out").mkdir()
    with monkeypatch.context() as patch:
        patch.setattr("radwb.curate.card.find_spec", broken)
        with pytest.raises(RuntimeError, match="of the card"):
            rw.curate.publish(table, tmp_path / "out", **ABOUT)
    assert [path.name for path in tmp_path.rglob("*")] == ["out"]
    rw.curate.publish(table, tmp_path / "out", **ABOUT)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_days_go_out_with_a_split_by_time(table, tmp_path):
    first_day = pd.Timestamp("2020-01-01")
    days = first_day + pd.to_timedelta(np.arange(len(table)), "D")
    order = table["split"].map({"train": 0, "val": 1, "test": 2})
    table = table.iloc[np.argsort(order, kind="stable")].assign(study_date=days)
    rw.curate.publish(
        table, tmp_path / "out", **ABOUT, by="time", columns=["study_date"]
    )
    assert len(rw.curate.verify(tmp_path / "out")) == len(table)


def test_a_column_named_twice_goes_out_once(table, tmp_path):
    manifest = rw.curate.publish(table, tmp_path / "out", **ABOUT, columns=["sex"] * 2)
    assert manifest["columns"].count("sex") == 1


def test_a_flow_without_patients_has_a_page(table, tmp_path):
    flow = rw.curate.Flow("films", table.drop(columns="patient_id"))
    rw.curate.publish(table, tmp_path / "out", **ABOUT, flow=flow)
    assert "n = 50" in (tmp_path / "out" / "card.html").read_text()


def test_a_patient_in_two_parts_never_goes_out(table, tmp_path):
    wrong = table.assign(patient_id="0001")
    with pytest.raises(ValueError, match="expected each patient in one part"):
        rw.curate.publish(wrong, tmp_path / "out", **ABOUT)


def test_a_flow_of_other_films_is_refused(table, tmp_path):
    flow = rw.curate.Flow("films", table.head(5))
    with pytest.raises(ValueError, match=f"expected the flow to end with {len(table)}"):
        rw.curate.publish(table, tmp_path / "out", **ABOUT, flow=flow)


def test_a_folder_in_use_is_left_alone(table, whole):
    with pytest.raises(ValueError, match="expected an empty folder"):
        rw.curate.publish(table, whole, **ABOUT)


def test_a_card_of_nothing_is_no_fault(tmp_path):
    check_card(tmp_path, {"files": []})


# the flow


def test_every_film_that_is_lost_has_a_reason():
    table = pd.DataFrame({"patient_id": ["a", "a", "b", None]})
    flow = rw.curate.Flow("films", table)
    flow.keep("are named", table.head(3), why="nobody's")
    flow.keep("are not b's", table.head(2), why={"b's": 1, "nobody's": 0})
    assert flow.steps["lost"].tolist() == [0, 1, 1]
    assert flow.steps["patients"].tolist() == [2, 2, 1]
    assert flow.steps["lost_patients"].tolist() == [0, 0, 1]
    assert flow.steps["why"].tolist() == [{}, {"nobody's": 1}, {"b's": 1}]
    assert flow.steps["films"].iloc[0] - flow.steps["lost"].sum() == 2
    assert "2 are not b's (1 lost: 1 b's)" in str(flow)


@pytest.mark.parametrize("why", [{"cut": 2}, {"cut": 1, "grey": 1}])
def test_reasons_that_do_not_add_up_are_refused(why):
    flow = rw.curate.Flow("files", pd.DataFrame({"path": list("abc")}))
    with pytest.raises(ValueError, match="expected reasons for 1 films"):
        flow.keep("fit", pd.DataFrame({"path": list("ab")}), why=why)
    with pytest.raises(ValueError, match="expected reasons for -1 films"):
        flow.keep("fit", pd.DataFrame({"path": list("abcd")}))
    assert len(flow.steps) == 1


def test_files_without_patients_are_counted_all_the_same():
    flow = rw.curate.Flow("files", pd.DataFrame({"path": list("abc")}))
    named = pd.DataFrame({"path": list("ab"), "patient_id": ["1", "2"]})
    flow.keep("are films", named, why="no film")
    assert flow.steps["patients"].tolist()[1] == 2
    assert flow.steps["lost_patients"].isna().all()


def test_the_chart_has_a_box_a_step_a_loss_and_a_part(table):
    flow = rw.curate.Flow("drawn films", pd.concat([table, table.head(3)]))
    flow.keep("are drawn <b>once</b>", table, why={"twice": 3})
    figure = rw.show.flow(flow.steps, parts=flow.parts, title="Three are lost")
    texts = [note.text for note in figure.layout.annotations if note.text]
    boxes = [shape for shape in figure.layout.shapes if shape.type == "rect"]
    assert len(boxes) == len(texts) == 2 + 1 + 3
    assert any(text == "3 twice" for text in texts)
    assert any("&lt;b&gt;once" in text for text in texts)
    assert figure.layout.yaxis.range[0] > max(box.y1 for box in boxes)
