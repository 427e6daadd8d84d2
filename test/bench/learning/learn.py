"""
One way to train one adapter on the demo's four dictionaries, and its loss on every participant's held-out text:
`learn.py ARM SEED MODEL DATA`. Prints one line of JSON; progress goes to stderr.

Holds: everything but the exchange between sites is the trainer's own code, with the demo's rank, modules, batch and length; the exchange is
the mean of the adapters, as the operator takes it with uniform weights. All arms of one seed begin with the same adapter.
"""

import argparse
import json
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT / "trainer-image"))
os.environ.update(HF_HUB_OFFLINE="1", HF_HUB_DISABLE_PROGRESS_BARS="1", TRANSFORMERS_VERBOSITY="error", OMP_WAIT_POLICY="PASSIVE")

import torch  # noqa: E402

from rondo_trainer.checkpoint import Checkpoints  # noqa: E402
from rondo_trainer.data.order import endless_examples  # noqa: E402
from rondo_trainer.data.reading import read_data  # noqa: E402
from rondo_trainer.data.records import Record  # noqa: E402
from rondo_trainer.data.split import Split, split_records  # noqa: E402
from rondo_trainer.data.tokenise import Tokeniser  # noqa: E402
from rondo_trainer.device import computes_bfloat16  # noqa: E402
from rondo_trainer.evaluate import evaluate  # noqa: E402
from rondo_trainer.export import adapter_tensors  # noqa: E402
from rondo_trainer.initialise import initial_adapter  # noqa: E402
from rondo_trainer.model import attach, load_base, load_tokeniser, set_adapter  # noqa: E402
from rondo_trainer.privacy.accountant import spent_epsilon  # noqa: E402
from rondo_trainer.privacy.dp_sgd import PrivateTraining, train_privately  # noqa: E402
from rondo_trainer.privacy.settings import Spent  # noqa: E402
from rondo_trainer.task import Adapter, Matrix, Training  # noqa: E402
from rondo_trainer.train import Run, freeze, train  # noqa: E402

SITES = ("chemistry", "computing", "hackers", "satire")
ROUNDS = 10
STEPS = 8
HELD_OUT = 48
ADAPTER = Adapter(rank=8, alpha=16, target_modules=("q_proj", "v_proj"))
TRAINING = Training("instruction", STEPS, None, batch_size=4, sequence_length=64, learning_rate=1e-3)
PROXIMAL_TERM = 0.1
EPSILON, DELTA = 8.0, 1e-5
MAX_GRAD_NORM = 1.0

Tensors = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Bench:
    model: Any
    tokeniser: Tokeniser
    pad_token: int
    sites: dict[str, Split]
    frozen: Matrix | None

    def train(self, parent: Tensors, rows: Iterator[Any], training: Training, steps: int) -> Tensors:
        """From the parent, with an optimiser of its own: what one site does in one round."""
        set_adapter(self.model, parent)
        freeze(self.model, self.frozen)
        train(self.model, rows, training, steps, Run(self.pad_token, lambda _: None, Checkpoints(None, "")))
        return {name: tensor.detach().clone() for name, tensor in adapter_tensors(self.model).items()}

    def rows(self, records: list[Record], seed: int) -> Iterator[Any]:
        return endless_examples(records, self.tokeniser, seed)

    def losses(self, adapter: Tensors) -> dict[str, float]:
        """By site, in nats per token of its held-out records."""
        set_adapter(self.model, adapter)
        found = {}
        for name, split in self.sites.items():
            scored = evaluate(self.model, self.tokeniser.examples(split.held_out), 8, self.pad_token)
            assert scored is not None
            found[name] = scored.loss
        return found


def federated(bench: Bench, initial: Tensors, seed: int, training: Training) -> list[dict[str, float]]:
    """The losses after each round."""
    adapter, curve = initial, []
    rows = {name: bench.rows(split.train, seed + index) for index, (name, split) in enumerate(bench.sites.items())}
    for number in range(1, ROUNDS + 1):
        deltas = [bench.train(adapter, rows[name], training, STEPS) for name in bench.sites]
        adapter = {name: torch.stack([delta[name] for delta in deltas]).mean(dim=0) for name in adapter}
        curve.append(bench.losses(adapter))
        say(f"round {number}/{ROUNDS}: {mean(curve[-1].values()):.3f}")
    return curve


