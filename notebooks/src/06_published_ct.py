# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 6 · A published model reads a real CT
#
# What does a network that others trained on tens of thousands of CTs know about the one CT on
# your desk, and how much of that would the grey values and the place alone have told you?
#
# **You will** load a published 3-D encoder; ask its features which organ a place belongs to,
# in the CT as it was scanned, mirrored and bent; look up similar places; draw maps in the
# patient's own millimetres and score them against organ masks; and find out whether the
# encoder sets a lung tumour apart.
#
# **Needs**: notebook 4; about six minutes on two CPU cores, 4 GiB, and a download of 236 MB.
# **Data**: one real CT with organ masks (LIDC-IDRI-0001, CC BY 3.0); the encoder Astra (MIT).
#
# *For teaching and research. Not for clinical use.*
#
# An *encoder* turns an image into numbers. People who have no thousand CTs of their own take
# one that others trained, put a small model of their own behind it, and hope that the numbers
# hold what they need. This page is about checking that hope, with one CT and a few honest
# rivals.

# %%
import copy
from dataclasses import replace
from itertools import product

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from IPython.display import Markdown

import radwb as rw

# %% [markdown]
# The numbers on which this page depends. A fast run takes the smaller ones behind `fast:`;
# the encoder then sees half of the resolution, so its results are no results.

# %% tags=["parameters"]
size = (160, 224, 224)  # of the encoder's input; fast: (112, 160, 160)
offsets = (0, 2, 4, 6)  # ways to cut the body into slabs; fast: (0, 4)
thick = 4  # cells a slab
fewest = 40  # cells that an organ needs; fast: 12
seeds = (0, 1, 2)  # random encoders; fast: (0,)
bend_mm = 12  # spread of the displacements of the bent CT
layers = ("layer4", "layer3")  # for maps; fast: ("layer4",)
boxes = 4  # a side, for occlusion; fast: 2
penalties = (0.001, 0.01, 0.1, 1, 10)  # to choose from; fast: (0.01, 0.1)
places = 300  # in the lungs, beside the tumour; fast: 40
your_volume = ""  # a path to a CT of yours

# %% [markdown]
# ## Who trained it, and on what?
# The file is Astra's image encoder. Its authors say that Astra writes reports, and learnt
# that from 90,678 pairs of a CT of chest or abdomen and its report
# ([arXiv 2605.31437](https://arxiv.org/abs/2605.31437)). They began with the encoder of
# Merlin: 15,331 CTs of the abdomen, with reports and diagnosis codes
# ([arXiv 2406.06512](https://arxiv.org/abs/2406.06512)).
#
# We got it from a package index, where somebody else put it. A checksum says that your file
# is the one that we tried; who made it we take on trust. Nothing in it is run, only its
# numbers are read. Whether *this* CT was among those it learnt from isn't stated.
#
# `load` asks before it downloads, so we say `download=True`. What it knows of the licence, of
# the source and of what is taken for granted stands in the catalog and in `net.notes`. Read
# them before you use somebody's weights: a licence may forbid what you plan.

# %%
net = rw.models.load("astra-ct", download=True)
catalog = rw.data.catalog().set_index("name")
entry = catalog.loc[["astra-ct"], ["what", "licence", "citation", "size_mb"]]
entry.T.style

# %% [markdown]
# How does it want to be fed? Most failures of other people's models begin here. Astra's own
# script cuts off the rim where all is air (here nothing) and squeezes the rest of a chest into
# 160 x 224 x 224 voxels, whatever its size in millimetres; it keeps -1000 to 200 HU. Merlin
# was fed voxels of 3 x 1.5 x 1.5 mm. The file of weights says neither, so we set what the
# authors wrote.
#
# `search_size` is the size at which the package asks how a feature map lies over its input.

# %%
net = replace(net, size=size, spacing_mm=None, search_size=(64, 96, 96))
source = rw.data.fetch("lidc-ct")
ct = rw.data.read(source / "cxr.nii.gz")
ct = replace(ct, modality="CT")

# %% [markdown]
# How large is a voxel of this CT, once it's squeezed?

# %%
sizes = [matrix.numel() for matrix in net.net.parameters()]
millions = sum(sizes) / 1e6
extent_mm = ct.spacing_mm * np.array(ct.shape)
fed_mm = extent_mm / size
sides = " x ".join(f"{mm:.1f}" for mm in fed_mm)
Markdown(
    f"{millions:.1f} million weights, licence {net.licence}. Of this CT it sees "
    f"voxels of {sides} mm in the window {net.window_hu} HU."
)

# %% [markdown]
# So this is what the encoder sees: the CT in its window. Blood, muscle and bone are nearly
# alike here, all of them white. Which organs would you find hard to tell apart by grey alone?

# %%
rw.show.planes(ct, window_hu=net.window_hu, title="A chest CT in the encoder's window")

# %% [markdown]
# ## What does a place look like to the encoder?
# The network halves its map in stages: after the second, 160 x 224 x 224 voxels have become a
# grid of *cells*, each with 512 numbers. A cell still knows where it lies, so it can be
# asked about its place. We cut the network there; the rest isn't needed, and the cut one takes
# seconds instead of a minute.
#
# Think of it as a coarse picture with 512 colours. Each colour, or *channel*, answers to some
# pattern: an edge between air and tissue, a texture, a bright tube. Nobody named the patterns,
# they are what training found useful. The first stages of such a network answer to small
# patterns, the last ones to large ones.

# %%
PARTS = ("conv1", "bn1", "act", "maxpool", "layer1", "layer2")


def first_stages(net):
    stages = [getattr(net.net, part) for part in PARTS]
    cut = torch.nn.Sequential(*stages)
    return replace(net, net=cut, search_size=(48, 64, 64))


encoder = first_stages(net)

# %% [markdown]
# Is the cut one the same network? On a small input we compare its features with those that the
# whole network has at `layer2`.

