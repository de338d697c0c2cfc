"""The CLIP objective by open_clip, with equal captions as positives; masked BCE; and
retrieval.
"""

from collections.abc import Sequence

import numpy as np
import torch
import torch.distributed as dist
import torch.distributed.nn.functional
import torch.nn.functional as F
from open_clip.loss import ClipLoss


def same_captions(ids: torch.Tensor) -> torch.Tensor:
    """(B,) caption identities -> (B, B) targets: each row shares its weight among all
    equal captions.

    >>> same_captions(torch.tensor([7, 3, 7]))
    tensor([[0.5000, 0.0000, 0.5000],
            [0.0000, 1.0000, 0.0000],
            [0.5000, 0.0000, 0.5000]])
    """
    same = (ids[:, None] == ids[None, :]).float()
    return same / same.sum(1, keepdim=True)


class SameCaptionLoss(ClipLoss):
    """open_clip's ClipLoss, but a report that several images of the batch share is
    right for all of them.

    Reports repeat ("No acute abnormality."), and one-hot targets would push equal texts
    apart. When all captions differ, this is ClipLoss. Gathers with gradient, so that W
    processes give the gradient of one.
    """

    def __init__(self, *, rank: int = 0, world_size: int = 1):
        super().__init__(
            local_loss=False, gather_with_grad=True, rank=rank, world_size=world_size
        )

    def forward(self, image_features, text_features, logit_scale, ids) -> torch.Tensor:
        """Args: (B, E), (B, E) of unit length, a scalar, (B,) caption identities; B is
        this process's share.
        """
        per_image, per_text = self.get_logits(
            image_features, text_features, logit_scale
        )  # (W*B, W*B)
        if self.world_size > 1:
            gathered = [torch.zeros_like(ids) for _ in range(self.world_size)]
            dist.all_gather(gathered, ids)
            ids = torch.cat(gathered)
        target = same_captions(ids)
        return (
            F.cross_entropy(per_image, target) + F.cross_entropy(per_text, target)
        ) / 2


def gather(x: torch.Tensor, world: int) -> torch.Tensor:
    """(B, ...) of each process -> (world * B, ...) in all, with gradient: the mean over
    processes is that of one.
    """
    if world == 1:
        return x
    if x.requires_grad:
        out = torch.cat(torch.distributed.nn.functional.all_gather(x))
        out.register_hook(
            torch.Tensor.contiguous
        )  # gloo sends the gradient's memory back as it lies
        return out
    parts = [torch.empty_like(x) for _ in range(world)]
    dist.all_gather(parts, x.contiguous())
    return torch.cat(parts)


def known(labels: torch.Tensor) -> torch.Tensor:
    """Which labels count: 0 and 1; uncertain (-1) and not mentioned (NaN) don't."""
    return (labels == 0) | (labels == 1)


def masked_bce(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """The mean binary cross-entropy over the `known` of (B, K) labels; 0 where there
    are none.
    """
    losses = F.binary_cross_entropy_with_logits(
        logits, labels.nan_to_num().clamp(0, 1), reduction="none"
    )
    some = known(labels)
    return (losses * some).sum() / some.sum().clamp(min=1)


def retrieval(
    images: np.ndarray,
    texts: np.ndarray,
    captions: Sequence,
    *,
    k: tuple[int, ...] = (1, 5),
) -> dict[str, float]:
    """How often the right partner is among the k most similar; equal captions count as
    one.

    >>> retrieval(image_embeddings, text_embeddings, captions)
    {'image_to_text_recall_1': 0.31, 'image_to_text_recall_5': 0.7,
    'text_to_image_recall_1': ...}

    Args:
        images, texts: (N, E) of unit length; row i belongs together.
        captions: N hashable identities of the texts.
    Returns:
        image_to_text_recall_k: share of the N images whose caption is among the k best
            of the U distinct captions.
        text_to_image_recall_k: share of the U captions that have an image of theirs
            among the k best of N.
    """
    _, first, group = np.unique(
        np.asarray(captions), return_index=True, return_inverse=True
    )
    similarity = (
        np.asarray(images, np.float32) @ np.asarray(texts, np.float32)[first].T
    )  # (N, U)
    right = group[:, None] == np.arange(len(first))  # (N, U)
    out = {}
    for name, s, r in (
        ("image_to_text", similarity, right),
        ("text_to_image", similarity.T, right.T),
    ):
        best = np.take_along_axis(
            r, np.argsort(-s, axis=1, kind="stable")[:, : max(k)], axis=1
        )
        out |= {f"{name}_recall_{n}": float(best[:, :n].any(1).mean()) for n in k}
    return out
