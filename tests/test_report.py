"""The report: its numbers against the stored results, its figures, its bytes, and the statistics behind its tables."""

import io
import json
import math
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pypdf import PdfReader

from losses import LOSSES
from report import build, claims, content, facts, theory
from report.shrink import COLOURS, shrink
from runs import RunError

ROOT = Path(__file__).resolve().parents[1]
REPORT = ROOT / "report"
SECTIONS = sorted(REPORT.glob("*.typ"))


def text_of(pdf: bytes, pages: slice = slice(None)) -> str:
    """A PDF's text, page after page, runs of white space as one space."""
    return re.sub(r"\s+", " ", " ".join(page.extract_text() for page in PdfReader(io.BytesIO(pdf)).pages[pages]))


FIRST = slice(1)  # the page with title, author and abstract


@pytest.fixture(scope="module")
def pdf() -> bytes:
    """The report as it is typeset now."""
    return build.compile_report(ROOT, build.author_of(ROOT))


@pytest.fixture(scope="module")
def text(pdf) -> str:
    return text_of(pdf)


@pytest.fixture
def tree(tmp_path) -> Path:
    """A copy of what the report is made from, to be changed; its pictures are small, to typeset faster."""
    shutil.copytree(REPORT, tmp_path / "report", ignore=shutil.ignore_patterns("__pycache__", "*.npz"))
    shutil.copytree(ROOT / "figures", tmp_path / "figures", ignore=shutil.ignore_patterns("*.png"))
    for path in (ROOT / "figures").glob("*.png"):
        Image.new("L", (4, 3)).save(tmp_path / "figures" / path.name)
    for file, _ in build.EXCERPTS.values():
        shutil.copy(ROOT / file, tmp_path)
    return tmp_path


def stored(name: str) -> list[dict]:
    """Metrics of the stored runs NAME-seedN, read without the report's code."""
    paths = sorted((REPORT / "results").glob(f"{name}-seed*.json"))
    return [json.loads(p.read_text()) for p in paths if re.fullmatch(re.escape(name) + r"-seed\d+", p.stem)]


def run(loss: str = "arcface", seed: int = 0, accuracy: float = 0.99, **changes) -> dict:
    """A run's metrics as far as the report reads them."""
    values = {
        "dataset": "mnist", "loss": loss, "embedding_dim": 512, "seed": seed, "epochs": 7, "batch_size": 256,
        "lr": 0.05, "scale": None if loss == "softmax" else 16.0, "scale_start": None, "m1": 1.0, "m2": 0.0, "m3": 0.0,
        "margin_warmup": 0.5, "precision": "bf16", "widths": [1, 2, 3], "shift": 2, "flip": False, "hold_out": [],
        "image_size": None, "validation": 0.0, "source": "MNIST", "fingerprint": "f", "unseen_classes": [],
        "classes": list("0123456789"), "parameters": 1000, "device": "cpu", "torch": "2", "test_images": 10000,
        "train_images": 60000, "verification": {"eer": 0.01, "tar_at_far": {"0.001": 0.9}, "pairs": 10},
        "accuracy": {"head": {"value": accuracy}}, "angles": {"train": {"w_ec": 1.0}, "test": {"intra": 5.0}},
    }  # fmt: skip
    return values | changes


def groups_of(**by_loss: list[float]) -> dict:
    """{loss: {seed: metrics}} with the given accuracies, a seed each; '_' in a name stands for '-'."""
    named = {name.replace("_", "-"): values for name, values in by_loss.items()}
    return {name: {i: run(name, i, v) for i, v in enumerate(values)} for name, values in named.items()}


# The text against the stored results


def test_the_committed_report_is_what_the_stored_results_give(pdf, text):
    committed = (REPORT / "report.pdf").read_bytes()
    # By their text where the bytes differ: another machine may round the place of a glyph differently.
    assert committed == pdf or text_of(committed) == text, "report.pdf is out of date: python report/build.py"


@pytest.mark.parametrize("dataset", facts.DATASETS)
@pytest.mark.parametrize("loss", LOSSES)
def test_the_main_tables_hold_the_stored_means(text, dataset, loss):
    members = stored(f"{dataset}-{loss}-512d")
    if not members:
        pytest.skip("not stored")
    accuracies = [100 * m["test_correct"] / m["test_images"] for m in members]
    spread = f" ± {np.std(accuracies, ddof=1):.2f}" if len(members) > 1 else ""
    row = rf"{re.escape(LOSSES[loss].title)} (– |[^–]{{3,40}}?){len(members)} {np.mean(accuracies):.2f}{spread}"
    assert re.search(row, text), row


