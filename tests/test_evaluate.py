"""Run folders to figures: every number again from the stored arrays, and what the command shows and stores."""

import json

import numpy as np
import pytest
from PIL import Image

import evaluate
import metrics
import train
from command_helpers import assert_refused, content
from data import load_dataset, load_embedded
from results_helpers import degrees_between, strip_figures
from runs import RunError, read_arrays, read_json, sole_use, write_json


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
    assert facts["angles"]["train"] == pytest.approx(
        metrics.angle_statistics(metrics.centred(train_x, train_y, four), weights)
    )
    assert facts["angles"]["test"] == pytest.approx(metrics.angle_statistics(metrics.centred(x, y, four), weights))
    assert facts["angular_fisher_score"] == pytest.approx(
        metrics.angular_fisher_score(metrics.centred(train_x, train_y, four))
    )
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


ARCFACE = (1.0, 0.5, 0.0)


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
    facts = evaluate.evaluate_arrays(*planted(), "arcface", ARCFACE)
    assert facts["margins_kept"]["test"]["own"] == 10 / 12 and facts["margins_kept"]["train"]["own"] == 1
    wider = evaluate.evaluate_arrays(*planted(), "arcface", (1.0, 1.65, 0.0))["margins_kept"]  # the axes are 1.57 apart
    assert wider["test"]["own"] == 0 and wider["test"]["arcface"] == 10 / 12 and 85 < wider["test"]["lead"]["0.5"] < 95
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
        one = evaluate.evaluate_arrays(test, near, around, loss, ARCFACE)
        two = evaluate.evaluate_arrays(turned, near @ turn, around, loss, ARCFACE)
        for name in ("accuracy", "per_class_accuracy", "confusion"):
            assert one[name] == two[name]
        for name in ("train", "test"):
            assert one["angles"][name] == pytest.approx(two["angles"][name], rel=1e-9)
        assert one["angular_fisher_score"] == pytest.approx(two["angular_fisher_score"], rel=1e-9)
        for name, figure in (("verification", "auc"), ("retrieval", "map_at_r")):
            assert one[name][figure] == pytest.approx(two[name][figure], abs=1e-3)


def test_classes_in_one_place_are_measured_and_shown():
    test, near, around = planted()
    facts = evaluate.evaluate_arrays(test, np.ones_like(near), around, "arcface", ARCFACE)
    assert facts["angular_fisher_score"] is None
    more = {
        "dataset": "folder", "source": "made up", "loss": "arcface", "embedding_dim": 4, "test_images": 12,
        "classes": list("abcd"), "scale": 16.0, "scale_start": None, "m1": 1.0, "m2": 0.5, "m3": 0.0,
        "margin_warmup": 0.5, "epochs": 3, "batch_size": 16, "lr": 0.05,
    }  # fmt: skip
    said = evaluate.summary(json.loads(json.dumps(facts | more, allow_nan=False)))
    assert "angular Fisher score infinite" in said and "margin, test  kept by" in said
    assert "margin, test  ArcFace's 0.5 kept by" in evaluate.summary(facts | more | {"m2": 0.0})


def test_too_many_images_to_pair_are_said_to_be(monkeypatch):
    monkeypatch.setattr(evaluate, "MOST_PAIRED", 11)
    facts = evaluate.evaluate_arrays(*planted(), "arcface", ARCFACE)
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
    assert facts["unseen_to_weight"] == metrics.to_nearest(x, arrays["weights"])
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
    assert list(facts["retrieval"]) == ["impossible"]  # every neighbour would be right
    again = measure()  # tables have a place for what is missing
    assert again.status == 0 and "AUC" not in again.out
    for said in ("verification: not measured (images of one class", "retrieval: not measured (images of one class"):
        assert said in done.out and said in again.out


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
    assert {path.name for path in figures.iterdir()} == {"runs_accuracy_folder.png", "runs_accuracy_folder.json"}
    with Image.open(figures / "runs_accuracy_folder.png") as image:
        image.load()
    rows = read_json(figures / "runs_accuracy_folder.json")["rows"]
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
    assert f"data: {facts['source']}" in done.out


def test_a_run_is_measured_on_the_device_asked_for(measure, run, monkeypatch):
    asked, real = [], evaluate.pick_device
    monkeypatch.setattr(evaluate, "pick_device", lambda name: asked.append(name) or real(name))
    assert measure(run, "--again", "--device", "cpu").status == 0 and asked == ["cpu"]
    assert_refused(measure(run, "--again", "--device", "cuda:99"), "cuda:99")


def test_a_run_is_measured_once_and_again_on_demand(measure, run):
    whole = strip_figures(run)
    assert measure(run).status == 0
    assert read_json(run / "metrics.json") == whole
    stale = {**whole, "angular_fisher_score": 17}
    write_json(run / "metrics.json", stale)
    assert measure(run).status == 0 and read_json(run / "metrics.json") == stale
    assert measure(run, "--again").status == 0 and read_json(run / "metrics.json") == whole


