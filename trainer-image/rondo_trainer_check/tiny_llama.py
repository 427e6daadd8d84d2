"""
A base model for those who bring none: a Llama of two layers and 27,000 random weights, with a tokeniser of bytes and a chat template.

Holds: transformers loads it as any other model; equal bytes on every machine. It speaks no language: losses of it mean nothing.
"""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

from .safetensors_bytes import Values, format_safetensors

HIDDEN, HEAD, HEADS, KEY_HEADS, INNER, LAYERS = 32, 8, 4, 2, 64, 2
SPECIALS = ["<|im_start|>", "<|im_end|>"]
SPREAD = 0.1
"""Larger than the usual 0.02, so that an adapter of small values moves the loss visibly."""
CHAT_TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def write_tiny_llama(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    vocabulary = [*SPECIALS, *byte_alphabet()]
    for name, document in {
        "config.json": config(len(vocabulary)),
        "generation_config.json": {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1},
        "tokenizer.json": tokeniser(vocabulary),
        "tokenizer_config.json": tokeniser_config(),
    }.items():
        (folder / name).write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    (folder / "model.safetensors").write_bytes(format_safetensors(weights(len(vocabulary))))


def config(vocabulary: int) -> dict[str, Any]:
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": vocabulary,
        "hidden_size": HIDDEN,
        "head_dim": HEAD,
        "intermediate_size": INNER,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "num_key_value_heads": KEY_HEADS,
        "hidden_act": "silu",
        "max_position_embeddings": 512,
        "rms_norm_eps": 1e-6,
        "rope_theta": 10000.0,
        "tie_word_embeddings": True,
        "bos_token_id": 0,
        "eos_token_id": 1,
        "pad_token_id": 1,
        "torch_dtype": "float32",
    }


def weights(vocabulary: int) -> dict[str, Values]:
    shapes = {"model.embed_tokens.weight": (vocabulary, HIDDEN), "model.norm.weight": (HIDDEN,)}
    for layer in (f"model.layers.{number}." for number in range(LAYERS)):
        shapes[f"{layer}self_attn.q_proj.weight"] = (HEADS * HEAD, HIDDEN)
        shapes[f"{layer}self_attn.k_proj.weight"] = (KEY_HEADS * HEAD, HIDDEN)
        shapes[f"{layer}self_attn.v_proj.weight"] = (KEY_HEADS * HEAD, HIDDEN)
        shapes[f"{layer}self_attn.o_proj.weight"] = (HIDDEN, HEADS * HEAD)
        shapes[f"{layer}mlp.gate_proj.weight"] = (INNER, HIDDEN)
        shapes[f"{layer}mlp.up_proj.weight"] = (INNER, HIDDEN)
        shapes[f"{layer}mlp.down_proj.weight"] = (HIDDEN, INNER)
        shapes[f"{layer}input_layernorm.weight"] = (HIDDEN,)
        shapes[f"{layer}post_attention_layernorm.weight"] = (HIDDEN,)
    draw = random.Random(1)
    return {name: (shape, initial(shape, draw)) for name, shape in sorted(shapes.items())}


def initial(shape: tuple[int, ...], draw: random.Random) -> list[float]:
    if len(shape) == 1:  # of a norm
        return [1.0] * shape[0]
    return [draw.gauss(0, SPREAD) for _ in range(shape[0] * shape[1])]


def byte_alphabet() -> list[str]:
    """A printable character per byte, as GPT-2's byte-level tokenisers have them."""
    printable = {*range(33, 127), *range(161, 173), *range(174, 256)}
    others = [byte for byte in range(256) if byte not in printable]
    return sorted([chr(byte) for byte in printable] + [chr(256 + index) for index in range(len(others))])


def tokeniser(vocabulary: list[str]) -> dict[str, Any]:
    bytes_as_characters = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{"id": index, "content": token, **flags} for index, token in enumerate(SPECIALS)],
        "normalizer": None,
        "pre_tokenizer": bytes_as_characters,
        "post_processor": None,
        "decoder": bytes_as_characters,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "vocab": {token: index for index, token in enumerate(vocabulary)},
            "merges": [],
        },
    }


def tokeniser_config() -> dict[str, Any]:
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": SPECIALS[0],
        "eos_token": SPECIALS[1],
        "pad_token": SPECIALS[1],
        "model_max_length": 512,
        "chat_template": CHAT_TEMPLATE,
    }
