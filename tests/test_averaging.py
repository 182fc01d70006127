"""The running mean of the weights: against a slow loop, in what a run leaves, and through an interruption."""

import numpy as np
import pytest
import torch

import evaluate
from checkpoints import load_checkpoint
from data import load_dataset
from runs import read_arrays
from trainer import Trainer
from training_helpers import STEPS, assert_same, at_step, everything, interrupt

DECAY = 0.3  # reached within the first epoch: at first the mean looks back over fewer steps


def state_of(trainer) -> dict[str, torch.Tensor]:
    """A copy of all weights and statistics of network and head."""
    states = {"model": trainer.backbone.state_dict(), "head": trainer.head.state_dict()}
    return {f"{part}.{name}": t.clone() for part, state in states.items() for name, t in state.items()
            if t.is_floating_point()}  # fmt: skip


@pytest.fixture
def after_each_step(monkeypatch) -> list[dict]:
    """The weights after every step, before any mean is taken of them."""
    found, real = [], Trainer.step

    def step(self, images, labels):
        result = real(self, images, labels)
        found.append(state_of(self))
        return result

    monkeypatch.setattr(Trainer, "step", step)
    return found


@pytest.mark.parametrize("loss", ["arcface", "adacos"])
def test_between_epochs_the_network_is_the_mean_of_a_slow_loop(make_trainer, after_each_step, loss):
    trainer, _ = make_trainer("--averaging", DECAY, loss=loss)
    mean = state_of(trainer)
    for epoch in range(2):
        trainer.train_epoch(progress_bar=False)
        steps = after_each_step[epoch * STEPS :]
        for number, weights in enumerate(steps, epoch * STEPS + 1):
            decay = min(DECAY, number / (number + 10))
            for name, value in weights.items():
                mean[name] = decay * mean[name] + (1 - decay) * value
        assert len(after_each_step) == (epoch + 1) * STEPS
        for name, value in state_of(trainer).items():
            torch.testing.assert_close(value, mean[name], msg=name)
        assert (trainer.head.weight - after_each_step[-1]["head.weight"]).abs().max() > 1e-3


def test_the_history_s_scale_is_of_the_weights_in_training(make_trainer):
    trainer, _ = make_trainer("--averaging", 0.9, loss="adacos")
    row = trainer.train_epoch(progress_bar=False)
    assert row["scale"] == pytest.approx(float(trainer.other["head.scale"]), abs=1e-4)
    assert abs(row["scale"] - float(trainer.head.scale)) > 1e-3


def test_training_goes_on_with_the_weights_and_not_with_their_mean(make_trainer):
    heads = []
    for flags in ((), ("--averaging", DECAY)):
        trainer, _ = make_trainer(*flags)
        for _ in range(2):
            trainer.train_epoch(progress_bar=False)
        trainer.swap()
        heads.append(state_of(trainer))
    assert_same(*heads)


def test_a_step_may_look_back_over_no_more_than_there_was(make_trainer):
    trainer, _ = make_trainer("--averaging", 0.9999)
    start = trainer.head.weight.detach().clone()
    trainer.swap()
    with torch.no_grad():
        trainer.head.weight.add_(1)
    trainer.average(1)
    trainer.swap()
    torch.testing.assert_close(trainer.head.weight.detach(), start + 10 / 11)


def test_what_a_run_leaves_is_the_mean(train_tiny, tiny_data, tmp_path):
    done = train_tiny(tmp_path, "--name", "run", "--averaging", DECAY)
    assert done.status == 0, done.err
    folder, data = tmp_path / "run", load_dataset("folder", tiny_data, 16)
    state, arrays = load_checkpoint(folder / "checkpoint.pt"), read_arrays(folder / "embeddings.npz")
    np.testing.assert_array_equal(arrays["weights"], state["head"]["weight"])
    assert not torch.equal(state["head"]["weight"], state["other"]["head.weight"])
    network = evaluate.load_network(folder)
    images = evaluate.embed_images(network, data.test_images).numpy()
    np.testing.assert_allclose(images, arrays["embeddings"], atol=1e-6)


@pytest.mark.parametrize("step", [2, STEPS, STEPS + 4], ids=["before-epoch-1", "after-epoch-1", "within-epoch-2"])
def test_a_resumed_run_ends_as_the_uninterrupted_one(train_tiny, tmp_path, step):
    flags = ("--name", "run", "--averaging", DECAY)
    assert train_tiny(tmp_path / "whole", *flags).status == 0
    with pytest.MonkeyPatch.context() as patch:
        at_step(patch, step, interrupt)
        assert train_tiny(tmp_path, *flags).status == 130
    assert train_tiny(tmp_path, *flags, "--resume").status == 0
    assert_same(everything(tmp_path / "run"), everything(tmp_path / "whole" / "run"))


def test_snapshots_and_classes_held_out_are_embedded_by_the_mean(train_tiny, tiny_data, tmp_path):
    flags = ("--averaging", DECAY, "--snapshots", "--hold-out", "disc", "--embedding-dim", 2)
    assert train_tiny(tmp_path, "--name", "run", *flags).status == 0
    folder, arrays = tmp_path / "run", read_arrays(tmp_path / "run" / "embeddings.npz")
    last = read_arrays(folder / "snapshots" / "epoch-003.npz")
    np.testing.assert_array_equal(last["weights"], arrays["weights"])
    found = {tuple(row) for row in arrays["embeddings"].astype(np.float16).tolist()}
    assert {tuple(row) for row in last["embeddings"].tolist()} == found
    data = load_dataset("folder", tiny_data, 16)
    unseen = data.test_images[data.test_labels == data.classes.index("disc")]
    images = evaluate.embed_images(evaluate.load_network(folder), unseen).numpy()
    np.testing.assert_allclose(images, arrays["unseen_embeddings"], atol=1e-6)


def test_a_run_that_diverges_says_so_and_keeps_no_mean_of_it(train_tiny, tmp_path, monkeypatch):
    real = Trainer.step

    def step(self, images, labels):
        loss, right = real(self, images, labels)
        if self.epoch == 1:
            with torch.no_grad():
                self.head.weight.fill_(float("nan"))
        return loss, right

    monkeypatch.setattr(Trainer, "step", step)
    done = train_tiny(tmp_path, "--name", "run", "--averaging", DECAY)
    assert done.status == 2 and "diverged" in done.err and len(done.err.splitlines()) == 1
    assert (tmp_path / "run" / "failed.json").exists()
    state = load_checkpoint(tmp_path / "run" / "checkpoint.pt")
    assert state["epoch"] == 1 and state["head"]["weight"].isfinite().all()


@pytest.mark.parametrize("damage", [
    lambda other: other.clear(), lambda other: other.update({"head.weight": torch.zeros(4, 5)}),
    lambda other: other["head.weight"].fill_(float("nan")), lambda other: other.update(more=torch.zeros(3)),
], ids=["none", "other-shape", "nan", "one-too-many"])  # fmt: skip
def test_damaged_weights_to_go_on_with_are_refused_in_one_line(train_tiny, tmp_path, damage):
    flags = ("--name", "run", "--averaging", DECAY)
    with pytest.MonkeyPatch.context() as patch:
        at_step(patch, STEPS + 1, interrupt)
        assert train_tiny(tmp_path, *flags).status == 130
    path = tmp_path / "run" / "checkpoint.pt"
    state = torch.load(path, weights_only=True)
    damage(state["other"])
    torch.save(state, path)
    done = train_tiny(tmp_path, *flags, "--resume")
    assert done.status == 2 and len(done.err.splitlines()) == 1 and "checkpoint.pt" in done.err
