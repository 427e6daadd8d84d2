/** A site whose trainer is done, and the operator with the rest of its cohort. */
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import type { Plan } from "../../round/plan.ts";
import type { Assignment } from "../record.ts";
import { MemoryOperator } from "./far-side.ts";
import { planBytes, writeAdapter } from "./plan.ts";
import { SecurePeers } from "./secure-peers.ts";
import { makeSecurePlan, type TestMember } from "./secure-plan.ts";

/** The site's work folder and first record as training left them. The first of the members is the agent under test. */
export async function trainedSite(
  folder: string,
  members: readonly TestMember[],
  valueAt: (index: number) => number = () => 1.25,
): Promise<{ plan: Plan; assignment: Assignment }> {
  const own = members[0]!;
  const job = "clinic-notes-r1-clinic-a-1";
  await mkdir(join(folder, "work", job), { recursive: true });
  const { sha256, byteLength } = await writeAdapter(join(folder, "work", job, "parent.safetensors"), () => 1);
  await writeAdapter(join(folder, "work", job, "trained.safetensors"), valueAt);
  const nowMs = Date.now();
  const plan = makeSecurePlan({ parentDigest: sha256, parentBytes: byteLength, nowMs }, members);
  const { accept: acceptMs, training: trainingMs, aggregation: aggregationMs } = plan.deadlines;
  const result = { schema: 1 as const, examples: 50, steps: 4, tokens: 1000, trainLoss: 2.5, seconds: 1 };
  const assignment: Assignment = {
    schema: 1,
    federation: plan.federation,
    round: plan.round,
    roundName: plan.roundName,
    attempt: 1,
    purpose: "delta",
    participant: own.participant,
    planHash: Buffer.from(planBytes(plan).hash).toString("hex"),
    privacy: "secure",
    deadlines: { acceptMs, trainingMs, aggregationMs },
    receivedMs: nowMs,
    job,
    seed: 5,
    state: { kind: "Trained" },
    stateSinceMs: nowMs,
    result,
    told: false,
    cleaned: false,
  };
  return { plan, assignment };
}

/** The operator's side of the link: it journals at once and keeps everything. */
export class SecureOperator extends MemoryOperator {
  readonly peers: SecurePeers;
  constructor(plan: Plan, all: readonly TestMember[]) {
    super();
    this.peers = new SecurePeers(plan, all, all[0]!.participant);
  }
  override async say(...[, message]: Parameters<MemoryOperator["say"]>): Promise<void> {
    this.peers.say(message);
  }
  override async upload(...[, upload]: Parameters<MemoryOperator["upload"]>): Promise<void> {
    await this.peers.upload(upload);
  }
}
