"""Runs beside the main tables: other scales, margins there, where they ran, and how many samples keep a margin."""

import json

import pytest

import study
from report import content, controls, facts
from report_helpers import groups_of, run


def stored(tmp_path, name: str, **changes) -> None:
    loss, seed = changes.pop("loss"), changes.pop("seed", 0)
    (tmp_path / f"mnist-{loss}-512d-seed{seed}{name}.json").write_text(json.dumps(run(loss, seed, **changes)))


def test_margins_at_another_scale_have_rows_after_the_scale_without_one(tmp_path):
    for loss, error in (("norm-softmax", 0.05), ("arcface", 0.05), ("softmax", 0.1)):
        for seed in range(2):
            stored(tmp_path, "", loss=loss, seed=seed, verification={"eer": error})
    for scale, error in (("32", 0.12), ("4", 0.06)):
        stored(tmp_path, f"-scale={scale}", loss="norm-softmax", scale=float(scale), verification={"eer": error})
    for loss, error, m2, m3 in (("arcface", 0.08, 0.5, 0.0), ("cosface", 0.09, 0.0, 0.35)):
        own = {"scale": 32.0, "m2": m2, "m3": m3, "verification": {"eer": error}}
        stored(tmp_path, f"-scale=32-margin={m2 or m3}", loss=loss, **own)
    stored(tmp_path, "-scale=64-margin=0.1-epochs=2", loss="arcface", scale=64.0, epochs=2)  # a grid's
    other = run("norm-softmax", dataset="cifar10", part="control")  # of that scale, but of other data
    (tmp_path / "cifar10-norm-softmax-512d-seed0-scale=16.json").write_text(json.dumps(other))
    rows = content.content(tmp_path)["main"]["mnist"]["by_scale"]
    assert [row["recipe"] for row in rows] == [False, True, False, False, False, False]
    found = [(row["title"], row["scale"], row["own"], row["cells"][-1]["mean"]) for row in rows]
    assert found == [
        ("Norm-softmax", "4", False, "6.00"), ("Norm-softmax", "16", False, "5.00"),
        ("Norm-softmax", "32", False, "12.00"),
        ("ArcFace", "32", True, "8.00"), ("CosFace", "32", True, "9.00"), ("ArcFace", "16", False, "5.00"),
    ]  # fmt: skip
    assert [row["minus_own"] and row["minus_own"]["mean"] for row in rows] == [
        "+1.000", None, "+7.000", "+3.000", "+4.000", "0.000"
    ]  # fmt: skip


def test_the_second_preset_is_compared_with_the_first_seed_by_seed(tmp_path):
    for seed, (first, second) in enumerate(((0.05, 0.04), (0.06, 0.05), (0.04, 0.03))):
        stored(tmp_path, "", loss="combined", seed=seed, verification={"eer": first}, m2=0.3, m3=0.2)
        stored(tmp_path, "", loss="norm-softmax", seed=seed, verification={"eer": 2 * first})
        stored(
            tmp_path, "-margin=cm2", loss="combined", seed=seed, verification={"eer": second}, m1=0.9, m2=0.4, m3=0.15
        )
    of_set = content.content(tmp_path)["main"]
    one = of_set["mnist"]["variants"]["cm2"]
    assert one["settings"] == "s = 16, m₁ = 0.9, m₂ = 0.4, m₃ = 0.15" and one["n"] == 3
    assert one["cells"]["eer"]["mean"] == "4.00" and one["own"]["eer"]["mean"] == "−1.00"
    assert one["plain"]["eer"]["mean"] == "−6.00" and one["plain"]["eer"]["verdict"] == "lower"
    assert of_set["mnist"]["variants"]["line"] is None and of_set["cifar10"]["variants"]["cm2"] is None


def test_both_variants_are_among_what_holm_corrects_for(tmp_path):
    for seed in range(3):
        more = 0.0001 * seed
        stored(tmp_path, "", loss="softmax", seed=seed, accuracy=0.98, verification={"eer": 0.05})
        stored(tmp_path, "", loss="norm-softmax", seed=seed, accuracy=0.98 + more, verification={"eer": 0.05})
        stored(tmp_path, "", loss="arcface", seed=seed, accuracy=0.98 - more, verification={"eer": 0.05}, m2=0.5)
        own = {"seed": seed, "accuracy": 0.99 + 2 * more, "verification": {"eer": 0.06 + more}}
        stored(tmp_path, "-margin=cm2", loss="combined", m1=0.9, m2=0.4, m3=0.15, **own)
        stored(tmp_path, "-margin=0", loss="li-arcface", **own)
    one = content.content(tmp_path)["main"]["mnist"]
    both = ["CM2", "Li-ArcFace at s = 16, no margin"]
    assert one["corrected"]["softmax"] == {"tested": 4, "kept": both, "above": both, "unpaired": both}
    assert one["corrected"]["nsl"]["tested"] == 2 and one["corrected"]["nsl"]["above"] == ["CM2"]
    assert one["corrected"]["nsl_eer"] == {"tested": 2, "kept": ["CM2"], "above": ["CM2"], "unpaired": ["CM2"]}
    assert one["corrected"]["arcface_eer"]["kept"] == ["Li-ArcFace at s = 16, no margin"]
    for path in tmp_path.glob("*-margin=cm2.json"):
        found = json.loads(path.read_text())
        path.write_text(json.dumps(found | {"verification": found["verification"] | {"eer": 0.05}}))
    one = content.content(tmp_path)["main"]["mnist"]
    assert one["corrected"]["nsl"]["above"] == ["CM2"] and one["corrected"]["nsl_eer"]["kept"] == []
    for path in tmp_path.glob("*-margin=*.json"):  # made where the table was not
        path.write_text(json.dumps(json.loads(path.read_text()) | {"device": "cuda, NVIDIA H200"}))
    assert content.content(tmp_path)["main"]["mnist"]["corrected"]["softmax"]["tested"] == 2


