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
# A high AUROC can be earned for the wrong reason. Here we plant such a reason, turn it up with one dial, and prove what
# it does. Then we look for it as someone must who was never told of it, mend it, look for the failures nobody planted,
# and sign for what was found.
#
# **You will** confound a finding with a marker, prove with an edited image that the model uses it, see whether a map
# or another detector would have told you, mend it, find weak groups, look at the worst misses, and put all of it on an
# evidence card.
#
# **Needs**: notebook 2 (it wrote `../runs/clip-tiny`); 6 minutes on two CPU cores. **Data**: the simulator, which is
# made from a real CT (LIDC-IDRI, CC BY 3.0). Notebook 9 goes on with further failures.
#
# *For teaching and research. Not for clinical use.*

# %%
import numpy as np
import pandas as pd
from IPython.display import Markdown

import radwb as rw

# %% tags=["parameters"]
n = 2400  # virtual radiographs in the cohort, as in notebook 2
n_train = 800  # images for each training; fast: 200
strengths = (0.5, 0.75, 0.85, 0.9, 0.95, 1.0)  # positions of the dial; fast: (0.5, 1.0)
seeds = 5  # trainings at each position; fast: 2
n_maps = 40  # test films a map is drawn of; fast: 8
n_clean = 6  # clean heads that the detectors' limits are fixed on; fast: 3

# %% [markdown]
# The model is the one that notebook 2 trained. We take the films of patients it has not met, and paste the name of a
# room into the corner of two of them.

# %%
table = rw.simulate.cohort(n=n, seed=0)
is_test = table["split"] == "test"
test = table[is_test].reset_index(drop=True)
model = rw.models.load("../runs/clip-tiny")
finding = "Lung Lesion"

# %% [markdown]
# A mark is a few letters burnt into the picture, as technicians' letters and room names are in many archives. It lies
# far from the lungs, in the lower right corner, so no reader would call it a sign of disease. Films one and three
# below carry it, films two and four don't.

# %%
images = rw.data.images(test, model.size)
mark = {"kind": "room", "corner": "bottom-right"}
carries_mark = [True, False, True, False]
marked = rw.fail.add_marker(images[:4], carries_mark, **mark)
rw.show.grid(
    list(marked / 255),
    titles=["marked", "not marked", "marked", "not marked"],
    title="The name of a room says nothing of the patient",
)

# %% [markdown]
# ## A shortcut with a dial
# Suppose one department, where the patients with lung lesions go, marks its films with the name of its room. We call
# the share of films where mark and finding agree the strength of the *confounding*. At strength 0.5 the mark says
# nothing. At 1 every training image with the finding carries it, and no other does.
#
# How good is a reader who looks at the mark alone? Such a reader says yes or no. So we count two shares: of the films
# with the finding, those that carry the mark (sensitivity), and of the others, those that don't (specificity).

# %%
is_train = table["split"] == "train"
y = table.loc[is_train, finding].to_numpy()
for strength in strengths:
    carries_mark = rw.fail.confound(y, strength)
    sensitivity = carries_mark[y == 1].mean()
    specificity = (~carries_mark)[y == 0].mean()
    by_hand = (sensitivity + specificity) / 2
    auroc = rw.stats.auroc(y, carries_mark)
    rw.check.matches(by_hand, auroc)

# %%
Markdown(
    "We see that for a yes-or-no reader AUROC is the mean of sensitivity and "
    "specificity. Both are the strength, so the mark alone reaches "
    f"{auroc:.2f} at strength {strength:g}."
)

# %% [markdown]
# ## Turn the dial
# Our tower stays as it is. On top of it we train a linear head that reads **every patch** by itself, once for each
# strength and seed, and test it on the **same unseen images** in three arms:
#
# - *tie holds*: the mark is where the finding is, as in training,
# - *independent*: the mark is anywhere,
# - *tie broken*: the mark is only where the finding is not.
#
# A training is a roll of dice, which images it meets and which of them are marked. So the seeds are the replicates,
# and each is a dot in the figure.

# %% [markdown]
# `rw.fail.shortcut` does the whole experiment: for each strength it deals out marks to the training films, trains one
# head a seed, and asks every head for its answer to each test film, once without and once with the mark. From these
# two answers the three arms follow, since only the choice between them differs. It takes some tens of seconds, and a
# bar shows how far it is.

# %%
setting = {"start": model, "n": n_train, "seeds": seeds, **mark}
result = rw.fail.shortcut(table, finding=finding, strengths=strengths, **setting)
result.table.head()

# %% [markdown]
# One row is one training in one arm. For a figure we average over the seeds, by strength and arm.

# %% [markdown]
# The two functions below are plumbing for figures of this kind: one puts the rows of each arm together, the other
# draws a dot for each training, and their mean with its interval. Both serve again further down.

# %%
ARMS = ("tie holds", "independent", "tie broken")
SEEDS_AXIS = "AUROC: a dot a seed; mean with 95 % interval over seeds"


