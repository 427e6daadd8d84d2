/**
 * A participant that lies, against the real coordinator's side (secure-aggregation.md §3): before shares are released its message is refused
 * under its name and the others' sum is right without it; afterwards its shares are named, or the dealer whose shares do not fit.
 */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  type CohortState,
  type CohortStep,
  closeStep,
  type MaskedInput,
  openCohort,
  receive,
  receiveInput,
} from "./coordinator/cohort.ts";
import { recover } from "./coordinator/recover.ts";
import { type SecaggCode, SecaggFault } from "./faults.ts";
import type { Advertisement, Consistency, ParticipantMessage, ShareKeys, Unmask } from "./messages.ts";
import { testCohort } from "./testing/cohort.ts";
import { begin, close, everybodyAnswers, plainSum, runTo, unmaskedSum, type World } from "./testing/conduct.ts";
import {
  advertisementOf,
  changed,
  flipBit,
  freshKeys,
  inconsistentShares,
  signatureOf,
  wrongUnmask,
} from "./testing/lies.ts";
import { inputBody } from "./transcript.ts";

// n = 8, t = 6: two may be lost.
const cohort = testCohort(8);
const { terms } = cohort;
const LIAR = 3;
const SECOND_LIAR = 7;
const STRANGER = 9;

/** Each step with all its honest answers in, none of them closed. */
const asking = (step: CohortStep): World => (step === "advertise" ? begin() : runTo(cohort, step));
const full = {
  advertise: everybodyAnswers(cohort, begin()),
  share: everybodyAnswers(cohort, runTo(cohort, "share")),
  mask: everybodyAnswers(cohort, runTo(cohort, "mask")),
  consistency: everybodyAnswers(cohort, runTo(cohort, "consistency")),
  unmask: everybodyAnswers(cohort, runTo(cohort, "unmask")),
};
const answerTo = <A>(step: keyof typeof full, index = LIAR): A =>
  structuredClone(full[step].state.answers.get(index)) as A;
const otherSession = runTo(testCohort(8, { seed: "another" }), "consistency").state as Extract<
  CohortState,
  { step: "consistency" }
>;

describe("M0", () => {
  const honest = answerTo<Advertisement>("advertise");
  const other = answerTo<Advertisement>("advertise", 1);
  const signed = (change: Partial<Advertisement>) => advertisementOf(cohort, { ...honest, ...change });

  test.each<{ says: string; code: SecaggCode; value: Advertisement }>([
    { says: "under another member's index", code: "MessageMalformed", value: other },
    { says: "with a key that is too short", code: "MessageMalformed", value: signed({ cPk: honest.cPk.subarray(1) }) },
    {
      says: "with a mask key of a small subgroup",
      code: "MessageMalformed",
      value: signed({ sPk: new Uint8Array(32) }),
    },
    {
      says: "with a channel key of a small subgroup",
      code: "MessageMalformed",
      value: signed({ cPk: new Uint8Array(32) }),
    },
    { says: "with one key for both uses", code: "MessageMalformed", value: signed({ cPk: honest.sPk }) },
    { says: "with another member's mask key", code: "MessageMalformed", value: signed({ sPk: other.sPk }) },
    { says: "with another member's commitment", code: "MessageMalformed", value: signed({ cmB: other.cmB }) },
    {
      says: "with a signature a bit off",
      code: "SignatureInvalid",
      value: { ...honest, signature: flipBit(honest.signature) },
    },
    { says: "with an empty signature", code: "SignatureInvalid", value: { ...honest, signature: new Uint8Array() } },
    {
      says: "with keys of another session",
      code: "SignatureInvalid",
      value: { ...honest, ...freshKeys(LIAR, "unsigned") },
    },
  ])("$says", ({ value, code }) => {
    const state = withOthers("advertise");
    expectRefused(state, LIAR, { $case: "advertise", value }, code);
    expectRightSumWithout("advertise", state);
  });
});

