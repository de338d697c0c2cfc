"""Boxes that readers drew, as a column and as truth masks."""

import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pydicom
from PIL import Image
from tqdm.auto import tqdm

from radwb.curate.layouts.columns import fill
from radwb.data.private import private_folder
from radwb.data.read import write_truth
from radwb.findings.parents import with_parent_masks


def add_boxes(table, about, files):
    """Column `boxes`: a list an image, None where nobody drew any."""
    told = about["boxes"]
    there = files.alternative(told["files"])
    boxes = {}
    for name in there:
        for image, box in _boxes(files.table(name, told["edges"]), about):
            boxes.setdefault(image, []).append(box)
    table["boxes"] = [boxes.get(image) for image in table.index]


def _boxes(rows, about):
    """(image, box) of each row that has one."""
    told = about["boxes"]
    edges = rows[told["edges"]].apply(pd.to_numeric, errors="coerce")
    rows = rows[edges.notna().all(axis=1)]
    edges = edges.loc[rows.index].to_numpy(float, copy=True)
    if told["form"] == "xywh":
        edges[:, 2:] += edges[:, :2]
    images = fill(about["columns"]["image"][0], rows)
    names = fill(told["name"], rows)
    readers = fill(told.get("reader", "{no reader}"), rows)
    findings = _findings(about)
    for image, name, reader, edge in zip(images, names, readers, edges, strict=True):
        left, top, right, bottom = edge.tolist()
        corners = (top, left, bottom, right)
        finding = findings.get(name)
        told_by = reader if isinstance(reader, str) else None
        yield image, dict(finding=finding, name=name, reader=told_by, box=corners)


def _findings(about):
    """{the set's name: finding}."""
    spelled = dict(about["boxes"].get("spelled", {}))
    for block in about["labels"]:
        for finding, names in block["names"].items():
            spelled |= dict.fromkeys(names, finding)
    return spelled


def write_masks(table, frame, folder):
    """Column `truth_path`: the boxes of each finding as a mask in the image's pixels.

    Boxes are cut off at the film's edges; a warning counts those of which nothing is
    left, which are in no mask.

    Args:
        table: with `boxes`.
        frame: side in px of the image in which they are told; None is the image's own.
        folder: for the masks, made for its owner alone.
    """
    folder = private_folder(folder)
    table["truth_path"] = None
    rows = table.index[(table["refused"] == "") & table["boxes"].notna()]
    outside = 0
    for row in tqdm(rows, "writing masks", delay=2, leave=False):
        path = Path(table.at[row, "path"])
        try:
            truth, more = _masks(table.at[row, "boxes"], _shape(path), frame)
        except Exception as error:
            table.at[row, "refused"] = f"{path.name}: damaged ({type(error).__name__})"
            continue
        outside += more
        if truth:
            place = folder / f"{path.stem}.truth.png"
            write_truth(with_parent_masks(truth), place)
            table.at[row, "truth_path"] = str(place)
    if outside:
        warnings.warn(
            f"{outside} boxes hold no pixel of their film, and are in no mask.",
            stacklevel=3,
        )


def _shape(path):
    """(rows, columns) of a header."""
    if path.suffix in (".dcm", ".dicom"):
        header = pydicom.dcmread(path, stop_before_pixels=True)
        return header.Rows, header.Columns
    with Image.open(path) as picture:
        return picture.size[::-1]


def _masks(boxes, shape, frame):
    """{finding: (H, W)} of the names that are findings here; how many have no pixel."""
    scale = np.divide(shape, frame or shape)
    truth = {}
    outside = 0
    for box in boxes:
        if box["finding"] is None:
            continue
        edges = np.round(np.multiply(box["box"], [*scale, *scale]))
        # an edge below 0 would count from the far side
        top, left, bottom, right = np.clip(edges, 0, [*shape, *shape]).astype(int)
        if top >= bottom or left >= right:
            outside += 1
            continue
        mask = truth.setdefault(box["finding"], np.zeros(shape, bool))
        mask[top:bottom, left:right] = True
    return truth, outside
