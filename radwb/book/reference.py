"""The API reference: pdoc's pages of every room, whole without a network."""

from importlib import import_module
from pathlib import Path

from tqdm import tqdm

from radwb import ROOMS


def reference(out: Path) -> Path:
    """Write the pages of all public names; returns the front page.

    Args:
        out: the folder that is written to, such as build/gallery/api.
    """
    import pdoc  # heavy: it imports every room, and torch with them

    pdoc.render.configure(docformat="google", show_source=False)
    with tqdm(total=2, desc="API reference", unit="step") as bar:
        for room in ROOMS:
            module = import_module(f"radwb.{room}")
            for name in getattr(module, "__all__", ()):
                getattr(module, name)  # what comes late is there when pdoc looks
        bar.update()
        pdoc.pdoc("radwb", output_directory=out)
        bar.update()
    return out / "index.html"
