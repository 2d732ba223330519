// Writes testdata/starfish/*.json: what the published packages make of fixed keys, nonces and times. Run: node vectors.mjs [DIRECTORY]
import { mkdirSync, writeFileSync } from "node:fs"
import { webcrypto } from "node:crypto"
import * as p from "@drakkar.software/starfish-protocol"
import * as ids from "@drakkar.software/starfish-identities"
import * as sharing from "@drakkar.software/starfish-sharing"
import * as kr from "@drakkar.software/starfish-keyring"
import * as srv from "@drakkar.software/starfish-server"
import { schnorr, secp256k1 } from "@noble/curves/secp256k1.js"
import { keccak_256 } from "@noble/hashes/sha3.js"

const dir = process.argv[2] ?? new URL("../../testdata/starfish", import.meta.url).pathname
mkdirSync(dir, { recursive: true })
const write = (name, v) => writeFileSync(`${dir}/${name}.json`, JSON.stringify(v, null, 1) + "\n")
const bytes = (n, from) => Uint8Array.from({ length: n }, (_, i) => (from + i) & 255)
const hex = p.bytesToHex
const b64 = (b) => Buffer.from(b).toString("base64")

// Randomness that is the same each time.
let counter = 0
p.configurePlatform({
  crypto: { subtle: webcrypto.subtle, getRandomValues: (b) => { for (let i = 0; i < b.length; i++) b[i] = counter++ & 255; return b } },
})
const keys = (from) => {
  const edPriv = hex(bytes(32, from)), kemPriv = hex(bytes(32, from + 100))
  const jwk = (privHex, prefix) => Buffer.concat([Buffer.from(prefix, "hex"), Buffer.from(privHex, "hex")])
  void jwk
  return { edPriv, kemPriv, kemPub: p.ed25519Suite.kemPublic(kemPriv) }
}
import { createPrivateKey, createPublicKey } from "node:crypto"
const edPub = (privHex) => createPublicKey(createPrivateKey({
  key: Buffer.concat([Buffer.from("302e020100300506032b657004220420", "hex"), Buffer.from(privHex, "hex")]), format: "der", type: "pkcs8",
})).export({ type: "spki", format: "der" }).subarray(12).toString("hex")
const person = (from) => { const k = keys(from); k.edPub = edPub(k.edPriv); k.userId = p.userIdFromPubHex(k.edPub); return k }
const owner = person(1), device = person(40), bob = person(80), carol = person(120)
const now = 1_700_000_000

// Canonical JSON: a text, how JSON.stringify writes it after JSON.parse, its canonical form, its hash.
const texts = [
  "null", "true", "0", "-0", "1.0", "1e2", "1E+2", "0.1", "1e21", "1e20", "123456789012345680000", "1e-6", "1e-7", "1.5e-10", "5e-324", "1.7976931348623157e308", "1e400", "-1e400",
  "9007199254740993", "0.30000000000000004", "1e23", "4.35", "100000000000000000000000", "2.5e-8", "-1.25e+30",
  '""', '"é"', '"\\u00e9"', '"\\u0000\\u001f\\u007f\\u2028"', '"\\b\\f\\n\\r\\t\\"\\\\\\/"', '"\\ud83d\\ude00"', '"😀"', '"\\ud83d"', '"\\ude00\\ud83d"', '"a\\udc00\\ud800b"', '"\\ud83dx\\ude00"',
  "[]", "{}", "[1,[2,[3]],{}]", '{"b":1,"a":2}', '{"a":1,"a":2}', '{"a":1,"b":2,"a":3}', '{"10":1,"9":2,"a":3,"01":4,"-1":5,"4294967294":6,"4294967295":7}',
  '{"\\ue000":1,"😀":2,"z":3,"\\ud800":4}', '{"":0," ":1,"A":2,"a":3,"_":4}', '{"__proto__":{"x":1},"constructor":2,"a":{"prototype":3}}', ' \t\n\r{ "a" : [ 1 , 2 ] } ',
  '{"nested":{"z":[{"b":1,"a":[null,false]}],"y":"\\u20ac"},"é":1}', '{"n":1e400,"m":[-1e400]}',
]
const refused = ["", " ", "nul", "tru", "01", "-", "+1", ".5", "1.", "1e", "1e+", "0x10", "NaN", "Infinity", "'a'", '"a', '"\\x"', '"\\u12"', '"\\u12g4"', '"\n"', "[", "[1", "[1,]", "[,1]", "{", '{"a"}', '{"a":}', '{"a":1,}', "{a:1}", "1 2", "{}x", "\u00a01", "\f1"]
for (const t of refused) { let ok = true; try { JSON.parse(t) } catch { ok = false } if (ok) throw new Error("accepted: " + t) }
const canonical = []
for (const text of texts) { const v = JSON.parse(text); canonical.push({ text, plain: JSON.stringify(v), canonical: p.stableStringify(v), hash: await p.computeHash(v) }) }
const pairs = [
  ['{"a":1,"b":{"x":1,"y":2}}', '{"b":{"y":3,"z":4},"c":5}'], ['{"a":{"x":1}}', '{"a":[1]}'], ['{"a":[1,2]}', '{"a":[3]}'], ['{"a":null}', '{"a":{"b":1}}'], ['{"a":{"b":1}}', '{"a":null}'],
  ['{"__proto__":1,"a":{"constructor":2,"b":1}}', '{"a":{"__class__":3,"c":{"__dict__":1}},"prototype":1}'], ["{}", '{"2":1,"1":2}'], ['{"z":1}', '{"a":1}'],
]
const merges = pairs.map(([l, r]) => ({ local: l, remote: r, merged: JSON.stringify(p.deepMerge(JSON.parse(l), JSON.parse(r))) }))
const sanitized = ['{"a":1,"__proto__":2,"b":{"constructor":1,"c":[{"prototype":1}]}}', '{"x":{"y":{"__class__":1,"z":2}}}'].map((t) => ({ text: t, sanitized: JSON.stringify(srv.deepSanitize(JSON.parse(t))) }))
write("canonical", { accepted: canonical, refused, merges, sanitized })

