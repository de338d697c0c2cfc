# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 12 · Which exercise teaches most?
#
# Notebook 2 trains one tower with one exercise. What would another exercise have taught the
# same tower, from the same radiographs, in the same number of looks at them?
#
# **You will** pretrain a tower in eight ways at an equal budget and ask each three
# questions, one of them about something that no report mentions; keep a finding out of every
# report; punish right answers on purpose; fit a scaling law with its interval; and train two
# language models on real reports.
#
# **Needs**: notebook 2; 45 minutes on two CPU cores, 3 when the runs are there already.
# **Data**: the simulator on a real CT (LIDC-IDRI, CC BY 3.0); 3,955 real reports (Open-i,
# Demner-Fushman et al. 2016, doi 10.1093/jamia/ocv080).
#
# *For teaching and research. Not for clinical use.*

# %%
from itertools import product

import numpy as np
import pandas as pd
import torch
from IPython.display import Markdown

import radwb as rw

# %% [markdown]
# These are the numbers on which this page depends. In a fast run the smaller ones
# behind `fast:` are taken, and its models have learnt next to nothing.

# %% tags=["parameters"]
n = 2400  # virtual radiographs; fast: 360
passes = 8  # looks at each training image, of every exercise; fast: 2
short = 4  # the same for each size of a batch; fast: 1
batch = 64  # images a step
batches = (16, 64, 256)  # compared; fast: (16, 64)
size = 64  # side of the images for the scaling law, px
shares = (0.125, 0.25, 0.5, 1.0)  # of the training patients; fast: (0.5, 1.0)
report_epochs = 4  # passes of the language models over the real reports; fast: 1
context = 160  # tokens of a report that they read, at most
n_boot = 1000  # resamples of the patients, for the exponents

# %% [markdown]
# The cohort is the one of notebook 1. We add two columns of labels that no report gives: is
# it a man, and is the patient older than 55? The films show both, by the outline, the size
# of the skeleton and its density.

# %%
table = rw.simulate.cohort(n=n, seed=0)
man = (table["sex"] == "M").astype(int)
older = (table["age_years"] > 55).astype(int)
table = table.assign(man=man, older=older)
train = table[table["split"] == "train"]
test = table[table["split"] == "test"]
findings = list(rw.simulate.PLANTED)
table[["patient_id", "sex", "age_years", "man", "older", "split"]].head(4)

# %% [markdown]
# Do the reports really say nothing of sex and age? We look for the words.

# %%
PERSON = r"\b(?:male|female|man|woman|years?|old|elderly|young)\b"
mentioned = train["report"].str.contains(PERSON, case=False).mean()
Markdown(
    f"{len(train):,} radiographs to learn from, {len(test)} of "
    f"{test.patient_id.nunique()} other patients to ask. The share of reports that "
    f"mention sex or age is {mentioned:.0%}."
)

# %% [markdown]
# ## What is an equal budget?
# Not epochs: SimCLR and DINO look at two views of each image, so they get half as many. Not
# seconds either, since those belong to a machine. We count **images through the tower**. The
# tower, its first weights, the order, the schedule and the learning rate are the same for
# all; nothing was tuned for anyone.
#
# Eight exercises in three kinds: one learns from labels, four from reports, three from
# images alone. Each has a recipe in the package.
#
# The keys are the names that the figures will show, and the values are the names of the
# recipes.

# %%
EXERCISES = {
    "supervised": "supervised-tiny",
    "CLIP": "clip-tiny",
    "SigLIP": "siglip-tiny",
    "CLIP + local": "local-tiny",
    "CLIP by sentence": "sentences-tiny",
    "MAE": "mae-tiny",
    "SimCLR": "simclr-tiny",
    "DINO": "dino-tiny",
}
TEXT = ["CLIP", "SigLIP", "CLIP + local", "CLIP by sentence"]
IMAGE = ["MAE", "SimCLR", "DINO"]

# %% [markdown]
# Notebook 2 shows the losses of most of them by hand. *CLIP + local* adds a term that
# compares words with places of the image, and *supervised* learns the ten labels themselves,
# as a task-specific model would.
#
# One function trains them all. It divides the looks by the views that a recipe takes of each
# image.
#
# `fit` is the loop of notebook 2. Whatever else one wants to set, such as the size of
# the images, goes through `settings` to it.


