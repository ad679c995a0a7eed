"""Pictures of strangers: every kind that is taken, and those that are built to hurt."""

import io
import random
import struct
import tracemalloc
import zlib

import numpy as np
import pytest
from PIL import Image

from worker.errors import InputRefused
from worker.untrusted import pictures
from worker.untrusted.pictures import FORMATS, MOST_PIXELS, open_picture, picture_size


def saved(picture, format_, **options):
    out = io.BytesIO()
    picture.save(out, format_, **options)
    return out.getvalue()


def noise(side=32):
    return Image.effect_noise((side, side), 60).convert("RGB")


def png(width, height, *, depth=8, kind=2, data=b"", extra=b"", name=b"IDAT"):
    def chunk(name, content):
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    head = struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + extra + chunk(name, zlib.compress(data)) + chunk(b"IEND", b"")


def chunk(name, content):
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


@pytest.mark.parametrize("format_", FORMATS)
def test_what_the_horde_carries_is_opened(format_):
    picture = open_picture(saved(noise(), format_))
    assert (picture.mode, picture.size) == ("RGB", (32, 32))


POSTSCRIPT = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\n(x) print\n%%EOF\n"


@pytest.mark.parametrize(
    "data",
    [
        POSTSCRIPT,
        b"<svg xmlns='http://www.w3.org/2000/svg'><image href='file:///etc/passwd'/></svg>",
        b"push graphic-context\nviewbox 0 0 640 480\nimage over 0,0 0,0 'https://x.example/|id'\npop graphic-context",
        saved(noise(), "BMP"), saved(noise(), "PPM"), saved(noise(), "TGA"), saved(noise(), "PCX"),
        saved(noise(), "ICO"), saved(noise(), "PDF"), saved(noise(), "DDS"), saved(noise(), "GIF"),
        b"", b"\x89PNG\r\n\x1a\n", b"RIFF\x04\x00\x00\x00WEBP", b"II*\x00\x08\x00\x00\x00\xff\xff", b"\xff\xd8\xff",
    ],
)  # fmt: skip
def test_other_kinds_of_file_are_refused(data):
    with pytest.raises(InputRefused, match="not a readable picture"):
        open_picture(data)


@pytest.mark.parametrize("data", [b"", b"<svg/>", b"\x89", b"\0\0\0\x18ftypheic" + bytes(200), b"8BPS\0\1" + bytes(99)])
def test_what_is_refused_is_told_without_an_address_in_memory(data):
    with pytest.raises(InputRefused, match="it is no WEBP, PNG, JPEG, TIFF, or damaged") as raised:
        open_picture(data)
    assert "0x" not in raised.value.message


def test_no_program_is_started_for_a_picture(monkeypatch):
    started = []
    monkeypatch.setattr("subprocess.Popen", lambda *a, **_: started.append(a))
    monkeypatch.setattr("os.system", started.append)
    for data in (POSTSCRIPT, b"\xc5\xd0\xd3\xc6" + struct.pack("<II", 32, len(POSTSCRIPT)) + bytes(20) + POSTSCRIPT):
        with pytest.raises(InputRefused):
            open_picture(data)
    assert not started


@pytest.mark.parametrize(
    "data",
    [
        png(8000, 8000), png(64_000_000, 1), png(1, 64_000_000), png(2**31 - 1, 2**31 - 1), png(16_384, 1),
        png(3073, 3072), png(30_000, 30_000),
        b"RIFF" + struct.pack("<I", 22) + b"WEBPVP8X" + struct.pack("<I", 10) + bytes(4) + b"\xff\x3f\x00" * 2,
    ],
)  # fmt: skip
def test_a_picture_that_is_larger_than_the_hordes_largest_is_refused_before_it_is_unpacked(data):
    tracemalloc.start()
    try:
        for opened in (open_picture, picture_size):
            with pytest.raises(InputRefused):
                opened(data)
        assert tracemalloc.get_traced_memory()[1] < 2_000_000
    finally:
        tracemalloc.stop()


def test_the_hordes_largest_picture_is_opened_whatever_its_shape():
    assert MOST_PIXELS == 3072 * 3072
    assert picture_size(png(3072, 3072)) == (3072, 3072)
    assert picture_size(png(16_383, 576)) == (16_383, 576)


@pytest.mark.parametrize("name", [b"zTXt", b"iTXt"])
def test_texts_in_a_picture_that_unpack_to_more_than_any_text_are_refused(name):
    inside = zlib.compress(bytes(16_000_000))
    text = b"k\0\0" + inside if name == b"zTXt" else b"k\0\1\0\0\0" + inside
    tracemalloc.start()
    try:
        with pytest.raises(InputRefused):
            open_picture(png(1, 1, data=bytes(4), extra=chunk(name, text)))
        assert tracemalloc.get_traced_memory()[1] < 8_000_000
    finally:
        tracemalloc.stop()


def test_many_texts_together_are_bounded_too():
    with pytest.raises(InputRefused):
        open_picture(png(1, 1, data=bytes(4), extra=chunk(b"zTXt", b"k\0\0" + zlib.compress(bytes(900_000))) * 6))


