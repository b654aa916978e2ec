package gluster_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/dvol/dvold/backends"
	"github.com/dvol/dvold/backends/backendtest"
	"github.com/dvol/dvold/backends/gluster"
	"github.com/dvol/dvold/internal/host/hosttest"
)

func TestConformance(t *testing.T) {
	need(t)
	enableQuota(t)
	backendtest.Run(t, func(t *testing.T) backendtest.Fixture {
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
			Sizes:    true,
			Lags:     10 * time.Second,
			Settles:  time.Second, // entry-timeout and attribute-timeout of glusterfs(8)
			TakeAway: func(t *testing.T) { cutOff(t) },
		}
	})
}