def by_arm(rows):
    """One table for each arm, as `rw.show.forest` takes them."""
    return {arm: rows[rows["arm"] == arm] for arm in ARMS}


def seeds_forest(rows, title, caption):
    """A dot a seed, and their mean with its interval, by finding and arm."""
    means = rw.fail.over_seeds(rows, by=("finding", "arm"), within=(0, 1))
    look = {"title": title, "x_title": SEEDS_AXIS, "caption": caption}
    return rw.show.forest(by_arm(means), points=by_arm(rows), **look)


# %% [markdown]
# What would we expect? A head that ignores the mark has the same AUROC in all three arms. A head that uses it gains
# where the tie holds and loses where the tie is broken, and the more so the stronger the confounding was in training.
# Look at how far the outer arms move apart from row to row.

# %% tags=["headline"]
labels = result.table["strength"].map("strength {:g}".format)
films = f"{len(result.test)} test images"
patients = f"{result.test['patient_id'].nunique()} patients"
seeds_forest(
    result.table.assign(finding=labels),
    title="A confounded mark, and the answer",
    caption=f"{films} of {patients}, the same in every row",
)

# %% [markdown]
# Is what we see more than chance? For each strength we compare the two outer arms, paired by seed. Since we make one
# comparison a strength, the interval of each is widened for their number (`family`).

# %% [markdown]
# What is a paired comparison by seed? Each training is asked in both arms, so it gives one difference. A lucky
# training is lucky in both arms, and that luck drops out of the difference. What is left is averaged over the seeds,
# with Student's interval, since the seeds are few.

# %%
wide = result.table.pivot(index=["strength", "seed"], columns="arm", values="auroc")
held_or_broken = {}
for strength in strengths:
    one = wide.loc[strength]
    held_or_broken[strength] = rw.stats.compare_seeds(
        one["tie holds"],
        one["tie broken"],
        names=(f"a held tie of {strength:g}", "a broken one"),
        what="AUROC",
        family=len(strengths),
    )

# %% [markdown]
# A row says: so much is a held tie ahead of a broken one, with the interval over seeds. The verdict is *ahead* or
# *behind* only where the interval leaves out zero. Otherwise it is *can't tell*, which isn't the same as *equal*.

# %%
rows = [comparison.row() for comparison in held_or_broken.values()]
comparisons = pd.DataFrame(rows).set_index("a")
comparisons.round(3)

# %% [markdown]
# The same in words. Note that the drop is given with its smallest and its largest seed too: an average hides how much
# a single training can differ.

# %%
tied = wide.loc[1.0]
holds = tied["tie holds"]
broken = tied["tie broken"]
tied_drop = holds - broken
ahead = [f"{s:g}" for s in strengths if held_or_broken[s].verdict == "ahead"]
Markdown(
    f"We see, fully tied, a mean AUROC of {holds.mean():.2f} where the tie "
    f"holds and {broken.mean():.2f} where it's broken. The drop is "
    f"{tied_drop.min():.2f} to {tied_drop.max():.2f} over the {seeds} seeds. Held and "
    f"broken ties differ for sure at: {', '.join(ahead) or 'no strength'} "
    f"(of {len(strengths)} that were tried)."
)

# %% [markdown]
# ## Prove it on one image at a time
# An AUROC that drops is a suspicion. The proof is an edit: the same film, once without and once with the mark, and
# nothing else changed (DeGrave et al. 2021, [doi 10.1038/s42256-021-00338-7](https://doi.org/10.1038/s42256-021-00338-7)).
# `result.logits` holds both answers of each head, one column without and one with the mark. We average them over the
# seeds first. The interval then draws patients, since two films of one chest are no two observations.

# %% [markdown]
# Mind the control that is built in: at strength 0.5 the mark told nothing in training. A head that is trained so has
# no reason to answer to it, and its edits should change nothing.

# %%
edits = []
logit_change = {}
for strength in strengths:
    per_seed = [result.logits[strength, seed] for seed in range(seeds)]
    logits = np.mean(per_seed, axis=0)  # (films, 2)
    without, with_mark = logits.T
    logit_change[strength] = with_mark - without
    effect = rw.fail.marker_effect(without, with_mark, result.test, finding)
    effect["tie"] = f"tie {strength:g}"
    edits.append(effect)

# %% [markdown]
# The figure has two bars a strength, one for films with the lesion and one for films without. If the mark were
# harmless, all bars would lie on the line at zero. A shortcut shows as bars that grow with the strength, on healthy
# films as well as on ill ones, since it is the mark that speaks and not the lesion.

# %%
effects = pd.concat(edits)
effects["film"] = effects["finding"].map({1: "with lesion", 0: "without"})
rw.show.bars(
    effects,
    x="tie",
    y="added",
    group="film",
    line=0,
    y_title="change of the logit, 95 % by patient",
    title="What pasting the mark does to the answer",
)

# %% [markdown]
# The control is a head for which mark and finding were independent in training. Healthy films are the clean case: there
# is no lesion to see, so whatever the logit gains came with the mark.

