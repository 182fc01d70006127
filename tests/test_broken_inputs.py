"""Some four hundred broken, forged and odd files: each ends in one clear line or in the right result.

Never in a traceback, a hang, memory taken on a forged size, code run, or something half done. Files are cut at the
boundaries between their parts; bits are flipped at places that only the seed decides.
"""

import contextlib
import gzip
import hashlib
import io
import json
import os
import pickle
import shutil
import signal
import struct
import subprocess
import sys
import tarfile
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import data_files
import plot_embeddings
from data import DataError, load_dataset
from runs import load_checkpoint, read_arrays, read_json, write_json

ROOT = Path(__file__).resolve().parent.parent
FLIPS = 30
FIGURES = ("accuracy", "per_class_accuracy", "confusion", "angles", "angular_fisher_score", "pairs_from",
           "verification", "verification_10_fold", "retrieval")  # fmt: skip


# ------------------------------------------------------------------------------------- helpers


@pytest.fixture(autouse=True)
def no_hang():
    """Five minutes for what takes milliseconds: a reader that waits for ever fails its test and not the whole suite."""

    def expired(*_):
        pytest.fail("it hangs")

    before = signal.signal(signal.SIGALRM, expired)
    signal.alarm(300)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def assert_refused(done, *named):
    """Exit status 2 and a single printable line on stderr that holds the given words."""
    assert done.status == 2, done
    assert done.err.count("\n") == 1 and done.err.endswith("\n") and done.err[:-1].isprintable(), done.err
    assert "Traceback" not in done.err
    for word in named:
        assert str(word) in done.err


