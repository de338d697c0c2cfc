# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 9 · Failure laboratory
#
# In how many other ways can a model fail, and which of them would anyone have noticed?
#
# Notebook 5 tells one story, of one mark. Here every section is a story of its own: something is broken on purpose, the
# damage is measured beside a control, and where it can be asked, a detector that wasn't told has to find it.
#
# **You will** see who takes a bait and who doesn't; ask each group by itself and plant three reasons for a gap; spoil
# films in twelve ways and read eight of them; attack a model with words, with ink and with grey levels; check a
# promise of 90 %; show a model what it has never seen; change its scanner behind its back; find out what it remembers;
# take a published model from children to adults; and measure how far a reader follows wrong advice.
#
# **Needs**: notebook 5; 15 minutes on two CPU cores; `pip install 'radwb[fail]'`. **Data**: the simulator and axial
# slices of its real CT (LIDC-IDRI, CC BY 3.0); 16 real paediatric radiographs (Kermany et al., CC BY 4.0) and a
# published classifier of such films (83 MB, no licence stated); where `RADWB_MIRROR` holds them, 260 more of these
# radiographs, 729 of adults (NIH ChestX-ray14, free use with attribution), 184 from Hannover (CC BY 3.0) and a public
# collection of COVID films (each with a licence of its own).
#
# *For teaching and research. Not for clinical use.*

# %%
import numpy as np
import pandas as pd
import torch
from IPython.display import Markdown

import radwb as rw

# %% [markdown]
# The numbers on which this page depends. A fast run takes the smaller ones behind `fast:`, and its intervals are wide.

# %% tags=["parameters"]
n = 2400  # virtual radiographs in the cohort, as in notebook 2; fast: 700
seeds = 5  # trainings of each kind; fast: 2
n_train = 800  # films that each head learns from; fast: 160
n_tower = 800  # films where a whole tower is fine-tuned; fast: 32
epochs = 3  # passes over them; fast: 1
n_some = 200  # films where each takes its time: spoilt, attacked, real; fast: 32
repeats = 20  # streams of films, and cohorts without any slice; fast: 2
n_words = 12  # nonsense words that are held against a finding's name; fast: 3
n_read = 80  # films that simulated readers read; fast: 40
contrasts = (0.25, 0.5, 1, 2, 4)  # of lesions to noise; fast: (0.5, 2)
n_edited = 16  # patients who are filmed again with one thing changed; fast: 4
level = 0.9  # how often a set of answers shall hold the truth; fast: 0.8

# %% [markdown]
# The model is the small one that comes with the package, and its weights stay as they are on the whole page. We take
# the films of patients that it has not met, and compute the embeddings of all films once.

# %%
table = rw.simulate.cohort(n=n, seed=0)
parts = {}
for part, rows in table.groupby("split"):
    parts[part] = rows.reset_index(drop=True)
train = parts["train"]
val = parts["val"]
test = parts["test"]
model = rw.models.load("radwb-tiny")
images = rw.data.images(test, model.size)
Z_train = rw.models.embed(model, train)
Z_val = rw.models.embed(model, val)
Z_test = rw.models.embed(model, images)

# %%
patients = test["patient_id"].nunique()
Markdown(f"{len(test)} films of {patients} patients are asked on this page.")


# %% [markdown]
# ## Who takes the bait?
# In notebook 5 a head that reads every patch fell for a mark in the corner. Does everyone fall for it, or is a mark
# learnt where it is easier than the finding? Four changes, one at a time, fully tied: a head on the tower's **pooled
# embedding** instead of its patches; **pneumothorax** instead of lung lesions; a tower of **random weights**; and the
# **whole tower** fine-tuned instead of a head alone.

# %%
mark = {"kind": "room", "corner": "bottom-right"}
as_in_5 = {"start": model, "finding": "Lung Lesion", "n": n_train, "seeds": seeds}
fresh = rw.models.clip_tiny(model.tokenizer, seed=1, shape=model.spec["shape"])
changes = {
    "as in notebook 5": {},
    "pooled embedding": {"learner": "embedding"},
    "pneumothorax": {"finding": "Pneumothorax"},
    "random weights": {"start": fresh},
    "whole tower": {"learner": "tower", "n": n_tower, "epochs": epochs},
}

# %% [markdown]
# Each change is a new experiment with new trainings. The whole tower takes most of the time: all of its weights are
# trained, and not only those of a head.

# %%
baits = {}
for name, change in changes.items():
    new_setting = {**as_in_5, **mark, **change}
    changed = rw.fail.shortcut(table, strengths=[1.0], **new_setting)
    baits[name] = changed.table

# %% [markdown]
# Before you look at the numbers, make a guess for each of the four changes. Would a head that sees only the pooled
# embedding still find a small mark in a corner? Would a network that has never been trained?

# %%
ARMS = ("tie holds", "independent", "tie broken")
named = [rows.assign(finding=name) for name, rows in baits.items()]
bait = pd.concat(named)

# %% [markdown]
# Such runs are drawn three times on this page: a dot a training, and beside the dots their mean over the seeds.


# %%
def forest_over_seeds(rows, group, names, **labels):
    """A forest with a dot a seed, and beside them their mean and its interval."""
    dots = {}
    means = {}
    for name in names:
        dots[name] = rows[rows[group] == name]
        means[name] = rw.fail.over_seeds(dots[name], by=["finding"], within=(0, 1))
    return rw.show.forest(means, points=dots, **labels)


# %%
forest_over_seeds(
    bait,
    "arm",
    ARMS,
    x_title="AUROC: a dot a seed; mean with 95 % interval over seeds",
    title="Fully tied: who reads the mark?",
    caption=f"{seeds} seeds a row",
)

# %% [markdown]
# A reader of nothing but the mark would have AUROCs of 1, 0.5 and 0 in the three arms. One who ignores it would have the
# same in all three. So we compare the outer arms, seed by seed.

# %%
held_or_broken = {
    "names": ("a held tie", "a broken one"),
    "what": "AUROC",
    "family": len(baits),
}

# %%
lines = []
for name, rows in baits.items():
    arms = rows.pivot(index="seed", columns="arm", values="auroc")
    held = arms["tie holds"]
    broken = arms["tie broken"]
    comparison = rw.stats.compare_seeds(held, broken, **held_or_broken)
    drops = (held - broken).map("{:.2f}".format)
    lines.append(f"- **{name}**: {comparison}. Drops by seed: {', '.join(drops)}.")

# %% [markdown]
# Each line gives the mean difference with its interval, then the drop of each seed. A change that protects against
# the mark has drops near zero for every seed.

# %%
Markdown(
    "We see, where the tie holds against where it's broken:\n"
    + "\n".join(lines)
    + "\n\nWhere single seeds differ much, one training proves nothing."
)


# %% [markdown]
# ## Other worlds, the same failure
# Notebook 5 tied a mark to a finding. Films carry other things that come with disease: the hospital, the position, the
# drain of those who are treated already. Each was found in real archives, and each has an order of AUROCs by which one
# knows it. Do we see the same orders here?
#
# All that follows reads each film once through the frozen tower and trains heads on what it said.

# %%
films = rw.fail.FrozenFilms(table, model)
n_learnt_from = len(films.rows("train"))
n_unseen = len(films.rows("test"))
Markdown(f"{n_learnt_from} films to learn from, {n_unseen} of other patients.")

# %% [markdown]
# ### A site where everybody is ill
# Zech and colleagues trained on two hospitals of which one had many more pneumonias
# ([doi 10.1371/journal.pmed.1002683](https://doi.org/10.1371/journal.pmed.1002683)). We draw films so that a share of
# those of site A have a lung lesion, and as much less of site B. First by hand: how good is a reader who sorts by site
# and never looks at a film?

# %%
shares = {"A": 0.9, "B": 0.1}
drawn = rw.fail.rows_at(table, "Lung Lesion", column="site", shares=shares)
two_sites = table.iloc[drawn]
is_ill = (two_sites["Lung Lesion"] == 1).to_numpy()
from_a = (two_sites["site"] == "A").to_numpy()
ill_from_a = from_a[is_ill].mean()
from_b = ~from_a
well_from_b = from_b[~is_ill].mean()
by_hand = (ill_from_a + well_from_b) / 2
by_package = rw.stats.auroc(is_ill, from_a)
rw.check.matches(by_hand, by_package)

# %% [markdown]
# Now the heads. *Internal* are unseen patients of the same two sites in the same proportions; *balanced* the same sites
# with half and half; *external* the third site. What would a head do that knows lesions only?

# %%
world_shares = (0.5, 0.7, 0.9)

# %%
sites = rw.fail.unequal_groups(films, shares=world_shares, seeds=seeds)
by_arm = rw.fail.over_seeds(sites.table, by=("dial", "arm"), within=(0, 1))
by_arm["share"] = by_arm["dial"].map("{:g} at A".format)
rw.show.bars(
    by_arm,
    x="share",
    y="auroc",
    group="arm",
    line=0.5,
    y_title="AUROC, 95 % over seeds",
    title="Lesions common at one site, rare at the other",
)

# %% [markdown]
# The third site may be harder in itself. So a lead counts only beyond the lead that heads have which were trained where
# both sites are alike: the difference of two differences, paired by seed.

# %%
lines = [f"- {comparison}" for comparison in sites.comparisons().values()]
top_share = world_shares[-1]
at_top = by_arm[by_arm["dial"] == top_share]
steepest = at_top.set_index("arm")["auroc"]

# %%
Markdown(
    f"We see, at a share of {top_share:g}, internal {steepest['internal']:.2f}, "
    f"balanced {steepest['balanced']:.2f}, external {steepest['external']:.2f}, and "
    f"{steepest['group alone']:.2f} for the site alone:\n" + "\n".join(lines)
)

# %% [markdown]
# ### The same with the position
# The sick are filmed lying (AP). If lesions are common in AP films, does a head go by the position?

# %%
by_view = {"column": "view", "groups": ("AP", "PA")}
views = rw.fail.unequal_groups(films, shares=world_shares, seeds=seeds, **by_view)
lines = [f"- {comparison}" for comparison in views.comparisons().values()]
Markdown("We see\n" + "\n".join(lines))

# %% [markdown]
# ### What an outside test can't see
# DeGrave and colleagues asked when an outside test reveals a shortcut
# ([doi 10.1038/s42256-021-00338-7](https://doi.org/10.1038/s42256-021-00338-7)). Sites A and B mark their lesions with
# a room. Site C is the outside: once without any mark, once with the same habit. Which of the two looks well?

# %%
travelled = rw.fail.travelling_mark(films, n=n_train, seeds=seeds)
by_arm = rw.fail.over_seeds(travelled.table, by=("dial", "arm"), within=(0, 1))
rw.show.bars(
    by_arm,
    x="dial",
    y="auroc",
    group="arm",
    line=0.5,
    y_title="AUROC, 95 % over seeds",
    title="A mark that stays at home, and one that comes along",
)

# %%
left, came = travelled.comparisons().values()
Markdown(
    f"We see, where the mark is left behind: {left}. Where it comes along: {came}. "
    "A test at another hospital clears a model only of habits which that hospital "
    "doesn't share."
)

# %% [markdown]
# ### Good at what is known already
# A pneumothorax that somebody has seen has a drain. A model may find drains. Oakden-Rayner and colleagues took the films
# with a pneumothorax apart by it ([doi 10.1145/3368555.3384468](https://doi.org/10.1145/3368555.3384468)): those without
# a drain are the ones that a model is for. The simulator plants chest tubes in some; a control learns from no film that
# has one.

# %%
drained = rw.fail.hidden_drain(films, shares=None, n=n_train, seeds=seeds)
drawn_on = rw.fail.hidden_drain(films, "Lung Lesion", n=n_train, seeds=seeds)
worlds = {
    "pneumothorax, tubes as planted": drained,
    "lesion, drains drawn on": drawn_on,
}
parts = []
for name, world in worlds.items():
    means = rw.fail.over_seeds(world.table, by=("dial", "arm"), within=(0, 1))
    parts.append(means.assign(world=name))
pd.concat(parts).set_index(["world", "dial", "arm"]).round(3)

# %%
lines = []
for name, world in worlds.items():
    for comparison in world.comparisons().values():
        lines.append(f"- {name}: {comparison}")
Markdown("We see, tied against not tied:\n" + "\n".join(lines))

# %% [markdown]
# Compare the two. Where a finding is easy by itself, little is left for a drain to add.


# %% [markdown]
# ## Edit the patient, not the film
# A mark can be pasted. A lesion or a fluid can't: pasted, it has edges that no patient has. In the simulator it can be
# **planted**, or left out, in the same patient, and the film exposed again with the same noise. Then one thing differs.
# Here are a film with an effusion, the same patient without, and the *placebo*: the same change, of the same area,
# where it means nothing.

# %%
unseen = table[table["split"] != "train"]
of_lungs = []
for seed, site in enumerate("ABC"):
    bare = rw.simulate.render([], site=site, seed=seed, organs=True)
    outline = bare.truth["Lungs"]
    of_lungs.append(np.float32(outline))
mean_lungs = np.mean(of_lungs, axis=0)
lungs = rw.data.to_input(mean_lungs, model.size, fit="squash")


# %% [markdown]
# One function films the same patients twice, with and without what is edited.


# %%


def filmed_twice(what, edit, n):
    twice = rw.simulate.refilm(unseen, what, edit, n=n)
    return rw.fail.edit_films(twice, model, what, edit)


gone = filmed_twice("Pleural Effusion", "remove", n_edited)
fake = rw.fail.placebo(gone, lungs)

# %%
three = [gone.before[0], gone.after[0], fake.after[0]]
rw.show.grid(
    [square / 255 for square in three],
    titles=["as planted", "effusion removed", "placebo"],
    title="One patient, one thing changed",
)

# %% [markdown]
# A head that knows the finding must lower its answer when it's removed and raise it when it's added, and stay where it
# is at the placebo. The sign is asked of each film by itself.

# %%
shuffled = np.random.default_rng(0).permutation(films.rows("train"))
some = shuffled[:n_train]
n_filmed = {"Pleural Effusion": n_edited, "Lung Lesion": 2 * n_edited}
heads = {}
edits_of = {}
for name, n_films in n_filmed.items():
    heads[name] = films.learn(films.part(some, name))
    removed = filmed_twice(name, "remove", n_films)
    placebo = rw.fail.placebo(removed, lungs)
    added = filmed_twice(name, "add", n_films)
    edits_of[name] = rw.fail.edited(heads[name].logits, removed, placebo, added)

# %% [markdown]
# By hand once, for the effusion: the change of each film, and the share with the right sign.

