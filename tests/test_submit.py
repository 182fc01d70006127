"""submit.py: the zip's name, its contents against the tree, and that nothing half-written is left behind."""

import io
import json
import shutil
import subprocess
import zipfile
from pathlib import Path

import pytest

import submit
from command_helpers import assert_refused, content_and_times
from runs import RunError

ROOT = Path(__file__).resolve().parents[1]
JANE = ("--last-name", "doe", "--first-name", "jane", "--id", "0123456")


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A small tree that can be submitted, with what must not be; the report is typeset as a few bytes."""
    root = tmp_path / "project"
    for name in (*submit.NEEDED, "report/build.py", "tests/test_a.py", "figures/one.png", "report/results/a.npz"):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"# x = 1\n")
    (root / "report" / "report.typ").write_text('#pic("one")[A caption.]')
    (root / "report" / "author.json").write_text(
        json.dumps({"first_name": "", "last_name": "", "id": "", "course": ""})
    )
    for name in ("data/a.py", "runs/r/checkpoint.pt", "__pycache__/a.pyc", "figures/.one.png.partial", "old.zip"):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    monkeypatch.setattr(submit, "ROOT", root)
    monkeypatch.setattr(submit, "compile_report", lambda root, author: json.dumps(author).encode())
    return root


def run(command, folder, *flags):
    return command(submit.main, *(flags or JANE), "--output-dir", folder)


def test_the_zip_has_the_assignments_name_and_the_trees_bytes(project, command, tmp_path):
    done = run(command, tmp_path)
    assert done.status == 0, done.err
    with zipfile.ZipFile(tmp_path / "doe_jane_0123456_Project1.zip") as archive:
        packed = {name: archive.read(name) for name in archive.namelist()}
    assert set(packed) == {
        *submit.NEEDED, "report/build.py", "tests/test_a.py", "figures/one.png", "report/results/a.npz",
        "report/author.json", "report/report.pdf",
    }  # fmt: skip
    assert all(content == (project / name).read_bytes() for name, content in packed.items())
    author = json.loads(packed["report/report.pdf"])
    assert (author["first_name"], author["last_name"], author["id"]) == ("jane", "doe", "0123456")
    assert json.loads(packed["report/author.json"]) == author
    for item in "abc":
        assert f"[x] {item}." in done.out


def test_the_same_tree_gives_the_same_bytes(project, command, tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    for folder in (first, second):
        folder.mkdir()
        assert run(command, folder).status == 0
        (project / "train.py").touch()
    assert next(first.iterdir()).read_bytes() == next(second.iterdir()).read_bytes()


@pytest.mark.parametrize("name", ["README.md", "train.py", "report/report.typ", "figures/one.png"])
def test_a_missing_file_is_named_and_nothing_is_left(project, command, tmp_path, name):
    (project / name).unlink()
    out = tmp_path / "out"
    out.mkdir()
    done = run(command, out)
    if name == "report/report.typ":  # the text names the figures; without it there is nothing to typeset
        assert "report/report.typ" in done.err
    assert done.status == 2 and Path(name).name in done.err and "Traceback" not in done.err
    assert len(done.err.splitlines()) == 1
    assert not any(out.iterdir())


def test_missing_figures_are_left_out_where_that_is_asked_for(project, command, tmp_path):
    (project / "figures" / "one.png").unlink()
    done = run(command, tmp_path, *JANE, "--incomplete")
    assert done.status == 0, done.err
    (packed,) = tmp_path.glob("*.zip")
    assert "figures/one.png" not in zipfile.ZipFile(packed).namelist()


def test_check_finds_a_file_that_differs_from_the_tree(project):
    names = ["README.md", "train.py"]
    content = submit.pack({name: (project / name).read_bytes() for name in names})
    submit.check(content, project, names, {})
    (project / "train.py").write_text("other = 1\n")
    with pytest.raises(RunError, match=r"train\.py changed"):
        submit.check(content, project, names, {})
    with pytest.raises(RunError, match=r"README\.md changed"):
        submit.check(content, project, names, {"README.md": b"newer"})
    with pytest.raises(RunError, match="does not hold"):
        submit.check(content, project, ["README.md"], {})


def does_not_compile(root, author):
    raise RunError("report.typ does not compile")


REFUSALS = {  # what is said: how to bring it about in a project
    "losses.py is not valid": lambda root, patch: (root / "losses.py").write_text("def (:\n"),
    "README.md is missing": lambda root, patch: (root / "README.md").unlink(),
    "one.png": lambda root, patch: (root / "figures" / "one.png").unlink(),
    "more than 100": lambda root, patch: patch.setattr(submit, "LARGEST", 100),
    "no folder": lambda root, patch: (root.parent / "out").rmdir(),
    "author.json is damaged": lambda root, patch: (root / "report" / "author.json").write_text("{"),
    "does not compile": lambda root, patch: patch.setattr(submit, "compile_report", does_not_compile),
}


@pytest.mark.parametrize("reason", REFUSALS)
def test_a_refused_submission_changes_nothing(project, command, tmp_path, monkeypatch, reason):
    out = tmp_path / "out"
    out.mkdir()
    assert run(command, out).status == 0
    next(out.iterdir()).unlink()
    REFUSALS[reason](project, monkeypatch)
    before = content_and_times(tmp_path)
    done = run(command, out, "--last-name", "roe", "--first-name", "jane", "--id", "1")
    assert_refused(done, reason)
    assert content_and_times(tmp_path) == before


def test_a_report_that_is_not_there_yet_is_typeset(project, command, tmp_path):
    assert not (project / submit.PDF).exists() and run(command, tmp_path).status == 0
    assert json.loads((project / submit.PDF).read_bytes())["last_name"] == "doe"
    assert json.loads((project / submit.AUTHOR).read_bytes())["last_name"] == "doe"


@pytest.mark.parametrize(
    ("last", "first", "number"),
    [("", "jane", "1"), ("doe/..", "jane", "1"), ("doe", "ja_ne", "1"), ("doe", "jane", "1 2"), ("doe", "jane", "")],
)
def test_a_name_that_is_none_is_refused(project, command, tmp_path, last, first, number):
    out = tmp_path / "out"
    out.mkdir()
    done = run(command, out, f"--last-name={last}", f"--first-name={first}", f"--id={number}")
    assert done.status == 2 and len(done.err.splitlines()) == 1
    assert not any(out.iterdir())


def test_names_as_people_have_them():
    assert submit.file_name("doe", "jane", "0123456") == "doe_jane_0123456_Project1.zip"
    assert submit.file_name("van der Berg", "Zoë-Anne", "a1") == "van-der-Berg_Zoë-Anne_a1_Project1.zip"


@pytest.mark.parametrize(
    ("typed", "in_the_file"),
    [("St. John", "St-John"), ("Martin Jr.", "Martin-Jr"), ("\u0939\u093f\u0928\u094d\u0926\u0940",) * 2,
     ("\u0e2a\u0e21\u0e0a\u0e32\u0e22 \u0e43\u0e08", "\u0e2a\u0e21\u0e0a\u0e32\u0e22-\u0e43\u0e08")],
)  # fmt: skip
def test_names_of_other_scripts_and_with_full_stops(typed, in_the_file):
    assert submit.file_name(typed, "jane", "1") == f"{in_the_file}_jane_1_Project1.zip"


@pytest.mark.parametrize("name", [".", "a..", "a. .b", "..", "\u0301a", "a  b", "a.b", "a1", "-a"])
def test_no_name_leads_elsewhere_or_is_empty(name):
    with pytest.raises(RunError, match="--last-name"):
        submit.file_name(name, "jane", "1")


def test_where_the_zip_cannot_be_written_the_tree_stays_as_it_is(project, command, tmp_path, monkeypatch):
    before = content_and_times(project)
    name = ("--last-name", "a" * 250, "--first-name", "jane", "--id", "1")
    with monkeypatch.context() as patch:
        patch.setattr(submit, "LONGEST", 300)
        assert_refused(run(command, tmp_path, *name), "cannot write")
    assert content_and_times(project) == before
    assert_refused(run(command, tmp_path, *name), "--last-name", "180 bytes", "shorten")


def test_letters_and_accents_of_their_own_are_put_together(project, command, tmp_path):
    done = run(command, tmp_path, "--last-name", "Mu\u0308ller", "--first-name", "Zoe\u0308", "--id", "1")
    assert done.status == 0, done.err
    assert (tmp_path / "M\u00fcller_Zo\u00eb_1_Project1.zip").exists()
    author = json.loads((project / submit.AUTHOR).read_bytes())
    assert (author["last_name"], author["first_name"]) == ("M\u00fcller", "Zo\u00eb")


def test_the_flags_are_required(project, command, tmp_path):
    done = run(command, tmp_path, "--last-name", "doe")
    assert done.status == 2 and "--first-name" in done.err


def test_every_python_file_and_figure_of_the_repository_is_in_the_zip():
    if not (ROOT / ".git").exists() or not shutil.which("git"):
        pytest.skip("not a git checkout")
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split(
        "\n"
    )
    wanted = {
        name for name in listed if name.endswith((".py", ".png", ".typ", ".npz", ".bib")) and (ROOT / name).exists()
    }
    packed = {name for names in submit.chosen_files(ROOT).values() for name in names}
    assert wanted <= packed
    content = submit.pack({name: (ROOT / name).read_bytes() for name in sorted(packed)})
    assert len(content) < submit.LARGEST
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        assert archive.testzip() is None
