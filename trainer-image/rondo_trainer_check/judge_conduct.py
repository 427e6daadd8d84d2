"""
Judges of how a trainer takes what goes wrong: exit codes, a restarting agent, SIGTERM, secrets and stray files.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from .judge_delivery import ADAPTER, RESULT, adapter_of, distance, done, ended, last_words
from .trial import Trial
from .verdict import Broken, NotTried

NO_RETRY = range(64, 79)


def refused(trial: Trial, code: int) -> str:
    """It ended with this code, and handed nothing back."""
    found = ended(trial)
    handed = next((call.name for call in trial.calls if call.name in (ADAPTER, RESULT)), None)
    if handed:
        raise Broken(f"it went on and sent {handed}; it must end with {code} before")
    if found != code:
        raise Broken(f"exit {found} instead of {code}{last_words(trial)}")
    return f"exit {code}"


def private(trial: Trial) -> str:
    """Either it refuses, or it does it and tells the price."""
    result = next((call.document for call in trial.named(RESULT) if isinstance(call.document, dict)), None)
    if result is None:
        return refused(trial, 64)
    if not result.get("recordPrivacy"):
        raise Broken(
            "it trained as if nothing had been asked: the records would have gone into the round without the noise they were promised"
        )
    return "it trained with differential privacy and told its epsilon"


def frozen(trial: Trial, parent: Path) -> str:
    """Either it refuses, or the half that is frozen comes back as it was."""
    if not trial.named(ADAPTER):
        return refused(trial, 64)
    if distance(adapter_of(trial), parent, of=".lora_A.") > 0:
        raise Broken("it changed the half of the adapter that the task says is frozen; the round's mean would be of something else")
    return "the frozen half came back as it was"


def restart(trial: Trial) -> str:
    done(trial)
    asked = [call for call in trial.calls if call.status in (401, 503)]
    return f"asked again after a lost connection and {len(asked)} answers of 503 and 401"


def refusal(trial: Trial) -> str:
    found = ended(trial)
    refusals = [call for call in trial.calls if call.status == 422]
    if not refusals:
        raise NotTried(f"it handed nothing back that could be refused (exit {found})")
    if len(refusals) > 1:
        raise Broken(f"{refusals[0].name} was sent {len(refusals)} times although 422 is final")
    if found != 76:
        raise Broken(f"exit {found} instead of 76 after {refusals[0].name} was answered 422{last_words(trial)}")
    return "exit 76 after one refusal"


def deadline(trial: Trial) -> str:
    found = ended(trial)
    if found == 0 or found in NO_RETRY:
        raise Broken(f"exit {found} when the agent had gone and the deadline was over; this is chance, so neither 0 nor 64 to 78")
    return f"gave up with exit {found} after {trial.seconds:.1f} s"


def stop(trial: Trial, grace_seconds: float) -> str:
    if trial.stop_seconds is None:
        found = ended(trial)
        raise NotTried(f"it was over before it could be stopped (exit {found}){last_words(trial)}")
    if trial.exit_code is None:
        raise Broken(f"it was still there {grace_seconds:.0f} s after SIGTERM; is its first process a shell that passes no signal on?")
    if trial.exit_code == 0 and not trial.named(RESULT):
        raise Broken("exit 0 after SIGTERM, without a result: the Job would count as complete")
    if trial.exit_code in NO_RETRY:
        raise Broken(f"exit {trial.exit_code} after SIGTERM: the Job would not be tried again")
    return f"ended {trial.stop_seconds:.1f} s after SIGTERM, with exit {trial.exit_code}"


def stranger(trial: Trial) -> str:
    found = ended(trial)
    if trial.calls:
        raise Broken(f"it sent {trial.calls[0].name}, token and all, to a server whose certificate is not of RONDO_TASK_CA")
    if not trial.strangers:
        raise NotTried(f"it never connected (exit {found}){last_words(trial)}")
    if found == 0:
        raise Broken("exit 0 although it could not speak with its agent")
    return f"refused the certificate, exit {found}"


def token(trials: Sequence[Trial]) -> str:
    guilty = next((trial for trial in trials if trial.token in trial.output), None)
    if guilty:
        raise Broken(f"the token is in what it printed ({guilty.kind} task), and so in the site's logs")
    return f"not in what {len(trials)} runs printed"


def files(trials: Sequence[Trial]) -> str:
    strays = sorted({name for trial in trials for name in trial.strays})
    if strays:
        raise Broken(f"it wrote {strays[0]} ({len(strays)} such); in a pod that fails, for the root file system is read-only")
    return "nothing was written beside /rondo/out and /tmp"
