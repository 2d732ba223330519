package ticket_test

import (
	"errors"
	"fmt"

	ma "github.com/multiformats/go-multiaddr"

	"github.com/skerry-sync/skerry/replica"
	"github.com/skerry-sync/skerry/ticket"
)

// What somebody has pasted says what it is, and what is wrong with it.
func ExampleParse() {
	secret := replica.SecretKeyFromSeed([32]byte{1})
	made := &ticket.Doc{Capability: replica.Write, Replica: secret.Replica(), Secret: secret,
		Addrs: []ma.Multiaddr{ma.StringCast("/ip4/192.0.2.1/tcp/4001/p2p/" +
			"12D3KooWBmAwcd4PJNJvfV89HwE48nwkRmAgo8Vy3uQEyNNHBox2")}}
	text, err := made.Text()
	if err != nil {
		panic(err)
	}
	t, err := ticket.Parse(text)
	if err != nil {
		panic(err)
	}
	switch t := t.(type) {
	case *ticket.Doc:
		fmt.Println("a replica,", t.Capability)
	case *ticket.Blob:
		fmt.Println("content of", t.Hash)
	}
	mistyped := []byte(text)
	mistyped[20], mistyped[21] = 'b', 'q'
	_, err = ticket.Parse(string(mistyped))
	fmt.Println(errors.Is(err, ticket.ErrMistyped))
	// Output:
	// a replica, write
	// true
}
