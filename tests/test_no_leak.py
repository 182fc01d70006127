"""No leak: what training may not see, test images and held-out classes, does not reach it."""

import struct

import numpy as np
import pytest
import torch

import data_files
import evaluate
import recipes
import train
import trainer as training
from checkpoints import load_checkpoint
from data import load_dataset, to_input
from runs import read_arrays, read_json
from training_helpers import assert_same, everything, history_of, timeless


def hashes(images) -> set:
    return {image.cpu().numpy().tobytes() for image in images}


@pytest.fixture
def spy(monkeypatch):
    """All images that reach the normalisation, the whitening and the training step, without augmentation."""
    monkeypatch.setitem(recipes.BASE["folder"], "shift", 0)
    monkeypatch.setitem(recipes.BASE["folder"], "flip", False)
    seen = {"statistics": set(), "whitening": set(), "steps": set(), "embedded": set()}
    statistics, step = training.channel_statistics, training.Trainer.step
    whiten, embed = training.Backbone.init_whitening, training.embed

    def spied_statistics(images):
        seen["statistics"] |= hashes(images)
        return statistics(images)

    def spied_step(self, images, labels):
        seen["steps"] |= hashes(images)
        return step(self, images, labels)

    def spied_whiten(self, images):
        seen["whitening"] |= hashes(images.contiguous())
        return whiten(self, images)

    def spied_embed(backbone, images, *rest):
        seen["embedded"] |= hashes(images)
        return embed(backbone, images, *rest)

    monkeypatch.setattr(training, "channel_statistics", spied_statistics)
    monkeypatch.setattr(training.Trainer, "step", spied_step)
    monkeypatch.setattr(training.Backbone, "init_whitening", spied_whiten)
    monkeypatch.setattr(training, "embed", spied_embed)
    return seen


def assert_only(seen, images):
    """The three ways into training got all of these images and no other."""
    wanted = hashes(images)
    assert seen["statistics"] == wanted and seen["steps"] == wanted
    normalised = to_input(images, *training.channel_statistics(images)).contiguous()
    assert seen["whitening"] == hashes(normalised)


def test_no_test_image_reaches_training(train_tiny, tmp_path, tiny_data, spy):
    data = load_dataset("folder", tiny_data, 16)
    assert not hashes(data.train_images) & hashes(data.test_images) and len(hashes(data.train_images)) == 96
    assert train_tiny(tmp_path).status == 0
    assert_only(spy, data.train_images)


def test_with_validation_no_test_image_is_used_at_all(train_tiny, tmp_path, tiny_data, spy):
    data = load_dataset("folder", tiny_data, 16)
    done = train_tiny(tmp_path, "--validation", 0.25, "--name", "run")
    assert done.status == 0 and "validation accuracy" in done.out
    assert not (spy["steps"] | spy["statistics"] | spy["embedded"]) & hashes(data.test_images)
    assert spy["embedded"] | spy["steps"] == hashes(data.train_images) and not spy["embedded"] & spy["steps"]
    assert len(spy["embedded"]) == 24 == read_json(tmp_path / "run" / "metrics.json")["test_images"]


def test_no_image_of_a_held_out_class_reaches_training(train_tiny, tmp_path, tiny_data, spy):
    data = load_dataset("folder", tiny_data, 16)
    assert train_tiny(tmp_path, "--hold-out", "checks", "disc").status == 0
    assert_only(spy, data.train_images[(data.train_labels == 0) | (data.train_labels == 3)])


