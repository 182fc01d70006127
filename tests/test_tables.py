"""The accuracy tables: their rows, what the rows say of themselves, as PNG, JSON and Markdown."""

import json

import pytest

import plot_tables
from recipes import BASE
from report.facts import number
from results_helpers import facts_of


def test_spread_is_the_mean_and_the_sample_standard_deviation():
    assert plot_tables.spread([98.0, 99.0, 100.0]) == {"mean": 99.0, "std": 1.0, "n": 3}
    two = plot_tables.spread([1.0, None, 2.0])
    assert two == {"mean": 1.5, "std": pytest.approx(0.5**0.5), "n": 2}  # of n - 1 = 1, not n = 2
    assert plot_tables.spread([7.0]) == {"mean": 7.0, "std": None, "n": 1}
    assert plot_tables.spread([None, None]) == plot_tables.spread([]) == {"mean": None, "std": None, "n": 0}


def test_a_row_of_the_table_is_the_mean_over_seeds():
    runs = [facts_of(seed=seed, accuracy=value) for seed, value in ((2, 0.97), (0, 0.94), (1, 0.98))]
    runs[1]["verification"] = {"impossible": "no pairs"}
    (row,) = plot_tables.table_rows(runs)
    assert row["seeds"] == [0, 1, 2] and row["loss"] == "arcface" and row["embedding_dim"] == 2
    # The mean of 97, 94 and 98 is 96 1/3; deviations 2/3, -7/3, 5/3 make a variance of (4 + 49 + 25) / 9 / 2.
    for name in ("head", "nearest_mean", "5_nearest_neighbours"):
        assert row[name] == {"mean": pytest.approx(289 / 3), "std": pytest.approx((13 / 3) ** 0.5), "n": 3}
    assert row["intra"] == {"mean": pytest.approx(13), "std": pytest.approx(1), "n": 3}
    assert row["eer"] == {"mean": pytest.approx(2), "std": pytest.approx(0), "n": 2}
    assert row["tar_at_far_0.001"]["mean"] == pytest.approx(80) and row["map_at_r"]["mean"] == pytest.approx(75)
    assert row["head_interval"] is None


def test_a_single_run_shows_its_interval():
    (row,) = plot_tables.table_rows([facts_of(accuracy=0.5)])
    assert row["head_interval"] == pytest.approx([45, 55]) and row["head"]["std"] is None


@pytest.mark.parametrize(
    "change",
    [
        {"m2": 0.4}, {"scale": 30.0}, {"epochs": 9}, {"lr": 0.1}, {"batch_size": 32}, {"margin_warmup": 0.0},
        {"validation": 0.1}, {"source": "a JPEG copy"}, {"embedding_dim": 3},
        {"loss": "cosface"}, {"fingerprint": "fedcba9876543210"}, {"scale_start": 2.0}, {"widths": [16, 16, 16]},
        {"shift": 4}, {"flip": True}, {"image_size": 48}, {"hold_out": ["fig"]},
    ],
    ids=str,
)  # fmt: skip
def test_runs_of_other_settings_are_another_row(change):
    runs = [facts_of(seed=0), facts_of(seed=1), facts_of(seed=0, **change)]
    assert sorted(row["head"]["n"] for row in plot_tables.table_rows(runs)) == [1, 2]


def test_the_scale_that_adacos_found_does_not_part_its_seeds():
    runs = [facts_of("adacos", seed=seed, scale=3.0 + seed, m2=0.0) for seed in (0, 1)]
    assert [row["head"]["n"] for row in plot_tables.table_rows(runs)] == [2]


def test_rows_are_ordered_by_dimension_then_loss():
    runs = [facts_of(loss, dim) for dim in (512, 2, 3) for loss in ("arcface", "softmax", "adacos")]
    rows = plot_tables.table_rows(runs)
    order = ["softmax", "arcface", "adacos"]
    assert [(row["embedding_dim"], row["loss"]) for row in rows] == [(d, loss) for d in (2, 3, 512) for loss in order]


