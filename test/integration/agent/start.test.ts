/** How an agent starts and stops when the world is not as it was: what it once made goes, and a start that hangs ends by a signal. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdir, readdir, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterEach, beforeAll, beforeEach, expect, test } from "vitest";
import { askAgent } from "../../../operator/agent/local.ts";
import { writeAdapter } from "../../../operator/agent/testing/plan.ts";
import { JOBS, LEASES } from "../../../operator/kube/resources.ts";
import { kubectl } from "../api/kubectl.ts";
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

const workFolders = () => readdir(join(site.folder, "data", "work"));

test("SIGTERM ends a start that waits for a list which never comes, and the next agent need not wait for the Lease", async () => {
  const { namespace, folder } = site;
  const role = await kubectl(api.kubeconfig, ["-n", namespace, "get", "role", "rondo-agent", "-o", "json"]);
  const { rules, ...rest } = JSON.parse(role.stdout) as { rules: Array<{ resources: string[] }> };
  const without = rules.filter(({ resources }) => !resources.includes("jobs"));
  await kubectl(api.kubeconfig, ["-n", namespace, "replace", "-f", "-"], { ...rest, rules: without });
  const config = join(folder, "agent.yaml");
  await writeFile(config, JSON.stringify(site.config));
  const main = join(import.meta.dirname, "../../../operator/main.ts");
  const args = [main, "agent", "--config", config, "--kubeconfig", site.kubeconfig];
  const agent = spawn("setpriv", ["--pdeathsig", "KILL", process.execPath, ...args], { stdio: "ignore" });
  const holder = async () =>
    (await api.client.get(LEASES, { namespace, name: "rondo-agent" }))?.spec?.holderIdentity ?? "";
  await site.until(async () => (await holder()) !== "", "the agent has its Lease", 40_000);
  const ended = once(agent, "exit");
  agent.kill("SIGTERM");
  const [code] = await ended;
  expect(code).toBe(0);
  expect(await holder()).toBe("");
});

test("an evaluation that ended with its agent leaves neither Job nor folder behind", async () => {
  await site.startAgentProcess();
  const plan = site.plan();
  site.send(plan);
  await site.until(() => site.said.includes("accept"), "accepted");
  site.cancel(plan, "Deleted", "over");
  await site.nothingLeft();
  const file = join(site.folder, "candidate.safetensors");
  const { sha256 } = await writeAdapter(file, () => 2);
  site.operator.coordinator.adapters.set(sha256, file);
  const asked = askAgent(site.agent.adminSocket, "POST", "/v1/evaluate", { candidate: `sha256:${sha256}` });
  asked.catch(() => {});
  await site.until(async () => (await site.kubelet.jobs()).length === 1, "the evaluation's Job");
  const [made] = await site.kubelet.jobs();
  await site.killAgentProcess();
  expect(await workFolders()).toEqual([made!.metadata.name]);
  await site.startAgent();
  await site.nothingLeft();
  expect(await workFolders()).toEqual([]);
});

test("files that a killed process had only begun go, and what was trained stays", async () => {
  await site.startAgentProcess();
  const { planHash } = site.send(site.plan());
  await site.kubelet.run(job);
  await site.until(() => site.said.includes("Training"), "Training");
  await site.killAgentProcess();
  const work = join(site.folder, "data", "work");
  await writeFile(join(work, job, "delta.safetensors.partial"), "half");
  await writeFile(join(work, job, "trained.safetensors.part"), "half");
  await mkdir(join(work, "notes-r0-clinic-a-1"));
  await site.startAgent();
  expect(await workFolders()).toEqual([job]);
  expect(await readdir(join(work, job))).toEqual(["parent.safetensors"]);
  expect(await (await site.trainer(job)).deliver(await site.adapter(() => 1.125))).toBe(204);
  await site.until(() => site.operator.coordinator.uploads.length > 0, "contributed");
  expect([...(await site.contribution(planHash)).values]).toEqual([0.125]);
});

test("a round that was cancelled while the agent was away leaves nothing, soon after it is back", async () => {
  await site.startAgent();
  const plan = site.plan();
  site.send(plan);
  await site.kubelet.run(job);
  await site.until(() => site.said.includes("Training"), "Training");
  await site.stopAgent();
  const { coordinator } = site.operator;
  const attended = coordinator.attended.bind(coordinator);
  coordinator.attended = (session) => {
    attended(session);
    const { federation, round, attempt, purpose } = plan;
    const work = { federation, round, attempt, purpose, participant, step: "cancel" };
    setImmediate(() => session.sendCancellation(work, "Cancelled", "the round was cancelled"));
  };
  await site.startAgent();
  await site.nothingLeft();
  await site.until(async () => (await workFolders()).length === 0, "no work folder");
});

test("a round whose deadlines passed while the agent was away leaves nothing either, and no operator is needed for that", async () => {
  await site.startAgent();
  site.send(site.plan({}, { accept: 3_000, training: 5_000, aggregation: 6_000 }));
  await site.kubelet.run(job);
  await site.until(() => site.said.includes("Training"), "Training");
  await site.stopAgent();
  await new Promise((resolve) => setTimeout(resolve, 5_000));
  await site.startAgent();
  await site.nothingLeft();
  await site.until(async () => (await workFolders()).length === 0, "no work folder");
});

test("with the volume lost, the Job of a round that nobody knows is deleted with its Secret", async () => {
  await site.startAgent();
  site.send(site.plan());
  await site.kubelet.run(job);
  await site.stopAgent();
  await rm(join(site.folder, "data"), { recursive: true });
  await mkdir(join(site.folder, "data"));
  await site.startAgent();
  await site.nothingLeft();
  expect(await api.client.get(JOBS, { namespace: site.namespace, name: job })).toBeUndefined();
});
