import { afterEach, beforeEach, expect, test } from "vitest";
import { seal } from "../../../operator/transport/envelope.ts";
import { TransportFault } from "../../../operator/transport/faults.ts";
import { generateIdentity, rawPublicKey } from "../../../operator/transport/identity.ts";
import { TestAgent, workOf } from "./agent.ts";
import { TestOperator } from "./operator.ts";

let operator: TestOperator;
const agents: TestAgent[] = [];

beforeEach(async () => {
  operator = await TestOperator.start();
});
afterEach(async () => {
  await Promise.all(agents.splice(0).map((each) => each.client.stop()));
  await operator.stop();
});

function agent(...args: ConstructorParameters<typeof TestAgent>): TestAgent {
  const created = new TestAgent(...args);
  agents.push(created);
  return created;
}

const planHash = Buffer.alloc(32, 1);
const plan = () => seal("plan", Buffer.from("{}"), operator.planKey.privateKey);

test("an invited agent enrols, attends, and is told a plan and a cancellation", async () => {
  const clinic = agent(operator.invite("clinic-a"));
  await clinic.connected();
  expect(operator.coordinator.events).toEqual(["attended clinic-a"]);
  const session = operator.server.session("clinic-a")!;
  expect(session.attending.agentVersion).toBe("0.1.0");

  const sent = plan();
  session.sendPlan(sent);
  session.sendCancellation(workOf("clinic-a"), "RoundFailed", "The round has ended");
  await clinic.until(() => clinic.cancellations.length === 1);
  expect(Buffer.from(clinic.plans[0]!.signed.body).equals(sent.body)).toBe(true);
  expect(clinic.cancellations[0]).toMatchObject({ reason: "RoundFailed", work: { round: 7, step: "cancel" } });
});

test("the connection works by host name as well", async () => {
  await agent(operator.invite("clinic-a", { host: "localhost" })).connected();
});

test("a report is acknowledged after the coordinator has taken it", async () => {
  const clinic = agent(operator.invite("clinic-a"));
  await clinic.connected();
  await clinic.client.send("accept", { work: workOf("clinic-a", "accept"), planHash });
  expect(operator.coordinator.reports).toMatchObject([{ participant: "clinic-a", report: { kind: "accept" } }]);
});

test.each([
  { code: "DeadlinePassed", message: "The time to accept this plan is over" },
  { code: "AttemptEnded", message: "This attempt of the round has ended" },
] as const)(
  "a report that the coordinator refuses for good ($code) is rejected with its sentence, and the connection lives on",
  async (fault) => {
    const clinic = agent(operator.invite("clinic-a"));
    await clinic.connected();
    operator.coordinator.receive = async () => {
      throw new TransportFault(fault.code, fault.message);
    };
    const accepted = clinic.client.send("accept", { work: workOf("clinic-a", "accept"), planHash });
    await expect(accepted).rejects.toMatchObject(fault);
    operator.coordinator.receive = async () => {};
    await clinic.client.send("fail", {
      work: workOf("clinic-a", "fail"),
      accused: [],
      reason: "NoGpu",
      message: "No GPU is free",
    });
    expect(clinic.connections).toBe(1);
  },
);

test("a report that could not be journalled is said again over the next connection", async () => {
  const clinic = agent(operator.invite("clinic-a"));
  await clinic.connected();
  let failures = 0;
  operator.coordinator.receive = async () => {
    failures += 1;
    if (failures === 1) throw new Error("the journal's disk is full");
  };
  await clinic.client.send("accept", { work: workOf("clinic-a", "accept"), planHash });
  expect(clinic.connections).toBe(2);
  expect(operator.coordinator.reports).toHaveLength(1);
  expect(clinic.disconnections[0]!.reason).not.toContain("disk");
});

test.each([
  { says: "names another participant", work: workOf("clinic-b", "accept") },
  { says: "names another step", work: workOf("clinic-a", "refuse") },
  { says: "names no round", work: { ...workOf("clinic-a", "accept"), round: 0 } },
])("a report that $says is refused", async ({ work }) => {
  const clinic = agent(operator.invite("clinic-a"));
  await clinic.connected();
  await expect(clinic.client.send("accept", { work, planHash })).rejects.toMatchObject({ code: "MessageInvalid" });
  expect(operator.coordinator.reports).toEqual([]);
});

test("what waits while the operator is down arrives when it is back, of one work's statuses the newest", async () => {
  const clinic = agent(operator.invite("clinic-a"));
  await clinic.connected();
  await operator.down();
  await clinic.until(() => clinic.disconnections.length > 0);
  const status = { job: "r7-clinic-a-1", progressSteps: 8, reason: "", message: "", state: "Training" };
  const work = workOf("clinic-a", "status");
  const sends = [
    clinic.client.send("accept", { work: workOf("clinic-a", "accept"), planHash }),
    clinic.client.send("status", { work, ...status, progressStep: 1 }),
    clinic.client.send("status", { work, ...status, progressStep: 2 }),
  ];
  await operator.up();
  await Promise.all(sends);
  expect(operator.coordinator.reports.map(({ report }) => report.kind)).toEqual(["accept", "status"]);
  expect(operator.coordinator.reports[1]!.report.body).toMatchObject({ progressStep: 2 });
});

