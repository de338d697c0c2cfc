"""The API reference holds every public name, and needs no network."""

import re
import warnings

import pytest

import radwb as rw
from radwb.book.reference import reference

pytest.importorskip("pdoc")
FETCHED = re.compile(r"""(?:src|<link[^>]+href)=["']https?://[^"']+""")


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    folder = tmp_path_factory.mktemp("api")
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)  # pdoc's, of a name it can't find
        reference(folder)
    texts = {}
    for page in folder.rglob("*.html"):
        texts[page.relative_to(folder).as_posix()] = page.read_text()
    return texts


def test_every_public_name_has_its_place(pages):
    everything = "\n".join(pages.values())
    missing = []
    for room in rw.ROOMS:
        module = getattr(rw, room)
        for name in getattr(module, "__all__", ()):
            value = getattr(module, name)
            page = getattr(value, "__name__", "").replace(".", "/") + ".html"
            if f'id="{name}"' not in everything and page not in pages:
                missing.append(f"rw.{room}.{name}")
    assert not missing


def test_nothing_is_fetched_from_elsewhere(pages):
    fetched = [hit for page in pages.values() for hit in FETCHED.findall(page)]
    assert not fetched
