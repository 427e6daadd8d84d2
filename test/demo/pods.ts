/** The trainer's pod template of a demo site: what a platform team would write once into the values of the agent's chart. */

export interface TrainerFolders {
  /** Whether the template also mounts the site's text (a coordinator has none). */
  data: boolean;
}

/** Claims that the template mounts: `venv`, `model` and, at a site, `data`. */
export function trainerPodTemplate({ data }: TrainerFolders): object {
  const mounts = [
    { name: "venv", mountPath: "/opt/rondo/venv", readOnly: true },
    { name: "model", mountPath: "/rondo/model", readOnly: true },
    ...(data ? [{ name: "data", mountPath: "/rondo/data", readOnly: true }] : []),
  ];
  return {
    spec: {
      containers: [
        {
          name: "trainer",
          imagePullPolicy: "Never",
          // The local image has no PyTorch of its own: five clusters share the virtual environment of this machine.
          command: ["/opt/rondo/venv/bin/python", "-m", "rondo_trainer"],
          // Four trainers share two cores; and a quarter of each site's held-out text tells as much in a demo as all of it.
          env: [
            { name: "RONDO_THREADS", value: "1" },
            { name: "RONDO_HELD_OUT_MAX", value: "24" },
          ],
          volumeMounts: mounts,
        },
      ],
      volumes: mounts.map(({ name }) => ({ name, persistentVolumeClaim: { claimName: name, readOnly: true } })),
    },
  };
}
