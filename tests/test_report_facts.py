"""The statistics behind the report's tables: differences, verdicts, claims, and which runs are compared."""

import json
import math

import numpy as np
import pytest

import plot_tables
from losses import LOSSES
from report import claims, content, facts
from report_helpers import groups_of, run


def test_a_paired_difference_is_students():
    from scipy.stats import ttest_rel

    groups = groups_of(arcface=[0.991, 0.994, 0.992, 0.996], softmax=[0.990, 0.991, 0.992, 0.990])
    found = facts.paired(groups["arcface"], groups["softmax"], facts.MEASURES["accuracy"])
    left, right = ([100 * m["accuracy"]["head"]["value"] for m in groups[n].values()] for n in ("arcface", "softmax"))
    interval = ttest_rel(left, right).confidence_interval(0.95)
    assert found["n"] == 4 and found["mean"] == f"{np.mean(left) - np.mean(right):+.2f}"
    assert float(found["low"].replace("−", "-")) == pytest.approx(interval.low, abs=0.005)
    assert float(found["high"].replace("−", "-")) == pytest.approx(interval.high, abs=0.005)
    assert found["verdict"] == "undecided"


@pytest.mark.parametrize(
    ("a", "b", "verdict"),
    [([0.9934, 0.9936, 0.9938], [0.9931, 0.9933, 0.9935], "undecided"),  # three images more on each seed
     ([0.9934, 0.9936], [0.9934, 0.9936], "undecided"),
     ([0.95, 0.951, 0.949], [0.9, 0.902, 0.899], "higher"), ([0.9, 0.901], [0.95, 0.952], "lower"),
     ([0.95], [0.9], "single"), ([0.95, 0.90], [0.9, 0.95], "undecided")],
)  # fmt: skip
def test_verdicts(a, b, verdict):
    groups = groups_of(arcface=a, softmax=b)
    assert facts.paired(groups["arcface"], groups["softmax"], facts.MEASURES["accuracy"])["verdict"] == verdict


@pytest.mark.parametrize("change", [{"epochs": 10}, {"fingerprint": "other"}, {"batch_size": 64}])
def test_runs_that_differ_in_more_than_the_loss_are_not_compared(change):
    a, b = {0: run("arcface", **change)}, {0: run("softmax")}
    assert facts.paired(a, b, facts.MEASURES["accuracy"]) is None


def test_nsl_is_compared_at_the_same_scale_only():
    groups = groups_of(arcface=[0.95, 0.95], norm_softmax=[0.9, 0.9])
    for members in groups["norm-softmax"].values():
        members["scale"] = 4.0
    measure = facts.MEASURES["accuracy"]
    assert facts.differences(groups, [], measure)["arcface"]["norm-softmax"] is None
    control = {seed: run("norm-softmax", seed, 0.8) for seed in range(2)}  # at 16, as ArcFace
    assert facts.differences(groups, [control], measure)["arcface"]["norm-softmax"]["mean"] == "+15.00"


def test_only_a_best_that_beats_every_other_is_bold():
    measure = facts.MEASURES["accuracy"]
    clear = groups_of(arcface=[0.95, 0.951, 0.952], softmax=[0.9, 0.9, 0.9], cosface=[0.91, 0.911, 0.91])
    assert facts.best_loss(clear, measure) == "arcface"
    close = groups_of(arcface=[0.95, 0.951, 0.952], softmax=[0.9, 0.9, 0.9], cosface=[0.951, 0.95, 0.952])
    assert facts.best_loss(close, measure) is None
    assert facts.best_loss(clear, facts.MEASURES["w_ec"]) is None
    assert facts.best_loss({"arcface": clear["arcface"]}, measure) is None


def test_runs_of_other_settings_are_set_aside_and_named():
    runs = [facts.Run("mnist", "arcface", 512, i, "", "", run(seed=i, epochs=7 + (i == 0))) for i in range(3)]
    assert list(facts.group(runs, "mnist")["arcface"]) == [1, 2]
    assert facts.set_aside(runs) == ["mnist-arcface-512d-seed0"]
    other_scale = [facts.Run("mnist", "adacos", 512, i, "", "", run("adacos", i, scale=3.0 + i)) for i in range(2)]
    assert list(facts.group(other_scale, "mnist")["adacos"]) == [0, 1]  # AdaCos finds its own


