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
# The model of notebook 2 gives a score for *there is a pleural effusion*. Which part of
# the film made the score? Many methods answer with a coloured map, and a coloured map
# always looks convincing. Here the truth is known, so it can be graded.
#
# **You will** take the attention out of the model and prove that it is the model's own,
# write rollout and relevance, lay every kind of map that the package knows over the
# scan, score them against lesions beside maps that know nothing, a second reader and a
# change of words, put each through checks that it may fail, silence heads, map a CT,
# explore by yourself, and ask a published model in the same way.
#
# **Needs**: notebook 2 (it wrote `../runs/clip-tiny`); 5 minutes on two CPU cores.
# **Data**: the simulator on a real CT (LIDC-IDRI, CC BY 3.0); the readers' boxes of
# VinBigData (its own terms, no images); 16 real paediatric radiographs (Kermany et al.,
# CC BY 4.0) and a published classifier of such films (83 MB, no licence stated); where `RADWB_MIRROR` holds them, 35 radiographs with drawn lesions
# (annotations CC BY 4.0) and 62 with graded zones (mostly CC BY-NC-SA), each image with
# its own licence.
#
# *For teaching and research. Not for clinical use.*
#
# The package is `rw`. The others are the usual tools: arrays, tables, networks, and
# text that is made by a cell.

# %%
import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from IPython.display import Markdown, display

import radwb as rw

# %% [markdown]
# These are the numbers on which this page depends. The smaller ones behind `fast:` are
# for a quick check of the machine. `methods` are the five kinds of map that are held
# against each other most closely; what each of them does is explained where it first
# appears.

# %% tags=["parameters"]
n = 2400  # virtual radiographs in the cohort, as in notebook 2
per_finding = 60  # test films scored for each finding; fast: 12
n_checked = 24  # effusions for the checks that take longer; fast: 8
shares = (0.1, 0.3, 0.5)  # of the pixels, taken away
twin_films = 128  # films that three small models learn by heart
twin_epochs = 100  # passes over them; fast: 2
nodules = 20  # planted in a CT, one after the other; fast: 3
methods = ("attention", "rollout", "relevance", "gradcam", "similarity")

# %% [markdown]
# Four findings are asked for, each by a pair of sentences, as in notebook 3: one says
# that it is there, the other denies it. The score is the difference of their cosines
# with the film.
#
# `cohort` makes the virtual patients of notebook 2 again, since the seed is the same,
# and `load` reads the model that was trained there. We keep the test films, whose
# patients the model did not learn from.

# %%
table = rw.simulate.cohort(n=n, seed=0)
model = rw.models.load("../runs/clip-tiny")
test = table[table["split"] == "test"]
questions = {
    "Pleural Effusion": ("there is a pleural effusion", "there is no pleural effusion"),
    "Pneumothorax": ("there is a pneumothorax", "there is no pneumothorax"),
    "Cardiomegaly": ("there is cardiomegaly", "heart size is normal"),
    "Lung Lesion": ("there is a lung nodule", "there is no lung nodule"),
}

# %% [markdown]
# These films are the ones on which the maps are graded. How many there are for each
# finding decides how sure the answers can be.
#
# One film can have several findings, so the counts may add up to more than the films.
# And one patient can have several films, which is why the intervals on this page are by
# patient.

# %%
counts = []
for finding in questions:
    positive = int(test[finding].sum())
    counts.append(f"{finding} {positive}")
Markdown(
    f"{len(test)} test films of {test.patient_id.nunique()} virtual patients. With a "
    f"finding: {', '.join(counts)}."
)

# %% [markdown]
# ## What does the model see?
# Not pixels: a grid of patches, each turned into a token (and one more, the *class
# token*). The embedding is the mean of the patch tokens after the last layer. A map
# can't be finer than this grid. How many patches has one effusion? We take a large one
# on the right, and draw the grid over the film.
#
# `iloc[-3]` is the third most severe. The truth mask, `lesion`, has the size of the
# film and is true where the effusion is outlined.

# %%
finding = "Pleural Effusion"
ill = test[test[finding] == 1]
on_the_right = ill[ill[f"{finding} side"] == "right"]
by_severity = on_the_right.sort_values(f"{finding} severity")
scan = rw.data.scan_of(by_severity.iloc[-3])
lesion = scan.truth[finding]

# %% [markdown]
# The figure is in millimetres, as the film itself is. The outline is what the simulator
# planted, and everything inside the lines of one square is a single token to the model.
#
# The lines are drawn a patch apart, from the left and from the top. Look for squares
# that the outline cuts in two: whatever the model says of such a square, it says of
# healthy and ill tissue together.

# %%
rows, columns = model.grid
height_mm = scan.shape[0] * scan.spacing_mm[0]
patch_mm = height_mm / rows
title = f"One film, {rows} x {columns} patches"
figure = rw.show.scan(scan, truth=finding, title=title)
for i in range(1, rows):
    figure.add_hline(i * patch_mm, line_width=0.5)
    figure.add_vline(i * patch_mm, line_width=0.5)
figure

# %% [markdown]
# How large is the effusion, counted in patches? The number of pixels inside the
# outline, times the size of one pixel, is its area in square millimetres. We divide it
# by the area of one patch.

# %%
lesion_mm2 = lesion.sum() * np.prod(scan.spacing_mm)
covered = lesion_mm2 / patch_mm**2
Markdown(
    f"We see that a patch is {patch_mm:.0f} mm wide, and that this effusion covers "
    f"{covered:.1f} of {rows * columns} patches "
    f"({lesion.mean():.1%} of the film)."
)

# %% [markdown]
# A finding that is smaller than one patch shares its token with what lies around it,
# and then even the best map can only point to a square.
#
# ## What does a token listen to?
# In each layer and head a token sends a query; the softmax of its products with all
# keys is its attention, a row that sums to one. The fast kernels never keep it, so most
# programs can't show it. `rw.attend.capture` brings it out, and proves on the way that
# what it brings out gives the layer's own output.
#
# We compute the last layer's by hand, from the tokens that the layer was given, and
# compare.
#
# `captured` is a plain dictionary. Its *attention* holds the weights of all layers and
# heads, its *tokens* what each layer handed to the next, and its *gradients* how much
# the score would change with each weight. `ln_1` brings the tokens to one scale, as the
# layer does it, and `F.linear` multiplies them with its weights.

# %%
captured = rw.attend.capture(model, model.preprocess(scan), target=questions[finding])
L, B, heads, T, _ = captured["attention"].shape
block = model.net.visual.transformer.resblocks[-1]
with torch.no_grad():
    h = block.ln_1(captured["tokens"][-2])  # (1, T, D), what the last block is given
    qkv = F.linear(h, block.attn.in_proj_weight, block.attn.in_proj_bias)

# %% [markdown]
# The result holds queries, keys and values of all heads, side by side in one long
# vector. We cut it apart, multiply each query with each key, and divide by the root of
# their length, so that the softmax doesn't saturate.
#
# The letters behind the lines are shapes: `T` is the number of tokens, `D` the length
# of one. `@` multiplies matrices, and `.mT` swaps the last two axes.

# %%
parts = qkv.unflatten(-1, (3, heads, -1))  # (1, T, 3, heads, D / heads)
q, k, v = parts.permute(2, 0, 3, 1, 4)  # each (1, heads, T, D / heads)
products = q @ k.mT  # (1, heads, T, T)
by_hand = (products / q.shape[-1] ** 0.5).softmax(-1)
rw.check.matches(by_hand, captured["attention"][-1])
Markdown(
    f"{L} layers of {heads} heads, each with a square of {T} x {T}: "
    f"{L * heads * T * T:,} weights for one film."
)

# %% [markdown]
# Where the two agree, the weights are the model's own and no imitation of them. Whether
# a picture of these weights means anything is another question, and the rest of this
# page is about it.
#
# ## Does any head look at the effusion?
# The embedding is the mean of the patch tokens, so the mean of their rows is what it
# listened to. We draw it for all layers (left to right) and heads (top to bottom), and
# measure the share of each map that lies on the effusion. `rw.attend.score_map` calls
# that share the *energy*.
#
# A map that is spread evenly has as much energy on the effusion as the effusion has of
# the film. A head must be above that share before it is worth talking about, and even
# then it may be so by luck.

# %%
places = [(layer, head) for head in range(heads) for layer in range(L)]
maps = []
on_lesion = []
for layer, head in places:
    how = {"method": "attention", "layer": layer, "head": head}
    one = rw.attend.attention_map(model, scan, **how)
    maps.append(one)
    on_lesion.append(rw.attend.score_map(one, lesion)["energy"])
on_lesion = np.array(on_lesion)

# %% [markdown]
# Look for two things. Do heads of one layer differ? And do the bright places have
# anything to do with the outline, or would they be there on any film?
#
# Above each picture stand its layer, its head and its energy. The outline is the same
# everywhere, since it is one film.

# %%
titles = []
for (layer, head), energy in zip(places, on_lesion, strict=True):
    titles.append(f"layer {layer}, head {head}<br>{energy:.0%}")
rw.show.grid(
    [scan] * len(maps),
    maps=maps,
    titles=titles,
    truth=finding,
    columns=L,
    cell=150,
    title="The mean row of attention, and its share on the effusion",
)

# %% [markdown]
# A word of warning before the answer. With so many maps, one of them will lie well by
# luck, and picking the best by looking at the truth is what no one can do on a new
# film.
#
# What would speak against such a head? If it looked at the same place on every film,
# with or without an effusion. One film can't tell. Near the end, a census of heads asks
# many.

