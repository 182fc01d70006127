"""train.py on bad input: each is named in one line, and nothing is written."""

import errno
import itertools
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import data
import evaluate
import train
from command_helpers import assert_refused, content_and_times
from data_helpers import idx_bytes, write_mnist
from losses import LOSSES

ROOT = Path(__file__).resolve().parent.parent
NUMBERS = ("--embedding-dim", "--epochs", "--batch-size", "--lr", "--scale", "--margin", "--m1", "--m2", "--m3",
           "--margin-warmup", "--seed", "--image-size", "--validation")  # fmt: skip
MAY_BE_ZERO = {"--margin", "--m2", "--m3", "--margin-warmup", "--seed", "--validation"}
WHOLE = {"--embedding-dim", "--epochs", "--batch-size", "--seed", "--image-size"}


def bad_numbers():
    for flag in NUMBERS:
        for value in ("-1", "-0.5", "nan", "inf", "-inf", "1e999", "ten", "", "1" * 400):
            yield flag, value
        if flag not in MAY_BE_ZERO:
            yield flag, "0"
        if flag in WHOLE:
            yield flag, "2.5"


@pytest.mark.parametrize(("flag", "value"), list(bad_numbers()))
def test_a_bad_number_is_named_and_nothing_written(train_tiny, tmp_path, flag, value):
    done = train_tiny(tmp_path / "runs", f"{flag}={value}")
    own = {"--margin": "m2 = " if value in ("-1", "-0.5") else "--margin"}  # numbers, but no angles
    assert_refused(done, own.get(flag, flag), value[:3])
    assert list(tmp_path.iterdir()) == []


def test_what_no_data_can_mend_is_refused_before_any_are_looked_for(command, tmp_path, monkeypatch):
    monkeypatch.setattr("data.load_dataset", lambda *_, **__: pytest.fail("looked for data"))
    words = ("--dataset", "cifar10", "--loss", "softmax", "--margin", 0.3, "--data-dir", tmp_path / "none")
    assert_refused(command(train.main, *words), "--margin 0.3", "softmax")


