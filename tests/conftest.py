"""Towers that several test files look into, and films that the explorer shows."""

import pytest
from tables import effusion_table
from towers import timm_model

import radwb as rw
from radwb.explore.computed import Cases

MODEL = "radwb-tiny"


@pytest.fixture(scope="module")
def vit():
    return timm_model("vit_tiny_patch16_224", img_size=64, depth=3)


@pytest.fixture(scope="module")
def cnn():
    return timm_model("resnet10t", size=96)


@pytest.fixture(scope="module")
def table():
    return effusion_table()


@pytest.fixture(scope="module")
def model():
    return rw.models.load(MODEL)


@pytest.fixture
def cases(model, table):
    return Cases({MODEL: model}, table)


@pytest.fixture
def widget(model, table):
    widget = rw.show.explore(model, table, finding="Pleural Effusion")
    yield widget
    widget.close()
