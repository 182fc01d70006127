"""One run from its flags to its folder: what it leaves and says, and that it repeats."""

import io
import json
import shlex

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import devices
import evaluate
import options
import recipes
import train
from command_helpers import assert_refused
from data import load_dataset
from losses import LOSSES, build_head
from recipes import Settings
from runs import read_arrays, read_json
from training_helpers import assert_same, everything, history_of

# ------------------------------------------------------------------------------------- a run from end to end


def test_a_run_leaves_its_six_files_and_says_what_to_do_next(train_tiny, tmp_path):
    done = train_tiny(tmp_path)
    folder = tmp_path / "folder-arcface-4d-seed0"
    assert done.status == 0 and done.err == ""
    files = {"config.json", "history.csv", "checkpoint.pt", "metrics.json", "curves.json", "embeddings.npz"}
    assert {path.name for path in folder.iterdir()} == files
    *_, where, following = done.out.splitlines()
    assert where == f"run folder: {folder}"
    assert f"evaluate.py {folder}" in following and f"plot_embeddings.py {folder}" in following


def test_what_to_do_next_can_be_pasted_into_a_shell(train_tiny, command, tiny_data, tmp_path):
    done = train_tiny(tmp_path / "my runs", "--epochs", 1, "--validation", 0.3)
    first = done.out.splitlines()[-1].removeprefix("next: python ").partition("   or   ")[0]
    script, *words = shlex.split(first)
    assert script == "evaluate.py" and words == [
        str(tmp_path / "my runs" / "folder-arcface-4d-seed0"), "--data-dir", str(tiny_data)]  # fmt: skip
    measured = command(evaluate.main, *words, "--figures-dir", tmp_path / "figures")
    assert measured.status == 0, measured.err


def test_the_network_is_as_wide_as_asked(train_tiny, tmp_path):
    assert train_tiny(tmp_path, "--widths", "4,6,10", "--epochs", 1).status == 0
    folder = tmp_path / "folder-arcface-4d-seed0"
    assert read_json(folder / "config.json")["settings"]["widths"] == [4, 6, 10]
    weights = torch.load(folder / "checkpoint.pt", weights_only=True)["model"]
    assert [len(weights[f"blocks.{i}.convs.1.weight"]) for i in range(3)] == [4, 6, 10]


def test_the_network_is_as_deep_as_asked(train_tiny, measure, tmp_path):
    assert train_tiny(tmp_path / "runs", "--depth", 3, "--epochs", 1, "--name", "run").status == 0
    folder = tmp_path / "runs" / "run"
    assert read_json(folder / "config.json")["settings"]["depth"] == 3
    weights = torch.load(folder / "checkpoint.pt", weights_only=True)["model"]
    assert sum(".convs." in name for name in weights) == 9
    assert (
        read_json(folder / "metrics.json")["parameters"]
        == sum(weights[name].numel() for name in weights if "running" not in name and "num_batches" not in name) + 4 * 4
    )
    assert measure("--again").status == 0


@pytest.mark.parametrize("flags", [("--depth", 1), ("--depth", 10), ("--averaging", 1), ("--momentum", -0.1)])
def test_a_depth_momentum_or_mean_that_cannot_be_is_one_clear_line(train_tiny, tmp_path, flags):
    done = train_tiny(tmp_path, *flags)
    assert done.status == 2 and len(done.err.splitlines()) == 1 and flags[0] in done.err


def test_without_a_terminal_a_run_prints_a_plain_line_an_epoch(train_tiny, tmp_path):
    done = train_tiny(tmp_path)
    epochs = [line for line in done.out.splitlines() if line.startswith("epoch")]
    assert len(epochs) == 3 and all("loss" in line and "images/s" in line for line in epochs)
    assert "\r" not in done.out + done.err and "\x1b" not in done.out + done.err
    assert done.err == ""


