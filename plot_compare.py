"""Comparisons over runs: scale or margin, angle statistics, sensitivity, embedding size."""

import contextlib
from collections.abc import Callable
from itertools import pairwise
from typing import Any, NamedTuple

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.colors import LogNorm, Normalize
from matplotlib.ticker import MaxNLocator, NullLocator, ScalarFormatter

from choices import LOSSES
from plot_data import (
    SHARED,
    Drawn,
    NotStored,
    Study,
    accuracy_or_chance,
    half_width,
    head_accuracy,
    minus,
    seed_pairs,
    seeds_of,
)
from plot_style import CLASS_COLOURS, data_title, loss_style, settings_text
from plot_tables import cell_text, key_of, spread, text_table
from recipes import is_crowded

BLUE, ORANGE, GREEN = CLASS_COLOURS[:3]


def equal_error(facts: dict) -> float:
    """Equal error rate of verification on the test images, in per cent."""
    return 100 * facts["verification"]["eer"]


def scale_or_margin(study: Study, dataset: str) -> Drawn:
    """Accuracy of every loss, and its difference to softmax and to norm-softmax at the same scale, paired by seed."""
    groups = study.main(dataset)
    if len(groups) < 2:
        raise NotStored(f"second loss on {dataset} at 512 dimensions to compare with")
    figure, (left, right) = plt.subplots(1, 2, figsize=(7.4, 3.5), sharey=True)
    _draw_means(left, groups)
    left.set_yticks(range(len(groups)), [LOSSES[loss].title for loss in groups])
    left.invert_yaxis()
    told, handles = _draw_differences(right, study, groups)
    for axes in (left, right):
        axes.grid(alpha=0.3, axis="x")
        axes.xaxis.set_major_locator(MaxNLocator(6))
    heading = f"{data_title(next(iter(groups.values()))[0])}, 512 dimensions"
    figure.suptitle(heading, fontsize=10)
    figure.tight_layout()
    if handles:
        figure.subplots_adjust(bottom=0.22)
        figure.legend(handles=handles, loc="lower right", ncols=2, fontsize=8)
    single = any(len(members) == 1 for members in groups.values())
    alone = ", of a single run the 95 % interval that its test images leave, in grey" if single else ""
    hollow = "; hollow: no interval, of a single pair or of pairs that all differ by the same"
    return Drawn(
        figure,
        f"{heading}, {seeds_of(groups)}: test accuracy of each loss "
        f"(left; dots: runs; diamonds and bars: their mean and standard deviation{alone}), and its difference to "
        "softmax, which tells of scale and margin together, and to normalised softmax at the same scale, which tells "
        f"of the margin alone, in Li-ArcFace also of its straight line (right{hollow if 'no interval' in told else ''})"
        f".{told} AdaCos, which finds its own scale, is set against the table's normalised softmax. No correction for "
        "the number of comparisons.",
    )


def _draw_means(axes, groups: dict[str, list[dict]]) -> None:
    """Each loss's runs, and their mean with its standard deviation, or a single run's interval."""
    for place, members in enumerate(groups.values()):
        values = [head_accuracy(f) for f in members]
        below = [place + 0.24] * len(values)  # or the bar would hide some
        axes.plot(values, below, "o", color="#AAAAAA", markersize=4, zorder=1)
        if len(values) == 1:
            rate = members[0]["accuracy"]["head"]
            spread: Any = [[100 * (rate["value"] - rate["low"])], [100 * (rate["high"] - rate["value"])]]
            style = {"capsize": 0, "ecolor": "#BBBBBB"}
        else:
            spread, style = np.std(values, ddof=1), {"capsize": 3, "ecolor": "black"}
        axes.errorbar(np.mean(values), place, xerr=spread, fmt="D", color="black", markersize=5, **style)
    axes.set(xlabel="test accuracy, %", title="runs, mean ± standard deviation")