// Certificates.
const nonce = bytes(16, 7)
const rootCap = await ids.mintDeviceCap(owner.edPriv, owner.edPub, { edPubHex: owner.edPub, kemPubHex: owner.kemPub }, ids.scopes.rootAll(), { nbf: now, nonce })
const deviceCap = await ids.mintDeviceCap(owner.edPriv, owner.edPub, { edPubHex: device.edPub, kemPubHex: device.kemPub }, { ops: ["read"], collections: ["notes"], paths: ["notes/**", "!notes/_keyring"] }, { nbf: now, ttlSec: 3600, nonce })
const memberCap = await sharing.mintMemberCap(owner.edPriv, owner.edPub, { edPubHex: bob.edPub, kemPubHex: bob.kemPub, userIdHex: bob.userId }, "team", sharing.scopes.writer("team"), { nbf: now, nonce })
const readerCap = await sharing.mintMemberCap(owner.edPriv, owner.edPub, { edPubHex: bob.edPub, kemPubHex: bob.kemPub, userIdHex: bob.userId }, "team", sharing.scopes.readOnly("team"), { nbf: now, nonce })
const openCap = await sharing.mintAudienceCap(owner.edPriv, owner.edPub, "posts", sharing.scopes.readOnly("posts"), { nbf: now, expiresAt: now + 60, nonce })
const closedCap = await sharing.mintAudienceCap(owner.edPriv, owner.edPub, "posts", sharing.scopes.writer("posts"), { nbf: now, audience: [bob.edPub, carol.edPub], nonce })
const link = await sharing.createPublicLink({ issEdPrivHex: owner.edPriv, issEdPubHex: owner.edPub, collection: "posts", scope: sharing.scopes.readOnly("posts"), nbf: now, ttlSec: 60, nonce })
const certs = []
for (const [name, cap] of Object.entries({ rootCap, deviceCap, memberCap, readerCap, openCap, closedCap })) certs.push({ name, cap, input: p.capCertCanonicalSigningInput(cap), authorization: "Cap " + Buffer.from(p.stableStringify(cap)).toString("base64") })
// What verification says of changed ones.
const resign = (cap, change) => { const { sig, ...c } = structuredClone(cap); change(c); return p.signCapCert(c, owner.edPriv) }
const bad = []
const verdict = async (name, cap, at = now + 10, kind = true) => {
  let r = await p.verifyCapCert(cap, { now: at })
  if (r.ok && kind) { const f = sharing.sharingServerPlugin.capValidators[cap.kind]; try { f?.(cap) } catch (e) { r = { ok: false, reason: e.code ?? e.message } } }
  bad.push({ name, cap, now: at, reason: r.ok ? "" : r.reason })
}
await verdict("good", deviceCap)
for (const [n, at] of [["early", now - 301], ["just early", now - 300], ["late", now + 3600 + 301], ["just late", now + 3600 + 300]]) await verdict(n, deviceCap, at)
await verdict("bad signature", { ...deviceCap, exp: deviceCap.exp + 1 })
await verdict("signature not base64", { ...deviceCap, sig: "*" })
for (const [n, f] of Object.entries({
  "unknown kind": (c) => (c.kind = "root"), "no kind": (c) => delete c.kind, "iss a number": (c) => (c.iss = 1), "no nonce": (c) => delete c.nonce, "short nonce": (c) => (c.nonce = b64(bytes(15, 0))),
  "nonce not base64": (c) => (c.nonce = "§"), "no sub": (c) => delete c.sub, "no subKem": (c) => delete c.subKem, "nbf a fraction": (c) => (c.nbf = 1.5), "exp a string": (c) => (c.exp = "9"), "exp infinite": (c) => (c.exp = null),
  "inverted": (c) => (c.exp = c.nbf), "subUserId a number": (c) => (c.subUserId = 5), "subUserId of another": (c) => (c.subUserId = bob.userId), "issUserId of another": (c) => (c.issUserId = bob.userId),
  "no scope": (c) => delete c.scope, "ops a string": (c) => (c.scope.ops = "read"), "unknown op": (c) => (c.scope.ops = ["delete"]), "collections a string": (c) => (c.scope.collections = "notes"), "paths a string": (c) => (c.scope.paths = "**"),
  "path a number": (c) => (c.scope.paths = [1]), "aud of a device": (c) => (c.aud = [bob.edPub]), "unknown member of the object": (c) => (c.extra = { b: 1, a: 2 }), "no paths": (c) => delete c.scope.paths, "empty ops": (c) => (c.scope.ops = []),
})) await verdict(n, resign(deviceCap, f))
for (const [n, f] of Object.entries({
  "member good": () => {}, "member without subUserId": (c) => delete c.subUserId, "member of itself": (c) => { c.sub = owner.edPub; c.subUserId = owner.userId }, "member of all": (c) => (c.scope.collections = ["*"]), "member of two": (c) => (c.scope.collections = ["team", "b"]),
  "member of none": (c) => (c.scope.collections = []), "member in private": (c) => (c.scope.paths = [`users/${owner.userId}/x`]), "member in private by name": (c) => (c.scope.paths = ["users/{identity}"]), "member without denial of members": (c) => (c.scope.paths = ["team/**", "!team/_keyring"]),
  "member without denial of keyring": (c) => (c.scope.paths = ["team/**", "!team/_members"]), "reader without denial of keyring": (c) => { c.scope.ops = ["read"]; c.scope.paths = ["team/**", "!team/_members"] }, "member without paths": (c) => delete c.scope.paths, "member elsewhere": (c) => (c.scope.paths = ["other/x"]),
  "member with denial by a glob": (c) => (c.scope.paths = ["team/**", "!team/_*"]),
})) await verdict(n, resign(memberCap, f))
for (const [n, f] of Object.entries({
  "audience good": () => {}, "audience with sub": (c) => (c.sub = bob.edPub), "audience empty": (c) => (c.aud = []), "audience not an array": (c) => (c.aud = "x"), "audience bad entry": (c) => (c.aud = [bob.edPub.toUpperCase()]), "audience twice": (c) => (c.aud = [bob.edPub, bob.edPub]),
  "audience too large": (c) => (c.aud = Array.from({ length: 65 }, (_, i) => hex(bytes(32, i)))), "audience of 64": (c) => (c.aud = Array.from({ length: 64 }, (_, i) => hex(bytes(32, i)))), "audience of all": (c) => (c.scope.collections = ["*"]), "audience without paths": (c) => delete c.scope.paths,
})) await verdict(n, resign(closedCap, f))
await verdict("audience late", openCap, now + 361)
const globs = [
  ["**", "", ], ["**", "a/b"], ["*", "a"], ["*", "a/b"], ["*", ""], ["a/*", "a/b"], ["a/*", "a/b/c"], ["a/**", "a"], ["a/**", "a/"], ["a/**", "a/b/c"], ["a/**/d", "a/b/c/d"], ["a/*/c", "a/b/c"], ["*.json", "x.json"], ["*.json", "x/y.json"], ["a*b*c", "aXbYc"], ["a*b*c", "aXbY/c"], ["***", "a/b"], ["a**b", "a/x/b"],
  ["**/x", "x"], ["**/x", "a/x"], ["a.b", "axb"], ["(a)+", "(a)+"], ["*a*a*a*b", "aaaaaaaaaaaaaaaaaaaaaaaa"], ["**a**a**b", "aaaaaaaaaaaaaaaaaaaaaaaa"], ["*/**", "a/b"], ["**/*", "a"], ["*x/**y", "axx/b/y"],
].map(([glob, target]) => ({ glob, target: target ?? "", matches: p.pathGlobMatch(glob, target ?? "") }))
const { matchScopePath } = await import("./node_modules/@drakkar.software/starfish-server/dist/router/cap-resolver.js")
const scopes = [
  ["notes/a", undefined], ["notes/a", []], ["notes/a", ["notes/**"]], ["notes/_keyring", ["notes/**", "!notes/_keyring"]], ["notes/_keyring/x", ["notes/**", "!notes/_keyring"]], ["notes/_keyringx", ["notes/**", "!notes/_keyring"]], ["notes/a", ["!notes/_keyring"]], ["notes/_%6beyring", ["notes/**", "!notes/_keyring"]],
  ["notes//_keyring", ["notes/**", "!notes/_keyring"]], ["notes/./_keyring", ["notes/**", "!notes/_keyring"]], ["notes/_keyring/", ["notes/**", "!notes/_keyring"]], ["notes/%zz", ["notes/*"]], ["", ["**"]], ["", ["notes/**"]], ["notes/a/b", ["notes/*"]], ["notes/_k", ["**", "!notes/_*"]], ["notes/_k/x", ["**", "!notes/_*"]],
].map(([path, paths]) => ({ path, paths, matches: matchScopePath(path, paths) }))
const revocations = p.buildRevocationList({ issEdPubHex: owner.edPub, issEdPrivHex: owner.edPriv, generation: 3, revoked: [{ sub: device.edPub, nonce: deviceCap.nonce, exp: deviceCap.exp }], revokedSubjects: [{ sub: bob.edPub }] })
write("capcert", { people: { owner, device, bob, carol }, certs, bad, globs, scopes, link, revocations: { list: revocations, input: p.revocationListCanonicalSigningInput(revocations) } })

