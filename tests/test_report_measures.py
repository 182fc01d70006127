"""What a step changes by every measure, how seeds relate, where the equal error rate ends, and what pairing decides."""

import numpy as np
import pytest
from scipy.stats import ttest_ind

from report import by_measure, facts
from report.measures import MEASURES
from report_helpers import groups_of, run


def stored(
    loss: str, seed: int, accuracy: float, eer: float, extra: str = "", rank_1: float = 0.9, **more
) -> facts.Run:
    """A run with these figures, by the names that results have."""
    found = run(loss, seed, accuracy, **more)
    found["verification"] = {**found["verification"], "eer": eer, "auc": 1 - eer}
    found["retrieval"] = {**found["retrieval"], "rank_1": rank_1}
    return facts.Run("mnist", loss, 512, seed, "", extra, found)


@pytest.fixture
def runs():
    """Three seeds: normalising costs rank-1, a margin halves the EER, a small scale does more than that."""
    wobble = (0.0, 0.001, -0.001)
    found = []
    for seed, off in enumerate(wobble):
        found.append(stored("softmax", seed, 0.95 + off, 0.05 + off, rank_1=0.97 - off))
        found.append(stored("norm-softmax", seed, 0.95 + off, 0.05 - off, rank_1=0.93 + 2 * off))
        found.append(stored("arcface", seed, 0.95 - off, 0.025 + off, rank_1=0.93 - off))
        tight = {"angles": {"train": {"w_ec": 1.0}, "test": {"intra": 2.0 + off}}, "part": "control"}
        found.append(stored("norm-softmax", seed, 0.95, 0.01 + off, "scale=4", scale=4.0, **tight))
        found.append(stored("norm-softmax", seed, 0.95, 0.02 + off, "scale=2", scale=2.0, part="control"))
        found.append(stored("norm-softmax", seed, 0.95, 0.09 + off, "scale=64", scale=64.0, part="control"))
    return found


def test_a_column_says_by_what_a_step_is_better_and_worse(runs):
    found = by_measure.by_measure(runs, "mnist")
    normalising, margin, scale = found["columns"]
    assert (normalising["key"], normalising["n"], normalising["better"]) == ("normalising", "3", [])
    assert normalising["worse"] == ["rank_1"] and "accuracy" in normalising["undecided"]
    assert margin["better"] == ["eer", "auc"] and margin["worse"] == []
    assert (scale["from"], scale["to"]) == ("16", "4")  # the largest of those that are smaller
    cell = margin["cells"]["eer"]
    assert cell["mean"] == "−2.50" and cell["verdict"] == "lower"
    assert scale["cells"]["intra"]["mean"] == "−3.0" and "intra" not in found["order"]
    assert (found["titles"]["rank_1"], found["names"]["rank_1"], found["names"]["eer"]) == ("Rank-1", "rank-1", "EER")
    assert by_measure.by_measure(runs, "cifar10") is None


def test_where_margins_were_run_at_another_scale_the_steps_go_there(runs):
    for seed, off in enumerate((0.0, 0.001, -0.001)):
        own = {"scale": 64.0, "m2": 0.5, "part": "control"}
        runs.append(stored("arcface", seed, 0.95, 0.07 - off, "scale=64-margin=0.5", **own))
        other = own | {"m2": 0.0, "m3": 0.35}
        runs.append(stored("cosface", seed, 0.95, 0.06 + off, "scale=64-margin=0.35", **other))
        runs.append(stored("softmax", seed, 0.95, 0.05, "epochs=20-averaging=0.9", epochs=20, part="longer"))
        runs.append(stored("norm-softmax", seed, 0.96 + off, 0.05, "epochs=20-averaging=0.9", epochs=20, part="longer"))
    for one in runs:
        if (one.loss, one.extra) == ("softmax", ""):
            one.facts["verification"]["eer"] += 0.01
    found = by_measure.by_measure(runs, "mnist")
    columns = {one["key"]: one for one in reversed(found["columns"])}
    of_cosface = [(one["key"], one["shown"]) for one in found["columns"] if one.get("loss") == "CosFace"]
    assert of_cosface == [("margin-at", False), ("instead", False)]
    assert (columns["scale"]["from"], columns["scale"]["to"]) == ("64", "16")
    means = {key: one["cells"]["eer"]["mean"] for key, one in columns.items()}
    assert means == {
        "normalising": "−1.00", "margin": "−2.50", "normalising-longer": "0.00", "scale": "−4.00",
        "normalising-at": "+3.00", "margin-at": "−2.00", "instead": "+2.00",
    }  # fmt: skip
    shown = [one["key"] for one in found["columns"] if one["shown"]]
    assert shown == ["normalising", "margin", "scale", "margin-at"]
    assert (columns["margin-at"]["loss"], columns["margin-at"]["scale"], columns["instead"]["to"]) == (
        "ArcFace", "64", "16"
    )  # fmt: skip