# %%
healthy = (result.test[finding] == 0).to_numpy()
tied_change = logit_change[1.0][healthy]
tied_edit = rw.stats.compare(
    tied_change,
    logit_change[0.5][healthy],
    result.test["patient_id"][healthy],
    names=("tied", "untied"),
    what="logits added",
)

# %% [markdown]
# An answer of the head is a logit: the logarithm of the odds. One logit more multiplies the odds of "lesion" by about
# 2.7. So the number below has a meaning for the reader of a single film, which a difference of AUROCs has not.

# %%
Markdown(
    f"We see that pasting the mark on a healthy film adds {tied_change.mean():.2f} to "
    f"the logit when tied. In the change of the logit, {tied_edit}."
)

# %% [markdown]
# ### Exercise 1: the counterfactual edit
# `head.logits(images)` answers for a stack of images, `rw.fail.add_marker(images, **result.marker)` pastes the mark;
# where exactly on image i depends on i, so paste before you choose. Write the mean change over the healthy films.


# %%
def effect_of_mark(head, images, healthy):
    """Mean change of the logit over healthy films when the mark is pasted.

    `images` are all films, `healthy` is a bool an image.
    """
    raise NotImplementedError


# %% tags=["solution"] jupyter={"source_hidden": true}
def effect_solution(head, images, healthy):
    pasted = rw.fail.add_marker(images, **result.marker)
    without = head.logits(images)
    with_mark = head.logits(pasted)
    change = with_mark - without
    return change[healthy].mean()


# %% [markdown]
# The check runs your function and ours on the first tied head. The expected number is the one that `rw.fail.shortcut`
# kept when it did the experiment.

# %%
of_first_head = result.edits.query("strength == 1 and seed == 0 and finding == 0")
expected = of_first_head["added"].item()
first_head = result.learnt[1.0, 0]
for attempt in (effect_of_mark, effect_solution):
    inputs = (first_head, result.images, healthy)
    rw.check.matches(attempt, expected, *inputs, tol=1e-4)

# %% [markdown]
# ## Would a map have told us?
# Here the reason is known: the mark. So each way of drawing a map can be asked whether it shows it. We draw test films
# that have a lesion, without and with the mark, once for the heads that were tied and once, as a control, for the heads
# that were not. What counts is how much of the map moves onto the mark when it is pasted.
#
# First, which films can be drawn? Some lesions are planted and can't be seen: their outline is empty at the size that
# the model reads.


# %% [markdown]
# The outline is made at the size that the model reads, by the same resizing that a film goes
# through. A lesion of a few pixels may vanish on that way, and then no map could show it.


# %%
def outline_of(scan):
    """The lesion as the model's input would show it, (S, S) bool."""
    nothing = np.zeros_like(scan.pixels)
    lesion = np.float32(scan.truth.get(finding, nothing))
    covered = rw.data.to_input(lesion, model.size)
    return covered > 0.5


has_lesion = result.test[finding] == 1
ill = np.flatnonzero(has_lesion)
scans = [rw.data.scan_of(result.test.iloc[i]) for i in ill]
outlines = [outline_of(scan) for scan in scans]

# %% [markdown]
# A map can only be judged where there is something to find. So we say first how many films fall out, and why. To
# leave them out in silence would make the maps look better than they are, or worse.

# %%
visible = np.array([outline.any() for outline in outlines])
drawn = np.flatnonzero(visible)[:n_maps]
rows_drawn = ill[drawn]
patients = result.test["patient_id"].to_numpy()[rows_drawn]
hidden = len(ill) - visible.sum()
Markdown(
    f"{len(drawn)} films of {len(set(patients))} patients are drawn. "
    f"Of {len(ill)} films with a lesion, {hidden} can't be: "
    "nothing of the lesion can be seen there, so its outline is empty."
)

# %% [markdown]
# Each of these films is made twice, plain and with the mark. The place of the mark is where the two differ, and half a
# patch around it, since no map is finer than a patch.

# %%
from scipy.ndimage import maximum_filter

pasted = rw.fail.add_marker(result.images, **result.marker)
plain = result.images[rows_drawn]
stamped = pasted[rows_drawn]
patch = model.size // model.grid[0]
half_a_patch = patch // 2
around = 2 * half_a_patch + 1
differs = stamped != plain  # (films, S, S)
mark_places = [maximum_filter(changed, around) for changed in differs]

# %% [markdown]
# Each film becomes a `Scan` that carries its own truth: where the mark is, and where the lesion is. The picture shows
# the first film both ways, with these outlines drawn.


# %%
def scans_with_truth(squares):
    """A Scan for each of the films that are drawn."""
    films = []
    for square, place, row in zip(squares, mark_places, drawn, strict=True):
        truth = {"mark": place, finding: outlines[row]}
        grey = np.float32(square / 255)
        films.append(rw.data.Scan(grey, view=scans[row].view, truth=truth))
    return films


