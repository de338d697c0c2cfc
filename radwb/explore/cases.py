"""What stands behind the attention widget: films, models, and the maps of them as small
grids, each computed once.
"""

import re
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import pandas as pd
import torch

from radwb import data
from radwb.attend.capture import capture
from radwb.attend.doubt import sanity_check
from radwb.attend.map import note_of
from radwb.attend.maps import UNASKED, grids, require_sense
from radwb.attend.progress import steps
from radwb.attend.score import score_map
from radwb.attend.tower import attention_pool, has_attention, in_float32
from radwb.data.geometry import boxes
from radwb.findings.rows import synonyms

CHECKED = 16  # films that a sanity check takes at most


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
    >>> cases.grid(0, Choice("tiny", target="pleural effusion")).shape          # of the model's tokens
    (8, 8)

    Args:
        models: name -> `rw.models.Model`. Their weights are taken to stay as they are.
        films: a table or a list of Scans.
        finding: what every map is scored against; None = the finding that the target's
            words name.
        badges: method -> `Badge`.
    """

    def __init__(
        self,
        models: dict,
        films,
        *,
        finding: str | None = None,
        badges: dict | None = None,
    ):
        self.models = {
            name: in_float32(model) for name, model in models.items()
        }  # a half one is copied once
        self.finding, self.badges = finding, dict(badges or {})
        self.films = (
            [row for _, row in films.iterrows()]
            if isinstance(films, pd.DataFrame)
            else list(films)
        )
        if not self.films:
            raise ValueError(
                "expected at least one film, got none. Try rw.simulate.cohort(n=12, seed=0)."
            )
        self.scan, self.attention = (
            lru_cache(16)(self._scan),
            lru_cache(4)(self._attention),
        )  # ViT-B/16: 22 MB each
        self.grid, self.heads = lru_cache(1024)(self._grid), lru_cache(256)(self._heads)
        self.score = lru_cache(4096)(self._score)

    def __len__(self):
        return len(self.films)

    def name(self, case: int, column: str = "study_id") -> str:
        film = self.films[case]
        return (
            str(film.source if isinstance(film, data.Scan) else film.get(column, ""))
            or f"film {case}"
        )

    def targets(self) -> list[str]:
        """What to offer: the findings, first the asked one and those of film 0; phrases
        where all models read.
        """
        table = (
            pd.DataFrame()
            if isinstance(self.films[0], data.Scan)
            else self.films[0].to_frame().T
        )
        classes = [f for model in self.models.values() for f in model.findings or []]
        names = dict.fromkeys(classes or data.findings_of(table) or data.table.FINDINGS)
        names = sorted(
            names, key=lambda f: (f != self.finding, f not in self.scan(0).truth)
        )
        if any(model.kind != "image-text" for model in self.models.values()):
            return names
        return ["{0} vs no {0}".format(synonyms(f)[0]) for f in names]

    def values(self, case: int, choice: Choice) -> np.ndarray:
        """(H, W) the map in the scan's own pixels, as `attention_map` gives it."""
        scan, fit = self.scan(case), self.models[choice.model].fit
        return data.to_scan(
            self.grid(case, choice), scan.shape, fit=fit, aspect=scan.aspect
        )

    def view(self, case: int, choice: Choice, *, scored: bool = True) -> dict:
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
        view = {
            "case": case,
            "choice": vars(choice),
            "label": self._label(choice),
            "grid": None,
            "thumbs": None,
        }
        view |= {
            "error": "",
            "finding": None,
            "score": None,
            "tokens": list(self.models[choice.model].grid),
        }
        for part in (self._map, self._thumbs):
            try:
                view |= part(case, choice, scored)
            except Cancelled:
                raise
            except Exception as problem:  # nobody sees the traceback of a worker
                view["error"] = sentence(problem)
        return (
            view
            | (self._verdict(case, view) if scored else {"verdict": "", "bright": None})
            | self._badge(choice)
            | self._place(case, choice)
        )

    def worst_first(self, choice: Choice) -> list[int]:
        """The cases by rising energy of this choice's map inside the truth, those
        without truth last.
        """
        scores = [
            self.score(case, choice)[1]
            for case in steps(range(len(self)), "worst first")
        ]
        return sorted(
            range(len(self)),
            key=lambda case: scores[case]["energy"] if scores[case] else np.inf,
        )

    def check(self, choice: Choice) -> None:
        """Put the choice to `sanity_check` on the first films; the badge stands beside
        it from now on.
        """
        cases, model = range(min(len(self), CHECKED)), self.models[choice.model]
        how = dict(
            method=choice.method,
            target=asked(choice.target),
            layer=choice.layer,
            head=choice.head,
        )
        patients = [self.name(case, "patient_id") for case in cases]
        found = sanity_check(
            model, [self.scan(case) for case in cases], groups=patients, **how
        )
        self.badges[replace(choice, patch=None)] = found.badge

    def _scan(self, case):
        film = self.films[case]
        return film if isinstance(film, data.Scan) else data.scan_of(film)

    def _heads(self, case, name, patch):
        """(L, 1 + heads, rows, cols) what the read-out, or one patch, takes from each;
        first the mean over heads.
        """
        model, patches = self.models[name], np.prod(self.models[name].grid)
        attention, read = self.attention(case, name)
        T = attention.shape[-1]
        if patch is not None:
            read = torch.eye(T, device=attention.device)[
                T - patches + range(patches)[patch]
            ][None]
        each = (read @ attention)[..., 0, -patches:].unflatten(-1, model.grid)
        return torch.cat([each.mean(1, keepdim=True), each], 1).cpu().numpy()

    def _attention(self, case, name):
        model = self.models[name]
        seen = capture(model, model.preprocess(self.scan(case)))
        return seen["attention"][:, 0], seen["read"].reshape(
            1, -1
        )  # (L, heads, T, T), (1, T)

    def _grid(self, case, choice):
        model, target = self.models[choice.model], asked(choice.target)
        require_sense(model, choice.method, target, choice.head, choice.layer)
        of_pool = (
            attention_pool(model) is not None
            and choice.layer is None
            and choice.patch is None
        )
        if choice.method == "attention" and not of_pool:
            heads = self.heads(case, choice.model, choice.patch)
            head = (
                0 if choice.head is None else 1 + range(heads.shape[1] - 1)[choice.head]
            )
            return heads[-1 if choice.layer is None else choice.layer, head]
        if choice.patch is not None:
            raise ValueError(
                f"expected method='attention', which has a row for each patch; got {choice.method!r}"
            )
        x = model.preprocess(self.scan(case))
        return (
            grids(model, x, choice.method, [[target]], choice.layer, choice.head)[0, 0]
            .cpu()
            .numpy()
        )

    def _score(self, case, choice):
        scan = self.scan(case)
        finding = self.finding or named(choice.target, scan.truth)
        if finding not in scan.truth or not scan.truth[finding].any():
            return finding, None
        return finding, score_map(self.values(case, choice), scan.truth[finding])

    def _verdict(self, case, view):
        finding, score = view["finding"], view["score"]
        if score is None:
            return {"verdict": said(finding, None), "bright": None}
        scan = self.scan(case)
        bright = float(scan.pixels[scan.truth[finding]].sum() / scan.pixels.sum())
        return {"verdict": said(finding, score, bright), "bright": bright}

    def _label(self, choice):
        words = [choice.method]
        if choice.patch is not None:
            words[0] += " of patch ({}, {})".format(
                *divmod(choice.patch, self.models[choice.model].grid[1])
            )
        layer, head = (
            ("last layer", "mean of heads")
            if choice.method == "attention"
            else ("", "")
        )
        words += [layer if choice.layer is None else f"layer {choice.layer}"]
        words += [head if choice.head is None else f"head {choice.head}"]
        asked = choice.target and choice.method not in UNASKED
        return ", ".join(filter(None, words)) + (f": {choice.target}" if asked else "")

    def _badge(self, choice):
        badge = self.badges.get(replace(choice, patch=None)) or self.badges.get(
            choice.method
        )
        return {
            "badge": str(badge) if badge else "sanity: not checked",
            "passed": badge.passed if badge else None,
        }

    def _place(self, case, choice):
        (H, W), unit = self.scan(case).shape, 1 << 16
        fit = self.models[choice.model].fit
        source, square = boxes((H, W), unit, fit, self.scan(case).aspect)
        return {
            "source": (np.array(source) / [H, W, H, W]).tolist(),
            "square": (np.array(square) / unit).tolist(),
        }

    def _map(self, case, choice, scored):
        grid = self.grid(case, choice)
        finding, score = self.score(case, choice) if scored else (None, None)
        error = note_of(grid, choice.method, choice.target)
        about = dict(error=error, finding=finding, score=score)
        return about | dict(grid=grid.tobytes(), rows=grid.shape[0], cols=grid.shape[1])

    def _thumbs(self, case, choice, _):
        if not has_attention(self.models[choice.model]):
            return {}
        heads = self.heads(case, choice.model, choice.patch)
        small = np.round(
            255 * heads / heads.max((-2, -1), keepdims=True).clip(1e-12)
        ).astype(np.uint8)
        return dict(
            thumbs=small.tobytes(), layers=small.shape[0], heads=small.shape[1] - 1
        )


