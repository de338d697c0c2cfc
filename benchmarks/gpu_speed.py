"""The parts of `gpu.py` on speed and memory.

Each yields rows {what, value, unit} and more.
"""

import copy
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from gpu_machine import (
    Machine,
    chest,
    figure,
    films,
    guarded,
    monai_vit,
    peak_flops,
    resident_gib,
    resnet_152,
    scan,
    vit_large,
)

import radwb as rw

SKIPPED = 3  # steps at a run's start that aren't timed
MAPS = ("gradcam", "attention", "rollout", "relevance", "value_norm", "similarity")


# training


def training(machine: Machine) -> Iterator[dict]:
    """`fit` in bf16 against open_clip's own loop: one network, one batch size.

    Ours reads the squares, augments them and follows captions that stand twice; theirs
    gets its batches ready made, from pinned memory, and changes nothing on them.
    """
    batch = 8 if machine.small else 256
    side = 32 if machine.small else 224
    width = 48 if machine.small else 768
    shape = {"size": side, "width": width, "heads": width // 64 or 1}
    shape |= {"layers": 1 if machine.small else 12, "embed": 64}
    with tempfile.TemporaryDirectory() as folder:
        table = films(folder, 4 * batch, side)
        run = fitted(machine, table, shape, batch, Path(folder) / "run")
        config = run.config
        seconds = np.diff(run.log["seconds"])[SKIPPED:]
        model = rw.models.load(run.out)
        data = batches(machine, model, table, batch)
    cost = config["cost"]
    flops = 1e12 * cost["tflop_per_s_estimate"] / cost["images_per_s"]
    peak = peak_flops(machine, 256 if machine.small else 8192)
    rate = batch / np.median(seconds)
    about = {"batch": batch, "size": side, "precision": config["precision_used"]}
    about |= {"gflop_an_image": flops / 1e9, "parameters": parameters(model.net)}
    yield rate_row("fit", rate, flops, peak, about)

    def theirs():
        seconds = peer_seconds(machine, model, data, batch)
        return rate_row("open_clip's loop", batch / seconds, flops, peak, about)

    peer = guarded("open_clip's loop", theirs)
    yield peer
    if "value" in peer:
        ratio = rate / peer["value"]
        yield figure("fit against open_clip's loop", ratio, "x", batch=batch)


def fitted(machine, table, shape, batch, out):
    precision = "bf16-mixed" if machine.device == "cuda" else "32-true"
    steps = {"epochs": 3 if machine.small else 10, "save_every": 10**6}
    options = {"batch": batch, "shape": shape, "precision": precision} | steps
    return rw.pretrain.fit(table, recipe="clip-tiny", out=out, **options)


def parameters(net) -> int:
    return sum(p.numel() for p in net.parameters())


def rate_row(what, rate, flops, peak, about):
    """Images a second, and the share of the peak that they are."""
    share = rate * flops / peak
    return figure(what, rate, "images/s", share_of_peak=float(share), **about)


def batches(machine, model, table, batch):
    """(images, texts) of the films as their loop takes them, pinned for a GPU."""
    x = model.preprocess(rw.data.images(table, model.size)).cpu()
    tokens = model.tokenizer(list(table["report"]))
    pairs = zip(x.split(batch), tokens.split(batch), strict=True)
    if machine.device == "cuda":
        return [(a.pin_memory(), b.pin_memory()) for a, b in pairs]
    return list(pairs)


class Loader(list):
    """Batches as open_clip's loop counts them."""

    num_batches = property(len)
    num_samples = property(lambda self: sum(len(images) for images, _ in self))


def peer_seconds(machine, model, data, batch) -> float:
    """Seconds a step of `open_clip_train.train.train_one_epoch`."""
    from open_clip.loss import ClipLoss
    from open_clip_train.train import train_one_epoch

    net = copy.deepcopy(model.net).to(machine.device)
    net.output_dict = True
    optimizer = torch.optim.AdamW(net.parameters(), lr=5e-4, fused=True)
    precision = "amp_bf16" if machine.device == "cuda" else "fp32"
    args = SimpleNamespace(
        device=machine.device,
        precision=precision,
        accum_freq=1,
        distill=False,
        skip_scheduler=True,
        grad_clip_norm=1.0,
        log_every_n_steps=10**9,
        batch_size=batch,
        rank=0,
        local_rank=0,
        world_size=1,
        horovod=False,
        wandb=False,
    )
    steps = Loader(data * (1 if machine.small else 8))
    loader = SimpleNamespace(set_epoch=lambda epoch: None, dataloader=steps)

    def epoch():
        train_one_epoch(
            net, {"train": loader}, ClipLoss(), 0, optimizer, None, None, None, args
        )

    return machine.seconds(epoch, repeats=2) / len(steps)


# answers


def embedding(machine: Machine) -> Iterator[dict]:
    """Images to points, as `embed` does it and as open_clip's `encode_image`."""
    from radwb.models.model import autocast

    model = vit_large(machine)
    n = 8 if machine.small else 2048
    images = np.random.default_rng(0).integers(0, 256, (n, 224, 224), dtype=np.uint8)
    x = model.preprocess(images[: n // 2])

    @torch.no_grad()
    def theirs():
        with autocast(model.device, None):
            for part in x.split(256):
                model.net.encode_image(part, normalize=True)

    for batch in (4,) if machine.small else (32, 256):
        seconds = machine.seconds(
            lambda b=batch: rw.models.embed(model, images, batch=b), repeats=2
        )
        yield figure(f"embed, {model.name}, batch {batch}", n / seconds, "images/s")
    seconds = machine.seconds(theirs, repeats=2)
    what = f"open_clip's encode_image, {model.name}, pixels at hand"
    yield figure(what, len(x) / seconds, "images/s")


def latency(machine: Machine) -> Iterator[dict]:
    """From a film to its map, on ViT-L/14."""
    model = vit_large(machine)
    film = scan()
    for method in MAPS:

        def one(method=method):
            options = {"method": method, "target": "a phrase"}
            rw.attend.attention_map(model, film, **options)

        def row(one=one, method=method):
            seconds = machine.seconds(one)
            memory = machine.peak_gib(one)
            what = f"a map by {method}, {model.name}"
            return figure(what, 1000 * seconds, "ms", gib=memory)

        yield guarded(method, row)


def explorer(machine: Machine) -> Iterator[dict]:
    """From a change in the explorer to what it shows, without the browser's part."""
    model = vit_large(machine)
    scans = [scan(seed) for seed in range(8)]
    widget = rw.show.explore(model, scans)
    last = len(model.net.visual.transformer.resblocks) - 1
    changes = {
        "a head": [{"layer": last, "head": head} for head in range(5)],
        "a patch": [{"patch": [row, 3], "direction": "from"} for row in range(5)],
        "a phrase": [
            {"method": "relevance", "target": f"phrase {n}"} for n in range(5)
        ],
        "a method": [{"method": m} for m in ("gradcam", "rollout", "relevance")],
    }
    try:
        for what, each in changes.items():
            calls = [lambda c=change: widget.choose(**c) for change in each]
            yield guarded(what, lambda w=what, c=calls: drawn(widget, w, c))
        calls = [lambda n=n: setattr(widget, "case", n) for n in range(1, 8)]
        yield guarded("a film", lambda: drawn(widget, "another film", calls))
    finally:
        widget.close()


def drawn(widget, what: str, calls: list[Callable]) -> dict:
    times = []
    for call in calls:
        began = time.perf_counter()
        call()
        widget.wait()
        times.append(1000 * (time.perf_counter() - began))
    error = widget.views[0].get("error", "")
    value = float(np.median(times))
    more = {"slowest": max(times), "n": len(times), "says": error}
    return figure(f"explorer: {what}", value, "ms", **more)


# volumes


def astra(machine: Machine) -> Iterator[dict]:
    """The published CT encoder: a pass, a map, the cells, and what they take.

    On a processor the memory is the process's, all told, so it only grows.
    """
    net, weights = resnet_152(machine)
    net.to(machine.device)
    volume = chest(64 if machine.small else 336)
    x = net.preprocess(volume)
    direction = torch.randn(width_of(net, x))

    @torch.no_grad()
    def forward():
        net.net(x)

    def cells():
        rw.attend.cells(net, volume, "layer2")

    def gradcam():
        options = {"method": "gradcam", "layer": "layer3", "target": direction}
        rw.attend.volume_map(net, volume, **options)

    calls = {"a pass": forward, "cells of layer 2": cells, "Grad-CAM": gradcam}
    for name, call in calls.items():
        what = f"astra-ct ({weights}): {name}"
        yield guarded(what, lambda w=what, c=call: time_and_memory(machine, w, c))


def width_of(net, x) -> int:
    """How many outputs a network has."""
    with torch.no_grad():
        return net.net(net.smaller(x)).shape[-1]


def time_and_memory(machine, what, call):
    """Memory first: the first call of all is what a user waits for."""
    began = time.perf_counter()
    memory = machine.peak_gib(call)
    machine.wait()
    first = time.perf_counter() - began
    seconds = first
    if machine.device == "cuda":
        seconds = machine.seconds(call, repeats=3)
    more = {"gib": memory, "first_s": first, "process_gib": resident_gib()}
    return figure(what, seconds, "s", **more)


def memory(machine: Machine) -> Iterator[dict]:
    """The memory of maps at 96^3 and 160^3 voxels: 1,728 and 8,000 tokens."""
    for side in (16, 24) if machine.small else (96, 160):
        net = monai_vit(side).to(machine.device)
        volume = chest(side)
        for method in ("gradcam", "rollout", "relevance"):

            def one(net=net, volume=volume, method=method):
                rw.attend.volume_map(net, volume, method=method, target=0)

            what = f"ViT of patches of 8, {side}^3: {method}"
            yield guarded(what, lambda w=what, c=one: time_and_memory(machine, w, c))


SPEED = {
    "training": training,
    "embedding": embedding,
    "latency": latency,
    "explorer": explorer,
    "astra": astra,
    "memory": memory,
}
