package store

import "context"

// Funcs is a store that consists of functions, which may ask RequestOf on whose behalf they are
// called. Those that are nil do nothing and find nothing.
type Funcs struct {
	OnGet    func(ctx context.Context, key string) (*Object, error)
	OnPut    func(ctx context.Context, key string, o *Object, if_ Condition) error
	OnList   func(ctx context.Context, prefix, after string, limit int) ([]string, error)
	OnDelete func(ctx context.Context, key string) error
	OnClose  func() error
}

// Get implements Store.
func (f *Funcs) Get(ctx context.Context, key string) (*Object, error) {
	if f.OnGet == nil {
		return nil, ErrNotFound
	}
	return f.OnGet(ctx, key)
}

// Put implements Store.
func (f *Funcs) Put(ctx context.Context, key string, o *Object, if_ Condition) error {
	if f.OnPut == nil {
		return nil
	}
	return f.OnPut(ctx, key, o, if_)
}

// List implements Store.
func (f *Funcs) List(ctx context.Context, prefix, after string, limit int) ([]string, error) {
	if f.OnList == nil {
		return nil, nil
	}
	return f.OnList(ctx, prefix, after, limit)
}

// Delete implements Store.
func (f *Funcs) Delete(ctx context.Context, key string) error {
	if f.OnDelete == nil {
		return nil
	}
	return f.OnDelete(ctx, key)
}

// Close implements Store.
func (f *Funcs) Close() error {
	if f.OnClose == nil {
		return nil
	}
	return f.OnClose()
}
