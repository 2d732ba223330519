// Writes testdata/starfish/transcript.json: what the published server, on Hono under Node, answers to a few hundred requests, with a clock that is set for each. Run: node transcript.mjs [FILE]
import { writeFileSync } from "node:fs"
import http from "node:http"
import { webcrypto, createPrivateKey, createPublicKey } from "node:crypto"
import { Hono } from "hono"
import { serve } from "@hono/node-server"
import Ajv from "ajv"
import * as p from "@drakkar.software/starfish-protocol"
import * as ids from "@drakkar.software/starfish-identities"
import * as sharing from "@drakkar.software/starfish-sharing"
import * as srv from "@drakkar.software/starfish-server"
import * as restrictions from "@drakkar.software/starfish-restrictions"
import * as entitlements from "@drakkar.software/starfish-entitlements"

const file = process.argv[2] ?? new URL("../../testdata/starfish/transcript.json", import.meta.url).pathname
const T0 = 1_700_000_000_000
let now = T0
Date.now = () => now
for (const k of ["warn", "error"]) console[k] = () => {}
srv.setAjv(new Ajv())
let counter = 0
p.configurePlatform({ crypto: { subtle: webcrypto.subtle, getRandomValues: (b) => { counter++; for (let i = 0; i < b.length; i++) b[i] = (counter >> (8 * (i & 3))) & 255; return b } } })
const bytes = (n, from) => Uint8Array.from({ length: n }, (_, i) => (from + i) & 255)
const edPub = (privHex) => createPublicKey(createPrivateKey({ key: Buffer.concat([Buffer.from("302e020100300506032b657004220420", "hex"), Buffer.from(privHex, "hex")]), format: "der", type: "pkcs8" }))
  .export({ type: "spki", format: "der" }).subarray(12).toString("hex")
const person = (from) => { const edPriv = p.bytesToHex(bytes(32, from)), kemPriv = p.bytesToHex(bytes(32, from + 100)); const pub = edPub(edPriv); return { edPriv, edPub: pub, kemPriv, kemPub: p.ed25519Suite.kemPublic(kemPriv), userId: p.userIdFromPubHex(pub) } }
const alice = person(1), phone = person(40), bob = person(80), carol = person(120), admin = person(160)
const nbf = T0 / 1000 - 100
const device = (who, dev, scope, opts = {}) => ids.mintDeviceCap(who.edPriv, who.edPub, { edPubHex: dev.edPub, kemPubHex: dev.kemPub }, scope, { nbf, ...opts })
const rootOf = (who) => device(who, who, ids.scopes.rootAll())
const resign = (cap, change) => { const { sig, ...c } = structuredClone(cap); change(c); return p.signCapCert(c, alice.edPriv) }

const scenarios = []
const col = (x) => ({ name: "c", storagePath: "c/{id}", readRoles: ["public"], writeRoles: ["public"], encryption: "none", maxBodyBytes: 2000, ...x })

async function scenario(name, { config, prefix = "", describe, enrich, restrict, maxBodyBytes, maxBatch }, run) {
  const store = new srv.MemoryObjectStore(new Map())
  const parsed = srv.parseConfigJson(JSON.stringify(config))
  const revocationStore = srv.createInMemoryRevocationStore()
  const plugins = restrict ? [restrictions.createRestrictionsPlugin({ config: parsed })] : []
  const router = srv.createSyncRouter({
    store, config: parsed, plugins, ...(describe && { configEndpoint: { auth: describe } }), ...(maxBatch && { maxCollectionsPerBatch: maxBatch }),
    roleResolver: srv.createCapCertRoleResolver({ nonceCache: srv.createInMemoryNonceCache(), revocationStore, plugins: [ids.identitiesServerPlugin, sharing.sharingServerPlugin], ...(maxBodyBytes && { maxBodyBytes }) }),
    roleEnricher: enrich ? srv.composeEnrichers(srv.makeIdentityRoleEnricher(admin.userId, "admin"), entitlements.createEntitlementRoleEnricher({ store, cacheTtlMs: 0 })) : undefined,
  })
  const app = new Hono()
  app.route(prefix || "/", router)
  const server = await new Promise((done) => { const s = serve({ fetch: app.fetch, port: 0, hostname: "127.0.0.1" }, () => done(s)) })
  const steps = []
  const names = new Set()
  const ask = async (name, method, path, opts = {}) => {
    if (names.has(name)) throw new Error(`two steps are called ${name}`)
    names.add(name)
    now += opts.wait ?? 10
    let { body, headers = {} } = opts
    if (body !== undefined && typeof body !== "string" && !(body instanceof Uint8Array)) body = JSON.stringify(body)
    const h = { Host: "sync.example:8080", ...headers }
    if (body !== undefined) { if (opts.type !== null) h["Content-Type"] = opts.type ?? "application/json"; h["Content-Length"] = String(Buffer.byteLength(body)) }
    if (opts.as) {
      const { who, cap, pub } = opts.as
      const blob = opts.blob ?? (body !== undefined && opts.type && opts.type !== "application/json")
      const s = await p.signRequest({ method, pathAndQuery: opts.signPath ?? path, body: blob ? undefined : body, host: opts.signHost ?? "sync.example:8080" }, who.edPriv, { ts: opts.ts ?? now, ...(opts.nonce && { nonce: opts.nonce }) })
      Object.assign(h, { Authorization: "Cap " + Buffer.from(p.stableStringify(cap)).toString("base64"), "X-Starfish-Sig": s.sig, "X-Starfish-Ts": String(s.ts), "X-Starfish-Nonce": s.nonce })
      if (pub) h["X-Starfish-Pub"] = pub
    }
    opts.change?.(h)
    const step = { name, now, method, path, headers: h }
    if (body !== undefined) typeof body === "string" ? (step.body = body) : (step.body64 = Buffer.from(body).toString("base64"))
    const res = await new Promise((done, failed) => {
      const req = http.request({ host: "127.0.0.1", port: server.address().port, method, path, headers: h, agent: false }, (r) => { const parts = []; r.on("data", (b) => parts.push(b)); r.on("end", () => done({ status: r.statusCode, headers: r.headers, body: Buffer.concat(parts) })) })
      req.on("error", failed)
      if (body !== undefined) req.write(body)
      req.end()
    })
    step.status = res.status
    step.answer = {}
    for (const k of ["content-type", "etag", "cache-control"]) if (res.headers[k] !== undefined) step.answer[k] = res.headers[k]
    const text = res.body.toString("utf8")
    Buffer.from(text, "utf8").equals(res.body) ? (step.text = text) : (step.text64 = res.body.toString("base64"))
    steps.push(step)
    let json = null
    try { json = JSON.parse(text) } catch {}
    return { status: res.status, json }
  }
  await run({ ask, revocationStore, steps })
  await new Promise((done) => server.close(done))
  scenarios.push({ name, config, prefix, describe: describe ?? "", enrich: !!enrich, admin: admin.userId, restrict: !!restrict, maxBatch: maxBatch ?? 0, steps })
}

