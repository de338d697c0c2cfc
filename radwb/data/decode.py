"""Decode compressed pixel data; GDCM runs in a process of its own, because a damaged
file can abort the whole process.

GDCM is the only decoder at hand for lossless JPEG. Run as a script, this file is that
process: a line of JSON comes in with a number and a path, and a line of JSON with the
same number goes out, followed by the array's bytes.
"""

import atexit
import contextlib
import json
import os
import signal
import subprocess
import sys
import threading

import numpy as np
import pydicom
from pydicom.pixels import get_decoder, pixel_array

SAFE = (
    "pydicom",
    "pyjpegls",
    "pylibjpeg",
    "pillow",
)  # these raise where GDCM would abort
SECONDS = 20  # that GDCM may take for a file, and one more for each 10 million values
HELPER_BYTES = 1 << 30  # for Python and its libraries, beside the limit on a file
_lock = threading.Lock()
_workers: dict[
    int, subprocess.Popen
] = {}  # idle ones, by process id: a forked child must not share its parent's pipes

_ended: list[subprocess.Popen] = []  # killed, and not yet taken leave of by the system


def decode_pixels(ds: pydicom.Dataset, path: str) -> np.ndarray:
    """Stored values (frames?, H, W, samples?) of a data set that was read from `path`.

    Raises:
        RuntimeError: what each decoder said.
        ValueError: a compressed frame's own header is of another size than Rows x
            Columns.
    """
    from radwb.data.codestream import check_frames

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
            reasons.append(f"{plugin}: {last_line(error)}")
    if "gdcm" not in decoder.available_plugins:
        packages = [p.split(" - requires ")[-1] for p in decoder.missing_dependencies]
        reasons += [f"try pip install {p}" for p in packages]
        raise RuntimeError("; ".join(reasons))
    try:
        return checked_shape(ask_gdcm(str(path), time_limit(ds)), ds)
    except RuntimeError as error:
        reasons.append(f"gdcm: {error}")
        if "12-bit" in str(error):
            reasons.append("try pip install pylibjpeg-libjpeg (GPL)")
        raise RuntimeError("; ".join(reasons)) from None


def last_line(error: Exception) -> str:
    """pydicom lists what each plugin said; the last line holds the reason."""
    lines = str(error).splitlines() or [type(error).__name__]
    return lines[-1].split(": ", 1)[-1][:200]


def time_limit(ds: pydicom.Dataset) -> float:
    """Seconds for one file: $RADWB_DECODE_SECONDS (20), and one for each 10 million
    values.
    """
    text = os.environ.get("RADWB_DECODE_SECONDS", "").strip()
    try:
        base = float(text or SECONDS)
    except ValueError:
        base = 0.0
    if not 0 < base <= threading.TIMEOUT_MAX:
        raise RuntimeError(
            f"RADWB_DECODE_SECONDS: expected a number of seconds such as 60, got {text!r}"
        )
    return base + np.prod(expected_shape(ds), dtype=float) / 1e7


def expected_shape(ds: pydicom.Dataset) -> tuple[int, ...]:
    frames = int(ds.get("NumberOfFrames") or 1)
    samples = int(ds.get("SamplesPerPixel") or 1)
    shape = (frames, int(ds.Rows), int(ds.Columns), samples)
    return tuple(n for at, n in enumerate(shape) if at in (1, 2) or n > 1)


def checked_shape(values: np.ndarray, ds: pydicom.Dataset) -> np.ndarray:
    if values.shape != expected_shape(ds):
        raise RuntimeError(
            f"expected values of {expected_shape(ds)}, got {values.shape}"
        )
    return values


# the helper process


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
                worker = start_helper()
            answer = timed_answer(worker, path, seconds)
            _workers[os.getpid()] = worker
        except BaseException:
            if worker is not None:
                end_helper(worker)
            raise
    if isinstance(answer, str):
        raise RuntimeError(answer)
    return answer


def start_helper() -> subprocess.Popen:
    """Unbuffered pipes, so that a forked child can't write what its parent began to."""
    _ended[:] = [worker for worker in _ended if worker.poll() is None]
    return subprocess.Popen(
        [sys.executable, "-P", __file__, str(helper_bytes())],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        bufsize=0,
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
        start_new_session=True,  # a Ctrl-C in the terminal is for us, not for it
    )


