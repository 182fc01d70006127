"""README's section on where the recipe comes from, against the stored trials."""

import json
import re
from pathlib import Path
from statistics import fmean, stdev

from scipy.stats import ttest_rel

import study
from bounds import minimum_scale
from recipes import recipe

ROOT = Path(__file__).resolve().parents[1]
TEXT = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())


def tried(changed: dict, averaging: float | None = None, seed: int | None = None) -> str:
    """The mean validation accuracy of CIFAR-10's runs with these changes, as the README writes it."""
    found = json.loads((ROOT / "report" / "results" / "recipe_search.json").read_text())
    name = "averaged_accuracy" if averaging else "accuracy"
    values = {run["seed"]: run[name] for run in found["runs"] if run["dataset"] == "cifar10"
              and run["changed"] == changed and averaging in (None, run.get("averaging"))
              and seed in (None, run["seed"])}  # fmt: skip
    return f"{fmean(100 * value for value in values.values()):.2f}"


def test_what_the_recipe_is_made_of_is_what_was_measured():
    fast, deep = {"momentum": 0.8}, {"momentum": 0.8, "depth": 3, "residual": True}
    in_time = deep | {"epochs": 7.4}
    rows = (tried({}), tried(fast), tried(fast, 0.995), tried(in_time, 0.995), tried(deep, 0.995))
    table = TEXT.split("| step by step |")[1].split("What was left out")[0]
    assert re.findall(r"\| (\d\d\.\d\d) \|", table) == [*rows]
    left_out = (
        {"epochs": 13, "widths": [64, 192, 256]}, {"epochs": 8.5, "widths": [64, 256, 384]}, {"label_smoothing": 0.1},
        {"cutout": 8}, {"shift": 3}, {"activation": "relu"}, {"activation": "silu"}, {"scale": 3.0}, {"scale": 5.0},
        {"m2": 0.4},
    )  # fmt: skip
    assert max(float(tried(changed, seed=0)) for changed in left_out) < float(tried({}, seed=0)) + 0.1
    assert tried({"m2": 0.0}, seed=0) < rows[1] and tried(fast | {"m2": 0.0}, 0.995) < rows[2]
    assert tried(fast | {"scale": 6.0, "m2": 0.1}, 0.995) < rows[2]
    smaller = deep | {"epochs": 9.1, "image_sizes": [[0.3, 16], [1.0, 32]]}
    assert tried(smaller, 0.995) < rows[3]
    mirrored = float(tried(deep | {"epochs": 7.3, "flip": "alternating"}, 0.995))
    assert mirrored < float(rows[3]) + 0.1
    said = "wider last block, label smoothing, cutout, larger shifts, ReLU and SiLU, scales of 3, 5 and 6, margins of 0"
    assert said in TEXT
    runs = json.loads((ROOT / "report" / "results" / "recipe_search.json").read_text())["runs"]
    trainings = {(run["dataset"], run["seed"], str(run["changed"])) for run in runs}
    mnist = sum(dataset == "mnist" for dataset, *_ in trainings)
    assert f"All {len(trainings)} trainings, seven of them on MNIST," in TEXT and mnist == 7
    assert f"({len(runs)} rows: one for each decay tried)" in TEXT
    by_setting: dict[str, list[float]] = {}
    for run in (run for run in runs if run["dataset"] == "cifar10" and run.get("averaging") == 0.995):
        by_setting.setdefault(str(run["changed"]), []).append(100 * run["averaged_accuracy"])
    assert f"differ by up to {max(max(found) - min(found) for found in by_setting.values()):.1f} points" in TEXT


def test_what_was_tried_on_mnist_is_what_is_stored():
    found = json.loads((ROOT / "report" / "results" / "recipe_search_mnist.json").read_text())["runs"]
    assert len(found) == 15 and "On MNIST more were trained on 40,000 images and tested on 20,000 others" in TEXT
    means = []
    for name in ("errors", "averaged_errors"):
        for changed in ({"epochs": 14}, {}):
            errors = [run[name] for run in found if run["changed"] == changed]
            assert len(errors) == 2
            means.append(f"{fmean(errors) + 1e-9:.0f}")
    longer, recipe, longer_mean, recipe_mean = means
    twenty = fmean(run["averaged_errors"] for run in found if run["changed"] == {"epochs": 20})
    said = f"left {longer} errors in place of {recipe}, with the mean of the weights {longer_mean} in place of"
    assert f"{said} {recipe_mean}, 20 epochs {twenty + 1e-9:.0f} (means of two seeds)." in TEXT


