"""Keras's layers in torch, by their names in a .keras file."""

import torch
import torch.nn.functional as F
from timm.layers import create_conv2d, create_pool2d
from torch import nn


class SeparableConv2d(nn.Module):
    """A convolution of each channel by itself, then one that mixes the channels."""

    def __init__(self, channels, filters, bias, **options):
        super().__init__()
        self.depthwise = create_conv2d(channels, channels, groups=channels, **options)
        self.pointwise = nn.Conv2d(channels, filters, 1, bias=bias)

    def forward(self, x):
        return self.pointwise(self.depthwise(x))


class Add(nn.Module):
    """The sum of several inputs; like all of `LAYERS` it is made of two arguments."""

    def __init__(self, config, channels):
        super().__init__()

    def forward(self, *inputs):
        return sum(inputs)


class GlobalMean(nn.Module):
    """(B, C, h, w) -> (B, C)."""

    def __init__(self, config, channels):
        super().__init__()

    def forward(self, x):
        return x.mean((2, 3))


def _square(config, key):
    first, second = config[key]
    if first != second:
        raise ValueError(
            f"expected {key} alike in both directions in {config['name']}, "
            f"got {config[key]}"
        )
    return first


def _convolution(config):
    """Keras's "same" puts the odd row of zeros below, as TensorFlow does."""
    return {
        "kernel_size": _square(config, "kernel_size"),
        "stride": _square(config, "strides"),
        "dilation": _square(config, "dilation_rate"),
        "padding": config["padding"],
    }


def _conv(config, channels):
    options = _convolution(config) | {"bias": config["use_bias"]}
    return create_conv2d(
        channels, config["filters"], groups=config["groups"], **options
    )


def _separable(config, channels):
    if config["depth_multiplier"] != 1:
        raise ValueError(
            f"expected a depth_multiplier of 1 in {config['name']}, "
            f"got {config['depth_multiplier']}"
        )
    bias = config["use_bias"]
    return SeparableConv2d(channels, config["filters"], bias, **_convolution(config))


def _norm(config, channels):
    if not config["scale"] or not config["center"]:
        raise ValueError(
            f"expected a scale and a shift in {config['name']}, got one left out"
        )
    return nn.BatchNorm2d(channels, eps=config["epsilon"])


def _max_pool(config, channels):
    return create_pool2d(
        "max",
        kernel_size=_square(config, "pool_size"),
        stride=_square(config, "strides"),
        padding=config["padding"],
    )


def _dense(config, channels):
    return nn.Linear(channels, config["units"], bias=config["use_bias"])


def _activation(config, channels):
    # as a module of its own: maps are made of what comes out of modules, and Grad-CAM
    # is of features behind the ReLU
    return nn.ReLU() if config["activation"] == "relu" else nn.Identity()


# class in Keras -> (config, channels that come in) -> module
LAYERS = {
    "Conv2D": _conv,
    "SeparableConv2D": _separable,
    "BatchNormalization": _norm,
    "MaxPooling2D": _max_pool,
    "Dense": _dense,
    "Add": Add,
    "Activation": _activation,
    "Dropout": nn.Identity,
    "GlobalAveragePooling2D": GlobalMean,
}
ACTIVATIONS = {"relu": F.relu, "linear": nn.Identity()}


def log_odds(values):
    """(B, K) before a softmax -> (B, K) log odds of each class.

    A single one of these values says nothing: only their differences do.
    """
    own = torch.eye(values.shape[1], dtype=torch.bool, device=values.device)
    others = torch.where(own, -torch.inf, values[:, None])  # (B, K, K)
    return values - others.logsumexp(-1)


# behind the last layer, where the log odds of its probabilities are wanted
LOG_ODDS = {"softmax": log_odds, "sigmoid": nn.Identity()}
