/** Version 0 by an initialise Job; the kubelet and the trainer are played by the test, over the real task API. */
import { readFile } from "node:fs/promises";
import { request } from "node:https";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import type { Federation } from "../../../operator/api/federation.ts";
import { FEDERATIONS, JOBS, PODS, SECRETS, SERVICES } from "../../../operator/kube/resources.ts";
import { trains } from "./player.ts";
import { TestWorld } from "./world.ts";

let world: TestWorld;
beforeEach(async () => {
  world = await TestWorld.make();
  const spec = { ports: [{ port: world.taskPort }], selector: { app: "nobody" } };
  await world.client.create(SERVICES, { metadata: { name: "rondo-tasks", namespace: world.namespace }, spec });
  await world.startOperator();
});
afterEach(() => world.stop());

const withoutStart = { rank: 4, alpha: 8, targetModules: ["q_proj", "v_proj"] };

type Answer = { status: number; body: string };

const trainersCall = async (method: string, path: string, body?: Buffer) => (await trainer())(method, path, body);

/** A trainer with the task's Secret: it keeps its token when the Secret is gone. */
async function trainer(): Promise<(method: string, path: string, body?: Buffer) => Promise<Answer>> {
  const { namespace } = world;
  const secret = await world.until(
    () => world.client.get(SECRETS, { namespace, name: "fed-initialise-task" }),
    "the task's Secret",
  );
  const part = (key: string) => Buffer.from(secret.data![key]!, "base64").toString("utf8");
  const service = await world.client.get(SERVICES, { namespace, name: "rondo-tasks" });
  const options = {
    host: "127.0.0.1",
    port: world.taskPort,
    ca: part("ca.crt"),
    // The certificate names the Service's cluster IP; there is no kube-proxy here.
    checkServerIdentity: (_host: string, certificate: { subjectaltname?: string }) =>
      certificate.subjectaltname?.includes(service!.spec!.clusterIP!) ? undefined : new Error("another name"),
    headers: { authorization: `Bearer ${part("token")}` },
  };
  return (method, path, body) =>
    new Promise((resolve, reject) => {
      const call = request({ ...options, method, path }, async (answer) => {
        let text = "";
        for await (const chunk of answer) text += chunk;
        resolve({ status: answer.statusCode ?? 0, body: text });
      });
      call.once("error", reject);
      call.end(body);
    });
}

test("the trainer's adapter becomes version 0, the Job goes, and a round starts from it", async () => {
  await world.addPlayer("ann", trains(0.25));
  await world.addPlayer("ben", trains(0.75));
  await world.createFederation("fed", { adapter: withoutStart, rounds: { count: 1 } });
  const { namespace } = world;
  const job = await world.until(() => world.client.get(JOBS, { namespace, name: "fed-initialise" }), "the Job");
  expect(job.metadata.ownerReferences?.[0]).toMatchObject({ kind: "Federation", name: "fed" });
  const task = await trainersCall("GET", "/v1/task");
  expect(JSON.parse(task.body)).toMatchObject({ kind: "initialise", adapter: withoutStart, training: null });
  const weights = await readFile(join(world.folder, "start.safetensors"));
  expect((await trainersCall("PUT", "/v1/task/adapter", weights)).status).toBe(200);
  const result = { schema: 1, examples: 0, steps: 0, tokens: 0 };
  expect((await trainersCall("PUT", "/v1/task/result", Buffer.from(JSON.stringify(result)))).status).toBe(204);
  const round = await world.ended("fed-r1");
  expect(round.status).toMatchObject({ phase: "Succeeded", plan: { parentVersion: 0 }, adapter: { version: 1 } });
  await world.until(
    async () => !(await world.client.get(JOBS, { namespace, name: "fed-initialise" })),
    "the Job is gone",
  );
});

test("a Job that fails leaves the federation stalled with its reason, and its rounds end with the same", async () => {
  await world.addPlayer("ann", trains(0.25));
  await world.addPlayer("ben", trains(0.75));
  await world.createFederation("fed", { adapter: withoutStart });
  await world.createRound("one", "fed");
  const { namespace } = world;
  await world.until(() => world.client.get(JOBS, { namespace, name: "fed-initialise" }), "the Job");
  const pod = await world.until(
    async () => (await world.client.list(PODS, { namespace, labelSelector: "job-name=fed-initialise" })).items[0],
    "its pod",
  );
  const terminated = { exitCode: 66, reason: "Error", finishedAt: new Date().toISOString() };
  const trainer = { name: "trainer", image: "x", imageID: "x", ready: false, restartCount: 0, state: { terminated } };
  const status = { phase: "Failed", containerStatuses: [trainer] };
  await world.client.patchMerge(PODS, pod.metadata, { status }, { subresource: "status" });
  const round = await world.ended("one");
  expect(round.status.conditions?.find((c) => c.type === "Succeeded")).toMatchObject({ reason: "InitialiseFailed" });
  const federation = await world.get<Federation>("federations", "fed");
  const ready = federation?.status.conditions?.find((c) => c.type === "Ready");
  expect(ready).toMatchObject({ status: "False", reason: "InitialiseFailed" });
  expect(ready?.message).toMatch(/Job fed-initialise: .*base model is missing.*delete the Job to try again/);
});

test("a federation that is deleted before version 0 takes the trainer's task with it", async () => {
  await world.createFederation("fed", { adapter: withoutStart });
  const { namespace } = world;
  await world.until(() => world.client.get(SECRETS, { namespace, name: "fed-initialise-task" }), "the task's Secret");
  const call = await trainer();
  expect((await call("GET", "/v1/task")).status).toBe(200);
  await world.client.delete(FEDERATIONS, { namespace, name: "fed" });
  await world.until(async () => (await call("GET", "/v1/task")).status === 401, "the token is worth nothing any more");
});
