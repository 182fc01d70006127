"""README's own sentences against the stored results; its tables are written by experiments.py."""

import json
from itertools import combinations
from statistics import fmean, stdev

from scipy.stats import spearmanr, ttest_rel

from losses import LOSSES
from readme_helpers import MARGINS, ROOT, TEXT, interval, mean, paired_interval, values
from study import PLANE_MARGINS


def test_the_equal_error_rates_are_those_stored():
    errors = {loss: mean(loss, "", "verification", "eer") for loss in (*MARGINS, "norm-softmax")}
    sphereface, base = errors.pop("sphereface"), errors.pop("norm-softmax")
    low, high = min(errors.values()), max(errors.values())
    said = (
        f"for SphereFace's ({sphereface:.2f} %): from {base:.2f} % to between {low:.2f} and {high:.2f} % with a margin"
    )
    assert said in TEXT
    assert "**A margin tightens the classes, and so does a small scale without one.**" in TEXT
    for loss in errors:
        assert interval(loss, "", "verification", "eer")[1] < 0
    below, above = interval("sphereface", "", "verification", "eer")
    assert below <= 0 <= above
    intra = {loss: mean(loss, "", "angles", "test", "intra") for loss in (*MARGINS, "norm-softmax")}
    angles = {loss: f"{value / 100:.1f}" for loss, value in intra.items()}
    plain, found = angles.pop("norm-softmax"), sorted(map(float, angles.values()))
    at_4, at_2 = (mean("norm-softmax", f"-scale={scale}", "angles", "test", "intra") / 100 for scale in (4, 2))
    assert f"from {plain}° to between {found[0]} and {found[-1]}°, s = 4 and s = 2 without a margin to" in TEXT
    assert f"margin to {at_4:.1f} and {at_2:.1f}°." in TEXT and found[-1] < float(plain)


def test_a_small_scale_is_level_with_arcface():
    plain = {scale: values("norm-softmax", f"-scale={scale}", "verification", "eer") for scale in (2, 4)}
    arcface = values("arcface", "", "verification", "eer")
    at_4, at_2 = fmean(plain[4].values()), fmean(plain[2].values())
    said = f"neither of which can be told from ArcFace's {fmean(arcface.values()):.2f}."
    assert f"{at_4:.2f} and {at_2:.2f} % at s = 4 and s = 2, {said}" in TEXT
    own = values("norm-softmax", "", "verification", "eer")
    assert len(own) == 5
    for found in plain.values():
        low, high = paired_interval(found, arcface)
        assert low <= 0 <= high and len(found) == 5
        assert paired_interval(found, own)[1] < 0


def test_li_arcface_s_line_does_much_without_a_margin_as_a_margin_does_without_the_line():
    line, own, plain = (values(loss, name, "verification", "eer") for loss, name in (
        ("li-arcface", "-margin=0"), ("li-arcface", ""), ("norm-softmax", "")))  # fmt: skip
    assert paired_interval(line, plain)[1] < 0 < paired_interval(line, own)[0] and len(line) == len(own) == 5
    means = [fmean(found.values()) for found in (line, own, plain)]
    assert means[2] - means[0] > 2 * (means[0] - means[1])
    assert f"does much of this without a margin ({means[0]:.2f} %; with its margin {means[1]:.2f})" in TEXT
    arcface = values("arcface", "", "verification", "eer")
    low, high = paired_interval(own, arcface)
    assert low <= 0 <= high and paired_interval(arcface, line)[1] < 0
    assert "but ArcFace's margin without the line does more, and both together cannot be told from it. CM2 has" in TEXT
    second, first = (values("combined", name, "verification", "eer") for name in ("-margin=cm2", ""))
    low, high = paired_interval(second, first)
    assert low <= 0 <= high and len(second) == 5
    said = f"{fmean(second.values()):.2f} % and cannot be told from the table's preset ({fmean(first.values()):.2f})."
    assert f"CM2 has {said}" in TEXT


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
    (two, first), (four, second), (none, third) = said
    assert (two, four, none) == (2, 4, 0)
    lost = "two of ten classes (under half of their test images right) on each of three seeds"
    sentence = f"{lost} {first}, 0.7 four of them {second}, 0.1 none {third}"
    assert f"gives up {sentence}" in TEXT
    room = [f"{maximum_margin(loss, 10, 2):.3f}" for loss in ("cosface", "arcface")]
    assert f"room for CosFace's margin up to {room[0]} and ArcFace's up to {room[1]}" in TEXT
    path = "mnist-{}-2d-seed0-scale={}-margin={}{}-epochs=2.json"

    def accuracy(*which) -> float:
        return 100 * json.loads((ROOT / "report" / "results" / path.format(*which)).read_text())["test_accuracy"]

    grown = [f"({accuracy('cosface', 16, margin, ''):.1f} %" for margin in (0.35, 0.7)]
    assert f"0.35 does no such harm {grown[0]}, one seed) but 0.7 does {grown[1]})." in TEXT
    fitting = sorted(100 * facts["accuracy"]["head"]["value"] for facts in runs("arcface", 0.5))
    assert f"where its margin fits: 0.5 fails on one of three ({fitting[0]:.1f} %)" in TEXT
    assert len(fitting) == 3 and fitting[1] > 95
    for loss, margins in PLANE_MARGINS.items():
        assert min(accuracy(loss, 4, m, way) for m in margins for way in ("", "-margin-warmup=0.0")) > 98
    assert "At s = 4 nothing fails." in TEXT


