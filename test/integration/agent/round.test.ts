/** A round at one site: real API server and Job controller, real transport, real task API; the test is kubelet and trainer (site.ts). */
import { mkdir, rm } from "node:fs/promises";
import { join } from "node:path";
import { afterEach, beforeAll, beforeEach, expect, test } from "vitest";
import { askAgent } from "../../../operator/agent/local.ts";
import type { RoundResult } from "../../../operator/agent/results.ts";
import { tensors } from "../../../operator/agent/testing/plan.ts";
import { JOBS, SECRETS, SERVICES } from "../../../operator/kube/resources.ts";
import { type SharedApiServer, sharedApiServer } from "../shared-api-server.ts";
import { participant, Site } from "./site.ts";

const job = `notes-r1-${participant}-1`;
let api: SharedApiServer;
let site: Site;

beforeAll(async () => {
  api = await sharedApiServer();
});
beforeEach(async () => {
  site = await Site.open(api);
});
afterEach(() => site.close());

const contributed = () => site.until(() => site.operator.coordinator.uploads.length > 0, "contributed");

test("enrols, accepts a plan, trains in a Job, shares a sealed delta, and leaves nothing behind", async () => {
  await site.startAgent();
  const { planHash } = site.send(site.plan());
  await site.kubelet.run(job);
  await site.until(() => site.said.includes("Training"), "Training");
  const trainer = await site.trainer(job);
  expect(await trainer.task()).toMatchObject({ kind: "train", federation: "demo.rondo.dev/rondo/notes", participant });
  await trainer.progress(2, 4);
  expect(await trainer.deliver(await site.adapter(() => 1.125), { examples: 50 })).toBe(204);
  await contributed();
  const { values, weight } = await site.contribution(planHash);
  expect([...values]).toEqual([0.125]); // 32 values of 1/8: norm 0.71, under the clip
  expect(weight).toBe("128");
  expect(site.said.filter((word, index, all) => word !== all[index - 1])).toEqual(
    expect.arrayContaining(["accept", "Training", "Trained"]),
  );
  await site.nothingLeft();
  const [result] = await askAgent<RoundResult[]>(site.agent.adminSocket, "GET", "/v1/results");
  expect(result).toMatchObject({
    name: "notes-r1",
    state: "Contributed",
    heldOut: { parentLoss: 3.1, loss: 2.9, tokens: 100 },
  });
  expect(JSON.stringify(site.reports)).not.toContain("3.1");
});

test("an agent that is killed while its trainer works finds Job and trainer again, and the trainer delivers to it", async () => {
  await site.startAgentProcess();
  const plan = site.plan();
  const { planHash } = site.send(plan);
  await site.kubelet.run(job);
  await site.until(() => site.said.includes("Training"), "Training");
  const before = await site.trainer(job);
  const { seed } = await before.task();
  await site.killAgentProcess();
  expect(await before.deliver(await site.adapter(() => 1)).catch(() => "unreachable")).toBe("unreachable");

  await site.startAgentProcess();
  const after = await site.trainer(job); // the same Secret; only the port differs, which a Service would hide
  expect((await after.task()).seed).toBe(seed);
  expect(await after.deliver(await site.adapter(() => 1.125))).toBe(204);
  await contributed();
  expect([...(await site.contribution(planHash)).values]).toEqual([0.125]);
  await site.nothingLeft();
});

test("an agent that is killed while it uploads gives the same bytes after its restart, without training again", async () => {
  const { coordinator } = site.operator;
  const remember = coordinator.uploaded.bind(coordinator);
  const roots: string[] = [];
  coordinator.uploaded = (...[, manifest]) => {
    roots.push(Buffer.from(manifest.leaves[0]!).toString("hex"));
    return new Promise(() => {}); // the receipt never comes
  };
  await site.startAgentProcess();
  const { planHash } = site.send(site.plan());
  await site.kubelet.run(job);
  const trainer = await site.trainer(job);
  expect(await trainer.deliver(await site.adapter(() => 1.125))).toBe(204);
  await site.until(() => roots.length === 1, "upload under way");
  await site.killAgentProcess();

  coordinator.uploaded = async (...upload) => {
    roots.push(Buffer.from(upload[1].leaves[0]!).toString("hex"));
    await remember(...upload);
  };
  await site.startAgentProcess();
  await contributed();
  expect(new Set(roots).size).toBe(1);
  expect([...(await site.contribution(planHash)).values]).toEqual([0.125]);
  await site.nothingLeft();
});

