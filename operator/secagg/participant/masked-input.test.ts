/** From List2 to the masked vector, and its refusals. */
import { describe, expect, test } from "vitest";
import { hex } from "../bytes.ts";
import { verifySigned } from "../key-agreement.ts";
import type { ShareList } from "../messages.ts";
import { inputBody } from "../transcript.ts";
import { masked } from "./masked-input.ts";
import type { Outcome } from "./session.ts";
import { Cohort, flipped, flood, rootOf } from "./testing/cohort.ts";

const VICTIM = 2;

const shared = (size = 5): Cohort => {
  const cohort = new Cohort({ size }).share();
  cohort.u2 = cohort.u1;
  return cohort;
};

function shown(change: (list: ShareList, cohort: Cohort) => ShareList, cohort = shared()): Outcome {
  return cohort.show(VICTIM, { $case: "shares", value: change(cohort.shares(VICTIM).value, cohort) });
}

const abortedWith = (code: string, accused: string[] = []) => ({
  kind: "abort",
  next: { kind: "Aborted", from: "Shared", code, accused, message: expect.any(String) },
});

const without = (list: ShareList, index: number): ShareList => ({
  acks: list.acks.filter((ack) => ack.index !== index),
  shares: list.shares.filter((share) => share.index !== index),
});

describe("an honest list", () => {
  test("opens the keys of masks that cancel in pairs", () => {
    const cohort = shared();
    const keys = new Map(
      cohort.u2.map((index) => {
        const outcome = cohort.show(index, cohort.shares(index));
        if (outcome.kind !== "mask") throw new Error(outcome.kind);
        return [index, outcome.opened.keys] as const;
      }),
    );
    for (const u of cohort.u2) {
      for (const v of cohort.u2) {
        const [mine, theirs] = [keys.get(u)![v - 1]!, keys.get(v)![u - 1]!];
        expect(hex(mine.key), `${u} ${v}`).toBe(hex(theirs.key));
        expect(mine.sign, `${u} ${v}`).toBe(u <= v ? 1 : -1);
      }
    }
    const all = [...keys.values()].flat().map(({ key }) => hex(key));
    expect(new Set(all).size).toBe(5 + (5 * 4) / 2);
  });

  test("may lack members, whose masks are then left out", () => {
    const outcome = shown((list) => without(list, 4));
    if (outcome.kind !== "mask") throw new Error(outcome.kind);
    expect(outcome.opened.u2).toEqual([1, 2, 3, 5]);
    expect(outcome.opened.keys).toHaveLength(4);
    expect(outcome.opened.shares.map(({ index }) => index)).toEqual([1, 2, 3, 5]);
  });

  test("keeps of itself no share of its pair key", () => {
    const outcome = shown((list) => list);
    if (outcome.kind !== "mask") throw new Error(outcome.kind);
    expect(outcome.opened.shares.filter(({ pairShare }) => !pairShare).map(({ index }) => index)).toEqual([VICTIM]);
  });

  test("leads to a state without the session's keys, with a signature over root and length", () => {
    const cohort = shared().mask();
    const { state } = cohort.player(VICTIM);
    if (state.kind !== "Masked") throw new Error(state.kind);
    expect(Object.keys(state.secrets)).toEqual(["shares"]);
    const body = inputBody(state.t1, rootOf(VICTIM), cohort.terms.byteLength);
    expect(verifySigned(cohort.terms.members[VICTIM - 1]!.identity, "input", body, state.input.signature)).toBe(true);
  });

  test("takes no vector of another length than planned", () => {
    const cohort = shared();
    const { deps, state } = cohort.player(VICTIM);
    const outcome = cohort.show(VICTIM, cohort.shares(VICTIM));
    if (outcome.kind !== "mask" || state.kind !== "Shared") throw new Error(outcome.kind);
    const long = { root: rootOf(VICTIM), byteLength: cohort.terms.byteLength + 4 };
    expect(() => masked(deps, state, outcome.opened, long)).toThrow(RangeError);
  });
});

