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
        store(tmp_path, "combined", 16.0, seed, intra=9.0, eer=0.004)
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
        "norm-softmax": {8.0: [0, 1], 16.0: [0, 1]}, "arcface": {16.0: [0, 1], 64.0: [0, 1]},
        "cosface": {16.0: [0, 1]}, "li-arcface": {16.0: [0]},
    }  # fmt: skip
    margins = {(f["m2"], f["m3"]) for one in found for runs in one.scales.values() for f in runs}
    assert margins == {(0.0, 0.0), (0.5, 0.0), (0.0, 0.35)}


def test_lines_go_through_means_and_marks_are_runs(study):
    drawn = plot_scales.scales(study)
    lines = {line.get_label(): line.get_xydata() for line in drawn.figure.axes[-1].lines}
    np.testing.assert_allclose(lines["Norm-softmax"], [[9.0, 0.35], [17.0, 0.5]])
    np.testing.assert_allclose(lines["ArcFace (m₂ = 0.5)"], [[8.5, 0.3], [10.0, 5.0]])
    np.testing.assert_allclose(lines["other margins"], [[9.0, 0.4]])
    errors = {tuple(point) for line in drawn.figure.axes[2].lines for point in np.round(line.get_xydata(), 6)}
    assert {(8.0, 0.3), (8.0, 0.4)} <= errors and (8.0, 0.3) not in {
        tuple(point) for line in drawn.figure.axes[-1].lines for point in np.round(line.get_xydata(), 6)
    }
    by_scale = {line.get_label(): line.get_xydata() for line in drawn.figure.axes[0].lines}
    np.testing.assert_allclose(by_scale["Norm-softmax"], [[8.0, 9.0], [16.0, 17.0]])
    assert "1 to 2 seeds" in drawn.caption and "Combined, Li-ArcFace in the main table" in drawn.caption
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
        if facts["loss"] == "combined":
            facts["epochs"] = 2
    drawn = plot_scales.scales(study)
    assert "Diamonds: means of Li-ArcFace in" in drawn.caption
    plot_scales.plt.close(drawn.figure)


def test_scales_between_whole_numbers_are_drawn_but_not_named(study):
    extra = [
        dict(facts, scale=10.19) for facts in study.runs if facts["loss"] == "norm-softmax" and facts["scale"] == 8
    ]
    study.runs += extra
    drawn = plot_scales.scales(study)
    along, tight = drawn.figure.axes[0], drawn.figure.axes[-1]
    assert [tick.get_text() for tick in along.get_xticklabels()] == ["8", "16", "64"]
    assert 10.19 in next(line for line in along.lines if line.get_label() == "Norm-softmax").get_xdata()
    assert "10.19" not in {text.get_text() for text in tight.texts}
    plot_scales.plt.close(drawn.figure)


def test_errors_past_the_edge_are_named_where_their_line_leaves(study):
    drawn = plot_scales.scales(study)
    (named,) = [text for text in drawn.figure.axes[-1].texts if "↑" in text.get_text()]
    assert named.get_text() == "s = 64: 5.0 % ↑"
    top = drawn.figure.axes[-1].get_ylim()[1]
    x, y = np.log([8.5, 10.0]), np.log([0.3, 5.0])  # ArcFace's two means
    assert named.xy == pytest.approx((np.exp(np.interp(np.log(top), y, x)), top))
    plot_scales.plt.close(drawn.figure)
    further = next(f for f in study.runs if (f["loss"], f["scale"], f["m2"]) == ("arcface", 64, 0.5))
    study.runs.append({**further, "scale": 128.0, "verification": {**further["verification"], "eer": 0.09}})
    drawn = plot_scales.scales(study)
    (named,) = [text.get_text() for text in drawn.figure.axes[-1].texts if "↑" in text.get_text()]
    assert named == "s = 64: 5.0 %, s = 128: 9.0 % ↑"
    plot_scales.plt.close(drawn.figure)


def test_a_loss_apart_from_the_lines_is_named_in_its_place(study):
    for facts in study.runs:
        if facts["loss"] == "combined":
            facts["angles"]["test"]["intra"] = 40.0
    drawn = plot_scales.scales(study)
    names = {text.get_text(): text.xy for text in drawn.figure.axes[-1].texts}
    assert names["Combined"] == pytest.approx((40.0, 0.4))
    plot_scales.plt.close(drawn.figure)
