// Package command fences by an operator's command, as Pacemaker's fence agents
// are: for a pool whose storage can't cut a host off by itself, or not as the
// operator wants it.
//
// The command is told what to do by its environment and answers by its exit
// status: docs/fencing.md is the contract.
package command

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"strings"
	"time"

	"github.com/dvol/dvold/backends"
	"github.com/dvol/dvold/internal/program"
)

// Fencer runs the command. Where it runs twice at once, also on two hosts, it
// is for the command to sort that out.
type Fencer struct {
	config Config
	pool   string
	log    *slog.Logger
}

var _ backends.Fencer = (*Fencer)(nil)

// Open returns the fencer of a pool that c, which must be valid, describes.
func Open(c Config, pool string, log *slog.Logger) *Fencer {
	return &Fencer{config: c, pool: pool, log: log}
}

// Identity returns the facts of this host's configuration, and what the command
// cuts off. It asks nobody.
func (c *Fencer) Identity(ctx context.Context, handle string) (backends.Identity, error) {
	return backends.Identity{Domain: c.domain(handle), Facts: maps.Clone(c.config.Facts)}, ctx.Err()
}

// domain is what a fence of the volume covers. The handle may have spaces and
// be long, and dvold never gives it to two volumes.
func (c *Fencer) domain(handle string) string {
	switch c.config.Covers {
	case CoversHost:
		return "host"
	case CoversPool:
		return "pool/" + c.pool
	}
	sum := sha256.Sum256([]byte(handle))
	return fmt.Sprintf("volume/%s/%x", c.pool, sum[:16])
}

// Fence runs the command, and succeeds exactly if that exits with 0 in time.
func (c *Fencer) Fence(ctx context.Context, f backends.Fence) error {
	return c.order(ctx, "fence", f)
}

// Unfence runs the command, and succeeds exactly if that exits with 0 in time.
func (c *Fencer) Unfence(ctx context.Context, f backends.Fence) error {
	return c.order(ctx, "unfence", f)
}

// Method is "command".
func (c *Fencer) Method() string { return "command" }

// Effect says what the operator says of the command.
func (c *Fencer) Effect(f backends.Fence) string {
	from := "this volume"
	switch c.config.Covers {
	case CoversHost:
		from = "all that it writes to, as if it were switched off"
	case CoversPool:
		from = fmt.Sprintf("all volumes of pool %q", c.pool)
	}
	return fmt.Sprintf("runs %s, which cuts host %q off from %s", c.config.Argv[0], f.Host, from)
}

// order has the command do what action says.
func (c *Fencer) order(ctx context.Context, action string, f backends.Fence) error {
	began := time.Now()
	said, err := c.run(ctx, action, f)
	if err != nil {
		return fmt.Errorf("%s host %q by %s: %w", action, f.Host, c.config.Argv[0], err)
	}
	c.log.Info("fence command succeeded", "action", action, "host", f.Host, "volume", f.Volume,
		"domain", f.Identity.Domain, "took", time.Since(began).Round(time.Millisecond), "said", said)
	return nil
}

func (c *Fencer) run(ctx context.Context, action string, f backends.Fence) (said string, err error) {
	if err := c.checkCovered(f); err != nil {
		return "", err
	}
	env, err := environment(action, f)
	if err != nil {
		return "", err
	}
	if err := program.StillTrusted(ctx, c.config.Argv[0], c.config.Timeout); err != nil { // it may have changed since the start
		return "", err
	}
	return program.Run(ctx, c.config.Argv, env, c.config.Timeout, nil)
}

// checkCovered returns an error unless the command cuts off at least the domain
// that the host recorded, which is the one that its proof will be for: another
// host may be configured otherwise.
func (c *Fencer) checkCovered(f backends.Fence) error {
	domain, covers := f.Identity.Domain, c.config.Covers
	switch {
	case f.Host == "":
		return errors.New("no host is named")
	case domain == "":
		return errors.New("it left no word of what a fence of it cuts off")
	case covers == CoversHost,
		covers == CoversPool && domain == "pool/"+c.pool,
		strings.HasPrefix(domain, "volume/"):
		return nil
	}
	return fmt.Errorf("it recorded that a fence of it cuts off %q, but fence_covers of pool %q is %s here: set the same on all hosts", domain, c.pool, covers)
}
