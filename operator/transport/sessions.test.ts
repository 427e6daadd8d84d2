import { expect, test } from "vitest";
import type { TransportFault } from "./faults.ts";
import type { OperatorMessage } from "./generated/rondo.v1.ts";
import { generateIdentity } from "./identity.ts";
import { AttendSession, MOST_UNREAD_MESSAGES } from "./sessions.ts";

const attending = {
  challenge: new Uint8Array(32),
  participant: "clinic-a",
  agentVersion: "0",
  capacity: undefined,
  open: [],
};
const named = { federation: "demo.rondo.dev/rondo/notes", round: 1, attempt: 1 };
const work = { ...named, purpose: "delta", participant: "clinic-a", step: "" };

function session() {
  const written: OperatorMessage[] = [];
  const outlet = { write: (message: OperatorMessage) => written.push(message), unread: () => written.length };
  const opened = new AttendSession(attending, { outlet, planKey: generateIdentity().privateKey, now: () => 5 });
  let ended: TransportFault | undefined;
  opened.onEnd((fault) => {
    ended = fault;
  });
  return { opened, written, ended: () => ended };
}

test("a step and a draw go out under the names of their steps, whatever the caller's work said", () => {
  const { opened, written } = session();
  opened.sendStep({ work, step: { $case: "keys", value: { advertised: [] } } });
  opened.sendDraw({ work: { ...work, purpose: "draw" }, step: undefined });
  expect(written).toMatchObject([
    { sentAtMs: 5, message: { $case: "step", value: { work: { ...work, step: "step" }, step: { $case: "keys" } } } },
    { sentAtMs: 5, message: { $case: "draw", value: { work: { purpose: "draw", step: "draw" } } } },
  ]);
});

test("an agent that reads nothing is cut before more than 64 messages wait for it", () => {
  const { opened, written, ended } = session();
  while (!ended() && written.length < 1_000) opened.sendStep({ work, step: undefined });
  expect(ended()).toMatchObject({ code: "TimedOut" });
  expect(written.length).toBeLessThanOrEqual(MOST_UNREAD_MESSAGES + 1);
});
