"""Broken and forged JSON of a run, and things that are no plain file in the place of any of its files."""

import json
import os

import pytest
import torch

import plot_embeddings
from checkpoints import load_checkpoint
from command_helpers import assert_refused, content
from damage_helpers import FLIPS, flip, spread
from results_helpers import FIGURES, strip_figures
from runs import read_json

pytestmark = pytest.mark.usefixtures("no_hang")


@pytest.mark.parametrize("index", range(FLIPS))
def test_metrics_with_a_flipped_bit_are_refused_or_measured_alike(run, measure, index):
    path = run / "metrics.json"
    whole = read_json(path)
    strip_figures(run)
    path.write_bytes(flip(path.read_bytes(), index))
    before = content(run)
    done = measure(run)
    if done.status == 0:
        facts = read_json(path)
        assert {name: facts[name] for name in FIGURES} == {name: whole[name] for name in FIGURES}
    else:
        assert_refused(done)
        assert content(run) == before


@pytest.mark.parametrize("index", range(20))
def test_a_config_with_a_flipped_bit_is_refused_or_ends_in_the_same_weights(run, resume, index):
    path = run / "config.json"
    good = load_checkpoint(run / "checkpoint.pt")["head"]["weight"]
    path.write_bytes(flip(path.read_bytes(), index))
    (run / "metrics.json").unlink()
    before = content(run)
    done = resume()
    if done.status == 0:
        assert torch.equal(load_checkpoint(run / "checkpoint.pt")["head"]["weight"], good)
    else:
        assert_refused(done, run)
        assert content(run) == before


@pytest.mark.parametrize("part", range(12))
def test_metrics_cut_at_a_boundary(run, measure, part):
    path = run / "metrics.json"
    raw = path.read_bytes()
    ends = [i for i, letter in enumerate(raw) if letter in b'{}[],:"']
    path.write_bytes(raw[: spread(ends, 12, part)])
    assert_refused(measure(run), path)


VALUES = {"nan": "NaN", "infinity": "-Infinity", "beyond-a-float": "1e999", "400-digits": "9" * 400,
          "5000-digits": "9" * 5000, "negative": "-1", "true": "true", "null": "null", "text": '"x"', "list": "[[1]]",
          "object": '{"a": 1}', "escape": '"\\u001b[2J"', "half-a-letter": '"\\ud800"',
          "way-out": '"../../x"'}  # fmt: skip
FACTS = ("accuracy", "angles", "verification", "dataset", "test_images", "scale", "classes", "seed", "confusion")


@pytest.mark.parametrize("value", VALUES)
@pytest.mark.parametrize("name", FACTS)
def test_forged_metrics(run, measure, command, tmp_path, name, value):
    path = run / "metrics.json"
    facts = read_json(path)
    text = json.dumps({**facts, name: "PLACE"}).replace('"PLACE"', VALUES[value])
    path.write_text(text)
    before = content(tmp_path)
    for done in (measure(run), command(plot_embeddings.main, run, "--figures-dir", tmp_path / "figures")):
        if done.status:
            assert_refused(done)
        else:
            assert done.err == "" and "\x1b" not in done.out
    if not (tmp_path / "figures").exists():
        assert content(tmp_path) == before
    assert not (tmp_path.parent / "x.png").exists() and content(run) == {
        key.removeprefix("runs/run/"): raw for key, raw in before.items() if key.startswith("runs/run/")
    }


@pytest.mark.parametrize("name", ["metrics.json", "checkpoint.pt", "embeddings.npz", "config.json"])
@pytest.mark.parametrize("kind", ["pipe", "folder", "loop", "device", "sparse"])
def test_what_is_no_plain_file(run, measure, resume, picture, name, kind):
    (run / name).unlink()
    if kind == "pipe":
        os.mkfifo(run / name)
    elif kind == "folder":
        (run / name).mkdir()
    elif kind == "loop":
        (run / name).symlink_to(run / name)
    elif kind == "device":
        (run / name).symlink_to("/dev/zero")
    else:
        with open(run / name, "wb") as file:
            file.truncate(1 << 40)
    if name == "config.json":
        (run / "metrics.json").unlink()
        assert_refused(resume(), run)
    elif name == "checkpoint.pt":
        assert_refused(measure(run, "--images", picture), run)
    else:
        assert_refused(measure(run, "--again"), run)
