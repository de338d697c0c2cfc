"""Decode compressed pixel data; GDCM runs in a process of its own.

A damaged file can make it abort the whole process, and GDCM is the only decoder at hand
for lossless JPEG. Run as a script, this file is that process: a line of JSON comes in
with a number and a path, and two arrays go out, the same number and the pixels, or a
text instead of them.
"""

import atexit
import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from types import SimpleNamespace

import numpy as np
import pydicom
from numpy.lib.format import read_array, write_array
from pydicom.pixels import get_decoder, pixel_array

SAFE = ("pydicom", "pyjpegls", "pylibjpeg", "pillow")  # they raise where GDCM aborts
SECONDS = 20  # that GDCM may take for a file, and one more for each 10 million values
HELPER_BYTES = 1 << 30  # for Python and its libraries, beside the limit on a file
_lock = threading.Lock()
# idle ones, by process id: a forked child must not share its parent's pipes
_workers: dict[int, subprocess.Popen] = {}
# killed, and not yet taken leave of by the system
_ended: list[subprocess.Popen] = []


def decode_pixels(ds: pydicom.Dataset, path: str) -> np.ndarray:
    """Stored values (frames?, H, W, samples?) of a data set that was read from `path`.

    Raises:
        RuntimeError: what each decoder said.
        ValueError: a compressed frame's own header is of another size than Rows x
            Columns.
    """
    from radwb.data.codestream import check_frames  # which the helper does without

    syntax = ds.file_meta.TransferSyntaxUID
    if not syntax.is_encapsulated:
        return pixel_array(ds, allow_excess_frames=False)
    check_frames(ds, os.path.basename(path))
    decoder = get_decoder(syntax)
    reasons = []
    for plugin in SAFE:
        if plugin not in decoder.available_plugins:
            continue
        try:
            return pixel_array(ds, decoding_plugin=plugin, allow_excess_frames=False)
        except Exception as error:
            reasons.append(f"{plugin}: {_last_line(error)}")
    if "gdcm" not in decoder.available_plugins:
        packages = [p.split(" - requires ")[-1] for p in decoder.missing_dependencies]
        reasons += [f"try pip install {package}" for package in packages]
        raise RuntimeError("; ".join(reasons))
    try:
        return _checked_shape(ask_gdcm(str(path), time_limit(ds)), ds)
    except RuntimeError as error:
        reasons.append(f"gdcm: {error}")
        if "12-bit" in str(error):
            reasons.append("try pip install pylibjpeg-libjpeg (GPL)")
        raise RuntimeError("; ".join(reasons)) from None


def _last_line(error):
    """The reason, which is on the last line of what pydicom lists."""
    lines = str(error).splitlines() or [type(error).__name__]
    return lines[-1].split(": ", 1)[-1][:200]


def time_limit(ds: pydicom.Dataset) -> float:
    """Seconds for a file: $RADWB_DECODE_SECONDS, and one for 10 million values."""
    text = os.environ.get("RADWB_DECODE_SECONDS", "").strip()
    try:
        base = float(text or SECONDS)
    except ValueError:
        base = 0.0
    if not 0 < base <= threading.TIMEOUT_MAX:
        raise RuntimeError(
            "RADWB_DECODE_SECONDS: expected a number of seconds such as 60, got "
            f"{text!r}"
        )
    return base + np.prod(_expected_shape(ds), dtype=float) / 1e7


def _expected_shape(ds):
    """Frames and samples have an axis where there is more than one."""
    frames = int(ds.get("NumberOfFrames") or 1)
    samples = int(ds.get("SamplesPerPixel") or 1)
    shape = [int(ds.Rows), int(ds.Columns)]
    if frames > 1:
        shape.insert(0, frames)
    if samples > 1:
        shape.append(samples)
    return tuple(shape)


def _checked_shape(values, ds):
    if values.shape != _expected_shape(ds):
        raise RuntimeError(
            f"expected values of {_expected_shape(ds)}, got {values.shape}"
        )
    return values


# this side of the helper process


