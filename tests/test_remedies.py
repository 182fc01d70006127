"""Files that are no run's: what is wrong with one is said with a remedy that is its own."""

from pathlib import Path

import pytest

import benchmark
import plot_embeddings
import plot_theory
import study
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


@pytest.mark.parametrize("name", ["fingerprint", "classes", "batch_size", "seed"])
def test_what_a_stored_result_lacks_is_named_with_its_file(tmp_path, name):
    for failed in ({}, {"failed": "diverged"}):
        facts = facts_of() | failed
        del facts[name]
        write_json(tmp_path / "mnist-arcface-2d-seed0.json", facts)
        with pytest.raises(RunError, match=f"mnist-arcface-2d-seed0.json lacks {name}: delete it and run exp"):
            Study(tmp_path)


def test_arrays_of_a_stored_result_are_not_mended_by_training_a_run_folder(tmp_path):
    write_json(tmp_path / "mnist-arcface-2d-seed0.json", facts_of())
    (tmp_path / "mnist-arcface-2d-seed0.npz").write_bytes(b"PK")
    stored = Study(tmp_path)
    with pytest.raises(RunError, match=r"seed0.npz is damaged: delete it and run experiments.py again$"):
        stored.arrays(stored.runs[0])


def test_a_figure_whose_results_are_damaged_costs_no_other(tmp_path):
    def damaged():
        raise KeyError("confusion")

    theory = {"one": damaged, "worked_example": plot_theory.worked_example}
    lines = plot_embeddings.draw(theory, tmp_path, "png")
    assert next(lines).endswith("worked_example.png")
    with pytest.raises(RunError, match=r"^one: a result behind it is damaged \(KeyError\('confusion'\)\): delete it"):
        next(lines)


@pytest.mark.parametrize("change", [{"device": None}, {"epochs": 0}, {"train_seconds": "x"}, {"dataset": 3}])
def test_a_damaged_result_tells_nothing_of_how_long_a_run_takes(change):
    good = facts_of(dim=512, device="cpu, 1 thread", train_seconds=50.0, epochs=5, widths=[32, 64, 128])
    run = study.Run("main", "mnist", "arcface")
    assert study.seconds(run, [good | change, good]) == study.seconds(run, [good]) == 8 * 10 + study.SECONDS_BESIDE
