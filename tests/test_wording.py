"""The wide grammar of the virtual reports: the claims of test_words.py hold for it too.

They are read by a reader of its own, who knows more words than that of the plain one.
"""

import hashlib
import re
from pathlib import Path

import numpy as np
import pytest
import test_words as plain

import radwb as rw
from radwb.simulate.patient import Dials
from radwb.simulate.words import ORDER, STYLES, report_and_key

ROOT = Path(__file__).parents[1]
HEART = "heart|cardiac|cardio|silhouette"
FINE = "normal|within normal limits|unremarkable|clear|intact|sharp|patent|well defined"
READ = plain.READ | {
    "Cardiomegaly": "cardiomegaly|enlarge[dm](?! or adenopathy)",
    "Edema": r"edema|vascular congestion|engorge",
    "Lung Opacity": "opacit|air ?space disease|infiltrate",
    "Atelectasis": "atelecta|volume loss|collapse",
    "Lung Lesion": r"nodul|\bmass(?:es)?\b|lesion",
    "Pneumothorax": "pneumothora",
    "Pleural Effusion": "effusion|pleural fluid|costophrenic blunting",
    "Pleural Other": "thicken|pleural scarring",
    "Support Devices": r"\btubes?\b|\blines?\b|pacemaker|leads|catheter",
}
AIRSPACE = plain.AIRSPACE
IMPLIED = {  # denials that don't name what they deny
    r"\b(?:no|of) (?:radiographic evidence of )?(?:acute|active)"
    "(?! (?:bon|oss|skel|inf|frac))"
    r"|no acute radiographic|for acute (?:abn|cardio)": set(ORDER)
    - {"Support Devices"},
    "(?:normal|negative|unremarkable) (?:chest|exam)|chest radiograph within": set(
        ORDER
    ),
    "lungs[^.]* clear|clear lungs|clear and expanded|parenchyma"
    "|lungs are (?:free|neg)|lungs and pleural": {
        *AIRSPACE,
        "Pneumothorax",
        "Pleural Effusion",
    },
    rf"(?:{HEART})[^.]*(?:{FINE}|not enlarged)|normal heart": {"Cardiomegaly"},
    rf"vascula[^.]*(?:{FINE})|normal pulmonary vasc|vessels are within": {"Edema"},
    r"(?:bon|osse|skelet|ribs)[^.]*(?:normal|intact|unremarkable|without)"
    "|no acute (?:bon|oss|skel)|acute bone": {"Fracture"},
    "(?:angles|sulci|spaces)[^.]* (?:sharp|clear)|pleural abnormality": {
        "Pleural Effusion"
    },
    "hemidiaphragms are": {"Pleural Effusion"},
    "pneumonia$|pneumonia,|pneumonia or": AIRSPACE,
}
SMALL = "small|mild|slight|minimal"
LARGE = "large|marked|severe"
NAMES = {  # other names of devices
    "(?:central )?venous (?:line|catheter)": "central line",
    "ET tube": "endotracheal tube",
    "pleural drainage tube|thoracostomy tube": "chest tube",
    "pacemaker device|cardiac pacemaker": "pacemaker",
    "superior vena cava": "SVC",
    r"(?:external )?(?:cardiac )?(?:monitor|EKG|cardiac) leads": "ECG leads",
}
READER = {
    "READ": READ,
    "SIZES": {
        "small": f"(?:{SMALL})(?:ly)?",
        # or no word of another size
        "moderate": rf"moderate(?:ly)?|^(?!.*\b(?:{SMALL}|{LARGE})).*",
        "large": f"(?:{LARGE})(?:ly)?",
    },
    "CHANGED": plain.CHANGED + "|increase|worsening|progress|improve|decrease|cleared"
    "|persistent|similar|again noted|changed from|^new |developed|placement|resolution"
    "|removal|development|in the interval",
    "NO": r"\bno\b|\bnot\b(?! significantly)|negative|without|free of|clear of|resol"
    "|has cleared|remov",
    "UNCERTAIN": plain.UNCERTAIN + "|Probable|Suspect|Suspicion|Cannot|Likely|may "
    "represent|suggestive|questionable|possibl|difficult",
    "LONGEST": 14,
}


def in_plain_names(text):
    for other, name in NAMES.items():
        text = re.sub(other, name, text)
    return text


def wide(*args, **how):
    text, key = report_and_key(*args, **how, wording="wide")
    return in_plain_names(text), key


@pytest.fixture(autouse=True)
def wide_reader(monkeypatch):
    for name, value in READER.items():
        monkeypatch.setattr(plain, name, value)
    monkeypatch.setattr(plain, "report_and_key", wide)
    monkeypatch.setattr(plain, "read", read)


