/**
 * The worker thread of one round's sum: opens contributions as they arrive, adds weight · delta in float64, writes the candidate.
 * Holds: a contribution is in the sum as a whole or not at all; requests are worked on one after the other; after "failed" the sum is worth
 *   nothing, and the main thread ends this worker.
 * Does not: survive the process. After a restart the sum is made again from the spool (controllers/round/sum.ts).
 */
import { isMainThread, parentPort, workerData } from "node:worker_threads";
import { addMean } from "../../aggregation/candidate.ts";
import { addWeighted } from "../../aggregation/rules/mean.ts";
import { openSafetensors, writeSafetensors } from "../../publish/safetensors.ts";
import { valueCount } from "../../publish/safetensors-header.ts";
import { ContributionFault, readContribution } from "./contribution.ts";
import { SummedLosses } from "./losses.ts";
import { NoCandidate } from "./no-candidate.ts";
import type { SumAnswer, SumOptions, SumRequest } from "./sum-messages.ts";

if (isMainThread || !parentPort) throw new Error("sum-worker.ts runs in a worker thread only");
const port = parentPort;
const options = workerData as SumOptions;

/** Where each tensor begins in the sum. */
const offsets = new Map<string, number>();
let length = 0;
for (const { name, shape } of options.tensors) {
  offsets.set(name, length);
  length += valueCount(shape);
}
const sum = new Float64Array(length);
let totalWeight = 0;
const losses = new SummedLosses();

let last: Promise<void> = Promise.resolve();
port.on("message", (request: SumRequest) => {
  last = last.then(async () => port.postMessage(await answer(request)));
});

async function answer(request: SumRequest): Promise<SumAnswer> {
  const { id } = request;
  try {
    if (request.do === "add") {
      await add(request);
      return { id, kind: "added" };
    }
    return { id, kind: "candidate", ...(await writeCandidate(request)) };
  } catch (error) {
    if (error instanceof ContributionFault)
      return { id, kind: "refused", reason: error.reason, message: error.message };
    if (error instanceof NoCandidate) return { id, kind: "impossible", message: error.message };
    return { id, kind: "failed", message: error instanceof Error ? error.message : String(error) };
  }
}

async function add(source: { participant: string; file: string }): Promise<void> {
  const { weight, metadata } = await readContribution(options, source, (tensor, at, values, weight) =>
    addWeighted(sum, offsets.get(tensor)! + at, values, weight),
  );
  totalWeight += weight;
  losses.add(metadata);
}

async function writeCandidate({ parentFile, outFile }: { parentFile: string; outFile: string }) {
  await using parent = await openSafetensors(parentFile);
  const metadata = new Map([["format", "pt"]]);
  const written = await writeSafetensors(outFile, options.tensors, metadata, async function* ({ name }) {
    const tensor = parent.tensor(name);
    if (!tensor) throw new NoCandidate(`the parent adapter lacks tensor ${name}`);
    for await (const { at, values } of parent.chunks(tensor)) {
      const overflowed = addMean(values, { sum, at: offsets.get(name)! + at, totalWeight }, values);
      if (overflowed > 0)
        throw new NoCandidate(`the candidate has ${overflowed} values that are not finite in ${name}`);
      yield values;
    }
  });
  const metrics = losses.mean();
  return { digest: `sha256:${written.sha256}`, byteLength: written.byteLength, ...(metrics && { metrics }) };
}
