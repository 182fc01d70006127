"""README's own sentences against the stored results; its tables are written by experiments.py."""

import json
from itertools import combinations
from statistics import fmean, stdev

from scipy.stats import ttest_rel

from losses import LOSSES
from readme_helpers import MARGINS, ROOT, TEXT, interval, mean, paired_interval, values
from study import PLANE_MARGINS

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


def test_a_small_scale_is_level_with_arcface_or_ahead():
    arcface, own = (values(loss, "", *EER) for loss in ("arcface", "norm-softmax"))
    at_4, adacos = values("norm-softmax", "-scale=4", *EER), values("adacos", "", *EER)
    degrees = [mean(loss, name, *INTRA) / 100 for loss, name in (("norm-softmax", "-scale=4"), ("adacos", ""))]
    low, high = paired_interval(at_4, arcface)
    assert low <= 0 <= high and paired_interval(at_4, own)[1] < 0 and len(at_4) == len(own) == 5
    assert (
        f"Without a margin normalised softmax at s = 4 has {degrees[0]:.1f}° and {fmean(at_4.values()):.2f} %, not "
        f"clearly different from ArcFace's {fmean(arcface.values()):.2f} %;"
    ) in TEXT
    low, high = paired_interval(arcface, adacos)
    less = fmean(arcface.values()) - fmean(adacos.values())
    assert low > 0
    assert (
        f"AdaCos, at s = 1.98, has {degrees[1]:.1f}° and {fmean(adacos.values()):.2f} %, less than ArcFace by "
        f"{less:.2f} [{low:.2f}, {high:.2f}] points, though not after Holm."
    ) in TEXT
    bare = {"adacos": (adacos, arcface), "4": (at_4, arcface), "16": (own, arcface)}
    bare |= {"2": (values("norm-softmax", "-scale=2", *EER), arcface)}
    assert "adacos" not in left_by_holm(bare)


def test_li_arcface_s_line_is_a_smaller_scale_and_adds_nothing_to_a_margin():
    line, steep, plain = (
        [values(loss, name.format(*which), *EER) for which in kinds]
        for loss, name, kinds in (("li-arcface", "{}-margin=0", (("",), ("-scale=64",))),
                                  ("norm-softmax", "-scale={}", ((10.19,), (40.74,))),
                                  ("norm-softmax", "{}", (("",), ("-scale=64",))))
    )  # fmt: skip
    for own, as_steep, at_the_same_scale in zip(line, steep, plain, strict=True):
        assert len(own) == len(as_steep) == 5
        assert paired_interval(own, at_the_same_scale)[1] < 0 < paired_interval(own, as_steep)[1]  # not below it
    means = [fmean(found.values()) for found in (*line, *steep)]
    assert (
        f"at s = 16 and 64 it has {means[0]:.2f} and {means[1]:.1f} %, normalised softmax that falls as steeply at a "
        f"right angle (2/π of these, 10.19 and 40.74) {means[2]:.2f} and {means[3]:.1f} %."
    ) in TEXT
    both, arcface = (values(loss, "", *EER) for loss in ("li-arcface", "arcface"))
    low, high = paired_interval(both, arcface)
    assert low <= 0 <= high
    assert f"Added to a margin it brings nothing clear ({fmean(both.values()):.2f} %)." in TEXT


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

    grown = [stored("cosface", 16, margin, "") for margin in (0.35, 0.7)]
    assert [sum(share < 0.5 for share in facts["per_class_accuracy"]) for facts in grown] == [0, 2]
    shares = [100 * facts["test_accuracy"] for facts in grown]
    said = f"CosFace's 0.35 gives up none ({shares[0]:.1f} %, one seed), but 0.7 still two ({shares[1]:.1f} %)."
    assert said in TEXT
    for loss, margins in PLANE_MARGINS.items():
        ways = ("", "-margin-warmup=0.0")
        assert min(stored(loss, 4, m, way)["test_accuracy"] for m in margins for way in ways) > 0.98
    assert "At s = 4 nothing fails (one seed)." in TEXT


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
    assert f"the eight heads classify {min(heads):.2f} to {max(heads):.2f} % correctly" in TEXT and len(heads) == 8
    assert "no loss with a margin differs clearly from normalised softmax at the same scale." in TEXT
    for loss in MARGINS:
        low, high = interval(loss, "", *ACCURACY)
        assert low <= 0 <= high


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
    plain = values("softmax", "", *ACCURACY)
    ahead = {loss: (values(loss, "", *ACCURACY), plain) for loss in LOSSES if loss != "softmax"}
    ahead |= {f"s = {s}": (values("norm-softmax", f"-scale={s}", *ACCURACY), plain) for s in (2, 4)}
    ahead |= {f"{loss} {m}": (values(loss, f"-margin={m}", *ACCURACY), plain) for loss, m in (
        ("combined", "cm2"), ("li-arcface", 0))}  # fmt: skip
    along = {"norm-softmax": ("-scale=8", "-scale=64", "-scale=10.19", "-scale=40.74"),
             "arcface": ("-scale=4", "-scale=64"), "cosface": ("-scale=4", "-scale=64"),
             "li-arcface": ("-scale=4-margin=0", "-scale=64-margin=0")}  # fmt: skip
    ahead |= {f"{loss}{name}": (values(loss, name, *ACCURACY), plain)
              for loss, names in along.items() for name in names}  # fmt: skip
    left = left_by_holm(ahead)
    assert len(ahead) == 21 and len(left) == 6 and "s = 4" in left
    leads = [fmean(own[s] - plain[s] for s in own) for own, _ in (ahead[name] for name in left)]
    said = f"by {min(leads):.2f} to {max(leads):.2f} points (three to nine images)"
    at_4 = f"normalised softmax at s = 4 ({fmean(ahead['s = 4'][0].values()):.2f} %)."
    assert f"Six of twenty-one settings are ahead of plain softmax after Holm, {said}, among them {at_4}" in TEXT
    assert (round(100 * min(leads)), round(100 * max(leads))) == (3, 9)
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


