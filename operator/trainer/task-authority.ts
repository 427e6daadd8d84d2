/**
 * The certificate authority that trainers trust: one per agent (or operator), made at the first start and kept in the data directory, so
 * that trainers started before a restart go on trusting the server after it.
 * Holds: keys never leave `directory` (0600); a serving certificate names the addresses trainers dial, and is used again while it has half
 * of its life before it.
 * Does not: say who may ask (task-server.ts does, by token), nor make certificates (task-certificates.ts).
 */
import { mkdir, open, readFile, rename } from "node:fs/promises";
import { basename, join } from "node:path";
import { z } from "zod";
import { effect } from "../fault-injection.ts";
import type { Certified } from "./task-certificates.ts";

const DAY_MS = 24 * 3_600_000;
const AUTHORITY_MS = 3650 * DAY_MS;
/** The server takes a fresh one at half of it. */
export const SERVING_MS = 14 * DAY_MS;

const certifiedSchema = z.object({ certPem: z.string(), keyPem: z.string() });
const servingSchema = certifiedSchema.extend({ hosts: z.array(z.string()), notAfterMs: z.number() });

export interface TaskAuthority {
  caPem: string;
  /** @param hosts  IP addresses and DNS names, at least one */
  issue(hosts: readonly string[], nowMs: number): Promise<Certified>;
}

export async function openTaskAuthority(directory: string, nowMs: number): Promise<TaskAuthority> {
  await mkdir(directory, { recursive: true, mode: 0o700 });
  effect("file", "make the folder of the task server");
  const file = join(directory, "authority.json");
  const authority = (await read(file, certifiedSchema)) ?? (await makeAndKeep(file, nowMs));
  return { caPem: authority.certPem, issue: (hosts, now) => issue(directory, authority, hosts, now) };
}

async function makeAndKeep(file: string, nowMs: number): Promise<Certified> {
  const { makeAuthority } = await import("./task-certificates.ts");
  const made = await makeAuthority(nowMs, AUTHORITY_MS);
  await keep(file, made);
  return made;
}

async function issue(
  directory: string,
  authority: Certified,
  hosts: readonly string[],
  nowMs: number,
): Promise<Certified> {
  const file = join(directory, "serving.json");
  const kept = await read(file, servingSchema);
  const isFit = kept && kept.notAfterMs - nowMs > SERVING_MS / 2 && kept.hosts.join() === hosts.join();
  if (isFit) return kept;
  const { issueServing } = await import("./task-certificates.ts");
  const made = await issueServing(authority, { hosts, nowMs, lifeMs: SERVING_MS });
  await keep(file, { ...made, hosts, notAfterMs: nowMs + SERVING_MS });
  return made;
}

/** undefined: there is none. A damaged authority is an error, because running trainers trust the one that was there. */
async function read<T extends z.ZodType>(file: string, schema: T): Promise<z.infer<T> | undefined> {
  try {
    return schema.parse(JSON.parse(await readFile(file, "utf8")));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw new Error(`${file} cannot be read; remove it when no trainer runs: ${(error as Error).message}`);
  }
}

async function keep(file: string, value: object): Promise<void> {
  const part = await open(`${file}.part`, "w", 0o600);
  await part.writeFile(JSON.stringify(value));
  await part.sync();
  await part.close();
  effect("file", `write ${basename(file)}.part`);
  await rename(`${file}.part`, file);
  effect("file", `rename ${basename(file)}`);
}
