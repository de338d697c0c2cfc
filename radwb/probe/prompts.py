"""Phrases for and against each finding: "there is X", "there is no X", all its ways."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import product

from radwb.findings import FINDINGS
from radwb.findings.devices import NO_DEVICES, device_phrases
from radwb.findings.rows import PARENT, stated, synonyms
from radwb.findings.wide import CALLED, FINE

# chosen on validation patients of the simulator: words of size help, and a normal chest
# denies better than "no X"
POSITIVE = ("{}", "small {}", "moderate {}", "large {}")
NEGATIVE = ("no {}", "there is no {}", "no evidence of {}")
NORMAL = ("no acute cardiopulmonary abnormality", "normal chest radiograph")
# for `wide`: how real reports state, deny, and call a chest normal
WIDE_POSITIVE = (
    "{}.",
    "there is {}.",
    "{} is present.",
    "mild {}.",
    "small {}.",
    "moderate {}.",
    "large {}.",
    "severe {}.",
)
WIDE_NEGATIVE = (
    "no {}.",
    "there is no {}.",
    "no evidence of {}.",
    "negative for {}.",
    "no {} is identified.",
)
WIDE_NORMAL = (
    "no acute cardiopulmonary abnormality.",
    "no acute cardiopulmonary findings.",
    "no acute cardiopulmonary disease.",
    "no acute disease.",
    "no evidence of active disease.",
    "normal chest.",
    "negative chest.",
)
# for `spoken`, chosen there too: how large, which kind, and where
SIZES = ("small", "moderate", "large", "mild", "marked")
SIDES = ("right", "left")
LOBES = (
    "right upper lobe",
    "right middle lobe",
    "right lower lobe",
    "left upper lobe",
    "left lower lobe",
)
# where a finding may be said to lie; one that isn't in `FINDINGS` may lie on a side
PLACES = {"middle": ("",), "side": ("", *SIDES), "lobe": ("", *SIDES, *LOBES)}


@dataclass(frozen=True)
class Prompts:
    """Your phrases that affirm and that deny each finding, for `zero_shot`.

    >>> Prompts.of(["Pneumothorax"]).pair("Pneumothorax")[1][:2]
    ('no pneumothorax', 'there is no pneumothorax')

    Attributes:
        positive, negative: finding -> phrases, each at least one; any words, in any
            number.
    """

    positive: dict[str, tuple[str, ...]] = field(default_factory=dict)
    negative: dict[str, tuple[str, ...]] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        findings: Iterable[str],
        *,
        positive: tuple[str, ...] = POSITIVE,
        negative: tuple[str, ...] = NEGATIVE,
        normal: tuple[str, ...] = NORMAL,
    ) -> "Prompts":
        """Fill templates with each finding's words; `normal` denies all of them.

        Devices are named as reports name them (`radwb.findings`): they have no size,
        "no lines or tubes" denies them, and a chest that is normal but for a pacemaker
        is no denial. A Lung Opacity is asked in its own words.
        """
        affirm = {}
        deny = {}
        for finding in findings:
            words = synonyms(finding)
            affirm[finding] = _filled(positive, words)
            deny[finding] = _filled(negative, words) + tuple(normal)
        if "Support Devices" in affirm and positive is POSITIVE:
            affirm["Support Devices"] = synonyms("Support Devices")
        if "Support Devices" in deny and negative is NEGATIVE:
            deny["Support Devices"] = NO_DEVICES + tuple(normal)
        if "No Finding" in affirm:
            affirm["No Finding"] = tuple(normal)
            deny["No Finding"] = ("abnormal chest radiograph",)
        return cls(affirm, deny)

    @classmethod
    def wide(cls, findings: Iterable[str]) -> "Prompts":
        """Each finding as real reports speak of it, for `pool="pair"`.

        More names, more ways to state and to deny, and what is normal where a finding
        isn't there (`radwb.findings.wide`). For a model that has read such words: real
        reports, or virtual ones of `Dials(wording="wide")`.

        >>> Prompts.wide(["Pneumonia"]).negative["Pneumonia"][-8:-6]
        ('no infiltrate.', 'no acute cardiopulmonary abnormality.')
        """
        pair = cls.of(findings)
        affirm = dict(pair.positive)
        deny = dict(pair.negative)
        for finding in affirm:
            names = CALLED.get(finding, synonyms(finding))
            normal = tuple(f"{text}." for text in FINE.get(finding, ())) + WIDE_NORMAL
            if finding in ("Support Devices", "No Finding"):
                continue
            affirm[finding] = _filled(WIDE_POSITIVE, names)
            deny[finding] = _filled(WIDE_NEGATIVE, names) + normal
        if "No Finding" in affirm:
            affirm["No Finding"] = WIDE_NORMAL
        return cls(affirm, deny)

    @classmethod
    def spoken(cls, findings: Iterable[str]) -> "Prompts":
        """Each finding in every way a report may state it, for `pool="any"`.

        A way has a size or degree, a side or lobe, and a kind. Devices come in every
        place of their tip (`radwb.findings.devices`). A Lung Opacity, CheXpert's
        parent label, is stated by its own words and by any of its children's: who
        reports an edema reports an opacity.

        >>> Prompts.spoken(["Pleural Effusion"]).positive["Pleural Effusion"][7]
        'moderate right pleural effusion.'
        """
        pair = cls.of(findings)
        affirm = dict(pair.positive)
        for finding in affirm:
            if finding != "No Finding":
                affirm[finding] = _ways(finding)
        return cls(affirm, pair.negative)

    def pair(self, finding: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """The phrases for and against one finding.

        Raises:
            ValueError: one side has no phrase.
        """
        affirm = tuple(self.positive.get(finding, ()))
        deny = tuple(self.negative.get(finding, ()))
        if not affirm or not deny:
            phrases = f"{{{finding!r}: [...]}}"
            raise ValueError(
                f"expected phrases for and against {finding!r}, "
                f"got {len(affirm)} and {len(deny)}. "
                f"Try Prompts(positive={phrases}, negative={phrases})"
            )
        return affirm, deny


def _filled(templates, words):
    return tuple(t.format(w) for w in words for t in templates)


def _ways(finding):
    """The phrases that state a finding, or any of its children; none of them twice."""
    phrases = []
    for name in (finding, *PARENT.get(finding, ())):
        phrases += _ways_of_one(name)
    return tuple(dict.fromkeys(phrases))


def _ways_of_one(finding):
    if finding == "Support Devices":
        return [f"{phrase}." for phrase in device_phrases()]
    place = FINDINGS[finding].place if finding in FINDINGS else "side"
    ways = product(("", *SIZES), PLACES[place], stated(finding))
    return [" ".join(word for word in words if word) + "." for words in ways]
