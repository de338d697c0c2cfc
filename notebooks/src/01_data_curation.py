# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 1 · What is in the data before a model sees it?
#
# A model believes whatever its files say. Files are inverted, cut short or not images at all; reports deny more than
# they state; the same patient comes twice; and a table can give the answer away without a single pixel.
#
# **You will** read a DICOM file by hand, plant an inverted copy, put a CT together in millimetres, index a folder that
# holds damaged files, cut 3,955 real reports into sections and label them, look for what a simulator planted and measure how far it is
# from real films, split by patient and measure what a wrong split leaks, and predict oedema from a table alone.
#
# **Needs**: notebook 0; 3 minutes on two CPU cores, 2 more to simulate the cohort the first time. **Data**: chest CT
# LIDC-IDRI-0001 as DICOM (CC BY 3.0); Open-i reports (CC BY-NC-ND 4.0, read in place); NIH ChestX-ray14 table (free use
# with attribution); pydicom's test files (MIT); the simulator.
#
# *For teaching and research. Not for clinical use.*

# %%
import re
import shutil
import tempfile
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import pydicom
import torch
from IPython.display import Markdown, display

import radwb as rw

# %% tags=["parameters"]
n = 2400  # virtual radiographs in the cohort; notebooks 2 to 5 use the same
low, high = -160, 240  # window for soft tissue, HU
n_boot = 200  # resamples of the patients
n_twice = 800  # of them are filmed a second time, with the CT as scanned; fast: 60
seeds = 5  # trainings of each detector; fast: 2
passes = 20  # over its films, each training; fast: 2

# %% [markdown]
# ## How do stored numbers become an image?
# A CT file stores integers. Two fields turn them into Hounsfield units (water 0, air -1000), and a **window** turns
# those into grey: below it all is black, above it all is white. How many lines does that take?

# %%
folder = rw.data.fetch("lidc-dicom")
path = sorted(folder.glob("*.dcm"))[70]


def by_hand(path, window):
    ds = pydicom.dcmread(path)
    hu = ds.pixel_array * float(ds.RescaleSlope) + float(ds.RescaleIntercept)  # (H, W)
    return np.clip((hu - window[0]) / (window[1] - window[0]), 0, 1)


def by_radwb(path, window):
    return rw.data.read(path, window=window).pixels


windows = {"soft tissue": (low, high), "lung": (-1350, 150), "bone": (-450, 1050)}
rw.check.matches(
    by_hand, by_radwb, cases=[(path, window) for window in windows.values()]
)

# %%
views = {name: rw.data.read(path, window=window) for name, window in windows.items()}
titles = [f"{name}, {windows[name][0]} to {windows[name][1]} HU" for name in views]
display(
    rw.show.grid(
        list(views.values()), titles=titles, columns=3, title="One slice, three windows"
    )
)
grey = {
    name: ((scan.pixels > 0) & (scan.pixels < 1)).mean() for name, scan in views.items()
}
Markdown(
    f"We see that a window is a choice: for soft tissue {grey['soft tissue']:.0%} of the pixels are neither black "
    f"nor white, for lung {grey['lung']:.0%}. What is clipped is gone for the model, too."
)

# %% [markdown]
# ## What if the file is upside down in grey?
# In MONOCHROME1 the largest number is black. Some radiographs are stored so, and a reader that ignores the field sees air
# as bone. We plant such a copy. Does anybody notice?

# %%
inbox = Path(tempfile.mkdtemp())
ds = pydicom.dcmread(path)
del (
    ds.WindowCenter,
    ds.WindowWidth,
    ds.PixelPaddingValue,
)  # so that both copies show their full range
ds.save_as(inbox / "plain.dcm")
stored = ds.pixel_array
ds.PhotometricInterpretation, ds.PixelData = (
    "MONOCHROME1",
    (stored.max() - stored + stored.min()).tobytes(),
)
ds.save_as(inbox / "inverted.dcm")

# %%
original, copy = (rw.data.read(inbox / name) for name in ("plain.dcm", "inverted.dcm"))
naive = rw.data.Scan(1 - copy.pixels)  # what a reader gets that ignores the field
same = [
    np.corrcoef(original.pixels.ravel(), s.pixels.ravel())[0, 1] for s in (copy, naive)
]
display(
    rw.show.grid(
        [original, naive, copy],
        titles=["original", "copy, field ignored", "copy, read"],
        columns=3,
    )
)
Markdown(
    f"We see that the correlation with the original is {same[1]:.2f} when the field is ignored and {same[0]:.2f} "
    "when it's read. Both copies are valid files; only the field tells them apart for sure."
)