# %%
head = heads["Pleural Effusion"]
before = head.logits(gone.before)
after = head.logits(gone.after)
change = after - before
right_by_hand = (change < 0).mean()
by_edit = edits_of["Pleural Effusion"].table.set_index("edit")
on_removal = by_edit.loc["remove the pleural effusion"]
rw.check.matches(right_by_hand, on_removal["right"])

# %% [markdown]
# The mark beside it, on a head that was tied to one.

# %%
tied_part = films.tied(some, "Lung Lesion", 0.95)
tied_head = films.learn(tied_part)

# %%
unseen_rows = films.rows("test")[:60]
bare = films.part(unseen_rows, "Lung Lesion")
added = rw.fail.edit_mark(bare.images, bare.patients, "add")
moved = rw.fail.edit_mark(bare.images, bare.patients, "move")
placebo = rw.fail.placebo(added, lungs)
edits = (added, moved, placebo)
edits_of["a tied mark"] = rw.fail.edited(tied_head.logits, *edits)

# %%
tables = [result.table for result in edits_of.values()]
changed = pd.concat(tables)
columns = ["change", "low", "high", "right", "n", "patients"]
changed.set_index("edit")[columns].round(2)

# %%
lines = []
for _, row in changed.iterrows():
    mean = rw.stats.format_interval(row, "change")
    signs = f", sign right in {row['right']:.0%}" if row["expected"] else ""
    lines.append(f"- {row['edit']}: {mean}{signs}, {row['n']} films")
Markdown(
    "We see a change of the logit of\n" + "\n".join(lines) + "\n\nA small lesion that "
    "the tower doesn't see can't move an answer either way."
)

# %% [markdown]
# ### How clear must a lesion be?
# No head can answer to what a film doesn't show. The simulator has a dial for that: the *contrast to noise* of a finding,
# its mean signal over the spread of the anatomy around it. So we add lesions to the same patients, at the same places,
# once faint and then ever clearer, and ask for the sign again.

# %%
clear_as = {}
for cnr in contrasts:
    dials = rw.simulate.Dials(cnr=cnr)
    twice = rw.simulate.refilm(
        unseen, "Lung Lesion", "add", n=2 * n_edited, dials=dials
    )
    clear_as[cnr] = rw.fail.edit_films(twice, model, "Lung Lesion", "add")

# %%
first_film = [pairs.after[0] / 255 for pairs in clear_as.values()]
rw.show.grid(
    first_film,
    titles=[f"contrast to noise {cnr:g}" for cnr in clear_as],
    columns=len(clear_as),
    cell=190,
    title="One lesion, fainter and clearer",
)

# %%
ends = {"right_low": "low", "right_high": "high"}
by_contrast = []
for cnr, pairs in clear_as.items():
    answers = rw.fail.edited(heads["Lung Lesion"].logits, pairs)
    share = answers.table[["right", *ends, "n"]].rename(columns=ends)
    by_contrast.append(share.assign(cnr=f"{cnr:g}"))
signs_right = pd.concat(by_contrast)

# %%
rw.show.bars(
    signs_right,
    x="cnr",
    y="right",
    line=0.5,
    y_title="share with the right sign, 95 % by patient",
    title="Contrast of a lesion to noise, and whether the answer rises",
)

# %%
lines = []
for _, row in signs_right.iterrows():
    share = rw.stats.format_interval(row, "right")
    lines.append(f"{share} at {row['cnr']}")
Markdown(
    f"We see the sign right in a share of {', '.join(lines)}, of {row['n']} films each. "
    "Where even clear lesions leave answers unmoved, the limit is the tower's and no "
    "longer the film's."
)


# %% [markdown]
# ## Mend it: what does each repair need, and what does it cost?
# Notebook 5 mended a head in two ways. There are more, and they differ in what they must be **told**: the mark of every
# film, its look, its place, or nothing but a few films of another hospital. A repair that needs what nobody has is no
# repair. So we put eight of them on one bench, and measure all on patients whom neither training nor repair has met.
#
# The tie is a little weaker than in notebook 5: of a hundred films with the lesion, 95 carry the mark, and 5 of a
# hundred without. Why not all? Count the films in the four groups of lesion and mark.

# %%
lesion = "Lung Lesion"
tie = 0.95
mend_films = table.head(3 * n_train).reset_index(drop=True)
to_train = mend_films[mend_films["split"] == "train"]
learn_films = to_train.head(n_train)
y_learn = learn_films[lesion].to_numpy(int)
carries_mark = rw.fail.confound(y_learn, tie)
four_groups = 2 * y_learn + carries_mark  # lesion and mark, as one number
pd.crosstab(y_learn, carries_mark, rownames=["lesion"], colnames=["mark"])

# %%
sizes = np.bincount(four_groups)
against = sizes[1] + sizes[2]  # a mark without a lesion, a lesion without a mark
Markdown(
    f"We see that {against} of {len(y_learn)} films speak against the mark. Were the "
    "tie perfect, there would be none, and no weighing or drawing of films could tell "
    "the head that the mark is not the lesion."
)

# %% [markdown]
# ### Weigh the few
# The simplest repair lets each group count the same: a film weighs the more, the fewer there are of its kind. By hand,
# and then by scikit-learn.

# %%
from sklearn.utils.class_weight import compute_sample_weight

n_of_own_kind = sizes[four_groups]  # for each film, how many are like it
by_hand = len(y_learn) / (4 * n_of_own_kind)
rw.check.matches(by_hand, compute_sample_weight("balanced", four_groups))

# %% [markdown]
# Does it help? The head has more weights than films, so with a weak penalty it gets *every* training film right. Then
# nothing is left to be weighed. Sagawa et al. 2020 ([arXiv 1911.08731](https://arxiv.org/abs/1911.08731)) found this
# in large networks; here it is a dial of the logistic regression, its inverse penalty `C`.
#
# We read the features of the films once, without and with the mark.


# %%
def read_twice(rows, **how):
    """Features of the films as they are, and with the mark pasted on."""
    squares = rw.data.images(rows, model.size)
    marked_squares = rw.fail.add_marker(squares, **mark)
    plain = rw.fail.patch_features(model, squares, **how)
    pasted = rw.fail.patch_features(model, marked_squares, **how)
    return plain, pasted


mend_test = mend_films[mend_films["split"] == "test"]
plain_learn, pasted_learn = read_twice(learn_films)
plain_test, pasted_test = read_twice(mend_test)

# %% [markdown]
# Each seed deals the marks out anew. Then the same films are learnt from twice, as they are and weighed.


# %%
def tied_features(seed):
    """What a head learns from at a seed: features, and the weights of the films."""
    marked = rw.fail.confound(y_learn, tie, seed=seed)
    features = np.where(marked[:, None], pasted_learn, plain_learn)
    groups = 2 * y_learn + marked
    weights = compute_sample_weight("balanced", groups)
    return features, {"as they are": None, "weighed": weights}


# %%
y_mend = mend_test[lesion].to_numpy(int)
where_broken = rw.fail.confound(y_mend, 0)  # marked where no lesion is
broken_features = np.where(where_broken[:, None], pasted_test, plain_test)

# %%
rows = []
for seed in range(seeds):
    features, weighings = tied_features(seed)
    for C in (100, 10, 1):
        for name, weights in weighings.items():
            head = rw.fail.fit_head(model, features, y_learn, C=C, weights=weights)
            logits = head.of(broken_features)
            auroc = rw.stats.auroc(y_mend, logits)
            rows.append({"finding": f"C = {C}", "films": name, "auroc": auroc})
weighing = pd.DataFrame(rows)

# %%
forest_over_seeds(
    weighing,
    "films",
    ["as they are", "weighed"],
    title="Weights alone, at three penalties",
    x_title="AUROC where the tie is broken: a dot a seed; mean, 95 % over seeds",
    caption=f"{seeds} seeds a row; a penalty rises as C falls",
)

# %%
weighed_or_not = {
    "names": ("weighed", "as they are"),
    "what": "AUROC",
    "family": 3,
}

# %%
lines = []
for C, rows in weighing.groupby("finding", sort=False):
    by_films = rows.groupby("films")["auroc"]
    weighed = by_films.get_group("weighed").to_numpy()
    as_are = by_films.get_group("as they are").to_numpy()
    comparison = rw.stats.compare_seeds(weighed, as_are, **weighed_or_not)
    lines.append(f"- {C}: {comparison}, to {weighed.mean():.2f}")
Markdown("We see, where the tie is broken, at\n" + "\n".join(lines))

# %% [markdown]
# ### Whoever loses most counts more
# *Group DRO* (distributionally robust optimisation) doesn't fix the weights: after each step a group that still loses
# gets a larger share of the next. The shares are multiplied by the exponential of the loss, and made to sum to one.
# The head takes a step down this weighted loss, and so on.


# %%
def next_shares(shares, losses, step_size=0.01):
    """Whoever loses most counts more at the next step."""
    grown = shares * np.exp(step_size * losses)
    return grown / grown.sum()


# %% [markdown]
# The rest is gradient descent on a logistic regression, in which a film of group g counts as much as its group's share,
# divided by the number of its films. At the start all four groups have a quarter.


# %%
def probability(logits):
    """The inverse of the log odds."""
    return 1 / (1 + np.exp(-logits))


def group_losses(logits):
    """Mean logistic loss of the films in each group."""
    towards_truth = np.where(y_learn == 1, logits, -logits)
    losses = np.logaddexp(0, -towards_truth)
    return np.bincount(dro_groups, losses) / sizes


# %%
n_steps = 200
dealt = rw.fail.confound(y_learn, tie, seed=0)
dro_groups = 2 * y_learn + dealt
sizes = np.bincount(dro_groups)
features, _ = tied_features(0)
x = features - features.mean(axis=0)
lengths = (x**2).sum(axis=1)
rate = 4 / lengths.max()  # a step that can't overshoot
w = np.zeros(x.shape[1], np.float32)
b = 0.0
shares = np.full(4, 0.25)
trace = []

# %%
for _ in range(n_steps):
    logits = x @ w + b
    shares = next_shares(shares, group_losses(logits))
    a_film = shares / sizes
    error = probability(logits) - y_learn
    pull = a_film[dro_groups] * error
    downhill = pull.astype(np.float32) @ x
    shrink = w / (100 * len(x))  # the penalty at C = 100
    w = w - rate * (downhill + shrink)
    b = b - rate * pull.sum()
    trace.append(shares)

# %%
dro_head = rw.fail.group_dro(model, features, y_learn, dro_groups, steps=n_steps)
rw.check.matches(w, dro_head.weights, tol=1e-3)

# %%
group_names = ["neither", "mark alone", "lesion alone", "both"]
followed = pd.DataFrame(trace, columns=group_names)
followed["step"] = range(1, n_steps + 1)
rw.show.curve(
    followed,
    panels={"share of the group": group_names},
    title="Who counts how much, step by step",
    caption=f"{len(y_learn)} films; each began with a quarter",
)

# %%
last = followed.iloc[-1]
most = last[group_names].astype(float).idxmax()
Markdown(
    f"We see that after {n_steps} steps the group *{most}* has the largest share, "
    f"{last[most]:.2f}: its losses, added up over the steps, are the largest. Stopping "
    "early is a penalty of its own: a head that is trained on until all losses are "
    "nothing has nobody left to look after."
)

# %% [markdown]
# ### Eight repairs on one bench
# Before you run the next cell, guess: which of the eight mends most? Which one mends nothing, and why?
#
# - *reweighting* and *group DRO*, as above; *group-balanced sampling* takes as many films of each group as the
#   smallest has;
# - *site-balanced sampling* draws as many films with as without the lesion in each hospital, which is often done and
#   easily known;
# - *augmentation* meets each film as it is and once more with the mark pasted on;
# - *masking* paints the mark's place out, on every film that is ever asked about;
# - *last-layer retraining* and *cutting* are those of notebook 5. How many directions are cut, the validation films
#   say.

# %%
bench = rw.fail.mitigate(mend_films, start=model, seeds=seeds, n=n_train, **mark)
needs = bench.table.drop_duplicates("method").set_index("method")["needs"]
needs.to_frame()

# %% [markdown]
# All heads have the same penalty, the one of notebook 5, and the same films. What follows is measured on test patients.
# The control in the last row are heads for which the mark told nothing: more can't be hoped for.

# %%
by_seed = bench.by_seed.rename(columns={"measure": "arm", "value": "auroc"})
tied_rows = by_seed[by_seed["trained"] == "tied"]
untied = by_seed.query("trained == 'never tied' and method == 'before'")
untied = untied.assign(method="never tied")
bench_rows = pd.concat([tied_rows, untied])
bench_rows["finding"] = bench_rows["method"]

# %%
n_patients = bench.test["patient_id"].nunique()
forest_over_seeds(
    bench_rows,
    "arm",
    ARMS,
    title="Eight repairs, in all three arms",
    x_title="AUROC: a dot a seed; mean with 95 % interval over seeds",
    caption=f"{seeds} seeds a row; {n_patients} test patients",
)

# %% [markdown]
# A head that is mended has its three marks close together. Where the whole group lies further to the left than the
# last row, the repair has thrown away what was to be learnt as well.

# %%
broken = bench.table[bench.table["measure"] == "tie broken"].set_index("method")
lines = []
for method, row in broken.iterrows():
    comparison = bench.comparisons[method, "tie broken"]
    lines.append(f"- {comparison}; to {row['after']:.2f}")
best = broken["after"].idxmax()
first = broken.iloc[0]

# %%
Markdown(
    "We see, where the tie is broken:\n" + "\n".join(lines) + "\n\nBefore, it was "
    f"{first['before']:.2f}. Most has *{best}*; heads that were never tied "
    f"have {first['never_tied']:.2f}."
)

# %% [markdown]
# The control: what does each repair do to heads that need none? There it should change nothing.

# %%
largest = broken["control"].abs().idxmax()
in_vain = broken.index[broken["verdict"] != "ahead"]
moved_by = broken.loc[largest, "control"]
names = ", ".join(in_vain) or "none"
Markdown(
    f"We see that of heads that were never tied *{largest}* moves the AUROC most, by "
    f"{moved_by:+.2f}. Of tied heads, no gain can be told after: "
    f"{names}. By the way the marks were dealt out here, they "
    "have nothing to do with the hospital: evening out hospitals is the wrong repair, "
    "however carefully it is done."
)

# %% [markdown]
# ### What does it cost elsewhere?
# A repair may spoil what was right: the answer on films without any mark, the four groups' worst, the probability that
# is stated, or what heads for *other* findings learn from the same mended films.

# %%
wide = bench.table.pivot(index="method", columns="measure", values="after")
order = ["before", *needs.index, "never tied"]
at_first = bench.table.drop_duplicates("measure").set_index("measure")
wide.loc["before"] = at_first["before"]
wide.loc["never tied"] = at_first["never_tied"]
elsewhere = wide.loc[order].drop(columns=list(ARMS))
elsewhere.round(2)

