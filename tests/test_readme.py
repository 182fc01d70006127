"""README's own sentences against the stored results; its tables are written by experiments.py."""

import json
from itertools import combinations
from statistics import fmean

from scipy.stats import ttest_rel

from losses import LOSSES
from readme_helpers import MARGINS, ROOT, TEXT, interval, mean, paired_interval, values

EER, INTRA, ACCURACY = ("verification", "eer"), ("angles", "test", "intra"), ("accuracy", "head", "value")


def test_a_margin_tightens_the_classes_and_lowers_the_error():
    errors = {loss: mean(loss, "", *EER) for loss in (*MARGINS, "norm-softmax")}
    sphereface, base = errors.pop("sphereface"), errors.pop("norm-softmax")
    intra = [mean(loss, "", *INTRA) / 100 for loss in MARGINS]
    plain = mean("norm-softmax", "", *INTRA) / 100
    assert "**A margin tightens the classes, and so does a small scale without one.**" in TEXT and max(intra) < plain
    assert (
        f"margins take Intra from {plain:.1f}° to between {min(intra):.1f} and {max(intra):.1f}°, and the EER from "
        f"{base:.2f} % to between {min(errors.values()):.2f} and {max(errors.values()):.2f} %, except for SphereFace's "
        f"({sphereface:.2f} %, no clear difference)."
    ) in TEXT
    for loss in errors:
        assert interval(loss, "", *EER)[1] < 0
    below, above = interval("sphereface", "", *EER)
    assert below <= 0 <= above


def test_a_small_scale_is_level_with_arcface():
    arcface, own, at_4 = (values(loss, name, *EER) for loss, name in (
        ("arcface", ""), ("norm-softmax", ""), ("norm-softmax", "-scale=4")))  # fmt: skip
    degrees = mean("norm-softmax", "-scale=4", *INTRA) / 100
    low, high = paired_interval(at_4, arcface)
    assert low <= 0 <= high and paired_interval(at_4, own)[1] < 0 and len(at_4) == len(own) == 5
    assert (
        f"Without a margin normalised softmax at s = 4 has {degrees:.1f}° and {fmean(at_4.values()):.2f} %, not "
        f"clearly different from ArcFace's {fmean(arcface.values()):.2f} %."
    ) in TEXT


def test_li_arcface_s_line_is_a_smaller_scale():
    line, steep, plain = (
        [values(loss, name.format(*which), *EER) for which in kinds]
        for loss, name, kinds in (("li-arcface", "{}-margin=0", (("",), ("-scale=64",))),
                                  ("norm-softmax", "-scale={}", ((10.19,), (40.74,))),
                                  ("norm-softmax", "{}", (("",), ("-scale=64",))))
    )  # fmt: skip
    for own, as_steep, at_the_same_scale in zip(line, steep, plain, strict=True):
        assert len(own) == len(as_steep) == 5
        assert paired_interval(own, at_the_same_scale)[1] < 0 < paired_interval(own, as_steep)[1]  # not below it
    assert "Li-ArcFace's straight line, without its margin, lowers the EER no further than a smaller scale." in TEXT


def test_what_margins_without_room_cost_is_what_is_stored():
    from bounds import maximum_margin

    def runs(loss: str, margin: float) -> list[dict]:
        name = f"mnist-{loss}-2d-seed[0-9]-scale=16-margin={margin:g}-margin-warmup=0.0-epochs=2.json"
        return [json.loads(path.read_text()) for path in sorted((ROOT / "report" / "results").glob(name))]

    said = []
    for margin in (0.35, 0.7, 0.1):
        found = runs("cosface", margin)
        lost = {sum(share < 0.5 for share in facts["per_class_accuracy"]) for facts in found}
        accuracies = [100 * facts["test_accuracy"] for facts in found]
        assert len(found) == 3 and len(lost) == 1
        said.append((lost.pop(), f"({min(accuracies):.1f} to {max(accuracies):.1f} %)"))
    (two, first), (four, _), (none, _) = said
    assert (two, four, none) == (2, 4, 0)
    assert f"CosFace's 0.35 from its paper gives up two of ten classes on each of three seeds {first};" in TEXT
    room = [f"{maximum_margin(loss, 10, 2):.3f}" for loss in ("cosface", "arcface")]
    assert f"room for CosFace's margin up to {room[0]} and ArcFace's up to {room[1]}" in TEXT
    failing = [sum(min(facts["per_class_accuracy"]) < 0.5 for facts in runs("arcface", m)) for m in (0.5, 0.8, 1.2)]
    assert failing == [1, 2, 3]
    assert "ArcFace gives up classes on one of three seeds at 0.5, on two at 0.8 and on all at 1.2." in TEXT
    path = "mnist-{}-2d-seed0-scale={}-margin={}{}-epochs=2.json"

    def stored(*which) -> dict:
        return json.loads((ROOT / "report" / "results" / path.format(*which)).read_text())

    grown = stored("cosface", 16, 0.35, "")
    assert sum(share < 0.5 for share in grown["per_class_accuracy"]) == 0 and grown["epochs"] == 2
    assert f"CosFace's 0.35 gives up none ({100 * grown['test_accuracy']:.1f} %, one seed)." in TEXT


