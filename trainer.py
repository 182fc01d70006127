"""One run in memory: the network, the head, the optimizers and the step that trains them; knows nothing of folders.

The optimizer is Muon on the filter matrices and Adam on the rest: both ignore the size of a gradient, which differs
widely between heads, so that one learning rate serves all of them.
"""

import math
import time

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm
from tqdm import tqdm

from checkpoints import check_optimizer, check_state
from data import Dataset, augment, channel_statistics, to_input
from devices import describe_device
from errors import lacks_memory
from losses import build_head
from models import WHITEN_PIXELS, Backbone, build_backbone
from recipes import SCHEDULES, Settings, is_crowded, likely_cause, remedies
from runs import BAD_CONTENT, Diverged, RunError

LR_WARMUP = 0.1  # part of training over which the learning rates rise to their peak
HEAD_LR = 1.0  # Adam's learning rate for class weights of length 1, as a multiple of Muon's, divided by sqrt(d)
BIAS_LR = 0.2  # the same for biases, whose scale is that of normalised activations
NORM_MOMENTUM = 0.1  # share of the newest batch in the statistics that images are tested with: PyTorch's default
WHITEN_IMAGES = 5000  # enough for the covariance of 2x2 patches
# Images of up to 32 pixels. On a CPU larger batches leave the cache and are given fresh memory every time; elsewhere a
# batch costs a transfer.
EVAL_BATCH, EVAL_BATCH_ON_GPU = 100, 2000
REPORT_EVERY = 20  # steps between looks at the loss
EXPLODED = 100  # times ln C + s: margins alone bring a bounded head's loss to about a tenth of this


