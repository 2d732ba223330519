package reconcile

import (
	"encoding/binary"
	"errors"

	"lukechampine.com/blake3"
	"lukechampine.com/blake3/guts"
)

// Mark is what a summary takes in of an item.
type Mark struct {
	// a collision-resistant hash of everything that makes this item differ from others
	ID      [32]byte
	Element Element
}

// Summary is the count of some items, the sum of their hashes, and a sketch of them.
//
// The sum is LtHash with 1,024 lanes of 16 bits (Lewi, Kim, Maykov, Weis: "Securing Update
// Propagation with Homomorphic Hashing", 2019): each item's ID is expanded to 2 KiB by BLAKE3's
// extendable output, and the lanes are added modulo 2^16. Finding two different sets with one sum
// is a short-vector problem that the paper puts at 200 bits, even for someone who chooses all
// items; sums of disjoint sets add up. The lanes lie little-endian in 64-bit words, and four are
// added at a time.
//
// The zero value is the summary of no items.
type Summary struct {
	Count  uint64
	sum    [sumWords]uint64
	sketch Sketch
}

const (
	sumBytes = 2048
	sumWords = sumBytes / 8
)

// expandKey keeps the expansion apart from every other use of BLAKE3.
var expandKey = keyWords(deriveKey("skerry reconcile lthash 1"))

func deriveKey(context string) (k [32]byte) {
	blake3.DeriveKey(k[:], context, nil)
	return k
}

func keyWords(k [32]byte) (w [8]uint32) {
	for i := range w {
		w[i] = binary.LittleEndian.Uint32(k[4*i:])
	}
	return w
}

// keyedNode is the BLAKE3 root node of the keyed hash of a 32-byte message.
func keyedNode(key *[8]uint32, msg *[32]byte) guts.Node {
	n := guts.Node{
		CV: *key, BlockLen: 32,
		Flags: guts.FlagChunkStart | guts.FlagChunkEnd | guts.FlagRoot | guts.FlagKeyedHash,
	}
	for i := range 8 {
		n.Block[i] = binary.LittleEndian.Uint32(msg[4*i:])
	}
	return n
}

// expand is the first 2 KiB of the keyed hash of id.
func expand(out *[sumWords]uint64, id *[32]byte) {
	n := keyedNode(&expandKey, id)
	var half [guts.MaxSIMD * guts.BlockSize]byte
	for i := range 2 {
		n.Counter = uint64(i * guts.MaxSIMD)
		guts.CompressBlocks(&half, n)
		for j := range sumWords / 2 {
			out[i*sumWords/2+j] = binary.LittleEndian.Uint64(half[8*j:])
		}
	}
}

const highBits = 0x8000_8000_8000_8000

// Add puts an item into the summary.
func (s *Summary) Add(m Mark) {
	var x [sumWords]uint64
	expand(&x, &m.ID)
	s.Count++
	addLanes(&s.sum, &x)
	s.sketch.toggle(m.Element)
}

// Remove takes an item out of the summary.
func (s *Summary) Remove(m Mark) {
	var x [sumWords]uint64
	expand(&x, &m.ID)
	s.Count--
	subtractLanes(&s.sum, &x)
	s.sketch.toggle(m.Element)
}

// Merge adds the summary of other items.
func (s *Summary) Merge(o *Summary) {
	s.Count += o.Count
	addLanes(&s.sum, &o.sum)
	s.sketch.merge(&o.sketch)
}

// Subtract takes out the items of another summary. What comes of it is again something to add, also
// if o has items that s has not.
func (s *Summary) Subtract(o *Summary) {
	s.Count -= o.Count
	subtractLanes(&s.sum, &o.sum)
	s.sketch.merge(&o.sketch)
}

func addLanes(sum, x *[sumWords]uint64) {
	for i, v := range x {
		a := sum[i]
		sum[i] = ((a &^ highBits) + (v &^ highBits)) ^ ((a ^ v) & highBits)
	}
}

// subtractLanes borrows from the high bit of a lane itself only.
func subtractLanes(sum, x *[sumWords]uint64) {
	for i, v := range x {
		a := sum[i]
		sum[i] = ((a | highBits) - (v &^ highBits)) ^ ((a ^ ^v) & highBits)
	}
}

// Hash returns a 32-byte digest of the count and the sum, for people to compare.
func (s *Summary) Hash() [32]byte { return blake3.Sum256(s.hashed()) }

func (s *Summary) hashed() []byte { return s.appendCountAndSum(make([]byte, 0, 8+sumBytes)) }

func (s *Summary) appendCountAndSum(b []byte) []byte {
	b = binary.LittleEndian.AppendUint64(b, s.Count)
	for _, w := range s.sum {
		b = binary.LittleEndian.AppendUint64(b, w)
	}
	return b
}

// SummarySize is the length of a summary as bytes.
const SummarySize = 8 + sumBytes + capacity*sketchSumSize

// AppendBinary appends the count (u64 LE), the sum (1,024 lanes, u16 LE) and the sketch (8 sums of
// 16 bytes LE).
func (s *Summary) AppendBinary(b []byte) ([]byte, error) {
	return s.sketch.appendSums(s.appendCountAndSum(b), capacity), nil
}

// UnmarshalBinary reads what AppendBinary wrote.
func (s *Summary) UnmarshalBinary(b []byte) error {
	if len(b) != SummarySize {
		return errors.New("reconcile: malformed summary")
	}
	s.Count = binary.LittleEndian.Uint64(b)
	for i := range s.sum {
		s.sum[i] = binary.LittleEndian.Uint64(b[8+8*i:])
	}
	s.sketch.setSums(b[8+sumBytes:])
	return nil
}

// digestSize is the length of a fingerprint on the wire. It is keyed by the session, so nobody can
// prepare sets that look the same; a chance match, with a probability of 2^-64 for each comparison,
// would hide a difference for the length of a session.
const digestSize = 8

// shortIDSize is the length of an item's short ID on the wire, keyed likewise. Two items of one
// range that share one would hide a difference for the length of a session, with a probability of
// 2^-64 for each pair.
const shortIDSize = 8

type shortID uint64

// sessionKey keys what a session sends of sums and IDs.
type sessionKey struct {
	key   [32]byte
	words [8]uint32
}

func newSessionKey(k [32]byte) sessionKey { return sessionKey{k, keyWords(k)} }

func (k *sessionKey) digest(s *Summary) (d [digestSize]byte) {
	h := blake3.New(digestSize, k.key[:])
	_, _ = h.Write(s.hashed()) // never fails
	h.Sum(d[:0])
	return d
}

func (k *sessionKey) short(id [32]byte) shortID {
	cv := guts.ChainingValue(keyedNode(&k.words, &id))
	return shortID(uint64(cv[0]) | uint64(cv[1])<<32)
}
