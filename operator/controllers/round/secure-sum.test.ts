/** Real worker threads on masked vectors that real participants made. */
import { randomBytes } from "node:crypto";
import { copyFile, mkdtemp, readdir, readFile, rm, truncate, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { openSafetensors, writeSafetensors } from "../../publish/safetensors.ts";
import type { Plan } from "../../round/plan.ts";
import { SecureSum } from "./secure-sum.ts";
import type { Input } from "./secure-sum-messages.ts";
import type { SumListener } from "./sum-threads.ts";
import { type Contribution, type Dropout, runSession, type Session, securePlan } from "./testing/secure-session.ts";

const prefix = "base_model.model.model.layers.0.self_attn.q_proj";
// 1.2 MB in u32: a vector has more than one piece for the threads, and no tensor ends with a block.
const TENSORS = [
  { name: `${prefix}.lora_A.weight`, shape: [3, 40_000] as [number, number] },
  { name: `${prefix}.lora_B.weight`, shape: [60_001, 3] as [number, number] },
];
const CLIP = 0.5;

let folder: string;
let sum: SecureSum | undefined;
let changed: PromiseWithResolvers<void>;

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "rondo-secure-sum-"));
});
afterEach(async () => {
  await sum?.close();
  await rm(folder, { recursive: true, force: true });
});

/** Deltas of the size that training leaves, one that is beyond the clip, an uneven weight for everybody. */
function contributions(names: string[], drops: Record<string, Dropout> = {}): Map<string, Contribution> {
  return new Map(
    names.map((name, at) => [
      name,
      {
        weight: at === 0 ? 255 : 40 + at,
        valueAt: (tensor, i) => (i === 17 ? 0.75 : 0.08 * Math.sin(1 + i * (at + 1) + tensor.length)),
        metrics: { tokens: 1000 + at, lossTokens: 2.5 * (1000 + at) },
        ...(drops[name] && { drops: drops[name] }),
      },
    ]),
  );
}

async function sessions(plan: Plan, of: Map<string, Contribution>): Promise<Session[]> {
  const all: Session[] = [];
  for (const cohort of plan.secure!.cohorts.keys())
    all.push(await runSession(folder, plan, cohort, (name) => of.get(name)!));
  return all;
}

function open(plan: Plan, of: Session[]): SecureSum {
  changed = Promise.withResolvers();
  const options = { plan, terms: of.map(({ terms }) => terms), scratch: join(folder, "scratch") };
  const listener: SumListener = {
    changed() {
      changed.resolve();
      changed = Promise.withResolvers();
    },
    diskFull: () => {},
    again: () => {},
  };
  return new SecureSum(options, listener);
}

async function until(isTrue: (view: ReturnType<SecureSum["view"]>) => boolean): Promise<void> {
  while (!isTrue(sum!.view())) await changed.promise;
}

async function settled(cohorts: number): Promise<void> {
  await until(({ unmasked, lost, problem }) => problem !== undefined || unmasked.length + lost.length === cohorts);
}

async function parent(): Promise<string> {
  const file = join(folder, "parent");
  await writeSafetensors(file, TENSORS, new Map(), ({ shape }) => [
    Float32Array.from({ length: shape[0]! * shape[1]! }, (_, i) => Math.fround(Math.cos(i))),
  ]);
  return file;
}

/** candidate − parent, by tensor. */
async function means(): Promise<Map<string, Float64Array>> {
  const [before, after] = [await parent(), join(folder, "candidate")];
  await sum!.candidate(before, after);
  await using old = await openSafetensors(before);
  await using made = await openSafetensors(after);
  const all = new Map<string, Float64Array>();
  for (const { name, shape } of TENSORS) {
    const [a, b] = [new Float32Array(shape[0] * shape[1]), new Float32Array(shape[0] * shape[1])];
    await old.read(old.tensor(name)!, 0, a);
    await made.read(made.tensor(name)!, 0, b);
    all.set(
      name,
      Float64Array.from(b, (value, i) => value - a[i]!),
    );
  }
  return all;
}

