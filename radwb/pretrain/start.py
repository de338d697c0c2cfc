"""The model that a run starts from."""

import pandas as pd

from radwb import data, models
from radwb.models.tiny import SHAPE
from radwb.pretrain.recipes import RECIPES

CONTEXT = 64  # tokens that a text may have


def starting_model(
    rows: pd.DataFrame, recipe, seed, size, shape, context, start, extra_texts
) -> models.Model:
    """A model with random weights, or that in the folder `start`.

    Arguments are as in `fit`.

    Raises:
        ValueError: the settings don't fit the recipe or the start.
    """
    shape = dict(shape or {})
    if size:
        shape["size"] = size
    builds = RECIPES[recipe].builds
    findings = data.findings_of(rows) if builds == "findings" else []
    with_text = builds == "image-text"
    if context and not with_text:
        raise ValueError(
            f"expected no context, since {recipe} reads no text; got {context}"
        )
    if start is None and with_text:
        tokenizer = _tokenizer(rows, context, extra_texts)
        return models.clip_tiny(tokenizer, seed=seed, shape=shape)
    if start is None:
        return models.supervised_tiny(findings, seed=seed, shape=shape)
    model = models.load(start)
    _require_its_own(model, start, context, shape)
    if not with_text:
        return _classifier(model, findings, seed)
    if model.kind != "image-text":
        raise ValueError(
            f"expected an image-text model to start from, got {start}. "
            "Try recipe='supervised-tiny'."
        )
    return model


def _tokenizer(rows, context, extra_texts):
    learn = rows[rows["split"] == "train"]
    return models.Tokenizer.train(
        learn["report"],
        patients=learn["patient_id"],  # a word that few share may be a name
        public=extra_texts,
        context=context or CONTEXT,
    )


def _require_its_own(model, start, context, shape):
    """Refuse a context or a shape beside a model that has its own."""
    if context not in (None, model.spec.get("context")):
        raise ValueError(
            f"expected no context beside start, got {context}; {start} has its own"
        )
    if shape and shape != {"size": model.size}:
        raise ValueError(
            f"expected no shape or size beside start, got {shape}; "
            f"{start} has its own ({model.size} px)"
        )


def _classifier(model, findings, seed):
    """The image tower of a run under a new head."""
    if model.spec.get("builder") not in ("clip-tiny", "supervised-tiny"):
        raise ValueError(
            f"expected a clip-tiny run to start from, got {model.name}. "
            "Try rw.probe.linear_probe."
        )
    shape = {name: model.spec["shape"][name] for name in SHAPE}
    fresh = models.supervised_tiny(findings, seed=seed, shape=shape)
    fresh.net.visual = model.net.visual
    fresh.tone = model.tone
    return fresh
