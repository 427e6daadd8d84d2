/**
 * A cohort's whole session in memory: real participants, a real coordinator, masked vectors in files as the spool would have them.
 * For tests of what comes after: the ring sum.
 */
import { generateKeyPairSync, randomBytes, randomFillSync, sign } from "node:crypto";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { Plan } from "../../../round/plan.ts";
import {
  asked,
  type CohortState,
  closeStep,
  openCohort,
  receive as receiveAnswer,
  receiveInput,
  requestFor,
} from "../../../secagg/coordinator/cohort.ts";
import type { Complete } from "../../../secagg/coordinator/states.ts";
import { simdKernel } from "../../../secagg/kernels/simd.ts";
import { applyMasks } from "../../../secagg/masks.ts";
import type { ParticipantMessage, SessionTerms } from "../../../secagg/messages.ts";
import { advertise } from "../../../secagg/participant/advertise.ts";
import type { ParticipantDeps } from "../../../secagg/participant/deps.ts";
import { masked } from "../../../secagg/participant/masked-input.ts";
import { receive } from "../../../secagg/participant/session.ts";
import type { ParticipantState } from "../../../secagg/participant/state.ts";
import { quantisationOf, quantiseOne } from "../../../secagg/ring.ts";
import { sessionTerms } from "../../../secagg/terms.ts";
import {
  encodeTail,
  PLAN_METRICS,
  planScales,
  RING_BYTES,
  type VectorLayout,
  vectorLayout,
} from "../../../secagg/vector.ts";
import type { Input } from "../secure-sum-messages.ts";

export interface SecurePlanParts {
  ring: "u32" | "u16";
  tensors: Plan["tensors"];
  /** C_t, the same for every tensor. */
  clip: number;
  /** Members of each cohort. */
  cohorts: string[][];
}

/** What of a plan the ring sum looks at; the rest is as it comes. */
export function securePlan({ ring, tensors, clip, cohorts }: SecurePlanParts): Plan {
  const largestCohort = Math.max(...cohorts.map((members) => members.length));
  return {
    schema: 3,
    federation: "example.org/fl/clinic-notes",
    round: 1,
    attempt: 1,
    purpose: "delta",
    baseModel: { name: "tiny", revision: "main", digest: `sha256:${"1".repeat(64)}` },
    parent: { version: 0, digest: `sha256:${"2".repeat(64)}`, byteLength: 1 },
    tensors,
    aggregation: { privacy: "secure", clipNorm: "1e6" },
    secure: {
      ring,
      largestCohort,
      cohorts: cohorts.map((members) => ({ members, threshold: Math.floor((2 * members.length) / 3) + 1 })),
      scales: planScales(
        ring,
        largestCohort,
        tensors.map(() => clip),
      ),
      metrics: PLAN_METRICS,
    },
  } as unknown as Plan;
}

/** The message with which somebody is not heard of any more. */
export type Dropout = "advertise" | "share" | "mask" | "consistency" | "unmask";

export interface Contribution {
  weight: number;
  valueAt(tensor: string, index: number): number;
  metrics?: { tokens: number; lossTokens: number };
  drops?: Dropout;
}

export interface Session {
  terms: SessionTerms;
  state: Complete;
  /** Of U3. */
  inputs: Input[];
}

const kernel = simdKernel();

interface Member {
  deps: ParticipantDeps;
  state: ParticipantState;
  contribution: Contribution;
}

/** @param contributionOf  what each member of the cohort contributes, and until when it is there */
export async function runSession(
  folder: string,
  plan: Plan,
  cohort: number,
  contributionOf: (participant: string) => Contribution,
): Promise<Session> {
  const names = plan.secure!.cohorts[cohort]!.members;
  const keys = new Map(names.map((name) => [name, generateKeyPairSync("ed25519")]));
  const raw = (name: string) => keys.get(name)!.publicKey.export({ format: "der", type: "spki" }).subarray(-32);
  const terms = sessionTerms(plan, new Uint8Array(32).fill(7), cohort, raw);
  const members = new Map<number, Member>();
  const inputs: Input[] = [];
  let state: CohortState = openCohort();

  for (const [at, name] of names.entries()) {
    const own = at + 1;
    const deps: ParticipantDeps = {
      terms,
      own,
      sign: (bytes) => sign(null, bytes, keys.get(name)!.privateKey),
      random: (length) => new Uint8Array(randomBytes(length)),
    };
    const contribution = contributionOf(name);
    if (contribution.drops === "advertise") continue;
    const { next, message } = advertise(deps);
    members.set(own, { deps, state: next, contribution });
    state = receiveAnswer(terms, state, own, message);
  }
  state = closeStep(terms, state);
  for (const step of ["share", "mask", "consistency", "unmask"] as const) {
    for (const index of asked(terms, state)) {
      const member = members.get(index)!;
      if (member.contribution.drops === step) members.delete(index);
      if (!members.has(index)) continue;
      const outcome = receive(member.deps, member.state, requestFor(terms, state, index)!);
      if (outcome.kind === "send") {
        member.state = outcome.next;
        state = receiveAnswer(terms, state, index, outcome.message as ParticipantMessage);
      } else if (outcome.kind === "mask" && member.state.kind === "Shared") {
        const participant = names[index - 1]!;
        const file = join(folder, `${participant}.masked`);
        const vector = encode(vectorLayout(plan), member.contribution);
        applyMasks(vector, plan.secure!.ring, outcome.opened.keys, { from: 0, to: vector.length }, kernel);
        await writeFile(file, vector);
        // Nobody looks at the bytes behind the root here: the spool has.
        const root = new Uint8Array(randomBytes(32));
        member.state = masked(member.deps, member.state, outcome.opened, { root, byteLength: vector.length });
        state = receiveInput(terms, state, { index, ...member.state.input });
        inputs.push({ participant, file });
      } else throw new Error(`member ${index} answers ${outcome.kind} in step ${step}`);
    }
    state = closeStep(terms, state);
  }
  if (state.step !== "complete") throw new Error(`the session ended in step ${state.step}`);
  return { terms, state, inputs };
}

/** x_u by the specification's own words, value by value. */
export function encode(layout: VectorLayout, { weight, valueAt, metrics }: Contribution): Uint8Array {
  const vector = new Uint8Array(layout.byteLength);
  const elements = layout.ring === "u32" ? new Int32Array(vector.buffer) : new Int16Array(vector.buffer);
  const saturated: number[] = [];
  const energy: number[] = [];
  for (const tensor of layout.tensors) {
    const { name, length, at, clip } = tensor;
    const quantisation = quantisationOf(layout, tensor, weight, 1);
    const draws = randomFillSync(new Uint32Array(length));
    let [beyond, squares] = [0, 0];
    for (let i = 0; i < length; i++) {
      const x = Math.fround(valueAt(name, i));
      if (Math.abs(x) > clip) beyond++;
      squares += Math.min(Math.abs(x), clip) ** 2;
      elements[at + i] = quantiseOne(x, draws[i]!, quantisation);
    }
    saturated.push(beyond);
    energy.push((weight * squares) / length / clip ** 2);
  }
  const counted = { tokens: 0, lossTokens: 0, ...metrics, saturated, energy };
  vector.set(encodeTail(layout, weight, counted), layout.weightAt * RING_BYTES[layout.ring]);
  return vector;
}
