// Command goclient uses a server by our client, the published one or our own, and reads and leaves
// documents that the published client has sealed and is to open: `.ci/collections` runs it in turns
// with partner.mjs. Usage: goclient first|second BASE PASSPHRASE
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/skerry-sync/skerry/collections/capcert"
	"github.com/skerry-sync/skerry/collections/client"
	"github.com/skerry-sync/skerry/collections/keyring"
	"github.com/skerry-sync/skerry/collections/pairing"
	"github.com/skerry-sync/skerry/collections/value"
)

func main() {
	if err := run(context.Background(), os.Args[1], os.Args[2], os.Args[3]); err != nil {
		fmt.Fprintln(os.Stderr, "goclient:", err)
		os.Exit(1)
	}
}

func object(text string) *value.Object {
	o, err := value.ParseObject([]byte(text), value.MaxDepth)
	if err != nil {
		panic(err)
	}
	return o
}

func want(what string, got *value.Object, text string) error {
	if have := string(value.AppendCanonical(nil, got)); have != text {
		return fmt.Errorf("%s is %s, not %s", what, have, text)
	}
	return nil
}

func run(ctx context.Context, part, base, passphrase string) error {
	root, err := pairing.Root(passphrase)
	if err != nil {
		return err
	}
	cert, err := pairing.RootCert(root, time.Now().Unix())
	if err != nil {
		return err
	}
	id, err := capcert.UserID(root.Key.Public)
	if err != nil {
		return err
	}
	c := &client.Client{Base: base, Credentials: func() client.Credentials {
		return client.Credentials{Cert: cert, Key: root.Key}
	}}
	ring := &client.Keyring{
		Client: c, Path: "team/_keyring", Adder: root.Key, Trusted: []string{root.Key.Public},
	}
	if part == "second" {
		return second(ctx, c, ring, root, id)
	}
	return first(ctx, c, ring, root, id)
}

func first(
	ctx context.Context, c *client.Client, ring *client.Keyring, root *pairing.Device, id string,
) error {
	settings := "users/" + id + "/settings"
	one, two := &client.Sync{
		Client: c, Path: settings, Sign: true, Author: "*",
	}, &client.Sync{Client: c, Path: settings, Sign: true}
	if err := one.Push(ctx, object(`{"a":1,"é":"ü"}`)); err != nil {
		return err
	}
	if err := two.Push(ctx, object(`{"b":2}`)); err != nil { // conflicts and is merged
		return err
	}
	got, err := one.Pull(ctx)
	if err != nil {
		return err
	}
	if err := want("settings", got, `{"a":1,"b":2,"é":"ü"}`); err != nil {
		return err
	}
	for i := range 3 {
		if _, err := c.Append(ctx, "chat/go/today", object(fmt.Sprintf(`{"i":%d}`, i)), 0); err != nil {
			return err
		}
	}
	log, err := c.PullLog(ctx, "chat/go/today", "", client.Part{Last: 2})
	if err != nil {
		return err
	}
	if len(log) != 2 || !log[1].Verify("chat/go/today", root.Key.Public) {
		return fmt.Errorf("the log is %+v", log)
	}
	if _, err := c.PushFile(ctx, "files/"+id+"/go", []byte("bytes"), "image/png"); err != nil {
		return err
	}
	f, err := c.PullFile(ctx, "files/"+id+"/go")
	if err != nil || string(f.Bytes) != "bytes" || f.Type != "image/png" {
		return errors.Join(err, fmt.Errorf("the file is %+v", f))
	}
	if err := ring.Create(ctx, root.KEMPublic()); err != nil {
		return err
	}
	sealer, err := open(ctx, ring, root)
	if err != nil {
		return err
	}
	s := &client.Sync{Client: c, Path: "team/docs/from-go", Sealer: sealer, Sign: true}
	return s.Push(ctx, object(`{"sealed":"by Go","n":[1,2.5,"é"]}`))
}

func open(
	ctx context.Context, ring *client.Keyring, root *pairing.Device,
) (*keyring.Sealer, error) {
	k, _, err := ring.Get(ctx)
	if err != nil {
		return nil, err
	}
	return k.Open(root.KEM, ring.Trusted, 1)
}

// second reads what partner.mjs has left: a document under the epoch that it has begun, and a
// sealed file.
func second(
	ctx context.Context, c *client.Client, ring *client.Keyring, root *pairing.Device, id string,
) error {
	sealer, err := open(ctx, ring, root)
	if err != nil {
		return err
	}
	s := &client.Sync{Client: c, Path: "team/docs/from-js", Sealer: sealer, Author: root.Key.Public}
	got, err := s.Pull(ctx)
	if err != nil {
		return err
	}
	if err := want("the document", got, `{"sealed":"by JS","é":[null,true]}`); err != nil {
		return err
	}
	f, err := c.PullFile(ctx, "files/"+id+"/sealed")
	if err != nil {
		return err
	}
	plain, err := sealer.OpenBytes(f.Bytes, "files/"+id+"/sealed")
	if err != nil || string(plain) != "sealed bytes" {
		return errors.Join(err, fmt.Errorf("the file holds %q", plain))
	}
	return nil
}
