"""Run folders to figures: every number again from the stored arrays, one's own pictures, and damaged runs."""

import io
import json
import math
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import evaluate
import metrics
import train
from data import load_dataset
from runs import read_arrays, read_json, write_json


def assert_refused(done, *named):
    """Exit status 2 and a single line on stderr that holds the given words."""
    assert done.status == 2, done
    assert done.err.count("\n") == 1 and done.err.endswith("\n"), done.err
    assert "Traceback" not in done.err
    for word in named:
        assert str(word) in done.err


def content(folder: Path) -> dict:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def degrees_between(a, b):
    a, b = (np.asarray(v, np.float64) / np.linalg.norm(np.asarray(v, np.float64)) for v in (a, b))
    return math.degrees(math.acos(np.clip(a @ b, -1, 1)))


@pytest.fixture(scope="module")
def arrays_and_training(finished_run, tiny_data):
    """What the figures of the finished run come from: stored test arrays, training embeddings and labels."""
    network, data = evaluate.load_network(finished_run), load_dataset("folder", tiny_data, 16)
    embedded = evaluate.embed_images(network, data.train_images).numpy()
    return read_arrays(finished_run / "embeddings.npz"), embedded, data.train_labels.numpy()


# ------------------------------------------------------------------------------------- the figures


def test_the_accuracies_are_those_of_their_definitions(finished_run, arrays_and_training):
    facts, (test, train_x, train_y) = read_json(finished_run / "metrics.json"), arrays_and_training
    x, y = test["embeddings"].astype(np.float64), test["labels"]
    x /= np.linalg.norm(x, axis=1)[:, None]
    around = train_x.astype(np.float64) / np.linalg.norm(train_x, axis=1)[:, None]
    centres = np.stack([around[train_y == c].mean(0) for c in range(4)])
    centres /= np.linalg.norm(centres, axis=1)[:, None]
    by_mean = (x @ centres.T).argmax(1)
    votes = []
    for row in x @ around.T:
        nearest = row.argsort()[::-1][:5]
        counts = np.bincount(train_y[nearest], weights=1 + 1e-6 * row[nearest], minlength=4)
        votes.append(counts.argmax())
    expected = {"nearest_mean": by_mean == y, "5_nearest_neighbours": np.array(votes) == y}
    assert list(facts["accuracy"]) == ["head", *expected]
    for name, right in expected.items():
        assert facts["accuracy"][name]["value"] == right.mean(), name
    assert facts["accuracy"]["head"]["value"] == facts["test_accuracy"]
    for entry in facts["accuracy"].values():
        successes = round(32 * entry["value"])
        assert (entry["low"], entry["high"]) == metrics.wilson_interval(successes, 32)
        assert entry["low"] <= entry["value"] <= entry["high"]


def test_the_figures_agree_with_the_metrics_called_on_the_stored_arrays(finished_run, arrays_and_training):
    facts, (test, train_x, train_y) = read_json(finished_run / "metrics.json"), arrays_and_training
    x, y, weights, four = test["embeddings"], test["labels"], test["weights"], np.arange(4)
    assert facts["angles"]["train"] == pytest.approx(metrics.angle_statistics(train_x, train_y, four, weights))
    assert facts["angles"]["test"] == pytest.approx(metrics.angle_statistics(x, y, four, weights))
    assert facts["angular_fisher_score"] == pytest.approx(metrics.angular_fisher_score(train_x, train_y, four))
    every = json.loads(json.dumps(metrics.verification(x, y)))
    curves = read_json(finished_run / "curves.json")
    assert curves["test"] == every.pop("roc") | every.pop("angles") and facts["verification"] == every
    assert facts["verification"]["pairs"] == 32 * 31 // 2 and facts["verification"]["genuine_pairs"] == 4 * 28
    assert facts["verification_10_fold"] == metrics.verification_accuracy(x, y)
    assert facts["retrieval"] == metrics.retrieval(x, y)
    assert facts["pairs_from"] == "test images"


