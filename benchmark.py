"""Measure speed and memory, side by side with what a user would pick instead: python benchmark.py [PART ...]

Every comparison alternates its sides (A B A B) in one process and gives the median of the ratios with their range,
because a machine's speed drifts more than most differences. Parts: throughput, head, memory, accuracy, evaluation,
commands.
Results go to report/results/benchmark.json, with the machine; a part measured again replaces its old figures only.
"""

import gc
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from importlib.metadata import version
from itertools import accumulate
from multiprocessing import get_context
from pathlib import Path

from devices import pick_precision, processor
from errors import UserError, command_line
from options import Parser, count, place, positive
from runs import RunError, check_writable, finished_runs, read_json, write_json

ROOT = Path(__file__).resolve().parent
STORE = ROOT / "report" / "results" / "benchmark.json"
HEAD_CLASSES = (10, 1000, 100_000)


def machine() -> dict:
    """Processor, cores and versions: what a figure in seconds means nothing without."""
    import numpy
    import torch

    return {
        "processor": processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "python": platform.python_version(), "torch": torch.__version__, "numpy": numpy.__version__,
        **{name: version(name) for name in ("torchvision", "pytorch-metric-learning")},  # compared with
    }  # fmt: skip


def best_precision() -> str:
    """bf16 where the CPU, which all sides run on, multiplies it faster."""
    return pick_precision("auto", "cpu")


def alternate(sides: dict[str, Callable[[], float]], rounds: int) -> dict:
    """Run each side once a round, after one round unmeasured; each returns its own figure.

    Returns, a side: the median figure, and the median and range over rounds of its ratio to the first side.
    """
    for side in sides.values():
        side()
    found = [{name: side() for name, side in sides.items()} for _ in range(rounds)]
    first = next(iter(sides))
    result = {}
    for name in sides:
        ratios = [r[name] / r[first] for r in found]
        result[name] = {
            "median": statistics.median(r[name] for r in found),
            "ratio": statistics.median(ratios), "ratio_low": min(ratios), "ratio_high": max(ratios), "n": rounds,
        }  # fmt: skip
    return result


def peak_memory(work: Callable[[], object]) -> float | None:
    """MB in use at the worst moment of `work`, above what was in use before it; None where /proc does not tell."""
    status, reset = Path("/proc/self/status"), Path("/proc/self/clear_refs")
    if not reset.exists():
        return None

    def read(field: str) -> float:
        return next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith(field)) / 1024

    reset.write_text("5")  # the peak counts from here
    before = read("VmRSS")
    work()
    return read("VmHWM") - before


def trainers(data_dir: Path) -> Iterator[tuple[str, tuple]]:
    """Each data set's name with what benchmark_sides.our_trainer makes of it; a line about one that is not there."""
    from benchmark_sides import our_trainer

    for dataset in ("mnist", "cifar10"):
        try:
            yield dataset, our_trainer(dataset, data_dir, best_precision())
        except UserError as error:
            print(f"left out {dataset}: {error}", flush=True)


def throughput(data_dir: Path, rounds: int, seconds: float) -> dict:
    """Training images a second on both sets, beside the user's pick, and the share of the bf16 peak."""
    import benchmark_sides as part

    result = {}
    for dataset, (trainer, data) in trainers(data_dir):
        plain, _ = part.our_trainer(dataset, data_dir, "fp32")
        used = trainer.settings
        runs: dict[str, tuple[Callable[[int], float], int]] = {
            "pick": (part.users_pick(data, used.widths, used.depth, used.shift, used.flip), part.PICK_BATCH),
            "ours": (partial(part.our_steps, trainer), trainer.batch),
            "ours, float32": (partial(part.our_steps, plain), plain.batch),
        }
        sides: dict[str, Callable[[], float]] = {}
        for name, (run, batch) in runs.items():
            run(1)
            sides[name] = partial(run, max(2, round(seconds * run(2) / batch)))
        found = alternate(sides, rounds)
        flop, peak = part.training_flop(trainer), part.bf16_peak()
        result[data.name] = {
            "images_per_second": found, "source": data.source, "flop_per_image": flop,
            "bf16_peak_flop_per_second": peak, "share_of_peak": found["ours"]["median"] * flop / peak,
        }  # fmt: skip
    return result


