"""Runs cut off by a signal, a full disk or a lost folder: one clear line, and --resume ends as if undisturbed."""

import contextlib
import io
import itertools
import os
import secrets
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import devices
import evaluate
import options
import runs
import train
import trainer
from checkpoints import load_checkpoint
from command_helpers import assert_refused
from training_helpers import STEPS, assert_same, at_step, everything, full_disk, interrupt

ROOT = Path(__file__).resolve().parent.parent
SCRIPT = ["import os, signal, sys, recipes, torch, train", "from trainer import Trainer", "torch.set_num_threads(1)",
          "signal.signal(signal.SIGINT, signal.default_int_handler)",  # a job in the background may inherit it ignored
          "recipes.BASE['folder']['widths'] = (8, 8, 8)"]  # fmt: skip


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


def test_a_checkpoint_is_loaded_on_the_cpu_whatever_the_device(train_tiny, unfinished, monkeypatch):
    """Adam's step counts stay where they are loaded: from a GPU it would have to fetch them at each step."""
    precision, seen = devices.pick_precision("auto", "auto"), []

    class OnGpu:
        def __init__(self, settings, dataset, device):
            assert device.type == "cuda"

        def load_state(self, state, fingerprint):
            seen.extend(kept["step"].device.type for kept in state["optimizer"][1]["state"].values())
            raise KeyboardInterrupt

    monkeypatch.setattr(options, "pick_precision", lambda *_: precision)
    monkeypatch.setattr(devices, "pick_device", lambda _: "cuda:0")
    monkeypatch.setattr(devices, "describe_device", str)
    monkeypatch.setattr("trainer.Trainer", OnGpu)
    assert train_tiny(unfinished, "--name", "run", "--resume").status == 130
    assert seen and set(seen) == {"cpu"}


