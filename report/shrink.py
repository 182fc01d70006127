"""Make the report's pictures small: a PDF's RGB images become ones of few colours, stored as PNG stores them.

The typesetter unpacks each PNG and packs it again without PNG's row filters, which makes it up to three times as large.
"""

import io
import struct

from PIL import Image
from pypdf import PdfReader, PdfWriter
from pypdf.generic import (
    ArrayObject,
    ByteStringObject,
    DictionaryObject,
    NameObject,
    NullObject,
    NumberObject,
    StreamObject,
)

COLOURS = 64


def shrink(pdf: bytes) -> bytes:
    """The same pages with smaller pictures; the same bytes for the same PDF."""
    writer = PdfWriter(clone_from=PdfReader(io.BytesIO(pdf)))
    for number in range(1, len(writer._objects) + 1):
        stream = writer.get_object(number)
        if isinstance(stream, StreamObject) and is_plain_rgb(stream):
            in_few_colours(stream)
    writer.compress_identical_objects(remove_unreferenced=True)  # the masks of opaque pictures
    out = io.BytesIO()
    writer.write(out)
    return out.getvalue()


def is_plain_rgb(stream: StreamObject) -> bool:
    """Whether a PDF object is a picture of 8-bit RGB samples that is opaque all over."""
    if stream.get("/Subtype") != "/Image" or stream.get("/Filter") != "/FlateDecode":
        return False
    mask = stream.get("/SMask", NullObject()).get_object()
    if isinstance(mask, StreamObject) and mask.get_data().strip(b"\xff"):
        return False
    width, height = size_of(stream)
    return len(stream.get_data()) == 3 * width * height


def size_of(stream: StreamObject) -> tuple[int, int]:
    """Width and height of a picture, in pixels."""
    return int(str(stream["/Width"])), int(str(stream["/Height"]))


def in_few_colours(stream: StreamObject) -> None:
    """Replace a picture's samples by indices into a palette, packed as PNG packs them."""
    size = size_of(stream)
    picture = Image.frombytes("RGB", size, stream.get_data()).quantize(
        COLOURS, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE
    )
    # The octree averages colours, and paper must stay white.
    palette = bytes(255 if value > 251 else value for value in picture.getpalette() or ())
    stream._data = png_samples(picture)
    stream.pop("/SMask", None)
    stream[NameObject("/ColorSpace")] = ArrayObject(
        [
            NameObject("/Indexed"),
            NameObject("/DeviceRGB"),
            NumberObject(len(palette) // 3 - 1),
            ByteStringObject(palette),
        ]
    )
    stream[NameObject("/BitsPerComponent")] = NumberObject(8)
    parameters = {"/Predictor": 15, "/Colors": 1, "/BitsPerComponent": 8, "/Columns": size[0]}
    stream[NameObject("/DecodeParms")] = DictionaryObject(
        {NameObject(name): NumberObject(value) for name, value in parameters.items()}
    )


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
