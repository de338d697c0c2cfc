"""Films, models, and the maps of them as small grids, each computed once.

It stands behind the attention widget.
"""

from dataclasses import replace
from functools import lru_cache

import numpy as np

from radwb import data
from radwb.attend.doubt import sanity_check
from radwb.attend.doubt.alike import ranks, similarity
from radwb.attend.doubt.changes import NONSENSE
from radwb.attend.map import note_of
from radwb.attend.maps import grids, require_sense
from radwb.attend.methods import TABLE
from radwb.attend.progress import steps
from radwb.attend.score import score_map
from radwb.attend.tower import attention_pool, has_attention
from radwb.data.geometry import boxes
from radwb.data.scan import ReadError
from radwb.explore.choice import Cancelled, Choice
from radwb.explore.films import Films
from radwb.explore.heads import captured, cover_of, heads_of, measures
from radwb.explore.kept import store_of
from radwb.explore.scores import Scores
from radwb.explore.vocabulary import doubtful_words, warning
from radwb.explore.words import as_target, finding_named, label, sentence, verdict
from radwb.findings.rows import FINDINGS
from radwb.show.mix import shrunk

CHECKED = 16  # films that a sanity check takes at most
UNIT = 1 << 16  # in which the square of the model's input is measured
UNCHECKED = {"badge": "sanity: not checked", "passed": None}
OTHER_WORDS = {"badge": "sanity: for other words", "passed": None}


