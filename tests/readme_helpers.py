"""README's text and the stored results behind its sentences."""

import json
from pathlib import Path
from statistics import fmean

from scipy.stats import ttest_rel

from choices import LOSSES

ROOT = Path(__file__).resolve().parents[1]
TEXT = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
MARGINS = [loss for loss, entry in LOSSES.items() if entry.own_margin]


def values(loss: str, name: str, *keys: str, dataset: str = "mnist") -> dict[int, float]:
    """{seed: a figure of a stored run, in per cent}."""
    found = {}
    for path in (ROOT / "report" / "results").glob(f"{dataset}-{loss}-512d-seed[0-9]{name}.json"):
        facts = value = json.loads(path.read_text())
        for key in keys:
            value = value[key]
        found[facts["seed"]] = 100 * value
    return found


def mean(loss: str, name: str, *keys: str) -> float:
    return fmean(values(loss, name, *keys).values())


def interval(loss: str, name: str, *keys: str) -> tuple[float, float]:
    """Student's 95 % interval of the loss's paired difference to normalised softmax, over shared seeds."""
    return paired_interval(*(values(which, name, *keys) for which in (loss, "norm-softmax")))


def paired_interval(ours: dict[int, float], base: dict[int, float]) -> tuple[float, float]:
    seeds = sorted(ours.keys() & base.keys())
    found = ttest_rel([ours[s] for s in seeds], [base[s] for s in seeds]).confidence_interval(0.95)
    return found.low, found.high
