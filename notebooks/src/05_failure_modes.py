# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 5 · Where does it break, and what helps?
#
# A high AUROC can be earned for the wrong reason. Here we plant such a reason, turn it up with one dial, measure what
# it does, and mend it. Then we look for the failures nobody planted.
#
# **You will** tie a marker to a finding, prove with an edited image that the model uses it, see whether a map would have
# told you, retrain one layer, find weak groups, look at the worst misses, and show the model what it has never seen.
#
# **Needs**: notebook 2 (it wrote `../runs/clip-tiny`); 4 minutes on two CPU cores. **Data**: the simulator and axial
# slices of its real CT (LIDC-IDRI, CC BY 3.0); 16 real paediatric radiographs (Kermany et al., CC BY 4.0).
#
# *For teaching and research. Not for clinical use.*

# %%
import numpy as np
import pandas as pd
from IPython.display import Markdown, display

import radwb as rw

# %% tags=["parameters"]
n = 2400  # virtual radiographs in the cohort, as in notebook 2
n_train = 800  # images for each setting of the dial; fast: 64
epochs, lr = 3, 1e-3  # of each fine-tuning; fast: 1, 1e-3
k = 5  # neighbours, for unknown input
seeds = 5  # towers that learn the letter, for the maps; fast: 2
n_maps = 40  # test films a map is drawn of; fast: 8
methods = ("attention", "rollout", "relevance", "gradcam")

# %%
table = rw.simulate.cohort(n=n, seed=0)
model = rw.models.load("../runs/clip-tiny")
finding = "Lung Lesion"
test = table[table["split"] == "test"].reset_index(drop=True)
images = rw.data.images(test, model.size)
letter = dict(kind="letter", corner="bottom-right")
marked = rw.fail.add_marker(images[:4], [True, False, True, False], **letter)
rw.show.grid(list(marked / 255), titles=["marker", "none"] * 2, title="A lead letter says nothing of the patient")

# %% [markdown]
# ## A shortcut with a dial
# Suppose one department, where the patients with lung lesions go, marks its films with a letter. At strength 0.5 the
# letter says nothing; at 1 every training image with the finding carries it and no other does. How good is a reader who
# looks at the letter alone?

# %%
y = table.loc[table["split"] == "train", finding].to_numpy()
for strength in (0.5, 0.75, 1.0):
    carries = rw.fail.tie(y, strength)
    sensitivity, specificity = carries[y == 1].mean(), (~carries)[y == 0].mean()
    rw.check.matches((sensitivity + specificity) / 2, rw.probe.auroc(y, carries))
Markdown(f"We see that for a yes-or-no reader AUROC is the mean of sensitivity and specificity; both are the strength, "
         f"here {rw.probe.auroc(y, carries):.2f} in the end.")  # fmt: skip

# %% [markdown]
# ## Turn the dial
# For each strength we fine-tune our model for lung lesions, then test the **same unseen images** three ways: letter
# where the finding is (the tie holds), anywhere (independent), only where the finding is not (the tie is broken).

# %% tags=["headline"]
result = rw.fail.shortcut(table, start=model, finding=finding, epochs=epochs, lr=lr, n=n_train, **letter)
dial = result.table.assign(finding=result.table.strength.map("strength {:g}".format))
by_arm = dict(list(dial.groupby("arm", sort=False)))
display(rw.show.forest(by_arm, title="What a tied letter does to the answer"))
tied = result.table[result.table.strength == 1].set_index("arm")
drop = tied.auroc["tie holds"] - tied.auroc["tie broken"]
Markdown(f"We see, fully tied, {rw.probe.stated(tied.loc['tie holds'])} where the tie holds and "
         f"{rw.probe.stated(tied.loc['tie broken'])} where it's broken, a drop of {drop:.2f}. The letter alone scores "
         f"{tied.marker_only['tie holds']:.0f} and {tied.marker_only['tie broken']:.0f}.")  # fmt: skip

# %% [markdown]
# ## Prove it on one image at a time
# An AUROC that drops is a suspicion. The proof is an edit: the same film, once without and once with the letter, and
# nothing else changed (DeGrave et al. 2021, [doi 10.1038/s42256-021-00338-7](https://doi.org/10.1038/s42256-021-00338-7)).

# %%
edits = result.edits.assign(given=lambda e: e.finding.map({1: "with lesion", 0: "without"}))
edits["tie"] = edits.strength.map("strength {:g}".format)
display(rw.show.bars(edits, x="tie", y="added", group="given", line=0, y_title="change of the logit",
                     title="What pasting the letter does to the answer"))  # fmt: skip
said = edits[edits.finding == 0].set_index("strength")
Markdown(f"We see that the letter alone moves healthy films by {rw.probe.stated(said.loc[1.0], 'added')} logits when "
         f"tied, and by {rw.probe.stated(said.loc[0.5], 'added')} when it wasn't.")  # fmt: skip

