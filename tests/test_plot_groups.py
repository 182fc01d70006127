"""Which runs tables and figures take together: a seed counts once, other settings keep apart and are named."""

import matplotlib.pyplot as plt
import pytest

import plot_compare
import plot_tables
from plot_data import NotStored, Study
from results_helpers import facts_of
from runs import write_json


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
    (row,) = plot_tables.table_rows([facts_of(), facts_of()])
    assert row["head_interval"] == pytest.approx([85, 95]) and row["head"]["std"] is None


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
