// Uses a server by the published client, unchanged, as an app would. Run: node client.mjs ORIGIN PREFIX
import assert from "node:assert/strict"
import * as c from "@drakkar.software/starfish-client"
import * as p from "@drakkar.software/starfish-protocol"
import * as ids from "@drakkar.software/starfish-identities"
import * as kr from "@drakkar.software/starfish-keyring"
import * as sharing from "@drakkar.software/starfish-sharing"

const [origin, prefix = ""] = process.argv.slice(2)
const baseUrl = origin + prefix
const done = []
const part = async (name, f) => { await f(); done.push(name) }
const clientOf = (cap, devEdPrivHex, more = {}) => new c.StarfishClient({ baseUrl, capProvider: { getCap: async () => ({ cap, devEdPrivHex, ...more }) } })

const alice = await ids.bootstrapRootIdentity("correct horse battery staple " + process.pid)
const a = clientOf(alice.capCert, alice.device.edPriv)
const anonymous = new c.StarfishClient({ baseUrl })
const keysOf = (d) => ({ edPriv: d.edPriv, edPub: d.edPub, kemPriv: d.kemPriv, kemPub: d.kemPub })

await part("what the server has", async () => {
  const config = await c.fetchServerConfig(baseUrl)
  assert.equal(config.collections.find((x) => x.name === "chat").appendOnly.type, "by_timestamp")
  assert.equal(config.namespaces.tenant.collections[0].name, "notes")
})

await part("push, pull and merge", async () => {
  const path = `users/${alice.userId}/settings`
  assert.deepEqual((await a.pull(`/pull/${path}`)).data, {})
  const managers = [1, 2].map(() => new c.SyncManager({ client: a, pullPath: `/pull/${path}`, pushPath: `/push/${path}` }))
  await managers[0].push({ theme: "dark", "é": 1 })
  await assert.rejects(a.push(`/push/${path}`, {}, null), c.ConflictError)
  await managers[1].pull()
  await managers[0].push({ theme: "dark", "é": 1, size: 12 })
  await managers[1].push({ theme: "light", "é": 1, colour: "red" }) // conflicts, is merged with what is there and pushed again
  const { data, hash } = await a.pull(`/pull/${path}`)
  assert.deepEqual(data, { theme: "dark", "é": 1, size: 12, colour: "red" })
  assert.equal(hash, await p.computeHash(data))
  await assert.rejects(anonymous.pull(`/pull/${path}`), (e) => e.status === 403)
})

await part("a document signed by its author", async () => {
  const path = `vault/${alice.userId}/signed`
  const signer = { getSigner: async () => ({ devEdPubHex: alice.device.edPub, sign: async (b) => p.ed25519Suite.sign(b, alice.device.edPriv) }) }
  await new c.SyncManager({ client: a, pullPath: `/pull/${path}`, pushPath: `/push/${path}`, signer }).push({ text: "mine" })
  const reader = new c.SyncManager({ client: a, pullPath: `/pull/${path}`, pushPath: `/push/${path}`, verifyAuthor: { expectedAuthorPubkey: alice.device.edPub } })
  await reader.pull()
  assert.deepEqual(reader.getData(), { text: "mine" })
})

let phone
await part("pairing by QR code and by a code over the server", async () => {
  const keys = ids.generateDeviceKeys()
  const scope = { ops: ["read", "list", "write"], collections: ["*"], paths: ["**"] }
  const qr = ids.buildPairingQr(keys.edPub, keys.kemPub, scope)
  const parsed = ids.parsePairingQr(qr)
  const bundle = await ids.assemblePairingBundle({ edPriv: alice.device.edPriv, edPub: alice.device.edPub }, parsed, {}, { grantedScope: scope })
  await ids.pushPairingBundle(anonymous, parsed.qrNonce, bundle)
  const fetched = await ids.fetchPairingBundle(anonymous, parsed.qrNonce)
  const { credentials } = await ids.installPairingBundle(fetched, keys, { expectedRootEdPub: alice.rootEdPub, expectedQrNonce: parsed.qrNonce })
  await ids.clearPairingBundle(anonymous, parsed.qrNonce)
  assert.equal(await ids.fetchPairingBundle(anonymous, parsed.qrNonce), null)
  phone = { keys, client: clientOf(credentials.capCert, keys.edPriv), cap: credentials.capCert }
  assert.equal((await phone.client.pull(`/pull/users/${alice.userId}/settings`)).data.colour, "red")
  await a.push(`/push/users/${alice.userId}/_devices`, { v: 1, entries: [] }, null) // the published client takes a directory to be there
  await ids.addDeviceEntry(a, alice.userId, credentials.capCert, { label: "phone" })
  assert.equal((await ids.listDevices(phone.client, alice.userId))[0].label, "phone")
  const other = ids.generateDeviceKeys()
  const request = await ids.buildPairingRequest(other, "123456")
  const asked = await ids.readPairingRequest(request, "123456")
  assert.equal(asked.devEdPub, other.edPub)
})