// Requests and authors.
const requests = []
for (const [method, pathAndQuery, body, host] of [["GET", "/pull/notes/a", undefined, "127.0.0.1:8080"], ["GET", "/v1/pull/notes/a?checkpoint=5", undefined, ""], ["POST", "/push/notes/a", '{"data":{"é":1},"baseHash":null}', "example.com"]]) {
  const s = await p.signRequest({ method, pathAndQuery, body, host }, device.edPriv, { ts: now * 1000, nonce })
  requests.push({ method, pathAndQuery, body: body ?? "", host, input: p.requestSigningCanonicalInput({ method, pathAndQuery, body, host }, s.ts, s.nonce), ...s })
}
const data = { text: "hello", n: [1, 2.5, { b: null, a: "é" }] }
const authors = [
  { kind: "append", key: "spaces/x/log", data, input: p.appendAuthorCanonicalInput("spaces/x/log", data), ...p.signAppendAuthor("spaces/x/log", data, device.edPub, device.edPriv) },
  { kind: "document", key: "notes/a", data, input: p.docAuthorCanonicalInput("notes/a", data), ...p.signDocAuthor("notes/a", data, device.edPub, device.edPriv) },
]
const appendHash = []
for (const [n, last] of [[1, { a: 1 }], [10000, data]]) appendHash.push({ n, last, hash: await p.computeHash({ n, last }) })
write("requests", { edPub: device.edPub, edPriv: device.edPriv, requests, authors, appendHash })

