"""One run of the study: trained by train.py in a process of its own, and what figures and report need of it stored.

NAME.json holds metrics, history and the part of the study. NAME.npz, which sensitivity and budget runs do without,
holds ROC points and pair-angle counts (`test_*`, `unseen_*`), counts of the target angles in whole degrees after each
epoch (`train_angles`, `test_angles` [epochs + 1, 180]) and, in two and three dimensions, the test embeddings and
snapshots.
"""

import atexit
import contextlib
import csv
import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np

from errors import UserError, one_line
from metrics import near_chance
from runs import (
    AGAIN,
    BAD_CONTENT,
    DRAWABLE,
    SNAPSHOTS,
    RunError,
    check_archive,
    read_arrays,
    read_json,
    write_arrays,
    write_json,
)
from study import Run, where

ROOT = Path(__file__).resolve().parent
FAILED = "failed.json"  # what train.py leaves of a run that diverged: an outcome, unlike a full disk or missing data
WITHOUT_ARRAYS = ("sensitivity", "budget")  # parts of the study
RUNNING: set[subprocess.Popen] = set()


class Places(NamedTuple):
    """Where the runs go, where the data are, where results are stored; threads: of each run, None: its own choice."""

    output_dir: Path
    data_dir: Path
    results: Path
    threads: int | None = None


def differing(stored: dict, settings: dict, ignored: tuple[str, ...] = ()) -> list[str]:
    """Names of the settings in which a record differs; a scale that the loss finds itself is an outcome, not one."""
    own_scale = ("scale",) if settings["scale"] is None else ()
    return [k for k, v in settings.items() if k not in (*ignored, *own_scale) and stored.get(k) != v]


def stored_state(run: Run, results: Path) -> str:
    """'stored', 'failed: REASON' (stored as such), 'outdated' (the study would now run other settings), 'missing' or
    'damaged' (of its arrays).

    Precision follows the machine, so it makes no result outdated.
    """
    try:
        facts = read_json(where(results, run))
    except RunError:
        return "missing"
    if "part" not in facts or differing(facts, run.settings(), ("precision",)):
        return "outdated"
    if "failed" in facts:
        return f"failed: {facts['failed']}"
    try:
        if run.part not in WITHOUT_ARRAYS:
            check_archive(where(results, run).with_suffix(".npz"))
    except Exception:  # damaged files bring up nearly every exception there is
        return "damaged"
    return "stored"


def command(run: Run, places: Places, again: bool) -> list[str]:
    """The call of train.py that brings a run's folder to its end, resumed where it was cut off."""
    words = [sys.executable, str(ROOT / "train.py"), *run.flags(), "--name", run.name(), "--no-progress"]
    words += ["--output-dir", str(places.output_dir), "--data-dir", str(places.data_dir)]
    words += ["--snapshots"] if run.snapshots() else []
    folder = places.output_dir / run.name()
    if not (folder / "config.json").exists():
        return words
    with contextlib.suppress(RunError, *BAD_CONTENT):
        found = read_json(folder / "config.json")["settings"]
        # A machine's own precision makes it no other run: it goes on in the one it was begun in.
        fits = not again and not differing(found, run.settings(found["dataset"]), ("precision",))
        if fits and ((folder / SNAPSHOTS).is_dir() or not run.snapshots()):
            ended = (folder / "metrics.json").exists() or (folder / FAILED).exists()
            return [*words, "--precision", found["precision"], *([] if ended else ["--resume"])]
    return [*words, "--overwrite"]


def run_one(run: Run, places: Places, again: bool = False) -> str | None:
    """Train and store one run; returns what went wrong and may go right next time, or None.

    A run that diverged is stored as failed, unless a finished one of the same settings is stored already.
    """
    environment = dict(os.environ)
    if places.threads:
        environment.setdefault("OMP_NUM_THREADS", str(places.threads))
    try:
        status, said = _call(command(run, places, again), environment)
        if status == 0:
            collect(run, places)
            return None
        if not (places.output_dir / run.name() / FAILED).exists():
            return said or f"train.py ended with status {status}"
        if again and stored_state(run, places.results) == "stored":
            return f"{said}; the finished result stored before is kept"
        store_failure(run, places)
    except (UserError, OSError) as error:
        return one_line(str(error))
    return None


