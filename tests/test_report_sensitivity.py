"""What the report says of the sensitivity grids and of classes never seen, from made-up results."""

import pytest
from scipy import stats

from plot_data import Study
from report import content
from report.claims import claims
from report.sensitivity import sensitivity
from report_helpers import groups_of
from results_helpers import facts_of
from runs import write_json


def store(folder, flags: str, loss: str = "arcface", seed: int = 0, **changes) -> None:
    name = f"mnist-{loss}-512d-seed{seed}-{flags}-epochs=2"
    write_json(folder / f"{name}.json", facts_of(loss, 512, seed, part="sensitivity", epochs=2, **changes))


@pytest.fixture
def grid(tmp_path):
    """Six settings of ArcFace: two good, one within 0.2 points of them, one poor, one at chance, one that diverged."""
    cells = {(4.0, 0.1): 0.9950, (4.0, 0.5): 0.9962, (16.0, 0.1): 0.9944, (16.0, 0.5): 0.9871}
    for (s, m), accuracy in cells.items():
        error = {(4.0, 0.1): 0.004, (16.0, 0.1): 0.012}.get((s, m), 0.003)
        store(tmp_path, f"scale={s:g}-margin={m}", scale=s, m2=m, accuracy=accuracy, verification={"eer": error})
    store(tmp_path, "scale=1-margin=0.5", scale=1.0, m2=0.5, accuracy=0.9999, failed="ended near chance")
    path = tmp_path / "mnist-arcface-512d-seed0-scale=64-margin=0.5-epochs=2.json"
    lost = {k: v for k, v in facts_of(dim=512, scale=64.0, m2=0.5, part="sensitivity", epochs=2).items()
            if k not in ("accuracy", "test_accuracy", "confusion")}  # fmt: skip
    write_json(path, {**lost, "failed": "diverged"})
    return tmp_path


def test_a_grids_best_worst_and_failed_cells_are_counted(grid):
    (found,) = sensitivity(grid)["grids"]
    assert found == {
        "title": "ArcFace", "flags": ["scale", "margin"], "count": 6, "failed": 2, "best": "99.62",
        "epochs": 2, "worst": "98.71",
        "errors": [{"scale": "4", "low": "0.30", "high": "0.40"}, {"scale": "16", "low": "0.30", "high": "1.20"}],
        "plain": [], "beyond": None, "by_margin": {"scale": "16", "errors": {"0.1": "1.20", "0.5": "0.30"}},
    }  # fmt: skip


def test_a_grid_has_normalised_softmax_of_the_same_recipe_as_its_row_without_a_margin(grid):
    for scale, error in ((1, 0.005), (16, 0.02)):
        store(grid, f"scale={scale}", "norm-softmax", scale=scale, m2=0.0, verification={"eer": error})
    (found,) = sensitivity(grid)["grids"]
    assert found["plain"] == [
        {"scale": "1", "low": "0.50", "high": "0.50"},
        {"scale": "16", "low": "2.00", "high": "2.00"},
    ]
    assert found["count"] == 6 and len(Study(grid).margin_grid("arcface")) == 8
    for scale in (1, 16):
        store(grid, f"scale={scale}", "norm-softmax", scale=scale, m2=0.0, lr=0.5, verification={"eer": 0.01})
    assert sensitivity(grid)["grids"][0]["plain"] == []


def test_margins_beyond_the_bound_are_told(tmp_path):
    # Four classes on the simplex: 109.47 degrees, 1.911 radians.
    for margin, accuracy in ((0.5, 0.99), (1.9, 0.97), (1.92, 0.98), (2.5, 0.981)):
        store(tmp_path, f"scale=4-margin={margin}", scale=4.0, m2=margin, accuracy=accuracy)
    assert sensitivity(tmp_path)["grids"][0]["beyond"] == {"margin": "1.92", "bound": "1.91", "worst": "98.00"}


