"""The notebooks' toolchain: sync sources, run them, make pages.

The pages open without a network.

>>> rw.book.headline(mean_auroc=0.87)
mean auroc: 0.87
"""

from radwb.book.beside import beside
from radwb.book.headline import headline

__all__ = ["beside", "headline"]
