"""Embeddings as pictures: 2-D raw and on the circle, 3-D on the sphere, others as a map; grids of all losses."""

from collections.abc import Callable
from functools import partial

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.artist import Artist
from matplotlib.figure import Figure
from matplotlib.offsetbox import AnnotationBbox, HPacker, TextArea
from matplotlib.patches import Wedge

from plot_data import Drawn, Study
from plot_sphere import best_view, draw_space, draw_sphere
from plot_style import HALO, channels, class_colour, dark, data_title, loss_title, name_size
from runs import BAD_CONTENT, STORE_ANEW, RunError
from unit_vectors import unit

MAP_SAMPLES = 2000  # what t-SNE lays out in seconds
MAP_SEED = 0
# Inches: a figure's heading, a panel's title of two lines, a figure's edges, what keeps names from the titles below.
HEAD, TITLE, SIDE, GAP = 0.34, 0.42, 0.15, 0.06
SAME = 0.14  # radians between two directions that share one name
ROOM_INSIDE = (0.3, 0.5)  # radians that a digit's or two letters' name takes inside a circle
CLOSE = 0.5  # radians between two directions whose names would overlap


class NotFitting(Exception):
    """Arrays and metrics of different runs, or damaged ones."""


class Points:
    """One run's test embeddings [N, d] with labels [N], class weights [C, d] and its metrics.

    Raises NotFitting where they do not belong together.
    """

    def __init__(self, facts: dict, arrays: dict):
        try:
            with np.errstate(over="ignore"):
                self.x, self.y = arrays["embeddings"].astype(np.float32), arrays["labels"].astype(int)
            self.weights, self.facts, self.classes = arrays["weights"].astype(np.float32), facts, facts["classes"]
            self.dim = self.x.shape[1]
            fits = len(self.x) == len(self.y) > 0 and self.weights.shape == (len(self.classes), self.dim)
            fits = fits and self.y.min() >= 0 and self.y.max() < len(self.classes)
            fits = fits and self.x.ndim == 2 and self.y.shape == self.x.shape[:1]
            fits = fits and np.issubdtype(arrays["labels"].dtype, np.integer)
            with np.errstate(over="ignore"):  # a length, too, must be a number
                fits = fits and all(np.isfinite(np.linalg.norm(a, axis=1)).all() for a in (self.x, self.weights))
            self.heading()
        except BAD_CONTENT:
            fits = False
        if not fits:
            raise NotFitting("embeddings.npz and metrics.json do not fit together")

    def heading(self) -> str:
        """'CIFAR-10 (JPEG copy), ArcFace (s = 16, m₂ = 0.3): 88.9 %'."""
        return f"{data_title(self.facts)}, {self.title()}"

    def panel_title(self) -> str:
        """The title over a narrow panel, on two lines: the loss and its accuracy, then its settings."""
        name, _, settings = loss_title(self.facts).partition(" (")
        narrow = settings.rstrip(")").replace(" = ", "\u200a=\u200a")  # hair spaces
        return f"{name}: {100 * self.facts['test_accuracy']:.1f} %\n{narrow}"

    def title(self) -> str:
        """'ArcFace (s = 16, m₂ = 0.3): 98.9 %'."""
        return f"{loss_title(self.facts)}: {100 * self.facts['test_accuracy']:.1f} %"


def draw_raw(axes, points: Points) -> None:
    """2-D embeddings as the network gives them, with a ray along each class weight."""
    reach = float(np.quantile(np.linalg.norm(points.x, axis=1), 0.999)) or 1.0
    for c, direction in enumerate(unit(points.weights)):
        axes.plot([0, reach * direction[0]], [0, reach * direction[1]], color=class_colour(c), linewidth=0.7)
    scatter(axes, points, points.x)
    directions = unit(points.weights)
    factors = staggered(directions, points.classes)
    for group in _together(directions, points.classes):
        factor, direction = factors[group[0]], unit(directions[group].sum(0)[None])[0]
        place = 1.13 * factor * reach * direction
        if factor > 1:  # a name further out is led to its ray
            ends = reach * np.stack((direction, (factor - 0.02) * direction)).T
            axes.plot(*ends, color=class_colour(group[0]), linewidth=0.6, linestyle=":")
        label(axes, place, points.classes, *group)
    edge = (1.13 * factors.max() + 0.17) * reach  # room for the names
    axes.set(xlim=(-edge, edge), ylim=(-edge, edge))


