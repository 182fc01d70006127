"""The run folder: what a run leaves on disk, written whole or not at all, and read back without trusting it."""

import contextlib
import csv
import io
import json
import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

CHECKPOINT_FORMAT = 1
# What a run folder holds, in the order in which starting anew deletes it; anything else in there is the user's.
RUN_FILES = ("metrics.json", "curves.json", "embeddings.npz", "checkpoint.pt", "history.csv")


class RunError(Exception):
    """A user's problem with a run: str() is one line that names the bad value and the remedy."""


def write_whole(path: Path, content: bytes) -> None:
    """Write beside `path`, then rename into place, so that a crash leaves the old file or the new one.

    Raises RunError, naming the file and the reason, when it cannot be written; nothing is left behind then.
    """
    partial = path.with_name(f".{path.name}.partial")
    try:
        with open(partial, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except OSError as error:
        with contextlib.suppress(OSError):  # gone, or out of reach for the same reason
            partial.unlink()
        raise RunError(f"cannot write {path}: {error.strerror}; free space or choose another folder") from None


def write_json(path: Path, values: dict) -> None:
    """Write `values` as indented JSON (NaN is not JSON: ValueError)."""
    write_whole(path, (json.dumps(values, indent=1, allow_nan=False) + "\n").encode())


def read_json(path: Path) -> dict:
    """Read a JSON object; RunError when it is missing, damaged or something else."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RunError(f"{path} is missing: is {path.parent} a run folder of train.py?") from None
    except (OSError, ValueError, RecursionError):
        raise RunError(f"{path} is not readable as JSON: train that run again with --overwrite") from None
    if not isinstance(values, dict):
        raise RunError(f"{path} holds no JSON object: train that run again with --overwrite")
    return values


def find_run(folder: Path, settings: dict, resume: bool, overwrite: bool) -> str:
    """What lies at `folder`: 'new' (nothing, or something to overwrite), 'unfinished' (to resume) or 'finished'.

    RunError, naming the way out, for a run of other settings, an unfinished one without `resume`, a folder that is no
    run, and for `resume` where there is no run.
    """
    ways = "use --overwrite to start it anew or --name to keep both"
    try:
        empty = not folder.exists() or (folder.is_dir() and all(p.name.startswith(".") for p in folder.iterdir()))
    except OSError as error:
        raise RunError(f"cannot look into {folder}: {error.strerror}; choose another --output-dir") from None
    if empty:
        if resume:
            raise RunError(f"no run to resume at {folder}: leave --resume out")
        return "new"
    record: dict = {}
    with contextlib.suppress(RunError):
        record = read_json(folder / "config.json")
    stored = record.get("settings")
    if not isinstance(stored, dict) or "fingerprint" not in record:
        raise RunError(f"{folder} exists and is not a run folder: choose another --name")
    if overwrite:
        return "new"
    differing = [key for key in settings if stored.get(key) != settings[key]]
    changed = [f"{key} was {stored.get(key)}, now {settings[key]}" for key in differing]
    if changed:
        raise RunError(f"{folder} holds a run of other settings ({'; '.join(changed)}): {ways}")
    if (folder / "metrics.json").exists():
        return "finished"
    if not resume:
        raise RunError(f"{folder} holds an unfinished run: use --resume to go on, --overwrite to start anew or --name")
    return "unfinished"


def finished_runs(output_dir: Path) -> list[Path]:
    """All finished run folders in `output_dir`, sorted; RunError when there is none."""
    found = sorted(path.parent for path in output_dir.glob("*/metrics.json"))
    if not found:
        raise RunError(f"no finished run in {output_dir}: train one with train.py or name its folder")
    return found


def start_folder(folder: Path, record: dict) -> None:
    """Make the run folder anew with its config.json; RunError when it cannot be written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name in RUN_FILES:
            (folder / name).unlink(missing_ok=True)
    except OSError as error:
        raise RunError(f"cannot make {folder}: {error.strerror}; choose another --output-dir") from None
    write_json(folder / "config.json", record)


def write_history(path: Path, rows: list[dict]) -> None:
    """Write one CSV row an epoch."""
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_whole(path, text.getvalue().encode())


def write_arrays(path: Path, **arrays: Any) -> None:
    """Write numpy arrays as one npz file."""
    import numpy as np

    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    write_whole(path, buffer.getvalue())


def read_arrays(path: Path) -> dict:
    """Read an npz file of write_arrays, never unpickling; RunError when it is missing or damaged."""
    import numpy as np

    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except FileNotFoundError:
        raise RunError(f"{path} is missing: finish that run with train.py --resume") from None
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, AttributeError, MemoryError):
        raise RunError(f"{path} is damaged: train that run again with --overwrite") from None


def save_checkpoint(path: Path, content: dict) -> None:
    """Save tensors and plain values in PyTorch's format."""
    import torch

    buffer = io.BytesIO()
    torch.save({"format": CHECKPOINT_FORMAT, **content}, buffer)
    write_whole(path, buffer.getvalue())


def load_checkpoint(path: Path, device: Any = "cpu") -> dict:
    """Load a checkpoint of save_checkpoint; its pickle may hold tensors and plain values only, never code.

    Raises RunError when it is missing, truncated, not a checkpoint or of another format.
    """
    import torch

    try:
        content = torch.load(path, map_location=device, weights_only=True)
    except FileNotFoundError:
        raise RunError(f"{path} is missing: train that run again with --overwrite") from None
    except (RuntimeError, OSError, EOFError, ValueError, KeyError, pickle.UnpicklingError, AttributeError, TypeError):
        raise RunError(f"{path} is truncated, or not a checkpoint: train that run again with --overwrite") from None
    if not isinstance(content, dict) or content.get("format") != CHECKPOINT_FORMAT:
        raise RunError(f"{path} is not a checkpoint of this program: train that run again with --overwrite")
    return content
