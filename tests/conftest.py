"""Towers that several test files look into."""

import pytest
from towers import timm_model


@pytest.fixture(scope="module")
def vit():
    return timm_model("vit_tiny_patch16_224", img_size=64, depth=3)


@pytest.fixture(scope="module")
def cnn():
    return timm_model("resnet10t", size=96)
