"""What a head costs: time and memory beside the number of classes, from benchmark.json."""

import matplotlib.pyplot as plt
import numpy as np

from choices import LOSSES
from plot_data import Drawn, NotStored, Study
from plot_style import CLASS_COLOURS, log_ticks
from runs import BAD_CONTENT, RunError, read_json


def head_cost(study: Study) -> Drawn:
    """Time and memory of each head beside the number of classes, from benchmark.json."""
    path = study.folder / "benchmark.json"
    if not path.exists():
        raise NotStored("benchmark.json: run benchmark.py head memory")
    found = read_json(path, "delete it and run benchmark.py")
    for part in ("head", "memory"):
        if part not in found:
            raise NotStored(f"the {part} part of benchmark.json: run benchmark.py {part}")
    try:
        return draw_cost(found["head"], found["memory"])
    except BAD_CONTENT as error:
        raise RunError(f"{path} is damaged ({error}): run benchmark.py head memory") from None


def draw_cost(head: dict, memory: dict) -> Drawn:
    """Milliseconds and peak memory of a batch by loss and number of classes."""
    seconds = {int(count): {name: one["median"] for name, one in heads.items()}
               for count, heads in head["classes"].items()}  # fmt: skip
    megabytes = {int(count): heads for count, heads in memory["classes"].items()}
    names = list(dict.fromkeys([*LOSSES, *(name for heads in seconds.values() for name in heads)]))  # ours, then others
    figure, (left, right) = plt.subplots(1, 2, figsize=(8.8, 3.6), sharey=True)
    places = np.arange(len(names))
    for axes, found, factor in ((left, seconds, 1000), (right, megabytes, 1)):
        for i, (count, of_head) in enumerate(sorted(found.items())):
            values = [factor * of_head.get(name, np.nan) for name in names]
            look = {"color": CLASS_COLOURS[i], "marker": "osD"[i % 3], "linestyle": "none", "markersize": 6}
            axes.plot(values, places, **look, label=f"{count:,} classes")
        axes.set(xscale="log")
        log_ticks(axes.xaxis)
        axes.grid(alpha=0.3, axis="x")
    left.set_yticks(places, [LOSSES[name].title if name in LOSSES else name for name in names])
    left.invert_yaxis()
    left.set(xlabel="milliseconds, forward and backward")
    right.set(xlabel="peak MB above weights and batch")
    figure.legend(*left.get_legend_handles_labels(), fontsize=8, loc="upper center", ncols=3)
    figure.tight_layout(rect=(0, 0, 1, 0.93))
    machine = head.get("machine", {})
    return Drawn(
        figure,
        f"Cost of the heads alone on a batch of {head['batch']} embeddings of {head['embedding_dim']} dimensions "
        f"({machine.get('processor', 'unknown processor')}, {machine.get('threads', '?')} threads), by number of "
        "classes, on logarithmic axes: median time of a forward and backward pass (a median of times, whereas the "
        "report's table has medians of ratios within an alternation), and the most memory that it takes beyond the "
        "weights and the batch, gradients included. Last: a linear layer with cross-entropy, and another library's "
        "ArcFaceLoss.",
    )
