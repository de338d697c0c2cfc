"""The same work in one process and in two, for tests of what is spread over devices."""

import torch
from lightning_fabric import Fabric


def on_one_and_two(work, *args, folder):
    """Launch `work(fabric, *args, path)`, which saves tensors to `path`, in one process
    and in two; returns both.
    """
    for devices, strategy in ((1, "auto"), (2, "ddp_spawn")):
        fabric = Fabric(
            accelerator="cpu", devices=devices, strategy=strategy, precision="32-true"
        )
        fabric.launch(work, *args, folder / f"{devices}.pt")
    return tuple(
        torch.load(folder / f"{devices}.pt", weights_only=True) for devices in (1, 2)
    )
