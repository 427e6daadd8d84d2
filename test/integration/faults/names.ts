/**
 * What an effect is called in every run of the same round: names that are drawn anew (uids, digests, the case's federation, namespaces, events'
 * suffixes) are taken out, so that "the second time this happens" means the same in two runs.
 */
import type { EffectKind } from "../../../operator/fault-injection.ts";

/** What one process is told before a case; written to `order.json` in its folder (hook.ts). */
export interface Order {
  /** Of the case: counting begins anew with each. */
  id: string;
  federation: string;
  kill?: Moment;
}

/** Right after the nth effect of that name. */
export interface Moment {
  effect: string;
  nth: number;
}

export function nameOf(kind: EffectKind, what: string, federation: string): string {
  const said = what
    .replaceAll(/[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}/g, "<uid>")
    .replaceAll(/(sha256:)?[0-9a-f]{64}/g, "<digest>")
    .replaceAll(/\b[a-z]+[0-9-]*-[0-9a-f]{8}\//g, "")
    .replaceAll(/(?<=[/#])site-\d/g, "<site>")
    .replace(/^((?:create|patch) events .*)\.[0-9a-f]{15,}$/, "$1")
    .replaceAll(new RegExp(`\\b${federation}\\b`, "g"), "fed");
  return `${kind}: ${kind === "journal" ? withoutRepetition(said) : said}`;
}

/** Of a commit: what is written, once, of many rows the spaces alone; their order and number differ when several are written at once. */
function withoutRepetition(said: string): string {
  const writes = [...new Set(said.split(", "))].sort();
  if (writes.length < 4) return writes.join(", ");
  return [...new Set(writes.map((write) => write.replace(/(?<=^\w+ [\w-]+)\/.*$/, "/…")))].join(", ");
}
