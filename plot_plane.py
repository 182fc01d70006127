"""What becomes of margins that ten classes in a plane have no room for: the bounds of bounds.py, put to the test."""

import math
from functools import partial

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.colors import Normalize

from bounds import maximum_margin
from choices import LOSSES
from plot_compare import Shade, heat_map
from plot_data import Drawn, NotStored, Study, head_accuracy
from plot_points import draw_raw, points_of
from plot_style import SIGNS, data_title

# Title, loss, and the flags beside scale and margin.
AT_ONCE = ("margin-warmup",)
GRIDS = (("ArcFace", "arcface", ()), ("ArcFace, at once", "arcface", AT_ONCE),
         ("CosFace", "cosface", ()), ("CosFace, at once", "cosface", AT_ONCE))  # fmt: skip
DRAWN = {"scale": 16, "arcface": 0.8, "cosface": 0.35}  # past the bound; the second is the paper's
LINE = {"color": "#D55E00", "linewidth": 2.2}  # between margins that have room and margins that have none


def spacing(facts: dict) -> float:
    """W-Inter: the mean over classes of the smallest angle between a class's weight and another's, in degrees."""
    return facts["angles"]["test"]["w_inter"]


def closest(study: Study, facts: dict) -> float:
    """The smallest angle between two class weights, in degrees: next to none where classes share a direction, which
    `spacing`, a mean, hides. NaN where the weights are not stored."""
    weights = study.arrays(facts).get("weights")
    if weights is None:
        return math.nan
    across, up = weights.astype(np.float64).T
    around = np.sort(np.degrees(np.arctan2(up, across)))
    return float(np.diff(around, append=around[0] + 360).min())


def bound_of(runs: list[dict], loss: str) -> float:
    """The margin at and beyond which a grid's classes have no room."""
    return float(maximum_margin(loss, len(runs[0]["classes"]), runs[0]["embedding_dim"]))


def shown_title(title: str) -> str:
    """'ArcFace, growing' or 'ArcFace, at once': a grid's loss and how it comes to its full margin."""
    return title if title.endswith("at once") else f"{title}, growing"


def plane_margins(study: Study) -> Drawn:
    """Accuracy and how near class weights come to each other by margin and scale in the plane; the bound as a line."""
    grids = [(title, loss, study.margin_grid(loss, 2, more)) for title, loss, more in GRIDS]
    grids = [entry for entry in grids if entry[2]]
    if not grids:
        raise NotStored("grids of margin and scale in two dimensions on mnist")
    each = {f["name"]: f for *_, runs in grids for f in runs}
    accuracies = [head_accuracy(f) for f in each.values() if "failed" not in f] or [90.0, 100.0]
    first = grids[0][2][0]
    widest = 360 / len(first["classes"])
    low, high = min(accuracies), max(accuracies)
    shades = (Shade(head_accuracy, 2, Normalize(min(max(90.0, low), high), high), "cividis"),
              Shade(partial(closest, study), 1, Normalize(0, widest), "cividis"))  # fmt: skip
    shape = (2.0 * len(grids), 6.4)
    figure, panels = plt.subplots(3, len(grids), figsize=shape, squeeze=False, height_ratios=(1, 1, 0.95))
    for line, shade, what in zip(panels, shades, ("accuracy, %", "nearest weights, °"), strict=False):
        for axes, (title, loss, runs) in zip(line, grids, strict=True):
            own = LOSSES[loss].own_margin or ""
            heat_map(axes, runs, (own, "scale"), (f"margin {SIGNS[own]}", "scale s"), shade)
            axes.set_title(f"{shown_title(title)}:\n{what}", fontsize=9)
            axes.axhline(sum(m < bound_of(runs, loss) for m in {f[own] for f in runs}) - 0.5, **LINE)
    for axes, (title, loss, runs) in zip(panels[2], grids, strict=True):
        axes.axis("off")
        own = LOSSES[loss].own_margin or ""
        for facts in runs:
            if (facts["scale"], facts[own]) == (DRAWN["scale"], DRAWN[loss]) and study.arrays(facts):
                draw_raw(axes, points_of(study, facts, study.arrays(facts)))
                axes.set_title(
                    f"{shown_title(title)}:\n{SIGNS[own]} = {facts[own]:g}, s = {facts['scale']:g}", fontsize=9
                )
    figure.tight_layout()
    lost = sum("failed" in f for f in each.values())
    bounds = " and ".join(dict.fromkeys(
        f"{bound_of(runs, loss):.3f} for {LOSSES[loss].title}" for _, loss, runs in grids))  # fmt: skip
    return Drawn(
        figure,
        f"{data_title(first)}, two dimensions, {first['epochs']} epochs, seed {first['seed']}: test accuracy "
        "(bright is good, colours end at 90 %); angle between the two nearest class weights, at most "
        f"{widest:.0f}° and next to none where classes share a direction; test embeddings with a ray along each class "
        "weight at one margin past its bound, where names side by side share a direction. The line is the bound, "
        f"{bounds}; margin 0 is normalised softmax. Growing: scale and margin grow over the first "
        f"{100 * first['margin_warmup']:g} % of training; at once: both are full from the first step. "
        f"{f'Grey: failed ({lost} of {len(each)}).' if lost else f'None of these {len(each)} runs is near chance.'}",
    )
