"""Kill training runs with SIGKILL at random moments, resume them, and compare with a run that nothing disturbed:

    python tests/kill_runs.py [--kills 30] [--seed 0]

The runs are train.py's own, on a quarter of the embedded MNIST digits with a short net, each in a process of its own
that shares one byte with this one: what it is doing. Half of the kills come at any moment, half while the run is at
something chosen beforehand, so that short moments, a file being written, are met too. Every run goes on with --resume
until finished; its weights, history, metrics and embeddings must then be those of the undisturbed run to the last bit,
but for times. The study's store gets the same. Prints where the kills fell; exit status 1 when anything differs.
"""

import argparse
import contextlib
import json
import mmap
import os
import random
import shutil
import signal
import struct
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import numpy as np
import torch

import data_files
import evaluate
import experiments
import recipes
import runs
import study_store
import train
from study import Run
from trainer import Trainer
from training_helpers import assert_same, everything

EPOCHS, PART = 3, 4  # every fourth digit
recipes.BASE["mnist"]["widths"] = (8, 16, 32)  # a short net: a run takes a second or two
PHASES = (
    "before the first file", "a training step", "between steps", "writing config.json", "writing history.csv",
    "writing checkpoint.pt", "embedding the test images", "writing embeddings.npz", "writing metrics.json",
    "measuring", "writing curves.json", "writing metrics.json again",
)  # fmt: skip
DOING = mmap.mmap(-1, 1)  # the number of the phase that the child is in
STORE_KILLS = 20


# ------------------------------------------------------------------------------------- the child's side


def phase(name: str, function: Callable) -> Callable:
    """The function, telling while it runs that the child is in this phase."""

    def told(*args, **kwargs):
        before, DOING[0] = DOING[0], PHASES.index(name)
        try:
            return function(*args, **kwargs)
        finally:
            DOING[0] = before

    return told


def tell_phases() -> None:
    """Wrap what a run does, in this process."""
    write = runs.write_whole
    writers = [module for module in list(sys.modules.values()) if getattr(module, "write_whole", None) is write]

    def told(path, content):
        again = " again" if path.name == "metrics.json" and path.exists() else ""
        phase(f"writing {path.name}{again}", write)(path, content)
        if DOING[0] == 0:
            DOING[0] = PHASES.index("between steps")  # from the first file on

    for module in writers:  # each has a name of its own for it
        module.write_whole = told
    Trainer.step = phase("a training step", Trainer.step)
    Trainer.embed = phase("embedding the test images", Trainer.embed)
    evaluate.evaluate_run = phase("measuring", evaluate.evaluate_run)


def start(work: Callable[[], int]) -> int:
    """Do the work in a process of its own, silently; returns its id. A failure's last words go to standard error."""
    child = os.fork()
    if child:
        return child
    status = 3
    try:
        with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
            status = work()
    finally:
        os._exit(status)


def training(data: Path, output: Path, *flags: str) -> int:
    """train.py's command line, in a child; returns its id."""
    DOING[0] = 0
    words = ["--dataset", "mnist", "--loss", "arcface", "--data-dir", data, "--output-dir", output, "--name", "run"]
    words += ["--epochs", EPOCHS, "--device", "cpu", "--no-progress"]

    def work() -> int:
        tell_phases()
        sys.argv = ["train.py", *map(str, words), *flags]
        return train.main()

    return start(work)


# ------------------------------------------------------------------------------------- the killer's side


def ended(child: int) -> int | None:
    """The child's exit status, negative for a signal, or None while it runs."""
    done, status = os.waitpid(child, os.WNOHANG)
    return os.waitstatus_to_exitcode(status) if done else None


def kill_within(child: int, seconds: float, wanted: int | None, chance: random.Random) -> str | None:
    """Kill the child at a random moment; returns what it was doing, or None when it was done before.

    Without `wanted` that is any moment of so many seconds. With it, a moment after it has begun that phase, once or a
    few times: the files are written within milliseconds.
    """
    deadline = time.monotonic() + (chance.uniform(0, seconds) if wanted is None else 20 * seconds)
    skipped, inside = chance.randrange(4), False
    while time.monotonic() < deadline:
        time.sleep(0.0003)
        if wanted is not None and (DOING[0] == wanted) != inside:
            inside = not inside
            skipped -= inside
            if (inside and skipped < 0) or PHASES[wanted] in ("writing config.json", "before the first file"):
                pause = time.monotonic() + chance.uniform(0, 0.004)
                while DOING[0] == wanted and time.monotonic() < pause:
                    pass
                break
        if ended(child) is not None:
            return None
    doing = DOING[0]
    os.kill(child, signal.SIGKILL)
    return PHASES[doing] if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL else None


