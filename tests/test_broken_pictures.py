"""Broken and odd pictures to predict, and odd names on a real command line."""

import contextlib
import io
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from command_helpers import assert_refused
from damage_helpers import GOOD_PNG, flip

pytestmark = pytest.mark.usefixtures("no_hang")
ROOT = Path(__file__).resolve().parent.parent


# ------------------------------------------------------------------------------------- pictures to predict


FORMATS = ("PNG", "JPEG", "GIF", "TIFF", "WEBP", "BMP", "PPM")


@pytest.mark.parametrize("damage", ["cut-1", "cut-2", "cut-3", "cut-4", "flip-0", "flip-1", "flip-2", "flip-3"])
@pytest.mark.parametrize("kind", FORMATS)
def test_damaged_pictures(finished_run, measure, tmp_path, kind, damage):
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (24, 24, 3), dtype=np.uint8)).save(buffer, kind)
    how, number = damage.split("-")
    raw = buffer.getvalue()
    path = tmp_path / "x"
    path.write_bytes(raw[: len(raw) * int(number) // 5] if how == "cut" else flip(raw, int(number)))
    done = measure(finished_run, "--images", path)
    if done.status == 0:
        assert how == "flip" or kind in ("GIF", "BMP", "PPM"), "a part of a picture was taken for all of it"
        assert done.out.startswith(f"{path}: ") and done.out.count("\n") == 1 and done.err == ""
    else:
        assert_refused(done, path)


@pytest.mark.parametrize("name", ["two\nlines.png", "a\x1b[2Jb.png", "caf\udce9.png", "--again", "x" * 300, "é ü.png"])
def test_odd_names_of_pictures(finished_run, measure, tmp_path, name):
    with contextlib.suppress(OSError):
        Image.new("RGB", (16, 16)).save(tmp_path / name, "PNG")
    done = measure(finished_run, "--images", tmp_path / name)
    if done.status:
        assert_refused(done)
    else:
        assert done.out.count("\n") == 1 and done.out[:-1].isprintable()


@pytest.mark.parametrize("kind", ["pipe", "device", "loop"])
def test_pictures_that_are_no_files(finished_run, measure, tmp_path, kind):
    path = tmp_path / "x.png"
    if kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to("/dev/null" if kind == "device" else path)
    assert_refused(measure(finished_run, "--images", path), path)


# ------------------------------------------------------------------------------------- real processes


@pytest.mark.parametrize(
    ("script", "words", "status"),
    [
        ("evaluate.py", [b"no/such/run", b"--images", b"caf\xe9\n.png"], 2),
        ("evaluate.py", [b"two\nlines"], 2),
        ("train.py", [b"--dataset", b"folder", b"--loss", b"arcface", b"--data-dir", b"caf\xe9"], 2),
        ("plot_embeddings.py", [b"caf\xe9"], 2),
        ("plot_embeddings.py", [b"--format", b"\xff\n"], 2),
    ],
)
def test_odd_names_on_a_real_command_line(tmp_path, script, words, status):
    done = subprocess.run(
        [sys.executable, ROOT / script, *words], cwd=tmp_path, capture_output=True, env={**os.environ, "LC_ALL": "C"}
    )
    assert done.returncode == status, done.stderr
    assert done.stderr.count(b"\n") == 1 and b"Traceback" not in done.stderr and done.stdout == b""
    assert list(tmp_path.iterdir()) == []


def test_a_name_that_is_no_utf_8_is_printed_all_the_same(finished_run, tmp_path):
    name = os.fsencode(tmp_path) + b"/caf\xe9.png"
    Path(os.fsdecode(name)).write_bytes(GOOD_PNG)
    words = [sys.executable, ROOT / "evaluate.py", finished_run, "--images", name]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, env={**os.environ, "PYTHONUTF8": "1"})
    assert done.returncode == 0 and done.stderr == b"" and rb"caf\udce9.png" in done.stdout


# ------------------------------------------------------------------------------------- all of them


def test_how_many_are_tried(request, capsys):
    files = {path.name for path in Path(__file__).parent.glob("test_broken_*.py")}
    tried = [item for item in request.session.items if item.fspath.basename in files]
    with capsys.disabled():
        print(f"\n{len(tried) - 2} broken or odd inputs")
    assert {item.fspath.basename for item in tried} != files or len(tried) > 200
