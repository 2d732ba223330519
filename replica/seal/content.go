package seal

import (
	"crypto/cipher"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"golang.org/x/crypto/chacha20poly1305"
	"lukechampine.com/blake3"
)

// Sealed content is
//
//	version    u8 = 1
//	epoch      u32 big-endian
//	salt       32 bytes
//	segments   of 65,536 bytes of content each, the last of 0 to 65,536, each followed by a tag of 16 bytes
//
// The salt is the keyed BLAKE3 hash of the content's own BLAKE3 hash, so that the same content
// gives the same bytes, and a key of its own: the keyed BLAKE3 hash of the salt. Each segment is
// sealed with XChaCha20-Poly1305, its number (u64 big-endian), 15 zeros and 1 for the last segment
// or 0 as the nonce, and the 37 bytes before the segments as associated data. A segment opens by
// itself, so that a part of the content is read from the part of the bytes that holds it, and the
// end is told from a cut.
const (
	contentVersion = 1
	saltSize       = 32
	// HeadSize is the number of bytes before the segments.
	HeadSize = 1 + 4 + saltSize
	// SegmentSize is the number of bytes of content in each segment but the last.
	SegmentSize = 64 << 10
	tagSize     = chacha20poly1305.Overhead
	// MaxContent is the most bytes that can be sealed.
	MaxContent = 1 << 50
)

// SealedSize returns the number of bytes that sealed content of some size has.
func SealedSize(size uint64) uint64 {
	segments := max((size+SegmentSize-1)/SegmentSize, 1)
	return HeadSize + size + segments*tagSize
}

// ContentSize returns the number of bytes of content that sealed bytes of some size hold, or
// ErrSealed if there is no such content.
func ContentSize(sealed uint64) (uint64, error) {
	if sealed < HeadSize+tagSize || sealed > SealedSize(MaxContent) {
		return 0, fmt.Errorf("content of %d bytes %w", sealed, ErrSealed)
	}
	body := sealed - HeadSize
	segments := (body + SegmentSize + tagSize - 1) / (SegmentSize + tagSize)
	size := body - segments*tagSize // a body has a tag at least, and more with each segment
	if SealedSize(size) != sealed {
		return 0, fmt.Errorf("content of %d bytes %w", sealed, ErrSealed)
	}
	return size, nil
}

// ErrChanged reports content that was not what its hash said when it was sealed. What was written
// must be thrown away: it may have used the key of other content again.
var ErrChanged = errors.New("content changed while it was sealed")

// salt returns the salt of content with some BLAKE3 hash: without the key nobody can tell whether
// content that they guess is what was sealed.
func (k ReadKey) salt(content [32]byte) (salt [saltSize]byte) {
	copy(salt[:], keyed(k.derive("content salt"), saltSize, content[:]))
	return salt
}

// segments opens and seals the segments of one content.
type segments struct {
	aead cipher.AEAD
	head []byte
}

func (k ReadKey) segments(epoch uint32, salt [saltSize]byte) (s segments, err error) {
	key := keyed(k.derive("content key"), chacha20poly1305.KeySize, salt[:])
	s.head = append(binary.BigEndian.AppendUint32([]byte{contentVersion}, epoch), salt[:]...)
	s.aead, err = chacha20poly1305.NewX(key)
	return s, err
}

func nonce(number uint64, last bool) (n [chacha20poly1305.NonceSizeX]byte) {
	binary.BigEndian.PutUint64(n[:], number)
	if last {
		n[len(n)-1] = 1
	}
	return n
}

// Writer seals what is written to it, and writes that on. It must be closed.
type Writer struct {
	w      io.Writer
	s      segments
	want   [32]byte // hash of the content
	hash   *blake3.Hasher
	number uint64
	// content of the segment under way; a whole one is held back until it is known whether it is the
	// last
	buf    []byte
	out    []byte
	err    error
	closed bool
}

// Seal returns a Writer for content whose BLAKE3 hash is known. Close returns ErrChanged if it is
// another.
func (k ReadKey) Seal(w io.Writer, epoch uint32, content [32]byte) (*Writer, error) {
	s, err := k.segments(epoch, k.salt(content))
	if err != nil {
		return nil, err
	}
	if _, err := w.Write(s.head); err != nil {
		return nil, err
	}
	return &Writer{
		w: w, s: s, want: content, hash: blake3.New(32, nil), buf: make([]byte, 0, SegmentSize),
		out: make([]byte, 0, SegmentSize+tagSize),
	}, nil
}