def test_a_grid_is_named_by_what_it_varies(tmp_path):
    for size, rate, accuracy in ((64, 0.1, 0.98), (256, 0.025, 0.99)):
        store(tmp_path, f"batch-size={size}-lr={rate}", batch_size=size, lr=rate, accuracy=accuracy)
    (found,) = sensitivity(tmp_path)["grids"]
    assert found["flags"] == ["batch-size", "lr"] and found["best"] == "99.00"
    assert sensitivity(tmp_path / "nothing") == {"grids": [], "contrasts": []}


def test_contrasts_are_paired_by_seed(tmp_path):
    full, none = [0.995, 0.996, 0.9955, 0.9], [0.993, 0.9945, 0.9925]  # the fourth seed has no partner
    for ramp, values in ((0.5, full), (0.0, none), (0.8, [0.5] * 3)):
        for seed, accuracy in enumerate(values):
            store(tmp_path, f"margin-warmup={ramp}", "cosface", seed, margin_warmup=ramp, accuracy=accuracy)
    store(tmp_path, "schedule=linear", schedule="linear")  # one seed is no interval
    store(tmp_path, "schedule=cosine", schedule="cosine")
    (found,) = sensitivity(tmp_path)["contrasts"]
    interval = stats.ttest_rel([100 * v for v in full[:3]], [100 * v for v in none]).confidence_interval(0.95)
    assert (found["title"], found["one"], found["other"], found["n"]) == ("CosFace", 0.5, 0.0, 3)
    assert not found["same"]
    assert found["mean"] == "+0.22" and found["verdict"] == ("higher" if interval.low > 0 else "undecided")
    said = [float(found[end].replace("−", "-")) for end in ("low", "high")]
    assert said == pytest.approx([interval.low, interval.high], abs=0.005)


def test_runs_with_the_same_accuracies_are_said_to_be_the_same(tmp_path):
    for schedule in ("linear", "cosine"):
        for seed, accuracy in enumerate((0.9959, 0.9956, 0.996)):
            store(tmp_path, f"schedule={schedule}", seed=seed, schedule=schedule, accuracy=accuracy)
    (found,) = sensitivity(tmp_path)["contrasts"]
    assert found["same"] and found["mean"] == "0.00" and found["verdict"] == "undecided"


def test_a_claim_on_unseen_classes_has_a_row_a_split():
    few, many = groups_of(softmax=[0.9], arcface=[0.9]), groups_of(softmax=[0.9] * 2, arcface=[0.9] * 2)
    for members, error in ((many["softmax"], 0.02), (many["arcface"], 0.05)):
        for seed, facts in members.items():
            facts["verification"] = {"eer": error + 0.001 * seed * (members is many["arcface"])}
    rows = claims({"mnist": {}}, {"mnist": {"7, 8, 9": many, "2, 4, 6": few, "none": {}}})
    found = {row["split"]: row["found"]["mnist"]["verdict"] for row in rows if row["key"] == "unseen"}
    assert found == {"2, 4, 6": "single", "7, 8, 9": "no"}
    (row,) = (row for row in claims({"mnist": {}}, {}) if row["key"] == "unseen")
    assert row["found"]["mnist"]["verdict"] == "unmeasured"


def test_scales_without_a_margin_stand_beside_adacos_and_arcface():
    groups = groups_of(norm_softmax=[0.9] * 3, arcface=[0.9] * 3, adacos=[0.9] * 3)
    control = groups_of(norm_softmax=[0.9] * 3)["norm-softmax"]
    for members, scale, error in ((groups["norm-softmax"], 16.0, 0.006), (groups["adacos"], 2.0, 0.0025),
                                  (control, 4.0, 0.003), (groups["arcface"], 16.0, 0.003)):  # fmt: skip
        for seed, facts in members.items():
            facts.update(scale=scale, verification={"eer": error + 0.0001 * seed * (members is control)})
    rows = content.by_scale(groups, [control], [])
    assert [(row["title"], row["settings"].split(",")[0]) for row in rows] == [
        ("Norm-softmax", "s = 4"), ("Norm-softmax", "s = 16"), ("AdaCos", "s = 2"), ("ArcFace", "s = 16")]  # fmt: skip
    assert [row["eer"] and row["eer"]["mean"] for row in rows] == ["+0.010", "+0.300", "−0.050", None]
    assert content.by_scale(groups, [], []) == []
