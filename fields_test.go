package skerry_test

import (
	"reflect"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/node"
	"github.com/skerry-sync/skerry/replica"
)

// A node shows no field, and nothing that it gives out is the store of its replicas: whoever had
// that could write what leaks, and what no peer is told.
func TestNodeKeepsItsStoreToItself(t *testing.T) {
	fields := reflect.TypeFor[node.Node]()
	for i := range fields.NumField() {
		require.False(t, fields.Field(i).IsExported(), "Node.%s", fields.Field(i).Name)
	}
	store := reflect.TypeFor[*replica.Store]()
	for _, of := range []reflect.Type{
		reflect.TypeFor[*node.Node](), reflect.TypeFor[*node.Replica](), reflect.TypeFor[*node.Held](),
		reflect.TypeFor[*node.Batch](), reflect.TypeFor[*node.Watch](), reflect.TypeFor[node.Authors](),
		reflect.TypeFor[node.Replicas](), reflect.TypeFor[*replica.Plain](),
	} {
		for i := range of.NumMethod() {
			m := of.Method(i)
			for j := range m.Type.NumOut() {
				require.NotEqual(t, store, m.Type.Out(j), "%v.%s", of, m.Name)
			}
		}
		if of.Kind() != reflect.Pointer {
			continue
		}
		for i := range of.Elem().NumField() {
			f := of.Elem().Field(i)
			require.False(t, f.IsExported() && f.Type == store, "%v.%s", of, f.Name)
		}
	}
}

// What reads the replicas of a node does nothing else, also if asked for another interface.
func TestReadersOfReplicasDoNotWrite(t *testing.T) {
	n, err := node.Open(t.Context(), node.Config{Dir: t.TempDir()})
	require.NoError(t, err)
	defer func() { require.NoError(t, n.Close()) }()
	given, plain := reflect.TypeOf(n.Replicas()), reflect.TypeFor[*replica.Plain]()
	require.Equal(t, reflect.TypeFor[node.Replicas]().NumMethod(), given.NumMethod())
	store := reflect.TypeFor[*replica.Store]()
	for _, writer := range []string{
		"Create", "CreateEncrypted", "Found", "Join", "Rename", "Leave", "Close",
		"Write", "WritePlain", "Insert", "NewInserter", "InsertStatements", "Adopt", "MendAhead", "Check",
		"Grant", "Revoke", "Rotate", "RotateIfDue", "RotateDeferred", "AddReader", "Renew",
		"NewAuthor", "ImportAuthor", "SetDefaultAuthor", "DefaultAuthor", "DefaultAuthorKey",
	} {
		_, is := store.MethodByName(writer)
		require.True(t, is, "replica.Store has no %s any more: take it off the list", writer)
		for _, reader := range []reflect.Type{given, plain} {
			_, has := reader.MethodByName(writer)
			require.False(t, has, "%v has %s", reader, writer)
		}
	}
}
