"""How a map lies over a network's input: found by asking the network, never assumed.

Libraries lay out their maps as (B, C, h, w), (B, h, w, C) or (B, T, C), and a network
may turn its axes on the way. So one half of the input is changed along each axis: what
changes in the map tells which of its axes runs along there.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import permutations

import torch
import torch.nn.functional as F

FOLLOWS = 0.01  # of an axis' length: less than this, and a map doesn't follow the input
CLEAR = 2.0  # times as far along its own axis as along any other
RESPONDS = 1e-5  # of the map's size: less than this is rounding
BLOBS = 6  # of noise along each axis


@dataclass(frozen=True)
class Layout:
    """How a map lies over the input.

    Args:
        axes: of each axis of the input that of the map, counted after the batch.
        signs: 1, or -1 where it runs the other way.
    """

    axes: tuple[int, ...]
    signs: tuple[int, ...]

    def laid(self, tensor: torch.Tensor) -> torch.Tensor:
        """(B, ...) as the network has it -> as the input lies.

        >>> Layout(axes=(2, 1), signs=(1, -1)).laid(torch.zeros(1, 5, 3, 8)).shape
        torch.Size([1, 8, 3, 5])

        Returns:
            (B, C, rows, columns) or (B, C, d, h, w).
        """
        channels = [n for n in range(1, tensor.ndim) if n not in self.axes]
        turned = tensor.permute(0, *channels, *self.axes)
        flipped = [n for n, sign in enumerate(self.signs, 2) if sign < 0]
        return turned.flip(flipped) if flipped else turned


def layout(
    run: Callable[[torch.Tensor], torch.Tensor], x: torch.Tensor, what: str
) -> Layout:
    """How the map that `run` gives lies over the input.

    >>> layout(lambda x: x.permute(0, 1, 3, 2), torch.rand(1, 1, 8, 8), "turned")
    Layout(axes=(3, 2), signs=(1, 1))

    Args:
        run: input (1, C, ...) -> map (1, ...), one more axis than the input's places
            for the channels.
        x: (1, C, ...) the input to change; two forward passes an axis are made.
        what: names the map in the error.
    Raises:
        ValueError: the map doesn't follow the input, so that no one knows where on the
            input its places lie.
    """
    moves, shape = _moves(run, x)
    channels = channel_axes(shape, x.shape[2:])
    every = list(range(len(shape)))
    # where the sizes name the channels, what moves along them is no move of place
    attempts = [channels, every] if len(channels) == 1 else [every]
    for axes in attempts:
        best = _best_axes(moves, axes)
        problem = _unclear(moves, best, shape, axes)
        if problem is None:
            return _layout_of(moves, best)
    axis, move = problem
    raise ValueError(
        f"expected {what}, {tuple(shape)}, to follow a change of the input "
        f"along its axis {axis}, got a move of {move:.2f} of its length: where "
        "it lies over the input isn't known. Try method='occlusion'."
    )


def _layout_of(moves, best):
    axes = []
    signs = []
    for k, j in enumerate(best):
        sign = math.copysign(1, moves[k, j])
        axes.append(j + 1)
        signs.append(int(sign))
    return Layout(tuple(axes), tuple(signs))


def channel_axes(shape, size) -> list[int]:
    """The axes of a map that its channels may lie along: the others shrank alike.

    >>> channel_axes((5, 5, 3, 24), (20, 20, 12))
    [3]

    Args:
        shape: of the map, without the batch.
        size: of the input, without batch and channels.
    Returns:
        counted from 0; [] where the sides shrank by different factors.
    """
    axes = []
    for axis in range(len(shape)):
        sides = [*shape[:axis], *shape[axis + 1 :]]
        if any(_shrank_alike(sides, order) for order in permutations(size)):
            axes.append(axis)
    return axes


def _shrank_alike(sides, size):
    """Whether one factor, rounded up or down, takes each length to its side."""
    least = []
    most = []
    for n, side in zip(size, sides, strict=True):
        least.append(n / (side + 1))
        most.append(n / max(side - 1, 1e-9))
    return max(least) < min(most)


def _best_axes(moves, channels):
    """Of each axis of the input the map's along which most moves.

    One of `channels` is left out.
    """
    inputs, n = moves.shape
    orders = []
    for axes in permutations(range(n), inputs):
        left_out = set(range(n)) - set(axes)
        if left_out <= set(channels):
            orders.append(axes)
    sizes = moves.abs().tolist()

    def moved(axes):
        along = [sizes[k][j] for k, j in enumerate(axes)]
        return sum(along)

    return max(orders, key=moved)


def _unclear(moves, best, shape, channels):
    """(axis of the input, its move) of the first that isn't followed, or None."""
    places = [n for n in range(len(shape)) if channels != [n]]
    sizes = moves.abs().tolist()
    for k, j in enumerate(best):
        move = sizes[k][j]
        others = [sizes[k][n] for n in places if n != j]
        least = max(FOLLOWS, CLEAR * max(others))
        if shape[j] > 1 and move < least:
            return k, move
    return None


@torch.no_grad()
def _moves(run, x):
    """How far what changes moves, in lengths of the map's axis; and the map's shape.

    A grey input gets noise in its first half, then the mirrored noise in its second:
    so what differs between the two is the place alone.

    Returns:
        (input axes, map axes), shape without the batch.
    """
    grey, noise = _grey_and_noise(x)
    unchanged = run(grey)
    size = float(unchanged.abs().sum())
    moves = []
    for axis in range(2, x.ndim):
        half = x.shape[axis] // 2
        first = grey.clone()
        first.narrow(axis, 0, half).copy_(noise.narrow(axis, 0, half))
        second = first.flip(axis)
        before = (run(first) - unchanged).abs()
        after = (run(second) - unchanged).abs()
        move = _centre(after) - _centre(before)
        change = min(float(before.sum()), float(after.sum()))
        if not change > RESPONDS * size:  # also of NaN
            move = torch.zeros_like(move)
        moves.append(move)
    return torch.stack(moves), unchanged.shape[1:]


def _grey_and_noise(x):
    """Half-way between the input's darkest and brightest value, and blobs of noise."""
    draw = torch.Generator().manual_seed(0)
    _, _, *size = x.shape
    coarse = [BLOBS] * len(size)
    blobs = torch.rand(1, 1, *coarse, generator=draw)
    blobs = F.interpolate(blobs, size).to(x)
    low = float(x.min())
    high = float(x.max())
    span = high - low or 1.0
    grey = torch.full_like(x, low + span / 2)
    noise = low + span * blobs.expand_as(x)
    return grey, noise


def _centre(change):
    """(1, ...) sizes -> the centre of gravity along each axis but the first, 0 to 1."""
    centres = []
    for axis in range(1, change.ndim):
        others = [n for n in range(change.ndim) if n != axis]
        along = change.double().sum(others)
        steps = torch.arange(len(along)).to(along)
        place = (steps + 0.5) / len(along)
        moment = (along * place).sum()
        weight = along.sum().clamp(min=1e-30)
        centres.append(moment / weight)
    return torch.stack(centres).cpu()
