/**
 * The first start of an operator and of an agent, from empty volumes, with a death after each lasting effect: keys, certificates and enrolment
 * are there once, whoever made them. `make test` takes a spread of the effects, `make chaos` (RONDO_FAULTS=all) all of them.
 */
import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { type AgentStatus, adminSocket, askAgent } from "../../../operator/agent/local.ts";
import { PARTICIPANTS } from "../../../operator/kube/resources.ts";
import { sharedApiServer } from "../shared-api-server.ts";
import { buildInto, isConnected, type Place, prepareOperator, prepareSite, until } from "./installation.ts";
import type { Moment } from "./names.ts";
import type { Program } from "./program.ts";

const ALL = process.env.RONDO_FAULTS === "all";
const SITE = "site-1";
type Who = "operator" | "agent";

let folder: string;
let build: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "rondo-first-start-"));
  build = buildInto(folder);
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

test.each<Who>(["operator", "agent"])(
  "%s may die after any effect of its first start: the site is enrolled, with one key, and connected",
  async (who) => {
    const { effects } = await firstStart(who);
    expect(effects.length).toBeGreaterThan(5);
    const chosen = ALL ? effects : [effects[1]!, effects[Math.ceil(effects.length / 2)]!, effects.at(-1)!];
    const problems: string[] = [];
    for (const at of chosen) await firstStart(who, at).catch((error: Error) => problems.push(error.message));
    expect(problems).toEqual([]);
  },
  ALL ? 3_600_000 : 300_000,
);

let starts = 0;

/** @returns the effects of the one who may die, until the site is connected */
async function firstStart(who: Who, kill?: Moment): Promise<{ effects: Moment[] }> {
  const id = `s${++starts}`;
  const said = kill ? `${who} after ${kill.effect} #${kill.nth}` : "nobody dies";
  await using undo = new AsyncDisposableStack();
  const api = await sharedApiServer();
  const own = join(folder, id);
  mkdirSync(own);
  const place: Place = { api, build, folder: own, namespace: await api.createNamespace("coordinator"), undo };
  const give = (program: Program, name: Who) =>
    program.give({ id, federation: "none", ...(kill && name === who && { kill }) });

  const { program: operator } = await prepareOperator(place);
  give(operator, "operator");
  await operator.start();
  const { agent } = await prepareSite(place, SITE);
  give(agent, "agent");
  await agent.start();
  const at = { client: api.client, namespace: place.namespace };
  await until(`${SITE} is connected; ${said}`, 30_000, () => isConnected(at, SITE));

  const dead = who === "operator" ? operator : agent;
  // Its first minutes go on: what it does on its own clock is no part of the start.
  if (kill) await until(`the death of ${said}`, 5_000, async () => dead.wasKilledIn(id));
  await Promise.all([operator.ready(), agent.ready()]);
  // Both sides' word: the operator's may be of the agent that died.
  const socket = adminSocket(agent.dataDir);
  const isAttending = () => askAgent<AgentStatus>(socket, "GET", "/v1/status").then((status) => status.connected);
  await until(`${SITE} is connected again; ${said}`, 30_000, async () => {
    return (await isAttending().catch(() => false)) && (await isConnected(at, SITE));
  });
  const participant = await api.client.get(PARTICIPANTS, { ...at, name: SITE });
  expect(participant, said).toMatchObject({ spec: { identity: { enrolment: 1 } } });
  expect([...operator.surprises, ...agent.surprises], said).toEqual([]);
  return { effects: dead.effectsOf(id) };
}
