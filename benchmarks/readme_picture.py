"""Make notebooks/images/readme.png: four virtual radiographs, what was planted outlined
(kaleido draws it).
"""

from pathlib import Path

import radwb as rw
from radwb.simulate import Finding

PICTURE = Path(__file__).parents[1] / "notebooks" / "images" / "readme.png"
PLANTED = {
    "nothing planted": [],
    "right pleural effusion": [Finding("Pleural Effusion", 0.6, "right")],
    "left pneumothorax": [Finding("Pneumothorax", 0.5, "left")],
    "cardiomegaly": [Finding("Cardiomegaly", 0.8)],
}
TITLE = (
    "Virtual radiographs: what was planted is outlined "
    "(simulator, not for clinical use)"
)


def main():
    films = [rw.simulate.render(findings, size=512) for findings in PLANTED.values()]
    figure = rw.show.grid(films, titles=list(PLANTED), truth=True, title=TITLE)
    figure.write_image(PICTURE)


if __name__ == "__main__":
    main()
