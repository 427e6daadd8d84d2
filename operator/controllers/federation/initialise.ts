/**
 * Version 0 of a federation: made by a trainer Job of kind `initialise` in this cluster, or fetched from adapter.initialFrom;
 * then pushed and written down like any other version. Called again and again until there is an active version.
 * Holds: the file is checked (LoRA, one rank, the wanted modules) before anything is published.
 */
import { rm } from "node:fs/promises";
import { dirname } from "node:path";
import { countNonFinite } from "../../aggregation/finite.ts";
import { adapterVersionName } from "../../api/adapter-version.ts";
import type { Federation } from "../../api/federation.ts";
import { effect } from "../../fault-injection.ts";
import { PublishFault } from "../../publish/fault.ts";
import { formatAdapterConfig, PeftFault, tensorTable } from "../../publish/peft.ts";
import { pushAdapter } from "../../publish/push-adapter.ts";
import { copyAsFloat32, openSafetensors } from "../../publish/safetensors.ts";
import { SafetensorsFault } from "../../publish/safetensors-header.ts";
import { shapeProblem } from "../adapter-shape.ts";
import { writeAdapterVersion } from "../adapter-version/write.ts";
import type { Context } from "../context.ts";
import type { Effects } from "../effects.ts";
import { repositoryOf } from "../registry.ts";
import type { ActiveVersion } from "../versions.ts";
import type { InitialState } from "./initial-state.ts";
import type { InitialiseJobs } from "./initialise-job.ts";
import { pullInitial } from "./pull-initial.ts";

/** Pauses between tries of what may pass by itself, such as a registry that is down. */
const RETRY_MS = 5_000;

export interface InitialiseModules {
  context: Context;
  effects: Effects;
  jobs: InitialiseJobs;
}

/** Starts or follows the making of version 0. @returns what is to be said of it, and when to look again */
export async function initialise(
  { context, effects, jobs }: InitialiseModules,
  federation: Federation,
): Promise<{ state: InitialState; againMs?: number }> {
  const { uid, generation } = federation.metadata;
  const key = `${uid} ${generation}`;
  const source = federation.spec.adapter.initialFrom ? undefined : await jobs.follow(federation);
  if (source?.kind === "making") return { state: { kind: "making", message: source.message }, againMs: source.againMs };
  if (source?.kind === "failed") return { state: { kind: "failed", problem: source.problem } };
  const result = effects.result<void>(key, "publish");
  if (effects.isRunning(key, "publish")) return { state: { kind: "making" } };
  if (result?.kind === "done") return { state: { kind: "ready" } };
  if (result?.kind === "failed") {
    const problem = result.error instanceof Error ? result.error.message : String(result.error);
    if (isFinal(result.error)) return { state: { kind: "failed", problem } };
    const waitMs = result.atMs + RETRY_MS - context.now();
    if (waitMs > 0) return { state: { kind: "making", message: problem }, againMs: waitMs };
  }
  effects.start(key, "publish", async (signal) => {
    const file = source ? source.file : await pullInitial(context, federation, signal);
    await publishInitial(context, federation, file, signal);
    await jobs.forget(federation);
    // Pulled into a folder of its own, which a failed push keeps for the next try.
    if (source) return;
    await rm(dirname(file), { recursive: true, force: true });
    effect("file", "remove what version 0 was pulled into");
  });
  const message = result?.kind === "failed" && result.error instanceof Error ? result.error.message : undefined;
  return { state: { kind: "making", ...(message && { message }) } };
}

/** The adapter itself is wrong, or a name is: to try the same again is no use. */
function isFinal(error: unknown): boolean {
  if (error instanceof PublishFault) return !error.transient;
  return error instanceof PeftFault || error instanceof SafetensorsFault || error instanceof InitialAdapterFault;
}

export class InitialAdapterFault extends Error {
  constructor(message: string) {
    super(message);
    this.name = "InitialAdapterFault";
  }
}

async function publishInitial(context: Context, federation: Federation, source: string, signal: AbortSignal) {
  const { name } = federation.metadata;
  const { adapter, baseModel, publish } = federation.spec;
  const scratch = context.adapters.scratch(`initial-${federation.metadata.uid}`);
  try {
    await checkAdapter(source, federation);
    const { sha256 } = await copyAsFloat32(source, scratch);
    const adapterDigest = `sha256:${sha256}`;
    const file = await context.adapters.keep(scratch, adapterDigest);
    const repository = await repositoryOf(context.client, context.config.namespace, publish.oci, { signal });
    const config = formatAdapterConfig({ baseModel, ...adapter });
    const lineage = { federation: name, version: 0, baseModel };
    const pushed = await pushAdapter(repository, { weights: file, config, rank: adapter.rank }, lineage);
    const { digest, reference, byteLength } = pushed;
    const active: ActiveVersion = {
      version: 0,
      name: adapterVersionName(name, 0),
      digest,
      adapterDigest,
      reference,
      byteLength,
    };
    await writeAdapterVersion(context, active.name, {
      federation: name,
      version: 0,
      digest,
      adapterDigest,
      reference,
      baseModel,
      rank: adapter.rank,
      alpha: adapter.alpha,
      contributors: 0,
    });
    await context.journal.commit([context.versions.activation(name, active)]);
    context.versions.activated(name, active);
  } finally {
    await rm(scratch, { force: true });
    effect("file", "remove the copy of version 0");
  }
}

async function checkAdapter(file: string, federation: Federation): Promise<void> {
  const { rank, targetModules } = federation.spec.adapter;
  await using adapter = await openSafetensors(file);
  const table = tensorTable(adapter.header.tensors, rank);
  const problem = shapeProblem(table, targetModules);
  if (problem) throw new InitialAdapterFault(`version 0: ${problem}`);
  for (const tensor of adapter.header.tensors)
    for await (const { values } of adapter.chunks(tensor))
      if (countNonFinite(values) > 0)
        throw new InitialAdapterFault(`version 0 has non-finite values in ${tensor.name}`);
}
