"""Damage to files, by accident or on purpose."""

import io
import json
import os
import re
import struct
import warnings
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from random import Random

__all__ = ["disturb", "mutate", "mutate_text"]

_LONG = 4000
_DEEP = 3000
_NUMBERS = (0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**60, 2**63 - 1, 2**64 - 1)
_WORDS = (
    *("", "0", "-1", "1e999", "nan", "inf", "1000000000000", "9" * 5000, "1.5", "true", "null", "''", '""', "[]", "{}"),
    *("[1, 2]", "{a = 1}", '{"a": 1}', "\x00", "../../../canary", "/etc/passwd", "\\u0000", "\udcff", "A" * _LONG),
    *(
        "[" * _DEEP,
        "{a=" * _DEEP,
        '{"a":' * _DEEP,
        "a." * _DEEP,
        "1979-05-27T07:32:00Z",
        "0x7f",
        "🙂",
        "\r\n",
        ",,",
        '"',
    ),
)
_ODD_NAMES = (
    "two\nlines.jpg",
    "-1_c0_.jpg",
    "99999999999999999999_c1.jpg",
    "0001_c99999999999999999999_.jpg",
    "é\udcff.png",
)

Change = Callable[[bytes, Random], bytes]


def mutate(name: str, data: bytes, rng: Random) -> bytes:
    """A file changed in one to four places: as text, inside its container with the sums corrected, or blindly."""
    suffix = Path(name).suffix.lower()
    change = _INSIDE.get(suffix) or (_magic_change(data) if suffix else None)
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        blind = change is None or rng.random() < 0.4
        try:
            data = _blind(data, rng) if blind or change is None else change(data, rng)
        except Exception:
            data = _blind(data, rng)  # an earlier change broke the container
    return data


def mutate_text(data: bytes, rng: Random) -> bytes:
    """Text in which words, numbers or lines are others, missing, doubled, or no text at all."""
    text = data.decode("utf-8", "surrogateescape")
    spots = [found.span() for found in re.finditer(r"[\w.-]+|\"[^\"]*\"|[\[\]{},=:]", text)]
    kind = rng.randrange(5)
    if kind <= 2 and spots:
        start, end = rng.choice(spots)
        text = text[:start] + rng.choice(_WORDS) + text[end:]
    elif kind == 3:
        lines = text.splitlines(keepends=True) or [""]
        line = rng.randrange(len(lines))
        lines[line : line + 1] = rng.choice(([], [lines[line]] * 3, [rng.choice(lines)], [lines[line].strip()]))
        text = "".join(lines)
    else:
        return _blind(text.encode("utf-8", "surrogateescape"), rng)
    return text.encode("utf-8", "surrogateescape")


def disturb(folder: Path, rng: Random) -> None:
    """Put something into a folder that is no plain file: loops, pipes, folders with names of images."""
    places = [folder, *(path for path in folder.rglob("*") if path.is_dir() and not path.is_symlink())]
    place = rng.choice(places)
    files = [path for path in folder.rglob("*") if path.is_file()]
    name = rng.choice(("0001_c1s1_000009_01.jpg", "loop", "x.png", "list.txt", "query", rng.choice(_ODD_NAMES)))
    target = rng.choice(files) if files and rng.random() < 0.4 else place / name
    if target.is_file():
        target.unlink()
    if os.path.lexists(target):
        return
    kind = rng.randrange(6)
    if kind == 0:
        target.symlink_to(rng.choice((place, folder, target, Path("/dev/zero"), Path("/proc/self/mem"))))
    elif kind == 1:
        os.mkfifo(target)
    elif kind == 2:
        target.mkdir()
    elif kind == 3:
        target.write_bytes(b"")
    elif kind == 4:
        (place / rng.choice(_ODD_NAMES)).write_bytes(rng.randbytes(rng.randrange(64)))
    else:
        target.symlink_to("../" * rng.randrange(1, 9) + "etc/passwd")


def _blind(data: bytes, rng: Random) -> bytes:
    """Bytes flipped, set, cut off, inserted, doubled, or numbers of some width replaced, anywhere."""
    place, length = rng.randrange(len(data) + 1), 1 << rng.randrange(12)
    if rng.random() < 0.5:  # headers and footers decide more than contents
        place = min(place, 256) if rng.random() < 0.5 else max(place, len(data) - 256)
    head, tail = data[:place], data[place:]
    kind = rng.randrange(8)
    if kind == 0:
        return head + bytes([tail[0] ^ 1 << rng.randrange(8)]) + tail[1:] if tail else data
    if kind == 1:
        return head + bytes([rng.randrange(256)]) + tail[1:]
    if kind == 2:
        return head
    if kind == 3:
        return head + rng.randbytes(length) + tail
    if kind == 4:
        return head + tail[:length] * rng.choice((2, 3, 50)) + tail[length:]
    if kind == 5:
        return head + tail[length:]
    if kind == 6:
        return head + rng.choice((b"\x00" * length, b"\xff" * length, b"\xed\xa0\x80", b"A" * _LONG)) + tail
    width = rng.choice((1, 2, 4, 8))
    number: int = rng.choice(_NUMBERS) % 256**width
    return head + number.to_bytes(width, rng.choice(("little", "big"))) + tail[width:]


