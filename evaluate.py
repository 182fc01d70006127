"""Measure trained runs: python evaluate.py [RUN ...]   or, on one's own pictures, evaluate.py RUN --images A.png B.png

Accuracy three ways, angles, verification over all pairs of test images and retrieval go into each run's metrics.json,
ROC points and pair-angle counts into its curves.json, all of it onto the terminal; tables of the accuracies go into
figures/, as PNG and JSON. Nothing here trains.
"""

import sys
from collections.abc import Callable, Iterable
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

import metrics as measure
from checkpoints import check_weights, load_checkpoint
from choices import FOLDER_SIZE, NATIVE_SIZE
from devices import device, pick_device
from errors import UserError, command_line, lacks_memory, one_line
from options import Parser, place
from runs import (
    AGAIN,
    BAD_CONTENT,
    RunError,
    check_place,
    check_writable,
    finished_runs,
    read_arrays,
    read_json,
    sole_use,
    write_json,
)
from summaries import PAPER_MARGIN, summary

NEIGHBOURS = 5
MOST_LISTED = 20  # pictures of --images whose pairs are listed: 190 lines
MOST_PAIRED = 50_000  # test images whose pairs are all compared: 5 GB of scores
LEADS = (0.01, 0.05, 0.5)  # quantiles
PAIR_FIGURES: dict[str, Callable] = {
    "verification": measure.verification,
    "verification_10_fold": measure.verification_accuracy,
    "retrieval": measure.retrieval,
}


def rate(correct: np.ndarray) -> dict:
    """Share of True with its 95 % interval, from a boolean array [N]."""
    low, high = measure.wilson_interval(int(correct.sum()), len(correct))
    return {"value": float(correct.mean()), "low": low, "high": high}


def head_predictions(test: dict, loss: str) -> np.ndarray:
    """Predicted classes [N] of a head without margin: the largest W x for softmax, the largest cosine for the rest."""
    weights = test["weights"] if loss == "softmax" else measure.unit(test["weights"])
    return (test["embeddings"] @ weights.T).argmax(axis=1)


def load_network(folder: Path, device: str = "auto") -> dict[str, Any]:
    """The trained network of a run: backbone and head in eval mode, mean, std, metrics.

    device: as devices.pick_device names it. Raises RunError when a file is missing or damaged.
    """
    import torch

    from losses import build_head
    from models import build_backbone
    from recipes import Settings

    facts = read_json(folder / "metrics.json")
    device = pick_device(device)
    state = load_checkpoint(folder / "checkpoint.pt")
    try:
        settings = Settings.from_json(state["config"])
        classes = len(facts["classes"])
        channels, size, _ = shape = facts["image_shape"]
        wide = settings.image_size or NATIVE_SIZE.get(settings.dataset.removesuffix("-5k"), FOLDER_SIZE)
        if shape != [channels, wide, wide] or {type(part) for part in shape} != {int}:
            raise ValueError("other image sizes")
        # What is stored bounds what is built: a forged config could ask for any amount of memory.
        stored = [len(state["model"][f"blocks.{i}.convs.1.weight"]) for i in range(3)]
        stored += [*state["head"]["weight"].shape, state["model"]["whiten.weight"].shape[1]]
        if stored != [*settings.widths, classes, settings.embedding_dim, channels] or channels not in (1, 3):
            raise ValueError("other sizes")
        head = build_head(settings.loss, settings.embedding_dim, classes, **settings.head_options())
        backbone = build_backbone(channels, settings.embedding_dim, size, widths=settings.widths, depth=settings.depth)
        for part, module in (("model", backbone), ("head", head)):
            check_weights(state[part], module.state_dict())
            module.load_state_dict(state[part])
        mean, std = state["mean"], state["std"]
        if mean.shape != (channels,) or std.shape != (channels,) or not std.min() > 0:
            raise ValueError("other statistics")
        differing = [name for name, value in state["config"].items() if facts[name] != value and name != "scale"]
        if differing or not all(isinstance(name, str) for name in facts["classes"]):  # AdaCos finds its own scale
            raise ValueError("other facts")
    except (RuntimeError, *BAD_CONTENT) as error:
        if lacks_memory(error):
            raise
        raise RunError(f"{folder}: checkpoint.pt does not fit its metrics.json; train that run again") from None
    backbone.to(device).to(memory_format=torch.channels_last).eval()
    head.to(device).eval()
    return {"backbone": backbone, "head": head, "mean": mean.to(device), "std": std.to(device), "facts": facts}