# %% [markdown]
# All are AUROCs, but for two: *worst group* is the least accuracy among films with and without lesion and mark, and the
# *calibration error* is how far a stated probability lies from the share that is so, where less is better.

# %%
may_cost = ["no mark", "Pleural Effusion", "Pneumothorax"]
costs = []
for (_, measure), comparison in bench.comparisons.items():
    if measure in may_cost and comparison.verdict == "behind":
        costs.append(f"- {measure}: {comparison}")
told_costs = "\n".join(costs) or "- none, which isn't to say that there is none"
after = wide.loc[list(needs.index)]
error = after["calibration error"]
worst = after["worst group"]

# %%
Markdown(
    "We see a cost that can be told on films without a mark, or in another finding:\n"
    f"{told_costs}\n\nThe worst group fares best after *{worst.idxmax()}* "
    f"({worst.max():.2f}), and *{error.idxmin()}* leaves the least calibration error "
    f"({error.min():.2f})."
)

# %% [markdown]
# ### And a model that is asked in words?
# Nobody trained a head there, so there is nothing to retrain. But a pair of prompts, *there is a lesion* against *there
# is none*, is a direction in the embedding, and so is the mark. *Prompt repair* makes the first orthogonal to the
# second. By hand:

# %%
mend_val = mend_films[mend_films["split"] == "val"]
plain, pasted = read_twice(mend_val, whole=True)  # the pooled embedding
mean_change = (pasted - plain).mean(axis=0)
towards_mark = mean_change / np.linalg.norm(mean_change)

# %%
yes, no = rw.probe.Prompts.of([lesion]).pair(lesion)
lesion_there = rw.probe.class_embedding(model, yes)
lesion_absent = rw.probe.class_embedding(model, no)
words = lesion_there - lesion_absent
words = float(model.logit_scale) * words
along_mark = words @ towards_mark
repaired_words = words - along_mark * towards_mark

# %%
prompts = rw.fail.repair_prompt(mend_films, start=model, **mark)
package_words = prompts.learnt["zero-shot", "prompt repair", 0].weights
rw.check.matches(repaired_words, package_words, tol=1e-3)

# %%
aurocs = prompts.table.set_index("measure")["before"]
leaning = along_mark / np.linalg.norm(words)
lines = []
for arm in ARMS:
    lines.append(f"- {arm}: {prompts.comparisons['prompt repair', arm]}")
by_arm_text = "\n".join(lines)

# %%
Markdown(
    f"We see that the words lean towards the mark by a cosine of {leaning:.2f}. Before "
    f"the repair, the AUROC where the tie holds is {aurocs['tie holds']:.2f}, and "
    f"where it's broken {aurocs['tie broken']:.2f}. After it:\n{by_arm_text}\n\nThis "
    "model met no mark in its training. What was never learnt can't be mended, and a "
    "repair that shows next to no gain here says nothing of a model that did."
)


# %% [markdown]
# ## Slices: which kind of film does it fail on?
# A mean over all films hides the kind of film that a model can't read. If we know the kind, we count its errors. But
# who tells us what to count? Here nobody does. We plant a weakness, forget what it was, and let the model's own
# embeddings suggest it.
#
# The plant: the portable films (AP) of site C are noisy. The head that we test has never met such noise, so that it
# must fail there. The tower stays as it is.

# %%
finding = "Pneumothorax"
films = rw.data.images(table, model.size)
is_portable = table["view"] == "AP"
is_from_c = table["site"] == "C"
is_noisy = (is_from_c & is_portable).to_numpy()
rng = np.random.default_rng(0)
grain = rng.normal(0, 60, films.shape)
grainy = np.clip(films + grain, 0, 255)
noisy_films = grainy.astype(np.uint8)
films[is_noisy] = noisy_films[is_noisy]
Z_films = rw.models.embed(model, films)  # (films, E)

# %%
noisy_rows = np.flatnonzero(is_noisy)
clean_rows = np.flatnonzero(~is_noisy)
two_of_each = np.r_[noisy_rows[:2], clean_rows[:2]]
rw.show.grid(
    list(films[two_of_each] / 255),
    titles=["site C, AP", "site C, AP", "any other", "any other"],
    title="Two films of the planted kind, and two others",
)

# %% [markdown]
# The head learns from four patients in ten, without their noisy films. All that follows happens among the other
# patients.

# %%
owners = table["patient_id"].unique()
n_learners = int(0.4 * len(owners))
shuffled = np.random.default_rng(0).permutation(owners)
learners = shuffled[:n_learners]

# %%
learns = table["patient_id"].isin(learners).to_numpy()
lesson = learns & ~is_noisy
labels = table.loc[lesson, finding].to_numpy()
Z_lesson = Z_films[lesson]
head = rw.fail.fit_head(model, Z_lesson, labels, C=10, whole=True)

# %%
unseen = table[~learns].reset_index(drop=True)
Z_unseen = Z_films[~learns]
noisy = is_noisy[~learns]
logits = head.of(Z_unseen)
head_scores = rw.probe.Scores.of(logits[:, None], unseen, [finding])
overall = head_scores.auroc().iloc[0]
Markdown(
    f"We see an AUROC of {rw.stats.format_interval(overall)} over {overall['n']} films "
    "of unseen patients. The number alone gives no hint of a weak spot."
)

# %% [markdown]
# ### Suggest on one half, confirm on the other
# The idea (Domino, Eyuboglu et al. 2022, [arXiv 2203.14960](https://arxiv.org/abs/2203.14960)): put films into groups
# that look alike **and** are answered alike. That is a mixture of Gaussians over the embeddings, which are weighed
# together with label and answer. Then look at the groups with the most errors.
#
# There is a trap. Search long enough, and some group errs more by chance. So half of the patients may *suggest* slices,
# and only the other half *confirms* them. There a film is put into its slice by its embedding and its label. Its answer
# doesn't count, or else the wrong answers would gather in one slice by themselves. Since several slices are tried, each
# interval is widened for their number.

# %%
slices = rw.fail.find_slices(head_scores, Z_unseen, unseen, k=10)
shown = ["slice", "error", "found", "n", "patients", "rate", "rest_rate", "difference"]
slices.table[shown].round(2)

# %% [markdown]
# A row is a slice and one kind of error. *Missed* counts among the films with the finding, *false alarm* among those
# without. So a slice never looks bad merely because it has more ill patients than the rest. *Found* are those that the
# second half confirms.
#
# What is the difference in the first row? We count by hand. A film counts as ill from a certain score on: the one at
# which as many of the ill as of the healthy are right. Where that differs from the label, the answer is wrong.

# %%
called_ill = logits >= slices.threshold
is_ill = (unseen[finding] == 1).to_numpy()
is_wrong = called_ill != is_ill
inside = slices.films[0]
outside = slices.rest[0]
by_hand = is_wrong[inside].mean() - is_wrong[outside].mean()
by_package = slices.table["difference"][0]
rw.check.matches(by_hand, by_package)

# %%
rates = slices.table.copy()
rates["finding"] = rates["slice"] + ", " + rates["error"]
rest = rates.assign(rate=rates["rest_rate"], low=np.nan, high=np.nan)
rw.show.forest(
    {"in the slice": rates, "all other films with this label": rest},
    value="rate",
    line=None,
    x_title="share of wrong answers, 95 % by patient",
    title="Suggested slices, on patients who did not suggest them",
    caption=f"{len(slices.found)} of {len(rates)} suggested slices are confirmed",
)

# %% [markdown]
# Is it the plant? The usual measure is the precision at 10: of the ten films that are most typical of a slice, how many
# were planted? If a slice turns up that we didn't plant, it need not be wrong. The head may have a weakness of its own.

# %%
n_found = len(slices.found)
lines = []
for place, comparison in enumerate(slices.comparisons[:n_found]):
    most_typical = slices.films[place][:10]
    precision = noisy[most_typical].mean()
    error = slices.table["error"][place]
    lines.append(f"- {error}: {comparison}. Precision at 10 is {precision:.1f}.")
found_text = "\n".join(lines) or "- no slice"
Markdown(f"We see, in the share of wrong answers, what is confirmed:\n{found_text}")

# %% [markdown]
# Now look at the films. What would you call the first slice?

# %%
typical = inside[:4]
pictures = films[~learns][typical] / 255
sites_and_views = []
for _, film in unseen.loc[typical].iterrows():
    sites_and_views.append(f"site {film['site']}, {film['view']}")
rw.show.grid(
    list(pictures),
    titles=sites_and_views,
    title="The four most typical films of the first slice",
)

# %% [markdown]
# ### In words
# The text tower can be asked, too. We take the mean embedding of the slice less that of the rest, and look for the
# phrase nearest to it. Some phrase is always nearest. So the column *chance* is the control: in how many random slices
# of about the same size would some phrase come as near? They are drawn patient by patient, since films of one are alike.

# %%
owners = unseen["patient_id"]
words = rw.fail.describe_slice(model, Z_unseen, inside, outside, owners)
words.head(5).round(3)

# %%
top = words.iloc[0]
Markdown(
    f"We see *{top['phrase']}* as the nearest phrase (chance {top['chance']:.3f}). A "
    "low chance says that the slice does lie apart. Whether the word fits is another "
    "matter: the tower has no word for what its reports never mention, and noise is "
    "such a thing. The films above are the better witness."
)

# %% [markdown]
# ### By what the table says
# Where the table has a column for it, we need no embedding. SliceLine goes through all values and pairs of values
# (Sagadeeva and Boehm 2021, [doi 10.1145/3448016.3457323](https://doi.org/10.1145/3448016.3457323)). Its suggestions
# are confirmed in the same way.

# %%
by_table = rw.fail.metadata_slices(head_scores, unseen)
by_table.table[shown].round(2)

# %%
stood_up = by_table.found
names = stood_up["slice"] + " (" + stood_up["error"] + ")"
told = "; ".join(names) or "none"
Markdown(
    f"We see {len(stood_up)} of {len(by_table.table)} confirmed: "
    f"{told}. Slices of a table overlap, so several rows may "
    "be one weakness."
)

# %% [markdown]
# ### The control: no slice, and none found
# Would we also find slices where there are none? We deal each answer to another film with the same label. The head has
# as many errors as before, but they no longer depend on the film. Whatever is suggested now is chance.


# %%
def dealt(seed):
    """The same scores, each dealt to another film with the same label."""
    rng = np.random.default_rng(seed)
    scores = logits.copy()
    for label in (0, 1):
        alike = (unseen[finding] == label).to_numpy()
        scores[alike] = rng.permutation(scores[alike])
    return rw.probe.Scores.of(scores[:, None], unseen, [finding])


# %%
suggested = []
confirmed = []
for seed in range(repeats):
    chance = rw.fail.find_slices(dealt(seed), Z_unseen, unseen, k=10, seed=seed)
    suggested.append(len(chance.table))
    confirmed.append(len(chance.found))
with_slice = int(np.count_nonzero(confirmed))
low, high = rw.stats.wilson(with_slice, repeats)

# %%
Markdown(
    f"We see {np.mean(suggested):.1f} slices suggested on average, and a confirmed one "
    f"in {with_slice} of {repeats} cohorts (95 % interval of the share "
    f"{low:.2f} to {high:.2f}). Up to one in twenty is what the correction allows."
)


# %% [markdown]
# ## Whom does it serve worse?
# A mean over all patients hides those who get less. So we ask the same of each group: does the score still rank, how
# many of the sick are called, how many of the well are left in peace? And one question more, since it decides who is
# sent home: of the patients with *any* finding, in how many is *none* called? That is a false "no finding"
# (Seyyed-Kalantari et al. 2021, [doi 10.1038/s41591-021-01595-0](https://doi.org/10.1038/s41591-021-01595-0)).

# %% [markdown]
# A film is called where its probability lies above a threshold. Thresholds and probabilities are set on the validation
# patients, whom nobody has learnt from, and everything below is counted on the test patients.

# %%
findings = rw.data.findings_of(table)
raw_val = rw.probe.zero_shot(model, val, findings, embeddings=Z_val)
raw_test = rw.probe.zero_shot(model, test, findings, embeddings=Z_test)
stated_val = rw.fail.calibrated(raw_val, raw_val)
stated = rw.fail.calibrated(raw_test, raw_val)
points = rw.fail.operating_points(stated_val, specificity=0.9)
pd.Series(points, name="threshold").to_frame().round(2)

# %% [markdown]
# First by hand, for the women.

# %%
called = stated.values > pd.Series(points)
nothing_called = ~called.any(axis=1)
any_finding = test[findings].max(axis=1)
is_sick = any_finding == 1
is_woman = test["sex"] == "F"
by_hand = nothing_called[is_sick & is_woman].mean()
f"{by_hand:.0%} of the sick women"

# %% [markdown]
# `rw.fail.group_report` counts this and five other things in every group, each with its interval by patient.

# %%
collapse = "Pneumothorax"
kinds = ["sex", "age_years", "site", "view"]
asked = {"threshold": points, "finding": collapse}
report = rw.fail.group_report(stated, test, by=kinds, **asked)
cells = report.table.set_index(["group", "metric"])["value"]
rw.check.matches(by_hand, cells["F", "false no finding"])

# %% [markdown]
# Two of the six, since they can disagree: a group may be ranked as well as the others and be sent home more often.

# %%
shown = {}
for metric in ("AUROC", "false no finding"):
    rows = report.table[report.table["metric"] == metric]
    labels = rows["by"].str.removesuffix("_years") + " " + rows["group"]
    shown[metric] = rows.assign(finding=labels)
rw.show.forest(
    shown["AUROC"],
    value="value",
    title=f"{collapse}: does it rank in each group?",
    caption="test films; 95 % by patient",
)

# %%
rw.show.forest(
    shown["false no finding"],
    value="value",
    line=None,
    x_title="share of the sick in whom nothing is called",
    title="Who is sent home?",
    caption="any finding, none called; 95 % by patient",
)

# %% [markdown]
# The widest gap of a kind is the widest of several, so some gap is always there. What does chance alone give? We deal
# the names of the groups to other patients, twenty times, and keep the widest gap each time. And each interval is
# widened for the number of gaps that were asked for.

# %%
lines = []
for row in report.evidence(("AUROC", "false no finding")):
    what, _, _ = row.tried.partition(",")
    told = f"{row.sentence}. By chance {row.control:.2f}."
    if np.isnan(row.value):
        told = "no two groups that both have a number, so no gap."
    lines.append(f"- {what}: {told}")
Markdown("We see, of the gap that harms a group most:\n" + "\n".join(lines))

