"""
Where the graph goes: checked before hours of work, filled out of sight, and seen only when it is whole.

Holds: while the graph is written and checked it stands in a hidden folder beside its place; whatever ends the work before the
end, SIGTERM too, takes that folder away. A file that exists is never replaced: an evaluation may be reading it.
"""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..exits import TaskNotUnderstoodError, TrainerError
from .trace import data_name

SPARE_BYTES = 64 << 20
"""Beside the weights: the graph itself, a few MB, and adapters of the check."""


def require_place(out: Path) -> None:
    """
    Raises:
        TaskNotUnderstoodError: the graph cannot go there.
    """
    if out.suffix != ".onnx":
        raise TaskNotUnderstoodError(f"--out is {out}; it must be the name of a file that ends in .onnx")
    if not out.parent.is_dir():
        raise TaskNotUnderstoodError(f"--out is {out}, but there is no folder {out.parent}; create it or mount a volume there")
    for file in (out, out.with_name(data_name(out))):
        if file.exists():
            raise TaskNotUnderstoodError(f"--out: {file} exists; remove it or choose another name")


def require_room(free_bytes: int, weights_bytes: int, out: Path) -> None:
    needed = weights_bytes + SPARE_BYTES
    if free_bytes < needed:
        raise TrainerError(f"{out.parent} has {megabytes(free_bytes)} free, but the graph takes {megabytes(needed)}; choose another folder")


def megabytes(count: int) -> str:
    return f"{count / 1e6:,.0f} MB"


@contextmanager
def staged(out: Path) -> Iterator[Path]:
    """
    The file to write instead of out; when the block ends well, it and its data move to their place, the graph last, because
    readers look for it.

    Raises:
        TrainerError: the folder cannot be written, or the disk is full.
    """
    data = out.with_name(data_name(out))
    try:
        with tempfile.TemporaryDirectory(prefix=f".{out.name}-", dir=out.parent) as folder:
            hidden = Path(folder) / out.name
            yield hidden
            try:
                hidden.with_name(data.name).rename(data)
                hidden.rename(out)
            except BaseException:
                data.unlink(missing_ok=True)
                raise
    except OSError as error:
        raise TrainerError(f"{out} cannot be written: {error.strerror or error}; nothing of it is left") from None
