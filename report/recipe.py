"""What each part of CIFAR-10's recipe is worth, and of MNIST's scale, from the runs on validation images that they were
chosen by."""

import re
from collections.abc import Callable
from pathlib import Path
from statistics import fmean
from typing import TypeVar

from recipes import BASE, SCALE, Settings
from report.facts import number
from runs import BAD_CONTENT, RunError, read_json
from study import LONGER

SEARCH, MNIST_SEARCH = "recipe_search.json", "recipe_search_mnist.json"
T = TypeVar("T")
REMEDY = "take it from the repository again"
DEEP = {"momentum": 0.8, "depth": 3, "residual": True}
SHORT = DEEP | {"epochs": 7.4}  # on two cores as long as what went before
DECAY = 0.995
# What a row of the table adds to the one above: what was changed against the recipe before, and the mean's decay.
STEPS: tuple[tuple[str, dict, float | None], ...] = (
    ("before", {}, None),
    ("momentum", {"momentum": 0.8}, None),
    ("averaging", {"momentum": 0.8}, DECAY),
    ("depth", SHORT, DECAY),
    ("epochs", DEEP, DECAY),
)


def accuracies(found: dict, changed: dict, averaging: float | None) -> list[float]:
    """Validation accuracies in per cent, one a seed, of CIFAR-10's runs with just these changes; with `averaging`, of
    the running mean of their weights."""
    name = "averaged_accuracy" if averaging else "accuracy"
    by_seed = {run["seed"]: 100 * run[name] for run in found["runs"] if run["dataset"] == "cifar10"
               and run["changed"] == changed and averaging in (None, run.get("averaging"))}  # fmt: skip
    return [by_seed[seed] for seed in sorted(by_seed)]


def read_stored(path: Path, use: Callable[[dict], T], remedy: str = REMEDY) -> T | None:
    """What `use` makes of a stored file; None where there is none. RunError, with `remedy`, where it is damaged."""
    if not path.exists():
        return None
    found = read_json(path, remedy)
    try:
        return use(found)
    except BAD_CONTENT as error:
        raise RunError(f"{path} is damaged ({error}): {remedy}") from None


def recipe(results: Path) -> dict | None:
    """The table's rows as text, the number of trainings in all, and their device; None where nothing is stored."""
    return read_stored(results / SEARCH, table)


def scale_search(results: Path) -> list[dict] | None:
    """MNIST's scales tried with the longer training, the largest first: mean validation errors, as text, seeds and
    images. None where nothing is stored."""
    return read_stored(results / MNIST_SEARCH, by_scale)


def by_scale(found: dict) -> list[dict] | None:
    """`scale_search` from the file's content."""
    tried: dict[float, list[dict]] = {}
    for run in found["scale"]["runs"]:
        tried.setdefault(run["scale"], []).append(run)
    return [{"scale": f"{s:g}", "errors": number(fmean(run["errors"] for run in runs), 0), "n": len(runs),
             "images": f"{runs[0]['test_images']:,}"}
            for s, runs in sorted(tried.items(), reverse=True)] or None  # fmt: skip


def network_search(results: Path) -> list[dict]:
    """MNIST's networks and lengths of training tried on validation images: channels, convolutions a block, whether both
    are the recipe's (`usual`), epochs, decay of the mean of the weights, mean errors, as text, and seeds. Empty where
    nothing is stored."""
    return read_stored(results / MNIST_SEARCH, by_network) or []


def by_network(found: dict) -> list[dict]:
    """`network_search` from the file's content."""
    usual, longer = BASE["mnist"], dict(LONGER["mnist"])
    own = {"widths": usual["widths"], "depth": Settings.depth}
    first = [own | run for run in found["scale"]["runs"] if run["scale"] == SCALE]
    tried: dict[tuple, list[int]] = {}
    for run in (*first, *found.get("network", {"runs": []})["runs"]):
        key = tuple(run["widths"]), run["depth"], longer["epochs"], longer["averaging"]
        tried.setdefault(key, []).append(run["errors"])
    for run in found.get("gpu", {"chosen_among": []})["chosen_among"]:
        setting = own | run["changed"]
        if setting.keys() == {"widths", "depth", "epochs"}:
            for decay, errors in run["averaged_errors"].items():
                key = tuple(setting["widths"]), setting["depth"], setting["epochs"], float(decay)
                tried.setdefault(key, []).append(errors)
    network = tuple(own["widths"]), own["depth"]
    return [{"net": "/".join(map(str, widths)), "depth": depth, "usual": (widths, depth) == network, "epochs": epochs,
             "averaging": averaging, "n": len(errors), "errors": number(fmean(errors), 0)}
            for (widths, depth, epochs, averaging), errors in tried.items()]  # fmt: skip


def table(found: dict) -> dict:
    """`recipe` from the file's content."""
    rows = []
    for key, changed, averaging in STEPS:
        values = accuracies(found, changed, averaging)
        rows.append({"key": key, "mean": number(fmean(values), 2), "n": len(values),
                     "each": [number(value, 2) for value in values]})  # fmt: skip
    # One training may be stored with several means of its weights.
    tries = {(run["seed"], str(run["changed"])) for run in found["runs"] if run["dataset"] == "cifar10"}
    sizes, base = re.findall(r"\d[\d,]*", found["images"]["cifar10"]), found["base"]["cifar10"]
    settings = {
        "images": sizes[0], "others": sizes[1], "epochs": base["epochs"], "before": base["momentum"],
        "momentum": DEEP["momentum"], "decay": DECAY, "short": SHORT["epochs"],
    }  # fmt: skip
    return {"rows": rows, "tries": len(tries), "device": found["device"].removeprefix("cuda, "), "settings": settings}
