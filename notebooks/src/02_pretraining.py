# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 2 · How does a model learn from reports, without a single label?
#
# A radiograph and its report say the same thing in two languages. A model that must find out which report belongs to
# which image has to learn what an effusion looks like, although nobody ever marked one.
#
# **You will** cut reports into tokens and a radiograph into patches, write the contrastive loss by hand, see why equal
# reports need care, watch a model learn from random weights, pretrain one on your own processor, and find out what it
# knows of patients it never saw.
#
# **Needs**: notebook 1; 5 minutes on two CPU cores, 1 when the runs are there already. **Data**: the simulator on a real
# CT (LIDC-IDRI, CC BY 3.0). **Model**: it goes on from `radwb-tiny`, which the package ships.
#
# *For teaching and research. Not for clinical use.*

# %%
import numpy as np
import pandas as pd
import torch
from IPython.display import Markdown, display

import radwb as rw

# %% tags=["parameters"]
n = 2400  # virtual radiographs in the cohort; notebooks 3 to 5 use the same
epochs = 4  # passes over those for training, on from the released model
n_small = 900  # radiographs of the small problem that is learnt from nothing; fast: 300
small_epochs = 15  # passes over those; fast: 2
batch = 64  # images a step

# %%
table = rw.simulate.cohort(n=n, seed=0)
train, test = (table[table["split"] == s] for s in ("train", "test"))
shown = train.head(4)
captions = [
    rw.pretrain.caption_of(report) for report in table["report"]
]  # the impression
titles = [
    "<br>".join(rw.pretrain.captions.sentences(report)) for report in shown["report"]
]
display(
    rw.show.grid(
        [rw.data.scan_of(row) for _, row in shown.iterrows()],
        titles=titles,
        columns=2,
        cell=330,
        title="Pairs: a radiograph and the impression of its report",
    )
)
Markdown(
    f"{len(train):,} pairs to learn from; {len(test):,} radiographs of {test.patient_id.nunique()} other patients "
    "wait for the test."
)

# %% [markdown]
# ## What does the model read?
# Not letters and not words: **tokens**, pieces that a byte-pair encoding found to be frequent (Sennrich et al. 2016,
# [arXiv 1508.07909](https://arxiv.org/abs/1508.07909)). Does it matter whose texts they were learnt from? We train one
# on our own reports, and compare it with characters and with the one that CLIP learnt from the web.

# %%
from open_clip import get_tokenizer

texts = sorted({rw.pretrain.caption_of(report) for report in train["report"]})
own = rw.models.Tokenizer.train(texts)
web = get_tokenizer("ViT-B-32")
pieces = pd.DataFrame(
    {
        "vocabulary": ["characters", "CLIP's, from the web", "our own, from reports"],
        "tokens": [
            np.mean([len(t) for t in texts]),
            np.mean([len(web.encode(t)) + 2 for t in texts]),
            np.mean([len(own.encode(t)) for t in texts]),
        ],
    }
)
display(
    rw.show.bars(
        pieces,
        x="vocabulary",
        y="tokens",
        y_title="tokens a caption (mean)",
        title="How many steps a caption takes, by vocabulary",
    )
)
split = " | ".join(
    own.decode([i]) for i in own.encode("Moderate right hydropneumothorax.")[1:-1]
)
Markdown(f"""We see {pieces.tokens[2]:.0f} tokens a caption from {own.vocab_size:,} entries, where CLIP needs
{pieces.tokens[1]:.0f} from {web.vocab_size:,}. A word that no report holds falls into pieces: *{split}*.""")

# %% [markdown]
# ## What does the model look at?
# A vision transformer sees a grid of patches, each one token; attention lets them talk
# ([arXiv 2010.11929](https://arxiv.org/abs/2010.11929)). Ours takes one channel, since a radiograph has no colours, and
# a stem of small convolutions makes the patches ([arXiv 2106.14881](https://arxiv.org/abs/2106.14881)). How much is a patch?

# %%
untrained = rw.models.clip_tiny(own)  # open_clip's CLIP, with random weights
rows, columns = untrained.grid
scan = rw.data.scan_of(train[train["Pleural Effusion"] == 1].iloc[0])
figure = rw.show.scan(
    scan, truth="Pleural Effusion", title="Each square is one token for the transformer"
)
(dy, dx), (H, W) = scan.spacing_mm, scan.shape
for r in range(1, rows):
    figure.add_hline(r * H * dy / rows, line=dict(color="white", width=0.7))
    figure.add_vline(r * W * dx / columns, line=dict(color="white", width=0.7))