def test_the_angles_are_those_between_weights_and_centres(finished_run, arrays_and_training):
    facts, (test, _, _) = read_json(finished_run / "metrics.json"), arrays_and_training
    x = test["embeddings"].astype(np.float64)
    x /= np.linalg.norm(x, axis=1)[:, None]
    centres, weights = [x[test["labels"] == c].mean(0) for c in range(4)], test["weights"]
    to_centre = [degrees_between(v, centres[c]) for v, c in zip(x, test["labels"])]
    apart = [min(degrees_between(weights[i], weights[j]) for j in range(4) if j != i) for i in range(4)]
    off = list(map(degrees_between, weights, centres))
    for name, angles in (("w_ec", off), ("intra", to_centre), ("w_inter", apart)):
        assert facts["angles"]["test"][name] == pytest.approx(np.mean(angles), abs=1e-3)


def planted():
    """Three classes on the axes, 4 test samples each; two samples of class 0 lie at class 1, and class 3 is missing."""
    weights = np.eye(4, dtype=np.float32)
    labels = np.repeat([0, 1, 2], 4)
    places = labels.copy()
    places[:2] = 1
    rng = np.random.default_rng(0)
    around = np.repeat(np.arange(4), 6)
    near = (weights[around] + rng.normal(0, 0.01, (24, 4))).astype(np.float32)
    x = (weights[places] + rng.normal(0, 0.01, (12, 4))).astype(np.float32)
    return {"embeddings": 3 * x, "labels": labels, "weights": weights}, near, around


def test_rows_of_the_confusion_matrix_are_true_classes():
    facts = evaluate.evaluate_arrays(*planted(), "arcface")
    assert facts["confusion"] == [[2, 2, 0, 0], [0, 4, 0, 0], [0, 0, 4, 0], [0, 0, 0, 0]]
    assert facts["per_class_accuracy"] == [0.5, 1, 1, None]
    assert [entry["value"] for entry in facts["accuracy"].values()] == [10 / 12] * 3
    assert json.loads(json.dumps(facts, allow_nan=False)) == facts


@pytest.mark.parametrize("seed", range(5))
def test_turning_the_embedding_space_changes_no_figure(seed):
    rng = np.random.default_rng(seed)
    turn = np.linalg.qr(rng.standard_normal((6, 6)))[0]
    weights, labels, around = rng.standard_normal((4, 6)), np.arange(40) % 4, np.arange(80) % 4
    x, near = (weights[y] + rng.normal(0, 1.5, (len(y), 6)) for y in (labels, around))
    test = {"embeddings": x, "labels": labels, "weights": weights}
    turned = {**test, "embeddings": x @ turn, "weights": weights @ turn}
    for loss in ("softmax", "arcface"):
        one = evaluate.evaluate_arrays(test, near, around, loss)
        two = evaluate.evaluate_arrays(turned, near @ turn, around, loss)
        for name in ("accuracy", "per_class_accuracy", "confusion"):
            assert one[name] == two[name]
        for name in ("train", "test"):
            assert one["angles"][name] == pytest.approx(two["angles"][name], rel=1e-9)
        assert one["angular_fisher_score"] == pytest.approx(two["angular_fisher_score"], rel=1e-9)
        for name, figure in (("verification", "auc"), ("retrieval", "map_at_r")):
            assert one[name][figure] == pytest.approx(two[name][figure], abs=1e-3)


def test_classes_in_one_place_are_measured_and_shown():
    test, near, around = planted()
    facts = evaluate.evaluate_arrays(test, np.ones_like(near), around, "arcface")
    assert facts["angular_fisher_score"] is None
    more = {"dataset": "folder", "loss": "arcface", "embedding_dim": 4, "test_images": 12, "classes": list("abcd")}
    assert "angular Fisher score infinite" in evaluate.summary(json.loads(json.dumps(facts | more, allow_nan=False)))


def test_too_many_images_to_pair_are_said_to_be(monkeypatch):
    monkeypatch.setattr(evaluate, "MOST_PAIRED", 11)
    facts = evaluate.evaluate_arrays(*planted(), "arcface")
    for name in ("verification", "verification_10_fold", "retrieval"):
        assert "12 images" in facts[name]["impossible"]


