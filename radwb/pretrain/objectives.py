"""Losses to check and build your own with: what each way of pretraining minimises.

Each is the formula of its paper on plain tensors, line by line; CLIP's is
`SameCaptionLoss`. B images or texts, T patches, W words, E wide, V entries of a
vocabulary. Each is computed in float32 (or finer, if so given), also for a caller under
autocast: bf16 logits are off by up to 0.4.
"""

import math
from collections.abc import Sequence
from functools import wraps

import torch
import torch.nn.functional as F
from einops import rearrange

HALF = (torch.bfloat16, torch.float16)


def _exactly(function):
    """Leave autocast, and take half-precision tensors to float32."""

    def finer(value):
        if isinstance(value, torch.Tensor) and value.dtype in HALF:
            return value.float()
        return value

    @wraps(function)
    def inside(first, *others, **options):
        with torch.autocast(first.device.type, enabled=False):
            return function(finer(first), *map(finer, others), **options)

    return inside


# images against texts


@_exactly
def siglip(
    images: torch.Tensor,
    texts: torch.Tensor,
    scale: torch.Tensor | float,
    bias: torch.Tensor | float,
    *,
    same: torch.Tensor | None = None,
) -> torch.Tensor:
    """Does this text belong to this image, yes or no, for each pair alone?

    Zhai et al. 2023, "Sigmoid loss for language image pre-training", ICCV.

    Args:
        images, texts: (B, E) of unit length.
        scale, bias: of the logits; the paper starts at 10 and -10, since nearly all
            pairs are a no.
        same: (B, B) bool, which pairs are a yes; the diagonal unless given.
    Returns:
        The sum over pairs, a B-th of it.
    """
    logits = scale * images @ texts.T + bias  # (B, B)
    if same is None:
        same = torch.eye(len(logits), dtype=torch.bool, device=logits.device)
    return -F.logsigmoid(torch.where(same, logits, -logits)).sum() / len(logits)


@_exactly
def local(
    patches: torch.Tensor,
    words: torch.Tensor,
    mask: torch.Tensor,
    *,
    attention: float = 10.0,
    match: float = 10.0,
    scale: float = 10.0,
    targets: torch.Tensor | None = None,
) -> torch.Tensor:
    """Which report's words find what they say among this image's patches, and back?

    Huang et al. 2021, "GLoRIA: a multimodal global-local representation learning
    framework", ICCV, equations 4 to 7. Each word looks at the patches like it (a
    softmax over patches) and is compared with the mean of what it saw; a report's score
    is the log-sum-exp over its words, so that its best words count; then as in CLIP
    over the batch.

    Args:
        patches: (B, T, E) of the images; words: (B, W, E) of their reports. All
            similarities are cosines.
        mask: (B, W), True where there is a word.
        attention, match, scale: 1 / temperature of the softmax over patches, of the sum
            over words, and over the batch.
        targets: (B, B) shares that each row gives to the columns (`same_captions`); the
            diagonal unless given.
    """
    patches, words = F.normalize(patches, dim=-1), F.normalize(words, dim=-1)
    # image i, report j: (B, B, W, T)
    similar = torch.einsum("ite,jwe->ijwt", patches, words)
    # a word sees the patches mixed by these weights, and agrees by the cosine; the
    # lengths of the mixtures need no mixtures
    weights = (attention * similar).softmax(-1)  # (B, B, W, T)
    among_patches = (patches @ patches.mT)[:, None]  # (B, 1, T, T)
    squared = ((weights @ among_patches) * weights).sum(-1)
    lengths = squared.clamp(min=1e-12).sqrt()  # (B, B, W)
    agree = (weights * similar).sum(-1) / lengths  # (B, B, W)
    agree = (match * agree).masked_fill(~mask[None], -math.inf)
    logits = scale * agree.logsumexp(-1) / match  # (B, B)
    if targets is None:
        targets = torch.eye(len(logits), device=logits.device)
    return (F.cross_entropy(logits, targets) + F.cross_entropy(logits.T, targets)) / 2


# images alone


@_exactly
def simclr(a: torch.Tensor, b: torch.Tensor, temperature: float = 0.1) -> torch.Tensor:
    """Which of all other views is the same image's?

    NT-Xent of Chen et al. 2020, "A simple framework for contrastive learning of visual
    representations", ICML.

    >>> a = torch.ones(4, 8)
    >>> simclr(a, a)  # ln(7)
    tensor(1.9459)

    Args:
        a, b: (B, E), two views of B images.
    Returns:
        The mean cross-entropy over 2 B views; ln(2 B - 1) when nothing is told apart.
    """
    z = F.normalize(torch.cat([a, b]), dim=-1)  # (2B, E)
    logits = z @ z.T / temperature  # (2B, 2B)
    itself = torch.eye(len(z), dtype=torch.bool, device=z.device)
    logits = logits.masked_fill(itself, -math.inf)
    # (2B,): i + B, and i - B for the second half
    partner = torch.arange(len(z), device=z.device).roll(len(a))
    return F.cross_entropy(logits, partner)


