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
  const active = context.versions.active(name);
  if (active) return inheritable(context, federation, active.version);
  const found = known.get(context)?.get(uid);
  return found && found.generation === generation ? found.state : { kind: "making" };
}

export function noteInitialState(context: Context, federation: Federation, state: InitialState): void {
  const states = known.get(context) ?? new Map<string, Known>();
  known.set(context, states);
  states.set(federation.metadata.uid, { generation: federation.metadata.generation, state });
}

/** Versions outlive their Federation (no owner): one of the same name goes on from them, if they are of the same kind. */
function inheritable(context: Context, federation: Federation, version: number): InitialState {
  const { name } = federation.metadata;
  const spec = context.objects.versionsOf(name).find((found) => found.spec.version === version)?.spec;
  const { baseModel, adapter } = federation.spec;
  if (!spec || (spec.baseModel.digest === baseModel.digest && spec.rank === adapter.rank)) return { kind: "ready" };
  const problem = `AdapterVersion ${name}-v${version} has another base model or rank; delete the AdapterVersions of the former Federation ${name}, or choose another name`;
  return { kind: "failed", problem };
}
