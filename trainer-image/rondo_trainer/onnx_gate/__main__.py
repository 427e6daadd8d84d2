"""
`rondo-export-onnx --model FOLDER --target-modules q_proj,v_proj --out FILE.onnx` (docs/trainer.md).

Owns arguments, files, exit code and what is printed; the other modules know nothing of them. What the arguments alone can tell
is looked at first, then the configuration, and only then the weights.
"""

import argparse
import gc
import logging
import os
import shutil
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import exits
from ..device import prepare_libraries
from ..exits import InputMissingError, TaskNotUnderstoodError, TrainerError
from ..model import load_base, require_config, weights_digest
from ..site_settings import read_site
from ..task import Adapter
from ..termination import StoppedError, end_on_sigterm

if TYPE_CHECKING:
    import torch

    from .check import Trial
    from .trace import Origin

RANK_CHECK = "4,8"
MOST_RANK = 1024
"""As in task.json."""
LONG_SECONDS = 2
"""A step that takes longer says how long it took, or how far it is."""


@dataclass(frozen=True)
class Wish:
    model: Path
    target_modules: tuple[str, ...]
    ranks: tuple[int, ...]
    out: Path


def main(arguments: Sequence[str] | None = None) -> int:
    end_on_sigterm()
    try:
        export(read_arguments(arguments))
        return exits.DONE
    except StoppedError:
        say("SIGTERM; nothing is left of the graph")
        return exits.TERMINATED
    except TrainerError as error:
        say(str(error))
        return error.code
    except Exception:
        traceback.print_exc()
        return exits.RETRY


def say(sentence: str) -> None:
    print(f"rondo-export-onnx: {sentence}", file=sys.stderr, flush=True)


def read_arguments(arguments: Sequence[str] | None) -> Wish:
    parser = argparse.ArgumentParser("rondo-export-onnx", description="A base model as an ONNX graph whose LoRA adapter is an input.")
    parser.add_argument("--model", type=Path, required=True, help="folder of the base model: config.json and *.safetensors")
    parser.add_argument("--target-modules", required=True, help="as in Federation.spec.adapter: q_proj,v_proj")
    parser.add_argument("--rank-check", default=RANK_CHECK, help="two or more ranks to check the graph with (default %(default)s)")
    parser.add_argument("--out", type=Path, required=True, help="the .onnx file; weights go to FILE.onnx.data beside it, in float32")
    given = parser.parse_args(arguments)
    modules = tuple(sorted({name.strip() for name in given.target_modules.split(",")} - {""}))
    if not modules:
        raise TaskNotUnderstoodError("--target-modules is empty; give names such as q_proj,v_proj")
    return Wish(given.model, modules, read_ranks(given.rank_check), given.out)


def read_ranks(text: str) -> tuple[int, ...]:
    ranks = tuple(dict.fromkeys(int(part) for part in text.split(",") if part.strip().isdecimal()))
    if len(ranks) < 2 or len(ranks) != len(text.split(",")) or not all(1 <= rank <= MOST_RANK for rank in ranks):
        raise TaskNotUnderstoodError(
            f"--rank-check is {text!r}; it must be two or more different ranks from 1 to {MOST_RANK}, such as {RANK_CHECK}"
        )
    return ranks


def export(wish: Wish) -> None:
    from .place import require_place, require_room, staged

    require_place(wish.out)
    if not wish.model.is_dir():
        raise InputMissingError(f"--model is {wish.model}, but there is no such folder")
    require_config(wish.model)
    with step("PyTorch is imported"):
        prepare_libraries(read_site(os.environ))
        silence_exporter()
        import torch
    shapes = adapter_shapes(wish)
    with step("the weights are read, as float32"):
        base = load_base(wish.model, "cpu", "float32")
        origin = read_origin(wish, base)
    require_room(shutil.disk_usage(wish.out.parent).free, weights_bytes(base), wish.out)
    with staged(wish.out) as file:
        trial = prepare_trial(base, shapes, wish, file.parent)
        write_graph(base, trial, origin, file)
        # onnxruntime reads the weights anew: a second copy of a large model would not fit beside the first.
        del base
        gc.collect()
        worst = check(trial, file, torch.get_num_threads())
    say(f"{wish.out} is ready: {len(shapes)} adapter tensors, at most {worst:.1e} nats from PyTorch, base {origin.digest}")


