"""report/build.py where something is wrong with what it needs besides results: one line, with the remedy."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from command_helpers import assert_refused
from report import build
from runs import RunError, write_json

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def tree(tmp_path, monkeypatch):
    """Stands in for the repository: an author without a name."""
    (tmp_path / "report" / "results").mkdir(parents=True)
    (tmp_path / "figures").mkdir()
    (tmp_path / "report" / "author.json").write_text(json.dumps(build.NOBODY))
    monkeypatch.setattr(build, "ROOT", tmp_path)
    return tmp_path


@pytest.mark.parametrize("text", ['{"first_name": "jane",}', "[]", None])
def test_an_author_that_cannot_be_read_is_to_be_written_anew(tree, command, text):
    path = tree / "report" / "author.json"
    path.unlink() if text is None else path.write_text(text)
    assert_refused(command(build.main), "author.json", '{"first_name": "", "last_name": ""')


@pytest.mark.parametrize("text", ['{"a": 1}', '{"a": {}}', '{"a": null}', '{"a": {"caption": 1}}', "{"])
def test_captions_that_cannot_be_read_are_to_be_drawn_anew(tree, text):
    (tree / "figures" / "captions.json").write_text(text)
    with pytest.raises(RunError, match=r"captions.json is damaged .*: delete it and run plot_embeddings.py$"):
        build.captions(tree)


@pytest.mark.parametrize("package", ["typst", "pikepdf"])
def test_a_missing_package_of_the_report_is_named(package):
    code = f"import sys; sys.modules[{package!r}] = None; from report.build import main; sys.exit(main())"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert f"the package {package} is missing: pip install" in done.stderr


@pytest.mark.parametrize(("text", "name"), [('{"first_name": 3}', "first_name"), ('{"course": null}', "course")])
def test_an_author_that_is_no_text_is_named(tree, command, text, name):
    (tree / "report" / "author.json").write_text(text)
    assert_refused(command(build.main), "author.json", f"{name} is no text")


def test_what_an_author_leaves_out_is_left_empty(tree):
    (tree / "report" / "author.json").write_text('{"id": "7"}')
    assert build.author_of(tree, first_name="jane") == build.NOBODY | {"id": "7", "first_name": "jane"}


@pytest.mark.parametrize("change", [{"batch_size": None}, {"widths": 3}, {"torch": None}, {"classes": 4}])
def test_a_result_that_the_report_cannot_use_is_one_line(tree, change):
    from results_helpers import facts_of

    facts = facts_of(dim=512, parameters=5, torch="2", train_images=60_000) | change
    write_json(tree / "report" / "results" / "mnist-arcface-512d-seed0.json", facts)
    with pytest.raises(RunError, match=r"damaged.*: delete it and run experiments.py again$"):
        build.inputs(tree, build.NOBODY)
