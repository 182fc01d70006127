"""Broken and forged IDX files and archives of CIFAR-10: one clear line, and nothing out of their folder."""

import gzip
import hashlib
import io
import tarfile
from pathlib import Path

import numpy as np
import pytest

import data_files
from damage_helpers import FLIPS, flip
from data import DataError, load_dataset
from data_helpers import idx_bytes

pytestmark = pytest.mark.usefixtures("no_hang")


# ------------------------------------------------------------------------------------- IDX files


@pytest.fixture
def digits(tmp_path):
    """Tiny MNIST files in tmp_path/digits."""
    random = np.random.default_rng(0)
    for name, count in zip(data_files.IDX_FILES, (40, 40, 20, 20)):
        labels = "labels" in name
        array = np.arange(count) % 10 if labels else random.integers(0, 256, (count, 28, 28))
        (tmp_path / "digits").mkdir(exist_ok=True)
        (tmp_path / "digits" / name).write_bytes(idx_bytes(array.astype(np.uint8)))
    return tmp_path / "digits"


def idx_cuts():
    for name, header in zip(data_files.IDX_FILES[:2], (16, 8)):
        for place in (0, 1, 2, 3, 4, 7, 8, header, header + 1, -1):
            if place <= header + 1:
                yield name, place
        for bit in range(0, 8 * header, 4):
            yield name, (bit,)


@pytest.mark.parametrize(("name", "place"), list(idx_cuts()))
def test_idx_files_cut_or_flipped_in_their_header(digits, name, place):
    path = digits / name
    raw = bytearray(path.read_bytes())
    if isinstance(place, tuple):
        raw[place[0] // 8] ^= 1 << place[0] % 8
    else:
        raw = raw[:place]
    path.write_bytes(raw)
    with pytest.raises(DataError) as caught:
        load_dataset("mnist", digits, download=False, log=str)
    assert str(path) in str(caught.value) and str(caught.value).isprintable()


@pytest.mark.parametrize("index", range(FLIPS))
def test_zipped_idx_files_with_a_flipped_bit(digits, index):
    good = load_dataset("mnist", digits).fingerprint
    path = digits / data_files.IDX_FILES[0]
    packed = gzip.compress(path.read_bytes(), mtime=0)
    path.unlink()
    path.with_name(f"{path.name}.gz").write_bytes(flip(packed, index))
    try:
        assert load_dataset("mnist", digits, download=False, log=str).fingerprint == good
    except DataError as error:
        assert str(path) in str(error) and str(error).isprintable()


# ------------------------------------------------------------------------------------- CIFAR-10's archive


def member(name: str, body: bytes = b"", kind: bytes = tarfile.REGTYPE, link: str = "") -> tuple:
    entry = tarfile.TarInfo(name)
    entry.size, entry.type, entry.linkname = len(body), kind, link
    return entry, body


FOLDER = data_files.CIFAR_BATCHES
ARCHIVES = {
    "nothing": [], "other-files": [member("readme.txt", b"x")], "one-batch": [member(f"{FOLDER}/data_batch_1", b"x")],
    "upwards": [member("../escaped", b"x")], "absolute": [member("/tmp/escaped-by-cifar", b"x")],
    "upwards-within": [member(f"{FOLDER}/../../escaped", b"x")],
    "a-link-out": [member(FOLDER, kind=tarfile.SYMTYPE, link=".."), member(f"{FOLDER}/escaped", b"x")],
    "a-batch-links-out": [member(f"{FOLDER}/data_batch_1", kind=tarfile.SYMTYPE, link="/etc/passwd")],
    "a-batch-links-to-itself": [member(f"{FOLDER}/data_batch_1", kind=tarfile.SYMTYPE, link="data_batch_1")],
    "a-hard-link": [member(f"{FOLDER}/data_batch_1", kind=tarfile.LNKTYPE, link="/etc/passwd")],
    "a-folder-for-a-batch": [member(f"{FOLDER}/data_batch_1", kind=tarfile.DIRTYPE)],
    "a-pipe-for-a-batch": [member(f"{FOLDER}/data_batch_1", kind=tarfile.FIFOTYPE)],
    "a-device": [member(f"{FOLDER}/data_batch_1", kind=tarfile.CHRTYPE)],
    "wrong-batches": [member(f"{FOLDER}/{name}", b"x") for name in
                      (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch", "batches.meta")],
}  # fmt: skip


@pytest.mark.parametrize("cut", [None, 0.5, -9, 15])
@pytest.mark.parametrize("kind", ARCHIVES)
def test_forged_archives_stay_in_their_folder(tmp_path, monkeypatch, kind, cut):
    from torchvision.datasets import CIFAR10

    place = tmp_path / "deep" / "data"
    place.mkdir(parents=True)
    archive = place / data_files.CIFAR_ARCHIVE
    with tarfile.open(archive, "w:gz") as tar:
        for entry, body in ARCHIVES[kind]:
            tar.addfile(entry, io.BytesIO(body))
    if cut is not None:
        raw = archive.read_bytes()
        archive.write_bytes(raw[: int(cut * len(raw)) if isinstance(cut, float) else cut])
    monkeypatch.setattr(CIFAR10, "tgz_md5", hashlib.md5(archive.read_bytes()).hexdigest())  # as if it were the original
    with pytest.raises(DataError) as caught:
        load_dataset("cifar10", place, download=False)
    assert str(caught.value).isprintable()
    found = {path.name for path in tmp_path.rglob("*")} - {FOLDER, *(m[0].name.split("/")[-1] for m in ARCHIVES[kind])}
    assert found == {"deep", "data", archive.name} and not Path("/tmp/escaped-by-cifar").exists()
    if kind != "wrong-batches":
        assert [path.name for path in place.iterdir()] == [archive.name]


def test_a_name_that_no_folder_can_have_is_one_clear_line():
    with pytest.raises(DataError, match=r"too long.*--data-dir"):
        load_dataset("mnist", Path("a" * 300), None)