def draw_circle(axes, points: Points) -> None:
    """2-D embeddings scaled to length 1: outward, how many lie at each angle, by class; inward, the class weights."""
    angles = np.degrees(np.arctan2(points.x[:, 1], points.x[:, 0]))
    edges = np.arange(-180, 181, 2.0)
    counts = np.stack([np.histogram(angles[points.y == c], edges)[0] for c in range(len(points.classes))])
    heights = 0.9 * np.sqrt(counts / counts.max())  # square root: the few between classes stay visible
    for i, column in enumerate(heights.T):
        for c in np.argsort(-column, kind="stable"):  # the tallest first, so that the others show before it
            if column[c]:
                start, end = edges[i], edges[i + 1]
                axes.add_patch(Wedge((0, 0), 1 + column[c], start, end, width=column[c], color=class_colour(c), lw=0.2))
    directions, names = unit(points.weights), initials(points.classes)
    for c, direction in enumerate(directions):
        axes.plot([0, direction[0]], [0, direction[1]], color=class_colour(c), linewidth=0.9)
    groups = _together(directions, names) if names else []
    short = bool(names) and names[0] != points.classes[0]  # two letters take more room than a digit
    middles = [unit(directions[group].sum(0)[None])[0] for group in groups]
    rooms = ROOM_INSIDE[1 if short else 0] * np.array([len(group) for group in groups])
    at = _spread(np.array([np.arctan2(y, x) for x, y in middles]), rooms)
    for group, angle in zip(groups, at, strict=True):
        place = 0.72 * np.array((np.cos(angle), np.sin(angle)))
        label(axes, place, names, *group, part=0.9 if short else 1.0)
    axes.add_patch(Wedge((0, 0), 1, 0, 360, width=0.004, color="black"))
    axes.set(xlim=(-2, 2), ylim=(-2, 2))


def initials(names: list[str]) -> list[str]:
    """The names, or their first two letters where they are too long for the inside of a circle; none if these coincide:
    the picture beside it has them in full."""
    short = names if max(map(len, names)) <= 2 else [name[:2] for name in names]
    return short if len(set(short)) == len(names) else []


def draw_map(axes, points: Points) -> None:
    """A t-SNE map (cosine distance) of MAP_SAMPLES test embeddings; each class is named at its median point."""
    if len(points.x) < 3:
        raise RunError(f"{len(points.x)} test images make no map in {points.dim} dimensions: need at least 3")
    from sklearn.manifold import TSNE

    chosen = np.random.default_rng(MAP_SEED).permutation(len(points.x))[:MAP_SAMPLES]
    x, y = unit(points.x[chosen]), points.y[chosen]
    perplexity = min(30.0, max(2.0, (len(x) - 1) / 4))
    place = TSNE(metric="cosine", perplexity=perplexity, random_state=MAP_SEED, init="pca").fit_transform(x)
    cut = Points(points.facts, {"embeddings": place, "labels": y, "weights": np.zeros((len(points.classes), 2))})
    scatter(axes, cut, place, alpha=0.6, size=4)
    for c in np.unique(y):
        label(axes, np.median(place[y == c], axis=0), points.classes, c, box=True)


def scatter(axes, points: Points, x: np.ndarray, alpha: float = 0.25, size: float = 2) -> None:
    """All points at once in a fixed random order, so that no class hides the others."""
    order = np.random.default_rng(0).permutation(len(x))
    colours = np.array([class_colour(c) for c in points.y])[order]
    axes.scatter(*x[order].T, c=colours, s=size, alpha=alpha, linewidths=0, rasterized=True)
    axes.set_aspect("equal")
    axes.axis("off")


def staggered(directions: np.ndarray, names: list[str]) -> np.ndarray:
    """Factors [C] for the distance of each class's name: long names of neighbouring directions take turns."""
    factors = np.ones(len(directions))
    if max(map(len, names)) <= 2:
        return factors
    angles = np.arctan2(directions[:, 1], directions[:, 0])
    order = np.argsort(angles)
    for before, here in zip(order, order[1:], strict=False):
        if angles[here] - angles[before] < CLOSE and factors[before] == 1:
            factors[here] = 1.28
    return factors


