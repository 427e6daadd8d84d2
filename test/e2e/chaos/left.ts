/** What a round has left that should be gone: Jobs, pods, Secrets and folders at the sites; plan, keys, answers and files at the operator. */
import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";
import type { FederationRound } from "../../../operator/api/federation-round.ts";
import type { FederationUnderTest } from "../failures/federation.ts";
import { journalledKeys } from "../failures/journals.ts";

/** Of what only an open round needs (controllers/README.md). */
const SPACES = ["plans", "round-keys", "secagg"];

/** @returns a line for each thing */
export async function leftOf({ sites, guest, state }: FederationUnderTest, round: FederationRound): Promise<string[]> {
  const { name, uid } = round.metadata;
  const atSites = await Promise.all([...sites, guest].map((site) => site.leftOf(name)));
  const sessions = [...sites, guest].flatMap((site) => sessionOf(site, round));
  const journal = join(state, "operator", "journal.sqlite");
  const rows = SPACES.flatMap((space) =>
    journalledKeys(journal, space)
      .filter((key) => key === uid || key.startsWith(`${uid}/`))
      .map((key) => `operator: ${space} ${key}`),
  );
  return [...atSites.flat(), ...sessions, ...rows];
}

/** Secrets of a session that is over. */
function sessionOf(site: FederationUnderTest["sites"][number], { spec, status }: FederationRound): string[] {
  if (status.number === undefined) return [];
  const isOf = (key: string) => key.includes(`/${spec.federation}#${String(status.number).padStart(16, "0")}#`);
  const ledger = join(site.folders.agent, "ledger.db");
  if (!existsSync(ledger)) return [];
  return journalledKeys(ledger, "session-secrets")
    .filter(isOf)
    .map((key) => `${site.name}: secrets of ${key}`);
}

/** Uploads in the operator's spool, once no round is open. */
export function spooled({ state }: FederationUnderTest): string[] {
  const folder = join(state, "operator", "spool");
  return existsSync(folder) ? readdirSync(folder) : [];
}
