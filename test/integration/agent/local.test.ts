/** What the site's own people ask of their agent, on its unix socket. The test is kubelet and trainer (site.ts). */
import { stat } from "node:fs/promises";
import { join } from "node:path";
import { afterEach, beforeAll, beforeEach, expect, test } from "vitest";
import { type AgentStatus, askAgent } from "../../../operator/agent/local.ts";
import { writeAdapter } from "../../../operator/agent/testing/plan.ts";
import { fingerprintOf } from "../../../operator/agent/trust.ts";
import { type SharedApiServer, sharedApiServer } from "../shared-api-server.ts";
import { participant, Site } from "./site.ts";

let api: SharedApiServer;
let site: Site;

beforeAll(async () => {
  api = await sharedApiServer();
});
beforeEach(async () => {
  site = await Site.open(api);
  await site.startAgent();
});
afterEach(() => site.close());

const evaluate = (body: object) =>
  askAgent<{ parentLoss: number; loss: number }>(site.agent.adminSocket, "POST", "/v1/evaluate", body);

async function candidate(): Promise<string> {
  const file = join(site.folder, "candidate.safetensors");
  const { sha256 } = await writeAdapter(file, () => 2);
  site.operator.coordinator.adapters.set(sha256, file);
  return `sha256:${sha256}`;
}

/** The site has to have been given a plan: it says what base model and trainer the federation has. */
async function knowFederation(): Promise<void> {
  const plan = site.plan();
  site.send(plan);
  await site.until(() => site.said.includes("accept"), "accepted");
  site.cancel(plan, "Deleted", "over");
  // A Job may still be on its way into being: the end is when the agent says so.
  const open = async () => (await askAgent<AgentStatus>(site.agent.adminSocket, "GET", "/v1/status")).open.length;
  await site.until(async () => (await open()) === 0, "cancelled");
  await site.nothingLeft();
}

test("the socket is the agent's alone, and says who this site is", async () => {
  expect((await stat(site.agent.adminSocket)).mode & 0o777).toBe(0o600);
  const status = await askAgent<AgentStatus>(site.agent.adminSocket, "GET", "/v1/status");
  const identity = Buffer.from(site.operator.coordinator.members.get(participant)!.identity!).toString("base64");
  const fingerprint = fingerprintOf(identity);
  expect(status).toEqual({ participant, identity, fingerprint, connected: true, open: [] });
});

test("an evaluation compares a published adapter with the first parent, by a Job that is gone afterwards", async () => {
  await knowFederation();
  const digest = await candidate();
  const answered = evaluate({ federation: "notes", candidate: digest });
  answered.catch(() => {});
  await site.until(async () => (await site.kubelet.jobs()).length === 1, "the evaluation's Job");
  const [job] = await site.kubelet.jobs();
  expect(job!.metadata).toMatchObject({ labels: { "rondo.dev/kind": "evaluate", "rondo.dev/federation": "notes" } });
  await site.kubelet.run(job!.metadata.name);
  const trainer = await site.trainer(job!.metadata.name);
  expect(await trainer.task()).toMatchObject({ kind: "evaluate", participant, training: { batchSize: 1 } });
  const [parent, offered] = [
    await trainer.call("GET", "/v1/task/adapter"),
    await trainer.call("GET", "/v1/task/candidate"),
  ];
  expect(parent.status).toBe(200);
  expect(offered.body.equals(parent.body)).toBe(false);
  const result = { schema: 1, examples: 0, steps: 0, tokens: 0, heldOut: { tokens: 80, parentLoss: 3.4, loss: 3.1 } };
  expect((await trainer.call("PUT", "/v1/task/result", Buffer.from(JSON.stringify(result)))).status).toBe(204);
  expect(await answered).toEqual({ tokens: 80, parentLoss: 3.4, loss: 3.1 });
  await site.nothingLeft();
  expect(JSON.stringify(site.reports)).not.toContain("3.1");
});

test.each([
  {
    says: "of a federation that this site does not know",
    before: async () => {},
    ask: async () => ({ candidate: await candidate() }),
    fault: /FederationUnknown/,
  },
  {
    says: "of an adapter that the operator does not have",
    before: knowFederation,
    ask: async () => ({ candidate: `sha256:${"9".repeat(64)}` }),
    fault: /DigestUnknown/,
  },
  {
    says: "of something that is no digest",
    before: async () => {},
    ask: async () => ({ candidate: "v3" }),
    fault: /sha256/,
  },
])("an evaluation $says is answered with a sentence", async ({ before, ask, fault }) => {
  await before();
  await expect(evaluate(await ask())).rejects.toThrow(fault);
  await site.nothingLeft();
});

test("an evaluation never runs the image of a plan that the site refused", async () => {
  const plan = site.plan();
  site.send({ ...plan, training: { ...plan.training, image: "registry.evil/trainer:1" } });
  await site.until(() => site.failure()?.reason === "ImageNotAllowed", "refused");
  await expect(evaluate({ candidate: await candidate() })).rejects.toThrow(/FederationUnknown/);
  expect(await site.kubelet.jobs()).toEqual([]);
});

test("an evaluation whose trainer crashes is answered with the reason", async () => {
  await knowFederation();
  const answered = evaluate({ candidate: await candidate() });
  answered.catch(() => {});
  await site.until(async () => (await site.kubelet.jobs()).length === 1, "the evaluation's Job");
  const [job] = await site.kubelet.jobs();
  await site.kubelet.run(job!.metadata.name);
  await site.kubelet.end(job!.metadata.name, 69);
  await expect(answered).rejects.toThrow(/BaseModelDigestMismatch/);
  await site.nothingLeft();
});
