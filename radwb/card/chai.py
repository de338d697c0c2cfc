"""A card as the Coalition for Health AI's applied model card, mc-schema 0.2 (XML)."""

import json
import re
from importlib.util import find_spec
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

NAMESPACE = "https://mc.chai.org/v0.2/schema.xsd"
SCHEMA = Path(__file__).parent / "mc-schema-0.2" / "schema.xsd"
SIGNATURE = "http://www.w3.org/2000/09/xmldsig#"
UNKNOWN = "Not stated."
# what XML 1.0 can't hold, whatever it is escaped to
NO_LETTERS = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
FAIR = ("group", "shortcut", "slice")
USEFUL = ("capability", "readers")


def xml(card) -> str:
    """The XML of a card; a field that the run knows nothing of says so.

    Args:
        card: a `Card`.
    """
    top = ElementTree.Element("AppliedModelCard", xmlns=NAMESPACE)
    _fill(top, _fields(card))
    ElementTree.indent(top)
    body = ElementTree.tostring(top, encoding="unicode")
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + body + "\n"


def _fill(element, fields):
    """Elements of a nested dict, in its order; a list repeats an element."""
    for name, value in fields.items():
        for item in value if isinstance(value, list) else [value]:
            child = ElementTree.SubElement(element, name)
            if isinstance(item, dict):
                _fill(child, item)
            else:
                child.text = NO_LETTERS.sub("\ufffd", str(item))


def _fields(card):
    """What the schema asks for, in its order."""
    made_by = f"radwb {card.software['radwb']}, rw.card.evidence_card"
    return {
        "BasicInfo": {
            "ModelName": card.model.name,
            "ModelDeveloper": UNKNOWN,
            "DeveloperContact": UNKNOWN,
        },
        "ReleaseInfo": {
            "ReleaseStage": "Research",
            "ReleaseDate": UNKNOWN,
            "ReleaseVersion": f"SHA-256 of its weights {card.model.sha256}",
            "GlobalAvailability": f"Licence: {card.model.licence}",
            "RegulatoryApproval": "None. Not for clinical use.",
        },
        "ModelSummary": {
            "Summary": card.summary,
            "Keywords": {"Keyword": ["radiology", card.model.kind]},
        },
        "UsesAndDirections": _uses(card),
        "Warnings": _warnings(card),
        "TrustIngredients": _ingredients(card),
        "KeyMetrics": _metrics(card),
        "Resources": {
            "EvaluationReferences": made_by,
            "PeerReviewedPublications": UNKNOWN,
            "PatientConsentOrDisclosure": UNKNOWN,
        },
        "Bibliography": UNKNOWN,
    }


def _uses(card):
    when = [a.answer for a in card.answers if a.question == "When"]
    return {
        "IntendedUseAndWorkflow": card.use,
        "PrimaryIntendedUsers": "Teachers, students and researchers.",
        "HowToUse": f"Input: {card.model.input}.",
        "TargetedPatientPopulation": "None.",
        "CautionedOutOfScopeSettings": " ".join(["Any clinical setting.", *when]),
    }


def _warnings(card):
    why_not = [a.answer for a in card.answers if a.question == "Why not"]
    unfair = [row.sentence for row in card.of("failure") if row.kind in FAIR]
    return {
        "KnownRisksAndLimitations": " ".join(why_not),
        "KnownBiasesOrEthicalConsiderations": _sentences(unfair, "None was found."),
        "ClinicalRiskLevel": "Not for clinical use.",
    }


def _ingredients(card):
    data = card.data
    mended = [row.sentence for row in card.evidence if row.kind == "mitigation"]
    findings = ", ".join(card.model.findings) or "features"
    if card.model.kind == "image-text":
        findings = "how well a film fits to a text"
    return {
        "AISystemFacts": {
            "OutcomesAndOutputs": findings,
            "ModelType": f"{card.model.kind}, {card.model.weights} weights",
            "InputDataSource": "Radiographs.",
            "OutputAndInputDataTypes": card.model.input,
            "DevelopmentDataCharacterization": _sentences(card.model.notes, UNKNOWN),
            "BiasMitigationApproaches": _sentences(mended, "None was tried."),
            "OngoingMaintenance": UNKNOWN,
            "Transparency": f"Tried on {data.films} films of {data.patients} patients.",
        },
        "TransparencyInformation": {
            "FundingSource": UNKNOWN,
            "StakeholdersConsulted": UNKNOWN,
        },
    }


def _metrics(card):
    """The evidence, dealt out to the schema's three kinds."""
    useful = [row for row in card.evidence if row.kind in USEFUL]
    fair = [row for row in card.evidence if row.kind in FAIR]
    safe = [row for row in card.evidence if row.kind not in (*USEFUL, *FAIR)]
    return {
        "UsefulnessUsabilityEfficacy": _metric(card, "What it can tell", useful),
        "FairnessEquity": _metric(card, "Whether it is alike for all groups", fair),
        "SafetyReliability": _metric(card, "Whether it can be trusted", safe),
    }


def _metric(card, goal, rows):
    results = [{"Label": row.tried, "ValueJson": _value(row)} for row in rows]
    nothing = {"Label": "Not tested", "ValueJson": "null"}
    return {
        "MetricGoal": goal,
        "Results": {"MetricResult": results or [nothing]},
        "Interpretation": _sentences([row.sentence for row in rows], "Not tested."),
        "TestType": "Retrospective, on a table of films with labels.",
        "TestingDataDescription": (
            f"{card.data.films} films of {card.data.patients} patients: "
            f"{card.data.chosen}."
        ),
        "ValidationProcessAndJustification": "Intervals by patient.",
    }


def _value(row):
    names = ("measure", "value", "low", "high", "n", "unit", "verdict", "control")
    values = {}
    for name in names:
        value = getattr(row, name)
        missing = isinstance(value, float) and np.isnan(value)
        values[name] = None if missing else value
    return json.dumps(values)


def _sentences(sentences, otherwise):
    return "; ".join(sentences) or otherwise


def check(text: str) -> None:
    """Hold an XML against CHAI's schema, where lxml is there to do it.

    >>> check(card.to_xml())

    Raises:
        ValueError: with the schema's words.
    """
    if find_spec("lxml") is None:
        return
    from lxml import etree

    parser = etree.XMLParser(no_network=True, resolve_entities=False)
    schema = etree.parse(SCHEMA, parser).getroot()
    # the signature's schema lies on the network, and we sign nothing
    for element in schema.xpath(
        "//*[@namespace=$it] | //*[@ref='ds:Signature']", it=SIGNATURE
    ):
        element.getparent().remove(element)
    try:
        etree.XMLSchema(schema).assertValid(etree.fromstring(text.encode(), parser))
    except etree.LxmlError as error:
        raise ValueError(
            f"expected an applied model card as {SCHEMA.name} has it, got {error}"
        ) from error
