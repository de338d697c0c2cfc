"""The widget for a model's worst errors: each with all that may explain it."""

import io
from pathlib import Path

import numpy as np
import pandas as pd
import traitlets
from PIL import Image

from radwb.explore import offers
from radwb.explore.choice import Choice
from radwb.explore.computed import Cases
from radwb.explore.errors import FALSE_ALARM, MISSED, in_words, scores_of, worst_errors
from radwb.explore.film import over, small, whole
from radwb.explore.films import Films
from radwb.explore.framed import Judged, module, sheets
from radwb.explore.notes import LONGEST, Notes
from radwb.explore.reviewed import spoken, still
from radwb.explore.words import finding_named, sentence
from radwb.models import Model, embed
from radwb.probe import Scores
from radwb.show.mix import ALPHA, encoded, level_of, map_image, shrink
from radwb.show.theme import LEGAL

OF_BOTH = ("label wrong", "shortcut", "unsure")
VERDICTS = {
    MISSED: ("really there", "can't be seen", *OF_BOTH),
    FALSE_ALARM: ("really absent", *OF_BOTH),
}
COLUMNS = (
    "case",
    "model",
    "finding",
    "error",
    "study_id",
    "patient_id",
    "score",
    "verdict",
    "note",
    "when",
)
NEIGHBOURS = 4
USUAL = ("relevance", "gradcam")  # of the finding, of a ViT and of a CNN
THUMB = 128  # px of a neighbour's longer side
LABELS = {1: "present", 0: "absent", -1: "uncertain"}
NO_TRAINING = "no training films: pass train=..."


def cases(
    model: Model,
    scores: Scores | np.ndarray,
    table: pd.DataFrame,
    *,
    finding: str | None = None,
    train: pd.DataFrame | None = None,
    method: str | None = None,
    notes: str | Path | None = None,
    most: int = 20,
) -> "Gallery":
    """Look through a model's worst errors, and say what each one is.

    Film, outline of the truth, map, report, and the training films that the model holds
    for most alike.

    >>> widget = rw.show.cases(model, scores, table, finding="Pleural Effusion")
    >>> widget.judge("can't be seen", "too small") if len(widget.errors) else None
    >>> judged = widget.verdicts

    Args:
        model: a `rw.models.Model`, for the maps and the neighbours.
        scores: of the table's rows: `Scores`, or (N,) for `finding`.
        table: the films, with the column `finding`.
        finding: whose errors; None = that of the scores, if they have one.
        train: films that neighbours are taken from; None = the table's rows whose split
            is "train", and errors are then looked for in its other rows.
        method: of the first map; None = "relevance", for a CNN "gradcam".
        notes: a CSV for verdicts and notes, written (for its owner alone) at the first
            one, and read again the next time; several models and findings may share
            it. None = they go with the widget.
        most: errors of each kind, the worst ones.
    Returns:
        the widget: `judge` ("really there" or "can't be seen" of a miss, "really
        absent" of a false alarm, "label wrong", "shortcut" or "unsure" of either),
        `go`, `filter` drive it, `errors` is what it goes through, `verdicts` what was
        judged. A saved notebook and an exported page keep the films seen last with
        their names: de-identify first. They keep no report and no note.
    Raises:
        ValueError: scores of other rows, no such finding or method, or a file in the
            place of the notes that is none of theirs.
    """
    finding, values = scores_of(scores, finding)
    if len(values) != len(table) or finding not in table:
        raise ValueError(
            f"expected a score for each of {len(table)} films and a column "
            f"{finding!r}, got {len(values)} scores and the columns {list(table)[:9]}"
        )
    methods = offers.methods(model)
    if method is not None and method not in methods:
        raise ValueError(f"expected a method of {methods}, got {method!r}")
    labels = table[finding].to_numpy(float)
    if train is None:
        is_train = np.zeros(len(table), dtype=bool)
        if "split" in table:
            is_train = (table["split"] == "train").to_numpy()
        train = table[is_train]
        labels = np.where(is_train, np.nan, labels)
    errors = worst_errors(labels, values, most=most)
    return Gallery(model, table, train, errors, finding, method, Notes(notes, COLUMNS))