# %%
most = places[on_lesion.argmax()]
least = places[on_lesion.argmin()]
Markdown(
    f"We see that layer {most[0]}, head {most[1]} has {on_lesion.max():.0%} of its "
    f"attention on the effusion, and layer {least[0]}, head {least[1]} has "
    f"{on_lesion.min():.1%}. A blind map would have {lesion.mean():.1%}. But the head "
    "was picked by looking at the truth, and nobody asked about an effusion."
)

# %% [markdown]
# ## All layers in one: rollout
# Each layer mixes tokens that were mixed before. So one layer's attention is not about
# the film, but about tokens that hold a bit of everything. Rollout follows the mixing
# through. Half of a token goes through the attention, half past it, so one layer moves
# things by `0.5 A + 0.5 I`; the layers multiply (Abnar & Zuidema 2020, [arXiv
# 2005.00928](https://arxiv.org/abs/2005.00928)).
#
# In the function, `flow` begins with tokens that hold nothing but themselves. Each turn
# of the loop takes the mean over the heads, mixes, and multiplies. The division keeps
# the sum of each row at one, so that a row can be read as shares.


# %%
def rollout_by_hand(attention):  # (L, heads, T, T)
    flow = torch.eye(T)
    for A in attention.mean(1):  # (T, T), the mean over heads
        step = 0.5 * A + 0.5 * torch.eye(T)
        step = step / step.sum(-1, keepdim=True)
        flow = step @ flow
    return flow  # (T, T): what each token at the end holds of each at the start


attention = captured["attention"][:, 0]  # of the first and only film
rw.check.matches(rollout_by_hand, rw.attend.rollout, attention)

# %% [markdown]
# The package spreads the row of the patches over the film. A map has as many values as
# there are patches, and the picture is drawn smooth between them, which adds no
# knowledge.
#
# Look where it is bright, and ask yourself whether you would have guessed the question
# from it. You can't: rollout was asked nothing.

# %%
rolled = rw.attend.attention_map(model, scan, method="rollout")
rw.show.overlay(
    scan, rolled, truth=finding, title="Rollout: attention through all layers"
)

# %% [markdown]
# How much does a token keep of itself after all layers? If that is a lot, place still
# means something at the end. If it is little, every token is a mixture of all, and a
# map by place is a belief.
#
# The diagonal of the product is what each token keeps of itself, and `[1:]` leaves out
# the class token.

# %%
stays = rollout_by_hand(attention).diagonal()[1:].mean()
energy = rw.attend.score_map(rolled, lesion)["energy"]
Markdown(
    f"We see that {energy:.1%} of the map lies on the effusion, which covers "
    f"{lesion.mean():.1%} of the film. A patch token keeps {stays:.0%} of itself."
)

# %% [markdown]
# Neither number says that the model used the effusion. Rollout follows where tokens
# went, not what they did to the score.
#
# ### Exercise 1: relevance
# Rollout doesn't know what was asked. Relevance does: it weighs each attention by the
# gradient of the score. Start with `R = I`; for each layer, from the first, add `mean
# over heads of max(gradient * attention, 0)`, times `R`, to `R` (Chefer, Gur & Wolf
# 2021, [arXiv 2103.15679](https://arxiv.org/abs/2103.15679)).


# %%
def relevance(attention, gradients):
    """(L, heads, T, T) twice -> (T, T) the relevance of each token for each."""
    raise NotImplementedError


# %% [markdown]
# *Hints.* If your numbers are too small, were the negative products dropped before the
# mean over the heads, or after it? If they are far off, ask on which side of the
# product `R` stands, and with which layer you began.


# %% tags=["solution"] jupyter={"source_hidden": true}
def relevance_solution(attention, gradients):
    R = torch.eye(attention.shape[-1])
    for A, G in zip(attention, gradients, strict=True):
        raises = (G * A).clamp(min=0)  # (heads, T, T)
        R = R + raises.mean(0) @ R
    return R


# %% [markdown]
# The gradients are tiny numbers, since the score is a difference of cosines. We scale
# them up before the check, so that an error can't hide below its tolerance.
#
# The check runs your function and then the solution on the attention of this film, and
# compares each with what the package computes.

# %%
gradients = captured["gradients"][:, 0]
scaled_up = gradients / gradients.abs().max()  # so that a slip shows
for attempt in (relevance, relevance_solution):
    rw.check.matches(attempt, rw.attend.relevance, attention, scaled_up)

# %% [markdown]
# ## Grad-CAM, for any network
# It needs no attention. Take the features before the last block, weight each channel by
# its mean gradient, keep what is positive (Selvaraju et al. 2017, [arXiv
# 1610.02391](https://arxiv.org/abs/1610.02391)). The score is the cosine with *there is
# X* less the cosine with *there is no X*. First, the score as a function of the
# features:
#
# `requires_grad_` asks torch to keep track of these features, so that a gradient can be
# taken later. `_pool` is the model's own way of making one vector of all tokens, and
# `proj` takes it to the space that images and sentences share. `F.normalize` gives it
# the length one, so that a product is a cosine.

# %%
tower = model.net.visual
tokens = captured["tokens"][-2].clone().requires_grad_()  # (1, T, D)
pooled, _ = tower._pool(block(tokens))
z = F.normalize(pooled @ tower.proj, dim=-1)  # (1, E)
yes, no = model.encode_text(list(questions[finding])).detach()
score = (z @ (yes - no)).sum()

# %% [markdown]
# Then its gradient by the features, the weights of the channels, and the map: one
# number a patch, without the class token.
#
# A gradient says how the score would change if a feature grew a little. Its mean over
# the patches is the weight of a channel. `relu` drops what is negative, since that
# would lower the score.

# %%
(gradient,) = torch.autograd.grad(score, tokens)
patches = tokens[:, 1:].detach()  # (1, T - 1, D)
channel_weights = gradient[:, 1:].mean(1, keepdim=True)  # (1, 1, D)
cam = (channel_weights * patches).sum(-1).relu()  # (1, T - 1)
cam = cam.reshape(model.grid).numpy()

# %% [markdown]
# The map is on the grid of patches, and is brought back to the pixels of the film by
# the way the film went in: resized and padded. The package's map must be the same up to
# a factor.
#
# Both are divided by their highest value, so that the factor drops out of the
# comparison.

# %%
pair = questions[finding]
by_hand = rw.data.to_scan(cam, scan.shape, fit=model.fit)
package = rw.attend.attention_map(model, scan, method="gradcam", target=pair)
package = package.values
rw.check.matches(by_hand / by_hand.max(), package / package.max())

# %% [markdown]
# ## Some methods side by side
# One film of each finding, the truth outlined. *similarity* is the cosine of each patch
# with the text; all others you have met. We take a severe case of each, and skip those
# whose finding is hidden: what can't be seen has no outline.
#
# One could take the most severe of all. We leave the two most extreme films out, since
# an extreme case may flatter every method.


# %%
def severe_film(finding):
    """The third most severe test film whose finding can be seen, or the next."""
    ill = test[test[finding] == 1]
    by_severity = ill.sort_values(f"{finding} severity", ascending=False)
    for _, row in by_severity.iloc[2:].iterrows():
        film = rw.data.scan_of(row)
        if film.truth[finding].any():
            return film


severe_films = {f: severe_film(f) for f in questions}

# %% [markdown]
# Now one map for each film and each method. Each is asked the question that belongs to
# the film's finding.
#
# Attention and rollout don't use the question. They are given it all the same, so that
# one call serves all methods.

# %%
shown = []
titles = []
maps = []
outlined = []
for f, film in severe_films.items():
    for method in methods:
        how = {"method": method, "target": questions[f]}
        maps.append(rw.attend.attention_map(model, film, **how))
        shown.append(film)
        titles.append(f"{f}<br>{method}")
        outlined.append(f)

# %% [markdown]
# A row is a film, a column a method. Before you read on, guess: in which of these
# pictures would you trust the model? Then look at the outlines.
#
# What could make you doubt one? Bright places outside of the body, a picture that is
# the same in each row, or a bright spot that lies well only because the finding is
# large.

# %% tags=["headline"]
rw.show.grid(
    shown,
    maps=maps,
    titles=titles,
    truth=outlined,
    columns=len(methods),
    cell=190,
    title="What counted for the score?",
)

# %% [markdown]
# Is the peak of each map on the finding? That is the *pointing game*, and `score_map`
# calls it a hit.
#
# Where several pixels share the highest value, the hit is the share of them that lie on
# the finding. These are a few films, chosen to be severe, so the count is an impression
# and no result.

# %%
hits = []
for one, film, f in zip(maps, shown, outlined, strict=True):
    scores = rw.attend.score_map(one, film.truth[f])
    hits.append(scores["hit"])
Markdown(
    f"We see that {sum(hits):.0f} of {len(hits)} maps peak on the finding. All of them "
    "look as if they knew."
)

# %% [markdown]
# ## And all the others
# Gradients over many copies (integrated gradients, SmoothGrad), things hidden and
# missed (occlusion, RISE), kin of Grad-CAM, attention weighted by what it hands over,
# attention as a flow: one call, other names. Which there are stands in
# `rw.attend.METHODS`. Here they are, for one effusion.
#
# Some of them run the model many times with parts of the film hidden, so this cell
# takes longer than those before it.

# %%
every = {}
for method in rw.attend.METHODS:
    every[method] = rw.attend.attention_map(model, scan, method=method, target=pair)

# %% [markdown]
# Above each map stands how much more of it lies on the effusion than chance would have:
# its energy over the effusion's share of the film.
#
# One means that a map cares no more for the effusion than for the rest of the film.
# Less than one means that it keeps away from it.

