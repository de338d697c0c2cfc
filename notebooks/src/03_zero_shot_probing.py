# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 3 · Can it find what nobody labelled?
#
# The model of notebook 2 has read reports, never labels. Here it is asked, in words, for findings, and its answers
# are held against the truth.
#
# **You will** turn two sentences into a classifier, compute an AUROC and its interval by hand, see how much hangs on
# the wording, and carry the model to real radiographs.
#
# **Needs**: notebook 2 (it wrote `../runs/clip-tiny`); 2.5 minutes on two CPU cores, and 2 more when the supervised
# twin is trained for the first time. **Data**: the simulator on a real CT (LIDC-IDRI, CC BY 3.0); 16 real paediatric
# radiographs (Kermany et al., CC BY 4.0).
#
# *For teaching and research. Not for clinical use.*

# %%
import numpy as np
import pandas as pd
from IPython.display import Markdown, display

import radwb as rw

# %% tags=["parameters"]
n = 2400  # virtual radiographs in the cohort, as in notebook 2
n_boot = 1000  # resamples of the patients
twin_epochs = 6  # of the supervised twin; fast: 1
draws = 3  # choices of patients for each label budget; fast: 1

# %%
table = rw.simulate.cohort(n=n, seed=0)
model = rw.models.load("../runs/clip-tiny")
findings = rw.data.findings_of(table)
vectors = rw.models.embed(model, table)  # (N, E), each image a point of unit length
is_test = (table["split"] == "test").to_numpy()
test, Z = table[is_test], vectors[is_test]
shares = ", ".join(f"{f} ({test[f].mean():.0%})" for f in findings)
Markdown(f"{len(test)} radiographs of {test.patient_id.nunique()} virtual patients that the model never saw: {shares}.")

# %% [markdown]
# ## Two sentences make a classifier
# Images and sentences live in one space. Is the image nearer to *there is a pleural effusion* or to *there is no
# pleural effusion*? A softmax over the two cosines turns the answer into a probability (CheXzero, Tiu et al. 2022,
# [doi 10.1038/s41551-022-00936-9](https://doi.org/10.1038/s41551-022-00936-9)).

# %%
yes, no = model.encode_text(["there is a pleural effusion", "there is no pleural effusion"]).detach().numpy()
cosines = np.stack([Z @ yes, Z @ no], axis=1)  # (N, 2)
weight = np.exp(model.logit_scale * cosines)
probability = weight[:, 0] / weight.sum(axis=1)  # softmax over the pair

y = test["Pleural Effusion"].to_numpy()
split = {"with effusion": probability[y == 1], "without": probability[y == 0]}
display(rw.show.hist(split, density=True, x_title="probability of pleural effusion", title="Two sentences, no label"))
Markdown(f"We see a mean probability of {split['with effusion'].mean():.2f} with an effusion, "
         f"{split['without'].mean():.2f} without.")  # fmt: skip

# %%
# the package does the same for any number of findings and phrases; from here on we call it
pair = rw.probe.Prompts(positive={"Pleural Effusion": ["there is a pleural effusion"]},
                        negative={"Pleural Effusion": ["there is no pleural effusion"]})  # fmt: skip
single = rw.probe.zero_shot(model, test, ["Pleural Effusion"], prompts=pair, embeddings=Z)
rw.check.matches(probability, single.values["Pleural Effusion"], tol=1e-4)

# %% [markdown]
# ### Exercise 1: the ensemble
# One wording is a lottery ticket, so we average many: the mean of the phrases' unit vectors, made unit again. Write it.


# %%
def ensemble(phrases):
    """(E,) the unit vector of several phrases."""
    raise NotImplementedError


# %% tags=["solution"] jupyter={"source_hidden": true}
def ensemble_solution(phrases):
    mean = model.encode_text(phrases).detach().numpy().mean(axis=0)
    return mean / np.linalg.norm(mean)


# %%
phrases = [["no pneumothorax"], ["no effusion", "there is no pleural effusion", "without pleural effusion"]]
for mine in (ensemble, ensemble_solution):
    rw.check.matches(mine, lambda p: rw.probe.class_embedding(model, p), cases=[(p,) for p in phrases])

# %% [markdown]
# ## How good is a score? AUROC by hand
# AUROC is the chance that an image with the finding scores above one without. Rank all scores: the rank sum of the
# positives, less the least it could be, counts the pairs that are won.

# %%
from scipy.stats import rankdata


