# %% [markdown]
# # 0 · Start here
#
# Five steps lead from a scan to evidence about a model. What does each of them do, seen
# once on a single page?
#
# **You will** check this machine, look at a real chest CT, make a virtual patient out of
# it, train the smallest foundation model there is, ask it a question, look inside it, and
# catch it out.
#
# **Needs**: 1 minute on two CPU cores, and one course of Python. **Data**: chest CT
# LIDC-IDRI-0001 (CC BY 3.0), fetched on first use and verified.
#
# *For teaching and research. Not for clinical use.*

# %%
import os
import platform

import numpy as np
import pandas as pd
import psutil
import torch
import torch.nn.functional as F
from IPython.display import Markdown
from tqdm.auto import tqdm

import radwb as rw

# %% [markdown]
# The next cell holds the few numbers that this page depends on. Change one, choose *Run
# All*, and see what becomes of the rest.

# %% tags=["parameters"]
n = 48  # virtual radiographs
pairs = 8  # of them, with their reports, to learn from
steps = 60  # of the optimiser; fast: 20
look_px = 512  # side of the films that we look at; fast: 256

# %% [markdown]
# ## Is this machine ready?
# Everything here runs on two CPU cores without a network, once the data are in the cache.
# A graphics card makes the later notebooks faster and is needed nowhere. Let us see what
# this machine has.

# %%
card = "none, none needed"
if torch.cuda.is_available():
    card = torch.cuda.get_device_name()
facts = {
    "Python, PyTorch": f"{platform.python_version()}, {torch.__version__}",
    "CPU cores": os.cpu_count(),
    "memory (GiB)": round(psutil.virtual_memory().total / 2**30),
    "graphics card": card,
    "precision of training": rw.models.fast_precision(),
    "where fetched data lie": str(rw.data.cache_folder()),
}
pd.Series(facts, name="this machine").to_frame()

# %% [markdown]
# The last row is the folder into which data are fetched. Set the environment variable
# `RADWB_CACHE` to have them elsewhere. Where the network is closed, `RADWB_MIRROR` names a
# folder that holds the files already.
#
# ## What is a foundation model?
# A model that learnt from much broad data by a general exercise, before anybody named a
# task, and that is then adapted to many tasks (Bommasani et al. 2021,
# [arXiv 2108.07258](https://arxiv.org/abs/2108.07258)). The words you will meet:
#
# | Word | What it means here | Touch it in |
# |---|---|---|
# | pretraining | a general exercise: which report belongs to which image? | 2 Pretraining |
# | contrastive | pull an image and its report together, push the others apart | 2 Pretraining |
# | embedding | a point of unit length; image and text share one space | 2 Pretraining |
# | zero-shot | a new task from words alone, without a label | 3 Zero-shot probing |
# | linear probe | a line drawn through frozen embeddings | 3 Zero-shot probing |
# | patch token, attention | the pieces of an image, and who listens to whom | 4 Attention |
# | task-specific model | learns one label set; the baseline everywhere | 3 and 5 |
# | shortcut | right for the wrong reason, until the reason is gone | 5 Failure modes |
# | leakage | a patient on both sides of a split | 1 Data curation |

# %% [markdown]
# ## One real patient
# A CT measures how strongly each voxel weakens X-rays, in Hounsfield units (HU): air has
# -1000, water has 0. The eye tells only some of these numbers apart, so we show a
# *window* of them, here one for the lungs. `fetch` brings the files and checks them, and
# `read` turns them into a volume that knows its millimetres.

# %%
ct = rw.data.read(rw.data.fetch("lidc-ct") / "cxr.nii.gz")
rw.show.planes(
    ct,
    window_hu=(-1000, 400),
    title="A real chest CT: the patient that all virtual patients come from",
)

# %% [markdown]
# We see one chest in three planes. The left of a picture is the patient's right, as if the
# patient stood before you. The axes carry millimetres, so that a lung is as tall as it was.
#
# Which other data sets does the workbench know? Each comes with a licence, and the licence
# says what you may do with it.

