package vault

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/skerry-sync/skerry/identity"
	"github.com/skerry-sync/skerry/internal/kind"
	"github.com/skerry-sync/skerry/project"
	"github.com/skerry-sync/skerry/replica"
)

// A keyring is talked to in single calls: a JSON object each way, of which docs/protocol/vault.md
// lists the fields. A call names an operation, "op"; a reply has what the operation gives or, under
// "error", the name of what is wrong, and under "message" the words for it. Apps may call only what
// is for them.

const (
	// MaxCall is the length of the longest call and the longest reply in bytes.
	MaxCall     = 256 << 10
	callVersion = 1
)

type call struct {
	Version int    `json:"version"`
	Op      string `json:"op"`
	Ask     *Ask   `json:"ask,omitempty"`
	Request string `json:"request,omitempty"`
	Session string `json:"session,omitempty"`
	// App, AppNet and AppNamed are of a call that a node passes on.
	App      string  `json:"app,omitempty"`
	AppNet   string  `json:"app_net,omitempty"`
	AppNamed bool    `json:"app_named,omitempty"`
	Identity string  `json:"identity,omitempty"`
	Password string  `json:"password,omitempty"`
	Form     Form    `json:"form,omitempty"`
	Asset    []byte  `json:"asset,omitempty"`
	ToSign   *ToSign `json:"to_sign,omitempty"`

	Kind             string `json:"kind,omitempty"`
	Mnemonic         string `json:"mnemonic,omitempty"`
	Keystore         []byte `json:"keystore,omitempty"`
	KeystorePassword string `json:"keystore_password,omitempty"`
}

type reply struct {
	Error      string         `json:"error,omitempty"`
	Message    string         `json:"message,omitempty"`
	Asked      *Asked         `json:"asked,omitempty"`
	Answer     *wireAnswer    `json:"answer,omitempty"`
	Replica    *replica.ID    `json:"replica_id,omitempty"`
	Epoch      uint32         `json:"epoch,omitempty"`
	Key        []byte         `json:"key,omitempty"` // a read key, or the catalogue key
	Identities []wireIdentity `json:"identities,omitempty"`
	Requests   []Request      `json:"requests,omitempty"`
	Text       string         `json:"text,omitempty"`
	// of a vault: the replica's seed, catalogue key, read key, restore key
	Secrets [][]byte `json:"secrets,omitempty"`
	Asset   []byte   `json:"asset,omitempty"`
}

type wireIdentity struct {
	ID     identity.ID `json:"identity"`
	Kind   string      `json:"kind"`
	Public []byte      `json:"public_key"`
	Nonce  []byte      `json:"nonce"`
}

type wireAnswer struct {
	wireIdentity
	Signature         []byte    `json:"signature"`
	Address           string    `json:"address,omitempty"`
	AuthenticatorData []byte    `json:"authenticator_data,omitempty"`
	ClientDataJSON    []byte    `json:"client_data_json,omitempty"`
	At                time.Time `json:"at"`
	Session           string    `json:"session"`
	Ends              time.Time `json:"ends"`
}

func (i *Identity) wire() wireIdentity {
	return wireIdentity{i.ID, i.Kind.String(), i.Public[:], i.Nonce[:]}
}

func (w *wireIdentity) identity() (i Identity, err error) {
	i.ID = w.ID
	if i.Kind, err = identity.ParseKind(w.Kind); err != nil {
		return i, err
	}
	if len(w.Public) != len(i.Public) || len(w.Nonce) != len(i.Nonce) {
		return i, errors.New("a key or nonce of the wrong length")
	}
	copy(i.Public[:], w.Public)
	copy(i.Nonce[:], w.Nonce)
	return i, nil
}

func (a *Answer) wire() *wireAnswer {
	i := Identity{a.Identity, a.Signature.Kind, a.Signature.PublicKey, a.Nonce}
	return &wireAnswer{
		i.wire(), a.Signature.Signature, a.Signature.Address, a.Signature.AuthenticatorData,
		a.Signature.ClientDataJSON, a.At, a.Session, a.Ends,
	}
}

func (w *wireAnswer) answer() (Answer, error) {
	i, err := w.identity()
	s := identity.Signature{
		Kind: i.Kind, Signature: w.Signature, PublicKey: i.Public, Address: w.Address,
		AuthenticatorData: w.AuthenticatorData, ClientDataJSON: w.ClientDataJSON,
	}
	return Answer{i.ID, i.Nonce, s, w.At, w.Session, w.Ends}, err
}

