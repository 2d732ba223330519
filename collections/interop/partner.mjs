// The published client, in turns with goclient. Run: node partner.mjs ORIGIN PREFIX PASSPHRASE
import assert from "node:assert/strict"
import * as c from "@drakkar.software/starfish-client"
import * as p from "@drakkar.software/starfish-protocol"
import * as ids from "@drakkar.software/starfish-identities"
import * as kr from "@drakkar.software/starfish-keyring"

const [origin, prefix, passphrase] = process.argv.slice(2)
const me = await ids.bootstrapRootIdentity(passphrase)
const a = new c.StarfishClient({ baseUrl: origin + prefix, capProvider: { getCap: async () => ({ cap: me.capCert, devEdPrivHex: me.device.edPriv }) } })
const trustedAdders = [me.device.edPub]
const keys = { edPriv: me.device.edPriv, edPub: me.device.edPub, kemPriv: me.device.kemPriv, kemPub: me.device.kemPub }
const open = async () => kr.createKeyringEncryptor((await a.pull("/pull/team/_keyring")).data, { kemPubHex: me.device.kemPub, kemPrivHex: me.device.kemPriv }, { trustedAdders })
const sync = (name, more) => new c.SyncManager({ client: a, pullPath: `/pull/team/docs/${name}`, pushPath: `/push/team/docs/${name}`, ...more })

assert.deepEqual((await a.pull(`/pull/users/${me.userId}/settings`)).data, { a: 1, "é": "ü", b: 2 })
const cursor = new c.AppendLogCursor({ client: a, pullPath: "/pull/chat/go/today", verifyAuthor: { expectedAuthorPubkey: me.device.edPub }, since: 1 })
assert.deepEqual((await cursor.pull()).map((e) => e.data.i), [0, 1, 2])
const theirs = sync("from-go", { encryptor: await open(), verifyAuthor: { expectedAuthorPubkey: me.device.edPub } })
await theirs.pull()
assert.deepEqual(theirs.getData(), { sealed: "by Go", n: [1, 2.5, "é"] })

const guest = ids.generateDeviceKeys()
await kr.addCollectionRecipient(a, "team", { subKem: guest.kemPub }, keys, { trustedAdders })
await kr.removeRecipient(a, "team", [guest.kemPub], keys, { trustedAdders }) // begins another epoch
const signer = { getSigner: async () => ({ devEdPubHex: me.device.edPub, sign: async (b) => p.ed25519Suite.sign(b, me.device.edPriv) }) }
await sync("from-js", { encryptor: await open(), signer }).push({ sealed: "by JS", "é": [null, true] })
await c.sealAndPushBlob(a, await open(), `/push/files/${me.userId}/sealed`, new TextEncoder().encode("sealed bytes"))
