/** The OCI repository of a federation, with the credentials its Secret holds. */
import type { FederationSpec } from "../api/federation.ts";
import type { KubeClient } from "../kube/client.ts";
import { isKubeFault } from "../kube/faults.ts";
import { SECRETS } from "../kube/resources.ts";
import { credentialsFor } from "../publish/credentials.ts";
import { PublishFault } from "../publish/fault.ts";
import { OciRepository } from "../publish/oci.ts";
import { parseRepository, type Repository } from "../publish/reference.ts";

export type OciSettings = FederationSpec["publish"]["oci"];

/**
 * @param at  another repository to read from; its own registry's credentials are looked for in the same Secret
 * @throws PublishFault "CredentialsInvalid" | "ReferenceInvalid"; KubeFault
 */
export async function repositoryOf(
  client: KubeClient,
  namespace: string,
  settings: OciSettings,
  { at, signal }: { at?: Repository; signal?: AbortSignal } = {},
): Promise<OciRepository> {
  const where = at ?? parseRepository(settings.repository);
  const secretName = settings.credentialsSecretRef?.name;
  const credentials = secretName ? await credentialsIn(client, namespace, secretName, where.registry) : undefined;
  return new OciRepository({
    registry: where.registry,
    repository: where.repository,
    plainHttp: settings.plainHTTP,
    ...(credentials && { credentials }),
    ...(signal && { signal }),
  });
}

async function credentialsIn(client: KubeClient, namespace: string, name: string, registry: string) {
  const secret = await client.get(SECRETS, { namespace, name }).catch((error: unknown) => {
    if (!isKubeFault(error, "Forbidden")) throw error;
    throw new PublishFault(
      "CredentialsInvalid",
      `the operator may not read Secret ${name}; add it to registryCredentials in the values of its chart`,
    );
  });
  const config = secret?.data?.[".dockerconfigjson"];
  if (!config)
    throw new PublishFault("CredentialsInvalid", `Secret ${name} does not exist or has no .dockerconfigjson`);
  return credentialsFor(Buffer.from(config, "base64").toString("utf8"), registry);
}