def test_a_changed_result_changes_the_text(tree, text):
    path = next((tree / "report" / "results").glob("mnist-arcface-512d-seed0.json"))
    metrics = json.loads(path.read_text())
    metrics["accuracy"]["head"]["value"] = 0.5
    path.write_text(json.dumps(metrics))
    changed = [100 * m["accuracy"]["head"]["value"] for m in stored("mnist-arcface-512d")]
    changed[0] = 50.0
    new = text_of(build.compile_report(tree, build.author_of(tree)), FIRST)
    assert f"{np.mean(changed):.2f}" in new and f"{np.mean(changed):.2f}" not in text


def test_no_measured_number_is_typed():
    layout = r"//.*|\d[\d.]*(pt|em|cm|fr)\b|width: \d+%|\"[^\"]*\"|calc\.min\(.*"
    constants = r"@\w+\[[^]]*\]|(45|90) degree"  # places in papers; angles that are definitions
    for path in SECTIONS:
        for line in path.read_text().splitlines():
            plain = re.sub(f"{layout}|{constants}", "", line)
            assert not re.search(r"\d\.\d|\d ?%|\d ?degree", plain), f"{path.name}: {line}"


def test_nothing_of_the_jpeg_copy_is_shown_without_saying_so(text):
    for caption in re.findall(r'#pic\("[\w-]+"[^)]*\)\[([^\]]*)\]', "".join(p.read_text() for p in SECTIONS)):
        assert "CIFAR" not in caption or "JPEG copy" in caption
    for name, caption in build.captions(ROOT).items():
        assert ("cifar" not in name and "CIFAR" not in caption) or "JPEG" in caption, name
    captions = re.findall(r"Table \d+\. (CIFAR-10[^:]*)", text)
    assert captions and all("JPEG copy" in caption for caption in captions)


# Figures, excerpts, references


def test_every_figure_of_the_text_is_there_or_awaited():
    named = build.figures_named(REPORT)
    assert set(build.missing_figures(ROOT)) == build.AWAITED, "draw the figure, or take it out of build.AWAITED"
    assert set(named) >= build.AWAITED


def test_every_drawn_figure_is_shown_or_left_out_by_name():
    drawn = {path.stem for path in (ROOT / "figures").glob("*.png")}
    shown = set(build.figures_named(REPORT))
    assert drawn == (shown - build.AWAITED) | (drawn & build.LEFT_OUT.keys())
    assert not shown & build.LEFT_OUT.keys()


def test_a_missing_figure_is_reported_and_left_out(tree):
    (tree / "figures" / "terminal_warning.png").unlink()
    assert "terminal_warning" in build.missing_figures(tree)
    with pytest.raises(RunError, match="terminal_warning"):  # the text refers to it by number
        build.compile_report(tree, build.author_of(tree))
    (tree / "figures" / "embeddings_3d_mnist.png").rename(tree / "figures" / "terminal_warning.png")
    assert "embeddings_3d_mnist" not in build.inputs(tree, {})["figures"]
    assert build.compile_report(tree, build.author_of(tree))


def test_a_caption_kept_beside_the_plotting_code_is_the_one_shown(tree):
    entry = {"file": "embeddings_3d_mnist.png", "caption": "Spheres, described."}
    (tree / "figures" / "captions.json").write_text(json.dumps({"embeddings_3d_mnist": entry}))
    assert "Spheres, described." in text_of(build.compile_report(tree, build.author_of(tree)))


def test_excerpts_are_the_files_own_lines():
    for name, (file, parts) in build.EXCERPTS.items():
        lines = {line.strip() for line in (ROOT / file).read_text().splitlines()}
        for part in parts:
            quoted = build.excerpt(ROOT / file, part)
            assert all(line.strip() in lines for line in quoted.splitlines()), name
            assert '"""' not in quoted and quoted.startswith("def ")


def test_excerpt_drops_the_docstring_and_names_what_is_missing(tmp_path):
    path = tmp_path / "a.py"
    path.write_text('class A:\n    def f(self):\n        """Two\n        lines."""\n        return 1\n\n    x = 2\n')
    assert build.excerpt(path, "A.f") == "def f(self):\n    return 1"
    with pytest.raises(RunError, match=r"a\.py has no A\.g"):
        build.excerpt(path, "A.g")


