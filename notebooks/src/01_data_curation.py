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
# A model believes whatever its files say. Files are inverted, cut short or not images at
# all; reports deny more than they state; the same patient comes twice; and a table can give
# the answer away without a single pixel.
#
# **You will** read a DICOM file by hand, plant an inverted radiograph, put a CT together in
# millimetres, index a folder that holds damaged files and ask a server for its films, cut
# 3,955 real reports into sections, label them and see the words that decided, look for what
# a simulator planted, find names where nobody looks and take them out, split by patient,
# measure what a wrong split and a film under two numbers leak, predict oedema from a table
# alone, and turn a messy drawer into shards with a data card that can be defended.
#
# **Needs**: notebook 0; 4 minutes on two CPU cores, 2 more to simulate the cohorts the first
# time; `pip install 'radwb[curate]'` to read words in pixels, ask a server, write a card. **Data**: chest CT
# LIDC-IDRI-0001 as DICOM (CC BY 3.0); Open-i reports (CC BY-NC-ND 4.0, read in place); NIH
# ChestX-ray14 table (free use with attribution); pydicom's test files (MIT); the simulator;
# where they are, public COVID films (mostly CC BY-NC-SA).
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
import torch.nn.functional as F
from IPython.display import Markdown

import radwb as rw

# %% [markdown]
# These are the numbers on which this page depends. In a fast run, a check of the
# machine, the smaller ones behind `fast:` are taken.

# %% tags=["parameters"]
n = 2400  # virtual radiographs in the cohort; notebooks 2 to 5 use the same
low, high = -160, 240  # window for soft tissue, HU
n_boot = 200  # resamples of the reports
n_audit = 400  # virtual radiographs that are audited; fast: 120
n_drawer = 30  # of them lie in the drawer that becomes a published cohort; fast: 16
n_twice = 800  # of them are filmed again, with the CT as scanned; fast: 60
seeds = 5  # trainings of each detector; fast: 2
passes = 20  # over its films, each training; fast: 2

# %% [markdown]
# ## How do stored numbers become an image?
# A CT file stores integers. Two fields, a slope and an intercept, turn them into Hounsfield
# units (water 0, air -1000). A **window** then turns those into grey: below it all is black,
# above it all is white, and between its ends grey rises in a straight line. How many lines
# of code does that take?
#
# `dcmread` reads the file, and `ds` (the data set) has its fields by name. `np.clip`
# cuts off what is below 0 and above 1.

# %%
folder = rw.data.fetch("lidc-dicom")
path = sorted(folder.glob("*.dcm"))[70]


def by_hand(path, window):
    ds = pydicom.dcmread(path)
    hu = ds.pixel_array * float(ds.RescaleSlope) + float(ds.RescaleIntercept)  # (H, W)
    black, white = window
    return np.clip((hu - black) / (white - black), 0, 1)


# %% [markdown]
# Three lines. The package does the same, and more: it knows compressed files, colour, and
# fields that contradict one another. On this file the two must agree. `rw.check.matches`
# calls both on three windows that radiologists use, and shows the largest difference.


# %%
def by_radwb(path, window):
    return rw.data.read(path, window=window).pixels


windows = {"soft tissue": (low, high), "lung": (-1350, 150), "bone": (-450, 1050)}
cases = [(path, window) for window in windows.values()]
rw.check.matches(by_hand, by_radwb, cases=cases)

# %% [markdown]
# From here on we may use the package's reader. What do the three windows show of the same
# numbers?
#
# A `Scan` has `pixels` from 0 to 1 and knows the size of a pixel in millimetres.

# %%
views = {name: rw.data.read(path, window=window) for name, window in windows.items()}
rw.show.grid(
    list(views.values()),
    titles=[f"{name}, {a} to {b} HU" for name, (a, b) in windows.items()],
    columns=3,
    title="One slice, three windows",
)

# %% [markdown]
# In the first picture the lungs are black holes, in the second one sees their vessels, and
# in the third the ribs have an inside. How much of the slice is neither black nor white?
#
# The mean of true and false is a share.


# %%
def share_of_grey(scan):
    return ((scan.pixels > 0) & (scan.pixels < 1)).mean()


Markdown(
    "We see that a window is a choice: for soft tissue "
    f"{share_of_grey(views['soft tissue']):.0%} of the pixels are grey, for lung "
    f"{share_of_grey(views['lung']):.0%}."
)

# %% [markdown]
# What is clipped is gone for the model, too. It can't learn about lungs from a picture in
# which they are black.
#
# ## What if the file is upside down in grey?
# In the photometric interpretation MONOCHROME1 the largest number is black. Some detectors
# store radiographs so, and a reader that ignores the field sees air as bone. We write a
# radiograph of a virtual patient, who has a mass in the right lung, and plant such a copy
# beside it: the numbers are turned over, and the fields say so. Does anybody notice?
#
# We work in an empty folder that the machine may throw away later. `dx_data_set` makes
# a data set of the kind that a digital radiograph has (DX), with 12 bits a pixel, so 0 to
# 4095.

# %%
from radwb.simulate.files import dx_data_set

inbox = Path(tempfile.mkdtemp())
centre_mm = (-75, 10, 70)
mass = rw.simulate.Finding("Lung Lesion", 0.9, "right", centre_mm, kind="solid")
radiograph = rw.simulate.render([mass], seed=1)
ds = dx_data_set(radiograph, {"patient_id": "0007"}, "plain", seed=0)
ds.save_as(inbox / "plain.dcm", enforce_file_format=True)
turned_over = 4095 - ds.pixel_array
ds.PixelData = turned_over.tobytes()
ds.PhotometricInterpretation = "MONOCHROME1"
ds.PresentationLUTShape = "INVERSE"  # the same said again, for viewers
ds.save_as(inbox / "inverted.dcm", enforce_file_format=True)

# %% [markdown]
# We read both files, and imitate a reader that ignores the field by turning the grey over
# once more.
#
# The package's reader knows the field, so its `copy` is already the right way up.

# %%
original = rw.data.read(inbox / "plain.dcm")
copy = rw.data.read(inbox / "inverted.dcm")
naive = rw.data.Scan(1 - copy.pixels)
rw.show.grid(
    [original, naive, copy],
    titles=["original", "copy, field ignored", "copy, read"],
    columns=3,
    title="One radiograph, stored in two ways (simulator)",
)

# %% [markdown]
# The picture in the middle looks like a negative. A correlation puts it into a number: 1 for
# the same image, -1 for the opposite.
#
# `ravel` makes one long row of the pixels.


# %%
def likeness(scan):
    return np.corrcoef(original.pixels.ravel(), scan.pixels.ravel())[0, 1]


Markdown(
    f"We see that the correlation with the original is {likeness(naive):.2f} when the "
    f"field is ignored and {likeness(copy):.2f} when it's read."
)

# %% [markdown]
# Both copies are valid files; only the field tells them apart for sure. A model that is
# trained on a mixture of the two learns that dense is sometimes white and sometimes black.
#
# ## Where in the patient is a voxel?
# A series is a heap of files whose names mean nothing. The order comes from the patient's
# coordinates, which stand in each header. And the distance between slices is not the
# distance between pixels. `rw.data.read` takes the whole folder.
#
# It sorts the slices, checks that none is missing or double, and keeps the distances.

# %%
volume = rw.data.read(folder)
rw.show.planes(volume, window_hu=(-1000, 400), title="133 files, one patient")

# %% [markdown]
# The two upright planes are cut across all files. They would look like a staircase if a
# single file were in the wrong place. What are the distances?
#
# A voxel has a depth, a height and a width. In a CT the first is often the largest.

# %%
depth, height, width = volume.spacing_mm
Markdown(
    f"We see {volume.shape[0]} slices {depth:.2f} mm apart with pixels of {height:.2f} "
    "mm. Drawn as if voxels were cubes, the patient would be squeezed to "
    f"{height / depth:.0%} of his height."
)

# %% [markdown]
# ### Exercise 1: from index to millimetres
# A surgeon asks where voxel (d, h, w) lies in the patient: slice d, row h, column w. DICOM
# gives three fields. `ImagePositionPatient` is the centre of the first pixel.
# `ImageOrientationPatient` has six numbers, the direction along a row and then down a
# column. `PixelSpacing` has the distance between rows, then the one between columns.
#
# First we read the headers alone, which is fast, and sort them by height.
#
# The third number of a position is the height, counted towards the head.


# %%
def height_mm(header):
    return header.ImagePositionPatient[2]


files = sorted(folder.glob("*.dcm"))
headers = [pydicom.dcmread(file, stop_before_pixels=True) for file in files]
headers.sort(key=height_mm)
first = headers[0]
last = headers[-1]
first.ImagePositionPatient, first.ImageOrientationPatient, first.PixelSpacing

# %% [markdown]
# `first` and `last` are the headers of the lowest and the highest slice. Walk from the first
# pixel of the lowest slice: d steps up, h steps down the column, w steps along the row.


# %%
def place_mm(d, h, w):
    """(3,) left, posterior, superior of a voxel, mm."""
    raise NotImplementedError


# %% [markdown]
# *Hints.* If only the first case is right, look at which of the three millimetres is
# off in the second: it tells you which step is wrong. There is one step fewer than
# there are slices. And `PixelSpacing` begins with the distance between rows, which is a
# step down.


