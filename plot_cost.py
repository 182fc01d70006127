"""What a head costs: time and memory beside the number of classes, from benchmark.json."""

import matplotlib.pyplot as plt
import numpy as np

from choices import LOSSES
from plot_data import Drawn, NotStored, Study
from plot_style import CLASS_COLOURS, log_ticks
from runs import BAD_CONTENT, RunError, read_json

BLUE, ORANGE, GREEN = CLASS_COLOURS[:3]


def head_cost(study: Study) -> Drawn:
    """Time and memory of each head beside the number of classes, from benchmark.json."""
    path = study.folder / "benchmark.json"
    if not path.exists():
        raise NotStored("benchmark.json: run benchmark.py head")
    try:
        head = read_json(path, "delete it and run benchmark.py")["head"]
        by_count = {int(count): entry for count, entry in head["classes"].items()}
        names = dict.fromkeys([*LOSSES, *(name for entry in by_count.values() for name in entry)])  # ours, then others
        cost = {name: {c: entry[name] for c, entry in by_count.items() if name in entry} for name in names}
    except KeyError:
        raise NotStored("the head part of benchmark.json: run benchmark.py head") from None
    except BAD_CONTENT as error:
        raise RunError(f"{path} is damaged ({error}): run benchmark.py again") from None
    try:
        return draw_cost(cost, head)
    except BAD_CONTENT as error:
        raise RunError(f"{path} is damaged ({error}): run benchmark.py again") from None


def draw_cost(cost: dict[str, dict[int, dict]], head: dict) -> Drawn:
    """Milliseconds a batch by loss and number of classes; peak memory at the largest number."""
    counts = sorted({c for entries in cost.values() for c in entries})
    names = [loss for loss in cost if cost[loss]]
    figure, (left, right) = plt.subplots(1, 2, figsize=(8.8, 3.6), sharey=True)
    places = np.arange(len(names))
    for i, (count, colour) in enumerate(zip(counts, (BLUE, ORANGE, GREEN), strict=False)):
        times = [1000 * cost[loss][count]["median"] if count in cost[loss] else np.nan for loss in names]
        left.plot(times, places, "osD"[i % 3], color=colour, markersize=6, label=f"{count:,} classes")
    memory = [cost[loss].get(counts[-1], {}).get("peak_mb", np.nan) for loss in names]
    right.barh(places, memory, height=0.6, color=GREEN)
    left.set_yticks(places, [LOSSES[name].title if name in LOSSES else name for name in names])
    left.invert_yaxis()
    left.set(xscale="log", xlabel="milliseconds, forward and backward")
    log_ticks(left.xaxis)
    left.legend(fontsize=7.5, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3)
    right.set(xlabel=f"peak MB above the weights, {counts[-1]:,} classes")
    for axes in (left, right):
        axes.grid(alpha=0.3, axis="x")
    figure.tight_layout()
    machine = head.get("machine", {})
    return Drawn(
        figure,
        f"Cost of the heads alone on a batch of {head['batch']} embeddings of {head['embedding_dim']} dimensions "
        f"({machine.get('processor', 'unknown processor')}, {machine.get('threads', '?')} threads): median time of a "
        "forward and backward pass by number of classes (logarithmic scale; a median of times, whereas the report's "
        "table has medians of ratios within an alternation), and peak memory above what the weights "
        "take at the largest number. "
        "Last: a linear layer with cross-entropy, and another library's ArcFaceLoss.",
    )
