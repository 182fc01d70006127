"""Snapshots: what they hold, that training does not notice them, and that a cut-off run leaves the same ones."""

import itertools
import os
import shutil

import numpy as np
import pytest
import torch

import snapshots
from checkpoints import load_checkpoint
from command_helpers import assert_refused, content_and_times
from losses import build_head
from runs import read_arrays, read_json
from training_helpers import assert_same, everything

EPOCHS = 3


def kept(folder):
    return {path.name: path.read_bytes() for path in sorted((folder / "snapshots").iterdir())}


@pytest.fixture(scope="module")
def recorded(tmp_path_factory, train_tiny):
    """A finished run with snapshots; tests only read it."""
    output_dir = tmp_path_factory.mktemp("recorded")
    done = train_tiny(output_dir, "--name", "run", "--embedding-dim", 2, "--snapshots")
    assert done.status == 0, done.err
    return output_dir / "run"


@pytest.mark.parametrize("loss", ["arcface", "adacos", "softmax"])
def test_training_does_not_notice_snapshots(train_tiny, tmp_path, loss):
    for name, flags in (("without", ()), ("with", ("--snapshots",))):
        assert train_tiny(tmp_path, "--name", name, *flags, loss=loss).status == 0
    assert_same(everything(tmp_path / "with"), everything(tmp_path / "without"))
    assert not (tmp_path / "without" / "snapshots").exists()
    assert len(kept(tmp_path / "with")) == EPOCHS + 1


def test_snapshots_of_a_run_begun_without_them_are_refused(train_tiny, unfinished, finished_run, tmp_path):
    before = content_and_times(unfinished)
    done = train_tiny(unfinished, "--name", "run", "--resume", "--snapshots")
    assert_refused(done, "begun without --snapshots", "--overwrite")
    assert content_and_times(unfinished) == before
    shutil.copytree(finished_run, tmp_path / "whole" / "run")
    assert_refused(train_tiny(tmp_path / "whole", "--name", "run", "--snapshots"), "begun without --snapshots")


def test_the_last_snapshot_is_the_finished_run(recorded):
    assert list(kept(recorded)) == [f"epoch-{epoch:03d}.npz" for epoch in range(EPOCHS + 1)]
    last, final = read_arrays(recorded / "snapshots" / "epoch-003.npz"), read_arrays(recorded / "embeddings.npz")
    x, y, weights = final["embeddings"], final["labels"], final["weights"]
    assert last["embeddings"].dtype == np.float16 and last["embeddings"].shape == (32, 2)
    np.testing.assert_array_equal(last["weights"], weights)
    # A fixed random order of the test images, found again by their embeddings.
    order = [int(np.abs(x - row.astype(np.float32)).sum(1).argmin()) for row in last["embeddings"]]
    assert sorted(order) == list(range(32)) and order != sorted(order)
    np.testing.assert_array_equal(last["test_labels"], y[order])
    along = np.sum(x * weights[y], axis=1) / np.linalg.norm(x, axis=1) / np.linalg.norm(weights[y], axis=1)
    np.testing.assert_allclose(last["test_angles"], np.degrees(np.arccos(along))[order], rtol=2e-3, atol=0.05)
    assert last["train_angles"].shape == (96,) and last["train_angles"].dtype == np.float16


def test_snapshots_differ_from_each_other_and_begin_before_training(recorded, make_trainer):
    states = [read_arrays(path) for path in sorted((recorded / "snapshots").iterdir())]
    for before, after in itertools.pairwise(states):
        assert not np.array_equal(before["embeddings"], after["embeddings"])
        np.testing.assert_array_equal(before["test_labels"], after["test_labels"])
    untrained, dataset = make_trainer(dim=2)
    np.testing.assert_array_equal(states[0]["weights"], untrained.head.weight.detach())
    order = torch.randperm(32, generator=torch.Generator().manual_seed(0))
    np.testing.assert_allclose(
        states[0]["embeddings"], untrained.embed(dataset.test_images[order]), rtol=2e-3, atol=1e-3
    )


def test_other_seeds_and_losses_look_at_the_same_images(train_tiny, recorded, tmp_path):
    assert train_tiny(tmp_path, "--name", "run", "--snapshots", "--seed", 5, loss="cosface").status == 0
    one, other = (read_arrays(folder / "snapshots" / "epoch-001.npz") for folder in (recorded, tmp_path / "run"))
    np.testing.assert_array_equal(one["test_labels"], other["test_labels"])
    assert "embeddings" not in other  # four dimensions cannot be drawn


def test_there_are_no_more_than_the_stated_number(train_tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(snapshots, "SAMPLES", 10)
    assert train_tiny(tmp_path, "--name", "run", "--snapshots", "--epochs", 1).status == 0
    arrays = read_arrays(tmp_path / "run" / "snapshots" / "epoch-001.npz")
    assert {len(arrays[name]) for name in ("train_angles", "test_angles", "test_labels")} == {10}


@pytest.mark.parametrize("number", [0, 1, 2, 5, 6, 11])
def test_a_run_cut_off_at_any_write_ends_with_the_same_snapshots(train_tiny, recorded, tmp_path, number):
    # Without the flag on resuming: a run that has snapshots goes on keeping them.
    renames, real = itertools.count(), os.replace

    def cut(*args):
        if next(renames) == number:
            raise KeyboardInterrupt
        real(*args)

    flags = ("--name", "run", "--embedding-dim", 2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "replace", cut)
        train_tiny(tmp_path, *flags, "--snapshots")
    begun = (tmp_path / "run" / "config.json").exists()
    done = train_tiny(tmp_path, *flags, *(["--resume"] if begun else ["--snapshots"]))
    assert done.status == 0, done.err
    assert kept(tmp_path / "run") == kept(recorded)
    assert_same(everything(tmp_path / "run")["embeddings"], everything(recorded)["embeddings"])


def test_starting_anew_removes_old_snapshots_and_no_file_of_the_user(train_tiny, recorded, tmp_path):
    flags = ("--name", "run", "--snapshots", "--epochs", 2)
    assert train_tiny(tmp_path, *flags).status == 0
    (tmp_path / "run" / "snapshots" / "mine.txt").write_text("mine")
    assert train_tiny(tmp_path, *flags[:2], "--epochs", 1, "--overwrite").status == 0
    assert sorted(kept(tmp_path / "run")) == ["mine.txt"]  # the new run was not asked for any
    assert read_json(tmp_path / "run" / "metrics.json")["epochs"] == 1


def test_an_empty_place_of_an_earlier_run_is_no_wish_for_snapshots(train_tiny, tmp_path):
    flags = ("--name", "run", "--epochs", 1)
    assert train_tiny(tmp_path, *flags, "--snapshots").status == 0
    assert train_tiny(tmp_path, *flags, "--overwrite").status == 0
    assert not (tmp_path / "run" / "snapshots").exists()


def test_target_angles_are_those_of_the_head():
    import torch

    x, labels = torch.randn(50, 5, generator=torch.Generator().manual_seed(0)), torch.arange(50) % 4
    head = build_head("norm-softmax", 5, 4, scale=1.0)
    with torch.no_grad():
        cosine = head(x)[torch.arange(50), labels].double().numpy()
        angles = snapshots.target_angles(x, labels, head.weight)
    np.testing.assert_allclose(angles, np.degrees(np.arccos(cosine)), rtol=1e-3)


def test_a_checkpoint_knows_nothing_of_snapshots(recorded):
    assert "snapshots" not in load_checkpoint(recorded / "checkpoint.pt")["config"]
