"""What is done with a film's greys before a network sees them, in training and use.

Two machines show one chest in other greys; these take most of that away. All are tensor
code, so that they run where the network does.
"""

import torch
import torch.nn.functional as F

LEVELS = 256
SHARE = 4  # of a side: how far "local" looks is a quarter of it
FAINT = 0.02  # of the range of grey: what varies less than this is noise


def check_tone(tone: object) -> str:
    """ValueError where no tone has this name."""
    if not isinstance(tone, str) or tone not in TONES:
        raise ValueError(
            f"expected a tone of {', '.join(TONES)}, got {str(tone)[:60]!r}"
        )
    return tone


def plain(x: torch.Tensor) -> torch.Tensor:
    """The greys as they are."""
    return x


def equalised(x: torch.Tensor) -> torch.Tensor:
    """Each film's greys by their rank: as many dark pixels as bright ones.

    OpenCV's equalizeHist: the darkest level, which the border has, becomes 0 and moves
    no other.

    >>> equalised(torch.tensor([[[[0.0, 0.0], [0.5, 0.6]]]]))[0, 0]
    tensor([[0.0000, 0.0000],
            [0.5000, 1.0000]])

    Args:
        x: (B, 1, S, S) in [0, 1].
    Returns:
        (B, 1, S, S) in [0, 1]; a film of one grey is black.
    """
    level = (x.clamp(0, 1) * (LEVELS - 1)).round().long().flatten(1)  # (B, S * S)
    counts = level.new_zeros(len(x), LEVELS)
    counts.scatter_add_(1, level, torch.ones_like(level))
    up_to = counts.cumsum(1)  # (B, LEVELS)
    darkest = level.amin(1, keepdim=True)
    border = up_to.gather(1, darkest)
    others = (up_to[:, -1:] - border).clamp(min=1)
    share = (up_to - border) / others
    return share.gather(1, level).view_as(x)


def local(x: torch.Tensor) -> torch.Tensor:
    """Each pixel from the mean of its neighbourhood, in its standard deviations.

    Args:
        x: (B, 1, S, S) in [0, 1].
    Returns:
        (B, 1, S, S) in [0, 1]: 0.5 at the mean, 0 and 1 three deviations from it.
    """
    around = x.shape[-1] // SHARE | 1
    mean = _mean_around(x, around)
    square = _mean_around(x.square(), around)
    variance = (square - mean.square()).clamp(min=0)
    deviations = (x - mean) / (variance + FAINT**2).sqrt()
    return (0.5 + deviations / 6).clamp(0, 1)


def _mean_around(x, side):
    """(B, 1, S, S) means of squares of an odd side, of what of them is in the film."""
    for kernel in ((side, 1), (1, side)):
        padding = (kernel[0] // 2, kernel[1] // 2)
        x = F.avg_pool2d(x, kernel, 1, padding, count_include_pad=False)
    return x


TONES = {"plain": plain, "equalised": equalised, "local": local}
