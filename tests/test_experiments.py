"""The study: its list of runs, what is skipped, resumed and redone, what is stored, and what a failure costs."""

import csv
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import experiments
import options
import study
import study_store
from command_helpers import assert_refused
from losses import LOSSES
from results_helpers import arrays_of, facts_of
from runs import RunError, read_arrays, write_arrays, write_json
from study import Run
from study_store import Places

ROWS = [{"epoch": 1.0, "loss": 0.5, "train_accuracy": 0.75}, {"epoch": 2.0, "loss": 0.25, "train_accuracy": 1.0}]
RUN = Run("drawn", "mnist", "arcface", 2, extra=(("epochs", 2),))


@pytest.fixture
def places(tmp_path):
    return Places(tmp_path / "runs", tmp_path / "data", tmp_path / "results")


@pytest.fixture
def store(tmp_path, monkeypatch):
    """Stands in for report/results/ and the README."""
    monkeypatch.setattr(experiments, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(experiments, "ROOT", tmp_path / "repository")
    experiments.ROOT.mkdir()
    (experiments.ROOT / "README.md").write_text("Title\n\n{}\nold\n{}\nThe rest.\n".format(*experiments.MARKS))
    return tmp_path / "results"


def begin(run, folder, dataset=None):
    """What train.py leaves of a run that has begun."""
    folder.mkdir(parents=True, exist_ok=True)
    settings = run.settings(dataset)
    write_json(folder / "config.json", {"settings": settings, "fingerprint": "f", "source": "made up", "classes": []})
    return settings


def finish(run, output_dir, dataset=None, **changes):
    """A finished run folder of made-up numbers, snapshots included where the study asks for them."""
    folder, dim = output_dir / run.name(), run.embedding_dim
    settings = begin(run, folder, dataset)
    write_json(folder / "metrics.json", {**facts_of(), **settings, "scale": settings["scale"] or 1.0, **changes})
    curve = {"far": [0.1, 1.0], "tar": [0.5, 1.0], "genuine": [3] * 180, "impostor": [70_000] * 180}
    write_json(folder / "curves.json", {"test": curve, **({"unseen": curve} if run.hold_out else {})})
    write_arrays(folder / "embeddings.npz", **arrays_of(dim))
    with open(folder / "history.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(ROWS[0]))
        writer.writeheader()
        writer.writerows(ROWS)
    if run.snapshots():
        (folder / "snapshots").mkdir(exist_ok=True)
        for epoch in range(settings["epochs"] + 1):
            angles = np.full(7, 10.0 * epoch, np.float16)
            drawn = {"embeddings": np.full((7, dim), epoch, np.float16), "weights": np.ones((4, dim), np.float32)}
            labels = {"test_labels": np.arange(7, dtype=np.uint16) % 4}
            path = folder / "snapshots" / f"epoch-{epoch:03d}.npz"
            write_arrays(path, train_angles=angles, test_angles=angles, **labels, **(drawn if dim <= 3 else {}))
    return folder


@pytest.fixture
def fake_train(monkeypatch, places):
    """Runs end as `outcomes` says by name: (status, message), an exception, or else well; returns (calls, outcomes)."""
    calls, outcomes = [], {}

    def call(words, environment):
        calls.append(words)
        run = next(r for r in [*study.study(), RUN] if r.name() == words[words.index("--name") + 1])
        outcome = outcomes.get(run.name(), (0, ""))
        if isinstance(outcome, Exception):
            raise outcome
        if outcome[0] == 0:
            finish(run, places.output_dir)
        else:
            begin(run, places.output_dir / run.name())
            if "diverged" in outcome[1]:
                write_json(places.output_dir / run.name() / "failed.json", {"error": outcome[1]})
        return outcome

    monkeypatch.setattr(study_store, "_call", call)
    return calls, outcomes


# ------------------------------------------------------------------------------------- the list of runs


def test_the_study_has_every_cell_and_names_no_run_twice():
    runs = study.study()
    assert len({run.name() for run in runs}) == len(runs)
    cells = {(run.dataset, run.loss, run.embedding_dim, run.seed) for run in runs if not run.hold_out and not run.extra}
    for loss in LOSSES:
        assert {("mnist", loss, 512, seed) for seed in range(5)} <= cells
        assert {("cifar10", loss, 512, seed) for seed in range(3)} <= cells
        assert {("mnist", loss, dim, 0) for dim in (2, 3)} <= cells
        drawn = {(run.dataset, run.embedding_dim) for run in runs if run.loss == loss and run.snapshots()}
        assert drawn == {(dataset, dim) for dataset in ("mnist", "cifar10") for dim in (2, 3, 512)}
        held_out = [(run.hold_out, run.seed) for run in runs if run.loss == loss and run.hold_out]
        assert sorted(held_out) == sorted((split, seed) for split in study.SPLITS for seed in range(3))
    first = runs[: 2 * len(LOSSES)]
    assert {run.loss for run in first} == set(LOSSES) and {(r.part, r.seed) for r in first} == {("main", 0)}


def test_every_run_is_one_that_train_py_would_accept():
    for run in study.study():
        settings = run.settings()
        assert (settings["loss"], settings["seed"], tuple(settings["hold_out"])) == (run.loss, run.seed, run.hold_out)
        flags = options.parse_flags([*run.flags(), "--name", run.name()])  # SystemExit for a bad flag or name
        assert flags.name == run.name()


def test_the_grids_reach_beyond_what_theory_allows():
    from bounds import maximum_margin

    for loss, margins in study.MARGINS.items():
        assert min(margins) < maximum_margin(loss, 10, 512) < max(margins)


def test_norm_softmax_is_run_at_each_scale_of_a_margin_loss(monkeypatch):
    real = study.recipe
    other = {"cosface": 9.0, "arcface": 7.0}
    monkeypatch.setattr(study, "recipe", lambda d, loss, *rest: {**real(d, loss, *rest), "scale": other.get(loss, 5.0)})
    controls = [run for run in study.table("mnist", range(1)) if run.part == "control"]
    assert [run.name() for run in controls] == [f"mnist-norm-softmax-512d-seed0-scale={s}" for s in (7.0, 9.0)]


def test_time_is_estimated_from_stored_runs_of_the_data_set():
    stored = [facts_of(dataset="mnist", train_seconds=t, epochs=5) for t in (10.0, 20.0, 90.0)]
    run = Run("open", "mnist", "arcface", hold_out=("7", "8"), extra=(("epochs", 10),))
    assert study.seconds(run, stored) == pytest.approx(10 * 4.0 * 0.8 + study.SECONDS_BESIDE)
    assert study.seconds(run, []) == pytest.approx(10 * study.SECONDS_AN_EPOCH["mnist"] * 0.8 + study.SECONDS_BESIDE)


# ------------------------------------------------------------------------------------- what a run becomes


def test_a_finished_run_is_stored_with_what_its_figures_need(places):
    folder = finish(RUN, places.output_dir)
    study_store.collect(RUN, places)
    path = places.results / f"{RUN.name()}.json"
    stored = json.loads(path.read_text())
    assert stored == {**facts_of(), **RUN.settings(), "part": "drawn", "history": ROWS}
    kept, whole = read_arrays(path.with_suffix(".npz")), read_arrays(folder / "embeddings.npz")
    np.testing.assert_allclose(kept["embeddings"], whole["embeddings"], rtol=1e-3, atol=1e-3)
    np.testing.assert_array_equal(kept["labels"], whole["labels"])
    np.testing.assert_allclose(kept["test_tar"], [0.5, 1.0])
    assert kept["test_impostor"].sum() == 180 * 70_000 and kept["test_genuine"].tolist() == [3] * 180
    assert kept["train_angles"].shape == (3, 180) and (kept["train_angles"].sum(1) == 7).all()
    assert kept["train_angles"].argmax(1).tolist() == [0, 10, 20]
    assert kept["snapshot_embeddings"][:, 0, 0].tolist() == [0, 1, 2] and kept["snapshot_weights"].shape == (3, 4, 2)
    assert study_store.stored_state(RUN, places.results) == "stored"


def test_held_out_classes_have_curves_of_their_own_and_grids_no_arrays(places):
    held_out = Run("open", "mnist", "softmax", hold_out=("7", "8", "9"))
    grid = Run("sensitivity", "mnist", "arcface", extra=(("scale", 4),))
    for run in (held_out, grid):
        finish(run, places.output_dir)
        study_store.collect(run, places)
    assert {"unseen_tar", "test_tar"} <= read_arrays(places.results / f"{held_out.name()}.npz").keys()
    assert not (places.results / f"{grid.name()}.npz").exists()


def test_a_run_on_the_embedded_sample_takes_no_mnist_run_s_place(places):
    finish(RUN, places.output_dir, dataset="mnist-5k")
    study_store.collect(RUN, places)
    assert [p.name.partition("-arcface")[0] for p in places.results.glob("*.json")] == ["mnist-5k"]
    assert study_store.stored_state(RUN, places.results) == "missing"
    assert "--overwrite" not in study_store.command(RUN, places, again=False)  # its folder is found to be finished


def test_a_run_near_chance_is_stored_as_failed(places):
    finish(RUN, places.output_dir, test_accuracy=0.3)  # of four classes
    study_store.collect(RUN, places)
    assert study_store.stored_state(RUN, places.results).startswith("failed: ended near chance: 30.0 %")


@pytest.mark.parametrize(
    "change", [{"epochs": 3}, {"m2": 0.1}, {"lr": 1.0}, {"scale": 3.0}, {"widths": [1, 2, 3]}, {"schedule": "cosine"}],
    ids=str,
)  # fmt: skip
def test_a_result_of_other_settings_is_outdated(places, change):
    finish(RUN, places.output_dir)
    study_store.collect(RUN, places)
    path = places.results / f"{RUN.name()}.json"
    good = json.loads(path.read_text())
    write_json(path, good | change)
    assert study_store.stored_state(RUN, places.results) == "outdated"
    write_json(path, good | {"precision": "another machine's"})
    assert study_store.stored_state(RUN, places.results) == "stored"
    path.with_suffix(".npz").unlink()
    assert study_store.stored_state(RUN, places.results) == "outdated"
    path.write_text("{")
    assert study_store.stored_state(RUN, places.results) == "missing"


def test_the_scale_that_a_loss_finds_itself_does_not_outdate_it(places):
    for loss in ("adacos", "softmax"):
        run = RUN._replace(loss=loss)
        finish(run, places.output_dir, scale=4.3)
        study_store.collect(run, places)
        assert study_store.stored_state(run, places.results) == "stored"


def test_a_run_is_one_call_of_train_py_that_goes_on_where_it_was(places):
    def words(run=RUN, again=False):
        return study_store.command(run, places, again)

    ways = {"--resume", "--overwrite"}
    assert words()[:2] == [sys.executable, str(study_store.ROOT / "train.py")] and not ways & set(words())
    folder = finish(RUN, places.output_dir)
    assert not ways & set(words()) and ways & set(words(again=True)) == {"--overwrite"}
    (folder / "metrics.json").unlink()
    assert ways & set(words()) == {"--resume"}
    (folder / "config.json").write_text(json.dumps({"settings": RUN.settings() | {"lr": 9.0}}))
    assert ways & set(words()) == {"--overwrite"}
    (folder / "config.json").write_text("{")
    assert ways & set(words()) == {"--overwrite"}
    plain = Run("open", "mnist", "arcface", hold_out=("7", "8"))
    assert "--snapshots" in words() and "--snapshots" not in words(plain)
    assert words(plain)[words(plain).index("--hold-out") :][:3] == ["--hold-out", "7", "8"]


def test_a_finished_run_without_the_snapshots_that_the_study_wants_is_done_again(places):
    folder = finish(RUN, places.output_dir)
    for path in (folder / "snapshots").iterdir():
        path.unlink()
    (folder / "snapshots").rmdir()
    assert "--overwrite" in study_store.command(RUN, places, again=False)


# ------------------------------------------------------------------------------------- failures


def test_a_run_that_diverged_is_stored_as_such_and_not_tried_again(places, fake_train):
    _, outcomes = fake_train
    outcomes[RUN.name()] = (2, "the loss became nan by step 7: training has diverged; lower --lr")
    assert study_store.run_one(RUN, places) is None
    state = study_store.stored_state(RUN, places.results)
    assert state == "failed: the loss became nan by step 7: training has diverged; lower --lr"
    stored = json.loads((places.results / f"{RUN.name()}.json").read_text())
    assert stored["loss"] == "arcface" and stored["source"] == "made up" and "test_accuracy" not in stored


@pytest.mark.parametrize("outcome", [(2, "train.py: error: no space left"), (-9, ""), OSError("no such file"),
                                     RunError("damaged")], ids=str)  # fmt: skip
def test_what_may_go_right_next_time_is_not_stored(places, fake_train, outcome):
    calls, outcomes = fake_train
    outcomes[RUN.name()] = outcome
    said = study_store.run_one(RUN, places)
    assert said in ("train.py: error: no space left", "train.py ended with status -9", "no such file", "damaged")
    assert study_store.stored_state(RUN, places.results) == "missing"
    outcomes.clear()
    assert study_store.run_one(RUN, places) is None and len(calls) == 2
    assert study_store.stored_state(RUN, places.results) == "stored"


def test_a_later_failure_does_not_cost_a_stored_result(places, fake_train):
    _, outcomes = fake_train
    assert study_store.run_one(RUN, places) is None
    path = places.results / f"{RUN.name()}.json"
    before = path.read_bytes()
    for outcome in ((2, "train.py: error: training has diverged"), (2, "disk full"), OSError("gone")):
        outcomes[RUN.name()] = outcome
        assert study_store.run_one(RUN, places, again=True)
        assert path.read_bytes() == before


def test_one_failure_stops_no_other_run_and_only_it_is_tried_again(command, store, tmp_path, fake_train):
    calls, outcomes = fake_train
    names = [f"mnist-{loss}-2d-seed0" for loss in ("arcface", "softmax", "cosface", "adacos")]
    outcomes |= {names[0]: (2, "train.py: error: the disk is full"), names[2]: RunError("metrics.json is damaged")}
    places = ["--output-dir", tmp_path / "runs", "--data-dir", tmp_path / "data", "--only", *names]
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
    words = [sys.executable, "-c", script + "sys.exit(experiments.main())", tmp_path, "--only", "mnist-arcface-2d-s"]
    words += ["--jobs", jobs, "--output-dir", tmp_path / "runs", "--results-dir", tmp_path / "results"]
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
    only = command(experiments.main, "--dry-run", "--only", "mnist-arcface-2d-seed0", "open mnist-softmax")
    assert len(only.out.splitlines()) == 1 + 6 + 1
    more = command(experiments.main, "--dry-run", "--only", "main", "--seeds", 7)
    assert len(more.out.splitlines()) == 2 * 7 * len(LOSSES) + 1
    assert_refused(command(experiments.main, "--only", "triplet"), "triplet", "--dry-run")


def test_a_cluster_that_is_not_there_is_one_clear_line(command, store, tmp_path):
    done = command(experiments.main, "--only", "mnist-arcface-2d-seed0", "--dask", "tcp://127.0.0.1:9")
    assert_refused(done, "--dask tcp://127.0.0.1:9")


def test_the_readme_gets_the_stored_table_between_its_marks_and_keeps_the_rest(store):
    store.mkdir()
    for seed, accuracy in ((0, 0.9), (1, 0.8)):
        write_json(store / f"mnist-arcface-2d-seed{seed}.json", facts_of(seed=seed, accuracy=accuracy))
    write_json(store / "cifar10-softmax-512d-seed0.json", facts_of("softmax", 512, 0, "cifar10", source="JPEG copy"))
    write_json(store / "mnist-softmax-512d-seed0-lr=9.json", facts_of("softmax", 512, part="sensitivity"))
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
    done = command(experiments.main, "--only", "mnist-arcface-2d-seed0", "--output-dir", tmp_path / "runs")
    assert_refused(done, "README.md", "mark")
    assert readme.read_bytes() == before and (store / "mnist-arcface-2d-seed0.json").exists()


def test_a_damaged_stored_result_does_not_reach_the_readme(store, command, fake_train, tmp_path):
    store.mkdir()
    (store / "mnist-softmax-2d-seed0.json").write_text('{"dataset": "mnist"}')
    done = command(experiments.main, "--only", "mnist-arcface-2d-seed0", "--output-dir", tmp_path / "runs")
    assert_refused(done, "mnist-softmax-2d-seed0.json")
    assert "old" in (experiments.ROOT / "README.md").read_text()