# %% [markdown]
# ### Exercise 1: the counterfactual edit
# `tuned.logits(images)` answers for a stack of images, `rw.fail.add_marker(images, **result.marker)` pastes the letter;
# where exactly on image i depends on i, so paste before you choose. Write the mean change over the healthy films.


# %%
def effect_of_letter(tuned, images, healthy):
    """Mean change of the logit over healthy films, a bool an image, when the letter is pasted on each image."""
    raise NotImplementedError


# %% tags=["solution"] jupyter={"source_hidden": true}
def effect_solution(tuned, images, healthy):
    change = tuned.logits(rw.fail.add_marker(images, **result.marker)) - tuned.logits(images)
    return change[healthy].mean()


# %%
healthy = (result.test[finding] == 0).to_numpy()
for mine in (effect_of_letter, effect_solution):
    rw.check.matches(mine, said.added[1.0], result.tuned[1.0], result.images, healthy, tol=1e-4)

# %% [markdown]
# ## Would a map have told us?
# Here the reason is known: the letter. So each way of drawing a map can be asked whether it shows it. Five towers are
# fine-tuned, each with its own seed, and drawn on test films that have a lesion *and* carry the letter.

# %%
learn = table[table["split"] == "train"].head(n_train)
films, y = rw.data.images(learn, model.size), learn[finding].to_numpy()
films = rw.fail.add_marker(films, y == 1, **letter)
learnt = [rw.fail.finetune(model, films, y, epochs=epochs, lr=lr, seed=seed)[0] for seed in range(seeds)]
towers = [one.classifier(finding) for one in learnt]

# %%
from scipy.ndimage import maximum_filter

ill = [rw.data.scan_of(row) for _, row in test[test[finding] == 1].head(n_maps).iterrows()]
plain = np.stack([np.round(s.pixels * 255).astype(np.uint8) for s in ill])
stamped = rw.fail.add_marker(plain, **letter)
moved = [(one.logits(stamped) - one.logits(plain)).mean() for one in learnt]  # by the letter alone: do they read it?
reach = plain.shape[1] // model.grid[0] // 2  # half a patch around the letter, since no map is finer
letters = [maximum_filter(changed, 2 * reach + 1) for changed in stamped != plain]
scans = [rw.data.Scan(np.float32(x / 255), s.spacing_mm, s.view, truth={"letter": m, finding: s.truth[finding]})
         for x, s, m in zip(stamped, ill, letters, strict=True)]  # fmt: skip

# %%
rows, shown = [], {}
for seed, tower in enumerate(towers):
    for method in methods:
        maps = rw.attend.attention_maps(tower, scans, method=method, targets=finding)
        shown[method] = maps[0]
        for part in ("letter", finding):
            scores = pd.DataFrame([rw.attend.score_map(m, s.truth[part]) for m, s in zip(maps, scans, strict=True)])
            rows.append({"seed": seed, "map": method, "part": part, "times": scores.energy.mean() / scores.area.mean()})
seen = pd.DataFrame(rows)
rw.show.grid([scans[0]] * len(methods), maps=list(shown.values()), titles=list(shown), truth=True,
             columns=len(methods), cell=190, title=f"One film, one tower: the letter alone adds {moved[-1]:.1f} to its logit")  # fmt: skip

# %%
from scipy.stats import t

mass = seen.groupby(["map", "part"], sort=False)["times"].agg(["mean", "sem"]).reset_index()
half = t.ppf(0.975, seeds - 1) * mass["sem"]
mass = mass.assign(low=mass["mean"] - half, high=mass["mean"] + half)
display(rw.show.bars(mass, x="map", y="mean", group="part", line=1, y_title="share of the map / share of the film",
                     title="Does the map show what the model used?"))  # fmt: skip
on = mass.set_index(["part", "map"])
shows = [m for m in methods if on.loc[("letter", m), "low"] > max(1, on.loc[(finding, m), "high"])]
hides = [m for m in methods if on.loc[("letter", m), "high"] < 1]
Markdown(f"The letter alone adds {min(moved):.1f} to {max(moved):.1f} to the logits of the {seeds} towers. We see clearly more on "
         f"it than in a blind map (1) and than on the lesion by: {', '.join(shows) or 'none'}; "
         f"less on it than in a blind map by: {', '.join(hides) or 'none'}. ({seeds} seeds, {len(scans)} films.)")  # fmt: skip

# %% [markdown]
# ## Who takes the bait?
# Everyone, or is a letter learnt where it is easier than the finding? Three changes, one at a time: pneumothorax, which our
# tower sees better than lung lesions; the same tower with random weights; and ours with a third of the learning rate, so that
# it stays closer to what it knew.

