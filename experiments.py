"""Run the study and collect it: python experiments.py     (--dry-run lists it, --only TEXT picks runs by name)

Each run is one call of train.py in a process of its own, resumed if it was cut off and skipped if it is stored. What
the figures and the report need goes to report/results/: NAME.json (metrics and history), and NAME.npz (test embeddings)
of runs in two and three dimensions.
"""

import csv
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np

from errors import command_line
from losses import LOSSES
from options import Parser
from runs import BAD_CONTENT, RunError, read_arrays, read_json, write_arrays, write_json, write_whole

MARKS = ("<!-- results: written by experiments.py -->", "<!-- end of results -->")
ROOT = Path(__file__).resolve().parent
RESULTS = ROOT / "report" / "results"


class Run(NamedTuple):
    """One run of the study: what train.py is called with. epochs None: the recipe's."""

    dataset: str
    loss: str
    embedding_dim: int
    seed: int
    epochs: int | None = None

    def name(self) -> str:
        return f"{self.dataset}-{self.loss}-{self.embedding_dim}d-seed{self.seed}"

    def flags(self) -> list[str]:
        flags = ["--dataset", self.dataset, "--loss", self.loss, "--embedding-dim", str(self.embedding_dim)]
        return [*flags, "--seed", str(self.seed), *(["--epochs", str(self.epochs)] if self.epochs else [])]


def study() -> list[Run]:
    """All runs, those first that say most: a partial study is already of use."""
    losses = ["arcface", *(loss for loss in LOSSES if loss != "arcface")]
    bars = [Run("mnist", "arcface", 512, seed) for seed in (0, 1, 2)] + [Run("cifar10", "arcface", 512, 0)]
    # Three epochs place the classes in two and three dimensions.
    drawn = [Run("mnist", loss, dim, 0, epochs=3) for dim in (2, 3) for loss in losses]
    # Seven of the recipe's ten epochs: what two cores get through in an hour.
    compared = [Run("cifar10", loss, 512, 0, epochs=7) for loss in losses[1:]]
    return bars + drawn + compared + [Run("mnist", loss, 512, 0) for loss in losses[1:]]


def collect(folder: Path) -> None:
    """Store a finished run's numbers in report/results/; the JSON, last, marks it as stored. RunError if damaged."""
    facts = read_json(folder / "metrics.json")
    try:
        with open(folder / "history.csv", newline="", encoding="utf-8") as file:
            facts["history"] = [{k: float(v) for k, v in row.items()} for row in csv.DictReader(file)]
        if not facts["history"]:
            raise ValueError("no history")
        RESULTS.mkdir(parents=True, exist_ok=True)
        if facts["embedding_dim"] <= 3:
            arrays = read_arrays(folder / "embeddings.npz")
            write_arrays(RESULTS / f"{folder.name}.npz", embeddings=arrays["embeddings"].astype(np.float16),
                         labels=arrays["labels"].astype(np.uint8), weights=arrays["weights"])  # fmt: skip
        write_json(RESULTS / f"{folder.name}.json", facts)
    except BAD_CONTENT as error:
        raise RunError(f"{folder} is damaged ({error}): train that run again with --overwrite") from None
    note_failure(folder)


def note_failure(folder: Path) -> None:
    """Keep report/results/failed.json, {run: reason}, as run folder `folder` has it: a diverged run is a result too."""
    store, failed = RESULTS / "failed.json", folder / "failed.json"
    before = read_json(store) if store.exists() else {}
    after = {name: reason for name, reason in before.items() if name != folder.name}
    if failed.exists():
        after[folder.name] = read_json(failed).get("error")
    if after != before:
        RESULTS.mkdir(parents=True, exist_ok=True)
        write_json(store, after)


def run_one(run: Run, output_dir: Path, data_dir: str) -> str | None:
    """Train and store one run; returns what went wrong, or None."""
    folder = output_dir / run.name()
    command = [sys.executable, str(ROOT / "train.py"), *run.flags(), "--no-progress"]
    command += ["--output-dir", str(output_dir), "--data-dir", data_dir]
    if (folder / "config.json").exists() and not (folder / "metrics.json").exists():
        command.append("--resume")
    done = subprocess.run(command, stderr=subprocess.PIPE, text=True)
    if done.returncode:
        note_failure(folder)
        return (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
    collect(folder)
    return None


def write_readme() -> None:
    """Put the stored results' table between the README's two marks; RunError where one is missing."""
    import plot_tables

    path = ROOT / "README.md"
    before, start, rest = path.read_text(encoding="utf-8").partition(MARKS[0])
    _, end, after = rest.partition(MARKS[1])
    if not (start and end):
        raise RunError(f"{path} lacks a mark: put '{MARKS[0]}' and '{MARKS[1]}' around the table")
    stored = [plot_tables.checked(read_json(result), result) for result in sorted(RESULTS.glob("*-seed*.json"))]
    table = plot_tables.markdown(stored)
    write_whole(path, f"{before}{MARKS[0]}\n{table}\n{MARKS[1]}{after}".encode())


@command_line("experiments.py")
def main() -> int:
    """The command line: returns the exit status."""
    parser = Parser(prog="experiments.py", description="Run the study and collect report/results/.")
    parser.add_argument("--only", nargs="+", metavar="TEXT", default=[""], help="only runs with this in their names")
    parser.add_argument("--dry-run", action="store_true", help="list the runs, train none")
    parser.add_argument("--output-dir", default="runs", help="where the run folders go (default: runs)")
    parser.add_argument("--data-dir", default="data", help="where the data are (default: data)")
    flags = parser.parse_args()
    chosen = [run for run in study() if any(text in run.name() for text in flags.only)]
    if not chosen:
        names = " or ".join(flags.only)
        print(f"experiments.py: error: no run has {names} in its name: see --dry-run", file=sys.stderr)
        return 2
    failed = []
    for i, run in enumerate(chosen, 1):
        stored = (RESULTS / f"{run.name()}.json").exists()
        print(f"[{i}/{len(chosen)}] {run.name()}{': stored' if stored else ''}", flush=True)
        if stored or flags.dry_run:
            continue
        try:
            problem = run_one(run, Path(flags.output_dir), flags.data_dir)
        except (RunError, OSError) as error:
            problem = str(error)
        if problem:
            failed.append(run.name())
            print(f"failed: {problem}", flush=True)
    if not flags.dry_run:
        try:
            write_readme()
        except (RunError, OSError) as error:
            failed.append("README.md")
            print(f"failed: {error}", flush=True)
    if failed:
        print(f"experiments.py: error: {len(failed)} failed: {', '.join(failed)}", file=sys.stderr)
    return 2 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
