"""A network that tells a picture's subject from its background, as rembg loads it: what is red is subject.

ONNX, written by hand: one convolution and a sigmoid are not worth a package of the engine's environment.
"""

import struct

#: Side of the square that rembg shows the network.
SIDE_PX = 320
#: Weights of red, green and blue as rembg normalises them, and the bias: beyond doubt on either side.
WEIGHTS, BIAS = (20.0, -10.0, -10.0), 0.0
FLOAT, IR_VERSION, OPSET = 1, 8, 13


def u2net() -> bytes:
    convolution = _node("Conv", ["picture", "weights", "bias"], "odds")
    sigmoid = _node("Sigmoid", ["odds"], "mask")
    graph = (
        _field(1, convolution)
        + _field(1, sigmoid)
        + _field(2, b"subject")
        + _field(5, _tensor("weights", (1, 3, 1, 1), WEIGHTS))
        + _field(5, _tensor("bias", (1,), (BIAS,)))
        + _field(11, _value("picture", (1, 3, SIDE_PX, SIDE_PX)))
        + _field(12, _value("mask", (1, 1, SIDE_PX, SIDE_PX)))
    )
    return _number(1, IR_VERSION) + _field(7, graph) + _field(8, _field(1, b"") + _number(2, OPSET))


def _node(kind: str, inputs: list[str], output: str) -> bytes:
    return b"".join(_field(1, name.encode()) for name in inputs) + _field(2, output.encode()) + _field(4, kind.encode())


def _tensor(name: str, shape: tuple[int, ...], values: tuple[float, ...]) -> bytes:
    sides = b"".join(_number(1, side) for side in shape)
    return sides + _number(2, FLOAT) + _field(8, name.encode()) + _field(9, struct.pack(f"<{len(values)}f", *values))


def _value(name: str, shape: tuple[int, ...]) -> bytes:
    sides = b"".join(_field(1, _number(1, side)) for side in shape)
    return _field(1, name.encode()) + _field(2, _field(1, _number(1, FLOAT) + _field(2, sides)))


def _field(number: int, content: bytes) -> bytes:
    """A part of a protocol buffer that has a length."""
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _number(number: int, value: int) -> bytes:
    return _varint(number << 3) + _varint(value)


def _varint(value: int) -> bytes:
    octets = bytearray()
    while value > 0x7F:
        octets.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes(octets + bytes([value]))
