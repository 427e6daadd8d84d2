/**
 * What can go wrong between Rondo and an OCI registry. `message` is a sentence for status: it names registry and
 * repository, never a credential, and never the text of a transport error or of the registry's answer.
 */
export type PublishCode =
  /** No answer, an answer cut short, or 5xx/429 to the last attempt. Trying again later makes sense. */
  | "RegistryUnreachable"
  /** 401 or 403, or the token service refused. */
  | "Unauthorized"
  /** 404: no such manifest, blob or repository. */
  | "NotFound"
  /** Another 4xx: the registry understood and does not want it. */
  | "Refused"
  /** Bytes are not those of their digest. */
  | "DigestMismatch"
  /** Larger than we are willing to read. */
  | "TooLarge"
  /** A manifest that is not an adapter, or not JSON. */
  | "NotAnAdapter"
  | "ReferenceInvalid"
  | "CredentialsInvalid";

export class PublishFault extends Error {
  readonly code: PublishCode;
  /** HTTP status, where there was one. */
  readonly status: number | undefined;
  constructor(code: PublishCode, message: string, status?: number) {
    super(message);
    this.name = "PublishFault";
    this.code = code;
    this.status = status;
  }

  /** Whether the same request can succeed later without anybody changing anything. */
  get transient(): boolean {
    return this.code === "RegistryUnreachable";
  }
}