// wireErrors are those that a caller decides on, by their names in replies.
var wireErrors = map[string]error{
	"no_identity": ErrNoIdentity, "which_identity": ErrWhichIdentity,
	"identity_exists": ErrIdentityExists, "bad_ask": ErrBadAsk, "replayed": ErrReplayed,
	"too_many_requests": ErrTooManyRequests, "no_request": ErrNoRequest, "undecided": ErrUndecided, "denied": ErrDenied, "no_session": ErrNoSession,
	"wrong_password": identity.ErrWrongPassword, "no_password": identity.ErrNoPassword, "bad_keystore": identity.ErrBadKeystore, "bad_mnemonic": identity.ErrBadMnemonic,
	"not_for_apps": ErrNotForApps,
}

// wireName returns the name that an error has in replies, or nothing.
func wireName(err error) string {
	for name, known := range wireErrors {
		if errors.Is(err, known) {
			return name
		}
	}
	return ""
}

// ErrNotForApps reports a call that only the person's own programs may make.
var ErrNotForApps = kind.New(kind.NotAllowed, "this call is not for apps")

// wireError is an error that has come in a reply.
type wireError struct {
	message string
	is      error
}

func (e *wireError) Error() string { return e.message }
func (e *wireError) Unwrap() error { return e.is }

// ServeApp answers a call of an app. What is wrong with the keyring itself is none of the app's
// business, who may be anybody: the words for it name files and identities. failed is told of it.
func ServeApp(
	ctx context.Context, k Keyring, app App, msg []byte, failed func(error),
) []byte {
	return serve(msg, func(c *call) (reply, error) {
		r, ok, err := serveApp(ctx, k, app, c)
		if !ok {
			err = fmt.Errorf("%.32q: %w", c.Op, ErrNotForApps)
		}
		if err != nil && !forApps[wireName(err)] {
			if ctx.Err() == nil { // or the app has hung up
				failed(err)
			}
			err = errFailed
		}
		return r, err
	})
}

// forApps are the names of errors that apps are told.
var forApps = map[string]bool{
	"no_identity": true, "bad_ask": true, "replayed": true, "too_many_requests": true,
	"no_request": true, "undecided": true, "denied": true, "no_session": true, "not_for_apps": true,
}

// errFailed is all that an app is told of a fault of the keyring.
var errFailed = errors.New("the keyring cannot answer now: its log says why")

// Serve answers a call of the person's own programs, among them a node that passes on what apps
// call.
func Serve(ctx context.Context, k Keyring, msg []byte) []byte {
	return serve(msg, func(c *call) (reply, error) {
		if r, ok, err := serveApp(ctx, k, App{c.App, c.AppNet, c.AppNamed}, c); ok {
			return r, err
		}
		return servePerson(ctx, k, c)
	})
}

func serve(msg []byte, answer func(*call) (reply, error)) []byte {
	var c call
	err := json.Unmarshal(msg, &c)
	switch {
	case len(msg) > MaxCall:
		err = fmt.Errorf("%w: %d bytes", ErrBadAsk, len(msg))
	case err != nil:
		err = fmt.Errorf("%w: %w", ErrBadAsk, err)
	case c.Version != callVersion:
		err = fmt.Errorf("%w: version %d, expected %d", ErrBadAsk, c.Version, callVersion)
	}
	var r reply
	if err == nil {
		r, err = answer(&c)
	}
	if err != nil {
		r = reply{Error: cmp.Or(wireName(err), "failed"), Message: err.Error()}
	}
	b, err := json.Marshal(&r)
	if err != nil || len(b) > MaxCall {
		b = []byte(`{"error":"failed","message":"the keyring's reply cannot be written"}`)
	}
	return b
}

func serveApp(ctx context.Context, k Keyring, app App, c *call) (r reply, ok bool, err error) {
	switch c.Op {
	case "ask":
		if c.Ask == nil {
			return r, true, fmt.Errorf("%w: nothing is asked", ErrBadAsk)
		}
		asked, err := k.Ask(ctx, app, *c.Ask)
		r.Asked = &asked
		return r, true, err
	case "wait":
		a, err := k.Wait(ctx, app, c.Request)
		if err == nil {
			r.Answer = a.wire()
		}
		return r, true, err
	case "access":
		a, err := k.Access(ctx, app, c.Session)
		r.Replica, r.Epoch, r.Key, r.Text = &a.Replica, a.ReadKey.Epoch, a.ReadKey.Key[:], a.Ticket
		return r, true, err
	case "key":
		key, err := k.CatalogueKey(ctx, app, c.Session)
		r.Key = key[:]
		return r, true, err
	}
	return r, false, nil
}

