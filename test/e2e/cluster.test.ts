/** The local clusters themselves: what every other end-to-end test and the demo stand on. */
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { command } from "../cluster/commands.ts";
import { down } from "../cluster/down.ts";
import { killProgram } from "../cluster/faults.ts";
import { advertiseGpus } from "../cluster/gpus.ts";
import { loadImage } from "../cluster/images.ts";
import { binDir, type Cluster, clusterSet } from "../cluster/layout.ts";
import { runningPid } from "../cluster/processes.ts";
import { status } from "../cluster/status.ts";
import { up } from "../cluster/up.ts";

const set = clusterSet("e2e-clusters");
let first: Cluster;
let second: Cluster;

function kubectl(cluster: Cluster, ...args: string[]): Promise<string> {
  return command(join(binDir, "kubectl"), "--kubeconfig", cluster.kubeconfig, ...args);
}

async function bringUp(): Promise<void> {
  const [one, two] = await up(["first", "second"], { set });
  first = one!;
  second = two!;
}

beforeAll(async () => {
  await down([], set); // of a run that was killed
  await bringUp();
  await Promise.all([first, second].map((cluster) => loadImage(cluster, "localhost/rondo-trainer:dev")));
});
afterAll(() => down([], set));

test("a Job runs to its end", async () => {
  await kubectl(
    first,
    "create",
    "job",
    "hello",
    "--image=localhost/rondo-trainer:dev",
    "--",
    "python3",
    "-c",
    "print('hello')",
  );
  await kubectl(first, "wait", "--for=condition=Complete", "job/hello", "--timeout=60s");
  expect(await kubectl(first, "logs", "job/hello")).toBe("hello\n");
});

test("a pod that wants more GPUs than are advertised waits, and the scheduler says why", async () => {
  await advertiseGpus(first, 2);
  await runPod(first, "fits", 2);
  await runPod(first, "greedy", 3);
  await kubectl(first, "wait", "--for=condition=Ready", "pod/fits", "--timeout=60s");
  await kubectl(first, "wait", "--for=condition=PodScheduled=False", "pod/greedy", "--timeout=60s");
  const message = await kubectl(first, "get", "pod", "greedy", "-o", "jsonpath={.status.conditions[0].message}");
  expect(message).toContain("Insufficient nvidia.com/gpu");
});

test("a pod reaches another cluster's node port", async () => {
  const serve = ["python3", "-m", "http.server", "8000", "--directory", "/opt"];
  await kubectl(second, "run", "web", "--image=localhost/rondo-trainer:dev", "--", ...serve);
  await kubectl(second, "create", "service", "nodeport", "web", "--tcp=80:8000", "--node-port=30080");
  await kubectl(second, "set", "selector", "service/web", "run=web");
  const fetch = `import urllib.request; print(urllib.request.urlopen("http://${second.address}:30080/").status)`;
  const retried = `for i in $(seq 60); do python3 -c '${fetch}' 2>/dev/null && exit 0; sleep 0.5; done; exit 1`;
  await kubectl(first, "create", "job", "fetch", "--image=localhost/rondo-trainer:dev", "--", "sh", "-c", retried);
  await kubectl(first, "wait", "--for=condition=Complete", "job/fetch", "--timeout=60s");
  expect(await kubectl(first, "logs", "job/fetch")).toBe("200\n");
});

test("a restricted namespace refuses a pod that could become root", async () => {
  await kubectl(first, "create", "namespace", "strict");
  await kubectl(first, "label", "namespace", "strict", "pod-security.kubernetes.io/enforce=restricted");
  await eventually(() => kubectl(first, "-n", "strict", "get", "serviceaccount", "default"));
  const refused = kubectl(first, "-n", "strict", "run", "bad", "--image=localhost/rondo-trainer:dev");
  await expect(refused).rejects.toThrow('violates PodSecurity "restricted:latest"');
});

