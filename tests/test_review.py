"""What an audit flagged is looked through, judged, and taken out of the table."""

import io
import json
import stat
import sys
import warnings

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from tables import films_table, noise_films

import radwb as rw
from radwb.curate.audit.flagged import COPIES, IN_TWO_PARTS, flagged, sentence
from radwb.curate.audit.marks import marks
from radwb.curate.audit.result import COLUMNS, Audit
from radwb.curate.audit.texts import WORDS
from radwb.curate.audit.verdicts import row_names
from radwb.explore.evidence import LONGEST, pieces
from radwb.explore.films import Films

LONG = "A cough since the hay harvest. " + " ".join(
    f"On day {day} a fever of {day + 38} degrees." for day in range(1, 16)
)


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """Ten films of as many patients, but for what was planted.

    Film 8 is film 1 in another part, film 9 is constant, 7 isn't there; patient p3 has
    two films in two parts; reports 4 and 5 have a passage in common, 2 names somebody.
    """
    folder = tmp_path_factory.mktemp("films")
    pixels = noise_films(10, side=64)
    pixels[8] = pixels[1]
    pixels[9] = 90
    table = films_table(folder, pixels)
    table["split"] = ["train"] * 6 + ["test"] * 4
    table.loc[6, "patient_id"] = "p3"
    table["report"] = [
        f"FINDINGS: Note {n}. IMPRESSION: Number {n}." for n in range(10)
    ]
    table.loc[[4, 5], "report"] = [f"FINDINGS: {n}. {LONG} {n}" for n in "xy"]
    table.loc[2, "report"] = "FINDINGS: seen by Dr. Weiss. IMPRESSION: Clear."
    (folder / "007.png").unlink()
    return table


@pytest.fixture(scope="module")
def audit(table):
    return rw.curate.audit(table)


def place(things, check):
    """The number of the first thing that a check flagged."""
    return int(things.index[things["check"] == check][0])


def show(widget, check):
    widget.go(place(widget.flagged, check))
    return widget.shown


def test_each_planted_fault_is_one_thing_to_look_at(audit):
    things = flagged(audit)
    rows = things[["check", "first", "second"]].itertuples(index=False)
    found = {tuple(row) for row in rows}
    planted = {
        ("patient in two parts", 3, 6),
        ("same pixels", 1, 8),
        ("unreadable", 7, -1),
        ("constant", 9, -1),
        ("identifier left", 2, -1),
        ("passage in common", 4, 5),
    }
    assert planted <= found
    assert {check for check, *_ in found - planted} <= {"section missing"}
    assert things["droppable"].all()
    assert things["severity"].tolist()[:2] == ["leak", "leak"]


def test_a_pair_says_which_film_goes_and_how_alike_they_are(audit):
    shown = show(rw.show.review(audit), "same pixels")
    assert shown["pair"]
    assert "two patients in two parts of the split" in shown["sentence"]
    assert "likeness 1.00" in shown["sentence"]
    assert [side["goes"] for side in shown["sides"]] == [True, False]
    films = [Image.open(io.BytesIO(side["picture"])) for side in shown["sides"]]
    difference = np.subtract(*(np.asarray(film, float) for film in films))
    assert np.abs(difference).max() == 0
    assert np.asarray(films[0]).std() > 20  # a film, no blank


def test_the_words_that_were_found_are_marked(audit):
    widget = rw.show.review(audit)
    assert show(widget, "identifier left")["sides"][0]["read"]
    marked = [part for part in widget.texts[0] if part[1]]
    assert marked == [["Dr. Weiss", "name"]]
    show(widget, "passage in common")
    assert len(widget.texts) == 2
    for parts in widget.texts:
        both = [text for text, what in parts if what == "in both"]
        assert len(both) == 1
        assert len(both[0].split()) >= WORDS
        assert both[0] in f"{LONG} "


def test_what_cant_be_shown_says_why(audit, table):
    widget = rw.show.review(audit)
    side = show(widget, "unreadable")["sides"][0]
    assert side["picture"] == b""
    assert "can't be read" in side["problem"]
    assert "007.png" in side["problem"]
    texts = rw.curate.audit(table.drop(columns="path"))
    widget = rw.show.review(texts)
    side = show(widget, "identifier left")["sides"][0]
    assert side["problem"] == "no film: the table has no column path"
    assert widget.texts[0]