func servePerson(ctx context.Context, k Keyring, c *call) (r reply, err error) {
	var id identity.ID
	if c.Identity != "" {
		if id, err = identity.ParseID(c.Identity); err != nil {
			return r, err
		}
	}
	switch c.Op {
	case "identities":
		all, err := k.Identities(ctx)
		for i := range all {
			r.Identities = append(r.Identities, all[i].wire())
		}
		return r, err
	case "add":
		n := NewIdentity{
			Mnemonic: c.Mnemonic, Keystore: c.Keystore, KeystorePassword: c.KeystorePassword,
			Password: c.Password,
		}
		if c.Kind != "" {
			if n.Kind, err = identity.ParseKind(c.Kind); err != nil {
				return r, err
			}
		}
		i, err := k.Add(ctx, n)
		r.Identities = []wireIdentity{i.wire()}
		return r, err
	case "export":
		r.Text, err = k.Export(ctx, id, c.Password, c.Form)
	case "remove":
		err = k.Remove(ctx, id)
	case "keys":
		keys, err := k.Keys(ctx, id, c.Password)
		if err == nil {
			seed := keys.Replica.Seed()
			r.Secrets = [][]byte{seed[:], keys.Catalogue[:], keys.ReadKey[:], keys.Restore[:]}
		}
		return r, err
	case "sign_asset":
		a, err := project.ParseAsset(c.Asset)
		if err != nil {
			return r, err
		}
		s, err := k.SignAsset(ctx, a, c.Password)
		if err == nil {
			r.Asset = s.Marshal()
		}
		return r, err
	case "sign":
		if c.ToSign == nil {
			return r, fmt.Errorf("%w: nothing is to be signed", ErrBadAsk)
		}
		s, err := k.Sign(ctx, id, *c.ToSign, c.Password)
		if err == nil {
			r.Answer = (&Answer{
				Identity: id, Nonce: s.Nonce, Signature: s.Signature, At: time.Unix(c.ToSign.At, 0).UTC(),
			}).wire()
		}
		return r, err
	case "requests":
		r.Requests, err = k.Requests(ctx)
	case "approve":
		err = k.Approve(ctx, c.Request, id, c.Password)
	case "deny":
		err = k.Deny(ctx, c.Request)
	default:
		err = fmt.Errorf("%w: unknown operation %.32q", ErrBadAsk, c.Op)
	}
	return r, err
}

// Remote is a Keyring somewhere else.
type Remote struct {
	// Call carries a call there, and its reply back.
	Call func(ctx context.Context, msg []byte) ([]byte, error)
}

var _ Keyring = Remote{}

func (k Remote) do(ctx context.Context, c call) (r reply, err error) {
	c.Version = callVersion
	msg, err := json.Marshal(&c)
	if err != nil {
		return r, err
	}
	if len(msg) > MaxCall {
		return r, fmt.Errorf("%w: %d bytes", ErrBadAsk, len(msg))
	}
	b, err := k.Call(ctx, msg)
	if err != nil {
		return r, err
	}
	return parseReply(b)
}

func parseReply(b []byte) (r reply, err error) {
	if len(b) > MaxCall {
		return r, fmt.Errorf("keyring: a reply of %d bytes", len(b))
	}
	if err := json.Unmarshal(b, &r); err != nil {
		return r, fmt.Errorf("keyring: malformed reply: %w", err)
	}
	if r.Error != "" {
		return r, &wireError{r.Message, wireErrors[r.Error]}
	}
	return r, nil
}

func malformed(what string) error { return fmt.Errorf("keyring: malformed reply: %s", what) }

// Identities implements Keyring.
func (k Remote) Identities(ctx context.Context) (all []Identity, err error) {
	r, err := k.do(ctx, call{Op: "identities"})
	for i := range r.Identities {
		one, err := r.Identities[i].identity()
		if err != nil {
			return nil, malformed(err.Error())
		}
		all = append(all, one)
	}
	return all, err
}

// Add implements Keyring.
func (k Remote) Add(ctx context.Context, n NewIdentity) (Identity, error) {
	c := call{
		Op: "add", Mnemonic: n.Mnemonic, Keystore: n.Keystore, KeystorePassword: n.KeystorePassword,
		Password: n.Password,
	}
	if n.Kind != 0 {
		c.Kind = n.Kind.String()
	}
	r, err := k.do(ctx, c)
	if err != nil {
		return Identity{}, err
	}
	if len(r.Identities) != 1 {
		return Identity{}, malformed("no identity")
	}
	return r.Identities[0].identity()
}