# %%
fresh = rw.models.clip_tiny(model.tokenizer, seed=1, shape=model.spec["shape"])
changes = {"pneumothorax": {"finding": "Pneumothorax"}, "random weights": {"start": fresh}, "a third of the rate": {"lr": lr / 3}}
rows = [tied.reset_index().assign(finding="as above")]
for name, change in changes.items():
    as_above = dict(start=model, finding=finding, epochs=epochs, lr=lr, n=n_train, strengths=[1.0], **letter)
    rows.append(rw.fail.shortcut(table, **as_above | change).table.assign(finding=name))
bait = pd.concat(rows)
display(rw.show.forest(dict(list(bait.groupby("arm", sort=False))), title="Fully tied: who reads the letter?"))
broken = bait[bait.arm == "tie broken"].set_index("finding")
Markdown("We see, where the tie is broken, " + "; ".join(f"{name}: {rw.probe.stated(r)}" for name, r in broken.iterrows())
         + ". A reader of nothing but the letter has 0, one who ignores it the same in all three.")  # fmt: skip

# %% [markdown]
# ## Mend it
# The tower may still see the lesions, while the last layer listens to the letter. Retrain only that layer on the
# validation patients, with the letter dealt out at random (Kirichenko et al. 2023,
# [arXiv 2204.02937](https://arxiv.org/abs/2204.02937)). Hardly any penalty (C = 100): one would favour the loud letter.

# %%
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

val, tuned = table[table["split"] == "val"], result.tuned[1.0]
loose = rw.fail.add_marker(rw.data.images(val, model.size), rw.fail.tie(val[finding], 0.5, seed=7), **result.marker)
last = make_pipeline(StandardScaler(), LogisticRegression(C=100, class_weight="balanced", max_iter=2000))
last = last.fit(rw.models.embed(tuned.model, loose), val[finding])

# %%
pair = (result.images, rw.fail.add_marker(result.images, **result.marker))
off, on = (last.decision_function(rw.models.embed(tuned.model, x)) for x in pair)
mended = rw.fail.arms(off, on, result.test, finding).set_index("arm")
both = {"before": tied.assign(finding=tied.index), "last layer retrained": mended.assign(finding=mended.index)}
display(rw.show.forest(both, title="One retrained layer"))
free = result.table[result.table.strength == 0.5].set_index("arm")
Markdown(f"We see {rw.probe.stated(mended.loc['tie broken'])} where the tie is broken, after {len(val)} images without "
         f"one; it was {tied.auroc['tie broken']:.2f}, and is {free.auroc['tie broken']:.2f} for who was never tied.")  # fmt: skip

# %% [markdown]
# ## Failures nobody planted: who is missed?
# Back to the zero-shot model of notebook 3, and to pneumothorax: small ones against all healthy films, then each site,
# sex and view by itself.

# %%
finding = "Pneumothorax"
scores = rw.probe.zero_shot(model, test, [finding])
size = pd.cut(test[f"{finding} severity"], [0, 1 / 3, 2 / 3, 1], labels=["small", "moderate", "large"])
groups = pd.concat([
    rw.fail.subgroups(scores, size, of="cases"),
    *(rw.fail.subgroups(scores, column + " " + test[column].astype(str)) for column in ("site", "sex", "view")),
])  # fmt: skip
display(rw.show.forest(groups.assign(finding=groups.group), title="Pneumothorax, zero-shot, by group"))
worst, best = (groups.loc[groups.auroc == f(groups.auroc)].iloc[0] for f in (min, max))
Markdown(f"We see {rw.probe.stated(worst)} for *{worst.group}* and {rw.probe.stated(best)} for *{best.group}*. With "
         f"{len(groups)} groups, one interval in twenty misses by chance.")  # fmt: skip

# %% [markdown]
# ## Look at the worst misses
# The four films with the finding that score lowest, with the planted outline.

# %%
score = scores.values[finding].to_numpy()
missed = test.assign(score=score, rank=pd.Series(score).rank(pct=True))[test[finding] == 1].nsmallest(4, "score")
titles = [f"{r[f'{finding} side']}, severity {r[f'{finding} severity']:.2f}<br>below {1 - r['rank']:.0%} of all films"
          for _, r in missed.iterrows()]  # fmt: skip
display(rw.show.grid([rw.data.scan_of(r) for _, r in missed.iterrows()], titles=titles, truth=finding,
                     title="Missed pneumothoraces"))  # fmt: skip
severity = test[f"{finding} severity"]
Markdown(f"We see a mean severity of {missed[f'{finding} severity'].mean():.2f} among them; over all cases it is "
         f"{severity.mean():.2f}.")  # fmt: skip