def test_with_more_training_softmax_is_level_with_arcface():
    name = "-epochs=14-averaging=0.995"
    found = {loss: values(loss, name, *ACCURACY) for loss in ("arcface", "softmax", "norm-softmax")}
    errors = {loss: values(loss, name, "verification", "eer") for loss in found}
    assert all(sorted(own) == list(range(10)) for own in (*found.values(), *errors.values()))
    said = [f"{fmean(own.values()):.2f} ± {stdev(own.values()):.2f}" for own in found.values()]
    assert "ten seeds, five of them decided on after the first five were known)" in TEXT
    assert f"ArcFace has {said[0]} %, softmax {said[1]} and normalised softmax {said[2]}: no clear difference." in TEXT
    for pair in combinations(found.values(), 2):
        low, high = paired_interval(*pair)
        assert low <= 0 <= high


def test_a_margin_is_kept_without_being_asked_for():
    where = ("margins_kept", "test", "arcface")
    found = [values(loss, "-epochs=14-averaging=0.995", *where) for loss in ("norm-softmax", "arcface")]
    large = values("norm-softmax", "-scale=64", *where)
    assert all(sorted(one) == list(range(10)) for one in found) and len(large) == 5
    plain, arcface = (f"{fmean(one.values()):.1f}" for one in found)
    assert (
        f"with normalised softmax {plain} % of MNIST's test images are at least 0.5 radians nearer to their class's "
        f"weight than to any other, with ArcFace {arcface} % (14 epochs, ten seeds); at s = 64 without a margin "
        f"{fmean(large.values()):.1f} % (8 epochs)."
    ) in TEXT


def test_what_twice_the_epochs_buy():
    longer, usual = (values("arcface", name, *ACCURACY, dataset="cifar10")[0] for name in ("-epochs=20", ""))
    assert f"take ArcFace, on one seed, from {usual:.2f} to {longer:.2f} % on CIFAR-10 (JPEG copy)." in TEXT
    again = values("norm-softmax", "-scale=4", *EER, dataset="cifar10")
    assert f"there normalised softmax at s = 4 has an EER of {again[0]:.2f} % (seed 0)." in TEXT
    own = json.loads((ROOT / "report" / "results" / "cifar10-arcface-512d-seed0-epochs=10.json").read_text())
    accuracy = f"(seed 0: {100 * own['test_accuracy']:.2f} %, where the GPU had {usual:.2f})"
    assert f"On two cores ArcFace's run takes {own['train_seconds'] / 60:.0f} minutes {accuracy}." in TEXT
    assert own["device"].startswith("cpu, 2 threads")
