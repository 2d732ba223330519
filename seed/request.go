package seed

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"lukechampine.com/blake3"

	"github.com/skerry-sync/skerry/identity"
	"github.com/skerry-sync/skerry/internal/kind"
	"github.com/skerry-sync/skerry/node"
	"github.com/skerry-sync/skerry/replica"
	"github.com/skerry-sync/skerry/seed/report"
	"github.com/skerry-sync/skerry/ticket"
	"github.com/skerry-sync/skerry/vault"
)

// MaxRequest is the length of the longest request in bytes.
const MaxRequest = 64 << 10

// Request asks to register a replica, or to end a registration. What the identity signs is an
// identity.SeedAsk, which names the request, the seed, the replica, the ticket and the device.
type Request struct {
	Identity identity.ID `json:"identity_id"`
	Replica  string      `json:"replica_id"`
	// to register: one for the replica, with the person's devices as peers; one to sync is enough
	Ticket string `json:"ticket,omitempty"`
	// Device, to register, is the node id of the device that may ask later whether the registration
	// stands. It may be empty.
	Device    string    `json:"device,omitempty"`
	Timestamp int64     `json:"timestamp"` // Unix seconds
	Signature Signature `json:"signature"`
}

// Signature is that of an identity, with what shows whose it is. Bytes are in base64.
type Signature struct {
	SignerType        int    `json:"signer_type"` // 1 passkey, 2 wallet
	Signature         []byte `json:"signature"`
	PublicKey         []byte `json:"public_key"` // 33 bytes, compressed
	Nonce             []byte `json:"nonce"`      // 8 bytes, of the identity's id
	Address           string `json:"address,omitempty"`
	AuthenticatorData []byte `json:"authenticator_data,omitempty"`
	ClientDataJSON    []byte `json:"client_data_json,omitempty"`
}

// Sign fills in the signature from that of an identity.
func (s *Signature) Sign(by identity.Signature, nonce identity.Nonce) {
	*s = Signature{
		int(by.Kind), by.Signature, by.PublicKey[:], nonce[:], by.Address, by.AuthenticatorData,
		by.ClientDataJSON,
	}
}

// verify returns identity.ErrBadSignature unless the identity has signed the message.
func (s *Signature) verify(m identity.Message, id identity.ID) error {
	x := identity.Signature{
		Kind: identity.Kind(s.SignerType), Signature: s.Signature, Address: s.Address,
		AuthenticatorData: s.AuthenticatorData, ClientDataJSON: s.ClientDataJSON,
	}
	var nonce identity.Nonce
	if copy(x.PublicKey[:], s.PublicKey) != len(x.PublicKey) || len(s.PublicKey) != len(x.PublicKey) ||
		copy(nonce[:], s.Nonce) != len(nonce) || len(s.Nonce) != len(nonce) {
		return fmt.Errorf(
			"%w: a public key of %d bytes, a nonce of %d", identity.ErrBadSignature, len(s.PublicKey),
			len(s.Nonce),
		)
	}
	return x.Verify(m, id, nonce)
}

// Code names what is wrong with a request.
type Code string

// The codes of OBJECTS, and ours: those from INVALID_REQUEST on.
const (
	InvalidSignature  Code = "INVALID_SIGNATURE"
	InvalidTicket     Code = "INVALID_TICKET"
	NotFound          Code = "NOT_FOUND"
	AlreadyRegistered Code = "ALREADY_REGISTERED"
	QuotaExceeded     Code = "QUOTA_EXCEEDED"
	ReplicaLimit      Code = "REPLICA_LIMIT"
	InvalidRequest    Code = "INVALID_REQUEST"
	NotAllowed        Code = "FORBIDDEN"
	RateLimited       Code = "RATE_LIMITED"
	Internal          Code = "INTERNAL"
)

// statuses are those of HTTP.
var statuses = map[Code]int{
	NotAllowed: 403, RateLimited: 429, InvalidSignature: 400, InvalidTicket: 400, InvalidRequest: 400,
	NotFound: 404, AlreadyRegistered: 409, QuotaExceeded: 409, ReplicaLimit: 409, Internal: 500,
}

// Error is what a seed answers when it does not do what was asked for.
type Error struct {
	Code    Code   `json:"code"`
	Message string `json:"message"`
}

