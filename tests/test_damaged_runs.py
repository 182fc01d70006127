"""Damaged run folders: their figures are refused in one line, and no other run pays for it."""

import io
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest

from command_helpers import Touch, assert_refused, content
from results_helpers import strip_figures
from runs import read_arrays, read_json, write_json

DAMAGED_JSON = {
    "missing": None, "empty": b"", "truncated": b'{"dataset": "folder", "lo', "a-list": b"[1, 2]", "a-number": b"3",
    "no-utf-8": b"\xff\xfe{}", "nothing-in-it": b"{}", "nested-too-deep": b"[" * 100_000,
    "figures-alone": b'{"verification": {}}', "figures-of-wrong-type": b'{"verification": 1, "accuracy": []}',
}  # fmt: skip


@pytest.mark.parametrize("kind", DAMAGED_JSON)
def test_damaged_metrics_are_one_clear_line(measure, train_tiny, run, tmp_path, kind):
    path = run / "metrics.json"
    path.unlink() if DAMAGED_JSON[kind] is None else path.write_bytes(DAMAGED_JSON[kind])
    before = content(run)
    assert_refused(measure(run), run)
    if DAMAGED_JSON[kind] is not None:  # train.py shows the stored result of a finished run
        assert_refused(train_tiny(tmp_path / "runs", "--name", "run"), run)
    assert content(run) == before and not (tmp_path / "figures").exists()


@pytest.mark.parametrize("name", ["loss", "dataset", "fingerprint", "classes", "unseen_classes", "image_shape"])
@pytest.mark.parametrize("value", [None, 3, "x", ["x"], {}, [1, 28.0, 28], [1, 28, 28.5], [True, 28, 28], [1, 28, 99]])
def test_metrics_of_wrong_types_are_one_clear_line(measure, run, tmp_path, name, value):
    strip_figures(run)
    facts = read_json(run / "metrics.json")
    write_json(run / "metrics.json", {**facts, name: value})
    done = measure(run)
    if done.status:  # some are as good as what was there: None and {} are no unseen classes either
        assert_refused(done)
    assert "Traceback" not in done.err


def damaged_arrays(good: Path, canary: Path) -> dict:
    arrays, raw = read_arrays(good), good.read_bytes()

    def packed(**changes):
        buffer = io.BytesIO()
        kept = {name: value for name, value in {**arrays, **changes}.items() if value is not None}
        np.savez(buffer, **kept)
        return buffer.getvalue()

    holes = arrays["embeddings"].copy()
    holes[3, 1] = np.nan
    return {
        "missing": None, "empty": b"", "truncated": raw[: len(raw) // 2], "cut-short": raw[:-10],
        "no-npz": b"not an npz", "random": np.random.default_rng(0).bytes(2000), "pickle": pickle.dumps(Touch(canary)),
        "flipped": raw[:300] + bytes([raw[300] ^ 255]) + raw[301:],
        "pickle-within": packed(embeddings=np.array([Touch(canary)] * 32, dtype=object)),
        "no-weights": packed(weights=None), "no-labels": packed(labels=None), "holes": packed(embeddings=holes),
        "too-few-labels": packed(labels=arrays["labels"][:-1]), "too-many-weights": packed(weights=np.eye(5, 4)),
        "other-dimension": packed(weights=np.eye(4, 3)), "labels-out-of-range": packed(labels=arrays["labels"] + 2),
        "negative-labels": packed(labels=arrays["labels"] - 1), "text": packed(embeddings=np.full((32, 4), "x")),
        "flat": packed(embeddings=arrays["embeddings"].ravel()), "no-rows": packed(embeddings=np.zeros((0, 4), "f4")),
        "fractional-labels": packed(labels=arrays["labels"] + 0.5),
    }  # fmt: skip


DAMAGED_ARRAYS = (
    "missing", "empty", "truncated", "cut-short", "no-npz", "random", "pickle", "flipped", "pickle-within",
    "no-weights", "no-labels", "holes", "too-few-labels", "too-many-weights", "other-dimension", "labels-out-of-range",
    "negative-labels", "text", "flat", "no-rows", "fractional-labels",
)  # fmt: skip


@pytest.mark.parametrize("kind", DAMAGED_ARRAYS)
def test_damaged_arrays_are_one_clear_line_and_run_no_code(measure, run, tmp_path, kind):
    strip_figures(run)
    path, canary = run / "embeddings.npz", tmp_path / "canary"
    bad = damaged_arrays(path, canary)[kind]
    path.unlink() if bad is None else path.write_bytes(bad)
    before = content(run)
    assert_refused(measure(run), run)
    assert content(run) == before and not canary.exists() and not (tmp_path / "figures").exists()


def test_every_kind_of_damage_is_tried(finished_run, tmp_path):
    assert set(damaged_arrays(finished_run / "embeddings.npz", tmp_path)) == set(DAMAGED_ARRAYS)


def test_one_damaged_run_does_not_cost_the_others_their_figures(measure, run, tmp_path):
    shutil.copytree(run, tmp_path / "runs" / "sound")
    strip_figures(tmp_path / "runs" / "sound")
    (run / "metrics.json").write_text("{")
    assert_refused(measure(tmp_path / "runs" / "sound", run), run)
    assert "verification" in read_json(tmp_path / "runs" / "sound" / "metrics.json")