@pytest.mark.parametrize(("flags", "bars"), [((), 3), (("--no-progress",), 0)])
def test_on_a_terminal_every_epoch_has_a_bar_unless_unwanted(train_tiny, tmp_path, monkeypatch, flags, bars):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    monkeypatch.setattr(io, "StringIO", Terminal)
    done = train_tiny(tmp_path, *flags)
    assert done.status == 0
    shown = {part.split(":")[0] for part in done.err.replace("\n", "\r").split("\r") if part.strip()}
    assert len(shown) == bars, done.err
    if bars:
        assert "epoch 3/3" in done.err and "loss=" in done.err and "acc=" in done.err and "img/s" in done.err


@pytest.mark.parametrize(("count", "words"), [(1, "1 thread"), (2, "2 threads")])
def test_the_device_is_described_with_its_threads(monkeypatch, count, words):
    monkeypatch.setattr(torch, "get_num_threads", lambda: count)
    assert devices.describe_device(torch.device("cpu")).split(", ")[:2] == ["cpu", words]


@pytest.mark.parametrize(
    ("name", "said"),
    [("AMD EPYC", "AMD EPYC (family 25, model 17)"), ("AMD Ryzen 9 7950X", "AMD Ryzen 9 7950X")],
)
def test_a_processor_without_a_number_is_told_by_its_family_and_model(monkeypatch, tmp_path, name, said):
    facts = tmp_path / "cpuinfo"
    facts.write_text(f"cpu family\t: 25\nmodel\t\t: 17\nmodel name\t: {name}\nstepping\t: 1\n")
    monkeypatch.setattr(devices, "CPU_FACTS", facts)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"cpu_name": name})
    assert devices.processor() == said
    monkeypatch.setattr(devices, "CPU_FACTS", tmp_path / "nothing")
    assert devices.processor() == name


def test_classes_to_hold_out_add_up():
    words = ["--dataset", "mnist", "--loss", "arcface", "--hold-out", "7", "8", "--hold-out", "9"]
    assert options.parse_flags(words).hold_out == ["7", "8", "9"]
    assert options.parse_flags(words[:4]).hold_out == []  # no call leaves anything for the next


def test_the_numbers_of_a_run_are_all_on_record(finished_run, tiny_data):
    metrics, data = read_json(finished_run / "metrics.json"), load_dataset("folder", tiny_data, 16)
    expected = {
        "dataset": "folder", "source": data.source, "fingerprint": data.fingerprint, "loss": "arcface",
        "embedding_dim": 4, "scale": 16.0, "m1": 1.0, "m3": 0.0, "seed": 0, "epochs": 3, "torch": torch.__version__,
        "test_images": 32, "train_images": 96, "classes": ["bars", "checks", "disc", "slopes"], "unseen_classes": [],
    }  # fmt: skip
    assert {name: metrics[name] for name in expected} == expected
    assert metrics["m2"] > 0 and metrics["train_seconds"] > 0
    assert metrics["precision"] in ("bf16", "fp32") and metrics["device"].split(",")[0] in ("cpu", "cuda", "mps")
    # Whitening 2x2x3 patches to 24 features with biases, three blocks of two convolutions, a norm after each with a
    # scale and a bias a channel, the embedding and the class weights.
    convolutions = 9 * (24 * 8 + 5 * 8 * 8)
    assert metrics["parameters"] == 24 * 12 + 24 + convolutions + 6 * 2 * 8 + 8 * 4 + 4 * 4
    assert {"accuracy", "confusion", "angles", "angular_fisher_score", "verification", "retrieval"} <= metrics.keys()
    assert read_json(finished_run / "config.json")["settings"].items() <= metrics.items()


def test_the_history_has_a_row_an_epoch(finished_run):
    rows = history_of(finished_run)
    assert [row["epoch"] for row in rows] == ["1", "2", "3"]
    seconds = [float(row["seconds"]) for row in rows]
    assert seconds == sorted(seconds)
    assert all(0 <= float(row["train_accuracy"]) <= 1 and float(row["loss"]) > 0 for row in rows)
    assert float(rows[-1]["train_accuracy"]) == read_json(finished_run / "metrics.json")["train_accuracy"]


