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
# **You will** turn two sentences into a classifier, compute an AUROC and its interval by hand, ask whether it knows
# the finding or only that something is wrong, see how much hangs on the wording, and carry the model to real
# radiographs.
#
# **Needs**: notebook 2 (it wrote `../runs/clip-tiny`); 3 minutes on two CPU cores, and 2 more when the supervised
# twin is trained for the first time. **Data**: the simulator on a real CT (LIDC-IDRI, CC BY 3.0); 16 real paediatric
# radiographs (Kermany et al., CC BY 4.0).
#
# *For teaching and research. Not for clinical use.*

# %%
import numpy as np
import pandas as pd
from IPython.display import Markdown, display

import radwb as rw
from radwb.stats.sentence import Comparison

# %% [markdown]
# A few numbers steer the run. `n` must be what notebook 2 had, since the same patients are the test patients there and
# here. More resamples make an interval steadier, more draws make a mean steadier, and both cost time.

# %% tags=["parameters"]
n = 2400  # virtual radiographs in the cohort, as in notebook 2
n_boot = 1000  # resamples of the patients
twin_epochs = 6  # of the supervised twin; fast: 1
draws = 3  # choices of patients for each label budget; fast: 1

# %% [markdown]
# An image-text model turns an image into a vector, the *embedding*, of length one. We compute the vectors of all
# films once and use them in the whole notebook. Then we take the test part: patients that the model has not met in
# training.

# %%
table = rw.simulate.cohort(n=n, seed=0)
model = rw.models.load("../runs/clip-tiny")
findings = rw.data.findings_of(table)
vectors = rw.models.embed(model, table)  # (N, E), each image a point of unit length
is_test = (table["split"] == "test").to_numpy()
test, Z = table[is_test], vectors[is_test]

# %% [markdown]
# How common is each finding among them? A rare finding has few positive films, and its interval will be wide.

# %%
shares = []
for finding in findings:
    share = test[finding].mean()
    shares.append(f"{finding} ({share:.0%})")
n_patients = test["patient_id"].nunique()
Markdown(
    f"{len(test)} radiographs of {n_patients} virtual patients that the "
    f"model never saw: {', '.join(shares)}."
)

# %% [markdown]
# What do these words mean? `rw.findings.FINDINGS` has a row for each finding, with a sentence for readers who aren't
# radiologists.

# %%
meanings = {finding: rw.findings.FINDINGS[finding].meaning for finding in findings}
pd.Series(meanings, name="what it is").to_frame()

# %% [markdown]
# ## Two sentences make a classifier
# Images and sentences live in one space. Is the image nearer to *there is a pleural effusion* or to *there is no
# pleural effusion*? Nearness is the cosine of the two vectors, and for vectors of length one that is their product.
#
# A softmax over the two cosines turns the answer into a probability (CheXzero, Tiu et al. 2022, [doi
# 10.1038/s41551-022-00936-9](https://doi.org/10.1038/s41551-022-00936-9)). The cosines are multiplied by the model's
# *logit scale* first, the inverse temperature that it learnt in training.

# %%
sentences = ["there is a pleural effusion", "there is no pleural effusion"]
yes, no = model.encode_text(sentences).detach().numpy()
cosines = np.stack([Z @ yes, Z @ no], axis=1)  # (N, 2)
weight = np.exp(model.logit_scale * cosines)
probability = weight[:, 0] / weight.sum(axis=1)  # softmax over the pair

# %% [markdown]
# Does this probability, which no label has touched, differ between films with and without an effusion? We draw both
# as histograms. The simulator planted the effusions, so the truth is known. If the sentences do their work, the films
# with an effusion lie farther to the right. Where both groups overlap, no threshold can part them.

# %%
y = test["Pleural Effusion"].to_numpy()
split = {"with effusion": probability[y == 1], "without": probability[y == 0]}
rw.show.hist(
    split,
    density=True,
    x_title="probability of pleural effusion",
    title="Two sentences, no label",
)

# %% [markdown]
# Two means are a first look. They hide how far the histograms overlap, which is what the AUROC below measures.

# %%
mean_with = split["with effusion"].mean()
mean_without = split["without"].mean()
Markdown(
    f"We see a mean probability of {mean_with:.2f} with an "
    f"effusion, {mean_without:.2f} without."
)

# %% [markdown]
# The package does the same for any number of findings and phrases. We check that it gives our numbers, and from here
# on we call it.

# %%
pair = rw.probe.Prompts(
    positive={"Pleural Effusion": ["there is a pleural effusion"]},
    negative={"Pleural Effusion": ["there is no pleural effusion"]},
)
effusion = ["Pleural Effusion"]
single = rw.probe.zero_shot(model, test, effusion, prompts=pair, embeddings=Z)
rw.check.matches(probability, single.values["Pleural Effusion"], tol=1e-4)

# %% [markdown]
# ### Exercise 1: the ensemble
# One wording is a lottery ticket, so we average many: the mean of the phrases' unit vectors, made unit again. Write
# it. `model.encode_text(phrases)` gives one row a phrase.


# %%
def ensemble(phrases):
    """(E,) the unit vector of several phrases."""
    raise NotImplementedError


# %% [markdown]
# *Hints.* The mean of unit vectors is shorter than one, unless they are all the same. If the check passes with one
# phrase and fails with three, what have you left out after the mean? `detach().numpy()` makes an array of what the
# model returns.