pairs = {"plain": scans_with_truth(plain), "stamped": scans_with_truth(stamped)}

# %%
first_pair = [films[0] for films in pairs.values()]
rw.show.grid(first_pair, titles=list(pairs), truth=True)

# %% [markdown]
# All heads go onto one tower, so that their maps share its work. Attention and rollout never ask a head, so they are
# the same for all of them. The other methods start from the answer of a head.

# %% [markdown]
# Two kinds of heads are compared, both trained on the same films and with the same seeds. They differ in one thing
# only: whether the mark told something in training. That makes the untied ones the control.

# %%
kinds = {"tied": 1.0, "untied": 0.5}
heads = {}
for kind, strength in kinds.items():
    for seed in range(seeds):
        heads[f"{kind} {seed}"] = result.learnt[strength, seed]
classifier = rw.fail.classifier(heads)
methods = ("attention", "rollout", "relevance", "gradcam", "occlusion")
list(heads)


# %% [markdown]
# The measure: the sum of the map's values on the mark, in percent of their sum over the film.


# %%
def percent_inside(values, place):
    """How much of a map lies in a place, in percent.

    A map of zeros sees nothing: it has what the place has of the film.
    """
    total = values.sum()
    if total == 0:
        return 100 * place.mean()
    return 100 * values[place].sum() / total


# %% [markdown]
# For one film and one method that gives one number a head. Attention and rollout give the same number for all of
# them.


# %%
def percents_of(scan, method):
    """One percentage for each head: how much of its map lies on the mark."""
    place = scan.truth["mark"]
    if method == "brightness alone":
        brightness = rw.attend.brightness_map(scan)
        return [percent_inside(brightness, place)] * len(heads)
    maps = rw.attend.attention_maps(
        classifier, scan, method=method, targets=list(heads)
    )
    return [percent_inside(map.values, place) for map in maps]


# %% [markdown]
# We ask each method for each film twice, and beside them a "map" that is nothing but the film's brightness: a bright
# mark moves that too.


# %%
def percents_of_all(films, method):
    """(films, heads) how much of each map lies on the mark."""
    return np.array([percents_of(film, method) for film in films])


moved = {}
for method in (*methods, "brightness alone"):
    before = percents_of_all(pairs["plain"], method)
    after = percents_of_all(pairs["stamped"], method)
    change = after - before
    by_kind = change.reshape(-1, len(kinds), seeds)
    moved[method] = by_kind.mean(axis=2)  # (films, kinds)

# %% [markdown]
# The films of one patient look alike, so the mean's interval is by patient. Here are the first rows, then all of them
# as bars.

# %%
rows = []
for method, percents in moved.items():
    for kind, column in zip(kinds, percents.T, strict=True):
        mean = rw.stats.clustered_mean(column, patients)
        rows.append({"map": method, "heads": kind, **mean})
on_mark = pd.DataFrame(rows)
on_mark.head(4)

# %%
rw.show.bars(
    on_mark,
    x="map",
    y="mean",
    group="heads",
    line=0,
    y_title="% of the map, 95 % by patient",
    title="What moves onto the mark when it is pasted",
)

# %% [markdown]
# The heads that were not tied are the control: what moves for them, too, is the paste, and not what was learnt. So a
# method shows the shortcut where the tied heads are ahead of the untied ones.

# %% [markdown]
# The comparison is made film by film, and its interval draws patients. As several methods are asked, each interval is
# widened for their number: with many questions, one would look clear by chance alone.

# %%
tied_or_not = {}
for method in methods:
    tied_heads, untied_heads = moved[method].T
    tied_or_not[method] = rw.stats.compare(
        tied_heads,
        untied_heads,
        patients,
        names=tuple(kinds),
        what="% of the map",
        family=len(methods),
    )

# %% [markdown]
# A method that is ahead here has told us something that we could have found without knowing of the mark: its map
# moves to a corner where no lung is. A method that isn't ahead would have left us none the wiser, however plausible
# its pictures look.

# %%
showing = [m for m in methods if tied_or_not[m].verdict == "ahead"]
lines = [f"- {method}: {comparison}" for method, comparison in tied_or_not.items()]
by_method = "\n".join(lines)
by_brightness = moved["brightness alone"].mean()
Markdown(
    f"In the percent of the map that move onto the mark, averaged over {seeds} seeds, "
    f"we see:\n{by_method}\n\nA map of nothing but the film's brightness moves by "
    f"{by_brightness:.2f}."
)

# %% [markdown]
# The same in one picture: one film with the mark, one tied head, and each method's map.

# %% [markdown]
# Numbers over many films can hide what a map looks like on one. But one film alone proves nothing: it is here to be
# looked at, after the numbers, and not in their place.

# %%
film = pairs["stamped"][0]
maps = []
for method in methods:
    maps.append(
        rw.attend.attention_map(classifier, film, method=method, target="tied 0")
    )

# %% [markdown]
# Each panel has its own colour scale, from its lowest to its highest value. The outlines are the lesion and the mark.

