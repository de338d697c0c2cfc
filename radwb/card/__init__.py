"""The evidence card of a model: one HTML page and JSON, made from a run."""

__all__: list[str] = []