describe("who shares", () => {
  test("aborts when the coordinator lists a member twice", () => {
    const outcome = shown(({ acks, shares }) => ({ acks: [acks[0]!, ...acks], shares: [shares[0]!, ...shares] }));
    expect(outcome).toEqual(abortedWith("RosterDiffers"));
  });

  test("aborts when the coordinator lists somebody who is not in the cohort", () => {
    const outcome = shown(({ acks, shares }) => ({
      acks: [...acks, { ...acks[0]!, index: 6 }],
      shares: [...shares, { ...shares[0]!, index: 6 }],
    }));
    expect(outcome).toEqual(abortedWith("RosterDiffers"));
  });

  test("aborts when the coordinator lists a member that advertised no keys", () => {
    const cohort = new Cohort({ size: 5 }).share([1, 2, 3, 4]);
    cohort.u2 = cohort.u1;
    const outcome = shown(
      ({ acks, shares }) => ({
        acks: [...acks, { ...acks[0]!, index: 5 }],
        shares: [...shares, { ...shares[0]!, index: 5 }],
      }),
      cohort,
    );
    expect(outcome).toEqual(abortedWith("RosterDiffers"));
  });

  test("aborts when the coordinator leaves out this participant", () => {
    const outcome = shown(({ acks, shares }) => ({ acks: acks.filter(({ index }) => index !== VICTIM), shares }));
    expect(outcome).toEqual(abortedWith("RosterDiffers"));
  });

  test("aborts when fewer than the threshold share", () => {
    expect(shown((list) => without(without(list, 4), 5))).toEqual(abortedWith("TooFewMembers"));
  });

  test("aborts when a listed member's shares are missing", () => {
    const outcome = shown(({ acks, shares }) => ({ acks, shares: shares.slice(1) }));
    expect(outcome).toEqual(abortedWith("RosterDiffers"));
  });

  test("aborts when shares come from a member that is not listed", () => {
    const outcome = shown(({ acks, shares }) => ({ acks: acks.slice(0, 4), shares }));
    expect(outcome).toEqual(abortedWith("RosterDiffers"));
  });

  test("aborts when the coordinator sends it shares of its own", () => {
    const outcome = shown(({ acks, shares }) => ({
      acks,
      shares: [shares[0]!, { ...shares[0]!, index: VICTIM }, ...shares.slice(1)],
    }));
    expect(outcome).toEqual(abortedWith("RosterDiffers"));
  });
});

test("refuses an endless list before it looks at one signature or share", () => {
  expect(shown(() => ({ acks: flood(), shares: [] }))).toEqual(abortedWith("RosterDiffers"));
  expect(shown(({ acks }) => ({ acks, shares: flood() }))).toEqual(abortedWith("RosterDiffers"));
});

describe("transcripts", () => {
  test("aborts when a member acknowledged another T1, as another parent adapter gives one", () => {
    const other = new Cohort({ size: 5, context: "another parent" }).share();
    const outcome = shown(({ acks, shares }) => ({
      acks: acks.map((ack) => (ack.index === 4 ? other.ack(4) : ack)),
      shares,
    }));
    expect(outcome).toEqual(abortedWith("TranscriptDiffers"));
  });

  test("aborts when a member was shown other keys than this one", () => {
    // The coordinator showed 4 a list without 5, to the others one with it.
    const split = new Cohort({ size: 5 }).share([1, 2, 3, 4]);
    const outcome = shown(({ acks, shares }) => ({
      acks: acks.map((ack) => (ack.index === 4 ? split.ack(4) : ack)),
      shares,
    }));
    expect(outcome).toEqual(abortedWith("TranscriptDiffers"));
  });

  test("aborts when one ack is another member's", () => {
    const outcome = shown(({ acks, shares }) => ({
      acks: acks.map((ack) => (ack.index === 4 ? { ...acks[0]!, index: 4 } : ack)),
      shares,
    }));
    expect(outcome).toEqual(abortedWith("TranscriptDiffers"));
  });

  test("aborts when an ack has another length", () => {
    const outcome = shown(({ acks, shares }) => ({
      acks: acks.map((ack) => (ack.index === 4 ? { ...ack, signature: ack.signature.subarray(1) } : ack)),
      shares,
    }));
    expect(outcome).toEqual(abortedWith("TranscriptDiffers"));
  });
});

describe("shares", () => {
  test.each([0, 255, 511, 512, 639])("aborts when bit %i of a ciphertext is flipped, and names the sender", (bit) => {
    const outcome = shown(({ acks, shares }) => ({
      acks,
      shares: shares.map((share) =>
        share.index === 4 ? { ...share, ciphertext: flipped(share.ciphertext, bit) } : share,
      ),
    }));
    expect(outcome).toEqual(abortedWith("BadShare", ["clinic-004"]));
  });

  test("aborts when the ciphertexts of two senders are exchanged", () => {
    const outcome = shown(({ acks, shares }) => ({
      acks,
      shares: shares.map((share, at) => ({ ...share, ciphertext: shares[[1, 0, 2, 3][at]!]!.ciphertext })),
    }));
    expect(outcome).toEqual(abortedWith("BadShare", ["clinic-001"]));
  });

  test("aborts when a ciphertext is the one for another member", () => {
    const outcome = shown(({ acks, shares }, cohort) => ({
      acks,
      shares: shares.map((share) => (share.index === 4 ? cohort.ciphertext(4, 3) : share)),
    }));
    expect(outcome).toEqual(abortedWith("BadShare", ["clinic-004"]));
  });

  test("aborts when a ciphertext is its own one, sent back", () => {
    const outcome = shown(({ acks, shares }, cohort) => ({
      acks,
      shares: shares.map((share) => (share.index === 4 ? { ...cohort.ciphertext(VICTIM, 4), index: 4 } : share)),
    }));
    expect(outcome).toEqual(abortedWith("BadShare", ["clinic-004"]));
  });

  test.each([0, 16, 79, 81])("aborts when a ciphertext has %i bytes", (length) => {
    const outcome = shown(({ acks, shares }) => ({
      acks,
      shares: shares.map((share) => (share.index === 4 ? { ...share, ciphertext: new Uint8Array(length) } : share)),
    }));
    expect(outcome).toEqual(abortedWith("BadShare", ["clinic-004"]));
  });
});
