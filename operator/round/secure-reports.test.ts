import { describe, expect, test } from "vitest";
import { applyAnswer, hasReleased } from "./cohorts.ts";
import { applyContribution, applyFault, applyReport, applyUploadBegun, type Report, uploadFault } from "./reports.ts";
import { cohort, FIVE, secureAt, secureTraining } from "./testing/cohorts.ts";
import { contribution, T0 } from "./testing/worlds.ts";

const stateOf = (record: ReturnType<typeof secureAt>, name = "ann") =>
  record.participants.find((p) => p.name === name)!.state;
const own = (record: ReturnType<typeof secureAt>) => record.secure!.cohorts[0]!;
const status = (state: string): Report => ({
  kind: "status",
  state,
  job: "",
  step: 0,
  steps: 0,
  reason: "",
  message: "",
});
const fails = (accused: string[] = []): Report => ({ kind: "fail", reason: "BadShare", message: "x", accused });

describe("answers in a secure round", () => {
  test("keys make a participant Trained, whatever its last status said, and later statuses change nothing", () => {
    const record = applyAnswer(secureTraining([cohort(FIVE)], { ann: "Training" }), "ann", "advertise", T0);
    expect(stateOf(record)).toBe("Trained");
    expect(own(record).answered).toEqual(["ann"]);
    expect(stateOf(applyReport(record, "ann", status("Training"), T0))).toBe("Trained");
  });

  test("it shares when its shares are here, not when its agent says so", () => {
    const asked = secureAt("share", []);
    expect(stateOf(applyReport(asked, "ann", status("Sharing"), T0))).toBe("Trained");
    expect(stateOf(applyAnswer(asked, "ann", "share", T0))).toBe("Sharing");
  });

  test.each([
    { says: "an answer that comes again", record: secureAt("share", ["ann"]), name: "ann", step: "share" },
    { says: "an answer of another step", record: secureAt("share", []), name: "ann", step: "consistency" },
    {
      says: "an answer of one who is out",
      record: secureAt("share", [], { states: { ann: "Failed" } }),
      name: "ann",
      step: "share",
    },
    {
      says: "an answer of one who was not in the set before",
      record: secureAt("share", [], { cohort: { u1: FIVE.slice(1) } }),
      name: "ann",
      step: "share",
    },
    {
      says: "an answer in a cohort that has ended",
      record: secureAt("share", [], { cohort: { failure: { code: "CohortTooSmall", message: "x" } } }),
      name: "ann",
      step: "share",
    },
  ] as const)("$says changes nothing", ({ record, name, step }) => {
    expect(applyAnswer(record, name, step, T0)).toBe(record);
  });

  test("what came is wrong: before its contribution the sender is Excluded, afterwards it is not waited for", () => {
    const why = { reason: "SignatureInvalid", message: "ann has not signed it" };
    const before = applyFault(secureAt("share", []), "ann", why, T0);
    expect(before.participants[0]).toMatchObject({ state: "Excluded", ...why });
    const after = applyFault(secureAt("consistency", []), "ann", why, T0);
    expect(stateOf(after)).toBe("Contributed");
    expect(own(after).gone).toEqual([{ name: "ann", ...why }]);
  });

  test("an accusation is kept with who made it, and only members of the cohort can be meant", () => {
    const record = applyReport(secureAt("mask", []), "ann", fails(["eve", "mallory", "ann", "eve"]), T0);
    expect(stateOf(record)).toBe("Failed");
    expect(own(record).accusations).toEqual([{ by: "ann", accused: ["eve"] }]);
  });

  test.each([
    { says: "before shares were dealt", record: secureTraining([cohort(FIVE)]) },
    { says: "while shares are dealt", record: secureAt("share", ["ann", "eve"]) },
    { says: "of one who has dealt none", record: secureAt("mask", [], { cohort: { u2: FIVE.slice(0, 4) } }) },
    { says: "by one who has been dealt none", record: secureAt("mask", [], { cohort: { u2: FIVE.slice(1) } }) },
    { says: "by one who has opened all of them to mask its vector", record: secureAt("mask", ["ann"]) },
  ])("an accusation $says names nobody", ({ record }) => {
    const after = applyReport(record, "ann", fails(["eve"]), T0);
    expect(after).not.toBe(record);
    expect(own(after).accusations).toEqual([]);
  });

  test("a session that is aborted after its contribution leaves the contribution", () => {
    const record = applyReport(secureAt("consistency", []), "ann", fails(), T0);
    expect(stateOf(record)).toBe("Contributed");
    expect(own(record).gone).toMatchObject([{ name: "ann", reason: "BadShare" }]);
    expect(applyReport(record, "ann", fails(), T0)).toBe(record);
  });

  test("an agent has nothing left to erase when its last answer is here", () => {
    expect(hasReleased(secureAt("unmask", ["ann"]), "ann")).toBe(true);
    expect(hasReleased(secureAt("unmask", []), "ann")).toBe(false);
    expect(hasReleased(secureAt("consistency", ["ann"]), "ann")).toBe(false);
  });
});

describe("masked vectors", () => {
  const vector = { participant: "ann", root: "aa", byteLength: 100 };
  test.each([
    { says: "of who is asked may come", record: secureAt("mask", []), upload: vector, code: undefined },
    { says: "before sharing is over may not", record: secureAt("share", ["ann"]), upload: vector, code: "NotExpected" },
    {
      says: "after masking is over may not",
      record: secureAt("consistency", [], { cohort: { u3: FIVE.slice(1) }, states: { ann: "Sharing" } }),
      upload: vector,
      code: "NotExpected",
    },
    {
      says: "of who did not share may not",
      record: secureAt("mask", [], { cohort: { u2: FIVE.slice(1) } }),
      upload: vector,
      code: "NotExpected",
    },
    {
      says: "one byte short may not",
      record: secureAt("mask", []),
      upload: { ...vector, byteLength: 99 },
      code: "WrongLength",
    },
    {
      says: "one byte long may not",
      record: secureAt("mask", []),
      upload: { ...vector, byteLength: 101 },
      code: "WrongLength",
    },
    { says: "that have come already are known", record: secureAt("mask", ["ann"]), upload: vector, code: undefined },
    {
      says: "with other bytes than the first are refused",
      record: secureAt("mask", ["ann"]),
      upload: { ...vector, root: "bb" },
      code: "Conflict",
    },
  ])("$says", ({ record, upload, code }) => {
    expect(uploadFault(record, upload, T0)?.code).toBe(code);
  });

  test("count for U3 when they are here", () => {
    const record = applyContribution(applyUploadBegun(secureAt("mask", []), "ann", T0), contribution("ann"), T0);
    expect(own(record).answered).toEqual(["ann"]);
    expect(stateOf(record)).toBe("Contributed");
  });
});
