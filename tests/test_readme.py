"""README's own sentences against the stored results; its tables are written by experiments.py."""

import json
import re
from itertools import combinations
from pathlib import Path
from statistics import fmean, stdev

from scipy.stats import ttest_rel

from losses import LOSSES

ROOT = Path(__file__).resolve().parents[1]
TEXT = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
MARGINS = [loss for loss, entry in LOSSES.items() if entry.own_margin]


def values(loss: str, name: str, *keys: str, dataset: str = "mnist") -> dict[int, float]:
    """{seed: a figure of a stored run, in per cent}."""
    found = {}
    for path in (ROOT / "report" / "results").glob(f"{dataset}-{loss}-512d-seed[0-9]{name}.json"):
        facts = value = json.loads(path.read_text())
        for key in keys:
            value = value[key]
        found[facts["seed"]] = 100 * value
    return found


def mean(loss: str, name: str, *keys: str) -> float:
    return fmean(values(loss, name, *keys).values())


def interval(loss: str, name: str, *keys: str) -> tuple[float, float]:
    """Student's 95 % interval of the loss's paired difference to normalised softmax, over shared seeds."""
    return paired_interval(*(values(which, name, *keys) for which in (loss, "norm-softmax")))


def paired_interval(ours: dict[int, float], base: dict[int, float]) -> tuple[float, float]:
    seeds = sorted(ours.keys() & base.keys())
    found = ttest_rel([ours[s] for s in seeds], [base[s] for s in seeds]).confidence_interval(0.95)
    return found.low, found.high


def test_the_equal_error_rates_are_those_stored():
    errors = {loss: mean(loss, "", "verification", "eer") for loss in (*MARGINS, "norm-softmax")}
    sphereface, base = errors.pop("sphereface"), errors.pop("norm-softmax")
    low, high = min(errors.values()), max(errors.values())
    start = f"at the same scale, 16, all margins but SphereFace's ({sphereface:.2f} %) cut the equal error rate"
    assert start in TEXT and f"from {base:.2f} % to between {low:.2f} and {high:.2f} %." in TEXT
    assert "**A margin tightens the classes, and so does a small scale without one.**" in TEXT
    for loss in errors:
        assert interval(loss, "", "verification", "eer")[1] < 0
    below, above = interval("sphereface", "", "verification", "eer")
    assert below <= 0 <= above
    intra = {loss: mean(loss, "", "angles", "test", "intra") for loss in (*MARGINS, "norm-softmax")}
    assert max(intra, key=lambda loss: intra[loss]) == "norm-softmax"
    for scale in (2, 4):
        assert mean("norm-softmax", f"-scale={scale}", "angles", "test", "intra") < min(intra.values())


def test_a_small_scale_is_level_with_arcface():
    plain = {scale: values("norm-softmax", f"-scale={scale}", "verification", "eer") for scale in (2, 4)}
    arcface = values("arcface", "", "verification", "eer")
    at_4, at_2 = fmean(plain[4].values()), fmean(plain[2].values())
    assert f"Normalised softmax at s = 4 has {at_4:.2f} %, at s = 2 {at_2:.2f} %;" in TEXT
    assert f"neither can be told from ArcFace's {fmean(arcface.values()):.2f}" in TEXT
    own = values("norm-softmax", "", "verification", "eer")
    assert len(own) == 5
    for found in plain.values():
        low, high = paired_interval(found, arcface)
        assert low <= 0 <= high and len(found) == 3
        assert paired_interval(found, own)[1] < 0


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
    sentence = f"two of ten classes on each of three seeds {first}, 0.7 four of them {second}, 0.1 none {third}"
    assert f"gives up {sentence}" in TEXT
    room = [f"{maximum_margin(loss, 10, 2):.3f}" for loss in ("cosface", "arcface")]
    assert f"room for CosFace's margin up to {room[0]} and ArcFace's up to {room[1]}" in TEXT
    path = "mnist-cosface-2d-seed0-scale={}-margin={}{}-epochs=2.json"
    grown = json.loads((ROOT / "report" / "results" / path.format(16, 0.35, "")).read_text())["test_accuracy"]
    said = f"as by default, 0.35 does no such harm ({100 * grown:.1f} %, one seed); at s = 4 none does any."
    assert f"With margin and scale growing together, {said}" in TEXT
    for margin in (0.05, 0.1, 0.2, 0.35, 0.7):
        for way in ("", "-margin-warmup=0.0"):
            facts = json.loads((ROOT / "report" / "results" / path.format(4, margin, way)).read_text())
            assert facts["test_accuracy"] > 0.98


