// Package e2e_test drives dvold through a real Docker engine, as users do.
//
// Tests that disturb nobody share a host; one that kills, stops or reboots
// something has a host of its own. Both kinds end with the same check: once all
// containers and volumes are removed, nothing is left of them.
package e2e_test

import (
	"context"
	"fmt"
	"os"
	"sync"
	"testing"

	"github.com/dvol/dvold/test/lab"
)

// suite is what all tests have in common.
var suite struct {
	dvold  string // the binary under test, built with the race detector
	shared func() (*lab.Host, error)
}

func TestMain(m *testing.M) { os.Exit(runTests(m)) }

func runTests(m *testing.M) int {
	if lab.Missing() != "" {
		return m.Run() // each test skips or fails
	}
	dir, err := os.MkdirTemp("", "e2e")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	if suite.dvold, err = lab.BuildDvold(dir, true); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}

	var booted *lab.Host
	suite.shared = sync.OnceValues(func() (*lab.Host, error) {
		ctx := context.Background()
		h, err := lab.New(ctx, lab.Options{Dvold: suite.dvold})
		if err != nil {
			return nil, err
		}
		booted = h
		return h, bringUp(ctx, h)
	})
	code := m.Run()
	if booted == nil {
		return code
	}
	if err := booted.Close(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return max(code, 1)
	}
	return code
}

// bringUp starts everything on a host that was just booted.
func bringUp(ctx context.Context, h *lab.Host) error {
	if err := h.StartDvold(ctx); err != nil {
		return err
	}
	if err := h.StartDocker(ctx); err != nil {
		return err
	}
	return h.Image(ctx)
}

// sharedHost returns the host that tests share, as fresh.
func sharedHost(t *testing.T) *host {
	t.Helper()
	lab.Require(t)
	h, err := suite.shared()
	if err != nil {
		t.Fatal(err)
	}
	h.LogIfFailed(t)
	return newHost(t, h)
}

// ownHost boots a host for this test alone, which runs beside others.
func ownHost(t *testing.T) *host {
	t.Helper()
	t.Parallel()
	h := lab.ForTest(t, lab.Options{Dvold: suite.dvold})
	if err := bringUp(t.Context(), h); err != nil {
		t.Fatal(err)
	}
	return newHost(t, h)
}
