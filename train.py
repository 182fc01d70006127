"""Train one CNN with one head on one data set: python train.py --dataset mnist --loss arcface

Leaves a run folder with config.json, history.csv, checkpoint.pt, metrics.json and embeddings.npz. Every setting left
out comes from recipes.py; how a step is made, from trainer.py.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import devices
import options
from bounds import feasibility_warnings
from checkpoints import load_checkpoint, save_checkpoint
from errors import command_line, lacks_memory
from recipes import Settings, recipe, remedies
from runs import (
    SNAPSHOTS,
    Diverged,
    RunError,
    find_run,
    read_json,
    sole_use,
    start_folder,
    write_arrays,
    write_history,
    write_json,
)
from summaries import training_line

if TYPE_CHECKING:  # PyTorch takes seconds to load: the functions that need it do so, once the flags are read
    from torch import Tensor

    from data import Dataset
    from snapshots import Recorder
    from trainer import Trainer


def finish(trainer: Trainer, dataset: Dataset, unseen: dict[str, Tensor], folder: Path, record: dict) -> None:
    """Embed the test set; write embeddings.npz, then metrics.json, which marks the run as finished."""
    from evaluate import head_predictions
    from metrics import near_chance

    embeddings = trainer.embed(dataset.test_images)
    trainer.check(embeddings.sum(), trainer.epoch * trainer.steps_per_epoch, what="the sum of the embeddings")
    tensors = {"embeddings": embeddings, "labels": dataset.test_labels, "weights": trainer.head.weight.detach().cpu()}
    if unseen:
        tensors |= {"unseen_embeddings": trainer.embed(unseen["images"]), "unseen_labels": unseen["labels"]}
    arrays = {name: tensor.numpy() for name, tensor in tensors.items()}
    write_arrays(folder / "embeddings.npz", **arrays)
    correct, count = int((head_predictions(arrays, trainer.settings.loss) == arrays["labels"]).sum()), len(embeddings)
    facts = {name: value for name, value in record.items() if name != "settings"}
    metrics = {
        **record["settings"], **facts, "scale": float(trainer.head.scale),
        "parameters": sum(p.numel() for m in (trainer.backbone, trainer.head) for p in m.parameters()),
        "train_images": len(dataset.train_images), "test_images": count, "train_seconds": round(trainer.seconds, 2),
        "train_accuracy": trainer.history[-1]["train_accuracy"], "test_correct": correct,
        "test_accuracy": correct / count,
    }  # fmt: skip
    write_json(folder / "metrics.json", metrics)
    if near_chance(correct / count, dataset.test_labels.bincount().numpy()):
        print(f"warning: the run ended near chance; {remedies(trainer.settings)}, or train for more epochs")


def prepare(flags: argparse.Namespace) -> tuple[Dataset, dict[str, Tensor], dict]:
    """Load what the flags name: the data set, the held-out classes' images and labels if any, and the run's record."""
    import torch

    from data import DataError, hold_out_classes, load_dataset, validation_split

    whole = load_dataset(flags.dataset, flags.data_dir, flags.image_size)
    dataset: Dataset = whole
    unseen: dict[str, Tensor] = {}
    unseen_ids: tuple[int, ...] = ()
    if flags.hold_out:
        dataset, images, labels, unseen_ids = hold_out_classes(whole, flags.hold_out)
        unseen = {"images": images, "labels": labels}
    if flags.validation:
        dataset, unseen = validation_split(dataset, flags.validation), {}
    if len(dataset.train_images) < 2:
        raise DataError(f"{len(dataset.train_images)} training images: add some, batch normalisation needs two")
    if not len(dataset.test_images):
        raise DataError("no test images are left: add some of the classes trained on, or hold out fewer classes")
    if unseen and not len(unseen["images"]):
        raise DataError(
            f"--hold-out {' '.join(flags.hold_out)}: there are no test images of these: add some to measure"
        )
    counts = dataset.train_labels.bincount(minlength=len(dataset.classes)).tolist()
    if 0 in counts:
        raise DataError(f"no training images of class '{dataset.classes[counts.index(0)]}': add some, or leave it out")
    unseen_classes = [whole.classes[i] for i in unseen_ids]
    record = {
        "settings": options.resolve(
            flags, dataset.name, len(dataset.classes), unseen_classes, len(dataset.train_images)
        ).to_json(),
        "source": dataset.source, "fingerprint": dataset.fingerprint, "classes": list(dataset.classes),
        "unseen_classes": unseen_classes,
        "image_shape": list(dataset.train_images.shape[1:]), "torch": torch.__version__,
    }  # fmt: skip
    return dataset, unseen, record


def warnings_of(settings: Settings, num_classes: int) -> list[str]:
    """What the bounds say against the user's margin and scale; the recipe's own were chosen by what they do."""
    loss, dim = settings.loss, settings.embedding_dim
    usual = recipe(settings.dataset, loss, dim, num_classes)
    expected = feasibility_warnings(loss, (usual["m1"], usual["m2"], usual["m3"]), usual["scale"], num_classes, dim)
    found = feasibility_warnings(loss, settings.margins, settings.scale, num_classes, dim)
    # In one dimension no recipe does anything.
    return [line for line in found if line not in expected or dim == 1]


def train(flags: argparse.Namespace) -> Path:
    """Train, go on training or find the run done, as the flags say; returns the run folder.

    Raises DataError and RunError for what a user can mend.
    """
    options.values_of(flags, flags.dataset, 10)  # what no data can mend, before any download; `prepare` asks again
    import torch

    from snapshots import Recorder
    from trainer import Trainer

    device = torch.device(devices.pick_device(flags.device))
    dataset, unseen, record = prepare(flags)
    settings = Settings.from_json(record["settings"])
    folder = flags.output_dir / (flags.name or settings.run_name())
    if find_run(folder, record, flags.resume, flags.overwrite) == "finished":
        check_snapshots(folder, flags.snapshots)
        print(f"{folder} is finished already; its stored result:")
        return folder
    sizes = f"{len(dataset.train_images):,} images to train on, {len(dataset.test_images):,} to test on"
    print(f"data: {dataset.source}\n      {sizes}; {devices.describe_device(device)}, {settings.precision}")
    print(f"      settings: {training_line(record['settings'])}")
    for line in warnings_of(settings, len(dataset.classes)):
        print(f"warning: {settings.loss}: {line}")
    trainer = Trainer(settings, dataset, device)
    snapshots = Recorder(folder, flags.snapshots, dataset)
    with sole_use(folder):
        # Asked again: another process may have been at it until now.
        if (state := find_run(folder, record, flags.resume, flags.overwrite)) == "finished":
            print(f"{folder} has been finished meanwhile; its stored result:")
            return folder
        if state == "unfinished":
            check_snapshots(folder, flags.snapshots)
        try:
            if state == "unfinished" and (folder / "checkpoint.pt").exists():
                stored = load_checkpoint(folder / "checkpoint.pt")
                try:
                    trainer.load_state(stored, dataset.fingerprint)
                except RunError as error:
                    raise RunError(f"{folder}: {error}") from None
                print(f"going on after epoch {trainer.epoch} of {settings.epochs}")
            else:
                start_folder(folder, record)
                snapshots.start(going_on=state == "unfinished")  # cut off before its first checkpoint
                snapshots.record(trainer)
                save_checkpoint(folder / "checkpoint.pt", trainer.state(dataset.fingerprint))
            train_epochs(trainer, dataset.fingerprint, snapshots, folder, not flags.no_progress and sys.stderr.isatty())
            finish(trainer, dataset, unseen, folder, record | {"device": " and ".join(trainer.devices)})
        except Diverged as error:
            write_json(folder / "failed.json", {"error": str(error), "epoch": trainer.epoch})
            raise
    return folder


def check_snapshots(folder: Path, wanted: bool) -> None:
    """RunError where snapshots are wanted of a run that was begun without them: its first epochs cannot be had."""
    if wanted and (folder / "checkpoint.pt").exists() and not (folder / SNAPSHOTS).is_dir():
        raise RunError(f"{folder} was begun without --snapshots: leave it out, or use --overwrite or --name")


def train_epochs(trainer: Trainer, fingerprint: str, snapshots: Recorder, folder: Path, progress_bar: bool) -> None:
    """Train to the end, with history and checkpoint written and a line printed after every epoch."""
    settings = trainer.settings
    while trainer.epoch < settings.epochs:
        row = trainer.train_epoch(progress_bar)
        write_history(folder / "history.csv", trainer.history)  # first: a run resumed at its end writes none
        snapshots.record(trainer)
        save_checkpoint(folder / "checkpoint.pt", trainer.state(fingerprint))
        print(
            f"epoch {row['epoch']:>2}/{settings.epochs}  loss {row['loss']:.4f}  train accuracy "
            f"{row['train_accuracy']:.2%}  {row['images_per_second']:,} images/s",
            flush=True,  # a long run's log is worth following
        )
    trainer.schedule(settings.epochs * trainer.steps_per_epoch)  # the end: full margin and scale


@command_line("train.py", less="lower --batch-size, --widths, --depth or --image-size")
def main() -> int:
    """The command line: returns the exit status."""
    flags = options.parse_flags()
    try:
        folder = train(flags)
    except KeyboardInterrupt:
        way = "repeat it with --resume (in place of --overwrite) to go on from the last one"
        print(f"\ntrain.py: stopped; if epochs were finished they are kept: {way}", file=sys.stderr)
        return 130
    name = shlex.quote(str(folder))
    data = f" --data-dir {shlex.quote(str(flags.data_dir))}" if str(flags.data_dir) != "data" else ""
    measuring = f"python evaluate.py {name}{data}"
    try:
        print(said_of(folder, flags), flush=True)
    except KeyboardInterrupt:
        print(f"\ntrain.py: stopped while measuring; the run is trained: {measuring}", file=sys.stderr)
        return 130
    except (MemoryError, RuntimeError) as error:
        if lacks_memory(error):
            raise RunError(f"trained, but measuring it takes more memory: close others, then {measuring}") from None
        raise
    finally:
        print(f"run folder: {folder}\nnext: {measuring}   or   python plot_embeddings.py {name}")
    return 0


def said_of(folder: Path, flags: argparse.Namespace) -> str:
    """What is said of a finished run in the end: its figures, which are measured first where they have not been."""
    if flags.validation:
        return f"validation accuracy {read_json(folder / 'metrics.json')['test_accuracy']:.2%}"
    import evaluate

    return evaluate.summary(evaluate.evaluate_run(folder, flags.data_dir, device=flags.device))


if __name__ == "__main__":
    sys.exit(main())
