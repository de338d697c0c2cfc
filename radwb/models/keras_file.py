"""Convolutional networks from a .keras file, in plain torch: no TensorFlow, no code.

A .keras file is a zip with the layers as JSON and their weights as HDF5
(https://keras.io/guides/serialization_and_saving). Only the layers of
`keras_layers.LAYERS` are known: what the published image classifiers are made of.
"""

import io
import json
import re
import zipfile
from pathlib import Path

import torch
from torch import nn

from radwb.models import checks
from radwb.models.hub import only_own_size
from radwb.models.keras_layers import (
    ACTIVATIONS,
    LAYERS,
    LOG_ODDS,
    GlobalMean,
    SeparableConv2d,
)
from radwb.models.model import Model
from radwb.models.sources import fill

PARTS = ("config.json", "model.weights.h5")
NESTED = ("Functional", "Model", "Sequential")


class KerasNet(nn.Module):
    """The layers of a .keras file, run in the order of their connections.

    Args:
        config: of the file, a JSON object.
    Raises:
        ValueError: a layer that isn't known, or one that is connected otherwise.
    """

    def __init__(self, config: dict):
        super().__init__()
        self.steps = []  # (name of the layer, its activation, names of its inputs)
        self.weights = {}  # name of the layer -> its place in the HDF5 file
        self.channels = {}
        self.parts = nn.ModuleDict()
        self.input = ""
        self.loss = _of_logits(config.get("compile_config"))
        self.output = self._lay(config["config"], "layers", None)
        pools = [n for n, part in self.parts.items() if isinstance(part, GlobalMean)]
        if len(pools) != 1:
            raise ValueError(
                f"expected one global average before the head, got {len(pools)}"
            )
        self.pool = pools[0]
        self.classes = self.channels[self.output]

    def _lay(self, config, place, source):
        """Add the layers of one container; gives the name of its output.

        Args:
            config: of the container.
            place: of its layers in the HDF5 file.
            source: the name of what comes in; None for the outermost.
        """
        known = {}  # name in this container -> name of the step
        used = {}
        for layer in config["layers"]:
            kind = layer["class_name"]
            name = layer["config"]["name"]
            snake = _snake(kind)
            number = used[snake] = used.get(snake, -1) + 1
            here = f"{place}/{snake}" + (f"_{number}" if number else "")
            if kind == "InputLayer":
                known[name] = source or self._enter(layer["config"])
                continue
            inputs = [known[other] for other in _inputs(layer)]
            if kind in NESTED:
                known[name] = self._lay(layer["config"], f"{here}/layers", inputs[0])
            else:
                known[name] = self._add(layer, here, inputs)
        (output,) = config["output_layers"]
        return known[output[0]]

    def _enter(self, config):
        _, height, width, channels = config["batch_shape"]
        self.side = checks.whole(height, "the input's height", high=checks.MAX_SIDE)
        if width != height:
            raise ValueError(f"expected a square input, got {height} x {width}")
        self.input = config["name"]
        self.channels[self.input] = channels
        return self.input

    def _add(self, layer, place, inputs):
        kind, config = layer["class_name"], layer["config"]
        if kind not in LAYERS:
            raise ValueError(f"expected layers of {', '.join(LAYERS)}; got {kind}")
        name = f"{len(self.steps)}_{config['name']}".replace(".", "_")
        channels = self.channels[inputs[0]]
        part = LAYERS[kind](config, channels)
        self.parts[name] = part
        self.weights[name] = f"{place}/vars"
        self.channels[name] = config.get("filters") or config.get("units") or channels
        activation = config.get("activation", "linear")
        if activation not in (*ACTIVATIONS, *LOG_ODDS):
            raise ValueError(
                f"expected an activation of {', '.join(ACTIVATIONS)} in "
                f"{config['name']}, got {activation!r}"
            )
        if isinstance(part, nn.ReLU):
            activation = "linear"  # once is enough, for the gradient too
        self.steps.append((name, activation, inputs))
        return name

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, C, side, side) -> (B, K) logits: their sigmoids are what Keras gives."""
        return self._run(x)[self.output]

    def encode_image(self, x: torch.Tensor) -> torch.Tensor:
        """(B, C, side, side) -> (B, E), the mean of the last feature map."""
        return self._run(x)[self.pool]

    def last_map(self, x: torch.Tensor) -> torch.Tensor:
        """(B, C, side, side) -> (B, E, h, w), what the global average is of."""
        (source,) = next(inputs for name, _, inputs in self.steps if name == self.pool)
        return self._run(x)[source]

    def _run(self, x):
        values = {self.input: x}
        for name, activation, inputs in self.steps:
            value = self.parts[name](*[values[other] for other in inputs])
            known = ACTIVATIONS
            if name == self.output:
                known = ACTIVATIONS | LOG_ODDS
                activation = self.loss or activation
            values[name] = known[activation](value)
        return values


def read_keras(path: str | Path) -> tuple[KerasNet, dict[str, torch.Tensor]]:
    """The network of a .keras file, and its weights by the names of the network.

    Raises:
        FileNotFoundError: no such file.
        ValueError: no .keras file, one too large, layers that aren't known, or weights
            of another network. Nothing in the file is run.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(
            f"expected a .keras file, got {path}, which isn't there"
        )
    config, weights = _unpacked(path)
    try:
        net = KerasNet(config)
    except (KeyError, TypeError, IndexError, AttributeError) as error:
        raise ValueError(
            f"expected the layers of a Keras 3 network in {path.name}, got others "
            f"({type(error).__name__}: {checks.printable(error)[:90]})"
        ) from error
    tensors = {}
    for name, place in net.weights.items():
        arrays = []
        while f"{place}/{len(arrays)}" in weights:
            arrays.append(weights[f"{place}/{len(arrays)}"])
        tensors |= _in_torch(name, net.parts[name], arrays)
    return net, tensors