// Export implements Keyring.
func (k Remote) Export(
	ctx context.Context, id identity.ID, password string, form Form,
) (string, error) {
	r, err := k.do(ctx, call{Op: "export", Identity: id.String(), Password: password, Form: form})
	return r.Text, err
}

// Remove implements Keyring.
func (k Remote) Remove(ctx context.Context, id identity.ID) error {
	_, err := k.do(ctx, call{Op: "remove", Identity: id.String()})
	return err
}

// Keys implements Keyring.
func (k Remote) Keys(ctx context.Context, id identity.ID, password string) (keys Keys, err error) {
	r, err := k.do(ctx, call{Op: "keys", Identity: id.String(), Password: password})
	if err != nil {
		return keys, err
	}
	if len(r.Secrets) != 4 {
		return keys, malformed("no keys")
	}
	for _, s := range r.Secrets {
		if len(s) != 32 {
			return keys, malformed("a key of the wrong length")
		}
	}
	keys.Replica = replica.SecretKeyFromSeed([32]byte(r.Secrets[0]))
	copy(keys.Catalogue[:], r.Secrets[1])
	copy(keys.ReadKey[:], r.Secrets[2])
	copy(keys.Restore[:], r.Secrets[3])
	return keys, nil
}

// SignAsset implements Keyring.
func (k Remote) SignAsset(
	ctx context.Context, a project.Asset, password string,
) (project.SignedAsset, error) {
	r, err := k.do(ctx, call{Op: "sign_asset", Asset: a.Marshal(), Password: password})
	if err != nil {
		return project.SignedAsset{}, err
	}
	return project.ParseSignedAsset(r.Asset)
}

// Sign implements Keyring.
func (k Remote) Sign(
	ctx context.Context, id identity.ID, what ToSign, password string,
) (Signed, error) {
	r, err := k.do(ctx, call{Op: "sign", Identity: id.String(), ToSign: &what, Password: password})
	if err != nil {
		return Signed{}, err
	}
	if r.Answer == nil {
		return Signed{}, malformed("no signature")
	}
	a, err := r.Answer.answer()
	return Signed{a.Signature, a.Nonce}, err
}

// Ask implements Keyring.
func (k Remote) Ask(ctx context.Context, app App, a Ask) (Asked, error) {
	r, err := k.do(ctx, call{Op: "ask", App: app.Peer, AppNet: app.Net, AppNamed: app.Named, Ask: &a})
	if err != nil {
		return Asked{}, err
	}
	if r.Asked == nil {
		return Asked{}, malformed("no request")
	}
	return *r.Asked, nil
}

// Wait implements Keyring.
func (k Remote) Wait(ctx context.Context, app App, request string) (Answer, error) {
	r, err := k.do(ctx, call{Op: "wait", App: app.Peer, Request: request})
	if err != nil {
		return Answer{}, err
	}
	if r.Answer == nil {
		return Answer{}, malformed("no answer")
	}
	return r.Answer.answer()
}

// Access implements Keyring.
func (k Remote) Access(ctx context.Context, app App, session string) (a Access, err error) {
	r, err := k.do(ctx, call{Op: "access", App: app.Peer, Session: session})
	if err != nil {
		return a, err
	}
	if r.Replica == nil || len(r.Key) != 32 {
		return a, malformed("no replica, or no key")
	}
	a.Replica, a.ReadKey.Epoch, a.Ticket = *r.Replica, r.Epoch, r.Text
	copy(a.ReadKey.Key[:], r.Key)
	return a, nil
}

// CatalogueKey implements Keyring.
func (k Remote) CatalogueKey(
	ctx context.Context, app App, session string,
) (key CatalogueKey, err error) {
	r, err := k.do(ctx, call{Op: "key", App: app.Peer, Session: session})
	if err != nil {
		return key, err
	}
	if copy(key[:], r.Key) != len(key) || len(r.Key) != len(key) {
		return key, malformed("no key")
	}
	return key, nil
}

// Requests implements Keyring.
func (k Remote) Requests(ctx context.Context) ([]Request, error) {
	r, err := k.do(ctx, call{Op: "requests"})
	return r.Requests, err
}

// Approve implements Keyring.
func (k Remote) Approve(
	ctx context.Context, request string, id identity.ID, password string,
) error {
	c := call{Op: "approve", Request: request, Password: password}
	if id != (identity.ID{}) {
		c.Identity = id.String()
	}
	_, err := k.do(ctx, c)
	return err
}

// Deny implements Keyring.
func (k Remote) Deny(ctx context.Context, request string) error {
	_, err := k.do(ctx, call{Op: "deny", Request: request})
	return err
}