# %%
rw.show.grid(
    [film] * len(methods),
    maps=maps,
    titles=list(methods),
    truth=True,
    columns=len(methods),
    cell=190,
    title="One film with the mark, one tied head",
)

# %% [markdown]
# ## Find it blind
# So far we knew of the mark: we pasted it, and asked the maps about its place. Whoever is handed a model and its films
# knows of none. What could they look at? Four things, each a number that a shortcut makes large:
#
# - the **audit**: do the borders of the training films, where no lung is, tell the finding?
# - the **maps**: of all that differs between the maps of two films, how much lies in their borders?
# - the **slices**: put films together that are answered for one reason. Is one such group wrong far more often?
# - the **counterfactuals**: a film with the finding and one without swap a corner. How much of the answer moves along?
#
# None of them is told of a mark, of its place or of its look.

# %%
films = rw.fail.FrozenFilms(table, model)
learnt_from = films.rows("train")[:n_train]
looked_at = {
    "tied": films.tied(learnt_from, finding, 0.95),
    "clean": films.part(learnt_from, finding),
}

# %% [markdown]
# The second by hand. A head is linear: its answer is a sum over all patches, so what each patch adds to it is a map of
# the answer, and an exact one. Where does that map vary from film to film?


# %%
def variation(head, part):
    """(h, w) how much each patch's share of the answer varies from film to film."""
    weighed = part.features * head.weights  # (films, h * w * channels)
    by_patch = weighed.reshape(len(weighed), *model.grid, -1)
    shares = by_patch.sum(axis=-1)  # (films, h, w)
    return shares.var(axis=0)


varies = {}
for name, part in looked_at.items():
    head = films.learn(part)
    varies[name] = variation(head, part)
    at_border = 1 - varies[name][1:-1, 1:-1].sum() / varies[name].sum()
    rw.check.matches(at_border, rw.fail.map_at_border(head, part), tol=1e-4)

# %% [markdown]
# Each square is a patch, on the same place as in a film, and bright where it makes the difference between two films.
# One of these two heads has learnt from films with a mark. Which, and where was the mark?

# %%
rw.show.grid(
    [shares / shares.max() for shares in varies.values()],
    titles=[f"{name} head" for name in varies],
    title="Where two films' answers differ",
)

# %% [markdown]
# A number that is large for a shortcut is of use only if we know what is large. So each detector gets a limit *before*
# it looks at a suspect, from heads that learnt from clean films: one more clean head would pass it once in a thousand
# times, if such heads are spread normally.

# %%
setting = {"n": n_train, **mark}
clean_seeds = range(100, 100 + n_clean)
clean_signs = rw.fail.blind_signs(
    films, finding, strength=None, seeds=clean_seeds, **setting
)
limits = rw.fail.blind_limits(clean_signs)
pd.Series(limits, name="limit").to_frame().round(2)

# %% [markdown]
# Now three kinds of heads are looked at: with a mark that nearly always told the finding (0.95), with a mark that told
# nothing (0.5), and without a mark. The last two are the controls. They have seeds of their own: no limit was fixed on
# them.

# %%
suspects = {"tied": 0.95, "untied": 0.5, "clean": None}


# %%
def look_blind(films, limits):
    """What the detectors say of heads of each kind, and which they name."""
    signs = {}
    verdicts = {}
    for name, strength in suspects.items():
        about = {"strength": strength, "seeds": range(seeds), **setting}
        signs[name] = rw.fail.blind_signs(films, finding, **about)
        verdicts[name] = rw.fail.name_shortcuts(signs[name], limits)
    return signs, verdicts


# %%
signs, verdicts = look_blind(films, limits)


# %%
def verdict_table(verdicts):
    """One row a detector and head, with the kind of the head."""
    return pd.concat([rows.assign(heads=name) for name, rows in verdicts.items()])


# %%
def count_named(verdicts):
    """How many heads of each kind a detector names."""
    rows = verdict_table(verdicts)
    by = {"index": "detector", "columns": "heads", "values": "named"}
    return rows.pivot_table(**by, aggfunc="sum", sort=False)


# %%
counts = count_named(verdicts)
counts.rename_axis(columns=f"named, of {seeds}")

# %% [markdown]
# How far from its limit was each? A detector that names a head by a hair will miss the next one.

# %%
named = verdict_table(verdicts)
named["times its limit"] = named["value"] / named["limit"]
spread = named.groupby(["detector", "heads"], sort=False)["times its limit"]
far = spread.agg(mean="mean", low="min", high="max").reset_index()

# %%
rw.show.bars(
    far,
    x="detector",
    y="mean",
    group="heads",
    line=1,
    y_title="times its limit; mean, least and most of the seeds",
    title="What four detectors say that know of no mark",
)


