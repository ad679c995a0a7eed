"""Prints worker/engine/lock/uv.txt for a version of uv: `tools/in-runtime python -m tools.uv_pins 0.13.9 > …/uv.txt`.

The set-up has to unpack uv before anything but a shell is there. A wheel is a zip file, and what lies in a zip file is
what lies in a .gz file: so the place of the program in each wheel is noted here, with the end that makes it a .gz file.
"""

import hashlib
import json
import struct
import sys
import urllib.request
import zipfile
from collections.abc import Iterator
from io import BytesIO

INDEX = "https://pypi.org/simple/uv/"
TIMEOUT_S = 120.0
#: What the start scripts call a system -> how the name of its wheel ends.
SYSTEMS = {
    "linux-x86_64-gnu": "-py3-none-manylinux_2_17_x86_64.manylinux2014_x86_64.whl",
    "linux-x86_64-musl": "-py3-none-musllinux_1_1_x86_64.whl",
    "linux-aarch64-gnu": "-py3-none-manylinux_2_28_aarch64.whl",
    "linux-aarch64-musl": "-py3-none-manylinux_2_17_aarch64.manylinux2014_aarch64.musllinux_1_1_aarch64.whl",
    "macos-arm64": "-py3-none-macosx_11_0_arm64.whl",
    "macos-x86_64": "-py3-none-macosx_10_12_x86_64.whl",
    "windows-x86_64": "-py3-none-win_amd64.whl",
    "windows-arm64": "-py3-none-win_arm64.whl",
}
HEAD = """\
# The uv that the set-up uses, by system: worker/engine/install/fetch-uv.sh and .cmd read this. From PyPI, whose sha256
# each wheel must have. Made by tools/uv_pins.py.
# system  version  address below https://files.pythonhosted.org/packages  sha256 of the wheel  bytes of the wheel
#   first byte of the packed program  its packed length  crc32 and length of the program, as the end of a .gz file
"""
#: Of a local file header in a zip file: its fixed length, and where the lengths of name and extra field stand.
LOCAL_HEADER, NAME_LENGTHS = 30, slice(26, 30)


def row(system: str, version: str, address: str, wheel: bytes) -> str:
    """A line of the table for a wheel."""
    with zipfile.ZipFile(BytesIO(wheel)) as archive:
        program = "uv.exe" if system.startswith("windows") else "uv"
        [member] = [info for info in archive.infolist() if info.filename.endswith(f".data/scripts/{program}")]
    if member.compress_type != zipfile.ZIP_DEFLATED:
        raise SystemExit(f"{address}: the program is not packed as a .gz file would have it.")
    name, extra = struct.unpack("<HH", wheel[member.header_offset :][NAME_LENGTHS])
    begin = member.header_offset + LOCAL_HEADER + name + extra
    end = struct.pack("<II", member.CRC, member.file_size).hex()
    digest = hashlib.sha256(wheel).hexdigest()
    return f"{system} {version} {address} {digest} {len(wheel)} {begin} {member.compress_size} {end}"


def rows(version: str) -> Iterator[str]:
    page = urllib.request.Request(INDEX, headers={"Accept": "application/vnd.pypi.simple.v1+json"})
    with urllib.request.urlopen(page, timeout=TIMEOUT_S) as response:  # noqa: S310 - our own constant
        files = {file["filename"]: file for file in json.load(response)["files"]}
    for system, suffix in SYSTEMS.items():
        file = files[f"uv-{version}{suffix}"]
        with urllib.request.urlopen(file["url"], timeout=TIMEOUT_S) as response:  # noqa: S310 - PyPI's own address
            wheel = response.read()
        if hashlib.sha256(wheel).hexdigest() != file["hashes"]["sha256"]:
            raise SystemExit(f"{file['filename']} is not what the index says.")
        yield row(system, version, file["url"].partition("/packages/")[2], wheel)


if __name__ == "__main__":
    sys.stdout.write(HEAD)
    for line in rows(sys.argv[1]):
        sys.stdout.write(f"{line}\n")