def silence_exporter() -> None:
    """It warns of a library that nobody needs here, and of each axis that two inputs share."""
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", category=UserWarning, module="torch.onnx")


def adapter_shapes(wish: Wish) -> dict[str, tuple[int, ...]]:
    """
    By name, ascending.

    Raises:
        TaskNotUnderstoodError: a target module is not there, or not linear.
    """
    from ..initialise import adapter_shapes as shapes_of

    shapes = shapes_of(wish.model, Adapter(wish.ranks[0], wish.ranks[0], wish.target_modules))
    for name, shape in shapes.items():
        if not name.endswith((".lora_A.weight", ".lora_B.weight")) or len(shape) != 2:
            raise TaskNotUnderstoodError(f"--target-modules: {name} is not the adapter of a linear layer")
    for module in wish.target_modules:
        if not any(name.endswith(f".{module}.lora_A.weight") for name in shapes):
            raise TaskNotUnderstoodError(f"--target-modules: the base model has no {module}")
    return dict(sorted(shapes.items()))


def read_origin(wish: Wish, base: Any) -> "Origin":
    from .trace import Origin

    bound = getattr(base.config.get_text_config(), "max_position_embeddings", None)
    return Origin(weights_digest(wish.model), wish.target_modules, bound)


def weights_bytes(base: "torch.nn.Module") -> int:
    """At most. A tied output layer counts twice: of a small model the graph has it a second time, turned around for its product."""
    tensors = [*base.named_parameters(remove_duplicate=False), *base.named_buffers()]
    return sum(tensor.numel() * tensor.element_size() for _, tensor in tensors)


def prepare_trial(base: Any, shapes: dict[str, tuple[int, ...]], wish: Wish, folder: Path) -> "Trial":
    from .check import Trial, references, require_visible
    from .probes import batches, probes

    text = base.config.get_text_config()
    given = batches(text.vocab_size, getattr(text, "max_position_embeddings", None))
    checked = probes(shapes, wish.target_modules, wish.ranks)
    expected = []
    for probe in checked:
        with step(f"PyTorch scores an adapter: {probe.says}"):
            expected.append(references(base, probe, given, folder))
    trial = Trial(checked, given, expected)
    require_visible(trial)
    return trial


def write_graph(base: Any, trial: "Trial", origin: "Origin", file: Path) -> None:
    from .adapted import adapted
    from .trace import trace, write

    example = trial.probes[-1]
    rank = example.spec.rank
    # Eager attention is plain arithmetic; the fused one branches on shapes, which a trace would freeze.
    base.set_attn_implementation("eager")
    with step("the graph is traced"):
        model = adapted(base, Adapter(rank, rank, origin.target_modules), example.tensors, file.parent)
        graph = trace(model, example.tensors, trial.batches[1], origin)
    with step("the graph is written"):
        write(graph, file, slowly("tensors written"))


def check(trial: "Trial", file: Path, threads: int) -> float:
    from .check import compare, open_graph, score

    with step("onnxruntime opens the graph"):
        session = open_graph(file, threads)
    with step("onnxruntime scores the same"):
        return compare(trial, lambda probe, batch: score(session, probe, batch))


@contextmanager
def step(sentence: str) -> Iterator[None]:
    started = time.monotonic()
    say(f"{sentence} …")
    yield
    if (taken := time.monotonic() - started) > LONG_SECONDS:
        say(f"{sentence}: {taken:.1f} s")


def slowly(what: str) -> Callable[[int, int], None]:
    """Tells a count now and then."""
    told = time.monotonic()

    def tell(done: int, of: int) -> None:
        nonlocal told
        if time.monotonic() - told > LONG_SECONDS:
            told = time.monotonic()
            say(f"{done} of {of} {what}")

    return tell


if __name__ == "__main__":
    sys.exit(main())
