"""How large a margin and how small a scale can work: the geometry of C unit vectors in d dimensions.

The largest angle that C class centres can all keep from each other decides the margins; the loss at a class centre
decides the scale. Each answer says whether it is exact or only a bound, and by which argument.
"""

import math

from choices import LOSSES

# Tammes' problem: the proved optima for C > 6 points on the sphere in 3-D, in degrees (12: the icosahedron). 7 to 9:
# Schuette and van der Waerden 1951; 10, 11: Danzer 1986; 13, 14: Musin and Tarasov 2012, 2015; 24: Robinson 1961.
TAMMES = {7: 77.8695, 8: 74.8585, 9: 70.5288, 10: 66.1468, 11: 63.4349, 12: 63.4349, 13: 57.1367,
          14: 55.6706, 24: 43.6908}  # fmt: skip
# Solved cases by dimension, in radians. Ten points in 4-D are the midpoints of a simplex's edges: Bachoc and Vallentin
# 2009.
SOLVED = {3: {count: math.radians(angle) for count, angle in TAMMES.items()}, 4: {10: math.acos(1 / 6)}}

WITH_MARGIN = ("sphereface", "cosface", "arcface", "combined", "li-arcface")


class Bound(float):
    """A number with the argument it rests on in `case`, and whether that makes it exact in `exact`."""

    case: str
    exact: bool

    def __new__(cls, value: float, case: str, exact: bool = True) -> "Bound":
        self = super().__new__(cls, value)
        self.case, self.exact = case, exact
        return self


def largest_spacing(num_classes: int, embedding_dim: int) -> Bound:
    """Largest angle (radians) by which all of C directions in d dimensions can differ from each other.

    Exact for d = 1 and 2, C <= d + 1 (regular simplex), C <= 2d (Rankin 1955: 90 degrees), the solved cases of d = 3
    and ten points in d = 4; otherwise an upper bound from the area of the caps around the directions. ValueError for
    C < 2 or d < 1.
    """
    if num_classes < 2 or embedding_dim < 1:
        raise ValueError(f"{num_classes} classes in {embedding_dim} dimensions: need at least 2 and 1")
    if num_classes <= embedding_dim + 1:
        return Bound(math.acos(-1 / (num_classes - 1)), "simplex")
    if embedding_dim == 1:
        return Bound(0.0, "line: two directions at most")
    if embedding_dim == 2:
        return Bound(2 * math.pi / num_classes, "circle")
    if num_classes <= 2 * embedding_dim:
        return Bound(math.pi / 2, "orthoplex")
    solved = SOLVED.get(embedding_dim, {})
    if num_classes in solved:
        return Bound(solved[num_classes], f"best packing in {embedding_dim}-D")
    from scipy.special import betaincinv

    # C caps of half the spacing do not overlap; a cap of angle a <= 90 deg covers I_{sin^2 a}((d-1)/2, 1/2) / 2.
    half = math.asin(math.sqrt(betaincinv((embedding_dim - 1) / 2, 0.5, 2 / num_classes)))
    bound = Bound(min(2 * half, math.pi / 2), "upper bound by cap area", exact=False)
    # One more direction never widens the spacing, so the solved cases below C bound it as well.
    fewer = [angle for count, angle in solved.items() if count < num_classes]
    if fewer and min(fewer) < bound:
        return Bound(min(fewer), f"upper bound by a best packing of fewer in {embedding_dim}-D", exact=False)
    return bound


def maximum_margin(loss: str, num_classes: int, embedding_dim: int, *, m2: float = 0.0) -> Bound:
    """Least margin that leaves no feasible region, for a loss with a margin of its own: usable ones lie below it.

    A region is feasible when an embedding at its own class centre still beats the nearest other class, psi(0) > cos(a)
    with a the spacing: ArcFace and Li-ArcFace m < a, CosFace m < 1 - cos(a) (CosFace Sec. 3.4: C / (C - 1) only where
    C <= d + 1), SphereFace any m. For `combined`, the largest m3 for the given m2. That samples elsewhere do no better
    is proved for ArcFace and Li-ArcFace; for CosFace where C <= 2 d; and in the plane for all with psi(theta) <=
    cos(theta), as every m1 >= 1 and the papers' presets have it. `exact` is said of samples at their centres.
    ValueError for another loss and for m2 < 0.
    """
    if not (math.isfinite(m2) and m2 >= 0):
        raise ValueError(f"m2 = {m2}: need a finite number from 0 on")
    if loss not in WITH_MARGIN:
        raise ValueError(f"'{loss}' has no margin to bound: choose from {', '.join(WITH_MARGIN)}")
    spacing = largest_spacing(num_classes, embedding_dim)
    if loss == "sphereface":
        return Bound(math.inf, "psi(0) = 1 for every m1")
    if loss in ("arcface", "li-arcface"):
        return spacing
    start = target_at_centre((1.0, m2, 0.0)) if loss == "combined" else 1.0
    return Bound(start - math.cos(spacing), spacing.case, spacing.exact)