class Trainer:
    """A run under way: what it is (settings), how far it has come (epoch, seconds, history), and how it goes on."""

    def __init__(self, settings: Settings, dataset: Dataset, device: torch.device):
        self.settings, self.device = settings, device
        channels, size = dataset.train_images.shape[1], dataset.train_images.shape[-1]
        self.mean, self.std = (t.to(device) for t in channel_statistics(dataset.train_images))
        torch.manual_seed(settings.seed)
        self.backbone = build_backbone(
            channels, settings.embedding_dim, size, widths=settings.widths, depth=settings.depth
        )
        self.head = build_head(settings.loss, settings.embedding_dim, len(dataset.classes), **settings.head_options())
        self.backbone.to(device).to(memory_format=torch.channels_last)
        self.head.to(device)
        sampled = min(WHITEN_IMAGES, WHITEN_PIXELS // size**2)
        sample = torch.randperm(len(dataset.train_images), generator=torch.Generator().manual_seed(0))[:sampled]
        self.backbone.init_whitening(to_input(dataset.train_images[sample].to(device), self.mean, self.std))
        self.norms = [m for m in self.backbone.modules() if isinstance(m, _BatchNorm)]
        self.optimizers = self._make_optimizers()
        self.crowded = is_crowded(len(dataset.classes), settings.embedding_dim)
        self.images, self.labels = dataset.train_images.to(device), dataset.train_labels.to(device)
        self.batch = min(settings.batch_size, len(self.images))
        self.steps_per_epoch = len(self.images) // self.batch  # a short last batch would upset batch normalisation
        self.ceiling = getattr(self.head, "ceiling", math.inf)  # AdaCos's, in the end
        # Between epochs the network is the running mean, and the weights that training goes on with wait in `other`;
        # in an epoch it is the other way round.
        states = {"model": self.backbone.state_dict(), "head": self.head.state_dict()}
        self.weights = {f"{part}.{name}": t for part, state in states.items() for name, t in state.items()
                        if t.is_floating_point() and settings.averaging}  # fmt: skip
        self.other = {name: t.clone() for name, t in self.weights.items()}
        self.epoch, self.seconds = 0, 0.0
        self.devices = [describe_device(device)]  # all that the run was trained on, if it was resumed elsewhere
        self.history: list[dict] = []

    def _make_optimizers(self) -> list[torch.optim.Optimizer]:
        """Muon for the filters; Adam for biases and class weights. No weight decay: filters are
        kept at a fixed length instead, and of all heads but softmax only the weights' direction counts."""
        filters = self.backbone.filters()
        known = {id(p) for p in filters}
        biases = [p for p in self.backbone.parameters() if p.requires_grad and id(p) not in known]
        muon = torch.optim.Muon(filters, lr=1.0, momentum=self.settings.momentum, nesterov=True, weight_decay=0.0)
        adam = torch.optim.Adam(
            [{"params": biases, "factor": BIAS_LR},
             {"params": [self.head.weight], "factor": HEAD_LR / self.settings.embedding_dim**0.5}],
            lr=1.0, betas=(self.settings.momentum, 0.99),
        )  # fmt: skip
        return [muon, adam]

    @torch.no_grad()
    def swap(self) -> None:
        """Exchange the mean and the weights that training goes on with; nothing without averaging."""
        for name, tensor in self.weights.items():
            waiting = self.other[name].clone()
            self.other[name].copy_(tensor)
            tensor.copy_(waiting)

    @torch.no_grad()
    def average(self, step: int) -> None:
        """Move the mean towards the weights after `step` (from 1) steps; at first it looks back over fewer steps."""
        decay = min(self.settings.averaging, step / (step + 10))
        for name, tensor in self.weights.items():
            self.other[name].lerp_(tensor, 1 - decay)

    def autocast(self) -> torch.autocast:
        """The context in which the network runs in bf16, where that is the run's precision."""
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.settings.precision == "bf16")

    def schedule(self, step: int) -> None:
        """Set learning rates and margin for `step` of the whole run: rates rise, then go as the schedule says.

        And how far the normalisation's statistics look back: at first over fewer steps, or a run of few of them, on a
        handful of images, would be tested with a good part of the statistics that it started with.
        """
        progress = step / (self.settings.epochs * self.steps_per_epoch)
        falling = SCHEDULES[self.settings.schedule](max(0.0, progress - LR_WARMUP) / (1 - LR_WARMUP))
        rate = self.settings.lr * min((progress + 1e-3) / LR_WARMUP, falling)
        for group in (g for o in self.optimizers for g in o.param_groups):
            group["lr"] = rate * group.get("factor", 1.0)
        for norm in self.norms:
            norm.momentum = max(NORM_MOMENTUM, 2 / (step + 2))
        warmup, start, full = self.settings.margin_warmup, self.settings.scale_start, self.settings.scale
        grown = min(1.0, progress / warmup) if warmup else 1.0
        self.head.margin_fraction = grown
        if start is not None and full is not None:
            start = min(start, full)
            self.head.scale = start * (full / start) ** grown
        elif start is not None:  # AdaCos: its own update alone would be at the ceiling before the classes part
            self.head.ceiling = start * (self.ceiling / start) ** grown

    def step(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """One step on uint8 images [B, C, H, W]; returns loss and number of correct predictions, on the device."""
        with self.autocast():
            embeddings = self.backbone(to_input(images, self.mean, self.std))
        if self.crowded and self.settings.loss != "softmax":
            # Normalising divides a sample's gradient by its length: in two or three dimensions the undecided samples
            # near the origin would drown out the rest. Undone there; in 512 all lengths are much the same.
            length = embeddings.detach().norm(dim=1, keepdim=True)
            embeddings.register_hook(lambda gradient: gradient * length)
        loss = F.cross_entropy(self.head(embeddings, labels), labels)
        for optimizer in self.optimizers:
            optimizer.zero_grad()
        loss.backward()
        with torch.no_grad():
            correct = (self.head(embeddings.detach()).argmax(1) == labels).sum()  # without margin, as in use
            for optimizer in self.optimizers:
                optimizer.step()
            for filters in self.backbone.filters():
                # Batch normalisation makes a filter's length meaningless; held fixed, the rate is a turning angle.
                filters.mul_(len(filters) ** 0.5 / filters.norm())
        return loss.detach(), correct

    def train_epoch(self, progress_bar: bool) -> dict:
        """Run one epoch; returns its history row, which is of the weights in training, not of their mean.

        Raises Diverged when the loss or a weight stops being a finite number, or the loss exceeds its limit.
        """
        started = time.perf_counter()
        self.backbone.train()
        self.head.train()
        self.swap()
        # Seeded by epoch, so that a resumed run sees what the uninterrupted one would have.
        random = torch.Generator().manual_seed(self.settings.seed * 100_003 + self.epoch)
        order = torch.randperm(len(self.images), generator=random).to(self.device)
        total, correct = (torch.zeros((), device=self.device) for _ in range(2))
        label = f"epoch {self.epoch + 1}/{self.settings.epochs}"
        # On a GPU whose looks nobody sees, none before the epoch's end: each waits until the GPU has caught up.
        every = REPORT_EVERY if progress_bar or self.device.type == "cpu" else self.steps_per_epoch
        with tqdm(total=self.steps_per_epoch * self.batch, unit="img", desc=label, disable=not progress_bar) as bar:
            for i in range(self.steps_per_epoch):
                self.schedule(self.epoch * self.steps_per_epoch + i)
                chosen = order[i * self.batch : (i + 1) * self.batch]
                images = augment(self.images[chosen], random, self.settings.shift, self.settings.flip)
                loss, right = self.step(images, self.labels[chosen])
                self.average(self.epoch * self.steps_per_epoch + i + 1)
                total += loss
                correct += right
                if (i + 1) % every == 0 or i + 1 == self.steps_per_epoch:
                    limit = EXPLODED * (math.log(self.head.weight.shape[0]) + float(self.head.scale))
                    self.check(total / (i + 1), self.epoch * self.steps_per_epoch + i + 1, limit)
                    seen = (i + 1) * self.batch
                    bar.set_postfix(loss=f"{total.item() / (i + 1):.3f}", acc=f"{correct.item() / seen:.2%}")
                    bar.update(seen - bar.n)
        # The last step's loss is that of the weights before it: what it made of them must not reach a checkpoint.
        weights = sum(p.detach().sum() for p in (*self.backbone.parameters(), self.head.weight))
        self.check(torch.as_tensor(weights), (self.epoch + 1) * self.steps_per_epoch, what="the sum of the weights")
        scale = round(float(self.head.scale), 4)
        self.swap()
        elapsed = time.perf_counter() - started
        self.seconds += elapsed
        self.epoch += 1
        images_seen = self.steps_per_epoch * self.batch
        row = {
            "epoch": self.epoch,
            "loss": round(total.item() / self.steps_per_epoch, 6),
            "train_accuracy": round(correct.item() / images_seen, 6),
            "images_per_second": round(images_seen / elapsed),
            "seconds": round(self.seconds, 2),
            "scale": scale,
        }
        self.history.append(row)
        return row

    def check(self, value: Tensor, step: int, limit: float = math.inf, what: str = "the loss") -> None:
        """Diverged, naming step, cause and remedy, when what training yields is no number or a loss over `limit`."""
        if not value.item() < limit or not math.isfinite(value.item()):
            raise Diverged(
                f"{what} became {value.item():.4g} by step {step}: training has diverged; likely cause: "
                f"{likely_cause(self.settings, len(self.head.weight))}; else {remedies(self.settings)}"
            )

    def embed(self, images: Tensor) -> Tensor:
        """Embeddings [N, d] (float32, on the CPU) of uint8 images [N, C, H, W], in eval mode."""
        return embed(self.backbone, images, self.mean, self.std, self.autocast())

    def state(self, fingerprint: str) -> dict:
        """Everything a resumed run needs to end as the uninterrupted one would."""
        return {
            "model": self.backbone.state_dict(), "head": self.head.state_dict(), "mean": self.mean, "std": self.std,
            "other": self.other, "optimizer": [o.state_dict() for o in self.optimizers],
            "epoch": self.epoch, "seconds": self.seconds, "devices": self.devices,
            "history": self.history, "random": torch.get_rng_state(), "config": self.settings.to_json(),
            "fingerprint": fingerprint,
        }  # fmt: skip

    def load_state(self, state: dict, fingerprint: str) -> None:
        """Take up a state of `state()`; RunError when it belongs to other settings or other data."""
        if repr(state.get("config")) != repr(self.settings.to_json()):
            raise RunError("checkpoint.pt is from a run of other settings: use --overwrite or --name")
        if str(state.get("fingerprint")) != fingerprint:
            raise RunError("the data have changed since this run began: put them back, or use --overwrite or --name")
        try:
            check_state(state, self.state(fingerprint), self.settings.epochs)
            self.backbone.load_state_dict(state["model"])
            self.head.load_state_dict(state["head"])
            for name, tensor in self.other.items():
                tensor.copy_(state["other"][name])
            for optimizer, saved in zip(self.optimizers, state["optimizer"], strict=True):
                optimizer.load_state_dict(saved)
                check_optimizer(optimizer)
            torch.set_rng_state(state["random"].cpu())
            self.epoch, self.seconds, self.history = state["epoch"], float(state["seconds"]), state["history"]
            self.devices = list(dict.fromkeys([*state["devices"], *self.devices]))
        except (RuntimeError, *BAD_CONTENT) as error:
            if lacks_memory(error):
                raise
            raise RunError("checkpoint.pt is from another network or incomplete: use --overwrite or --name") from None


@torch.no_grad()
def embed(backbone: Backbone, images: Tensor, mean: Tensor, std: Tensor, autocast: torch.autocast) -> Tensor:
    """Embeddings [N, d] (float32, on the CPU) of uint8 images [N, C, H, W], with the network in eval mode."""
    backbone.eval()
    parts = []
    most = EVAL_BATCH if mean.device.type == "cpu" else EVAL_BATCH_ON_GPU
    batch = max(1, min(most, most * 32**2 // images[0, 0].numel())) if len(images) else 1
    with autocast:
        for part in images.split(batch):
            parts.append(backbone(to_input(part.to(mean.device), mean, std)).float().cpu())
    return torch.cat(parts)
