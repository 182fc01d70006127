"""Run the study and store its results: python experiments.py     (--dry-run lists the runs, --only TEXT picks some)

Each run is one call of train.py, resumed if it was cut off, skipped if it is stored with the settings it would have
now. A failure stops no other run. What figures and report need goes to report/results/ (see study_store.py). --jobs 2
runs two at a time; --dask tcp://HOST:8786 spreads them over a Dask cluster that shares this folder. Last, alone on the
machine, the heads' time and memory are measured (--only cost), where benchmark.json has none.
"""

import argparse
import contextlib
import os
import signal
import site
import subprocess
import sys
import time
from pathlib import Path

import joblib

from errors import UserError, command_line
from options import Parser, count, place
from runs import STORE_ANEW, RunError, make_folder, read_json, write_whole
from study import Run, seconds, study
from study_store import Places, run_one, stored_state

MARKS = ("<!-- results: written by experiments.py -->", "<!-- end of results -->")
ROOT = Path(__file__).resolve().parent
RESULTS = ROOT / "report" / "results"
COST = ("head", "memory")  # parts of benchmark.py
# Parts of the study; figures/ and the report have tables of the others.
SHOWN_IN_README = ("main", "control", "longer", "wider", "largest")


def stored_runs(results: Path) -> list[dict]:
    """All stored results that can be read, failed ones included."""
    found = []
    for path in sorted(results.glob("*-seed*.json")):
        try:
            found.append(read_json(path, STORE_ANEW))
        except RunError as error:
            print(f"passed over: {error}", flush=True)
    return found


def as_time(duration: float) -> str:
    """'1 h 05 min' or '3 min' from seconds."""
    minutes = round(duration / 60)
    return f"{minutes // 60} h {minutes % 60:02d} min" if minutes >= 60 else f"{minutes} min"


def write_readme() -> None:
    """Put the stored results' table between the README's two marks; RunError where one is missing."""
    import plot_tables
    from plot_data import Study

    path = ROOT / "README.md"
    before, start, rest = path.read_text(encoding="utf-8").partition(MARKS[0])
    _, end, after = rest.partition(MARKS[1])
    if not (start and end):
        raise RunError(f"{path} lacks a mark: put '{MARKS[0]}' and '{MARKS[1]}' around the table")
    stored = [facts for facts in Study(RESULTS).runs if facts["part"] in SHOWN_IN_README]
    table = plot_tables.markdown(stored)
    write_whole(path, f"{before}{MARKS[0]}\n{table}\n{MARKS[1]}{after}".encode())


def listing(runs: list[Run], results: Path, again: bool) -> list[Run]:
    """Print every run with its state and estimated time; returns those still to do."""
    stored = stored_runs(results)
    todo, total = [], 0.0
    for i, run in enumerate(runs, 1):
        state, duration = stored_state(run, results), seconds(run, stored)
        if again or state in ("missing", "outdated", "damaged"):
            todo.append(run)
            total += duration
            state = f"{'again' if again else state}, about {max(1, round(duration / 60))} min"
        print(f"[{i}/{len(runs)}] {run.part} {run.name()}: {state}")
    print(f"{len(todo)} of {len(runs)} runs to do, about {as_time(total)} one after the other", flush=True)
    return todo


def cost_to_measure(results: Path, again: bool) -> list[str]:
    """The parts of benchmark.py that the study needs and that are not stored, with a line about them."""
    path = results / "benchmark.json"
    found = read_json(path, "delete it and run benchmark.py") if path.exists() else {}
    missing = [part for part in COST if again or part not in found]
    print(f"[cost] time and memory of the heads: {'missing, about 10 min' if missing else 'stored'}", flush=True)
    return missing


def measure_cost(parts: list[str], results: Path, data_dir: Path) -> int:
    """Have benchmark.py measure these parts; returns its exit status."""
    places = ["--store", str(results / "benchmark.json"), "--data-dir", str(data_dir)]
    return subprocess.run([sys.executable, str(ROOT / "benchmark.py"), *parts, *places]).returncode


def carry_out(runs: list[Run], places: Places, again: bool, jobs: int) -> list[str]:
    """Train and store the runs, `jobs` at a time; returns the names of those that went wrong."""
    started, failed = time.monotonic(), []
    parallel = joblib.Parallel(n_jobs=jobs, prefer="threads", pre_dispatch="all", return_as="generator_unordered")
    outcomes = parallel(joblib.delayed(named_outcome)(run, places, again) for run in runs)
    for i, (name, problem) in enumerate(outcomes, 1):
        if problem:
            failed.append(name)
        passed = time.monotonic() - started
        left = as_time(passed / i * (len(runs) - i))
        print(
            f"({i} of {len(runs)}) {name}: {f'failed: {problem}' if problem else 'stored'}; about {left} left",
            flush=True,
        )
    return failed


