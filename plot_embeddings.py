"""Draw the figures: python plot_embeddings.py (the study's, from report/results/)  or  plot_embeddings.py RUN [RUN ...]

The study's figures need neither data nor training. Run folders get figures of their own, figures/embedding_RUN.png:
2-D and 3-D embeddings as they are, higher dimensions as a t-SNE map of 2,000 test images.
"""

import sys
from pathlib import Path

import numpy as np

from errors import command_line
from losses import LOSSES
from metrics import unit
from options import Parser, choice
from runs import BAD_CONTENT, RunError, read_arrays, read_json

RESULTS = Path(__file__).resolve().parent / "report" / "results"
MAP_SAMPLES = 2000  # what t-SNE lays out in seconds
MAP_SEED = 0
ELEVATION, AZIMUTH = 20, 35  # degrees: one fixed view of every sphere


class Points:
    """One run's test embeddings [N, d] with labels [N], class weights [C, d] and its metrics."""

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
            raise RunError("embeddings.npz and metrics.json do not fit together: train that run again")

    def heading(self) -> str:
        """'CIFAR-10 (JPEG copy), ArcFace (s = 16, m2 = 0.3): 88.9 %'."""
        from plot_style import data_title

        return f"{data_title(self.facts)}, {self.title()}"

    def panel_title(self) -> str:
        """The title over a narrow panel, on two lines: the loss and its accuracy, then its settings."""
        from plot_style import loss_title

        name, _, settings = loss_title(self.facts).partition(" (")
        return f"{name}: {100 * self.facts['test_accuracy']:.1f} %\n{settings.rstrip(')')}"

    def title(self) -> str:
        """'ArcFace (s = 16, m2 = 0.3): 98.9 %'."""
        from plot_style import loss_title

        return f"{loss_title(self.facts)}: {100 * self.facts['test_accuracy']:.1f} %"


def draw_raw(axes, points: Points) -> None:
    """2-D embeddings as the network gives them, with a ray along each class weight."""
    from plot_style import class_colour

    reach = float(np.quantile(np.linalg.norm(points.x, axis=1), 0.999)) or 1.0
    for c, direction in enumerate(unit(points.weights)):
        axes.plot([0, reach * direction[0]], [0, reach * direction[1]], color=class_colour(c), linewidth=0.7)
    _scatter(axes, points, points.x, reach)
    for c, direction in enumerate(unit(points.weights)):
        _label(axes, 1.13 * reach * direction, points.classes[c], c)
    axes.set(xlim=(-1.3 * reach, 1.3 * reach), ylim=(-1.3 * reach, 1.3 * reach))


def draw_circle(axes, points: Points) -> None:
    """2-D embeddings scaled to length 1: outward, how many lie at each angle, by class; inward, the class weights."""
    from plot_style import class_colour

    angles = np.degrees(np.arctan2(points.x[:, 1], points.x[:, 0]))
    edges = np.arange(-180, 181, 2.0)
    counts = np.stack([np.histogram(angles[points.y == c], edges)[0] for c in range(len(points.classes))])
    heights = 0.9 * np.sqrt(counts / counts.max())  # square root: the few between classes stay visible
    from matplotlib.patches import Wedge

    for c in np.argsort(-heights.max(axis=1)):
        for start, end, height in zip(edges[:-1], edges[1:], heights[c], strict=True):
            if height:
                bar = Wedge((0, 0), 1 + height, start, end, width=height, color=class_colour(c), alpha=0.75, lw=0)
                axes.add_patch(bar)
    for c, direction in enumerate(unit(points.weights)):
        axes.plot([0, direction[0]], [0, direction[1]], color=class_colour(c), linewidth=0.9)
        _label(axes, 0.78 * direction, points.classes[c], c)
    axes.add_patch(Wedge((0, 0), 1, 0, 360, width=0.004, color="black"))
    axes.set(xlim=(-2, 2), ylim=(-2, 2))


