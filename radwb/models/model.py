"""`Model`: a network and what one has to know to feed it; and `embed`."""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import nn
from tqdm.auto import tqdm

from radwb import data
from radwb.models.attention import bf16_tower, block_of_rows, runs_by_block
from radwb.models.checks import check_preprocessing
from radwb.models.tone import TONES, check_tone
from radwb.models.turns import in_turn


@dataclass(eq=False)
class Model:
    """A network and how it is fed: what `load` gives, or your own nn.Module wrapped.

    A network of your own needs one method, `encode_image`; with `encode_text` and a
    tokenizer it is an "image-text" model.

    >>> class Tower(torch.nn.Module):
    ...     def __init__(self):
    ...         super().__init__()
    ...         patches = torch.nn.Conv2d(1, 8, kernel_size=16, stride=16)
    ...         self.layers = torch.nn.Sequential(patches, torch.nn.ReLU())
    ...     def encode_image(self, x):
    ...         return self.layers(x).mean((2, 3))    # (B, 1, 64, 64) -> (B, 8)
    >>> grey = {"channels": 1, "mean": (0.5,), "std": (0.25,)}
    >>> own = Model(Tower(), "own", "image", size=64, **grey, fit="pad", grid=(4, 4))
    >>> rw.models.embed(own, table).shape
    (60, 8)
    >>> heat = rw.attend.attention_map(own, scan, method="gradcam", target=0)
    >>> heat.values.shape == scan.pixels.shape
    True

    Args:
        net: the torch module, as its library built it.
        name: what `load` was called with.
        kind: "image-text" (has `encode_text`) or "image".
        size: side of the square input, px.
        channels: of the input. One is one; a tower with three gets the grey image three
            times.
        mean, std: of the input on the scale [0, 1], one value a channel.
        fit: how a scan is made square: "pad", "crop" or "squash"; a `rw.data.fit.Fit`.
        grid: (rows, columns) of patch tokens, or of the last feature map.
        spec: JSON-able; what `load` builds the network from.
        tokenizer: texts -> (K, context) ids, for "image-text".
        findings: what the columns of `classify` mean, else None.
        licence: of the weights.
        notes: what was found out or taken for granted when the weights were read.
        tone: what is done with a film's greys before mean and std: "plain" (nothing),
            "equalised" or "local" (`radwb.models.tone`).
    Raises:
        ValueError: a mean or std that isn't one finite number a channel, a std of 0, a
            size, fit or tone that can't be.
    """

    net: nn.Module = field(repr=False)
    name: str
    kind: str
    size: int
    channels: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    fit: str
    grid: tuple[int, int]
    spec: dict = field(default_factory=dict, repr=False)
    tokenizer: object = field(default=None, repr=False)
    findings: list[str] | None = None
    licence: str = ""
    notes: tuple[str, ...] = ()
    tone: str = "plain"

    def __post_init__(self):
        check_preprocessing(self.size, self.channels, self.mean, self.std, self.fit)
        check_tone(self.tone)
        self.fit = data.fit.Fit(self.fit)
        self.net.eval()

    @property
    def device(self) -> torch.device:
        first = next(self.net.parameters(), None)
        return torch.device("cpu") if first is None else first.device

    @property
    def logit_scale(self) -> float:
        """What a cosine is multiplied by before the softmax: 1 / temperature."""
        log_scale = getattr(self.net, "logit_scale", torch.zeros(()))
        return float(log_scale.detach().exp())

    def preprocess(
        self, scans: data.Scan | list[data.Scan] | np.ndarray | torch.Tensor
    ) -> torch.Tensor:
        """Scans -> what the network takes.

        Args:
            scans: a Scan, a list of them, or an array (N, S, S) of uint8 grey squares
                (from `rw.data.images`).
        Returns:
            (B, channels, size, size) float32, on the network's device.
        """
        if isinstance(scans, np.ndarray | torch.Tensor):
            return self.normalise(squares(scans, self.size).to(self.device))
        films = scans if isinstance(scans, list | tuple) else [scans]
        inputs = [
            data.to_input(film.pixels, self.size, fit=self.fit, aspect=film.aspect)
            for film in films
        ]
        x = torch.from_numpy(np.stack(inputs))[:, None]  # (B, 1, S, S)
        return self.normalise(x.to(self.device))

    def normalise(self, x: torch.Tensor) -> torch.Tensor:
        """(B, 1, S, S) grey in [0, 1] -> (B, channels, S, S) on the network's scale."""
        x = TONES[self.tone](x)
        # a GPU isn't waited for
        scale = torch.tensor([self.mean, self.std]).to(x.device, non_blocking=True)
        mean, std = scale.view(2, 1, -1, 1, 1)
        return (x.expand(-1, self.channels, -1, -1) - mean) / std

    def encode_image(self, x: torch.Tensor) -> torch.Tensor:
        """(B, channels, size, size) -> (B, E) of unit length."""
        with in_turn(self.net):
            features = image_features(self.net, x.to(self.device))
        return F.normalize(features, dim=-1)

    def encode_text(self, texts: str | list[str]) -> torch.Tensor:
        """K texts -> (K, E) of unit length."""
        if self.kind != "image-text":
            raise ValueError(
                f"expected an image-text model, got {self.name}, which has no text "
                'tower. Try rw.models.load("open_clip:ViT-B-32/...") or a run of '
                "rw.pretrain.fit."
            )
        sentences = [texts] if isinstance(texts, str) else list(texts)
        tokens = self.tokenizer(sentences).to(self.device)
        with in_turn(self.net):
            features = text_features(self.net, tokens)
        return F.normalize(features, dim=-1)

    def classify(self, x: torch.Tensor) -> torch.Tensor:
        """(B, channels, size, size) -> (B, K) logits, one a finding in `findings`."""
        if self.findings is None:
            raise ValueError(
                f"expected a model with a head for findings, got {self.name}. Try "
                "rw.probe.zero_shot, or rw.pretrain.fit(recipe='supervised-tiny')."
            )
        with in_turn(self.net):
            return self.net(x.to(self.device))

    def to(self, device: str | torch.device) -> "Model":
        self.net.to(device)
        return self