await scenario("documents", { config: { version: 1, collections: [
  col({ name: "notes", storagePath: "notes/{id}" }), col({ name: "cached", storagePath: "cached/{id}", cacheDurationMs: 5500 }), col({ name: "short", storagePath: "short/{id}", ttlMs: 1000 }),
  col({ name: "in", storagePath: "in/{id}", pushOnly: true }), col({ name: "out", storagePath: "out/{id}", pullOnly: true }), col({ name: "deep", storagePath: "deep/{a}/x/{b}", listable: true }), col({ name: "chats", storagePath: "chats/{room}/{day}", listable: true }),
  col({ name: "top", storagePath: "top/{id}", listable: true }), col({ name: "static", storagePath: "static/page" }),
  col({ name: "typed", storagePath: "typed/{id}", objectSchema: { type: "object", required: ["title"], additionalProperties: false, properties: { title: { type: "string", minLength: 2, maxLength: 5 }, n: { type: "integer", minimum: 0, maximum: 9.5 }, tags: { type: "array", maxItems: 2, uniqueItems: true, items: { type: ["string", "null"] } }, kind: { enum: ["a", "b"] }, code: { pattern: "^[a-z]+$" }, at: { type: "object", properties: { x: { exclusiveMinimum: 0 } } } } } }),
] } }, async ({ ask }) => {
  await ask("health", "GET", "/health")
  await ask("config that is not shown", "GET", "/config")
  for (const [n, m, u] of [["nothing there", "GET", "/"], ["no such route", "GET", "/pull"], ["no such collection", "GET", "/pull/none/a"], ["wrong method", "GET", "/push/notes/a"], ["another method", "PUT", "/push/notes/a"], ["a post to pull", "POST", "/pull/notes/a"], ["trailing slash", "GET", "/pull/notes/a/"], ["no parameter", "GET", "/pull/notes/"],
    ["one segment more", "GET", "/pull/notes/a/b"], ["preflight without cors", "OPTIONS", "/pull/notes/a"], ["list of what is not listable", "GET", "/list/notes"], ["pull of what is pushed only", "GET", "/pull/in/a"], ["push of what is pulled only", "POST", "/push/out/a"]]) await ask(n, m, u)
  await ask("pull of nothing", "GET", "/pull/notes/a")
  await ask("head of nothing", "HEAD", "/pull/notes/a")
  const one = (await ask("first push", "POST", "/push/notes/a", { body: { data: { b: 1, a: { é: "ü", 10: 1, 9: 2 } }, baseHash: null } })).json
  await ask("pull", "GET", "/pull/notes/a")
  await ask("head", "HEAD", "/pull/notes/a")
  await ask("pull with an old checkpoint", "GET", "/pull/notes/a?checkpoint=5&x=%20y")
  await ask("pull with a bad checkpoint", "GET", "/pull/notes/a?checkpoint=abc")
  await ask("pull of what the caller has", "GET", "/pull/notes/a", { headers: { "If-None-Match": `"${one.hash}"` } })
  await ask("pull of what the caller has not", "GET", "/pull/notes/a", { headers: { "If-None-Match": `"0${one.hash.slice(1)}"` } })
  await ask("push without base where there is something", "POST", "/push/notes/a", { body: { data: {}, baseHash: null } })
  await ask("push without baseHash", "POST", "/push/notes/a", { body: { data: {} } })
  await ask("push with an empty base where there is something", "POST", "/push/notes/a", { body: { data: {}, baseHash: "" } })
  await ask("push with a wrong base", "POST", "/push/notes/a", { body: { data: {}, baseHash: "abc" } })
  const two = (await ask("second push", "POST", "/push/notes/a", { body: { data: { a: [1, 2, { c: null }] }, baseHash: one.hash } })).json
  await ask("pull of the second", "GET", "/pull/notes/a")
  await ask("push of the same again", "POST", "/push/notes/a", { body: { data: { a: [1, 2, { c: null }] }, baseHash: two.hash } })
  await ask("first push with an empty base", "POST", "/push/notes/b", { body: { data: { x: 1 }, baseHash: "" } })
  await ask("push with a base of nothing", "POST", "/push/notes/c", { body: { data: {}, baseHash: "abc" } })
  await ask("push without base at all", "POST", "/push/notes/d", { body: { data: {} } })
  for (const [n, b] of [["base a number", { data: {}, baseHash: 5 }], ["base an object", { data: {}, baseHash: {} }], ["no data", {}], ["data null", { data: null }], ["data an array", { data: [] }], ["data a string", { data: "x" }], ["author's key alone", { data: {}, baseHash: null, authorPubkey: alice.edPub }], ["author's signature alone", { data: {}, baseHash: null, authorSignature: "x" }],
    ["author null", { data: {}, baseHash: null, authorPubkey: null, authorSignature: null }], ["author's signature wrong", { data: {}, baseHash: null, authorPubkey: alice.edPub, authorSignature: "AAAA" }]]) await ask(n, "POST", "/push/notes/e", { body: b })
  const doc = { hello: "wörld" }
  await ask("a signed document of nobody in particular", "POST", "/push/notes/e", { body: { data: doc, baseHash: null, ...p.signDocAuthor("notes/e", doc, alice.edPub, alice.edPriv) } })
  await ask("pull of a signed document", "GET", "/pull/notes/e")
  await ask("a document signed for another path", "POST", "/push/notes/f", { body: { data: doc, baseHash: null, ...p.signDocAuthor("notes/e", doc, alice.edPub, alice.edPriv) } })
  for (const [n, b] of [["body not json", "{"], ["body empty", ""], ["body an array", "[]"], ["body a number", "5"], ["body null", "null"], ["body a string", '"x"'], ["body with a comma too many", '{"data":{},}'], ["body with NaN", '{"data":{"a":NaN}}'], ["body with single quotes", "{'data':{}}"]]) await ask(n, "POST", "/push/notes/g", { body: b })
  for (const [n, t] of [["text", "text/plain"], ["json with parameters", "application/json; charset=utf-8"], ["json in capitals", "Application/JSON"], ["json of a kind", "application/json+x"], ["form", "application/x-www-form-urlencoded"]]) await ask("type " + n, "POST", "/push/notes/type-" + n.replaceAll(" ", "-"), { body: { data: {}, baseHash: null }, type: t })
  await ask("no type", "POST", "/push/notes/h", { body: { data: {}, baseHash: null }, type: null })
  await ask("body of the limit", "POST", "/push/notes/i", { body: '{"data":{"a":"' + "x".repeat(2000 - 33) + '"},"baseHash":null}' })
  await ask("body over the limit", "POST", "/push/notes/j", { body: '{"data":{"a":"' + "x".repeat(2001 - 33) + '"},"baseHash":null}' })
  const nest = (n) => '{"data":' + '{"a":'.repeat(n) + "1" + "}".repeat(n) + ',"baseHash":null}'
  await ask("nested as deeply as allowed", "POST", "/push/notes/k", { body: nest(63) })
  await ask("nested more deeply", "POST", "/push/notes/l", { body: nest(64) })
  await ask("arrays nested more deeply", "POST", "/push/notes/m", { body: '{"data":{"a":' + "[".repeat(100) + "]".repeat(100) + '},"baseHash":null}' })
  await ask("keys twice", "POST", "/push/notes/n", { body: '{"data":{"a":1,"b":2,"a":3},"baseHash":"x","baseHash":null}' })
  await ask("pull of keys twice", "GET", "/pull/notes/n")
  await ask("unsafe keys", "POST", "/push/notes/o", { body: '{"data":{"__proto__":{"x":1},"a":{"constructor":1,"b":[{"prototype":1}]},"c":1},"baseHash":null,"__proto__":{"data":1}}' })
  await ask("pull of unsafe keys", "GET", "/pull/notes/o")
  await ask("odd numbers", "POST", "/push/notes/p", { body: '{"data":{"a":1e400,"b":-0,"c":1.0,"d":123456789012345678901234567890,"e":1e-7,"f":0.1,"g":5e-324},"baseHash":null}' })
  await ask("pull of odd numbers", "GET", "/pull/notes/p")
  await ask("odd strings", "POST", "/push/notes/q", { body: '{"data":{"a":"\\ud83d","b":"\\ud83d\\ude00","\\udc00":1,"c":"\\u2028\\u0000"},"baseHash":null}' })
  await ask("pull of odd strings", "GET", "/pull/notes/q")
  await ask("a byte order mark", "POST", "/push/notes/r", { body: '\ufeff{"data":{},"baseHash":null}' })
  for (const [n, id] of [["a dot", "a.b"], ["two dots", "a..b"], ["an at", "a@b:c-d_e"], ["a percent", "a%20b"], ["an encoded letter", "%61"], ["an encoded slash", "a%2fb"], ["an encoded nul", "a%00b"], ["a malformed escape", "a%zz"], ["a tilde", "a~b"], ["a plus", "a+b"], ["an umlaut", "%C3%A9"], ["bytes that are no text", "%ff%fe"], ["a star", "a*b"]]) await ask("a parameter with " + n, "GET", "/pull/notes/" + id)
  await ask("an encoded letter in the path", "GET", "/pull/not%65s/a")
  await ask("cached", "POST", "/push/cached/a", { body: { data: { x: 1 }, baseHash: null } })
  await ask("pull of cached", "GET", "/pull/cached/a")
  await ask("pull of nothing cached", "GET", "/pull/cached/b")
  const short = (await ask("short-lived", "POST", "/push/short/a", { body: { data: { x: 1 }, baseHash: null } })).json
  await ask("pull of short-lived", "GET", "/pull/short/a", { wait: 1000 })
  await ask("pull of what has expired", "GET", "/pull/short/a")
  await ask("pull of what has expired and the caller has", "GET", "/pull/short/a", { headers: { "If-None-Match": `"${short.hash}"` } })
  await ask("push over what has expired, without base", "POST", "/push/short/a", { body: { data: { y: 1 }, baseHash: null } })
  await ask("push over what has expired", "POST", "/push/short/a", { body: { data: { y: 1 }, baseHash: short.hash } })
  await ask("pull of what has been written anew", "GET", "/pull/short/a")
  await ask("static path", "POST", "/push/static/page", { body: { data: { x: 1 }, baseHash: null } })
  await ask("pull of static path", "GET", "/pull/static/page")
  for (const d of ["2026-04-11", "2026-04-12", "2026-04-13", "A", "b"]) await ask("chat " + d, "POST", "/push/chats/one/" + d, { body: { data: { d }, baseHash: null } })
  await ask("chat elsewhere", "POST", "/push/chats/one2/x", { body: { data: {}, baseHash: null } })
  for (const q of ["", "?limit=2", "?limit=2&after=2026-04-12", "?after=b", "?after=zzz", "?after=2026-04-12x", "?limit=0", "?limit=-1", "?limit=abc", "?limit=2.5", "?limit=02", "?limit=", "?limit=100000", "?after="]) await ask("list " + (q || "of all"), "GET", "/list/chats/one" + q)
  await ask("list of nothing", "GET", "/list/chats/none")
  await ask("list with a bad parameter", "GET", "/list/chats/a%20b")
  await ask("deep", "POST", "/push/deep/q/x/r", { body: { data: {}, baseHash: null } })
  await ask("list of deep", "GET", "/list/deep/q/x")
  await ask("top", "POST", "/push/top/z", { body: { data: {}, baseHash: null } })
  await ask("list of top", "GET", "/list/top")
  for (const [n, d] of [["good", { title: "abc", n: 9, tags: ["x", null], kind: "a", code: "abc" }], ["without title", {}], ["title a number", { title: 5 }], ["title too short", { title: "a" }], ["title too long", { title: "abcdef" }], ["n a fraction", { title: "abc", n: 1.5 }], ["n too small", { title: "abc", n: -1 }], ["n too large", { title: "abc", n: 10 }], ["too many tags", { title: "abc", tags: ["a", "b", "c"] }],
    ["tags twice", { title: "abc", tags: ["a", "a"] }], ["a tag a number", { title: "abc", tags: ["a", 1] }], ["another kind", { title: "abc", kind: "c" }], ["a code that does not match", { title: "abc", code: "1" }], ["another field", { title: "abc", more: 1 }], ["deep down", { title: "abc", at: { x: 0 } }], ["title null", { title: null }]]) await ask("schema: " + n, "POST", "/push/typed/" + n.replaceAll(" ", "-"), { body: { data: d, baseHash: null } })
})

