"""train.py's flags: what they accept, and how they and the recipes make up a run's settings."""

import argparse
import math
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

from choices import (
    DATASETS,
    DEEPEST,
    FOLDER_SIZE,
    LARGEST_IMAGE,
    LOSSES,
    NATIVE_SIZE,
    PRESETS,
    SMALLEST_IMAGE,
    Margins,
    checked_head,
)
from devices import device, pick_precision
from errors import one_line
from recipes import SCHEDULES, Settings, batch_for, recipe
from runs import RunError


class Parser(argparse.ArgumentParser):
    """argparse whose complaint is a single line on standard error, with exit status 2."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {one_line(message)}\n")


def number(kind: type, low: float, high: float, *, above: bool = False) -> Callable[[str], float]:
    """An argparse type: a finite number from `low` (or, with `above`, more than it) to `high`."""

    def parse(text: str) -> float:
        try:
            value = kind(text)
        except ValueError:
            value = math.nan
        if not (low < value if above else low <= value) or not value <= high or not math.isfinite(value):
            what = "a whole number" if kind is int else "a number"
            span = f"above {low:g}" if above else f"of at least {low:g}"
            top = f" and at most {high:,}" if math.isfinite(high) else ""
            raise argparse.ArgumentTypeError(f"'{text}' is not {what} {span}{top}")
        return value

    return parse


positive = number(float, 0, math.inf, above=True)
count = number(int, 1, 1_000_000)


def choice(kind: str, valid: tuple[str, ...]) -> Callable[[str], str]:
    """An argparse type: one of `valid`, named in the complaint."""

    def parse(text: str) -> str:
        if text not in valid:
            raise argparse.ArgumentTypeError(f"unknown {kind} '{text}': choose from {', '.join(valid)}")
        return text

    return parse


def widths(text: str) -> tuple[int, ...]:
    """An argparse type: the channels of the network's three blocks, as '64,256,256'."""
    channels = tuple(int(part) for part in text.split(",") if re.fullmatch("[0-9]{1,4}", part))
    if len(channels) != 3 or text.count(",") != 2 or min(channels) < 1:
        raise argparse.ArgumentTypeError(f"'{text}' is not three channel counts from 1 to 9999, such as 64,256,256")
    return channels


def place(text: str) -> Path:
    """An argparse type: a path, also of a file, with ~ written out: shells leave that of --data-dir=~/data as it is."""
    if not text:
        raise argparse.ArgumentTypeError("it is empty: name a folder or a file ('.' for this folder)")
    try:
        return Path(text).expanduser()
    except RuntimeError:
        raise argparse.ArgumentTypeError(f"'{text}': no such user; write the path out") from None


def run_name(text: str) -> str:
    """An argparse type: a plain folder name, which cannot lead out of --output-dir."""
    if not re.fullmatch(r"[\w][\w.,+=-]{0,99}", text):
        raise argparse.ArgumentTypeError(f"'{text}' is not a plain folder name (letters, digits, and . , _ + = -)")
    return text


