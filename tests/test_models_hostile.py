"""Claims about hostile model files: one sentence, little memory, no code."""

import json
import os
import resource
import shutil
import subprocess
import sys
import zipfile

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from tables import films_table, noise_films

import radwb as rw
from radwb.models import checks

TINY = {
    "size": 32,
    "width": 32,
    "heads": 2,
    "layers": 1,
    "embed": 32,
    "text_width": 32,
    "text_layers": 1,
}
TEXTS = [f"No effusion on film {i}." for i in range(8)]


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    model = rw.models.clip_tiny(
        rw.models.Tokenizer.train(TEXTS, vocab_size=280, context=16), shape=TINY
    )
    return rw.models.save(model, tmp_path_factory.mktemp("saved") / "m")


@pytest.fixture
def folder(saved, tmp_path):
    return shutil.copytree(saved, tmp_path / "m")


def change(folder, where, value):
    """Set one place of model.json, e.g. "spec.shape.layers"; ... takes it away."""
    about = json.loads((folder / "model.json").read_text())
    *path, last = where.split(".")
    inner = about
    for key in path:
        inner = inner[key]
    if value is ...:
        del inner[last]
    else:
        inner[last] = value
    (folder / "model.json").write_text(json.dumps(about))


def refuses(name, match="expected", **options):
    with pytest.raises((ValueError, FileNotFoundError), match=match) as caught:
        rw.models.load(name, **options)
    text = str(caught.value)
    assert "expected" in text
    assert not [c for c in text if ord(c) < 32 or ord(c) == 127]


@pytest.mark.parametrize(
    ("where", "value"),
    [
        ("std", [0.0]),
        ("std", [float("nan")]),
        ("std", [-1.0]),
        ("std", [0.25, 0.25]),
        ("std", []),
        ("std", 0.25),
        ("std", ["0.25"]),
        ("std", [True]),
        ("std", [10**400]),
        ("mean", [float("inf")]),
        ("mean", None),
        ("mean", ...),
        ("fit", "stretch"),
        ("fit", 3),
        ("size", 0),
        ("size", 10**9),
        ("size", 64),
        ("size", 32.5),
        ("channels", 3),
        ("kind", "video"),
        ("kind", ["image"]),
        ("findings", "Edema"),
        ("findings", [1]),
        ("licence", {}),
        ("spec", []),
        ("spec", ...),
        ("spec.builder", "exec"),
        ("spec.builder", ["clip-tiny"]),
        ("spec.context", 10**6),
        ("spec.context", -1),
        ("spec.shape", None),
        ("spec.shape.layers", 10**12),
        ("spec.shape.width", 8192),
        ("spec.shape.width", 2**62),
        ("spec.shape.heads", 0),
        ("spec.shape.patch", 0),
        ("spec.shape.patch", 5),
        ("spec.shape.groups", 7),
        ("spec.shape.embed", float("nan")),
        ("spec.shape.text_heads", 3),
    ],
)
def test_a_model_json_that_says_what_cannot_be_is_refused_in_a_sentence(
    where, value, folder
):
    change(folder, where, value)
    refuses(folder)


NO_OBJECTS = [
    "",
    "[]",
    "{",
    "3",
    "[" * 10**5,
    '{"spec": ' * 5000,
    "\ud800",
    '{"size": ' + "9" * 5000,
]


@pytest.mark.parametrize("text", NO_OBJECTS)
def test_a_json_that_is_none_is_refused_whichever_it_is(text, folder):
    for name in ("model.json", "tokenizer.json"):
        before = (folder / name).read_bytes()
        (folder / name).write_bytes(text.encode("utf-8", "surrogatepass"))
        refuses(folder)
        (folder / name).write_bytes(before)


def test_a_tokenizer_of_another_kind_or_with_gaps_is_refused(folder):
    path = folder / "tokenizer.json"
    about = json.loads(path.read_text())
    for vocab in ({}, {"a": 0}, about["model"]["vocab"] | {"word": 10**8}):
        path.write_text(
            json.dumps(about | {"model": about["model"] | {"vocab": vocab}})
        )
        refuses(folder)


def test_padding_that_a_tokenizer_asks_for_takes_no_memory(folder):
    path = folder / "tokenizer.json"
    padding = {
        "strategy": {"Fixed": 10**10},
        "direction": "Right",
        "pad_to_multiple_of": None,
        "pad_id": 0,
        "pad_type_id": 0,
        "pad_token": "<pad>",
    }
    path.write_text(json.dumps(json.loads(path.read_text()) | {"padding": padding}))
    assert rw.models.load(folder).tokenizer(TEXTS).shape == (8, 16)


def test_a_fifo_a_folder_and_a_loop_of_links_are_no_files(folder):
    path = folder / "model.json"
    path.unlink()
    os.mkfifo(path)
    refuses(folder)
    path.unlink()
    path.symlink_to(path)
    refuses(folder)
    path.unlink()
    path.mkdir()
    refuses(folder)


# weights


KEY = "fc.weight"


def looped():
    loop = {}
    loop["model"] = loop
    return loop


