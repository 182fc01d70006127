"""Data sets as tests need them: tiny IDX files and class folders, and what their errors say."""

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import data_files
from data import DataError

COLOURS = {"red": (220, 20, 30), "green": (10, 200, 40), "blue": (30, 20, 210)}
IMAGES, LABELS = data_files.IDX_FILES[:2]


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def problem(function, *args, **kwargs) -> str:
    """The message of the DataError that the call must raise: one line that is no mere path."""
    with pytest.raises(DataError) as caught:
        function(*args, **kwargs)
    message = str(caught.value)
    assert "\n" not in message and 20 < len(message) < 600
    return message


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


class Trap:
    """Unpickling this creates the file."""

    def __init__(self, path: Path):
        self.path = str(path)

    def __reduce__(self):
        return open, (self.path, "w")


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
