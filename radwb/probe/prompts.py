"""Zero-shot by words: nearer to "there is X" than to "there is no X", or near to any of
the ways to report an X?
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import product
from weakref import WeakKeyDictionary

import numpy as np
from scipy.special import logsumexp
from tqdm.auto import tqdm

from radwb import data
from radwb.findings import FINDINGS
from radwb.findings.devices import NO_DEVICES, device_phrases
from radwb.findings.rows import PARENT, stated, synonyms
from radwb.probe.scores import Scores

# chosen on validation patients of the simulator: words of size help, and a normal chest
# denies better than "no X"
POSITIVE = ("{}", "small {}", "moderate {}", "large {}")
NEGATIVE = ("no {}", "there is no {}", "no evidence of {}")
NORMAL = ("no acute cardiopulmonary abnormality", "normal chest radiograph")
POOLS = ("pair", "any", "both")
# chosen on the simulator's validation patients and half of two real sets'
# (benchmarks/pools.py), for older weights: for the next one it did not hold on
# children's films, so nothing asks this way by default
WEIGHT_OF_PAIR = 0.5
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
    """Phrases that affirm and phrases that deny each finding.

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
        positive=POSITIVE,
        negative=NEGATIVE,
        normal=NORMAL,
    ) -> "Prompts":
        """Fill templates with each finding's words; `normal` denies every finding at
        once.

        Devices are named as reports name them (`radwb.findings`): they have no size,
        "no lines or tubes" denies them, and a chest that is normal but for a pacemaker
        is no denial. A Lung Opacity is asked in its own words.
        """
        words = {f: synonyms(f) for f in findings}
        fill = {
            f: tuple(t.format(w) for w in words[f] for t in positive) for f in words
        }
        deny = {
            f: tuple(t.format(w) for w in words[f] for t in negative) + tuple(normal)
            for f in words
        }
        if "Support Devices" in words and positive is POSITIVE:
            fill["Support Devices"] = words["Support Devices"]
        if "Support Devices" in words and negative is NEGATIVE:
            deny["Support Devices"] = NO_DEVICES + tuple(normal)
        if "No Finding" in words:
            fill["No Finding"], deny["No Finding"] = (
                tuple(normal),
                ("abnormal chest radiograph",),
            )
        return cls(fill, deny)

    @classmethod
    def spoken(cls, findings: Iterable[str]) -> "Prompts":
        """Each finding in every way a report may state it: size or degree, side or
        lobe, kind. For `pool="any"`.

        Devices come in every place of their tip (`radwb.findings.devices`). A Lung
        Opacity, CheXpert's parent label, is stated by its own words and by any of
        its children's: who reports an edema reports an opacity.

        >>> Prompts.spoken(["Pleural Effusion"]).positive["Pleural Effusion"][7]
        'moderate right pleural effusion.'
        """
        pair = cls.of(findings)
        ways = {f: _ways(f) for f in pair.positive if f != "No Finding"}
        return cls(pair.positive | ways, pair.negative)

    def pair(self, finding: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """The phrases for and against one finding.

        Raises:
            ValueError: one side has no phrase.
        """
        sides = (
            tuple(self.positive.get(finding, ())),
            tuple(self.negative.get(finding, ())),
        )
        if not all(sides):
            raise ValueError(
                f"expected phrases for and against {finding!r}, got {len(sides[0])} and {len(sides[1])}. "
                f"Try Prompts(positive={{{finding!r}: [...]}}, negative={{{finding!r}: [...]}})"
            )
        return sides


def _ways(finding):
    """The phrases that state a finding, or any of its children; none of them twice."""
    family = (finding, *PARENT.get(finding, ()))
    return tuple(dict.fromkeys(phrase for name in family for phrase in _own_ways(name)))


def _own_ways(finding):
    if finding == "Support Devices":
        return [f"{phrase}." for phrase in device_phrases()]
    place = FINDINGS[finding].place if finding in FINDINGS else "side"
    return [
        " ".join(w for w in words if w) + "."
        for words in product(("", *SIZES), PLACES[place], stated(finding))
    ]


_cache: WeakKeyDictionary = WeakKeyDictionary()


def text_embeddings(model, texts) -> np.ndarray:
    """(K, E) unit vectors of the texts, each encoded once as long as the model's
    weights stay as they are.
    """
    import torch

    version = tuple(
        p._version for p in model.net.parameters()
    )  # goes up with every step of an optimiser
    known_version, known = _cache.get(model, (None, {}))
    if known_version != version:
        known = {}
        _cache[model] = version, known
    new = [t for t in dict.fromkeys(texts) if t not in known]
    if new:
        with torch.no_grad():
            known.update(
                zip(new, model.encode_text(new).float().cpu().numpy(), strict=True)
            )
    return np.stack([known[t] for t in texts])


def class_embedding(model, texts) -> np.ndarray:
    """(E,) the unit vector of a class: the mean of its phrases' unit vectors, made unit
    again.
    """
    mean = text_embeddings(model, texts).mean(axis=0)
    return mean / np.linalg.norm(mean)


def zero_shot(
    model,
    table,
    findings=None,
    *,
    prompts: Prompts | None = None,
    pool="pair",
    embeddings=None,
) -> Scores:
    """Score each finding from text alone.

    >>> zero_shot(model, table, ["Pneumothorax"]).auroc()
    >>> zero_shot(model, table, ["Pneumothorax"], pool="both").auroc()

    Which pool to take: "pair" on films from anywhere; "any" only on films like those
    the model was trained on. A film of another kind may lie nearer to all sentences, or
    farther from them, and only a difference of sentences takes that out; or the denials
    carry to it and the statements don't. "both" was meant to mend it: with the weights
    that it was chosen on it was as good as a pair on children's real films, with the
    next ones it lay between the two. `benchmarks/pools.py` measures all of it for the
    weights at hand.

    Args:
        model: an image-text Model.
        table: rows to score, with a label column a finding where they have labels;
            without, there are scores and no AUROC, whose note says so.
        findings: names; None takes all label columns that the table has.
        prompts: phrases for and against; None takes `Prompts.of(findings)` for "pair",
            `Prompts.spoken(findings)` for "any", and each of them where it belongs for
            "both".
        pool: "pair", the softmax over the mean of the phrases for and the mean of those
            against, as in CheXzero (Tiu et al., Nat Biomed Eng 2022, doi
            10.1038/s41551-022-00936-9), whose code takes it of the bare cosines; the
            model's own logit scale here changes probabilities, not ranks. "any", the
            log of the mean likelihood of the phrases for, at that scale: one that fits
            is enough, and none stands against it. "both", that plus half of the pair's
            log odds: said in any way, and not denied.
        embeddings: (N, E) from `rw.models.embed(model, table)`, when they're at hand
            already.
    Returns:
        Scores: probabilities of a pair; of "any" and "both" what ranks images and is no
            probability.
    Raises:
        ValueError: the model reads no text, a finding has no phrase, or pool is
            something else.
    """
    if model.kind != "image-text":
        raise ValueError(
            f"expected an image-text model, got {model.name!r} of kind {model.kind!r}. Try linear_probe"
        )
    if pool not in POOLS:
        raise ValueError(f"expected pool {', '.join(map(repr, POOLS))}, got {pool!r}")
    findings = list(findings) if findings is not None else data.findings_of(table)
    if not findings:
        raise ValueError(
            'expected findings to ask for, got none: the table has no label columns. Try ["Pneumothorax"]'
        )
    Z = embeddings_of(model, table, embeddings)
    if pool == "pair":
        odds = _pair_odds(model, Z, prompts or Prompts.of(findings), findings)
        return Scores.of(_sigmoid(odds), table, findings)  # the softmax of a pair
    values = _any_way(model, Z, prompts or Prompts.spoken(findings), findings)
    if pool == "both":
        odds = _pair_odds(model, Z, prompts or Prompts.of(findings), findings)
        values = values + WEIGHT_OF_PAIR * odds
    return Scores.of(values, table, findings)


def _pair_odds(model, Z, prompts, findings):
    """(N, K) log odds of the phrases for against those against, each side's mean made
    unit.
    """
    toward = []
    for finding in findings:
        yes, no = prompts.pair(finding)
        toward.append(class_embedding(model, yes) - class_embedding(model, no))
    return float(model.logit_scale) * Z @ np.stack(toward).T  # (K, E)


def _any_way(model, Z, prompts, findings):
    """(N, K) log of the mean likelihood of the phrases for."""
    values = []
    for finding in findings:
        phrases = text_embeddings(model, prompts.pair(finding)[0])
        values.append(logmeanexp(float(model.logit_scale) * Z @ phrases.T))
    return np.stack(values, axis=1)


def logmeanexp(logits) -> np.ndarray:
    """(N, K) -> (N,) log of the mean of exp, without overflow."""
    return logsumexp(logits, axis=1) - np.log(logits.shape[1])


def classify(model, table, *, batch=32) -> Scores:
    """Probability of each finding from the model's own supervised head.

    Args:
        model: a Model with a head; `model.findings` names its outputs.
        table: rows to score; findings it has no label column for are left out, unless
            it has none at all.
    """
    import torch

    from radwb.models.model import autocast

    if not model.findings:
        raise ValueError(
            f"expected a model with a classifier head, got {model.name!r} without. Try linear_probe"
        )
    images = data.images(table, model.size, fit=model.fit)
    with torch.no_grad(), autocast(model.device):
        parts = [
            model.classify(model.preprocess(images[i : i + batch])).float().cpu()
            for i in tqdm(
                range(0, len(images), batch), "classifying", delay=2, leave=False
            )
        ]
    there = [k for k, f in enumerate(model.findings) if f in table.columns]
    there = there or list(range(len(model.findings)))
    return Scores.of(
        _sigmoid(torch.cat(parts).numpy())[:, there],
        table,
        [model.findings[k] for k in there],
    )


def embeddings_of(model, table, embeddings=None) -> np.ndarray:
    """(N, E) image embeddings: those given (in the place of the model, too), if they
    fit the table, else computed.
    """
    if isinstance(model, np.ndarray):
        embeddings = model
    if embeddings is None:
        from radwb import models  # loads torch, which numbers alone don't need

        embeddings = models.embed(model, table)
    Z = np.asarray(embeddings)
    if len(Z) != len(table):
        raise ValueError(
            f"expected one embedding a row, got {len(Z)} for {len(table)} rows"
        )
    return Z


def _sigmoid(x):
    return np.where(
        x >= 0,
        1 / (1 + np.exp(-np.abs(x))),
        np.exp(-np.abs(x)) / (1 + np.exp(-np.abs(x))),
    )