# %% [markdown]
# ### Does a library count the same?
# fairlearn's `MetricFrame` splits any metric by any columns. Its intervals draw images, so we take its values only. We
# ask both for women and men at each site. Mind how few films are left in such a corner.

# %%
from fairlearn.metrics import MetricFrame, true_positive_rate

columns = ["sex", "site"]
frame = MetricFrame(
    metrics=true_positive_rate,
    y_true=test[collapse],
    y_pred=called[collapse],
    sensitive_features=test[columns],
)

# %%
corners = rw.fail.group_report(stated, test, by=[tuple(columns)], **asked)
sensitivity = corners.table.query("metric == 'sensitivity'")
has_cases = sensitivity["n"].to_numpy() > 0
by_package = sensitivity["value"].to_numpy()
by_library = frame.by_group.to_numpy()
rw.check.matches(by_package[has_cases], by_library[has_cases])
columns = ["group", "value", "low", "high", "n", "patients"]
sensitivity[columns].round(2)

# %%
least = sensitivity.loc[sensitivity["patients"].idxmin()]
told = "no film with the finding, so no sensitivity"
if least["n"]:
    interval = rw.stats.format_interval(least, "value")
    told = f"a sensitivity of {interval}, from {least['n']} films with the finding of "
    told += f"{least['patients']} patients"
Markdown(f"We see in the smallest corner, {least['group']}, {told}.")

# %% [markdown]
# ## Why is a group served worse?
# A report says that a group is worse off, and never why. So we plant three reasons in the women, one at a time, and
# look which of the numbers moves:
#
# - *noise*: their films are noisier, in training and in the test,
# - *missed labels*: half of their cases were never labelled, in training and in the test,
# - *small share*: few of the training films are theirs.
#
# A linear head learns on the frozen tower, once a seed and reason. Before you go on: which number would you watch for
# which reason? Noise takes evidence away, so one would expect ranking to suffer. Missing labels take none away from the
# films, but teach, and judge, by another truth.

# %%
gap_noise = 40  # of 256 grey levels, the standard deviation
setting = {"column": "sex", "group": "F", "noise": gap_noise, "missed": 0.5}
planted = rw.fail.planted_gap(
    table, start=model, finding=collapse, seeds=seeds, n=n_train, **setting
)
planted.table.head()

# %% [markdown]
# A row is one head: the number in the women, in the men, and the gap between the two. We hold each gap against the one
# that the same seed has with nothing planted.

# %%
moved = planted.moved()
metrics = list(moved["metric"].unique())
causes = moved["cause"].unique()
by_cause = moved.pivot(index="cause", columns="metric", values="difference")
rw.show.heatmap(
    by_cause.loc[causes, metrics],
    label="change of the gap",
    limits=(-0.4, 0.4),
    width=720,
    title="Which number does each reason move?",
    caption=f"women less men, mean of {seeds} seeds, less nothing planted",
)

# %% [markdown]
# Which of these changes are more than chance? All of them are one family.

# %%
lines = []
for cause, rows in moved.groupby("cause", sort=False):
    sure = rows[rows["verdict"] != "can't tell"]
    words = []
    for _, row in sure.iterrows():
        ends = f"{row['low']:.2f} to {row['high']:.2f}"
        words.append(f"{row['metric']} by {row['difference']:.2f} ({ends})")
    told = ", ".join(words) or "nothing for sure"
    lines.append(f"- {cause}: {told}")
Markdown("We see that the gap moves, with\n" + "\n".join(lines))

# %% [markdown]
# *Overstated* is what the model states less what is labelled. Where labels are missing it may go up without any change
# of the model: it is the archive that says too little. So the same heads stand there a second time, judged by the
# truth, which no archive has. The two lines may disagree, and only the first can be seen in practice.
#
# Would a report have noticed? It sees one head and one set of test patients. We count in how many seeds its interval by
# patient names the women, and how often it does where nothing was planted, which is the control.

# %%
named = planted.table["verdict"] != "can't tell"
counts = planted.table.assign(named=named)
noticed = counts.pivot_table("named", "cause", "metric", aggfunc="sum", sort=False)
noticed[metrics].astype(int)

# %%
most = noticed.max(axis=1)
lines = [f"{cause} {count:.0f}" for cause, count in most.items()]
Markdown(
    f"We see, of {seeds} seeds, by the number that notices most often: "
    + ", ".join(lines)
    + "."
)

# %% [markdown]
# ### Equal is not yet fair
# Suppose that the noisy women are missed more often, and equality is asked for. There are two ways. *Levelling up*
# gives them a lower threshold, and is paid for with false alarms. *Levelling down* gives the men a higher one, until
# as many of them are missed. Both make the numbers equal. Only one of them helps anybody.

# %%
worse = planted.judged["noise", 0]
sick = (worse.truth[collapse] == 1).to_numpy()
score = worse.values[collapse].to_numpy()
women = is_woman.to_numpy()
groups = {"women": women, "men": ~women}

# %% [markdown]
# All it takes is the threshold at which a given share of the sick is called. It is set and judged on the same patients
# here, since we want to see what the rule does. How well a threshold carries over is another question.


# %%
def threshold_for(sensitivity, chosen):
    lowest = 1 - sensitivity
    return np.quantile(score[chosen & sick], lowest) - 1e-6


common = np.quantile(score[~sick], 0.9)
rates = []
for chosen in groups.values():
    is_called = score[chosen & sick] > common
    rates.append(is_called.mean())

# %%
rules = {"one threshold": dict.fromkeys(groups, common)}
targets = {"levelled down": min(rates), "levelled up": max(rates)}
for rule, target in targets.items():
    thresholds = {}
    for name, chosen in groups.items():
        thresholds[name] = threshold_for(target, chosen)
    rules[rule] = thresholds

# %%
rows = []
for rule, thresholds in rules.items():
    for name, chosen in groups.items():
        for truth, what in enumerate(("well called", "sick called")):
            judged = chosen & (sick == truth)
            calls = score[judged] > thresholds[name]
            owners = worse.patient_id[judged]
            share = rw.stats.clustered_mean(calls, owners, share=True)
            rows.append({"rule": rule, "what": f"{name}: {what}", **share})
levelled = pd.DataFrame(rows)

# %%
rw.show.bars(
    levelled,
    x="rule",
    y="mean",
    group="what",
    y_title="share called, 95 % by patient",
    title="Two ways to be equal",
)

# %%
share = levelled.pivot(index="what", columns="rule", values="mean")
same_for_all = share["one threshold"]
gained_up = share["levelled up"] - same_for_all
gained_down = share["levelled down"] - same_for_all
lost_down = same_for_all - share["levelled down"]
cost_down = lost_down["men: sick called"]
gain_down = gained_down["women: sick called"]
gain_up = gained_up["women: sick called"]
cost_up = gained_up["women: well called"]

# %%
Markdown(
    f"We see that levelling down calls {cost_down:.2f} fewer of the sick men, and "
    f"{gain_down:.2f} more of the sick women. Levelling up calls {gain_up:.2f} more of "
    f"the sick women, and {cost_up:.2f} more of the well ones. Neither brings back what "
    "noise took away: that is in the films."
)


# %% [markdown]
# ## Look at the worst errors
# A number says how often a model errs, and never why. So we look. The gallery takes the films with a pleural effusion
# that score lowest, and those without one that score highest, the worst first. Beside each film stand the outline of
# what was planted, the model's map, the report, and the training films that the model holds for most alike.
#
# What would you say: is the finding **really there** and was it missed, is it something that **can't be seen**, is it
# **really absent**, is the **label wrong**, or was the answer a **shortcut**? Each verdict is saved at once, and stands there when you come back.

# %%
read_for = "Pleural Effusion"
effusion_scores = rw.probe.zero_shot(model, table, [read_for])
gallery = rw.show.cases(model, effusion_scores, table, notes="../runs/verdicts.csv")
gallery

# %% [markdown]
# An error needs no threshold here: it is a film with the finding that some film without it outranks, or the other way
# round. How bad is the worst one of each kind?

# %%
worst_ones = gallery.errors.groupby("error", sort=False).first()
worst_ones["outranked by"] = worst_ones["beyond"] / worst_ones["of"]
lines = []
for error, worst_one in worst_ones.iterrows():
    share = worst_one["outranked by"]
    lines.append(
        f"- {error}: {share:.0%} of the films with the other label lie beyond it"
    )
Markdown("We see, of the worst film of each kind:\n" + "\n".join(lines))

# %% [markdown]
# Are the neighbours of such a film of any help to understand it? If what a model misses lies among training films
# *without* the finding, it looks to the model like one of those.

# %%
rows = []
for number, error in gallery.errors.iterrows():
    near = gallery.neighbours(number, k=8)
    have_it = near[read_for] == 1
    film = table.iloc[error["row"]]
    row = {"error": error["error"], "patient": film["patient_id"]}
    rows.append({**row, "share": have_it.mean()})
around_errors = pd.DataFrame(rows)

# %%
lines = []
for error, part in around_errors.groupby("error", sort=False):
    mean = rw.stats.clustered_mean(part["share"], part["patient"], share=True)
    lines.append(f"- {error}: {rw.stats.format_interval(mean, 'mean')}")

# %%
in_training = (train[read_for] == 1).mean()
Markdown(
    "We see that so many of the eight nearest training films have the finding:\n"
    + "\n".join(lines)
    + f"\n\nOf all training films {in_training:.2f} have it."
)


# %% [markdown]
# ## Spoil the films
# A model that was tested on good films meets bad ones: too little dose, a breath, a wrong window. Which of them cost
# it its AUROC, and how bad must they be?
#
# `rw.fail.corrupt` spoils films in twelve ways, each in five severities. Here is one of them by hand: noise. What
# reaches the detector are photons, and they are counted. Where the chest is dense few arrive, so there the film is
# noisiest. At severity 3 the air around the patient gets 500 photons a pixel.

# %%
strengths = rw.fail.CORRUPTIONS["noise"].strengths
photons_in_air = strengths[3 - 1]
film = images[0] / 255  # 0 is air, 1 the densest
rng = np.random.default_rng([0, 0])  # seed 0, film 0
share_through = np.exp(-3 * film)
exposure = photons_in_air * share_through
counted = rng.poisson(exposure)
arrived = np.maximum(counted, 0.5) / photons_in_air
noisy = -np.log(arrived) / 3
grey = 255 * noisy.clip(0, 1)
by_hand = np.rint(grey)

# %%
package = rw.fail.corrupt(images[:1], "noise", 3)
rw.check.matches(by_hand, package[0], tol=0.02)  # a few roundings fall the other way

# %% [markdown]
# All twelve, at severity 3. Is each of these films still one that a radiologist would read? That is the yardstick: a
# model may fail where nobody could read, but not before.

# %%
kinds = list(rw.fail.CORRUPTIONS)
spoilt = []
for kind in kinds:
    eight_films = rw.fail.corrupt(images[:8], kind, 3)
    spoilt.append(eight_films[6] / 255)
rw.show.grid(
    spoilt,
    titles=kinds,
    columns=6,
    cell=150,
    title="One film, spoilt in twelve ways (severity 3)",
)

# %% [markdown]
# Now we ask the model for three findings on the same films, clean and spoilt. The films are the same, so the
# difference is paired by patient. The control is a change that nobody would call a corruption: the films moved by one
# pixel.
#
# Before you run it, guess: which of the twelve hurts most, and which not at all?

# %%
asked = ["Pleural Effusion", "Pneumothorax", "Cardiomegaly"]
one_each = test.groupby("patient_id").head(1)
some = one_each.head(n_some).reset_index(drop=True)
result = rw.fail.robustness(model, some, asked)
change = result.table.pivot(index="kind", columns="severity", values="difference")
change = change.loc[kinds]

# %%
clean = result.clean.mean_auroc().iloc[0]
rw.show.heatmap(
    change,
    label="change of AUROC",
    x_title="severity",
    limits=(-0.4, 0),
    title="What each corruption costs",
    caption=f"mean of {len(asked)} findings; clean films {clean['auroc']:.2f}",
)

# %% [markdown]
# A row for each kind goes to the evidence card: the mean over its five severities. Twelve are asked together, so each
# interval is widened for their number.

# %%
evidence = result.evidence()
failed = [row.tried for row in evidence if row.verdict == "failure"]
worst = min(evidence, key=lambda row: row.value)
moved = evidence[0].control
told = ", ".join(failed) or "none"
Markdown(
    f"We see that {len(failed)} of {len(evidence)} kinds cost something for sure: "
    f"{told}. The worst: {worst.sentence}. "
    f"Moving the films by a pixel changes the AUROC by {moved:.3f}."
)


# %% [markdown]
# ### Exercise 1: read eight films
# Four of these films are as they were, four are spoilt, each in another way, and mildly. Make up your mind about each,
# and write it down, before you let the check tell you.

# %%
healthy_rows = np.flatnonzero(any_finding == 0)[:8]
letters = "ABCDEFGH"[: len(healthy_rows)]
order = np.random.default_rng(7).permutation(len(letters))
ways = ("noise", "blur", "motion", "resampling")
spoilt_in = dict(zip(order, ways, strict=False))

# %%
quiz = images[healthy_rows].copy()
for place, kind in spoilt_in.items():
    film = quiz[place : place + 1]
    spoilt_film = rw.fail.corrupt(film, kind, 3, seed=int(place))
    quiz[place] = spoilt_film[0]
rw.show.grid(
    list(quiz / 255), titles=list(letters), columns=4, title="Which are spoilt?"
)


# %%
def looks_spoilt(letter):
    """True for the letters of the films that you take for spoilt."""
    raise NotImplementedError


# %% tags=["solution"] jupyter={"source_hidden": true}
def looks_solution(letter):
    return letters.index(letter) in spoilt_in


# %% [markdown]
# *Hints.* Look at the ribs' edges first: blur and a coarse grid take them, noise leaves them and roughens the dark lung.
# Motion takes the edges of one direction only. The check stops at the first film that you read otherwise.


# %%
def was_spoilt(letter):
    return letters.index(letter) in spoilt_in


cases = [(letter,) for letter in letters]
for reading in (looks_spoilt, looks_solution):
    rw.check.matches(reading, was_spoilt, cases=cases)


# %% [markdown]
# ## Attack it with words
# A model that is asked in words can fail by words. Three tries: the same question in *other words*; a *typo* that
# every reader would read over; and a *denial*. The last goes like this: rank the films by how near they lie to "no
# pleural effusion". A model that reads the *no* puts healthy films on top, so for the finding it gets an AUROC below
# 0.5. A model that hears only *pleural effusion* gets one above.

# %%
rows = []
for finding in asked:
    attack = rw.fail.prompt_attacks(model, test, [finding], embeddings=Z_test)
    rows.append(attack.table().assign(finding=finding))