def test_a_killed_process_leaves_a_run_to_resume(train_tiny, uninterrupted, tmp_path, tiny_data):
    kill = ["steps, real = iter(range(99)), Trainer.step", "def step(*args):",
            f"    if next(steps) == {STEPS + 3}: os.kill(os.getpid(), signal.SIGKILL)", "    return real(*args)",
            "Trainer.step = step", "sys.exit(train.main())"]  # fmt: skip
    words = ["--dataset", "folder", "--data-dir", tiny_data, "--image-size", 16, "--loss", "arcface", "--name", "run"]
    words += ["--embedding-dim", 4, "--epochs", 3, "--batch-size", 16, "--output-dir", tmp_path]
    script = [sys.executable, "-c", "\n".join(SCRIPT + kill), *map(str, words)]
    killed = subprocess.run(script, cwd=ROOT, capture_output=True, text=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert train_tiny(tmp_path, "--name", "run", "--resume").status == 0
    assert_same(everything(tmp_path / "run"), uninterrupted("arcface"))


def test_a_run_killed_before_its_first_file_resumes(train_tiny, uninterrupted, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / partial_of("config.json", 999_999_999)).write_text('{"settings": {')
    assert train_tiny(tmp_path, "--name", "run", "--resume").status == 0
    assert_same(everything(tmp_path / "run"), uninterrupted("arcface"))
    assert len(list((tmp_path / "run").iterdir())) == 6


def test_runs_killed_at_random_moments_end_as_the_undisturbed_one():
    script = [sys.executable, str(ROOT / "tests" / "kill_runs.py"), "--kills", "3"]
    done = subprocess.run(script, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr + done.stdout
    assert "3 kills" in done.stdout and " 0 did not" in done.stdout and " 0 damaged" in done.stdout


def test_every_file_of_a_run_can_be_aimed_at():
    code = """import sys; sys.path.insert(0, "tests")
import checkpoints, data_folders, kill_runs, runs
kill_runs.tell_phases()
print({module.write_whole is runs.write_whole for module in (checkpoints, data_folders)}, runs.write_whole.__name__)"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout == "{True} told\n", done.stderr


def test_two_processes_do_not_train_in_one_folder(train_tiny, uninterrupted, tmp_path, monkeypatch):
    seen = []
    at_step(monkeypatch, STEPS + 2, lambda: seen.extend(
        train_tiny(tmp_path, "--name", "run", flag) for flag in ("--resume", "--overwrite")))  # fmt: skip
    assert train_tiny(tmp_path, "--name", "run").status == 0
    for done in seen:
        assert_refused(done, "another process is at work", tmp_path / "run", "--name")
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
    lines = ["steps, real = iter(range(99)), Trainer.step", "def step(*args):",
             f"    if next(steps) == {STEPS + 3}: os.kill(os.getpid(), signal.SIGINT)", "    return real(*args)",
             "Trainer.step = step"]  # fmt: skip
    cut = in_a_process(lines, words_of(tmp_path, tiny_data), stdout=subprocess.DEVNULL)
    assert cut.returncode == 130 and "--resume" in cut.stderr and "Traceback" not in cut.stderr
    assert train_tiny(tmp_path, "--name", "run", "--resume").status == 0
    assert_same(everything(tmp_path / "run"), uninterrupted("arcface"))


def test_a_real_limit_on_what_may_be_written_is_one_clear_line(train_tiny, uninterrupted, tmp_path, tiny_data):
    lines = ["import resource, checkpoints", "real = checkpoints.save_checkpoint", "def save(path, content):",
             "    if content['epoch'] == 2: resource.setrlimit(resource.RLIMIT_FSIZE, (9000, 9000))",
             "    real(path, content)", "train.save_checkpoint = save"]  # fmt: skip
    done = in_a_process(lines, words_of(tmp_path, tiny_data), stdout=subprocess.DEVNULL)
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and "File too large" in done.stderr
    assert "checkpoint.pt" in done.stderr and load_checkpoint(tmp_path / "run" / "checkpoint.pt")["epoch"] == 1
    assert train_tiny(tmp_path, "--name", "run", "--resume").status == 0
    assert_same(everything(tmp_path / "run"), uninterrupted("arcface"))


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-"])
def test_closed_output_is_no_reason_to_stop(closed, tmp_path):
    words = f'"{sys.executable}" experiments.py --dry-run --only "drawn mnist-arcface-2d" --results-dir "{tmp_path}"'
    done = subprocess.run(f"{words} {closed}", shell=True, cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert ("runs to do" in done.stdout) == (closed == "2>&-")


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


def partial_of(name: str, pid: int) -> str:
    """What `write_whole` calls a file that process `pid` of this machine has begun."""
    return f".{name}.{runs._machine()}-{pid}-0.partial"


def test_a_link_in_the_way_of_a_file_is_not_written_through(tmp_path, monkeypatch):
    (tmp_path / "mine").write_text("mine")
    monkeypatch.setattr(secrets, "token_hex", lambda size: "0")
    (tmp_path / partial_of("file", os.getpid())).symlink_to(tmp_path / "mine")
    with pytest.raises(runs.RunError, match="File exists"):
        runs.write_whole(tmp_path / "file", b"new")
    assert (tmp_path / "mine").read_text() == "mine" and not (tmp_path / "file").exists()


def test_two_processes_that_write_one_file_leave_it_whole(tmp_path, monkeypatch):
    """A second process writes the same file while the first is about to put its own in place."""
    path, real = tmp_path / "file", os.fsync

    def fsync(file):
        real(file)
        code = f"import runs, pathlib; runs.write_whole(pathlib.Path({str(path)!r}), b'second')"
        done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert path.read_bytes() == b"second"

    monkeypatch.setattr(os, "fsync", fsync)
    runs.write_whole(path, b"first")
    assert path.read_bytes() == b"first" and [p.name for p in tmp_path.iterdir()] == ["file"]


def test_what_is_left_of_a_dead_process_goes_and_what_a_live_one_is_writing_stays(tmp_path):
    away = ".file.00000000-999999999-0.partial"  # another machine's: nobody can tell but by its age
    names = [partial_of("file", pid) for pid in (999_999_999, os.getppid(), os.getpid())]
    for name in (*names, away):
        (tmp_path / name).write_bytes(b"half")
    runs.write_whole(tmp_path / "file", b"new")
    assert {p.name for p in tmp_path.iterdir()} == {"file", *names[1:], away}
    for name in (*names[1:], away):
        os.utime(tmp_path / name, (0, 0))
    runs.write_whole(tmp_path / "file", b"new")
    assert {p.name for p in tmp_path.iterdir()} == {"file", names[1]}


def test_two_machines_whose_processes_share_a_number_leave_one_file_whole(tmp_path, monkeypatch):
    """Containers number their processes from 1: a second one writes while the first is at it."""
    path, real = tmp_path / "file", os.fsync

    def fsync(file):
        monkeypatch.setattr(os, "fsync", real)
        runs.write_whole(path, b"second")
        real(file)

    monkeypatch.setattr(os, "fsync", fsync)
    runs.write_whole(path, b"first")
    assert path.read_bytes() == b"first" and [p.name for p in tmp_path.iterdir()] == ["file"]


def test_a_run_that_another_process_finishes_meanwhile_is_left_as_it_is(train_tiny, tmp_path, monkeypatch):
    real, found = train.sole_use, {}

    @contextlib.contextmanager
    def sole_use(folder):
        monkeypatch.setattr(train, "sole_use", real)
        assert train_tiny(tmp_path, "--name", "run").status == 0  # the other process, before this one has its lock
        found.update(everything(folder))
        with real(folder):
            yield

    monkeypatch.setattr(train, "sole_use", sole_use)
    done = train_tiny(tmp_path, "--name", "run")
    assert done.status == 0 and "finished meanwhile" in done.out
    assert_same(everything(tmp_path / "run"), found)


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


def test_a_run_tells_of_every_device_that_it_was_trained_on(unfinished, train_tiny, monkeypatch):
    first = load_checkpoint(unfinished / "run" / "checkpoint.pt")["devices"]
    monkeypatch.setattr(trainer, "describe_device", lambda device: "cpu, 99 threads")
    assert train_tiny(unfinished, "--name", "run", "--resume").status == 0
    assert runs.read_json(unfinished / "run" / "metrics.json")["device"] == f"{first[0]} and cpu, 99 threads"


def stopped_measuring(*_):
    raise KeyboardInterrupt


def out_of_memory(*_):
    raise MemoryError


def full_gpu(*_):
    raise RuntimeError("CUDA error: out of memory")


@pytest.mark.parametrize(("measuring", "status"), [(stopped_measuring, 130), (out_of_memory, 2), (full_gpu, 2)])
def test_a_run_that_cannot_be_measured_is_trained_all_the_same(train_tiny, tmp_path, monkeypatch, measuring, status):
    monkeypatch.setattr(evaluate, "evaluate_arrays", measuring)
    done = train_tiny(tmp_path, "--name", "run")
    way = f"python evaluate.py {tmp_path / 'run'}"
    assert done.status == status and way in done.err and "--resume" not in done.err and "--batch-size" not in done.err
    assert f"run folder: {tmp_path / 'run'}" in done.out and done.err.strip().count("\n") == 0


def test_a_class_that_was_renamed_makes_another_run(train_tiny, make_data, tmp_path):
    data = make_data(tmp_path / "data")
    assert train_tiny(tmp_path / "runs", "--name", "run", data=data).status == 0
    for part in ("train", "test"):
        (data / part / "disc").rename(data / part / "disk")
    done = train_tiny(tmp_path / "runs", "--name", "run", data=data)
    assert_refused(done, "other classes (disc is now disk)", "--overwrite")
