"""
`rondo-trainer-check … -- CMD…` or `--image IMAGE`: what is checked with what, and the report. Exit 0: kept; 1: broken; 2: cannot check.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from . import report
from .certificate import OpensslError
from .checks import CHECKS, KINDS, Bench, run_checks
from .fixtures import FixtureError, make_fixtures
from .launch import CommandLaunch, ImageLaunch, InternalNetwork, Launch, NetworkError
from .trial import Limits, Stand

DESCRIPTION = """\
Runs a trainer against a real HTTPS task API and says which parts of docs/trainer.md it breaks: a line per check.

The trainer is a command, started once per situation with the variables of an agent's Job in an empty folder, or an image, run with
the restrictions of an agent's pod: read-only root, user 10001, no capabilities, no network but the task API."""

EPILOG = """\
examples:
  rondo-trainer-check -- python3 -m rondo_trainer
  rondo-trainer-check --kinds train -- rondo-run python3 train.py          a program that knows files only
  rondo-trainer-check --image registry.example/my-trainer:1 --runtime docker
  rondo-trainer-check --model ~/models/SmolLM2-135M --data ./notes --image …   with a model and data that the trainer can read

A trainer takes a task about fifteen times, some of them to their end. Exit codes: 0 the contract is kept, 1 it is broken, 2 nothing
could be checked."""


def main(arguments: list[str] | None = None) -> int:
    options = parse_arguments(sys.argv[1:] if arguments is None else arguments)
    try:
        with tempfile.TemporaryDirectory(prefix="rondo-trainer-check-") as folder:
            return check(options, Path(folder))
    except (FixtureError, NetworkError, OpensslError) as error:
        print(f"rondo-trainer-check: {error}", file=sys.stderr)
        return 2


def parse_arguments(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="rondo-trainer-check",
        usage="rondo-trainer-check [options] (-- CMD [ARG]… | --image IMAGE)",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--kinds", type=names, default=KINDS, metavar="KIND,…", help=f"kinds of task that it does; default {','.join(KINDS)}"
    )
    parser.add_argument("--only", type=names, default=(), metavar="CHECK,…", help="these checks alone; --list names them")
    parser.add_argument("--list", action="store_true", help="name every check and what it holds a trainer to")
    parser.add_argument("--json", action="store_true", help="the report as one JSON object")
    made = "default: a Llama of two layers, made on the spot"
    parser.add_argument("--model", type=Path, metavar="DIR", help=f"base model, a folder of config.json and *.safetensors; {made}")
    parser.add_argument("--data", type=Path, metavar="DIR", help="the site's data; default: 48 lines of JSONL, prompt and completion")
    parser.add_argument(
        "--target-modules", type=names, default=("q_proj", "v_proj"), metavar="NAME,…", help="layers with an adapter; default q_proj,v_proj"
    )
    parser.add_argument("--timeout", type=float, default=300, metavar="SECONDS", help="a run that takes longer is killed; default 300")
    parser.add_argument(
        "--grace", type=float, default=30, metavar="SECONDS", help="from SIGTERM to the end; default 30, as Kubernetes has it"
    )
    parser.add_argument("--image", help="an image instead of a command")
    parser.add_argument("--runtime", default="podman", choices=["podman", "docker", "nerdctl"], help="what runs the image; default podman")
    parser.add_argument("--network", help="an existing network for the image; default: one without a way out, made for the check")
    parser.add_argument("--address", help="where containers in --network reach this machine")
    parser.add_argument("command", nargs="*", metavar="CMD", help="program and arguments, behind --")
    options = parser.parse_args(arguments)
    if complaint := complaint_about(options):
        parser.error(complaint)
    return options


def names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def complaint_about(options: argparse.Namespace) -> str | None:
    known = {check.name for check in CHECKS}
    if unknown := sorted(set(options.kinds) - set(KINDS)):
        return f"--kinds: there is no kind {unknown[0]}; choose of {', '.join(KINDS)}"
    if unknown := sorted(set(options.only) - known):
        return f"--only: there is no check {unknown[0]}; --list names them"
    if options.list:
        return None
    if bool(options.image) == bool(options.command):
        return "name either a command, behind --, or --image"
    if bool(options.network) != bool(options.address):
        return "--network and --address go together"
    absent = next((folder for folder in (options.model, options.data) if folder and not folder.is_dir()), None)
    return f"{absent} is no folder" if absent else None


def check(options: argparse.Namespace, folder: Path) -> int:
    if options.list:
        for each in CHECKS:
            print(f"{each.name:<18} {', '.join(each.kinds):<27} {each.says}")
        return 0
    fixtures = make_fixtures(folder, options.model, options.data, options.target_modules)
    with launched(options) as launch:
        bench = Bench(Stand(launch, fixtures, Limits(options.timeout, options.grace), folder), options.kinds, folder)
        if not options.json:
            print(f"rondo-trainer-check: {launch.name}; {', '.join(options.kinds)}", flush=True)
        verdicts = []
        for verdict in run_checks(bench, options.only):
            verdicts.append(verdict)
            if not options.json:
                print(report.line(verdict), flush=True)
        print(report.as_json(launch.name, options.kinds, verdicts) if options.json else report.summary(verdicts))
    return 0 if report.is_kept(verdicts) else 1


@contextmanager
def launched(options: argparse.Namespace) -> Iterator[Launch]:
    if not options.image:
        yield CommandLaunch(options.command)
    elif options.network:
        yield ImageLaunch(options.runtime, options.image, options.network, options.address)
    else:
        with InternalNetwork(options.runtime) as network:
            yield ImageLaunch(options.runtime, options.image, network.name, network.address)


if __name__ == "__main__":
    sys.exit(main())