def _together(directions: np.ndarray, names: list[str]) -> list[list[int]]:
    """Classes whose short names would cover each other, as their weights share a direction, each group from left to
    right; long names stand alone."""
    angles = np.arctan2(directions[:, 1], directions[:, 0])
    order = list(map(int, np.argsort(angles)))
    if max(map(len, names)) > 2:
        return [[c] for c in order]
    groups = [[order[0]]]
    for before, here in zip(order, order[1:], strict=False):
        if angles[here] - angles[before] < SAME:
            groups[-1].append(here)
        else:
            groups.append([here])
    if len(groups) > 1 and angles[order[0]] + 2 * np.pi - angles[order[-1]] < SAME:
        groups[0] = groups.pop() + groups[0]  # across the half turn
    return [sorted(group, key=lambda c: directions[c][0]) for group in groups]


def _spread(angles: np.ndarray, rooms: np.ndarray) -> np.ndarray:
    """Angles [G] of names around a circle, in the same order, moved as little as gives each its room [G], or its part
    of the circle where there is not room enough."""
    from scipy.optimize import isotonic_regression

    if not len(angles):
        return angles
    rooms = rooms * min(1.0, 2 * np.pi / max(rooms.sum(), 1e-9))
    order = np.argsort(angles)
    first = np.argmax(angles[order] - np.roll(angles[order], 1) + 2 * np.pi * (np.arange(len(order)) == 0))
    order = np.roll(order, -first)  # from the widest gap on
    along = angles[order] + 2 * np.pi * (angles[order] < angles[order[0]])
    ahead = np.concatenate(([0], np.cumsum((rooms[order[:-1]] + rooms[order[1:]]) / 2)))
    moved = angles.copy()
    moved[order] = isotonic_regression(along - ahead).x + ahead
    return moved


def label(axes, place: np.ndarray, names: list[str], *group: int, box: bool = False, part: float = 1.0) -> None:
    """Names of one class or several, side by side, each in its colour. part: of their usual size, in a small panel."""
    look = {"weight": "bold", "path_effects": HALO}
    styles = [look | {"color": dark(class_colour(c)), "fontsize": part * name_size(names[c])} for c in group]
    if len(group) > 1:
        texts: list[Artist] = [TextArea(names[c], textprops=style) for c, style in zip(group, styles, strict=True)]
        row = HPacker(children=texts, pad=0, sep=2 * part)
        axes.add_artist(AnnotationBbox(row, (place[0], place[1]), frameon=False, pad=0, zorder=5))
        return
    frame = {"facecolor": "white", "alpha": 0.75, "linewidth": 0, "pad": 1} if box else None
    axes.text(*place, names[group[0]], bbox=frame, zorder=5, ha="center", va="center", **styles[0])


def run_panels(points: Points):
    """The figure of one run alone: its embedding as it is and by direction, or as a map."""
    flat = points.dim <= 2
    figure = plt.figure(figsize=(9, 5) if points.dim <= 3 else (6, 6.4))
    figure.suptitle(points.heading())
    if points.dim == 1:  # on a line the angle is a sign: lift it to the plane
        points.x, points.weights = (np.hstack((a, np.zeros_like(a))) for a in (points.x, points.weights))
    if flat:
        raw, circle = figure.subplots(1, 2)
        draw_raw(raw, points)
        draw_circle(circle, points)
        circle.set_aspect("equal")
        circle.axis("off")
        raw.set_title("embeddings; rays: class weights")
        circle.set_title("directions: density outward, class weights inward")
    elif points.dim == 3:
        view = best_view([points.weights])
        for place, draw, title in ((1, draw_space, "embeddings; rays: class weights"),
                                   (2, draw_sphere, "directions; ringed: class centres")):  # fmt: skip
            axes = figure.add_subplot(1, 2, place, projection="3d")
            draw(axes, points, view)
            axes.set_title(title)
    else:
        axes = figure.subplots()
        draw_map(axes, points)
        title = f"t-SNE map of {points.dim}-d embeddings (cosine); distances between groups mean little"
        axes.set_title(title, fontsize=9)
    figure.tight_layout()
    return figure