def test_an_audit_that_found_nothing_says_so(table):
    clean = rw.curate.audit(table[["path", "patient_id"]].iloc[:5])
    widget = rw.show.review(clean)
    assert widget.shown == {}
    assert "No film, pair or report is flagged" in widget.about["nothing"]
    assert "5 rows" in widget.about["nothing"]
    assert widget.about["nothing"] in widget.stand_in.html()
    widget.go(3)
    widget.filter("")
    with pytest.raises(ValueError, match="flagged"):
        widget.judge("drop")
    kept, dropped = rw.curate.apply_verdicts(clean.table, widget.verdicts)
    assert (len(kept), len(dropped)) == (5, 0)


def test_an_audit_of_no_rows_opens(table):
    widget = rw.show.review(rw.curate.audit(table.iloc[:0]))
    assert "0 rows" in widget.about["nothing"]


def test_verdicts_are_saved_at_once_and_read_again(audit, tmp_path):
    path = tmp_path / "verdicts.csv"
    widget = rw.show.review(audit, verdicts=path)
    assert not path.exists()
    number = place(widget.flagged, "constant")
    widget.judge("drop", "black, of a <b>test</b>", number=number)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    written = pd.read_csv(path, keep_default_na=False)
    row = written.iloc[0]
    assert row["first"] == audit.table["path"][9]
    assert (row["check"], row["verdict"]) == ("constant", "drop")
    again = rw.show.review(audit, verdicts=path)
    again.go(number)
    assert again.shown["verdict"] == "drop"
    answer = {"note": "black, of a <b>test</b>", "number": number}
    assert heard(again, note=True) == [answer]
    assert again.shown["done"] == 1
    again.judge("", "")
    assert pd.read_csv(path).empty


def test_a_file_of_something_else_stays_as_it_is(audit, tmp_path):
    path = tmp_path / "verdicts.csv"
    path.write_text("a,b\n1,2\n")
    with pytest.raises(ValueError, match="stays as it is"):
        rw.show.review(audit, verdicts=path)
    assert path.read_text() == "a,b\n1,2\n"
    with pytest.raises(ValueError, match="columns"):
        rw.curate.apply_verdicts(audit.table, path)
    with pytest.raises(ValueError, match="isn't there"):
        rw.curate.apply_verdicts(audit.table, tmp_path / "none.csv")


def test_what_is_judged_drop_is_out_and_the_split_is_clean(audit, table):
    widget = rw.show.review(audit)
    with pytest.raises(ValueError, match="in two or more"):
        rw.curate.check_split(table)
    for number in widget.flagged.index[widget.flagged["severity"] != "note"]:
        widget.judge("drop", number=number)
    kept, dropped = rw.curate.apply_verdicts(table, widget.verdicts)
    assert dropped["reason"].to_dict() == {
        1: "same pixels",  # of train: the test part stays
        2: "identifier left",
        3: "patient in two parts",
        7: "unreadable",
        9: "constant",
    }
    assert kept.index.tolist() == [0, 4, 5, 6, 8]
    assert rw.curate.check_split(kept) is kept
    assert rw.curate.audit(kept).leaks.empty


def test_keep_and_unsure_drop_nothing(audit, table):
    widget = rw.show.review(audit)
    for number in widget.flagged.index:
        widget.judge(("keep", "unsure")[number % 2], number=number)
    kept, dropped = rw.curate.apply_verdicts(table, widget.verdicts)
    pd.testing.assert_frame_equal(kept, table)
    assert dropped.empty
    assert widget.shown["done"] == len(widget.flagged)


def test_verdicts_find_their_films_in_another_order(audit, table):
    widget = rw.show.review(audit)
    for number in widget.flagged.index[widget.flagged["severity"] != "note"]:
        widget.judge("drop", number=number)
    _, dropped = rw.curate.apply_verdicts(table, widget.verdicts)
    turned = table.iloc[::-1].set_index(np.arange(100, 110))
    kept, again = rw.curate.apply_verdicts(turned, widget.verdicts)
    assert set(again["path"]) == set(dropped["path"])
    with pytest.warns(UserWarning, match="no more"):
        once_more, none = rw.curate.apply_verdicts(kept, widget.verdicts)
    pd.testing.assert_frame_equal(once_more, kept)
    assert none.empty


