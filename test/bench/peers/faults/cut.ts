/**
 * A network cut as the far side sees one: packets vanish, nobody is told. It runs in the network namespace that main.ts made for the
 * whole benchmark, so that no rule is ever seen by the machine.
 */
import { execFileSync } from "node:child_process";

/** What is dropped on loopback, in both directions: a server's own address, or its port. */
export type Where = { address: string } | { port: number };

/** @returns undoes it */
export function cut(where: Where): () => void {
  const rules =
    "address" in where
      ? [
          ["INPUT", "-d", where.address],
          ["INPUT", "-s", where.address],
        ]
      : [
          ["INPUT", "-p", "tcp", "--dport", String(where.port)],
          ["INPUT", "-p", "tcp", "--sport", String(where.port)],
        ];
  const apply = (action: "-I" | "-D") => {
    for (const [chain, ...match] of rules) execFileSync("iptables", [action, chain!, ...match, "-j", "DROP"]);
  };
  apply("-I");
  return () => apply("-D");
}
