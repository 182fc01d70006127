"""The study's stored results as the figures need them: chosen, grouped and compared. Reads report/results/ only."""

import math
import re
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure

from choices import LOSSES, Margins
from plot_tables import checked, key_of
from recipes import Settings
from runs import STORE_ANEW, RunError, read_arrays, read_json

LEVEL = 0.95  # of intervals
GRIDS = ("sensitivity", "plane")  # parts of the study
# What runs must share to differ in their loss alone.
SHARED = ("epochs", "batch_size", "lr", "momentum", "averaging", "schedule", "widths", "depth", "shift", "flip",
          "margin_warmup", "fingerprint")  # fmt: skip
# What every record has, of a failed run too.
NEEDED = ("fingerprint", "classes", *(f.name for f in fields(Settings) if f.default is MISSING))
VARIED = {"margin": ("m1", "m2", "m3")}  # the settings behind a flag, where it is not one of the same name


class NotStored(Exception):
    """A figure's runs are not stored yet: str() says which are wanting."""


class Drawn(NamedTuple):
    """A figure and the caption that says what it shows, from how many runs, and what it does not show."""

    figure: Figure
    caption: str


class Study:
    """All stored runs. A run is its metrics with `name`, `part` and `history`.

    failed: those that diverged, which are no runs, and those that ended near chance, which are among `runs` as well.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self.runs: list[dict] = []
        self.failed: list[dict] = []
        for path in sorted(folder.glob("*-seed*.json")):
            facts = {"part": "main", "history": [], **read_json(path, STORE_ANEW), "name": path.stem}
            if missing := [name for name in NEEDED if name not in facts]:
                raise RunError(f"{path} lacks {missing[0]}: {STORE_ANEW}")
            if "failed" in facts:
                self.failed.append(facts)
            if "accuracy" in facts or "failed" not in facts:
                self.runs.append(checked(facts, path, STORE_ANEW))

    def arrays(self, facts: dict) -> dict[str, np.ndarray]:
        """The arrays stored with a run, none where there are none. RunError when the file is damaged."""
        path = self.folder / f"{facts['name']}.npz"
        return read_arrays(path, STORE_ANEW) if path.exists() else {}

    def main(self, dataset: str, dim: int = 512) -> dict[str, list[dict]]:
        """The main table's runs by loss, in the order of LOSSES, each loss's by seed. NotStored when there is none."""
        plain = [f for f in self.runs if f["name"] == f"{dataset}-{f['loss']}-{dim}d-seed{f['seed']}"]
        return by_loss(plain, f"{dataset} at {dim} dimensions")

    def drawn(self, dataset: str, dim: int) -> list[dict]:
        """One run a loss in `dim` dimensions, its first seed, with arrays. NotStored when there is none."""
        pattern = re.compile(rf"{dataset}-[a-z-]+-{dim}d-seed\d+(-epochs=\d+)?(-widths=[\d,]+)?")
        found = [f for f in self.runs if pattern.fullmatch(f["name"]) and f["dataset"] == dataset]
        found = [f for f in found if (self.folder / f"{f['name']}.npz").exists() and not f["unseen_classes"]]
        return [group[0] for group in by_loss(found, f"{dataset} in {dim} dimensions").values()]

    def open_set(self) -> dict[tuple[str, ...], dict[str, list[dict]]]:
        """Runs with held-out classes, by split and loss. NotStored when there is none."""
        splits = sorted({tuple(f["unseen_classes"]) for f in self.runs if f["part"] == "open"})
        if not splits:
            raise NotStored("runs with held-out classes")
        return {
            split: by_loss([f for f in self.runs if f["part"] == "open" and tuple(f["unseen_classes"]) == split], "")
            for split in splits
        }

    def budgets(self, dataset: str) -> list[dict]:
        """ArcFace at 512 dimensions with several numbers of epochs, ordered by them, all timed on one device.

        Seed 0 alone; a run timed on other hardware or threads than most of them is left out. NotStored without two.
        """
        pattern = re.compile(rf"{dataset}-arcface-512d-seed0(-epochs=\d+)?")
        found = [f for f in self.runs if pattern.fullmatch(f["name"])]
        same = [f.name for f in fields(Settings) if f.name not in ("epochs", "precision")]
        found = most_alike(found, lambda facts: str([facts.get(name) for name in (*same, "fingerprint")]))
        found = most_alike(found, lambda facts: facts["device"])
        if len(found) < 2:
            raise NotStored(f"ArcFace runs on {dataset} with several numbers of epochs")
        by_epochs = {f["epochs"]: f for f in reversed(found)}  # where the recipe's own was run twice, the first
        return sorted(by_epochs.values(), key=lambda f: f["epochs"])

    def grid(self, loss: str, names: tuple[str, ...], dataset: str = "mnist", dim: int = 512) -> list[dict]:
        """A grid's runs of a loss, failed ones included, whose name gives values for just these flags.

        Only the most that differ in nothing but these flags, seed and precision, as in `by_loss`.
        """
        pattern = "".join(f"-{name}=[^-]+(?:-\\d+)?" for name in names)
        whole = re.compile(rf"{dataset}-{loss}-{dim}d-seed\d+{pattern}-epochs=\d+")
        lost = [f for f in self.failed if "accuracy" not in f]
        found = [f for f in (*self.runs, *lost) if whole.fullmatch(f["name"]) and f["part"] in GRIDS]
        varied = {
            "seed",
            "precision",
            *(setting for name in names for setting in VARIED.get(name, (name.replace("-", "_"),))),
        }
        same = [f.name for f in fields(Settings) if f.name not in varied]
        return most_alike(found, lambda facts: str([facts.get(name) for name in same] + [facts["fingerprint"]]))

    def margin_grid(self, loss: str, dim: int = 512, more: tuple[str, ...] = ()) -> list[dict]:
        """`grid` of scale, margin and `more` flags, with normalised softmax of the same recipe as its first row.

        Its first seed only: a cell is a run.
        """
        runs = [f for f in self.grid(loss, ("scale", "margin", *more), dim=dim) if f["seed"] == 0]
        alike = {str([f.get(name) for name in SHARED]) for f in runs}
        plain = self.grid("norm-softmax", ("scale", *more), dim=dim)
        return [*(f for f in plain if str([f.get(name) for name in SHARED]) in alike), *runs]


def most_alike(runs: Iterable[Any], key: Callable[[Any], Hashable]) -> list[Any]:
    """The most runs that share a key, the first where tied; none of none."""
    kinds: dict[Hashable, list[Any]] = {}
    for run in runs:
        kinds.setdefault(key(run), []).append(run)
    return max(kinds.values(), key=len, default=[])


def by_loss(runs: Iterable[dict], wanted: str) -> dict[str, list[dict]]:
    """Runs grouped by loss in the order of LOSSES, sorted by seed. NotStored naming `wanted` when there are none.

    Of each loss only the most that differ in nothing but their seed: results of an older recipe lie beside those of a
    newer one until all have been run again.
    """
    groups: dict[str, list[dict]] = {}
    for loss in LOSSES:
        if members := most_alike(sorted((f for f in runs if f["loss"] == loss), key=lambda f: f["seed"]), key_of):
            groups[loss] = members
    if not groups:
        raise NotStored(f"runs on {wanted}")
    return groups


def margins_in(facts: dict) -> Margins:
    """A run's margins."""
    return Margins(facts["m1"], facts["m2"], facts["m3"])


