"""
What an exit code of a trainer means (docs/trainer.md).

Holds: a code from 64 to 78 says that the same task with the same data would fail again, so that nobody retries it;
every other code is retried within the Job's budget. The agent puts the meaning, never the message, into the round's status.
"""

DONE = 0
RETRY = 1
NOT_UNDERSTOOD = 64
DATA_MALFORMED = 65
INPUT_MISSING = 66
OTHER_BASE_MODEL = 69
DIVERGED = 70
REFUSED = 76
BUDGET_EXCEEDED = 77
TERMINATED = 143

MEANING = {
    DONE: "done",
    RETRY: "the trainer failed",
    NOT_UNDERSTOOD: "the task is not understood",
    DATA_MALFORMED: "the data is empty or malformed",
    INPUT_MISSING: "the data or the base model is missing",
    OTHER_BASE_MODEL: "the base model has another digest than the plan's",
    DIVERGED: "training diverged",
    REFUSED: "the agent refused what the trainer asked for or handed back",
    BUDGET_EXCEEDED: "the site's privacy budget forbids it",
    TERMINATED: "the trainer was stopped",
}


class TrainerError(Exception):
    """A failure whose exit code is known. The message is a sentence for the site's own people, with a remedy."""

    code = RETRY


class TaskNotUnderstoodError(TrainerError):
    """The task names something that this trainer or this base model does not have."""

    code = NOT_UNDERSTOOD


class DataMalformedError(TrainerError):
    """A file of the site holds nothing, or something that is no record."""

    code = DATA_MALFORMED


class InputMissingError(TrainerError):
    """A volume of the site's pod template is not mounted or holds no such file."""

    code = INPUT_MISSING


class OtherBaseModelError(TrainerError):
    """The weights at the site are not those that the federation trains on."""

    code = OTHER_BASE_MODEL


class DivergedError(TrainerError):
    """A loss or a weight is not finite any more."""

    code = DIVERGED


class RefusedError(TrainerError):
    """The agent answered 4xx: the task is over, or what was handed back does not fit the plan."""

    code = REFUSED


class TerminatedError(TrainerError):
    """SIGTERM; a new pod goes on from the checkpoint, where the site keeps one."""

    code = TERMINATED


class BudgetExceededError(TrainerError):
    """The task would spend more record-level privacy than the site's owner allows in all; nothing was trained."""

    code = BUDGET_EXCEEDED


class AgentUnreachableError(TrainerError):
    """No answer until the deadline; the Job may try again."""

    code = RETRY
