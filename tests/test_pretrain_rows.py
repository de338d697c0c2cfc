"""What a run sees: train teaches, val follows, test stays outside.

And what the optimiser may do.
"""

import math
from contextlib import nullcontext

import numpy as np
import pandas as pd
import pytest
import torch
from open_clip.loss import ClipLoss
from tables import squares_table
from test_pretrain import QUICK, SMALL, VISUAL, weights_of

import radwb as rw
from radwb.pretrain.export import export_open_clip
from radwb.pretrain.loop import WEIGHT_DECAY, adamw
from radwb.pretrain.recipes import RECIPES
from radwb.pretrain.rows import without_report

CLOCK = ["seconds", "images_per_s"]
PAIRS = ["clip-tiny", "siglip-tiny", "local-tiny", "sentences-tiny"]
EXACT = QUICK | {"precision": "32-true"}


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    return squares_table(tmp_path_factory.mktemp("squares"))


@pytest.fixture(scope="module")
def clean(table, tmp_path_factory):
    """A run on a table that has no test rows at all."""
    rows = table[table["split"] != "test"]
    return rw.pretrain.fit(rows, out=tmp_path_factory.mktemp("runs") / "clean", **EXACT)


def same_weights(a, b):
    want = weights_of(b)
    return all(torch.equal(v, want[k]) for k, v in weights_of(a).items())


def same_words(a, b):
    return a.model.tokenizer.bpe.to_str() == b.model.tokenizer.bpe.to_str()


def log_of(run):
    return run.log.drop(columns=CLOCK)


def changed(table, split, **columns):
    """The table with other values in the rows of one split."""
    rows = table["split"] == split
    return table.assign(**{k: table[k].mask(rows, v) for k, v in columns.items()})


# who teaches, who is asked, who is left alone


def test_test_rows_change_nothing_though_they_stand_between_the_others(
    table, clean, tmp_path
):
    """Their films don't even exist, and their words are in no vocabulary."""
    mixed = changed(table, "test", path=table["path"] + ".nowhere")
    order = np.random.default_rng(0).permutation(len(mixed))
    order[np.isin(order, np.flatnonzero(mixed["split"] != "test"))] = np.arange(80)
    run = rw.pretrain.fit(mixed.iloc[order], out=tmp_path / "a", **EXACT)
    assert same_weights(run, clean)
    assert same_words(run, clean)
    pd.testing.assert_frame_equal(log_of(run), log_of(clean))
    assert run.config["left_out"] == {"for the test": 20}
    assert clean.config["left_out"] == {}


def test_train_rows_teach_the_weights_and_the_vocabulary(table, clean, tmp_path):
    other = changed(table, "train", report="FINDINGS: Zither. IMPRESSION: Zither.")
    run = rw.pretrain.fit(other, out=tmp_path / "a", **EXACT)
    assert not same_words(run, clean)
    assert not same_weights(run, clean)
    assert "zither" in run.model.tokenizer.bpe.to_str()


def test_validation_rows_change_what_is_measured_and_nothing_else(
    table, clean, tmp_path
):
    other = changed(table, "val", report="FINDINGS: Zither. IMPRESSION: Zither.")
    run = rw.pretrain.fit(other, out=tmp_path / "a", **EXACT)
    assert same_weights(run, clean)
    assert same_words(run, clean)
    of_training = ["step", "epoch", "loss", "lr", "grad_norm", "logit_scale"]
    pd.testing.assert_frame_equal(run.log[of_training], clean.log[of_training])
    assert (run.log["val_loss"].dropna() != clean.log["val_loss"].dropna()).all()


def test_validation_asks_the_model_as_it_is_used_afterwards(table, tmp_path):
    """The last val_loss is open_clip's loss of the saved model, which is not in
    training, on the films of "val".
    """
    reports = changed(table, "val", report="IMPRESSION: Number " + table["patient_id"])
    run = rw.pretrain.fit(reports, out=tmp_path / "a", **EXACT)
    val = reports[reports["split"] == "val"]
    net = run.model.net.eval()
    assert not any(layer.training for layer in net.modules())
    with torch.no_grad():
        images = run.model.encode_image(run.model.preprocess(rw.data.images(val, 32)))
        texts = run.model.encode_text(
            [rw.pretrain.caption_of(r) for r in val["report"]]
        )
        want = ClipLoss()(images, texts, net.logit_scale.exp())
    assert run.log["val_loss"].iloc[-1] == pytest.approx(want.item(), rel=1e-4)


def test_looking_at_held_out_films_leaves_no_trace(table, clean, tmp_path):
    """Without any there are the same weights and the same running statistics, and
    training goes on as training.
    """
    rows = table[table["split"] == "train"]
    run = rw.pretrain.fit(rows, out=tmp_path / "a", **EXACT)
    assert same_weights(run, clean)
    np.testing.assert_array_equal(run.log["loss"], clean.log["loss"])