def _draw_differences(axes, study: Study, groups: dict[str, list[dict]]) -> tuple[str, list]:
    """Each loss's differences to the two bases; returns what they say of the margins, and the legend's marks."""
    told, margins_win, handles = [], [], []
    for base, marker, shift in (("softmax", "o", 0.14), ("norm-softmax", "s", -0.14)):
        drawn, colour = 0, loss_style(base)["color"]
        for place, (loss, members) in enumerate(groups.items()):
            others = base_runs(study, groups, base, members)
            if loss == base or (loss == "softmax" and base == "norm-softmax") or not others:
                continue
            values = [{f["seed"]: head_accuracy(f) for f in runs} for runs in (members, others)]
            if not (differences := minus(seed_pairs(*values))):
                continue
            drawn += 1
            mean, half = float(np.mean(differences)), half_width(differences)
            known = np.isfinite(half)
            style = {"fmt": marker, "color": colour, "fillstyle": "full" if known else "none", "capsize": 3}
            axes.errorbar(mean, place - shift, xerr=half if known else None, markersize=5, **style)
            if base == "norm-softmax" and LOSSES[loss].own_margin:
                said, low, high = (f"{v:+.2f}".replace("-", "−") for v in (mean, mean - half, mean + half))
                told.append(f"{LOSSES[loss].title} {said} {f'[{low}, {high}]' if known else '(no interval)'}")
                margins_win += [abs(mean) > half] if known else []
        if drawn:
            name = f"to {LOSSES[base].title}"
            handles.append(plt.Line2D([], [], color=colour, marker=marker, markersize=5, label=name))
    axes.axvline(0, color="black", linewidth=0.8)
    axes.set(xlabel="difference in accuracy, percentage points", title="paired by seed, 95 % interval")
    if not told:
        return "", handles
    holding, of = len(margins_win) - sum(margins_win), len(margins_win)
    counted = f"; {'all' if holding == of else f'{holding} of'} {of} intervals contain 0." if margins_win else "."
    return f" To normalised softmax at the same scale: {', '.join(told)} points{counted}", handles


def same_recipe(runs: list[dict], first: dict) -> list[dict]:
    """The runs that share with `first` what does not belong to the loss."""
    return [f for f in runs if all(f.get(name) == first.get(name) for name in SHARED)]


def base_runs(study: Study, groups: dict[str, list[dict]], base: str, members: list[dict]) -> list[dict]:
    """The runs that `members` are compared with, of the same recipe: of norm-softmax those at their scale."""
    first = members[0]
    own = same_recipe(groups.get(base, []), first)
    if base != "norm-softmax" or members[0]["loss"] == "adacos":  # AdaCos's scale is an outcome: the table's own NSL
        return own
    scale, dataset = members[0]["scale"], members[0]["dataset"]
    controls = same_recipe([f for f in study.runs if f["part"] == "control" and f["dataset"] == dataset], first)
    return [f for f in (*own, *controls) if f["loss"] == base and f["scale"] == scale]


def angle_table(study: Study, dataset: str) -> Drawn:
    """ArcFace Table 3 on this data: W-EC, W-Inter, Intra and Inter of training and test embeddings, in degrees."""
    groups = study.main(dataset)
    rows = [["Loss", "seeds", "W-EC", "W-Inter", "Intra, train", "Inter, train", "Intra, test", "Inter, test"]]
    for loss, members in groups.items():
        picks = [("train", "w_ec"), ("train", "w_inter"), ("train", "intra"), ("train", "inter"), ("test", "intra"),
                 ("test", "inter")]  # fmt: skip
        cells = (cell_text(spread([f["angles"][a][b] for f in members]), 1) for a, b in picks)
        rows.append([LOSSES[loss].title, str(len(members)), *cells])
    first = next(iter(groups.values()))[0]
    title = f"{data_title(first)}, 512 dimensions: angles in degrees"
    note = f"Mean ± standard deviation over {seeds_of(groups)}."
    return Drawn(
        text_table(rows, title, note),
        f"{data_title(first)}, 512 dimensions, {seeds_of(groups)}: angle statistics as in ArcFace Table 3, in degrees. "
        "W-EC: a class weight to its class's mean direction; W-Inter: smallest angle of a weight to another; Intra: an "
        "embedding to its class's mean direction; Inter: smallest angle between mean directions.",
    )


class Shade(NamedTuple):
    """What a heat map shows: a run's value, its digits, and its colours from bad to good."""

    value: Callable[[dict], float]
    digits: int
    norm: Normalize
    colours: str


def heat_map(axes, runs: list[dict], names: tuple, labels: tuple, shade: Shade) -> None:
    """A grid of runs by the settings `names` (down, across); failed cells are grey and say so."""
    rows, columns = (sorted({f[name] for f in runs}) for name in names)
    values = np.full((len(rows), len(columns)), np.nan)
    axes.set_facecolor("#DDDDDD")
    for facts in runs:
        i, j = rows.index(facts[names[0]]), columns.index(facts[names[1]])
        light = True
        if "failed" in facts:
            text = f"{shade.value(facts):.{shade.digits}f}\nfailed" if "accuracy" in facts else "diverged"
        else:
            values[i, j] = shade.value(facts)
            text = f"{values[i, j]:.{shade.digits}f}"
            light = np.mean(plt.get_cmap(shade.colours)(shade.norm(values[i, j]))[:3]) > 0.45
        axes.text(j, i, text, ha="center", va="center", fontsize=9, color="black" if light else "white")
    axes.imshow(values, cmap=shade.colours, norm=shade.norm, aspect="auto")
    axes.set_xticks(range(len(columns)), [f"{v:g}" for v in columns])
    axes.set_yticks(range(len(rows)), [f"{v:g}" for v in rows])
    axes.set(xlabel=labels[1], ylabel=labels[0])
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)