def _call(words: list[str], environment: dict[str, str]) -> tuple[int, str]:
    """Exit status and last line on stderr of a process, which ends with this one if that is stopped."""
    with subprocess.Popen(words, stderr=subprocess.PIPE, text=True, env=environment) as process:
        RUNNING.add(process)
        try:
            lines = process.communicate()[1].strip().splitlines()
        except BaseException:  # stopped while waiting: a SIGTERM to this process has not reached the training
            process.terminate()
            raise
        finally:
            RUNNING.discard(process)
    return process.returncode, (lines or [""])[-1]


@atexit.register
def stop_running() -> None:
    """End the trainings still going on; their finished epochs are kept."""
    for process in list(RUNNING):
        process.terminate()


def store_failure(run: Run, places: Places) -> None:
    """Store that a run failed and why, with what its folder's config.json says of it. RunError if that is damaged."""
    folder = places.output_dir / run.name()
    record, reason = read_json(folder / "config.json"), read_json(folder / FAILED).get("error")
    places.results.mkdir(parents=True, exist_ok=True)
    try:
        facts = {name: value for name, value in record.items() if name != "settings"}
        facts |= {**record["settings"], "part": run.part, "failed": reason}
        if differing(facts, run.settings(facts["dataset"]), ("precision",)):
            raise RunError(f"{folder} holds a failed run of other settings: delete it or choose another --output-dir")
        path = stored_as(run, places.results, facts)
        write_json(path, facts | {"history": read_history(folder / "history.csv")})
        path.with_suffix(".npz").unlink(missing_ok=True)  # of an earlier run under this name
    except BAD_CONTENT as error:
        raise RunError(f"{folder} is damaged ({error}): {AGAIN}") from None


def stored_as(run: Run, results: Path, facts: dict) -> Path:
    """Where a result goes: under the name of the data set that was found, which may be the embedded sample."""
    path = where(results, run)
    return path.with_name(facts["dataset"] + path.name.removeprefix(run.dataset))


def collect(run: Run, places: Places) -> None:
    """Store a finished run; one on the embedded sample goes by the sample's name. RunError if its folder is damaged."""
    folder = places.output_dir / run.name()
    facts = read_json(folder / "metrics.json")
    places.results.mkdir(parents=True, exist_ok=True)
    try:
        facts |= {"part": run.part, "history": read_history(folder / "history.csv")}
        if near_chance(facts["test_accuracy"], np.sum(facts["confusion"], axis=1)):  # a row for each true class
            facts["failed"] = f"ended near chance: {100 * facts['test_accuracy']:.1f} % of the test images right"
        path = stored_as(run, places.results, facts)
        if run.part not in WITHOUT_ARRAYS:
            write_arrays(path.with_suffix(".npz"), **small_arrays(folder, facts))
        write_json(path, facts)  # last: it marks the run as stored
    except BAD_CONTENT as error:
        raise RunError(f"{folder} is damaged ({error}): {AGAIN}") from None


def small_arrays(folder: Path, facts: dict) -> dict[str, np.ndarray]:
    """The arrays of NAME.npz (see above) from a run folder; a few hundred kilobytes at most."""
    arrays: dict[str, np.ndarray] = {}
    for part, curves in read_json(folder / "curves.json").items():
        arrays |= {f"{part}_{name}": np.array(curves[name], np.float32) for name in ("far", "tar")}
        arrays |= {f"{part}_{name}": np.array(curves[name], np.int32) for name in ("genuine", "impostor")}
    drawable = facts["embedding_dim"] <= DRAWABLE
    if drawable:
        whole = read_arrays(folder / "embeddings.npz")
        arrays |= {"embeddings": whole["embeddings"].astype(np.float16), "weights": whole["weights"],
                   "labels": whole["labels"].astype(np.uint16)}  # fmt: skip
    snapshots = [read_arrays(path) for path in sorted((folder / SNAPSHOTS).glob("epoch-*.npz"))]
    if len(snapshots) == facts["epochs"] + 1:
        for name in ("train_angles", "test_angles"):
            counts = [np.histogram(s[name], bins=np.arange(181))[0] for s in snapshots]
            arrays[name] = np.array(counts, np.uint16)
        if drawable:
            arrays |= {f"snapshot_{name}": np.stack([s[name] for s in snapshots]) for name in ("embeddings", "weights")}
            arrays["snapshot_labels"] = snapshots[0]["test_labels"]
    return arrays


def read_history(path: Path) -> list[dict[str, float]]:
    """The rows of history.csv, none where there is no such file."""
    if not path.exists():
        return []
    with open(path, newline="", encoding="utf-8") as file:
        return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]