# %%
times_chance = {}
for method, one in every.items():
    energy = rw.attend.score_map(one, lesion)["energy"]
    times_chance[method] = energy / lesion.mean()

# %% [markdown]
# All of them are answers to the same question about the same film. Methods that ask for
# nothing (attention, rollout, flow and the values' norms) would draw the same map for
# any question.
#
# Compare the pictures with each other before you read the numbers. Where do most of
# them agree, and is that place inside the outline?

# %%
rw.show.grid(
    [scan] * len(every),
    maps=list(every.values()),
    truth=finding,
    columns=5,
    cell=190,
    titles=[f"{m}<br>{times:.1f} times chance" for m, times in times_chance.items()],
    title="One film, one question, every method",
)

# %% [markdown]
# How far do they agree with one another? We compare each pair by rank correlation: 1
# where they order the pixels alike, 0 where they have nothing in common.
#
# Each map is first averaged to a coarse grid, so that single pixels don't count. And
# since only the order matters, it does no harm that methods have different units.

# %%
of_one_film = {method: [one] for method, one in every.items()}
agreement = rw.attend.agreement(of_one_film)
square = agreement["mean"].unstack()
alike = square.loc[list(every), list(every)]
rw.show.heatmap(alike, label="rank correlation", title="How far do they agree?")

# %% [markdown]
# Squares on the diagonal are each method with itself, so they are left out of the
# numbers below.
#
# Agreement would be no proof, either: two methods can share a mistake, such as being
# bright wherever the film is bright. So the film itself is scored as if it were a map.

# %%
itself = np.eye(len(alike), dtype=bool)
between_two = alike.where(~itself).stack()
brightness = rw.attend.brightness_map(scan)
film_as_map = rw.attend.score_map(brightness, lesion)["energy"]
Markdown(
    f"We see rank correlations from {between_two.min():.2f} to "
    f"{between_two.max():.2f}, with a mean of {between_two.mean():.2f}, between "
    "methods that were all asked the same question. Where they differ, not all can be "
    "right. The film itself, taken as a map, has "
    f"{film_as_map / lesion.mean():.1f} times chance on the effusion."
)

# %% [markdown]
# ### Exercise 2: two scores
# The *pointing game*: is the map's highest pixel on the lesion, 1 or 0? The *energy*:
# which share of the map's sum lies on the lesion? Return both.


# %%
def point_and_energy(values, mask):
    """(H, W) map and bool mask -> hit, energy."""
    raise NotImplementedError


# %% [markdown]
# *Hints.* `argmax` counts along the flattened map, so the mask must be flattened, too.
# If your energy is above one, have you taken means in place of sums?


# %% tags=["solution"] jupyter={"source_hidden": true}
def point_and_energy_solution(values, mask):
    hit = float(mask.ravel()[values.argmax()])
    energy = values[mask].sum() / values.sum()
    return [hit, energy]


# %% [markdown]
# The check takes the maps from above, each with the truth of its film. A map that is
# zero everywhere is left out, since it has no peak, and nothing can be divided by its
# sum.


# %%
def by_package(values, mask):
    scores = rw.attend.score_map(values, mask)  # it has more: iou, cnr, auprc, area
    return [scores["hit"], scores["energy"]]


cases = []
for one, film, f in zip(maps, shown, outlined, strict=True):
    if one.values.any():
        cases.append((one.values, film.truth[f]))
for attempt in (point_and_energy, point_and_energy_solution):
    rw.check.matches(attempt, by_package, cases=cases)

# %% [markdown]
# ## All test films, and maps that know nothing
# A hit rate means nothing alone. Beside each method stand maps that never heard the
# question and never met the model:
#
# - smooth noise (*random*), and a blob in the middle (*centre*),
# - the film's contours (*edges*), the film itself (*brightness*) and its negative
#   (*darkness*),
# - the lungs or the heart of the unbent chest (*organ*),
# - where the finding was in the training films (*training mask*).
#
# The last one is the strictest: it knows the position, and is blind to this film. What
# does it look like?
#
# `mean_mask` takes the training films that show the finding and averages their
# outlines. Its value at a place is the share of these films in which the finding covers
# it. The two chests are rendered without any finding, one for each view.

# %%
training_masks = {f: rw.attend.mean_mask(table, f) for f in questions}
chests = {}
for view in ("PA", "AP"):
    chest = rw.simulate.render(view=view, organs=True)
    chests[view] = chest.truth

# %% [markdown]
# An organ's outline is a control, too. For cardiomegaly it is that of the heart, for
# all other findings that of the lungs. It comes from the chest as it is in the CT, not
# bent, and so knows neither the patient nor the finding.


# %%
def controls_of(scans, f):
    """The maps that know nothing, for films with the finding f."""
    organ = "Heart" if f == "Cardiomegaly" else "Lungs"
    organs = [chests[scan.view][organ] for scan in scans]
    mask = training_masks[f]
    return rw.attend.control_maps(scans, organs=organs, training_mask=mask)


# %% [markdown]
# We lay it over one test film of each finding. Where the bright area covers the
# outline, no model was needed to find the place.

# %%
examples = []
positions = []
for f in questions:
    ill = test[test[f] == 1]
    example = rw.data.scan_of(ill.iloc[0])
    examples.append(example)
    blind = controls_of([example], f)
    positions.append(blind["training mask"][0])

# %% [markdown]
# How to read it: the colour was computed from training films only, before anybody
# looked at the film below it.

# %%
rw.show.grid(
    examples,
    maps=positions,
    titles=list(questions),
    truth=list(questions),
    title="Where findings were in the training films, over a test film",
)

# %% [markdown]
# One more control is each method's own map of *another patient* with the same finding.
# All maps meet the same films, so each method is compared with each control film by
# film, by patient, and the intervals are widened for the number of comparisons. A film
# that hides its finding has no outline to hit, is left out, and counted.
#
# `head` keeps the computation short: there are at most `per_finding` films for each
# finding.


# %%
def positives(split, f):
    """Rows and scans with a finding, the hidden ones too."""
    in_split = table[table["split"] == split]
    ill = in_split[in_split[f] == 1].head(per_finding)
    scans = [rw.data.scan_of(row) for _, row in ill.iterrows()]
    return ill, scans


# %% [markdown]
# And the maps: the same call for each method, for all films at once.


# %%
def maps_of(scans, target):
    """The maps of every method for these scans."""
    maps = {}
    for method in methods:
        maps[method] = rw.attend.attention_maps(
            model, scans, method=method, targets=target
        )
    return maps


# %% [markdown]
# This is the long computation of the notebook: five methods on a few hundred films.
# `rw.attend.compare_maps` scores them all, and holds each method against each control
# on the same films.
#
# `family` is how many such comparisons are made in all. Ask often enough, and something
# looks clear by chance. So each interval is made wider, the more questions there are.

# %%
family = len(questions) * len(methods) * 8  # eight controls a method and finding
scored = {}
for f, question in questions.items():
    ill, scans = positives("test", f)
    scored[f] = rw.attend.compare_maps(
        maps_of(scans, question),
        controls_of(scans, f),
        [scan.truth[f] for scan in scans],
        groups=ill["patient_id"],
        family=family,
    )

# %% [markdown]
# The share of films whose map peaks on the finding, for each map and finding. The
# methods come first, then the controls.
#
# Zero is never, one is always. Large lesions are easy to hit, small ones are hard, so
# compare numbers within one column and not across columns.

# %%
tables = {f: comparison.table for f, comparison in scored.items()}
hit = pd.concat(tables, names=["finding"])
hit["mean"].unstack("finding").round(2)

# %% [markdown]
# A table is hard to read. For the figure we leave out some of the controls, and keep
# the two that are hardest to beat besides noise and another patient.

# %%
controls_shown = [
    "random",
    "brightness",
    "training mask",
    "relevance, another patient's",
]
rows = hit.loc[(slice(None), [*methods, *controls_shown]), :].reset_index()

# %% [markdown]
# Look, for each finding, whether the bars of the methods rise above those of the
# controls. Where intervals overlap, the bars alone settle nothing. The sentences below
# the figure do better, since they compare film by film.

# %%
rw.show.bars(
    rows,
    x="finding",
    y="mean",
    group="map",
    y_title="peak on the finding (share)",
    title="Does the map point at the finding?",
    width=1000,
)

# %% [markdown]
# Read the figure by finding. A method that is level with *training mask* has pointed to
# where such findings usually are. A method that is level with *another patient's* map
# has drawn the finding, and not this film.
#
# Each sentence has the share of hits, then the controls that relevance is ahead of,
# those that it is behind, and those that it can't be told from.

# %%
lines = []
for f, comparison in scored.items():
    lines.append(f"- {f}: {comparison.says('relevance')}")
Markdown("We see:\n" + "\n".join(lines))

# %% [markdown]
# The films of one finding can tell little. So all four together: how much more often
# than each control does a method hit? Cells that are clear of chance are what counts,
# not the darkest ones.
#
# A patient may have films with two findings. The intervals take all films of a patient
# together, so that nobody counts as two.

# %%
four = list(scored.values())
points = pd.concat([comparison.points for comparison in four])
patients = np.concatenate([comparison.groups for comparison in four])
hidden = sum(comparison.hidden for comparison in four)
together = rw.attend.Compared.of(
    points, patients, methods=methods, what="hit", hidden=hidden
)