def test_softmax_predicts_by_the_dot_product_and_the_others_by_the_angle():
    test = {"embeddings": np.array([[1.0, 0.9]]), "weights": np.array([[1.0, 0.0], [0.0, 9.0]])}
    assert evaluate.head_predictions(test, "softmax") == [1]
    assert evaluate.head_predictions(test, "arcface") == [0]


def test_held_out_classes_alone_are_verified_and_retrieved(train_tiny, tmp_path):
    assert train_tiny(tmp_path, "--hold-out", "bars", "disc", "--name", "run").status == 0
    facts, arrays = read_json(tmp_path / "run" / "metrics.json"), read_arrays(tmp_path / "run" / "embeddings.npz")
    x, y = arrays["unseen_embeddings"], arrays["unseen_labels"]
    every = json.loads(json.dumps(metrics.verification(x, y)))
    curves = read_json(tmp_path / "run" / "curves.json")
    assert curves["unseen"] == every.pop("roc") | every.pop("angles") and facts["verification"] == every
    assert facts["verification_10_fold"] == metrics.verification_accuracy(x, y)
    assert facts["retrieval"] == metrics.retrieval(x, y)
    trained = json.loads(json.dumps(metrics.verification(arrays["embeddings"], arrays["labels"])))
    assert curves["test"] == trained.pop("roc") | trained.pop("angles")
    assert facts["verification_trained_classes"] == trained != facts["verification"]
    assert facts["pairs_from"] == "test images of the held-out classes"
    assert np.sum(facts["confusion"]) == 16 == facts["test_images"]  # accuracy stays that of the trained classes


def test_one_held_out_class_leaves_no_pairs_to_verify_and_says_so(train_tiny, measure, tmp_path):
    done = train_tiny(tmp_path / "runs", "--hold-out", "disc", "--name", "run")
    assert done.status == 0, done.err
    facts = read_json(tmp_path / "runs" / "run" / "metrics.json")
    assert list(facts["verification"]) == ["impossible"] and facts["verification"]["impossible"]
    assert list(facts["verification_10_fold"]) == ["impossible"]
    again = measure()  # tables have a place for what is missing
    assert again.status == 0 and "AUC" not in again.out


# ------------------------------------------------------------------------------------- the command


def test_all_finished_runs_are_measured_by_default(train_tiny, measure, tmp_path):
    for seed in (0, 1):
        train_tiny(tmp_path / "runs", "--seed", seed, "--epochs", 1)
    train_tiny(tmp_path / "runs", "--epochs", 1, loss="softmax")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train, "finish", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        assert train_tiny(tmp_path / "runs", "--epochs", 1, "--name", "unfinished").status == 130
    done = measure()
    assert done.status == 0 and done.err == ""
    for name in ("folder-arcface-4d-seed0", "folder-arcface-4d-seed1", "folder-softmax-4d-seed0"):
        assert str(tmp_path / "runs" / name) in done.out
    assert "unfinished" not in done.out
    assert done.out.count("head, no margin") == 3 and "nearest class mean" in done.out and "5 nearest" in done.out
    figures = tmp_path / "figures"
    assert {path.name for path in figures.iterdir()} == {"accuracy_folder.png", "accuracy_folder.json"}
    with Image.open(figures / "accuracy_folder.png") as image:
        image.load()
    rows = read_json(figures / "accuracy_folder.json")["rows"]
    assert [(row["loss"], row["seeds"]) for row in rows] == [("softmax", [0]), ("arcface", [0, 1])]
    for path in figures.iterdir():
        assert f"wrote {path}" in done.out


def test_the_summary_shows_the_stored_numbers(measure, run):
    facts, done = read_json(run / "metrics.json"), measure(run)
    for entry in facts["accuracy"].values():
        assert f"{entry['value']:.2%}  (95 % interval {entry['low']:.2%} to {entry['high']:.2%})" in done.out
    assert f"AUC {facts['verification']['auc']:.5f}  EER {facts['verification']['eer']:.2%}" in done.out
    assert f"MAP@R {facts['retrieval']['map_at_r']:.2%}" in done.out
    for split in ("train", "test"):
        assert f"W-EC {facts['angles'][split]['w_ec']:.1f}" in done.out
    assert "496 pairs of test images" in done.out


