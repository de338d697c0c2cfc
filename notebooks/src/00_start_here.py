# %% [markdown]
# # 0 · Start here
#
# Five steps lead from a scan to evidence about a model. What does each of them do, seen once on a single page?
#
# **You will** check this machine, look at a real chest CT, make a virtual patient out of it, train the smallest
# foundation model there is, ask it a question, look inside it, and catch it out.
#
# **Needs**: 1 minute on two CPU cores. **Data**: chest CT LIDC-IDRI-0001 (CC BY 3.0), fetched on first use and verified.
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

# %% tags=["parameters"]
n = 48  # virtual radiographs
pairs = 8  # of them, with their reports, to learn from
steps = 60  # of the optimiser; fast: 20
look_px = 512  # rows and columns of the films that we look at; the model learns from small ones; fast: 256

# %% [markdown]
# ## Is this machine ready?
# Everything here runs on two CPU cores without a network, once the data are in the cache.

# %%
card = (
    torch.cuda.get_device_name() if torch.cuda.is_available() else "none, none needed"
)
facts = {
    "Python, PyTorch": f"{platform.python_version()}, {torch.__version__}",
    "CPU cores, memory": f"{os.cpu_count()}, {psutil.virtual_memory().total / 2**30:.0f} GiB",
    "graphics card": card,
    "precision of training": rw.models.fast_precision(),
    "own cache (RADWB_CACHE)": os.environ.get("RADWB_CACHE") or "no",
    "local mirror of data (RADWB_MIRROR)": os.environ.get("RADWB_MIRROR") or "no",
}
pd.Series(facts, name="this machine").to_frame()

# %% [markdown]
# ## What is a foundation model?
# A model that learnt from much broad data by a general exercise, before anybody named a task, and that is then adapted to
# many tasks (Bommasani et al. 2021, [arXiv 2108.07258](https://arxiv.org/abs/2108.07258)). The words you will meet:
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
# A CT measures how strongly each voxel weakens X-rays, in Hounsfield units (HU): air -1000, water 0. The eye sees only a
# window of them, here one for the lungs.

# %%
ct = rw.data.read(rw.data.fetch("lidc-ct") / "cxr.nii.gz")
rw.show.planes(
    ct,
    window_hu=(-1000, 400),
    title="A real chest CT: the patient that all virtual patients come from",
)

# %% [markdown]
# The left of a picture is the patient's right.
#
# ## A virtual patient
# Bend this chest a little, plant a disease in three dimensions, and send rays through it: a radiograph whose truth is known.

# %%
fluid = rw.simulate.Finding("Pleural Effusion", 0.6, "right")
scan = rw.simulate.render([fluid], size=look_px)
rw.show.scan(
    scan,
    truth=True,
    title="A virtual radiograph with a planted right effusion",
    caption="simulator",
)

# %%
share = scan.truth["Pleural Effusion"].mean()
Markdown(
    f"We see that the outline fills {share:.1%} of the image. Nobody drew it: it is where the rays changed."
)

# %% [markdown]
# An outline is the *truth mask* of a finding, and maps are scored against it. One rule makes it: compare each ray with and
# without the finding, and keep those that differ so much that a reader could see it, on the finding's own side, without
# specks. What fluid, heart or diaphragm veils is left out: a mass that drowned in fluid has an empty mask, and remains a
# positive. Every film has a heart, so **cardiomegaly is outlined by what the heart has too much**: where it lies beyond an
# average heart in the same chest. Its whole silhouette is another mask, `Heart`. The numbers of the rule stand in
# `rw.simulate.outlines`.

# %%
heart = rw.simulate.Finding("Cardiomegaly", 0.7)
large = rw.simulate.render([heart], size=look_px, organs=True)
outlines = [{name: large.truth[name]} for name in ("Cardiomegaly", "Heart")]
names = ["cardiomegaly: what is too much", "Heart: the organ"]
rw.show.grid(
    [large, large],
    titles=names,
    truth=outlines,
    columns=2,
    cell=380,
    title="One large heart, two outlines",
)

# %%
enlargement, organ = (large.truth[name].mean() for name in ("Cardiomegaly", "Heart"))
Markdown(
    f"We see that the enlargement fills {enlargement:.1%} of the image, the whole heart {organ:.1%}."
)

# %% [markdown]
# ## Step 1, curate: scans become a table
# One row an image, one column a finding, and a split that keeps each patient on one side.

# %%
table = rw.curate.check_split(rw.simulate.cohort(n=n, seed=0))
table[
    [
        "patient_id",
        "view",
        "site",
        "age_years",
        "split",
        *rw.data.findings_of(table),
        "report",
    ]
].head(4)

# %%
scans = [
    film for film, _ in rw.simulate.stream(8, seed=0, size=look_px)
]  # the table's first eight, finer
names = ["<br>".join(s.truth) or "nothing planted" for s in scans]
rw.show.grid(
    scans,
    titles=names,
    truth=True,
    title="Eight virtual radiographs",
    caption="simulator; outlined: what was planted",
)