@_exactly
def dino(
    student: torch.Tensor,
    teacher: torch.Tensor,
    centre: torch.Tensor | None,
    student_temp: float = 0.1,
    teacher_temp: float = 0.04,
) -> torch.Tensor:
    """Say of your view what the teacher says of another.

    Caron et al. 2021, "Emerging properties in self-supervised vision transformers",
    ICCV.

    Args:
        student, teacher: (views, B, K) outputs, views 2 or more in the same order; no
            gradient reaches the teacher.
        centre: (K,), taken off the teacher's outputs (`moved_centre`). None takes
            nothing off: all images soon get the same answer, the collapse that centring
            prevents.
        student_temp, teacher_temp: the lower, the sharper.
    Returns:
        The mean cross-entropy over the ordered pairs of different views.
    """
    teacher = teacher.detach()
    if centre is not None:
        teacher = teacher - centre
    p = (teacher / teacher_temp).softmax(-1)  # (views, B, K)
    log_q = (student / student_temp).log_softmax(-1)  # (views, B, K)
    pairs = -torch.einsum("tbk,sbk->ts", p, log_q) / p.shape[1]  # (views, views)
    return (pairs.sum() - pairs.trace()) / (pairs.numel() - len(pairs))


@_exactly
def moved_centre(
    centre: torch.Tensor, teacher: torch.Tensor, momentum: float = 0.9
) -> torch.Tensor:
    """The centre (K,) after a batch of teacher outputs (..., K).

    It is a moving average of their mean.
    """
    return momentum * centre + (1 - momentum) * teacher.detach().flatten(0, -2).mean(0)


def entropy(p: torch.Tensor) -> torch.Tensor:
    """(..., K) probabilities -> (...) nats: 0 for one sure answer, ln(K) for none."""
    return -torch.xlogy(p, p).sum(-1)


def patchify(images: torch.Tensor, patch: int) -> torch.Tensor:
    """(B, C, S, S) -> (B, T, patch * patch * C), the patches row by row."""
    return rearrange(images, "b c (h p) (w q) -> b (h w) (p q c)", p=patch, q=patch)


def random_mask(
    n_images: int, n_tokens: int, share: float, *, seed: int
) -> torch.Tensor:
    """(n_images, n_tokens) bool, True in round(share * n_tokens) places of each row.

    >>> random_mask(2, 64, 0.75, seed=0).sum(1)
    tensor([48, 48])
    """
    if not 0 < round(share * n_tokens) < n_tokens:
        raise ValueError(
            f"expected a share that masks some of {n_tokens} tokens and leaves some, "
            f"got {share}. Try 0.6"
        )
    generator = torch.Generator().manual_seed(seed)
    draw = torch.rand(n_images, n_tokens, generator=generator)
    rank = draw.argsort(1).argsort(1)
    return rank < round(share * n_tokens)


@_exactly
def mae(
    predicted: torch.Tensor, images: torch.Tensor, mask: torch.Tensor, patch: int
) -> torch.Tensor:
    """Paint what was hidden.

    He et al. 2022, "Masked autoencoders are scalable vision learners", CVPR.

    Args:
        predicted: (B, T, patch * patch * C); images: (B, C, S, S), what was there.
        mask: (B, T), True where a patch was hidden; only these count.
    Returns:
        The mean squared error in units of each patch's own standard deviation, from its
        own mean.
    """
    target = patchify(images, patch)  # (B, T, P)
    deviation = (target.var(-1, keepdim=True) + 1e-6).sqrt()
    target = (target - target.mean(-1, keepdim=True)) / deviation
    error = (predicted - target).square().mean(-1)  # (B, T)
    return (error * mask).sum() / mask.sum()


# texts alone


def mask_tokens(
    tokens: torch.Tensor,
    mask_id: int,
    generator: torch.Generator,
    *,
    vocab: int,
    special: Sequence[int],
    share: float = 0.15,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Hide words: of the chosen, 80 % become the mask, 10 % another word, 10 % stay.

    Devlin et al. 2019, "BERT", NAACL.

    Args:
        tokens: (B, W) ids.
        mask_id: what stands for a hidden word; may lie outside the vocabulary.
        generator: what is drawn comes from it.
        vocab: how many ids there are.
        special: ids that are never chosen and never put in: padding, start, end.
        share: of the words of a text that are chosen.
    Returns:
        (B, W) ids to show, and (B, W) bool of the chosen: round(share * words) in each
        text, but one at least.
    """
    special = torch.as_tensor(special)
    ids = torch.arange(vocab)
    ordinary = ids[~torch.isin(ids, special)]
    words = ~torch.isin(tokens, special)  # (B, W)
    draw, fate = (torch.rand(tokens.shape, generator=generator) for _ in range(2))
    rank = draw.masked_fill(~words, 2.0).argsort(1).argsort(1)
    count = (share * words.sum(1, keepdim=True)).round().clamp(min=1)  # (B, 1)
    chosen = words & (rank < count)
    other = ordinary[torch.randint(len(ordinary), tokens.shape, generator=generator)]
    shown = torch.where(fate < 0.9, other, tokens)
    shown = torch.where(fate < 0.8, mask_id, shown)
    return torch.where(chosen, shown, tokens), chosen


@_exactly
def masked_lm(
    logits: torch.Tensor, tokens: torch.Tensor, masked: torch.Tensor
) -> torch.Tensor:
    """Which words were there? The mean cross-entropy over the chosen words.

    Args:
        logits: (B, W, V); tokens: (B, W), what was there; masked: (B, W) bool of
            `mask_tokens`.
    """
    losses = F.cross_entropy(logits.transpose(1, 2), tokens, reduction="none")  # (B, W)
    return (losses * masked).sum() / masked.sum().clamp(min=1)


@_exactly
def causal_lm(logits: torch.Tensor, tokens: torch.Tensor, pad: int) -> torch.Tensor:
    """Which word comes next?

    Radford et al. 2018, "Improving language understanding by generative pre-training".

    Args:
        logits: (B, W, V); place t has seen tokens up to t and is asked for t + 1.
        tokens: (B, W) ids; what would have to say padding doesn't count.
    """
    return F.cross_entropy(
        logits[:, :-1].transpose(1, 2), tokens[:, 1:], ignore_index=pad
    )
