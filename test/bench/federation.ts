/**
 * A whole federation on one machine without nodes: a real API server with its controllers, a real registry, the operator's and the
 * agents' own processes from the bundle that the image holds, each agent in a namespace of its own, mutual TLS between them.
 * Not real: nodes. stand-in-kubelet.ts does what kubelet, container runtime and trainer would do, at once.
 */
import { execFile } from "node:child_process";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { promisify } from "node:util";
import type { RawObject } from "../../operator/kube/objects.ts";
import { NODES, PARTICIPANTS } from "../../operator/kube/resources.ts";
import { type ApiServer, startApiServer } from "../integration/api-server.ts";
import { type Registry, startRegistry } from "../integration/registry.ts";
import { ProcessGroup } from "./processes.ts";
import {
  bundle,
  eventually,
  freePorts,
  isReady,
  MAIN,
  makeService,
  OperatorProgram,
  type Place,
  startProgram,
} from "./programs.ts";
import { NODE, type StandInKubelet, startStandInKubelet } from "./stand-in-kubelet.ts";

const run = promisify(execFile);
export const IMAGE = "registry.example/bench/trainer:1";

export interface BenchFederation extends AsyncDisposable {
  api: ApiServer;
  registry: Registry;
  namespace: string;
  processes: ProcessGroup;
  operatorPid: number;
  agentPids: number[];
  kubelet: StandInKubelet;
}

/** @param folder  logs, volumes and configuration; the caller removes it */
export async function startFederation(folder: string, participants: number): Promise<BenchFederation> {
  bundle();
  const undo = new AsyncDisposableStack();
  try {
    const registry = undo.use(await startRegistry());
    const api = await startApiServer({ controllerManager: true });
    undo.defer(() => api.stop());
    await api.installCrds();
    await api.client.create(NODES, { metadata: { name: NODE } });
    const processes = new ProcessGroup((command) => (command.includes(" operator ") ? "server" : "client"));
    undo.defer(() => processes.end());
    const namespace = await api.createNamespace("coordinator");
    const place: Place = { folder, api, processes, namespace };

    const operator = await OperatorProgram.make(place);
    await operator.start();
    const sites = Array.from({ length: participants }, (_, i) => `site-${i + 1}`);
    for (const site of sites) {
      await api.client.create(PARTICIPANTS, {
        metadata: { name: site, namespace, labels: { bench: "yes" } },
        spec: {},
      });
    }
    const ports = new Map<string, number>();
    const agentPids: number[] = [];
    for (const site of sites) {
      const agent = await startAgent(place, site);
      agentPids.push(agent.pid);
      ports.set(agent.clusterIp, agent.taskPort);
    }
    await eventually("all participants connected", 60, async () => {
      const { items } = await api.client.list(PARTICIPANTS, { namespace });
      return items.every(
        (item) => (item as RawObject & { status?: { connected?: boolean } }).status?.connected === true,
      );
    });
    const kubelet = await startStandInKubelet(api.client, ports);
    undo.defer(() => kubelet.stop());
    const dispose = undo.move();
    return {
      api,
      registry,
      namespace,
      processes,
      operatorPid: operator.pid,
      agentPids,
      kubelet,
      [Symbol.asyncDispose]: () => dispose.disposeAsync(),
    };
  } catch (error) {
    await undo.disposeAsync();
    throw error;
  }
}

async function startAgent(place: Place, site: string) {
  const { folder, api, namespace } = place;
  const [tasks, metrics] = await freePorts(2);
  const own = await api.createNamespace(site);
  const service = await makeService(api, own, "rondo-agent-tasks", tasks!);
  const home = join(folder, site);
  mkdirSync(home, { recursive: true });
  const invitation = join(home, "invitation.json");
  const { stdout } = await run(process.execPath, [MAIN, "invite", site, "-n", namespace, "-o", "json"], {
    env: { ...process.env, KUBECONFIG: api.kubeconfig },
  });
  writeFileSync(invitation, stdout, { mode: 0o600 });
  const config = {
    namespace: own,
    dataDir: join(home, "data"),
    invitation,
    tasks: { address: `127.0.0.1:${tasks}`, service: "rondo-agent-tasks" },
    metrics: { address: `127.0.0.1:${metrics}` },
    policy: { federations: ["*"], images: ["*"], privacy: ["secure", "trusted"], minParticipants: 1, gpus: { max: 1 } },
    podTemplate: { spec: { nodeName: NODE } },
    log: { level: "info" },
  };
  const { pid = 0 } = startProgram(place, home, "agent", config);
  await eventually(`the agent of ${site} is ready`, 60, () => isReady(metrics!));
  return { pid, clusterIp: service.spec?.clusterIP ?? "", taskPort: tasks! };
}