def image_features(net: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """(B, C, H, W) -> (B, E), each library's own way to its pooled features."""
    if hasattr(net, "encode_image"):  # open_clip, radwb
        features = net.encode_image(x)
    elif hasattr(net, "forward_head"):  # timm
        features = net.forward_head(net.forward_features(x), pre_logits=True)
    elif hasattr(net, "features2"):  # torchxrayvision
        features = net.features2(x)
    else:
        raise ValueError(
            f"expected a network that says its features, got {type(net).__name__} "
            "without encode_image(x). Try to give it one: (B, C, S, S) -> (B, E)."
        )
    if not torch.is_tensor(features) or features.ndim != 2:
        got = tuple(features.shape) if torch.is_tensor(features) else type(features)
        raise ValueError(f"expected features (B, E) of {type(net).__name__}, got {got}")
    return features


def text_features(
    net: nn.Module, tokens: torch.Tensor, *, at_once: bool = False
) -> torch.Tensor:
    """(K, T) -> (K, E) as `net.encode_text`, without the work that changes nothing.

    Texts are cut to the longest and done in batches of like length. With a causal mask
    and pooling at the end token, what stands behind that token doesn't matter.

    Args:
        at_once: all in one batch, as long as they are, for a GPU in training: it needs
            no small batches, and would be waited for to know the lengths.
    """
    pools_at_end = getattr(net, "text_pool_type", None) == "argmax"
    if not pools_at_end or getattr(net, "attn_mask", None) is None:
        return net.encode_text(tokens)
    if at_once:
        return _causal_text(net, tokens)
    lengths = tokens.argmax(-1) + 1  # (K,)
    order = lengths.argsort()
    parts = []
    for rows in order.split(32):
        parts.append(_causal_text(net, tokens[rows, : lengths[rows].max()]))
    return torch.cat(parts)[order.argsort()]


def _causal_text(net, tokens):
    """(K, T) -> (K, E) of open_clip's text tower: only the end tokens are read."""
    K, T = tokens.shape
    ends = tokens.argmax(-1)  # (K,)
    end = (torch.arange(K, device=tokens.device)[:, None], ends[:, None])
    mask = net.attn_mask[:T, :T]
    x = net.token_embedding(tokens) + net.positional_embedding[:T]  # (K, T, W)
    if runs_by_block(net.transformer):
        *blocks, last = net.transformer.resblocks
        for block in blocks:
            x = block(x, attn_mask=mask)
        # (K heads, 1, T): each text's end token has a row of its own
        end_mask = mask[ends].repeat_interleave(last.attn.num_heads, 0)[:, None]
        x = block_of_rows(last, x, end, end_mask)
    else:
        x = net.transformer(x, attn_mask=mask)[end]
    x = net.ln_final(x)[:, 0]  # (K, W)
    projection = net.text_projection
    if projection is None:
        return x
    if isinstance(projection, nn.Linear):
        return projection(x)
    return x @ projection


def squares(images: np.ndarray | torch.Tensor, size: int) -> torch.Tensor:
    """(N, S, S) uint8 grey squares -> (N, 1, size, size) float32 in [0, 1]."""
    if isinstance(images, np.ndarray):
        images = torch.as_tensor(np.ascontiguousarray(images))
    if images.dtype != torch.uint8 or images.ndim != 3:
        raise ValueError(
            f"expected uint8 squares (N, S, S), got {images.dtype} "
            f"{tuple(images.shape)}. Try rw.data.images(table, model.size, "
            "fit=model.fit), or pass Scans."
        )
    x = images[:, None].float() / 255
    if x.shape[-2:] == (size, size):
        return x
    options = {"mode": "bilinear", "antialias": True, "align_corners": False}
    return F.interpolate(x, (size, size), **options)


def fast_precision(device: str | torch.device = "cpu") -> str:
    """The faster precision of this machine, for a trainer of your own.

    In Lightning Fabric's names.

    Returns:
        "bf16-mixed" where bf16 is multiplied faster than fp32, else "32-true".
    """
    kind = torch.device(device).type
    if kind == "cuda":
        fast = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        fast = kind == "cpu" and _cpu_is_fast_in_bf16()
    return "bf16-mixed" if fast else "32-true"


def _cpu_is_fast_in_bf16():
    path = Path("/proc/cpuinfo")
    if not path.is_file():
        return False
    cpuinfo = path.read_text()
    # avx512_bf16 alone doesn't tell: AMD doubles the rate with it, Intel needs AMX
    # (without, 0.6 to 1.0 of fp32)
    amd = "avx512_bf16" in cpuinfo and "AuthenticAMD" in cpuinfo
    return "amx_bf16" in cpuinfo or amd


def autocast(
    device: torch.device, precision: str | None = None
) -> AbstractContextManager:
    """The context in which a network runs at `precision`; None: the fastest here."""
    if (precision or fast_precision(device)) != "bf16-mixed":
        return nullcontext()
    return torch.autocast(torch.device(device).type, torch.bfloat16)


def embed(
    model: Model,
    images: pd.DataFrame | np.ndarray,
    *,
    batch: int = 32,
    precision: str | None = None,
) -> np.ndarray:
    """Every image of a table as a point.

    >>> embed(model, table).shape
    (60, 192)

    Args:
        images: a table, or (N, S, S) uint8 squares.
        batch: images at a time; 8 to 32 is fastest on a CPU. For more than one batch in
            bf16, open_clip's plain vision transformers are copied (`bf16_tower`).
        precision: "32-true" or "bf16-mixed"; None takes bf16 where the processor has it
            (differences near 1e-3).
    Returns:
        (N, E) float32 of unit length.
    """
    if isinstance(images, pd.DataFrame):
        images = data.images(images, model.size, fit=model.fit)
    steps = range(0, len(images), batch)
    if not steps:
        return np.zeros((0, 0), np.float32)
    encode = model.encode_image
    context = autocast(model.device, precision)
    fast = (precision or fast_precision(model.device)) == "bf16-mixed"
    # a copy isn't worth its while for one batch
    tower = None
    if fast and len(steps) > 1:
        with in_turn(model.net):  # a copy without another thread's hooks
            tower = bf16_tower(model.net)
    if tower is not None:
        encode = _in_bf16(tower)
        context = nullcontext()
    parts = []
    # no_grad, not inference_mode: under the latter autocast can't keep its bf16 weights
    # and converts them each time
    with torch.no_grad(), context:
        for i in tqdm(steps, "embedding", delay=2, leave=False):
            x = model.preprocess(images[i : i + batch])
            parts.append(encode(x).float().cpu())
    return F.normalize(torch.cat(parts), dim=-1).numpy()


def _in_bf16(tower):
    def encode(x):
        return tower(x.bfloat16())

    return encode