def test_the_rank_1_figures_on_unseen_digits_are_those_stored():
    said = []
    for split in ("-without-7-8-9", "-without-2-4-6"):
        ranks = {loss: mean(loss, split, "retrieval", "rank_1") for loss in MARGINS}
        said.append((mean("norm-softmax", split, "retrieval", "rank_1"), min(ranks.values()), max(ranks.values())))
    (base, low, high), (base_2, low_2, high_2) = said
    assert f"{base:.1f} % of the time with normalised softmax, and {low:.1f} to {high:.1f} % with a margin" in TEXT
    assert f"without 2, 4 and 6, {base_2:.1f} % and {low_2:.1f} to {high_2:.1f} %." in TEXT
    adacos = [mean("adacos", split, "retrieval", "rank_1") for split in ("-without-7-8-9", "-without-2-4-6")]
    assert f"tightest classes of all, has {adacos[0]:.1f} and {adacos[1]:.1f} %." in TEXT


def test_the_equal_error_rates_on_unseen_digits_are_those_stored():
    errors = {loss: mean(loss, "-without-2-4-6", "verification", "eer") for loss in (*MARGINS, "norm-softmax")}
    base = errors.pop("norm-softmax")
    low, high = min(errors.values()), max(errors.values())
    said = f"With a margin the equal error rate rises from {base:.1f} % to between {low:.1f} and {high:.1f} % without"
    adacos = mean("adacos", "-without-2-4-6", "verification", "eer")
    assert f"{said} 2, 4 and 6 (AdaCos: {adacos:.1f} %);" in TEXT


def test_the_verdicts_on_unseen_digits_are_those_of_the_intervals():
    assert "Trained without 7, 8 and 9 (three seeds)" in TEXT and len(MARGINS) == 5
    assert "without 7, 8 and 9 it is undecided" in TEXT
    for loss in MARGINS:
        assert sorted(values(loss, "-without-7-8-9", "test_accuracy")) == [0, 1, 2]
        assert interval(loss, "-without-7-8-9", "retrieval", "rank_1")[1] < 0
        assert interval(loss, "-without-2-4-6", "retrieval", "rank_1")[1] < 0
        assert interval(loss, "-without-2-4-6", "verification", "eer")[0] > 0
        low, high = interval(loss, "-without-7-8-9", "verification", "eer")
        assert low <= 0 <= high
    for split in ("-without-7-8-9", "-without-2-4-6"):
        assert interval("adacos", split, "retrieval", "rank_1")[1] < 0


def test_no_margin_is_told_from_normalised_softmax_by_accuracy():
    heads = [mean(loss, "", "accuracy", "head", "value") for loss in LOSSES]
    assert f"the eight heads classify {min(heads):.2f} to {max(heads):.2f} % correctly" in TEXT and len(heads) == 8
    assert "and no margin can be told from normalised softmax at the same scale." in TEXT
    for loss in MARGINS:
        low, high = interval(loss, "", "accuracy", "head", "value")
        assert low <= 0 <= high


