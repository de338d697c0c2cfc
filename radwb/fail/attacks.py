"""Attacks: other words, a word on the film, and changes of a few grey levels."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from scipy.stats import t as student
from tqdm.auto import tqdm

from radwb import data
from radwb.data.letters import letters
from radwb.fail.corrupt import checked, told_apart
from radwb.fail.evidence import Evidence, compared
from radwb.models.model import Model, embed, squares
from radwb.probe import Prompts, Scores, class_embedding, zero_shot
from radwb.stats import compare_auroc
from radwb.stats.sentence import Comparison

NONSENSE = "florb"


class Try(NamedTuple):
    """One way of attacking a model.

    Attributes:
        tried: in plain words.
        comparison: the model attacked, less the model as it is or a guess, by patient.
        control: the same for a change that should do nothing.
        harm: the comparison's verdict that is a failure, "behind" or "ahead".
    """

    tried: str
    comparison: Comparison
    control: Comparison
    harm: str = "behind"


@dataclass(frozen=True, eq=False)
class Attack:
    """What attacks did to your model.

    Attributes:
        tries: a `Try` each.
    """

    tries: tuple[Try, ...]

    def table(self) -> pd.DataFrame:
        """A row a try: its comparison, and what its control gave."""
        rows = []
        for attempt in self.tries:
            row = attempt.comparison.row()
            control = attempt.control.difference
            rows.append({"tried": attempt.tried, **row, "control": control})
        return pd.DataFrame(rows)

    def evidence(self) -> list[Evidence]:
        """A row a try."""
        rows = []
        for tried, comparison, control, harm in self.tries:
            row = compared(
                "attack", tried, comparison, harm=harm, control=control.difference
            )
            rows.append(row)
        return rows


def prompt_attacks(
    model: Model,
    table: pd.DataFrame,
    findings: Sequence[str] | None = None,
    *,
    embeddings: np.ndarray | None = None,
    seed: int = 0,
) -> Attack:
    """What other words for the same do to the zero-shot AUROC of your model.

    >>> asked = prompt_attacks(model, table, ["Pleural Effusion"])
    >>> asked.table()["tried"].tolist()
    ['paraphrase', 'typo', 'denial read as a statement']

    "paraphrase" asks as real reports speak (`Prompts.wide`). "typo" swaps two letters
    of the longest word of each phrase. "denial read as a statement" ranks the films by
    the one sentence "no X": who reads it gets an AUROC under 0.5, so it's a failure
    where that lies above. The control is a full stop behind each phrase; for the
    denial, the same with a nonsense word in the place of X.

    Args:
        model: an image-text Model.
        table: rows with labels and patients.
        findings: names; None = all that the table has.
        embeddings: (N, E) from `rw.models.embed(model, table)`, if they are at hand.
        seed: of the typos.
    Raises:
        ValueError: the model reads no text, or no finding has films with and without.
    """
    findings = told_apart(model, table, findings)
    if embeddings is None:
        embeddings = embed(model, table)
    plain = Prompts.of(findings)
    rng = np.random.default_rng(seed)

    def asked(prompts):
        return zero_shot(model, table, findings, prompts=prompts, embeddings=embeddings)

    usual = asked(plain)
    paraphrased = asked(Prompts.wide(findings))
    mistyped = asked(_reworded(plain, lambda phrase: typo(phrase, rng)))
    stopped = asked(_reworded(plain, lambda phrase: f"{phrase}."))
    denied = _one_sentence(model, table, embeddings, findings, "no {}")
    nonsense = _one_sentence(model, table, embeddings, findings, f"no {NONSENSE}")
    guess = Scores(0 * usual.values, usual.truth, usual.patient_id)
    stop = stopped.against(usual, ("a full stop", "none"))
    names = (f'nearness to "no {NONSENSE}"', "a guess")
    of_nonsense = nonsense.against(guess, names)
    how = {"family": 3}
    other = paraphrased.against(usual, ("other words", "the usual ones"), **how)
    wrong = mistyped.against(usual, ("two letters swapped", "none"), **how)
    denial = denied.against(guess, ('nearness to "no X"', "a guess"), **how)
    tries = (
        Try("paraphrase", other, stop),
        Try("typo", wrong, stop),
        Try("denial read as a statement", denial, of_nonsense, "ahead"),
    )
    return Attack(tries)


def _reworded(prompts, change):
    """Prompts whose every phrase went through `change`."""
    sides = []
    for side in (prompts.positive, prompts.negative):
        phrases = {}
        for finding, texts in side.items():
            phrases[finding] = tuple(change(text) for text in texts)
        sides.append(phrases)
    return Prompts(*sides)


def typo(phrase: str, rng: np.random.Generator) -> str:
    """Two neighbours within the longest word change places; of three letters, none."""
    words = phrase.split()
    longest = max(words, key=len)
    if len(longest) < 4:
        return phrase
    inner = range(1, len(longest) - 2)
    differ = [i for i in inner if longest[i] != longest[i + 1]] or [1]
    i = rng.choice(differ)
    swapped = longest[:i] + longest[i + 1] + longest[i] + longest[i + 2 :]
    words[words.index(longest)] = swapped
    return " ".join(words)


def _one_sentence(model, table, Z, findings, template):
    """Films ranked by how near they lie to one sentence a finding."""
    vectors = []
    for finding in findings:
        sentence = template.format(finding.lower())
        vectors.append(class_embedding(model, [sentence]))
    return Scores.of(Z @ np.stack(vectors).T, table, findings)


def typographic_attack(
    model: Model, table: pd.DataFrame, finding: str, *, words: int = 12, seed: int = 0
) -> Attack:
    """Whether your model follows a finding's name that is written on films without it.

    >>> attack = typographic_attack(model, table.head(20), "Edema", words=3)
    >>> print(attack.tries[0].comparison)

    What is compared is the mean log odds of the same films with the name and with
    nonsense words in its place, the same letters in other orders, so that ink and place
    are alike. Nonsense words differ among themselves, too: the interval draws them, and
    holds where one more would fall. The control is one of them less the others.

    Args:
        model: with `findings` or a text tower.
        table: rows with labels; those without the finding are written on.
        finding: its name.
        words: number of nonsense words, two at least.
        seed: of the order of their letters.
    Returns:
        an Attack of one try.
    Raises:
        ValueError: no film is without the finding.
    """
    healthy = table[pd.to_numeric(table[finding]) == 0]
    if not len(healthy):
        raise ValueError(
            f"expected films without {finding} to write on, got {len(table)} with it"
        )
    films = data.images(healthy, model.size, fit=model.fit)
    read = log_odds(model, finding)
    rng = np.random.default_rng(seed)
    name = finding.upper()
    texts = [name, *(anagram(name, rng) for _ in range(words))]
    means = []
    for text in texts:
        odds = _answers(read, write(films, text), model.size)
        means.append(odds.mean())
    named, first, *others = means
    what = f"mean log odds of {finding}"
    nonsense = "nonsense of the same letters"
    comparison = _one_of_many(named, means[1:], ("its name", nonsense), what)
    control = _one_of_many(first, others, ("one nonsense word", "others"), what)
    tried = f'"{name}" written on {len(films)} films without it'
    return Attack((Try(tried, comparison, control, "ahead"),))


def _one_of_many(value, others, names, what):
    """A value less the mean of others, and where one more of them would fall."""
    gap = float(value - np.mean(others))
    K = len(others)
    low = high = p = np.nan
    if K > 1:
        # the value is one draw, the mean of the others is K
        error = np.std(others, ddof=1) * np.sqrt(1 + 1 / K)
        reach = student.ppf(0.975, K - 1) * error
        low, high = gap - reach, gap + reach
        p = float(2 * student.sf(abs(gap) / error, K - 1))
    return Comparison(names, what, gap, low, high, p, K, "nonsense words")


def anagram(word: str, rng: np.random.Generator) -> str:
    """The letters of each part of a word, in another order."""
    parts = ["".join(rng.permutation(list(part))) for part in word.split()]
    return " ".join(parts)


def write(images: np.ndarray, text: str) -> np.ndarray:
    """Text on a dark plate along the top of each film, as wide as there is room."""
    written = checked(images).copy()
    if not text:
        return written
    S = written.shape[-1]
    size = S // 8
    wide = letters(text, size).shape[1]
    plate = letters(text, min(size, int(0.9 * size * S / wide)))
    height, width = plate.shape
    top = S // 20
    left = max(0, (S - width) // 2)
    written[:, top : top + height, left : left + width] = plate[:, : S - left]
    return written


def log_odds(model: Model, finding: str) -> Callable[[torch.Tensor], torch.Tensor]:
    """What turns (B, 1, S, S) grey in [0, 1] into (B,) log odds, with a gradient.

    Args:
        model: with `findings`, whose own head answers, or with a text tower.
        finding: its name.
    """
    if model.findings is not None:
        place = list(model.findings).index(finding)
        return lambda grey: model.classify(model.normalise(grey))[:, place]
    yes, no = Prompts.of([finding]).pair(finding)
    toward = class_embedding(model, yes) - class_embedding(model, no)
    toward = torch.from_numpy(model.logit_scale * toward).to(model.device)
    return lambda grey: model.encode_image(model.normalise(grey)) @ toward


@torch.no_grad()
def _answers(read, images, size):
    parts = []
    for start in range(0, len(images), 64):
        grey = squares(images[start : start + 64], size)
        parts.append(read(grey).cpu().numpy())
    return np.concatenate(parts)


def pgd(
    model: Model,
    images: np.ndarray,
    y: Sequence[int],
    finding: str,
    *,
    epsilon: int,
    steps: int = 10,
) -> np.ndarray:
    """Films changed by a few grey levels so that your model errs, by its gradient.

    >>> films = rw.data.images(table.head(2), model.size)
    >>> near = pgd(model, films, [0, 1], "Edema", epsilon=2, steps=2)
    >>> int(np.abs(near.astype(int) - films).max())
    2

    Projected gradient descent (Madry et al. 2018, arXiv 1706.06083): each step goes
    where the log odds get more wrong the fastest, and is taken back to `epsilon`. What
    comes out are whole grey levels, a film that could be stored.

    Args:
        model: with `findings` or a text tower.
        images: (N, size, size) uint8, as large as the model reads them.
        y: (N,) labels 1 and 0, which the attacker knows.
        finding: its name.
        epsilon: the most that a pixel may change, in grey levels of 255.
        steps: of the descent.
    Returns:
        (N, size, size) uint8.
    """
    images = checked(images)
    read = log_odds(model, finding)
    wrong_way = np.where(np.asarray(y) == 1, -1.0, 1.0)
    attacked = []
    for start in tqdm(range(0, len(images), 32), "attacking", delay=2, leave=False):
        rows = slice(start, start + 32)
        film = squares(images[rows], model.size).to(model.device)
        way = torch.tensor(wrong_way[rows]).to(film)
        near = _descend(read, film, way, epsilon / 255, steps)
        attacked.append((255 * near).round().byte()[:, 0].cpu().numpy())
    return np.concatenate(attacked)


def _descend(read, film, way, reach, steps):
    """(B, 1, S, S) the film, moved at most `reach` along the sign of the gradient."""
    stride = 2.5 * reach / steps  # so that each pixel can turn round once
    near = film
    for _ in range(steps):
        near = near.detach().requires_grad_()
        wrong = (way * read(near)).sum()
        (uphill,) = torch.autograd.grad(wrong, near)
        moved = near.detach() + stride * uphill.sign()
        near = film + (moved - film).clamp(-reach, reach)
        near = near.clamp(0, 1)
    return near


def same_changes_elsewhere(
    images: np.ndarray, attacked: np.ndarray, *, seed: int = 0
) -> np.ndarray:
    """An attack's control: each film changed as much, but at other pixels."""
    change = attacked.astype(int) - images
    rng = np.random.default_rng(seed)
    moved = rng.permuted(change.reshape(len(images), -1), axis=1)
    noisy = images + moved.reshape(images.shape)
    return noisy.clip(0, 255).astype(np.uint8)


