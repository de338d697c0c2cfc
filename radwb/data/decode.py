"""Decode compressed pixel data; GDCM runs in a process of its own, because a damaged file can abort the whole process.

GDCM is the only decoder at hand for lossless JPEG. Run as a script, this file is that process: a path comes in on a
line, and a line of JSON goes out, followed by the array's bytes.
"""

import atexit
import json
import os
import subprocess
import sys
import threading

import numpy as np
import pydicom
from pydicom.pixels import get_decoder, pixel_array

SAFE = ("pydicom", "pyjpegls", "pylibjpeg", "pillow")  # these raise where GDCM would abort
_lock = threading.Lock()
_workers: dict[int, subprocess.Popen] = {}  # by process id: a forked child must not share its parent's pipes


def decode_pixels(ds: pydicom.Dataset, path: str) -> np.ndarray:
    """Stored values (frames?, H, W, samples?) of a data set that was read from `path`.

    Raises:
        RuntimeError: what each decoder said.
    """
    syntax = ds.file_meta.TransferSyntaxUID
    if not syntax.is_encapsulated:
        return pixel_array(ds)
    decoder, said = get_decoder(syntax), []
    for plugin in (p for p in SAFE if p in decoder.available_plugins):
        try:
            return pixel_array(ds, decoding_plugin=plugin)
        except Exception as error:
            said.append(f"{plugin}: {str(error).splitlines()[-1].split(': ', 1)[-1]}")
    if "gdcm" not in decoder.available_plugins:
        said += [f"try pip install {p.split(' - requires ')[-1]}" for p in decoder.missing_dependencies]
        raise RuntimeError("; ".join(said))
    try:
        return _ask_gdcm(str(path))
    except RuntimeError as error:
        more = ["try pip install pylibjpeg-libjpeg (GPL)"] if "12-bit" in str(error) else []
        raise RuntimeError("; ".join([*said, f"gdcm: {error}", *more])) from None


def _ask_gdcm(path: str) -> np.ndarray:
    with _lock:
        worker = _workers.get(os.getpid())
        if worker is None or worker.poll() is not None:
            pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
            worker = _workers[os.getpid()] = subprocess.Popen([sys.executable, "-P", __file__], **pipes)
        try:
            return _answer(worker, path)
        except (BrokenPipeError, EOFError):
            worker.wait()
            raise RuntimeError("it crashed on this file") from None


@atexit.register
def _stop() -> None:
    if worker := _workers.pop(os.getpid(), None):
        worker.communicate()  # closes its input, at which it ends


def _answer(worker: subprocess.Popen, path: str) -> np.ndarray:
    worker.stdin.write((json.dumps(os.path.abspath(path)) + "\n").encode())
    worker.stdin.flush()
    answer = json.loads(worker.stdout.readline() or "null")
    if answer is None:
        raise EOFError
    if "error" in answer:
        raise RuntimeError(answer["error"])
    values = worker.stdout.read(answer["bytes"])
    if len(values) < answer["bytes"]:
        raise EOFError
    return np.frombuffer(values, answer["dtype"]).reshape(answer["shape"])


def _serve() -> None:
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what C code prints must not get between the answers
    for line in sys.stdin:
        try:
            values = pixel_array(pydicom.dcmread(json.loads(line), force=True), decoding_plugin="gdcm")
            values = np.ascontiguousarray(values)
            head = {"dtype": values.dtype.str, "shape": values.shape, "bytes": values.nbytes}
        except AttributeError:
            values, head = None, {"error": "the pixel data are damaged"}
        except Exception as error:
            values, head = None, {"error": str(error).splitlines()[-1].split(": ", 1)[-1][:200]}
        answers.write(json.dumps(head).encode() + b"\n")
        if values is not None:
            answers.write(values.data)
        answers.flush()


if __name__ == "__main__":
    _serve()
