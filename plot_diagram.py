"""The head's place in the network, drawn in code: what training uses, and what is left of it when predicting."""

import matplotlib.pyplot as plt

from plot_data import Drawn
from plot_style import CLASS_COLOURS

BLUE, ORANGE, GREEN = CLASS_COLOURS[:3]
GREY = "#555555"


def box(axes, x: float, y: float, width: float, height: float, text: str, colour: str) -> None:
    """A labelled box with its lower left corner at (x, y)."""
    axes.add_patch(plt.Rectangle((x, y), width, height, facecolor="white", edgecolor=colour, linewidth=1.5))
    axes.text(x + width / 2, y + height / 2, text, ha="center", va="center", fontsize=9, linespacing=1.35)


def arrow(axes, start: tuple, end: tuple, text: str = "", colour: str = GREY) -> None:
    """An arrow with its label over its middle."""
    axes.annotate("", end, start, arrowprops={"arrowstyle": "-|>", "color": colour, "linewidth": 1.3})
    place = ((start[0] + end[0]) / 2, (start[1] + end[1]) / 2 + 0.14)
    axes.text(*place, text, ha="center", va="bottom", fontsize=8, color=colour)


def head_in_network() -> Drawn:
    """Images to embedding to cosines; the margin on the target only while training."""
    figure, axes = plt.subplots(figsize=(8.6, 3.7))
    axes.set(xlim=(0, 17.6), ylim=(1.2, 8.3))
    axes.axis("off")
    box(axes, 0.1, 4.6, 2.1, 1.7, "images\n[B, c, h, w]", GREY)
    box(axes, 3.2, 4.6, 2.7, 1.7, "CNN\nmodels.py", BLUE)
    box(axes, 7.5, 4.6, 2.7, 1.7, "cos θ = x · W\neach of length 1", ORANGE)
    box(axes, 7.5, 7.0, 2.7, 1.0, "weights W [C, d]", ORANGE)
    box(axes, 11.7, 4.6, 2.5, 1.7, "ψ on the\ntarget only", GREEN)
    box(axes, 15.4, 4.6, 2.1, 1.7, "softmax,\ncross-entropy", GREY)
    box(axes, 11.7, 7.0, 2.5, 1.0, "labels y [B]", GREY)
    box(axes, 11.7, 1.9, 5.8, 1.0, "largest cosine: predicted class", GREY)
    box(axes, 3.2, 1.9, 4.2, 1.0, "compare two images by cos", GREY)
    arrow(axes, (2.2, 5.45), (3.2, 5.45))
    arrow(axes, (5.9, 5.45), (7.5, 5.45), "x [B, d]")
    arrow(axes, (8.85, 7.0), (8.85, 6.3))
    arrow(axes, (10.2, 5.45), (11.7, 5.45), "[B, C]")
    arrow(axes, (12.95, 7.0), (12.95, 6.3))
    arrow(axes, (14.2, 5.45), (15.4, 5.45), "× s")
    arrow(axes, (9.6, 4.6), (11.7, 2.5), colour=GREY)
    arrow(axes, (6.5, 5.45), (5.4, 2.9), colour=GREY)
    axes.add_patch(plt.Rectangle((7.2, 4.2), 8.05, 3.98, fill=False, edgecolor=ORANGE, linewidth=1, linestyle="--"))
    axes.text(15.1, 4.25, "head (losses.py), float32", fontsize=8, color="#9A6700", va="bottom", ha="right")
    axes.text(17.5, 4.35, "training", fontsize=8, style="italic", ha="right", va="top", color=GREY)
    axes.text(17.5, 1.7, "in use: no labels, no margin", fontsize=8, style="italic", ha="right", va="top", color=GREY)
    figure.tight_layout()
    return Drawn(
        figure,
        "The head's place in the network; CNN: the convolutional network, B: images in a batch of c channels, "
        "h by w pixels, d: dimensions of the embedding, C: classes. The head "
        "holds one weight vector a class and sees the labels; the CNN does not. "
        "While training it replaces the target's cosine by ψ(θ) and scales all by s; in use there are no labels and no "
        "margin: the largest cosine names the class, and two images are compared by the cosine of their embeddings. "
        "Plain softmax is the exception: its logits are the products of W's rows with x, not normalised, not scaled.",
    )
