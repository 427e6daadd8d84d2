"""
Ways to start a trainer: a command on this machine, or an image in a container with the restrictions of an agent's pod.

Holds: both get the same variables and folders; a Started can be asked to end as Kubernetes does it (SIGTERM to the first process) and be
ended for good. Does not: wait or judge (trial.py).
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

USER = 10_001
"""As the agent's pods, for an image that names no user."""


@dataclass(frozen=True)
class Access:
    """What the Job tells its trainer; data is None where the site has mounted none."""

    url: str
    secret: Path
    model: Path
    data: Path | None
    scratch: Path


@dataclass(frozen=True)
class Started:
    process: subprocess.Popen[bytes]
    container: tuple[str, ...] = ()
    """How to remove it, where it is one."""

    def terminate(self) -> None:
        # `podman run` and `docker run` pass the signal on to the container's first process.
        self.process.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        if self.container:
            subprocess.run(self.container, capture_output=True, check=False)
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


class Launch(Protocol):
    """name: for the report; address: where the trainer reaches this machine."""

    name: str
    address: str

    def start(self, access: Access, output: Path) -> Started: ...


def spawn(argv: Sequence[str], env: dict[str, str] | None, folder: Path, output: Path) -> subprocess.Popen[bytes]:
    with output.open("wb") as into:
        return subprocess.Popen(
            argv, env=env, cwd=folder, stdin=subprocess.DEVNULL, stdout=into, stderr=subprocess.STDOUT, start_new_session=True
        )


class CommandLaunch:
    """
    The command runs as this user, with this environment and the task's variables, in an empty folder, so that what it writes there is
    seen; a word that names a file from here still does.
    """

    address = "127.0.0.1"

    def __init__(self, argv: Sequence[str]) -> None:
        self.argv = [str(Path(word).absolute()) if Path(word).is_file() else word for word in argv]
        self.name = f"command {' '.join(argv)}"

    def start(self, access: Access, output: Path) -> Started:
        folders = {name: access.scratch / name for name in ("work", "in", "out", "tmp")}
        for folder in folders.values():
            folder.mkdir()
        env = {
            **os.environ,
            "RONDO_TASK_URL": access.url,
            "RONDO_TASK_CA": str(access.secret / "ca.crt"),
            "RONDO_TASK_TOKEN_FILE": str(access.secret / "token"),
            "RONDO_MODEL": str(access.model),
            "RONDO_DATA": str(access.data or access.scratch / "no-data"),
            "RONDO_IN": str(folders["in"]),
            "RONDO_OUT": str(folders["out"]),
            "TMPDIR": str(folders["tmp"]),
            "HOME": str(folders["tmp"]),
            "HF_HOME": str(folders["tmp"] / "huggingface"),
            "HF_HUB_OFFLINE": "1",
            "TRANSFORMERS_OFFLINE": "1",
        }
        return Started(spawn(self.argv, env, folders["work"], output))


class ImageLaunch:
    """The image's own entry point, in a container of podman, docker or nerdctl."""

    def __init__(self, runtime: str, image: str, network: str, address: str) -> None:
        self.runtime, self.image, self.network, self.address = runtime, image, network, address
        self.name = f"image {image} with {runtime}"

    def start(self, access: Access, output: Path) -> Started:
        name = f"rondo-trainer-check-{os.getpid()}-{access.scratch.name}"
        process = spawn(self.argv(access, name), None, access.scratch, output)
        return Started(process, (self.runtime, "rm", "--force", name))

    def argv(self, access: Access, name: str) -> list[str]:
        env = {
            "RONDO_TASK_URL": access.url,
            "RONDO_TASK_CA": "/rondo/task/ca.crt",
            "RONDO_TASK_TOKEN_FILE": "/rondo/task/token",
            "HF_HUB_OFFLINE": "1",
            "TRANSFORMERS_OFFLINE": "1",
            "HOME": "/tmp",
            "HF_HOME": "/tmp/huggingface",
        }
        mounts = [(access.secret, "/rondo/task"), (access.model, "/rondo/model")]
        if access.data is not None:
            mounts.append((access.data, "/rondo/data"))
        return [
            *(self.runtime, "run", "--rm", "--name", name, "--network", self.network),
            *("--read-only", "--user", f"{USER}:{USER}", "--cap-drop", "ALL", "--security-opt", "no-new-privileges"),
            *("--tmpfs", f"/rondo/out:rw,mode=1777,uid={USER},gid={USER}", "--tmpfs", "/tmp:rw,mode=1777"),
            *(word for name, value in env.items() for word in ("--env", f"{name}={value}")),
            *(word for source, target in mounts for word in ("--volume", f"{source.resolve()}:{target}:ro")),
            self.image,
        ]


class NetworkError(Exception):
    """The container runtime has no network that reaches this machine and nothing else."""


def gateway_of(inspected: str) -> str:
    """
    The address at which a bridge network's containers reach this machine, from `network inspect`: docker and nerdctl have it in
    IPAM.Config, podman in subnets.
    """
    try:
        network = json.loads(inspected)[0]
        found = network["subnets"][0]["gateway"] if "subnets" in network else network["IPAM"]["Config"][0]["Gateway"]
    except (ValueError, LookupError, TypeError):
        raise NetworkError("`network inspect` names no gateway; give a network and its address with --network and --address") from None
    return str(found).partition("/")[0]


class InternalNetwork:
    """A bridge network without a way out, for as long as it is entered: the agent pod's NetworkPolicy in small."""

    def __init__(self, runtime: str) -> None:
        self.runtime = runtime
        self.name = f"rondo-trainer-check-{os.getpid()}"

    def __enter__(self) -> InternalNetwork:
        self.ask("create", "--internal", self.name)
        self.address = gateway_of(self.ask("inspect", self.name))
        return self

    def __exit__(self, *_: object) -> None:
        subprocess.run([self.runtime, "network", "rm", self.name], capture_output=True, check=False)

    def ask(self, *words: str) -> str:
        try:
            done = subprocess.run([self.runtime, "network", *words], check=True, capture_output=True, text=True)
        except FileNotFoundError:
            raise NetworkError(f"there is no {self.runtime} command; install it or choose another --runtime") from None
        except subprocess.CalledProcessError as error:
            raise NetworkError(f"{self.runtime} network {words[0]} failed: {error.stderr.strip()[-300:]}") from None
        return done.stdout
