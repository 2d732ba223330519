package store

import (
	"context"
	"slices"
	"strings"
	"sync"
)

// Memory keeps objects in memory, for tests and for what need not last.
type Memory struct {
	mu      sync.RWMutex
	objects map[string]*Object
	keys    []string // sorted
}

// NewMemory returns an empty store.
func NewMemory() *Memory { return &Memory{objects: map[string]*Object{}} }

// Get implements Store.
func (m *Memory) Get(_ context.Context, key string) (*Object, error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	if o := m.objects[key]; o != nil {
		return o, nil
	}
	return nil, ErrNotFound
}

// Put implements Store.
func (m *Memory) Put(_ context.Context, key string, o *Object, if_ Condition) error {
	stored := &Object{Body: o.Body, Type: o.Type, Tag: tagOf(o.Body)}
	m.mu.Lock()
	defer m.mu.Unlock()
	if !if_.met(m.objects[key]) {
		return ErrChanged
	}
	if m.objects[key] == nil {
		i, _ := slices.BinarySearch(m.keys, key)
		m.keys = slices.Insert(m.keys, i, key)
	}
	m.objects[key] = stored
	return nil
}

// List implements Store.
func (m *Memory) List(
	_ context.Context, prefix, after string, limit int,
) (all []string, err error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	i, found := slices.BinarySearch(m.keys, max(prefix, after))
	if found && m.keys[i] == after {
		i++
	}
	for ; i < len(m.keys) && len(all) < limit && strings.HasPrefix(m.keys[i], prefix); i++ {
		all = append(all, m.keys[i])
	}
	return all, nil
}

// Delete implements Store.
func (m *Memory) Delete(_ context.Context, key string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.objects[key] != nil {
		delete(m.objects, key)
		i, _ := slices.BinarySearch(m.keys, key)
		m.keys = slices.Delete(m.keys, i, i+1)
	}
	return nil
}

// Close implements Store.
func (m *Memory) Close() error { return nil }
