package replicas

// ErrMissing is the error of what has not come, for tests.
var ErrMissing = errMissing

// Filter is the filter, for tests.
type Filter struct{ f *filter }

func NewFilter() Filter                   { return Filter{newFilter()} }
func (f Filter) Add(key string)           { f.f.add(key) }
func (f Filter) Excludes(key string) bool { return f.f.excludes(key) }
func (f Filter) Miss()                    { f.f.miss() }
func (f Filter) Complete()                { f.f.complete(f.f.times()) }
func Excludes(s *Store, key string) bool  { return s.filter.excludes(key) }
