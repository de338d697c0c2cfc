"""Sections: headings as hospitals write them, in four languages.

Words in a sentence are none; nothing is lost.
"""

import re
import time
from collections import Counter

import pytest

import radwb as rw
from radwb.curate import sections
from radwb.curate.sections import NAMES

CLEAR = {"findings": "Clear.", "impression": "Normal."}


def not_empty(report):
    return {name: text for name, text in sections(report).items() if text}


@pytest.mark.parametrize(
    "report",
    [
        "FINDINGS: Clear. IMPRESSION: Normal.",
        "Findings: Clear. Impression: Normal.",
        "Findings: Clear.  Impression: Normal.",
        "findings: Clear.\nimpression : Normal.",
        "FINDINGS:\r\nClear.\r\n\r\nIMPRESSION:\r\nNormal.",
        "Findings: Clear.\rImpression: Normal.",
        "FINDINGS:Clear.\\.br\\IMPRESSION:Normal.",
        "FINDINGS\nClear.\nIMPRESSION\nNormal.",
        "Findings\r\nClear.\r\nImpression\r\nNormal.",
        "FINDINGS\n--------\nClear.\n\nIMPRESSION\n==========\nNormal.",
        "FINDINGS - Clear.\nIMPRESSION - Normal.",
        "FINDINGS -- Clear. IMPRESSION – Normal.",
        "**FINDINGS:** Clear.\n**IMPRESSION:** Normal.",
        "**Findings**: Clear.\n**Impression**: Normal.",
        "## Findings\nClear.\n## Impression\nNormal.",
        "__Findings__\nClear.\n\n__Impression__\nNormal.",
        "FINDINGS: Clear.\nFINAL IMPRESSION: Normal.",
        "FINDINGS: Clear.\nIMPRESSION/RECOMMENDATION: Normal.",
        "FINDINGS: Clear.\nIMPRESSION AND RECOMMENDATIONS: Normal.",
        "FINDINGS: Clear.\nImpression & Plan: Normal.",
        "BEFUND: Clear. BEURTEILUNG: Normal.",
        "Befund:\nClear.\nZusammenfassung:\nNormal.",
        "HALLAZGOS: Clear. IMPRESIÓN: Normal.",
        "Hallazgos\nClear.\nConclusiones\nNormal.",
        "HALLAZGOS: Clear.\nIMPRESION DIAGNOSTICA: Normal.",
        "RÉSULTATS : Clear.\nCONCLUSION : Normal.",
        "Re\u0301sultats : Clear.\nSynthe\u0300se : Normal.",
    ],
)
def test_a_heading_is_known_however_it_is_written(report):
    assert not_empty(report) == CLEAR


def test_headings_of_one_line_in_title_case():
    report = (
        "Indication: Cough Comparison: None Technique: PA Findings: Clear. "
        "Impression: Normal."
    )
    assert not_empty(report) == CLEAR | {
        "indication": "Cough",
        "comparison": "None",
        "technique": "PA",
    }


@pytest.mark.parametrize(
    ("report", "name"),
    [
        ("RECOMMENDATION(S): CT.", "recommendation"),
        ("Recommendations: CT.", "recommendation"),
        ("Follow-up: CT.", "recommendation"),
        ("EMPFEHLUNG: CT.", "recommendation"),
        ("Recomendaciones: CT.", "recommendation"),
        ("NOTIFICATION: CT.", "notification"),
        ("COMMUNICATION OF CRITICAL RESULTS: CT.", "notification"),
        ("CRITICAL RESULT NOTIFICATION: CT.", "notification"),
        ("ADDENDUM #2: CT.", "addendum"),
        ("ADDENDUM\nCT.", "addendum"),
        ("Nachtrag: CT.", "addendum"),
        ("ELECTRONICALLY SIGNED BY: CT.", "other"),
        ("END OF IMPRESSION: CT.", "other"),
    ],
)
def test_what_follows_the_impression_is_no_part_of_it_nor_of_the_caption(report, name):
    report = f"FINDINGS: Clear.\nIMPRESSION: Normal.\n{report}"
    assert not_empty(report) == CLEAR | {name: "CT."}
    assert rw.pretrain.caption_of(report) == "Normal."


