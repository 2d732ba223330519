package vault

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/skerry-sync/skerry/identity"
	"github.com/skerry-sync/skerry/internal/disk"
	"github.com/skerry-sync/skerry/project"
)

// Limits of a Local.
const (
	requestLasts = identity.AuthenticationWindow
	sessionLasts = time.Hour
	maxRequests  = 32 // that wait
	maxOfApp     = 3  // of one peer
	maxOfNet     = 6  // of all strangers from one network
	maxStrangers = 20 // of all strangers: the rest is for known peers and the person's own programs
	maxPeers     = 28 // of all peers: the rest is for the person's own programs
	maxSessions  = 256
	waitAtMost   = 20 * time.Second // less than a stream may be silent
)

// Local is a Keyring that keeps keys in a directory, one keystore file for each identity, and
// requests and sessions in memory.
type Local struct {
	dir string
	now func() time.Time
	// seal gives the file of a key. A file says what work its password takes; tests write some that
	// take little.
	seal func(s *identity.Secret, password string) ([]byte, error)

	files sync.Mutex // held while a file is made or removed

	mu       sync.Mutex
	requests map[string]*request
	sessions map[string]*session
	seen     map[string]time.Time // challenges, until when they are remembered
}

var _ Keyring = (*Local)(nil)

type request struct {
	Request
	ask     Ask
	app     App
	decided chan struct{}
	answer  Answer
	err     error
}

type session struct {
	peer string
	ends time.Time
	Access
	catalogue CatalogueKey
}

// NewLocal returns the keyring in a directory, which is made when the first key comes. now is the
// clock; nil is time.Now.
func NewLocal(dir string, now func() time.Time) *Local {
	if now == nil {
		now = time.Now
	}
	return &Local{
		dir: dir, now: now, seal: (*identity.Secret).Seal,
		requests: map[string]*request{}, sessions: map[string]*session{}, seen: map[string]time.Time{},
	}
}

func randomBytes(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails
	return b
}

func (l *Local) path(id identity.ID) string { return filepath.Join(l.dir, id.String()+".json") }

// Identities implements Keyring.
func (l *Local) Identities(ctx context.Context) (all []Identity, err error) {
	ids, err := l.ids()
	if err != nil {
		return nil, err
	}
	for _, id := range ids {
		one, err := l.describe(id)
		if err != nil {
			return nil, err
		}
		all = append(all, one)
	}
	return all, ctx.Err()
}

// ids returns the identities that have files, damaged or not.
func (l *Local) ids() (all []identity.ID, err error) {
	files, err := os.ReadDir(l.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("keyring: %w", err)
	}
	for _, f := range files {
		name, ok := strings.CutSuffix(f.Name(), ".json")
		if id, err := identity.ParseID(name); ok && err == nil { // else it is nothing of ours
			all = append(all, id)
		}
	}
	return all, nil
}

// maxKeystoreFile is more than a keystore has, in bytes.
const maxKeystoreFile = 1 << 20

func (l *Local) read(id identity.ID) ([]byte, error) {
	b, err := disk.ReadFile(l.path(id), maxKeystoreFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("identity %s: %w", id, ErrNoIdentity)
	}
	if err != nil {
		return nil, fmt.Errorf("keyring: %w", err)
	}
	return b, nil
}

func (l *Local) describe(id identity.ID) (Identity, error) {
	b, err := l.read(id)
	if err != nil {
		return Identity{}, err
	}
	i, err := identity.DescribeKeystore(b)
	if err == nil && i.ID != id {
		err = fmt.Errorf("it is that of %s", i.ID)
	}
	if err != nil {
		return Identity{}, fmt.Errorf("keyring: %s: %w", l.path(id), err)
	}
	return Identity{i.ID, i.Kind, i.Public, i.Nonce}, nil
}

