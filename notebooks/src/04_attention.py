# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 4 · Where does it look, and does the picture mean anything?
#
# The model of notebook 2 gives a score for *there is a pleural effusion*. Which part of the film made the score? Many
# methods answer with a coloured map, and a coloured map always looks convincing. Here the truth is known, so it can be
# graded.
#
# **You will** take the attention out of the model and prove that it is the model's own, write rollout and relevance,
# lay every kind of map over the scan, score them against lesions beside maps that know nothing, a second reader and a
# change of words, put each through checks that it may fail, silence heads, map a CT, and then explore by yourself.
#
# **Needs**: notebook 2 (it wrote `../runs/clip-tiny`); 4 minutes on two CPU cores. **Data**: the simulator on a real
# CT (LIDC-IDRI, CC BY 3.0); the readers' boxes of VinBigData (its own terms, no images); 16 real paediatric radiographs
# (Kermany et al., CC BY 4.0); where `RADWB_MIRROR` holds them, 35 radiographs with drawn lesions (annotations CC BY 4.0)
# and 62 with graded zones (mostly CC BY-NC-SA), each image with its own licence.
#
# *For teaching and research. Not for clinical use.*

# %%
from itertools import combinations

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from IPython.display import Markdown, display

import radwb as rw

# %% tags=["parameters"]
n = 2400  # virtual radiographs in the cohort, as in notebook 2
per_finding = 60  # test films scored for each finding; fast: 12
few = 24  # effusions for the checks that take longer; fast: 8
shares = (0.1, 0.3, 0.5)  # of the pixels, taken away
twin_films, twin_epochs = (
    128,
    100,
)  # of three small models that learn films by heart; fast: 128, 2
nodules = 20  # planted in a CT, one after the other; fast: 3
methods = (
    "attention",
    "rollout",
    "relevance",
    "gradcam",
    "similarity",
)  # rw.attend.METHODS has more

# %%
table = rw.simulate.cohort(n=n, seed=0)
model = rw.models.load("../runs/clip-tiny")
test = table[table["split"] == "test"]
asked = {
    "Pleural Effusion": ("there is a pleural effusion", "there is no pleural effusion"),
    "Pneumothorax": ("there is a pneumothorax", "there is no pneumothorax"),
    "Cardiomegaly": ("there is cardiomegaly", "heart size is normal"),
    "Lung Lesion": ("there is a lung nodule", "there is no lung nodule"),
}
films = ", ".join(f"{f} {int(test[f].sum())}" for f in asked)
Markdown(
    f"{len(test)} test films of {test.patient_id.nunique()} virtual patients. With a finding: {films}."
)

# %% [markdown]
# ## What does the model see?
# Not pixels: a grid of patches, each turned into a token (and one more, the *class token*). The embedding is the mean
# of the patch tokens after the last layer. A map can't be finer than this grid. How many patches has one effusion?

# %%
effusions = test[
    (test["Pleural Effusion"] == 1) & (test["Pleural Effusion side"] == "right")
]
finding, row = (
    "Pleural Effusion",
    effusions.sort_values("Pleural Effusion severity").iloc[-3],
)
scan = rw.data.scan_of(row)
lesion = scan.truth[finding]
patch_mm = scan.shape[0] * scan.spacing_mm[0] / model.grid[0]
figure = rw.show.scan(
    scan, truth=finding, title=f"One film, {model.grid[0]} x {model.grid[1]} patches"
)
for i in range(1, model.grid[0]):
    figure.add_hline(i * patch_mm, line_width=0.5).add_vline(
        i * patch_mm, line_width=0.5
    )
display(figure)
on_patches = lesion.sum() * np.prod(scan.spacing_mm) / patch_mm**2
Markdown(
    f"We see that a patch is {patch_mm:.0f} mm wide, and that this effusion covers {on_patches:.1f} of "
    f"{np.prod(model.grid)} patches ({lesion.mean():.1%} of the film)."
)

# %% [markdown]
# ## What does a token listen to?
# In each layer and head a token sends a query; the softmax of its products with all keys is its attention, a row that
# sums to one. The fast kernels never keep it. `rw.attend.capture` brings it out; we compute the last layer's by hand.

# %%
seen = rw.attend.capture(model, model.preprocess(scan), target=asked[finding])
L, B, heads, T, _ = seen["attention"].shape
block = model.net.visual.transformer.resblocks[-1]
with torch.no_grad():
    h = block.ln_1(seen["tokens"][-2])  # (1, T, D), what the last block is given
    qkv = F.linear(h, block.attn.in_proj_weight, block.attn.in_proj_bias)
q, k, v = qkv.unflatten(-1, (3, heads, -1)).permute(
    2, 0, 3, 1, 4
)  # each (1, heads, T, D / heads)
rw.check.matches((q @ k.mT / q.shape[-1] ** 0.5).softmax(-1), seen["attention"][-1])
Markdown(
    f"{L} layers of {heads} heads, each with a square of {T} x {T}: {L * heads * T * T:,} weights for one film."
)

# %% [markdown]
# ## Does any head look at the effusion?
# The embedding is the mean of the patch tokens, so the mean of their rows is what it listened to. Here are all layers
# (left to right) and heads (top to bottom).