def federated_privately(bench: Bench, initial: Tensors) -> list[dict[str, float]]:
    """Each site draws a batch of the usual size on average, and has the least noise with which all rounds keep to (EPSILON, DELTA)."""
    adapter, curve = initial, []
    examples = {name: bench.tokeniser.examples(split.train) for name, split in bench.sites.items()}
    noise = {name: least_noise(TRAINING.batch_size / len(own)) for name, own in examples.items()}
    say(f"noise multipliers: {', '.join(f'{name} {value:.2f}' for name, value in noise.items())}")
    for number in range(1, ROUNDS + 1):
        deltas = []
        for name, own in examples.items():
            set_adapter(bench.model, adapter)
            rate = TRAINING.batch_size / len(own)
            settings = PrivateTraining(STEPS, TRAINING.batch_size, TRAINING.learning_rate, noise[name], MAX_GRAD_NORM, rate)
            train_privately(bench.model, own, settings, bench.pad_token, lambda _: None)
            deltas.append({key: tensor.detach().clone() for key, tensor in adapter_tensors(bench.model).items()})
        adapter = {name: torch.stack([delta[name] for delta in deltas]).mean(dim=0) for name in adapter}
        curve.append(bench.losses(adapter))
        say(f"round {number}/{ROUNDS}: {mean(curve[-1].values()):.3f}")
    return curve


def least_noise(rate: float) -> float:
    low, high = 0.1, 50.0
    while high / low > 1.01:
        middle = (low * high) ** 0.5
        epsilon = spent_epsilon([Spent(middle, rate, ROUNDS * STEPS)], DELTA).epsilon
        low, high = (low, middle) if epsilon <= EPSILON else (middle, high)
    return high


def local_only(bench: Bench, initial: Tensors, seed: int) -> list[dict[str, float]]:
    """The losses of each site's own adapter on everybody's text."""
    found = []
    for index, split in enumerate(bench.sites.values()):
        found.append(bench.losses(bench.train(initial, bench.rows(split.train, seed + index), TRAINING, ROUNDS * STEPS)))
        say(f"site {index + 1}/{len(bench.sites)}: {mean(found[-1].values()):.3f}")
    return found


def centralised(bench: Bench, initial: Tensors, seed: int, steps: int) -> list[dict[str, float]]:
    """Each site's records as often as another's, as in the federated mean."""
    own = [bench.rows(split.train, seed + index) for index, split in enumerate(bench.sites.values())]
    pooled = (next(own[number % len(own)]) for number in count())
    return [bench.losses(bench.train(initial, pooled, TRAINING, steps))]


def learn(arm: str, seed: int, bench: Bench, initial: Tensors) -> list[dict[str, float]]:
    whole = ROUNDS * STEPS
    return {
        "initial": lambda: [bench.losses(initial)],
        "recordPrivacy": lambda: federated_privately(bench, initial),
        "local": lambda: local_only(bench, initial, seed),
        "federated": lambda: federated(bench, initial, seed, TRAINING),
        "freezeA": lambda: federated(bench, initial, seed, TRAINING),
        "fedprox": lambda: federated(bench, initial, seed, replace(TRAINING, proximal_term=PROXIMAL_TERM)),
        "centralised": lambda: centralised(bench, initial, seed, whole * len(SITES)),
        "centralised-short": lambda: centralised(bench, initial, seed, whole),
    }[arm]()


def mean(values: Any) -> float:
    found = list(values)
    return sum(found) / len(found)


def say(sentence: str) -> None:
    print(sentence, file=sys.stderr, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description="One way to train one adapter, scored on every participant's held-out text.")
    parser.add_argument("arm")
    parser.add_argument("seed", type=int)
    parser.add_argument("model", type=Path)
    parser.add_argument("data", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True, warn_only=True)
    dtype = "bfloat16" if computes_bfloat16("cpu") else "float32"
    tokeniser = load_tokeniser(arguments.model)
    model = attach(load_base(arguments.model, "cpu", dtype), ADAPTER)
    sites = {name: split_records(read_data(arguments.data / name).records, 10, HELD_OUT) for name in SITES}
    bench = Bench(
        model, Tokeniser(tokeniser, TRAINING.sequence_length), tokeniser.pad_token_id, sites, "A" if arguments.arm == "freezeA" else None
    )
    initial = initial_adapter(arguments.model, ADAPTER, arguments.seed)
    losses = learn(arguments.arm, arguments.seed, bench, initial)
    print(json.dumps({"arm": arguments.arm, "seed": arguments.seed, "losses": losses}))


if __name__ == "__main__":
    main()
