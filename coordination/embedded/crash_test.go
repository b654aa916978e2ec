package embedded_test

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/dvol/dvold/coordination"
	"github.com/dvol/dvold/coordination/embedded"
)

// writerEnv names the file that TestWriterProcess writes to.
const writerEnv = "DVOLD_TEST_EMBEDDED_FILE"

var h1 = coordination.Host{Name: "h1", ID: "machine", Boot: "boot"}

// fill makes a few hundred records.
func fill(t *testing.T, s *embedded.Store) {
	t.Helper()
	session, err := s.Join(t.Context(), h1)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 20 {
		var ops []coordination.Op
		for j := range 25 {
			ops = append(ops, coordination.Put(coordination.Record{Key: fmt.Sprintf("fill/%d/%d", i, j), Value: make([]byte, 100)}))
		}
		if _, err := session.Commit(t.Context(), ops...); err != nil {
			t.Fatal(err)
		}
	}
}

// TestWriterProcess is no test of its own: TestKilledProcess starts it as a
// process that commits one record after the other and prints their keys.
func TestWriterProcess(t *testing.T) {
	path, ok := os.LookupEnv(writerEnv)
	if !ok {
		return
	}
	session, err := open(t, path).Join(t.Context(), h1)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Println("incarnation", session.Incarnation())
	for i := 0; ; i++ {
		key := fmt.Sprintf("%d/%d", session.Incarnation(), i)
		if _, err := session.Commit(t.Context(), coordination.Put(coordination.Record{Key: key})); err != nil {
			t.Fatal(err)
		}
		fmt.Println("committed", key)
	}
}

func TestKilledProcess(t *testing.T) {
	path := filepath.Join(t.TempDir(), "coordination.db")
	var committed []string
	for round := range 3 {
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestWriterProcess$", "-test.timeout=1m")
		cmd.Env = append(os.Environ(), writerEnv+"="+path)
		stdout, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(stdout)
		for n := 0; lines.Scan(); {
			what, value, _ := strings.Cut(lines.Text(), " ")
			switch what {
			case "incarnation":
				if want := strconv.Itoa(round + 1); value != want {
					t.Errorf("got incarnation %s, want %s", value, want)
				}
				_, err := embedded.Open(t.Context(), embedded.Config{Path: path}, slog.New(slog.DiscardHandler))
				if err == nil || !strings.Contains(err.Error(), "in use by another dvold") {
					t.Errorf("open the file of another process: got error %v", err)
				}
			case "committed":
				committed = append(committed, value)
				if n++; n == 50 {
					if err := cmd.Process.Kill(); err != nil {
						t.Error(err)
					}
				}
			default:
				t.Errorf("the process printed %q", lines.Text())
			}
		}
		if err := cmd.Wait(); err == nil {
			t.Error("the process ended by itself")
		}
		s := open(t, path)
		for _, key := range committed {
			if _, err := s.Get(t.Context(), key); err != nil {
				t.Errorf("printed as committed: %v", err)
			}
		}
		hosts, err := s.Hosts(t.Context())
		if err != nil || len(hosts) != 1 || hosts[0].Live || hosts[0].Incarnation != uint64(round+1) {
			t.Errorf("hosts after the kill: %+v, %v", hosts, err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if len(committed) < 150 {
		t.Errorf("got %d commits, want 150 at least", len(committed))
	}
}

// When the disk refuses a write, nothing is changed, reads go on, and so do
// writes once the disk takes them again.
func TestDiskFull(t *testing.T) {
	path := filepath.Join(t.TempDir(), "coordination.db")
	s := open(t, path)
	fill(t, s)
	session, err := s.Join(t.Context(), h1)
	if err != nil {
		t.Fatal(err)
	}
	put, err := session.Commit(t.Context(), coordination.Put(coordination.Record{Key: "a", Value: []byte("before")}))
	if err != nil {
		t.Fatal(err)
	}
	over := coordination.Put(coordination.Record{Key: "a", Value: []byte("after"), Version: put[0].Version})

	restore := replace(t, path, "/dev/full") // where each write fails with ENOSPC
	_, err = session.Commit(t.Context(), over)
	_, joinErr := s.Join(t.Context(), coordination.Host{Name: "h2", ID: "other"})
	restore()
	for what, err := range map[string]error{"Commit": err, "Join": joinErr} {
		if !errors.Is(err, coordination.ErrUnavailable) || !errors.Is(err, unix.ENOSPC) {
			t.Errorf("%s to a full disk: got error %v, want %v and %v", what, err, coordination.ErrUnavailable, unix.ENOSPC)
		}
	}
	if r, err := s.Get(t.Context(), "a"); err != nil || string(r.Value) != "before" || r.Version != put[0].Version {
		t.Errorf("after the refused write: got %+v, %v, want %+v", r, err, put[0])
	}
	if hosts, err := s.Hosts(t.Context()); err != nil || len(hosts) != 1 {
		t.Errorf("after the refused Join: hosts %+v, %v", hosts, err)
	}
	if _, err = session.Commit(t.Context(), over); err != nil {
		t.Errorf("Commit with room on the disk: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if r, err := open(t, path).Get(t.Context(), "a"); err != nil || string(r.Value) != "after" {
		t.Errorf("after reopening: got %+v, %v", r, err)
	}
}

// replace puts the file named other in the place of this process's open file
// path, until restore is called.
func replace(t *testing.T, path, other string) (restore func()) {
	t.Helper()
	fd := -1
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if target, err := os.Readlink("/proc/self/fd/" + e.Name()); err == nil && target == path {
			if fd, err = strconv.Atoi(e.Name()); err != nil {
				t.Fatal(err)
			}
		} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
	}
	if fd < 0 {
		t.Fatalf("%s is not open", path)
	}
	saved, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	swap, err := unix.Open(other, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(unix.Dup3(swap, fd, unix.O_CLOEXEC), unix.Close(swap)); err != nil {
		t.Fatal(err)
	}
	return func() {
		t.Helper()
		if err := errors.Join(unix.Dup3(saved, fd, unix.O_CLOEXEC), unix.Close(saved)); err != nil {
			t.Fatal(err)
		}
	}
}
