"""Pictures at the borders."""

import io

from PIL import Image

from worker.images import RawImage, encode_webp
from worker.untrusted.pictures import open_picture


def test_what_is_delivered_can_be_read_again() -> None:
    image = RawImage(4, 2, "RGBA", bytes(range(32)))

    assert RawImage.from_pillow(open_picture(encode_webp(image))).width == 4


def test_webp_keeps_the_transparency_of_a_picture() -> None:
    picture = Image.new("RGBA", (64, 64), (200, 0, 0, 0))
    picture.paste((200, 0, 0, 255), (32, 0, 64, 64))

    delivered = Image.open(io.BytesIO(encode_webp(RawImage(64, 64, "RGBA", picture.tobytes()))))

    assert (delivered.format, delivered.mode) == ("WEBP", "RGBA")
    assert delivered.getchannel("A").tobytes() == picture.getchannel("A").tobytes()
    assert abs(delivered.getpixel((48, 32))[0] - 200) < 8