// Write implements io.Writer.
func (w *Writer) Write(b []byte) (n int, err error) {
	if w.closed {
		return 0, errors.New("seal: write after close")
	}
	for len(b) > 0 && w.err == nil {
		if len(w.buf) == SegmentSize {
			w.flush(false)
			continue
		}
		k := min(len(b), SegmentSize-len(w.buf))
		w.buf = append(w.buf, b[:k]...)
		b, n = b[k:], n+k
	}
	return n, w.err
}

// SealBytes appends sealed content to dst.
func (k ReadKey) SealBytes(dst []byte, epoch uint32, content []byte) ([]byte, error) {
	return k.Contents(epoch).SealBytes(dst, content)
}

func (w *Writer) flush(last bool) {
	_, _ = w.hash.Write(w.buf) // never fails
	at := nonce(w.number, last)
	w.out = w.s.aead.Seal(w.out[:0], at[:], w.buf, w.s.head)
	_, w.err = w.w.Write(w.out)
	w.buf = w.buf[:0]
	w.number++
}

// Close seals what is left. It returns ErrChanged, after which what was written must not be kept.
func (w *Writer) Close() error {
	if !w.closed && w.err == nil {
		w.flush(true)
		if w.err == nil && [32]byte(w.hash.Sum(nil)) != w.want {
			w.err = ErrChanged
		}
	}
	w.closed = true
	return w.err
}

// Reader reads content from sealed bytes, any part of it.
type Reader struct {
	r    io.ReaderAt
	s    segments
	size uint64
	buf  []byte // sealed bytes of a segment
	open []byte // content of segment number, or nil
	at   uint64
}

// Epoch returns the epoch of sealed content, whose first HeadSize bytes head is.
func Epoch(head []byte) (uint32, error) {
	if len(head) < HeadSize || head[0] != contentVersion {
		return 0, fmt.Errorf("content %w: unknown version", ErrSealed)
	}
	return binary.BigEndian.Uint32(head[1:]), nil
}

// Open returns a Reader for sealed bytes that r has size of; key is that of their epoch. Nothing
// but the first HeadSize bytes is read yet. It returns ErrSealed.
func (k ReadKey) Open(r io.ReaderAt, size uint64) (*Reader, error) {
	content, err := ContentSize(size)
	if err != nil {
		return nil, err
	}
	var head [HeadSize]byte
	if _, err := r.ReadAt(head[:], 0); err != nil {
		return nil, err
	}
	epoch, err := Epoch(head[:])
	if err != nil {
		return nil, err
	}
	s, err := k.segments(epoch, [saltSize]byte(head[5:]))
	if err != nil {
		return nil, err
	}
	buf := make([]byte, min(content, SegmentSize)+tagSize)
	return &Reader{r: r, s: s, size: content, buf: buf}, nil
}

// Size returns the size of the content.
func (r *Reader) Size() uint64 { return r.size }

// ReadAt implements io.ReaderAt, for one caller at a time. It returns ErrSealed for bytes that do
// not open; what it returns is right in any case.
func (r *Reader) ReadAt(b []byte, off int64) (n int, err error) {
	if off < 0 {
		return 0, errors.New("seal: negative offset")
	}
	for n < len(b) {
		pos := uint64(off) + uint64(n)
		if pos >= r.size {
			return n, io.EOF
		}
		if err := r.segment(pos / SegmentSize); err != nil {
			return n, err
		}
		n += copy(b[n:], r.open[pos%SegmentSize:])
	}
	return n, nil
}

// segment opens the segment with a number.
func (r *Reader) segment(number uint64) error {
	if r.open != nil && r.at == number {
		return nil
	}
	start := number * SegmentSize
	length := min(r.size-start, SegmentSize)
	last := start+length == r.size
	sealed := r.buf[:length+tagSize]
	if n, err := r.r.ReadAt(sealed, int64(HeadSize+number*(SegmentSize+tagSize))); n < len(sealed) {
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return err
	}
	at := nonce(number, last)
	open, err := r.s.aead.Open(sealed[:0], at[:], sealed, r.s.head)
	if err != nil {
		r.open = nil
		return fmt.Errorf("segment %d of content %w", number, ErrSealed)
	}
	r.open, r.at = open, number
	return nil
}

// SealedRange returns the range of sealed bytes that a part of the content is read from; the first
// HeadSize bytes are needed besides.
func SealedRange(from, to uint64) (start, end uint64) {
	if from >= to {
		return HeadSize, HeadSize
	}
	return HeadSize + from/SegmentSize*(SegmentSize+tagSize),
		HeadSize + ((to-1)/SegmentSize+1)*(SegmentSize+tagSize)
}