by_words = pd.concat(rows, ignore_index=True)
columns = ["tried", "finding", "difference", "low", "high", "verdict", "control"]
by_words[columns].round(2)

# %% [markdown]
# The control of the first two is a full stop behind each phrase. That of the denial is *no florb*: a word that means
# nothing. Where *no florb* ranks the films, too, it's the sentence's tone that does it.

# %%
denials = by_words[by_words["tried"].str.startswith("denial")]
typos = by_words[by_words["tried"] == "typo"]
is_read = denials["verdict"] == "behind"
is_hurt = typos["verdict"] == "behind"
read = denials.loc[is_read, "finding"]
hurt = typos.loc[is_hurt, "finding"]
no_florb = 0.5 + denials["control"]

# %%
findings_read = ", ".join(read) or "none"
findings_hurt = ", ".join(hurt) or "none"
Markdown(
    f"We see a *no* that is read for {findings_read} of {len(asked)} "
    f"findings, and a typo that costs something for {findings_hurt}. "
    f"The sentence *no florb* alone has an AUROC of {no_florb.min():.2f} to "
    f"{no_florb.max():.2f}."
)


# %% [markdown]
# ## Write the answer on the film
# Large image-text models can be fooled by a word in the picture: write *iPod* on an apple and it is an iPod. Does ours
# follow the name of a finding that is written on films without it? Ink alone changes a film. So the same letters in
# other orders, nonsense words, stand in the same place, and the name must do more than any of them would.

# %%
attack = rw.fail.typographic_attack(model, some, asked[0], words=n_words)
by_name = attack.evidence()[0]
verdict = {"failure": "It follows the word.", "can't tell": "We can't tell."}
Markdown(
    f"We see, in the mean log odds of {asked[0]}: {by_name.sentence}. One nonsense "
    f"word differs from the others by {by_name.control:.2f}. "
    + verdict.get(by_name.verdict, "It doesn't follow the word.")
)


# %% [markdown]
# ## A few grey levels
# Now an attacker who knows the model. He asks for the gradient: which pixel, made a little brighter, pushes the answer
# the wrong way? One step along its sign is the oldest attack of this kind (Goodfellow et al. 2015,
# [arXiv 1412.6572](https://arxiv.org/abs/1412.6572)). By hand, for the first two films, and at most 2 grey levels of
# 255:

# %%
finding = asked[0]
y = test[finding].to_numpy()
yes, no = rw.probe.Prompts.of([finding]).pair(finding)
finding_there = rw.probe.class_embedding(model, yes)
finding_absent = rw.probe.class_embedding(model, no)
toward = torch.from_numpy(finding_there - finding_absent)

# %%
grey = torch.from_numpy(images[:2])[:, None] / 255  # (2, 1, S, S)
grey.requires_grad_()
x = model.normalise(grey)
similarity = model.encode_image(x) @ toward
signs = np.where(y[:2] == 1, -1.0, 1.0)
wrong_way = torch.from_numpy(signs) * similarity
(gradient,) = torch.autograd.grad(wrong_way.sum(), grey)

# %%
signs = gradient[:, 0].sign().numpy()
steps = 2 * signs  # in grey levels
two_films = images[:2]
by_hand = (two_films + steps).clip(0, 255)
package = rw.fail.pgd(model, two_films, y[:2], finding, epsilon=2, steps=1)
rw.check.matches(by_hand, package)

# %% [markdown]
# Several smaller steps go further (projected gradient descent). The control is as important as the attack: the same
# changes at other pixels, so that each film is changed as much and in the same grey levels.

# %%
ill_first = some.sort_values(finding, ascending=False)
half = n_some // 5
attacked = pd.concat([ill_first.head(half), ill_first.tail(half)])
attack = rw.fail.pixel_attacks(model, attacked, finding, epsilons=(1, 2, 4), steps=5)
by_pixels = attack.table()
columns = ["tried", "difference", "low", "high", "verdict", "control"]
by_pixels[columns].round(2)

# %%
some_films = rw.data.images(attacked.iloc[[0, -1]], model.size)
changed = rw.fail.pgd(model, some_films, [1, 0], finding, epsilon=4)
pictures = [some_films[0], changed[0], some_films[1], changed[1]]
rw.show.grid(
    [picture / 255 for picture in pictures],
    titles=["with it", "attacked", "without", "attacked"],
    title=f"{finding}: the attack, 4 grey levels of 255",
)

# %%
sentences = []
controls = []
for attempt in attack.tries:
    sentences.append(str(attempt.comparison))
    controls.append(f"{attempt.control.difference:.2f}")
told_controls = ", ".join(controls)

# %%
Markdown(
    "We see, in AUROC:\n- "
    + "\n- ".join(sentences)
    + f"\n\nThe same changes at other pixels change it by {told_controls}: not how "
    "much is changed counts, but where."
)


# %% [markdown]
# ## A set of answers with a promise
# Instead of one answer a model may give a set: *with*, *without*, or both where it doesn't know. Conformal prediction
# makes such sets so that they hold the truth as often as was promised, whatever the model is worth. It needs patients
# whom the model has not learnt from, and one idea: a film belongs in the set with an answer if that answer is no more
# unlikely than the true answers of nearly all calibration films were (Vovk et al. 2005).

# %% [markdown]
# The model here is a linear head that has learnt lung lesions from the training films, on the frozen tower. Its
# probabilities are taken as they are: a promise should not need a model that is well calibrated.

# %%
lesion = "Lung Lesion"
head = rw.fail.fit_head(model, Z_train, train[lesion], whole=True)


def stated_by_head(Z, rows):
    p = probability(head.of(Z))
    return rw.probe.Scores.of(p[:, None], rows, [lesion])


of_val = stated_by_head(Z_val, val)
of_test = stated_by_head(Z_test, test)
columns = ["finding", "auroc", "low", "high", "n", "patients"]
of_test.auroc()[columns].round(2)

# %% [markdown]
# By hand: of each calibration film, how unlikely was the truth? The quantile of these numbers is the limit. One film a
# patient is used, since two films of one chest are no two draws.

# %%
one_each = rw.fail.one_film_each(of_val.patient_id)
stated_lesion = of_val.values[lesion]
true_lesion = of_val.truth[lesion]
p = stated_lesion[one_each].to_numpy()
y = true_lesion[one_each].to_numpy()
unlike = np.where(y == 1, 1 - p, p)
n_ranks = len(unlike) + 1
rank = int(np.ceil(n_ranks * level))
limit = np.sort(unlike)[rank - 1]

# %%
p_test = of_test.values[lesion].to_numpy()
unlike_test = np.column_stack([p_test, 1 - p_test])  # (N, 2) without, with
by_hand = unlike_test <= limit
sets = rw.fail.prediction_sets(of_val, of_test, level=level)
rw.check.matches(by_hand.astype(int), sets.astype(int))

# %%
n_answers = pd.Series(sets.sum(axis=1))
kinds_of_set = n_answers.map({0: "empty", 1: "one answer", 2: "both"})
kinds_of_set.value_counts().to_frame("films")

# %% [markdown]
# The package asks MAPIE, which agrees with the few lines above. Is the promise kept? On all films, and on the sick and
# the well by themselves? And what becomes of it when the films change? We add noise to the test films, and leave the
# limit where it was.

# %%
rng = np.random.default_rng(0)
grain = rng.normal(0, gap_noise, images.shape)
noisy_images = np.uint8(np.clip(images + grain, 0, 255))
Z_noisy = rw.models.embed(model, noisy_images)
of_noisy = stated_by_head(Z_noisy, test)

# %% [markdown]
# ### Exercise 2: predict what is left for the sick
# Suppose that the promise is kept over all films. How often do the sets of the *sick* hold the truth, if you know how
# often those of the *well* do, and how many are sick? Write it before you look at the figure further down.


# %%
def kept_for_the_sick(over_all, of_the_well, prevalence):
    """Share of the sick whose set holds the truth."""
    raise NotImplementedError


# %% tags=["solution"] jupyter={"source_hidden": true}
def kept_solution(over_all, of_the_well, prevalence):
    from_the_well = (1 - prevalence) * of_the_well
    return (over_all - from_the_well) / prevalence


# %% [markdown]
# *Hints.* The share over all is a mean of two shares. Which weights do they have? If the well are served better than
# promised, can the sick be, too? A rare finding makes the sick weigh little: try a prevalence of 0.1.

# %%
cases = [(0.9, 0.95, 0.2), (0.9, 0.9, 0.5), (0.9, 0.98, 0.1)]
for attempt in (kept_for_the_sick, kept_solution):
    rw.check.matches(attempt, kept_solution, cases=cases)

# %% [markdown]
# A third kind of sets is calibrated on the sick and on the well by themselves (`by_label`), a promise to each.

# %%
noisy_sets = rw.fail.prediction_sets(of_val, of_noisy, level=level)
own_sets = rw.fail.prediction_sets(of_val, of_test, level=level, by_label=True)
sets_of = {
    "as they are": (of_test, sets),
    "by label": (of_test, own_sets),
    "noisy": (of_noisy, noisy_sets),
}
names = np.where(test[lesion] == 1, "with lesion", "without")
kept = rw.fail.coverage(sets_of, groups=dict.fromkeys(sets_of, names), level=level)

# %%
rw.show.bars(
    kept.table,
    x="films",
    y="coverage",
    group="group",
    line=level,
    y_title="share of sets that hold the truth",
    title="Who is covered?",
    caption="95 % by patient; the line is what was promised",
)

# %% [markdown]
# A set that always says both keeps every promise and says nothing. So look at the size beside it.

# %%
columns = ["films", "group", "coverage", "low", "high", "size", "n"]
kept.table[columns].round(2)

# %%
lines = [f"- {row.sentence}" for row in kept.evidence()]
Markdown("We see, of the coverage:\n" + "\n".join(lines))

# %% [markdown]
# ### A risk in bounds
# A hospital may not want sets. It wants to miss no more than one case of five, and to know how sure that is. MAPIE
# looks for the highest threshold at which this can be promised with 90 % confidence. If there is none, it says so.

# %%
bounded = rw.fail.controlled_threshold(of_val, sensitivity=0.8)
cases = (test[lesion] == 1).to_numpy()
owners = of_test.patient_id[cases]
words = []
for name, scores in {"as they are": of_test, "noisy": of_noisy}.items():
    stated_for_cases = scores.values[lesion][cases]
    hits = stated_for_cases >= bounded
    share = rw.stats.clustered_mean(hits, owners, share=True)
    interval = rw.stats.format_interval(share, "mean")
    words.append(f"{interval} on films {name}")

# %%
told = ", ".join(words)
promise = f"at the threshold of {bounded:.2f} a sensitivity of {told}"
if np.isnan(bounded):
    promise = "no threshold that can be promised: the validation cases are too few"
Markdown(f"We see {promise}.")


# %% [markdown]
# ## Does it notice what it has never seen?
# A model answers whatever it is shown. We show it its own test films mirrored, or with black and white swapped, noise, a
# CT, and films of real children. A set that isn't on this machine is left out.

# %%
strangers = rw.fail.unknown_films(images, test["patient_id"], model)
examples = []
for stack, _ in strangers.values():
    examples.append(stack[3] / 255)
rw.show.grid(examples, titles=list(strangers), columns=5, title="Strange to the model")

# %% [markdown]
# What may tell that a film is strange? Its distance from the training films, in the space of the model's embeddings: what
# looks like a training film to the model will be answered like one, whatever it is. We take the distance to the k-th
# nearest of them (Sun et al. 2022, [arXiv 2204.06507](https://arxiv.org/abs/2204.06507)), and to their mean, in units
# of their spread in each direction (Mahalanobis). A third number, the *energy* (Liu et al. 2020,
# [arXiv 2010.03759](https://arxiv.org/abs/2010.03759)), looks at the answers: low answers to everything are what it
# takes for strange.
#
# ### Exercise 3: the k-th neighbour
# Write the distance from each point to its k-th nearest reference point without a library.


# %%
def kth_neighbour(Z, reference, k):
    """(N,) Euclidean distance of each row of Z to its k-th nearest of `reference`."""
    raise NotImplementedError


# %% tags=["solution"] jupyter={"source_hidden": true}
def kth_solution(Z, reference, k):
    of_points = (Z**2).sum(1, keepdims=True)  # (N, 1)
    of_reference = (reference**2).sum(1)  # (R,)
    products = Z @ reference.T  # (N, R)
    squared = of_points + of_reference - 2 * products
    in_order = np.sort(squared, axis=1)
    kth = in_order[:, k - 1]
    kth = np.clip(kth, 0, None)  # rounding may fall below 0
    return np.sqrt(kth)


# %% [markdown]
# Your distances are compared with those of scikit-learn, which asks a tree or a blocked matrix product.

# %%
from sklearn.neighbors import NearestNeighbors

k = 5
neighbours = NearestNeighbors(n_neighbors=k).fit(Z_train)
nearest, _ = neighbours.kneighbors(Z_test)
expected = nearest[:, -1]
for attempt in (kth_neighbour, kth_solution):
    rw.check.matches(attempt, expected, Z_test, Z_train, k, tol=1e-3)

# %% [markdown]
# `rw.fail.strangeness` gives all three, from pytorch-ood. The energy needs logits, one a finding. Zero-shot
# probabilities give them.


# %%
def strange(stack):
    Z = rw.models.embed(model, stack)
    rows = pd.DataFrame(index=range(len(stack)))
    scores = rw.probe.zero_shot(model, rows, findings, embeddings=Z)
    p = rw.fail.calibrated(scores, raw_val).values
    p = p.clip(1e-6, 1 - 1e-6)
    odds = p / (1 - p)
    logits = np.log(odds)
    return rw.fail.strangeness(Z_train, Z, logits=logits, k=k)


# %%
known = strange(images)
far = {}
for name, (stack, owners) in strangers.items():
    far[name] = strange(stack), owners
unknown = rw.fail.unknown_report(known, test["patient_id"], far)

# %% [markdown]
# Does it measure what you wrote by hand?

# %%
rw.check.matches(expected, known["k-th neighbour"].to_numpy(), tol=1e-3)

# %% [markdown]
# A detector of the unknown is scored like any other: how often is an unknown film farther away than a known one? An AUROC
# of 1 means always. At 0.5 the distance can't tell them apart, and below 0.5 the unknown films look *more* familiar than
# the known ones, which is the most dangerous case. Where a set has too few patients, it has no interval. Each kind of
# unknown films is one comparison more, so the intervals are widened to hold all together in 95 of 100 tries.

# %%
by_detector = {}
for detector, rows in unknown.table.groupby("detector", sort=False):
    by_detector[detector] = rows.assign(finding=rows["films"])
