"""What flags mean in every command: places, and the device and precision of a machine that this one may not be."""

import argparse
import contextlib
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import benchmark
import devices
import evaluate
import experiments
import options
import plot_embeddings
import submit
import train
from command_helpers import assert_refused
from report import screenshots
from runs import RunError

ROOT = Path(__file__).resolve().parent.parent

# ------------------------------------------------------------------------------------- places


@pytest.mark.parametrize(
    ("parse", "words", "names"),
    [
        (options.parse_flags, ["--dataset", "mnist", "--loss", "arcface"], ["data-dir", "output-dir"]),
        (evaluate.main, [], ["data-dir", "output-dir", "figures-dir"]),
        (experiments.main, [], ["data-dir", "output-dir", "results-dir"]),
        (plot_embeddings.main, [], ["data-dir", "output-dir", "figures-dir"]),
        (submit.main, ["--last-name=doe", "--first-name=jane", "--id=1"], ["output-dir"]),
        (benchmark.main, [], ["data-dir", "store"]),
        (screenshots.main, [], ["figures-dir"]),
    ],
)
def test_home_is_written_out_in_every_flag_that_names_a_place(command, monkeypatch, tmp_path, parse, words, names):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    found, real = {}, argparse.ArgumentParser.parse_args

    def parsed(self, *arguments):
        found.update(vars(real(self, *arguments)))
        raise SystemExit(0)  # what is done with them is another matter

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", parsed)
    assert command(parse, *words, *(f"--{name}=~/{name}" for name in names)).status == 0
    assert {name: found[name.replace("-", "_")] for name in names} == {name: tmp_path / name for name in names}


# ------------------------------------------------------------------------------------- what is loaded for it

COMMANDS = ("train", "evaluate", "plot_embeddings", "experiments", "benchmark", "submit", "report.build")
LOADED = """import sys, {0}
for word in ("--help", "--no-such-flag"):
    sys.argv[1:] = [word]
    try: {0}.main()
    except SystemExit: print(*sorted(sys.modules))"""


def in_a_process(code, *words):
    return subprocess.run([sys.executable, "-c", code, *words], cwd=ROOT, capture_output=True, text=True)


@pytest.mark.parametrize("name", COMMANDS)
def test_help_and_a_refusal_do_not_wait_for_pytorch(name):
    done = in_a_process(LOADED.format(name))
    assert "usage: " in done.stdout and done.stderr.count("error: ") == 1
    loaded = done.stdout.splitlines()[-1].split()
    assert "argparse" in loaded and not {"torch", "torchvision", "matplotlib", "sklearn", "typst"} & set(loaded)


def test_a_margin_that_cannot_be_is_refused_before_pytorch_is_loaded():
    code = "import sys, train\nstatus = train.main()\nprint('torch' in sys.modules)\nsys.exit(status)"
    done = in_a_process(code, "--dataset", "mnist", "--loss", "arcface", "--margin", "4")
    assert done.returncode == 2 and done.stdout == "False\n" and "m2 = 4" in done.stderr


@pytest.mark.parametrize("name", ["gpu", "cuda:", "cuda:x", "CPU", ""])
def test_what_is_no_device_is_refused_by_every_command_that_takes_one(command, name):
    for main, words in ((evaluate.main, []), (train.main, ["--dataset", "mnist", "--loss", "arcface"])):
        assert_refused(command(main, *words, f"--device={name}"), f"unknown device '{name}'", "cuda:N")


def test_ctrl_c_while_pytorch_is_loaded_is_no_traceback():
    code = """import sys, train
class Interrupt:
    def find_spec(self, name, *_):
        if name == "torch": raise KeyboardInterrupt
sys.meta_path.insert(0, Interrupt())
sys.exit(train.main())"""
    done = in_a_process(code, "--dataset", "mnist", "--loss", "arcface")
    assert done.returncode == 130 and "stopped" in done.stderr and "Traceback" not in done.stderr


# ------------------------------------------------------------------------------------- devices


@pytest.fixture
def cards(monkeypatch):
    """cards(capability, ...): a machine with such CUDA GPUs and a PyTorch built for 7.5 and newer, or `built` for."""

    def have(*capabilities, built=("sm_75", "sm_90a", "sm_120", "compute_120")):
        for name, answer in {
            "is_available": lambda: bool(capabilities), "device_count": lambda: len(capabilities),
            "get_device_capability": lambda index: capabilities[index], "get_arch_list": lambda: list(built),
            "get_device_name": lambda index: f"Card {index}",
        }.items():  # fmt: skip
            monkeypatch.setattr(torch.cuda, name, answer)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)

    return have


@pytest.mark.parametrize(
    ("capabilities", "chosen"),
    [([], "cpu"), ([(6, 1)], "cpu"), ([(7, 5)], "cuda:0"), ([(6, 1), (12, 0)], "cuda:1"), ([(9, 0), (6, 1)], "cuda:0")],
)
def test_a_gpu_that_is_too_old_for_this_pytorch_is_not_chosen(cards, capabilities, chosen):
    cards(*capabilities)
    assert devices.pick_device("auto") == chosen


@pytest.mark.parametrize(
    ("own", "built", "chosen"),
    [((12, 0), ("sm_75", "sm_90"), "cpu"), ((12, 0), ("sm_75", "compute_90"), "cuda:0"), ((8, 6), ("sm_80",), "cuda:0"),
     ((8, 0), ("sm_86",), "cpu")],
)  # fmt: skip
def test_code_runs_on_its_own_generation_and_ptx_on_newer_ones(cards, own, built, chosen):
    cards(own, built=built)
    assert devices.pick_device("auto") == chosen


def test_a_gpu_that_is_too_old_and_asked_for_is_named(cards):
    cards((9, 0), (6, 1))
    assert devices.pick_device("cuda") == devices.pick_device("cuda:0") == devices.pick_device("cuda:00") == "cuda:0"
    with pytest.raises(RunError, match=r"^--device cuda:01: .* no code for Card 1; use --device auto or cpu$"):
        devices.pick_device("cuda:01")


def test_a_pytorch_that_does_not_tell_what_it_was_built_for_is_tried(cards):
    for built in ((), ("gfx90a", "gfx1100")):  # AMD's
        cards((6, 1), built=built)
        assert devices.pick_device("auto") == devices.pick_device("cuda") == "cuda:0"


@pytest.mark.parametrize(("device", "precision"), [("cuda:0", "fp32"), ("cuda:1", "bf16"), ("auto", "fp32")])
def test_the_precision_is_that_of_the_chosen_gpu(cards, monkeypatch, device, precision):
    cards((7, 5), (9, 0))
    current = [0]

    @contextlib.contextmanager
    def on(device):
        current.append(int(device.removeprefix("cuda:")))
        yield
        current.pop()

    monkeypatch.setattr(torch.cuda, "device", on)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: current[-1] == 1)
    assert devices.pick_precision("auto", device) == precision
    assert devices.pick_precision("bf16", device) == "bf16"


def test_an_empty_place_is_no_place():
    with pytest.raises(argparse.ArgumentTypeError, match="it is empty: name a folder"):
        options.place("")
