"""What each verb takes; where it states no default, its function has it."""

import argparse
from importlib import import_module
from importlib.metadata import version
from inspect import Parameter, signature
from pathlib import Path

from radwb.cli import verbs

FAST = "small numbers: a check of the machine, not of the results"
BUILD = "where to write (default: build/ in the checkout)"
CSV = "write the table to this CSV"
MODEL = "a run's folder, radwb-tiny, open_clip:..., timm:..., xrv:..."


class Verb(argparse.ArgumentParser):
    """A parser whose help shows the defaults of the function that its verb calls.

    Attributes:
        function: of a room, such as "pretrain.fit"; loaded for the help alone.
    """

    function = ""

    def format_help(self):
        if self.function:
            room, name = self.function.split(".")
            function = getattr(import_module(f"radwb.{room}"), name)
            parameters = signature(function).parameters
            for action in self._actions:
                if action.dest in parameters:
                    default = parameters[action.dest].default
                    if default not in (None, Parameter.empty):
                        action.help += f" (default {default})"
        return super().format_help()


def parser() -> argparse.ArgumentParser:
    """Of the command, with a parser a verb."""
    text = "A workbench for radiology foundation models. Not for clinical use."
    top = Verb(prog="radwb", description=text)
    top.add_argument("--version", action="version", version=f"radwb {version('radwb')}")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for add_verb in (
        _tour,
        _lab,
        _book,
        _fetch,
        _models,
        _simulate,
        _curate,
        _pretrain,
        _probe,
        _attend,
        _fail,
        _card,
    ):
        add_verb(commands)
    return top


def _verb(commands, call, text, *, function="", prints=True):
    """A parser of the verb that `call` is named after."""
    command = commands.add_parser(call.__name__, help=text, description=text)
    command.function = function
    _flag(command.add_argument, "--debug", "show the whole traceback of an error")
    if prints:
        _flag(command.add_argument, "--json", "print the result as JSON")
    command.set_defaults(call=call)
    return command


def _flag(add, name, text):
    add(name, action="store_true", help=text)


def _tour(commands):
    text = "run the core notebooks and make the gallery"
    add = _verb(commands, verbs.tour, text).add_argument
    _flag(add, "--fast", FAST)
    add("--out", type=Path, help=BUILD)


def _lab(commands):
    text = "open JupyterLab on this machine at notebook 00; saved notebooks hold pixels"
    add = _verb(commands, verbs.lab, text, prints=False).add_argument
    add("--port", type=int, help="the next free one is taken when it is busy")
    _flag(add, "--no-browser", "print the address instead of opening it")


def _book(commands):
    text = "notebooks: make them from their sources, run them, make the pages anew"
    command = _verb(commands, verbs.book, text, prints=False)
    actions = command.add_subparsers(dest="action", required=True, metavar="ACTION")
    text = "make notebooks/*.ipynb equal to notebooks/src/*.py"
    add = actions.add_parser("sync", help=text).add_argument
    _flag(add, "--check", "change nothing, fail when a notebook is out of step")
    _flag(add, "--json", "print the notebooks as JSON")
    text = "execute notebooks and write the gallery"
    add = actions.add_parser("run", help=text).add_argument
    add("names", nargs="*", metavar="NAME", help="such as 03 (default: all)")
    _flag(add, "--fast", FAST)
    add("--out", type=Path, help=BUILD)
    _flag(add, "--json", "print tour.json")
    text = "make the pages of what was executed anew"
    add = actions.add_parser("gallery", help=text).add_argument
    add("--out", type=Path, help="where build/ is (default: in the checkout)")
    text = "write the API reference beside the gallery"
    add = actions.add_parser("reference", help=text).add_argument
    add("--out", type=Path, help="where build/ is (default: in the checkout)")


def _fetch(commands):
    text = "get data sets, verified, into the cache"
    add = _verb(commands, verbs.fetch, text).add_argument
    add("names", nargs="*", metavar="NAME", help="as --list shows them")
    _flag(add, "--list", "what there is, from where, under which licence")
    _flag(add, "--offline", "cache and local mirror only")


def _models(commands):
    text = "list networks: from where, what they can be asked, what runs offline now"
    _verb(commands, verbs.models, text, function="models.published")


