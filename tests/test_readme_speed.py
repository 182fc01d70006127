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
    spans = [f"{side(AMX, name, 'ours', 'ratio_low'):.2f} to {side(AMX, name, 'ours', 'ratio_high'):.2f}"
             for name in ("mnist", "cifar10")]  # fmt: skip
    for found, name, words in (
        (STORED, "ours", "ours, bf16"),
        (STORED, "ours, float32", "ours, float32: CIFAR-10's gain is all bf16's"),
        (AMX, "ours", f"with AMX, ours, bf16 ({spans[0]} and {spans[1]} in single alternations)"),
        (AMX, "ours, float32", "with AMX, ours, float32"),
    ):
        mnist, cifar10 = (side(found, dataset, name) for dataset in ("mnist", "cifar10"))
        assert f"| {words} | {mnist:.2f} | {cifar10:.2f} |" in TEXT
        assert found["throughput"]["machine"]["cores"] == found["throughput"]["machine"]["threads"] == 2
    assert side(STORED, "cifar10", "ours, float32") < 1
    counts = {
        one["n"] for name in ("mnist", "cifar10") for one in STORED["throughput"][name]["images_per_second"].values()
    }
    assert counts | {one["n"] for one in STORED["head"]["classes"]["100000"].values()} == {5, 9}
    assert "medians of five and nine alternations)," in TEXT
    processor = AMX["throughput"]["machine"]["processor"]
    assert processor == "Intel Xeon (family 6, model 207)" and "an Intel Xeon (family 6, model 207)" in TEXT


@pytest.mark.parametrize(("head", "words"), [
    ("arcface", "| ArcFace ({low:.2f} to {high:.2f} in single alternations)"),
    ("li-arcface", "| Li-ArcFace, which needs every angle: the slowest of ours"),
    ("pytorch-metric-learning", "| pytorch-metric-learning's ArcFaceLoss ({low:.2f} to {high:.2f})"),
])  # fmt: skip
def test_heads_with_many_classes_are_those_stored(head, words):
    heads = STORED["head"]["classes"]["100000"]
    own, memory = heads[head], STORED["memory"]["classes"]["100000"]
    line = words.format(low=own["ratio_low"], high=own["ratio_high"])
    assert f"{line} | {own['ratio']:.2f} | {memory[head] / memory['linear']:.2f} |" in TEXT
    named = ("linear", "arcface", "li-arcface", "pytorch-metric-learning")
    others = [entry["ratio"] for name, entry in heads.items() if name not in named]
    assert f"The other heads take {min(others):.2f} to {max(others):.2f} times the time" in TEXT
    assert max(others) < heads["li-arcface"]["ratio"] < heads["pytorch-metric-learning"]["ratio"]


def test_the_evaluations_took_what_is_said():
    spent = {name: STORED["evaluation"][name]["seconds"] for name in ("mnist", "cifar10")}
    assert f"measures a run anew in {spent['mnist']:.0f} s on MNIST and {spent['cifar10']:.0f} s on CIFAR-10" in TEXT
