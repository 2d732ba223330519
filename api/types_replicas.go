package api

import (
	"encoding/hex"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/skerry-sync/skerry/blobs/hash"
	"github.com/skerry-sync/skerry/replica/ids"
)

// NameRequest names a replica, by its name, id or a unique prefix of its id.
type NameRequest struct {
	Name string `json:"name"`
}

// NewReplicaRequest asks for a new replica.
type NewReplicaRequest struct {
	Name      string `json:"name"`
	Encrypted bool   `json:"encrypted,omitempty"`
}

// JoinRequest asks to join the replica of a ticket.
type JoinRequest struct {
	Ticket string  `json:"ticket"`
	Name   string  `json:"name,omitempty"`
	Policy *Policy `json:"policy,omitempty"`
	// Wallet signs, if the ticket is an invite for the holder of one.
	Wallet *JoinWallet `json:"wallet,omitempty"`
}

// JoinWallet says who signs for the wallet of an invite: an identity of the keyring, or another
// program. Without a signature of that, the answer is an error of kind Unsigned whose message is
// the text to sign (EIP-191, "personal sign"); with the same time and the signature, the request is
// made again.
type JoinWallet struct {
	Identity  string `json:"identity,omitempty"` // name or id
	Password  string `json:"password,omitempty"`
	At        int64  `json:"at,omitempty"`        // Unix seconds
	Signature string `json:"signature,omitempty"` // 65 bytes in hex
}

// Policy says which content of a replica is fetched without being asked for.
type Policy struct {
	Mode     string `json:"mode"` // "everything", "nothing" or "prefixes"
	Prefixes []Key  `json:"prefixes,omitempty"`
	MaxSize  uint64 `json:"max_size,omitempty"` // bytes; 0 is no limit
}

// PolicyRequest asks for a replica's policy or, with one, to change it.
type PolicyRequest struct {
	Name   string  `json:"name"`
	Policy *Policy `json:"policy,omitempty"`
}

// ReplicaInfo describes a replica at length.
type ReplicaInfo struct {
	ReplicaStatus
	Tombstones     uint64       `json:"tombstones"`
	Fingerprint    string       `json:"fingerprint"`
	Authors        []ids.Author `json:"authors"`
	Peers          []KnownPeer  `json:"peers"`
	PendingContent int          `json:"pending_content"`
	// Ahead counts entries that peers refuse, since their times are too far ahead of the clock.
	Ahead      uint64      `json:"ahead,omitempty"`
	WrongSizes []WrongSize `json:"wrong_sizes,omitempty"` // the first MaxWrongSizes of them
	Policy     Policy      `json:"policy"`
	Created    time.Time   `json:"created"`
	// of an encrypted replica: the present one, if its read key is here
	Epoch uint32 `json:"epoch,omitempty"`
}

// MaxWrongSizes is how many entries of a wrong size are named.
const MaxWrongSizes = 100

// WrongSize is an entry that gives a size which its hash does not have. Its content is not fetched.
type WrongSize struct {
	Author  ids.Author `json:"author"`
	Key     Key        `json:"key"` // as it is stored: sealed in an encrypted replica
	Hash    hash.Hash  `json:"hash"`
	Claimed uint64     `json:"claimed"` // bytes
	Proved  uint64     `json:"proved"`  // bytes of the blob
}

// Rotated is the epoch that has begun.
type Rotated struct {
	ReplicaID ids.Replica `json:"replica_id"`
	Epoch     uint32      `json:"epoch"`
}

// KnownPeer is a peer that is remembered to hold a replica.
type KnownPeer struct {
	ID        string   `json:"id"`
	Connected bool     `json:"connected"`
	Seed      bool     `json:"seed,omitempty"` // it keeps the replica for this node's identity
	Addrs     []string `json:"addrs"`
	// Lost counts entries that the peer was last found to lack although it had had them.
	Lost   int       `json:"lost,omitempty"`
	LostAt time.Time `json:"lost_at,omitzero"`
}

// Key is an entry's key as text: the key itself if it is printable UTF-8, or "hex:" and its bytes.
type Key []byte

// HexPrefix is what the text of a key begins with that is given in hex digits.
const HexPrefix = "hex:"

// ParseKey reads the text of a key.
func ParseKey(s string) (Key, error) {
	if digits, ok := strings.CutPrefix(s, HexPrefix); ok {
		b, err := hex.DecodeString(digits)
		if err != nil {
			return nil, UsageErrorf("key %q: after hex: must come an even number of hex digits", s)
		}
		return b, nil
	}
	if len(s) > ids.MaxKey {
		return nil, UsageErrorf("%v: it has %d", ids.ErrKeyTooLong, len(s))
	}
	return Key(s), nil
}

func (k Key) String() string {
	s := string(k)
	if !utf8.ValidString(s) || strings.HasPrefix(s, HexPrefix) ||
		strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return HexPrefix + hex.EncodeToString(k)
	}
	return s
}

// MarshalText implements encoding.TextMarshaler.
func (k Key) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (k *Key) UnmarshalText(b []byte) (err error) {
	*k, err = ParseKey(string(b))
	return err
}

