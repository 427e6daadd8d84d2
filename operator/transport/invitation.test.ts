import { beforeAll, expect, test } from "vitest";
import { createAuthority, issueServerCertificate, loadAuthority } from "./certificates.ts";
import { type Invitation, invitationSchema } from "./invitation.ts";

let invitation: Invitation;
let leafPem: string;
beforeAll(async () => {
  const pem = await createAuthority({ trustDomain: "demo.rondo.dev", nowMs: Date.now() });
  const leaf = { trustDomain: "demo.rondo.dev", hosts: [], nowMs: Date.now() };
  leafPem = (await issueServerCertificate(await loadAuthority(pem), leaf)).certificatePem;
  const key = Buffer.alloc(32, 1).toString("base64");
  invitation = {
    schema: 1,
    endpoint: "10.77.0.10:30443",
    enrolmentEndpoint: "[fd00::1]:30444",
    ca: pem.certificatePem,
    planKey: key,
    trustDomain: "demo.rondo.dev",
    namespace: "rondo",
    participant: "clinic-a",
    joinToken: key,
  };
});

test("an invitation is read as it was printed", () => {
  expect(invitationSchema.parse(JSON.parse(JSON.stringify(invitation)))).toEqual(invitation);
});

test.each([
  { says: "without a port", change: () => ({ endpoint: "example.org" }) },
  { says: "with a URL", change: () => ({ endpoint: "https://example.org:443" }) },
  {
    says: "whose CA is no certificate",
    change: () => ({ ca: "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----" }),
  },
  { says: "whose CA is no authority", change: () => ({ ca: leafPem }) },
  { says: "with a short plan key", change: () => ({ planKey: "AAAA" }) },
  { says: "with a field too many", change: () => ({ insecure: true }) },
])("an invitation $says is refused", ({ change }) => {
  expect(invitationSchema.safeParse({ ...invitation, ...change() }).success).toBe(false);
});
