package gluster_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dvol/dvold/backends"
	"github.com/dvol/dvold/internal/host"
)

// A client that ends by itself, as one does that is told to or is rejected,
// unmounts what it has at its own mountpoint. What it served is served by the
// next, once that is let in.
func TestClientEndsByItself(t *testing.T) {
	for name, end := range map[string]func(*testing.T, host.Process){
		"terminated": func(t *testing.T, c host.Process) {
			if err := unix.Kill(c.PID, unix.SIGTERM); err != nil {
				t.Fatal(err)
			}
			within(t, "the client has ended", func() bool { return !c.Alive() }) // it serves until then
		},
		"rejected": func(t *testing.T, c host.Process) {
			gluster1(t, "volume", "set", "gv0", "auth.reject", "10.98.0.1")
			for limit := time.Now().Add(5 * time.Second); c.Alive() && time.Now().Before(limit); {
				time.Sleep(20 * time.Millisecond)
			}
			t.Logf("client lives: %v", c.Alive())
			gluster1(t, "volume", "set", "gv0", "auth.reject", "0.0.0.0")
		},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPool(t, nil)
			target := p.mount(p.create("data"), backends.MountOptions{})
			p.write(target, "before")
			end(t, p.wantClients(1)[0])
			p.eventually("it is served again", func() bool {
				text, err := os.ReadFile(filepath.Join(target, "file"))
				return err == nil && string(text) == "before"
			})
			p.write(target, "after")
			p.wantClients(1)
		})
	}
}