@pytest.mark.parametrize(
    ("flags", "parts"),
    [
        ((), ("test",)),
        (("--validation", 0.25), ("test",)),
        (("--hold-out", "checks", "disc"), ("train", "test")),
    ],
)
def test_pictures_that_training_may_not_see_move_no_weight(train_tiny, make_data, tmp_path, flags, parts):
    # The black box: exchange every picture that is not for training, and no weight may differ by a bit.
    changed = [(part, kind) for part in parts for kind in ("checks", "disc")]
    checkpoints, metrics = [], []
    for name, new in (("one", ()), ("two", changed)):
        folder = make_data(tmp_path / name, new=new)
        assert train_tiny(tmp_path / "runs", *flags, "--name", name, data=folder).status == 0
        checkpoints.append(load_checkpoint(tmp_path / "runs" / name / "checkpoint.pt"))
        metrics.append(timeless(read_json(tmp_path / "runs" / name / "metrics.json")))
    for key in ("model", "head", "mean", "std", "optimizer"):
        assert_same(checkpoints[0][key], checkpoints[1][key], key)
    if flags and flags[0] == "--validation":
        assert_same(*metrics)
    else:  # and the pictures did differ
        assert metrics[0]["verification"] != metrics[1]["verification"]


def test_garbage_for_test_images_and_their_labels_moves_nothing_but_the_test(command, tmp_path, monkeypatch):
    monkeypatch.setitem(recipes.BASE["mnist"], "widths", (8, 8, 8))
    random, states, accuracies = np.random.default_rng(0), [], []
    train_part = random.integers(0, 256, (100, 28, 28)), np.arange(100) % 10
    test_part = random.integers(0, 256, (50, 28, 28)), np.arange(50) % 10
    garbage = np.full((50, 28, 28), 255), test_part[1][::-1]
    for name, test in (("good", test_part), ("garbage", garbage)):
        (tmp_path / name).mkdir()
        for file, array in zip(data_files.IDX_FILES, (*train_part, *test)):
            header = struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
            (tmp_path / name / file).write_bytes(header + array.astype(np.uint8).tobytes())
        words = ["--dataset", "mnist", "--loss", "arcface", "--embedding-dim", 4, "--epochs", 2, "--batch-size", 20]
        words += ["--data-dir", tmp_path / name, "--output-dir", tmp_path / "runs", "--name", name]
        assert command(train.main, *words).status == 0
        run = tmp_path / "runs" / name
        states.append({k: v for k, v in everything(run)["checkpoint"].items() if k != "fingerprint"})
        states[-1]["rows"] = timeless(history_of(run))
        accuracies.append(read_json(run / "metrics.json")["accuracy"])
    assert_same(*states)
    assert accuracies[0] != accuracies[1]


def test_held_out_classes_are_measured_alone_and_the_rest_renumbered(train_tiny, tmp_path, tiny_data):
    assert train_tiny(tmp_path, "--hold-out", "disc", "bars", "--name", "run").status == 0
    data, arrays = load_dataset("folder", tiny_data, 16), read_arrays(tmp_path / "run" / "embeddings.npz")
    metrics = read_json(tmp_path / "run" / "metrics.json")
    assert metrics["classes"] == ["checks", "slopes"] and metrics["unseen_classes"] == ["bars", "disc"]
    assert metrics["hold_out"] == ["bars", "disc"]  # named in any order, they make the same run
    assert arrays["weights"].shape == (2, 4) and metrics["test_images"] == 16
    np.testing.assert_array_equal(arrays["labels"], [0] * 8 + [1] * 8)
    np.testing.assert_array_equal(arrays["unseen_labels"], [0] * 8 + [2] * 8)
    network = evaluate.load_network(tmp_path / "run")
    for name, wanted in (("embeddings", (1, 3)), ("unseen_embeddings", (0, 2))):
        images = torch.cat([data.test_images[data.test_labels == label] for label in wanted])
        np.testing.assert_allclose(evaluate.embed_images(network, images).numpy(), arrays[name], atol=1e-6)


def test_a_held_out_class_may_be_given_by_its_number(train_tiny, tmp_path):
    assert train_tiny(tmp_path, "--hold-out", 2, "--epochs", 1, "--name", "run").status == 0
    assert read_json(tmp_path / "run" / "metrics.json")["unseen_classes"] == ["disc"]
