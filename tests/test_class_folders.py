"""One's own class folders: sizes, the split into training and test images, and every way they can be wrong."""

import hashlib
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

import data
import data_folders
from data import load_dataset
from data_helpers import COLOURS, problem, write_image, write_mnist, write_tree

pytestmark = pytest.mark.usefixtures("no_network")


def colours_of(images: torch.Tensor) -> np.ndarray:
    return images[:, :, images.shape[2] // 2, images.shape[3] // 2].numpy()


@pytest.mark.parametrize("size", [None, 16, 40])
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


def test_images_of_kinds_that_are_not_read_are_counted(tmp_path):
    write_tree(tmp_path, True)
    for name in ("a.HEIC", "b.gif"):
        (tmp_path / "train" / "red" / name).write_bytes(b"a picture")
    said = []
    assert len(load_dataset("folder", tmp_path, None, log=said.append).train_images) == 12
    assert len(said) == 1 and "2 images" in said[0] and "train/red/a.HEIC" in said[0] and ".png" in said[0]


def test_images_beside_the_class_folders_or_deeper_are_counted(tmp_path):
    write_tree(tmp_path, True)
    for name in ("train/loose.jpg", "train/red/more/a.png", "train/red/more/b.jpeg", "test/blue/old/c.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"a picture")
    said = []
    assert len(load_dataset("folder", tmp_path, None, log=said.append).train_images) == 12
    assert len(said) == 2 and "3 images not right in a class folder, such as 'train/loose.jpg': move" in said[0]
    assert "1 image not right in a class folder, such as 'test/blue/old/c.png'" in said[1]


def test_an_accent_stored_apart_from_its_letter_is_the_same_class(tmp_path):
    write_tree(tmp_path, True)
    for part, name in (("train", "gru\u0308n"), ("test", "gr\u00fcn")):
        (tmp_path / part / "green").rename(tmp_path / part / name)
    dataset = load_dataset("folder", tmp_path, None)
    assert dataset.classes == ("blue", "gr\u00fcn", "red")
    for images, labels in (dataset[3:5], dataset[5:7]):
        found = colours_of(images)[labels.numpy() == 1]
        np.testing.assert_allclose(found, [COLOURS["green"]] * len(found), atol=1)
    assert data.hold_out_classes(dataset._replace(classes=("blue", "gr\u00fcn", "red")), ["gru\u0308n"])[3] == (1,)
    write_tree(tmp_path / "twice", False, classes=["gru\u0308n", "gr\u00fcn"])
    assert "two class folders named 'gr\u00fcn'" in problem(load_dataset, "folder", tmp_path / "twice")


@pytest.mark.parametrize("accented", ["e\u0301", "\u00e9"])  # before f and behind it, as they are stored
def test_classes_are_in_the_order_of_their_names_however_an_accent_is_stored(tmp_path, accented):
    write_tree(tmp_path, True)
    for part in ("train", "test"):
        (tmp_path / part / "red").rename(tmp_path / part / accented)
        (tmp_path / part / "blue").rename(tmp_path / part / "f")
        shutil.rmtree(tmp_path / part / "green")
    dataset = load_dataset("folder", tmp_path, None)
    assert dataset.classes == ("f", "\u00e9")
    np.testing.assert_allclose(colours_of(dataset.train_images)[0], COLOURS["blue"], atol=1)
    assert dataset.train_labels.tolist() == sorted(dataset.train_labels.tolist())


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


def other_kind(root):
    for path in (root / "red").iterdir():
        path.rename(path.with_suffix(".heic"))


def one_deeper(root):
    (root / "red").rename(root / "x")
    (root / "red").mkdir()
    (root / "x").rename(root / "red" / "x")


FOLDER_ERRORS = {
    "other kind": (True, other_kind, ["red'", "no image but 20 of other kinds", "convert", ".png"]),
    "one deeper": (True, one_deeper, ["red'", "no image but folders", "DIR/train/CLASS/"]),
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