// Keyrings.
const cek = bytes(32, 200)
const wrapped = await kr.wrapForRecipient(cek, bob.kemPub, { adderEdPrivHex: owner.edPriv, adderEdPubHex: owner.edPub, addedAt: now, epoch: 1, ephPriv: bytes(32, 55), iv: bytes(12, 66) })
const ownerEntry = await kr.wrapForRecipient(cek, owner.kemPub, { adderEdPrivHex: owner.edPriv, adderEdPubHex: owner.edPub, addedAt: now, epoch: 1, ephPriv: bytes(32, 56), iv: bytes(12, 67) })
const cek2 = bytes(32, 17)
const second = await kr.wrapForRecipient(cek2, owner.kemPub, { adderEdPrivHex: owner.edPriv, adderEdPubHex: owner.edPub, addedAt: now + 5, epoch: 2, ephPriv: bytes(32, 57), iv: bytes(12, 68) })
const keyring1 = { v: 1, currentEpoch: 1, epochs: { 1: { wrappedKeys: [ownerEntry, wrapped], createdAt: now } } }
const keyring2 = { v: 1, currentEpoch: 2, epochs: { ...keyring1.epochs, 2: { wrappedKeys: [second], createdAt: now + 5 } } }
counter = 0
const e1 = await kr.createKeyringEncryptor(keyring1, { kemPubHex: bob.kemPub, kemPrivHex: bob.kemPriv }, { trustedAdders: [owner.edPub] })
const e2 = await kr.createKeyringEncryptor(keyring2, { kemPubHex: owner.kemPub, kemPrivHex: owner.kemPriv }, { trustedAdders: [owner.edPub] })
const sealed = { one: await e1.encrypt(data), two: await e2.encrypt(data), blob: b64(await e2.sealBytes(bytes(40, 1), "files/a")), aad: "files/a", plain: b64(bytes(40, 1)) }
write("keyring", { cek: b64(cek), cek2: b64(cek2), ephPriv: hex(bytes(32, 55)), iv: b64(bytes(12, 66)), wrapped, keyring1, keyring2, data, sealed })

