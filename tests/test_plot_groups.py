"""What tables and figures take together: a seed counts once, other settings keep apart, histograms are whole."""

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest
from scipy.stats import ttest_rel

import plot_compare
import plot_points
import plot_sphere
import plot_tables
import plot_training
from plot_data import NotStored, Study
from results_helpers import facts_of
from runs import write_arrays, write_json


def rows_of(*runs):
    """Title, seeds and n of each row; the made-up net is in all titles."""
    return [
        (row["title"].replace(", net 8/8/8", ""), row["seeds"], row["head"]["n"])
        for row in plot_tables.table_rows(list(runs))
    ]


def test_the_same_seed_twice_counts_once():
    title = "ArcFace (s = 16, m₂ = 0.3)"
    assert rows_of(facts_of(), facts_of()) == [(title, [0], 1)]
    assert rows_of(facts_of(), facts_of(), facts_of(seed=1)) == [(title, [0, 1], 2)]
    (row,) = plot_tables.table_rows([facts_of(accuracy=0.9), facts_of(accuracy=0.8)])  # the first counts
    assert row["head_interval"] == pytest.approx([85, 95]) and row["head"] == {"mean": 90, "std": None, "n": 1}


def test_many_held_out_classes_are_counted_not_named():
    def title(count):
        return rows_of(facts_of(unseen_classes=[f"class {i}" for i in range(count)]))[0][0]

    assert "without class 0, class 1 (pairs" in title(2) and "class 9" in title(10)
    assert title(120) == "ArcFace (s = 16, m₂ = 0.3), without 120 classes (pairs of these)"


def test_two_precisions_of_one_seed_are_two_rows():
    found = rows_of(facts_of(), facts_of(precision="bf16"))
    assert found == [("ArcFace (s = 16, m₂ = 0.3), precision bf16", [0], 1),
                     ("ArcFace (s = 16, m₂ = 0.3), precision fp32", [0], 1)]  # fmt: skip


def test_rows_of_one_title_say_in_which_settings_they_differ():
    found = [title for title, _, _ in rows_of(facts_of(), facts_of(lr=0.1, batch_size=64), facts_of(loss="softmax"))]
    assert sorted(found) == ["ArcFace (s = 16, m₂ = 0.3), batch size 16, lr 0.05",
                             "ArcFace (s = 16, m₂ = 0.3), batch size 64, lr 0.1", "Softmax (m₂ = 0.3)"]  # fmt: skip
    found = [title for title, _, _ in rows_of(facts_of(), facts_of(fingerprint="fedcba9876543210"))]
    assert sorted(title.rpartition(", ")[2] for title in found) == ["data 012345", "data fedcba"]
    found = [title for title, _, _ in rows_of(facts_of(dim=2), facts_of(dim=3), facts_of(epochs=9))]
    assert set(found) == {"ArcFace (s = 16, m₂ = 0.3)"}  # they have columns of their own


@pytest.mark.parametrize("kind", [np.uint16, np.int32])
def test_shares_of_stored_counts_do_not_overflow(kind):
    """100 times a count of 31 million pairs is no int32; both histograms of AdaCos once lost their peaks so."""
    most = 40_000_000 if kind is np.int32 else 1500
    counts = np.zeros(180, kind)
    counts[[90, 91, 96]] = most // 4, most // 8, most
    share = plot_training.per_cent(counts)
    assert share.sum() == pytest.approx(100) and share.min() == 0
    assert share[96] == pytest.approx(100 / 1.375, rel=1e-3)


def drawn_shares(figure):
    return [np.asarray(line.get_ydata()) for axes in figure.axes for line in axes.lines if len(line.get_ydata()) == 180]


def test_the_study_s_own_histograms_are_whole():
    """As drawn, every curve of angles sums to 100 per cent."""
    study = Study(Path(plot_compare.__file__).parent / "report" / "results")
    for draw in (plot_training.target_angles, plot_training.pair_angles):
        figure = draw(study, "mnist").figure
        shares = drawn_shares(figure)
        plt.close(figure)
        assert len(shares) >= 16 and all(share.sum() == pytest.approx(100) for share in shares)


def test_names_of_weights_that_share_a_direction_stand_together():
    def groups(*degrees, names=None):
        at = np.radians(degrees)
        names = names or [str(i) for i in range(len(degrees))]
        return plot_points._together(np.stack([np.cos(at), np.sin(at)], 1), names)

    assert sorted(groups(0, 90, 93, 200, 95)) == [[0], [3], [4, 2, 1]]  # each from left to right
    assert sorted(groups(270, 0, 273, 267)) == [[1], [3, 0, 2]]
    assert sorted(groups(179, -178, 0)) == [[0, 1], [2]]
    assert sorted(groups(0, 1, names=["cat", "dog"])) == [[0], [1]]
    assert groups(10) == [[0]] and groups(10, 11) == [[1, 0]]


