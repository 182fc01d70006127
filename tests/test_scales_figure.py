"""Along the scale: which runs are joined to a line, and what is drawn of them."""

import numpy as np
import pytest

import plot_scales
from plot_data import NotStored, Study
from results_helpers import facts_of
from runs import write_json


def store(folder, loss, scale, seed=0, *, intra=10.0, eer=0.01, name="", **changes):
    """A run of the study; without a `name` of its own one of the main table."""
    margins = {"arcface": {"m2": 0.5}, "cosface": {"m2": 0.0, "m3": 0.35}}.get(loss, {"m2": 0.0})
    facts = facts_of(loss, 512, seed, scale=scale, **margins | changes)
    facts["angles"]["test"]["intra"], facts["verification"]["eer"] = intra, eer
    write_json(folder / f"mnist-{loss}-512d-seed{seed}{name}.json", facts)


@pytest.fixture
def study(tmp_path):
    """Two scales for two losses over two seeds, and what must be left out."""
    for seed in range(2):
        store(tmp_path, "arcface", 16.0, seed, intra=8.0 + seed, eer=0.003)
        store(tmp_path, "cosface", 16.0, seed, intra=9.0, eer=0.004)
        store(tmp_path, "norm-softmax", 16.0, seed, intra=17.0, eer=0.005)
        store(tmp_path, "norm-softmax", 8.0, seed, intra=9.0, eer=0.003 + 0.001 * seed, name="-scale=8", part="scale")
        store(tmp_path, "arcface", 64.0, seed, eer=0.05, name="-scale=64", part="scale")
    store(tmp_path, "li-arcface", 16.0, name="-margin=0", part="control")
    store(tmp_path, "li-arcface", 16.0, m2=0.4)  # has its margin
    store(tmp_path, "arcface", 64.0, name="-scale=64-margin=0.1", m2=0.1, part="scale")
    store(tmp_path, "norm-softmax", 32.0, name="-scale=32-epochs=2", epochs=2, part="scale")
    store(tmp_path, "norm-softmax", 32.0, name="-scale=32", part="sensitivity")
    store(tmp_path, "norm-softmax", 16.0, name="-without-1", hold_out=["fig"], unseen_classes=["fig"])
    return Study(tmp_path)


def test_a_line_joins_runs_alike_but_for_scale_and_seed(study):
    found = plot_scales.families(study)
    counts = {one.loss: {s: [f["seed"] for f in runs] for s, runs in one.scales.items()} for one in found}
    assert counts == {
        "norm-softmax": {8.0: [0, 1], 16.0: [0, 1]}, "arcface": {16.0: [0, 1], 64.0: [0, 1]}, "li-arcface": {16.0: [0]}
    }  # fmt: skip
    assert {f["m2"] for one in found for runs in one.scales.values() for f in runs} == {0.0, 0.5}


def test_lines_go_through_means_and_marks_are_runs(study):
    drawn = plot_scales.scales(study)
    lines = {line.get_label(): line.get_xydata() for line in drawn.figure.axes[-1].lines}
    np.testing.assert_allclose(lines["Norm-softmax"], [[9.0, 0.35], [17.0, 0.5]])
    np.testing.assert_allclose(lines["ArcFace (m₂ = 0.5)"], [[8.5, 0.3], [10.0, 5.0]])
    np.testing.assert_allclose(lines["other margins"], [[9.0, 0.4]])
    marks = {tuple(point) for line in drawn.figure.axes[-1].lines for point in np.round(line.get_xydata(), 6)}
    assert {(9.0, 0.3), (9.0, 0.4), (8.0, 0.3), (9.0, 0.3)} <= marks
    by_scale = {line.get_label(): line.get_xydata() for line in drawn.figure.axes[0].lines}
    np.testing.assert_allclose(by_scale["Norm-softmax"], [[8.0, 9.0], [16.0, 17.0]])
    assert "1 to 2 seeds" in drawn.caption and "CosFace, Li-ArcFace in the main table" in drawn.caption
    plot_scales.plt.close(drawn.figure)


def test_one_scale_is_no_line(tmp_path):
    with pytest.raises(NotStored):
        plot_scales.families(Study(tmp_path))
    store(tmp_path, "arcface", 16.0)
    store(tmp_path, "norm-softmax", 16.0)
    with pytest.raises(NotStored, match="several scales"):
        plot_scales.families(Study(tmp_path))
    store(tmp_path, "arcface", 16.0, part="sensitivity")  # a name of the table's, but nothing to draw
    store(tmp_path, "norm-softmax", 16.0, part="sensitivity")
    with pytest.raises(NotStored, match="several scales"):
        plot_scales.families(Study(tmp_path))


def test_other_margins_of_another_recipe_are_not_drawn_beside(study):
    for facts in study.runs:
        if facts["loss"] == "cosface":
            facts["epochs"] = 2
    drawn = plot_scales.scales(study)
    assert "Diamonds: means of Li-ArcFace in" in drawn.caption
    plot_scales.plt.close(drawn.figure)