rw.show.forest(
    by_detector,
    x_title="AUROC, unknown against known, 95 % for all kinds together",
    title="Which distance sees the stranger?",
    caption="left of the line the strange look more familiar than the known",
)

# %%
lines = [f"- {row.sentence}" for row in unknown.evidence()]
by_chance = []
for name, auroc in unknown.chance.items():
    by_chance.append(f"{name} {auroc:.2f}")
told_chance = ", ".join(by_chance)
energy = unknown.table.query("detector == 'energy'")
fooled = energy.loc[energy["high"] < 0.5, "films"]
look_familiar = ", ".join(fooled) or "none"

# %%
Markdown(
    "We see:\n"
    + "\n".join(lines)
    + "\n\nThe control holds one half of the known patients "
    f"against the other: {told_chance}. By the energy these look *more* familiar than the "
    f"known, for sure: {look_familiar}."
)


# %% [markdown]
# ## Not to answer
# A model that may refuse makes fewer mistakes, if it knows when it is unsure. How sure it is, is how far its
# probability lies from a half. The limits are set on the validation films, and then kept: on the test films, and on
# the noisy ones.

# %%
judged = {"as they are": of_test, "noisy": of_noisy}
answers = rw.fail.abstention(of_val, judged)
as_planned = answers.table.copy()
as_planned["planned"] = as_planned["planned"].map("{:.0%}".format)

# %%
rw.show.bars(
    as_planned,
    x="planned",
    y="risk",
    group="films",
    y_title="share of the answers that is wrong",
    title="Fewer answers, fewer mistakes?",
    caption="by the share of answers that was planned; 95 % by patient",
)

# %% [markdown]
# Two things are easily missed. On other films another share is answered than was planned. And where cases are rare, a
# model that always says *without* is seldom wrong. So we look at the cases that it answers, too.

# %%
columns = ["films", "planned", "answered", "risk", "missed", "n", "patients"]
answers.table[columns].round(2)

# %%
lines = []
for name, gap in answers.gaps.items():
    rows = answers.table[answers.table["films"] == name]
    row = rows.set_index("planned").loc[answers.at]
    lines.append(
        f"- films {name}: {row['answered']:.0%} are answered where {answers.at:.0%} were "
        f"planned, and of the cases among them {row['missed']:.2f} missed. In the share "
        f"that is wrong, {gap}."
    )
Markdown("We see:\n" + "\n".join(lines) + "\n\nRefusing by chance would give 0.")


# %% [markdown]
# ## A scanner changes
# Nobody tells the model's owner. Films come one by one, and from some film on they come from another machine. Labels
# arrive months later, if at all. Can one notice without them?
#
# Two changes: a grid whose lines are seen, which costs AUROC (above), and another tone of grey, which costs hardly
# anything. The validation films are the *reference*: what the old machine looked like.

# %%
changes = {"grid lines": ("grid", 3), "another tone": ("gamma", 4)}
changed_films = {}
changed_Z = {}
for name, (kind, severity) in changes.items():
    changed_films[name] = rw.fail.corrupt(images, kind, severity)
    changed_Z[name] = rw.models.embed(model, changed_films[name])

# %% [markdown]
# Four detectors watch embeddings. Three are classics from the package river, and watch one number: how *strange* a film
# is, its distance from the reference. The fourth, *window*, watches whether the mean of the last 30 films has left the
# reference's; its threshold is set so that one in twenty streams **without** a change gives alarm. Such streams are
# drawn by patient: films of one patient are alike, and a few of them drag the mean along.

# %%
t0 = len(test) // 3
owners = val["patient_id"], test["patient_id"]
how = {"patients": owners, "t0": t0, "length": 2 * t0, "seeds": repeats}
watched = {}
for name, after in changed_Z.items():
    watched[name] = rw.fail.watch_drift(Z_val, Z_test, after, **how)

# %%
summaries = []
for name, drift in watched.items():
    summaries.append(drift.summary().assign(change=name))
summary = pd.concat(summaries)
summary.round(2)

# %% [markdown]
# Two things must be read together: how *late* a detector is, and how often it cries wolf. *calm_alarm* is the share of
# streams of the old machine alone, in the same order, in which it gave alarm. Who always cries is never late.

# %%
calm = summary.drop_duplicates("detector").copy()
calm["noticed"] = calm["calm_alarm"]
calm["change"] = "no change"
shares = pd.concat([summary, calm])
rw.show.bars(
    shares[["detector", "change", "noticed"]],
    x="detector",
    y="noticed",
    group="change",
    y_title=f"share of {repeats} streams with an alarm",
    title="Who notices, and who cries wolf?",
)

# %%
lines = []
for name, drift in watched.items():
    rows = drift.evidence()
    for noticed, delay in zip(rows[::2], rows[1::2], strict=True):
        line = f"- {name}: {noticed.sentence}; {delay.sentence}, {delay.n} streams"
        lines.append(line)
Markdown(
    f"We see, over {repeats} orders of the same films (not of other patients):\n"
    + "\n".join(lines)
)

# %% [markdown]
# ### Is the alarm a failure?
# A change of the input isn't a loss of performance. Can performance itself be known without labels? The idea: if a
# model says 0.8, and is *calibrated*, then 8 of 10 such films are ill. So its probabilities foretell how often it is
# right, and even its AUROC: of films i and j, i is the case and j the control with the chance `p_i * (1 - p_j)`. By hand,
# and beside it the package:


# %%
def foretold_auroc(p):
    """Share of the weight of all pairs in which the case has the higher p."""
    case = p[:, None]
    control = p[None, :]
    weight = case * (1 - control)  # (films, films)
    np.fill_diagonal(weight, 0)  # no film is a pair with itself
    won = (case > control) + 0.5 * (case == control)
    return (weight * won).sum() / weight.sum()


# %%
p = rw.probe.zero_shot(model, val, [finding]).values[finding].to_numpy()
rw.check.matches(foretold_auroc, rw.fail.expected_auroc, p)

# %% [markdown]
# The probabilities are calibrated on the validation films, and then taken at their word, in four parts: the test films
# as they are (the control), those of patients who lay (AP), and both changes of the scanner. Which of these will be
# foretold rightly?


# %%
def zero_shot_scores(rows, Z):
    """How near each film lies to the finding's words."""
    return rw.probe.zero_shot(model, rows, [finding], embeddings=Z)


lay = (test["view"] == "AP").to_numpy()
parts = {
    "as they are": zero_shot_scores(test, Z_test),
    "AP alone": zero_shot_scores(test[lay], Z_test[lay]),
}
for name, after in changed_Z.items():
    parts[name] = zero_shot_scores(test, after)
foretold = rw.fail.foretell(zero_shot_scores(val, Z_val), parts)

# %%
rows = foretold.table.drop(columns="finding").rename(columns={"part": "finding"})
real = rows[["finding", "auroc", "low", "high"]]
told = rows[["finding"]].copy()
for column in ("auroc", "low", "high"):
    told[column] = rows["foretold_auroc"]  # a number without an interval

# %%
rw.show.forest(
    {"what came": real, "foretold without labels": told},
    title=f"{finding}: what the model foretells of itself",
    caption=f"{len(test)} films of {test['patient_id'].nunique()} patients",
)

# %%
lines = []
over = []
for (part, _), comparison in foretold.comparisons.items():
    lines.append(f"- {part}: {comparison}")
    if comparison.verdict == "ahead":
        over.append(part)
parts_overstated = ", ".join(over) or "none of them"

# %%
Markdown(
    "We see, in the share of right answers:\n"
    + "\n".join(lines)
    + f"\n\nToo much is promised for sure for: {parts_overstated}. The "
    "estimate holds as long as a score means what it meant. A new machine can change "
    "just that, and then the model is sure and wrong."
)


# %% [markdown]
# ## What does it remember?
# Three questions of privacy and of honest numbers. First: are there **copies** over the split? For each film we take
# the distance to the nearest training film of *another* patient. Unseen films should lie as far from the training
# films as these do from each other.

# %%
of_train = train["patient_id"]
of_test_films = test["patient_id"]
near = rw.fail.nearest_training(Z_train, Z_test, of_train, of_test_films)
copies = rw.fail.copies_evidence(near)
Z_copies = Z_train[:40]
planted = rw.fail.nearest_training(Z_train, Z_copies, of_train, range(40))
of_copies = rw.fail.copies_evidence(planted)

# %%
by_part = {}
for part, films in near.groupby("part"):
    by_part[part] = films["distance"].to_numpy()
rw.show.hist(
    by_part,
    density=True,
    x_title="distance to the nearest training film of another patient (1 - cosine)",
    title="How near are unseen films to the training?",
)

# %%
Markdown(
    f"We see a {copies.sentence}. Among the training films it is {copies.control:.2f} "
    f"by design. If we plant 40 true copies, it is {of_copies.value:.2f} "
    f"({of_copies.low:.2f} to {of_copies.high:.2f})."
)

# %% [markdown]
# ### Was this film in the training?
# Who has a film and the model can try to tell: a film that was learnt has a smaller **loss**. That is an attack on
# privacy (membership inference), and a measure of learning by heart. By hand, for one head on the patches:

# %%
learner_films = train.head(n_train)
heart = "Lung Lesion"
squares = rw.data.images(learner_films, model.size)
features = rw.fail.patch_features(model, squares)
labels = learner_films[heart].to_numpy()
patient = learner_films["patient_id"]
every_other = patient.unique()[::2]
is_learnt = patient.isin(every_other).to_numpy()

# %%
head = rw.fail.fit_head(model, features[is_learnt], labels[is_learnt])
p = probability(head.of(features))
p_of_truth = np.where(labels == 1, p, 1 - p)
loss = -np.log(p_of_truth)
looks_learnt = -loss
one_head = rw.stats.clustered_auroc(is_learnt, looks_learnt, patient)

# %% [markdown]
# A single head may have been given the easier films. So the films are dealt anew for each training, and a control head
# learns from a third group of patients: it knows none of the films that it is asked about.

# %%
heads = {}
for learner in ("patches", "embedding"):
    heads[learner] = rw.fail.membership(
        model, learner_films, heart, learner=learner, seeds=seeds
    )
by_heart = [memory.evidence()[0] for memory in heads.values()]

# %%
interval = rw.stats.format_interval(one_head)
lines = []
for learner, row in zip(heads, by_heart, strict=True):
    line = f"- a head on the {learner}: {row.sentence}; the control {row.control:+.2f}"
    lines.append(line)
Markdown(
    f"We see, for the one head by hand, an AUROC for membership of {interval}, and over "
    f"{seeds} trainings, for {heart}:\n" + "\n".join(lines)
)

# %% [markdown]
# ### What a patient on both sides fakes
# Films were dealt out by film instead of by patient: a common slip. How much better does the model look? We train heads
# on equally many films and ask them for the *same* films, one of each test patient who has two. Among what was learnt
# is nobody of these patients, or their *other* film, or the *very* film.

# %%
leak = rw.fail.duplicated_patients(
    model,
    pd.concat([learner_films, test]),
    heart,
    n=n_train // 2,
    seeds=seeds,
)
leaked = leak.table.rename(columns={"in_training": "finding"})
means = rw.fail.over_seeds(leaked, by=["finding"], within=(0, 1))

# %%
rw.show.forest(
    means,
    points=leaked,
    x_title="AUROC: a dot a seed; mean with 95 % interval over seeds",
    title=f"{heart}: what a leak adds to the AUROC",
    caption="the same films are asked in each row",
)

# %%
lines = [f"- {comparison}" for comparison in leak.comparisons.values()]
again = next(iter(leak.controls.values()))
Markdown(
    f"We see, over {seeds} trainings:\n"
    + "\n".join(lines)
    + f"\n\nAnother honest training differs by {again:+.2f}. A number by itself doesn't "
    "tell whether its split was honest."
)


# %% [markdown]
# ## A published model leaves home
# So far we broke a model of our own. Here is one that somebody published: an Xception, trained on photographs
# ([arXiv 1610.02357](https://arxiv.org/abs/1610.02357)), with a head that tells pneumonia from normal on films of
# **children** (Kermany et al. 2018, [doi 10.17632/rscbjbr9sj](https://doi.org/10.17632/rscbjbr9sj)). What happens when
# adults come?
#
# Only the weights are read, and no code that came with them. They state no licence, so they are used in place.

# %%
published = rw.models.load("kermany-xception", download=True)
answers = " or ".join(published.findings)
notes = "; ".join(published.notes)
Markdown(
    f"It answers {answers}, for a film of {published.size} px "
    f"a side. What it was, or had to be taken for: {notes}."
)

# %% [markdown]
# Who comes? Children of the archive that the model was made from, and probably of its own training. Adults of the NIH,
# whose films we have at 64 px only. And our virtual adults, who are always at hand. A set that isn't on this machine is
# named below. *Sick* is whoever has any finding at all, the most generous reading of what the model is asked.

# %%
real_films = {}
missing = []
for name in ("kermany-16", "kermany", "nih-64"):
    try:
        films = rw.data.real(name)
        real_films[name] = films.assign(sick=1 - films["No Finding"])
    except rw.data.FetchError:
        missing.append(name)
virtual = test.assign(sick=any_finding)

# %% [markdown]
# Of each group we draw a few hundred films at most, and no more than two of one patient: else a patient with dozens of
# films would count dozens of times.


# %%
def some_of(films):
    """At most `n_some` films in random order, two a patient."""
    shuffled = films.sample(frac=1, random_state=0)
    two_each = shuffled.groupby("patient_id", sort=False).head(2)
    drawn = two_each.head(n_some)
    return drawn.reset_index(drop=True)


# %% [markdown]
# For the children the larger of the two sets is taken, where it's on this machine.

# %%
of_children = real_films.get("kermany", real_films["kermany-16"])
people = {"children": some_of(of_children), "virtual adults": some_of(virtual)}
if "nih-64" in real_films:
    people["real adults"] = some_of(real_films["nih-64"])

# %% [markdown]
# The squares that the model takes are made as it expects them, and its logit becomes a probability. That of a film is
# what the model *states*.


# %%
@torch.no_grad()
def stated_for(squares):
    """(N, S, S) uint8 -> (N,) the probability of pneumonia that the model states."""
    n_batches = len(squares) // 32 + 1
    logits = []
    for batch in np.array_split(squares, n_batches):
        x = published.preprocess(batch)
        logits.append(published.classify(x))
    pneumonia = published.findings.index("Pneumonia")
    of_pneumonia = torch.cat(logits)[:, pneumonia]
    return of_pneumonia.sigmoid().numpy()


# %%
def squares_of(films):
    return rw.data.images(films, published.size, fit=published.fit)


stated = {}
for who, films in people.items():
    squares = squares_of(films)
    stated[who] = stated_for(squares)

