"""Fixtures of several test files: a real but tiny data set, and the commands run on it in this process.

A training takes a fraction of a second. Plain functions that several files use are in the *_helpers.py beside this.
"""

import io
import os
import shutil
import signal
import sys
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from PIL import Image

import recipes

for module in Path(__file__).parent.glob("*_helpers.py"):
    pytest.register_assert_rewrite(module.stem)  # a failed assert there, too, shows the values

CLASSES = ("bars", "checks", "disc", "slopes")
PER_CLASS = {"train": 24, "test": 8}
SIZE = 16

# On tensors this small a second thread costs more than it gives, here and in the processes that tests start.
torch.set_num_threads(1)
os.environ["OMP_NUM_THREADS"] = "1"


class Outcome(NamedTuple):
    """What a command line did."""

    status: int
    out: str
    err: str


def picture(kind: str, rng: np.random.Generator) -> np.ndarray:
    """One noisy picture, uint8 [size, size, 3], of a class that mirroring and small shifts do not change."""
    size = int(rng.integers(SIZE, SIZE + 5))
    y, x = np.mgrid[:size, :size]
    phase = rng.integers(0, 6)
    mask = {
        "bars": (y + phase) // 3 % 2,
        "checks": ((x + phase) // 3 + y // 3) % 2,
        "disc": np.hypot(x - size / 2, y - size / 2) < rng.uniform(0.25, 0.4) * size,
        "slopes": y / size,
    }[kind]
    dark, light = rng.integers(0, 70, 3), rng.integers(160, 256, 3)
    pixels = dark + (light - dark) * np.asarray(mask, float)[:, :, None] + rng.normal(0, 10, (size, size, 3))
    return pixels.clip(0, 255).astype(np.uint8)


def write_pictures(folder: Path, part: str, kind: str, seed: int) -> None:
    """PER_CLASS[part] pictures of one class, in folder/part/kind/."""
    rng = np.random.default_rng([seed, part == "test", CLASSES.index(kind)])
    (folder / part / kind).mkdir(parents=True, exist_ok=True)
    for i in range(PER_CLASS[part]):
        Image.fromarray(picture(kind, rng)).save(folder / part / kind / f"{i:02}.png")


@pytest.fixture(scope="session")
def make_data() -> Callable:
    """make_data(folder, new=...): writes the tiny data set; `new` names (part, class) pairs to draw differently."""

    def make(folder: Path, new: tuple = ()) -> Path:
        for part in PER_CLASS:
            for kind in CLASSES:
                write_pictures(folder, part, kind, seed=1 if (part, kind) in new else 0)
        return folder

    return make


@pytest.fixture(scope="session")
def tiny_data(tmp_path_factory, make_data) -> Path:
    """A class folder of 4 x 24 training and 4 x 8 test pictures; tests only read it."""
    return make_data(tmp_path_factory.mktemp("pictures"))


@pytest.fixture(scope="session")
def command() -> Callable:
    """command(main, *arguments): runs a script's main() as its command line would, with a net of 8 channels."""

    def run(main: Callable[[], int], *arguments: object) -> Outcome:
        out, err = io.StringIO(), io.StringIO()
        with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
            patch.setattr(sys, "argv", ["script", *map(str, arguments)])
            patch.setitem(recipes.BASE["folder"], "widths", (8, 8, 8))
            try:
                status = main()
            except SystemExit as end:
                status = end.code
        return Outcome(status, out.getvalue(), err.getvalue())

    return run


@pytest.fixture(scope="session")
def train_tiny(command, tiny_data) -> Callable:
    """train_tiny(output_dir, *flags): train.py on the tiny data set; later flags win over the ones set here."""
    import train

    def run(output_dir: Path, *flags: object, loss: str = "arcface", data: Path | None = None) -> Outcome:
        small = ["--dataset", "folder", "--data-dir", data or tiny_data, "--image-size", SIZE, "--loss", loss]
        small += ["--embedding-dim", 4, "--epochs", 3, "--batch-size", 16, "--output-dir", output_dir]
        small += ["--device", "cpu"]  # where the same run has the same bits
        return command(train.main, *small, *flags)

    return run


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory, train_tiny) -> Path:
    """The folder of one finished arcface run; tests only read it, or copy it."""
    output_dir = tmp_path_factory.mktemp("finished")
    done = train_tiny(output_dir, "--name", "run")
    assert done.status == 0, done.err
    return output_dir / "run"