# %%
catalog = rw.data.catalog()
catalog[["name", "what", "licence", "size_mb", "here"]]

# %% [markdown]
# The last column says what is on this machine already. Nothing else is fetched before you
# ask for it.
#
# ## A virtual patient
# Real radiographs have labels that somebody guessed. We want some whose truth is known. So
# we bend this chest a little, plant a disease in three dimensions, and send rays through
# it. Here it is fluid around the right lung, a pleural effusion, of severity 0.6 out of 1.

# %%
fluid = rw.simulate.Finding("Pleural Effusion", 0.6, "right")
scan = rw.simulate.render([fluid], size=look_px)
rw.show.scan(
    scan,
    truth=True,
    title="A virtual radiograph with a planted right effusion",
    caption="simulator",
)

# %% [markdown]
# The outline is called the *truth mask* of the finding. Later we score a model's maps
# against it. How much of the image does it fill?

# %%
share = scan.truth["Pleural Effusion"].mean()
Markdown(f"We see that the outline fills {share:.1%} of the image.")

# %% [markdown]
# Nobody drew it: it is where the rays changed. One rule makes every mask. It compares each
# ray with and without the finding, and keeps the rays that differ so much that a reader
# could see it, on the finding's side of the chest, without specks.
#
# What fluid, heart or diaphragm veils is left out. A mass that drowned in fluid has an
# empty mask, and its film remains a positive. And since every film has a heart,
# **cardiomegaly is outlined by what the heart has too much**: where it lies beyond an
# average heart in the same chest. The numbers of the rule stand in `rw.simulate.outlines`.
#
# Let us look at a large heart with both of its outlines, the enlargement and the organ.

# %%
heart = rw.simulate.Finding("Cardiomegaly", 0.7)
large = rw.simulate.render([heart], size=look_px, organs=True)
outlines = [{name: large.truth[name]} for name in ("Cardiomegaly", "Heart")]
rw.show.grid(
    [large, large],
    titles=["cardiomegaly: what is too much", "Heart: the organ"],
    truth=outlines,
    columns=2,
    cell=380,
    title="One large heart, two outlines",
)

# %% [markdown]
# The film is the same twice. A map that lights up the middle of the heart would be right by
# the second outline and wrong by the first, so it matters which one it is scored against.

# %%
enlargement = large.truth["Cardiomegaly"].mean()
organ = large.truth["Heart"].mean()
Markdown(
    f"We see that the enlargement fills {enlargement:.1%} of the image, the whole "
    f"heart {organ:.1%}."
)

# %% [markdown]
# ## Step 1, curate: scans become a table
# Every step from here on takes the same thing, a table. It has one row an image, one column
# a finding, the words of the report, and a split into training and test. `check_split`
# makes sure that each patient is on one side only, and stops if not.

# %%
table = rw.curate.check_split(rw.simulate.cohort(n=n, seed=0))
about = ["patient_id", "view", "site", "age_years", "split"]
table[[*about, *rw.data.findings_of(table), "report"]].head(4)

# %% [markdown]
# A 1 says that the finding is there, a 0 that it isn't. The model will see small versions
# of these films. We look at the first eight in a finer one, each with what was planted.


# %%
def planted_names(film):
    if not film.truth:
        return "nothing planted"
    return "<br>".join(film.truth)


films = [film for film, _ in rw.simulate.stream(8, seed=0, size=look_px)]
rw.show.grid(
    films,
    titles=[planted_names(film) for film in films],
    truth=True,
    title="Eight virtual radiographs",
)

# %% [markdown]
# Would you have seen each of them without the outline? Some findings are faint, as in life.
#
# ## Step 2, pretrain: images meet their reports
# Now the general exercise: among the reports of a batch, find the one that belongs to an
# image. No label is used. This is CLIP (Radford et al. 2021,
# [arXiv 2103.00020](https://arxiv.org/abs/2103.00020)), and its heart is ten lines long.
#
# We take a few images to learn from and as many of other patients for the end. Each has an
# impression, the last sentences of its report, and no two of them share one.

# %%
table["impression"] = table["report"].map(rw.pretrain.caption_of)