# %% [markdown]
# Before you run the next cell, write down two numbers. Of the children who are well, how many will it call sick? And of
# the adults without any finding?

# %%
rows = []
for who, films in people.items():
    for sick, truth in enumerate(("well", "sick")):
        chosen = (films["sick"] == sick).to_numpy()
        called = stated[who][chosen] > 0.5
        owners = films["patient_id"][chosen]
        share = rw.stats.clustered_mean(called, owners, share=True)
        rows.append({"films": who, "truth": truth, **share})
called_sick = pd.DataFrame(rows)

# %% [markdown]
# A good model has a low bar for the well and a high one for the sick. Where the two bars are alike, the model has lost
# the difference, and calls for a doctor by the kind of film.

# %%
rw.show.bars(
    called_sick,
    x="films",
    y="mean",
    group="truth",
    y_title="share called sick, 95 % by patient",
    title="Whom does a model for children call sick?",
)

# %% [markdown]
# Look at the blue bars first: they are people who were sent to a doctor for nothing.

# %%
well_called = called_sick[called_sick["truth"] == "well"]
words = []
for _, row in well_called.iterrows():
    counted = f"{row['n']} films of {row['patients']} patients"
    share = rw.stats.format_interval(row, "mean")
    words.append(f"{row['films']} {share}, {counted}")

# %%
absent = ""
if missing:
    names = ", ".join(missing)
    absent = f"Not on this machine, so not shown: {names}."
if "kermany" in missing:
    absent += f" {len(people['children'])} films of children: wide intervals."
told = "; ".join(words)
Markdown(f"We see, of the well, a share called sick: {told}. {absent}")

# %% [markdown]
# ### Does it still rank, and can its probability be believed?
# Too many called sick may only mean that the threshold sits in the wrong place. So we ask for the AUROC, which needs
# none. In adults an opacity of the lungs is what comes nearest to a pneumonia.

# %%
columns = {"any finding": "sick", "lung opacity": "Lung Opacity"}
rows = []
for who, films in people.items():
    for what, column in columns.items():
        if column in films:
            owners = films["patient_id"]
            row = rw.stats.clustered_auroc(films[column], stated[who], owners)
            rows.append({"finding": f"{who}: {what}", **row})
ranking = pd.DataFrame(rows)
rw.show.forest(ranking, title="The same model, other patients", caption="")

# %% [markdown]
# At 0.5 the model can't tell sick from well, however the threshold is moved. The children stand beside the adults as
# what the model can do at best, since it has probably learnt from them.

# %%
lines = []
for _, row in ranking.iterrows():
    interval = rw.stats.format_interval(row)
    lines.append(f"- {row['finding']}: {interval}")
Markdown("We see an AUROC for\n" + "\n".join(lines))

# %% [markdown]
# Of a hundred films that are said to be sick with a probability of 90 %, about ninety should be. We put films together
# by what was stated, and count. If a model is *calibrated*, its bar is as high as the one *as stated* beside it.

# %%
edges = [0, 0.1, 0.5, 0.9, 1]
names = ["under 10 %", "10 to 50 %", "50 to 90 %", "over 90 %"]
binned = {}
for who in people:
    binned[who] = pd.cut(stated[who], edges, labels=names, include_lowest=True)

# %% [markdown]
# The share of the sick in each of these bins, and the mean of what was stated there. A bin without films is left out.

# %%
rows = []
for who, films in people.items():
    for name in names:
        chosen = binned[who] == name
        if chosen.any():
            some = films[chosen]
            owners = some["patient_id"]
            share = rw.stats.clustered_mean(some["sick"], owners, share=True)
            middle = stated[who][chosen].mean()
            rows.append({"said": name, "of": who, "stated": middle, **share})
reliability = pd.DataFrame(rows)

# %%
by_statement = reliability.groupby("said", sort=False)["stated"].mean()
as_stated = pd.DataFrame({"said": names, "of": "as stated"})
as_stated["mean"] = as_stated["said"].map(by_statement)
rw.show.bars(
    pd.concat([as_stated, reliability]),
    x="said",
    y="mean",
    group="of",
    y_title="share that is sick, 95 % by patient",
    title="What is stated, and what is so",
)

# %%
sure_ones = reliability[reliability["said"] == names[-1]]
lines = []
for _, row in sure_ones.iterrows():
    share = rw.stats.format_interval(row, "mean")
    lines.append(f"- {row['of']}: {share} of {row['n']} films")
Markdown(
    "We see, where over 90 % was stated, that so many are sick:\n" + "\n".join(lines)
)

# %% [markdown]
# ### A threshold that doesn't travel
# A hospital would set the threshold on its own films: say, so that 95 of 100 well children are left in peace. Then
# someone takes it to adults. What are sensitivity and specificity there?

# %%
children = people["children"]
well = (children["sick"] == 0).to_numpy()
stated_for_well = stated["children"][well]
threshold = np.quantile(stated_for_well, 0.95)

# %%
rows = []
for who, films in people.items():
    for sick, what in enumerate(("specificity", "sensitivity")):
        chosen = (films["sick"] == sick).to_numpy()
        called = stated[who][chosen] > threshold
        owners = films["patient_id"][chosen]
        share = rw.stats.clustered_mean(called == sick, owners, share=True)
        rows.append({"films": who, "share": what, **share})
travelled = pd.DataFrame(rows)

# %%
lines = []
for who, rows in travelled.groupby("films", sort=False):
    by_share = rows.set_index("share")
    specificity = rw.stats.format_interval(by_share.loc["specificity"], "mean")
    sensitivity = rw.stats.format_interval(by_share.loc["sensitivity"], "mean")
    lines.append(f"- {who}: specificity {specificity}, sensitivity {sensitivity}")
Markdown(
    f"We see, at the children's threshold of {threshold:.2f}:\n"
    + "\n".join(lines)
    + "\n\nThe children's own figures flatter: the threshold was set on them."
)

# %% [markdown]
# ### Is it the patients, or the pixels?
# The adults' films are small, 64 px a side, and the model wants 150. Perhaps it is no fault of adults? That can be
# tried on the children: the **same films**, once as they are and once taken down to 64 px and up again. Nothing else
# differs, so the comparison is paired.

# %%
shrunk = rw.data.images(children, 64, fit="squash")
enlarged = []
for square in shrunk:
    again = rw.data.to_input(square / 255, published.size, fit=published.fit)
    grey = np.rint(again * 255)
    enlarged.append(np.uint8(grey))
squares = np.stack(enlarged)
stated_small = stated_for(squares)

# %% [markdown]
# Two comparisons: of the well children, how many more are called sick? And of all, how much of the AUROC is lost?

# %%
owners = children["patient_id"]
how = {"names": ("films of 64 px", "films as they are"), "family": 2}
small_called = stated_small[well] > 0.5
called = stated_for_well > 0.5
more_called = rw.stats.compare(
    small_called, called, owners[well], what="share of the well called sick", **how
)
ranks_worse = rw.stats.compare_auroc(
    children["sick"], stated_small, stated["children"], owners, **how
)

# %%
share = rw.stats.clustered_mean(small_called, owners[well], share=True)
at_64 = rw.stats.format_interval(share, "mean")
real = called_sick.query("films == 'real adults' and truth == 'well'")
adults = "not shown here"
if len(real):
    adults = rw.stats.format_interval(real.iloc[0], "mean")

# %%
Markdown(
    "We see, in the share of the well children that is called sick: "
    f"{more_called}. In AUROC: {ranks_worse}. At 64 px "
    f"{at_64} of the well children are called sick; "
    f"of the well real adults, at 64 px too: {adults}. What the pixels alone do must "
    "not be put down to the patients."
)

# %% [markdown]
# Even the way of resizing counts. The publisher doesn't state it. We take the nearest pixel, which is the default of the
# library that the model was made with; a smooth filter shows the same patients.

# %%
name, films = list(people.items())[-1]
squares = rw.data.images(films, published.size, fit="squash")
smooth = stated_for(squares)
healthy_ones = (films["sick"] == 0).to_numpy()
owners = films["patient_id"][healthy_ones]
stated_smooth = smooth[healthy_ones]
stated_nearest = stated[name][healthy_ones]

# %%
by_filter = rw.stats.compare(
    stated_smooth > 0.5,
    stated_nearest > 0.5,
    owners,
    names=("a smooth filter", "the nearest pixel"),
    what="share called sick",
)

# %%
Markdown(
    f"We see, of the well among the {name}, in the share called sick: {by_filter}."
)

# %% [markdown]
# ### What else does it know?
# Sick people are filmed lying or sitting, with the tube in front of them (AP); who can stand is filmed from behind (PA). If the
# features tell the view, a model may answer *lying* where it was asked *sick*. We train a linear probe on the features,
# judged on patients that it wasn't fitted on, beside one on 16 x 16 grey values, which need no model.

# %%
from_front = films["view"] == "AP"
viewed = films.assign(AP=from_front.astype(float))
features = {
    "its features": rw.models.embed(published, squares_of(films)),
    "16 x 16 pixels": rw.probe.raw_pixels(films, 16, fit="squash"),
}
probes = rw.probe.baselines(features, viewed, label="AP")
told = rw.probe.compare_scores(probes)

# %% [markdown]
# If the pixels of a stamp do as well as the features, then the view is written large on every film, and no model can
# help to notice it.

# %%
rw.show.forest(
    told.assign(finding=told["scored"]),
    x_title="AUROC for AP against PA, 95 % by patient",
    title="The view, told from the features",
    caption=f"{len(films)} films, {name}",
)

# %% [markdown]
# To know the view is not to use it. So we ask, among the well alone, whether what the model states is higher for one
# view than for the other.

# %%
is_ap = viewed["AP"][healthy_ones]
of_view = rw.stats.clustered_auroc(is_ap, stated_nearest, owners)
interval = rw.stats.format_interval(of_view)
which_knows_more = rw.probe.comparison_sentences(told)
Markdown(
    f"We see, in telling the view of the {name}, {which_knows_more}. "
    "Among the well alone, what the model states for *pneumonia* tells AP from PA with "
    f"an AUROC of {interval}; 0.5 would be a model that "
    "doesn't care."
)


# %% [markdown]
# ## The classic pair
# In 2020 many models told COVID with an AUROC near 1. Their films with COVID came from one archive, those without from
# another (DeGrave et al. 2021, [doi 10.1038/s42256-021-00338-7](https://doi.org/10.1038/s42256-021-00338-7)). Here is
# such a pair, as real as then: a public collection of COVID films, and the NIH's adults of years before. A probe gets
# nothing but small grey values, **once of the border alone**, where no lung is, and once of the middle.
#
# Two more groups are held back: patients of the *same* collection with another illness, and Hannover, an outside
# hospital whose patients all had COVID.

# %%
from contextlib import suppress

archives = {}
for name in ("covid-text", "nih-64", "hannover"):
    with suppress(rw.data.FetchError):
        films = rw.data.real(name)
        owners = name + " " + films["patient_id"]
        films = films.assign(patient_id=owners)
        archives[name] = films[films["view"].isin(["PA", "AP"])]
list(archives)

# %% [markdown]
# Two films a patient at most, as before. Who has no diagnosis in the collection is left out.

# %%
groups_of_films = {}
if len(archives) == 3:
    collection = archives["covid-text"]
    has_covid = collection["diagnosis"].str.startswith("COVID")
    unknown_illness = collection["diagnosis"] == "todo"
    groups_of_films = {
        "COVID": some_of(collection[has_covid]),
        "NIH": some_of(archives["nih-64"]),
        "same collection": some_of(collection[~has_covid & ~unknown_illness]),
        "Hannover": some_of(archives["hannover"]),
    }

# %% [markdown]
# All films are brought to 64 px, so that their size can't tell them apart. Of these the means of 4 x 4 px are taken:
# the outer two rings of them, or what they enclose.


# %%
def grey_means(films, border):
    """(N, values) of the border of each film, or of its middle."""
    squares = rw.data.images(films, 64, fit="squash")
    means = squares.reshape(-1, 16, 4, 16, 4).mean(axis=(2, 4))  # (N, 16, 16)
    is_border = np.ones((16, 16), bool)
    is_border[2:-2, 2:-2] = False
    return means[:, is_border == border]


# %% [markdown]
# A logistic regression learns COVID against NIH. Of these two, each patient is judged by a regression that hasn't met
# him; the other two groups are new to it anyway.

# %%
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler


# %%
def learnt(features, y, owners):
    """A probe, and (N,) what probes that hadn't met a patient state of his films."""
    probe = make_pipeline(StandardScaler(), LogisticRegression(C=0.01))
    folds = {"groups": owners, "cv": GroupKFold(5)}
    held_out = cross_val_predict(probe, features, y, **folds, method="predict_proba")
    return probe.fit(features, y), held_out[:, 1]


# %%
def means_of_groups(border):
    """{group: (N, values) grey means} of the border or of the middle."""
    x = {}
    for name, films in groups_of_films.items():
        x[name] = grey_means(films, border)
    return x


# %%
def answers_of(x):
    """{group: (N,) the probability of COVID}, from the grey means of each group."""
    n_covid = len(x["COVID"])
    features = np.concatenate([x["COVID"], x["NIH"]])
    y = np.arange(len(features)) < n_covid
    pair = [groups_of_films["COVID"], groups_of_films["NIH"]]
    owners = pd.concat(pair)["patient_id"]
    probe, held_out = learnt(features, y, owners)
    stated = {}
    for name, values in x.items():
        stated[name] = probe.predict_proba(values)[:, 1]
    return stated | {"COVID": held_out[:n_covid], "NIH": held_out[n_covid:]}


# %% [markdown]
# Three questions. How well is COVID told from NIH? How well from others of its own collection, where the archive is
# the same? And how many of Hannover are called, where 95 of 100 of NIH are not?


# %%
def against(stated, name):
    """AUROC of COVID against one other group, by patient."""
    pair = [groups_of_films["COVID"], groups_of_films[name]]
    values = np.concatenate([stated["COVID"], stated[name]])
    n_covid = len(stated["COVID"])
    y = np.arange(len(values)) < n_covid
    owners = pd.concat(pair)["patient_id"]
    return rw.stats.clustered_auroc(y, values, owners)


# %%
rows = {"border alone": [], "middle": []}
called = {}

# %%
if groups_of_films:
    owners = groups_of_films["Hannover"]["patient_id"]
    for where in rows:
        x = means_of_groups(where == "border alone")
        stated = answers_of(x)
        for name in ("NIH", "same collection"):
            row = against(stated, name)
            rows[where].append({"finding": f"COVID against {name}", **row})
        limit = np.quantile(stated["NIH"], 0.95)
        caught = stated["Hannover"] > limit
        called[where] = rw.stats.clustered_mean(caught, owners, share=True)

