"""Image files on disk: class folders decoded into one array (and cached), and single pictures for prediction.

Every picture, whatever its size and mode, becomes uint8 RGB (or grey) of one square size: EXIF orientation
applied, transparency laid on white, 16-bit greys scaled to 8 bits, short side fitted, centre cropped.
"""

import hashlib
import os
import stat
import unicodedata
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from errors import UserError, one_line
from runs import RunError, check_archive, write_whole

# Those of torchvision.datasets.folder, copied, as importing torchvision takes a second or two; and JPEG's rarer ones.
IMAGE_EXTENSIONS = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp", ".jfif", ".jpe")
OTHER_IMAGES = (".gif", ".heic", ".heif", ".avif", ".jxl", ".jp2", ".svg", ".psd", ".dng")  # said to be passed over
# What a file may turn out to be, whatever it is called. No format for which Pillow starts a program (EPS).
FORMATS = ("JPEG", "PNG", "PPM", "BMP", "TIFF", "WEBP", "GIF")
TEST_SHARE = 5  # one image in five is a test image where the user made no split
DECODE_CHUNK = 256  # images a worker decodes before it asks for more
SLOW_DECODE = 2000  # images that take long enough to say so
MAX_DECODED_BYTES = 8 << 30  # all images are kept in memory; beyond this, ask for a smaller --image-size
CACHE_VERSION = 2  # raise it when decoding or the order of classes changes, so that old caches are rebuilt


class DataError(UserError):
    """A user's problem with data."""


class FolderImages(NamedTuple):
    """Decoded class folders: uint8 [N, 3, size, size] with int64 [N] labels."""

    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray
    classes: tuple[str, ...]
    formats: tuple[str, ...]  # found inside the files, such as ('JPEG', 'PNG')
    given_split: bool  # True for train/ and test/ folders, False for a split made here


class ImageFile(NamedTuple):
    path: str  # relative to the root, '/' between the parts
    label: int
    size: int  # bytes
    mtime_ns: int


# ------------------------------------------------------------------------------------- finding the files


def _visible(folder: Path, root: Path) -> list[os.DirEntry]:
    """What a folder holds, sorted by name, without hidden entries.

    Raises DataError for a link that leaves the data folder: only what lies in it is trained on.
    """
    with os.scandir(folder) as entries:
        visible = sorted((e for e in entries if not e.name.startswith(".")), key=lambda e: e.name)
    for entry in visible:
        # Unlike Path.resolve, realpath leaves links in a circle to what is then asked of the entry.
        if entry.is_symlink() and not Path(os.path.realpath(entry.path)).is_relative_to(root.resolve()):
            remedy = "copy the files in, or give the folder it points to with --data-dir"
            raise DataError(f"'{entry.path}' is a link to outside the data folder: {remedy}")
    return visible


def _subfolders(folder: Path, root: Path) -> tuple[str, ...]:
    return tuple(entry.name for entry in _visible(folder, root) if entry.is_dir())


