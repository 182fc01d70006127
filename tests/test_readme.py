"""README's own sentences against the stored results; its tables are written by experiments.py."""

import json
from pathlib import Path
from statistics import fmean

from losses import LOSSES

ROOT = Path(__file__).resolve().parents[1]
TEXT = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
MARGINS = [loss for loss, entry in LOSSES.items() if entry.own_margin]


def mean(loss: str, name: str, *keys: str) -> float:
    """Mean over seeds of a figure of stored MNIST runs, in per cent."""
    values = []
    for path in sorted((ROOT / "report" / "results").glob(f"mnist-{loss}-512d-seed[0-9]{name}.json")):
        value = json.loads(path.read_text())
        for key in keys:
            value = value[key]
        values.append(100 * value)
    return fmean(values)


def test_the_equal_error_rates_are_those_stored():
    errors = {loss: mean(loss, "", "verification", "eer") for loss in (*MARGINS, "norm-softmax")}
    sphereface, base = errors.pop("sphereface"), errors.pop("norm-softmax")
    low, high = min(errors.values()), max(errors.values())
    said = f"from {base:.2f} % to between {low:.2f} and {high:.2f} % (SphereFace's to {sphereface:.2f})"
    assert said in TEXT and low / base > 0.5 and high / base < 0.62  # "nearly halve"


def test_the_rank_1_figures_on_unseen_digits_are_those_stored():
    ranks = {loss: mean(loss, "-without-7-8-9", "retrieval", "rank_1") for loss in (*MARGINS, "norm-softmax")}
    base = ranks.pop("norm-softmax")
    low, high = min(ranks.values()), max(ranks.values())
    assert f"{base:.1f} % of the time with normalised softmax, and {low:.1f} to {high:.1f} % with a margin" in TEXT


def test_the_equal_error_rates_on_unseen_digits_are_those_stored():
    errors = {loss: mean(loss, "-without-2-4-6", "verification", "eer") for loss in (*MARGINS, "norm-softmax")}
    base = errors.pop("norm-softmax")
    low, high = min(errors.values()), max(errors.values())
    assert f"rises from {base:.1f} % to between {low:.1f} and {high:.1f} %" in TEXT
