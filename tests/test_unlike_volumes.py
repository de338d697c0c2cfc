"""A volume unlike what a 3-D network learned from: what is said and refused."""

import types
import warnings

import numpy as np
import pytest
import torch

import radwb as rw
from radwb.models import memory
from radwb.models.encoders3d import CT


def network(**fed):
    """Fed like Merlin, but a network of one weight."""
    fed = CT | {"window_hu": (-1000, 200), "search_size": None, "notes": ()} | fed
    return rw.attend.Net3d(torch.nn.Conv3d(3, 1, 1), name="an encoder", **fed)


def body(shape, step, inside, lungs=0.0):
    """An oval of soft tissue in air; a share of each slice is lung."""
    _, rows, columns = shape
    y, x = np.mgrid[-1 : 1 : rows * 1j, -1 : 1 : columns * 1j]
    plane = np.where(x**2 + y**2 < inside, 40.0, -1000.0)
    if lungs:
        plane[np.abs(x) + np.abs(y) < (2 * lungs) ** 0.5] = -850
    voxels = np.broadcast_to(plane, shape).astype(np.float32)
    affine = np.diag([*step, 1.0])[[2, 1, 0, 3]]
    return rw.data.Volume(voxels, affine, "CT")


CHEST = ((160, 180, 180), (2.5, 2.0, 2.0))
HEAD = ((40, 200, 200), (4.0, 1.1, 1.1))


def said(net, volume):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        x = net.preprocess(volume)
    assert x.shape[2:] == net.size
    assert len(caught) < 2
    return str(caught[0].message) if caught else ""


@pytest.mark.parametrize("net", [network(lungs=True), network(spacing_mm=None)])
def test_a_chest_is_fed_without_a_word(net):
    assert said(net, body(*CHEST, 0.7, lungs=0.2)) == ""


def test_a_head_is_said_to_fill_little_and_to_have_no_lung():
    message = said(network(lungs=True), body(*HEAD, 0.9))
    assert message.startswith("an encoder: the volume fills 14% of the 480 x 336 x 336")
    assert "0.0% of it has the density of lung" in message
    whole = network(lungs=True, spacing_mm=None)
    assert "(is this one? a head has next to none)" in said(whole, body(*HEAD, 0.9))


def test_values_that_are_no_hounsfield_units_are_said():
    volume = body(*CHEST, 0.7, lungs=0.2)
    grey = rw.data.Volume((volume.voxels + 1000) / 8, volume.affine, "CT")
    assert "nothing in it is below -200 HU" in said(network(), grey)
    # an MR's window is its own percentiles: nothing is known of its values
    assert said(network(window_hu=None), grey) == ""


def test_sixteen_thick_slices_are_said_to_be_coarse():
    thick = body((16, 180, 180), (20.0, 2.0, 2.0), 0.7, lungs=0.2)
    message = "its slices are coarse: each of the 16 fills {} of the input's"
    assert message.format("6.7") in said(network(), thick)
    whole = network(spacing_mm=None, lungs=True)
    assert message.format("10.0") in said(whole, thick)
    # and 16 slices of 3 mm are 48 of 480 mm: refused
    thin = body((16, 180, 180), (3.0, 2.0, 2.0), 0.7, lungs=0.2)
    with pytest.raises(ValueError, match=r"at least 120 mm .* got 48 mm \(16 voxels\)"):
        network().preprocess(thin)


@pytest.mark.parametrize(("degrees", "told"), [(8, False), (17, True)])
def test_a_tilted_gantry_is_said(degrees, told):
    chest = body(*CHEST, 0.7, lungs=0.2)
    angle = np.radians(degrees)
    turn = np.eye(4)
    turn[1:3, 1:3] = [
        [np.cos(angle), -np.sin(angle)],
        [np.sin(angle), np.cos(angle)],
    ]
    tilted = rw.data.Volume(chest.voxels, turn @ chest.affine, "CT")
    message = said(network(), tilted)
    assert (f"askew by {degrees} degrees" in message) == told


