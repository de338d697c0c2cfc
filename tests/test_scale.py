"""Many rows, and many workers: the same result, in time and memory that grow evenly."""

import os
import sys
from importlib import import_module
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import ndimage

import radwb as rw
from radwb.curate.audit import Pictures, read_pictures
from radwb.curate.audit.passages import common_passages
from radwb.curate.workers import as_done

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
import scale

copies = import_module("radwb.curate.audit.copies")
WORKERS = 2
FILMS = 300
GIB = 4.0
STEEPEST = 1.4  # exponent of CPU seconds by rows


@pytest.fixture(scope="module")
def cluster():
    """A Dask cluster of two processes; a task that ended one isn't tried again."""
    distributed = pytest.importorskip("distributed", reason="extra scale is missing")
    dask = import_module("dask")
    dask.config.set({"distributed.scheduler.allowed-failures": 0})
    how = dict(n_workers=WORKERS, threads_per_worker=1, dashboard_address=None)
    with (
        distributed.LocalCluster(**how) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client


def test_two_dask_workers_see_what_one_process_sees(cluster, table, tmp_path):
    (tmp_path / "bad.png").write_text("no film")
    paths = [*table["path"].head(5), str(tmp_path / "bad.png")]
    films = pd.DataFrame({"path": paths})
    here = read_pictures(films)
    there = read_pictures(films, workers=cluster)
    assert here.hashes.tolist() == there.hashes.tolist()
    assert here.digests.tolist() == there.digests.tolist()
    assert np.array_equal(here.small, there.small)
    pd.testing.assert_frame_equal(here.facts, there.facts)
    assert (here.facts["problem"] != "").tolist() == [False] * 5 + [True]


def test_two_dask_workers_index_as_one_process(cluster, tmp_path):
    for n in range(4):
        pixels = np.full((8, 8), n / 4, np.float32)
        rw.data.write_png(rw.data.Scan(pixels), tmp_path / f"{n}.png")
    (tmp_path / "note.txt").write_text("no film")
    here = rw.curate.index(tmp_path)
    there = rw.curate.index(tmp_path, workers=cluster)
    pd.testing.assert_frame_equal(here, there)


def where(item):
    if item == "ends its worker":
        os._exit(1)
    return os.getpid()


def test_what_ends_a_dask_worker_is_named_and_the_rest_is_done(cluster):
    items = ["one", "ends its worker", "two", "three"]
    found = dict(as_done(where, items, cluster, lost="lost: {}".format))
    assert found.pop(1) == "lost: ends its worker"
    assert sorted(found) == [0, 2, 3]
    assert os.getpid() not in found.values()


def alike_films(copied):
    """Films whose hashes are all one; each row of `copied` is a film and its copy."""
    rng = np.random.default_rng(0)
    small = rng.integers(0, 256, (FILMS, 64, 64)).astype(np.uint8)
    small[copied[:, 1]] = small[copied[:, 0]] // 2 + 20
    facts = pd.DataFrame({"problem": [""] * FILMS, "spread": 50.0})
    digests = np.array([f"film {n}" for n in range(FILMS)], dtype=object)
    return Pictures(small, np.zeros(FILMS, np.uint64), digests, facts)


def test_each_of_many_films_is_held_against_few(monkeypatch):
    everything = np.stack(np.triu_indices(FILMS, 1), axis=1)
    copied = np.array([[3, 50], [120, 7], [299, 0]])
    small = alike_films(copied).small
    kept = copies._closest(small, np.arange(FILMS), everything)
    assert len(kept) <= copies.CLOSEST * FILMS < len(everything) / 10
    assert set(map(tuple, np.sort(copied, axis=1))) <= set(map(tuple, kept))


def test_of_close_hashes_pairs_by_chance_go_and_moved_copies_stay():
    rng = np.random.default_rng(0)
    large = ndimage.gaussian_filter(rng.standard_normal((20, 256, 256)), (0, 12, 12))
    films = np.clip(127 + 40 * large / large.std(), 0, 255)
    moved = [ndimage.rotate(film, 2, reshape=False, mode="nearest") for film in films]
    moved = np.roll(moved, 3, axis=2) * 0.8 + 20
    both = np.concatenate([films, moved])
    small = both.reshape(40, 64, 4, 64, 4).mean((2, 4)).astype(np.uint8)
    everything = np.stack(np.triu_indices(40, 1), axis=1)
    kept = copies._agreeing(small, np.arange(40), everything)
    assert kept.tolist() == [[n, n + 20] for n in range(20)]


def test_many_films_with_close_hashes_give_the_planted_copies(monkeypatch):
    monkeypatch.setattr(copies, "MOST_FILMS", FILMS - 1)
    # of equal hashes each is held against the first film alone, so that is the original
    copied = np.array([[0, 50], [0, 120]])
    patients = pd.DataFrame({"patient_id": [f"P{n}" for n in range(FILMS)]})
    found = copies.near_duplicates(patients, pictures=alike_films(copied))
    assert found[["first", "second"]].to_numpy().tolist() == copied.tolist()


def test_the_row_of_a_passage_is_the_one_with_most_words_in_common():
    rng = np.random.default_rng(0)
    words = np.array([f"word{n}" for n in range(3_000)])
    texts = [" ".join(rng.choice(words, 40)) for _ in range(80)]
    long, short = " ".join(words[:30]), " ".join(words[:12])
    # the second patient's two reports: the short one first
    texts += [long, f"{' '.join(words[100:140])} {short}", f"quiet {long}"]
    patients = np.array([*range(81), 81, 81])
    found = common_passages(pd.Series(texts), patients).iloc[0]
    assert found[["first", "second"]].tolist() == [80, 82]


@pytest.mark.slow
def test_an_audit_of_100_000_rows_takes_minutes_and_under_4_gib():
    table = scale.by_rows([30_000, 100_000])
    assert table["peak_gib"].max() < GIB
    assert table["exponent"].iloc[-1] < STEEPEST
    assert (table["found"] / table["planted"]).min() >= 0.95
    assert (table["found"] / (table["found"] + table["wrong"])).min() >= 0.90
