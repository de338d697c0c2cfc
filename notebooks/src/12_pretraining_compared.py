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
# Notebook 2 trains one tower with one exercise. What would another exercise have taught the same tower, from the same
# radiographs, in the same number of looks at them?
#
# **You will** pretrain a tower in eight ways at an equal budget and ask each three questions, one of them about something
# that no report mentions; keep a finding out of every report; punish right answers on purpose; fit a scaling law with its
# interval; and train two language models on real reports.
#
# **Needs**: notebook 2; 45 minutes on two CPU cores, 3 when the runs are there already. **Data**: the simulator on a real CT
# (LIDC-IDRI, CC BY 3.0); 3,955 real reports (Open-i, Demner-Fushman et al. 2016, doi 10.1093/jamia/ocv080).
#
# *For teaching and research. Not for clinical use.*

# %%
from itertools import product

import numpy as np
import pandas as pd
import torch
from IPython.display import Markdown, display

import radwb as rw

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

# %%
table = rw.simulate.cohort(n=n, seed=0)
table = table.assign(
    man=(table["sex"] == "M").astype(int), older=(table["age_years"] > 55).astype(int)
)
train, test = (table[table["split"] == s] for s in ("train", "test"))
findings = list(rw.simulate.PLANTED)
said = (
    train["report"]
    .str.contains(r"\b(?:male|female|man|woman|years?|old|elderly|young)\b", case=False)
    .mean()
)
Markdown(f"""{len(train):,} radiographs to learn from, {len(test)} of {test.patient_id.nunique()} other patients to ask. The
films show sex and age (the outline, the size of the skeleton, its density); the share of reports that mention either is
{said:.0%}.""")

# %% [markdown]
# ## What is an equal budget?
# Not epochs: SimCLR and DINO look at two views of each image, so they get half as many. Not seconds either, since those
# belong to a machine. We count **images through the tower**. The tower, its first weights, the order, the schedule and the
# learning rate are the same for all; nothing was tuned for anyone.

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
TEXT, IMAGE = (
    ["CLIP", "SigLIP", "CLIP + local", "CLIP by sentence"],
    ["MAE", "SimCLR", "DINO"],
)