def test_a_colour_profile_that_unpacks_to_more_than_any_profile_takes_no_memory():
    bomb = chunk(b"iCCP", b"p\0\0" + zlib.compress(bytes(16_000_000)))
    tracemalloc.start()
    try:
        with pytest.raises(InputRefused):
            open_picture(png(1, 1, data=bytes(4), extra=bomb))
    except pytest.fail.Exception:
        pass  # the profile alone may be left out
    finally:
        assert tracemalloc.get_traced_memory()[1] < 8_000_000
        tracemalloc.stop()


@pytest.mark.parametrize("format_", ["PNG", "WEBP", "TIFF"])
def test_of_a_picture_with_frames_the_first_is_taken(format_):
    frames = [Image.new("RGB", (8, 8), (255 if n == 0 else 0, 0, 0)) for n in range(50)]
    data = saved(
        frames[0], format_, save_all=True, append_images=frames[1:], **({"lossless": True} if format_ == "WEBP" else {})
    )
    assert open_picture(data).getpixel((4, 4)) == (255, 0, 0)


@pytest.mark.parametrize("format_", ["PNG", "TIFF"])
def test_grey_of_16_bits_is_scaled_and_not_cut_off(format_):
    ramp = Image.fromarray(np.linspace(0, 65535, 256, dtype=np.uint16).reshape(16, 16))
    grey = np.asarray(open_picture(saved(ramp, format_)))[..., 0].reshape(-1)
    assert np.abs(grey.astype(int) - np.arange(256)).max() <= 1


@pytest.mark.parametrize(
    ("low", "high", "dark", "bright"),
    [
        (0, 1, 0, 255),
        (0, 0.5, 0, 128),
        (0, 255, 0, 255),
        (0, 65535, 0, 255),
        (-1, 1, 0, 255),
        (0, 1e9, 0, 255),
        (0, 0, 0, 0),
    ],
)  # fmt: skip
def test_a_picture_of_fractions_is_scaled_by_what_its_values_can_mean(low, high, dark, bright):
    values = np.linspace(low, high, 64, dtype=np.float32).reshape(8, 8)
    grey = np.asarray(open_picture(saved(Image.fromarray(values), "TIFF")))[..., 0]
    assert abs(int(grey[0, 0]) - dark) <= 1
    assert abs(int(grey[-1, -1]) - bright) <= 1


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_picture_of_values_that_are_no_numbers_is_refused(bad):
    with pytest.raises(InputRefused, match="not numbers"):
        open_picture(saved(Image.fromarray(np.full((8, 8), bad, dtype=np.float32)), "TIFF"))


@pytest.mark.parametrize(("kind", "values"), [(2, (0, 32768, 65535)), (6, (0, 32768, 65535, 65535))])
def test_colours_of_16_bits_are_scaled(kind, values):
    picture = open_picture(png(1, 1, depth=16, kind=kind, data=b"\0" + struct.pack(f">{len(values)}H", *values)))
    assert picture.getpixel((0, 0))[:3] == (0, 128, 255)


def test_cmyk_becomes_rgb():
    picture = open_picture(saved(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "JPEG"))
    red, green, blue = picture.getpixel((4, 4))
    assert picture.mode == "RGB"
    assert red > 200
    assert max(green, blue) < 60


def test_a_palette_with_transparency_becomes_rgba():
    picture = noise().quantize(16)
    assert open_picture(saved(picture, "PNG", transparency=0)).mode == "RGBA"
    assert open_picture(saved(picture, "PNG")).mode == "RGB"


def test_a_picture_lies_as_its_camera_held_it():
    exif = Image.Exif()
    exif[0x0112] = 6
    assert open_picture(saved(Image.new("RGB", (8, 4)), "JPEG", exif=exif)).size == (4, 8)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
@pytest.mark.parametrize("format_", ["WEBP", "JPEG", "PNG"])
@pytest.mark.parametrize("exif", [b"Exif\0\0" + b"\xff" * 500, b"Exif\0\0II*\0\x08\0\0\0\xff\xff", b"x"])
def test_a_picture_whose_exif_data_makes_no_sense_lies_as_it_is(format_, exif):
    assert open_picture(saved(Image.new("RGB", (8, 4), "red"), format_, exif=exif)).size == (8, 4)


@pytest.mark.parametrize("format_", FORMATS)
def test_a_damaged_picture_is_read_or_refused_and_never_anything_else(format_):
    chance, whole = random.Random(format_), saved(noise(), format_)
    for _ in range(300):
        damaged = bytearray(whole)
        for _ in range(4):
            damaged[chance.randrange(min(200, len(damaged)))] = chance.randrange(256)
        try:
            open_picture(bytes(damaged[: chance.randrange(len(damaged))]))
        except InputRefused:
            continue


@pytest.mark.parametrize("error", [struct.error("bad"), RuntimeError("bad"), ZeroDivisionError("bad"), MemoryError()])
def test_whatever_a_reader_of_pictures_raises_it_is_a_picture_that_can_not_be_read(monkeypatch, error):
    def fail(_):
        raise error

    monkeypatch.setattr(pictures, "_to_eight_bits", fail)
    with pytest.raises(InputRefused, match="not a readable picture"):
        open_picture(saved(noise(), "PNG"))