def ask_gdcm(path: str, seconds: float) -> np.ndarray:
    """GDCM's pixels of a file.

    While it answers, the helper isn't among the idle ones, so that one whose answer was
    left half read (an interrupt, a timeout, an error) is never asked again: its answer
    would go to the next file.

    Raises:
        RuntimeError: what GDCM said; or it crashed, or took longer than `seconds`.
    """
    with _lock:
        worker = _workers.pop(os.getpid(), None)
        try:
            if worker is None or worker.poll() is not None:
                worker = _start_helper()
            answer = _timed_answer(worker, path, seconds)
        except BaseException:
            if worker is not None:
                _end_helper(worker)
            raise
        _workers[os.getpid()] = worker
    if answer.dtype.kind == "U":
        raise RuntimeError(str(answer))
    return answer


def _start_helper():
    """Unbuffered pipes, so that a forked child can't write what its parent began to."""
    from radwb.data.limits import max_bytes  # which the helper does without

    _ended[:] = [worker for worker in _ended if worker.poll() is None]
    return subprocess.Popen(
        [sys.executable, "-P", __file__, str(max_bytes() + HELPER_BYTES)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        bufsize=0,
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
        start_new_session=True,  # a Ctrl-C in the terminal is for us, not for it
    )


def _end_helper(worker):
    """It isn't waited for: whoever interrupts has waited long enough."""
    worker.kill()
    _close_pipes(worker)
    _ended.append(worker)


def _close_pipes(worker):
    for pipe in (worker.stdin, worker.stdout):
        with contextlib.suppress(OSError):
            pipe.close()


def _timed_answer(worker, path, seconds):
    """An answer; a timer ends a helper that takes too long."""
    late = threading.Event()

    def stop():
        late.set()
        worker.kill()

    timer = threading.Timer(seconds, stop)
    timer.daemon = True
    timer.start()
    try:
        return _answer(worker, path)
    except (OSError, ValueError) as error:
        if late.is_set():
            raise RuntimeError(
                f"it took longer than {seconds:.3g} s. Try a higher "
                "RADWB_DECODE_SECONDS"
            ) from None
        raise RuntimeError("it crashed on this file") from error
    finally:
        timer.cancel()


def _answer(worker, path):
    """The pixels, or a text that says what went wrong."""
    number = int.from_bytes(os.urandom(6), "big")
    request = json.dumps({"number": number, "path": os.path.abspath(path)})
    worker.stdin.write(request.encode() + b"\n")
    # numpy would look for the place in a file, which a pipe has not
    pipe = SimpleNamespace(read=worker.stdout.read)
    if read_array(pipe) != number:
        raise ValueError("an answer to another question")
    return read_array(pipe)


@atexit.register
def _stop():
    worker = _workers.pop(os.getpid(), None)
    if worker is not None:
        _end_helper(worker)
    for ended in _ended:
        ended.wait()


def _forget():
    """In a forked child neither the lock nor the pipes are its own.

    The lock may be held by a thread that isn't there, and the pipes are the parent's.
    """
    global _lock
    _lock = threading.Lock()
    for worker in _workers.values():
        _close_pipes(worker)
    _workers.clear()
    _ended.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


# the helper's side


def _serve():
    _limit_memory(int(sys.argv[1]))
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what C code prints must not get between the answers
    pipe = SimpleNamespace(write=answers.write)
    for line in sys.stdin:
        request = json.loads(line)
        values = _pixels(request["path"])
        write_array(pipe, np.array(request["number"]))
        write_array(pipe, values)
        answers.flush()


def _limit_memory(most):
    """The operating system holds it to that, whatever a file makes GDCM ask for."""
    try:
        import resource
    except ImportError:  # Windows has none
        return
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_DATA, (most, most))


def _pixels(path):
    try:
        ds = pydicom.dcmread(path, force=True)
        values = pixel_array(ds, decoding_plugin="gdcm", allow_excess_frames=False)
        return np.ascontiguousarray(values)
    except AttributeError:
        return np.array("the pixel data are damaged")
    except Exception as error:
        return np.array(_last_line(error))


if __name__ == "__main__":
    _serve()
