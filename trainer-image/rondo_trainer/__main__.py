"""
One task from start to end: `python -m rondo_trainer` in a Job's pod (docs/trainer.md).

Owns files, device, exit code and what is printed; the other modules know nothing of them. What can fail early is looked at before
PyTorch is imported: a broken line of data costs milliseconds, not the seconds of that import.
"""

import os
import signal
import sys
import time
import traceback
import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import exits
from .client import TaskClient
from .data import Split, Tokeniser, read_records, split_records
from .exits import TrainerError
from .model import check_digest, require_config
from .site_settings import Site, read_agent, read_site
from .task import Task, Training, parse_task


def main() -> int:
    signal.signal(signal.SIGTERM, stop)
    started = time.monotonic()
    try:
        agent, site = read_agent(os.environ), read_site(os.environ)
        client = TaskClient(agent.url, agent.ca_file, agent.token_file)
        task = parse_task(client.task())
        client.deadline_ms = task.deadline_ms
        say(f"{task.kind} for {task.federation} round {task.round}, {site.threads} threads")
        result = (initialise if task.kind == "initialise" else work)(task, site, client)
        client.put_json("/v1/task/result", {**result, "seconds": round(time.monotonic() - started, 3)})
        say(f"done in {time.monotonic() - started:.1f} s")
        return exits.DONE
    except TrainerError as error:
        say(f"exit {error.code}, {exits.MEANING[error.code]}: {error}")
        return error.code
    except Exception:
        traceback.print_exc()
        return exits.RETRY


def stop(_signal: int, _frame: Any) -> None:
    # PID 1 has no default action for SIGTERM. Nothing is worth a checkpoint: /rondo/out goes with the pod, and a new one
    # trains the same adapter from the same seed.
    say(f"exit {exits.TERMINATED}, {exits.MEANING[exits.TERMINATED]}: SIGTERM")
    raise SystemExit(exits.TERMINATED)


def say(sentence: str) -> None:
    print(f"rondo-trainer: {sentence}", file=sys.stderr, flush=True)


def initialise(task: Task, site: Site, client: TaskClient) -> dict[str, Any]:
    require_config(site.model)
    prepare_libraries(site)
    from .export import write_adapter
    from .initialise import initial_adapter

    tensors = initial_adapter(site.model, task.adapter, task.seed)
    file, digest = write_adapter(tensors, task.adapter, task.base_model, site.out / "adapter")
    client.upload("/v1/task/adapter", file)
    return result(examples=0, steps=0, tokens=0, adapterSha256=digest)


def work(task: Task, site: Site, client: TaskClient) -> dict[str, Any]:
    """Train or evaluate."""
    assert task.training is not None
    require_config(site.model)
    with ThreadPoolExecutor(1) as beside:
        digest_checked = beside.submit(check_digest, site.model, task.base_model)
        split = split_records(read_records(site.data), site.held_out_percent, site.held_out_max)
        if task.kind == "train" and not split.train:
            raise exits.DataMalformedError("every record is held out; lower RONDO_HELD_OUT_PERCENT or add records")
        parent = fetch(client, "/v1/task/adapter", site.out / "in", "parent.safetensors")
        prepare_libraries(site)
        digest_checked.result()
    bench = prepare(task, site, parent)
    if task.kind == "train":
        return train_task(task, site, client, split, bench)
    candidate = fetch(client, "/v1/task/candidate", site.out / "in", "candidate.safetensors")
    return evaluate_task(task.training, split, bench, candidate)


