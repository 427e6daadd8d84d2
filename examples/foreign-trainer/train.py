"""
A trainer that knows nothing of Rondo: it reads files, trains, and writes files. rondo-run brings the files and takes them away (README.md).

Exit codes say what went wrong, as docs/trainer.md has them: 64 the task asks for what it does not do, 65 a line of the data is
broken, 70 the loss is not finite.
"""

import hashlib
import json
import math
import os
import sys
from collections.abc import Callable
from pathlib import Path

import lora
import torch
from torch.nn.functional import cross_entropy
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

IN, OUT = Path(os.environ["RONDO_IN"]), Path(os.environ["RONDO_OUT"])
MODEL, DATA = Path(os.environ["RONDO_MODEL"]), Path(os.environ["RONDO_DATA"])
HELD_OUT_BYTES = 26
"""A record is held out if the first byte of its hash is below: one in ten, the same ones in each round."""

Example = tuple[list[int], int]
"""Tokens, and how many of them, from the start, are the prompt's: no loss on those."""


KNOWN = {"task", "steps", "batchSize", "sequenceLength", "learningRate"}
"""Of task.json's training. Anything else would change what is trained, so it must not be passed over."""


def main() -> None:
    task = json.loads((IN / "task.json").read_text())
    wishes = task["training"] or {}
    unknown = sorted(wishes.keys() - KNOWN)
    if unknown or wishes.get("task", "instruction") != "instruction":
        print(f"training.{(unknown or ['task'])[0]} asks for what this trainer does not do", file=sys.stderr)
        sys.exit(64)
    torch.manual_seed(task["seed"])
    work = {"train": train_task, "evaluate": evaluate_task, "initialise": initialise_task}[task["kind"]]
    (OUT / "result.json").write_text(json.dumps(work(task)))


def train_task(task: dict) -> dict:
    training, held_out = read_examples(task["training"]["sequenceLength"])
    model, layers = load(task)
    parent_loss = evaluate(model, held_out)
    tokens, loss = train(model, layers, training, task)
    lora.write(layers, OUT / "adapter")
    compared = held_out and {"tokens": count(held_out), "parentLoss": parent_loss, "loss": evaluate(model, held_out)}
    steps = task["training"]["steps"]
    return {"examples": len(training), "steps": steps, "tokens": tokens, "trainLoss": loss, "heldOut": compared or None}


def evaluate_task(task: dict) -> dict:
    _, held_out = read_examples(task["training"]["sequenceLength"])
    model, layers = load(task)
    parent_loss = evaluate(model, held_out)
    lora.replace(layers, IN / "candidate")
    compared = held_out and {"tokens": count(held_out), "parentLoss": parent_loss, "loss": evaluate(model, held_out)}
    return {"examples": len(held_out), "heldOut": compared or None}


def initialise_task(task: dict) -> dict:
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(MODEL))
    if not lora.write_fresh(model, task["adapter"]["targetModules"], task["adapter"]["rank"], OUT / "adapter"):
        stop(64, f"the base model has none of the layers {task['adapter']['targetModules']}")
    return {}


def load(task: dict) -> tuple[torch.nn.Module, dict[str, lora.LoraLinear]]:
    model = AutoModelForCausalLM.from_pretrained(MODEL, dtype=torch.float32)
    layers = lora.attach(model, IN / "adapter", task["adapter"]["scaling"])
    return model.to("cuda" if torch.cuda.is_available() else "cpu"), layers


def read_examples(longest: int) -> tuple[list[Example], list[Example]]:
    """To train on, and held out."""
    tokeniser = AutoTokenizer.from_pretrained(MODEL)
    sides: tuple[list[Example], list[Example]] = ([], [])
    for file in sorted(DATA.glob("*.jsonl")):
        for number, line in enumerate(file.read_text().splitlines(), start=1):
            try:
                record = json.loads(line)
                prompt, completion = tokeniser(record["prompt"] + "\n")["input_ids"], tokeniser(record["completion"])["input_ids"]
            except (ValueError, KeyError, TypeError):
                stop(65, f"{file.name} line {number}: a line is an object with prompt and completion")
            tokens = [*prompt, *completion, tokeniser.eos_token_id][:longest]
            is_held_out = hashlib.sha256(line.encode()).digest()[0] < HELD_OUT_BYTES
            if len(prompt) < len(tokens):
                sides[is_held_out].append((tokens, len(prompt)))
    if not sides[0]:
        stop(65, "no record to train on; give more of them, or shorter prompts")
    return sides


def train(model: torch.nn.Module, layers: dict[str, lora.LoraLinear], examples: list[Example], task: dict) -> tuple[int, float]:
    """Tokens that bore loss, and its mean over them."""
    plan = task["training"]
    optimiser = torch.optim.AdamW([half for layer in layers.values() for half in (layer.a, layer.b)], lr=float(task["learningRate"]))
    tell = progress(plan["steps"])
    all_tokens, all_loss = 0, 0.0
    for step in range(1, plan["steps"] + 1):
        chosen = [examples[index] for index in torch.randint(len(examples), (plan["batchSize"],))]
        loss, tokens = summed_loss(model, chosen)
        if not math.isfinite(loss.item()):
            stop(70, f"the loss is not finite at step {step}; lower training.learningRate")
        optimiser.zero_grad()
        (loss / tokens).backward()
        optimiser.step()
        all_tokens, all_loss = all_tokens + tokens, all_loss + loss.item()
        tell(step, loss.item() / tokens)
    return all_tokens, all_loss / all_tokens


def progress(steps: int) -> Callable[[int, float], None]:
    """A line per step; rondo-run sends the newest, at most once a second."""
    file = (OUT / "progress.jsonl").open("w", buffering=1)
    return lambda step, loss: print(json.dumps({"step": step, "steps": steps, "loss": loss}), file=file)


@torch.inference_mode()
def evaluate(model: torch.nn.Module, examples: list[Example]) -> float | None:
    if not examples:
        return None
    return sum(summed_loss(model, [example])[0].item() for example in examples) / count(examples)


def summed_loss(model: torch.nn.Module, examples: list[Example]) -> tuple[torch.Tensor, int]:
    """Over the completions' tokens, in nats, and how many they are."""
    longest = max(len(tokens) for tokens, _ in examples)
    device = next(model.parameters()).device
    inputs = torch.tensor([tokens + [0] * (longest - len(tokens)) for tokens, _ in examples], device=device)
    attention = torch.tensor([[1] * len(tokens) + [0] * (longest - len(tokens)) for tokens, _ in examples], device=device)
    is_target = attention.bool()
    for row, (_, prompt) in enumerate(examples):
        is_target[row, :prompt] = False
    logits = model(input_ids=inputs, attention_mask=attention).logits[:, :-1]
    is_target = is_target[:, 1:]
    return cross_entropy(logits[is_target].float(), inputs[:, 1:][is_target], reduction="sum"), int(is_target.sum())


def count(examples: list[Example]) -> int:
    return sum(len(tokens) - max(prompt, 1) for tokens, prompt in examples)


def stop(code: int, sentence: str) -> None:
    print(f"train.py: {sentence}", file=sys.stderr)
    raise SystemExit(code)


if __name__ == "__main__":
    main()
