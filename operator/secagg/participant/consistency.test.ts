/** M3 and its refusals: what a coordinator may not say about who is in the sum. */
import { describe, expect, test } from "vitest";
import { hex } from "../bytes.ts";
import { signedBytes, verifySigned } from "../key-agreement.ts";
import type { ConsistencyRequest, SignedInput } from "../messages.ts";
import { inputBody, t1, t2 } from "../transcript.ts";
import type { Outcome } from "./session.ts";
import { Cohort, flipped, flood, rootOf } from "./testing/cohort.ts";

const VICTIM = 2;

const maskedBy = (u2?: number[], size = 5): Cohort => {
  const cohort = new Cohort({ size }).share().mask(u2);
  cohort.u3 = cohort.u2;
  return cohort;
};

function shown(
  change: (request: ConsistencyRequest, cohort: Cohort) => ConsistencyRequest,
  cohort = maskedBy(),
): Outcome {
  return cohort.show(VICTIM, { $case: "consistency", value: change(cohort.consistency().value, cohort) });
}

const withInputs = (change: (inputs: SignedInput[]) => SignedInput[], cohort?: Cohort): Outcome =>
  shown(({ u2, inputs }) => ({ u2, inputs: change(inputs) }), cohort);

const abortedWith = (code: string) => ({
  kind: "abort",
  next: { kind: "Aborted", from: "Masked", code, accused: [], message: expect.any(String) },
});

describe("an honest request", () => {
  test("is answered with a signature on T2 that all share", () => {
    const cohort = maskedBy().sign();
    const transcript1 = t1(
      cohort.terms.c0,
      cohort.u1.map((index) => cohort.advertisement(index)),
    );
    const transcript2 = t2(transcript1, cohort.u2, cohort.consistency().value.inputs);
    for (const { index, signature } of cohort.u3.map((member) => cohort.agreement(member))) {
      expect(verifySigned(cohort.terms.members[index - 1]!.identity, "t2", transcript2, signature), `${index}`).toBe(
        true,
      );
    }
  });

  test("may leave out members whose input did not come", () => {
    const outcome = withInputs((inputs) => inputs.filter(({ index }) => index !== 4));
    expect(outcome).toMatchObject({ kind: "send", next: { kind: "Signed", u3: [1, 2, 3, 5] } });
  });
});

describe("U2", () => {
  test("aborts when U2 lacks a member that it masked for", () => {
    const outcome = shown(({ u2, inputs }) => ({
      u2: u2.filter((index) => index !== 4),
      inputs: inputs.filter(({ index }) => index !== 4),
    }));
    expect(outcome).toEqual(abortedWith("SurvivorsInvalid"));
  });

  test("aborts when U2 has a member that it did not mask for, even if U3 is inside of both", () => {
    const outcome = shown(({ u2, inputs }) => ({ u2: [...u2, 5], inputs }), maskedBy([1, 2, 3, 4]));
    expect(outcome).toEqual(abortedWith("SurvivorsInvalid"));
  });

  test.each([
    { says: "a member twice", u2: [1, 1, 2, 3, 4] },
    { says: "another order", u2: [2, 1, 3, 4, 5] },
    { says: "nobody", u2: [] },
    { says: "strangers", u2: [1, 2, 3, 4, 5, 6] },
    { says: "more members than the cohort", u2: Array.from({ length: 100_000 }, (_, at) => at + 1) },
  ])("aborts when U2 has $says", ({ u2 }) => {
    expect(shown(({ inputs }) => ({ u2, inputs }))).toEqual(abortedWith("SurvivorsInvalid"));
  });
});

