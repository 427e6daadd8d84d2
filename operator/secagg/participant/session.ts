/**
 * A participant's side of one session: a state and a message in, what to do out (secure-aggregation.md §3, §6).
 * Holds: a request that led into a state is answered with what is stored, never computed again; a different one for the same step ends the session.
 * Does not: persist, send, mask or upload. Who performs an outcome persists `next` first, and then sends.
 */
import { sameBytes } from "../bytes.ts";
import { type SecaggCode, SecaggFault } from "../faults.ts";
import type { CoordinatorMessage, ParticipantMessage } from "../messages.ts";
import { isSameSurvivors, signSurvivors } from "./consistency.ts";
import type { ParticipantDeps } from "./deps.ts";
import { isSameShares, type Opened, openShares } from "./masked-input.ts";
import { isSameKeys, shareKeys } from "./share-keys.ts";
import type { AbortCode, Aborted, OpenState, ParticipantState, Released, Shared, Signed } from "./state.ts";
import { isAgreement, releaseShares } from "./unmask.ts";

export type Outcome =
  /** Persist `next`, then send. */
  | { kind: "send"; next: Shared | Signed | Released; message: ParticipantMessage }
  /** Make the masked vector and fsync it, persist `masked(…)`, then upload; hand in no other message meanwhile. */
  | { kind: "mask"; opened: Opened }
  /** Send again what was sent. */
  | { kind: "repeat"; message: ParticipantMessage }
  /** Upload, or go on with it: manifest and chunks of the vector on disk. */
  | { kind: "upload" }
  /** Persist `next`, erase, then say so. Given again to whatever comes after. */
  | { kind: "abort"; next: Aborted }
  /** Nothing is sent and nothing changes, but a person must hear of it: what has been released cannot be taken back. */
  | { kind: "refuse"; code: SecaggCode; message: string }
  /** A late repeat of a step that is over. */
  | { kind: "nothing" };

/** What a coordinator asks for, in order; a state has answered the first so many of them. */
const STEPS: readonly CoordinatorMessage["$case"][] = ["keys", "shares", "consistency", "unmask"];
const ANSWERED: Record<Exclude<ParticipantState["kind"], "Aborted">, number> = {
  Advertised: 0,
  Shared: 1,
  Masked: 2,
  Signed: 3,
  Released: 4,
};

/** @throws Error when the state is of another session than deps.terms: a mistake of this side, for which nobody is to blame */
export function receive(deps: ParticipantDeps, state: ParticipantState, message: CoordinatorMessage): Outcome {
  if (state.kind === "Aborted") return { kind: "abort", next: state };
  try {
    return answer(deps, state, message);
  } catch (error) {
    if (!(error instanceof SecaggFault)) throw error;
    if (state.kind === "Released") return { kind: "refuse", code: error.code, message: error.message };
    return { kind: "abort", next: aborted(state, error) };
  }
}

/** Ends a session for a reason of this side; every state but Released can. The caller persists it and erases the secrets. */
export function aborted(
  state: OpenState,
  reason: { code: AbortCode; message: string; accused?: readonly string[] },
): Aborted {
  const { code, message, accused = [] } = reason;
  return { kind: "Aborted", from: state.kind, code, message, accused: [...accused] };
}

function answer(deps: ParticipantDeps, state: OpenState | Released, message: CoordinatorMessage): Outcome {
  const answered = ANSWERED[state.kind];
  const step = STEPS.indexOf(message.$case);
  if (step > answered) throw new SecaggFault("OutOfOrder", `the coordinator asked for ${wordFor(message)} too early`);
  if (step === answered) return goOn(deps, state, message);
  if (!isRepeat(deps, state, message)) {
    throw new SecaggFault("SecondRequest", `the coordinator asked for ${wordFor(message)} once more, and differently`);
  }
  return step === answered - 1 ? repeated(state) : { kind: "nothing" };
}

/** The next step of the session. @throws SecaggFault when what the coordinator shows is not what an honest one would */
function goOn(deps: ParticipantDeps, state: OpenState | Released, message: CoordinatorMessage): Outcome {
  if (state.kind === "Advertised" && message.$case === "keys") {
    if (!sameBytes(state.c0, deps.terms.c0)) throw new Error("this session's state is of another plan or other pins");
    const next = shareKeys(deps, state, message.value);
    return { kind: "send", next, message: { $case: "share", value: next.message } };
  }
  if (state.kind === "Shared" && message.$case === "shares") {
    return { kind: "mask", opened: openShares(deps, state, message.value) };
  }
  if (state.kind === "Masked" && message.$case === "consistency") {
    const next = signSurvivors(deps, state, message.value);
    return { kind: "send", next, message: { $case: "consistency", value: next.message } };
  }
  if (state.kind === "Signed" && message.$case === "unmask") {
    const next = releaseShares(deps, state, message.value);
    return { kind: "send", next, message: { $case: "unmask", value: next.message } };
  }
  throw new Error(`${state.kind} does not go on with ${message.$case}`);
}

/** Whether this is the request that led into the state, or into one before it. */
function isRepeat(deps: ParticipantDeps, state: OpenState | Released, message: CoordinatorMessage): boolean {
  switch (message.$case) {
    case "keys":
      return "t1" in state && isSameKeys(deps.terms, state.t1, message.value);
    case "shares":
      return "sharesRequest" in state && isSameShares(deps.terms, state.sharesRequest, message.value);
    case "consistency":
      return "t2" in state && isSameSurvivors(deps.terms, state, message.value);
    case "unmask":
      return "t2" in state && isAgreement(deps, state, message.value);
  }
}

/** The answer that a state keeps. */
function repeated(state: OpenState | Released): Outcome {
  switch (state.kind) {
    case "Advertised":
      return { kind: "nothing" }; // there is no request before it
    case "Shared":
      return { kind: "repeat", message: { $case: "share", value: state.message } };
    case "Masked":
      return { kind: "upload" };
    case "Signed":
      return { kind: "repeat", message: { $case: "consistency", value: state.message } };
    case "Released":
      return { kind: "repeat", message: { $case: "unmask", value: state.message } };
  }
}

const WORDS: Record<CoordinatorMessage["$case"], string> = {
  keys: "shares of this participant's keys",
  shares: "the masked input",
  consistency: "a signature on the survivors",
  unmask: "the shares that open the sum",
};
const wordFor = (message: CoordinatorMessage): string => WORDS[message.$case];
