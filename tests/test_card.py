"""The evidence card: made from a run, the same twice, valid, and safe to open."""

import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
from hostile import ALL, PAYLOAD
from markupsafe import escape
from tables import films_table, noise_films, patients_table

import radwb as rw
from radwb.card import battery, chai, checklists, facts, pictures
from radwb.card.by_group import mean_gap
from radwb.card.trial import SMALL, Trial
from radwb.fail.evidence import KINDS, VERDICTS, Evidence

lxml = pytest.importorskip("lxml")
FINDINGS = ["Edema", "Pleural Effusion"]


@pytest.fixture(scope="module")
def films():
    return rw.simulate.cohort(n=240, seed=0)


@pytest.fixture(scope="module")
def card(model, films):
    return rw.card.evidence_card(model, films)


def a_row(**changes):
    row = Evidence(
        "group", "sex F", "AUROC", 0.7, 0.6, 0.8, 90, "patients", "measured", "s"
    )
    return replace(row, **changes)


class Safe(HTMLParser):
    """Collects what could run, fetch or frame on a page, and its ids and links."""

    def __init__(self, text):
        super().__init__()
        self.bad = []
        self.ids = []
        self.links = []
        self.headings = []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        if tag in ("script", "iframe", "object", "embed", "form", "base"):
            self.bad.append(tag)
        self.bad += [name for name, _ in attributes if name.startswith("on")]
        source = values.get("src", "data:")
        if not source.startswith("data:"):
            self.bad.append(source)
        if "id" in values:
            self.ids.append(values["id"])
        if tag == "a":
            self.links.append(values["href"])
        if re.fullmatch("h[1-6]", tag):
            self.headings.append(int(tag[1]))


def test_two_runs_give_the_same_card_to_the_byte(model, films, card, tmp_path):
    again = rw.card.evidence_card(rw.models.load("radwb-tiny"), films)
    first = card.save(tmp_path / "a" / "card.html")
    second = again.save(tmp_path / "b" / "card.html")
    for ending in (".html", ".json", ".xml"):
        one, other = (path.with_suffix(ending) for path in (first, second))
        assert one.read_bytes() == other.read_bytes()
    assert first.stat().st_size < 1_000_000


def test_json_reads_back_as_the_same_card(card, tmp_path):
    path = card.save(tmp_path / "card.html").with_suffix(".json")
    again = rw.card.read_card(path)
    assert again.to_json() == card.to_json()
    assert again.to_html("card") == card.to_html("card")
    assert again.to_xml() == card.to_xml()
    pd.testing.assert_frame_equal(again.table, card.table)


def test_something_else_is_no_card(tmp_path):
    path = tmp_path / "card.json"
    for text in ("{}", "[", '{"form": "radwb evidence card 1"}', "[]"):
        path.write_text(text)
        with pytest.raises(ValueError, match="expected card.json as Card.save writes"):
            rw.card.read_card(path)


def test_xml_is_valid_by_chai_s_schema_and_a_broken_one_is_not(card):
    chai.check(card.to_xml())
    with pytest.raises(ValueError, match="expected an applied model card"):
        chai.check(card.to_xml().replace("BasicInfo>", "Basics>"))
    with pytest.raises(ValueError, match="KeyMetrics"):
        chai.check(re.sub("<KeyMetrics>.*</KeyMetrics>", "", card.to_xml(), flags=re.S))


def test_every_row_stands_once_on_the_page_and_in_the_json(card):
    text = card.to_html()
    for row in card.evidence:
        assert f'<th scope="row">{escape(row.tried)}</th>' in text
    assert text.count('<th scope="row">') >= len(card.evidence)
    assert len(json.loads(card.to_json())["evidence"]) == len(card.evidence)
    spoken = {row.kind for row in [*card.evidence, *card.not_tested]}
    assert spoken == set(KINDS)


def test_the_capability_is_the_probe_s_own(model, films, card):
    test = films[films["split"] == "test"].reset_index(drop=True)
    own = rw.probe.zero_shot(model, test).auroc().set_index("finding")
    rows = card.table[card.table["measure"] == "AUROC"].set_index("tried")
    sure = own[own["low"].notna()]
    assert len(sure) > 3
    for finding, row in sure.iterrows():
        assert rows.loc[finding, "value"] == pytest.approx(row["auroc"], abs=1e-6)
        assert rows.loc[finding, "low"] == pytest.approx(row["low"], abs=1e-6)


