"""How each finding of a film is outlined: a colour and a kind of line of its own."""

from radwb.findings.rows import FINDINGS
from radwb.show.theme import COLOUR_OF, TRUTH

# those of truths, then what of Okabe & Ito's is apart from them; white is on no map
COLOURS = (*TRUTH, "#FFFFFF", "#D55E00", "#F0E442", "#E69F00")
# px of line and gap, a second sign beside the colour; none = unbroken
DASHES = ([], [7, 4], [2, 3], [10, 3, 2, 3], [4, 4], [12, 4], [1, 5], [7, 3, 7, 9])


def lines_of(findings) -> dict[str, dict]:
    """Colour and dash of each finding of a film, no two alike.

    A finding with a colour of its own keeps it; the others take what is left, in the
    order of `FINDINGS`.

    >>> [look["colour"] for look in lines_of(["Edema", "Cardiomegaly"]).values()]
    ['#0072B2', '#56B4E9']
    """
    order = list(FINDINGS)
    known = [name for name in order if name in findings]
    names = known + [name for name in findings if name not in order]
    taken = {COLOUR_OF[name] for name in names if name in COLOUR_OF}
    free = [colour for colour in COLOURS if colour not in taken]
    looks = {}
    for n, name in enumerate(names):
        colour = COLOUR_OF.get(name)
        if colour is None:
            # beyond eight findings the kind of line alone tells
            colour = free.pop(0) if free else COLOURS[n % len(COLOURS)]
        looks[name] = {"colour": colour, "dash": DASHES[n % len(DASHES)]}
    return looks
