"""The study: which runs it is made of, in which order, and how long they will take. It trains nothing itself.

The order puts first what says most: one seed of every loss on both sets, then MNIST's other seeds and drawings, then
what takes hours. Whatever a run does not name comes from recipes.py.
"""

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import NamedTuple

import devices
import options
from choices import CIFAR_CLASSES, DIGITS
from recipes import BASE, Settings
from runs import BAD_CONTENT

LOSS_ORDER = ("arcface", "softmax", "norm-softmax", "cosface", "sphereface", "combined", "li-arcface", "adacos")
SEEDS = {"mnist": 5, "cifar10": 5}  # of the main table
SEEDS_ON_GPU = 10  # there a run takes a minute or two
CLASSES = {"mnist": DIGITS, "cifar10": CIFAR_CLASSES}
SPLITS = (("7", "8", "9"), ("2", "4", "6"))  # classes held out in the open-set runs
# Grids compare settings with each other, not with the table: two of the recipe's epochs show where they fail.
GRID_EPOCHS = 2
SCALES = (1, 4, 16, 64)
# Normalised softmax once more with the recipe's epochs: AdaCos ends near the first of MNIST's scales, CIFAR-10's recipe
# has the second. On CIFAR-10 at the slope of Li-ArcFace's line at a right angle (see OTHER_SCALES), and at MNIST's
# scale: is it normalising or the small scale that helps there, and do the papers' margins do at that scale what they do
# not at the recipe's?
PLAIN_SCALES = {"mnist": (2, 4), "cifar10": (2.55, 16)}
LARGE_SCALE = {"cifar10": {"arcface": 0.5, "cosface": 0.35}}  # margins at the largest of these
CONTROL_SEEDS = 5
# MNIST's recipe once more from a quarter of its scale to four times that, in three parts, each declared when those
# before it were known. Without a margin, with ArcFace's, and with Li-ArcFace's straight line and no margin: are margin
# and line but another scale, or better at the same tightness? Between 4 and 16 normalised softmax passes the tightness
# of ArcFace at 16, hence 8. Then, as a straight line falls by 2 s / pi a radian everywhere and s cos(theta) by s at a
# right angle: normalised softmax with the slope there of Li-ArcFace's 16 and 64. Last, a margin of the cosine.
OTHER_SCALES = (
    {"norm-softmax": (8, 64), "arcface": (4, 64), "li-arcface": (4, 64)},
    {"norm-softmax": (10.19, 40.74)},
    {"cosface": (4, 64)},
)
SCALE_SEEDS = 5
# ArcFace's margin has no feasible region beyond 1.68 radians for ten classes, CosFace's beyond 1.11.
MARGINS = {"arcface": (0.1, 0.3, 0.5, 1.0, 1.8), "cosface": (0.1, 0.35, 0.7, 1.0, 1.3)}
# In the plane: the papers' 0.5 and 0.35 among them. Feasible are ArcFace's margins under 0.628, CosFace's under 0.191.
PLANE_MARGINS = {"arcface": (0.15, 0.3, 0.5, 0.8, 1.2), "cosface": (0.05, 0.1, 0.2, 0.35, 0.7)}
PLANE_SCALES = (4, 16, 64)  # ten centres need 15.1 to reach a probability of 0.9 on the circle
# Of those, at the middle scale and in full from the first step, over three seeds: one that fits and two that do not.
PLANE_REPEATED = {"arcface": (0.5, 0.8, 1.2), "cosface": (0.1, 0.35, 0.7)}
BATCHES, RATES = (64, 256, 1024), (0.005, 0.025, 0.125, 0.625)
DIMENSIONS = (2, 3, 8, 32, 128, 512, 1024)
TABLE_DIM = 512  # of the main table, whose runs serve among DIMENSIONS too
# Epochs, beside the recipe's: what time buys. CIFAR-10's own once more, to be timed where the others are.
BUDGETS = {"mnist": (1, 2, 4, 16), "cifar10": (2, 5, 10, 20)}
# Seconds an epoch on two cores with AVX512-BF16, where no run on such hardware is stored to tell; and for loading,
# measuring and storing.
SECONDS_AN_EPOCH = {"mnist": 13.0, "cifar10": 150.0}
SECONDS_BESIDE = 25.0