// Entry describes an entry.
type Entry struct {
	Key    Key        `json:"key"`
	Author ids.Author `json:"author"`
	Hash   hash.Hash  `json:"hash"`
	Size   uint64     `json:"size"` // of the value
	// StoredSize is that of the sealed content of an encrypted replica. Where the size of the value
	// cannot be told before the content is here, Size is the same.
	StoredSize uint64 `json:"stored_size,omitempty"`
	Timestamp  uint64 `json:"timestamp"`         // microseconds since 1970
	Content    string `json:"content,omitempty"` // "complete", "partial" or "missing"
	Deleted    bool   `json:"deleted,omitempty"`
	From       string `json:"from,omitempty"`    // the peer it came from, in events
	Dropped    bool   `json:"dropped,omitempty"` // in events: a revocation has made it void
	// of a watch: so many entries came too fast to be told of; all else is empty
	Missed uint64 `json:"missed,omitempty"`
}

// SetRequest asks to set a key to a value, or to the content of a file of this machine.
type SetRequest struct {
	Name   string `json:"name"`
	Key    Key    `json:"key"`
	Value  []byte `json:"value,omitempty"`
	File   string `json:"file,omitempty"`   // absolute
	Author string `json:"author,omitempty"` // the default author if empty
}

// KeyRequest names a key of a replica, or with Prefix all keys that begin with it.
type KeyRequest struct {
	Name   string `json:"name"`
	Key    Key    `json:"key"`
	Prefix bool   `json:"prefix,omitempty"`
	Author string `json:"author,omitempty"`
}

// Removed counts keys.
type Removed struct {
	Removed int `json:"removed"`
}

// ListRequest selects entries.
type ListRequest struct {
	Name    string    `json:"name"`
	Prefix  Key       `json:"prefix"`
	Author  string    `json:"author,omitempty"`
	Since   time.Time `json:"since,omitzero"`
	Until   time.Time `json:"until,omitzero"`
	Limit   int       `json:"limit,omitempty"`
	All     bool      `json:"all,omitempty"` // every author's, and deletions
	Reverse bool      `json:"reverse,omitempty"`
	ByTime  bool      `json:"by_time,omitempty"`
}

// Listed ends a list of entries.
type Listed struct {
	// Unreadable counts entries that no read key here opens.
	Unreadable uint64 `json:"unreadable,omitempty"`
}

// ImportItem is one line of an import.
type ImportItem struct {
	Key   Key     `json:"key"`
	Value *string `json:"value,omitempty"`
	// File names a file below the directory that the import reads files from, relative to it.
	File string `json:"file,omitempty"`
}

// Imported sums up an import.
type Imported struct {
	Imported int     `json:"imported"`
	Seconds  float64 `json:"seconds"`
}

// ExportReplicaRequest asks to write the latest values to a directory that does not exist or is
// empty.
type ExportReplicaRequest struct {
	Name       string `json:"name"`
	Dir        string `json:"dir"`                   // absolute
	SkipUnsafe bool   `json:"skip_unsafe,omitempty"` // to leave keys out is no failure of the command
}

// Exported counts files.
type Exported struct {
	Exported int      `json:"exported"`
	Skipped  []string `json:"skipped,omitempty"` // keys that are no names of files
	Why      []string `json:"why,omitempty"`     // of each of these, what is in the way
	// Unreadable counts entries that no read key here opens.
	Unreadable uint64 `json:"unreadable,omitempty"`
}

// SyncRequest asks for sessions with all peers of a replica, or one.
type SyncRequest struct {
	Name   string `json:"name"`
	Peer   string `json:"peer,omitempty"`
	Prefix Key    `json:"prefix,omitempty"` // only keys that begin with it
}

// CheckRequest asks for a check of a replica.
type CheckRequest struct {
	Name   string `json:"name"`
	Repair bool   `json:"repair"`
}

// Checked is what a check of a replica has found.
type Checked struct {
	ReplicaID   ids.Replica `json:"replica_id"`
	Entries     uint64      `json:"entries"`     // with deletions
	Bad         uint64      `json:"bad"`         // entries with a wrong signature or without a grant
	Fingerprint string      `json:"fingerprint"` // computed from the entries
	Faults      []string    `json:"faults"`      // what does not agree with the entries
	Repaired    bool        `json:"repaired"`
	// Ahead counts entries that peers refuse, since their times are too far ahead of the clock; of
	// these, Mended have been signed anew.
	Ahead  int `json:"ahead,omitempty"`
	Mended int `json:"mended,omitempty"`
}

// Session describes a session.
type Session struct {
	Peer            string `json:"peer"`
	Rounds          int    `json:"rounds"`
	Messages        int    `json:"messages"`
	BytesSent       uint64 `json:"bytes_sent"`
	BytesReceived   uint64 `json:"bytes_received"`
	EntriesSent     uint64 `json:"entries_sent"`
	EntriesReceived uint64 `json:"entries_received"`
	// refused: too far ahead of this node's clock
	EntriesLater int `json:"entries_later,omitempty"`
	// entries that the peer has had before and lacked now: it was reset, shows an old state, or
	// withholds them
	Lost         int     `json:"lost,omitempty"`
	Milliseconds float64 `json:"milliseconds"`
	Error        string  `json:"error"`
	// ContentLeft counts the entries that were sent and whose content, of ContentLeftBytes in all, the
	// peer had not taken when the command that sent them ended: its node ends with it. A node that
	// runs goes on.
	ContentLeft      int    `json:"content_not_taken,omitempty"`
	ContentLeftBytes uint64 `json:"content_not_taken_bytes,omitempty"`
}

// Synced lists sessions.
type Synced struct {
	Sessions []Session `json:"sessions"`
}

// Author describes an author whose key the node has.
type Author struct {
	Author  ids.Author `json:"author"`
	Default bool       `json:"default"`
}

// AuthorRequest names an author; empty asks for the default.
type AuthorRequest struct {
	Author string `json:"author,omitempty"`
}
