"""
The site's volumes, looked at before CMD runs: the base model is the federation's, and there is data.

Holds: the digest is of what `LC_ALL=C sha256sum *.safetensors` prints in the model's folder, as rondo_trainer/model.py has it (a test
compares the two). Does not: read a record; which formats there are, CMD knows.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from rondo_trainer.exits import DataMalformedError, InputMissingError, OtherBaseModelError

from .settings import Settings
from .task_document import Task

READ_BYTES = 1 << 22


def check(task: Task, settings: Settings) -> None:
    if not (settings.model / "config.json").is_file():
        raise InputMissingError(f"{settings.model}/config.json does not exist; mount the base model there in the agent's pod template")
    if task.kind == "initialise":
        return  # it has neither weights nor data
    check_data(settings.data)
    found = weights_digest(settings.model)
    if found != task.base_digest:
        raise OtherBaseModelError(
            f"{settings.model} holds weights of {found}, but the federation trains on {task.base_name} ({task.base_revision}) "
            f"of {task.base_digest}; mount that model, or ask the coordinator to correct baseModel.digest"
        )


def check_data(folder: Path) -> None:
    files = [Path(where) / name for where, _, names in os.walk(folder) for name in names if not name.startswith(".")]
    if not files:
        what = "holds no file" if folder.is_dir() else "does not exist"
        raise InputMissingError(f"{folder} {what}; mount the site's data there in the agent's pod template")
    # A file may be a link into nowhere: how Kubernetes mounts ConfigMaps, half-way through a change.
    if not any(file.exists() and file.stat().st_size > 0 for file in files):
        raise DataMalformedError(f"{folder}: every file is empty; at least one record is needed")


def weights_digest(folder: Path) -> str:
    files = sorted(
        (file for file in folder.glob("*.safetensors") if not file.name.startswith(".")), key=lambda file: os.fsencode(file.name)
    )
    if not files:
        raise InputMissingError(f"{folder} holds no *.safetensors file; mount the base model there in the agent's pod template")
    listing = "".join(f"{file_sha256(file)}  {file.name}\n" for file in files)
    return f"sha256:{hashlib.sha256(listing.encode()).hexdigest()}"


def file_sha256(file: Path) -> str:
    digest = hashlib.sha256()
    try:
        with file.open("rb", buffering=0) as content:
            while True:
                block = content.read(READ_BYTES)
                if not block:
                    return digest.hexdigest()
                digest.update(block)
    except OSError as error:
        raise InputMissingError(f"{file} cannot be read: {error.strerror}; the trainer runs as a user without rights") from None