describe("M1", () => {
  const honest = answerTo<ShareKeys>("share");
  const { shares } = honest;

  test.each<{ says: string; code: SecaggCode; value: ShareKeys }>([
    { says: "with a share missing", code: "MessageMalformed", value: { ...honest, shares: shares.slice(1) } },
    {
      says: "with a share twice",
      code: "MessageMalformed",
      value: { ...honest, shares: [shares[0]!, ...shares.slice(0, -1)] },
    },
    {
      says: "with a share too many",
      code: "MessageMalformed",
      value: { ...honest, shares: [...shares, { ...shares[0]!, index: STRANGER }] },
    },
    {
      says: "with a share for itself",
      code: "MessageMalformed",
      value: { ...honest, shares: changed(shares, 4, { index: LIAR }) },
    },
    { says: "with shares out of order", code: "MessageMalformed", value: { ...honest, shares: shares.toReversed() } },
    {
      says: "with a ciphertext that is too short",
      code: "MessageMalformed",
      value: { ...honest, shares: changed(shares, 4, { ciphertext: shares[0]!.ciphertext.subarray(1) }) },
    },
    { says: "with an ack a bit off", code: "SignatureInvalid", value: { ...honest, ack: flipBit(honest.ack) } },
    {
      says: "with an ack of another list of keys",
      code: "SignatureInvalid",
      value: { ...honest, ack: signatureOf(LIAR, "t1", otherSession.t1) },
    },
    {
      says: "with another member's ack",
      code: "SignatureInvalid",
      value: { ...honest, ack: answerTo<ShareKeys>("share", 1).ack },
    },
  ])("$says", ({ value, code }) => {
    const state = withOthers("share");
    expectRefused(state, LIAR, { $case: "share", value }, code);
    expectRightSumWithout("share", state);
  });
});

describe("the masked vector", () => {
  const { t1 } = runTo(cohort, "mask").state as Extract<CohortState, { step: "mask" }>;
  const honest: MaskedInput = { ...answerTo<MaskedInput>("mask"), byteLength: terms.byteLength };
  const signed = (byteLength: number) => ({
    ...honest,
    byteLength,
    signature: signatureOf(LIAR, "input", inputBody(t1, honest.root, byteLength)),
  });

  test.each<{ says: string; code: SecaggCode; input: MaskedInput }>([
    { says: "longer than planned, and signed so", code: "MessageMalformed", input: signed(terms.byteLength + 4) },
    { says: "shorter than planned, and signed so", code: "MessageMalformed", input: signed(terms.byteLength - 4) },
    { says: "empty", code: "MessageMalformed", input: signed(0) },
    {
      says: "with another root than it signed",
      code: "SignatureInvalid",
      input: { ...honest, root: flipBit(honest.root) },
    },
    {
      says: "with a root that is too short",
      code: "MessageMalformed",
      input: { ...honest, root: honest.root.subarray(1) },
    },
    {
      says: "with another member's signature",
      code: "SignatureInvalid",
      input: { ...honest, signature: answerTo<MaskedInput>("mask", 1).signature },
    },
    {
      says: "signed for another session",
      code: "SignatureInvalid",
      input: {
        ...honest,
        signature: signatureOf(LIAR, "input", inputBody(otherSession.t1, honest.root, terms.byteLength)),
      },
    },
  ])("$says", ({ input, code }) => {
    const state = withOthers("mask");
    expectFault(() => receiveInput(terms, state, input), code);
    expectRightSumWithout("mask", state);
  });
});

describe("M3", () => {
  const honest = answerTo<Consistency>("consistency");

  test.each<{ says: string; signature: Uint8Array }>([
    { says: "a bit off", signature: flipBit(honest.signature, 77) },
    { says: "too short", signature: honest.signature.subarray(1) },
    { says: "of another member", signature: answerTo<Consistency>("consistency", 1).signature },
    { says: "of another list of contributions", signature: signatureOf(LIAR, "t2", otherSession.t2) },
    {
      says: "under another label",
      signature: signatureOf(LIAR, "t1", (full.consistency.state as { t2: Uint8Array } & CohortState).t2),
    },
  ])("a signature $says", ({ signature }) => {
    const state = withOthers("consistency");
    expectRefused(state, LIAR, { $case: "consistency", value: { signature } }, "SignatureInvalid");
    expectRightSumWithout("consistency", state);
  });
});

