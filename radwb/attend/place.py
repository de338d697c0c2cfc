"""Where a network's last feature map is: found by asking the network, never assumed.

It is the last one that all of the output passes through and that is read at several
places; how it lies over the input is for `layout` to find out.
"""

import math
from contextlib import ExitStack
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import torch
from torch import nn

from radwb.attend.layout import Layout, layout
from radwb.attend.threads import of_this_thread
from radwb.attend.tokens import outputs_of

PREFIX = 16  # class and register tokens at most
_places = WeakKeyDictionary()  # network -> {shape of its input: Place}; searched once


@dataclass(frozen=True)
class Tokens:
    """How the places of a module's output lie in it.

    Args:
        grid: (rows, columns) of tokens; None = the output has its axes already.
        prefix: class and register tokens before the patches.
    """

    grid: tuple[int, int] | None = None
    prefix: int = 0

    def unrolled(self, tensor: torch.Tensor) -> torch.Tensor:
        """(B, T, C) -> (B, rows, columns, C); another tensor as it is."""
        if self.grid is None:
            return tensor
        return tensor[:, self.prefix :].unflatten(1, self.grid)


@dataclass(frozen=True)
class Place:
    """The module that gives the last feature map, and how to lay that out.

    Args:
        module: runs once in a forward pass.
        name: the module's in its network.
        layout: of its output, once it has an axis for each of the input's.
        tokens: how it gets these.
    """

    module: nn.Module
    name: str
    layout: Layout
    tokens: Tokens = Tokens()

    def laid(self, tensor: torch.Tensor) -> torch.Tensor:
        """What the module gave, or its gradient -> (B, C, rows, columns)."""
        return self.layout.laid(self.tokens.unrolled(tensor))


def last_map(model, forward, x) -> Place:
    """The last map that all of the output passes through, read at several places.

    Looked at are the tower's parts and the members of its lists, not what lies inside
    of a block; of timm's towers only what their `forward_features` runs. Searched once
    a network and size of input.

    Args:
        model: a `rw.models.Model`.
        forward: (model, x) -> (B, K), with a gradient where x has one.
        x: (1, C, S, S); another one is changed in halves for `layout`.
    Raises:
        ValueError: there is no such map, or it doesn't follow the input.
    """
    by_shape = _places.setdefault(model.net, {})
    if x.shape not in by_shape:
        by_shape[x.shape] = _search(model, forward, x.detach())
    return by_shape[x.shape]


def _search(model, forward, x):
    output, calls = _run_and_note(model, forward, x.clone().requires_grad_())
    draw = torch.Generator().manual_seed(0)
    weights = torch.randn(output.shape, generator=draw).to(output)
    score = (output * weights).sum()
    for name, module, features, node in reversed(calls):
        ways = _ways_to_lie(model, features.shape)
        if not ways or not _is_cut(output.grad_fn, node):
            continue
        gradient = torch.autograd.grad(score, features, retain_graph=True)[0]
        for tokens in ways:
            if not gradient.any() or _places_read(tokens.unrolled(gradient)) > 1:
                return _place(model, forward, x, name, module, tokens)
    raise ValueError(
        f"expected a last feature map in {model.name} that all of its output passes "
        "through, found none to weigh. Try method='occlusion'."
    )


def _place(model, forward, x, name, module, tokens):
    def run(x):
        with outputs_of(module) as outputs:
            forward(model, x)
        return tokens.unrolled(outputs[0])

    shape = run(x).shape[1:]
    what = f"the last feature map of {model.name} ({name})"
    try:
        along = layout(run, x, what)
    except ValueError:
        # an untrained network may forget where its input changed: then the sizes tell
        along = _by_sizes(shape, tokens.grid or model.grid)
        if along is None:
            raise
    sides = [shape[axis - 1] for axis in along.axes]
    pairs = zip(sides, model.grid, strict=True)
    if any(side > 1.5 * in_grid for side, in_grid in pairs):
        raise ValueError(
            f"expected all of the output of {model.name} to pass through its last "
            f"feature map {tuple(model.grid)}, got several scales: only one of "
            f"{tuple(sides)} ({name}) carries all of it. Try method='occlusion'."
        )
    return Place(module, name, along, tokens)


