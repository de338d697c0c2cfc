"""What the parts of `gpu.py` are made of: the device, rows, films and towers."""

import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from PIL import Image

import radwb as rw


class Machine:
    """The device that is measured, and at which size.

    Args:
        small: a hundredth of the work, for a processor and for tests.
    """

    def __init__(self, small: bool):
        self.small = small
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        # equality is float32's: TF32 has ten bits less
        torch.backends.cuda.matmul.allow_tf32 = False
        torch.backends.cudnn.allow_tf32 = False

    def wait(self):
        if self.device == "cuda":
            torch.cuda.synchronize()

    def seconds(self, call: Callable, repeats: int = 5) -> float:
        """The median of calls, each waited for; one before, to warm up."""
        times = []
        for _ in range(2 if self.small else repeats + 1):
            began = time.perf_counter()
            call()
            self.wait()
            times.append(time.perf_counter() - began)
        return statistics.median(times[1:])

    def peak_gib(self, call: Callable) -> float:
        """The most memory that a call takes: of the GPU, or else of the process."""
        if self.device == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
        call()
        if self.device == "cuda":
            return torch.cuda.max_memory_allocated() / 2**30
        return resident_gib()


def resident_gib() -> float:
    """The most memory that this process ever held (Linux)."""
    status = Path("/proc/self/status").read_text()
    kib = status.split("VmHWM:")[1].split()[0]
    return int(kib) / 2**20


def figure(what: str, value: float, unit: str, **more) -> dict:
    return {"what": what, "value": float(value), "unit": unit} | more


def claim(what: str, difference: float, limit: float, **more) -> dict:
    met = bool(difference <= limit)
    return figure(what, difference, f"(limit {limit:g})", limit=limit, met=met) | more


def guarded(what: str, row: Callable) -> dict:
    """A row; what goes wrong in it is one that says so."""
    try:
        return row()
    except Exception as error:  # a benchmark reports whatever happens
        message = " ".join(f"{type(error).__name__}: {error}".split())
        return {"what": what, "error": message[:300]}


def peak_flops(machine: Machine, n: int) -> float:
    """Operations a second of a bf16 product; random numbers, since zeros are faster."""
    a = torch.randn(n, n, device=machine.device, dtype=torch.bfloat16)

    def ten_products():
        for _ in range(10):
            a @ a

    return 10 * 2 * n**3 / machine.seconds(ten_products)


# what is shown


def scan(seed: int = 0, side: int = 256) -> rw.data.Scan:
    smooth = rw.attend.blind.random_map((side, side), seed)
    return rw.data.Scan(smooth / smooth.max())


def chest(side: int) -> rw.data.Volume:
    voxels = np.random.default_rng(0).normal(-400, 300, (side,) * 3)
    return rw.data.Volume(voxels.astype(np.float32), np.diag([2.0, 2, 2, 1]), "CT")


def films(folder: str, n: int, side: int) -> pd.DataFrame:
    """A table of n films of noise, a patient and a report of its own each."""
    rng = np.random.default_rng(0)
    rows = []
    for number in range(n):
        path = Path(folder) / f"{number:04d}.png"
        coarse = rng.integers(0, 256, (side // 8, side // 8), dtype=np.uint8)
        Image.fromarray(coarse).resize((side, side)).save(path)
        words = rng.choice(["left", "right", "effusion", "mass", "no", "clear"], 8)
        report = f"Film {number}: {' '.join(words)}."
        rows.append({"path": str(path), "patient_id": f"p{number}", "report": report})
    return pd.DataFrame(rows).assign(split="train")


# towers


def classifier(machine: Machine, **options) -> rw.models.Model:
    """timm's ViT-S/16 at 224 px, random weights."""
    import timm

    torch.manual_seed(0)
    small = {"depth": 2, "embed_dim": 48, "num_heads": 3} if machine.small else {}
    net = timm.create_model(
        "vit_small_patch16_224", num_classes=3, **small | options
    ).eval()
    torch.nn.init.normal_(net.head.weight, std=0.05)
    grey = {"channels": 3, "mean": (0.5,) * 3, "std": (0.5,) * 3, "fit": "pad"}
    about = {"size": 224, "grid": (14, 14), "findings": ["a", "b", "c"]}
    return rw.models.Model(net, "ViT-S/16", "image", **grey, **about)


def vit_large(machine: Machine) -> rw.models.Model:
    """open_clip's ViT-L/14 at 224 px, or a tiny CLIP; random weights."""
    import open_clip
    from open_clip.model import CLIP, CLIPTextCfg, CLIPVisionCfg

    name = "tiny CLIP" if machine.small else "ViT-L-14"
    torch.manual_seed(0)
    with torch.device(machine.device):  # drawn there: seconds instead of a minute
        if machine.small:
            vision = CLIPVisionCfg(layers=2, width=64, head_width=32, patch_size=32)
            net = CLIP(64, vision, CLIPTextCfg(width=64, heads=2, layers=1))
        else:
            net = open_clip.create_model(name, device=machine.device)
    side = net.visual.grid_size[0]
    grey = {"channels": 3, "mean": (0.5,) * 3, "std": (0.25,) * 3, "fit": "pad"}
    words = open_clip.get_tokenizer("ViT-L-14")
    about = {"size": 224, "grid": (side, side), "tokenizer": words}
    return rw.models.Model(net, name, "image-text", **grey, **about)


def monai_vit(side: int) -> rw.attend.Net3d:
    from monai.networks.nets import ViT

    torch.manual_seed(0)
    shape = {"hidden_size": 384, "mlp_dim": 1536, "num_layers": 6, "num_heads": 6}
    net = ViT(1, (side,) * 3, 8, classification=True, **shape).eval()
    return rw.attend.Net3d(net, (side,) * 3, (-1000, 400), name=f"ViT {side}^3")


def resnet_152(machine: Machine) -> tuple[rw.attend.Net3d, str]:
    """Astra where its file is, else its shape with random weights; and which."""
    if not machine.small:
        try:
            return rw.models.load("astra-ct"), "Astra"
        except (ValueError, OSError, rw.data.FetchError):
            pass
    from monai.networks.nets.resnet import ResNet, ResNetBottleneck

    layers = [1, 1, 1, 1] if machine.small else [3, 8, 36, 3]
    widths = [8, 16, 32, 64] if machine.small else [64, 128, 256, 512]
    size = (32, 64, 64) if machine.small else (160, 224, 224)
    torch.manual_seed(0)
    net = ResNet(
        ResNetBottleneck,
        layers,
        widths,
        spatial_dims=3,
        n_input_channels=3,
        conv1_t_size=[3, 7, 7],
        conv1_t_stride=[1, 2, 2],
        feed_forward=False,
        bias_downsample=False,
    )
    about = {"axes": None, "channels": 3, "name": "ResNet-152 3-D"}
    if not machine.small:
        about["search_size"] = (96, 128, 128)
    return rw.attend.Net3d(net.eval(), size, (-1000, 200), **about), "random weights"
