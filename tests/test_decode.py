"""GDCM's process: whatever ends it, no file gets another file's pixels."""

import os
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pydicom
import pytest

from radwb.data import ReadError, decode, read

BUNDLED = Path(pydicom.__file__).parent / "data" / "test_files"
COLOUR = BUNDLED / "SC_rgb_jpeg_gdcm.dcm"  # 100 x 100, lossless JPEG


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Two lossless JPEGs of one size and different pixels, and what they read as."""
    other = tmp_path_factory.mktemp("lossless") / "other.dcm"
    ds = pydicom.dcmread(COLOUR)
    ds.PixelData = ds.PixelData[:-900] + ds.PixelData[-600:-300] + ds.PixelData[-600:]
    ds.save_as(other)
    pixels = {path: read(path).pixels for path in (COLOUR, other)}
    assert not np.array_equal(pixels[COLOUR], pixels[other])
    return pixels


def helper():
    return decode._workers[os.getpid()]


@pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="needs POSIX signals")
def test_after_an_interrupt_the_next_file_has_its_own_pixels(files):
    def ring(*_):
        raise KeyboardInterrupt

    one, two = files
    before = signal.signal(signal.SIGALRM, ring)
    try:
        for _ in range(3):
            read(one)
            held = helper()
            os.kill(held.pid, signal.SIGSTOP)
            signal.setitimer(signal.ITIMER_REAL, 0.1)
            with pytest.raises(KeyboardInterrupt):
                read(one)
            os.kill(held.pid, signal.SIGCONT)
            assert np.array_equal(read(two).pixels, files[two])
    finally:
        signal.signal(signal.SIGALRM, before)


@pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="needs POSIX signals")
def test_a_helper_that_hangs_is_ended_and_the_next_file_reads(files, monkeypatch):
    one, two = files
    read(one)
    monkeypatch.setenv("RADWB_DECODE_SECONDS", "0.2")
    os.kill(helper().pid, signal.SIGSTOP)
    start = time.monotonic()
    with pytest.raises(
        ReadError, match="longer than 0.203 s. Try a higher RADWB_DECODE"
    ):
        read(one)
    assert time.monotonic() - start < 5
    monkeypatch.delenv("RADWB_DECODE_SECONDS")
    assert np.array_equal(read(two).pixels, files[two])


def test_an_answer_to_another_question_is_no_answer(files, monkeypatch):
    one, two = files
    read(one)
    helper().stdin.write(b'{"number": 1, "path": "%s"}\n' % str(two).encode())
    with pytest.raises(ReadError, match="crashed on this file"):
        read(one)
    assert np.array_equal(read(one).pixels, files[one])


def test_pixels_of_another_shape_than_the_header_says_are_refused(monkeypatch):
    monkeypatch.setattr(decode, "ask_gdcm", lambda path, seconds: np.zeros((9, 9, 3)))
    with pytest.raises(ReadError, match=r"expected values of \(100, 100, 3\), got"):
        read(COLOUR)


def test_threads_that_read_at_once_each_get_their_own_file(files):
    paths = list(files) * 6
    with ThreadPoolExecutor(4) as pool:
        for path, scan in zip(paths, pool.map(read, paths), strict=True):
            assert np.array_equal(scan.pixels, files[path])


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_forked_child_has_a_helper_of_its_own_even_while_a_thread_holds_the_lock(
    files,
):
    one, two = files
    read(one)
    mine = helper().pid
    ready, done = threading.Event(), threading.Event()

    def hold():
        with decode._lock:
            ready.set()
            done.wait(20)

    thread = threading.Thread(target=hold)
    thread.start()
    ready.wait()
    child = os.fork()
    if child == 0:
        try:
            good = np.array_equal(read(two).pixels, files[two])
            os._exit(0 if good and helper().pid != mine else 1)
        finally:
            os._exit(2)
    done.set()
    thread.join()
    assert np.array_equal(read(one).pixels, files[one])
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert helper().pid == mine


@pytest.mark.parametrize("seconds", ["abc", "-1", "nan", "inf"])
def test_a_time_that_is_none_is_refused_by_the_name_of_its_setting(
    monkeypatch, seconds
):
    monkeypatch.setenv("RADWB_DECODE_SECONDS", seconds)
    ds = pydicom.Dataset()
    ds.Rows, ds.Columns = 4, 4
    with pytest.raises(RuntimeError, match="RADWB_DECODE_SECONDS: expected a number"):
        decode.time_limit(ds)
