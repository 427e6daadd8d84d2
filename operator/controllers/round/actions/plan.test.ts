import { generateKeyPairSync, sign } from "node:crypto";
import { expect, test } from "vitest";
import type { Participant } from "../../../api/participant.ts";
import type { Draw } from "../../../round/record.ts";
import { commitmentBytes, commitmentToNonce } from "../../../secagg/draw.ts";
import type { Context } from "../../context.ts";
import { drawnRoster } from "./plan.ts";

const config = { trustDomain: "example.org", namespace: "fl" } as Context["config"];
const WHICH = { federation: "example.org/fl/fed", round: 7, number: 2 };
const base64 = (data: Uint8Array) => Buffer.from(data).toString("base64");

function site(name: string) {
  const { publicKey, privateKey } = generateKeyPairSync("ed25519");
  const nonce = new Uint8Array(32).fill(1);
  const commitment = commitmentToNonce(nonce);
  const signature = base64(sign(null, commitmentBytes(WHICH, commitment), privateKey));
  const identity = base64(publicKey.export({ format: "der", type: "spki" }).subarray(-32));
  return { name, identity, drawn: { name, commitment: base64(commitment), signature, nonce: base64(nonce) } };
}

/** The Participants as they are now. */
const objects = (identities: Record<string, string>) => ({
  participant: (name: string) =>
    identities[name] === undefined
      ? undefined
      : ({ spec: { enrolment: 1, identity: { enrolment: 1, ed25519: identities[name] } } } as unknown as Participant),
});

const drawn = (members: Draw["members"]) => ({
  federation: "fed",
  number: 7,
  draw: { number: 2, cohortSize: 6, stage: "drawn", untilMs: 0, members, leftOut: [] } as Draw,
});

test("the roster of a draw is its members with the keys that they committed with", () => {
  const [ann, ben] = [site("ann"), site("ben")];
  const identities = { ann: ann.identity, ben: ben.identity };
  const roster = drawnRoster({ config, objects: objects(identities) }, drawn([ann.drawn, ben.drawn]));
  expect(roster).toEqual(["ann", "ben"].map((name) => ({ participant: name, identity: identities[name as "ann"] })));
});

test.each<{ says: string; identities: Record<string, string> }>([
  { says: "was deleted", identities: {} },
  { says: "has another key by now", identities: { ben: site("ben").identity } },
])("no plan is made of a draw of which a member $says: every agent would refuse it", ({ identities }) => {
  const [ann, ben] = [site("ann"), site("ben")];
  const now = objects({ ann: ann.identity, ...identities });
  expect(() => drawnRoster({ config, objects: now }, drawn([ann.drawn, ben.drawn]))).toThrow(
    "Participant ben was deleted, or enrolled anew, after cohorts were drawn",
  );
});

test("where all fit into one cohort nobody has committed to anything", () => {
  const ann = site("ann");
  expect(drawnRoster({ config, objects: objects({ ann: ann.identity }) }, drawn([{ name: "ann" }]))).toEqual([
    { participant: "ann", identity: ann.identity },
  ]);
});
