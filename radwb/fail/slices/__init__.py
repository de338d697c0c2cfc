"""Slices: kinds of films that a model answers worse, found blind and confirmed."""

from radwb.fail.slices.find import find_slices
from radwb.fail.slices.metadata import metadata_slices
from radwb.fail.slices.result import Slices
from radwb.fail.slices.words import describe_slice

__all__ = ["Slices", "describe_slice", "find_slices", "metadata_slices"]