def test_stored_runs_are_told_apart_by_name(tmp_path):
    def store(name: str, **changes) -> None:
        (tmp_path / f"{name}.json").write_text(json.dumps(run(**changes)))

    store("mnist-li-arcface-512d-seed0", loss="li-arcface")
    store("mnist-arcface-512d-seed0-scale=4-margin=0.5")
    store("mnist-arcface-512d-seed1-without-7-8", hold_out=["7", "8"], unseen_classes=["7", "8"], seed=1)
    store("mnist-softmax-512d-seed2", loss="softmax", seed=2, failed="ended near chance")
    store("mnist-cosface-512d-seed0-scale=64", loss="cosface", failed="ended near chance", part="sensitivity")
    store("mnist-arcface-512d-seed9", seed=9, failed="diverged")
    diverged = json.loads((tmp_path / "mnist-arcface-512d-seed9.json").read_text())
    del diverged["accuracy"]
    (tmp_path / "mnist-arcface-512d-seed9.json").write_text(json.dumps(diverged))
    found, failed = facts.stored_runs(tmp_path)
    assert {(r.loss, r.extra, r.held_out) for r in found} == {
        ("li-arcface", "", ""), ("arcface", "scale=4-margin=0.5", ""), ("arcface", "", "7, 8"), ("softmax", "", ""),
        ("cosface", "scale=64", ""),
    }  # fmt: skip
    assert failed == ["mnist-arcface-512d-seed9", "mnist-softmax-512d-seed2"]


def test_the_embedded_sample_stands_in_for_mnist_and_says_so(tmp_path):
    metrics = run() | {"dataset": "mnist-5k"}
    (tmp_path / "mnist-5k-arcface-512d-seed0.json").write_text(json.dumps(metrics))
    found = content.content(tmp_path)
    assert found["overview"]["mnist"]["mean"] == "99.00"
    assert "5k" in found["sources"]["mnist"]["title"]


def test_the_whole_content_of_a_full_study(tmp_path):
    for seed in range(3):
        for place, loss in enumerate(LOSSES, 1):
            facts_of = run(loss, seed, 0.99 + 0.001 * (loss == "arcface") + 0.00001 * seed * place)
            (tmp_path / f"mnist-{loss}-512d-seed{seed}.json").write_text(json.dumps(facts_of))
            held = facts_of | {"hold_out": ["7"], "unseen_classes": ["7"]}
            (tmp_path / f"mnist-{loss}-512d-seed{seed}-without-7.json").write_text(json.dumps(held))
    found = content.content(tmp_path)
    rows = found["main"]["mnist"]["accuracy"]["rows"]
    assert [row["n"] for row in rows] == [3] * len(LOSSES)
    assert [row["loss"] for row in rows if row["cells"][0]["best"]] == ["arcface"]
    verdicts = found["main"]["mnist"]["verdicts"]
    assert verdicts["higher"] == ["ArcFace"] and verdicts["tested"] == 5
    assert found["open"][0]["classes"] == "7"
    assert {row["key"]: row["found"]["mnist"]["verdict"] for row in found["claims"]}["margin"] == "open"


@pytest.mark.parametrize(("value", "digits", "signed", "shown"), [
    (-0.004, 2, True, "0.00"), (0.005001, 2, True, "+0.01"), (-1.5, 1, False, "−1.5"), (99.6, 2, False, "99.60"),
    (89.175, 2, False, "89.18"), (0.5, 0, False, "1"), (-0.125, 2, True, "−0.13"), (float("nan"), 1, False, "nan"),
])  # fmt: skip
def test_numbers_as_text(value, digits, signed, shown):
    assert facts.number(value, digits, signed) == shown


def test_a_claim_against_its_direction_is_a_disagreement():
    groups = groups_of(arcface=[0.9, 0.901, 0.9], norm_softmax=[0.95, 0.95, 0.951])
    assert claims.claim(groups, "arcface", "norm-softmax", "accuracy", "higher")["verdict"] == "no"
    assert claims.claim(groups, "arcface", "norm-softmax", "accuracy", "lower")["verdict"] == "yes"
    assert claims.claim(groups, "arcface", "cosface", "accuracy", "higher")["verdict"] == "unmeasured"


def test_the_training_error_is_the_losses_lowest_and_highest_mean():
    groups = groups_of(arcface=[0.9, 0.9], softmax=[0.9])
    groups["arcface"][0]["train_accuracy"], groups["arcface"][1]["train_accuracy"] = 0.99, 0.97
    groups["softmax"][0]["train_accuracy"] = 0.95
    assert content.train_error(groups) == {"low": "2.00", "high": "5.00"}
    assert content.train_error(groups | {"adacos": {0: {}}}) == {"low": "2.00", "high": "5.00"}
    assert content.train_error({}) is None


def test_the_most_confused_classes_are_counted_both_ways_and_over_seeds():
    one = {"classes": ["cat", "dog", "eel"], "confusion": [[5, 2, 1], [0, 8, 0], [4, 0, 9]]}
    other = {"classes": ["cat", "dog", "eel"], "confusion": [[5, 2, 0], [3, 8, 0], [0, 0, 9]]}
    assert content.most_confused({0: one}) == {"classes": "cat and eel", "share": "71"}
    assert content.most_confused({0: one, 1: other}) == {"classes": "cat and dog", "share": "58"}
    assert content.most_confused({0: {"classes": ["a", "b"], "confusion": [[3, 0], [0, 3]]}}) is None
    assert content.most_confused({}) is None and content.most_confused({0: {}}) is None


