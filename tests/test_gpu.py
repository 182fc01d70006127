"""On a CUDA GPU: training waits for it at the end of an epoch only. Skipped where there is none."""

import warnings

import pytest
import torch

from data import load_embedded
from losses import LOSSES
from recipes import Settings, recipe
from trainer import Trainer

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU here")


def waits(loss: str, batch_size: int) -> int:
    """How often an epoch on 256 digits in batches of `batch_size` makes the program wait for the GPU."""
    dataset = load_embedded()
    dataset = dataset._replace(train_images=dataset.train_images[:256], train_labels=dataset.train_labels[:256])
    values = recipe("mnist", loss, 512, len(dataset.classes)) | {"batch_size": batch_size, "averaging": 0.9}
    settings = Settings(dataset="mnist", loss=loss, embedding_dim=512, seed=0, precision="bf16", **values)
    trainer = Trainer(settings, dataset, torch.device("cuda"))
    trainer.train_epoch(progress_bar=False)  # what is set up once is set up here
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            trainer.train_epoch(progress_bar=False)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    return sum("synchronizing" in str(one.message) for one in said)


@pytest.mark.parametrize("loss", LOSSES)
def test_an_epoch_waits_for_the_gpu_as_often_whatever_its_steps(loss):
    few, many = waits(loss, 64), waits(loss, 8)
    assert few == many > 0, f"{few} waits in an epoch of few steps, {many} in one of many"