def _list_classes(root: Path, part: str, log: Callable) -> tuple[tuple[str, ...], list[ImageFile]]:
    """Classes and image files of root/part, sorted; part is 'train/', 'test/' or '' (the root itself)."""
    # An accent may be stored with its letter or after it (macOS): train/ and test/ are to agree all the same.
    named = sorted((unicodedata.normalize("NFC", name), name) for name in _subfolders(root / part, root))
    classes, folders = tuple(name for name, _ in named), [folder for _, folder in named]
    if len(folders) < 2:
        found = f"only the class folder '{folders[0]}'" if folders else "no class folder"
        raise DataError(f"'{root / part}' holds {found}: add others, one folder of images for each class")
    if len(set(classes)) < len(classes):
        name = next(name for name in classes if classes.count(name) > 1)
        raise DataError(f"'{root / part}' has two class folders named '{name}': move the images of one to the other")
    files: list[ImageFile] = []
    others: list[str] = []
    astray = _images_in(root / part, root)  # beside the class folders
    for label, name in enumerate(folders):
        folder = root / part / name
        if not name.isprintable():  # it would go into tables, figures and file names
            raise DataError(f"the class folder '{folder}' has a name of other than printable UTF-8: rename it")
        before, passed_over = len(files), len(others)
        for entry in _visible(folder, root):
            if entry.name.lower().endswith(IMAGE_EXTENSIONS) and entry.is_file():
                status = entry.stat()
                path = f"{part}{name}/{entry.name}"
                files.append(ImageFile(path, label, status.st_size, status.st_mtime_ns))
            elif entry.name.lower().endswith(OTHER_IMAGES):
                others.append(f"{part}{name}/{entry.name}")
            elif entry.is_dir():
                astray += _images_in(Path(entry.path), root)  # deeper than in one
        if len(files) == before:
            what, remedy = _in_place_of_images(folder, root, len(others) - passed_over)
            raise DataError(f"the class folder '{folder}' holds no image{what}: {remedy}")
    kinds = " ".join(IMAGE_EXTENSIONS)
    for passed, where, remedy in ((others, "of other kinds", f"convert to one of {kinds}"),
                                  (astray, "not right in a class folder", "move them into one")):  # fmt: skip
        if passed:
            count = f"{len(passed):,} image{'s' * (len(passed) > 1)}"
            log(f"passed over {count} {where}, such as '{one_line(passed[0])}': {remedy}")
    return classes, files


def _images_in(folder: Path, root: Path) -> list[str]:
    """Image files right in `folder`, sorted, relative to root; not opened, so that links may lead anywhere."""
    with os.scandir(folder) as entries:
        names = sorted(e.name for e in entries if e.is_file() and not e.name.startswith("."))
    shown = folder.relative_to(root)
    return [(shown / name).as_posix() for name in names if name.lower().endswith(IMAGE_EXTENSIONS)]


def _in_place_of_images(folder: Path, root: Path, other_kinds: int) -> tuple[str, str]:
    """What a class folder without images holds, and what to do; other_kinds: how many images that are not read."""
    if other_kinds:
        return f" but {other_kinds:,} of other kinds", f"convert them to one of {' '.join(IMAGE_EXTENSIONS)}"
    if _subfolders(folder, root):
        where = "DIR/CLASS/, or in DIR/train/CLASS/ and DIR/test/CLASS/, in small letters"
        return " but folders", f"images lie in {where}"
    return "", "add images to it, or remove it"


def _list_files(root: Path, log: Callable) -> tuple[tuple[str, ...], list[ImageFile], int | None]:
    """Classes, image files, and how many of them (the first ones) are for training; None: yet to be split."""
    if not root.is_dir():
        raise DataError(f"no such folder: '{root}'; name the one with your class folders with --data-dir")
    # A folder of images that happens to be called 'train' is a class; one of folders is a part.
    parts = [p for p in ("train", "test") if (root / p).is_dir() and _subfolders(root / p, root)]
    if not parts:
        return *_list_classes(root, "", log), None
    if len(parts) == 1:
        other = "test" if parts == ["train"] else "train"
        remedy = f"add {other}/CLASS/*, or move the class folders up to have them split 80/20"
        raise DataError(f"'{root}' has class folders in {parts[0]}/ but none in {other}/: {remedy}")
    (classes, train), (test_classes, test) = (_list_classes(root, f"{part}/", log) for part in parts)
    if classes != test_classes:
        odd = sorted(set(classes) ^ set(test_classes))
        only = ", ".join(f"'{name}' only in {'train' if name in classes else 'test'}/" for name in odd)
        raise DataError(f"the classes in '{root}' differ ({only}): give train/ and test/ the same class folders")
    return classes, train + test, len(train)