def test_against_plain_softmax_some_losses_are_ahead():
    plain = values("softmax", "", "accuracy", "head", "value")
    ahead = []
    for loss in LOSSES:
        found = values(loss, "", "accuracy", "head", "value")
        if loss != "softmax" and paired_interval(found, plain)[0] > 0:
            ahead.append(LOSSES[loss].title)
            assert f"{fmean(found[s] - plain[s] for s in found):.2f}" == "0.05"
    at_4 = values("norm-softmax", "-scale=4", "accuracy", "head", "value")
    assert paired_interval(at_4, plain)[0] > 0 and f"{fmean(at_4[s] - plain[s] for s in at_4):.2f}" == "0.08"
    arcface = values("arcface", "-scale=4", "accuracy", "head", "value")
    line = values("li-arcface", "-scale=4-margin=0", "accuracy", "head", "value")
    others_at_4 = [f"{fmean(found[s] - plain[s] for s in found):.2f}" for found in (arcface, line)]
    assert all(paired_interval(found, plain)[0] > 0 for found in (arcface, line))
    assert (
        f"and at s = 4 ArcFace by {others_at_4[0]}, normalised softmax by 0.08 and Li-ArcFace without its margin by "
        f"{others_at_4[1]}."
    ) in TEXT
    both = {f"{fmean(found.values()):.2f}" for found in (arcface, at_4)}
    assert f"of these ArcFace and normalised softmax have {both.pop()} %." in TEXT and not both
    others = [values(loss, f"-margin={margin}", "accuracy", "head", "value") for loss, margin in (
        ("combined", "cm2"), ("li-arcface", 0))]  # fmt: skip
    by = [f"{fmean(found[s] - plain[s] for s in found):.2f}" for found in others]
    assert all(paired_interval(found, plain)[0] > 0 for found in others)
    said = f"are {', '.join(ahead[:-1])} and {ahead[-1]}; by {by[0]} CM2, the combined form's other preset; by {by[1]}"
    assert f"Ahead of plain softmax, by 0.05 points (five images), {said} Li-ArcFace without its margin;" in TEXT


def left_by_holm(differences: dict[str, tuple[dict, dict]]) -> list[str]:
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


def test_what_holm_s_correction_leaves_of_the_readme_s_differences():
    plain = values("softmax", "", "accuracy", "head", "value")
    ahead = {loss: (values(loss, "", "accuracy", "head", "value"), plain) for loss in LOSSES if loss != "softmax"}
    ahead |= {f"s = {s}": (values("norm-softmax", f"-scale={s}", "accuracy", "head", "value"), plain) for s in (2, 4)}
    ahead |= {f"{loss} {m}": (values(loss, f"-margin={m}", "accuracy", "head", "value"), plain) for loss, m in (
        ("combined", "cm2"), ("li-arcface", 0))}  # fmt: skip
    along = {"norm-softmax": ("-scale=8", "-scale=64"), "arcface": ("-scale=4", "-scale=64"),
             "li-arcface": ("-scale=4-margin=0", "-scale=64-margin=0")}  # fmt: skip
    ahead |= {f"{loss}{name}": (values(loss, name, "accuracy", "head", "value"), plain)
              for loss, names in along.items() for name in names}  # fmt: skip
    left = ["adacos", "arcface-scale=4", "combined cm2", "li-arcface-scale=4-margin=0", "s = 4", "sphereface"]
    assert len(ahead) == 17 and sorted(left_by_holm(ahead)) == left
    said = "SphereFace, AdaCos, CM2 and the three at s = 4 remain;"
    assert f"After Holm's correction for seventeen such comparisons {said}" in TEXT
    unseen = {}
    for keys, sign in ((("verification", "eer"), 1), (("retrieval", "rank_1"), -1)):
        unseen[keys] = {
            (loss, split): (values(loss, split, *keys), values("norm-softmax", split, *keys))
            for loss in MARGINS for split in ("-without-7-8-9", "-without-2-4-6")
        }  # fmt: skip
        for a, b in unseen[keys].values():
            assert sign * (fmean(a.values()) - fmean(b.values())) > 0
    assert [len(left_by_holm(family)) for family in unseen.values()] == [0, 3]
    said = "three of the margins' ten differences by nearest neighbour remain and none by equal error rate, though all"
    assert (
        f"{said} twenty point the same way, which proves little: on each split all are differences from the same"
        in TEXT
    )


def test_among_the_margins_tighter_is_no_rule_on_unseen_digits():
    said = "by nearest neighbour the tighter ones do rather worse on both splits, by equal error rate worse"
    assert (
        len(MARGINS) == 5 and f"Five margin losses alone make no rule: {said} without 7, 8 and 9, in no clear" in TEXT
    )
    found = []
    for split in ("-without-7-8-9", "-without-2-4-6"):
        tight, errors, ranks = (
            [mean(loss, split, *keys) for loss in MARGINS]
            for keys in (("angles", "test", "intra"), ("verification", "eer"), ("retrieval", "rank_1"))
        )
        found.append(spearmanr(tight, errors).statistic)
        assert 0.5 < spearmanr(tight, ranks).statistic < 0.8
    assert found[0] < -0.8 and 0 < found[1] < 0.5