# %% tags=["solution"] jupyter={"source_hidden": true}
def ensemble_solution(phrases):
    vectors_of_phrases = model.encode_text(phrases).detach().numpy()  # (K, E)
    mean = vectors_of_phrases.mean(axis=0)
    return mean / np.linalg.norm(mean)


# %% [markdown]
# The check asks for two ensembles, one of a single phrase and one of three, and compares them with the package's.


# %%
def by_package(phrases):
    return rw.probe.class_embedding(model, phrases)


one = ["no pneumothorax"]
three = ["no effusion", "there is no pleural effusion", "without pleural effusion"]
for attempt in (ensemble, ensemble_solution):
    rw.check.matches(attempt, by_package, cases=[(one,), (three,)])

# %% [markdown]
# ## How good is a score? AUROC by hand
# AUROC is the chance that an image with the finding scores above one without. One could compare all pairs. It is
# quicker to rank all scores: the rank sum of the positives, less the least it could be, counts the pairs that are
# won. Scores that are equal share their mean rank, so a tie counts as half a win.

# %%
from scipy.stats import rankdata


def auroc_by_hand(y, s):
    ranks = rankdata(s)  # ties share their mean rank
    positives = (y == 1).sum()
    least = positives * (positives + 1) / 2
    won = ranks[y == 1].sum() - least
    return won / (positives * (len(y) - positives))


# %% [markdown]
# We hold it against the package on two sets of scores: ours, and ours rounded to one digit, which has many ties.

# %%
cases = [(y, probability), (y, probability.round(1))]
rw.check.matches(auroc_by_hand, rw.stats.auroc, cases=cases)
Markdown(
    "We see that an image with effusion outranks one without in "
    f"{auroc_by_hand(y, probability):.1%} of pairs."
)

# %% [markdown]
# ## Why patients, not images?
# An interval says how far the AUROC would move with other patients: draw them again, with replacement, and look. This
# is the bootstrap (Efron 1979). Many programs draw images. But two films of one chest are not two observations.
#
# The test of a method is a case where the answer is known. What if each file lay in the folder twice? Nothing new has
# been learnt, so the interval should stay as wide as it is.

# %%
scores = rw.probe.zero_shot(model, test, findings, embeddings=Z)


def interval_width(unit, copies):
    """Width of the 95 % interval for lung lesions, drawn over `unit`s."""
    truth = np.repeat(test["Lung Lesion"], copies)
    s = np.repeat(scores.values["Lung Lesion"], copies)
    drawn = np.arange(len(truth))  # each file is a unit of its own
    if unit is not None:
        drawn = np.repeat(unit, copies)
    resamples = rw.stats.bootstrap(truth, s, drawn, n_boot=n_boot)
    low, high = np.quantile(resamples, [0.025, 0.975])
    return high - low


# %% [markdown]
# The function takes the unit that is drawn: the patient's number for each film, or nothing, which makes each film a
# unit of its own. Now all four cases: the folder as it is and copied, drawn over patients and over images.

# %%
rows = []
for name, copies in [("as it is", 1), ("each file twice", 2)]:
    for drawn, unit in [("patients", test["patient_id"]), ("images", None)]:
        width = interval_width(unit, copies)
        rows.append({"table": name, "drawn": drawn, "width": width})
widths = pd.DataFrame(rows)

# %% [markdown]
# If the two pairs of bars are equal in height, the method has noticed that the copies brought nothing new.

# %%
rw.show.bars(
    widths,
    x="table",
    y="width",
    group="drawn",
    y_title="width of the 95 % interval, lung lesion",
    title="The interval, drawn over patients and over images",
)

# %% [markdown]
# An interval that shrinks when files are copied promises more than the data hold. With real archives the copies are
# less blunt: a second view, a film of the day after.

# %%
width = widths.set_index(["table", "drawn"])["width"]
once = width["as it is", "images"]
twice = width["each file twice", "images"]
patients_twice = width["each file twice", "patients"]
Markdown(
    f"We see the interval over images shrink from {once:.3f} to "
    f"{twice:.3f} by copying files; over patients it stays "
    f"at {patients_twice:.3f}."
)

# %% [markdown]
# The bootstrap shows the idea. The intervals of the tables below come from a formula that covers better with few
# patients (Obuchowski 1997, clustered data), which `rw.stats.clustered_auroc` computes. Below five patients with the
# finding there is none, since an interval over so few would be a guess.

# %% [markdown]
# ### Exercise 2: the bootstrap
# `rw.stats.resample_patients` gives each image its patient's number `row` (N,) and how often each patient was drawn,
# `counts` (patients, resamples). Compute the AUROC of every resample: repeat each image as often as its patient was
# drawn.


# %%
def bootstrap(y, s, row, counts):
    """(resamples,) AUROC of each resample."""
    raise NotImplementedError


# %% [markdown]
# *Hints.* `counts[row]` has a row an image and a column a resample. If all your AUROCs are the same, you have used one
# column for every resample. An image that wasn't drawn is repeated zero times, and so leaves the resample.


# %% tags=["solution"] jupyter={"source_hidden": true}
def bootstrap_solution(y, s, row, counts):
    times = counts[row].astype(int)  # (N, resamples) how often each image is in
    aurocs = []
    for often in times.T:
        aurocs.append(rw.stats.auroc(np.repeat(y, often), np.repeat(s, often)))
    return np.array(aurocs)


# %% [markdown]
# The check draws the same patients for you and for the package, since both use the same seed. So the AUROCs must agree
# one by one, and not only on average.