def test_an_own_network_without_a_spacing_takes_any_volume():
    net = rw.attend.Net3d(torch.nn.Conv3d(1, 1, 1), (16, 16, 16), window_hu=(-9, 9))
    assert said(net, body(*HEAD, 0.9)) == ""


# ---- memory ----


def test_a_pass_is_counted_by_the_tensors_that_are_there_together():
    """By hand: 16 KiB of two channels, then 8 KiB of one; never three at once."""
    layers = torch.nn.Sequential(
        torch.nn.Conv3d(1, 2, 1),
        torch.nn.Conv3d(2, 2, 1),
        torch.nn.Conv3d(2, 1, 1),
    )
    x = torch.zeros(1, 1, 8, 16, 16)
    assert memory.pass_bytes(layers, x) == 2 * 2 * 8 * 16 * 16 * 4
    half = layers.to(torch.bfloat16)
    assert memory.pass_bytes(half, x.bfloat16()) == 2 * 2 * 8 * 16 * 16 * 2
    assert memory.pass_bytes(layers, x.bfloat16().repeat(3, 1, 1, 1, 1)) == (
        3 * 2 * 2 * 8 * 16 * 16 * 2
    )


def test_a_network_that_keeps_something_from_its_first_pass_is_left_as_it_was():
    class Keeping(torch.nn.Module):
        kept = None

        def __init__(self):
            super().__init__()
            self.scale = torch.nn.Parameter(torch.ones(1))

        def forward(self, x):
            if self.kept is None:
                self.kept = torch.arange(2.0)
            return x * self.scale * self.kept

    net = Keeping()
    assert memory.pass_bytes(net, torch.ones(1, 1, 2, 2, 2)) > 0
    assert net.kept is None
    assert net(torch.ones(1, 1, 1, 1, 2)).tolist() == [[[[[0.0, 1.0]]]]]


def test_a_network_that_asks_for_its_numbers_is_not_counted():
    class Asking(torch.nn.Module):
        def forward(self, x):
            return x if float(x.sum()) > 0 else -x

    assert memory.pass_bytes(Asking(), torch.ones(1, 1, 2, 2, 2)) == 0


@pytest.mark.parametrize("call", ["cells", "volume_map"])
def test_a_pass_that_does_not_fit_is_refused_before_it_is_made(call, monkeypatch):
    net = network(size=(16, 32, 32))
    net.net.register_forward_hook(lambda *_: ran.append(1))
    ran = []
    chest = body(*CHEST, 0.7, lungs=0.2)
    # one channel of 64 KiB
    free = types.SimpleNamespace(available=2**16 - 1)
    monkeypatch.setattr(memory.psutil, "virtual_memory", lambda: free)
    monkeypatch.setattr(rw.models.voxels, "require_room", lambda *a: None)
    monkeypatch.setattr(
        "radwb.attend.volumes.maps.require_room", lambda *a: None, raising=True
    )
    options = {"target": 0} if call == "volume_map" else {}
    message = (
        r"expected at least 6.1e-05 GiB of free memory for a pass of an encoder over "
        r"\(16, 32, 32\) voxels, got 6.1e-05 GiB. Try"
    )
    with pytest.raises(ValueError, match=message):
        getattr(rw.attend, call)(net, chest, **options)
    assert len(ran) == 1  # without numbers
    free.available = 2**20  # enough, after a look
    getattr(rw.attend, call)(net, chest, **options)
    assert len(ran) > 2


def test_where_memory_is_plenty_no_estimate_is_made(monkeypatch):
    def refuse(*_):
        raise AssertionError("estimated")

    monkeypatch.setattr(memory, "pass_bytes", refuse)
    x = torch.zeros(1, 1, 4, 4, 4)
    memory.require_memory(torch.nn.Identity(), x, "small")
    free = types.SimpleNamespace(available=999 * x.nbytes)
    monkeypatch.setattr(memory.psutil, "virtual_memory", lambda: free)
    with pytest.raises(AssertionError, match="estimated"):
        memory.require_memory(torch.nn.Identity(), x, "small")
