"""Films, models, and the maps of them as small grids, each computed once.

It stands behind the attention widget.
"""

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import pandas as pd
import torch

from radwb import data
from radwb.attend.capture import capture
from radwb.attend.doubt import sanity_check
from radwb.attend.map import note_of
from radwb.attend.maps import grids, require_sense
from radwb.attend.progress import steps
from radwb.attend.score import score_map
from radwb.attend.tower import attention_pool, has_attention, in_float32
from radwb.data.geometry import boxes
from radwb.explore.words import as_target, finding_named, label, sentence, verdict
from radwb.findings.rows import synonyms

CHECKED = 16  # films that a sanity check takes at most
UNIT = 1 << 16  # in which the square of the model's input is measured


class Cancelled(Exception):
    """A computation was stopped on demand."""


@dataclass(frozen=True)
class Choice:
    """What a pane shows of a case.

    Args:
        model: its name in the widget.
        method, layer, head: as in `attention_map`.
        target: a phrase or finding; "this vs that" is a (positive, negative) pair.
        patch: of method "attention": what this patch's token attends to; counted by
            rows from the upper left.
    """

    model: str
    method: str = "relevance"
    target: str | None = None
    layer: int | None = None
    head: int | None = None
    patch: int | None = None


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
        badges: method -> `Badge`.
    """

    def __init__(self, models, films, *, finding=None, badges=None):
        # a model of half precision is copied once
        self.models = {name: in_float32(model) for name, model in models.items()}
        self.finding = finding
        self.badges = dict(badges or {})
        self.films = list(films)
        if isinstance(films, pd.DataFrame):
            self.films = [row for _, row in films.iterrows()]
        if not self.films:
            raise ValueError(
                "expected at least one film, got none. "
                "Try rw.simulate.cohort(n=12, seed=0)."
            )
        self.scan = lru_cache(16)(self._scan)
        self.attention = lru_cache(4)(self._attention)  # 22 MB each of a ViT-B/16
        self.grid = lru_cache(1024)(self._grid)
        self.heads = lru_cache(256)(self._heads)
        self.score = lru_cache(4096)(self._score)

    def __len__(self):
        return len(self.films)

    def name(self, case, column="study_id"):
        film = self.films[case]
        name = film.source if isinstance(film, data.Scan) else film.get(column, "")
        return str(name) or f"film {case}"

    def targets(self):
        """What to offer: the findings, first the scored one and those of film 0.

        Phrases, where all models read.
        """
        models = self.models.values()
        names = [name for model in models for name in model.findings or []]
        if not names and not isinstance(self.films[0], data.Scan):
            names = data.findings_of(self.films[0].to_frame().T)
        names = list(dict.fromkeys(names or data.table.FINDINGS))
        truth = self.scan(0).truth
        names.sort(key=lambda name: (name != self.finding, name not in truth))
        if any(model.kind != "image-text" for model in models):
            return names
        phrases = [synonyms(name)[0] for name in names]
        return [f"{phrase} vs no {phrase}" for phrase in phrases]

    def values(self, case, choice):
        """(H, W) the map in the scan's own pixels, as `attention_map` gives it."""
        scan = self.scan(case)
        fit = self.models[choice.model].fit
        grid = self.grid(case, choice)
        return data.to_scan(grid, scan.shape, fit=fit, aspect=scan.aspect)

    def view(self, case, choice, *, scored=True):
        """All that a pane draws, as plain values and bytes.

        Args:
            scored: False leaves the score out, which takes a second on a film of 3000
                px.
        Returns:
            grid (rows, cols) float32; where it lies (`source` of the scan is `square`
            of the grid, as fractions top, left, bottom, right); thumbs (layers, 1 +
            heads, *tokens) uint8, the mean over heads first; label, finding, score
            (None without truth), bright (the energy of a map that is the film itself),
            verdict and badge. A problem is a sentence in `error`.
        """
        tokens = list(self.models[choice.model].grid)
        view = {
            "case": case,
            "choice": vars(choice),
            "tokens": tokens,
            "label": label(choice, tokens[1]),
            "error": "",
            "verdict": "",
            "grid": None,
            "thumbs": None,
            "finding": None,
            "score": None,
            "bright": None,
        }
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
            view["verdict"] = verdict(finding, score, bright)
        return view | self._badge(choice) | self._place(case, choice)

    def worst_first(self, choice):
        """The cases by rising energy of this choice's map inside the truth.

        Those without truth are last.
        """
        energies = []
        for case in steps(range(len(self)), "worst first"):
            _, score = self.score(case, choice)
            energy = score["energy"] if score else np.inf
            energies.append(energy)
        return sorted(range(len(self)), key=energies.__getitem__)

    def check(self, choice):
        """Put the choice to `sanity_check` on the first films, for its badge."""
        cases = range(min(len(self), CHECKED))
        result = sanity_check(
            self.models[choice.model],
            [self.scan(case) for case in cases],
            groups=[self.name(case, "patient_id") for case in cases],
            method=choice.method,
            target=as_target(choice.target),
            layer=choice.layer,
            head=choice.head,
        )
        self.badges[replace(choice, patch=None)] = result.badge

    def _scan(self, case):
        film = self.films[case]
        return film if isinstance(film, data.Scan) else data.scan_of(film)

    def _heads(self, case, name, patch):
        """(L, 1 + heads, rows, cols) what the read-out, or one patch, takes from each.

        The mean over heads comes first.
        """
        attention, read = self.attention(case, name)
        grid = self.models[name].grid
        patches = np.prod(grid)
        if patch is not None:
            T = attention.shape[-1]
            token = T - patches + range(patches)[patch]
            read = torch.eye(T, device=attention.device)[token][None]
        each = (read @ attention)[..., 0, -patches:].unflatten(-1, grid)
        return torch.cat([each.mean(1, keepdim=True), each], 1).cpu().numpy()

    def _attention(self, case, name):
        """(L, heads, T, T) the attention, and (1, T) what the read-out takes."""
        model = self.models[name]
        seen = capture(model, model.preprocess(self.scan(case)))
        return seen["attention"][:, 0], seen["read"].reshape(1, -1)

    def _grid(self, case, choice):
        model = self.models[choice.model]
        target = as_target(choice.target)
        require_sense(model, choice.method, target, choice.head, choice.layer)
        whole = choice.layer is None and choice.patch is None
        by_pool = whole and attention_pool(model) is not None
        if choice.method == "attention" and not by_pool:
            heads = self.heads(case, choice.model, choice.patch)
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
        scan = self.scan(case)
        finding = self.finding or finding_named(choice.target, scan.truth)
        mask = scan.truth.get(finding)
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
        badge = self.badges.get(replace(choice, patch=None))
        badge = badge or self.badges.get(choice.method)
        if badge is None:
            return {"badge": "sanity: not checked", "passed": None}
        return {"badge": str(badge), "passed": badge.passed}

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
        view = {
            "grid": grid.tobytes(),
            "rows": rows,
            "cols": cols,
            "error": note_of(grid, choice.method, choice.target),
        }
        if scored:
            view["finding"], view["score"] = self.score(case, choice)
        return view

    def _thumbs(self, case, choice, _):
        if not has_attention(self.models[choice.model]):
            return {}
        heads = self.heads(case, choice.model, choice.patch)
        highest = heads.max((-2, -1), keepdims=True).clip(1e-12)
        thumbs = np.round(255 * heads / highest).astype(np.uint8)
        layers, columns = thumbs.shape[:2]
        return {
            "thumbs": thumbs.tobytes(),
            "layers": layers,
            "heads": columns - 1,
        }
