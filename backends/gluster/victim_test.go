package gluster_test

import (
	"cmp"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dvol/dvold/backends"
	"github.com/dvol/dvold/internal/host/hosttest"
)

// victim is another host, with a client of a Gluster volume and a process that
// writes to it.
type victim struct {
	t       *testing.T
	name    string // v1 or v2
	address string
	volume  string
	dir     string // where the volume is mounted
	stay    uint64 // before those of the test: the servers remember all
	client  int
	writer  *exec.Cmd
}

// stays is how many stays of hosts tests have used up.
var stays uint64

// newVictim has a host mount a Gluster volume, as an exclusive volume is mounted.
func newVictim(t *testing.T, name, volume string) *victim {
	t.Helper()
	need(t)
	stays += 10
	v := &victim{t: t, stay: stays, name: name, address: map[string]string{"v1": "10.98.0.51", "v2": "10.98.0.52"}[name], volume: volume, dir: hosttest.Dir(t)}
	t.Cleanup(func() {
		v.stop()
		v.end()
		for _, suffix := range []string{".log", ".pid"} {
			_ = os.Remove(v.dir + suffix)
		}
	})
	v.mustMount()
	return v
}

func (v *victim) args() []string {
	args := []string{"glusterfs", "--process-name=fuse", "--volfile-id=" + v.volume, "--log-file=" + v.dir + ".log", "--pid-file=" + v.dir + ".pid",
		"--xlator-option=*.transport.socket.source-addr=" + v.address, "--xlator-option=*write-behind.flush-behind=off"}
	for _, s := range servers() {
		args = append(args, "--volfile-server="+s)
	}
	return append(args, v.dir)
}

// mount tells whether the volume can be mounted, and written to.
func (v *victim) mount() bool {
	v.end()
	if err := onNode(v.t, v.name, v.args()...).Run(); err != nil {
		return false
	}
	pid, err := os.ReadFile(v.dir + ".pid")
	if err != nil {
		return false
	}
	if v.client, err = strconv.Atoi(strings.TrimSpace(string(pid))); err != nil {
		v.t.Fatal(err)
	}
	return onNode(v.t, v.name, "sh", "-c", `mountpoint -q "$0" && : >"$0/probe" && mountpoint -q "$0"`, v.dir).Run() == nil
}

// mustMount has the volume mounted. A brick may have missed that the list was changed, of which
// its host's own dvold has it told again, but there is none.
func (v *victim) mustMount() {
	v.t.Helper()
	for i := range 30 {
		if v.mount() {
			return
		}
		time.Sleep(200 * time.Millisecond)
		if i == 9 {
			v.t.Logf("%s can't mount %s yet", v.name, v.volume)
			gluster1(v.t, "volume", "set", v.volume, "auth.reject", cmp.Or(rejected(v.t, v.volume), "0.0.0.0"))
		}
	}
	text, err := os.ReadFile(v.dir + ".log")
	v.t.Fatalf("%s can't mount %s: %v: %s", v.name, v.volume, err, text[max(0, len(text)-4096):])
}

// end ends the client.
func (v *victim) end() {
	if v.client == 0 {
		return
	}
	_ = unix.Kill(v.client, unix.SIGKILL)
	v.client = 0
	for onNode(v.t, v.name, "umount", "--lazy", v.dir).Run() == nil {
	}
}

// write starts a process that overwrites a record of a file, each time with the
// next number, and syncs it.
func (v *victim) write(file string) {
	v.t.Helper()
	script := `i=0; while :; do i=$((i+1)); printf '%09d\n' $i | dd of="$0" conv=notrunc,fsync status=none || exit 1; done`
	v.writer = onNode(v.t, v.name, "sh", "-c", script, filepath.Join(v.dir, file))
	if err := v.writer.Start(); err != nil {
		v.t.Fatal(err)
	}
}

func (v *victim) stop() {
	if v.writer != nil {
		_ = unix.Kill(-v.writer.Process.Pid, unix.SIGKILL)
		_ = v.writer.Wait()
		v.writer = nil
	}
}

// freeze stops the writer and the client.
func (v *victim) freeze() (thaw func()) {
	v.t.Helper()
	writers := func(s unix.Signal) {
		v.t.Helper()
		if err := unix.Kill(-v.writer.Process.Pid, s); err != nil {
			v.t.Fatal(err)
		}
	}
	writers(unix.SIGSTOP)
	client := hosttest.Freeze(v.t, v.client)
	return func() {
		client()
		writers(unix.SIGCONT)
	}
}

// fence is what its host would have left in the records, in a stay of the test's, up
// to 9.
func (v *victim) fence(incarnation uint64) backends.Fence {
	v.t.Helper()
	id := volumeID(v.t, v.volume)
	return backends.Fence{
		Host: v.name, Incarnation: v.stay + incarnation, Pool: "pool", Volume: "db", Epoch: 1,
		Identity: backends.Identity{
			Domain: "gluster/" + id + "/" + v.address,
			Facts:  map[string]string{"address": v.address, "gluster_volume": v.volume, "gluster_volume_id": id},
		},
	}
}
