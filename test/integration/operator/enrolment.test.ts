/** Join tokens against the real operator: what a site with a wrong invitation is told. */
import { afterEach, beforeEach, expect, test } from "vitest";
import type { Participant } from "../../../operator/api/participant.ts";
import { invite } from "../../../operator/cli/invite.ts";
import { PARTICIPANTS } from "../../../operator/kube/resources.ts";
import { enrol, renew } from "../../../operator/transport/enrol-client.ts";
import { generateIdentity, rawPublicKey } from "../../../operator/transport/identity.ts";
import { trains } from "./player.ts";
import { TestWorld } from "./world.ts";

let world: TestWorld;
beforeEach(async () => {
  world = await TestWorld.make();
  await world.startOperator();
});
afterEach(() => world.stop());

const invited = (name: string, nowMs = Date.now()) =>
  invite(world.client, { name, namespace: world.namespace, ttlMs: 60_000, nowMs });

/** The operator's cache sees the invitation a moment after it was made. */
async function asks(invitation: Awaited<ReturnType<typeof invited>>, identity = generateIdentity().privateKey) {
  const applicant = { invitation, identity, now: Date.now };
  return world.until(
    () =>
      enrol(applicant).catch((error: { code?: string }) => {
        if (error.code === "ParticipantUnknown") return undefined;
        throw error;
      }),
    "the operator knows the Participant",
  );
}

test("the first identity that shows a token owns it, and is answered again; another one is refused", async () => {
  const invitation = await invited("ann");
  const identity = generateIdentity().privateKey;
  await asks(invitation, identity);
  await asks(invitation, identity);
  await expect(asks(invitation)).rejects.toMatchObject({ code: "TokenUsed" });
  const participant = await world.get<Participant>("participants", "ann");
  expect(participant?.spec.identity).toEqual({
    ed25519: Buffer.from(rawPublicKey(identity)).toString("base64"),
    enrolment: 1,
  });
  expect(participant?.metadata.annotations?.["rondo.dev/join-token-sha256"]).toMatch(/^[0-9a-f]{64}$/);
  expect(JSON.stringify(participant)).not.toContain(invitation.joinToken);
});

test("an expired token and one that was never issued are refused with their own words", async () => {
  await expect(asks(await invited("ann", Date.now() - 120_000))).rejects.toMatchObject({ code: "TokenExpired" });
  const invitation = await invited("ben");
  const other = { ...invitation, joinToken: Buffer.alloc(32, 1).toString("base64") };
  await expect(asks(other)).rejects.toMatchObject({ code: "TokenUnknown" });
});

test("a second key for an enrolled participant needs a higher spec.enrolment, which cuts the first one off", async () => {
  const player = await world.addPlayer("ann", trains(0.5));
  await expect(asks(await invited("ann"))).rejects.toMatchObject({ code: "TokenUsed" });
  const { namespace } = world;
  await world.client.patchMerge(PARTICIPANTS, { namespace, name: "ann" }, { spec: { enrolment: 2 } });
  await world.until(async () => player.disconnections.length > 0, "the first key is cut off");
  const fresh = generateIdentity().privateKey;
  await asks(await invited("ann"), fresh);
  await renew({ invitation: await invited("ann"), identity: fresh, now: Date.now });
  const participant = await world.get<Participant>("participants", "ann");
  expect(participant?.spec.identity?.enrolment).toBe(2);
});

test("an invitation of another operator's authority does not connect", async () => {
  const other = await TestWorld.make();
  try {
    await other.startOperator();
    const mine = await invited("ann");
    const theirs = await invite(other.client, {
      name: "ann",
      namespace: other.namespace,
      ttlMs: 60_000,
      nowMs: Date.now(),
    });
    const mixed = { ...mine, ca: theirs.ca };
    await expect(asks(mixed)).rejects.toMatchObject({ code: "OperatorUntrusted" });
  } finally {
    await other.stop();
  }
});