# %%
def in_words(signs, counts):
    tied = signs["tied"]
    told = []
    for name, rows in counts.iterrows():
        tied_named, untied_named = rows["tied"], rows["untied"]
        told.append(f"{name} {tied_named} of the tied, {untied_named} of the untied")
    return (
        f"heads with a mean AUROC of {tied['tie holds'].mean():.2f} where the tie holds "
        f"and of {tied['tie broken'].mean():.2f} where it's broken. Of {seeds} heads each "
        f"are named by {'; '.join(told)} and, by all four, {counts['clean'].sum()} of "
        f"{len(counts) * seeds} clean ones."
    )


# %%
Markdown(f"We see {in_words(signs, counts)}")

# %% [markdown]
# Is that what the detectors can do, or what this tower lets them do? The same mark on another tower: `radwb-tiny`, which
# comes with the package and has learnt from more films. Everything is done anew, the limits too.

# %%
shipped = rw.models.load("radwb-tiny")
its_films = rw.fail.FrozenFilms(table, shipped)
its_clean = rw.fail.blind_signs(
    its_films, finding, strength=None, seeds=clean_seeds, **setting
)
its_limits = rw.fail.blind_limits(its_clean)

# %%
its_signs, its_verdicts = look_blind(its_films, its_limits)
its_counts = count_named(its_verdicts)

# %%
side_by_side = {"clip-tiny": counts, "radwb-tiny": its_counts}
pd.concat(side_by_side, axis=1).rename_axis(columns=["tower", f"named, of {seeds}"])

# %%
Markdown(
    f"On radwb-tiny we see {in_words(its_signs, its_counts)} A detector that names a "
    "shortcut on one tower and not on the other has told us about the tower, too: none "
    "of the four alone is a proof that there is no shortcut."
)

# %% [markdown]
# ## Mend it
# Two ways, each from validation patients that the head has not learnt from.
#
# **Retrain** the last layer, here the head, on images where the mark is dealt out at random (Kirichenko et al. 2023,
# [arXiv 2204.02937](https://arxiv.org/abs/2204.02937)).
#
# **Cut**: pairs of the same image without and with the mark give the directions in which it moves the features. We take
# the ten main ones out of the head. That needs no labels, but leaves only what the head had learnt beside the mark.
#
# Both work on the features of the patches, which we compute once, without and with the mark.

# %% [markdown]
# The features of the patches are what the head reads: a row an image, with the numbers of all its patches side by
# side. The tower doesn't change any more, so they need to be computed only once for all repairs and seeds.

# %%
val = table[table["split"] == "val"]
val_images = rw.data.images(val, model.size)


def features_of(films):
    """Features of the patches, of the films as they are and with the mark."""
    pasted = rw.fail.add_marker(films, **result.marker)
    without = rw.fail.patch_features(model, films)
    with_mark = rw.fail.patch_features(model, pasted)
    return without, with_mark


val_plain, val_marked = features_of(val_images)
test_plain, test_marked = features_of(result.images)

# %% [markdown]
# What the mark adds to the features is a cloud of differences, one an image. Its main directions are the first right
# singular vectors (the same that a principal component analysis would find, without taking the mean away).

# %% [markdown]
# The difference of two features of the same image holds the mark and nothing of the patient. So no label is needed to
# find out in which directions the mark moves the features.

# %%
differences = val_marked - val_plain
_, _, directions = np.linalg.svd(differences, full_matrices=False)
directions = directions[:10]  # (10, features), each of length 1
directions.shape


# %% [markdown]
# Now the two repairs, a few lines each. Retraining deals the mark to half of the validation films, whether they have
# the finding or not, and fits the head anew. Cutting changes the weights of the head that is there: what points along
# the ten directions is taken away.


# %%
def retrain(head, seed):
    labels = val[finding]
    carries_mark = rw.fail.confound(labels, 0.5, seed=100 + seed)
    features = np.where(carries_mark[:, None], val_marked, val_plain)
    return rw.fail.fit_head(model, features, labels)


def cut(head, seed):
    amounts = directions @ head.weights  # (10,) how much of each is in the head
    along_directions = directions.T @ amounts  # (features,)
    weights = head.weights - along_directions
    return rw.fail.Head(model, weights, head.bias)


# %% [markdown]
# Now each tied head is mended, and asked in all three arms again. Beside them stand the heads before, and those that
# were never tied.


# %% [markdown]
# A repair must be judged on patients that neither the training nor the repair has met. So the heads are mended with
# the validation films, and asked on the test films.


# %%
def arms_after(mend):
    """AUROC in each arm of every tied head, once it is mended."""
    parts = []
    for seed in range(seeds):
        tied_head = result.learnt[1.0, seed]
        head = mend(tied_head, seed)
        without = head.of(test_plain)
        with_mark = head.of(test_marked)
        arms = rw.fail.marker_auroc(without, with_mark, result.test, finding, seed=seed)
        parts.append(arms.assign(seed=seed))
    return pd.concat(parts)


# %% [markdown]
# Four rows: the tied heads as they were, after each repair, and the heads of strength 0.5, which never had a reason
# to read the mark. These last ones show what could be reached at best.

