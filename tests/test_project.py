"""The project as a whole: ranges, thin files, quick imports, nothing of this place."""

import ast
import inspect
import io
import os
import re
import subprocess
import sys
import tokenize
import tomllib
from collections import Counter
from graphlib import TopologicalSorter
from importlib import import_module
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

import radwb
from radwb import cli

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
CONDA_NAMES = {
    "pytorch": "torch",
    "open-clip-torch": "open_clip_torch",
    "python-kaleido": "kaleido",
}
ROOMS = (
    "data",
    "simulate",
    "curate",
    "models",
    "pretrain",
    "probe",
    "attend",
    "fail",
    "card",
)
MODULES = sorted((ROOT / "radwb").rglob("*.py"))
NO_CODE = (
    tokenize.COMMENT,
    tokenize.NL,
    tokenize.NEWLINE,
    tokenize.INDENT,
    tokenize.DEDENT,
    tokenize.ENDMARKER,
)
# thousands of syntax nodes a room may have: lower them, don't raise them
ROOMS_KNODES = {
    "__init__.py": 0.2,
    "attend": 37.2,
    "book": 4.6,
    "card": 11.2,
    "check.py": 1.5,
    "cli": 3.6,
    "curate": 54.3,
    "data": 32.2,
    "explore": 26.6,
    "fail": 42.4,
    "findings": 2.5,
    "identifiers.py": 0.8,
    "models": 31.2,
    "pretrain": 29.7,
    "probe": 7.7,
    "show": 19.0,
    "simulate": 52.5,
    "stats": 9.5,
}
# public all the same, since
IN_NO_NOTEBOOK = {
    "explore.cases": "notebook 09 (18)",
    "explore.reading_study": "notebook 09 (18)",
    "fail.ReadingEffect": "what `reading_effect` returns",
    "fail.border_tells": "notebook 09 (18)",
    "fail.corner_swaps": "notebook 09 (18)",
    "simulate.refilm": "notebook 09 (18)",
    "fail.patch_shares": "notebook 09 (18)",
    "fail.signs_of": "notebook 09 (18)",
    "fail.worst_slice": "notebook 09 (18)",
    "card.Card": "what rw.card.evidence_card returns",
    "card.read_card": "notebook 09 (18)",
    "curate.from_dicomweb": "notebook 01 (17)",
    "curate.layout": "notebook 01 (17)",
    "curate.layouts": "notebook 01 (17)",
    "curate.apply_verdicts": "notebook 01 (17)",
    "explore.explore": "notebooks call it `rw.show.explore`",
    "explore.review": "notebooks call it `rw.show.review`",
    "fail.Slices": "notebook 09 (18)",
    "fail.Evidence": "a row of the card, made by hand (README)",
    "fail.measured": "as `compared`, for a number of one's own",
    "models.Model": "for one's own nn.Module (README)",
    "curate.read_volume": "notebook 01 (17)",
    "curate.series": "notebook 01 (17)",
    "pretrain.Beside": "benchmarks/levers.py; notebook 03 shows what it gave",
    "show.review": "notebook 01 (17)",
}


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
    ours = {"python": SpecifierSet(PROJECT["requires-python"]), "pip": SpecifierSet("")}
    for text in (*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["test"]):
        requirement = Requirement(text)
        ours[canonical(requirement.name)] = requirement.specifier
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
    named = []
    for path in tracked():
        if path.suffix in (".png", ".safetensors", ".dcm", ".gz", ".jpg"):
            continue
        text = path.read_text(encoding="utf-8", errors="ignore")
        hits = set(re.findall(rf"(?<![\w.])(?:{places})|{hosts}", text))
        named += [f"{path.relative_to(ROOT)}: {hit}" for hit in hits]
    assert not named


def test_no_secret_is_read_as_pickle():
    loaders = re.compile(r"torch\.load\(|pickle\.load|joblib\.load|allow_pickle=True")
    unsafe = []
    for path in MODULES:
        text = path.read_text()
        if loaders.search(text) and "weights_only=True" not in text:
            unsafe.append(path.name)
    assert not unsafe