def test_nothing_on_the_page_runs_or_is_fetched_and_its_links_meet(card):
    page = Safe(card.to_html())
    assert page.bad == []
    assert "default-src 'none'" in card.to_html()
    inside = {link[1:] for link in page.links if link.startswith("#")}
    assert inside <= set(page.ids)
    assert len(page.ids) == len(set(page.ids))
    steps = np.diff(page.headings)
    assert page.headings[0] == 1
    assert page.headings.count(1) == 1
    assert steps.max() == 1


def test_hostile_words_stay_words(model, films, tmp_path):
    names = ["path", "patient_id", "split", "sex", "age_years", *FINDINGS]
    table = films[names].assign(site=np.where(films["sex"] == "F", ALL, "A\x00\x1b"))
    hostile = replace(model, name=PAYLOAD, licence=ALL, notes=(ALL, "\ud800"))
    row = a_row(tried=ALL, sentence=ALL, measure=PAYLOAD, unit=ALL)
    made = rw.card.evidence_card(hostile, table, evidence=[row], battery_too=False)
    text = made.to_html(ALL)
    assert Safe(text).bad == []
    assert PAYLOAD not in text
    assert "<img src=x" not in made._repr_html_()
    chai.check(made.to_xml())
    assert "\x00" not in made.to_xml()
    assert rw.card.read_card(made.save(tmp_path / "c.html").with_suffix(".json"))


def bare(films, **columns):
    return films[["path", "patient_id"]].assign(**columns)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda films: bare(films), "expected films with a label 1 or 0"),
        (lambda films: bare(films, Edema=1), "got one kind"),
        (lambda films: bare(films, Edema=np.nan), "expected films with a label 1 or 0"),
        (
            lambda films: bare(films, Edema=films["Edema"], patient_id="one"),
            "1 patient",
        ),
        (lambda films: bare(films, Edema=films["Edema"]).head(1), "one kind"),
    ],
)
def test_what_cannot_be_tried_stands_under_not_tested(model, films, change, reason):
    made = rw.card.evidence_card(model, change(films.head(24)))
    reasons = " ".join(row.reason for row in made.not_tested)
    assert reason in reasons
    assert not any(row.kind in ("group", "calibration") for row in made.of("failure"))
    chai.check(made.to_xml())
    assert Safe(made.to_html()).bad == []


def test_a_tower_without_words_or_head_has_a_card_too(vit, films):
    tower = replace(vit, findings=None)
    made = rw.card.evidence_card(tower, films.head(12))
    assert made.evidence == ()
    assert "neither a text tower nor a head" in made.not_tested[0].reason


def test_a_classifier_is_asked_by_its_head(films, monkeypatch):
    monkeypatch.setattr(battery, "BATTERY", battery.BATTERY[:4])
    supervised = rw.models.supervised_tiny(FINDINGS)
    trial_films = films.head(100).drop(columns="split")
    made = rw.card.evidence_card(supervised, trial_films)
    assert "Pleural Effusion" in set(made.table["tried"])
    assert any(row.tried.startswith("its own head") for row in made.evidence)


def test_an_empty_table_is_refused(model, films):
    with pytest.raises(ValueError, match="a table without rows"):
        rw.card.evidence_card(model, films.head(0))


def test_a_row_without_an_interval_is_not_evidence(model, films):
    rows = [a_row(tried="few", low=np.nan, high=np.nan, sentence="no interval: 3")]
    made = rw.card.evidence_card(model, films, evidence=rows, battery_too=False)
    assert made.evidence == ()
    assert made.not_tested[0].reason == "no interval: 3"


def test_rows_come_in_and_each_verdict_has_its_section(model, films):
    rows = [a_row(tried=verdict, verdict=verdict, control=0.5) for verdict in VERDICTS]
    made = rw.card.evidence_card(model, films, evidence=rows, battery_too=False)
    text = made.to_html().replace("&#39;", "'")
    places = [text.index(f'<th scope="row">{verdict}') for verdict in VERDICTS]
    ids = ("failure", "none", "unsure", "measured", "untested")
    heads = [text.index(f'<h2 id="{name}"') for name in ids]
    for place, head, end in zip(places, heads, heads[1:], strict=False):
        assert head < place < end
    assert "Failures in 1 of 4 things tried: group 1." in text


