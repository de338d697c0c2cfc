"""Folders of the known public sets, as their publishers lay them out, as tables."""

from radwb.curate.layouts.read import layout, layouts

__all__ = ["layout", "layouts"]
