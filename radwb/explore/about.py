"""What the browser is told once: names, limits and constants."""

from radwb.attend.methods import METHODS, TABLE
from radwb.explore import offers
from radwb.explore.choice import LONGEST
from radwb.show.mix import ALPHA, CONSTANTS
from radwb.show.theme import LEGAL

# how the panes show film and map; all share it
LOOK = {
    "window": 1.0,
    "level": 0.5,
    "alpha": ALPHA,
    "truth": True,
    "invert": False,
    "threshold": 0.0,  # of the map's range; what lies below is clear
    "contours": False,
    "scale": "own",  # or "shared": the map's colours run over `range`
    "range": None,
    "common": False,  # heads on one scale
    "measure": "",  # that heads are sorted by
    "place": [0.5, 0.5, 1.0],  # x and y of the centre as shares, zoom
}
# what a slider changes of the look: its name, lowest and highest value
SLIDERS = {
    "window": ("Window", 0.05, 1.5),
    "level": ("Level", 0, 1),
    "alpha": ("Map", 0, 1),
    "threshold": ("Clear below", 0, 1),
}
# films have no units: shares of the range that is displayed
PRESETS = [
    {"name": "Whole range", "window": 1.0, "level": 0.5},
    {"name": "Lung", "window": 0.6, "level": 0.35},
    {"name": "Mediastinum", "window": 0.5, "level": 0.7},
    {"name": "Bone", "window": 0.4, "level": 0.8},
]


def about(cases, targets, columns, notes) -> dict:
    """What doesn't change while the widget lives."""
    return dict(
        models=list(cases.models),
        targets=targets,
        kinds=offers.kinds(cases),
        columns=columns,
        presets=PRESETS,
        notes=notes.path.name if notes.path else "",
        longest=LONGEST,
        legal=LEGAL,
        mix=CONSTANTS,
        look=LOOK,
        sliders=SLIDERS,
        methods=list(METHODS),
        of_head=[name for name in METHODS if TABLE[name].head],
        no_layer=[name for name in METHODS if not TABLE[name].layer],
        no_target=[name for name in METHODS if not TABLE[name].target],
    )