def test_every_reference_is_cited():
    entries = set(re.findall(r"^@\w+\{(\w+),", (REPORT / "references.bib").read_text(), re.M))
    cited = set(re.findall(r"@([a-z]+\d{4}\w*)", "".join(p.read_text() for p in SECTIONS)))
    assert entries == cited


# The build


def test_the_same_inputs_give_the_same_bytes(pdf):
    assert build.compile_report(ROOT, build.author_of(ROOT)) == pdf


def test_the_authors_name_is_on_the_report():
    author = build.author_of(ROOT, first_name="Zoë", last_name="Doe-Roe", id="0123456")
    named = build.compile_report(ROOT, author)
    first_page = text_of(named, FIRST)
    assert "Zoë Doe-Roe" in first_page and "0123456" in first_page
    assert PdfReader(io.BytesIO(named)).metadata.author == "Zoë Doe-Roe"


def test_the_command_writes_only_what_changed(tree, command, monkeypatch):
    monkeypatch.setattr(build, "ROOT", tree)
    monkeypatch.setattr(build, "PDF", tree / "report" / "report.pdf")
    monkeypatch.setattr(build, "compile_report", lambda root, author: json.dumps(author).encode())
    first, second = command(build.main, "--id", "7"), command(build.main, "--id", "7")
    assert first.status == second.status == 0
    assert first.out.startswith("wrote") and second.out.startswith("up to date")
    assert json.loads((tree / "report" / "report.pdf").read_bytes())["id"] == "7"


def test_a_text_that_does_not_compile_ends_in_one_line(tree, command, monkeypatch):
    monkeypatch.setattr(build, "ROOT", tree)
    (tree / "report" / "report.typ").write_text("#nonsense")
    done = command(build.main)
    assert done.status == 2 and len(done.err.splitlines()) == 1 and "does not compile" in done.err


# Statistics


def test_a_paired_difference_is_students():
    from scipy.stats import ttest_rel

    groups = groups_of(arcface=[0.991, 0.994, 0.992, 0.996], softmax=[0.990, 0.991, 0.992, 0.990])
    found = facts.paired(groups["arcface"], groups["softmax"], facts.MEASURES["accuracy"])
    left, right = ([100 * m["accuracy"]["head"]["value"] for m in groups[n].values()] for n in ("arcface", "softmax"))
    interval = ttest_rel(left, right).confidence_interval(0.95)
    assert found["n"] == 4 and found["mean"] == f"{np.mean(left) - np.mean(right):+.2f}"
    assert float(found["low"].replace("−", "-")) == pytest.approx(interval.low, abs=0.005)
    assert float(found["high"].replace("−", "-")) == pytest.approx(interval.high, abs=0.005)
    assert found["verdict"] == "undecided"


@pytest.mark.parametrize(
    ("a", "b", "verdict"),
    [([0.95, 0.951, 0.949], [0.9, 0.901, 0.899], "higher"), ([0.9, 0.901], [0.95, 0.951], "lower"),
     ([0.95], [0.9], "single"), ([0.95, 0.90], [0.9, 0.95], "undecided")],
)  # fmt: skip
def test_verdicts(a, b, verdict):
    groups = groups_of(arcface=a, softmax=b)
    assert facts.paired(groups["arcface"], groups["softmax"], facts.MEASURES["accuracy"])["verdict"] == verdict


@pytest.mark.parametrize("change", [{"epochs": 10}, {"fingerprint": "other"}, {"batch_size": 64}])
def test_runs_that_differ_in_more_than_the_loss_are_not_compared(change):
    a, b = {0: run("arcface", **change)}, {0: run("softmax")}
    assert facts.paired(a, b, facts.MEASURES["accuracy"]) is None


def test_nsl_is_compared_at_the_same_scale_only():
    groups = groups_of(arcface=[0.95, 0.95], norm_softmax=[0.9, 0.9])
    for members in groups["norm-softmax"].values():
        members["scale"] = 4.0
    measure = facts.MEASURES["accuracy"]
    assert facts.differences(groups, [], measure)["arcface"]["norm-softmax"] is None
    control = {seed: run("norm-softmax", seed, 0.8) for seed in range(2)}  # at 16, as ArcFace
    assert facts.differences(groups, [control], measure)["arcface"]["norm-softmax"]["mean"] == "+15.00"