func (e *Error) Error() string { return e.Message }

// Kind implements kind.Of.
func (e *Error) Kind() kind.Kind {
	switch e.Code {
	case InvalidTicket, InvalidRequest:
		return kind.Usage
	case NotFound:
		return kind.NotFound
	case InvalidSignature, QuotaExceeded, ReplicaLimit, NotAllowed:
		return kind.NotAllowed
	}
	return kind.Failed
}

func failed(code Code, err error) *Error { return &Error{code, err.Error()} }

// asError gives an error its code.
func asError(err error) *Error {
	var known *Error
	switch {
	case errors.As(err, &known):
		return known
	case errors.Is(err, identity.ErrBadSignature), errors.Is(err, identity.ErrOutOfTime),
		errors.Is(err, ErrOldRequest):
		return failed(InvalidSignature, err)
	case errors.Is(err, ErrNotRegistered):
		return failed(NotFound, err)
	case errors.Is(err, ErrRegistered):
		return failed(AlreadyRegistered, err)
	case errors.Is(err, ErrQuota):
		return failed(QuotaExceeded, err)
	case errors.Is(err, ErrReplicaLimit):
		return failed(ReplicaLimit, err)
	}
	return failed(Internal, err)
}

// askOf returns what a request asks this seed with a node id for, as the identity signs it.
func askOf(request, node string, req *Request) identity.SeedAsk {
	a := identity.SeedAsk{Request: request, Seed: node, Replica: req.Replica}
	if request == identity.SeedRegister {
		a.Ticket, a.Device = ticketHash(req.Ticket), req.Device
	}
	return a
}

// ticketHash is what stands for a ticket in a signed request.
func ticketHash(text string) string {
	h := blake3.Sum256([]byte(text))
	return hex.EncodeToString(h[:])
}

// check returns the replica that a request is about, if its identity has signed it lately for this
// seed and for what it is used for.
func (s *Seed) check(request string, req *Request) (id replica.ID, at time.Time, err error) {
	if id, err = replica.ParseID(req.Replica); err != nil {
		return id, at, failed(InvalidRequest, err)
	}
	if req.Device != "" {
		if _, err := peer.Decode(req.Device); err != nil {
			return id, at, failed(InvalidRequest, fmt.Errorf("the device: %w", err))
		}
	}
	at = time.Unix(req.Timestamp, 0)
	canonical := *req
	canonical.Replica = id.String() // one replica has one text in what is signed
	m, err := askOf(request, s.n.ID().String(), &canonical).Message(req.Identity, at)
	if err != nil {
		return id, at, failed(InvalidRequest, err)
	}
	if err := m.CheckTime(s.now(), identity.RegistryAhead, identity.RegistryBehind); err != nil {
		return id, at, err
	}
	err = req.Signature.verify(m, req.Identity)
	old := identity.RegisterBackup(req.Identity, canonical.Replica, at)
	if err != nil && req.Signature.verify(old, req.Identity) == nil {
		err = fmt.Errorf(
			"%w: Register Backup names neither the seed nor the request, so another seed could "+
				"use the signature: sign the request as Skerry Seed", identity.ErrBadSignature,
		)
	}
	return id, at, err
}

// begin registers a replica, unless too many have been from a network. Who repeats a request that
// has been granted is told so, however many there are.
func (s *Seed) begin(
	ctx context.Context, req *Request, id replica.ID, kept string, who source, at time.Time,
) (g Registration, err error) {
	end, tooMany := s.askers.begin(who.counted, s.now())
	if tooMany != nil {
		registered, err := s.reg.IsRegistered(ctx, s.n.Store(), req.Identity, id)
		if err != nil || !registered {
			return g, errors.Join(err, tooMany)
		}
		end = func(bool) {}
	}
	defer func() { end(err == nil) }()
	return s.take(ctx, req, id, kept, who.registers(), at)
}

