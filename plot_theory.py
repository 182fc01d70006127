"""Figures of the formulas alone: no data, no training. Each function returns the figure with its caption."""

import math

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.ticker import NullFormatter, ScalarFormatter

from bounds import largest_spacing, maximum_margin, minimum_scale
from choices import LOSSES, Margins
from losses import target_psi
from plot_data import Drawn
from plot_style import CLASS_COLOURS, loss_style, margin_texts

BLUE, ORANGE, GREEN, RED = CLASS_COLOURS[:4]


def psi(theta: np.ndarray, margins: Margins) -> np.ndarray:
    """The losses' own psi (not a copy of its formula) at angles in radians."""
    return target_psi(torch.cos(torch.as_tensor(theta, dtype=torch.float64)), *margins).numpy()


def target_logit() -> Drawn:
    """ArcFace Fig. 4b: the target logit of every loss over the target angle, s = 1."""
    figure, axes = plt.subplots(figsize=(5.9, 3.7))
    degrees = np.linspace(0, 180, 1441)
    theta = np.radians(degrees)
    shown = {name: loss.margins for name, loss in LOSSES.items() if name not in ("softmax", "adacos", "li-arcface")}
    turned = []
    for name, margins in shown.items():
        style = loss_style(name)
        phase = margins.m1 * theta + margins.m2
        plain = phase <= math.pi
        curve = psi(theta, margins)
        axes.plot(degrees[plain], curve[plain], label=legend(name, margins), **style)
        if not plain.all():
            turn = math.degrees((math.pi - margins.m2) / margins.m1)
            turned.append(f"{LOSSES[name].title} {turn:.0f}°")
            axes.plot(degrees[~plain], curve[~plain], color=style["color"], linewidth=1.6, linestyle=(0, (4, 1.5)))
            axes.plot(degrees[~plain], np.cos(phase[~plain]) - margins.m3, color=style["color"], linewidth=0.8,
                      linestyle=":")  # fmt: skip
            axes.plot(turn, psi(np.array([math.radians(turn)]), margins), "o", color=style["color"], markersize=4)
    own = LOSSES["li-arcface"].margins.m2
    axes.plot(degrees, 1 - 2 / math.pi * (theta + own), label=f"Li-ArcFace (m₂ = {own:g})", **loss_style("li-arcface"))
    axes.set(xlabel="target angle θ, degrees", ylabel="target logit / s", xlim=(0, 180), xticks=range(0, 181, 30))
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8, loc="lower left")
    figure.tight_layout()
    return Drawn(
        figure,
        "Target logit over the target angle for the papers' margins (Li-ArcFace: ours), m₂ in radians. Past a dot, "
        f"dashed in the loss's colour: the continuation where m₁ θ + m₂ > π ({', '.join(turned)}), which keeps the "
        "logit falling up to 180°; thin dotted: what cos(m₁ θ + m₂) − m₃ alone would do there, rewarding samples for "
        "moving away. Only the target's logit is changed; all other classes keep cos θ, the curve of normalised "
        "softmax, and of AdaCos at its own s (for Li-ArcFace (π − 2θ)/π); softmax's logit depends on lengths as well.",
    )


def legend(name: str, margins: Margins) -> str:
    """'ArcFace (m₂ = 0.5)'."""
    given = margin_texts(margins._asdict())
    return LOSSES[name].title + (f" ({', '.join(given)})" if given else "")


