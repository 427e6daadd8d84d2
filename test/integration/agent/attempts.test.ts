/**
 * Attempts of a secure round at real agents (real API server, gRPC, HTTPS): whatever the attempt before has come to, the next one goes on with
 * what was trained, under fresh keys, unless shares are out (secure-aggregation.md §6).
 */
import { afterAll, beforeAll, expect, test } from "vitest";
import { type AgentStatus, askAgent } from "../../../operator/agent/local.ts";
import type { Plan } from "../../../operator/round/plan.ts";
import type { CoordinatorMessage } from "../../../operator/secagg/messages.ts";
import { sharedApiServer } from "../shared-api-server.ts";
import { Consortium } from "./consortium.ts";
import type { SecureCoordinator } from "./secure-coordinator.ts";

const deltas = [0.01, 0.02, 0.03, 0.04];
const names = ["clinic-a", "clinic-b", "clinic-c", "clinic-d"];
const staying = names.slice(0, 3);
let sites: Consortium;

beforeAll(async () => {
  sites = await Consortium.open(await sharedApiServer(), 4);
}, 60_000);
afterAll(() => sites.close());

const first = () => sites.plan({ minimum: 3 });
const second = (plan: Plan) => sites.later(plan, ["clinic-d"]);
const saidIn = (participant: string, { round, attempt }: Plan) =>
  sites.site(participant).reports.filter(({ body }) => body.work?.round === round && body.work.attempt === attempt);
const kindsIn = (participant: string, plan: Plan) => saidIn(participant, plan).map(({ kind }) => kind);
const untilAll = async (condition: (name: string) => boolean | Promise<boolean>, what: string) => {
  for (const name of staying) await sites.site(name).until(() => condition(name), `${name}: ${what}`);
};
const stateAt = async (participant: string, { roundName }: Plan) => {
  const { open } = await askAgent<AgentStatus>(sites.site(participant).agent.adminSocket, "GET", "/v1/status");
  return open.find(({ round }) => round === roundName);
};

/** Three of the four, each once, and at each site one session that was opened. */
async function endsWell(plan: Plan, round: SecureCoordinator): Promise<void> {
  await sites.site("clinic-a").until(() => round.state.step === "complete", `complete, now ${round.state.step}`);
  const { contributors, means } = await round.sum();
  expect(contributors).toEqual(staying);
  for (const value of means) expect(value).toBeCloseTo(0.02, 6);
  for (const name of staying) {
    const result = await sites.ended(name, plan, "Contributed");
    expect(result.session).toMatchObject({ state: "RELEASED", refused: null });
    await sites.site(name).nothingLeft();
  }
}

async function isSuperseded(plan: Plan): Promise<void> {
  for (const name of staying) {
    const { session, ...result } = (await sites.result(name, plan))!;
    expect(result).toMatchObject({ state: "Cancelled", reason: "Superseded" });
    if (session) expect(session).toMatchObject({ state: "ABORTED", problem: { reason: "Superseded" } });
    expect(kindsIn(name, plan)).not.toContain("unmask");
  }
}

const steps: Array<{
  holds: CoordinatorMessage["$case"] | "advertise" | "share" | "mask";
  said: string;
  session: string;
}> = [
  { holds: "advertise", said: "advertise", session: "ADVERTISED" },
  { holds: "share", said: "share", session: "SHARED" },
  { holds: "mask", said: "share", session: "MASKED" },
  { holds: "consistency", said: "consistency", session: "SIGNED" },
];

test.each(steps)(
  "a second attempt while the first is $session: its secrets go, and the same delta is offered under fresh keys",
  async ({ holds, said, session }) => {
    const plan = first();
    const before = sites.send(plan);
    before.holds = holds as never;
    await sites.train(plan, deltas);
    await untilAll((name) => kindsIn(name, plan).includes(said as never), said);
    await untilAll(async (name) => (await stateAt(name, plan))?.session === session, session);
    const next = second(plan);
    const round = sites.send(next);
    await endsWell(next, round);
    await isSuperseded(plan);
    const keys = (of: Plan) => JSON.stringify(saidIn("clinic-a", of).find(({ kind }) => kind === "advertise")?.body);
    expect(keys(next)).not.toBe(keys(plan));
    for (const name of staying) {
      const trainings = sites
        .site(name)
        .reports.filter(
          ({ kind, body }) => kind === "status" && body.work?.round === plan.round && body.state === "Training",
        );
      expect(trainings.every(({ body }) => body.work?.attempt === 1)).toBe(true);
    }
    sites.site("clinic-d").cancel(plan, "CohortTooSmall", "over");
    await sites.ended("clinic-d", plan, "Cancelled");
  },
  90_000,
);

