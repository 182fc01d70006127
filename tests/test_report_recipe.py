"""The table of what the recipe is made of: from the stored runs alone, and nothing where there are none."""

import json
from pathlib import Path

import pytest

from recipes import BASE
from recipes import recipe as recipe_of
from report.recipe import DEEP, MNIST_SEARCH, SEARCH, STEPS, accuracies, network_search, recipe, scale_search
from runs import RunError
from study import LARGEST, WIDER

ROOT = Path(__file__).resolve().parents[1]


def tries(*runs: tuple) -> dict:
    """A stored search of (seed, changed, accuracy, decay or None, accuracy of the mean or None)."""
    return {"device": "cuda, a card", "base": {"cifar10": {"momentum": 0.5, "epochs": 3}},
            "images": {"cifar10": "7,000 to train on, 80 to test on"}, "runs": [
        {"dataset": "cifar10", "seed": seed, "changed": changed, "accuracy": accuracy}
        | ({"averaging": decay, "averaged_accuracy": mean} if decay else {})
        for seed, changed, accuracy, decay, mean in runs
    ]}  # fmt: skip


def test_accuracies_are_those_of_just_these_changes_a_seed_each():
    found = tries((1, {}, 0.5, None, None), (0, {}, 0.25, 0.9, 0.75), (2, {"lr": 1}, 0.125, 0.9, 1.0))
    assert accuracies(found, {}, None) == [25.0, 50.0]
    assert accuracies(found, {}, 0.9) == [75.0]
    assert accuracies(found, {"lr": 1}, 0.9) == [100.0] and accuracies(found, {}, 0.8) == []


def test_of_another_data_set_no_run_counts():
    found = tries((0, {}, 0.5, None, None))
    found["runs"].append({"dataset": "mnist", "seed": 1, "changed": {}, "accuracy": 0.99})
    assert accuracies(found, {}, None) == [50.0]


def test_the_table_is_made_from_what_is_stored(tmp_path):
    assert recipe(tmp_path) is None
    runs = [(0, changed, 0.5 if decay is None else 0.52, decay, 0.7 + i / 100)
            for i, (_, changed, decay) in enumerate(STEPS)]  # fmt: skip
    (tmp_path / SEARCH).write_text(json.dumps(tries(*runs, (1, {}, 0.53, None, None))))
    found = recipe(tmp_path)
    assert found["tries"] == 5  # the rows but for one of two that are one training, and another seed
    assert found["device"] == "a card" and found["settings"]["before"] == 0.5
    assert [found["settings"][name] for name in ("images", "others", "epochs")] == ["7,000", "80", 3]
    assert found["rows"][0] == {"key": "before", "mean": "51.50", "n": 2, "each": ["50.00", "53.00"]}
    # The second row is of the last weights of the runs whose mean makes the third.
    assert [row["mean"] for row in found["rows"][1:]] == ["52.00", "72.00", "73.00", "74.00"]
    (tmp_path / SEARCH).write_text("{")
    with pytest.raises(RunError, match=SEARCH):
        recipe(tmp_path)


def test_scales_tried_are_told_from_the_largest_on(tmp_path):
    assert scale_search(tmp_path) is None
    runs = [{"scale": s, "errors": e, "test_images": 1000} for s, e in ((4, 10), (16, 7), (4, 12))]
    (tmp_path / MNIST_SEARCH).write_text(json.dumps({"scale": {"runs": runs}}))
    assert scale_search(tmp_path) == [{"scale": "16", "errors": "7", "n": 1, "images": "1,000"},
                                      {"scale": "4", "errors": "11", "n": 2, "images": "1,000"}]  # fmt: skip
    (tmp_path / MNIST_SEARCH).write_text("{}")
    with pytest.raises(RunError, match=MNIST_SEARCH):
        scale_search(tmp_path)


def test_networks_tried_are_told_beside_the_one_in_use(tmp_path):
    assert network_search(tmp_path) == []
    usual = [{"scale": s, "errors": e, "test_images": 1000} for s, e in ((16, 7), (16, 10), (4, 99))]
    other = [{"widths": [1, 2, 3], "depth": 3, "errors": e} for e in (3, 4)]
    last = [{"changed": {"epochs": 28} | more, "averaged_errors": {"0.995": 9, "0.999": 5}}
            for more in ({}, {"widths": [4, 5, 6]}, {"margin": 0.3})]  # fmt: skip
    searches = {"scale": {"runs": usual}, "network": {"runs": other}, "gpu": {"chosen_among": last}}
    (tmp_path / MNIST_SEARCH).write_text(json.dumps(searches))
    found = [(one["net"], one["depth"], one["epochs"], one["averaging"], one["n"], one["errors"])
             for one in network_search(tmp_path)]  # fmt: skip
    assert [one["usual"] for one in network_search(tmp_path)] == [True, False, True, True, False, False]
    assert found == [
        ("32/64/128", 2, 14, 0.995, 2, "9"), ("1/2/3", 3, 14, 0.995, 2, "4"), ("32/64/128", 2, 28, 0.995, 1, "9"),
        ("32/64/128", 2, 28, 0.999, 1, "5"), ("4/5/6", 2, 28, 0.995, 1, "9"), ("4/5/6", 2, 28, 0.999, 1, "5"),
    ]  # fmt: skip


def test_the_network_trained_on_is_the_one_with_the_fewest_errors():
    """The rule that was written down before the search: see the file."""
    found = network_search(ROOT / "report" / "results")
    assert {one["n"] for one in found} == {4}
    stored = json.loads((ROOT / "report" / "results" / MNIST_SEARCH).read_text())["network"]["runs"]
    errors: dict[tuple, int] = {}
    for run in stored:
        kind = (",".join(map(str, run["widths"])), run["depth"])
        errors[kind] = errors.get(kind, 0) + run["errors"]
    assert min(errors, key=lambda kind: errors[kind]) == (dict(WIDER)["widths"], dict(WIDER)["depth"])
    best, of_largest = min(found, key=lambda one: int(one["errors"])), dict(LARGEST)
    assert (best["net"].replace("/", ","), best["depth"]) == (of_largest["widths"], of_largest["depth"])
    assert (best["epochs"], best["averaging"]) == (of_largest["epochs"], of_largest["averaging"])


def test_the_table_ends_at_the_recipe_in_use():
    base = BASE["cifar10"]
    stored = json.loads((ROOT / "report" / "results" / SEARCH).read_text())
    assert {name: base[name] for name in ("momentum", "depth")} == {name: DEEP[name] for name in ("momentum", "depth")}
    key, changed, decay = STEPS[-1]
    assert (key, changed, decay) == ("epochs", DEEP, base["averaging"])
    now = recipe_of("cifar10", "arcface", 512, 10) | {"widths": list(base["widths"]), "flip": "random"}
    before = {"momentum": 0.9, "depth": 2, "averaging": 0.0}
    assert stored["base"]["cifar10"] == {name: now[name] for name in stored["base"]["cifar10"]} | before