# %%
patients = test["patient_id"]
row, counts = rw.stats.resample_patients(patients, n_boot=25, seed=1)
package = rw.stats.bootstrap(y, probability, patients, n_boot=25, seed=1)
for attempt in (bootstrap, bootstrap_solution):
    rw.check.matches(attempt, package, y, probability, row, counts)

# %% [markdown]
# ## All findings, beside labels and a control
# What would labels have given? Three probes with labels stand beside the words.
#
# - A probe of the **same vectors** is the fair one: the tower has seen as much, only the question is asked another
#   way.
# - The **twin** has the same tower and learns from labels alone, on the notebook's films from random weights, so with
#   another budget.
# - **16 x 16 pixels** are what no model had to learn.
#
# The twin is trained once and kept in `../runs/supervised-tiny`; the next time it is read from there.

# %%
twin_folder = "../runs/supervised-tiny"
run = rw.pretrain.fit(
    table, recipe="supervised-tiny", out=twin_folder, epochs=twin_epochs
)
twin = rw.probe.classify(run.model, test)

# %% [markdown]
# A *linear probe* is a logistic regression on features that stay as they are. It is fitted on the training films and
# asked on the test films. `C` says how free it is: a small one holds the weights small, so that a probe with many
# features doesn't learn single films by heart. Both probes get the same.

# %%
thumbnails = rw.probe.raw_pixels(table, 16)  # (N, 256)
on_vectors = rw.probe.linear_probe(vectors, table, label=findings, C=0.01)
on_pixels = rw.probe.linear_probe(thumbnails, table, label=findings, C=0.01)

# %% [markdown]
# Before we compare, a word on budgets. The model that is asked in words was pretrained three times: as
# `radwb-tiny-v2`, on from there as the shipped `radwb-tiny`, and again in notebook 2. How many steps is that, beside
# the twin's?

# %%
shipped = rw.models.zoo.SHIPPED / "radwb-tiny"
runs = {
    "the twin": run,
    "radwb-tiny-v2": rw.pretrain.Run(shipped.with_name("radwb-tiny-v2")),
    "radwb-tiny": rw.pretrain.Run(shipped),
    "notebook 2": rw.pretrain.Run("../runs/clip-tiny"),
}
steps = {name: part.log["step"].max() for name, part in runs.items()}
pd.Series(steps, name="steps").to_frame()

# %%
Markdown(
    f"The twin learnt in {steps.pop('the twin'):,} steps from random weights. The "
    f"model that is asked in words had {sum(steps.values()):,} in all, most of them on "
    f"other patients: the two have not had the same budget."
)

# %% [markdown]
# `rw.probe.compare_scores` puts scores of the same films beside one another, and holds the first of them against each
# of the others, paired by patient. The figure has a row a finding and their mean below.


# %%
def comparison_forest(compared, title, **look):
    """A figure of what `compare_scores` found, one colour for each set of scores."""
    by_name = dict(list(compared.groupby("scored", sort=False)))
    return rw.show.forest(by_name, title=title, **look)


def means_of(compared):
    """The row of the mean over findings, for each set of scores."""
    return {name: rows.iloc[-1] for name, rows in compared.groupby("scored")}


# %% [markdown]
# How to read it: a dot is an AUROC, its line the interval by patient. Two dots in a row belong to the same films, so
# their intervals may overlap although one is ahead in nearly every resample. That is why we compare them paired, and
# in words, below.

# %% tags=["headline"]
answers = {
    "asking in words": scores,
    "a probe of the same vectors": on_vectors,
    "the twin": twin,
    "a probe of 16 x 16 pixels": on_pixels,
}
compared = rw.probe.compare_scores(answers)
comparison_forest(compared, "Words and labels, on unseen patients")

# %% [markdown]
# And the control: the same scores, with the labels dealt out to other patients. Whatever AUROC that leaves is chance.
# It is done twenty times, and the brackets give the least and the greatest of them. They should lie around 0.5. If they
# did not, the scores or the labels would know something of each other that isn't the picture, and every number above
# would be in doubt.

# %%
mean = means_of(compared)
shuffled = scores.null(20).iloc[-1]
from_words = rw.stats.format_interval(mean["asking in words"])
by_chance = rw.stats.format_interval(shuffled)
Markdown(
    f"We see a mean AUROC of {from_words} from words. Paired, on the "
    f"same films: {rw.probe.comparison_sentences(compared)}. With labels dealt out to "
    f"other patients: {by_chance}."
)

# %% [markdown]
# ## Does it know *which* finding?
# Ill patients have several findings at once. A score that only says *something is wrong here* then does well on each
# of them, and its AUROC looks like knowledge. There are two ways to see it.
#
# - Ask only among films that have some finding. Now *something is wrong* is true of all of them, and helps no more.
# - Count the *other* findings of a film, blind to the one that is asked for, and use that number as a score. It never
#   looks for the finding, so it sets the bar.

# %%
among_abnormal = rw.probe.among_abnormal(scores)
blind_count = rw.probe.finding_count_control(scores)
rows = {
    "all films": rw.probe.auroc_table(scores),
    "abnormal films": rw.probe.auroc_table(among_abnormal),
    "blind count": rw.probe.auroc_table(blind_count),
}
rw.show.forest(rows, title="Against all films, and against abnormal ones")

# %% [markdown]
# The distance from the first to the second row of each finding is what *something is wrong here* was worth. The third
# row is what one gets for free, without ever looking for the finding, in a hospital where illness comes in company.

