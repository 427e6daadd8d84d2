#!/usr/bin/env node
/**
 * The program `rondo`: one sub-command per process and per thing a person does. Nothing but this file and cli/ reads the
 * environment or the command line; every command is loaded only when it is asked for, so that an agent does not carry the operator.
 */
import { Command } from "commander";
import { VERSION } from "./cli/version.ts";

const program = new Command("rondo")
  .description("Federated fine-tuning of language models on Kubernetes")
  .version(VERSION, "-V, --version")
  .showHelpAfterError();

program
  .command("operator")
  .description("run the coordinator; in its own cluster")
  .requiredOption("--config <file>", "operator.yaml")
  .option("--kubeconfig <file>", "instead of the pod's service account")
  .action(async (options: { config: string; kubeconfig?: string }) => (await import("./cli/operator.ts")).run(options));

const agent = program
  .command("agent")
  .description("run a participant's agent; in the participant's cluster")
  .option("--config <file>", "agent.yaml", "/etc/rondo/agent.yaml")
  .option("--kubeconfig <file>", "instead of the pod's service account")
  .action(async (options: { config: string; kubeconfig?: string }) => (await import("./cli/agent.ts")).run(options));

agent
  .command("results")
  .description("what this site's trainers measured, as JSON")
  .action(async (_options, command: Command) =>
    (await import("./cli/agent-local.ts")).results(command.optsWithGlobals()),
  );

agent
  .command("status")
  .description("who this site is and what its agent works on, as JSON")
  .action(async (_options, command: Command) =>
    (await import("./cli/agent-local.ts")).status(command.optsWithGlobals()),
  );

agent
  .command("evaluate")
  .description("measure an adapter on this site's held-out data, as JSON")
  .requiredOption("--version-digest <digest>", "sha256:… of the adapter's weights (AdapterVersion spec.adapterDigest)")
  .option("--parent-digest <digest>", "compare with this one instead of the one before")
  .option("--federation <id>", "<trust domain>/<namespace>/<name>, where this site knows several")
  .action(async (_options, command: Command) =>
    (await import("./cli/agent-local.ts")).evaluate(command.optsWithGlobals()),
  );

const roster = agent
  .command("roster")
  .description("whose keys this site masks against, with the fingerprints to compare with the other sites")
  .option("-o, --output <form>", "text or json", "text")
  .action(async (_options, command: Command) =>
    (await import("./cli/agent-roster.ts")).roster(command.optsWithGlobals()),
  );

roster
  .command("accept")
  .description("pin the key that plans have proposed for a participant, once its site has confirmed it")
  .argument("<participant>", "whose key it is")
  .requiredOption("--fingerprint <fingerprint>", "SHA256:… as its own site reads it out")
  .option("--federation <id>", "<trust domain>/<namespace>/<name>, where several have proposed one")
  .action(async (participant: string, _options, command: Command) =>
    (await import("./cli/agent-roster.ts")).accept(participant, command.optsWithGlobals()),
  );

program
  .command("invite")
  .description("make a one-time invitation for a participant's agent")
  .argument("<name>", "the Participant; made if there is none")
  .option("-n, --namespace <namespace>", "the operator's namespace")
  .option("--ttl <duration>", "how long the token may be used, such as 24h", "24h")
  .option("-o, --output <form>", "json, or values for the agent's chart", "json")
  .option("--kubeconfig <file>", "instead of $KUBECONFIG or the pod's service account")
  .action(async (name: string, options) => (await import("./cli/invite.ts")).run(name, options));

program
  .command("version")
  .description("print the program's version")
  .action(() => {
    process.stdout.write(`${VERSION}\n`);
  });

program.parseAsync().catch((error: unknown) => {
  process.stderr.write(`rondo: ${error instanceof Error ? error.message : String(error)}\n`);
  // What failed half-way may have left sockets behind that would keep the process.
  process.exit(1);
});