# MNIST once more with more training and the mean of its weights, as chosen on 20,000 validation images (two seeds, mean
# errors): 101.5 of the recipe's last weights, 97 of their mean, 85.5 of the last after 14 epochs and 82 of their mean.
# After five seeds had told no two losses apart by accuracy, five more were decided on, for all three and whatever they
# would show: an interval of ten is little more than half as wide. On CIFAR-10 with twice the recipe's epochs, whose
# runs are of the mean of the weights in any case.
LONGER = {"mnist": (("epochs", 14), ("averaging", 0.995)), "cifar10": (("epochs", 20), ("averaging", 0.995))}
LONGER_SEEDS = {"mnist": 10, "cifar10": 5}
# The same with the network that left the fewest errors there (means of four seeds): 82.75 of 19,999 with a third
# convolution a block and more channels, 85 with the third alone, 84.25 without.
WIDER, WIDER_SEEDS = (("depth", 3), ("widths", "32,96,192"), *LONGER["mnist"]), 5
# And once more with the network and the training that left the fewest there when these, too, were up for choice: 79.5
# (means of four other seeds, on a GPU), where the usual network left 84.25 after as many epochs.
LARGEST, LARGEST_SEEDS = (("depth", 3), ("widths", "64,128,256"), ("epochs", 28), ("averaging", 0.999)), 10


class Run(NamedTuple):
    """One run of the study: what train.py is called with. extra: (flag, value) pairs beyond the recipe."""

    part: str  # of the study, such as main, control or drawn: see study()
    dataset: str
    loss: str
    embedding_dim: int = TABLE_DIM
    seed: int = 0
    extra: tuple[tuple[str, object], ...] = ()
    hold_out: tuple[str, ...] = ()

    def name(self) -> str:
        """Its folder and stored result: 'mnist-arcface-512d-seed0', then what is not the recipe's."""
        held_out = "-without-" + "-".join(self.hold_out) if self.hold_out else ""
        settings = "".join(f"-{flag}={value}" for flag, value in self.extra)
        return f"{self.dataset}-{self.loss}-{self.embedding_dim}d-seed{self.seed}{held_out}{settings}"

    def flags(self) -> list[str]:
        """train.py's flags that make this run what it is."""
        flags = ["--dataset", self.dataset, "--loss", self.loss, "--embedding-dim", str(self.embedding_dim)]
        flags += ["--seed", str(self.seed), *(["--hold-out", *self.hold_out] if self.hold_out else [])]
        return flags + [word for flag, value in self.extra for word in (f"--{flag}", str(value))]

    def snapshots(self) -> bool:
        """Whether figures show this run in the course of its training."""
        return self.part == "drawn" or (self.part == "main" and self.seed == 0)

    def settings(self, dataset: str | None = None) -> dict:
        """All its settings as train.py would record them now; dataset: the one found, where not the one asked for."""
        flags = options.parse_flags(self.flags())
        held_out = [c for c in CLASSES[self.dataset] if c in self.hold_out]
        count = len(CLASSES[self.dataset]) - len(held_out)
        return options.resolve(flags, dataset or self.dataset, count, held_out).to_json()


