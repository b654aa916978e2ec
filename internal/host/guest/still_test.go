package guest_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/dvol/dvold/internal/host/guest"
	"github.com/dvol/dvold/internal/host/hosttest"
)

// A guest that gives no sign of life is ended, and said what it was at; one that is alive is
// not, however little it says.
func TestStill(t *testing.T) {
	hosttest.Root(t)
	hosttest.Need(t, guest.Missing(), guest.Missing() == "")
	run := func(script string) (guest.Result, time.Duration) {
		began, dir := time.Now(), hosttest.Dir(t)
		if err := os.WriteFile(filepath.Join(dir, "script"), []byte(script), 0o600); err != nil {
			t.Fatal(err)
		}
		g := guest.Guest{Dir: dir, Memory: "128M", Command: []string{"sh", guest.Mnt + "/script"}, Patience: 12 * time.Second}
		return g.Run(t.Context()), time.Since(began)
	}
	r, took := run("echo begun; sync; kill -STOP $DVOLD_GUEST_PULSE; sleep 600")
	if !errors.Is(r.Err, guest.ErrStill) || r.Status != "" {
		t.Fatalf("got %v, status %q, console %s", r.Err, r.Status, r.Console)
	}
	if said := r.Err.Error(); strings.Count(said, ";") < 2 || strings.Contains(said, "gone") {
		t.Errorf("of its processes it says %q", said)
	}
	if string(r.Output) != "begun\n" {
		t.Errorf("it said %q", r.Output)
	}
	if took > 3*time.Minute {
		t.Errorf("it took %v", took)
	}
	if r, _ := run("sleep 25; exit 3"); r.Err != nil || r.Status != "3" {
		t.Errorf("alive: got %v, status %q, console %s", r.Err, r.Status, r.Console)
	}
}
