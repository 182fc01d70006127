"""The run folder: what a run leaves on disk, written whole or not at all, and read back without trusting it."""

import contextlib
import csv
import errno
import glob
import io
import json
import math
import os
import platform
import secrets
import stat
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from errors import UserError, lacks_memory

# What a run folder holds, in the order in which starting anew deletes it; anything else in there is the user's.
RUN_FILES = ("metrics.json", "curves.json", "embeddings.npz", "checkpoint.pt", "history.csv", "failed.json")
SNAPSHOTS = "snapshots"  # the folder in it with what snapshots.py keeps
DRAWABLE = 3  # dimensions up to which those hold the embeddings themselves
LARGEST_JSON, LARGEST_ARCHIVE = 1 << 30, 8 << 30  # bytes; nothing this program writes comes near them
OLD = 24 * 3600  # seconds: no file takes as long to write
AGAIN = "train that run again with --overwrite"  # the remedy for a damaged run
STORE_ANEW = "delete it and run experiments.py again"  # the remedy for a damaged result of the study
# What using the values of a damaged or forged file can raise.
BAD_CONTENT = (LookupError, ValueError, TypeError, AttributeError, ArithmeticError)


class RunError(UserError):
    """A user's problem with a run."""


class Diverged(RunError):
    """Training came to numbers of no use: the run cannot be resumed."""


def write_whole(path: Path, content: bytes | Callable[[BinaryIO], object]) -> None:
    """Write beside `path`, then rename into place, so that a crash leaves the old file or the new one.

    content: the bytes, or what writes them into a file that it is given.
    Two processes that write one file at once do so beside each other; the later one's stays. Raises RunError, naming
    the file and the reason, when it cannot be written; nothing is left behind then.
    """
    partial = path.with_name(f".{path.name}.{_machine()}-{os.getpid()}-{secrets.token_hex(4)}.partial")
    try:
        for left in path.parent.glob(f".{glob.escape(path.name)}.*.partial"):
            with contextlib.suppress(FileNotFoundError):  # finished meanwhile
                if _abandoned(left):
                    left.unlink()
        with open(partial, "xb") as file:  # x: were there a link of that name, writing would follow it
            content(file) if callable(content) else file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except BaseException as error:  # Ctrl-C, too, leaves nothing behind
        with contextlib.suppress(OSError):  # gone, or out of reach for the same reason
            partial.unlink()
        if not isinstance(error, OSError):
            raise
        raise RunError(f"cannot write {path}: {error.strerror}; free space or choose another folder") from None


def _machine() -> str:
    """This machine in eight letters: process numbers mean nothing beyond it, and folders may be shared."""
    return f"{zlib.crc32(platform.node().encode()):08x}"


def _abandoned(partial: Path) -> bool:
    """Whether the process that `write_whole` named a file after is gone; of another machine's, whether it is old."""
    machine, pid, *_ = [*partial.suffixes[-2][1:].split("-"), ""]
    if machine == _machine() and pid.isdecimal() and os.name == "posix":
        try:
            os.kill(int(pid), 0)  # asks only whether it is there
        except OSError as error:
            return error.errno == errno.ESRCH
        if int(pid) != os.getpid():
            return False
    return time.time() - partial.lstat().st_mtime > OLD


def json_bytes(values: dict) -> bytes:
    """`values` as indented JSON (NaN is not JSON: ValueError)."""
    return (json.dumps(values, indent=1, allow_nan=False) + "\n").encode()


def write_json(path: Path, values: dict) -> None:
    """Write `values` as `json_bytes` has them."""
    write_whole(path, json_bytes(values))


def read_json(path: Path, remedy: str = AGAIN) -> dict:
    """Read a JSON object of finite numbers and printable text.

    RunError when it is missing, damaged or something else, with the reason and `remedy`: a run's unless one is given.
    """
    try:
        _check_file(path, LARGEST_JSON)
        values = json.loads(path.read_text(encoding="utf-8-sig"))  # Windows' editors put a mark first
        check_json(values)
        if not isinstance(values, dict):
            raise ValueError("it holds no JSON object")
    except (FileNotFoundError, NotADirectoryError):
        raise RunError(f"{path} is missing: {_way_to(path) if remedy == AGAIN else remedy}") from None
    except OSError as error:
        raise RunError(f"cannot read {path} ({error.strerror}): mend that, or {remedy}") from None
    except (ValueError, RecursionError) as error:
        raise RunError(f"{path} is damaged ({error}): {remedy}") from None
    return values


def _way_to(path: Path) -> str:
    """What to do about a file that is missing from a run folder."""
    if (path.parent / "failed.json").exists():
        return "that run failed, see failed.json there; train it again with other settings and --overwrite"
    if (path.parent / "config.json").exists():
        return "that run is not finished; repeat its train.py command with --resume"
    return f"is {path.parent} a run folder of train.py?"


def _check_file(path: Path, largest: int) -> None:
    """OSError unless `path` is a plain file (reading a pipe would block for ever) of at most so many bytes."""
    found = path.stat()
    if not stat.S_ISREG(found.st_mode) or found.st_size > largest:
        raise OSError(errno.EINVAL, "not a plain file, or too large", str(path))


def check_json(value: Any) -> None:
    """ValueError for a number that is not finite or text that a terminal cannot show, anywhere in `value`."""
    if isinstance(value, dict):
        value = [*value, *value.values()]
    if isinstance(value, list):
        for entry in value:
            check_json(entry)
    elif isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{value} is no JSON number")
    elif isinstance(value, str) and not value.isprintable():
        raise ValueError(f"{value[:40]!r} is not printable")


