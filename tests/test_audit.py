"""The audit finds what was planted, on virtual and real films, and nothing else."""

from importlib import import_module

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from tables import films_table, noise_films, patients_table

import radwb as rw
from radwb.curate.audit import read_pictures
from radwb.curate.audit.copies import LIKE, Lying
from radwb.curate.audit.hashes import bits_apart, hash_pairs, image_hashes
from radwb.curate.audit.labels import against_truth, label_noise
from radwb.curate.audit.leaks import copied, faked, with_parts
from radwb.curate.audit.passages import common_passages
from radwb.curate.audit.shortcuts import shortcuts, shown_within
from radwb.curate.audit.texts import named

CLEAN = 20  # seeds
EDEMA = "Edema"


def hashes(n, near=50, seed=0):
    rng = np.random.default_rng(seed)
    values = rng.integers(0, 1 << 63, n, dtype=np.uint64)
    for copy in range(near):
        for bit in rng.choice(64, copy % 10, replace=False):
            values[copy] ^= np.uint64(1) << np.uint64(bit)
        values[n - 1 - copy] = values[copy]
        for bit in rng.choice(64, copy % 10, replace=False):
            values[n - 1 - copy] ^= np.uint64(1) << np.uint64(bit)
    return values


@pytest.mark.parametrize("radius", [0, 1, 3, 6, 9, 16])
def test_the_close_hashes_are_those_of_brute_force(radius):
    values = hashes(1500)
    for copy in range(8):
        # as many bits as may differ, and as far from each other as can be
        bits = (copy + np.arange(radius) * 64 // max(radius, 1)) % 64
        values[800 + copy] = values[700 + copy]
        for bit in bits.astype(np.uint64):
            values[800 + copy] ^= np.uint64(1) << bit
    apart = bits_apart(values[:, None], values[None])
    first, second = np.nonzero(np.triu(apart <= radius, 1))
    pairs = hash_pairs(values, radius)
    assert pairs["first"].tolist() == first.tolist()
    assert pairs["second"].tolist() == second.tolist()
    assert pairs["bits"].tolist() == apart[first, second].tolist()


@pytest.mark.parametrize("n", [0, 1])
def test_no_pair_of_less_than_two(n):
    assert hash_pairs(np.zeros(n, np.uint64), 3).empty


def test_many_equal_hashes_are_compared_in_parts(monkeypatch):
    # the function `audit` hides the package of its name
    module = import_module("radwb.curate.audit.hashes")
    monkeypatch.setattr(module, "CHUNK", 50)
    assert len(hash_pairs(np.zeros(40, np.uint64), 2)) == 40 * 39 / 2


def smooth_films(n, side, seed=0):
    rng = np.random.default_rng(seed)
    coarse = rng.random((n, 9, 9)).astype(np.float32)
    films = [Image.fromarray(one).resize((side, side), Image.BICUBIC) for one in coarse]
    films = np.array([np.asarray(film) for film in films])
    return np.round(films.clip(0, 1) * 255).astype(np.uint8)


@pytest.mark.parametrize("side", [33, 160, 700])
def test_the_hash_is_imagehash_s(side):
    imagehash = pytest.importorskip("imagehash")
    films = smooth_films(40, side)
    theirs = [int(str(imagehash.phash(Image.fromarray(film))), 16) for film in films]
    apart = bits_apart(image_hashes(films), np.array(theirs, dtype=np.uint64))
    assert apart.max() <= 2
    assert (apart == 0).mean() > 0.9


def test_the_hash_by_hand():
    """The definition, in double precision and without any of our shortcuts."""
    from scipy.fft import dct

    film = smooth_films(1, 32)[0]  # 32 px already: nothing is resized
    low = dct(dct(film.astype(float), axis=0), axis=1)[:8, :8]
    bits = (low > np.median(low)).ravel()
    number = int("".join(str(int(bit)) for bit in bits), 2)
    assert int(image_hashes(film[None])[0]) == number


def planted(seed, n=120, share=0.08):
    dials = rw.simulate.Dials(near_duplicates=share, duplicates=share)
    return rw.simulate.cohort(n=n, seed=seed, dials=dials)


def origin(table):
    """The patient that a row's film is really of."""
    names = table["patient_id"].astype(object)
    return names.str.replace(r"-[nd]$", "", regex=True).to_numpy()


def test_copies_under_another_patient_are_found_and_nothing_else():
    copies = hits = pairs = right = 0
    for seed in range(4):
        table = planted(seed)
        found = rw.curate.near_duplicates(table)
        real = origin(table)
        patient = table["patient_id"].to_numpy(dtype=object)
        first, second = found["first"].to_numpy(), found["second"].to_numpy()
        good = (real[first] == real[second]) & (patient[first] != patient[second])
        pairs += len(found)
        right += good.sum()
        tied = set(first[good]) | set(second[good])
        rows = np.flatnonzero(table["copy_of"] != "")
        copies += len(rows)
        hits += sum(row in tied for row in rows)
    assert copies > 50
    assert hits >= 0.95 * copies
    assert right >= 0.9 * pairs


@pytest.mark.parametrize("seed", range(CLEAN))
def test_a_clean_cohort_has_no_leak_and_no_copy(seed):
    """Metadata may tell a finding in it: the sick are filmed in bed, by design."""
    table = rw.simulate.cohort(n=40, seed=500 + seed, size=64)
    audit = rw.curate.audit(table)
    assert audit.pairs.empty
    odd = audit.rows["severity"] != "note"
    assert set(audit.rows["check"][odd]) <= {"metadata tells the finding"}


def test_true_labels_of_a_few_patients_are_not_doubted():
    """A model of their reports is no judge: it doubted a sixth of the labels of 40."""
    table = rw.simulate.cohort(n=40, seed=500, size=64)
    audit = rw.curate.audit(table, pictures=False)
    assert "label noise" not in set(audit.rows["check"])
    examined = audit.examined.set_index("check")
    assert "no judge" in examined.loc["label noise", "note"]


def test_an_audit_says_what_it_did_not_look_for(monkeypatch):
    module = import_module("radwb.curate.audit")
    copies = import_module("radwb.curate.audit.copies")
    table = rw.simulate.cohort(n=40, seed=500, size=64)
    notes = rw.curate.audit(table).examined.set_index("check")["note"]
    assert notes["copies"] == ""
    assert notes["AUROC that a leak fakes"] == ""
    for part in (module, copies):
        monkeypatch.setattr(part, "MOST_FILMS", 30)
    monkeypatch.setattr(module, "MOST_REPORTS", 30)
    notes = rw.curate.audit(table).examined.set_index("check")["note"]
    assert "mirrored" in notes["copies"]
    assert "films" in notes["AUROC that a leak fakes"]
    assert "films nor features" in notes["films show the metadata"]
    assert "alone" in notes["reports"]
    assert "truth" in notes["label against the truth"]


def changes(film, rng):
    wide, high = film.size
    x, y = int(0.04 * wide), int(0.06 * high)
    marked = film.copy()
    marked.paste(255, (x, y, x + wide // 8, y + high // 10))
    yield "resized", film.resize((int(0.6 * wide), int(0.6 * high)))
    yield "darker", film.point(lambda v: int(255 * (v / 255) ** 1.6))
    yield "mirrored", film.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    yield "inverted", film.point(lambda v: 255 - v)
    yield "marked", marked
    yield "stretched", film.resize((int(1.08 * wide), high))
    yield "cropped", film.crop((x, y, wide - x, high - y // 2))


def test_a_changed_real_film_is_known_again(tmp_path):
    films = rw.data.real("kermany-16")[["path", "patient_id"]]
    rng = np.random.default_rng(0)
    rows, kinds = [], []
    for place in (0, 5, 9, 14):
        with Image.open(films["path"][place]) as film:
            for name, changed in changes(film.convert("L"), rng):
                path = tmp_path / f"{place}-{name}.png"
                changed.save(path)
                rows.append({"path": str(path), "patient_id": f"copy of {place}"})
                kinds.append((place, name))
    table = pd.concat([films, pd.DataFrame(rows)], ignore_index=True)
    found = rw.curate.near_duplicates(table)
    truth = [*range(len(films)), *(place for place, _ in kinds)]
    tied = zip(found["first"], found["second"], strict=True)
    assert all(truth[a] == truth[b] for a, b in tied)
    again = found[found["first"] < len(films)]["second"] - len(films)
    missed = {kinds[n] for n in set(range(len(kinds))) - set(again)}
    assert len(missed) <= 1, missed
    kind = {kinds[n]: k for n, k in zip(again, found["kind"], strict=False)}
    assert kind[0, "mirrored"] == "mirrored copy"
    assert kind[0, "inverted"] == "inverted copy"


def test_among_many_films_hashes_propose_the_copies(tmp_path, monkeypatch):
    module = import_module("radwb.curate.audit.copies")
    films = rw.data.real("kermany-16")[["path", "patient_id"]]
    rows = []
    for place in (0, 5, 9, 14):
        path = tmp_path / f"{place}.png"
        with Image.open(films["path"][place]) as film:
            film.convert("L").point(lambda v: int(255 * (v / 255) ** 1.3)).save(path)
        rows.append({"path": str(path), "patient_id": f"copy of {place}"})
    table = pd.concat([films, pd.DataFrame(rows)], ignore_index=True)
    monkeypatch.setattr(module, "MOST_FILMS", 5)
    monkeypatch.setattr(module, "MOST_PAIRS", 2)
    found = rw.curate.near_duplicates(table).sort_values("first")
    n = len(films)
    expected = [[0, n], [5, n + 1], [9, n + 2], [14, n + 3]]
    assert found[["first", "second"]].values.tolist() == expected
    assert set(found["kind"]) == {"near copy"}


def test_films_of_one_patient_are_no_copies_unless_the_pixels_are(tmp_path):
    table = rw.simulate.cohort(n=12, seed=0)[["path"]].assign(patient_id="one")
    assert rw.curate.near_duplicates(table).empty
    twice = pd.concat([table, table.head(1)], ignore_index=True)
    assert rw.curate.near_duplicates(twice)["kind"].tolist() == ["same pixels"]


def test_the_patient_published_twice_is_found():
    """cohen-97 and cohen-178, by the set's own notes; the audit isn't told."""
    try:
        table = rw.data.real("covid-text")
    except rw.data.FetchError as error:
        pytest.skip(str(error))
    found = rw.curate.near_duplicates(table)
    patients = table["patient_id"].to_numpy(dtype=object)
    pairs = {
        tuple(sorted((patients[row.first], patients[row.second])))
        for row in found.itertuples()
    }
    assert pairs == {("cohen-178", "cohen-97")}
    assert len(found) == 4


def leaking(n=90):
    """Training films, and test films that are their copies or strangers'."""
    table = rw.simulate.cohort(n=n, seed=7)
    table = rw.curate.one_patient_per_image(table.drop(columns="patient_id"))
    train = table.assign(split="train")
    names = "copy of " + table["patient_id"].astype(object)
    test = table.assign(split="test", patient_id=names)
    return pd.concat([train, test.head(n // 2)], ignore_index=True)


def test_a_leak_fakes_an_auroc_and_says_which_films():
    table = leaking()
    audit = rw.curate.audit(table)
    row = audit.rows[audit.rows["check"] == "AUROC that a leak fakes"].iloc[0]
    assert row["severity"] == "leak"
    assert row["low"] > 0.1
    assert row["n"] == 45
    assert audit.pairs["across"].sum() == 45
    first, second = audit.show(0)
    assert np.array_equal(first.pixels, second.pixels)
    leaks = {"study in two parts", "same pixels", "AUROC that a leak fakes"}
    assert set(audit.leaks["check"]) == leaks


def test_a_copy_leaks_between_two_parts_alone():
    pairs = pd.DataFrame({"first": [0, 0, 0, 0], "second": [1, 2, 3, 4]})
    pairs = pairs.assign(kind="near copy", likeness=0.9, bits=3)
    table = pd.DataFrame({"patient_id": list("abcda")})
    assert not with_parts(pairs, table)["across"].any()
    table["split"] = ["train", "train", "test", None, "test"]
    pairs = with_parts(pairs, table)
    assert pairs["across"].tolist() == [False, True, False, True]
    rows = pd.DataFrame(copied(pairs, table, 5))
    said = rows.set_index("severity")[["n", "patients"]]
    assert said.loc["leak"].values.tolist() == [[2, 2], [2, 1]]
    assert said.loc["look"].tolist() == [3, 3]


def test_no_auroc_is_faked_where_nothing_leaks():
    table = rw.simulate.cohort(n=60, seed=3)
    pictures = read_pictures(table)
    films = np.arange(len(table))
    pairs = with_parts(rw.curate.near_duplicates(table, pictures=pictures), table)
    assert faked(Lying.of(pictures, films), pairs, table, films) == []


def test_patients_studies_and_slices_in_two_parts_are_told():
    table = patients_table(20, {EDEMA: 0.5}, images=(2, 2))
    table["series_id"] = [f"series {n // 4}" for n in range(40)]
    table["split"] = np.resize(["train", "test"], 40)
    audit = rw.curate.audit(table, pictures=False)
    assert audit.leaks["about"].tolist() == ["patient_id", "series_id"]
    assert audit.leaks["n"].tolist() == [40, 40]
    first, second = audit.leaks.iloc[0][["first", "second"]]
    assert table["patient_id"][first] == table["patient_id"][second]
    assert table["split"][first] != table["split"][second]


def with_shortcut(patients=300, strength=0.9, seed=0):
    table = patients_table(patients, {EDEMA: 0.4, "Fracture": 0.4}, seed=seed)
    rng = np.random.default_rng(seed)
    swapped = rng.random(len(table)) > strength
    table["view"] = np.where((table[EDEMA] == 1) ^ swapped, "AP", "PA")
    table["site"] = rng.choice(["A", "B", "C"], len(table))
    return table


def test_metadata_that_tells_a_finding_is_told_and_no_other():
    from sklearn.metrics import roc_auc_score

    table = with_shortcut()
    rows, told = shortcuts(table)
    assert [(finding, column) for finding, column, _ in told] == [(EDEMA, "view")]
    alone = roc_auc_score(table[EDEMA], table["view"] == "AP")
    assert max(rows[0]["value"], 1 - rows[0]["value"]) == pytest.approx(
        max(alone, 1 - alone)
    )
    assert rows[0]["severity"] == "look"


def test_metadata_that_tells_nothing_is_passed_over():
    none = [shortcuts(with_shortcut(strength=0.5, seed=seed))[0] for seed in range(20)]
    assert none == [[]] * 20


def test_films_show_a_view_within_class():
    table = with_shortcut()
    rng = np.random.default_rng(0)
    films = np.arange(len(table))
    seen = rng.normal(size=(len(table), 6)).astype(np.float32)
    told = [(EDEMA, "view", table["view"].value_counts().idxmin())]
    (blind,) = shown_within(table, told, seen, films)
    assert blind["low"] < 0.5 < blind["high"] or blind["value"] < 0.5
    # films that show who it is, and no more
    patients = pd.factorize(table["patient_id"])[0]
    who = rng.normal(size=(patients.max() + 1, 400)).astype(np.float32)
    (known,) = shown_within(table, told, who[patients], films)
    assert known["value"] < 0.7  # 0.9 where the probe had seen the patient
    seen[:, 0] += 6 * (table["view"] == "AP")
    (row,) = shown_within(table, told, seen, films)
    assert row["low"] > 0.9
    assert f"with {EDEMA}" in row["sentence"]


def nih_tables():
    try:
        folder = rw.data.fetch("nih-tables")
    except rw.data.FetchError as error:
        pytest.skip(str(error))
    mined = pd.read_csv(folder / "Data_Entry_2017_v2020.csv.gz")
    experts = pd.read_csv(folder / "google2019_nih-chest-xray-labels.csv.gz")
    return mined, experts


def test_edema_by_the_view_alone_in_nih():
    mined, _ = nih_tables()
    table = pd.DataFrame(
        {
            "patient_id": mined["Patient ID"].astype(str),
            "view": mined["View Position"],
            EDEMA: mined["Finding Labels"].str.contains(EDEMA).astype(int),
        }
    )
    (row,), told = shortcuts(table)
    assert told == [(EDEMA, "view", "AP")]
    assert row["value"] == pytest.approx(0.745, abs=5e-4)


def test_mined_pneumothorax_against_the_adjudicated():
    _, experts = nih_tables()
    words = experts["Finding Labels"]
    table = pd.DataFrame(
        {
            "patient_id": experts["Patient ID"].astype(str),
            "Pneumothorax": words.str.contains("Pneumothorax").astype(int),
        }
    )
    truth = experts[["Pneumothorax"]] == "YES"
    (row,) = against_truth(table, truth.astype(int))
    assert row["value"] == pytest.approx(0.458, abs=5e-4)
    assert "recall 0.46" in row["sentence"]


def test_labels_against_the_truth_by_hand():
    table = patients_table(10, {EDEMA: 0.5}, images=(1, 1))
    table[EDEMA] = [1, 1, 1, 1, 0, 0, 0, 0, 1, np.nan]
    truth = pd.DataFrame({EDEMA: [1, 1, 1, 0, 1, 1, 0, 0, np.nan, 1]})
    (row,) = against_truth(table, truth)
    assert row["value"] == pytest.approx(3 / 4)
    assert "precision 0.75" in row["sentence"]
    assert "recall 0.60" in row["sentence"]
    assert (row["n"], row["of"], row["patients"]) == (3, 8, 3)
    assert (row["first"], row["second"]) == (3, 4)


def test_flipped_labels_are_found_by_the_reports():
    pytest.importorskip("cleanlab")
    dials = rw.simulate.Dials(label_noise=0.1)
    table = rw.simulate.cohort(n=300, seed=0, size=64, dials=dials)
    _, suspects = label_noise(table)
    flipped = {
        (row, finding)
        for row, names in enumerate(table["label_errors"])
        for finding in filter(None, names.split(", "))
    }
    suspected = set(zip(suspects["row"], suspects["finding"], strict=True))
    assert len(flipped & suspected) > 0.6 * len(suspected)
    assert len(flipped & suspected) > 0.6 * len(flipped)


def test_a_label_that_an_indication_names_is_told():
    table = patients_table(60, {"Pneumothorax": 0.5}, images=(1, 1))
    ill = table["Pneumothorax"] == 1
    table["report"] = np.where(
        ill, "INDICATION: Pneumothorax. FINDINGS: Air.", "INDICATION: Cough."
    )
    (row,) = named(table)
    assert row["value"] == 1
    assert row["n"] == ill.sum()
    table["report"] = np.where(
        ill, "INDICATION: Cough. FINDINGS: Pneumothorax.", "INDICATION: Cough."
    )
    assert named(table) == []


def test_identifiers_left_are_told_without_being_told():
    table = patients_table(8, {EDEMA: 0.5}, images=(1, 1))
    table["report"] = "FINDINGS: A 4.8 cm mass. IMPRESSION: 1. Mass. 2. Grade 3-4."
    audit = rw.curate.audit(table, pictures=False)
    assert not (audit.rows["check"] == "identifier left").any()
    table["report"] = "Patient: [name], MRN [removed]. FINDINGS: None."
    audit = rw.curate.audit(table, pictures=False)
    assert not (audit.rows["check"] == "identifier left").any()
    table.loc[3, "report"] = "FINDINGS: MRN AB-4711. Seen by Dr. Miller on 03/04/2019."
    audit = rw.curate.audit(table, pictures=False)
    left = audit.rows[audit.rows["check"] == "identifier left"]
    assert set(left["about"]) == {"date", "name", "number of a patient"}
    assert left["first"].tolist() == [3, 3, 3]
    assert "Miller" not in str(audit)


def test_a_long_passage_in_common_is_found_and_a_phrase_isn_t():
    rng = np.random.default_rng(0)
    words = np.array([f"word{n}" for n in range(400)])
    texts = [" ".join(rng.choice(words, 60)) for _ in range(200)]
    phrase = " no acute disease of the heart or of the lungs is seen today"
    texts = [text + phrase for text in texts]
    texts[150] = " ".join([*texts[20].split()[5:50], *texts[150].split()])
    found = common_passages(pd.Series(texts), np.arange(200))
    found = found[found["surprise"] > 0]
    assert found[["first", "second"]].values.tolist() == [[20, 150]]
    assert found["words"][0] == 45


def test_odd_films_are_flagged(tmp_path):
    films = rw.simulate.cohort(n=40, seed=1).drop_duplicates("patient_id").head(20)
    good = films[["path", "patient_id"]].reset_index(drop=True)  # no follow-ups
    with Image.open(good["path"][0]) as film:
        inverted = np.asarray(film.convert("L").point(lambda v: 255 - v))
    flat = np.full((64, 64), 90, np.uint8)
    unlike = noise_films(1, side=64)[0]
    odd = [inverted, flat, flat + 170, unlike]
    table = films_table(tmp_path / "odd", odd)
    (tmp_path / "odd" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    broken = {"path": str(tmp_path / "odd" / "broken.png"), "patient_id": "b"}
    gone = {"path": str(tmp_path / "gone.png"), "patient_id": "g"}
    table = pd.concat([good, table, pd.DataFrame([broken, gone])], ignore_index=True)
    flags = rw.curate.audit(table).flags
    rows = flags.groupby("check")["row"].apply(list).to_dict()
    assert rows == {
        "constant": [21, 22],
        "polarity": [20],
        "unreadable": [24, 25],
        "inverted copy": [0, 20],
    }


@pytest.mark.parametrize("rows", [0, 1])
def test_a_table_of_next_to_nothing(rows, tmp_path):
    table = films_table(tmp_path / "films", noise_films(1)).head(rows)
    table = table.assign(split="train", report=None, **{EDEMA: np.nan})
    audit = rw.curate.audit(table)
    assert audit.leaks.empty
    assert str(audit).startswith(f"{rows} rows")


def test_bad_reports_stop_nobody():
    table = patients_table(6, {EDEMA: 0.5}, images=(1, 1))
    table["report"] = [None, np.nan, "", "word " * 200_000, "الصدر سليم", 7]
    audit = rw.curate.audit(table, pictures=False)
    assert "no report" in set(audit.rows["check"])


def test_an_audit_needs_patients():
    with pytest.raises(ValueError, match="one_patient_per_image"):
        rw.curate.audit(pd.DataFrame({"path": ["a.png"]}))
    with pytest.raises(ValueError, match="a row of truth for each"):
        rw.curate.audit(
            pd.DataFrame({"patient_id": ["a"]}), truth=pd.DataFrame({EDEMA: []})
        )


def test_a_missed_pair_of_unlike_films_is_below_the_bar(tmp_path):
    """The bar lies between two patients' films and one film exposed anew."""
    table = rw.simulate.cohort(n=60, seed=42)
    below = rw.curate.near_duplicates(table, likeness=0.5)
    assert below["likeness"].max() < LIKE - 0.03
