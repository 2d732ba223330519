package onnode

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/skerry-sync/skerry/kv"
	"github.com/skerry-sync/skerry/node"
	"github.com/skerry-sync/skerry/replica"
	"github.com/skerry-sync/skerry/versions"
)

// The record of the device in the node's store; integers are big-endian:
//
//	v d replica[32]   version u8 = 1, since when the node holds the replica i64 µs,
//	                  flags u8: 1 copied, author[32], incarnation[8], reserved u64, former[32],
//	held u64 µs, rescue[32]
//
// A device that has left a replica begins anew when it comes back: what it wrote in between may be
// gone. So a record of an earlier time at which the replica was held says nothing.
const keyDevice = "vd"

const (
	deviceVersion = 1
	deviceLength  = 1 + 8 + 1 + 32 + 8 + 8 + 32 + 8 + 32
	flagCopied    = 1
)

// errMalformed reports a record that is none; it is damaged, or a newer program wrote it.
var errMalformed = errors.New("malformed record of a device")

func deviceKey(id replica.ID) []byte { return append([]byte(keyDevice), id[:]...) }

func marshal(d *versions.Device, held time.Time) []byte {
	b := binary.BigEndian.AppendUint64([]byte{deviceVersion}, uint64(held.UnixMicro()))
	if d.Copied {
		b = append(b, flagCopied)
	} else {
		b = append(b, 0)
	}
	b = append(append(b, d.Author[:]...), d.Incarnation[:]...)
	b = binary.BigEndian.AppendUint64(b, d.Reserved)
	b = binary.BigEndian.AppendUint64(append(b, d.Former[:]...), d.Held)
	return append(b, d.Rescue[:]...)
}

func parse(b []byte) (d versions.Device, held time.Time, err error) {
	if len(b) > 0 && b[0] != deviceVersion {
		return d, held, fmt.Errorf("%w: version %d, expected %d", errMalformed, b[0], deviceVersion)
	}
	if len(b) != deviceLength || b[9]&^flagCopied != 0 {
		return d, held, fmt.Errorf("%w: %d bytes, expected %d", errMalformed, len(b), deviceLength)
	}
	held = time.UnixMicro(int64(binary.BigEndian.Uint64(b[1:])))
	d.Copied = b[9] == flagCopied
	b = b[10:]
	b = b[copy(d.Author[:], b):]
	b = b[copy(d.Incarnation[:], b):]
	d.Reserved = binary.BigEndian.Uint64(b)
	b = b[8:]
	b = b[copy(d.Former[:], b):]
	d.Held = binary.BigEndian.Uint64(b)
	copy(d.Rescue[:], b[8:])
	return d, held, nil
}

// device implements versions.State.
type device struct {
	n  *node.Node
	id replica.ID
}

// Load implements versions.State.
func (x *device) Load(ctx context.Context) (d versions.Device, err error) {
	r, err := x.n.Replicas().Get(ctx, x.id)
	if err != nil {
		return d, err
	}
	var held time.Time
	err = x.n.Store().View(ctx, func(rd kv.Reader) error {
		return rd.Peek(deviceKey(x.id), func(b []byte) error {
			d, held, err = parse(b)
			return err
		})
	})
	if errors.Is(err, kv.ErrNotFound) || err == nil && !held.Equal(r.Created) {
		return versions.Device{}, versions.ErrNoDevice
	}
	return d, err
}

// Save implements versions.State.
func (x *device) Save(ctx context.Context, d versions.Device) error {
	r, err := x.n.Replicas().Get(ctx, x.id)
	if err != nil {
		return err
	}
	err = x.n.Store().Update(ctx, func(tx kv.Txn) error {
		if err := replica.HeldIn(tx, x.id); err != nil {
			return err
		}
		return tx.Set(deviceKey(x.id), marshal(&d, r.Created))
	})
	if err != nil {
		return err
	}
	return x.n.Store().Sync(ctx)
}
