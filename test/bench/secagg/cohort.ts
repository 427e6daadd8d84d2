/**
 * A cohort of real participants and a real coordinator in one process: every message made, checked and counted as it would be on the
 * wire, every masked vector made from a delta on disk by the agent's own threads.
 */
import { generateKeyPairSync, randomBytes, sign } from "node:crypto";
import { join } from "node:path";
import { makeMaskedVector } from "../../../operator/agent/masking.ts";
import type { Input } from "../../../operator/controllers/round/secure-sum-messages.ts";
import { writeScratchSafetensors } from "../../../operator/publish/safetensors.ts";
import type { Plan } from "../../../operator/round/plan.ts";
import {
  asked,
  closeStep,
  openCohort,
  receive,
  receiveInput,
  requestFor,
} from "../../../operator/secagg/coordinator/cohort.ts";
import type { CohortState, Complete } from "../../../operator/secagg/coordinator/states.ts";
import type { ParticipantMessage, SessionTerms } from "../../../operator/secagg/messages.ts";
import { advertise } from "../../../operator/secagg/participant/advertise.ts";
import type { ParticipantDeps } from "../../../operator/secagg/participant/deps.ts";
import { masked } from "../../../operator/secagg/participant/masked-input.ts";
import { receive as receiveAsParticipant } from "../../../operator/secagg/participant/session.ts";
import type { ParticipantState } from "../../../operator/secagg/participant/state.ts";
import { sessionTerms } from "../../../operator/secagg/terms.ts";
import { thresholdOf } from "../../../operator/secagg/thresholds.ts";
import { PLAN_METRICS, planScales, type Ring, vectorLayout } from "../../../operator/secagg/vector.ts";
import { Wire } from "./wire.ts";

/** 160 tensors as of a LoRA adapter, together 10 M parameters. */
export const TENSORS = Array.from({ length: 160 }, (_, i) => ({
  name: `base_model.model.model.layers.${String(Math.floor(i / 2)).padStart(2, "0")}.q_proj.lora_${i % 2 === 0 ? "A" : "B"}.weight`,
  shape: (i % 2 === 0 ? [16, 3906] : [3906, 16]) as [number, number],
})).concat([{ name: "base_model.model.z.weight", shape: [640, 1] }]);
export const PARAMETERS = TENSORS.reduce((sum, { shape }) => sum + shape[0] * shape[1], 0);
export const METRICS = { tokens: 1_000_000, lossTokens: 2_000_000 };
/** Six times the RMS of the deltas. */
export const CLIP = 6e-3;

export function planOf(ring: Ring, members: number): Plan {
  const names = Array.from({ length: members }, (_, i) => `site-${String(i + 1).padStart(3, "0")}`);
  return {
    schema: 3,
    federation: "example.org/rondo/benchmark",
    round: 1,
    attempt: 1,
    purpose: "delta",
    baseModel: { name: "model", revision: "main", digest: `sha256:${"1".repeat(64)}` },
    parent: { version: 0, digest: `sha256:${"2".repeat(64)}`, byteLength: 1 },
    tensors: TENSORS,
    aggregation: { privacy: "secure", clipNorm: "1000" },
    secure: {
      ring,
      largestCohort: members,
      cohorts: [{ members: names, threshold: thresholdOf(members) }],
      scales: planScales(
        ring,
        members,
        TENSORS.map(() => CLIP),
      ),
      metrics: PLAN_METRICS,
    },
  } as unknown as Plan;
}

/** Values of a normal distribution with a standard deviation of 1e-3; the same file for whoever asks. */
export async function writeDelta(file: string): Promise<void> {
  const values = normal(1 << 18, 1e-3);
  await writeScratchSafetensors(file, TENSORS, new Map(), function* ({ shape }) {
    yield values.subarray(0, shape[0]! * shape[1]!);
  });
}

export function normal(count: number, deviation: number): Float32Array {
  const uniform = new Uint32Array(new Uint8Array(randomBytes(8 * count)).buffer);
  return Float32Array.from({ length: count }, (_, i) => {
    const [u, v] = [(uniform[2 * i]! + 0.5) / 2 ** 32, uniform[2 * i + 1]! / 2 ** 32];
    return deviation * Math.sqrt(-2 * Math.log(u)) * Math.cos(2 * Math.PI * v);
  });
}

export interface BenchSession {
  plan: Plan;
  terms: SessionTerms;
  state: Complete;
  /** Of U3, in files of `folder`. */
  inputs: Input[];
  wire: Wire;
}

interface Member {
  deps: ParticipantDeps;
  state: ParticipantState;
}

/** @param dropped  how many shared their keys and are then not heard of again */
export async function runCohort(folder: string, plan: Plan, deltaFile: string, dropped = 0): Promise<BenchSession> {
  const names = plan.secure!.cohorts[0]!.members;
  const identities = new Map(names.map((name) => [name, generateKeyPairSync("ed25519")]));
  const raw = (name: string) =>
    new Uint8Array(identities.get(name)!.publicKey.export({ format: "der", type: "spki" }).subarray(-32));
  const terms = sessionTerms(plan, new Uint8Array(randomBytes(32)), 0, raw);
  const wire = new Wire(plan, names.length);
  const members = new Map<number, Member>();
  const inputs: Input[] = [];
  let state: CohortState = openCohort();
  for (const [at, name] of names.entries()) {
    const deps: ParticipantDeps = {
      terms,
      own: at + 1,
      sign: (bytes) => new Uint8Array(sign(null, bytes, identities.get(name)!.privateKey)),
      random: (length) => new Uint8Array(randomBytes(length)),
    };
    const { next, message } = advertise(deps);
    members.set(at + 1, { deps, state: next });
    wire.sent(message);
    state = receive(terms, state, at + 1, message);
  }
  state = closeStep(terms, state);
  for (const step of ["share", "mask", "consistency", "unmask"] as const) {
    for (const index of asked(terms, state)) {
      if (step === "mask" && index <= dropped) members.delete(index);
      const member = members.get(index);
      if (!member) continue;
      const request = requestFor(terms, state, index)!;
      wire.received(request);
      const outcome = receiveAsParticipant(member.deps, member.state, request);
      if (outcome.kind === "send") {
        member.state = outcome.next;
        wire.sent(outcome.message as ParticipantMessage);
        state = receive(terms, state, index, outcome.message as ParticipantMessage);
      } else if (outcome.kind === "mask" && member.state.kind === "Shared") {
        const participant = names[index - 1]!;
        const file = join(folder, `${participant}.masked`);
        const vector = await makeMaskedVector({
          ...{ layout: vectorLayout(plan), deltaFile, weight: 255, metrics: METRICS, outFile: file },
          keys: outcome.opened.keys,
        });
        member.state = masked(member.deps, member.state, outcome.opened, vector);
        wire.uploaded(vector.leaves, vector.byteLength);
        state = receiveInput(terms, state, { index, ...member.state.input });
        inputs.push({ participant, file });
      } else throw new Error(`member ${index} answers ${outcome.kind} in step ${step}`);
    }
    state = closeStep(terms, state);
  }
  if (state.step !== "complete") throw new Error(`the session ended in step ${state.step}`);
  return { plan, terms, state, inputs, wire };
}
