import {
  createDecipheriv,
  createHmac,
  createPrivateKey,
  createPublicKey,
  diffieHellman,
  randomBytes,
} from "node:crypto";
import { mkdtemp, readFile, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import {
  ENC_BYTES,
  generateRoundKeys,
  openRecords,
  plaintextLength,
  RECORD_BYTES,
  sealedLength,
  sealFile,
} from "./sealing.ts";

const PLAINTEXT_BYTES = RECORD_BYTES - 16;
const planHash = Buffer.alloc(32, 7);
const participant = "clinic-a";

let folder: string;
let keys: { publicKey: Uint8Array; privateKey: Uint8Array };
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "sealing-"));
  keys = await generateRoundKeys();
});
afterEach(() => rm(folder, { recursive: true }));

async function sealed(plaintext: Uint8Array): Promise<string> {
  await writeFile(join(folder, "plain"), plaintext);
  const file = join(folder, "sealed");
  await rm(file, { force: true });
  await sealFile(join(folder, "plain"), file, { publicKey: keys.publicKey, planHash, participant });
  return file;
}

async function opened(file: string, other: Partial<Parameters<typeof openRecords>[1]> = {}): Promise<Buffer> {
  const records: Uint8Array[] = [];
  for await (const record of openRecords(file, { privateKey: keys.privateKey, planHash, participant, ...other })) {
    records.push(record);
  }
  return Buffer.concat(records);
}

/** RFC 9180 base mode by node:crypto alone, for X25519, HKDF-SHA256 and AES-GCM with a key of `keyBytes`. */
function referenceContext({ skR, enc, info, keyBytes }: { skR: Buffer; enc: Buffer; info: Buffer; keyBytes: 16 | 32 }) {
  const kemSuite = Buffer.concat([Buffer.from("KEM"), Buffer.from([0, 0x20])]);
  const hpkeSuite = Buffer.concat([Buffer.from("HPKE"), Buffer.from([0, 0x20, 0, 1, 0, keyBytes === 16 ? 1 : 2])]);
  const extract = (suite: Buffer, salt: Buffer, label: string, ikm: Buffer) =>
    createHmac("sha256", salt.length > 0 ? salt : Buffer.alloc(32))
      .update(Buffer.concat([Buffer.from("HPKE-v1"), suite, Buffer.from(label), ikm]))
      .digest();
  const expand = (suite: Buffer, prk: Buffer, label: string, more: Buffer, length: number) => {
    const labelled = Buffer.concat([Buffer.from([0, length]), Buffer.from("HPKE-v1"), suite, Buffer.from(label), more]);
    let block: Buffer = Buffer.alloc(0);
    let out = Buffer.alloc(0);
    for (let n = 1; out.length < length; n += 1) {
      block = createHmac("sha256", prk)
        .update(Buffer.concat([block, labelled, Buffer.from([n])]))
        .digest();
      out = Buffer.concat([out, block]);
    }
    return out.subarray(0, length);
  };
  const pkcs8 = Buffer.concat([Buffer.from("302e020100300506032b656e04220420", "hex"), skR]);
  const privateKey = createPrivateKey({ key: pkcs8, format: "der", type: "pkcs8" });
  const spki = Buffer.concat([Buffer.from("302a300506032b656e032100", "hex"), enc]);
  const dh = diffieHellman({ privateKey, publicKey: createPublicKey({ key: spki, format: "der", type: "spki" }) });
  const pkR = createPublicKey(privateKey).export({ format: "der", type: "spki" }).subarray(12);
  const none = Buffer.alloc(0);
  const shared = expand(
    kemSuite,
    extract(kemSuite, none, "eae_prk", dh),
    "shared_secret",
    Buffer.concat([enc, pkR]),
    32,
  );
  const context = Buffer.concat([
    Buffer.from([0]),
    extract(hpkeSuite, none, "psk_id_hash", none),
    extract(hpkeSuite, none, "info_hash", info),
  ]);
  const secret = extract(hpkeSuite, shared, "secret", none);
  const key = expand(hpkeSuite, secret, "key", context, keyBytes);
  const nonce = expand(hpkeSuite, secret, "base_nonce", context, 12);
  let sequence = 0;
  return (ciphertext: Buffer, aad: Buffer): Buffer => {
    const iv = Buffer.from(nonce);
    iv.writeUInt32BE((iv.readUInt32BE(8) ^ sequence) >>> 0, 8);
    sequence += 1;
    const decipher = createDecipheriv(keyBytes === 16 ? "aes-128-gcm" : "aes-256-gcm", key, iv, { authTagLength: 16 });
    decipher.setAuthTag(ciphertext.subarray(-16)).setAAD(aad);
    return Buffer.concat([decipher.update(ciphertext.subarray(0, -16)), decipher.final()]);
  };
}

