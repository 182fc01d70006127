"""The heat maps of the study's grids: each cell stands where its settings say, shows its run, and is bright if good."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.colors import to_rgb

import plot_compare
from plot_data import Study
from results_helpers import facts_of
from runs import write_json

# (scale, margin): accuracy and equal error rate
CELLS = {(1.0, 0.1): (0.991, 0.02), (1.0, 0.5): (0.992, 0.01), (8.0, 0.1): (0.993, 0.004), (8.0, 0.5): (0.997, 0.002),
         (64.0, 0.1): (0.995, 0.003)}  # fmt: skip


@pytest.fixture
def panels(tmp_path):
    """{title: axes} of the figure; three scales by two margins, the last of which diverged."""
    for (scale, margin), (accuracy, error) in CELLS.items():
        facts = facts_of(dim=512, scale=scale, m2=margin, accuracy=accuracy, part="sensitivity")
        facts["verification"] = facts["verification"] | {"eer": error}
        write_json(tmp_path / f"mnist-arcface-512d-seed0-scale={scale:g}-margin={margin:g}-epochs=2.json", facts)
    lost = {k: v for k, v in facts_of(dim=512, scale=64.0, m2=0.5, part="sensitivity").items()
            if k not in ("accuracy", "test_accuracy", "verification")}  # fmt: skip
    write_json(tmp_path / "mnist-arcface-512d-seed0-scale=64-margin=0.5-epochs=2.json", lost | {"failed": "diverged"})
    drawn = plot_compare.sensitivity(Study(tmp_path))
    assert "(1 of 6)" in drawn.caption
    yield {axes.get_title(): axes for axes in drawn.figure.axes}
    plt.close(drawn.figure)


def cells_of(axes) -> dict[tuple[float, float], str]:
    """{(scale, margin): text}, read from the tick labels under and beside each text."""
    across = [float(label.get_text()) for label in axes.get_xticklabels()]
    down = [float(label.get_text()) for label in axes.get_yticklabels()]
    places = {(round(text.get_position()[0]), round(text.get_position()[1])): text.get_text() for text in axes.texts}
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("scale s", "margin m₂")
    return {(across[x], down[y]): text for (x, y), text in places.items()}


def test_each_cell_shows_the_run_of_its_settings(panels):
    lost = {(64.0, 0.5): "diverged"}
    accuracies = {at: f"{100 * accuracy:.2f}" for at, (accuracy, _) in CELLS.items()}
    errors = {at: f"{100 * error:.2f}" for at, (_, error) in CELLS.items()}
    assert cells_of(panels["ArcFace: accuracy, %"]) == accuracies | lost
    assert cells_of(panels["ArcFace: equal error rate, %"]) == errors | lost


@pytest.mark.parametrize(("title", "sign"), [("ArcFace: accuracy, %", 1), ("ArcFace: equal error rate, %", -1)])
def test_the_better_cell_is_the_brighter_one(panels, title, sign):
    (image,) = panels[title].images
    values = image.get_array().filled(np.nan).ravel()
    brightness = image.cmap(image.norm(image.get_array()))[..., :3].mean(-1).ravel()
    known = np.isfinite(values)
    assert known.sum() == len(CELLS)
    order = np.argsort(sign * values[known])
    assert (np.diff(brightness[known][order]) > 0).all()


def luminance(colour) -> float:
    """Relative luminance of an RGB colour as WCAG 2 defines it."""
    linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in colour]
    return float(np.dot(linear, (0.2126, 0.7152, 0.0722)))


def test_the_text_stands_out_from_its_colour(panels):
    for axes in panels.values():
        (image,) = axes.images
        colours = image.cmap(image.norm(image.get_array()))[..., :3]
        for text in axes.texts:
            x, y = (round(v) for v in text.get_position())
            under = to_rgb(axes.get_facecolor()) if text.get_text() == "diverged" else colours[y, x]
            dark, light = sorted((luminance(under), luminance(to_rgb(text.get_color()))))
            assert (light + 0.05) / (dark + 0.05) >= 4.5, text.get_text()  # WCAG's AA for text


def test_margins_of_two_losses_share_their_colours_and_the_learning_rate_has_its_own(tmp_path):
    for loss, m2, m3, accuracy in (("arcface", 0.5, 0.0, 0.99), ("cosface", 0.0, 0.35, 0.996)):
        facts = facts_of(loss, 512, scale=16.0, accuracy=accuracy, part="sensitivity", m2=m2, m3=m3)
        write_json(tmp_path / f"mnist-{loss}-512d-seed0-scale=16-margin={m2 or m3}-epochs=2.json", facts)
    facts = facts_of(dim=512, accuracy=0.95, part="sensitivity")
    write_json(tmp_path / "mnist-arcface-512d-seed0-batch-size=16-lr=0.05-epochs=2.json", facts)
    drawn = plot_compare.sensitivity(Study(tmp_path))
    above = [axes for axes in drawn.figure.axes if axes.get_title().endswith("accuracy, %")]
    limits = [(image.norm.vmin, image.norm.vmax) for axes in above for image in axes.images]
    assert limits == [pytest.approx((99.0, 99.6))] * 2 + [pytest.approx((95.0, 95.0))]
    assert "None of the 3 fails." in drawn.caption and "interval is about ±" in drawn.caption
    plt.close(drawn.figure)


def test_one_training_under_two_names_is_one_of_the_runs_counted(tmp_path):
    for name in ("scale=16-margin=0.3", "batch-size=16-lr=0.05"):
        write_json(tmp_path / f"mnist-arcface-512d-seed0-{name}-epochs=2.json", facts_of(dim=512, part="sensitivity"))
    drawn = plot_compare.sensitivity(Study(tmp_path))
    assert "None of the 1 fails." in drawn.caption
    plt.close(drawn.figure)
