"""Files that are no run's: what is wrong with one is said with a remedy that is its own."""

from pathlib import Path

import pytest

import benchmark
from command_helpers import assert_refused
from plot_data import Study
from results_helpers import facts_of
from runs import RunError, read_json, write_json


def test_the_kind_of_trouble_is_told_with_the_remedy(tmp_path, monkeypatch):
    path = tmp_path / "a.json"
    for text, reason in (('{"a" 1}', "delimiter"), ("[1]", "no JSON object"), ('{"a": NaN}', "nan")):
        path.write_text(text)
        with pytest.raises(RunError, match=f"a.json is damaged .*{reason}.*: mend it$"):
            read_json(path, "mend it")
        with pytest.raises(RunError, match=r"a.json is damaged .*: train that run again with --overwrite$"):
            read_json(path)
    with pytest.raises(RunError, match=r"b.json is missing: mend it$"):
        read_json(tmp_path / "b.json", "mend it")
    for missing in (tmp_path / "metrics.json", path / "metrics.json"):  # the second: a file for the run's folder
        with pytest.raises(RunError, match=f"metrics.json is missing: is {missing.parent} a run folder"):
            read_json(missing)

    def denied(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_text", denied)
    with pytest.raises(RunError, match=r"^cannot read .*a.json \(Permission denied\): mend that, or mend it$"):
        read_json(path, "mend it")


def test_the_mark_that_windows_editors_put_first_is_no_damage(tmp_path):
    (tmp_path / "a.json").write_text('{"a": "ë"}', encoding="utf-8-sig")
    assert read_json(tmp_path / "a.json") == {"a": "ë"}


def test_a_stored_result_is_not_mended_by_training_a_run_folder(tmp_path):
    facts = facts_of()
    del facts["verification"]
    write_json(tmp_path / "mnist-arcface-2d-seed0.json", facts)
    with pytest.raises(RunError, match=r"lacks figures or is damaged: delete it and run experiments.py again$"):
        Study(tmp_path)


@pytest.mark.parametrize("name", ["damaged.json", "folder", "none/benchmark.json"])
def test_a_benchmark_that_could_not_be_stored_is_not_begun(command, tmp_path, monkeypatch, name):
    (tmp_path / "folder").mkdir()
    (tmp_path / "damaged.json").write_text("{")
    monkeypatch.setattr(benchmark, "in_child", lambda *_: pytest.fail("began to measure"))
    assert_refused(command(benchmark.main, "head", "--store", tmp_path / name), tmp_path / name, "choose another")