test("the reference of this test opens the vectors of RFC 9180 A.1.1", () => {
  const open = referenceContext({
    skR: Buffer.from("4612c550263fc8ad58375df3f557aac531d26850903e55a9f23f21d8534e8ac8", "hex"),
    enc: Buffer.from("37fda3567bdbd628e88668c3c8d7e97d1d1253b6d4ea6d44c150f741f1bf4431", "hex"),
    info: Buffer.from("Ode on a Grecian Urn"),
    keyBytes: 16,
  });
  const ciphertexts = [
    "f938558b5d72f1a23810b4be2ab4f84331acc02fc97babc53a52ae8218a355a96d8770ac83d07bea87e13c512a",
    "af2d7e9ac9ae7e270f46ba1f975be53c09f8d875bdc8535458c2494e8a6eab251c03d0c22a56b8ca42c2063b84",
    "498dfcabd92e8acedc281e85af1cb4e3e31c7dc394a1ca20e173cb72516491588d96a19ad4a683518973dcc180",
  ];
  for (const [n, ciphertext] of ciphertexts.entries()) {
    const plaintext = open(Buffer.from(ciphertext, "hex"), Buffer.from(`Count-${n}`));
    expect(plaintext.toString()).toBe("Beauty is truth, truth beauty");
  }
});

test("a sealed file is what protocol.md says: the reference opens it record by record", async () => {
  const plaintext = randomBytes(PLAINTEXT_BYTES + 5);
  const bytes = await readFile(await sealed(plaintext));
  const name = Buffer.from(participant);
  const info = Buffer.concat([Buffer.from("rondo/v1/sealed/"), planHash, Buffer.from([0, 0, 0, name.length]), name]);
  const open = referenceContext({
    skR: Buffer.from(keys.privateKey),
    enc: bytes.subarray(0, ENC_BYTES),
    info,
    keyBytes: 32,
  });
  const first = open(bytes.subarray(ENC_BYTES, ENC_BYTES + RECORD_BYTES), Buffer.from([0]));
  const last = open(bytes.subarray(ENC_BYTES + RECORD_BYTES), Buffer.from([1]));
  expect(Buffer.concat([first, last]).equals(plaintext)).toBe(true);
});

test.each([
  { says: "empty", length: 0 },
  { says: "one byte", length: 1 },
  { says: "a record less one", length: PLAINTEXT_BYTES - 1 },
  { says: "exactly a record", length: PLAINTEXT_BYTES },
  { says: "a record and one", length: PLAINTEXT_BYTES + 1 },
  { says: "three records", length: 3 * PLAINTEXT_BYTES },
])("a plaintext that is $says opens again, and its lengths are foretold", async ({ length }) => {
  const plaintext = randomBytes(length);
  const file = await sealed(plaintext);
  const { size, mode } = await stat(file);
  expect(size).toBe(sealedLength(length));
  expect(plaintextLength(size)).toBe(length);
  expect(mode & 0o777).toBe(0o600);
  expect((await opened(file)).equals(plaintext)).toBe(true);
});

test.each([
  { says: "is cut by a byte", change: (b: Buffer) => b.subarray(0, -1) },
  { says: "lost its last record", change: (b: Buffer) => b.subarray(0, ENC_BYTES + 2 * RECORD_BYTES) },
  { says: "lost all but its key share", change: (b: Buffer) => b.subarray(0, ENC_BYTES) },
  { says: "is empty", change: () => Buffer.alloc(0) },
  { says: "has a byte more", change: (b: Buffer) => Buffer.concat([b, Buffer.alloc(1)]) },
  {
    says: "has a record more",
    change: (b: Buffer) => Buffer.concat([b, b.subarray(ENC_BYTES, ENC_BYTES + RECORD_BYTES)]),
  },
  {
    says: "has two records exchanged",
    change: (b: Buffer) =>
      Buffer.concat([
        b.subarray(0, ENC_BYTES),
        b.subarray(ENC_BYTES + RECORD_BYTES, ENC_BYTES + 2 * RECORD_BYTES),
        b.subarray(ENC_BYTES, ENC_BYTES + RECORD_BYTES),
        b.subarray(ENC_BYTES + 2 * RECORD_BYTES),
      ]),
  },
  {
    says: "has one bit changed",
    change: (b: Buffer) => {
      b[b.length - 20]! ^= 1;
      return b;
    },
  },
  { says: "has a key share of zeros", change: (b: Buffer) => b.fill(0, 0, ENC_BYTES) },
])("a sealed file that $says does not open", async ({ change }) => {
  const file = await sealed(randomBytes(2 * PLAINTEXT_BYTES + 100));
  await writeFile(file, change(await readFile(file)));
  await expect(opened(file)).rejects.toMatchObject({ code: "SealBroken" });
});

test("a file sealed for another plan, participant or key does not open", async () => {
  const file = await sealed(randomBytes(100));
  await expect(opened(file, { planHash: Buffer.alloc(32, 8) })).rejects.toMatchObject({ code: "SealBroken" });
  await expect(opened(file, { participant: "clinic-b" })).rejects.toMatchObject({ code: "SealBroken" });
  const { privateKey } = await generateRoundKeys();
  await expect(opened(file, { privateKey })).rejects.toMatchObject({ code: "SealBroken" });
});

test("an existing destination is never overwritten", async () => {
  await sealed(randomBytes(10));
  const again = sealFile(join(folder, "plain"), join(folder, "sealed"), {
    publicKey: keys.publicKey,
    planHash,
    participant,
  });
  await expect(again).rejects.toMatchObject({ code: "EEXIST" });
});
