package nfs_test

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dvol/dvold/coordination/consul/consultest"
	"github.com/dvol/dvold/internal/host/guesttest"
	"github.com/dvol/dvold/internal/host/hosttest"
	"github.com/dvol/dvold/test/daemon"
)

// consulAddress is where Consul is, on the server's machine, and fencePort of that where
// hosts ask for fences.
const (
	consulAddress = "10.96.0.3"
	fencePort     = "7001"
)

// engines, in the environment, asks for Docker engines in the guests, and containers for
// what writes. Each takes a guest half a minute to start, and a container up to twenty seconds.
const engines = "DVOLD_NFS_ENGINES"

// Two hosts with a kernel and a dvold of their own take exclusive volumes over from each
// other: with fence-ganesha, and by lease. The second, h2, is on the server's machine.
func TestTakeoverInGuests(t *testing.T) {
	hosttest.Root(t)
	needFencing(t)
	if !guesttest.Inside() {
		t.Parallel()
		dvold, withEngines := dvoldBinary+"="+daemon.Build(t, "CGO_ENABLED=0"), engines+"="+os.Getenv(engines)
		guesttest.Together(t, guesttest.Guest{
			Load:     append(slices.Clone(clientModules), "drivers/block/loop"),
			Programs: []string{"../../examples/fence/fence-ganesha", "../../examples/fence/fence-server"},
			Env:      []string{dvold, withEngines, "DVOLD_TEST_CONSUL=" + consultest.Binary(t)},
		}, guesttest.Guest{Load: clientModules, Env: []string{dvold, withEngines, otherHost + "=1"}})
		return
	}
	if os.Getenv(otherHost) != "" {
		m := meet(t, 2)
		run(t, "ip", "address", "add", fencedAddress+"/24", "dev", "vec0")
		m.wait(t)
		t.Cleanup(func() { m.wait(t) }) // its dvold has ended
		d := newMember(t, "h1")
		d.Guard()
		e := engine(t, m, d, 1)
		t.Run("Fenced", func(t *testing.T) { loseFenced(t, m, d, e) })
		t.Run("ByLease", func(t *testing.T) { loseByLease(t, m, d, e) })
		d.Idle() // as long as the server is there
		return
	}
	prepare(t)
	m := meet(t, 1)
	run(t, "ip", "address", "add", serverAddress+"/24", "dev", "vec0")
	run(t, "ip", "address", "add", consulAddress+"/24", "dev", "vec0")
	s := newFencing(t, newDisk(t))
	for _, pool := range []string{"fenced", "leased"} {
		hosttest.Subdir(t, s.disk, pool)
	}
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 20000, Max: 20000}); err != nil { // Consul counts on as many
		t.Fatal(err)
	}
	forward(t, net.JoinHostPort(consulAddress, "8500"), consultest.Start(t, consultest.Options{}).Address(0))
	s.serveFences(t)
	m.wait(t)
	d := newMember(t, "h2")
	engine(t, m, d, 2)
	t.Run("Fenced", func(t *testing.T) { takeFenced(t, m, d, s) })
	t.Run("ByLease", func(t *testing.T) { takeByLease(t, m, d, s) })
	m.wait(t)
}

// engine returns the host's engine, if there is to be one, after it has served both hosts.
func engine(t *testing.T, m meeting, d *daemon.Daemon, number int) *daemon.Engine {
	if os.Getenv(engines) == "" {
		return nil
	}
	e := d.Engine()
	t.Run("Containers", func(t *testing.T) { testContainers(t, m, e, number) })
	return e
}

// testContainers has containers of both hosts use a volume at once, each of which sees
// what the other writes.
func testContainers(t *testing.T, m meeting, e *daemon.Engine, number int) {
	if number == 1 {
		e.Docker("volume", "create", "--driver", "dvol", "--opt", "pool=leased", "data")
	}
	m.wait(t)
	e.Start("mine", "data", fmt.Sprintf("while :; do date >>/data/of-%d; sleep 0.1; done", number))
	e.Run("data", fmt.Sprintf("until [ -e /data/of-%[1]d ] && [ $(wc -l </data/of-%[1]d) -gt 5 ]; do sleep 0.1; done", 3-number))
	m.wait(t)
	e.Docker("rm", "--force", "mine")
	m.wait(t)
	if number == 1 {
		e.Docker("volume", "rm", "data")
	}
}

// volume is a file of a volume on the server's disk.
func (s *fencing) volume(t *testing.T, pool, name string) (path string) {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(s.disk, pool, "volumes", name+".*"))
	if err != nil || len(found) != 1 {
		t.Fatalf("%s is %v, %v", name, found, err)
	}
	return filepath.Join(found[0], numbers)
}

// grows returns once the file has records.
func grows(t *testing.T, path string) {
	t.Helper()
	within(t, "records", func() bool {
		info, err := os.Stat(path)
		return err == nil && info.Size() > 5*recordSize
	})
}