test("a stop in good order in the middle of training is resumed as well", async () => {
  await site.startAgent();
  site.send(site.plan());
  await site.kubelet.run(job);
  await site.until(() => site.said.includes("Training"), "Training");
  await site.stopAgent();
  expect(await site.kubelet.jobs()).toHaveLength(1);
  await site.startAgent();
  expect(await (await site.trainer(job)).deliver(await site.adapter(() => 1.125))).toBe(204);
  await contributed();
  await site.nothingLeft();
});

test("the same plan again gets the same answer and no second Job", async () => {
  await site.startAgent();
  const plan = site.plan();
  site.send(plan);
  await site.kubelet.pod(job);
  site.send(plan);
  await site.until(() => site.said.filter((word) => word === "accept").length >= 2, "accepted again");
  expect(await site.kubelet.jobs()).toHaveLength(1);
  site.cancel(plan, "RoundFailed", "over");
  await site.nothingLeft();
});

test("Jobs that belong to no round are deleted at the start, other people's Jobs are not", async () => {
  await site.startAgent();
  const plan = site.plan();
  site.send(plan);
  await site.kubelet.pod(job);
  const [made] = await site.kubelet.jobs();
  const { name: _, uid: _u, resourceVersion: _r, creationTimestamp: _c, ...metadata } = made!.metadata;
  const labels = {
    ...metadata.labels,
    "batch.kubernetes.io/job-name": undefined,
    "batch.kubernetes.io/controller-uid": undefined,
  };
  const template = { spec: made!.spec!.template.spec };
  const make = (name: string, own: boolean) =>
    api.client.create(JOBS, {
      metadata: {
        name,
        namespace: site.namespace,
        labels: own ? (labels as unknown as Record<string, string>) : { app: "else" },
      },
      spec: { suspend: true, template },
    } as never);
  await make("stranger", true);
  await make("somebody-elses", false);
  await site.stopAgent();
  await site.startAgent();
  await site.until(
    async () => !(await site.kubelet.jobs()).some(({ metadata }) => metadata.name === "stranger"),
    "swept",
  );
  expect((await site.kubelet.jobs()).map(({ metadata }) => metadata.name).sort()).toEqual([job, "somebody-elses"]);
});

test("a plan of a later round is judged while an earlier one is still being worked on", async () => {
  await site.startAgent();
  site.send(site.plan());
  await site.kubelet.pod(job);
  site.send(site.plan({ round: 2, roundName: "notes-r2", tensors }));
  await site.kubelet.pod(`notes-r2-${participant}-1`);
  expect(await site.kubelet.jobs()).toHaveLength(2);
});

test("at an uninstall Jobs, pods and task Secrets go with the agent's Service, and the identity stays", async () => {
  await site.startAgent();
  site.send(site.plan());
  await site.kubelet.pod(job);
  await site.stopAgent();
  await api.client.delete(SERVICES, { namespace: site.namespace, name: "rondo-agent-tasks" });
  await site.nothingLeft();
  expect(await api.client.get(SECRETS, { namespace: site.namespace, name: "rondo-agent-identity" })).toBeDefined();
});

test("an agent that lost its volume keeps its identity, deletes the Job nobody knows any more, and works on in the next round", async () => {
  await site.startAgent();
  site.send(site.plan());
  await site.kubelet.pod(job);
  await site.stopAgent();
  await rm(join(site.folder, "data"), { recursive: true });
  await mkdir(join(site.folder, "data"));
  await site.startAgent();
  await site.nothingLeft();
  const { planHash } = site.send(site.plan({ round: 2, roundName: "notes-r2" }));
  const next = `notes-r2-${participant}-1`;
  await site.kubelet.run(next);
  expect(await (await site.trainer(next)).deliver(await site.adapter(() => 1.125))).toBe(204);
  await contributed();
  expect([...(await site.contribution(planHash)).values]).toEqual([0.125]);
});
