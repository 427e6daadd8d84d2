/** Secure rounds of four sites with one operator: real agents, real API server, real gRPC (consortium.ts). */
import { mkdir, rm } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { askAgent } from "../../../operator/agent/local.ts";
import type { RosterView } from "../../../operator/agent/roster.ts";
import { SECRETS } from "../../../operator/kube/resources.ts";
import type { CoordinatorMessage } from "../../../operator/secagg/messages.ts";
import {
  changed,
  consistencyWith,
  flipBit,
  keysWith,
  sharesWith,
  unmaskWith,
  without,
} from "../../../operator/secagg/testing/lies.ts";
import { sharedApiServer } from "../shared-api-server.ts";
import { Consortium } from "./consortium.ts";
import type { SecureCoordinator } from "./secure-coordinator.ts";

const deltas = [0.01, 0.02, 0.03, 0.04];
const names = ["clinic-a", "clinic-b", "clinic-c", "clinic-d"];
let sites: Consortium;

beforeAll(async () => {
  sites = await Consortium.open(await sharedApiServer(), 4);
}, 60_000);
afterAll(() => sites.close());

const untilStep = (round: SecureCoordinator, step: string) =>
  sites.site("clinic-b").until(() => round.state.step === step, `step ${step}, now ${round.state.step}`);
const saidIn = (participant: string, round: SecureCoordinator) =>
  sites
    .site(participant)
    .reports.filter(({ body }) => body.work?.round === round.plan.round)
    .map((report) => report);
const mean = (values: readonly number[]) => values.reduce((sum, value) => sum + value, 0) / values.length;

test("four sites train, mask and open one sum, which is all that the operator learns, and leave nothing behind", async () => {
  const plan = sites.plan();
  const round = sites.send(plan);
  await sites.train(plan, deltas);
  await untilStep(round, "complete");
  const { contributors, means, tail } = await round.sum();
  expect(contributors).toEqual(names);
  for (const value of means) expect(value).toBeCloseTo(mean(deltas), 6);
  expect(tail.weight).toBe(4 * 128); // 50 of 100 examples each
  expect([...tail.metrics]).toEqual([
    ["tokens", 4000],
    ["lossTokens", 10_000],
  ]);
  expect(tail.perTensor.get("saturated")).toEqual([0, 0]);
  for (const name of names) {
    const result = await sites.ended(name, plan, "Contributed");
    expect(result.session).toMatchObject({ state: "RELEASED", problem: null, refused: null });
    const states = saidIn(name, round).flatMap(({ kind, body }) => (kind === "status" ? [body.state] : [kind]));
    expect(states.indexOf("share")).toBeGreaterThan(states.indexOf("advertise"));
    expect(states.at(-1)).toBe("unmask");
    await sites.site(name).nothingLeft();
  }
  const secret = await sites.api.client.get(SECRETS, {
    namespace: sites.site("clinic-a").namespace,
    name: "rondo-agent-identity",
  });
  const remembered = Buffer.from(secret?.data?.["highest-masked"] ?? "", "base64").toString();
  expect(JSON.parse(remembered)).toEqual({ [plan.federation]: plan.round });
}, 60_000);

const swapped = (honest: CoordinatorMessage) =>
  keysWith(honest, (all) => changed(all, 2, { cPk: all[2]!.cPk, sPk: all[2]!.sPk }));

