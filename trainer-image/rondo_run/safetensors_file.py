"""
A safetensors file read with the standard library: its header, and whether its values are finite.

Holds: at most HEADER_BYTES of header are read whatever the file claims; the tensors cover the data exactly once; a fault is a sentence
about this file. Does not: know what an adapter must look like (adapter_files.py).
"""

from __future__ import annotations

import json
import math
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

HEADER_BYTES = 16 << 20
"""As the agent's own reader: 20,000 tensors with long names."""
CHUNK_BYTES = 1 << 20
VALUE_BYTES = {"F32": 4, "F16": 2, "BF16": 2}


class SafetensorsError(Exception):
    """What is wrong with the file, to follow its name."""


@dataclass(frozen=True)
class Tensor:
    """start, end: bytes from the start of the file."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int


def read_header(file: Path) -> dict[str, Tensor]:
    """Tensors by name; of any dtype."""
    try:
        with file.open("rb") as content:
            size = file.stat().st_size
            prefix = content.read(8)
            length = int.from_bytes(prefix, "little")
            if len(prefix) < 8 or length > min(HEADER_BYTES, size - 8):
                raise SafetensorsError(f"is no safetensors file: {size} bytes, and its header would have {length}")
            text = content.read(length)
    except OSError as error:
        raise SafetensorsError(f"cannot be read ({error.strerror})") from None
    return placed(parse_header(text), 8 + length, size)


def parse_header(text: bytes) -> dict[str, Any]:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            raise SafetensorsError("has a header that names something twice")
        return found

    try:
        header = json.loads(text, object_pairs_hook=unique)
    except (ValueError, RecursionError):
        raise SafetensorsError("has a header that is not JSON") from None
    if not isinstance(header, dict):
        raise SafetensorsError("has a header that is no JSON object")
    return {name: entry for name, entry in header.items() if name != "__metadata__"}


def placed(header: dict[str, Any], data_start: int, size: int) -> dict[str, Tensor]:
    tensors = {name: tensor_of(name, entry, data_start) for name, entry in header.items()}
    at = data_start
    for tensor in sorted(tensors.values(), key=lambda tensor: (tensor.start, tensor.end)):
        if tensor.start != at:
            raise SafetensorsError(f"has a gap or an overlap before {tensor.name}")
        at = tensor.end
    if at != size:
        raise SafetensorsError(f"has {size} bytes, but its tensors end at {at}; was it written whole?")
    return tensors


def tensor_of(name: str, entry: Any, data_start: int) -> Tensor:
    try:
        dtype, shape, (start, end) = entry["dtype"], entry["shape"], entry["data_offsets"]
        is_sound = isinstance(dtype, str) and all(type(value) is int and value >= 0 for value in (*shape, start, end))
    except (TypeError, KeyError, ValueError):
        is_sound = False
    if not is_sound:
        raise SafetensorsError(f"has a header whose entry {name[:120]!r} lacks dtype, shape or data_offsets")
    width = VALUE_BYTES.get(dtype)
    if start > end or (width is not None and end - start != width * math.prod(shape)):
        raise SafetensorsError(f"has a tensor {name} whose shape does not fit its bytes")
    return Tensor(name, dtype, tuple(shape), data_start + start, data_start + end)


def first_not_finite(file: Path, tensors: dict[str, Tensor]) -> str | None:
    """Name of a tensor with a NaN or an infinity in it. All must be F32, F16 or BF16. 40 million values take about a second."""
    with file.open("rb") as content:
        for tensor in tensors.values():
            if not is_finite(content, tensor):
                return tensor.name
    return None


def is_finite(content: BinaryIO, tensor: Tensor) -> bool:
    content.seek(tensor.start)
    left = tensor.end - tensor.start
    while left > 0:
        chunk = content.read(min(CHUNK_BYTES, left))
        if not chunk:
            return False
        # A sum of doubles cannot overflow from values of 32 bits, and neither NaN nor infinity leaves it again.
        if not math.isfinite(sum(values_of(chunk, tensor.dtype))):
            return False
        left -= len(chunk)
    return True


def values_of(chunk: bytes, dtype: str) -> tuple[float, ...]:
    if dtype == "BF16":  # the upper half of a float32
        wide = bytearray(2 * len(chunk))
        wide[2::4], wide[3::4] = chunk[0::2], chunk[1::2]
        return struct.unpack(f"<{len(chunk) // 2}f", wide)
    return struct.unpack(f"<{len(chunk) // VALUE_BYTES[dtype]}{'e' if dtype == 'F16' else 'f'}", chunk)