def test_the_rank_1_figures_on_unseen_digits_are_those_stored():
    said = []
    for split in ("-without-7-8-9", "-without-2-4-6"):
        ranks = [mean(loss, split, "retrieval", "rank_1") for loss in MARGINS]
        others = [mean(loss, split, "retrieval", "rank_1") for loss in ("norm-softmax", "adacos")]
        said.append((others[0], min(ranks), max(ranks), others[1]))
        tight = {loss: mean(loss, split, *INTRA) for loss in LOSSES}
        assert min(tight, key=lambda loss: tight[loss]) == "adacos"
    (base, low, high, adacos), (base_2, low_2, high_2, adacos_2) = said
    assert (
        f"{base:.1f} % of the time with normalised softmax, {low:.1f} to {high:.1f} % with a margin and {adacos:.1f} % "
        f"with AdaCos, the tightest of the eight; without 2, 4 and 6 it is {base_2:.1f}, {low_2:.1f} to {high_2:.1f} "
        f"and {adacos_2:.1f} %."
    ) in TEXT


def test_the_verdicts_on_unseen_digits_are_those_of_the_intervals():
    assert "Trained without 7, 8 and 9 (three seeds)" in TEXT and len(MARGINS) == 5
    for loss in MARGINS:
        assert sorted(values(loss, "-without-7-8-9", "test_accuracy")) == [0, 1, 2]
        assert interval(loss, "-without-7-8-9", "retrieval", "rank_1")[1] < 0
        assert interval(loss, "-without-2-4-6", "retrieval", "rank_1")[1] < 0
        assert interval(loss, "-without-2-4-6", "verification", "eer")[0] > 0
        low, high = interval(loss, "-without-7-8-9", "verification", "eer")
        assert low <= 0 <= high
    for split in ("-without-7-8-9", "-without-2-4-6"):
        assert interval("adacos", split, "retrieval", "rank_1")[1] < 0


def test_no_margin_differs_clearly_from_normalised_softmax_by_accuracy():
    heads = [mean(loss, "", *ACCURACY) for loss in LOSSES]
    others = [fmean(values(loss, "", *ACCURACY, dataset="cifar10").values()) for loss in LOSSES]
    assert len(heads) == 8
    assert (
        f"On MNIST the eight heads classify {min(heads):.2f} to {max(heads):.2f} % correctly, on CIFAR-10 (a JPEG "
        f"copy) {min(others):.2f} to {max(others):.2f} %."
    ) in TEXT
    pairs = {
        (dataset, loss): tuple(values(which, "", *ACCURACY, dataset=dataset) for which in (loss, "norm-softmax"))
        for dataset in ("mnist", "cifar10") for loss in MARGINS
    }  # fmt: skip
    clear = [key for key, pair in pairs.items() if not paired_interval(*pair)[0] <= 0 <= paired_interval(*pair)[1]]
    assert len(pairs) == 10 and clear == [("cifar10", "combined")] and left_by_holm(pairs) == []
    ours, base = (fmean(side.values()) for side in pairs[clear[0]])
    assert (
        "Of the margins' ten differences from normalised softmax at the same scale one is clear, the combined form's "
        f"−{base - ours:.2f} points on CIFAR-10, and none after Holm."
    ) in TEXT


def left_by_holm(differences: dict) -> list:
    """Names of the paired differences whose t-tests Holm's step-down procedure rejects at 5 %."""
    p = {}
    for name, (a, b) in differences.items():
        seeds = sorted(a.keys() & b.keys())
        p[name] = ttest_rel([a[s] for s in seeds], [b[s] for s in seeds]).pvalue
    left = []
    for rank, name in enumerate(sorted(p, key=lambda name: p[name])):
        if p[name] * (len(p) - rank) > 0.05:
            break
        left.append(name)
    return left


def test_what_holm_s_correction_leaves_of_the_differences_on_unseen_digits():
    unseen = {}
    for keys, sign in ((("verification", "eer"), 1), (("retrieval", "rank_1"), -1)):
        unseen[keys] = {
            (loss, split): (values(loss, split, *keys), values("norm-softmax", split, *keys))
            for loss in MARGINS for split in ("-without-7-8-9", "-without-2-4-6")
        }  # fmt: skip
        for a, b in unseen[keys].values():
            assert sign * (fmean(a.values()) - fmean(b.values())) > 0
    assert [len(left_by_holm(family)) for family in unseen.values()] == [0, 3]
    assert "Three of the margins' ten differences remain after Holm; by EER none of ten does." in TEXT


def test_what_twice_the_epochs_buy():
    losses = ("arcface", "norm-softmax", "softmax")
    longer, usual = (
        {loss: values(loss, name, *ACCURACY, dataset="cifar10") for loss in losses}
        for name in ("-epochs=20-averaging=0.995", "")
    )
    (a, b), (c, d), (e, f) = (  # a hair more: a tie is rounded up, as on paper
        (fmean(usual[loss].values()) + 1e-9, fmean(longer[loss].values()) + 1e-9) for loss in losses
    )
    assert (
        f"take ArcFace from {a:.2f} to {b:.2f} % on CIFAR-10 (JPEG copy), normalised softmax from {c:.2f} to {d:.2f} % "
        f"and softmax from {e:.2f} to {f:.2f} %, without a clear difference between the three."
    ) in TEXT
    for one, other in combinations(losses, 2):
        low, high = paired_interval(longer[one], longer[other])
        assert low <= 0 <= high
    own = json.loads((ROOT / "report" / "results" / "cifar10-arcface-512d-seed0-epochs=10.json").read_text())
    accuracy = f"(seed 0: {100 * own['test_accuracy']:.2f} %, where the GPU had {usual['arcface'][0]:.2f})"
    assert f"On two cores ArcFace's run takes {own['train_seconds'] / 60:.0f} minutes {accuracy}." in TEXT
    assert own["device"].startswith("cpu, 2 threads")
