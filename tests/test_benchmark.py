"""benchmark.py's arithmetic and its sides; that what it measures is fast is not for a test to say."""

import json

import pytest
import torch

import benchmark
import benchmark_sides
from benchmark_work import die, work_of_100_mb
from command_helpers import assert_refused, content_and_times
from data import DataError, Dataset
from results_helpers import facts_of
from runs import RunError, read_json, write_json


def test_alternating_sides_gives_medians_and_ratios_to_the_first():
    first, second = iter([9, 1, 2, 4]), iter([9, 3, 3, 6])  # the first of each is the unmeasured round
    order = []
    sides = {
        "a": lambda: order.append("a") or float(next(first)),
        "b": lambda: order.append("b") or float(next(second)),
    }
    found = benchmark.alternate(sides, 3)
    assert order == ["a", "b"] * 4
    assert found["a"] == {"median": 2, "ratio": 1, "ratio_low": 1, "ratio_high": 1, "n": 3}
    assert found["b"] == {"median": 3, "ratio": 1.5, "ratio_low": 1.5, "ratio_high": 3, "n": 3}


def test_peak_memory_is_unknown_without_proc(monkeypatch):
    monkeypatch.setattr(benchmark.Path, "exists", lambda path: False)
    assert benchmark.peak_memory(work_of_100_mb) is None


def test_peak_memory_sees_what_is_freed_again():
    measured = benchmark.in_child(benchmark.peak_memory, work_of_100_mb)
    assert measured is None or 90 < measured < 200  # None where the system does not tell


@pytest.mark.parametrize("name", benchmark_sides.HEADS)
def test_every_head_runs_and_leaves_a_gradient(name):
    labels, x = benchmark_sides.head_batch(12)
    benchmark_sides.head_loss(name, 12, labels, x)()
    assert x.grad is not None and x.grad.shape == (benchmark_sides.HEAD_BATCH, benchmark_sides.HEAD_DIM)
    assert torch.isfinite(x.grad).all() and x.grad.any()


def test_the_users_pick_trains():
    images = torch.randint(0, 256, (256, 1, 28, 28), dtype=torch.uint8)
    labels = torch.arange(256) % 4
    data = Dataset("toy", "", "", images, labels, images[:4], labels[:4], tuple("abcd"))
    pick = benchmark_sides.users_pick(data, (4, 4, 4), 2, 2, True)
    assert pick(3) > 0


def test_time_to_accuracy_is_that_of_the_stored_budgets(command, monkeypatch, tmp_path):
    for epochs, accuracy in ((5, 0.9), (2, 0.8)):
        name = "mnist-arcface-512d-seed0" + ("-epochs=2" if epochs == 2 else "")
        facts = facts_of(dim=512, epochs=epochs, accuracy=accuracy, train_seconds=2.0 * epochs, part="budget")
        write_json(tmp_path / f"{name}.json", facts)
    monkeypatch.setattr(benchmark, "STORE", tmp_path / "benchmark.json")
    monkeypatch.setattr(benchmark, "in_child", lambda work, *arguments: work(*arguments))
    done = command(benchmark.main, "accuracy", "--store", tmp_path / "benchmark.json")
    assert done.status == 0 and "left out cifar10: no ArcFace runs" in done.out
    found = read_json(tmp_path / "benchmark.json")["accuracy"]
    assert [(one["epochs"], one["seconds"], one["accuracy"]) for one in found["mnist"]] == [(2, 4, 80), (5, 10, 90)]
    assert {"torchvision", "pytorch-metric-learning", "torch"} <= benchmark.machine().keys()


def test_what_is_not_there_to_measure_is_left_out_and_older_figures_stay(command, monkeypatch, tmp_path):
    store = tmp_path / "benchmark.json"
    store.write_text('{"evaluation": {"mnist": 1}}')
    monkeypatch.setattr(benchmark, "ROOT", tmp_path)
    monkeypatch.setattr(benchmark, "in_child", lambda work, *arguments: work(*arguments))
    done = command(benchmark.main, "evaluation", "--store", store)
    assert done.status == 0 and "left out the evaluation: no finished run" in done.out
    assert json.loads(store.read_text()) == {"evaluation": {"mnist": 1}}
    monkeypatch.setattr(benchmark_sides, "our_trainer", lambda name, *_: 1 / 0 if name == "mnist" else fail(name))
    with pytest.raises(ZeroDivisionError):  # a defect is no missing data set
        list(benchmark.trainers("data"))
    monkeypatch.setattr(benchmark_sides, "our_trainer", lambda name, *_: name if name == "mnist" else fail(name))
    assert list(benchmark.trainers("data")) == [("mnist", "mnist")]