def test_an_interval_that_excludes_zero_is_not_rounded_to_touch_it():
    found = facts.difference_text([-0.0367 + d for d in (-0.0005, 0.0, 0.0005)], 1)
    assert (found["verdict"], found["mean"], found["low"], found["high"]) == ("lower", "−0.04", "−0.04", "−0.04")
    assert facts.difference_text([1.0, -1.0, 0.04], 1)["mean"] == "0.0"  # undecided: as asked for
    assert facts.difference_text([2.0, 2.5, 3.0], 1)["low"] == "+1.3"


def test_longer_runs_are_compared_with_each_other(tmp_path):
    more = {"epochs": 14, "averaging": 0.995}
    for loss, accuracies in {"arcface": (0.996, 0.997, 0.9965), "softmax": (0.99, 0.9905, 0.9912)}.items():
        for seed, accuracy in enumerate(accuracies):
            (tmp_path / f"mnist-{loss}-512d-seed{seed}.json").write_text(json.dumps(run(loss, seed, 0.9)))
            stored = run(loss, seed, accuracy) | more
            name = f"mnist-{loss}-512d-seed{seed}-epochs=14-averaging=0.995"
            (tmp_path / f"{name}.json").write_text(json.dumps(stored))
    found = content.content(tmp_path)["main"]
    assert found["cifar10"]["longer"] is None and found["mnist"]["accuracy"]["rows"][0]["cells"][0]["mean"] == "90.00"
    assert (found["mnist"]["longer"]["epochs"], found["mnist"]["longer"]["averaging"]) == (14, 0.995)
    softmax, arcface = found["mnist"]["longer"]["rows"]
    assert (softmax["loss"], softmax["n"], softmax["softmax"], softmax["plain"]) == ("softmax", 3, None, None)
    assert (arcface["cells"][0]["mean"], arcface["softmax"]["mean"], arcface["plain"]) == ("99.65", "+0.59", None)
    assert not found["mnist"]["longer"]["own_averaging"]
    other = run("softmax", 0, 0.9, dataset="cifar10") | {"epochs": 20, "averaging": 0.995}
    (tmp_path / "cifar10-softmax-512d-seed0-epochs=20-averaging=0.995.json").write_text(json.dumps(other))
    longer = content.content(tmp_path)["main"]["cifar10"]["longer"]
    assert (longer["epochs"], longer["usual_epochs"], longer["own_averaging"], len(longer["rows"])) == (20, 10, True, 1)


def test_what_epochs_buy_is_told_in_their_order(tmp_path):
    for epochs, accuracy, seconds in ((7, 0.99, 70.4), (2, 0.97, 20.0), (20, 0.995, 200.0)):
        name = "mnist-arcface-512d-seed0" + (f"-epochs={epochs}" if epochs != 7 else "")
        facts_of_run = run(accuracy=accuracy, epochs=epochs, train_seconds=seconds, test_correct=round(1e4 * accuracy))
        (tmp_path / f"{name}.json").write_text(json.dumps(facts_of_run))
    found = content.budgets(tmp_path)
    assert list(found) == ["mnist"]
    assert [(r["epochs"], r["accuracy"], r["seconds"]) for r in found["mnist"]] == [
        (2, "97.00", "20"), (7, "99.00", "70"), (20, "99.50", "200")
    ]  # fmt: skip
    assert found["mnist"][0]["errors"] == 300
    again = run(accuracy=0.98, epochs=7, train_seconds=60.0, test_correct=9800)
    (tmp_path / "mnist-arcface-512d-seed0-epochs=7.json").write_text(json.dumps(again))
    assert [r["epochs"] for r in content.budgets(tmp_path)["mnist"]] == [2, 7, 20]


def test_the_p_of_two_networks_is_the_largest_that_shared_errors_allow():
    def mcnemar(first: int, last: int) -> float:
        """Two-sided, from the binomial coefficients: errors of one network alone fall on either with equal chance."""
        n, k = first + last, min(first, last)
        return min(1.0, 2 * sum(math.comb(n, i) for i in range(k + 1)) / 2**n)

    for first, last in ((54, 30), (12, 9), (40, 41)):
        largest = max(mcnemar(first - shared, last - shared) for shared in range(min(first, last) + 1))
        assert content.largest_p(first, last) == f"{largest:.3f}"
    assert content.largest_p(200, 20) == "<0.001" and content.largest_p(0, 0) == "1.000"


def test_devices_are_told_by_threads_and_maker():
    labels = {"cpu, 1 thread, AMD EPYC (family 25, model 17)", "cpu, 2 threads, AMD EPYC", "cpu, 1 thread, AMD EPYC"}
    assert content.devices_text(labels) == "1 or 2 threads of AMD EPYC"
    assert content.devices_text({"cpu, 1 thread, Xeon", "cuda, H100"}) == "1 thread of Xeon; one H100"


def test_adacos_s_scale_is_its_mean_over_seeds():
    members = {seed: run("adacos", seed, scale=scale) for seed, scale in enumerate((2.0, 2.1, 2.2))}
    assert facts.mean_settings(members).startswith("s = 2.1") and facts.mean_settings({0: run("softmax")}) == ""
    (row,) = plot_tables.table_rows(list(members.values()))
    assert row["title"].startswith("AdaCos (s = 2.1")