test.each<{
  says: string;
  at: CoordinatorMessage["$case"];
  lie: (honest: CoordinatorMessage) => CoordinatorMessage;
  code: string;
  accused?: string[];
}>([
  { says: "swaps another member's keys", at: "keys", lie: swapped, code: "KeysInvalid" },
  {
    says: "shows this site other keys than its own",
    at: "keys",
    lie: (honest) => keysWith(honest, (all) => changed(all, 1, { cPk: flipBit(all[0]!.cPk) })),
    code: "OwnKeysDiffer",
  },
  {
    says: "shows fewer members than the threshold",
    at: "keys",
    lie: (honest) => keysWith(honest, (all) => all.slice(0, 2)),
    code: "TooFewMembers",
  },
  {
    says: "flips a bit of a member's shares",
    at: "shares",
    lie: (honest) =>
      sharesWith(honest, ({ acks, shares }) => ({
        acks,
        shares: changed(shares, 2, { ciphertext: flipBit(shares.find(({ index }) => index === 2)!.ciphertext, 9) }),
      })),
    code: "BadShare",
    accused: ["clinic-b"],
  },
  {
    says: "hides that a member saw another round",
    at: "shares",
    lie: (honest) =>
      sharesWith(honest, ({ acks, shares }) => ({ acks: changed(acks, 3, { signature: acks[1]!.signature }), shares })),
    code: "TranscriptDiffers",
  },
  {
    says: "says that a member which masked was never there",
    at: "consistency",
    lie: (honest) =>
      consistencyWith(honest, ({ u2, inputs }) => ({
        u2: u2.filter((index) => index !== 4),
        inputs: without(inputs, 4),
      })),
    code: "SurvivorsInvalid",
  },
  {
    says: "leaves this site out of the sum that it shall open",
    at: "consistency",
    lie: (honest) => consistencyWith(honest, ({ u2, inputs }) => ({ u2, inputs: without(inputs, 1) })),
    code: "SurvivorsInvalid",
  },
  {
    says: "lists a member twice among those whose sum is opened",
    at: "consistency",
    lie: (honest) => consistencyWith(honest, ({ u2, inputs }) => ({ u2, inputs: [inputs[0]!, ...inputs] })),
    code: "SurvivorsInvalid",
  },
  {
    says: "lists a member that is in no cohort",
    at: "keys",
    lie: (honest) => keysWith(honest, (all) => [...all, { ...all[3]!, index: 9 }]),
    code: "RosterDiffers",
  },
  {
    says: "asks for the shares with too few signatures",
    at: "unmask",
    lie: (honest) => unmaskWith(honest, (signatures) => signatures.slice(0, 2)),
    code: "TooFewSignatures",
  },
])(
  "an operator that $says gets nothing more: ledger, event and failure say why, and the others go on",
  async ({ at, lie, code, accused = [] }) => {
    const plan = sites.plan();
    const round = sites.send(plan);
    round.lies.set(`clinic-a ${at}`, (honest) => {
      round.silent.add("clinic-a");
      return lie(honest);
    });
    await sites.train(plan, deltas);
    const result = await sites.ended("clinic-a", plan, "Failed");
    expect(result).toMatchObject({ reason: code, session: { state: "ABORTED", problem: { reason: code, accused } } });
    const said = saidIn("clinic-a", round);
    await sites
      .site("clinic-a")
      .until(() => saidIn("clinic-a", round).some(({ kind }) => kind === "fail"), "failure told");
    expect(saidIn("clinic-a", round).find(({ kind }) => kind === "fail")?.body).toMatchObject({
      reason: code,
      accused,
    });
    expect(said.some(({ kind }) => kind === "unmask")).toBe(false);
    await sites
      .site("clinic-a")
      .until(
        async () =>
          (await sites.warnings("clinic-a")).some(
            ({ reason, about }) => reason === code && about === `Job ${result.name}-clinic-a-1`,
          ),
        "the site's people hear of it",
      );
    await untilStep(round, "complete");
    const { contributors, means } = await round.sum();
    expect(contributors.slice(-3)).toEqual(names.slice(1));
    expect(means[0]).toBeCloseTo(mean(contributors.map((name) => deltas[names.indexOf(name)]!)), 6);
    await sites.site("clinic-a").nothingLeft();
  },
  60_000,
);

test("keys of an earlier round are not taken for this one's", async () => {
  const plan = sites.plan();
  const earlier = sites.send(plan);
  await sites.train(plan, deltas);
  await untilStep(earlier, "complete");
  const next = sites.plan();
  const round = sites.send(next);
  round.lies.set("clinic-a keys", () => earlier.sent.get("clinic-a")!.find(({ $case }) => $case === "keys")!);
  await sites.train(next, deltas);
  expect(await sites.ended("clinic-a", next, "Failed")).toMatchObject({ reason: "OwnKeysDiffer" });
  sites.cancelAll(next, "RoundFailed", "over");
  for (const name of names.slice(1)) {
    const { session } = await sites.ended(name, next, "Cancelled");
    expect(session).toMatchObject({ state: "ABORTED", problem: { reason: "RoundFailed", message: "over" } });
  }
}, 60_000);

