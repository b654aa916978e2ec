package history_test

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/dvol/dvold/test/history"
	"github.com/dvol/dvold/test/lab"
)

const never = time.Duration(math.MaxInt64)

// era is how many rounds volumes live for.
const era = 10

// TestSoak has hosts fail in as many random ways as DVOLD_SOAK_ROUNDS says, by
// default in two, once it has seen that it can find something. DVOLD_SOAK_POOL is the kind
// of pool; of several, with commas between, each has a cluster of its own, side by side, and a seed
// that is one more than that of the one before. The seed that it tells, in DVOLD_SOAK_SEED, has the same faults
// happen again, though not at the same moment of what goes on; DVOLD_SOAK_FROM is
// the round to begin with. After DVOLD_SOAK_TIME, such as 3h, or an interrupt (Ctrl-C), no round begins; a
// second interrupt leaves everything as it is. What tells how a
// history went wrong is kept in DVOLD_SOAK_DIR.
func TestSoak(t *testing.T) {
	lab.Require(t)
	t.Parallel()
	s := soak{seed: setting(t, "SEED", rand.Uint64N(1_000_000)), rounds: setting(t, "ROUNDS", 2), from: setting(t, "FROM", 1), limit: never}
	if text := os.Getenv("DVOLD_SOAK_TIME"); text != "" {
		var err error
		if s.limit, err = time.ParseDuration(text); err != nil {
			t.Fatal(err)
		}
	}
	pools := os.Getenv("DVOLD_SOAK_POOL")
	if pools == "" {
		pools = "command"
	}
	interrupted, again := signal.NotifyContext(t.Context(), os.Interrupt)
	context.AfterFunc(interrupted, again)
	s.stop = interrupted.Done()
	for s.pool = range strings.SplitSeq(pools, ",") {
		t.Run(s.pool, s.run)
		s.seed++
	}
}

// soak is how a cluster is to fail.
type soak struct {
	pool               string
	seed, rounds, from uint64
	limit              time.Duration
	stop               <-chan struct{}
}

// isOver tells whether a run that began then is to begin no round more.
func (s soak) isOver(began time.Time) bool {
	select {
	case <-s.stop:
		return true
	default:
		return time.Since(began) > s.limit
	}
}

func (s soak) run(t *testing.T) {
	t.Parallel()
	p := poolNamed(t, s.pool)
	again := fmt.Sprintf("DVOLD_SOAK_POOL=%s DVOLD_SOAK_SEED=%d", s.pool, s.seed)
	fmt.Printf("%s DVOLD_SOAK_ROUNDS=%d\n", again, s.rounds) // whatever becomes of this process
	schedule := history.Schedule(s.seed, int(s.rounds), 3, atOnce, p.faults)[s.from-1:]

	r := start(t, p, controlPools)
	if err := r.controls(); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	done := 0
	for i, x := range schedule {
		err := error(nil)
		if i%era == 0 {
			err = r.begin(i/era + 1)
		}
		if err == nil {
			err = r.round(x)
		}
		over := i == len(schedule)-1 || s.isOver(began)
		if err == nil && (i%era == era-1 || over) {
			err = r.end()
		}
		if err != nil {
			if dir := os.Getenv("DVOLD_SOAK_DIR"); dir != "" {
				if err := r.keep(filepath.Join(dir, fmt.Sprintf("%s-%d", s.pool, s.seed))); err != nil {
					t.Error(err)
				}
			}
			t.Fatalf("%s DVOLD_SOAK_FROM=%d DVOLD_SOAK_ROUNDS=%d: %v", again, x.Number-i%era, x.Number, err)
		}
		if done++; over {
			break
		}
	}
	t.Logf("%d rounds in %v, without an anomaly: %s", done, time.Since(began).Round(time.Second), &r.count)
}

// setting is a number in the environment.
func setting(t *testing.T, name string, otherwise uint64) uint64 {
	t.Helper()
	text, ok := os.LookupEnv("DVOLD_SOAK_" + name)
	if !ok || text == "" {
		return otherwise
	}
	n, err := strconv.ParseUint(text, 10, 63)
	if err != nil || n == 0 && name != "SEED" {
		t.Fatalf("DVOLD_SOAK_%s=%s is no number for that", name, text)
	}
	return n
}
