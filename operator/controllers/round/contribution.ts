/**
 * Reads one sealed contribution (protocol.md, last section) and hands its values on only when all of it was found good.
 * Holds: two passes, check and then add, because a sum cannot be un-added; memory is one record, whatever the adapter's size.
 * Does not: keep anything of the contribution but its weight.
 */
import { stat } from "node:fs/promises";
import { isClipped, squaredNorm } from "../../aggregation/clip.ts";
import { checkTensors, deltaSentence } from "../../aggregation/delta.ts";
import { countNonFinite } from "../../aggregation/finite.ts";
import { FULL_WEIGHT } from "../../aggregation/weight.ts";
import { SafetensorsFault, type SafetensorsHeader, type TensorInfo } from "../../publish/safetensors-header.ts";
import { SafetensorsStream } from "../../publish/safetensors-stream.ts";
import { openRecords, plaintextLength, SealingFault } from "../../transport/sealing.ts";
import type { SumOptions } from "./sum-messages.ts";

/** Why a contribution does not count; the participant becomes Excluded with it. */
export class ContributionFault extends Error {
  readonly reason: "NotOpened" | "Malformed" | "WrongTensors" | "NonFinite" | "NotClipped" | "WrongWeight";
  constructor(reason: ContributionFault["reason"], message: string) {
    super(message);
    this.name = "ContributionFault";
    this.reason = reason;
  }
}

/**
 * @param add  receives every chunk of values in the order of the file, after all of them were checked
 * @throws ContributionFault; whatever the file system throws
 */
export async function readContribution(
  options: SumOptions,
  source: { participant: string; file: string },
  add: (tensor: string, at: number, values: Float32Array, weight: number) => void,
): Promise<void> {
  const weight = await check(options, source);
  await stream(options, source, {
    header: () => {},
    values: (tensor, at, values) => add(tensor.name, at, values, weight),
  });
}

async function check(options: SumOptions, source: { participant: string; file: string }): Promise<number> {
  let weight = 0;
  let squared = 0;
  await stream(options, source, {
    header(header) {
      const fault = checkTensors(options.tensors, header.tensors);
      if (fault) throw new ContributionFault("WrongTensors", deltaSentence(fault));
      weight = weightIn(header);
    },
    values(tensor, _at, values) {
      const count = countNonFinite(values);
      if (count > 0)
        throw new ContributionFault("NonFinite", deltaSentence({ code: "NonFinite", tensor: tensor.name, count }));
      squared += squaredNorm(values);
    },
  });
  // The number itself stays private: how far beyond is nobody's business but the site's.
  if (!isClipped(squared, options.clipNorm))
    throw new ContributionFault("NotClipped", "the delta is larger than the plan's clipNorm; the agent must clip it");
  return weight;
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
  const { size } = await stat(source.file);
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
