// Package openapi describes the routes of a configuration of collections as OpenAPI 3.1, for people
// and for the generators of clients.
//
// What belongs here: the description, as a pure function of the configuration. What never belongs
// here: answering any of the routes.
package openapi

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/skerry-sync/skerry/collections/access"
	"github.com/skerry-sync/skerry/collections/config"
	"github.com/skerry-sync/skerry/collections/value"
)

// Options say what the configuration does not.
type Options struct {
	Title   string // "" is Collections
	Version string // of the API; "" is 1.0.0
	URL     string // of the server, with the prefix; "" is left out
}

func obj(pairs ...any) *value.Object {
	o := &value.Object{}
	for i := 0; i < len(pairs); i += 2 {
		o.Set(pairs[i].(string), pairs[i+1])
	}
	return o
}

func ref(kind, name string) *value.Object { return obj("$ref", "#/components/"+kind+"/"+name) }

func body(schema any) *value.Object { return obj(config.JSON, obj("schema", schema)) }

// Describe returns the description.
func Describe(c *config.Config, o Options) *value.Object {
	d := &describer{paths: &value.Object{}, ids: map[string]bool{}}
	d.path(
		"/health", "get",
		obj(
			"operationId", "health", "summary", "Whether the server is there", "responses",
			responses(ok(ref("schemas", "Health"))),
		),
	)
	d.path(
		"/config", "get",
		obj(
			"operationId", "config", "summary", "Which collections there are", "responses",
			responses(ok(obj("type", "object")), "404"),
		),
	)
	d.path(
		"/revocations", "post",
		obj(
			"operationId", "revoke", "summary",
			"Give the server a list of revoked certificates, which its issuer has signed", "requestBody",
			obj("required", true, "content", body(obj("type", "object"))), "responses",
			responses(ok(obj("type", "object")), "400", "409", "413"),
		),
	)
	d.collections("", "", c.Collections)
	for _, n := range c.Namespaces {
		d.collections("/"+n.Name, n.Name+"_", n.Collections)
	}
	doc := obj(
		"openapi", "3.1.0", "info",
		obj(
			"title", cmp.Or(o.Title, "Collections"), "version", cmp.Or(o.Version, "1.0.0"), "description",
			"Document collections by the Starfish v3 wire.",
		),
	)
	if o.URL != "" {
		doc.Set("servers", value.Array{obj("url", o.URL)})
	}
	doc.Set("paths", d.paths)
	doc.Set("components", components())
	if c.EVM != nil {
		wallets(doc)
	}
	return doc
}

type describer struct {
	paths *value.Object
	ids   map[string]bool // of operations
}

func (d *describer) path(path, method string, operation *value.Object) {
	v, _ := d.paths.Get(path)
	item, ok := v.(*value.Object)
	if !ok {
		item = &value.Object{}
		d.paths.Set(path, item)
	}
	if _, taken := item.Get(method); taken { // as with routes, the first counts
		return
	}
	id, _ := operation.String("operationId")
	for d.ids[id] {
		id += "_"
	}
	d.ids[id] = true
	operation.Set("operationId", id)
	item.Set(method, operation)
}

func (d *describer) collections(under, id string, all []*config.Collection) {
	d.path(
		under+"/batch/pull", "get",
		obj("operationId", id+"batch", "summary", "Several documents at once", "parameters", value.Array{
			query("collections", "names, separated by commas", obj("type", "string"), true),
			query(
				"params", "JSON: for each name an array of sets of path parameters, a document each",
				obj("type", "string"), false,
			),
			query(
				"appendParams", "JSON: for each name an array of {since, last, limit}, for logs",
				obj("type", "string"), false,
			),
		}, "security", optional(), "responses", responses(ok(obj("type", "object")), "400")),
	)
	bundles := map[string]bool{}
	for _, c := range all {
		name := id + c.Name
		path := "/" + c.StoragePath
		push := under + "/push" + path
		if c.Bundle != "" {
			push += "/" + c.Name
			if !bundles[c.Bundle] {
				bundles[c.Bundle] = true
				d.path(
					under+"/pull"+path, "get",
					obj(
						"operationId", "pull_bundle_"+id+c.Bundle, "summary",
						"All collections of the bundle "+c.Bundle+" that the caller may read", "tags",
						value.Array{c.Bundle}, "parameters", params(c.StoragePath), "security", optional(),
						"responses", responses(ok(ref("schemas", "Bundle")), "400", "401", "403"),
					),
				)
			}
		} else if !c.PushOnly {
			d.path(under+"/pull"+path, "get", pull(c, name))
		}
		if c.Listable {
			prefix := c.StoragePath[:max(0, strings.LastIndexByte(c.StoragePath, '/'))]
			d.path(
				strings.TrimSuffix(under+"/list/"+prefix, "/"), "get",
				operation(
					c, false,
					obj(
						"operationId", "list_"+name, "summary", "What there is in "+c.Name, "tags",
						value.Array{c.Name}, "parameters", append(params(prefix),
							query(
								"limit", "items on the page",
								obj("type", "integer", "minimum", 1.0, "maximum", 1000.0, "default", 100.0), false,
							),
							query("after", "the last item of the page before", obj("type", "string"), false)),
						"responses", responses(ok(ref("schemas", "List")), "400", "401", "403", "429"),
					),
				),
			)
		}
		if !c.PullOnly {
			d.path(push, "post", pushTo(c, name))
		}
	}
}

