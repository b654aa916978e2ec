package lab

import (
	"os"
	"slices"
	"strings"
	"testing"
)

// Require skips the test if this machine can't run hosts; but if "docker" is
// among the comma-separated words of DVOLD_TEST_REQUIRE, the test fails.
func Require(t testing.TB) {
	t.Helper()
	missing := Missing()
	if missing == "" {
		return
	}
	if slices.Contains(strings.Split(os.Getenv("DVOLD_TEST_REQUIRE"), ","), "docker") {
		t.Fatalf("test hosts are required, but can't run here: %s", missing)
	}
	t.Skipf("test hosts can't run here: %s", missing)
}

// ForTest boots a host that is closed when the test ends, and shows its logs if
// the test failed. It skips or fails as Require does.
func ForTest(t testing.TB, o Options) *Host {
	t.Helper()
	Require(t)
	h, err := New(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.Close(); err != nil {
			t.Error(err)
		}
	})
	h.LogIfFailed(t)
	return h
}

// LogIfFailed shows what the host's daemons log from now on if the test fails.
func (h *Host) LogIfFailed(t testing.TB) {
	before := h.logSizes()
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(h.logsSince(before))
		}
	})
}
