"""What a run costs: images a second, share of the machine's peak, energy.

All of it estimates.
"""

import time
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from radwb.models.model import autocast
from radwb.pretrain.cache import size

# a server core under load with its memory; a training GPU, its host left out
WATTS = {"cpu": 10.0, "cuda": 400.0}
LARGEST = 8192  # side of the matrices whose product is timed


@lru_cache
def peak_flops(kind: str, precision: str, seconds: float = 0.2) -> float:
    """Floating-point operations a second in the fastest matrix product that was seen.

    Its sides grow as long as they fit the time.
    """
    dtype = torch.bfloat16 if precision == "bf16-mixed" else torch.float32
    n, best = 256, 0.0
    end = time.perf_counter() + seconds
    with torch.no_grad():
        while True:
            a = torch.ones(n, n, device=kind, dtype=dtype)
            for _ in range(3):
                began = time.perf_counter()
                float(F.linear(a, a)[0, 0])  # waits for a GPU
                spent = time.perf_counter() - began
                best = max(best, 2 * n**3 / spent)
            # three of twice the side take 24 times as long
            if time.perf_counter() + 24 * spent > end or n == LARGEST:
                return best
            n *= 2


def step_flops(task: nn.Module, x, targets: tuple, precision: str) -> float:
    """Operations of one forward and backward a sample, counted by torch.

    Element-wise ones are left out.
    """
    device = next(task.parameters()).device
    # explicit attention, whose products are counted
    explicit = sdpa_kernel(SDPBackend.MATH)
    counter = FlopCounterMode(display=False)
    with counter, explicit, autocast(device, precision):
        task(x, *targets).backward()
    task.zero_grad()
    return counter.get_total_flops() / size(x, targets)


def estimates(
    *,
    kind: str,
    precision: str,
    world: int,
    flops: float,
    images_per_s: float,
    seconds: float,
    watts: float | None = None,
) -> dict:
    """The numbers of the cost line.

    Args:
        kind, precision, world: of the devices, "cpu" or "cuda", and how many processes.
        flops: of one sample's step.
        images_per_s: over all processes.
        seconds: that the run took, all told.
        watts: of one core or GPU; None = WATTS, an assumption.
    """
    if watts is None:
        watts = WATTS.get(kind, WATTS["cuda"])
    if kind == "cpu":
        unit, units = "core", world * torch.get_num_threads()
    else:
        unit, units = "GPU", world
    peak = peak_flops(kind, precision) * world
    return {
        "images_per_s": images_per_s,
        "tflop_per_s_estimate": flops * images_per_s / 1e12,
        "share_of_peak_estimate": flops * images_per_s / peak,
        "peak_tflop_per_s_measured": peak / 1e12,
        "energy_wh_estimate": units * watts * seconds / 3600,
        "energy_assumes": f"{units} {unit}(s) at {watts:g} W for {seconds:.0f} s",
    }


def line(cost: dict) -> str:
    return (
        f"{cost['images_per_s']:.0f} images/s; estimates: "
        f"{cost['share_of_peak_estimate']:.0%} of this machine's peak (a matrix "
        f"product, {cost['peak_tflop_per_s_measured']:.2g} TFLOP/s), "
        f"{cost['energy_wh_estimate']:.2g} Wh ({cost['energy_assumes']})"
    )