def sentence(problem: Exception) -> str:
    return (
        str(problem)
        if isinstance(problem, ValueError | RuntimeError)
        else f"{type(problem).__name__}: {problem}"
    )


def said(finding: str | None, score: dict | None, bright: float = 0.0) -> str:
    """The score in words; `bright` is the energy of a map that is the film itself."""
    if score is None:
        return f"no truth for {finding or 'these words'} on this film"
    blind = "" if score["energy"] > bright else ", which it does not beat"
    energy = f"energy {score['energy']:.2f} (by chance {score['area']:.2f}"
    energy = f"{energy}, by brightness {bright:.2f}{blind})"
    return f"{finding}: hit {score['hit']:.2g}, {energy}, IoU {score['iou']:.2f}"


def asked(target: str | None):
    """ "this vs that" -> ("this", "that"), the pair that `attention_map` takes; any
    other words as they are.
    """
    if target is None:
        return None
    words = tuple(part.strip() for part in re.split(r"\bvs\b", target))
    return words if len(words) > 1 else words[0]


def named(target: str | None, findings) -> str | None:
    """The finding that the words name, in the first half of a pair."""
    first = asked(target or "")
    words = (first if isinstance(first, str) else first[0]).casefold()
    return next(
        (
            f
            for f in findings
            if any(w in words for w in (f.casefold(), *synonyms(f)))
        ),
        None,
    )
