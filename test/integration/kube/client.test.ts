/** What the client's verbs mean on a real API server. */
import { beforeAll, describe, expect, test } from "vitest";
import { KubeClient } from "../../../operator/kube/client.ts";
import { fromKubeconfig } from "../../../operator/kube/credentials.ts";
import { isKubeFault, type KubeFault } from "../../../operator/kube/faults.ts";
import { controllerReference } from "../../../operator/kube/objects.ts";
import { CONFIG_MAPS, PARTICIPANTS, PODS, SECRETS } from "../../../operator/kube/resources.ts";
import { type SharedApiServer, sharedApiServer } from "../shared-api-server.ts";

let server: SharedApiServer;
let client: KubeClient;
let namespace: string;

beforeAll(async () => {
  server = await sharedApiServer();
  client = server.client;
  namespace = await server.createNamespace("client");
});

const as = (fieldManager: string) => new KubeClient({ credentials: fromKubeconfig(server.kubeconfig), fieldManager });
const codeOf = (call: Promise<unknown>) =>
  call.then(
    () => "no fault",
    (error: KubeFault) => (isKubeFault(error) ? error.code : String(error)),
  );
const here = (name: string) => ({ namespace, name });

test("what does not exist is undefined to get, and false to delete", async () => {
  expect(await client.get(CONFIG_MAPS, here("none"))).toBeUndefined();
  expect(await client.delete(CONFIG_MAPS, here("none"))).toBe(false);
});

test("the kubeconfig's namespace is known", async () => {
  expect(await client.namespace()).toBe("default");
});

describe("create", () => {
  test("returns the object, and AlreadyExists the second time", async () => {
    const created = await client.create(SECRETS, { metadata: here("s"), stringData: { token: "t" } });
    expect(created).toMatchObject({ apiVersion: "v1", kind: "Secret", data: { token: "dA==" } });
    expect(await codeOf(client.create(SECRETS, { metadata: here("s") }))).toBe("AlreadyExists");
  });

  test("of something wrong is Invalid, and of a Secret without a word of its content", async () => {
    const fault = await client
      .create(SECRETS, { metadata: here("Wrong_Name"), type: "kubernetes.io/tls", data: { "tls.crt": "aHVudGVyMg==" } })
      .catch((error: unknown) => error);
    expect(fault).toMatchObject({ code: "Invalid", status: 422 });
    expect((fault as KubeFault).message).toBe(`create secrets ${namespace}/Wrong_Name: Invalid`);
  });

  test("of a custom resource that CEL or the schema refuses tells the sentence", async () => {
    const fault = await client
      .create(PARTICIPANTS, { metadata: here("p"), spec: { suspended: "perhaps" } })
      .catch((error: unknown) => error);
    expect(fault).toMatchObject({ code: "Invalid" });
    expect((fault as KubeFault).message).toContain("suspended");
  });

  test("in a namespace that does not exist is NotFound", async () => {
    expect(await codeOf(client.create(CONFIG_MAPS, { metadata: { namespace: "nowhere", name: "a" } }))).toBe(
      "NotFound",
    );
  });
});

test("list reads all pages and fills in apiVersion and kind", async () => {
  const labels = { pages: "yes" };
  for (let i = 0; i < 7; i++) await client.create(CONFIG_MAPS, { metadata: { ...here(`page-${i}`), labels } });
  const list = await client.list(CONFIG_MAPS, { namespace, labelSelector: "pages=yes", pageSize: 3 });
  expect(list.items.map((item) => item.metadata.name)).toEqual(Array.from({ length: 7 }, (_, i) => `page-${i}`));
  expect(list.items[6]).toMatchObject({ apiVersion: "v1", kind: "ConfigMap" });
  expect(Number(list.resourceVersion)).toBeGreaterThan(0);
});