def decision_margins() -> Drawn:
    """ArcFace Fig. 5: where a sample with angles (theta_1, theta_2) satisfies class 1, class 2 or neither."""
    names = ["norm-softmax", "sphereface", "cosface", "arcface", "combined"]
    figure, panels = plt.subplots(2, 3, figsize=(6.6, 4.7), sharex=True, sharey=True)
    degrees = np.linspace(0, 90, 361)
    first, second = np.meshgrid(np.radians(degrees), np.radians(degrees))
    axes = panels.flat[0]
    ratio = 0.75  # |W2| / |W1| of the softmax panel
    regions(axes, degrees, np.cos(first) > ratio * np.cos(second), np.cos(first) < ratio * np.cos(second))
    axes.set_title(f"Softmax\n(here |W₂| = {ratio:g} |W₁|)", fontsize=9)
    for axes, name in zip(panels.flat[1:], names, strict=True):
        margins = LOSSES[name].margins
        regions(axes, degrees, psi(first, margins) > np.cos(second), psi(second, margins) > np.cos(first))
        axes.set_title(legend(name, margins).replace(" (", "\n("), fontsize=9)
    for axes in panels.flat:
        axes.set(xlim=(0, 90), ylim=(0, 90), xticks=(0, 30, 60, 90), yticks=(0, 30, 60, 90), aspect="equal")
        axes.text(6, 74, "class 1", color=BLUE, weight="bold", fontsize=9)
        axes.text(58, 6, "class 2", color="#9A6700", weight="bold", fontsize=9)
    for axes in panels[1]:
        axes.set_xlabel("θ₁ to class 1, degrees")
    for axes in panels[:, 0]:
        axes.set_ylabel("θ₂ to class 2, degrees")
    figure.tight_layout()
    return Drawn(
        figure,
        "Decision margins of the binary case, at the papers' margins (m₂ in radians: 0.5 is 28.6°). Blue: ψ(θ₁) > "
        "cos θ₂, the loss is content that the sample is of class 1; orange: the same for class 2; white: neither, "
        "the margin that training must empty. ArcFace's is the same angle everywhere, CosFace's is the same "
        f"cosine, SphereFace's (m₁ = {LOSSES['sphereface'].margins.m1:g}) vanishes at θ = 0. Softmax has no margin: "
        f"its boundary, here |W₁| cos θ₁ = {ratio:g} |W₁| cos θ₂, moves with the lengths of the weights. Dotted: equal "
        "angles.",
    )


def regions(axes, degrees: np.ndarray, one: np.ndarray, two: np.ndarray) -> None:
    """Fill where class 1 and where class 2 is satisfied, with their boundaries."""
    for mask, colour in ((one, BLUE), (two, ORANGE)):
        axes.contourf(degrees, degrees, mask.astype(float), levels=[0.5, 1.5], colors=[colour], alpha=0.35)
        axes.contour(degrees, degrees, mask.astype(float), levels=[0.5], colors=[colour], linewidths=1.2)
    axes.plot([0, 90], [0, 90], color="black", linewidth=0.6, linestyle=":")


def feasible_margins() -> Drawn:
    """How large a margin ten or a hundred classes leave: in 2-D and where the simplex fits."""
    counts = np.unique(np.round(np.geomspace(3, 100, 80)).astype(int))
    figure, panels = plt.subplots(1, 2, figsize=(6.8, 3.2))
    papers = {"arcface": LOSSES["arcface"].margins.m2, "cosface": LOSSES["cosface"].margins.m3}
    for axes, (name, paper) in zip(panels, papers.items(), strict=True):
        flat = [maximum_margin(name, int(c), 2) for c in counts]
        roomy = [maximum_margin(name, int(c), int(c) - 1) for c in counts]
        axes.fill_between(counts, flat, color=BLUE, alpha=0.2)
        axes.plot(counts, flat, color=BLUE, label="bound in 2-D")
        axes.plot(counts, roomy, color=GREEN, linestyle="--", label="bound for d ≥ C − 1")
        axes.axhline(paper, color=RED, linestyle="-.", linewidth=1.2, label=f"the paper's margin, {paper:g}")
        axes.axvline(10, color="black", linewidth=0.7, linestyle=":")
        at_ten = maximum_margin(name, 10, 2)
        axes.plot(10, at_ten, "o", color=BLUE, markersize=5)
        axes.annotate(f"C = 10: {at_ten:.3f}", (10, at_ten), xytext=(8, 6), textcoords="offset points", fontsize=8)
        axes.set(xscale="log", xlabel="classes C", ylim=(0, None), xticks=(3, 5, 10, 20, 50, 100))
        axes.xaxis.set_major_formatter(ScalarFormatter())
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.set_title(f"{LOSSES[name].title}: largest margin")
        axes.set_ylabel("m₂, radians" if name == "arcface" else "m₃")
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8, frameon=True, framealpha=1, edgecolor="white")
    figure.tight_layout()
    spare = math.degrees(largest_spacing(10, 2) - papers["arcface"]) / 2
    return Drawn(
        figure,
        "Below the solid line (shaded) a sample on its own class weight still wins against the nearest other class: "
        "2π/C for ArcFace and 1 − cos(2π/C) for CosFace on the circle; dashed, the bound where the simplex fits "
        f"(d ≥ C − 1); dotted, ten classes. There CosFace's {papers['cosface']:g} has no feasible region in 2-D and "
        f"ArcFace's {papers['arcface']:g} leaves ±{spare:.1f}°.",
    )


