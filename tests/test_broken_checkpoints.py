"""Broken and forged checkpoints: one clear line, no code run, no memory taken on a forged size."""

import io
import pickle
import struct
import tarfile
import tracemalloc
import zipfile

import numpy as np
import pytest
import torch

from checkpoints import CHECKPOINT_FORMAT, load_checkpoint
from command_helpers import Touch, assert_refused, content
from damage_helpers import FLIPS, boundaries, flip, refused_or_same, repacked, saved, spread

pytestmark = pytest.mark.usefixtures("no_hang")


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
    assert state["head"]["weight"].cpu().numpy().tobytes() != weight


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
    "less": lambda c: c.pop("widths"), "deeper": lambda c: c.update(depth=3), "no-depth": lambda c: c.update(depth=0),
    "text-depth": lambda c: c.update(depth="2"),
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
    torch.save({"format": CHECKPOINT_FORMAT}, buffer, _use_new_zipfile_serialization=False)
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
