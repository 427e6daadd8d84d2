/**
 * The charts on a real API server: helm installs, upgrades and uninstalls them, pods pass the restricted Pod Security profile,
 * and the Roles allow what the programs do and nothing beside it. No pod runs here; test/e2e has that.
 */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { buildTrainerJob } from "../../../operator/trainer/job.ts";
import { kubectl, type Printed } from "../api/kubectl.ts";
import { type ApiServer, startApiServer } from "../api-server.ts";
import { chart, find, Helm } from "./helm.ts";
import { demoOperator, demoSite, podTemplate } from "./values.ts";

const COORDINATOR = "coordinator";
const SITE = "clinic-a";
let server: ApiServer;
let helm: Helm;
let folder: string;
const run = (args: string[], stdin?: unknown): Promise<Printed> => kubectl(server.kubeconfig, args, stdin);

beforeAll(async () => {
  // A server of its own: helm wants to own the CRDs.
  server = await startApiServer();
  folder = await mkdtemp(join(tmpdir(), "rondo-charts-"));
  helm = new Helm(folder, server.kubeconfig);
  for (const name of [COORDINATOR, SITE]) {
    const labels = { "pod-security.kubernetes.io/enforce": "restricted" };
    const namespace = { apiVersion: "v1", kind: "Namespace", metadata: { name, labels } };
    expect(await run(["apply", "-f", "-"], namespace)).toMatchObject({ ok: true });
  }
});
afterAll(async () => {
  await server?.stop();
  await rm(folder, { recursive: true, force: true });
});

const releases = [
  {
    release: "rondo",
    namespace: COORDINATOR,
    values: demoOperator,
    workload: ["StatefulSet", "rondo-operator"],
    next: "rondo invite NAME",
  },
  {
    release: "rondo-agent",
    namespace: SITE,
    values: demoSite,
    workload: ["Deployment", "rondo-agent"],
    next: "kubectl get participants",
  },
] as const;

describe.each(releases)("$release", ({ release, namespace, values, workload, next }) => {
  test("is installed, and says what comes next", async () => {
    const printed = await helm.run(["install", release, chart(release), "-n", namespace], values);
    // Warnings are what Pod Security would print about the pod template.
    expect(printed).toMatchObject({ ok: true, stderr: "" });
    expect(printed.stdout).toContain(next);
  });

  test("is upgraded to the same without a change", async () => {
    const before = await run(["get", "-n", namespace, ...workload, "-o", "jsonpath={.metadata.generation}"]);
    expect(await helm.run(["upgrade", release, chart(release), "-n", namespace], values)).toMatchObject({ ok: true });
    expect(await run(["get", "-n", namespace, ...workload, "-o", "jsonpath={.metadata.generation}"])).toEqual(before);
  });

  test("has a pod that a restricted namespace takes", async () => {
    const [kind, name] = workload;
    const { template, volumeClaimTemplates } = find(await helm.rendered(release, values, namespace), kind, name).spec;
    const volumes = (volumeClaimTemplates ?? []).map((claim: { metadata: { name: string } }) => ({
      name: claim.metadata.name,
      persistentVolumeClaim: { claimName: claim.metadata.name },
    }));
    const spec = { ...template.spec, volumes: [...template.spec.volumes, ...volumes] };
    const pod = { apiVersion: "v1", kind: "Pod", metadata: { name: "as-from-chart", namespace }, spec };
    expect(await run(["create", "--dry-run=server", "-f", "-"], pod)).toMatchObject({ ok: true, stderr: "" });
  });
});