def stored_points(study: Study, dataset: str, dim: int) -> list[Points]:
    """The study's runs with this data set and dimension, one a loss. NotStored when there is none."""
    return [points_of(study, facts, study.arrays(facts)) for facts in study.drawn(dataset, dim)]


def points_of(study: Study, facts: dict, arrays: dict) -> Points:
    """A run's Points from arrays that are stored with it. RunError, naming its files, where they do not fit."""
    try:
        return Points(facts, arrays)
    except NotFitting:
        raise RunError(f"{facts['name']}.npz and .json in {study.folder} do not fit together: {STORE_ANEW}") from None


def panel_grid(count: int, parts: int, width: float, side: float = SIDE) -> tuple[Figure, list[tuple]]:
    """A figure with room for `count` titled stacks of `parts` square panels, four abreast; width: inches of a panel,
    side: of what is left free on both sides.

    Returns it and, for each stack, where its title's top centre is and its panels' frames, in parts of the figure.
    """
    columns = min(4, count)
    stack = TITLE + parts * width + GAP
    wide, high = width * columns + 2 * side, HEAD + -(-count // columns) * stack
    places = []
    for i in range(count):
        line, column = divmod(i, columns)
        left, top = side + column * width, HEAD + line * stack
        frames = [
            (left / wide, 1 - (top + TITLE + (k + 1) * width) / high, width / wide, width / high) for k in range(parts)
        ]
        places.append((((left + width / 2) / wide, 1 - top / high), frames))
    return plt.figure(figsize=(wide, high)), places


def grid(study: Study, dataset: str, dim: int) -> Drawn:
    """All losses side by side: 2-D raw above normalised, or 3-D spheres."""
    panels = stored_points(study, dataset, dim)
    first = panels[0].facts
    view = best_view([points.weights for points in panels]) if dim == 3 else (0.0, 0.0)
    draw: tuple[Callable, ...] = (draw_raw, draw_circle) if dim == 2 else (partial(draw_sphere, seen_from=view),)
    long = max(map(len, panels[0].classes)) > 2
    width = (1.8 if dim == 2 else 2.0) + (0.2 if long else 0.0)  # long names stand out on both sides
    figure, places = panel_grid(len(panels), len(draw), width, 3 * SIDE if long and dim == 3 else SIDE)
    heading = f"{data_title(first)}: {dim}-D test embeddings and class weights"
    figure.suptitle(heading, fontsize=12, y=1 - 0.05 / figure.get_figheight())
    for points, ((middle, top), frames) in zip(panels, places, strict=True):
        figure.text(middle, top, points.panel_title(), ha="center", va="top", fontsize=9.5)
        for part, frame in zip(draw, frames, strict=True):
            axes = figure.add_axes(frame, projection="3d" if dim == 3 else None)
            part(axes, points)
            axes.patch.set_visible(False)  # it would cover what its neighbour's names need of its room
            axes.set_aspect("equal")
            axes.axis("off")
    led = "; a dotted line leads a name further out to its ray" if long else ""
    inside = "class weights inward" + (
        " with the first letters of their names" if long and initials(panels[0].classes) else ""
    )
    flat = (
        f"Upper of each pair: the embeddings as they are, with a ray along each class weight{led}. Lower: their "
        "directions as a histogram around the circle (square-root heights, so that the few between classes show; each "
        f"on its own scale, the highest class behind), {inside}."
    )
    sphere = (
        "Embeddings scaled to length 1, all seen from one side, the far side fainter, its names in italics; a "
        "labelled ray along each class "
        "weight, a ringed dot at each class centre, the mean direction of its test images. Points near the rim look "
        "denser than they are."
    )
    return Drawn(
        figure,
        f"{data_title(first)}, all {first['test_images']:,} test images in {dim} dimensions, one run a loss (seed "
        f"{first['seed']}, {first['epochs']} epochs, net of {channels(first)} channels); above each panel its test "
        f"accuracy. {flat if dim == 2 else sphere}",
    )
