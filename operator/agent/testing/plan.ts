/** A small plan and the adapter files that go with it. Sealed to a key whose private half the test has, so that it can read what was uploaded. */
import { createHash, randomBytes } from "node:crypto";
import { readFile } from "node:fs/promises";
import { writeSafetensors } from "../../publish/safetensors.ts";
import type { Plan } from "../../round/plan.ts";
import { canonicalBytes } from "../../transport/canonical.ts";
import { planHashOf } from "../../transport/plan.ts";

export const tensors: Plan["tensors"] = [
  { name: "base_model.model.q_proj.lora_A.weight", shape: [2, 8] },
  { name: "base_model.model.q_proj.lora_B.weight", shape: [8, 2] },
];

export interface PlanParts {
  participant: string;
  /** Ed25519 public key, base64. */
  identity: string;
  parentDigest: string;
  parentBytes: number;
  /** HPKE public key of the round, base64. */
  sealingKey: string;
  nowMs: number;
}

export function makePlan(parts: PlanParts, change: Partial<Plan> = {}): Plan {
  return {
    schema: 3,
    federation: "example.org/fl/clinic-notes",
    round: 1,
    roundName: "clinic-notes-r1",
    attempt: 1,
    purpose: "delta",
    roster: [
      { participant: parts.participant, identity: parts.identity },
      { participant: "other", identity: randomBytes(32).toString("base64") },
    ],
    minimum: 2,
    baseModel: { name: "tiny-llama", revision: "main", digest: `sha256:${"1".repeat(64)}` },
    parent: { version: 0, digest: `sha256:${parts.parentDigest}`, byteLength: parts.parentBytes },
    adapter: { rank: 2, alpha: 4, targetModules: ["q_proj"] },
    tensors,
    training: {
      image: "registry.example/trainer:9",
      task: "instruction",
      steps: 4,
      batchSize: 1,
      sequenceLength: 64,
      learningRate: "0.0002",
      resources: { gpus: 1, gpuResourceName: "nvidia.com/gpu", memory: "64Mi", cpu: "10m" },
    },
    aggregation: {
      privacy: "trusted",
      rule: "mean",
      lora: "average",
      weighting: "examples",
      exampleCap: 100,
      clipNorm: "1.0",
    },
    sealing: { publicKey: parts.sealingKey },
    deadlines: { accept: parts.nowMs + 60_000, training: parts.nowMs + 120_000, aggregation: parts.nowMs + 180_000 },
    ...change,
  };
}

export function planBytes(plan: Plan): { bytes: Uint8Array; hash: Uint8Array } {
  const bytes = canonicalBytes(plan);
  return { bytes, hash: planHashOf(bytes) };
}

/** An adapter whose every value is `value`, or what `valueAt` says. */
export async function writeAdapter(
  file: string,
  valueAt: (index: number) => number,
  table: Plan["tensors"] = tensors,
): Promise<{ sha256: string; byteLength: number }> {
  await writeSafetensors(file, table, new Map([["format", "pt"]]), ({ shape }) => [
    Float32Array.from({ length: shape[0]! * shape[1]! }, (_, index) => valueAt(index)),
  ]);
  const bytes = await readFile(file);
  return { sha256: createHash("sha256").update(bytes).digest("hex"), byteLength: bytes.length };
}