await scenario("files", { config: { version: 1, collections: [
  col({ name: "pictures", storagePath: "pictures/{id}", allowedMimeTypes: ["image/*", "application/pdf"], cacheDurationMs: 60000, listable: true }), col({ name: "any", storagePath: "any/{id}", allowedMimeTypes: ["*/*"] }), col({ name: "private", storagePath: "private/{id}", allowedMimeTypes: ["*/*"], readRoles: ["cap:read:private"], writeRoles: ["cap:write:private"] }),
] } }, async ({ ask }) => {
  const png = bytes(300, 200)
  await ask("pull of nothing", "GET", "/pull/pictures/a.png")
  await ask("push", "POST", "/push/pictures/a.png", { body: png, type: "image/png" })
  await ask("pull", "GET", "/pull/pictures/a.png")
  await ask("head", "HEAD", "/pull/pictures/a.png")
  await ask("push over it", "POST", "/push/pictures/a.png", { body: "%PDF", type: "application/pdf; x=y" })
  await ask("pull of what was pushed over it", "GET", "/pull/pictures/a.png")
  for (const [n, t] of [["text", "text/plain"], ["json", "application/json"], ["capitals", "IMAGE/PNG"], ["nonsense", "image"], ["empty", " "]]) await ask("type " + n, "POST", "/push/pictures/" + n, { body: "x", type: t })
  await ask("no type", "POST", "/push/pictures/no-type", { body: "x", type: null })
  await ask("too long", "POST", "/push/pictures/long", { body: "x".repeat(2001), type: "image/png" })
  await ask("empty", "POST", "/push/pictures/empty", { body: "", type: "image/png" })
  await ask("pull of empty", "GET", "/pull/pictures/empty")
  await ask("list", "GET", "/list/pictures")
  await ask("json as a file", "POST", "/push/any/x", { body: "{not json", type: "application/json" })
  await ask("two dots", "GET", "/pull/any/..a")
  await ask("signed file of a root, whose role is another", "POST", "/push/private/a", { body: png, type: "image/png", as: { who: alice, cap: await rootOf(alice) } })
  const as = { who: phone, cap: await device(alice, phone, { ops: ["read", "write"], collections: ["private"], paths: ["private/**"] }) }
  await ask("signed file", "POST", "/push/private/a", { body: png, type: "image/png", as })
  await ask("signed pull of a file", "GET", "/pull/private/a", { as })
  await ask("file signed as json", "POST", "/push/private/b", { body: "{}", type: "application/json", blob: true, as })
  await ask("file whose bytes are signed", "POST", "/push/private/c", { body: "text", type: "text/plain", blob: false, as, change: () => {} })
  await ask("unsigned pull of a file", "GET", "/pull/private/a")
})