def store(folder, name, **changes):
    write_json(folder / f"{name}.json", facts_of(**{"part": "budget", "dim": 512, **changes}))


def test_another_recipe_is_left_out_of_the_sizes(tmp_path):
    for dim, lr in ((8, 0.05), (8, 0.05), (8, 0.5), (64, 0.05)):
        seed = len(list(tmp_path.glob(f"*-{dim}d-*")))
        store(
            tmp_path, f"mnist-arcface-{dim}d-seed{seed}", dim=dim, seed=seed, lr=lr, accuracy=0.5 if lr > 0.1 else 0.9
        )
    drawn = plot_compare.embedding_size(Study(tmp_path))
    plt.close(drawn.figure)
    assert "up to 0.00 points" in drawn.caption and "1 to 2 seeds" in drawn.caption


def test_another_recipe_is_left_out_of_the_budgets(tmp_path):
    for epochs, lr in ((1, 0.05), (5, 0.05), (2, 0.5)):
        store(tmp_path, f"mnist-arcface-512d-seed0-epochs={epochs}", epochs=epochs, lr=lr)
    assert [f["epochs"] for f in Study(tmp_path).budgets("mnist")] == [1, 5]
    (tmp_path / "mnist-arcface-512d-seed0-epochs=5.json").unlink()
    with pytest.raises(NotStored):
        Study(tmp_path).budgets("mnist")


def test_on_the_circle_no_class_hides_behind_a_taller_one():
    from matplotlib.patches import Wedge

    degrees = np.r_[np.full(30, 41.0), np.full(5, 41.0), np.full(12, -100.5)]  # the middle of two-degree bars
    at, labels = np.radians(degrees), np.r_[np.zeros(30, int), np.ones(5, int), np.full(12, 2)]
    arrays = {"embeddings": np.stack([np.cos(at), np.sin(at)], 1), "labels": labels, "weights": np.eye(4, 2)}
    figure, axes = plt.subplots()
    plot_points.draw_circle(axes, plot_points.Points(facts_of(), arrays))
    bars = [p for p in axes.patches if isinstance(p, Wedge) and p.theta2 - p.theta1 < 3]
    plt.close(figure)
    heights = [(bar.theta1, bar.width) for bar in bars]  # in the order of drawing, square roots
    expected = [(-102, 0.9 * (12 / 30) ** 0.5), (40, 0.9), (40, 0.9 * (5 / 30) ** 0.5)]
    assert heights == [pytest.approx(pair) for pair in expected]


def test_names_on_a_sphere_move_apart_and_no_further_than_they_must():
    free = np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
    np.testing.assert_array_equal(plot_sphere.apart(free, ["cat", "dog", "deer"]), free)
    names = ["automobile", "truck", "cat", "dog", "deer", "ship"]
    crowded = np.random.default_rng(0).normal(0, 0.15, (len(names), 2))
    moved = plot_sphere.apart(crowded, names)
    np.testing.assert_array_equal(moved[:, 0], crowded[:, 0])  # up and down alone
    line = plot_points.name_size("cat") * plot_sphere.LINE
    for a in range(len(names)):
        for b in range(a):
            reach = plot_points.name_size("cat") * plot_sphere.LETTER * (len(names[a]) + len(names[b])) / 2
            across, along = np.abs(moved[a] - moved[b])
            assert across >= reach or along >= line - 1e-4, (names[a], names[b])
    many = np.zeros((plot_sphere.MOST_APART + 1, 2))
    np.testing.assert_array_equal(plot_sphere.apart(many, ["cat"] * len(many)), many)  # no room for so many
    pair = plot_sphere.apart(np.array([[0.0, 0.01], [0.1, 0.0]]), ["cat", "dog"])
    assert pair[0, 1] > pair[1, 1] and abs(pair[0, 1] - pair[1, 1] - line) < 1e-5  # the upper stays above


def test_a_net_other_than_the_data_set_s_usual_one_is_named():
    usual = {"dataset": "cifar10", "widths": [64, 256, 256], "depth": 3}
    assert plot_tables.other_net(usual) == plot_tables.other_net({"dataset": "cifar10", "widths": [64, 256, 256]}) == ""
    assert plot_tables.other_net(usual | {"depth": 2}) == ", 2 convolutions a block"
    assert plot_tables.other_net(usual | {"widths": [1, 2, 3], "depth": 4}) == ", net 1/2/3, 4 convolutions a block"
    assert plot_tables.other_net({"dataset": "mnist-5k", "widths": [32, 64, 128], "depth": 2}) == ""


