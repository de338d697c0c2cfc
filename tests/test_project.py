"""The project as a whole: one set of ranges, thin files, lean imports, nothing of this
machine in a file.
"""

import ast
import re
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from radwb import cli

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
CONDA_NAMES = {
    "pytorch": "torch",
    "open-clip-torch": "open_clip_torch",
    "python-kaleido": "kaleido",
}
ROOMS = ("data", "simulate", "curate", "models", "pretrain", "probe", "attend", "fail")
MODULES = sorted((ROOT / "radwb").rglob("*.py"))


def tracked():
    """What git holds or would hold; the folder itself where there is no git."""
    listing = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    done = subprocess.run(listing, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        pytest.skip("this is no git checkout")
    return [
        ROOT / name
        for name in done.stdout.split("\0")
        if name and (ROOT / name).is_file()
    ]


def canonical(name):
    return re.sub(r"[-_.]+", "-", CONDA_NAMES.get(name, name)).lower()


def conda_requirements():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    pip = next(d["pip"] for d in environment["dependencies"] if isinstance(d, dict))
    plain = [
        d.partition(" ") for d in environment["dependencies"] if isinstance(d, str)
    ]
    conda = {canonical(name): SpecifierSet(spec) for name, _, spec in plain}
    return conda | {canonical(r.name): r.specifier for r in map(Requirement, pip)}


def test_conda_users_get_the_ranges_of_pyproject():
    wanted = [*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["test"]]
    ours = {canonical(r.name): r.specifier for r in map(Requirement, wanted)}
    ours |= {
        "python": SpecifierSet(PROJECT["requires-python"]),
        "pip": SpecifierSet(""),
    }
    assert conda_requirements() == ours


def test_no_package_hides_conda_pytorch_behind_pip():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    pip = next(d["pip"] for d in environment["dependencies"] if isinstance(d, dict))
    assert not {Requirement(r).name for r in pip} & {
        "torch",
        "torchvision",
        "timm",
        "monai",
        "open_clip_torch",
    }


def test_no_tracked_file_names_this_machine_or_a_package_index():
    places = r"/wo" + r"rk/|/tm" + r"p/|/ho" + r"me/|/ro" + r"ot/"
    hosts = r"pypi\.o" + r"rg|pythonhosted\.o" + r"rg|download\.pytor" + r"ch"
    found = []
    for path in tracked():
        if path.suffix in (".png", ".safetensors", ".dcm", ".gz", ".jpg"):
            continue
        text = path.read_text(encoding="utf-8", errors="ignore")
        hits = re.findall(rf"(?<![\w.])(?:{places})|{hosts}", text)
        found += [f"{path.relative_to(ROOT)}: {hit}" for hit in {str(h) for h in hits}]
    assert not found


def test_no_secret_is_read_as_pickle():
    loaders = re.compile(r"torch\.load\(|pickle\.load|joblib\.load|allow_pickle=True")
    found = [
        p.name
        for p in MODULES
        for hit in loaders.findall(p.read_text())
        if "weights_only=True" not in p.read_text()
    ]
    assert not found


def test_no_file_of_the_package_holds_two_ideas():
    assert {
        p.name: n for p in MODULES if (n := len(p.read_text().splitlines())) > 400
    } == {}


def imported_rooms(path):
    """Names of radwb's rooms that a module imports anywhere, inside functions too."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if (
            isinstance(node, ast.ImportFrom)
            and (node.module or "").split(".")[0] == "radwb"
        ):
            parts = node.module.split(".")
            names |= (
                {parts[1]} if len(parts) > 1 else {alias.name for alias in node.names}
            )
        elif isinstance(node, ast.Import):
            names |= {
                a.name.split(".")[1] for a in node.names if a.name.startswith("radwb.")
            }
            assert (
                not any(a.name == "radwb" for a in node.names)
                or path.parent.name == "book"
            ), path
    return names & {"stats", *ROOMS, "show", "explore", "check", "book", "cli"}


def test_rooms_import_only_rooms_to_their_left():
    wrong = []
    for n, room in enumerate(ROOMS):
        allowed = {"stats", *ROOMS[: n + 1]}
        for path in sorted(
            [
                *(ROOT / "radwb" / room).rglob("*.py"),
                *(ROOT / "radwb").glob(f"{room}.py"),
            ]
        ):
            wrong += [
                f"{path.relative_to(ROOT)} imports {other}"
                for other in imported_rooms(path) - allowed
            ]
    assert not wrong


def test_stats_know_nothing_of_radwb():
    parts = sorted((ROOT / "radwb" / "stats").glob("*.py"))
    assert {name for path in parts for name in imported_rooms(path)} == {"stats"}


def test_show_and_check_know_no_stage():
    drawn = {*(ROOT / "radwb" / "show").rglob("*.py"), ROOT / "radwb" / "check.py"}
    # it hands `explore` on, which computes what it shows, when that is asked for
    drawn -= {ROOT / "radwb" / "show" / "__init__.py"}
    assert {
        p.name: imported_rooms(p) - {"data", "show"}
        for p in drawn
        if imported_rooms(p) - {"data", "show"}
    } == {}


@pytest.mark.parametrize("module", ["radwb", "radwb.cli"])
def test_import_is_quick_and_leaves_torch_alone(module):
    code = f"import sys; import {module}; assert not {{'torch', 'pandas', 'plotly'}} & set(sys.modules)"
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
        seconds.append(time.perf_counter() - start)
    bare = time.perf_counter()
    subprocess.run([sys.executable, "-c", "pass"], check=True)
    assert min(seconds) - (time.perf_counter() - bare) < 0.5


@pytest.mark.parametrize(
    "verb", ["tour", "lab", "book", "fetch", *ROOMS[1:3], *ROOMS[4:]]
)
def test_every_verb_explains_itself(verb, capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main([verb, "--help"])
    assert stop.value.code == 0
    assert "usage: radwb" in capsys.readouterr().out


def test_an_error_is_one_line_and_a_status(capsys, tmp_path):
    assert cli.main(["curate", str(tmp_path / "nowhere")]) == 1
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "nowhere" in said
    assert "Traceback" not in said
    with pytest.raises(ValueError, match="nowhere"):
        cli.main(["curate", str(tmp_path / "nowhere"), "--debug"])


def test_an_unknown_verb_is_status_two():
    with pytest.raises(SystemExit) as stop:
        cli.main(["levitate"])
    assert stop.value.code == 2


def test_results_come_as_json_when_asked(capsys):
    import json

    assert cli.main(["fetch", "--list", "--json"]) == 0
    entries = json.loads(capsys.readouterr().out)
    assert {"name", "licence", "citation"} <= set(entries[0])


def test_make_explains_a_python_that_is_too_old(tmp_path):
    old = tmp_path / "python"
    old.write_text(
        '#!/bin/sh\n[ "$1" = --version ] && { echo "Python 3.9.1"; exit 0; }\nexit 1\n'
    )
    old.chmod(0o755)
    copy = tmp_path / "Makefile"
    copy.write_text((ROOT / "Makefile").read_text())
    (tmp_path / "pyproject.toml").write_text("")
    done = subprocess.run(
        ["make", "tour", f"PYTHON={old}"], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode != 0
    assert "expected Python 3.11, 3.12 or 3.13, got Python 3.9.1" in done.stdout
    assert not (tmp_path / ".venv").exists()


def test_ci_calls_what_the_readme_says():
    assert "make test" in (ROOT / ".ci" / "run").read_text()
    assert "make test" in (ROOT / "README.md").read_text()


@pytest.mark.slow
def test_the_shell_goes_the_whole_way(tmp_path, capsys, monkeypatch):
    import json

    monkeypatch.chdir(tmp_path)

    def radwb(*words):
        assert cli.main([*map(str, words), "--json"]) == 0, capsys.readouterr().err
        return json.loads(capsys.readouterr().out)

    assert radwb("simulate", "-n", 120, "--out", "table.csv")["images"] == 120
    films = Path(cli.read_table(tmp_path / "table.csv")["path"][0]).parent
    assert radwb("curate", films)["files"] >= 120
    assert (
        radwb("pretrain", "table.csv", "--out", "run", "--epochs", 1, "--batch", 16)[
            "step"
        ]
        > 0
    )
    rows = radwb("probe", "run", "table.csv", "--findings", "Pleural Effusion")
    assert rows[0]["low"] <= rows[0]["auroc"] <= rows[0]["high"]
    film = next(films.glob("*[0-9].png"))
    assert (
        radwb("attend", "run", film, "--target", "right pleural effusion")["written"]
        == "attention.html"
    )
    assert "plotly" in Path("attention.html").read_text()
    arms = radwb(
        "fail", "run", "table.csv", "--finding", "Pleural Effusion", "--strengths", 1
    )
    assert {"arm", "auroc", "low", "high"} <= set(arms[0])
