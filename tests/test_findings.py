"""The parent label and the words of devices, defined once.

Against tables written out by hand.
"""

import ast
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import radwb as rw
from radwb.data.table import FINDINGS
from radwb.findings.devices import TIPS, device_name, device_phrase, device_phrases
from radwb.findings.parents import with_children, with_parent_masks, with_parents
from radwb.findings.rows import PARENT, synonyms
from radwb.simulate.mechanisms import MECHANISMS

NAN = np.nan


@pytest.mark.parametrize(
    ("parent", "child", "other", "expected"),
    [
        (0, 1, 0, 1),
        (0, 0, 0, 0),
        (1, 0, 0, 1),  # a patch that is none of the children
        (NAN, 1, NAN, 1),
        (NAN, 0, 0, NAN),  # no child is there, but perhaps a patch
        (0, -1, 0, -1),
        (1, -1, 0, 1),
        (-1, 0, 1, 1),
        (-1, 0, 0, -1),
        (0, NAN, NAN, 0),
    ],
)
def test_a_parent_is_there_with_any_child_and_never_denied_for_want_of_one(
    parent, child, other, expected
):
    labels = {"Lung Opacity": parent, "Edema": child, "Pneumonia": other, "Fracture": 1}
    got = with_parents(labels)
    np.testing.assert_equal(float(got["Lung Opacity"]), float(expected))
    table = with_parents(pd.DataFrame([labels, labels]))
    np.testing.assert_equal(table["Lung Opacity"].to_numpy(float), [expected, expected])
    assert {k: v for k, v in got.items() if k != "Lung Opacity"}.keys() == {
        "Edema",
        "Pneumonia",
        "Fracture",
    }
    assert labels["Lung Opacity"] is parent  # what was given stays as it was


def test_a_table_without_children_gets_no_parent():
    assert "Lung Opacity" not in with_parents(pd.DataFrame({"Pneumothorax": [1, 0]}))
    assert (
        with_parents(pd.DataFrame({"Edema": [1, 0]}))["Lung Opacity"].tolist()[0] == 1
    )


def test_a_parents_mask_is_the_union_and_nothing_else_changes():
    masks = {
        name: np.arange(4) == k
        for k, name in enumerate(["Lung Opacity", "Edema", "Lung Lesion", "Fracture"])
    }
    got = with_parent_masks(masks)
    np.testing.assert_array_equal(got["Lung Opacity"], [True, True, True, False])
    assert all(
        got[name] is masks[name] for name in ("Edema", "Lung Lesion", "Fracture")
    )
    assert with_parent_masks({"Fracture": masks["Fracture"]}).keys() == {"Fracture"}


def test_the_hierarchy_names_chexperts_findings_and_no_pleura():
    assert set(PARENT["Lung Opacity"]) == {
        "Lung Lesion",
        "Edema",
        "Consolidation",
        "Pneumonia",
        "Atelectasis",
    }
    assert {"Lung Opacity", *PARENT["Lung Opacity"]} <= set(FINDINGS)
    assert with_children({"Fracture"}) == {"Fracture"}
    assert with_children({"Lung Opacity"}) == {"Lung Opacity", *PARENT["Lung Opacity"]}


def test_real_sets_have_the_same_parent():
    try:
        table = rw.data.real("nih-64")
    except rw.data.FetchError:
        pytest.skip("the parent isn't checked on NIH: nih-64 is in no mirror")
    children = table[
        ["Lung Lesion", "Edema", "Consolidation", "Pneumonia", "Atelectasis"]
    ].max(axis=1)
    assert (table.loc[children == 1, "Lung Opacity"] == 1).all()
    rest = table[children == 0]
    assert (rest["Lung Opacity"] == -rest["Infiltration"]).all()
    assert (rest["Infiltration"] == 1).sum() > 10


def test_every_device_is_named_with_every_tip_and_a_bad_one_is_called_so():
    phrases = device_phrases()
    assert len(set(phrases)) == len(phrases)
    for kind in TIPS:
        assert any(kind in phrase for phrase in phrases)
    assert device_phrase("central line", "left", "brachiocephalic vein") == (
        "malpositioned left subclavian central line, "
        "tip in the left brachiocephalic vein"
    )
    assert device_phrase("endotracheal tube", tip="trachea", cm=4.0) in phrases
    assert device_phrase("ECG leads") == "overlying ECG leads"


def test_devices_are_asked_for_by_the_names_that_reports_have():
    assert synonyms("Support Devices") == tuple(map(device_name, TIPS))


def test_every_planted_finding_has_a_mechanism_words_and_a_parent_that_is_there():
    planted = [row for row in rw.findings.FINDINGS.values() if row.planting]
    by_their_own_way = {"heart", "device"}
    mechanisms = {row.planting.mechanism for row in planted}
    assert mechanisms == {*MECHANISMS, *by_their_own_way}
    assert all(row.report for row in planted)
    assert {row.parent for row in planted} <= {"", *rw.findings.FINDINGS}


def test_nothing_of_radwb_is_imported_to_the_left_of_all_rooms():
    for path in Path(rw.findings.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom):
                assert not node.module.startswith("radwb") or node.module.startswith(
                    "radwb.findings"
                )
            elif isinstance(node, ast.Import):
                assert not any(alias.name.startswith("radwb") for alias in node.names)
