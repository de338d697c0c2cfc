"""Each recipe learns, follows its seed, and trains what it says.

It leaves a model that loads.
"""

import copy

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from processes import on_one_and_two

import radwb as rw
from radwb.pretrain.augment import crop_keeping
from radwb.pretrain.captions import sentences
from radwb.pretrain.objectives import patchify
from radwb.pretrain.recipe import Recipe
from radwb.pretrain.recipes import RECIPES, needs

SHAPE = {"size": 32, "patch": 8, "width": 48, "heads": 2, "layers": 1, "embed": 32}
TEXT = {"text_width": 32, "text_heads": 2, "text_layers": 1}
ALONE = ["mae-tiny", "simclr-tiny", "dino-tiny"]
TEXTS = ["mlm-tiny", "lm-tiny"]
WHOLE = ["clip-tiny", "siglip-tiny", "local-tiny", "sentences-tiny", "simclr-tiny"]


def squares(n=16, side=32, seed=0):
    """(n, S, S) uint8: noise under a bright square of its own place."""
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 80, (n, side, side)).astype(np.uint8)
    for i in range(n):
        y, x = 8 * (i % 4), 8 * (i // 4 % 4)
        images[i, y : y + 8, x : x + 8] = 220
    return torch.from_numpy(images)


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """Films with a bright square each, which is the lesion where there is one."""
    folder = tmp_path_factory.mktemp("films")
    for i, square in enumerate(squares()):
        pixels = square.numpy().astype(np.float32) / 255
        truth = {"Lung Lesion": pixels > 0.5} if i % 4 > 1 else {}
        rw.data.write_png(rw.data.Scan(pixels, truth=truth), folder / f"{i}.png")
    rows = [
        f"FINDINGS: A square in row {i % 4}. IMPRESSION: Row {i % 4}, column {i // 4}."
        for i in range(16)
    ]
    return pd.DataFrame(
        {
            "path": [str(folder / f"{i}.png") for i in range(16)],
            "patient_id": [f"p{i}" for i in range(16)],
            "report": rows,
            "split": "train",
            "Lung Lesion": [float(i % 4 > 1) for i in range(16)],
            "Edema": [float(i % 2) for i in range(16)],
        }
    )


def model_for(recipe, table, seed=0, **shape):
    builds = RECIPES[recipe].builds
    if builds == "image-text":
        tokenizer = rw.models.Tokenizer.train(table["report"], vocab_size=300)
        return rw.models.clip_tiny(tokenizer, seed=seed, shape=SHAPE | TEXT | shape)
    findings = ["Lung Lesion", "Edema"] if builds == "findings" else []
    return rw.models.supervised_tiny(findings, seed=seed, shape=SHAPE | shape)


def task_for(recipe, table, **shape):
    return RECIPES[recipe](model_for(recipe, table, **shape), table)


def views_of(task, images, seed):
    """What the loop hands to a recipe."""
    if task.views == 0:
        return None
    rows = torch.arange(len(images))
    return task.two_views(images, rows, seed) if task.views == 2 else task.view(images)


def train(task, images, steps, lr=3e-3):
    """The loop in short; returns the losses."""
    task.net.train()
    optimizer = torch.optim.AdamW(
        [p for p in task.parameters() if p.requires_grad], lr=lr
    )
    losses = []
    for step in range(steps):
        loss = task(
            views_of(task, images, seed=10 * step),
            *task.targets(np.arange(len(images)), seed=step),
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        task.after_step(step / steps)
        losses.append(loss.item())
    task.net.eval()
    return losses


@pytest.mark.parametrize("recipe", RECIPES)
def test_the_loss_falls_and_the_model_is_saved_and_loaded(recipe, table, tmp_path):
    images, task = squares(), task_for(recipe, table)
    with torch.no_grad():
        before = task.eval().validate(images, batch=8)
    losses = train(task, images, 20)
    if (
        recipe != "dino-tiny"
    ):  # whose loss first rises with its centre; it has its own test
        assert np.mean(losses[-4:]) < 0.95 * np.mean(losses[:3])
    with torch.no_grad():
        after, again = (task.validate(images, batch=8) for _ in range(2))
    assert after == again
    assert set(after) == set(before) - {"warning"}  # untrained, all look alike
    assert all(np.isfinite(v).all() for v in after.values())
    back = rw.models.load(rw.models.save(task.model, tmp_path / "a"))
    assert back.kind == (
        "image-text" if RECIPES[recipe].builds == "image-text" else "image"
    )
    assert back.findings == (
        ["Lung Lesion", "Edema"] if recipe == "supervised-tiny" else None
    )
    want, got = (m.encode_image(m.preprocess(images)) for m in (task.model, back))
    torch.testing.assert_close(got, want)


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_is_what_the_contract_says(recipe, table):
    """Its attributes, and the shapes of what its methods give."""
    task = task_for(recipe, table)
    assert isinstance(task, Recipe)
    assert task.views in (0, 1, 2)
    assert task.builds in ("image-text", "findings", "image")
    targets = task.targets(np.arange(8), seed=3)
    assert all(isinstance(t, torch.Tensor) and len(t) == 8 for t in targets)
    assert all(t.device.type == "cpu" for t in targets)
    x = views_of(task, squares(8), seed=0)
    loss = task(x, *targets)
    assert loss.shape == ()
    terms = task.terms(*targets)
    assert terms is None or terms.shape == ()
    assert task.guess(8) is None or task.guess(8) > 0
    if task.whole_batch:
        points = task.represent(x, *targets)
        assert all(len(p) == 8 for p in points)
    task.after_step(0.5)
    held_out = task.on(table.head(6)).eval()
    with torch.no_grad():
        columns = held_out.validate(squares(6), batch=4)
    assert isinstance(columns["val_loss"], float)
    again = task.targets(np.arange(8), seed=3)  # the task keeps its own rows
    assert all(torch.equal(a, b) for a, b in zip(targets, again, strict=True))


class Bright(Recipe):
    """What a learner writes: which films are brighter than the middle one?"""

    def read(self, table):
        films = rw.data.images(table, self.model.size)
        bright = torch.tensor(films.mean((1, 2)))
        self.bright = (bright > bright.median()).float()  # (N,)

    def build(self):
        self.head = torch.nn.Linear(self.net.visual.output_dim, 1)

    def targets(self, rows, seed=0):
        return (self.bright[rows],)

    def forward(self, x, bright):
        logits = self.head(self.net.visual(x))[:, 0]
        return F.binary_cross_entropy_with_logits(logits.float(), bright)


def test_a_recipe_of_a_learner_trains_stops_and_goes_on(tmp_path, monkeypatch):
    rows = []
    for i, square in enumerate(squares(20)):
        grey = square.numpy() // (1 + i % 2)
        Image.fromarray(grey).save(tmp_path / f"{i}.png")
        split = "val" if i > 15 else "train"
        rows.append({"path": tmp_path / f"{i}.png", "patient_id": i, "split": split})
    films = pd.DataFrame(rows).astype({"path": str, "patient_id": str})
    monkeypatch.setitem(RECIPES, "bright", Bright)
    how = {"recipe": "bright", "epochs": 12, "batch": 16, "lr": 3e-3, "shape": SHAPE}
    whole = rw.pretrain.fit(films, out=tmp_path / "whole", **how)
    losses = whole.log["loss"]
    assert losses.iloc[-3:].mean() < 0.7 * losses.iloc[:3].mean()
    assert whole.log["val_loss"].notna().sum() == 12

    def stop(row):
        if row["step"] == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        rw.pretrain.fit(films, out=tmp_path / "cut", callback=stop, **how)
    cut = rw.pretrain.fit(films, out=tmp_path / "cut", **how)
    assert cut.log["loss"].tolist() == whole.log["loss"].tolist()


@pytest.mark.parametrize("recipe", RECIPES)
def test_all_that_asks_for_a_gradient_gets_one_and_the_rest_stays(recipe, table):
    task = task_for(recipe, table)
    before = copy.deepcopy(task.state_dict())
    task.net.train()
    images = squares()
    task(views_of(task, images, 0), *task.targets(np.arange(16), seed=1)).backward()
    blind = [
        n for n, p in task.named_parameters() if p.requires_grad and p.grad is None
    ]
    assert blind == []
    assert all(p.grad is None for p in task.parameters() if not p.requires_grad)
    trained = {
        n.split(".")[1]
        for n, p in task.named_parameters()
        if p.requires_grad and n.startswith("net.")
    }
    assert ("visual" in trained) == (recipe not in TEXTS)
    assert all(
        torch.equal(v, before[k])
        for k, v in task.state_dict().items()
        if k.startswith("teacher.0.proj")
    )


@pytest.mark.parametrize(
    "recipe", ["clip-tiny", "sentences-tiny", "local-tiny", "simclr-tiny"]
)
def test_a_model_to_which_all_look_alike_has_the_loss_of_a_guess(recipe, table):
    reports = table.assign(
        report=[
            f"IMPRESSION: Image {i}. It is {i} of many. One {i}. Two {i}."
            for i in range(16)
        ]
    )
    task = task_for(recipe, reports)
    points = [
        torch.ones_like(p)
        for p in task.represent(views_of(task, squares(), 0), *task.targets(range(16)))
    ]
    assert task.loss_of(points, *task.targets(range(16))).item() == pytest.approx(
        task.guess(16), rel=1e-3
    )


@pytest.mark.parametrize("recipe", TEXTS)
def test_reports_alone_need_no_images_and_are_read_to_the_given_length(
    recipe, table, tmp_path
):
    reports = table.drop(columns="path")
    settings = {"epochs": 1, "batch": 8, "recipe": recipe, "shape": SHAPE | TEXT}
    run = rw.pretrain.fit(reports, out=tmp_path / recipe, context=12, **settings)
    assert (
        run.model.tokenizer.context
        == rw.models.load(tmp_path / recipe).tokenizer.context
        == 12
    )
    with pytest.raises(ValueError, match="expected the columns .'path'."):
        rw.pretrain.fit(
            reports, out=tmp_path / "clip", **{**settings, "recipe": "clip-tiny"}
        )
    with pytest.raises(
        ValueError, match="expected no context, since mae-tiny reads no text; got 12"
    ):
        rw.pretrain.fit(
            table,
            out=tmp_path / "mae",
            context=12,
            **{**settings, "recipe": "mae-tiny"},
        )
    with pytest.raises(ValueError, match="expected no context beside start, got 13"):
        rw.pretrain.fit(
            reports,
            out=tmp_path / "on",
            context=13,
            start=tmp_path / recipe,
            **settings | {"shape": None},
        )


@pytest.mark.parametrize("recipe", ["mae-tiny", "mlm-tiny"])
def test_masks_follow_the_seed_of_the_step(recipe, table):
    task = task_for(recipe, table)
    mask = [task.targets(np.arange(8), seed=s)[-1] for s in (0, 0, 1)]
    assert torch.equal(mask[0], mask[1])
    assert not torch.equal(mask[0], mask[2])
    other = RECIPES[recipe](task.model, table, rank=1, world=2)
    assert not torch.equal(other.targets(np.arange(8), seed=0)[-1], mask[0])


@pytest.mark.parametrize("recipe", WHOLE)
def test_forward_is_the_loss_of_what_is_represented(recipe, table):
    task, images = task_for(recipe, table).eval(), squares()
    x, targets = views_of(task, images, 0), task.targets(np.arange(16))
    parts = [
        task.represent(
            [v[c] for v in x] if task.views == 2 else x[c], *(t[c] for t in targets)
        )
        for c in torch.arange(16).split(4)
    ]
    points = tuple(torch.cat(p) for p in zip(*parts, strict=True))
    assert all(len(p) == 16 for p in points)
    torch.testing.assert_close(
        task.loss_of(points, *targets), task(x, *targets), rtol=1e-4, atol=1e-4
    )


def test_a_sentence_is_right_for_each_report_that_has_it(table):
    """Against a loop over pairs; what is drawn belongs to its report, and a report's
    own sentences all turn up.
    """
    reports = [
        "1. Small effusion. 2. No nodule.",
        "No nodule.",
        "Large effusion. Edema. Small mass. No air. A tube. No nodule.",
    ]
    task = task_for(
        "sentences-tiny",
        table.head(3).assign(report=[f"IMPRESSION: {t}" for t in reports]),
    )
    texts = {
        t: i
        for i, t in enumerate(
            sorted(
                {
                    *reports,
                    "Small effusion.",
                    *reports[2].replace(". ", ".|").split("|"),
                }
            )
        )
    }
    sentences_of = [
        {texts[reports[0]], texts["Small effusion."], texts["No nodule."]},
        {texts["No nodule."]},
        {
            texts[reports[2]],
            *(texts[t] for t in reports[2].replace(". ", ".|").split("|")),
        },
    ]
    seen = [task.targets([2, 0, 1], seed=s)[1] for s in range(20)]
    assert [set(torch.stack(seen)[:, k].flatten().tolist()) for k in range(3)] == [
        sentences_of[2],
        sentences_of[0],
        sentences_of[1],
    ]
    assert all(len(set(row.tolist())) == 4 for row in torch.stack(seen)[:, 0])
    shared = texts["No nodule."]
    seed = next(
        s
        for s in range(20)
        if shared not in task.targets([2], seed=s)[1] and shared in task.targets([1])[1]
    )
    tokens, drawn, right = task.targets(
        [0, 1, 2], seed=seed
    )  # right for the third report, though it didn't draw it
    assert torch.equal(task.targets([1], seed=seed)[1], drawn[1:2])
    assert torch.equal(tokens, task.spoken[drawn])
    generator = torch.Generator().manual_seed(0)
    images, lines = (torch.randn(n, 32, generator=generator) for n in (3, 12))
    with torch.no_grad():
        logits = (task.net.logit_scale.exp() * images @ lines.T).double()
        loss = task.loss_of((images, lines.view(3, 4, 32)), tokens, drawn, right)
        flat = drawn.flatten().tolist()
    right = [[j in sentences_of[i] for j in flat] for i in range(3)]
    rows = [
        -sum(logits[i].log_softmax(0)[j] for j in range(12) if right[i][j])
        / sum(right[i])
        for i in range(3)
    ]
    columns = [
        -sum(logits[:, j].log_softmax(0)[i] for i in range(3) if right[i][j])
        / sum(r[j] for r in right)
        for j in range(12)
    ]
    torch.testing.assert_close(
        loss.double(), (sum(rows) / 3 + sum(columns) / 12) / 2, rtol=1e-5, atol=1e-5
    )


def test_sentences_of_an_impression_lose_their_numbers_and_keep_their_measures():
    text = "FINDINGS: Clear lungs. IMPRESSION: 1. A 2.3 cm lung mass. 2. No edema."
    assert sentences(text) == ["A 2.3 cm lung mass.", "No edema."]
    assert sentences("FINDINGS: Clear lungs. No edema.") == [
        "Clear lungs.",
        "No edema.",
    ]


def test_what_stands_behind_the_mask_is_not_seen(table):
    """Other pixels under the mask change no token; the stem of this tower would have
    passed them on.
    """
    task = task_for("mae-tiny", table).eval()
    x, (mask,) = task.view(squares()), task.targets(range(16))
    pixels = mask.view(16, 1, 4, 4).repeat_interleave(8, 2).repeat_interleave(8, 3)
    seen = []
    task.head.register_forward_hook(lambda module, tokens, out: seen.append(out))
    task(x, mask)
    task(torch.where(pixels, 3.0, x), mask)
    assert torch.equal(*seen)
    task(torch.where(pixels, x, 3.0), mask)
    assert not torch.allclose(seen[0], seen[2])
    assert seen[0].shape == patchify(x, 8).shape


def test_a_masked_word_reads_both_sides_a_next_word_only_what_came_before(table):
    for recipe, both in (("mlm-tiny", True), ("lm-tiny", False)):
        task, seen = task_for(recipe, table).eval(), []
        task.net.ln_final.register_forward_hook(
            lambda m, x, y, seen=seen: seen.append(y)
        )
        targets = task.targets(np.arange(1), seed=0)
        end = int(targets[0].argmax())
        for word in (5, 6):
            shown = [t.clone() for t in targets]
            shown[-2 if both else 0][0, end - 1] = word
            task(None, *shown)
        differ = (seen[0] != seen[1]).any(-1)[0]
        assert differ[1:end].any() if both else not differ[: end - 1].any()
        assert differ[end - 1]
        if both:  # padding is not read
            shown = [t.clone() for t in targets]
            shown[1][0, end + 1 :] = 7
            task(None, *shown)
            task(None, *targets)
            assert torch.allclose(
                seen[2][0, : end + 1], seen[3][0, : end + 1], atol=1e-6
            )


def test_the_teacher_follows_the_student_and_in_the_end_stands_still(table):
    task = task_for("dino-tiny", table)
    task.net.train()
    task(views_of(task, squares(), 0))
    with torch.no_grad():
        task.net.visual.proj += 1.0
    before = task.teacher[0].proj.clone()
    task.after_step(0.0)
    torch.testing.assert_close(
        task.teacher[0].proj, before.lerp(task.net.visual.proj, 0.05)
    )
    moved = task.centre.clone()
    assert moved.abs().sum() > 0
    task(views_of(task, squares(), 1))
    before = task.teacher[0].proj.clone()
    task.after_step(1.0)
    assert torch.equal(task.teacher[0].proj, before)
    assert not torch.equal(task.centre, moved)


def test_heads_and_teacher_are_kept_with_the_task(table):
    """A task built anew, with other weights, goes on from `state_dict` as the first
    would have.
    """
    images = squares()
    for recipe in RECIPES:
        task = task_for(recipe, table)
        train(task, images, 2)
        other = RECIPES[recipe](model_for(recipe, table, seed=1), table)
        other.load_state_dict(task.state_dict())
        a, b = (train(t, images, 1) for t in (task, other))
        assert a == b, recipe


@pytest.mark.parametrize(
    "recipe", ["mae-tiny", "supervised-tiny", "clip-tiny", "lm-tiny"]
)
def test_validation_uses_the_weights_and_heads_in_training(recipe, table):
    task = task_for(recipe, table)
    held_out = task.on(table.iloc[:5])
    with torch.no_grad():
        before = held_out.validate(squares(5), batch=2)["val_loss"]
    train(task, squares(), 15)
    with torch.no_grad():
        assert held_out.validate(squares(5), batch=2)["val_loss"] < before
    assert len(task.targets(np.arange(16))[0]) == 16  # the task keeps its own rows


def alike(recipe, table):
    """The loss where all captions are equal, and all images and texts too."""
    task = task_for(recipe, table.assign(report="IMPRESSION: Normal.")).eval()
    targets = task.targets(np.arange(16))
    points = task.represent(task.view(squares()), *targets)
    return task, task.loss_of(
        tuple(p[:1].expand_as(p).contiguous() for p in points), *targets
    )


def test_siglip_and_local_see_equal_captions_as_right(table):
    task, loss = alike("siglip-tiny", table)
    loss.backward()
    assert (
        task.bias.grad < -15
    )  # each of 16 x 16 pairs is a yes, a 16th of them counts, and the bias says no
    _, loss = alike("local-tiny", table)
    assert loss.item() == pytest.approx(
        2 * np.log(16), abs=1e-3
    )  # nothing is told apart, twice


def test_needs_covers_all_recipes(table):
    assert needs("supervised-tiny", table) == ("split", "Lung Lesion", "Edema")
    assert {r: needs(r, table) for r in ALONE} == dict.fromkeys(ALONE, ("split",))
    for recipe in ("clip-tiny", "siglip-tiny", "local-tiny", *TEXTS):
        assert needs(recipe, table) == ("report", "split")
    with pytest.raises(
        ValueError, match="expected a recipe of clip-tiny, .*lm-tiny, got 'mae'"
    ):
        needs("mae", table)


def test_a_recipe_says_which_part_a_model_lacks(table):
    model = model_for("mae-tiny", table)
    model.tokenizer = rw.models.Tokenizer.train(table["report"])
    with pytest.raises(
        ValueError,
        match="expected a network with token_embedding., .*Try rw.models.clip_tiny",
    ):
        RECIPES["lm-tiny"](model, table)


def shared_by_views(task, images):
    """How much the student knows of the teacher's answer to another view, nats; and the
    entropy of its mean answer.
    """
    with torch.no_grad():
        seen = task.eval().validate(images, batch=8)
    return seen["teacher_entropy"] - seen["val_loss"], seen["teacher_entropy"]


def test_dino_learns_what_views_share_and_without_centring_collapses(table):
    images, task = squares(8), task_for("dino-tiny", table)
    before, _ = shared_by_views(task, images)
    train(task, images, 50, lr=1e-3)
    after, spread = shared_by_views(task, images)
    assert after > before + 0.4
    assert spread > 2.5
    task = task_for("dino-tiny", table)
    task.centring = False
    train(task, images, 20, lr=1e-3)
    assert shared_by_views(task, images)[1] < 1


def share_of_a_batch(fabric, recipe, table, out):
    """Each process: the gradient of one global batch of 8, of which it has its share;
    norms within each image.
    """
    task = RECIPES[recipe](
        model_for(recipe, table, groups=1),
        table,
        rank=fabric.global_rank,
        world=fabric.world_size,
    )
    wrapped, share = fabric.setup(task), 8 // fabric.world_size
    rows = np.arange(8)[fabric.global_rank * share :][:share]
    x = (
        task.two_views(squares(), torch.arange(8))
        if task.views == 2
        else [task.view(squares()[:8])]
    )
    x = [v[rows] for v in x]
    fabric.backward(wrapped(x if task.views == 2 else x[0], *task.targets(rows)))
    task.after_step(0.0)
    if fabric.is_global_zero:
        state = {k: p.grad for k, p in task.named_parameters() if p.requires_grad}
        torch.save(
            state | ({"centre": task.centre} if recipe == "dino-tiny" else {}), out
        )
    fabric.barrier()


@pytest.mark.parametrize(
    "recipe",
    ["siglip-tiny", "local-tiny", "sentences-tiny", "simclr-tiny", "dino-tiny"],
)
def test_two_processes_give_the_gradient_of_one(recipe, table, tmp_path):
    one, two = on_one_and_two(share_of_a_batch, recipe, table, folder=tmp_path)
    a, b = (torch.cat([g[k].flatten() for k in one]) for g in (one, two))
    assert (a - b).norm() / a.norm() < 1e-5


# augmentation


def test_a_crop_shows_a_part_and_follows_its_seed():
    x = torch.linspace(0, 1, 64).expand(200, 1, 64, 64)
    y = rw.pretrain.augment(x, seed=0, strength=0, crop=0.5)
    across = (
        (y[:, 0, 32, 62] - y[:, 0, 32, 1]) * 63 / 61
    )  # the share of the side in view
    assert 0.48 < across.min() < 0.55
    assert 0.95 < across.max() < 1.02
    assert torch.equal(y, rw.pretrain.augment(x, seed=0, strength=0, crop=0.5))
    share = rw.pretrain.augment(x[50:], seed=0, strength=0, crop=0.5, first=50)
    assert torch.equal(share, y[50:])
    torch.testing.assert_close(
        rw.pretrain.augment(x, seed=0, crop=1.0), rw.pretrain.augment(x, seed=0)
    )


def test_augmentation_keeps_the_grey_levels_of_sixteen_bits():
    raw = (
        np.random.default_rng(0).integers(0, 2**16, (2, 1, 128, 128)).astype(np.uint16)
    )
    y = rw.pretrain.augment(torch.from_numpy(raw.astype(np.float32) / 65535), seed=0)
    assert len(y[0].unique()) > 5000
    x = (
        torch.linspace(0.4, 0.41, 1000).view(1, 1, 1, 1000).expand(1, 1, 1000, 1000)
    )  # within 3 levels of 8 bits
    flat = rw.pretrain.augment(x, seed=0, strength=0)
    assert len(flat[0, 0, 500].unique()) > 256


def test_a_crop_keeps_the_finding():
    rng, x = np.random.default_rng(0), torch.rand(60, 1, 48, 48)
    truth = torch.zeros(60, 48, 48, dtype=torch.bool)
    for mask in truth:
        i, j = rng.integers(0, 40, 2)
        mask[i : i + 8, j : j + 8] = True
    marked = torch.where(truth[:, None], 5.0, x)
    y, state = crop_keeping(marked, truth, seed=0, keep=0.9, least=0.5)
    assert y.shape == marked.shape
    scale = state.sum((1, 2)) / truth.sum(
        (1, 2)
    )  # a crop of half a side shows it four times as large
    assert (scale > 0.85).all()
    assert scale.max() > 2
    assert (
        (y[:, 0] > 4) & ~state
    ).float().mean() < 0.005  # image and mask are cut alike
    again, _ = crop_keeping(marked, truth, seed=0, keep=0.9, least=0.5)
    assert torch.equal(y, again)
    loose = [crop_keeping(marked, truth & False, seed=s)[0] for s in range(2)]
    assert not torch.equal(*loose)


def test_a_finding_as_large_as_the_image_leaves_it_whole():
    x, truth = torch.rand(2, 1, 32, 32), torch.ones(2, 32, 32, dtype=torch.bool)
    y, state = crop_keeping(x, truth, seed=0, keep=1.0, tries=1)
    torch.testing.assert_close(y, x)
    assert state.all()


class TellsSides(torch.nn.Module):
    """Brightness of the two halves; the picture's right is the patient's left."""

    def __init__(self):
        super().__init__()
        self.one = torch.nn.Parameter(torch.ones(1))

    def encode_image(self, x):
        return torch.stack(
            [x[..., 16:].mean((1, 2, 3)), x[..., :16].mean((1, 2, 3))], -1
        )

    def encode_text(self, tokens):
        return torch.eye(2)[tokens]


def test_a_mirror_image_has_the_other_side(tmp_path):
    rows = []
    for i in range(12):
        side = ("left", "right", "both")[i % 3]
        pixels = np.zeros((32, 32), np.uint8)
        pixels[10:20, 20 if side == "left" else 4 :][:, :8] = 200
        Image.fromarray(pixels).save(tmp_path / f"{i}.png")
        rows.append(
            {
                "path": str(tmp_path / f"{i}.png"),
                "patient_id": f"p{i}",
                "Pleural Effusion side": side,
            }
        )
    table = pd.DataFrame(rows)
    heard = []

    def words(texts):
        heard.extend(texts)
        return torch.tensor(["right" in t for t in texts]).long()

    net = TellsSides()
    model = rw.models.Model(
        net,
        "sides",
        "image-text",
        32,
        1,
        (0.0,),
        (1.0,),
        "pad",
        (4, 4),
        tokenizer=words,
    )
    check = rw.probe.laterality_check(model, table)
    assert check["right"].tolist() == [1, 0]
    assert check["n"].tolist() == [8, 8]
    assert {"small left pleural effusion", "large right pleural effusion"} <= set(
        heard
    )  # as reports have it
    half = table.assign(
        **{"Pleural Effusion side": ["left", "left", "both"] * 4}
    )  # wrong for four of eight
    check = rw.probe.laterality_check(model, half)
    assert check["right"].tolist() == [0.5, 0.5]
    assert (check["low"] < 0.4).all()
    assert (check["high"] > 0.6).all()
    with pytest.raises(
        ValueError, match="expected rows with 'left' or 'right' in 'Edema side'"
    ):
        rw.probe.laterality_check(
            model, table.assign(**{"Edema side": ""}), finding="Edema"
        )
