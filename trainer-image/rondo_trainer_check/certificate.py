"""
The certificate of the checker's agent: self-signed, of one address, made with openssl: Python's library reads certificates only.
"""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path


class OpensslError(Exception):
    """No openssl, or one that cannot do it."""


@dataclass(frozen=True)
class Certificate:
    file: Path
    key: Path


def make_certificate(folder: Path, address: str) -> Certificate:
    folder.mkdir(parents=True, exist_ok=True)
    made = Certificate(folder / "ca.crt", folder / "tls.key")
    subject = ["-subj", "/CN=rondo-trainer-check", "-addext", f"subjectAltName=IP:{address}", "-days", "2"]
    curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    try:
        subprocess.run(
            ["openssl", "req", "-x509", *curve, "-keyout", made.key, "-out", made.file, *subject], check=True, capture_output=True
        )
    except FileNotFoundError:
        raise OpensslError("there is no openssl command, which makes the certificate of the task API; install openssl") from None
    except subprocess.CalledProcessError as error:
        said = error.stderr.decode("utf-8", "replace").strip().rpartition("\n")[2]
        raise OpensslError(f"openssl made no certificate of {address} ({said}); version 1.1.1 or later is needed") from None
    return made