def auroc_by_hand(y, s):
    ranks, n1 = rankdata(s), (y == 1).sum()  # ties share their mean rank
    won = ranks[y == 1].sum() - n1 * (n1 + 1) / 2
    return won / (n1 * (len(y) - n1))


rw.check.matches(auroc_by_hand, rw.probe.auroc, cases=[(y, probability), (y, probability.round(1))])  # the 2nd has ties
Markdown(f"We see that an image with effusion outranks one without in {auroc_by_hand(y, probability):.1%} of pairs.")

# %% [markdown]
# ## Why patients, not images?
# An interval says how far the AUROC would move with other patients: draw them again, with replacement, and look. Many
# programs draw images. But two films of one chest are not two observations. What if each file lay in the folder twice?

# %%
scores = rw.probe.zero_shot(model, test, findings, embeddings=Z)
rows = []
for name, times in {"as it is": 1, "each file twice": 2}.items():
    lesion, s, who = (np.repeat(x, times) for x in (test["Lung Lesion"], scores.values["Lung Lesion"], test["patient_id"]))
    for drawn, unit in {"patients": who, "images": range(len(lesion))}.items():
        low, high = np.quantile(rw.probe.bootstrap(lesion, s, unit, n_boot=n_boot), [0.025, 0.975])
        rows.append({"table": name, "drawn": drawn, "width": high - low})

# %%
width = pd.DataFrame(rows)
display(rw.show.bars(width, x="table", y="width", group="drawn", y_title="width of the 95 % interval, lung lesion",
                     title="Copies tell nothing new, yet drawing images believes them"))  # fmt: skip
w = width.set_index(["table", "drawn"]).width
Markdown(f"We see the interval over images shrink from {w['as it is', 'images']:.3f} to {w['each file twice', 'images']:.3f} "
         f"by copying files; over patients it stays at {w['each file twice', 'patients']:.3f}.")  # fmt: skip

# %% [markdown]
# ### Exercise 2: the bootstrap
# `rw.probe.resample_patients` gives each image its patient's number `row` (N,) and how often each patient was drawn,
# `counts` (patients, resamples). Compute the AUROC of every resample.


# %%
def bootstrap(y, s, row, counts):
    """(resamples,) AUROC of each resample."""
    raise NotImplementedError


# %% tags=["solution"] jupyter={"source_hidden": true}
def bootstrap_solution(y, s, row, counts):
    times = counts[row].astype(int)  # (N, resamples) how often each image is in
    return np.array([rw.probe.auroc(np.repeat(y, t), np.repeat(s, t)) for t in times.T])


# %%
row, counts = rw.probe.resample_patients(test["patient_id"], n_boot=25, seed=1)
package = rw.probe.bootstrap(y, probability, test["patient_id"], n_boot=25, seed=1)
for mine in (bootstrap, bootstrap_solution):
    rw.check.matches(mine, package, y, probability, row, counts)

# %% [markdown]
# ## All findings, beside a supervised twin and a control
# The twin has the same image tower and learns from the labels themselves. The control holds the same answers against
# labels dealt out to other patients: it must be near 0.5.

# %% tags=["headline"]
run = rw.pretrain.fit(table, recipe="supervised-tiny", out="../runs/supervised-tiny", epochs=twin_epochs)
twin = rw.probe.classify(run.model, test)
series = {"zero-shot": scores, "supervised twin": twin, "shuffled labels": scores.shuffled(seed=1)}
rows = {name: pd.concat([s.auroc(n_boot=n_boot), s.mean_auroc(n_boot=n_boot)]) for name, s in series.items()}
display(rw.show.forest(rows, title="Words against labels, on unseen patients"))
mean = {name: r.iloc[-1] for name, r in rows.items()}
gap = (twin.resamples(n_boot=n_boot) - scores.resamples(n_boot=n_boot)).mean(axis=1)  # the same resamples: paired
low, high = np.quantile(gap, [0.025, 0.975])
Markdown(f"We see a mean AUROC of {rw.probe.stated(mean['zero-shot'])} from words. Labels add {gap.mean():+.2f} "
         f"({low:+.2f} to {high:+.2f}). With shuffled labels: {rw.probe.stated(mean['shuffled labels'])}.")  # fmt: skip

# %% [markdown]
# ## How much hangs on the wording?
# The same question in five wordings, one pair at a time.

# %%
wordings = {"{}": "no {}", "there is a {}": "there is no {}", "{} is present": "{} is absent",
            "findings of {}": "no evidence of {}", "the patient has a {}": "the patient has no {}"}  # fmt: skip