def test_dropout_is_on_in_training_and_off_in_validation(table, tmp_path, monkeypatch):
    modes = {"training": set(), "validation": set()}

    class Spy(RECIPES["clip-tiny"]):
        def forward(self, x, *targets):
            modes["training"] |= {layer.training for layer in self.modules()}
            return super().forward(x, *targets)

        def validate(self, images, *, batch):
            modes["validation"] |= {layer.training for layer in self.modules()}
            return super().validate(images, batch=batch)

    monkeypatch.setitem(RECIPES, "spy", Spy)
    rw.pretrain.fit(table, out=tmp_path / "a", **(EXACT | {"recipe": "spy"}))
    assert modes == {"training": {True}, "validation": {False}}


def test_shards_are_seen_as_their_table_is(table, tmp_path):
    """Test samples change nothing, and a sample without a report is left out and
    counted.
    """
    silent = table["patient_id"].isin(["p3", "p4"])
    silent_table = table.assign(report=table["report"].mask(silent))
    runs = []
    for name, rows in (
        ("all", silent_table),
        ("seen", table[(table["split"] != "test") & ~silent]),
    ):
        folder = tmp_path / f"{name} shards"
        rw.data.write_shards(rows, folder, per_shard=200)
        warning = pytest.warns(UserWarning, match="have no report")
        with warning if name == "all" else nullcontext():
            runs.append(rw.pretrain.fit(shards=folder, out=tmp_path / name, **EXACT))
    assert same_words(*runs)
    assert same_weights(*runs)
    assert runs[0].config["left_out"] == {"for the test": 20, "without a report": 2}
    assert (runs[0].config["n_train"], runs[0].config["n_val"]) == (63, 15)


# patients on two sides


@pytest.mark.parametrize(
    "sides", [("train", "test"), ("val", "test"), ("train", "val")]
)
def test_patients_on_two_sides_are_refused_and_counted(table, tmp_path, sides):
    first, second = (table.index[table["split"] == side][:3] for side in sides)
    leaking = table.copy()
    leaking.loc[second, "patient_id"] = table.loc[first, "patient_id"].to_numpy()
    message = "expected each patient in one part, got 3 of 97 patients in two or more"
    with pytest.raises(ValueError, match=message):
        rw.pretrain.fit(leaking, out=tmp_path / "a", **QUICK)
    with pytest.raises(ValueError, match=message):
        export_open_clip(leaking, tmp_path / "b", size=32, shape=SMALL)
    rw.data.write_shards(leaking, tmp_path / "shards")
    with pytest.raises(ValueError, match=message):
        rw.pretrain.fit(shards=tmp_path / "shards", out=tmp_path / "c", **QUICK)
    assert not (tmp_path / "a").exists()


def test_rows_of_no_known_split_are_refused(table, tmp_path):
    unsure = table.assign(split=table["split"].mask(table["patient_id"] == "p0", "dev"))
    with pytest.raises(ValueError, match="expected split to be one of .*got ..dev"):
        rw.pretrain.fit(unsure, out=tmp_path / "a", **QUICK)


def test_labels_that_only_test_rows_have_are_no_labels(table, tmp_path):
    blind = table.assign(
        **{"Lung Lesion": table["Lung Lesion"].where(table["split"] == "test")}
    )
    with pytest.raises(
        ValueError, match="expected values in the columns .'Lung Lesion'"
    ):
        rw.pretrain.fit(
            blind,
            out=tmp_path / "a",
            **(QUICK | {"recipe": "supervised-tiny", "shape": VISUAL}),
        )


# reports that are missing


def test_what_counts_as_a_missing_report():
    reports = ["No effusion.", "IMPRESSION: None of the above.", "FINDINGS: Clear."]
    missing = [
        None,
        float("nan"),
        pd.NA,
        "",
        "  ",
        "nan",
        "None",
        "IMPRESSION: nan",
        "FINDINGS: IMPRESSION:",
    ]
    silent = without_report(pd.Series([*reports, *missing], dtype=object))
    assert silent.tolist() == [False] * len(reports) + [True] * len(missing)


@pytest.mark.parametrize("recipe", [*PAIRS, "mlm-tiny", "lm-tiny"])
@pytest.mark.parametrize("missing", [None, "nan"])
def test_missing_reports_are_left_out_and_counted(table, tmp_path, recipe, missing):
    """The run is the one of the other rows, and no caption is "nan" or "None"."""
    silent = table["patient_id"].isin(["p3", "p4", "p85"])  # of train, val and test
    gaps = table.assign(report=table["report"].astype(object).mask(silent, missing))
    how = EXACT | {"recipe": recipe, "epochs": 1}
    with pytest.warns(
        UserWarning, match="2 of 100 rows have no report and are left out"
    ):
        run = rw.pretrain.fit(gaps, out=tmp_path / "gaps", **how)
    others = rw.pretrain.fit(table[~silent], out=tmp_path / "others", **how)
    assert run.config["left_out"] == {"for the test": 20, "without a report": 2}
    assert (run.config["n_train"], run.config["n_val"]) == (63, 15)
    assert same_words(run, others)
    assert same_weights(run, others)
    pd.testing.assert_frame_equal(log_of(run), log_of(others))