/** Root mean square of the difference to the plain weighted mean in float64, over all tensors. */
async function errorAgainst(of: Contribution[]): Promise<number> {
  const weight = of.reduce((total, each) => total + each.weight, 0);
  let [squares, count] = [0, 0];
  for (const [name, mean] of await means()) {
    for (const [i, value] of mean.entries()) {
      const clipped = (x: number) => Math.max(Math.min(Math.fround(x), CLIP), -CLIP);
      const plain = of.reduce((total, each) => total + each.weight * clipped(each.valueAt(name, i)), 0) / weight;
      squares += (value - plain) ** 2;
    }
    count += mean.length;
  }
  return Math.sqrt(squares / count);
}

/** secure-aggregation.md §5: C·√n/2^k at full weights, times 255·n/W; the candidate itself is float32 of values up to 1. */
function bound(ring: "u32" | "u16", of: Contribution[], largestCohort: number): number {
  const weight = of.reduce((total, each) => total + each.weight, 0);
  const steps = ring === "u32" ? 2 ** 32 : 2 ** 16;
  return (1.5 * CLIP * Math.sqrt(of.length) * largestCohort * 255) / (steps * weight) + 2 ** -24;
}

const FIVE = ["ann", "ben", "cid", "dot", "eve"];
const NINE = [...FIVE, "fay", "gus", "hal", "ida"];

describe.each(["u32", "u16"] as const)("a sum in the ring %s", (ring) => {
  test.each([
    { says: "one cohort", cohorts: [FIVE], drops: {} },
    { says: "two cohorts", cohorts: [NINE.slice(0, 4), NINE.slice(4)], drops: {} },
    { says: "one lost before it masked", cohorts: [FIVE], drops: { ben: "mask" } },
    { says: "one lost after it masked", cohorts: [FIVE], drops: { ben: "unmask" } },
    {
      says: "two cohorts, one lost in each",
      cohorts: [NINE.slice(0, 4), NINE.slice(4)],
      drops: { ann: "mask", ida: "share" },
    },
  ])("of $says gives the plain weighted mean", async ({ cohorts, drops }) => {
    const plan = securePlan({ ring, tensors: TENSORS, clip: CLIP, cohorts });
    const given = contributions(cohorts.flat(), drops as Record<string, Dropout>);
    const run = await sessions(plan, given);
    sum = open(plan, run);
    for (const [cohort, { inputs }] of run.entries()) for (const input of inputs) sum.add({ cohort, ...input });
    for (const [cohort, { state, inputs }] of run.entries()) sum.unmask(cohort, state, inputs);
    await settled(cohorts.length);

    const counted = run.flatMap(({ inputs }) => inputs.map(({ participant }) => given.get(participant)!));
    const total = (of: (each: Contribution) => number) => counted.reduce((all, each) => all + of(each), 0);
    expect(sum.view()).toMatchObject({ lost: [] });
    expect(sum.view().added).toHaveLength(counted.length);
    expect(sum.view().unmasked.flatMap(({ liars }) => liars)).toEqual([]);
    const result = sum.result()!;
    expect(result).toMatchObject({
      contributors: counted.length,
      weight: total(({ weight }) => weight),
      saturated: [counted.length, counted.length],
    });
    expect(Object.fromEntries(result.metrics)).toEqual({
      tokens: total(({ metrics }) => metrics!.tokens),
      lossTokens: total(({ metrics }) => metrics!.lossTokens),
    });
    expect(await errorAgainst(counted)).toBeLessThan(bound(ring, counted, plan.secure!.largestCohort));
  });
});