def sensitivity(study: Study) -> Drawn:
    """Heat maps of accuracy and equal error rate: margin and scale of ArcFace and CosFace, batch and learning rate."""
    grids = [
        ("ArcFace", study.margin_grid("arcface"), "m2", "scale", ("margin m₂", "scale s")),
        ("CosFace", study.margin_grid("cosface"), "m3", "scale", ("margin m₃", "scale s")),
        ("ArcFace", study.grid("arcface", ("batch-size", "lr")), "batch_size", "lr", ("batch size", "learning rate")),
    ]
    grids = [entry for entry in grids if entry[1]]
    if not grids:
        raise NotStored("sensitivity grids on mnist")
    runs = [f for _, members, *_ in grids for f in members]
    fine = [f for f in runs if "failed" not in f]
    errors = [equal_error(f) for f in fine if equal_error(f) > 0] or [1.0, 10.0]
    wrong = Shade(equal_error, 2, LogNorm(min(errors), max(errors)), "cividis_r")
    figure, panels = plt.subplots(2, len(grids), figsize=(2.75 * len(grids), 5.2), squeeze=False)
    for (above, below), (title, members, down, across, labels) in zip(panels.T, grids, strict=True):
        # One bad learning rate would leave the margins a single shade: it has colours of accuracy of its own.
        alike = [f for _, others, name, *_ in grids for f in others if (name == "batch_size") == (down == "batch_size")]
        right = [head_accuracy(f) for f in alike if "failed" not in f] or [90.0, 100.0]
        good = Shade(head_accuracy, 2, Normalize(min(max(90.0, min(right)), max(right)), max(right)), "cividis")
        for axes, shade, what in ((above, good, "accuracy"), (below, wrong, "equal error rate")):
            heat_map(axes, members, (down, across), labels, shade)
            axes.set_title(f"{title}: {what}, %")
    figure.tight_layout()
    first = grids[0][1][0]
    heads = [settings_text(members[0]) for _, members, down, *_ in grids if down == "batch_size"]
    fixed = f"Batch size and learning rate: at {heads[0]}. " if heads else ""
    each = {(*key_of(f), f["seed"]): f for f in runs}  # some are in two panels, or stored under two names
    halves = [50 * (f["accuracy"]["head"]["high"] - f["accuracy"]["head"]["low"]) for f in fine]
    known = f" A cell's 95 % interval is about ±{np.median(halves):.2f} points of accuracy." if fine else ""
    lost, count = sum("failed" in f for f in each.values()), len(each)
    plain = "Margin 0 is normalised softmax. " if any(f["loss"] == "norm-softmax" for f in runs) else ""
    grey = f"Grey: failed, diverged or at chance ({lost} of {count}). " if lost else f"None of the {count} fails. "
    return Drawn(
        figure,
        f"{data_title(first)}, 512 dimensions, {first['epochs']} epochs and one seed a cell: test accuracy and "
        "equal error rate of verification. Bright is good; margin and scale share colours of "
        "accuracy, batch size and learning rate have their own; those of the errors are logarithmic and shared. "
        f"{fixed}{plain}{grey}Fewer epochs than the main table's: cells compare with each other only.{known}",
    )