// Identities and pairing.
const passphrase = "correct horse battery staple é"
const root = await ids.deriveRootIdentity(passphrase)
const qr = ids.buildPairingQr(device.edPub, device.kemPub, { ops: ["read"], collections: ["*"], paths: ["**"] }, bytes(16, 90))
const parsed = ids.parsePairingQr(qr)
const bundle = await ids.assemblePairingBundle({ edPriv: owner.edPriv, edPub: owner.edPub }, parsed, { notes: { epoch: 2, cek: cek2 } }, { grantedScope: { ops: ["read"], collections: ["notes"], paths: ["notes/**"] }, nbf: now, ttlSec: 600, certNonce: nonce, ephPrivByCollection: { notes: bytes(32, 58) }, ivByCollection: { notes: bytes(12, 69) } })
counter = 10
const request = await ids.buildPairingRequest(device, "123456", bytes(16, 33))
counter = 20
const response = await ids.buildPairingResponse(bundle, "123456", request.requestNonce)
const codeKey = hex(await ids.deriveCodeKey("123456", bytes(16, 33)))
const secpPub = hex(schnorr.getPublicKey(bytes(32, 77)))
const secpSignature = schnorr.sign(ids.SECP256K1_BOOTSTRAP_CHALLENGE, bytes(32, 77), bytes(32, 0))
const secp = { pubHex: secpPub, signature: b64(secpSignature), root: await ids.deriveRootIdentityFromSecp256k1Signature({ secpPubHex: secpPub, signature: secpSignature }) }
const evmText = new TextEncoder().encode(ids.EVM_BOOTSTRAP_CHALLENGE)
const evmDigest = keccak_256(Buffer.concat([Buffer.from(`\x19Ethereum Signed Message:\n${evmText.length}`), evmText]))
const recoverable = secp256k1.sign(evmDigest, bytes(32, 88), { prehash: false, format: "recovered" })
const evmSignature = Uint8Array.from([...recoverable.slice(1), recoverable[0] + 27])
const evmAddress = "0x" + hex(keccak_256(secp256k1.getPublicKey(bytes(32, 88), false).slice(1)).slice(-20))
const evm = { address: evmAddress, signature: b64(evmSignature), root: await ids.deriveRootIdentityFromEvmSignature({ address: evmAddress, signature: evmSignature }) }
const envelope = await ids.sealWithPassphrase("secret", bytes(20, 5), { salt: bytes(16, 3), iv: bytes(12, 4) })
write("identity", { passphrase, root, qr, parsed, bundle, collections: { notes: { epoch: 2, cek: b64(cek2) } }, now, code: "123456", codeKey, request, response, rendezvous: ids.rendezvousPathFor(parsed.qrNonce), secp, evm, envelope: { passphrase: "secret", plain: b64(bytes(20, 5)), envelope } })

