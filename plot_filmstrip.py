"""The same embedding in the course of training, a row a loss."""

import matplotlib.pyplot as plt
import numpy as np

from plot_data import Drawn, NotStored, Study
from plot_points import label, points_of, scatter, staggered
from plot_sphere import apart
from plot_style import channels, class_colour, data_title, loss_title
from unit_vectors import unit

FRAMES = 6
STRIP_NAMES, STRIP_ROOM = 0.7, 2.4  # of a frame's names: their size, and their room beside that on a grid's sphere
SHOWN = ("softmax", "norm-softmax", "arcface")


def filmstrip(study: Study, dataset: str) -> Drawn:
    """The same 2,000 test images in 2-D before training and after some of the epochs, a row a loss."""
    rows = [f for f in study.drawn(dataset, 2) if f["loss"] in SHOWN and "snapshot_embeddings" in study.arrays(f)]
    if not rows:
        raise NotStored(f"2-D runs on {dataset} with snapshots")
    figure, panels = plt.subplots(len(rows), FRAMES, figsize=(1.2 * FRAMES, 1.3 * len(rows) + 0.6), squeeze=False)
    for line, facts in zip(panels, rows, strict=True):
        arrays = study.arrays(facts)
        states = arrays["snapshot_embeddings"].astype(np.float32)
        places = np.linspace(0, 1, FRAMES) ** 1.3  # denser at first, when most moves
        chosen = np.unique((places * (len(states) - 1)).round().astype(int))
        for axes in line:
            axes.axis("off")
        for axes, epoch in zip(line, chosen, strict=False):
            shot = {"embeddings": states[epoch], "labels": arrays["snapshot_labels"],
                    "weights": arrays["snapshot_weights"][epoch]}  # fmt: skip
            points = points_of(study, facts, shot)
            reach = float(np.quantile(np.linalg.norm(points.x, axis=1), 0.99)) or 1.0
            for c, direction in enumerate(unit(points.weights)):
                axes.plot(*np.stack((np.zeros(2), 1.2 * reach * direction)).T, color=class_colour(c), linewidth=0.6)
            scatter(axes, points, points.x, alpha=0.4, size=1.5)
            edge = reach * (1.5 if max(map(len, points.classes)) <= 2 else 1.85)  # room for names further out
            axes.set(xlim=(-edge, edge), ylim=(-edge, edge), aspect="equal")
            axes.set_title("start" if epoch == 0 else f"epoch {epoch}", fontsize=9, pad=9)
        directions = unit(points.weights)
        at, part = 1.36 * staggered(directions, points.classes)[:, None] * directions, 1.0
        if max(map(len, points.classes)) > 2:  # these panels are half as wide as a grid's
            at, part = apart(at, points.classes, STRIP_ROOM), STRIP_NAMES
        for c, place in enumerate(at):
            label(axes, reach * place, points.classes, c, part=part)
        line[0].text(-0.06, 0.5, loss_title(facts).partition(" (")[0], transform=line[0].transAxes, rotation=90,
                     ha="right", va="center", fontsize=9)  # fmt: skip
    heading = f"{data_title(rows[0])}, two dimensions"
    figure.suptitle(heading, fontsize=10)
    figure.tight_layout()
    return Drawn(
        figure,
        f"{heading}: the same {len(arrays['snapshot_labels']):,} test images before and "
        f"in the course of training, one run a loss (net of {channels(rows[0])} channels), with a ray along each class "
        "weight; labelled in the last frame; every frame has its own scale, and 1 % of the points may lie outside it.",
    )