func (l *Local) open(id identity.ID, password string) (*identity.Secret, error) {
	b, err := l.read(id)
	if err != nil {
		return nil, err
	}
	s, err := identity.OpenKeystore(b, password)
	if err != nil {
		return nil, fmt.Errorf("identity %s: %w", id, err)
	}
	return s, nil
}

// Add implements Keyring.
func (l *Local) Add(_ context.Context, n NewIdentity) (Identity, error) {
	if n.Password == "" {
		return Identity{}, fmt.Errorf("new identity: %w", identity.ErrNoPassword)
	}
	s, err := n.secret()
	if err != nil {
		return Identity{}, err
	}
	file, err := l.seal(s, n.Password)
	if err != nil {
		return Identity{}, fmt.Errorf("new identity: %w", err)
	}
	l.files.Lock()
	defer l.files.Unlock()
	name := l.path(s.ID())
	if _, err := os.Lstat(name); err == nil {
		return Identity{}, fmt.Errorf("identity %s: %w", s.ID(), ErrIdentityExists)
	}
	if err := os.MkdirAll(l.dir, 0o700); err != nil {
		return Identity{}, fmt.Errorf("keyring: %w", err)
	}
	if err := writeDurably(name, file); err != nil {
		return Identity{}, fmt.Errorf("keyring: %w", err)
	}
	return l.describe(s.ID())
}

func (n *NewIdentity) secret() (*identity.Secret, error) {
	if n.Keystore != nil {
		return identity.OpenKeystore(n.Keystore, n.KeystorePassword)
	}
	kind := n.Kind
	if kind == 0 {
		kind = identity.Wallet
	}
	var key identity.Key
	var err error
	if n.Mnemonic != "" {
		key, err = identity.KeyFromMnemonic(kind, n.Mnemonic)
	} else {
		key, err = identity.NewKey(kind)
	}
	if err != nil {
		return nil, err
	}
	return &identity.Secret{Key: key, Nonce: key.Nonce()}, nil
}

// writeDurably writes a file whole or not at all. When it returns, the file survives a crash.
func writeDurably(name string, b []byte) (err error) {
	f, err := os.CreateTemp(filepath.Dir(name), ".new-*") // mode 0600
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(f.Name()))
		}
	}()
	_, err = f.Write(b)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), name); err != nil {
		return err
	}
	return disk.SyncDir(filepath.Dir(name))
}

// Export implements Keyring.
func (l *Local) Export(
	_ context.Context, id identity.ID, password string, form Form,
) (string, error) {
	s, err := l.open(id, password)
	if err != nil {
		return "", err
	}
	switch form {
	case Keystore:
		b, err := l.read(id)
		return string(b), err
	case Ethereum:
		b, err := s.Key.SealEthereum(password)
		return string(b), err
	case Mnemonic:
		return s.Key.Mnemonic(), nil
	}
	return "", fmt.Errorf(
		"export identity: unknown form %q: use %s, %s or %s", form, Keystore, Ethereum, Mnemonic,
	)
}

// Remove implements Keyring.
func (l *Local) Remove(_ context.Context, id identity.ID) error {
	l.files.Lock()
	defer l.files.Unlock()
	err := os.Remove(l.path(id))
	if errors.Is(err, fs.ErrNotExist) {
		err = ErrNoIdentity
	}
	if err != nil {
		return fmt.Errorf("identity %s: %w", id, err)
	}
	return nil
}

// Keys implements Keyring.
func (l *Local) Keys(_ context.Context, id identity.ID, password string) (Keys, error) {
	s, err := l.open(id, password)
	if err != nil {
		return Keys{}, err
	}
	return Derive(s.Key)
}

// SignAsset implements Keyring.
func (l *Local) SignAsset(
	_ context.Context, a project.Asset, password string,
) (project.SignedAsset, error) {
	id, err := identity.ParseID(a.Author)
	if err != nil {
		return project.SignedAsset{}, err
	}
	s, err := l.open(id, password)
	if err != nil {
		return project.SignedAsset{}, err
	}
	return project.Sign(a, s.Key, s.Nonce)
}