test("a newer stream of a participant replaces the older, and left is not called for it", async () => {
  const invitation = operator.invite("clinic-a");
  const first = agent(invitation, { reconnect: { firstMs: 60_000, mostMs: 60_000 } });
  await first.connected();
  const second = agent(invitation, { identity: first.identity, store: first.store });
  await second.connected();
  await first.until(() => first.disconnections.length === 1);
  expect(first.disconnections[0]!.code).toBe("Replaced");
  expect(operator.coordinator.events).toEqual(["attended clinic-a", "attended clinic-a"]);
  expect(operator.server.sessions()).toHaveLength(1);
});

test("a suspended participant is cut at once and refused until it is suspended no more", async () => {
  const clinic = agent(operator.invite("clinic-a"));
  await clinic.connected();
  const member = operator.coordinator.members.get("clinic-a")!;
  operator.coordinator.members.set("clinic-a", { ...member, suspended: true });
  operator.server.disconnect("clinic-a", { code: "Suspended", message: "The Participant is suspended" });
  expect(await clinic.refused("Suspended")).toContain("suspended");
  await clinic.until(() => clinic.disconnections.length >= 2);
  expect(operator.coordinator.events).toEqual(["attended clinic-a", "left clinic-a"]);
  operator.coordinator.members.set("clinic-a", member);
  await clinic.until(() => clinic.connections === 2);
});

test("a suspended participant is not heard even before its stream is cut", async () => {
  const clinic = agent(operator.invite("clinic-a"));
  await clinic.connected();
  const member = operator.coordinator.members.get("clinic-a")!;
  operator.coordinator.members.set("clinic-a", { ...member, suspended: true });
  const said = clinic.client.send("fail", {
    work: workOf("clinic-a", "fail"),
    accused: [],
    reason: "Test",
    message: "a report",
  });
  expect(await clinic.refused("Suspended")).toContain("suspended");
  expect(operator.coordinator.reports).toEqual([]);
  operator.coordinator.members.set("clinic-a", member);
  await said;
});

test("a deleted participant is refused with what to do", async () => {
  const clinic = agent(operator.invite("clinic-a"));
  await clinic.connected();
  operator.coordinator.members.delete("clinic-a");
  operator.server.disconnect("clinic-a", { code: "ParticipantUnknown", message: "The Participant was deleted" });
  await clinic.until(() => clinic.disconnections.length >= 2);
  expect(clinic.disconnections[1]!.reason).toContain("ask for a new invitation");
});

test("a participant that was deleted and made again enrols with a new invitation, however good its certificate still is", async () => {
  const before = agent(operator.invite("clinic-a"));
  await before.connected();
  await before.client.stop();
  operator.coordinator.members.delete("clinic-a");
  const { store } = before;
  const after = agent(operator.invite("clinic-a"), { store, identity: before.identity });
  await after.connected();
  const { identity } = operator.coordinator.members.get("clinic-a")!;
  expect(Buffer.from(identity!)).toEqual(Buffer.from(rawPublicKey(before.identity.publicKey)));
});

test("a certificate of a former identity is refused", async () => {
  const clinic = agent(operator.invite("clinic-a"));
  await clinic.connected();
  const identity = rawPublicKey(generateIdentity().publicKey);
  operator.coordinator.members.set("clinic-a", { participant: "clinic-a", identity, enrolment: 2, suspended: false });
  operator.server.disconnect("clinic-a", { code: "IdentityChanged", message: "The participant enrolled anew" });
  // It tries to renew, which its identity may not, and then the token, which the first one has used.
  await clinic.refused("TokenUsed");
  expect(clinic.connections).toBe(1);
});

test("a plan that is signed by another key ends the connection before the agent hears of it", async () => {
  const clinic = agent(operator.invite("clinic-a"));
  await clinic.connected();
  operator.server.session("clinic-a")!.sendPlan(seal("plan", Buffer.from("{}"), generateIdentity().privateKey));
  await clinic.refused("SignatureInvalid");
  expect(clinic.plans).toEqual([]);
});

test("a plan that was changed on the way ends the connection before the agent hears of it", async () => {
  const clinic = agent(operator.invite("clinic-a"));
  await clinic.connected();
  operator.server.session("clinic-a")!.sendPlan({ ...plan(), body: Buffer.from('{"a":1}') });
  await clinic.refused("SignatureInvalid");
  expect(clinic.plans).toEqual([]);
});

test("an agent whose clock is two hours ahead learns the difference with its plan", async () => {
  const clinic = agent(operator.invite("clinic-a"), { now: () => Date.now() + 7_200_000 });
  await clinic.connected();
  operator.server.session("clinic-a")!.sendPlan(plan());
  await clinic.until(() => clinic.plans.length === 1);
  expect(Math.abs(clinic.plans[0]!.clockSkewMs - 7_200_000)).toBeLessThan(2_000);
});

test("the operator's stop is a sentence to the agent, which comes back by itself", async () => {
  const clinic = agent(operator.invite("clinic-a"));
  await clinic.connected();
  await operator.down();
  await clinic.refused("Stopping");
  await operator.up();
  await clinic.until(() => clinic.connections === 2);
});
