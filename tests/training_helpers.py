"""Training runs as tests need them: cut off at a step, and compared to the last bit but for times."""

import csv
import errno
import itertools
import os
from pathlib import Path

import numpy as np
import torch

from checkpoints import load_checkpoint
from runs import read_arrays, read_json
from trainer import Trainer

TIMES = {"seconds", "images_per_second", "train_seconds"}
STEPS = 6  # a default run here has three epochs of 96 images in batches of 16


def history_of(folder: Path) -> list[dict]:
    with open(folder / "history.csv", newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def timeless(value):
    """The value without the entries that tell time, which no two runs share."""
    if isinstance(value, dict):
        return {k: timeless(v) for k, v in value.items() if k not in TIMES}
    return [timeless(v) for v in value] if isinstance(value, list) else value


def assert_same(a, b, where=""):
    """Equal to the last bit, all the way down."""
    assert type(a) is type(b), where
    if isinstance(a, dict):
        assert a.keys() == b.keys(), where
        for key in a:
            assert_same(a[key], b[key], f"{where}/{key}")
    elif isinstance(a, (list, tuple)):
        assert len(a) == len(b), where
        for i, (x, y) in enumerate(zip(a, b)):
            assert_same(x, y, f"{where}/{i}")
    elif isinstance(a, torch.Tensor):
        assert a.dtype == b.dtype and torch.equal(a, b), where
    elif isinstance(a, np.ndarray):
        assert a.dtype == b.dtype and np.array_equal(a, b), where
    else:
        assert a == b, where


def everything(folder: Path) -> dict:
    """All that a run leaves, but for times."""
    return {
        "config": read_json(folder / "config.json"),
        "history": timeless(history_of(folder)),
        "checkpoint": timeless(load_checkpoint(folder / "checkpoint.pt")),
        "metrics": timeless(read_json(folder / "metrics.json")),
        "embeddings": read_arrays(folder / "embeddings.npz"),
    }


def at_step(monkeypatch, number, action):
    """Have `action()` happen before step `number`, counted from 0 over the whole run."""
    steps, real = itertools.count(), Trainer.step

    def step(self, images, labels):
        if next(steps) == number:
            action()
        return real(self, images, labels)

    monkeypatch.setattr(Trainer, "step", step)


def interrupt(*_args, **_kwargs):
    raise KeyboardInterrupt


def full_disk(*_args, **_kwargs):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
