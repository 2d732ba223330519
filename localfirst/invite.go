package localfirst

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"lukechampine.com/blake3"

	"github.com/skerry-sync/skerry/internal/kind"
	"github.com/skerry-sync/skerry/replica"
	"github.com/skerry-sync/skerry/replica/seal"
)

// Joining a namespace. An invite is a secret, of which both sides make the keys of a small replica:
// the board. Whoever wants to join writes a request there, as the author who is to become a member.
// Whoever made the invite approves it by an answer that is sealed to that author. Board and answer
// may lie at any node that holds the board, so the two need not be online together. The invite
// gives nothing away but the board. All who have it can write whatever they like there: so it names
// whose answers count.

// NamespaceInvite lets somebody ask to join a namespace.
type NamespaceInvite struct {
	Secret [32]byte
	// By is the author who answers requests: of the node where the invite was made.
	By      replica.AuthorID
	Expires time.Time
	// Addrs are where the board is found, as multiaddrs.
	Addrs []string
}

// NamespaceInviteOptions are for CreateInvite.
type NamespaceInviteOptions struct {
	// TTL is how long requests can be made; 0 is DefaultInviteTTL.
	TTL time.Duration
	// Addrs are further places where the board is found, such as a seed that keeps it.
	Addrs []string
}

// DefaultInviteTTL is one day.
const DefaultInviteTTL = 24 * time.Hour

// NamespaceJoinRequestOptions are for SubmitJoinRequest.
type NamespaceJoinRequestOptions struct {
	// Name is what the requester is called: at most 64 bytes, for whoever approves.
	Name string
}

// JoinRequest is what somebody has asked for.
type JoinRequest struct {
	Author replica.AuthorID
	Name   string
	At     time.Time // by the requester's clock
	Answer JoinAnswer
}

// JoinAnswer is what has become of a request.
type JoinAnswer string

const (
	JoinPending  JoinAnswer = "pending"
	JoinApproved JoinAnswer = "approved"
	JoinDenied   JoinAnswer = "denied"
)

// Errors of invites.
var (
	ErrBadInvite = kind.New(kind.Usage, "that is no invite to a namespace, or a damaged one")
	// ErrInviteOver reports an invite that has expired or was revoked.
	ErrInviteOver = kind.New(kind.NotAllowed, "the invite has expired or was revoked")
	// ErrDenied reports a request that whoever made the invite has denied.
	ErrDenied = kind.New(kind.NotAllowed, "whoever made the invite has denied the request to join")
	// ErrNotInviter reports an answer that would not count: the node's default author is not the one
	// who made the invite.
	ErrNotInviter = kind.New(kind.NotAllowed, "only the author who made an invite can answer")
	// ErrNotAnswered reports a request that nobody has answered yet.
	ErrNotAnswered = kind.New(kind.Unreachable, "nobody has answered the request to join yet")
	// ErrNoRequest reports an approval of a request that is not on the board.
	ErrNoRequest = kind.New(kind.NotFound, "there is no such request to join")
)

// ID names an invite: 16 bytes in hexadecimal, which say nothing about the secret.
func (i *NamespaceInvite) ID() string {
	sum := i.derive("id")
	return hex.EncodeToString(sum[:16])
}

func (i *NamespaceInvite) derive(purpose string) (out [32]byte) {
	blake3.DeriveKey(out[:], "github.com/skerry-sync/skerry localfirst 1 invite "+purpose, i.Secret[:])
	return out
}

const (
	invitePrefix     = "skerry-namespace:"
	inviteVersion    = 2
	maxInviteAddrs   = 16
	maxInviteAddr    = 512
	maxNote          = 64 << 10
	requestPrefix    = "request/"
	answerPrefix     = "answer/"
	requestVersion   = 1
	answerVersion    = 1
	answerApproved   = 1
	answerDenied     = 2
	maxRequesterName = 64
)