await part("encryption for two, and the removal of one", async () => {
  const bob = ids.generateDeviceKeys()
  const adder = { edPrivHex: alice.device.edPriv, edPubHex: alice.device.edPub }
  const trustedAdders = [alice.device.edPub]
  const { keyring } = await kr.createKeyring(adder, [{ subKemHex: alice.device.kemPub }])
  await a.push("/push/team/_keyring", keyring, null)
  await kr.addCollectionRecipient(a, "team", { subKem: bob.kemPub }, keysOf(alice.device), { trustedAdders })
  const cap = await sharing.mintMemberCap(alice.device.edPriv, alice.device.edPub, { edPubHex: bob.edPub, kemPubHex: bob.kemPub, userIdHex: p.userIdFromPubHex(bob.edPub) }, "team", sharing.scopes.writer("team"))
  await a.push("/push/team/_members", { v: 1, entries: [] }, null)
  await sharing.addMemberEntry(a, "team", cap, { label: "Bob" })
  const b = clientOf(cap, bob.edPriv)
  await assert.rejects(b.pull("/pull/team/_members"), (e) => e.status === 403)
  await assert.rejects(b.pull("/pull/team/_keyring"), (e) => e.status === 403)
  const ring = async () => (await a.pull("/pull/team/_keyring")).data
  const open = async (d) => kr.createKeyringEncryptor(await ring(), { kemPubHex: d.kemPub, kemPrivHex: d.kemPriv }, { trustedAdders })
  const sync = (client, encryptor) => new c.SyncManager({ client, pullPath: "/pull/team/docs/plan", pushPath: "/push/team/docs/plan", encryptor })
  await sync(a, await open(alice.device)).push({ secret: "plan" })
  const bobs = sync(b, await open(bob))
  await bobs.pull()
  assert.deepEqual(bobs.getData(), { secret: "plan" })
  await bobs.push({ secret: "better plan" })
  const stored = await a.pull("/pull/team/docs/plan")
  assert.deepEqual(Object.keys(stored.data).sort(), ["_encrypted", "_epoch"])
  const removed = await kr.removeRecipient(a, "team", [bob.kemPub], keysOf(alice.device), { trustedAdders })
  assert.equal(removed.newEpoch, 2)
  assert.deepEqual((await kr.listRecipients(a, "team", { trustedAdders })).recipients.map((r) => r.subKem), [alice.device.kemPub])
  await assert.rejects(open(bob))
  const alices = sync(a, await open(alice.device))
  await alices.pull()
  assert.deepEqual(alices.getData(), { secret: "better plan" })
  await alices.push({ secret: "newest plan" })
  assert.equal((await a.pull("/pull/team/docs/plan")).data._epoch, 2)
})

await part("a log whose elements are signed", async () => {
  const path = "chat/main/2026-11-22"
  const at = []
  for (let i = 0; i < 5; i++) at.push((await (i % 2 ? phone.client : a).append(`/push/${path}`, { text: "message " + i })).timestamp)
  const cursor = new c.AppendLogCursor({ client: a, pullPath: `/pull/${path}`, verifyAuthor: true, since: at[1] })
  assert.deepEqual((await cursor.pull()).map((e) => e.data.text), ["message 2", "message 3", "message 4"])
  assert.deepEqual(await cursor.pull(), [])
  await a.append(`/push/${path}`, { text: "late" })
  assert.deepEqual((await cursor.pull()).map((e) => e.data.text), ["late"])
  assert.equal((await a.pull(`/pull/${path}`, { last: 2 })).length, 2)
  assert.equal((await a.pull(`/pull/${path}`, { full: true })).length, 6)
  await assert.rejects(a.pull(`/pull/${path}`), (e) => e.status === 400)
  await assert.rejects(a.append(`/push/${path}`, { text: "before" }, { ts: 5 }), (e) => e.status === 409)
  const many = await a.batchPullManyAppend("chat", [{ params: { room: "main", day: "2026-11-22" }, options: { last: 1 } }, { params: { room: "main", day: "none" }, options: { last: 1 } }])
  assert.equal(many[0][0].data.text, "late")
  assert.deepEqual(many[1], [])
})

