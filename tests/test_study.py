"""The study's list of runs: every cell, each once, within reach of train.py, and the time they take."""

import math

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

import devices
import options
import study
from losses import LOSSES
from models import build_backbone
from recipes import recipe
from results_helpers import facts_of
from study import Run


def test_the_study_has_every_cell_and_names_no_run_twice():
    runs = study.study()
    assert len({run.name() for run in runs}) == len(runs)
    cells = {(run.dataset, run.loss, run.embedding_dim, run.seed) for run in runs if not run.hold_out and not run.extra}
    for loss in LOSSES:
        assert {("mnist", loss, 512, seed) for seed in range(5)} <= cells
        assert {("cifar10", loss, 512, seed) for seed in range(3)} <= cells
        assert {("mnist", loss, dim, 0) for dim in (2, 3)} <= cells
        drawn = {(run.dataset, run.embedding_dim) for run in runs if run.loss == loss and run.snapshots()}
        assert drawn == {(dataset, dim) for dataset in ("mnist", "cifar10") for dim in (2, 3, 512)}
        held_out = [(run.hold_out, run.seed) for run in runs if run.loss == loss and run.hold_out]
        assert sorted(held_out) == sorted((split, seed) for split in study.SPLITS for seed in range(3))
    first = runs[: 2 * len(LOSSES)]
    assert {run.loss for run in first} == set(LOSSES) and {(r.part, r.seed) for r in first} == {("main", 0)}


def test_where_there_is_a_gpu_the_main_table_has_more_seeds(monkeypatch):
    monkeypatch.setattr(devices, "pick_device", lambda name: "cuda:0")
    assert {(run.dataset, run.seed) for run in study.study() if run.part == "main"} == {
        (dataset, seed) for dataset in study.CLASSES for seed in range(study.SEEDS_ON_GPU)
    }
    assert {run.seed for run in study.study(2) if run.part == "main"} == {0, 1}


def test_every_run_is_one_that_train_py_would_accept():
    for run in study.study():
        settings = run.settings()
        assert (settings["loss"], settings["seed"], tuple(settings["hold_out"])) == (run.loss, run.seed, run.hold_out)
        flags = options.parse_flags([*run.flags(), "--name", run.name()])  # SystemExit for a bad flag or name
        assert flags.name == run.name()


def test_the_grids_reach_beyond_what_theory_allows():
    from bounds import maximum_margin

    for loss, margins in study.MARGINS.items():
        assert min(margins) < maximum_margin(loss, 10, 512) < max(margins)


@pytest.mark.parametrize("dataset", study.CLASSES)
def test_norm_softmax_is_run_at_the_scale_of_each_margin_loss(dataset):
    scales = {loss: recipe(dataset, loss, 512, 10)["scale"] for loss, entry in LOSSES.items() if entry.own_margin}
    assert set(scales.values()) == {recipe(dataset, "norm-softmax", 512, 10)["scale"]}


def test_controls_are_other_scales_the_other_preset_and_li_arcface_without_a_margin():
    names = [run.name() for run in study.study() if run.part == "control"]
    smaller = [f"mnist-norm-softmax-512d-seed{seed}-scale={scale}" for seed in range(5) for scale in (2, 4)]
    margins = [f"mnist-{own}" for seed in range(5)
               for own in (f"combined-512d-seed{seed}-margin=cm2", f"li-arcface-512d-seed{seed}-margin=0")]  # fmt: skip
    large = ("norm-softmax-512d-seed{}-scale=2.55", "norm-softmax-512d-seed{}-scale=16",
             "arcface-512d-seed{}-scale=16-margin=0.5", "cosface-512d-seed{}-scale=16-margin=0.35")  # fmt: skip
    others = [f"cifar10-{name.format(seed)}" for seed in range(5) for name in large]
    lines = [f"cifar10-li-arcface-512d-seed{seed}-margin=0" for seed in range(5)]
    assert names == [*smaller, *margins, *others, *lines]
    assert pytest.approx(2 * recipe("cifar10", "li-arcface", 512, 10)["scale"] / math.pi, rel=2e-3) == 2.55


def test_more_training_is_of_three_losses_on_both_sets():
    runs = [run for run in study.study() if run.part == "longer"]
    assert [(run.dataset, run.loss, run.seed) for run in runs] == [
        (dataset, loss, seed) for dataset, seeds in (("mnist", 10), ("cifar10", 5))
        for seed in range(seeds) for loss in ("arcface", "softmax", "norm-softmax")
    ]  # fmt: skip
    for run in runs:
        settings, usual = run.settings(), recipe(run.dataset, run.loss, 512, 10)
        assert settings["epochs"] > usual["epochs"] and settings["averaging"] == 0.995
        assert run.dataset == "mnist" or settings["epochs"] == 2 * usual["epochs"]


