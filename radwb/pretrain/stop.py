"""Stopping: on request between two steps, and on a loss that is not a number."""

import json
import signal
import threading
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

from radwb.data.private import private_file


class Interrupt:
    """Holds SIGINT (Ctrl-C, a notebook's stop) and SIGTERM back until a step is whole.

    A second one acts at once.
    """

    def __enter__(self):
        self.requested = False
        self.handlers = {}
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self.handlers[number] = signal.signal(number, self._note)
        return self

    def _note(self, number, frame):
        self.requested = True
        self.__exit__()

    def __exit__(self, *_):
        for number, handler in self.handlers.items():
            signal.signal(number, handler or signal.SIG_DFL)
        self.handlers = {}


def save_bad_batch(
    out: Path, rank: int, images, rows: np.ndarray, names: list[str]
) -> Path:
    """Keep the images (B, S, S) and rows (B,) of a batch.

    The names of the rows are in its metadata.
    """
    name = f"bad_batch-{rank}.safetensors" if rank else "bad_batch.safetensors"
    path = out / name
    tensors = {"rows": torch.as_tensor(np.asarray(rows, np.int64))}
    if images is not None:
        tensors["images"] = images.contiguous()
    save_file(tensors, path, metadata={"names": json.dumps(names)})
    return private_file(path)


def not_a_number(loss: float, where: str, path: Path, rows: np.ndarray, lr: float):
    """The error of a loss that is none.

    It numbers the rows, since file names may name patients and errors end in logs.
    """
    numbers = ", ".join(str(row) for row in rows[:16])
    more = " ..." if len(rows) > 16 else ""
    return FloatingPointError(
        f"the loss is {loss} at {where}. Its batch is in {path}: rows {numbers}{more} "
        "of the training split; the file has their names. "
        f"Try lr={lr / 3:.0e}, precision='32-true', or look at these images."
    )