test("a second list of survivors is not signed: one T2 per T1", async () => {
  const plan = sites.plan();
  const round = sites.send(plan);
  round.holds = "consistency";
  await sites.train(plan, deltas);
  await sites.site("clinic-a").until(() => saidIn("clinic-a", round).some(({ kind }) => kind === "consistency"), "M3");
  const honest = round.sent.get("clinic-a")!.at(-1)!;
  round.ask(
    "clinic-a",
    consistencyWith(honest, ({ u2, inputs }) => ({ u2, inputs: without(inputs, 4) })),
  );
  expect(await sites.ended("clinic-a", plan, "Failed")).toMatchObject({ reason: "SecondRequest" });
  expect(saidIn("clinic-a", round).filter(({ kind }) => kind === "consistency")).toHaveLength(1);
  sites.cancelAll(plan, "RoundFailed", "over");
  for (const name of names.slice(1)) await sites.ended(name, plan, "Cancelled");
}, 60_000);

test("shares are released once: the same request again gets the same bytes, another one nothing but an event", async () => {
  const plan = sites.plan();
  const round = sites.send(plan);
  await sites.train(plan, deltas);
  await untilStep(round, "complete");
  await sites.ended("clinic-a", plan, "Contributed");
  const sent = round.sent.get("clinic-a")!;
  const released = () => saidIn("clinic-a", round).filter(({ kind }) => kind === "unmask");
  expect(released()).toHaveLength(1);
  round.ask("clinic-a", sent.find(({ $case }) => $case === "unmask")!);
  await sites.site("clinic-a").until(() => released().length === 2, "released again");
  expect(released()[1]).toEqual(released()[0]);
  const consistency = sent.find(({ $case }) => $case === "consistency")!;
  round.ask(
    "clinic-a",
    consistencyWith(consistency, ({ u2, inputs }) => ({ u2, inputs: without(inputs, 4) })),
  );
  await sites
    .site("clinic-a")
    .until(async () => (await sites.result("clinic-a", plan))?.session?.refused?.reason === "SecondRequest", "refused");
  expect(await sites.result("clinic-a", plan)).toMatchObject({ state: "Contributed", session: { state: "RELEASED" } });
  expect(released()).toHaveLength(2);
  expect((await sites.warnings("clinic-a")).filter(({ reason }) => reason === "SecondRequest").length).toBeGreaterThan(
    0,
  );
}, 60_000);

test("a site that goes away after it shared its keys is taken out of the sum, and its session ends when it is told", async () => {
  const plan = sites.plan();
  const round = sites.send(plan);
  round.holds = "share";
  await sites.train(plan, deltas);
  const gone = sites.site("clinic-d");
  await gone.until(() => saidIn("clinic-d", round).some(({ kind }) => kind === "share"), "M1");
  await sites.site("clinic-a").until(() => round.state.answers.size === 4, "all have shared");
  await gone.stopAgent();
  round.silent.add("clinic-d");
  round.holds = undefined;
  round.close();
  await untilStep(round, "complete");
  const { contributors, means } = await round.sum();
  expect(contributors).toEqual(["clinic-a", "clinic-b", "clinic-c"]);
  expect(means[0]).toBeCloseTo(0.02, 6);
  await gone.startAgent();
  gone.cancel(plan, "Succeeded", "the round has ended");
  expect(await sites.ended("clinic-d", plan, "Cancelled")).toMatchObject({ session: { state: "ABORTED" } });
}, 60_000);

