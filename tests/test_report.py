"""The report: its numbers against the stored results, its figures, excerpts and references, and its bytes."""

import io
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pypdf import PdfReader
from scipy.stats import ttest_rel

from losses import LOSSES
from report import build, facts
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
def both_pdfs() -> tuple[bytes, bytes]:
    """The report as it is typeset now: before it is shrunk, and as it is."""
    large = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(build, "shrink", lambda pdf: large.append(pdf) or shrink(pdf))
        small = build.compile_report(ROOT, build.author_of(ROOT))
    return large[0], small


@pytest.fixture(scope="module")
def pdf(both_pdfs) -> bytes:
    return both_pdfs[1]


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


TIE = 1e-9  # added before rounding: a tie goes up, as on paper


def stored(name: str) -> list[dict]:
    """Metrics of the stored runs NAME-seedN, read without the report's code."""
    paths = sorted((REPORT / "results").glob(f"{name}-seed*.json"))
    return [json.loads(p.read_text()) for p in paths if re.fullmatch(re.escape(name) + r"-seed\d+", p.stem)]


# The text against the stored results


def test_the_committed_report_is_what_the_stored_results_give(pdf, text):
    committed = (REPORT / "report.pdf").read_bytes()
    # By their text where the bytes differ: another machine may round the place of a glyph differently.
    assert committed == pdf or text_of(committed) == text, "report.pdf is out of date: python report/build.py"


def test_no_deliverable_reaches_two_megabytes():
    files = [REPORT / "report.pdf", *(ROOT / "figures").iterdir(), *(REPORT / "results").iterdir()]
    assert len(files) > 100 and [path.name for path in files if path.stat().st_size >= 2_000_000] == []


@pytest.mark.parametrize("dataset", facts.DATASETS)
@pytest.mark.parametrize("loss", LOSSES)
def test_the_main_tables_hold_the_stored_means(text, dataset, loss):
    members = stored(f"{dataset}-{loss}-512d")
    if not members:
        pytest.skip("not stored")
    accuracies = [100 * m["test_correct"] / m["test_images"] for m in members]
    spread = f" ± {np.std(accuracies, ddof=1):.2f}" if len(members) > 1 else ""
    row = rf"{re.escape(LOSSES[loss].title)} (– |[^–]{{3,40}}?){len(members)} {np.mean(accuracies) + TIE:.2f}{spread}"
    assert re.search(row, text), row


def minus_plain(name: str, suffix: str, *keys: str) -> str:
    """'−0.26 [−0.30, −0.21]': a loss's paired difference to normalised softmax, by SciPy."""
    found = []
    for loss in (name, "norm-softmax"):
        runs = {
            p: json.loads(p.read_text()) for p in (REPORT / "results").glob(f"mnist-{loss}-512d-seed?{suffix}.json")
        }
        values = {m["seed"]: m for m in runs.values()}
        for key in keys:
            values = {seed: m[key] for seed, m in values.items()}
        found.append([100 * values[seed] for seed in sorted(values)])
    interval = ttest_rel(*found).confidence_interval(0.95)
    mean = np.mean(found[0]) - np.mean(found[1])
    return f"{mean:+.2f} [{interval.low:+.2f}, {interval.high:+.2f}]".replace("-", "−")


@pytest.mark.parametrize("loss", ["sphereface", "cosface", "arcface", "combined", "li-arcface"])
def test_the_intervals_behind_the_claims_are_in_the_tables(text, loss):
    """Where a loss is called better or worse than normalised softmax, its difference stands in a table."""
    row = [minus_plain(loss, "", "verification", "eer")]
    for split in ("2-4-6", "7-8-9"):
        for keys in (("verification", "eer"), ("retrieval", "rank_1")):
            row.append(minus_plain(loss, f"-without-{split}", *keys))
    for difference in row:
        assert difference in text


def test_the_plane_s_runs_over_seeds_are_in_a_table(text):
    for loss, margin in (("cosface", 0.1), ("cosface", 0.35), ("cosface", 0.7), ("arcface", 0.5), ("arcface", 1.2)):
        name = f"mnist-{loss}-2d-seed?-scale=16-margin={margin}-margin-warmup=0.0-epochs=2.json"
        runs = [json.loads(p.read_text()) for p in sorted((REPORT / "results").glob(name))]
        lost = [sum(share < 0.5 for share in m["per_class_accuracy"]) for m in runs]
        room = "yes" if margin <= 0.1 or (loss, margin) == ("arcface", 0.5) else "no"
        accuracies = ", ".join(f"{100 * m['accuracy']['head']['value'] + TIE:.1f}" for m in runs)
        title = LOSSES[loss].title
        assert len(runs) == 3 and f"{title} {margin} {room} {accuracies} {', '.join(map(str, lost))}" in text


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


def test_every_figure_of_the_text_is_there(tmp_path):
    assert build.missing_figures(ROOT) == []
    (tmp_path / "report").mkdir()
    (tmp_path / "report" / "one.typ").write_text('#pic("no_such_figure")[It.]')
    assert build.missing_figures(tmp_path) == ["no_such_figure"]


def test_every_drawn_figure_is_shown_or_left_out_by_name():
    own = ("runs_", "embedding_")  # figures of a user's own runs, which git ignores
    drawn = {path.stem for path in (ROOT / "figures").glob("*.png") if not path.stem.startswith(own)}
    shown = set(build.figures_named(REPORT))
    assert drawn == shown | (drawn & build.LEFT_OUT.keys())
    assert not shown & build.LEFT_OUT.keys()


def test_a_missing_figure_is_reported_and_left_out(tree):
    assert build.missing_figures(tree) == []
    for path in (tree / "figures").glob("*.png"):
        path.unlink()
    assert set(build.missing_figures(tree)) == set(build.figures_named(REPORT)) > {"terminal_warning", "scales"}
    assert build.compile_report(tree, build.author_of(tree))


def test_a_caption_kept_beside_the_plotting_code_is_the_one_shown(tree):
    entry = {"file": "embeddings_3d_mnist.png", "caption": "Spheres, described."}
    (tree / "figures" / "captions.json").write_text(json.dumps({"embeddings_3d_mnist": entry}))
    pages = PdfReader(io.BytesIO(build.compile_report(tree, build.author_of(tree)))).pages
    assert any("Spheres, described." in page.extract_text() for page in reversed(pages))  # it is in the second half


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


def test_the_authors_name_is_on_the_report(tree):
    author = build.author_of(tree, first_name="Zoë", last_name="Doe-Roe", id="0123456")
    named = build.compile_report(tree, author)
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


def test_an_empty_study_still_typesets(tree):
    for path in (tree / "report" / "results").glob("*.json"):
        path.unlink()
    first_page = text_of(build.compile_report(tree, build.author_of(tree)), FIRST)
    assert "Abstract." in first_page and "±" not in first_page


def test_shrinking_keeps_pages_text_and_pictures(both_pdfs):
    large, small = both_pdfs
    assert len(small) < len(large) / 2
    before, after = (PdfReader(io.BytesIO(pdf)) for pdf in both_pdfs)
    assert len(after.pages) == len(before.pages)
    assert [p.extract_text() for p in after.pages[::3]] == [p.extract_text() for p in before.pages[::3]]
    pictures = [[i.image.convert("RGB") for p in pdf.pages[::2] for i in p.images] for pdf in (before, after)]
    assert len(pictures[0]) > 5
    for was, now in zip(*pictures, strict=True):
        assert now.width > 400 and now.getcolors(COLOURS)
        assert np.abs(np.asarray(now, int) - np.asarray(was, int)).mean() < 2  # of 255 shades