def embed_images(network: dict[str, Any], images: Any) -> Any:
    """Embeddings [N, d] of uint8 images [N, C, H, W], in the precision that the run was trained in."""
    import torch

    from trainer import embed

    device, bf16 = network["mean"].device.type, network["facts"]["precision"] == "bf16"
    autocast = torch.autocast(device, torch.bfloat16, enabled=bf16)
    return embed(network["backbone"], images, network["mean"], network["std"], autocast)


def train_embeddings(folder: Path, facts: dict, data_dir: Path, device: str) -> tuple[np.ndarray, np.ndarray]:
    """Embeddings [N, d] and labels [N] of the images the run was trained on. RunError if the data have changed."""
    from data import hold_out_classes, load_dataset, load_embedded, validation_split

    if facts["dataset"] == "mnist-5k":  # was all there was then: the whole of MNIST may lie there now
        dataset = load_embedded()
    else:
        dataset = load_dataset(facts["dataset"], data_dir, facts["image_size"], download=False, log=lambda line: None)
        if dataset.name != facts["dataset"]:  # the sample, where MNIST was not to be had
            raise RunError(
                f"{folder} was trained on {facts['dataset']}, which {data_dir} lacks: name it with --data-dir"
            )
    if facts["unseen_classes"]:
        dataset = hold_out_classes(dataset, facts["unseen_classes"])[0]
    if facts["validation"]:
        dataset = validation_split(dataset, facts["validation"])
    if dataset.fingerprint != facts["fingerprint"] or list(dataset.classes) != facts["classes"]:
        raise RunError(f"{folder} was trained on other data than {data_dir} holds now: name theirs with --data-dir")
    return embed_images(load_network(folder, device), dataset.train_images).numpy(), dataset.train_labels.numpy()


def pair_figures(x: np.ndarray, y: np.ndarray, names: Iterable[str] = tuple(PAIR_FIGURES)) -> dict:
    """Verification over all pairs and retrieval; where the samples do not allow one, its place says why."""
    figures: dict[str, Any] = {}
    for name in names:
        try:
            if len(np.unique(y)) < 2:
                raise ValueError("images of one class only: every pair is a genuine one, every neighbour right")
            if len(x) > MOST_PAIRED:
                raise ValueError(f"{len(x):,} images have too many pairs: need at most {MOST_PAIRED:,}")
            figures[name] = PAIR_FIGURES[name](x, y)
        except ValueError as error:
            figures[name] = {"impossible": str(error)}
    return figures


def margin_figures(x: np.ndarray, y: np.ndarray, weights: np.ndarray, margins: tuple[float, float, float]) -> dict:
    """How far embeddings [N, d] of classes y are ahead: their lead, the angle to the nearest other class's weight less
    that to their own's.

    `own`: the share that keeps the run's margins (m1, m2, m3); `arcface`: the share ahead by more than the margin of
    ArcFace's paper; `lead`: quantiles in degrees, by the share of samples below them.
    """
    own, other = measure.angles_to_weights(x, y, weights)
    lead = np.degrees(other - own)
    return {
        "own": measure.margin_kept(own, other, *margins),
        "arcface": measure.margin_kept(own, other, m2=PAPER_MARGIN),
        "lead": {f"{part:g}": float(np.quantile(lead, part)) for part in LEADS},
    }