# %% [markdown]
# ## Step 2, pretrain: images meet their reports
# The exercise: among the reports of a batch, find the one that belongs to an image. No label is used. Ten lines do it
# (CLIP, Radford et al. 2021, [arXiv 2103.00020](https://arxiv.org/abs/2103.00020)).

# %%
table["impression"] = table["report"].map(rw.pretrain.caption_of)
known, unseen = (
    table[table["split"] == s].drop_duplicates("impression").head(pairs)
    for s in ("train", "test")
)
model = rw.models.clip_tiny(
    rw.models.Tokenizer.train(list(table["impression"])), seed=0
)
x, tokens = (
    model.preprocess(rw.data.images(known, model.size)),
    model.tokenizer(list(known["impression"])),
)
x.shape, tokens.shape  # (B, 1, S, S) pixels and (B, T) pieces of words

# %%
net, right, losses = model.net.train(), torch.arange(len(known)), []
optimizer = torch.optim.AdamW(net.parameters(), lr=3e-4)
for _ in tqdm(range(steps), desc="pretraining"):
    image, text = (
        net.encode_image(x, normalize=True),
        net.encode_text(tokens, normalize=True),
    )  # (B, E) each
    similarity = (
        net.logit_scale.exp() * image @ text.T
    )  # (B, B): the right pairs lie on the diagonal
    loss = (
        F.cross_entropy(similarity, right) + F.cross_entropy(similarity.T, right)
    ) / 2
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    losses.append(loss.item())
net = net.eval()

# %%
log = pd.DataFrame({"step": range(1, steps + 1), "loss": losses})
guess = float(np.log(len(known)))
rw.show.curve(
    log,
    lines={"loss": guess},
    title=f"The exercise is learnt; a guess would stay at {guess:.2f}",
    width=520,
)

# %% [markdown]
# ## Step 3, probe: ask it in words
# How near is an image to a sentence? The number is the cosine of the angle between two embeddings, points of unit length.


# %%
def cosines(rows, texts):
    with torch.no_grad():
        return (
            model.encode_image(model.preprocess(rw.data.images(rows, model.size)))
            @ model.encode_text(texts).T
        )


sentences, names = (
    list(known["impression"]),
    [f"image {i + 1}" for i in range(len(known))],
)
matrix = cosines(known, sentences)
rw.show.heatmap(
    matrix,
    rows=names,
    columns=sentences,
    label="cosine",
    title="Images and the sentences they came with",
)

# %% [markdown]
# ## Step 4, attend: where does it look?
# Relevance follows a sentence back through the layers to the patches of an image (Chefer et al. 2021,
# [arXiv 2103.15679](https://arxiv.org/abs/2103.15679)).

# %% tags=["headline"]
m = rw.attend.attention_map(
    model, scan, method="relevance", target="right pleural effusion"
)
rw.show.overlay(
    scan, m, truth=True, title="Relevance for 'right pleural effusion', and the truth"
)

# %%
inside = rw.attend.score_map(m, scan.truth["Pleural Effusion"])["energy"]
words = f"We see that {inside:.0%} of the map lies inside an outline that fills {share:.0%} of the image."
Markdown(words + " A map drawn without looking would have the same share in both.")

# %% [markdown]
# ## Step 5, fail: catch it out
# It knows its own images. What about patients whom it never met? How many images find their own report among the others?


# %%
def find_their_report(rows):
    best = cosines(rows, list(rows["impression"])).argmax(dim=1)
    return float((best == torch.arange(len(rows))).float().mean())


trained, tested = find_their_report(known), find_their_report(unseen)
rw.book.headline(
    own_report_found_in_training=trained,
    on_unseen_patients=tested,
    by_a_guess=1 / len(unseen),
)

# %% [markdown]
# ## Exercise: a window by hand
# Map HU to what the eye sees: `low` and below is 0, `high` and above is 1, a straight line between.


# %%
def window(hu, low, high):
    """hu (any shape) -> display values in [0, 1]."""
    raise NotImplementedError


# %% tags=["solution"]
def window_solution(hu, low, high):
    return ((hu - low) / (high - low)).clip(0, 1)


# %%
middle = ct.shape[0] // 2
cases = [(ct.voxels[middle], -1000, 400), (ct.voxels[middle], -160, 240)]
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
# Each runs from top to bottom; exercises say "not attempted yet" until you write them. Solutions are folded below them.

# %%
Markdown(f"""
## What we found
- One CT gave {len(table)} virtual radiographs of {table["patient_id"].nunique()} patients, with a truth mask of each finding that was planted.
- After {steps} steps on {len(known)} pairs, {trained:.0%} of these images find their own report.
- Of {len(unseen)} images of unseen patients, {tested:.0%} do; a guess finds {1 / len(unseen):.0%}.
""")

# %% [markdown]
# ## Where it breaks
# Eight pairs are learnt by heart, so this page proves nothing about disease: notebook 2 trains on thousands. The
# anatomy is one patient's, bent and scaled; a model that reads it well need not read a real ward. And a map that lies
# on the lesion may do so by luck: notebook 4 puts a random map beside it.