# %% [markdown]
# A cell is a difference in the share of hits: method in the row, control in the column.
# Blue and red are the two directions, and white is no difference.
#
# Read along a row: a method that sees the lesion should be ahead of every control, and
# not only of noise. Then read down a column: a control that nobody is ahead of has
# explained the maps as well as the model has.

# %%
differences = together.differences()
in_two_lines = differences.rename(columns=lambda name: name.replace(" ", "<br>"))
rw.show.heatmap(
    in_two_lines,
    label="hits, method less control",
    title="Each method beside what knows nothing",
    width=900,
)

# %% [markdown]
# The sentences name the controls that a method is ahead of, those that it isn't, and
# how many films were left out because they hide their finding.

# %%
lines = [f"- {together.says(method)}" for method in methods]
Markdown("We see:\n" + "\n".join(lines))

# %% [markdown]
# And which method is best? Each pair of methods meets the same films, and the intervals
# are widened for the number of pairs.
#
# `combinations` gives each pair once, whichever of the two comes first.

# %%
from itertools import combinations

pairs = []
for first, second in combinations(methods, 2):
    pair_of_methods = rw.stats.compare(
        points[first],
        points[second],
        patients,
        names=(first, second),
        what="hit",
        family=10,
    )
    pairs.append(pair_of_methods)

# %% [markdown]
# Only pairs whose interval leaves out zero are named. A difference that can't be told
# isn't a proof that two methods are equally good: with more films it might show.

# %%
clear = []
for comparison in pairs:
    if comparison.verdict != "can't tell":
        clear.append(f"- {comparison}")
Markdown(
    f"We see a difference that can be told in {len(clear)} of {len(pairs)} pairs.\n\n"
    + "\n".join(clear)
)

# %% [markdown]
# ### Are small lesions harder to point at?
# A blob that covers half of a lung is easy to hit. So we sort the lung lesions by their
# size, from small to large, in three groups of about equal number.

# %%
ill, scans = positives("test", "Lung Lesion")
masks = [scan.truth["Lung Lesion"] for scan in scans]
nodule = questions["Lung Lesion"]
maps = rw.attend.attention_maps(model, scans, targets=nodule)

# %% [markdown]
# `score_by_lesion` makes the groups and scores each of them. The size is the area of
# the outline, in square millimetres. Films that hide their lesion are left out.

# %%
by_size = rw.attend.score_by_lesion(
    maps,
    masks,
    groups=ill["patient_id"],
    by=["area"],
    spacing_mm=[scan.spacing_mm for scan in scans],
)
hits_by_size = by_size[by_size["score"] == "hit"]
hits_by_size[["group", "least", "most", "mean", "low", "high", "n"]].round(2)

# %% [markdown]
# In words, with areas in square centimetres. If size matters, the share of hits rises
# from the first group to the last. Intervals that overlap widely say that there are too
# few films to tell.

# %%
lines = []
for _, row in hits_by_size.iterrows():
    least_cm2 = row["least"] / 100
    most_cm2 = row["most"] / 100
    share = rw.stats.format_interval(row, "mean")
    lines.append(f"{share} at {least_cm2:.1f} to {most_cm2:.1f} cm²")
Markdown(f"We see the share of relevance's hits by size: {'; '.join(lines)}.")

# %% [markdown]
# ## What would a second reader score?
# Overlap with the truth is *intersection over union*. 1 is out of reach: two people
# don't draw the same, either. Three radiologists each put boxes on 15,000 films
# (VinDr-CXR, Nguyen et al. 2022, [doi
# 10.1038/s41597-022-01498-w](https://doi.org/10.1038/s41597-022-01498-w)); how far do
# two of them agree?
#
# *presence* is how often both saw a finding, where at least one did. *iou* is how far
# their boxes overlap, where both drew one.

# %%
boxes = pd.read_csv(rw.data.fetch("vinbig-boxes") / "vinbigdata-train.csv.gz")
columns = {"image_id": "image", "rad_id": "reader", "class_name": "finding"}
agreement = rw.attend.reader_agreement(boxes.rename(columns=columns))
our_names = {
    "Pleural effusion": "Pleural Effusion",
    "Pneumothorax": "Pneumothorax",
    "Cardiomegaly": "Cardiomegaly",
    "Nodule/Mass": "Lung Lesion",
}
readers = agreement.loc[list(our_names)].rename(index=our_names)
readers[["presence", "iou", "iou_low", "iou_high", "images"]].round(2)

# %% [markdown]
# Ours beside it, with all that knows nothing. To have an overlap, a map must be cut
# into *inside* and *outside*. Where to cut is not for the test films to say: we take
# the cuts that are best on the validation films, for each map its own.
#
# `rescale` stretches each map from zero to one, so that one cut can serve all films.


# %%
def maps_to_cut(split, f):
    """Masks, patients, and maps that run from 0 to 1: relevance and the controls."""
    ill, scans = positives(split, f)
    relevance_maps = rw.attend.attention_maps(model, scans, targets=questions[f])
    all_maps = {"relevance": relevance_maps} | controls_of(scans, f)
    from_0_to_1 = {}
    for name, maps in all_maps.items():
        from_0_to_1[name] = [rw.attend.rescale(one) for one in maps]
    masks = [scan.truth[f] for scan in scans]
    return masks, ill["patient_id"], from_0_to_1


# %% [markdown]
# A cut that is chosen on the test films flatters every map, and the more so the fewer
# films there are. Validation patients are others, so the cut can't know what it will be
# judged on.
#
# `tune_threshold` tries many cuts on the validation films and keeps the one with the
# highest mean overlap.


# %%
def overlap_of(f):
    """Intersection over union on the test films, cut as on the validation films."""
    masks, _, maps = maps_to_cut("val", f)
    cuts = {name: rw.attend.tune_threshold(maps[name], masks) for name in maps}
    masks, owners, maps = maps_to_cut("test", f)
    ours = {"relevance": maps.pop("relevance")}
    how = {"score": "iou", "threshold": cuts, "family": 8 * len(questions)}
    return rw.attend.compare_maps(ours, maps, masks, groups=owners, **how)


overlaps = {f: overlap_of(f) for f in questions}

# %% [markdown]
# For the figure, the readers' agreement becomes three columns like those of our maps.

# %%
rows = []
for f, comparison in overlaps.items():
    chosen = comparison.table.loc[["relevance", "brightness", "training mask"]]
    rows.append(chosen.assign(finding=f).reset_index())
two_readers = readers[["iou", "iou_low", "iou_high"]]
two_readers = two_readers.set_axis(["mean", "low", "high"], axis=1)
two_readers = two_readers.rename_axis("finding").reset_index()
rows.append(two_readers.assign(map="two radiologists, real films"))

# %% [markdown]
# Mind the last colour in the figure: it comes from real films of another hospital, and
# from boxes. It says how high a bar is reasonable, and no more.

# %%
rw.show.bars(
    pd.concat(rows),
    x="finding",
    y="mean",
    group="map",
    y_title="intersection over union",
    title="Overlap: a map with the outline, a reader with another",
    width=1000,
)

# %% [markdown]
# Which of our maps are ahead of which controls? The sentences hold relevance against
# each control, as before, with intervals by patient.

# %%
highest = readers["iou"].idxmax()
lowest = readers["iou"].idxmin()
lines = []
for f, overlap in overlaps.items():
    lines.append(f"- {f}: {overlap.says('relevance')}")
Markdown(
    f"We see that readers agree best on the place of {highest.lower()} "
    f"({readers.iou.max():.2f}) and worst on {lowest.lower()} "
    f"({readers.iou.min():.2f}). Other films, and boxes there, outlines here: an order "
    "of size, no race. On the virtual films:\n" + "\n".join(lines)
)

# %% [markdown]
# ## Does the map change with the words?
# If relevance answers the question, another question must get another map. We take
# one-sided effusions and change one thing at a time: the wording, the side, the
# finding. The last phrase is nonsense.
#
# Before you run it, guess: which change should leave the map as it was, and which
# should change it?

# %%
one_sided = test["Pleural Effusion side"].isin(["left", "right"])
effusions = test[one_sided].head(per_finding)
scans = [rw.data.scan_of(row) for _, row in effusions.iterrows()]
sides = list(effusions["Pleural Effusion side"])
opposite = {"left": "right", "right": "left"}
phrases = {
    "as it is": [f"{side} pleural effusion" for side in sides],
    "other wording": [f"effusion on the {side}" for side in sides],
    "other side": [f"{opposite[side]} pleural effusion" for side in sides],
    "other finding": ["cardiomegaly"] * len(sides),
    "nonsense": ["purple bicycle on tuesday"] * len(sides),
}

# %% [markdown]
# Relevance is asked five times for each film. The film stays the same, so any
# difference between the maps comes from the words.

# %%
word_maps = {}
for name, targets in phrases.items():
    maps = rw.attend.attention_maps(model, scans, targets=targets)
    word_maps[name] = np.stack([one.values for one in maps])  # (N, H, W)

# %% [markdown]
# How alike are two maps? We take the correlation of their pixels: each map less its
# mean, made a vector of length one, times the other.
#
# One is the same map, zero is no relation, and below zero bright and dark have changed
# places.


# %%
def unit_vectors(maps):
    """(N, H, W) -> (N, H * W), each less its mean and of length one."""
    flat = maps.reshape(len(maps), -1)
    flat = flat - flat.mean(1, keepdims=True)
    return flat / (np.linalg.norm(flat, axis=1, keepdims=True) + 1e-12)


before = unit_vectors(word_maps["as it is"])
correlations = {}
for name in list(phrases)[1:]:
    after = unit_vectors(word_maps[name])
    correlations[name] = (before * after).sum(1)