# %%
abnormal = rw.probe.specificity(scores, name="asking in words").iloc[-1]
among = rw.stats.format_interval(abnormal, "abnormal")
Markdown(
    f"We see a mean of {abnormal['auroc']:.2f} against all films and of "
    f"{among} among abnormal ones. The count "
    f"that never looks for the finding has {abnormal['blind']:.2f}: "
    f"{abnormal['sentence']}."
)

# %% [markdown]
# The other way round: hold each prompt against *every* label. A model that knows what it's asked has the best value
# of each column on the diagonal. A column in which another row is darker means that the films with this finding were
# better found by asking for something else.

# %%
matrix = rw.probe.prompt_label_matrix(scores)
rw.show.heatmap(
    matrix,
    label="AUROC",
    limits=(0, 1),
    x_title="label",
    y_title="prompt",
    title="Each prompt against each label",
)

# %% [markdown]
# Is such a difference more than chance? For each label the best of the other prompts is held against its own, paired
# by patient. The best of many is picked after looking, and a pick like that flatters itself. So the intervals are
# widened for all the prompts that it was chosen from.

# %%
others = rw.probe.best_other_prompt(scores)
higher = others[others["others"] > others["own"]]
clear = higher[higher["verdict"] == "behind"]
Markdown(
    f"We see that for {len(higher)} of {len(others)} labels another finding's prompt "
    f"has the higher AUROC, for {len(clear)} of them clear of chance:\n- "
    + "\n- ".join(higher["sentence"])
)

# %% [markdown]
# ## Does it find the report that belongs to the film?
# Now the model searches. We take all different impressions of the test films and rank them for each film by their
# cosine: is the film's own among the first five? This is *recall at 5*. Chance is five of them all.
#
# But many films are normal and share their words. So a fairer control answers each film with the five commonest
# *training* impressions, and never looks.

# %%
impressions = table["report"].map(rw.pretrain.caption_of)
distinct, right_one = np.unique(impressions[is_test], return_inverse=True)
T = rw.probe.text_embeddings(model, list(distinct))  # (U, E)
similarity = Z @ T.T  # (N, U)
ranked = np.argsort(-similarity, axis=1)  # the nearest first
first_five = ranked[:, :5]  # (N, 5)
retrieved = (first_five == right_one[:, None]).any(axis=1)

# %% [markdown]
# Some impressions stand under many films. `np.unique` gave us each different one once, and for each film the number
# of its own. So a film that is normal counts as found when *its words* are among the first five, whoever's report
# they came from.

# %%
training = impressions[table["split"] == "train"]
commonest = training.value_counts().index[:5]
guessed = impressions[is_test].isin(commonest).to_numpy()
package = rw.probe.recall_of_commonest(training, impressions[is_test], k=5)
rw.check.matches(guessed.mean(), package)

# %% [markdown]
# Now the two are compared on the same films, by patient. A model that is far above chance and no better than the five
# commonest has learnt which words are frequent, and nothing of the single film.

# %%
names = ("the model", "always the five commonest")
retrieval = rw.stats.compare(
    retrieved, guessed, test["patient_id"], names=names, what="recall at 5"
)
Markdown(
    f"We see the own impression among the first five for {retrieved.mean():.2f} of the "
    f"films; chance has {5 / len(distinct):.2f}, the five commonest have "
    f"{guessed.mean():.2f}: {retrieval}."
)

# %% [markdown]
# The other direction is what an archive is asked for: here is a sentence, show me the films. `rw.probe.retrieve`
# ranks all films of a table by their cosine with it. We look at the first four, with the truth that the simulator
# planted, and judge them as a reader would.

# %%
query = "large right pleural effusion"
nearest = rw.probe.retrieve(model, test, query, k=4, embeddings=Z)
nearest[["Pleural Effusion", "Pleural Effusion side", "score"]]

# %% [markdown]
# The side is the patient's, so fluid on the right lies at the left of the picture. Look for the outline: where there is
# none, there is no effusion that one could see.

# %%
films = [rw.data.scan_of(film) for _, film in nearest.iterrows()]
rw.show.grid(films, truth="Pleural Effusion", title=f"Nearest to: {query}")

# %% [markdown]
# The sentence asked for three things at once, a size, a side and a finding. We count two of them, the finding and the
# side. Four films are an example and no measurement: another sentence may do better or worse.

# %%
right = (nearest["Pleural Effusion side"] == "right").sum()
with_effusion = (nearest["Pleural Effusion"] == 1).sum()
Markdown(
    f"We see {with_effusion} films of {len(nearest)} with an "
    f"effusion, {right} of them on the right alone."
)

# %% [markdown]
# ## How much hangs on the wording?
# The same question in five wordings, one pair at a time. Nobody can say in advance which of them is the right one,
# and a model is often reported with the wording that did best. So we look at all five.

# %%
wordings = {
    "{}": "no {}",
    "there is a {}": "there is no {}",
    "{} is present": "{} is absent",
    "findings of {}": "no evidence of {}",
    "the patient has a {}": "the patient has no {}",
}

# %% [markdown]
# The braces stand for the name of the finding. `normal=[]` leaves out the sentences of a normal chest that
# `zero_shot` would add to the denials, so that the wording is all that differs.

# %%
by_wording = pd.DataFrame(index=findings)
for yes, no in wordings.items():
    one = rw.probe.Prompts.of(findings, positive=[yes], negative=[no], normal=[])
    answers = rw.probe.zero_shot(model, test, findings, prompts=one, embeddings=Z)
    by_wording[yes.format("X")] = answers.auroc().set_index("finding")["auroc"]