BAD_FLAGS = [
    (["--dataset", "imagenet"], ["'imagenet'", "mnist", "fashion-mnist", "cifar10", "folder"]),
    (["--loss", "triplet"], ["'triplet'", *LOSSES]),
    (["--precision", "fp8"], ["'fp8'", "auto", "bf16", "fp32"]),
    (["--device", "tpu"], ["'tpu'", "cpu", "cuda"]),
    (["--device", "cpu:3"], ["'cpu:3'"]),
    (["--device", "cuda:99"], ["cuda:99", "--device auto"]),
    (["--device", "cuda:²"], ["cuda:²"]),
    (["--device", "cpu:"], ["'cpu:'"]),
    (["--output-dir", "~nosuchuser/runs"], ["~nosuchuser/runs"]),
    (["--margin", "0.3", "--m2", "0.5"], ["--margin 0.3", "--m2 0.5"]),
    (["--data-dir", "~nosuchuser/data"], ["~nosuchuser/data"]),
    (["--loss", "softmax", "--margin", "0.5"], ["--margin 0.5", "softmax"]),
    (["--loss", "adacos", "--margin", "0.5"], ["--margin 0.5", "adacos"]),
    (["--loss", "softmax", "--m2", "0.5"], ["softmax", "--m2"]),
    (["--loss", "softmax", "--scale", "5"], ["scale 5", "softmax"]),
    (["--loss", "adacos", "--scale", "5"], ["scale 5", "adacos"]),
    (["--loss", "norm-softmax", "--m3", "0.25"], ["m3 = 0.25", "norm-softmax"]),
    (["--loss", "arcface", "--margin", "3.2"], ["m2 = 3.2", "pi"]),
    (["--loss", "arcface", "--m1", "2"], ["m1 = 2", "arcface", "combined"]),
    (["--loss", "arcface", "--m3", "0.25"], ["m3 = 0.25", "arcface", "combined"]),
    (["--loss", "cosface", "--margin", "2.5"], ["m3 = 2.5", "0 to 2"]),
    (["--loss", "cosface", "--m2", "0.25"], ["m2 = 0.25", "cosface", "combined"]),
    (["--loss", "sphereface", "--margin", "0.5"], ["m1 = 0.5", "1 to 4"]),
    (["--loss", "sphereface", "--margin", "4.5"], ["m1 = 4.5", "1 to 4"]),
    (["--loss", "combined", "--margin", "cm3"], ["cm3", "cm1", "cm2"]),
    (["--loss", "combined", "--margin", "0.5"], ["0.5", "cm1", "--m1"]),
    (["--embedding-dim", "9000"], ["'9000'", "at most 8,192"]),
    (["--batch-size", "1"], ["'1'", "at least 2"]),
    (["--epochs", "2000000"], ["'2000000'", "at least 1 and at most 1,000,000"]),
    (["--image-size", "15"], ["'15'", "16"]),
    (["--image-size", "513"], ["'513'", "512"]),
    (["--margin-warmup", "1.5"], ["'1.5'", "1"]),
    (["--validation", "0.75"], ["'0.75'", "0.5"]),
    (["--hold-out", "square"], ["square", "bars", "checks", "disc", "slopes"]),
    (["--hold-out", "7"], ["7", "bars", "checks", "disc", "slopes"]),
    (["--hold-out", "-1"], ["-1", "bars"]),
    (["--hold-out", "bars", "disc", "slopes"], ["bars, disc, slopes", "1 of 4"]),
    (["--hold-out", "bars", "disc", "--loss", "adacos"], ["adacos", "2 classes"]),
    (["--name", "a/b"], ["'a/b'"]),
    (["--name", ".."], ["'..'"]),
    (["--name", "."], ["'.'"]),
    (["--name", ""], ["''"]),
    (["--name", "a b"], ["'a b'"]),
    (["--name", "x" * 101], ["xxx"]),
    (["--resume", "--overwrite"], ["--resume", "--overwrite"]),
    *((["--widths", bad], [f"'{bad}'", "64,256,256"]) for bad in ("64,256", "0,1,2", "a,b,c", "1,2,3,4", "1,2,99999")),
    (["--nonsense"], ["--nonsense"]),
    (["--lr"], ["--lr"]),
    (["--data-dir", "no/such/folder"], ["no/such/folder"]),
]


@pytest.mark.parametrize(("flags", "named"), BAD_FLAGS, ids=lambda part: " ".join(part)[:40])
def test_bad_input_is_named_and_nothing_written(train_tiny, tmp_path, flags, named):
    done = train_tiny(tmp_path / "runs", *flags)
    assert_refused(done, *named)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("missing", ["--dataset", "--loss"])
def test_data_set_and_loss_must_be_named(command, missing):
    given = {"--dataset": "mnist", "--loss": "arcface"}
    del given[missing]
    assert_refused(command(train.main, *itertools.chain(*given.items())), missing)


def test_cuda_where_there_is_none_is_named(train_tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert_refused(train_tiny(tmp_path / "runs", "--device", "cuda"), "--device cuda", "no CUDA GPU")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("place", ["file", "file/below", "file/deeper/below"])
def test_a_file_in_the_way_of_the_output_folder_is_named(train_tiny, tmp_path, place):
    (tmp_path / "file").write_text("mine")
    assert_refused(train_tiny(tmp_path / place), tmp_path / place, "--output-dir")
    assert content_and_times(tmp_path).keys() == {"file"} and (tmp_path / "file").read_text() == "mine"


def test_a_file_in_the_way_of_the_run_folder_is_named(train_tiny, tmp_path):
    (tmp_path / "run").write_text("mine")
    for flags in ((), ("--overwrite",), ("--resume",)):
        assert_refused(train_tiny(tmp_path, "--name", "run", *flags), tmp_path / "run", "--name")
    assert (tmp_path / "run").read_text() == "mine"


def test_an_output_folder_that_cannot_be_written_is_named(train_tiny, tmp_path, monkeypatch):
    def denied(self, *args, **kwargs):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(self))

    monkeypatch.setattr(Path, "mkdir", denied)
    assert_refused(train_tiny(tmp_path / "runs"), tmp_path / "runs", "Permission denied", "--output-dir")


