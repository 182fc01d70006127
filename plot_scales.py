"""Along the scale: what a margin and a straight line do that another scale does not."""

import itertools
from collections.abc import Callable
from typing import NamedTuple

import matplotlib.pyplot as plt
import numpy as np

from choices import LOSSES, Margins
from plot_compare import equal_error, same_recipe
from plot_data import Drawn, NotStored, Study, margins_in, most_alike, seeds_of
from plot_style import HALO, dark, data_title, log_ticks, loss_style, margin_texts
from plot_tables import key_of

PARTS = ("main", "control", "scale")  # of the study: what follows the recipe but for scale and margin
MARKERS = {"norm-softmax": "o", "arcface": "s", "cosface": "v", "li-arcface": "^"}
WITH_MARGIN = ("arcface", "cosface")  # of these, the margin is the table's; Li-ArcFace has none here
MOST = 3  # times the smallest mean error: what the last panel shows
APART = 0.15  # in the natural logarithm of either axis: what is named in its place there
OTHERS = {"color": "#7F7F7F", "marker": "D", "markersize": 5, "linestyle": "none", "markerfacecolor": "none",
          "zorder": 5}  # fmt: skip
# Points from a mean to its scale.
BESIDE = {"norm-softmax": (6, -3), "arcface": (-12, 5), "cosface": (-5, 8), "li-arcface": (-5, 7)}


class Family(NamedTuple):
    """One loss with one margin along the scale."""

    loss: str
    title: str  # 'ArcFace (m₂ = 0.5)'
    scales: dict[float, list[dict]]  # the runs at each scale, by seed


def tightness(facts: dict) -> float:
    """Intra, in degrees."""
    return facts["angles"]["test"]["intra"]


def separation(facts: dict) -> float:
    """Inter, in degrees."""
    return facts["angles"]["test"]["inter"]


INTRA, INTER, ERROR = "Intra, degrees", "Inter, degrees", "equal error rate, %"


def families(study: Study, dataset: str = "mnist") -> list[Family]:
    """Normalised softmax, ArcFace and CosFace with the table's margins and Li-ArcFace without one, at 512 dimensions,
    those that are stored: each alike but for scale and seed. NotStored where none of them has two scales."""
    groups = study.main(dataset)
    if "arcface" not in groups:
        raise NotStored(f"ArcFace runs on {dataset} at 512 dimensions")
    first = groups["arcface"][0]
    wanted = {loss: margins_in(groups[loss][0]) if loss in WITH_MARGIN else Margins() for loss in MARKERS
              if loss in groups or loss not in WITH_MARGIN}  # fmt: skip
    runs = [f for f in study.runs if f["part"] in PARTS and f["dataset"] == dataset and not f["unseen_classes"]]
    runs = same_recipe([f for f in runs if f["embedding_dim"] == first["embedding_dim"]], first)
    found = []
    for loss, margins in wanted.items():
        of_loss = [f for f in runs if f["loss"] == loss and margins_in(f) == margins]
        scales = {
            scale: sorted(most_alike([f for f in of_loss if f["scale"] == scale], key_of), key=lambda f: f["seed"])
            for scale in sorted({f["scale"] for f in of_loss})
        }
        if scales:
            found.append(Family(loss, family_title(of_loss[0]), scales))
    if max((len(family.scales) for family in found), default=0) < 2:
        raise NotStored(f"runs at several scales on {dataset} at 512 dimensions")
    return found


def family_title(facts: dict) -> str:
    """'ArcFace (m₂ = 0.5)'; of Li-ArcFace without a margin, that it has none."""
    loss = LOSSES[facts["loss"]]
    words = margin_texts(facts) or (["no margin"] if loss.own_margin else [])
    return loss.title + (f" ({', '.join(words)})" if words else "")


