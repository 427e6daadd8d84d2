/**
 * Credentials out of a Secret of type kubernetes.io/dockerconfigjson.
 * Holds: no message of a fault quotes the Secret.
 */
import { z } from "zod";
import { PublishFault } from "./fault.ts";

export interface Credentials {
  username: string;
  password: string;
}

const configSchema = z.object({
  auths: z.record(
    z.string(),
    z.object({
      auth: z.string().optional(),
      username: z.string().optional(),
      password: z.string().optional(),
    }),
  ),
});

/**
 * @param json      the value of `.dockerconfigjson`
 * @param registry  host[:port]
 * @returns undefined when the Secret says nothing of this registry: then it is asked without credentials
 * @throws PublishFault "CredentialsInvalid"
 */
export function credentialsFor(json: string, registry: string): Credentials | undefined {
  let config: z.infer<typeof configSchema>;
  try {
    config = configSchema.parse(JSON.parse(json));
  } catch {
    throw new PublishFault("CredentialsInvalid", "the credentials Secret is no .dockerconfigjson with auths");
  }
  const entry = Object.entries(config.auths).find(([server]) => hostOf(server) === registry)?.[1];
  if (entry === undefined) return undefined;
  if (entry.username !== undefined && entry.password !== undefined) {
    return { username: entry.username, password: entry.password };
  }
  const [, username, password] = /^([^:]+):(.*)$/s.exec(Buffer.from(entry.auth ?? "", "base64").toString("utf8")) ?? [];
  if (username === undefined || password === undefined) {
    throw new PublishFault("CredentialsInvalid", `the credentials Secret has no user and password for ${registry}`);
  }
  return { username, password };
}

/** docker login writes `https://host/v1/` for some registries and `host` for others. */
function hostOf(server: string): string {
  return server.replace(/^https?:\/\//, "").replace(/\/.*$/, "");
}
