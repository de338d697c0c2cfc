"""A pass of a 3-D network, and the scores made of what it gives."""

from contextlib import AbstractContextManager
from numbers import Integral

import torch

from radwb.attend.tower import QUIET, ROUTED, as_it_was
from radwb.models.net3d import Net3d


def quiet(net: Net3d) -> AbstractContextManager:
    """`as_it_was` for a pass of a 3-D network."""
    return as_it_was(net.net, QUIET | ROUTED if net.grid else QUIET)


def output_of(net: Net3d, x: torch.Tensor) -> torch.Tensor:
    """(B, channels, *size) -> (B, K), of a tuple or list the one that is documented."""
    output = net.net(x)
    if isinstance(output, tuple):
        output = output[0]
    elif isinstance(output, list):
        output = output[-1]
    if output.ndim == 3:  # tokens (B, T, K)
        return output.mean(1)
    if output.ndim == 5:  # a feature map (B, K, d, h, w)
        return output.flatten(2).mean(-1)
    return output


def score_of(net: Net3d, output: torch.Tensor, target) -> torch.Tensor:
    """(B,) of the outputs (B, K)."""
    if torch.is_tensor(target) and target.shape == output.shape[1:]:
        return output @ target.to(output)
    names = net.findings or []
    index = names.index(target) if target in names else target
    K = output.shape[1]
    if not isinstance(index, Integral) or not 0 <= index < K:
        raise ValueError(
            f"expected a target of {names or f'0 to {K - 1}'}, or a ({K},) tensor, "
            f"got {index!r}"
        )
    return output[:, index]
