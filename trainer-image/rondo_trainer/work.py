"""
A train or evaluate task, from the site's files to what is handed back.

Holds: what can fail early is looked at before PyTorch is imported: a broken line of data costs milliseconds, not the seconds of that
import. Parent and candidate are scored one after the other on one base model. Only rank 0 speaks with the agent.
Does not: know exit codes (__main__.py).
"""

from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .client import TaskClient
from .data.reading import Reading, read_data
from .data.records import Record
from .data.report import DataReport, data_report
from .data.split import Split, split_records
from .data.tokenise import Example, Tokeniser
from .data.tokenised import TokenisedRecords
from .exits import DataMalformedError, TaskNotUnderstoodError
from .laps import Laps
from .model import check_digest, file_sha256, require_config
from .ranks import Ranks
from .say import say, step_line
from .site_settings import Site
from .task import Task, Training
from .termination import deferred

if TYPE_CHECKING:
    from collections.abc import Callable

    from .checkpoint import Checkpoints
    from .generate import Limits
    from .train import Progress, Trained

    Report = Callable[[Progress], None]


@dataclass(frozen=True)
class Workplace:
    task: Task
    site: Site
    client: TaskClient
    ranks: Ranks
    laps: Laps


@dataclass(frozen=True)
class Bench:
    """The base model with the parent adapter on it, and what turns records into its tokens."""

    model: Any
    tokeniser: Tokeniser
    pad_token: int

    def tokenised(self, records: list[Record], training: Training) -> TokenisedRecords:
        return TokenisedRecords(records, self.tokeniser, training.on_bad_record)


@dataclass(frozen=True)
class Data:
    """The site's records as they were read and split, and their examples."""

    found: Reading
    split: Split
    train: TokenisedRecords
    held_out: TokenisedRecords

    def report(self) -> DataReport:
        return data_report(self.split, len(self.found.records), self.found.skipped, [self.train, self.held_out])


def work(place: Workplace) -> dict[str, Any]:
    """The fields of result.json."""
    from .device import prepare_libraries

    task, site = place.task, place.site
    require_config(site.model)
    assert task.training is not None
    if task.record_privacy:
        require_alone(place)
    with ThreadPoolExecutor(1) as beside:
        # One rank is enough: they all read the same folder.
        digest_checked = beside.submit(check_digest, site.model, task.base_model) if place.ranks.is_first else None
        found = read_data(site.data, task.training.style, task.training.on_bad_record)
        split = split_records(found.records, site.held_out_percent, site.held_out_max)
        if task.kind == "train" and not split.train:
            raise DataMalformedError("every record is held out; lower RONDO_HELD_OUT_PERCENT or add records")
        place.laps.lap("data")
        parent = adapter_file(place, "/v1/task/adapter", "parent.safetensors")
        place.laps.lap("parent adapter")
        prepare_libraries(site)
        place.laps.lap("libraries")
        if digest_checked:
            digest_checked.result()
        place.laps.lap("digest of the base model")
    bench = prepare(place, parent)
    place.laps.lap("base model")
    data = Data(found, split, bench.tokenised(split.train, task.training), bench.tokenised(split.held_out, task.training))
    fields = train_task(place, data, bench, parent) if task.kind == "train" else evaluate_task(place, data, bench)
    if place.ranks.is_first:
        for sentence in [*found.notes, *data.report().sentences()]:
            say(sentence)
    return fields


def adapter_file(place: Workplace, path: str, name: str) -> Path:
    """Of several ranks each fetches its own: the agent's file is small, and none has to wait for another."""
    folder = place.site.out / "in" / str(place.ranks.rank)
    folder.mkdir(parents=True, exist_ok=True)
    place.client.download(path, folder / name)
    return folder / name


def prepare(place: Workplace, parent: Path) -> Bench:
    from .device import choose_device
    from .model import attach, load_adapter, load_base, load_tokeniser

    task, site = place.task, place.site
    assert task.training is not None
    device = choose_device(site, place.ranks)
    tokeniser = load_tokeniser(site.model)
    base = load_base(site.model, device.name, device.dtype, task.training.quantization)
    model = attach(base, task.adapter)
    load_adapter(model, parent)
    pad_token = tokeniser.pad_token_id if tokeniser.pad_token_id is not None else tokeniser.eos_token_id
    return Bench(model, Tokeniser(tokeniser, task.training.sequence_length, task.training.style), pad_token or 0)