def test_margins_at_two_scales_are_set_against_none_at_their_own(runs):
    for seed, off in enumerate((0.0, 0.001, -0.001)):
        for scale, loss, eer in ((64.0, "cosface", 0.06), (4.0, "arcface", 0.02)):
            own = {"scale": scale, "m2": 0.5, "part": "control"}
            runs.append(stored(loss, seed, 0.95, eer + off, f"scale={scale:g}-margin=0.5", **own))
    found = [one for one in by_measure.by_measure(runs, "mnist")["columns"] if one["key"] in ("scale", "margin-at")]
    one_scale = {one["from"] if one["key"] == "scale" else one["scale"] for one in found}
    assert [one["key"] for one in found] == ["scale", "margin-at"] and len(one_scale) == 1


def test_steps_that_the_table_does_not_show_are_no_table(runs):
    rest = [one for one in runs if (one.loss, one.extra, one.seed) == ("norm-softmax", "", 0)]
    more = {"epochs": 20, "part": "longer"}
    for seed in range(2):
        for loss in ("softmax", "norm-softmax"):
            rest.append(stored(loss, seed, 0.95 + seed / 1000, 0.05, "epochs=20-averaging=0.9", **more))
    assert by_measure.by_measure(rest, "mnist") is None


def test_a_single_seed_is_no_verdict(runs):
    assert by_measure.by_measure([one for one in runs if one.seed == 0], "mnist") is None


def test_without_a_smaller_scale_adacos_stands_in(runs):
    rest = [one for one in runs if not one.extra]
    rest += [stored("adacos", seed, 0.95, 0.02 + seed / 1000, scale=2.0) for seed in range(3)]
    assert [one["key"] for one in by_measure.by_measure(rest, "mnist")["columns"]] == [
        "normalising",
        "margin",
        "adacos",
    ]


def test_how_seeds_relate_is_pearsons_mean_over_losses():
    rng = np.random.default_rng(0)
    values = rng.random((3, 5)) / 10 + 0.9
    groups = groups_of(arcface=values[0], softmax=values[1], cosface=values[2])
    expected = np.mean([np.corrcoef(values[i], values[j])[0, 1] for i, j in ((0, 1), (0, 2), (1, 2))])
    assert float(by_measure.related(groups)["accuracy"].replace("−", "-")) == pytest.approx(expected, abs=0.005)
    assert by_measure.related(groups_of(arcface=[0.9, 0.8], softmax=[0.8, 0.9])) is None
    assert by_measure.related({}) is None


def test_the_floor_is_the_errors_of_tight_runs():
    tight = [
        stored("arcface", seed, 1 - error, eer) for seed, (error, eer) in enumerate(((0.004, 0.003), (0.005, 0.0025)))
    ]
    for one in tight:
        one.facts["angles"]["test"]["intra"] = 8.0
        one.facts["part"] = "main"
    wide = stored("softmax", 0, 0.99, 0.2, part="main")
    wide.facts["angles"]["test"]["intra"] = 17.0
    short = stored("arcface", 3, 0.99, 0.2, "epochs=2", part="sensitivity")
    short.facts["angles"]["test"]["intra"] = 8.0
    found = by_measure.error_floor([*tight, wide, short], "mnist")
    assert (found["ratio"], found["sd"], found["n"]) == ("0.63", "0.18", "2")  # 0.625
    assert by_measure.error_floor([*tight[:1], wide], "mnist") is None


def test_a_difference_says_where_an_unpaired_interval_would_not():
    """The same lead on every seed, but for a trifle, of values that differ widely from seed to seed."""
    together = groups_of(arcface=[0.901, 0.9211, 0.9409, 0.961], softmax=[0.9, 0.92, 0.94, 0.96])
    accuracy = MEASURES["accuracy"]
    found = facts.paired(together["arcface"], together["softmax"], accuracy)
    assert found["verdict"] == "higher" and found["unpaired"]
    clear = groups_of(arcface=[0.95, 0.951, 0.949], softmax=[0.9, 0.902, 0.899])
    assert facts.paired(clear["arcface"], clear["softmax"], accuracy)["unpaired"] is False
    single = groups_of(arcface=[0.95], softmax=[0.9])
    assert facts.paired(single["arcface"], single["softmax"], accuracy)["unpaired"] is False


def test_the_unpaired_verdict_is_welchs():
    rng = np.random.default_rng(1)
    seen = set()
    for shift in np.linspace(-2, 2, 21):
        pairs = [(float(a), float(b)) for a, b in zip(rng.normal(shift, 1, 6), rng.normal(0, 0.5, 6), strict=True)]
        t, p = ttest_ind(*zip(*pairs, strict=True), equal_var=False)
        seen.add(expected := "undecided" if p > 0.05 else "higher" if t > 0 else "lower")
        assert facts.welch_verdict(pairs) == expected
    assert seen == {"higher", "lower", "undecided"}
    assert facts.welch_verdict([(1.0, 0.0), (1.0, 0.0)]) == "undecided"
