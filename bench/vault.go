package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/skerry-sync/skerry/identity"
	"github.com/skerry-sync/skerry/node"
	"github.com/skerry-sync/skerry/ticket"
	"github.com/skerry-sync/skerry/vault"
)

// VaultResult is the outcome of Vault.
type VaultResult struct {
	Projects int `json:"projects"`
	Samples  int `json:"samples"`
	// from the identity's key and a peer's address to the opened list
	MedianMillis float64 `json:"median_ms"`
	WorstMillis  float64 `json:"worst_ms"`
	// until all projects were made and listed, at the first device
	BeginMillis float64 `json:"begin_ms"`
}

// Vault makes a vault that lists some projects, half of them encrypted, at one node, and opens it
// on new nodes from nothing but the identity's key and the first node's address.
func Vault(ctx context.Context, cfg Config, projects, samples int) (res VaultResult, err error) {
	dir, remove, err := workDir(cfg)
	if err != nil {
		return res, err
	}
	defer func() { err = errors.Join(err, remove()) }()
	home, err := whole(ctx, node.Config{Dir: filepath.Join(dir, "home")})
	if err != nil {
		return res, err
	}
	defer func() { err = errors.Join(err, home.Close()) }()
	key, err := identity.NewKey(identity.Wallet)
	if err != nil {
		return res, err
	}
	who := vault.Identity{
		ID: identity.IDOf(key.Public(), key.Nonce()), Kind: key.Kind(), Public: key.Public(),
		Nonce: key.Nonce(),
	}
	keys, err := vault.Derive(key)
	if err != nil {
		return res, err
	}
	cfg.Note("making a vault of %d projects", projects)
	start := time.Now()
	if _, err := home.Vaults.OpenOwn(ctx, who, keys, nil); err != nil {
		return res, err
	}
	for i := range projects {
		if _, err := home.CreateReplica(ctx, fmt.Sprintf("project %d", i), i%2 == 0); err != nil {
			return res, err
		}
	}
	res.BeginMillis = float64(time.Since(start).Milliseconds())
	at := (&ticket.Blob{Addrs: home.Addrs()}).Peers()
	cfg.Note("opening it on %d new nodes", samples)
	var times []time.Duration
	for i := range samples + 1 {
		name := filepath.Join(dir, fmt.Sprint("device", i))
		d, err := coldStart(ctx, name, key, who, at, projects)
		if err = errors.Join(err, os.RemoveAll(name)); err != nil {
			return res, err
		}
		if i > 0 { // with the first, the first device may not have ended with what it writes
			times = append(times, d)
		}
	}
	slices.Sort(times)
	ms := func(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
	res.Projects, res.Samples = projects, samples
	res.MedianMillis, res.WorstMillis = ms(times[len(times)/2]), ms(times[len(times)-1])
	return res, nil
}

func coldStart(
	ctx context.Context, dir string, key identity.Key, who vault.Identity, at []peer.AddrInfo,
	projects int,
) (d time.Duration, err error) {
	n, err := whole(ctx, node.Config{Dir: dir})
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, n.Close()) }()
	start := time.Now()
	keys, err := vault.Derive(key)
	if err != nil {
		return 0, err
	}
	v, err := n.Vaults.OpenOwn(ctx, who, keys, at)
	if err != nil {
		return 0, err
	}
	for limit := start.Add(time.Minute); ; {
		c, err := n.Vaults.Catalogue(ctx, &v)
		if err != nil {
			return 0, err
		}
		if len(c.Projects) == projects && len(c.Faults) == 0 && len(c.Warnings) == 0 {
			return time.Since(start), nil
		}
		if err := wait(ctx, limit); err != nil {
			return 0, fmt.Errorf("%d of %d projects: %w", len(c.Projects), projects, err)
		}
	}
}

// wait lets a moment pass.
func wait(ctx context.Context, limit time.Time) error {
	if time.Now().After(limit) {
		return context.DeadlineExceeded
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(2 * time.Millisecond):
		return nil
	}
}
