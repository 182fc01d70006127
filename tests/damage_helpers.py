"""What the test_broken_*.py do to some eight hundred files: each ends in one clear line or in the right result.

Never in a traceback, a hang, memory taken on a forged size, code run, or something half done. Files are cut at the
boundaries between their parts; bits are flipped at places that only the seed decides.
"""

import io
import zipfile

import numpy as np
import torch
from PIL import Image

from command_helpers import assert_refused, content

FLIPS = 30


def spread(places, count: int, index: int):
    """The index-th of `count` places spread evenly over a list."""
    return places[index * len(places) // count]


def flip(raw: bytes, index: int) -> bytes:
    """The bytes with one bit turned: at the front, where headers are, for every third index, else anywhere."""
    random = np.random.default_rng(index)
    place = int(random.integers(min(len(raw), 120) if index % 3 == 0 else len(raw)))
    return raw[:place] + bytes([raw[place] ^ 1 << int(random.integers(8))]) + raw[place + 1 :]


def boundaries(raw: bytes) -> list[int]:
    """Where the parts of a zip archive begin and end: of each entry its header, its data and the next one's header."""
    with zipfile.ZipFile(io.BytesIO(raw)) as archive:
        parts = archive.infolist()
        central = archive.start_dir
    starts = [part.header_offset for part in parts]
    starts += [part.header_offset + 30 + len(part.filename) for part in parts]
    return sorted({*starts, *(start + 4 for start in starts), central, central + 46, len(raw) - 22, len(raw) - 1})


def repacked(raw: bytes, change, compression=zipfile.ZIP_STORED) -> bytes:
    """The archive with every entry's bytes replaced by change(name, bytes)."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(raw)) as old, zipfile.ZipFile(out, "w", compression) as new:
        for name in old.namelist():
            new.writestr(name, change(name, old.read(name)))
    return out.getvalue()


def saved(state) -> bytes:
    buffer = io.BytesIO()
    torch.save(state, buffer)
    return buffer.getvalue()


def png(size=(16, 16)) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


GOOD_PNG = png()


def refused_or_same(go, run, good, *named):
    """go() refuses in one line and changes nothing, or prints what the undamaged files would have given."""
    before = content(run)
    done = go()
    if done.status == 0:
        assert done.out == good and done.err == ""
    else:
        assert_refused(done, *named)
        assert content(run) == before
