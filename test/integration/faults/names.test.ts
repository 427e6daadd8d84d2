import { expect, test } from "vitest";
import { nameOf } from "./names.ts";

const DIGEST = "0123456789abcdef".repeat(4);

test.each([
  {
    says: "uids are taken out",
    kind: "journal" as const,
    what: "put rounds/123e4567-e89b-12d3-a456-426614174000",
    name: "journal: put rounds/<uid>",
  },
  {
    says: "digests are taken out",
    kind: "file" as const,
    what: `rename spool/${DIGEST}`,
    name: "file: rename spool/<digest>",
  },
  {
    says: "namespaces and the federation's name are taken out",
    kind: "api" as const,
    what: "create jobs site-1-0a1b2c3d/f17-r1-site-1-1",
    name: "api: create jobs fed-r1-site-1-1",
  },
  {
    says: "an event has the name of its object",
    kind: "api" as const,
    what: "create events coordinator-0a1b2c3d/f17-r1.0123456789abcdef012",
    name: "api: create events fed-r1",
  },
  {
    says: "a commit for several sites has the name of one for a single site",
    kind: "journal" as const,
    what: "put secagg/u/0/share/site-2, put rounds/u, put secagg/u/0/share/site-1",
    name: "journal: put rounds/u, put secagg/u/0/share/<site>",
  },
  {
    says: "of many rows the spaces are named",
    kind: "journal" as const,
    what: "remove plans/u, remove secagg/u/0/mask/a, remove secagg/u/0/share/a, remove secagg/u/0/unmask/a",
    name: "journal: remove plans/…, remove secagg/…",
  },
])("$says", ({ kind, what, name }) => expect(nameOf(kind, what, "f17")).toBe(name));
