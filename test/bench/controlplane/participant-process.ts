/**
 * Many participants in one process: `participant-process.ts FILE`, a JSON array of enrolled sites (enrol.ts). Each has its own identity, certificate, connection,
 * signatures and, in secure rounds, the real session of operator/secagg/participant (test/integration/operator/player.ts); training is a constant.
 * Ends with SIGTERM. What one of them meets that it should not goes to standard error.
 */
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { setInterval as every } from "node:timers";
import { privateKeyFromRaw } from "../../../operator/transport/identity.ts";
import { type Behaviour, Player, trains } from "../../integration/operator/player.ts";
import { trainsSecurely } from "../../integration/operator/secure-player.ts";
import type { EnrolledSite } from "./enrol.ts";

/** Everywhere in the delta; with 262,144 values its norm is far below the clip. */
const VALUE = 1e-4;
const TELL_MS = 1000;

const contributes: Behaviour = (player, assignment) =>
  assignment.plan.secure ? trainsSecurely(VALUE)(player, assignment) : trains(VALUE)(player, assignment);

const file = process.argv[2]!;
const sites = JSON.parse(readFileSync(file, "utf8")) as EnrolledSite[];
const players = sites.map(({ invitation, identity, credential }) => {
  const home = join(dirname(file), invitation.participant);
  mkdirSync(home, { recursive: true });
  writeFileSync(join(home, "credential.json"), JSON.stringify(credential), { mode: 0o600 });
  return new Player(invitation, dirname(file), contributes, privateKeyFromRaw(Buffer.from(identity, "base64")));
});
for (const player of players) await player.start();

const told = new Map<string, number>();
every(() => {
  for (const { name, errors } of players) {
    for (const error of errors.slice(told.get(name) ?? 0)) console.error(name, error);
    told.set(name, errors.length);
  }
}, TELL_MS);

process.once("SIGTERM", () => {
  void Promise.all(players.map((player) => player.stop())).finally(() => process.exit(0));
});