def write_digits(folder: Path) -> Path:
    """Some of the embedded digits as IDX files, so that no run looks for a network."""
    folder.mkdir()
    for name, array in zip(data_files.IDX_FILES, data_files.read_embedded_digits(), strict=True):
        array = (array[:, 0] if array.ndim == 4 else array.astype(np.uint8))[::PART]
        header = struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
        (folder / name).write_bytes(header + array.tobytes())
    return folder


def kill_training(scratch: Path, kills: int, chance: random.Random) -> list[str]:
    """Kill runs so many times, finish and compare each; prints where the kills fell, returns what went wrong."""
    data = write_digits(scratch / "digits")
    began = time.monotonic()
    if os.waitstatus_to_exitcode(os.waitpid(training(data, scratch / "whole"), 0)[1]):
        return ["the undisturbed run failed"]
    seconds = time.monotonic() - began
    whole = everything(scratch / "whole" / "run")
    places: Counter[str] = Counter()
    halves = finished = 0
    wrong: list[str] = []
    while sum(places.values()) < kills and not wrong:
        output = scratch / "killed"
        shutil.rmtree(output, ignore_errors=True)
        aim = chance.randrange(1, 6)  # kills in this run, before it may finish
        while True:
            flags = ["--resume"] if (output / "run").exists() else []
            child = training(data, output, *flags)
            count = sum(places.values())
            if not aim or count == kills:
                status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
                break
            possible = [i for i, name in enumerate(PHASES) if not (flags and name == "writing config.json")]
            unmet = [i for i in possible if not places[PHASES[i]]] or possible
            place = kill_within(child, seconds, chance.choice(unmet) if count % 2 else None, chance)
            if place is None:
                status = 0 if (output / "run" / "metrics.json").exists() else 3
                break
            aim -= 1
            places[place] += 1
            print(f"killed: {place}", flush=True)
            halves += any((output / "run").glob(".*.partial")) if (output / "run").exists() else 0
        try:
            if status:
                raise AssertionError(f"exit status {status}")
            assert_same(everything(output / "run"), whole)
            finished += 1
        except (AssertionError, runs.RunError) as error:
            wrong.append(f"a run killed {sum(places.values())} times in all differs: {error}")
    for name in PHASES:
        print(f"  {places[name]:3} killed in: {name}")
    print(f"{sum(places.values())} kills, {halves} of them left a half-written file; {finished} runs finished as the "
          f"undisturbed one, {len(wrong)} did not")  # fmt: skip
    return wrong


def kill_store(scratch: Path, kills: int, chance: random.Random) -> list[str]:
    """Kill experiments.py while it stores a run and rewrites the README; returns what is not whole afterwards."""
    experiments.RESULTS, experiments.ROOT = scratch / "results", scratch
    readme = scratch / "README.md"
    readme.write_text("Title\n{}\n{}\nEnd\n".format(*experiments.MARKS))
    run = Run("drawn", "mnist", "arcface", 2)
    name, places = run.name(), study_store.Places(scratch / "runs", scratch / "data", scratch / "results")
    shutil.copytree(scratch / "whole" / "run", scratch / "runs" / name)
    for file in ("metrics.json",):  # as from a run in two dimensions, whose embeddings are stored too
        facts = runs.read_json(scratch / "runs" / name / file)
        runs.write_json(scratch / "runs" / name / file, {**facts, "embedding_dim": 2})

    def work() -> int:
        while True:
            study_store.collect(run, places)
            experiments.write_readme()

    wrong, left = [], Counter()
    for _ in range(kills):
        child = start(work)
        time.sleep(chance.uniform(0.02, 0.3))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        for _ in scratch.glob("results/.*.partial"):
            left["results"] += 1
        left["README.md"] += any(scratch.glob(".README.md.*.partial"))
        try:
            for path in (scratch / "results").glob("[!.]*.json"):
                json.loads(path.read_text())
            for path in (scratch / "results").glob("[!.]*.npz"):
                runs.read_arrays(path)
            text = readme.read_text()
            assert text.startswith("Title\n") and text.endswith("\nEnd\n") and all(m in text for m in experiments.MARKS)
        except (AssertionError, ValueError, runs.RunError) as error:
            wrong.append(f"the store is damaged: {error}")
    study_store.collect(run, places)
    experiments.write_readme()
    if any(path.name.startswith(".") for path in (scratch / "results").iterdir()):
        wrong.append("a half-written file stayed in the store")
    print(f"store: {kills} kills, {sum(left.values())} of them left a half-written file; {len(wrong)} damaged")
    return wrong


def main() -> int:
    """The command line: returns the exit status."""
    parser = argparse.ArgumentParser(description="Kill training runs, resume them and compare.")
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    flags = parser.parse_args()
    torch.set_num_threads(1)
    chance = random.Random(flags.seed)
    with tempfile.TemporaryDirectory() as folder:
        wrong = kill_training(Path(folder), flags.kills, chance)
        wrong = wrong or kill_store(Path(folder), min(flags.kills, STORE_KILLS), chance)
    for line in wrong:
        print(line, file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
