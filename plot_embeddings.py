"""Draw the figures: python plot_embeddings.py (the study's, from report/results/)  or  plot_embeddings.py RUN [RUN ...]

The study's figures need neither data nor training, but for images_* and mistakes_*, which are left as they are without
them. What each shows is written beside it, to figures/captions.json. Run folders get figures of their own,
figures/embedding_RUN.png: 2-D and 3-D embeddings as they are, higher dimensions as a t-SNE map of 2,000 test images.
"""

import re
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from errors import UserError, command_line
from options import Parser, choice, place
from runs import AGAIN, BAD_CONTENT, STORE_ANEW, RunError, read_arrays, read_json, write_json

ROOT = Path(__file__).resolve().parent
RESULTS = ROOT / "report" / "results"
DATASETS = ("mnist", "cifar10")
TABLE_PARTS = ("main", "control", "longer", "wider", "largest", "drawn")  # of the study: what follows the recipes
RECIPE_ONLY = re.compile(r"[a-z0-9]+-[a-z-]+-[23]d-seed\d+")  # other seeds of what is drawn, in whatever part


def catalogue(study, output_dir: Path, data_dir: Path) -> dict[str, Callable]:
    """Every figure of the study by name: a function that returns plot_data.Drawn or raises NotStored."""
    import plot_compare
    import plot_cost
    import plot_diagram
    import plot_filmstrip
    import plot_images
    import plot_open_set
    import plot_plane
    import plot_points
    import plot_scales
    import plot_theory
    import plot_training

    figures: dict[str, Callable] = {"head_in_network": plot_diagram.head_in_network}
    for name in ("target_logit", "decision_margins", "feasible_margins", "scale_bound", "worked_example"):
        figures[name] = getattr(plot_theory, name)
    for dataset in DATASETS:
        for dim in (2, 3):
            figures[f"embeddings_{dim}d_{dataset}"] = partial(plot_points.grid, study, dataset, dim)
        figures[f"filmstrip_{dataset}"] = partial(plot_filmstrip.filmstrip, study, dataset)
        for name in ("training_curves", "target_angles", "roc", "pair_angles", "confusion"):
            figures[f"{name}_{dataset}"] = partial(getattr(plot_training, name), study, dataset)
        figures[f"scale_or_margin_{dataset}"] = partial(plot_compare.scale_or_margin, study, dataset)
        figures[f"angles_{dataset}"] = partial(plot_compare.angle_table, study, dataset)
        figures[f"images_{dataset}"] = partial(plot_images.nearest_and_farthest, study, dataset, output_dir, data_dir)
        figures[f"mistakes_{dataset}"] = partial(plot_images.worst_mistakes, study, dataset, output_dir, data_dir)
    figures["scales"] = partial(plot_scales.scales, study)
    figures["plane_margins"] = partial(plot_plane.plane_margins, study)
    figures["time_to_accuracy"] = partial(plot_training.time_to_accuracy, study)
    for name in ("open_set_table", "unseen_classes"):
        figures[name] = partial(getattr(plot_open_set, name), study)
    for name in ("sensitivity", "schedules", "embedding_size"):
        figures[name] = partial(getattr(plot_compare, name), study)
    figures["head_cost"] = partial(plot_cost.head_cost, study)
    return figures


def run_figure(folder: Path, figures: Path, kind: str) -> Path:
    """Draw one run's test embeddings as figures/embedding_RUN.kind."""
    from plot_points import NotFitting, Points, run_panels
    from plot_style import save

    facts, arrays = read_json(folder / "metrics.json"), read_arrays(folder / "embeddings.npz")
    try:
        panels = run_panels(Points(facts, arrays))
    except NotFitting as error:
        raise RunError(f"{folder}: {error}: {AGAIN}") from None
    except RunError as error:
        raise RunError(f"{folder}: {error}") from None
    return save(panels, figures, f"embedding_{folder.resolve().name}", kind)


def add_captions(figures: Path, new: dict[Path, str]) -> None:
    """Put captions of picture files into captions.json, {name: {file, caption}}, beside those of figures not drawn now.

    By its name alone stands the PNG, which the report shows; another format by its file's.
    """
    path = figures / "captions.json"
    if new:
        stored = read_json(path, "delete it and draw all figures again") if path.exists() else {}
        gone = [name for name, one in stored.items() if isinstance(one, dict)
                and not (figures / str(one.get("file"))).exists()]  # fmt: skip
        captions = {name: one for name, one in stored.items() if name not in gone}
        for file, caption in new.items():
            name = file.stem if file.suffix == ".png" else file.name
            captions[name] = {"file": file.name, "caption": caption}
        write_json(path, {name: captions[name] for name in sorted(captions)})