display(figure)
parameters = sum(p.numel() for p in untrained.net.parameters())
Markdown(f"""We see {rows} x {columns} patches of {H * dy / rows:.0f} mm, so {rows * columns + 1} tokens with the class
token. The two towers together have {parameters / 1e6:.1f} million weights.""")

# %% [markdown]
# ## What is the exercise? The loss by hand
# Each image and each text becomes a point of unit length. In a batch of `B` pairs, image `i` must pick its own text
# among `B`, and text `i` its own image: two softmax cross-entropies over the same matrix of cosines, divided by a
# temperature (InfoNCE; CLIP, Radford et al. 2021, [arXiv 2103.00020](https://arxiv.org/abs/2103.00020)).

# %%
from open_clip.loss import ClipLoss


def info_nce(images, texts, scale):
    logits = scale * images @ texts.T  # (B, B), row i: image i against all texts
    right = torch.arange(len(logits))
    per_image = (torch.logsumexp(logits, 1) - logits[right, right]).mean()
    per_text = (torch.logsumexp(logits, 0) - logits[right, right]).mean()
    return (per_image + per_text) / 2


points = torch.nn.functional.normalize(
    torch.randn(2, batch, 32, generator=torch.Generator().manual_seed(0)), dim=-1
)
rw.check.matches(info_nce, ClipLoss(), points[0], points[1], torch.tensor(1 / 0.07))
guess = info_nce(points[0][:1].expand(batch, -1), points[1][:1].expand(batch, -1), 14.0)
Markdown(f"""A model to which all look alike has a loss of {guess:.3f}, and ln({batch}) is {np.log(batch):.3f}.
A curve that stays there learns nothing: remember the number.""")

# %% [markdown]
# ## What does the temperature do?
# Cosines lie between -1 and 1: too close together for a softmax. A scale of one over the temperature, itself learnt,
# spreads them. Here one right pair stands against `B - 1` wrong ones, at a cosine that is 0.3 higher.

# %%
scales = np.array([1, 2, 5, 10, 14.3, 20, 50, 100])
share = np.exp(0.3 * scales) / (
    np.exp(0.3 * scales) + batch - 1
)  # what the softmax gives to the right pair
sharp = pd.DataFrame(
    {"scale": scales, "right pair": share, "each wrong pair": (1 - share) / (batch - 1)}
)
display(
    rw.show.curve(
        sharp,
        x="scale",
        panels={"probability": ["right pair", "each wrong pair"]},
        title="What a softmax makes of a lead of 0.3, by scale",
    )
)
Markdown(f"""We see {share[0]:.1%} for the right pair at a scale of 1, hardly more than chance ({1 / batch:.1%}),
{share[4]:.0%} at CLIP's start of 14.3, and {share[-1]:.0%} at its bound of 100.""")

# %% [markdown]
# ## Which reports are wrong answers?
# CLIP takes every other text of the batch for wrong. But reports repeat, and *no acute findings* is right for every
# healthy chest. How often does a batch hold the same words twice?

# %%
in_training = (table["split"] == "train").to_numpy()
words = pd.Series(captions)[in_training].sample(batch, random_state=0).to_numpy()
same = words[:, None] == words[None, :]  # (B, B)
order = np.argsort(words)
figure = rw.show.heatmap(
    same[order][:, order].astype(float),
    label="same words",
    x_title="texts",
    y_title="images",
    title="Off the diagonal: right answers that CLIP punishes",
)
display(figure)
wrongly = (same.sum() - batch) / (batch * (batch - 1))
Markdown(f"""We see {len(set(words))} different impressions among {batch}; {wrongly:.1%} of all pairs that the loss
would push apart are equal, and no model could tell them apart.""")

# %% [markdown]
# ### Exercise 1: targets that share
# Give each image a row of targets that sums to one: equal shares for all texts of the batch that are the same as its
# own. Captions come as numbers; equal numbers are equal captions.


# %%
def targets(ids):
    """(B,) caption numbers -> (B, B) targets."""
    raise NotImplementedError


# %% tags=["solution"] jupyter={"source_hidden": true}
def targets_solution(ids):
    same = (ids[:, None] == ids[None, :]).float()
    return same / same.sum(dim=1, keepdim=True)


# %%
cases = [(torch.tensor([7, 3, 7]),), (torch.arange(5),), (torch.zeros(4),)]
for mine in (targets, targets_solution):
    rw.check.matches(mine, rw.pretrain.same_captions, cases=cases)

# %% [markdown]
# With these targets in the place of the diagonal, and nothing else changed, `rw.pretrain.SameCaptionLoss` is
# open_clip's loss. Where all captions differ, they are equal.

