"""The API reference: pdoc's pages of every room, whole without a network."""

from pathlib import Path

from tqdm import tqdm

from radwb import ROOMS


def reference(out: Path) -> Path:
    """Write the pages of all public names; returns the front page.

    Args:
        out: the folder that is written to, such as build/gallery/api.
    """
    import pdoc  # heavy: it imports every room, and torch with them

    with tqdm(total=1, desc="API reference", unit="pages") as bar:
        pdoc.render.configure(docformat="google", show_source=False)
        rooms = [f"radwb.{room}" for room in ROOMS]
        pdoc.pdoc("radwb", *rooms, output_directory=out)
        bar.update()
    return out / "index.html"