describe("M4", () => {
  const { shares } = answerTo<Unmask>("unmask");
  const first = shares[0]!.share!;

  test.each<{ says: string; value: Unmask }>([
    { says: "no share at all", value: { shares: [] } },
    { says: "a share missing", value: { shares: shares.slice(1) } },
    { says: "a share twice", value: { shares: [shares[0]!, ...shares.slice(0, -1)] } },
    {
      says: "both shares of a member",
      value: { shares: [{ index: 1, share: { ...first, $case: "pairShare" } }, ...shares] },
    },
    {
      says: "the other share of a member",
      value: { shares: changed(shares, 1, { share: { ...first, $case: "pairShare" } }) },
    },
    { says: "a share that is empty", value: { shares: changed(shares, 1, { share: undefined }) } },
    {
      says: "a share that is too long",
      value: { shares: changed(shares, 1, { share: { ...first, value: new Uint8Array(33) } }) },
    },
    { says: "shares out of order", value: { shares: shares.toReversed() } },
    { says: "a share of a stranger", value: { shares: changed(shares, 8, { index: STRANGER }) } },
  ])("$says", ({ value }) => {
    const state = withOthers("unmask");
    expectRefused(state, LIAR, { $case: "unmask", value }, "MessageMalformed");
    expectRightSumWithout("unmask", state);
  });
});

describe("out of order", () => {
  const messages = (step: Exclude<keyof typeof full, "mask">, index = LIAR): ParticipantMessage =>
    ({ $case: step, value: answerTo(step, index) }) as ParticipantMessage;

  test.each<{ says: string; step: CohortStep; message: ParticipantMessage }>([
    { says: "M1 before the keys are out", step: "advertise", message: messages("share") },
    { says: "M3 before a vector is in", step: "mask", message: messages("consistency") },
    { says: "M3 before the shares are out", step: "share", message: messages("consistency") },
    { says: "M4 before all have agreed", step: "consistency", message: messages("unmask") },
    { says: "M4 at the very start", step: "advertise", message: messages("unmask") },
  ])("$says", ({ step, message }) => expectRefused(asking(step).state, LIAR, message, "NotExpected"));

  test("a vector before the shares are out", () => {
    const input = { ...answerTo<MaskedInput>("mask"), byteLength: terms.byteLength };
    expectFault(() => receiveInput(terms, runTo(cohort, "share").state, input), "NotExpected");
  });

  test.each(["advertise", "share", "consistency", "unmask"] as const)(
    "an answer to %s that comes when the step is over",
    (step) => {
      const late = closeStep(terms, full[step].state, everybodyBut(LIAR, full[step].state));
      expectRefused(late, LIAR, messages(step), "NotExpected");
    },
  );

  test("a member that was lost before does not come back", () => {
    const lost = runTo(cohort, "share", { advertise: [LIAR] });
    expectRefused(lost.state, LIAR, messages("share"), "NotExpected");
  });

  test("nobody answers for a member that the cohort does not have", () => {
    const stranger: ParticipantMessage = {
      $case: "advertise",
      value: advertisementOf(cohort, freshKeys(STRANGER, "s")),
    };
    expectFault(() => receive(terms, openCohort(), STRANGER, stranger), "NotExpected");
  });

  test.each(["advertise", "share", "consistency", "unmask"] as const)(
    "the same answer to %s changes nothing, now and later",
    (step) => {
      const { state } = full[step];
      expect(receive(terms, state, LIAR, messages(step))).toBe(state);
      const later = closeStep(terms, state);
      expect(receive(terms, later, LIAR, messages(step))).toBe(later);
    },
  );

  test("the same vector changes nothing, now and later; another one is refused", () => {
    const { state } = full.mask;
    const input = { ...answerTo<MaskedInput>("mask"), byteLength: terms.byteLength };
    const another = { ...input, root: flipBit(input.root) };
    for (const held of [state, closeStep(terms, state), full.unmask.state]) {
      expect(receiveInput(terms, held, input)).toBe(held);
      expectFault(() => receiveInput(terms, held, another), "AnswerDiffers");
    }
  });

  test.each<ParticipantMessage>([
    { $case: "advertise", value: advertisementOf(cohort, freshKeys(LIAR, "second thoughts")) },
    { $case: "share", value: { ...answerTo<ShareKeys>("share"), ack: flipBit(answerTo<ShareKeys>("share").ack) } },
    { $case: "consistency", value: { signature: flipBit(answerTo<Consistency>("consistency").signature) } },
    { $case: "unmask", value: wrongUnmask(answerTo<Unmask>("unmask")) },
  ])("another answer to $$case is refused, now and later", (message) => {
    const { state } = full[message.$case];
    expectRefused(state, LIAR, message, "AnswerDiffers");
    expectRefused(closeStep(terms, state), LIAR, message, "AnswerDiffers");
  });
});