// Sign implements Keyring.
func (l *Local) Sign(
	_ context.Context, id identity.ID, what ToSign, password string,
) (Signed, error) {
	m, err := what.Message(id)
	if err != nil {
		return Signed{}, err
	}
	s, err := l.open(id, password)
	if err != nil {
		return Signed{}, err
	}
	sig, err := s.Key.Sign(m)
	return Signed{sig, s.Nonce}, err
}

// Ask implements Keyring.
func (l *Local) Ask(_ context.Context, app App, a Ask) (Asked, error) {
	if err := a.check(); err != nil {
		return Asked{}, err
	}
	// Whether it has the identity that is wanted is nobody's business before the person has decided.
	if all, err := l.ids(); err != nil {
		return Asked{}, err
	} else if len(all) == 0 {
		return Asked{}, ErrNoIdentity
	}
	now := l.now()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.forgetOld(now)
	challenge := a.Application + "\n" + string(a.Challenge)
	if _, ok := l.seen[challenge]; ok {
		return Asked{}, ErrReplayed
	}
	if !l.hasRoom(app) {
		return Asked{}, ErrTooManyRequests
	}
	// One that could still be answered must be remembered, and one whose answer could still be taken.
	l.seen[challenge] = now.Add(requestLasts + 2*identity.AuthenticationWindow)
	r := &request{ask: a, app: app, decided: make(chan struct{})}
	r.Asked = Asked{
		Request: token(), Code: a.Code(app), Expires: now.Add(requestLasts).UTC().Truncate(time.Second),
	}
	r.Application, r.Reason, r.Peer, r.Identity = a.Application, a.Reason, app.Peer, a.Identity
	r.At = now.UTC().Truncate(time.Second)
	l.requests[r.Asked.Request] = r
	return r.Asked, nil
}

// hasRoom reports whether another request of app may wait; the caller holds the lock. Anybody can
// make any number of peer ids, so all strangers from one network share a few places, and no
// stranger takes those of the person's programs and of known peers.
func (l *Local) hasRoom(app App) bool {
	waiting, ofPeers, ofApp, ofNet, ofStrangers := 0, 0, 0, 0, 0
	for _, r := range l.requests {
		if !r.undecided() {
			continue
		}
		waiting++
		if r.Peer != "" {
			ofPeers++
		}
		if r.Peer == app.Peer {
			ofApp++
		}
		if r.app.stranger() {
			ofStrangers++
			if r.app.Net == app.Net {
				ofNet++
			}
		}
	}
	switch {
	case waiting >= maxRequests, app.Peer != "" && (ofApp >= maxOfApp || ofPeers >= maxPeers):
		return false
	case app.stranger():
		return ofNet < maxOfNet && ofStrangers < maxStrangers
	}
	return true
}

// forgetOld drops what has ended; the caller holds the lock.
func (l *Local) forgetOld(now time.Time) {
	for id, r := range l.requests {
		if now.After(r.Expires) {
			delete(l.requests, id)
			if r.undecided() {
				r.err = ErrNoRequest
				close(r.decided)
			}
		}
	}
	for id, s := range l.sessions {
		if now.After(s.ends) {
			delete(l.sessions, id)
		}
	}
	for c, until := range l.seen {
		if now.After(until) {
			delete(l.seen, c)
		}
	}
}

// undecided reports whether the person has not answered; the caller holds the lock.
func (r *request) undecided() bool {
	select {
	case <-r.decided:
		return false
	default:
		return true
	}
}

