import { expect, test } from "vitest";
import type { RosterEntry, RosterView } from "../agent/roster.ts";
import { rosterText } from "./agent-roster.ts";

const federation = "example.org/rondo/clinic-notes";
const print = (letter: string) => `SHA256:${letter.repeat(43)}`;
const entry = (participant: string, change: Partial<RosterEntry>): RosterEntry => ({
  federation,
  participant,
  identity: "",
  fingerprint: print("b"),
  since: "2026-11-24T21:40:05.000Z",
  state: "pinned",
  by: "firstUse",
  replaces: false,
  round: null,
  ...change,
});
const view = (change: Partial<RosterView>): RosterView => ({
  participant: "clinic-a",
  fingerprint: print("a"),
  mode: "firstUse",
  entries: [],
  ...change,
});

test("a site engineer sees its own fingerprint, everybody's, what waits for an answer, and the very command that accepts it", () => {
  const changed = entry("clinic-c", { fingerprint: print("d"), state: "proposed", by: null, replaces: true, round: 7 });
  const text = rosterText(view({ entries: [entry("clinic-b", {}), entry("clinic-c", { by: "accepted" }), changed] }));
  expect(text).toBe(`This site is clinic-a; the others must see its key as ${print("a")}

FEDERATION                      PARTICIPANT  FINGERPRINT                                         SINCE                 STATE
example.org/rondo/clinic-notes  clinic-b     ${print("b")}  2026-11-24 21:40 UTC  pinned at first use
example.org/rondo/clinic-notes  clinic-c     ${print("b")}  2026-11-24 21:40 UTC  pinned, accepted by this site
example.org/rondo/clinic-notes  clinic-c     ${print("d")}  2026-11-24 21:40 UTC  NOT ACCEPTED, another key, shown in round 7

Compare each fingerprint with the site that it belongs to, by a way that does not lead through the operator: by telephone, in a
meeting. An operator that enrolled these participants itself would see this site's delta, whatever is encrypted.
Trust is firstUse: what was pinned at first use is as honest as the operator was at that moment, until you have compared it.

Rounds with a key that is not accepted are refused (RosterChanged). Once its owner has confirmed it:
  rondo agent roster accept clinic-c --federation ${federation} --fingerprint ${print("d")}
`);
});

test("before the first secure round there is nobody to compare", () => {
  expect(rosterText(view({}))).toContain("No other participant's key is known yet");
});

test("a site that pins says which keys its file does not list", () => {
  const stranger = entry("clinic-x", { state: "unlisted", by: null, round: 3 });
  const listed = entry("clinic-b", { federation: "*", state: "listed", by: null, since: null });
  const text = rosterText(view({ mode: "pinned", entries: [listed, stranger] }));
  expect(text).toMatch(/\* +clinic-b .* - +pinned by policy\.trust\.roster/);
  expect(text).toMatch(/clinic-x .* NOT LISTED in policy\.trust\.roster, shown in round 3/);
  expect(text).not.toContain("roster accept");
});
