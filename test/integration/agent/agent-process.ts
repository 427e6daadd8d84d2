/** An agent in a process of its own: `node agent-process.ts CONFIG.json KUBECONFIG`. Prints where it listens. */
import { readFileSync } from "node:fs";
import { pino } from "pino";
import { agentConfigSchema } from "../../../operator/agent/config.ts";
import { startAgent } from "../../../operator/agent/run.ts";
import { fromKubeconfig } from "../../../operator/kube/credentials.ts";

const [configPath = "", kubeconfig = ""] = process.argv.slice(2);
const { tasksPort, metricsPort, adminSocket } = await startAgent(
  agentConfigSchema.parse(JSON.parse(readFileSync(configPath, "utf8"))),
  {
    credentials: fromKubeconfig(kubeconfig),
    // A container that is restarted in its pod has the same name and uid: it does not wait for its own Lease.
    instance: "rondo-agent-0",
    version: "0.1.0",
    log: pino({ level: "warn" }, pino.destination(2)),
    onLost: () => process.exit(1),
    reconnect: { firstMs: 20, mostMs: 200 },
  },
);
process.stdout.write(`${JSON.stringify({ tasksPort, metricsPort, adminSocket })}\n`);