// take registers a replica and joins it, as one step for whoever leaves it meanwhile.
func (s *Seed) take(
	ctx context.Context, req *Request, id replica.ID, kept, from string, at time.Time,
) (g Registration, err error) {
	lock := s.holding.of(id)
	lock.Lock()
	defer lock.Unlock()
	// Whoever knows the id of a replica that the seed's node holds for itself must not get it deleted.
	if _, err := s.n.Replicas().Get(ctx, id); err == nil {
		if err := keepOwn(ctx, s.n.Store(), id); err != nil {
			return g, err
		}
	} else if !errors.Is(err, replica.ErrNotFound) {
		return g, err
	}
	g, err = s.reg.RegisterFrom(ctx, s.n.Store(), req.Identity, id, kept, req.Device, from, at)
	if err == nil {
		err = s.join(ctx, id, kept)
	}
	return g, err
}

func answerOf(st *Status) report.Answer {
	seconds := func(t time.Time) int64 {
		if t.IsZero() {
			return 0
		}
		return t.Unix()
	}
	return report.Answer{
		ReplicaID: st.Replica.String(), State: st.State.String(), BytesStored: st.Bytes,
		EntryCount: st.Entries, LastSync: seconds(st.LastSync),
		Registered: seconds(st.Registered), DeletionAt: seconds(st.Deletion),
	}
}

// register answers a request to register a replica. The error is an *Error.
func (s *Seed) register(ctx context.Context, req *Request, who source) (report.Answer, error) {
	id, at, err := s.check(identity.SeedRegister, req)
	if err != nil {
		return report.Answer{}, asError(err)
	}
	t, err := ticket.ParseDoc(req.Ticket)
	if err != nil {
		return report.Answer{}, failed(InvalidTicket, err)
	}
	if t.Replica != id {
		return report.Answer{}, failed(
			InvalidTicket, fmt.Errorf("the ticket is for replica %s, the request for %s", t.Replica, id),
		)
	}
	note := ""
	if t.Capability > replica.Sync {
		note = fmt.Sprintf(
			"The ticket was one to %s. A seed needs no more than one to sync, and has kept no more.",
			t.Capability,
		)
	}
	// The newest epoch is left out: a seed seals nothing, and whoever registers first could name a
	// false one, or make a plain replica one that seems encrypted.
	kept, err := (&ticket.Doc{Capability: replica.Sync, Replica: id, Addrs: t.Addrs}).Text()
	if err != nil {
		return report.Answer{}, failed(InvalidTicket, err)
	}
	if len(s.Only) > 0 && !slices.Contains(s.Only, req.Identity) {
		return report.Answer{}, failed(
			NotAllowed,
			fmt.Errorf("this seed does not keep replicas for %s: ask whoever runs it", req.Identity),
		)
	}
	g, err := s.begin(ctx, req, id, kept, who, at)
	if err != nil {
		return report.Answer{}, asError(err)
	}
	s.log.Info("a replica was registered", "replica", id.Short(), "identity", req.Identity)
	s.ring()
	st, err := s.status(ctx, &g)
	if err != nil {
		return report.Answer{}, asError(err)
	}
	a := answerOf(&st)
	a.Note = note
	return a, nil
}

// Unregister answers a request to end a registration. The error is an *Error.
func (s *Seed) Unregister(ctx context.Context, req *Request) (report.Answer, error) {
	id, at, err := s.check(identity.SeedUnregister, req)
	if err != nil {
		return report.Answer{}, asError(err)
	}
	g, err := s.reg.Unregister(ctx, s.n.Store(), req.Identity, id, at)
	if err != nil {
		return report.Answer{}, asError(err)
	}
	s.log.Info(
		"a registration was ended", "replica", id.Short(), "identity", req.Identity, "deletion",
		g.Deletion,
	)
	st, err := s.status(ctx, &g)
	if err != nil {
		return report.Answer{}, asError(err)
	}
	return answerOf(&st), nil
}

// Signer has the identity's keyring sign.
type Signer func(vault.ToSign) (vault.Signed, error)

// TicketFor returns the ticket with which a node has a seed keep a replica: one to sync. The newest
// epoch is left out: a seed seals nothing, and takes nobody's word for it.
func TicketFor(ctx context.Context, n *node.Node, r replica.Replica) (string, error) {
	t, err := n.Ticket(ctx, r, replica.Sync)
	if err != nil {
		return "", err
	}
	t.Least = replica.EpochID{}
	return t.Text()
}