def test_held_out_classes_and_a_jpeg_copy_are_named(tmp_path, monkeypatch):
    titles, real = [], plot_tables.draw_table

    def draw_table(rows, title, *rest):
        titles.append(title)
        return real(rows, title, *rest)

    monkeypatch.setattr(plot_tables, "draw_table", draw_table)
    runs = [facts_of(dataset="cifar10", source="CIFAR-10, JPEG copy", unseen_classes=["fig", "plum"])]
    written = plot_tables.accuracy_tables(runs, tmp_path)
    assert "JPEG" in titles[0] and "80 test images" in titles[0]
    assert "without fig, plum" in plot_tables.table_rows(runs)[0]["title"]
    assert [path.name for path in written] == ["accuracy_cifar10.png", "accuracy_cifar10.json"]
    (vector, _) = plot_tables.accuracy_tables(runs, tmp_path, kind="svg")
    assert vector.name == "accuracy_cifar10.svg" and vector.read_bytes().startswith(b"<?xml")


def test_rows_say_what_they_do_not_share_with_the_others():
    runs = [facts_of(), facts_of(seed=1, validation=0.1, test_images=60), facts_of(hold_out=["fig"], test_images=70,
            unseen_classes=["fig"]), facts_of(source="JPEG copy")]  # fmt: skip
    titles = [row["title"] for row in plot_tables.table_rows(runs)]
    assert sum("60 validation images" in title for title in titles) == 1
    assert sum("without fig (pairs of these)" in title for title in titles) == 1
    assert sum("JPEG copy" in title for title in titles) == 1 and len(set(titles)) == 4
    heading = plot_tables.markdown(runs).splitlines()[0]
    assert "70 to 80 test images" in heading and "made up; " not in heading.partition("(")[0]
    assert "JPEG copy; made up" in heading and "MNIST and MNIST (JPEG copy)" in heading


def test_one_s_own_jpeg_photographs_are_no_copy():
    own = facts_of(dataset="folder", source="a folder of own images (JPEG), split 80/20 by content")
    assert plot_tables.data_title(own) == "own images"
    mixed = facts_of(dataset="cifar10", source="CIFAR-10 from class folders, JPEG and PNG copy (re-encoded)")
    assert plot_tables.data_title(mixed) == "CIFAR-10 (JPEG copy)"


def test_an_image_size_left_out_is_told_by_its_number():
    runs = [facts_of(dataset="folder", image_size=size) for size in (None, 64)]
    runs += [facts_of(image_size=None), facts_of(image_size=14), facts_of(scale_start=2.0)]
    titles = [row["title"] for row in plot_tables.table_rows(runs)]
    sizes = sorted(title.rpartition("image size ")[2].split(",")[0] for title in titles if "image size" in title)
    assert sizes == ["14", "28", "28", "32", "64"] and not any("None" in title for title in titles)


def test_rows_of_the_mean_of_the_weights_say_so():
    runs = [
        facts_of(averaging=0.995),
        facts_of(),
        facts_of(dataset="cifar10"),
        facts_of(dataset="cifar10", averaging=0.9),
    ]
    assert [plot_tables.other_weights(f) for f in runs] == [", mean of the weights", "", ", last weights", ""]
    titles = [row["title"] for row in plot_tables.table_rows(runs[:2])]
    assert sorted("mean of the weights" in title for title in titles) == [False, True]


def test_precision_follows_the_machine_and_makes_no_row_of_its_own():
    (row,) = plot_tables.table_rows([facts_of(seed=0), facts_of(seed=1, precision="bf16")])
    assert row["seeds"] == [0, 1]


def test_the_table_s_json_holds_the_rows(tmp_path):
    runs = [facts_of(seed=0, accuracy=0.9), facts_of(seed=1, accuracy=0.8), facts_of(dataset="mnist-5k")]
    plot_tables.accuracy_tables(runs, tmp_path)
    stored = json.loads((tmp_path / "accuracy_mnist.json").read_text())
    assert stored["dataset"] == "mnist" and stored["rows"] == plot_tables.table_rows(runs[:2])
    assert stored["rows"][0]["head"] == {"mean": pytest.approx(85), "std": pytest.approx(50**0.5), "n": 2}
    assert len(json.loads((tmp_path / "accuracy_mnist-5k.json").read_text())["rows"]) == 1