await scenario("certificates", { config: { version: 1, collections: [
  col({ name: "mine", storagePath: "users/{identity}/settings", readRoles: ["self"], writeRoles: ["self"] }), col({ name: "files", storagePath: "users/{identity}/files/{id}", readRoles: ["self"], writeRoles: ["self"], listable: true }),
  col({ name: "team", storagePath: "team/{id}", readRoles: [`delegated:${alice.userId}:team`, "self", "cap:read:team"], writeRoles: [`cap:write:team`], encryption: "delegated" }), col({ name: "team-ring", storagePath: "team/{id}/_keyring", readRoles: ["cap:read:team"], writeRoles: ["cap:write:team"] }),
  col({ name: "posts", storagePath: "posts/{id}", readRoles: ["cap:read:posts"], writeRoles: ["cap:write:posts"] }), col({ name: "root", storagePath: "root/{id}", readRoles: ["cap:read:*", "cap:read:root"], writeRoles: ["cap:write:*", "cap:write:root"], rootOnly: true }),
  col({ name: "open", storagePath: "open/{id}" }),
] } }, async ({ ask, revocationStore }) => {
  const root = { who: alice, cap: await rootOf(alice) }
  const mine = `users/${alice.userId}/settings`
  await ask("unsigned pull", "GET", `/pull/${mine}`)
  await ask("unsigned push", "POST", `/push/${mine}`, { body: { data: {}, baseHash: null } })
  await ask("another scheme", "GET", `/pull/${mine}`, { headers: { Authorization: "Bearer x" } })
  await ask("signed push", "POST", `/push/${mine}`, { body: { data: { a: 1 }, baseHash: null }, as: root })
  await ask("signed pull", "GET", `/pull/${mine}`, { as: root })
  await ask("signed pull with a query", "GET", `/pull/${mine}?withKeyring=1&x=a%20b`, { as: root })
  await ask("signed head", "HEAD", `/pull/${mine}`, { as: root })
  await ask("signed pull of another's", "GET", `/pull/users/${bob.userId}/settings`, { as: root })
  await ask("signed list", "GET", `/list/users/${alice.userId}/files`, { as: root })
  await ask("signed list of another's", "GET", `/list/users/${bob.userId}/files`, { as: root })
  const doc = { signed: true }
  await ask("push signed by its author", "POST", `/push/users/${alice.userId}/files/a`, { body: { data: doc, baseHash: null, ...p.signDocAuthor(`users/${alice.userId}/files/a`, doc, alice.edPub, alice.edPriv) }, as: root })
  await ask("push signed by another author", "POST", `/push/users/${alice.userId}/files/b`, { body: { data: doc, baseHash: null, ...p.signDocAuthor(`users/${alice.userId}/files/b`, doc, bob.edPub, bob.edPriv) }, as: root })
  await ask("pull of a signed document", "GET", `/pull/users/${alice.userId}/files/a`, { as: root })
  const nonce = bytes(16, 99)
  await ask("a nonce", "GET", `/pull/${mine}`, { as: root, nonce })
  await ask("the nonce again", "GET", `/pull/${mine}`, { as: root, nonce })
  await ask("the nonce by another", "GET", `/pull/users/${bob.userId}/settings`, { as: { who: bob, cap: await rootOf(bob) }, nonce })
  for (const [n, f] of Object.entries({ "no signature": (h) => delete h["X-Starfish-Sig"], "no time": (h) => delete h["X-Starfish-Ts"], "no nonce": (h) => delete h["X-Starfish-Nonce"], "a signature of zeros": (h) => (h["X-Starfish-Sig"] = Buffer.alloc(64).toString("base64")), "a signature that is no base64": (h) => (h["X-Starfish-Sig"] = "*"),
    "another time": (h) => (h["X-Starfish-Ts"] = String(now + 1)), "a time in hex": (h) => (h["X-Starfish-Ts"] = "0x10"), "a time with a plus": (h) => (h["X-Starfish-Ts"] = "+" + now), "another nonce": (h) => (h["X-Starfish-Nonce"] = Buffer.alloc(16).toString("base64")), "no certificate": (h) => (h.Authorization = "Cap "), "a certificate that is no base64": (h) => (h.Authorization = "Cap *"),
    "a certificate that is no json": (h) => (h.Authorization = "Cap " + Buffer.from("{").toString("base64")), "a certificate that is null": (h) => (h.Authorization = "Cap " + Buffer.from("null").toString("base64")), "a certificate that is a number": (h) => (h.Authorization = "Cap " + Buffer.from("5").toString("base64")), "a certificate that is too long": (h) => (h.Authorization += "A".repeat(8192)),
    "a certificate without padding": (h) => (h.Authorization = h.Authorization.replace(/=+$/, "")), "cap in small letters": (h) => (h.Authorization = h.Authorization.replace("Cap", "cap")), "the host of another": (h) => (h.Host = "other.example"), "the host in capitals": (h) => (h.Host = "SYNC.example:8080") })) await ask("with " + n, "GET", `/pull/${mine}`, { as: root, change: f })
  await ask("signed for another path", "GET", `/pull/${mine}`, { as: root, signPath: "/pull/other" })
  await ask("signed for another host", "GET", `/pull/${mine}`, { as: root, signHost: "other.example" })
  await ask("signed for no host", "GET", `/pull/${mine}`, { as: root, signHost: "" })
  await ask("signed by another key", "GET", `/pull/${mine}`, { as: { who: bob, cap: root.cap } })
  for (const [n, d] of [["as late as may be", -300000], ["later", -300001], ["as early as may be", 300000], ["earlier", 300001]]) await ask("signed " + n, "GET", `/pull/${mine}`, { as: root, ts: now + 10 + d })
  await ask("push whose body has changed", "POST", `/push/${mine}`, { body: '{"data":{},"baseHash":null}', as: root, change: (h) => (h["Content-Type"] = "application/json ") })
  await ask("push signed without its body", "POST", `/push/${mine}`, { body: { data: {}, baseHash: null }, blob: true, as: root })
  await ask("push of a type that is not signed", "POST", `/push/${mine}`, { body: '{"data":{},"baseHash":null}', type: "text/plain", as: root })
  await ask("push over the limit", "POST", `/push/${mine}`, { body: '{"data":{"a":"' + "x".repeat(3000) + '"},"baseHash":null}', as: root })
  await ask("push far over the limit", "POST", `/push/${mine}`, { body: '{"data":{"a":"' + "x".repeat(70000) + '"},"baseHash":null}', as: root })
  const scoped = (scope, opts) => device(alice, phone, scope, opts).then((cap) => ({ who: phone, cap }))
  const all = { ops: ["read", "list", "write"], collections: ["*"] }
  await ask("a device", "GET", `/pull/${mine}`, { as: await scoped({ ...all, paths: ["**"] }) })
  await ask("a device without paths", "GET", `/pull/${mine}`, { as: await scoped(all) })
  await ask("a device for other paths", "GET", `/pull/${mine}`, { as: await scoped({ ...all, paths: ["notes/**"] }) })
  await ask("a device for its own paths", "GET", `/pull/${mine}`, { as: await scoped({ ...all, paths: ["users/{identity}/*"] }) })
  await ask("a device with an exception", "GET", `/pull/${mine}`, { as: await scoped({ ...all, paths: ["**", "!users/*/settings"] }) })
  await ask("a device in time", "GET", `/pull/${mine}`, { as: await scoped({ ...all, paths: ["**"] }, { ttlSec: 100 }) })
  await ask("a device that has expired", "GET", `/pull/${mine}`, { as: await scoped({ ...all, paths: ["**"] }, { nbf: nbf - 1000, ttlSec: 10 }) })
  await ask("a device that is not valid yet", "GET", `/pull/${mine}`, { as: await scoped({ ...all, paths: ["**"] }, { nbf: nbf + 1000 }) })
  await ask("a device by another issuer", "GET", `/pull/${mine}`, { as: { who: phone, cap: await device(bob, phone, { ...all, paths: ["**"] }) } })
  for (const [n, f] of Object.entries({ "unknown kind": (c) => (c.kind = "root"), "an unknown operation": (c) => (c.scope.ops = ["delete"]), "an unknown field": (c) => (c.more = 1), "a fraction of a second": (c) => (c.exp = 1.5e9 + 0.5), "a short nonce": (c) => (c.nonce = "AAAA") })) await ask("a certificate with " + n, "GET", `/pull/${mine}`, { as: { who: phone, cap: resign((await scoped({ ...all, paths: ["**"] })).cap, f) } })
  await ask("root only, by the root", "POST", "/push/root/a", { body: { data: {}, baseHash: null }, as: root })
  await ask("root only, by a device", "GET", "/pull/root/a", { as: await scoped({ ...all, paths: ["**"] }) })
  await ask("root only, by the root of another", "GET", "/pull/root/a", { as: { who: bob, cap: await rootOf(bob) } })
  await ask("open, with a broken certificate", "GET", "/pull/open/a", { headers: { Authorization: "Cap x" } })
  const member = (scope, opts) => sharing.mintMemberCap(alice.edPriv, alice.edPub, { edPubHex: bob.edPub, kemPubHex: bob.kemPub, userIdHex: bob.userId }, "team", scope, { nbf, ...opts }).then((cap) => ({ who: bob, cap }))
  const writer = await member(sharing.scopes.writer("team")), reader = await member(sharing.scopes.readOnly("team"))
  await ask("a member writes", "POST", "/push/team/a", { body: { data: { _encrypted: "x", _epoch: 1 }, baseHash: null }, as: writer })
  await ask("a member reads", "GET", "/pull/team/a", { as: reader })
  await ask("a reader writes", "POST", "/push/team/b", { body: { data: {}, baseHash: null }, as: reader })
  await ask("a member writes the keyring", "POST", "/push/team/a/_keyring", { body: { data: {}, baseHash: null }, as: writer })
  await ask("a member writes the keyring by another name", "POST", "/push/team/_keyring", { body: { data: {}, baseHash: null }, as: writer })
  await ask("a member writes the keyring in escapes", "POST", "/push/team/_%6beyring", { body: { data: {}, baseHash: null }, as: writer })
  await ask("a member writes elsewhere", "POST", "/push/posts/a", { body: { data: {}, baseHash: null }, as: writer })
  const teamDevice = await scoped({ ops: ["read", "write"], collections: ["team"], paths: ["team/**"] })
  await ask("the owner's device writes the keyring", "POST", "/push/team/a/_keyring", { body: { data: { v: 1 }, baseHash: null }, as: teamDevice })
  await ask("a pull with the keyring", "GET", "/pull/team/a?withKeyring=TRUE", { as: teamDevice })
  await ask("a pull with the keyring, by who may not read it", "GET", "/pull/team/a?withKeyring=1", { as: writer })
  await ask("a pull with a keyring that is not there", "GET", "/pull/team/c?withKeyring=1", { as: teamDevice })
  await ask("a pull without the keyring", "GET", "/pull/team/a?withKeyring=0", { as: teamDevice })
  await ask("a member without paths", "GET", "/pull/team/a", { as: { who: bob, cap: resign(writer.cap, (c) => { c.scope.paths = [] }) } })
  await ask("a member of all", "GET", "/pull/team/a", { as: { who: bob, cap: resign(writer.cap, (c) => { c.scope.collections = ["*"] }) } })
  await ask("a member without denial", "GET", "/pull/team/a", { as: { who: bob, cap: resign(writer.cap, (c) => { c.scope.paths = ["team/**"] }) } })
  const link = (scope, opts) => sharing.mintAudienceCap(alice.edPriv, alice.edPub, "posts", scope, { nbf, ...opts })
  const open = await link(sharing.scopes.writer("posts")), closed = await link(sharing.scopes.readOnly("posts"), { audience: [bob.edPub] })
  await ask("a public link writes", "POST", "/push/posts/a", { body: { data: { x: 1 }, baseHash: null }, as: { who: carol, cap: open, pub: carol.edPub } })
  await ask("a public link reads", "GET", "/pull/posts/a", { as: { who: bob, cap: open, pub: bob.edPub } })
  await ask("a public link without a key", "GET", "/pull/posts/a", { as: { who: bob, cap: open } })
  await ask("a public link with a key in capitals", "GET", "/pull/posts/a", { as: { who: bob, cap: open, pub: bob.edPub.toUpperCase() } })
  await ask("a public link with another's key", "GET", "/pull/posts/a", { as: { who: bob, cap: open, pub: carol.edPub } })
  await ask("a link for some, by one of them", "GET", "/pull/posts/a", { as: { who: bob, cap: closed, pub: bob.edPub } })
  await ask("a link for some, by another", "GET", "/pull/posts/a", { as: { who: carol, cap: closed, pub: carol.edPub } })
  const revocations = (x) => { const list = p.buildRevocationList({ issEdPubHex: alice.edPub, issEdPrivHex: alice.edPriv, ...x }); revocationStore.acceptList(list); return list }
  await ask("REVOKE reader", "GET", "/health", { headers: { "X-Revocations": JSON.stringify(revocations({ generation: 1, revoked: [{ sub: bob.edPub, nonce: reader.cap.nonce, exp: reader.cap.exp }, { sub: "", nonce: open.nonce, exp: open.exp }], revokedSubjects: [{ sub: phone.edPub }, { sub: "" }] })) } })
  await ask("a certificate that is revoked", "GET", "/pull/team/a", { as: reader })
  await ask("another of the same member", "GET", "/pull/team/a", { as: writer })
  await ask("a device that is revoked", "GET", `/pull/${mine}`, { as: await scoped({ ...all, paths: ["**"] }) })
  await ask("a link that is revoked", "GET", "/pull/posts/a", { as: { who: bob, cap: open, pub: bob.edPub } })
  await ask("a link that is not", "GET", "/pull/posts/a", { as: { who: bob, cap: closed, pub: bob.edPub } })
})

