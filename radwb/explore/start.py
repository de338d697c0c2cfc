"""`explore`: from models and films to the widget."""

from pathlib import Path

from radwb.attend.methods import METHODS
from radwb.attend.tower import has_attention
from radwb.explore import offers
from radwb.explore.about import LOOK
from radwb.explore.choice import Choice
from radwb.explore.computed import Cases
from radwb.explore.notes import Notes
from radwb.explore.state import require_state
from radwb.explore.widget import Explorer
from radwb.explore.words import in_words


def explore(
    model: object,
    table: object,
    *,
    finding: str | None = None,
    against: object = None,
    method: str | None = None,
    target: str | tuple | int | None = None,
    targets: list | None = None,
    badges: dict | None = None,
    state: dict | None = None,
    notes: str | Path | None = None,
) -> "Explorer":
    """Look at the attention of your own model, film by film.

    Click a head or a patch, type a phrase, compare, start with the worst.

    >>> widget = rw.show.explore(model, scans, against="gradcam")
    >>> widget.choose(layer=2)
    >>> path = widget.save("a.png")
    >>> again = rw.show.explore(model, scans, state=widget.state)

    Args:
        model: a `rw.models.Model`; a list, or a dict {name: Model}, of two opens two
            panes.
        table: rows that `rw.data.scan_of` reads, or a list of Scans.
        finding: what every map is scored against. None = the finding that the target's
            words name.
        against: what a second pane shows: another Model, or a method's name.
        method: of the first map; None = "relevance", for a CNN "gradcam".
        target: of the first map: a phrase, "this vs that" or such a pair, a class, or
            the number of a neuron. None = the first of `targets`.
        targets: offered by the drop-down. None = the findings; where all models read,
            each against "no ..."; for a tower without words or classes some of its
            neurons.
        badges: method -> what `rw.attend.sanity_check` gave, which holds for the words
            and the model that were checked; or its Badge alone, which holds for
            `target`. "Check" makes others.
        state: what another widget's `state` said, to open the same film, panes, look
            and order again.
        notes: a CSV for verdicts and notes, written (for its owner alone) when the
            first is made, and read again the next time. None = they go with the widget.
    Returns:
        the widget. A saved notebook and an exported page keep the picture that was seen
        last, and the heads of its film live there. When its cell is run again, it is
        closed.
    Raises:
        ValueError: no film, more than two models, an unknown method, a film or model
            of the state that isn't there, or a file in the place of the notes that is
            none of theirs.
    """
    models = _by_name(model, against)
    names = list(models)
    if target is not None:
        target = in_words(target)
    cases = Cases(models, table, finding=finding, badges=badges, target=target)
    offered = [in_words(each) for each in targets or offers.targets(cases, names[0])]
    cases.given_for = target or offered[0]
    begin = {"notes": Notes(notes)}
    if state is not None:
        begin |= require_state(state, cases, LOOK)
        return Explorer(cases, targets=offered, **begin)
    if method is None:
        method = "relevance" if has_attention(models[names[0]]) else "gradcam"
    second = against if isinstance(against, str) else method
    for name in (method, second):
        if name not in METHODS:
            raise ValueError(f"expected a method of {METHODS}, got {name!r}")
    panes = [Choice(names[0], method, target or offered[0])]
    if against is not None or len(names) == 2:
        panes.append(_second(cases, names[-1], second, panes[0].target))
    return Explorer(cases, panes=panes, targets=offered, **begin)


def _second(cases, name, method, target):
    """The second pane, asked the same where its model can be."""
    if not offers.suits(cases.models[name], target):
        target = offers.targets(cases, name)[0]
    return Choice(name, method, target)


def _by_name(model, against):
    """One model or two, by name."""
    if isinstance(model, dict):
        return dict(model)
    models = list(model) if isinstance(model, list | tuple) else [model]
    if against is not None and not isinstance(against, str):
        models.append(against)
    if len(models) not in (1, 2):
        raise ValueError(f"expected one model or two, got {len(models)}")
    names = [one.name for one in models]
    if len(set(names)) < len(names):
        names = [f"{name} ({n})" for n, name in enumerate(names)]
    return dict(zip(names, models, strict=True))