def check_archive(path: Path) -> None:
    """Check an npz file or a checkpoint before reading it; np.savez and torch.save make zip files, uncompressed.

    Raises ValueError where parts are compressed or overlap, so that a small file could take any amount of memory, and
    where a checksum is wrong: PyTorch by itself loads flipped bits as weights. OSError and what zipfile raises besides.
    """
    _check_file(path, LARGEST_ARCHIVE)
    with zipfile.ZipFile(path) as archive:
        parts = archive.infolist()
        stored = all(part.compress_type == zipfile.ZIP_STORED for part in parts)
        if not stored or sum(part.file_size for part in parts) > path.stat().st_size:
            raise ValueError("its parts are larger than the file")
        if archive.testzip() is not None:
            raise ValueError("a checksum is wrong")


def make_folder(folder: Path, flag: str) -> None:
    """Make a folder that is not there yet; RunError, naming the flag to change, where that cannot be."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"cannot make {folder}: {error.strerror}; choose another {flag}") from None
    check_writable(folder, f"choose another {flag}")


def check_place(folder: Path, flag: str) -> None:
    """RunError, naming the flag to change, where a folder that may not be there yet could not be made or written into:
    better said before the work than after it. Makes nothing."""
    at = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    if not at.is_dir():
        raise RunError(f"cannot use {folder}: {at} is no folder; choose another {flag}")
    check_writable(at, f"choose another {flag}")


def check_writable(folder: Path, remedy: str) -> None:
    """RunError where nothing can be written into an existing folder: better said before the work than after it."""
    if not os.access(folder, os.W_OK | os.X_OK):
        raise RunError(f"cannot write into {folder}: Permission denied; {remedy}")


@contextlib.contextmanager
def sole_use(folder: Path) -> Iterator[None]:
    """Make a run folder and keep other processes from training in it meanwhile.

    The lock ends with the process, however that ends. RunError when another holds it or the folder cannot be made.
    """
    make_folder(folder, "--output-dir")
    try:
        import fcntl
    except ImportError:  # Windows has no such lock
        yield
        return
    place = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(place, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(place)
        raise RunError(f"another process is at work in {folder}: wait for it or choose another --name") from None
    except OSError:
        pass  # a file system without locks
    try:
        yield
    finally:
        os.close(place)


def find_run(folder: Path, wanted: dict, resume: bool, overwrite: bool) -> str:
    """What lies at `folder`: 'new' (nothing, or something to overwrite), 'unfinished' (to resume) or 'finished'.

    wanted: the record that the run's config.json would hold. RunError, naming the way out, for a run of other settings
    or on other data, a failed one, an unfinished one without `resume`, a folder that is no run, and for `resume` where
    there is no folder (a run killed at its start leaves an empty one).
    """
    anew = "use --overwrite to start it anew or --name to keep both"
    try:
        empty = not folder.exists() or (folder.is_dir() and all(p.name.startswith(".") for p in folder.iterdir()))
    except OSError as error:
        raise RunError(f"cannot look into {folder}: {error.strerror}; choose another --output-dir or --name") from None
    if empty:
        if resume and not folder.exists():
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
    settings = wanted["settings"]
    differing = [key for key in settings if stored.get(key) != settings[key]]
    changed = [f"{key} was {stored.get(key)}, now {settings[key]}" for key in differing]
    if changed:
        raise RunError(f"{folder} holds a run of other settings ({'; '.join(changed)}): give those again, {anew}")
    if record["fingerprint"] != wanted["fingerprint"]:
        raise RunError(f"{folder} holds a run on other data ({record.get('source')}): put them back, {anew}")
    if record.get("classes") != wanted["classes"]:
        pairs = zip(record.get("classes") or [], wanted["classes"], strict=False)
        renamed = ", ".join(f"{old} is now {new}" for old, new in pairs if new != old) or "there none are named"
        raise RunError(f"{folder} holds a run on other classes ({renamed}): name them as they were, {anew}")
    if (folder / "metrics.json").exists():
        return "finished"
    if (folder / "failed.json").exists():
        reason = read_json(folder / "failed.json").get("error")
        raise RunError(f"{folder} holds a failed run ({reason}): use --overwrite with other settings, or --name")
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
    make_folder(folder, "--output-dir")
    try:
        for name in RUN_FILES:
            (folder / name).unlink(missing_ok=True)
    except OSError as error:
        raise RunError(f"cannot empty {folder}: {error.strerror}; choose another --output-dir") from None
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


def read_arrays(path: Path, remedy: str = AGAIN) -> dict:
    """Read an npz file of numbers, never unpickling; RunError, with `remedy`, a run's unless one is given, when it is
    missing, damaged or holds something else."""
    import numpy as np

    try:
        check_archive(path)
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
        if any(array.dtype.kind not in "fiu" for array in arrays.values()):
            raise ValueError("not numbers")
        return arrays
    except Exception as error:  # damaged files bring up nearly every exception there is
        raise unread(path, error, remedy) from None


def unread(path: Path, error: Exception, remedy: str, damage: str = "is damaged") -> RunError:
    """Why a file of a run could not be read; what this machine lacks is not the file's fault."""
    if isinstance(error, FileNotFoundError):
        return RunError(f"{path} is missing: {remedy}")
    if lacks_memory(error):
        return RunError(f"cannot read {path}, out of memory: close other programs, or read it where there is more")
    if isinstance(error, PermissionError):
        return RunError(f"cannot read {path} ({error.strerror}): mend that, or {remedy}")
    return RunError(f"{path} {damage}: {remedy}")