class Gallery(Judged):
    """What `cases` returns."""

    _esm = module("gallery")
    _css = sheets("gallery/gallery.css")
    alive = ".rg"
    method = traitlets.Unicode("").tag(sync=True)  # of the map
    # what lies over the film
    layers = traitlets.Dict({"outline": True, "map": True}).tag(sync=True)

    def __init__(self, model, table, train, errors, finding, method, noted):
        self.model = model
        self.errors = errors
        self.finding = finding
        self.cases = Cases({model.name: model}, table, finding=finding)
        self.films = self.cases.films
        self.train = train.reset_index(drop=True)
        self.known = None  # (N, E) of the training films, once somebody looks
        methods = offers.methods(model)
        usual = [name for name in USUAL if name in methods]
        self.method = method or next(iter(usual), "")
        words = dict(longest=LONGEST, legal=LEGAL, things="errors", finding=finding)
        words |= dict(methods=methods, training=len(train))
        named = [self._named(error) for error in errors.to_dict("records")]
        nothing = "" if named else _nothing(self.films, finding)
        super().__init__(noted, named, errors["error"], nothing, words)
        self.observe(self._show, ["method", "layers"])

    def allowed(self, number: int) -> list[str]:
        """The verdicts that an error can have."""
        return list(VERDICTS[self.kinds[number]])

    def found(self, number):
        row = int(self.errors["row"].iloc[number])
        facts = [fact for fact in self.films.facts(row) if fact[0] != "Report"]
        report = self.films.rows[row].get("report")
        self.texts = [report[:LONGEST]] if isinstance(report, str) else []
        found = dict(
            check=self.errors["error"].iloc[number],
            sentence=in_words(self.errors.iloc[number], self.finding),
            name=self.films.name(row),
            facts=facts,
            allowed=self.allowed(number),
        )
        return found | self._pictures(row)

    def neighbours(self, number: int, k: int = NEIGHBOURS) -> pd.DataFrame:
        """The training films that the model holds for most like an error's film.

        Args:
            number: of the row in `errors`.
            k: how many.
        Returns:
            k rows of the training films, the most alike first; `likeness` is a cosine.
        """
        if self.known is None:
            self.known = embed(self.model, self.train)
        row = int(self.errors["row"].iloc[number])
        film = embed(self.model, self.films.table.iloc[[row]])[0]
        likeness = self.known @ film
        best = np.argsort(-likeness, kind="stable")[:k]
        return self.train.iloc[best].assign(likeness=likeness[best])

    def answer(self, message):
        super().answer(message)
        if "neighbours" in message:
            self._send_neighbours(message["neighbours"])

    def close(self):
        """Let go of the model, the table and its films."""
        super().close()
        self.cases = self.films = self.model = self.known = None

    def drawn(self):
        return still(self.about, self._seen())

    def spoken(self):
        return spoken(self.about, self._seen())

    def _seen(self):
        """What is shown, as one film with its layers."""
        if not self.shown:
            return {}
        picture = b""
        if self.shown["film"]:
            picture = encoded(layered(self.shown, self.layers), "JPEG", quality=88)
        side = dict(name=self.shown["name"], picture=picture)
        side["problem"] = self.shown["problem"]
        return self.shown | {"sides": [side], "value": ""}

    def _named(self, error):
        row = error["row"]
        about = self.films.rows[row]
        named = {part: about.get(part) for part in ("study_id", "patient_id")}
        named |= dict(finding=self.finding, error=error["error"], score=error["score"])
        case = f"{self.model.name}, {self.finding}: {self.films.name(row)}"
        return named | {"case": case, "model": self.model.name}

    def _pictures(self, row):
        """The film, its outline and its map, of one size; "" and why where not."""
        parts = dict(film=b"", outline=b"", map=b"", problem="", mapped="")
        try:
            scan = self.films.scan(row)
            film = whole(scan)
        except Exception as error:  # of a reader, on a file that is anything
            return parts | {"problem": f"the film can't be read: {sentence(error)}"}
        parts["film"] = encoded(film, "JPEG", quality=90)
        mask = scan.truth.get(self.finding)
        if mask is not None and mask.any():
            parts["outline"] = encoded(over(scan, self.finding))
        if self.layers.get("map") and self.method:
            parts |= self._map(row, film.size)
        return parts

    def _map(self, row, size):
        choice = Choice(self.model.name, self.method, self._target())
        try:
            values = shrink(self.cases.values(row, choice), max(size))
        except Exception as error:  # nobody sees the traceback of a widget
            return {"mapped": f"no map: {sentence(error)}"}
        level = level_of(values, values.min(), values.max())
        return {"map": encoded(map_image(level, ALPHA).resize(size))}

    def _target(self):
        """What the maps are of: the finding, where the model can be asked for it."""
        targets = offers.targets(self.cases, self.model.name)
        named = (one for one in targets if finding_named(one, [self.finding]))
        return next(named, targets[0])

    def _send_neighbours(self, number):
        rows = []
        thumbs = []
        if len(self.train):
            nearest = self.neighbours(number)
            films = Films(nearest)
            for n in range(len(films)):
                label = LABELS.get(films.label(n, self.finding), "not known")
                likeness = f"{nearest['likeness'].iloc[n]:.2f}"
                rows.append(dict(name=films.name(n), label=label, likeness=likeness))
                thumbs.append(_thumb(films, n))
        self.send({"neighbours": rows, "number": number}, thumbs)


def layered(shown: dict, layers: dict) -> Image.Image:
    """The film with what is chosen to lie over it."""
    film = Image.open(io.BytesIO(shown["film"])).convert("RGBA")
    for name in ("map", "outline"):
        if layers.get(name) and shown[name]:
            over = Image.open(io.BytesIO(shown[name])).convert("RGBA")
            film.alpha_composite(over)
    return film.convert("RGB")


def _thumb(films, n):
    """A film's JPEG; b"" where it can't be read."""
    try:
        pixels = small(films.read(n), THUMB)
    except (OSError, ValueError):
        return b""
    return encoded(Image.fromarray(pixels), "JPEG", quality=85)


def _nothing(films, finding):
    return (
        f"No error: of {len(films)} films none without {finding} scores higher than "
        "one with it, or there is only one kind"
    )