ODD = {
    # a stride of 0: four bytes that claim 173 GB
    "expanded": {"model": {KEY: torch.zeros(1).expand(43_000_000, 1000)}},
    "meta": {KEY: torch.zeros(43_000_000, 1000, device="meta")},
    "sparse": {KEY: torch.zeros(4, 4).to_sparse()},
    "list": [torch.zeros(1)],
    "numbers for names": {3: torch.zeros(1)},
    "deep": {"model": {"model": {"model": {"model": {}}}}},
    "itself": looped(),
}
# the weights with one tensor changed or added
CHANGED = {
    "nan": lambda state: {KEY: state[KEY] * float("nan")},
    "integers": lambda state: {KEY: state[KEY].int()},
    "complex": lambda state: {KEY: state[KEY].to(torch.complex64)},
    "escapes": lambda state: {"\x1b]0;owned\x07\u202e": torch.zeros(1)},
}
KINDS = [*ODD, *CHANGED, "bomb", "cut", "empty"]


def write_bad(kind, path, net):
    state = dict(net.state_dict())
    if kind in ODD:
        torch.save(ODD[kind], path)
    elif kind in CHANGED:
        torch.save(state | CHANGED[kind](state), path)
    elif kind == "empty":
        path.write_bytes(b"")
    else:
        torch.save(state, path)
    if kind == "cut":
        path.write_bytes(path.read_bytes()[:-3000])
    elif kind == "bomb":
        compress(path)


def compress(path):
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in parts.items():
            archive.writestr(name, content)


@pytest.fixture(scope="module")
def resnet():
    import timm

    return timm.create_model("resnet10t")


@pytest.mark.parametrize("kind", KINDS)
def test_weights_of_an_odd_kind_are_refused_in_a_sentence(kind, resnet, tmp_path):
    write_bad(kind, tmp_path / "w.pt", resnet)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    refuses(f"timm:resnet10t/{tmp_path / 'w.pt'}")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 500_000  # kB


def test_shapes_that_ask_for_173_gb_are_refused_before_anything_is_built(tmp_path):
    """A file of 4 MB: each of its shapes is small, the network of them is not."""
    state = {
        "patch_embedding.patch_embeddings.weight": torch.zeros(4096, 1, 1, 1),
        "patch_embedding.position_embeddings": torch.zeros(1, 1, 4096),
        "blocks.0.mlp.linear1.bias": torch.zeros(1_000_000),
    }
    state |= {f"blocks.{i}.x": torch.zeros(1) for i in range(20)}
    torch.save(state, tmp_path / "w.pt")
    code = (
        "import pathlib, radwb as rw\n"
        f"try: rw.models.load('monai:ViT/{tmp_path / 'w.pt'}', heads=8)\n"
        "except ValueError as error: print(error)\n"
        "lines = pathlib.Path('/proc/self/status').read_text().splitlines()\n"
        "print(next(int(line.split()[1]) // 1024 for line in lines if 'VmHWM' in line))"
    )
    command = [sys.executable, "-W", "ignore", "-c", code]
    out = subprocess.run(command, capture_output=True, text=True, timeout=120).stdout
    sentence, peak = out.rsplit("\n", 2)[:2]
    assert "expected at most 32 GiB of weights" in sentence
    # getrusage would count the parent's memory, too: a child starts with its mark
    assert int(peak) < 2500  # MiB, most of it torch and MONAI themselves


def test_a_config_of_open_clips_that_asks_for_more_than_its_file_is_refused(tmp_path):
    text = {
        "context_length": 77,
        "vocab_size": 49408,
        "width": 32,
        "heads": 1,
        "layers": 1,
    }
    vision = {
        "image_size": 32,
        "layers": 1,
        "width": 64,
        "patch_size": 16,
        "head_width": 32,
    }
    save_file({"a": torch.zeros(1)}, tmp_path / "open_clip_model.safetensors")
    for tower, key, value in [
        ("vision_cfg", "layers", 10**9),
        ("vision_cfg", "width", 10**6),
        ("vision_cfg", "image_size", 10**6),
        ("text_cfg", "context_length", 10**6),
        ("text_cfg", "width", "many"),
        ("vision_cfg", "width", 4096),
    ]:
        cfg = {"embed_dim": 32, "vision_cfg": dict(vision), "text_cfg": dict(text)}
        cfg[tower][key] = value
        (tmp_path / "open_clip_config.json").write_text(json.dumps({"model_cfg": cfg}))
        refuses(tmp_path)
    for config in ([], {}, {"model_cfg": []}, {"model_cfg": {"text_cfg": 3}}):
        (tmp_path / "open_clip_config.json").write_text(json.dumps(config))
        refuses(tmp_path)


def test_names_and_files_cannot_move_a_terminal(tmp_path):
    for name in (
        "a\x1b[2Jb",
        "open_clip:\x1b[31m",
        "timm:resnet18/\x07\u202egnp.pt",
        "monai:ViT/\x9b31m",
        "xrv:\x1b",
    ):
        refuses(name)
    assert checks.printable("Müller Ω\x1b\u202e\n") == "Müller Ω\\x1b\\u202e\\n"


