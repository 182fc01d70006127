"""Checkpoints that nobody should resume from: damaged, hostile or of another run."""

import io
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

import evaluate
from checkpoints import CHECKPOINT_FORMAT, load_checkpoint
from command_helpers import Touch, assert_refused, content_and_times


def broken_checkpoints(good: bytes, canary: Path) -> dict:
    archive = io.BytesIO()
    torch.save({"format": CHECKPOINT_FORMAT, "model": Touch(canary)}, archive)
    legacy = io.BytesIO()
    torch.save({"format": CHECKPOINT_FORMAT, "model": Touch(canary)}, legacy, _use_new_zipfile_serialization=False)
    other = io.BytesIO()
    torch.save({"weights": torch.zeros(3)}, other)
    plain = io.BytesIO()
    torch.save(torch.zeros(3), plain)
    noise = np.random.default_rng(0).bytes
    return {
        "empty": b"", "one-byte": good[:1], "half": good[: len(good) // 2], "cut-short": good[:-30],
        "random": noise(5000), "random-after-signature": good[:4] + noise(5000), "text": b"not a checkpoint\n",
        "pickle-that-runs-code": pickle.dumps(Touch(canary)), "archive-that-runs-code": archive.getvalue(),
        "legacy-that-runs-code": legacy.getvalue(), "another-program-s": other.getvalue(), "a-tensor": plain.getvalue(),
    }  # fmt: skip


BROKEN = tuple(broken_checkpoints(b"PK\3\4", Path()))


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_checkpoint_is_refused_and_runs_no_code(train_tiny, finished_run, command, tmp_path, kind):
    canary, run = tmp_path / "canary", tmp_path / "run"
    shutil.copytree(finished_run, run)
    bad = broken_checkpoints((run / "checkpoint.pt").read_bytes(), canary)[kind]
    (run / "checkpoint.pt").write_bytes(bad)
    picture = next(run.parent.glob("*.png"), None) or tmp_path / "a.png"
    assert_refused(command(evaluate.main, run, "--images", picture), "checkpoint.pt", "--overwrite")
    (run / "metrics.json").unlink()  # now it is an unfinished run
    before = content_and_times(run)
    assert_refused(train_tiny(tmp_path, "--name", "run", "--resume"), "checkpoint.pt", "--overwrite")
    assert content_and_times(run) == before and not canary.exists()
    if "code" in kind:  # whereas an ordinary load would have run it
        torch.load(io.BytesIO(bad), weights_only=False) if kind != "pickle-that-runs-code" else pickle.loads(bad)
        assert canary.exists()


def test_a_checkpoint_of_other_settings_is_refused(train_tiny, unfinished):
    assert train_tiny(unfinished, "--name", "other", "--lr", 0.01).status == 0
    shutil.copy(unfinished / "other" / "checkpoint.pt", unfinished / "run" / "checkpoint.pt")
    done = train_tiny(unfinished, "--name", "run", "--resume")
    assert_refused(done, unfinished / "run", "checkpoint.pt", "other settings", "--overwrite")


@pytest.mark.parametrize("key", ["model", "head", "optimizer", "epoch", "history", "random", "config", "fingerprint"])
def test_a_checkpoint_that_lacks_a_part_is_refused(train_tiny, unfinished, key):
    path = unfinished / "run" / "checkpoint.pt"
    state = load_checkpoint(path)
    del state[key]
    torch.save(state, path)
    assert_refused(train_tiny(unfinished, "--name", "run", "--resume"), "--overwrite", "--name")


def test_a_checkpoint_of_another_network_is_refused(train_tiny, unfinished):
    path = unfinished / "run" / "checkpoint.pt"
    state = load_checkpoint(path)
    state["model"]["embed.weight"] = torch.zeros(9, 9)
    torch.save(state, path)
    assert_refused(train_tiny(unfinished, "--name", "run", "--resume"), "another network", "--overwrite")


def test_a_damaged_record_is_refused(train_tiny, unfinished):
    for text in ("", "{", "[]", "{}", '{"settings": 3}', "\x00\xff"):
        (unfinished / "run" / "config.json").write_bytes(text.encode("latin-1"))
        before = content_and_times(unfinished)
        assert_refused(train_tiny(unfinished, "--name", "run", "--resume"), "run")
        assert content_and_times(unfinished) == before


@pytest.mark.parametrize("reader", ["checkpoints", "runs"])
def test_a_file_that_may_not_be_read_is_not_called_damaged(monkeypatch, tmp_path, reader):
    import checkpoints
    import runs

    def forbidden(path):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr({"checkpoints": checkpoints, "runs": runs}[reader], "check_archive", forbidden)
    read = {"checkpoints": load_checkpoint, "runs": runs.read_arrays}[reader]
    with pytest.raises(runs.RunError, match=r"^cannot read .*a\.pt \(Permission denied\): mend that"):
        read(tmp_path / "a.pt")