# %% [markdown]
# ## Where in the patient is a voxel?
# A series is a heap of files whose names mean nothing. The order comes from the patient's coordinates, and the distance
# between slices is not the distance between pixels.

# %%
volume = rw.data.read(folder)
display(rw.show.planes(volume, window_hu=(-1000, 400), title="133 files, one patient"))
depth, height, width = volume.spacing_mm
Markdown(
    f"We see {volume.shape[0]} slices {depth:.2f} mm apart with pixels of {height:.2f} mm. Drawn as if voxels "
    f"were cubes, the patient would be squeezed to {height / depth:.0%} of his height."
)

# %% [markdown]
# ### Exercise 1: from index to millimetres
# `first` and `last` are the headers of the lowest and the highest slice. DICOM gives `ImagePositionPatient` (the centre
# of the first pixel), `ImageOrientationPatient` (six numbers: the direction along a row, then down a column) and
# `PixelSpacing` (between rows, between columns). Where is voxel (d, h, w)?

# %%
headers = [pydicom.dcmread(p, stop_before_pixels=True) for p in folder.glob("*.dcm")]
first, *_, last = sorted(headers, key=lambda ds: ds.ImagePositionPatient[2])


def place_mm(d, h, w):
    """(3,) left, posterior, superior of a voxel, mm."""
    raise NotImplementedError


# %% tags=["solution"] jupyter={"source_hidden": true}
def place_solution(d, h, w):
    start, end = (np.array(ds.ImagePositionPatient, float) for ds in (first, last))
    across, down = np.array(first.ImageOrientationPatient, float).reshape(2, 3)
    step = (end - start) / (len(headers) - 1)
    between_rows, between_columns = first.PixelSpacing
    return start + d * step + h * between_rows * down + w * between_columns * across


# %%
def by_affine(d, h, w):
    return (volume.affine @ [d, h, w, 1])[:3]


for mine in (place_mm, place_solution):
    rw.check.matches(mine, by_affine, cases=[(0, 0, 0), (132, 511, 5), (60, 100, 300)])

# %% [markdown]
# ## What is in the inbox?
# Nobody's archive is clean. We fill a folder with a CT, a report, a treatment plan, a dose grid, an ultrasound, and
# with files that we damage ourselves. A tool that stops at the first bad file is useless; one that skips it in silence
# is worse.

# %%
source = Path(pydicom.__file__).parent / "data" / "test_files"
for name in (
    "CT_small",
    "MR_small",
    "MR_truncated",
    "reportsi",
    "rtplan",
    "rtdose",
    "examples_rgb_color",
):
    shutil.copy(source / f"{name}.dcm", inbox)