def evaluate_arrays(
    test: dict, train_x: np.ndarray, train_y: np.ndarray, loss: str, margins: tuple[float, float, float]
) -> dict:
    """All figures of one run from arrays: `test` as in embeddings.npz, training embeddings [N, d] and labels [N].

    loss decides the head's predictions alone; margins: (m1, m2, m3) that the run was trained with. None stands for the
    accuracy of a class without test images, for test angles of a single class and for an infinite Fisher score; pair
    figures that the images do not allow say why. ValueError for a class without training images, and labels or sizes
    that do not fit the weights.
    """
    x, y, weights = test["embeddings"], test["labels"], test["weights"]
    classes, predictions = np.arange(len(weights)), head_predictions(test, loss)
    seen = measure.centred(train_x, train_y, classes)
    confusion = measure.confusion(y, predictions, len(classes))
    present = np.unique(y)  # a user's own test folder may lack a class
    unseen = "unseen_labels" in test
    fisher = measure.angular_fisher_score(seen)
    return {
        "accuracy": {
            "head": rate(predictions == y),
            "nearest_mean": rate(measure.nearest_centre(x, seen.centres, classes) == y),
            f"{NEIGHBOURS}_nearest_neighbours": rate(
                measure.nearest_neighbours(train_x, train_y, x, min(NEIGHBOURS, len(train_y))) == y
            ),
        },
        "per_class_accuracy": [None if np.isnan(v) else v for v in measure.per_class_accuracy(confusion).tolist()],
        "confusion": confusion.tolist(),
        "angles": {
            "train": measure.angle_statistics(seen, weights),
            "test": measure.angle_statistics(measure.centred(x, y, present), weights[present])
            if len(present) > 1
            else None,
        },
        "angular_fisher_score": fisher if np.isfinite(fisher) else None,  # None: all class centres coincide
        "margins_kept": {
            "train": margin_figures(train_x, train_y, weights, margins),
            "test": margin_figures(x, y, weights, margins),
        },
        "pairs_from": "test images of the held-out classes" if unseen else "test images",
        **(unseen_figures(test) if unseen else pair_figures(x, y)),
    }


def unseen_figures(test: dict) -> dict:
    """Pair figures of held-out classes, how near they come to the trained ones' weights, and the latter's pairs."""
    trained = pair_figures(test["embeddings"], test["labels"], ("verification",))
    return {
        **pair_figures(test["unseen_embeddings"], test["unseen_labels"]),
        "verification_trained_classes": trained["verification"],
        "unseen_to_weight": measure.to_nearest(test["unseen_embeddings"], test["weights"]),
    }


def take_curves(facts: dict) -> dict:
    """Move ROC points and pair-angle counts out of figures of evaluate_arrays, to keep metrics.json short.

    Returns, for `test` (classes trained on) and, where there are any, `unseen` (held-out classes): `far`, `tar`,
    `genuine` and `impostor` as metrics.verification gives them.
    """
    parts = {"unseen": "verification", "test": "verification_trained_classes"}
    if "verification_trained_classes" not in facts:
        parts = {"test": "verification"}
    curves = {}
    for part, name in parts.items():
        if "roc" in facts[name]:
            curves[part] = facts[name].pop("roc") | facts[name].pop("angles")
    return curves


def evaluate_run(folder: Path, data_dir: Path, again: bool = False, device: str = "auto") -> dict:
    """Measure a finished run and add the figures to its metrics.json; a run already measured is only read.

    Raises RunError or DataError when the run's files or data are missing, damaged or do not fit.
    """
    facts = read_json(folder / "metrics.json")
    if again or "verification" not in facts:
        check_writable(folder, "copy the run to a place of your own")
        before = dict(facts)
        test = read_arrays(folder / "embeddings.npz")
        try:
            train_x, train_y = train_embeddings(folder, facts, data_dir, device)
            if test["weights"].shape != (len(facts["classes"]), train_x.shape[1]):
                raise ValueError(f"class weights of shape {test['weights'].shape}")
            measure.unit(test["embeddings"])  # numbers, all of them
            margins = tuple(facts[name] for name in ("m1", "m2", "m3"))
            facts |= evaluate_arrays(test, train_x, train_y, facts["loss"], margins)
            if facts["validation"]:
                facts["pairs_from"] = "validation images"
            summary(facts)
        except BAD_CONTENT as error:
            raise RunError(f"{folder}: its files do not fit together ({error}); train that run again") from None
        with sole_use(folder):
            if read_json(folder / "metrics.json") != before:
                raise RunError(f"{folder} has been trained or measured anew meanwhile: measure it again")
            write_json(folder / "curves.json", take_curves(facts))
            write_json(folder / "metrics.json", facts)
    try:
        summary(facts)
    except BAD_CONTENT:
        raise RunError(f"{folder / 'metrics.json'} is damaged: {AGAIN}") from None
    return facts


