/** Secure rounds end to end at the operator: what the sites contributed comes out as one mean, whoever leaves, and nothing else does. */
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import type { FederationRound } from "../../../operator/api/federation-round.ts";
import { EVENTS, PARTICIPANTS } from "../../../operator/kube/resources.ts";
import { type Question, type Site, trainsSecurely } from "./secure-player.ts";
import { INITIAL_VALUE, TestWorld } from "./world.ts";

let world: TestWorld;
beforeEach(async () => {
  world = await TestWorld.make();
  await world.startOperator();
});
afterEach(() => world.stop());

const SECURE = {
  aggregation: { privacy: "secure" as const, clipNorm: "8" },
  participants: { selector: { matchLabels: { team: "test" } }, minimum: 3 },
};
const VALUES = { ann: 0.25, ben: -0.5, cy: 0.75, dee: 0.1, eve: 1.5 } as const;
type Name = keyof typeof VALUES;
const NAMES = Object.keys(VALUES) as Name[];

async function addSites(sites: Partial<Record<Name, Site>> = {}): Promise<void> {
  for (const name of NAMES) await world.addPlayer(name, trainsSecurely(VALUES[name], sites[name]));
}

const row = (round: FederationRound, name: string) => round.status.participants?.find((p) => p.name === name);
const summary = (round: FederationRound) => round.status.conditions?.find((c) => c.type === "Succeeded");

/** Every value of the adapter that a round has published is the old one plus this. */
async function expectMean(mean: number, name = "fed-v1", before = INITIAL_VALUE): Promise<void> {
  const version = await world.get<{ spec: { reference: string } }>("adapterversions", name);
  for (const value of await world.valuesOf(version!.spec.reference)) expect(value).toBeCloseTo(before + mean, 5);
}

function meanOf(names: readonly Name[], weightOf: (name: Name) => number = () => 255): number {
  const total = names.reduce((sum, name) => sum + weightOf(name), 0);
  return names.reduce((sum, name) => sum + weightOf(name) * VALUES[name], 0) / total;
}

async function eventReasons(): Promise<string[]> {
  const { items } = await world.client.list(EVENTS, { namespace: world.namespace });
  return items.map((event) => `${event.reason}: ${event.note}`);
}

test("five sites' deltas come out as their weighted mean, and the next round clips by what the sum said", async () => {
  const weight = { ann: 200, ben: 100 } as Partial<Record<Name, number>>;
  await addSites({ ann: { weight: 200 }, ben: { weight: 100 } });
  await world.createFederation("fed", { ...SECURE, rounds: { count: 2 } });
  const round = await world.ended("fed-r1");
  expect(summary(round)?.message).toMatch(/version 1 from 5 of 5/);
  expect(round.status).toMatchObject({
    phase: "Succeeded",
    contributions: "5/5",
    counts: { Contributed: 5 },
    plan: { participants: 5, threshold: 4 },
  });
  const mean = meanOf(NAMES, (name) => weight[name] ?? 255);
  await expectMean(mean);
  const plan = world.players[0]!.plans[0]!.plan;
  expect(plan.aggregation).not.toHaveProperty("ring");
  expect(plan.sealing).toBeUndefined();
  expect(plan.secure).toMatchObject({ ring: "u32", largestCohort: 5, cohorts: [{ members: NAMES, threshold: 4 }] });
  expect(plan.secure!.scales.map(({ clip }) => clip)).toEqual(["8", "8", "8", "8"]);

  expect((await world.ended("fed-r2")).status).toMatchObject({ phase: "Succeeded" });
  await expectMean(mean, "fed-v2", INITIAL_VALUE + mean);
  // 6 · the weighted root mean square of what was sent
  const square = NAMES.reduce((sum, name) => sum + (weight[name] ?? 255) * VALUES[name] ** 2, 0) / (300 + 3 * 255);
  for (const { clip } of world.players[0]!.plans[1]!.plan.secure!.scales)
    expect(Number(clip)).toBeCloseTo(6 * Math.sqrt(square), 4);
  const metrics = await (await fetch(`${world.metricsUrl}/metrics`)).text();
  expect(metrics).toMatch(/rondo_secagg_unmask_seconds_count 2/);
  expect(metrics).toMatch(/rondo_secagg_step_seconds_count\{step="share"\} 2/);
  expect(metrics).not.toMatch(/"(ann|ben|cy|dee|eve)"/);
});

