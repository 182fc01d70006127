"""The theory's numbers for the report: the worked example, the room for margins and scales, the pull on the target.

All come from the program's own functions (bounds.py, losses.py), so that the text and the code cannot disagree.
"""

import math

import torch

from bounds import largest_spacing, maximum_margin, minimum_scale, target_at_centre
from choices import LOSSES, PRESETS, Margins
from losses import FLOOR, target_psi
from recipes import recipe

CLASSES = 10
PROBABILITIES = (0.9, 0.99)
PULL_ANGLES = (90, 60, 30, 10, 1)  # degrees
PULL_LOSSES = ("norm-softmax", "sphereface", "cosface", "arcface", "combined")


def worked_example() -> dict:
    """The assignment's two points, and the second one grown by half: Euclidean distance and angle, as text."""
    a, b = (5.0, 2.0), (7.0, 4.0)
    grown = (1.5 * b[0], 1.5 * b[1])
    cosine = (a[0] * b[0] + a[1] * b[1]) / (math.hypot(*a) * math.hypot(*b))
    return {
        "dot": f"{a[0] * b[0] + a[1] * b[1]:.0f}",
        "squares": f"{(a[0] ** 2 + a[1] ** 2) * (b[0] ** 2 + b[1] ** 2):.0f}",
        "cosine": f"{cosine:.5f}",
        "angle": f"{math.degrees(math.acos(cosine)):.2f}",
        "angle_of_rounded_cosine": f"{math.degrees(math.acos(0.99)):.2f}",  # the assignment rounds the cosine first
        "grown": [f"{v:g}" for v in grown],
        "distance": f"{math.dist(a, b):.2f}",
        "grown_distance": f"{math.dist(a, grown):.2f}",
        "grown_angle": f"{math.degrees(math.atan2(*grown[::-1]) - math.atan2(*a[::-1])):.2f}",
    }


def room() -> list[dict]:
    """For ten classes in two, three and many dimensions: spacing, largest margins and smallest scales, as text."""
    rows = []
    half = CLASSES // 2
    labels = {2: "2", 3: "3", 4: "4", half: f"{half} to {CLASSES - 2}", CLASSES - 1: f"{CLASSES - 1} or more"}
    for dim, label in labels.items():
        spacing = largest_spacing(CLASSES, dim)
        scales = [minimum_scale(CLASSES, p, dim) for p in PROBABILITIES]
        rows.append({
            "dim": label, "argument": spacing.case, "degrees": f"{math.degrees(spacing):.2f}",
            "arcface": f"{maximum_margin('arcface', CLASSES, dim):.3f}",
            "cosface": f"{maximum_margin('cosface', CLASSES, dim):.3f}",
            "scales": [("" if s.exact else "≥ ") + f"{s:.2f}" for s in scales],
        })  # fmt: skip
    return rows


def papers_margins_on_circle() -> dict:
    """What the papers' margins leave of the target's cosine at the class centre, ten classes on the circle."""
    spacing = largest_spacing(CLASSES, 2)
    named = {"cosface": LOSSES["cosface"].margins, "cm1": PRESETS["cm1"], "cm2": PRESETS["cm2"]}
    arcface = LOSSES["arcface"].margins.m2
    return {
        "neighbour": f"{math.cos(spacing):.3f}",
        **{name: f"{target_at_centre(margins):.3f}" for name, margins in named.items()},
        "empty": [name for name, margins in named.items() if target_at_centre(margins) <= math.cos(spacing)],
        # Towards a neighbour at distance a the region ends where t + m = a - t.
        "arcface_half_width": f"{math.degrees(spacing - arcface) / 2:.1f}",
    }


def pull(margins: Margins, degrees: float) -> float:
    """|d psi / d theta| at theta, by differentiating the program's own target_psi in float64."""
    theta = torch.tensor(math.radians(degrees), dtype=torch.float64, requires_grad=True)
    target_psi(theta.cos(), *margins).backward()
    assert theta.grad is not None
    return abs(theta.grad.item())


