"""Pictures at the borders."""

import io
import random
import struct

import pytest
from PIL import Image, ImageOps

from worker.images import RawImage, decode, encode_webp, open_picture


def encoded(format_: str) -> bytes:
    out = io.BytesIO()
    Image.effect_noise((32, 32), 60).convert("RGB").save(out, format_)
    return out.getvalue()


@pytest.mark.parametrize("format_", ["PNG", "JPEG", "WEBP", "GIF", "TIFF"])
def test_a_damaged_picture_is_read_or_refused_and_never_anything_else(format_: str) -> None:
    chance, whole = random.Random(format_), encoded(format_)
    for _ in range(300):
        damaged = bytearray(whole)
        for _ in range(4):
            damaged[chance.randrange(min(200, len(damaged)))] = chance.randrange(256)
        try:
            open_picture(bytes(damaged[: chance.randrange(len(damaged))]))
        except ValueError:
            continue


@pytest.mark.parametrize("error", [struct.error("bad"), RuntimeError("bad"), ZeroDivisionError("bad"), MemoryError()])
def test_whatever_a_reader_of_pictures_raises_it_is_a_picture_that_can_not_be_read(
    monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(_: object) -> None:
        raise error

    monkeypatch.setattr(ImageOps, "exif_transpose", fail)

    with pytest.raises(ValueError, match="not a readable picture"):
        open_picture(encoded("PNG"))


def test_what_is_delivered_can_be_read_again() -> None:
    image = RawImage(4, 2, "RGBA", bytes(range(32)))

    assert (decode(encode_webp(image)).width, decode(encode_webp(image)).height) == (4, 2)


def test_webp_keeps_the_transparency_of_a_picture() -> None:
    picture = Image.new("RGBA", (64, 64), (200, 0, 0, 0))
    picture.paste((200, 0, 0, 255), (32, 0, 64, 64))

    delivered = Image.open(io.BytesIO(encode_webp(RawImage(64, 64, "RGBA", picture.tobytes()))))

    assert (delivered.format, delivered.mode) == ("WEBP", "RGBA")
    assert delivered.getchannel("A").tobytes() == picture.getchannel("A").tobytes()
    assert abs(delivered.getpixel((48, 32))[0] - 200) < 8
