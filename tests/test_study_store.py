"""One run of the study to its stored result: what is kept, skipped, resumed and redone, and what a failure costs."""

import json
import sys

import numpy as np
import pytest

import study_store
from metrics import near_chance
from results_helpers import facts_of
from runs import RunError, read_arrays, read_json, write_json
from study import Run
from study_helpers import ROWS, RUN, begin, finish

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
    for accuracy, state in ((0.3, "failed: ended near chance: 30.0 % of the test images right"), (0.35, "stored")):
        finish(RUN, places.output_dir, test_accuracy=accuracy)  # of four classes
        study_store.collect(RUN, places)
        assert study_store.stored_state(RUN, places.results) == state
    commonest = [[50, 0, 0, 0], [0, 10, 0, 0], [0, 0, 10, 0], [0, 0, 0, 10]]
    finish(RUN, places.output_dir, test_accuracy=0.63, confusion=commonest)  # naming the first class gets 0.625
    study_store.collect(RUN, places)
    assert study_store.stored_state(RUN, places.results).startswith("failed: ended near chance: 63.0 %")


def test_no_verdict_of_a_stored_result_is_another_than_would_be_given_now():
    for path in sorted((study_store.ROOT / "report" / "results").glob("*-seed*.json")):
        facts = json.loads(path.read_text())
        if "test_accuracy" in facts:  # one that diverged has none
            now = near_chance(facts["test_accuracy"], np.sum(facts["confusion"], axis=1))
            assert ("failed" in facts) == now, path.name


def test_a_run_goes_on_in_the_precision_it_was_begun_in(places):
    folder = finish(RUN, places.output_dir)
    record = json.loads((folder / "config.json").read_text())
    (folder / "metrics.json").unlink()
    for precision in ("fp32", "bf16"):
        record["settings"]["precision"] = precision
        write_json(folder / "config.json", record)
        words = study_store.command(RUN, places, again=False)
        assert words[-3:] == ["--precision", precision, "--resume"] and "--overwrite" not in words
        write_json(folder / "failed.json", {"error": "diverged"})
        study_store.store_failure(RUN, places)  # and is stored if it then fails
        assert study_store.stored_state(RUN, places.results) == "failed: diverged"
        (folder / "failed.json").unlink()


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
    arrays = path.with_suffix(".npz")
    arrays.write_bytes(arrays.read_bytes()[:-30])
    assert study_store.stored_state(RUN, places.results) == "damaged"
    arrays.unlink()
    assert study_store.stored_state(RUN, places.results) == "damaged"
    path.write_text("{")
    assert study_store.stored_state(RUN, places.results) == "missing"


def test_arrays_are_missed_where_there_should_be_some(places):
    control, grid = (Run(part, "mnist", "arcface", extra=(("scale", 4),)) for part in ("control", "sensitivity"))
    for run, state in ((control, "damaged"), (grid, "stored")):
        finish(run, places.output_dir)
        study_store.collect(run, places)
        assert study_store.stored_state(run, places.results) == "stored"
        (places.results / f"{run.name()}.npz").unlink(missing_ok=True)
        assert study_store.stored_state(run, places.results) == state


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


def test_a_failure_leaves_no_arrays_of_an_earlier_run(places, fake_train):
    places.results.mkdir(parents=True)
    stale = places.results / f"{RUN.name()}.npz"
    stale.write_bytes(b"of an older network")
    begin(RUN, places.output_dir / RUN.name())
    write_json(places.output_dir / RUN.name() / "failed.json", {"error": "diverged"})
    study_store.store_failure(RUN, places)
    assert not stale.exists() and read_json(stale.with_suffix(".json"))["failed"] == "diverged"