def test_the_checkpoint_holds_all_that_training_needs_and_no_code(finished_run):
    state = torch.load(finished_run / "checkpoint.pt", weights_only=True)
    assert {"model", "head", "optimizer", "epoch", "history", "random", "config", "fingerprint"} <= state.keys()
    assert state["epoch"] == 3 and len(state["history"]) == 3
    assert state["config"] == read_json(finished_run / "config.json")["settings"]


def test_the_stored_arrays_are_the_trained_network_s(finished_run, tiny_data):
    network, arrays = evaluate.load_network(finished_run), read_arrays(finished_run / "embeddings.npz")
    data = load_dataset("folder", tiny_data, 16)
    assert arrays["embeddings"].dtype == np.float32 and arrays["embeddings"].shape == (32, 4)
    np.testing.assert_array_equal(arrays["labels"], data.test_labels)
    np.testing.assert_array_equal(arrays["weights"], network["head"].weight.detach().cpu())
    images = evaluate.embed_images(network, data.test_images).numpy()
    np.testing.assert_allclose(images, arrays["embeddings"], atol=1e-6)


@pytest.mark.parametrize("loss", ["softmax", "arcface", "li-arcface", "adacos"])
def test_the_test_accuracy_is_that_of_the_stored_arrays_without_margin(train_tiny, tmp_path, loss):
    # After one epoch many test images are barely right: a margin of 2 in the prediction would turn them wrong.
    margin = ("--m2", 2) if LOSSES[loss].own_margin == "m2" else ()
    assert train_tiny(tmp_path, "--name", "run", "--epochs", 2, *margin, loss=loss).status == 0
    metrics, arrays = read_json(tmp_path / "run" / "metrics.json"), read_arrays(tmp_path / "run" / "embeddings.npz")
    logits = arrays["embeddings"].astype(np.float64) @ arrays["weights"].astype(np.float64).T
    if loss != "softmax":  # the largest cosine: the embedding's own length does not matter, the weights' does
        logits /= np.linalg.norm(arrays["weights"].astype(np.float64), axis=1)
    correct = int((logits.argmax(axis=1) == arrays["labels"]).sum())
    assert metrics["test_correct"] == correct and metrics["test_accuracy"] == correct / 32
    assert metrics["accuracy"]["head"]["value"] == correct / 32
    assert correct > 8


def test_a_run_that_ends_at_chance_says_so(train_tiny, tmp_path):
    done = train_tiny(tmp_path, "--lr", "1e-12", "--epochs", 1)
    assert done.status == 0 and "warning: the run ended near chance" in done.out
    done = train_tiny(tmp_path, "--epochs", 10, "--name", "longer")
    assert done.status == 0 and "near chance" not in done.out, done


@pytest.mark.parametrize(
    ("counts", "accuracy", "said"),
    [
        ([500, 500], 0.52, True), ([500, 500], 0.6, False), ([900, 100], 0.9, True), ([900, 100], 0.95, False),
        ([100] * 10, 0.15, True), ([100] * 10, 0.2, False), ([10] * 100, 0.05, False), ([10] * 100, 0.012, True),
        ([500, 0], 1.0, False),
    ],
)  # fmt: skip
def test_chance_is_what_naming_the_commonest_class_gets(make_trainer, tmp_path, capsys, counts, accuracy, said):
    trainer, dataset = make_trainer()
    labels = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    right = torch.arange(len(labels)) < round(accuracy * len(labels))
    answers = F.one_hot(torch.where(right, labels, (labels + 1) % len(counts)), len(counts)).float()
    trainer.embed, trainer.history = lambda images: answers, [{"train_accuracy": 1.0}]
    trainer.head = build_head("softmax", len(counts), len(counts))
    trainer.head.weight.data = torch.eye(len(counts))
    record = {"settings": trainer.settings.to_json()}
    fake = dataset._replace(test_labels=labels, classes=tuple(map(str, range(len(counts)))))
    train.finish(trainer, fake, {}, tmp_path, record)
    assert ("near chance" in capsys.readouterr().out) == said