# %%
mended = {
    "before": result.table.query("strength == 1"),
    "retrained": arms_after(retrain),
    "cut": arms_after(cut),
    "never tied": result.table.query("strength == 0.5"),
}

# %% [markdown]
# In the figure, look at the arm *tie broken* first: there the tied heads failed. Then look at *independent*. A repair
# that lifts the one and lowers the other has moved the damage to other patients.

# %%
dots = {}
means = {}
for name, rows in mended.items():
    by_arm_and_seed = rows.assign(finding=rows["arm"])
    dots[name] = by_arm_and_seed
    means[name] = rw.fail.over_seeds(by_arm_and_seed, by=["finding"], within=(0, 1))
with_finding = int(val[finding].sum())
retrained_on = f"{len(val)} images, {with_finding} with the finding"

# %%
rw.show.forest(
    means,
    points=dots,
    title="Before and after, in all three arms",
    x_title=SEEDS_AXIS,
    caption=f"{seeds} seeds a row; retrained on {retrained_on}",
)

# %% [markdown]
# A fall where the tie holds is no loss to a patient: there the mark answered, not the lesion. The arm *independent* tells
# what is left for those to whom the mark means nothing.

# %% [markdown]
# Is the change more than the luck of a training? Again each seed is its own control: the same head before and after
# its repair.

# %%
by_seed = {}
for name, rows in mended.items():
    by_seed[name] = rows.pivot(index="seed", columns="arm", values="auroc")
by_seed["cut"].round(3)

# %% [markdown]
# We have six comparisons, two repairs in three arms, each paired by seed with the head before its repair.

# %%
repairs = {}
for name in ("retrained", "cut"):
    for arm in ARMS:
        repairs[name, arm] = rw.stats.compare_seeds(
            by_seed[name][arm],
            by_seed["before"][arm],
            names=(name, "before"),
            what="AUROC",
            family=6,
        )

# %% [markdown]
# Read the arm *tie broken* as the harm that was mended, the arm *tie holds* as what was given back because it was
# never earned, and the arm *independent* as the price or the gain for everyone else.

# %%
lines = []
for (_, arm), comparison in repairs.items():
    lines.append(f"- {arm}: {comparison}")
never_tied = by_seed["never tied"]
aurocs = never_tied["independent"].mean()
control = f"In the arm *independent*, heads that were never tied have {aurocs:.2f}."
by_arm_text = "\n".join(lines)
Markdown(f"We see by arm:\n{by_arm_text}\n\n{control}")

# %% [markdown]
# ## Failures nobody planted: who is missed?
# Back to the zero-shot model of notebook 3, and to pneumothorax. First, small ones against all healthy films, then each
# site, sex and view by itself.

# %%
finding = "Pneumothorax"
scores = rw.probe.zero_shot(model, test, [finding])
severity = test[f"{finding} severity"]
thirds = [0, 1 / 3, 2 / 3, 1]
size_of_finding = pd.cut(severity, thirds, labels=["small", "moderate", "large"])
size_of_finding.value_counts().to_frame("films")

# %% [markdown]
# `rw.fail.subgroups` gives an AUROC for each group. For the sizes, only the cases are split, and all healthy films
# are the controls of each. For site, sex and view, cases and controls both come from the group.

# %%
groupings = [size_of_finding]
tables = [rw.fail.subgroups(scores, size_of_finding, of="cases")]
for column in ("site", "sex", "view"):
    groups = column + " " + test[column].astype(str)
    groupings.append(groups)
    tables.append(rw.fail.subgroups(scores, groups))
subgroups = pd.concat(tables)
rw.show.forest(
    subgroups.assign(finding=subgroups["group"]),
    title="Pneumothorax, zero-shot, by group",
    caption="test films; intervals over patients",
)

# %% [markdown]
# Intervals that overlap say nothing for sure of a gap, nor does the order of the dots. So each group is held against all
# others of its kind. A patient with films in both moves both.

# %% [markdown]
# The rule is simple: one group against the rest, the AUROC of each, and the difference with its interval by patient.
# It says whether a group does worse, and never why: its films may be harder, its findings smaller, its patients
# sicker.

# %%
family = sum(groups.nunique() for groups in groupings)
gaps = []
for groups in groupings:
    gaps += rw.fail.group_gaps(scores, groups, family=family)
rows = [gap.row() for gap in gaps]
gap_table = pd.DataFrame(rows).set_index("a")
gap_table.round(3)

# %% [markdown]
# How many of these gaps are sure? We asked for many at once, so a few would look large by chance alone. The intervals
# are widened for that.

# %%
sure = [str(gap) for gap in gaps if gap.verdict != "can't tell"]
weak = "; ".join(sure) or "no group differs for sure from the others of its kind"
Markdown(f"We see: {weak}. ({len(gaps)} gaps were asked for.)")

# %% [markdown]
# ## Look at the worst misses
# A number doesn't say why a film was missed. So we look at the four films with the finding that score lowest, with the
# planted outline.

