"""CIFAR-10: its own batches and archive, never unpickled unchecked, and a copy of it as class folders."""

import hashlib
import pickle
import shutil
import tarfile

import numpy as np
import pytest
from PIL import Image

import data
import data_files
from data import load_dataset
from data_helpers import Trap, names_in, problem, write_image, write_tree

pytestmark = pytest.mark.usefixtures("no_network")


# ------------------------------------------------------------------------------------- its own files


@pytest.fixture
def cifar(tmp_path, monkeypatch):
    """Tiny CIFAR-10 batches in tmp_path/made, whose MD5 torchvision is made to expect; returns the images."""
    from torchvision.datasets import CIFAR10

    folder = tmp_path / "made" / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    images = np.random.default_rng(0).integers(0, 256, (60, 3, 32, 32), dtype=np.uint8)
    sums = {}
    names = [f"data_batch_{i}" for i in range(1, 6)] + ["test_batch"]
    for i, name in enumerate(names):
        rows = images[10 * i : 10 * i + 10].reshape(10, -1)
        (folder / name).write_bytes(pickle.dumps({"data": rows, "labels": list(range(10))}))
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": list(data.CIFAR_CLASSES)}))
    sums = {path.name: hashlib.md5(path.read_bytes()).hexdigest() for path in folder.iterdir()}
    monkeypatch.setattr(CIFAR10, "train_list", [[name, sums[name]] for name in names[:5]])
    monkeypatch.setattr(CIFAR10, "test_list", [["test_batch", sums["test_batch"]]])
    monkeypatch.setattr(CIFAR10, "meta", CIFAR10.meta | {"md5": sums["batches.meta"]})
    return images


def test_cifar_batches_round_trip(tmp_path, cifar):
    dataset = load_dataset("cifar10", tmp_path / "made", log=pytest.fail)
    np.testing.assert_array_equal(dataset.train_images.numpy(), cifar[:50])
    np.testing.assert_array_equal(dataset.test_images.numpy(), cifar[50:])
    assert dataset.test_labels.tolist() == list(range(10)) and dataset.classes == data.CIFAR_CLASSES
    assert "original pixels" in dataset.source and "not the original" not in dataset.source


def test_cifar_archive_is_checked_and_unpacked(tmp_path, cifar, monkeypatch):
    from torchvision.datasets import CIFAR10

    place = tmp_path / "packed"
    place.mkdir()
    archive = place / "cifar-10-python.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(tmp_path / "made/cifar-10-batches-py", "cifar-10-batches-py")
    message = problem(load_dataset, "cifar10", place)
    assert f"'{archive}'" in message and "wrong MD5" in message and names_in(place) == [archive.name]

    monkeypatch.setattr(CIFAR10, "tgz_md5", hashlib.md5(archive.read_bytes()).hexdigest())
    dataset = load_dataset("cifar10", place, log=pytest.fail)
    np.testing.assert_array_equal(dataset.train_images.numpy(), cifar[:50])
    assert names_in(place) == ["cifar-10-batches-py", archive.name]


def test_two_that_unpack_the_archive_together_both_go_on(tmp_path, cifar, monkeypatch):
    from torchvision.datasets import CIFAR10

    place, made, unpack = tmp_path / "packed", tmp_path / "made/cifar-10-batches-py", data_files._take_out
    place.mkdir()
    archive = place / "cifar-10-python.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(made, made.name)
    monkeypatch.setattr(CIFAR10, "tgz_md5", hashlib.md5(archive.read_bytes()).hexdigest())

    def second(*words):
        unpack(*words)
        shutil.copytree(made, place / made.name)  # the first was done just before

    monkeypatch.setattr(data_files, "_take_out", second)
    dataset = load_dataset("cifar10", place, log=pytest.fail)
    np.testing.assert_array_equal(dataset.train_images.numpy(), cifar[:50])
    assert names_in(place) == [made.name, archive.name]


@pytest.mark.parametrize("name", ["data_batch_3", "test_batch", "batches.meta"])
def test_damaged_cifar_batch_is_named_and_never_unpickled(tmp_path, cifar, name):
    path = tmp_path / "made/cifar-10-batches-py" / name
    path.write_bytes(pickle.dumps(Trap(tmp_path / "sprung")))
    message = problem(load_dataset, "cifar10", tmp_path / "made", log=pytest.fail)
    assert f"'{path}'" in message and "wrong MD5" in message and "delete" in message
    assert not (tmp_path / "sprung").exists()
    path.unlink()
    message = problem(load_dataset, "cifar10", tmp_path / "made")
    assert f"'{path}' is missing" in message


def test_damaged_batches_are_not_passed_over_for_class_folders(tmp_path, cifar):
    write_tree(tmp_path / "made/cifar10", split=True, size=(32, 32))
    (tmp_path / "made/cifar-10-batches-py/test_batch").write_bytes(b"")
    assert "test_batch" in problem(load_dataset, "cifar10", tmp_path / "made")


def test_nothing_at_hand(tmp_path):
    message = problem(load_dataset, "cifar10", tmp_path)
    for part in (
        "cifar-10-batches-py",
        "cifar-10-python.tar.gz",
        "cifar10/{train,test}",
        "no network here",
        "put one",
    ):
        assert part in message
    message = problem(load_dataset, "fashion-mnist", tmp_path)
    assert "FashionMNIST/raw" in message and "no network here" in message


# ------------------------------------------------------------------------------------- class folders in its place


@pytest.mark.parametrize("suffix, word", [(".jpg", "JPEG copy (re-encoded, not the original"), (".png", "(PNG)")])
def test_cifar_class_folders(tmp_path, suffix, word):
    names = dict.fromkeys(reversed(data.CIFAR_CLASSES))
    write_tree(tmp_path / "cifar10", True, suffix, (32, 32), 2, names)
    dataset = load_dataset("cifar10", tmp_path, log=pytest.fail)
    assert dataset.classes == data.CIFAR_CLASSES == tuple(sorted(data.CIFAR_CLASSES))
    assert word in dataset.source and str(tmp_path) not in dataset.source and "ten names" not in dataset.source
    assert dataset.train_labels.tolist() == dataset.test_labels.tolist() == sorted(2 * list(range(10)))
    for images, labels, part in ((*dataset[3:5], "train"), (*dataset[5:7], "test")):
        for i, label in enumerate(labels):
            reference = Image.open(tmp_path / "cifar10" / part / dataset.classes[label] / f"{i % 2}{suffix}")
            np.testing.assert_array_equal(images[i].numpy(), np.asarray(reference).transpose(2, 0, 1))


def test_cifar_source_tells_what_is_odd(tmp_path):
    write_tree(tmp_path / "cifar10", False, size=(32, 32), each=20)
    assert "not CIFAR-10's ten names; split 80/20" in load_dataset("cifar10", tmp_path).source
    odd = tmp_path / "cifar10" / "red" / "odd.png"
    write_image(odd, (1, 2, 3), (33, 32))
    message = problem(load_dataset, "cifar10", tmp_path)
    assert f"'{odd}'" in message and "33x32" in message


def test_a_disguised_jpeg_is_still_called_a_jpeg(tmp_path):
    write_tree(tmp_path / "cifar10", True, size=(32, 32))
    write_image(tmp_path / "cifar10/train/red/x.jpg", (1, 2, 3), (32, 32))
    (tmp_path / "cifar10/train/red/x.jpg").rename(tmp_path / "cifar10/train/red/x.png")
    assert "JPEG and PNG copy (re-encoded" in load_dataset("cifar10", tmp_path).source
