import { expect, test } from "vitest";
import type { AgentReport } from "./coordinator.ts";
import { bodyHash, openSigned } from "./envelope.ts";
import type { Signed } from "./generated/rondo.v1.ts";
import { generateIdentity } from "./identity.ts";
import { Outbox } from "./outbox.ts";

const identity = generateIdentity();
const outbox = () => new Outbox(identity.privateKey);

function consistency(round: number): AgentReport {
  const named = { federation: "demo.rondo.dev/rondo/notes", round, attempt: 1, purpose: "delta" };
  const work = { ...named, participant: "clinic-a", step: "consistency" };
  return { kind: "consistency", body: { work, signature: new Uint8Array(64).fill(round) } };
}
const taken = ({ body }: Signed) => ({ bodySha256: bodyHash(body), reason: "", message: "" });

test("a step's answer waits, signed under its own kind, until it is acknowledged", async () => {
  const box = outbox();
  const { signed, acknowledged } = box.add(consistency(1));
  const expected = { kind: "consistency", publicKey: identity.publicKey, mostBytes: 1_000 } as const;
  expect(openSigned(signed, expected)).toBe(signed.body);
  expect(box.unacknowledged()).toEqual([signed]);
  box.settle(taken(signed));
  await acknowledged;
  expect(box.unacknowledged()).toEqual([]);
});

test("the same answer again is the same message, and every sender learns that it was taken", async () => {
  const box = outbox();
  const first = box.add(consistency(1));
  const second = box.add(consistency(1));
  expect(second.signed).toBe(first.signed);
  expect(box.unacknowledged()).toHaveLength(1);
  box.settle(taken(first.signed));
  await Promise.all([first.acknowledged, second.acknowledged]);
});

test("what is withdrawn is not said again, and the others are, in their order", async () => {
  const box = outbox();
  const [first, second, third] = [1, 2, 3].map((round) => box.add(consistency(round)));
  const rejected = expect(second!.acknowledged).rejects.toMatchObject({ code: "Stopped" });
  box.withdraw(second!.signed);
  await rejected;
  expect(box.unacknowledged()).toEqual([first!.signed, third!.signed]);
});

test("what was acknowledged before it was withdrawn stays acknowledged", async () => {
  const box = outbox();
  const { signed, acknowledged } = box.add(consistency(1));
  box.settle(taken(signed));
  box.withdraw(signed);
  await acknowledged;
});
