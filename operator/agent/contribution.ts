/**
 * The file that is uploaded: delta made, sealed to the round's key, on disk under its name; and what names it.
 * Holds: the sealed file appears whole and synced or not at all; made again it has other bytes (a new HPKE context) and the same content.
 */
import { rename, rm } from "node:fs/promises";
import { dirname } from "node:path";
import { effect } from "../fault-injection.ts";
import { leavesOfFile, merkleRoot } from "../journal/merkle.ts";
import type { Plan } from "../round/plan.ts";
import { syncDirectory } from "../trainer/task-body.ts";
import { sealFile } from "../transport/sealing.ts";
import { makeDelta } from "./delta.ts";
import type { Assignment } from "./record.ts";

export interface ContributionFiles {
  parent: string;
  trained: string;
  delta: string;
  sealed: string;
}

/** @throws AdapterFault when the trained adapter is not what the plan says */
export async function makeContribution(
  assignment: Assignment,
  plan: Plan,
  files: ContributionFiles,
): Promise<{ byteLength: number; root: string }> {
  const { result } = assignment;
  const trainLoss = result?.trainLoss ?? undefined;
  await makeDelta({
    plan,
    parentFile: files.parent,
    trainedFile: files.trained,
    deltaFile: files.delta,
    examples: result?.examples ?? 0,
    loss: result && trainLoss !== undefined ? { tokens: result.tokens, trainLoss } : undefined,
  });
  const part = `${files.sealed}.part`;
  await rm(part, { force: true });
  effect("file", "remove a sealed part");
  await sealFile(files.delta, part, {
    publicKey: Buffer.from(plan.sealing!.publicKey, "base64"),
    planHash: Buffer.from(assignment.planHash, "hex"),
    participant: assignment.participant,
  });
  await rename(part, files.sealed);
  await syncDirectory(dirname(files.sealed));
  effect("file", "rename sealed.bin");
  await rm(files.delta, { force: true });
  effect("file", "remove delta.safetensors");
  const { leaves, byteLength } = await leavesOfFile(files.sealed);
  return { byteLength, root: Buffer.from(merkleRoot(leaves)).toString("hex") };
}

/** Headers and PEFT's own metadata, beside the values at 4 bytes each. */
const ADAPTER_SLACK_BYTES = 1 << 20;

/** The most that a trainer may deliver: F32 is the largest form. */
export function adapterLimitBytes(plan: Plan): number {
  const values = plan.tensors.reduce((sum, { shape }) => sum + shape[0]! * shape[1]!, 0);
  return 4 * values + plan.tensors.length * 1024 + ADAPTER_SLACK_BYTES;
}