def test_the_grids_cells_are_those_stored():
    (none,) = values("norm-softmax", "-scale=64-epochs=2", "verification", "eer").values()
    (small,) = values("arcface", "-scale=64-margin=0.1-epochs=2", "verification", "eer").values()
    (large,) = values("arcface", "-scale=64-margin=1.0-epochs=2", "verification", "eer").values()
    assert f"{none:.2f} % without one, {small:.2f} % with ArcFace's of 0.1, {large:.2f} % with 1.0" in TEXT


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
    assert f"rises from {base:.1f} % to between {low:.1f} and {high:.1f} % without 2, 4 and 6" in TEXT


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
    assert paired_interval(at_4, plain)[0] > 0 and f"{fmean(at_4[s] - plain[s] for s in at_4):.2f}" == "0.09"
    said = f"are {', '.join(ahead[:-1])} and {ahead[-1]}, and normalised softmax at s = 4 by 0.09;"
    assert f"Ahead of plain softmax, by 0.05 points (five images), {said}" in TEXT


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
    assert len(ahead) == 9 and sorted(left_by_holm(ahead)) == ["adacos", "sphereface"]
    assert "after Holm's correction for nine such comparisons SphereFace and AdaCos remain." in TEXT
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
    assert f"{said} twenty point the same way." in TEXT


def test_by_map_at_r_li_arcface_is_ahead_on_cifar10():
    found = {loss: values(loss, "", "retrieval", "map_at_r", dataset="cifar10") for loss in (*MARGINS, "norm-softmax")}
    plain = found.pop("norm-softmax")
    ahead = [loss for loss, own in found.items() if paired_interval(own, plain)[0] > 0]
    means = fmean(found["li-arcface"].values()), fmean(plain.values())
    assert ahead == ["li-arcface"]
    assert f"though by MAP@R it is ahead ({means[0]:.2f} against {means[1]:.2f} %), alone among them." in TEXT


def test_on_cifar10_it_is_normalising():
    eers = {loss: values(loss, "", "verification", "eer", dataset="cifar10") for loss in LOSSES}
    accuracies = {loss: values(loss, "", "accuracy", "head", "value", dataset="cifar10") for loss in LOSSES}
    assert all(len(found) == 5 for found in (*eers.values(), *accuracies.values()))
    mean_of = {loss: fmean(found.values()) for loss, found in eers.items()}
    level = [loss for loss in MARGINS if loss != "li-arcface"]
    assert (
        f"takes the equal error rate from {mean_of['softmax']:.2f} to {mean_of['norm-softmax']:.2f} %; no margin "
        "lowers it further. Four cannot be told from that "
        f"({min(mean_of[loss] for loss in level):.2f} to {max(mean_of[loss] for loss in level):.2f} %), nor AdaCos "
        f"({mean_of['adacos']:.2f} %); Li-ArcFace's {mean_of['li-arcface']:.2f} % is higher,"
    ) in TEXT
    assert paired_interval(eers["norm-softmax"], eers["softmax"])[1] < 0
    assert paired_interval(eers["li-arcface"], eers["norm-softmax"])[0] > 0
    for loss in (*level, "adacos"):
        low, high = paired_interval(eers[loss], eers["norm-softmax"])
        assert low <= 0 <= high
    means = [fmean(found.values()) for found in accuracies.values()]
    assert f"In accuracy ({min(means):.2f} to {max(means):.2f} %) no loss can be told from softmax or norm" in TEXT
    told = []
    for a, b in combinations(LOSSES, 2):
        low, high = paired_interval(accuracies[a], accuracies[b])
        told += [] if low <= 0 <= high else [(a, b) if low > 0 else (b, a)]  # ahead, behind
    assert len(told) == 3 and {ahead for ahead, _ in told} == {"li-arcface"}
    assert {behind for _, behind in told}.isdisjoint({"softmax", "norm-softmax"})
    said = "of all 28 pairs three have an interval without zero, in each of which Li-ArcFace is ahead, and none is left"
    assert f"{said} after Holm's correction" in TEXT
    pairs = [[sorted(accuracies[loss].items()) for loss in pair] for pair in combinations(LOSSES, 2)]
    p = [ttest_rel([value for _, value in a], [value for _, value in b]).pvalue for a, b in pairs]
    assert len(p) == 28 and 28 * min(p) > 0.05  # Holm's first step


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
    plain = tried({}, seed=0)
    for said, changes in (
        ("a wider last block | {} and {}", [{"epochs": 8.5, "widths": [64, 256, 384]},
                                            {"epochs": 7.3, "widths": [64, 256, 512]}]),
        ("label smoothing | {}", [{"label_smoothing": 0.1}]), ("cutout | {} and {}", [{"cutout": 8}, {"cutout": 12}]),
        ("larger shifts | {} and {}", [{"shift": 3}, {"shift": 4}]),
        ("ReLU and SiLU | {} and {}", [{"activation": "relu"}, {"activation": "silu"}]),
    ):  # fmt: skip
        assert f"| {said.format(*map(tried, changes))} | {plain} |" in TEXT
    narrower = [tried({"epochs": epochs, "widths": list(widths)}) for epochs, widths in (
        (13, (64, 192, 256)), (17, (48, 192, 192)), (13.4, (32, 256, 256)), (27, (32, 128, 256)),
        (14.4, (32, 192, 384)))]  # fmt: skip
    assert f"| narrower nets for more epochs, five of them | {min(narrower)} to {max(narrower)} | {plain} |" in TEXT
    first = {9.1: ([[0.3, 16], [1.0, 32]], [[0.4, 20], [1.0, 32]]), 12.2: ([[0.4, 16], [0.7, 24], [1.0, 32]],)}
    smaller = [tried(deep | {"epochs": epochs, "image_sizes": sizes}, 0.995)
               for epochs, schedules in first.items() for sizes in schedules]  # fmt: skip
    assert f"three (one or two seeds) | {min(smaller)} to {max(smaller)} | {rows[3]} |" in TEXT
    shallow = tried({"momentum": 0.8, "depth": 3, "epochs": 7.4}, 0.995)
    assert f"without the residual connection (two seeds) | {shallow} | {rows[3]} |" in TEXT
    helped = [tried(fast | changes, 0.995, seed=0) for changes in (
        {"epochs": 13, "image_sizes": [[0.3, 16], [1.0, 32]]}, {})]  # fmt: skip
    assert f"two convolutions a block | {helped[0]} | {helped[1]} |" in TEXT
    runs = json.loads((ROOT / "report" / "results" / "recipe_search.json").read_text())["runs"]
    trainings = {(run["dataset"], run["seed"], str(run["changed"])) for run in runs}
    mnist = sum(dataset == "mnist" for dataset, *_ in trainings)
    assert f"All {len(trainings)} trainings, seven of them on MNIST," in TEXT and mnist == 7
    assert f"({len(runs)} rows: one for each decay tried)" in TEXT