describe("wrong shares in M4", () => {
  test.each([
    { says: "one liar", lies: [[LIAR, "all"]] },
    { says: "a liar about one member only", lies: [[LIAR, 5]] },
    {
      says: "two liars",
      lies: [
        [LIAR, "all"],
        [SECOND_LIAR, "all"],
      ],
    },
    {
      says: "two liars about different members",
      lies: [
        [LIAR, 1],
        [SECOND_LIAR, 8],
      ],
    },
  ] as { says: string; lies: [number, "all" | number][] }[])("$says: named, and the sum is right", ({ lies }) => {
    const world = complete(lies);
    expect(recover(terms, world.state).liars).toEqual(lies.map(([index]) => index));
    expect(unmaskedSum(cohort, world)).toEqual(plainSum(world));
  });

  test("a lost member's shares may be wrong as well", () => {
    const asked = runTo(cohort, "unmask", { mask: [1] });
    const world = complete([[LIAR, 1]], asked);
    expect(recover(terms, world.state).liars).toEqual([LIAR]);
    expect(unmaskedSum(cohort, world)).toEqual(plainSum(world));
  });

  test("more liars than can be spared: no sum at all", () => {
    const world = complete([
      [LIAR, "all"],
      [SECOND_LIAR, "all"],
      [1, "all"],
    ]);
    expectFault(() => recover(terms, world.state), "InconsistentDealer");
  });

  test("no share to spare and a liar: no sum at all", () => {
    const world = close(cohort, complete([[LIAR, 5]], undefined, "unmask"), [1, 2, 3, 4, 5, 6]);
    expect(fault(() => recover(terms, world.state))).toMatchObject({
      code: "InconsistentDealer",
      accused: ["clinic-005"],
    });
  });

  test("fewer than t answers: no sum at all", () => {
    expect(
      fault(() =>
        recover(
          terms,
          full.unmask.state.step === "unmask"
            ? { ...full.unmask.state, step: "complete", answers: new Map() }
            : openCohort(),
        ),
      ),
    ).toMatchObject({ code: "NotEnoughShares" });
    expectFault(() => recover(terms, openCohort()), "NotEnoughShares");
  });
});

describe("an inconsistent dealer", () => {
  test("of other secrets than it committed to: the attempt is lost under its name", () => {
    const world = dealtBy((others) => others);
    expect(fault(() => recover(terms, world.state))).toMatchObject({
      code: "InconsistentDealer",
      accused: ["clinic-003"],
    });
  });

  test("of shares that fit nothing: the attempt is lost under its name", () => {
    const scatter = (shares: { x: number; share: Uint8Array }[]) =>
      shares.map(({ x, share }) => ({ x, share: flipBit(share, x) }));
    const world = dealtBy((_, honest) => ({
      selfShares: scatter(honest.selfShares),
      pairShares: scatter(honest.pairShares),
    }));
    expect(fault(() => recover(terms, world.state))).toMatchObject({
      code: "InconsistentDealer",
      accused: ["clinic-003"],
    });
  });

  test("that is lost before it masks costs the attempt as well: its masks are in the others' vectors", () => {
    const world = dealtBy((others) => others, { mask: [LIAR] });
    expect(fault(() => recover(terms, world.state))).toMatchObject({
      code: "InconsistentDealer",
      accused: ["clinic-003"],
    });
  });

  test("of one wrong share makes its receiver look like a liar, and cannot spoil the sum", () => {
    const world = dealtBy((others, honest) => ({
      selfShares: honest.selfShares.map((share, at) => (at === 4 ? others.selfShares[at]! : share)),
      pairShares: honest.pairShares,
    }));
    expect(recover(terms, world.state).liars).toEqual([5]);
    expect(unmaskedSum(cohort, world)).toEqual(plainSum(world));
  });
});

