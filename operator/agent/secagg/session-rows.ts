/** A participant's state as a row of the ledger, and what the row lets it say. */
import type { ParticipantMessage } from "../../secagg/messages.ts";
import type { ParticipantState } from "../../secagg/participant/state.ts";
import { storedState } from "../../secagg/participant/stored.ts";
import type { SessionProblem, SessionRow, SessionState } from "./session-record.ts";

const STATES: { [K in ParticipantState["kind"]]: SessionState } = {
  Advertised: "ADVERTISED",
  Shared: "SHARED",
  Masked: "MASKED",
  Signed: "SIGNED",
  Released: "RELEASED",
  Aborted: "ABORTED",
};

export function rowOf(state: ParticipantState, nowMs: number): SessionRow {
  return { schema: 1, state: STATES[state.kind], sinceMs: nowMs, open: storedState(state).open };
}

/** The reason, and nothing else of the session. */
export function abortedRow(problem: SessionProblem, nowMs: number): SessionRow {
  return { schema: 1, state: "ABORTED", sinceMs: nowMs, open: "", problem };
}

/** What a state may say: its ledger row keeps the message. The masked vector of Masked is an upload. */
export function messageOf(state: ParticipantState | undefined): ParticipantMessage | undefined {
  switch (state?.kind) {
    case "Advertised":
      return { $case: "advertise", value: state.message };
    case "Shared":
      return { $case: "share", value: state.message };
    case "Signed":
      return { $case: "consistency", value: state.message };
    case "Released":
      return { $case: "unmask", value: state.message };
    default:
      return undefined;
  }
}