def _by_sizes(shape, grid):
    """The layout of (h, w, C) or (C, h, w), rows first; None where both would fit."""
    options = {(1, 2): shape[:2], (2, 3): shape[1:]}
    fitting = [axes for axes, sides in options.items() if tuple(sides) == tuple(grid)]
    return Layout(fitting[0], (1, 1)) if len(fitting) == 1 else None


def _run_and_note(model, forward, x):
    """The output, and of each module that may give the map what it gave, in order.

    Returns:
        (B, K), and a list of (name, module, tensor, its node in the graph).
    """
    noted, times = [], {}
    closed = False
    tower = image_tower(model)
    features = getattr(tower, "forward_features", None)
    names = {module: name for name, module in _parts(model.net)}

    @of_this_thread
    def note(module, _, output):
        tensor = _tensor(output)
        times[module] = times.get(module, 0) + 1
        if not closed and torch.is_tensor(tensor) and tensor.requires_grad:
            noted.append((names[module], module, tensor, tensor.grad_fn))

    @of_this_thread
    def close():
        nonlocal closed
        closed = True

    def and_close(*args, **options):
        output = features(*args, **options)
        close()
        return output

    with ExitStack() as stack, torch.enable_grad():
        for module in names:
            stack.callback(module.register_forward_hook(note).remove)
        if features is not None:
            tower.forward_features = and_close
            stack.callback(delattr, tower, "forward_features")
        output = forward(model, x)
    return output, [call for call in noted if times[call[1]] == 1]


def image_tower(model) -> nn.Module:
    """The image tower, out of what open_clip or radwb wrap it in."""
    tower = getattr(model.net, "visual", model.net)
    return getattr(tower, "trunk", tower)


def _tensor(output):
    """What a module gave, or the one tensor in it; None where there are several."""
    if not isinstance(output, tuple | list):
        return output
    tensors = [part for part in output if torch.is_tensor(part)]
    return tensors[0] if len(tensors) == 1 and tensors[0] is output[0] else None


def _parts(module, prefix="", inside=False):
    """(name, module) of all but what lies inside of a member of a list."""
    for name, part in module.named_children():
        member = isinstance(module, nn.Sequential | nn.ModuleList)
        if member or not inside:
            yield f"{prefix}{name}", part
        yield from _parts(part, f"{prefix}{name}.", inside or member)


def _ways_to_lie(model, shape):
    """How the places of a map of this shape may lie; none where it has at most one."""
    if len(shape) == 4 and shape[0] == 1:
        return [Tokens()] if sorted(shape[1:])[1] > 1 else []
    if len(shape) != 3 or shape[0] != 1:
        return []
    side = math.isqrt(shape[1])
    grids = {tuple(model.grid), (side, side)} - {(1, 1)}
    ways = [Tokens(grid, shape[1] - math.prod(grid)) for grid in grids]
    ways = [tokens for tokens in ways if 0 <= tokens.prefix <= PREFIX]
    return sorted(ways, key=lambda tokens: (tokens.prefix, tokens.grid))


def _places_read(gradient):
    """How many places of the map the score depends on."""
    sizes = gradient[0].abs()
    if not sizes.max() > 0:
        return 0
    counts = []
    for axis in range(3):
        along = sizes.amax([n for n in range(3) if n != axis])
        counts.append(int((along > 1e-6 * sizes.max()).sum()))
    return sorted(counts)[1]


def _is_cut(output, node):
    """Whether the output depends on the input through this node alone."""
    todo, met = [output], {node}
    while todo:
        step = todo.pop()
        if step in met:
            continue
        met.add(step)
        if type(step).__name__ == "AccumulateGrad":
            return False
        todo += [n for n, _ in step.next_functions if n is not None]
    return True
