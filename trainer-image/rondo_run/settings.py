"""
What the Job and the site's pod template say to rondo-run, from the environment (docs/trainer.md).

Holds: read once, by __main__.py. CMD gets the folders and never the way to the agent: who does not know of Rondo needs no token.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from rondo_trainer.exits import InputMissingError, TrainerError

GRACE_SECONDS = 25
"""A pod has 30 s by Kubernetes' own default; five are left for the end of rondo-run itself."""

USUAL_INBOX = Path("/rondo/in")

AGENT_VARIABLES = ("RONDO_TASK_URL", "RONDO_TASK_CA", "RONDO_TASK_TOKEN_FILE")


@dataclass(frozen=True)
class Settings:
    """inbox, outbox: $RONDO_IN and $RONDO_OUT, both writable."""

    url: str
    ca_file: Path
    token_file: Path
    inbox: Path
    outbox: Path
    model: Path
    data: Path
    grace_seconds: float

    def command_environment(self, env: Mapping[str, str]) -> dict[str, str]:
        folders = {
            "RONDO_IN": str(self.inbox),
            "RONDO_OUT": str(self.outbox),
            "RONDO_MODEL": str(self.model),
            "RONDO_DATA": str(self.data),
        }
        return {**{name: value for name, value in env.items() if name not in AGENT_VARIABLES}, **folders}


def read_settings(env: Mapping[str, str]) -> Settings:
    missing = [name for name in AGENT_VARIABLES if not env.get(name)]
    if missing:
        raise TrainerError(f"{', '.join(missing)} not set; rondo-run is started by an agent's Job, or by rondo-trainer-check")
    outbox = writable(Path(env.get("RONDO_OUT") or "/rondo/out"), "RONDO_OUT")
    return Settings(
        url=env["RONDO_TASK_URL"],
        ca_file=Path(env["RONDO_TASK_CA"]),
        token_file=Path(env["RONDO_TASK_TOKEN_FILE"]),
        inbox=chosen_inbox(env.get("RONDO_IN"), outbox),
        outbox=outbox,
        model=Path(env.get("RONDO_MODEL") or "/rondo/model"),
        data=Path(env.get("RONDO_DATA") or "/rondo/data"),
        grace_seconds=seconds(env.get("RONDO_GRACE_SECONDS") or str(GRACE_SECONDS)),
    )


def chosen_inbox(given: str | None, outbox: Path) -> Path:
    """The root of an agent's pod is read-only: /rondo/in can be written only where the site's template mounts a volume there."""
    if given:
        return writable(Path(given), "RONDO_IN")
    try:
        return writable(USUAL_INBOX, "RONDO_IN")
    except InputMissingError:
        return writable(outbox / "in", "RONDO_IN")


def writable(folder: Path, variable: str) -> Path:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputMissingError(f"{variable}: {folder} cannot be made ({error.strerror}); mount an empty volume there") from None
    if not os.access(folder, os.W_OK | os.X_OK):
        raise InputMissingError(f"{variable}: {folder} cannot be written; mount a volume that user {os.getuid()} may write")
    return folder.resolve()


def seconds(text: str) -> float:
    if not text.isdecimal() or not 1 <= int(text) <= 3600:
        raise TrainerError(f"RONDO_GRACE_SECONDS is {text!r}; it must be a whole number from 1 to 3600")
    return float(text)