// operation adds what callers must present.
func operation(c *config.Collection, write bool, o *value.Object) *value.Object {
	roles := c.ReadRoles
	if write {
		roles = c.WriteRoles
	}
	if slices.Contains(roles, config.RolePublic) && !c.RootOnly {
		o.Set("security", optional())
	} else {
		o.Set("security", value.Array{required()})
		o.Set("description", "One of these roles is needed: "+strings.Join(roles, ", ")+".")
	}
	return o
}

func pull(c *config.Collection, name string) *value.Object {
	all := params(c.StoragePath)
	var content *value.Object
	summary := "A document of " + c.Name
	switch {
	case c.Binary():
		summary = "A file of " + c.Name
		content = &value.Object{}
		for _, m := range c.AllowedMimeTypes {
			content.Set(m, obj("schema", obj("type", "string", "format", "binary")))
		}
	case c.AppendOnly != nil && c.AppendOnly.Persist:
		summary = "A part of a log of " + c.Name
		integer := obj("type", "integer", "minimum", 0.0)
		all = append(
			all, query("checkpoint", "only elements later than this, in Unix milliseconds", integer, false),
			query("limit", "only the last so many", integer, false),
			query("last", "only the last so many", integer, false),
		)
		all = append(
			all,
			query(
				"cursor",
				"what has come since an answer with this cursor, in the order of times; empty at first. "+
					"With limit, about so many. The answer has cursor and more, and no hash; an element "+
					"may come again",
				obj("type", "string"), false,
			),
		)
		if c.AppendOnly.AllowFull {
			all = append(all, query("full", "all of it", obj("type", "boolean"), false))
		}
		content = body(
			obj("type", "object", "required", value.Array{"data", "timestamp"}, "properties", obj(
				"data",
				obj(
					"type", "object", "properties",
					obj(c.AppendOnly.Field, obj("type", "array", "items", ref("schemas", "Element"))),
				),
				"hash", obj("type", "string"), "timestamp", obj("type", "integer"),
				"cursor", obj("type", "string"), "more", obj("type", "boolean"))),
		)
	default:
		all = append(
			all,
			query(
				"withKeyring", "also the keyring beside it",
				obj("type", "string", "enum", value.Array{"1", "true"}), false,
			),
		)
		content = body(ref("schemas", "Document"))
		if c.ObjectSchema != nil {
			content = body(
				obj(
					"allOf",
					value.Array{
						ref("schemas", "Document"),
						obj(
							"properties",
							obj("data", obj("anyOf", value.Array{c.ObjectSchema, obj("maxProperties", 0.0)})),
						),
					},
				),
			)
		}
	}
	answers := responses(
		obj(
			"description", "What is there", "headers", obj("ETag", obj("schema", obj("type", "string"))),
			"content", content,
		),
		"400", "401", "403", "429",
	)
	answers.Set("304", obj("description", "It is what the caller has"))
	if c.Binary() {
		answers.Set("404", obj("description", "There is nothing"))
	}
	return operation(
		c, false,
		obj(
			"operationId", "pull_"+name, "summary", summary, "tags", value.Array{c.Name}, "parameters", all,
			"responses", answers,
		),
	)
}

