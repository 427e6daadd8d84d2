/**
 * Finished rounds without the days that they would take: copies of one that really ended, with all that its end has left behind: the
 * FederationRound with its status and its AdapterVersion in the API server, and every row of the operator's journal that names the round.
 * Holds: a copy differs from its original in name, uid, number and version, and in nothing else; so 200 participants' rows are in each.
 * The operator is stopped meanwhile: the journal belongs to one process.
 */
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { KubeClient } from "../../../operator/kube/client.ts";
import { fromKubeconfig } from "../../../operator/kube/credentials.ts";
import { ADAPTER_VERSIONS, FEDERATION_ROUNDS } from "../../../operator/kube/resources.ts";
import { FEDERATION, inTurns, type RoundObject, type World } from "./world.ts";

/** What tells one round from another, wherever it is written. */
interface Identity {
  name: string;
  uid: string;
  number: number;
}

/** As the operator names them; here each round has published the version of its own number. */
const versionName = (number: number) => `${FEDERATION}-v${number}`;

/**
 * @param original  the last round that ended; version and number are equal
 * @param count  of copies; they get the numbers that follow
 */
export async function seedHistory(world: World, original: RoundObject, count: number): Promise<void> {
  const from: Identity = identityOf(original);
  const { version } = (original.status as { adapter?: { version: number } }).adapter ?? {};
  if (version !== from.number) throw new Error(`round ${from.number} has published version ${version}`);
  const numbers = Array.from({ length: count }, (_, i) => from.number + i + 1);
  // As the operator: the API server keeps with every object which manager wrote which field, more bytes than the fields have.
  const client = new KubeClient({
    credentials: fromKubeconfig(world.api.kubeconfig),
    fieldManager: "rondo-operator",
    timeoutMs: 60_000,
  });
  try {
    const copies = await inTurns(numbers, (number) => copyObjects(client, world, original, number));
    copyJournal(join(world.operator.dataDir, "journal.sqlite"), from, copies);
  } finally {
    client.close();
  }
}

export function identityOf({ metadata, status }: RoundObject): Identity {
  return { name: metadata.name, uid: metadata.uid!, number: status!.number! };
}

async function copyObjects(
  client: KubeClient,
  { namespace }: World,
  original: RoundObject,
  number: number,
): Promise<Identity> {
  const from = identityOf(original);
  const name = `history-${number}`;
  const created = await client.create(FEDERATION_ROUNDS, { metadata: { name, namespace }, spec: original.spec });
  const copy: Identity = { name, uid: created.metadata.uid!, number };
  const status = renamed(original.status, from, copy) as object;
  await client.applyStatus(FEDERATION_ROUNDS, { metadata: { name, namespace }, status });
  const version = await client.get(ADAPTER_VERSIONS, { name: versionName(from.number), namespace });
  if (!version) throw new Error(`there is no ${versionName(from.number)}`);
  const metadata = { name: versionName(number), namespace, labels: version.metadata.labels ?? {} };
  await client.create(ADAPTER_VERSIONS, { metadata, spec: renamed(version.spec, from, copy) });
  const phase = { observedGeneration: 1, phase: "Superseded" };
  await client.applyStatus(ADAPTER_VERSIONS, { metadata, status: phase });
  return copy;
}

interface Row {
  space: string;
  key: string;
  value: Uint8Array;
}

function copyJournal(file: string, from: Identity, copies: readonly Identity[]): void {
  const database = new DatabaseSync(file);
  try {
    const all = database.prepare("SELECT space, key, value FROM entry").all() as unknown as Row[];
    const put = database.prepare("INSERT OR REPLACE INTO entry (space, key, value) VALUES (?, ?, ?)");
    database.exec("BEGIN");
    for (const row of all.filter((one) => isOf(one, from)))
      for (const copy of copies) {
        const { space, key, value } = copied(row, from, copy);
        put.run(space, key, value);
      }
    const last = copies.at(-1);
    for (const row of all.filter((one) => one.key === FEDERATION && !isOf(one, from)))
      if (last) put.run(row.space, row.key, advanced(row, from, last));
    const counters = [`round/${FEDERATION}`, `version/${FEDERATION}`];
    for (const name of counters)
      database.prepare("UPDATE counter SET value = value + ? WHERE name = ?").run(copies.length, name);
    database.exec("COMMIT");
  } finally {
    database.close();
  }
}

function isOf({ key, value }: Row, { uid, name }: Identity): boolean {
  const named = [uid, `/${name}`];
  return named.some((text) => key.includes(text)) || Buffer.from(value).includes(uid);
}

function copied({ space, key, value }: Row, from: Identity, to: Identity): Row {
  return { space, key: renamed(key, from, to) as string, value: json(renamed(parsed(value), from, to)) };
}

/** What the journal keeps of the federation itself: its active adapter is now the last copy's, and its rounds are so many more. */
function advanced({ value }: Row, from: Identity, last: Identity): Uint8Array {
  const known = renamed(parsed(value), from, last);
  if (typeof known !== "object" || known === null || !("succeeded" in known)) return json(known);
  return json({ ...known, succeeded: Number(known.succeeded) + last.number - from.number });
}

function parsed(value: Uint8Array): unknown {
  return JSON.parse(Buffer.from(value).toString("utf8"));
}

function json(value: unknown): Uint8Array {
  return Buffer.from(JSON.stringify(value));
}

/** The same with the other round's name, uid, number and version, wherever they are. */
function renamed(value: unknown, from: Identity, to: Identity, field = "version"): unknown {
  if (typeof value === "string") {
    if (value === from.name) return to.name;
    const inside = value.endsWith(`/${from.name}`) ? `${value.slice(0, -from.name.length)}${to.name}` : value;
    return inside.replaceAll(from.uid, to.uid).replaceAll(versionName(from.number), versionName(to.number));
  }
  if (typeof value === "number") {
    if (field === "parentVersion" || field === "parent") return to.number - 1;
    return (field === "number" || field === "version") && value === from.number ? to.number : value;
  }
  if (Array.isArray(value)) return value.map((one) => renamed(one, from, to, field));
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([key, one]) => [key, renamed(one, from, to, key)]));
}
