"""Zero-shot with paired prompts: does the image lie nearer to "there is X" or to "there is no X"?"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from weakref import WeakKeyDictionary

import numpy as np
from tqdm.auto import tqdm

from radwb import data
from radwb.probe.scores import Scores

# chosen on validation patients of the simulator: words of size help, and a normal chest denies better than "no X"
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
    "Support Devices": ("support device", "tube or line"),
}


@dataclass(frozen=True)
class Prompts:
    """Phrases that affirm and phrases that deny each finding.

    >>> Prompts.of(["Pneumothorax"]).pair("Pneumothorax")[1][:2]
    ('no pneumothorax', 'there is no pneumothorax')

    Attributes:
        positive, negative: finding -> phrases, each at least one; any words, in any number.
    """

    positive: dict[str, tuple[str, ...]] = field(default_factory=dict)
    negative: dict[str, tuple[str, ...]] = field(default_factory=dict)

    @classmethod
    def of(cls, findings: Iterable[str], *, positive=POSITIVE, negative=NEGATIVE, normal=NORMAL) -> "Prompts":
        """Fill templates with each finding's words; `normal` denies every finding at once."""
        words = {f: WORDS.get(f, (f.lower(),)) for f in findings}
        fill = {f: tuple(t.format(w) for w in words[f] for t in positive) for f in words}
        deny = {f: tuple(t.format(w) for w in words[f] for t in negative) + tuple(normal) for f in words}
        if "No Finding" in words:
            fill["No Finding"], deny["No Finding"] = tuple(normal), ("abnormal chest radiograph",)
        return cls(fill, deny)

    def pair(self, finding: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """The phrases for and against one finding.

        Raises:
            ValueError: one side has no phrase.
        """
        sides = tuple(self.positive.get(finding, ())), tuple(self.negative.get(finding, ()))
        if not all(sides):
            raise ValueError(
                f"expected phrases for and against {finding!r}, got {len(sides[0])} and {len(sides[1])}. "
                f"Try Prompts(positive={{{finding!r}: [...]}}, negative={{{finding!r}: [...]}})"
            )
        return sides


_cache: WeakKeyDictionary = WeakKeyDictionary()


def text_embeddings(model, texts) -> np.ndarray:
    """(K, E) unit vectors of the texts, each encoded once as long as the model's weights stay as they are."""
    import torch

    version = tuple(p._version for p in model.net.parameters())  # goes up with every step of an optimiser
    known_version, known = _cache.get(model, (None, {}))
    if known_version != version:
        known = {}
        _cache[model] = version, known
    new = [t for t in dict.fromkeys(texts) if t not in known]
    if new:
        with torch.no_grad():
            known.update(zip(new, model.encode_text(new).float().cpu().numpy(), strict=True))
    return np.stack([known[t] for t in texts])


def class_embedding(model, texts) -> np.ndarray:
    """(E,) the unit vector of a class: the mean of its phrases' unit vectors, made unit again."""
    mean = text_embeddings(model, texts).mean(axis=0)
    return mean / np.linalg.norm(mean)


def zero_shot(model, table, findings=None, *, prompts: Prompts | None = None, embeddings=None) -> Scores:
    """Probability of each finding from text alone: softmax over its pair of class embeddings.

    >>> zero_shot(model, table, ["Pneumothorax"]).auroc()

    The method of CheXzero (Tiu et al., Nat Biomed Eng 2022, doi 10.1038/s41551-022-00936-9), whose code
    takes the softmax of the bare cosines; the model's own logit scale here changes probabilities, not ranks.

    Args:
        model: an image-text Model.
        table: rows to score, with a label column a finding.
        findings: label columns; None takes all that the table has.
        prompts: phrases for and against; None takes `Prompts.of(findings)`.
        embeddings: (N, E) from `rw.models.embed(model, table)`, when they're at hand already.
    Returns:
        Scores with probabilities.
    """
    if model.kind != "image-text":
        raise ValueError(f"expected an image-text model, got {model.name!r} of kind {model.kind!r}. Try linear_probe")
    findings = list(findings) if findings is not None else data.findings_of(table)
    prompts = prompts or Prompts.of(findings)
    pairs = [[class_embedding(model, side) for side in prompts.pair(f)] for f in findings]
    toward = np.stack([yes - no for yes, no in pairs])  # (K, E)
    Z = embeddings_of(model, table, embeddings)
    return Scores.of(_sigmoid(float(model.logit_scale) * Z @ toward.T), table, findings)  # softmax of a pair


def classify(model, table, *, batch=32) -> Scores:
    """Probability of each finding from the model's own supervised head.

    Args:
        model: a Model with a head; `model.findings` names its outputs.
        table: rows to score; findings it has no label column for are left out.
    """
    import torch

    from radwb.models.model import autocast

    if not model.findings:
        raise ValueError(f"expected a model with a classifier head, got {model.name!r} without. Try linear_probe")
    images = data.images(table, model.size, fit=model.fit)
    with torch.no_grad(), autocast(model.device):
        parts = [
            model.classify(model.preprocess(images[i : i + batch])).float().cpu()
            for i in tqdm(range(0, len(images), batch), "classifying", delay=2, leave=False)
        ]
    there = [k for k, f in enumerate(model.findings) if f in table.columns]
    return Scores.of(_sigmoid(torch.cat(parts).numpy())[:, there], table, [model.findings[k] for k in there])


def embeddings_of(model, table, embeddings=None) -> np.ndarray:
    """(N, E) image embeddings: those given, once their number fits the table, else computed."""
    if embeddings is None:
        from radwb import models  # loads torch, which numbers alone don't need

        embeddings = models.embed(model, table)
    Z = np.asarray(embeddings)
    if len(Z) != len(table):
        raise ValueError(f"expected one embedding a row, got {len(Z)} for {len(table)} rows")
    return Z


def _sigmoid(x):
    return np.where(x >= 0, 1 / (1 + np.exp(-np.abs(x))), np.exp(-np.abs(x)) / (1 + np.exp(-np.abs(x))))