# %% [markdown]
# ## Does it notice what it has never seen?
# A model answers whatever it is shown. The distance of an image to its nearest training images may tell that it is
# strange. We show it its own test films mirrored, or with black and white swapped, films of real children, and a CT.

# %%
from contextlib import suppress

from sklearn.covariance import LedoitWolf
from sklearn.neighbors import NearestNeighbors

volume = rw.data.read(rw.data.fetch("lidc-ct") / "cxr.nii.gz")
axis = int(np.argmax(np.abs(volume.affine[2, :3])))  # the axis that runs head to foot
cuts = [volume.slice(axis, i, (-1000, 400)).pixels for i in range(10, volume.shape[axis] - 10, 4)]
who, size = test["patient_id"], model.size
inputs = {"known: test films": (images, who), "mirrored films": (images[:, :, ::-1], who),
          "inverted films": (255 - images, who),
          "CT slices": (np.stack([rw.data.to_input(c, size) * 255 for c in cuts]).astype(np.uint8), ["CT"] * len(cuts))}

# %%
for name in ("kermany-16", "hannover"):
    with suppress(rw.data.FetchError):  # the second only where RADWB_MIRROR holds it
        films = rw.data.real(name)
        inputs[f"real: {name}"] = rw.data.images(films, size), films["patient_id"]
rw.show.grid([x[3] / 255 for x, _ in inputs.values()], titles=list(inputs), columns=3, title="Known and unknown")

# %%
points = {name: rw.models.embed(model, x) for name, (x, _) in inputs.items()}
train, known = rw.models.embed(model, table[table["split"] == "train"]), points["known: test films"]
near, shape = NearestNeighbors(n_neighbors=k).fit(train), LedoitWolf().fit(train)
distance = {"k-th neighbour": lambda z: near.kneighbors(z)[0][:, -1], "Mahalanobis": shape.mahalanobis}

# %%
rows = {}
for method, far in distance.items():
    parts = []
    for name, z in list(points.items())[1:]:
        answer = pd.DataFrame({name: np.concatenate([far(known), far(z)])})
        truth = pd.DataFrame({name: np.repeat([0, 1], [len(known), len(z)])})
        parts.append(rw.probe.Scores(answer, truth, np.array([*who, *inputs[name][1]])).auroc())
    rows[method] = pd.concat(parts)
display(rw.show.forest(rows, x_title="AUROC, unknown against known", title="Does distance tell the unknown?"))
seen = rows["k-th neighbour"].set_index("finding")
Markdown("We see by the k-th neighbour: " + ", ".join(f"{name} {rw.probe.stated(r)}" for name, r in seen.iterrows())
         + ". (All slices are of one CT, so their interval says nothing of other patients.)")  # fmt: skip

# %% [markdown]
# ### Exercise 2: the k-th neighbour
# Write the distance from each point to its k-th nearest reference point without a library.


# %%
def kth_neighbour(Z, reference, k):
    """(N,) Euclidean distance of each row of Z to its k-th nearest row of `reference`."""
    raise NotImplementedError


# %% tags=["solution"] jupyter={"source_hidden": true}
def kth_solution(Z, reference, k):
    squared = (Z**2).sum(1)[:, None] + (reference**2).sum(1) - 2 * Z @ reference.T  # (N, R)
    return np.sqrt(np.clip(np.sort(squared, axis=1)[:, k - 1], 0, None))


# %%
for mine in (kth_neighbour, kth_solution):
    rw.check.matches(mine, near.kneighbors(known)[0][:, -1], known, train, k, tol=1e-3)

# %%
rw.book.headline(tie_holds=tied.auroc["tie holds"], tie_broken=tied.auroc["tie broken"], drop=drop,
                 mended=mended.auroc["tie broken"])  # fmt: skip
lines = [
    f"**A letter in an AUROC**: {tied.auroc['tie holds']:.2f}, then {tied.auroc['tie broken']:.2f} once the tie breaks.",
    f"**One layer and {len(val)} honest images**: {mended.auroc['tie broken']:.2f} where the tie is broken, from "
    f"{tied.auroc['tie broken']:.2f}.",
    f"**A map may tell**: of {len(methods)} kinds the letter is shown by {', '.join(shows) or 'none'}.",
    f"**The mean hides the weak**: {worst.group} {rw.probe.stated(worst)}, {best.group} {rw.probe.stated(best)}.",
]
Markdown("## What we found\n" + "\n".join(f"- {line}" for line in lines))

# %% [markdown]
# ## Where it breaks
# - We knew which marker to edit. A shortcut that nobody suspects needs other means than this dial.
# - Retraining the last layer needs images that are free of the tie, and can only use what the tower still sees.
# - An AUROC of unknown against known depends on what is called unknown: an easy stranger flatters every detector.
# - All groups are small; look at the intervals before the order.
