"""
Every check by name: for which kinds of task, by which situations, and the words of docs/trainer.md that it holds a trainer to.

Holds: `says` stands literally on that page (a test compares), so that a report quotes the contract and not the checker's idea of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from . import judge_conduct, judge_delivery
from .certificate import Certificate, make_certificate
from .situations import situations
from .trial import Stand, Trial
from .verdict import OK, Finding, NotTried, Verdict

KINDS = ("train", "evaluate", "initialise")


class Bench:
    """Trials by situation, each run once, when it is first asked for. kind: of the tasks that something is wrong with."""

    def __init__(self, stand: Stand, kinds: tuple[str, ...], folder: Path) -> None:
        self.stand, self.kinds = stand, kinds
        self.kind = next(kind for kind in KINDS if kind in kinds)
        self.situations = situations(stand.fixtures, self.kind, folder)
        self.own: Certificate = make_certificate(folder / "own-authority", stand.launch.address)
        self.strange: Certificate = make_certificate(folder / "other-authority", stand.launch.address)
        self.trials: dict[str, Trial] = {}

    def trial(self, name: str) -> Trial:
        if name not in self.trials:
            situation = self.situations[name]
            shown = self.strange if situation.is_strange else self.own
            self.trials[name] = self.stand.run(name, situation, self.own, shown)
        return self.trials[name]

    def good(self, name: str) -> Trial:
        """One that says nothing unless the task was done."""
        trial = self.trial(name)
        try:
            judge_delivery.done(trial)
        except Finding as finding:
            raise NotTried(f"the {trial.kind} task failed: {finding}") from None
        return trial

    def with_data(self, name: str) -> Trial:
        if self.kind == "initialise":
            raise NotTried("an initialise task has neither data nor weights")
        return self.trial(name)

    def seen(self) -> list[Trial]:
        return list(self.trials.values()) or [self.trial(self.kind)]


@dataclass(frozen=True)
class Check:
    name: str
    kinds: tuple[str, ...]
    says: str
    judge: Callable[[Bench], str]


DELIVERS = "every tensor of the parent with its name and shape, F32, F16 or BF16"
LAST = "the last call, it completes the task"
LOSSES = "Losses are means in nats per token."
PARENT = "`train`: parent adapter in, trained adapter out."
EVALUATES = "An `evaluate` task has `steps: 0` and neither `trainLoss` nor `adapterSha256`."
INITIALISES = "`initialise`: a fresh adapter from the base model's configuration alone, without weights or data"
AGAIN = "mean that the agent is restarting (try again until `deadline`)"
UNSUPPORTED = "refuse any other value with exit code 64"
NOT_UNDERSTOOD = "| 64 | the task is not understood"


def parents(bench: Bench) -> tuple[Path, Path]:
    return bench.stand.fixtures.parent, bench.stand.fixtures.other


CHECKS = (
    Check("train", ("train",), "| 0 | done | complete |", lambda b: judge_delivery.done(b.trial("train"))),
    Check("train-order", ("train",), LAST, lambda b: judge_delivery.order(b.trial("train"))),
    Check("train-adapter", ("train",), DELIVERS, lambda b: judge_delivery.adapter(b.trial("train"), parents(b)[0])),
    Check("train-digest", ("train",), '"adapterSha256": "<64 hexadecimal digits>"', lambda b: judge_delivery.digest(b.trial("train"))),
    Check("train-result", ("train",), LOSSES, lambda b: judge_delivery.result(b.trial("train"))),
    Check("trained", ("train",), PARENT, lambda b: judge_delivery.trained(b.good("train"), parents(b)[0])),
    Check("parent", ("train",), PARENT, lambda b: judge_delivery.parent_used(b.good("train"), b.good("other-parent"), parents(b))),
    Check("unknown-fields", ("train",), "of a newer agent: ignore it", lambda b: judge_delivery.done(b.trial("again"))),
    Check("same-seed", ("train",), "Same seed, data", lambda b: judge_delivery.same_seed(b.good("train"), b.good("again"))),
    Check("evaluate", ("evaluate",), "| 0 | done | complete |", lambda b: judge_delivery.done(b.trial("evaluate"))),
    Check("evaluate-order", ("evaluate",), LAST, lambda b: judge_delivery.order(b.trial("evaluate"))),
    Check("evaluate-result", ("evaluate",), EVALUATES, lambda b: judge_delivery.result(b.trial("evaluate"))),
    Check(
        "candidate", ("evaluate",), "the adapter to compare with the parent", lambda b: judge_delivery.candidate_used(b.good("evaluate"))
    ),
    Check("initialise", ("initialise",), INITIALISES, lambda b: judge_delivery.done(b.trial("initialise"))),
    Check("initialise-order", ("initialise",), LAST, lambda b: judge_delivery.order(b.trial("initialise"))),
    Check("initialise-adapter", ("initialise",), DELIVERS, lambda b: judge_delivery.adapter(b.trial("initialise"), parents(b)[0])),
    Check("initialise-result", ("initialise",), "`result.json`, below", lambda b: judge_delivery.result(b.trial("initialise"))),
    Check("progress", KINDS, "at most once a second; optional", lambda b: judge_delivery.progress(b.trial(b.kind))),
    Check("other-schema", KINDS, NOT_UNDERSTOOD, lambda b: judge_conduct.refused(b.trial("other-schema"), 64)),
    Check("other-rank", ("train", "evaluate"), NOT_UNDERSTOOD, lambda b: judge_conduct.refused(b.with_data("other-rank"), 64)),
    Check("other-modules", KINDS, NOT_UNDERSTOOD, lambda b: judge_conduct.refused(b.trial("other-modules"), 64)),
    Check("frozen", ("train",), UNSUPPORTED, lambda b: judge_conduct.frozen(b.trial("frozen"), parents(b)[0])),
    Check("record-privacy", ("train",), UNSUPPORTED, lambda b: judge_conduct.private(b.trial("record-privacy"))),
    Check("other-base", KINDS, "refuse other weights with exit code 69", lambda b: judge_conduct.refused(b.with_data("other-base"), 69)),
    Check("empty-data", KINDS, "| 65 | the data is empty or malformed", lambda b: judge_conduct.refused(b.with_data("empty-data"), 65)),
    Check("no-data", KINDS, "| 66 | the data or the base model is missing", lambda b: judge_conduct.refused(b.with_data("no-data"), 66)),
    Check("restart", KINDS, AGAIN, lambda b: judge_conduct.restart(b.trial("restart"))),
    Check("refusal", KINDS, "| 76 | the agent refused what was handed back", lambda b: judge_conduct.refusal(b.trial("refusal"))),
    Check("deadline", KINDS, "agent unreachable until the deadline", lambda b: judge_conduct.deadline(b.trial("deadline"))),
    Check(
        "stop",
        KINDS,
        "On SIGTERM, stop within the grace period.",
        lambda b: judge_conduct.stop(b.trial("stop"), b.stand.limits.grace_seconds),
    ),
    Check(
        "stranger", KINDS, "file with the certificate to trust, and none besides it", lambda b: judge_conduct.stranger(b.trial("stranger"))
    ),
    Check("token", KINDS, "file with the token of this task", lambda b: judge_conduct.token(b.seen())),
    Check("files", KINDS, "`/rondo/out` and `/tmp` are writable and empty", lambda b: judge_conduct.files(b.seen())),
)


def run_checks(bench: Bench, only: tuple[str, ...] = ()) -> Iterator[Verdict]:
    """Those of the bench's kinds, in the table's order; of a check that needs a run which failed: why it was not tried."""
    for check in CHECKS:
        if set(check.kinds) & set(bench.kinds) and (not only or check.name in only):
            try:
                yield Verdict(check.name, OK, check.judge(bench), check.says)
            except Finding as finding:
                yield Verdict(check.name, finding.status, str(finding), check.says)
