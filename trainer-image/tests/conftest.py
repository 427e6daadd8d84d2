"""
What the tests share: a base model of a few thousand parameters with real tokeniser and chat template, records, an agent, a site.
"""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TRANSFORMERS_VERBOSITY"] = "error"
os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"

from rondo_trainer.__main__ import main
from rondo_trainer.export import write_adapter
from rondo_trainer.initialise import initial_adapter
from rondo_trainer.model import weights_digest
from rondo_trainer.task import Adapter, BaseModel
from task_server import Agent, TaskServer

ADAPTER = Adapter(rank=2, alpha=4, target_modules=("q_proj", "v_proj"))
CHAT_TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("model"), width=32)


def write_model(folder: Path, width: int) -> Path:
    """A Llama of two layers whose pad token is its end token, as SmolLM2's is."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    specials = ["<|im_start|>", "<|im_end|>"]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={token: index for index, token in enumerate(specials + alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=specials[0],
        eos_token=specials[1],
        pad_token=specials[1],
        chat_template=CHAT_TEMPLATE,
    ).save_pretrained(folder)
    torch.manual_seed(1)
    config = LlamaConfig(
        vocab_size=len(specials) + len(alphabet),
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=256,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=1,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def parent_adapter(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    base = BaseModel("tests/tiny", "main", weights_digest(model_folder))
    file, _ = write_adapter(initial_adapter(model_folder, ADAPTER, seed=5), ADAPTER, base, tmp_path_factory.mktemp("parent"))
    return file.read_bytes()


@pytest.fixture
def data_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    write_records(folder / "train.jsonl", 40)
    return folder


def write_records(file: Path, count: int) -> None:
    records = [{"prompt": f"What is {n}?", "completion": f"The number {n}."} for n in range(count)]
    file.write_text("".join(f"{json.dumps(record)}\n" for record in records))


@pytest.fixture
def task(model_folder: Path) -> dict[str, Any]:
    """task.json as the agent writes it; a test changes what it is about."""
    return {
        "schema": 1,
        "kind": "train",
        "federation": "example.org/rondo/words",
        "round": 1,
        "attempt": 1,
        "participant": "computing",
        "seed": 11,
        "baseModel": {"name": "tests/tiny", "revision": "main", "digest": weights_digest(model_folder)},
        "adapter": {"rank": 2, "alpha": 4, "targetModules": ["q_proj", "v_proj"], "scaling": 2},
        "training": {"task": "instruction", "steps": 3, "batchSize": 2, "sequenceLength": 64, "learningRate": "0.01"},
        "learningRate": "0.01",
        "frozen": None,
        "recordPrivacy": None,
        "deadline": 4_102_444_800_000,
    }


@pytest.fixture
def agent(task: dict[str, Any], parent_adapter: bytes) -> Agent:
    return Agent(task=task, files={"/v1/task/adapter": parent_adapter})


@pytest.fixture
def run(agent: Agent, model_folder: Path, data_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """Runs the trainer in this process against the agent, as its Job would, and returns the exit code."""

    def once(**changed: str) -> int:
        secret = tmp_path / "secret"
        secret.mkdir(exist_ok=True)
        with TaskServer(agent, secret) as server:
            for name, value in {**environment(server, model_folder, data_folder, tmp_path / "out"), **changed}.items():
                monkeypatch.setenv(name, value)
            return main()

    return once


def environment(server: TaskServer, model: Path, data: Path, out: Path) -> dict[str, str]:
    return {
        "RONDO_TASK_URL": server.url,
        "RONDO_TASK_CA": str(server.ca_file),
        "RONDO_TASK_TOKEN_FILE": str(server.token_file),
        "RONDO_MODEL": str(model),
        "RONDO_DATA": str(data),
        "RONDO_OUT": str(out),
        "RONDO_THREADS": "1",
        "RONDO_DTYPE": "float32",
    }