@pytest.mark.parametrize("recipe", ["supervised-tiny", "mae-tiny"])
def test_a_recipe_that_reads_no_reports_keeps_the_films_without(
    table, tmp_path, recipe
):
    silent = table.assign(report=None)
    run = rw.pretrain.fit(
        silent,
        out=tmp_path / "a",
        **(EXACT | {"recipe": recipe, "shape": VISUAL, "epochs": 1}),
    )
    assert (run.config["n_train"], run.config["n_val"]) == (64, 16)
    assert "without a report" not in run.config["left_out"]


def test_exported_pairs_have_a_report_and_no_test_rows(table, tmp_path):
    gaps = table.assign(report=table["report"].mask(table["patient_id"] == "p3", "nan"))
    with pytest.warns(UserWarning, match="1 of 100 rows have no report"):
        out = export_open_clip(gaps, tmp_path / "a", size=32, shape=SMALL, shards=1)
    written = b"".join(path.read_bytes() for path in out.rglob("*.tar"))
    assert b"Bright square" in written
    assert b"Xylophone" not in written
    assert b"nan" not in written
    assert "--train-num-samples 63 " in (out / "train.sh").read_text()


# what the optimiser may do


def started_at(table, tmp_path, scale):
    """A model on disk whose temperature is 1 / scale."""
    tokenizer = rw.models.Tokenizer.train(table["report"])
    model = rw.models.clip_tiny(tokenizer, shape=SMALL | {"size": 32})
    with torch.no_grad():
        model.net.logit_scale.fill_(math.log(scale))
    return rw.models.save(model, tmp_path / "start")


@pytest.mark.parametrize("recipe", PAIRS)
@pytest.mark.parametrize(("scale", "bound"), [(400, 100), (0.2, 1)])
def test_the_temperature_stays_within_the_bounds_of_clip(
    table, tmp_path, recipe, scale, bound
):
    """A scale of 1 to 100, whatever it starts from; it moves by next to nothing at this
    rate.
    """
    start = started_at(table, tmp_path, scale)
    how = {
        "recipe": recipe,
        "epochs": 1,
        "batch": 16,
        "lr": 1e-6,
        "precision": "32-true",
    }
    run = rw.pretrain.fit(table, start=start, out=tmp_path / "a", **how)
    assert run.log["logit_scale"].iloc[0] == pytest.approx(bound, rel=1e-4)
    assert run.log["logit_scale"].between(1, 100.001).all()
    assert run.model.net.logit_scale.exp().item() == pytest.approx(bound, rel=1e-4)


@pytest.mark.parametrize(
    "recipe", ["clip-tiny", "siglip-tiny", "supervised-tiny", "dino-tiny"]
)
def test_decay_shrinks_matrices_and_leaves_norms_biases_and_the_temperature(
    table, recipe
):
    """With no gradient a step of AdamW is nothing but the decay: 1 - lr * 0.1 for a
    matrix.
    """
    builds = RECIPES[recipe].builds
    tokenizer = rw.models.Tokenizer.train(table["report"])
    model = (
        rw.models.clip_tiny(tokenizer, shape=SMALL | {"size": 32})
        if builds == "image-text"
        else rw.models.supervised_tiny(
            ["Lung Lesion"] * (builds == "findings"), shape=VISUAL | {"size": 32}
        )
    )
    task = RECIPES[recipe](model, table)
    norms = {
        f"{name}.{parameter}"
        for name, layer in task.named_modules()
        if isinstance(
            layer, torch.nn.LayerNorm | torch.nn.BatchNorm2d | torch.nn.GroupNorm
        )
        for parameter, _ in layer.named_parameters(recurse=False)
    }
    trained = {n: p for n, p in task.named_parameters() if p.requires_grad}
    exempt = {
        n
        for n in trained
        if n in norms or n.endswith(("bias", "logit_scale", "class_embedding"))
    }
    before = {n: p.detach().clone() for n, p in trained.items()}
    for p in trained.values():
        p.grad = torch.zeros_like(p)
    adamw(task, lr=0.5).step()
    assert norms & set(trained)
    for name, p in trained.items():
        factor = 1 if name in exempt else 1 - 0.5 * WEIGHT_DECAY
        torch.testing.assert_close(
            p.detach(), factor * before[name], msg=lambda m, name=name: f"{name}: {m}"
        )