@pytest.mark.parametrize("meanwhile", ["gone", "changed"])
def test_a_run_begun_anew_while_it_is_measured_is_left_alone(measure, run, monkeypatch, meanwhile):
    real = evaluate.evaluate_arrays

    def overtaken(*arguments):
        (run / "curves.json").unlink()
        (run / "metrics.json").unlink()
        if meanwhile == "changed":
            write_json(run / "metrics.json", {"test_accuracy": 0.5})
        return real(*arguments)

    monkeypatch.setattr(evaluate, "evaluate_arrays", overtaken)
    done = measure(run, "--again")
    assert done.status == 2 and str(run) in done.err and len(done.err.splitlines()) == 1
    assert (run / "metrics.json").exists() == (meanwhile == "changed") and not (run / "curves.json").exists()


def test_a_run_that_another_process_is_at_is_not_written_to(measure, run):
    pytest.importorskip("fcntl")
    before = content(run)
    with sole_use(run):
        assert_refused(measure(run, "--again"), run, "another process")
    assert content(run) == before


def test_a_validation_run_is_measured_on_its_own_parts(train_tiny, measure, tmp_path):
    train_tiny(tmp_path / "runs", "--validation", 0.25, "--name", "run", "--epochs", 1)
    assert "verification" not in read_json(tmp_path / "runs" / "run" / "metrics.json")
    assert measure().status == 0
    facts = read_json(tmp_path / "runs" / "run" / "metrics.json")
    assert "on 24 validation images" in measure().out
    assert np.sum(facts["confusion"]) == 24 and "training images" in facts["source"]
    assert facts["pairs_from"] == "validation images"


def test_a_run_that_cannot_be_measured_keeps_back_no_other(train_tiny, measure, make_data, run, tmp_path):
    lost = tmp_path / "runs" / "lost"
    train_tiny(tmp_path / "runs", "--name", "lost", "--epochs", 1)
    strip_figures(lost)
    (lost / "checkpoint.pt").write_bytes(b"nothing")
    done = measure()
    assert done.status == 2 and str(lost) in done.err and len(done.err.splitlines()) == 1
    assert str(run) in done.out and (tmp_path / "figures" / "runs_accuracy_folder.json").exists()


def test_other_data_than_the_run_s_are_refused(measure, make_data, run, tmp_path):
    other = make_data(tmp_path / "other", new=[("test", "disc")])
    strip_figures(run)
    before = content(run)
    assert_refused(measure(run, "--data-dir", other), run, other, "--data-dir")
    assert_refused(measure(run, "--data-dir", tmp_path / "nowhere"), "nowhere")
    assert content(run) == before and not (tmp_path / "figures").exists()


def test_a_run_on_the_embedded_digits_finds_them_beside_the_whole_of_mnist(monkeypatch, tmp_path):
    digits = load_embedded()
    monkeypatch.setattr("data.load_dataset", lambda *_, **__: pytest.fail("looked for other data"))
    monkeypatch.setattr(evaluate, "load_network", lambda folder, device: None)
    monkeypatch.setattr(evaluate, "embed_images", lambda network, images: images.flatten(1)[:, :2].float())
    facts = {"dataset": "mnist-5k", "unseen_classes": [], "validation": 0.0, "image_size": None,
             "fingerprint": digits.fingerprint, "classes": list(digits.classes)}  # fmt: skip
    x, y = evaluate.train_embeddings(tmp_path, facts, tmp_path, "cpu")
    assert x.shape == (4000, 2) and (y == digits.train_labels.numpy()).all()


def test_measuring_downloads_nothing_and_takes_no_sample_for_mnist(monkeypatch, tmp_path):
    monkeypatch.setattr("data_files._download", lambda *_: pytest.fail("downloaded"))
    facts = {"dataset": "mnist", "unseen_classes": [], "validation": 0.0, "image_size": None}
    with pytest.raises(RunError, match=r"trained on mnist, which .*nowhere lacks: .*--data-dir"):
        evaluate.train_embeddings(tmp_path / "run", facts, tmp_path / "nowhere", "cpu")
    assert list(tmp_path.iterdir()) == []


def test_missing_runs_are_named(measure, tmp_path):
    assert_refused(measure(), "no finished run", tmp_path / "runs", "train.py")
    assert_refused(measure(tmp_path / "nothing"), tmp_path / "nothing")
    assert_refused(measure("--nonsense"), "--nonsense")


def test_a_file_in_the_way_of_the_figures_is_named(measure, run, tmp_path):
    (tmp_path / "file").write_text("mine")
    for place in ("file", "file/below"):
        assert_refused(measure(run, "--figures-dir", tmp_path / place), tmp_path / place, "--figures-dir")
    assert (tmp_path / "file").read_text() == "mine"
