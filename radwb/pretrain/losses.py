"""The CLIP objective by open_clip, with equal captions as positives; and retrieval."""

from collections.abc import Sequence

import numpy as np
import torch
import torch.distributed as dist
import torch.distributed.nn.functional
import torch.nn.functional as F
from open_clip.loss import ClipLoss


def same_captions(ids: torch.Tensor) -> torch.Tensor:
    """Targets for a contrastive loss of your own, whose texts repeat.

    >>> same_captions(torch.tensor([7, 3, 7]))
    tensor([[0.5000, 0.0000, 0.5000],
            [0.0000, 1.0000, 0.0000],
            [0.5000, 0.0000, 0.5000]])

    Args:
        ids: (B,) identities of captions.
    Returns:
        (B, B), where each row shares its weight among all equal captions.
    """
    same = (ids[:, None] == ids[None, :]).float()
    return same / same.sum(1, keepdim=True)


class SameCaptionLoss(ClipLoss):
    """open_clip's ClipLoss for your own loop, where reports of different films repeat.

    Reports repeat ("No acute abnormality."), and one-hot targets would push equal texts
    apart; here a report that several images of the batch share is right for all of
    them. When all captions differ, this is ClipLoss. Gathers with gradient, so that W
    processes give the gradient of one.

    >>> points = torch.nn.functional.normalize(torch.ones(4, 8), dim=-1)
    >>> scale, ids = torch.tensor(10.0), torch.tensor([0, 1, 1, 2])
    >>> SameCaptionLoss()(points, points, scale, ids)  # ln(4): nothing is told apart
    tensor(1.3863)
    """

    def __init__(self, *, rank: int = 0, world_size: int = 1):
        super().__init__(
            local_loss=False, gather_with_grad=True, rank=rank, world_size=world_size
        )

    def forward(
        self,
        image_features: torch.Tensor,
        text_features: torch.Tensor,
        logit_scale: torch.Tensor,
        ids: torch.Tensor,
    ) -> torch.Tensor:
        """The mean cross-entropy over rows and over columns.

        Args:
            image_features, text_features: (B, E) of unit length, this process's share.
            logit_scale: 1 / temperature, a scalar.
            ids: (B,) identities of the captions.
        """
        per_image, per_text = self.get_logits(
            image_features, text_features, logit_scale
        )  # (W*B, W*B)
        right = same_captions(gather(ids, self.world_size))
        return (
            F.cross_entropy(per_image, right) + F.cross_entropy(per_text, right)
        ) / 2


def gather(x: torch.Tensor, world: int) -> torch.Tensor:
    """(B, ...) of each process -> (world * B, ...) in all, with gradient.

    The mean of the gradients over the processes is that of one process.
    """
    if world == 1:
        return x
    if x.requires_grad:
        joined = torch.cat(torch.distributed.nn.functional.all_gather(x))
        # gloo sends the gradient's memory back as it lies
        joined.register_hook(torch.Tensor.contiguous)
        return joined
    parts = [torch.empty_like(x) for _ in range(world)]
    dist.all_gather(parts, x.contiguous())
    return torch.cat(parts)


def known(labels: torch.Tensor) -> torch.Tensor:
    """Which labels count: 0 and 1; uncertain (-1) and not mentioned (NaN) don't."""
    return (labels == 0) | (labels == 1)


def masked_bce(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """The mean binary cross-entropy over the `known` of (B, K) labels, or 0."""
    losses = F.binary_cross_entropy_with_logits(
        logits, labels.nan_to_num().clamp(0, 1), reduction="none"
    )
    counted = known(labels)
    return (losses * counted).sum() / counted.sum().clamp(min=1)


def retrieval(
    images: np.ndarray | torch.Tensor,
    texts: np.ndarray | torch.Tensor,
    captions: Sequence,
    *,
    k: tuple[int, ...] = (1, 5),
) -> dict[str, float]:
    """How often your own model's embeddings have their partner among the k nearest.

    >>> texts = np.eye(4)[[0, 0, 1, 2]]
    >>> retrieval(np.eye(4)[[0, 0, 1, 1]], texts, ["a", "a", "b", "c"], k=(1,))
    {'image_to_text_recall_1': 0.75, 'text_to_image_recall_1': 0.6666666666666666}

    Args:
        images, texts: (N, E) of unit length; row i belongs together.
        captions: N hashable identities of the texts; equal captions count as one.
        k: how many of the most similar are looked at.
    Returns:
        image_to_text_recall_k: share of the N images whose caption is among the k best
            of the U distinct captions.
        text_to_image_recall_k: share of the U captions that have an image of theirs
            among the k best of N.
    """
    _, first, group = np.unique(
        np.asarray(captions), return_index=True, return_inverse=True
    )
    images, texts = (np.asarray(points, np.float32) for points in (images, texts))
    similarity = images @ texts[first].T  # (N, U)
    right = group[:, None] == np.arange(len(first))  # (N, U)
    return {
        **_recall("image_to_text", similarity, right, k),
        **_recall("text_to_image", similarity.T, right.T, k),
    }


def _recall(name, similarity, right, k) -> dict[str, float]:
    order = np.argsort(-similarity, axis=1, kind="stable")
    right = np.take_along_axis(right, order[:, : max(k)], axis=1)
    return {f"{name}_recall_{n}": float(right[:, :n].any(1).mean()) for n in k}