def test_the_hash_is_of_the_weights_and_of_nothing_else(model, tmp_path):
    folder = rw.models.save(model, tmp_path / "copy")
    copy = rw.models.load(folder)
    assert facts.of_model(copy).sha256 == facts.of_model(model).sha256
    assert facts.of_model(copy).name == "copy"
    next(copy.net.parameters()).data.view(-1)[0] += 1
    assert facts.of_model(copy).sha256 != facts.of_model(model).sha256


def test_weights_and_minutes_are_those_of_the_files(model):
    about = facts.of_model(model)
    log = pd.read_csv(facts.SHIPPED / "radwb-tiny" / "log.csv")
    assert about.training_minutes == pytest.approx(log["seconds"].max() / 60, abs=0.05)
    count = sum(parameter.numel() for parameter in model.net.parameters())
    assert about.weights == count


def test_counts_are_the_table_s(films, card):
    test = films[films["split"] == "test"]
    assert (card.data.films, card.data.patients) == (
        len(test),
        test["patient_id"].nunique(),
    )
    has = {name: (n, people) for name, n, people, *_ in card.data.findings}
    edema = test[test["Edema"] == 1]
    assert has["Edema"] == (len(edema), edema["patient_id"].nunique())
    assert card.data.in_two_parts == 0
    torn = films.assign(patient_id=films["patient_id"].iloc[0])
    assert facts.of_data(torn, torn, "", None).in_two_parts == 1


def test_a_published_cohort_is_named_with_its_card(model, films, tmp_path):
    folder = tmp_path / "out"
    about = {"title": "Virtual chests", "licence": "CC BY 4.0", "source": "simulator"}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("radwb.curate.card.find_spec", lambda name: None)
        with pytest.warns(UserWarning, match="mlcroissant"):
            manifest = rw.curate.publish(films.head(30), folder, **about)
    few = {"battery_too": False, "evidence": []}
    made = rw.card.evidence_card(model, films.head(30), data_card=folder, **few)
    same = rw.card.evidence_card(model, films.head(30), data_card=manifest, **few)
    assert made.to_json() == same.to_json()
    assert made.data.card["title"] == "Virtual chests"
    numbers = [item.number for item in checklists.filled(made)["claim"]]
    assert "19" in numbers
    with pytest.raises(ValueError, match="is the data card of a published cohort"):
        made.save(folder / "card.html")
    with pytest.raises(ValueError, match="ends in .html"):
        made.save(folder / "card.pdf")


def test_checklists_name_items_that_exist_and_only_those_that_are_filled(card, model):
    for name, most in (("claim", 44), ("tripod", 27)):
        numbers = list(checklists.LISTS[name]["filled"])
        assert len(set(numbers)) == len(numbers)
        assert all(1 <= int(re.match(r"\d+", n).group()) <= most for n in numbers)
    nothing = replace(card, evidence=(), data=replace(card.data, parts=(), groups=()))
    left = {item.number for item in checklists.filled(nothing)["claim"]}
    assert not left & {"7", "19", "20", "37", "39"}


def test_a_planted_gap_is_found_and_its_interval_is_the_bootstrap_s():
    table = patients_table(300, {"Edema": 0.5}, images=(1, 2))
    rng = np.random.default_rng(1)
    by_patient = rng.random(300) < 0.5
    women = pd.Series(np.where(by_patient, "F", "M"))
    names = women[table["patient_id"].str[1:].astype(int)].reset_index(drop=True)
    noise = np.where(names == "F", 2.0, 0.5)
    values = table["Edema"] + noise * rng.normal(size=len(table))
    scores = rw.probe.Scores.of(values.to_numpy()[:, None], table, ["Edema"])
    gap = mean_gap(scores, names, "F", 1)
    assert gap.verdict == "behind"

    def difference(rows):
        of = [names[rows] == "F", names[rows] == "M"]
        ours, theirs = (
            rw.stats.auroc(table["Edema"][rows][mask], values[rows][mask])
            for mask in of
        )
        return ours - theirs

    people = table.groupby("patient_id").indices
    draws = []
    for _ in range(300):
        chosen = rng.choice(list(people), len(people))
        draws.append(difference(np.concatenate([people[p] for p in chosen])))
    error = (gap.high - gap.low) / 2 / 1.97
    assert error == pytest.approx(np.std(draws), rel=0.2)
    assert gap.difference == pytest.approx(difference(np.arange(len(table))))


