package gluster_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dvol/dvold/backends"
	"github.com/dvol/dvold/backends/backendtest"
	"github.com/dvol/dvold/backends/gluster"
	"github.com/dvol/dvold/internal/fuseclient"
	"github.com/dvol/dvold/internal/host/hosttest"
)

func TestConformance(t *testing.T) {
	need(t)
	backendtest.Run(t, fixture)
}

// With a quota each change takes long, so that no more than needs it has one.
func TestConformanceOfSizes(t *testing.T) {
	need(t)
	enableQuota(t)
	backendtest.RunSizes(t, func(t *testing.T) backendtest.Fixture {
		f := fixture(t)
		f.Sizes, f.Lags, f.FullToo = true, 10*time.Second, []error{unix.ENOTCONN} // see isFull
		return f
	})
}

// fixture is a pool in a directory of gv0, with management.
func fixture(t *testing.T) backendtest.Fixture {
	run, subdir, manage := hosttest.Dir(t), newSubdir(t), management(t, "g1")
	return backendtest.Fixture{
		Open: func(t *testing.T) backends.Backend {
			return open(t, run, func(c *gluster.Config) { c.Subdir, c.Management = subdir, manage })
		},
		Adopt: func(t *testing.T) string {
			name := filepath.Base(t.TempDir())
			if err := os.Mkdir(filepath.Join(root(t), subdir, "Söme data "+name), 0o700); err != nil {
				t.Fatal(err)
			}
			return "Söme data " + name
		},
		Settles:  time.Second, // the pool's own records, of a client that has just read them
		TakeAway: func(t *testing.T) { cutOff(t) }, Believes: fuseclient.AnswerHolds,
	}
}