def test_with_more_training_softmax_is_level_with_arcface():
    name = "-epochs=14-averaging=0.995"
    found = {loss: values(loss, name, "accuracy", "head", "value") for loss in ("arcface", "softmax", "norm-softmax")}
    errors = {loss: values(loss, name, "verification", "eer") for loss in found}
    assert all(sorted(own) == [0, 1, 2, 3, 4] for own in (*found.values(), *errors.values()))
    said = [f"{fmean(own.values()):.2f} ± {stdev(own.values()):.2f}" for own in found.values()]
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


def test_what_was_tried_on_mnist_is_what_is_stored():
    found = json.loads((ROOT / "report" / "results" / "recipe_search_mnist.json").read_text())["runs"]
    assert len(found) == 11 and "On MNIST eleven more, trained on 40,000 images and tested on 20,000 others" in TEXT
    means = []
    for name in ("errors", "averaged_errors"):
        for changed in ({"epochs": 14}, {}):
            errors = [run[name] for run in found if run["changed"] == changed]
            assert len(errors) == 2
            means.append(f"{fmean(errors) + 1e-9:.0f}")
    longer, recipe, longer_mean, recipe_mean = means
    said = f"left {longer} errors in place of {recipe}, with the mean of the weights {longer_mean} in place of"
    assert f"{said} {recipe_mean} (means of two seeds)." in TEXT


def test_what_twice_the_epochs_buy():
    longer = {name: values("arcface", f"-epochs={epochs}", "accuracy", "head", "value", dataset=name)[0]
              for name, epochs in (("mnist", 16), ("cifar10", 20))}  # fmt: skip
    said = f"take ArcFace, on one seed, to {longer['mnist']:.2f} % on MNIST and {longer['cifar10']:.2f} % on CIFAR-10."
    assert said in TEXT
    own = json.loads((ROOT / "report" / "results" / "cifar10-arcface-512d-seed0-epochs=10.json").read_text())
    gpu = values("arcface", "", "accuracy", "head", "value", dataset="cifar10")[0]
    accuracy = f"(seed 0: {100 * own['test_accuracy']:.2f} %, where the GPU had {gpu:.2f})"
    assert f"On two cores ArcFace's run takes {own['train_seconds'] / 60:.0f} minutes {accuracy}." in TEXT
    assert own["device"].startswith("cpu, 2 threads")
