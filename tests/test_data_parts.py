"""Parts of a data set: classes held out, and images set aside for validation."""

import numpy as np
import pytest
import torch

import data
from data_helpers import problem


def numbered(classes=tuple("abcde"), train=40, test=20) -> data.Dataset:
    """Every image holds its own number in its first two pixels; labels are shuffled and unevenly frequent."""
    random = np.random.default_rng(3)
    count = train + test
    images = np.zeros((count, 1, 8, 8), np.uint8)
    images[:, 0, 0, 0], images[:, 0, 0, 1] = np.arange(count) % 256, np.arange(count) // 256
    weights = np.arange(1, len(classes) + 1) / sum(range(1, len(classes) + 1))
    labels = random.choice(len(classes), count, p=weights)
    for start in (0, train):  # every class in both parts, twice
        labels[start : start + 2 * len(classes)] = np.tile(np.arange(len(classes)), 2)
    return data._dataset("x", "made up", classes, [images[:train], labels[:train], images[train:], labels[train:]])


def numbers(images: torch.Tensor) -> list[int]:
    return (images[:, 0, 0, 0].int() + 256 * images[:, 0, 0, 1].int()).tolist()


@pytest.mark.parametrize("names, ids", [(["b", "d"], (1, 3)), (["3", "1", "b"], (1, 3)), (["a", "e", "2"], (0, 2, 4))])
def test_hold_out_classes(names, ids):
    whole = numbered()
    cut, images_out, labels_out, ids_out = data.hold_out_classes(whole, names)
    kept = [i for i in range(5) if i not in ids]
    assert ids_out == ids
    assert cut.classes == tuple("abcde"[i] for i in kept)
    truth = dict(zip(numbers(torch.cat([whole.train_images, whole.test_images])),
                     torch.cat([whole.train_labels, whole.test_labels]).tolist()))  # fmt: skip
    for images, labels, part in ((cut.train_images, cut.train_labels, whole.train_images),
                                 (cut.test_images, cut.test_labels, whole.test_images)):  # fmt: skip
        assert numbers(images) == [n for n in numbers(part) if truth[n] in kept]
        assert labels.tolist() == [kept.index(truth[n]) for n in numbers(images)] and labels.dtype == torch.int64
    assert numbers(images_out) == [n for n in numbers(whole.test_images) if truth[n] in ids]
    assert labels_out.tolist() == [truth[n] for n in numbers(images_out)]
    assert cut.fingerprint != whole.fingerprint and cut.source.endswith(", ".join("abcde"[i] for i in ids))


def test_hold_out_errors():
    whole = numbered()
    message = problem(data.hold_out_classes, whole, ["b", "x"])
    assert "'x'" in message and "a, b, c, d, e" in message
    assert "'5'" in problem(data.hold_out_classes, whole, ["5"])
    assert "'-1'" in problem(data.hold_out_classes, whole, ["-1"])
    assert "leaves 1 of 5" in problem(data.hold_out_classes, whole, ["a", "1", "2", "d"])
    problem(data.hold_out_classes, whole, [])


def test_hold_out_takes_numbers_as_names_where_classes_are_numbers():
    whole = numbered(("1", "2", "3"))
    assert data.hold_out_classes(whole, ["1"])[0].classes == ("2", "3")
    assert "'0'" in problem(data.hold_out_classes, whole, ["0"])


@pytest.mark.parametrize("fraction", [0.01, 0.1, 0.3, 0.5])
def test_validation_split(fraction):
    whole = numbered(train=400, test=50)
    cut = data.validation_split(whole, fraction, seed=1)
    train, held = numbers(cut.train_images), numbers(cut.test_images)
    assert sorted(train + held) == list(range(400)) and not set(train) & set(held)  # test images are 400 and up
    truth = whole.train_labels.tolist()
    assert [truth[n] for n in train] == cut.train_labels.tolist()
    assert [truth[n] for n in held] == cut.test_labels.tolist()
    for label in range(5):
        expected = truth.count(label) * fraction
        assert abs(cut.test_labels.tolist().count(label) - max(1, expected)) <= 0.5
    assert "training images" in cut.source and "not on its test images" in cut.source and "made up" in cut.source
    assert data.validation_split(whole, fraction, seed=1).fingerprint == cut.fingerprint
    assert data.validation_split(whole, fraction, seed=2).fingerprint != cut.fingerprint


@pytest.mark.parametrize("fraction", [0, -0.1, 0.51, 1, float("nan"), float("inf")])
def test_validation_fraction_out_of_range(fraction):
    assert f"validation fraction {fraction}" in problem(data.validation_split, numbered(), fraction)


def test_validation_needs_two_images_of_a_class():
    small = numbered()._replace(train_images=torch.zeros(3, 1, 8, 8), train_labels=torch.tensor([0, 0, 1]))
    assert "class 'b' has 1 training image" in problem(data.validation_split, small, 0.5)
