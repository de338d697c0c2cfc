"""Networks from .keras files: written here, and the published one where it is."""

import io
import json
import zipfile

import h5py
import numpy as np
import pytest
import torch
import torch.nn.functional as F

import radwb as rw
from radwb.models.keras_layers import log_odds
from radwb.stats import auroc

SIDE = 18


def layer(kind, name, *inputs, **config):
    history = [{"config": {"keras_history": [other, 0, 0]}} for other in inputs]
    args = history if len(inputs) == 1 else [history]
    nodes = [{"args": args}] if inputs else []
    return {
        "class_name": kind,
        "config": {"name": name} | config,
        "inbound_nodes": nodes,
    }


def convolution(filters, *, stride=1, padding="same", bias=False):
    return {
        "filters": filters,
        "kernel_size": [3, 3],
        "strides": [stride, stride],
        "padding": padding,
        "dilation_rate": [1, 1],
        "groups": 1,
        "depth_multiplier": 1,
        "use_bias": bias,
    }


TRUNK = [
    layer("InputLayer", "film", batch_shape=[None, SIDE, SIDE, 3]),
    layer("Conv2D", "first", "film", **convolution(4, stride=2)),
    layer("BatchNormalization", "norm", "first", epsilon=0.1, scale=True, center=True),
    layer("SeparableConv2D", "apart", "norm", **convolution(4, bias=True)),
    layer("Add", "sum", "norm", "apart"),
    layer("Activation", "bend", "sum", activation="relu"),
    layer(
        "MaxPooling2D",
        "pool",
        "bend",
        pool_size=[3, 3],
        strides=[2, 2],
        padding="same",
    ),
]
HEAD = [
    layer("InputLayer", "input", batch_shape=[None, SIDE, SIDE, 3]),
    layer("Functional", "trunk", "input", layers=TRUNK, output_layers=[["pool", 0, 0]]),
    layer("GlobalAveragePooling2D", "mean", "trunk"),
    layer("Dropout", "drop", "mean"),
    layer("Dense", "out", "drop", units=2, use_bias=True, activation="softmax"),
]
INSIDE = "layers/functional/layers"


@pytest.fixture
def arrays():
    """What Keras would call them, in Keras's order of axes."""
    rng = np.random.default_rng(0)
    shapes = {
        f"{INSIDE}/conv2d/vars/0": (3, 3, 3, 4),
        f"{INSIDE}/batch_normalization/vars/0": (4,),
        f"{INSIDE}/batch_normalization/vars/1": (4,),
        f"{INSIDE}/batch_normalization/vars/2": (4,),
        f"{INSIDE}/batch_normalization/vars/3": (4,),
        f"{INSIDE}/separable_conv2d/vars/0": (3, 3, 4, 1),
        f"{INSIDE}/separable_conv2d/vars/1": (1, 1, 4, 4),
        f"{INSIDE}/separable_conv2d/vars/2": (4,),
        "layers/dense/vars/0": (4, 2),
        "layers/dense/vars/1": (2,),
        "optimizer/vars/0": (4, 2),
    }
    made = {name: rng.normal(size=shape) for name, shape in shapes.items()}
    made[f"{INSIDE}/batch_normalization/vars/3"] = rng.uniform(0.5, 2, 4)
    return {name: array.astype(np.float32) for name, array in made.items()}


def written(path, arrays, layers=HEAD, change=None, **more):
    content = io.BytesIO()
    with h5py.File(content, "w") as file:
        for name, array in arrays.items():
            file[name] = array
        if change:
            change(file)
    config = {"layers": layers, "output_layers": [["out", 0, 0]]}
    with zipfile.ZipFile(path, "w") as archive:
        text = json.dumps({"class_name": "Functional", "config": config} | more)
        archive.writestr("config.json", text)
        archive.writestr("model.weights.h5", content.getvalue())
    return path


