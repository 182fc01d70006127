"""README's section on speed against what benchmark.py stored."""

import json

import pytest

from readme_helpers import ROOT, TEXT

STORED, AMX = (
    json.loads((ROOT / "report" / "results" / name).read_text()) for name in ("benchmark.json", "benchmark_amx.json")
)


def side(found: dict, dataset: str, name: str, key: str = "ratio") -> float:
    return found["throughput"][dataset]["images_per_second"][name][key]


def test_ratios_in_training_are_those_stored():
    for found, words in ((STORED, "| ours, bf16"), (AMX, "| with AMX, ours, bf16")):
        ours, plain = ([side(found, dataset, name) for dataset in ("mnist", "cifar10")]
                       for name in ("ours", "ours, float32"))  # fmt: skip
        assert words in TEXT and f"| {ours[0]:.2f} | {ours[1]:.2f} |" in TEXT
        assert f"| {plain[0]:.2f} | {plain[1]:.2f} |" in TEXT
        assert found["throughput"]["machine"]["cores"] == found["throughput"]["machine"]["threads"] == 2
    spans = [f"{side(AMX, name, 'ours', 'ratio_low'):.2f} to {side(AMX, name, 'ours', 'ratio_high'):.2f}"
             for name in ("mnist", "cifar10")]  # fmt: skip
    assert f"({spans[0]} and {spans[1]} in single alternations)" in TEXT
    processor = AMX["throughput"]["machine"]["processor"]
    assert processor == "Intel Xeon (family 6, model 207)" and "an Intel Xeon (family 6, model 207)" in TEXT


@pytest.mark.parametrize(("head", "words"), [
    ("arcface", "| ArcFace ({low:.2f} to {high:.2f} in single alternations)"),
    ("li-arcface", "| Li-ArcFace, which needs every angle: the slowest of ours"),
    ("pytorch-metric-learning", "| pytorch-metric-learning's ArcFaceLoss ({low:.2f} to {high:.2f})"),
])  # fmt: skip
def test_heads_with_many_classes_are_those_stored(head, words):
    heads = STORED["head"]["classes"]["100000"]
    own, linear = heads[head], heads["linear"]
    line = words.format(low=own["ratio_low"], high=own["ratio_high"])
    assert f"{line} | {own['ratio']:.2f} | {own['peak_mb'] / linear['peak_mb']:.2f} |" in TEXT
    named = ("linear", "arcface", "li-arcface", "pytorch-metric-learning")
    others = [entry["ratio"] for name, entry in heads.items() if name not in named]
    assert f"The other heads take {min(others):.2f} to {max(others):.2f} times the time" in TEXT


def test_the_evaluations_took_what_is_said():
    spent = {name: STORED["evaluation"][name]["seconds"] for name in ("mnist", "cifar10")}
    assert f"measures a run anew in {spent['mnist']:.0f} s on MNIST and {spent['cifar10']:.0f} s on CIFAR-10" in TEXT