def draw_sphere(axes, points: Points) -> None:
    """3-D embeddings scaled to length 1, on a wire sphere; a labelled ray along each class weight."""
    from plot_style import class_colour

    u, v = np.mgrid[0 : 2 * np.pi : 25j, 0 : np.pi : 13j]
    axes.plot_wireframe(np.cos(u) * np.sin(v), np.sin(u) * np.sin(v), np.cos(v), color="#cccccc", linewidth=0.3)
    x = unit(points.x)
    e, a = np.radians(ELEVATION), np.radians(AZIMUTH)
    view = np.array([np.cos(e) * np.cos(a), np.cos(e) * np.sin(a), np.sin(e)])
    near = x @ view > 0  # matplotlib sorts whole scatters, not points, by depth: draw the far side first and fainter
    for side, alpha in ((~near, 0.07), (near, 0.35)):
        colours = [class_colour(c) for c in points.y[side]]
        axes.scatter(*x[side].T, c=colours, s=2, alpha=alpha, linewidths=0, depthshade=False, rasterized=True)
    for c, direction in enumerate(unit(points.weights)):
        axes.plot(*np.stack((np.zeros(3), 1.12 * direction)).T, color=class_colour(c), linewidth=1.1)
        style = {"color": class_colour(c), "ha": "center", "va": "center", "weight": "bold", "fontsize": 8}
        frame = {"facecolor": "white", "alpha": 0.75, "linewidth": 0, "pad": 1}
        shade = 1.0 if direction @ view > 0 else 0.5
        axes.text(*(1.3 * direction), points.classes[c], alpha=shade, bbox=frame, zorder=1000, **style)
    axes.set(xlim=(-0.8, 0.8), ylim=(-0.8, 0.8), zlim=(-0.8, 0.8))
    axes.set_box_aspect((1, 1, 1))
    axes.view_init(ELEVATION, AZIMUTH)
    axes.axis("off")


def draw_map(axes, points: Points) -> None:
    """A t-SNE map (cosine distance) of MAP_SAMPLES test embeddings; each class is named at its median point."""
    from sklearn.manifold import TSNE

    chosen = np.random.default_rng(MAP_SEED).permutation(len(points.x))[:MAP_SAMPLES]
    x, y = unit(points.x[chosen]), points.y[chosen]
    perplexity = min(30.0, max(2.0, (len(x) - 1) / 4))
    place = TSNE(metric="cosine", perplexity=perplexity, random_state=MAP_SEED, init="pca").fit_transform(x)
    cut = Points(points.facts, {"embeddings": place, "labels": y, "weights": np.zeros((len(points.classes), 2))})
    _scatter(axes, cut, place, None, alpha=0.6, size=4)
    for c in np.unique(y):
        _label(axes, np.median(place[y == c], axis=0), points.classes[c], c, box=True)


def _scatter(axes, points: Points, x: np.ndarray, reach: float | None, alpha: float = 0.25, size: float = 2) -> None:
    """All points at once in a fixed random order, so that no class hides the others."""
    from plot_style import class_colour

    order = np.random.default_rng(0).permutation(len(x))
    colours = np.array([class_colour(c) for c in points.y])[order]
    axes.scatter(*x[order].T, c=colours, s=size, alpha=alpha, linewidths=0, rasterized=True)
    axes.set_aspect("equal")
    axes.axis("off")


def _label(axes, place: np.ndarray, text: str, c: int, box: bool = False) -> None:
    from plot_style import class_colour

    frame = {"facecolor": "white", "alpha": 0.75, "linewidth": 0, "pad": 1} if box else None
    style = {"color": class_colour(c), "ha": "center", "va": "center", "weight": "bold", "fontsize": 8}
    axes.text(*place, text, bbox=frame, zorder=5, **style)


def run_figure(folder: Path, figures: Path, kind: str) -> Path:
    """Draw one run's test embeddings as figures/embedding_RUN.kind."""
    import matplotlib.pyplot as plt

    from plot_style import save

    points = Points(read_json(folder / "metrics.json"), read_arrays(folder / "embeddings.npz"))
    flat = points.dim <= 2
    figure = plt.figure(figsize=(9, 5) if flat else (6, 6.4))
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
        draw_sphere(figure.add_subplot(projection="3d"), points)
    else:
        axes = figure.subplots()
        draw_map(axes, points)
        title = f"t-SNE map of {points.dim}-d embeddings (cosine); distances between groups mean little"
        axes.set_title(title, fontsize=9)
    figure.tight_layout()
    return save(figure, figures, f"embedding_{folder.resolve().name}", kind)


