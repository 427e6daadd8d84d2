/** An agent's part in draws of cohorts, with a real ledger; the operator is in memory. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pino } from "pino";
import { afterEach, beforeEach, expect, test } from "vitest";
import type { Journal } from "../../journal/journal.ts";
import { openJournal } from "../../journal/open.ts";
import { commitmentToNonce, isCommitment } from "../../secagg/draw.ts";
import type { DrawCommitments, DrawStep, SignedCommitment } from "../../transport/generated/rondo.v1.ts";
import { policySchema } from "../config.ts";
import { signer } from "../identity.ts";
import { Ledger } from "../ledger.ts";
import { MemoryEvents, MemoryOperator } from "../testing/far-side.ts";
import { testMember } from "../testing/secure-plan.ts";
import { Draws } from "./draws.ts";

const own = testMember("clinic-a");
const federation = "example.org/rondo/clinic-notes";
const members = ["clinic-a", "clinic-b", "clinic-c", "clinic-d"];
const policy = policySchema.parse({ federations: ["example.org/*"], images: ["*"], gpus: { max: 1 } });
let folder: string;
let journal: Journal;
let operator: MemoryOperator;
let events: MemoryEvents;
let draws: Draws;

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "rondo-draws-"));
  operator = new MemoryOperator();
  events = new MemoryEvents();
  await startAgain();
});
afterEach(async () => {
  await journal.close();
  await rm(folder, { recursive: true });
});

async function startAgain(): Promise<void> {
  journal = await openJournal(join(folder, "ledger.db"));
  draws = new Draws({
    ledger: new Ledger(journal),
    link: operator,
    participant: own.participant,
    policy,
    sign: signer(own.privateKey),
    events,
    log: pino({ level: "silent" }),
  });
}

const step = (number: number, what: NonNullable<DrawStep["step"]>, of = federation): DrawStep => ({
  work: { federation: of, round: 3, attempt: number, purpose: "draw", participant: own.participant, step: "draw" },
  step: what,
});
const opening = (number = 1, change = {}) =>
  step(number, { $case: "opening", value: { members, cohortSize: 3, ...change } });
const shown = (number: number, commitments: DrawCommitments["commitments"]) =>
  step(number, { $case: "commitments", value: { commitments } });
const ofOthers = (fill: number): SignedCommitment[] =>
  members.slice(1).map((participant) => ({
    participant,
    commitment: Buffer.alloc(32, fill),
    signature: Buffer.alloc(64, fill),
  }));

/** Its own commitment, as the operator has it. */
async function committed(number = 1): Promise<SignedCommitment> {
  await draws.on(opening(number));
  const { commitment, signature } = operator.draws.at(-1)!;
  return { participant: own.participant, commitment: commitment!, signature: signature! };
}

test("it commits, signed for this very draw, and gives its nonce once its commitment is among those of all", async () => {
  const mine = await committed();
  const identity = Buffer.from(own.identity, "base64");
  expect(isCommitment({ federation, round: 3, number: 1 }, identity, mine.commitment, mine.signature)).toBe(true);
  expect(isCommitment({ federation, round: 3, number: 2 }, identity, mine.commitment, mine.signature)).toBe(false);
  await draws.on(shown(1, [mine, ...ofOthers(1)]));
  const { nonce } = operator.draws.at(-1)!;
  expect(Buffer.from(commitmentToNonce(nonce!))).toEqual(Buffer.from(mine.commitment));
  expect(events.events).toEqual([]);
});

test("the same questions after a restart get the same answers", async () => {
  const mine = await committed();
  await draws.on(shown(1, [mine, ...ofOthers(1)]));
  await journal.close();
  await startAgain();
  await draws.on(opening());
  await draws.on(shown(1, [mine, ...ofOthers(1)]));
  expect(operator.draws.slice(2)).toEqual(operator.draws.slice(0, 2));
});

test.each([
  { says: "before it has committed", ask: async () => shown(1, ofOthers(1)) },
  { says: "when its own commitment is not shown", ask: () => committed().then(() => shown(1, ofOthers(1))) },
  {
    says: "when another commitment is shown as its own",
    ask: async () => shown(1, [{ ...(await committed()), commitment: Buffer.alloc(32) }, ...ofOthers(1)]),
  },
  {
    says: "when somebody is shown twice",
    ask: async () => shown(1, [await committed(), ofOthers(1)[0]!, ofOthers(1)[0]!]),
  },
  {
    says: "when a stranger is shown",
    ask: async () => shown(1, [await committed(), { ...ofOthers(1)[0]!, participant: "clinic-x" }]),
  },
])("its nonce is not given $says", async ({ ask }) => {
  await draws.on(await ask());
  expect(operator.draws.filter(({ nonce }) => nonce)).toEqual([]);
  expect(events.events).toMatchObject([{ reason: "DrawDeclined" }]);
});

test("commitments that were made after its nonce was known are not answered", async () => {
  const mine = await committed();
  await draws.on(shown(1, [mine, ...ofOthers(1)]));
  await draws.on(shown(1, [mine, ...ofOthers(2)]));
  expect(operator.draws.filter(({ nonce }) => nonce)).toHaveLength(1);
  expect(events.events).toMatchObject([{ reason: "DrawDeclined" }]);
});

test("a draw is opened once: not with other members, nor with another size of cohorts", async () => {
  await committed();
  await draws.on(opening(1, { cohortSize: 4 }));
  await draws.on(opening(1, { members: members.slice(0, 3) }));
  expect(operator.draws).toHaveLength(1);
  expect(events.events).toHaveLength(2);
});

test("a name that no federation and no member can have is not answered, and stands nowhere", async () => {
  const value = { members, cohortSize: 3 };
  await draws.on(step(1, { $case: "opening", value }, "example.org/rondo/\u001b[2J"));
  expect(events.events).toEqual([]);
  await draws.on(opening(1, { members: [...members, "\u001b[2J"].sort() }));
  expect(events.events).toMatchObject([{ reason: "DrawDeclined" }]);
  expect(operator.draws).toEqual([]);
});

test("it takes part in three draws of a round, each with a nonce of its own, and in no fourth", async () => {
  const nonces = [];
  for (const number of [1, 2, 3, 4]) {
    await draws.on(opening(number));
    nonces.push(Buffer.from(operator.draws.at(-1)!.commitment!).toString("hex"));
  }
  expect(operator.draws).toHaveLength(3);
  expect(new Set(nonces).size).toBe(3);
});

test.each([
  { says: "of a federation that the site does not allow", ask: () => step(1, opening().step!, "other.org/rondo/x") },
  { says: "that this participant is not in", ask: () => opening(1, { members: members.slice(1) }) },
  { says: "whose members are out of order", ask: () => opening(1, { members: [...members].reverse() }) },
  { says: "into cohorts of two", ask: () => opening(1, { cohortSize: 2 }) },
])("it takes no part in a draw $says", async ({ ask }) => {
  await draws.on(ask());
  expect(operator.draws).toEqual([]);
});