describe("U3", () => {
  test("aborts when U3 shrinks below the threshold", () => {
    expect(withInputs((inputs) => inputs.slice(0, 3))).toEqual(abortedWith("TooFewMembers"));
  });

  test("aborts when this participant is said to have dropped out", () => {
    expect(withInputs((inputs) => inputs.filter(({ index }) => index !== VICTIM))).toEqual(
      abortedWith("SurvivorsInvalid"),
    );
  });

  test("aborts when U3 lists a member twice", () => {
    expect(withInputs((inputs) => [inputs[0]!, ...inputs])).toEqual(abortedWith("SurvivorsInvalid"));
  });

  test("aborts when U3 has a member that shared no keys", () => {
    const cohort = maskedBy([1, 2, 3, 4]);
    const outcome = withInputs((inputs) => [...inputs, { ...inputs[0]!, index: 5 }], cohort);
    expect(outcome).toEqual(abortedWith("SurvivorsInvalid"));
  });

  test.each([0, 6, 1.5])("aborts when U3 has the unknown member %d", (index) => {
    expect(withInputs((inputs) => [...inputs.slice(0, 4), { ...inputs[4]!, index }])).toEqual(
      abortedWith("SurvivorsInvalid"),
    );
  });

  test("refuses an endless list before it looks at one root or signature", () => {
    expect(withInputs(flood)).toEqual(abortedWith("SurvivorsInvalid"));
  });
});

describe("inputs", () => {
  const changed = (index: number, change: (input: SignedInput) => SignedInput) => (inputs: SignedInput[]) =>
    inputs.map((input) => (input.index === index ? change(input) : input));

  test("aborts when its own root is another", () => {
    const outcome = withInputs(changed(VICTIM, (input) => ({ ...input, root: flipped(input.root) })));
    expect(outcome).toEqual(abortedWith("InputInvalid"));
  });

  test("aborts when its own root is another and its own key signed that", () => {
    const cohort = maskedBy();
    const { deps, state } = cohort.player(VICTIM);
    if (state.kind !== "Masked") throw new Error(state.kind);
    const root = rootOf(77);
    const signature = deps.sign(signedBytes("input", inputBody(state.t1, root, cohort.terms.byteLength)));
    expect(
      withInputs(
        changed(VICTIM, (input) => ({ ...input, root, signature })),
        cohort,
      ),
    ).toEqual(abortedWith("InputInvalid"));
  });

  test("aborts when another member's root is not the one it signed", () => {
    const outcome = withInputs(changed(4, (input) => ({ ...input, root: flipped(input.root) })));
    expect(outcome).toEqual(abortedWith("InputInvalid"));
  });

  test("aborts when a member signed an input of another length than planned", () => {
    const cohort = maskedBy();
    const { deps, state } = cohort.player(4);
    if (state.kind !== "Masked") throw new Error(state.kind);
    const signature = deps.sign(signedBytes("input", inputBody(state.t1, rootOf(4), cohort.terms.byteLength - 4)));
    expect(
      withInputs(
        changed(4, (input) => ({ ...input, signature })),
        cohort,
      ),
    ).toEqual(abortedWith("InputInvalid"));
  });

  test("aborts when a member's input is of another session", () => {
    const other = new Cohort({ size: 5, context: "the round before" }).share().mask();
    expect(withInputs(changed(4, () => other.input(4)))).toEqual(abortedWith("InputInvalid"));
  });

  test("aborts when one member's input is passed off as another's", () => {
    expect(withInputs((inputs) => changed(4, () => ({ ...inputs[0]!, index: 4 }))(inputs))).toEqual(
      abortedWith("InputInvalid"),
    );
  });

  test("aborts when a root has another length, even if its member signed it", () => {
    // In T2 a root is not length-prefixed: a longer one could stand for another list.
    const cohort = maskedBy();
    const { deps, state } = cohort.player(4);
    if (state.kind !== "Masked") throw new Error(state.kind);
    for (const root of [rootOf(4).subarray(1), new Uint8Array(68)]) {
      const signature = deps.sign(signedBytes("input", inputBody(state.t1, root, cohort.terms.byteLength)));
      const outcome = withInputs(
        changed(4, (input) => ({ ...input, root, signature })),
        cohort,
      );
      expect(outcome, `${root.length} bytes`).toEqual(abortedWith("InputInvalid"));
    }
  });
});

test("another survivor set is another T2", () => {
  const all = maskedBy();
  const fewer = maskedBy();
  fewer.u3 = [1, 2, 3, 4];
  const signed = [all, fewer].map((cohort) => cohort.show(VICTIM, cohort.consistency()));
  const hashes = signed.map((outcome) =>
    outcome.kind === "send" && outcome.next.kind === "Signed" ? hex(outcome.next.t2) : "",
  );
  expect(new Set(hashes).size).toBe(2);
});