test("an agent that is killed while its masked vector is on the way gives the same vector afterwards, and the sum is whole", async () => {
  const site = sites.site("clinic-a");
  await site.stopAgent();
  await site.startAgentProcess();
  const plan = sites.plan();
  const round = sites.send(plan);
  const { coordinator } = sites.operator;
  const take = coordinator.uploaded.bind(coordinator);
  const roots: string[] = [];
  coordinator.uploaded = (participant, manifest, file) => {
    if (participant !== "clinic-a") return take(participant, manifest, file);
    roots.push(Buffer.from(manifest.leaves[0]!).toString("hex"));
    return roots.length > 1 ? take(participant, manifest, file) : new Promise(() => {}); // the first receipt never comes
  };
  await sites.train(plan, deltas);
  await site.until(() => roots.length === 1, "upload under way");
  await site.killAgentProcess();
  await site.startAgentProcess();
  await untilStep(round, "complete");
  expect(new Set(roots).size).toBe(1);
  const { contributors, means } = await round.sum();
  expect(contributors).toEqual(names);
  expect(means[0]).toBeCloseTo(mean(deltas), 6);
  await sites.ended("clinic-a", plan, "Contributed");
  await site.killAgentProcess();
  await site.startAgent();
}, 60_000);

test.each([
  { says: "its keys are out", holds: "advertise" },
  { says: "its vector is with the operator", holds: "mask" },
  { says: "it has signed the survivors", holds: "consistency" },
] as const)(
  "an agent that is killed when $says goes on where it was, and the sum is whole",
  async ({ holds }) => {
    const site = sites.site("clinic-a");
    await site.stopAgent();
    await site.startAgentProcess();
    const plan = sites.plan();
    const round = sites.send(plan);
    round.holds = holds;
    await sites.train(plan, deltas);
    await site.until(() => round.state.step === holds && round.state.answers.size === 4, `all in ${holds}`);
    await site.killAgentProcess();
    await site.startAgentProcess();
    round.holds = undefined;
    round.close();
    await untilStep(round, "complete");
    const { contributors, means } = await round.sum();
    expect(contributors).toEqual(names);
    expect(means[0]).toBeCloseTo(mean(deltas), 6);
    const result = await sites.ended("clinic-a", plan, "Contributed");
    expect(result.session).toMatchObject({ state: "RELEASED" });
    const said = saidIn("clinic-a", round).filter(({ kind }) =>
      ["advertise", "share", "consistency", "unmask"].includes(kind),
    );
    expect(new Set(said.map((report) => JSON.stringify(report))).size).toBe(4); // repeats, but of the same bytes
    await site.killAgentProcess();
    await site.startAgent();
  },
  60_000,
);

test("an agent whose ledger is gone takes no part in rounds that it may have masked in, and pins nobody by itself again", async () => {
  const site = sites.site("clinic-a");
  const again = sites.plan();
  await site.stopAgent();
  await rm(join(site.folder, "data"), { recursive: true });
  await mkdir(join(site.folder, "data"));
  await site.startAgent();
  const old = { ...again, round: again.round - 1, roundName: "notes-again" };
  sites.send(old);
  await site.until(
    () => site.reports.some(({ kind, body }) => kind === "refuse" && body.work?.round === old.round),
    "refused",
  );
  const refusal = site.reports.find(({ kind, body }) => kind === "refuse" && body.work?.round === old.round);
  expect(refusal?.body).toMatchObject({ reason: "LedgerTooOld" });
  await site.until(
    async () => (await sites.warnings("clinic-a")).some(({ reason }) => reason === "LedgerTooOld"),
    "the site's people hear of it",
  );
  sites.send(again);
  const refused = await sites.ended("clinic-a", again, "Refused");
  expect(refused.reason).toBe("RosterChanged");
  sites.cancelAll(again, "RoundFailed", "over");
  const { adminSocket } = site.agent;
  const { entries } = await askAgent<RosterView>(adminSocket, "GET", "/v1/roster");
  expect(entries.map((entry) => `${entry.participant} ${entry.state}`)).toEqual(
    names.slice(1).map((name) => `${name} proposed`),
  );
  for (const { participant, fingerprint } of entries) {
    await askAgent(adminSocket, "POST", "/v1/roster/accept", { participant, fingerprint });
  }
  const next = sites.plan();
  const round = sites.send(next);
  await sites.train(next, deltas);
  await untilStep(round, "complete");
  expect((await round.sum()).contributors).toEqual(names);
}, 60_000);
