package versions

import (
	"encoding/json"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

var breakRules = flag.Bool("versions.rules", false,
	"break each rule in turn and see whether the histories find it")

// broken is a rule and the change to the code that breaks it.
type broken struct {
	rule, file, from, to string
}

var rules = []broken{
	{"a device's own version is not overwritten unseen", "write.go",
		"case !slices.Contains(i.own, own.Hash):", "case false:"},
	{"a device that was copied takes another author", "clone.go", "copied = true", "copied = false"},
	{"what was displaced stays", "read.go", "entries = append(entries, it)", "_ = it"},
	{"and is published again", "publish.go",
		"for it, err := range s.cfg.Slots.Displaced(ctx, item.Key) {",
		"for it, err := range s.cfg.Slots.Displaced(ctx, []byte{0}) {"},
	{"a former author's versions are published", "publish.go",
		"done, err := s.publish(ctx, &all[i])", "done, err := true, error(nil)"},
	{"a version supersedes what it names", "plan/heads.go",
		"(v.Cut && !o.Displaced || v.Names(o))", "true"},
	{"a device shows its own head in a conflict", "plan/plan.go",
		"case record.TagOf(v.Author) == o.Author:", "case false:"},
	{"contents are merged in one order", "plan/plan.go",
		"acc := folded{side: Side{Version: inputs[0], Ancestor: -1}, of: inputs[:1]}",
		"if o.Author[0]&1 == 0 { slices.Reverse(inputs) }\n\t" +
			"acc := folded{side: Side{Version: inputs[0], Ancestor: -1}, of: inputs[:1]}"},
	{"equal contents are one", "plan/plan.go",
		"return x.Content.Hash == v.Content.Hash || mergesSame(x, v)", "return mergesSame(x, v)"},
	{"a merge supersedes all heads", "write.go", "item: item, content: &src, over: item.Heads,",
		"item: item, content: &src, over: item.Heads[:1],"},
	{"a context has all that came before", "plan/draft.go",
		"r.Context = Vector(heads).Bounded(by)", "r.Context = Vector(heads[:1]).Bounded(by)"},
	{"ancestors are those of all heads", "plan/draft.go",
		"all = append(append(all, h.AsAncestor(h.Time)), h.Ancestors...)",
		"all = append(all, h.AsAncestor(h.Time))"},
	{"a base is named by both", "plan/plan.go", "return a.Dot == b.Dot && a.Hash == b.Hash",
		"return a.Dot != b.Dot"},
	{"an edit stands against a deletion", "plan/plan.go", "if some && !stands(v) {",
		"if some && stands(v) && len(heads) > 1 && v != heads[0] {"},
}

// TestEachRuleIsNeeded breaks rules in turn: the histories find each. It takes minutes, and runs
// with -versions.rules. Rules beside which there are others that would do, or whose case comes up
// too seldom, have tests of their own: TestPendingOwn, TestUsedCounters, TestFalseClaim.
func TestEachRuleIsNeeded(t *testing.T) {
	if !*breakRules {
		t.Skip("it runs with -versions.rules")
	}
	here, err := os.Getwd()
	require.NoError(t, err)
	for _, b := range rules {
		t.Run(b.rule, func(t *testing.T) {
			file := filepath.Join(here, b.file)
			code, err := os.ReadFile(file)
			require.NoError(t, err)
			require.Contains(t, string(code), b.from)
			dir := t.TempDir()
			other, overlay := filepath.Join(dir, "code.go"), filepath.Join(dir, "overlay.json")
			require.NoError(t, os.WriteFile(
				other, []byte(strings.ReplaceAll(string(code), b.from, b.to)), 0o600))
			list, err := json.Marshal(map[string]any{"Replace": map[string]string{file: other}})
			require.NoError(t, err)
			require.NoError(t, os.WriteFile(overlay, list, 0o600))
			cmd := exec.CommandContext(t.Context(), "go", "test", "-vet=off", "-failfast",
				"-overlay", overlay, "-run", "^TestHistories$", "-versions.histories", "1000", ".")
			out, err := cmd.CombinedOutput()
			require.Error(t, err, "no history notices it")
			require.NotContains(t, string(out), "[build failed]", string(out))
			require.Contains(t, string(out), "--- FAIL: TestHistories")
		})
	}
}
