package volumes

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/dvol/dvold/coordination"
)

// A machine that was copied, state directory and all, and given a new name has
// the original's ID: it would take the original's own pools for its own.
func TestCopyUnderAnotherNameDoesNotStart(t *testing.T) {
	f := newFleet(t, "h1")
	copied := f.add("h2")
	text, err := os.ReadFile(filepath.Join(f.dir, "h1", "host.json"))
	copied.must(err)
	copied.must(os.WriteFile(filepath.Join(copied.dir, "host.json"), text, 0o600))
	if err := copied.open(); !errors.Is(err, errRival) || !strings.Contains(err.Error(), `"h1"`) {
		t.Fatalf("start of a copy: %v, want one that names the original", err)
	}
	copied.must(os.Remove(filepath.Join(copied.dir, "host.json")))
	copied.start()
}

// A copy with the same name takes the original's place; the original must not
// take it back, or the two would go on so for ever.
func TestOriginalLeavesItsPlaceToACopy(t *testing.T) {
	f := newFleet(t, "h1")
	h1 := f.node("h1")
	h1.must(h1.Create(t.Context(), "data", nil))
	target := h1.mount("data", "c1", me(t))
	copied, err := f.store.Join(t.Context(), coordination.Host{Name: "h1", ID: h1.me.ID, Boot: "another"})
	h1.must(err)
	h1.eventually("it knows", func() bool {
		_, err := h1.session()
		return err != nil && strings.Contains(err.Error(), errRival.Error())
	})
	time.Sleep(2 * joinPause) // it tries again meanwhile
	if copied.Context().Err() != nil {
		t.Error("it took its place back")
	}
	if err := h1.Create(t.Context(), "more", nil); !errors.Is(err, ErrUnavailable) || !strings.Contains(err.Error(), "copy") {
		t.Errorf("create: %v, want an error that tells why", err)
	}
	h1.must(h1.Unmount(t.Context(), "data", "c1"))
	if h1.mounted(target) {
		t.Error("still mounted")
	}
	h1.must(copied.Close(t.Context()))
	h1.eventually("it is back", func() bool { _, err := h1.session(); return err == nil })
}
