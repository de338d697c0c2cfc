"""Words that a model's tokenizer doesn't know, or never learnt."""

from radwb.models.tokenizer import Tokenizer


def doubtful_words(model, phrase: str) -> dict[str, list[str]]:
    """The words of a phrase that the model can't know.

    >>> doubtful_words(model, "purple effusion")
    {'unknown': [], 'never': ['purple']}

    Args:
        model: a `rw.models.Model`. Of a tokenizer that has pieces for everything, such
            as CLIP's, nothing can be told.
        phrase: any text.
    Returns:
        unknown: nothing is left of them but a mark for unknown words, or bare bytes;
        never: of a radwb tokenizer, what it reads in pieces: a word that enough
        patients' reports share was learnt whole.
    """
    if isinstance(model.tokenizer, Tokenizer):
        return _in_pieces(model.tokenizer.bpe, phrase)
    pieces = getattr(model.tokenizer, "pieces", None)
    inner = getattr(model.tokenizer, "tokenizer", model.tokenizer)
    mark = getattr(inner, "unk_token_id", None)
    if pieces is not None:
        mark = pieces.token_to_id("[UNK]")
    words = dict.fromkeys(phrase.split())
    unknown = [w for w in words if mark in model.tokenizer([w]).flatten().tolist()]
    return {"unknown": unknown, "never": []}


def _in_pieces(bpe, phrase):
    """As `doubtful_words`, of a byte-level BPE that learnt whole words."""
    text = bpe.normalizer.normalize_str(phrase)
    doubtful = {"unknown": [], "never": []}
    for word, (start, end) in bpe.pre_tokenizer.pre_tokenize_str(text):
        letters = text[start:end].strip()
        is_mark = letters.isascii() and not letters.isalnum()
        if is_mark or len(bpe.model.tokenize(word)) < 2:
            continue
        kind = "never" if any(map(str.isascii, letters)) else "unknown"
        if letters not in doubtful[kind]:
            doubtful[kind].append(letters)
    return doubtful


def warning(name: str, doubtful: dict[str, list[str]]) -> str:
    """The same in words."""
    sentences = []
    if doubtful["unknown"]:
        sentences.append(f"{name} does not know: {', '.join(doubtful['unknown'])}.")
    if doubtful["never"]:
        words = ", ".join(doubtful["never"])
        sentences.append(f"{name} never learnt, and reads in pieces: {words}.")
    return " ".join(sentences)
