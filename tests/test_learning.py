"""What a step, an epoch and a recipe do: every loss learns, with its margin, its schedule and all its weights."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import options
import recipes
import train
import trainer as training
from bounds import largest_spacing
from losses import LOSSES
from training_helpers import STEPS


@pytest.mark.parametrize("dim", [2, 3, 16])
@pytest.mark.parametrize("loss", list(LOSSES))
def test_every_loss_learns_at_every_dimension_with_its_recipe(make_trainer, loss, dim):
    trainer, data = make_trainer("--epochs", 15 if dim == 2 else 8, loss=loss, dim=dim)
    for _ in range(trainer.settings.epochs):
        trainer.train_epoch(progress_bar=False)
    with torch.no_grad():
        right = trainer.head.eval()(trainer.embed(data.test_images)).argmax(1) == data.test_labels
    # Chance is 25 %; on the circle, so few steps may leave two of the four classes in the same direction.
    assert right.float().mean() >= (0.6 if dim == 2 else 0.7)


def test_where_classes_are_crowded_the_ceiling_of_adacos_grows_as_the_scale_of_others_does(make_trainer):
    trainer, _ = make_trainer(loss="adacos")
    full, steps = trainer.head.ceiling, trainer.settings.epochs * trainer.steps_per_epoch
    trainer.schedule(0)
    assert trainer.head.ceiling == full
    trainer.settings = replace(trainer.settings, scale_start=0.5, margin_warmup=0.5)
    for progress, expected in ((0, 0.5), (0.25, (0.5 * full) ** 0.5), (0.5, full), (0.9, full)):
        trainer.schedule(round(progress * steps))
        assert trainer.head.ceiling == pytest.approx(expected, rel=0.1)
    trainer.schedule(0)
    trainer.step(trainer.images[:16], trainer.labels[:16])
    assert trainer.head.scale <= 0.5


def test_a_scale_under_the_crowded_start_does_not_shrink(make_trainer):
    """It starts where it ends; larger ones grow from the start."""
    for scale, growing in ((1.0, False), (8.0, True)):
        trainer, _ = make_trainer("--scale", scale, "--epochs", 10, loss="norm-softmax", dim=1)
        scales = []
        for step in range(61):
            trainer.schedule(step)
            scales.append(trainer.head.scale)
        assert (np.diff(scales) > 0).any() == growing and (np.diff(scales) >= 0).all() and scales[-1] == scale


def test_the_statistics_look_back_no_further_than_the_run_has_come(make_trainer):
    """After its first step they are that batch's own, and soon PyTorch's running ones."""
    trainer, _ = make_trainer("--epochs", 10)
    trainer.backbone.train()
    for step in range(25):
        trainer.schedule(step)
        assert {norm.momentum for norm in trainer.norms} == {max(0.1, 2 / (step + 2))}
    assert trainer.norms[0].momentum == 0.1 and len(trainer.norms) == 7
    seen = []
    trainer.norms[-1].register_forward_hook(lambda norm, inputs, output: seen.append(inputs[0].detach()))
    trainer.schedule(0)
    trainer.step(trainer.images[:16], trainer.labels[:16])
    torch.testing.assert_close(trainer.norms[-1].running_mean, seen[0].mean(0))
    torch.testing.assert_close(trainer.norms[-1].running_var, seen[0].var(0))


def test_correct_predictions_are_those_of_the_weights_before_the_step(make_trainer):
    trainer, _ = make_trainer("--lr", 5)
    trainer.backbone.train()
    images, labels = trainer.images[::6], trainer.labels[::6]
    trainer.schedule(2)  # full rate: the step turns the class weights round
    moved = 0
    for _ in range(6):
        with torch.no_grad(), trainer.autocast():
            embeddings = trainer.backbone(training.to_input(images, trainer.mean, trainer.std))
            expected = int((trainer.head(embeddings).argmax(1) == labels).sum())
        _, correct = trainer.step(images, labels)
        with torch.no_grad():
            moved += int((trainer.head(embeddings).argmax(1) == labels).sum()) != expected
        assert int(correct) == expected
    assert moved > 1


@pytest.mark.parametrize(("images", "expected"), [
    (2, 8), (100, 8), (255, 8), (256, 16), (600, 32), (1023, 32), (1024, 64), (2048, 128), (60_000, 128)
])  # fmt: skip
def test_few_images_are_trained_on_in_small_batches(images, expected):
    assert recipes.batch_for(128, images) == expected
    assert recipes.batch_for(4, images) == 4  # a recipe's own smaller one stays
    assert expected in (8, 128) or images // expected >= recipes.STEPS


def test_a_batch_that_was_asked_for_is_used_however_few_the_images(make_trainer, tiny_data):
    trainer, dataset = make_trainer()
    assert trainer.batch == 16 and len(dataset.train_images) == 96
    words = ["--dataset", "folder", "--data-dir", str(tiny_data), "--image-size", "16", "--loss", "arcface"]
    for more, batch in (([], 8), (["--batch-size", "32"], 32)):
        _, _, record = train.prepare(options.parse_flags([*words, *more]))
        assert record["settings"]["batch_size"] == batch


@pytest.mark.parametrize(("classes", "dim", "expected"), [
    (10, 2, True), (10, 3, True), (10, 4, True), (10, 5, False), (11, 5, True), (100, 20, True), (10, 512, False)
])  # fmt: skip
def test_classes_are_crowded_where_they_cannot_all_be_perpendicular(classes, dim, expected):
    assert recipes.is_crowded(classes, dim) == expected
    if expected:  # Rankin's theorem has it that the spacing is under 90 degrees; bounds.py need not know by how much
        assert largest_spacing(classes, dim) <= math.pi / 2
    else:
        assert largest_spacing(classes, dim) >= math.pi / 2 and largest_spacing(classes, dim).exact


def test_accuracy_is_always_taken_without_margin(make_trainer, monkeypatch):
    trainer, dataset = make_trainer("--m2", 1.5, "--margin-warmup", 0)
    forward, calls = trainer.head.forward, []

    def spied(embeddings, labels=None):
        logits = forward(embeddings, labels)
        calls.append((labels is not None, logits.detach()))
        return logits

    monkeypatch.setattr(trainer.head, "forward", spied)
    trainer.backbone.train()
    trainer.schedule(0)
    images, labels = dataset.train_images[::6], dataset.train_labels[::6]
    loss, correct = trainer.step(images, labels)
    (with_labels, training), (also, predicting) = calls
    assert with_labels and not also  # the loss has the margin, the accuracy has not
    torch.testing.assert_close(loss, F.cross_entropy(training, labels))
    assert correct == (predicting.argmax(1) == labels).sum()
    assert (training.argmax(1) == labels).sum() == 0 < correct  # with such a margin nothing would count as right


def test_the_margin_grows_from_nothing_to_all_of_it(make_trainer):
    trainer, _ = make_trainer("--epochs", 4, "--margin-warmup", 0.5)
    fractions = []
    for step in range(24):
        trainer.schedule(step)
        fractions.append(trainer.head.margin_fraction)
    np.testing.assert_allclose(fractions, np.minimum(1, np.arange(24) / 12))
    assert fractions[0] == 0 and set(fractions[12:]) == {1}
    for warmup, at_once in ((0, 1.0), (1, 0.0)):
        trainer, _ = make_trainer("--epochs", 4, "--margin-warmup", warmup)
        trainer.schedule(0)
        assert trainer.head.margin_fraction == at_once


def test_the_margin_reaches_the_loss(make_trainer):
    losses = []
    for m2 in (0, 1.0):
        trainer, dataset = make_trainer("--m2", m2, "--margin-warmup", 0)
        trainer.backbone.train()
        trainer.schedule(0)
        losses.append(trainer.step(dataset.train_images, dataset.train_labels)[0])
    assert losses[1] > losses[0] + 1


def test_learning_rates_rise_then_end_near_zero(make_trainer):
    trainer, _ = make_trainer("--epochs", 20, "--lr", 0.25)
    groups = [group for optimizer in trainer.optimizers for group in optimizer.param_groups]
    rates = []
    for step in range(120):
        trainer.schedule(step)
        rates.append([group["lr"] for group in groups])
    filters, biases, head = np.array(rates).T
    assert 0 < filters[0] < 0.02 * filters.max() and 0 < filters[-1] < 0.02 * filters.max()
    assert filters.argmax() == 12 and filters.max() == pytest.approx(0.25)  # a tenth of training to rise
    assert (np.diff(filters[:13]) > 0).all() and (np.diff(filters[12:]) < 0).all()
    np.testing.assert_allclose(biases, training.BIAS_LR * filters)
    np.testing.assert_allclose(head, training.HEAD_LR * filters / 2)  # the square root of 4 dimensions


@pytest.mark.parametrize("loss", list(LOSSES))
def test_a_step_moves_all_that_is_trained_and_nothing_else(make_trainer, monkeypatch, loss):
    # As wide as the whitening's 24 features: fewer filters would start by passing only some of them on.
    monkeypatch.setitem(recipes.BASE["folder"], "widths", (24, 24, 24))
    trainer, dataset = make_trainer(loss=loss)
    parameters = {**dict(trainer.backbone.named_parameters()), "head": trainer.head.weight}
    before = {name: p.detach().clone() for name, p in parameters.items()}
    trainer.backbone.train()
    trainer.head.train()
    trainer.schedule(STEPS)
    trainer.step(dataset.train_images[::4], dataset.train_labels[::4])
    moved = {name for name, p in parameters.items() if not torch.equal(p, before[name])}
    frozen = {"whiten.weight", *(f"blocks.{b}.norms.{i}.weight" for b in range(3) for i in (0, 1))}
    assert moved == parameters.keys() - frozen
    for name in moved:  # not a few entries but nearly every bias and class weight
        if name == "head" or parameters[name].ndim == 1:
            assert (parameters[name] != before[name]).float().mean() > 0.9, name


def test_both_optimizers_have_the_momentum_asked_for(make_trainer):
    muon, adam = make_trainer("--momentum", 0.6)[0].optimizers
    assert {group["momentum"] for group in muon.param_groups} == {0.6}
    assert {group["betas"][0] for group in adam.param_groups} == {0.6}


def test_filters_keep_their_length(make_trainer):
    trainer, _ = make_trainer()
    for _ in range(2):
        trainer.train_epoch(progress_bar=False)
    for filters in trainer.backbone.filters():
        torch.testing.assert_close(filters.norm(), torch.tensor(float(len(filters)) ** 0.5))


def test_adacos_s_scale_follows_training_and_stands_still_afterwards(make_trainer):
    trainer, dataset = make_trainer(loss="adacos")
    start = float(trainer.head.scale)
    trainer.train_epoch(progress_bar=False)
    learnt = float(trainer.head.scale)
    assert learnt != start and trainer.history[0]["scale"] == round(learnt, 4)
    assert trainer.state("x")["head"]["scale"] == learnt
    trainer.head.eval()(trainer.embed(dataset.test_images), dataset.test_labels)
    assert float(trainer.head.scale) == learnt


def test_the_last_batch_is_never_short(make_trainer):
    trainer, _ = make_trainer("--batch-size", 40)
    sizes, real = [], trainer.step
    trainer.step = lambda images, labels: (sizes.append(len(images)), real(images, labels))[1]
    trainer.train_epoch(progress_bar=False)
    assert sizes == [40, 40]
    trainer, _ = make_trainer("--batch-size", 5000)  # more than there are
    assert (trainer.batch, trainer.steps_per_epoch) == (96, 1)


def test_a_margin_without_feasible_region_is_one_warning_and_training_goes_on(train_tiny, tmp_path):
    done = train_tiny(tmp_path, "--embedding-dim", 2, "--m2", 2, "--epochs", 1)
    warnings = [line for line in done.out.splitlines() if "no feasible region" in line]
    assert done.status == 0 and len(warnings) == 1
    assert all(word in warnings[0] for word in ("warning", "arcface", "2", "4 classes", "2-D", "90.0 degrees"))
    low = train_tiny(tmp_path, "--scale", 0.5, "--epochs", 1, "--name", "low")
    assert low.status == 0 and sum("scale 0.5 is under" in line for line in low.out.splitlines()) == 1
    default = train_tiny(tmp_path, "--epochs", 1, "--name", "default")
    assert default.status == 0 and "warning: arcface" not in default.out, default


@pytest.mark.parametrize(("dataset", "dim", "classes"), [("cifar10", 2, 10), ("cifar10", 512, 10), ("folder", 2, 20)])
@pytest.mark.parametrize("loss", LOSSES)
def test_the_recipes_own_settings_are_not_warned_of(dataset, dim, classes, loss):
    flags = options.parse_flags(["--dataset", dataset, "--loss", loss, "--embedding-dim", str(dim)])
    assert train.warnings_of(options.resolve(flags, dataset, classes), classes) == []


def test_of_larger_pictures_fewer_are_unfolded_for_the_whitening(make_trainer, monkeypatch):
    """As many pixels as 5,000 pictures of 32 by 32 have, or memory grows with the square of a picture's side."""
    seen = []
    monkeypatch.setattr(training.Backbone, "init_whitening", lambda self, images: seen.append(images.shape))
    make_trainer(loss="softmax")
    whole = seen[0][0]
    monkeypatch.setattr(training, "WHITEN_PIXELS", 10 * seen[0][-1] ** 2)
    make_trainer(loss="softmax")
    assert seen[1][0] == 10 < whole
