/** Who and what is let in, on real clusters: a wrong manifest and a wrong invitation are refused with a sentence. */
import { randomBytes } from "node:crypto";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { Participant } from "../../../operator/api/participant.ts";
import { PARTICIPANTS, PODS } from "../../../operator/kube/resources.ts";
import { createAuthority } from "../../../operator/transport/certificates.ts";
import type { Invitation } from "../../../operator/transport/invitation.ts";
import { NAMESPACE } from "../../demo/install.ts";
import { restrictedNamespace } from "../../demo/volumes.ts";
import { agentValues, FederationUnderTest, TRAINER_IMAGE } from "./federation.ts";
import { federation, standardFederations } from "./federations.ts";
import { eventually } from "./rounds.ts";
import type { Site } from "./site.ts";

let under: FederationUnderTest;
let west: Site;

beforeAll(async () => {
  under = await FederationUnderTest.open();
  [, , west] = under.sites as [Site, Site, Site, Site];
  await under.coordinator.apply(standardFederations());
});
afterAll(() => under?.close());

test("a manifest with a wrong field is refused with the field's name", async () => {
  const right = federation("wrong");
  const wrong = { ...right, spec: { ...right.spec, secagg: true } };
  await expect(under.coordinator.apply([wrong])).rejects.toThrow(/secagg/);
});

describe("an agent is not let in", () => {
  /** Each in a namespace of its own at one site, told by its own log why. */
  const intruders = {
    guessed: { sentence: /this join token was not issued for this participant/, code: "TokenUnknown" },
    used: { sentence: /this join token was used before/, code: "TokenUsed" },
    late: { sentence: /this join token has expired/, code: "TokenExpired" },
    deceived: { sentence: /did not prove to be the operator of the invitation/, code: "OperatorUntrusted" },
  };

  beforeAll(async () => {
    const names = Object.keys(intruders);
    await Promise.all(names.map((name) => under.applyParticipant(name, { sector: "intruders" })));
    const invitations: Record<string, Invitation> = {
      guessed: { ...(await under.invite("guessed")), joinToken: randomBytes(32).toString("base64") },
      used: await under.invite("used"),
      late: await under.invite("late", "1s"),
      deceived: {
        ...(await under.invite("deceived")),
        ca: (await createAuthority({ trustDomain: "demo.rondo.dev", nowMs: Date.now() })).certificatePem,
      },
    };
    // Whoever had the same invitation was faster.
    await installAgent("first", invitations.used!);
    await eventually(async () => expect((await participant("used")).spec.identity).toBeDefined());
    await Promise.all(names.map((name) => installAgent(name, invitations[name]!)));
  });
  afterAll(async () => {
    await west.kubectl.run(["delete", "namespace", "first", ...Object.keys(intruders), "--wait=false"]);
  });

  test.each([
    ["with a token that was guessed", "guessed"],
    ["with a token that another agent has used", "used"],
    ["with a token that has expired", "late"],
    ["by an operator whose certificate is of another authority", "deceived"],
  ] as const)("%s", async (_, name) => {
    const { code, sentence } = intruders[name];
    await eventually(async () => {
      const said = await logOf(name);
      expect(said).toContain(code);
      expect(said).toMatch(sentence);
    });
    // The same invitation has let another agent in, so that the Participant's status would say nothing of this one.
    expect(await logOf(name)).not.toContain('"connected to the operator"');
  });

  async function installAgent(namespace: string, invitation: Invitation): Promise<void> {
    await west.kubectl.apply([restrictedNamespace(namespace)]);
    await west.kubectl.install("rondo-agent", "charts/rondo-agent", namespace, {
      ...agentValues([TRAINER_IMAGE]),
      invitation,
      persistence: { type: "emptyDir" },
    });
  }

  async function logOf(namespace: string): Promise<string> {
    const { items } = await west.kube.list(PODS, { namespace });
    return west.kube.podLogs(namespace, items[0]!.metadata.name);
  }

  async function participant(name: string): Promise<Participant> {
    return (await under.kube.get(PARTICIPANTS, { namespace: NAMESPACE, name })) as unknown as Participant;
  }
});
