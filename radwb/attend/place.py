"""Where a network's last feature map is, and how it lies over the input: found by
asking the network, never assumed.

Libraries lay out their maps as (B, C, h, w), (B, h, w, C) or (B, T, C), and a network
may turn its axes on the way. So one half of the input is changed along each axis: what
changes in the map tells which of its axes runs along there.
"""

import math
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import permutations
from weakref import WeakKeyDictionary

import torch
import torch.nn.functional as F
from torch import nn

FOLLOWS = 0.01  # of an axis' length: less than this, and a map doesn't follow the input
CLEAR = 2.0  # times as far along its own axis as along any other
RESPONDS = 1e-5  # of the map's size: less than this is rounding
PREFIX = 16  # class and register tokens at most
BLOBS = 6  # of noise along each axis
_places = WeakKeyDictionary()  # network -> {shape of its input: Place}; searched once


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
        """(B, ...) as the network has it -> (B, C, rows, columns) or (B, C, d, h, w) as
        the input lies.
        """
        channels = [n for n in range(1, tensor.ndim) if n not in self.axes]
        turned = tensor.permute(0, *channels, *self.axes)
        flipped = [n for n, sign in enumerate(self.signs, 2) if sign < 0]
        return turned.flip(flipped) if flipped else turned


@dataclass(frozen=True)
class Place:
    """The module that gives the last feature map, and how to lay that out.

    Args:
        name: the module's in its network.
        grid: (rows, columns) of tokens; None = the map has its axes already.
        prefix: class and register tokens before the patches.
    """

    module: nn.Module
    name: str
    layout: Layout
    grid: tuple[int, int] | None = None
    prefix: int = 0

    def laid(self, tensor: torch.Tensor) -> torch.Tensor:
        """What the module gave, or its gradient -> (B, C, rows, columns)."""
        return self.layout.laid(_unrolled(tensor, self.grid, self.prefix))


def layout(run, x: torch.Tensor, what: str) -> Layout:
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
    moved, shape = _moved(run, x)
    every = list(range(len(shape)))
    likely = channel_axes(shape, x.shape[2:])
    attempts = [[axis] for axis in likely if len(likely) == 1] + [every]
    # where the sizes name the channels, what moves along them is no move of place
    for channels in attempts:
        best = _best_axes(moved, channels)
        problem = _unclear(moved, best, shape, channels)
        if problem is None:
            break
    else:
        axis, follows = problem
        raise ValueError(
            f"expected {what}, {tuple(shape)}, to follow a change of the input "
            f"along its axis {axis}, got a move of {follows:.2f} of its length: where "
            "it lies over the input isn't known. Try method='occlusion'."
        )
    signs = [-1 if moved[k, j] < 0 else 1 for k, j in enumerate(best)]
    return Layout(tuple(j + 1 for j in best), tuple(signs))


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
    least = max(n / (side + 1) for n, side in zip(size, sides, strict=True))
    most = min(n / max(side - 1, 1e-9) for n, side in zip(size, sides, strict=True))
    return least < most


def _best_axes(moved, channels):
    """Of each axis of the input the map's along which most moves; one of `channels` is
    left out.
    """
    inputs, n = moved.shape
    orders = [
        axes
        for axes in permutations(range(n), inputs)
        if set(range(n)) - set(axes) <= set(channels)
    ]
    return max(
        orders,
        key=lambda axes: sum(float(moved[k, j].abs()) for k, j in enumerate(axes)),
    )


def _unclear(moved, best, shape, channels):
    """(axis of the input, its move) of the first that the map doesn't follow; None
    where it follows all.
    """
    places = [n for n in range(len(shape)) if channels != [n]]
    for k, j in enumerate(best):
        others = [abs(float(moved[k, n])) for n in places if n != j]
        follows = abs(float(moved[k, j]))
        if shape[j] > 1 and follows < max(FOLLOWS, CLEAR * max(others)):
            return k, follows
    return None