def minimum_scale(
    num_classes: int, probability: float = 0.9, embedding_dim: int | None = None, loss: str = "norm-softmax"
) -> Bound:
    """Scale below which no embedding arrangement gives every class centre the posterior `probability`: CosFace Eq. 6.

    s >= (C - 1) / C ln((C - 1) P / (1 - P)). It is reached by the simplex, C <= d + 1; with fewer dimensions it stays a
    true but loose bound. On the circle (d = 2) the scale for evenly spaced centres is found instead. 0 where every
    scale does (P <= 1 / C). ValueError unless C >= 2, 0 < P < 1 and d >= 1, and for softmax, which has no scale.

    loss: only "li-arcface" differs, whose logits are s (1 - 2 theta / pi) in place of s cos(theta). Eq. 6 bounds it too
    (a random plane through 0 parts at most C^2 / 4 pairs, so the mean angle of a pair is at most pi C / (2 C - 2)), but
    the simplex needs more, and its scale is the answer where it is shown to be best; elsewhere Eq. 6 is.
    """
    if num_classes < 2:
        raise ValueError(f"{num_classes} classes: need at least 2")
    if not 0 < probability < 1:
        raise ValueError(f"probability {probability}: need a number between 0 and 1, both excluded")
    if embedding_dim is not None and embedding_dim < 1:
        raise ValueError(f"{embedding_dim} dimensions: need at least 1")
    if loss not in (known := [name for name in LOSSES if name != "softmax"]):
        raise ValueError(f"'{loss}' has no scale to bound: choose from {', '.join(known)}")
    others = num_classes - 1
    bound = max(0.0, others / num_classes * math.log(others * probability / (1 - probability)))
    if embedding_dim is None:
        return Bound(bound, "CosFace Eq. 6: tight only when C <= d + 1", exact=False)
    linear = loss == "li-arcface"
    if num_classes <= embedding_dim + 1:
        if not linear:
            return Bound(bound, "simplex")
        gap = 2 / math.pi * math.acos(-1 / others)  # between a centre's own logit and the others, at s = 1
        scale = bound * num_classes / others / gap
        if _simplex_is_best(-1 / others, scale):
            return Bound(scale, "simplex")
        return Bound(bound, "CosFace Eq. 6: loose for linear logits", exact=False)
    if embedding_dim == 2:
        return Bound(_circle_scale(num_classes, probability, linear), "circle")
    return Bound(bound, "CosFace Eq. 6: loose, for C > d + 1", exact=False)


def _simplex_is_best(cosine: float, scale: float) -> bool:
    """Whether it is shown that no arrangement has a smaller mean of f(t) = exp(-2 s arccos(t) / pi) over its pairs than
    the simplex, all of whose cosines are this one.

    Two and three directions: their angles sum to pi and 2 pi at most, and f is convex in the angle. More: if f lies
    above its tangent at the simplex's cosine all over [-1, 1], for no arrangement has a smaller mean cosine. f is
    concave up to some t and convex beyond, so that it does so if it does at t = -1. If not, there may be a better one:
    four in a square reach P = 0.55 at a smaller scale.
    """
    if cosine <= -0.5:
        return True
    c = 2 * scale / math.pi
    tangent = 1 - c * math.sqrt((1 + cosine) / (1 - cosine))  # at t = -1, in parts of f at the simplex's cosine
    return math.exp(-c * math.acos(-cosine)) >= tangent


def _circle_scale(num_classes: int, probability: float, linear: bool) -> float:
    """Scale at which a centre among C evenly spaced ones on the circle has the posterior `probability`."""
    parts = [min(j, num_classes - j) / num_classes for j in range(1, num_classes)]  # of a full turn
    gaps = [4 * part if linear else 1 - math.cos(2 * math.pi * part) for part in parts]

    def posterior(scale: float) -> float:
        return 1 / (1 + sum(math.exp(-scale * gap) for gap in gaps))

    if posterior(0.0) >= probability:
        return 0.0
    high = 1.0
    while posterior(high) < probability:
        high *= 2
    from scipy.optimize import brentq

    return float(brentq(lambda scale: posterior(scale) - probability, 0.0, high, xtol=1e-12))


def target_at_centre(margins: tuple[float, float, float]) -> float:
    """psi(0): what margins (m1, m2, m3) leave of the target's cosine when the embedding sits on its class weight."""
    _, m2, m3 = margins
    k = math.floor(m2 / math.pi)
    return (-1) ** k * math.cos(m2) - 2 * k - m3


def feasibility_warnings(
    loss: str,
    margins: tuple[float, float, float],
    scale: float | None,
    num_classes: int,
    embedding_dim: int,
    probability: float = 0.9,
) -> list[str]:
    """One line for each setting that cannot be satisfied: one dimension, an empty feasible region, a scale under its
    bound. Where psi(theta) > cos(theta) somewhere (a small m1), a region away from the centres is not looked for."""
    lines = []
    if embedding_dim == 1 and loss != "softmax":
        lines.append(
            "in one dimension every cosine is 1 or -1 and nothing can be learnt: use --embedding-dim 2 or more"
        )
    spacing = largest_spacing(num_classes, embedding_dim)
    m1, m2, m3 = margins
    room = spacing - m2 if loss == "li-arcface" else target_at_centre(margins) - math.cos(spacing)
    if margins != (1, 0, 0) and room <= 0:
        lines.append(
            f"margins ({m1:g}, {m2:g}, {m3:g}) leave no feasible region: {num_classes} classes "
            f"in {embedding_dim}-D lie at most {math.degrees(spacing):.1f} degrees apart "
            f"({spacing.case}); use a smaller margin"
        )
    if scale is not None and loss not in ("softmax", "adacos"):
        least = minimum_scale(num_classes, probability, embedding_dim, loss)
        if scale < least:
            lines.append(
                f"scale {scale:g} is under {least:.2f}, the least at which {num_classes} classes in {embedding_dim}-D "
                f"can reach a posterior of {probability:g} ({least.case}); a larger scale allows more"
            )
    return lines