def scale_bound() -> Drawn:
    """CosFace Eq. 6: the least scale against the number of classes and the posterior asked for."""
    counts = np.unique(np.round(np.geomspace(2, 100_000, 200)).astype(int))
    figure, axes = plt.subplots(figsize=(6.4, 3.8))
    for probability, colour, line in ((0.5, GREEN, ":"), (0.9, BLUE, "-"), (0.99, ORANGE, "--"), (0.999, RED, "-.")):
        bound = [minimum_scale(int(c), probability) for c in counts]
        axes.plot(counts, bound, color=colour, linestyle=line, label=f"P = {probability:g}")
    least, circle = minimum_scale(10, 0.9), minimum_scale(10, 0.9, 2)
    axes.plot(10, least, "o", color="black", markersize=5, label=f"C = 10, P = 0.9: {least:.2f}", linestyle="")
    axes.plot(10, circle, "s", color="black", markersize=5, label=f"the same in 2-D: {circle:.1f}", linestyle="",
              markerfacecolor="none")  # fmt: skip
    axes.set(xscale="log", xlabel="classes C", ylabel="least scale s", ylim=(0, None))
    axes.set_xticks([10, 100, 1000, 10_000, 100_000], ["10", "100", "1,000", "10,000", "100,000"])
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right")
    figure.tight_layout()
    return Drawn(
        figure,
        "Least scale at which the probability P can be reached on every class weight: "
        "s ≥ (C − 1)/C · ln((C − 1) P / (1 − P)), CosFace Eq. 6. "
        "The bound is tight only when the centres can form a simplex (C ≤ d + 1); in fewer dimensions "
        f"more is needed: for ten classes and P = 0.9, {circle:.1f} on the circle and {least:.2f} on a simplex.",
    )


def worked_example() -> Drawn:
    """The assignment's two points: their Euclidean distance grows while their angle stays."""
    a, b = np.array([5.0, 2.0]), np.array([7.0, 4.0])
    longer = 1.5 * b
    angle = math.degrees(math.acos(a @ b / (np.linalg.norm(a) * np.linalg.norm(b))))
    figure, axes = plt.subplots(figsize=(5.0, 3.3))
    arrows = [(a, BLUE, "a = (5, 2)", (6, -12)), (longer, ORANGE, "b′ = 1.5 b = (10.5, 6)", (-118, 4))]
    arrows.append((b, RED, "b = (7, 4)", (-62, 4)))
    for end, colour, text, offset in arrows:
        axes.annotate("", tuple(end), (0, 0), arrowprops={"arrowstyle": "-|>", "color": colour, "linewidth": 1.6})
        axes.annotate(text, tuple(end), xytext=offset, textcoords="offset points", color=colour, weight="bold")
    for end, colour in ((b, RED), (longer, ORANGE)):
        axes.plot(*np.stack((a, end)).T, color=colour, linestyle="--", linewidth=1)
        slope = math.degrees(math.atan2(*(end - a)[::-1]))
        x, y = (a + end) / 2
        axes.text(x, y, f"{np.linalg.norm(end - a):.2f}", fontsize=8, ha="center", va="center", rotation=slope,
                  bbox={"facecolor": "white", "linewidth": 0, "pad": 0.5})  # fmt: skip
    turns = np.linspace(math.atan2(a[1], a[0]), math.atan2(b[1], b[0]), 30)
    axes.plot(3.2 * np.cos(turns), 3.2 * np.sin(turns), color="black", linewidth=1)
    axes.text(2.1, 1.75, f"θ = {angle:.2f}°", ha="center")
    axes.set(xlim=(0, 12), ylim=(0, 7.4), aspect="equal", xlabel="first feature", ylabel="second feature")
    axes.grid(alpha=0.3)
    figure.tight_layout()
    return Drawn(
        figure,
        f"Making b half as long again moves its Euclidean distance to a (dashed) from {np.linalg.norm(b - a):.2f} to "
        f"{np.linalg.norm(longer - a):.2f}; the angle between them stays {angle:.2f}°.",
    )