@torch.no_grad()
def _moved(run, x):
    """(input axes, map axes): how far what changes moves, in lengths of the map's axis;
    and the map's shape.

    A grey input gets noise in its first half, then the mirrored noise in its second:
    so what differs between the two is the place alone.
    """
    grey, noise = _grey_and_noise(x)
    plain = run(grey)
    rows = []
    for axis in range(2, x.ndim):
        half = x.shape[axis] // 2
        first = grey.clone()
        first.narrow(axis, 0, half).copy_(noise.narrow(axis, 0, half))
        change = [(run(one) - plain).abs() for one in (first, first.flip(axis))]
        rows.append(_centre(change[1]) - _centre(change[0]))
        least = min(float(one.sum()) for one in change)
        if not least > RESPONDS * float(plain.abs().sum()):
            rows[-1] = torch.zeros_like(rows[-1])  # nothing but rounding
    return torch.stack(rows), plain.shape[1:]


def _grey_and_noise(x):
    """Half-way between the input's darkest and brightest value, and blobs of noise
    between the two.
    """
    draw = torch.Generator().manual_seed(0)
    blobs = torch.rand(1, 1, *[BLOBS] * (x.ndim - 2), generator=draw)
    blobs = F.interpolate(blobs, x.shape[2:]).to(x).expand_as(x)
    low, high = float(x.min()), float(x.max())
    span = high - low or 1.0
    return torch.full_like(x, low + span / 2), low + span * blobs


def _centre(change):
    """(1, ...) sizes -> the centre of gravity along each axis but the first, 0 to 1."""
    found = []
    for axis in range(1, change.ndim):
        along = change.double().sum([n for n in range(change.ndim) if n != axis])
        at = (torch.arange(len(along)).to(along) + 0.5) / len(along)
        found.append((along * at).sum() / along.sum().clamp(min=1e-30))
    return torch.stack(found).cpu()


def last_map(model, forward, x) -> Place:
    """The last map of the image tower that all of the output passes through and that it
    reads at several places.

    Looked at are the tower's parts and the members of its lists, not what lies inside
    of a block; of timm's towers only what their `forward_features` runs. Searched once
    a network and size of input.

    Args:
        forward: (model, x) -> (B, K), with a gradient where x has one.
        x: (1, C, S, S); another one is changed in halves for `layout`.
    Raises:
        ValueError: there is no such map, or it doesn't follow the input.
    """
    known = _places.setdefault(model.net, {})
    if x.shape not in known:
        known[x.shape] = _search(model, forward, x.detach())
    return known[x.shape]


def _search(model, forward, x):
    output, seen = _run_and_keep(model, forward, x.clone().requires_grad_())
    draw = torch.Generator().manual_seed(0)
    weights = torch.randn(output.shape, generator=draw).to(output)
    score = (output * weights).sum()
    for name, module, given, node in reversed(seen):
        grids = _grids(model, given.shape)
        if not grids or not _is_cut(output.grad_fn, node):
            continue
        gradient = torch.autograd.grad(score, given, retain_graph=True)[0]
        for grid, prefix in grids:
            if not gradient.any() or _places_read(gradient, grid, prefix) > 1:
                return _place(model, forward, x, name, module, grid, prefix)
    raise ValueError(
        f"expected a last feature map in {model.name} that all of its output passes "
        "through, found none to weigh. Try method='occlusion'."
    )


def _place(model, forward, x, name, module, grid, prefix):
    run = _reader(model, forward, module, grid, prefix)
    shape = run(x).shape[1:]
    what = f"the last feature map of {model.name} ({name})"
    try:
        along = layout(run, x, what)
    except ValueError:
        # an untrained network may forget where its input changed: then the sizes tell
        along = _by_sizes(shape, grid or model.grid)
        if along is None:
            raise
    sides = [shape[axis - 1] for axis in along.axes]
    if any(side > 1.5 * known for side, known in zip(sides, model.grid, strict=True)):
        raise ValueError(
            f"expected all of the output of {model.name} to pass through its last feature "
            f"map {tuple(model.grid)}, got several scales: only one of {tuple(sides)} "
            f"({name}) carries all of it. Try method='occlusion'."
        )
    return Place(module, name, along, grid, prefix)