def test_no_file_of_the_package_holds_two_ideas():
    lines = {path.name: len(path.read_text().splitlines()) for path in MODULES}
    assert {name: n for name, n in lines.items() if n > 400} == {}


def imported_modules(path):
    """Dotted names that a module imports of radwb anywhere, inside functions too."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
            assert "radwb" not in names or path.parent.name == "book", path
        elif isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        yield from (name for name in names if name.startswith("radwb."))


def imported_rooms(path):
    names = {name.split(".")[1] for name in imported_modules(path)}
    return names & {"stats", *ROOMS, "show", "explore", "check", "book", "cli"}


def modules_of(room):
    return sorted((ROOT / "radwb" / room).rglob("*.py"))


def test_rooms_import_only_rooms_to_their_left():
    wrong = []
    for n, room in enumerate(ROOMS):
        for path in modules_of(room):
            others = imported_rooms(path) - {"stats", *ROOMS[: n + 1]}
            wrong += [f"{path.relative_to(ROOT)} imports {other}" for other in others]
    assert not wrong


def test_no_module_waits_for_itself():
    names = {}
    for path in MODULES:
        parts = path.relative_to(ROOT).with_suffix("").parts
        names[".".join(parts).removesuffix(".__init__")] = path
    imports = {}
    for name, path in names.items():
        imports[name] = set()
        for module in imported_modules(path):
            parent = module.rpartition(".")[0]
            imports[name].add(module if module in names else parent)
    tuple(TopologicalSorter(imports).static_order())  # raises CycleError


def test_stats_know_nothing_of_radwb():
    rooms = {name for path in modules_of("stats") for name in imported_rooms(path)}
    assert rooms == {"stats"}


def test_show_and_check_know_no_stage():
    drawn = {*modules_of("show"), ROOT / "radwb" / "check.py"}
    # it hands `explore` on, which computes what it shows, when that is asked for
    drawn -= {ROOT / "radwb" / "show" / "__init__.py"}
    stages = {path.name: imported_rooms(path) - {"data", "show"} for path in drawn}
    assert {name: rooms for name, rooms in stages.items() if rooms} == {}


def test_the_simulator_serves_notebooks_and_the_command_alone():
    rooms = {*modules_of("simulate"), *modules_of("cli")}
    others = [path for path in MODULES if path not in rooms]
    assert not [path.name for path in others if "simulate" in imported_rooms(path)]


def test_code_is_formatted_and_nothing_asks_to_be_spared():
    check = [sys.executable, "-m", "ruff", "format", "--check", "-q", str(ROOT)]
    assert subprocess.run(check).returncode == 0
    spared = re.compile(r"fmt: *(?:sk" + "ip|o" + "ff)")
    sources = [path for path in tracked() if path.suffix == ".py"]
    assert not [path.name for path in sources if spared.search(path.read_text())]


def test_the_linter_has_nothing_to_say():
    check = [sys.executable, "-m", "ruff", "check", "-q", str(ROOT)]
    assert subprocess.run(check).returncode == 0


def has_docstring(node):
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef)
    return isinstance(node, kinds) and ast.get_docstring(node) is not None


def thickness(path):
    """Syntax nodes and lines of code; docstrings, comments and blanks are free."""
    text = path.read_text()
    nodes = 0
    free = set()
    for node in ast.walk(ast.parse(text)):
        nodes += 1
        if has_docstring(node):
            nodes -= 2
            free |= set(range(node.body[0].lineno, node.body[0].end_lineno + 1))
    lines = set()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in NO_CODE:
            lines |= set(range(token.start[0], token.end[0] + 1))
    return nodes, len(lines - free)


def room_of(path):
    return path.relative_to(ROOT / "radwb").parts[0]


def test_rooms_stay_thin():
    nodes = Counter()
    lines = Counter()
    for path in MODULES:
        in_file = thickness(path)
        nodes[room_of(path)] += in_file[0]
        lines[room_of(path)] += in_file[1]
    thick = {room: n for room, n in nodes.items() if n > 1000 * ROOMS_KNODES[room]}
    dense = {room: n for room, n in nodes.items() if n > 10 * lines[room]}
    assert (thick, dense) == ({}, {})


def test_functions_fit_on_a_screen():
    long = []
    for path in MODULES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef):
                body = node.body[1:] if has_docstring(node) else node.body
                if body and node.end_lineno - body[0].lineno >= 35:
                    long.append(f"{path.name}: {node.name}")
    assert not long


def public_names():
    """(room, name) of all that a room's `__all__` promises."""
    for room in radwb.ROOMS:
        for name in getattr(import_module(f"radwb.{room}"), "__all__", ()):
            yield room, name


