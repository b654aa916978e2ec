package nfs_test

import (
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/dvol/dvold/internal/host/guest"
	"github.com/dvol/dvold/internal/host/hosttest"
	"github.com/dvol/dvold/test/daemon"
)

// newMember starts the dvold of a host.
func newMember(t *testing.T, host string) *daemon.Daemon {
	t.Helper()
	ask := filepath.Join(hosttest.Dir(t), "fence")
	script := "#!/bin/bash\nexec 3<>/dev/tcp/" + serverAddress + "/" + fencePort + "\n" +
		`echo "$DVOL_ACTION $DVOL_HOST $DVOL_INCARNATION" >&3` + "\nread -r status said <&3\necho \"$said\"\nexit \"$status\"\n"
	if err := os.WriteFile(ask, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	export := fmt.Sprintf("type: nfs, server: %s, export: %s, version: 4.2, mount_timeout: 10s, mount_grace: 0s", serverAddress, forVolumes)
	return daemon.New(t, os.Getenv(dvoldBinary), host, strings.Join([]string{
		"coordination: {type: consul, addresses: [" + consulAddress + ":8500]}",
		"default_pool: fenced\npools:",
		"  fenced: {" + export + ", subdir: fenced, exclusive: {fence_command: [" + ask + "], fence_covers: pool, fence_timeout: 60s}}",
		"  leased: {" + export + ", subdir: leased, exclusive: {accept_lease: true, takeover: auto}}\n",
	}, "\n"))
}

// forward has what connects to an address be connected to another.
func forward(t *testing.T, from, to string) {
	t.Helper()
	accept(t, from, func(conn net.Conn) {
		there, err := net.Dial("tcp", to)
		if err != nil {
			return
		}
		defer there.Close()
		go func() {
			defer conn.Close()
			_, _ = io.Copy(conn, there) // until one of them hangs up
		}()
		_, _ = io.Copy(there, conn)
	})
}

// serveFences does what hosts ask for, as a server does that they ask by ssh.
func (s *fencing) serveFences(t *testing.T) {
	t.Helper()
	state := hosttest.Dir(t)
	accept(t, net.JoinHostPort(serverAddress, fencePort), func(conn net.Conn) {
		command, err := readLine(conn)
		if err != nil {
			return
		}
		program := exec.Command(filepath.Join(guest.Mnt, "fence-server"), filepath.Join(guest.Mnt, "fence-ganesha"), s.file)
		program.Env = append(os.Environ(), "FENCE_STATE="+state, "SSH_ORIGINAL_COMMAND="+command)
		begin := time.Now()
		said, err := program.CombinedOutput()
		t.Logf("%s took %v: %v: %s", command, time.Since(begin).Round(time.Millisecond), err, said)
		fmt.Fprintln(conn, program.ProcessState.ExitCode(), strings.ReplaceAll(string(said), "\n", " "))
	})
}

func readLine(r io.Reader) (string, error) {
	var line []byte
	for b := make([]byte, 1); ; {
		if _, err := io.ReadFull(r, b); err != nil || b[0] == '\n' {
			return string(line), err
		}
		line = append(line, b[0])
	}
}

// accept serves each who connects to an address, until the test ends.
func accept(t *testing.T, address string, serve func(net.Conn)) {
	t.Helper()
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				serve(conn)
			}()
		}
	}()
	t.Cleanup(func() {
		l.Close()
		<-ended
	})
}

// numbers is the file of a volume that its owners write to.
const numbers = "numbers"

// numbered adds records to that file, each of them synced, and notes how many it has.
type numbered struct {
	t     *testing.T
	wait  func() (how string) // until it has ended
	acked func() string       // how many there were by then
}

// startNumbers starts it on a new exclusive volume of a pool, as a container of the engine, or, without one, as a process of
// which dvold is told that it is a container's.
func startNumbers(t *testing.T, d *daemon.Daemon, e *daemon.Engine, pool, volume string) numbered {
	t.Helper()
	d.Create(volume, map[string]string{"pool": pool, "access": "exclusive"})
	const script = `i=0; while :; do i=$((i+1)); printf 'h1 %012d\n' $i | dd of=` + numbers + ` oflag=append conv=notrunc,fsync 2>/dev/null || exit 1; echo $i`
	if e != nil {
		const name = "numbered"
		e.Start(name, volume, "cd /data; "+script+"; done")
		return numbered{t, func() string { return e.Docker("wait", name) }, func() string {
			defer e.Docker("rm", name)
			return e.Docker("logs", "--tail", "1", name)
		}}
	}
	acked := filepath.Join(hosttest.Dir(t), "acked")
	cmd := exec.Command("sh", "-c", script+` >>"$0"; done`, acked)
	cmd.Dir = d.Mount(volume, "a")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return numbered{t, func() string { return fmt.Sprint(cmd.Wait()) }, func() string {
		text, err := os.ReadFile(acked)
		all := strings.Fields(string(text))
		if err != nil || len(all) == 0 {
			t.Fatalf("nothing was synced: %v", err)
		}
		return all[len(all)-1]
	}}
}

// ends returns how many records were synced, once it has ended.
func (n numbered) ends() int {
	n.t.Helper()
	n.t.Logf("who wrote has ended: %s", n.wait())
	acked, err := strconv.Atoi(n.acked())
	if err != nil {
		n.t.Fatal(err)
	}
	return acked
}
