"""The evidence card of a model: one HTML page, JSON and XML, made from a run."""

from radwb.card.card import Card, evidence_card, read_card

__all__ = ["Card", "evidence_card", "read_card"]