def damaged(data, rng):
    """Bytes with one place flipped, cut, emptied, doubled or written over."""
    data = bytearray(data)
    at = int(rng.integers(len(data)))
    kind = rng.integers(5)
    if kind == 0:
        data[at] ^= 1 << int(rng.integers(8))
    elif kind == 1:
        del data[at:]
    elif kind == 2:
        data[at : at + 64] = bytes(len(data[at : at + 64]))
    elif kind == 3:
        data[at:at] = data[at : at + 200]
    else:
        words = [
            b"null",
            b"[]",
            b"-1",
            b"1e999",
            b"NaN",
            b"99999999999",
            b'"\\u001b[2J"',
            b"{}",
            b"0",
            b"true",
        ]
        data[at : at + 4] = words[int(rng.integers(len(words)))]
    return bytes(data)


def test_three_hundred_damaged_models_load_whole_or_are_refused_in_a_sentence(
    saved, tmp_path
):
    """Numbers in the weights may differ, as nothing guards them; shapes can't."""
    folder = shutil.copytree(saved, tmp_path / "m")
    rng = np.random.default_rng(0)
    films = np.zeros((1, 32, 32), np.uint8)
    refused = 0
    for n in range(300):
        name = ("model.json", "tokenizer.json", "model.safetensors")[n % 3]
        whole = (folder / name).read_bytes()
        # of the weights their names and shapes
        head = whole[:6000] if name == "model.safetensors" else whole
        (folder / name).write_bytes(damaged(head, rng) + whole[len(head) :])
        try:
            model = rw.models.load(folder)
            assert np.isfinite(rw.models.embed(model, films)).all()
            model.encode_text(["no effusion"])
        except (ValueError, FileNotFoundError) as error:
            sentence = str(error)
        else:
            sentence = ""
        plain = sentence.startswith("expected") and sentence.isprintable()
        assert plain or not sentence, (n, sentence)
        refused += sentence != ""
        (folder / name).write_bytes(whole)
    assert refused > 150
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < 6_000_000  # kB


# privacy


def cohort(folder, n=40):
    words = "IMPRESSION: Small right pleural effusion. Film"
    return films_table(
        folder,
        noise_films(n),
        patient_id=[f"p{film:03d}" for film in range(n)],
        report=[f"{words} {film % 3}." for film in range(n)],
        split=["val" if film % 8 == 0 else "train" for film in range(n)],
    )


def test_a_surname_in_one_patients_twenty_reports_is_not_in_the_runs_tokenizer(
    tmp_path,
):
    table = cohort(tmp_path)
    one = table["split"].eq("train") & (np.arange(len(table)) < 23)
    assert one.sum() == 20
    table.loc[one, "patient_id"] = "p001"
    table.loc[one, "report"] = (
        "IMPRESSION: Mrs Kowalczyk-Wuttke, 4711234, has a pleural effusion."
    )
    run = rw.pretrain.fit(
        table=table,
        out=tmp_path / "run",
        recipe="clip-tiny",
        epochs=1,
        batch=8,
        shape=TINY,
    )
    text = (run.out / "tokenizer.json").read_text().lower()
    vocabulary = rw.models.Tokenizer.load(run.out / "tokenizer.json").bpe.get_vocab()
    assert "Ġeffusion" in vocabulary
    for name in ("kowal", "czyk", "wutt", "4711", "mrs"):
        assert name not in text


def test_a_word_is_learnt_from_five_patients_on_whatever_their_number_of_reports():
    texts = ["kowalczyk"] * 80 + ["effusion"] * 80
    patients = [f"p{i % 4}" for i in range(80)] + [f"p{i % 5}" for i in range(80)]
    vocabulary = rw.models.Tokenizer.train(texts, patients=patients).bpe.get_vocab()
    assert "Ġeffusion" in vocabulary
    assert not [w for w in vocabulary if "kow" in w]
    with pytest.warns(UserWarning, match="4 patients are fewer than the 5"):
        small = rw.models.Tokenizer.train(texts[:80], patients=patients[:80])
    assert small.vocab_size < 270
    alone = rw.models.Tokenizer.train(["effusion"] * 9, min_patients=1).bpe.get_vocab()
    assert "Ġeffusion" in alone


def test_words_beside_a_gap_do_not_grow_together():
    texts = [f"heart{n}large" for n in range(20, 40)] * 2
    vocabulary = rw.models.Tokenizer.train(texts, patients=range(40)).bpe.get_vocab()
    assert any(w.endswith("large") for w in vocabulary)
    assert not [w for w in vocabulary if "tl" in w or "20" in w]


def test_where_all_words_are_shared_nothing_changes():
    texts = ["Überdrück 5 µm ≥ 3 × 2 mm; no effusion.\n\nHeart  is large."] * 12
    with_patients = rw.models.Tokenizer.train(texts, patients=range(12)).bpe.to_str()
    alone = rw.models.Tokenizer.train(texts, min_patients=1)
    assert with_patients == alone.bpe.to_str()
    options = {"patients": [], "min_patients": 0, "public": texts}
    public = rw.models.Tokenizer.train([], **options)
    assert with_patients == public.bpe.to_str()