def parse_flags(arguments: list[str] | None = None) -> argparse.Namespace:
    """Parse train.py's command line; exits with status 2 and one line for a bad value."""
    parser = Parser(prog="train.py", description="Train a small CNN with an angular-margin head.")
    add = parser.add_argument
    add("--dataset", type=choice("data set", DATASETS), required=True, help=", ".join(DATASETS))
    add("--loss", type=choice("loss", tuple(LOSSES)), required=True, help=", ".join(LOSSES))
    add("--embedding-dim", type=number(int, 1, 8192), default=512, metavar="D", help="default 512; 2 and 3 draw well")
    add("--epochs", type=count, metavar="N")
    add("--batch-size", type=number(int, 2, 1_000_000), metavar="N")
    add("--lr", type=number(float, 0, 1e30, above=True), help="peak learning rate of Muon; Adam's follows it")
    add("--scale", type=number(float, 1e-3, 1e6), help="s, the radius of the hypersphere")
    add("--margin", metavar="M", help="the loss's own margin: m1 of sphereface, m2 (radians) of arcface and "
        "li-arcface, m3 of cosface; for combined a preset, cm1 or cm2")  # fmt: skip
    add("--m1", type=positive, help="factor on the target angle")
    add("--m2", type=number(float, 0, math.inf), help="added to the target angle, in radians")
    add("--m3", type=number(float, 0, math.inf), help="taken from the target cosine")
    add("--widths", type=widths, metavar="A,B,C", help="channels of the network's three blocks, such as 32,64,128")
    add("--depth", type=number(int, 2, DEEPEST), metavar="N", help="convolutions in each block; residual from three on")
    add("--momentum", type=number(float, 0, 0.999), metavar="M", help="Muon's and Adam's")
    add("--averaging", type=number(float, 0, 0.9999), metavar="D",
        help="decay, a step, of the running mean of the weights that is the trained network; 0: the last")  # fmt: skip
    add("--margin-warmup", type=number(float, 0, 1), metavar="PART", help="part of training in which the margin grows")
    add("--schedule", type=choice("schedule", tuple(SCHEDULES)), default="linear", metavar="NAME",
        help=f"how the learning rate goes on after its rise: {', '.join(SCHEDULES)} (default: linear)")  # fmt: skip
    add("--seed", type=number(int, 0, 2**31), default=0)
    add("--device", type=device, default="auto", help="auto, cpu, cuda, cuda:N or mps (default: the best there is)")
    add("--precision", type=choice("precision", ("auto", "bf16", "fp32")), default="auto", help="auto, bf16 or fp32")
    add("--data-dir", type=place, default="data", help="where the data lie or go (default: data)")
    add(
        "--image-size",
        type=number(int, SMALLEST_IMAGE, LARGEST_IMAGE),
        metavar="PIXELS",
        help="for --dataset folder (default 32)",
    )
    add("--hold-out", nargs="+", action="extend", default=[], metavar="CLASS",
        help="classes never trained on: verified and retrieved")  # fmt: skip
    add("--validation", type=number(float, 0, 0.5), default=0.0, metavar="PART",
        help="test on this part of the training set instead, for choosing settings")  # fmt: skip
    add("--output-dir", type=place, default="runs", help="folder of run folders (default: runs)")
    add("--name", type=run_name, help="run folder's name (default: DATASET-LOSS-DIMd-seedN and -without-CLASSES)")
    add("--resume", action="store_true", help="go on with the unfinished run of that name")
    add("--overwrite", action="store_true", help="start the run of that name anew")
    add("--snapshots", action="store_true", help="keep angles of 2,000 images, in 2-D and 3-D places, each epoch")
    add("--no-progress", action="store_true", help="no progress bars, one plain line an epoch")
    flags = parser.parse_args(arguments)
    if flags.resume and flags.overwrite:
        parser.error("--resume and --overwrite exclude each other: choose one")
    return flags


def own_margins(loss: str, text: str) -> dict[str, float]:
    """What --margin means for `loss`: {'m1' | 'm2' | 'm3': value}. RunError for text that is no margin of it."""
    own = LOSSES[loss].own_margin
    if own is None:
        raise RunError(f"--margin {text}: {loss} has no margin; leave it out or choose another --loss")
    if own == "preset":
        if text.lower() not in PRESETS:
            raise RunError(f"--margin {text}: combined takes {' or '.join(PRESETS)} here, or --m1, --m2 and --m3")
        return PRESETS[text.lower()]._asdict()
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise RunError(f"--margin {text}: not a finite number")
    return {own: value}


def values_of(flags: argparse.Namespace, data_name: str, num_classes: int, images: int = 1_000_000) -> dict:
    """Flags over recipe: the settings that a recipe has, of a run on so many training images.

    RunError, one line, for values the loss cannot take.
    """
    values = recipe(data_name, flags.loss, flags.embedding_dim, num_classes)
    values["batch_size"] = batch_for(values["batch_size"], images)
    if flags.margin is not None:
        own = own_margins(flags.loss, flags.margin)
        if twice := [name for name in own if getattr(flags, name) is not None]:
            raise RunError(
                f"--margin {flags.margin} and --{twice[0]} {getattr(flags, twice[0]):g} set the same: give one"
            )
        values |= own
    names = ("epochs", "batch_size", "lr", "scale", "m1", "m2", "m3", "margin_warmup", "widths", "depth",
             "momentum", "averaging")  # fmt: skip
    given = {name: getattr(flags, name) for name in names if getattr(flags, name) is not None}
    values |= given
    margins = Margins(values["m1"], values["m2"], values["m3"])
    if flags.loss == "softmax" and margins != Margins():  # refused below too, but with a remedy for other losses
        raise RunError("softmax takes no margin: leave --m1, --m2 and --m3 out or choose another --loss")
    try:
        checked_head(flags.loss, num_classes, values["scale"], margins)
    except ValueError as error:
        raise RunError(str(error)) from None
    return values


def resolve(
    flags: argparse.Namespace, data_name: str, num_classes: int, held_out: Sequence[str] = (), images: int = 1_000_000
) -> Settings:
    """Flags over recipe: the full settings of a run on so many training images. RunError as in `values_of`."""
    values = values_of(flags, data_name, num_classes, images)
    # The usual size is no setting of its own: with and without the flag it is one run.
    image_size = None if flags.image_size == NATIVE_SIZE.get(flags.dataset, FOLDER_SIZE) else flags.image_size
    return Settings(
        dataset=data_name, loss=flags.loss, embedding_dim=flags.embedding_dim, seed=flags.seed,
        hold_out=tuple(held_out), image_size=image_size, validation=flags.validation,
        precision=pick_precision(flags.precision, flags.device), schedule=flags.schedule, **values,
    )  # fmt: skip
