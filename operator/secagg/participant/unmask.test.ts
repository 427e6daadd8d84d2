/** M4 and its refusals: what opens a sum, and that it opens no other. */
import { describe, expect, test } from "vitest";
import { hex } from "../bytes.ts";
import { publicKeyOf, signedBytes } from "../key-agreement.ts";
import type { IndexedSignature, RevealedShare } from "../messages.ts";
import { combine } from "../shares.ts";
import { commitmentTo } from "../transcript.ts";
import type { Outcome } from "./session.ts";
import { storedState } from "./stored.ts";
import { Cohort, flipped, flood } from "./testing/cohort.ts";

const VICTIM = 2;

/** Five of five shared, 4 dropped out before its input came. */
const signedBy = (u3 = [1, 2, 3, 5]): Cohort => new Cohort({ size: 5 }).share().mask().sign(u3);

function shown(
  change: (signatures: IndexedSignature[], cohort: Cohort) => IndexedSignature[],
  cohort = signedBy(),
): Outcome {
  return cohort.show(VICTIM, {
    $case: "unmask",
    value: { signatures: change(cohort.unmask().value.signatures, cohort) },
  });
}

const abortedWith = (code: string) => ({
  kind: "abort",
  next: { kind: "Aborted", from: "Signed", code, accused: [], message: expect.any(String) },
});

const released = (cohort: Cohort, index: number): RevealedShare[] => {
  const { state } = cohort.player(index);
  if (state.kind !== "Released") throw new Error(state.kind);
  return state.message.shares;
};

describe("an honest request", () => {
  test("is answered with a self share of each survivor and a pair share of each of the others, never both", () => {
    const cohort = signedBy().release();
    for (const index of cohort.u3) {
      const cases = released(cohort, index).map((share) => [share.index, share.share?.$case]);
      expect(cases, `of ${index}`).toEqual([
        [1, "selfShare"],
        [2, "selfShare"],
        [3, "selfShare"],
        [4, "pairShare"],
        [5, "selfShare"],
      ]);
    }
  });

  test("gives, with t answers, the secrets that were committed to", () => {
    const cohort = signedBy().release();
    for (const dealer of cohort.u2) {
      const shares = cohort.u3.map((x) => ({ x, share: released(cohort, x)[dealer - 1]!.share!.value }));
      const secret = combine(shares);
      const { sPk, cmB } = cohort.advertisement(dealer);
      if (dealer === 4) expect(hex(publicKeyOf(secret))).toBe(hex(sPk));
      else expect(hex(commitmentTo(secret)), `of ${dealer}`).toBe(hex(cmB));
    }
  });

  test("needs no more than t of the survivors' signatures", () => {
    const cohort = new Cohort({ size: 5 }).share().mask().sign();
    const outcome = shown((signatures) => signatures.filter(({ index }) => index !== VICTIM), cohort);
    expect(outcome).toMatchObject({ kind: "send", next: { kind: "Released" } });
  });

  test("leaves no secret of the session", () => {
    const cohort = signedBy();
    expect(storedState(cohort.player(VICTIM).state).secrets).toBeDefined();
    cohort.release();
    expect(storedState(cohort.player(VICTIM).state).secrets).toBeUndefined();
  });
});

describe("signatures", () => {
  test("aborts when fewer than the threshold have signed", () => {
    expect(shown((signatures) => signatures.slice(0, 3))).toEqual(abortedWith("TooFewSignatures"));
  });

  test("aborts when one signature is counted twice", () => {
    expect(shown((signatures) => [signatures[0]!, ...signatures.slice(0, 3)])).toEqual(abortedWith("SurvivorsInvalid"));
  });

  test("aborts when one member's signature is passed off as another's", () => {
    const outcome = shown((signatures) => [...signatures.slice(0, 3), { ...signatures[0]!, index: 5 }]);
    expect(outcome).toEqual(abortedWith("TranscriptDiffers"));
  });

  test("aborts when a member that dropped out has signed", () => {
    const cohort = signedBy();
    const { state } = cohort.player(VICTIM);
    if (state.kind !== "Signed") throw new Error(state.kind);
    const signature = cohort.player(4).deps.sign(signedBytes("t2", state.t2));
    const outcome = shown((signatures) => [...signatures.slice(0, 3), { index: 4, signature }, signatures[3]!], cohort);
    expect(outcome).toEqual(abortedWith("SurvivorsInvalid"));
  });

  test.each([0, 6, 2.5])("aborts when the unknown member %d has signed", (index) => {
    expect(shown((signatures) => [...signatures.slice(0, 3), { ...signatures[3]!, index }])).toEqual(
      abortedWith("SurvivorsInvalid"),
    );
  });

  test("aborts when a member signed another T2: it was shown other survivors", () => {
    // To 5 the coordinator says that 3 dropped out, not 4.
    const split = new Cohort({ size: 5 }).share().mask().sign([1, 2, 4, 5]);
    const outcome = shown((signatures) => signatures.map((own) => (own.index === 5 ? split.agreement(5) : own)));
    expect(outcome).toEqual(abortedWith("TranscriptDiffers"));
  });

  test("aborts when a signature is changed, though enough others are good", () => {
    const cohort = new Cohort({ size: 5 }).share().mask().sign();
    const outcome = shown(
      (signatures) => signatures.map((own) => (own.index === 5 ? { ...own, signature: flipped(own.signature) } : own)),
      cohort,
    );
    expect(outcome).toEqual(abortedWith("TranscriptDiffers"));
  });

  test("aborts when the acks of T1 are offered as signatures on T2", () => {
    const outcome = shown((signatures, cohort) => signatures.map(({ index }) => cohort.ack(index)));
    expect(outcome).toEqual(abortedWith("TranscriptDiffers"));
  });

  test("refuses an endless list before it looks at one signature", () => {
    expect(shown(flood)).toEqual(abortedWith("SurvivorsInvalid"));
  });
});
