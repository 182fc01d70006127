"""What a run is said to be trained with."""

import pytest

from choices import LOSSES
from recipes import Settings, recipe
from summaries import training_line


def settings(loss: str, dim: int = 512, **changes) -> dict:
    """MNIST's recipe as train.py records it."""
    whole = {"dataset": "mnist", "loss": loss, "embedding_dim": dim, "seed": 0, "precision": "fp32",
             **recipe("mnist", loss, dim, 10), **changes}  # fmt: skip
    return Settings(**whole).to_json()


@pytest.mark.parametrize(("loss", "dim", "said"), [
    ("softmax", 512, "8 epochs, batch 256, lr 0.025"),
    ("norm-softmax", 512, "s = 16; 8 epochs, batch 256, lr 0.025"),
    ("arcface", 512, "s = 16, m2 = 0.5, growing over the first 50 %; 8 epochs, batch 256, lr 0.025"),
    ("arcface", 2, "s = 16 (from 2), m2 = 0.314, growing over the first 80 %; 8 epochs, batch 256, lr 0.05"),
    ("combined", 512, "s = 16, m2 = 0.3, m3 = 0.2, growing over the first 50 %; 8 epochs, batch 256, lr 0.025"),
    ("adacos", 2, "8 epochs, batch 256, lr 0.05"),
])  # fmt: skip
def test_what_a_run_is_trained_with(loss, dim, said):
    assert training_line(settings(loss, dim)) == said


def test_what_is_left_out_of_it():
    assert training_line(settings("arcface", m2=0.0)).startswith("s = 16, no margin; 8 epochs")
    assert "growing" not in training_line(settings("cosface", margin_warmup=0.0))
    assert training_line(settings("softmax", epochs=1)).startswith("1 epoch, ")
    assert training_line(settings("adacos") | {"scale": 1.98}).startswith("s = 1.98; ")  # once it has found one
    assert training_line(settings("adacos", 2) | {"scale": 4.29}).startswith("s = 4.29; ")  # which does not grow to it


@pytest.mark.parametrize("loss", LOSSES)
def test_every_loss_has_a_line(loss):
    assert "epochs" in training_line(settings(loss, 3))


def test_training_and_measuring_print_it(finished_run, measure, train_tiny, tmp_path):
    done = train_tiny(tmp_path, "--name", "run", "--margin", 0.2)
    (line,) = (line for line in done.out.splitlines() if "settings:" in line)
    assert "m2 = 0.2, growing over the first 50 %; 3 epochs, batch 16" in line
    said = line.partition("settings: ")[2]
    assert f"trained: {said}" in done.out
