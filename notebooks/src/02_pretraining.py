# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 2 · How does a model learn from reports, without a single label?
#
# A radiograph and its report say the same thing in two languages. A model that must find
# out which report belongs to which image has to learn what an effusion looks like, although
# nobody ever marked one.
#
# **You will** cut reports into tokens and a radiograph into patches, write the contrastive
# loss by hand, see why equal reports need care, watch a model learn from random weights,
# pretrain one on your own processor, and find out what it knows of patients it never saw.
#
# **Needs**: notebook 1; 5 minutes on two CPU cores, 1 when the runs are there already.
# **Data**: the simulator on a real CT (LIDC-IDRI, CC BY 3.0). **Model**: it goes on from
# `radwb-tiny`, which the package ships.
#
# *For teaching and research. Not for clinical use.*

# %%
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from IPython.display import Markdown
from torch.nn.functional import normalize

import radwb as rw

# %% [markdown]
# These are the numbers on which this page depends. In a fast run the smaller ones
# behind `fast:` are taken, and the small problem is then too small to be learnt.

# %% tags=["parameters"]
n = 2400  # virtual radiographs in the cohort; notebooks 3 to 5 use the same
epochs = 4  # passes over those for training, on from the released model
n_small = 900  # radiographs of the small problem, learnt from nothing; fast: 300
small_epochs = 15  # passes over those; fast: 2
batch = 64  # images a step

# %% [markdown]
# The table is the one of notebook 1. What does a model get to see of it? Pixels, and the
# impression of each report: its conclusion, without the headings. No label.
#
# `split` was dealt by patient, so nobody in test has a film in train.

# %%
table = rw.data.check_table(rw.simulate.cohort(n=n, seed=0))
train = table[table["split"] == "train"]
test = table[table["split"] == "test"]
captions = table["report"].map(rw.pretrain.caption_of)
captions.head(4).to_frame("impression")

# %% [markdown]
# Let us look at four pairs, one sentence a line.
#
# `scan_of` reads the film of a row, with its millimetres.


# %%
def in_lines(report):
    return "<br>".join(rw.pretrain.captions.sentences(report))


pairs = train.head(4)
rw.show.grid(
    [rw.data.scan_of(row) for _, row in pairs.iterrows()],
    titles=[in_lines(report) for report in pairs["report"]],
    columns=2,
    cell=330,
    title="Pairs: a radiograph and the impression of its report",
)

# %% [markdown]
# A reader who knows what the words mean can match them. The model will have to find out
# both at once, the words and the images.

# %%
Markdown(
    f"{len(train):,} pairs to learn from; {len(test):,} radiographs of "
    f"{test.patient_id.nunique()} other patients wait for the test."
)

# %% [markdown]
# ## What does the model read?
# Not letters and not words: **tokens**, pieces that a byte-pair encoding found to be
# frequent (Sennrich et al. 2016, [arXiv 1508.07909](https://arxiv.org/abs/1508.07909)). It
# begins with letters, and joins the two neighbours that stand together most often, again
# and again. Does it matter on which texts it was trained? We train one on our reports, and
# compare it with characters and with the one that CLIP learnt from the web.
#
# Training a tokenizer is counting, no network learns anything. Afterwards a text is a
# list of numbers, one for each piece. The table has the number of pieces of each caption,
# for three ways to cut it.

# %%
from open_clip import get_tokenizer

texts = sorted(set(captions[train.index]))
ours = rw.models.Tokenizer.train(texts)
web = get_tokenizer("ViT-B-32")
lengths = pd.DataFrame(
    {
        "characters": [len(text) for text in texts],
        "CLIP's, from the web": [len(web.encode(text)) + 2 for text in texts],
        "our own, from reports": [len(ours.encode(text)) for text in texts],
    }
)
lengths.head(3)

# %% [markdown]
# (The 2 are the tokens for start and end, which CLIP's counts apart.) A short caption is a
# cheap one, since the cost of attention grows with the square of its length.
#
# We take the mean over all captions.

# %%
mean_lengths = lengths.mean().rename("tokens").rename_axis("vocabulary")
rw.show.bars(
    mean_lengths.reset_index(),
    x="vocabulary",
    y="tokens",
    y_title="tokens a caption (mean)",
    title="How many steps a caption takes, by vocabulary",
)

# %% [markdown]
# And a word that stands in no report? It isn't lost, it falls into pieces that are known.
#
# `encode` gives numbers, `decode` turns a number back into its piece. The first and the
# last are the marks of start and end.
#
# *Hydropneumothorax* is such a word: fluid and air together, a diagnosis that our
# simulator doesn't make.

# %%
rare = ours.encode("Moderate right hydropneumothorax.")[1:-1]
pieces = " | ".join(ours.decode([token]) for token in rare)
Markdown(
    f"We see {mean_lengths.iloc[2]:.0f} tokens a caption from {ours.vocab_size:,} "
    f"entries, where CLIP needs {mean_lengths.iloc[1]:.0f} from {web.vocab_size:,}. A "
    f"word that no report holds becomes: *{pieces}*."
)

# %% [markdown]
# ## What does the model look at?
# A vision transformer sees a grid of patches, each one token; attention lets them talk
# ([arXiv 2010.11929](https://arxiv.org/abs/2010.11929)). Ours takes one channel, since a
# radiograph has no colours, and a stem of small convolutions makes the patches
# ([arXiv 2106.14881](https://arxiv.org/abs/2106.14881)). How much is a patch?
#
# `clip_tiny` makes a model of two towers, one for images and one for texts, with random
# weights. Its image tower takes squares, so a film that isn't square is padded first.
#
# `H` and `W` are the rows and columns of the film, and `spacing_mm` says how far apart
# they are, so their product is a length on the patient.

# %%
untrained = rw.models.clip_tiny(ours)  # open_clip's CLIP, with random weights
rows, columns = untrained.grid
with_effusion = train[train["Pleural Effusion"] == 1]
scan = rw.data.scan_of(with_effusion.iloc[0])
H, W = scan.shape
row_mm, column_mm = scan.spacing_mm
patch_mm = H * row_mm / rows
f"{rows} x {columns} patches of {patch_mm:.0f} mm"

# %% [markdown]
# We draw the grid over a film with an effusion. Each square is one token.
#
# The axes are millimetres, so a line belongs at a multiple of a patch's side.

# %%
figure = rw.show.scan(
    scan, truth="Pleural Effusion", title="Each square is one token for the transformer"
)
line = dict(color="white", width=0.7)
for edge in range(1, rows):
    figure.add_hline(edge * patch_mm, line=line)
for edge in range(1, columns):
    figure.add_vline(edge * W * column_mm / columns, line=line)
figure

# %% [markdown]
# Fluid collects first in the costophrenic angle, a corner not much larger than one of
# these squares. A finding that is
# much smaller than a patch must be told from the texture inside it. To the patches comes
# one *class token*, which belongs to no place and gathers what the image says as a whole.
#
# `numel` is the number of elements of one array of weights.