def by_hand(arrays, x):
    """The network above, with TensorFlow's zeros: the odd one stands behind."""

    def kernel(name):
        return torch.from_numpy(arrays[name]).permute(3, 2, 0, 1)

    def values(kind):
        names = [f"{INSIDE}/{kind}/vars/{n}" for n in range(4)]
        return [torch.from_numpy(arrays[n]) for n in names if n in arrays]

    x = F.conv2d(F.pad(x, (0, 1, 0, 1)), kernel(f"{INSIDE}/conv2d/vars/0"), stride=2)
    gamma, beta, mean, variance = values("batch_normalization")
    x = F.batch_norm(x, mean, variance, gamma, beta, eps=0.1)
    depth = torch.from_numpy(arrays[f"{INSIDE}/separable_conv2d/vars/0"])
    apart = F.conv2d(x, depth.permute(2, 3, 0, 1), padding=1, groups=4)
    bias = torch.from_numpy(arrays[f"{INSIDE}/separable_conv2d/vars/2"])
    apart = F.conv2d(apart, kernel(f"{INSIDE}/separable_conv2d/vars/1"), bias)
    x = F.relu(x + apart)  # 9 x 9
    x = F.max_pool2d(F.pad(x, (1, 1, 1, 1), value=-torch.inf), 3, 2)
    weight, bias = (torch.from_numpy(arrays[f"layers/dense/vars/{n}"]) for n in (0, 1))
    return x.mean((2, 3)) @ weight + bias


CROSS_ENTROPY = {
    "class_name": "CategoricalCrossentropy",
    "config": {"from_logits": True},
}