describe("a sum", () => {
  const plan = securePlan({ ring: "u32", tensors: TENSORS, clip: CLIP, cohorts: [FIVE] });
  const given = contributions(FIVE);
  let spool: string;
  let run: Session;
  beforeAll(async () => {
    spool = await mkdtemp(join(tmpdir(), "rondo-secure-spool-"));
    run = await runSession(spool, plan, 0, (name) => given.get(name)!);
  });
  afterAll(() => rm(spool, { recursive: true, force: true }));
  beforeEach(() => {
    sum = open(plan, [run]);
  });

  const all = () => [...given.values()];
  const within = () => bound("u32", all(), 5);

  test("says what the clipped deltas' energy was", async () => {
    sum!.unmask(0, run.state, run.inputs);
    await settled(1);
    for (const [i, { name, shape }] of TENSORS.entries()) {
      const length = shape[0] * shape[1];
      const energy = all().reduce((total, each) => {
        let squares = 0;
        for (let at = 0; at < length; at++) squares += Math.min(Math.abs(each.valueAt(name, at)), CLIP) ** 2;
        return total + (each.weight * squares) / length / CLIP ** 2;
      }, 0);
      expect(sum!.result()!.energy[i]).toBeCloseTo(energy, 5);
    }
  });

  test("is made of vectors that were not added before, as after a restart", async () => {
    sum!.unmask(0, run.state, run.inputs);
    await settled(1);
    expect(await errorAgainst(all())).toBeLessThan(within());
  });

  test("has a vector once, however often it is passed on, and is unmasked once", async () => {
    for (let times = 0; times < 2; times++) {
      for (const input of run.inputs) sum!.add({ cohort: 0, ...input });
      sum!.unmask(0, run.state, run.inputs);
    }
    await settled(1);
    expect(sum!.view().unmasked).toHaveLength(1);
    expect(await errorAgainst(all())).toBeLessThan(within());
  });

  test("leaves out a vector that came too late for U3", async () => {
    const late = join(folder, "late");
    await writeFile(late, randomBytes(run.terms.byteLength));
    sum!.add({ cohort: 0, participant: "late", file: late });
    for (const input of run.inputs) sum!.add({ cohort: 0, ...input });
    sum!.unmask(0, run.state, [...run.inputs, { participant: "late", file: late }]);
    await settled(1);
    expect(await errorAgainst(all())).toBeLessThan(within());
  });

  test("gives the same bytes whenever it is written, and in whatever order its vectors came", async () => {
    sum!.unmask(0, run.state, run.inputs);
    await settled(1);
    const first = await sum!.candidate(await parent(), join(folder, "one"));
    await sum!.close();
    sum = open(plan, [run]);
    for (const input of run.inputs.toReversed()) sum.add({ cohort: 0, ...input });
    sum.unmask(0, run.state, run.inputs);
    await settled(1);
    expect(await sum.candidate(await parent(), join(folder, "two"))).toEqual(first);
    expect(await readFile(join(folder, "one"))).toEqual(await readFile(join(folder, "two")));
  });

  test("with a vector that is not the one its member masked ends the cohort under a name", async () => {
    const wrong = join(folder, "wrong");
    await writeFile(wrong, randomBytes(run.terms.byteLength));
    const inputs = run.inputs.map((input) => (input.participant === "dot" ? { ...input, file: wrong } : input));
    sum!.unmask(0, run.state, inputs);
    await settled(1);
    expect(sum!.view()).toMatchObject({ unmasked: [], lost: [{ cohort: 0, code: "SumInvalid" }] });
    expect(sum!.result()).toBeUndefined();
  });

  test("of a dealer whose shares fit nothing ends the cohort and names the dealer", async () => {
    const answers = new Map(
      [...run.state.answers].map(([index, { shares }]) => {
        const broken = shares.map((share) =>
          share.index === 2 ? { index: 2, share: { $case: "selfShare" as const, value: randomBytes(32) } } : share,
        );
        return [index, { shares: broken }];
      }),
    );
    sum!.unmask(0, { ...run.state, answers }, run.inputs);
    await settled(1);
    expect(sum!.view().lost).toMatchObject([{ cohort: 0, code: "InconsistentDealer", accused: ["ben"] }]);
  });

  test("names a member whose one share is wrong, and needs it not", async () => {
    const answers = new Map(run.state.answers);
    const shares = answers
      .get(3)!
      .shares.map((share) =>
        share.index === 2 ? { index: 2, share: { $case: "selfShare" as const, value: randomBytes(32) } } : share,
      );
    answers.set(3, { shares });
    sum!.unmask(0, { ...run.state, answers }, run.inputs);
    await settled(1);
    expect(sum!.view().unmasked).toMatchObject([{ liars: ["cid"] }]);
    expect(await errorAgainst(all())).toBeLessThan(within());
  });

  describe.each([
    { says: "is not there", spoil: (file: string) => rm(file), message: /lost the masked vector of ben/ },
    { says: "has become shorter", spoil: (file: string) => truncate(file, 1000), message: /shorter than planned/ },
  ])("whose spooled vector $says is lost, and no other", ({ spoil, message }) => {
    test.each(["unmasked", "added"] as const)("when it is %s", async (when) => {
      const file = join(folder, "spoilt");
      await copyFile(run.inputs[1]!.file, file);
      await spoil(file);
      if (when === "added") sum!.add({ cohort: 0, ...run.inputs[1]!, file });
      else sum!.unmask(0, run.state, run.inputs.with(1, { ...run.inputs[1]!, file }));
      await settled(1);
      expect(sum!.view()).toMatchObject({ unmasked: [], lost: [{ cohort: 0, code: "SumInvalid", accused: [] }] });
      expect(sum!.view().lost[0]!.message).toMatch(message);
      expect(sum!.view().problem).toBeUndefined();
    });
  });

  test("whose thread fails is made again from nothing", async () => {
    sum!.unmask(0, run.state, run.inputs.slice(1));
    await changed.promise;
    expect(sum!.view()).toEqual({ added: [], unmasked: [], lost: [] });
    sum!.unmask(0, run.state, run.inputs);
    await settled(1);
    expect(await errorAgainst(all())).toBeLessThan(within());
  });

  test("without a member of U3 is never made, however often it is tried", async () => {
    for (let thread = 1; thread <= 3; thread++) {
      sum!.unmask(0, run.state, run.inputs.slice(1));
      await changed.promise;
    }
    expect(sum!.view().problem).toMatch(/ann is not among/);
  });

  test("that was closed takes nothing more", async () => {
    await sum!.close();
    sum!.add({ cohort: 0, ...run.inputs[0]! });
    await expect(sum!.candidate("parent", "out")).rejects.toThrow("the sum is closed");
  });
});