@pytest.mark.parametrize(
    ("seconds", "said"),
    [([98.3], "98 s"), ([98.3, 98.4], "98 s"), ([20, 119.6], "20 to 120 s"), ([167, 217], "2.8 to 3.6 min"),
     ([1258, 2295], "21 to 38 min"), ([90, 700], "2 to 12 min")],
)  # fmt: skip
def test_times_are_told_in_a_unit_that_fits(seconds, said):
    assert plot_tables.span_of_times(seconds) == said


def test_the_readme_tells_how_long_the_widest_runs_trained():
    runs = [facts_of(dim=2, train_seconds=1.0), facts_of(dim=512, train_seconds=61.4), facts_of(dim=512, seed=1)]
    runs.append(facts_of(dim=512, seed=2, device="cuda, made up", train_seconds=2.6))
    runs.append(facts_of(dim=512, epochs=30, train_seconds=70.0))
    last = plot_tables.markdown(runs).splitlines()[-1]
    assert last == (
        "In 512 dimensions 5 epochs took 10 to 61 s on cpu, 2 threads, made up, fp32, or 3 s on cuda, made up, fp32; "
        "30 epochs took 70 s on cpu, 2 threads, made up, fp32."
    )


def test_a_column_is_as_wide_as_its_text():
    figure = plot_tables.plt.figure(dpi=200)
    for text, weight in (("Combined (s = 16, m₂ = 0.3)", "normal"), ("TAR@1e-3, %", "bold")):
        drawn = figure.text(0, 0, text, fontsize=plot_tables.POINTS, weight=weight)
        width = drawn.get_window_extent(figure.canvas.get_renderer()).width / 200
        assert plot_tables.text_width(text, weight) == pytest.approx(width, rel=0.05)
    plot_tables.plt.close(figure)


def test_of_one_loss_the_shorter_training_comes_first():
    runs = [facts_of(epochs=epochs, averaging=averaging) for epochs, averaging in ((14, 0.995), (8, 0.0), (100, 0.0))]
    assert [row["epochs"] for row in plot_tables.table_rows(runs)] == [8, 14, 100]


def test_a_caption_speaks_of_what_is_in_the_table():
    usual = {"dataset": "mnist", "widths": BASE["mnist"]["widths"]}
    assert "net" not in plot_tables.caption([facts_of(**usual)]).split("Last epoch")[0]
    assert "more training" not in plot_tables.caption([facts_of(**usual)])
    said = plot_tables.caption([facts_of(**usual), facts_of(**usual, averaging=0.9), facts_of()])
    assert "with more training (mean of the weights" in said and "names channels, with another net" in said


def test_every_block_s_headings_are_bold():
    lines = [["one", "a"], ["x", "1"], ["two", "a"], ["y", "2"]]
    figure = plot_tables.text_table(lines, "title", "note", heads=(0, 2))
    weights = {text.get_text(): text.get_weight() for text in figure.axes[0].texts}
    assert [weights[name] for name in ("one", "x", "two", "y")] == ["bold", "normal", "bold", "normal"]
    assert len(figure.axes[0].lines) == 5  # above and below each block's headings, and the table's end
    plot_tables.plt.close(figure)


def test_a_tie_is_rounded_alike_whatever_the_order_of_its_sum():
    low, high = 90.01499999999999, 90.01500000000001
    texts = {plot_tables.cell_text({"mean": value, "std": value, "n": 2}, 2) for value in (low, high)}
    assert len(texts) == 1 and f"{low:.2f}" != f"{high:.2f}"
    assert {number(value, 2) for value in (low, high)} == {texts.pop().split(" ± ")[0]}