def predict_images(folder: Path, paths: list[str], device: str = "auto") -> str:
    """Class and angle of each of the user's pictures, and each pair's cosine, same or different at the run's EER."""
    import torch

    from data import read_images

    network = load_network(folder, device)
    facts, head = network["facts"], network["head"]
    channels, size = facts["image_shape"][0], facts["image_shape"][-1]
    embeddings = embed_images(network, read_images(paths, channels, size))
    with torch.no_grad():
        predicted = head(embeddings.to(network["mean"].device)).argmax(1).tolist()
    x, weights = measure.unit(embeddings.numpy()), measure.unit(head.weight.detach().cpu().numpy())
    lines = []
    for path, vector, label in zip(paths, x, predicted, strict=True):
        angle = np.degrees(np.arccos(np.clip(vector @ weights[label], -1, 1)))
        lines.append(f"{one_line(path)}: {facts['classes'][label]}, {angle:.1f} degrees from its class weight")
    verification = facts.get("verification")
    threshold = verification.get("eer_threshold") if isinstance(verification, dict) else None
    threshold = threshold if isinstance(threshold, float) else None
    if len(paths) > MOST_LISTED:
        lines.append(f"pairs: not listed for more than {MOST_LISTED} pictures")
        return "\n".join(lines)
    for i, j in combinations(range(len(paths)), 2):
        cosine = float(x[i] @ x[j])
        verdict = "" if threshold is None else f", {'same' if cosine >= threshold else 'different'} at {threshold:.4f}"
        lines.append(f"{one_line(paths[i])} and {one_line(paths[j])}: cosine {cosine:.4f}{verdict}")
    return "\n".join(lines)


@command_line("evaluate.py")
def main() -> int:
    """The command line: returns the exit status."""
    parser = Parser(prog="evaluate.py", description="Measure trained runs, or apply one to your own pictures.")
    parser.add_argument("runs", nargs="*", metavar="RUN", help="run folders (default: all in --output-dir)")
    parser.add_argument("--images", nargs="+", metavar="PICTURE", help="predict these with the one RUN named")
    parser.add_argument("--output-dir", type=place, default="runs", help="where the run folders are (default: runs)")
    parser.add_argument("--data-dir", type=place, default="data", help="where the data are (default: data)")
    parser.add_argument("--figures-dir", type=place, default="figures", help="where the tables go (default: figures)")
    parser.add_argument(
        "--device", type=device, default="auto", help="auto, cpu, cuda, cuda:N or mps (default: the best there is)"
    )
    parser.add_argument("--again", action="store_true", help="measure anew what metrics.json already holds")
    flags = parser.parse_args()
    if flags.images:
        if len(flags.runs) != 1:
            raise RunError(f"{len(flags.runs)} runs named before --images: name one, then --images and the pictures")
        if flags.again:
            raise RunError("--again measures runs, --images only reads one: give one of the two")
        print(predict_images(Path(flags.runs[0]), flags.images, flags.device))
        return 0
    import plot_tables

    folders = [Path(r) for r in flags.runs] or finished_runs(flags.output_dir)
    check_place(flags.figures_dir, "--figures-dir")  # better said before the measuring
    facts, problems = [], []
    for folder in folders:
        try:
            measured = evaluate_run(folder, flags.data_dir, flags.again, flags.device)
            facts.append(plot_tables.checked(measured, folder / "metrics.json", AGAIN))
        except UserError as error:  # no reason to keep back the others' figures
            problems.append(str(error))
            continue
        print(f"{folder}\n{summary(facts[-1])}\n")
    # Not the study's own tables, accuracy_*: plot_embeddings.py draws those from report/results/.
    for path in plot_tables.accuracy_tables(facts, flags.figures_dir, "runs_accuracy"):
        print(f"wrote {path}")
    if problems:
        raise RunError("; ".join(dict.fromkeys(problems)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
