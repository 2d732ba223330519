package collections

import (
	"net/http"
	"slices"

	"github.com/skerry-sync/skerry/collections/config"
	"github.com/skerry-sync/skerry/collections/reach"
	"github.com/skerry-sync/skerry/collections/value"
)

// Fields tells what a caller may see and write of a document's fields. The zero value is for
// collections without fieldPermissions.
type Fields struct {
	all    []config.FieldPermission
	who    *caller
	seenBy *caller // whom a pull takes the caller for
}

// fieldsOf returns what the caller may see and write of the fields of its object.
func (x *exchange) fieldsOf() Fields {
	col := x.object.Collection
	return Fields{all: col.FieldPermissions, who: x.who, seenBy: x.seenBy(col)}
}

// seenBy is whom a pull of a collection takes the caller for: nobody in particular where anybody
// may read. A push goes by what its caller has pulled.
func (x *exchange) seenBy(col *config.Collection) *caller {
	if x.routes.reach.Open(col, reach.Pull) {
		return &caller{}
	}
	return x.who
}

// All reports whether the caller may see and write all fields.
func (f Fields) All() bool { return len(f.kept()) == 0 }

// Shown returns what the caller sees of a document's data: the same object if that is all.
func (f Fields) Shown(data *value.Object) *value.Object { return hide(f.all, data, f.seenBy) }

// Refuses returns a *RefusedError if data has a field that the caller may not write.
func (f Fields) Refuses(data *value.Object) error {
	for _, p := range f.all {
		if _, there := data.Get(p.Field); there && !allows(p.WriteRoles, f.who) {
			return notWritable(p.Field)
		}
	}
	return nil
}

// Over returns what is to be stored if the caller pushes data in the place of was, which is nil if
// there is nothing: fields stay as they are that data leaves out and that the caller may not write
// or not see. It is data itself if that is all.
func (f Fields) Over(was, data *value.Object) *value.Object {
	stored := data
	for _, p := range f.omitted(was, data) {
		if stored == data {
			stored = data.Clone()
		}
		v, _ := was.Get(p.Field)
		stored.Set(p.Field, v)
	}
	return stored
}

// omitted are those of the kept fields that was has and data leaves out.
func (f Fields) omitted(was, data *value.Object) (fields []config.FieldPermission) {
	for _, p := range f.kept() {
		_, there := data.Get(p.Field)
		if _, before := was.Get(p.Field); before && !there {
			fields = append(fields, p)
		}
	}
	return fields
}

// kept are the fields that stay as they are if a push leaves them out: whoever may not write or not
// see one does not mean to remove it.
func (f Fields) kept() (fields []config.FieldPermission) {
	for _, p := range f.all {
		if !readableBy(p, f.seenBy) || !allows(p.WriteRoles, f.who) {
			fields = append(fields, p)
		}
	}
	return fields
}

func notWritable(field string) error {
	return &RefusedError{http.StatusForbidden,
		"Field '" + field + "' is not writable with your roles"}
}

func readableBy(f config.FieldPermission, who *caller) bool {
	return allows(f.ReadRoles, who)
}

// allows reports whether a caller has one of the roles that a field asks for, if it does.
func allows(roles []string, who *caller) bool {
	return len(roles) == 0 || slices.Contains(roles, config.RolePublic) ||
		slices.ContainsFunc(roles, who.Has)
}

// hide returns data without the fields that a caller may not read: the same object if it may read
// all that are there.
func hide(all []config.FieldPermission, data *value.Object, who *caller) *value.Object {
	shown := data
	for _, f := range all {
		if _, there := data.Get(f.Field); !there || readableBy(f, who) {
			continue
		}
		if shown == data {
			shown = data.Clone()
		}
		shown.Delete(f.Field)
	}
	return shown
}