def test_only_a_best_that_beats_every_other_is_bold():
    measure = facts.MEASURES["accuracy"]
    clear = groups_of(arcface=[0.95, 0.951, 0.952], softmax=[0.9, 0.9, 0.9], cosface=[0.91, 0.911, 0.91])
    assert facts.best_loss(clear, measure) == "arcface"
    close = groups_of(arcface=[0.95, 0.951, 0.952], softmax=[0.9, 0.9, 0.9], cosface=[0.951, 0.95, 0.952])
    assert facts.best_loss(close, measure) is None
    assert facts.best_loss(clear, facts.MEASURES["w_ec"]) is None
    assert facts.best_loss({"arcface": clear["arcface"]}, measure) is None


def test_runs_of_other_settings_are_set_aside_and_named():
    runs = [facts.Run("mnist", "arcface", 512, i, "", "", run(seed=i, epochs=7 + (i == 0))) for i in range(3)]
    assert list(facts.group(runs, dim=512)["arcface"]) == [1, 2]
    assert facts.set_aside(runs) == ["mnist-arcface-512d-seed0"]
    other_scale = [facts.Run("mnist", "adacos", 512, i, "", "", run("adacos", i, scale=3.0 + i)) for i in range(2)]
    assert list(facts.group(other_scale, dim=512)["adacos"]) == [0, 1]  # AdaCos finds its own


def test_stored_runs_are_told_apart_by_name(tmp_path):
    def store(name: str, **changes) -> None:
        (tmp_path / f"{name}.json").write_text(json.dumps(run(**changes)))

    store("mnist-li-arcface-512d-seed0", loss="li-arcface")
    store("mnist-arcface-512d-seed0-scale=4-margin=0.5")
    store("mnist-arcface-512d-seed1-without-7-8", hold_out=["7", "8"], unseen_classes=["7", "8"], seed=1)
    store("mnist-softmax-512d-seed2", loss="softmax", seed=2, failed="ended near chance")
    store("mnist-cosface-512d-seed0-scale=64", loss="cosface", failed="ended near chance", part="sensitivity")
    (tmp_path / "mnist-arcface-512d-seed9.json").write_text('{"failed": "diverged"}')
    found, failed = facts.stored_runs(tmp_path)
    assert {(r.loss, r.extra, r.held_out) for r in found} == {
        ("li-arcface", "", ""), ("arcface", "scale=4-margin=0.5", ""), ("arcface", "", "7, 8"), ("softmax", "", ""),
        ("cosface", "scale=64", ""),
    }  # fmt: skip
    assert failed == ["mnist-arcface-512d-seed9", "mnist-softmax-512d-seed2"]


def test_the_embedded_sample_stands_in_for_mnist_and_says_so(tmp_path):
    metrics = run() | {"dataset": "mnist-5k"}
    (tmp_path / "mnist-5k-arcface-512d-seed0.json").write_text(json.dumps(metrics))
    found = content.content(tmp_path)
    assert found["overview"]["mnist"]["mean"] == "99.00"
    assert "5k" in found["sources"]["mnist"]["title"]


def test_the_whole_content_of_a_full_study(tmp_path):
    for seed in range(3):
        for loss in LOSSES:
            facts_of = run(loss, seed, 0.99 + 0.001 * (loss == "arcface") + 0.0001 * seed)
            (tmp_path / f"mnist-{loss}-512d-seed{seed}.json").write_text(json.dumps(facts_of))
            held = facts_of | {"hold_out": ["7"], "unseen_classes": ["7"]}
            (tmp_path / f"mnist-{loss}-512d-seed{seed}-without-7.json").write_text(json.dumps(held))
    found = content.content(tmp_path)
    rows = found["main"]["mnist"]["accuracy"]["rows"]
    assert [row["n"] for row in rows] == [3] * len(LOSSES)
    assert [row["loss"] for row in rows if row["cells"][0]["best"]] == ["arcface"]
    verdicts = found["main"]["mnist"]["verdicts"]
    assert verdicts["higher"] == ["ArcFace"] and verdicts["tested"] == 5
    assert found["open"][0]["classes"] == "7" and found["open"][0]["measured"] == len(LOSSES)
    assert {row["key"]: row["found"]["mnist"]["verdict"] for row in found["claims"]}["accuracy"] == "yes"


