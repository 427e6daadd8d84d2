/**
 * How far version 0 of a federation is: there (or a later one), being made, or impossible with a sentence why.
 * The failure is remembered for the generation it happened in: who edits the Federation tries again.
 */
import type { Federation } from "../../api/federation.ts";
import type { Context } from "../context.ts";

export type InitialState =
  | { kind: "ready" }
  | { kind: "making"; message?: string }
  | { kind: "failed"; problem: string };

interface Known {
  generation: number;
  state: InitialState;
}

const known = new WeakMap<Context, Map<string, Known>>();

export function initialState(context: Context, federation: Federation): InitialState {
  const { name, uid, generation } = federation.metadata;
  if (context.versions.active(name)) return { kind: "ready" };
  const found = known.get(context)?.get(uid);
  return found && found.generation === generation ? found.state : { kind: "making" };
}

export function noteInitialState(context: Context, federation: Federation, state: InitialState): void {
  const states = known.get(context) ?? new Map<string, Known>();
  known.set(context, states);
  states.set(federation.metadata.uid, { generation: federation.metadata.generation, state });
}
