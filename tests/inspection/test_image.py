"""Decoding: the pixels are right, and what cannot be right is refused early."""

from __future__ import annotations

import io
import struct
import time
import zlib

import numpy as np
import pytest
from PIL import Image, ImageOps

from inspection.evidence import ImageTooLarge, ImageUnusable, NotAnImage
from inspection.image import Limits, decode

RGB = np.random.default_rng(0).integers(0, 256, (24, 40, 3), dtype=np.uint8)


def saved(image: Image.Image | np.ndarray, kind: str, **options: object) -> bytes:
    image = image if isinstance(image, Image.Image) else Image.fromarray(image)
    with io.BytesIO() as file:
        image.save(file, kind, **options)
        return file.getvalue()


LOSSLESS = [("PNG", {}), ("BMP", {}), ("TIFF", {}), ("TIFF", {"compression": "tiff_lzw"}), ("WEBP", {"lossless": True})]


@pytest.mark.parametrize(("kind", "options"), LOSSLESS)
def test_lossless_formats_keep_every_pixel(kind: str, options: dict[str, object]) -> None:
    picture = decode(saved(RGB, kind, **options))
    np.testing.assert_array_equal(picture.pixels, RGB)
    assert (picture.width, picture.height, picture.channels_in_file, picture.bit_depth) == (40, 24, 3, 8)
    assert picture.format == kind.lower() and picture.pixels.flags.c_contiguous


def test_jpeg_has_red_first() -> None:
    red = np.zeros((32, 32, 3), np.uint8)
    red[..., 0] = 200
    assert decode(saved(red, "JPEG", quality=95)).pixels.mean((0, 1)) == pytest.approx([200, 0, 0], abs=3)
    grey = decode(saved(Image.fromarray(RGB).convert("L"), "JPEG"))
    assert grey.channels_in_file == 1 and (grey.pixels[..., 0] == grey.pixels[..., 2]).all()


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_rotation_is_applied(kind: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = saved(RGB, kind, exif=exif, **({"lossless": True} if kind == "WEBP" else {}))
    upright = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB"))
    picture = decode(data)
    assert (picture.height, picture.width) == upright.shape[:2]
    assert np.abs(picture.pixels.astype(int) - upright).max() <= (2 if kind == "JPEG" else 0)


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bits_are_shifted_not_stretched(kind: str) -> None:
    deep = (np.arange(32 * 32, dtype=np.uint16) * 16).reshape(32, 32)  # a dark picture stays dark
    picture = decode(saved(deep, kind))
    np.testing.assert_array_equal(picture.pixels[..., 1], deep >> 8)
    assert picture.bit_depth == 16 and picture.channels_in_file == 1


def test_sixteen_bit_colour_png() -> None:
    import cv2

    deep = RGB.astype(np.uint16) * 256 + 77
    data = cv2.imencode(".png", deep[..., ::-1])[1].tobytes()
    picture = decode(data)
    np.testing.assert_array_equal(picture.pixels, RGB)
    assert picture.bit_depth == 16
    tiff = decode(cv2.imencode(".tiff", deep[..., ::-1])[1].tobytes())
    np.testing.assert_array_equal(tiff.pixels, RGB)
    assert tiff.bit_depth == 16


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP"])
def test_alpha_is_laid_over_white(kind: str) -> None:
    rgba = np.zeros((20, 20, 4), np.uint8)
    rgba[:10, :, 3] = 255
    rgba[10:, :, 3] = 102
    picture = decode(saved(rgba, kind, **({"lossless": True, "exact": True} if kind == "WEBP" else {})))
    assert (picture.pixels[0, 0] == 0).all() and (picture.pixels[15, 0] == 153).all() and picture.channels_in_file == 4


def test_palette_bits_and_grey_alpha() -> None:
    squares = np.kron(np.indices((4, 4)).sum(0) % 2, np.ones((8, 8))).astype(np.uint8) * 255
    for image in (Image.fromarray(squares).convert("1"), Image.fromarray(squares).convert("P"), Image.fromarray(squares)):
        np.testing.assert_array_equal(decode(saved(image, "PNG")).pixels[..., 0], squares)
    faint = Image.merge("LA", (Image.fromarray(squares), Image.new("L", (32, 32), 0)))
    assert (decode(saved(faint, "PNG")).pixels == 255).all()
    clear = decode(saved(Image.fromarray(squares).convert("P"), "PNG", transparency=0))
    assert (clear.pixels == 255).all()


def test_cmyk_is_converted() -> None:
    cmyk = Image.new("CMYK", (32, 32), (0, 255, 255, 0))
    for kind in ("JPEG", "TIFF"):
        picture = decode(saved(cmyk, kind))
        assert picture.pixels[5, 5] == pytest.approx([255, 0, 0], abs=6) and picture.channels_in_file == 4


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF"])
def test_several_frames_are_refused(kind: str) -> None:
    frames = [Image.fromarray(RGB), Image.fromarray(255 - RGB)]
    with pytest.raises(ImageUnusable, match="one"):
        decode(saved(frames[0], kind, save_all=True, append_images=frames[1:]))


def test_gif_is_not_read() -> None:
    with pytest.raises(NotAnImage, match="not a PNG"):
        decode(saved(Image.fromarray(RGB), "GIF"))


def chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def test_a_bomb_is_refused_by_its_header() -> None:
    sides = struct.pack(">IIBBBBB", 30_000, 30_000, 8, 2, 0, 0, 0)
    png = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", sides) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    bmp = bytearray(saved(RGB, "BMP"))
    bmp[18:26] = struct.pack("<ii", 30_000, 30_000)
    jpeg = bytearray(saved(RGB, "JPEG"))
    at = jpeg.index(b"\xff\xc0") + 5
    jpeg[at : at + 4] = struct.pack(">HH", 30_000, 30_000)
    webp = bytearray(saved(np.dstack([RGB, RGB[..., 0]]), "WEBP"))
    assert webp[12:16] == b"VP8X"
    webp[24:30] = (16_000).to_bytes(3, "little") * 2
    start = time.perf_counter()
    for data in (png, bytes(bmp), bytes(jpeg), bytes(webp)):
        with pytest.raises(ImageTooLarge):
            decode(data)
    assert time.perf_counter() - start < 0.2


@pytest.mark.filterwarnings("ignore:Truncated File Read", "ignore:Possibly corrupt EXIF")  # Pillow's, beside the error
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "BMP", "TIFF", "WEBP"])
def test_cut_off_pictures_are_refused(kind: str) -> None:
    whole = saved(RGB, kind)
    for share in (0.02, 0.1, 0.5, 0.9):
        with pytest.raises(NotAnImage):
            decode(whole[: int(len(whole) * share)])
    with pytest.raises(NotAnImage):
        decode(whole[:-3])


