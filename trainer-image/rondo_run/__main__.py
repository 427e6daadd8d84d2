"""
The course of `rondo-run CMD…`: fetch, check, run, check, deliver (docs/trainer.md).

Owns environment, signals, exit code and what is printed; the other modules know nothing of them. Whatever can be refused before CMD
runs is refused before: a wrong base model must not cost two hours of training.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
import traceback
from pathlib import Path
from typing import Any

from rondo_trainer import exits
from rondo_trainer.client import TaskClient
from rondo_trainer.exits import TrainerError

from . import adapter_files, result_document, site_files
from .child import Command, Deadline, run_command
from .progress_file import ProgressFile
from .settings import Settings, read_settings
from .stop_signal import StopSignal
from .task_document import Task, read_task

DESCRIPTION = """\
Runs CMD as one task of a Rondo agent. CMD needs to know files only:

  read   $RONDO_IN/task.json                            what to do: kind, seed, training.steps, …
         $RONDO_IN/adapter/adapter_config.json          the adapter to start from, a folder that PEFT loads
         $RONDO_IN/adapter/adapter_model.safetensors
         $RONDO_IN/candidate/…                          likewise, in an evaluate task: what to compare it with
         $RONDO_MODEL, $RONDO_DATA                      the base model and the site's data, from the site's volumes
  write  $RONDO_OUT/progress.jsonl                      optional: a line {"step":1,"steps":40,"loss":2.5,"tokensPerSecond":900} per step
         $RONDO_OUT/adapter/adapter_model.safetensors   in train and initialise tasks: every tensor of the parent, its name and shape
         $RONDO_OUT/result.json                         examples, steps, tokens, trainLoss, heldOut; the rest is filled in

CMD is started without a shell and without the task's token. When it ends with 0, adapter and result are checked and delivered."""

EPILOG = """\
environment:
  RONDO_TASK_URL, RONDO_TASK_CA, RONDO_TASK_TOKEN_FILE   set by the agent's Job
  RONDO_IN              default /rondo/in, or $RONDO_OUT/in where that cannot be written
  RONDO_OUT, RONDO_MODEL, RONDO_DATA                     default /rondo/out, /rondo/model, /rondo/data
  RONDO_GRACE_SECONDS   default 25: how long CMD has to end after SIGTERM. Below the pod's terminationGracePeriodSeconds (30)

exit codes:
  0 delivered; CMD's own code where it is not 0 (128 + n after signal n; 126, 127: it cannot be started); 143 after SIGTERM; else
  64 the task is not understood        65 the data is empty          66 data or base model are missing
  69 another base model                70 values are not finite      76 what CMD left, or what the agent was sent, is refused
  77 the site's privacy budget forbids it (of a CMD that honours recordPrivacy)
  1  the agent stayed away until the deadline. 64 to 78 mean that nobody tries again; docs/trainer.md has the table."""


def main(arguments: list[str] | None = None) -> int:
    options = parse_arguments(sys.argv[1:] if arguments is None else arguments)
    stop = StopSignal(say)
    signal.signal(signal.SIGTERM, stop.receive)
    signal.signal(signal.SIGINT, stop.receive)
    try:
        return run_task(options, read_settings(os.environ), stop)
    except TrainerError as error:
        say(f"exit {error.code}, {exits.MEANING.get(error.code, 'the command cannot be started')}: {error}")
        return error.code
    except Exception:
        traceback.print_exc()
        return exits.RETRY


def parse_arguments(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="rondo-run",
        usage="rondo-run [--honours FIELD]… CMD [ARG]…",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--honours",
        action="append",
        default=[],
        choices=["frozen", "recordPrivacy"],
        metavar="FIELD",
        help="CMD does what this field of task.json asks for: frozen or recordPrivacy. Without it such a task is refused with 64",
    )
    parser.add_argument("command", nargs=argparse.REMAINDER, metavar="CMD", help="program and arguments, run as they are")
    options = parser.parse_args(arguments)
    if options.command[:1] == ["--"]:
        options.command = options.command[1:]
    if not options.command:
        parser.error("CMD is missing; say which program trains")
    return options


def say(sentence: str) -> None:
    print(f"rondo-run: {sentence}", file=sys.stderr, flush=True)


def run_task(options: argparse.Namespace, settings: Settings, stop: StopSignal) -> int:
    started = time.monotonic()
    client = TaskClient(settings.url, settings.ca_file, settings.token_file)
    text = client.task()
    task = read_task(text, set(options.honours))
    client.deadline_ms = task.deadline_ms
    site_files.check(task, settings)
    fetch(client, task, text, settings.inbox)
    clear(settings.outbox)
    progress = ProgressFile(settings.outbox / "progress.jsonl", task.steps, client.progress, say)
    say(f"{task.kind} task, inputs in {settings.inbox}; running {options.command[0]}")
    command = Command(options.command, settings.command_environment(os.environ), settings.grace_seconds)
    code = run_command(command, Deadline(task.deadline_ms), stop, progress.follow)
    if code != 0:
        say(f"exit {code}: {options.command[0]} ended with it; nothing is delivered")
        return code
    deliver(client, task, settings, time.monotonic() - started)
    say(f"delivered after {time.monotonic() - started:.1f} s")
    return exits.DONE


def fetch(client: TaskClient, task: Task, text: bytes, inbox: Path) -> None:
    (inbox / "task.json").write_bytes(text)
    for name in task.adapters:
        folder = inbox / name
        folder.mkdir(exist_ok=True)
        (folder / adapter_files.CONFIG).write_text(adapter_files.config_text(task))
        client.download(f"/v1/task/{name}", folder / adapter_files.WEIGHTS)
        adapter_files.check_given(folder / adapter_files.WEIGHTS, task, name)


def clear(outbox: Path) -> None:
    """What an earlier run left must not be delivered as this one's."""
    for name in ("progress.jsonl", "result.json", f"adapter/{adapter_files.WEIGHTS}"):
        (outbox / name).unlink(missing_ok=True)
    (outbox / "adapter").mkdir(parents=True, exist_ok=True)


def deliver(client: TaskClient, task: Task, settings: Settings, seconds: float) -> None:
    filled: dict[str, Any] = {"seconds": round(seconds, 3)}
    file = settings.outbox / "adapter" / adapter_files.WEIGHTS
    if task.makes_adapter:
        parent = settings.inbox / "adapter" / adapter_files.WEIGHTS
        filled["adapterSha256"] = adapter_files.check_made(file, parent if task.adapters else None, task)
    # Before the upload: an adapter whose result is wrong is of no use to anybody.
    result = result_document.complete(settings.outbox / "result.json", task, filled)
    if task.makes_adapter:
        client.upload("/v1/task/adapter", file)
    client.put_json("/v1/task/result", result)


if __name__ == "__main__":
    sys.exit(main())