@pytest.fixture
def run(finished_run, tmp_path):
    """A copy of the finished run, to change."""
    shutil.copytree(finished_run, tmp_path / "runs" / "run")
    return tmp_path / "runs" / "run"


@pytest.fixture
def measure(command, tiny_data, tmp_path):
    """measure(*arguments): evaluate.py with its folders in the test's own."""
    import evaluate

    def go(*arguments):
        words = ["--data-dir", tiny_data, "--figures-dir", tmp_path / "figures", "--output-dir", tmp_path / "runs"]
        return command(evaluate.main, *words, *arguments)

    return go


@pytest.fixture
def make_trainer(monkeypatch, tiny_data):
    """make_trainer(*flags): the Trainer of such a run, with its data set and nothing on disk."""
    import options
    import train
    from trainer import Trainer

    monkeypatch.setitem(recipes.BASE["folder"], "widths", (8, 8, 8))

    def make(*flags, loss="arcface", dim=4):
        words = ["--dataset", "folder", "--data-dir", tiny_data, "--image-size", 16, "--loss", loss, "--batch-size", 16]
        parsed = options.parse_flags(list(map(str, [*words, "--embedding-dim", dim, *flags])))
        dataset, _, record = train.prepare(parsed)
        settings = recipes.Settings.from_json(record["settings"])
        return Trainer(settings, dataset, torch.device("cpu")), dataset

    return make


@pytest.fixture(scope="session")
def uninterrupted(tmp_path_factory, train_tiny):
    """uninterrupted(loss): everything a run leaves that nothing disturbed."""
    from training_helpers import everything

    found = {}

    def run(loss):
        if loss not in found:
            output_dir = tmp_path_factory.mktemp("uninterrupted")
            done = train_tiny(output_dir, "--name", "run", loss=loss)
            assert done.status == 0, done.err
            found[loss] = everything(output_dir / "run")
        return found[loss]

    return run


@pytest.fixture
def unfinished(train_tiny, tmp_path):
    """The output folder of a run cut off in its second epoch."""
    from training_helpers import STEPS, at_step, interrupt

    with pytest.MonkeyPatch.context() as patch:
        at_step(patch, STEPS + 1, interrupt)
        assert train_tiny(tmp_path, "--name", "run").status == 130
    return tmp_path


@pytest.fixture
def no_network(monkeypatch):
    """Every download fails at once."""
    import data_files

    def fail(name, data_dir, log):
        raise OSError("no\nnetwork here")

    monkeypatch.setattr(data_files, "_download", fail)


@pytest.fixture
def no_hang():
    """Five minutes for what takes milliseconds: a reader that waits for ever fails its test and not the whole suite."""

    def expired(*_):
        pytest.fail("it hangs")

    before = signal.signal(signal.SIGALRM, expired)
    signal.alarm(300)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture(name="picture")
def noisy_picture(tmp_path):
    """A picture to predict."""
    (tmp_path / "pictures").mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (20, 20, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "pictures" / "a.png")
    return tmp_path / "pictures" / "a.png"


@pytest.fixture
def resume(train_tiny, tmp_path):
    """resume(): train.py --resume on the run, made unfinished."""

    def go():
        (tmp_path / "runs" / "run" / "metrics.json").unlink(missing_ok=True)
        return train_tiny(tmp_path / "runs", "--name", "run", "--resume")

    return go


@pytest.fixture
def places(tmp_path):
    """Where a study keeps its runs, data and results."""
    from study_store import Places

    return Places(tmp_path / "runs", tmp_path / "data", tmp_path / "results")


@pytest.fixture
def fake_train(monkeypatch, places):
    """Runs end as `outcomes` says by name: (status, message), an exception, or else well; returns (calls, outcomes)."""
    import study
    import study_store
    from runs import write_json
    from study_helpers import RUN, begin, finish

    calls, outcomes = [], {}

    def call(words, environment):
        calls.append(words)
        run = next(r for r in [*study.study(), RUN] if r.name() == words[words.index("--name") + 1])
        outcome = outcomes.get(run.name(), (0, ""))
        if isinstance(outcome, Exception):
            raise outcome
        if outcome[0] == 0:
            finish(run, places.output_dir)
        else:
            begin(run, places.output_dir / run.name())
            if "diverged" in outcome[1]:
                write_json(places.output_dir / run.name() / "failed.json", {"error": outcome[1]})
        return outcome

    monkeypatch.setattr(study_store, "_call", call)
    return calls, outcomes