asked = {}
for yes, no in wordings.items():
    one = rw.probe.Prompts.of(findings, positive=[yes], negative=[no], normal=[])
    answers = rw.probe.zero_shot(model, test, findings, prompts=one, embeddings=Z)
    asked[yes.format("X")] = answers.auroc(n_boot=1).set_index("finding").auroc
asked = pd.DataFrame(asked)
spread = asked.max(axis=1) - asked.min(axis=1)
display(rw.show.heat(asked, label="AUROC", limits=(0, 1), title="One model, five wordings"))
Markdown(f"We see that the wording alone moves the AUROC by {spread.max():.2f} for {spread.idxmax()}, and by "
         f"{spread.mean():.2f} on average.")  # fmt: skip

# %% [markdown]
# ## What if any way of saying it may count?
# A report doesn't say *consolidation* and stop. It gives a size, a side, a lobe, and each combination lies somewhere else in
# the space: their mean lies nowhere. So we write out all the ways, give each its likelihood at the model's own temperature,
# and take the mean of those. One that fits is enough, and no denial stands against it.

# %%
spoken = rw.probe.Prompts.spoken(findings)
ways = model.encode_text(list(spoken.positive["Consolidation"])).detach().numpy()  # (K, E)
by_hand = np.log(np.exp(model.logit_scale * Z @ ways.T).mean(axis=1))  # (N,)
anyhow = rw.probe.zero_shot(model, test, findings, pool="any", embeddings=Z)
rw.check.matches(by_hand, anyhow.values["Consolidation"].to_numpy())
rng = np.random.default_rng(0)
Markdown(f"{len(ways)} ways for consolidation, such as " + ", ".join(
    f"*{spoken.positive['Consolidation'][i]}*" for i in rng.choice(len(ways), 4, replace=False)))  # fmt: skip

# %%
pooled = rw.probe.zero_shot(model, test, findings, prompts=spoken, embeddings=Z)
series = {"a pair of means": scores, "a pair, all ways in the mean": pooled, "any way": anyhow}
rows = {name: pd.concat([s.auroc(n_boot=n_boot), s.mean_auroc(n_boot=n_boot)]) for name, s in series.items()}
display(rw.show.forest(rows, title="How to ask: the mean of few phrases, or any of many"))
asked_any = rows["any way"].iloc[-1]
won, rest = ((a.resamples(n_boot=n_boot) - b.resamples(n_boot=n_boot)).mean(axis=1)
             for a, b in ((anyhow, scores), (twin, anyhow)))  # fmt: skip
Markdown(f"""We see {rw.probe.stated(asked_any)} for any way, {won.mean():+.2f} ({won.quantile(0.025):+.2f} to
{won.quantile(0.975):+.2f}) beside the pair; what labels add to that is {rest.mean():+.2f} ({rest.quantile(0.025):+.2f} to
{rest.quantile(0.975):+.2f}). The phrases were chosen on validation patients. The price: a rank, and no probability.""")

# %% [markdown]
# ## Does it read the word *no*?
# If it does, *no pneumothorax* alone ranks healthy images first, an AUROC **below** 0.5. If it only hears the noun, or
# has learnt in what company the *no* is written, it does not.

# %%
bare, rows = rw.probe.Prompts.of(findings, positive=["{}"], negative=["no {}"], normal=[]), []
for f in findings:
    yes, no = (rw.probe.class_embedding(model, side) for side in bare.pair(f))
    for name, direction in (("X", yes), ("no X", no), ("X less no X", yes - no)):
        rows.append({"finding": f, "prompt": name, "auroc": rw.probe.auroc(test[f], Z @ direction)})
heard = pd.DataFrame(rows)
display(rw.show.bars(heard, x="finding", y="auroc", group="prompt", line=0.5, y_title="AUROC", title="The word no"))
first = (heard.auroc > 0.5).groupby(heard["prompt"]).sum()
ill, denied = table[findings].any(axis=1), table["report"].str.contains("IMPRESSION:.*No pneumothorax")
Markdown(f"We see that of {len(findings)} findings, *X* alone ranks images with X first for {first['X']}, *no X* alone for "
         f"{first['no X']}, their difference for {first['X less no X']}. One reason: of the films whose impression says *No "
         f"pneumothorax*, {ill[denied].mean():.0%} have something else; of all films, {ill.mean():.0%}.")  # fmt: skip

