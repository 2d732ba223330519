// Package evm lets callers of collections prove who they are with an EVM wallet: the signature of
// each request, who signs and who checks it.
//
// What belongs here: the headers of such a request, its canonical string, and the check of both;
// the signature of an author over a document. What never belongs here: what a caller may do, and
// anything that asks a chain.
//
// Start at Verifier, for servers, and Signer, for clients. The rules, and where they differ from
// those of the server that introduced the scheme, stand in docs/protocol/evm.md.
package evm

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/skerry-sync/skerry/collections/value"
	"github.com/skerry-sync/skerry/identity/eth"
)

// Family is what the names of the five headers begin with. A request has those of one.
type Family string

// The families: the scheme's first one, and the one that it was given later.
const (
	OctoBot  Family = "X-OctoBot-"
	Starfish Family = "X-Starfish-"
)

var families = []Family{OctoBot, Starfish}

// The headers, behind their family.
const (
	headerAddress   = "Pubkey"    // 0x and 40 hex digits; at most 256 characters
	headerSignature = "Signature" // 130 hex digits, with or without 0x; at most 512 characters
	headerTime      = "Timestamp" // Unix milliseconds: 1 to 16 digits
	headerNonce     = "Nonce"     // at most 128 characters
	headerChain     = "Chain"     // evm: and the number of the chain
)

var headerNames = []string{headerAddress, headerSignature, headerTime, headerNonce, headerChain}

// Header is one of the five of a request.
type Header struct {
	Name   string // behind the family's
	Header string // all of it
	What   string // it holds
}

// Headers returns the headers of a family.
func (f Family) Headers() (all []Header) {
	for i, what := range []string{
		"Address: 0x and 40 hex digits", "r, s and v of the signature: 130 hex digits",
		"Unix milliseconds", "A random UUID", "Chain, as evm:8453",
	} {
		all = append(all, Header{headerNames[i], string(f) + headerNames[i], what})
	}
	return all
}

// Bounds of the headers, in characters.
const (
	maxAddress   = 256
	maxSignature = 512
	maxTime      = 16
	maxNonce     = 128
)

// Canonical returns what is signed for a request: six lines, without one's end at the last. The
// path has neither query nor escapes.
func Canonical(method, path, time, nonce string, body []byte) []byte {
	sum := sha256.Sum256(body)
	return []byte(
		strings.Join(
			[]string{"ED25519-OCTOBOT", method, path, time, nonce, hex.EncodeToString(sum[:])}, "\n",
		),
	) // no Ed25519 is involved: the name is older
}

// ErrPath reports a path with an escape, which two readers could take for two paths.
var ErrPath = errors.New("a path that is signed must not have a %")

// ErrAuthor reports a signature of a document that is not its author's.
var ErrAuthor = errors.New("the author's signature is wrong")

// SignData returns the author's signature of a document: over its canonical JSON.
func SignData(key eth.Key, data *value.Object) string {
	return hexOf(key.Sign(eth.TextDigest(value.AppendCanonical(nil, data))))
}

// VerifyData returns ErrAuthor unless the signature of a document is that of an address.
func VerifyData(address eth.Address, data *value.Object, signature string) error {
	return (&Verifier{}).verifyData(address, data, signature)
}

// hexOf returns a signature as the clients of the scheme send it, without 0x.
func hexOf(s eth.Signature) string { return hex.EncodeToString(s[:]) }

// TimeOf returns the header with the time of a request, "" if there is none.
func TimeOf(h http.Header) string {
	for _, f := range families {
		if s := h.Get(string(f) + headerTime); s != "" {
			return s
		}
	}
	return ""
}

// headers are the five of a request.
type headers struct {
	address, signature, time, nonce, chain string
}

// Presents reports whether a request has any of the headers. One that presents a capability
// certificate, whose nonce has a name of the later family, does not.
func Presents(h http.Header) bool {
	if strings.HasPrefix(h.Get("Authorization"), "Cap ") {
		return false
	}
	for _, f := range families {
		for _, name := range headerNames {
			if len(h.Values(string(f)+name)) > 0 {
				return true
			}
		}
	}
	return false
}

func readHeaders(h http.Header) (x headers, err error) {
	var of Family
	for _, f := range families {
		for _, name := range headerNames {
			switch n := len(h.Values(string(f) + name)); {
			case n == 0:
				continue
			case n > 1:
				return x, fmt.Errorf("%s%s is there more than once", f, name)
			case of != "" && of != f:
				return x, errors.New("there are headers of both families")
			}
			of = f
		}
	}
	for _, field := range []struct {
		name string
		v    *string
	}{
		{headerAddress, &x.address}, {headerSignature, &x.signature}, {headerTime, &x.time},
		{headerNonce, &x.nonce}, {headerChain, &x.chain},
	} {
		if *field.v = h.Get(string(of) + field.name); *field.v == "" {
			return x, fmt.Errorf("%s%s is missing", of, field.name)
		}
	}
	switch {
	case len(x.address) > maxAddress:
		return x, fmt.Errorf("the address is longer than %d characters", maxAddress)
	case len(x.signature) > maxSignature:
		return x, fmt.Errorf("the signature is longer than %d characters", maxSignature)
	case len(x.nonce) > maxNonce:
		return x, fmt.Errorf("the nonce is longer than %d characters", maxNonce)
	}
	return x, nil
}