// take mounts a volume as soon as that works.
func take(t *testing.T, d *daemon.Daemon, name string) (dir string) {
	t.Helper()
	begin := time.Now()
	var answer map[string]any
	within(t, "takeover", func() (ok bool) {
		var err error
		if answer, err = d.Driver("Mount", name, daemon.By("t")); err != nil {
			t.Logf("after %v: %v", time.Since(begin).Round(time.Second), err)
		}
		return err == nil
	})
	t.Logf("mounted after %v", time.Since(begin).Round(time.Millisecond))
	return answer["Mountpoint"].(string)
}

// leave ends what take began.
func leave(t *testing.T, d *daemon.Daemon, name, dir string) {
	t.Helper()
	d.Must("Unmount", name, daemon.By("t"))
	d.Unmounted(dir)
}

// mark is what h2 writes behind the records of h1.
const mark = "this is of h2\n"

func addMark(t *testing.T, dir string) {
	t.Helper()
	f, err := os.OpenFile(filepath.Join(dir, numbers), os.O_WRONLY|os.O_APPEND, 0)
	if err == nil {
		_, err = f.WriteString(mark)
		err = errors.Join(err, f.Sync(), f.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
}

// checkRecords fails unless text is whole records of h1, at least so many.
func checkRecords(t *testing.T, text []byte, acked int) {
	t.Helper()
	n := len(text) / recordSize
	if n < acked || !bytes.Equal(text, records("h1", int64(n))) {
		t.Errorf("%d records were synced, and there is %q", acked, text)
	}
}

// checkReturn mounts a volume that is back, and fails unless all is there that was synced.
func checkReturn(t *testing.T, d *daemon.Daemon, name string, acked int) {
	t.Helper()
	dir := take(t, d, name)
	text, err := os.ReadFile(filepath.Join(dir, numbers))
	before, found := bytes.CutSuffix(text, []byte(mark))
	if err != nil || !found {
		t.Errorf("what h2 wrote is not the last: %q, %v", text, err)
	}
	checkRecords(t, before, acked)
	leave(t, d, name, dir)
}

// takeFenced takes a volume from a host that stands still in the middle of its work, and
// goes on when another is its owner.
func takeFenced(t *testing.T, m meeting, d *daemon.Daemon, s *fencing) {
	m.wait(t) // h1 writes
	file := s.volume(t, "fenced", "db")
	grows(t, file)
	goOn := sync.OnceFunc(guesttest.StopOther(t))
	t.Cleanup(goOn)
	dir := take(t, d, "db")
	landed, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	checkRecords(t, landed, 1)
	addMark(t, dir)
	goOn()
	m.wait(t) // h1 has nothing of it any more
	if got, err := os.ReadFile(file); err != nil || string(got) != string(landed)+mark {
		t.Errorf("when h1 has gone on there is %q, %v, behind %q", got, err, landed)
	}
	within(t, "end of the fence", func() bool {
		text, err := os.ReadFile(s.file)
		return err == nil && string(text) == s.admits
	})
	leave(t, d, "db", dir)
	m.wait(t) // h1 may have it again
	m.wait(t) // it had
}

// loseFenced has the volume taken from it.
func loseFenced(t *testing.T, m meeting, d *daemon.Daemon, e *daemon.Engine) {
	w := startNumbers(t, d, e, "fenced", "db")
	dir := d.Mountpoint("db")
	m.wait(t)
	acked := w.ends() // the machine stood still meanwhile
	d.Unmounted(dir)
	m.wait(t)
	m.wait(t)
	checkReturn(t, d, "db", acked)
	m.wait(t)
}

// takeByLease takes a volume from a host that has cut itself off.
func takeByLease(t *testing.T, m meeting, d *daemon.Daemon, s *fencing) {
	m.wait(t) // h1 writes
	file := s.volume(t, "leased", "db2")
	grows(t, file)
	m.wait(t) // it is to lose touch with Consul
	dir := take(t, d, "db2")
	landed, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	addMark(t, dir)
	time.Sleep(2 * time.Second)
	if got, err := os.ReadFile(file); err != nil || string(got) != string(landed)+mark {
		t.Errorf("after the takeover there is %q, %v, behind %q", got, err, landed)
	}
	checkRecords(t, landed, 1)
	leave(t, d, "db2", dir)
	m.wait(t) // h1 may have it again
	m.wait(t) // it had
}

// loseByLease loses touch with Consul.
func loseByLease(t *testing.T, m meeting, d *daemon.Daemon, e *daemon.Engine) {
	w := startNumbers(t, d, e, "leased", "db2")
	dir := d.Mountpoint("db2")
	m.wait(t)
	m.wait(t)
	run(t, "ip", "route", "add", "blackhole", consulAddress, "table", "local")
	acked := w.ends()
	d.Unmounted(dir)
	m.wait(t)
	run(t, "ip", "route", "delete", "blackhole", consulAddress, "table", "local")
	checkReturn(t, d, "db2", acked)
	m.wait(t)
}
