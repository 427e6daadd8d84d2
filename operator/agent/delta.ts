/**
 * Turns a trained adapter into this site's contribution: checked against the plan, delta = trained − parent, clipped, weighted
 * (secure-aggregation.md section 5; protocol.md "privacy: trusted").
 * Holds: memory is a few chunks of 1 MiB whatever the adapter's size, and no chunk takes the event loop longer than a few milliseconds;
 * the file appears whole or not at all, and is made again after a crash.
 * Does not: seal it (transport/sealing.ts) or trust the trainer: a fault names the tensor, never a value.
 */
import { clipFactor, scale, squaredNorm } from "../aggregation/clip.ts";
import { checkTensors, deltaSentence, subtract, type TableTensor } from "../aggregation/delta.ts";
import { weightOf } from "../aggregation/weight.ts";
import { openSafetensors, type SafetensorsFile, writeScratchSafetensors } from "../publish/safetensors.ts";
import { SafetensorsFault } from "../publish/safetensors-header.ts";
import type { Plan } from "../round/plan.ts";

/** What is wrong with an adapter, ready for the round's status. */
export class AdapterFault extends Error {
  override readonly name = "AdapterFault";
  readonly reason: string;
  constructor(reason: string, message: string) {
    super(message);
    this.reason = reason;
  }
}

export interface DeltaOptions {
  plan: Plan;
  parentFile: string;
  trainedFile: string;
  deltaFile: string;
  /** Examples trained on, as the trainer says. */
  examples: number;
  /** Absent: it did not say what it trained on, and this contribution is in no mean of losses. */
  loss?: { tokens: number; trainLoss: number } | undefined;
}

/** The clipped delta, with the weight beside it. @throws AdapterFault when the adapter or its parent is not what the plan says */
export async function makeDelta(options: DeltaOptions): Promise<{ weight: number; byteLength: number }> {
  const { plan } = options;
  await using parent = await openAdapter(options.parentFile, plan.tensors, "parent");
  await using trained = await openAdapter(options.trainedFile, plan.tensors, "trained");
  const factor = clipFactor(await squaredNormOf(plan.tensors, trained, parent), Number(plan.aggregation.clipNorm));
  const weight = weightOf(plan.aggregation.weighting, options.examples, plan.aggregation.exampleCap);
  const { byteLength } = await writeScratchSafetensors(
    options.deltaFile,
    plan.tensors,
    new Map([["weight", String(weight)], ...metricsOf(options.loss)]),
    async function* (tensor) {
      for await (const { values } of differences(tensor.name, trained, parent)) {
        scale(values, factor);
        yield values;
      }
    },
  );
  return { weight, byteLength };
}

/** As decimal strings (protocol.md): sealed to the operator, which says of them only what all contributors come to together. */
function metricsOf(loss: DeltaOptions["loss"]): Array<[name: string, value: string]> {
  if (!loss) return [];
  const { tokens, trainLoss } = loss;
  return [
    ["tokens", String(tokens)],
    ["lossTokens", (Math.max(0, trainLoss) * tokens).toFixed(6)],
  ];
}

/** A delta before it is clipped: the values of a file, less those of another one where there is one. */
export interface Difference {
  file: string;
  minus?: string;
  /** What clips it to the plan's norm, at most 1. */
  factor: number;
  weight: number;
}

/**
 * The delta as it is: who quantises it subtracts and multiplies on the way. Only adapters in another type or order than the plan's (a
 * trainer of a site's own) are written to deltaFile as their difference.
 * @throws as makeDelta; no file is left then
 */
export async function makeDifference(options: DeltaOptions): Promise<Difference> {
  const { plan } = options;
  await using parent = await openAdapter(options.parentFile, plan.tensors, "parent");
  await using trained = await openAdapter(options.trainedFile, plan.tensors, "trained");
  const { weighting, exampleCap, clipNorm } = plan.aggregation;
  const weight = weightOf(weighting, options.examples, exampleCap);
  const factorOf = (squared: number) => clipFactor(squared, Number(clipNorm));
  if (isAsPlanned(trained, plan.tensors) && isAsPlanned(parent, plan.tensors)) {
    const factor = factorOf(await squaredNormOf(plan.tensors, trained, parent));
    return { file: options.trainedFile, minus: options.parentFile, factor, weight };
  }
  let squared = 0;
  await writeScratchSafetensors(options.deltaFile, plan.tensors, new Map(), async function* (tensor) {
    let nonFinite = 0;
    for await (const chunk of differences(tensor.name, trained, parent)) {
      nonFinite += chunk.nonFinite;
      squared += squaredNorm(chunk.values);
      yield chunk.values;
    }
    if (nonFinite > 0) throw nonFiniteFault(tensor.name, nonFinite);
  });
  return { file: options.deltaFile, factor: factorOf(squared), weight };
}

/** Whether the values lie in the file as they will in a vector: float32, in the table's order. */
function isAsPlanned({ header }: SafetensorsFile, table: readonly TableTensor[]): boolean {
  return header.tensors.every(({ name, dtype }, i) => dtype === "F32" && name === table[i]?.name);
}

async function openAdapter(
  file: string,
  table: Plan["tensors"],
  which: "parent" | "trained",
): Promise<SafetensorsFile> {
  let adapter: SafetensorsFile;
  try {
    adapter = await openSafetensors(file);
  } catch (error) {
    if (!(error instanceof SafetensorsFault)) throw error;
    throw new AdapterFault(
      "AdapterMalformed",
      `the ${which} adapter is not a safetensors file that Rondo reads: ${error.message}`,
    );
  }
  const fault = checkTensors(table, adapter.header.tensors);
  if (!fault) return adapter;
  await adapter.close();
  if (which === "parent") {
    throw new AdapterFault(
      "ParentMismatch",
      `the parent adapter is not the plan's: ${deltaSentence(fault).replace("trained", "parent")}`,
    );
  }
  throw new AdapterFault(fault.code, deltaSentence(fault));
}

/** First pass: the norm over all tensors, and whether every value is finite. */
async function squaredNormOf(
  table: readonly TableTensor[],
  trained: SafetensorsFile,
  parent: SafetensorsFile,
): Promise<number> {
  let squared = 0;
  for (const { name } of table) {
    let nonFinite = 0;
    for await (const chunk of differences(name, trained, parent)) {
      nonFinite += chunk.nonFinite;
      squared += squaredNorm(chunk.values);
    }
    if (nonFinite > 0) throw nonFiniteFault(name, nonFinite);
  }
  return squared;
}

function nonFiniteFault(tensor: string, count: number): AdapterFault {
  return new AdapterFault("NonFinite", deltaSentence({ code: "NonFinite", tensor, count }));
}

/** trained − parent, chunk by chunk; each lies in the same buffer. */
async function* differences(name: string, trained: SafetensorsFile, parent: SafetensorsFile) {
  const tensor = trained.tensor(name)!;
  const parentTensor = parent.tensor(name)!;
  let buffer = new Float32Array(0);
  for await (const { at, values } of trained.chunks(tensor)) {
    if (buffer.length < values.length) buffer = new Float32Array(values.length);
    const before = buffer.subarray(0, values.length);
    await parent.read(parentTensor, at, before);
    yield { values, nonFinite: subtract(values, before, values) };
  }
}