# %%
small = (64, 96, 96)
whole = replace(net, size=small)
by_hook = rw.attend.cells(whole, ct, "layer2")
cut = replace(encoder, size=small)
by_cut = rw.attend.cells(cut, ct)
rw.check.matches(by_cut.features, by_hook.features)

# %% [markdown]
# Now the cells of the CT at full size. They come as `rw.attend.Cells`, along the axes of the
# volume, and know their positions in millimetres.
#
# A cell is a box of about a centimetre. What it knows comes from a wider surrounding than that
# box, because every filter looks at its neighbours' answers, and theirs look at theirs.

# %%
known = rw.attend.cells(encoder, ct)
side_mm = extent_mm / known.shape
sides = " x ".join(f"{mm:.0f}" for mm in side_mm)
n_numbers = known.features.shape[-1]
Markdown(f"{known.shape} cells of {sides} mm, {n_numbers} numbers in each.")

# %% [markdown]
# ## Which organ is it?
# The CT comes with a mask of organs (made by a program, TotalSegmentator, not by people). We
# take ten kinds, by the names in its table.

# %%
ORGANS = {
    "lung": "lung_",
    "heart": "heart",
    "aorta": "aorta",
    "liver": "liver",
    "spleen": "spleen",
    "stomach": "stomach",
    "vertebrae": "vertebrae",
    "ribs": "rib_",
    "back muscle": "autochthon",
    "shoulder": "humerus|scapula|clavicula",
}

# %% [markdown]
# `organ` gets the organ's number in each voxel, from 0, and -1 elsewhere. A look-up table does
# it: one entry a number of the mask.
#
# An array of 35 million numbers is a lot for comparisons one organ at a time, and a table of
# 256 entries is not. A number of the mask that belongs to none of our ten stays at -1: kidneys,
# colon, fat, everything that isn't asked for.

# %%
organs = list(ORGANS)
structures = pd.read_csv(source / "structures.csv")
lookup = np.full(256, -1, np.int8)
for number, pattern in enumerate(ORGANS.values()):
    named = structures["structure"].str.contains(pattern)
    numbers_in_mask = structures.loc[named, "id"]
    lookup[numbers_in_mask] = number
mask = rw.data.read(source / "mask.nii.gz").voxels
mask = mask.astype(np.uint8)
organ = lookup[mask]

# %% [markdown]
# A cell belongs to an organ that fills more than half of it. Thin organs fill no cell, so
# some of the ten are left out: an honest limit of a grid this coarse.
#
# `known.mean` averages anything that lies on the CT's voxels over each cell; of a mask it gives
# the share of the cell that is filled. Cells at the border of two organs belong to neither,
# which makes the question easier than it is in a hospital.


# %%
def organ_of_cells(organ):
    """(d, h, w) the organ of each cell, -1 where none fills half of it."""
    numbers = range(len(organs))
    by_organ = [known.mean(organ == number) for number in numbers]
    shares = np.stack(by_organ)  # (organs, d, h, w)
    is_filled = shares.max(0) > 0.5
    return np.where(is_filled, shares.argmax(0), -1)


truth = organ_of_cells(organ)
filled = truth[truth >= 0]
counts = np.bincount(filled, minlength=len(organs))
table = pd.DataFrame({"cells": counts, "used": counts >= fewest}, index=organs)
table.T

# %% [markdown]
# **Training and testing in one patient.** Neighbouring cells are nearly copies of each other.
# So whole slabs of the body are held out, every second one, and the test cells that touch a
# training slab are dropped. That keeps the labels apart. It can't keep the views apart: a cell
# sees farther than its own borders.
#
# Where the first slab begins is arbitrary, so we cut in several ways. Those are not several
# patients: their spread says how much depends on the cut, and nothing else.


# %%
def slabs_of(offset):
    """For each layer of cells: its slab, whether it trains, whether it tests."""
    layer = np.arange(known.shape[0])
    slab = (layer + offset) // thick
    trains = slab % 2 == 0
    changes = trains[1:] != trains[:-1]
    is_last = np.append(changes, False)  # of its slab
    is_first = np.insert(changes, 0, False)
    tests = ~trains & ~is_last & ~is_first
    return slab, trains, tests


slab, trains, tests = slabs_of(0)
pd.DataFrame({"slab": slab, "trains": trains, "tests": tests}).astype(int).T

# %% [markdown]
# ### Your turn: a score that lungs can't win
# Most cells are lung, so whoever always says *lung* is right in most. Write the score that
# gives each organ the same say: the share of its cells that are named rightly, and of these
# shares the mean over the organs.


# %%
def mean_recall(truth, guess):
    """truth, guess: (N,) organ numbers."""
    raise NotImplementedError


# %% tags=["solution"]
def mean_recall_solution(truth, guess):
    shares = []
    for organ in np.unique(truth):
        named = guess[truth == organ]
        shares.append((named == organ).mean())
    return np.mean(shares)


# %%
from sklearn.metrics import (
    balanced_accuracy_score,
    make_scorer,
    pairwise_distances,
)

some_truth = np.array([0, 0, 0, 0, 1, 1, 2])
some_guess = np.array([0, 0, 0, 1, 1, 0, 2])
for written in (mean_recall, mean_recall_solution):
    rw.check.matches(written, balanced_accuracy_score, some_truth, some_guess)

# %% [markdown]
# ### Controls
# A number for Astra alone says little. Beside it stand:
#
# - **place**: where the cell lies, in millimetres. It knows no image at all.
# - **HU around**: the density of the cell and of its six neighbours.
# - **HU and place**: both, with their squares and products.
# - **random weights**: the same network, each filter's numbers shuffled.
#
# Why these? A network that sees an image could lean on three cheap things: how dense a place
# is, where it lies, and what any random filter would say. Each control has exactly one of them.
# If Astra isn't ahead of a control, we can't say that it has learnt more than that.
#
# The densities are cut to the window that Astra sees, so that no control sees more than it
# does.