def of_noise(tmp_path, **columns):
    """A Trial whose scores are the columns' own."""
    table = films_table(tmp_path / "films", noise_films(160), **columns)
    return Trial(None, table, table, None, None)


def test_a_score_that_follows_the_site_is_named_a_shortcut(tmp_path):
    rng = np.random.default_rng(0)
    site = np.where(rng.random(160) < 0.5, "A", "B")
    ill = rng.random(160) < 0.3
    trial = of_noise(tmp_path, site=site, Edema=ill.astype(int))
    honest = rng.random(160)
    of_well = honest + ((site == "B") & ~ill)
    of_ill = honest + ((site == "B") & ill)
    for values, found in ((honest, False), (of_well, True), (of_ill, False)):
        scores = rw.probe.Scores.of(values[:, None], trial.table, ["Edema"])
        rows = battery.followed(replace(trial, scores=scores))
        assert any(row.verdict == "failure" for row in rows) is found
        if found:  # once: the other site's AUROC is this one, seen from the other side
            assert [row.kind for row in rows if "site" in row.tried] == ["shortcut"]


def test_the_well_are_those_that_are_said_to_have_nothing(tmp_path):
    rng = np.random.default_rng(0)
    well = rng.random(160) < 0.5
    site = np.where(rng.random(160) < 0.5, "A", "B")
    labels = {"No Finding": well.astype(int), "Edema": np.zeros(160, int)}
    labels["Edema"][:5] = ~well[:5]
    trial = of_noise(tmp_path, site=site, **labels)
    names = ["No Finding", "Edema"]
    for of, found in ((well, True), (~well, False)):
        values = rng.random(160) + ((site == "B") & of)
        both = np.stack([values, values], axis=1)
        scores = rw.probe.Scores.of(both, trial.table, names)
        rows = battery.followed(replace(trial, scores=scores))
        assert any(row.verdict == "failure" for row in rows) is found


def test_statements_that_are_too_high_are_no_calibration(tmp_path):
    rng = np.random.default_rng(0)
    stated = rng.random(160)
    truth = (rng.random(160) < stated).astype(int)
    trial = of_noise(tmp_path, Edema=truth)
    for values, verdict in ((stated, None), (stated**0.25, "failure")):
        scores = rw.probe.Scores.of(values[:, None], trial.table, ["Edema"])
        (row,) = battery.calibration(replace(trial, scores=scores))
        assert row.value == pytest.approx(values.mean() - truth.mean())
        assert (row.verdict == "failure") is (verdict == "failure")


def test_scores_that_are_no_probabilities_are_not_called_badly_calibrated(tmp_path):
    trial = of_noise(tmp_path, Edema=np.arange(160) % 2)
    scores = rw.probe.Scores.of(np.arange(160.0)[:, None], trial.table, ["Edema"])
    with pytest.raises(ValueError, match="expected probabilities"):
        battery.calibration(replace(trial, scores=scores))


def test_a_small_gap_that_is_sure_is_no_failure():
    near = a_row(kind="calibration", value=0.01, low=-0.02, high=0.04)
    wide = replace(near, low=-0.2, high=0.2)
    verdicts = [battery._calibrated(row).verdict for row in (near, wide)]
    assert verdicts == ["no failure seen", "can't tell"]
    assert SMALL == 0.1


def test_the_battery_spoils_films_words_and_shows_strangers(card):
    rows = card.table
    tried = rows.groupby("kind")["tried"].apply(list)
    assert tried["robustness"] == ["noise", "blur", "gamma", "inverted"]
    assert any("written on" in words for words in tried["attack"])
    assert "inverted films" in tried["unknown input"]
    assert len(tried["coverage"]) == 1


