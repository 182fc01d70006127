"""What this machine lacks is not a file's fault: no advice that would cost a sound run or picture."""

import numpy as np
import pytest
import torch
from PIL import Image

import checkpoints
import data_folders
import evaluate
from command_helpers import assert_refused
from runs import RunError, read_arrays, unread


def lacking(*_, **__):
    raise MemoryError


def on_a_full_card(*_, **__):
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB")


@pytest.mark.parametrize("fail", [lacking, on_a_full_card])
def test_a_sound_file_is_not_called_damaged(run, monkeypatch, fail):
    monkeypatch.setattr(np, "load", fail)
    monkeypatch.setattr(torch, "load", fail)
    for read, name in ((read_arrays, "embeddings.npz"), (checkpoints.load_checkpoint, "checkpoint.pt")):
        with pytest.raises(RunError, match=rf"{name}, out of memory: close") as told:
            read(run / name)
        assert "--overwrite" not in str(told.value) and "damaged" not in str(told.value)


def test_a_run_resumed_on_a_full_card_is_kept(unfinished, train_tiny, monkeypatch):
    before = (unfinished / "run" / "checkpoint.pt").read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(torch.nn.Module, "load_state_dict", on_a_full_card)
        assert_refused(train_tiny(unfinished, "--name", "run", "--resume"), "out of memory", "lower --batch-size")
    assert (unfinished / "run" / "checkpoint.pt").read_bytes() == before
    assert train_tiny(unfinished, "--name", "run", "--resume").status == 0


def test_a_network_that_does_not_fit_is_no_misfit(run, picture, command, monkeypatch):
    monkeypatch.setattr(torch.nn.Module, "load_state_dict", on_a_full_card)
    done = command(evaluate.main, run, "--images", picture)
    assert_refused(done, "out of memory")
    assert "train that run again" not in done.err


def test_a_picture_too_large_for_memory_is_not_called_broken(picture, monkeypatch):
    monkeypatch.setattr(Image, "open", lacking)
    with pytest.raises(MemoryError):
        data_folders._decode(picture, "RGB", 8)


def test_other_reasons_are_named(tmp_path):
    denied = PermissionError(13, "Permission denied")
    assert str(unread(tmp_path / "a", denied, "do b")).endswith("(Permission denied): mend that, or do b")
    assert str(unread(tmp_path / "a", FileNotFoundError(), "do b")).endswith("a is missing: do b")
    assert str(unread(tmp_path / "a", ValueError(), "do b", "is no c")).endswith("a is no c: do b")