def _in_zip(data: bytes, rng: Random) -> bytes:
    """A zip archive, one of whose members is another, with the right checksum; or is missing, doubled or renamed."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = [(info.filename, archive.read(info)) for info in archive.infolist()]
    # What describes the others is more telling than a member picked evenly.
    telling = [index for index, (name, _) in enumerate(members) if name.endswith((".pkl", ".npy"))]
    index = rng.choice(telling) if telling and rng.random() < 0.8 else rng.randrange(len(members))
    name, content = members[index]
    kind = rng.randrange(8)
    if kind == 0:
        del members[index]
    elif kind == 1:
        members.append((rng.choice((name, f"../{name}", "/canary", "a" * _LONG)), content))
    elif kind == 2:
        members[index] = (rng.choice(("../canary", "x", f"{name}\x00", "/" + name)), content)
    else:
        inner = _in_npy if name.endswith(".npy") and rng.random() < 0.7 else _blind
        members[index] = (name, inner(content, rng))
    file = io.BytesIO()
    # What compresses well takes longer to write than to read, and is seldom more telling.
    method = rng.choice((*[zipfile.ZIP_STORED] * 8, zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA))
    with warnings.catch_warnings(action="ignore"), zipfile.ZipFile(file, "w", method) as archive:
        for member, value in members:
            archive.writestr(member, value)
    return file.getvalue()


def _in_npy(data: bytes, rng: Random) -> bytes:
    """An array whose header promises something else."""
    length = struct.unpack("<H", data[8:10])[0]
    header = data[10 : 10 + length].decode("latin1")
    shape = f"({', '.join(str(rng.choice((*_NUMBERS, -1, 3))) for _ in range(rng.randrange(4)))},)"
    if rng.random() < 0.5:
        header = re.sub(r"\(.*\)", lambda _: shape, header)
    elif rng.random() < 0.5:
        kind = rng.choice(("|O", "<f2", ">f8", "|V8", "<U100000", "|S3", "<c16", "<M8[s]", "|b1", "<i8", "f,O"))
        header = re.sub(r"'descr': '[^']*'", lambda _: f"'descr': '{kind}'", header)
    else:
        header = mutate_text(header.encode("latin1"), rng).decode("latin1")[:60_000]
    return data[:8] + struct.pack("<H", len(header)) + header.encode("latin1") + data[10 + length :]


def _in_safetensors(data: bytes, rng: Random) -> bytes:
    """A file whose header says something else, with the right length."""
    length = struct.unpack("<Q", data[:8])[0]
    header, body = data[8 : 8 + length], data[8 + length :]
    if rng.random() < 0.5:
        table = json.loads(header)
        entry = table[rng.choice([name for name in table if name != "__metadata__"])]
        key = rng.choice(("dtype", "shape", "data_offsets"))
        entry[key] = rng.choice((["F64", "BF16", "BOOL", "I8", "F8_E4M3"], [[0], [2**60], [1, 2, 3]], [[0, 0]]))[0]
        entry[key] = rng.choice((entry[key], [rng.choice(_NUMBERS) for _ in range(2)], "F16", None))
        header = json.dumps(table).encode()
    else:
        header = mutate_text(header, rng)
    return struct.pack("<Q", len(header)) + header + body


def _in_png(data: bytes, rng: Random) -> bytes:
    """An image one of whose chunks is another, with the right checksum."""
    chunks, at = [], 8
    while at + 12 <= len(data):
        length = struct.unpack(">I", data[at : at + 4])[0]
        chunks.append((data[at + 4 : at + 8], data[at + 8 : at + 8 + length]))
        at += 12 + length
    index = rng.randrange(len(chunks))
    kind, content = chunks[index]
    if kind == b"IHDR" and rng.random() < 0.7:
        size = [rng.choice((0, 1, 16, 5000, 60_000, 2**31 - 1)) for _ in range(2)]
        content = struct.pack(">II", *size) + bytes(
            [rng.choice((1, 2, 4, 8, 16)), rng.randrange(7), 0, 0, rng.randrange(3)]
        )
    elif kind == b"IDAT" and rng.random() < 0.5:
        content = zlib.compress(_blind(zlib.decompress(content), rng))
    else:
        content = _blind(content, rng)
    chunks[index] = (kind, content)
    if rng.random() < 0.2:
        chunks.insert(1, (rng.choice((b"tRNS", b"PLTE", b"iCCP", b"zTXt", b"eXIf", b"acTL")), rng.randbytes(30)))
    return data[:8] + b"".join(
        struct.pack(">I", len(value)) + name + value + struct.pack(">I", zlib.crc32(name + value))
        for name, value in chunks
    )


def _magic_change(data: bytes) -> Change | None:
    """How to change a file that is named for one kind and begins like another."""
    return _in_zip if data.startswith(b"PK") else None


_INSIDE: dict[str, Change] = {
    **dict.fromkeys((".pt", ".npz"), _in_zip),
    **dict.fromkeys((".toml", ".json", ".jsonl", ".txt", ".csv", ".set"), mutate_text),
    ".npy": _in_npy,
    ".safetensors": _in_safetensors,
    ".png": _in_png,
}
