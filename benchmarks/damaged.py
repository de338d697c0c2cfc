"""Damage files in many ways and count what goes wrong; all five counts should be 0.

    RADWB_MIRROR=FOLDER python benchmarks/damaged.py --n 10000 --seed 0

Files: pydicom's own test files, the DICOM, NIfTI and PNG files below $RADWB_MIRROR, and
a few that are made here. Each of `n` times one of them is cut, has bits flipped, bytes
put in, a block set to zero, a number in its header overwritten, or an element deleted
or given another value. It is read in a process of its own, whose death is counted, too.
"""

import argparse
import gzip
import io
import json
import os
import random
import struct
import subprocess
import sys
import tempfile
import time
import warnings
from collections import Counter
from pathlib import Path

import numpy as np
import pydicom
from PIL import Image

SIZE = 600_000  # bytes of a file at most, for speed
SECONDS = 30
FOLDER = 50  # files that `index` is given at once
VALUES = (
    b"",
    b"0",
    b"-1",
    b"1e999",
    b"NaN",
    b"7\\8\\9",
    b"\\",
    b"\x00\xff" * 9,
    b"\x1b[31m\n",
    b"A" * 3000,
    b"1.2.840.10008.1.2.1.99",
    b"\xff\xff\xff\xff",
)
NUMBERS = (0, 1, 3, 255, 256, 16384, 32767, 65535)
KINDS = ("cut", "flip", "insert", "zero", "number", "delete", "replace")
COUNTED = ("index stopped", "over the memory limit", "crashed", "other error", "slow")


def seed_files() -> dict[str, bytes]:
    """Name -> bytes of whole files."""
    bundled = Path(pydicom.__file__).parent / "data" / "test_files"
    folders = [bundled]
    mirror = os.environ.get("RADWB_MIRROR")
    if mirror:
        names = ("dicom_robustness", "volumes_3d", "nih_cxr_1000_64px")
        folders += [Path(mirror) / name for name in names]
    files = made_here()
    for folder in folders:
        paths = [p for p in sorted(folder.rglob("*")) if p.is_file()]
        pictures = [p for p in paths if p.suffix == ".png"][20:]  # all much the same
        for path in paths:
            if path not in pictures and 0 < path.stat().st_size <= SIZE:
                files[f"{folder.name}/{path.name}"] = path.read_bytes()
    return files


def made_here() -> dict[str, bytes]:
    import nibabel as nib

    ramp = np.arange(48 * 40, dtype=np.int16).reshape(48, 40)
    files = {}
    for mode, kind in (("L", "PNG"), ("RGB", "PNG"), ("L", "JPEG"), ("RGB", "JPEG")):
        buffer = io.BytesIO()
        Image.fromarray(ramp.astype(np.uint8)).convert(mode).save(buffer, kind)
        files[f"{mode}.{kind}"] = buffer.getvalue()
    for cls in (nib.Nifti1Image, nib.Nifti2Image):
        plain = cls(np.stack([ramp] * 3, 2), np.eye(4)).to_bytes()
        files[f"{cls.__name__}.nii"] = plain
        files[f"{cls.__name__}.nii.gz"] = gzip.compress(plain)
    return files


def damage(rng: random.Random, whole: bytes) -> bytes:
    """One or two kinds of damage; gzip is damaged inside as often as outside."""
    if whole[:2] == b"\x1f\x8b" and rng.random() < 0.6:
        return gzip.compress(damage(rng, gzip.decompress(whole)), 1)
    data = bytearray(whole)
    for _ in range(rng.choice((1, 1, 2))):
        kind = rng.choice(KINDS)
        data = bytearray(DAMAGES[kind](rng, data)) or bytearray(b"\0")
    return bytes(data)


def place(rng: random.Random, data: bytearray) -> int:
    """Mostly in the header."""
    return rng.randrange(min(len(data), rng.choice((64, 400, 3000, len(data)))))


def cut(rng, data):
    return data[: rng.randrange(1, len(data) + 1)]


def flip(rng, data):
    for _ in range(rng.choice((1, 4, 40))):
        data[place(rng, data)] ^= 1 << rng.randrange(8)
    return data


def insert(rng, data):
    at = place(rng, data)
    return data[:at] + rng.randbytes(rng.choice((1, 2, 8, 500))) + data[at:]


def zero(rng, data):
    at = place(rng, data)
    count = rng.choice((2, 16, 512))
    return data[:at] + bytes(len(data[at : at + count])) + data[at + count :]


def number(rng, data):
    """Overwrite a 16-bit number: one of the pixel module's where there is one."""
    tags = [
        struct.pack("<HH", 0x28, element) for element in (2, 8, 16, 17, 256, 257, 258)
    ]
    at = data.find(rng.choice(tags))
    at = place(rng, data) if at < 0 else at + 8
    data[at : at + 2] = struct.pack(rng.choice(("<H", ">H")), rng.choice(NUMBERS))
    return data


def edited(rng, data, value: bytes | None):
    """One element of a data set deleted (None), or with other bytes as its value."""
    try:
        ds = pydicom.dcmread(io.BytesIO(bytes(data)), force=True)
        part = ds.file_meta if rng.random() < 0.15 else ds
        tag = rng.choice(list(part.keys()))
        element = part.get_item(tag)
        del part[tag]
        if value is not None:
            value += b" " * (len(value) % 2)
            part[tag] = element._replace(value=value, length=len(value))
        out = io.BytesIO()
        ds.save_as(out)
        return out.getvalue()
    except Exception:  # not a data set, or one that can't be written again
        return flip(rng, data)


