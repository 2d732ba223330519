package seal

import (
	"encoding/binary"
	"fmt"
	"slices"

	"golang.org/x/crypto/chacha20poly1305"
	"lukechampine.com/blake3"
)

// Contents seals and opens contents as a whole in one epoch: many small ones cost less than with a
// Writer or a Reader for each. It may be used by many goroutines.
type Contents struct {
	epoch     uint32
	salt, key *keyedHash
}

// Contents returns what seals and opens contents with the key in an epoch.
func (k ReadKey) Contents(epoch uint32) *Contents {
	return &Contents{
		epoch, newKeyedHash(k.derive("content salt"), saltSize),
		newKeyedHash(k.derive("content key"), chacha20poly1305.KeySize),
	}
}

// SealBytes appends sealed content to dst.
func (c *Contents) SealBytes(dst, content []byte) ([]byte, error) {
	hash := blake3.Sum256(content)
	dst = slices.Grow(dst, int(SealedSize(uint64(len(content)))))
	head := len(dst)
	dst = binary.BigEndian.AppendUint32(append(dst, contentVersion), c.epoch)
	dst = append(dst, c.salt.sum(hash[:])...)
	aead, err := chacha20poly1305.NewX(c.key.sum(dst[len(dst)-saltSize:]))
	if err != nil {
		return nil, err
	}
	data := dst[head : head+HeadSize : head+HeadSize]
	for number := uint64(0); ; number++ {
		n := min(len(content), SegmentSize)
		last := n == len(content)
		at := nonce(number, last)
		dst = aead.Seal(dst, at[:], content[:n], data)
		if content = content[n:]; last {
			return dst, nil
		}
	}
}

// OpenBytes opens sealed content as a whole. It returns ErrSealed.
func (c *Contents) OpenBytes(sealed []byte) ([]byte, error) {
	size, err := ContentSize(uint64(len(sealed)))
	if err != nil {
		return nil, err
	}
	switch epoch, err := Epoch(sealed); {
	case err != nil:
		return nil, err
	case epoch != c.epoch:
		return nil, fmt.Errorf("content of epoch %d %w", epoch, ErrSealed)
	}
	head, rest := sealed[:HeadSize:HeadSize], sealed[HeadSize:]
	aead, err := chacha20poly1305.NewX(c.key.sum(head[HeadSize-saltSize:]))
	if err != nil {
		return nil, err
	}
	out := make([]byte, 0, size)
	for number := uint64(0); ; number++ {
		n := min(len(rest), SegmentSize+tagSize)
		last := n == len(rest)
		at := nonce(number, last)
		if out, err = aead.Open(out, at[:], rest[:n], head); err != nil {
			return nil, fmt.Errorf("segment %d of content %w", number, ErrSealed)
		}
		if rest = rest[n:]; last {
			return out, nil
		}
	}
}