# %%
parameters = sum(p.numel() for p in untrained.net.parameters())
Markdown(
    f"We see {rows} x {columns} patches of {patch_mm:.0f} mm, so {rows * columns + 1} "
    f"tokens with the class token. The two towers together have {parameters / 1e6:.1f} "
    "million weights."
)

# %% [markdown]
# ## What is the exercise? The loss by hand
# Each image and each text becomes a point of unit length. In a batch of `B` pairs, image `i`
# must pick its text among `B`, and text `i` its image: two softmax cross-entropies over the
# same matrix of cosines, divided by a temperature (InfoNCE; CLIP, Radford et al. 2021,
# [arXiv 2103.00020](https://arxiv.org/abs/2103.00020)).
#
# A *softmax* turns scores into shares that sum to one, and *cross-entropy* is minus the
# logarithm of the share that the right answer gets. Scores before the softmax are
# called logits.


# %%
def info_nce(images, texts, scale):
    logits = scale * images @ texts.T  # (B, B), row i: image i against all texts
    right = logits.diagonal()  # (B,)
    per_image = logits.logsumexp(1) - right
    per_text = logits.logsumexp(0) - right
    return (per_image.mean() + per_text.mean()) / 2


# %% [markdown]
# Five lines. `logsumexp` is the logarithm of what all candidates have together, and the
# right one is taken off: the loss is 0 when it has everything. We compare it with
# open_clip's on random points.
#
# A scale of one over 0.07 is what CLIP begins with.

# %%
from open_clip.loss import ClipLoss

generator = torch.Generator().manual_seed(0)
points = normalize(torch.randn(2, batch, 32, generator=generator), dim=-1)
scale = torch.tensor(1 / 0.07)
rw.check.matches(info_nce, ClipLoss(), *points, scale)

# %% [markdown]
# What does a model score to which all images look alike, and all texts? We give it one point
# for all of them.
#
# `expand` repeats the first point without copying it.

# %%
one_image = points[0][:1].expand(batch, -1)
one_text = points[1][:1].expand(batch, -1)
blind = info_nce(one_image, one_text, 14.0)
Markdown(
    f"A model to which all look alike has a loss of {blind:.3f}, and ln({batch}) is "
    f"{np.log(batch):.3f}."
)

# %% [markdown]
# A curve that stays there learns nothing: remember the number.
#
# ## What does the temperature do?
# Cosines lie between -1 and 1: too close together for a softmax. A scale of one over the
# temperature, itself learnt, spreads them. Here one right pair stands against `B - 1` wrong
# ones, at a cosine that is 0.3 higher.
#
# The softmax gives the right pair `exp(0.3 s)` against 1 for each wrong one, where `s`
# is the scale.

# %%
scales = np.array([1, 2, 5, 10, 14.3, 20, 50, 100])
advantage = np.exp(0.3 * scales)
right_share = advantage / (advantage + batch - 1)  # what the softmax gives the pair
wrong_share = (1 - right_share) / (batch - 1)
sharp = pd.DataFrame({"scale": scales, "right": right_share, "each wrong": wrong_share})
rw.show.curve(
    sharp,
    x="scale",
    panels={"probability": ["right", "each wrong"]},
    title="What a softmax makes of a lead of 0.3, by scale",
)

# %% [markdown]
# At a small scale even a perfect model can't show that it knows. At a very large one it must
# be certain, and a single wrong pair costs much.
#
# The curve is steep in the middle, and CLIP begins there.

# %%
Markdown(
    f"We see {right_share[0]:.1%} for the right pair at a scale of 1, hardly more than "
    f"chance ({1 / batch:.1%}), {right_share[4]:.0%} at CLIP's start of 14.3, and "
    f"{right_share[-1]:.0%} at its bound of 100."
)

# %% [markdown]
# ## Which reports are wrong answers?
# CLIP takes every other text of the batch for wrong. But reports repeat, and *no acute
# findings* is right for every healthy chest. How often does a batch hold the same words
# twice? We draw one, sort it by its words, and mark every pair that is equal.
#
# `words[:, None] == words[None, :]` compares each text with each other one.
#
# If the marks lay on the diagonal alone, every text would be one image's and the
# exercise would be fair. Each mark beside it is a pair that the loss calls wrong and a
# radiologist would call right.

# %%
drawn_captions = captions[train.index].sample(batch, random_state=0)
words = drawn_captions.sort_values().to_numpy()
same = words[:, None] == words[None, :]  # (B, B)
rw.show.heatmap(
    same.astype(float),
    label="same words",
    x_title="texts",
    y_title="images",
    title="Off the diagonal: right answers that CLIP punishes",
)

# %% [markdown]
# The blocks are impressions that several patients share, such as those of healthy chests.
#
# The diagonal doesn't count, since there a text meets itself.

# %%
wrongly = (same.sum() - batch) / (batch * (batch - 1))
Markdown(
    f"We see {len(set(words))} different impressions among {batch}; {wrongly:.1%} of "
    "all pairs that the loss would push apart are equal, and no model could tell them "
    "apart."
)

# %% [markdown]
# ### Exercise 1: targets that share
# Give each image a row of targets that sums to one: equal shares for all texts of the batch
# that are the same as its text. Captions come as numbers; equal numbers are equal captions.
# For the numbers 7, 3, 7 the first row is a half, zero, a half.


# %%
def targets(ids):
    """(B,) caption numbers -> (B, B) targets."""
    raise NotImplementedError


# %% [markdown]
# *Hints.* If the rows sum to more than one, equal captions have not shared. If the
# check complains about the case in which all differ, the diagonal is missing. Comparing
# a column with a row, `ids[:, None]` with `ids[None, :]`, gives every pair at once.


# %% tags=["solution"] jupyter={"source_hidden": true}
def targets_solution(ids):
    same = (ids[:, None] == ids[None, :]).float()
    return same / same.sum(dim=1, keepdim=True)


# %% [markdown]
# Three cases: two equal captions of three, five that all differ, and four that are the same.

# %%
id_lists = [torch.tensor([7, 3, 7]), torch.arange(5), torch.zeros(4)]
cases = [(ids,) for ids in id_lists]
for mine in (targets, targets_solution):
    rw.check.matches(mine, rw.pretrain.same_captions, cases=cases)

# %% [markdown]
# With these targets in the place of the diagonal, and nothing else changed,
# `rw.pretrain.SameCaptionLoss` is open_clip's loss. Where all captions differ, they are
# equal.
#
# So we give each of the random points a caption number of its own, and both losses must
# be the same.
#
# The star hands over the two rows of `points` as two arguments.

# %%
distinct = torch.randperm(batch, generator=torch.Generator().manual_seed(1))
scale = torch.tensor(14.3)
shared = rw.pretrain.SameCaptionLoss()
plain = ClipLoss()
rw.check.close(shared(*points, scale, distinct), plain(*points, scale))

# %% [markdown]
# ## What if a report says several things at once?
# *Small right effusion. Mild cardiomegaly. No pneumothorax.* As one text, this is seen once
# and never again, and nothing says which part of it belongs to what in the image. So each
# image gets
# four sentences drawn from its report, and a sentence is right for every image of the batch
# whose report has it (many right answers: Yang et al. 2022,
# [arXiv 2204.03610](https://arxiv.org/abs/2204.03610)).
#
# `log_softmax(1)` is the logarithm of each sentence's share in a row, and the mean is
# taken over the right ones. With a single right one in each row it would be the loss
# from above.
#
# By hand this is a small change of the loss above. There are now more texts than
# images, and more than one right answer in each row and column.