def delete(rng, data):
    return edited(rng, data, None)


def replace(rng, data):
    return edited(rng, data, rng.choice(VALUES))


DAMAGES = {kind: globals()[kind] for kind in KINDS}


# the process that reads


def peak_mb(reset: bool = False) -> float:
    """The most memory held since the last reset; NaN where Linux's /proc isn't."""
    try:
        if reset:
            Path("/proc/self/clear_refs").write_text("5")
        lines = Path("/proc/self/status").read_text().splitlines()
        line = next(line for line in lines if line.startswith("VmHWM"))
        return int(line.split()[1]) / 1024
    except (OSError, StopIteration):
        return float("nan")


def read_one(path: Path) -> dict:
    """What happened: seconds, MB, and the name of an error that isn't a ReadError."""
    import radwb as rw

    before = peak_mb(reset=True)
    start = time.monotonic()
    error = ""
    read = True
    try:
        rw.data.read(path)
    except rw.data.ReadError:
        read = False
    except Exception as other:
        error = f"{type(other).__name__}: {other}"[:200]
    seconds = time.monotonic() - start
    return {"read": read, "error": error, "seconds": seconds, "mb": peak_mb() - before}


def index_all(folder: Path) -> str:
    """ "", or why `index` didn't give a row a file that can be written as CSV."""
    import radwb as rw

    try:
        table = rw.curate.index(folder)
        table.to_csv(folder.parent / "index.csv")
    except Exception as error:
        return f"{type(error).__name__}: {error}"[:300]
    files = len(list(folder.iterdir()))
    return "" if len(table) == files else f"{len(table)} rows of {files} files"


def work(seed: int, first: int, last: int, kept: Path) -> None:
    """Read the damaged files numbered `first` to `last`; a line of JSON for each."""
    warnings.simplefilter("ignore")
    files = seed_files()
    names = sorted(files)
    with tempfile.TemporaryDirectory() as root:
        folder = Path(root) / "inbox"
        for n in range(first, last):
            folder.mkdir(exist_ok=True)
            rng = random.Random(f"{seed} {n}")
            name = rng.choice(names)
            path = folder / f"{n}.bin"
            path.write_bytes(damage(rng, files[name]))
            (kept / "now").write_bytes(path.read_bytes())
            say({"n": n, "name": name, "begins": True})
            result = read_one(path)
            say({"n": n, "name": name, **result})
            if result["error"]:
                (kept / f"{n}.bin").write_bytes(path.read_bytes())
            if n + 1 == last or (n + 1) % FOLDER == 0:
                say({"n": n, "index": index_all(folder)})
                for old in folder.iterdir():
                    old.unlink()


def say(about: dict) -> None:
    print(json.dumps(about), flush=True)


# the process that counts


def run(n: int, *, seed: int = 0, first: int = 0, kept: Path) -> tuple[Counter, list]:
    """Counts of COUNTED, and each case in words; a reader that dies starts again."""
    counts = Counter({name: 0 for name in (*COUNTED, "read", "refused")})
    cases = []
    limit_mb = float(os.environ.get("RADWB_MAX_BYTES") or 2 << 30) / 2**20
    last = first + n
    while first < last:
        command = [sys.executable, __file__, "--work", str(seed), str(first), str(last)]
        reader = subprocess.Popen(
            [*command, str(kept)], stdout=subprocess.PIPE, text=True
        )
        begun = first
        for line in reader.stdout:
            about = json.loads(line)
            if about.get("begins"):
                begun = about["n"] + 1
                current = about
                continue
            for name in judge(about, limit_mb):
                counts[name] += 1
                if name in COUNTED:
                    cases.append((name, about))
        if reader.wait() != 0:
            counts["crashed"] += 1
            cases.append(("crashed", current))
            os.replace(kept / "now", kept / f"{current['n']}.crashed.bin")
        first = last if reader.returncode == 0 else begun
    return counts, cases


def judge(about: dict, limit_mb: float) -> list[str]:
    if "index" in about:
        return ["index stopped"] if about["index"] else []
    names = (
        ["other error"] if about["error"] else ["read" if about["read"] else "refused"]
    )
    if about["mb"] > limit_mb:
        names.append("over the memory limit")
    if about["seconds"] > SECONDS:
        names.append("slow")
    return names


def main() -> None:
    if sys.argv[1:2] == ["--work"]:
        seed, first, last, kept = sys.argv[2:]
        work(int(seed), int(first), int(last), Path(kept))
        return
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="go on from this number")
    parser.add_argument(
        "--kept", type=Path, default=Path(tempfile.gettempdir()) / "damaged"
    )
    options = parser.parse_args()
    options.kept.mkdir(exist_ok=True)
    start = time.monotonic()
    counts, cases = run(
        options.n, seed=options.seed, first=options.first, kept=options.kept
    )
    for case in cases:
        print(*case)
    print(f"{options.n} files in {time.monotonic() - start:.0f} s:", dict(counts))


if __name__ == "__main__":
    main()