def _by_sizes(shape, grid):
    """The layout of (h, w, C) or (C, h, w), rows first; None where both would fit."""
    options = {(1, 2): shape[:2], (2, 3): shape[1:]}
    fitting = [axes for axes, sides in options.items() if tuple(sides) == tuple(grid)]
    return Layout(fitting[0], (1, 1)) if len(fitting) == 1 else None


def _run_and_keep(model, forward, x):
    """The output, and of each module that may give the map (name, module, tensor, its
    node in the graph), in order.
    """
    seen, calls = [], {}
    tower = getattr(model.net, "visual", model.net)
    tower = getattr(tower, "trunk", tower)
    features = getattr(tower, "forward_features", None)
    closed = []

    def note(module, _, out):
        out = _tensor(out)
        calls[module] = calls.get(module, 0) + 1
        if not closed and torch.is_tensor(out) and out.requires_grad:
            seen.append((names[module], module, out, out.grad_fn))

    def and_close(*args, **options):
        out = features(*args, **options)
        closed.append(True)
        return out

    names = {module: name for name, module in _parts(model.net)}
    with ExitStack() as stack, torch.enable_grad():
        for module in names:
            stack.callback(module.register_forward_hook(note).remove)
        if features is not None:
            tower.forward_features = and_close
            stack.callback(delattr, tower, "forward_features")
        output = forward(model, x)
    return output, [one for one in seen if calls[one[1]] == 1]


def _tensor(out):
    """What a module gave, or the one tensor in it; None where there are several."""
    if not isinstance(out, tuple | list):
        return out
    tensors = [part for part in out if torch.is_tensor(part)]
    return tensors[0] if len(tensors) == 1 and tensors[0] is out[0] else None


def _parts(module, prefix="", inside=False):
    """(name, module) of all but what lies inside of a member of a list."""
    for name, part in module.named_children():
        member = isinstance(module, nn.Sequential | nn.ModuleList)
        if member or not inside:
            yield f"{prefix}{name}", part
        yield from _parts(part, f"{prefix}{name}.", inside or member)


def _grids(model, shape):
    """[(grid, prefix)]: how the places of a map of this shape may lie; [] where it has
    one place or none.
    """
    if len(shape) == 4 and shape[0] == 1:
        return [(None, 0)] if sorted(shape[1:])[1] > 1 else []
    if len(shape) != 3 or shape[0] != 1:
        return []
    side = math.isqrt(shape[1])
    grids = sorted({tuple(model.grid), (side, side)}, key=lambda g: -g[0] * g[1])
    counts = [(grid, shape[1] - grid[0] * grid[1]) for grid in grids]
    return [
        (grid, rest) for grid, rest in counts if 0 <= rest <= PREFIX and grid != (1, 1)
    ]


def _unrolled(tensor, grid, prefix):
    return tensor if grid is None else tensor[:, prefix:].unflatten(1, grid)


def _places_read(gradient, grid, prefix):
    """How many places of the map the score depends on."""
    sizes = _unrolled(gradient, grid, prefix)[0].abs()
    counts = [
        (sizes.amax([n for n in range(3) if n != axis]) > 1e-6 * sizes.max()).sum()
        for axis in range(3)
    ]
    return int(sorted(counts)[1]) * bool(sizes.max() > 0)


def _is_cut(output, node):
    """Whether the output depends on the input through this node alone."""
    todo, met = [output], {node}
    while todo:
        one = todo.pop()
        if one in met:
            continue
        met.add(one)
        if type(one).__name__ == "AccumulateGrad":
            return False
        todo += [n for n, _ in one.next_functions if n is not None]
    return True


def _reader(model, forward, module, grid, prefix):
    def run(x):
        kept = []
        hook = module.register_forward_hook(
            lambda *call: kept.append(_tensor(call[-1]).clone())
        )
        try:
            forward(model, x)
        finally:
            hook.remove()
        return _unrolled(kept[0], grid, prefix)

    return run
