"""
rondo-run as one file: `python -m rondo_run.bundle TARGET` writes an executable zip of a few 10 KB that any Python 3.9 or later runs.

Holds: equal sources make equal bytes, so that an image's layer does not change by being built again.
"""

from __future__ import annotations

import io
import sys
import zipfile
from pathlib import Path

PACKAGES = Path(__file__).resolve().parents[1]
SHARED = ("__init__.py", "client.py", "exits.py")
"""Of rondo_trainer; they import the standard library and each other only."""
START = "import sys\n\nfrom rondo_run.__main__ import main\n\nsys.exit(main())\n"


def main() -> int:
    if len(sys.argv) != 2 or sys.argv[1].startswith("-"):
        print("usage: python -m rondo_run.bundle TARGET", file=sys.stderr)
        return 2
    write_bundle(Path(sys.argv[1]))
    return 0


def write_bundle(target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as bundle:
        add(bundle, "__main__.py", START)
        for file in modules():
            add(bundle, file.relative_to(PACKAGES).as_posix(), file.read_text(encoding="utf-8"))
    target.write_bytes(b"#!/usr/bin/env python3\n" + archive.getvalue())
    target.chmod(0o755)


def modules() -> list[Path]:
    return [*(PACKAGES / "rondo_trainer" / name for name in SHARED), *sorted((PACKAGES / "rondo_run").glob("*.py"))]


def add(bundle: zipfile.ZipFile, name: str, text: str) -> None:
    entry = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
    entry.compress_type = zipfile.ZIP_DEFLATED
    entry.external_attr = 0o644 << 16
    bundle.writestr(entry, text)


if __name__ == "__main__":
    sys.exit(main())