test("the ring of 16 bits halves the vector and keeps the mean", async () => {
  await addSites();
  await world.createFederation("fed", { ...SECURE, aggregation: { ...SECURE.aggregation, ring: "u16" } });
  await world.createRound("one", "fed");
  const round = await world.ended("one");
  expect(round.status).toMatchObject({ phase: "Succeeded" });
  const version = await world.get<{ spec: { reference: string } }>("adapterversions", "fed-v1");
  const values = await world.valuesOf(version!.spec.reference);
  // One step of the ring is 8 / 6553 · 5 sites / 5.
  for (const value of values) expect(Math.abs(value - INITIAL_VALUE - meanOf(NAMES))).toBeLessThan(0.003);
});

describe("one of five that leaves takes nobody along", () => {
  test.each<{ at: Question; counts: boolean; state: object }>([
    { at: "plan", counts: false, state: { state: "Failed", reason: "RosterDiffers" } },
    { at: "keys", counts: false, state: { state: "Failed", reason: "RosterDiffers" } },
    { at: "shares", counts: false, state: { state: "Failed", message: "it left when asked for shares" } },
    { at: "consistency", counts: true, state: { state: "Contributed" } },
    { at: "unmask", counts: true, state: { state: "Contributed" } },
  ])("when it is asked for $at", async ({ at, counts, state }) => {
    await addSites({ cy: { abortsAt: at } });
    await world.createFederation("fed", SECURE);
    await world.createRound("one", "fed");
    const round = await world.ended("one");
    expect(round.status).toMatchObject({ phase: "Succeeded", contributions: counts ? "5/5" : "4/5" });
    expect(row(round, "cy")).toMatchObject(state);
    await expectMean(meanOf(NAMES.filter((name) => counts || name !== "cy")));
    if (counts)
      await world.until(
        async () => (await eventReasons()).some((event) => /^ParticipantAborted: cy contributed/.test(event)),
        "an event names who did not answer any more",
      );
  });

  test("without a word, and the others wait no longer than the step", async () => {
    await addSites({ cy: { silentAt: "keys" } });
    const deadlines = { accept: "50s", training: "50s", aggregation: "20s" };
    await world.createFederation("fed", { ...SECURE, deadlines });
    await world.createRound("one", "fed");
    const round = await world.ended("one");
    expect(round.status).toMatchObject({ phase: "Succeeded", contributions: "4/5" });
    expect(row(round, "cy")).toMatchObject({
      state: "Lost",
      reason: "ShareDeadline",
      message: "trained, but its shares did not come by the sharing deadline",
    });
    await expectMean(meanOf(["ann", "ben", "dee", "eve"]));
  });

  test("because it was suspended, whatever the step", async () => {
    const asked = Promise.withResolvers<void>();
    await addSites({ cy: { silentAt: "consistency", before: async (at) => at === "consistency" && asked.resolve() } });
    await world.createFederation("fed", SECURE);
    await world.createRound("one", "fed");
    await asked.promise;
    const ref = { namespace: world.namespace, name: "cy" };
    await world.client.patchMerge(PARTICIPANTS, ref, { spec: { suspended: true } });
    expect((await world.ended("one")).status).toMatchObject({ phase: "Succeeded", contributions: "5/5" });
    await expectMean(meanOf(NAMES));
  });
});

describe("what no honest site sends takes its sender out by name, and the round goes on", () => {
  const cases: Array<{ says: string; site: Site; reason: string }> = [
    {
      says: "keys that are not signed for this round",
      site: {
        lies: (message) =>
          message.$case === "advertise"
            ? { ...message, value: { ...message.value, signature: new Uint8Array(64) } }
            : message,
      },
      reason: "SignatureInvalid",
    },
    {
      says: "shares for some members only",
      site: {
        lies: (message) =>
          message.$case === "share"
            ? { ...message, value: { ...message.value, shares: message.value.shares.slice(1) } }
            : message,
      },
      reason: "MessageMalformed",
    },
    {
      says: "a signature of the list of contributions before anybody asked for it",
      site: {
        lies: (message) =>
          message.$case === "share" ? { $case: "consistency", value: { signature: message.value.ack } } : message,
      },
      reason: "NotExpected",
    },
    {
      says: "a vector that is signed for another session",
      site: { forges: async (manifest) => ({ ...manifest, inputSignature: new Uint8Array(64) }) },
      reason: "SignatureInvalid",
    },
    {
      says: "a vector that is longer than planned",
      site: {
        forges: async (manifest) => ({
          ...manifest,
          byteLength: manifest.byteLength + 1,
          leaves: [new Uint8Array(32)],
        }),
      },
      reason: "WrongLength",
    },
  ];
  test.each(cases)("$says", async ({ site, reason }) => {
    await addSites({ cy: site });
    await world.createFederation("fed", SECURE);
    await world.createRound("one", "fed");
    const round = await world.ended("one");
    expect(round.status).toMatchObject({ phase: "Succeeded", contributions: "4/5" });
    expect(row(round, "cy")).toMatchObject({ state: "Excluded", reason });
    expect(row(round, "cy")?.message).toBeTruthy();
    await expectMean(meanOf(["ann", "ben", "dee", "eve"]));
    const cy = world.players.find(({ name }) => name === "cy")!;
    await world.until(async () => cy.cancellations.some((one) => one.reason === reason), "cy is told to stop");
  });

  test("a wrong share at the end is named, and the sum is found without it", async () => {
    const flipped = (message: Parameters<NonNullable<Site["lies"]>>[0]) =>
      message.$case === "unmask"
        ? {
            ...message,
            value: {
              shares: message.value.shares.map(({ index, share }) => ({
                index,
                share: share && { ...share, value: share.value.map((byte) => byte ^ 1) },
              })),
            },
          }
        : message;
    await addSites({ cy: { lies: flipped } });
    await world.createFederation("fed", SECURE);
    await world.createRound("one", "fed");
    expect((await world.ended("one")).status).toMatchObject({ phase: "Succeeded", contributions: "5/5" });
    await expectMean(meanOf(NAMES));
    await world.until(
      async () =>
        (await eventReasons()).includes("WrongShare: cy revealed a wrong share; the sum was found without it"),
      "an event names cy",
    );
  });
});