def test_arcface_is_run_with_two_larger_networks():
    names = {part: [run.name() for run in study.study() if run.part == part] for part in ("wider", "largest")}
    wider, largest = (
        "depth=3-widths=32,96,192-epochs=14-averaging=0.995",
        ("depth=3-widths=64,128,256-epochs=28-averaging=0.999"),
    )
    assert names["wider"] == [f"mnist-arcface-512d-seed{seed}-{wider}" for seed in range(5)]
    assert names["largest"] == [f"mnist-arcface-512d-seed{seed}-{largest}" for seed in range(10)]


def test_with_fewer_seeds_no_run_of_the_main_table_is_taken_for_another_part():
    whole = {run.name(): run.part for run in study.study()}
    for seeds in (1, 2):
        assert {run.name(): run.part for run in study.study(seeds)}.items() <= whole.items()


def test_scales_are_run_without_a_margin_with_two_and_with_a_straight_line():
    names = [run.name() for run in study.study() if run.part == "scale"]
    slopes = [f"mnist-norm-softmax-512d-seed{seed}-scale={scale}" for seed in range(5) for scale in (10.19, 40.74)]
    assert names[30:40] == slopes
    for scale, own in ((10.19, 16), (40.74, 64)):  # two digits behind the point are enough for the same slope
        assert scale == pytest.approx(2 * own / math.pi, rel=5e-4)
    assert names[40:] == [f"mnist-cosface-512d-seed{seed}-scale={scale}" for seed in range(5) for scale in (4, 64)]
    assert names[:6] == [
        f"mnist-{own}" for own in ("norm-softmax-512d-seed0-scale=8", "norm-softmax-512d-seed0-scale=64",
                                   "arcface-512d-seed0-scale=4", "arcface-512d-seed0-scale=64",
                                   "li-arcface-512d-seed0-scale=4-margin=0", "li-arcface-512d-seed0-scale=64-margin=0")
    ]  # fmt: skip


def test_time_is_estimated_from_stored_runs_of_the_data_set_on_such_a_device(monkeypatch):
    monkeypatch.setattr(devices, "pick_device", lambda name: "cpu")
    net = [32, 64, 128]
    elsewhere = facts_of(dataset="mnist", train_seconds=1.0, epochs=5, device="cuda, made up", widths=net)
    assert study.seconds(Run("main", "mnist", "arcface"), [elsewhere]) == study.seconds(
        Run("main", "mnist", "arcface"), []
    )
    stored = [facts_of(dataset="mnist", train_seconds=t, epochs=5, widths=net) for t in (10.0, 20.0, 90.0)]
    stored += [facts_of(dataset="mnist", train_seconds=1.0, epochs=5, widths=net, hold_out=["7"])] * 9
    run = Run("open", "mnist", "arcface", hold_out=("7", "8"), extra=(("epochs", 10),))
    assert study.seconds(run, stored) == pytest.approx(10 * 4.0 * 0.8 + study.SECONDS_BESIDE)
    damaged: list[dict] = [{}, {"dataset": "mnist"}, {"dataset": "mnist", "epochs": 5, "train_seconds": 1.0}]
    assert study.seconds(run, damaged) == study.seconds(run, [])
    assert study.seconds(run, []) == pytest.approx(10 * study.SECONDS_AN_EPOCH["mnist"] * 0.8 + study.SECONDS_BESIDE)


def test_a_larger_network_takes_its_share_of_time(monkeypatch):
    """By FlopCounterMode an image of 28 by 28 takes 362 MFLOP in one net and 70 in the other."""
    monkeypatch.setattr(devices, "pick_device", lambda name: "cpu")
    more = (("depth", 3), ("widths", "64,128,256"))
    small, large = (study.seconds(Run("wider", "mnist", "arcface", extra=extra), []) for extra in ((), more))
    assert (large - study.SECONDS_BESIDE) / (small - study.SECONDS_BESIDE) == pytest.approx(362 / 70, rel=0.03)
    stored = [facts_of(dataset="mnist", train_seconds=500.0, epochs=5, widths=[64, 128, 256], depth=3)]
    run = Run("main", "mnist", "arcface", extra=(("epochs", 10),))
    assert study.seconds(run, stored) == pytest.approx(10 * 100 * 70 / 362 + study.SECONDS_BESIDE, rel=0.03)


@pytest.mark.parametrize(("widths", "depth"), [((64, 128, 256), 3), ((96, 32, 32), 2), ((8, 16, 256), 3)])
def test_the_work_of_a_network_is_as_pytorch_counts_it(widths, depth):
    def counted(widths, depth):
        counter = FlopCounterMode(display=False)
        with counter, torch.no_grad():
            build_backbone(1, 8, 28, widths=widths, depth=depth).eval()(torch.zeros(1, 1, 28, 28))
        return counter.get_total_flops()

    usual = (32, 64, 128), 2
    expected = counted(widths, depth) / counted(*usual)
    assert study.work(widths, depth) / study.work(*usual) == pytest.approx(expected, rel=0.1)