def test_a_cut_jpeg_with_a_whole_thumbnail_is_refused() -> None:
    thumbnail = saved(RGB, "JPEG")
    whole = saved(RGB, "JPEG")
    app1 = b"Exif\0\0" + thumbnail
    data = whole[:2] + b"\xff\xe1" + struct.pack(">H", len(app1) + 2) + app1 + whole[2:]
    assert decode(data).width == 40
    with pytest.raises(NotAnImage, match="cut off"):
        decode(data[:-200])


def test_a_flipped_bit_in_a_png_is_seen() -> None:
    data = bytearray(saved(RGB, "PNG"))
    data[data.index(b"IDAT") + 40] ^= 4
    with pytest.raises(NotAnImage, match="checksum"):
        decode(bytes(data))


RUBBISH = [b"", b"\0", b"hello", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"BM", b"II*\0", b"RIFF\0\0\0\0WEBP", b"%PDF-1.7" * 99]


@pytest.mark.parametrize("data", RUBBISH)
def test_rubbish_is_refused(data: bytes) -> None:
    with pytest.raises(NotAnImage):
        decode(data)


def test_small_and_heavy_pictures_are_refused() -> None:
    for shape in ((1, 1, 3), (15, 200, 3), (200, 15, 3)):
        with pytest.raises(ImageUnusable, match="16 pixels"):
            decode(saved(np.zeros(shape, np.uint8), "PNG"))
    assert decode(saved(np.zeros((16, 16, 3), np.uint8), "PNG")).width == 16
    with pytest.raises(ImageTooLarge, match="bytes"):
        decode(saved(RGB, "PNG"), limits=Limits(max_bytes=100))
    decode(saved(RGB, "PNG"), limits=Limits(max_pixels=24 * 40))
    with pytest.raises(ImageTooLarge, match="pixels"):
        decode(saved(RGB, "PNG"), limits=Limits(max_pixels=24 * 40 - 1))


def test_float_tiff_has_no_brightness_range() -> None:
    with pytest.raises(ImageUnusable, match="mode F"):
        decode(saved(Image.fromarray(RGB[..., 0].astype(np.float32)), "TIFF"))


def deep_tiff(values: np.ndarray, bits: int, photometric: int = 1) -> bytes:
    """An uncompressed grey TIFF of 12 bits (packed) or 16, as machine cameras write them; 0 is white where `photometric` is 0."""
    high, low = values[:, ::2].astype(np.uint32), values[:, 1::2].astype(np.uint32)
    packed = np.stack([high >> 4, (high & 15) << 4 | low >> 8, low & 255], -1).astype(np.uint8)
    body = (packed if bits == 12 else values.astype("<u2")).tobytes()
    height, width = values.shape
    tags = {256: width, 257: height, 258: bits, 259: 1, 262: photometric, 273: 8, 277: 1, 278: height, 279: len(body)}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    return struct.pack("<4sI", b"II*\0", 8 + len(body)) + body + struct.pack("<H", len(tags)) + entries + bytes(4)


@pytest.mark.parametrize("bits", [12, 16])
def test_deep_tiffs_keep_their_full_range(bits: int) -> None:
    deep = np.linspace(0, 2**bits - 1, 32 * 40).astype(np.uint16).reshape(32, 40)
    picture = decode(deep_tiff(deep, bits))
    np.testing.assert_array_equal(picture.pixels[..., 0], deep >> bits - 8)
    assert picture.bit_depth == bits


def test_a_deep_tiff_whose_zero_is_white_is_turned_round() -> None:
    deep = np.linspace(0, 65535, 32 * 40).astype(np.uint16).reshape(32, 40)
    np.testing.assert_array_equal(decode(deep_tiff(deep, 16, photometric=0)).pixels[..., 0], 255 - (deep >> 8))


def test_a_damaged_second_page_is_refused() -> None:
    whole = bytearray(saved(RGB, "TIFF", save_all=True, append_images=[Image.fromarray(RGB)]))
    entries = int.from_bytes(whole[4:8], "little")
    after = entries + 2 + 12 * int.from_bytes(whole[entries : entries + 2], "little")
    second = int.from_bytes(whole[after : after + 4], "little")
    whole[second + 2 : second + 4] = b"\xfe\xff"  # no longer the tag of a width
    with pytest.raises(NotAnImage, match="first page"):
        decode(bytes(whole))


def test_alpha_needs_no_multiple_of_the_picture() -> None:
    import tracemalloc

    data = saved(np.full((1000, 1000, 4), 128, np.uint8), "PNG")
    tracemalloc.start()
    picture = decode(data)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (picture.pixels == (128 * 128 + 255 * 127 + 127) // 255).all()
    assert peak < 16e6  # decoded and converted, 4 bytes each, and the result of 3
