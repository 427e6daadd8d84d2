"""
Tokens a second of the trainer against a plain PyTorch and PEFT loop as its documentation teaches it: `throughput.py MODEL DATA DEVICE`.

Holds: the same model object, records, order, batches, type and optimiser for both, one after the other in turns, so that a machine that
is slow for a while is slow for both. The plain loop gives the model its labels and takes the loss that transformers returns.
"""

import argparse
import json
import os
import sys
import time
from itertools import islice
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT / "trainer-image"))
os.environ.update(HF_HUB_OFFLINE="1", HF_HUB_DISABLE_PROGRESS_BARS="1", TRANSFORMERS_VERBOSITY="error", OMP_WAIT_POLICY="PASSIVE")

import torch  # noqa: E402

from rondo_trainer.checkpoint import Checkpoints  # noqa: E402
from rondo_trainer.data.order import endless_examples  # noqa: E402
from rondo_trainer.data.reading import read_data  # noqa: E402
from rondo_trainer.data.tokenise import Example, Tokeniser  # noqa: E402
from rondo_trainer.device import computes_bfloat16  # noqa: E402
from rondo_trainer.initialise import initial_adapter  # noqa: E402
from rondo_trainer.loss import collate  # noqa: E402
from rondo_trainer.model import attach, load_base, load_tokeniser, set_adapter  # noqa: E402
from rondo_trainer.task import Adapter, Training  # noqa: E402
from rondo_trainer.train import Run, train  # noqa: E402

ADAPTER = Adapter(rank=8, alpha=16, target_modules=("q_proj", "v_proj"))
STEPS = 12
TURNS = 5
TRAINING = Training("instruction", STEPS, None, batch_size=4, sequence_length=64, learning_rate=1e-4)


def plain(model: Any, rows: list[Example], pad_token: int) -> float:
    """Seconds."""
    device = model.get_base_model().device
    optimiser = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=TRAINING.learning_rate)
    model.train()
    started = time.perf_counter()
    for start in range(0, len(rows), TRAINING.batch_size):
        batch = collate(rows[start : start + TRAINING.batch_size], pad_token, device)
        loss = model(input_ids=batch.tokens, attention_mask=batch.attention, labels=batch.labels, use_cache=False).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad()
    finish(device)
    return time.perf_counter() - started


def rondo(model: Any, rows: list[Example], pad_token: int) -> float:
    started = time.perf_counter()
    train(model, iter(rows), TRAINING, STEPS, Run(pad_token, lambda _: None, Checkpoints(None, "")))
    finish(model.get_base_model().device)
    return time.perf_counter() - started


def finish(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def main() -> None:
    parser = argparse.ArgumentParser(description="Tokens a second of the trainer against a plain loop.")
    parser.add_argument("model", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("device", choices=("cpu", "cuda"))
    arguments = parser.parse_args()
    dtype = "bfloat16" if computes_bfloat16(arguments.device) else "float32"
    tokeniser = load_tokeniser(arguments.model)
    pad_token = tokeniser.pad_token_id
    initial = initial_adapter(arguments.model, ADAPTER, 1)
    model = attach(load_base(arguments.model, arguments.device, dtype), ADAPTER)
    records = read_data(arguments.data).records
    found: dict[str, list[float]] = {"rondo": [], "plain": []}
    for turn in range(TURNS + 1):
        examples = endless_examples(records, Tokeniser(tokeniser, TRAINING.sequence_length), turn)
        rows = list(islice(examples, STEPS * TRAINING.batch_size))
        tokens = sum(len(row.tokens) for row in rows)
        for name, loop in (("rondo", rondo), ("plain", plain)) if turn % 2 else (("plain", plain), ("rondo", rondo)):
            set_adapter(model, initial)
            speed = tokens / loop(model, rows, pad_token)
            # The first turn warms caches up.
            if turn:
                found[name].append(speed)
            print(f"turn {turn}/{TURNS}, {name}: {speed:.0f} tokens/s", file=sys.stderr, flush=True)
    print(json.dumps({"dtype": dtype, "threads": torch.get_num_threads(), **found}))


if __name__ == "__main__":
    main()