def test_spheres_are_seen_from_where_no_ray_hides_another():
    """The view must look across a square of rays, not along its sides, and be the best of all there are."""
    square = np.array([[1.0, 0, 0], [0, 1, 0], [-1, 0, 0], [0, -1, 0]])
    two = [square, np.random.default_rng(3).normal(size=(4, 3))]
    best = plot_sphere.best_view(two)

    def smallest(view):
        e, a = np.radians(view)
        eye = np.array([np.cos(e) * np.cos(a), np.cos(e) * np.sin(a), np.sin(e)])
        found = []
        for weights in two:
            ends = [*(w / np.linalg.norm(w) for w in weights), np.zeros(3)]
            found += [np.linalg.norm(np.cross(p - q, eye)) for i, p in enumerate(ends) for q in ends[:i]]
        return min(found)

    assert smallest(best) == pytest.approx(max(map(smallest, plot_sphere.VIEWS)))
    assert plot_sphere.best_view([square])[0] in (-60, 60)


def test_long_names_are_shortened_to_what_tells_them_apart_or_left_out():
    assert plot_points.initials(["cat", "dog", "ship"]) == ["ca", "do", "sh"]
    assert plot_points.initials(["0", "11"]) == ["0", "11"]
    assert plot_points.initials(["cat", "car"]) == []


def test_names_around_a_circle_are_moved_apart_by_as_much_as_they_need():
    rooms = np.full(3, 0.5)
    at = plot_points._spread(np.array([0.0, 0.1, 2.0]), rooms)
    np.testing.assert_allclose(at, [-0.2, 0.3, 2.0], atol=1e-5)  # half the lack each, the third left alone
    across = plot_points._spread(np.array([3.1, -3.1]), rooms[:2])
    assert (across[1] - across[0]) % (2 * np.pi) == pytest.approx(0.5, abs=1e-5)
    wide = plot_points._spread(np.array([0.0, 0.1]), np.array([0.5, 1.5]))
    assert wide[1] - wide[0] == pytest.approx(1.0, abs=1e-5)
    assert not len(plot_points._spread(np.empty(0), np.empty(0)))  # of classes without names to show
    assert plot_points._spread(np.array([1.0]), rooms[:1]) == [1.0]
    crowded = np.sort(plot_points._spread(np.linspace(0, 1.5, 10), np.full(10, 0.5)))
    assert np.diff(crowded).min() > 0.49 and crowded[-1] - crowded[0] < 2 * np.pi - 0.49


@pytest.mark.parametrize("draw", [plot_sphere.draw_sphere, plot_sphere.draw_space])
def test_long_names_side_by_side_in_space_are_moved_up_and_down(draw):
    weights = np.array([[np.cos(0.08), side * np.sin(0.08), 0] for side in (-1, 1)])
    facts = facts_of(dim=3, classes=["automobile", "locomotive"])
    points = plot_points.Points(facts, {"embeddings": weights, "labels": np.arange(2), "weights": weights})
    axes = plt.figure().add_subplot(projection="3d")
    draw(axes, points, (0, 0))  # seen along x: y is to the right, z is up
    first, second = (np.array(text.get_position_3d()) for text in axes.texts)
    assert abs(first[1] - second[1]) < 0.25 and abs(first[2] - second[2]) > 0.15
    plt.close(axes.figure)


def test_differences_to_norm_softmax_come_with_both_ends_of_their_interval(tmp_path):
    for seed, (own, plain) in enumerate(((0.90, 0.91), (0.92, 0.95), (0.91, 0.92))):
        for loss, accuracy in (("arcface", own), ("norm-softmax", plain)):
            facts = facts_of(loss, 512, seed, accuracy=accuracy, m2=0.3 if loss == "arcface" else 0.0)
            write_json(tmp_path / f"mnist-{loss}-512d-seed{seed}.json", facts)
    drawn = plot_compare.scale_or_margin(Study(tmp_path), "mnist")
    found = ttest_rel([90, 92, 91], [91, 95, 92]).confidence_interval(0.95)
    assert f"ArcFace −1.67 [−{-found.low:.2f}, +{found.high:.2f}] points" in drawn.caption
    left = drawn.figure.axes[0]
    dots = [line.get_ydata() for line in left.lines if line.get_marker() == "o"]
    assert all((np.array(places) % 1 > 0.1).all() for places in dots) and len(dots) == 2  # beside the bars
    plt.close(drawn.figure)


def test_the_roc_figure_shows_what_is_refused(tmp_path):
    far, tar = np.logspace(-6, 0, 5), np.array([0.2, 0.5, 0.9, 0.99, 1.0])
    write_json(tmp_path / "mnist-arcface-512d-seed0.json", facts_of(dataset="mnist", dim=512, part="main"))
    arrays = {"test_far": far, "test_tar": tar, "test_impostor": np.full(180, 10_000_000)}
    write_arrays(tmp_path / "mnist-arcface-512d-seed0.npz", **arrays)
    figure = plot_training.roc(Study(tmp_path), "mnist").figure
    np.testing.assert_allclose(figure.axes[0].lines[0].get_ydata(), 100 * (1 - tar))
    plt.close(figure)