test("cohorts whose vectors come mixed and whose masks fall one by one give one mean, and leave no file", async () => {
  const cohorts = [NINE.slice(0, 3), NINE.slice(3, 6), NINE.slice(6)];
  const plan = securePlan({ ring: "u32", tensors: TENSORS, clip: CLIP, cohorts });
  const given = contributions(NINE);
  const run = await sessions(plan, given);
  sum = open(plan, run);
  const mixed: Array<Input & { cohort: number }> = [0, 1, 2].flatMap((member) =>
    run.map(({ inputs }, cohort) => ({ cohort, ...inputs[member]! })),
  );
  const before = await readdir(folder);
  for (const input of mixed.slice(0, 5)) sum.add(input);
  sum.unmask(1, run[1]!.state, run[1]!.inputs);
  for (const input of mixed) sum.add(input);
  sum.unmask(0, run[0]!.state, run[0]!.inputs);
  sum.unmask(2, run[2]!.state, run[2]!.inputs);
  await settled(3);
  const counted = [...given.values()];
  expect(await errorAgainst(counted)).toBeLessThan(bound("u32", counted, 3));
  expect((await readdir(folder)).filter((name) => !before.includes(name)).sort()).toEqual(["candidate", "parent"]);
});

test("a candidate that float32 cannot hold is refused with the tensor's name", async () => {
  const plan = securePlan({ ring: "u32", tensors: TENSORS, clip: 1e38, cohorts: [FIVE] });
  const big: Contribution = { weight: 255, valueAt: () => 1e38, metrics: { tokens: 1, lossTokens: 1 } };
  const run = await sessions(plan, new Map(FIVE.map((name) => [name, big])));
  sum = open(plan, run);
  sum.unmask(0, run[0]!.state, run[0]!.inputs);
  await settled(1);
  const full = join(folder, "full");
  await writeSafetensors(full, TENSORS, new Map(), ({ shape }) => [new Float32Array(shape[0]! * shape[1]!).fill(3e38)]);
  await expect(sum.candidate(full, join(folder, "out"))).rejects.toThrow(/not finite in base_model.*lora_A/);
});