# %%
def hu_around(volume):
    """(d, h, w, 7) the mean density of each cell and of its neighbours."""
    in_window = np.clip(volume.voxels, *net.window_hu)
    density = known.mean(in_window)
    shifted = [density]
    for axis, step in product(range(3), (-1, 1)):
        shifted.append(np.roll(density, step, axis))
    return np.stack(shifted, -1)


place = known.positions()  # (d, h, w, 3) in mm
around = hu_around(ct)
place.shape, around.shape

# %% [markdown]
# A shuffled network would drown its signal, since the statistics of its normalisation layers
# belong to the trained weights. So these are measured anew, on this very CT: a favour to the
# control, which Astra doesn't get.
#
# Random weights are a better control than they sound. A random filter still tells smooth from
# rough and bright from dark, and the network's shape (small filters, in stages) is itself a
# good guess about images. What training adds is what is left above it.
#
# Shuffling keeps the numbers of each filter bank and loses only their order. So the control
# differs from Astra in that order, and in the statistics that follow from it.


# %%
def random_encoder(net, seed):
    """The network with the weights of each convolution shuffled."""
    generator = torch.Generator().manual_seed(seed)
    shuffled = replace(net, net=copy.deepcopy(net.net))
    for module in shuffled.net.modules():
        if isinstance(module, torch.nn.Conv3d):
            weights = module.weight.data
            order = torch.randperm(weights.numel(), generator=generator)
            mixed = weights.flatten()[order]
            module.weight.data = mixed.reshape(weights.shape)
    return measured_anew(shuffled)


# %%
@torch.no_grad()
def measured_anew(net):
    """The network with the normalisation that its own signal on the CT asks for."""
    for module in net.net.modules():
        if isinstance(module, torch.nn.BatchNorm3d):
            module.reset_running_stats()
            module.momentum = None  # a plain mean
            module.train()
    net.net(net.preprocess(ct))
    net.net.eval()
    return net


# %% [markdown]
# A random network is one draw. Several seeds say whether it was a lucky one.

# %%
encoders = {"Astra": encoder}
for seed in seeds:
    encoders[f"random weights {seed}"] = random_encoder(encoder, seed)

# %% [markdown]
# ### A second anatomy
# A place in one patient is an easy question: the liver of this slab lies where the liver of the
# next slab lies. So we also ask about two bodies that the probe has never met. In one the CT is
# mirrored: the heart is on the right. In the other each slice is bent, by displacements that
# vary smoothly, like those with which our simulator makes one patient into many.
#
# Slices are bent within their plane, so the slabs that are held out stay held out.
#
# `F.grid_sample` fetches each pixel of the new slice from a place of the old one. The places
# are those of a regular grid, pushed about by the displacements. A coarse lattice of 5 x 5 x 5
# random pushes, smoothly interpolated, gives neighbouring pixels nearly the same push, so
# tissue is bent and not torn. For `grid_sample` a slice is 2 wide, whatever it has in
# millimetres.


# %%
def pushes(shape, seed=0):
    """(D, H, W, 2) by how much each pixel is pushed within its slice."""
    generator = torch.Generator().manual_seed(seed)
    lattice_mm = bend_mm * torch.randn(1, 2, 5, 5, 5, generator=generator)
    width_mm = shape[2] * ct.spacing_mm[2]
    lattice = lattice_mm * 2 / width_mm
    push = F.interpolate(lattice, shape, mode="trilinear", align_corners=True)
    return push[0].permute(1, 2, 3, 0)


# %% [markdown]
# The regular grid comes from the affine map that leaves every slice where it is.


# %%
def bent(voxels, mode):
    """(D, H, W) with each slice pushed about by some `bend_mm`."""
    slices = torch.from_numpy(voxels)[:, None].float()  # (D, 1, H, W)
    unmoved = torch.eye(2, 3).expand(len(slices), 2, 3)
    grid = F.affine_grid(unmoved, slices.shape, False)  # (D, H, W, 2)
    grid = grid + pushes(voxels.shape)
    moved = F.grid_sample(slices, grid, mode, "border", False)
    return moved[:, 0].numpy()


# %% [markdown]
# The organ numbers are moved by the same displacements, and take the nearest number instead of
# a mean of two.

# %%
mirrored = ct.voxels[:, :, ::-1].copy()
volumes = {
    "as scanned": ct,
    "mirrored": rw.data.Volume(mirrored, ct.affine, "CT"),
    "bent": rw.data.Volume(bent(ct.voxels, "bilinear"), ct.affine, "CT"),
}
truths = {
    "as scanned": truth,
    "mirrored": organ_of_cells(organ[:, :, ::-1]),
    "bent": organ_of_cells(bent(organ, "nearest")),
}

# %% [markdown]
# Look at them first. Is the bent one still a chest?

# %%
middle = ct.shape[1] // 2
rw.show.grid(
    [each.slice(1, middle, (-1000, 400)) for each in volumes.values()],
    titles=list(volumes),
    columns=3,
    title="One patient, three anatomies",
    caption="coronal slices, window -1000 to 400 HU",
)

# %% [markdown]
# Every encoder reads every anatomy. This is the longest cell of the page.

# %%
features = {}
for name, anatomy in product(encoders, volumes):
    read = rw.attend.cells(encoders[name], volumes[anatomy])
    features[name, anatomy] = read.features

# %% [markdown]
# And the numbers of the controls that are made by hand:

# %%
BY_HAND = ("place", "HU around", "HU and place")
for anatomy, volume in volumes.items():
    around = hu_around(volume)
    both = np.concatenate([around, place], -1)
    features["place", anatomy] = place
    features["HU around", anatomy] = around
    features["HU and place", anatomy] = both
names = [*encoders, *BY_HAND]

