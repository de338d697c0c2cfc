"""Zero-shot by words: is a film nearer to "there is X" or to "there is no X"?

Or, with another pool of the phrases: is it near to any of the ways to report an X?
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

import numpy as np
import pandas as pd
from scipy.special import logsumexp
from tqdm.auto import tqdm

from radwb import data
from radwb.findings import NO_DEVICES, PARENT, TIPS, device_name, device_phrases
from radwb.probe.scores import Scores

if TYPE_CHECKING:  # radwb.models loads torch, which numbers alone don't need
    from radwb.models import Model

# chosen on validation patients of the simulator: words of size help, and a normal chest
# denies better than "no X"
POSITIVE = ("{}", "small {}", "moderate {}", "large {}")
NEGATIVE = ("no {}", "there is no {}", "no evidence of {}")
NORMAL = ("no acute cardiopulmonary abnormality", "normal chest radiograph")
WORDS = {
    "Enlarged Cardiomediastinum": ("enlarged cardiomediastinum", "widened mediastinum"),
    "Cardiomegaly": ("cardiomegaly", "enlarged heart"),
    "Lung Opacity": ("lung opacity", "pulmonary opacity"),
    "Lung Lesion": ("lung nodule", "pulmonary nodule", "lung mass"),
    "Edema": ("pulmonary edema",),
    "Pleural Other": ("pleural thickening",),
    "Fracture": ("rib fracture", "fracture"),
    "Support Devices": tuple(device_name(kind) for kind in TIPS),
}
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
IN_A_LOBE = ("Lung Opacity", "Lung Lesion", "Consolidation", "Pneumonia", "Atelectasis")
# neither right nor left
MIDDLE = ("Enlarged Cardiomediastinum", "Cardiomegaly", "Edema")
TEXTURES = ("solid", "part-solid", "spiculated")
LESIONS = ("lung nodule", "lung mass", "pulmonary nodule", "pulmonary mass")
KINDS = WORDS | {
    "Lung Lesion": (
        *(f"{texture} {lesion}" for texture in TEXTURES for lesion in LESIONS),
        *WORDS["Lung Lesion"],
    ),
    "Edema": (
        "pulmonary edema",
        "interstitial pulmonary edema",
        "alveolar pulmonary edema",
    ),
    "Atelectasis": (
        "atelectasis",
        "basal atelectasis",
        "plate-like atelectasis",
        "volume loss",
    ),
    "Pneumothorax": ("pneumothorax", "apical pneumothorax"),
    "Pleural Other": (
        "pleural thickening",
        "apical pleural thickening",
        "lateral pleural thickening",
    ),
}


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
            words = WORDS.get(finding, (finding.lower(),))
            affirm[finding] = _filled(positive, words)
            deny[finding] = _filled(negative, words) + tuple(normal)
        if "Support Devices" in affirm and positive is POSITIVE:
            affirm["Support Devices"] = WORDS["Support Devices"]
        if "Support Devices" in deny and negative is NEGATIVE:
            deny["Support Devices"] = NO_DEVICES + tuple(normal)
        if "No Finding" in affirm:
            affirm["No Finding"] = tuple(normal)
            deny["No Finding"] = ("abnormal chest radiograph",)
        return cls(affirm, deny)

    @classmethod
    def spoken(cls, findings: Iterable[str]) -> "Prompts":
        """Each finding in every way a report may state it, for `pool="any"`.

        A way has a size or degree, a side or lobe, and a kind. Devices come in every
        place of their tip (`radwb.findings.device_phrases`). A Lung Opacity, CheXpert's
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
    places = [""]
    if finding not in MIDDLE:
        places += SIDES
    if finding in IN_A_LOBE:
        places += LOBES
    kinds = KINDS.get(finding, (finding.lower(),))
    ways = product(("", *SIZES), places, kinds)
    return [" ".join(word for word in words if word) + "." for words in ways]


_cache: WeakKeyDictionary = WeakKeyDictionary()