def test_an_output_folder_with_too_long_a_name_is_named(train_tiny, tmp_path):
    assert_refused(train_tiny(tmp_path / ("x" * 300)), "xxx", "--output-dir")


def test_the_command_line_itself_gives_status_and_one_line(tmp_path):
    script = [sys.executable, str(ROOT / "train.py"), "--dataset", "mnist", "--loss", "triplet"]
    done = subprocess.run(script, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.startswith("train.py: error:") and done.stderr.count("\n") == 1 and "triplet" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_too_little_memory_is_named(train_tiny, tmp_path, monkeypatch):
    """The message is PyTorch's own, of an allocation that no machine can make."""

    def step(*_):
        return torch.empty(10**15)

    monkeypatch.setattr("trainer.Trainer.step", step)
    assert_refused(train_tiny(tmp_path / "runs"), "out of memory", "--batch-size", "--widths")


def test_too_little_memory_elsewhere_names_no_flag_of_train_py(monkeypatch, measure, run):
    def no_memory(*_):
        raise MemoryError

    monkeypatch.setattr(evaluate, "evaluate_run", no_memory)
    done = measure(run)
    assert_refused(done, "out of memory", "close other programs")
    assert "--" not in done.err


def test_another_error_of_pytorch_is_not_called_one_of_memory(train_tiny, tmp_path, monkeypatch):
    monkeypatch.setattr("trainer.Trainer.step", lambda *_: torch.ones(2) @ torch.ones(3))
    with pytest.raises(RuntimeError, match="size"):
        train_tiny(tmp_path / "runs")


@pytest.mark.parametrize("said", ["MPS backend out of memory (MPS allocated: 9 GB)", "CUDA error: out of memory",
                                  "Invalid buffer size: 40.00 GB"])  # fmt: skip
def test_too_little_memory_of_other_devices_is_named_too(train_tiny, tmp_path, monkeypatch, said):
    def step(*_):
        raise RuntimeError(said)

    monkeypatch.setattr("trainer.Trainer.step", step)
    assert_refused(train_tiny(tmp_path / "runs"), said, "--batch-size")


def test_held_out_classes_without_test_images_are_named(train_tiny, tmp_path, monkeypatch):
    real = data.hold_out_classes

    def without_unseen_images(*words):
        dataset, images, labels, ids = real(*words)
        return dataset, images[:0], labels[:0], ids

    monkeypatch.setattr("data.hold_out_classes", without_unseen_images)
    assert_refused(train_tiny(tmp_path / "runs", "--hold-out", "bars"), "--hold-out bars", "no test images")
    assert not (tmp_path / "runs").exists()
    assert train_tiny(tmp_path / "runs", "--hold-out", "bars", "--validation", 0.2).status == 0  # it needs none


def test_a_class_without_training_images_is_named(command, tmp_path):
    arrays = write_mnist(tmp_path / "data" / "MNIST" / "raw")
    name = "train-labels-idx1-ubyte"
    (tmp_path / "data" / "MNIST" / "raw" / name).write_bytes(idx_bytes(arrays[name] % 9))
    places = ("--data-dir", tmp_path / "data", "--output-dir", tmp_path / "runs")
    done = command(train.main, "--dataset", "mnist", "--loss", "softmax", *places)
    assert_refused(done, "no training images", "'9'")
    assert not (tmp_path / "runs").exists()


def test_a_test_set_without_images_is_named(train_tiny, tmp_path, monkeypatch):
    """Classes split by their images' content may leave none for the test."""
    real = data.hold_out_classes

    def without_test_images(*words):
        dataset, *rest = real(*words)
        return dataset._replace(test_images=dataset.test_images[:0], test_labels=dataset.test_labels[:0]), *rest

    monkeypatch.setattr("data.hold_out_classes", without_test_images)
    assert_refused(train_tiny(tmp_path / "runs", "--hold-out", "bars"), "no test images", "hold out fewer")
    assert not (tmp_path / "runs").exists()