func pushTo(c *config.Collection, name string) *value.Object {
	var content *value.Object
	data := any(obj("type", "object"))
	if c.ObjectSchema != nil {
		data = c.ObjectSchema
	}
	proof := func(o *value.Object) *value.Object {
		o.Set("authorPubkey", obj("type", "string", "description", "Ed25519 public key, hex"))
		o.Set("authorSignature", obj("type", "string", "description", "base64"))
		return o
	}
	needs := value.Array{"data"}
	summary := "Write a document of " + c.Name
	switch {
	case c.Binary():
		summary = "Write a file of " + c.Name
		content = &value.Object{}
		for _, m := range c.AllowedMimeTypes {
			content.Set(m, obj("schema", obj("type", "string", "format", "binary")))
		}
	case c.AppendOnly != nil:
		summary = "Append to a log of " + c.Name
		if c.AppendOnly.RequireAuthorSignature {
			needs = append(needs, "authorPubkey", "authorSignature")
		}
		content = body(
			obj(
				"type", "object", "required", needs, "properties",
				proof(obj("data", data, "ts", obj("type", value.Array{"integer", "null"}, "minimum", 0.0))),
			),
		)
	default:
		content = body(
			obj(
				"type", "object", "required", needs, "properties",
				proof(
					obj(
						"data", data, "baseHash",
						obj(
							"type", value.Array{"string", "null"}, "description",
							"the hash of what is there; null if there must be nothing",
						),
					),
				),
			),
		)
	}
	return operation(
		c, true,
		obj(
			"operationId", "push_"+name, "summary", summary, "tags", value.Array{c.Name}, "parameters",
			params(c.StoragePath), "requestBody",
			obj(
				"required", true, "description", fmt.Sprintf("At most %d bytes.", c.MaxBodyBytes), "content",
				content,
			),
			"responses",
			responses(ok(ref("schemas", "Written")), "400", "401", "403", "409", "413", "415", "429"),
		),
	)
}

func params(template string) (all value.Array) {
	for _, name := range config.Params(template) {
		all = append(
			all,
			obj(
				"name", name, "in", "path", "required", true, "schema",
				obj("type", "string", "pattern", `^[a-zA-Z0-9._:@-]+$`),
			),
		)
	}
	return all
}

func query(name, what string, schema *value.Object, must bool) *value.Object {
	o := obj("name", name, "in", "query", "description", what, "schema", schema)
	if must {
		o.Set("required", true)
	}
	return o
}

// required is the certificate with its signature; optional is nothing, or these.
func required() *value.Object {
	return obj(
		"certificate", value.Array{}, "signature", value.Array{}, "time", value.Array{}, "nonce",
		value.Array{},
	)
}

func optional() value.Array { return value.Array{&value.Object{}, required()} }

func ok(schema *value.Object) *value.Object {
	return obj("description", "Done", "content", body(schema))
}

var reasons = map[string]string{
	"400": "The request is malformed", "401": "The caller is not who it says",
	"403": "The caller may not", "404": "There is nothing",
	"409": "Somebody else has written meanwhile, or a log is full or later",
	"413": "The body is too long", "415": "The media type is not allowed", "429": "Too many requests",
}

func responses(done *value.Object, statuses ...string) *value.Object {
	o := obj("200", done)
	for _, s := range statuses {
		o.Set(s, obj("description", reasons[s], "content", body(ref("schemas", "Error"))))
	}
	return o
}

func components() *value.Object {
	str, integer := obj("type", "string"), obj("type", "integer", "description", "Unix milliseconds")
	header := func(name, what string) *value.Object {
		return obj("type", "apiKey", "in", "header", "name", name, "description", what)
	}
	object := func(required value.Array, properties *value.Object) *value.Object {
		return obj("type", "object", "required", required, "properties", properties)
	}
	document := obj(
		"data", obj("type", "object"), "hash",
		obj("type", "string", "description", "empty if there is nothing"), "timestamp", integer,
		"authorPubkey", str, "authorSignature", str,
	)
	return obj("schemas", obj(
		"Health", object(value.Array{"ok", "ts"}, obj("ok", obj("type", "boolean"), "ts", integer)),
		"Document", object(value.Array{"data", "hash", "timestamp"}, document),
		"Element",
		object(
			value.Array{"ts", "data"},
			obj("ts", integer, "data", obj("type", "object"), "authorPubkey", str, "authorSignature", str),
		),
		"Bundle", object(
			value.Array{"collections", "timestamp"},
			obj(
				"collections",
				obj(
					"type", "object", "additionalProperties",
					object(value.Array{"data", "hash"}, obj("data", obj("type", "object"), "hash", str)),
				),
				"timestamp", integer,
			),
		),
		"List", object(
			value.Array{"items", "hasMore"},
			obj("items", obj("type", "array", "items", str), "hasMore", obj("type", "boolean")),
		),
		"Written", object(value.Array{"hash"}, obj("hash", str, "timestamp", integer)),
		"Error", object(value.Array{"error"}, obj("error", str)),
	), "securitySchemes", obj(
		"certificate", header("Authorization", "Cap and base64 of the certificate"),
		"signature", header(access.HeaderSignature, "base64 of the request's signature"),
		"time", header(access.HeaderTime, "Unix milliseconds"),
		"nonce", header(access.HeaderNonce, "base64 of 16 random bytes"),
	))
}
