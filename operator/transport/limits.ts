/**
 * How large and how slow anything on the wire may be (protocol.md "Size limits").
 */

/** 1 MiB of payload + 64 KiB (protocol.md). */
export const MOST_MESSAGE_BYTES = 2 ** 20 + 64 * 2 ** 10;

/** Body of "enrol" and "renew": names, three keys, and a PKCS #10 request, which has about 250 bytes with P-256. */
export const MOST_ENROLMENT_BYTES = 8 * 2 ** 10;
export const MOST_ENROLMENT_MESSAGE_BYTES = 16 * 2 ** 10;

/** Body of "attend": grows with the open rounds, each about 500 bytes. */
export const MOST_ATTENDING_BYTES = 256 * 2 ** 10;

/** Body of "accept", "refuse", "status", "fail", "download", "cancel" and "receipt". */
export const MOST_REPORT_BYTES = 16 * 2 ** 10;

/**
 * Body of a report of secure aggregation. The largest, M1 of 128 members, has 12 KiB; what the operator sends back is at most 23 KiB for a
 * cohort and 44 KiB for a draw of 256, so that the 64 messages that a stream holds unread stay under 3 MiB.
 */
export const MOST_PROTOCOL_BYTES = 64 * 2 ** 10;

/** A sentence that goes into a resource's status. */
export const MOST_SENTENCE_CHARACTERS = 256;

/** The first message of a stream must come within this; later ones may take as long as their round. */
export const OPENING_MS = 15_000;

/** An upload or download on which nothing moves for this long is cut: it holds a file open. The agent resumes. */
export const STALLED_MS = 60_000;

/**
 * An agent's pings: 20 s is below the shortest idle limit met on the way (cloud balancers and NAT: 60 s and more), and finds
 * a dead operator within 30 s; it costs 100 bytes a minute.
 */
export const AGENT_KEEPALIVE = {
  "grpc.keepalive_time_ms": 20_000,
  "grpc.keepalive_timeout_ms": 10_000,
  "grpc.keepalive_permit_without_calls": 1,
} as const;

/**
 * The operator's: the agents' pings keep the way open, so that these only find agents that died without a word. Nothing waits for it but
 * the condition Connected, and with hundreds of agents at 20 s pings were half of what an idle operator did (test/bench, NAME=controlplane).
 */
export const OPERATOR_KEEPALIVE = {
  "grpc.keepalive_time_ms": 60_000,
  "grpc.keepalive_timeout_ms": 20_000,
} as const;