# %% [markdown]
# The mean correlation has an interval by patient. It has no family of comparisons yet:
# it shows, and the sentences below decide.
#
# A high bar for another wording is what one hopes for. A high bar for nonsense means
# that much of the map comes from the film, whatever is asked.

# %%
owners = effusions["patient_id"]
rows = {}
for name, values in correlations.items():
    rows[name] = rw.stats.clustered_mean(values, owners, limits=(-1, 1))
words = pd.DataFrame(rows.values(), index=list(rows))
rw.show.bars(
    words.rename_axis("phrase").reset_index(),
    x="phrase",
    y="mean",
    y_title="correlation of maps",
    title="Effusion films: how much of the map is the words?",
)

# %% [markdown]
# A map that hears the words keeps its place when only the wording changes, and loses it
# for nonsense. We also ask for the side: which share of the map moves to the half of
# the film that the phrase names? The patient's right is on our left.


# %%
def share_on_the_right(maps):
    """(N,) of each map, how much lies on the patient's right."""
    middle = maps.shape[2] // 2
    right_half = maps[:, :, :middle]
    return right_half.sum((1, 2)) / maps.sum((1, 2))


named = share_on_the_right(word_maps["as it is"])
not_named = share_on_the_right(word_maps["other side"])
toward_right = named - not_named
sign = np.where(np.array(sides) == "right", 1, -1)
toward_named = sign * toward_right

# %% [markdown]
# If the map follows the words, the share on the named side grows. The difference is
# taken film by film, and its sign turned so that *toward the named side* is always
# positive.

# %%
names = ("the side that is named", "the other side")
moved = rw.stats.compare(
    toward_named, 0, owners, names=names, what="share of the map", family=2
)
stays = rw.stats.compare(
    correlations["other wording"],
    correlations["nonsense"],
    owners,
    names=("another wording", "nonsense"),
    what="correlation",
    family=2,
)

# %% [markdown]
# Two comparisons were made, so both intervals are widened for two.

# %%
Markdown(
    f"We see what two phrases do. In the map's correlation with itself: {stays}. In "
    f"the share of the map that moves when a side is named: {moved}."
)

# %% [markdown]
# ## Would another model have drawn the same map?
# If so, the map says nothing of this one. Four changes must show: the weights dealt out
# at random (Adebayo et al. 2018, [arXiv 1810.03292](https://arxiv.org/abs/1810.03292)),
# labels dealt out at random (same paper), a phrase that no film answers, another
# finding's phrase. We take the rank correlation of the map before and after; what isn't
# clearly below 0.5 fails.
#
# For the labels we train three small classifiers until they know their films by heart:
# two on the true labels, from different starts, and a twin of the second on labels that
# were dealt to other films. A map that hangs on the labels has more in common within
# the true pair than with the twin. And only healthy models may be asked: a collapsed
# one draws something, too, and it means nothing.
#
# `permutation` puts the rows in a random order, and the labels are dealt out in that
# order. The films stay as they are, and so does the number of films with each finding.

# %%
labels = list(questions)
train = table[table["split"] == "train"].head(twin_films)
val = table[table["split"] == "val"].head(twin_films)
columns = ["path", "patient_id", "split", *labels]
taught = pd.concat([train, val])[columns]
taught = taught.reset_index(drop=True)
order = np.random.default_rng(0).permutation(len(taught))
dealt = taught.copy()
dealt[labels] = taught[labels].to_numpy()[order]  # a film's labels stay together

# %% [markdown]
# The three trainings differ in their start or in their labels, and in nothing else.
# They are small, and take a minute together; the second time they are read from
# `../runs`.

# %%
shape = {"size": 64, "patch": 8, "width": 96, "heads": 1, "layers": 3, "embed": 96}

# %% [markdown]
# These are the shapes of the networks: a film of `size` pixels a side, cut into squares
# of `patch`, and so on. The settings say how each is trained, and are the same for all
# three. Only `seed` and the table differ.

# %%
settings = {
    "recipe": "supervised-tiny",
    "epochs": twin_epochs,
    "batch": 32,
    "shape": shape,
}
runs = {
    "true": rw.pretrain.fit(taught, out="../runs/true", seed=0, **settings),
    "again": rw.pretrain.fit(taught, out="../runs/again", seed=1, **settings),
    "shuffled": rw.pretrain.fit(dealt, out="../runs/shuffled", seed=1, **settings),
}

# %% [markdown]
# Before their maps are compared, each of the three must be healthy. Notebook 2 used the
# same checks on its own run.

# %%
twins = rw.attend.label_twins(**runs, table=taught, target=finding)
health = {}
for name, run in runs.items():
    checks = rw.pretrain.diagnose(run, taught).set_index("name")
    health[name] = checks[["value", "verdict"]]
pd.concat(health, axis=1).dropna().round(2)

# %% [markdown]
# A verdict other than *healthy* for a check that matters would stop us here. And did
# they learn their films by heart? The loss of the last epoch tells: a twin on shuffled
# labels that reaches a low loss has memorised them, since there was nothing else to
# learn.

# %%
losses = []
for name, run in runs.items():
    by_epoch = run.log.groupby("epoch")["loss"].mean()
    last = by_epoch.iloc[-1]
    losses.append(f"{name} {last:.2f}")
verdict = "all three are healthy"
if twins.ills:
    verdict = f"{twins.unhealthy}: what their maps do is not interpreted"
reasons = [f"\n- {name}: {reason}" for name, reason in twins.ills.items()]

# %% [markdown]
# If one of the three is ill, the reason is listed, and the label test below is not
# judged.

# %%
Markdown(
    f"We see losses of {', '.join(losses)} on the films that were learned, and "
    f"{verdict}. That held-out films gain little or nothing is no illness here: "
    f"shuffled labels can only be memorised.\n{''.join(reasons)}"
)

# %% [markdown]
# Now the checks, for each method, on effusions whose outline is known. Beside the
# methods runs a map that we know to be deaf: the contours of the film, which no change
# of model or words can move. A check that lets it pass is no check.

# %%
ill, films = positives("test", finding)
visible = [bool(film.truth[finding].any()) for film in films]
ill = ill[visible]
films = [film for film in films if film.truth[finding].any()]
films = films[:n_checked]
owners = ill["patient_id"].head(n_checked)

# %% [markdown]
# A method can be a name, or any function that takes model, scan and target. So your own
# method can be put through the same checks, by the same call.
#
# `sanity_check` changes the weights, the words and the labels in turn, and draws the
# map again after each change. That takes time, and is why only some of the films are
# used.


# %%
def edges(model, scan, target):
    return rw.attend.edge_map(scan)


how = {"target": questions[finding], "groups": owners}
checks = {}
for method in (*methods, edges):
    name = getattr(method, "__name__", method)
    checks[name] = rw.attend.sanity_check(
        model, films, method=method, twins=twins, **how
    )

# %% [markdown]
# Each method is put to several tests, some of them in more than one form. The figure
# shows the worst result of each test.

# %%
rows = []
for name, check in checks.items():
    judged = check.table.dropna(subset="passed").reset_index()
    rows.append(judged.assign(map=name))
by_similarity = pd.concat(rows).sort_values("similarity")
worst = by_similarity.groupby(["map", "test"], sort=False).tail(1)
worst = worst.set_index("map").loc[list(checks)].reset_index()

# %% [markdown]
# Above the line a map stayed much as it was, although something had changed that should
# have shown. The *edges* must stand there for every change.
#
# A bar that is below the line has not passed yet: its whole interval must lie below.
# With few patients the interval is wide, and a method can fail for want of films.

# %%
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

# %% [markdown]
# The verdict can be stamped on a map, so that it goes where the picture goes.

# %%
stamped = checks["relevance"].stamp(every["relevance"])
rw.show.overlay(scan, stamped, truth=finding, title="Relevance, with its badge")

# %% [markdown]
# A badge names what was passed and what was failed. Where a test couldn't be judged,
# for instance because a training was ill, it says so, and doesn't count as passed.

# %%
badges = []
label_lines = []
for name, check in checks.items():
    badges.append(f"- **{name}**: {check.badge}")
    if check.labels:
        label_lines.append(f"- {name}: {check.labels}")
hits = {}
for method in ("relevance", "gradcam"):
    mean = hit.loc[(finding, method), "mean"]
    hits[method] = f"{mean:.0%}"

# %% [markdown]
# And for the labels: how alike are the maps of the two models that learnt the truth,
# and how alike are those of one of them and the shuffled twin? Beside it we recall how
# often two of the methods hit, since to change with the question and to point at the
# right place are two things.

# %%
Markdown(
    "We see:\n" + "\n".join(badges) + "\n\nHow alike maps are, with the first model's "
    "(three trainings; others may differ):\n"
    + "\n".join(label_lines)
    + "\n\nA pass is "
    f"no place: on these films relevance hits {hits['relevance']}, gradcam "
    f"{hits['gradcam']}."
)

# %% [markdown]
# ### Does the map move with the film?
# The check that needs no second model: shift the film a little, draw the map, and move
# it back. A map of the film's content comes back as it was. A map that is tied to the
# grid of patches, or to the middle of the picture, does not.

# %%
shifted = rw.attend.stability(
    model, films[:8], target=questions[finding], groups=owners[:8]
)
shifted.round(2)

# %% [markdown]
# Both numbers come from the same shifted films. *Moved back* compares the same tissue,
# *left in place* the same part of the picture. A map of the film's content has the
# higher number in the first.

