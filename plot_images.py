"""The only figures that need data and a run folder: which test images lie nearest, farthest, and on the wrong side."""

from dataclasses import fields
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from metrics import centred
from plot_data import Drawn, NotStored, Study
from plot_style import data_title, loss_title
from recipes import Settings
from runs import BAD_CONTENT, RunError, read_arrays, read_json
from unit_vectors import unit

SHOWN = 5  # nearest and as many farthest images of a class
MISTAKES = 12


def is_stored_run(facts: dict, study: Study, name: str) -> bool:
    """Whether a run's metrics are those of the study's stored run: a folder of that name may hold any other."""
    same = (*(f.name for f in fields(Settings)), "fingerprint", "test_accuracy")
    return any(run["name"] == name and all(facts.get(k) == run.get(k) for k in same) for run in study.runs)


def images_and_angles(study: Study, dataset: str, output_dir: Path, data_dir: Path) -> tuple:
    """Metrics, test images uint8 [N, H, W, C], labels [N], angles in degrees to every class weight [N, C] and to the
    centre of the own class [N], the mean direction of its test images.

    Of the study's ArcFace run at 512 dimensions, seed 0. NotStored when its folder or its data are not at hand.
    """
    from data import DataError, load_dataset

    folder = output_dir / f"{dataset}-arcface-512d-seed0"
    if not (folder / "metrics.json").exists() or not (folder / "embeddings.npz").exists():
        raise NotStored(f"run folder {folder}")
    facts, arrays = read_json(folder / "metrics.json"), read_arrays(folder / "embeddings.npz")
    if not is_stored_run(facts, study, folder.name):
        raise NotStored(f"run folder of the study's {folder.name}: {folder} holds another run")
    try:
        data = load_dataset(dataset, data_dir, None, download=False, log=lambda line: None)
    except DataError as error:
        raise NotStored(f"data ({error})") from None
    if data.fingerprint != facts["fingerprint"]:
        raise NotStored(f"data that {folder} was trained on")
    try:
        cosines = np.clip(unit(arrays["embeddings"]) @ unit(arrays["weights"]).T, -1, 1)
        labels = arrays["labels"]
        to_centre = np.degrees(centred(arrays["embeddings"], labels, np.unique(labels)).angles)
    except BAD_CONTENT as error:
        raise RunError(f"{folder / 'embeddings.npz'} is damaged ({error}): train that run again") from None
    return facts, data.test_images.permute(0, 2, 3, 1).numpy(), labels, np.degrees(np.arccos(cosines)), to_centre


def show(axes, image: np.ndarray, text: str = "") -> None:
    """One image, grey or in colour, with a line of text below."""
    axes.imshow(image.squeeze(), cmap="gray", vmin=0, vmax=255, interpolation="nearest")
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)
    axes.set_xlabel(text, fontsize=9, labelpad=2)


def nearest_and_farthest(study: Study, dataset: str, output_dir: Path, data_dir: Path) -> Drawn:
    """The test images nearest to and farthest from the centre of their class, a row a class."""
    facts, images, labels, _, to_centre = images_and_angles(study, dataset, output_dir, data_dir)
    count = len(facts["classes"])
    figure, panels = plt.subplots(count, 2 * SHOWN + 1, figsize=(0.78 * (2 * SHOWN + 1), 0.95 * count + 0.4))
    for c, line in enumerate(panels):
        members = np.flatnonzero(labels == c)
        order = members[np.argsort(to_centre[members], kind="stable")]
        for axes in line:
            axes.axis("off")
        near, far = order[:SHOWN], order[-SHOWN:]
        for axes, i in zip((*line[: len(near)], *line[len(line) - len(far) :]), (*near, *far), strict=True):
            axes.axis("on")
            show(axes, images[i], f"{to_centre[i]:.0f}°")
        line[0].set_ylabel(facts["classes"][c], fontsize=9, rotation=0, ha="right", va="center")
    panels[0, SHOWN // 2].set_title("nearest", fontsize=9)
    panels[0, SHOWN + 1 + SHOWN // 2].set_title("farthest", fontsize=9)
    figure.tight_layout(pad=0.4, h_pad=0.3, w_pad=0.2)
    return Drawn(
        figure,
        f"{data_title(facts)}, {loss_title(facts)}, {facts['embedding_dim']} dimensions, seed {facts['seed']}: the "
        "test images nearest to (left) and farthest from (right) the centre of their own class, the mean "
        "direction of its test images, with that angle.",
    )


def worst_mistakes(study: Study, dataset: str, output_dir: Path, data_dir: Path) -> Drawn:
    """The test images most surely predicted as another class, with both angles."""
    facts, images, labels, angles, _ = images_and_angles(study, dataset, output_dir, data_dir)
    own, predicted = angles[np.arange(len(labels)), labels], angles.argmin(1)
    wrong = np.flatnonzero(predicted != labels)
    if not len(wrong):
        raise NotStored(f"mistake of the ArcFace run on {dataset}")
    worst = wrong[np.argsort(angles.min(1)[wrong] - own[wrong], kind="stable")][:MISTAKES]
    columns = min(6, len(worst))
    lines = -(-len(worst) // columns)
    width = 1.0 if max(map(len, facts["classes"])) <= 3 else 1.3  # inches: room for a name and an angle
    figure, panels = plt.subplots(lines, columns, figsize=(width * columns, (width + 0.42) * lines), squeeze=False)
    for axes in panels.flat:
        axes.axis("off")
    for axes, i in zip(panels.flat, worst, strict=False):
        axes.axis("on")
        show(axes, images[i], f"{facts['classes'][labels[i]]}: {own[i]:.0f}°\n{facts['classes'][predicted[i]]}: "
                              f"{angles[i].min():.0f}°")  # fmt: skip
    figure.tight_layout(pad=0.5)
    return Drawn(
        figure,
        f"{data_title(facts)}, {loss_title(facts)}, {facts['embedding_dim']} dimensions, seed {facts['seed']}: the "
        f"{len(worst)} of {len(wrong)} mistakes among {len(labels):,} test images where the wrong class is nearer by "
        "most. Below each: its true class and the predicted one, with the angle to each class's weight.",
    )
