"""The cache of a decoded folder: used again, rebuilt when anything changes, and never trusted."""

import os
import pickle

import numpy as np
import pytest

import data_folders
import runs
from data import load_dataset
from data_helpers import Trap, write_image, write_tree

pytestmark = pytest.mark.usefixtures("no_network")


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
    killed = f".{cache.name}.{runs._machine()}-999999999-0.partial"  # what a process then leaves
    (folder / killed).write_bytes(b"half")
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
    assert len(loaded.train_images) == 12 and len(lines) == 2 and "are not kept" in lines[0]