# %% [markdown]
# ## How many labels does the tower save?
# A logistic regression on the frozen image vectors, fitted with few or many labelled patients. Beside it the same tower
# with random weights.

# %%
random = rw.models.clip_tiny(model.tokenizer, seed=1, shape=model.spec["shape"])
towers = {"pretrained": vectors, "random weights": rw.models.embed(random, table)}
budgets = dict(label="Pneumothorax", fractions=(0.02, 0.1, 1.0), draws=draws)
curve = pd.concat([rw.probe.label_efficiency(v, table, **budgets).assign(tower=name) for name, v in towers.items()])
curve["budget"] = curve.patients.map("{:.0f} patients".format)
display(rw.show.bars(curve, x="budget", y="auroc", group="tower", line=0.5, y_title="AUROC, pneumothorax",
                     title="Few labels go far on a pretrained tower"))  # fmt: skip
few, most = curve[curve.tower == "pretrained"].iloc[0], curve[curve.tower == "random weights"].iloc[-1]
Markdown(f"We see {rw.probe.stated(few)} from {few.budget} on the pretrained tower, and {rw.probe.stated(most)} from "
         f"{most.budget} on the random one.")  # fmt: skip

# %% [markdown]
# ## And real radiographs?
# Sixteen films of children, eight with bacterial pneumonia: another age, another disease, and no simulator. The control
# is a number anyone can compute, the mean brightness. A larger real set joins in where `RADWB_MIRROR` holds it (NIH
# ChestX-ray14 at 64 px, with the findings the model was trained for).

# %%
carried, said = {}, ""
for name, wanted in {"kermany-16": ["Pneumonia", "No Finding"], "nih-64": findings}.items():
    try:
        films = rw.data.real(name)
    except rw.data.FetchError as missing:
        said += f" {str(missing).split(' (')[0]} is neither in the cache nor in a mirror."
        continue
    wanted = [finding for finding in wanted if finding in films]  # it has labels for
    grey = rw.data.images(films, model.size).mean(axis=(1, 2), keepdims=True)[:, 0].repeat(len(wanted), axis=1)
    carried[f"{name}, zero-shot"] = rw.probe.zero_shot(model, films, wanted).auroc(n_boot=n_boot)
    carried[f"{name}, brightness"] = rw.probe.Scores.of(grey, films, wanted).auroc(n_boot=n_boot)

# %%
display(rw.show.forest(carried, title="From the simulator to real films", caption=""))
children, grey = (carried[f"kermany-16, {how}"].iloc[0] for how in ("zero-shot", "brightness"))
told = {name.split(",")[0]: result for name, result in carried.items() if "zero-shot" in name}
sizes = ", ".join(f"{r.n.max()} films of {r.patients.max()} patients in {name}" for name, r in told.items())
better = [f"{r.finding.lower()} ({name})" for name, result in told.items() for r in result.itertuples() if r.low > 0.5]
questions = sum(map(len, told.values()))
Markdown(f"""We see {rw.probe.stated(children)} for pneumonia in {children.n} children; brightness alone has
{rw.probe.stated(grey)}. Of {questions} questions to real films ({sizes}) {len(better)} are answered better than by a guess, the whole
interval above 0.5: {', '.join(better) or 'none'}. The rest of what the simulator taught doesn't carry.{said}""")

# %%
rw.book.headline(zero_shot_mean_auroc=mean["zero-shot"].auroc, asked_any_way=asked_any.auroc,
                 supervised=mean["supervised twin"].auroc, shuffled=mean["shuffled labels"].auroc)  # fmt: skip
lines = [
    f"**Words go far on virtual patients**: AUROC {rw.probe.stated(mean['zero-shot'])}; labels {gap.mean():+.2f}.",
    f"**Wording is part of the model**: up to {spread.max():.2f} AUROC lie between two ways to ask; any way a report says "
    f"it has {rw.probe.stated(asked_any)}.",
    f"**Real films are another matter**: {len(better)} of {questions} questions to them are answered better than a guess.",
]
Markdown("## What we found\n" + "\n".join(f"- {line}" for line in lines))

# %% [markdown]
# ## Where it breaks
# - The virtual patients share one CT's anatomy; an AUROC here says little of a hospital.
# - Sixteen images make an interval, not a verdict; a percentile interval is too narrow where nearly all pairs are won.
# - The labels are what was planted. In real data they are mined from reports, and errors there move every number.
# - An AUROC needs no threshold; a decision does, and a threshold moves with prevalence and site.
#
# Next: notebook 4 looks at where in the image the answer comes from.