describe("after a crash, up", () => {
  test("restarts what was killed and leaves the rest running", async () => {
    const proxy = runningPid(first, "kube-proxy");
    const killed = ["etcd", "kube-apiserver", "kube-scheduler", "kubelet", "containerd"];
    for (const program of killed) await killProgram(first, program);
    expect(await stateOf("first")).toBe("Broken");
    await bringUp();
    expect(await stateOf("first")).toBe("Ready");
    expect(runningPid(first, "kube-proxy")).toBe(proxy);
    expect(await kubectl(first, "get", "job", "hello", "-o", "jsonpath={.status.succeeded}")).toBe("1");
    expect(await readyPods(first)).toContain("fits");
  });

  test("brings a cluster of which every process was killed back with its data, pods and GPUs", async () => {
    await advertiseGpus(second, 1);
    for (const pid of processesOf(set.prefix, second.scope)) process.kill(pid, "SIGKILL");
    await eventually(async () => expect(await stateOf("second")).toBe("Stopped"));
    await bringUp();
    expect(await stateOf("second")).toBe("Ready");
    await kubectl(second, "wait", "--for=condition=Ready", "pod/web", "--timeout=60s");
    const gpus = await kubectl(
      second,
      "get",
      "node",
      "second",
      "-o",
      "jsonpath={.status.allocatable.nvidia\\.com/gpu}",
    );
    expect(gpus).toBe("1");
  });
});

test("down leaves no process, mount, namespace, interface, control group or file", async () => {
  expect(tracesOf(set.prefix)).not.toEqual([]); // else the search finds nothing ever
  await down([], set);
  await eventually(async () => expect(tracesOf(set.prefix)).toEqual([]));
});

async function runPod(cluster: Cluster, name: string, gpus: number): Promise<void> {
  const limits = { "nvidia.com/gpu": String(gpus) };
  const container = { name, image: "localhost/pause:1", resources: { limits } };
  const overrides = JSON.stringify({ spec: { containers: [container] } });
  await kubectl(cluster, "run", name, "--image=localhost/pause:1", `--overrides=${overrides}`);
}

async function stateOf(name: string): Promise<string | undefined> {
  return (await status(set)).find((cluster) => cluster.name === name)?.state;
}

async function readyPods(cluster: Cluster): Promise<string> {
  return kubectl(cluster, "get", "pods", "--field-selector=status.phase=Running", "-o", "name");
}

async function eventually(check: () => Promise<unknown>, limitMs = 10_000): Promise<void> {
  for (const until = Date.now() + limitMs; ; await delay(100)) {
    try {
      await check();
      return;
    } catch (error) {
      if (Date.now() > until) throw error;
    }
  }
}

/** Found by control group and not by the tool's own records: those are under test. */
function processesOf(...words: string[]): number[] {
  return readdirSync("/proc")
    .filter((entry) => /^\d+$/.test(entry))
    .filter((pid) => words.every((word) => read(`/proc/${pid}/cgroup`).includes(`/${word}`)))
    .map(Number);
}

function tracesOf(prefix: string): string[] {
  const files = ["/var/lib/rondo-clusters/sets", "/run/rondo-clusters"].flatMap((dir) => list(dir));
  return [
    ...processesOf(prefix).map((pid) => `process ${pid}`),
    ...read("/proc/self/mountinfo")
      .split("\n")
      .filter((line) => line.includes(prefix) || line.includes(`/${set.name}/`)),
    ...list("/run/netns").filter((name) => name.startsWith(prefix)),
    ...list("/sys/class/net").filter((name) => name === set.bridge || name.startsWith(`${set.bridge}-`)),
    ...list("/sys/fs/cgroup")
      .flatMap((dir) => [dir, ...list(`/sys/fs/cgroup/${dir}`)])
      .filter((name) => name.startsWith(prefix)),
    ...files.filter((name) => name.startsWith(set.name)),
  ];
}

function read(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return ""; // the process is gone
  }
}

function list(dir: string): string[] {
  try {
    return readdirSync(dir);
  } catch {
    return [];
  }
}