class Cases:
    """Films and models, with what was computed of them so far.

    >>> cases = Cases({"tiny": model}, table)
    >>> cases.grid(0, Choice("tiny", target="pleural effusion")).shape  # tokens
    (8, 8)

    Args:
        models: name -> `rw.models.Model`. Their weights are taken to stay as they are.
        films: a table or a list of Scans.
        finding: what every map is scored against; None = the finding that the target's
            words name.
        badges: method -> what `sanity_check` gave, or its badge.
        target: the words that a badge was given for, which doesn't say so itself.
    """

    def __init__(self, models, films, *, finding=None, badges=None, target=None):
        self.kept = {name: store_of(model) for name, model in models.items()}
        # a model of half precision is copied once
        self.models = {n: self.kept[n].copy or model for n, model in models.items()}
        self.films = Films(films)
        self.scan = self.films.scan
        self.finding = finding
        self.badges = {}  # Choice without a place -> Badge
        self.given = dict(badges or {})
        self.given_for = target
        self.scores = {
            name: Scores(model, self.films, self.kept[name].outputs)
            for name, model in self.models.items()
        }
        self.score = lru_cache(4096)(self._score)
        self.measures = lru_cache(256)(self._measures)

    def __len__(self):
        return len(self.films)

    def name(self, case):
        return self.films.name(case)

    def values(self, case, choice):
        """(H, W) the map in the scan's own pixels, as `attention_map` gives it."""
        scan = self.scan(case)
        fit = self.models[choice.model].fit
        grid = self.grid(case, choice)
        return data.to_scan(grid, scan.shape, fit=fit, aspect=scan.aspect)

    def grid(self, case, choice):
        """The map over the model's input, and what it says is kept."""
        kept = self.kept[choice.model].grids
        key = self.films.key(case), replace(choice, model="")
        return kept.get(key, lambda: self._grid(case, choice))

    def heads(self, case, choice):
        """`Heads` of the choice's patches, or of the read-out."""
        kept = self.kept[choice.model].heads
        key = self.films.key(case), choice.patches, choice.direction
        return kept.get(key, lambda: self._heads(case, choice))

    def blank(self, case, choice):
        """A view of which nothing is known yet but what is asked."""
        tokens = list(self.models[choice.model].grid)
        known = {"case": case, "choice": vars(choice), "tokens": tokens}
        words = dict(label=label(choice, tokens[1]), error="", verdict="", badge="")
        unknown = ("grid", "thumbs", "highest", "low", "high", "finding", "score")
        more = ("bright", "passed", "said", "words")
        empty = dict(measures={}, busy="")
        return known | words | dict.fromkeys(unknown + more) | empty

    def view(self, case, choice, *, scored=True):
        """All that a pane draws, as plain values and bytes.

        Args:
            scored: False leaves the score out, which takes a second on a film of 3000
                px.
        Returns:
            grid (rows, cols) float32, `low` and `high` its extremes on the film as it
            is shown; where it lies (`source` of the scan is `square` of the grid, as
            fractions top, left, bottom, right); thumbs (layers, 1 + heads, *tokens)
            uint8, the mean over heads first, each up to its own maximum in `highest`
            (layers, 1 + heads) float32, and `measures` of them; label, finding, score
            (None without truth), bright (the energy of a map that is the film itself),
            verdict, badge, words (those that the model can't know). A problem is a
            sentence in `error`; said is not known yet.
        """
        view = self.blank(case, choice)
        for part in (self._map, self._thumbs):
            try:
                view |= part(case, choice, scored)
            except Cancelled:
                raise
            except Exception as problem:  # nobody sees the traceback of a worker
                view["error"] = sentence(problem)
        if scored:
            finding = view["finding"]
            score = view["score"]
            bright = self._brightness(case, finding, score)
            view["bright"] = bright
            absent = finding in self.films.absent(case)
            view["verdict"] = verdict(finding, score, bright, absent)
        view |= self._badge(choice) | self._place(case, choice)
        return view | {"words": self.words(choice)}

    def energies(self, choice):
        """Of each film the share of this choice's map on the truth; None without."""
        energies = []
        for case in steps(range(len(self)), "worst first"):
            try:
                score = self.score(case, choice)[1]
            except (OSError, ReadError):  # it says so where it's shown
                score = None
            energies.append(score["energy"] if score else None)
        return energies

    def check(self, choice):
        """Put the choice to `sanity_check` on the first films, for its badge."""
        cases = range(min(len(self), CHECKED))
        result = sanity_check(
            self.models[choice.model],
            [self.scan(case) for case in cases],
            groups=[self.films.patient(case) for case in cases],
            method=choice.method,
            target=as_target(choice.target),
            layer=choice.layer,
            head=choice.head,
        )
        self.badges[_checked(choice)] = result.badge

    def finding_of(self, case, target):
        """What a map for these words is scored against; None = they name nothing."""
        if self.finding:
            return self.finding
        truth = self.scan(case).truth
        return finding_named(target, truth) or finding_named(target, FINDINGS)

    def words(self, choice):
        """The words of the phrase that the model can't know, and in a sentence."""
        if not self.reads(choice):
            return None
        asked = as_target(choice.target)
        phrases = asked if isinstance(asked, tuple) else (asked,)
        doubtful = doubtful_words(self.models[choice.model], " ".join(phrases))
        text = warning(choice.model, doubtful)
        return doubtful | {"nonsense": None, "text": text}

    def reads(self, choice):
        """Whether its map is one for words."""
        is_text = self.models[choice.model].kind == "image-text"
        if not is_text or not _has_words(choice) or not choice.target:
            return False
        try:
            return not isinstance(as_target(choice.target), int)
        except ValueError:  # too long
            return False

    def nonsense(self, case, choice):
        """How alike the map is to that of a phrase without sense, from -1 to 1.

        The rank correlation of `sanity_check`.
        """
        phrase = next(p for p in NONSENSE if p not in choice.target)
        if isinstance(as_target(choice.target), tuple):
            phrase = f"{phrase} vs no {phrase}"
        maps = [self.values(case, choice)]
        maps += [self.values(case, replace(choice, target=phrase))]
        asked, other = (ranks([values]) for values in maps)
        return float(similarity(asked, other)[0])

    def _heads(self, case, choice):
        model = self.models[choice.model]
        seen = self._attention(case, choice.model)
        return heads_of(*seen, model.grid, choice.patches, choice.direction)

    def _attention(self, case, name):
        kept = self.kept[name].attention
        key = self.films.key(case)
        return kept.get(key, lambda: captured(self.models[name], self.scan(case)))

    def _measures(self, case, choice, finding):
        scan = self.scan(case)
        mask = scan.truth.get(finding)
        cover = None
        if mask is not None and mask.any():
            cover = cover_of(self.models[choice.model], mask, scan.aspect)
        return measures(self.heads(case, choice), cover)

    def _grid(self, case, choice):
        model = self.models[choice.model]
        target = as_target(choice.target)
        require_sense(model, choice.method, target, choice.head, choice.layer)
        whole = choice.layer is None and choice.patch is None
        by_pool = whole and attention_pool(model) is not None
        if choice.method == "attention" and not by_pool:
            heads = self.heads(case, choice).rows
            layer = -1 if choice.layer is None else choice.layer
            head = 0
            if choice.head is not None:
                head = 1 + range(heads.shape[1] - 1)[choice.head]
            return heads[layer, head]
        if choice.patch is not None:
            raise ValueError(
                "expected method='attention', which has a row for each patch; "
                f"got {choice.method!r}"
            )
        x = model.preprocess(self.scan(case))
        maps = grids(
            model,
            x,
            choice.method,
            [[target]],
            choice.layer,
            choice.head,
        )
        return maps[0, 0].cpu().numpy()

    def _score(self, case, choice):
        finding = self.finding_of(case, choice.target)
        mask = self.scan(case).truth.get(finding)
        if mask is None or not mask.any():
            return finding, None
        return finding, score_map(self.values(case, choice), mask)

    def _brightness(self, case, finding, score):
        """The energy of a map that is the film itself; None where there's no score."""
        if score is None:
            return None
        scan = self.scan(case)
        return float(scan.pixels[scan.truth[finding]].sum() / scan.pixels.sum())

    def _badge(self, choice):
        badge = self.badges.get(_checked(choice))
        if badge is None:
            given = self.given.get(choice.method)
            if given is None:
                return UNCHECKED
            if not self._is_about(given, choice):
                return OTHER_WORDS
            badge = getattr(given, "badge", given)
        return {"badge": str(badge), "passed": badge.passed}

    def _is_about(self, given, choice):
        """Whether a badge from elsewhere is about this model and these words."""
        name = self.models[choice.model].name
        if getattr(given, "model", name) != name:
            return False
        if not _has_words(choice):
            return True
        target = getattr(given, "target", as_target(self.given_for))
        return as_target(choice.target) == target

    def _place(self, case, choice):
        scan = self.scan(case)
        H, W = scan.shape
        fit = self.models[choice.model].fit
        source, square = boxes((H, W), UNIT, fit, scan.aspect)
        source = np.array(source) / [H, W, H, W]
        square = np.array(square) / UNIT
        return {
            "source": source.tolist(),
            "square": square.tolist(),
        }

    def _map(self, case, choice, scored):
        grid = self.grid(case, choice)
        rows, cols = grid.shape
        scan = self.scan(case)
        fit = self.models[choice.model].fit
        seen = data.to_scan(grid, shrunk(scan.shape), fit=fit, aspect=scan.aspect)
        view = {
            "grid": grid.tobytes(),
            "rows": rows,
            "cols": cols,
            "low": float(seen.min()),
            "high": float(seen.max()),
            "error": note_of(grid, choice.method, choice.target),
        }
        if scored:
            view["finding"], view["score"] = self.score(case, choice)
        return view

    def _thumbs(self, case, choice, _):
        if not has_attention(self.models[choice.model]):
            return {}
        heads = self.heads(case, choice).rows
        highest = heads.max((-2, -1), keepdims=True).clip(1e-12)
        thumbs = np.round(255 * heads / highest).astype(np.uint8)
        layers, columns = thumbs.shape[:2]
        place = Choice(choice.model, patch=choice.patch, direction=choice.direction)
        finding = self.finding_of(case, choice.target)
        return {
            "thumbs": thumbs.tobytes(),
            "highest": highest.astype(np.float32).tobytes(),
            "layers": layers,
            "heads": columns - 1,
            "measures": self.measures(case, place, finding),
        }


def _has_words(choice):
    return choice.method in TABLE and TABLE[choice.method].target


def _checked(choice):
    """What a sanity check is about: no place, and words where the method has any."""
    target = choice.target if _has_words(choice) else None
    return replace(choice, target=target, patch=None, direction="from")