def stored_points(dataset: str, dim: int) -> list[Points]:
    """The study's runs with this data set and dimension: the first seed of each loss, in the order of LOSSES."""
    found: dict[str, Points] = {}
    for path in sorted(RESULTS.glob(f"{dataset}-*-{dim}d-seed*.npz")):
        facts = read_json(path.with_suffix(".json"))
        # The pattern alone would take mnist-5k for mnist.
        if facts["dataset"] == dataset and facts["loss"] not in found and not facts["unseen_classes"]:
            found[facts["loss"]] = Points(facts, read_arrays(path))
    return [found[loss] for loss in LOSSES if loss in found]


def study_grid(dataset: str, dim: int, figures: Path, kind: str) -> Path | None:
    """All losses side by side: 2-D raw above normalised, or 3-D spheres. None when nothing is stored."""
    import matplotlib.pyplot as plt

    from plot_style import data_title, save

    panels = stored_points(dataset, dim)
    if not panels:
        return None
    columns = min(4, len(panels))
    rows = -(-len(panels) // columns) * (2 if dim == 2 else 1)
    figure = plt.figure(figsize=(3 * max(columns, 2), 3 * rows + 0.6))
    count = panels[0].facts["test_images"]
    figure.suptitle(f"{data_title(panels[0].facts)}: {dim}-D test embeddings ({count:,} images) and class weights")
    for i, points in enumerate(panels):
        row, column = divmod(i, columns)
        if dim == 3:
            axes = figure.add_subplot(rows, columns, i + 1, projection="3d")
            draw_sphere(axes, points)
            axes.set_title(points.panel_title(), fontsize=9)
            continue
        for below, draw in enumerate((draw_raw, draw_circle)):
            axes = figure.add_subplot(rows, columns, (2 * row + below) * columns + column + 1)
            draw(axes, points)
            axes.set_aspect("equal")
            axes.axis("off")
        figure.axes[-2].set_title(points.panel_title(), fontsize=9)
    figure.tight_layout(rect=(0, 0, 1, 1 - 0.3 / figure.get_figheight()))  # the title keeps the top 0.3 inches
    return save(figure, figures, f"embeddings_{dim}d_{dataset}", kind)


def study_figures(figures: Path, kind: str) -> list[Path]:
    """Every figure of the study from the stored results; RunError when none are stored."""
    import plot_tables

    stored = [plot_tables.checked(read_json(path), path) for path in sorted(RESULTS.glob("*-seed*.json"))]
    if not stored:
        raise RunError(f"no results in {RESULTS}: run experiments.py, or name run folders to draw")
    grids = [study_grid(dataset, dim, figures, kind) for dataset in ("mnist", "cifar10") for dim in (2, 3)]
    return [path for path in grids if path] + plot_tables.accuracy_tables(stored, figures)


@command_line("plot_embeddings.py")
def main() -> int:
    """The command line: returns the exit status."""
    parser = Parser(prog="plot_embeddings.py", description="Draw the study's figures, or those of runs.")
    parser.add_argument("runs", nargs="*", metavar="RUN", help="run folders (default: the study's stored results)")
    parser.add_argument("--figures-dir", default="figures", help="where the figures go (default: figures)")
    parser.add_argument("--format", type=choice("format", ("png", "svg", "pdf")), default="png", help="png, svg or pdf")
    flags = parser.parse_args()
    figures = Path(flags.figures_dir)
    paths = [run_figure(Path(r), figures, flags.format) for r in flags.runs] or study_figures(figures, flags.format)
    print("\n".join(f"wrote {path}" for path in paths))
    return 0


if __name__ == "__main__":
    sys.exit(main())
