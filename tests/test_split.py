"""Splits by patient, site and time: nobody in two parts, labels alike, stable."""

import warnings

import numpy as np
import pandas as pd
import pytest
from tables import patients_table

import radwb as rw
from radwb.curate.split import PARTS

SHARES = {"Edema": 0.2, "Pneumonia": 0.05, "Fracture": 0.02}
LABELS = list(SHARES)
FRACTIONS = np.array([0.7, 0.1, 0.2])


def drawer(patients=600, seed=0, sites="ABCDEF"):
    """Films of patients, who stay at one site and come on several days."""
    table = patients_table(patients, SHARES, images=(1, 4), seed=seed)
    rng = np.random.default_rng(seed + 1)
    number = table["patient_id"].str[1:].astype(int)
    days = pd.to_timedelta(rng.integers(0, 900, len(table)), "D")
    return table.assign(
        site=rng.choice(list(sites), patients)[number],
        sex=np.array(["F", "M"])[number % 2],
        study_date=pd.Timestamp("2020-01-01") + days,
    )


def patients_with(table, labels=LABELS):
    """(parts, labels) patients in each part who have the label."""
    one = table.groupby("patient_id").agg(
        {label: "max" for label in labels} | {"split": "first"}
    )
    return one.groupby("split")[list(labels)].sum().reindex(PARTS)


def quietly(*args, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return rw.curate.split(*args, **options)


@pytest.mark.parametrize("by", ["patient", "site", "time"])
@pytest.mark.parametrize("stratify", [(), LABELS])
def test_no_patient_is_on_two_sides(by, stratify):
    if by == "time" and stratify:
        pytest.skip("time decides alone")
    table = quietly(drawer(), by, stratify=stratify)
    assert table.groupby("patient_id")["split"].nunique().max() == 1
    assert set(table["split"]) == set(PARTS)
    assert rw.curate.check_split(table, by) is table


def test_by_patient_it_is_split_by_patient():
    table = drawer(80)
    pd.testing.assert_frame_equal(
        rw.curate.split(table, seed=3), rw.curate.split_by_patient(table, seed=3)
    )


@pytest.mark.parametrize("seed", range(5))
def test_labels_are_alike_in_all_parts(seed):
    """To one or two patients; a split by hash alone is further off."""
    table = drawer(seed=seed)
    wanted = np.outer(
        FRACTIONS, patients_with(table.assign(split="train")).loc["train"]
    )
    dealt = rw.curate.split(table, stratify=LABELS, seed=seed)
    off = np.abs(patients_with(dealt) - wanted).to_numpy()
    drawn = rw.curate.split_by_patient(table, seed=seed)
    assert off.max() < 1.5
    assert off.max() < np.abs(patients_with(drawn) - wanted).to_numpy().max()
    in_parts = dealt.groupby("split")["patient_id"].nunique()[list(PARTS)]
    assert np.abs(in_parts - 600 * FRACTIONS).max() < 1.5


def test_a_small_case_by_hand():
    """Two with the label and two without: halves of each, as Sechidis' rule deals."""
    table = pd.DataFrame({"patient_id": list("abcd"), "Edema": [1, 1, 0, 0]})
    halves = rw.curate.split(table, stratify=["Edema"], fractions=(0.5, 0, 0.5))
    assert halves.groupby("split")["Edema"].agg(
        ["sum", "size"]
    ).to_numpy().tolist() == [
        [1, 2],
        [1, 2],
    ]


def test_a_column_of_text_counts_once_for_each_value():
    table = rw.curate.split(drawer(), stratify=["sex", "site"])
    for column in ("sex", "site"):
        one = table.drop_duplicates("patient_id")
        shares = pd.crosstab(one["split"], one[column], normalize="columns")
        assert np.abs(shares.loc[list(PARTS)].sub(FRACTIONS, axis=0)).max().max() < 0.02


def test_the_order_of_the_rows_changes_nothing():
    table = drawer(200)
    shuffled = table.sample(frac=1, random_state=0)
    for options in ({"stratify": LABELS}, {"by": "site"}, {"by": "time"}):
        first = quietly(table, **options)["split"]
        second = quietly(shuffled, **options)["split"]
        pd.testing.assert_series_equal(first, second.sort_index())


@pytest.mark.parametrize(
    "options",
    [{"stratify": LABELS}, {"by": "site", "stratify": LABELS}, {"by": "time"}],
)
def test_a_patient_who_has_a_part_keeps_it(options):
    later = drawer(900)
    grown = later.assign(study_date=later["study_date"] + pd.Timedelta(days=40))
    number = later["patient_id"].str[1:].astype(int)
    table = later[number < 600]
    first = quietly(table, **options)
    again = quietly(pd.concat([first, grown[number >= 600]]), previous=first, **options)
    before = first.groupby("patient_id")["split"].first()
    after = again.groupby("patient_id")["split"].first()
    assert (after[before.index] == before).all()
    assert after.drop(before.index).nunique() >= 2
    rw.curate.check_split(again, options.get("by", "patient"))


@pytest.mark.parametrize("by", ["site", "time"])
def test_a_patient_of_the_test_stays_there_when_seen_elsewhere(by):
    """The new film, at a site or on a day of training, is what is left out."""
    first = quietly(drawer(), by)
    train, test = (first[first["split"] == part] for part in ("train", "test"))
    new = test.iloc[[0]].assign(path="new.png")
    for column in ("site", "study_date"):
        new[column] = train[column].iloc[0]
    grown = pd.concat([first, new], ignore_index=True)
    with pytest.warns(UserWarning, match="1 of"):
        again = rw.curate.split(grown, by, previous=first)
    assert again["split"].tolist() == first["split"].tolist()


def test_grown_labels_are_alike_too():
    later = drawer(900)
    table = later[later["patient_id"].str[1:].astype(int) < 600]
    first = rw.curate.split(table, stratify=LABELS)
    again = rw.curate.split(later, stratify=LABELS, previous=first)
    wanted = np.outer(
        FRACTIONS, patients_with(again.assign(split="train")).loc["train"]
    )
    assert np.abs(patients_with(again) - wanted).to_numpy().max() < 1.5


def test_without_stratify_growth_moves_nobody():
    later = drawer(300)
    few = later[later["patient_id"].str[1:].astype(int) < 100]
    pd.testing.assert_series_equal(
        rw.curate.split(later)["split"].loc[few.index], rw.curate.split(few)["split"]
    )


def test_every_day_of_the_test_is_later():
    with pytest.warns(UserWarning, match="films are left out: their"):
        table = rw.curate.split(drawer(), by="time")
    days = table.groupby("split")["study_date"].agg(["min", "max"])
    assert days.loc["train", "max"] < days.loc["val", "min"]
    assert days.loc["val", "max"] < days.loc["test", "min"]
    patients = table.groupby("split")["patient_id"].nunique()[list(PARTS)]
    assert np.abs(patients / 600 - FRACTIONS).max() < 0.02
    table.loc[table.index[table["split"] == "train"][0], "study_date"] += pd.Timedelta(
        days=5000
    )
    with pytest.raises(ValueError, match="expected every film of val later than"):
        rw.curate.check_split(table, "time")


def test_days_as_dicom_writes_them_are_days():
    table = drawer(200)
    written = table.assign(study_date=table["study_date"].dt.strftime("%Y%m%d"))
    assert (quietly(written, "time")["split"] == quietly(table, "time")["split"]).all()


def test_whole_sites_are_new_in_the_test():
    table = drawer()
    dealt = rw.curate.split(table, by="site", stratify=LABELS)
    assert dealt.groupby("site")["split"].nunique().max() == 1
    wrong = dealt.assign(split=np.where(dealt.index % 2, "train", "test"))
    wrong = wrong.drop_duplicates("patient_id")
    with pytest.raises(ValueError, match="expected each site in one part"):
        rw.curate.check_split(wrong, "site")


def test_three_sites_fill_three_parts_whatever_their_sizes():
    for sizes in ([50, 26, 24], [98, 1, 1], [34, 33, 33]):
        names = [f"p{n}" for n in range(100)]
        table = pd.DataFrame(
            {"patient_id": names, "site": np.repeat(list("ABC"), sizes)}
        )
        dealt = rw.curate.split(table, by="site")
        assert dealt.groupby("split")["site"].nunique().tolist() == [1, 1, 1]
        assert dealt["split"][0] == "train"


def test_a_patient_of_two_sites_stays_with_the_training():
    table = drawer(100, sites="ABC")
    sides = rw.curate.split(table, by="site").groupby("site")["split"].first()
    train, test = (sides.index[sides == part][0] for part in ("train", "test"))
    row = table.index[table["site"] == test][0]
    other = table.loc[[row]].assign(site=train, path="other.png")
    both = pd.concat([table, other], ignore_index=True)
    with pytest.warns(UserWarning, match="left out: their 1 patients"):
        dealt = rw.curate.split(both, by="site")
    mine = dealt[dealt["patient_id"] == table["patient_id"][row]]
    assert set(mine["split"]) == {"train"}
    assert set(mine["site"]) == {train}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"by": "week"}, "expected by patient or site"),
        ({"by": "time", "stratify": LABELS}, "expected by patient or site"),
        ({"by": "time", "when": "day"}, "expected a column day"),
        ({"stratify": ["Cough"]}, "expected the columns"),
        ({"fractions": (1, 1, 1)}, "expected three fractions"),
    ],
)
def test_what_can_not_be_split_is_said(options, message):
    with pytest.raises(ValueError, match=message):
        rw.curate.split(drawer(30), **options)