# %%
back = rw.stats.format_interval(shifted.loc["moved back"], "mean")
in_place = rw.stats.format_interval(shifted.loc["left in place"], "mean")
Markdown(
    "We see that the map of a shifted film, moved back, has a rank correlation of "
    f"{back} with the first map. Left in place, it has {in_place}: a map that ignores "
    "the film would be better there."
)

# %% [markdown]
# ## Take away what it marks
# A map that marks what counts: without those pixels the score falls (*deletion*), with
# only those it rises (*insertion*). What is taken away is filled from its surroundings,
# so that no hole tells its outline (ROAD, Rong et al. 2022, [arXiv
# 2202.00449](https://arxiv.org/abs/2202.00449)). The gain is over taking away as much
# at random, in patches. Three maps that never met the model run along: the film's
# edges, its brightness, and the training mask.
#
# The effusion that is taken away isn't healed: it is filled from what lies around it,
# and may look like an effusion still. So even the true outline may gain little.

# %%
drawn = maps_of(films, questions[finding])
blind = controls_of(films, finding)
for name in ("edges", "brightness", "training mask"):
    drawn[name] = blind[name]
faith = rw.attend.faithfulness(model, films, drawn, shares=shares, **how)

# %% [markdown]
# For each share of pixels the score is computed anew, with the most marked pixels taken
# away, and again with as many at random. What is left after subtraction is the gain. A
# gain of zero says that the map's choice was no better than chance.

# %%
gains = faith.table.xs("gain", level="of").reset_index()
rw.show.bars(
    gains,
    x="map",
    y="mean",
    group="curve",
    line=0,
    y_title="score, better than random by",
    title="Does the score hang on what the map marks?",
)

# %% [markdown]
# Is a method ahead of the blind maps? Both curves, all methods, three blind maps each:
# the intervals are widened for that many comparisons.
#
# The blind maps are the measure. Edges and brightness lie on bones and borders, where
# taking away anything may hurt the score, whatever was asked.

# %%
judged = {}
for curve in ("deletion", "insertion"):
    judged[curve] = rw.attend.Compared.of(
        faith.gains.xs(curve, axis=1, level="curve"),
        owners,
        methods=methods,
        what=f"gain in {curve}",
        family=2 * 3 * len(methods),
    )
verdicts = {curve: comparison.verdicts() for curve, comparison in judged.items()}
pd.concat(verdicts, axis=1)

# %% [markdown]
# *Ahead* in a cell of the table is a method that did better than this blind map on the
# same films. *Can't tell* is no failure, but no proof either.

# %%
lines = []
for comparison in judged.values():
    for method in ("relevance", "gradcam"):
        lines.append(f"- {comparison.says(method)}")
Markdown(
    "We see the verdict on each method beside each blind map. For two of them in "
    "words:\n" + "\n".join(lines)
)

# %% [markdown]
# ## Which heads look at the effusion, and do they matter?
# *Selectivity* is a head's share of attention on the lesion over the lesion's share of
# the film. To look is one thing, to matter another. So the three most selective heads
# are silenced, and as a control as many others, at random.
#
# Two columns help to doubt. *elsewhere* is what a head scores on the lesion of another
# patient. *position* says how far its map is the same on all films, and is one where it
# always looks at the same place.

# %%
masks = [film.truth[finding] for film in films]
census = rw.attend.head_census(model, films, masks, groups=owners)
census.round(2)

# %% [markdown]
# A selectivity of 1 is a head that doesn't care. The table has a row a head, with an
# interval by patient. We take the best three, on these films, which means that their
# selectivity is flattered: they were chosen by it.

# %%
selective = census.nlargest(3, "selectivity")
silenced = rw.attend.compare_ablation(
    model, films, selective.index, target=questions[finding], groups=owners
)
silenced.round(2)

# %% [markdown]
# To silence a head is to set what it hands on to zero. The table has the change of the
# score without the chosen trio, without random trios, and the difference of the two.

# %%
names = []
for (layer, head), row in selective.iterrows():
    names.append(f"layer {layer} head {head} ({row.selectivity:.1f})")
change = {}
for trio in ("chosen", "random", "difference"):
    change[trio] = rw.stats.format_interval(silenced.loc[trio], "mean")

# %% [markdown]
# If these heads mattered more than others, the difference would lie clearly below zero,
# and few random trios would cost as much. An interval that holds zero says that it
# wasn't shown that they matter.

# %%
as_low = silenced["as_low"].iloc[0]
Markdown(
    f"We see the highest selectivity at {', '.join(names)}, on the films that they "
    f"were chosen on. Without these three the score changes by {change['chosen']}, "
    f"without three others by {change['random']}, a difference of "
    f"{change['difference']}; {as_low:.0%} of the random trios cost as much."
)

# %% [markdown]
# ### Tokens that became notepads
# Large towers use some patches of the background as scratch paper: their tokens grow
# many times longer than the others, and every map that reads tokens has bright specks
# there (Darcet et al. 2023, [arXiv 2309.16588](https://arxiv.org/abs/2309.16588)). Has
# ours any? We count the tokens of the last layer that are three times as long as the
# median.

# %%
norms = rw.attend.patch_norms(model, films, groups=owners)
rw.show.heatmap(
    norms.norms.mean(0),
    label="mean length",
    title="How long are the tokens, place by place?",
)

# %% [markdown]
# The picture is a mean over films, in which a long token of a single film hardly shows.
# The number counts the tokens of each film.

# %%
outliers = rw.stats.format_interval(norms.table.loc["outliers"], "mean")
Markdown(
    f"We see a share of outliers of {outliers}, above a length of {norms.cut:.0f}."
)

# %% [markdown]
# ## A CT has three dimensions
# The same question for a network over a volume. Ours is a single filter made by hand, a
# ball less the shell around it, so that we know what it looks for. We plant nodules in
# the CT, and ask Grad-CAM where they are.
#
# Three controls stand beside it: the brightest place in the filter's window, a place in
# the lungs at random, and the CT with nothing planted. Nobody should trust a scan to be
# normal, and this patient has a mass of about 23 mm in the left lower lung.
#
# We take every second slice and every sixth pixel, so that the filter is quick. The
# affine matrix is changed with it, so that a place in millimetres stays the same place.

# %%
source = rw.data.fetch("lidc-ct")
ct = rw.data.read(source / "cxr.nii.gz")
organs = rw.data.read(source / "mask.nii.gz")
step = np.array([2, 6, 6])  # every second voxel of the first axis, and so on
affine = ct.affine @ np.diag([*step, 1])
thinned = ct.voxels[::2, ::6, ::6]
small = rw.data.Volume(thinned, affine, "CT")
spacing = np.round(small.spacing_mm, 1)
Markdown(f"{small.shape} voxels of {spacing} mm")

# %% [markdown]
# The filter has nine voxels a side. Inside of 10 mm it is positive, in a shell from 12
# to 20 mm negative, and both sum to one: so it answers zero where all is alike, and
# most where a ball of this size stands in air.

# %%
offsets = np.stack(np.indices((9, 9, 9)), -1) - 4
radius_mm = np.linalg.norm(offsets * small.spacing_mm, axis=-1)
ball = radius_mm <= 10
shell = (radius_mm > 12) & (radius_mm <= 20)
conv = torch.nn.Conv3d(1, 1, 9, padding=4)
weights = ball / ball.sum() - shell / shell.sum()
conv.weight.data[:] = torch.tensor(weights)
conv.bias.data[:] = -0.3

# %% [markdown]
# `rw.attend.Net3d` is what makes a map possible for any 3-D network: it says which size
# the input has, which window, and what the outputs are called.

# %%
pool = torch.nn.AdaptiveMaxPool3d(1)
net = torch.nn.Sequential(conv, torch.nn.ReLU(), pool, torch.nn.Flatten())
eye = rw.attend.Net3d(
    net,
    small.shape,
    window_hu=(-1000, -300),
    findings=["nodule"],
    name="a ball filter",
)

# %% [markdown]
# First the CT as it is. Where in the lungs does the filter answer most? The organ mask
# numbers the five lobes from 10 to 14.

# %%
every_step = tuple(slice(None, None, k) for k in step)
lungs = np.isin(organs.voxels[every_step], (10, 11, 12, 13, 14))
bare = rw.attend.volume_map(eye, small, method="gradcam", target="nodule").values
highest = lungs & (bare == bare[lungs].max())
peak = np.argwhere(highest)[0]
mass = np.array([90, 144, 317]) / step  # where a reader sees it
off_mm = np.linalg.norm((peak - mass) * small.spacing_mm)

# %% [markdown]
# How far is that place from the mass that a reader sees? The distance is taken in
# millimetres, since voxels aren't cubes.

# %%
Markdown(
    "With nothing planted, the filter's highest place in the lungs lies "
    f"{off_mm:.0f} mm from the middle of that mass. A peak outside of what we plant "
    "may be right."
)

# %% [markdown]
# Now the nodules: balls of soft tissue, 20 mm wide, at random places inside the lungs,
# one at a time.
#
# `binary_erosion` takes the outermost voxels off the lungs, so that the middle of a
# nodule isn't at their border.

# %%
from scipy.ndimage import binary_erosion, gaussian_filter

index = np.stack(np.indices(small.shape), -1)
inside_lungs = np.argwhere(binary_erosion(lungs, iterations=3))
rng = np.random.default_rng(0)
centres = inside_lungs[rng.integers(len(inside_lungs), size=nodules)]


def plant_nodule(centre):
    """The CT with a nodule, and the nodule's mask."""
    offset_mm = (index - centre) * small.spacing_mm
    from_centre_mm = np.linalg.norm(offset_mm, axis=-1)
    nodule = from_centre_mm <= 10
    voxels = np.where(nodule, 40, small.voxels)
    return rw.data.Volume(voxels, small.affine, "CT"), nodule


