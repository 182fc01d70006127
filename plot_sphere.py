"""3-D embeddings on a sphere, seen from where the names of the classes cover each other least."""

import itertools
from collections.abc import Iterable

import numpy as np

from metrics import class_centres
from plot_style import HALO, class_colour, dark, name_size
from unit_vectors import unit

MOST_APART = 20  # names on one sphere
LETTER, LINE = 0.012, 0.02  # radii of a sphere in a grid: a name's width a letter and its height, a point of its size
VIEWS = tuple(itertools.product(range(-60, 61, 10), range(0, 360, 10)))  # elevations and azimuths, in degrees


def _axes_of(elevation: float, azimuth: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Unit vectors [3] towards the eye, to its right and upward, as matplotlib's view_init has them."""
    e, a = np.radians(elevation), np.radians(azimuth)
    view = np.array([np.cos(e) * np.cos(a), np.cos(e) * np.sin(a), np.sin(e)])
    right = np.array([-np.sin(a), np.cos(a), 0])
    return view, right, np.cross(view, right)


def best_view(weights: Iterable[np.ndarray]) -> tuple[float, float]:
    """Elevation and azimuth, one for all spheres, from which the class weights [C, 3] of each look furthest apart.

    By the smallest distance between two of a sphere's rays' ends and, counting as one, the middle they start from: that
    of the sphere where it is smallest.
    """
    ends = np.stack([np.concatenate((unit(w), np.zeros((1, 3)))) for w in weights])
    same = 9.0 * np.eye(ends.shape[1])

    def smallest(view: tuple[int, int]) -> float:
        flat = ends @ np.stack(_axes_of(*view)[1:]).T
        return float((np.linalg.norm(flat[:, :, None] - flat[:, None], axis=-1) + same).min())

    return max(VIEWS, key=smallest)


def draw_space(axes, points, seen_from: tuple[float, float]) -> None:
    """3-D embeddings as the network gives them, with a labelled ray along each class weight; arguments as of
    `draw_sphere`."""
    reach = float(np.quantile(np.linalg.norm(points.x, axis=1), 0.999)) or 1.0
    order = np.random.default_rng(0).permutation(len(points.x))  # so that no class hides the others
    colours = [class_colour(c) for c in points.y[order]]
    axes.scatter(*points.x[order].T, c=colours, s=2, alpha=0.25, linewidths=0, depthshade=False, rasterized=True)
    _draw_rays(axes, points, seen_from, reach, (1.0, 1.2), 0.9, fainter=False)
    _view(axes, reach, seen_from)


def draw_sphere(axes, points, seen_from: tuple[float, float]) -> None:
    """3-D embeddings scaled to length 1, on a wire sphere; a labelled ray along each class weight, a ringed dot at each
    class's centre, the mean direction of its samples.

    points: plot_points.Points; seen_from: elevation and azimuth in degrees, as of `best_view`.
    """
    u, v = np.mgrid[0 : 2 * np.pi : 25j, 0 : np.pi : 13j]
    axes.plot_wireframe(np.cos(u) * np.sin(v), np.sin(u) * np.sin(v), np.cos(v), color="#cccccc", linewidth=0.3)
    x = unit(points.x)
    view = _axes_of(*seen_from)[0]
    near = x @ view > 0  # matplotlib sorts whole scatters, not points, by depth: draw the far side first and fainter
    for side, alpha in ((~near, 0.07), (near, 0.35)):
        colours = [class_colour(c) for c in points.y[side]]
        axes.scatter(*x[side].T, c=colours, s=2, alpha=alpha, linewidths=0, depthshade=False, rasterized=True)
    present = np.unique(points.y)
    for c, centre in zip(present, class_centres(points.x, points.y, present), strict=True):
        shade = 1.0 if centre @ view > 0 else 0.4
        axes.scatter(*centre, c=class_colour(c), s=16, edgecolors="black", linewidths=0.7, depthshade=False,
                     alpha=shade)  # fmt: skip
    _draw_rays(axes, points, seen_from, 1.0, (1.12, 1.3), 1.1, fainter=True)
    _view(axes, 1.0, seen_from)


def _draw_rays(
    axes, points, seen_from: tuple[float, float], reach: float, ends: tuple[float, float], width: float, fainter: bool
) -> None:
    """A ray along each class weight and its class's name, to these parts of `reach`; fainter: on the far side."""
    view, right, up = _axes_of(*seen_from)
    directions = unit(points.weights)
    seen = ends[1] * directions @ np.stack((right, up)).T
    moves = apart(seen, points.classes) - seen
    for c, (direction, (_, higher)) in enumerate(zip(directions, moves, strict=True)):
        shade = 0.4 if fainter and direction @ view <= 0 else 1.0
        ray = np.stack((np.zeros(3), ends[0] * reach * direction)).T
        axes.plot(*ray, color=class_colour(c), linewidth=width, alpha=shade)
        style = {"color": dark(class_colour(c)), "ha": "center", "va": "center", "weight": "bold", "zorder": 1000}
        style["style"] = "italic" if shade < 1 else "normal"  # it must not pass for that of the heap before it
        size, place = name_size(points.classes[c]), reach * (ends[1] * direction + higher * up)
        axes.text(*place, points.classes[c], fontsize=size, path_effects=HALO, **style)


def _view(axes, reach: float, seen_from: tuple[float, float]) -> None:
    """Look at a ball of that radius without perspective."""
    edge = (-0.8 * reach, 0.8 * reach)
    axes.set(xlim=edge, ylim=edge, zlim=edge)
    axes.set_box_aspect((1, 1, 1))
    axes.set_proj_type("ortho")
    axes.view_init(*seen_from)
    axes.axis("off")


def apart(places: np.ndarray, names: list[str], room: float = 1.0) -> np.ndarray:
    """Places [C, 2] on a sphere of radius 1, names moved up or down until none covers another; room: how many times as
    much of a radius they take as on a sphere in a grid."""
    places = places.copy()
    if len(names) > MOST_APART:  # there is no room for so many
        return places
    wide = room * np.array([len(name) * name_size(name) * LETTER for name in names])
    high = room * np.array([name_size(name) * LINE for name in names])
    for _ in range(100):  # a move can make a new pair overlap; a few rounds settle it
        before = places.copy()
        for a, b in itertools.combinations(range(len(names)), 2):
            across, along = np.abs(places[a] - places[b])
            lack = (high[a] + high[b]) / 2 - along
            if across < (wide[a] + wide[b]) / 2 and lack > 1e-6:
                lower, upper = (a, b) if places[a, 1] < places[b, 1] else (b, a)
                places[lower, 1] -= lack / 2
                places[upper, 1] += lack / 2
        if (places == before).all():
            break
    return places
