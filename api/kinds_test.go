package api

import (
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/blobs"
	"github.com/skerry-sync/skerry/internal/kind"
	"github.com/skerry-sync/skerry/kv"
	"github.com/skerry-sync/skerry/node/content"
	"github.com/skerry-sync/skerry/node/datadir"
	"github.com/skerry-sync/skerry/node/invites"
	"github.com/skerry-sync/skerry/node/link"
	"github.com/skerry-sync/skerry/replica"
)

// failed are the errors of the packages below the API that have no kind: what nobody who asks can
// act on, and what packages tell each other.
var failed = strings.Fields(`
	kv.ErrClosed kv.ErrConflict kv.ErrNotFound kv.ErrTooBig
	blobs.ErrBadRanges blobs.ErrDeleted blobs.ErrIncomplete blobs.ErrNotSequence
	blobs.ErrSizeNotProved blobs.ErrTooLarge blobs.ErrUnproved
	blobs/chunked.ErrBadList blobs/chunked.ErrNotChunked blobs/directory.ErrNotDirectory
	replica.ErrClosed replica.ErrEncrypted replica.ErrFuture replica.ErrMalformed
	replica.ErrMalformedEpoch replica.ErrMalformedGrant replica.ErrMalformedKey
	replica.ErrMalformedRevocation replica.ErrManyKeys replica.ErrNoTree replica.ErrNotGranted
	replica.ErrOutOfTime replica.ErrOwnEntries replica.ErrTooMany replica.ErrTooWide
	replica.ErrUnknownStatement replica.ErrUnprovedKey replica.ErrWrongReplica
	replica.ErrBehind replica/seal.ErrChanged replica/seal.ErrNoRecipient
	replica/ids.ErrWeakKey
	node/contacts.ErrBusy node/vaults.ErrContentMissing
	node/link.ErrNoTable node/link.ErrOffline node/link.ErrSlow
	vault.ErrIdentityExists vault.ErrNotCatalogue vault.ErrNotHead vault.ErrNotRestore
	vault.ErrNotSeeds
	identity.ErrBadHandle identity.ErrBadKey identity.ErrBadPublicKey identity.ErrReserved
`)

// Every exported error of what the API serves has a kind where it is made, or is known to have
// none. A new one must be given one, or be listed.
func TestEveryErrorHasAKind(t *testing.T) {
	made, left := 0, slices.Clone(failed)
	pkgs := []string{"kv", "blobs", "blobs/hash", "blobs/chunked", "blobs/directory", "replica",
		"replica/ids", "replica/seal", "ticket", "vault", "project", "identity", "node"}
	rooms, err := filepath.Glob(filepath.Join("..", "node", "*", "*.go"))
	require.NoError(t, err)
	for _, name := range rooms {
		if room := "node/" + filepath.Base(filepath.Dir(name)); !slices.Contains(pkgs, room) {
			pkgs = append(pkgs, room)
		}
	}
	for _, pkg := range pkgs {
		names, err := filepath.Glob(filepath.Join("..", pkg, "*.go"))
		require.NoError(t, err)
		for _, name := range names {
			if strings.HasSuffix(name, "_test.go") {
				continue
			}
			f, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.SkipObjectResolution)
			require.NoError(t, err)
			ast.Inspect(f, func(n ast.Node) bool {
				v, ok := n.(*ast.ValueSpec)
				if !ok || len(v.Values) != 1 || !strings.HasPrefix(v.Names[0].Name, "Err") {
					return true
				}
				if isKindNew(v.Values[0]) {
					made++
					return true
				}
				if of, ok := v.Values[0].(*ast.SelectorExpr); ok { // that of another package
					require.True(t, slices.ContainsFunc(pkgs, func(p string) bool {
						return path.Base(p) == fmt.Sprint(of.X)
					}), "look at %s, too", of.X)
					return true
				}
				full := pkg + "." + v.Names[0].Name
				require.Contains(t, failed, full, "give it a kind, or list it here")
				left = slices.DeleteFunc(left, func(s string) bool { return s == full })
				return true
			})
		}
	}
	require.Greater(t, made, 40)
	require.Empty(t, left, "these have a kind, or have gone")
}

func isKindNew(x ast.Expr) bool {
	call, ok := x.(*ast.CallExpr)
	if !ok {
		return false
	}
	f, ok := call.Fun.(*ast.SelectorExpr)
	if !ok || f.Sel.Name != "New" {
		return false
	}
	pkg, ok := f.X.(*ast.Ident)
	return ok && pkg.Name == "kind"
}

// Errors keep their kind and text on their way through the API, also wrapped and joined.
func TestKindsCrossTheAPI(t *testing.T) {
	for want, errs := range map[Kind][]error{
		NotFound: {blobs.ErrNotFound, fs.ErrNotExist, &content.MissingError{Hashes: []blobs.Hash{{1}},
			Count: 1}},
		NoSpace:      {&kv.NoSpaceError{Dir: "d"}, &os.PathError{Op: "write", Err: syscall.ENOSPC}},
		Conflict:     {replica.ErrExists},
		NotAllowed:   {&replica.NotAllowedError{Op: "set"}, fs.ErrPermission},
		Verification: {&blobs.DamageError{}, &blobs.CorruptError{}, &blobs.ReferenceError{}},
		Unreachable: {&link.UnreachableError{}, &invites.PendingError{
			Err: &invites.Error{Status: invites.Unknown}},
			&content.MissingError{Hashes: []blobs.Hash{{1}}, Count: 1,
				Causes: []error{&link.UnreachableError{}}}},
		Failed: {errors.New("anything"), &datadir.InUseError{}},
	} {
		for _, err := range errs {
			for _, err := range []error{err, fmt.Errorf("do it: %w", err),
				errors.Join(errors.New("else"), fmt.Errorf("and: %w", err))} {
				b, errJSON := json.Marshal(AsError(err))
				require.NoError(t, errJSON)
				var got Error
				require.NoError(t, json.Unmarshal(b, &got))
				require.Equal(t, want, got.Kind, "%T: %v", err, err)
				require.Equal(t, plain(err), got.Message)
				require.Equal(t, exitCodes[want], ExitCode(&got))
			}
		}
	}
	both := errors.Join(fmt.Errorf("a: %w", blobs.ErrNotFound), &blobs.CorruptError{})
	require.Equal(t, Verification, AsError(both).Kind, "a peer that lied comes first")
	require.Equal(t, kind.Failed, kind.Of(nil))
}