# %%
places = [(layer, head) for head in range(heads) for layer in range(L)]
maps = [
    rw.attend.attention_map(model, scan, method="attention", layer=a, head=b)
    for a, b in places
]
on_lesion = np.array([rw.attend.score_map(m, lesion)["energy"] for m in maps])
titles = [
    f"layer {a}, head {b}<br>{e:.0%}"
    for (a, b), e in zip(places, on_lesion, strict=True)
]
display(
    rw.show.grid(
        [scan] * len(maps),
        maps=maps,
        titles=titles,
        truth=finding,
        columns=L,
        cell=150,
        title="The mean row of attention, and its share on the effusion",
    )
)
best, least = places[on_lesion.argmax()], places[on_lesion.argmin()]
Markdown(
    f"We see that layer {best[0]}, head {best[1]} has {on_lesion.max():.0%} of its attention on the effusion, and "
    f"layer {least[0]}, head {least[1]} has {on_lesion.min():.1%}. A blind map would have {lesion.mean():.1%}. "
    f"But the head was picked by looking at the truth, and nobody asked about an effusion."
)

# %% [markdown]
# ## All layers in one: rollout
# Each layer mixes tokens that were mixed before. Half of a token goes through the attention, half past it, so one layer
# moves things by `0.5 A + 0.5 I`; the layers multiply (Abnar & Zuidema 2020,
# [arXiv 2005.00928](https://arxiv.org/abs/2005.00928)).


# %%
def rollout_by_hand(attention):  # (L, heads, T, T)
    flow = torch.eye(T)
    for A in attention.mean(1):  # (T, T), the mean over heads
        step = 0.5 * A + 0.5 * torch.eye(T)
        flow = step / step.sum(-1, keepdim=True) @ flow
    return flow  # (T, T): what each token at the end holds of each at the start


rw.check.matches(rollout_by_hand, rw.attend.rollout, seen["attention"][:, 0])

# %%
rolled = rw.attend.attention_map(model, scan, method="rollout")
display(
    rw.show.overlay(
        scan, rolled, truth=finding, title="Rollout: attention through all layers"
    )
)
kept = rollout_by_hand(seen["attention"][:, 0]).diagonal()[1:].mean()
share = rw.attend.score_map(rolled, lesion)["energy"]
Markdown(
    f"We see that {share:.1%} of the map lies on the effusion, which covers {lesion.mean():.1%} of the film. "
    f"A patch token keeps {kept:.0%} of itself."
)

# %% [markdown]
# ### Exercise 1: relevance
# Rollout doesn't know what was asked. Relevance does: it weighs each attention by the gradient of the score. Start with
# `R = I`; for each layer, from the first, add `mean over heads of max(gradient * attention, 0)`, times `R`, to `R`
# (Chefer, Gur & Wolf 2021, [arXiv 2103.15679](https://arxiv.org/abs/2103.15679)).


# %%
def relevance(attention, gradients):
    """(L, heads, T, T) twice -> (T, T) the relevance of each token for each."""
    raise NotImplementedError


# %% tags=["solution"] jupyter={"source_hidden": true}
def relevance_solution(attention, gradients):
    R = torch.eye(attention.shape[-1])
    for A, G in zip(attention, gradients, strict=True):
        R = R + (G * A).clamp(min=0).mean(0) @ R
    return R


# %%
A, G = seen["attention"][:, 0], seen["gradients"][:, 0]
for mine in (relevance, relevance_solution):
    rw.check.matches(
        mine, rw.attend.relevance, A, G / G.abs().max()
    )  # scaled up, so that a slip shows

# %% [markdown]
# ## Grad-CAM, for any network
# It needs no attention. Take the features before the last block, weight each channel by its mean gradient, keep what is
# positive (Selvaraju et al. 2017, [arXiv 1610.02391](https://arxiv.org/abs/1610.02391)). The score is the cosine with
# *there is X* less the cosine with *there is no X*.

# %%
tower, tokens = (
    model.net.visual,
    seen["tokens"][-2].clone().requires_grad_(),
)  # (1, T, D)
z = F.normalize(tower._pool(block(tokens))[0] @ tower.proj, dim=-1)  # (1, E)
yes, no = model.encode_text(list(asked[finding])).detach()
gradient = torch.autograd.grad((z @ (yes - no)).sum(), tokens)[0][
    :, 1:
]  # (1, T - 1, D), patches only
cam = (
    (gradient.mean(1, keepdim=True) * tokens[:, 1:])
    .sum(-1)
    .relu()
    .detach()
    .reshape(model.grid)
    .numpy()
)
by_hand = rw.data.to_scan(cam, scan.shape, fit=model.fit)
package = rw.attend.attention_map(
    model, scan, method="gradcam", target=asked[finding]
).values
rw.check.matches(by_hand / by_hand.max(), package / package.max())

# %% [markdown]
# ## Some methods side by side
# One film of each finding, the truth outlined. *similarity* is the cosine of each patch with the text; all others you
# have met.

# %% tags=["headline"]
shown, titles, maps, outlined = [], [], [], []
for f, pair in asked.items():
    severe = test[test[f] == 1].sort_values(f"{f} severity", ascending=False)
    films = (rw.data.scan_of(row) for _, row in severe.iloc[2:].iterrows())
    film = next(
        film for film in films if film.truth[f].any()
    )  # what is hidden has no outline
    for method in methods:
        shown.append(film)
        maps.append(rw.attend.attention_map(model, film, method=method, target=pair))
        titles.append(f"{f}<br>{method}")
        outlined.append(f)