def fetch(client: TaskClient, path: str, folder: Path, name: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    client.download(path, folder / name)
    return folder / name


@dataclass(frozen=True)
class Bench:
    """The base model with the parent adapter on it, and what turns records into its tokens."""

    model: Any
    tokeniser: Tokeniser
    pad_token: int


def prepare_libraries(site: Site) -> None:
    """Imports PyTorch, tamed: as many threads as the container has, deterministic kernels, nothing from the network, no chatter."""
    warnings.filterwarnings("ignore", category=FutureWarning)
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    # Threads that spin while they wait cost a shared machine more than they save: seen to be ten times slower on a busy one.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    import torch

    torch.set_num_threads(site.threads)
    # Some CUDA kernels of some models have no deterministic twin: then a warning, and the run goes on.
    torch.use_deterministic_algorithms(True, warn_only=True)


def prepare(task: Task, site: Site, parent: Path) -> Bench:
    from .model import attach, load_adapter, load_base, load_tokeniser

    assert task.training is not None
    device = chosen_device(site)
    tokeniser = load_tokeniser(site.model)
    model = attach(load_base(site.model, device, chosen_dtype(site, device)), task.adapter)
    load_adapter(model, parent)
    pad_token = tokeniser.pad_token_id if tokeniser.pad_token_id is not None else tokeniser.eos_token_id
    return Bench(model, Tokeniser(tokeniser, task.training.sequence_length), pad_token or 0)


def chosen_device(site: Site) -> str:
    import torch

    if site.device != "auto":
        return site.device
    return "cuda" if torch.cuda.is_available() else "cpu"


def chosen_dtype(site: Site, device: str) -> str:
    """
    bfloat16 where the device computes in it (measured on 2 cores, SmolLM2: 0.6 GB and a fifth to a half of the time less than float32,
    losses within 0.01), else float32: elsewhere a processor would emulate it.
    """
    if site.dtype != "auto":
        return site.dtype
    return "bfloat16" if computes_bfloat16(device) else "float32"


def computes_bfloat16(device: str) -> bool:
    import torch

    if device.startswith("cuda"):
        return torch.cuda.is_bf16_supported()
    try:
        return "avx512_bf16" in Path("/proc/cpuinfo").read_text()
    except OSError:
        return False


def train_task(task: Task, site: Site, client: TaskClient, split: Split, bench: Bench) -> dict[str, Any]:
    from .evaluate import evaluate
    from .export import adapter_tensors, write_adapter
    from .train import Progress, endless_examples, train

    def report(now: Progress) -> None:
        speed = round(now.tokens_per_second, 1)
        if client.progress({"step": now.step, "steps": now.steps, "loss": now.loss, "tokensPerSecond": speed}):
            say(f"step {now.step}/{now.steps} loss {now.loss:.3f}, {speed} tokens/s")

    training = task.training
    assert training is not None
    held_out = bench.tokeniser.examples(split.held_out)
    parent = evaluate(bench.model, held_out, training.batch_size, bench.pad_token)
    examples = endless_examples(split.train, bench.tokeniser, task.seed)
    trained = train(bench.model, examples, training, bench.pad_token, report)
    own = evaluate(bench.model, held_out, training.batch_size, bench.pad_token)
    file, digest = write_adapter(adapter_tensors(bench.model), task.adapter, task.base_model, site.out / "adapter")
    client.upload("/v1/task/adapter", file)
    return result(
        examples=len(split.train),
        steps=trained.steps,
        tokens=trained.tokens,
        trainLoss=trained.loss,
        heldOut=compared(parent, own),
        adapterSha256=digest,
    )


def evaluate_task(training: Training, split: Split, bench: Bench, candidate: Path) -> dict[str, Any]:
    from .evaluate import evaluate
    from .model import load_adapter

    held_out = bench.tokeniser.examples(split.held_out)
    parent = evaluate(bench.model, held_out, training.batch_size, bench.pad_token)
    load_adapter(bench.model, candidate)
    other = evaluate(bench.model, held_out, training.batch_size, bench.pad_token)
    return result(examples=len(held_out), steps=0, tokens=0, heldOut=compared(parent, other))


def compared(parent: Any, candidate: Any) -> dict[str, Any] | None:
    if parent is None or candidate is None:
        return None
    return {"tokens": parent.tokens, "parentLoss": parent.loss, "loss": candidate.loss}


def result(**fields: Any) -> dict[str, Any]:
    return {"schema": 1, "heldOut": None, "recordPrivacy": None, **fields, "peakGpuBytes": peak_gpu_bytes()}


def peak_gpu_bytes() -> int:
    import torch

    return torch.cuda.max_memory_allocated() if torch.cuda.is_available() else 0


if __name__ == "__main__":
    sys.exit(main())