def study(seeds: int | None = None) -> list[Run]:
    """All runs in order, none twice; seeds: how many of the main table in place of SEEDS."""
    least = SEEDS_ON_GPU if devices.pick_device("auto").startswith("cuda") else 1
    count = {dataset: seeds or max(n, least) for dataset, n in SEEDS.items()}
    parts = [
        table("mnist", range(1)), table("cifar10", range(1)), table("mnist", range(1, count["mnist"])),
        other_scales("mnist"), other_margins("mnist"), scales(), longer("mnist"), wider(), drawn("mnist"),
        budgets("mnist"), open_set(range(1)), sensitivity(), plane(),
        table("cifar10", range(1, min(2, count["cifar10"]))), other_scales("cifar10"), other_margins("cifar10"),
        drawn("cifar10"), budgets("cifar10"), open_set(range(1, 3)),
        table("cifar10", range(2, count["cifar10"])), longer("cifar10"),
    ]  # fmt: skip
    runs: dict[str, Run] = {}
    for run in (run for part in parts for run in part):
        runs.setdefault(run.name(), run)
    return list(runs.values())


def table(dataset: str, seeds: range) -> Iterator[Run]:
    """Every loss at 512 dimensions."""
    yield from (Run("main", dataset, loss, seed=seed) for seed in seeds for loss in LOSS_ORDER)


def other_scales(dataset: str) -> Iterator[Run]:
    """Norm-softmax at other scales than the recipe's: can a scale alone do what a margin does? And margins there."""
    scales = PLAIN_SCALES[dataset]
    for seed in range(CONTROL_SEEDS):
        yield from (Run("control", dataset, "norm-softmax", seed=seed, extra=(("scale", scale),)) for scale in scales)
        for loss, margin in LARGE_SCALE.get(dataset, {}).items():
            yield Run("control", dataset, loss, seed=seed, extra=(("scale", max(scales)), ("margin", margin)))


def other_margins(dataset: str) -> Iterator[Run]:
    """The combined form's other preset in ArcFace's Table 2, on MNIST, and Li-ArcFace without a margin, which tells
    what its straight line does in the cosine's place from what its margin does."""
    for seed in range(CONTROL_SEEDS):
        if dataset == "mnist":
            yield Run("control", dataset, "combined", seed=seed, extra=(("margin", "cm2"),))
        yield Run("control", dataset, "li-arcface", seed=seed, extra=(("margin", 0),))


def scales() -> Iterator[Run]:
    """Without a margin, with ArcFace's and CosFace's, with a straight line: each at several scales, so that tightness
    and error can be compared along s."""
    for part in OTHER_SCALES:
        for seed in range(SCALE_SEEDS):
            for loss, values in part.items():
                bare = (("margin", 0),) if loss == "li-arcface" else ()
                yield from (Run("scale", "mnist", loss, seed=seed, extra=(("scale", s), *bare)) for s in values)


def longer(dataset: str) -> Iterator[Run]:
    """More training: how far it goes, and whether the losses stand to each other as before."""
    for seed in range(LONGER_SEEDS[dataset]):
        yield from (Run("longer", dataset, loss, seed=seed, extra=LONGER[dataset]) for loss in LOSS_ORDER[:3])


def wider() -> Iterator[Run]:
    """ArcFace on MNIST with more training and two larger networks: how far does it go?"""
    yield from (Run("wider", "mnist", "arcface", seed=seed, extra=WIDER) for seed in range(WIDER_SEEDS))
    yield from (Run("largest", "mnist", "arcface", seed=seed, extra=LARGEST) for seed in range(LARGEST_SEEDS))


def drawn(dataset: str) -> Iterator[Run]:
    """Every loss in two and three dimensions; on CIFAR-10 with a sixth of the recipe's work an image, in fewer epochs:
    enough to see where the classes go."""
    extra = (("epochs", 6), ("widths", "32,64,128")) if dataset == "cifar10" else ()
    yield from (Run("drawn", dataset, loss, dim, extra=extra) for dim in (2, 3) for loss in LOSS_ORDER)


def budgets(dataset: str) -> Iterator[Run]:
    """ArcFace with less and with more training than its recipe."""
    yield from (Run("budget", dataset, "arcface", extra=(("epochs", count),)) for count in BUDGETS[dataset])


def open_set(seeds: range) -> Iterator[Run]:
    """Every loss without each split's classes, which are then verified and retrieved."""
    for seed in seeds:
        yield from (Run("open", "mnist", loss, seed=seed, hold_out=split) for split in SPLITS for loss in LOSS_ORDER)