# %%
look = dict(truth=outlined, columns=len(methods), cell=190)
display(
    rw.show.grid(
        shown, maps=maps, titles=titles, **look, title="What counted for the score?"
    )
)
hits = [
    rw.attend.score_map(m, s.truth[f])["hit"]
    for m, s, f in zip(maps, shown, outlined, strict=True)
]
Markdown(
    f"We see that {sum(hits):.0f} of {len(hits)} maps peak on the finding. All of them look as if they knew."
)

# %% [markdown]
# ## And all the others
# Gradients over many copies (integrated gradients, SmoothGrad), things hidden and missed (occlusion, RISE), kin of
# Grad-CAM, attention weighted by what it hands over, attention as a flow: one call, other names. One effusion:

# %%
every = {
    m: rw.attend.attention_map(model, scan, method=m, target=asked[finding])
    for m in rw.attend.METHODS
}
share = {
    m: rw.attend.score_map(v, lesion)["energy"] / lesion.mean()
    for m, v in every.items()
}
display(
    rw.show.grid(
        [scan] * len(every),
        maps=list(every.values()),
        truth=finding,
        columns=5,
        cell=190,
        titles=[f"{m}<br>{share[m]:.1f} times chance" for m in every],
        title="One film, one question, every method",
    )
)

# %%
alike = (
    rw.attend.agreement({m: [v] for m, v in every.items()})["mean"]
    .unstack()
    .loc[list(every), list(every)]
)
display(
    rw.show.heatmap(alike, label="rank correlation", title="How far do they agree?")
)
apart = alike.where(~np.eye(len(alike), dtype=bool)).stack()
film = (
    rw.attend.score_map(rw.attend.brightness_map(scan), lesion)["energy"]
    / lesion.mean()
)
Markdown(
    f"We see rank correlations from {apart.min():.2f} to {apart.max():.2f}, with a mean of {apart.mean():.2f}, "
    "between methods that were all asked the same question. Where they differ, not all can be right. "
    f"The film itself, taken as a map, has {film:.1f} times chance on the effusion."
)

# %% [markdown]
# ### Exercise 2: two scores
# The *pointing game*: is the map's highest pixel on the lesion, 1 or 0? The *energy*: which share of the map's sum lies
# on the lesion? Return both.


# %%
def point_and_energy(values, mask):
    """(H, W) map and bool mask -> hit, energy."""
    raise NotImplementedError


# %% tags=["solution"] jupyter={"source_hidden": true}
def point_and_energy_solution(values, mask):
    return [float(mask.ravel()[values.argmax()]), values[mask].sum() / values.sum()]


# %%
def score_map(values, mask):
    scores = rw.attend.score_map(values, mask)  # it has three more: iou, cnr, area
    return [scores["hit"], scores["energy"]]


cases = [
    (m.values, s.truth[f])
    for m, s, f in zip(maps, shown, outlined, strict=True)
    if m.values.any()
]
for mine in (point_and_energy, point_and_energy_solution):
    rw.check.matches(mine, score_map, cases=cases)

# %% [markdown]
# ## All test films, and maps that know nothing
# A hit rate means nothing alone. Beside each method stand maps that never heard the question and never met the model:
# smooth noise (*random*), a blob in the middle (*centre*), the film's contours (*edges*), the film itself (*brightness*)
# and its negative (*darkness*), the lungs or the heart of the unbent chest (*organ*), and where the finding was in the
# training films (*training mask*). It knows the position and is blind to this film: what does it look like?

# %%
usual = {f: rw.attend.mean_mask(table, f) for f in asked}
chests = {
    view: rw.simulate.render(view=view, organs=True).truth for view in ("PA", "AP")
}


def controls_of(scans, f):
    """The maps that know nothing, for films with the finding f."""
    organ = "Heart" if f == "Cardiomegaly" else "Lungs"
    organs = [chests[scan.view][organ] for scan in scans]
    return rw.attend.control_maps(scans, organs=organs, training_mask=usual[f])


# %%
shown = {f: test[test[f] == 1].iloc[0] for f in asked}
shown = {f: rw.data.scan_of(row) for f, row in shown.items()}
position = [controls_of([s], f)["training mask"][0] for f, s in shown.items()]
rw.show.grid(
    list(shown.values()),
    maps=position,
    titles=list(asked),
    truth=list(asked),
    title="Where findings were in the training films, over a test film",
)

# %% [markdown]
# One more control is each method's own map of *another patient* with the same finding. All maps meet the same films, so
# each method is compared with each control film by film, by patient, and the intervals are widened for the number of
# comparisons. A film that hides its finding has no outline to hit, is left out, and counted.


# %%
def positives(split, f):
    """Rows and scans with a finding, the hidden ones too."""
    some = table[(table["split"] == split) & (table[f] == 1)].head(per_finding)
    return some, [rw.data.scan_of(row) for _, row in some.iterrows()]


def compare(scans, masks, patients, question, controls, **how):
    """Every method beside every control on the same films."""
    maps = {
        method: rw.attend.attention_maps(model, scans, method=method, targets=question)
        for method in methods
    }
    return rw.attend.compare_maps(maps, controls, masks, groups=patients, **how)


