"""README's own sentences against the stored results; its tables are written by experiments.py."""

import json
from pathlib import Path
from statistics import fmean

from scipy.stats import ttest_rel

from losses import LOSSES

ROOT = Path(__file__).resolve().parents[1]
TEXT = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
MARGINS = [loss for loss, entry in LOSSES.items() if entry.own_margin]


def values(loss: str, name: str, *keys: str) -> dict[int, float]:
    """{seed: a figure of a stored MNIST run, in per cent}."""
    found = {}
    for path in (ROOT / "report" / "results").glob(f"mnist-{loss}-512d-seed[0-9]{name}.json"):
        facts = value = json.loads(path.read_text())
        for key in keys:
            value = value[key]
        found[facts["seed"]] = 100 * value
    return found


def mean(loss: str, name: str, *keys: str) -> float:
    return fmean(values(loss, name, *keys).values())


def interval(loss: str, name: str, *keys: str) -> tuple[float, float]:
    """Student's 95 % interval of the loss's paired difference to normalised softmax, over shared seeds."""
    ours, base = (values(which, name, *keys) for which in (loss, "norm-softmax"))
    seeds = sorted(ours.keys() & base.keys())
    found = ttest_rel([ours[s] for s in seeds], [base[s] for s in seeds]).confidence_interval(0.95)
    return found.low, found.high


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


def test_the_verdicts_on_unseen_digits_are_those_of_the_intervals():
    assert "without 7, 8 and 9 (three seeds)" in TEXT and len(MARGINS) == 5
    assert "for each of the five losses, both by intervals that exclude zero" in TEXT
    for loss in MARGINS:
        assert sorted(values(loss, "-without-7-8-9", "test_accuracy")) == [0, 1, 2]
        assert interval(loss, "-without-7-8-9", "retrieval", "rank_1")[1] < 0
        assert interval(loss, "-without-2-4-6", "verification", "eer")[0] > 0


def test_no_margin_is_told_from_normalised_softmax_by_accuracy():
    assert "On MNIST no margin can be told from normalised softmax at the same scale by its accuracy." in TEXT
    for loss in MARGINS:
        low, high = interval(loss, "", "accuracy", "head", "value")
        assert low <= 0 <= high
