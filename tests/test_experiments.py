"""The study's command: its dry run, failures, being stopped, and the README's tables."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import experiments
import study_store
from command_helpers import assert_refused
from losses import LOSSES
from results_helpers import facts_of
from runs import RunError, write_json


@pytest.fixture
def store(tmp_path, monkeypatch):
    """Stands in for report/results/ and the README."""
    monkeypatch.setattr(experiments, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(experiments, "ROOT", tmp_path / "repository")
    experiments.ROOT.mkdir()
    (experiments.ROOT / "README.md").write_text("Title\n\n{}\nold\n{}\nThe rest.\n".format(*experiments.MARKS))
    return tmp_path / "results"


# ------------------------------------------------------------------------------------- failures


def test_one_failure_stops_no_other_run_and_only_it_is_tried_again(command, store, tmp_path, fake_train):
    calls, outcomes = fake_train
    names = [f"mnist-{loss}-2d-seed0" for loss in ("arcface", "softmax", "cosface", "adacos")]
    outcomes |= {names[0]: (2, "train.py: error: the disk is full"), names[2]: RunError("metrics.json is damaged")}
    places = ["--output-dir", tmp_path / "runs", "--data-dir", tmp_path / "data"]
    places += ["--only", *(f"drawn {name}" for name in names)]
    first = command(experiments.main, *places)
    assert_refused(first, "2 failed", names[0], names[2])
    assert "the disk is full" in first.out and "metrics.json is damaged" in first.out
    assert {path.stem for path in store.glob("*.json")} == {names[1], names[3]}
    calls.clear()
    outcomes.clear()
    again = command(experiments.main, *places)
    assert again.status == 0, again.err
    assert sorted(words[words.index("--name") + 1] for words in calls) == sorted([names[0], names[2]])
    calls.clear()
    assert command(experiments.main, *places).status == 0 and not calls
    assert command(experiments.main, *places, "--again", "--jobs", 2).status == 0 and len(calls) == 4


@pytest.mark.parametrize("place", ["file", "file/below"])
def test_a_file_in_the_way_of_the_results_is_named_before_any_training(command, store, tmp_path, fake_train, place):
    (tmp_path / "file").write_text("mine")
    words = ["--only", "drawn mnist-arcface-2d-seed0", "--output-dir", tmp_path / "runs"]
    done = command(experiments.main, *words, "--results-dir", tmp_path / place)
    assert_refused(done, tmp_path / place, "--results-dir")
    assert not fake_train[0] and (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize(("asked", "jobs", "threads"), [(1, 1, None), (2, 2, 4), (100_000, 3, 2)])
def test_no_more_runs_are_begun_at_a_time_than_there_are(command, store, monkeypatch, asked, jobs, threads):
    begun = []
    monkeypatch.setattr(experiments.os, "cpu_count", lambda: 8)
    monkeypatch.setattr(experiments, "carry_out", lambda *words: begun.append(words) or [])
    names = [f"drawn mnist-{loss}-2d-seed0" for loss in ("arcface", "softmax", "cosface")]
    assert command(experiments.main, "--only", *names, "--jobs", asked).status == 0
    ((runs, places, _, at_a_time),) = begun
    assert len(runs) == 3 and (at_a_time, places.threads) == (jobs, threads)


def test_a_cluster_that_is_lost_is_one_clear_line(command, store, monkeypatch):
    def lost(*_):
        raise OSError("the scheduler is gone")

    monkeypatch.setattr(experiments, "carry_out", lost)
    done = command(experiments.main, "--only", "drawn mnist-arcface-2d-seed0")
    assert_refused(done)
    assert done.err == "experiments.py: error: the scheduler is gone\n"


# A train.py of a few lines: it says where it is and then waits for its end.
SLOW_TRAIN = """
import pathlib, sys, time
folder = pathlib.Path(sys.argv[sys.argv.index("--output-dir") + 1])
folder.mkdir(parents=True, exist_ok=True)
(folder / "begun").write_text("")
time.sleep(300)
"""


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_a_stopped_study_takes_its_trainings_with_it(jobs, tmp_path):
    (tmp_path / "train.py").write_text(SLOW_TRAIN)
    script = "import pathlib, sys, experiments, study_store; study_store.ROOT = pathlib.Path(sys.argv.pop(1))\n"
    words = [sys.executable, "-c", script + "sys.exit(experiments.main())", tmp_path]
    words += ["--only", "drawn mnist-arcface-2d-s", "--jobs", jobs]
    words += ["--output-dir", tmp_path / "runs", "--results-dir", tmp_path / "results"]
    root = Path(experiments.__file__).parent
    with subprocess.Popen(
        list(map(str, words)), cwd=root, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    ) as process:
        while not (tmp_path / "runs" / "begun").exists():
            assert process.poll() is None, process.stderr.read()
            time.sleep(0.05)
        children = Path(f"/proc/{process.pid}/task")
        if not children.exists():
            process.kill()
            pytest.skip("needs /proc to find the training")
        pids = [int(p) for task in children.iterdir() for p in (task / "children").read_text().split()]
        assert pids
        process.send_signal(signal.SIGTERM)
        said = process.stderr.read().decode()
    assert process.returncode == 130 and "stopped" in said and "Traceback" not in said
    for _ in range(100):  # they are told to end, and take a moment
        pids = [pid for pid in pids if Path(f"/proc/{pid}").exists()]
        time.sleep(0.1 if pids else 0)
    assert not pids


# ------------------------------------------------------------------------------------- the command


def test_a_dry_run_lists_every_run_with_its_time_and_trains_nothing(command, store, tmp_path, monkeypatch):
    monkeypatch.setattr(study_store, "_call", lambda *_: pytest.fail("started a training"))
    done = command(experiments.main, "--dry-run", "--output-dir", tmp_path / "runs")
    assert done.status == 0 and not store.exists() and not (tmp_path / "runs").exists()
    assert "old" in (experiments.ROOT / "README.md").read_text()
    runs = experiments.study()
    assert all(f"{run.part} {run.name()}: missing, about" in done.out for run in runs)
    assert f"{len(runs)} of {len(runs)} runs to do, about" in done.out
    only = command(experiments.main, "--dry-run", "--only", "drawn mnist-arcface-2d-seed0", "open mnist-softmax")
    assert len(only.out.splitlines()) == 1 + 6 + 1
    more = command(experiments.main, "--dry-run", "--only", "main", "--seeds", 7)
    assert len(more.out.splitlines()) == 2 * 7 * len(LOSSES) + 1
    assert_refused(command(experiments.main, "--only", "triplet"), "triplet", "--dry-run")


def test_the_cost_of_the_heads_is_measured_once_after_the_runs(command, store, monkeypatch, tmp_path):
    order, ends = [], [0]
    monkeypatch.setattr(experiments, "carry_out", lambda runs, *_: order.append(len(runs)) or [])
    monkeypatch.setattr(experiments, "measure_cost", lambda parts, *_: order.append(parts) or ends[0])
    monkeypatch.setattr(experiments, "study", lambda seeds: [])
    both = ["head", "memory"]
    assert "heads: missing" in command(experiments.main, "--dry-run").out and not order
    assert command(experiments.main).status == 0 and order == [0, both]
    store.mkdir(exist_ok=True)
    write_json(store / "benchmark.json", {"head": {}})
    assert command(experiments.main, "--only", "cost").status == 0 and order[2:] == [0, ["memory"]]
    write_json(store / "benchmark.json", {"head": {}, "memory": {}})
    done = command(experiments.main, "--only", "cost")
    assert done.status == 0 and "heads: stored" in done.out and order[4:] == [0]
    ends[0] = 2
    assert_refused(command(experiments.main, "--again"), "1 failed: the heads' cost")
    assert order[5:] == [0, both]
    assert_refused(command(experiments.main, "--only", "cos"), "cos")  # part of a word


def test_the_cost_goes_beside_the_other_results(monkeypatch, tmp_path):
    calls = []
    done = subprocess.CompletedProcess([], 3)
    monkeypatch.setattr(experiments.subprocess, "run", lambda words: calls.append(words) or done)
    assert experiments.measure_cost(["memory"], tmp_path / "results", tmp_path / "data") == 3
    ((python, script, *words),) = calls
    assert python == sys.executable and Path(script).name == "benchmark.py" and words == [
        "memory", "--store", str(tmp_path / "results" / "benchmark.json"), "--data-dir", str(tmp_path / "data")
    ]  # fmt: skip


def test_a_cluster_that_is_not_there_is_one_clear_line(command, store, tmp_path):
    done = command(experiments.main, "--only", "drawn mnist-arcface-2d-seed0", "--dask", "tcp://127.0.0.1:9")
    assert_refused(done, "--dask tcp://127.0.0.1:9")


def test_the_readme_gets_the_stored_table_between_its_marks_and_keeps_the_rest(store):
    store.mkdir()
    for seed, accuracy in ((0, 0.9), (1, 0.8)):
        write_json(store / f"mnist-arcface-512d-seed{seed}.json", facts_of("arcface", 512, seed, accuracy=accuracy))
    write_json(store / "cifar10-softmax-512d-seed0.json", facts_of("softmax", 512, 0, "cifar10", source="JPEG copy"))
    for name, part in (("512d-seed0-lr=9", "sensitivity"), ("2d-seed0", "drawn")):
        write_json(store / f"mnist-softmax-{name}.json", facts_of("softmax", 512, part=part))
    readme = experiments.ROOT / "README.md"
    experiments.write_readme()
    text = readme.read_text(encoding="utf-8")
    assert text.startswith(f"Title\n\n{experiments.MARKS[0]}\n") and "old" not in text
    assert text.endswith(f"\n{experiments.MARKS[1]}\nThe rest.\n")
    assert "85.00 ± 7.07" in text and "90.00" in text and "JPEG" in text and "80 test images" in text
    tables = [line for line in text.splitlines() if line.startswith("|")]
    assert len(tables) == 2 * 2 + 2 and len({line.count("|") for line in tables}) == 1  # two tables, a row each
    experiments.write_readme()
    assert readme.read_text(encoding="utf-8") == text


@pytest.mark.parametrize("text", ["No marks.\n", "{0}\nNo end.\n", "{1}\nNo start.\n", "{1}\nThe wrong way.\n{0}\n"])
def test_a_readme_without_its_marks_is_left_alone(store, command, fake_train, tmp_path, text):
    readme = experiments.ROOT / "README.md"
    readme.write_text(text.format(*experiments.MARKS))
    before = readme.read_bytes()
    done = command(experiments.main, "--only", "drawn mnist-arcface-2d-seed0", "--output-dir", tmp_path / "runs")
    assert_refused(done, "README.md", "mark")
    assert readme.read_bytes() == before and (store / "mnist-arcface-2d-seed0.json").exists()


def test_a_stored_result_that_cannot_be_read_is_passed_over_with_its_remedy(store, command):
    store.mkdir()
    (store / "mnist-softmax-2d-seed0.json").write_text("{")
    done = command(experiments.main, "--dry-run", "--only", "drawn mnist-softmax-2d-seed0")
    assert done.status == 0
    assert "passed over: " in done.out and "delete it and run experiments.py again" in done.out


def test_a_damaged_stored_result_does_not_reach_the_readme(store, command, fake_train, tmp_path):
    store.mkdir()
    (store / "mnist-softmax-2d-seed0.json").write_text('{"dataset": "mnist"}')
    done = command(experiments.main, "--only", "drawn mnist-arcface-2d-seed0", "--output-dir", tmp_path / "runs")
    assert_refused(done, "mnist-softmax-2d-seed0.json")
    assert "old" in (experiments.ROOT / "README.md").read_text()