def named_outcome(run: Run, places: Places, again: bool) -> tuple[str, str | None]:
    """A run's name and what went wrong with it, if anything: a job for joblib's workers."""
    return run.name(), run_one(run, places, again)


def on_dask(address: str):
    """A context in which joblib's jobs go to the Dask cluster at `address`. RunError without it."""
    try:
        from dask.distributed import Client

        client = Client(address, timeout=10)
    except ImportError:
        raise RunError(f"--dask {address}: Dask is not installed: pip install 'dask[distributed]'") from None
    except (OSError, ValueError) as error:
        raise RunError(f"--dask {address}: no scheduler there ({error}); start one with 'dask scheduler'") from None
    for run in (client.run_on_scheduler, client.run):  # both, and the workers, must find this project's files
        run(site.addsitedir, str(ROOT))
    return joblib.parallel_config("dask")


def stop(signum: int, frame: object) -> None:
    """SIGTERM ends the study as Ctrl-C does, and with it the trainings it started on this machine."""
    raise KeyboardInterrupt


def parse_flags() -> argparse.Namespace:
    """Parse the command line; exits with status 2 and one line for a bad value."""
    parser = Parser(prog="experiments.py", description="Run the study and store what figures and report need.")
    add = parser.add_argument
    add(
        "--only",
        nargs="+",
        metavar="TEXT",
        default=[""],
        help="only runs with this in 'PART NAME', as --dry-run lists; 'cost': the heads' time and memory",
    )
    add("--dry-run", action="store_true", help="list the runs with estimated times, train none")
    add("--again", action="store_true", help="train anew what is stored or finished, too")
    add("--jobs", type=count, default=1, metavar="N", help="runs at a time (default: 1)")
    add("--dask", metavar="ADDRESS", help="run on the Dask cluster at this address, such as tcp://host:8786")
    add(
        "--seeds",
        type=count,
        metavar="N",
        help="seeds of the main table (default: 5; 10 on a GPU)",
    )
    add("--output-dir", type=place, default="runs", help="where the run folders go (default: runs)")
    add("--data-dir", type=place, default="data", help="where the data are (default: data)")
    add("--results-dir", type=place, help="where results are stored (default: report/results, with the README's table)")
    return parser.parse_args()


@command_line("experiments.py")
def main() -> int:
    """The command line: returns the exit status."""
    flags = parse_flags()
    results = flags.results_dir.resolve() if flags.results_dir else RESULTS
    chosen = [run for run in study(flags.seeds) if any(text in f"{run.part} {run.name()}" for text in flags.only)]
    with_cost = not {"", "cost"}.isdisjoint(flags.only)
    if not chosen and not with_cost:
        raise RunError(f"no run has {' or '.join(flags.only)} in its name: see --dry-run")
    todo = listing(chosen, results, flags.again)
    cost = cost_to_measure(results, flags.again) if with_cost else []
    if flags.dry_run:
        return 0
    make_folder(results, "--results-dir")  # better said before the training
    jobs = min(flags.jobs, len(todo) or 1)
    threads = max(1, (os.cpu_count() or 1) // jobs) if jobs > 1 else None
    if flags.dask:  # a run for every thread of every worker
        jobs, threads = -1, 1
    places = Places(flags.output_dir.resolve(), flags.data_dir.resolve(), results, threads)
    signal.signal(signal.SIGTERM, stop)
    try:
        with on_dask(flags.dask) if flags.dask else contextlib.nullcontext():
            failed = carry_out(todo, places, flags.again, jobs)
        if cost and measure_cost(cost, results, places.data_dir):
            failed.append("the heads' cost")
    except OSError as error:  # of a cluster: it names no file
        raise RunError(str(error)) from None
    except KeyboardInterrupt:
        print("\nexperiments.py: stopped; what is stored is kept: repeat the command to go on", file=sys.stderr)
        return 130
    try:
        if not flags.results_dir:
            write_readme()
    except (UserError, OSError) as error:
        failed.append(f"README.md ({error})")
    if failed:
        raise RunError(f"{len(failed)} failed: {', '.join(failed)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
