"""Which finding is a kind of which: labels, masks and names follow the hierarchy."""

import numpy as np

from radwb.findings.rows import PARENT


def with_parents(labels):
    """Labels of which a parent is 1 where any child is: an edema is a lung opacity.

    A parent is never set to 0 here. Where no child is there it keeps its own label,
    since a hazy patch that is none of the children makes it 1, too. Where a child is
    uncertain a parent of 0 becomes uncertain.

    >>> with_parents({"Lung Opacity": 0, "Edema": 1})
    {'Lung Opacity': 1, 'Edema': 1}

    Args:
        labels: a dict of numbers or a table; 1, 0, -1 (uncertain) or NaN (not
            mentioned).
    Returns:
        a copy of the same kind; a parent that has no label of its own gets a column,
        NaN where no child is 1.
    """
    filled = labels.copy()
    for parent, children in PARENT.items():
        present = [labels[child] for child in children if child in labels]
        if present:
            label = np.asarray(labels.get(parent, np.nan))
            is_unsure = np.any([np.equal(child, -1) for child in present], axis=0)
            is_there = np.any([np.equal(child, 1) for child in present], axis=0)
            value = np.where(is_unsure & (label == 0), -1, label)
            value = np.where(is_there, 1, value)
            filled[parent] = value if value.ndim else value.item()
    return filled


def with_parent_masks(truth):
    """Truth masks of which a parent's is the union of its own and its children's.

    >>> sorted(with_parent_masks({"Edema": np.ones((2, 2), bool)}))
    ['Edema', 'Lung Opacity']

    Args:
        truth: {name: bool mask (H, W)}.
    Returns:
        the same with the parents' masks, where any of the family is there.
    """
    filled = dict(truth)
    for parent, children in PARENT.items():
        family = [truth[name] for name in (parent, *children) if name in truth]
        if family:
            filled[parent] = np.any(family, axis=0)
    return filled


def with_children(names):
    """Names with all that lies under them.

    Who never names a lung opacity names no edema either.

    >>> sorted(with_children({"Lung Opacity", "Fracture"}))[:3]
    ['Atelectasis', 'Consolidation', 'Edema']
    """
    below = {child for name in names for child in PARENT.get(name, ())}
    return frozenset(names) | below


def kin(name):
    """A finding with its parents and children: each tells of the others' labels.

    >>> sorted(kin("Edema"))
    ['Edema', 'Lung Opacity']
    """
    above = {parent for parent, children in PARENT.items() if name in children}
    return with_children({name}) | above