def pulls() -> dict:
    """The pull |psi'| of each loss at its paper's margins over PULL_ANGLES, as text; Li-ArcFace's is constant."""
    rows: list[dict] = []
    for loss in PULL_LOSSES:
        margins = LOSSES[loss].margins
        cells = [f"{pull(margins, angle):.3f}" for angle in PULL_ANGLES]
        title = LOSSES[loss].title + (", CM1" if margins == PRESETS["cm1"] else "")
        rows.append({"title": title, "margins": margin_text(margins), "cells": cells})
    constant = [f"{2 / math.pi:.3f}"] * len(PULL_ANGLES)
    rows.append({"title": LOSSES["li-arcface"].title, "margins": None, "cells": constant})
    return {"angles": [f"{angle}°" for angle in PULL_ANGLES], "rows": rows}


def margin_text(margins: Margins) -> str:
    """'(1, 0.5, 0)'."""
    return "(" + ", ".join(f"{m:g}" for m in margins) + ")"


def adacos() -> dict:
    """AdaCos for ten classes: its fixed scale, the scale it settles at once every sample is on a vertex of the simplex,
    and the largest probability that each lets a class centre reach."""
    neighbour = math.cos(largest_spacing(CLASSES, CLASSES - 1))
    fixed = math.sqrt(2) * math.log(CLASSES - 1)
    settled = fixed
    for _ in range(100):  # Eq. 14 of the paper, with a median angle of 0
        settled = math.log(CLASSES - 1) + settled * neighbour
    reached = [1 / (1 + (CLASSES - 1) * math.exp(scale * (neighbour - 1))) for scale in (fixed, settled)]
    return {"scale": f"{fixed:.2f}", "floor": f"{FLOOR:g}", "posterior": f"{reached[0]:.2f}",
            "settled": f"{settled:.2f}", "settled_posterior": f"{reached[1]:.2f}"}  # fmt: skip


def crowded() -> dict:
    """CIFAR-10's scale in the plane, and the largest probability that ten evenly spaced class weights then allow."""
    scale = recipe("cifar10", "arcface", 2, CLASSES)["scale"]
    gaps = [math.cos(2 * math.pi * j / CLASSES) - 1 for j in range(CLASSES)]
    return {"scale": f"{scale:g}", "posterior": f"{1 / sum(math.exp(scale * gap) for gap in gaps):.2f}"}


def linear_scales() -> dict:
    """Scales at which Li-ArcFace's linear logits let ten class centres reach the first of PROBABILITIES, as text."""
    dims = {"circle": 2, "simplex": CLASSES - 1}
    return {
        name: f"{minimum_scale(CLASSES, PROBABILITIES[0], dim, 'li-arcface'):.2f}" for name, dim in dims.items()
    } | {"probability": f"{PROBABILITIES[0]:g}"}


def numerics() -> dict:
    """Sizes of the numerical traps: where cosines round to 1, and the jump of the usual fallback past pi - m."""
    m = LOSSES["arcface"].margins.m2
    kinds = {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}
    # Below 1 neighbours lie eps / 2 apart, and what is nearer to 1 than half of that becomes 1.
    blind = {name: math.degrees(math.acos(1 - torch.finfo(kind).eps / 4)) for name, kind in kinds.items()}
    return {
        "blind": {name: f"{angle:.2g}" for name, angle in blind.items()},
        "margin": f"{m:g}",
        "jump": f"{math.cos(m) + m * math.sin(m) - 1:.3f}",
        "jump_at": f"{180 - math.degrees(m):.1f}",
        "easy_jump": f"{math.sin(m):.3f}",
    }


def theory() -> dict:
    """All of the above."""
    return {
        "probabilities": [f"{p:g}" for p in PROBABILITIES], "example": worked_example(),
        "room": room(), "circle": papers_margins_on_circle(), "pull": pulls(), "adacos": adacos(),
        "linear": linear_scales(), "crowded": crowded(),
        "numerics": numerics(),
        "margins": {name: margin_text(loss.margins) for name, loss in LOSSES.items()}
        | {name: margin_text(margins) for name, margins in PRESETS.items()},
        "paper_margin": {"sphereface": f"{LOSSES['sphereface'].margins.m1:g}",
                         "cosface": f"{LOSSES['cosface'].margins.m3:g}",
                         "arcface": f"{LOSSES['arcface'].margins.m2:g}",
                         "li-arcface": f"{LOSSES['li-arcface'].margins.m2:g}"},
    }  # fmt: skip
