"""Make the report's PDF small: pictures of few colours, stored as PNG stores them, and packed objects.

The typesetter unpacks each PNG and packs it again without PNG's row filters, which makes it up to three times as large.
"""

import io
import struct
from typing import Any

from PIL import Image

COLOURS = 64


def shrink(pdf: bytes) -> bytes:
    """The same pages in fewer bytes; the same bytes for the same PDF."""
    from pikepdf import ObjectStreamMode, Pdf, Stream

    out = io.BytesIO()
    with Pdf.open(io.BytesIO(pdf)) as document:
        for thing in document.objects:
            if isinstance(thing, Stream) and is_plain_rgb(thing):
                in_few_colours(thing)
        # What nothing refers to any more, such as the masks of opaque pictures, is not written.
        document.save(out, object_stream_mode=ObjectStreamMode.generate, deterministic_id=True)
    return out.getvalue()


def is_plain_rgb(stream: Any) -> bool:
    """Whether a PDF stream (pikepdf's) is a picture of 8-bit RGB samples that is opaque all over."""
    from pikepdf import Name

    if stream.get("/Subtype") != Name.Image or stream.get("/Filter") != Name.FlateDecode:
        return False
    if "/SMask" in stream and stream.SMask.read_bytes().strip(b"\xff"):
        return False
    return len(stream.read_bytes()) == 3 * int(stream.Width) * int(stream.Height)


def in_few_colours(stream: Any) -> None:
    """Replace the samples of a picture (pikepdf's stream) by indices into a palette, packed as PNG packs them."""
    from pikepdf import Array, Dictionary, Name, String

    size = int(stream.Width), int(stream.Height)
    picture = Image.frombytes("RGB", size, stream.read_bytes()).quantize(
        COLOURS, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE
    )
    # The octree averages colours, and paper must stay white.
    palette = bytes(255 if value > 251 else value for value in picture.getpalette() or ())
    parameters = Dictionary(Predictor=15, Colors=1, BitsPerComponent=8, Columns=size[0])
    stream.write(png_samples(picture), filter=Name.FlateDecode, decode_parms=parameters)
    stream.ColorSpace = Array([Name.Indexed, Name.DeviceRGB, len(palette) // 3 - 1, String(palette)])
    stream.BitsPerComponent = 8
    if "/SMask" in stream:
        del stream["/SMask"]


def png_samples(picture: Image.Image) -> bytes:
    """The packed samples (the IDAT chunks) of a palette picture saved as PNG, 8 bits a pixel."""
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", optimize=True, bits=8)
    data, at, parts = buffer.getvalue(), 8, []
    while at < len(data):
        length, kind = struct.unpack(">I4s", data[at : at + 8])
        if kind == b"IDAT":
            parts.append(data[at + 8 : at + 8 + length])
        at += 12 + length  # length, kind and checksum take 12 bytes
    return b"".join(parts)
