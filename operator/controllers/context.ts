/** What every controller works with: hands, clock and settings, made once in operator.ts. */
import type { KeyObject } from "node:crypto";
import type { Logger } from "pino";
import type { Journal } from "../journal/journal.ts";
import type { Spool } from "../journal/spool.ts";
import type { KubeClient } from "../kube/client.ts";
import type { EventRecorder } from "../kube/events.ts";
import type { AdapterStore } from "./adapters.ts";
import type { Attendance } from "./attendance.ts";
import type { OperatorConfig } from "./config.ts";
import type { LeftOut } from "./left-out.ts";
import type { OperatorMetrics } from "./metrics.ts";
import type { Caches, Objects } from "./objects.ts";
import type { Outcomes } from "./outcomes.ts";
import type { Storage } from "./storage.ts";
import type { Tally } from "./tally.ts";
import type { Versions } from "./versions.ts";

export interface Context {
  config: OperatorConfig;
  client: KubeClient;
  caches: Caches;
  objects: Objects;
  journal: Journal;
  spool: Spool;
  storage: Storage;
  adapters: AdapterStore;
  versions: Versions;
  leftOut: LeftOut;
  tally: Tally;
  outcomes: Outcomes;
  attendance: Attendance;
  events: EventRecorder;
  metrics: OperatorMetrics;
  log: Logger;
  /** Ed25519; signs plans, cancellations and receipts. */
  planKey: KeyObject;
  now(): number;
}

/** `<trust domain>/<namespace>/<name>`: what plans and reports call a federation. */
export function federationId(context: Pick<Context, "config">, name: string): string {
  return `${context.config.trustDomain}/${context.config.namespace}/${name}`;
}

export function federationName(context: Pick<Context, "config">, id: string): string | undefined {
  const prefix = federationId(context, "");
  return id.startsWith(prefix) ? id.slice(prefix.length) : undefined;
}
