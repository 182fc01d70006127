"""Rules of the run folder: what is shown, kept, resumed or begun anew, and whose files are never touched."""

import os
import shutil
from pathlib import Path

import pytest

import evaluate
from command_helpers import assert_refused, content_and_times
from runs import read_json, write_json
from training_helpers import assert_same, everything, history_of


def test_a_finished_run_is_shown_and_left_as_it_is(train_tiny, finished_run, tmp_path):
    shutil.copytree(finished_run, tmp_path / "run")
    before = content_and_times(tmp_path)
    for flags in ((), ("--resume",)):
        again = train_tiny(tmp_path, "--name", "run", *flags)
        assert again.status == 0 and "finished already" in again.out
        assert f"{read_json(finished_run / 'metrics.json')['test_accuracy']:.2%}" in again.out
        assert not any(line.startswith("epoch") for line in again.out.splitlines())
        assert content_and_times(tmp_path) == before


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (("--seed", 3), "seed was 0, now 3"),
        (("--epochs", 9), "epochs was 3, now 9"),
        (("--m2", 0.125), "m2 was"),
        (("--hold-out", "disc"), "hold_out was [], now ['disc']"),
        (("--lr", 0.01, "--resume"), "lr was 0.05, now 0.01"),
    ],
)
def test_a_run_of_other_settings_is_kept(train_tiny, finished_run, tmp_path, flags, named):
    shutil.copytree(finished_run, tmp_path / "run")
    before = content_and_times(tmp_path)
    assert_refused(train_tiny(tmp_path, "--name", "run", *flags), named, "--overwrite", "--name")
    assert content_and_times(tmp_path) == before


def test_an_unfinished_run_is_kept_and_the_ways_on_are_named(train_tiny, unfinished):
    before = content_and_times(unfinished)
    assert_refused(train_tiny(unfinished, "--name", "run"), "unfinished", "--resume", "--overwrite", "--name")
    assert content_and_times(unfinished) == before


def test_measuring_an_unfinished_or_failed_run_names_what_it_is(measure, unfinished, finished_run, tmp_path):
    assert_refused(measure(unfinished / "run"), "metrics.json is missing", "not finished", "--resume")
    (unfinished / "run" / "failed.json").write_text("{}")
    assert_refused(measure(unfinished / "run"), "that run failed, see failed.json")
    (tmp_path / "empty").mkdir()
    assert_refused(measure(tmp_path / "empty"), "is", "a run folder of train.py?")


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="no such rights here")
def test_what_cannot_be_kept_is_said_before_it_is_measured(measure, run, monkeypatch):
    shutil.copytree(run, run.parent / "other")
    facts = read_json(run / "metrics.json")
    write_json(run / "metrics.json", {name: value for name, value in facts.items() if name != "verification"})
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != run)  # root may write anywhere
    monkeypatch.setattr(evaluate, "train_embeddings", lambda *_: pytest.fail("embedded the images first"))
    assert_refused(measure(run), f"cannot write into {run}", "copy the run")
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != run.parent)
    (run.parent / "file").write_text("mine")
    for place in (run.parent / "new" / "figures", run.parent / "file" / "figures"):
        assert_refused(measure(run, "--figures-dir", place), run.parent, "choose another --figures-dir")
    assert not (run.parent / "new").exists()


def test_overwrite_starts_anew(train_tiny, uninterrupted, unfinished):
    assert train_tiny(unfinished, "--name", "run", "--overwrite").status == 0
    assert_same(everything(unfinished / "run"), uninterrupted("arcface"))
    done = train_tiny(unfinished, "--name", "run", "--overwrite", "--epochs", 1, loss="softmax")
    assert done.status == 0
    assert read_json(unfinished / "run" / "metrics.json")["loss"] == "softmax"
    assert len(history_of(unfinished / "run")) == 1


def test_there_must_be_a_run_to_resume(train_tiny, tmp_path):
    assert_refused(train_tiny(tmp_path / "runs", "--name", "run", "--resume"), "no run to resume", "run")
    assert not (tmp_path / "runs").exists()


def test_a_run_is_not_resumed_on_other_data(train_tiny, make_data, unfinished, tmp_path):
    before = content_and_times(unfinished / "run")
    other = make_data(tmp_path / "other", new=[("train", "disc")])
    done = train_tiny(unfinished, "--name", "run", "--resume", data=other)
    assert_refused(done, "other data", "--overwrite", "--name")
    assert content_and_times(unfinished / "run") == before


def test_a_finished_run_is_not_passed_off_as_one_on_other_data(train_tiny, make_data, run, tmp_path):
    before = content_and_times(run)
    other = make_data(tmp_path / "other", new=[("train", "disc")])
    assert_refused(train_tiny(run.parent, "--name", "run", data=other), "other data", "--overwrite", "--name")
    assert content_and_times(run) == before
    assert "finished already" in train_tiny(run.parent, "--name", "run").out


@pytest.mark.parametrize("flags", [(), ("--overwrite",), ("--resume",)])
@pytest.mark.parametrize("file", ["thesis.txt", "config.json", "sub/thesis.txt"])
def test_a_folder_that_is_no_run_is_never_touched(train_tiny, tmp_path, file, flags):
    path = tmp_path / "run" / file
    path.parent.mkdir(parents=True)
    path.write_text('{"name": "not a run of this program"}')
    before = content_and_times(tmp_path)
    assert_refused(train_tiny(tmp_path, "--name", "run", *flags), "run")
    assert content_and_times(tmp_path) == before


@pytest.mark.parametrize("flags", [(), ("--overwrite",)])
def test_hidden_files_and_files_added_to_a_run_are_never_deleted(train_tiny, tmp_path, flags):
    (tmp_path / "run" / ".git").mkdir(parents=True)
    (tmp_path / "run" / ".git" / "HEAD").write_text("mine")
    if flags:
        assert train_tiny(tmp_path, "--name", "run", "--epochs", 1).status == 0
        (tmp_path / "run" / "notes.txt").write_text("mine")
    train_tiny(tmp_path, "--name", "run", *flags)
    assert (tmp_path / "run" / ".git" / "HEAD").read_text() == "mine"
    assert not flags or (tmp_path / "run" / "notes.txt").read_text() == "mine"


def test_an_empty_folder_is_taken_for_the_run(train_tiny, tmp_path):
    (tmp_path / "run").mkdir()
    assert train_tiny(tmp_path, "--name", "run", "--epochs", 1).status == 0