def different_pairs(split):
    rows = table[table["split"] == split]
    return rows.drop_duplicates("impression").head(pairs)


known = different_pairs("train")
unseen = different_pairs("test")
known[["patient_id", "impression"]].head(4)

# %% [markdown]
# A model reads numbers. The tokenizer cuts words into pieces and numbers them, and
# `preprocess` turns films into squares of equal size. Both belong to the model, which
# begins with random weights.

# %%
tokenizer = rw.models.Tokenizer.train(list(table["impression"]))
model = rw.models.clip_tiny(tokenizer, seed=0)
pixels = model.preprocess(rw.data.images(known, model.size))
tokens = model.tokenizer(list(known["impression"]))
pixels.shape, tokens.shape  # (B, 1, S, S) pixels and (B, T) pieces of words

# %% [markdown]
# Image and text each become a point. We multiply all images with all texts, which gives a
# table of similarities, and the right pairs lie on its diagonal. The loss is small when
# each row, and each column, is largest there.


# %%
def contrastive_loss(images, texts):
    scale = model.net.logit_scale.exp()
    similarity = scale * images @ texts.T  # (B, B)
    right = torch.arange(len(images))  # the diagonal
    by_image = F.cross_entropy(similarity, right)
    by_text = F.cross_entropy(similarity.T, right)
    return (by_image + by_text) / 2


# %% [markdown]
# Learning is a loop of three steps: compute the loss, ask for its slope in each weight, and
# move every weight a little downhill.

# %%
net = model.net.train()
optimizer = torch.optim.AdamW(net.parameters(), lr=3e-4)
losses = []
for _ in tqdm(range(steps), desc="pretraining"):
    images = net.encode_image(pixels, normalize=True)  # (B, E)
    texts = net.encode_text(tokens, normalize=True)  # (B, E)
    loss = contrastive_loss(images, texts)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    losses.append(loss.item())
net = net.eval()

# %% [markdown]
# Did it learn the exercise? A model that can't tell the reports apart gives each the same
# chance, and then the loss is the logarithm of their number.

# %%
log = pd.DataFrame({"step": range(1, steps + 1), "loss": losses})
guess = float(np.log(len(known)))
rw.show.curve(
    log,
    lines={"loss": guess},
    title=f"The loss, step by step; a guess would stay at {guess:.2f}",
    width=520,
)

# %% [markdown]
# The dashed line is a guess, and a curve far below it has learnt its pairs. This model is
# tiny, and eight pairs are very few. Others are larger and have read millions.
# `rw.models.load` takes a name: which names does it know on this machine?

# %%
names = rw.models.available()
Markdown(
    f"We see {len(names):,} names, such as `{names[0]}`, which the package brings "
    f"along, and {len(rw.models.available('vit'))} with *vit* in them, for vision "
    "transformers."
)

# %% [markdown]
# A name is the shape of a model. Its weights are downloaded only if you say so. A few
# published networks have names of their own; the table says what each can be asked, and
# whether it lies on this machine.

# %%
rw.models.published()[["name", "asked", "size_mb", "here"]]

# %% [markdown]
# ## Step 3, probe: ask it in words
# How near is an image to a sentence? The number is the cosine of the angle between two
# embeddings, points of unit length: 1 for the same direction, 0 for a right angle.


# %%
def cosines(rows, texts):
    pixels = model.preprocess(rw.data.images(rows, model.size))
    with torch.no_grad():
        return model.encode_image(pixels) @ model.encode_text(texts).T  # (N, K)


sentences = list(known["impression"])
rw.show.heatmap(
    cosines(known, sentences),
    rows=[f"image {number}" for number in range(1, len(known) + 1)],
    columns=sentences,
    label="cosine",
    title="Images and the sentences they came with",
)

# %% [markdown]
# Each row is an image. Where its largest value lies on the diagonal, the image is nearest
# to the sentence it came with. That was the exercise, and so it is no surprise.
#
# ## Step 4, attend: where does it look?
# Relevance follows a sentence back through the layers of the model to the patches of an
# image (Chefer et al. 2021, [arXiv 2103.15679](https://arxiv.org/abs/2103.15679)). We ask
# for *right pleural effusion* on the film above, and lay the truth mask over the answer.