def test_a_row_without_site_or_day_is_said():
    table = drawer(30)
    table.loc[3, "site"] = None
    table["study_date"] = table["study_date"].astype(str)
    table.loc[4, "study_date"] = "soon"
    with pytest.raises(ValueError, match="expected a site in every row, got 1"):
        rw.curate.split(table, by="site")
    with pytest.raises(ValueError, match="expected a day in every row of study_date"):
        rw.curate.split(table, by="time")
    with pytest.raises(ValueError, match="got none in"):
        rw.curate.split(table.assign(site="A"), by="site")


def test_a_split_by_another_word_is_refused():
    """It came back unchecked, and a card then said that the split was by hospital."""
    with pytest.raises(ValueError, match="expected by to be one of .*got 'hospital'"):
        rw.curate.check_split(rw.curate.split(drawer(80)), "hospital")


@pytest.mark.parametrize("options", [{}, {"stratify": LABELS}, {"by": "time"}])
def test_zeros_that_previous_has_lost_are_refused(options):
    """A CSV made 7 of 0007: nobody was known, and 62 of 200 patients moved."""
    table = drawer(300)
    table["patient_id"] = table["patient_id"].str[1:].str.zfill(4)
    first = quietly(table, **options)
    quietly(table, previous=first, **options)
    eaten = first.assign(patient_id=first["patient_id"].astype(int))
    message = f"expected one spelling of each patient_id.*Rows from {len(table)} on"
    with pytest.raises(ValueError, match=message):
        quietly(table, previous=eaten, **options)


def test_a_site_that_previous_spells_in_another_way_is_refused():
    table = drawer(sites="123")
    table["site"] = table["site"].str.zfill(2)
    first = quietly(table, by="site")
    eaten = first.assign(site=first["site"].astype(int))
    with pytest.raises(ValueError, match="expected one spelling of each site, got 3"):
        quietly(table, by="site", previous=eaten)
