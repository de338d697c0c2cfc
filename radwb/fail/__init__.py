"""Find out where and why a model fails: a dial for shortcuts, scores by group."""

from radwb.fail.groups import subgroups
from radwb.fail.marker import add_marker, tie
from radwb.fail.shortcut import ShortcutResult, Tuned, arms, edits, finetune, shortcut

__all__ = ["ShortcutResult", "Tuned", "add_marker", "arms", "edits", "finetune", "shortcut", "subgroups", "tie"]