# %%
told = {}
for where, found in rows.items():
    if found:
        told[where] = pd.DataFrame(found)
picture = Markdown("These films aren't on this machine, so nothing is shown.")
if told:
    picture = rw.show.forest(told, title="COVID, told from where no lung is")
picture

# %% [markdown]
# A border that tells COVID from NIH tells the archive. Where both groups come from one archive, it has less to say. But
# look at the outside hospital: all its patients had COVID, and a probe that reads borders may still call most of them,
# since portable films have borders alike. A good figure at another hospital doesn't clear a model.

# %%
lines = []
for where, found in rows.items():
    for row in found:
        interval = rw.stats.format_interval(row)
        lines.append(f"- {where}, {row['finding']}: AUROC {interval}")
    if where in called:
        share = rw.stats.format_interval(called[where], "mean")
        lines.append(f"- {where}: of Hannover's patients {share} are called")
seen = "\n".join(lines) or "nothing: these films aren't on this machine."
Markdown("We see\n" + seen)


# %% [markdown]
# ## Would you sign for it?
# Someone hands you a file of weights: a published classifier that tells a child's pneumonia on a chest film. Before you
# put your name to it you want one page that says what it can do, where it fails, and what nobody has looked at. An
# *evidence card* is that page. Nothing on it is typed by hand, so it can't flatter by choice of words.

# %% [markdown]
# A card is tried on films that you have. We take children, as the publisher did, and where they are on this machine as
# many adults, whom it was never meant for. The label is the one that it was trained to give, and nobody tells the card
# which films are whose: the column `site` does.

# %%
children = "kermany" if "kermany" in real_films else "kermany-16"
kinds_of_films = [children, "nih-64"]
for_card = []
for name in kinds_of_films:
    if name in real_films:
        drawn = some_of(real_films[name])
        for_card.append(drawn.head(n_some // 2))
for_card = pd.concat(for_card, ignore_index=True).drop(columns="sick")
for_card["site"].value_counts()

# %% [markdown]
# The card runs its trials by itself. It asks for each finding, holds the answer against controls that know nothing and
# against probes that have labels, looks at groups, at what the answers follow besides, at calibration, at spoilt films.
# What can't be tried on these films stands there, too, with the reason.

# %%
signed = rw.card.evidence_card(published, for_card)
signed

# %%
Markdown(f"We see: {signed.summary}")

# %% [markdown]
# How does a row get its verdict? Not by anyone's opinion: each comparison has an interval, and a failure is one whose
# interval lies wholly on the bad side. Let us count by hand those spoilt films that cost AUROC for sure.

# %%
spoilt = signed.table.query("kind == 'robustness'")
by_hand = (spoilt["high"] < 0).sum()
on_the_card = (spoilt["verdict"] == "failure").sum()
rw.check.matches(by_hand, on_the_card)
columns = ["tried", "value", "low", "high", "control", "verdict"]
spoilt[columns].round(2)

# %% [markdown]
# The control of these rows is a film that was moved by one pixel. Nobody would call that spoilt, so a change of that size
# says nothing about a model.

# %%
lines = []
for row in signed.of("failure"):
    lines.append(f"- {row.kind}: {row.sentence}")
failures = "\n".join(lines) or "- none was found"
Markdown("We see these failures:\n" + failures)

# %% [markdown]
# A card is worth as much as what ties it to its model. Its *hash* is computed from all weights. Does it notice if one of
# millions is changed? We copy the network, move a single weight a little, and ask for the facts of both again.

# %%
from copy import deepcopy
from dataclasses import replace

changed = replace(published, net=deepcopy(published.net))
first_tensor = next(changed.net.parameters())
first_tensor.data.view(-1)[0] += 0.001
hashes = []
for one in (published, changed):
    no_trials = rw.card.evidence_card(one, for_card, battery_too=False)
    hashes.append(no_trials.model.sha256)

# %%
told = "differ" if hashes[0] != hashes[1] else "are the same"
Markdown(
    f"We see that of {signed.model.weights:,} weights one was moved, and the hashes "
    f"{told}: {hashes[0][:12]} and {hashes[1][:12]}. The control: the card that was made "
    f"first has {signed.model.sha256[:12]}."
)

# %% [markdown]
# ### Exercise 4: what does it say nothing about?
# The most useful part of a card is what isn't on it. `signed.not_tested` is a list of rows with `kind`, `tried` and
# `reason`. Write the number of kinds of failure of which **no** row of `signed.evidence` speaks.


# %%
def silent_kinds(card):
    """Number of kinds that stand under "not tested" and have no row of evidence."""
    raise NotImplementedError


# %% tags=["solution"] jupyter={"source_hidden": true}
def silent_solution(card):
    spoken_of = {row.kind for row in card.evidence}
    missing = {row.kind for row in card.not_tested}
    return len(missing - spoken_of)


# %%
kinds = {row.kind for row in signed.not_tested}
for attempt in (silent_kinds, silent_solution):
    expected = len(kinds - set(signed.table["kind"]))
    rw.check.matches(attempt, expected, signed)

# %% [markdown]
# The page itself is written with `save`; beside it lie the same as JSON and as the applied model card of the Coalition
# for Health AI. It needs no network and no script, so it can be attached, printed, or put into an archive.

# %%
path = signed.save("../runs/card-kermany-xception.html")
rw.book.beside(path, "The evidence card of the published Xception")

# %% [markdown]
# And the model that comes with the package? The same call, on the virtual patients of this page.

# %%
ours = rw.card.evidence_card(model, table)
path = ours.save("../runs/card-radwb-tiny.html")
rw.book.beside(path, "The evidence card of radwb-tiny")

# %%
Markdown(f"We see: {ours.summary}")


# %% [markdown]
# ## What does help do to a reader?
# A model doesn't read alone. Somebody looks at the film, hears what the model says, and decides. Good advice helps, and
# wrong advice pulls a right answer down, which is called *automation bias*. To measure it one has to know when the advice is
# wrong, so we **plant** it: on a quarter of the films the advice is turned round, on as many with the finding as
# without.

# %%
is_labelled = test[read_for].isin((0, 1))
by_label = test[is_labelled].groupby(read_for)
to_read = by_label.head(n_read // 2).reset_index(drop=True)
truth = to_read[read_for].to_numpy(int)
wrong = 0.25  # share of the advice
advice = rw.fail.planted_advice(truth, wrong, seed=0)
pd.crosstab(truth, advice, rownames=["truth"], colnames=["advice"])

# %% [markdown]
# We have no class of readers at hand, so we simulate one, with a dial. A reader sees each film through a blur that
# is partly the film's (a hard film is hard for all) and partly their own, and says how sure they are. With help they
# look again, so an answer may change by itself. And if the advice contradicts it, they take it over with a chance
# that we set: their **trust**.

# %%
n_readers = 6
hard = np.random.default_rng(1).normal(0, 0.35, len(truth))  # the same for all readers


def how_sure(look):
    """0 to 100, from what a reader makes of each film."""
    return 100 / (1 + np.exp(-4 * (look - 0.5)))


# %%
def one_reader(trust, rng):
    """How sure a reader is of each film: alone, and then with help."""
    seen = truth + hard + rng.normal(0, 0.35, len(truth))
    again = seen + rng.normal(0, 0.15, len(truth))
    contradicted = (again > 0.5) != advice
    is_led = rng.random(len(truth)) < trust
    gives_in = contradicted & is_led
    decided = np.where(gives_in, 1 - again, again)
    return {"alone": how_sure(seen), "with help": how_sure(decided)}


# %% [markdown]
# The readings of all readers become a table, a row a reading, as the reading study below writes it. The reader is
# asked twice for each film: for a confidence, and for yes or no.


# %%
def readings_of(trust):
    """A row a reader, film and arm."""
    parts = []
    for reader in range(n_readers):
        rng = np.random.default_rng([2, reader])
        for arm, sure in one_reader(trust, rng).items():
            part = pd.DataFrame({"case": to_read["study_id"], "confidence": sure})
            part = part.assign(reader=f"R{reader}", arm=arm, advice=advice)
            part["answer"] = (sure > 50).astype(int)
            parts.append(part)
    return pd.concat(parts, ignore_index=True)


# %%
trusts = (0.0, 0.3, 0.6, 0.9)
readings = {trust: readings_of(trust) for trust in trusts}
readings[trusts[-1]].head()

# %% [markdown]
# How often do they follow wrong advice? We count the films that a reader had right alone and on which the advice is
# wrong, and of these the ones where the answer went over. But somebody who looks twice may change their mind anyhow. So beside
# it we count the films that were right and where the advice was right too, and the answer was given up all the same.
# That is the control.

# %%
most_trusting = readings[trusts[-1]].set_index(["reader", "case"])
is_alone = most_trusting["arm"] == "alone"
alone = most_trusting[is_alone]
helped = most_trusting[~is_alone]
case = alone.index.get_level_values("case")
truth_of = pd.Series(truth, index=to_read["study_id"])
is_true = truth_of[case].to_numpy()

# %%
was_right = alone["answer"] == is_true
gave_up = helped["answer"] != alone["answer"]
right_advice = alone["advice"] == is_true
to_wrong = gave_up[was_right & ~right_advice].mean()
by_itself = gave_up[was_right & right_advice].mean()
Markdown(f"By hand: {to_wrong:.2f} at wrong advice, {by_itself:.2f} at right advice.")

# %% [markdown]
# `rw.fail.reading_effect` counts the same for each way that an answer can go, and compares. Its intervals hold for
# other readers and other patients like these: both are drawn by chance, and a study of a few readers is uncertain
# however many films they read.

# %%
by_film = to_read.set_index("study_id")
film_truth = by_film[read_for]
owners = by_film["patient_id"]
effects = {}
for trust, read in readings.items():
    effects[trust] = rw.fail.reading_effect(read, film_truth, patients=owners)
shares = effects[trusts[-1]].switches.set_index("switch")["mean"]
rw.check.matches(to_wrong, shares["to wrong advice"])
rw.check.matches(by_itself, shares["away from right advice"])

# %% [markdown]
# Now turn the dial. If the measure is worth anything, the share that goes over to wrong advice follows the trust that
# we set, and the control stays where it is.

# %%
rows = []
for trust, effect in effects.items():
    kinds = effect.switches[effect.switches["switch"] != "away from wrong advice"]
    rows.append(kinds.assign(trust=f"trust {trust:g}"))
rw.show.bars(
    pd.concat(rows),
    x="trust",
    y="mean",
    group="switch",
    y_title="share of answers that change, 95 % by patient",
    title="Who trusts follows, right or wrong",
)

# %%
lines = []
for trust, effect in effects.items():
    lines.append(f"- trust {trust:g}: {effect.followed}")
Markdown(
    "We see, in the share of right answers that are given up:\n"
    + "\n".join(lines)
    + "\n\nWhere wrong advice is ahead, the readers have an automation bias."
)

# %% [markdown]
# Does the help help? Most of the advice is right, but is it right more often than these readers are by themselves? What
# becomes of their AUROC as they trust more?

# %%
rows = []
for trust, effect in effects.items():
    row = {"finding": f"trust {trust:g}", "gain": effect.help.difference}
    rows.append(row | {"low": effect.help.low, "high": effect.help.high})
rw.show.forest(
    pd.DataFrame(rows),
    value="gain",
    line=0,
    x_title="AUROC with help less alone, interval over readers and patients",
    title="What help does to the readers' AUROC",
    caption=f"{n_readers} readers, {len(to_read)} films, each read twice",
)

# %%
at_most_trust = effects[trusts[-1]]
aurocs = at_most_trust.auroc.groupby("arm")["auroc"].mean()
right_share = (advice == truth).mean()
Markdown(
    f"We see, with advice that is right on {right_share:.0%} of the films, at a trust "
    f"of {trusts[-1]:g}: {at_most_trust.help}. Alone the readers have a mean "
    f"AUROC of {aurocs['alone']:.2f}, with help {aurocs['with help']:.2f}."
)

# %% [markdown]
# Somebody who follows all advice answers as the advice does: they become as good as the model, and no better. So help
# pays only where the model is better than its reader, or where the reader can tell when to leave it.

# %% [markdown]
# ### Now you
# Read a few films yourself: each comes twice, once alone and once with the model's advice, in an order of your own.
# Some of the advice is wrong, and which is kept from the page until the last film is read. Your readings are saved at
# once; run the cell again to go on. With a class, give each reader a name and one file, and put the file into
# `rw.fail.reading_effect`.

# %%
few = to_read.groupby(read_for).head(6).reset_index(drop=True)
rw.show.reading_study(
    few,
    advice=rw.fail.planted_advice(few[read_for], wrong, seed=3),
    finding=read_for,
    reader="A",
    out="../runs/readings.csv",
)


# %% [markdown]
# The numbers below go to the front page of the gallery.

# %%
drops = bait.pivot(index=["finding", "seed"], columns="arm", values="auroc")
lost = drops["tie holds"] - drops["tie broken"]
by_bait = lost.groupby("finding").mean()
rw.book.headline(
    patches_lose=by_bait["as in notebook 5"],
    whole_tower_loses=by_bait["whole tower"],
)

# %%
broken = bench.table.query("measure == 'tie broken'")
reached = broken.set_index("method")["after"]
called = "; ".join(words)

# %%
lines = [
    f"- **Repairs**, where the tie is broken: {reached.idxmax()} gets to "
    f"{reached.max():.2f}, {reached.idxmin()} to {reached.min():.2f}.",
    f"- **Readers** who trust most: {at_most_trust.followed}.",
    f"- **On the published model's card**: {signed.summary}",
    f"- **A published model**, the well whom it calls sick: {called}.",
]
Markdown("## What we found\n" + "\n".join(lines))

# %% [markdown]
# ## Where it breaks
# - Every repair was told the right mark. One that is told of another mends nothing.
# - A gap between groups has no reason written on it, and a corner of two groups has few patients.
# - The promise of a set holds on average over films like those it was calibrated on: not for one patient, not for the
#   sick alone, not after a change of the films.
# - The corruptions are made on small squares, not in the detector; the attacker knows the model and the label.
# - The streams are orders of the same patients, so their intervals say nothing of other patients.
# - Simulated readers trust all advice alike; a person trusts what fits.
# - An AUROC of unknown against known depends on what is called unknown: an easy stranger flatters every detector.
# - The seeds vary the training, not the test films: another set of patients would move all arms together.
# - Children and adults differ in more than age: archive, machine, size of the files, and who wrote the labels (NIH's
#   were mined from reports by a program). No comparison of sets can tell these apart, the pixels' size alone was tried.
# - The published model has probably met the children in its training, so its figures there are the best it can do.
