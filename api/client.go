package api

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"reflect"
	"strconv"

	"github.com/skerry-sync/skerry/internal/disk"
)

// Client talks to a node.
type Client struct {
	http *http.Client
	// Progress, if set, is told how far long operations have come.
	Progress func(Progress)
	// Warn, if set, is told what a person should know although the operation goes on.
	Warn func(string)
}

// Dial returns a client for the node that serves its API on the Unix socket path. It talks to no
// process of another user, but for root.
func Dial(path string) *Client { return DialOf("", path) }

// DialOf is Dial for the node that has the data directory dir open: it also talks to a process of
// the user who owns that.
func DialOf(dir, path string) *Client {
	return DialBy(func(ctx context.Context, _, _ string) (net.Conn, error) {
		return disk.DialUnix(ctx, path, dir)
	})
}

// DialBy returns a client whose connections to the node are made by a function, as by a net.Dialer:
// for a node in the same process, or one that is reached through something else than a socket. What
// the function is told to dial is a name for the node and no address.
func DialBy(
	dial func(ctx context.Context, network, addr string) (net.Conn, error),
) *Client {
	return &Client{http: &http.Client{Transport: &http.Transport{DialContext: dial}}}
}

// Close ends idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

const base = "http://node/v1/"

// call runs an operation that has one result.
func call[Res any](ctx context.Context, c *Client, op string, req any) (Res, error) {
	return stream[struct{}, Res](ctx, c, op, req, nil)
}

// every runs an operation that gives items, and calls fn for each.
func every[Item any](
	ctx context.Context, c *Client, op string, req any, fn func(Item) error,
) error {
	_, err := stream[Item, struct{}](ctx, c, op, req, fn)
	return err
}

// both runs an operation that gives items and, at the end, a result.
func both[Item, Res any](
	ctx context.Context, c *Client, op string, req any, fn func(Item) error,
) (Res, error) {
	return stream[Item, Res](ctx, c, op, req, fn)
}

func stream[Item, Res any](
	ctx context.Context, c *Client, op string, req any, fn func(Item) error,
) (res Res, err error) {
	if req == nil {
		req = struct{}{}
	}
	if err := checkStrings(reflect.ValueOf(req)); err != nil {
		return res, err
	}
	b, err := json.Marshal(req)
	if err != nil {
		return res, err
	}
	return send[Item, Res](ctx, c, op, "application/json", bytes.NewReader(b), fn)
}

func send[Item, Res any](
	ctx context.Context, c *Client, op, contentType string, body io.Reader, fn func(Item) error,
) (res Res, err error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, base+op, body)
	if err != nil {
		return res, err
	}
	r.Header.Set("Content-Type", contentType)
	resp, err := c.http.Do(r)
	if err != nil {
		return res, talkError(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return res, fmt.Errorf(
			"talk to the node: it does not know %q (%s): is it of another version?", op, resp.Status,
		)
	}
	dec := json.NewDecoder(bufio.NewReaderSize(resp.Body, 64<<10))
	for {
		var l Line
		if err := dec.Decode(&l); err != nil {
			if ctx.Err() != nil {
				return res, ctx.Err()
			}
			if lost(err) {
				err = ErrStopped
			}
			return res, err
		}
		switch {
		case l.Progress != nil:
			if c.Progress != nil {
				c.Progress(*l.Progress)
			}
		case l.Warning != "":
			if c.Warn != nil {
				c.Warn(l.Warning)
			}
		case l.Item != nil:
			var it Item
			if err := json.Unmarshal(l.Item, &it); err != nil {
				return res, err
			}
			if err := fn(it); err != nil {
				return res, err
			}
		case l.Error != nil:
			return res, l.Error
		default:
			return res, json.Unmarshal(l.Result, &res)
		}
	}
}

// talkError explains why a request could not be made. What is wrong with its own body is told as it
// is.
func talkError(err error) error {
	var own *Error
	if errors.As(err, &own) {
		return own
	}
	var u *url.Error
	if errors.As(err, &u) {
		err = u.Err // without the made-up address
	}
	if lost(err) {
		return ErrStopped
	}
	return fmt.Errorf("talk to the node: %w", err)
}

// lost reports whether an error is that the connection to the node has ended: the node was stopped
// or killed. One that was never made is another thing.
func lost(err error) bool {
	if of, ok := errors.AsType[*net.OpError](err); ok {
		return of.Op != "dial"
	}
	return isAny(err, io.EOF, io.ErrUnexpectedEOF, net.ErrClosed)
}

// ImportBlob stores what r yields.
func (c *Client) ImportBlob(ctx context.Context, r io.Reader) (Added, error) {
	return send[struct{}, Added](ctx, c, "blob", "application/octet-stream", r, nil)
}

// ImportItems sets the keys of the ImportItems that r yields as JSON, one after the other. files is
// the absolute path of the directory that the files which they name must be in; if it is empty,
// they may name none.
func (c *Client) ImportItems(
	ctx context.Context, name, author, files string, r io.Reader,
) (Imported, error) {
	q := url.Values{"name": {name}, "author": {author}, "files": {files}}
	return send[struct{}, Imported](
		ctx, c, "replica/import?"+q.Encode(), "application/x-ndjson", r, nil,
	)
}

// SetValue sets the key of a request to what r yields.
func (c *Client) SetValue(ctx context.Context, req SetRequest, r io.Reader) (Entry, error) {
	q := url.Values{"name": {req.Name}, "key": {req.Key.String()}, "author": {req.Author}}
	return send[struct{}, Entry](ctx, c, "value?"+q.Encode(), "application/octet-stream", r, nil)
}

// ReadBlob writes the bytes of what a hash or ticket names to w, from offset on, at most length of
// them unless that is negative. Of a file in chunks, raw gives the sequence instead of the content.
func (c *Client) ReadBlob(
	ctx context.Context, what string, offset, length int64, raw bool, w io.Writer,
) error {
	q := url.Values{"hash": {what}, "offset": {strconv.FormatInt(offset, 10)}}
	if raw {
		q.Set("raw", "1")
	}
	if length >= 0 {
		q.Set("length", strconv.FormatInt(length, 10))
	}
	return c.read(ctx, "blob?"+q.Encode(), w)
}

// ReadValue writes the bytes of the latest value of a key to w.
func (c *Client) ReadValue(ctx context.Context, name string, key Key, w io.Writer) error {
	return c.read(ctx, "value?"+url.Values{"name": {name}, "key": {key.String()}}.Encode(), w)
}

// ReadVersion writes the content of a version of an item to w.
func (c *Client) ReadVersion(ctx context.Context, req VersionRequest, w io.Writer) error {
	q := url.Values{
		"name": {req.Name}, "key": {req.Key.String()}, "number": {strconv.Itoa(req.Number)},
		"id": {req.ID},
	}
	return c.read(ctx, "version?"+q.Encode(), w)
}

func (c *Client) read(ctx context.Context, path string, w io.Writer) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, base+path, nil)
	if err != nil {
		return err
	}
	resp, err := c.http.Do(r)
	if err != nil {
		return talkError(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		var e Error
		if err := json.NewDecoder(resp.Body).Decode(&e); err != nil || e.Message == "" {
			return fmt.Errorf("talk to the node: %s", resp.Status)
		}
		return &e
	}
	if _, err := io.CopyBuffer(struct{ io.Writer }{w}, resp.Body, make([]byte, 256<<10)); err != nil {
		if lost(err) {
			err = ErrStopped
		}
		return err
	}
	return nil
}