def read(text):
    """As test_words.read, with patterns for what is implied."""
    affirmed = {}
    denied = {}
    for sentence in (s.lower().rstrip(".") for s in plain.sentences(text)):
        no = re.search(READER["NO"], sentence)
        implied = {
            n for cue, ns in IMPLIED.items() if re.search(cue, sentence) for n in ns
        }
        named = {n for n, cue in READ.items() if re.search(cue, sentence)}
        for name in named:
            (denied if no else affirmed).setdefault(name, []).append(sentence)
        # "consistent with pneumonia" implies nothing
        for name in implied if no or not named else ():
            denied.setdefault(name, []).append(sentence)
    return affirmed, denied


CLAIMS = (
    plain.test_words_and_labels_agree_in_every_style,
    plain.test_each_section_affirms_every_finding_and_the_impression_is_short,
    plain.test_no_sentence_denies_a_parent_of_what_is_there,
    plain.test_devices_alone_leave_the_chest_without_acute_abnormality,
    plain.test_a_report_may_withhold_everything,
    plain.test_the_key_names_the_only_contradiction,
    plain.test_without_errors_the_key_is_empty_and_about_a_share_errs,
    plain.test_only_small_findings_are_hedged_and_never_devices,
    plain.test_without_a_prior_study_nothing_is_compared,
    plain.test_no_report_of_any_style_speaks_the_labels_language,
    plain.test_a_device_that_lies_badly_is_called_so_in_each_section,
    plain.test_findings_say_where_every_tip_is,
    plain.test_withholding_a_child_leaves_no_word_on_opacities_nor_on_its_siblings,
    plain.test_the_seed_repeats_a_report_and_global_state_does_not_matter,
    plain.test_age_and_sex_are_never_mentioned,
)


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: claim.__name__)
def test_wide_reports_hold_what_plain_ones_do(claim):
    claim()


@pytest.mark.parametrize("name", ORDER)
def test_a_withheld_finding_is_neither_affirmed_nor_denied(name):
    plain.test_a_withheld_finding_is_neither_affirmed_nor_denied(name)


@pytest.mark.parametrize(
    ("then", "current", "pattern"),
    [
        (0.2, 0.8, "increase|worsen|progress"),
        (0.8, 0.2, "decrease|improve|partially cleared"),
        (
            0.5,
            0.55,
            "unchanged|stable|persistent|again noted|similar|not significantly",
        ),
        (None, 0.5, r"is new|^new|development|developed"),
        (0.5, None, "no longer|resol|has cleared"),
    ],
)
def test_the_comparison_follows_the_severities(then, current, pattern):
    rng = np.random.default_rng(9)
    for name in ("Pleural Effusion", "Edema", "Lung Lesion", "Cardiomegaly"):
        for style in (*STYLES, *STYLES):
            old, new = (
                [] if s is None else plain.one(name, np.random.default_rng(1), s)[:1]
                for s in (then, current)
            )
            text = plain.report(new, rng, before=old, style=style, hedge=0.0)
            changes = [
                s.lower()
                for s in plain.sentences(text)
                if re.search(READER["CHANGED"], s.lower())
            ]
            about = [s for s in changes if re.search(READ[name], s)]
            assert len(about) == 1, text
            assert re.search(pattern, about[0]), text


def test_a_device_that_moved_is_not_unchanged():
    rng = np.random.default_rng(22)
    high, good = (
        plain.finding(
            "Support Devices", 0.5, kind="endotracheal tube", tip=tip, tip_cm=cm
        )
        for tip, cm in (("high", 7.0), ("trachea", 4.0))
    )
    for style in STYLES:
        moved = plain.report([good], rng, before=[high], style=style)
        assert re.search("[Rr]epositioned|replaced", moved)
        gone = plain.report([], rng, before=[good], style=style)
        assert re.search("remov|no longer|resol", gone)


def many(wording, n=400, seed=31):
    """[(report, findings)] of studies without a prior one."""
    rng = np.random.default_rng(seed)
    out = []
    for i in range(n):
        findings = plain.study(rng)
        how = dict(style="ABCDEF"[i % 6], wording=wording)
        out.append((report_and_key(findings, rng, **how)[0], findings))
    return out


def test_the_plain_wording_is_as_it_was():
    """Cohorts are kept by version and dials: words of the default may not change."""
    texts = "\n".join(text for text, _ in many("plain"))
    digest = hashlib.sha256(texts.encode()).hexdigest()
    assert digest[:16] == "16cdd5bdbadd04ae"


def test_the_wording_is_in_a_cohorts_key_only_where_it_is_turned():
    assert "wording" not in repr(Dials())
    assert "wording='wide'" in repr(Dials(wording="wide"))
    with pytest.raises(ValueError, match="plain, wide"):
        Dials(wording="broad")


