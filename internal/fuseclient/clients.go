package fuseclient

import (
	"context"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/dvol/dvold/internal/upkeep"
)

// TendInterval is how soon a shared client that has ended is replaced.
const TendInterval = time.Second

// Config is what the clients of a pool have in common.
type Config struct {
	Kind
	// Dir is where they have their mountpoints, below what is lost in a reboot. It is
	// the pool's alone.
	Dir string
	// Wait is how long it may take until a client answers.
	Wait time.Duration
	// Grace is how long a shared client runs on without a volume.
	Grace time.Duration
}

// Clients are those of a pool on this host. Methods may be called concurrently, but
// not twice at once for one volume.
type Clients struct {
	config Config
	log    *slog.Logger
	upkeep *upkeep.Tender

	mu     sync.Mutex // guards the field below
	shared map[string]*Shared
}

// Open returns the clients that c describes. It leaves the storage alone. From
// Tend on until Close the shared ones are seen to, also those of an earlier dvold.
func Open(c Config, log *slog.Logger) (*Clients, error) {
	if err := os.MkdirAll(c.Dir, 0o700); err != nil {
		return nil, err
	}
	dir, err := filepath.EvalSymlinks(c.Dir) // as mount tables do
	if err != nil {
		return nil, err
	}
	c.Dir = dir
	return &Clients{config: c, log: log, upkeep: upkeep.New(log), shared: make(map[string]*Shared)}, nil
}

// Dir is where the clients have their mountpoints, as mount tables and processes have it.
func (s *Clients) Dir() string { return s.config.Dir }

// Tend begins to see to the shared clients that are known by then, and those that
// become known later.
func (s *Clients) Tend() {
	upkeep.Each(s.upkeep, TendInterval, s.known, func(ctx context.Context, c *Shared) {
		if err := c.tend(ctx, s.config.Grace); err != nil && ctx.Err() == nil {
			c.log.Warn("shared client was not seen to", "err", err)
		}
	})
	s.upkeep.Go(s.tendEarlier)
	if s.config.HandlesCrashes {
		s.upkeep.Go(s.tendCrashed)
	}
}

// Close ends what Tend began, and leaves clients and volumes as they are. It does
// not wait long for storage that hangs.
func (s *Clients) Close() { s.upkeep.Close() }

// Shared returns the shared client with that key, which is a file name, and has it
// known: spec says how it is started.
func (s *Clients) Shared(key string, spec func() Spec) *Shared {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.shared[key]
	if c == nil {
		c = newShared(spec(), s.config.Dir, key, s.config.Wait, s.log)
		s.shared[key] = c
	}
	return c
}

// Keys are those of the shared clients that have mountpoints, of whichever dvold.
func (s *Clients) Keys() ([]string, error) {
	entries, err := os.ReadDir(s.config.Dir)
	if err != nil {
		return nil, err
	}
	var keys []string
	for _, e := range entries {
		if key := keyOf(e); key != "" {
			keys = append(keys, key)
		}
	}
	return keys, nil
}

// keyOf is the key of the shared client whose mountpoint that is, or "".
func keyOf(e os.DirEntry) string {
	name := e.Name()
	const digits = len(".00000000")
	at := len(name) - digits
	if !e.IsDir() || at <= 0 || name[at] != '.' || strings.HasPrefix(name, ownPrefix) {
		return ""
	}
	return name[:at]
}

// Silent is for how long the storage behind one of the shared clients does not
// answer, or 0.
func (s *Clients) Silent() (longest time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.shared {
		longest = max(longest, c.health.Silent())
	}
	return longest
}

// known are the shared clients that are.
func (s *Clients) known() []*Shared {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Collect(maps.Values(s.shared))
}