describe("server-side apply", () => {
  test("creates, changes, and removes what it no longer mentions", async () => {
    await client.apply(CONFIG_MAPS, { metadata: here("own"), data: { a: "1", b: "2" } });
    const changed = await client.apply(CONFIG_MAPS, { metadata: here("own"), data: { a: "3" } });
    expect(changed.data).toEqual({ a: "3" });
  });

  test("of the same again changes nothing, not even the resourceVersion", async () => {
    const draft = { metadata: here("same"), data: { a: "1" } };
    const first = await client.apply(CONFIG_MAPS, draft);
    const second = await client.apply(CONFIG_MAPS, draft);
    expect(second.metadata.resourceVersion).toBe(first.metadata.resourceVersion);
  });

  test("takes a field from another manager, or leaves it with Conflict when not forced", async () => {
    const other = as("other");
    await client.apply(CONFIG_MAPS, { metadata: here("shared"), data: { a: "mine" } });
    const draft = { metadata: here("shared"), data: { a: "theirs", b: "new" } };
    expect(await codeOf(other.apply(CONFIG_MAPS, draft, { force: false }))).toBe("Conflict");
    expect((await client.get(CONFIG_MAPS, here("shared")))?.data).toEqual({ a: "mine" });
    expect((await other.apply(CONFIG_MAPS, draft)).data).toEqual({ a: "theirs", b: "new" });
    other.close();
  });

  test("leaves the fields of others alone", async () => {
    const other = as("other");
    await other.apply(CONFIG_MAPS, { metadata: { ...here("both"), labels: { theirs: "yes" } }, data: { b: "2" } });
    await client.apply(CONFIG_MAPS, { metadata: here("both"), data: { a: "1" } });
    const both = await client.get(CONFIG_MAPS, here("both"));
    expect(both).toMatchObject({ metadata: { labels: { theirs: "yes" } }, data: { a: "1", b: "2" } });
    other.close();
  });

  test("of an object that was read and changed is accepted", async () => {
    const read = (await client.get(CONFIG_MAPS, here("own")))!;
    const applied = await client.apply(CONFIG_MAPS, { ...read, data: { a: "4" } });
    expect(applied.data).toEqual({ a: "4" });
  });

  test("of status touches status alone", async () => {
    await client.create(PARTICIPANTS, { metadata: here("clinic"), spec: { displayName: "Clinic" } });
    const applied = await client.applyStatus(PARTICIPANTS, {
      metadata: here("clinic"),
      spec: { displayName: "ignored" },
      status: { connected: true },
    });
    expect(applied).toMatchObject({ spec: { displayName: "Clinic" }, status: { connected: true } });
  });
});

describe("patch", () => {
  test("merge sets and removes; a resourceVersion in it is a precondition", async () => {
    const created = await client.create(CONFIG_MAPS, { metadata: here("merge"), data: { a: "1", b: "2" } });
    const patched = await client.patchMerge(CONFIG_MAPS, here("merge"), { data: { a: null, c: "3" } });
    expect(patched.data).toEqual({ b: "2", c: "3" });
    const { resourceVersion } = created.metadata;
    expect(await codeOf(client.patchMerge(CONFIG_MAPS, here("merge"), { metadata: { resourceVersion } }))).toBe(
      "Conflict",
    );
  });

  test("json does its operations or none", async () => {
    await client.create(CONFIG_MAPS, { metadata: here("json"), data: { a: "1" } });
    const test = (value: string) => [
      { op: "test" as const, path: "/data/a", value },
      { op: "replace" as const, path: "/data/a", value: "2" },
    ];
    expect((await client.patchJson(CONFIG_MAPS, here("json"), test("1"))).data).toEqual({ a: "2" });
    expect(await codeOf(client.patchJson(CONFIG_MAPS, here("json"), test("1")))).toBe("Invalid");
  });
});

describe("delete", () => {
  test("with another uid leaves the object and is a Conflict", async () => {
    const { metadata } = await client.create(CONFIG_MAPS, { metadata: here("keep") });
    expect(await codeOf(client.delete(CONFIG_MAPS, metadata, { preconditions: { uid: "another" } }))).toBe("Conflict");
    expect(await client.delete(CONFIG_MAPS, metadata, { preconditions: { uid: metadata.uid! } })).toBe(true);
    expect(await client.get(CONFIG_MAPS, metadata)).toBeUndefined();
  });

  test("takes along what the object owns", async () => {
    const owner = await client.create(CONFIG_MAPS, { metadata: here("owner") });
    await client.create(SECRETS, { metadata: { ...here("owned"), ownerReferences: [controllerReference(owner)] } });
    await client.delete(CONFIG_MAPS, owner.metadata);
    await expect.poll(() => client.get(SECRETS, here("owned")), { timeout: 30_000 }).toBeUndefined();
  });
});

test("logs of a pod that does not run are a fault, not a hang", async () => {
  expect(await codeOf(client.podLogs(namespace, "none", { tailLines: 5 }))).toBe("NotFound");
});

test("somebody the API server does not know is Unauthorized", async () => {
  const credentials = async () => {
    const known = await fromKubeconfig(server.kubeconfig)();
    return { ...known, headers: { Authorization: "Bearer wrong" } };
  };
  const stranger = new KubeClient({ credentials, fieldManager: "x" });
  expect(await codeOf(stranger.get(PODS, here("a")))).toBe("Unauthorized");
  stranger.close();
});