def labeller_of_notebook_07():
    source = (ROOT / "notebooks" / "src" / "07_a_model_that_writes.py").read_text()
    cells = source.split("\n# %%")
    start = next(i for i, cell in enumerate(cells) if "\nNAMED = {" in cell)
    code = [c for c in cells[start : start + 5] if not c.startswith(" [markdown]")]
    names = {"re": re}
    exec("\n".join(code), names)  # our own notebook
    return names["stated"]


@pytest.mark.parametrize("wording", ["plain", "wide"])
def test_the_rules_of_notebook_07_read_the_truth(wording):
    """Each finding that's there is stated, and none that isn't."""
    stated = labeller_of_notebook_07()
    for text, findings in many(wording):
        for body in plain.sections(text).values():
            there = {name for name, label in stated(body).items() if label}
            known = {"Cardiomegaly", "Edema", "Consolidation", "Atelectasis"}
            known |= {"Pneumothorax", "Pleural Effusion", "Lung Lesion"}
            assert there == {f.name for f in findings} & known, body


def test_sections_are_found_in_wide_reports():
    for text, _ in many("wide"):
        parts = rw.curate.sections(text)
        whole = " ".join(f"{k.upper()}: {v}" for k, v in parts.items() if v)
        assert parts["other"] == ""
        assert sorted(whole.split()) == sorted(text.split())


def test_a_wide_report_has_more_words():
    def words(wording):
        text = " ".join(text for text, _ in many(wording)).lower()
        return set(re.findall("[a-z]+", text))

    assert len(words("wide")) > 1.6 * len(words("plain"))


real = plain.real  # the fixture


def test_wide_reports_hold_more_of_what_real_ones_say(real):
    """Shares of the real reports' words that occur in 400 virtual reports."""
    said = re.findall("[a-z]+", re.sub(r"[A-Z]+:|XXXX", "", " ".join(real)).lower())
    share = {}
    for wording in ("plain", "wide"):
        text = " ".join(text for text, _ in many(wording)).lower()
        known = set(re.findall("[a-z]+", text))
        share[wording] = np.mean([word in known for word in said])
    assert share["wide"] > share["plain"] + 0.12


def test_the_mixture_of_styles_is_like_the_real_reports(real):
    virtual = [text for text, _ in many("wide", n=1000)]
    plain.test_the_mixture_of_styles_is_like_the_real_reports(real, virtual)


def test_no_longer_sentence_is_a_real_one(real):
    virtual = [text for text, _ in many("wide", n=2000)]
    plain.test_no_longer_sentence_is_a_real_one(real, virtual)


def test_wide_prompts_speak_as_wide_reports_do():
    """Every word that is asked is one that a model may have read."""
    rng = np.random.default_rng(41)
    text = " ".join(
        wide(plain.study(rng, none=0.2), rng, style="ABCDEF"[i % 6])[0]
        for i in range(1500)
    )
    known = set(re.findall("[a-z]+", text.lower()))
    asked = rw.probe.Prompts.wide([*ORDER, "Pneumonia"])
    for side in (asked.positive, asked.negative):
        for name, phrases in side.items():
            words = set(re.findall("[a-z]+", " ".join(phrases).lower()))
            assert words <= known, name


@pytest.mark.parametrize("name", [n for n in ORDER if n != "Support Devices"])
def test_wide_prompts_state_on_one_side_and_deny_on_the_other(name):
    affirm, deny = rw.probe.Prompts.wide([name]).pair(name)
    for phrase in affirm:
        affirmed, denied = read(phrase)
        assert name in affirmed, phrase
        assert not denied, phrase
    for phrase in deny:
        affirmed, denied = read(phrase)
        assert denied, phrase
        assert not affirmed, phrase


def test_wide_prompts_know_what_the_grammar_has_no_word_for():
    asked = rw.probe.Prompts.wide(["Hernia", "No Finding", "Support Devices"])
    assert "negative for hernia." in asked.negative["Hernia"]
    assert "normal chest." in asked.positive["No Finding"]
    usual = rw.probe.Prompts.of(["Support Devices"])
    assert asked.pair("Support Devices") == usual.pair("Support Devices")


def test_the_wording_changes_no_film_and_no_label():
    how = dict(n=3, seed=5, size=32)
    try:
        films = list(rw.simulate.stream(**how))
    except rw.data.FetchError:
        pytest.skip("no film is compared: lidc-ct is in no mirror")
    others = list(rw.simulate.stream(**how, dials=Dials(wording="wide")))
    for (film, row), (other, other_row) in zip(films, others, strict=True):
        assert (film.pixels == other.pixels).all()
        assert row.pop("report") != other_row.pop("report")
        assert repr(row) == repr(other_row)
