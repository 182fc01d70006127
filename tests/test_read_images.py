"""Single pictures: every mode shows its colour, what is no picture is named, and importing data stays light."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import data
import data_folders
from data_helpers import problem, write_image

ROOT = Path(__file__).resolve().parent.parent
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


def test_extensions_are_torchvision_s_and_jpeg_s_rarer_ones():
    from torchvision.datasets.folder import IMG_EXTENSIONS

    assert set(data_folders.IMAGE_EXTENSIONS) == {*IMG_EXTENSIONS, ".jfif", ".jpe"}


def test_import_stays_light():
    code = "import sys, data; print({'torchvision', 'PIL', 'mlxtend', 'sklearn'} & set(sys.modules))"
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert result.stdout.strip() == "set()", result.stderr