def test_verdicts_on_other_films_are_refused(audit, table):
    widget = rw.show.review(audit)
    widget.judge("drop")
    moved = table.assign(path="moved/" + table["path"])
    with pytest.raises(ValueError, match="on others"):
        rw.curate.apply_verdicts(moved, widget.verdicts)
    odd = widget.verdicts.assign(verdict="Drop it")
    with pytest.raises(ValueError, match="Drop it"):
        rw.curate.apply_verdicts(table, odd)


def test_the_other_film_of_a_pair_can_go_instead(audit, table):
    widget = rw.show.review(audit)
    widget.judge("drop second", number=place(widget.flagged, "same pixels"))
    _, dropped = rw.curate.apply_verdicts(table, widget.verdicts)
    assert dropped.index.tolist() == [8]


def test_no_verdict_that_a_thing_cant_have(audit):
    widget = rw.show.review(audit)
    with pytest.raises(ValueError, match="drop first"):
        widget.judge("drop first", number=place(widget.flagged, "constant"))
    with pytest.raises(ValueError, match="drop first"):
        widget.judge("drop first", number=place(widget.flagged, "patient in two parts"))
    with pytest.raises(ValueError, match="unsure"):
        widget.judge("maybe")
    with pytest.raises(ValueError, match="letters"):
        widget.judge("keep", "x" * 5001)
    with pytest.raises(ValueError, match="expected one of"):
        widget.filter("no such check")
    assert widget.verdicts.empty


def verdicts_on(pairs, verdict="drop", check="near copy"):
    """One verdict for all pairs, or a list of them."""
    table = pd.DataFrame(pairs, columns=["first", "second"]).astype(str)
    return table.assign(check=check, verdict=verdict)


def test_of_a_film_that_stands_four_times_one_stays():
    table = pd.DataFrame({"path": list("abcde"), "patient_id": range(5)})
    table["split"] = ["train", "val", "test", "test", "train"]
    chain = verdicts_on([("a", "b"), ("b", "c"), ("d", "c")])
    kept, dropped = rw.curate.apply_verdicts(table, chain)
    assert kept["path"].tolist() == ["c", "e"]
    # the one that would stay goes for itself: the next of the test part stays
    constant = verdicts_on([("c", "")], check="constant")
    kept, dropped = rw.curate.apply_verdicts(table, pd.concat([chain, constant]))
    assert kept["path"].tolist() == ["d", "e"]
    assert dropped["reason"].value_counts().to_dict() == {"near copy": 2, "constant": 1}


@pytest.mark.parametrize("left", ["a", "b"])
def test_the_last_copy_stays_when_its_partner_is_gone(left):
    table = pd.DataFrame({"path": [left], "patient_id": [1]})
    with pytest.warns(UserWarning, match="1 verdicts"):
        kept, dropped = rw.curate.apply_verdicts(table, verdicts_on([("a", "b")]))
    assert (len(kept), len(dropped)) == (1, 0)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_no_copies_are_left_and_no_film_is_lost(data):
    """Whatever is judged: one film of each cluster, by brute force."""
    table, pairs = drawn(data)
    cluster = clusters(len(table), pairs)
    kept, dropped = rw.curate.apply_verdicts(table, verdicts_on(pairs))
    assert sorted({cluster[n] for n in kept.index}) == sorted(set(cluster))
    assert len({cluster[n] for n in kept.index}) == len(kept)
    rank = table["split"].map({"test": 0, "val": 1, "train": 2})
    for lost in dropped.index:
        stays = next(n for n in kept.index if cluster[n] == cluster[lost])
        assert (rank[stays], stays) < (rank[lost], lost)


def drawn(data):
    """A table of a few rows, and pairs of them."""
    n = data.draw(st.integers(2, 9))
    row = st.integers(0, n - 1)
    pairs = data.draw(st.lists(st.tuples(row, row).filter(lambda p: p[0] < p[1])))
    parts = data.draw(st.lists(st.sampled_from(["train", "val", "test"]), min_size=n))
    table = pd.DataFrame({"path": map(str, range(n)), "split": parts[:n]})
    return table, pairs


