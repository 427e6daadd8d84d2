/**
 * The agent's connections: TLS 1.3, trust anchor and server name from the invitation, message limits and pings.
 */
import { createSecureContext } from "node:tls";
import { ChannelCredentials, type ClientOptions } from "@grpc/grpc-js";
import { serverNameFor } from "./certificate-names.ts";
import { CoordinationClient } from "./chunk-codec.ts";
import type { Credential } from "./credential.ts";
import { type CoordinationClient as CoordinationChannel, EnrolmentClient } from "./generated/rondo.v1.ts";
import type { Invitation } from "./invitation.ts";
import { AGENT_KEEPALIVE, MOST_MESSAGE_BYTES } from "./limits.ts";

/** Bytes of one download that may be under way; see server-tls.ts for the other way. */
const WINDOW_BYTES = 2 ** 20;

export function coordinationChannel(invitation: Invitation, credential: Credential): CoordinationChannel {
  return new CoordinationClient(
    invitation.endpoint,
    credentials(invitation, credential),
    channelOptions(invitation.endpoint, invitation),
  );
}

export function enrolmentChannel(invitation: Invitation): EnrolmentClient {
  const endpoint = invitation.enrolmentEndpoint;
  return new EnrolmentClient(endpoint, credentials(invitation), channelOptions(endpoint, invitation));
}

function credentials({ ca }: Invitation, credential?: Credential): ChannelCredentials {
  const context = createSecureContext({
    ca,
    cert: credential?.certificatePem,
    key: credential?.privateKeyPem,
    minVersion: "TLSv1.3",
  });
  return ChannelCredentials.createFromSecureContext(context);
}

function channelOptions(endpoint: string, invitation: Invitation): Partial<ClientOptions> {
  const serverName = serverNameFor(endpoint, invitation);
  return {
    "grpc.max_receive_message_length": MOST_MESSAGE_BYTES,
    "grpc.max_send_message_length": MOST_MESSAGE_BYTES,
    "grpc-node.flow_control_window": WINDOW_BYTES,
    // The client retries by itself, and a call that may be retried is kept in memory.
    "grpc.enable_retries": 0,
    // Else a new channel would inherit the back-off of the one it replaces.
    "grpc.use_local_subchannel_pool": 1,
    ...AGENT_KEEPALIVE,
    ...(serverName && { "grpc.ssl_target_name_override": serverName }),
  };
}
