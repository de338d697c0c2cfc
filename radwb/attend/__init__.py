"""Capture attention, turn it into maps in the scan's own pixels, and score the maps against the truth."""

from radwb.attend.capture import capture
from radwb.attend.map import Badge, Map
from radwb.attend.maps import METHODS, attention_map, attention_maps, relevance, rollout
from radwb.attend.score import centre_map, random_map, score_map, score_maps

__all__ = [
    "METHODS",
    "Badge",
    "Map",
    "attention_map",
    "attention_maps",
    "capture",
    "centre_map",
    "random_map",
    "relevance",
    "rollout",
    "score_map",
    "score_maps",
]