# %%
scored = {}
for f, question in asked.items():
    some, scans = positives("test", f)
    masks, who = [s.truth[f] for s in scans], some["patient_id"]
    family = len(asked) * len(methods) * 8  # eight controls for each method and finding
    controls = controls_of(scans, f)
    scored[f] = compare(scans, masks, who, question, controls, family=family)
hit = pd.concat({f: found.table for f, found in scored.items()}, names=["finding"])
hit["mean"].unstack("finding").round(2)

# %%
beside = ["random", "brightness", "training mask", "relevance, another patient's"]
drawn = hit.loc[(slice(None), [*methods, *beside]), :].reset_index()
axes = dict(x="finding", y="mean", group="map", y_title="peak on the finding (share)")
title = "Does the map point at the finding?"
display(rw.show.bars(drawn, **axes, title=title, width=1000))
Markdown(
    "We see:\n"
    + "\n".join(f"- {f}: {found.says('relevance')}" for f, found in scored.items())
)

# %% [markdown]
# Few films a finding can tell little. So all four together: how much more often than each control does a method hit?

# %%
points = pd.concat([found.points for found in scored.values()])
patients = np.concatenate([found.groups for found in scored.values()])
hidden = sum(found.hidden for found in scored.values())
together = rw.attend.controls.Compared.of(
    points, patients, methods=methods, what="hit", hidden=hidden
)
gaps = together.differences().rename(columns=lambda name: name.replace(" ", "<br>"))
title, label = "Each method beside what knows nothing", "hits, method less control"
display(rw.show.heatmap(gaps, label=label, title=title, width=900))
Markdown("We see:\n" + "\n".join(f"- {together.says(m)}" for m in methods))

# %% [markdown]
# And which method is best? Ten pairs, the same films, corrected for ten.

# %%
pairs = [
    rw.stats.compare(
        points[a], points[b], patients, names=(a, b), what="hit", family=10
    )
    for a, b in combinations(methods, 2)
]
clear = [str(pair) for pair in pairs if pair.verdict != "can't tell"]
Markdown(
    f"We see a difference that can be told in {len(clear)} of {len(pairs)} pairs.\n\n"
    + "\n".join(f"- {sentence}" for sentence in clear)
)

# %% [markdown]
# ## What would a second reader score?
# Overlap with the truth is *intersection over union*. 1 is out of reach: two people don't draw the same, either. Three
# radiologists each put boxes on 15,000 films (VinDr-CXR, Nguyen et al. 2022,
# [doi 10.1038/s41597-022-01498-w](https://doi.org/10.1038/s41597-022-01498-w)); how far do two of them agree?

# %%
boxes = pd.read_csv(rw.data.fetch("vinbig-boxes") / "vinbigdata-train.csv.gz")
boxes = boxes.rename(
    columns={"image_id": "image", "rad_id": "reader", "class_name": "finding"}
)
ours = {
    "Pleural effusion": "Pleural Effusion",
    "Pneumothorax": "Pneumothorax",
    "Cardiomegaly": "Cardiomegaly",
    "Nodule/Mass": "Lung Lesion",
}
readers = rw.attend.reader_agreement(boxes).loc[list(ours)].rename(index=ours)
readers[["presence", "iou", "iou_low", "iou_high", "images"]].round(2)

# %% [markdown]
# Ours beside it, with all that knows nothing. Where to cut the maps is not for the test films to say: we take the cuts
# that are best on the validation films, for each map its own.


# %%
def with_controls(split, f):
    """Masks, patients, relevance and controls of films with a finding; maps run from 0 to 1."""
    some, scans = positives(split, f)
    maps = rw.attend.attention_maps(model, scans, targets=asked[f])
    maps = {"relevance": maps} | controls_of(scans, f)
    maps = {name: [rw.attend.rescale(m) for m in few] for name, few in maps.items()}
    return [s.truth[f] for s in scans], some["patient_id"], maps


# %%
overlap = {}
for f in asked:
    masks, _, maps = with_controls("val", f)
    cuts = {name: rw.attend.tune_threshold(few, masks) for name, few in maps.items()}
    masks, who, maps = with_controls("test", f)
    ours = {"relevance": maps.pop("relevance")}
    how = dict(groups=who, score="iou", threshold=cuts, family=8 * len(asked))
    overlap[f] = rw.attend.compare_maps(ours, maps, masks, **how)

# %%
names = ["relevance", "brightness", "training mask"]
parts = [found.table.loc[names].assign(finding=f) for f, found in overlap.items()]
human = readers[["iou", "iou_low", "iou_high"]].set_axis(
    ["mean", "low", "high"], axis=1
)
human = (
    human.rename_axis("finding")
    .reset_index()
    .assign(map="two radiologists, real films")
)
bars = pd.concat([*(part.reset_index() for part in parts), human])
axes = dict(x="finding", y="mean", group="map", y_title="intersection over union")
title = "Overlap: a map with the outline, a reader with another"
rw.show.bars(bars, **axes, title=title, width=1000)

# %%
Markdown(
    f"We see that readers agree best on the place of {readers.iou.idxmax().lower()} ({readers.iou.max():.2f}) and "
    f"worst on {readers.iou.idxmin().lower()} ({readers.iou.min():.2f}). Other films, and boxes there, outlines "
    "here: an order of size, no race. On the virtual films:\n"
    + "\n".join(f"- {f}: {found.says('relevance')}" for f, found in overlap.items())
)

