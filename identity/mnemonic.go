package identity

import (
	"crypto/sha256"
	_ "embed"
	"fmt"
	"math/big"
	"slices"
	"strings"

	"github.com/skerry-sync/skerry/internal/kind"
)

// MnemonicWords is how many words a key is written down in.
const MnemonicWords = 24

// ErrBadMnemonic reports words that stand for no key.
var ErrBadMnemonic = kind.New(kind.Usage, "bad mnemonic")

// english.txt holds the 2,048 English words of BIP-39 (published under MIT), sorted, one on each
// line. Each stands for 11 bits.
//
//go:embed english.txt
var english string

var (
	wordList = strings.Fields(english)
	radix    = big.NewInt(int64(len(wordList)))
)

// checksummed returns a secret followed by the first byte of its SHA-256: the 264 bits that 24
// words stand for (BIP-39, "Generating the mnemonic").
func checksummed(secret [32]byte) []byte {
	sum := sha256.Sum256(secret[:])
	return append(secret[:], sum[0])
}

// Mnemonic returns the secret of a key as 24 English words (BIP-39, with the secret as the
// entropy). They are the key itself: not the seed of a wallet, from which keys would be derived.
func (k Key) Mnemonic() string {
	bits, word := new(big.Int).SetBytes(checksummed(k.Secret())), new(big.Int)
	words := make([]string, MnemonicWords)
	for i := MnemonicWords - 1; i >= 0; i-- {
		bits.DivMod(bits, radix, word)
		words[i] = wordList[word.Int64()]
	}
	return strings.Join(words, " ")
}

// KeyFromMnemonic returns the key that Mnemonic has written down, or ErrBadMnemonic, which says
// what is wrong: a word that is none, too few, or a word in the place of another.
func KeyFromMnemonic(kind Kind, words string) (Key, error) {
	list := strings.Fields(strings.ToLower(words))
	if len(list) != MnemonicWords {
		return Key{}, fmt.Errorf("%w: %d words, expected %d", ErrBadMnemonic, len(list), MnemonicWords)
	}
	bits := new(big.Int)
	for i, w := range list {
		n, ok := slices.BinarySearch(wordList, w)
		if !ok { // it may be part of the secret, and is not repeated
			return Key{}, fmt.Errorf("%w: word %d is none of the list", ErrBadMnemonic, i+1)
		}
		bits.Mul(bits, radix).Add(bits, big.NewInt(int64(n)))
	}
	var all [33]byte
	bits.FillBytes(all[:])
	secret := [32]byte(all[:32])
	if checksummed(secret)[32] != all[32] {
		return Key{}, fmt.Errorf("%w: a word is wrong, or in the wrong place", ErrBadMnemonic)
	}
	k, err := KeyFromSecret(kind, secret)
	if err != nil {
		return k, fmt.Errorf("%w: %w", ErrBadMnemonic, err)
	}
	return k, nil
}
