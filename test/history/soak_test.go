package history_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/dvol/dvold/test/history"
	"github.com/dvol/dvold/test/lab"
)

const never = time.Duration(math.MaxInt64)

// era is how many rounds volumes live for.
const era = 10

// TestSoak has hosts fail in as many random ways as DVOLD_SOAK_ROUNDS says, by
// default in two, once it has seen that it can find something. The seed that it tells, in DVOLD_SOAK_SEED, has the same faults
// happen again, though not at the same moment of what goes on; DVOLD_SOAK_FROM is
// the round to begin with, and DVOLD_SOAK_POOL the kind of pool. After
// DVOLD_SOAK_TIME, such as 3h, no round begins. What tells how a history went wrong is
// kept in DVOLD_SOAK_DIR.
func TestSoak(t *testing.T) {
	lab.Require(t)
	t.Parallel()
	rounds, seed, from := setting(t, "ROUNDS", 2), setting(t, "SEED", rand.Uint64N(1_000_000)), setting(t, "FROM", 1)
	name := os.Getenv("DVOLD_SOAK_POOL")
	if name == "" {
		name = "command"
	}
	p := poolNamed(t, name)
	again := fmt.Sprintf("DVOLD_SOAK_POOL=%s DVOLD_SOAK_SEED=%d", name, seed)
	fmt.Printf("%s DVOLD_SOAK_ROUNDS=%d\n", again, rounds) // whatever becomes of this process
	schedule := history.Schedule(seed, int(rounds), 3, atOnce, p.faults)[from-1:]

	limit := never
	if text := os.Getenv("DVOLD_SOAK_TIME"); text != "" {
		var err error
		if limit, err = time.ParseDuration(text); err != nil {
			t.Fatal(err)
		}
	}

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
		over := i == len(schedule)-1 || time.Since(began) > limit
		if err == nil && (i%era == era-1 || over) {
			err = r.end()
		}
		if err != nil {
			if dir := os.Getenv("DVOLD_SOAK_DIR"); dir != "" {
				if err := r.keep(dir); err != nil {
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
