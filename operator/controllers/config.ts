/** The operator's configuration file (`rondo operator --config FILE`): read once, refused with the field's name. */
import { readFile } from "node:fs/promises";
import { parse } from "yaml";
import { z } from "zod";
import { LOG_LEVELS } from "../telemetry/logger.ts";
import type { PodTemplate } from "../trainer/job.ts";

const address = z
  .string()
  .max(260)
  .regex(/^[^\s]*:[0-9]{1,5}$/, 'must be host:port, such as "0.0.0.0:8443"');

/** SPIFFE's rule: it becomes a part of every certificate. */
const trustDomain = z
  .string()
  .max(255)
  .regex(/^[a-z0-9._-]+$/, "must be lower-case letters, digits, dots, dashes and underscores");

/** A full disk must stop uploads before it stops the journal: less than this would be used up by the commits of one round. */
export const LEAST_RESERVE_BYTES = 64 * 2 ** 20;
const UNITS = { Mi: 2 ** 20, Gi: 2 ** 30, Ti: 2 ** 40 };

/** As Kubernetes writes bytes; becomes their number. */
const mebibytes = z
  .string()
  .regex(/^[0-9]{1,6}(Mi|Gi|Ti)$/, 'must be an amount such as "64Mi" or "2Gi"')
  .transform((text) => Number(text.slice(0, -2)) * UNITS[text.slice(-2) as keyof typeof UNITS])
  .pipe(z.number().min(LEAST_RESERVE_BYTES, 'must be at least "64Mi"'));

export const operatorConfigSchema = z.strictObject({
  namespace: z.string().min(1).max(63),
  dataDir: z.string().min(1).default("/var/lib/rondo"),
  trustDomain,
  /** `endpoint` is what agents dial; it goes into invitations. */
  agents: z.strictObject({ address: address.default("0.0.0.0:8443"), endpoint: address }),
  enrolment: z.strictObject({ address: address.default("0.0.0.0:8444"), endpoint: address }),
  /** Where the initialise Job's trainer meets its task; `service` names the Service in front of it. */
  tasks: z.strictObject({ address: address.default("0.0.0.0:8445"), service: z.string().min(1).max(63) }),
  metrics: z.strictObject({ address: address.default("0.0.0.0:8080") }).prefault({}),
  /** With less room than this on the volume of dataDir, no plan is made and no upload taken. */
  storage: z.strictObject({ reserve: mebibytes.default(LEAST_RESERVE_BYTES) }).prefault({}),
  initialise: z
    .strictObject({ podTemplate: z.custom<PodTemplate>((value) => typeof value === "object" && value !== null) })
    .prefault({ podTemplate: {} }),
  log: z.strictObject({ level: z.enum(LOG_LEVELS).default("info") }).prefault({}),
});

export type OperatorConfig = z.output<typeof operatorConfigSchema>;

/** @throws Error that names file, field and remedy */
export async function readOperatorConfig(file: string): Promise<OperatorConfig> {
  const parsed = operatorConfigSchema.safeParse(parse(await readFile(file, "utf8")));
  if (parsed.success) return parsed.data;
  const { path, message } = parsed.error.issues[0]!;
  throw new Error(`${file}: ${path.length === 0 ? "the file" : path.join(".")}: ${message}`);
}