await scenario("logs", { config: { version: 1, collections: [
  col({ name: "log", storagePath: "log/{id}", appendOnly: { requireAuthorSignature: false }, cacheDurationMs: 1000, listable: true }), col({ name: "chunks", storagePath: "chunks/{id}", appendOnly: { requireAuthorSignature: false, chunkSize: 2, field: "entries" } }), col({ name: "full", storagePath: "full/{id}", appendOnly: { requireAuthorSignature: false, maxItems: 2 } }),
  col({ name: "bound", storagePath: "bound/{id}", appendOnly: { requireAuthorSignature: false, allowFull: false, maxPullLimit: 2, maxCheckpointAgeMs: 10000 } }), col({ name: "signed", storagePath: "signed/{id}", appendOnly: true }), col({ name: "events", storagePath: "events/{id}", appendOnly: { persist: false, requireAuthorSignature: false } }),
  col({ name: "owned", storagePath: "owned/{id}", appendOnly: true, readRoles: ["cap:read:owned"], writeRoles: ["cap:write:owned"] }), col({ name: "hidden", storagePath: "hidden/{id}", appendOnly: { requireAuthorSignature: false }, fieldPermissions: { secret: { readRoles: ["admin"] } } }), col({ name: "short", storagePath: "short/{id}", appendOnly: { requireAuthorSignature: false }, ttlMs: 500 }),
  col({ name: "strict", storagePath: "strict/{id}", appendOnly: { requireAuthorSignature: false }, objectSchema: { required: ["x"] } }),
] } }, async ({ ask }) => {
  for (const q of ["", "?checkpoint=0", "?limit=0", "?last=5", "?full=true", "?full=1", "?full=yes", "?full=true&limit=1", "?full=1&checkpoint=0", "?checkpoint=-1", "?checkpoint=abc", "?checkpoint=1.5", "?checkpoint=007", "?checkpoint=", "?limit=-1", "?limit=x", "?last=x", "?limit=1&last=x", "?last=1&limit=x", "?checkpoint=x&limit=x"]) await ask("pull of no log " + q, "GET", "/pull/log/none" + q)
  for (const name of ["log", "chunks"]) {
    const at = []
    for (let i = 0; i < 5; i++) at.push((await ask(`${name}: append ${i}`, "POST", `/push/${name}/a`, { body: { data: { i } } })).json.timestamp)
    for (const q of ["?full=true", "?checkpoint=0", `?checkpoint=${at[0]}`, `?checkpoint=${at[2]}`, `?checkpoint=${at[4]}`, `?checkpoint=${at[0] - 1}`, "?last=2", "?limit=2", "?limit=1&last=3", "?limit=99", "?limit=0", `?checkpoint=${at[1]}&limit=2`]) await ask(`${name}: pull ${q}`, "GET", `/pull/${name}/a${q}`)
    const all = await ask(`${name}: pull again`, "GET", `/pull/${name}/a?last=1`)
    await ask(`${name}: pull of what the caller has`, "GET", `/pull/${name}/a?last=1`, { headers: { "If-None-Match": `"${all.json.hash}"` } })
    for (const [n, ts] of [["of the last", at[4]], ["before", at[1]], ["zero", 0], ["negative", -1], ["a fraction", 1.5], ["a string", "5"], ["null", null], ["an object", {}]]) await ask(`${name}: append at a time ${n}`, "POST", `/push/${name}/a`, { body: { data: { ts: n }, ts } })
    await ask(`${name}: append a little ahead`, "POST", `/push/${name}/a`, { body: { data: {}, ts: now + 1000 } })
    await ask(`${name}: append after what was ahead`, "POST", `/push/${name}/a`, { body: { data: {} } })
    await ask(`${name}: append as far ahead as may be`, "POST", `/push/${name}/a`, { body: { data: {}, ts: now + 10 + 300000 } })
    await ask(`${name}: append further ahead`, "POST", `/push/${name}/a`, { body: { data: {}, ts: now + 10 + 300001 } })
    await ask(`${name}: append after the furthest`, "POST", `/push/${name}/a`, { body: { data: {} } })
    await ask(`${name}: the whole log`, "GET", `/pull/${name}/a?full=true`)
    await ask(`${name}: append with a base`, "POST", `/push/${name}/b`, { body: { data: {}, baseHash: "abc" } })
    for (const [n, b] of [["no data", {}], ["data an array", { data: [] }], ["an author without a signature", { data: {}, authorPubkey: "x" }], ["any author", { data: { q: 1 }, authorPubkey: "x", authorSignature: "y" }], ["unsafe keys", '{"data":{"__proto__":1,"a":1}}']]) await ask(`${name}: append with ${n}`, "POST", `/push/${name}/c`, { body: b })
    await ask(`${name}: pull of these`, "GET", `/pull/${name}/c?full=true`)
  }
  await ask("list of logs", "GET", "/list/log")
  for (let i = 0; i < 3; i++) await ask(`full: append ${i}`, "POST", "/push/full/a", { body: { data: { i } } })
  for (let i = 0; i < 4; i++) await ask(`bound: append ${i}`, "POST", "/push/bound/a", { body: { data: { i } } })
  for (const q of ["?full=true", "?limit=3", "?checkpoint=0", `?checkpoint=${now - 9000}`, `?checkpoint=${now - 10001}`, "?full=1&limit=1"]) await ask("bound: pull " + q, "GET", "/pull/bound/a" + q)
  const data = { hello: "wörld", n: 1.5 }
  await ask("signed: without a proof", "POST", "/push/signed/a", { body: { data } })
  await ask("signed: with a proof", "POST", "/push/signed/a", { body: { data, ...p.signAppendAuthor("signed/a", data, bob.edPub, bob.edPriv) } })
  await ask("signed: the same proof again", "POST", "/push/signed/a", { body: { data, ...p.signAppendAuthor("signed/a", data, bob.edPub, bob.edPriv) } })
  await ask("signed: a proof for another log", "POST", "/push/signed/b", { body: { data, ...p.signAppendAuthor("signed/a", data, bob.edPub, bob.edPriv) } })
  await ask("signed: a proof of a document", "POST", "/push/signed/a", { body: { data, ...p.signDocAuthor("signed/a", data, bob.edPub, bob.edPriv) } })
  await ask("signed: a proof that is none", "POST", "/push/signed/a", { body: { data, authorPubkey: "zz", authorSignature: "*" } })
  await ask("signed: a proof of numbers", "POST", "/push/signed/a", { body: { data, authorPubkey: 1, authorSignature: 2 } })
  await ask("signed: pull", "GET", "/pull/signed/a?full=true")
  await ask("events: append", "POST", "/push/events/a", { body: { data } })
  await ask("events: append at a time", "POST", "/push/events/a", { body: { data, ts: 5 } })
  await ask("events: pull", "GET", "/pull/events/a")
  const as = { who: phone, cap: await device(alice, phone, { ops: ["read", "write"], collections: ["owned"], paths: ["owned/**"] }) }
  await ask("owned: append", "POST", "/push/owned/a", { body: { data, ...p.signAppendAuthor("owned/a", data, phone.edPub, phone.edPriv) }, as })
  await ask("owned: append signed by another", "POST", "/push/owned/a", { body: { data, ...p.signAppendAuthor("owned/a", data, alice.edPub, alice.edPriv) }, as })
  await ask("owned: append unsigned", "POST", "/push/owned/a", { body: { data }, as })
  await ask("owned: pull", "GET", "/pull/owned/a?last=10", { as })
  await ask("hidden: append", "POST", "/push/hidden/a", { body: { data: { secret: 1, open: 2 } } })
  await ask("hidden: pull", "GET", "/pull/hidden/a?full=1")
  await ask("short: append", "POST", "/push/short/a", { body: { data } })
  await ask("short: pull", "GET", "/pull/short/a?full=1")
  await ask("short: pull of what has expired", "GET", "/pull/short/a?full=1", { wait: 1000 })
  await ask("strict: append", "POST", "/push/strict/a", { body: { data: { x: 1 } } })
  await ask("strict: append of something else", "POST", "/push/strict/a", { body: { data: { y: 1 } } })
})

