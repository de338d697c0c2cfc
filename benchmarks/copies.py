"""Rows of the bench on copies: hashes against imagehash, close pairs against faiss."""

import numpy as np
from PIL import Image
from rows import row, timed


def image_hash() -> dict | None:
    """Perceptual hashes of 120 films of 512 px, one core, pixels in memory."""
    try:
        import imagehash
    except ImportError:
        return None
    from radwb.curate.audit.hashes import bits_apart, image_hashes

    rng = np.random.default_rng(0)
    coarse = rng.random((120, 24, 24)).astype(np.float32)
    films = [Image.fromarray(film).resize((512, 512)) for film in coarse]
    films = np.round(np.array([np.asarray(f) for f in films]) * 255).astype(np.uint8)

    def ours():
        return image_hashes(films)

    def peer():
        hashes = [imagehash.phash(Image.fromarray(film)) for film in films]
        return np.array([int(str(h), 16) for h in hashes], dtype=np.uint64)

    apart = bits_apart(ours(), peer())
    assert apart.max() <= 2
    seconds = timed({"ours": ours, "peer": peer}, 5)
    equal = (
        f"{(apart == 0).mean():.0%} of the hashes the same, the others by 1 or 2 bits"
    )
    return row(
        "perceptual hash", "img/s", 120, seconds, bound=5, of="ratio", equal=equal
    )


def close_hashes() -> dict | None:
    """All pairs within 3 bits among 100,000 hashes, against faiss's MultiHash."""
    try:
        import faiss
    except ImportError:
        return None
    from radwb.curate.audit.hashes import hash_pairs

    n, radius = 100_000, 3
    rng = np.random.default_rng(0)
    hashes = rng.integers(0, 1 << 63, n, dtype=np.uint64)
    hashes[: n // 40] = hashes[-n // 40 :] ^ np.uint64(5)

    def ours():
        return hash_pairs(hashes, radius)

    def peer():
        values = hashes.view(np.uint8).reshape(-1, 8)
        bands = radius + 1
        index = faiss.IndexBinaryMultiHash(64, bands, 64 // bands)
        index.add(values)
        ends, _, found = index.range_search(values, radius + 1)
        asked = np.repeat(np.arange(n), np.diff(ends.astype(int)))
        return np.unique((asked * n + found)[asked < found])

    pairs = ours()
    assert (pairs["first"] * n + pairs["second"]).tolist() == peer().tolist()
    seconds = timed({"ours": ours, "peer": peer}, 5)
    equal = f"the same {len(pairs)} pairs"
    return row("close hashes", "hashes/s", n, seconds, bound=3, of="ratio", equal=equal)


COPIES = {"image-hash": image_hash, "close-hashes": close_hashes}
