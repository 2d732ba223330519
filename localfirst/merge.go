package localfirst

import (
	"time"

	"github.com/skerry-sync/skerry/versions/merge"
)

// MergeFunc merges two values of a key that have been changed beside each other, from base, which
// is nil if they have nothing in common that is known: on first contact, after the engine's store
// was lost, or when two devices made the same key at once. local is the value that was written
// last, by the clocks of the devices: it is the same on all of them. A MergeFunc must give the same
// on all devices, must not change its inputs, and may be called from several goroutines.
//
// resolved is false if only a person can decide; then both values stay. An error says why, and is
// shown to the person.
type MergeFunc[T any] func(key string, base *T, local, remote T) (v T, resolved bool, err error)

// PreferLocal takes the value that was written last. It is associative. A value that was written
// while the clock of a device was ahead stands against those that are written until then.
func PreferLocal[T any]() MergeFunc[T] {
	return func(_ string, _ *T, local, _ T) (T, bool, error) { return local, true, nil }
}

// PreferRemote takes the value that was written first. It is associative.
func PreferRemote[T any]() MergeFunc[T] {
	return func(_ string, _ *T, _, remote T) (T, bool, error) { return remote, true, nil }
}

// NeverMerge leaves all to a person.
func NeverMerge[T any]() MergeFunc[T] {
	return func(_ string, _ *T, local, _ T) (T, bool, error) { return local, false, nil }
}

// Latest takes the value with the later time, as the app has written it in the value; of two with
// the same time the one that was written last. The base does not matter. It is associative, and
// commutative where the times differ.
func Latest[T any](when func(T) time.Time) MergeFunc[T] {
	return func(_ string, _ *T, local, remote T) (T, bool, error) {
		if when(remote).After(when(local)) {
			return remote, true, nil
		}
		return local, true, nil
	}
}

// FirstOf asks one function after the other, until one resolves. If none does, the error is that of
// the first that gave one. A text, for instance, may be merged by MergeText, and where that finds a
// conflict the later one may stand:
//
//	localfirst.FirstOf(localfirst.MergeText(), localfirst.PreferLocal[string]())
func FirstOf[T any](all ...MergeFunc[T]) MergeFunc[T] {
	return func(key string, base *T, local, remote T) (v T, resolved bool, err error) {
		for _, f := range all {
			v, resolved, failed := f(key, base, local, remote)
			if resolved && failed == nil {
				return v, true, nil
			}
			if err == nil {
				err = failed
			}
		}
		return local, false, err
	}
}

// MergeWith merges values as the codec writes them. The error of contents that f cannot merge is a
// [*merge.Conflict], which names the place.
func MergeWith[T any](c Codec[T], f merge.Func) MergeFunc[T] {
	write := func(v T) ([]byte, error) {
		b, err := c.Encode(v)
		if b == nil {
			b = []byte{} // nil is for no base
		}
		return b, err
	}
	return func(_ string, base *T, local, remote T) (v T, resolved bool, err error) {
		var b []byte
		if base != nil {
			if b, err = write(*base); err != nil {
				return local, false, err
			}
		}
		l, err := write(local)
		if err != nil {
			return local, false, err
		}
		r, err := write(remote)
		if err != nil {
			return local, false, err
		}
		merged, err := f(b, l, r)
		if err != nil {
			return local, false, err
		}
		if v, err = c.Decode(merged); err != nil {
			return local, false, err
		}
		return v, true, nil
	}
}

// MergeText merges texts line by line: see [merge.Text]. Without a base, two texts are only merged
// if one is empty. It is commutative.
func MergeText() MergeFunc[string] { return MergeWith(StringCodec(), merge.Text) }

// MergeJSON merges values member by member, as the codec writes them in JSON: see
// [merge.Options.JSON]. Without a base, the result has the members of both; one that both have with
// different values is a conflict, unless it can be merged in turn. With a JSONTextCodec, members
// that the app does not know are merged like others. It is commutative if o is empty.
func MergeJSON[T any](c Codec[T], o merge.Options) MergeFunc[T] { return MergeWith(c, o.JSON) }

// MergeCounters merges counters of which each device counts its own part: see [merge.Counter]. A
// base is not needed. It is associative, commutative, and counts nothing twice.
func MergeCounters() MergeFunc[merge.Counter] {
	return MergeWith(JSONCodec[merge.Counter](), merge.Counters)
}