def test_an_empty_study_still_typesets(tree):
    for path in (tree / "report" / "results").glob("*.json"):
        path.unlink()
    first_page = text_of(build.compile_report(tree, build.author_of(tree)), FIRST)
    assert "Abstract." in first_page and "±" not in first_page


@pytest.mark.parametrize(("value", "digits", "signed", "shown"), [
    (-0.004, 2, True, "0.00"), (0.005001, 2, True, "+0.01"), (-1.5, 1, False, "−1.5"), (99.6, 2, False, "99.60"),
])  # fmt: skip
def test_numbers_as_text(value, digits, signed, shown):
    assert facts.number(value, digits, signed) == shown


def test_a_claim_against_its_direction_is_a_disagreement():
    groups = groups_of(arcface=[0.9, 0.901, 0.9], norm_softmax=[0.95, 0.95, 0.951])
    assert claims.claim(groups, "arcface", "norm-softmax", "accuracy", "higher")["verdict"] == "no"
    assert claims.claim(groups, "arcface", "norm-softmax", "accuracy", "lower")["verdict"] == "yes"
    assert claims.claim(groups, "arcface", "cosface", "accuracy", "higher")["verdict"] == "unmeasured"


# Theory


def test_the_worked_example():
    a, b = np.array([5.0, 2.0]), np.array([7.0, 4.0])
    angle = np.degrees(np.arccos(a @ b / np.linalg.norm(a) / np.linalg.norm(b)))
    example = theory.worked_example()
    assert example["angle"] == example["grown_angle"] == f"{angle:.2f}"
    assert example["distance"] == f"{np.linalg.norm(a - b):.2f}"
    assert example["grown_distance"] == f"{np.linalg.norm(a - 1.5 * b):.2f}"


@pytest.mark.parametrize("loss", theory.PULL_LOSSES)
@pytest.mark.parametrize("degrees", [1, 30, 90, 150])
def test_the_pull_is_the_formulas(loss, degrees):
    m1, m2, _ = LOSSES[loss].margins
    expected = m1 * abs(math.sin(m1 * math.radians(degrees) + m2))
    assert theory.pull(LOSSES[loss].margins, degrees) == pytest.approx(expected, rel=1e-6)


def test_no_sample_on_the_circle_meets_the_margins_called_empty():
    """By brute force over samples and uneven weights: no arrangement of ten satisfies every class."""
    rng = np.random.default_rng(0)
    samples = np.radians(np.arange(0, 360, 0.5))
    assert theory.papers_margins_on_circle()["empty"] == ["cosface", "cm1", "cm2"]
    for spread in (0.0, 0.02, 0.1, 1.0):
        weights = np.arange(10) * 2 * np.pi / 10 + spread * rng.uniform(-1, 1, 10)
        cosines = np.cos(samples[:, None] - weights)
        angles = np.arccos(np.clip(cosines, -1, 1))
        for m1, m2, m3 in ((1, 0, 0.35), (1, 0.3, 0.2), (0.9, 0.4, 0.15)):
            target = np.where(m1 * angles + m2 <= np.pi, np.cos(m1 * angles + m2) - m3, -3)
            met = [(target[:, y] > np.delete(cosines, y, axis=1).max(axis=1)).any() for y in range(10)]
            assert not all(met)


def test_the_usual_fallbacks_jump_as_stated():
    m, step = 0.5, 1e-9
    at = math.pi - m
    fallback = math.cos(at) - m * math.sin(m)
    assert theory.numerics()["jump"] == f"{math.cos(at - step + m) - fallback:.3f}"
    assert theory.numerics()["easy_jump"] == f"{math.cos(math.pi / 2) - math.cos(math.pi / 2 + m):.3f}"


def test_shrinking_keeps_pages_text_and_colours():
    small = shrink(build.PDF.read_bytes())
    before, after = PdfReader(build.PDF), PdfReader(io.BytesIO(small))
    assert [p.extract_text() for p in after.pages] == [p.extract_text() for p in before.pages]
    images = [image for page in after.pages for image in page.images]
    assert images and all(len(i.image.convert("RGB").getcolors(1 << 24)) <= COLOURS for i in images)
    assert all(isinstance(i.image, Image.Image) and i.image.width > 400 for i in images)