def head_accuracy(facts: dict) -> float:
    """Test accuracy of the head without margin, in per cent."""
    return 100 * facts["accuracy"]["head"]["value"]


def accuracy_or_chance(facts: dict) -> float:
    """`head_accuracy`, or for a run that diverged what guessing one class gets, in per cent."""
    return head_accuracy(facts) if "accuracy" in facts else 100 / len(facts["classes"])


def seed_pairs(ours: dict[int, float], others: dict[int, float]) -> list[tuple[float, float]]:
    """The values of two {seed: value}, seed by seed, over the seeds that both have."""
    return [(ours[seed], others[seed]) for seed in sorted(ours.keys() & others.keys())]


def minus(pairs: Iterable[tuple[float, float]]) -> list[float]:
    """The differences of pairs."""
    return [a - b for a, b in pairs]


def half_width(differences: Sequence[float]) -> float:
    """Half of Student's interval of the mean of paired differences at LEVEL; infinite where there is none: of one, and
    of several `without_spread`."""
    if len(differences) < 2 or without_spread(differences):
        return math.inf
    from scipy.special import stdtrit

    of_mean = np.std(differences, ddof=1) / math.sqrt(len(differences))
    return float(stdtrit(len(differences) - 1, (1 + LEVEL) / 2) * of_mean)


def without_spread(differences: Sequence[float]) -> bool:
    """Whether differences are one and the same number other than 0: accuracies come in steps of an image, so that this
    happens by chance, and Student's interval of them would have no width."""
    return bool(np.ptp(differences) < 1e-9 < abs(differences[0]))


def seeds_of(groups: dict[str, list[dict]]) -> str:
    """'5 seeds' or '1 to 3 seeds', for captions."""
    counts = sorted({len(members) for members in groups.values()})
    if counts == [1]:
        return "one seed"
    return f"{counts[0]} to {counts[-1]} seeds" if len(counts) > 1 else f"{counts[0]} seeds"
