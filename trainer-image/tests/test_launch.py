"""Several processes that train one adapter: what one makes alone, and whose exit code counts."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from rondo_trainer.exits import DATA_MALFORMED, TERMINATED
from rondo_trainer.launch import run_ranks
from rondo_trainer.site_settings import gpus_of_container

IMAGE = Path(__file__).parent.parent


def ranks(body: str) -> list[str]:
    return [sys.executable, "-c", f"import os, sys, time; rank = int(os.environ['RANK']); {body}"]


def test_all_done_is_done() -> None:
    assert run_ranks(ranks("sys.exit(0)"), 3) == 0


@pytest.mark.parametrize("failing", [0, 2])
def test_the_first_failure_is_the_tasks_exit_code_and_ends_the_others(failing: int) -> None:
    started = time.monotonic()
    assert run_ranks(ranks(f"sys.exit({DATA_MALFORMED}) if rank == {failing} else time.sleep(600)"), 3) == DATA_MALFORMED
    assert time.monotonic() - started < 60


def test_a_process_that_was_killed_has_the_code_that_a_shell_gives_it() -> None:
    assert run_ranks(ranks("os.kill(os.getpid(), 9)"), 2) == 128 + signal.SIGKILL


WAITS = "signal.signal(signal.SIGTERM, lambda *_: sys.exit(143)); os.write(1, b'up\\n'); time.sleep(600)"


def test_sigterm_reaches_every_rank() -> None:
    rank = [sys.executable, "-c", f"import os, signal, sys, time; {WAITS}"]
    program = f"import sys; from rondo_trainer.launch import run_ranks; sys.exit(run_ranks({rank!r}, 2))"
    parent = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, cwd=IMAGE)
    assert parent.stdout is not None
    assert [parent.stdout.readline() for _ in range(2)] == ["up\n", "up\n"]
    parent.terminate()
    assert parent.wait(60) == TERMINATED
    assert parent.stdout.read() == ""


def test_gpus_are_counted_by_the_device_files_that_the_container_got(tmp_path) -> None:
    assert gpus_of_container(tmp_path) == 1
    for name in ("nvidia0", "nvidia3", "nvidiactl", "nvidia-uvm", "null"):
        (tmp_path / name).touch()
    assert gpus_of_container(tmp_path) == 2
