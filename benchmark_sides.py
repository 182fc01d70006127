"""What benchmark.py measures: our training steps, what a user would pick instead, single heads, the hardware's peak."""

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from pytorch_metric_learning.losses import ArcFaceLoss
from torch.utils.flop_counter import FlopCounterMode
from torchvision import transforms

from data import Dataset, augment, load_dataset
from losses import LOSSES, build_head
from models import build_backbone
from recipes import Settings, recipe
from trainer import Trainer

PICK_BATCH = 128  # what tutorials use
HEAD_BATCH, HEAD_DIM = 256, 512
HEADS = ["linear", *LOSSES, "pytorch-metric-learning"]  # plain linear first: the others are compared with it


def timed(work: Callable[[], object], calls: int = 1) -> float:
    """Seconds that one call takes, as the mean of `calls` in a row."""
    started = time.perf_counter()
    for _ in range(calls):
        work()
    return (time.perf_counter() - started) / calls


def our_trainer(dataset: str, data_dir: Path, precision: str) -> tuple[Trainer, Dataset]:
    """A Trainer with the recipe's ArcFace head, and the data set it trains on."""
    data = load_dataset(dataset, data_dir, log=lambda line: None)
    values = recipe(data.name, "arcface", 512, len(data.classes))
    settings = Settings(dataset=data.name, loss="arcface", embedding_dim=512, seed=0, precision=precision, **values)
    return Trainer(settings, data, torch.device("cpu")), data


def our_steps(trainer: Trainer, steps: int) -> float:
    """Images a second of `steps` training steps, augmentation and the mean of the weights included."""
    random = torch.Generator().manual_seed(0)
    trainer.backbone.train()

    def work():
        for step in range(steps):
            trainer.schedule(step)
            chosen = torch.randint(len(trainer.images), (trainer.batch,), generator=random)
            images = augment(trainer.images[chosen], random, trainer.settings.shift, trainer.settings.flip)
            trainer.step(images, trainer.labels[chosen])
            trainer.average(step + 1)

    return steps * trainer.batch / timed(work)


class Images(torch.utils.data.Dataset):
    """Training images one at a time, through a torchvision transform: what a DataLoader's workers read."""

    def __init__(self, data: Dataset, transform: Callable):
        self.images, self.labels, self.transform = data.train_images, data.train_labels, transform

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, i: int):
        return self.transform(self.images[i]), self.labels[i]


def users_pick(data: Dataset, widths: tuple[int, ...], depth: int, shift: int, flip: bool) -> Callable[[int], float]:
    """What a user would write: torchvision transforms, a DataLoader, pytorch-metric-learning's loss, SGD, float32.

    Returns a function: number of steps -> images a second. The network is ours, so that only the rest differs.
    """
    size, channels = data.train_images.shape[-1], data.train_images.shape[1]
    steps = [transforms.ToPILImage(), transforms.RandomCrop(size, padding=shift)]
    steps += [transforms.RandomHorizontalFlip()] if flip else []
    steps += [transforms.ToTensor(), transforms.Normalize([0.5] * channels, [0.25] * channels)]
    transform = transforms.Compose(steps)

    loader = torch.utils.data.DataLoader(
        Images(data, transform), PICK_BATCH, shuffle=True, drop_last=True, num_workers=2
    )
    torch.manual_seed(0)
    network = build_backbone(channels, 512, size, widths=widths, depth=depth)
    loss = ArcFaceLoss(len(data.classes), 512, margin=28.6, scale=16)
    parameters = [p for p in network.parameters() if p.requires_grad] + list(loss.parameters())
    optimizer = torch.optim.SGD(parameters, lr=0.01, momentum=0.9, nesterov=True)

    def batches():
        while True:
            yield from loader

    stream = batches()

    def run(count: int) -> float:
        def work():
            for _ in range(count):
                images, labels = next(stream)
                optimizer.zero_grad()
                loss(network(images), labels).backward()
                optimizer.step()

        return count * PICK_BATCH / timed(work)

    return run


def bf16_peak() -> float:
    """FLOP a second of the best square bf16 matrix product: what the hardware can do at most, in practice."""
    best = 0.0
    for size in (1024, 2048, 4096):
        a, b = (torch.randn(size, size).bfloat16() for _ in range(2))
        best = max(best, *(2 * size**3 / timed(partial(torch.mm, a, b)) for _ in range(5)))
    return best


def training_flop(trainer: Trainer) -> float:
    """FLOP that training spends on one image: matrix products and convolutions, forward and backward."""
    images, labels = trainer.images[: trainer.batch], trainer.labels[: trainer.batch]
    with FlopCounterMode(display=False) as counter, torch.random.fork_rng(devices=[]):
        trainer.step(images, labels)
    return counter.get_total_flops() / trainer.batch


def head_loss(name: str, classes: int, labels: torch.Tensor, embeddings: torch.Tensor) -> Callable[[], None]:
    """A function that runs one forward and backward pass of a head and its cross-entropy; `linear` is nn.Linear's."""
    module: torch.nn.Module
    loss: Callable[[], torch.Tensor]
    if name == "pytorch-metric-learning":
        module = ArcFaceLoss(classes, HEAD_DIM)
        loss = partial(module, embeddings, labels)
    elif name == "linear":
        module = torch.nn.Linear(HEAD_DIM, classes, bias=False)
        loss = lambda: F.cross_entropy(module(embeddings), labels)  # noqa: E731
    else:
        module = build_head(name, HEAD_DIM, classes)
        loss = lambda: F.cross_entropy(module(embeddings, labels), labels)  # noqa: E731

    def work():
        module.zero_grad()
        embeddings.grad = None
        loss().backward()

    return work


def head_batch(classes: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Random embeddings [HEAD_BATCH, HEAD_DIM] that want a gradient, and labels."""
    random = torch.Generator().manual_seed(0)
    x = torch.randn(HEAD_BATCH, HEAD_DIM, generator=random, requires_grad=True)
    return torch.randint(classes, (HEAD_BATCH,), generator=random), x