def test_with_more_training_softmax_is_level_with_arcface():
    name = "-epochs=14-averaging=0.995"
    found = {loss: values(loss, name, "accuracy", "head", "value") for loss in ("arcface", "softmax", "norm-softmax")}
    errors = {loss: values(loss, name, "verification", "eer") for loss in found}
    assert all(sorted(own) == list(range(10)) for own in (*found.values(), *errors.values()))
    said = [f"{fmean(own.values()):.2f} ± {stdev(own.values()):.2f}" for own in found.values()]
    assert "ten seeds, five of them decided on after the first five were known)" in TEXT
    assert f"ArcFace has {said[0]} %, softmax {said[1]} and normalised softmax {said[2]}:" in TEXT
    assert (
        paired_interval(found["arcface"], found["softmax"])[0]
        < 0
        < paired_interval(
            values("arcface", "", "accuracy", "head", "value"), values("softmax", "", "accuracy", "head", "value")
        )[0]
    )
    for pair in combinations(found.values(), 2):
        low, high = paired_interval(*pair)
        assert low <= 0 <= high
    eer = [f"{fmean(own.values()):.2f}" for own in errors.values()]
    assert f"ArcFace's {eer[0]} % stays below softmax's {eer[1]} and normalised softmax's {eer[2]}" in TEXT
    for base in ("softmax", "norm-softmax"):
        assert paired_interval(errors["arcface"], errors[base])[1] < 0


def test_a_margin_is_kept_without_being_asked_for():
    where = ("margins_kept", "test", "arcface")
    name = "-epochs=14-averaging=0.995"
    found = [values(loss, name, *where) for loss in ("softmax", "norm-softmax", "arcface")]
    assert all(sorted(one) == list(range(10)) for one in found)
    softmax, plain, arcface = (f"{fmean(one.values()):.1f}" for one in found)
    assert f"With plain softmax {softmax} % of MNIST's test images are at least ArcFace's margin of 0.5 radians" in TEXT
    assert (
        f"with normalised softmax {plain} and with ArcFace {arcface} % (the longer training above, ten seeds)" in TEXT
    )
    without = values("norm-softmax", "-scale=16", *where, dataset="cifar10")
    with_it = values("arcface", "-scale=16-margin=0.5", *where, dataset="cifar10")
    small = values("norm-softmax", "-scale=4", *where, dataset="cifar10")
    assert list(without) == list(with_it) == list(small) == [0]
    assert (
        f"it is {without[0]:.1f} % at s = 16 without a margin, {with_it[0]:.1f} % there with ArcFace's, and "
        f"{small[0]:.1f} % at s = 4 without one (one seed each)."
    ) in TEXT
    again = values("norm-softmax", "-scale=4", "verification", "eer", dataset="cifar10")
    assert f"where normalised softmax at s = 4 has an equal error rate of {again[0]:.2f} % (seed 0)." in TEXT


def test_what_twice_the_epochs_buy():
    longer = {name: values("arcface", f"-epochs={epochs}", "accuracy", "head", "value", dataset=name)[0]
              for name, epochs in (("mnist", 16), ("cifar10", 20))}  # fmt: skip
    usual = {name: values("arcface", "", "accuracy", "head", "value", dataset=name)[0] for name in longer}
    said = [f"from {usual[name]:.2f} to {longer[name]:.2f} %" for name in longer]
    assert f"take ArcFace, on one seed, {said[0]} on MNIST and {said[1]} on CIFAR-10 (JPEG copy)." in TEXT
    own = json.loads((ROOT / "report" / "results" / "cifar10-arcface-512d-seed0-epochs=10.json").read_text())
    gpu = values("arcface", "", "accuracy", "head", "value", dataset="cifar10")[0]
    accuracy = f"(seed 0: {100 * own['test_accuracy']:.2f} %, where the GPU had {gpu:.2f})"
    assert f"On two cores ArcFace's run takes {own['train_seconds'] / 60:.0f} minutes {accuracy}." in TEXT
    assert own["device"].startswith("cpu, 2 threads")