# %% [markdown]
# ## Does the map change with the words?
# If relevance answers the question, another question must get another map. We take one-sided effusions and change one
# thing at a time. The last phrase is nonsense.

# %%
some = test[test["Pleural Effusion side"].isin(["left", "right"])].head(per_finding)
scans, side = (
    [rw.data.scan_of(row) for _, row in some.iterrows()],
    list(some["Pleural Effusion side"]),
)
other = ["left" if s == "right" else "right" for s in side]
phrases = {
    "as it is": [f"{s} pleural effusion" for s in side],
    "other wording": [f"effusion on the {s}" for s in side],
    "other side": [f"{s} pleural effusion" for s in other],
    "other finding": ["cardiomegaly"] * len(side),
    "nonsense": ["purple bicycle on tuesday"] * len(side),
}
maps = {
    k: rw.attend.attention_maps(model, scans, targets=p) for k, p in phrases.items()
}
maps = {
    k: np.stack([m.values for m in few]) for k, few in maps.items()
}  # each (N, H, W)

# %%
who = some["patient_id"]
flat = {k: m.reshape(len(m), -1) - m.mean((1, 2))[:, None] for k, m in maps.items()}
flat = {
    k: m / (np.linalg.norm(m, axis=1, keepdims=True) + 1e-12) for k, m in flat.items()
}  # of unit length
alike = {k: (flat["as it is"] * m).sum(1) for k, m in flat.items() if k != "as it is"}
words = {
    k: rw.stats.clustered_mean(values, who, limits=(-1, 1))
    for k, values in alike.items()
}
words = pd.DataFrame(words.values(), index=list(words))
display(
    rw.show.bars(
        words.rename_axis("phrase").reset_index(),
        x="phrase",
        y="mean",
        y_title="correlation of maps",
        title="Effusion films: how much of the map is the words?",
    )
)

# %%
middle = scans[0].shape[1] // 2  # the patient's right is on our left
right = {k: m[:, :, :middle].sum((1, 2)) / m.sum((1, 2)) for k, m in maps.items()}
toward = np.where(np.array(side) == "right", 1, -1) * (
    right["as it is"] - right["other side"]
)
names = ("the side that is named", "the other side")
moved = rw.stats.compare(toward, 0, who, names=names, what="share of the map", family=2)
same, other = alike["other wording"], alike["nonsense"]
names = ("another wording", "nonsense")
kept = rw.stats.compare(same, other, who, names=names, what="correlation", family=2)
Markdown(
    f"We see what two phrases do. In the map's correlation with itself: {kept}. "
    f"In the share of the map that moves when a side is named: {moved}."
)

# %% [markdown]
# ## Would another model have drawn the same map?
# If so, the map says nothing of this one. Four changes that must show: the weights dealt out at random (Adebayo et al.
# 2018, [arXiv 1810.03292](https://arxiv.org/abs/1810.03292)), labels dealt out at random (same paper), a phrase that no
# film answers, another finding's phrase. We take the rank correlation of the map before and after; what isn't clearly
# below 0.5 fails.
#
# For the labels we train three small classifiers until they know their films by heart: two on the true labels, from
# different starts, and a twin of the second on labels that were dealt to other films. A map that hangs on the labels has
# more in common within the true pair than with the twin. And only healthy models may be asked: a collapsed one draws
# something, too, and it means nothing.

# %%
named = list(asked)
taught = pd.concat(
    [table[table["split"] == part].head(twin_films) for part in ("train", "val")]
)
taught = taught[["path", "patient_id", "split", *named]].reset_index(drop=True)
deal = np.random.default_rng(0).permutation(len(taught))
dealt = taught.assign(
    **{f: taught[f].to_numpy()[deal] for f in named}
)  # a film's labels stay together
shape = {"size": 64, "patch": 8, "width": 96, "heads": 1, "layers": 3, "embed": 96}
settings = dict(recipe="supervised-tiny", epochs=twin_epochs, batch=32, shape=shape)
runs = {
    "true": rw.pretrain.fit(taught, out="../runs/true", seed=0, **settings),
    "again": rw.pretrain.fit(taught, out="../runs/again", seed=1, **settings),
    "shuffled": rw.pretrain.fit(dealt, out="../runs/shuffled", seed=1, **settings),
}

# %%
twins = rw.attend.label_twins(**runs, table=taught, target=finding)
health = {
    name: rw.pretrain.diagnose(run, taught).set_index("name")
    for name, run in runs.items()
}
health = pd.concat(
    {name: found[["value", "verdict"]] for name, found in health.items()}, axis=1
)
display(health.dropna().round(2))
last = {
    name: run.log.groupby("epoch")["loss"].mean().iloc[-1] for name, run in runs.items()
}
losses = ", ".join(f"{name} {loss:.2f}" for name, loss in last.items())
verdict = (
    f"{twins.unhealthy}: what their maps do is not interpreted"
    if twins.ills
    else "all three are healthy"
)
reasons = "".join(f"\n- {name}: {ill}" for name, ill in twins.ills.items())
Markdown(
    f"We see losses of {losses} on the films that were learned, and {verdict}. That held-out films gain little or "
    f"nothing is no illness here: shuffled labels can only be memorised.\n{reasons}"
)

# %%
ill, films = positives("test", finding)
seen = [
    bool(s.truth[finding].any()) for s in films
]  # what hides its finding can't be outlined
ill, films = ill[seen], [s for s, yes in zip(films, seen, strict=True) if yes]
films, who = films[:few], ill["patient_id"].head(few)