def test_the_scale_that_validation_images_chose_is_the_one_in_use():
    found = json.loads((ROOT / "report" / "results" / "recipe_search_mnist.json").read_text())["scale"]["runs"]
    errors = {s: [run["errors"] for run in found if run["scale"] == s] for s in (16, 8, 4)}
    assert len(found) == 12 and {len(own) for own in errors.values()} == {4}
    means = {s: fmean(own) for s, own in errors.items()}
    assert min(means, key=lambda s: means[s]) == recipe("mnist", "arcface", 512, 10)["scale"]
    for s in (8, 4):  # run i of each has seed i
        low, high = ttest_rel(errors[s], errors[16]).confidence_interval(0.95)
        assert low <= 0 <= high
    said = f"{means[16]:.0f} errors at s = 16, {means[8]:.0f} at 8 and {means[4]:.0f} at 4"
    assert f"Twelve more, of these 14 epochs with the mean of the weights, tried ArcFace's scale: {said}" in TEXT


def test_the_scale_in_use_is_above_what_the_plane_needs():
    plane, simplex = minimum_scale(10, 0.9, 2), minimum_scale(10, 0.9)
    assert plane < recipe("mnist", "arcface", 512, 10)["scale"] < 1.1 * plane
    assert f"need for a probability of 0.9 ({plane:.1f}; in 512 dimensions {simplex:.2f})" in TEXT


def test_the_larger_network_s_figures_are_those_stored():
    results = ROOT / "report" / "results"
    found = json.loads((results / "recipe_search_mnist.json").read_text())["network"]["runs"]
    third, wider = (
        [run["errors"] for run in found if run["widths"] == list(net)] for net in ((32, 64, 128), (32, 96, 192))
    )
    assert len(third) == len(wider) == 4
    stored = [
        json.loads(path.read_text())
        for path in results.glob("mnist-arcface-512d-seed?-depth=3-widths=32,96,192-*.json")
    ]
    accuracies = [100 * facts["test_accuracy"] for facts in stored]
    assert sorted(facts["seed"] for facts in stored) == list(range(5))
    assert (
        f"Eight more tried a larger network: {fmean(third):.0f} errors with a third convolution a block, "
        f"{fmean(wider):.0f} with more channels as well (32/96/192; means of four seeds, no clear difference). As a "
        f"rule set beforehand wanted, the last was trained on all 60,000 images with five seeds: "
        f"{fmean(accuracies):.2f} ± {stdev(accuracies):.2f} % of the test images."
    ) in TEXT


def test_the_last_search_is_the_one_stored():
    found = json.loads((ROOT / "report" / "results" / "recipe_search_mnist.json").read_text())["gpu"]
    assert len(found["screened"]) == 32 and len(found["screened"]) + len(found["chosen_among"]) == 60
    errors: dict[tuple[str, str], dict[int, int]] = {}
    for run in found["chosen_among"]:
        for decay, count in run["averaged_errors"].items():
            errors.setdefault((json.dumps(run["changed"]), decay), {})[run["seed"]] = count
    assert len(errors) == 14 and all(sorted(of_seed) == [1, 2, 3, 4] for of_seed in errors.values())
    means = {key: fmean(of_seed.values()) for key, of_seed in errors.items()}
    net = {"epochs": 28, "widths": [64, 128, 256]}
    usual, wide, deep = ((json.dumps(changed), "0.999") for changed in ({"epochs": 28}, net, {"depth": 3} | net))
    assert min(means, key=lambda key: means[key]) == deep
    widest = json.dumps({"epochs": 28, "widths": [96, 192, 384]}), "0.999"
    assert f"{means[widest]:.0f}" == f"{means[wide]:.0f}"
    assert means[usual] == min(mean for (changed, _), mean in means.items() if changed == usual[0])
    low, high = ttest_rel(list(errors[deep].values()), list(errors[usual].values())).confidence_interval(0.95)
    assert low <= 0 <= high
    assert (
        f"The usual network left {means[usual]:.0f} errors at best, one with channels 64/128/256 or 96/192/384 "
        f"{means[wide]:.0f}, the former with a third convolution a block as well {means[deep]:.0f} (28 epochs, decay "
        "0.999; no clear difference, and the least of 14 means flatters)."
    ) in TEXT
    stored = [
        json.loads(path.read_text())
        for path in (ROOT / "report" / "results").glob("mnist-arcface-512d-seed?-depth=3-widths=64,128,256-*.json")
    ]
    accuracies = [100 * facts["test_accuracy"] for facts in stored]
    assert sorted(facts["seed"] for facts in stored) == list(range(len(stored))) and study.LARGEST_SEEDS == 10
    assert (
        "By a rule set beforehand the last is trained on all 60,000 images with ten seeds, of which "
        f"{['no', 'one', 'two', 'three', 'four', 'five', 'six', 'seven', 'eight', 'nine'][len(stored)]} are done: "
        f"{fmean(accuracies) + 1e-9:.2f} ± {stdev(accuracies):.2f} % of the test images."
    ) in TEXT
    extra = dict(study.LARGEST)
    assert (extra["depth"], extra["widths"], extra["epochs"], extra["averaging"]) == (3, "64,128,256", 28, 0.999)