await scenario("together", { describe: "public", enrich: true, config: { version: 1, collections: [
  col({ name: "settings", storagePath: "users/{identity}", bundle: "b", readRoles: ["self"], writeRoles: ["self"] }), col({ name: "favourites", storagePath: "users/{identity}", bundle: "b", readRoles: ["self"], writeRoles: ["self"], fieldPermissions: { secret: { readRoles: ["admin"], writeRoles: ["admin"] } } }), col({ name: "badge", storagePath: "users/{identity}", bundle: "b", readRoles: ["public"], writeRoles: ["self"], pullOnly: true }), col({ name: "vault", storagePath: "users/{identity}", bundle: "b", readRoles: ["self"], writeRoles: ["self"], rootOnly: true }),
  col({ name: "open-a", storagePath: "open/{id}", bundle: "o" }), col({ name: "open-b", storagePath: "open/{id}", bundle: "o" }),
  col({ name: "profile", storagePath: "profiles/{identity}", readRoles: ["public"], writeRoles: ["self"], ttlMs: 100000 }), col({ name: "notes", storagePath: "notes/{identity}/{id}", readRoles: ["self"], writeRoles: ["self"] }), col({ name: "log", storagePath: "logs/{id}", appendOnly: { requireAuthorSignature: false, maxPullLimit: 3 } }), col({ name: "log2", storagePath: "logs2/{id}", appendOnly: { requireAuthorSignature: false, allowFull: false } }),
  col({ name: "fields", storagePath: "fields/{id}", fieldPermissions: { secret: { readRoles: ["admin"], writeRoles: ["admin"] }, locked: { writeRoles: ["public"] }, free: {} } }), col({ name: "premium", storagePath: "premium/{id}", readRoles: ["entitlement:gold"], writeRoles: ["admin"] }), col({ name: "entitlements", storagePath: "users/{identity}/entitlements", readRoles: ["self"], writeRoles: ["admin"] }),
  col({ name: "ring", storagePath: "x/{id}/_keyring" }), col({ name: "pictures", storagePath: "pictures/{id}", allowedMimeTypes: ["image/png"], forceFullFetch: true }), col({ name: "sink", storagePath: "sink", pushOnly: true, appendOnly: true }),
], namespaces: { tenant: { collections: [col({ name: "things", storagePath: "tenant/things/{id}", listable: true }), col({ name: "mine", storagePath: "tenant/users/{identity}", readRoles: ["self"], writeRoles: ["self"] })] } } } }, async ({ ask }) => {
  await ask("config", "GET", "/config")
  const a = { who: alice, cap: await rootOf(alice) }, adm = { who: admin, cap: await rootOf(admin) }, dev = { who: phone, cap: await device(alice, phone, ids.scopes.rootAll()) }
  const u = `users/${alice.userId}`
  await ask("bundle of nobody", "GET", `/pull/${u}`)
  await ask("bundle of a stranger", "GET", `/pull/${u}`, { as: adm })
  await ask("push to a bundle", "POST", `/push/${u}/settings`, { body: { data: { x: 1 }, baseHash: null }, as: a })
  await ask("push to the vault of a bundle", "POST", `/push/${u}/vault`, { body: { data: { y: 1 }, baseHash: null }, as: a })
  await ask("push to the vault of a bundle by a device", "POST", `/push/${u}/vault`, { body: { data: { y: 1 }, baseHash: null }, as: dev })
  await ask("push of a field that is locked", "POST", `/push/${u}/favourites`, { body: { data: { secret: 1 }, baseHash: null }, as: a })
  await ask("push to what is pulled only", "POST", `/push/${u}/badge`, { body: { data: {}, baseHash: null }, as: a })
  await ask("push to no member", "POST", `/push/${u}`, { body: { data: {}, baseHash: null }, as: a })
  await ask("pull of a member", "GET", `/pull/${u}/settings`, { as: a })
  await ask("bundle", "GET", `/pull/${u}`, { as: a })
  await ask("bundle of a device", "GET", `/pull/${u}`, { as: dev })
  await ask("open bundle, push", "POST", "/push/open/1/open-a", { body: { data: { x: 1 }, baseHash: null } })
  await ask("open bundle", "GET", "/pull/open/1")
  await ask("open bundle with a bad parameter", "GET", "/pull/open/..")
  await ask("open bundle with two dots", "GET", "/pull/open/a..b")
  await ask("profile", "POST", `/push/profiles/${alice.userId}`, { body: { data: { name: "alice" }, baseHash: null }, as: a })
  await ask("note", "POST", `/push/notes/${alice.userId}/n1`, { body: { data: { t: 1 }, baseHash: null }, as: a })
  for (let i = 0; i < 5; i++) await ask("log " + i, "POST", "/push/logs/l", { body: { data: { i } } })
  const last = now
  const q = (collections, params, appendParams) => "/batch/pull?" + new URLSearchParams({ ...(collections !== null && { collections }), ...(params && { params: typeof params === "string" ? params : JSON.stringify(params) }), ...(appendParams && { appendParams: typeof appendParams === "string" ? appendParams : JSON.stringify(appendParams) }) })
  const batches = {
    "without collections": q(null), "of nothing": q(""), "of commas": q(",,"), "of spaces": q(" , "), "of a name nobody knows": q("nobody"), "of one": q("profile"), "of one twice": q("profile,profile, profile"), "of one with parameters": q("profile", { profile: [{ identity: alice.userId }, { identity: bob.userId }, {}] }), "with no sets": q("profile", { profile: [] }), "of a private one": q("notes", { notes: [{ id: "n1" }] }),
    "of a private one of another": q("notes", { notes: [{ identity: bob.userId, id: "n1" }] }), "of a number": q("fields", { fields: [{ id: 5 }, { id: 1.5 }, { id: true }, { id: null }] }), "with a bad parameter": q("fields", { fields: [{ id: "a b" }, { id: "a/b" }, { id: "a..b" }, { id: "" }] }), "with parameters of another": q("profile", { fields: [{ id: "x" }] }), "with parameters more than needed": q("fields", { fields: [{ id: "x", more: "y" }] }),
    "with params not json": q("profile", "{"), "with params an array": q("profile", "[]"), "with params null": q("profile", "null"), "with params of an object": q("profile", { profile: {} }), "with params of arrays": q("profile", { profile: [[]] }), "of a keyring": q("ring", { ring: [{ id: "a" }] }), "of a log": q("log", { log: [{ id: "l" }] }), "of a log, all": q("log2", { log2: [{ id: "l" }] }), "of a file": q("pictures", { pictures: [{ id: "a" }] }),
    "of a log, the last": q("log", { log: [{ id: "l" }] }, { log: [{ last: 2 }] }), "of a log, a limit": q("log", { log: [{ id: "l" }] }, { log: [{ last: 1, limit: 9 }] }), "of a log, since": q("log", { log: [{ id: "l" }] }, { log: [{ since: last - 10 }] }), "of a log, since and last": q("log", { log: [{ id: "l" }] }, { log: [{ since: 1, last: 1 }] }), "of a log, nothing said": q("log", { log: [{ id: "l" }] }, { log: [{}] }), "of a log, null": q("log", { log: [{ id: "l" }] }, { log: [null] }),
    "of a log that is not there": q("log", { log: [{ id: "none" }] }, { log: [{ last: 1 }] }), "of a log, full": q("log", { log: [{ id: "l" }] }, { log: [{ full: true }] }), "of a log, lengths differ": q("log", { log: [{ id: "l" }, { id: "m" }] }, { log: [{ last: 1 }] }), "of a log, bad number": q("log", { log: [{ id: "l" }] }, { log: [{ last: -1 }] }), "of a log, fraction": q("log", { log: [{ id: "l" }] }, { log: [{ since: 1.5 }] }), "of a log, not an array": q("log", { log: [{ id: "l" }] }, { log: {} }), "of a log, not json": q("log", { log: [{ id: "l" }] }, "x"),
    "of a document with bounds": q("profile", { profile: [{ identity: alice.userId }] }, { profile: [{ last: 1 }] }), "over the budget": q("log2", { log2: Array.from({ length: 6 }, (_, i) => ({ id: "l" + i })) }, { log2: Array.from({ length: 6 }, () => ({ since: 0 })) }), "of very many": q("fields", { fields: Array.from({ length: 101 }, (_, i) => ({ id: "a" + i })) }), "of very many names": q(Array.from({ length: 101 }, (_, i) => "n" + i).join(",")), "of several": q("profile,notes,nobody,log", { notes: [{ id: "n1" }, { id: "n2" }], log: [{ id: "l" }] }, { log: [{ last: 1 }] }),
  }
  for (const [n, path] of Object.entries(batches)) { await ask(`batch ${n}`, "GET", path); await ask(`signed batch ${n}`, "GET", path, { as: a }) }
  const narrow = { who: phone, cap: await device(alice, phone, { ops: ["read"], collections: ["*"], paths: ["profiles/**"] }) }
  await ask("batch of a narrow device", "GET", q("profile,notes", { profile: [{}], notes: [{ id: "n1" }] }), { as: narrow })
  await ask("batch with a broken certificate", "GET", q("profile,notes", { profile: [{ identity: alice.userId }], notes: [{ id: "n1" }] }), { headers: { Authorization: "Cap x" } })
  const fields = (await ask("fields, one locked", "POST", "/push/fields/a", { body: { data: { secret: 1 }, baseHash: null } }), await ask("fields, none locked", "POST", "/push/fields/a", { body: { data: { locked: 1, free: 2, other: 3 }, baseHash: null } })).json
  await ask("fields, by the admin, who is not asked who it is", "POST", "/push/fields/a", { body: { data: { secret: 1, other: 2 }, baseHash: fields.hash }, as: adm })
  await ask("pull of fields", "GET", "/pull/fields/a")
  await ask("premium, by nobody", "GET", "/pull/premium/a")
  await ask("premium, pushed by the admin", "POST", "/push/premium/a", { body: { data: { p: 1 }, baseHash: null }, as: adm })
  await ask("premium, without entitlement", "GET", "/pull/premium/a", { as: a })
  await ask("entitlement, by oneself", "POST", `/push/${u}/entitlements`, { body: { data: { features: ["gold"] }, baseHash: null }, as: a })
  await ask("entitlement, by the admin", "POST", `/push/${u}/entitlements`, { body: { data: { features: ["silver", "gold", 5] }, baseHash: null }, as: adm })
  await ask("premium, with entitlement", "GET", "/pull/premium/a", { as: a })
  await ask("namespace: push", "POST", "/tenant/push/tenant/things/a", { body: { data: { x: 1 }, baseHash: null } })
  await ask("namespace: pull", "GET", "/tenant/pull/tenant/things/a")
  await ask("namespace: pull without it", "GET", "/pull/tenant/things/a")
  await ask("namespace: list", "GET", "/tenant/list/tenant/things")
  await ask("namespace: batch", "GET", "/tenant" + q("things,profile", { things: [{ id: "a" }] }))
  await ask("namespace: batch of another's", "GET", q("things"))
  await ask("namespace: health", "GET", "/tenant/health")
  await ask("namespace: unknown", "GET", "/other/pull/tenant/things/a")
  await ask("namespace: signed push", "POST", `/tenant/push/tenant/users/${alice.userId}`, { body: { data: { x: 1 }, baseHash: null }, as: a })
  await ask("namespace: signed batch", "GET", "/tenant" + q("mine"), { as: a })
})