// Wait implements Keyring.
func (l *Local) Wait(ctx context.Context, app App, id string) (Answer, error) {
	l.mu.Lock()
	l.forgetOld(l.now())
	r := l.requests[id]
	l.mu.Unlock()
	if r == nil || r.Peer != app.Peer {
		return Answer{}, ErrNoRequest
	}
	limit := time.NewTimer(waitAtMost)
	defer limit.Stop()
	select {
	case <-r.decided:
	case <-limit.C:
		return Answer{}, ErrUndecided
	case <-ctx.Done():
		return Answer{}, ErrUndecided
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return r.answer, r.err
}

// Requests implements Keyring.
func (l *Local) Requests(context.Context) (all []Request, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.forgetOld(l.now())
	for _, r := range l.requests {
		if r.undecided() {
			all = append(all, r.Request)
		}
	}
	sortRequests(all)
	return all, nil
}

// find returns the request with an id, the first characters of it, or its code; the caller holds
// the lock.
func (l *Local) find(text string) (*request, error) {
	l.forgetOld(l.now())
	var found *request
	for id, r := range l.requests {
		if r.undecided() && (id == text || r.Code == text || len(text) >= 6 &&
			strings.HasPrefix(id, text)) {
			if found != nil {
				return nil, fmt.Errorf("request %s: several are called so: %w", text, ErrNoRequest)
			}
			found = r
		}
	}
	if found == nil {
		return nil, fmt.Errorf("request %s: %w", text, ErrNoRequest)
	}
	return found, nil
}

// Approve implements Keyring.
func (l *Local) Approve(_ context.Context, text string, id identity.ID, password string) error {
	l.mu.Lock()
	r, err := l.find(text)
	l.mu.Unlock()
	if err != nil {
		return err
	}
	wanted := r.Identity
	switch {
	case wanted != (identity.ID{}) && id != (identity.ID{}) && id != wanted:
		return fmt.Errorf("the app asks for %s, not for %s: %w", wanted, id, ErrNoIdentity)
	case wanted != (identity.ID{}):
		id = wanted
	case id == (identity.ID{}):
		all, err := l.ids()
		if err != nil {
			return err
		}
		if len(all) == 0 {
			return ErrNoIdentity
		}
		if len(all) > 1 {
			return ErrWhichIdentity
		}
		id = all[0]
	}
	s, err := l.open(id, password)
	if err != nil {
		return err
	}
	at := l.now().UTC().Truncate(time.Second)
	m, err := identity.Authenticate(r.Application, r.ask.Challenge, at)
	if err != nil {
		return err
	}
	signature, err := s.Key.Sign(m)
	if err != nil {
		return err
	}
	keys, err := Derive(s.Key)
	if err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if !r.undecided() {
		return fmt.Errorf("request %s: %w", text, ErrNoRequest)
	}
	if len(l.sessions) >= maxSessions {
		return fmt.Errorf("request %s: %w", text, ErrTooManyRequests)
	}
	ends := at.Add(sessionLasts)
	name := token()
	l.sessions[name] = &session{
		r.Peer, ends, Access{Replica: keys.Replica.Replica(), ReadKey: keys.First()}, keys.Catalogue,
	}
	r.answer = Answer{
		Identity: id, Nonce: s.Nonce, Signature: signature, At: at, Session: name, Ends: ends,
	}
	close(r.decided)
	return nil
}

// Deny implements Keyring.
func (l *Local) Deny(_ context.Context, text string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	r, err := l.find(text)
	if err != nil {
		return err
	}
	r.err = ErrDenied
	close(r.decided)
	return nil
}

func (l *Local) session(app App, name string) (*session, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.forgetOld(l.now())
	s := l.sessions[name]
	if s == nil || s.peer != app.Peer {
		return nil, ErrNoSession
	}
	return s, nil
}

// Access implements Keyring.
func (l *Local) Access(_ context.Context, app App, name string) (Access, error) {
	s, err := l.session(app, name)
	if err != nil {
		return Access{}, err
	}
	return s.Access, nil
}

// CatalogueKey implements Keyring.
func (l *Local) CatalogueKey(_ context.Context, app App, name string) (CatalogueKey, error) {
	s, err := l.session(app, name)
	if err != nil {
		return CatalogueKey{}, err
	}
	return s.catalogue, nil
}