# %% [markdown]
# For each nodule we ask four questions. Does the map peak inside? Which share of it
# lies inside? Does the brightest place lie inside? And would the map of the CT without
# a nodule have peaked there anyway?
#
# *chance* is the nodule's share of the lungs, which is how often a random place in them
# would be inside.

# %%
rows = []
for centre in centres:
    planted, nodule = plant_nodule(centre)
    spot = rw.attend.volume_map(eye, planted, method="gradcam", target="nodule")
    bright = gaussian_filter(planted.voxels.clip(-1000, -300), 1)
    row = {"energy": spot.values[nodule].sum() / spot.values.sum()}
    for name, values in [("hit", spot.values), ("bright", bright), ("bare", bare)]:
        row[name] = nodule.ravel()[values.argmax()]
    row["chance"] = nodule[lungs].sum() / lungs.sum()
    rows.append(row)
mean = pd.DataFrame(rows).mean()

# %% [markdown]
# The last of the nodules, in the viewer. Scroll through the slices with the wheel, choose
# a window with the keys 1 to 4, lay a slab of some millimetres together, and read the
# Hounsfield value under the pointer. The map is drawn over it in colour.

# %%
rw.show.volume(
    planted,
    spot,
    window_hu=(-1000, 400),
    at=tuple(centre),
    title="A nodule in a CT, and where Grad-CAM sees it",
)

# %% [markdown]
# Mind that all of this is one CT and one filter that was made for balls. It shows that
# the map is put in the right place in three dimensions, not that any network would find
# nodules.

# %%
times = mean * nodules
Markdown(
    f"We see the peak in the nodule {times['hit']:.0f} times of {nodules} places in "
    f"this one CT; that of brightness {times['bright']:.0f} times, that of the CT with "
    f"nothing planted {times['bare']:.0f} times, and a random place in the lungs would "
    f"lie there in {mean['chance']:.2%}. {mean['energy']:.1%} of the map lies inside: "
    "vessels, ribs and the mass look like balls, too."
)

# %% [markdown]
# And our own model, which reads films and no volumes? It can be asked slice by slice. It has never met a CT, so this
# is a look and no claim: a map comes out whatever goes in.

# %%
slices = rw.attend.slice_maps(
    model, small, target="lung nodule", window_hu=(-1000, 400), every=8
)
rw.show.volume(
    small,
    slices,
    window_hu=(-1000, 400),
    viewer="still",
    title="A model of films, slice by slice",
)

# %% [markdown]
# A map is data. Saved as NIfTI it opens in any viewer, over the scan that it lies on; a
# name that ends in `.dcm` writes a DICOM object instead.

# %%
rw.attend.save_map(spot, planted, "../runs/nodule.nii.gz")

# %% [markdown]
# ## Now you
# Click a head or a patch, draw a box and see what it attends to, type a phrase, compare two
# methods at the same window, blink between film and map, measure, start with the worst
# film. Beside the map stands the model's score for the phrase, with its place among all
# films: look at it first, since a map comes out whatever the score.
#
# Agree or disagree with each map; the button *Copy link* gives the line of code that opens
# this view again. An exported page shows a picture of it, as it was seen last, and below
# that the heads of this film to point at.

# %%
rw.show.explore(model, ill, finding=finding, against="gradcam")

# %% [markdown]
# ## And real radiographs?
# First sixteen films of children, without a drawn truth: a look, and one warning sign.
# How often does the map peak in the outer tenth of the film, where there is no lung?

# %%
children = rw.data.real("kermany-16").sort_values("Pneumonia")
scans = [rw.data.scan_of(row) for _, row in children.iterrows()]
opacity = ("there is a lung opacity", "no acute cardiopulmonary abnormality")
maps = rw.attend.attention_maps(model, scans, targets=opacity)

# %% [markdown]
# Four films of each kind. These children are younger than any patient the model has
# met, and the films were cut and scaled by whoever published them.

# %%
names = {0: "normal", 1: "pneumonia"}
titles = [names[int(label)] for label in children["Pneumonia"]]
rw.show.grid(
    scans[:4] + scans[-4:],
    maps=maps[:4] + maps[-4:],
    titles=titles[:4] + titles[-4:],
    title="Relevance for a lung opacity, real films",
)

# %% [markdown]
# The rim of each film becomes a mask, and the map is scored on it like on a lesion.
# Only here a hit is a bad sign.

