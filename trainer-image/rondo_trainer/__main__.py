"""
One task from start to end: `python -m rondo_trainer` in a Job's pod (docs/trainer.md).

Owns the exit code and what is printed at the end; the other modules know nothing of them.
"""

import os
import sys
import time
import traceback
from typing import Any

from . import exits
from .client import TaskClient
from .exits import TrainerError
from .laps import Laps
from .launch import own_command, run_ranks
from .model import require_config
from .ranks import read_ranks
from .say import say
from .site_settings import read_agent, read_site
from .task import parse_task
from .termination import StoppedError, end_on_sigterm
from .work import Workplace, work


def main() -> int:
    end_on_sigterm()
    started = time.monotonic()
    laps = Laps(started)
    try:
        agent, site, ranks = read_agent(os.environ), read_site(os.environ), read_ranks(os.environ)
        client = TaskClient(agent.url, agent.ca_file, agent.token_file)
        task = parse_task(client.task())
        client.deadline_ms = task.deadline_ms
        laps.lap("task")
        # Sample and noise of record privacy are drawn by one process, or each would draw its own.
        if site.processes > 1 and ranks.count == 1 and task.kind == "train" and task.record_privacy is None:
            say(f"{task.kind} for {task.federation} round {task.round}, {site.processes} processes")
            return run_ranks(own_command(), site.processes)
        if ranks.is_first:
            say(f"{task.kind} for {task.federation} round {task.round}, {site.threads} threads")
        place = Workplace(task, site, client, ranks, laps)
        fields = initialise(place) if task.kind == "initialise" else work(place)
        if ranks.is_first:
            hand_back(client, fields, time.monotonic() - started)
        return exits.DONE
    except StoppedError:
        say(f"exit {exits.TERMINATED}, {exits.MEANING[exits.TERMINATED]}: SIGTERM")
        return exits.TERMINATED
    except TrainerError as error:
        say(f"exit {error.code}, {exits.MEANING[error.code]}: {error}")
        return error.code
    except Exception:
        traceback.print_exc()
        return exits.RETRY


def hand_back(client: TaskClient, fields: dict[str, Any], seconds: float) -> None:
    result = {"schema": 1, "heldOut": None, "recordPrivacy": None, "peakGpuBytes": 0, **fields, "seconds": round(seconds, 3)}
    client.put_json("/v1/task/result", result)
    say(f"done in {seconds:.1f} s")


def initialise(place: Workplace) -> dict[str, Any]:
    from .device import prepare_libraries

    task, site = place.task, place.site
    require_config(site.model)
    prepare_libraries(site)
    from .export import write_adapter
    from .initialise import initial_adapter

    tensors = initial_adapter(site.model, task.adapter, task.seed)
    file, digest = write_adapter(tensors, task.adapter, task.base_model, site.out / "adapter")
    place.client.upload("/v1/task/adapter", file)
    return {"examples": 0, "steps": 0, "tokens": 0, "adapterSha256": digest}


if __name__ == "__main__":
    sys.exit(main())