def pretrain(recipe, name, data=table, passes=passes, **settings):
    views = rw.pretrain.RECIPES[recipe].views
    return rw.pretrain.fit(
        data,
        recipe=recipe,
        out=f"../runs/compared/{name}",
        epochs=max(1, passes // views),
        **{"batch": batch, **settings},
    )


# %%
runs = {
    name: pretrain(EXERCISES[name], EXERCISES[name])
    for name in ("supervised", *TEXT[:2])
}

# %%
runs |= {name: pretrain(EXERCISES[name], EXERCISES[name]) for name in TEXT[2:]}

# %%
runs |= {name: pretrain(EXERCISES[name], EXERCISES[name]) for name in IMAGE}
untrained = rw.models.supervised_tiny(
    []
)  # the same tower with the weights that all began with
Z = {name: rw.models.embed(run.model, table) for name, run in runs.items()}
Z["untrained"] = rw.models.embed(untrained, table)
cost = pd.DataFrame(
    {
        "images through the tower": [passes * len(train)] * len(runs),
        "steps": [len(run.log) for run in runs.values()],
        "seconds": [run.config["seconds"] for run in runs.values()],
    },
    index=list(runs),
)
display(cost.style.format("{:,.0f}"))

# %% [markdown]
# ## Three questions to a frozen tower
# A linear probe on what the tower says of each image: which of ten **findings** are there (reports speak of them), is it a
# **man** (reports never do), is the patient **older** than 55 (never)? The probe is fitted on the training patients and asked
# about others.

# %%
QUESTIONS = {
    "ten findings": findings,
    "man or woman": ["man"],
    "older than 55": ["older"],
}
probes = {
    (q, name): rw.probe.linear_probe(z, table, label=labels, C=0.1)
    for q, labels in QUESTIONS.items()
    for name, z in Z.items()
}
answers = {
    q: pd.concat([probes[q, name].mean_auroc().assign(finding=name) for name in Z])
    for q in QUESTIONS
}

# %% tags=["headline"]
display(
    rw.show.forest(
        answers,
        title="Eight exercises, one tower, one budget: what does a linear probe find?",
        caption=f"{len(test)} test images of {test.patient_id.nunique()} patients; 95 % intervals over patients; "
        "one training each; dashed: a guess",
    )
)
of = {q: a.set_index("finding") for q, a in answers.items()}
lines = [
    f"- *{q}*: best {a.auroc.idxmax()}, {rw.stats.format_interval(a.loc[a.auroc.idxmax()])}; worst {a.auroc.idxmin()}, "
    f"{rw.stats.format_interval(a.loc[a.auroc.idxmin()])}; untrained {rw.stats.format_interval(a.loc['untrained'])}."
    for q, a in of.items()
]
Markdown("We see:\n\n" + "\n".join(lines))

# %% [markdown]
# Random weights are a control worth having: a random convolution keeps much of an image, and a probe with labels can use it.
#
# ## Does a report's silence cost anything?
# RAD-DINO's authors report that learning from images alone keeps what reports don't mention, while reports teach a model to
# drop it (Pérez-García et al. 2025, [arXiv 2401.10815](https://arxiv.org/abs/2401.10815)). Here we know what no report says.
# The mean of the image-only exercises against that of the image-text ones, for each question: every exercise of one kind
# is paired with every one of the other, on the same test films, and the mean of these differences gets its interval by
# patient. Findings of too few patients are left out.


# %%
def gap(question):
    each = probes[question, "untrained"].auroc()
    asked = each.loc[each["low"].notna(), "finding"]  # findings of enough patients
    truth, images, texts = {}, {}, {}
    for pair in product(IMAGE, TEXT, asked):
        image, text, finding = pair
        truth[pair] = probes[question, image].truth[finding]
        images[pair] = probes[question, image].values[finding]
        texts[pair] = probes[question, text].values[finding]
    names = ("learning from images alone", "learning from reports")
    tables = (pd.DataFrame(columns) for columns in (truth, images, texts))
    return rw.stats.compare_auroc(
        *tables, test["patient_id"], names=names, family=len(QUESTIONS)
    )


# %%
gaps = {question: gap(question) for question in QUESTIONS}
rows = [{"finding": question, **found.row()} for question, found in gaps.items()]
rows = pd.DataFrame(rows)[["finding", "difference", "low", "high", "note"]]
words = dict(
    x_title="AUROC, image-only minus image-text",
    title="What images alone keep, and what reports add",
)
rw.show.forest(
    rows,
    value="difference",
    line=0,
    caption="intervals that hold together in 95 %",
    **words,
)

# %%
silent = [
    gaps[question].verdict for question in QUESTIONS if question != "ten findings"
]
shown = f"shown for {silent.count('ahead')} of {len(silent)}"
lines = "\n".join(f"- *{question}*: {found}" for question, found in gaps.items())
Markdown(
    f"In AUROC we see:\n\n{lines}\n\nThat images alone keep more of what no report mentions is {shown} such questions "
    "here, at this budget and with this tower."
)

# %% [markdown]
# ## What if a finding is in no report?
# The same films, but no report mentions an effusion. Does the model that never heard the word still see the thing? We ask in
# words (zero-shot) and with labels (a probe), and beside it about edema, of which both models heard.

# %%
withheld, control = "Pleural Effusion", "Edema"
quiet = rw.simulate.cohort(n=n, seed=0, dials=rw.simulate.Dials(withhold=(withheld,)))
silence = pretrain("sentences-tiny", "withheld", quiet)
same_films = (
    rw.data.images(quiet.head(20), 64) == rw.data.images(table.head(20), 64)
).all()
mentions = [
    t.loc[t["split"] == "train", "report"].str.contains("effusion", case=False).mean()
    for t in (table, quiet)
]
Markdown(f"""The word *effusion* stands in {mentions[0]:.0%} of the reports before and in {mentions[1]:.0%} after; the films are the
same: {same_films}.""")

# %%
rows = []
for heard, run in (
    ("reports mention it", runs["CLIP by sentence"]),
    ("reports are silent", silence),
):
    z = rw.models.embed(run.model, table)
    for finding in (withheld, control):
        words = rw.probe.zero_shot(run.model, test, [finding]).auroc().iloc[0]
        labels = rw.probe.linear_probe(z, table, label=finding, C=0.1).auroc().iloc[0]
        rows += [
            {**row, "finding": f"{finding}, {how}", "training": heard}
            for how, row in (("words", words), ("labels", labels))
        ]
met = pd.DataFrame(rows)
display(
    rw.show.forest(
        {k: v for k, v in met.groupby("training", sort=False)},
        title="A finding that no report mentioned: asked in words, and with labels",
    )
)

# %%
pick = {
    (r.training, r.finding): rw.stats.format_interval(r._asdict())
    for r in met.itertuples()
}
told, untold = (
    {f: v for (t, f), v in pick.items() if t == k}
    for k in ("reports mention it", "reports are silent")
)
Markdown(f"""We see for effusion in words {told[f"{withheld}, words"]} where reports mention it and
{untold[f"{withheld}, words"]} where they are silent; with labels {told[f"{withheld}, labels"]} and
{untold[f"{withheld}, labels"]}. Edema in words stays: {told[f"{control}, words"]} and {untold[f"{control}, words"]}. How can an
unknown word find anything? Perhaps not the word: among the phrases against it stands the normal chest, from which every ill
film lies far, and an effusion often comes with edema. How much is seen without a name, the labels tell.""")

# %% [markdown]
# ## How many right answers does a large batch punish?
# CLIP takes all other texts of a batch for wrong. The larger the batch, the more of them are the same words as one's own.
#
# ### Exercise 1: count them
# For each image of a batch, is there *another* image with the very same caption? Give the share of such images.


# %%
def repeated(ids):
    """(B,) caption numbers -> share of the B that some other row of the batch repeats."""
    raise NotImplementedError


# %% tags=["solution"] jupyter={"source_hidden": true}
def repeated_solution(ids):
    counts = np.unique(ids, return_counts=True)[1]
    return counts[counts > 1].sum() / len(ids)


# %%
captions = np.unique(
    [rw.pretrain.caption_of(r) for r in train["report"]], return_inverse=True
)[1]
for mine in (repeated, repeated_solution):
    rw.check.matches(
        mine,
        lambda ids: sum((ids == i).sum() > 1 for i in ids) / len(ids),
        cases=[(captions[:40],), (captions,)],
    )
rng = np.random.default_rng(0)
share = {
    b: np.mean(
        [repeated_solution(rng.choice(captions, b, replace=False)) for _ in range(200)]
    )
    for b in batches
}
Markdown(
    "We see " + ", ".join(f"{v:.0%} in a batch of {b}" for b, v in share.items()) + "."
)

# %% [markdown]
# So we train twice: with equal captions being right for each other, as everywhere in this workbench, and with CLIP's plain
# loss, which punishes them. A recipe of one's own is a class with a loss, under a name:


# %%
class Plain(rw.pretrain.RECIPES["clip-tiny"]):
    """CLIP as published: only the diagonal is right."""

    def loss(self, images, texts, ids):
        return super().loss(images, texts, torch.arange(len(ids)))


rw.pretrain.RECIPES["clip-plain"] = Plain
by_batch = {
    (words, b): pretrain(recipe, f"{recipe}-{b}", passes=short, batch=b)
    for words, recipe in (
        ("equal captions right", "clip-tiny"),
        ("only its own right", "clip-plain"),
    )
    for b in batches
}

# %%
asked = {
    key: rw.probe.zero_shot(run.model, test, findings) for key, run in by_batch.items()
}
bars = pd.DataFrame(
    [
        {
            "loss": words,
            "images a step": f"{b} ({share[b]:.0%} repeated)",
            "steps": len(run.log),
            **asked[words, b].mean_auroc().iloc[0],
        }
        for (words, b), run in by_batch.items()
    ]
)
display(
    rw.show.bars(
        bars,
        x="images a step",
        y="auroc",
        group="loss",
        line=0.5,
        y_title="zero-shot AUROC, mean of ten",
        title="The size of a batch, and what becomes of right answers that are punished",
        caption=f"{short} passes each, so a larger batch has fewer steps; 95 % intervals over patients",
    )
)

# %%
names = ("sharing", "punishing")
lines = []
for b in batches:
    shared, punished = (
        asked[words, b] for words in ("equal captions right", "only its own right")
    )
    found = shared.against(punished, names, family=len(batches))
    lines.append(
        f"- {b} images a step, {len(by_batch['only its own right', b].log)} steps: {found}"
    )
lines = "\n".join(lines)
Markdown(
    f"What is sharing equal captions worth? In the mean AUROC we see:\n\n{lines}\n\nAt an equal number of images a "
    "larger batch takes fewer steps, and on a small budget that is what counts."
)

# %% [markdown]
# ## What would ten times the films buy?
# A **scaling law** says that the error falls as a power of the films: a straight line on logarithmic axes (Kaplan et al.
# 2020, [arXiv 2001.08361](https://arxiv.org/abs/2001.08361)). A line can be drawn through anything, so it comes with an interval.
#
# ### Exercise 2: fit a power law
# `error = a * x ** -b`. Return `b`. Take logarithms first.


# %%
def exponent(x, error):
    """(K,) and (K,) or (K, R) of R resamples -> b, or (R,) of them."""
    raise NotImplementedError


# %% tags=["solution"] jupyter={"source_hidden": true}
def exponent_solution(x, error):
    return -np.polyfit(np.log(x), np.log(error), 1)[0]


# %%
planted = np.array([1.0, 2, 4, 8])
for mine in (exponent, exponent_solution):
    rw.check.matches(mine, 0.5, planted, 0.4 * planted**-0.5)

# %% [markdown]
# Small images, so that there is time for many trainings: subsets of the patients, all for the **same number of steps**, so a
# small set is seen more often. Then towers of other widths, on all films. The error is one minus the zero-shot AUROC.

# %%
patients = train["patient_id"].unique()


def scaled(name, share=1.0, **settings):
    some = train[train["patient_id"].isin(patients[: round(share * len(patients))])]
    epochs = round(passes * (len(train) // batch) / max(1, len(some) // batch))
    run = pretrain("sentences-tiny", f"scaled-{name}", some, passes=epochs, **settings)
    scores = rw.probe.zero_shot(run.model, test, findings)
    width = sum(p.numel() for p in run.model.net.visual.parameters())
    about = {
        "films": len(some),
        "weights": width,
        "steps": len(run.log),
        "error": 1 - scores.mean_auroc().auroc[0],
    }
    return about, 1 - scores.resamples(n_boot=n_boot).mean(axis=1).to_numpy()


# %%
by_films = [scaled(f"films-{s}", s, size=size) for s in shares]
by_width = [
    scaled(f"width-{w}", shape={"size": size, "width": w, "embed": w}) for w in (48, 96)
] + by_films[-1:]  # 192
laws = {}
for axis, found in (("films", by_films), ("weights", by_width)):
    x, draws = (
        np.array([about[axis] for about, _ in found]),
        np.stack([d for _, d in found]),
    )  # (K,), (K, n_boot)
    value = exponent_solution(x, np.array([about["error"] for about, _ in found]))
    laws[axis] = (value, *np.quantile(exponent_solution(x, draws), [0.025, 0.975]))
display(
    pd.DataFrame([about for about, _ in by_films + by_width[:-1]])
    .style.hide(axis="index")
    .format({"films": "{:,}", "weights": "{:,}", "error": "{:.3f}"})
)

# %%
for axis, found in (("films", by_films), ("weights", by_width)):
    points = pd.DataFrame([about for about, _ in found])
    b, low, high = laws[axis]
    line = points[axis] ** -b
    points["fitted power law"] = line * np.exp(np.log(points["error"] / line).mean())
    figure = rw.show.curve(
        points.rename(columns={"error": "measured"}),
        x=axis,
        panels={"1 - AUROC, zero-shot": ["measured", "fitted power law"]},
        title=f"Error against {axis}: exponent {b:.2f} ({low:.2f} to {high:.2f})",
    )
    display(figure.update_xaxes(type="log").update_yaxes(type="log"))

# %%
b, low, high = laws["films"]
w, w_low, w_high = laws["weights"]
unseen = "more films help" if low > 0 else "no effect of more films is shown"
wider = (
    "wider towers help"
    if w_low > 0
    else "narrower ones do better"
    if w_high < 0
    else "no effect of width is shown"
)
Markdown(f"""We see an exponent of {b:.2f} ({low:.2f} to {high:.2f}) for films: {unseen}, and ten times as many would take the error
by {1 - 10**-b:.0%} ({1 - 10**-low:.0%} to {1 - 10**-high:.0%}), were the line to go on. For weights it is {w:.2f}
({w_low:.2f} to {w_high:.2f}): {wider}. The intervals are over test patients; another seed of the training isn't in them.""")

# %% [markdown]
# ## Reports alone: what do language models learn from them?
# Text-only foundation models (CXR-BERT, RadBERT) read reports without any image. Two exercises: **guess the hidden words**
# (BERT, Devlin et al. 2019, [arXiv 1810.04805](https://arxiv.org/abs/1810.04805)) and **say the next word** (GPT). Here are
# both losses by hand.


# %%
def hidden_words(logits, tokens, hidden):
    chance = logits[hidden].softmax(-1)  # (M, V): of the M hidden places
    return -chance[torch.arange(len(chance)), tokens[hidden]].log().mean()


def next_word(logits, tokens, pad):
    asked = tokens[:, 1:] != pad  # place t says token t + 1
    return hidden_words(logits[:, :-1], tokens[:, 1:], asked)


rng = torch.Generator().manual_seed(0)
logits, tokens = (
    torch.randn(3, 9, 20, generator=rng),
    torch.randint(1, 20, (3, 9), generator=rng),
)
rw.check.matches(
    hidden_words, rw.pretrain.objectives.masked_lm, logits, tokens, tokens > 12
)
rw.check.matches(
    next_word,
    rw.pretrain.objectives.causal_lm,
    logits,
    tokens.masked_fill(tokens < 4, 0),
    0,
)

# %% [markdown]
# Now on 3,955 real reports. The simulator's grammar is closed; these were dictated by people.

# %%
reports = rw.data.reports(rw.data.fetch("openi-reports"))
reports = reports[reports["report"].str.len() > 0].assign(
    patient_id=lambda t: t["report_id"], study_id=lambda t: t["report_id"]
)
reports = rw.curate.split_by_patient(reports, seed=0)
speak = {
    name: rw.pretrain.fit(
        reports,
        recipe=recipe,
        out=f"../runs/compared/openi-{recipe}",
        epochs=report_epochs,
        context=context,
        batch=batch,
    )
    for name, recipe in (("hidden words", "mlm-tiny"), ("next word", "lm-tiny"))
}
tokenizer = speak["next word"].model.tokenizer
counts = {
    s: np.bincount(
        tokenizer(list(reports.loc[reports["split"] == s, "report"])).flatten(),
        minlength=tokenizer.vocab_size,
    )
    for s in ("train", "val")
}

# %%
frequent = np.delete(np.arange(tokenizer.vocab_size), [tokenizer.pad, tokenizer.start])
p = (counts["train"][frequent] + 1) / (counts["train"][frequent] + 1).sum()
alone = np.exp(
    -(counts["val"][frequent] * np.log(p)).sum() / counts["val"][frequent].sum()
)  # by how often, no context
curves = pd.concat(
    [
        run.log.dropna(subset="val_perplexity").rename(columns={"val_perplexity": name})
        for name, run in speak.items()
    ]
)
axis = "perplexity on other reports"
display(
    rw.show.curve(
        curves,
        panels={axis: list(speak)},
        lines={axis: alone},
        title="Two language models of real reports",
        caption="dashed: a model that knows how often a word comes, and nothing else",
    )
)
last = {
    name: run.log["val_perplexity"].dropna().iloc[-1] for name, run in speak.items()
}
Markdown(f"""We see a perplexity of {last["hidden words"]:.1f} for a hidden word, with both sides to go by, and {last["next word"]:.1f} for
the next one; {alone:.0f} is what counting words gives. As if the model chose among that many equally likely pieces.""")

# %% [markdown]
# What does it say when it has seen no image at all? Always the likeliest next word:


# %%
@torch.no_grad()
def continued(model, words, most=28):
    net, tokens = model.net, model.tokenizer.encode(words)[:-1]
    while len(tokens) < most and tokens[-1] != model.tokenizer.end:
        W = len(tokens)
        x = net.token_embedding(torch.tensor([tokens])) + net.positional_embedding[:W]
        x = net.ln_final(
            net.transformer(x, attn_mask=net.attn_mask[:W, :W])
        )  # (1, W, E)
        tokens.append(int((x[0, -1] @ net.token_embedding.weight.T).argmax()))
    return model.tokenizer.decode(tokens)


begun = (
    "FINDINGS: The heart",
    "FINDINGS: There is no",
    "FINDINGS: The lungs are",
    "IMPRESSION: Large right",
)
display(
    pd.DataFrame(
        {
            "begun": begun,
            "went on": [continued(speak["next word"].model, b) for b in begun],
        }
    )
    .style.format(escape="html")
    .hide(axis="index")
)

# %% [markdown]
# Fluent, plausible, and about nobody: nothing here has an image behind it. A report generator falls back on this whenever its
# image tower has nothing to say, which is one source of what is called hallucination.

# %%
best = of["ten findings"].auroc.drop("untrained").idxmax()
rw.book.headline(
    best_for_findings=best,
    image_only_minus_text_on_sex=gaps["man or woman"].difference,
    films_exponent=laws["films"][0],
    perplexity=last["next word"],
)
Markdown(f"""## What we found
- At an equal number of images {best} serves a probe of findings best ({rw.stats.format_interval(of["ten findings"].loc[best])}); the untrained tower
  has {rw.stats.format_interval(of["ten findings"].loc["untrained"])}.
- What no report mentions: for man or woman, {gaps["man or woman"]}; for older than 55, {gaps["older than 55"]}.
- A finding that no report names: in words {untold[f"{withheld}, words"]}, with labels {untold[f"{withheld}, labels"]}.
- Error against films: exponent {b:.2f} ({low:.2f} to {high:.2f}); against weights {w:.2f} ({w_low:.2f} to {w_high:.2f}).""")

# %% [markdown]
# **Where it breaks.** One seed, one small tower, one learning rate for all, a budget of minutes: MAE and DINO are known to need
# many more images before they pay, and so this ranking isn't that of the field. Augmentation differs by what an exercise needs
# (SimCLR and DINO crop). The virtual patients are one person's CT, bent; sex and age are planted in it by a few numbers, which is less
# than what real films carry. A power law through four points and three is a line through few points. The language
# models write with a vocabulary of 1,024 pieces and have read one collection of reports.