def text_embeddings(model: "Model", texts: Sequence[str]) -> np.ndarray:
    """(K, E) unit vectors of your texts, to compare with those of images.

    >>> text_embeddings(model, ["edema", "no edema"]).shape
    (2, 192)

    Each is encoded once, as long as the model's weights stay as they are.

    Args:
        model: an image-text Model.
        texts: K of them.
    """
    import torch

    # goes up with every step of an optimiser
    version = tuple(weights._version for weights in model.net.parameters())
    encoded_version, encoded = _cache.get(model, (None, {}))
    if encoded_version != version:
        encoded = {}
        _cache[model] = version, encoded
    new = [text for text in dict.fromkeys(texts) if text not in encoded]
    if new:
        with torch.no_grad():
            vectors = model.encode_text(new).float().cpu().numpy()
        encoded.update(zip(new, vectors, strict=True))
    return np.stack([encoded[text] for text in texts])


def class_embedding(model: "Model", texts: Sequence[str]) -> np.ndarray:
    """(E,) your phrases as one unit vector: the mean of theirs, made unit again.

    >>> class_embedding(model, ["edema", "pulmonary edema"]).shape
    (192,)

    Args:
        model: an image-text Model.
        texts: the phrases of one class.
    """
    mean = text_embeddings(model, texts).mean(axis=0)
    return mean / np.linalg.norm(mean)


def zero_shot(
    model: "Model",
    table: pd.DataFrame,
    findings: Iterable[str] | None = None,
    *,
    prompts: Prompts | None = None,
    pool: str = "pair",
    embeddings: np.ndarray | None = None,
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
            f"expected an image-text model, got {model.name!r} of kind {model.kind!r}. "
            "Try linear_probe"
        )
    if pool not in POOLS:
        raise ValueError(f"expected pool {', '.join(map(repr, POOLS))}, got {pool!r}")
    findings = data.findings_of(table) if findings is None else list(findings)
    if not findings:
        raise ValueError(
            "expected findings to ask for, got none: the table has no label columns. "
            'Try ["Pneumothorax"]'
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
    """(N, K) log odds of the phrases for against those against, by their means."""
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


def classify(model: "Model", table: pd.DataFrame, *, batch: int = 32) -> Scores:
    """Probability of each finding from your model's own supervised head.

    >>> supervised = rw.models.supervised_tiny(["Edema", "Pneumothorax"])
    >>> list(classify(supervised, table).values)
    ['Edema', 'Pneumothorax']

    Args:
        model: a Model with a head; `model.findings` names its outputs.
        table: rows to score; findings it has no label column for are left out, unless
            it has none at all.
        batch: images at a time.
    Raises:
        ValueError: the model has no head.
    """
    import torch

    from radwb.models.model import autocast

    if not model.findings:
        raise ValueError(
            f"expected a model with a classifier head, got {model.name!r} without. "
            "Try linear_probe"
        )
    images = data.images(table, model.size, fit=model.fit)
    starts = tqdm(range(0, len(images), batch), "classifying", delay=2, leave=False)
    parts = []
    with torch.no_grad(), autocast(model.device):
        for start in starts:
            x = model.preprocess(images[start : start + batch])
            parts.append(model.classify(x).float().cpu())
    probabilities = _sigmoid(torch.cat(parts).numpy())
    values = pd.DataFrame(probabilities, columns=list(model.findings))
    labelled = [finding for finding in model.findings if finding in table.columns]
    findings = labelled or list(model.findings)
    return Scores.of(values[findings], table, findings)


def embeddings_of(model, table, embeddings=None) -> np.ndarray:
    """(N, E) image embeddings: those given, if they fit the table, else computed.

    An array in the place of the model counts as given.
    """
    if isinstance(model, np.ndarray):
        embeddings = model
    if embeddings is None:
        from radwb import models

        embeddings = models.embed(model, table)
    Z = np.asarray(embeddings)
    if len(Z) != len(table):
        raise ValueError(
            f"expected one embedding a row, got {len(Z)} for {len(table)} rows"
        )
    return Z


def _sigmoid(x):
    small = np.exp(-np.abs(x))  # no overflow on either side
    return np.where(x >= 0, 1 / (1 + small), small / (1 + small))