# %% tags=["solution"] jupyter={"source_hidden": true}
def place_solution(d, h, w):
    start = np.array(first.ImagePositionPatient, float)
    end = np.array(last.ImagePositionPatient, float)
    across, down = np.array(first.ImageOrientationPatient, float).reshape(2, 3)
    step = (end - start) / (len(headers) - 1)
    between_rows, between_columns = first.PixelSpacing
    return start + d * step + h * between_rows * down + w * between_columns * across


# %% [markdown]
# The package keeps all of this in one matrix, the **affine**. It takes an index, with a 1
# behind it, to millimetres. The check asks for three voxels, two of them in corners.


# %%
def by_affine(d, h, w):
    return (volume.affine @ [d, h, w, 1])[:3]


cases = [(0, 0, 0), (132, 511, 5), (60, 100, 300)]
for mine in (place_mm, place_solution):
    rw.check.matches(mine, by_affine, cases=cases)

# %% [markdown]
# ### What if a slice never arrived?
# We copy twelve neighbours into a folder and leave one out. By hand, the heights tell: all
# steps between slices should be alike.

# %%
gap = inbox / "gap"
gap.mkdir()
arrived = [*headers[40:46], *headers[47:52]]
for header in arrived:
    shutil.copy(header.filename, gap)
steps_mm = np.diff([height_mm(header) for header in arrived])
steps_mm.round(1)

# %% [markdown]
# One step is twice the others, and that is where the slice is missing. A reader that only
# counts files would move everything above it down by a slice, and nobody would see it.
#
# `rw.curate.series` sorts a heap of files into series, a row each, and names what keeps one
# from being a volume: a slice missing or double, a tilted gantry, two series under one
# number. Long words are easier to read at the left, so we write a small function for tables
# of them.
#
# `escape` is a habit worth having: words from a file could be HTML, and are shown as
# words.


# %%
def words_in_full(table):
    styled = table.style.format(escape="html").hide(axis="index")
    return styled.set_properties(**{"text-align": "left"})


heap = rw.curate.series(gap)
words_in_full(heap[["modality", "slices", "orientation", "problems"]])

# %% [markdown]
# Nothing is filled in: a slice that a program makes up looks like any other, and so does the
# nodule in it. `rw.curate.read_volume` refuses such a row until you name the problem that you
# accept. A slice missing at an end leaves no gap, and nobody can see it.
#
# ## What is in the inbox?
# Nobody's archive is clean. We fill a folder with a CT, an MR, a report, a treatment plan, a
# dose grid and an ultrasound, all from pydicom's test files. A tool that stops at the first
# bad file is useless; one that skips it in silence is worse.
#
# The test files are small, they come with a package that we have anyway, and somebody
# has made each of them for a reason.

# %%
source = Path(pydicom.__file__).parent / "data" / "test_files"
names = ["CT_small", "MR_small", "MR_truncated", "reportsi", "rtplan", "rtdose"]
for name in [*names, "examples_rgb_color"]:
    shutil.copy(source / f"{name}.dcm", inbox)
[file.name for file in sorted(inbox.iterdir())]

# %% [markdown]
# Then we do damage ourselves. One file is cut in half, as by a lost connection; one is
# empty; one is a letter under a wrong name.
#
# The numbers below the cell are the sizes in bytes.

