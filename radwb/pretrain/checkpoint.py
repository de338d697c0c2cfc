"""The state of a run that grows, in one file whose content has a checksum.

Order, captions and augmentation are functions of seed, epoch and step, so that no
generator has to be kept.
"""

import hashlib
import json
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from radwb.models.checks import damaged
from radwb.pretrain.run import CHECKPOINT, replace

# what a damaged file breaks as it is read
DAMAGED = (
    SafetensorError,
    LookupError,
    ValueError,
    TypeError,
    AttributeError,
    RuntimeError,
    OSError,
)


def write_checkpoint(
    out: Path, task, optimizer, about: dict, average: dict | None = None
) -> None:
    """Weights, their average, moments and step, in the place of the file before.

    Args:
        out: folder of the run.
        task: the recipe; optimizer: what trains it.
        about: step, seconds and rows of the log.
        average: the averaged weights, by name.
    """
    tensors = {f"task/{k}": v for k, v in task.state_dict().items()}
    tensors |= {f"average/{k}": v for k, v in (average or {}).items()}
    for i, moments in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer/{i}/{k}": v for k, v in moments.items()}
    # copies, since safetensors refuses a tensor under two names
    tensors = {k: v.to("cpu", copy=True).contiguous() for k, v in tensors.items()}
    text = json.dumps(about)
    metadata = {"about": text, "sha256": content_sha256(tensors, text)}
    replace(out / CHECKPOINT, lambda part: save_file(tensors, part, metadata=metadata))


def content_sha256(tensors: dict[str, torch.Tensor], about: str) -> str:
    """Of names, types, shapes and bytes of tensors, and of what is said of them."""
    sha = hashlib.sha256(about.encode())
    for name in sorted(tensors):
        tensor = tensors[name].contiguous()
        sha.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        sha.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return sha.hexdigest()


def read_checkpoint(out: Path, task, optimizer, average: dict | None = None) -> dict:
    """Put the last checkpoint back into `task`, `optimizer` and `average`.

    Returns:
        its `about`; {} when there is none.
    Raises:
        ValueError: the file is cut short, or its content isn't what its checksum says.
    """
    path = out / CHECKPOINT
    if not path.is_file():
        return {}
    tensors, about = _checked(path)
    try:
        _restore(tensors, task, optimizer, average)
    except DAMAGED as error:
        raise damaged(path, f"another network's: {type(error).__name__}") from error
    return about


def _checked(path: Path) -> tuple[dict[str, torch.Tensor], dict]:
    """All of a checkpoint, once its checksum holds.

    So nothing of a damaged one reaches the network.
    """
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata()
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118, it's no dict
        is_whole = metadata["sha256"] == content_sha256(tensors, metadata["about"])
        about = json.loads(metadata["about"])
    except DAMAGED as error:
        raise damaged(path, f"unreadable: {type(error).__name__}") from error
    if not is_whole:
        raise damaged(path, "its content is not what its checksum says")
    return tensors, about


def _restore(tensors, task, optimizer, average):
    weights, moments = {}, {}
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    for key, value in tensors.items():
        part, _, name = key.partition("/")
        if part == "task":
            weights[name] = value
        elif part == "average":
            average[name].copy_(value)
        else:
            i, _, moment = name.partition("/")
            parameter = parameters[int(i)]
            if value.shape == parameter.shape:
                # in the parameter's own memory order: the fused AdamW goes through
                # both as they lie
                value = torch.empty_like(parameter).copy_(value)
            moments.setdefault(int(i), {})[moment] = value
    task.load_state_dict(weights)
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": moments, "param_groups": groups})
