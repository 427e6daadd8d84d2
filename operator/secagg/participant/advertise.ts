/** M0: fresh keys, bound to what this participant knows of the round (secure-aggregation.md §3). */
import { KEY_BYTES, publicKeyOf, signedBytes } from "../key-agreement.ts";
import type { ParticipantMessage } from "../messages.ts";
import { advertiseBody, commitmentTo } from "../transcript.ts";
import type { ParticipantDeps } from "./deps.ts";
import type { Advertised } from "./state.ts";

/** Begins a session: persist `next`, then send. Only when the delta is on disk; never twice for one plan. */
export function advertise(deps: ParticipantDeps): { next: Advertised; message: ParticipantMessage } {
  const { c0 } = deps.terms;
  const secrets = { cSk: deps.random(KEY_BYTES), sSk: deps.random(KEY_BYTES), b: deps.random(KEY_BYTES) };
  const keys = {
    index: deps.own,
    cPk: publicKeyOf(secrets.cSk),
    sPk: publicKeyOf(secrets.sSk),
    cmB: commitmentTo(secrets.b),
  };
  const value = { ...keys, signature: deps.sign(signedBytes("advertise", advertiseBody(c0, keys))) };
  return { next: { kind: "Advertised", c0, message: value, secrets }, message: { $case: "advertise", value } };
}