rw.show.heatmap(
    by_wording, label="AUROC", limits=(0, 1), title="One model, five wordings"
)

# %% [markdown]
# Read the figure by rows. A row of one colour means that the wording doesn't matter for this finding. A row of many
# colours means that a published AUROC would tell as much about the author's luck as about the model.

# %%
spread = by_wording.max(axis=1) - by_wording.min(axis=1)
Markdown(
    f"We see that the wording alone moves the AUROC by {spread.max():.2f} for "
    f"{spread.idxmax()}, and by {spread.mean():.2f} on average."
)

# %% [markdown]
# ## What if any way of saying it may count?
# A report doesn't say *consolidation* and stop. It gives a size, a side, a lobe, and each combination lies somewhere
# else in the space: their mean lies nowhere. So we write out all the ways, give each its likelihood at the model's
# own temperature, and take the mean of those. One that fits is enough, and no denial stands against it.

# %%
spoken = rw.probe.Prompts.spoken(findings)
ways = list(spoken.positive["Consolidation"])
rng = np.random.default_rng(0)
chosen = rng.choice(len(ways), 4, replace=False)
some_ways = [f"*{ways[i]}*" for i in chosen]
Markdown(f"{len(ways)} ways for consolidation, such as {', '.join(some_ways)}")

# %% [markdown]
# These sentences are made from the vocabulary in which reports are written: `rw.findings` holds it, a row a finding.
# By hand it takes three lines, and the package agrees.

# %%
W = model.encode_text(ways).detach().numpy()  # (K, E)
likelihood = np.exp(model.logit_scale * Z @ W.T)  # (N, K)
by_hand = np.log(likelihood.mean(axis=1))  # (N,)
any_way = rw.probe.zero_shot(model, test, findings, pool="any", embeddings=Z)
rw.check.matches(by_hand, any_way.values["Consolidation"].to_numpy())

# %% [markdown]
# There is a third form, *both ways*, which adds half of the pair's log odds to the log of the likelihood. We need it
# further down, on real films. All forms are asked of the same vectors, so a difference between them comes from the
# question alone. The twin stands beside them as what labels would have given.

# %%
both = rw.probe.zero_shot(model, test, findings, pool="both", embeddings=Z)
forms = {"any way": any_way, "a pair": scores, "both ways": both, "the twin": twin}
compared = rw.probe.compare_scores(forms)
comparison_forest(compared, "How to ask: few phrases, any of many, or both")

# %% [markdown]
# Is the gain, if there is one, there for every finding? The rows tell. And note what this form has lost: a likelihood
# isn't held against its denial, so it ranks films, and says nothing of how probable the finding is.

# %%
any_mean = means_of(compared)["any way"]
any_interval = rw.stats.format_interval(any_mean)
Markdown(
    f"We see {any_interval} for any way: "
    f"{rw.probe.comparison_sentences(compared)}. The phrases were chosen on validation "
    "patients. The price: a rank, and no probability."
)

# %% [markdown]
# ## Does it read the word *no*?
# If it does, *no pneumothorax* alone ranks healthy images first, an AUROC **below** 0.5. If it only hears the noun,
# or has learnt in what company the *no* is written, it does not. We ask each finding three ways: with the noun, with
# its denial, and with the difference of the two.

# %%
bare = rw.probe.Prompts.of(findings, positive=["{}"], negative=["no {}"], normal=[])
rows = []
for finding in findings:
    positive, negative = bare.pair(finding)
    yes = rw.probe.class_embedding(model, positive)
    no = rw.probe.class_embedding(model, negative)
    directions = {"X": yes, "no X": no, "X less no X": yes - no}
    for prompt, direction in directions.items():
        auroc = rw.stats.auroc(test[finding], Z @ direction)
        rows.append({"finding": finding, "prompt": prompt, "auroc": auroc})
by_prompt = pd.DataFrame(rows)

# %% [markdown]
# In the figure, the first bar of each finding should lie above the line at 0.5 and the second below it. A second bar
# above the line is a model that hears the noun and not the *no*.

# %%
rw.show.bars(
    by_prompt,
    x="finding",
    y="auroc",
    group="prompt",
    line=0.5,
    y_title="AUROC",
    title="The word no",
)

# %% [markdown]
# Why might a denial rank ill films first? Look at who gets one. A radiologist writes *no pneumothorax* where there
# was reason to look for it. So we count, among the films whose impression denies it, how many have something else.

# %%
above_half = by_prompt["auroc"] > 0.5
ill_first = above_half.groupby(by_prompt["prompt"]).sum()
ill = table[findings].any(axis=1)
denied = table["report"].str.contains("IMPRESSION:.*No pneumothorax")

# %% [markdown]
# This is no fault of the tower alone. It learnt from reports in which the company of a denial was ill. The same holds
# for real reports, whose writers deny what they were asked about.

# %%
ill_when_denied = ill[denied].mean()
Markdown(
    f"We see that of {len(findings)} findings, *X* alone ranks images with X first for "
    f"{ill_first['X']}, *no X* alone for {ill_first['no X']}, their difference for "
    f"{ill_first['X less no X']}. One reason: of the films whose impression says *No "
    f"pneumothorax*, {ill_when_denied:.0%} have something else; of all films, "
    f"{ill.mean():.0%}."
)

