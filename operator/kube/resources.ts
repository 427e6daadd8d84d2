/**
 * The kinds Rondo speaks of, with the shapes client-node generates from Kubernetes' OpenAPI (types only, nothing is
 * imported at run time). The custom resources are raw here; operator/api has their schemas.
 */
import type { CoreV1Event } from "@kubernetes/client-node/dist/gen/models/CoreV1Event.js";
import type { EventsV1Event } from "@kubernetes/client-node/dist/gen/models/EventsV1Event.js";
import type { V1ConfigMap } from "@kubernetes/client-node/dist/gen/models/V1ConfigMap.js";
import type { V1CustomResourceDefinition } from "@kubernetes/client-node/dist/gen/models/V1CustomResourceDefinition.js";
import type { V1Job } from "@kubernetes/client-node/dist/gen/models/V1Job.js";
import type { V1Lease } from "@kubernetes/client-node/dist/gen/models/V1Lease.js";
import type { V1Namespace } from "@kubernetes/client-node/dist/gen/models/V1Namespace.js";
import type { V1Node } from "@kubernetes/client-node/dist/gen/models/V1Node.js";
import type { V1Pod } from "@kubernetes/client-node/dist/gen/models/V1Pod.js";
import type { V1Secret } from "@kubernetes/client-node/dist/gen/models/V1Secret.js";
import type { V1Service } from "@kubernetes/client-node/dist/gen/models/V1Service.js";
import type { KubeObject, ObjectMeta, RawObject, ResourceKind } from "./objects.ts";

/** The generated types say Date where the wire has a string. */
type Wire<T> = T extends Date
  ? string
  : T extends readonly (infer U)[]
    ? Wire<U>[]
    : T extends object
      ? { [K in keyof T]: Wire<T[K]> }
      : T;

type Typed<T> = Omit<Wire<T>, "apiVersion" | "kind" | "metadata"> & KubeObject & { metadata: ObjectMeta };

export type Job = Typed<V1Job>;
export type Pod = Typed<V1Pod>;
export type Secret = Typed<V1Secret>;
export type ConfigMap = Typed<V1ConfigMap>;
export type Service = Typed<V1Service>;
export type Node = Typed<V1Node>;
export type Namespace = Typed<V1Namespace>;
export type KubeLease = Typed<V1Lease>;
export type KubeEvent = Typed<EventsV1Event>;
export type CoreEvent = Typed<CoreV1Event>;
export type CustomResourceDefinition = Typed<V1CustomResourceDefinition>;

function kind<T extends KubeObject = RawObject>(apiVersion: string, name: string, plural: string): ResourceKind<T> {
  return Object.freeze({ apiVersion, kind: name, plural });
}

export const PODS = kind<Pod>("v1", "Pod", "pods");
export const SECRETS = kind<Secret>("v1", "Secret", "secrets");
export const CONFIG_MAPS = kind<ConfigMap>("v1", "ConfigMap", "configmaps");
export const SERVICES = kind<Service>("v1", "Service", "services");
export const NODES = kind<Node>("v1", "Node", "nodes");
export const NAMESPACES = kind<Namespace>("v1", "Namespace", "namespaces");
/** The older form of events: what kubelet and scheduler write, and what carries `involvedObject` in field selectors. */
export const CORE_EVENTS = kind<CoreEvent>("v1", "Event", "events");
export const EVENTS = kind<KubeEvent>("events.k8s.io/v1", "Event", "events");
export const JOBS = kind<Job>("batch/v1", "Job", "jobs");
export const LEASES = kind<KubeLease>("coordination.k8s.io/v1", "Lease", "leases");
export const CUSTOM_RESOURCE_DEFINITIONS = kind<CustomResourceDefinition>(
  "apiextensions.k8s.io/v1",
  "CustomResourceDefinition",
  "customresourcedefinitions",
);

export const FEDERATIONS = kind("rondo.dev/v1alpha1", "Federation", "federations");
export const FEDERATION_ROUNDS = kind("rondo.dev/v1alpha1", "FederationRound", "federationrounds");
export const PARTICIPANTS = kind("rondo.dev/v1alpha1", "Participant", "participants");
export const ADAPTER_VERSIONS = kind("rondo.dev/v1alpha1", "AdapterVersion", "adapterversions");
