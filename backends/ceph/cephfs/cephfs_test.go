package cephfs_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/dvol/dvold/backends"
	"github.com/dvol/dvold/backends/backendtest"
	"github.com/dvol/dvold/backends/ceph/cephfs"
	"github.com/dvol/dvold/backends/ceph/cephtest"
	"github.com/dvol/dvold/internal/fuseclient"
	"github.com/dvol/dvold/internal/host/hosttest"
)

func TestConformance(t *testing.T) {
	need(t)
	backendtest.Run(t, fixture)
}

// fixture is a pool in a directory of the file system.
func fixture(t *testing.T) backendtest.Fixture {
	run, subdir := hosttest.Dir(t), newSubdir(t)
	return backendtest.Fixture{
		Open: func(t *testing.T) backends.Backend {
			return open(t, run, func(c *cephfs.Config) { c.Subdir, c.MountTimeout = subdir, 10*time.Second })
		},
		Adopt: func(t *testing.T) string {
			name := filepath.Base(t.TempDir())
			if err := os.Mkdir(filepath.Join(root(t), subdir, "Söme data "+name), 0o700); err != nil {
				t.Fatal(err)
			}
			return "Söme data " + name
		},
		Sizes: true, SizesUnseen: true, Lags: 10 * time.Second,
		TakeAway: func(t *testing.T) { cephtest.CutOff(t) }, Believes: fuseclient.AnswerHolds,
	}
}