def test_margins_are_corrected_by_accuracy_and_by_eer_and_stand_beside_the_table_at_other_scales(tmp_path):
    for seed in range(3):
        more = 0.0001 * seed
        strict = {"tar_at_far": {"0.001": 0.9, "0.0001": 0.5}}
        for loss in ("softmax", "norm-softmax"):
            stored(tmp_path, "", loss=loss, seed=seed, accuracy=0.97, verification={"eer": 0.05, **strict})
        better = {"tar_at_far": {"0.001": 0.9, "0.0001": 0.6 + more}}
        own = {"accuracy": 0.98 + more, "m2": 0.5}
        stored(tmp_path, "", loss="arcface", seed=seed, verification={"eer": 0.06 + more, **better}, **own)
        other = {"accuracy": 0.99 + more, "m2": 0.4, "scale": 32.0}
        stored(tmp_path, "-scale=32-margin=0.4", loss="arcface", seed=seed, verification={"eer": 0.05}, **other)
    one = content.content(tmp_path)["main"]["mnist"]
    both = ["ArcFace", "ArcFace at s = 32, m₂ = 0.4"]
    assert one["corrected"]["softmax"]["tested"] == 3 and one["corrected"]["softmax"]["kept"] == both
    assert one["corrected"]["nsl"]["above"] == one["corrected"]["nsl_eer"]["above"] == ["ArcFace"]
    assert (one["verdicts_strict"]["higher"], one["verdicts_tar"]["higher"]) == (["ArcFace"], [])
    for path in tmp_path.glob("mnist-arcface-512d-seed?.json"):
        facts = json.loads(path.read_text())
        facts["accuracy"]["head"]["value"] = 0.97
        path.write_text(json.dumps(facts))
    one = content.content(tmp_path)["main"]["mnist"]
    assert one["corrected"]["nsl"]["above"] == [] and one["corrected"]["nsl_eer"]["above"] == ["ArcFace"]


def test_a_control_of_the_embedded_digits_beside_mnist_is_passed_over(tmp_path):
    figures = {"own": 0.9, "arcface": 0.8, "lead": {"0.5": 1.0}}
    more = {"part": "control", "margins_kept": {"train": figures, "test": figures}}
    stored(tmp_path, "", loss="arcface")
    small = run(dataset="mnist-5k", **more)
    (tmp_path / "mnist-5k-arcface-512d-seed0-scale=4.json").write_text(json.dumps(small))
    assert content.content(tmp_path)["margins_kept"] == []
    stored(tmp_path, "-scale=4", loss="arcface", scale=4.0, **more)
    assert [row["dataset"] for row in content.content(tmp_path)["margins_kept"]] == ["mnist"]


def test_a_control_from_elsewhere_is_said_to_be():
    table = groups_of(arcface=[0.9, 0.9])["arcface"]
    for metrics in table.values():
        metrics["device"] = "cuda, NVIDIA H200"
    cpu = {0: run(device="cpu, 2 threads, AMD EPYC", torch="2.15.0+cpu")}
    assert controls.elsewhere(cpu, table) == "2 threads of AMD EPYC with PyTorch 2.15.0"
    assert controls.elsewhere(table, table) is None
    assert controls.elsewhere(cpu, {0: run(device="cpu, 1 thread, Xeon")}) is None