whole = path.read_bytes()
(inbox / "cut.dcm").write_bytes(whole[: len(whole) // 2])
(inbox / "empty.dcm").write_bytes(b"")
(inbox / "letter.dcm").write_bytes(b"Dear colleague, thank you for sending Mr XXXX.")
faults = [
    ("giant", "Rows", 60000),
    ("no_place", "PixelSpacing", [0, 0]),
    ("flat", "RescaleSlope", 0),
]
for name, keyword, value in faults:
    ds = pydicom.dcmread(path)
    setattr(ds, keyword, value)
    ds.save_as(inbox / f"{name}.dcm")

# %%
index = rw.curate.index(inbox)
refused = index[index.refused != ""]
with pd.option_context("display.max_colwidth", None):
    display(
        refused[["refused"]]
        .style.format(escape="html")
        .hide(axis="index")
        .set_properties(**{"text-align": "left"})
    )
spaceless = index[(index.refused == "") & index.row_mm.isna()]
Markdown(
    f"We see that all {len(list(inbox.iterdir()))} files are rows ({len(index)}); {len(refused)} are refused, "
    f"each with its reason. {len(spaceless)} more read, but have no honest spacing, and nobody invents one: "
    f"*{spaceless.notes.iloc[-1]}*."
)

# %% [markdown]
# ## What do 3,955 real reports say?
# Open-i holds the chest radiograph reports of Indiana University, with names replaced by XXXX (Demner-Fushman et al.
# 2016, [doi 10.1093/jamia/ocv080](https://doi.org/10.1093/jamia/ocv080)). A report has sections, and which of them a
# model learns from is a choice. By hand: cut at a word in capitals and a colon.

# %%
reports = rw.data.reports(rw.data.fetch("openi-reports"))


def sections_by_hand(report):
    pieces = re.split(r"\b(FINDINGS|IMPRESSION|INDICATION|COMPARISON):", report)
    return {
        name.lower(): text.strip()
        for name, text in zip(pieces[1::2], pieces[2::2], strict=True)
    }


def sections_of_radwb(report):
    return {name: text for name, text in rw.curate.sections(report).items() if text}


plain = reports.report[
    reports.report.str.count(r"\b[A-Z]{7,}:") == reports.report.str.count(": ")
]
rw.check.matches(
    sections_by_hand, sections_of_radwb, cases=[(report,) for report in plain.head(500)]
)

# %%
parts = reports.report.map(rw.curate.sections).apply(pd.Series)
there = (
    (parts != "")
    .mean()
    .drop("other")
    .rename("share")
    .rename_axis("section")
    .reset_index()
)
there = there[there.share > 0]  # the other kinds of section stand in no report here
words = {
    name: parts.loc[parts[name] != "", name].str.split().str.len()
    for name in ("findings", "impression")
}
display(
    rw.show.bars(
        there,
        x="section",
        y="share",
        y_title="share of the reports",
        title="Some have no findings",
    )
)
display(rw.show.hist(words, x_title="words", bins=40, title="Impressions are short"))
Markdown(
    f"We see that {(parts.findings == '').mean():.0%} of the reports have no findings section and "
    f"{(parts.impression == '').mean():.1%} no impression; the medians are {words['findings'].median():.0f} and "
    f"{words['impression'].median():.0f} words."
)

# %% [markdown]
# ## How many reports are the same report?
# Contrastive pretraining tells pairs apart. Two equal texts cannot be told apart, so it matters how many there are.

# %%
texts = {
    name: parts.loc[parts[name] != "", name].str.lower()
    for name in ("findings", "impression")
}
copies = {name: text.duplicated(keep=False).mean() for name, text in texts.items()}
common = texts["impression"].value_counts()
display(common.head(5).rename("reports").to_frame())
favourite = common.iloc[0] / len(texts["impression"])
Markdown(
    f"We see that {copies['findings']:.0%} of the findings and {copies['impression']:.0%} of the impressions "
    f"stand more than once, word for word. The favourite covers {favourite:.0%} of all impressions. Notebook 2 counts "
    "equal texts as the pairs they are."
)

# %% [markdown]
# ## Does "effusion" mean effusion?
# Experts coded what each report states (column `mesh`). A labeller that looks for the word ignores that radiologists
# mostly write what is **not** there. We let it read the negation as well (Chapman et al. 2001,
# [doi 10.1006/jbin.2001.1029](https://doi.org/10.1006/jbin.2001.1029)).

# %%
NEGATED = re.compile(
    r"\b(no|without|negative for|free of|clear of)\b.*effusion|effusion.*\b(resolved|absent)\b"
)


def mentions(text):
    return int("effusion" in text.lower())


def states(text):
    sentences = re.split(r"(?<=[.;])\s+", text.lower())
    return int(any("effusion" in s and not NEGATED.search(s) for s in sentences))


text = reports.findings + " " + reports.impression
truth = reports.mesh.str.contains("Pleural Effusion").astype(int)

# %%
rows = []
for name, rule in {"the word": mentions, "the word, not negated": states}.items():
    said = text.map(rule)
    found, false = (said & truth).sum(), (said & (1 - truth)).sum()
    rows.append(
        {
            "rule": name,
            "found": found,
            "missed": truth.sum() - found,
            "false alarms": false,
            "precision": round(found / said.sum(), 2),
            "sensitivity": round(found / truth.sum(), 2),
        }
    )
confusion = pd.DataFrame(rows).set_index("rule")
display(confusion)
naive_rule, reader = (row for _, row in confusion.iterrows())
Markdown(
    f"We see that a word is no finding: {text.map(mentions).sum():,} reports name an effusion, the experts coded "
    f"{truth.sum()}. Reading the negation lifts precision from {naive_rule.precision} to {reader.precision}; "
    f"sensitivity goes from {naive_rule.sensitivity} to {reader.sensitivity}."
)

# %%
wrong = (text.map(states) == 1) & (truth == 0)
sentences = (
    text[wrong]
    .str.extract(r"([^.]*effusion[^.]*\.?)", flags=re.IGNORECASE)[0]
    .dropna()
    .str.strip()
)
hedged = sentences.str.contains(
    r"\b(?:may|could|question|versus|possib|suspect|represent|likely)", case=False
)
examples = (
    sentences.head(6)
    .rename("false alarms, as written")
    .to_frame()
    .style.format(escape="html")
    .hide(axis="index")
)
display(examples.set_properties(**{"text-align": "left"}))
Markdown(
    f"We see why: {hedged.sum()} of the {len(sentences)} false alarms hedge. A label needs a third value, and the "
    "table has one: -1, uncertain."
)

# %% [markdown]
# ## A cohort whose truth is known
# Real labels are opinions. From here on the workbench uses **virtual patients** as well: radiographs projected from the
# CT above, bent into many bodies, with findings and devices that were placed in 3-D, so that label, mask and report are
# known. It's one patient's anatomy, a simulator, and the notebooks say so. Would you find what was planted?

# %%
table = rw.data.check_table(rw.simulate.cohort(n=n, seed=0))
findings = rw.data.findings_of(table)
rng, anatomy = np.random.default_rng(7), rw.simulate.default_anatomy()
sheet = [
    rw.simulate.draw(name, anatomy, rng, severity=0.8, side="left") for name in findings
]
films = [rw.simulate.render([f], seed=k, anatomy=anatomy) for k, f in enumerate(sheet)]
display(
    rw.show.grid(
        films, titles=findings, columns=5, cell=180, title="Find it (simulator)"
    )
)
display(
    rw.show.grid(
        films,
        titles=findings,
        columns=5,
        cell=180,
        truth=True,
        title="What was planted",
    )
)
several = (table[findings] == 1).sum(axis=1)
Markdown(
    f"We see {len(findings)} kinds. The cohort has {len(table):,} radiographs of {table.patient_id.nunique():,} "
    f"virtual patients, {(several == 0).mean():.0%} without any finding and {(several > 1).mean():.0%} with several; "
    + ", ".join(f"{f.lower()} in {table[f].mean():.0%}" for f in findings)
    + "."
)

# %% [markdown]
# ### What did the CT bring along?
# Every virtual patient is this one CT, so whatever is wrong with it is wrong with all of them. Its makers looked at the
# labels, the masks and the words, and for months not at the CT. Then somebody opened it in a lung window.

# %%
display(
    rw.simulate.ct_findings()
    .style.hide(axis="index")
    .set_properties(**{"text-align": "left"})
)
scanned = rw.simulate.default_anatomy(as_scanned=True)
films = [rw.simulate.render(anatomy=chest, seed=1) for chest in (scanned, anatomy)]
display(
    rw.show.grid(
        films,
        titles=["as scanned", "repaired"],
        columns=2,
        cell=330,
        title="No finding planted",
    )
)
Markdown(
    "We see a mass at the left hilum and a white spot at the right apex, in a film whose label says that there is "
    "nothing. On the right, lung from elsewhere in the same chest has taken their place."
)

# %% [markdown]
# What shows that it is gone? A detector of balls, which knows nothing of the place: it smooths the CT at seven sizes,
# and asks each time how far a voxel lies above its surroundings (the Laplacian of a Gaussian).

# %%
import nibabel as nib

from radwb.simulate import repair

files = rw.data.fetch("lidc-ct")
hu, organs = (
    np.asarray(nib.load(files / name).dataobj) for name in ("cxr.nii.gz", "mask.nii.gz")
)
voxel_mm = nib.load(files / "cxr.nii.gz").header.get_zooms()
healed, _ = repair.healthy(hu, organs, voxel_mm)
x, y, z = repair.MASS.centre
around = np.s_[x - 75 : x + 75, y - 75 : y + 75]  # 105 mm
slices = [
    rw.data.Scan(np.clip((ct[around][..., z].T[::-1] + 1350) / 1500, 0, 1))
    for ct in (hu, healed)
]
display(
    rw.show.grid(
        slices,
        titles=["as scanned", "repaired"],
        columns=2,
        cell=330,
        title="The place, lung window",
    )
)

# %%
upper = np.s_[..., 40:110]  # the slices around it
lungs = np.isin(organs[upper], repair.LUNGS)
balls = [
    rw.simulate.blob_response(ct[upper], lungs, voxel_mm, grid_mm=2.0)
    for ct in (hu, healed)
]
grid = np.indices(balls[0].shape).T * np.divide(lungs.shape, balls[0].shape) * voxel_mm
away = np.linalg.norm(grid - np.multiply([x, y, z - 40], voxel_mm), axis=-1).T
answers = [np.nanmax(b[away < 14]) / np.nanpercentile(b[away > 35], 99) for b in balls]
Markdown(
    f"We see that the place answers with {answers[0]:.1f} times what 99 in 100 places of the lungs stay below as "
    f"scanned, and with {answers[1]:.1f} times after the repair: vessels, and no ball."
)

# %% [markdown]
# ### What do false reports do to a model?
# We film the same virtual patients a second time, with the CT as scanned. Labels and reports stay as they are, and are now
# wrong wherever they deny a lesion. How many are there?

# %%
lesion = "Lung Lesion"
pair = {
    "as scanned": rw.simulate.cohort(n=n_twice, seed=0, anatomy=scanned),
    "repaired": rw.simulate.cohort(n=n_twice, seed=0),
}
free = (pair["as scanned"][lesion] == 0).to_numpy()
denial = r"\b[Nn]o\b[^.]*nodule or mass|lungs are clear|No acute|Normal chest"
denied = pair["as scanned"].report[free].str.contains(denial)
Markdown(
    f"We see that {free.sum()} of {n_twice} films show the tumour and are labelled free of a "
    f"lesion. {denied.sum()} of their reports deny it in words."
)

# %% [markdown]
# Now let a detector learn from each cohort. It looks through the released model, whose tower stays as it is (notebook 2
# makes it), and learns one weight a channel: every patch gets a score, and the highest scores speak for the film. Same
# patients, same labels, same starting point; the tumour is all that differs.

# %%
model = rw.models.load("radwb-tiny")


def patches(cohort):
    """(N, patches, channels) of the frozen tower."""
    images = rw.data.images(cohort, model.size, fit=model.fit)
    features = torch.tensor(rw.fail.patch_features(model, images))
    return features.unflatten(1, (model.grid[0] * model.grid[1], -1))


tokens = {name: patches(cohort) for name, cohort in pair.items()}
middle, spread = tokens["repaired"].mean((0, 1)), tokens["repaired"].std((0, 1))
tokens = {
    name: (each - middle) / spread for name, each in tokens.items()
}  # one scale for both
labels = torch.tensor(pair["repaired"][lesion].to_numpy(), dtype=torch.float32)
is_test = torch.tensor((pair["repaired"]["split"] == "test").to_numpy())


# %%
def of_film(scores):
    """(B, patches) -> (B,): a smooth maximum, one high patch is enough."""
    return torch.logsumexp(scores, dim=1) - np.log(scores.shape[1])


# %%
def learn(tokens, labels, seed):
    """A linear score of a patch, learnt from films; nobody shows it a place."""
    torch.manual_seed(seed)
    score = torch.nn.Linear(tokens.shape[-1], 1)
    optimiser = torch.optim.AdamW(score.parameters(), lr=0.01, weight_decay=0.01)
    for rows in torch.randperm(len(tokens) * passes).remainder(len(tokens)).split(64):
        logits = of_film(score(tokens[rows]).squeeze(-1))
        loss = torch.nn.functional.binary_cross_entropy_with_logits(
            logits, labels[rows]
        )
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return score


# %%
test_free = free[is_test.numpy()]
rows, maps = [], {}
for taught, seed in product(tokens, range(seeds)):
    score = learn(tokens[taught][~is_test], labels[~is_test], seed)
    for shown, films in tokens.items():
        with torch.no_grad():
            maps[taught, shown, seed] = score(films[is_test]).squeeze(-1)
    own, other = (
        of_film(maps[taught, shown, seed]).numpy()
        for shown in ("repaired", "as scanned")
    )
    alarm = np.quantile(
        own[test_free], 0.9
    )  # one false alarm in ten films without a tumour
    answer = {"repaired": own, "as scanned": other}[taught]
    auroc = rw.stats.auroc(labels[is_test], answer)
    rows.append(
        {
            "taught": taught,
            "seed": seed,
            "auroc": auroc,
            "alarms": (other[test_free] > alarm).mean(),
        }
    )

# %%
taught = pd.DataFrame(rows).pivot(index="seed", columns="taught")
long = taught.stack("taught", future_stack=True).reset_index()
look = dict(x="taught", y="alarms", line=0.1, y_title="share that raises an alarm")
display(
    rw.show.bars(
        long.groupby("taught", as_index=False)["alarms"].mean(),
        **look,
        title="Films with the tumour, mean of the seeds",
    )
)
names = ("taught by true labels", "taught by false ones")
true_minus_false = {
    what: rw.stats.compare_seeds(
        taught[column]["repaired"],
        taught[column]["as scanned"],
        names=names,
        what=what,
        family=2,
    )
    for column, what in (
        ("auroc", "AUROC in its own world"),
        ("alarms", "share of tumours that raise an alarm"),
    )
}

# %%
looks_away = {
    "ahead": "False reports have taught the detector to look away from a real tumour.",
    "can't tell": "Whether false reports teach a detector to look away, this can't tell.",
    "behind": "False reports have not taught the detector to look away.",
}[true_minus_false["share of tumours that raise an alarm"].verdict]
Markdown(
    "We see over training seeds: "
    + "; ".join(f"{what}: {c}" for what, c in true_minus_false.items())
    + ". "
    f"The dashed line is the one alarm in ten that films without a tumour raise. **{looks_away}**"
)

# %% [markdown]
# Where on the film? The change of each patch's score when the tumour is put into the film, averaged over films that
# are labelled free and over the seeds.

# %%
changes = {}
for name in tokens:
    gained = [
        maps[name, "as scanned", seed] - maps[name, "repaired", seed]
        for seed in range(seeds)
    ]
    mean = torch.stack(gained).mean(0)[torch.tensor(free)[is_test]].mean(0)
    changes[name] = pd.DataFrame(mean.reshape(model.grid).numpy()).round(2)
for name, change in changes.items():
    display(
        rw.show.heatmap(
            change,
            label="change of the score",
            title=f"Taught {name}",
            limits=(-1.2, 1.2),
        )
    )
Markdown(
    f"We see the score of the film's patches change by {changes['repaired'].to_numpy().mean():+.2f} on average where the "
    f"labels were true, by {changes['as scanned'].to_numpy().mean():+.2f} where they were false. Patches of a transformer "
    "see one another, so the change isn't confined to the tumour's place."
)

# %% [markdown]
# ### What does a ray see?
# Each tissue weakens X-rays by its mass along the ray, and soft rays more than hard ones (NIST's tables). Behind thick
# tissue only the hard ones are left. By hand: the energy that passes through `cm` of water, over four energies.

# %%
from radwb.simulate import physics

keV, mu = np.array(physics.KEV), np.array(physics.MASS_ATTENUATION["water"])  # cm2/g


def passed_by_hand(cm):
    energy = (
        np.array(physics.BEAMS["90 kVp"]) * keV
    )  # what each part of the beam carries
    return (energy * np.exp(-mu * cm)).sum() / energy.sum()


def passed(cm):
    water, none = torch.tensor([[float(cm)]]), torch.zeros(1, 1)
    return float(
        physics.transmit(physics.Paths(soft=water, bone=none, metal=none), "90 kVp")
    )


rw.check.matches(passed_by_hand, passed, cases=[(1,), (10,), (25,)])
first, deep = -np.log(passed(1)), -np.log(passed(25) / passed(24))
Markdown(
    f"We see that the first centimetre of water weakens this beam by {1 - np.exp(-first):.0%}, the 25th by "
    f"{1 - np.exp(-deep):.0%}: the beam hardens. {passed(25):.2%} arrive, and a chest film lives on those."
)

# %% [markdown]
# ### When is a finding visible?
# A mass is seen against ribs and vessels, not against nothing. Its **contrast-to-noise ratio** (CNR) is the change it
# makes over the spread of what lies around it. The same mass at four of them:

# %%
mass = rw.simulate.Finding(
    "Lung Lesion", 0.5, "right", (-75.0, 10.0, 70.0), "right upper lobe", "solid"
)
dial = (0.25, 0.5, 1.0, 2.0)
films = [rw.simulate.render([mass], cnr=level, anatomy=anatomy) for level in dial]
display(
    rw.show.grid(
        films,
        titles=[f"CNR {level}" for level in dial],
        columns=4,
        title="One mass, four contrasts",
    )
)
seen = table["Lung Lesion cnr"].dropna()
Markdown(
    f"We see it grow out of the ribs. In the cohort half of the lung lesions have a CNR below {seen.median():.2f}; "
    f"{(seen < 0.5).mean():.0%} lie below 0.5, and they are positives all the same, as in life."
)

# %% [markdown]
# ### Do virtual reports read like real ones?
# A grammar wrote them, from what was planted, in the styles of six reporters. It was set by counting in the Open-i
# reports; none of their sentences was copied. The same counts on both sides:

# %%
real_counts = rw.simulate.report_statistics(list(reports.report))
counts = pd.DataFrame(
    {"real": real_counts, "virtual": rw.simulate.report_statistics(list(table.report))}
).round(2)
display(counts)
example = table.report[several.to_numpy() > 1].iloc[0]
Markdown(
    f"We see a median of {counts.virtual.words:.0f} words against {counts.real.words:.0f} in real reports, and "
    f"{counts.virtual.negated:.0%} against {counts.real.negated:.0%} of the mentions denied; but only "
    f"{counts.virtual.vocabulary:.0f} different words in a thousand against {counts.real.vocabulary:.0f}: "
    f"the grammar is narrow. One of them: *{example}*"
)

# %% [markdown]
# ### How far is a simulator from real films?
# Tell virtual from real, and see how easily it goes: grey values, texture, and a classifier that is told to tell them
# apart. Where `RADWB_MIRROR` holds real adult films we take those, else 16 films of children, which differ for other reasons, too.

# %%
try:
    real = rw.data.real("covid-text")
    real, whose = real[real.view.isin(["PA", "AP"])], "real adult films"
except rw.data.FetchError:
    real, whose = rw.data.real("kermany-16"), "real films of children"
gap = rw.simulate.realism(
    table.drop_duplicates("patient_id").head(max(60, len(real))), real, n_boot=n_boot
)
print(gap)
across = "log2 of cycles across the film"
spectra = gap.spectra.assign(**{across: np.log2(gap.spectra.cycles)}).rename(
    columns={"real": whose}
)
display(
    rw.show.curve(
        spectra,
        x=across,
        panels={"log power (dB)": ["virtual", whose]},
        title="Power by frequency, virtual and real",
    )
)

# %%
from contextlib import suppress

hearts = {"virtual": table["cardiothoracic_ratio"]}
with suppress(
    rw.data.FetchError
):  # where RADWB_MIRROR holds films on which somebody drew heart and lungs
    hearts["real, drawn by hand"] = rw.simulate.add_ratios(rw.data.real("covid-masks"))[
        "cardiothoracic_ratio"
    ].dropna()
display(
    rw.show.hist(
        hearts,
        density=True,
        x_title="cardiothoracic ratio",
        title="How large are the hearts?",
    )
)

# %%
rows = gap.summary.set_index("measure")
told, chance = (
    rows.loc["AUROC, small pixels, equalised"],
    rows.loc["AUROC, small pixels, real against real"],
)
near = rows.loc["nearest other patient, correlation"]
middles = ", ".join(f"{who} {ratio.median():.2f}" for who, ratio in hearts.items())
alike = "more than" if near.low > 0 else "no less than"
Markdown(
    f"We see medians of {middles}; above 0.5 a heart is called large. A classifier of tiny images tells virtual from "
    f"real with an AUROC of {told.gap:.2f} ({told.low:.2f} to {told.high:.2f}; two halves of the real films: "
    f"{chance.gap:.2f}). Virtual patients resemble one another {alike} real ones do (correlation with the nearest "
    f"{near.virtual:.2f} and {near.real:.2f}). **What a model scores "
    "here says how a method behaves, not how it would do in a hospital.**"
)

# %% [markdown]
# ## Who stands on both sides?
# A patient has several films, and they look alike. Dealing out **images** at random puts films of one patient into
# training and test; the test then measures memory. How much does it leak?

# %%
by_patient = rw.curate.check_split(rw.curate.split_by_patient(table, seed=0))
rng = np.random.default_rng(0)
by_image = table.assign(
    split=rng.permutation(by_patient["split"].to_numpy())
)  # the same sizes, dealt out by image
try:
    rw.curate.check_split(by_image)
except ValueError as error:
    print(error)

# %% [markdown]
# ### Exercise 2: the leak
# Which share of the patients in test is in train, too?


# %%
def leak(table):
    """Share of the test patients who have an image in train."""
    raise NotImplementedError


# %% tags=["solution"] jupyter={"source_hidden": true}
def leak_solution(table):
    train, test = (
        set(table.loc[table["split"] == part, "patient_id"])
        for part in ("train", "test")
    )
    return len(train & test) / len(test)


# %%
sides = by_image.groupby("patient_id")["split"].agg(set)
leaked = float(np.mean([{"train", "test"} <= s for s in sides if "test" in s]))
for mine in (leak, leak_solution):
    rw.check.matches(mine, leaked, by_image)
    rw.check.matches(mine, 0.0, by_patient)
Markdown(
    f"We see that a split by image puts {leaked:.0%} of the test patients into train; a split by patient puts "
    f"{leak_solution(by_patient):.0%} there."
)

# %% [markdown]
# ## Can a table diagnose oedema without an image?
# A portable film (view AP) is taken of those too ill to stand. In NIH ChestX-ray14 (Wang et al. 2017,
# [arXiv 1705.02315](https://arxiv.org/abs/1705.02315)) we give a reader nothing but the view, then age, sex and the
# number of the visit as well. **No pixels.**

# %%
raw = pd.read_csv(rw.data.fetch("nih-tables") / "Data_Entry_2017_v2020.csv.gz")
nih = raw[["Patient ID", "Patient Age", "Follow-up #"]].set_axis(
    ["patient_id", "age", "visit"], axis=1
)
nih["AP"], nih["female"] = (
    (raw["View Position"] == "AP").astype(int),
    (raw["Patient Gender"] == "F").astype(int),
)
words_of = {
    "Edema": "Edema",
    "Pneumothorax": "Pneumothorax",
    "Pleural Effusion": "Effusion",
    "Lung Lesion": "Mass|Nod",
}
truth = pd.DataFrame(
    {
        name: raw["Finding Labels"].str.contains(part).astype(int)
        for name, part in words_of.items()
    }
)
nih = rw.curate.split_by_patient(nih, seed=0)
train, test = (nih["split"] == part for part in ("train", "test"))
print(
    f"{len(nih):,} radiographs of {nih.patient_id.nunique():,} patients; AP: {nih.AP.mean():.0%}"
)

# %%
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

answers = {}
for name, columns in {
    "view alone": ["AP"],
    "view, age, sex, visit": ["AP", "age", "female", "visit"],
}.items():
    fits = {
        f: make_pipeline(StandardScaler(), LogisticRegression()).fit(
            nih.loc[train, columns], truth.loc[train, f]
        )
        for f in words_of
    }
    values = pd.DataFrame(
        {f: fit.predict_proba(nih.loc[test, columns])[:, 1] for f, fit in fits.items()}
    )
    scores = rw.probe.Scores(
        values, truth[test].reset_index(drop=True), nih.patient_id[test].to_numpy()
    )
    answers[name] = scores.auroc()

# %%
oedema, control = (
    answers["view alone"].set_index("finding").loc["Edema"],
    scores.null(20),
)
display(
    rw.show.forest(
        {**answers, "labels shuffled, 20 times": control[:-1]},
        title="What a reader without pixels knows",
    )
)
Markdown(
    f"We see that the view alone gives an AUROC of {rw.stats.format_interval(oedema)} for oedema on unseen patients. A "
    "network that scores as much has perhaps learnt to tell AP from PA."
)

# %%
lines = [
    f"**Look at the data first**: {free.sum()} of {n_twice} films showed a tumour that their labels deny. {looks_away}",
    f"**Headers decide what a model sees**: {len(refused)} of {len(index)} files were refused, each with its reason; "
    f"an inverted copy correlates {same[1]:.2f} with its original when one field is ignored.",
    f"**Words are not findings**: precision {naive_rule.precision} for the word, {reader.precision} with its negation.",
    f"**A split by image leaks {leaked:.0%}** of the test patients; the view without pixels reaches {oedema.auroc:.2f}.",
]
rw.book.headline(
    files=len(index),
    refused=len(refused),
    effusion_precision=float(reader.precision),
    leak_by_image=leaked,
    oedema_auroc_by_view=rw.stats.format_interval(oedema),
)
Markdown("## What we found\n" + "\n".join(f"- {line}" for line in lines))

# %% [markdown]
# ## Where it breaks
# - A flipped grey scale with a wrong field, a name burnt into the pixels, a wrong patient identifier: no header tells.
# - The labeller knows one word of one language, and the experts' codes are themselves an opinion; where the report is
#   silent, nobody knows.
# - A split by `patient_id` is as good as the identifier: one person under two numbers still leaks.
# - NIH's labels were mined from reports with rules like ours; part of the AUROC above may be the miner's.
