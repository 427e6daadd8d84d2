/**
 * The Secret of one task in the cluster: written after its Job, because only then it can name the Job as owner from its first moment on.
 * Holds: needs no right but to create and delete Secrets. To give an owner later would need `patch`, whose answer shows the whole
 * object: that right reads every Secret of the namespace, for RBAC knows no labels.
 * The Job's pod waits for the Secret; kubelet tries its volumes again after half a second.
 */
import type { KubeClient } from "../kube/client.ts";
import { isKubeFault } from "../kube/faults.ts";
import { type Job, SECRETS, type Secret } from "../kube/resources.ts";
import { ownedByJob } from "./job.ts";

/** @param job as the API server has it. A Secret that lies there already (a crash in between, a renewed certificate) is replaced. */
export async function writeTaskSecret(client: KubeClient, secret: Secret, job: Job): Promise<void> {
  const owned = { ...secret, metadata: { ...secret.metadata, ownerReferences: [ownedByJob(job)] } };
  try {
    await client.create(SECRETS, owned);
  } catch (error) {
    if (!isKubeFault(error, "AlreadyExists")) throw error;
    await client.delete(SECRETS, secret.metadata);
    await client.create(SECRETS, owned);
  }
}
