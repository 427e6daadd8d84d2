/**
 * PersistentVolumes of the demo: what a platform team's storage would provide, as folders of this machine.
 * Claims, not hostPath volumes, are what the pods use, so that every namespace can enforce the restricted Pod Security profile.
 */
import { chownSync, mkdirSync } from "node:fs";

/** The uid that operator, agent, registry and trainer run as. */
const RUN_AS = 10_001;

export interface Folder {
  /** Name of the claim in the namespace; the volume is called `<namespace>-<name>`. */
  name: string;
  path: string;
  access: "ReadOnlyMany" | "ReadWriteOnce";
}

/** Makes a folder that pods may write. */
export function writableFolder(path: string): string {
  mkdirSync(path, { recursive: true, mode: 0o700 });
  chownSync(path, RUN_AS, RUN_AS);
  return path;
}

/** A bound pair of PersistentVolume and PersistentVolumeClaim. */
export function claimed(namespace: string, { name, path, access }: Folder): object[] {
  const volumeName = `${namespace}-${name}`;
  const storage = "10Gi";
  return [
    {
      apiVersion: "v1",
      kind: "PersistentVolume",
      metadata: { name: volumeName },
      spec: {
        capacity: { storage },
        accessModes: [access],
        storageClassName: "demo",
        persistentVolumeReclaimPolicy: "Retain",
        claimRef: { namespace, name },
        hostPath: { path, type: "Directory" },
      },
    },
    {
      apiVersion: "v1",
      kind: "PersistentVolumeClaim",
      metadata: { name, namespace },
      spec: {
        accessModes: [access],
        storageClassName: "demo",
        volumeName,
        resources: { requests: { storage } },
      },
    },
  ];
}

/** A namespace that admits restricted pods only. */
export function restrictedNamespace(name: string): object {
  return {
    apiVersion: "v1",
    kind: "Namespace",
    metadata: { name, labels: { "pod-security.kubernetes.io/enforce": "restricted" } },
  };
}