# %%
distinct, scale = (
    torch.randperm(batch, generator=torch.Generator().manual_seed(1)),
    torch.tensor(14.3),
)
rw.check.close(
    rw.pretrain.SameCaptionLoss()(*points, scale, distinct), ClipLoss()(*points, scale)
)

# %% [markdown]
# ## What if a report says several things at once?
# *Small right effusion. Mild cardiomegaly. No pneumothorax.* As one text that is seen once and never again, and what in
# it belongs to what in the image stays open. So we deal each image four of the sentences of its report, and a sentence is
# right for every image of the batch whose report has it (many right answers: Yang et al. 2022,
# [arXiv 2204.03610](https://arxiv.org/abs/2204.03610)).


# %%
def by_sentence(images, sentences, scale, right):
    logits = (
        scale * images @ sentences.T
    )  # (B, S); right: (B, S), 1 where the report has the sentence
    per_image = -(right * logits.log_softmax(1)).sum(1) / right.sum(1)
    per_sentence = -(right * logits.log_softmax(0)).sum(0) / right.sum(0)
    return (per_image.mean() + per_sentence.mean()) / 2


# %%
task = rw.pretrain.RECIPES["sentences-tiny"](untrained, train)
tokens, drawn, own_sentences = task.targets(
    range(batch), seed=0
)  # drawn: (B, 4) of all sentences
right = (own_sentences[:, :, None] == drawn.flatten()).any(1).float()  # (B, 4 B)
vectors = torch.randn(5, batch, 192, generator=torch.Generator().manual_seed(0))
image_points, *said = torch.nn.functional.normalize(vectors, dim=-1)
said = torch.stack(said, 1)  # (B, 4, E), as if encoded
scale = untrained.net.logit_scale.exp().detach()
rw.check.close(
    by_sentence(image_points, said.flatten(0, 1), scale, right),
    task.loss_of((image_points, said), tokens, drawn, own_sentences).detach(),
)

# %%
guess = (
    np.log(batch) + np.log(4) / 2
)  # of ln(B) for a sentence's images and ln(4 B) for an image's sentences
Markdown(f"""We see {len(task.spoken):,} different sentences in {len(train):,} reports, {task.counts.float().mean():.1f} to a
report; each drawn one is right for {right.sum(0).mean():.1f} of {batch} images. A model that tells nothing apart has
{guess:.2f} now.""")

# %% [markdown]
# ## Is telling pairs apart the only exercise?
# No. Each family of foundation models has its own, and each is a few lines. *SigLIP* asks of every pair by itself
# whether it belongs together (Zhai et al. 2023, [arXiv 2303.15343](https://arxiv.org/abs/2303.15343)).

# %%
from open_clip.loss import SigLipLoss


def siglip(images, texts, scale, bias):
    sign = 2 * torch.eye(len(images)) - 1  # +1 for a pair, -1 for all others
    logits = scale * images @ texts.T + bias
    return torch.log1p(torch.exp(-sign * logits)).sum() / len(images)


rw.check.matches(siglip, SigLipLoss(), *points, 10.0, -10.0)

# %% [markdown]
# *SimCLR* needs no text: two views of an image must find each other among all others (Chen et al. 2020,
# [arXiv 2002.05709](https://arxiv.org/abs/2002.05709)).


# %%
def simclr(a, b, temperature):
    z = torch.cat([a, b])  # (2B, E)
    logits = (z @ z.T / temperature).fill_diagonal_(-torch.inf)  # none with itself
    partner = torch.cat([logits.diagonal(len(a)), logits.diagonal(-len(a))])
    return (logits.logsumexp(1) - partner).mean()


rw.check.matches(simclr, rw.pretrain.objectives.simclr, *points, 0.1)

# %% [markdown]
# A *masked autoencoder* hides most of an image and is asked to paint it (He et al. 2022,
# [arXiv 2111.06377](https://arxiv.org/abs/2111.06377)). What is left for it to go by?

# %%
from dataclasses import replace