def test_a_report_that_says_nothing_of_the_film_has_no_caption():
    assert rw.pretrain.caption_of("INDICATION: Cough.\nRECOMMENDATION: CT.") == ""
    assert rw.pretrain.caption_of("Clear lungs. RECOMMENDATION: CT.") == "Clear lungs."
    assert rw.pretrain.caption_of("FINDINGS: Clear. IMPRESSION: nan") == "Clear."


@pytest.mark.parametrize(
    "report",
    [
        "The findings are stable. No comparison available. Comparison with CT is "
        "limited.",
        "The impression: none. In comparison: stable.",
        "A patient with a long\nHistory\nof asthma.",
        "THERE IS NO CHANGE\nIN TECHNIQUE AND NO COMPARISON.",
        "Post-procedure: fine. Heart - normal.",
        "Der Befund: gut. Im Vergleich: stabil.",
        "Findings and history were discussed.",
    ],
)
def test_words_of_a_sentence_are_no_headings(report):
    assert not_empty(report) == {"other": " ".join(report.split())}


def test_what_stands_in_brackets_beside_a_heading_is_kept():
    assert (
        not_empty("COMPARISON (CT of 2019): None.")["comparison"]
        == "(CT of 2019): None."
    )


def test_no_word_of_a_real_report_is_lost_but_its_headings():
    try:
        folder = rw.data.fetch("openi-reports", offline=True)
    except rw.data.FetchError:
        pytest.skip("openi-reports isn't in the cache")
    lost = Counter()
    for report in rw.data.reports(folder)["report"]:
        parts = sections(report)
        assert tuple(parts) == NAMES
        lost += words(report) - words(" ".join(parts.values()))
    assert set(lost) == {
        "findings",
        "impression",
        "indication",
        "comparison",
        "history",
    }


def words(text):
    return Counter(re.findall(r"\w+", text.lower()))


@pytest.mark.parametrize(
    "junk",
    [
        "FINDINGS AND ",
        "FINDINGS ",
        "**",
        " \t",
        "Findings\n",
        "- ",
        "impression / ",
        "a. ",
    ],
)
def test_a_long_text_of_half_headings_takes_no_longer_than_its_length(junk):
    start = time.process_time()
    sections(junk * 30_000)
    assert time.process_time() - start < 5


@pytest.mark.parametrize(
    "report",
    [
        "1. FINDINGS: Clear.\n2. IMPRESSION: Normal.",
        "- FINDINGS: Clear.\n- IMPRESSION: Normal.",
        "• Findings: Clear.\n• Impression: Normal.",
        "[FINDINGS] Clear.\n[IMPRESSION] Normal.",
        "FINDINGS (PA/LAT): Clear.\nIMPRESSION (PRELIM): Normal.",
        "FINDINGS: Clear.\nIMP: Normal.",
        "FINDINGS: Clear.\\nIMPRESSION: Normal.",
        "FINDINGS: Clear.<br/>IMPRESSION: Normal.",
        "FINDINGS: Clear._x000D_\nIMPRESSION: Normal._x000D_",
        "FINDINGS:\u200b Clear.\n\ufeffIMPRESSION: Normal.",
        "RÉSULTATS: Clear.\nINTERPRÉTATION: Normal.",
    ],
)
def test_marks_and_brackets_of_a_heading_are_not_left_in_the_text(report):
    assert not_empty(report) == CLEAR


@pytest.mark.parametrize(
    ("after", "section"),
    [
        ("ADDENDUM #1 (01/02/2020): Told.", "addendum"),
        ("ADDENDUM BEGINS\nTold.\nADDENDUM ENDS", "addendum"),
        ("Recommend: Told.", "recommendation"),
        ("RECOMMENDED ACTION: Told.", "recommendation"),
        ("FOLLOW-UP RECOMMENDATIONS: Told.", "recommendation"),
    ],
)
def test_what_follows_an_impression_is_no_part_of_it(after, section):
    parts = not_empty(f"IMPRESSION: Normal.\n{after}")
    assert parts["impression"] == "Normal."
    assert parts[section].endswith("Told.")
