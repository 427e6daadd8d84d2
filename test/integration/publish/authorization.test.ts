/**
 * Where credentials and tokens go, and where they do not: distribution's token authentication with the real registry
 * checking the signatures, and a registry that sends its readers to an object store.
 */
import { execFileSync } from "node:child_process";
import { createPrivateKey, randomUUID, sign, X509Certificate } from "node:crypto";
import { once } from "node:events";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { createServer, type IncomingHttpHeaders, type RequestListener, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { digestOf, OciRepository } from "../../../operator/publish/oci.ts";
import { pullAdapter } from "../../../operator/publish/pull-adapter.ts";
import { pushAdapter } from "../../../operator/publish/push-adapter.ts";
import { startRegistry } from "../registry.ts";
import { LINEAGE, makeAdapter } from "./adapters.ts";

let folder: string;
let servers: Server[];
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "rondo-authorization-"));
  servers = [];
});
afterEach(async () => {
  for (const server of servers) server.close();
  await rm(folder, { recursive: true });
});

const retry = { attempts: 1 };
const credentials = { username: "me", password: "a-password" };

async function serve(listener: RequestListener): Promise<string> {
  const server = createServer(listener).listen(0, "127.0.0.1");
  servers.push(server);
  await once(server, "listening");
  return `127.0.0.1:${(server.address() as AddressInfo).port}`;
}

describe("token authentication", () => {
  const ISSUER = "rondo tests";
  const SERVICE = "registry";

  /** A token service like those of the large registries: who asks with the password gets what the scopes ask for. */
  async function tokenService(): Promise<{ realm: string; rootcertbundle: string; asked: string[] }> {
    const [key, rootcertbundle] = [join(folder, "key.pem"), join(folder, "cert.pem")];
    const ec = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=tokens"];
    execFileSync("openssl", ["req", "-x509", ...ec, "-keyout", key, "-out", rootcertbundle], { stdio: "ignore" });
    const privateKey = createPrivateKey(await readFile(key));
    const x5c = [new X509Certificate(await readFile(rootcertbundle)).raw.toString("base64")];
    const asked: string[] = [];
    const host = await serve((request, response) => {
      const query = new URL(request.url ?? "/", "http://x").searchParams;
      const isKnown = request.headers.authorization === `Basic ${Buffer.from("me:a-password").toString("base64")}`;
      if (!isKnown || query.get("service") !== SERVICE) {
        response.writeHead(401).end();
        return;
      }
      asked.push(...query.getAll("scope"));
      const access = query.getAll("scope").map((scope) => {
        const [type, name, actions] = scope.split(":");
        return { type, name, actions: actions?.split(",") };
      });
      const now = Math.floor(Date.now() / 1000);
      const claims = {
        iss: ISSUER,
        sub: "me",
        aud: SERVICE,
        exp: now + 60,
        nbf: now - 60,
        iat: now,
        jti: randomUUID(),
        access,
      };
      const part = (value: object) => Buffer.from(JSON.stringify(value)).toString("base64url");
      const signed = `${part({ typ: "JWT", alg: "ES256", x5c })}.${part(claims)}`;
      const signature = sign("sha256", Buffer.from(signed), { key: privateKey, dsaEncoding: "ieee-p1363" });
      response.end(JSON.stringify({ token: `${signed}.${signature.toString("base64url")}` }));
    });
    return { realm: `http://${host}/token`, rootcertbundle, asked };
  }

  test("the token service gets the password, the registry a token for this repository and nothing wider", async () => {
    const { realm, rootcertbundle, asked } = await tokenService();
    await using registry = await startRegistry({ tokens: { realm, service: SERVICE, issuer: ISSUER, rootcertbundle } });
    const options = { registry: registry.host, repository: "adapters/notes", plainHttp: true, retry };
    const repository = new OciRepository({ ...options, credentials });
    const pushed = await pushAdapter(repository, await makeAdapter(folder), LINEAGE);
    const pulled = await pullAdapter(repository, "latest", join(folder, "pulled"), 1 << 20);
    expect(pulled.digest).toBe(pushed.digest);
    expect(new Set(asked)).toEqual(new Set(["repository:adapters/notes:pull", "repository:adapters/notes:pull,push"]));
    await expect(new OciRepository(options).pullManifest("latest")).rejects.toMatchObject({ code: "Unauthorized" });
  });

  test("a password does not go in the clear to a realm that an https registry names", async () => {
    const { realm, asked } = await tokenService();
    const { TokenService } = await import("../../../operator/publish/registry-token.ts");
    const tokens = new TokenService({ credentials, plainHttp: false });
    expect(await tokens.answerChallenge(`Bearer realm="${realm}",service="${SERVICE}"`, "repository:x:pull")).toBe(
      false,
    );
    expect(asked).toEqual([]);
  });
});

describe("a registry that sends its readers to an object store", () => {
  const blob = Buffer.from("weights");

  async function registryAndStore(): Promise<{ repository: OciRepository; seen: IncomingHttpHeaders[] }> {
    const seen: IncomingHttpHeaders[] = [];
    const store = await serve((request, response) => {
      seen.push(request.headers);
      response.end(blob);
    });
    const registry = await serve((request, response) => {
      if (request.headers.authorization === undefined)
        response.writeHead(401, { "www-authenticate": 'Basic realm="r"' });
      else response.writeHead(307, { location: `http://${store}/signed?key=1` });
      response.end();
    });
    return { repository: new OciRepository({ registry, repository: "x", plainHttp: true, credentials, retry }), seen };
  }

  test("is followed, without our credentials", async () => {
    const { repository, seen } = await registryAndStore();
    const file = join(folder, "blob");
    await repository.pullBlob({ digest: digestOf(blob), size: blob.length }, file);
    expect(await readFile(file)).toEqual(blob);
    expect(seen.map(({ authorization }) => authorization)).toEqual([undefined]);
  });

  test("is not believed when the store has other bytes", async () => {
    const { repository } = await registryAndStore();
    const wanted = { digest: digestOf(Buffer.from("WEIGHTS")), size: blob.length };
    await expect(repository.pullBlob(wanted, join(folder, "blob"))).rejects.toMatchObject({ code: "DigestMismatch" });
  });
});
