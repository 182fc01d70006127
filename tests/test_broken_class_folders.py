"""Broken and odd class folders and caches of them: one clear line, or the right images."""

import io
import os
import shutil
import struct

import numpy as np
import pytest
from PIL import Image

import plot_embeddings
from command_helpers import assert_refused
from damage_helpers import GOOD_PNG, png
from data import load_dataset
from runs import read_json

pytestmark = pytest.mark.usefixtures("no_hang")


def huge_png(side: int) -> bytes:
    import zlib

    body = b"IHDR" + struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return png()[:8] + struct.pack(">I", 13) + body + struct.pack(">I", zlib.crc32(body)) + png()[33:]


def a_file(name: str, raw: bytes):
    return lambda folder: (folder / "train" / "disc" / name).write_bytes(raw)


BAD_MEMBERS = {
    "empty": a_file("x.png", b""), "text": a_file("x.jpg", b"hello"), "signature": a_file("x.png", GOOD_PNG[:8]),
    **{f"png-cut-{place}": a_file("x.png", GOOD_PNG[:place])
       for place in (12, 20, 33, 37, 45, 200, len(GOOD_PNG) // 2)},
    "html": a_file("x.png", b"<!doctype html>"), "postscript": a_file("x.jpg", b"%!PS-Adobe-3.0 EPSF-3.0\n"),
    "svg": a_file("x.png", b"<svg xmlns='http://www.w3.org/2000/svg'/>"), "pdf": a_file("x.png", b"%PDF-1.7\n"),
    "zip": a_file("x.png", b"PK\3\4" + bytes(99)), "huge": a_file("x.png", huge_png(100_000)),
    "wide": a_file("x.png", huge_png(2**31 - 1)), "no-size": a_file("x.png", huge_png(0)),
    "riff": a_file("x.webp", b"RIFF\xff\xff\xff\xffWEBPVP8 \xff\xff\xff\xff"),
    "tiff": a_file("x.tif", b"II*\0\xff\xff\xff\xff"),
    "bmp": a_file("x.bmp", b"BM" + b"\xff" * 60), "ppm": a_file("x.ppm", b"P6 999999999 999999999 255\n"),
    "ppm-of-text": a_file("x.ppm", b"P3 2 2 255\nred green"), "gif": a_file("x.png", b"GIF89a\xff\xff\xff\xff"),
    "newline-in-class": lambda f: shutil.copytree(f / "train" / "disc", f / "train" / "two\nlines"),
    "escape-in-class": lambda f: shutil.copytree(f / "train" / "disc", f / "train" / "a\x1b[2Jb"),
    "class-no-utf-8": lambda f: shutil.copytree(f / "train" / "disc", os.fsdecode(os.fsencode(f) + b"/train/caf\xe9")),
    "both-no-utf-8": lambda f: [shutil.copytree(f / p / "disc", os.fsdecode(os.fsencode(f / p) + b"/caf\xe9"))
                                for p in ("train", "test")],
    "link-to-itself": lambda f: (f / "train" / "disc" / "x.png").symlink_to("x.png"),
    "class-links-to-itself": lambda f: (f / "train" / "x").symlink_to("x"),
    "link-out": lambda f: (f / "train" / "disc" / "x.png").symlink_to("/etc/passwd"),
    "class-links-out": lambda f: (f / "train" / "x").symlink_to("/etc"),
    "newline-in-bad-file": a_file("two\nlines.png", b""), "bad-file-no-utf-8": a_file("caf\udce9.png", b""),
    "test-class-empty": lambda f: [path.unlink() for path in (f / "test" / "disc").iterdir()],
}  # fmt: skip
ODD_MEMBERS = {
    "folder-called-png": lambda f: (f / "train" / "disc" / "x.png").mkdir(),
    "pipe": lambda f: os.mkfifo(f / "train" / "disc" / "x.png"),
    "broken-link": lambda f: (f / "train" / "disc" / "x.png").symlink_to(f / "train" / "disc" / "nowhere.png"),
    "newline-in-file": a_file("two\nlines.png", GOOD_PNG), "file-no-utf-8": a_file("caf\udce9.png", GOOD_PNG),
    "leading-dash": a_file("-rf.png", GOOD_PNG), "long-name": a_file("x" * 250 + ".png", GOOD_PNG),
    "jpeg-called-png": a_file("x.png", GOOD_PNG), "hidden": a_file(".x.png", b""), "notes": a_file("notes.txt", b"x"),
    "gif-of-many": a_file("x.png", b""),
    "upper-case": a_file("X.PNG", GOOD_PNG),
}  # fmt: skip
ODD_CLASSES = (
    "-rf",
    "$\\alpha$",
    "a$b$c",
    "多い",
    "two words",
    "%s{}",
    "'quotes\"",
    "x..",
    "x" * 200,
    "☃",
    "a|b",
    "__",
)


def animation() -> bytes:
    frames, buffer = [Image.new("P", (16, 16), i) for i in range(3)], io.BytesIO()
    frames[0].save(buffer, "GIF", save_all=True, append_images=frames[1:])
    return buffer.getvalue()


@pytest.fixture
def pictures(tiny_data, tmp_path):
    shutil.copytree(tiny_data, tmp_path / "pictures", ignore=shutil.ignore_patterns(".*"))
    return tmp_path / "pictures"


@pytest.mark.parametrize("kind", BAD_MEMBERS)
def test_broken_class_folders(pictures, train_tiny, tmp_path, kind):
    BAD_MEMBERS[kind](pictures)
    assert_refused(train_tiny(tmp_path / "runs", data=pictures), pictures)
    assert not (tmp_path / "runs").exists() and not list(pictures.glob(".decoded*"))


@pytest.mark.parametrize("kind", ODD_MEMBERS)
def test_odd_but_sound_class_folders(pictures, kind):
    ODD_MEMBERS[kind](pictures)
    if kind == "gif-of-many":
        (pictures / "train" / "disc" / "x.png").write_bytes(animation())
    known = kind not in ("folder-called-png", "pipe", "broken-link", "hidden", "notes")
    dataset = load_dataset("folder", pictures, 16, log=str)
    assert len(dataset.train_images) == 96 + known and len(dataset.test_images) == 32


@pytest.mark.parametrize("name", ODD_CLASSES)
def test_odd_class_names_come_out_right(pictures, train_tiny, command, tmp_path, name):
    for part in ("train", "test"):
        (pictures / part / "disc").rename(pictures / part / name)
    done = train_tiny(tmp_path / "runs", "--epochs", 1, "--embedding-dim", 2, "--name", "run", data=pictures)
    assert done.status == 0 and name in done.out, done.err
    assert name in read_json(tmp_path / "runs" / "run" / "metrics.json")["classes"]
    drawn = command(plot_embeddings.main, tmp_path / "runs" / "run", "--figures-dir", tmp_path / "figures")
    assert drawn.status == 0 and len(list((tmp_path / "figures").iterdir())) == 1


FORGED_CACHES = {
    "labels-beyond": {"labels": np.full(128, 99)}, "labels-below": {"labels": np.full(128, -1)},
    "no-test-images": {"n": np.array(128)}, "no-training-images": {"n": np.array(0)}, "n-of-text": {"n": np.array("x")},
    "n-beyond": {"n": np.array(10**9)}, "n-nan": {"n": np.array(np.nan)}, "two-n": {"n": np.array([96, 96])},
}  # fmt: skip


@pytest.mark.parametrize("kind", [*FORGED_CACHES, "compressed"])
def test_a_forged_cache_is_rebuilt(pictures, kind):
    good = load_dataset("folder", pictures, 16, log=str)
    cache = next(pictures.glob(".decoded*"))
    with np.load(cache) as file:
        arrays = dict(file)
    (np.savez_compressed if kind == "compressed" else np.savez)(cache, **arrays | FORGED_CACHES.get(kind, {}))
    assert load_dataset("folder", pictures, 16, log=str).fingerprint == good.fingerprint
    with np.load(cache) as file:
        np.testing.assert_array_equal(file["labels"], arrays["labels"])
