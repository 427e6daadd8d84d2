/**
 * Reads one sealed contribution (protocol.md, last section) and hands its values on only when all of it was found good.
 * Holds: all of it is checked before any of it is added, because a sum cannot be un-added; memory is KEPT_BYTES at most, whatever the
 *   adapter's size: a larger one is opened twice.
 * Does not: keep anything of the contribution but its weight.
 */
import { stat } from "node:fs/promises";
import { isClipped, squaredNorm } from "../../aggregation/clip.ts";
import { checkTensors, deltaSentence } from "../../aggregation/delta.ts";
import { countNonFinite } from "../../aggregation/finite.ts";
import { FULL_WEIGHT } from "../../aggregation/weight.ts";
import {
  SafetensorsFault,
  type SafetensorsHeader,
  type TensorInfo,
  valueCount,
} from "../../publish/safetensors-header.ts";
import { SafetensorsStream } from "../../publish/safetensors-stream.ts";
import { openRecords, plaintextLength, SealingFault } from "../../transport/sealing.ts";
import type { SumOptions } from "./sum-messages.ts";

/** Why a contribution does not count; the participant becomes Excluded with it. */
export class ContributionFault extends Error {
  readonly reason:
    | "NotOpened"
    | "Malformed"
    | "WrongTensors"
    | "NonFinite"
    | "NotClipped"
    | "WrongWeight"
    | "FileMissing";
  constructor(reason: ContributionFault["reason"], message: string) {
    super(message);
    this.name = "ContributionFault";
    this.reason = reason;
  }
}

/** Opening costs more than all the arithmetic. 64 MiB: the adapters of models up to some 30 billion parameters, and no more memory than uploads take. */
const KEPT_BYTES = 64 << 20;

type Add = (tensor: string, at: number, values: Float32Array, weight: number) => void;

/**
 * @param add  receives every chunk of values in the order of the file, after all of them were checked
 * @returns what is private to the participant: its weight, and what else it says beside its values
 * @throws ContributionFault; whatever the file system throws
 */
export async function readContribution(
  options: SumOptions,
  source: { participant: string; file: string },
  add: Add,
  keptBytes = KEPT_BYTES,
): Promise<{ weight: number; metadata: ReadonlyMap<string, string> }> {
  const count = options.tensors.reduce((sum, { shape }) => sum + valueCount(shape), 0);
  const kept = count * Float32Array.BYTES_PER_ELEMENT <= keptBytes ? new KeptValues(count) : undefined;
  const { weight, metadata } = await check(options, source, (tensor, at, values) => kept?.keep(tensor, at, values));
  if (kept) kept.addTo(add, weight);
  else
    await stream(options, source, {
      header: () => {},
      values: (tensor, at, values) => add(tensor.name, at, values, weight),
    });
  return { weight, metadata };
}

/** Memory for the values of one contribution after the other: a new buffer for each would be garbage that is collected late. */
let buffer = new Float32Array(0);

class KeptValues {
  readonly #chunks: Array<{ tensor: string; at: number; values: Float32Array }> = [];
  #filled = 0;

  /** @param count  of values in the plan's tensors: a file with others is refused by its header */
  constructor(count: number) {
    if (buffer.length < count) buffer = new Float32Array(count);
  }

  keep(tensor: TensorInfo, at: number, values: Float32Array): void {
    const own = buffer.subarray(this.#filled, this.#filled + values.length);
    own.set(values);
    this.#filled += values.length;
    this.#chunks.push({ tensor: tensor.name, at, values: own });
  }

  addTo(add: Add, weight: number): void {
    for (const { tensor, at, values } of this.#chunks) add(tensor, at, values, weight);
  }
}

async function check(
  options: SumOptions,
  source: { participant: string; file: string },
  seen: Receiver["values"],
): Promise<{ weight: number; metadata: ReadonlyMap<string, string> }> {
  let weight = 0;
  let metadata: ReadonlyMap<string, string> = new Map();
  let squared = 0;
  await stream(options, source, {
    header(header) {
      const fault = checkTensors(options.tensors, header.tensors);
      if (fault) throw new ContributionFault("WrongTensors", deltaSentence(fault));
      weight = weightIn(header);
      metadata = header.metadata;
    },
    values(tensor, at, values) {
      const count = countNonFinite(values);
      if (count > 0)
        throw new ContributionFault("NonFinite", deltaSentence({ code: "NonFinite", tensor: tensor.name, count }));
      squared += squaredNorm(values);
      seen(tensor, at, values);
    },
  });
  // The number itself stays private: how far beyond is nobody's business but the site's.
  if (!isClipped(squared, options.clipNorm))
    throw new ContributionFault("NotClipped", "the delta is larger than the plan's clipNorm; the agent must clip it");
  return { weight, metadata };
}

function weightIn(header: SafetensorsHeader): number {
  const text = header.metadata.get("weight") ?? "";
  const weight = /^[1-9][0-9]{0,2}$/.test(text) ? Number(text) : 0;
  if (weight < 1 || weight > FULL_WEIGHT)
    throw new ContributionFault("WrongWeight", `the contribution's weight is not an integer from 1 to ${FULL_WEIGHT}`);
  return weight;
}

interface Receiver {
  header(header: SafetensorsHeader): void;
  values(tensor: TensorInfo, at: number, values: Float32Array): void;
}

async function stream(options: SumOptions, source: { participant: string; file: string }, receiver: Receiver) {
  const { size } = await stat(source.file).catch((error: NodeJS.ErrnoException) => {
    if (error.code !== "ENOENT") throw error;
    throw new ContributionFault("FileMissing", "the operator's volume has lost what this participant uploaded");
  });
  try {
    const reader = new SafetensorsStream(plaintextLength(size), receiver);
    const { planHash, privateKey } = options;
    for await (const record of openRecords(source.file, { planHash, privateKey, participant: source.participant }))
      reader.push(record);
    reader.end();
  } catch (error) {
    if (error instanceof SealingFault) throw new ContributionFault("NotOpened", error.message);
    if (error instanceof SafetensorsFault) throw new ContributionFault("Malformed", error.message);
    throw error;
  }
}
