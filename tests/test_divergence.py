"""Training that diverges: it is stopped and marked, its cause named, and no ruined weights are kept."""

import itertools

import pytest

import recipes
from checkpoints import load_checkpoint
from command_helpers import assert_refused, content_and_times
from runs import read_json
from trainer import Trainer
from training_helpers import STEPS


def test_a_loss_that_is_no_number_stops_the_run(train_tiny, tmp_path, monkeypatch):
    real, steps = Trainer.step, itertools.count()

    def step(self, images, labels):
        loss, correct = real(self, images, labels)
        return (loss * float("nan") if next(steps) == STEPS + 1 else loss), correct

    monkeypatch.setattr(Trainer, "step", step)
    done = train_tiny(tmp_path, "--name", "run")
    assert_refused(done, "nan", f"step {2 * STEPS}", "diverged", "--lr", "0.05", "--scale")
    assert load_checkpoint(tmp_path / "run" / "checkpoint.pt")["epoch"] == 1  # the last good one
    assert not (tmp_path / "run" / "metrics.json").exists()


def test_what_is_no_number_is_named(train_tiny, tmp_path, monkeypatch):
    real = Trainer.embed
    monkeypatch.setattr(Trainer, "embed", lambda self, images: real(self, images) * float("nan"))
    assert_refused(train_tiny(tmp_path, "--name", "run"), "the sum of the embeddings became nan", "diverged")


def test_a_diverged_run_is_marked_failed_until_it_is_started_anew(train_tiny, tmp_path):
    absurd = ("--name", "run", "--lr", "1e30")
    first = train_tiny(tmp_path, *absurd, loss="softmax")
    assert_refused(first, "diverged", "times the recipe's 0.05")
    assert read_json(tmp_path / "run" / "failed.json")["error"] in first.err
    before = content_and_times(tmp_path)
    for flags in ((), ("--resume",)):
        done = train_tiny(tmp_path, *absurd, *flags, loss="softmax")
        assert_refused(done, "holds a failed run", "diverged", "--overwrite", "--name")
        assert content_and_times(tmp_path) == before
    assert train_tiny(tmp_path, "--name", "run", "--overwrite", loss="softmax").status == 0
    assert not (tmp_path / "run" / "failed.json").exists()


def test_a_loss_that_explodes_stops_the_run(train_tiny, tmp_path, monkeypatch):
    real, steps = Trainer.step, itertools.count()

    def step(self, images, labels):
        loss, correct = real(self, images, labels)
        return loss * (10_000 if next(steps) > STEPS else 1), correct

    monkeypatch.setattr(Trainer, "step", step)
    assert_refused(train_tiny(tmp_path, "--name", "run"), f"step {2 * STEPS}", "diverged", "--lr")
    assert (tmp_path / "run" / "failed.json").exists()


@pytest.mark.parametrize(("loss", "flags"), [
    ("combined", ("--m1", 4, "--m2", 3.1, "--m3", 2)), ("sphereface", ("--m1", 4)), ("cosface", ("--m3", 2)),
    ("li-arcface", ("--m2", 3.1)), ("arcface", ("--scale", 1000)),
])  # fmt: skip
def test_the_largest_margins_and_scales_are_no_explosion(train_tiny, tmp_path, loss, flags):
    assert train_tiny(tmp_path, "--epochs", 1, "--margin-warmup", 0, *flags, loss=loss).status == 0


def test_weights_ruined_by_an_epoch_s_last_step_reach_no_checkpoint(train_tiny, tmp_path, monkeypatch):
    real, steps = Trainer.step, itertools.count()

    def step(self, images, labels):
        done = real(self, images, labels)
        if next(steps) == 2 * STEPS - 1:
            self.head.weight.data[0, 0] = float("inf")
        return done

    monkeypatch.setattr(Trainer, "step", step)
    assert_refused(train_tiny(tmp_path, "--name", "run"), "inf", f"step {2 * STEPS}")
    assert load_checkpoint(tmp_path / "run" / "checkpoint.pt")["epoch"] == 1


@pytest.mark.parametrize(
    ("loss", "flags", "cause"),
    [
        ("softmax", ("--lr", 5), "--lr 5 is 100 times the recipe's 0.05"),
        ("arcface", ("--scale", 1000), "--scale 1000 against the recipe's 16"),
        ("arcface", ("--m2", 2), "m2 = 2 against the recipe's 0.5"),
        ("cosface", ("--precision", "bf16"), "try --precision fp32"),
        ("cosface", ("--precision", "fp32"), "--lr 0.05 is too high"),
    ],
)
def test_the_likely_cause_is_what_departs_from_the_recipe(make_trainer, loss, flags, cause):
    trainer, _ = make_trainer(*flags, loss=loss)
    assert cause in recipes.likely_cause(trainer.settings, 4)


@pytest.mark.parametrize(("loss", "takes"), [
    ("softmax", "lower --lr (now 0.01)"), ("adacos", "lower --lr (now 0.01)"),
    ("norm-softmax", "lower --lr (now 0.01) or --scale"), ("arcface", "lower --lr (now 0.01), --scale or the margin"),
])  # fmt: skip
def test_only_what_the_loss_takes_is_a_remedy(make_trainer, loss, takes):
    trainer, _ = make_trainer("--lr", 0.01, "--precision", "fp32", loss=loss)
    assert recipes.remedies(trainer.settings) == takes
    assert "none to be seen" in recipes.likely_cause(trainer.settings, 4)


def test_weights_ruined_by_the_very_last_step_are_no_finished_run(train_tiny, tmp_path, monkeypatch):
    real, steps = Trainer.step, itertools.count()

    def step(self, images, labels):
        done = real(self, images, labels)  # its loss is still that of the weights before
        if next(steps) == 3 * STEPS - 1:
            self.backbone.embed.weight.data.fill_(float("nan"))
        return done

    monkeypatch.setattr(Trainer, "step", step)
    assert_refused(train_tiny(tmp_path, "--name", "run"), "nan", f"step {3 * STEPS}", "--lr")
    assert not (tmp_path / "run" / "metrics.json").exists()


def test_an_absurd_learning_rate_stops_the_run(train_tiny, tmp_path):
    done = train_tiny(tmp_path, "--name", "run", "--lr", "1e30", loss="softmax")
    assert_refused(done, "step", "diverged", "--lr", "1e+30")
    assert not (tmp_path / "run" / "metrics.json").exists()