def sensitivity() -> Iterator[Run]:
    """What the seed notes say ArcFace depends on: s and m, batch size and learning rate, schedule, ramp, dimension."""

    def run(loss: str, dataset: str = "mnist", epochs: int = GRID_EPOCHS, seed: int = 0, **extra: object) -> Run:
        pairs = tuple((name.replace("_", "-"), value) for name, value in extra.items())
        return Run("sensitivity", dataset, loss, seed=seed, extra=(*pairs, ("epochs", epochs)))

    yield from (run("norm-softmax", scale=s) for s in SCALES)  # the grids' row without a margin
    for loss, margins in MARGINS.items():
        yield from (run(loss, scale=s, margin=m) for m in margins for s in SCALES)
    yield from (run("arcface", batch_size=size, lr=rate) for size in BATCHES for rate in RATES)
    for seed in range(3):
        yield from (run("arcface", seed=seed, schedule=name) for name in ("linear", "cosine", "constant"))
        for loss in ("arcface", "cosface"):
            yield from (run(loss, seed=seed, margin_warmup=part) for part in (0.0, 0.25, 0.5, 0.8))
        yield from (Run("sensitivity", "mnist", "arcface", dim, seed) for dim in DIMENSIONS if dim != TABLE_DIM)


def plane() -> Iterator[Run]:
    """Margin by scale in two dimensions, where theory leaves the larger margins no room: what becomes of them?

    First as the recipe has it, scale and margin growing from little, then both in full from the first step.
    """

    def run(loss: str, scale: float, margin: float | None, at_once: bool, seed: int = 0) -> Run:
        own = (("margin", margin),) if margin else ()
        ramp = (("margin-warmup", 0.0),) if at_once else ()
        return Run("plane", "mnist", loss, 2, seed, (("scale", scale), *own, *ramp, ("epochs", GRID_EPOCHS)))

    for at_once in (False, True):
        for loss, margins in {"norm-softmax": (None,), **PLANE_MARGINS}.items():
            yield from (run(loss, s, m, at_once) for m in margins for s in PLANE_SCALES)
    for seed in (1, 2):
        for loss, repeated in PLANE_REPEATED.items():
            yield from (run(loss, PLANE_SCALES[1], m, True, seed) for m in repeated)


def seconds(run: Run, stored: list[dict]) -> float:
    """Estimated time of a run: runs of its data set stored on such a device tell an epoch's, else SECONDS_AN_EPOCH."""
    kind, settings = devices.pick_device("auto").partition(":")[0], run.settings()
    like = []
    for facts in stored:
        with contextlib.suppress(*BAD_CONTENT):  # a damaged one tells nothing
            same = facts["dataset"] == run.dataset and not facts["hold_out"]
            if same and facts["train_seconds"] and facts["device"].startswith(f"{kind},"):
                like.append(facts["train_seconds"] / facts["epochs"] / work(facts["widths"], facts["depth"]))
    part = 1 - len(run.hold_out) / len(CLASSES[run.dataset])
    usual = BASE[run.dataset]
    rate = SECONDS_AN_EPOCH[run.dataset] / work(usual["widths"], usual.get("depth", Settings.depth))
    epoch = (median(like) if like else rate) * work(settings["widths"], settings["depth"])
    return settings["epochs"] * epoch * part + SECONDS_BESIDE


def work(widths: Sequence[int], depth: int) -> float:
    """Multiplications of an image's way through the three blocks, in parts of those of one filter on all its pixels:
    each block's first convolution has the channels before it, the others its own, on a quarter of the last's pixels."""
    before = (2 * 2 * 2, *widths)  # the whitened channels of grey patches, or near to that
    return sum((before[i] * wide + (depth - 1) * wide**2 / 4) / 4**i for i, wide in enumerate(widths))


def where(folder: Path, run: Run) -> Path:
    """The stored result of a run in the folder of results."""
    return folder / f"{run.name()}.json"
