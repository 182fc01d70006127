"""The study on a real Dask cluster of two worker processes; skipped where Dask, an optional dependency, is missing."""

import os
import time

import joblib
import pytest

import experiments
import study_store
from runs import read_json

distributed = pytest.importorskip("distributed")


@pytest.fixture(scope="module")
def cluster():
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as found:
        yield found.scheduler_address
        for client in list(distributed.client._global_clients.values()):  # of experiments.on_dask, which lets them be
            client.close()


def process_id() -> int:
    time.sleep(0.5)  # long enough that one worker cannot take all
    return os.getpid()


def test_jobs_go_to_both_workers(cluster):
    with experiments.on_dask(cluster):
        found = set(joblib.Parallel()(joblib.delayed(process_id)() for _ in range(4)))
    assert len(found) == 2 and os.getpid() not in found


def test_runs_of_the_study_are_trained_by_the_workers(cluster, command, tmp_path, monkeypatch):
    def here(*_):
        raise AssertionError("trained in this process, not by a worker")

    monkeypatch.setattr(study_store, "_call", here)  # the workers have modules of their own
    names = [f"mnist-arcface-512d-seed0-epochs={count}" for count in (2, 4)]
    places = ("--output-dir", tmp_path / "runs", "--results-dir", tmp_path / "results", "--data-dir", tmp_path / "none")
    done = command(experiments.main, "--dask", cluster, *places, "--only", *(f"budget {name}" for name in names))
    assert done.status == 0, done.err
    found = {path.stem: read_json(path) for path in (tmp_path / "results").glob("*-seed0-*.json")}
    assert sorted(facts["epochs"] for facts in found.values()) == [2, 4]
    assert all(facts["test_accuracy"] > 0.5 for facts in found.values())
