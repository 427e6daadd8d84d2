/**
 * A participant that sends what nobody honest would, against the real coordinator's side (secure-aggregation.md §3): the message is refused
 * under its name, and the others' sum is right without it.
 */
import { describe, test } from "vitest";
import { type CohortState, type MaskedInput, receiveInput } from "./coordinator/cohort.ts";
import type { SecaggCode } from "./faults.ts";
import type { Advertisement, Consistency, ShareKeys, Unmask } from "./messages.ts";
import { runTo } from "./testing/conduct.ts";
import {
  answerTo,
  cohort,
  expectFault,
  expectRefused,
  expectRightSumWithout,
  full,
  LIAR,
  otherSession,
  STRANGER,
  terms,
  withOthers,
} from "./testing/liar.ts";
import { advertisementOf, changed, flipBit, freshKeys, signatureOf } from "./testing/lies.ts";
import { inputBody } from "./transcript.ts";

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