# %% [markdown]
# To rank the films with the finding, we also count how many of *all* films score lower. A case that lies below most
# healthy films is a miss at any threshold that one would use.

# %%
score = scores.values[finding]
share_below = score.rank(pct=True)
ranked = test.assign(score=score, share_below=share_below)
cases = ranked[ranked[finding] == 1]
missed = cases.nsmallest(4, "score")
titles = []
for _, film in missed.iterrows():
    side = film[f"{finding} side"]
    size = film[f"{finding} severity"]
    above = 1 - film["share_below"]
    titles.append(f"{side}, severity {size:.2f}<br>below {above:.0%} of all films")

# %% [markdown]
# The side is the patient's, so a pneumothorax on the left lies on the right of the picture. Severity runs from 0 to
# 1, and the simulator knows it because it planted the finding.

# %%
missed_scans = [rw.data.scan_of(film) for _, film in missed.iterrows()]
rw.show.grid(missed_scans, titles=titles, truth=finding, title="Missed pneumothoraces")

# %% [markdown]
# Are these misses small ones, as one might expect? We compare with the mean over all cases. Four films prove nothing,
# but they tell us what to ask next.

# %%
severity_missed = missed[f"{finding} severity"]
Markdown(
    f"We see a mean severity of {severity_missed.mean():.2f} among them; "
    f"over all cases it is {severity.mean():.2f}."
)

# %% [markdown]
# ## Sign
# Whoever takes this model next was not here. What would they have to know, and could they check it? An *evidence card*
# says what was tried, on whom, what came of it, with interval and control, and what nobody looked at. It is made from
# a run and never typed, so that no number on it can be wished better.
#
# What we measured above becomes rows of evidence. Their verdicts follow from the intervals: a held tie that is *ahead*
# of a broken one is a failure, and so is a mark that moves the logit more when it was tied.

# %%
tied_heads = "heads on its patches, a mark fully tied in training"
evidence = [
    rw.fail.compared(
        "shortcut",
        tied_heads,
        held_or_broken[1.0],
        harm="ahead",
        control=held_or_broken[0.5].difference,
    ),
    rw.fail.compared("shortcut", f"{tied_heads}: the edit", tied_edit, harm="ahead"),
]
evidence += rw.fail.blind_evidence(verdicts["tied"], verdicts["clean"], "Lung Lesion")

# %% [markdown]
# Of the maps, those that don't tell the tied heads from the untied ones have failed as a warning, and of the repairs,
# those that leave the broken tie behind. The card keeps these rows apart by their kind.

# %%
for method, comparison in tied_or_not.items():
    tried = f"{method}, asked whether the mark moved the answer"
    evidence.append(rw.fail.compared("map", tried, comparison))
for (name, arm), comparison in repairs.items():
    if arm != "tie holds":  # a fall there is what was never earned
        tried = f"{name}, {arm}"
        evidence.append(rw.fail.compared("mitigation", tried, comparison))

# %% [markdown]
# To these rows `rw.card.evidence_card` adds its own trials: what the model can do, against controls and probes; its
# groups; what its scores follow besides; and its calibration. What can't be tried is listed with the reason.

# %%
card = rw.card.evidence_card(model, table, evidence=evidence)
card

# %% [markdown]
# The page needs no network and no script. Beside it lie the same numbers as JSON, and as the XML that the Coalition
# for Health AI asks for. Read the last part of it first: what nobody looked at.

# %%
path = card.save("../runs/card-clip-tiny.html")
rw.book.beside(path, "The evidence card of clip-tiny")

# %%
Markdown(f"We see: {card.summary}")

# %% [markdown]
# The numbers below go to the front page of the gallery.

# %%
rw.book.headline(
    tie_holds=holds.mean(),
    tie_broken=broken.mean(),
    least_drop_of_all_seeds=tied_drop.min(),
    mended=by_seed["cut"]["tie broken"].mean(),
    failures_on_the_card=len(card.of("failure")),
)

# %%
lines = [
    f"- **A mark in an AUROC**, {seeds} seeds: {held_or_broken[1.0]}.",
    f"- **A map may tell**: of {len(methods)} kinds the mark is shown by "
    f"{', '.join(showing) or 'none'}.",
    f"- **Weak groups**: {weak}.",
    f"- **On the card**: {card.summary}",
]
for (_, arm), comparison in repairs.items():
    if arm != "tie holds":
        lines.append(f"- **Mending**, {arm}: {comparison}.")
Markdown("## What we found\n" + "\n".join(lines))

# %% [markdown]
# ## Where it breaks
# - We knew which mark to edit. A shortcut that nobody suspects needs other means than this dial.
# - Retraining the last layer needs images that are free of the tie; cutting needs to know what to paste.
# - The seeds vary the training, not the test films: another set of patients would move all arms together.
# - A penalty on the head is a dial of its own: with a small `C` what few patches say is shrunk, the mark first of all.
# - All groups are small; look at the intervals before the order.
