"""Films of noise and a tower of one layer, for tests of `rw.fail`."""

from dataclasses import dataclass

import numpy as np
import torch
from tables import noise_films, patients_table

from radwb import fail

SIDE = 40
FINDING = "Pneumothorax"


@dataclass(eq=False)
class OneLayer:
    """An image tower on 40 px, 10 x 10 patches that know nothing of each other."""

    net: torch.nn.Module
    name: str = "one layer"
    kind: str = "image"
    size: int = SIDE
    fit: str = "pad"
    grid: tuple = (10, 10)
    findings = None
    device = torch.device("cpu")

    def preprocess(self, images):
        x = torch.from_numpy(np.ascontiguousarray(images))
        return x[:, None].float() / 255 - 0.5

    def encode_image(self, x):
        return torch.nn.functional.normalize(self.net(x), dim=-1)


def one_layer(*, dropout=None, width=16):
    """Its embedding: `width` numbers that read all patches; None = the patches."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layers = [torch.nn.Conv2d(1, 8, 4, stride=4), torch.nn.Flatten()]
        if dropout is not None:
            layers.append(torch.nn.Dropout(dropout))
        if width is not None:
            layers.append(torch.nn.Linear(800, width))
    return OneLayer(torch.nn.Sequential(*layers).eval())


def frozen(monkeypatch, *, patients=120, sites=(), finding=False, films=None):
    """FrozenFilms of noise, two films a patient; a label is an image's.

    Args:
        sites: (site, grey added to all its films).
        finding: whether a film with the label is a little brighter in its middle.
        films: other pixels than noise.
    """
    table = patients_table(patients, {}, images=(2, 2), train=2 * patients // 3)
    rng = np.random.default_rng(3)
    table[FINDING] = rng.integers(0, 2, len(table))
    names = [site for site, _ in sites] or ["A"]
    table["site"] = np.resize(names, len(table) // 2).repeat(2)
    images = noise_films(len(table), below=120, side=SIDE) if films is None else films
    for site, grey in sites:
        images[table["site"] == site] += np.uint8(grey)
    if finding:
        ill = np.flatnonzero(table[FINDING] == 1)
        images[ill, 14:26, 14:26] += 12
    monkeypatch.setattr("radwb.data.images", lambda table, size, fit: images.copy())
    return fail.FrozenFilms(table, one_layer())


def watch_learning(films, monkeypatch):
    """A list that takes the patients of each head as `films` learns it."""
    learnt = []
    learn = films.learn

    def watched(part, C):
        learnt.append(set(part.patients))
        return learn(part, C)

    monkeypatch.setattr(films, "learn", watched)
    return learnt
