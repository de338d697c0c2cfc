"""Slices: kinds of films that a model answers worse, found blind and confirmed."""

from radwb.fail.slices.find import find_slices
from radwb.fail.slices.result import Slices

__all__ = ["Slices", "find_slices"]
