"""Bytes to a checked RGB picture: PNG, JPEG, BMP, TIFF and WebP, by content, upright, 8 bits, alpha over white."""

from __future__ import annotations

import hashlib
import struct
import zlib
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, TiffImagePlugin

from inspection import header
from inspection.evidence import ImageTooLarge, ImageUnusable, NotAnImage

Pixels = NDArray[np.uint8]

_BAND = 64
_PHOTOMETRIC = 262

_UPRIGHT = {
    2: lambda p: p[:, ::-1],
    3: lambda p: p[::-1, ::-1],
    4: lambda p: p[::-1],
    5: lambda p: p.transpose(1, 0, 2),
    6: lambda p: np.rot90(p, -1),
    7: lambda p: p[::-1, ::-1].transpose(1, 0, 2),
    8: lambda p: np.rot90(p, 1),
}


@dataclass(frozen=True, slots=True)
class Limits:
    """What is refused before a pixel is decoded."""

    max_bytes: int = 64 * 2**20
    max_pixels: int = 100_000_000
    min_side: int = 16


@dataclass(frozen=True, slots=True)
class Picture:
    """A decoded picture: upright, RGB, 8 bits."""

    pixels: Pixels = field(repr=False)
    """`[H, W, 3]`, contiguous."""
    width: int
    height: int
    channels_in_file: int
    bit_depth: int
    """As stored; deeper values (12, 16) are shifted to 8 by their full range, so that two pictures stay comparable."""
    format: str
    sha256: str
    """Of the bytes as received."""


def decode(data: bytes, *, limits: Limits = Limits()) -> Picture:
    """Decode one picture. Raises NotAnImage, ImageTooLarge, ImageUnusable; the header is checked before pixels are decoded."""
    if not data:
        raise NotAnImage("The file is empty.", bytes=0)
    if len(data) > limits.max_bytes:
        message = f"The file has {len(data):,} bytes; at most {limits.max_bytes:,} are read."
        raise ImageTooLarge(message, bytes=len(data), limit=limits.max_bytes)
    head = header.read(data)
    size = {"width": head.width, "height": head.height}
    if head.width * head.height > limits.max_pixels:
        message = f"The picture is {head.width:,} × {head.height:,} pixels; at most {limits.max_pixels:,} in all are read."
        raise ImageTooLarge(message, **size, limit=limits.max_pixels)
    if min(head.width, head.height) < limits.min_side:
        message = f"The picture is {head.width} × {head.height}; each side needs at least {limits.min_side} pixels."
        raise ImageUnusable(message, **size)
    pixels = _plain(data, head) if head.plain else _by_pillow(data, head)
    if head.orientation in _UPRIGHT:
        pixels = _UPRIGHT[head.orientation](pixels)
    pixels = np.ascontiguousarray(pixels)
    height, width = pixels.shape[:2]
    return Picture(pixels, width, height, head.channels, head.bit_depth, head.format, hashlib.sha256(data).hexdigest())


def _plain(data: bytes, head: header.Header) -> Pixels:
    try:
        pixels: Any = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error:
        pixels = None
    if pixels is None or pixels.shape[:2] != (head.height, head.width):
        raise NotAnImage(f"The {head.format.upper()} picture is damaged.", format=head.format)
    if pixels.dtype == np.uint16:
        pixels = (pixels >> 8).astype(np.uint8)
    if pixels.ndim == 2:
        return _convert(pixels, cv2.COLOR_GRAY2RGB)
    if pixels.shape[2] == 4:
        return _over_white(_convert(pixels, cv2.COLOR_BGRA2RGBA))
    return _convert(pixels, cv2.COLOR_BGR2RGB)


def _by_pillow(data: bytes, head: header.Header) -> Pixels:
    try:
        with header.pillow(data) as opened:
            opened.load()
            image = ImageOps.exif_transpose(opened) if head.format in ("tiff", "bmp") else opened
            if head.bit_depth > 8 and image.mode.startswith("I"):
                grey = (np.asarray(image).astype(np.uint16) >> head.bit_depth - 8).astype(np.uint8)
                if isinstance(opened, TiffImagePlugin.TiffImageFile) and opened.tag_v2.get(_PHOTOMETRIC) == 0:
                    grey = 255 - grey  # zero is white: Pillow turns that round only up to 8 bits
                return _convert(grey, cv2.COLOR_GRAY2RGB)
            if image.has_transparency_data:
                return _over_white(np.asarray(image.convert("RGBA")))
            return np.asarray(image.convert("RGB"))
    except (OSError, SyntaxError, ValueError, TypeError, struct.error, zlib.error, Image.DecompressionBombError) as error:
        raise NotAnImage(f"The {head.format.upper()} picture is damaged.", format=head.format) from error


def _convert(pixels: Any, code: int) -> Pixels:
    return np.asarray(cv2.cvtColor(pixels, code), np.uint8)


def _over_white(rgba: Pixels) -> Pixels:
    rgb = np.ascontiguousarray(rgba[..., :3])
    if rgba[..., 3].min() < 255:
        for at in range(0, len(rgb), _BAND):  # in bands: at once it would take 24 bytes a pixel
            alpha = rgba[at : at + _BAND, :, 3:].astype(np.uint16)
            rgb[at : at + _BAND] = (rgb[at : at + _BAND] * alpha + 255 * (255 - alpha) + 127) // 255
    return rgb