hidden = rw.pretrain.objectives.random_mask(1, rows * columns, 0.6, seed=0)  # (1, T)
square = (
    hidden.view(rows, columns)
    .repeat_interleave(H // rows, 0)
    .repeat_interleave(W // columns, 1)
    .numpy()
)
masked = replace(scan, pixels=np.where(square, np.float32(0.5), scan.pixels))
display(
    rw.show.grid(
        [scan, masked],
        titles=["what was there", "what the model sees"],
        cell=330,
        title=f"The exercise: paint {hidden.float().mean():.0%} of the patches",
    )
)


# %%
def mae(painted, image, hidden, patch):
    tiles = (
        image.unfold(2, patch, patch)
        .unfold(3, patch, patch)
        .reshape(len(image), -1, patch**2)
    )  # (B, T, P)
    target = (tiles - tiles.mean(-1, keepdim=True)) / (
        tiles.var(-1, keepdim=True) + 1e-6
    ).sqrt()
    return (painted - target).square().mean(-1)[hidden].mean()


image, patch = untrained.preprocess(scan), untrained.size // rows
painted = torch.randn(
    1, rows * columns, patch**2, generator=torch.Generator().manual_seed(0)
)
rw.check.matches(mae, rw.pretrain.objectives.mae, painted, image, hidden, patch)

# %% [markdown]
# *DINO*'s student says of its view what its own moving average says of another (Caron et al. 2021,
# [arXiv 2104.14294](https://arxiv.org/abs/2104.14294)). Why don't both always give the same answer? Because the mean of
# the answers is taken off, the *centre*. What happens if we leave that out?


# %%
def answers(centring, steps=40):
    tower = rw.models.supervised_tiny([], shape={"size": 64, "layers": 1})
    task = rw.pretrain.RECIPES["dino-tiny"](tower, train.head(16))
    task.centring, rng = centring, torch.arange(16)
    optimizer = torch.optim.AdamW(
        [p for p in task.parameters() if p.requires_grad], lr=1e-3
    )
    for step in range(steps):
        task(task.two_views(few, rng, seed=10 * step)).backward()
        optimizer.step(), optimizer.zero_grad(), task.after_step(step / steps)
        with torch.no_grad():
            yield task.validate(few, batch=16)["teacher_entropy"]


# %%
few = torch.from_numpy(rw.data.images(train.head(16), 64))
dino = pd.DataFrame(
    {"with centre": list(answers(True)), "without": list(answers(False))}
)
dino["step"] = dino.index + 1
display(
    rw.show.curve(
        dino,
        panels={"entropy of the mean answer (nats)": ["with centre", "without"]},
        lines={"entropy of the mean answer (nats)": np.log(64)},
        title="DINO with and without its centre",
        caption="16 radiographs, 64 possible answers; dashed: all answers equally often",
    )
)
Markdown(f"""We see {dino["with centre"].iloc[-1]:.1f} nats with the centre and {dino["without"].iloc[-1]:.1f} without:
in effect {np.exp(dino["with centre"].iloc[-1]):.0f} different answers against {np.exp(dino["without"].iloc[-1]):.1f}.""")

# %% [markdown]
# ## What may we change in an image?
# A model that sees the same film at each pass learns it by heart. So we move it, turn it, show it in another window and
# with other noise. What we must not change is what the report says. Does a crop, as it is usual with photographs?

# %%
ill = [rw.data.scan_of(row) for _, row in train[train["Lung Lesion"] == 1].iterrows()]
ill = [
    scan for scan in ill if scan.truth["Lung Lesion"].any()
]  # behind an effusion there may be nothing to see of it
x = torch.stack([torch.from_numpy(scan.pixels)[None] for scan in ill])  # (B, 1, S, S)
lesions = torch.from_numpy(
    np.stack([scan.truth["Lung Lesion"] for scan in ill])
)  # (B, S, S)
anywhere, keeping = (
    rw.pretrain.crop_keeping(x, lesions, seed=0, keep=keep) for keep in (0, 0.9)
)
lost, lost_too = (~masks.flatten(1).any(1) for _, masks in (anywhere, keeping))
low, high = rw.stats.wilson(int(lost.sum()), len(lost))

# %%
one = slice(i := int(lost.int().argmax()), i + 1)
changed = torch.cat(
    [
        x[one],
        *(rw.pretrain.augment(x[one], seed=s) for s in range(3)),
        anywhere[0][one],
        keeping[0][one],
    ]
)
masks = [lesions[i], None, None, None, anywhere[1][i], keeping[1][i]]
films = [
    rw.data.Scan(
        image.numpy(), truth={} if mask is None else {"Lung Lesion": mask.numpy()}
    )
    for image, mask in zip(changed[:, 0], masks, strict=True)
]
titles = [
    "as it is",
    *["moved, turned, another window"] * 3,
    "cropped anywhere",
    "cropped, and the lesion kept",
]
display(
    rw.show.grid(
        films,
        titles=titles,
        columns=3,
        truth=True,
        title="What the report says must stay in the image",
    )
)
Markdown(f"""We see that a crop of at least half a side leaves nothing of the lesion in {lost.sum()} of {len(lost)} films
({lost.float().mean():.0%}, 95 % interval {low:.0%} to {high:.0%}), whose reports would then be false, and in
{lost_too.sum()} of them when the crop is drawn again until 90 % of it is in. Our recipe doesn't crop; those that
compare two views of an image, and read no report, do.""")

# %% [markdown]
# ## Can we watch a model learn?
# What a short run on the whole cohort learns is hard to see: ten findings, some of them faint, in hundreds of different
# impressions. So we make the problem small. Four findings, drawn stronger than in life; films of 80 px; reports of a few
# words. Towers, loss (with its shared targets), augmentation and optimiser are those of any run.

# %%
asked = ["Cardiomegaly", "Edema", "Consolidation", "Pleural Effusion"]
often = dict.fromkeys(rw.simulate.PLANTED, 0.0) | dict.fromkeys(asked, 0.3)
dials = rw.simulate.Dials(prevalence=often, together={}, drain=0.0, healthy=0.1)
small = rw.simulate.cohort(n=n_small, seed=5, size=80, visibility=3.0, dials=dials)

# %% [markdown]
# Its reports, too, are made small: what is there, and on which side. Nothing is hedged, nothing is denied.


# %%
def in_words(row):
    words = []
    for name in asked:
        if row[name] == 1:
            side = str(row.get(f"{name} side", "")).replace("both", "bilateral")
            words.append(f"{side} {name}.".strip().capitalize())
    return " ".join(words) or "No finding."


# %%
small["report"] = [in_words(row) for _, row in small.iterrows()]
shown = small.drop_duplicates("report").head(6)
titles = list(shown["report"].str.replace(". ", ".<br>"))
display(
    rw.show.grid(
        [rw.data.scan_of(row) for _, row in shown.iterrows()],
        titles=titles,
        columns=3,
        title="The small problem: a film and all of its report",
    )
)
Markdown(f"""{(small["split"] == "train").sum()} pairs to learn from, with {small["report"].nunique()} different reports;
{(small["split"] == "val").sum()} of other patients to follow it by, {(small["split"] == "test").sum()} of yet others for
the end.""")

# %% [markdown]
# The weights are random. Each step draws a batch of films with their reports; the films are a little shifted, turned and
# brightened, but never mirrored: left and right are findings. The same line runs on eight GPUs with `devices=8`. Stop it
# and run it again: it goes on where it was, to the same weights. What would you expect of the loss, and of the matrix?

# %%
held_out = small.loc[small["split"] == "val", "report"]
plot = rw.show.live(held_out, batch=batch)
display(plot)  # follows the run, in JupyterLab

# %%
lesson = rw.pretrain.fit(
    small,
    recipe="clip-tiny",
    out="../runs/clip-lesson",
    epochs=small_epochs,
    batch=batch,
    size=80,
    context=24,
    callback=plot,
)
if lesson.reused:
    plot.replay(lesson.log)
health = rw.pretrain.diagnose(lesson, small)

# %%
names = {"val_loss": "other patients", "image_to_text_recall_1": "own report first"}
steps = lesson.log.rename(columns=names)
steps["training"] = steps["loss"].ewm(halflife=5).mean()
share, commonest = (
    "share of other patients' films",
    small.loc[small["split"] == "train", "report"].mode()[0],
)
usual = (held_out == commonest).mean()
panels = {"loss": ["training", "other patients"], share: ["own report first"]}
display(
    rw.show.curve(
        steps,
        panels=panels,
        lines={"loss": np.log(batch), share: usual},
        title="From random weights, step by step",
        caption="dashed: the loss of a guess; always giving the commonest report",
    )
)

# %%
first, last = steps.dropna(subset="other patients").iloc[[0, -1]].to_dict("records")
Markdown(
    rw.pretrain.if_healthy(
        health,
        f"""On patients it never saw the loss goes from {first["other patients"]:.2f} after
one pass to {last["other patients"]:.2f} after {small_epochs}, where a guess has {np.log(batch):.2f}. Their films find their
own report first in {first["own report first"]:.0%} after one pass and in {last["own report first"]:.0%} at the end; always
*{commonest}* would be right in {usual:.0%}. It took {lesson.config["seconds"]:.0f} seconds.""",
    )
)

# %% [markdown]
# And which words go with which films? We take the films of the test patients whose report is one sentence, and average
# their cosines: each row the films that have this report, each column a report. Once as the run began, once as it ended.

# %%
alone = small[(small["split"] == "test") & (small["report"].str.count(r"\.") == 1)]
reports = sorted(alone["report"].unique())
began = rw.models.clip_tiny(
    lesson.model.tokenizer, shape=lesson.model.spec["shape"]
)  # the same random weights

# %%
largest = {}
for name, m in (("before", began), ("after", lesson.model)):
    with torch.no_grad():
        cosines = rw.models.embed(m, alone) @ m.encode_text(reports).numpy().T  # (N, K)
    matrix = (
        pd.DataFrame(cosines, columns=reports)
        .groupby(alone["report"].to_numpy())
        .mean()
    )  # (K, K)
    largest[name] = int(
        (matrix.to_numpy().argmax(axis=1) == np.arange(len(reports))).sum()
    )
    title = f"{name}: own report nearest in {largest[name]} of {len(reports)} rows"
    display(
        rw.show.heatmap(
            matrix,
            label="mean cosine",
            x_title="report",
            y_title="films of",
            title=title,
        )
    )
Markdown(
    rw.pretrain.if_healthy(
        health,
        f"""On the diagonal lies the largest value of {largest["before"]} rows before and of
{largest["after"]} after, of {len(reports)}. Nobody told the model what an effusion is, or which side is which.""",
    )
)

# %% [markdown]
# ## What does a long run look like?
# The released model, `radwb-tiny`, had the whole problem: films of patients that none of our notebooks shows, all ten
# findings as strong as in the cohort, reports in full, dealt by the sentence. This is the log of its training, as the
# package ships it. Where would your patience have ended?

# %%
long = rw.pretrain.Run(
    rw.models.zoo.SHIPPED / "radwb-tiny"
).log  # a row in so many, and the end of each pass
long = long.rename(columns=names)
long["training"] = long["loss"].ewm(halflife=3).mean()
display(
    rw.show.curve(
        long,
        panels=panels,
        lines={"loss": guess},
        title="The training of radwb-tiny",
        caption="dashed: the loss of a guess",
    )
)
ends = long.dropna(subset="other patients")["other patients"].to_numpy()  # a pass each
spent = long["seconds"].iloc[-1] / 60
half = 1 + int((ends < (guess + ends[-1]) / 2).argmax())
Markdown(f"""{long["step"].iloc[-1]:,} steps in {spent:.0f} minutes by the clock. The loss on other patients is
{ends[0]:.2f} after the first pass and {ends[-1]:.2f} after the last of {len(ends)}; a guess has {guess:.2f}. Half of that
way was gone after pass {half}.""")

# %% [markdown]
# ## Then go on from the released model
# That is what one does with a foundation model; its `model_card.md` says how it was made. It saw none of our patients. We
# go on for a few passes, and the notebooks that follow use the result.

# %%
run = rw.pretrain.fit(
    table,
    recipe="sentences-tiny",
    start="radwb-tiny",
    out="../runs/clip-tiny",
    epochs=epochs,
    batch=batch,
    lr=3e-4,
)
model, log, config = run.model, run.log, run.config
said = "was there already, and was taken as it is" if run.reused else "is new"
Markdown(
    f"The run {said}: {config['n_train']:,} images, {len(log):,} steps, {config['seconds'] / 60:.1f} minutes."
)

# %% tags=["headline"]
log["training"] = log["loss"].ewm(halflife=10).mean()
log = log.rename(columns={"val_loss": "other patients"})
display(
    rw.show.curve(
        log,
        panels={"loss": ["training", "other patients"]},
        lines={"loss": guess},
        title="On from radwb-tiny",
        caption="dashed: the loss of a guess",
    )
)
checks = rw.pretrain.diagnose(run, table)
memory = checks.set_index("name").loc["memorised", "says"]
Markdown(f"""The loss is {log["training"].iloc[-1]:.2f} at the end on the images that it learns from, and
{log["other patients"].dropna().iloc[-1]:.2f} on other patients. What a model knows of the first alone is memorised. Our
check says: {memory}.""")

# %% [markdown]
# ## Is the model healthy?
# A loss that falls can hide a model that has collapsed: all its points in one place, or on a line. What it answers then
# is noise, however it is asked, and we don't read it. Each check stands beside a control: random vectors, the untrained
# network, texts dealt to other patients. What do the checks say of this run, and of one that has not begun?

# %%
display(checks.style.hide(axis="index").format(precision=2, na_rep="-"))
empty = rw.pretrain.diagnose(untrained, table)
bad, none = (c.loc[c["verdict"] == "warning", "says"] for c in (checks, empty))
Markdown(f"""{len(bad)} warnings for the continued run{": " if len(bad) else ""}{"; ".join(bad)}. For random weights there
are {len(none)}{": " if len(none) else ""}{"; ".join(none)}.""")

# %% [markdown]
# ## Might we have mirrored the images?
# Photographs are mirrored in training as a matter of course. Here *left* and *right* stand in the report. We ask the
# model for the side of a one-sided effusion, on each film and on its mirror image.

# %%
sides = rw.probe.laterality_check(model, test)
shown = sides.rename_axis("image").reset_index().rename(columns={"right": "share"})
display(
    rw.show.bars(
        shown,
        x="image",
        y="share",
        line=0.5,
        y_title="side as in the report (share)",
        title="The reported side, on films and on their mirror images",
        caption=f"{sides['n'].iloc[0]} films with an effusion on one side; 95 % intervals over patients",
    )
)
film, mirror = (rw.stats.format_interval(row, "right") for _, row in sides.iterrows())
reads = (
    "It reads sides"
    if sides["low"].iloc[0] > 0.5 > sides["high"].iloc[1]
    else "Whether it reads sides stays open"
)
Markdown(
    rw.pretrain.if_healthy(
        checks,
        f"""We see the reported side on {film} of the films and on {mirror} of their
mirror images. {reads}. A mirrored training image has a false report, unless that is rewritten.""",
    )
)

# %% [markdown]
# ## What has changed?
# Eight patients that it never saw, with eight different impressions, before and after: each row an image, each column
# a text. What should the matrix look like?

# %%
impressions = pd.Series(captions, index=table.index)[test.index]
eight = impressions.drop_duplicates().head(8)
for name, m in (("before", untrained), ("after", model)):
    cosines = (
        rw.models.embed(m, table.loc[eight.index])
        @ m.encode_text(list(eight)).detach().numpy().T
    )
    found = (cosines.argmax(axis=1) == np.arange(len(eight))).sum()
    title = f"{name}: {found} of {len(eight)} images pick their own text"
    display(
        rw.show.heatmap(
            cosines,
            rows=list(eight),
            columns=list(eight),
            label="cosine",
            x_title="text",
            y_title="image of ...",
            title=title,
        )
    )

# %% [markdown]
# ## Does it find the report of a patient it never saw?
# Rank all different impressions of the test set for each image: is the right one among the first five? What is the
# answer worth? Reports repeat, so always giving the five commonest impressions of the training set is right quite often.
# Two more controls: the untrained model, and the trained one with its texts dealt to other patients, twenty times.

# %%
groups, numbers = np.unique(
    impressions, return_inverse=True
)  # U different texts, and which one each image has


def nearest(m, k=5):
    with torch.no_grad():
        texts = m.encode_text(list(groups)).numpy()
    return np.argsort(-rw.models.embed(m, test) @ texts.T, axis=1)[
        :, :k
    ]  # (N, k) of the U texts


def hits(near, own_text):
    return (near == own_text[:, None]).any(axis=1)  # (N,)


# %%
rng, near = np.random.default_rng(0), nearest(model)
dealt = np.array([hits(near, rng.permutation(numbers)) for _ in range(20)])  # (20, N)
common = pd.Series(captions)[in_training].value_counts().index[:5]
right = {
    "trained": hits(near, numbers),
    "five commonest": impressions.isin(common).to_numpy(),
    "untrained": hits(nearest(untrained), numbers),
    "shuffled": dealt.mean(axis=0),
}

# %%
found = [
    rw.stats.clustered_mean(r, test["patient_id"], share=True) for r in right.values()
]
found = pd.DataFrame(found).rename(columns={"mean": "recall"}).assign(model=list(right))
display(
    rw.show.bars(
        found,
        x="model",
        y="recall",
        y_title="right text in the top 5 (share)",
        title="Reports found for unseen patients, and three controls",
        caption=f"{len(test)} images of {test.patient_id.nunique()} patients, {len(groups)} texts; 95 % "
        "intervals over patients",
    )
)
against = rw.stats.compare(
    right["trained"],
    right["five commonest"],
    test["patient_id"],
    what="recall at 5",
    names=("the trained model", "always giving the five commonest"),
)
a, c, u, s = (rw.stats.format_interval(found.iloc[i], "recall") for i in range(4))
Markdown(
    rw.pretrain.if_healthy(
        checks,
        f"""{a} for the trained model, {c} for the five commonest, {u} untrained, {s}
shuffled ({dealt.mean(axis=1).min():.2f} to {dealt.mean(axis=1).max():.2f} in 20 draws): {against}.""",
    )
)

# %% [markdown]
# ### Exercise 2: the other way round
# A reader types a sentence and wants its images. Write text-to-image recall: for each different text, is one of *its*
# images among the `k` nearest of all?


# %%
def text_to_image(images, texts, own_text, k):
    """(N, E), (U, E), (N,) number of each image's text -> share of the U texts."""
    raise NotImplementedError


# %% tags=["solution"] jupyter={"source_hidden": true}
def text_to_image_solution(images, texts, own_text, k):
    nearest = np.argsort(-texts @ images.T, axis=1)[:, :k]  # (U, k) images
    return (own_text[nearest] == np.arange(len(texts))[:, None]).any(axis=1).mean()


# %%
Z, T = rw.models.embed(model, test), model.encode_text(list(groups)).detach().numpy()
reference = rw.pretrain.retrieval(Z, T[numbers], numbers)["text_to_image_recall_5"]
for mine in (text_to_image, text_to_image_solution):
    rw.check.matches(mine, reference, Z, T, numbers, 5)

# %% [markdown]
# ## Where do the findings lie?
# The points have many dimensions; the two in which the test images spread most make a map. It was drawn without labels:
# the colours come afterwards.

# %%
from sklearn.decomposition import PCA

findings = rw.data.findings_of(test)
count = (test[findings] == 1).sum(axis=1)
colour = np.where(
    count == 0, "none", np.where(count > 1, "several", test[findings].idxmax(axis=1))
)
pca = PCA(2).fit(Z)
display(
    rw.show.scatter(
        pca.transform(Z),
        colour=colour,
        hover=impressions,
        x_title="first component",
        y_title="second component",
        title="Unseen patients by what the model sees",
    )
)

# %%
alike = Z @ Z.T + np.where(
    test.patient_id.to_numpy()[:, None] == test.patient_id.to_numpy(), -np.inf, 0
)
same = colour[alike.argmax(axis=1)] == colour  # (N,)
dealt = np.mean([rng.permutation(colour) == colour for _ in range(20)], axis=0)
against = rw.stats.compare(
    same,
    dealt,
    test["patient_id"],
    names=("the nearest neighbour", "a neighbour at random"),
)
Markdown(
    rw.pretrain.if_healthy(
        checks,
        f"""We see {pca.explained_variance_ratio_.sum():.0%} of the spread. For
{same.mean():.0%} of the images the nearest one of *another* patient shares the colour, for {dealt.mean():.0%} one at
random does: {against}.""",
    )
)

# %% [markdown]
# ## What does it cost?
# The step that hurts is the image tower. How far would this machine get with a real collection?

# %%
speed, mimic = (
    config["images_per_s"],
    377_110,
)  # images of MIMIC-CXR (Johnson et al., 2019, doi 10.1038/s41597-019-0322-0)
budget = pd.DataFrame(
    {"images": [config["n_train"], mimic], "epochs": [epochs, 32]},
    index=["this run", "MIMIC-CXR"],
)
budget["hours at this speed"] = (
    budget["images"] * budget["epochs"] / speed / 3600
).round(2)
display(budget)
rw.book.headline(
    recall_at_5=found.recall[0],
    five_commonest=found.recall[1],
    minutes=config["seconds"] / 60,
    images_per_s=speed,
)
Markdown(f"""We see {speed:.0f} images a second ({config["precision_used"]}). A collection the size of MIMIC-CXR asks
for {budget["hours at this speed"].iloc[1] / 24:.0f} days here: foundation models are a matter of hardware.""")

# %%
Markdown(f"""## What we found
- From random weights, a loss that only asks *which report belongs to which film* goes from {first["other patients"]:.2f} to
  {last["other patients"]:.2f} on patients it never saw, in {lesson.config["seconds"]:.0f} seconds and without a label (a
  guess has {np.log(batch):.2f}). That is a small problem; the whole one took radwb-tiny {spent:.0f} minutes.
- On unseen patients of the whole problem the right impression is among five of {len(groups)} in {a}; {c} for the five
  commonest.
- {wrongly:.1%} of the pairs in a batch are equal texts; they count as right answers here.""")

# %% [markdown]
# ## Where it breaks
# - All patients share the anatomy of one CT: the model knows a simulator, and notebook 3 asks how far it carries.
# - The small problem is drawn to be learnt: strong findings, clean words. Nothing of it holds for the large one.
# - It learns what reports say. What nobody writes down, it need not see; what is written by habit, it learns as well.
# - Retrieval counts words, not meaning: *no acute findings* in the place of *normal chest radiograph* is an error here.
#
# Next: **3 Zero-shot probing** asks this model for findings, in words.