test.each([
  { says: "its pod is not running yet", runs: false },
  { says: "it trains", runs: true },
])(
  "a second attempt while $says: the same Job goes on under its first name, and is not made again",
  async ({ runs }) => {
    const plan = first();
    sites.send(plan);
    const jobOf = (name: string) => `${plan.roundName}-${name}-1`;
    for (const name of names) await sites.site(name).kubelet.pod(jobOf(name));
    if (runs) {
      for (const name of staying) await sites.site(name).kubelet.run(jobOf(name));
      await untilAll(async (name) => (await stateAt(name, plan))?.state === "Training", "Training");
    }
    const uid = async (name: string) => (await sites.site(name).kubelet.jobs())[0]?.metadata.uid;
    const was = await uid("clinic-a");
    const { seed } = await (await sites.site("clinic-a").trainer(jobOf("clinic-a"))).task();
    const next = second(plan);
    const round = sites.send(next);
    await untilAll((name) => kindsIn(name, next).includes("accept"), "accepted");
    expect(await uid("clinic-a")).toBe(was);
    const task = await (await sites.site("clinic-a").trainer(jobOf("clinic-a"))).task();
    expect(task).toMatchObject({ seed, attempt: 1 });
    await sites.train(plan, deltas);
    await endsWell(next, round);
    await isSuperseded(plan);
    sites.site("clinic-d").cancel(plan, "CohortTooSmall", "over");
    await sites.ended("clinic-d", plan, "Cancelled");
  },
  90_000,
);

test("a second attempt before anything of the first could be fetched", async () => {
  const { coordinator } = sites.operator;
  const serve = coordinator.adapter.bind(coordinator);
  const room = Promise.withResolvers<void>();
  coordinator.adapter = async (...asked) => {
    await room.promise;
    return serve(...asked);
  };
  const plan = first();
  sites.send(plan);
  await untilAll(async (name) => (await stateAt(name, plan))?.state === "Accepted", "Accepted");
  const next = second(plan);
  const round = sites.send(next);
  await untilAll((name) => kindsIn(name, next).includes("accept"), "accepted");
  room.resolve();
  coordinator.adapter = serve;
  sites.site("clinic-d").cancel(plan, "CohortTooSmall", "over");
  await sites.ended("clinic-d", plan, "Cancelled");
  for (const [at, name] of staying.entries()) {
    const site = sites.site(name);
    await site.kubelet.run(`${plan.roundName}-${name}-1`);
    const trainer = await site.trainer(`${plan.roundName}-${name}-1`);
    await trainer.deliver(await site.adapter(() => 1 + deltas[at]!), { examples: 50, tokens: 1000, trainLoss: 2.5 });
  }
  await endsWell(next, round);
}, 90_000);

test("shares that are out are given to no second sum: the attempt is refused, and the first one ends as it would", async () => {
  const plan = first();
  const round = sites.send(plan);
  await sites.train(plan, deltas);
  await sites.site("clinic-a").until(() => round.state.step === "complete", "complete");
  for (const name of names) await sites.ended(name, plan, "Contributed");
  const next = second(plan);
  sites.send(next);
  await untilAll((name) => kindsIn(name, next).includes("refuse"), "refused");
  for (const name of staying) {
    expect(saidIn(name, next).find(({ kind }) => kind === "refuse")?.body).toMatchObject({ reason: "AlreadyReleased" });
    expect(kindsIn(name, next)).not.toContain("advertise");
    expect(await sites.result(name, plan)).toMatchObject({ state: "Contributed", session: { state: "RELEASED" } });
  }
}, 60_000);