# %% [markdown]
# ## How many labels does the tower save?
# This is what a foundation model promises: with its features, few labels go far. We fit a logistic regression on the
# frozen image vectors with few or many labelled patients. Beside it stand the same tower with random weights, three
# times, and the 16 x 16 pixels. If the pretrained features are worth their training, their curve lies above the
# others, and most of all at the left.

# %%
train = table[table["split"] == "train"].head(600)
lot = pd.concat([train, test])
features = rw.probe.representations(
    model, lot, sizes=(16,), embeddings=vectors[lot.index]
)
list(features)

# %% [markdown]
# A budget is a number of *patients*: whole patients are drawn, never single films. With few of them it matters which,
# so we draw several times and show the mean.

# %%
budgets = {"label": "Pneumothorax", "fractions": (0.05, 0.2, 1.0), "draws": draws}
curves = []
for tower, of_seeds in features.items():
    for seed, features_of_seed in enumerate(of_seeds):
        name = tower
        if len(of_seeds) > 1:
            name = f"{tower}, seed {seed}"
        rows = rw.probe.label_efficiency(features_of_seed, lot, **budgets)
        curves.append(rows.assign(tower=name))
curve = pd.concat(curves)
curve["budget"] = curve["patients"].map("{:.0f} patients".format)

# %% [markdown]
# Look at the left end first. There the labels are few, and the features must carry the answer.

# %%
rw.show.bars(
    curve,
    x="budget",
    y="auroc",
    group="tower",
    y_title="AUROC, pneumothorax",
    line=0.5,
    title="What labels buy on which features",
)

# %% [markdown]
# And at the right end, with all labels, are the features still worth their training? We compare there, paired by
# patient, with the control towers and with the pixels.

# %%
probes = rw.probe.baselines(features, lot, label="Pneumothorax", C=1.0)
smallest = curve.iloc[0]
Markdown(
    f"We see {rw.stats.format_interval(smallest)} from {smallest.budget} on the "
    "pretrained tower. With all labels: "
    f"{rw.probe.comparison_sentences(rw.probe.compare_scores(probes))}."
)

# %% [markdown]
# ## And real radiographs?
# Sixteen films of children, eight with bacterial pneumonia: another age, another disease, and no simulator. A larger
# real set joins in where `RADWB_MIRROR` holds it (NIH ChestX-ray14 at 64 px, with the findings the model was trained
# for). A set that isn't there is named, and left out.

# %%
real, absent = {}, []
for name, labels in {"kermany-16": ["Pneumonia"], "nih-64": findings}.items():
    try:
        films = rw.data.real(name)
    except rw.data.FetchError:
        absent.append(f"{name} is neither in the cache nor in a mirror.")
        continue
    real[name] = films, [label for label in labels if label in films]

# %% [markdown]
# Sets are counted in patients, since several films of one patient are no more than one patient.

# %%
sets = []
for name, (films, _) in real.items():
    n_patients = films["patient_id"].nunique()
    sets.append(f"{name}: {n_patients} patients.")
Markdown(" ".join(sets + absent))

# %% [markdown]
# We ask in three ways, and beside them stands a number that anyone can compute, the mean brightness of the film. A
# model that can't beat it has not read the film.

# %%
pools = {"a pair": "pair", "both ways": "both", "any way": "any"}


def answers_in_words(films, labels, Z):
    """Scores of one set, asked in each way, and the films' brightness."""
    scored = {}
    for way, pool in pools.items():
        scored[way] = rw.probe.zero_shot(model, films, labels, pool=pool, embeddings=Z)
    scored["brightness"] = rw.probe.brightness(films, labels)
    return scored


# %% [markdown]
# For each set we embed the films once, and ask all questions of the same vectors.

# %%
in_words, real_vectors = {}, {}
for name, (films, labels) in real.items():
    real_vectors[name] = rw.models.embed(model, films)
    scored = answers_in_words(films, labels, real_vectors[name])
    in_words[name] = rw.probe.compare_scores(scored)

# %% [markdown]
# One figure a set. An interval is missing where fewer than five patients have the finding: the dot stands alone then,
# and no conclusion can rest on it.

# %%
lines = []
for name, compared in in_words.items():
    display(comparison_forest(compared, f"{name}, asked in words", caption=""))
    lines.append(f"- {name}: {rw.probe.comparison_sentences(compared)}")
Markdown("We see, held against one another:\n" + "\n".join(lines))

# %% [markdown]
# How many of these questions are answered better than by a guess? We count the ones whose whole interval lies above
# 0.5, and say how many have no interval at all.

# %%
questions = pd.concat(rows.assign(set=name) for name, rows in in_words.items())
is_mean = questions["finding"].str.startswith("mean")
pairs = questions[(questions["scored"] == "a pair") & ~is_mean]
answered = pairs[pairs["low"] > 0.5]
which = ", ".join(answered["finding"] + " in " + answered["set"]) or "none"

# %% [markdown]
# Mind what such a count hides. With many questions a few look answered by chance, and the whole interval above 0.5 is
# a low bar, since a thumbnail of the film may clear it as well.

# %%
without_interval = pairs["low"].isna().sum()
Markdown(
    f"Questions in pairs: {len(pairs)}. Answered better than by a guess, the whole "
    f"interval above 0.5: {len(answered)} ({which}). Without an interval, since "
    f"too few patients have the finding: {without_interval}."
)