# %%
def by_sentence(images, sentences, scale, right):
    """right: (B, S), 1 where the report of the image has the sentence."""
    logits = scale * images @ sentences.T  # (B, S)
    of_image = right * logits.log_softmax(1)
    of_sentence = right * logits.log_softmax(0)
    per_image = -of_image.sum(1) / right.sum(1)
    per_sentence = -of_sentence.sum(0) / right.sum(0)
    return (per_image.mean() + per_sentence.mean()) / 2


# %% [markdown]
# A **recipe** is the package's name for such an exercise: what is drawn for a batch, and
# what it costs to be wrong. This one numbers all sentences of the training reports, and
# draws four for each image. Which of the drawn ones are right for which image?
#
# `drawn` has the numbers of the sentences that were drawn, and `in_report` those of all
# sentences of each report.
#
# Another seed would draw other sentences of the same reports, so that a model meets all
# of them in time.

# %%
task = rw.pretrain.RECIPES["sentences-tiny"](untrained, train)
tokens, drawn, in_report = task.targets(range(batch), seed=0)  # drawn: (B, 4)
matches = in_report[:, :, None] == drawn.flatten()
right = matches.any(1).float()  # (B, 4 B)
right.shape

# %% [markdown]
# We stand in for both towers with random points, one an image and four sentences each, and
# compare our loss with the recipe's.

# %%
generator = torch.Generator().manual_seed(0)
vectors = torch.randn(5, batch, 192, generator=generator)
unit = normalize(vectors, dim=-1)
image_points = unit[0]  # (B, E)
sentence_points = unit[1:].transpose(0, 1)  # (B, 4, E)
both = (image_points, sentence_points)
by_recipe = task.loss_of(both, tokens, drawn, in_report)
scale = untrained.net.logit_scale.exp()
by_hand = by_sentence(image_points, sentence_points.flatten(0, 1), scale, right)
rw.check.close(by_hand.detach(), by_recipe.detach())

# %% [markdown]
# What is a guess worth now? An image looks among `4 B` sentences, and a sentence among `B`
# images, so it is the mean of two logarithms.
#
# `task.spoken` is the list of all sentences, and `task.counts` how many each report
# has.

# %%
guess = np.log(batch) + np.log(4) / 2  # the mean of ln(B) and ln(4 B)
Markdown(
    f"We see {len(task.spoken):,} different sentences in {len(train):,} reports, "
    f"{task.counts.float().mean():.1f} to a report; each drawn one is right for "
    f"{right.sum(0).mean():.1f} of {batch} images. A model that tells nothing apart "
    f"has {guess:.2f} now."
)

# %% [markdown]
# ## Is telling pairs apart the only exercise?
# No. Each family of foundation models has its own, and each is a few lines. *SigLIP* asks of
# every pair by itself whether it belongs together (Zhai et al. 2023,
# [arXiv 2303.15343](https://arxiv.org/abs/2303.15343)). Nothing is compared with the rest of
# the batch, so a batch can be small.
#
# `sign` is +1 on the diagonal and -1 elsewhere, and the loss is that of as many
# yes-or-no questions as there are places in the matrix.

# %%
from open_clip.loss import SigLipLoss


def siglip(images, texts, scale, bias):
    sign = 2 * torch.eye(len(images)) - 1  # +1 for a pair, -1 for all others
    logits = scale * images @ texts.T + bias
    losses = torch.log1p(torch.exp(-sign * logits))
    return losses.sum() / len(images)


rw.check.matches(siglip, SigLipLoss(), *points, 10.0, -10.0)

# %% [markdown]
# *SimCLR* needs no text: two views of an image must find each other among all others (Chen
# et al. 2020, [arXiv 2002.05709](https://arxiv.org/abs/2002.05709)). A view is the image
# cropped, turned or made brighter. What both have in common is what the model learns.
#
# The views of the whole batch stand in one list. An image may not find itself, so the
# diagonal is taken out.


# %%
def simclr(a, b, temperature):
    z = torch.cat([a, b])  # (2B, E)
    logits = z @ z.T / temperature
    logits.fill_diagonal_(-torch.inf)  # none with itself
    second = logits.diagonal(len(a))  # of each first view its second
    first = logits.diagonal(-len(a))  # and the other way round
    partner = torch.cat([second, first])
    return (logits.logsumexp(1) - partner).mean()


rw.check.matches(simclr, rw.pretrain.objectives.simclr, *points, 0.1)

# %% [markdown]
# A *masked autoencoder* hides most of an image and has to paint it (He et al. 2022,
# [arXiv 2111.06377](https://arxiv.org/abs/2111.06377)). What is left for it to go by?
#
# `random_mask` draws the patches that are hidden, and `np.kron` makes each of them a
# square of pixels, so that we can see it.