def head_times(classes: int, rounds: int) -> dict:
    """Seconds of a forward and backward pass of every head at `classes` classes."""
    import benchmark_sides as part

    calls = max(1, 20_000 // classes)
    heads = {name: part.head_loss(name, classes, *part.head_batch(classes)) for name in part.HEADS}
    sides: dict[str, Callable[[], float]] = {name: partial(part.timed, work, calls) for name, work in heads.items()}
    return alternate(sides, rounds)


def allocated(name: str, classes: int) -> float:
    """MB (2^20 bytes) that PyTorch has handed out at the worst moment of a head's forward and backward pass, above
    weights and batch, its gradients included. Counted allocation by allocation: the same on every call, whatever else
    the machine does, and however little it is beside what Python takes."""
    os.environ["KINETO_LOG_LEVEL"] = "99"  # or the profiler reports its own start and end; read as PyTorch is imported
    from torch.profiler import ProfilerActivity, profile

    import benchmark_sides as part

    work = part.head_loss(name, classes, *part.head_batch(classes))
    gc.collect()  # what goes while it counts would be taken off
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        work()
    events = [event for event in profiler.profiler.kineto_results.events() if event.name() == "[memory]"]
    steps = [event.nbytes() for event in sorted(events, key=lambda event: event.start_ns())]
    return max(accumulate(steps)) / 2**20


def memory(data_dir: Path, rounds: int, seconds: float) -> dict:
    """What each head needs of memory, by number of classes."""
    import benchmark_sides as part

    by_classes = {str(classes): {name: allocated(name, classes) for name in part.HEADS} for classes in HEAD_CLASSES}
    return {"batch": part.HEAD_BATCH, "embedding_dim": part.HEAD_DIM, "classes": by_classes}


def head(data_dir: Path, rounds: int, seconds: float) -> dict:
    """Time that the heads take: beside a linear layer, by number of classes, and as a share of a training step."""
    import benchmark_sides as part

    result: dict = {"batch": part.HEAD_BATCH, "embedding_dim": part.HEAD_DIM, "classes": {}, "share_of_step": {}}
    for classes in HEAD_CLASSES:
        result["classes"][str(classes)] = in_child(head_times, classes, rounds)
    for _, (trainer, data) in trainers(data_dir):
        part.our_steps(trainer, 2)
        step = trainer.batch / part.our_steps(trainer, 12)
        result["share_of_step"][data.name] = {
            name: entry["median"] / step for name, entry in result["classes"]["10"].items()
        }
    return result


def evaluate_once(folder: str, data_dir: Path) -> tuple[float, float | None]:
    """Seconds and peak MB (None: unknown) of measuring a finished run anew, a copy of it; to be called in a process of
    its own."""
    from benchmark_sides import timed
    from evaluate import evaluate_run

    spent: list[float] = []
    with tempfile.TemporaryDirectory() as scratch:
        copy = Path(shutil.copytree(folder, Path(scratch) / "run"))
        most = peak_memory(lambda: spent.append(timed(partial(evaluate_run, copy, data_dir, again=True))))
    return spent[0], most


def whole(facts: dict) -> bool:
    """Whether a run's figures are of a data set's usual images, in the main table's dimensions."""
    return facts.get("embedding_dim") == 512 and not facts.get("validation") and not facts.get("unseen_classes")


def evaluation(data_dir: Path, rounds: int, seconds: float) -> dict:
    """Time and memory of evaluate.py's measurements, of the first such run of MNIST and CIFAR-10 in runs/."""
    result: dict[str, dict] = {}
    try:
        folders = finished_runs(ROOT / "runs")
    except UserError as error:
        print(f"left out the evaluation: {error}", flush=True)
        return result
    for folder in folders:
        try:
            facts = read_json(folder / "metrics.json")
            if facts.get("dataset") in ("mnist", "cifar10") and facts["dataset"] not in result and whole(facts):
                took, most = in_child(evaluate_once, str(folder), data_dir)
                result[facts["dataset"]] = {"seconds": took, "peak_mb": most, "test_images": facts["test_images"],
                                            "train_images": facts["train_images"]}  # fmt: skip
        except UserError as error:
            print(f"left out {folder}: {error}", flush=True)
    return result


def accuracy(data_dir: Path, rounds: int, seconds: float) -> dict:
    """Time to accuracy: the study's ArcFace runs of several lengths, as they are stored; nothing is trained here."""
    from plot_data import NotStored, Study, head_accuracy

    study, result = Study(STORE.parent), {}
    for name in ("mnist", "cifar10"):
        try:
            result[name] = [
                {"epochs": f["epochs"], "seconds": f["train_seconds"], "accuracy": head_accuracy(f), "seed": f["seed"],
                 "device": f["device"]}
                for f in study.budgets(name)
            ]  # fmt: skip
        except NotStored as wanting:
            print(f"left out {name}: no {wanting}: run experiments.py --only budget", flush=True)
    return result


def run_script(*words: str) -> None:
    """Run one of the project's scripts; RunError, with its last line, where it does not end well."""
    done = subprocess.run([sys.executable, str(ROOT / words[0]), *words[1:]], capture_output=True, text=True)
    if done.returncode:
        raise RunError(f"{' '.join(words)} failed: {(done.stderr.strip().splitlines() or ['no word why'])[-1]}")


def commands(data_dir: Path, rounds: int, seconds: float) -> dict:
    """Seconds of each script's --help, and of drawing every figure from the stored results."""
    from benchmark_sides import timed

    result = {}
    for script in ("train.py", "evaluate.py", "plot_embeddings.py", "experiments.py"):
        call = partial(run_script, script, "--help")
        call()  # warms the disk
        result[f"{script} --help"] = statistics.median(timed(call) for _ in range(rounds))
    with tempfile.TemporaryDirectory() as scratch:
        result["plot_embeddings.py"] = timed(partial(run_script, "plot_embeddings.py", "--figures-dir", scratch))
    return result


def ratio(entry: dict) -> str:
    """'4.21 (4.10 to 4.35)': the median ratio to the first side, and its range."""
    return f"{entry['ratio']:.2f} ({entry['ratio_low']:.2f} to {entry['ratio_high']:.2f})"


def describe(part: str, found: dict) -> str:
    """A part's figures as lines for the terminal."""
    lines = []
    if part == "throughput":
        for name, one in ((k, v) for k, v in found.items() if k != "machine"):
            for side, entry in one["images_per_second"].items():
                lines.append(f"{name:8} {side:14} {entry['median']:6.0f} images/s, {ratio(entry)} times the pick")
            lines.append(f"{name:8} {one['share_of_peak']:.0%} of the measured bf16 matrix peak")
    elif part == "head":
        for classes, heads in found["classes"].items():
            for name, entry in heads.items():
                lines.append(f"C = {classes:>6} {name:24} {entry['median'] * 1e3:9.2f} ms, {ratio(entry)}")
        for name, heads in found["share_of_step"].items():
            shares = ", ".join(f"{head} {share:.1%}" for head, share in heads.items())
            lines.append(f"{name}: share of a training step: {shares}")
    elif part == "memory":
        for classes, of_head in found["classes"].items():
            lines += [f"C = {classes:>6} {name:24} {mb:9.2f} MB" for name, mb in of_head.items()]
    elif part == "evaluation":
        for name, one in ((k, v) for k, v in found.items() if k != "machine"):
            most = "" if one["peak_mb"] is None else f", {one['peak_mb']:.0f} MB"
            lines.append(f"{name:8} measured anew in {one['seconds']:.1f} s{most}")
    elif part == "accuracy":
        for name, runs in ((k, v) for k, v in found.items() if k != "machine"):
            lines += [f"{name:8} {one['epochs']:3} epochs {one['seconds']:7.0f} s {one['accuracy']:6.2f} %, seed "
                      f"{one['seed']}, {one['device']}" for one in runs]  # fmt: skip
    else:
        lines = [f"{name:28} {spent:6.2f} s" for name, spent in found.items() if name != "machine"]
    return "\n".join(f"{part}: {line}" for line in lines)


def in_child(work: Callable, *arguments):
    """work(*arguments) in a fresh process, whose memory nothing else has touched."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        try:
            return pool.submit(work, *arguments).result()
        except BrokenProcessPool:
            raise RunError("a measurement was killed, probably for lack of memory: close other programs") from None


PARTS = {"throughput": throughput, "head": head, "memory": memory, "accuracy": accuracy, "evaluation": evaluation,
         "commands": commands}  # fmt: skip


@command_line("benchmark.py")
def main() -> int:
    """The command line: returns the exit status."""
    parser = Parser(prog="benchmark.py", description="Measure speed and memory beside what a user would pick instead.")
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)} (default: all)")
    parser.add_argument("--rounds", type=count, default=5, help="alternations of each comparison (default: 5)")
    parser.add_argument(
        "--seconds", type=positive, default=5.0, help="length of one throughput measurement (default: 5)"
    )
    parser.add_argument("--data-dir", type=place, default="data", help="where the data are (default: data)")
    parser.add_argument("--store", type=place, default=STORE, help="the JSON file to update")
    flags = parser.parse_args()
    unknown = [part for part in flags.parts if part not in PARTS]
    if unknown:
        parser.error(f"unknown part '{unknown[0]}': choose from {', '.join(PARTS)}")
    if not flags.store.parent.is_dir():  # better said before the measuring
        raise RunError(f"--store {flags.store}: there is no folder {flags.store.parent}: make it or choose another")
    check_writable(flags.store.parent, "choose another --store")
    found = read_json(flags.store, "delete it or choose another --store") if flags.store.exists() else {}
    for part in flags.parts or PARTS:
        measured = in_child(PARTS[part], flags.data_dir, flags.rounds, flags.seconds)
        if not measured:  # nothing there to measure: older figures stay
            continue
        found[part] = measured if part == "accuracy" else measured | {"machine": machine()}  # those runs name theirs
        write_json(flags.store, found)
        print(describe(part, found[part]), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
