/** What a participant's side of one session is given: its own values and its own hands. */
import type { SessionTerms } from "../messages.ts";

export interface ParticipantDeps {
  /** Of the plan that this participant accepted and of its own pins (terms.ts). */
  terms: SessionTerms;
  /** This participant's idx, from 1. */
  own: number;
  /** Ed25519 by the participant's long-term key. */
  sign(bytes: Uint8Array): Uint8Array;
  /** That many bytes of a cryptographic source. */
  random(length: number): Uint8Array;
}