test("a cancellation of the first attempt does not touch the second, and one of the second ends it", async () => {
  const plan = first();
  sites.send(plan).holds = "share" as never;
  await sites.train(plan, deltas);
  await untilAll((name) => kindsIn(name, plan).includes("share"), "shared");
  const next = second(plan);
  const round = sites.send(next);
  round.holds = "advertise" as never;
  for (const name of names) sites.site(name).cancel(plan, "CohortTooSmall", "too late");
  await sites.ended("clinic-d", plan, "Cancelled");
  await untilAll((name) => kindsIn(name, next).includes("advertise"), "advertised");
  expect(await stateAt("clinic-a", plan)).toMatchObject({ state: "Prepared", session: "ADVERTISED" });
  for (const name of staying) sites.site(name).cancel(next, "RoundFailed", "over");
  for (const name of staying) {
    expect(await sites.ended(name, next, "Cancelled")).toMatchObject({
      reason: "RoundFailed",
      session: { state: "ABORTED" },
    });
    await sites.site(name).nothingLeft();
  }
  const third = sites.later(next, []);
  sites.send(third);
  await untilAll((name) => kindsIn(name, third).includes("refuse"), "refused");
  expect(saidIn("clinic-a", third).find(({ kind }) => kind === "refuse")?.body).toMatchObject({
    reason: "WorkEnded",
    message: "this site's part in the round has ended: over",
  });
}, 60_000);

test("both plans at once: the first one's answer is not waited for, and its acceptance is nobody's", async () => {
  const plan = first();
  const next = second(plan);
  sites.send(plan);
  const round = sites.send(next);
  sites.site("clinic-d").cancel(plan, "CohortTooSmall", "over");
  await untilAll((name) => kindsIn(name, next).includes("accept"), "accepted");
  for (const [at, name] of staying.entries()) {
    const site = sites.site(name);
    await site.kubelet.run(`${plan.roundName}-${name}-1`);
    const trainer = await site.trainer(`${plan.roundName}-${name}-1`);
    await trainer.deliver(await site.adapter(() => 1 + deltas[at]!), { examples: 50, tokens: 1000, trainLoss: 2.5 });
  }
  await endsWell(next, round);
  sites.send(plan);
  await sites.ended("clinic-a", next, "Contributed");
  await isSuperseded(plan);
}, 90_000);

test("an agent that was away while the second attempt was planned neither fails nor repeats what it said in the first", async () => {
  const plan = first();
  sites.send(plan).holds = "advertise" as never;
  await sites.train(plan, deltas);
  await untilAll((name) => kindsIn(name, plan).includes("advertise"), "advertised");
  const away = sites.site("clinic-c");
  await away.stopAgent();
  const next = second(plan);
  const round = sites.send(next);
  // It says its keys of the first attempt once more, and is told that this is over.
  await away.startAgent();
  await away.until(() => round.ended.includes("clinic-c advertise"), "said again");
  expect(await stateAt("clinic-c", plan)).toMatchObject({ state: "Prepared" });
  sites.resend(next, "clinic-c");
  await endsWell(next, round);
  expect(round.ended).toEqual(["clinic-c advertise"]);
  expect(kindsIn("clinic-c", plan)).not.toContain("fail");
  sites.site("clinic-d").cancel(plan, "CohortTooSmall", "over");
  await sites.ended("clinic-d", plan, "Cancelled");
}, 90_000);

test("a third attempt follows the second", async () => {
  const plan = first();
  sites.send(plan).holds = "share" as never;
  await sites.train(plan, deltas);
  await untilAll((name) => kindsIn(name, plan).includes("share"), "shared");
  const next = sites.later(plan, []);
  sites.send(next).holds = "mask" as never;
  await untilAll(async (name) => (await stateAt(name, plan))?.session === "MASKED", "masked again");
  const last = second(next);
  const round = sites.send(last);
  await endsWell(last, round);
  await isSuperseded(plan);
  await isSuperseded(next);
  sites.site("clinic-d").cancel(next, "CohortTooSmall", "over");
  await sites.ended("clinic-d", next, "Cancelled");
}, 90_000);