def train_task(place: Workplace, data: Data, bench: Bench, parent_file: Path) -> dict[str, Any]:
    from .checkpoint import Checkpoints, checkpoint_name
    from .device import peak_gpu_bytes
    from .evaluate import evaluate
    from .export import adapter_tensors, write_adapter
    from .isolation import require_isolation
    from .model import save_activations
    from .train import Progress, freeze

    task, site, client, ranks = place.task, place.site, place.client, place.ranks
    training = task.training
    assert training is not None

    def report(now: Progress) -> None:
        if not ranks.is_first:
            return
        speed = round(now.tokens_per_second, 1)
        client.progress({"step": now.step, "steps": now.steps, "loss": now.loss, "tokensPerSecond": speed})
        say(step_line(now))

    held_out = list(data.held_out.examples())
    parent = evaluate(bench.model, held_out, training.batch_size, bench.pad_token)
    place.laps.lap("held-out records")
    if ranks.is_first:
        say(f"ready after {place.laps}")
    freeze(bench.model, task.frozen)
    if training.packing:
        require_isolation(bench.model)
    if training.gradient_checkpointing:
        save_activations(bench.model)
    name = checkpoint_name(task, file_sha256(parent_file), len(data.train))
    checkpoints = Checkpoints(site.checkpoints, name)
    if task.record_privacy:
        trained, privacy = train_with_privacy(place, list(data.train.examples()), bench, report)
    else:
        trained, privacy = train_plainly(place, data, bench, checkpoints, report), None
    own = evaluate(bench.model, held_out, training.batch_size, bench.pad_token)
    if not ranks.is_first:
        return {}
    file, digest = write_adapter(adapter_tensors(bench.model), task.adapter, task.base_model, site.out / "adapter")
    client.upload("/v1/task/adapter", file)
    checkpoints.remove()
    return {
        "examples": len(data.train),
        "steps": trained.steps,
        "tokens": trained.tokens,
        "trainLoss": trained.loss,
        "heldOut": compared(parent, own),
        "recordPrivacy": privacy,
        "adapterSha256": digest,
        "peakGpuBytes": peak_gpu_bytes(),
    }


def train_plainly(place: Workplace, data: Data, bench: Bench, checkpoints: "Checkpoints", report: "Report") -> "Trained":
    from .data.order import Rows
    from .train import Run, steps_of, train

    task, site = place.task, place.site
    assert task.training is not None
    rows = Rows(data.train, task.seed, packing=task.training.packing)
    # Without checkpoints there is nothing to wait for: a new pod trains the same adapter from the same seed.
    with deferred() if site.checkpoints else nullcontext(never) as stop:
        run = Run(bench.pad_token, report, checkpoints, site.checkpoint_seconds, stop, place.ranks)
        return train(bench.model, rows.endless(), task.training, steps_of(task.training, rows), run)


def train_with_privacy(place: Workplace, examples: list[Example], bench: Bench, report: "Report") -> tuple["Trained", dict[str, float]]:
    """What was trained, and what all rounds at this site have spent with it."""
    from .privacy.dp_sgd import PrivateTraining, train_privately
    from .privacy.ledger import require_affordable

    training, wish = place.task.training, place.task.record_privacy
    assert training is not None
    assert training.steps is not None
    assert wish is not None
    after = require_affordable(wish.budget, wish.spent, wish.cost(training.steps))
    settings = PrivateTraining(
        training.steps, training.batch_size, training.learning_rate, wish.noise_multiplier, wish.max_grad_norm, wish.sample_rate
    )
    trained = train_privately(bench.model, examples, settings, bench.pad_token, report)
    return trained, {"epsilon": after.epsilon_after, "delta": wish.budget.delta}


def require_alone(place: Workplace) -> None:
    """What does not go with clipping by record; the budget is looked at before the model is loaded."""
    from .privacy.ledger import require_affordable

    training, wish = place.task.training, place.task.record_privacy
    assert training is not None
    assert training.steps is not None
    assert wish is not None
    if training.proximal_term or training.gradient_checkpointing or training.quantization:
        raise TaskNotUnderstoodError("recordPrivacy goes with neither proximalTerm, gradientCheckpointing nor quantization; leave them out")
    require_affordable(wish.budget, wish.spent, wish.cost(training.steps))


def evaluate_task(place: Workplace, data: Data, bench: Bench) -> dict[str, Any]:
    from .device import peak_gpu_bytes
    from .evaluate import evaluate
    from .generate import Limits
    from .model import load_adapter

    assert place.task.training is not None
    batch_size = place.task.training.batch_size
    held_out = list(data.held_out.examples())
    answers = Answers(data.split.held_out, bench, Limits(place.site.answers_max, batch_size=batch_size))
    parent, parent_answers = evaluate(bench.model, held_out, batch_size, bench.pad_token), answers.quality()
    load_adapter(bench.model, adapter_file(place, "/v1/task/candidate", "candidate.safetensors"))
    other, other_answers = evaluate(bench.model, held_out, batch_size, bench.pad_token), answers.quality()
    answered = {"count": len(answers.asked), "parent": parent_answers, "candidate": other_answers} if answers.asked else None
    losses = compared(parent, other)
    return {
        "examples": len(held_out),
        "steps": 0,
        "tokens": 0,
        "heldOut": losses and {**losses, "answers": answered},
        "peakGpuBytes": peak_gpu_bytes(),
    }


class Answers:
    """To the last questions of held-out records, by whatever adapter is on the model."""

    def __init__(self, held_out: list[Record], bench: Bench, limits: "Limits") -> None:
        from .generate import questions

        self.bench, self.limits = bench, limits
        self.asked = questions(held_out, bench.tokeniser, limits)

    def quality(self) -> dict[str, float] | None:
        """Means over the answers; None without questions."""
        from .generate import generate
        from .metrics import quality

        answers = generate(self.bench.model, self.asked, self.bench.tokeniser, self.limits)
        found = quality(answers, [question.reference for question in self.asked])
        return found and {"exactMatch": found.exact_match, "rougeL": found.rouge_l}


def never() -> bool:
    return False


def compared(parent: Any, candidate: Any) -> dict[str, Any] | None:
    if parent is None or candidate is None:
        return None
    return {"tokens": parent.tokens, "parentLoss": parent.loss, "loss": candidate.loss}