def test_the_folder_s_name_tells_data_loss_dimension_seed_and_what_was_held_out(train_tiny, tmp_path):
    train_tiny(tmp_path, "--seed", 7, "--epochs", 1, "--hold-out", "disc", "bars", loss="softmax")
    assert [path.name for path in tmp_path.iterdir()] == ["folder-softmax-4d-seed7-without-bars-disc"]


def test_the_usual_size_is_the_same_run_with_and_without_the_flag(train_tiny, tmp_path):
    assert train_tiny(tmp_path, "--image-size", 32, "--name", "run", "--epochs", 1).status == 0
    assert read_json(tmp_path / "run" / "metrics.json")["image_size"] is None
    done = train_tiny(tmp_path, "--image-size", 32, "--name", "run", "--epochs", 1)
    assert done.status == 0 and "finished already" in done.out
    assert_refused(
        train_tiny(tmp_path, "--image-size", 16, "--name", "run", "--epochs", 1), "image_size was None, now 16"
    )


@pytest.mark.parametrize(("loss", "said"), [("arcface", True), ("norm-softmax", True), ("softmax", False)])
def test_one_dimension_is_warned_of(train_tiny, tmp_path, loss, said):
    done = train_tiny(tmp_path, "--embedding-dim", 1, "--epochs", 1, loss=loss)
    assert done.status == 0, done.err
    assert ("in one dimension every cosine is 1 or -1" in done.out) == said


def test_the_record_survives_as_json(finished_run):
    settings = read_json(finished_run / "config.json")["settings"]
    assert Settings.from_json(json.loads(json.dumps(settings))).to_json() == settings


# ------------------------------------------------------------------------------------- repeating


@pytest.mark.parametrize("loss", ["arcface", "adacos"])
def test_the_same_seed_gives_the_same_numbers_and_another_gives_others(train_tiny, uninterrupted, tmp_path, loss):
    for seed in (0, 1):
        assert train_tiny(tmp_path, "--seed", seed, "--name", f"seed{seed}", loss=loss).status == 0
    first, again, other = uninterrupted(loss), everything(tmp_path / "seed0"), everything(tmp_path / "seed1")
    assert_same(first, again)
    assert not torch.equal(first["checkpoint"]["head"]["weight"], other["checkpoint"]["head"]["weight"])
    assert first["history"] != other["history"]


def test_every_epoch_sees_every_image_once_in_an_order_of_its_own(make_trainer, monkeypatch):
    monkeypatch.setitem(recipes.BASE["folder"], "shift", 0)
    monkeypatch.setitem(recipes.BASE["folder"], "flip", False)
    orders = []
    for seed in (0, 1):
        trainer, dataset = make_trainer("--seed", seed)
        rows = {image.numpy().tobytes(): i for i, image in enumerate(dataset.train_images)}
        seen, real = [], trainer.step

        def step(images, labels, seen=seen, rows=rows, dataset=dataset, real=real):
            places = [rows[image.numpy().tobytes()] for image in images]
            assert torch.equal(dataset.train_labels[places], labels)
            seen.extend(places)
            return real(images, labels)

        monkeypatch.setattr(trainer, "step", step)
        for _ in range(2):
            trainer.train_epoch(progress_bar=False)
        orders += [seen[:96], seen[96:]]
    assert all(sorted(order) == list(range(96)) for order in orders)
    assert len({tuple(order) for order in orders}) == 4


def test_augmentation_differs_between_epochs(make_trainer, monkeypatch):
    trainer, _ = make_trainer()
    seen, real = [], trainer.step
    monkeypatch.setattr(trainer, "step", lambda images, labels: (seen.append(images), real(images, labels))[1])
    for _ in range(2):
        trainer.train_epoch(progress_bar=False)
    first, second = ({image.numpy().tobytes() for batch in part for image in batch} for part in (seen[:6], seen[6:]))
    assert len(first & second) < 48  # by chance a few images get the same of 50 shifts and flips twice
