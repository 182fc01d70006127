"""Along the scale: the report's rows, what they are compared with, and the lead that a probability takes."""

import json

import numpy as np
import pytest

from report import scales
from report.content import content
from report.theory import PROBABILITIES
from report_helpers import run


def store(folder, loss, scale, seed, intra, eer, accuracy=0.99, name="", **changes):
    facts = run(loss, seed, accuracy, scale=scale, **changes)
    facts["angles"]["test"]["intra"], facts["verification"]["eer"] = intra, eer
    (folder / f"mnist-{loss}-512d-seed{seed}{name}.json").write_text(json.dumps(facts))


@pytest.fixture
def results(tmp_path):
    """Normalised softmax at three scales, ArcFace at two of them and one of its own, over three seeds."""
    for seed in range(3):
        more = 0.001 * seed
        store(tmp_path, "norm-softmax", 16.0, seed, 17.0, 0.005 + more)
        store(tmp_path, "norm-softmax", 8.0, seed, 9.0, 0.003 + more, name="-scale=8", part="scale")
        store(tmp_path, "norm-softmax", 64.0, seed, 20.0, 0.1 + more, name="-scale=64", part="scale")
        store(tmp_path, "arcface", 16.0, seed, 8.0, 0.002 + 2 * more, 0.991, m2=0.5)
        store(tmp_path, "arcface", 64.0, seed, 14.0, 0.004 + more**2, m2=0.5, name="-scale=64", part="scale")
        store(tmp_path, "arcface", 4.0, seed, 1.0, 0.002, m2=0.5, name="-scale=4", part="scale")
        store(tmp_path, "arcface", 8.0, seed, 9.5, 0.002, m2=0.5, name="-scale=8", part="scale")
    return tmp_path


def test_each_row_is_set_against_no_margin_at_its_scale_and_at_its_tightness(results):
    found = scales.along_scale(results, "mnist")
    rows = {(row["loss"], row["scale"]): row for row in found["rows"]}
    assert [*rows] == [
        *(("norm-softmax", s) for s in ("8", "16", "64")),
        *(("arcface", s) for s in ("4", "8", "16", "64")),
    ]
    at_16 = rows["arcface", "16"]
    assert at_16["title"] == "ArcFace (m₂ = 0.5)" and at_16["n"] == 3 and at_16["cells"]["intra"]["mean"] == "8.0"
    assert at_16["eer_minus"]["mean"] == "−0.20" and at_16["eer_minus"]["verdict"] == "undecided"  # −0.3, −0.2, −0.1
    assert at_16["accuracy_minus"]["mean"] == "+0.10"
    assert at_16["near"]["scale"] == "8" and at_16["near"]["intra"]["mean"] == "9.0"
    assert at_16["near"]["eer"]["mean"] == "0.00"  # −0.1, 0, +0.1
    assert (
        rows["arcface", "64"]["eer_minus"]["mean"] == "−9.70"
        and rows["arcface", "64"]["eer_minus"]["verdict"] == "lower"
    )
    assert rows["arcface", "64"]["near"]["scale"] == "16"  # 14 is nearer to 17, by ratio, than to 9
    assert rows["arcface", "4"]["eer_minus"] is None and rows["arcface", "4"]["near"] is None  # nothing is as tight
    assert rows["arcface", "8"]["eer_minus"] and rows["arcface", "8"]["near"] is None  # nearest at its own scale
    assert all(rows["norm-softmax", s]["eer_minus"] is None for s in ("8", "16", "64"))
    assert found["corrected"]["tested"] == 3 and found["corrected"]["kept"] == ["ArcFace (m₂ = 0.5) at 64"]


def test_the_lead_gives_the_probability_it_is_for():
    for classes, scale in ((10, 4.0), (10, 64.0), (3, 16.0)):
        logits = scale * np.array([0.3 + scales.lead(scale, classes), *[0.3] * (classes - 1)])
        probability = np.exp(logits[0]) / np.exp(logits).sum()
        assert probability == pytest.approx(PROBABILITIES[0])


def test_runs_along_the_scale_are_no_rows_of_the_main_tables_but_are_corrected_for(results):
    for seed in range(3):
        store(results, "softmax", None, seed, 30.0, 0.02, 0.98 + 0.0001 * seed)
    one = content(results)["main"]["mnist"]
    assert one["by_scale"] == []
    titles = ["ArcFace at s = 4, m₂ = 0.5", "Norm-softmax at s = 64", "ArcFace at s = 64, m₂ = 0.5"]
    titles += ["Norm-softmax at s = 8", "ArcFace at s = 8, m₂ = 0.5"]
    assert [found["title"] for found in one["beyond"]] == titles
    assert one["corrected"]["softmax"]["tested"] == 7 and one["corrected"]["nsl_eer"]["tested"] == 1
    assert one["corrected"]["arcface_eer"]["tested"] == 3  # normalised softmax's own and at 8 and 64
    assert content(results)["along"]["leads"]["64"] == "0.07"


def test_without_a_second_scale_there_is_no_row(tmp_path):
    store(tmp_path, "arcface", 16.0, 0, 8.0, 0.002, m2=0.5)
    assert scales.along_scale(tmp_path, "mnist") is None


def test_the_line_is_set_against_the_cosine_that_falls_as_steeply(results):
    for seed in range(3):
        store(results, "li-arcface", 16.0, seed, 13.0 + seed, 0.006, m2=0.0, name="-margin=0", part="control")
        store(results, "li-arcface", 64.0, seed, 13.0, 0.006, m2=0.0, name="-scale=64-margin=0", part="scale")
        store(results, "norm-softmax", 10.19, seed, 12.0, 0.004 + 0.001 * seed, name="-scale=10.19", part="scale")
        store(results, "norm-softmax", 40.0, seed, 12.0, 0.004, name="-scale=40", part="scale")  # 2 % off
    found = scales.along_scale(results, "mnist")
    rows = {(row["loss"], row["scale"]): row for row in found["rows"]}
    slope = rows["li-arcface", "16"]["slope"]
    assert slope["scale"] == "10.19" and slope["intra"]["mean"] == "+2.0" and slope["eer"]["mean"] == "+0.10"
    assert slope["eer"]["verdict"] == "undecided"  # 0.2, 0.1, 0.0
    assert rows["li-arcface", "64"]["slope"] is None and rows["arcface", "16"]["slope"] is None
