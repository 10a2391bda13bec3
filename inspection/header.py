"""What a picture's header says: format, size, depth, frames, orientation. No pixel is decoded, so a bomb costs nothing."""

from __future__ import annotations

import io
import struct
import zlib
from dataclasses import dataclass, replace

import numpy as np
from PIL import BmpImagePlugin, Image, ImageFile, JpegImagePlugin, PngImagePlugin, TiffImagePlugin

from inspection.evidence import ImageUnusable, NotAnImage

_PNG_CHANNELS = {0: 1, 2: 3, 3: 3, 4: 1, 6: 4}
_PLUGINS: dict[str | None, type[ImageFile.ImageFile]] = {
    "png": PngImagePlugin.PngImageFile,
    "jpeg": JpegImagePlugin.JpegImageFile,
    "bmp": BmpImagePlugin.BmpImageFile,
    "tiff": TiffImagePlugin.TiffImageFile,
}
_MODES = {
    **dict.fromkeys(("L", "LA"), (1, 8)),
    **dict.fromkeys(("P", "PA", "RGB", "RGBX", "YCbCr", "LAB"), (3, 8)),
    **dict.fromkeys(("RGBA", "CMYK"), (4, 8)),
    **dict.fromkeys(("I;16", "I;16L", "I;16B", "I;16N"), (1, 16)),
    "1": (1, 1),
}
_SOF = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}


@dataclass(frozen=True, slots=True)
class Header:
    """A picture before its pixels are touched; width and height are as stored, before rotation."""

    format: str
    width: int
    height: int
    channels: int
    """1 grey, 3 colour, 4 colour with alpha or CMYK; an alpha channel beside grey does not count."""
    bit_depth: int = 8
    orientation: int = 1
    """EXIF tag 0x0112, 1 to 8."""
    plain: bool = True
    """cv2 reads these pixels as they are; otherwise Pillow does (palettes, CMYK, fewer than 8 bits, TIFF, BMP)."""


def sniff(data: bytes) -> str | None:
    """The format by content, never by name: `png jpeg bmp tiff webp`, or `None`."""
    if data[:8] == b"\x89PNG\r\n\x1a\n":
        return "png"
    if data[:3] == b"\xff\xd8\xff":
        return "jpeg"
    if data[:2] == b"BM":
        return "bmp"
    if data[:4] in (b"II*\0", b"MM\0*"):
        return "tiff"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "webp"
    return None


_DAMAGED = (OSError, SyntaxError, ValueError, TypeError, KeyError, struct.error, OverflowError)
"""What Pillow's readers raise for a damaged header."""


def pillow(data: bytes) -> ImageFile.ImageFile:
    """Open with Pillow's own reader for the format found, so that no other of its plugins ever sees the bytes."""
    try:
        return _PLUGINS[sniff(data)](io.BytesIO(data))
    except _DAMAGED as error:
        raise NotAnImage("The picture's header is damaged.", format=sniff(data)) from error


def read(data: bytes) -> Header:
    """Read and check a header. Raises NotAnImage (unknown, damaged, cut off) or ImageUnusable (animated)."""
    kind = sniff(data)
    if kind is None:
        raise NotAnImage("The file is not a PNG, JPEG, BMP, TIFF or WebP picture.", bytes=len(data))
    try:
        return {"png": _png, "jpeg": _jpeg, "webp": _webp, "bmp": _pillow, "tiff": _pillow}[kind](data)
    except (IndexError, struct.error) as error:
        raise NotAnImage(f"The {kind.upper()} picture is cut off.", format=kind) from error


def _orientation(exif: bytes) -> int:
    tags = Image.Exif()
    try:
        tags.load(exif)
        value = tags.get(0x0112, 1)
    except Exception:  # a damaged EXIF block says nothing; the pixels may still be sound
        return 1
    return value if value in range(1, 9) else 1


