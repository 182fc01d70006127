"""One's own pictures: class, angle and verdict of each from a run's checkpoint, and what is refused."""

import math

import numpy as np
import pytest
import torch
from PIL import Image

from command_helpers import assert_refused
from results_helpers import degrees_between, strip_figures
from runs import read_arrays, read_json


def test_pictures_get_class_angle_and_pair_verdicts(measure, finished_run, tiny_data):
    pictures = [tiny_data / "test" / kind / "00.png" for kind in ("bars", "checks", "disc", "slopes")]
    pictures.append(tiny_data / "test" / "bars" / "01.png")
    done = measure(finished_run, "--images", *pictures)
    assert done.status == 0, done.err
    lines = done.out.splitlines()
    assert len(lines) == 5 + 10
    facts, arrays = read_json(finished_run / "metrics.json"), read_arrays(finished_run / "embeddings.npz")
    x, weights = arrays["embeddings"][[0, 8, 16, 24, 1]], arrays["weights"]  # classes lie in order, 8 images each
    for path, vector, line in zip(pictures, x, lines):
        angles = [degrees_between(vector, w) for w in weights]
        named, rest = line.removeprefix(f"{path}: ").split(", ")
        assert named == facts["classes"][int(np.argmin(angles))]
        assert float(rest.split()[0]) == pytest.approx(min(angles), abs=0.11)
    pairs, threshold = iter(lines[5:]), facts["verification"]["eer_threshold"]
    verdicts = set()
    for i in range(5):
        for j in range(i + 1, 5):
            line = next(pairs)
            cosine = math.cos(math.radians(degrees_between(x[i], x[j])))
            assert line.startswith(f"{pictures[i]} and {pictures[j]}: cosine ")
            assert float(line.split("cosine ")[1].split(",")[0]) == pytest.approx(cosine, abs=2e-3)
            if abs(cosine - threshold) > 2e-3:
                assert (", same at" in line, ", different at" in line) == (cosine > threshold, cosine < threshold)
            assert line.endswith(f"at {threshold:.4f}")
            verdicts.add(cosine > threshold)
    assert verdicts == {True, False}


def test_pictures_of_other_sizes_and_modes_are_taken(measure, finished_run, tmp_path):
    Image.new("L", (90, 40), 128).save(tmp_path / "grey.png")
    Image.new("RGBA", (16, 16), (255, 0, 0, 9)).save(tmp_path / "clear.png")
    done = measure(finished_run, "--images", tmp_path / "grey.png", tmp_path / "clear.png")
    assert done.status == 0 and len(done.out.splitlines()) == 3


def test_the_pairs_of_many_pictures_are_not_listed(measure, finished_run, tmp_path, monkeypatch):
    import evaluate

    monkeypatch.setattr(evaluate, "MOST_LISTED", 2)
    for name in "abc":
        Image.new("L", (16, 16), 99).save(tmp_path / f"{name}.png")
    lines = measure(finished_run, "--images", *(tmp_path / f"{name}.png" for name in "abc")).out.splitlines()
    assert len(lines) == 4 and lines[-1] == "pairs: not listed for more than 2 pictures"


def test_pictures_need_one_run_and_must_be_pictures(measure, finished_run, tmp_path):
    (tmp_path / "text.png").write_text("no picture")
    good = tmp_path / "good.png"
    Image.new("RGB", (16, 16)).save(good)
    assert_refused(measure("--images", good, finished_run), "0 runs named before --images")
    assert_refused(measure(finished_run, "--again", "--images", tmp_path / "a.png"), "--again", "--images")
    assert_refused(measure(finished_run, finished_run, "--images", good), "2 runs", "--images")
    assert_refused(measure(finished_run, "--images", good, tmp_path / "none.png"), "none.png")
    assert_refused(measure(finished_run, "--images", tmp_path / "text.png"), "text.png")
    assert_refused(measure(tmp_path / "nothing", "--images", good), "nothing")


def test_a_run_without_its_checkpoint_predicts_nothing(measure, run, tmp_path):
    Image.new("RGB", (16, 16)).save(tmp_path / "a.png")
    (run / "checkpoint.pt").unlink()
    assert_refused(measure(run, "--images", tmp_path / "a.png"), "checkpoint.pt", "missing")
    strip_figures(run)
    assert_refused(measure(run), "checkpoint.pt", "missing")


def test_a_checkpoint_of_another_network_is_refused(measure, run, tmp_path):
    state = torch.load(run / "checkpoint.pt", weights_only=True)
    state["config"]["embedding_dim"] = 5
    torch.save(state, run / "checkpoint.pt")
    Image.new("RGB", (16, 16)).save(tmp_path / "a.png")
    assert_refused(measure(run, "--images", tmp_path / "a.png"), "checkpoint.pt does not fit")