// Configurations: how many problems validation finds in each, and how many warnings it gives (but for one about addresses, which the reference cannot see).
const col = (x) => ({ name: "c", storagePath: "c/{id}", readRoles: ["public"], writeRoles: ["self"], encryption: "none", maxBodyBytes: 1000, ...x })
const configs = {
  good: { version: 1, collections: [col()] },
  empty: { version: 1, collections: [] },
  duplicates: { version: 1, collections: [col(), col({ storagePath: "d/{id}" })] },
  slash: { version: 1, collections: [col({ storagePath: "/c/{id}" })] },
  bothOnly: { version: 1, collections: [col({ pullOnly: true, pushOnly: true })] },
  appendShort: { version: 1, collections: [col({ appendOnly: true })] },
  appendOff: { version: 1, collections: [col({ appendOnly: false })] },
  appendType: { version: 1, collections: [col({ appendOnly: { type: "by_size" } })] },
  appendBinary: { version: 1, collections: [col({ appendOnly: true, allowedMimeTypes: ["image/*"] })] },
  appendPullOnly: { version: 1, collections: [col({ appendOnly: true, pullOnly: true })] },
  appendBundle: { version: 1, collections: [col({ appendOnly: true, bundle: "b" })] },
  appendNumbers: { version: 1, collections: [col({ appendOnly: { maxItems: 0, chunkSize: -1, maxPullLimit: 1.5, maxCheckpointAgeMs: "9" } })] },
  appendNotKept: { version: 1, collections: [col({ appendOnly: { persist: false, maxItems: 5, chunkSize: 5, maxPullLimit: 5, maxCheckpointAgeMs: 5 } })] },
  listNoParameter: { version: 1, collections: [col({ listable: true, storagePath: "c/d" })] },
  listNotLast: { version: 1, collections: [col({ listable: true, storagePath: "c/{id}/d" })] },
  listSlash: { version: 1, collections: [col({ listable: true, storagePath: "c/{id}/" })] },
  listNotKept: { version: 1, collections: [col({ listable: true, appendOnly: { persist: false } })] },
  listBundle: { version: 1, collections: [col({ listable: true, bundle: "b" })] },
  rootPublic: { version: 1, collections: [col({ rootOnly: true })] },
  noReaders: { version: 1, collections: [col({ readRoles: [] })] },
  noReadersPullOnly: { version: 1, collections: [col({ readRoles: [], pullOnly: true })] },
  binarySchema: { version: 1, collections: [col({ allowedMimeTypes: ["image/png"], objectSchema: {}, bundle: "b" })] },
  noTypes: { version: 1, collections: [col({ allowedMimeTypes: [] })] },
  bundlePaths: { version: 1, collections: [col({ name: "a", bundle: "b" }), col({ name: "d", bundle: "b", storagePath: "e" })] },
  rates: { version: 1, collections: [col({ rateLimit: { windowMs: 0, maxRequests: -1, bucket: "x", push: { windowMs: 1.5, bucket: "y" }, pull: { bucket: "ip", identity: { maxRequests: 0 } }, list: {} } })] },
  ratesGlobal: { version: 1, rateLimit: { windowMs: 1000, maxRequests: 5 }, collections: [col({ rateLimit: { pull: {}, list: { ip: {} } } }), col({ name: "d", rateLimit: true }), col({ name: "e", rateLimit: false })] },
  ratesUnresolved: { version: 1, collections: [col({ rateLimit: { pull: { windowMs: 5 }, list: { ip: { windowMs: 5 }, identity: {} } } })] },
  restrictions: { version: 1, restrictions: [{ mode: "block", identities: [] }], collections: [col({ restrictions: [{ mode: "deny", identities: ["a", 1], actions: ["pull", "read"] }] })], namespaces: { n: { restrictions: [{ mode: "allow" }], collections: [col()] } } },
  namespaces: { version: 1, collections: [], namespaces: { "a b": { collections: [col()] }, pull: { collections: [col()] }, empty: { collections: [] }, ok: { collections: [col(), col()] } } },
  warnings: { version: 1, collections: [col({ writeRoles: ["public", "cap:write:other", "cap:write:*"], readRoles: ["self", "cap:read:c"], rateLimit: { windowMs: 5, maxRequests: 5, bucket: "ip" } })] },
}
const complaint = console.warn
const configurations = []
for (const [name, config] of Object.entries(configs)) {
  const warnings = []
  console.warn = (w) => warnings.push(w.replace("[Starfish] config warning: ", ""))
  let errors = []
  try { srv.parseConfigJson(JSON.stringify(config)) } catch (e) { errors = e.message.split("\n").slice(1) }
  configurations.push({ name, config, problems: errors.length, warnings: warnings.filter((w) => !w.includes("X-Forwarded-For")).length })
}
console.warn = complaint
write("config", configurations)