# %% [markdown]
# What is best on virtual patients needn't be on films of another kind: such a film may lie nearer to *all* sentences,
# or farther from them, and only a difference of sentences takes that out. So: `pool="any"` on films like those of the
# training alone, a pair on films from anywhere else. *Both ways* was our try to have it all: judge it above.
#
# And do the vectors hold what words don't reach? A probe of them, with labels, stands beside the untrained tower and
# the pixels. These sets have no training part, so each patient is judged by a probe that was fitted on others.

# %%
in_probes, too_few = {}, {}
for name, (films, labels) in real.items():
    enough, too_few[name] = rw.probe.enough_patients(films, labels, least=5)
    features = rw.probe.representations(model, films, embeddings=real_vectors[name])
    probes = rw.probe.baselines(features, films, label=enough, C=0.01)
    in_probes[name] = rw.probe.compare_scores(probes)

# %% [markdown]
# One figure a set again. The question is not how high the model's dot is, but how far it lies from those of the
# thumbnail and of the tower that has learnt nothing. Where they lie together, whatever the probe reads in these films
# needed no pretraining.

# %%
for name, compared in in_probes.items():
    display(comparison_forest(compared, f"{name}, linear probes", caption=""))

# %% [markdown]
# In words, a line a set. *Can't tell* means that the interval of the difference includes zero. With so few patients
# that is what one must expect, unless a difference is very large, and it is no proof that the two are equal.

# %%
lines = []
for name, compared in in_probes.items():
    best = means_of(compared)["the model"]
    auroc = f"{best['finding'].lower()} {rw.stats.format_interval(best)}"
    rare = ", ".join(too_few[name]) or "none"
    sentence = rw.probe.comparison_sentences(compared)
    lines.append(
        f"- {name}: {auroc} from the model's vectors; too few patients for a probe: "
        f"{rare}; {sentence}"
    )
Markdown("We see\n" + "\n".join(lines))

# %% [markdown]
# ## How far does a simulator carry?
# Can the gap be closed without a single real label? We turned one lever at a time and trained the shipped model on
# for a while, with as many virtual films and passes each (`benchmarks/levers.py --continued`). Where real films stand
# beside them, they come on top: half as many again at each step, so those two or three rows had more. All this takes
# two cores an hour, so the notebook reads what came out.
#
# - In the simulator: **looks** (films as other machines make them), **builds** (children, the obese, the crooked),
#   **wording** (reports with more of what radiologists write).
# - In the training: **strong augmentation**, **equalised** greys, **grounded** (a finding's phrase is found where the
#   simulator's mask lies).
# - **Real films** without labels beside the virtual ones, a few hundred or 1,500 children's more.
# - Several at once: **no real film** has all but those and equalised greys, **together** has the real films, too.
#
# Which one would you bet on? The patients asked here are the ones that we allow ourselves to choose by. Another half
# of each set is kept for the end, and nobody has looked at it.

# %%
levers = pd.read_csv(shipped / "levers.csv")
asked = {
    "kermany_words": "children, words",
    "kermany_probe": "children, probe",
    "nih_words_of_5": "NIH, words",
    "nih_probe": "NIH, probe",
    "auprc": "map, AUPRC",
    "virtual, any": "virtual, words",
}
levers["asked"] = levers["number"].map(asked)
levers = levers[levers["asked"].notna() & (levers["lever"] != "base")]

# %% [markdown]
# A training is one throw of the dice, so its seed is a replicate. How many seeds has each lever? Where it is one, the
# lever's row is an anecdote.

# %%
per_lever = levers.groupby("lever", sort=False)["seed"].nunique()
said = levers["lever"].map(lambda name: f"{name} ({per_lever[name]})")
levers["lever and seeds"] = said

# %% [markdown]
# A cell is the change against the base, which was trained on as long without any lever, with the same seed; the mean
# of the seeds, whose number stands behind the lever. Words and probes are AUROCs. The map is one of opacities that
# were drawn on adults' films.

# %%
changes = levers.pivot_table(
    index="lever and seeds", columns="asked", values="change", sort=False
)
changes = changes[list(asked.values())]
widest = changes.abs().to_numpy().max()
rw.show.heatmap(
    changes,
    limits=(-widest, widest),
    label="change against the base",
    title="One lever at a time, and several at once",
)

# %% [markdown]
# Three seeds are few. So we name a lever only where it has three and all agree on the sign. Three coins fall alike in
# a quarter of all throws, so some cells agree by luck: mind that before you believe a single one. And the cells aren't
# independent. All stand on the same patients, and all changes of a seed on the same base: a base that was lucky makes
# every lever look bad. The seeds speak for the training alone; other patients might tell another story, and an
# interval over so few of NIH's would be wider than any of these changes.

# %%
thrice = levers[levers["lever"].map(per_lever) == per_lever.max()]
signs = thrice.assign(up=thrice["change"] > 0, down=thrice["change"] < 0)
agreed = signs.groupby(["asked", "lever"], sort=False)[["up", "down"]].all()
lines = []
for name, cells in agreed.groupby(level="asked", sort=False):
    helped = [lever for _, lever in cells.index[cells["up"]]]
    harmed = [lever for _, lever in cells.index[cells["down"]]]
    up, down = ", ".join(helped) or "none", ", ".join(harmed) or "none"
    lines.append(f"- {name}: up with {up}; down with {down}.")