def draw(wanted: dict[str, Callable], figures: Path, kind: str) -> Iterator[str]:
    """Draw the figures of `wanted` one after the other, with captions.json; yields a line about each.

    One that is not drawn keeps its old picture and caption. RunError, after all the rest, where a file is damaged.
    """
    from plot_data import NotStored
    from plot_style import save

    problems: list[str] = []
    captions: dict[Path, str] = {}
    try:
        for name, function in wanted.items():
            try:
                drawn = function()
                saved = save(drawn.figure, figures, name, kind)
            except NotStored as wanting:
                yield f"left out {name}: no {wanting}"
                continue
            except UserError as error:
                problems.append(str(error))
                continue
            except BAD_CONTENT as error:
                problems.append(f"{name}: a result behind it is damaged ({error!r}): {STORE_ANEW}")
                continue
            captions[saved] = drawn.caption
            yield f"wrote {saved}"
    finally:  # stopped half-way, too: a new picture under an old caption would mislead
        add_captions(figures, captions)
    if problems:
        raise RunError("; ".join(dict.fromkeys(problems)))


def study_figures(only: list[str], figures: Path, kind: str, output_dir: Path, data_dir: Path) -> Iterator[str]:
    """Every figure of the study, or those named; yields a line about each. RunError for a name there is none of."""
    import plot_tables
    from plot_data import Study

    study = Study(RESULTS)
    known = catalogue(study, output_dir, data_dir)
    unknown = [name for name in only if name not in (*known, "accuracy")]
    if unknown:
        raise RunError(f"--only {unknown[0]}: no such figure; choose from accuracy, {', '.join(known)}")
    if not study.runs and not only:
        yield f"no results in {RESULTS}: run experiments.py; only figures that need none are drawn"
    tabled = [f for f in study.runs if f["part"] in TABLE_PARTS or RECIPE_ONLY.fullmatch(f["name"])]
    tabled = [f for f in tabled if not f["unseen_classes"]]
    if not only or "accuracy" in only:
        written = plot_tables.accuracy_tables(tabled, figures, kind=kind)
        for path in written:
            if path.suffix != ".json":
                shown = [facts for facts in tabled if path.stem == f"accuracy_{facts['dataset']}"]
                add_captions(figures, {path: plot_tables.caption(shown)})
        yield from (f"wrote {path}" for path in written)
    yield from draw({name: known[name] for name in only or known if name in known}, figures, kind)


@command_line("plot_embeddings.py")
def main() -> int:
    """The command line: returns the exit status."""
    parser = Parser(prog="plot_embeddings.py", description="Draw the study's figures, or those of runs.")
    add = parser.add_argument
    add("runs", nargs="*", metavar="RUN", help="run folders (default: the study's stored results)")
    add("--only", nargs="+", default=[], metavar="NAME", help="draw these of the study's figures only")
    add("--figures-dir", type=place, default="figures", help="where the figures go (default: figures)")
    add("--format", type=choice("format", ("png", "svg", "pdf")), default="png", help="png, svg or pdf")
    add("--output-dir", type=place, default="runs", help="run folders, for the figures of test images (default: runs)")
    add("--data-dir", type=place, default="data", help="the data, for the figures of test images (default: data)")
    flags = parser.parse_args()
    figures = flags.figures_dir
    if flags.runs and flags.only:
        parser.error(f"--only {flags.only[0]}: it picks from the study's figures; leave it or the run folders out")
    if flags.runs:
        names = [Path(run).resolve().name for run in flags.runs]
        if twice := [name for name in names if names.count(name) > 1]:
            parser.error(
                f"{names.count(twice[0])} runs named {twice[0]}: their figures would be one file; draw one at a time"
            )
        problems = []
        for run in flags.runs:
            try:
                print(f"wrote {run_figure(Path(run), figures, flags.format)}", flush=True)
            except UserError as error:
                problems.append(str(error))
        if problems:
            raise RunError("; ".join(dict.fromkeys(problems)))
        return 0
    for line in study_figures(flags.only, figures, flags.format, flags.output_dir, flags.data_dir):
        print(line, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