# %% [markdown]
# ### A linear probe
# The probe weighs the 512 numbers and adds them up, once for each organ; the largest sum wins.
# How strongly its weights are held small is chosen on slabs within the training part, never on
# the test slabs. The features made by hand get their squares and products: with so few numbers
# a linear probe would be no fair rival.

# %%
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, GroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import PolynomialFeatures, StandardScaler

squares = PolynomialFeatures(2, include_bias=False)
score = make_scorer(mean_recall_solution)


# %% [markdown]
# The tools come from scikit-learn. Each feature is brought to the same spread first.
#
# Why so plain a probe? Because the question is about the features. A large model behind them
# could learn the organs by itself, and then its skill would be taken for theirs.
#
# `balanced` gives rare organs more weight, so that a hundred cells of aorta count as much as
# two thousand of lung; it is the same idea as in the score.


# %%
def fit_probe(name, X, y, slab):
    linear = LogisticRegression(class_weight="balanced", max_iter=2000, tol=1e-3)
    steps = [StandardScaler(), linear]
    if name in BY_HAND:
        steps = [StandardScaler(), squares, *steps]
    strengths = {"logisticregression__C": penalties}
    probe = make_pipeline(*steps)
    search = GridSearchCV(probe, strengths, scoring=score, cv=GroupKFold(2))
    return search.fit(X, y, groups=slab)


# %% [markdown]
# It is fitted on the CT as scanned.

# %%
kept = np.flatnonzero(counts >= fewest)


def cells_in(anatomy, layers):
    """(d, h, w) bool: those of the organs that are used, in some layers of cells."""
    is_used = np.isin(truths[anatomy], kept)
    return is_used & layers[:, None, None]


def fitted(fit, name, offset):
    """A probe of some features, fitted on the training slabs of the CT as scanned."""
    slab, trains, _ = slabs_of(offset)
    chosen = cells_in("as scanned", trains)
    slab_of_cell = np.broadcast_to(slab[:, None, None], truth.shape)
    X = features[name, "as scanned"][chosen]
    return fit(name, X, truth[chosen], slab_of_cell[chosen])


# %% [markdown]
# And asked about the test slabs of one anatomy:
#
# Nothing is fitted on the mirrored and the bent CT. They are only asked about, as a new patient
# would be.


# %%
def recall_of(model, name, anatomy, offset):
    _, _, tests = slabs_of(offset)
    asked = cells_in(anatomy, tests)
    X = features[name, anatomy][asked]
    y = truths[anatomy][asked]
    guess = model.predict(X)
    return mean_recall_solution(y, guess)


# %% [markdown]
# **Predict first.** On the CT as scanned: will Astra be ahead of place and density? And on the
# mirrored one?
#
# Write your guess down before you run the next cells. A prediction that was made afterwards is
# always right.


# %%
def compared(fit):
    rows = []
    for name, offset in product(names, offsets):
        model = fitted(fit, name, offset)
        kind = name.rstrip(" 0123456789")  # random networks of all seeds together
        for anatomy in volumes:
            recall = recall_of(model, name, anatomy, offset)
            rows.append([kind, anatomy, offset, recall])
    return pd.DataFrame(rows, columns=["features", "anatomy", "cut", "recall"])


# %% [markdown]
# The lines in the figure reach from the lowest to the highest value of all cuts. They are no
# intervals: one patient gives none.


# %%
def over_cuts(results):
    groups = results.groupby(["features", "anatomy"], sort=False)
    recalls = groups["recall"]
    summary = recalls.agg(recall="mean", low="min", high="max")
    return summary.reset_index()


# %% [markdown]
# A colour is an anatomy, a group of bars one kind of features.


# %%
def drawn(results, title):
    random = f"random networks: {len(seeds)}"
    return rw.show.bars(
        over_cuts(results),
        x="features",
        y="recall",
        group="anatomy",
        line=1 / len(kept),
        y_title="mean recall of the organs",
        title=title,
        caption=f"lines: all {len(offsets)} cuts; {random}; dashed: a guess",
    )


# %% tags=["headline"]
probed = compared(fit_probe)
drawn(probed, "Which organ is a cell? One patient, fitted on the CT as scanned")

# %% [markdown]
# We let a function say it: in how many of the cuts is Astra ahead?
#
# Compare colours within a group first: what does a change of anatomy cost these features? Then
# compare groups within a colour. The two questions have different answers, and most published
# tables show only one of the bars.


# %%
def ahead(results, anatomy, control):
    part = results[results["anatomy"] == anatomy]
    by_cut = part.pivot_table(index="cut", columns="features", values="recall")
    ours = by_cut["Astra"]
    theirs = by_cut[control]
    wins = (ours > theirs).sum()
    return (
        f"- *{anatomy}*: Astra {ours.mean():.2f}, {control} {theirs.mean():.2f}; "
        f"Astra is ahead in {wins} of {len(by_cut)} cuts."
    )


# %% [markdown]
# Each anatomy, against two controls:


# %%
def sentences(results):
    lines = []
    for anatomy, control in product(volumes, ("HU and place", "random weights")):
        lines.append(ahead(results, anatomy, control))
    return "\n".join(lines)


Markdown("We see, in one patient:\n\n" + sentences(probed))

# %% [markdown]
# And the ruler alone, without any image?

# %%
alone = probed[probed["features"] == "place"]
by_anatomy = alone.groupby("anatomy", sort=False)["recall"].mean()
shares = [f"{recall:.0%} {anatomy}" for anatomy, recall in by_anatomy.items()]
named = ", ".join(shares)
chance = 1 / len(kept)
Markdown(f"Place alone names, of an organ's cells: {named}. A guess: {chance:.0%}.")

