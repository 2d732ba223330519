package localfirst

// MergeFunc merges two values of a key that have been changed beside each other, from base, which
// is nil if they have nothing in common that is known: on first contact, after the engine's store
// was lost, or when two devices made the same key at once. It must give the same on all devices,
// and may be called from several goroutines. resolved is false if only a person can decide; then
// both values stay.
type MergeFunc[T any] func(key string, base *T, local, remote T) (v T, resolved bool, err error)

// PreferLocal takes the value that is called local: that which was written last, by the clocks of
// the devices, the same on all of them.
func PreferLocal[T any]() MergeFunc[T] {
	return func(_ string, _ *T, local, _ T) (T, bool, error) { return local, true, nil }
}

// PreferRemote takes the other one.
func PreferRemote[T any]() MergeFunc[T] {
	return func(_ string, _ *T, _, remote T) (T, bool, error) { return remote, true, nil }
}

// NeverMerge leaves all to a person.
func NeverMerge[T any]() MergeFunc[T] {
	return func(_ string, _ *T, local, _ T) (T, bool, error) { return local, false, nil }
}
