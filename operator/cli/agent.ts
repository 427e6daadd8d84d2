/** `rondo agent`: runs until a signal or the loss of the Lease. */
import { hostname } from "node:os";
import { readAgentConfig } from "../agent/config.ts";
import { startAgent } from "../agent/run.ts";
import { defaultCredentials } from "../kube/credentials.ts";
import { createLogger } from "../telemetry/logger.ts";
import { endedBySignal, untilSignal } from "./signals.ts";
import { VERSION } from "./version.ts";

export async function run(options: { config: string; kubeconfig?: string }): Promise<void> {
  const config = readAgentConfig(options.config);
  const log = createLogger({ level: config.log.level, name: "agent" });
  const signalled = untilSignal();
  const { POD_NAME = hostname(), POD_UID } = process.env;
  const agent = await startAgent(config, {
    credentials: defaultCredentials(process.env, options.kubeconfig),
    instance: POD_UID ? `${POD_NAME}_${POD_UID}` : POD_NAME,
    version: VERSION,
    log,
    signal: signalled.signal,
    onLost: (why) => {
      log.fatal({ why }, "the agent ends");
      process.exit(1);
    },
  }).catch(endedBySignal(signalled.signal));
  await signalled.promise;
  log.info("stopping");
  await agent.stop();
  // Sockets of an operator that does not answer may live on for a while; nothing of ours is left to do.
  process.exit(0);
}