await part("a public link", async () => {
  await a.push("/push/posts/hello", { title: "hello" }, null)
  const { fragment } = await sharing.createPublicLink({ issEdPrivHex: alice.device.edPriv, issEdPubHex: alice.device.edPub, collection: "posts", scope: sharing.scopes.readOnly("posts"), ttlSec: 60 })
  const { cap } = sharing.parsePublicLink(fragment)
  const guest = ids.generateDeviceKeys()
  const g = clientOf(cap, guest.edPriv, { pubHex: guest.edPub })
  assert.equal((await g.pull("/pull/posts/hello")).data.title, "hello")
  await assert.rejects(g.push("/push/posts/other", {}, null), (e) => e.status === 403)
  const parsed = sharing.parsePublicLink(fragment)
  const headers = await sharing.redeemPublicLink(parsed, { method: "GET", pathAndQuery: prefix + "/pull/posts/hello", host: new URL(origin).host, redeemerEdPrivHex: guest.edPriv, redeemerEdPubHex: guest.edPub })
  assert.equal((await fetch(baseUrl + "/pull/posts/hello", { headers })).status, 200)
  assert.equal((await fetch(baseUrl + "/pull/posts/hello", { headers })).status, 401) // the nonce has been used
})

await part("lists, bundles, batches and namespaces", async () => {
  for (const id of ["a", "b", "c"]) await a.push(`/push/vault/${alice.userId}/${id}`, { _encrypted: "x", _epoch: 1 }, null)
  const listed = await listOf(`/list/vault/${alice.userId}?limit=2`)
  assert.deepEqual(listed, { items: ["a", "b"], hasMore: true })
  await a.push(`/push/app/${alice.userId}/theme`, { dark: true }, null)
  const bundle = await a.pull(`/pull/app/${alice.userId}`)
  assert.equal(bundle.collections.theme.data.dark, true)
  assert.equal(bundle.collections.favourites.hash, "")
  const batch = await a.batchPull(["settings", "posts", "none"], { params: { posts: [{ id: "hello" }, { id: "missing" }] } })
  assert.equal(batch.collections.settings[0].data.colour, "red")
  assert.equal(batch.collections.posts[0].data.title, "hello")
  assert.equal(batch.collections.none[0].error, "Collection not found")
  if (prefix === "/v1") { // where the published client looks for namespaces
    const t = new c.StarfishClient({ baseUrl: origin, namespace: "tenant", capProvider: { getCap: async () => ({ cap: alice.capCert, devEdPrivHex: alice.device.edPriv }) } })
    await t.push(`/push/tenant/${alice.userId}/one`, { x: 1 }, null)
    assert.equal((await t.pull(`/pull/tenant/${alice.userId}/one`)).data.x, 1)
    assert.equal((await t.batchPull(["notes"], { params: { notes: [{ id: "one" }] } })).collections.notes[0].data.x, 1)
  }
})

async function listOf(path) {
  const s = await p.signRequest({ method: "GET", pathAndQuery: path, host: new URL(origin).host }, alice.device.edPriv)
  const res = await fetch(baseUrl + path, { headers: { Authorization: "Cap " + btoa(p.stableStringify(alice.capCert)), "X-Starfish-Sig": s.sig, "X-Starfish-Ts": String(s.ts), "X-Starfish-Nonce": s.nonce } })
  assert.equal(res.status, 200)
  return res.json()
}

await part("files, plain and sealed", async () => {
  const bytes = Uint8Array.from({ length: 5000 }, (_, i) => i & 255)
  const path = `files/${alice.userId}/a.png`
  const pushed = await a.pushBlob(`/push/${path}`, bytes, "image/png")
  const got = await a.pullBlob(`/pull/${path}`)
  assert.deepEqual(new Uint8Array(got.data), bytes)
  assert.equal(got.hash, pushed.hash)
  assert.equal(got.contentType, "image/png")
  await assert.rejects(a.pushBlob(`/push/${path}`, bytes, "text/plain"), (e) => e.status === 415)
  const { keyring } = await kr.createKeyring({ edPrivHex: alice.device.edPriv, edPubHex: alice.device.edPub }, [{ subKemHex: alice.device.kemPub }])
  const sealer = await kr.createKeyringEncryptor(keyring, { kemPubHex: alice.device.kemPub, kemPrivHex: alice.device.kemPriv }, { trustedAdders: [alice.device.edPub] })
  await c.sealAndPushBlob(a, sealer, `/push/files/${alice.userId}/sealed`, bytes)
  assert.deepEqual(await c.pullAndOpenBlob(a, sealer, `/pull/files/${alice.userId}/sealed`), bytes)
})

await part("a device that is revoked", async () => {
  const list = p.buildRevocationList({ issEdPubHex: alice.device.edPub, issEdPrivHex: alice.device.edPriv, generation: 1, revoked: [{ sub: phone.cap.sub, nonce: phone.cap.nonce, exp: phone.cap.exp }] })
  const send = () => fetch(baseUrl + "/revocations", { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(list) })
  await phone.client.pull(`/pull/users/${alice.userId}/settings`)
  assert.equal((await send()).status, 200)
  assert.equal((await send()).status, 409)
  await assert.rejects(phone.client.pull(`/pull/users/${alice.userId}/settings`), (e) => e.status === 401)
  await a.pull(`/pull/users/${alice.userId}/settings`)
})

console.log(done.map((d) => `ok  ${d}`).join("\n"))