def test_an_analysis_that_breaks_costs_its_row_alone(films, monkeypatch):
    def broken(trial):
        raise RuntimeError("out of order\nhere")

    def empty(trial):
        return []

    lines = [("memory", "m", broken), ("drift", "d", empty)]
    monkeypatch.setattr(battery, "BATTERY", (*lines, *battery.BATTERY[:1]))
    table = films.head(60).reset_index(drop=True)
    values = np.random.default_rng(0).random((60, 1))
    scores = rw.probe.Scores.of(values, table, ["Lung Opacity"])
    rows, not_tested = battery.try_all(Trial(None, table, table, scores, None))
    assert [row.kind for row in rows] == ["capability"]
    reasons = [row.reason for row in not_tested]
    assert reasons == ["out of order here", "nothing came up to be tested"]


def test_pictures_put_a_value_inside_its_interval_on_one_axis():
    rows = [a_row(), a_row(value=0.9, low=0.85, high=0.95, control=0.5)]
    first, second = pictures.places(rows)
    assert 0 <= first["low"] < first["value"] < first["high"] < second["low"]
    assert second["high"] <= pictures.SPAN
    assert second["control"] == second["guess"] == first["guess"]
    alone = pictures.places([a_row(value=0.5, low=0.5, high=0.5)])
    assert 0 <= alone[0]["value"] <= pictures.SPAN


def test_a_figure_comes_as_a_small_picture_or_not_at_all(model, films, monkeypatch):
    import plotly.graph_objects as go
    import plotly.io

    def white(figures, paths, **look):
        from PIL import Image

        for path in paths:
            Image.new("RGB", (640, 300), "white").save(path)

    rows = [a_row(figure=go.Figure()), a_row(tried="plain")]
    few = {"evidence": rows, "battery_too": False}
    monkeypatch.setattr(plotly.io, "write_images", white)
    made = rw.card.evidence_card(model, films, **few)
    drawn, plain = made.evidence
    assert drawn.figure.startswith("data:image/png;base64,")
    assert plain.figure is None
    assert f'src="{drawn.figure}"' in made.to_html()
    monkeypatch.setattr(pictures, "BUDGET", 10)
    assert rw.card.evidence_card(model, films, **few).evidence[0].figure is None

    def no_browser(*arguments, **look):
        raise RuntimeError("no Chromium")

    monkeypatch.setattr(plotly.io, "write_images", no_browser)
    assert rw.card.evidence_card(model, films, **few).evidence[0].figure is None


def test_the_command_writes_all_three(films, tmp_path, capsys):
    from radwb import cli

    names = ["path", "patient_id", "split", *FINDINGS]
    films[names].head(40).to_csv(tmp_path / "films.csv", index=False)
    call = ["card", "radwb-tiny", "--table", str(tmp_path / "films.csv")]
    out = tmp_path / "made" / "tiny.html"
    assert cli.main([*call, "--out", str(out), "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["model"]["name"] == "radwb-tiny"
    assert {path.name for path in out.parent.iterdir()} == {
        "tiny.html",
        "tiny.json",
        "tiny.xml",
    }


def test_rows_that_were_learnt_from_are_left_out_where_others_are_there(tmp_path):
    from radwb.card.card import _tested

    parts = ["train"] * 4 + ["val"] * 4
    table = pd.DataFrame({"patient_id": list("aabbccdd"), "split": parts})
    test, chosen = _tested(table)
    assert (test["split"] == "val").all()
    assert "train" in chosen
    test, chosen = _tested(table.head(4))
    assert len(test) == 4
    assert "has met" in chosen


def test_a_small_group_neither_hides_a_failure_nor_vanishes(tmp_path):
    rng = np.random.default_rng(0)
    site = np.array(["A"] * 75 + ["B"] * 75 + ["C"] * 10)
    ill = rng.random(160) < 0.5
    ill[-10:] = np.arange(10) < 1
    trial = of_noise(tmp_path, site=site, Edema=ill.astype(int))
    values = ill + rng.normal(0, 0.2, 160)
    values[75:150] = rng.random(75)
    scores = rw.probe.Scores.of(values[:, None], trial.table, ["Edema"])
    rows = battery.groups(replace(trial, scores=scores))
    by_name = {row.tried: row for row in rows if "site" in row.tried}
    assert by_name["site B"].verdict == "failure"
    assert np.isnan(by_name["site C"].low)
