package identity

import (
	"errors"
	"fmt"
	"strings"

	"github.com/tyler-smith/go-bip39"
)

// MnemonicWords is how many words a key is written down in.
const MnemonicWords = 24

// ErrBadMnemonic reports words that stand for no key.
var ErrBadMnemonic = errors.New("bad mnemonic")

// Mnemonic returns the secret of a key as 24 English words (BIP-39, with the secret as the entropy). They are the key itself: not the seed of a wallet, from which keys would be derived.
func (k Key) Mnemonic() (string, error) {
	secret := k.Secret()
	return bip39.NewMnemonic(secret[:])
}

// KeyFromMnemonic returns the key that Mnemonic has written down, or ErrBadMnemonic, which says what is wrong: a word that is none, too few, or a word in the place of another.
func KeyFromMnemonic(kind Kind, words string) (Key, error) {
	list := strings.Fields(strings.ToLower(words))
	if len(list) != MnemonicWords {
		return Key{}, fmt.Errorf("%w: %d words, expected %d", ErrBadMnemonic, len(list), MnemonicWords)
	}
	for i, w := range list {
		if _, ok := bip39.GetWordIndex(w); !ok {
			return Key{}, fmt.Errorf("%w: word %d is none of the list", ErrBadMnemonic, i+1) // it may be part of the secret, and is not repeated
		}
	}
	entropy, err := bip39.EntropyFromMnemonic(strings.Join(list, " "))
	if err != nil {
		return Key{}, fmt.Errorf("%w: a word is wrong, or in the wrong place", ErrBadMnemonic)
	}
	k, err := KeyFromSecret(kind, [32]byte(entropy))
	if err != nil {
		return k, fmt.Errorf("%w: %w", ErrBadMnemonic, err)
	}
	return k, nil
}
