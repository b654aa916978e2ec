package nfs_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dvol/dvold/internal/host/hosttest"
)

// fencedHost is a host that mounts the export which fences are about: a network
// namespace of the guest, with a client of its own.
type fencedHost struct {
	name    string
	address string // that the server knows it by
}

// hosts are those whom the export admits.
func hosts() []fencedHost {
	return []fencedHost{{"h1", "10.99.0.11"}, {"h2", "10.99.0.12"}}
}

// addHosts connects them to the server.
func addHosts(t *testing.T) (h1, h2 fencedHost) {
	t.Helper()
	all := hosts()
	for _, h := range all {
		run(t, "ip", "netns", "add", h.name)
		run(t, "ip", "link", "add", h.name, "type", "veth", "peer", "name", "eth0", "netns", h.name)
		run(t, "ip", "link", "set", h.name, "up")
		run(t, "ip", "route", "add", h.address+"/32", "dev", h.name, "src", address)
		for _, do := range []string{"link set lo up", "link set eth0 up", "address add " + h.address + "/32 dev eth0", "route add " + address + "/32 dev eth0"} {
			run(t, append([]string{"ip", "-netns", h.name}, strings.Fields(do)...)...)
		}
	}
	return all[0], all[1]
}

// ganeshaAdmits is the configuration of an export that admits the hosts.
func ganeshaAdmits(path string) string {
	text := fmt.Sprintf("EXPORT {\n  Export_Id = 7; Path = %s; Pseudo = %s; Transports = TCP; Protocols = 3, 4; SecType = sys;\n  Access_Type = None;\n  FSAL { Name = VFS; }\n", path, path)
	for _, h := range hosts() {
		text += fmt.Sprintf("  CLIENT { Clients = %s; Access_Type = RW; Squash = No_Root_Squash; } # %s\n", h.address, h.name)
	}
	return text + "}\n"
}

// try has the host mount the export.
func (h fencedHost) try(t *testing.T, s *server) (dir string, err error) {
	t.Helper()
	dir = hosttest.Dir(t)
	options := "addr=" + address + ",clientaddr=" + h.address + ",nosharecache,vers=4.0"
	out, err := exec.Command("nsenter", "--net=/run/netns/"+h.name, "unshare", "--uts", // by the name a server tells clients of version 4 apart
		"sh", "-c", `hostname "$0" && exec mount -i -t nfs -o "$@"`, h.name, options, address+":"+s.fencing, dir).CombinedOutput()
	if err != nil {
		err = fmt.Errorf("%w: %s", err, out)
	}
	return dir, err
}

func (h fencedHost) mount(t *testing.T, s *server) string {
	t.Helper()
	dir, err := h.try(t, s)
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// writer overwrites a record of a file without end, each time with the next number,
// and syncs it.
type writer struct {
	path           string // with the server
	acked, refused atomic.Int64
	end            atomic.Bool
	ended          chan struct{}
}

func startWriter(t *testing.T, s *server, dir, name string) *writer {
	t.Helper()
	w := &writer{path: filepath.Join(s.fencing, name), ended: make(chan struct{})}
	go func() {
		defer close(w.ended)
		for n := int64(1); !w.end.Load(); n++ {
			if err := writeRecord(filepath.Join(dir, name), n); err == nil {
				w.acked.Store(n)
			} else {
				w.refused.Add(1)
			}
			time.Sleep(300 * time.Millisecond) // a guest is slow
		}
	}()
	t.Cleanup(func() {
		w.end.Store(true)
		select {
		case <-w.ended:
		case <-time.After(30 * time.Second):
			t.Error("a writer hangs")
		}
	})
	return w
}

func writeRecord(path string, n int64) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(f, "%09d", n)
	return errors.Join(err, f.Sync(), f.Close())
}

// landed is the number that the server has.
func (w *writer) landed(t *testing.T) int64 {
	t.Helper()
	text, err := os.ReadFile(w.path)
	if errors.Is(err, fs.ErrNotExist) {
		return 0
	}
	n, bad := strconv.ParseInt(string(text), 10, 64)
	if err != nil || bad != nil && len(text) > 0 {
		t.Fatal(err, bad)
	}
	return n
}

// awaitMore waits until more was acknowledged.
func (w *writer) awaitMore(t *testing.T) {
	t.Helper()
	begin := w.acked.Load()
	within(t, "more writes", func() bool { return w.acked.Load() > begin+2 })
}

// stays makes sure that nothing of what it writes lands any more.
func (w *writer) stays(t *testing.T, landed int64) {
	t.Helper()
	refused := w.refused.Load()
	within(t, "tries", func() bool { return w.refused.Load() > refused+2 })
	if now := w.landed(t); now != landed {
		t.Errorf("a write landed after the fence: %d, then %d", landed, now)
	}
}

func within(t *testing.T, what string, done func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !done(); time.Sleep(100 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("no %s", what)
		}
	}
}