def _split_by_content(
    root: Path, classes: Sequence[str], files: list[ImageFile], log: Callable
) -> tuple[list[ImageFile], int]:
    """Orders files as training, then test; returns the order and the number of training files.

    An image is for testing when the sha256 of its file's bytes (the first eight of it) is divisible by five.
    So no image moves when others are added or renamed, and exact copies always land on the same side.
    """
    train: list[ImageFile] = []
    test: list[ImageFile] = []
    for file in files:
        digest = hashlib.sha256((root / file.path).read_bytes()).digest()
        (train if int.from_bytes(digest[:8], "big") % TEST_SHARE else test).append(file)
    remedy = "add images, or make train/ and test/ folders yourself"
    if not test:
        raise DataError(f"the 80/20 split of the {len(files)} images in '{root}' left none for testing: {remedy}")
    trained, tested = {file.label for file in train}, {file.label for file in test}
    for label, name in enumerate(classes):
        if label not in trained:
            raise DataError(f"the 80/20 split left no training image of '{root / name}': {remedy}")
        if label not in tested:
            log(f"the 80/20 split left no test image of '{root / name}': {remedy}")
    return train + test, len(train)


# ------------------------------------------------------------------------------------- decoding


def _flatten(image, mode: str):
    """Any Pillow mode → 'RGB' or 'L', without the losses of Pillow's own conversion."""
    from PIL import Image

    if image.mode == "F":
        raise ValueError("its pixels are floating-point numbers of unknown range; save it with 8 bits")
    if image.mode.startswith("I"):  # 16-bit greys: Pillow would clip everything above 255 to white
        values = np.clip(np.asarray(image).astype(np.int64), 0, 65535)
        image = Image.fromarray(((values + 128) // 257).astype(np.uint8))
    if image.has_transparency_data:  # what lies under transparent pixels is arbitrary, often black
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert(mode)


def _decode(path: str | Path, mode: str, size: int, exact: bool = False) -> tuple[np.ndarray, str]:
    """One file → uint8 [size, size, 3] (mode 'RGB') or [size, size] ('L'), and the format found inside."""
    from PIL import Image, ImageOps

    try:
        if stat.S_ISFIFO(Path(path).stat().st_mode):  # opening it would block for ever
            raise ValueError("it is a pipe")
        with Image.open(path, formats=FORMATS) as image:
            found = image.format or "unknown"
            if exact and image.size != (size, size):
                raise ValueError(f"{image.width}x{image.height} pixels, not {size}x{size}")
            image.draft(None, (2 * size, 2 * size))  # large JPEGs decode several times faster when reduced
            ImageOps.exif_transpose(image, in_place=True)
            flat = _flatten(image, mode)
            if flat.size != (size, size):
                flat = ImageOps.fit(flat, (size, size))
            return np.asarray(flat), found
    except FileNotFoundError:
        raise DataError(f"no such image: '{path}'; check the name") from None
    except IsADirectoryError:
        raise DataError(f"'{path}' is a folder, not an image: name the image files") from None
    except (Image.DecompressionBombWarning, Image.DecompressionBombError):
        limit = f"{Image.MAX_IMAGE_PIXELS:,}"
        raise DataError(f"'{path}' has more than {limit} pixels: scale it down, or remove it") from None
    except Image.UnidentifiedImageError:
        raise DataError(f"'{path}' is not an image that can be read: replace or remove it") from None
    except MemoryError:
        raise
    except Exception as error:  # damaged files bring up nearly every exception there is
        raise DataError(f"cannot read the image '{path}' ({error}): replace or remove it") from None


def _decode_all(
    paths: Sequence[str | Path], channels: int, size: int, exact: bool = False
) -> tuple[np.ndarray, set[str]]:
    """All files → uint8 [N, channels, size, size] in the order given, and the set of formats found."""
    from PIL import Image

    mode = {1: "L", 3: "RGB"}[channels]
    need = len(paths) * channels * size * size
    if need > MAX_DECODED_BYTES:
        what = f"{len(paths):,} images of {size}x{size} pixels take {need / 2**30:.1f} GiB of memory"
        raise DataError(f"{what}, over the limit of {MAX_DECODED_BYTES >> 30}: choose a smaller --image-size")
    out = np.empty((len(paths), channels, size, size), dtype=np.uint8)

    def decode_chunk(start: int) -> set[str]:
        formats = set()
        for i in range(start, min(start + DECODE_CHUNK, len(paths))):
            pixels, found = _decode(paths[i], mode, size, exact)
            out[i] = pixels.transpose(2, 0, 1) if channels == 3 else pixels
            formats.add("JPEG" if found == "MPO" else found)  # MPO: a phone's JPEG with a preview attached
        return formats

    with warnings.catch_warnings():  # here and not in the threads, since it holds for all of them
        warnings.simplefilter("ignore")  # remarks on harmless oddities of metadata
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
            jobs = [pool.submit(decode_chunk, start) for start in range(0, len(paths), DECODE_CHUNK)]
            try:
                return out, set().union(*(job.result() for job in jobs))
            except BaseException:
                pool.shutdown(cancel_futures=True)  # the first bad file is reported without decoding the rest
                raise


def read_images(paths: Sequence[str | Path], channels: int, size: int) -> torch.Tensor:
    """The user's own pictures, for prediction: uint8 [N, channels, size, size]; channels is 1 or 3.

    Any size and mode is taken: see the top of this file. Raises DataError naming the file that is missing,
    damaged, too large or no image, and for an empty list.
    """
    if not paths:
        raise DataError("no image given: name at least one file")
    return torch.from_numpy(_decode_all(list(paths), channels, size)[0])


# ------------------------------------------------------------------------------------- cache and loading


def _cache_key(files: list[ImageFile], size: int) -> str:
    """Changes with any name, size or time of a file, with the image size and with how we decode."""
    lines = [f"{CACHE_VERSION} {size}", *(f"{file.path}\0{file.size}\0{file.mtime_ns}" for file in files)]
    return hashlib.sha256("\n".join(lines).encode(errors="surrogateescape")).hexdigest()


def _read_cache(path: Path, key: str, count: int, size: int, classes: int) -> dict[str, np.ndarray] | None:
    """The cached arrays, or None where there is no usable cache."""
    try:
        check_archive(path)
        with np.load(path, allow_pickle=False) as file:
            if str(file["key"]) != key:
                return None
            cache = {name: file[name] for name in ("images", "labels", "n", "formats")}
        good = (
            cache["images"].shape == (count, 3, size, size)
            and cache["images"].dtype == np.uint8
            and cache["labels"].shape == (count,)
            and cache["labels"].dtype == np.int64
            and 0 <= cache["labels"].min() <= cache["labels"].max() < classes
            and 0 < int(cache["n"]) < count
        )
        return cache if good else None
    except Exception:  # missing or damaged in whatever way: it can be rebuilt
        return None


def _write_cache(path: Path, log: Callable, **arrays) -> None:
    """Keeps what was decoded; a full disk or a read-only folder is no error."""
    try:
        write_whole(path, lambda file: np.savez(file, **arrays))
    except RunError as error:
        log(f"the decoded images are not kept for the next run: {error}")


def load_class_folders(root: Path, cache: Path, size: int, exact: bool, log: Callable) -> FolderImages:
    """Decodes root/{train,test}/CLASS/*, or root/CLASS/* split 80/20 by content, into memory.

    The arrays are kept in the file `cache` and used again while no image file changes. With `exact` every
    image must be size x size already. Raises DataError for a missing folder, fewer than two classes, an empty
    class, classes that differ between train and test, a damaged image, or a split without test images.
    """
    classes, files, given = _list_files(root, log)
    key = _cache_key(files, size)
    arrays = _read_cache(cache, key, len(files), size, len(classes))
    if arrays is None:
        ordered, n = (files, given) if given is not None else _split_by_content(root, classes, files, log)
        if len(files) >= SLOW_DECODE:
            log(f"decoding {len(files):,} images (once: the result is kept in {cache.name})")
        images, found = _decode_all([root / file.path for file in ordered], 3, size, exact)
        labels = np.array([file.label for file in ordered], dtype=np.int64)
        arrays = {"images": images, "labels": labels, "n": np.array(n), "formats": np.array(sorted(found))}
        _write_cache(cache, log, key=np.array(key), **arrays)
    images, labels, n = arrays["images"], arrays["labels"], int(arrays["n"])
    formats = tuple(map(str, arrays["formats"]))
    return FolderImages(images[:n], labels[:n], images[n:], labels[n:], classes, formats, given is not None)