def sources_of_notebooks():
    folder = ROOT / "notebooks" / "src"
    return {path.stem: path.read_text() for path in sorted(folder.glob("*.py"))}


def test_public_names_are_used_or_say_why_they_are_there():
    unexplained = []
    for room, name in public_names():
        use = re.compile(rf"\b{room}\.{name}\b")
        users = [n for n, text in sources_of_notebooks().items() if use.search(text)]
        documented = getattr(import_module(f"radwb.{room}"), name).__doc__
        enough = len(users) > 1 or users and documented
        if not enough and f"{room}.{name}" not in IN_NO_NOTEBOOK:
            unexplained.append(f"{room}.{name}")
    assert not unexplained


def test_public_arguments_are_typed():
    untyped = []
    for room, name in public_names():
        value = getattr(import_module(f"radwb.{room}"), name)
        if not inspect.isfunction(value):
            continue
        for argument in inspect.signature(value).parameters.values():
            if argument.annotation is inspect.Parameter.empty:
                untyped.append(f"{room}.{name}: {argument.name}")
    assert not untyped


def test_notebooks_use_nothing_private():
    private = re.compile(r"\brw(?:\.\w+)*\._\w+")
    hits = {n: private.findall(text) for n, text in sources_of_notebooks().items()}
    assert {name: found for name, found in hits.items() if found} == {}


@pytest.mark.parametrize("module", ["radwb", "radwb.cli"])
def test_import_is_quick_and_leaves_torch_alone(module):
    heavy = "{'torch', 'pandas', 'plotly'}"
    code = f"import sys, {module}; assert not {heavy} & set(sys.modules)"
    quickest = {"pass": 60.0, code: 60.0}  # processor seconds: a load can't change them
    for _ in range(3):
        for program in quickest:
            before = os.times()
            subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
            after = os.times()
            spent = after.children_user - before.children_user
            spent += after.children_system - before.children_system
            quickest[program] = min(quickest[program], spent)
    assert quickest[code] - quickest["pass"] < 0.3


@pytest.mark.parametrize(
    "verb", ["tour", "lab", "book", "fetch", *ROOMS[1:3], *ROOMS[4:]]
)
def test_every_verb_explains_itself(verb, capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main([verb, "--help"])
    assert stop.value.code == 0
    assert "usage: radwb" in capsys.readouterr().out


def test_the_command_has_the_defaults_of_its_functions(capsys):
    with pytest.raises(SystemExit):
        cli.main(["fail", "--help"])
    default = inspect.signature(radwb.fail.shortcut).parameters["finding"].default
    assert f"(default {default})" in capsys.readouterr().out


def test_an_error_is_one_line_and_a_status(capsys, tmp_path):
    assert cli.main(["curate", str(tmp_path / "nowhere")]) == 1
    printed = capsys.readouterr().err
    assert printed.count("\n") == 1
    assert "nowhere" in printed
    assert "Traceback" not in printed
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


def test_no_two_test_files_have_one_name():
    """Else pytest collects none of them."""
    names = [path.name for path in (ROOT / "tests").rglob("test_*.py")]
    assert sorted(names) == sorted(set(names))
