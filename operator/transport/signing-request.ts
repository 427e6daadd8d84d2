/**
 * An agent's TLS key and the request to certify it (PKCS #10, P-256). A new key for every certificate.
 */
import "reflect-metadata";
import { webcrypto } from "node:crypto";
import { PemConverter, Pkcs10CertificateRequestGenerator } from "@peculiar/x509";

const P256 = { name: "ECDSA", namedCurve: "P-256", hash: "SHA-256" } as const;

export async function createSigningRequest(): Promise<{ csr: Uint8Array; privateKeyPem: string }> {
  const keys = (await webcrypto.subtle.generateKey(P256, true, ["sign", "verify"])) as webcrypto.CryptoKeyPair;
  // No names: the operator takes nothing but the key from a request.
  const request = await Pkcs10CertificateRequestGenerator.create({ keys, signingAlgorithm: P256 });
  const privateKey = await webcrypto.subtle.exportKey("pkcs8", keys.privateKey);
  return {
    csr: new Uint8Array(request.rawData),
    privateKeyPem: PemConverter.encode(privateKey, PemConverter.PrivateKeyTag),
  };
}