// NewRegister signs a request to keep a replica, for the seed with a node id. text is the ticket;
// device is the node that may ask later whether the registration stands, or empty.
func NewRegister(
	id identity.ID, node string, rep replica.ID, text, device string, now time.Time, sign Signer,
) (*Request, error) {
	req := &Request{
		Identity: id, Replica: rep.String(), Ticket: text, Device: device, Timestamp: now.Unix(),
	}
	return req, req.sign(identity.SeedRegister, node, sign)
}

// NewUnregister signs a request to end a registration, for the seed with a node id.
func NewUnregister(
	id identity.ID, node string, rep replica.ID, now time.Time, sign Signer,
) (*Request, error) {
	req := &Request{Identity: id, Replica: rep.String(), Timestamp: now.Unix()}
	return req, req.sign(identity.SeedUnregister, node, sign)
}

func (r *Request) sign(request, node string, sign Signer) error {
	ask := askOf(request, node, r)
	s, err := sign(vault.ToSign{Seed: &ask, At: r.Timestamp})
	if err == nil {
		r.Signature.Sign(s.Signature, s.Nonce)
	}
	return err
}

// NewRead signs a Read, for the seed with a node id.
func NewRead(id identity.ID, node string, now time.Time, sign Signer) (*Read, error) {
	req := &Read{Identity: id, Timestamp: now.Unix(), Signature: &Signature{}}
	ask := identity.SeedAsk{Request: identity.SeedStatus, Seed: node}
	s, err := sign(vault.ToSign{Seed: &ask, At: req.Timestamp})
	if err != nil {
		return nil, err
	}
	req.Signature.Sign(s.Signature, s.Nonce)
	return req, nil
}

// Read asks for the status or the quota of an identity: unless the seed lets anybody ask, the
// identity signs an identity.SeedAsk with the request "status". It may be used again for five
// minutes, at this seed: it changes nothing.
type Read struct {
	Identity  identity.ID `json:"identity_id"`
	Timestamp int64       `json:"timestamp,omitempty"`
	Signature *Signature  `json:"signature,omitempty"`
}

func (s *Seed) mayRead(req *Read) error {
	if s.OpenReads {
		return nil
	}
	if req.Signature == nil {
		return failed(
			InvalidSignature,
			errors.New("this seed tells an identity's status to that identity only: sign the request"),
		)
	}
	ask := identity.SeedAsk{Request: identity.SeedStatus, Seed: s.n.ID().String()}
	m, err := ask.Message(req.Identity, time.Unix(req.Timestamp, 0))
	if err != nil {
		return err
	}
	if err := m.CheckTime(
		s.now(), identity.AuthenticationWindow, identity.AuthenticationWindow,
	); err != nil {
		return err
	}
	return req.Signature.verify(m, req.Identity)
}

// Backups answers a read of all registrations of an identity. The error is an *Error.
func (s *Seed) Backups(ctx context.Context, req *Read) ([]report.Answer, error) {
	if err := s.mayRead(req); err != nil {
		return nil, asError(err)
	}
	all, _, err := s.StatusOf(ctx, req.Identity)
	if err != nil {
		return nil, asError(err)
	}
	out := []report.Answer{}
	for i := range all {
		out = append(out, answerOf(&all[i]))
	}
	return out, nil
}

// Quota answers a read of an identity's quota. The error is an *Error.
func (s *Seed) Quota(ctx context.Context, req *Read) (report.Quota, error) {
	if err := s.mayRead(req); err != nil {
		return report.Quota{}, asError(err)
	}
	_, u, err := s.reg.Of(ctx, s.n.Store(), req.Identity)
	if err != nil {
		return report.Quota{}, asError(err)
	}
	return report.Quota{
		BytesUsed: u.Bytes, BytesLimit: s.reg.limits.Bytes,
		ReplicaCount: u.Replicas, ReplicaLimit: s.reg.limits.Replicas,
	}, nil
}

// parse reads a request from JSON.
func parse[T any](b []byte) (*T, error) {
	var req T
	if len(b) > MaxRequest {
		return nil, failed(
			InvalidRequest, fmt.Errorf("a request of %d bytes, at most %d", len(b), MaxRequest),
		)
	}
	if err := json.Unmarshal(b, &req); err != nil {
		return nil, failed(InvalidRequest, err)
	}
	return &req, nil
}
