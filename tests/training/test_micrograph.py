"""Every kind of file a microscope, a camera or a mistake may hand us."""

import io
import os
import struct
import subprocess
import sys
import zlib

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image

from training.data.micrograph import BadImage, Limits, image_format, image_size, read_micrograph

pytestmark = pytest.mark.fast

RNG = np.random.default_rng(7)
GREY8 = cv2.GaussianBlur(RNG.integers(0, 256, (48, 64)).astype(np.uint8), (5, 5), 0)
GREY16 = GREY8.astype(np.uint16) * 257 - np.uint16(5) * (GREY8 > 0)
COLOUR = np.dstack([GREY8, GREY8[::-1], GREY8[:, ::-1]])
LUMA = np.asarray(Image.fromarray(COLOUR).convert("L"))


def encoded(pixels, format, **options) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format, **options)
    return buffer.getvalue()


def tiff(pixels, **options) -> bytes:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, pixels, **options)
    return buffer.getvalue()


def palette_png(transparency: int | None = None) -> bytes:
    image = Image.fromarray(GREY8).quantize(256)
    buffer = io.BytesIO()
    image.save(buffer, "PNG", **({} if transparency is None else {"transparency": transparency}))
    return buffer.getvalue()


GREY_FILES = {
    "png 8": (encoded(GREY8, "PNG"), GREY8),
    "png 16": (encoded(GREY16, "PNG"), GREY16),
    "png colour of equal channels": (encoded(np.dstack([GREY8] * 3), "PNG"), GREY8),
    "png colour": (encoded(COLOUR, "PNG"), LUMA),
    "png opaque alpha": (encoded(np.dstack([COLOUR, np.full_like(GREY8, 255)]), "PNG"), LUMA),
    "png grey and alpha": (encoded(np.dstack([GREY8, np.full_like(GREY8, 255)]), "PNG"), GREY8),
    "png 1 bit": (encoded(GREY8 > 128, "PNG"), ((GREY8 > 128) * 255).astype(np.uint8)),
    "png 16 bit colour": (cv2.imencode(".png", np.dstack([GREY16] * 3))[1].tobytes(), GREY16),
    "bmp": (encoded(GREY8, "BMP"), GREY8),
    "tiff 8": (tiff(GREY8), GREY8),
    "tiff 16": (tiff(GREY16), GREY16),
    "tiff big endian": (tiff(GREY16, byteorder=">"), GREY16),
    "bigtiff": (tiff(GREY16, bigtiff=True), GREY16),
    "bigtiff big endian": (tiff(GREY16, bigtiff=True, byteorder=">"), GREY16),
    "tiff lzw 8": (encoded(GREY8, "TIFF", compression="tiff_lzw"), GREY8),
    "tiff lzw 16": (encoded(GREY16, "TIFF", compression="tiff_lzw"), GREY16),
    "tiff deflate 16": (encoded(GREY16, "TIFF", compression="tiff_adobe_deflate"), GREY16),
    "tiff packbits": (encoded(GREY8, "TIFF", compression="packbits"), GREY8),
    "tiff tiles": (tiff(GREY16, tile=(16, 32)), GREY16),
    "tiff strips": (tiff(GREY16, rowsperstrip=7), GREY16),
    "tiff pages": (tiff(np.stack([GREY16, GREY16 // 2, GREY16 // 3]), photometric="minisblack"), GREY16),
    "tiff imagej": (tiff(np.stack([GREY16, GREY16 // 2]), imagej=True), GREY16),
    "tiff min is white": (tiff(GREY8, photometric="miniswhite"), 255 - GREY8),
    "tiff min is white, deflate": (tiff(GREY8, photometric="miniswhite", compression="zlib"), 255 - GREY8),
    "tiff min is white 16, deflate": (
        tiff(GREY16, photometric="miniswhite", compression="zlib"),
        65535 - GREY16,
    ),
    "tiff signed 16, deflate": (
        tiff((GREY16.astype(np.int32) - 32768).astype(np.int16), compression="zlib"),
        GREY16,
    ),
    "tiff signed 8, deflate": (
        tiff((GREY8.astype(np.int32) - 128).astype(np.int8), compression="zlib"),
        GREY8,
    ),
    "tiff colour": (tiff(COLOUR, photometric="rgb"), LUMA),
    "tiff colour planes": (
        tiff(np.moveaxis(COLOUR, -1, 0), photometric="rgb", planarconfig="separate"),
        LUMA,
    ),
    "tiff colour lzw": (encoded(COLOUR, "TIFF", compression="tiff_lzw"), LUMA),
    "tiff 16 bit colour lzw": (cv2.imencode(".tif", np.dstack([GREY16] * 3))[1].tobytes(), GREY16),
    "tiff alpha": (
        tiff(np.dstack([COLOUR, np.full_like(GREY8, 255)]), photometric="rgb", extrasamples=["unassalpha"]),
        LUMA,
    ),
    "tiff signed 16": (tiff((GREY16.astype(np.int32) - 32768).astype(np.int16)), GREY16),
    "tiff 1 bit": (encoded(GREY8 > 128, "TIFF"), ((GREY8 > 128) * 255).astype(np.uint8)),
    "tiff zeiss palette": (
        tiff(GREY8, photometric="palette", colormap=np.stack([np.arange(256) * 257] * 3).astype(np.uint16)),
        GREY8,
    ),
}


@pytest.mark.parametrize("name", GREY_FILES)
def test_pixels_come_back_exactly(name, tmp_path):
    data, expected = GREY_FILES[name]
    path = tmp_path / "micrograph.dat"  # the name tells nothing
    path.write_bytes(data)
    for source in (data, path):
        pixels = read_micrograph(source)
        assert pixels.dtype == expected.dtype
        assert np.array_equal(pixels, expected)
        assert pixels.flags.c_contiguous
        assert pixels.dtype.isnative
    assert image_size(path) == (64, 48)


@pytest.mark.parametrize(
    "data",
    [
        encoded(GREY8, "JPEG", quality=95),
        encoded(COLOUR // 4 * 0 + GREY8[..., None], "JPEG", quality=95),
        encoded(GREY8, "TIFF", compression="jpeg", quality=95),
        encoded(np.dstack([GREY8] * 3), "TIFF", compression="jpeg", quality=95),
    ],
    ids=["grey", "colour", "grey in tiff", "colour in tiff"],
)
def test_jpeg_comes_back_nearly(data):
    pixels = read_micrograph(data)
    assert pixels.dtype == np.uint8
    assert np.abs(pixels.astype(int) - GREY8).max() < 24
    assert np.abs(pixels.astype(int) - GREY8).mean() < 3


def test_cmyk_jpeg_is_read():
    buffer = io.BytesIO()
    Image.fromarray(np.dstack([GREY8] * 3)).convert("CMYK").save(buffer, "JPEG", quality=95)
    assert np.abs(read_micrograph(buffer.getvalue()).astype(int) - GREY8).mean() < 5


@pytest.mark.parametrize(
    ("dtype", "compression"),
    [
        *((dtype, None) for dtype in (np.float32, np.float64, np.int32, np.uint32)),
        *((dtype, "zlib") for dtype in (np.float32, np.float64, np.int32, np.uint32)),
    ],
)
def test_wide_numbers_are_stretched_over_their_range(dtype, compression):
    values = (GREY8.astype(dtype) - GREY8.min()) * 3 + 70_000
    data = tiff(values, compression=compression)
    pixels = read_micrograph(data)
    assert pixels.dtype == np.uint16
    assert (pixels.min(), pixels.max()) == (0, 65535)
    assert np.corrcoef(pixels.ravel(), GREY8.ravel())[0, 1] > 0.999999


def test_what_is_not_finite_does_not_spoil_the_range():
    values = GREY8.astype(np.float32)
    values[0, :3] = np.nan, np.inf, -np.inf
    pixels = read_micrograph(tiff(values))
    assert pixels[0, :3].tolist() == [0, 65535, 0]
    assert np.corrcoef(pixels[1:].ravel(), GREY8[1:].ravel())[0, 1] > 0.999


@pytest.mark.parametrize("value", [0.5, np.nan])
def test_a_flat_float_image_is_black(value):
    assert not read_micrograph(tiff(np.full((4, 5), value, np.float32))).any()


def test_transparency_lies_over_black():
    alpha = np.full_like(GREY8, 255)
    alpha[:10] = 0
    for channels in ([GREY8, alpha], [GREY8, GREY8, GREY8, alpha]):
        pixels = read_micrograph(encoded(np.dstack(channels), "PNG"))
        assert not pixels[:10].any()
        assert np.array_equal(pixels[10:], GREY8[10:])


def test_palettes_are_looked_up():
    with Image.open(io.BytesIO(palette_png())) as image:
        expected = np.asarray(image.convert("RGB").convert("L"))
    assert np.array_equal(read_micrograph(palette_png()), expected)
    indices = np.asarray(Image.open(io.BytesIO(palette_png())))
    assert not read_micrograph(palette_png(transparency=int(indices[0, 0])))[0, 0]


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format", ["JPEG", "TIFF", "TIFF lzw"])
def test_orientation_is_what_a_browser_shows(orientation, format):
    from PIL import ImageOps

    exif = Image.Exif()
    exif[274] = orientation
    options = {"exif": exif} if format == "JPEG" else {"tiffinfo": {274: orientation}}
    if format == "TIFF lzw":
        options["compression"] = "tiff_lzw"
    data = encoded(GREY8, format.split()[0], **options)
    plain = read_micrograph(encoded(GREY8, format.split()[0]))
    turned = Image.fromarray(plain)
    turned.getexif()[274] = orientation
    expected = np.asarray(ImageOps.exif_transpose(turned))
    assert np.array_equal(read_micrograph(data), expected)
    assert image_size(data) == expected.shape[::-1]


def test_broken_exif_changes_nothing():
    exif = b"Exif\0\0II*\0\x08\0\0\0\xff\xff"
    data = encoded(GREY8, "JPEG", exif=exif, dpi=(72, 72))
    assert image_size(data) == (64, 48)
    assert read_micrograph(data).shape == (48, 64)


# Of several pages the first may be whole in a file that is not.
@pytest.mark.parametrize("name", sorted(GREY_FILES.keys() - {"tiff pages", "tiff imagej"}))
@pytest.mark.parametrize("share", [0.02, 0.3, 0.6, 0.9])
def test_a_file_cut_short_is_never_half_a_picture(name, share):
    data, expected = GREY_FILES[name]
    try:
        pixels = read_micrograph(data[: int(len(data) * share)])
    except BadImage as error:
        assert_one_sentence(error)
    else:
        assert np.array_equal(pixels, expected)


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")  # Pillow remarks on headers it mends
@pytest.mark.parametrize("name", GREY_FILES)
def test_flipped_bytes_give_a_sentence_or_an_image_but_no_crash(name):
    data = GREY_FILES[name][0]
    rng = np.random.default_rng(len(name))
    for _ in range(20):
        broken = bytearray(data)
        for position in rng.integers(0, len(data), 3):
            broken[position] ^= int(rng.integers(1, 256))
        try:
            read_micrograph(bytes(broken), Limits(max_pixels=10**6))
        except BadImage as error:
            assert_one_sentence(error)


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"", "is empty"),
        (b"this is no image\n" * 9, "is a text file"),
        (b"\n <!DOCTYPE html><html>login</html>", "is a web page"),
        (b"<?xml version='1.0'?><svg xmlns='http://www.w3.org/2000/svg'/>", "is an SVG"),
        (b"GIF89a" + bytes(40), "not an image of a known format"),
        (b"RIFF\0\0\0\0WEBPVP8 " + bytes(40), "not an image of a known format"),
        (os.urandom(600) + b"\0", "known format"),
        (b"\x89PNG\r\n\x1a\n", "PNG"),
        (b"II*\0" + bytes(20), "TIFF"),
        (b"BM", "BMP"),
    ],
    ids=["empty", "text", "html", "svg", "gif", "webp", "noise", "bare png", "bare tiff", "bare bmp"],
)
def test_what_is_no_image_is_named_for_what_it_is(data, what, tmp_path):
    path = tmp_path / "image.png"
    path.write_bytes(data)
    for read in (read_micrograph, image_size):
        with pytest.raises(BadImage, match=what) as caught:
            read(path)
        assert_one_sentence(caught.value)
        assert str(path) in str(caught.value)


def test_folders_missing_files_and_pipes_are_refused_at_once(tmp_path):
    with pytest.raises(BadImage, match="is a folder"):
        read_micrograph(tmp_path)
    with pytest.raises(BadImage, match="does not exist"):
        read_micrograph(tmp_path / "none.png")
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(BadImage):
        read_micrograph(tmp_path / "pipe.png")


def bomb(width: int, height: int) -> bytes:
    """A PNG whose header promises more than its few bytes hold."""
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(bytes(1000)))]
    body = b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + body


def test_bombs_are_refused_on_their_header_without_a_warning():
    with pytest.raises(BadImage, match="100000 × 100000 px, more than the 400000000 px allowed"):
        read_micrograph(bomb(100_000, 100_000))
    assert image_size(bomb(100_000, 100_000)) == (100_000, 100_000)
    with pytest.raises(BadImage, match="cannot be read"):  # Pillow itself would warn from 90 million px
        read_micrograph(bomb(10_000, 10_000))


def test_a_tiff_that_promises_more_than_the_file_holds_is_cut_short():
    data = bytearray(tiff(GREY8))
    page = tifffile.TiffFile(io.BytesIO(bytes(data))).pages[0]
    for tag in ("ImageWidth", "ImageLength"):
        offset = page.tags[tag].valueoffset
        data[offset : offset + 2] = struct.pack("<H", 20_000)
    with pytest.raises(BadImage, match="cut short"):
        read_micrograph(bytes(data))


def test_a_tiff_with_many_channels_asks_for_one():
    with pytest.raises(BadImage, match="save one channel"):
        read_micrograph(tiff(np.zeros((8, 8, 7), np.uint8), planarconfig="contig", photometric="minisblack"))


def test_limits_hold_for_bytes_and_pixels():
    data = encoded(GREY8, "PNG")
    assert read_micrograph(data, Limits(max_bytes=len(data), max_pixels=64 * 48)).shape == (48, 64)
    with pytest.raises(BadImage, match="bytes, more than"):
        read_micrograph(data, Limits(max_bytes=len(data) - 1))
    with pytest.raises(BadImage, match="64 × 48 px"):
        read_micrograph(data, Limits(max_pixels=64 * 48 - 1))


def test_formats_are_told_by_their_first_bytes():
    for name, (data, _) in GREY_FILES.items():
        assert image_format(data) in name.replace("bigtiff", "tiff")


def test_messages_use_the_name_they_are_given(tmp_path):
    with pytest.raises(BadImage, match=r"^/data/upload/1/x\.png is empty"):
        read_micrograph(b"", name="/data/upload/1/x.png")


def test_real_micrographs_are_read_as_they_are(shared_data):
    for path in sorted(shared_data.glob("*/images/*.png"))[::9]:
        with Image.open(path) as image:
            assert np.array_equal(read_micrograph(path), np.asarray(image))


def test_reading_needs_no_torch():
    code = "import sys, training.data.micrograph, training.data.masks; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def assert_one_sentence(error: BaseException) -> None:
    text = str(error)
    assert text.endswith(".")
    assert "\n" not in text
    assert len(text) < 400
