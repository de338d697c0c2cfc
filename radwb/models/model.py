"""`Model`: a thin hold on somebody's network, with what one has to know to feed it; and
`embed`.
"""

from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import nn
from tqdm.auto import tqdm

from radwb import data
from radwb.models.checks import check_preprocessing
from radwb.models.lean import asked, lean, plain


@dataclass(eq=False)
class Model:
    """A network and its preprocessing.

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
    Raises:
        ValueError: a mean or std that isn't one finite number a channel, a std of 0, a
            size or fit that can't be.
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

    def __post_init__(self):
        check_preprocessing(self.size, self.channels, self.mean, self.std, self.fit)
        self.fit = data.fit.Fit(self.fit)
        self.net.eval()

    @property
    def device(self) -> torch.device:
        first = next(self.net.parameters(), None)
        return torch.device("cpu") if first is None else first.device

    @property
    def logit_scale(self) -> float:
        """The factor that a cosine is multiplied by before the softmax: 1 /
        temperature.
        """
        return (
            float(self.net.logit_scale.detach().exp())
            if hasattr(self.net, "logit_scale")
            else 1.0
        )

    def preprocess(self, scans) -> torch.Tensor:
        """Scans -> what the network takes.

        Args:
            scans: a Scan, a list of them, or an array (N, S, S) of uint8 grey squares
                (from `rw.data.images`).
        Returns:
            (B, channels, size, size) float32, on the network's device.
        """
        if isinstance(scans, np.ndarray | torch.Tensor):
            return self.normalise(squares(scans, self.size).to(self.device))
        scans = scans if isinstance(scans, list | tuple) else [scans]
        x = np.stack(
            [
                data.to_input(s.pixels, self.size, fit=self.fit, aspect=s.aspect)
                for s in scans
            ]
        )
        return self.normalise(torch.from_numpy(x)[:, None].to(self.device))

    def normalise(self, x: torch.Tensor) -> torch.Tensor:
        """(B, 1, S, S) grey in [0, 1] -> (B, channels, S, S) on the network's own
        scale.
        """
        mean, std = (
            torch.tensor(v, device=x.device).view(1, -1, 1, 1)
            for v in (self.mean, self.std)
        )
        return (x.expand(-1, self.channels, -1, -1) - mean) / std

    def encode_image(self, x: torch.Tensor) -> torch.Tensor:
        """(B, channels, size, size) -> (B, E) of unit length."""
        return F.normalize(image_features(self.net, x.to(self.device)), dim=-1)

    def encode_text(self, texts: str | list[str]) -> torch.Tensor:
        """K texts -> (K, E) of unit length."""
        if self.kind != "image-text":
            raise ValueError(
                f"expected an image-text model, got {self.name}, which has no text tower. "
                'Try rw.models.load("open_clip:ViT-B-32/...") or a run of rw.pretrain.fit.'
            )
        tokens = self.tokenizer([texts] if isinstance(texts, str) else list(texts)).to(
            self.device
        )
        return F.normalize(text_features(self.net, tokens), dim=-1)

    def classify(self, x: torch.Tensor) -> torch.Tensor:
        """(B, channels, size, size) -> (B, K) logits, one a finding in `findings`."""
        if self.findings is None:
            raise ValueError(
                f"expected a model with a head for findings, got {self.name}. "
                "Try rw.probe.zero_shot, or rw.pretrain.fit(recipe='supervised-tiny')."
            )
        return self.net(x.to(self.device))

    def to(self, device) -> "Model":
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


def text_features(net: nn.Module, tokens: torch.Tensor) -> torch.Tensor:
    """(K, T) -> (K, E) as `net.encode_text`, but cut to the longest caption and done in
    batches of like length.

    The same numbers: with a causal mask and pooling at the end token, nothing behind
    that token matters.
    """
    causal = (
        getattr(net, "text_pool_type", None) == "argmax"
        and getattr(net, "attn_mask", None) is not None
    )
    if not causal:
        return net.encode_text(tokens)
    lengths = tokens.argmax(-1) + 1  # (K,)
    order = lengths.argsort()
    parts = [
        _causal_text(net, tokens[rows, : lengths[rows].max()])
        for rows in order.split(32)
    ]
    return torch.cat(parts)[order.argsort()]


def _causal_text(net, tokens):
    (K, T), ends = tokens.shape, tokens.argmax(-1)
    x, mask = (
        net.token_embedding(tokens) + net.positional_embedding[:T],
        net.attn_mask[:T, :T],
    )  # (K, T, W)

    def end(t):
        return t[torch.arange(K, device=t.device), ends][:, None]

    if plain(net.transformer):
        *blocks, last = net.transformer.resblocks
        for block in blocks:
            x = block(x, attn_mask=mask)
        x = asked(
            last, x, end, mask[ends].repeat_interleave(last.attn.num_heads, 0)[:, None]
        )  # nobody reads others
    else:
        x = end(net.transformer(x, attn_mask=mask))
    x = net.ln_final(x)[:, 0]  # (K, W)
    projection = net.text_projection
    return (
        x
        if projection is None
        else projection(x)
        if isinstance(projection, nn.Linear)
        else x @ projection
    )


def squares(images, size: int) -> torch.Tensor:
    """(N, S, S) uint8 grey squares -> (N, 1, size, size) float32 in [0, 1]."""
    x = torch.as_tensor(
        np.ascontiguousarray(images) if isinstance(images, np.ndarray) else images
    )
    if x.dtype != torch.uint8 or x.ndim != 3:
        raise ValueError(
            f"expected uint8 squares (N, S, S), got {x.dtype} {tuple(x.shape)}. "
            "Try rw.data.images(table, model.size, fit=model.fit), or pass Scans."
        )
    x = x[:, None].float() / 255
    same = x.shape[-2:] == (size, size)
    return (
        x
        if same
        else F.interpolate(
            x, (size, size), mode="bilinear", antialias=True, align_corners=False
        )
    )


def fast_precision(device: str | torch.device = "cpu") -> str:
    """ "bf16-mixed" where this machine multiplies bf16 faster than fp32, else "32-true"
    (Lightning Fabric's names).
    """
    kind = torch.device(device).type
    if kind == "cuda":
        return (
            "bf16-mixed"
            if torch.cuda.is_bf16_supported(including_emulation=False)
            else "32-true"
        )
    # avx512_bf16 alone doesn't tell: AMD doubles the rate with it, Intel needs AMX
    # (without, 0.6 to 1.0 of fp32)
    cpuinfo = (
        Path("/proc/cpuinfo").read_text()
        if kind == "cpu" and Path("/proc/cpuinfo").is_file()
        else ""
    )
    fast = "amx_bf16" in cpuinfo or (
        "avx512_bf16" in cpuinfo and "AuthenticAMD" in cpuinfo
    )
    return "bf16-mixed" if fast else "32-true"


def autocast(device: torch.device, precision: str | None = None):
    """The context in which a network runs at `precision`, by default the fastest here."""
    fast = (precision or fast_precision(device)) == "bf16-mixed"
    return (
        torch.autocast(torch.device(device).type, torch.bfloat16)
        if fast
        else nullcontext()
    )


def embed(
    model: Model, images, *, batch: int = 32, precision: str | None = None
) -> np.ndarray:
    """Every image of a table as a point.

    >>> embed(model, table).shape
    (2000, 256)

    Args:
        images: a table, or (N, S, S) uint8 squares.
        batch: images at a time; 8 to 32 is fastest on a CPU. For more than one batch in
            bf16, open_clip's plain vision transformers are copied (`lean`).
        precision: "32-true" or "bf16-mixed"; None takes bf16 where the processor has it
            (differences near 1e-3).
    Returns:
        (N, E) float32 of unit length.
    """
    if isinstance(images, pd.DataFrame):
        images = data.images(images, model.size, fit=model.fit)
    steps, encode = range(0, len(images), batch), model.encode_image
    fast = (precision or fast_precision(model.device)) == "bf16-mixed"
    tower = (
        lean(model.net) if fast and len(steps) > 1 else None
    )  # a copy isn't worth its while for one batch
    if tower is not None:
        encode = lambda x: tower(x.bfloat16()).float()  # noqa: E731
    # no_grad, not inference_mode: under the latter autocast can't keep its bf16 weights
    # and converts them each time
    with torch.no_grad(), nullcontext() if tower else autocast(model.device, precision):
        parts = [
            encode(model.preprocess(images[i : i + batch])).float().cpu()
            for i in tqdm(steps, "embedding", delay=2, leave=False)
        ]
    return (
        F.normalize(torch.cat(parts), dim=-1).numpy()
        if parts
        else np.zeros((0, 0), np.float32)
    )