def test_runs_that_cannot_be_timed_are_left_out_and_the_others_left_as_they_are(command, monkeypatch, tmp_path):
    for name in ("a-odd", "b-own", "c-small", "d-part", "e", "f"):
        (tmp_path / "runs" / name).mkdir(parents=True)
    of = {"a-odd": {}, "b-own": facts_of(dim=512, dataset="folder"), "c-small": facts_of(dim=2),
          "d-part": facts_of(dim=512, validation=0.1), "e": facts_of(dim=512, train_images=7)}  # fmt: skip
    for name, facts in of.items():
        write_json(tmp_path / "runs" / name / "metrics.json", facts)

    def once(folder, data_dir):
        if folder.endswith("e"):
            raise DataError("no data here")
        return 1.5, None

    write_json(tmp_path / "runs" / "f" / "metrics.json", facts_of(dim=512, dataset="cifar10", train_images=7))
    monkeypatch.setattr(benchmark, "ROOT", tmp_path)
    monkeypatch.setattr(benchmark, "evaluate_once", once)
    monkeypatch.setattr(benchmark, "in_child", lambda work, *arguments: work(*arguments))
    done = command(benchmark.main, "evaluation", "--store", tmp_path / "b.json")
    assert done.status == 0 and done.out.count("left out") == 1 and "runs/e: no data here" in done.out, done.err
    found = read_json(tmp_path / "b.json")["evaluation"]
    assert found["cifar10"]["seconds"] == 1.5 and "mnist" not in found and "folder" not in found


def test_a_run_whose_evaluation_is_timed_keeps_its_figures(finished_run, tiny_data):
    before = content_and_times(finished_run)
    seconds, _ = benchmark.evaluate_once(str(finished_run), tiny_data)
    assert seconds > 0 and content_and_times(finished_run) == before


def fail(name: str):
    raise DataError(f"no {name}")


def test_a_script_that_fails_while_it_is_timed_is_one_line(command, monkeypatch, tmp_path):
    (tmp_path / "train.py").write_text("import sys; sys.exit('train.py: error: no such thing')")
    monkeypatch.setattr(benchmark, "ROOT", tmp_path)
    monkeypatch.setattr(benchmark, "in_child", lambda work, *arguments: work(*arguments))
    done = command(benchmark.main, "commands", "--store", tmp_path / "b.json")
    assert_refused(done, "train.py --help failed: train.py: error: no such thing")


def test_an_unknown_part_is_one_line(command):
    done = command(benchmark.main, "colour")
    assert done.status == 2 and "colour" in done.err and "throughput" in done.err and len(done.err.splitlines()) == 1


def test_a_part_measured_again_keeps_the_others(command, tmp_path, monkeypatch):
    store = tmp_path / "benchmark.json"
    store.write_text(json.dumps({"head": {"kept": 1}}))
    monkeypatch.setattr(benchmark, "in_child", lambda work, *arguments: {"train.py --help": 1.25})
    done = command(benchmark.main, "commands", "--store", store)
    assert done.status == 0 and "1.25 s" in done.out, done.err
    found = json.loads(store.read_text())
    assert found["head"] == {"kept": 1} and found["commands"]["train.py --help"] == 1.25
    assert found["commands"]["machine"]["torch"] == torch.__version__


def test_memory_is_counted_by_what_the_allocator_hands_out():
    """A linear layer's forward and backward pass holds at most the gradient of the weights, that of the embeddings, the
    logits' and what their softmax keeps, an array like the logits; the batch's 256 rows have 512 dimensions."""
    classes, rows, dim = 3000, benchmark_sides.HEAD_BATCH, benchmark_sides.HEAD_DIM
    before = benchmark.in_child(benchmark.allocated, "linear", classes)
    arrays = 4 * (classes * dim + rows * dim + rows * classes) / 2**20
    assert arrays - 4 * rows * dim / 2**20 < before < arrays + 4 * rows * classes / 2**20 + 0.1
    assert benchmark.in_child(benchmark.allocated, "linear", classes) == before


def test_a_measurement_killed_for_lack_of_memory_is_one_clear_line():
    with pytest.raises(RunError, match="was killed, probably for lack of memory"):
        benchmark.in_child(die)
