/** `rondo operator`: runs until a signal, the loss of the Lease, or a journal that cannot be written. */
import { readOperatorConfig } from "../controllers/config.ts";
import { startOperator } from "../controllers/operator.ts";
import { defaultCredentials } from "../kube/credentials.ts";
import { createLogger } from "../telemetry/logger.ts";
import { endedBySignal, untilSignal } from "./signals.ts";
import { VERSION } from "./version.ts";

export async function run(options: { config: string; kubeconfig?: string }): Promise<void> {
  const config = await readOperatorConfig(options.config);
  const log = createLogger({ level: config.log.level, name: "operator" });
  const signalled = untilSignal();
  const operator = await startOperator({
    config,
    version: VERSION,
    credentials: defaultCredentials(process.env, options.kubeconfig),
    log,
    signal: signalled.signal,
    onFatal: (why) => {
      log.fatal({ why }, "the operator ends");
      process.exit(1);
    },
  }).catch(endedBySignal(signalled.signal));
  await signalled.promise;
  log.info("stopping");
  await operator.stop();
  // Sockets of agents that do not answer may live on for a while; nothing of ours is left to do.
  process.exit(0);
}
