"""The parts of `gpu.py` on equality: what the device gives is what the CPU gives.

Each yields rows {what, value, unit} and more.
"""

import copy
from collections.abc import Iterator

import numpy as np
import torch
from gpu_machine import (
    Machine,
    chest,
    claim,
    classifier,
    figure,
    guarded,
    monai_vit,
    peak_flops,
    resnet_152,
    scan,
)
from gpu_speed import SPEED

import radwb as rw

ATTENTION_LIMIT = 1e-4  # between the shares of two devices, which sum to one
MAP_LIMIT = 1e-3  # of the map's largest value; float32, without TF32
METHODS_3D = ("gradcam", "attention", "rollout", "relevance", "occlusion")


def card(machine: Machine) -> Iterator[dict]:
    """Which device, and its ceilings: a product of random matrices, a copy."""
    n, copied = (256, 2**20) if machine.small else (8192, 2**30)
    name = "processor"
    if machine.device == "cuda":
        name = torch.cuda.get_device_name()
    flops = peak_flops(machine, n)
    yield figure("bf16 product", flops / 1e12, "TFLOP/s", device=name, side=n)
    a = torch.empty(copied, dtype=torch.uint8, device=machine.device)
    seconds = machine.seconds(a.clone)
    yield figure("copy", 2 * copied / seconds / 1e9, "GB/s", torch=torch.__version__)


def capture(machine: Machine) -> Iterator[dict]:
    """The proofs hold on the device (or it raises), and it sees what the CPU sees."""
    pool = {"global_pool": "map", "class_token": False}
    towers = {
        "radwb-tiny": (lambda: rw.models.load("radwb-tiny"), "pleural effusion"),
        "ViT-S/16": (lambda: classifier(machine), 0),
        "with a pool": (lambda: classifier(machine, **pool), 0),
    }
    for name, (make, target) in towers.items():
        yield guarded(
            name, lambda m=make, t=target, n=name: captured(machine, m(), t, n)
        )


def captured(machine, model, target, name):
    def seen():
        x = model.preprocess(scan())
        return rw.attend.capture(model, x, target=target)

    here = seen()
    model.to(machine.device)
    there = seen()
    shares = (there["attention"].cpu() - here["attention"]).abs().max()
    slopes = there["gradients"].cpu() - here["gradients"]
    relative = slopes.abs().max() / here["gradients"].abs().max()
    what = f"attention of {name}, device against CPU"
    return claim(what, shares, ATTENTION_LIMIT, gradients=float(relative))


def maps(machine: Machine) -> Iterator[dict]:
    """Every method of the shipped model, on the device and on the CPU."""
    here = rw.models.load("radwb-tiny")
    there = copy.deepcopy(here).to(machine.device)
    methods = rw.attend.METHODS
    if machine.small:
        methods = [m for m in methods if m not in ("rise", "smoothgrad")]
    for method in methods:
        yield guarded(method, lambda m=method: same_map(machine, here, there, m))


def same_map(machine, here, there, method):
    targets = ["pleural effusion", "no finding"]
    if method != "similarity":
        targets += [0, 1]  # neurons: something speaks for one of these

    def values(model):
        maps = rw.attend.attention_maps(model, scan(), method=method, targets=targets)
        return np.stack([m.values for m in maps])

    expected = values(here)
    difference = np.abs(values(there) - expected).max() / np.abs(expected).max()
    seconds = machine.seconds(lambda: values(there), repeats=3)
    return claim(f"map by {method}", difference, MAP_LIMIT, ms=1000 * seconds)


def volumes(machine: Machine) -> Iterator[dict]:
    """Maps and cells of 3-D networks, on the device and on the CPU."""
    volume = chest(32)
    vit = monai_vit(32)
    cnn = resnet_152(Machine(small=True))[0]
    direction = torch.ones(256)

    def of_vit(method):
        options = {"method": method, "target": 0, "mask": (16, 16, 16)}
        return rw.attend.volume_map(vit, volume, **options).values

    def of_cnn(_):
        options = {"method": "gradcam", "target": direction, "layer": "layer2"}
        return rw.attend.volume_map(cnn, volume, **options).values

    def cells(_):
        return rw.attend.cells(cnn, volume, "layer3").features

    calls = {f"ViT by {method}": (vit, of_vit, method) for method in METHODS_3D}
    calls["3-D Grad-CAM of a ResNet"] = (cnn, of_cnn, None)
    calls["cells of a ResNet"] = (cnn, cells, None)
    for what, (net, call, method) in calls.items():
        yield guarded(
            what, lambda w=what, n=net, c=call, m=method: same(machine, w, n, c, m)
        )


def same(machine, what, net, call, method):
    expected = call(method)
    try:
        net.to(machine.device)
        got = call(method)
    finally:
        net.to("cpu")
    difference = np.abs(got - expected).max() / np.abs(expected).max()
    return claim(what, difference, MAP_LIMIT)


PARTS = {"card": card, "capture": capture, "maps": maps, "volumes": volumes} | SPEED
