/**
 * A participant that speaks when it is not asked, twice, or gibberish, against the real coordinator's side: refused with a code, and nothing
 * has changed.
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
import type { Consistency, ParticipantMessage, ShareKeys, Unmask } from "./messages.ts";
import { runTo } from "./testing/conduct.ts";
import {
  answerTo,
  asking,
  cohort,
  expectFault,
  expectRefused,
  fault,
  full,
  LIAR,
  STRANGER,
  terms,
} from "./testing/liar.ts";
import { advertisementOf, flipBit, freshKeys, wrongUnmask } from "./testing/lies.ts";

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

const everybodyBut = (index: number, state: CohortState) =>
  [...state.answers.keys()].filter((other) => other !== index);