def test_the_line_is_set_against_the_scale_with_its_slope(tmp_path):
    for seed in range(2):
        for loss in ("norm-softmax", "li-arcface", "arcface"):
            stored(tmp_path, "", loss=loss, seed=seed, scale=4.0, verification={"eer": 0.05})
        stored(tmp_path, "-margin=0", loss="li-arcface", seed=seed, scale=4.0, verification={"eer": 0.06})
        for scale, error in ((2.55, 0.08), (2.6, 0.01), (8.0, 0.02)):
            name = f"-scale={scale:g}"
            stored(tmp_path, name, loss="norm-softmax", seed=seed, scale=scale, verification={"eer": error})
    line = content.content(tmp_path)["main"]["mnist"]["variants"]["line"]
    assert (line["slope_scale"], line["slope"]["eer"]["mean"]) == ("2.55", "−2.00")
    for path in tmp_path.glob("*-scale=2.55.json"):
        path.unlink()
    line = content.content(tmp_path)["main"]["mnist"]["variants"]["line"]
    assert line["slope_scale"] is None and line["slope"] is None and line["plain"]["eer"]["mean"] == "+1.00"


def test_kept_margins_are_means_over_seeds_of_the_runs_that_recorded_them():
    def figures(share: float) -> dict:
        part = {"own": share, "arcface": share - 0.1, "lead": {"0.01": 1.0, "0.05": 2.0, "0.5": 100 * share}}
        return {"train": part, "test": {**part, "own": share - 0.2}}

    runs = [
        facts.Run(
            "mnist", "arcface", 512, seed, "", extra, run(seed=seed, part="longer", m2=m2, margins_kept=figures(share))
        )
        for extra, m2, shares in (("epochs=14", 0.5, (0.8, 0.9)), ("margin=0", 0.0, (0.5,)))
        for seed, share in enumerate(shares)
    ]
    runs.append(
        facts.Run("mnist", "softmax", 512, 0, "", "", run("softmax", part="control", margins_kept=figures(0.4)))
    )
    runs.append(
        facts.Run("mnist", "cosface", 512, 0, "", "", run("cosface", part="control"))
    )  # of before it was recorded
    runs.append(facts.Run("mnist", "cosface", 2, 0, "", "", run("cosface", part="control", margins_kept=figures(0.4))))
    runs.append(
        facts.Run("mnist", "cosface", 512, 1, "", "scale=4", run("cosface", part="sensitivity", margins_kept={}))
    )
    rows = controls.margins_kept(runs)
    assert [(row["loss"], row["n"], row["margin"]) for row in rows] == [
        ("softmax", 1, False), ("arcface", 2, True), ("arcface", 1, False)
    ]  # fmt: skip
    assert [cell["mean"] for cell in rows[1]["cells"]] == ["85.00", "65.00", "75.00", "75.00", "85.0", "85.0"]


def test_larger_networks_are_parts_of_their_own_told_in_the_order_of_their_size():
    own = {"wider": ([4, 5, 6], 14, 0.98), "largest": ([8, 9, 10], 28, 0.99)}
    runs = [
        facts.Run("mnist", "arcface", 512, seed, "", "",
                  run("arcface", seed, right, part=part, depth=3, widths=widths, epochs=epochs, averaging=epochs / 100))
        for part, (widths, epochs, right) in reversed(own.items()) for seed in range(2)
    ]  # fmt: skip
    others = [
        facts.Run("mnist", "arcface", 512, seed, "", "", run("arcface", seed, 0.5, part="main")) for seed in range(3)
    ]
    found = controls.larger([*others, *runs], "mnist")
    told = [(one["net"], one["depth"], one["epochs"], one["averaging"], one["accuracy"]["mean"]) for one in found]
    assert told == [("4/5/6", 3, 14, 0.14, "98.00"), ("8/9/10", 3, 28, 0.28, "99.00")]
    assert [one["accuracy"]["n"] for one in found] == [2, 2]
    of_study = {part: [one for one in study.study() if one.part == part] for part in own}
    assert [one["planned"] for one in found] == [len(part) for part in of_study.values()]
    assert controls.larger(others, "mnist") == [] and controls.larger(runs, "cifar10") == []


@pytest.mark.parametrize(("own_scale", "wanted"), [(4.0, 2.55), (8.0, 5.1), (16.0, None), (2.0, None)])
def test_a_scale_has_the_slope_of_a_line_or_is_passed_over(own_scale, wanted):
    """2 s / pi: 2.546, 5.093, 10.186, 1.273."""
    assert controls.of_slope(own_scale, [1.3, 2.4, 2.55, 2.6, 5.1, 10.0]) == wanted
    assert controls.of_slope(own_scale, []) is None


@pytest.mark.parametrize(("dataset", "averaging", "own"), [("mnist", 0.995, False), ("cifar10", 0.995, True),
                                                           ("cifar10", 0.9, False)])  # fmt: skip
def test_more_training_says_whether_its_mean_of_the_weights_is_the_recipe_s(dataset, averaging, own):
    name = f"epochs=40-averaging={averaging}"
    runs = [facts.Run(dataset, "arcface", 512, seed, "", name,
                      run("arcface", seed, dataset=dataset, epochs=40, averaging=averaging))
            for seed in range(2)]  # fmt: skip
    found = controls.longer(runs, dataset)
    assert (found["epochs"], found["averaging"], found["own_averaging"]) == (40, averaging, own)