def helper_bytes() -> int:
    from radwb.data.limits import max_bytes

    return max_bytes() + HELPER_BYTES


def end_helper(worker: subprocess.Popen) -> None:
    """It isn't waited for: whoever interrupts has waited long enough."""
    worker.kill()
    close_pipes(worker)
    _ended.append(worker)


def close_pipes(worker: subprocess.Popen) -> None:
    for pipe in (worker.stdin, worker.stdout):
        with contextlib.suppress(OSError):
            pipe.close()


def timed_answer(
    worker: subprocess.Popen, path: str, seconds: float
) -> np.ndarray | str:
    """An answer, or a RuntimeError when the helper ends without one; a timer ends one
    that takes too long.
    """
    late = threading.Event()

    def stop() -> None:
        late.set()
        worker.kill()

    timer = threading.Timer(seconds, stop)
    timer.daemon = True
    timer.start()
    try:
        return answer_of(worker, path)
    except (OSError, EOFError, ValueError) as error:
        if late.is_set():
            raise RuntimeError(
                f"it took longer than {seconds:.3g} s. Try a higher RADWB_DECODE_SECONDS"
            ) from None
        raise RuntimeError("it crashed on this file") from error
    finally:
        timer.cancel()


def answer_of(worker: subprocess.Popen, path: str) -> np.ndarray | str:
    """The pixels, or what went wrong."""
    number = int.from_bytes(os.urandom(6), "big")
    request = json.dumps({"number": number, "path": os.path.abspath(path)})
    send(worker.stdin, request.encode() + b"\n")
    head = json.loads(read_line(worker.stdout))
    if head["number"] != number:
        raise EOFError("an answer to another question")
    if "error" in head:
        return head["error"]
    values = read_exactly(worker.stdout, head["bytes"])
    return np.frombuffer(values, head["dtype"]).reshape(head["shape"])


def send(pipe, data: bytes) -> None:
    while data:
        data = data[pipe.write(data) :]


def read_line(pipe) -> bytes:
    """Byte by byte, since the pixels follow and nothing is buffered."""
    line = bytearray()
    while not line.endswith(b"\n"):
        byte = pipe.read(1)
        if not byte:
            raise EOFError
        line += byte
    return bytes(line)


def read_exactly(pipe, count: int) -> bytearray:
    values = bytearray(count)
    view = memoryview(values)
    while view:
        got = pipe.readinto(view)
        if not got:
            raise EOFError
        view = view[got:]
    return values


@atexit.register
def _stop() -> None:
    worker = _workers.pop(os.getpid(), None)
    if worker is not None:
        end_helper(worker)
    for ended in _ended:
        ended.wait()


def _forget() -> None:
    """In a forked child: the lock may be held by a thread that isn't there, and the
    pipes are the parent's.
    """
    global _lock
    _lock = threading.Lock()
    for worker in _workers.values():
        close_pipes(worker)
    _workers.clear()
    _ended.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


def _serve() -> None:
    limit_memory(int(sys.argv[1]))
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what C code prints must not get between the answers
    for line in sys.stdin:
        request = json.loads(line)
        head, values = pixels_of(request["path"])
        answers.write(
            json.dumps({"number": request["number"], **head}).encode() + b"\n"
        )
        if values is not None:
            answers.write(values.data)
        answers.flush()


def limit_memory(most: int) -> None:
    """The operating system holds it to that, whatever a file makes GDCM ask for."""
    try:
        import resource
    except ImportError:  # Windows has none
        return
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_DATA, (most, most))


def pixels_of(path: str) -> tuple[dict, np.ndarray | None]:
    try:
        ds = pydicom.dcmread(path, force=True)
        values = pixel_array(ds, decoding_plugin="gdcm", allow_excess_frames=False)
        values = np.ascontiguousarray(values)
    except AttributeError:
        return {"error": "the pixel data are damaged"}, None
    except Exception as error:
        return {"error": last_line(error)}, None
    return {
        "dtype": values.dtype.str,
        "shape": values.shape,
        "bytes": values.nbytes,
    }, values


if __name__ == "__main__":
    _serve()