await scenario("by role", { describe: "role-filtered", config: { version: 1, collections: [col({ name: "open" , storagePath: "open/{id}" }), col({ name: "notes", storagePath: "notes/{id}", readRoles: ["cap:read:notes"], writeRoles: ["nobody"] }), col({ name: "self", storagePath: "self/{identity}", readRoles: ["self"], writeRoles: ["self"] })], namespaces: { n: { collections: [col({ name: "x", storagePath: "n/{id}", readRoles: ["cap:read:notes"], writeRoles: ["x"] })] } } } }, async ({ ask }) => {
  await ask("config for nobody", "GET", "/config")
  await ask("config for a device", "GET", "/config", { as: { who: phone, cap: await device(alice, phone, { ops: ["read"], collections: ["notes"] }) } })
  await ask("config with a broken certificate", "GET", "/config", { headers: { Authorization: "Cap x" } })
})

await scenario("restricted", { restrict: true, config: { version: 1, restrictions: [{ mode: "deny", identities: [carol.userId] }], collections: [
  col({ name: "open", storagePath: "open/{id}" }), col({ name: "few", storagePath: "few/{id}", listable: true, restrictions: [{ mode: "allow", identities: [alice.userId], actions: ["push", "list"] }] }), col({ name: "a", storagePath: "b/{id}", bundle: "b" }), col({ name: "c", storagePath: "b/{id}", bundle: "b", restrictions: [{ mode: "deny", identities: [bob.userId] }] }),
], namespaces: { n: { restrictions: [{ mode: "allow", identities: [bob.userId] }], collections: [col({ name: "open", storagePath: "n/{id}" })] } } } }, async ({ ask }) => {
  for (const [n, w] of Object.entries({ nobody: null, alice, bob, carol })) {
    const as = w ? { who: w, cap: await rootOf(w) } : undefined
    await ask(`${n} pulls`, "GET", "/pull/open/a", { as })
    await ask(`${n} pushes`, "POST", "/push/open/" + n, { body: { data: {}, baseHash: null }, as })
    await ask(`${n} pulls of few`, "GET", "/pull/few/a", { as })
    await ask(`${n} pushes to few`, "POST", "/push/few/" + n, { body: { data: {}, baseHash: null }, as })
    await ask(`${n} lists few`, "GET", "/list/few", { as })
    await ask(`${n} pulls a bundle`, "GET", "/pull/b/1", { as })
    await ask(`${n} pulls in the namespace`, "GET", "/n/pull/n/1", { as })
    await ask(`${n} pulls a batch`, "GET", "/batch/pull?collections=open&params=" + encodeURIComponent('{"open":[{"id":"a"}]}'), { as })
  }
})

