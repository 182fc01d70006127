"""One run from its flags to its folder: what it leaves, repeats, resumes, refuses, and never sees."""

import csv
import errno
import io
import itertools
import json
import os
import pickle
import shutil
import signal
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import data_files
import evaluate
import options
import recipes
import runs
import train
import trainer as training
from data import load_dataset, to_input
from losses import LOSSES, build_head
from recipes import Settings
from runs import load_checkpoint, read_arrays, read_json

ROOT = Path(__file__).resolve().parent.parent
MARGIN_LOSSES = ("sphereface", "cosface", "arcface", "combined", "li-arcface")
TIMES = {"seconds", "images_per_second", "train_seconds"}
STEPS = 6  # a default run here has three epochs of 96 images in batches of 16
SCRIPT = ["import os, signal, sys, recipes, torch, train", "torch.set_num_threads(1)",
          "signal.signal(signal.SIGINT, signal.default_int_handler)",  # a job in the background may inherit it ignored
          "recipes.BASE['folder']['widths'] = (8, 8, 8)"]  # fmt: skip


# ------------------------------------------------------------------------------------- helpers


def history_of(folder: Path) -> list[dict]:
    with open(folder / "history.csv", newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def timeless(value):
    """The value without the entries that tell time, which no two runs share."""
    if isinstance(value, dict):
        return {k: timeless(v) for k, v in value.items() if k not in TIMES}
    return [timeless(v) for v in value] if isinstance(value, list) else value


def assert_same(a, b, where=""):
    """Equal to the last bit, all the way down."""
    assert type(a) is type(b), where
    if isinstance(a, dict):
        assert a.keys() == b.keys(), where
        for key in a:
            assert_same(a[key], b[key], f"{where}/{key}")
    elif isinstance(a, (list, tuple)):
        assert len(a) == len(b), where
        for i, (x, y) in enumerate(zip(a, b)):
            assert_same(x, y, f"{where}/{i}")
    elif isinstance(a, torch.Tensor):
        assert a.dtype == b.dtype and torch.equal(a, b), where
    elif isinstance(a, np.ndarray):
        assert a.dtype == b.dtype and np.array_equal(a, b), where
    else:
        assert a == b, where


def everything(folder: Path) -> dict:
    """All that a run leaves, but for times."""
    return {
        "config": read_json(folder / "config.json"),
        "history": timeless(history_of(folder)),
        "checkpoint": timeless(load_checkpoint(folder / "checkpoint.pt")),
        "metrics": timeless(read_json(folder / "metrics.json")),
        "embeddings": read_arrays(folder / "embeddings.npz"),
    }


def content(folder: Path) -> dict:
    """Every file below the folder with its bytes and the time of its last change."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {str(path.relative_to(folder)): (path.read_bytes(), path.stat().st_mtime_ns) for path in files}


def assert_refused(done, *named):
    """Exit status 2 and a single line on stderr that holds the given words."""
    assert done.status == 2, done
    assert done.err.count("\n") == 1 and done.err.endswith("\n"), done.err
    assert "Traceback" not in done.err
    for word in named:
        assert str(word) in done.err


def at_step(monkeypatch, number, action):
    """Have `action()` happen before step `number`, counted from 0 over the whole run."""
    steps, real = itertools.count(), train.Trainer.step

    def step(self, images, labels):
        if next(steps) == number:
            action()
        return real(self, images, labels)

    monkeypatch.setattr(train.Trainer, "step", step)


def interrupt(*_args, **_kwargs):
    raise KeyboardInterrupt


def full_disk(*_args, **_kwargs):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.fixture
def make_trainer(monkeypatch, tiny_data):
    """make_trainer(*flags): the Trainer of such a run, with its data set and nothing on disk."""
    monkeypatch.setitem(recipes.BASE["folder"], "widths", (8, 8, 8))

    def make(*flags, loss="arcface", dim=4):
        words = ["--dataset", "folder", "--data-dir", tiny_data, "--image-size", 16, "--loss", loss, "--batch-size", 16]
        parsed = options.parse_flags(list(map(str, [*words, "--embedding-dim", dim, *flags])))
        dataset, _, record = train.prepare(parsed)
        return train.Trainer(Settings.from_json(record["settings"]), dataset, torch.device("cpu")), dataset

    return make


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory, train_tiny):
    """uninterrupted(loss): everything a run leaves that nothing disturbed."""
    found = {}

    def run(loss):
        if loss not in found:
            output_dir = tmp_path_factory.mktemp("uninterrupted")
            done = train_tiny(output_dir, "--name", "run", loss=loss)
            assert done.status == 0, done.err
            found[loss] = everything(output_dir / "run")
        return found[loss]

    return run


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
    np.testing.assert_array_equal(arrays["weights"], network["head"].weight.detach())
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
    assert "near chance" not in train_tiny(tmp_path, "--epochs", 10).out + done.err


@pytest.mark.parametrize(
    ("counts", "accuracy", "said"),
    [
        ([500, 500], 0.52, True), ([500, 500], 0.6, False), ([900, 100], 0.9, True), ([900, 100], 0.95, False),
        ([100] * 10, 0.15, True), ([100] * 10, 0.2, False), ([10] * 100, 0.05, False), ([10] * 100, 0.012, True),
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


# ------------------------------------------------------------------------------------- interrupted runs


@pytest.mark.parametrize("loss", ["arcface", "adacos"])
@pytest.mark.parametrize("step", [2, STEPS, STEPS + 4], ids=["before-epoch-1", "after-epoch-1", "within-epoch-2"])
def test_a_resumed_run_ends_as_the_uninterrupted_one(train_tiny, uninterrupted, tmp_path, loss, step):
    with pytest.MonkeyPatch.context() as patch:
        at_step(patch, step, interrupt)
        cut = train_tiny(tmp_path, "--name", "run", loss=loss)
    assert cut.status == 130 and "--resume" in cut.err and "Traceback" not in cut.err
    assert not (tmp_path / "run" / "metrics.json").exists()
    resumed = train_tiny(tmp_path, "--name", "run", "--resume", loss=loss)
    assert resumed.status == 0, resumed.err
    assert f"going on after epoch {step // STEPS} of 3" in resumed.out
    assert_same(everything(tmp_path / "run"), uninterrupted(loss))


def test_a_run_can_be_cut_off_twice(train_tiny, uninterrupted, tmp_path):
    for flags in ((), ("--resume",)):
        with pytest.MonkeyPatch.context() as patch:
            at_step(patch, STEPS + 1, interrupt)
            assert train_tiny(tmp_path, "--name", "run", *flags).status == 130
    assert train_tiny(tmp_path, "--name", "run", "--resume").status == 0
    assert_same(everything(tmp_path / "run"), uninterrupted("arcface"))


@pytest.mark.parametrize("number", range(1, 10))
def test_a_run_cut_off_at_any_write_resumes(train_tiny, uninterrupted, tmp_path, number):
    # A run renames ten files into place before it counts as finished: config, checkpoint, three times history and
    # checkpoint, arrays, metrics.
    renames, real = itertools.count(), os.replace

    def cut(*args):
        if next(renames) == number:
            raise KeyboardInterrupt
        real(*args)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "replace", cut)
        assert train_tiny(tmp_path, "--name", "run").status == 130
    resumed = train_tiny(tmp_path, "--name", "run", "--resume")
    assert resumed.status == 0, resumed.err
    assert_same(everything(tmp_path / "run"), uninterrupted("arcface"))
    assert len(list((tmp_path / "run").iterdir())) == 6  # no half-written file is left lying about


def test_a_killed_process_leaves_a_run_to_resume(train_tiny, uninterrupted, tmp_path, tiny_data):
    kill = ["steps, real = iter(range(99)), train.Trainer.step", "def step(*args):",
            f"    if next(steps) == {STEPS + 3}: os.kill(os.getpid(), signal.SIGKILL)", "    return real(*args)",
            "train.Trainer.step = step", "sys.exit(train.main())"]  # fmt: skip
    words = ["--dataset", "folder", "--data-dir", tiny_data, "--image-size", 16, "--loss", "arcface", "--name", "run"]
    words += ["--embedding-dim", 4, "--epochs", 3, "--batch-size", 16, "--output-dir", tmp_path]
    script = [sys.executable, "-c", "\n".join(SCRIPT + kill), *map(str, words)]
    killed = subprocess.run(script, cwd=ROOT, capture_output=True, text=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert train_tiny(tmp_path, "--name", "run", "--resume").status == 0
    assert_same(everything(tmp_path / "run"), uninterrupted("arcface"))


def test_a_run_killed_before_its_first_file_resumes(train_tiny, uninterrupted, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / ".config.json.partial").write_text('{"settings": {')
    assert train_tiny(tmp_path, "--name", "run", "--resume").status == 0
    assert_same(everything(tmp_path / "run"), uninterrupted("arcface"))
    assert len(list((tmp_path / "run").iterdir())) == 6


def test_runs_killed_at_random_moments_end_as_the_undisturbed_one():
    script = [sys.executable, str(ROOT / "tests" / "kill_runs.py"), "--kills", "4"]
    done = subprocess.run(script, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr + done.stdout
    assert "4 kills" in done.stdout and " 0 did not" in done.stdout and " 0 damaged" in done.stdout


def test_two_processes_do_not_train_in_one_folder(train_tiny, uninterrupted, tmp_path, monkeypatch):
    seen = []
    at_step(monkeypatch, STEPS + 2, lambda: seen.extend(
        train_tiny(tmp_path, "--name", "run", flag) for flag in ("--resume", "--overwrite")))  # fmt: skip
    assert train_tiny(tmp_path, "--name", "run").status == 0
    for done in seen:
        assert_refused(done, "another process is training", tmp_path / "run", "--name")
    assert len(seen) == 2
    assert_same(everything(tmp_path / "run"), uninterrupted("arcface"))


def words_of(output_dir, tiny_data, *more):
    words = ["--dataset", "folder", "--data-dir", tiny_data, "--image-size", 16, "--loss", "arcface", "--name", "run"]
    words += ["--embedding-dim", 4, "--epochs", 3, "--batch-size", 16, "--output-dir", output_dir, *more]
    return list(map(str, words))


def in_a_process(lines, words, **options):
    script = [sys.executable, "-c", "\n".join([*SCRIPT, *lines, "sys.exit(train.main())"]), *words]
    return subprocess.run(script, cwd=ROOT, stderr=subprocess.PIPE, text=True, **options)


def test_ctrl_c_in_a_real_process_leaves_a_run_to_resume(train_tiny, uninterrupted, tmp_path, tiny_data):
    lines = ["steps, real = iter(range(99)), train.Trainer.step", "def step(*args):",
             f"    if next(steps) == {STEPS + 3}: os.kill(os.getpid(), signal.SIGINT)", "    return real(*args)",
             "train.Trainer.step = step"]  # fmt: skip
    cut = in_a_process(lines, words_of(tmp_path, tiny_data), stdout=subprocess.DEVNULL)
    assert cut.returncode == 130 and "--resume" in cut.stderr and "Traceback" not in cut.stderr
    assert train_tiny(tmp_path, "--name", "run", "--resume").status == 0
    assert_same(everything(tmp_path / "run"), uninterrupted("arcface"))


def test_a_real_limit_on_what_may_be_written_is_one_clear_line(train_tiny, uninterrupted, tmp_path, tiny_data):
    lines = ["import resource, runs", "real = runs.save_checkpoint", "def save(path, content):",
             "    if content['epoch'] == 2: resource.setrlimit(resource.RLIMIT_FSIZE, (9000, 9000))",
             "    real(path, content)", "train.save_checkpoint = save"]  # fmt: skip
    done = in_a_process(lines, words_of(tmp_path, tiny_data), stdout=subprocess.DEVNULL)
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and "File too large" in done.stderr
    assert "checkpoint.pt" in done.stderr and load_checkpoint(tmp_path / "run" / "checkpoint.pt")["epoch"] == 1
    assert train_tiny(tmp_path, "--name", "run", "--resume").status == 0
    assert_same(everything(tmp_path / "run"), uninterrupted("arcface"))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_under_the_log_is_one_clear_line(train_tiny, uninterrupted, tmp_path, tiny_data):
    with open("/dev/full", "w") as full:
        done = in_a_process([], words_of(tmp_path, tiny_data), stdout=full)
    assert done.returncode == 2 and done.stderr == "train.py: error: the output: No space left on device\n"
    flags = ["--resume"] if (tmp_path / "run").exists() else []
    assert train_tiny(tmp_path, "--name", "run", *flags).status == 0
    assert_same(everything(tmp_path / "run"), uninterrupted("arcface"))


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs /proc, which nobody can write to")
def test_a_folder_that_nobody_can_write_to_is_one_clear_line(train_tiny):
    assert_refused(train_tiny(Path("/proc/runs")), "/proc/runs", "--output-dir")


def test_a_link_in_the_way_of_a_file_is_not_written_through(tmp_path):
    (tmp_path / "mine").write_text("mine")
    (tmp_path / ".file.partial").symlink_to(tmp_path / "mine")
    runs.write_whole(tmp_path / "file", b"new")
    assert (tmp_path / "mine").read_text() == "mine" and (tmp_path / "file").read_bytes() == b"new"


@pytest.mark.parametrize("function", ["fsync", "replace"])
def test_a_full_disk_costs_no_more_than_the_epoch(train_tiny, uninterrupted, tmp_path, function):
    calls, real = itertools.count(), getattr(os, function)
    with pytest.MonkeyPatch.context() as patch:  # full from the second epoch's checkpoint on
        patch.setattr(os, function, lambda *args: real(*args) if next(calls) < 5 else full_disk())
        done = train_tiny(tmp_path, "--name", "run")
    assert_refused(done, "checkpoint.pt", "No space left on device")
    assert {path.name for path in (tmp_path / "run").iterdir()} == {"config.json", "checkpoint.pt", "history.csv"}
    assert load_checkpoint(tmp_path / "run" / "checkpoint.pt")["epoch"] == 1
    assert train_tiny(tmp_path, "--name", "run", "--resume").status == 0
    assert_same(everything(tmp_path / "run"), uninterrupted("arcface"))


def test_a_file_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "file"
    runs.write_whole(path, b"old")

    class Filling(io.FileIO):
        def write(self, data):
            super().write(data[:3])
            full_disk()

    monkeypatch.setattr(runs, "open", lambda name, mode: Filling(name, mode), raising=False)
    with pytest.raises(runs.RunError, match="No space left on device"):
        runs.write_whole(path, b"new content")
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]


def test_a_folder_removed_under_a_run_is_one_clear_line(train_tiny, tmp_path, monkeypatch):
    at_step(monkeypatch, 3, lambda: shutil.rmtree(tmp_path / "run"))
    assert_refused(train_tiny(tmp_path, "--name", "run"), tmp_path / "run", "No such file or directory")


def test_a_folder_replaced_by_a_file_under_a_run_is_one_clear_line(train_tiny, tmp_path, monkeypatch):
    def replace():
        shutil.rmtree(tmp_path / "run")
        (tmp_path / "run").write_text("mine")

    at_step(monkeypatch, 3, replace)
    assert_refused(train_tiny(tmp_path, "--name", "run"), tmp_path / "run", "Not a directory")


# ------------------------------------------------------------------------------------- rules of the run folder


def test_a_finished_run_is_shown_and_left_as_it_is(train_tiny, finished_run, tmp_path):
    shutil.copytree(finished_run, tmp_path / "run")
    before = content(tmp_path)
    for flags in ((), ("--resume",)):
        again = train_tiny(tmp_path, "--name", "run", *flags)
        assert again.status == 0 and "finished already" in again.out
        assert f"{read_json(finished_run / 'metrics.json')['test_accuracy']:.2%}" in again.out
        assert not any(line.startswith("epoch") for line in again.out.splitlines())
        assert content(tmp_path) == before


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (("--seed", 3), "seed was 0, now 3"),
        (("--epochs", 9), "epochs was 3, now 9"),
        (("--m2", 0.125), "m2 was"),
        (("--hold-out", "disc"), "hold_out was [], now ['disc']"),
        (("--lr", 0.01, "--resume"), "lr was 0.05, now 0.01"),
    ],
)
def test_a_run_of_other_settings_is_kept(train_tiny, finished_run, tmp_path, flags, named):
    shutil.copytree(finished_run, tmp_path / "run")
    before = content(tmp_path)
    assert_refused(train_tiny(tmp_path, "--name", "run", *flags), named, "--overwrite", "--name")
    assert content(tmp_path) == before


@pytest.fixture
def unfinished(train_tiny, tmp_path):
    """The output folder of a run cut off in its second epoch."""
    with pytest.MonkeyPatch.context() as patch:
        at_step(patch, STEPS + 1, interrupt)
        assert train_tiny(tmp_path, "--name", "run").status == 130
    return tmp_path


def test_an_unfinished_run_is_kept_and_the_ways_on_are_named(train_tiny, unfinished):
    before = content(unfinished)
    assert_refused(train_tiny(unfinished, "--name", "run"), "unfinished", "--resume", "--overwrite", "--name")
    assert content(unfinished) == before


def test_overwrite_starts_anew(train_tiny, uninterrupted, unfinished):
    assert train_tiny(unfinished, "--name", "run", "--overwrite").status == 0
    assert_same(everything(unfinished / "run"), uninterrupted("arcface"))
    done = train_tiny(unfinished, "--name", "run", "--overwrite", "--epochs", 1, loss="softmax")
    assert done.status == 0
    assert read_json(unfinished / "run" / "metrics.json")["loss"] == "softmax"
    assert len(history_of(unfinished / "run")) == 1


def test_there_must_be_a_run_to_resume(train_tiny, tmp_path):
    assert_refused(train_tiny(tmp_path / "runs", "--name", "run", "--resume"), "no run to resume", "run")
    assert not (tmp_path / "runs").exists()


def test_a_run_is_not_resumed_on_other_data(train_tiny, make_data, unfinished, tmp_path):
    before = content(unfinished / "run")
    other = make_data(tmp_path / "other", new=[("train", "disc")])
    done = train_tiny(unfinished, "--name", "run", "--resume", data=other)
    assert_refused(done, "data have changed", "--overwrite", "--name")
    assert content(unfinished / "run") == before


@pytest.mark.parametrize("flags", [(), ("--overwrite",), ("--resume",)])
@pytest.mark.parametrize("file", ["thesis.txt", "config.json", "sub/thesis.txt"])
def test_a_folder_that_is_no_run_is_never_touched(train_tiny, tmp_path, file, flags):
    path = tmp_path / "run" / file
    path.parent.mkdir(parents=True)
    path.write_text('{"name": "not a run of this program"}')
    before = content(tmp_path)
    assert_refused(train_tiny(tmp_path, "--name", "run", *flags), "run")
    assert content(tmp_path) == before


@pytest.mark.parametrize("flags", [(), ("--overwrite",)])
def test_hidden_files_and_files_added_to_a_run_are_never_deleted(train_tiny, tmp_path, flags):
    (tmp_path / "run" / ".git").mkdir(parents=True)
    (tmp_path / "run" / ".git" / "HEAD").write_text("mine")
    if flags:
        assert train_tiny(tmp_path, "--name", "run", "--epochs", 1).status == 0
        (tmp_path / "run" / "notes.txt").write_text("mine")
    train_tiny(tmp_path, "--name", "run", *flags)
    assert (tmp_path / "run" / ".git" / "HEAD").read_text() == "mine"
    assert not flags or (tmp_path / "run" / "notes.txt").read_text() == "mine"


def test_an_empty_folder_is_taken_for_the_run(train_tiny, tmp_path):
    (tmp_path / "run").mkdir()
    assert train_tiny(tmp_path, "--name", "run", "--epochs", 1).status == 0


# ------------------------------------------------------------------------------------- checkpoints nobody should trust


class Touch:
    """Pickles as a call that makes a file: the proof that code was run."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def broken_checkpoints(good: bytes, canary: Path) -> dict:
    archive = io.BytesIO()
    torch.save({"format": 1, "model": Touch(canary)}, archive)
    legacy = io.BytesIO()
    torch.save({"format": 1, "model": Touch(canary)}, legacy, _use_new_zipfile_serialization=False)
    other = io.BytesIO()
    torch.save({"weights": torch.zeros(3)}, other)
    plain = io.BytesIO()
    torch.save(torch.zeros(3), plain)
    noise = np.random.default_rng(0).bytes
    return {
        "empty": b"", "one-byte": good[:1], "half": good[: len(good) // 2], "cut-short": good[:-30],
        "random": noise(5000), "random-after-signature": good[:4] + noise(5000), "text": b"not a checkpoint\n",
        "pickle-that-runs-code": pickle.dumps(Touch(canary)), "archive-that-runs-code": archive.getvalue(),
        "legacy-that-runs-code": legacy.getvalue(), "another-program-s": other.getvalue(), "a-tensor": plain.getvalue(),
    }  # fmt: skip


BROKEN = tuple(broken_checkpoints(b"PK\3\4", Path()))


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_checkpoint_is_refused_and_runs_no_code(train_tiny, finished_run, command, tmp_path, kind):
    canary, run = tmp_path / "canary", tmp_path / "run"
    shutil.copytree(finished_run, run)
    bad = broken_checkpoints((run / "checkpoint.pt").read_bytes(), canary)[kind]
    (run / "checkpoint.pt").write_bytes(bad)
    picture = next(run.parent.glob("*.png"), None) or tmp_path / "a.png"
    assert_refused(command(evaluate.main, run, "--images", picture), "checkpoint.pt", "--overwrite")
    (run / "metrics.json").unlink()  # now it is an unfinished run
    before = content(run)
    assert_refused(train_tiny(tmp_path, "--name", "run", "--resume"), "checkpoint.pt", "--overwrite")
    assert content(run) == before and not canary.exists()
    if "code" in kind:  # whereas an ordinary load would have run it
        torch.load(io.BytesIO(bad), weights_only=False) if kind != "pickle-that-runs-code" else pickle.loads(bad)
        assert canary.exists()


def test_a_checkpoint_of_other_settings_is_refused(train_tiny, unfinished, finished_run):
    shutil.copytree(finished_run.parent, unfinished / "elsewhere")
    assert train_tiny(unfinished, "--name", "other", "--lr", 0.01).status == 0
    shutil.copy(unfinished / "other" / "checkpoint.pt", unfinished / "run" / "checkpoint.pt")
    done = train_tiny(unfinished, "--name", "run", "--resume")
    assert_refused(done, "checkpoint.pt", "other settings", "--overwrite")


@pytest.mark.parametrize("key", ["model", "head", "optimizer", "epoch", "history", "random", "config", "fingerprint"])
def test_a_checkpoint_that_lacks_a_part_is_refused(train_tiny, unfinished, key):
    path = unfinished / "run" / "checkpoint.pt"
    state = load_checkpoint(path)
    del state[key]
    torch.save(state, path)
    assert_refused(train_tiny(unfinished, "--name", "run", "--resume"), "--overwrite", "--name")


def test_a_checkpoint_of_another_network_is_refused(train_tiny, unfinished):
    path = unfinished / "run" / "checkpoint.pt"
    state = load_checkpoint(path)
    state["model"]["embed.weight"] = torch.zeros(9, 9)
    torch.save(state, path)
    assert_refused(train_tiny(unfinished, "--name", "run", "--resume"), "another network", "--overwrite")


def test_a_damaged_record_is_refused(train_tiny, unfinished):
    for text in ("", "{", "[]", "{}", '{"settings": 3}', "\x00\xff"):
        (unfinished / "run" / "config.json").write_bytes(text.encode("latin-1"))
        before = content(unfinished)
        assert_refused(train_tiny(unfinished, "--name", "run", "--resume"), "run")
        assert content(unfinished) == before


# ------------------------------------------------------------------------------------- bad input

NUMBERS = ("--embedding-dim", "--epochs", "--batch-size", "--lr", "--scale", "--margin", "--m1", "--m2", "--m3",
           "--margin-warmup", "--seed", "--image-size", "--validation")  # fmt: skip
MAY_BE_ZERO = {"--margin", "--m2", "--m3", "--margin-warmup", "--seed", "--validation"}
WHOLE = {"--embedding-dim", "--epochs", "--batch-size", "--seed", "--image-size"}


def bad_numbers():
    for flag in NUMBERS:
        for value in ("-1", "-0.5", "nan", "inf", "-inf", "1e999", "ten", "", "1" * 400):
            yield flag, value
        if flag not in MAY_BE_ZERO:
            yield flag, "0"
        if flag in WHOLE:
            yield flag, "2.5"


@pytest.mark.parametrize(("flag", "value"), list(bad_numbers()))
def test_a_bad_number_is_named_and_nothing_written(train_tiny, tmp_path, flag, value):
    done = train_tiny(tmp_path / "runs", f"{flag}={value}")
    own = {"--margin": "m2 = " if value in ("-1", "-0.5") else "--margin"}  # numbers, but no angles
    assert_refused(done, own.get(flag, flag), value[:3])
    assert list(tmp_path.iterdir()) == []


BAD_FLAGS = [
    (["--dataset", "imagenet"], ["'imagenet'", "mnist", "fashion-mnist", "cifar10", "folder"]),
    (["--loss", "triplet"], ["'triplet'", *LOSSES]),
    (["--precision", "fp8"], ["'fp8'", "auto", "bf16", "fp32"]),
    (["--device", "tpu"], ["'tpu'", "cpu", "cuda"]),
    (["--device", "cpu:3"], ["'cpu:3'"]),
    (["--device", "cuda:99"], ["cuda:99", "--device auto"]),
    (["--device", "cuda:²"], ["cuda:²"]),
    (["--loss", "softmax", "--margin", "0.5"], ["--margin 0.5", "softmax"]),
    (["--loss", "adacos", "--margin", "0.5"], ["--margin 0.5", "adacos"]),
    (["--loss", "softmax", "--m2", "0.5"], ["softmax", "--m2"]),
    (["--loss", "softmax", "--scale", "5"], ["scale 5", "softmax"]),
    (["--loss", "adacos", "--scale", "5"], ["scale 5", "adacos"]),
    (["--loss", "norm-softmax", "--m3", "0.25"], ["m3 = 0.25", "norm-softmax"]),
    (["--loss", "arcface", "--margin", "3.2"], ["m2 = 3.2", "pi"]),
    (["--loss", "arcface", "--m1", "2"], ["m1 = 2", "arcface", "combined"]),
    (["--loss", "arcface", "--m3", "0.25"], ["m3 = 0.25", "arcface", "combined"]),
    (["--loss", "cosface", "--margin", "2.5"], ["m3 = 2.5", "0 to 2"]),
    (["--loss", "cosface", "--m2", "0.25"], ["m2 = 0.25", "cosface", "combined"]),
    (["--loss", "sphereface", "--margin", "0.5"], ["m1 = 0.5", "1 to 4"]),
    (["--loss", "sphereface", "--margin", "4.5"], ["m1 = 4.5", "1 to 4"]),
    (["--loss", "combined", "--margin", "cm3"], ["cm3", "cm1", "cm2"]),
    (["--loss", "combined", "--margin", "0.5"], ["0.5", "cm1", "--m1"]),
    (["--embedding-dim", "9000"], ["'9000'", "8192"]),
    (["--batch-size", "1"], ["'1'", "at least 2"]),
    (["--image-size", "15"], ["'15'", "16"]),
    (["--image-size", "513"], ["'513'", "512"]),
    (["--margin-warmup", "1.5"], ["'1.5'", "1"]),
    (["--validation", "0.75"], ["'0.75'", "0.5"]),
    (["--hold-out", "square"], ["square", "bars", "checks", "disc", "slopes"]),
    (["--hold-out", "7"], ["7", "bars", "checks", "disc", "slopes"]),
    (["--hold-out", "-1"], ["-1", "bars"]),
    (["--hold-out", "bars", "disc", "slopes"], ["bars, disc, slopes", "1 of 4"]),
    (["--hold-out", "bars", "disc", "--loss", "adacos"], ["adacos", "2 classes"]),
    (["--name", "a/b"], ["'a/b'"]),
    (["--name", ".."], ["'..'"]),
    (["--name", "."], ["'.'"]),
    (["--name", ""], ["''"]),
    (["--name", "a b"], ["'a b'"]),
    (["--name", "x" * 101], ["xxx"]),
    (["--resume", "--overwrite"], ["--resume", "--overwrite"]),
    (["--nonsense"], ["--nonsense"]),
    (["--lr"], ["--lr"]),
    (["--data-dir", "no/such/folder"], ["no/such/folder"]),
]


@pytest.mark.parametrize(("flags", "named"), BAD_FLAGS, ids=lambda part: " ".join(part)[:40])
def test_bad_input_is_named_and_nothing_written(train_tiny, tmp_path, flags, named):
    done = train_tiny(tmp_path / "runs", *flags)
    assert_refused(done, *named)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("missing", ["--dataset", "--loss"])
def test_data_set_and_loss_must_be_named(command, missing):
    given = {"--dataset": "mnist", "--loss": "arcface"}
    del given[missing]
    assert_refused(command(train.main, *itertools.chain(*given.items())), missing)


def test_cuda_where_there_is_none_is_named(train_tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert_refused(train_tiny(tmp_path / "runs", "--device", "cuda"), "--device cuda", "no CUDA GPU")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("place", ["file", "file/below", "file/deeper/below"])
def test_a_file_in_the_way_of_the_output_folder_is_named(train_tiny, tmp_path, place):
    (tmp_path / "file").write_text("mine")
    assert_refused(train_tiny(tmp_path / place), tmp_path / place, "--output-dir")
    assert content(tmp_path).keys() == {"file"} and (tmp_path / "file").read_text() == "mine"


def test_a_file_in_the_way_of_the_run_folder_is_named(train_tiny, tmp_path):
    (tmp_path / "run").write_text("mine")
    for flags in ((), ("--overwrite",), ("--resume",)):
        assert_refused(train_tiny(tmp_path, "--name", "run", *flags), tmp_path / "run", "--name")
    assert (tmp_path / "run").read_text() == "mine"


def test_an_output_folder_that_cannot_be_written_is_named(train_tiny, tmp_path, monkeypatch):
    def denied(self, *args, **kwargs):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(self))

    monkeypatch.setattr(Path, "mkdir", denied)
    assert_refused(train_tiny(tmp_path / "runs"), tmp_path / "runs", "Permission denied", "--output-dir")


def test_an_output_folder_with_too_long_a_name_is_named(train_tiny, tmp_path):
    assert_refused(train_tiny(tmp_path / ("x" * 300)), "xxx", "--output-dir")


def test_the_command_line_itself_gives_status_and_one_line(tmp_path):
    script = [sys.executable, str(ROOT / "train.py"), "--dataset", "mnist", "--loss", "triplet"]
    done = subprocess.run(script, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.startswith("train.py: error:") and done.stderr.count("\n") == 1 and "triplet" in done.stderr
    assert list(tmp_path.iterdir()) == []


# ------------------------------------------------------------------------------------- learning


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


@pytest.mark.parametrize("loss", list(LOSSES))
def test_heads_without_labels_add_no_margin(loss):
    margins = {"sphereface": {"m1": 3.0}, "cosface": {"m3": 1.5}, "arcface": {"m2": 2.0}, "li-arcface": {"m2": 2.0},
               "combined": {"m1": 2.0, "m2": 1.0, "m3": 0.5}}.get(loss, {})  # fmt: skip
    torch.manual_seed(0)
    head = build_head(loss, 5, 4, **margins)
    x, labels = torch.randn(50, 5), torch.arange(50) % 4
    for mode in (head.train(), head.eval()):
        w, e = mode.weight.detach().double().numpy(), x.double().numpy()
        cosine = e @ w.T / np.linalg.norm(e, axis=1)[:, None] / np.linalg.norm(w, axis=1)
        scaled = float(mode.scale) * (1 - 2 / np.pi * np.arccos(cosine) if loss == "li-arcface" else cosine)
        np.testing.assert_allclose(mode(x).detach(), e @ w.T if loss == "softmax" else scaled, atol=2e-4)
    if margins:
        assert (head.train()(x, labels) - head(x)).abs().max() > 1


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
    frozen = {"whiten.weight", *(f"blocks.{b}.norm{i}.weight" for b in range(3) for i in (1, 2))}
    assert moved == parameters.keys() - frozen
    for name in moved:  # not a few entries but nearly every bias and class weight
        if name == "head" or parameters[name].ndim == 1:
            assert (parameters[name] != before[name]).float().mean() > 0.9, name


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
    assert "warning: arcface" not in train_tiny(tmp_path, "--epochs", 1, "--name", "default").out


def test_a_loss_that_is_no_number_stops_the_run(train_tiny, tmp_path, monkeypatch):
    real, steps = train.Trainer.step, itertools.count()

    def step(self, images, labels):
        loss, correct = real(self, images, labels)
        return (loss * float("nan") if next(steps) == STEPS + 1 else loss), correct

    monkeypatch.setattr(train.Trainer, "step", step)
    done = train_tiny(tmp_path, "--name", "run")
    assert_refused(done, "nan", f"step {2 * STEPS}", "diverged", "--lr", "0.05", "--scale")
    assert load_checkpoint(tmp_path / "run" / "checkpoint.pt")["epoch"] == 1  # the last good one
    assert not (tmp_path / "run" / "metrics.json").exists()


def test_a_diverged_run_is_marked_failed_until_it_is_started_anew(train_tiny, tmp_path):
    absurd = ("--name", "run", "--lr", "1e30")
    first = train_tiny(tmp_path, *absurd, loss="softmax")
    assert_refused(first, "diverged", "times the recipe's 0.05")
    assert read_json(tmp_path / "run" / "failed.json")["error"] in first.err
    before = content(tmp_path)
    for flags in ((), ("--resume",)):
        done = train_tiny(tmp_path, *absurd, *flags, loss="softmax")
        assert_refused(done, "holds a failed run", "diverged", "--overwrite", "--name")
        assert content(tmp_path) == before
    assert train_tiny(tmp_path, "--name", "run", "--overwrite", loss="softmax").status == 0
    assert not (tmp_path / "run" / "failed.json").exists()


def test_a_loss_that_explodes_stops_the_run(train_tiny, tmp_path, monkeypatch):
    real, steps = train.Trainer.step, itertools.count()

    def step(self, images, labels):
        loss, correct = real(self, images, labels)
        return loss * (10_000 if next(steps) > STEPS else 1), correct

    monkeypatch.setattr(train.Trainer, "step", step)
    assert_refused(train_tiny(tmp_path, "--name", "run"), f"step {2 * STEPS}", "diverged", "--lr")
    assert (tmp_path / "run" / "failed.json").exists()


@pytest.mark.parametrize(("loss", "flags"), [
    ("combined", ("--m1", 4, "--m2", 3.1, "--m3", 2)), ("sphereface", ("--m1", 4)), ("cosface", ("--m3", 2)),
    ("li-arcface", ("--m2", 3.1)), ("arcface", ("--scale", 1000)),
])  # fmt: skip
def test_the_largest_margins_and_scales_are_no_explosion(train_tiny, tmp_path, loss, flags):
    assert train_tiny(tmp_path, "--epochs", 1, "--margin-warmup", 0, *flags, loss=loss).status == 0


def test_weights_ruined_by_an_epoch_s_last_step_reach_no_checkpoint(train_tiny, tmp_path, monkeypatch):
    real, steps = train.Trainer.step, itertools.count()

    def step(self, images, labels):
        done = real(self, images, labels)
        if next(steps) == 2 * STEPS - 1:
            self.head.weight.data[0, 0] = float("inf")
        return done

    monkeypatch.setattr(train.Trainer, "step", step)
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


def test_weights_ruined_by_the_very_last_step_are_no_finished_run(train_tiny, tmp_path, monkeypatch):
    real, steps = train.Trainer.step, itertools.count()

    def step(self, images, labels):
        done = real(self, images, labels)  # its loss is still that of the weights before
        if next(steps) == 3 * STEPS - 1:
            self.backbone.embed.weight.data.fill_(float("nan"))
        return done

    monkeypatch.setattr(train.Trainer, "step", step)
    assert_refused(train_tiny(tmp_path, "--name", "run"), "nan", f"step {3 * STEPS}", "--lr")
    assert not (tmp_path / "run" / "metrics.json").exists()


def test_an_absurd_learning_rate_stops_the_run(train_tiny, tmp_path):
    done = train_tiny(tmp_path, "--name", "run", "--lr", "1e30", loss="softmax")
    assert_refused(done, "step", "diverged", "--lr", "1e+30")
    assert not (tmp_path / "run" / "metrics.json").exists()


# ------------------------------------------------------------------------------------- no leak


def hashes(images) -> set:
    return {image.numpy().tobytes() for image in images}


@pytest.fixture
def spy(monkeypatch):
    """All images that reach the normalisation, the whitening and the training step, without augmentation."""
    monkeypatch.setitem(recipes.BASE["folder"], "shift", 0)
    monkeypatch.setitem(recipes.BASE["folder"], "flip", False)
    seen = {"statistics": set(), "whitening": set(), "steps": set(), "embedded": set()}
    statistics, step = training.channel_statistics, train.Trainer.step
    whiten, embed = training.Backbone.init_whitening, training.embed

    def spied_statistics(images):
        seen["statistics"] |= hashes(images)
        return statistics(images)

    def spied_step(self, images, labels):
        seen["steps"] |= hashes(images)
        return step(self, images, labels)

    def spied_whiten(self, images):
        seen["whitening"] |= hashes(images.contiguous())
        return whiten(self, images)

    def spied_embed(backbone, images, *rest):
        seen["embedded"] |= hashes(images)
        return embed(backbone, images, *rest)

    monkeypatch.setattr(training, "channel_statistics", spied_statistics)
    monkeypatch.setattr(train.Trainer, "step", spied_step)
    monkeypatch.setattr(training.Backbone, "init_whitening", spied_whiten)
    monkeypatch.setattr(training, "embed", spied_embed)
    return seen


def assert_only(seen, images):
    """The three ways into training got all of these images and no other."""
    wanted = hashes(images)
    assert seen["statistics"] == wanted and seen["steps"] == wanted
    normalised = to_input(images, *training.channel_statistics(images)).contiguous()
    assert seen["whitening"] == hashes(normalised)


def test_no_test_image_reaches_training(train_tiny, tmp_path, tiny_data, spy):
    data = load_dataset("folder", tiny_data, 16)
    assert not hashes(data.train_images) & hashes(data.test_images) and len(hashes(data.train_images)) == 96
    assert train_tiny(tmp_path).status == 0
    assert_only(spy, data.train_images)


def test_with_validation_no_test_image_is_used_at_all(train_tiny, tmp_path, tiny_data, spy):
    data = load_dataset("folder", tiny_data, 16)
    done = train_tiny(tmp_path, "--validation", 0.25, "--name", "run")
    assert done.status == 0 and "validation accuracy" in done.out
    assert not (spy["steps"] | spy["statistics"] | spy["embedded"]) & hashes(data.test_images)
    assert spy["embedded"] | spy["steps"] == hashes(data.train_images) and not spy["embedded"] & spy["steps"]
    assert len(spy["embedded"]) == 24 == read_json(tmp_path / "run" / "metrics.json")["test_images"]


def test_no_image_of_a_held_out_class_reaches_training(train_tiny, tmp_path, tiny_data, spy):
    data = load_dataset("folder", tiny_data, 16)
    assert train_tiny(tmp_path, "--hold-out", "checks", "disc").status == 0
    assert_only(spy, data.train_images[(data.train_labels == 0) | (data.train_labels == 3)])


@pytest.mark.parametrize(
    ("flags", "parts"),
    [
        ((), ("test",)),
        (("--validation", 0.25), ("test",)),
        (("--hold-out", "checks", "disc"), ("train", "test")),
    ],
)
def test_pictures_that_training_may_not_see_move_no_weight(train_tiny, make_data, tmp_path, flags, parts):
    # The black box: exchange every picture that is not for training, and no weight may differ by a bit.
    changed = [(part, kind) for part in parts for kind in ("checks", "disc")]
    checkpoints, metrics = [], []
    for name, new in (("one", ()), ("two", changed)):
        folder = make_data(tmp_path / name, new=new)
        assert train_tiny(tmp_path / "runs", *flags, "--name", name, data=folder).status == 0
        checkpoints.append(load_checkpoint(tmp_path / "runs" / name / "checkpoint.pt"))
        metrics.append(timeless(read_json(tmp_path / "runs" / name / "metrics.json")))
    for key in ("model", "head", "mean", "std", "optimizer"):
        assert_same(checkpoints[0][key], checkpoints[1][key], key)
    if flags and flags[0] == "--validation":
        assert_same(*metrics)
    else:  # and the pictures did differ
        assert metrics[0]["verification"] != metrics[1]["verification"]


def test_garbage_for_test_images_and_their_labels_moves_nothing_but_the_test(command, tmp_path, monkeypatch):
    monkeypatch.setitem(recipes.BASE["mnist"], "widths", (8, 8, 8))
    random, states, accuracies = np.random.default_rng(0), [], []
    train_part = random.integers(0, 256, (100, 28, 28)), np.arange(100) % 10
    test_part = random.integers(0, 256, (50, 28, 28)), np.arange(50) % 10
    garbage = np.full((50, 28, 28), 255), test_part[1][::-1]
    for name, test in (("good", test_part), ("garbage", garbage)):
        (tmp_path / name).mkdir()
        for file, array in zip(data_files.IDX_FILES, (*train_part, *test)):
            header = struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
            (tmp_path / name / file).write_bytes(header + array.astype(np.uint8).tobytes())
        words = ["--dataset", "mnist", "--loss", "arcface", "--embedding-dim", 4, "--epochs", 2, "--batch-size", 20]
        words += ["--data-dir", tmp_path / name, "--output-dir", tmp_path / "runs", "--name", name]
        assert command(train.main, *words).status == 0
        run = tmp_path / "runs" / name
        states.append({k: v for k, v in everything(run)["checkpoint"].items() if k != "fingerprint"})
        states[-1]["rows"] = timeless(history_of(run))
        accuracies.append(read_json(run / "metrics.json")["accuracy"])
    assert_same(*states)
    assert accuracies[0] != accuracies[1]


def test_held_out_classes_are_measured_alone_and_the_rest_renumbered(train_tiny, tmp_path, tiny_data):
    assert train_tiny(tmp_path, "--hold-out", "disc", "bars", "--name", "run").status == 0
    data, arrays = load_dataset("folder", tiny_data, 16), read_arrays(tmp_path / "run" / "embeddings.npz")
    metrics = read_json(tmp_path / "run" / "metrics.json")
    assert metrics["classes"] == ["checks", "slopes"] and metrics["unseen_classes"] == ["bars", "disc"]
    assert metrics["hold_out"] == ["bars", "disc"]  # named in any order, they make the same run
    assert arrays["weights"].shape == (2, 4) and metrics["test_images"] == 16
    np.testing.assert_array_equal(arrays["labels"], [0] * 8 + [1] * 8)
    np.testing.assert_array_equal(arrays["unseen_labels"], [0] * 8 + [2] * 8)
    network = evaluate.load_network(tmp_path / "run")
    for name, wanted in (("embeddings", (1, 3)), ("unseen_embeddings", (0, 2))):
        images = torch.cat([data.test_images[data.test_labels == label] for label in wanted])
        np.testing.assert_allclose(evaluate.embed_images(network, images).numpy(), arrays[name], atol=1e-6)


def test_a_held_out_class_may_be_given_by_its_number(train_tiny, tmp_path):
    assert train_tiny(tmp_path, "--hold-out", 2, "--epochs", 1, "--name", "run").status == 0
    assert read_json(tmp_path / "run" / "metrics.json")["unseen_classes"] == ["disc"]


def test_the_record_survives_as_json(finished_run):
    settings = read_json(finished_run / "config.json")["settings"]
    assert Settings.from_json(json.loads(json.dumps(settings))).to_json() == settings
