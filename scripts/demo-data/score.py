"""
Loss of a base model with and without an adapter on a folder of records: `score.py MODEL ADAPTER DATA`, all three folders.

Prints one line of JSON as a trainer's result has it: {"tokens", "parentLoss", "loss"}, parentLoss being the base model's. Every record of
the folder may be used, for nobody trained on it; those with the lowest hashes are, up to --records.
"""

import argparse
import json
import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "trainer-image"))

from rondo_trainer.data.reading import read_data  # noqa: E402
from rondo_trainer.data.split import split_records  # noqa: E402
from rondo_trainer.data.tokenise import Tokeniser  # noqa: E402
from rondo_trainer.site_settings import available_threads  # noqa: E402

BATCH = 8


def main() -> None:
    parser = argparse.ArgumentParser(description="Loss of a base model with and without an adapter.")
    parser.add_argument("model", type=Path)
    parser.add_argument("adapter", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--records", type=int, default=24)
    parser.add_argument("--sequence-length", type=int, default=64)
    arguments = parser.parse_args()

    os.environ.update(HF_HUB_OFFLINE="1", HF_HUB_DISABLE_PROGRESS_BARS="1", TRANSFORMERS_VERBOSITY="error", OMP_WAIT_POLICY="PASSIVE")
    import torch
    from peft import PeftModel

    from rondo_trainer.evaluate import evaluate
    from rondo_trainer.model import load_base, load_tokeniser

    torch.set_num_threads(available_threads())
    tokeniser = load_tokeniser(arguments.model)
    model = PeftModel.from_pretrained(load_base(arguments.model, "cpu", "float32"), arguments.adapter)
    split = split_records(read_data(arguments.data).records, percent=100, most=arguments.records)
    examples = Tokeniser(tokeniser, arguments.sequence_length).examples(split.held_out)
    with model.disable_adapter():
        base = evaluate(model, examples, BATCH, tokeniser.pad_token_id)
    adapted = evaluate(model, examples, BATCH, tokeniser.pad_token_id)
    if base is None or adapted is None:
        sys.exit(f"score: no record of {arguments.data} fits into {arguments.sequence_length} tokens")
    print(json.dumps({"tokens": base.tokens, "parentLoss": base.loss, "loss": adapted.loss}))


if __name__ == "__main__":
    main()
