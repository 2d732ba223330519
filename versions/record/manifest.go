package record

import (
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/skerry-sync/skerry/replica"
)

const manifestMagic = "skerry batch 1\n"

// MaxManifest is the most bytes of a manifest.
const MaxManifest = 16 << 20

// AppendManifest appends the keys of the versions of a batch, in the order of their counters:
//
//	"skerry batch 1\n"  15 bytes
//	count               unsigned varint
//	each: length        unsigned varint
//	      key
func AppendManifest(b []byte, keys [][]byte) []byte {
	b = append(b, manifestMagic...)
	b = binary.AppendUvarint(b, uint64(len(keys)))
	for _, k := range keys {
		b = append(binary.AppendUvarint(b, uint64(len(k))), k...)
	}
	return b
}

// ParseManifest reads what AppendManifest wrote, or returns ErrMalformed.
func ParseManifest(b []byte) (keys [][]byte, err error) {
	if len(b) > MaxManifest {
		return nil, malformed("a manifest of %d bytes, at most %d", len(b), MaxManifest)
	}
	p := parser{b: b}
	if string(p.bytes(uint64(len(manifestMagic)))) != manifestMagic {
		p.fail("it does not begin with %q", manifestMagic)
	}
	for range p.count("versions in a batch", MaxParts, 1) {
		keys = append(keys, slices.Clone(p.bytes(uint64(p.count("bytes of key", replica.MaxKey, 1)))))
	}
	if p.err == nil && len(p.b) > 0 {
		p.fail("%d bytes too many", len(p.b))
	}
	if p.err != nil {
		return nil, fmt.Errorf("manifest of a batch: %w", p.err)
	}
	return keys, nil
}