# %%
whole = path.read_bytes()
(inbox / "cut.dcm").write_bytes(whole[: len(whole) // 2])
(inbox / "empty.dcm").write_bytes(b"")
(inbox / "letter.dcm").write_bytes(b"Dear colleague, thank you for sending Mr XXXX.")
{file.name: file.stat().st_size for file in sorted(inbox.iterdir())}

# %% [markdown]
# Three more are whole files whose headers lie: 60,000 rows that aren't there, pixels of no
# size, and a slope of zero, which makes every voxel the same.
#
# `setattr` sets a field by its name. The rest of each file is in order, so a careless
# reader would try.

# %%
faults = {
    "giant": ("Rows", 60000),
    "no_place": ("PixelSpacing", [0, 0]),
    "flat": ("RescaleSlope", 0),
}
for name, (keyword, value) in faults.items():
    ds = pydicom.dcmread(path)
    setattr(ds, keyword, value)
    ds.save_as(inbox / f"{name}.dcm")
len(list(inbox.iterdir()))

# %% [markdown]
# What does the package say of such a file? It raises a `ReadError`, which names the file,
# the field, what was expected and what stands there. A program can catch it and go on.

# %%
try:
    rw.data.read(inbox / "cut.dcm")
except rw.data.ReadError as error:
    print(error)

# %% [markdown]
# `rw.curate.index` does this for a folder. Each file becomes a row, and where one can't be
# read, the column `refused` says why.
#
# A folder that can't be entered and one that is only a link are rows, too. Hidden files,
# whose names begin with a dot, are left out.

# %%
index = rw.curate.index(inbox)
refused = index[index.refused != ""]
words_in_full(refused[["refused"]])

# %% [markdown]
# Each reason names a place in the file, so that one can go and look. Some files that do read
# have a note instead: something is missing that one may need later.
#
# `row_mm` is the distance between two rows of pixels, where the file says it.

# %%
spaceless = index[(index.refused == "") & index.row_mm.isna()]
Markdown(
    f"We see that all {len(list(inbox.iterdir()))} files are rows ({len(index)}); "
    f"{len(refused)} are refused, each with its reason. {len(spaceless)} more read, "
    f"but have no honest spacing: *{spaceless.notes.iloc[-1]}*."
)

# %% [markdown]
# Nobody invents a spacing for them. A millimetre that was made up looks like any other.
#
# ### From files to a table with labels
# A 2-D model takes single pictures. `rw.curate.films` takes those from the index, and a
# warning counts what it leaves out.
#
# A series of slices isn't a film, nor is a file that was refused.

# %%
films = rw.curate.films(index)
films[["patient_id", "modality", "rows", "columns", "row_mm"]]

# %% [markdown]
# Labels often come in another file, such as a CSV from a colleague. Here is one with a
# trap in it: the hospital's patient number begins with zeros. How do two readers take it?
#
# A CSV is plain text, a row a line. It says nothing of types, so every reader has to
# guess what is a number.

# %%
labels_file = inbox / "labels.csv"
labels_file.write_text(
    "path,patient_id,Lung Lesion\nplain.dcm,0007,1\ninverted.dcm,0007,1\n"
)
by_pandas = pd.read_csv(labels_file).patient_id[0]
by_table = rw.data.read_table(labels_file).patient_id[0]
Markdown(
    f"We see that pandas reads the patient as {by_pandas}, `rw.data.read_table` as "
    f"{by_table}."
)

# %% [markdown]
# 7 and 0007 may be two people, or one. A reader that drops zeros has decided that for you.
# So identifiers stay text here. `rw.curate.join_labels` puts the columns of the CSV beside
# the films that it names, and warns about films that it doesn't name.
#
# The names in its column *path* lie in the same folder as the CSV, so the files are
# found.

# %%
labelled = rw.curate.join_labels(films, labels_file)
labelled[["patient_id", "modality", "Lung Lesion"]]

# %% [markdown]
# Where the CSV says nothing, the label is NaN, which means *not mentioned*. It isn't 0,
# which would mean that somebody looked and there was nothing.
#
# ### What if the films lie on a server?
# A hospital's archive speaks DICOMweb: one asks it by keywords (QIDO) and fetches what it
# names (WADO). Where Orthanc, a free archive, is installed, we start one that only this
# machine can reach, give it our radiograph and somebody's CT, and ask for patient 0007.
#
# `with` stops the server at the end, whatever happens.

# %%
from radwb.curate.dicomweb import orthanc

sent = [inbox / "plain.dcm", inbox / "CT_small.dcm"]
try:
    with orthanc(*sent) as server:
        asked = {"query": {"PatientID": "0007"}, "auth": server.auth}
        fetched = rw.curate.from_dicomweb(server.url, inbox / "server", **asked)
    origin = "a server"
except (FileNotFoundError, ImportError):
    origin = "a folder, since no server or client is installed here,"
    fetched = index[index.path == str(sent[0])]
fetched[["patient_id", "modality", "rows", "columns", "refused"]]

# %% [markdown]
# The table is the same as for a folder: a row a file, and one that the server couldn't give
# would be a row with its reason. What was fetched isn't fetched again, so a night's download
# may be stopped and goes on the next evening. Are its pixels those that we sent?

# %%
alike = [likeness(rw.data.read(path)) for path in fetched.path]
Markdown(
    f"We see {len(fetched)} of {len(sent)} files from {origin}; its correlation with the "
    f"original is {min(alike):.2f}."
)

# %% [markdown]
# Public collections come as folders of their own make: one codes *uncertain* as -1, another
# has three readers' boxes, a third writes findings into one column of words.
# `rw.curate.layout(name, folder)` turns such a folder into our table, with labels and splits
# as its makers mean them. These are known:

# %%
known = rw.curate.layouts()
words_in_full(known[["title", "access", "licence"]].reset_index())

# %% [markdown]
# ## What do 3,955 real reports say?
# Open-i holds the chest radiograph reports of Indiana University, with names replaced by
# XXXX (Demner-Fushman et al. 2016,
# [doi 10.1093/jamia/ocv080](https://doi.org/10.1093/jamia/ocv080)). A report has sections,
# and which of them a model learns from is a choice. By hand: cut at a word in capitals and
# a colon.
#
# `re.split` cuts a text and keeps the headings, so they stand at every second place: 1,
# 3, 5, and so on. What belongs to each comes right behind it.

# %%
reports = rw.data.reports(rw.data.fetch("openi-reports"))


def sections_by_hand(report):
    pieces = re.split(r"\b(FINDINGS|IMPRESSION|INDICATION|COMPARISON):", report)
    headings = [heading.lower() for heading in pieces[1::2]]
    texts = [text.strip() for text in pieces[2::2]]
    return dict(zip(headings, texts, strict=True))


sections_by_hand(reports.report[0])

# %% [markdown]
# `rw.curate.sections` knows other headings, and several spellings of each. Where a report
# has nothing but headings of the plain kind, the two must agree. We compare them on 500 such
# reports: those in which every colon stands behind a long word in capitals.
#
# `count` counts the matches of a pattern in each report.


# %%
def sections_of_radwb(report):
    sections = rw.curate.sections(report)
    return {name: text for name, text in sections.items() if text}


headings = reports.report.str.count(r"\b[A-Z]{7,}:")
plain = reports.report[headings == reports.report.str.count(": ")]
cases = [(report,) for report in plain.head(500)]
rw.check.matches(sections_by_hand, sections_of_radwb, cases=cases)

# %% [markdown]
# Now all reports, one column a section. How many reports have each?
#
# A section that isn't there is an empty text.

# %%
parts = pd.DataFrame(list(reports.report.map(rw.curate.sections)), reports.index)
share = (parts != "").mean().drop("other")
share = share[share > 0]  # the other kinds of section stand in no report here
rw.show.bars(
    share.rename("share").rename_axis("section").reset_index(),
    x="section",
    y="share",
    y_title="share of the reports",
    title="Some have no findings",
)

# %% [markdown]
# The *findings* describe, the *impression* concludes. How long are they?
#
# `split` cuts a text at blanks, and the number of pieces is the number of words.


# %%
def texts_of(section):
    return parts.loc[parts[section] != "", section].str.lower()


words = {
    "findings": texts_of("findings").str.split().str.len(),
    "impression": texts_of("impression").str.split().str.len(),
}
rw.show.hist(words, x_title="words", bins=40, title="Impressions are short")

# %% [markdown]
# A model that reads impressions gets the conclusion in few words, and never learns how
# somebody came to it. What do the numbers say?
#
# Half of the reports have more words than the median, half have fewer.

# %%
without_findings = (parts.findings == "").mean()
without_impression = (parts.impression == "").mean()
Markdown(
    f"We see that {without_findings:.0%} of the reports have no findings section and "
    f"{without_impression:.1%} no impression; the medians are "
    f"{words['findings'].median():.0f} and {words['impression'].median():.0f} words."
)

# %% [markdown]
# ## How many reports are the same report?
# Contrastive pretraining tells pairs apart. Two equal texts can't be told apart, so it
# matters how many there are. These are the commonest impressions:

# %%
common = texts_of("impression").value_counts()
common.head(5).rename("reports").to_frame()

# %% [markdown]
# They all say the same, and some differ by one word or one letter. We count only those that
# are equal to the letter.
#
# `duplicated` marks a text that stands more than once. With `keep=False` it marks the
# first of them, too.

# %%
repeated_findings = texts_of("findings").duplicated(keep=False).mean()
repeated_impressions = texts_of("impression").duplicated(keep=False).mean()
Markdown(
    f"We see that {repeated_findings:.0%} of the findings and "
    f"{repeated_impressions:.0%} of the impressions stand more than once, word for "
    f"word. The favourite covers {common.iloc[0] / common.sum():.0%} of all "
    "impressions."
)

# %% [markdown]
# Notebook 2 counts equal texts as the pairs they are.
#
# ## Does "effusion" mean effusion?
# Experts coded what each report states (column `mesh`). A labeller that looks for the word
# ignores that radiologists mostly write what is **not** there. A second one reads the
# negation as well (Chapman et al. 2001,
# [doi 10.1006/jbin.2001.1029](https://doi.org/10.1006/jbin.2001.1029)): a sentence counts
# only when nothing in it denies the effusion.
#
# In a regular expression `\b` is the edge of a word, `.*` is anything, and `|` means
# *or*. The first rule is one line, the second two.

# %%
NEGATED = re.compile(
    r"\b(no|without|negative for|free of|clear of)\b.*effusion"
    r"|effusion.*\b(resolved|absent)\b"
)


def mentions(text):
    return int("effusion" in text.lower())


def states(text):
    sentences = re.split(r"(?<=[.;])\s+", text.lower())
    return int(any("effusion" in s and not NEGATED.search(s) for s in sentences))


# %% [markdown]
# A labeller is a test, and it is judged like one. **Precision** is the share of its alarms
# that are right; **sensitivity** is the share of the effusions that it finds.
#
# `alarm` and `coded` are columns of 0 and 1, and `&` is 1 where both are.

# %%
text = reports.findings + " " + reports.impression
coded = reports.mesh.str.contains("Pleural Effusion").astype(int)


def performance(rule):
    alarm = text.map(rule)
    hits = (alarm & coded).sum()
    counts = {"hits": hits, "missed": coded.sum() - hits}
    counts["false alarms"] = (alarm & (1 - coded)).sum()
    counts["precision"] = round(hits / alarm.sum(), 2)
    counts["sensitivity"] = round(hits / coded.sum(), 2)
    return counts


# %% [markdown]
# Both rules, on all reports:

# %%
confusion = pd.DataFrame(
    [performance(mentions), performance(states)],
    index=["the word", "the word, not negated"],
)
confusion

# %% [markdown]
# The second rule misses a few more effusions, and gives far fewer false alarms.
#
# Whether that is worth it depends on the use. For teaching a model a false positive may
# be worse than a missed one.

# %%
by_word = confusion.loc["the word"]
by_sentence = confusion.loc["the word, not negated"]
Markdown(
    f"We see that a word is no finding: {text.map(mentions).sum():,} reports name an "
    f"effusion, the experts coded {coded.sum()}. Reading the negation lifts precision "
    f"from {by_word.precision} to {by_sentence.precision}; sensitivity goes from "
    f"{by_word.sensitivity} to {by_sentence.sensitivity}."
)

# %% [markdown]
# What are the false alarms that remain? The best way to improve a labeller is to read what
# it got wrong.
#
# The pattern takes the sentence around the word, from one full stop to the next.

# %%
false_alarms = text[(text.map(states) == 1) & (coded == 0)]
pattern = r"([^.]*effusion[^.]*\.?)"
sentences = false_alarms.str.extract(pattern, flags=re.IGNORECASE)[0]
sentences = sentences.dropna().str.strip()
words_in_full(sentences.head(6).rename("false alarms, as written").to_frame())

# %% [markdown]
# Many sentences neither state nor deny. We count those with a word of doubt in them.
#
# *May represent*, *versus*, *likely*: a radiologist who can't be sure says so.

# %%
HEDGES = r"\b(?:may|could|question|versus|possib|suspect|represent|likely)"
hedged = sentences.str.contains(HEDGES, case=False)
Markdown(
    f"We see why: {hedged.sum()} of the {len(sentences)} false alarms hedge. A label "
    "needs a third value, and the table has one: -1, uncertain."
)

# %% [markdown]
# ### Fourteen findings, and the words that decided
# `rw.curate.label_reports` reads reports for the 14 findings of CheXpert (Irvin et al. 2019,
# [arXiv 1901.07031](https://arxiv.org/abs/1901.07031)): 1 stated, 0 denied, -1 uncertain,
# empty where a report is silent. Its rules stand in tables of words, for several languages.
# Where a sentence speaks plainly it must agree with our second rule.


# %%
def states_by_radwb(sentence):
    labels = rw.curate.label_reports([sentence])
    return int(labels["Pleural Effusion"][0] == 1)


plainly = [
    "Small left pleural effusion.",
    "No pleural effusion or pneumothorax.",
    "The effusion has resolved.",
]
cases = [(sentence,) for sentence in plainly]
rw.check.matches(states, states_by_radwb, cases=cases)

# %% [markdown]
# These five are less plain. What would you say of each, and what does our rule say? Write
# down five labels before you run the cell.
#
# `rw.curate.why` gives a row for each word that names a finding, and the *cue* that decided.

# %%
traps = [
    "No change in the small left effusion.",
    "No pneumothorax, but a left effusion.",
    "Effusion is not seen.",
    "Small effusion versus scarring.",
    "Evaluate for effusion.",
]
reasons = pd.concat([rw.curate.why(sentence) for sentence in traps])
effusions = reasons[reasons.finding == "Pleural Effusion"]
read = effusions.set_index("sentence")[["label", "cue"]]
read.insert(0, "our rule", [states(sentence) for sentence in read.index])
words_in_full(read.reset_index())

# %% [markdown]
# A *no* belongs to the words that it denies, and not to the whole sentence. Of a question
# (`nan`) nothing is known.

# %%
unlike = read["our rule"] != (read["label"] == 1)
Markdown(
    f"We see that our rule is wrong on {unlike.sum()} of {len(read)}: it takes "
    "every *no* before the word for a denial, and everything else for a statement."
)

# %% [markdown]
# A real report, as it was written. Which words would you label, and as what?

# %%
report = reports.set_index("report_id").report["CXR2181"]
words_in_full(pd.DataFrame({"CXR2181": report.splitlines()}))

# %% [markdown]
# And here is what the labeller read: each word gets a colour and, behind it, its label. One
# of the labels is wrong. Which?

# %%
from html import escape

colours = {1: "#f6b26b", 0: "#b6d7a8", -1: "#ffe599"}
meanings = {1: "stated", 0: "denied", -1: "uncertain"}


def with_its_label(row):
    colour = colours.get(row.label, "#d9d9d9")
    meaning = meanings.get(row.label, "not said")
    style = f"background-color: {colour}; color: black"
    words = f'<span style="{style}">{escape(row.words)}</span>'
    return f"{words} <small>({row.finding}, {meaning})</small>"


# %% [markdown]
# Between the marked words the report is copied with `escape`, which makes of `<` a sign to
# be read and not a command.


# %%
from IPython.display import HTML


def marked(report):
    text = ""
    end = 0
    for row in rw.curate.why(report).itertuples():
        text += escape(report[end : row.start]) + with_its_label(row)
        end = row.end
    return HTML(f"<p>{text}{escape(report[end:])}</p>")


marked(report)

# %% [markdown]
# A label alone would have told us nothing; the words show it at once.

# %%
mentioned = rw.curate.why(report).set_index("finding")
Markdown(
    "We see the sentence behind a broken bone: "
    f"*{escape(mentioned.sentence['Fracture'])}* What is broken is probably a wire, "
    "and whoever made XXXX of the names took that word along with them."
)

# %% [markdown]
# How well does it do on all of them? Experts' codes are the truth. The rules were tuned on
# half of these reports, told apart by a digest of their number, so we score on the other
# half.


# %%
import hashlib


def is_unseen(report_id):
    return hashlib.sha256(report_id.encode()).digest()[-1] % 2 == 1


unseen = reports[reports.report_id.map(is_unseen)]
labels = rw.curate.label_reports(unseen)
f"{len(unseen):,} reports, of which {(labels == -1).any(axis=1).mean():.0%} hold a doubt"

# %% [markdown]
# These are the words in the experts' codes. Is it better to count an *uncertain* as a finding,
# or not? Make a guess.

# %%
code_of = {
    "Atelectasis": "Atelectasis",
    "Cardiomegaly": "Cardiomegaly",
    "Pleural Effusion": "(?:Pleural|Pericardial) Effusion",
    "Lung Lesion": r"\bNodule|\bMass\b",
    "No Finding": "^normal$",
}

# %% [markdown]
# **F1** is twice the hits over alarms and codes together: 1 for a perfect labeller. For its
# interval we draw the reports anew, many times. `times` says how often each was drawn.

# %%
row, drawn = rw.stats.resample_patients(unseen.report_id, n_boot=n_boot)
times = drawn[row]  # (reports, n_boot)


def f1(alarm, coded):
    hits = 2 * (alarm & coded)
    score = hits.sum() / (alarm.sum() + coded.sum())
    resampled = hits @ times / (alarm @ times + coded @ times)
    low, high = np.quantile(resampled, [0.025, 0.975])
    return {"F1": score, "low": low, "high": high}


# %%
scores = []
for finding, code in code_of.items():
    coded = unseen.mesh.str.contains(code).to_numpy().astype(int)
    for counts, values in {"stated": [1], "stated or uncertain": [1, -1]}.items():
        alarm = labels[finding].isin(values).to_numpy().astype(int)
        scores.append({"finding": finding, "counts": counts, **f1(alarm, coded)})
scores = pd.DataFrame(scores)
rw.show.bars(scores, x="finding", y="F1", group="counts", title="Is a doubt a yes?")

# %% [markdown]
# The lines are 95 % intervals. The last group has one bar twice: a normal report is never
# uncertain.

# %%
by_count = scores.pivot(index="finding", columns="counts", values="F1")
mean_f1 = by_count.mean()
Markdown(
    f"We see a mean F1 of {mean_f1['stated']:.2f} on {len(unseen):,} reports, and "
    f"{mean_f1['stated or uncertain']:.2f} when a doubt counts as a finding: better for "
    f"{(by_count['stated or uncertain'] > by_count.stated).sum()} of {len(by_count)}, "
    f"worse for {(by_count['stated or uncertain'] < by_count.stated).sum()}."
)

# %% [markdown]
# ## A cohort whose truth is known
# Real labels are opinions. From here on the workbench uses **virtual patients** as well:
# radiographs projected from the CT above, bent into many bodies, with findings and devices
# that were placed in 3-D, so that label, mask and report are known. It's one patient's
# anatomy, a simulator, and the notebooks say so.
#
# `cohort` makes the films and the table the first time, which takes a while, and keeps
# them for all notebooks. `check_table` looks at the columns: labels are 1, 0, -1 or
# empty, and every row has a patient.

# %%
table = rw.data.check_table(rw.simulate.cohort(n=n, seed=0))
findings = rw.data.findings_of(table)
shares = table[findings].mean().rename("share").rename_axis("finding").reset_index()
rw.show.bars(
    shares,
    x="finding",
    y="share",
    y_title="share of the films",
    title="How often each finding was planted",
)

# %% [markdown]
# A film may have none of them, or several, as in a hospital.
#
# `sum(axis=1)` adds along a row, so it counts the findings of a film.

# %%
planted_count = (table[findings] == 1).sum(axis=1)
Markdown(
    f"We see {len(findings)} kinds. The cohort has {len(table):,} radiographs of "
    f"{table.patient_id.nunique():,} virtual patients, "
    f"{(planted_count == 0).mean():.0%} without any finding and "
    f"{(planted_count > 1).mean():.0%} with several."
)

# %% [markdown]
# Would you find what was planted? Here is one film a finding, each of a severity of 0.8 and,
# where there are sides, on the left.
#
# `draw` makes up a finding of a kind, such as its place and its shape, and `render`
# sends the rays.

# %%
anatomy = rw.simulate.default_anatomy()
rng = np.random.default_rng(7)


def film_with(name, seed):
    finding = rw.simulate.draw(name, anatomy, rng, severity=0.8, side="left")
    return rw.simulate.render([finding], seed=seed, anatomy=anatomy)


examples = [film_with(name, seed) for seed, name in enumerate(findings)]
look = dict(titles=findings, columns=5, cell=180)
rw.show.grid(examples, **look, title="Find it (simulator)")

# %% [markdown]
# Make up your mind about each before you go on. The same films with what was planted:

# %%
rw.show.grid(examples, **look, truth=True, title="What was planted")

# %% [markdown]
# The outlines show where a ray changed so much that a reader could see it. A real film has
# no such outline; at best it has one that somebody drew.

# %% [markdown]
# ### Names where nobody looks
# Before a file leaves the hospital, names must go. In how many places can they stand? We
# write three films as DICOM files that name invented people, and get the answer key: each
# place of each file, with what it gives away.
#
# `crosstab` counts: a row a kind of identifier, a column a place where it stands.

# %%
named, answer_key = rw.simulate.plant_identifiers(table.head(3), inbox / "named")
pd.crosstab(answer_key["kind"], answer_key["where"])

# %% [markdown]
# A few stand in fields that are made for names. Others stand in comments, in the words of
# the report, and in the pixels themselves, as white letters. The header has a field that
# says whether letters are burnt in. Can we believe it?
#
# The field is called `BurnedInAnnotation`.

# %%
film = rw.data.scan_of(named.iloc[2])
header = pydicom.dcmread(named.path.iloc[2], stop_before_pixels=True)
rw.show.scan(film, title=f"Burnt in? The header says {header.BurnedInAnnotation}")

# %% [markdown]
# We see letters in a corner of a film that denies them. A PNG has no header, so one may
# think that it is safe to share. We write the film as a PNG and read it back.
#
# A PNG has 256 steps of grey, so a pixel can change by half a step, or 0.002.

# %%
picture = rw.data.write_png(film, inbox / "pictures" / "film.png")
again = rw.data.read(picture)
change = np.abs(again.pixels - film.pixels).max()
Markdown(
    f"We see that the largest change of a pixel is {change:.4f} of the range from "
    "black to white: the letters came along."
)

# %% [markdown]
# What the PNG did lose is the patient's number, which one needs for an honest split. Its
# row in an index has none. Nobody knows whether two such pictures show one person, so
# somebody has to say it: `rw.curate.one_patient_per_image` takes each for another one's.
#
# The name that it makes up is a digest of the path, a long number that is the same each
# time.

# %%
pictures = rw.curate.films(rw.curate.index(inbox / "pictures"))
alone = rw.curate.one_patient_per_image(pictures)
before_and_after = {"in the index": pictures.patient_id, "said by us": alone.patient_id}
pd.DataFrame(before_and_after)

# %% [markdown]
# ### Can the names be taken out?
# The first idea is to empty the three fields that are made for a patient's name, number and
# day of birth. We do so in a copy of the folder, and search every byte of the files for
# each value that was planted in a header. How many of them, do you think, are still there?


# %%
in_header = answer_key["where"] == "header"
planted_values = sorted(set(answer_key.value[in_header]))


def count_by_hand(folder):
    contents = [file.read_bytes() for file in sorted(folder.glob("*.dcm"))]
    everything = b"".join(contents)
    return sum(value.encode() in everything for value in planted_values)


(inbox / "emptied").mkdir()
for file in named.path:
    ds = pydicom.dcmread(file)
    for keyword in ("PatientName", "PatientID", "PatientBirthDate"):
        setattr(ds, keyword, "")
    ds.save_as(inbox / "emptied" / Path(file).name)

# %% [markdown]
# `rw.curate.find_values` searches file names and other spellings of letters (UTF-16) as
# well. On these files the two must agree.


# %%
def count_by_radwb(folder):
    found = rw.curate.find_values(folder, planted_values)
    return len({value for file, value in found})


folders = [(inbox / "named",), (inbox / "emptied",)]
rw.check.matches(count_by_hand, count_by_radwb, cases=folders)
Markdown(
    f"We see {count_by_hand(inbox / 'named')} values before and "
    f"{count_by_hand(inbox / 'emptied')} after: the rest stands in other fields."
)

# %% [markdown]
# `rw.curate.deidentify` follows a list of all fields that can identify, part 15 of the DICOM
# standard (the Basic Application Level Confidentiality Profile). `keep` says what a
# researcher still needs: "dates" are moved by one number of days a patient, "patient" is sex
# and age. First we let it clean the headers alone (`"pixels"` are kept, too), and search the
# copies in the same way. May we share them?

# %%
keep = ["dates", "patient"]
headers_only = inbox / "headers only"
copies = rw.curate.deidentify(named, headers_only, keep=[*keep, "pixels"])
Markdown(
    f"We see {count_by_radwb(headers_only)} planted values in the bytes of "
    f"{len(copies)} copies."
)

# %% [markdown]
# No search for bytes can read a picture. The letters of above are still in the third film.
# Now all of it: the words in the pixels are read (OCR) and covered, markers such as *R*
# stay. That needs `pip install 'radwb[curate]'`; without it the pixels stay as they are.
# The key, a file that leads back to the patients, is only made because we name it.

# %%
from importlib.util import find_spec

key_file = inbox / "key.json"
has_no_key = not key_file.exists()
if find_spec("rapidocr") is None:
    print("words in pixels stay: no OCR on this machine")
    keep.append("pixels")
shared = rw.curate.deidentify(named, inbox / "shared", keep=keep, key=key_file)
words_in_full(shared[["patient_id", "done", "refused"]])

# %%
cleaned = rw.data.scan_of(shared.iloc[2])
rw.show.grid(
    [film, cleaned],
    titles=["before", "after"],
    columns=2,
    cell=330,
    title="A name in the pixels (simulator, invented person)",
)

# %% [markdown]
# The words in pixels are read by an OCR, which `make tour` installs (the extra `curate`). Its bar is wider than the
# name, since letters may go on where it saw none. Without an OCR the name stays, the call says so, and both numbers
# below are 0. The answer key has the box of each name, so we compare the pixels inside and outside.
#
# A pixel counts as changed where its grey moves by more than a thousandth of the range.

# %%
burned = answer_key[answer_key["where"] == "pixels"].set_index("file")
top, left, bottom, right = map(int, burned.place[named.path.iloc[2]].split(","))
changed = np.abs(cleaned.pixels - film.pixels) > 0.001
letters = film.pixels > 0.9
inside = np.zeros_like(changed)
inside[top:bottom, left:right] = True
covered = changed[inside & letters].mean()
Markdown(
    f"We see that {covered:.0%} of the letters' pixels have changed, and with them "
    f"{changed[~inside].mean():.1%} of the pixels outside the box."
)

# %% [markdown]
# Some fields of its header, before and after. What does *StudyDate* say?

# %%
keywords = ["PatientName", "PatientID", "PatientBirthDate", "PatientAge", "PatientSex"]
keywords += ["StudyDate", "InstitutionName", "PatientComments", "ViewPosition"]
fields = {}
for column, file in {"before": named.path[2], "after": shared.path[2]}.items():
    ds = pydicom.dcmread(file, stop_before_pixels=True)
    fields[column] = [str(ds.get(keyword, "(no such field)")) for keyword in keywords]
words_in_full(pd.DataFrame({"field": keywords, **fields}))

# %% [markdown]
# The date is a wrong one, on purpose. Two films of one patient are moved alike, so the days
# between them stay. And the report, before and after:

# %%
words_in_full(pd.DataFrame({"report": [named.report[2], shared.report[2]]}))

# %% [markdown]
# The findings are still there. Now the whole of what we would share is searched for every
# value of the answer key: each byte of each file, file names, and the reports.


# %%
def day(table, row):
    header = pydicom.dcmread(table.path[row], stop_before_pixels=True)
    return pd.Timestamp(header.StudyDate)


in_files = {v for _, v in rw.curate.find_values(inbox / "shared", answer_key.value)}
reports_shared = " ".join(shared.report).lower()
in_reports = {v for v in answer_key.value if v.lower() in reports_shared}
Markdown(
    f"We see {len(in_files)} of {answer_key.value.nunique()} values in the files and "
    f"{len(in_reports)} in the reports. Between the two films of one patient lie "
    f"{(day(named, 2) - day(named, 1)).days} days before and "
    f"{(day(shared, 2) - day(shared, 1)).days} after."
)

# %% [markdown]
# The key holds every patient's number, so it must never travel with the films. Who may read
# it?
#
# Three digits say what the owner, the group and all others may do; 6 is read and write.

# %%
rights = oct(key_file.stat().st_mode)[-3:]
Markdown(
    f"We see rights of {rights}. Before we named it there was "
    f"{'none' if has_no_key else 'one already'}, and without it nobody leads back."
)

# %% [markdown]
# ### What did the CT bring along?
# Every virtual patient is this one CT, so whatever is wrong with it is wrong with all of
# them. Its makers looked at the labels, the masks and the words, and for months not at the
# CT. Then somebody opened it in a lung window.
#
# This is what they wrote down when they had read all 133 slices. The column *contrast
# to noise* says how visible each is on a film, and the last column what was done about
# it.

# %%
words_in_full(rw.simulate.ct_findings())

# %% [markdown]
# The tumour in the lung and the contrast in a vein would be on every film. Here is one film
# without any planted finding, from the CT as scanned and from the repaired one.

# %%
scanned = rw.simulate.default_anatomy(as_scanned=True)
chests = [rw.simulate.render(anatomy=chest, seed=1) for chest in (scanned, anatomy)]
pair_titles = ["as scanned", "repaired"]
rw.show.grid(
    chests, titles=pair_titles, columns=2, cell=330, title="No finding planted"
)

# %% [markdown]
# We see a mass at the left hilum and a white spot at the right apex, in a film whose label
# says that there is nothing. On the right, lung from elsewhere in the same chest has taken
# their place.
#
# Notebook 8 mends that lung step by step, and looks for what is left of the tumour.
#
# ### What do false reports do to a model?
# We film the same virtual patients a second time, with the CT as scanned. Labels and reports
# stay as they are, and are now wrong wherever they deny a lesion. How many are there?
#
# `denial` is a pattern again: words with which these reports deny a lesion.

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
    f"We see that {free.sum()} of {n_twice} films show the tumour and are labelled "
    f"free of a lesion. {denied.sum()} of their reports deny it in words."
)

# %% [markdown]
# Now let a detector learn from each cohort. It looks through the released model, whose
# tower stays as it is (notebook 2 makes it). The tower cuts a film into patches and
# describes each by many numbers, its *channels*.
#
# For a film of 128 by 128 pixels there are 64 patches. `unflatten` gives each a row of
# its own.

# %%
model = rw.models.load("radwb-tiny")


def patches(cohort):
    """(N, patches, channels) of the frozen tower."""
    images = rw.data.images(cohort, model.size, fit=model.fit)
    features = torch.tensor(rw.fail.patch_features(model, images))
    return features.unflatten(1, (model.grid[0] * model.grid[1], -1))


tokens = {name: patches(cohort) for name, cohort in pair.items()}
tokens["repaired"].shape

# %% [markdown]
# Channels differ in size. We bring them to one scale, the same for both cohorts, since a
# scale of its own would already tell a detector which of the two it sees.
#
# `mean((0, 1))` is the mean over films and patches, one a channel.

# %%
middle = tokens["repaired"].mean((0, 1))
spread = tokens["repaired"].std((0, 1))
for name in tokens:
    tokens[name] = (tokens[name] - middle) / spread
labels = torch.tensor(pair["repaired"][lesion].to_numpy(), dtype=torch.float32)
is_test = torch.tensor((pair["repaired"]["split"] == "test").to_numpy())
test_free = free[is_test.numpy()]
Markdown(
    f"{int((~is_test).sum())} films to learn from, {int(is_test.sum())} to ask; "
    f"{test_free.sum()} of these are labelled free of a lesion."
)

# %% [markdown]
# The detector has one weight a channel. Every patch gets a score, and the highest scores
# speak for the film: a smooth maximum, so that one high patch is enough. It learns from
# labels of films, and nobody shows it a place.
#
# `logsumexp` is a sum in which large numbers count far more than small ones.


# %%
def of_film(scores):
    """(B, patches) -> (B,)"""
    return torch.logsumexp(scores, dim=1) - np.log(scores.shape[1])


# %% [markdown]
# The loop has the three steps of notebook 0: loss, slopes, a step downhill. 64 films at
# a time, in an order that is drawn from the seed.


# %%
def learn(tokens, labels, seed):
    torch.manual_seed(seed)
    score = torch.nn.Linear(tokens.shape[-1], 1)
    optimiser = torch.optim.AdamW(score.parameters(), lr=0.01, weight_decay=0.01)
    order = torch.randperm(len(tokens) * passes).remainder(len(tokens))
    for rows in order.split(64):
        logits = of_film(score(tokens[rows]).squeeze(-1))
        loss = F.binary_cross_entropy_with_logits(logits, labels[rows])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return score


# %% [markdown]
# One detector is taught by the repaired films, whose labels are true, and one by the films
# as scanned, whose labels are false wherever they deny. Same patients, same labels, same
# starting point; the tumour is all that differs. A training hangs on chance, so each is
# repeated with several seeds, and every detector is shown both versions of the test films.
#
# `~is_test` are the films that aren't in test. `no_grad` says that nothing is to be
# learnt while we ask.

# %%
maps = {}
for taught, seed in product(tokens, range(seeds)):
    score = learn(tokens[taught][~is_test], labels[~is_test], seed)
    for shown, cohort_tokens in tokens.items():
        with torch.no_grad():
            maps[taught, shown, seed] = score(cohort_tokens[is_test]).squeeze(-1)
len(maps)

# %% [markdown]
# Two questions to each detector. How well does it tell lesion from no lesion on films like
# those it learnt from? And when a film that was free gets the tumour, does it raise an
# alarm? We set the alarm so that it goes off in one of ten films without a tumour.
#
# `quantile` of 0.9 is the value that nine of ten films stay below.


# %%
def answers_of(taught, seed):
    without_tumour = of_film(maps[taught, "repaired", seed]).numpy()
    with_tumour = of_film(maps[taught, "as scanned", seed]).numpy()
    like_training = of_film(maps[taught, taught, seed]).numpy()
    alarm = np.quantile(without_tumour[test_free], 0.9)
    return {
        "taught": taught,
        "seed": seed,
        "auroc": rw.stats.auroc(labels[is_test], like_training),
        "alarms": (with_tumour[test_free] > alarm).mean(),
    }


# %% [markdown]
# `groupby` gathers the rows of each kind of teaching.
#
# The mean over the seeds, for each kind of teaching:

# %%
trainings = product(tokens, range(seeds))
detectors = pd.DataFrame([answers_of(taught, seed) for taught, seed in trainings])
rw.show.bars(
    detectors.groupby("taught", as_index=False)["alarms"].mean(),
    x="taught",
    y="alarms",
    line=0.1,
    y_title="share that raises an alarm",
    title="Films with the tumour, mean of the seeds",
)

# %% [markdown]
# The dashed line is the one alarm in ten that films without a tumour raise. A bar above it
# sees something of the tumour; a bar below it takes the tumour for a sign of health. Are the
# two bars further apart than chance between trainings would have them?
#
# `pivot` lays the seeds into rows and the teaching into columns, so that a row holds a
# pair. We make two comparisons, and each interval is made a little wider for it
# (`family`).

# %%
by_seed = detectors.pivot(index="seed", columns="taught")


def true_minus_false(column, what):
    return rw.stats.compare_seeds(
        by_seed[column]["repaired"],
        by_seed[column]["as scanned"],
        names=("taught by true labels", "taught by false ones"),
        what=what,
        family=2,
    )


# %% [markdown]
# `compare_seeds` pairs the trainings by seed and makes a sentence of the difference and its
# interval. The sentence begins with *can't tell* where the interval holds zero.

# %%
auroc_gap = true_minus_false("auroc", "AUROC in its own world")
alarm_gap = true_minus_false("alarms", "share of tumours that raise an alarm")
conclusions = {
    "ahead": "False reports have taught the detector to look away from a real tumour.",
    "can't tell": "Whether false reports make a detector look away, this can't tell.",
    "behind": "False reports have not taught the detector to look away.",
}
looks_away = conclusions[alarm_gap.verdict]
Markdown(
    f"We see over training seeds: {auroc_gap.what}: {auroc_gap}; {alarm_gap.what}: "
    f"{alarm_gap}. **{looks_away}**"
)

# %% [markdown]
# The first of the two can be a trap. It comes from test films with the same kind of labels
# as in training, and labels that are wrong on both sides hide what was learnt from them.
#
# Notebook 8 takes the simulator apart: what a ray sees, when a finding is visible, and how
# far these films and reports are from real ones. Here it's enough to remember this:
# **what a model scores here says how a method behaves, not how it would do in a hospital.**
#
# ## Who stands on both sides?
# A patient has several films, and they look alike. Dealing out **images** at random puts
# films of one patient into training and test; the test then measures memory. We make both
# splits, in the same sizes, and let `check_split` look at the wrong one.
#
# `permutation` shuffles the column, so that each image goes somewhere by chance,
# whoever its patient is.

# %%
by_patient = rw.curate.check_split(rw.curate.split_by_patient(table, seed=0))
rng = np.random.default_rng(0)
shuffled = rng.permutation(by_patient["split"].to_numpy())
by_image = table.assign(split=shuffled)
try:
    rw.curate.check_split(by_image)
except ValueError as error:
    print(error)

# %% [markdown]
# ### Exercise 2: the leak
# How much does it leak? Which share of the patients in test is in train, too? The tables
# have the columns `patient_id` and `split`, and a set is a good tool.


# %%
def leak(table):
    """Share of the test patients who have an image in train."""
    raise NotImplementedError


# %% [markdown]
# *Hints.* The share is one of test patients, not of images and not of all patients. If
# your number is above 1, what have you divided by? If a patient with three films counts
# three times, you still have images.


# %% tags=["solution"] jupyter={"source_hidden": true}
def leak_solution(table):
    train = set(table.loc[table["split"] == "train", "patient_id"])
    test = set(table.loc[table["split"] == "test", "patient_id"])
    return len(train & test) / len(test)


# %% [markdown]
# The check counts in another way: it collects the sides on which each patient stands.

# %%
sides = by_image.groupby("patient_id")["split"].agg(set)
of_test = [side for side in sides if "test" in side]
in_both = ["train" in side for side in of_test]
leaked = float(np.mean(in_both))
for mine in (leak, leak_solution):
    rw.check.matches(mine, leaked, by_image)
    rw.check.matches(mine, 0.0, by_patient)

# %% [markdown]
# A split by patient must give zero, and does.

# %%
Markdown(
    f"We see that a split by image puts {leaked:.0%} of the test patients into train; "
    f"a split by patient puts {leak_solution(by_patient):.0%} there."
)

# %% [markdown]
# ### Are the parts alike?
# Chance may put most of a rare finding into one part. By hand: what share of the patients
# with each finding is in test, when a fifth of all patients should be?


# %%
def share_in_test(table):
    is_test = table["split"] == "test"
    shares = {}
    for finding in findings:
        has_it = table[finding] == 1
        in_test = table.patient_id[has_it & is_test].nunique()
        shares[finding] = in_test / table.patient_id[has_it].nunique()
    return pd.Series(shares)


alike = rw.curate.split(table, stratify=findings, seed=0)
by_chance = share_in_test(by_patient)
by_label = share_in_test(rw.curate.check_split(alike))

# %% [markdown]
# `rw.curate.split` deals out the patients with the rarest finding first, each to the part
# that lacks most (Sechidis et al. 2011,
# [doi 10.1007/978-3-642-23808-6_10](https://doi.org/10.1007/978-3-642-23808-6_10)).

# %%
Markdown(
    f"We see shares in test from {by_chance.min():.1%} to {by_chance.max():.1%} by chance, "
    f"and from {by_label.min():.1%} to {by_label.max():.1%} with `stratify`."
)

# %% [markdown]
# A patient who changes sides when the cohort grows makes last year's test worthless. A split by
# hash alone never moves anybody; with `stratify` the earlier table goes in as `previous=`,
# its patients stay, and the new ones make up what each part lacks.
#
# A harder test is another hospital, or a later year: `by="site"` and `by="time"`. Which site
# will be the test?

# %%
by_site = rw.curate.split(table, by="site")
rw.curate.check_split(by_site, "site")
films_of_sites = pd.crosstab(by_site["site"], by_site["split"])
films_of_sites[["train", "val", "test"]]

# %% [markdown]
# Each site stands in one column, and the one with most patients is for training. With few sites the
# parts are only as near to the wanted sizes as whole hospitals allow. A split by time needs
# the true dates, so it comes before `deidentify`, which moves each patient's by another
# number of days.
#
# ### Who has two numbers?
# A split by patient is as good as the patients' numbers. Two hospitals become one, a film is
# published twice, and the same film stands under two numbers. We plant that in a cohort of
# its own: copies as they are, and copies that were cropped and exposed anew. As another trap,
# most people with a large heart come from hospital A. `check_split` knows the numbers alone.
# What will it say?

# %%
dials = rw.simulate.Dials(
    duplicates=0.05, near_duplicates=0.05, scanner=("Cardiomegaly", "A", 0.9)
)
doubtful = rw.simulate.cohort(n=n_audit, seed=0, dials=dials)
rw.curate.check_split(doubtful)
Markdown(
    f"No error: {len(doubtful)} films of {doubtful.patient_id.nunique()} numbers, and no "
    "number stands on two sides."
)

# %% [markdown]
# Copies by hand: make all films small, and hold each against each. The same film has a
# correlation of 1.
#
# `triu` keeps each pair once, and `argwhere` gives the rows of its two films.


# %%
def copies_by_hand(table):
    small = rw.data.images(table, 32).reshape(len(table), -1)  # (N, 32 * 32)
    alike = np.triu(np.corrcoef(small), 1)
    return np.argwhere(alike > 0.99)


len(copies_by_hand(doubtful))

# %% [markdown]
# `rw.curate.audit` looks for such copies and for much more. Of those with the very same
# pixels it must find what we found.

# %%
found = rw.curate.audit(doubtful)
pairs = found.pairs
same_pixels = pairs.loc[pairs.kind == "same pixels", ["first", "second"]].to_numpy()
rw.check.matches(copies_by_hand, same_pixels, doubtful)

# %% [markdown]
# It says what it found, the worst first: a *leak* makes a test worthless, a *look* wants a
# human. (Notes are left out here.)

# %%
serious = found.rows[found.rows.severity != "note"]
words_in_full(serious[["severity", "check", "sentence"]])

# %% [markdown]
# The simulator knows which films are copies (`copy_of`), and gives a copy its patient's number
# with an ending. How many are found, and is each pair really one film?

# %%
person = doubtful.patient_id.astype(str).str.replace(r"-[nd]$", "", regex=True)
person = person.to_numpy()
right = person[pairs["first"]] == person[pairs["second"]]
is_copy = np.flatnonzero(doubtful.copy_of != "")
in_a_pair = np.isin(is_copy, pairs[["first", "second"]])
by_hand = np.isin(is_copy, copies_by_hand(doubtful))
Markdown(
    f"We see that of {len(is_copy)} planted copies our rule finds {by_hand.sum()}, the "
    f"audit {in_a_pair.sum()}; {right.sum()} of its {len(pairs)} pairs show one person."
)

# %% [markdown]
# Each row has its evidence. Here is the likeliest near copy across the split: is it one film
# or two? Look at the ribs and at the edges before you decide.

# %%
number = int(np.flatnonzero(found.rows.check == "near copy")[0])
evidence = found.rows.iloc[number]
rw.show.grid(
    found.show(number),
    titles=[str(doubtful.patient_id[evidence[side]]) for side in ("first", "second")],
    columns=2,
    cell=330,
    title="One film under two numbers? (simulator)",
)

# %% [markdown]
# What does a leak do to a result? A reader that knows no medicine takes the label of the
# training film that is most alike. It answers for the test films that have a copy in train:
# once with the copies, once without them. The mean is over the findings with enough cases.

# %%
is_fake = found.rows.check == "AUROC that a leak fakes"
fake = found.rows[is_fake].iloc[0]
faked = rw.stats.format_interval(fake, "value")
Markdown(
    f"We see that on {fake.n} test films of {fake.patients} numbers the copies raise its "
    f"mean AUROC by {faked}."
)

# %% [markdown]
# All of that is memory. The way out is to keep one film of each pair, and a human should say
# so. `rw.show.review` shows one flagged thing at a time, with keys for the verdict; each is
# saved at once.

# %%
review = rw.show.review(found, verdicts=inbox / "verdicts.csv")
review

# %% [markdown]
# Look at some pairs above and judge them: D drops one, 1 or 2 says which, K keeps both, and a
# note can say why. So that this page also runs by itself, the next cell says *drop second*
# for every pair, as a hand at the keys would: what was filed later goes.


# %%
def kept_by_hand(table):
    later = pairs["second"].unique()
    return table.drop(index=table.index[later]).index.to_numpy()


is_copy = review.flagged.check.isin(pairs.kind)
for number in review.flagged.index[is_copy]:
    review.judge("drop second", number=number)
kept, dropped = rw.curate.apply_verdicts(doubtful, review.verdicts)
rw.check.matches(kept_by_hand, kept.index.to_numpy(), doubtful)

# %% [markdown]
# Which of the rows of the audit will be gone now, and which one stays?

# %%
clean = rw.curate.audit(kept)
shortcut = clean.rows[clean.rows.check == "metadata tells the finding"]
Markdown(
    f"We see {len(clean.leaks)} kinds of leak in the {len(kept)} films that are left, where "
    f"{len(found.leaks)} were. What stays: {'; '.join(shortcut.sentence) or 'nothing'}."
)

# %% [markdown]
# No copy can be removed for that: a hospital that tells the finding is a fact of who was
# filmed where. It has to be known, and a model's AUROC has to be held against it. (We come to
# such a reader below.)
#
# Does it happen outside of a simulator? In a published set of COVID films (Cohen et al. 2020,
# [arXiv 2006.11988](https://arxiv.org/abs/2006.11988)), which `RADWB_MIRROR` or `radwb fetch`
# may bring, one patient has two numbers. Nobody tells the audit.

# %%
try:
    published = rw.data.real("covid-text")
except rw.data.FetchError:
    print("those films are not on this machine: here are the virtual ones again")
    published = doubtful
twice = rw.curate.near_duplicates(published)

# %% [markdown]
# The pair that is most alike:

# %%
most_alike = list(twice.loc[0, ["first", "second"]])
numbers = [str(number) for number in published.patient_id]
rw.show.grid(
    [rw.data.scan_of(published.iloc[row]) for row in most_alike],
    titles=[f"patient {numbers[row]}" for row in most_alike],
    columns=2,
    cell=330,
    title="One patient, published twice?",
)

# %% [markdown]
# (The films of that set are public cases, mostly CC BY-NC-SA; the column `url` says whose.)
# What do the two rows say of the person?

# %%
columns = ["patient_id", "sex", "age_years", "diagnosis", "survival", "url"]
words_in_full(published.loc[most_alike].reindex(columns=columns).astype(str))

# %%
of_whom = {numbers[row] for row in twice[["first", "second"]].to_numpy().ravel()}
Markdown(
    f"We see {len(twice)} pairs of films among {len(published)}, of {len(of_whom)} patient "
    f"numbers; the likeness is {twice.likeness.min():.2f} or more. A split by "
    "patient may put one of them into train and the other into test."
)

# %% [markdown]
# ## Can a table diagnose oedema without an image?
# A portable film (view AP) is taken of those too ill to stand. In NIH ChestX-ray14 (Wang et
# al. 2017, [arXiv 1705.02315](https://arxiv.org/abs/1705.02315)) we give a reader nothing
# but the view, then age, sex and the number of the visit as well. **No pixels.**
#
# A film is AP or PA, a patient F or M, and a model needs numbers: 1 for one of the two,
# 0 for the other.

# %%
raw = pd.read_csv(rw.data.fetch("nih-tables") / "Data_Entry_2017_v2020.csv.gz")
nih = pd.DataFrame(
    {
        "patient_id": raw["Patient ID"],
        "age": raw["Patient Age"],
        "visit": raw["Follow-up #"],
        "AP": (raw["View Position"] == "AP").astype(int),
        "female": (raw["Patient Gender"] == "F").astype(int),
    }
)
nih.head(3)

# %% [markdown]
# The labels stand in one column of words. We look for four of them, and split by patient.

# %%
words_of = {
    "Edema": "Edema",
    "Pneumothorax": "Pneumothorax",
    "Pleural Effusion": "Effusion",
    "Lung Lesion": "Mass|Nod",
}
truth = pd.DataFrame()
for name, pattern in words_of.items():
    truth[name] = raw["Finding Labels"].str.contains(pattern).astype(int)
nih = rw.curate.split_by_patient(nih, seed=0)
truth.mean().rename("share of the films").to_frame()

# %% [markdown]
# How many films and patients are these?

# %%
train = nih["split"] == "train"
test = nih["split"] == "test"
Markdown(
    f"{len(nih):,} radiographs of {nih.patient_id.nunique():,} patients; AP: "
    f"{nih.AP.mean():.0%}."
)

# %% [markdown]
# The reader is a logistic regression, one for each finding: a weighted sum of the columns,
# turned into a chance. `rw.probe.Scores` holds what it says beside the truth, and gives an
# AUROC with an interval by patient.
#
# It is fitted on training patients and asked about test patients. The scaler brings
# years and zero-or-one columns to one scale first.

# %%
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler


def read_without_pixels(columns):
    chances = {}
    for finding in words_of:
        reader = make_pipeline(StandardScaler(), LogisticRegression())
        reader.fit(nih.loc[train, columns], truth.loc[train, finding])
        chances[finding] = reader.predict_proba(nih.loc[test, columns])[:, 1]
    test_truth = truth[test].reset_index(drop=True)
    patients = nih.patient_id[test].to_numpy()
    return rw.probe.Scores(pd.DataFrame(chances), test_truth, patients)


# %% [markdown]
# Beside it stands a control: labels dealt out to other patients, twenty times. What a reader
# scores on those is worth nothing.
#
# `forest` draws a point and its interval for each finding, the three readers side by
# side.

# %%
by_view = read_without_pixels(["AP"])
by_more = read_without_pixels(["AP", "age", "female", "visit"])
answers = {
    "view alone": by_view.auroc(),
    "view, age, sex, visit": by_more.auroc(),
    "labels shuffled, 20 times": by_more.null(20)[:-1],
}
rw.show.forest(answers, title="What a reader without pixels knows")

# %% [markdown]
# Each row is a finding, and the dashed line is a guess. The control lies on it.

# %%
oedema = by_view.auroc().set_index("finding").loc["Edema"]
Markdown(
    f"We see that the view alone gives an AUROC of {rw.stats.format_interval(oedema)} "
    "for oedema on unseen patients."
)

# %% [markdown]
# A network that scores as much has perhaps learnt to tell AP from PA. Its AUROC must be held
# against this one, and not against a half.

# %% [markdown]
# ## What leaves the house?
# Now all of it, on one drawer. It holds radiographs that name people, each with its report,
# some of them twice under two numbers; a CT, an MR, a report and a plan from pydicom; and
# three of our damaged files.
#
# The simulator's masks go: no hospital has the answers beside its films.

# %%
drawer = inbox / "drawer"
in_drawer = doubtful.head(n_drawer)
dictated, secrets = rw.simulate.plant_identifiers(in_drawer, drawer)
for mask in drawer.glob("*.truth.png"):
    mask.unlink()
for name in names:
    shutil.copy(source / f"{name}.dcm", drawer)
for name in ("cut", "empty", "giant"):
    shutil.copy(inbox / f"{name}.dcm", drawer)
contents = rw.curate.index(drawer)
is_refused = contents.refused != ""

# %% [markdown]
# Whoever reads of a cohort asks: how many were there, and where did the others go? A cohort
# that lost its sickest patients on the way is another cohort. `rw.curate.Flow` keeps count of
# films and patients at each step, and doesn't let one vanish. What does it say when we
# miscount?

# %%
flow = rw.curate.Flow("files in the drawer", contents)
singles = rw.curate.films(contents)
n_refused = int(is_refused.sum())
why = {"damaged, or no image": n_refused}
try:
    flow.keep("are one picture each", singles, why={**why, "of several frames": 1})
except ValueError as error:
    print(error)

# %% [markdown]
# A loss without a reason is refused, as is a reason without a loss. Where perhaps nothing is
# lost, one counts: a reason with 0 films passes. Counted right, the flow hands the films on. A
# single slice of a CT or an MR is one picture, too, and no radiograph; the field `Modality`
# tells them apart, where it is right.

# %%
lost = len(contents) - len(singles) - n_refused
why["of several frames"] = lost
singles = flow.keep("are one picture each", singles, why=why)
is_film = singles.modality == "DX"
radiographs = flow.keep("are radiographs", singles[is_film], why="CT or MR")
print(flow)

# %% [markdown]
# Names go first, so that nobody works with them any longer. What can't be cleaned is lost,
# too, and counted. Then the reports, which are scrubbed by now, become labels. At the end the
# copies are searched for every name, number and date that was planted, and so is what is
# published below. (An age of two digits stands in any long number by chance, so it isn't
# searched for.)

# %%
by_file = dictated[["path", "report"]]
named_films = radiographs.drop(columns="report").merge(by_file, "left", on="path")
copies = rw.curate.deidentify(named_films, inbox / "anonymous", keep=keep)
is_written = copies.refused == ""
why = {"could not be cleaned": int((~is_written).sum())}
anonymous = flow.keep("are cleaned", copies[is_written], why=why)
labelled = anonymous.join(rw.curate.label_reports(anonymous))
told = secrets[secrets.kind != "age over 89"]
in_copies = rw.curate.find_values(inbox / "anonymous", told.value)

# %% [markdown]
# Then the copies, judged as above, and last the split: by patient, alike in two findings. The
# order matters. A split made before the copies are gone puts one film on two sides, and a
# label made before the names are gone has read them.

# %%
copied = rw.curate.audit(labelled)
judged = rw.show.review(copied, verdicts=inbox / "of the drawer.csv")
is_copy = judged.flagged.check.isin(copied.pairs.kind)
for number in judged.flagged.index[is_copy]:
    judged.judge("drop second", number=number)
single, dropped = rw.curate.apply_verdicts(labelled, judged.verdicts)
why = dropped["reason"].value_counts().to_dict()
single = flow.keep("are no copy of another", single, why=why)
parts = rw.curate.split(single, stratify=["Cardiomegaly", "Pleural Effusion"])
parts = flow.keep("are split by patient", parts)

# %% [markdown]
# The way of the films as a chart, as journals ask for it (CONSORT for trials, STARD for
# diagnostic tests): what is left stands in the middle, what was lost at the side, with its
# reason. Where did most get lost, and could that be the sickest?

# %%
lost_in_all = flow.steps.lost.sum()
rw.show.flow(
    flow.steps,
    parts=flow.parts,
    title=f"{lost_in_all} of {len(contents)} files don't reach the cohort",
    caption="Simulator and pydicom's test files",
)

# %% [markdown]
# Each box at the side is a question that a reviewer will ask. Damaged files are often the
# oldest ones, and a copy may be the same person at another hospital; who is lost isn't lost by
# chance.
#
# `rw.curate.publish` writes shards (tar files that a training reads as a stream), and beside
# them what was done: checksums, licence, source, the chart, the audit of what is left. Title,
# licence, source and seed are what we type here, and nobody can check them; the counts come
# from the run, and all is read back before the call returns.

# %%
manifest = rw.curate.publish(
    parts,
    inbox / "published",
    title=f"{len(parts)} films from a messy drawer",
    licence="CC BY 3.0",
    source="rw.simulate on the CT LIDC-IDRI-0001 (TCIA), a simulator",
    flow=flow,
    audit=rw.curate.audit(parts),
    deidentified=copies,
    seed=0,
)
words_in_full(pd.DataFrame(manifest["files"]))

# %% [markdown]
# By hand: a shard is a plain tar, which any program opens, with the files of one film behind
# one another. Its checksum is a digest of its bytes: whoever changes one of them changes it.

# %%
import tarfile

shard = inbox / "published" / "shard-000000.tar"
with tarfile.open(shard) as tar:
    members = tar.getnames()
digest = hashlib.sha256(shard.read_bytes()).hexdigest()
is_listed = digest in [file["sha256"] for file in manifest["files"]]
print(members[:4], "listed" if is_listed else "not listed")

# %% [markdown]
# Somebody else gets the folder, and calls `rw.curate.verify` first. We turn over one bit of
# their copy. Will they notice?

# %%
received = inbox / "received"
shutil.copytree(inbox / "published", received)
print(len(rw.curate.verify(received)), "films, as they left")
spoilt = bytearray(shard.read_bytes())
spoilt[5000] ^= 1
(received / shard.name).write_bytes(spoilt)
try:
    rw.curate.verify(received)
except ValueError as error:
    print(error)

# %% [markdown]
# One bit was enough. A checksum says that something has changed since the manifest was
# written; it can't say who changed it, nor that the manifest itself is the one that was sent.
# For that one signs it, or sends its own checksum by another way.
#
# Who is in it? The manifest counts patients by part, view, sex, site and finding, from the
# table that went out. Nobody has typed these numbers, so they can't grow old beside it.

# %%
columns = ["what", "value", "train", "val", "test"]
counts = pd.DataFrame(manifest["counts"], columns=columns)
words_in_full(counts[counts.what != "site"])

# %% [markdown]
# All of this is on the **data card**, one page for people; `croissant.json` says the same to
# machines. The page appears below in a live notebook; a page of the gallery shows no frame.
# Would you train on these films, now that you know them?

# %%
page = (inbox / "published" / "card.html").read_text()
frame = 'width="100%" height="620" style="border: 1px solid #e4e7eb"'
card = f'<iframe title="data card" srcdoc="{escape(page)}" {frame}></iframe>'
HTML(f"<p>card.html, {len(page):,} letters</p>{card}")

# %% [markdown]
# Last, the search again, in the copies and in all that is published. Which planted values are
# left, each counted once?

# %%
in_published = rw.curate.find_values(inbox / "published", told.value)
survivors = {value for file, value in in_copies + in_published}
sorted(survivors)

# %%
Markdown(
    f"We see {len(parts)} films of {parts.patient_id.nunique()} people. Of "
    f"{told.value.nunique()} planted values {len(survivors)} are left in the bytes of the "
    "copies and of what is published; words in pixels take another search. The card "
    f"lists {len(manifest['limits'])} limits by itself, such as: "
    f"*{manifest['limits'][-1]}* `rw.pretrain.fit(shards=...)` of notebook 2 reads this "
    "folder as it is."
)

# %%
rw.book.headline(
    files=len(index),
    refused=len(refused),
    effusion_precision=float(by_sentence.precision),
    report_f1=round(float(mean_f1["stated"]), 2),
    identifiers_left=len(in_files | in_reports),
    auroc_faked_by_copies=faked,
    leak_by_image=leaked,
    oedema_auroc_by_view=rw.stats.format_interval(oedema),
    lost_on_the_way=int(lost_in_all),
)

# %% [markdown]
# What to take along, in the numbers of this run:

# %%
Markdown(f"""
## What we found
- **Look at the data first**: {free.sum()} of {n_twice} films showed a tumour that their
  labels deny. {looks_away}
- **Words are not findings**: precision {by_word.precision} for the word,
  {by_sentence.precision} with its negation, and a labeller can show its words.
- **A split by image leaks {leaked:.0%}** of the test patients; copies under two numbers
  raise an AUROC by {faked}; the view alone reaches {oedema.auroc:.2f}.
- **A cohort has a history**: {lost_in_all} of {len(contents)} files were lost on the way
  to {len(parts)} films, each with its reason, and the shards carry it along.
""")

# %% [markdown]
# ## Where it breaks
# - A flipped grey scale with a wrong field, a wrong patient identifier: no header tells.
# - The labeller follows words: a broken wire was a broken bone. Experts' codes are themselves
#   an opinion, and where the report is silent, nobody knows.
# - The names that were searched for had been planted. In your files nobody knows them all, an
#   OCR may miss one, and a face in a CT of the head stays a face.
# - A split by `patient_id` is as good as the identifier. The audit finds copies of a film, not
#   another film of the same person under a second number.
# - NIH's labels were mined from reports with rules like ours; part of the AUROC above may be
#   the miner's.