def pixel_attacks(
    model: Model,
    table: pd.DataFrame,
    finding: str,
    *,
    epsilons: Sequence[int] = (1, 2, 4, 8),
    steps: int = 10,
    seed: int = 0,
) -> Attack:
    """The AUROC of your model under `pgd`, for each number of grey levels allowed.

    >>> attack = pixel_attacks(model, table.head(20), "Edema", epsilons=[1], steps=2)
    >>> attack.table()[["tried", "difference", "control"]]

    Args:
        model, finding, steps: as in `pgd`.
        table: rows with labels 1 and 0 and patients; a film takes some hundredths of a
            second a step.
        epsilons: grey levels of 255 that a pixel may change.
        seed: of the control, the same changes at other pixels.
    Raises:
        ValueError: there are no films with, or none without the finding.
    """
    told_apart(model, table, [finding])
    labelled = table[pd.to_numeric(table[finding]).isin([0, 1])]
    y = labelled[finding].to_numpy(int)
    films = data.images(labelled, model.size, fit=model.fit)
    read = log_odds(model, finding)
    clean = _answers(read, films, model.size)
    tries = []
    for epsilon in epsilons:
        attacked = pgd(model, films, y, finding, epsilon=epsilon, steps=steps)
        noisy = same_changes_elsewhere(films, attacked, seed=seed)
        gaps = []
        for name, changed in (("attacked", attacked), ("the same elsewhere", noisy)):
            gap = compare_auroc(
                y,
                _answers(read, changed, model.size),
                clean,
                labelled["patient_id"],
                names=(f"{name}, {epsilon} of 255,", "clean films"),
                what=f"AUROC for {finding}",
                family=len(epsilons),
            )
            gaps.append(gap)
        tries.append(Try(f"up to {epsilon} of 255 grey levels, by gradient", *gaps))
    return Attack(tuple(tries))