def strip_figures(run):
    """Leave in metrics.json what training writes, without the evaluation."""
    facts = read_json(run / "metrics.json")
    whole = dict(facts)
    for name in ("accuracy", "per_class_accuracy", "confusion", "angles", "angular_fisher_score", "pairs_from",
                 "verification", "verification_10_fold", "retrieval"):  # fmt: skip
        del facts[name]
    write_json(run / "metrics.json", facts)
    return whole


def test_a_run_is_measured_once_and_again_on_demand(measure, run):
    whole = strip_figures(run)
    assert measure(run).status == 0
    assert read_json(run / "metrics.json") == whole
    stale = {**whole, "angular_fisher_score": 17}
    write_json(run / "metrics.json", stale)
    assert measure(run).status == 0 and read_json(run / "metrics.json") == stale
    assert measure(run, "--again").status == 0 and read_json(run / "metrics.json") == whole


def test_a_validation_run_is_measured_on_its_own_parts(train_tiny, measure, tmp_path):
    train_tiny(tmp_path / "runs", "--validation", 0.25, "--name", "run", "--epochs", 1)
    assert "verification" not in read_json(tmp_path / "runs" / "run" / "metrics.json")
    assert measure().status == 0
    facts = read_json(tmp_path / "runs" / "run" / "metrics.json")
    assert np.sum(facts["confusion"]) == 24 and "training images" in facts["source"]


def test_other_data_than_the_run_s_are_refused(measure, make_data, run, tmp_path):
    other = make_data(tmp_path / "other", new=[("test", "disc")])
    strip_figures(run)
    before = content(run)
    assert_refused(measure(run, "--data-dir", other), run, other, "--data-dir")
    assert_refused(measure(run, "--data-dir", tmp_path / "nowhere"), "nowhere")
    assert content(run) == before and not (tmp_path / "figures").exists()


def test_missing_runs_are_named(measure, tmp_path):
    assert_refused(measure(), "no finished run", tmp_path / "runs", "train.py")
    assert_refused(measure(tmp_path / "nothing"), tmp_path / "nothing")
    assert_refused(measure("--nonsense"), "--nonsense")


def test_a_file_in_the_way_of_the_figures_is_named(measure, run, tmp_path):
    (tmp_path / "file").write_text("mine")
    for place in ("file", "file/below"):
        assert_refused(measure(run, "--figures-dir", tmp_path / place), tmp_path / place, "--figures-dir")
    assert (tmp_path / "file").read_text() == "mine"


# ------------------------------------------------------------------------------------- one's own pictures


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


def test_pictures_need_one_run_and_must_be_pictures(measure, finished_run, tmp_path):
    (tmp_path / "text.png").write_text("no picture")
    good = tmp_path / "good.png"
    Image.new("RGB", (16, 16)).save(good)
    assert_refused(measure("--images", good), "0 runs", "--images")
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


# ------------------------------------------------------------------------------------- damaged runs

DAMAGED_JSON = {
    "missing": None, "empty": b"", "truncated": b'{"dataset": "folder", "lo', "a-list": b"[1, 2]", "a-number": b"3",
    "no-utf-8": b"\xff\xfe{}", "nothing-in-it": b"{}", "nested-too-deep": b"[" * 100_000,
    "figures-alone": b'{"verification": {}}', "figures-of-wrong-type": b'{"verification": 1, "accuracy": []}',
}  # fmt: skip


@pytest.mark.parametrize("kind", DAMAGED_JSON)
def test_damaged_metrics_are_one_clear_line(measure, train_tiny, run, tmp_path, kind):
    path = run / "metrics.json"
    path.unlink() if DAMAGED_JSON[kind] is None else path.write_bytes(DAMAGED_JSON[kind])
    before = content(run)
    assert_refused(measure(run), run)
    if DAMAGED_JSON[kind] is not None:  # train.py shows the stored result of a finished run
        assert_refused(train_tiny(tmp_path / "runs", "--name", "run"), run)
    assert content(run) == before and not (tmp_path / "figures").exists()