def edges(model, scan, target):
    return rw.attend.edge_map(scan)


how = dict(target=asked[finding], groups=who)
checks = {
    getattr(m, "__name__", m): rw.attend.sanity_check(
        model, films, method=m, twins=twins, **how
    )
    for m in (*methods, edges)
}

# %%
parts = [
    c.table.dropna(subset="passed").reset_index().assign(map=m)
    for m, c in checks.items()
]
worst = (
    pd.concat(parts)
    .sort_values("similarity")
    .groupby(["map", "test"], sort=False)
    .tail(1)
)
worst = worst.set_index("map").loc[list(checks)].reset_index()
display(
    rw.show.bars(
        worst,
        x="map",
        y="similarity",
        group="test",
        line=0.5,
        y_title="rank correlation (below 0.5 passes)",
        title="How much of the map stays after a change that must show?",
        width=1000,
    )
)

# %%
stamped = checks["relevance"].stamp(every["relevance"])
display(
    rw.show.overlay(scan, stamped, truth=finding, title="Relevance, with its badge")
)
pairs = "\n".join(f"- {m}: {c.labels}" for m, c in checks.items() if c.labels)
Markdown(
    "We see:\n"
    + "\n".join(f"- **{m}**: {c.badge}" for m, c in checks.items())
    + f"\n\nHow alike maps are, with the first model's (three trainings; others may differ):\n{pairs}"
    + "\n\nA pass is no place: on these films relevance hits "
    f"{hit.loc[(finding, 'relevance'), 'mean']:.0%}, gradcam {hit.loc[(finding, 'gradcam'), 'mean']:.0%}."
)

# %% [markdown]
# ## Take away what it marks
# A map that marks what counts: without those pixels the score falls (*deletion*), with only those it rises (*insertion*).
# What is taken away is filled from its surroundings, so that no hole tells its outline (ROAD, Rong et al. 2022,
# [arXiv 2202.00449](https://arxiv.org/abs/2202.00449)). The gain is over taking away as much at random, in patches. Three
# maps that never met the model run along: the film's edges, its brightness, and the training mask.

# %%
drawn = {
    m: rw.attend.attention_maps(model, films, method=m, targets=asked[finding])
    for m in methods
}
blind = controls_of(films, finding)
drawn |= {name: blind[name] for name in ("edges", "brightness", "training mask")}
faith = rw.attend.faithfulness(model, films, drawn, shares=shares, **how)
gains = faith.table.xs("gain", level="of").reset_index()
display(
    rw.show.bars(
        gains,
        x="map",
        y="mean",
        group="curve",
        line=0,
        y_title="score, better than random by",
        title="Does the score hang on what the map marks?",
    )
)

# %%
judged = {
    curve: rw.attend.controls.Compared.of(
        faith.gains.xs(curve, axis=1, level="curve"),
        who,
        methods=methods,
        what=f"gain in {curve}",
        family=2 * 3 * len(methods),
    )
    for curve in ("deletion", "insertion")
}
pd.concat({curve: found.verdicts() for curve, found in judged.items()}, axis=1)

# %%
Markdown(
    "We see the verdict on each method beside each blind map. For two of them in words:\n"
    + "\n".join(
        f"- {found.says(m)}"
        for found in judged.values()
        for m in ("relevance", "gradcam")
    )
)

# %% [markdown]
# ## Which heads look at the effusion, and do they matter?
# *Selectivity* is a head's share of attention on the lesion over the lesion's share of the film. Then the three best
# heads are silenced, and as a control as many others.

# %%
census = rw.attend.head_census(
    model, films, [s.truth[finding] for s in films], groups=who
)
best = census.nlargest(3, "selectivity")
silent = rw.attend.compare_ablation(
    model, films, best.index, target=asked[finding], groups=who
)
display(census.round(2))
high = ", ".join(
    f"layer {a} head {b} ({r.selectivity:.1f})" for (a, b), r in best.iterrows()
)
change = {
    k: rw.stats.format_interval(silent.loc[k], "mean")
    for k in ("chosen", "random", "difference")
}
Markdown(
    f"We see the highest selectivity at {high}, on the films that they were chosen on. Without these three the score "
    f"changes by {change['chosen']}, without three others by {change['random']}, a difference of "
    f"{change['difference']}; {silent['as_low'].iloc[0]:.0%} of the random trios cost as much."
)

# %% [markdown]
# ## A CT has three dimensions
# The same question for a network over a volume. Ours is a single filter made by hand, a ball less the shell around it, so
# that we know what it looks for. We plant nodules in the CT, and ask Grad-CAM where they are. Three controls: the brightest
# place in the filter's window, a place in the lungs at random, and the CT with nothing planted. Nobody should trust a
# scan to be normal, and this patient has a mass of about 23 mm in the left lower lung.