def scales(study: Study) -> Drawn:
    """Intra, Inter and equal error rate against the scale, and the last against the first, for three kinds of logit."""
    found = families(study)
    runs_at = [runs for family in found for runs in family.scales.values()]
    first = runs_at[0][0]
    figure, panels = plt.subplots(2, 2, figsize=(7.0, 4.9))
    *along, tight = panels.flat
    for axes, (name, read) in zip(along, ((INTRA, tightness), (INTER, separation), (ERROR, equal_error)), strict=True):
        _draw_lines(axes, found, None, read)
        axes.set(xscale="log", yscale="linear" if name == INTER else "log", xlabel="scale s", ylabel=name)
        ticks = sorted({s for family in found for s in family.scales if s % 1 == 0})
        axes.set_xticks(ticks, [f"{s:g}" for s in ticks])
        axes.minorticks_off()
    _draw_lines(tight, found, tightness, equal_error)
    others = _draw_others(tight, study, found)
    tight.set(xscale="log", yscale="log", xlabel=INTRA, ylabel=ERROR)
    log_ticks(tight.xaxis)
    errors = [np.mean([equal_error(f) for f in runs]) for runs in runs_at]
    if cut := max(errors) > MOST * min(errors):
        tight.set_ylim(top=MOST * min(errors))
        _name_the_cut(tight, found)
    for axes in panels.flat:
        axes.grid(alpha=0.3)
        if axes.get_yscale() == "log":
            log_ticks(axes.yaxis, (1, 2, 3, 4, 5, 6) if axes is tight else (1, 2, 5))
    handles, names = tight.get_legend_handles_labels()
    figure.legend(handles, names, loc="lower center", ncols=5, fontsize=7.5, columnspacing=1.4, handlelength=1.6)
    figure.suptitle(f"{data_title(first)}, 512 dimensions", fontsize=10)
    figure.tight_layout(rect=(0, 0.05, 1, 1))
    beside = (
        f" Diamonds: means of {', '.join(others)} in the main table, named where they lie apart from the rest."
        if others
        else ""
    )
    return Drawn(
        figure,
        f"{data_title(first)}, 512 dimensions, {first['epochs']} epochs, "
        f"{seeds_of({str(at): runs for at, runs in enumerate(runs_at)})}: Intra, the mean angle of "
        "a test image to its class mean, Inter, the mean over classes of the smallest angle of their mean to another, "
        "and the equal error rate over all pairs of test images, by scale; and the last against the first, with the "
        "scale beside the means at whole scales. Lines join means, small marks (in the other panels) are runs; all "
        "axes but Inter's "
        "are logarithmic."
        f"{beside}{f' In the last panel errors over {MOST * min(errors):.1f} % are cut off and named.' if cut else ''}",
    )


def _draw_lines(axes, found: list[Family], read_x: Callable | None, read_y: Callable) -> None:
    """A line a family through the means of its scales; read_x: None for the scale, which is then not written beside
    each mean, and each run has a mark."""
    for family in found:
        look = {"color": loss_style(family.loss)["color"], "marker": MARKERS[family.loss]}
        means = [
            (s if read_x is None else np.mean([read_x(f) for f in runs]), np.mean([read_y(f) for f in runs]))
            for s, runs in family.scales.items()
        ]
        axes.plot(*zip(*means, strict=True), **look, markersize=5, linewidth=1.3, label=family.title)
        for (s, runs), mean in zip(family.scales.items(), means, strict=True):
            if read_x is None:
                axes.plot(
                    [s] * len(runs), [read_y(f) for f in runs], **look, markersize=3, linestyle="none", alpha=0.45
                )
            elif s % 1 == 0:  # those between would crowd it, as the runs would
                axes.annotate(f"{s:g}", mean, BESIDE[family.loss], textcoords="offset points", fontsize=8,
                              color=dark(look["color"]), path_effects=HALO, annotation_clip=True)  # fmt: skip


def _name_the_cut(axes, found: list[Family]) -> None:
    """Where a family's line leaves the panel at its top, the scales and mean errors beyond."""
    top = axes.get_ylim()[1]
    leaving = []
    for family in found:
        means = [_centre(runs) for runs in family.scales.values()]
        above = [f"s = {s:g}: {error:.1f} %" for s, (_, error) in zip(family.scales, means, strict=True) if error > top]
        for start, to in itertools.pairwise(means):
            if start[1] <= top < to[1]:
                (x, y), (end_x, end_y) = np.log(start), np.log(to)
                across = np.exp(x + (np.log(top) - y) / (end_y - y) * (end_x - x))
                leaving.append((across, ", ".join(above), family.loss))
    for i, (across, words, loss) in enumerate(sorted(leaving)):
        axes.annotate(f"{words} ↑", (across, top), (-5, -9 - 11 * i), textcoords="offset points", fontsize=7.5,
                      ha="right", color=dark(loss_style(loss)["color"]), path_effects=HALO)  # fmt: skip


def _draw_others(axes, study: Study, found: list[Family]) -> list[str]:
    """The main table's other losses with a margin, of the families' recipe, unjoined; returns their names. One that
    lies apart from all the families' means is named in its place."""
    families_at = [_centre(runs) for family in found for runs in family.scales.values()]
    first = next(iter(found[0].scales.values()))[0]
    drawn: list[str] = []
    for loss, members in study.main(first["dataset"]).items():
        runs = same_recipe(members, first)
        if LOSSES[loss].own_margin and runs and loss not in WITH_MARGIN:
            at = _centre(runs)
            axes.plot(*at, **OTHERS, label=None if drawn else "other margins")
            if min(np.abs(np.log(np.divide(at, other))).max() for other in families_at) > APART:
                axes.annotate(LOSSES[loss].title, at, (-6, -2.5), textcoords="offset points", fontsize=7.5, ha="right",
                              color=OTHERS["color"], path_effects=HALO)  # fmt: skip
            drawn.append(LOSSES[loss].title)
    return drawn


def _centre(runs: list[dict]) -> tuple[float, float]:
    """Where the mean of some runs lies in the last panel."""
    return float(np.mean([tightness(f) for f in runs])), float(np.mean([equal_error(f) for f in runs]))
