"""Broken and forged arrays of a run: one clear line, or the right figures."""

import pickle
import struct
import tracemalloc
import zipfile

import numpy as np
import pytest

import plot_embeddings
from command_helpers import assert_refused, content
from damage_helpers import FLIPS, boundaries, flip, repacked, spread
from results_helpers import FIGURES, strip_figures
from runs import read_arrays, read_json, write_json

pytestmark = pytest.mark.usefixtures("no_hang")


@pytest.mark.parametrize("index", range(25))
def test_arrays_cut_at_a_boundary(run, measure, tmp_path, index):
    strip_figures(run)
    path = run / "embeddings.npz"
    raw = path.read_bytes()
    path.write_bytes(raw[: spread(boundaries(raw), 25, index)])
    assert_refused(measure(run), path)
    assert not (tmp_path / "figures").exists()


@pytest.mark.parametrize("index", range(FLIPS))
def test_arrays_with_a_flipped_bit(run, measure, index):
    whole, path = strip_figures(run), run / "embeddings.npz"
    path.write_bytes(flip(path.read_bytes(), index))
    before = content(run)
    done = measure(run)
    if done.status == 0:
        facts = read_json(run / "metrics.json")
        assert {name: facts[name] for name in FIGURES} == {name: whole[name] for name in FIGURES}
    else:
        assert_refused(done, run)
        assert content(run) == before


def npy(dtype: str, shape: str, body: bytes = b"", version: bytes = b"\1\0") -> bytes:
    header = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}".encode().ljust(117) + b"\n"
    return b"\x93NUMPY" + version + struct.pack("<H", len(header)) + header + body


FORGED_ARRAYS = {
    "terabytes": npy("<f4", "(1000000000000, 4)"), "gigabytes": npy("<f4", "(4000000000, 4)"),
    "more-than-a-number": npy("<f4", "(99999999999999999999, 4)"), "negative": npy("<f4", "(-32, 4)"),
    "negative-twice": npy("<f4", "(-32, -4)", bytes(512)), "too-little": npy("<f4", "(32, 4)", bytes(511)),
    "wide-text": npy("<U1000000000", "(32, 4)"), "objects": npy("|O", "(32, 4)", pickle.dumps([0] * 128)),
    "complex": npy("<c8", "(32, 4)", bytes(1024)), "dates": npy("<M8[s]", "(32, 4)", bytes(1024)),
    "booleans": npy("|b1", "(32, 4)", bytes(128)), "bytes": npy("|S4", "(32, 4)", bytes(512)),
    "code-for-a-shape": npy("<f4", "__import__('os')"), "no-such-type": npy("<z9", "(32, 4)"),
    "version-9": npy("<f4", "(32, 4)", bytes(512), b"\x09\0"), "no-header": b"\x93NUMPY\1\0\0\0",
    "not-an-array": b"text", "nothing": b"", "three-axes": npy("<f4", "(32, 4, 1)", bytes(512)),
    "a-number": npy("<f4", "()", bytes(4)), "nothing-wide": npy("<f4", "(32, 0)"),
    "infinite": npy("<f4", "(32, 4)", np.full(128, np.inf, "<f4").tobytes()),
}  # fmt: skip


@pytest.mark.parametrize("kind", FORGED_ARRAYS)
@pytest.mark.parametrize("name", ["embeddings", "weights"])
def test_forged_arrays(run, measure, command, tmp_path, kind, name):
    strip_figures(run)
    path = run / "embeddings.npz"
    path.write_bytes(repacked(path.read_bytes(), lambda n, part: FORGED_ARRAYS[kind] if n == f"{name}.npy" else part))
    before = content(run)
    assert_refused(measure(run), run)
    assert_refused(command(plot_embeddings.main, run, "--figures-dir", tmp_path / "figures"))
    assert content(run) == before and not (tmp_path / "figures").exists()


def test_an_npz_bomb_takes_no_memory(run, measure):
    strip_figures(run)
    path = run / "embeddings.npz"
    bomb = npy("<f4", "(25000000, 4)", bytes(400_000_000))
    packed = repacked(path.read_bytes(), lambda n, p: bomb if n == "embeddings.npy" else p, zipfile.ZIP_DEFLATED)
    path.write_bytes(packed)
    assert path.stat().st_size < 1_000_000
    tracemalloc.start()
    try:
        assert_refused(measure(run), path)
        assert tracemalloc.get_traced_memory()[1] < 30_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("count", [5, 100_000])
def test_forged_class_weights_ask_for_no_matrix_of_their_size(run, measure, count):
    strip_figures(run)
    arrays = read_arrays(run / "embeddings.npz")
    np.savez(run / "embeddings.npz", **arrays | {"weights": np.ones((count, 4), np.float32)})
    assert_refused(measure(run), run, "do not fit")


@pytest.mark.parametrize("value", [3e38, 1e-45])
def test_extreme_embeddings_are_drawn_or_refused(run, command, tmp_path, value):
    arrays = read_arrays(run / "embeddings.npz")
    arrays = {"embeddings": np.full((32, 2), value), "labels": arrays["labels"], "weights": np.ones((4, 2))}
    np.savez(run / "embeddings.npz", **arrays)
    write_json(run / "metrics.json", {**read_json(run / "metrics.json"), "embedding_dim": 2})
    done = command(plot_embeddings.main, run, "--figures-dir", tmp_path / "figures")
    if done.status:
        assert_refused(done)
    else:
        assert done.err == "" and len(list((tmp_path / "figures").iterdir())) == 1