# %%
hidden = rw.pretrain.objectives.random_mask(1, rows * columns, 0.6, seed=0)  # (1, T)
squares = hidden.view(rows, columns).numpy()
one_patch = np.ones((H // rows, W // columns), bool)
covered = np.kron(squares, one_patch)  # (H, W)
grey = np.where(covered, np.float32(0.5), scan.pixels)
masked = replace(scan, pixels=grey)
rw.show.grid(
    [scan, masked],
    titles=["what was there", "what the model sees"],
    cell=330,
    title=f"The exercise: paint {hidden.float().mean():.0%} of the patches",
)

# %% [markdown]
# Neighbours, and the knowledge that a chest has two sides. The loss is the squared error on
# the hidden patches alone. Each is brought to mean 0 and variance 1 first, so that a bright
# patch counts no more than a dark one.
#
# `unfold` cuts an axis into pieces of equal length, first the rows, then the columns.


# %%
def mae(painted, image, hidden, patch):
    grid = image.unfold(2, patch, patch).unfold(3, patch, patch)
    tiles = grid.reshape(len(image), -1, patch**2)  # (B, T, P)
    mean = tiles.mean(-1, keepdim=True)
    spread = (tiles.var(-1, keepdim=True) + 1e-6).sqrt()
    target = (tiles - mean) / spread
    error = (painted - target).square().mean(-1)  # (B, T)
    return error[hidden].mean()


# %% [markdown]
# In place of a painter we take random numbers. Both losses must agree on them.

# %%
image = untrained.preprocess(scan)
patch = untrained.size // rows
generator = torch.Generator().manual_seed(0)
painted = torch.randn(1, rows * columns, patch**2, generator=generator)
rw.check.matches(mae, rw.pretrain.objectives.mae, painted, image, hidden, patch)

# %% [markdown]
# *DINO*'s student says of its view what a teacher, the moving average of the student
# itself, says of another (Caron et al. 2021,
# [arXiv 2104.14294](https://arxiv.org/abs/2104.14294)). Why don't both always give the same
# answer? Because the mean of the answers is taken off, the *centre*. What happens if we
# leave that out? We train two very small ones, on 16 films.
#
# `centring` is a switch of the recipe. Their towers have a single layer and see small
# squares, so both are trained in seconds.

# %%
sixteen = train.head(16)
films = torch.from_numpy(rw.data.images(sixteen, 64))


def small_dino(centring):
    tower = rw.models.supervised_tiny([], shape={"size": 64, "layers": 1})
    task = rw.pretrain.RECIPES["dino-tiny"](tower, sixteen)
    task.centring = centring
    return task


# %% [markdown]
# After each step we ask for the entropy of the teacher's answers: large when films get many
# different answers, zero when all get the same.
#
# It is the loop of notebook 0 with one more line. `after_step` moves the teacher a little
# towards the student.


# %%
def entropies(task, steps=40):
    weights = [p for p in task.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=1e-3)
    measured = []
    for step in range(steps):
        task(task.two_views(films, torch.arange(16), seed=10 * step)).backward()
        optimizer.step()
        optimizer.zero_grad()
        task.after_step(step / steps)
        with torch.no_grad():
            measured.append(task.validate(films, batch=16)["teacher_entropy"])
    return measured


# %% [markdown]
# The answer of the teacher is a choice among 64, so the entropy is at most ln(64).
#
# Both begin with the same weights and see the same views in the same order, so whatever
# parts the two curves is the centre.

# %%
with_centre = entropies(small_dino(True))
without = entropies(small_dino(False))
dino = pd.DataFrame({"with centre": with_centre, "without": without})
dino["step"] = dino.index + 1
axis = "entropy of the mean answer (nats)"
rw.show.curve(
    dino,
    panels={axis: ["with centre", "without"]},
    lines={axis: np.log(64)},
    title="DINO with and without its centre",
    caption="16 radiographs, 64 possible answers; dashed: all answers equally often",
)

# %% [markdown]
# Without the centre, student and teacher agree by always saying the same. Their loss is
# perfect, and they have learnt nothing: this is called *collapse*.

# %%
Markdown(
    f"We see {with_centre[-1]:.1f} nats with the centre and {without[-1]:.1f} without: "
    f"in effect {np.exp(with_centre[-1]):.0f} different answers against "
    f"{np.exp(without[-1]):.1f}."
)

# %% [markdown]
# ## What may we change in an image?
# A model that sees the same film at each pass learns it by heart. So we move it, turn it,
# show it in another window and with other noise. What we must not change is what the report
# says. Does a crop, as it is usual with photographs?
#
# We take the training films on which a lung lesion can be seen. Behind an effusion there may
# be nothing to see of it.
#
# `truth` has the mask of each finding, and `any` asks whether a pixel of it is left.

# %%
lesion = "Lung Lesion"
ill = []
for _, row in train[train[lesion] == 1].iterrows():
    film = rw.data.scan_of(row)
    if film.truth[lesion].any():
        ill.append(film)
f"{len(ill)} films"

# %% [markdown]
# All of them as one array of pixels, and one of masks.
#
# `[:, None]` puts in an axis of length one, for the single channel.

# %%
pixels = np.stack([film.pixels for film in ill])
masks = np.stack([film.truth[lesion] for film in ill])
x = torch.from_numpy(pixels)[:, None]  # (B, 1, S, S)
lesions = torch.from_numpy(masks)  # (B, S, S)
x.shape

# %% [markdown]
# Then we crop each of them at random, to at least half a side, once anywhere and once so
# that 90 % of the lesion stays in. In how many is nothing of it left?
#
# Images and masks are cropped together. `wilson` gives the interval of a share.

# %%
anywhere, masks_anywhere = rw.pretrain.crop_keeping(x, lesions, seed=0, keep=0)
keeping, masks_keeping = rw.pretrain.crop_keeping(x, lesions, seed=0, keep=0.9)
lost = ~masks_anywhere.flatten(1).any(1)
lost_too = ~masks_keeping.flatten(1).any(1)
lost.shape, lost_too.shape  # (B,)

# %% [markdown]
# Each film of the training set counts once here.

# %%
n_lost = int(lost.sum())
low, high = rw.stats.wilson(n_lost, len(lost))
Markdown(
    f"We see that a crop leaves nothing of the lesion in {n_lost} of {len(lost)} films "
    f"({n_lost / len(lost):.0%}, 95 % interval {low:.0%} to {high:.0%}), and in "
    f"{lost_too.sum()} of them when it is drawn again until 90 % of it is in."
)

# %% [markdown]
# The reports of the films that lost it would be false. Here is one of them: as it is, three
# times as our recipe changes it, and cropped in both ways.
#
# `augment` takes a seed, so that the same film gets another change each time, and the
# same change when a run is repeated.


# %%
def as_scan(image, mask=None):
    truth = {}
    if mask is not None:
        truth[lesion] = mask.numpy()
    return rw.data.Scan(image.squeeze().numpy(), truth=truth)


at = int(lost.int().argmax())  # the first that loses its lesion
film = x[at : at + 1]
augmented = [rw.pretrain.augment(film, seed=seed) for seed in range(3)]
changed = [as_scan(image) for image in augmented]
cropped = as_scan(anywhere[at], masks_anywhere[at])
kept_in = as_scan(keeping[at], masks_keeping[at])
f"film {at} of {len(ill)}"

# %% [markdown]
# The outline is the lesion. Look for it in each of the two crops.

# %%
rw.show.grid(
    [as_scan(film, lesions[at]), *changed, cropped, kept_in],
    titles=[
        "as it is",
        *["moved, turned, another window"] * 3,
        "cropped anywhere",
        "cropped, and the lesion kept",
    ],
    columns=3,
    truth=True,
    title="What the report says must stay in the image",
)

# %% [markdown]
# Our recipe doesn't crop; those that compare two views of an image, and read no report, do.
#
# ## Can we watch a model learn?
# What a short run on the whole cohort learns is hard to see: ten findings, some of them
# faint, in hundreds of different impressions. So we make the problem small. Four findings,
# drawn stronger than in life; films of 80 px; reports of a few words. Towers, loss (with its
# shared targets), augmentation and optimiser are those of any run.
#
# The simulator has dials for all of this: how often each finding is drawn, how strong,
# and how many films are free.

# %%
drawn_findings = ["Cardiomegaly", "Edema", "Consolidation", "Pleural Effusion"]
often = dict.fromkeys(rw.simulate.PLANTED, 0.0)
for name in drawn_findings:
    often[name] = 0.3  # of the films have it
dials = rw.simulate.Dials(prevalence=often, together={}, drain=0.0, healthy=0.1)
small = rw.simulate.cohort(n=n_small, seed=5, size=80, visibility=3.0, dials=dials)
small[drawn_findings].mean().rename("share of the films").to_frame()

# %% [markdown]
# Its reports, too, are made small: what is there, and on which side. Nothing is hedged,
# nothing is denied.
#
# The table has the side of each finding in a column of its name.


# %%
def in_words(row):
    words = []
    for name in drawn_findings:
        if row[name] == 1:
            side = str(row.get(f"{name} side", "")).replace("both", "bilateral")
            words.append(f"{side} {name}.".strip().capitalize())
    if not words:
        return "No finding."
    return " ".join(words)


small["report"] = [in_words(row) for _, row in small.iterrows()]
small["report"].head(3).to_frame()

# %% [markdown]
# Six films with different reports:

# %%
shown = small.drop_duplicates("report").head(6)
rw.show.grid(
    [rw.data.scan_of(row) for _, row in shown.iterrows()],
    titles=list(shown["report"].str.replace(". ", ".<br>")),
    columns=3,
    title="The small problem: a film and all of its report",
)

# %% [markdown]
# You would learn this in an afternoon. How many examples does the model get?
#
# The patients of *val* are there to follow the run, those of *test* are asked once, at
# the end. Whoever looks at the test again and again fits to it without noticing.

# %%
sizes = small["split"].value_counts()
Markdown(
    f"{sizes['train']} pairs to learn from, with {small['report'].nunique()} different "
    f"reports; {sizes['val']} of other patients to follow it by, {sizes['test']} of "
    "yet others for the end."
)

# %% [markdown]
# The weights are random. Each step draws a batch of films with their reports; the films are
# a little shifted, turned and brightened, but never mirrored: left and right are findings.
# The same line runs on eight GPUs with `devices=8`. Stop it and run it again: it goes on
# where it was, to the same weights.
#
# What would you expect of the loss, and of the matrix? The figure below follows the run, in
# JupyterLab.
#
# The figure has two parts: the loss as it falls, and a matrix of eight films and their
# reports, as it is now.

# %%
held_out = small.loc[small["split"] == "val", "report"]
plot = rw.show.live(held_out, batch=batch)
plot

# %% [markdown]
# `fit` makes a model for the recipe, trains it on the rows whose split is *train*, and
# watches those whose split is *val*. It writes into the folder `out`, so that the
# result can be loaded later.
#
# One *pass* is a look at each training film, in batches. After each pass the loop
# measures what it can't learn from, the films of *val*, and writes all of it into the
# log. If this notebook is stopped here and run again, it goes on from the last pass.

# %%
lesson = rw.pretrain.fit(
    small,
    recipe="clip-tiny",
    out="../runs/clip-lesson",
    epochs=small_epochs,
    batch=batch,
    size=80,
    context=24,
    callback=plot,
)

# %% [markdown]
# A run that was there already has shown nothing, so we replay its log. Then we let
# `diagnose` look at it, as one should with every run, before anything is read from it. Each
# check has a verdict, and a few words that say why.
#
# The verdict is *ok* or *warning*, and *not applicable* where a check has nothing to
# look at.

# %%
if lesson.reused:
    plot.replay(lesson.log)
health = rw.pretrain.diagnose(lesson, small)
health[["name", "verdict", "says"]].style.hide(axis="index")

# %% [markdown]
# How did it come about? The log has one row a step. We smooth the training loss, and draw
# beside it the loss on other patients, once a pass, and the share of their films that find
# their own report first. Always giving the commonest report is right quite often, so that is
# the dashed line of the second panel.
#
# `ewm` is a mean in which the latest steps count most. A single step is noisy, since
# its batch is small.

# %%
names = {"val_loss": "other patients", "image_to_text_recall_1": "own report first"}
steps = lesson.log.rename(columns=names)
steps["training"] = steps["loss"].ewm(halflife=5).mean()
taught = small.loc[small["split"] == "train", "report"]
commonest = taught.mode()[0]
usual = (held_out == commonest).mean()
share_axis = "share of other patients' films"
panels = {"loss": ["training", "other patients"], share_axis: ["own report first"]}
dashed = {"loss": np.log(batch), share_axis: usual}
rw.show.curve(
    steps, panels=panels, lines=dashed, title="From random weights, step by step"
)

# %% [markdown]
# The dashed line on the left is the loss of a guess, the one to remember. The first and the
# last measurement say what the run has gained.
#
# Only the end of each pass has a measurement on other patients, all other rows are
# empty there.

# %%
measured = steps.dropna(subset="other patients")
first = measured.iloc[0]
last = measured.iloc[-1]
losses = first["other patients"], last["other patients"]
hits = first["own report first"], last["own report first"]
gained = (
    f"On patients it never saw the loss goes from {losses[0]:.2f} after one pass to "
    f"{losses[1]:.2f} after {small_epochs}, where a guess has {np.log(batch):.2f}. "
    f"Their films find their own report first in {hits[0]:.0%} after one pass and in "
    f"{hits[1]:.0%} at the end; always *{commonest}* would be right in {usual:.0%}."
)
Markdown(rw.pretrain.if_healthy(health, gained))

# %% [markdown]
# `if_healthy` lets the sentence stand only when the run is healthy. If not, it says so
# instead, since numbers of a sick run mean nothing.
#
# And which words go with which films? We take the films of the test patients whose report is
# one sentence, and average their cosines: each row the films that have this report, each
# column a report.
#
# `groupby` then takes the mean over the films that have the same report.

# %%
of_test = small[small["split"] == "test"]
single = of_test[of_test["report"].str.count(r"\.") == 1]
reports = sorted(single["report"].unique())


def mean_cosines(model):
    with torch.no_grad():
        report_points = model.encode_text(reports).numpy()
    cosines = rw.models.embed(model, single) @ report_points.T  # (N, K)
    by_film = pd.DataFrame(cosines, columns=reports)
    return by_film.groupby(single["report"].to_numpy()).mean()  # (K, K)


# %% [markdown]
# How many rows have their largest value on the diagonal, where films and reports belong
# together? The title of the figure will say it.
#
# `argmax` gives the place of the largest value of each row. On the diagonal it is the
# row's number.


# %%
def rows_right(matrix):
    largest = matrix.to_numpy().argmax(axis=1)
    return int((largest == np.arange(len(matrix))).sum())


def show_cosines(matrix, when):
    return rw.show.heatmap(
        matrix,
        label="mean cosine",
        x_title="report",
        y_title="films of",
        title=f"{when}: report nearest in {rows_right(matrix)} of {len(matrix)} rows",
    )


# %% [markdown]
# First as the run began. A model with the same shape and the same seed has the same random
# weights.

# %%
shape = lesson.model.spec["shape"]
beginning = rw.models.clip_tiny(lesson.model.tokenizer, shape=shape)
before = mean_cosines(beginning)
show_cosines(before, "before")

# %% [markdown]
# The columns differ and the rows hardly do: the model says the same of all films. And as the
# run ended:

# %%
after = mean_cosines(lesson.model)
show_cosines(after, "after")

# %% [markdown]
# A guess would be right in one row, on average.

# %%
on_diagonal = (
    "On the diagonal lies the largest value of "
    f"{rows_right(before)} rows before and of {rows_right(after)} after, "
    f"of {len(reports)}."
)
Markdown(rw.pretrain.if_healthy(health, on_diagonal))

# %% [markdown]
# Nobody told the model what an effusion is, or which side is which.
#
# ## What does a long run look like?
# The released model, `radwb-tiny`, had the whole problem: films of patients that none of our
# notebooks shows, all ten findings as strong as in the cohort, reports in full, by the
# sentence. It was made in two trainings. This is the log of the first, from random weights
# to `radwb-tiny-v2`, as the package ships it: some of its steps and the end of each pass.
# Where would your patience have ended?
#
# `Run` reads the folder of a run, and its `log` is a table.

# %%
shipped = rw.pretrain.Run(rw.models.zoo.SHIPPED / "radwb-tiny-v2")
long = shipped.log.rename(columns=names)
long["training"] = long["loss"].ewm(halflife=3).mean()
rw.show.curve(
    long,
    panels=panels,
    lines={"loss": guess},
    title="The training of radwb-tiny-v2",
    caption="dashed: the loss of a guess",
)

# %% [markdown]
# It goes fast at first, then slower and slower. When was half of the way gone?

# %%
ends = long["other patients"].dropna().to_numpy()  # a pass each
minutes = long["seconds"].iloc[-1] / 60
halfway = (guess + ends[-1]) / 2
half = 1 + int((ends < halfway).argmax())
Markdown(
    f"{long['step'].iloc[-1]:,} steps in {minutes:.0f} minutes by the clock. The loss "
    f"on other patients is {ends[0]:.2f} after the first pass and {ends[-1]:.2f} after "
    f"the last of {len(ends)}; a guess has {guess:.2f}. Half of that way was gone "
    f"after pass {half}."
)

# %% [markdown]
# ## Then go on from the released model
# That is what one does with a foundation model; its `model_card.md` says how it was made.
# After `radwb-tiny-v2` came films as other machines make them, other builds, wider wording,
# and the simulator's masks, on whose patches a finding's phrase had to be found. It saw
# none of our patients. We go on for a few passes, and the notebooks that follow use the
# result.
#
# `start` names the model whose weights the run begins with. `lr` is the learning rate,
# the length of a step. It is a small one, so that what is known isn't unlearnt.

# %%
run = rw.pretrain.fit(
    table,
    recipe="sentences-tiny",
    start="radwb-tiny",
    out="../runs/clip-tiny",
    epochs=epochs,
    batch=batch,
    lr=3e-4,
)
model = run.model

# %% [markdown]
# A run is a folder with weights, settings, log and a model card. The settings say what was
# done, so that it can be done again.
#
# `reused` says whether the result was there. Settings and data must be the same for
# that, down to the last pixel; otherwise the run begins anew.

# %%
config = run.config
state = "is new"
if run.reused:
    state = "was there already, and was taken as it is"
Markdown(
    f"The run {state}: {config['n_train']:,} images, {len(run.log):,} steps, "
    f"{config['seconds'] / 60:.1f} minutes."
)

# %% [markdown]
# *Training* is the loss of the films of each step, smoothed. *Other patients* is the
# loss on films that are not learnt from. As long as both fall, more training helps.
# When the second one turns and rises, the model has begun to learn films by heart.
#
# The same picture as before, now for this run:

# %% tags=["headline"]
log = run.log.rename(columns=names)
log["training"] = log["loss"].ewm(halflife=10).mean()
rw.show.curve(
    log,
    panels={"loss": ["training", "other patients"]},
    lines={"loss": guess},
    title="On from radwb-tiny",
    caption="dashed: the loss of a guess",
)

# %% [markdown]
# It begins far below the dashed line, since it begins with what radwb-tiny knows. What a
# model knows of the images it learns from, and of no others, is *memorised*.
#
# Half of the gain would be much. A model that is trained for many passes on few films
# gets there.

# %%
checks = rw.pretrain.diagnose(run, table)
memory = checks.set_index("name").loc["memorised", "says"]
Markdown(
    f"The loss is {log['training'].iloc[-1]:.2f} at the end on the images that it "
    f"learns from, and {log['other patients'].dropna().iloc[-1]:.2f} on other "
    f"patients. Our check says: {memory}."
)

# %% [markdown]
# Can it be taken elsewhere? `rw.models.save` writes a model into a folder: its weights as
# plain tensors, its tokenizer, and a file of words that says how images are prepared. Nothing
# in it is code that runs when it is read. We load it again, and compare.
#
# The two models must give the same points for the same films.

# %%
models_folder = Path(tempfile.mkdtemp())
saved = rw.models.save(model, models_folder / "my-model")
again = rw.models.load(saved)
ten = test.head(10)
points_before = rw.models.embed(model, ten)
points_after = rw.models.embed(again, ten)
rw.check.close(points_after, points_before)
sorted(file.name for file in saved.iterdir())

# %% [markdown]
# ## Is the model healthy?
# A loss that falls can hide a model that has collapsed: all its points in one place, or on a
# line. What it answers then is noise, whatever the question, and we don't read it. Each check
# stands beside a control: random vectors, the untrained network, texts of other patients.
#
# *Value* is what was measured, *control* what the control gives. An *effective rank*
# says in how many directions points really differ, and a *mean cosine* near 1 says that
# all of them lie in one place.

# %%
checks.style.hide(axis="index").format(precision=2, na_rep="-")

# %% [markdown]
# What do the same checks say of a model that hasn't begun?
#
# We ask the same of the untrained model, as a test of the checks: if they found nothing
# there, they would find nothing anywhere.


# %%
def warnings_of(checks):
    return list(checks.loc[checks["verdict"] == "warning", "says"])


of_random = warnings_of(rw.pretrain.diagnose(untrained, table))
Markdown(
    f"{len(warnings_of(checks))} warnings for the continued run. For random weights "
    f"there are {len(of_random)}: {'; '.join(of_random)}."
)

# %% [markdown]
# ## Might we have mirrored the images?
# Photographs are mirrored in training as a matter of course. Here *left* and *right* stand in
# the report. We ask the model for the side of a one-sided effusion, on each film and on its
# mirror image.
#
# The answer is the nearer of two sentences, such as *small left pleural effusion* and
# *small right pleural effusion*, and small, moderate and large are asked in turn.

# %%
sides = rw.probe.laterality_check(model, test)
rw.show.bars(
    sides.rename_axis("image").reset_index(),
    x="image",
    y="right",
    line=0.5,
    y_title="side as in the report (share)",
    title="The reported side, on films and on their mirror images",
    caption=f"{sides['n'].iloc[0]} films with an effusion on one side; 95 % intervals",
)

# %% [markdown]
# A model that reads sides is right on films, and wrong on mirror images, where the effusion
# has changed sides and the report hasn't. One that doesn't is at a half in both.
#
# The first number should have its interval above a half, the second below. The sentence
# says so only if both are true.

# %%
on_film = sides.loc["film"]
on_mirror = sides.loc["mirror"]
reads = "Whether it reads sides stays open"
if on_film["low"] > 0.5 > on_mirror["high"]:
    reads = "It reads sides"
seen = (
    "We see the reported side on "
    f"{rw.stats.format_interval(on_film, 'right')} of the films and on "
    f"{rw.stats.format_interval(on_mirror, 'right')} of their mirror images. {reads}."
)
Markdown(rw.pretrain.if_healthy(checks, seen))

# %% [markdown]
# So a mirrored training image has a false report, unless that is rewritten.
#
# ## What has changed?
# Eight patients that it never saw, with eight different impressions, before and after: each
# row an image, each column a text. What should the matrix look like?
#
# `drop_duplicates` keeps the first film of each impression.

# %%
impressions = captions[test.index]
eight = impressions.drop_duplicates().head(8)


def eight_by_eight(model):
    with torch.no_grad():
        text_points = model.encode_text(list(eight)).numpy()
    image_points = rw.models.embed(model, table.loc[eight.index])
    return image_points @ text_points.T


# %% [markdown]
# The title counts the images whose own text is the nearest of the eight.


# %%
def heatmap_of(cosines, when):
    nearest = cosines.argmax(axis=1)
    hits = (nearest == np.arange(len(eight))).sum()
    title = f"{when}: {hits} of {len(eight)} images pick their own text"
    names = list(eight)
    return rw.show.heatmap(cosines, rows=names, columns=names, title=title)


# %% [markdown]
# We look at the model before, with its random weights.

# %%
heatmap_of(eight_by_eight(untrained), "before")

# %% [markdown]
# With random weights all cosines are nearly the same. After the training:

# %%
heatmap_of(eight_by_eight(model), "after")

# %% [markdown]
# Where it errs, read both texts: they often share a finding.
#
# ## Does it find the report of a patient it never saw?
# Rank all different impressions of the test set for each image: is the right one among the
# first five? This is called *recall at 5*. We number the different texts first.

# %%
groups, numbers = np.unique(impressions, return_inverse=True)  # U texts; (N,)


def nearest_five(model):
    with torch.no_grad():
        text_points = model.encode_text(list(groups)).numpy()  # (U, E)
    similarity = rw.models.embed(model, test) @ text_points.T  # (N, U)
    return np.argsort(-similarity, axis=1)[:, :5]


def is_hit(nearest, own_text):
    return (nearest == own_text[:, None]).any(axis=1)  # (N,)


# %% [markdown]
# What is the answer worth? Reports repeat, so always giving the five commonest impressions
# of the training set is right quite often. Two more controls: the untrained model, and the
# trained one with its texts dealt to other patients, twenty times.
#
# `permutation` deals the texts. The points stay where they are, so this control has the
# same geometry and no knowledge.

# %%
rng = np.random.default_rng(0)
near = nearest_five(model)
shuffled = [is_hit(near, rng.permutation(numbers)) for _ in range(20)]  # 20 times (N,)
common = captions[train.index].value_counts().index[:5]
hits_of = {
    "trained": is_hit(near, numbers),
    "five commonest": impressions.isin(common).to_numpy(),
    "untrained": is_hit(nearest_five(untrained), numbers),
    "shuffled": np.mean(shuffled, axis=0),
}
pd.DataFrame(hits_of).head(3)


# %% [markdown]
# Each film is a hit or none. The share of hits gets an interval by patient.


# %%
def recall_of(hits):
    return rw.stats.clustered_mean(hits, test["patient_id"], share=True)


rows = [{"model": name, **recall_of(hits)} for name, hits in hits_of.items()]
recalls = pd.DataFrame(rows).set_index("model")
recalls[["mean", "low", "high", "n", "patients"]]

# %% [markdown]
# How high is each bar against that of the five commonest?

# %%
rw.show.bars(
    recalls.reset_index(),
    x="model",
    y="mean",
    y_title="right text in the top 5 (share)",
    title="Reports found for unseen patients, and three controls",
)

# %% [markdown]
# The bars have 95 % intervals over patients, since two films of one patient are not two
# observations. The comparison that counts is with the five commonest, on the same films.
#
# `compare` takes the hits of both film by film, looks at many random halves of the
# patients, and says how large the difference is, and in which range it would lie for
# other patients.

# %%
comparison = rw.stats.compare(
    hits_of["trained"],
    hits_of["five commonest"],
    test["patient_id"],
    what="recall at 5",
    names=("the trained model", "always giving the five commonest"),
)
Markdown(rw.pretrain.if_healthy(checks, f"In {comparison.what}, {comparison}."))

# %% [markdown]
# And each of them by itself:

# %%
recall = {
    name: rw.stats.format_interval(row, "mean") for name, row in recalls.iterrows()
}
draws = np.mean(shuffled, axis=1)
each = (
    f"We see {recall['trained']} for the trained model, {recall['five commonest']} for "
    f"the five commonest, {recall['untrained']} untrained, and {recall['shuffled']} "
    f"shuffled ({draws.min():.2f} to {draws.max():.2f} in 20 draws)."
)
Markdown(rw.pretrain.if_healthy(checks, each))

# %% [markdown]
# ### Exercise 2: the other way round
# A reader types a sentence and wants its images. Write text-to-image recall: for each
# different text, is one of *its* images among the `k` nearest of all?


# %%
def text_to_image(images, texts, own_text, k):
    """(N, E), (U, E), (N,) number of each image's text -> share of the U texts."""
    raise NotImplementedError


# %% [markdown]
# *Hints.* The result is a share of texts, and not of images: two films with one text
# count once. A text has found its image when *any* of the `k` has that text. Sorting is
# from small to large, so the nearest stand at the end, unless one turns the sign.


# %% tags=["solution"] jupyter={"source_hidden": true}
def text_to_image_solution(images, texts, own_text, k):
    nearest = np.argsort(-texts @ images.T, axis=1)[:, :k]  # (U, k) images
    their_text = own_text[nearest]  # (U, k)
    hits = their_text == np.arange(len(texts))[:, None]
    return hits.any(axis=1).mean()


# %% [markdown]
# The check takes the points of the test images and of their different texts.
#
# `rw.pretrain.retrieval` computes recall in both directions.

# %%
Z = rw.models.embed(model, test)  # (N, E)
text_points = model.encode_text(list(groups))
T = text_points.detach().numpy()  # (U, E)
recalls_of_package = rw.pretrain.retrieval(Z, T[numbers], numbers)
reference = recalls_of_package["text_to_image_recall_5"]
for mine in (text_to_image, text_to_image_solution):
    rw.check.matches(mine, reference, Z, T, numbers, 5)

# %% [markdown]
# ## Where do the findings lie?
# The points have many dimensions; the two in which the test images spread most (their
# principal components) make a map. It was drawn without labels: the colours come afterwards.
# A film with one finding has that finding's colour.
#
# `idxmax` gives the name of the first column that holds a 1.

# %%
findings = rw.data.findings_of(test)
count = (test[findings] == 1).sum(axis=1)
kind = test[findings].idxmax(axis=1)
kind[count == 0] = "none"
kind[count > 1] = "several"
colour = kind.to_numpy()
kind.value_counts().to_frame("films")

# %% [markdown]
# The mouse shows the impression of a point. Points of one colour in one place are films
# that the model takes for alike, and for a reason that we have a word for.

# %%
from sklearn.decomposition import PCA

pca = PCA(2).fit(Z)
spread = pca.explained_variance_ratio_.sum()
rw.show.scatter(
    pca.transform(Z),
    colour=colour,
    hover=impressions,
    x_title="first component",
    y_title="second component",
    title=f"Unseen patients by what the model sees: {spread:.0%} of the spread",
)

# %% [markdown]
# Two dimensions of many don't show everything. So we ask the points themselves: is the
# nearest image of *another* patient one of the same colour? An image at random is the
# control.
#
# A patient's other films would be the nearest of all, since they show the same chest.
# So they are left out.

# %%
patient = test.patient_id.to_numpy()
same_patient = patient[:, None] == patient  # (N, N)
alike = Z @ Z.T
alike[same_patient] = -np.inf
nearest = alike.argmax(axis=1)
same_colour = colour[nearest] == colour  # (N,)
by_chance = [rng.permutation(colour) == colour for _ in range(20)]
at_random = np.mean(by_chance, axis=0)  # (N,)
f"{same_colour.mean():.0%}, at random {at_random.mean():.0%}"

# %% [markdown]
# Is the difference more than chance would give?

# %%
both_names = ("the nearest neighbour", "a neighbour at random")
comparison = rw.stats.compare(same_colour, at_random, patient, names=both_names)
neighbours = (
    f"For {same_colour.mean():.0%} of the images the nearest one of *another* patient "
    f"shares the colour, for {at_random.mean():.0%} one at random does: {comparison}."
)
Markdown(rw.pretrain.if_healthy(checks, neighbours))

# %% [markdown]
# ## And an exercise of your own?
# Which question should a model learn from? Whoever has an idea can try it: an objective is a
# class with two short methods. `build` makes what is trained beside the model, here one
# linear layer, and `forward` gives the loss of a batch. All else, from the schedule to going
# on after a stop, is the loop's affair. `rw.pretrain.Recipe` says what the loop asks for, and
# when.
#
# Ours asks how bright a film is. That needs no text and no label, and it is a bad exercise on
# purpose: the answer can be had without seeing a lung.


# %%
class Brightness(rw.pretrain.Recipe):
    """How bright is this film?"""

    def build(self):
        width = self.net.visual.output_dim
        self.head = torch.nn.Linear(width, 1)

    def forward(self, x):
        guess = self.head(self.net.visual(x))[:, 0]  # (B,)
        return torch.nn.functional.mse_loss(guess, x.mean((1, 2, 3)))


# %% [markdown]
# A recipe gets a name, and then it is trained like all others. We take few films, made small,
# since only the loop is to be seen here.

# %%
rw.pretrain.RECIPES["brightness"] = Brightness
own_run = rw.pretrain.fit(
    table.head(200),
    recipe="brightness",
    out=models_folder / "brightness",
    size=32,
    batch=16,
    epochs=3,
)

# %% [markdown]
# The loss is the squared error in units of the normalised grey values. A model that always
# says the mean would have their variance as its loss, so the curve should fall below where it
# began. Whether what was learnt is worth anything for finding disease is a question for
# notebook 3: a linear probe of the frozen tower tells.

# %%
loss_of_epoch = own_run.log.groupby("epoch")["loss"].mean()
Markdown(
    f"We see a mean loss of {loss_of_epoch.iloc[0]:.3f} in the first pass and "
    f"{loss_of_epoch.iloc[-1]:.3f} in the last of {len(loss_of_epoch)}."
)

# %% [markdown]
# ## What does it cost?
# The step that hurts is the image tower. How far would this machine get with a real
# collection, such as MIMIC-CXR (Johnson et al. 2019,
# [doi 10.1038/s41597-019-0322-0](https://doi.org/10.1038/s41597-019-0322-0))?
#
# We count images times passes, and divide by the images a second that this run had.
#
# MIMIC-CXR has 377,110 images, and CLIP took 32 passes over its pairs.

# %%
budget = pd.DataFrame(
    {"images": [config["n_train"], 377_110], "epochs": [epochs, 32]},
    index=["this run", "MIMIC-CXR"],
)
seconds = budget["images"] * budget["epochs"] / config["images_per_s"]
budget["hours at this speed"] = (seconds / 3600).round(2)
budget

# %% [markdown]
# `precision_used` says with how many bits numbers were kept. Fewer bits are faster.

# %%
Markdown(
    f"We see {config['images_per_s']:.0f} images a second "
    f"({config['precision_used']}). A collection the size of MIMIC-CXR asks for "
    f"{budget['hours at this speed'].iloc[1] / 24:.1f} days here."
)

# %% [markdown]
# Foundation models are a matter of hardware. They are a matter of storage, too: so many
# films fit into no memory. One keeps them in **shards**, plain tar files that are read from
# the first byte to the last. We write a few of our films so, and read them back.

# %%
shards = rw.data.write_shards(train.head(100), models_folder / "shards", per_shard=50)
samples = list(rw.data.read_shards(shards))
last_sample = samples[-1]
shard, number = last_sample["position"]
Markdown(
    f"We see {len(shards)} files with {len(samples)} films in them. The last one is "
    f"number {number} of {shard}, counted from 0, and its report begins "
    f"*{last_sample['report'][:60]}* ..."
)

# %% [markdown]
# Reports and labels lie beside the pixels, so that one file is whole. A row knows its
# position, and a reading that was cut off goes on from there. `rw.pretrain.fit` takes
# `shards=` in the place of a table: the same recipe and the same loop, and only as many films
# in memory as a batch needs. Our exercise of brightness again, read from the two files:

# %%
streamed = rw.pretrain.fit(
    shards=shards,
    recipe="brightness",
    out=models_folder / "streamed",
    size=32,
    batch=16,
    epochs=2,
)
streamed.log[["step", "epoch", "loss"]].tail(3).round(3)

# %% [markdown]
# The loss differs from the one above, since the films are fewer and come in another order. What
# counts is that a collection of any size can be learnt from in this way, on this machine or on
# many.
#
# The numbers to remember of this page:

# %%
rw.book.headline(
    recall_at_5=recalls["mean"]["trained"],
    five_commonest=recalls["mean"]["five commonest"],
    minutes=config["seconds"] / 60,
    images_per_s=config["images_per_s"],
)

# %% [markdown]
# What to take along, in the numbers of this run:

# %%
Markdown(f"""
## What we found
- From random weights, a loss that only asks *which report belongs to which film* goes
  from {losses[0]:.2f} to {losses[1]:.2f} on patients it never saw, in
  {lesson.config["seconds"]:.0f} seconds and without a label (a guess has
  {np.log(batch):.2f}). That is a small problem; the whole one took radwb-tiny-v2
  {minutes:.0f} minutes.
- On unseen patients of the whole problem the right impression is among five of
  {len(groups)} in {recall["trained"]}; {recall["five commonest"]} for the five
  commonest.
- {wrongly:.1%} of the pairs in a batch are equal texts; they count as right here.
""")

# %% [markdown]
# ## Where it breaks
# - All patients share the anatomy of one CT: the model knows a simulator, and notebook 3 asks
#   how far it carries.
# - The small problem is drawn to be learnt: strong findings, clean words. Nothing of it holds
#   for the large one.
# - It learns what reports say. What nobody writes down, it need not see; what is written by
#   habit, it learns as well.
# - Retrieval counts words, not meaning: *no acute findings* in the place of *normal chest
#   radiograph* is an error here.
#
# Next: **3 Zero-shot probing** asks this model for findings, in words.