def schedules(study: Study) -> Drawn:
    """Learning rate schedule, and margin ramp, over seeds."""
    plans = {f"ArcFace, {name}": [f for f in study.grid("arcface", ("schedule",)) if f["schedule"] == name]
             for name in ("linear", "cosine", "constant")}  # fmt: skip
    ramps: dict[str, list[dict]] = {}
    for loss in ("arcface", "cosface"):
        for facts in study.grid(loss, ("margin-warmup",)):
            ramps.setdefault(f"{LOSSES[loss].title}, {facts['margin_warmup']:g}", []).append(facts)
    parts = [({k: v for k, v in group.items() if v}, title)
             for group, title in ((plans, "learning-rate schedule"), (dict(sorted(ramps.items())), "part of training with margin ramp"))]  # noqa: E501  # fmt: skip
    parts = [(group, title) for group, title in parts if group]
    if not parts:
        raise NotStored("schedule and ramp runs on mnist")
    figure, panels = plt.subplots(1, len(parts), figsize=(3.7 * len(parts), 2.7), squeeze=False)
    members: list[dict] = []
    all_runs = {f"{title}, {name}": runs for group, title in parts for name, runs in group.items()}
    for axes, (group, title) in zip(panels.flat, parts, strict=True):
        for i, (_, runs) in enumerate(group.items()):
            values = [accuracy_or_chance(f) for f in runs]
            members += runs
            axes.plot(np.mean(values), i, "|", color="black", markersize=15, markeredgewidth=1.6)
            axes.plot(values, [i] * len(values), "o", color=BLUE, markersize=5, alpha=0.55, markeredgewidth=0)
        axes.set_yticks(range(len(group)), group.keys())
        axes.invert_yaxis()
        axes.set(xlabel="test accuracy, %", title=title)
        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.margins(y=0.12)
        axes.grid(alpha=0.3, axis="x")
    figure.tight_layout()
    found = {name: sorted((f["seed"], accuracy_or_chance(f)) for f in runs) for name, runs in all_runs.items()}
    twins = [f"{a.split(', ')[-1]} and {b.split(', ')[-1]}" for a, b in pairwise(found) if found[a] == found[b]]
    same = f" The accuracies of {', of '.join(twins)} are the same, not only their picture." if twins else ""
    return Drawn(
        figure,
        f"{data_title(members[0])}, 512 dimensions, {members[0]['epochs']} epochs, {seeds_of(all_runs)}: each run "
        "(dot) and their mean (bar) by learning-rate schedule, after the same rise over the first tenth, and by "
        "the part of training over which the margin grows (0: full margin from the first step). The panels' scales "
        f"differ.{same}",
    )


def embedding_size(study: Study) -> Drawn:
    """ArcFace's accuracy and angles on MNIST against the embedding's dimension."""
    groups: dict[int, list[dict]] = {}
    for dim in sorted({f["embedding_dim"] for f in study.runs}):
        with contextlib.suppress(NotStored):
            if members := study.main("mnist", dim).get("arcface"):
                groups[dim] = members
    if len(groups) < 2:
        raise NotStored("ArcFace runs on mnist in several dimensions")
    sizes = sorted(groups)
    figure, (left, right) = plt.subplots(1, 2, figsize=(7.4, 2.9))
    for d in sizes:
        left.plot([d] * len(groups[d]), [head_accuracy(f) for f in groups[d]], "o", color="#AAAAAA", markersize=4)
    crowded = [d for d in sizes if is_crowded(len(groups[d][0]["classes"]), d)]
    parts = [part for part in (crowded, [d for d in sizes if d not in crowded]) if part]  # each with its own recipe
    for part in parts:
        means = [np.mean([head_accuracy(f) for f in groups[d]]) for d in part]
        left.plot(part, means, "D-", color="black", markersize=5)
    angles = [("intra", BLUE, "o-", "Intra: to class mean"), ("inter", ORANGE, "s--", "Inter: nearest class mean"),
              ("w_inter", GREEN, "^:", "W-Inter: nearest weight")]  # fmt: skip
    for name, colour, line, label in angles:
        for part in parts:
            means = [np.mean([f["angles"]["test"][name] for f in groups[d]]) for d in part]
            right.plot(part, means, line, color=colour, label=label if part is parts[0] else None, markersize=5)
    for axes in (left, right):
        axes.set(xscale="log", xlabel="embedding dimensions", xticks=sizes)
        axes.xaxis.set_major_formatter(ScalarFormatter())
        axes.xaxis.set_minor_locator(NullLocator())
        axes.tick_params(axis="x", labelsize=7.5)
        axes.grid(alpha=0.3)
    left.set_ylabel("test accuracy, %")
    right.set(ylabel="angle, degrees", ylim=(0, None))
    right.legend(fontsize=8)
    figure.tight_layout()
    accuracies = {d: np.mean([head_accuracy(f) for f in groups[d]]) for d in sizes}
    best = max(accuracies, key=lambda d: accuracies[d])
    large = [f"{accuracies[d]:.2f} % at {d}" for d in sizes if d >= 512 and d != best]
    spread = max(np.ptp([head_accuracy(f) for f in groups[d]]) for d in sizes)
    counts = {str(d): groups[d] for d in sizes}
    return Drawn(
        figure,
        f"{data_title(groups[sizes[0]][0])}, ArcFace, {seeds_of(counts)}: test accuracy (grey: each run, "
        "diamonds: mean) and angles (Intra, Inter: of test images; W-Inter: of a class weight to the nearest other) "
        "against the embedding's size (logarithmic). "
        f"The highest mean is {accuracies[best]:.2f} % at {best} dimensions"
        f"{''.join(f', beside {other}' for other in large)}; runs of one size lie up to {spread:.2f} points apart. "
        "Scale, margin and learning rate follow the recipe, which has its own for two and three dimensions: no line "
        "joins these with the others.",
    )
