/**
 * The worker thread of one secure round's ring sum: adds masked vectors as they arrive, removes the masks when the secrets are out, writes
 * the candidate.
 * Holds: requests are worked on one after the other; memory is one vector and small buffers, whatever the number of members and cohorts;
 *   the sum of a cohort is that of exactly its U3.
 * Does not: survive the process. After a restart the sums are made again from the spool (controllers/round/secure-sum.ts).
 */
import { isMainThread, parentPort, workerData } from "node:worker_threads";
import { addRingMean, meanDivisor } from "../../aggregation/ring-mean.ts";
import { openSafetensors, writeSafetensors } from "../../publish/safetensors.ts";
import { recover } from "../../secagg/coordinator/recover.ts";
import { SecaggFault } from "../../secagg/faults.ts";
import { simdKernel } from "../../secagg/kernels/simd.ts";
import { decodeTail, vectorLayout } from "../../secagg/vector.ts";
import { NoCandidate } from "./no-candidate.ts";
import { Accumulator, type UnmaskedSum } from "./secure-sum-accumulator.ts";
import { checkTail } from "./secure-sum-check.ts";
import { Crew } from "./secure-sum-crew.ts";
import type { CohortSum, Input, SecureSumAnswer, SecureSumOptions, SecureSumRequest } from "./secure-sum-messages.ts";

if (isMainThread || !parentPort) throw new Error("secure-sum-worker.ts runs in a worker thread only");
const port = parentPort;
const { plan, terms, scratch } = workerData as SecureSumOptions;

const layout = vectorLayout(plan);
const kernel = simdKernel();
const crew = new Crew(kernel);
const accumulator = new Accumulator(layout, kernel);
/** Whose sum the accumulator holds. */
let held: number | undefined;
const unmasked = new Map<number, { sum: UnmaskedSum; weight: number }>();

let last: Promise<void> = Promise.resolve();
port.on("message", (request: SecureSumRequest) => {
  last = last.then(async () => port.postMessage(await answer(request)));
});

async function answer(request: SecureSumRequest): Promise<SecureSumAnswer> {
  const { id } = request;
  try {
    switch (request.do) {
      case "add":
        add(request.cohort, request.input);
        return { id, kind: "added" };
      case "unmask":
        return { id, kind: "unmasked", sum: await unmask(request) };
      case "candidate":
        return { id, kind: "candidate", ...(await writeCandidate(request)) };
    }
  } catch (error) {
    if (error instanceof SecaggFault && request.do !== "candidate") {
      const { code, message, accused } = error;
      return { id, kind: "lost", fault: { cohort: request.cohort, code, message, accused: [...accused] } };
    }
    if (error instanceof NoCandidate) return { id, kind: "impossible", message: error.message };
    return { id, kind: "failed", message: error instanceof Error ? error.message : String(error) };
  }
}

/** Now if the accumulator is this cohort's or nobody's; else when the cohort is unmasked, from the spool. */
function add(cohort: number, input: Input): void {
  held ??= cohort;
  if (held !== cohort) return;
  try {
    accumulator.add(input);
  } catch (error) {
    accumulator.clear();
    held = undefined;
    throw error;
  }
}

async function unmask({ cohort, state, inputs }: Extract<SecureSumRequest, { do: "unmask" }>): Promise<CohortSum> {
  const startMs = performance.now();
  const ofCohort = terms[cohort]!;
  const u3 = state.u3.map(({ index }) => ofCohort.members[index - 1]!.participant);
  complete(cohort, u3, inputs);
  const { keys, liars } = recover(ofCohort, state);
  await crew.unmask(accumulator.vector, layout.ring, keys);
  const tail = accumulator.tail();
  checkTail(layout, tail, u3.length);
  const { weight, metrics, perTensor } = decodeTail(
    layout,
    new Uint8Array(tail.buffer, tail.byteOffset, tail.byteLength),
  );
  unmasked.set(cohort, { sum: accumulator.sum(), weight });
  return {
    cohort,
    contributors: u3.length,
    weight,
    metrics: [...metrics].map(([name, value]) => ({ name, value })),
    saturated: perTensor.get("saturated") ?? layout.tensors.map(() => 0),
    energy: perTensor.get("energy") ?? layout.tensors.map(() => 0),
    liars: liars.map((index) => ofCohort.members[index - 1]!.participant),
    unmaskSeconds: (performance.now() - startMs) / 1000,
  };
}

/** Makes the accumulator hold exactly the sum of these participants' vectors. */
function complete(cohort: number, u3: readonly string[], inputs: readonly Input[]): void {
  if (held !== cohort) take(cohort);
  const files = new Map(inputs.map((input) => [input.participant, input]));
  // A vector came too late for U3: rare, so that making the sum again is enough.
  if ([...accumulator.members].some((member) => !u3.includes(member))) accumulator.clear();
  for (const participant of u3) {
    const input = files.get(participant);
    if (!input) throw new Error(`the masked vector of ${participant} is not among the contributions`);
    accumulator.add(input);
  }
}

/** What the accumulator holds of another cohort goes to a file when it is unmasked; else it is still in the spool. */
function take(cohort: number): void {
  const done = held === undefined ? undefined : unmasked.get(held);
  if (done) unmasked.set(held!, { ...done, sum: accumulator.toFile(`${scratch}.sum`) });
  accumulator.clear();
  held = cohort;
}

async function writeCandidate(request: Extract<SecureSumRequest, { do: "candidate" }>) {
  const cohorts = request.cohorts.map((cohort) => unmasked.get(cohort)!);
  const weight = cohorts.reduce((total, cohort) => total + cohort.weight, 0);
  const tensors = new Map(layout.tensors.map((tensor) => [tensor.name, tensor]));
  await using parent = await openSafetensors(request.parentFile);
  const metadata = new Map([["format", "pt"]]);
  const written = await writeSafetensors(request.outFile, plan.tensors, metadata, async function* ({ name }) {
    const tensor = parent.tensor(name);
    if (!tensor) throw new NoCandidate(`the parent adapter lacks tensor ${name}`);
    const planned = tensors.get(name)!;
    const divisor = meanDivisor(planned.scale, weight);
    for await (const { at, values } of parent.chunks(tensor)) {
      const sums = cohorts.map(({ sum }) => sum.read(planned.at + at, values.length));
      const overflowed = addRingMean(values, { sums, divisor }, values);
      if (overflowed > 0)
        throw new NoCandidate(`the candidate has ${overflowed} values that are not finite in ${name}`);
      yield values;
    }
  });
  return { digest: `sha256:${written.sha256}`, byteLength: written.byteLength };
}
