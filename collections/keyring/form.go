package keyring

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"

	"github.com/skerry-sync/skerry/collections/value"
)

// maxEpochs and maxEntries are how many epochs a keyring may have and entries an epoch; maxEpoch is
// the number of the last epoch that there can be.
const (
	maxEpochs  = 10_000
	maxEntries = 10_000
	maxEpoch   = math.MaxInt32
)

func member(key string, v any) value.Member { return value.Member{Key: key, Value: v} }

// Object returns the keyring as the document that it is stored as.
func (k *Keyring) Object() *value.Object {
	epochs := &value.Object{}
	for _, n := range slices.Sorted(maps.Keys(k.Epochs)) {
		all := value.Array{}
		for _, e := range k.Epochs[n].Entries {
			all = append(
				all,
				value.NewObject(
					member("subKem", e.Recipient), member("ephKem", e.Ephemeral), member("ct", e.Wrapped),
					member("addedBy", e.AddedBy), member("addedSig", e.Signature),
					member("addedAt", float64(e.AddedAt)),
				),
			)
		}
		epochs.Set(
			strconv.Itoa(n),
			value.NewObject(member("wrappedKeys", all), member("createdAt", float64(k.Epochs[n].Created))),
		)
	}
	return value.NewObject(
		member("v", 1.0), member("currentEpoch", float64(k.Current)), member("epochs", epochs),
	)
}

// number returns a member that is a whole number.
func number(o *value.Object, key string) (int64, bool) {
	v, _ := o.Get(key)
	f, ok := v.(float64)
	if !ok || f != math.Trunc(f) || math.Abs(f) > 1<<53 {
		return 0, false
	}
	return int64(f), true
}

// Parse reads a keyring. It returns an error that is ErrMalformed.
func Parse(o *value.Object) (*Keyring, error) {
	bad := func(what string) (*Keyring, error) {
		return nil, fmt.Errorf("%w keyring: %s", ErrMalformed, what)
	}
	if v, ok := number(o, "v"); !ok || v != 1 {
		return bad("its version is not 1")
	}
	current, ok := number(o, "currentEpoch")
	if !ok || current < 1 || current > maxEpoch {
		return bad("it has no current epoch")
	}
	v, _ := o.Get("epochs")
	epochs, ok := v.(*value.Object)
	if !ok || epochs.Len() > maxEpochs {
		return bad("it has no epochs, or too many")
	}
	k := &Keyring{int(current), map[int]Epoch{}}
	for text, v := range epochs.All() {
		n, err := strconv.Atoi(text)
		e, ok := v.(*value.Object)
		if err != nil || !ok || n < 1 || n > maxEpoch || strconv.Itoa(n) != text {
			return bad("an epoch is none")
		}
		epoch, err := parseEpoch(e)
		if err != nil {
			return bad(fmt.Sprintf("epoch %d: %v", n, err))
		}
		k.Epochs[n] = epoch
	}
	if _, ok := k.Epochs[k.Current]; !ok {
		return bad("the current epoch is missing")
	}
	return k, nil
}

func parseEpoch(o *value.Object) (epoch Epoch, err error) {
	epoch.Created, _ = number(o, "createdAt")
	v, _ := o.Get("wrappedKeys")
	all, ok := v.(value.Array)
	if !ok || len(all) > maxEntries {
		return epoch, fmt.Errorf("it has no wrapped keys, or too many")
	}
	for i, v := range all {
		o, _ := v.(*value.Object)
		var e Entry
		for key, at := range map[string]*string{
			"subKem": &e.Recipient, "ephKem": &e.Ephemeral, "ct": &e.Wrapped, "addedBy": &e.AddedBy,
			"addedSig": &e.Signature,
		} {
			if *at, ok = o.String(key); !ok {
				return epoch, fmt.Errorf("entry %d lacks %s", i, key)
			}
		}
		if e.AddedAt, ok = number(o, "addedAt"); !ok {
			return epoch, fmt.Errorf("entry %d lacks addedAt", i)
		}
		epoch.Entries = append(epoch.Entries, e)
	}
	return epoch, nil
}
