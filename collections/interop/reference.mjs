// Serves a configuration by the published server, in memory. Run: node reference.mjs CONFIG PORT; it prints its URL.
import { readFileSync } from "node:fs"
import { Hono } from "hono"
import { serve } from "@hono/node-server"
import * as srv from "@drakkar.software/starfish-server"
import * as ids from "@drakkar.software/starfish-identities"
import * as sharing from "@drakkar.software/starfish-sharing"

console.warn = () => {}
const many = { maxEntries: 1e7, perSignerLimit: 1e7 } // or it lets no more than 4,096 requests of a key in, in ten minutes
const app = new Hono()
app.route("/", srv.createSyncRouter({
  store: new srv.MemoryObjectStore(new Map()), config: srv.parseConfigJson(readFileSync(process.argv[2], "utf8")), configEndpoint: { auth: "public" },
  roleResolver: srv.createCapCertRoleResolver({ nonceCache: srv.createInMemoryNonceCache(many), revocationStore: srv.createInMemoryRevocationStore(), plugins: [ids.identitiesServerPlugin, sharing.sharingServerPlugin], maxBodyBytes: 1 << 20 }),
}))
serve({ fetch: app.fetch, port: Number(process.argv[3] ?? 0), hostname: "127.0.0.1" }, (at) => console.log(`http://127.0.0.1:${at.port}`))
