"""For runs that outgrow `fit`: the same pairs and architecture for open_clip_train, and
its checkpoints back.
"""

import json
import shlex
import shutil
from pathlib import Path

import pandas as pd
from safetensors.torch import save_file

from radwb import data, models
from radwb.models.clips import CONFIG
from radwb.models.sources import read_weights
from radwb.models.tiny import GREY, SHAPE, TEXT_SHAPE
from radwb.pretrain.captions import caption_of
from radwb.pretrain.rows import seen_by_a_run

VOCABULARY, CONTEXT = 49408, 77  # of open_clip's own tokenizer


def export_open_clip(
    table: pd.DataFrame,
    out: str | Path,
    *,
    epochs: int = 10,
    batch: int = 64,
    lr: float = 1e-3,
    size: int | None = None,
    shape: dict | None = None,
    shards: int = 16,
) -> Path:
    """Write what open_clip_train needs: train/ and val/ shards,
    model/open_clip_config.json, and train.sh.

    >>> export_open_clip(table, "exported")            # then: sh exported/train.sh

    The architecture is that of "clip-tiny" as far as open_clip's configurations go: a
    plain ViT of the same size, which cuts patches where radwb has a convolutional stem,
    sees three channels, and reads open_clip's own tokens.

    Args:
        table: needs path, patient_id, split and report; a text is the caption that
            `fit` pairs an image with.
        epochs, batch, lr, size, shape: as in `fit`; they go into train.sh and the
            configuration.
        shards: at least so many of each split, since open_clip_train wants one for each
            of its loading processes.
    Returns:
        the folder.
    """
    out = Path(out).resolve()
    table = table.iloc[seen_by_a_run(table, columns=("report", "split"))[0]]
    counts = {}
    for split in ("train", "val"):
        rows = table[table["split"] == split]
        rows = rows.assign(report=rows["report"].map(caption_of))
        written = data.write_shards(
            rows,
            out / split,
            per_shard=max(1, min(1000, len(rows) // shards)),
            columns=[],
        )
        counts[split] = len(rows), len(written)
    if not counts["train"][0]:
        raise ValueError("expected rows with split 'train' and a report, got none")
    (out / "model").mkdir(exist_ok=True)
    config = open_clip_config(
        SHAPE | TEXT_SHAPE | (shape or {}) | ({"size": size} if size else {})
    )
    (out / "model" / CONFIG).write_text(json.dumps(config, indent=1))
    (out / "train.sh").write_text(_command(counts, epochs, batch, lr))
    return out


def open_clip_config(shape: dict) -> dict:
    """`rw.models.tiny.SHAPE | TEXT_SHAPE` as open_clip writes a model down."""
    s = shape
    vision = {
        "image_size": s["size"],
        "layers": s["layers"],
        "width": s["width"],
        "patch_size": s["patch"],
        "head_width": s["width"] // s["heads"],
        "pool_type": "avg",
    }
    text = {
        "context_length": CONTEXT,
        "vocab_size": VOCABULARY,
        "width": s["text_width"],
        "heads": s["text_heads"],
        "layers": s["text_layers"],
    }
    pre = {
        "mean": [GREY["mean"][0]] * 3,
        "std": [GREY["std"][0]] * 3,
        "resize_mode": "longest",
    }
    return {
        "model_cfg": {"embed_dim": s["embed"], "vision_cfg": vision, "text_cfg": text},
        "preprocess_cfg": pre,
    }


def import_open_clip(
    checkpoint: str | Path, exported: str | Path, out: str | Path
) -> models.Model:
    """A checkpoint of open_clip_train as a folder that `rw.models.load(out)` reads.

    >>> model = import_open_clip("exported/logs/radwb/checkpoints/epoch_10.pt", "exported", "../runs/large")

    Args:
        checkpoint: {"epoch", "name", "state_dict": {"module. ...": tensor}, ...};
            nothing in it is run.
        exported: the folder of `export_open_clip`.
    """
    out = Path(out)
    tensors = {k: v.contiguous() for k, v in read_weights(checkpoint).items()}
    out.mkdir(parents=True, exist_ok=True)
    shutil.copy(Path(exported) / "model" / CONFIG, out / CONFIG)
    save_file(tensors, out / "open_clip_model.safetensors")
    return models.load(out)


def _command(counts, epochs, batch, lr):
    """Paths are relative, so that the folder may be copied to where the GPUs are."""
    (n, shards), (n_val, shards_val) = counts["train"], counts["val"]
    tars = lambda split, k: f"{split}/shard-{{000000..{k - 1:06d}}}.tar"  # noqa: E731
    workers = max(1, min(4, shards, shards_val or shards))
    options = {
        "train-data": tars("train", shards),
        "train-num-samples": n,
        "dataset-type": "webdataset",
    }
    if n_val:
        options |= {"val-data": tars("val", shards_val), "val-num-samples": n_val}
    options |= {
        "model": "local-dir:model",
        "epochs": epochs,
        "batch-size": batch,
        "lr": lr,
        "beta1": 0.9,
        "beta2": 0.98,
        "eps": 1e-6,
        "wd": 0.1,
        "warmup": max(1, epochs * (n // batch) // 20),
        "grad-clip-norm": 1.0,
        "precision": "amp_bf16",
        "workers": workers,
        "name": "radwb",
    }
    words = " \\\n  ".join(f"--{k} {shlex.quote(str(v))}" for k, v in options.items())
    return (
        "#!/bin/sh\n# Needs webdataset 0.2 (pip install 'webdataset==0.2.86'; open_clip 3.3 fails with 1.0).\n"
        "# On GPUs: GPUS=8 sh train.sh; batch-size is that of one of them. On a CPU: sh train.sh --precision fp32\n"
        'cd "$(dirname "$0")"\n'
        f'torchrun --nproc_per_node "${{GPUS:-1}}" -m open_clip_train.main \\\n  {words} \\\n'
        '  --local-loss --gather-with-grad "$@"\n'
    )