await scenario("rates", { config: { version: 1, rateLimit: { windowMs: 1000, maxRequests: 2 }, collections: [col({ name: "a", storagePath: "a/{id}", rateLimit: true, listable: true }), col({ name: "b", storagePath: "b/{id}", rateLimit: { pull: { maxRequests: 1 }, list: { windowMs: 100 } }, listable: true }), col({ name: "c", storagePath: "c/{id}", rateLimit: { push: { identity: { maxRequests: 1 }, ip: { maxRequests: 3 } } }, writeRoles: ["cap:write:*"] }), col({ name: "d", storagePath: "d/{id}", rateLimit: false })] } }, async ({ ask }) => {
  for (let i = 0; i < 4; i++) for (const c of ["a", "b", "d"]) { await ask(`push ${c} ${i}`, "POST", `/push/${c}/${i}`, { body: { data: {}, baseHash: null } }); await ask(`pull ${c} ${i}`, "GET", `/pull/${c}/x`); if (c !== "d") await ask(`list ${c} ${i}`, "GET", `/list/${c}`) }
  await ask("after a while", "POST", "/push/a/later", { body: { data: {}, baseHash: null }, wait: 2000 })
  for (const w of [alice, bob, carol, admin]) for (let i = 0; i < 2; i++) await ask(`push by ${w.userId.slice(0, 4)} ${i}`, "POST", `/push/c/${w.userId}-${i}`, { body: { data: {}, baseHash: null }, as: { who: w, cap: await rootOf(w) } })
})

await scenario("mounted", { prefix: "/v1", config: { version: 1, collections: [col({ name: "notes", storagePath: "notes/{id}" }), col({ name: "mine", storagePath: "mine/{identity}", readRoles: ["self"], writeRoles: ["self"] })], namespaces: { n: { collections: [col({ name: "mine", storagePath: "n/{identity}", readRoles: ["self"], writeRoles: ["self"] })] } } } }, async ({ ask }) => {
  const as = { who: alice, cap: await rootOf(alice) }
  await ask("health", "GET", "/v1/health")
  await ask("health without the prefix", "GET", "/health")
  await ask("another prefix", "GET", "/v10/health")
  await ask("push", "POST", "/v1/push/notes/a", { body: { data: {}, baseHash: null } })
  await ask("pull", "GET", "/v1/pull/notes/a")
  await ask("signed as received", "POST", `/v1/push/mine/${alice.userId}`, { body: { data: { x: 1 }, baseHash: null }, as })
  await ask("signed as published clients do", "GET", `/v1/pull/mine/${alice.userId}?x=1`, { as, signPath: `/pull/mine/${alice.userId}?x=1` })
  await ask("signed with another prefix", "GET", `/v1/pull/mine/${alice.userId}`, { as, signPath: `/v2/pull/mine/${alice.userId}` })
  await ask("signed with the prefix twice", "GET", `/v1/pull/mine/${alice.userId}`, { as, signPath: `/v1/v1/pull/mine/${alice.userId}` })
  await ask("in a namespace", "GET", `/v1/n/pull/n/${alice.userId}`, { as })
  await ask("batch", "GET", "/v1/batch/pull?collections=mine", { as })
  await ask("batch in a namespace", "GET", "/v1/n/batch/pull?collections=mine", { as })
})

writeFileSync(file, JSON.stringify(scenarios, null, 1) + "\n")
console.log(scenarios.map((s) => `${s.name}: ${s.steps.length}`).join("\n"))
process.exit(0)