def _png(data: bytes) -> Header:
    width, height, depth, colour = struct.unpack(">IIBB", data[16:26])
    if data[12:16] != b"IHDR" or colour not in _PNG_CHANNELS or not width or not height:
        raise NotAnImage("The PNG header is damaged.", format="png")
    header = Header("png", width, height, _PNG_CHANNELS[colour], depth, plain=colour != 3 and depth >= 8)
    position, view = 8, memoryview(data)
    while True:
        length, name = struct.unpack(">I4s", data[position : position + 8])
        body = view[position + 8 : position + 8 + length]
        (crc,) = struct.unpack(">I", data[position + 8 + length : position + 12 + length])
        if name[0] & 0x20 == 0 and zlib.crc32(body, zlib.crc32(name)) != crc:  # an upper-case first letter: a critical chunk
            raise NotAnImage("The PNG picture is damaged: a checksum does not hold.", format="png")
        if name == b"acTL":
            raise ImageUnusable("Animated pictures are not inspected: send one frame.", format="png")
        if name == b"tRNS":
            header = replace(header, plain=False)
        if name == b"eXIf":
            header = replace(header, orientation=_orientation(b"Exif\0\0" + bytes(body)))
        if name == b"IEND":
            return header
        position += 12 + length


def _jpeg(data: bytes) -> Header:
    position, header, orientation = 2, None, 1
    while True:
        if data[position] != 0xFF:
            raise NotAnImage("The JPEG header is damaged.", format="jpeg")
        marker = data[position + 1]
        if marker == 0xFF:  # fill byte
            position += 1
            continue
        if marker == 0x01 or 0xD0 <= marker <= 0xD8:  # markers without a length
            position += 2
            continue
        (length,) = struct.unpack(">H", data[position + 2 : position + 4])
        body = data[position + 4 : position + 2 + length]
        if marker in _SOF:
            depth, height, width, components = struct.unpack(">BHHB", body[:6])
            if depth != 8 or not width or not height or components not in (1, 3, 4):
                raise NotAnImage("This kind of JPEG is not read (only 8 bits, 1, 3 or 4 components).", format="jpeg")
            header = Header("jpeg", width, height, components, plain=components != 4)
        if marker == 0xE1 and body[:6] == b"Exif\0\0":
            orientation = _orientation(body)
        if marker == 0xDA:
            break
        position += 2 + length
    # an EXIF thumbnail has an end marker too, so only one behind the start of the scan counts
    if header is None or data.rfind(b"\xff\xd9") < position:
        raise NotAnImage("The JPEG picture is cut off.", format="jpeg")
    return replace(header, orientation=orientation)


def _webp(data: bytes) -> Header:
    (size,) = struct.unpack("<I", data[4:8])
    if size + 8 > len(data):
        raise NotAnImage("The WebP picture is cut off.", format="webp")
    name, body = data[12:16], data[20:]
    if name == b"VP8X":
        flags = body[0]
        if flags & 0x02:
            raise ImageUnusable("Animated pictures are not inspected: send one frame.", format="webp")
        width, height = (1 + int.from_bytes(body[at : at + 3], "little") for at in (4, 7))
        return Header("webp", width, height, 4 if flags & 0x10 else 3, orientation=_webp_orientation(data) if flags & 0x08 else 1)
    if name == b"VP8 " and body[3:6] == b"\x9d\x01\x2a":
        width, height = (value & 0x3FFF for value in struct.unpack("<HH", body[6:10]))
        return Header("webp", width, height, 3)
    if name == b"VP8L" and body[0] == 0x2F:
        bits = int.from_bytes(body[1:5], "little")
        return Header("webp", 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF), 4 if bits >> 28 & 1 else 3)
    raise NotAnImage("The WebP header is damaged.", format="webp")


def _webp_orientation(data: bytes) -> int:
    position = 12
    while position + 8 <= len(data):
        name, length = struct.unpack("<4sI", data[position : position + 8])
        if name == b"EXIF":
            body = data[position + 8 : position + 8 + length]
            return _orientation(body if body[:6] == b"Exif\0\0" else b"Exif\0\0" + body)
        position += 8 + length + length % 2
    return 1


def _pillow(data: bytes) -> Header:
    with pillow(data) as image:
        kind = str(image.format).lower()
        channels, depth = _MODES.get(image.mode, (0, 0))
        if not channels:
            message = f"{kind.upper()} pictures of mode {image.mode} have no defined brightness range."
            raise ImageUnusable(message, format=kind, mode=image.mode)
        if isinstance(image, TiffImagePlugin.TiffImageFile):
            depth = int(max(np.ravel(image.tag_v2.get(258, 1))))  # BitsPerSample: Pillow gives 16-bit colour as 8
        width, height = image.size
        try:
            image.seek(1)
        except EOFError:
            return Header(kind, width, height, channels, depth, plain=False)
        except _DAMAGED as error:
            raise NotAnImage(f"The {kind.upper()} picture is damaged behind its first page.", format=kind) from error
        raise ImageUnusable("The file holds several pictures: send one.", format=kind)