def _simulate(commands):
    text = "make a cohort of virtual patients"
    function = "simulate.cohort"
    add = _verb(commands, verbs.simulate, text, function=function).add_argument
    add("-n", type=int, help="radiographs")
    add("--seed", type=int, help="of the patients")
    add("--size", type=int, help="side, px")
    add("--out", type=Path, help=CSV)
    text = "write the films as DICOM (DX), too"
    add("--dicom", type=Path, metavar="FOLDER", help=text)
    text = "with --dicom: invented people in the files, and key.csv"
    _flag(add, "--identifiers", text)
    add("--shards", type=Path, metavar="FOLDER", help="write webdataset shards, too")


def _curate(commands):
    text = "turn a folder of files into a table; no file stops it"
    function = "curate.split_by_patient"
    add = _verb(commands, verbs.curate, text, function=function).add_argument
    add("folder", type=Path, help="of films")
    add("--out", type=Path, help=CSV)
    _flag(add, "--split", "add train, val and test, apart by patient")
    text = "a file without a patient is another patient's each"
    _flag(add, "--one-patient-per-image", text)
    add("--seed", type=int, help="of the split")


def _pretrain(commands):
    text = "train a model on a table or on shards"
    function = "pretrain.fit"
    add = _verb(commands, verbs.pretrain, text, function=function).add_argument
    text = "CSV of `radwb simulate --out` or `curate --out`, or a folder of shards"
    add("table", type=Path, help=text)
    add("--out", type=Path, help="folder of the run")
    add("--recipe", metavar="NAME", help="clip-tiny, supervised-tiny, ...")
    add("--epochs", type=int, help="passes over the training rows")
    add("--batch", type=int, help="images a step, over all devices")
    add("--lr", type=float, help="the highest learning rate")
    add("--seed", type=int, help="of weights and order")
    add("--size", type=int, help="side of the input, px (else the recipe's)")
    add("--devices", type=int, help="GPUs of each node")
    add("--num-nodes", type=int, help="machines")
    text = "pass a step's images in parts (mean losses)"
    add("--accumulate", type=int, metavar="PARTS", help=text)
    text = "pass so many images at a time (losses over the batch)"
    add("--chunk", type=int, metavar="IMAGES", help=text)
    text = "keep a moving average of the weights, e.g. 0.999"
    add("--ema", type=float, metavar="DECAY", help=text)
    add("--start", help="a model to go on from")
    text = "train nothing, write what open_clip_train needs"
    add("--export-open-clip", type=Path, metavar="FOLDER", help=text)


def _probe(commands):
    text = "zero-shot AUROC with intervals by patient"
    function = "probe.zero_shot"
    add = _verb(commands, verbs.probe, text, function=function).add_argument
    add("model", help=MODEL)
    add("table", type=Path, help="CSV")
    text = "those to ask for (else all label columns)"
    add("--findings", nargs="+", metavar="NAME", help=text)
    text = "rows to use; 'all' for all (default %(default)s)"
    add("--split", default="test", help=text)
    text = "phrases for against those against, or any way to report it"
    add("--pool", choices=("pair", "any"), help=text)


def _attend(commands):
    text = "lay a map over a scan"
    function = "attend.attention_map"
    add = _verb(commands, verbs.attend, text, function=function).add_argument
    add("model", help="as in probe")
    add("image", type=Path, help="DICOM, PNG or JPEG")
    text = "a text such as 'right pleural effusion', or a finding of a classifier"
    add("--target", required=True, help=text)
    add("--method", help="attention, rollout, relevance, gradcam, ...")
    text = "the figure (default %(default)s)"
    add("--out", type=Path, default=Path("attention.html"), help=text)


def _fail(commands):
    text = "tie a marker to a finding in training, then break the tie"
    function = "fail.shortcut"
    add = _verb(commands, verbs.fail, text, function=function).add_argument
    text = "linear heads are trained on its frozen patches; as in probe"
    add("model", help=text)
    add("table", type=Path, help="CSV with split train and test")
    add("--finding", metavar="NAME", help="label column")
    text = "of the tie: 0.5 none, 1 always"
    add("--strengths", nargs="+", type=float, help=text)
    add("--seeds", type=int, help="trainings a strength")


def _card(commands):
    text = "try a model on films and write its evidence card"
    function = "card.evidence_card"
    add = _verb(commands, verbs.card, text, function=function).add_argument
    add("model", help="as in probe")
    text = "CSV; without, 600 virtual films on which nothing was chosen"
    add("--table", type=Path, help=text)
    text = "the page; JSON and XML lie beside it (default %(default)s)"
    add("--out", type=Path, default=Path("card.html"), help=text)
    text = "of the cohort, as rw.curate.publish wrote it"
    add("--data-card", type=Path, metavar="FOLDER", help=text)
    add("--seed", type=int, help="of whatever is drawn")
