package eth

import (
	"encoding/binary"
	"math/big"
)

// Domain is an EIP-712 domain with a name, a version and a chain, and nothing else.
type Domain struct {
	Name, Version string
	ChainID       uint64
}

const domainType = "EIP712Domain(string name,string version,uint256 chainId)"

// Separator is the hash of the domain.
func (d *Domain) Separator() [32]byte {
	return StructHash(domainType, String(d.Name), String(d.Version), Uint64(d.ChainID))
}

// Value is a member of a struct, as EIP-712 encodes it.
type Value [32]byte

// String encodes a string: by its hash.
func String(s string) Value { return Keccak256([]byte(s)) }

// Uint64 encodes a number as uint256.
func Uint64(n uint64) (v Value) {
	binary.BigEndian.PutUint64(v[24:], n)
	return v
}

// Uint256 encodes a number that is not negative and has at most 256 bits.
func Uint256(n *big.Int) (v Value) {
	n.FillBytes(v[:])
	return v
}

// Of encodes an address.
func Of(a Address) (v Value) {
	copy(v[12:], a[:])
	return v
}

// StructHash is the hash of a struct of a type without members that are structs themselves; kind is
// the type as encodeType gives it.
func StructHash(kind string, members ...Value) [32]byte {
	h := Keccak256([]byte(kind))
	parts := [][]byte{h[:]}
	for i := range members {
		parts = append(parts, members[i][:])
	}
	return Keccak256(parts...)
}

// TypedDigest is what a wallet signs for a struct (EIP-712).
func TypedDigest(d Domain, structHash [32]byte) [32]byte {
	sep := d.Separator()
	return Keccak256([]byte{0x19, 0x01}, sep[:], structHash[:])
}
