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


def not_a_number(
    what: str,
    value: float,
    where: str,
    *,
    out: Path,
    rank: int,
    images,
    rows,
    names,
    lr: float,
) -> FloatingPointError:
    """The error of a loss or gradient that is none; its batch is kept in a file.

    It numbers the rows, since file names may name patients and errors end in logs.

    Args:
        what: is none; value: what it is; where: the step.
        out: folder of the run; rank: number of the process.
        images: (B, S, S) uint8, or None; rows: (B,) of them.
        names: of the rows, for the file's metadata.
        lr: of the run.
    """
    suffix = f"-{rank}" if rank else ""
    path = out / f"bad_batch{suffix}.safetensors"
    tensors = {"rows": torch.as_tensor(np.asarray(rows, np.int64))}
    if images is not None:
        tensors["images"] = images.cpu().contiguous()
    save_file(tensors, path, metadata={"names": json.dumps(names)})
    private_file(path)
    numbers = ", ".join(str(row) for row in rows[:16])
    more = " ..." if len(rows) > 16 else ""
    return FloatingPointError(
        f"the {what} is {value} at {where}. Its batch is in {path}: rows "
        f"{numbers}{more} of the training split; the file has their names. "
        f"Try lr={lr / 3:.0e}, precision='32-true', or look at these images."
    )
