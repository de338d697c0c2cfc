"""What a run is known by, part by part, so that what differs can be named."""

import hashlib
import json

from radwb.models.tokenizer import Tokenizer
from radwb.pretrain.stream import Shards

USUAL = (1, None, "plain", "mild")  # what options are by default


def learnt_from(model, source, parts, columns) -> dict:
    """Digests of weights, tokenizer and data.

    Args:
        model: that the run starts from.
        source: the rows; parts: those for training and for validation.
        columns: what the recipe reads.
    """
    sha = hashlib.sha256()
    for weights in model.net.state_dict().values():
        sha.update(weights.detach().contiguous().numpy().tobytes())
    identity = {"weights": sha.hexdigest()[:16]}
    tokenizer = model.tokenizer
    if isinstance(tokenizer, Tokenizer):  # learnt from reports
        identity["tokenizer"] = _digest([tokenizer.bpe.to_str(), tokenizer.context])
    if isinstance(source, Shards):
        return identity | {"data": source.digest}
    return identity | _contents(parts, columns)


def where_unusual(**options) -> dict:
    """Options that aren't at their default.

    So a run that was made before they existed is still known.
    """
    return {name: v for name, v in options.items() if v not in USUAL}


def digest_of_films(part) -> str:
    """Of the squares of a part, in their order."""
    return _digest(_films(part))


def _contents(parts, columns) -> dict:
    """Digests of films, of each column, and of the order of the rows."""
    films = [_films(part) for part in parts]
    digests = {"films": _digest([sorted(split) for split in films])}
    order = [films]
    for column in columns:
        texts = [list(map(str, part.rows[column])) for part in parts]
        digests[column] = _digest([sorted(split) for split in texts])
        order.append(texts)
    return {"data": digests, "order of rows": _digest(order)}


def _films(part) -> list[str]:
    if part.pixels is None:
        return []
    return [hashlib.sha256(film.numpy().tobytes()).hexdigest() for film in part.pixels]


def _digest(value: list) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()[:16]
