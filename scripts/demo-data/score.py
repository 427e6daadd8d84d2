"""
Scores a PEFT adapter and its base model on a folder of records: `score.py MODEL ADAPTER DATA`; prints one JSON object with
`tokens`, `parentLoss` (of the base model) and `loss` (of the adapter), means in nats per token. For text that belongs to nobody:
a participant's own text is scored by its own trainer, in its own cluster.
"""

import argparse
import json
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "trainer-image"))

from rondo_trainer.data import Tokeniser, read_records, split_records  # noqa: E402
from rondo_trainer.evaluate import evaluate  # noqa: E402
from rondo_trainer.model import attach, load_adapter, load_base, load_tokeniser  # noqa: E402
from rondo_trainer.task import Adapter  # noqa: E402

RECORDS = 48
SEQUENCE_LENGTH = 128
BATCH_SIZE = 8


def main() -> None:
    parser = argparse.ArgumentParser(description="Scores an adapter and its base model on a folder of records.")
    for name in ("model", "adapter", "data"):
        parser.add_argument(name, type=Path)
    arguments = parser.parse_args()

    config = json.loads((arguments.adapter / "adapter_config.json").read_text())
    shape = Adapter(config["r"], config["lora_alpha"], tuple(config["target_modules"]))
    model = attach(load_base(arguments.model, "cpu", "float32"), shape)
    load_adapter(model, arguments.adapter / "adapter_model.safetensors")
    tokeniser = load_tokeniser(arguments.model)
    records = split_records(read_records(arguments.data), 100, RECORDS).held_out
    examples = Tokeniser(tokeniser, SEQUENCE_LENGTH).examples(records)
    pad_token = tokeniser.pad_token_id if tokeniser.pad_token_id is not None else tokeniser.eos_token_id

    candidate = evaluate(model, examples, BATCH_SIZE, pad_token)
    with model.disable_adapter():
        base = evaluate(model, examples, BATCH_SIZE, pad_token)
    assert candidate is not None
    assert base is not None
    print(json.dumps({"tokens": base.tokens, "parentLoss": base.loss, "loss": candidate.loss}))


if __name__ == "__main__":
    main()