def _unpacked(path):
    """The configuration, and {place: array} of the weights."""
    if not zipfile.is_zipfile(path):
        raise ValueError(
            f"expected a .keras file of Keras 3, which is a zip, got {path.name}"
        )
    with zipfile.ZipFile(path) as archive:
        sizes = {info.filename: info.file_size for info in archive.infolist()}
        for name, limit in zip(PARTS, (checks.MAX_JSON, checks.MAX_BYTES), strict=True):
            if not 0 < sizes.get(name, 0) <= limit:
                raise ValueError(
                    f"expected {name} of at most {limit:,} bytes in {path.name}, "
                    f"got {sizes.get(name, 0):,}"
                )
        config = json.loads(archive.read(PARTS[0]))
        return checks.mapping(config, path.name), _hdf5(archive.read(PARTS[1]))


def _hdf5(content):
    """{place: array} of what lies in the file itself; links are not followed."""
    try:
        import h5py
    except ImportError as error:
        raise ValueError(
            "expected the package h5py for a .keras file, which is not installed. "
            "Try: pip install h5py"
        ) from error
    arrays = {}

    def take(place, node):
        if not isinstance(node, h5py.Dataset) or not place.startswith("layers/"):
            return
        if node.external or node.is_virtual or node.nbytes > len(content):
            raise ValueError(
                f"expected weights within the file, got others at {place[:80]!r}"
            )
        arrays[place] = torch.from_numpy(node[()])

    with h5py.File(io.BytesIO(content)) as file:
        file.visititems(take)
    return arrays


def _in_torch(name, module, arrays):
    """Keras's arrays of one layer, by torch's names and in torch's order of axes."""
    if isinstance(module, nn.BatchNorm2d):
        names = ("weight", "bias", "running_mean", "running_var")
    elif isinstance(module, SeparableConv2d):
        names = ("depthwise.weight", "pointwise.weight", "pointwise.bias")
        arrays = [a.permute(2, 3, 0, 1) if n == 0 else a for n, a in enumerate(arrays)]
        arrays[1:2] = [a.permute(3, 2, 0, 1) for a in arrays[1:2]]
    else:
        names = ("weight", "bias")
        arrays = [_kernel(array) for array in arrays]
    parts = zip(names, arrays, strict=False)
    return {f"parts.{name}.{part}": array for part, array in parts}


def _kernel(array):
    """(h, w, in, out) -> (out, in, h, w); (in, out) -> (out, in)."""
    order = (3, 2, 0, 1) if array.ndim == 4 else tuple(range(array.ndim))[::-1]
    return array.permute(order)


def _of_logits(compiled):
    """What the loss of the training did itself, behind a last layer without it."""
    loss = (compiled or {}).get("loss")
    if not isinstance(loss, dict) or not loss["config"].get("from_logits"):
        return None
    categorical = loss["class_name"].endswith("CategoricalCrossentropy")
    return "softmax" if categorical else None


def _inputs(layer):
    """The names of the layers whose outputs go into one."""
    (node,) = layer["inbound_nodes"]
    (tensors,) = node["args"]
    if isinstance(tensors, dict):
        tensors = [tensors]
    return [tensor["config"]["keras_history"][0] for tensor in tensors]


def _snake(name):
    """The name that Keras gives a kind of layer in its HDF5 file.

    >>> _snake("SeparableConv2D")
    'separable_conv2d'
    """
    first = re.sub(r"\W+", "", name)
    parted = re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", first)
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", parted).lower()


def load_keras(rest: str, name: str, *, download: bool, size: int | None) -> Model:
    """keras:FILE, an image classifier; its file says nothing of its preprocessing."""
    only_own_size(size, name)
    net, tensors = read_keras(rest)
    note = "a file says nothing of its preprocessing: input on [-1, 1] is assumed"
    model = keras_model(net, name, notes=(note,))
    model.notes += fill(net, tensors, rest)
    return model


def keras_model(
    net: KerasNet,
    name: str,
    findings: list[str] | None = None,
    notes: tuple[str, ...] = (),
    fit: str = "squash",
) -> Model:
    """The network as a `Model` whose input is a square on [-1, 1].

    Args:
        findings: what its outputs mean; None = "class 0" and so on.
        fit: how a film is made square, as in `Model`.
    """
    channels = net.channels[net.input]
    grey = {"channels": channels, "mean": (0.5,) * channels, "std": (0.5,) * channels}
    with torch.no_grad():
        side = net.last_map(torch.zeros(1, channels, net.side, net.side)).shape[-1]
    return Model(
        net,
        name,
        "image",
        net.side,
        **grey,
        fit=fit,
        grid=(side, side),
        findings=findings or [f"class {n}" for n in range(net.classes)],
        notes=notes,
    )