# %% tags=["headline"]
relevance = rw.attend.attention_map(
    model, scan, method="relevance", target="right pleural effusion"
)
rw.show.overlay(
    scan,
    relevance,
    truth=True,
    title="Relevance for 'right pleural effusion', and the truth",
)

# %% [markdown]
# A map is a picture, and pictures persuade. A number is harder to argue with: how much of
# the map lies inside the outline?

# %%
inside = rw.attend.score_map(relevance, scan.truth["Pleural Effusion"])["energy"]
Markdown(
    f"We see that {inside:.0%} of the map lies inside an outline that fills "
    f"{share:.0%} of the image."
)

# %% [markdown]
# A map drawn without looking would have the same share in both.
#
# ## Step 5, fail: catch it out
# It knows its training images. What about patients whom it never met? We let each image
# pick the nearest report among all of its group, and count how often that is the right one.


# %%
def share_with_their_report(rows):
    nearest = cosines(rows, list(rows["impression"])).argmax(dim=1)
    right = nearest == torch.arange(len(rows))
    return float(right.float().mean())


trained = share_with_their_report(known)
tested = share_with_their_report(unseen)
rw.book.headline(
    own_report_found_in_training=trained,
    on_unseen_patients=tested,
    by_a_guess=1 / len(unseen),
)

# %% [markdown]
# The three numbers are the shares in training, on unseen patients, and by a guess. The
# second is the one that counts. A model that is perfect on what it learnt from, and guesses
# on the rest, has learnt its examples by heart.
#
# ## Exercise: a window by hand
# Each notebook has exercises. Write your lines in place of `raise NotImplementedError`, run
# the cell, then run the check below it. The solution is folded; try before you open it.
#
# Map HU to what the eye sees: `low` and below is 0, `high` and above is 1, and a straight
# line between them.


# %%
def window(hu, low, high):
    """hu (any shape) -> display values in [0, 1]."""
    raise NotImplementedError


# %% [markdown]
# *Hints.* If the check names values below 0 or above 1, something is missing at the
# ends. If all of them are off by the same amount, where does your line begin?


# %% tags=["solution"]
def window_solution(hu, low, high):
    return ((hu - low) / (high - low)).clip(0, 1)


# %% [markdown]
# The check calls your function on one slice with two windows, one for lungs and one for
# soft tissue, and compares it with the function of the package.

# %%
middle = ct.voxels[ct.shape[0] // 2]
cases = [(middle, -1000, 400), (middle, -160, 240)]
for mine in (window, window_solution):
    rw.check.matches(mine, rw.data.scan.to_display, cases=cases)

# %% [markdown]
# ## The notebooks
# | Notebook | Its question |
# |---|---|
# | 1 Data curation | Which of these files can be trusted, and who is on which side? |
# | 2 Pretraining | How does a model learn from reports, without a single label? |
# | 3 Zero-shot probing | Can it find what nobody labelled? |
# | 4 Attention | Where does it look, and does the picture mean anything? |
# | 5 Failure modes | Where does it break, and what helps? |
#
# Each runs from top to bottom. Exercises say "not attempted yet" until you write them.

# %%
patients = table["patient_id"].nunique()
Markdown(f"""
## What we found
- One CT gave {len(table)} virtual radiographs of {patients} patients, with a truth mask
  of each finding that was planted.
- After {steps} steps on {len(known)} pairs, {trained:.0%} of these images find their
  own report.
- Of {len(unseen)} images of unseen patients, {tested:.0%} do; a guess finds
  {1 / len(unseen):.0%}.
""")

# %% [markdown]
# ## Where it breaks
# Eight pairs are learnt by heart, so this page proves nothing about disease: notebook 2
# trains on thousands. The anatomy is one patient's, bent and scaled; a model that reads it
# well need not read a real ward. And a map that lies on the lesion may do so by luck:
# notebook 4 puts a random map beside it.