@pytest.mark.parametrize("name", ["loss", "dataset", "fingerprint", "classes", "unseen_classes", "image_shape"])
@pytest.mark.parametrize("value", [None, 3, "x", ["x"], {}])
def test_metrics_of_wrong_types_are_one_clear_line(measure, run, tmp_path, name, value):
    strip_figures(run)
    facts = read_json(run / "metrics.json")
    write_json(run / "metrics.json", {**facts, name: value})
    done = measure(run)
    if done.status:  # some are as good as what was there: None and {} are no unseen classes either
        assert_refused(done)
    assert "Traceback" not in done.err


class Touch:
    """Pickles as a call that makes a file: the proof that code was run."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def damaged_arrays(good: Path, canary: Path) -> dict:
    arrays, raw = read_arrays(good), good.read_bytes()

    def packed(**changes):
        buffer = io.BytesIO()
        kept = {name: value for name, value in {**arrays, **changes}.items() if value is not None}
        np.savez(buffer, **kept)
        return buffer.getvalue()

    holes = arrays["embeddings"].copy()
    holes[3, 1] = np.nan
    return {
        "missing": None, "empty": b"", "truncated": raw[: len(raw) // 2], "cut-short": raw[:-10],
        "no-npz": b"not an npz", "random": np.random.default_rng(0).bytes(2000), "pickle": pickle.dumps(Touch(canary)),
        "flipped": raw[:300] + bytes([raw[300] ^ 255]) + raw[301:],
        "pickle-within": packed(embeddings=np.array([Touch(canary)] * 32, dtype=object)),
        "no-weights": packed(weights=None), "no-labels": packed(labels=None), "holes": packed(embeddings=holes),
        "too-few-labels": packed(labels=arrays["labels"][:-1]), "too-many-weights": packed(weights=np.eye(5, 4)),
        "other-dimension": packed(weights=np.eye(4, 3)), "labels-out-of-range": packed(labels=arrays["labels"] + 2),
        "negative-labels": packed(labels=arrays["labels"] - 1), "text": packed(embeddings=np.full((32, 4), "x")),
        "flat": packed(embeddings=arrays["embeddings"].ravel()), "no-rows": packed(embeddings=np.zeros((0, 4), "f4")),
        "fractional-labels": packed(labels=arrays["labels"] + 0.5),
    }  # fmt: skip


DAMAGED_ARRAYS = (
    "missing", "empty", "truncated", "cut-short", "no-npz", "random", "pickle", "flipped", "pickle-within",
    "no-weights", "no-labels", "holes", "too-few-labels", "too-many-weights", "other-dimension", "labels-out-of-range",
    "negative-labels", "text", "flat", "no-rows", "fractional-labels",
)  # fmt: skip


@pytest.mark.parametrize("kind", DAMAGED_ARRAYS)
def test_damaged_arrays_are_one_clear_line_and_run_no_code(measure, run, tmp_path, kind):
    strip_figures(run)
    path, canary = run / "embeddings.npz", tmp_path / "canary"
    bad = damaged_arrays(path, canary)[kind]
    path.unlink() if bad is None else path.write_bytes(bad)
    before = content(run)
    assert_refused(measure(run), run)
    assert content(run) == before and not canary.exists() and not (tmp_path / "figures").exists()


def test_every_kind_of_damage_is_tried(finished_run, tmp_path):
    assert set(damaged_arrays(finished_run / "embeddings.npz", tmp_path)) == set(DAMAGED_ARRAYS)


def test_one_damaged_run_does_not_cost_the_others_their_figures(measure, run, tmp_path):
    shutil.copytree(run, tmp_path / "runs" / "sound")
    strip_figures(tmp_path / "runs" / "sound")
    (run / "metrics.json").write_text("{")
    assert_refused(measure(tmp_path / "runs" / "sound", run), run)
    assert "verification" in read_json(tmp_path / "runs" / "sound" / "metrics.json")