# %%
source = rw.data.fetch("lidc-ct")
ct, organs = (rw.data.read(source / f"{name}.nii.gz") for name in ("cxr", "mask"))
step = np.array([2, 6, 6])
small = rw.data.Volume(ct.voxels[::2, ::6, ::6], ct.affine @ np.diag([*step, 1]), "CT")
radius = np.linalg.norm(
    (np.stack(np.indices((9, 9, 9)), -1) - 4) * small.spacing_mm, axis=-1
)  # mm
ball, shell = radius <= 10, (radius > 12) & (radius <= 20)
conv = torch.nn.Conv3d(1, 1, 9, padding=4)
conv.weight.data[:] = torch.tensor(ball / ball.sum() - shell / shell.sum())
conv.bias.data[:] = -0.3
net = torch.nn.Sequential(
    conv, torch.nn.ReLU(), torch.nn.AdaptiveMaxPool3d(1), torch.nn.Flatten()
)
eye = rw.attend.Net3d(
    net, small.shape, window_hu=(-1000, -300), findings=["nodule"], name="a ball filter"
)

# %%
lungs = np.isin(
    organs.voxels[tuple(slice(None, None, k) for k in step)], (10, 11, 12, 13, 14)
)
bare = rw.attend.volume_map(eye, small, method="gradcam", target="nodule").values
peak = np.argwhere(np.where(lungs, bare, -1) == bare[lungs].max())[0]
mass = np.array([90, 144, 317]) / step  # where a reader sees it
off_mm = np.linalg.norm((peak - mass) * small.spacing_mm)
Markdown(
    f"With nothing planted, the filter's highest place in the lungs lies {off_mm:.0f} mm from the middle of that mass. "
    "A peak outside of what we plant may be right."
)

# %%
from scipy.ndimage import binary_erosion, gaussian_filter

index = np.stack(np.indices(small.shape), -1)
places, found = np.argwhere(binary_erosion(lungs, iterations=3)), []
for centre in places[np.random.default_rng(0).integers(len(places), size=nodules)]:
    nodule = np.linalg.norm((index - centre) * small.spacing_mm, axis=-1) <= 10  # mm
    planted = rw.data.Volume(np.where(nodule, 40, small.voxels), small.affine, "CT")
    spot = rw.attend.volume_map(eye, planted, method="gradcam", target="nodule")
    bright = gaussian_filter(planted.voxels.clip(-1000, -300), 1)
    row = {
        "hit": nodule.ravel()[spot.values.argmax()],
        "energy": spot.values[nodule].sum() / spot.values.sum(),
    }
    row |= {
        "bright": nodule.ravel()[bright.argmax()],
        "bare": nodule.ravel()[bare.argmax()],
    }
    found.append(row | {"chance": nodule[lungs].sum() / lungs.sum()})
found = pd.DataFrame(found).mean()

# %%
rw.show.volume(
    planted,
    spot,
    window_hu=(-1000, 400),
    at=tuple(centre),
    title="A nodule in a CT, and where Grad-CAM sees it",
)

# %%
rw.attend.save_map(
    spot, planted, "../runs/nodule.nii.gz"
)  # for any viewer; .dcm writes a DICOM object
Markdown(
    f"We see the peak in the nodule {found['hit'] * nodules:.0f} times of {nodules} places in this one CT; that of brightness "
    f"{found['bright'] * nodules:.0f} times, that of the CT with nothing planted {found['bare'] * nodules:.0f} times, and a "
    f"random place in the lungs would lie there in {found['chance']:.2%}. {found['energy']:.1%} of the map lies inside: "
    "vessels, ribs and the mass look like balls, too."
)

# %% [markdown]
# ## Now you
# Click a head or a patch, type a phrase, drag the window, compare two methods, start with the worst film. In the exported
# page this is a still; the widget needs JupyterLab.

# %%
rw.show.explore(model, ill, finding=finding, against="gradcam")

# %% [markdown]
# ## And real radiographs?
# First sixteen films of children, without a drawn truth: a look, and one warning sign. How often does the map peak in
# the outer tenth of the film, where there is no lung?

# %%
children = rw.data.real("kermany-16").sort_values("Pneumonia")
question_of_opacity = (
    "there is a lung opacity",
    "no acute cardiopulmonary abnormality",
)
scans = [rw.data.scan_of(row) for _, row in children.iterrows()]
maps = rw.attend.attention_maps(model, scans, targets=question_of_opacity)
titles = ["pneumonia" if sick else "normal" for sick in children["Pneumonia"]]
first, last = slice(4), slice(-4, None)
display(
    rw.show.grid(
        scans[first] + scans[last],
        maps=maps[first] + maps[last],
        titles=titles[first] + titles[last],
        title="Relevance for a lung opacity, real films",
    )
)

