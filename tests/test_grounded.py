"""The recipe that knows where: what is asked of each patch, and what it teaches."""

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F

import radwb as rw
from radwb import models
from radwb.pretrain.grounded import (
    TO_POSITIVES,
    Grounded,
    covered,
    on_patches,
    patch_shares,
)

SIZE = 64  # 4 x 4 patches of 16


@pytest.fixture(scope="module")
def model():
    tokenizer = models.Tokenizer.train(["no finding."] * 5, vocab_size=280, context=16)
    return models.clip_tiny(tokenizer, shape={"size": SIZE})


def film_with(mask, path, finding="Pneumothorax", white=None):
    """A film of noise; where the mask is, or `white` says so, it's white."""
    rng = np.random.default_rng(0)
    pixels = rng.uniform(0, 0.4, mask.shape).astype(np.float32)
    pixels[mask if white is None else white] = 1
    truth = {finding: mask} if mask.any() else {}
    rw.data.write_png(rw.data.Scan(pixels, truth=truth), path)


def test_a_patch_counts_from_a_quarter_of_it_on(model):
    mask = np.zeros((SIZE, SIZE), bool)
    mask[:16, :16] = True  # all of the first patch
    mask[16:20, :8] = True  # an eighth of the one below
    shares = patch_shares(mask, model)
    assert shares.shape == (16,)
    assert shares[0] == 1
    assert shares[4] == pytest.approx(0.5)
    assert shares.sum() == pytest.approx(1.5)


def test_a_film_that_is_not_square_is_asked_where_its_input_has_it(model):
    mask = np.zeros((32, 64), bool)
    mask[:, :16] = True  # padded above and below, so rows 1 and 2 of the patches
    assert patch_shares(mask, model).reshape(4, 4)[:, 0].tolist() == [0, 1, 1, 0]


def test_a_finding_without_a_mask_is_not_asked_for(tmp_path, model):
    rows = []
    for name, here in (("seen", True), ("unseen", False), ("healthy", False)):
        mask = np.zeros((SIZE, SIZE), bool)
        mask[:16, :16] = here
        film_with(mask, tmp_path / f"{name}.png")
        label = int(name != "healthy")
        rows.append({"path": str(tmp_path / f"{name}.png"), "Pneumothorax": label})
    shares = covered(pd.DataFrame(rows), ["Pneumothorax"], model)
    assert shares[0, 0, 0] == 1
    assert shares[0, 0, 1:].sum() == 0
    assert (shares[1] == -1).all()
    assert (shares[2] == 0).all()


def test_shards_are_refused_since_their_masks_are_not_read(model):
    rows = pd.DataFrame({"key": ["a"], "report": ["No finding."], "split": ["train"]})
    with pytest.raises(ValueError, match="got shards.*Try fit"):
        Grounded(model, rows)


def test_the_term_is_the_mean_over_what_is_known():
    found = torch.tensor([[[2.0, -1.0, 0.5]]])
    share = torch.tensor([[[1.0, 0.0, -1.0]]])
    yes = -F.logsigmoid(torch.tensor(2.0))
    no = -F.logsigmoid(torch.tensor(1.0))
    by_hand = (TO_POSITIVES * yes + no) / 2
    assert on_patches(found, share) == pytest.approx(float(by_hand))


def test_it_learns_where(tmp_path):
    """Two squares come with a finding, and the masks say that it's the left one.

    Reports alone can't tell the two apart.
    """
    rng = np.random.default_rng(1)
    rows = []
    for i in range(160):
        here = i % 2 == 0
        squares = np.zeros((2, SIZE, SIZE), bool)
        for square, side in zip(squares, (0, 2), strict=True):
            row, column = rng.integers(0, (4, 2)) + (0, side)
            square[16 * row : 16 * row + 16, 16 * column : 16 * column + 16] = here
        path = tmp_path / f"{i}.png"
        film_with(squares[0], path, white=squares.any(0))
        report = "There is a pneumothorax." if here else "No pneumothorax."
        part = "test" if i >= 120 else "train"
        label = {"Pneumothorax": int(here)}
        about = {"path": str(path), "patient_id": f"p{i}", "split": part}
        rows.append(about | {"report": report} | label)
    table = pd.DataFrame(rows)
    small = {"size": SIZE, "batch": 20, "epochs": 12, "lr": 2e-3}
    small["shape"] = {"width": 48, "layers": 1, "heads": 1, "embed": 48}
    run = rw.pretrain.fit(table, recipe="grounded-tiny", out=tmp_path / "run", **small)
    hits = []
    for _, row in table[table["split"] == "test"].iterrows():
        scan = rw.data.scan_of(row)
        if row["Pneumothorax"]:
            found = rw.attend.attention_map(
                run.model, scan, method="similarity", target="there is a pneumothorax"
            )
            hits.append(rw.attend.score_map(found, scan.truth["Pneumothorax"])["hit"])
    assert len(hits) == 20
    assert np.mean(hits) >= 0.8