test("whatever bytes arrive are taken or refused with a code, and a refusal changes nothing", () => {
  const bytes = fc.oneof(
    ...[0, 31, 32, 64, 80].map((length) => fc.uint8Array({ minLength: length, maxLength: length })),
  );
  const index = fc.oneof(fc.integer({ min: -1, max: 10 }), fc.constantFrom(2 ** 32, 1.5));
  const share = fc.oneof(
    fc.constant(undefined),
    fc.record({ $case: fc.constantFrom("selfShare" as const, "pairShare" as const), value: bytes }),
  );
  const message: fc.Arbitrary<ParticipantMessage> = fc.oneof(
    fc.record({
      $case: fc.constant("advertise" as const),
      value: fc.record({ index, cPk: bytes, sPk: bytes, cmB: bytes, signature: bytes }),
    }),
    fc.record({
      $case: fc.constant("share" as const),
      value: fc.record({ ack: bytes, shares: fc.array(fc.record({ index, ciphertext: bytes }), { maxLength: 8 }) }),
    }),
    fc.record({ $case: fc.constant("consistency" as const), value: fc.record({ signature: bytes }) }),
    fc.record({
      $case: fc.constant("unmask" as const),
      value: fc.record({ shares: fc.array(fc.record({ index, share }), { maxLength: 8 }) }),
    }),
  );
  const step = fc.constantFrom<CohortStep>("advertise", "share", "mask", "consistency", "unmask", "complete");
  const anything = fc.property(step, fc.integer({ min: 0, max: 9 }), message, (at, from, said) => {
    const { state } = asking(at);
    const before = structuredClone(state);
    const refusal = fault(() => receive(terms, state, from, said));
    expect(refusal.code).toMatch(/^(MessageMalformed|SignatureInvalid|NotExpected|AnswerDiffers)$/);
    expect(refusal.message.length).toBeLessThanOrEqual(256);
    expect(state).toEqual(before);
  });
  fc.assert(anything, { numRuns: 500 });
});

/** A step with the answers of everybody but the liar in. */
function withOthers(step: keyof typeof full): CohortState {
  const { state } = full[step];
  const answers = new Map<number, unknown>(state.answers);
  answers.delete(LIAR);
  return { ...state, answers } as CohortState;
}

const everybodyBut = (index: number, state: CohortState) =>
  [...state.answers.keys()].filter((other) => other !== index);

function fault(doing: () => unknown): SecaggFault {
  try {
    doing();
  } catch (error) {
    if (error instanceof SecaggFault) return error;
    throw error;
  }
  throw new Error("nothing was refused");
}

function expectFault(doing: () => unknown, code: SecaggCode): void {
  expect(fault(doing)).toMatchObject({ code });
}

function expectRefused(state: CohortState, index: number, message: ParticipantMessage, code: SecaggCode): void {
  expect(fault(() => receive(terms, state, index, message))).toMatchObject({
    code,
    accused: ["clinic-003"],
    message: expect.stringContaining("clinic-003"),
  });
}

/** The step ends with the state that the refused message has left, and the session with it. */
function expectRightSumWithout(step: keyof typeof full, state: CohortState): void {
  let world: World = { ...full[step], state: closeStep(terms, state) };
  while (world.state.step !== "complete") world = close(cohort, everybodyAnswers(cohort, world));
  expect(unmaskedSum(cohort, world)).toEqual(plainSum(world));
}

/** A session in which some reveal wrong shares: [who, of whom]. */
function complete(
  lies: [number, "all" | number][],
  asked = runTo(cohort, "unmask"),
  until: "unmask" | "complete" = "complete",
): World {
  const honest = everybodyAnswers(cohort, asked);
  const answers = new Map(honest.state.answers as ReadonlyMap<number, Unmask>);
  for (const [index, of] of lies) answers.set(index, wrongUnmask(answers.get(index)!, of));
  const world = { ...honest, state: { ...honest.state, answers } as CohortState };
  return until === "unmask" ? world : close(cohort, world);
}

/** A session whose dealer LIAR follows the protocol but for what it deals. */
function dealtBy(dealt: Parameters<typeof inconsistentShares>[3], lost: { mask?: number[] } = {}): World {
  const honest = full.share;
  const bad = inconsistentShares(cohort, LIAR, honest.participants.get(LIAR)!, dealt);
  const answers = new Map(honest.state.answers as ReadonlyMap<number, ShareKeys>).set(LIAR, bad.message);
  const participants = new Map(honest.participants).set(LIAR, bad.next);
  let world: World = { ...honest, participants, state: { ...honest.state, answers } as CohortState };
  world = close(cohort, world);
  while (world.state.step !== "complete") {
    const { step } = world.state;
    const answered = everybodyAnswers(cohort, world);
    const gone = new Set(step === "mask" ? lost.mask : []);
    world = close(
      cohort,
      answered,
      [...answered.state.answers.keys()].filter((index) => !gone.has(index)),
    );
  }
  return world;
}