test.each([
  { says: "a site", namespace: SITE },
  { says: "the coordinator", namespace: COORDINATOR },
])("the trainer's pod that is made from the template of $says passes the restricted profile", async ({ namespace }) => {
  const { job } = buildTrainerJob({
    name: "clinic-notes-r1-clinic-a-1",
    namespace,
    template: { ...podTemplate, spec: { ...podTemplate.spec, serviceAccountName: "rondo-trainer" } } as never,
    image: "registry.example/trainer@sha256:00",
    resources: { gpus: 1, gpuResourceName: "nvidia.com/gpu", memory: "1Gi", cpu: "1" },
    task: { url: "https://10.96.0.5:8445", caPem: "", token: "" },
    labels: { federation: "clinic-notes", attempt: 1, kind: "train" },
    activeDeadlineSeconds: 60,
  });
  const pod = {
    apiVersion: "v1",
    kind: "Pod",
    metadata: { name: "trainer", namespace },
    spec: job.spec!.template.spec,
  };
  expect(await run(["create", "--dry-run=server", "-f", "-"], pod)).toMatchObject({ ok: true, stderr: "" });
});

describe("what the Roles allow", () => {
  const who = {
    operator: [COORDINATOR, "rondo-operator"],
    agent: [SITE, "rondo-agent"],
    trainer: [SITE, "rondo-trainer"],
  } as const;
  const can = async (program: keyof typeof who, verb: string, resource: string) => {
    const [namespace, account] = who[program];
    const as = `--as=system:serviceaccount:${namespace}:${account}`;
    return (await run(["auth", "can-i", verb, resource, "-n", namespace, as])).stdout.trim();
  };

  test.each([
    ["operator", "watch", "federations.rondo.dev"],
    ["operator", "patch", "federationrounds.rondo.dev/status"],
    ["operator", "create", "federationrounds.rondo.dev"],
    ["operator", "delete", "federationrounds.rondo.dev"],
    ["operator", "create", "adapterversions.rondo.dev"],
    ["operator", "get", "secrets/rondo-operator-keys"],
    ["operator", "get", "secrets/regcred"],
    ["operator", "create", "jobs.batch"],
    ["operator", "patch", "leases.coordination.k8s.io/rondo-operator"],
    ["agent", "create", "jobs.batch"],
    ["agent", "create", "secrets"],
    ["agent", "get", "secrets/rondo-agent-identity"],
    ["agent", "get", "services/rondo-agent-tasks"],
  ] as const)("the %s may %s %s", async (program, verb, resource) => {
    expect(await can(program, verb, resource)).toBe("yes");
  });

  test.each([
    ["operator", "list", "secrets"],
    ["operator", "get", "secrets/somebody-elses"],
    ["operator", "create", "pods"],
    ["operator", "create", "participants.rondo.dev"],
    ["operator", "delete", "adapterversions.rondo.dev"],
    ["operator", "deletecollection", "federationrounds.rondo.dev"],
    ["operator", "delete", "federations.rondo.dev"],
    ["operator", "patch", "federations.rondo.dev"],
    ["operator", "patch", "secrets/somebody-elses"],
    ["agent", "patch", "secrets/somebody-elses"],
    ["agent", "list", "secrets"],
    ["agent", "get", "secrets/somebody-elses"],
    ["agent", "get", "secrets/rondo-agent-invitation"],
    ["agent", "create", "pods"],
    ["agent", "get", "configmaps"],
    ["trainer", "get", "pods"],
    ["trainer", "get", "secrets"],
  ] as const)("the %s may not %s %s", async (program, verb, resource) => {
    expect(await can(program, verb, resource)).toBe("no");
  });
});

test("the CRDs stay when the operator is uninstalled, and with them what people have made", async () => {
  const participant = {
    apiVersion: "rondo.dev/v1alpha1",
    kind: "Participant",
    metadata: { name: "kept", namespace: COORDINATOR },
  };
  expect(await run(["apply", "-f", "-"], participant)).toMatchObject({ ok: true });
  expect(await helm.run(["uninstall", "rondo", "-n", COORDINATOR])).toMatchObject({ ok: true });
  expect(await run(["get", "participant", "kept", "-n", COORDINATOR, "-o", "name"])).toMatchObject({
    stdout: "participant.rondo.dev/kept\n",
  });
});