# %% [markdown]
# Whoever shows you that a model's features know anatomy, and shows it within a patient, has to
# show that a ruler doesn't know it too. The mirror takes the ruler away; a bend of a centimetre
# hardly moves an organ out of its cell.
#
# ## Similar places
# A probe learns from labels. Retrieval asks the features alone: of all training cells, which is
# nearest to this one, and is it of the same organ? Each number is first brought to the same
# spread.
#
# Radiologists do this by heart: where have I seen this before? A retrieval that works needs no
# training at all, and its answers can be looked at one by one, which a probe's weights can't.

# %%
from sklearn.neighbors import KNeighborsClassifier


def fit_nearest(name, X, y, slab):
    nearest = make_pipeline(StandardScaler(), KNeighborsClassifier(n_neighbors=1))
    return nearest.fit(X, y)


retrieved = compared(fit_nearest)
drawn(retrieved, "Is the nearest cell of the same organ?")

# %% [markdown]
# In words:

# %%
Markdown("We see, in one patient:\n\n" + sentences(retrieved))

# %% [markdown]
# And what do the nearest places look like? Four cells of the mirrored CT, and beside each the
# two training cells that Astra finds most alike.
#
# Numbers hide how wrong an answer is. To take one vessel full of contrast for another is a fair
# mistake; to take a heart for a bone isn't. So look.


# %%
def middle_of(cell):
    """The voxel in the middle of a cell."""
    along_d, along_h, along_w = known.middles()
    d, h, w = cell
    middle = [along_d[d], along_h[h], along_w[w]]
    return np.rint(middle).astype(int)


# %% [markdown]
# The picture is cut from its slice, and moved where it would reach beyond the rim.


# %%
def crop(volume, cell, half=80):
    """The axial neighbourhood of a cell, 160 pixels wide."""
    d, h, w = middle_of(cell)
    farthest = ct.shape[1] - half  # slices are square
    h, w = np.clip([h, w], half, farthest)
    rows = slice(h - half, h + half)
    columns = slice(w - half, w + half)
    piece = volume.voxels[d : d + 1, rows, columns]
    picture = rw.data.Volume(piece, ct.affine, "CT")
    return picture.slice(0, 0, (-200, 500))


# %% [markdown]
# The search knows its cells by row, and we want to know where they lie.

# %%
training = np.argwhere(cells_in("as scanned", trains))  # (K, 3)
scaler, nearest = fitted(fit_nearest, "Astra", 0)
asked = cells_in("mirrored", tests)
held_out = np.where(asked, truths["mirrored"], -1)


def nearest_two(cell):
    numbers = features["Astra", "mirrored"][tuple(cell)]  # (512,)
    scaled = scaler.transform(numbers[None])
    _, rows = nearest.kneighbors(scaled, 2)
    return training[rows[0]]  # (2, 3)


# %% [markdown]
# Of each of four organs the cell in the middle of the list, so that nobody picked it:

# %%
shown = {}