# %%
by_luck = 2 * 0.5 ** per_lever.max()
share = agreed.any(axis=1).mean()
luck = (
    f"All seeds agree in {share:.0%} of the cells; independent coins would in "
    f"{by_luck:.0%}, and these aren't independent."
)
Markdown("We see, in all seeds\n" + "\n".join(lines) + f"\n\n{luck}")

# %% [markdown]
# Read the columns against each other. Does what helps on children's films help on adults' at 64 pixels? And what does
# each lever cost on films like those of the training?
#
# ## What came of it
# So the weights before, `radwb-tiny-v2`, were trained on with what *no real film* has, longer, and with half of the
# films plain, so that virtual patients wouldn't pay. That is the `radwb-tiny` of all these notebooks. Only then was
# the other half of the patients asked, once (`benchmarks/card.py`). Which changes do you expect to see again?

# %%
kept_half = pd.read_csv(shipped / "real_films.csv")
kept_half = kept_half[kept_half["seed"] == 0]
opacity = "Lung Opacity"
rows = {
    "NIH, words": ("nih-64", "words, pair", "mean of the simulator's"),
    "children, words": ("kermany", "words, pair", "Pneumonia"),
    "COVID, words": ("covid-text", "words, pair", opacity),
    "NIH, probe": ("nih-64", "probe", "mean of the simulator's"),
    "children, probe": ("kermany", "probe", "Pneumonia"),
    "map, AUPRC": ("covid-masks", "maps, auprc", opacity),
}

# %% [markdown]
# Each stands beside the weights before and a rival that needs no pretraining: brightness for words, 16 x 16 pixels for
# a probe, the drawn lungs for a map.

# %%
key = ["set", "measure", "finding"]
kept_half = kept_half.set_index(key)
dots = {"now": ["model", "relevance"], "before": ["before"]}
dots["rival"] = ["brightness", "pixels 16", "lungs"]
shown = {}
for name, whom in dots.items():
    of_whom = kept_half[kept_half["who"].isin(whom)]
    found = of_whom.loc[list(rows.values())].reset_index()
    found = found.drop_duplicates(key).assign(finding=list(rows))
    shown[name] = found.rename(columns={"value": "auroc"})

# %%
rw.show.forest(
    shown,
    x_title="AUROC, of the map AUPRC, with 95 % interval",
    title="Patients that nothing was chosen on",
    caption="dashed: the AUROC of a guess; it says nothing of a map's AUPRC",
)

# %% [markdown]
# And in words, paired by patient. Mind how few they are: a difference must be large to be told from none.


# %%
def in_words(gain, other="before"):
    """What may be said of one row of differences."""
    return Comparison(
        names=("now", other),
        what="value",
        difference=gain["value"],
        low=gain["low"],
        high=gain["high"],
        p=float("nan"),  # the file has none
        n=int(gain["patients"]),
    )


# %%
gains = kept_half[kept_half["who"] == "model minus before"]
lines = [f"- {name}: {in_words(gains.loc[row])}." for name, row in rows.items()]
Markdown("We see\n" + "\n".join(lines))

# %% [markdown]
# A gain that was seen above and isn't seen here was partly luck, which whoever chooses finds first. That is what a
# half is kept for.
#
# ### Was it the levers, or only more steps?
# The model before had less training. So its gain might come from the 1,440 steps alone, whatever they were spent on. The
# control: the weights before, trained on for **as many steps** on plain virtual films, without any lever
# (`python benchmarks/radwb_tiny.py control 0`), asked on the same half of the patients.

# %%
control = pd.read_csv(shipped / "control.csv").set_index(key)
gains = control[control["who"] == "model minus before"]
lines = []
for name, row in rows.items():
    compared = in_words(gains.loc[row], "as many plain steps")
    lines.append(f"- {name}: {compared}.")
Markdown("We see\n" + "\n".join(lines))

# %% [markdown]
# One seed each, so the intervals tell how sure it is of these patients, not of another training.

# %% [markdown]
# The numbers below go to the front page of the gallery.

# %%
rw.book.headline(
    zero_shot_mean_auroc=mean["asking in words"].auroc,
    asked_any_way=any_mean.auroc,
    supervised=mean["the twin"].auroc,
    sixteen_pixels=mean["a probe of 16 x 16 pixels"].auroc,
    among_abnormal=abnormal["abnormal"],
)

# %% [markdown]
# And the three sentences to take along. Each is made from numbers that were computed above.

# %%
in_words_mean = rw.stats.format_interval(mean["asking in words"])
same_vectors = mean["a probe of the same vectors"]["sentence"]
lines = [
    f"- **Words on virtual patients**: AUROC {in_words_mean}, "
    f"{abnormal['abnormal']:.2f} among abnormal films; {same_vectors}.",
    f"- **Wording is part of the model**: up to {spread.max():.2f} AUROC lie between "
    f"two ways to ask; any way a report says it has {any_interval}.",
    f"- **On real films**: of {len(pairs)} questions in pairs, those answered better "
    f"than by a guess: {len(answered)}.",
]
Markdown("## What we found\n" + "\n".join(lines))

# %% [markdown]
# ## Where it breaks
# - The virtual patients share one CT's anatomy; an AUROC here says little of a hospital.
# - Sixteen images make an interval, not a verdict.
# - These patients (seed 0) serve all notebooks. The model's card reports from a seed on which nothing was chosen.
# - The labels are what was planted. In real data they are mined from reports, and errors there move every number.
# - An AUROC needs no threshold; a decision does, and a threshold moves with prevalence and site.
#
# Next: notebook 4 looks at where in the image the answer comes from.
