"""What the embedding looks like after the start and after every epoch, for the figures that show it moving.

RUN/snapshots/epoch-000.npz, epoch-001.npz, ... hold, of the same SAMPLES training and SAMPLES test images in every run
on a data set: `train_angles` and `test_angles` [n] (float16, degrees) to their own class weight, without margin, and
`test_labels` [n]; in one to three dimensions also `embeddings` [n, d] (float16, test images) and `weights` [C, d].
Looking leaves training as it is: eval mode, no gradient, and no draw from PyTorch's own random numbers. Each file is
written before its epoch's checkpoint: a resumed run rewrites at most its last one, to the same bytes.
"""

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from losses import NORM_EPS, angle_of
from runs import DRAWABLE, SNAPSHOTS, RunError, write_arrays

SAMPLES = 2000


class Recorder:
    """Writes one run's snapshots; `wanted`: whether there are to be any. A resumed run goes on where there are some."""

    def __init__(self, folder: Path, wanted: bool, dataset):
        self.folder = folder / SNAPSHOTS
        self.wanted, self.recording = wanted, wanted or self.folder.is_dir()
        self.train = self._sample(dataset.train_images, dataset.train_labels)
        self.test = self._sample(dataset.test_images, dataset.test_labels)

    @staticmethod
    def _sample(images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """The same images whatever the run's seed: they are drawn by a generator of their own."""
        chosen = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))[:SAMPLES]
        return images[chosen], labels[chosen]

    def start(self, going_on: bool = False) -> None:
        """Make an empty place for a run's snapshots, which one that is `going_on` wants if it had a place before.

        RunError when it cannot be made.
        """
        self.recording = self.wanted or (going_on and self.folder.is_dir())
        try:
            for path in self.folder.glob("epoch-*.npz"):
                path.unlink()
            if self.recording:
                self.folder.mkdir(exist_ok=True)
            elif self.folder.is_dir() and not any(self.folder.iterdir()):
                self.folder.rmdir()  # or a resumed run would take it for its own
        except OSError as error:
            raise RunError(f"cannot make {self.folder}: {error.strerror}; choose another --output-dir") from None

    def record(self, trainer) -> None:
        """Write the snapshot of `trainer` (trainer.Trainer) after its present number of epochs."""
        if not self.recording:
            return
        weight = trainer.head.weight.detach().float().cpu()
        (train_x, train_y), (test_x, test_y) = ((trainer.embed(x), y) for x, y in (self.train, self.test))
        arrays = {
            "train_angles": target_angles(train_x, train_y, weight),
            "test_angles": target_angles(test_x, test_y, weight),
            "test_labels": test_y.numpy().astype(np.uint16),
        }
        if weight.shape[1] <= DRAWABLE:
            arrays |= {"embeddings": test_x.numpy().astype(np.float16), "weights": weight.numpy()}
        self.folder.mkdir(exist_ok=True)
        write_arrays(self.folder / f"epoch-{trainer.epoch:03d}.npz", **arrays)


def target_angles(embeddings: Tensor, labels: Tensor, weight: Tensor) -> np.ndarray:
    """Angle [N] (float16, degrees) of each embedding [N, d] to the weight [C, d] of its own class."""
    cosine = (F.normalize(embeddings, eps=NORM_EPS) * F.normalize(weight, eps=NORM_EPS)[labels]).sum(1)
    return torch.rad2deg(angle_of(cosine)).numpy().astype(np.float16)
