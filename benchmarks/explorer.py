"""Rows of `bench.py` on the explorer: from what a hand does to the picture of it.

In JupyterLab under Chromium, on 60 and on 600 films and on films of 3000 x 2500 px.
Each change is one that is seen: another picture with its map.
"""

import time
from functools import partial

from browser import latency, notebook

SETUP = {
    "60 films": """import radwb as rw
films = rw.simulate.cohort(n=60, seed=0)""",
    "600 films": """import pandas as pd
import radwb as rw
films = rw.simulate.cohort(n=60, seed=0)
copies = [films.assign(study_id=films.study_id + f"-{n}") for n in range(10)]
films = pd.concat(copies, ignore_index=True)""",
    "3000 x 2500 px": """import numpy as np
import radwb as rw
films = []
for _, row in rw.simulate.cohort(n=12, seed=0).head(6).iterrows():
    small = rw.data.scan_of(row)
    rows, cols = (np.linspace(0, n - 1, m).astype(int)
                  for n, m in zip(small.shape, (3000, 2500)))
    at = np.ix_(rows, cols)
    truth = {name: mask[at] for name, mask in small.truth.items()}
    films.append(rw.data.Scan(small.pixels[at], (0.14, 0.14), truth=truth,
                              orientation=("L", "F")))""",
}
MODEL = """
model = rw.models.load("radwb-tiny")
"ready"
"""
SHOW = 'rw.show.explore(model, films, finding="Pleural Effusion")'
PHRASES = ("enlarged heart", "pneumothorax", "lung opacity", "a fracture", "no finding")
METHODS = ("gradcam", "rollout", "value_norm", "attention", "relevance")
# seconds that the median and the 95th may take; a click waits 0.25 s for a second one
LIMITS = {
    "head": (0.15, 0.3),
    "patch": (0.4, 0.6),
    "phrase": (0.3, 0.6),
    "method": (0.4, 0.8),
    "film": (0.5, 1),
    "window drag": (0.05, 0.05),
    "first display": (3, 6),
}
CHANGE = """([kind, what]) => new Promise(done => {
    const root = document.querySelector(".rx"), canvas = root.querySelector(".rx-scan");
    const seen = () => {
        const {width, height} = canvas;
        if (!width || root.querySelector(".rx-values").hidden) return 0; // no map yet
        const image = canvas.getContext("2d").getImageData(0, 0, width, height);
        const pixels = new Uint32Array(image.data.buffer);
        return pixels.reduce((sum, value, n) => (sum + value * (n % 997)) | 0);
    };
    const before = seen(), start = performance.now();
    const acts = {
        head: () => root.querySelector(`button[aria-label="${what}"]`).click(),
        patch: () => {
            const box = canvas.getBoundingClientRect(), [row, col] = what;
            const clientX = box.x + (col + 0.5) / 8 * box.width;
            const clientY = box.y + (row + 0.5) / 8 * box.height;
            const at = {clientX, clientY, detail: 1};
            canvas.dispatchEvent(new MouseEvent("click", at));
        },
        phrase: () => {
            const input = root.querySelector('input[aria-label="Phrase"]');
            input.value = what;
            input.onchange();
        },
        method: () => {
            const select = root.querySelector(".rx-controls select");
            select.value = what;
            select.onchange();
        },
        film: () => root.querySelector('[aria-label="Next film"]').click(),
    };
    acts[kind]();
    const look = () => {
        const now = performance.now(), picture = seen();
        if (picture && picture !== before) return done(now - start);
        if (now - start > 20000) return done(-1);
        requestAnimationFrame(look);
    };
    requestAnimationFrame(look);
})"""
DRAG = """async () => {
    const canvas = document.querySelector(".rx-scan"), spent = [];
    const box = canvas.getBoundingClientRect(), pen = canvas.getContext("2d");
    canvas.setPointerCapture = () => {};
    const send = (name, n, buttons) => canvas.dispatchEvent(new PointerEvent(name, {
        pointerId: 1, bubbles: true, button: 0, buttons,
        clientX: box.x + 100 + n, clientY: box.y + 150 + n / 2}));
    send("pointerdown", 0, 1);
    for (let n = 10; n < 110; n++) {
        const start = performance.now();
        send("pointermove", n, 1);
        pen.getImageData(0, 0, 1, 1); // it has been drawn
        spent.push(performance.now() - start);
        await new Promise(requestAnimationFrame);
    }
    send("pointerup", 110, 0);
    return spent;
}"""


def explorer(films) -> list[dict] | None:
    """All latencies on one set of films."""
    with notebook(SETUP[films] + MODEL, SHOW) as page:
        if page is None:
            return None
        page.locator(".jp-OutputArea-output").filter(has_text="ready").wait_for()
        page.locator(".jp-CodeCell .cm-content").nth(1).click()
        start = time.perf_counter()
        page.keyboard.press("Control+Enter")
        page.wait_for_selector(".rx[data-painted] .rx-values:not([hidden])")
        spent = {"first display": [1000 * (time.perf_counter() - start)]}
        spent |= {kind: changed(page, kind, each) for kind, each in acts(page).items()}
        spent["window drag"] = page.evaluate(DRAG)
    return [
        latency(f"explorer, {films}: {kind}", times, *LIMITS[kind])
        for kind, times in spent.items()
    ]


def acts(page):
    """What is done of each kind, in turn."""
    heads = page.locator(".rx button[aria-label*=', head ']")
    return {
        "head": heads.evaluate_all("all => all.map(b => b.ariaLabel)"),
        "patch": [(row, col) for row in range(2, 6) for col in (1, 4, 6)],
        "method": METHODS,
        "phrase": PHRASES,
        "film": range(5),
    }


def changed(page, kind, each):
    return [page.evaluate(CHANGE, [kind, what]) for what in each]


EXPLORER = {f"explorer, {films}": partial(explorer, films) for films in SETUP}
