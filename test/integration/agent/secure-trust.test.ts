/** Whose keys a site masks against: pinned at first use, changed only by its people (consortium of one real agent and four keys). */
import { spawn } from "node:child_process";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterEach, beforeAll, expect, test } from "vitest";
import { stringify } from "yaml";
import { askAgent } from "../../../operator/agent/local.ts";
import type { RosterView } from "../../../operator/agent/roster.ts";
import { makeSecurePlan, type TestMember, testMember } from "../../../operator/agent/testing/secure-plan.ts";
import { fingerprintOf } from "../../../operator/agent/trust.ts";
import { EVENTS } from "../../../operator/kube/resources.ts";
import type { Plan } from "../../../operator/round/plan.ts";
import { type SharedApiServer, sharedApiServer } from "../shared-api-server.ts";
import { participant, Site } from "./site.ts";

const federation = "demo.rondo.dev/rondo/notes";
const others = ["clinic-b", "clinic-c", "clinic-d", "clinic-e"].map(testMember);
const changed = { ...testMember("clinic-c") };
let api: SharedApiServer;
let site: Site;

beforeAll(async () => {
  api = await sharedApiServer();
});
afterEach(() => site.close());

function planOf(round: number, members: readonly TestMember[]): Plan {
  const identity = Buffer.from(site.operator.coordinator.members.get(participant)!.identity!).toString("base64");
  const { sha256, byteLength } = site.parent;
  return makeSecurePlan(
    { parentDigest: sha256, parentBytes: byteLength, nowMs: Date.now() },
    [{ participant, identity }, ...members],
    { federation, round, roundName: `notes-r${round}` },
  );
}

/** What the site answers to a plan: "accept", or the reason of its refusal. Its Job is called off again. */
async function answerTo(plan: Plan): Promise<string> {
  site.send(plan);
  let answer: string | undefined;
  await site.until(() => {
    const report = site.reports.find(
      ({ kind, body }) => (kind === "accept" || kind === "refuse") && body.work?.round === plan.round,
    );
    answer = report?.kind === "refuse" ? report.body.reason : report?.kind;
    return answer !== undefined;
  }, `round ${plan.round} answered`);
  if (answer === "accept") site.cancel(plan, "RoundFailed", "over");
  return answer!;
}

/** The command line, as a person in the pod has it. */
async function rondo(...args: string[]): Promise<string> {
  const config = join(site.folder, "agent.yaml");
  await writeFile(config, stringify(site.config));
  const main = join(import.meta.dirname, "../../../operator/main.ts");
  const child = spawn(process.execPath, [main, "agent", "--config", config, ...args], {
    stdio: ["ignore", "pipe", "pipe"],
  });
  let printed = "";
  for (const stream of [child.stdout, child.stderr]) {
    stream.on("data", (chunk: Buffer) => {
      printed += chunk.toString();
    });
  }
  await new Promise((resolve) => child.on("close", resolve));
  return printed;
}

