"""Many rows, and many workers: the same result, in time and memory that grow evenly."""

import os
from importlib import import_module

import joblib
import numpy as np
import pandas as pd
import pytest

import radwb as rw
from radwb.curate.audit import read_pictures
from radwb.curate.workers import as_done

WORKERS = 2


@pytest.fixture(scope="module")
def cluster():
    """A Dask cluster of two local processes; a task that ended one isn't tried again."""
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
    with joblib.parallel_config(backend="dask"):
        there = read_pictures(films, workers=WORKERS)
    assert here.hashes.tolist() == there.hashes.tolist()
    assert here.digests.tolist() == there.digests.tolist()
    assert np.array_equal(here.small, there.small)
    pd.testing.assert_frame_equal(here.facts, there.facts)
    assert (here.facts["problem"] != "").tolist() == [False] * 5 + [True]


def where(item):
    if item == "ends its worker":
        os._exit(1)
    return os.getpid()


def test_what_ends_a_dask_worker_is_named_and_the_rest_is_done(cluster):
    items = ["one", "ends its worker", "two", "three"]
    with joblib.parallel_config(backend="dask"):
        found = dict(as_done(where, items, WORKERS, lost="lost: {}".format))
    assert found.pop(1) == "lost: ends its worker"
    assert sorted(found) == [0, 2, 3]
    assert os.getpid() not in found.values()