# %%
rims = [np.ones(s.shape, bool) for s in scans]
for rim in rims:
    H, W = rim.shape
    rim[H // 10 : -H // 10, W // 10 : -W // 10] = False

# %%
usual_opacity = rw.attend.mean_mask(table, "Lung Opacity")
blind = rw.attend.control_maps(scans, training_mask=usual_opacity)
ours, who = {"relevance": maps}, children["patient_id"]
at_rim = rw.attend.compare_maps(ours, blind, rims, groups=who)
rim_share = np.mean([rim.mean() for rim in rims])
share = at_rim.table["mean"]
Markdown(
    f"We see a peak at the rim, which is {rim_share:.0%} of a film, in {share['relevance']:.0%} of {len(maps)} films "
    f"with relevance, {share['random']:.0%} with noise, {share['brightness']:.0%} with brightness."
)

# %% [markdown]
# Then real lesions that a person drew, where the mirror holds them. The organ is now the lungs of each film.

# %%
try:
    opacities = rw.data.real("covid-masks")
except rw.data.FetchError as missing:
    real = None
    carried = f"real lesions were not scored: {str(missing).split(' (')[0]} is neither in the cache nor in a mirror."
else:
    read = [
        (rw.data.scan_of(row), row["patient_id"]) for _, row in opacities.iterrows()
    ]
    read = [(s, who) for s, who in read if {"Lung Opacity", "lungs"} <= set(s.truth)]
    scans, who = zip(*read, strict=True)
    masks, lungs = (
        [s.truth[name] for s in scans] for name in ("Lung Opacity", "lungs")
    )
    blind = rw.attend.control_maps(scans, organs=lungs, training_mask=usual_opacity)
    real = compare(scans, masks, who, question_of_opacity, blind)

# %%
if real is not None:
    display(
        rw.show.bars(
            real.table.reset_index(),
            x="map",
            y="mean",
            y_title="peak on a drawn opacity (share)",
            title="Real lesions",
            width=1000,
        )
    )
    carried = real.says("relevance")
Markdown(f"We see: {carried}")

# %% [markdown]
# A third kind of truth: no outline but a grade, 0 to 3, for each of six zones of the lungs (the Brixia score, Borghesi &
# Maroldi 2020, [doi 10.1007/s11547-020-01200-3](https://doi.org/10.1007/s11547-020-01200-3)). Does the map weigh most in
# the zone that is worst? We cut the lungs into thirds of their height, which is near the score's own zones, not the same.
# The disease is white, so brightness may well follow it without any model.

# %%
grades = [f"brixia_{zone}" for zone in "ABCDEF"]
try:
    graded = rw.data.real("covid-text").dropna(subset=[*grades, "truth_path"])
except rw.data.FetchError as missing:
    graded, zoned = (
        None,
        f"zones were not scored: {str(missing).split(' (')[0]} is neither in the cache nor in a mirror.",
    )
else:
    graded = graded[graded[grades].nunique(axis=1) > 1]  # else no zone is the worst
    scans, who = (
        [rw.data.scan_of(row) for _, row in graded.iterrows()],
        graded["patient_id"],
    )
    lungs = [s.truth["lungs"] for s in scans]
    ours = {
        "relevance": rw.attend.attention_maps(model, scans, targets=question_of_opacity)
    }
    blind = rw.attend.control_maps(scans, organs=lungs, training_mask=usual_opacity)
    zones = rw.attend.compare_zones(ours, blind, lungs, graded[grades], groups=who)

# %%
if graded is not None:
    display(
        rw.show.bars(
            zones.table.reset_index(),
            x="map",
            y="mean",
            y_title="rank correlation with the grade",
            line=0,
            title="Real films: does the map follow the graded zones?",
            width=1000,
        )
    )
    bright = rw.stats.format_interval(zones.table.loc["brightness"], "mean")
    zoned = f"{zones.says('relevance')} Brightness alone has {bright}."
Markdown(f"We see: {zoned}")

# %%
top = hit.xs("relevance", level="map").sort_values("mean").iloc[-1]


def ahead(control):
    """Findings where relevance is ahead of a control."""
    verdicts = {
        f: found.verdicts().loc["relevance", control] for f, found in scored.items()
    }
    return (
        ", ".join(f for f, verdict in verdicts.items() if verdict == "ahead")
        or "no finding"
    )


beyond = {
    control: ahead(control) for control in ("random", "brightness", "training mask")
}
rw.book.headline(
    ahead_of_noise=beyond["random"],
    ahead_of_position=beyond["training mask"],
    best_hit_rate=top["mean"],
    nonsense=words.loc["nonsense", "mean"],
)

# %%
passing = [m for m, c in checks.items() if c.badge.passed]
unclear = [m for m, c in checks.items() if c.badge.passed is None]
lines = [
    f"**A map can be graded**: relevance is ahead of noise for {beyond['random']}, of brightness for "
    f"{beyond['brightness']}, of the position alone for {beyond['training mask']}; at best, {top.name}, it hits {top['mean']:.0%}.",
    f"**All findings**: {together.says('relevance')}",
    f"**Words**: {moved}; nonsense keeps a correlation of {words.loc['nonsense', 'mean']:.2f}.",
    f"**Checks**: {', '.join(passing) or 'no map'} passes them all; not to be judged: {', '.join(unclear) or 'none'}.",
    f"**Real films**: {carried} {zoned}",
]
Markdown("## What we found\n" + "\n".join(f"- {line}" for line in lines))

# %% [markdown]
# ## Where it breaks
# - A map says where the score came from, not that the score is right. Look at the score first.
# - A peak on the lesion may sit on something that always comes with it; only *another patient's* map and the training
#   mask can tell.
# - Labels were dealt out once, and three models trained once: other seeds may say otherwise.
# - Eight patches a side: a lesion smaller than a patch is a matter of luck.
# - One CT's anatomy puts every finding where it was in this one chest, so the position controls do well.
# - Attention is what the model mixes, not what it needs: a weight without a gradient is not evidence.
# - To pass a sanity check is to change with the question; it is not to be right. And what deletion fills in comes from
#   around: a low effusion is refilled from the white below it.
# - Grad-CAM puts a token's worth back on its own patch; once attention has mixed the tokens, that is a belief.
#
# Next: notebook 5 builds a shortcut on purpose, and the maps are asked to find it.
