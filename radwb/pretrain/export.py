"""For runs that outgrow `fit`: the same pairs and architecture for open_clip_train."""

import json
import shlex
from pathlib import Path

import pandas as pd

from radwb import data
from radwb.models.clips import CONFIG
from radwb.models.tiny import GREY, SHAPE, TEXT_SHAPE
from radwb.pretrain.captions import caption_of
from radwb.pretrain.fit import BATCH, EPOCHS, LR
from radwb.pretrain.loop import CLIP_NORM, WARMUP, WEIGHT_DECAY
from radwb.pretrain.rows import seen_by_a_run

# of open_clip's own tokenizer
VOCABULARY = 49408
CONTEXT = 77
MOST_ROWS = 1000  # of a shard
TRAIN = """\
#!/bin/sh
# Needs webdataset 0.2 (pip install 'webdataset==0.2.86'; open_clip 3.3 fails with 1.0).
# On GPUs: GPUS=8 sh train.sh; batch-size is that of one of them. \
On a CPU: sh train.sh --precision fp32
cd "$(dirname "$0")"
torchrun --nproc_per_node "${{GPUS:-1}}" -m open_clip_train.main \\
  {options} \\
  --local-loss --gather-with-grad "$@"
"""


def export_open_clip(
    table: pd.DataFrame,
    out: str | Path,
    *,
    epochs: int = EPOCHS,
    batch: int = BATCH,
    lr: float = LR,
    size: int | None = None,
    shape: dict | None = None,
    shards: int = 16,
) -> Path:
    """Write what open_clip_train needs: shards, a configuration of the model, train.sh.

    >>> export_open_clip(table, "exported").name  # then: sh exported/train.sh
    'exported'

    The architecture is that of "clip-tiny" as far as open_clip's configurations go: a
    plain ViT of the same size, which cuts patches where radwb has a convolutional stem,
    sees three channels, and reads open_clip's own tokens. A checkpoint comes back as
    model.pt in the folder model/, which is a model then:
    `cp logs/radwb/checkpoints/epoch_10.pt model/model.pt` in the exported folder, and
    `rw.models.load("exported/model")`.

    Args:
        table: needs path, patient_id, split and report; a text is the caption that
            `fit` pairs an image with.
        out: the folder; train/ and val/ have the shards, model/ the configuration.
        epochs, batch, lr, size, shape: as in `fit`; they go into train.sh and the
            configuration.
        shards: at least so many of each split, since open_clip_train wants one for each
            of its loading processes.
    Returns:
        the folder.
    Raises:
        ValueError: no row has split "train" and a report, or as in `fit`.
    """
    out = Path(out).resolve()
    places, _ = seen_by_a_run(table, columns=("report", "split"))
    table = table.iloc[places]
    counts = {}
    for split in ("train", "val"):
        rows = table[table["split"] == split]
        rows = rows.assign(report=rows["report"].map(caption_of))
        per_shard = max(1, min(MOST_ROWS, len(rows) // shards))
        written = data.write_shards(rows, out / split, per_shard=per_shard, columns=[])
        counts[split] = len(rows), len(written)
    if not counts["train"][0]:
        raise ValueError("expected rows with split 'train' and a report, got none")
    (out / "model").mkdir(exist_ok=True)
    shape = SHAPE | TEXT_SHAPE | (shape or {})
    if size:
        shape["size"] = size
    config = json.dumps(_open_clip_config(shape), indent=1)
    (out / "model" / CONFIG).write_text(config)
    options = _options(counts, epochs, batch, lr)
    words = [f"--{name} {shlex.quote(str(value))}" for name, value in options.items()]
    (out / "train.sh").write_text(TRAIN.format(options=" \\\n  ".join(words)))
    return out


def _open_clip_config(shape: dict) -> dict:
    """`rw.models.tiny.SHAPE | TEXT_SHAPE` as open_clip writes a model down."""
    vision = {
        "image_size": shape["size"],
        "layers": shape["layers"],
        "width": shape["width"],
        "patch_size": shape["patch"],
        "head_width": shape["width"] // shape["heads"],
        "pool_type": "avg",
    }
    text = {
        "context_length": CONTEXT,
        "vocab_size": VOCABULARY,
        "width": shape["text_width"],
        "heads": shape["text_heads"],
        "layers": shape["text_layers"],
    }
    towers = {"embed_dim": shape["embed"], "vision_cfg": vision, "text_cfg": text}
    preprocess = {
        "mean": [GREY["mean"][0]] * 3,
        "std": [GREY["std"][0]] * 3,
        "resize_mode": "longest",
    }
    return {"model_cfg": towers, "preprocess_cfg": preprocess}


def _options(counts, epochs, batch, lr) -> dict:
    """Of open_clip_train; paths are relative, so that the folder may be copied."""
    n, shards = counts["train"]
    n_val, shards_val = counts["val"]
    options = {
        "train-data": _tars("train", shards),
        "train-num-samples": n,
        "dataset-type": "webdataset",
    }
    if n_val:
        options |= {"val-data": _tars("val", shards_val), "val-num-samples": n_val}
    return options | {
        "model": "local-dir:model",
        "epochs": epochs,
        "batch-size": batch,
        "lr": lr,
        "beta1": 0.9,
        "beta2": 0.98,
        "eps": 1e-6,
        "wd": WEIGHT_DECAY,
        "warmup": max(1, int(WARMUP * epochs * (n // batch))),
        "grad-clip-norm": CLIP_NORM,
        "precision": "amp_bf16",
        "workers": max(1, min(4, shards, shards_val or shards)),
        "name": "radwb",
    }


def _tars(split, n) -> str:
    return f"{split}/shard-{{000000..{n - 1:06d}}}.tar"