def clusters(n, pairs):
    """Which film each row is, where pairs are one film."""
    cluster = list(range(n))
    for _ in range(n):
        for first, second in pairs:
            lower = min(cluster[first], cluster[second])
            cluster[first] = cluster[second] = lower
    return cluster


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_whatever_mix_is_judged_no_film_is_lost(data):
    """Either it is refused, and rightly so, or one film of each cluster stays."""
    table, pairs = drawn(data)
    words = st.sampled_from(["drop", "drop first", "drop second"])
    judged = [data.draw(words) for _ in pairs]
    verdicts = verdicts_on(pairs, judged)
    cluster = clusters(len(table), pairs)
    ends = {"drop first": 0, "drop second": 1}
    named = {
        pair[ends[word]]
        for pair, word in zip(pairs, judged, strict=True)
        if word in ends
    }
    unnamed = {cluster[n] for n in table.index if n not in named}
    if unnamed != set(cluster):
        with pytest.raises(ValueError, match="expected verdicts that leave one"):
            rw.curate.apply_verdicts(table, verdicts)
        return
    kept, dropped = rw.curate.apply_verdicts(table, verdicts)
    assert {cluster[n] for n in kept.index} == set(cluster)
    assert named <= set(dropped.index)
    for (first, second), word in zip(pairs, judged, strict=True):
        assert word != "drop" or not {first, second} <= set(kept.index)


@pytest.mark.parametrize(
    ("pairs", "judged"),
    [
        ([("a", "b"), ("a", "b")], ["drop first", "drop second"]),
        ([("a", "b"), ("b", "c"), ("a", "c")], ["drop first"] * 2 + ["drop second"]),
    ],
)
def test_verdicts_that_leave_no_copy_of_a_film_are_refused(pairs, judged):
    table = pd.DataFrame({"path": list("abcd"), "patient_id": range(4)})
    verdicts = verdicts_on(pairs, judged)
    with pytest.raises(ValueError, match=r"all [23] of \['a', 'b'"):
        rw.curate.apply_verdicts(table, verdicts)
    verdicts.loc[0, "verdict"] = "drop"
    kept, _ = rw.curate.apply_verdicts(table, verdicts)
    assert kept["path"].iloc[0] == "a"
    none = rw.curate.apply_verdicts(table.tail(1), verdicts_on([("d", "")]))[0]
    assert none.empty  # what goes for itself may be the only one


def test_a_film_whose_better_copy_left_since_still_goes():
    """Nothing contradicts itself: c was to stay, and is gone from the table."""
    table = pd.DataFrame({"path": list("abd"), "patient_id": range(3)})
    chain = verdicts_on([("a", "b"), ("b", "c")], "drop first")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        kept, _ = rw.curate.apply_verdicts(table, chain)
    assert kept["path"].tolist() == ["d"]


def test_a_verdict_that_fits_no_row_is_told():
    """Of two rows of one path one is gone: the other has another name since."""
    table = pd.DataFrame({"path": list("aba"), "patient_id": [1, 2, 3]})
    names = row_names(table)
    verdicts = verdicts_on([(names[0], ""), (names[1], "")], check="label noise")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(rw.curate.apply_verdicts(table, verdicts)[0]) == 1
    with pytest.warns(UserWarning, match="1 verdicts that drop something"):
        kept, _ = rw.curate.apply_verdicts(table.head(2), verdicts)
    assert kept["path"].tolist() == ["a"]


def test_a_patient_in_three_parts_stays_in_the_test_part():
    table = pd.DataFrame({"path": list("abcdef"), "patient_id": list("pppqqq")})
    table["split"] = ["train", "val", "test", "train", "val", "val"]
    audit = rw.curate.audit(table, pictures=False)
    things = flagged(audit)
    assert things[["first", "second"]].values.tolist() == [[0, 1], [3, 4]]
    assert "1 in train, 1 in val, 1 in test" in sentence(audit, things.iloc[0])
    widget = rw.show.review(audit)
    for number in things.index:
        widget.judge("drop", number=number)
    kept, _ = rw.curate.apply_verdicts(table, widget.verdicts)
    assert kept["path"].tolist() == ["c", "e", "f"]


def test_rows_of_one_path_have_names_of_their_own():
    table = pd.DataFrame({"path": list("aab"), "patient_id": [1, 1, 2]})
    names = row_names(table)
    assert len(set(names)) == 3
    assert names[2] == "b"
    assert len(set(row_names(table[["patient_id"]]))) == 3
    assert len(set(row_names(pd.DataFrame({"report": ["x", "x"]})))) == 2