test("keys are pinned with the first plan; a changed and an added one are refused until the site's people accept them", async () => {
  site = await Site.open(api, { privacy: ["secure"] });
  await site.startAgent();
  expect(await rondo("roster")).toContain("No other participant's key is known yet");
  expect(await answerTo(planOf(1, others))).toBe("accept");
  const newcomer = testMember("clinic-f");
  const replaced = others.map((member) => (member.participant === "clinic-c" ? changed : member));
  expect(await answerTo(planOf(2, [...replaced, newcomer]))).toBe("RosterChanged");
  await site.until(async () => {
    const { items } = await api.client.list(EVENTS, { namespace: site.namespace });
    return items.some(
      ({ reason, regarding, note }) =>
        reason === "RosterChanged" && regarding?.kind === "Service" && note?.includes("clinic-c"),
    );
  }, "the site's people hear of it");

  const text = await rondo("roster");
  expect(text).toMatch(/clinic-c .* NOT ACCEPTED, another key, shown in round 2/);
  expect(text).toMatch(/clinic-f .* NOT ACCEPTED, a new participant, shown in round 2/);
  const fingerprint = fingerprintOf(changed.identity);
  expect(text).toContain(`rondo agent roster accept clinic-c --federation ${federation} --fingerprint ${fingerprint}`);
  expect(await rondo("roster", "accept", "clinic-c", "--fingerprint", "SHA256:short")).toMatch(
    /BadRequest: fingerprint is not SHA256:<43 characters>$/m,
  );
  const wrong = await rondo("roster", "accept", "clinic-c", "--fingerprint", fingerprintOf(others[1]!.identity));
  expect(wrong).toMatch(/FingerprintDiffers: .*nothing was changed/);
  expect(await answerTo(planOf(3, replaced))).toBe("RosterChanged");

  expect(await rondo("roster", "accept", "clinic-c", "--fingerprint", fingerprint, "--federation", "notes")).toBe(
    `clinic-c is now pinned with ${fingerprint} in ${federation}; it counts from the next round on.\n`,
  );
  expect(await answerTo(planOf(4, replaced))).toBe("accept");
  expect(await answerTo(planOf(5, others))).toBe("RosterChanged"); // the old key is not one of its keys any more
  await site.stopAgent();
  await site.startAgent();
  expect(await answerTo(planOf(6, replaced))).toBe("accept");
  const { entries } = JSON.parse(await rondo("roster", "-o", "json")) as RosterView;
  expect(entries.map((entry) => `${entry.participant} ${entry.state} ${entry.by}`)).toEqual([
    "clinic-b pinned firstUse",
    "clinic-c pinned accepted",
    "clinic-c proposed null",
    "clinic-d pinned firstUse",
    "clinic-e pinned firstUse",
    "clinic-f proposed null",
  ]);
}, 60_000);

test("a site that pins takes the keys that its file lists, and no other, whoever asks", async () => {
  const roster = others.map(({ participant: name, identity }) => ({
    federation: "*/rondo/*",
    participant: name,
    identity,
  }));
  site = await Site.open(api, { privacy: ["secure"], trust: { mode: "pinned", roster } });
  await site.startAgent();
  expect(await answerTo(planOf(1, others))).toBe("accept");
  expect(await answerTo(planOf(2, [...others.slice(0, 3), testMember("clinic-e")]))).toBe("RosterNotPinned");
  const view = await askAgent<RosterView>(site.agent.adminSocket, "GET", "/v1/roster");
  const { fingerprint } = view.entries.find(({ state }) => state === "unlisted")!;
  const accept = { participant: "clinic-e", fingerprint };
  await expect(askAgent(site.agent.adminSocket, "POST", "/v1/roster/accept", accept)).rejects.toThrow(/PinnedByPolicy/);
}, 60_000);

/** The agent's warnings about its Service: what its people see of refused plans. The API server has some of its own about a Service's IP. */
async function refusals(): Promise<string[]> {
  const { items } = await api.client.list(EVENTS, { namespace: site.namespace });
  return items
    .filter(
      ({ regarding, reportingController }) =>
        regarding?.kind === "Service" && reportingController === "rondo.dev/agent",
    )
    .map(({ reason = "" }) => reason);
}

test("a cohort smaller than the site wants, a lowered threshold and a second plan are refused, answered, and seen by the site's people", async () => {
  site = await Site.open(api, { privacy: ["secure"] });
  await site.startAgent();
  expect(await answerTo(planOf(1, others.slice(0, 3)))).toBe("CohortTooSmall");
  expect(site.failure()?.message).toBe("policy: this site's cohort has 4 members, it takes part with at least 5");
  const honest = planOf(2, others);
  const lowered = honest.secure!.cohorts.map((cohort) => ({ ...cohort, threshold: 3 }));
  const lying = { ...honest, secure: { ...honest.secure!, cohorts: lowered } };
  expect(await answerTo(lying)).toBe("PlanMalformed");
  const said = site.reports.length;
  site.send(honest);
  await site.until(() => site.reports.length > said, "the second plan of round 2 answered");
  expect(site.reports.at(-1)?.body).toMatchObject({ reason: "PlanChanged" });
  await site.until(async () => (await refusals()).length >= 3, "three events");
  expect((await refusals()).sort()).toEqual(["CohortTooSmall", "PlanChanged", "PlanMalformed"]);
  expect(await site.kubelet.jobs()).toEqual([]);
});
