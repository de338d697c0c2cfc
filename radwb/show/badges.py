"""What the sanity checks said of maps, as lines of a caption."""

from radwb.show.theme import CAPTION, COLOURS, FAINT, lines_of, plain


def badge_lines(maps):
    """Each verdict once, as HTML: a sign, words, and a colour only besides.

    Args:
        maps: a plain array claims no method, so it has no verdict.
    """
    methods = {}  # a verdict -> the methods that have it, in their order
    for m in maps:
        if hasattr(m, "badge"):
            methods.setdefault(_verdict(m.badge), {})[m.method] = None
    lines = []
    for (sign, colour, words), names in methods.items():
        if len(methods) > 1:
            words = f"{', '.join(names)}: {words}"
        lines += _wrapped(f"{sign} {words}", colour)
    for note in dict.fromkeys(getattr(m, "note", "") for m in maps):
        if note:
            lines += _wrapped(f"! {note}", COLOURS[1])
    return lines


def _verdict(badge):
    if badge is None:
        return "?", FAINT, "sanity: not checked"
    if badge.passed is None:
        return "?", FAINT, str(badge)
    if badge.passed:
        return "✓", COLOURS[0], str(badge)
    return "✗", COLOURS[1], str(badge)


def _wrapped(text, colour):
    lines = lines_of(text, CAPTION)
    return [f'<span style="color:{colour}">{plain(line)}</span>' for line in lines]
