package api

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/skerry-sync/skerry/internal/disk"
)

// maxKeyringReply is how many bytes of a reply of a keyring are read: more than vault.MaxCall, the
// longest that vault.Remote takes, so that it tells of one that is too long.
const maxKeyringReply = 1 << 20

// DialKeyring returns what carries calls to the keyring that another process serves on a Unix
// socket, and its replies back: the Call of a vault.Remote, which is that keyring. It talks to no
// process of another user, but for root: that is an *Error of the kind NotAllowed. A keyring that
// does not answer is one of the kind Unreachable.
func DialKeyring(path string) func(ctx context.Context, call []byte) (reply []byte, err error) {
	client := &http.Client{Timeout: time.Minute, Transport: &http.Transport{
		DisableKeepAlives: true, // calls are rare
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return disk.DialUnix(ctx, path, "")
		},
	}}
	return func(ctx context.Context, call []byte) ([]byte, error) {
		resp, err := postKeyring(ctx, client, "http://keyring/v1/", call)
		if errors.Is(err, disk.ErrForeignSocket) {
			return nil, &Error{NotAllowed, fmt.Sprintf("keyring: %v", errors.Unwrap(err))}
		}
		if err != nil {
			return nil, &Error{Unreachable, fmt.Sprintf("the keyring at %s does not answer: is "+
				"skerry keyring running? (%v)", path, errors.Unwrap(err))}
		}
		return keyringReply(resp, "the keyring at "+path)
	}
}

// CallKeyring carries a call to the keyring of the node, as an app on this machine reaches it, and
// its reply back: it is the Call of a vault.Remote. The keyring answers what is for apps, and
// nothing else.
func (c *Client) CallKeyring(ctx context.Context, call []byte) (reply []byte, err error) {
	resp, err := postKeyring(ctx, c.http, base, call)
	if err != nil {
		return nil, talkError(err)
	}
	return keyringReply(resp, "talk to the node")
}

func postKeyring(
	ctx context.Context, client *http.Client, at string, call []byte,
) (*http.Response, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, at+"keyring", bytes.NewReader(call))
	if err != nil {
		return nil, err
	}
	return client.Do(r)
}

// keyringReply reads a reply and closes its body; who names the keyring in an error.
func keyringReply(resp *http.Response, who string) ([]byte, error) {
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxKeyringReply))
	if err != nil || resp.StatusCode != http.StatusOK {
		return nil, errors.Join(fmt.Errorf("%s: %s", who, resp.Status), err)
	}
	return b, nil
}