// InviteURI returns an invite as text, of at most 12,000 characters:
//
//	"skerry-namespace:", then in base64url: version u8 = 2, secret[32], author[32] who answers,
//	expires u64 s, number of addresses u8, each: length u16, bytes; the first 4 bytes of BLAKE3 of
//	all that
func InviteURI(i NamespaceInvite) (string, error) {
	b := append(append([]byte{inviteVersion}, i.Secret[:]...), i.By[:]...)
	b = binary.BigEndian.AppendUint64(b, uint64(i.Expires.Unix()))
	addrs := i.Addrs[:min(len(i.Addrs), maxInviteAddrs)]
	b = append(b, byte(len(addrs)))
	for _, a := range addrs {
		if len(a) > maxInviteAddr {
			return "", fmt.Errorf("address %.64q: %w", a, ErrBadInvite)
		}
		b = append(binary.BigEndian.AppendUint16(b, uint16(len(a))), a...)
	}
	sum := blake3.Sum256(b)
	return invitePrefix + base64.RawURLEncoding.EncodeToString(append(b, sum[:4]...)), nil
}

// ParseInviteURI reads what InviteURI wrote. It returns ErrBadInvite, and says nothing about
// whether the invite is still good.
func ParseInviteURI(s string) (i NamespaceInvite, err error) {
	text, ok := strings.CutPrefix(strings.TrimSpace(s), invitePrefix)
	if !ok || len(text) > 16<<10 {
		return i, ErrBadInvite
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(text)
	const fixed = 1 + 32 + 32 + 8 + 1
	if err != nil || len(b) < fixed+4 || b[0] != inviteVersion {
		return i, ErrBadInvite
	}
	sum := blake3.Sum256(b[:len(b)-4])
	if string(sum[:4]) != string(b[len(b)-4:]) {
		return i, ErrBadInvite
	}
	b = b[1 : len(b)-4]
	b = b[copy(i.Secret[:], b):]
	b = b[copy(i.By[:], b):]
	i.Expires = time.Unix(int64(binary.BigEndian.Uint64(b)), 0).UTC()
	n := int(b[8])
	b = b[9:]
	if n > maxInviteAddrs {
		return NamespaceInvite{}, ErrBadInvite
	}
	for range n {
		if len(b) < 2 {
			return NamespaceInvite{}, ErrBadInvite
		}
		size := int(binary.BigEndian.Uint16(b))
		if b = b[2:]; size > maxInviteAddr || size > len(b) {
			return NamespaceInvite{}, ErrBadInvite
		}
		i.Addrs, b = append(i.Addrs, string(b[:size])), b[size:]
	}
	if len(b) > 0 {
		return NamespaceInvite{}, ErrBadInvite
	}
	return i, nil
}

// board opens the board of an invite.
func (e *Engine) board(ctx context.Context, i *NamespaceInvite) (Board, error) {
	owner := replica.SecretKeyFromSeed(i.derive("owner"))
	return e.cfg.Client.Board(ctx, owner, seal.ReadKey(i.derive("read key")), i.Addrs)
}

func (ns *Namespace) inviteName(id string) Name {
	return Name{SecretRecord, ns.e.keyID, ns.name, id}
}

// CreateInvite makes an invite to the namespace and keeps it, until it is revoked. It gives nobody
// anything before its maker approves a request.
func (ns *Namespace) CreateInvite(
	ctx context.Context, o NamespaceInviteOptions,
) (i NamespaceInvite, err error) {
	if o.TTL == 0 {
		o.TTL = DefaultInviteTTL
	}
	if o.TTL < 0 {
		return i, fmt.Errorf("localfirst: %w: an invite that lasts %s", ErrUsage, o.TTL)
	}
	key, err := ns.e.cfg.Client.Author(ctx)
	if err != nil {
		return i, fmt.Errorf("localfirst: an invite: %w", err)
	}
	i.By = key.Author()
	_, _ = rand.Read(i.Secret[:]) // never fails
	i.Expires = ns.e.cfg.Now().Add(o.TTL).UTC().Truncate(time.Second)
	b, err := ns.e.board(ctx, &i)
	if err != nil {
		return i, fmt.Errorf("localfirst: an invite: %w", err)
	}
	own, err := b.Addrs(ctx)
	if err != nil {
		return i, fmt.Errorf("localfirst: an invite: %w", err)
	}
	i.Addrs = append(slices.Clone(o.Addrs), own...)
	i.Addrs = i.Addrs[:min(len(i.Addrs), maxInviteAddrs)]
	uri, err := InviteURI(i)
	if err != nil {
		return i, fmt.Errorf("localfirst: %w", err)
	}
	rec := Record{ns.inviteName(i.ID()), []byte(uri)}
	if err := ns.e.cfg.Store.Apply(ctx, []Record{rec}); err != nil {
		return i, fmt.Errorf("localfirst: the engine's store: %w", err)
	}
	return i, nil
}

// Invites returns the invites of the namespace that were made here and not revoked, those that have
// expired included.
func (ns *Namespace) Invites(ctx context.Context) (all []NamespaceInvite, err error) {
	for r, err := range ns.e.cfg.Store.Scan(ctx, SecretRecord, ns.e.keyID, ns.name) {
		if err != nil {
			return nil, fmt.Errorf("localfirst: the engine's store: %w", err)
		}
		i, err := ParseInviteURI(string(r.Value))
		if err == nil {
			all = append(all, i)
		}
	}
	return all, nil
}

// RevokeInvite ends an invite: no request by it is seen any more. Who has been approved stays.
func (ns *Namespace) RevokeInvite(ctx context.Context, i NamespaceInvite) error {
	b, err := ns.e.board(ctx, &i)
	if err == nil {
		err = b.Leave(ctx)
	}
	return errors.Join(err, ns.e.cfg.Store.Apply(ctx, []Record{{ns.inviteName(i.ID()), nil}}))
}

// JoinRequests returns the requests by all invites of the namespace that were made here, the oldest
// first.
func (ns *Namespace) JoinRequests(ctx context.Context) (all []JoinRequest, err error) {
	invites, err := ns.Invites(ctx)
	if err != nil {
		return nil, err
	}
	for _, i := range invites {
		some, err := ns.requestsOf(ctx, &i)
		if err != nil {
			return nil, fmt.Errorf("localfirst: invite %s: %w", i.ID(), err)
		}
		all = append(all, some...)
	}
	slices.SortStableFunc(all, func(a, b JoinRequest) int { return a.At.Compare(b.At) })
	return all, nil
}

func (ns *Namespace) requestsOf(
	ctx context.Context, i *NamespaceInvite,
) (all []JoinRequest, err error) {
	b, err := ns.e.board(ctx, i)
	if err != nil {
		return nil, err
	}
	if err := b.Sync(ctx); err != nil {
		ns.e.cfg.Log.Info("the board of an invite", "invite", i.ID(), "error", err)
	}
	requests, err := b.Notes(ctx, requestPrefix)
	if err != nil {
		return nil, err
	}
	answers, err := b.Notes(ctx, answerPrefix)
	if err != nil {
		return nil, err
	}
	for _, n := range requests {
		r, ok := parseRequest(n)
		if !ok || n.At.After(i.Expires) {
			continue
		}
		for _, a := range answers {
			if a.Key == answerPrefix+r.Author.String() && len(a.Note) >= 2 && a.Author == i.By {
				r.Answer = map[byte]JoinAnswer{
					answerApproved: JoinApproved, answerDenied: JoinDenied,
				}[a.Note[1]]
			}
		}
		if r.Answer == "" {
			r.Answer = JoinPending
		}
		all = append(all, r)
	}
	return all, nil
}

// parseRequest reads a request: version u8 = 1, then the name. Its key names its author, who has
// signed the entry: nobody asks for somebody else.
func parseRequest(n Note) (r JoinRequest, ok bool) {
	r = JoinRequest{Author: n.Author, At: n.At}
	if n.Key != requestPrefix+n.Author.String() || len(n.Note) < 1 || n.Note[0] != requestVersion {
		return r, false
	}
	r.Name = string(n.Note[1:])
	return r, len(r.Name) <= maxRequesterName && utf8.ValidString(r.Name)
}

// request finds a request by an invite.
func (ns *Namespace) request(
	ctx context.Context, i *NamespaceInvite, author replica.AuthorID,
) error {
	all, err := ns.requestsOf(ctx, i)
	if err != nil {
		return err
	}
	if !slices.ContainsFunc(all, func(r JoinRequest) bool { return r.Author == author }) {
		return fmt.Errorf("author %s: %w", author, ErrNoRequest)
	}
	return nil
}

// answerContext is what the key of an answer is for.
const answerContext = "github.com/skerry-sync/skerry localfirst 1 answer"

// ApproveJoinRequest makes whoever has asked a member of the namespace: its key is sealed to the
// author of the request. It returns ErrNoRequest for one that is not on the invite's board, and
// ErrNotInviter.
func (ns *Namespace) ApproveJoinRequest(
	ctx context.Context, i NamespaceInvite, r JoinRequest,
) error {
	err := ns.request(ctx, &i, r.Author)
	if err == nil {
		_, err = ns.inviter(ctx, &i)
	}
	if err != nil {
		return fmt.Errorf("localfirst: %w", err)
	}
	access, err := ns.e.cfg.Client.Share(ctx, ns.id, r.Author)
	if err != nil {
		return fmt.Errorf("localfirst: approving a request: %w", err)
	}
	key := seal.NewReadKey()
	wrapped, err := key.Wrap(r.Author, []byte(answerContext))
	if err != nil {
		return fmt.Errorf("localfirst: approving a request: %w", err)
	}
	note := append([]byte{answerVersion, answerApproved}, wrapped[:]...)
	if note, err = key.SealBytes(note, 1, access); err != nil {
		return fmt.Errorf("localfirst: approving a request: %w", err)
	}
	return ns.answer(ctx, &i, r, note)
}

// inviter returns the key of the author whose answers to requests by an invite count.
func (ns *Namespace) inviter(
	ctx context.Context, i *NamespaceInvite,
) (key replica.SecretKey, err error) {
	if key, err = ns.e.cfg.Client.Author(ctx); err == nil && key.Author() != i.By {
		err = fmt.Errorf("invite %s, by author %s: %w", i.ID(), i.By, ErrNotInviter)
	}
	return key, err
}

// DenyJoinRequest tells whoever has asked that the answer is no. It returns ErrNotInviter.
func (ns *Namespace) DenyJoinRequest(
	ctx context.Context, i NamespaceInvite, r JoinRequest,
) error {
	return ns.answer(ctx, &i, r, []byte{answerVersion, answerDenied})
}

func (ns *Namespace) answer(
	ctx context.Context, i *NamespaceInvite, r JoinRequest, note []byte,
) error {
	b, err := ns.e.board(ctx, i)
	var key replica.SecretKey
	if err == nil {
		key, err = ns.inviter(ctx, i)
	}
	if err == nil {
		err = b.Put(ctx, key, answerPrefix+r.Author.String(), note)
	}
	if err != nil {
		return fmt.Errorf("localfirst: answering a request: %w", err)
	}
	if err := b.Sync(ctx); err != nil {
		ns.e.cfg.Log.Info("the board of an invite", "invite", i.ID(), "error", err)
	}
	return nil
}

// pendingJoins is where requests of this identity are kept.
const pendingJoins = "joins"

// SubmitJoinRequest asks to join the namespace of an invite, and remembers that. It returns
// ErrInviteOver for one that has expired.
func (e *Engine) SubmitJoinRequest(
	ctx context.Context, i NamespaceInvite, o NamespaceJoinRequestOptions,
) error {
	if len(o.Name) > maxRequesterName || !utf8.ValidString(o.Name) {
		return fmt.Errorf("localfirst: %w: a name of at most %d bytes", ErrUsage, maxRequesterName)
	}
	if e.cfg.Now().After(i.Expires) {
		return fmt.Errorf("localfirst: invite %s: %w", i.ID(), ErrInviteOver)
	}
	uri, err := InviteURI(i)
	if err != nil {
		return fmt.Errorf("localfirst: %w", err)
	}
	b, err := e.board(ctx, &i)
	if err != nil {
		return fmt.Errorf("localfirst: asking to join: %w", err)
	}
	key, err := e.cfg.Client.Author(ctx)
	if err != nil {
		return fmt.Errorf("localfirst: asking to join: %w", err)
	}
	name := Name{SecretRecord, e.keyID, pendingJoins, i.ID()}
	if err := e.cfg.Store.Apply(ctx, []Record{{name, []byte(uri)}}); err != nil {
		return fmt.Errorf("localfirst: the engine's store: %w", err)
	}
	note := append([]byte{requestVersion}, o.Name...)
	if err := b.Put(ctx, key, requestPrefix+key.Author().String(), note); err != nil {
		return fmt.Errorf("localfirst: asking to join: %w", err)
	}
	if err := b.Sync(ctx); err != nil {
		e.cfg.Log.Info("the request waits for a connection", "invite", i.ID(), "error", err)
	}
	return nil
}

// CheckJoin looks for an answer to a request, and joins the namespace if it is yes: then it returns
// the namespace's id, for JoinNamespace. It returns ErrNotAnswered or ErrDenied.
func (e *Engine) CheckJoin(ctx context.Context, i NamespaceInvite) (id replica.ID, err error) {
	b, err := e.board(ctx, &i)
	if err != nil {
		return id, fmt.Errorf("localfirst: a request to join: %w", err)
	}
	key, err := e.cfg.Client.Author(ctx)
	if err != nil {
		return id, fmt.Errorf("localfirst: a request to join: %w", err)
	}
	if err := b.Sync(ctx); err != nil {
		e.cfg.Log.Info("the board of an invite", "invite", i.ID(), "error", err)
	}
	notes, err := b.Notes(ctx, answerPrefix+key.Author().String())
	if err != nil {
		return id, fmt.Errorf("localfirst: a request to join: %w", err)
	}
	denied := false
	for _, n := range notes {
		if n.Author != i.By {
			continue
		}
		access, no := openAnswer(n.Note, key)
		denied = denied || no
		if access == nil {
			continue
		}
		if id, err = e.cfg.Client.Accept(ctx, "shared app data", access); err != nil {
			return id, fmt.Errorf("localfirst: joining: %w", err)
		}
		name := Name{SecretRecord, e.keyID, pendingJoins, i.ID()}
		return id, errors.Join(b.Leave(ctx), e.cfg.Store.Apply(ctx, []Record{{name, nil}}))
	}
	if denied {
		return id, fmt.Errorf("localfirst: invite %s: %w", i.ID(), ErrDenied)
	}
	return id, fmt.Errorf("localfirst: invite %s: %w", i.ID(), ErrNotAnswered)
}

// openAnswer opens an answer: version u8 = 1, u8: 1 approved, 2 denied; of one that is approved, a
// key that is wrapped to the requester, and what Client.Share gave, sealed with it.
func openAnswer(note []byte, key replica.SecretKey) (access []byte, denied bool) {
	if len(note) < 2 || note[0] != answerVersion {
		return nil, false
	}
	if note[1] == answerDenied {
		return nil, true
	}
	note = note[2:]
	if len(note) < seal.WrappedSize || len(note) > maxNote {
		return nil, false
	}
	k, err := seal.Unwrap(seal.Wrapped(note), key.Seed(), []byte(answerContext))
	if err != nil {
		return nil, false
	}
	sealed := note[seal.WrappedSize:]
	r, err := k.Open(strings.NewReader(string(sealed)), uint64(len(sealed)))
	if err != nil {
		return nil, false
	}
	access, err = io.ReadAll(io.NewSectionReader(r, 0, int64(r.Size())))
	if err != nil {
		return nil, false
	}
	return access, false
}

// Joins returns the invites by which this identity has asked to join, and was not let in yet.
func (e *Engine) Joins(ctx context.Context) (all []NamespaceInvite, err error) {
	for r, err := range e.cfg.Store.Scan(ctx, SecretRecord, e.keyID, pendingJoins) {
		if err != nil {
			return nil, fmt.Errorf("localfirst: the engine's store: %w", err)
		}
		i, err := ParseInviteURI(string(r.Value))
		if err == nil {
			all = append(all, i)
		}
	}
	return all, nil
}