def show_alike(number):
    name = organs[number]
    cells = np.argwhere(held_out == number)
    cell = cells[len(cells) // 2]
    shown[f"asked: {name}"] = crop(volumes["mirrored"], cell)
    for n, alike in enumerate(nearest_two(cell), start=1):
        its_organ = truth[tuple(alike)]
        found = organs[its_organ]
        shown[f"{name}, nearest {n}: {found}"] = crop(ct, alike)


# %%
for number in np.unique(held_out)[2:6]:  # after none, and lung
    show_alike(number)
list(shown)

# %% [markdown]
# Read by row. The pictures show 11 cm of the slice; the cell is the middle centimetre.

# %%
rw.show.grid(
    list(shown.values()),
    titles=list(shown),
    columns=3,
    title="Similar places, as Astra sees them",
    caption="axial, window -200 to 500 HU",
    cell=180,
)

# %% [markdown]
# ## Maps in the patient's own millimetres
# A map needs a question, and this encoder has no words: its outputs have no names. So the
# question is a **direction** among its numbers: the mean of the cells inside of an organ,
# less the mean of those outside. Both means are taken in the training slabs.
#
# Why a direction? Imagine all cells as points in a space of 512 axes. Cells of the heart form a
# cloud, all the others another one. The arrow from the middle of the others to the middle of
# the heart is the simplest way to say *more like heart* in this space. It is what a text would
# be in a model that has words.


# %%
def direction_of(numbers, inside, among):
    """(K,) from the mean of the cells outside to the mean of those inside."""
    inside_mean = numbers[inside & among].mean(0)
    outside_mean = numbers[~inside & among].mean(0)
    return inside_mean - outside_mean


by_layer = trains[:, None, None]
training_slabs = np.broadcast_to(by_layer, truth.shape)
astra = features["Astra", "as scanned"]
heart_number = organs.index("heart")
heart = truth == heart_number
towards_heart = direction_of(astra, heart, training_slabs)

# %% [markdown]
# Grad-CAM of a direction, by hand. The score is the mean over all cells, times the direction;
# its gradient is the same in every cell, the direction by the number of cells. So the map is how
# far each cell points that way, without what points the other way.
#
# What is the gradient here? If one cell moves a little along the direction, the mean over all
# cells moves by that much, divided by the number of cells. It is the same for each cell, since
# a mean treats them alike. Grad-CAM takes the mean of the gradients as weights, and there is
# nothing to average away.

# %%
along = astra @ towards_heart  # (d, h, w)
by_hand = np.maximum(along, 0) / truth.size
map_by_hand = known.to_map(by_hand, step=2)
target = torch.from_numpy(towards_heart)
heart_map = rw.attend.volume_map(encoder, ct, method="gradcam", target=target, step=2)
rw.check.matches(map_by_hand.values, heart_map.values)

# %% [markdown]
# The two are equal in each voxel of the volume. The package finds by itself how the axes of the
# network's map lie in the patient: it moves a blob through the input and watches where the
# features follow.

# %%
rw.show.volume(
    ct,
    heart_map,
    window_hu=(-160, 240),
    title="Grad-CAM of the direction to the heart, second stage",
)

# %% [markdown]
# In which organ is it highest?

# %%
values = heart_map.values
highest = np.unravel_index(values.argmax(), values.shape)
voxel = 2 * np.array(highest)  # the map has every second voxel
number = organ[tuple(voxel)]
choices = [*organs, "none of the ten"]  # number -1 takes the last
Markdown(f"The peak lies in: {choices[number]}.")

# %% [markdown]
# ### Does the map know more than its controls?
# We score such maps in the test slabs against the masks of all organs. Beside Astra stand the
# same recipe with random weights, and four maps that need no network: how near the density is
# to the organ's, how near the place is to the organ's middle in the training slabs, the CT's own
# brightness, and the distance to the centre of the picture.
#
# The blind maps get the same help as Astra's: they, too, learn from the training slabs where
# the organ's middle is and how dense it is. A control that is kept ignorant is easily beaten.


# %%
def nearness(numbers, to):
    """(d, h, w) 0 or more: how near a cell's numbers are to those of `to`."""
    away = np.linalg.norm(numbers - to, axis=-1)
    return away.max() - away


def maps_of(number):
    inside = (truth == number) & training_slabs
    maps = {}
    for name in ("Astra", f"random weights {seeds[0]}"):
        numbers = features[name, "as scanned"]
        towards = direction_of(numbers, inside, training_slabs)
        maps[name.rstrip(" 0123456789")] = np.maximum(numbers @ towards, 0)
    return maps | blind_maps(inside)


# %% [markdown]
# The blind ones:


# %%
density = features["HU around", "as scanned"][..., :1]


def blind_maps(inside):
    return {
        "HU": nearness(density, density[inside].mean(0)),
        "place": nearness(place, place[inside].mean(0)),
        "brightness": density[..., 0] - density.min(),
        "centre": nearness(place, place.mean((0, 1, 2))),
    }


# %% [markdown]
# The scores, in the layers of cells that were held out:

# %%
rows = []
tested = truth[tests]
for number in np.intersect1d(kept, tested):
    for name, values in maps_of(number).items():
        points = rw.attend.score_map(values[tests], tested == number)
        rows.append({"organ": organs[number], "map": name, **points})
scores = pd.DataFrame(rows)

# %% [markdown]
# AUPRC asks whether the cells of the organ come first when all are sorted by the map. A map drawn
# blindly scores the organ's share of the cells, which stands in brackets.
#
# Read the heat map row by row: which column is brightest? And look for rows in which all are
# dark. There the question is too hard for every map, or the organ too small for the grid.

# %%
auprc = scores.pivot_table(index="organ", columns="map", values="auprc", sort=False)
share = scores.groupby("organ")["area"].first()
rows = [f"{organ} ({share[organ]:.1%})" for organ in auprc.index]
rw.show.heatmap(
    auprc.to_numpy(),
    rows=rows,
    columns=list(auprc),
    label="AUPRC",
    limits=(0, 1),
    title="Maps of organs in slabs that were held out",
    caption="one CT, one cut, one random network; in brackets: drawn blindly",
)

# %% [markdown]
# The energy (which share of the map lies in the organ?) and the hit (is its peak there?), as
# means over the organs:

# %%
wide = scores.pivot_table(index="map", values=["auprc", "energy", "hit"], sort=False)
wide.style.format("{:.2f}")

# %% [markdown]
# For how many organs does each map come first?

# %%
first = auprc.idxmax(axis=1).value_counts()
firsts = ", ".join(f"{name} for {n}" for name, n in first.items())
ours = auprc["Astra"]
blind = auprc[["HU", "place", "brightness", "centre"]].max(axis=1)
better = (ours > blind).sum()
better_than_random = (ours > auprc["random weights"]).sum()
Markdown(
    f"First by AUPRC: {firsts} of {len(auprc)} organs. Astra's map is ahead of all four "
    f"blind ones for {better}, and of random weights for {better_than_random}."
)

# %% [markdown]
# ### Deeper, through the whole network
# The network that we cut off ends in 2,048 outputs. There the question is a direction of
# outputs, made of the coarse cells of its last stage, and Grad-CAM follows it back to a layer of
# our choice. An earlier layer draws finer, and knows less of what the score is about.
#
# Only what comes behind that layer is kept for the way back, which holds the memory down. Ask at
# `layer2` if you have a GiB more to spare.
#
# How fine can a map be? The last stage has ten cells along the body and seven across, so a few of
# them hold the whole heart. A map of it is a blurred blob by construction, whatever the network
# knows.
#
# The whole network needs memory, so we first let go of the bodies that aren't asked again.

# %%
volumes = {"as scanned": ct}
for name, anatomy in list(features):
    if anatomy not in volumes:
        del features[name, anatomy]

# %% [markdown]
# The cells of the last stage, and those of them that are mostly heart:

# %%
deep = rw.attend.cells(net, ct, "layer4")
is_heart = organ == heart_number
heart_share = deep.mean(is_heart)
least = min(0.5, heart_share.max() / 2)
heart_cells = heart_share > least
everywhere = np.ones(deep.shape, bool)
towards = direction_of(deep.features, heart_cells, everywhere)
target = torch.from_numpy(towards)
f"{deep.shape} cells, {heart_cells.sum()} of them heart"

# %%
heart_mask = is_heart[::2, ::2, ::2]
score_names = ("hit", "energy", "auprc", "area")
deep_maps = {}
layer_scores = {}
for layer in layers:
    deep_map = rw.attend.volume_map(
        net, ct, method="gradcam", target=target, layer=layer, step=2
    )
    deep_maps[layer] = deep_map
    layer_scores[layer] = rw.attend.score_map(deep_map, heart_mask, scores=score_names)
table = pd.DataFrame(layer_scores).T
table.style.format("{:.3f}")

# %% [markdown]
# Here the direction was made of the very organ that it is scored on, so these numbers say how
# sharp a layer draws, not what it has learnt; a random network would cost as many passes again,
# and we leave it out. `area` is what a map drawn blindly scores. Above
# the viewer, *Map* chooses the layer.

# %%
rw.show.volume(
    ct,
    {f"heart, at {layer}": each for layer, each in deep_maps.items()},
    window_hu=(-160, 240),
    title="One question, several layers",
)

# %% [markdown]
# ### Occlusion
# Grad-CAM trusts gradients. Occlusion trusts nothing: it hides a box, and looks by how much the
# score falls. It costs a pass a box, so we ask the cut network at half of the resolution, where a
# pass takes about a second.
#
# Occlusion has its own trap: a grey box in a chest is nothing that the network has met, and it
# may fall for the box instead of missing the organ. Each method asks another question, so two
# maps that differ needn't mean that one is broken.

# %%
half = tuple(n // 2 for n in size)
coarse = replace(encoder, size=half)
coarse_cells = rw.attend.cells(coarse, ct)
inside = coarse_cells.mean(is_heart) > 0.5
everywhere = np.ones_like(inside)
towards = direction_of(coarse_cells.features, inside, everywhere)
target = torch.from_numpy(towards)

# %% [markdown]
# The direction is made anew for that resolution. Then the boxes:

# %%
box = tuple(n // boxes for n in half)
fall = rw.attend.volume_map(
    coarse, ct, method="occlusion", target=target, mask=box, step=2
)
points = rw.attend.score_map(fall, heart_mask, scores=("energy", "area"))
Markdown(
    f"{boxes**3} boxes: {points['energy']:.1%} of the map lies in the heart, which is "
    f"{points['area']:.1%} of the volume."
)

# %% [markdown]
# ## The tumour that this CT really has
# Our CT was taken for normal for months. It isn't: a reader finds a spiculated mass of 23 mm in
# the left lower lobe. No radiologist signed that, and what it is under the microscope we don't
# know; we call it the tumour.
#
# It is the finding that a user of such an encoder would care about. Nobody trained a probe for
# it here, and with one tumour nobody could. But one can ask whether it stands out.

# %%
readings = rw.simulate.ct_findings()
reading = readings.iloc[0]
numbers = reading["mm L, P, S"].split(",")
tumour_mm = np.array(numbers, float)
away_mm = np.linalg.norm(place - tumour_mm, axis=-1)
radius_mm = max(12, away_mm.min())  # at least the nearest cell
tumour = away_mm <= radius_mm

# %% [markdown]
# The matrix `affine` leads from voxels to millimetres, so we solve it for the voxel.

# %%
voxel = np.linalg.solve(ct.affine, [*tumour_mm, 1])
at = np.rint(voxel[:3]).astype(int)
number = organ[tuple(at)]
called = organs[number]
said = reading["what isn't normal"]
Markdown(f"{said}: {tumour.sum()} cells. The mask calls its middle {called}.")

# %% [markdown]
# **Predict.** Is Astra's tumour a strange place among lung, or one lung cell like any other? And
# is that more than what its density says?
#
# *Strangeness*: the mean distance of a cell's numbers from the five lung cells that are nearest to
# it, of those at least 40 mm away in the body. The 40 mm matter: the tumour's nearest
# neighbours are itself. The tumour's own cells are nobody's neighbours.
#
# Why five neighbours, and not the distance to the mean of all lung? Because lung isn't one kind
# of place: there are vessels, fissures and borders, each with company of its own kind
# elsewhere. A cell is strange when it has no company.

# %%
lung_share = known.mean(organ == 0)
mostly_lung = lung_share > 0.5
lung = mostly_lung & ~tumour
asked = lung_share > 0.2  # with the borders of the lungs
apart_mm = pairwise_distances(place[asked], place[lung])
asked.sum(), lung.sum()


# %%
def strangeness(numbers):
    """(d, h, w) NaN where no lung is."""
    scaler = StandardScaler()
    theirs = scaler.fit_transform(numbers[lung])
    ours = scaler.transform(numbers[asked])
    away = pairwise_distances(ours, theirs)
    away[apart_mm < 40] = np.inf
    nearest = np.sort(away, 1)[:, :5]
    strange = np.full(asked.shape, np.nan)
    strange[asked] = nearest.mean(1)
    return strange


# %% [markdown]
# The null: balls of the same size elsewhere in the lungs, at least 40 mm from the tumour. They
# overlap, so their number isn't a number of independent places.
#
# A single percentile of four cells would be a weak answer, since neighbouring cells go
# together. The balls have the tumour's size, so each of them is as lucky or unlucky as the
# tumour is.

# %%
rng = np.random.default_rng(0)
is_far = away_mm > 40
elsewhere = np.argwhere(lung & is_far)
centres = rng.permutation(elsewhere)[:places]
balls = []
for centre in centres:
    from_centre = place - place[tuple(centre)]
    distance_mm = np.linalg.norm(from_centre, axis=-1)
    ball = distance_mm <= 12
    balls.append(ball & lung)

# %% [markdown]
# One more control. The tumour is denser than lung, and anybody sees that. Are there places at the
# border of the lungs (vessels, pleura, diaphragm) that are as dense, by being half lung and half
# something else? We ask how strange those are.
#
# This is the control that decides. Without it, *strange* could just mean *not black*.

# %%
grey = density[..., 0]
of_tumour = grey[tumour]
low = of_tumour.min() - 25
high = of_tumour.max() + 25
above = grey > low
below = grey < high
as_dense = asked & above & below & is_far
f"{low:.0f} to {high:.0f} HU: {as_dense.sum()} cells"

# %% [markdown]
# All of it for one kind of features:


# %%
def judged(numbers):
    strange = strangeness(numbers)
    value = strange[tumour].mean()
    by_ball = [strange[ball].mean() for ball in balls]
    null = np.array(by_ball)
    return {
        "tumour": value,
        "lung cells below": (strange[lung] < value).mean(),
        "balls as strange": (1 + (null >= value).sum()) / (1 + len(null)),
        "as dense below": (strange[as_dense] < value).mean(),
    }


# %%
by_features = {}
for name in [*encoders, "HU around"]:
    by_features[name] = judged(features[name, "as scanned"])
by_features["HU"] = judged(density)
verdicts = pd.DataFrame(by_features).T
verdicts.style.format("{:.3f}")

# %% [markdown]
# *lung cells below*: the share of all lung cells that are less strange than the tumour. *balls as
# strange*: the share of balls that are at least as strange, the tumour counted in. *as dense
# below*: the share of equally dense places at the borders that are less strange. We say that
# features set the tumour apart where at most one ball in twenty is as strange.


# %%
def about_tumour(name):
    verdict = verdicts.loc[name]
    cells = verdict["lung cells below"]
    alike = verdict["balls as strange"]
    dense = verdict["as dense below"]
    apart = "sets it apart" if alike <= 0.05 else "doesn't set it apart"
    return (
        f"- *{name}* {apart}: stranger than {cells:.1%} of the lung cells, and "
        f"{alike:.1%} of the balls are as strange; stranger than {dense:.0%} of the "
        f"{as_dense.sum()} places that are as dense."
    )


# %%
lines = [about_tumour(name) for name in verdicts.index]
Markdown("We see, of one tumour in one patient:\n\n" + "\n".join(lines))

# %% [markdown]
# Mind what that is: a place can be strange without being recognised. No number here says
# *tumour*. Where plain density sets it apart, too, a threshold would have done. What an encoder
# adds shows among the places that are as dense, and there we have one tumour, not a sample.
#
# Where else is it strange? The map, over the tumour.

# %%
strange = strangeness(astra)
filled = np.nan_to_num(strange - np.nanmin(strange))
strange_map = known.to_map(filled, step=2, method="strangeness")
rw.show.volume(
    ct,
    strange_map,
    at=tuple(at),
    window_hu=(-1000, 400),
    title="How strange is each place of the lungs to Astra? Planes through the tumour",
)

# %% [markdown]
# ## Your volume, and Merlin's own weights
# Put the path of a CT of the chest (NIfTI, or a folder of DICOM files) into `your_volume` above,
# and run the page again from there. The last probe then says how much of each organ it
# finds. Nothing stands beside that number but your own eyes, so look at the CT first.
#
# The spacing and the orientation come from the file. A head, a scan of sixteen thick slices or a
# tilted gantry is squeezed into the same box, because this encoder was made to be fed so; a
# warning says it. Whether your volume is what it was trained for, you have to know.

# %%
path = your_volume or source / "cxr.nii.gz"
mine = rw.data.read(path)
yours = rw.attend.cells(encoder, mine)
probe = fitted(fit_probe, "Astra", 0)
X = yours.features[yours.inside()]
guess = probe.predict(X)
cells_named = np.bincount(guess, minlength=len(organs))

# %% [markdown]
# In litres, by the voxels that a cell stands for:

# %%
voxels_a_cell = np.prod(mine.shape) / np.prod(yours.shape)
mm3_a_voxel = np.prod(mine.spacing_mm)
litres_a_cell = mm3_a_voxel * voxels_a_cell / 1e6
sums = cells_named[kept] * litres_a_cell
names_kept = np.array(organs)[kept]
table = pd.DataFrame({"litres": sums.round(2)}, index=names_kept)
table.T

# %% [markdown]
# The probe has no word for *none of these*: fat, air around the body and everything else must
# become one of its organs. So the sums are far too large, and that is the answer to a question
# that should have had another choice.
#
# Have you Merlin's own file? `rw.models.load("merlin:FILE.pt")` reads it, fed as Merlin was: voxels
# of 3 x 1.5 x 1.5 mm in a window of -1000 to 1000 HU. The rest of this page stays as it is.
#
# The numbers to remember:

# %%
means = probed.groupby(["anatomy", "features"])["recall"].mean()
rw.book.headline(
    organ_recall=means["as scanned", "Astra"],
    organ_recall_of_place_and_hu=means["as scanned", "HU and place"],
    organ_recall_mirrored=means["mirrored", "Astra"],
    organ_recall_mirrored_of_place_and_hu=means["mirrored", "HU and place"],
    balls_as_strange_as_the_tumour=verdicts.loc["Astra", "balls as strange"],
)

# %% [markdown]
# How often does a random network set the tumour apart, by the same rule?

# %%
is_random = verdicts.index.str.startswith("random")
random = verdicts[is_random]
by_chance = (random["balls as strange"] <= 0.05).sum()
Markdown(f"We see it for {by_chance} of {len(random)} random networks.")

# %%
Markdown(f"""
## What we found
- Within one body Astra's features name {means["as scanned", "Astra"]:.0%} of an organ's cells,
  density and place {means["as scanned", "HU and place"]:.0%}, random weights
  {means["as scanned", "random weights"]:.0%}. On the mirrored body it is
  {means["mirrored", "Astra"]:.0%}, {means["mirrored", "HU and place"]:.0%} and
  {means["mirrored", "random weights"]:.0%}.
- Astra's maps are ahead of all blind ones for {better} of {len(auprc)} organs.
- The tumour: {about_tumour("Astra")[2:]}
- The same of plain density: {about_tumour("HU")[2:]} Of {len(seeds)} random networks
  {by_chance} set it apart.
""")

# %% [markdown]
# **Where it breaks.** One patient, one scanner, one tumour: nothing here has an interval, and the
# cuts of one body are no sample of bodies. A mirrored or bent CT has the texture and noise of the
# first. The organ masks come from a program. Cells of a centimetre hold no ribs and no small
# vessels. We asked the second stage of the network, not its best. Whether this CT was among the
# training data of Astra or Merlin we can't tell. And the file is what a stranger uploaded.