@pytest.mark.parametrize("loss", ["categorical_crossentropy", CROSS_ENTROPY])
def test_a_softmax_keeps_its_probabilities(tmp_path, arrays, loss):
    """It is the last layer's, or the loss had it and the last layer is linear."""
    layers = json.loads(json.dumps(HEAD))
    layers[-1]["config"]["activation"] = (
        "softmax" if loss != CROSS_ENTROPY else "linear"
    )
    path = tmp_path / "a.keras"
    written(path, arrays, layers, compile_config={"loss": loss})
    model = rw.models.load(f"keras:{path}")
    x = torch.randn(3, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        probabilities = model.classify(x).sigmoid()
    assert torch.allclose(probabilities, by_hand(arrays, x).softmax(1), atol=1e-5)


def test_a_last_layer_of_numbers_stays_as_it_is(tmp_path, arrays):
    layers = json.loads(json.dumps(HEAD))
    layers[-1]["config"]["activation"] = "linear"
    model = rw.models.load(f"keras:{written(tmp_path / 'a.keras', arrays, layers)}")
    x = torch.randn(3, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.allclose(model.classify(x), by_hand(arrays, x), atol=1e-5)


@pytest.mark.parametrize("classes", [2, 3, 5])
def test_log_odds_of_a_softmax(classes):
    values = 9 * torch.randn(4, classes, generator=torch.Generator().manual_seed(1))
    odds = log_odds(values)
    assert torch.allclose(odds.sigmoid(), values.softmax(1), atol=1e-6)
    assert torch.allclose(log_odds(values + 7), odds, atol=1e-4)


def test_a_network_is_the_one_that_keras_would_run(tmp_path, arrays):
    path = written(tmp_path / "a.keras", arrays)
    model = rw.models.load(f"keras:{path}")
    x = torch.randn(3, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        logits = model.classify(x)
    values = by_hand(arrays, x)
    assert torch.allclose(logits, values - values.flip(1), atol=1e-5)
    assert model.findings == ["class 0", "class 1"]
    assert model.grid == (5, 5)
    assert "input on [-1, 1] is assumed" in model.notes[0]


def test_a_map_of_it_is_grad_cam_by_hand(tmp_path, arrays):
    model = rw.models.load(f"keras:{written(tmp_path / 'a.keras', arrays)}")
    pixels = np.random.default_rng(1).uniform(size=(SIDE, SIDE)).astype(np.float32)
    scan = rw.data.Scan(pixels)
    features = model.net.last_map(model.preprocess(scan)).detach()
    first, second = torch.from_numpy(arrays["layers/dense/vars/0"]).T
    weight = second - first
    grid = torch.einsum("behw,e->hw", features, weight).clamp(min=0).numpy()
    expected = rw.data.to_scan(grid, scan.shape, fit=model.fit)
    found = rw.attend.attention_map(model, scan, method="gradcam", target=1).values
    assert np.corrcoef(found.ravel(), expected.ravel())[0, 1] > 0.9999


def test_a_map_weighs_what_comes_out_of_the_last_relu(tmp_path, arrays):
    layers = json.loads(json.dumps(HEAD))
    normed = {"epsilon": 0.1, "scale": True, "center": True}
    layers[2:3] = [
        layer("BatchNormalization", "again", "trunk", **normed),
        layer("Activation", "last", "again", activation="relu"),
        layer("GlobalAveragePooling2D", "mean", "last"),
    ]
    layers[-1]["config"]["activation"] = "linear"
    for n, values in enumerate([[1, -2, 1, 2], [-1, 3, 0, -2], [0] * 4, [1] * 4]):
        arrays[f"layers/batch_normalization/vars/{n}"] = np.float32(values)
    model = rw.models.load(f"keras:{written(tmp_path / 'a.keras', arrays, layers)}")
    pixels = np.random.default_rng(1).uniform(size=(SIDE, SIDE)).astype(np.float32)
    scan = rw.data.Scan(pixels)
    features = model.net.last_map(model.preprocess(scan)).detach()
    assert (features == 0).any()
    weight = torch.from_numpy(arrays["layers/dense/vars/0"])[:, 1]
    grid = torch.einsum("behw,e->hw", features, weight).clamp(min=0).numpy() / 25
    expected = rw.data.to_scan(grid, scan.shape, fit=model.fit)
    found = rw.attend.attention_map(model, scan, method="gradcam", target=1).values
    assert found.max() > 0
    assert np.allclose(found, expected, atol=1e-5 * found.max())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("layer", "expected layers of .* got LSTM"),
        ("zip", "expected a .keras file of Keras 3"),
        ("missing", r"out.weight \(missing\)"),
        ("json", "expected the layers of a Keras 3 network"),
        ("external", "expected weights within the file"),
        ("activation", "expected an activation of relu, linear"),
    ],
)
def test_another_file_is_refused_in_one_sentence(tmp_path, arrays, change, message):
    path = tmp_path / "a.keras"
    layers = json.loads(json.dumps(HEAD))
    outside = None
    if change == "layer":
        layers[3] = layer("LSTM", "drop", "mean")
    elif change == "missing":
        del arrays["layers/dense/vars/0"]
        del arrays["layers/dense/vars/1"]
    elif change == "json":
        layers = [{"class_name": "Dense"}]
    elif change == "activation":
        layers[-1]["config"]["activation"] = "gelu"
    elif change == "external":
        (tmp_path / "secret").write_bytes(bytes(80))

        def outside(file):
            place = [(str(tmp_path / "secret"), 0, 80)]
            file.create_dataset("layers/x", (20,), "f4", external=place)

    written(path, arrays, layers, outside)
    if change == "zip":
        path.write_bytes(b"not a zip")
    with pytest.raises(ValueError, match=message):
        rw.models.load(f"keras:{path}")


@pytest.fixture
def kermany():
    try:
        rw.data.fetch("kermany-xception", offline=True)
        return rw.models.load("kermany-xception"), rw.data.real("kermany")
    except rw.data.FetchError as error:
        pytest.skip(f"the published classifier or its films aren't here: {error}")


def test_the_published_classifier_knows_the_films_it_was_made_for(kermany):
    model, films = kermany
    scans = [rw.data.scan_of(row) for _, row in films.iterrows()]
    x = model.preprocess(scans)
    with torch.no_grad():
        _, ill = torch.cat([model.classify(part) for part in x.split(32)]).T
    sick = (films["Pneumonia"] == 1).to_numpy()
    assert auroc(sick, ill.numpy()) == pytest.approx(0.990, abs=0.005)
    right = (ill > 0).numpy() == sick
    assert right[sick].mean() == pytest.approx(0.94, abs=0.02)
    assert right[~sick].mean() == pytest.approx(0.97, abs=0.02)