def test_what_is_about_the_whole_table_has_nothing_to_drop(table):
    n = 60
    many = pd.DataFrame({"patient_id": range(n), "site": ["A", "B"] * (n // 2)})
    many["Edema"] = (many["site"] == "A").astype(int)
    audit = rw.curate.audit(many, pictures=False)
    widget = rw.show.review(audit)
    number = place(widget.flagged, "metadata tells the finding")
    widget.go(number)
    assert not widget.shown["droppable"]
    assert not widget.shown["pair"]
    row = audit.rows[audit.rows["check"] == "metadata tells the finding"].iloc[0]
    assert widget.shown["value"].startswith(f"{row['value']:.2f} ({row['low']:.2f} to")
    with pytest.raises(ValueError, match="keep"):
        widget.judge("drop", number=number)
    widget.judge("keep", number=number)
    assert widget.shown["verdict"] == "keep"


def test_the_text_that_names_a_label_is_shown_with_the_words():
    n = 60
    sick = np.arange(n) % 2
    table = pd.DataFrame({"patient_id": range(n), "Edema": sick})
    words = np.array(["Is there a change?", "Follow-up of Pulmonary Edema."])
    table["prompt"] = words[sick]
    widget = rw.show.review(rw.curate.audit(table, pictures=False))
    shown = show(widget, "label named")
    assert shown["sides"][0]["column"] == "prompt"
    marked = [part for part in widget.texts[0] if part[1]]
    assert marked == [["Pulmonary Edema", "Edema"]]


def test_marks_of_label_noise_are_the_findings_in_question():
    text = "No effusion. Possible edema."
    found = marks("label noise", text, about=("Edema",))
    assert [(text[a:b], what) for a, b, what in found] == [
        ("edema", "Edema: uncertain")
    ]
    assert marks("section missing", text) == []


def test_a_report_of_a_million_letters_is_cut_around_its_first_mark():
    text = "x " * 500_000
    parts = pieces(text, [(900_000, 900_001, "name")])
    assert sum(len(part) for part, _ in parts) < LONGEST + 20
    assert ["x", "name"] in parts
    assert parts[0] == ["... ", ""]
    assert parts[-1] == [" ...", ""]


def test_pieces_add_up_to_the_text():
    text = "\U0001f600 by Dr. Weiss \U0001f600"
    parts = pieces(text, marks("identifier left", text))
    assert "".join(part for part, _ in parts) == text
    assert ["Dr. Weiss", "name"] in parts


def test_the_still_says_what_it_shows(audit, tmp_path):
    widget = rw.show.review(audit)
    shown = show(widget, "same pixels")
    picture = Image.open(widget.save(tmp_path / "still.png"))
    assert picture.width > 900
    film = Image.open(io.BytesIO(shown["sides"][0]["picture"]))
    assert picture.height > film.height
    html = widget.stand_in.html()
    assert f"{widget.at + 1} of {len(widget.flagged)} flagged: same pixels" in html
    assert shown["sentence"] in html
    assert "Not for clinical use" in html


def test_a_saved_notebook_gets_no_text_of_a_report(audit):
    """Neither in the picture's words nor in what is synced; asked for, it is sent."""
    widget = rw.show.review(audit)
    show(widget, "identifier left")
    synced = [repr(getattr(widget, name)) for name in widget.traits(sync=True)]
    assert not any("Weiss" in text for text in [*synced, widget.stand_in.html()])
    answer = heard(widget, texts=True)[0]
    assert answer["number"] == widget.shown["number"]
    assert ["Dr. Weiss", "name"] in answer["texts"][0]


def test_a_saved_notebook_gets_no_note(audit):
    widget = rw.show.review(audit)
    widget.judge("unsure", "Mrs Miller, born 1950")
    synced = [repr(getattr(widget, name)) for name in widget.traits(sync=True)]
    assert not any("Miller" in text for text in [*synced, widget.stand_in.html()])
    assert heard(widget, note=True) == [{"note": "Mrs Miller, born 1950", "number": 0}]


def test_a_verdict_leaves_a_note_that_nobody_wrote_in(audit):
    """It may not have come to the browser yet."""
    widget = rw.show.review(audit)
    widget.judge("unsure", "a follow-up")
    for note, kept in [(None, "a follow-up"), ("", "")]:
        heard(widget, judge=dict(number=0, verdict="keep", note=note, go_on=False))
        assert widget.verdicts["note"].tolist() == [kept]


def heard(widget, **message):
    """What the widget answers to a message of the browser."""
    answers = []
    widget.send = answers.append
    widget._heard(None, message, [])
    return answers


def test_a_verdict_of_the_browser_is_saved_and_the_next_thing_comes(audit, tmp_path):
    path = tmp_path / "verdicts.csv"
    widget = rw.show.review(audit, verdicts=path)
    judge = {"number": 0, "verdict": "drop", "note": "", "go_on": True}
    assert heard(widget, judge=judge) == [{"noted": {"number": 0, "error": ""}}]
    assert widget.at == 1
    path.write_text("something else")
    judge = {"number": 1, "verdict": "drop", "note": "", "go_on": True}
    answer = heard(widget, judge=judge)[0]["noted"]
    assert "stays as it is" in answer["error"]
    assert widget.at == 1  # it wasn't saved: it stays in sight
    assert heard(widget, ping=7) == [{"pong": 7}]


def test_the_next_open_thing_is_found_from_anywhere(audit):
    widget = rw.show.review(audit)
    last = len(widget.flagged) - 1
    for number in range(1, last):
        widget.judge("keep", number=number)
    heard(widget, open=True)
    assert widget.at == last
    heard(widget, open=True)
    assert widget.at == 0


def test_one_check_at_a_time(audit):
    widget = rw.show.review(audit)
    widget.filter("constant")
    assert (widget.shown["check"], widget.shown["of"]) == ("constant", 1)
    widget.judge("drop")
    assert widget.verdicts["check"].tolist() == ["constant"]
    widget.filter()
    assert widget.shown["of"] == len(widget.flagged)


def test_a_step_beyond_the_end_is_taken_back(audit):
    """The browser may not know yet that fewer are kept now."""
    widget = rw.show.review(audit)
    widget.filter("constant")
    told = []
    widget.send_state = lambda key=None: told.append(key)
    widget.set_state({"at": 4})
    assert (widget.at, widget.shown["at"]) == (0, 0)
    assert "at" in told


def many_flags(n):
    """An audit that flagged each of n rows."""
    table = pd.DataFrame({"path": [f"{row}.png" for row in range(n)]})
    table["patient_id"] = table.index
    rows = dict.fromkeys(COLUMNS, 0) | {"check": "constant", "sentence": "constant"}
    flags = pd.DataFrame({"row": table.index, "check": "constant"})
    examined = pd.DataFrame({"check": ["odd films"]})
    pairs = pd.DataFrame(columns=["first", "second", "kind", "likeness", "across"])
    return Audit(pd.DataFrame([rows]), examined, pairs, flags, table)


def test_of_thousands_of_things_one_is_sent_and_read(monkeypatch):
    read = []
    name = "radwb.explore.films"
    monkeypatch.setattr(sys.modules[name].data, "scan_of", read.append)
    widget = rw.show.review(many_flags(20_000))
    assert len(read) == 1
    size = len(json.dumps([widget.about, widget.shown], default=lambda b: len(b)))
    assert size < 5_000
    widget.go(15_000)
    assert [row["path"] for row in read] == ["0.png", "15000.png"]


def test_a_film_that_breaks_its_reader_is_still_judged(audit, monkeypatch):
    def broken(films, case):
        raise RuntimeError("")

    monkeypatch.setattr(Films, "scan", broken)
    widget = rw.show.review(audit)
    shown = show(widget, "constant")
    assert shown["sides"][0]["problem"] == "the film can't be read: RuntimeError"
    widget.judge("drop")
    assert widget.shown["verdict"] == "drop"


def test_every_check_of_an_audit_is_known():
    """A check of another name would be left out of the rules for pairs and parts."""
    assert set(COPIES) == {
        "same pixels",
        "near copy",
        "mirrored copy",
        "inverted copy",
    }
    assert set(IN_TWO_PARTS.values()) >= {"patient_id", "study_id"}


def test_closing_lets_go_of_the_table(audit):
    widget = rw.show.review(audit)
    widget.close()
    assert widget.evidence is None