def content(folder: Path) -> dict:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def spread(places, count: int, index: int):
    """The index-th of `count` places spread evenly over a list."""
    return places[index * len(places) // count]


def flip(raw: bytes, index: int) -> bytes:
    """The bytes with one bit turned: at the front, where headers are, for every third index, else anywhere."""
    random = np.random.default_rng(index)
    place = int(random.integers(min(len(raw), 120) if index % 3 == 0 else len(raw)))
    return raw[:place] + bytes([raw[place] ^ 1 << int(random.integers(8))]) + raw[place + 1 :]


def boundaries(raw: bytes) -> list[int]:
    """Where the parts of a zip archive begin and end: of each entry its header, its data and the next one's header."""
    with zipfile.ZipFile(io.BytesIO(raw)) as archive:
        parts = archive.infolist()
        central = archive.start_dir
    starts = [part.header_offset for part in parts]
    starts += [part.header_offset + 30 + len(part.filename) for part in parts]
    return sorted({*starts, *(start + 4 for start in starts), central, central + 46, len(raw) - 22, len(raw) - 1})


def repacked(raw: bytes, change, compression=zipfile.ZIP_STORED) -> bytes:
    """The archive with every entry's bytes replaced by change(name, bytes)."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(raw)) as old, zipfile.ZipFile(out, "w", compression) as new:
        for name in old.namelist():
            new.writestr(name, change(name, old.read(name)))
    return out.getvalue()


def saved(state) -> bytes:
    buffer = io.BytesIO()
    torch.save(state, buffer)
    return buffer.getvalue()


class Touch:
    """Pickles as a call that makes a file: the proof that code was run."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.fixture
def picture(tmp_path):
    (tmp_path / "pictures").mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (20, 20, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "pictures" / "a.png")
    return tmp_path / "pictures" / "a.png"


@pytest.fixture
def resume(train_tiny, tmp_path):
    """resume(): train.py --resume on the run, made unfinished."""

    def go():
        (tmp_path / "runs" / "run" / "metrics.json").unlink(missing_ok=True)
        return train_tiny(tmp_path / "runs", "--name", "run", "--resume")

    return go


def refused_or_same(go, run, good, *named):
    """go() refuses in one line and changes nothing, or prints what the undamaged files would have given."""
    before = content(run)
    done = go()
    if done.status == 0:
        assert done.out == good and done.err == ""
    else:
        assert_refused(done, *named)
        assert content(run) == before


# ------------------------------------------------------------------------------------- checkpoints


@pytest.mark.parametrize("index", range(40))
def test_a_checkpoint_cut_at_a_boundary(run, measure, picture, index):
    path = run / "checkpoint.pt"
    raw = path.read_bytes()
    path.write_bytes(raw[: spread(boundaries(raw), 40, index)])
    assert_refused(measure(run, "--images", picture), path, "--overwrite")


@pytest.mark.parametrize("index", range(FLIPS))
def test_a_checkpoint_with_a_flipped_bit(run, measure, picture, index):
    good = measure(run, "--images", picture).out
    path = run / "checkpoint.pt"
    path.write_bytes(flip(path.read_bytes(), index))
    refused_or_same(lambda: measure(run, "--images", picture), run, good, path)


def test_flipped_weights_are_what_pytorch_alone_would_have_loaded(run):
    raw = (run / "checkpoint.pt").read_bytes()
    weight = load_checkpoint(run / "checkpoint.pt")["head"]["weight"].numpy().tobytes()
    place = raw.index(weight) + 3
    flipped = raw[:place] + bytes([raw[place] ^ 64]) + raw[place + 1 :]
    state = torch.load(io.BytesIO(flipped), weights_only=True)
    assert state["head"]["weight"].numpy().tobytes() != weight


def looped() -> list:
    loop: list = []
    loop.append(loop)
    return loop


def stretched(shape):
    return torch.zeros(1).expand(shape)


SOME = {"float64": torch.float64, "int8": torch.int8, "complex64": torch.complex64, "bool": torch.bool}
FORGED = {
    "nan-weights": lambda s: s["model"]["embed.weight"].fill_(float("nan")),
    "one-nan": lambda s: s["model"]["embed.weight"].view(-1)[3:4].fill_(float("nan")),
    "infinite-weights": lambda s: s["head"]["weight"].fill_(float("inf")),
    "nan-variance": lambda s: s["model"]["centre.running_var"].fill_(float("nan")),
    **{f"{name}-weights": lambda s, d=d: s["head"].update(weight=s["head"]["weight"].to(d))
       for name, d in SOME.items()},
    "quantised": lambda s: s["head"].update(
        weight=torch.quantize_per_tensor(s["head"]["weight"], 0.1, 0, torch.qint8)),
    "sparse": lambda s: s["head"].update(weight=s["head"]["weight"].to_sparse()),
    "no-storage": lambda s: s["head"].update(weight=s["head"]["weight"].to("meta")),
    "stretched": lambda s: s["head"].update(weight=stretched((4, 4))),
    "stretched-to-the-sky": lambda s: s["head"].update(weight=stretched((1 << 40, 4))),
    "other-shape": lambda s: s["head"].update(weight=torch.zeros(4, 5)),
    "no-rows": lambda s: s["head"].update(weight=torch.zeros(0, 4)),
    "scalar": lambda s: s["head"].update(weight=torch.tensor(1.0)),
    "text": lambda s: s["head"].update(weight="weights"),
    "number-for-name": lambda s: s["head"].update({3: torch.zeros(3)}),
    "one-too-many": lambda s: s["model"].update(more=torch.zeros(3)),
    "one-missing": lambda s: s["model"].pop("embed.weight"),
    "list-of-weights": lambda s: s.update(model=list(s["model"].values())),
    "no-weights": lambda s: s.update(model=None),
    "model-loops": lambda s: s.update(model={"embed.weight": looped()}),
    "a-loop": lambda s: s.update(more=looped()),
}  # fmt: skip
FORGED_TRAINING = {
    "epoch-of-the-future": lambda s: s.update(epoch=99), "negative-epoch": lambda s: s.update(epoch=-1),
    "text-epoch": lambda s: s.update(epoch="3"), "true-epoch": lambda s: s.update(epoch=True),
    "tensor-epoch": lambda s: s.update(epoch=torch.tensor([1, 2])), "no-epoch": lambda s: s.update(epoch=None),
    "other-epoch": lambda s: s.update(epoch=1), "no-history": lambda s: s.update(history=[]),
    "history-of-text": lambda s: s.update(history="abc"),
    "history-lacks-a-column": lambda s: s["history"][1].pop("loss"),
    "history-out-of-order": lambda s: s["history"].reverse(),
    "history-nan": lambda s: s["history"][1].update(loss=float("nan")),
    "nan-seconds": lambda s: s.update(seconds=float("nan")), "text-seconds": lambda s: s.update(seconds="x"),
    "negative-seconds": lambda s: s.update(seconds=-1.0), "random-text": lambda s: s.update(random="dice"),
    "random-short": lambda s: s.update(random=torch.zeros(3, dtype=torch.uint8)),
    "random-floats": lambda s: s.update(random=torch.zeros(5056)),
    "one-optimizer": lambda s: s["optimizer"].pop(), "swapped-optimizers": lambda s: s["optimizer"].reverse(),
    "optimizer-text": lambda s: s.update(optimizer="x"),
    "no-groups": lambda s: s["optimizer"][0].update(param_groups=[]),
    "momentum-of-another-shape": lambda s: s["optimizer"][0]["state"][0].update(momentum_buffer=torch.zeros(3)),
    "momentum-text": lambda s: s["optimizer"][0]["state"][0].update(momentum_buffer="x"),
    "no-momentum": lambda s: s["optimizer"][0]["state"][0].clear(),
    "half-of-adam": lambda s: s["optimizer"][1]["state"][0].pop("exp_avg"),
    "state-of-a-stranger": lambda s: s["optimizer"][0]["state"].update({99: {"momentum_buffer": torch.zeros(1)}}),
    "other-momentum": lambda s: s["optimizer"][0]["param_groups"][0].update(momentum=0.5),
    "text-betas": lambda s: s["optimizer"][1]["param_groups"][0].update(betas="ab"),
    "tensor-config": lambda s: s["config"].update(epochs=torch.tensor([1, 2])),
    "no-config": lambda s: s.update(config=None),
    "config-of-other-settings": lambda s: s["config"].update(seed=5), "list-config": lambda s: s.update(config=[1]),
    "tensor-fingerprint": lambda s: s.update(fingerprint=torch.zeros(2)),
}  # fmt: skip


@pytest.mark.parametrize("kind", [*FORGED, *FORGED_TRAINING])
def test_a_forged_checkpoint_does_not_go_on(run, resume, kind):
    path = run / "checkpoint.pt"
    state = torch.load(path, weights_only=True)
    (FORGED | FORGED_TRAINING)[kind](state)
    path.write_bytes(saved(state))
    (run / "metrics.json").unlink()
    before = content(run)
    assert_refused(resume(), "--overwrite")
    assert content(run) == before


FORGED_SIZES = {
    "wide": lambda c: c.update(widths=[10**9, 8, 8]), "deep": lambda c: c.update(widths=[8] * 99),
    "many-dimensions": lambda c: c.update(embedding_dim=10**12), "text-widths": lambda c: c.update(widths="abc"),
    "no-dimensions": lambda c: c.update(embedding_dim=0), "no-loss": lambda c: c.update(loss="triplet"),
    "nan-scale": lambda c: c.update(scale=float("nan")), "text-margin": lambda c: c.update(m2="x"),
    "less": lambda c: c.pop("widths"),
}  # fmt: skip


@pytest.mark.parametrize("kind", [*FORGED, *FORGED_SIZES, "zero-deviation", "wide-mean", "nan-mean", "text-mean"])
def test_a_forged_checkpoint_predicts_nothing(run, measure, picture, kind):
    path = run / "checkpoint.pt"
    state = torch.load(path, weights_only=True)
    means = {"zero-deviation": {"std": torch.zeros(3)}, "wide-mean": {"mean": stretched((1 << 40,))},
             "nan-mean": {"mean": torch.full((3,), float("nan"))}, "text-mean": {"mean": "grey"}}  # fmt: skip
    if kind in means:
        state.update(means[kind])
    elif kind in FORGED_SIZES:
        FORGED_SIZES[kind](state["config"])
    else:
        FORGED[kind](state)
    path.write_bytes(saved(state))
    assert_refused(measure(run, "--images", picture), run)


def huge_storage(name: str, raw: bytes) -> bytes:
    """A pickle that declares its storage 2^30 numbers long: the numbers of a head's 16 weights."""
    if not name.endswith("data.pkl"):
        return raw
    return raw.replace(b"K\x10t", b"J" + struct.pack("<i", 1 << 30) + b"t")


FORGED_ARCHIVES = {
    "compressed": lambda raw, canary: repacked(raw, lambda name, part: part, zipfile.ZIP_DEFLATED),
    "a-bomb": lambda raw, canary: repacked(
        raw, lambda name, part: bytes(50_000_000) if name.endswith("/data/0") else part, zipfile.ZIP_DEFLATED),
    "storage-larger-than-stored": lambda raw, canary: repacked(raw, huge_storage),
    "torchscript": lambda raw, canary: scripted(raw),
    "no-pickle": lambda raw, canary: repacked(raw, lambda name, part: b"" if name.endswith("data.pkl") else part),
    "pickle-of-noise": lambda raw, canary: repacked(
        raw, lambda name, part: np.random.default_rng(0).bytes(99) if name.endswith("data.pkl") else part),
    "pickle-that-runs-code": lambda raw, canary: repacked(
        raw, lambda name, part: pickle.dumps(Touch(canary), 2) if name.endswith("data.pkl") else part),
    "overlapping-parts": lambda raw, canary: overlapping(raw),
    "legacy": lambda raw, canary: legacy(),
    "a-tar": lambda raw, canary: tarred(raw),
}  # fmt: skip


def scripted(raw: bytes) -> bytes:
    out = io.BytesIO(repacked(raw, lambda name, part: part))
    with zipfile.ZipFile(out, "a") as archive:
        archive.writestr("archive/constants.pkl", pickle.dumps(()))
    return out.getvalue()


def overlapping(raw: bytes) -> bytes:
    """Every entry of the central directory points to the same, longest part."""
    with zipfile.ZipFile(io.BytesIO(raw)) as archive:
        longest, start = max(archive.infolist(), key=lambda part: part.file_size), archive.start_dir
    out, place = bytearray(raw), start
    while out[place : place + 4] == b"PK\1\2":
        name, extra, comment = struct.unpack_from("<HHH", out, place + 28)
        struct.pack_into("<III", out, place + 16, longest.CRC, longest.file_size, longest.file_size)
        struct.pack_into("<I", out, place + 42, longest.header_offset)
        place += 46 + name + extra + comment
    return bytes(out)


def legacy() -> bytes:
    buffer = io.BytesIO()
    torch.save({"format": 1}, buffer, _use_new_zipfile_serialization=False)
    return buffer.getvalue()


def tarred(raw: bytes) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        entry = tarfile.TarInfo("storages")
        entry.size = len(raw)
        tar.addfile(entry, io.BytesIO(raw))
    return buffer.getvalue()


@pytest.mark.parametrize("kind", FORGED_ARCHIVES)
def test_a_forged_archive_takes_no_memory_and_runs_no_code(run, resume, tmp_path, kind):
    path, canary = run / "checkpoint.pt", tmp_path / "canary"
    bad = FORGED_ARCHIVES[kind](path.read_bytes(), canary)
    assert bad != path.read_bytes()
    path.write_bytes(bad)
    tracemalloc.start()
    try:
        assert_refused(resume(), path, "--overwrite")
        assert tracemalloc.get_traced_memory()[1] < 30_000_000
    finally:
        tracemalloc.stop()
    assert not canary.exists()


# ------------------------------------------------------------------------------------- arrays


def strip_figures(run: Path) -> dict:
    """Leave in metrics.json what training writes; returns the figures."""
    facts = read_json(run / "metrics.json")
    write_json(run / "metrics.json", {name: value for name, value in facts.items() if name not in FIGURES})
    return {name: facts[name] for name in FIGURES}


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
    figures, path = strip_figures(run), run / "embeddings.npz"
    path.write_bytes(flip(path.read_bytes(), index))
    before = content(run)
    done = measure(run)
    if done.status == 0:
        facts = read_json(run / "metrics.json")
        assert {name: facts[name] for name in FIGURES} == figures
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


# ------------------------------------------------------------------------------------- JSON


@pytest.mark.parametrize("index", range(FLIPS))
def test_metrics_with_a_flipped_bit_are_refused_or_measured_alike(run, measure, index):
    path = run / "metrics.json"
    whole = read_json(path)
    strip_figures(run)
    path.write_bytes(flip(path.read_bytes(), index))
    before = content(run)
    done = measure(run)
    if done.status == 0:
        facts = read_json(path)
        assert {name: facts[name] for name in FIGURES} == {name: whole[name] for name in FIGURES}
    else:
        assert_refused(done)
        assert content(run) == before


@pytest.mark.parametrize("index", range(20))
def test_a_config_with_a_flipped_bit_is_refused_or_ends_in_the_same_weights(run, resume, index):
    path = run / "config.json"
    good = load_checkpoint(run / "checkpoint.pt")["head"]["weight"]
    path.write_bytes(flip(path.read_bytes(), index))
    (run / "metrics.json").unlink()
    before = content(run)
    done = resume()
    if done.status == 0:
        assert torch.equal(load_checkpoint(run / "checkpoint.pt")["head"]["weight"], good)
    else:
        assert_refused(done, run)
        assert content(run) == before


@pytest.mark.parametrize("part", range(12))
def test_metrics_cut_at_a_boundary(run, measure, part):
    path = run / "metrics.json"
    raw = path.read_bytes()
    ends = [i for i, letter in enumerate(raw) if letter in b'{}[],:"']
    path.write_bytes(raw[: spread(ends, 12, part)])
    assert_refused(measure(run), path)


VALUES = {"nan": "NaN", "infinity": "-Infinity", "beyond-a-float": "1e999", "400-digits": "9" * 400,
          "5000-digits": "9" * 5000, "negative": "-1", "true": "true", "null": "null", "text": '"x"', "list": "[[1]]",
          "object": '{"a": 1}', "escape": '"\\u001b[2J"', "half-a-letter": '"\\ud800"',
          "way-out": '"../../x"'}  # fmt: skip
FACTS = ("accuracy", "angles", "verification", "dataset", "test_images", "scale", "classes", "seed", "confusion")


@pytest.mark.parametrize("value", VALUES)
@pytest.mark.parametrize("name", FACTS)
def test_forged_metrics(run, measure, command, tmp_path, name, value):
    path = run / "metrics.json"
    facts = read_json(path)
    text = json.dumps({**facts, name: "PLACE"}).replace('"PLACE"', VALUES[value])
    path.write_text(text)
    before = content(tmp_path)
    for done in (measure(run), command(plot_embeddings.main, run, "--figures-dir", tmp_path / "figures")):
        if done.status:
            assert_refused(done)
        else:
            assert done.err == "" and "\x1b" not in done.out
    if not (tmp_path / "figures").exists():
        assert content(tmp_path) == before
    assert not (tmp_path.parent / "x.png").exists() and content(run) == {
        key.removeprefix("runs/run/"): raw for key, raw in before.items() if key.startswith("runs/run/")
    }


@pytest.mark.parametrize("name", ["metrics.json", "checkpoint.pt", "embeddings.npz", "config.json"])
@pytest.mark.parametrize("kind", ["pipe", "folder", "loop", "device", "sparse"])
def test_what_is_no_plain_file(run, measure, resume, picture, name, kind):
    (run / name).unlink()
    if kind == "pipe":
        os.mkfifo(run / name)
    elif kind == "folder":
        (run / name).mkdir()
    elif kind == "loop":
        (run / name).symlink_to(run / name)
    elif kind == "device":
        (run / name).symlink_to("/dev/zero")
    else:
        with open(run / name, "wb") as file:
            file.truncate(1 << 40)
    if name == "config.json":
        (run / "metrics.json").unlink()
        assert_refused(resume(), run)
    elif name == "checkpoint.pt":
        assert_refused(measure(run, "--images", picture), run)
    else:
        assert_refused(measure(run, "--again"), run)


# ------------------------------------------------------------------------------------- IDX files


def idx_bytes(array: np.ndarray) -> bytes:
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()


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


# ------------------------------------------------------------------------------------- class folders


def png(size=(16, 16)) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def huge_png(side: int) -> bytes:
    import zlib

    body = b"IHDR" + struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return png()[:8] + struct.pack(">I", 13) + body + struct.pack(">I", zlib.crc32(body)) + png()[33:]


def a_file(name: str, raw: bytes):
    return lambda folder: (folder / "train" / "disc" / name).write_bytes(raw)


GOOD_PNG = png()
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


def test_how_many_are_tried(request, capsys):
    tried = [item for item in request.session.items if item.fspath.basename == Path(__file__).name]
    with capsys.disabled():
        print(f"\n{len(tried) - 2} broken or odd inputs")
    assert len(request.session.items) != len(tried) or len(tried) > 200