# %%
def pretrain(recipe, name, data=table, passes=passes, batch=batch, **settings):
    views = rw.pretrain.RECIPES[recipe].views
    return rw.pretrain.fit(
        data,
        recipe=recipe,
        out=f"../runs/compared/{name}",
        epochs=max(1, passes // views),
        batch=batch,
        **settings,
    )


def pretrain_all(names):
    return {name: pretrain(EXERCISES[name], EXERCISES[name]) for name in names}


# %% [markdown]
# This is the long part, so it stands in three cells. A run that is there already is taken as
# it is, and one that was stopped goes on.
#
# The first cell trains with labels, and with two losses that tell pairs apart.

# %%
runs = pretrain_all(["supervised", *TEXT[:2]])
list(runs)

# %% [markdown]
# The second trains the two exercises that look closer at a report, by its words and by
# its sentences.

# %%
runs |= pretrain_all(TEXT[2:])
list(runs)

# %% [markdown]
# The third never opens a report. It paints hidden patches, or finds two views of one
# image.

# %%
runs |= pretrain_all(IMAGE)
list(runs)

# %% [markdown]
# Was the budget kept? The steps differ where a step sees two views, and the seconds differ
# since some losses cost more. The images through the tower are the same.

# %%
cost = pd.DataFrame(
    {
        "images through the tower": [passes * len(train)] * len(runs),
        "steps": [len(run.log) for run in runs.values()],
        "seconds": [run.config["seconds"] for run in runs.values()],
    },
    index=list(runs),
)
cost.style.format("{:,.0f}")

# %% [markdown]
# Now every tower turns every film into a point, its embedding. Beside the eight stands a
# ninth, the same tower with the weights that all of them began with.
#
# An embedding has `E` numbers. They mean nothing by themselves, but films that a tower
# takes for alike lie close together.

# %%
Z = {name: rw.models.embed(run.model, table) for name, run in runs.items()}
untrained = rw.models.supervised_tiny([])
Z["untrained"] = rw.models.embed(untrained, table)
Z["untrained"].shape  # (N, E)

# %% [markdown]
# ## Three questions to a frozen tower
# A linear probe on what the tower says of each image: which of ten **findings** are there
# (reports speak of them), is it a **man** (reports never do), is the patient **older** than
# 55 (never)? *Frozen* means that the tower learns nothing any more. The probe, one weight a
# dimension, is fitted on the training patients and asked about others.
#
# `C` holds the weights of the probe small, so that it can't learn the training films by
# heart. It is the same for all towers, since a probe that was tuned for one of them
# would be unfair to the others. Eight towers and the untrained one, three questions
# each:

# %%
QUESTIONS = {
    "ten findings": findings,
    "man or woman": ["man"],
    "older than 55": ["older"],
}
probes = {}
for question, name in product(QUESTIONS, Z):
    labels = QUESTIONS[question]
    probes[question, name] = rw.probe.linear_probe(Z[name], table, label=labels, C=0.1)
len(probes)

# %% [markdown]
# For each question, the mean AUROC of each exercise. An AUROC is the chance that a film with
# the finding gets the higher score than one without; a half is a guess.
#
# Findings have ten AUROCs for each tower, one a finding, and we take their mean. Its
# interval comes from the patients: a new set of test patients would give another
# number, and the interval says by how much.

# %% tags=["headline"]
answers = {}
for question in QUESTIONS:
    rows = [probes[question, name].mean_auroc().assign(finding=name) for name in Z]
    answers[question] = pd.concat(rows)
rw.show.forest(
    answers,
    title="Eight exercises, one tower, one budget: what does a linear probe find?",
    caption="95 % intervals over patients; one training each; dashed: a guess",
)

# %% [markdown]
# Look at one colour at a time. Where two intervals overlap widely, the order of the two is
# not shown. And each exercise was trained once: another seed might move it.
#
# We let a function read the figure. For each question it names the best and the worst
# exercise and the control, each with its interval.


# %%
def best_and_worst(question):
    rows = answers[question].set_index("finding")
    stated = rows.apply(rw.stats.format_interval, axis=1)
    best = rows["auroc"].idxmax()
    worst = rows["auroc"].idxmin()
    return (
        f"- *{question}*: best {best}, {stated[best]}; worst {worst}, "
        f"{stated[worst]}; untrained {stated['untrained']}."
    )


lines = [best_and_worst(question) for question in QUESTIONS]
Markdown("We see:\n\n" + "\n".join(lines))

# %% [markdown]
# Random weights are a control worth having: a random convolution keeps much of an image, and
# a probe with labels can use it. What an exercise has taught is what it has over them.
#
# ## Does a report's silence cost anything?
# RAD-DINO's authors report that learning from images alone keeps what reports don't mention,
# while reports teach a model to drop it (Pérez-García et al. 2025,
# [arXiv 2401.10815](https://arxiv.org/abs/2401.10815)). Here we know what no report says.
#
# So we compare the mean of the image-only exercises with that of the image-text ones, for
# each question. Every exercise of one kind is paired with every one of the other, on the
# same test films, and the mean of these differences gets its interval by patient. Findings
# of too few patients are left out.
#
# Why pairs? Two AUROCs of the same films move together: where a set of patients is
# easy, it is easy for both. The difference within a pair is known better than each of
# the two.


# %%
def pairs_of(question):
    rows = probes[question, "untrained"].auroc()
    enough = rows.loc[rows["low"].notna(), "finding"]  # findings of enough patients
    truth = {}
    images = {}
    texts = {}
    for pair in product(IMAGE, TEXT, enough):
        image, text, finding = pair
        truth[pair] = probes[question, image].truth[finding]
        images[pair] = probes[question, image].values[finding]
        texts[pair] = probes[question, text].values[finding]
    return [pd.DataFrame(columns) for columns in (truth, images, texts)]


# %% [markdown]
# `compare_auroc` takes the three tables, one column a pair. We make three comparisons, so
# each interval is a little wider (`family`), and all of them hold together in 95 %.


# %%
def gap(question):
    return rw.stats.compare_auroc(
        *pairs_of(question),
        test["patient_id"],
        names=("learning from images alone", "learning from reports"),
        family=len(QUESTIONS),
    )


gaps = {question: gap(question) for question in QUESTIONS}

# %% [markdown]
# Each row of the figure is a question, the point is the mean difference.

# %%
differences = pd.DataFrame([gaps[question].row() for question in QUESTIONS])
rw.show.forest(
    differences.assign(finding=list(QUESTIONS)),
    value="difference",
    line=0,
    x_title="AUROC, image-only minus image-text",
    title="What images alone keep, and what reports add",
    caption="intervals that hold together in 95 %",
)

# %% [markdown]
# To the right of the dashed line images alone keep more, to the left reports add something.
#
# A sentence that begins with *can't tell* has an interval that holds zero. It doesn't
# say that the two are equal, only that these films don't show which is better.

# %%
lines = [f"- *{question}*: {gaps[question]}" for question in QUESTIONS]
Markdown("In AUROC we see:\n\n" + "\n".join(lines))

# %% [markdown]
# Does that agree with the claim? It is about the two questions of which no report speaks.

# %%
silent_questions = ["man or woman", "older than 55"]
verdicts = [gaps[question].verdict for question in silent_questions]
Markdown(
    "That images alone keep more of what no report mentions is shown for "
    f"{verdicts.count('ahead')} of {len(verdicts)} such questions here, at this budget "
    "and with this tower."
)

# %% [markdown]
# ## What if a finding is in no report?
# The same films, but no report mentions an effusion. Does the model that never heard the
# word still see the thing? The simulator has a dial for that, `withhold`, which leaves
# pixels and labels as they are.
#
# We train the exercise by sentences on these reports, since it hears of each finding
# in a sentence of its own. Everything else stays as it was: the films,
# their order, the first weights, the budget.

# %%
withheld = "Pleural Effusion"
control = "Edema"
dials = rw.simulate.Dials(withhold=(withheld,))
quiet = rw.simulate.cohort(n=n, seed=0, dials=dials)
silence = pretrain("sentences-tiny", "withheld", quiet)

# %% [markdown]
# Before we ask, we check what we have done: the word must be gone, and the films must be the
# same.
#
# Such a check is cheap, and it has caught many an experiment. A dial that does nothing
# would give a beautiful result, too: *no difference*.


# %%
def share_that_mention(table):
    reports = table.loc[table["split"] == "train", "report"]
    return reports.str.contains("effusion", case=False).mean()


before = rw.data.images(table.head(20), 64)
after = rw.data.images(quiet.head(20), 64)
Markdown(
    f"The word *effusion* stands in {share_that_mention(table):.0%} of the reports "
    f"before and in {share_that_mention(quiet):.0%} after; the films are the same: "
    f"{(before == after).all()}."
)

# %% [markdown]
# We ask both models in words (zero-shot) and with labels (a probe), and beside the effusion
# about edema, of which both have read.


# %%
def ask(run):
    z = rw.models.embed(run.model, table)
    rows = []
    for finding in (withheld, control):
        words = rw.probe.zero_shot(run.model, test, [finding]).auroc()
        labels = rw.probe.linear_probe(z, table, label=finding, C=0.1).auroc()
        rows.append(words.assign(finding=f"{finding}, words"))
        rows.append(labels.assign(finding=f"{finding}, labels"))
    return pd.concat(rows)


# %% [markdown]
# Two models, two findings, two ways to ask:

# %%
by_training = {
    "reports mention it": ask(runs["CLIP by sentence"]),
    "reports are silent": ask(silence),
}
rw.show.forest(
    by_training,
    title="A finding that no report mentioned: asked in words, and with labels",
)

# %% [markdown]
# The two rows of edema are the control: nothing was done to it, so they should hardly move.
# Here are the rows of the figure in numbers.
#
# Read across: what did the silence cost in each row?


# %%
def in_numbers(rows):
    return rows.set_index("finding").apply(rw.stats.format_interval, axis=1)


stated = pd.DataFrame(
    {training: in_numbers(rows) for training, rows in by_training.items()}
)
stated

# %% [markdown]
# The last column is the one that the section asked for.

# %%
silent = stated["reports are silent"]
Markdown(
    f"We see for effusion where reports are silent {silent[f'{withheld}, words']} in "
    f"words and {silent[f'{withheld}, labels']} with labels."
)

# %% [markdown]
# How can an unknown word find anything? Perhaps not the word does it. Among the phrases
# against it stands the normal chest, from which every ill film lies far, and an effusion
# often comes with edema. How much is seen without a name, the labels tell.
#
# ## How many right answers does a large batch punish?
# CLIP takes all other texts of a batch for wrong. The larger the batch, the more of them are
# the same words as the image's report.
#
# ### Exercise 1: count them
# For each image of a batch, is there *another* image with the very same caption? Give the
# share of such images.


# %%
def repeated(ids):
    """(B,) caption numbers -> share of the B that another row of the batch repeats."""
    raise NotImplementedError


# %% [markdown]
# *Hints.* Three images with one caption are three that some other repeats, not two.
# Zero is the answer when all captions differ, and one when all are the same.
# `np.unique` can return how often each number comes.


# %% tags=["solution"] jupyter={"source_hidden": true}
def repeated_solution(ids):
    counts = np.unique(ids, return_counts=True)[1]
    return counts[counts > 1].sum() / len(ids)


# %% [markdown]
# The check counts in the slow and plain way, one image after the other. Captions become
# numbers first: equal numbers are equal captions.


# %%
def repeated_one_by_one(ids):
    repeats = [(ids == number).sum() > 1 for number in ids]
    return sum(repeats) / len(ids)


captions = train["report"].map(rw.pretrain.caption_of)
numbers = np.unique(captions, return_inverse=True)[1]
cases = [(numbers[:40],), (numbers,)]
for mine in (repeated, repeated_solution):
    rw.check.matches(mine, repeated_one_by_one, cases=cases)

# %% [markdown]
# How does it grow with the batch? We draw 200 batches of each size.
#
# A batch is a draw without repetition from the training films, as in a run. The mean
# over many draws is smooth enough to compare.

# %%
rng = np.random.default_rng(0)


def mean_repeated(size):
    draws = [rng.choice(numbers, size, replace=False) for _ in range(200)]
    return np.mean([repeated_solution(draw) for draw in draws])


share = {size: mean_repeated(size) for size in batches}
sizes = [f"{value:.0%} in a batch of {size}" for size, value in share.items()]
Markdown(f"We see {', '.join(sizes)}.")

# %% [markdown]
# So we train twice: with equal captions being right for each other, as everywhere in this
# workbench, and with CLIP's plain loss, which punishes them.
#
# A recipe of yours is a class. `read` takes what it needs from the table, `targets` says
# what belongs to a batch of rows, `represent` turns images and targets into points, and the
# loss compares them. The loop around it, which draws batches, takes steps, validates and
# saves, is the same for all; the docstring of `Recipe` says all that it calls. Here we
# change the loss alone, and put the class under a name.
#
# `Plain` inherits from the class of `clip-tiny`, so it has all of its methods but the
# one that it writes anew. Under its name `fit` finds it, as long as this session lasts.


# %%
class Plain(rw.pretrain.RECIPES["clip-tiny"]):
    """CLIP as published: only the diagonal is right."""

    def loss(self, images, texts, ids):
        return super().loss(images, texts, torch.arange(len(ids)))


rw.pretrain.RECIPES["clip-plain"] = Plain

# %% [markdown]
# Whoever looks closely sees the trick: the plain loss is the shared one with captions that
# all have different numbers.
#
# Now each of the two at each size of a batch. The smallest takes many steps with noisy
# slopes, the largest takes few steps with smooth ones. All see each film equally often.

# %%
LOSSES = {"equal captions right": "clip-tiny", "only its own right": "clip-plain"}
by_batch = {}
for loss, b in product(LOSSES, batches):
    name = f"{LOSSES[loss]}-{b}"
    by_batch[loss, b] = pretrain(LOSSES[loss], name, passes=short, batch=b)
list(by_batch)

# %% [markdown]
# We ask each model in words for all ten findings.
#
# *Zero-shot* means that nothing is fitted: the score of a film is how much nearer it
# lies to phrases that name the finding than to phrases that deny it. The column *steps*
# says how many steps each run has taken.

# %%
scores = {}
rows = []
for (loss, b), run in by_batch.items():
    scores[loss, b] = rw.probe.zero_shot(run.model, test, findings)
    about = {"loss": loss, "images a step": f"{b} ({share[b]:.0%} repeated)"}
    mean = scores[loss, b].mean_auroc().iloc[0]
    rows.append({**about, "steps": len(run.log), **mean})
bars = pd.DataFrame(rows)
bars[["loss", "images a step", "steps", "auroc", "low", "high"]]

# %% [markdown]
# The same as a figure, with the loss as a colour:

# %%
rw.show.bars(
    bars,
    x="images a step",
    y="auroc",
    group="loss",
    line=0.5,
    y_title="zero-shot AUROC, mean of ten",
    title="The size of a batch, and right answers that are punished",
    caption=f"{short} passes each, so a larger batch has fewer steps; 95 % intervals",
)

# %% [markdown]
# Two things change from left to right: more captions repeat, and there are fewer steps. So
# we compare the two colours at each size, where the steps are equal.
#
# `against` pairs the two models film by film, as above, and gives the sentence.

# %%
lines = []
for b in batches:
    sharing = scores["equal captions right", b]
    punishing = scores["only its own right", b]
    names = ("sharing", "punishing")
    comparison = sharing.against(punishing, names, family=len(batches))
    n_steps = len(by_batch["only its own right", b].log)
    lines.append(f"- {b} images a step, {n_steps} steps: {comparison}")
Markdown("In the mean AUROC we see:\n\n" + "\n".join(lines))

# %% [markdown]
# At an equal number of images a larger batch takes fewer steps, and on a small budget that
# is what counts.
#
# ## What would ten times the films buy?
# A **scaling law** says that the error falls as a power of the films: a straight line on
# logarithmic axes (Kaplan et al. 2020, [arXiv 2001.08361](https://arxiv.org/abs/2001.08361)).
# A line can be drawn through anything, so it comes with an interval.
#
# ### Exercise 2: fit a power law
# `error = a * x ** -b`. Return `b`. Take logarithms first: the power becomes the slope of a
# line, and `np.polyfit` fits lines.


# %%
def exponent(x, error):
    """(K,) and (K,) or (K, R) of R resamples -> b, or (R,) of them."""
    raise NotImplementedError


# %% [markdown]
# *Hints.* A falling error has a falling line, and `b` has a minus before it.
# `np.polyfit` returns the slope first, and it takes a whole table of errors at once,
# one column a resample.


# %% tags=["solution"] jupyter={"source_hidden": true}
def exponent_solution(x, error):
    return -np.polyfit(np.log(x), np.log(error), 1)[0]


# %% [markdown]
# The check plants an exponent of a half: four times as many films, half the error.

# %%
planted = np.array([1.0, 2, 4, 8])
for mine in (exponent, exponent_solution):
    rw.check.matches(mine, 0.5, planted, 0.4 * planted**-0.5)

# %% [markdown]
# Small images, so that there is time for many trainings: subsets of the patients, all for
# the **same number of steps**, so a small set is seen more often. The error is one minus the
# zero-shot AUROC. We take it of the test films, and of resamples of their patients, which
# will give the interval.
#
# Why patients, and not films? Ten films of one patient teach less than ten films of
# ten. The subsets lie inside one another, so the larger always holds the smaller.

# %%
patients = train["patient_id"].unique()


def first_patients(share):
    chosen = patients[: round(share * len(patients))]
    return train[train["patient_id"].isin(chosen)]


def passes_for(films):
    steps_a_pass = max(1, len(films) // batch)
    return round(passes * (len(train) // batch) / steps_a_pass)


{share: len(first_patients(share)) for share in shares}


# %% [markdown]
# One function trains and measures. `weights` counts the numbers that the image tower
# learns.


# %%
def scaled(name, share=1.0, **settings):
    films = first_patients(share)
    name = f"scaled-{name}"
    run = pretrain("sentences-tiny", name, films, passes_for(films), **settings)
    scores = rw.probe.zero_shot(run.model, test, findings)
    return {
        "films": len(films),
        "weights": sum(p.numel() for p in run.model.net.visual.parameters()),
        "steps": len(run.log),
        "error": 1 - scores.mean_auroc().auroc[0],
        "draws": 1 - scores.resamples(n_boot=n_boot).mean(axis=1).to_numpy(),
    }


# %% [markdown]
# First the films, with the tower as it is; then towers of other widths, on all films. The
# largest of both is the same run.
#
# If the law holds, each step to the right along either axis takes the same share off
# the error.

# %%
by_films = [scaled(f"films-{share}", share, size=size) for share in shares]
by_width = []
for width in (48, 96):
    shape = {"size": size, "width": width, "embed": width}
    by_width.append(scaled(f"width-{width}", shape=shape))
by_width.append(by_films[-1])  # a width of 192
different = by_films + by_width[:-1]
measured = pd.DataFrame(different).drop(columns="draws")
measured.style.hide(axis="index").format({"error": "{:.3f}"}, thousands=",")

# %% [markdown]
# Now the fit, to the errors and to every resample of them. The middle 95 % of the resampled
# exponents are the interval.
#
# A resample is a set of patients drawn anew from the test patients, some twice, some
# never. Every run is measured on the same resamples, so the exponent of each resample
# is that of one set of patients.


# %%
def law(runs, axis):
    x = np.array([run[axis] for run in runs])  # (K,)
    errors = np.array([run["error"] for run in runs])  # (K,)
    draws = np.stack([run["draws"] for run in runs])  # (K, n_boot)
    low, high = np.quantile(exponent_solution(x, draws), [0.025, 0.975])
    return {"exponent": exponent_solution(x, errors), "low": low, "high": high}


# %% [markdown]
# Two laws, one for films and one for weights:

# %%
laws = {"films": law(by_films, "films"), "weights": law(by_width, "weights")}
pd.DataFrame(laws).round(2)

# %% [markdown]
# The line of the fit runs through the middle of the points, on axes that are logarithmic
# both ways.
#
# Equal distances on a logarithmic axis are equal factors: from 100 to 200 films is as
# far as from 1,000 to 2,000.


# %%
def show_law(runs, axis):
    points = pd.DataFrame(runs)
    line = points[axis] ** -laws[axis]["exponent"]
    ratio = points["error"] / line
    middle = np.exp(np.log(ratio).mean())
    points["fitted power law"] = line * middle
    points = points.rename(columns={"error": "measured"})
    stated = rw.stats.format_interval(laws[axis], "exponent")
    title = f"Error against {axis}: exponent {stated}"
    panels = {"1 - AUROC, zero-shot": ["measured", "fitted power law"]}
    figure = rw.show.curve(points, x=axis, panels=panels, title=title)
    return figure.update_xaxes(type="log").update_yaxes(type="log")


# %% [markdown]
# Do the points lie on the line? With so few of them a curve could hide.

# %%
show_law(by_films, "films")

# %% [markdown]
# And against the weights of the tower:

# %%
show_law(by_width, "weights")

# %% [markdown]
# What would ten times the films buy, were the line to go on? The exponent turns into a share
# of the error, and so do the ends of its interval.
#
# Ten to the power of minus `b` is what ten times the films leave of the error. What it
# takes away is one minus that.

# %%
films = laws["films"]
effect = "no effect of more films is shown"
if films["low"] > 0:
    effect = "more films help"
gain = {key: 1 - 10**-value for key, value in films.items()}
Markdown(
    f"We see an exponent of {rw.stats.format_interval(films, 'exponent')} for films: "
    f"{effect}, and ten times as many would take the error by {gain['exponent']:.0%} "
    f"({gain['low']:.0%} to {gain['high']:.0%})."
)

# %% [markdown]
# The same for the width of the tower. Here the sign can go either way, since a wider tower
# has more to learn in the same number of steps.

# %%
weights = laws["weights"]
effect = "no effect of width is shown"
if weights["low"] > 0:
    effect = "wider towers help"
if weights["high"] < 0:
    effect = "narrower ones do better"
Markdown(
    f"For weights it is {rw.stats.format_interval(weights, 'exponent')}: {effect}."
)

# %% [markdown]
# The intervals are over test patients; another seed of the training isn't in them.
#
# ## Reports alone: what do language models learn from them?
# Text-only foundation models (CXR-BERT, RadBERT) read reports without any image. Two
# exercises: **guess the hidden words** (BERT, Devlin et al. 2019,
# [arXiv 1810.04805](https://arxiv.org/abs/1810.04805)) and **say the next word** (GPT). Both
# losses are the same sum over different places: minus the logarithm of the chance that the
# model gave to the word that stands there.
#
# By hand, `logits` has a score for each of `V` pieces of the vocabulary at each place, and
# `softmax` turns them into chances that sum to one.


# %%
def hidden_words(logits, tokens, hidden):
    chance = logits[hidden].softmax(-1)  # (M, V): of the M hidden places
    right = chance[torch.arange(len(chance)), tokens[hidden]]
    return -right.log().mean()


def next_word(logits, tokens, pad):
    real = tokens[:, 1:] != pad  # place t says token t + 1
    return hidden_words(logits[:, :-1], tokens[:, 1:], real)


# %% [markdown]
# The second calls the first: saying the next word is guessing hidden words, with the
# sentence cut off before each. We compare both with the package on random numbers.

# %%
generator = torch.Generator().manual_seed(0)
logits = torch.randn(3, 9, 20, generator=generator)
tokens = torch.randint(1, 20, (3, 9), generator=generator)
hidden = tokens > 12
rw.check.matches(hidden_words, rw.pretrain.objectives.masked_lm, logits, tokens, hidden)
padded = tokens.masked_fill(tokens < 4, 0)
rw.check.matches(next_word, rw.pretrain.objectives.causal_lm, logits, padded, 0)

# %% [markdown]
# Now on 3,955 real reports. The simulator's grammar is closed; these were dictated by
# people. Each report is taken for a patient's only one.
#
# Empty reports go, and the split is made by patient as always.

# %%
reports = rw.data.reports(rw.data.fetch("openi-reports"))
reports = reports[reports["report"].str.len() > 0]
report_id = reports["report_id"]
reports = reports.assign(patient_id=report_id, study_id=report_id)
reports = rw.curate.split_by_patient(reports, seed=0)
reports["split"].value_counts().to_frame("reports")


# %% [markdown]
# Both models have the same shape, a text tower like that of notebook 2 without any
# image tower beside it. They read the reports a few times over.


# %%
def read_reports(recipe):
    return rw.pretrain.fit(
        reports,
        recipe=recipe,
        out=f"../runs/compared/openi-{recipe}",
        epochs=report_epochs,
        context=context,
        batch=batch,
    )


# %% [markdown]
# One hides some of the pieces, at random, and guesses them. The other reads from left
# to right.

# %%
speak = {
    "hidden words": read_reports("mlm-tiny"),
    "next word": read_reports("lm-tiny"),
}

# %% [markdown]
# Their score is the **perplexity**: among how many equally likely pieces the model chooses,
# in effect. It needs a control. What would a model score that knows how often each piece
# comes in the training reports, and nothing else? We count.
#
# The start of each text and the filling behind its end are no words, so they don't
# count. One is added to every count in training, since a piece that was never seen
# isn't impossible.

# %%
writer = speak["next word"].model
vocabulary = writer.tokenizer


def counts_in(split):
    texts = list(reports.loc[reports["split"] == split, "report"])
    pieces = vocabulary(texts).flatten()
    counts = np.bincount(pieces, minlength=vocabulary.vocab_size)
    return np.delete(counts, [vocabulary.pad, vocabulary.start])


chance = counts_in("train") + 1  # none is impossible
chance = chance / chance.sum()
others = counts_in("val")
by_counting = np.exp(-(others * np.log(chance)).sum() / others.sum())
f"{by_counting:.0f}"

# %% [markdown]
# The log has a row for each step, and the perplexity on other reports once a pass.

# %%
renamed = []
for name, run in speak.items():
    measured = run.log.dropna(subset="val_perplexity")
    renamed.append(measured.rename(columns={"val_perplexity": name}))
axis = "perplexity on other reports"
rw.show.curve(
    pd.concat(renamed),
    panels={axis: list(speak)},
    lines={axis: by_counting},
    title="Two language models of real reports",
    caption="dashed: a model that knows how often a word comes, and nothing else",
)

# %% [markdown]
# Both fall far below the dashed line, since words of a report hang together. Guessing a
# hidden word is easier: there are words on both sides to go by.

# %%
last = {}
for name, run in speak.items():
    last[name] = run.log["val_perplexity"].dropna().iloc[-1]
Markdown(
    f"We see a perplexity of {last['hidden words']:.1f} for a hidden word, and "
    f"{last['next word']:.1f} for the next one; {by_counting:.0f} is what counting "
    "gives."
)

# %% [markdown]
# What does it say when it has seen no image at all? We give it the beginning of a report,
# take the likeliest next piece, put it behind, and ask again. This is all that *generating*
# text is.
#
# Inside: every piece has a vector, and every place adds another one. The layers mix
# them, each place from those before it. What comes out at the last place is compared
# with the vectors of all pieces, and the best match is the answer.


# %%
@torch.no_grad()
def likeliest_next(model, tokens):
    net = model.net
    length = len(tokens)
    x = net.token_embedding(torch.tensor([tokens])) + net.positional_embedding[:length]
    mask = net.attn_mask[:length, :length]  # a place sees none that come later
    x = net.ln_final(net.transformer(x, attn_mask=mask))  # (1, T, E)
    logits = x[0, -1] @ net.token_embedding.weight.T  # (V,)
    return int(logits.argmax())


# %% [markdown]
# We begin four reports, and stop at the end mark or after 28 pieces.


# %%
def continued(model, words, most=28):
    tokens = model.tokenizer.encode(words)[:-1]  # without the end
    while len(tokens) < most and tokens[-1] != model.tokenizer.end:
        tokens.append(likeliest_next(model, tokens))
    return model.tokenizer.decode(tokens)


beginnings = ["FINDINGS: The heart", "FINDINGS: There is no"]
beginnings += ["FINDINGS: The lungs are", "IMPRESSION: Large right"]
written = [continued(writer, words) for words in beginnings]
continuations = pd.DataFrame({"beginning": beginnings, "written": written})
continuations.style.format(escape="html").hide(axis="index")

# %% [markdown]
# Fluent, plausible, and about nobody: nothing here has an image behind it. A report
# generator falls back on this whenever its image tower has nothing to say, which is one
# source of what is called hallucination.
#
# The numbers to remember of this page are the best exercise for findings, what images
# alone have over reports in telling men from women, the exponent of the films, and the
# perplexity of the writer.

# %%
by_findings = answers["ten findings"].set_index("finding")
best = by_findings["auroc"].drop("untrained").idxmax()
rw.book.headline(
    best_for_findings=best,
    image_only_minus_text_on_sex=gaps["man or woman"].difference,
    films_exponent=films["exponent"],
    perplexity=last["next word"],
)

# %% [markdown]
# What to take along, in the numbers of this run:

# %%
intervals = by_findings.apply(rw.stats.format_interval, axis=1)
Markdown(f"""
## What we found
- At an equal number of images {best} serves a probe of findings best
  ({intervals[best]}); the untrained tower has {intervals["untrained"]}.
- What no report mentions: for man or woman, {gaps["man or woman"]}; for older than 55,
  {gaps["older than 55"]}.
- A finding that no report names: in words {silent[f"{withheld}, words"]}, with labels
  {silent[f"{withheld}, labels"]}.
- Error against films: exponent {rw.stats.format_interval(films, "exponent")}; against
  weights {rw.stats.format_interval(weights, "exponent")}.
""")

# %% [markdown]
# **Where it breaks.** One seed, one small tower, one learning rate for all, a budget of
# minutes: MAE and DINO are known to need many more images before they pay, and so this
# ranking isn't that of the field. Augmentation differs by what an exercise needs (SimCLR and
# DINO crop). The virtual patients are one person's CT, bent; sex and age are planted in it by
# a few numbers, which is less than what real films carry. A power law through four points
# and three is a line through few points. The language models write with a vocabulary of
# 1,024 pieces and have read one collection of reports.