# %%
rims = []
for scan_of_child in scans:
    H, W = scan_of_child.shape
    rim = np.ones((H, W), bool)
    inner_rows = slice(H // 10, -H // 10)
    inner_columns = slice(W // 10, -W // 10)
    rim[inner_rows, inner_columns] = False
    rims.append(rim)

# %% [markdown]
# The call is the one that we used for lesions, and the controls are the same. They tell
# how often a map peaks at the rim without a model.

# %%
opacity_mask = rw.attend.mean_mask(table, "Lung Opacity")
blind = rw.attend.control_maps(scans, training_mask=opacity_mask)
ours = {"relevance": maps}
at_rim = rw.attend.compare_maps(ours, blind, rims, groups=children["patient_id"])
share = at_rim.table["mean"]

# %% [markdown]
# How large the rim is matters: a map without any knowledge peaks there about as often
# as the rim is large.

# %%
rim_share = np.mean([rim.mean() for rim in rims])
Markdown(
    f"We see a peak at the rim, which is {rim_share:.0%} of a film, in "
    f"{share['relevance']:.0%} of {len(maps)} films with relevance, "
    f"{share['random']:.0%} with noise, {share['brightness']:.0%} with brightness."
)

# %% [markdown]
# Then real lesions that a person drew, where the mirror holds them. The organ is now
# the lungs of each film. A set that isn't there is named, and its part is left out.


# %%
def real_or_reason(name, what):
    """The table of a real set; or None, and the sentence that says why."""
    try:
        return rw.data.real(name), None
    except rw.data.FetchError as missing:
        which = str(missing).split(" (")[0]
        nowhere = "is neither in the cache nor in a mirror"
        return None, f"{what} were not scored: {which} {nowhere}."


# %% [markdown]
# For each film the drawn opacity is the mask. The lungs that were drawn with it are the
# *organ* among the controls, a stricter one than the unbent chest, since they are this
# patient's own.


# %%
def score_opacities(films):
    """Every method and control on films with a drawn opacity and drawn lungs."""
    scans, owners = [], []
    for _, row in films.iterrows():
        film = rw.data.scan_of(row)
        if {"Lung Opacity", "lungs"} <= set(film.truth):
            scans.append(film)
            owners.append(row["patient_id"])
    lungs = [film.truth["lungs"] for film in scans]
    masks = [film.truth["Lung Opacity"] for film in scans]
    blind = rw.attend.control_maps(scans, organs=lungs, training_mask=opacity_mask)
    return rw.attend.compare_maps(maps_of(scans, opacity), blind, masks, groups=owners)


# %% [markdown]
# If the set is here, we score it with the same call as above.

# %%
films_with_masks, on_opacities = real_or_reason("covid-masks", "real lesions")
if films_with_masks is not None:
    real = score_opacities(films_with_masks)
    on_opacities = real.says("relevance")

# %% [markdown]
# If the films were scored, a figure shows all maps beside each other. If not, there is
# none, and the sentence below it says why.

# %%
if films_with_masks is not None:
    rows = real.table.reset_index()
    figure = rw.show.bars(
        rows,
        x="map",
        y="mean",
        y_title="peak on a drawn opacity (share)",
        title="Real lesions",
        width=1000,
    )
    display(figure)

# %% [markdown]
# Read it with care. The model learned from virtual films, so a low share may say as
# much of the model as of the map.

# %%
Markdown(f"We see: {on_opacities}")

# %% [markdown]
# A third kind of truth: no outline but a grade, 0 to 3, for each of six zones of the
# lungs (the Brixia score, Borghesi & Maroldi 2020, [doi
# 10.1007/s11547-020-01200-3](https://doi.org/10.1007/s11547-020-01200-3)). Does the map
# weigh most in the zone that is worst? We cut the lungs into thirds of their height,
# which is near the score's own zones, not the same. The disease is white, so brightness
# may well follow it without any model.

# %%
grades = [f"brixia_{zone}" for zone in "ABCDEF"]


def score_zones(films):
    """How far the map's weight in each zone follows its grade."""
    graded = films.dropna(subset=[*grades, "truth_path"])
    graded = graded[graded[grades].nunique(axis=1) > 1]  # else no zone is the worst
    scans = [rw.data.scan_of(row) for _, row in graded.iterrows()]
    lungs = [film.truth["lungs"] for film in scans]
    ours = {"relevance": rw.attend.attention_maps(model, scans, targets=opacity)}
    blind = rw.attend.control_maps(scans, organs=lungs, training_mask=opacity_mask)
    groups = graded["patient_id"]
    return rw.attend.compare_zones(ours, blind, lungs, graded[grades], groups=groups)


# %% [markdown]
# Films in which all six zones have the same grade can't tell a good map from a bad one,
# so they are left out.

# %%
films_with_grades, on_zones = real_or_reason("covid-text", "zones")
if films_with_grades is not None:
    zones = score_zones(films_with_grades)

# %% [markdown]
# Above zero, a map is heavier where the disease is graded worse. At zero there is no
# relation between the two.

# %%
if films_with_grades is not None:
    rows = zones.table.reset_index()
    figure = rw.show.bars(
        rows,
        x="map",
        y="mean",
        y_title="rank correlation with the grade",
        line=0,
        title="Real films: does the map follow the graded zones?",
        width=1000,
    )
    display(figure)

# %% [markdown]
# Brightness stands in the sentence, too. A map that isn't ahead of it may have followed
# what is white, and then no model was needed.

# %%
if films_with_grades is not None:
    bright = rw.stats.format_interval(zones.table.loc["brightness"], "mean")
    on_zones = f"{zones.says('relevance')} Brightness alone has {bright}."
Markdown(f"We see: {on_zones}")

# %% [markdown]
# ### A published classifier, asked in the same way
# Our model has met no real film. Here is one that somebody made from real films: an
# Xception ([arXiv 1610.02357](https://arxiv.org/abs/1610.02357)) that learnt from
# photographs, with a head trained to tell pneumonia from normal on films of children.
# It was published as weights, which state no licence and are used in place. Its films
# are from the archive that our sixteen are from. First its scores, since a map comes
# out whatever the score.

# %%
published = rw.models.load("kermany-xception", download=True)
answers = rw.probe.classify(published, children)
of_children = answers.auroc().set_index("finding").loc["Pneumonia"]
Markdown(
    f"We see, on {len(children)} films, an AUROC of "
    f"{rw.stats.format_interval(of_children)}. So few films can't tell a good model "
    "from a middling one."
)

# %% [markdown]
# Two kinds of maps, which agree on nothing but the question: Grad-CAM follows the
# gradient, occlusion hides one square after the other and waits for the score to fall.
# Its last features are a grid of 5 x 5, so no map of it is finer than that. We take the
# children who are ill: on a healthy film nothing may speak for pneumonia, and then
# there is no map. Would you believe these?

# %%
kinds = ("gradcam", "occlusion")
ill_children = children[children["Pneumonia"] == 1]
ill_scans = [rw.data.scan_of(row) for _, row in ill_children.iterrows()]
how = {"targets": "Pneumonia"}
maps = []
for kind in kinds:
    some = rw.attend.attention_maps(published, ill_scans[:4], method=kind, **how)
    maps += some

# %% [markdown]
# The upper row is Grad-CAM, the lower one occlusion, film by film. Do the two kinds mark
# the same places?

# %%
rw.show.grid(
    ill_scans[:4] * 2,
    maps=maps,
    titles=[kind for kind in kinds for _ in range(4)],
    columns=4,
    title="Four children with pneumonia: what counts?",
)

# %% [markdown]
# Now the checks from above: the weights dealt out at random, and the other class asked
# for. A map that stays as it was knows nothing of this model. Where nothing on an ill
# film speaks for *no finding*, that map is zero, and a warning says so.

# %%
badges = {}
for kind in kinds:
    badges[kind] = rw.attend.sanity_check(
        published,
        ill_scans,
        method=kind,
        target="Pneumonia",
        draws=1,
        groups=ill_children["patient_id"],
    )

# %%
stamped = badges["gradcam"].stamp(maps[0])
title = "Grad-CAM of a published model, with its badge"
rw.show.overlay(ill_scans[0], stamped, title=title)

# %% [markdown]
# And the adults? Where the mirror holds them, we take those films with drawn lungs that
# it calls sick, which they are. A pneumonia is in the lungs, so that is where the maps
# should lie. We measure the *energy*: the share of each map inside the lungs. Beside
# the usual controls stand the maps of the same network with **random weights**. The
# blob in the middle, *centre*, is the one to watch: lungs lie in the middle of any
# film.


# %%
def adults_called_sick(films):
    """Films that the published model calls sick, with both lungs drawn."""
    both = films.dropna(subset=["mask_left_lung", "mask_right_lung"])
    answers = rw.probe.classify(published, both[["path", "patient_id"]])
    called = answers.values["Pneumonia"].to_numpy() > 0.5
    return both[called].head(n_checked)


# %% [markdown]
# `rw.attend.randomised` deals out the entries of each tensor of the network anew: the
# same numbers at other places.


# %%
def published_maps(scans):
    """The maps of both kinds, and those of a network that has learnt nothing."""
    twin = rw.attend.randomised(published, scans[:8])
    how = {"targets": "Pneumonia"}
    ours = {}
    for kind in kinds:
        ours[kind] = rw.attend.attention_maps(published, scans, method=kind, **how)
    blind = rw.attend.control_maps(scans)
    blind["random weights"] = rw.attend.attention_maps(
        twin, scans, method="gradcam", **how
    )
    return ours, blind


# %%
on_adults = on_opacities  # why there are none
if films_with_masks is not None:
    chosen = adults_called_sick(films_with_masks)
    adults = [rw.data.scan_of(row) for _, row in chosen.iterrows()]
    ours, blind = published_maps(adults)
    lungs = [scan.truth["lungs"] for scan in adults]
    how = {"groups": chosen["patient_id"], "score": "energy"}
    in_lungs = rw.attend.compare_maps(ours, blind, lungs, **how)
    on_adults = " ".join(in_lungs.says(kind) for kind in kinds)

# %% [markdown]
# The dashed line is the share of the film that the lungs take: a map that is spread
# evenly lies there.

# %%
if films_with_masks is not None:
    figure = rw.show.bars(
        in_lungs.table.reset_index(),
        x="map",
        y="mean",
        line=np.mean([mask.mean() for mask in lungs]),
        y_title="share of the map inside the lungs",
        title="Adults that a model for children calls sick: does it look at the lungs?",
        width=1000,
    )
    display(figure)

# %% [markdown]
# Three of these adults, with their lungs outlined: how would you explain to a colleague
# what the model saw?

# %%
if films_with_masks is not None:
    pairs = []
    for kind in kinds:
        pairs += badges[kind].stamp(ours[kind][:3])
    titles = ["gradcam"] * 3 + ["occlusion"] * 3
    how = {"titles": titles, "truth": "lungs", "columns": 3}
    figure = rw.show.grid(adults[:3] * 2, maps=pairs, title="Adults called sick", **how)
    display(figure)

# %% [markdown]
# To be ahead of random weights is to have learnt something. To be ahead of the *centre*
# and of *another patient's* map is to have looked at this patient. Only the second
# would help a reader.

# %%
verdicts = [f"- {kind}: {badge.badge}" for kind, badge in badges.items()]
Markdown("We see:\n" + "\n".join(verdicts) + f"\n- adults: {on_adults}")

# %% [markdown]
# To sum up, for which findings is relevance ahead of which control? The answer goes to
# the front page of the gallery, with two numbers from above.


# %%
def ahead_of(control):
    """Findings where relevance is ahead of a control."""
    ahead = []
    for f, comparison in scored.items():
        if comparison.verdicts().loc["relevance", control] == "ahead":
            ahead.append(f)
    return ", ".join(ahead) or "no finding"


controls = ("random", "brightness", "training mask")
beyond = {control: ahead_of(control) for control in controls}
of_relevance = hit.xs("relevance", level="map")
best = of_relevance.sort_values("mean").iloc[-1]

# %% [markdown]
# These four go to the gallery. The first two name findings, the others are numbers.

# %%
rw.book.headline(
    ahead_of_noise=beyond["random"],
    ahead_of_position=beyond["training mask"],
    best_hit_rate=best["mean"],
    nonsense=words.loc["nonsense", "mean"],
)

# %% [markdown]
# And the sentences to take along, each made from what was computed above.

# %%
passing = []
unclear = []
for name, check in checks.items():
    if check.badge.passed is None:
        unclear.append(name)
    elif check.badge.passed:
        passing.append(name)
passed = f"{', '.join(passing) or 'no map'} passes them all"
not_judged = f"not to be judged: {', '.join(unclear) or 'none'}"
graded = f"relevance is ahead of noise for {beyond['random']}, of brightness for "
graded += f"{beyond['brightness']}, of the position alone for {beyond['training mask']}"

# %% [markdown]
# One line for each part of this page. Where relevance is level with a control, the line
# says so, and that is a finding as well.

# %%
lines = [
    f"- **A map can be graded**: {graded}; at best, {best.name}, it hits "
    f"{best['mean']:.0%}.",
    f"- **All findings**: {together.says('relevance')}",
    f"- **Words**: {moved}; nonsense keeps a correlation of "
    f"{words.loc['nonsense', 'mean']:.2f}.",
    f"- **Checks**: {passed}; {not_judged}.",
    f"- **Real films**: {on_opacities} {on_zones}",
    f"- **A published model, in adults**: {on_adults}",
]
Markdown("## What we found\n" + "\n".join(lines))

# %% [markdown]
# ## Where it breaks
# - A map says where the score came from, not that the score is right. Look at the score
#   first.
# - A peak on the lesion may sit on something that always comes with it; only *another
#   patient's* map and the training mask can tell.
# - Labels were dealt out once, and three models trained once: other seeds may say
#   otherwise.
# - Eight patches a side: a lesion smaller than a patch is a matter of luck.
# - One CT's anatomy puts every finding where it was in this one chest, so the position
#   controls do well.
# - Attention is what the model mixes, not what it needs: a weight without a gradient is
#   not evidence.
# - A share inside the lungs says nothing of the place within them, and a grid of 5 x 5
#   on a chest is coarse: one cell is a third of a lung.
# - To pass a sanity check is to change with the question; it is not to be right. And
#   what deletion fills in comes from around: a low effusion is refilled from the white
#   below it.
# - Grad-CAM puts a token's worth back on its own patch; once attention has mixed the
#   tokens, that is a belief.
#
# Next: notebook 5 builds a shortcut on purpose, and the maps are asked to find it.
