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

import pandas as pd
import psutil
import torch
from IPython.display import Markdown

import radwb as rw

# %% tags=["parameters"]
n = 48  # virtual radiographs
epochs = 60  # passes over those of them that are for training; fast: 8
size = 320  # side of the large picture, px; fast: 160

# %% [markdown]
# ## Is this machine ready?
# Everything here runs on two CPU cores without a network, once the data are in the cache.

# %%
facts = {
    "Python, PyTorch": f"{platform.python_version()}, {torch.__version__}",
    "CPU cores, memory": f"{os.cpu_count()}, {psutil.virtual_memory().total / 2**30:.0f} GiB",
    "graphics card": torch.cuda.get_device_name() if torch.cuda.is_available() else "none, none needed",
    "precision of training": rw.models.fast_precision(),
    "cache (RADWB_CACHE)": "set" if os.environ.get("RADWB_CACHE") else "the user's cache folder",
    "local mirror (RADWB_MIRROR)": "set" if os.environ.get("RADWB_MIRROR") else "none: data come from the package index",
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
rw.show.planes(ct, window_hu=(-1000, 400), title="A real chest CT: the patient that all virtual patients come from")

# %% [markdown]
# The left of a picture is the patient's right. ### A virtual patient
# Bend this chest a little, plant a disease in three dimensions, and send rays through it: a radiograph whose truth is known.

# %%
scan = rw.simulate.render([rw.simulate.Finding("Pleural Effusion", 0.6, "right")], size=size)
rw.show.scan(scan, truth=True, title="A virtual radiograph with a planted right effusion", caption="simulator")

# %%
share = scan.truth["Pleural Effusion"].mean()
Markdown(f"We see that the fluid changes {share:.1%} of the image. Nobody drew that outline: it is where the rays changed.")

# %% [markdown]
# ## Step 1, curate: scans become a table
# One row an image, one column a finding, and a split that keeps each patient on one side.

# %%
table = rw.curate.check_split(rw.simulate.cohort(n=n, seed=0))
table[["patient_id", "view", "site", "age_years", "split", *rw.data.findings_of(table), "report"]].head(4)

# %%
few = table.head(8)
scans = [rw.data.scan_of(row) for _, row in few.iterrows()]
names = [" and ".join(s.truth) or "nothing planted" for s in scans]
rw.show.grid(scans, titles=names, truth=True, title="Eight virtual radiographs", caption="blue: what was planted")

# %% [markdown]
# ## Step 2, pretrain: images meet their reports
# The exercise: among the reports of a batch, find the one that belongs to an image. No label is used.

# %%
run = rw.pretrain.fit(table, recipe="clip-tiny", out="../runs/start-here", epochs=epochs, batch=16, seed=0)
guess = run.log["loss"].iloc[0]
rw.show.curve(run.log, panels={"loss": ["loss"]}, title="The exercise is being learnt", lines={"loss": guess})

# %% [markdown]
# ## Step 3, probe: ask it in words
# How near is an image to a sentence? The number is the cosine of the angle between two embeddings.

# %%
questions = ["pleural effusion", "no pleural effusion", "pneumothorax", "no pneumothorax", "the heart is enlarged"]
train, unseen = (table[table["split"] == split].head(6) for split in ("train", "test"))
Z = torch.from_numpy(rw.models.embed(run.model, train))
with torch.no_grad():
    cosine = Z @ run.model.encode_text(questions).T  # (N, K)
labels = [", ".join(f for f in rw.data.findings_of(table) if row[f] == 1) or "normal" for _, row in train.iterrows()]
rw.show.heat(cosine, rows=labels, columns=questions, label="cosine", title="Images it trained on, against sentences")

# %% [markdown]
# ## Step 4, attend: where did it look?
# Relevance follows a sentence back through the layers to the patches of the image (Chefer et al. 2021,
# [arXiv 2103.15679](https://arxiv.org/abs/2103.15679)).

# %%
m = rw.attend.attention_map(run.model, scan, method="relevance", target="right pleural effusion")
rw.show.overlay(scan, m, truth=True, title="Relevance for 'right pleural effusion', and the truth")

# %%
score = rw.attend.score_map(m, scan.truth["Pleural Effusion"])
Markdown(f"We see that {score['energy']:.0%} of the map lies inside an outline that fills {share:.1%} of the image.")

# %% [markdown]
# ## Step 5, fail: catch it out
# It knows its own images. What about patients whom it never met? Which report of the group does each image find?

# %%
def finds_its_report(rows):
    images = torch.from_numpy(rw.models.embed(run.model, rows))
    with torch.no_grad():
        texts = run.model.encode_text(list(rows["report"]))
    best = (images @ texts.T).argmax(dim=1).numpy()
    return (rows["report"].to_numpy()[best] == rows["report"].to_numpy()).mean()


shares = {side: finds_its_report(rows) for side, rows in table.groupby("split")}
rw.book.headline(own_report_found_in_training=shares["train"], on_unseen_patients=shares["test"])

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
# | 2 Pretraining | How do images and reports teach each other? |
# | 3 Zero-shot probing | Can it find what nobody labelled? |
# | 4 Attention | Does it look at the disease? |
# | 5 Failure modes | When is it right for the wrong reason? |
#
# Each runs from top to bottom; exercises say "not attempted yet" until you write them. Solutions are folded below them.

# %%
Markdown(f"""
## What we found
- One CT gave {len(table)} virtual radiographs of {table["patient_id"].nunique()} patients, every planted disease outlined.
- After {run.log["step"].iloc[-1]} steps, {shares["train"]:.0%} of the training images find their own report.
- Of the unseen patients' images, {shares["test"]:.0%} do.
""")

# %% [markdown]
# ## Where it breaks
# A few dozen images are learnt by heart, so this page proves nothing about disease: notebook 2 trains on thousands. The
# anatomy is one patient's, bent and scaled; a model that reads it well need not read a real ward. And a map that lies
# on the lesion may do so by luck: notebook 4 puts a random map beside it.