test("a cohort of which too few are left ends the round with who is missing, and who is accused", async () => {
  await addSites({
    ann: { abortsAt: "shares", accuses: ["eve"] },
    ben: { abortsAt: "shares", accuses: ["eve", "nobody"] },
  });
  await world.createFederation("fed", SECURE);
  await world.createRound("one", "fed");
  const round = await world.ended("one");
  expect(summary(round)).toMatchObject({ status: "False", reason: "CohortTooSmall" });
  expect(summary(round)?.message).toMatch(
    /^secure aggregation ended: 3 of 5 are left while masked vectors came in, 4 are needed; the shares of eve could not be opened by (ann, ben|ben, ann); ann Failed/,
  );
  expect(row(round, "cy")).toMatchObject({ state: "Excluded", reason: "CohortTooSmall" });
  expect(await world.get("adapterversions", "fed-v1")).toBeUndefined();
  const metrics = await (await fetch(`${world.metricsUrl}/metrics`)).text();
  expect(metrics).toMatch(/rondo_secagg_aborted_total\{reason="CohortTooSmall"\} 1/);
  expect(metrics).toMatch(/rondo_secagg_aborted_total\{reason="BadShare"\} 2/);
});

test("whoever dealt shares that do not fit together fails the round by name and is left out until its site enrols anew", {
  timeout: 120_000,
}, async () => {
  // Shares another b than the one that it has committed to.
  const dealsAnother = (state: Parameters<NonNullable<Site["changes"]>>[0], question: Question) =>
    state.kind === "Advertised" && question === "keys"
      ? { ...state, secrets: { ...state.secrets, b: new Uint8Array(32).fill(1) } }
      : state;
  await addSites({ eve: { changes: dealsAnother } });
  await world.createFederation("fed", { ...SECURE, rounds: { count: 2 } });
  const round = await world.ended("fed-r1");
  expect(summary(round)).toMatchObject({ status: "False", reason: "InconsistentShares" });
  expect(summary(round)?.message).toMatch(/^eve dealt shares that do not fit together/);
  await world.until(
    async () => (await eventReasons()).some((event) => /^InconsistentShares: eve: left out/.test(event)),
    "an event names eve",
  );
  const next = await world.ended("fed-r2");
  expect(next.status).toMatchObject({ phase: "Succeeded", contributions: "4/4" });
  await expectMean(meanOf(["ann", "ben", "cy", "dee"]));
  await world.createRound("all", "fed", { participants: { minimum: 5 } });
  expect(summary(await world.ended("all"))?.message).toMatch(
    /4 Participants can be invited \(left out for inconsistent shares until they enrol anew: eve\)/,
  );

  await world.players.at(-1)!.stop();
  const ref = { namespace: world.namespace, name: "eve" };
  await world.client.patchMerge(PARTICIPANTS, ref, { spec: { enrolment: 2 } });
  await world.addPlayer("eve", trainsSecurely(VALUES.eve), "anew");
  await world.createRound("again", "fed", { participants: { minimum: 5 } });
  expect((await world.ended("again")).status).toMatchObject({ phase: "Succeeded", contributions: "5/5" });
});
