package cut_test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dvol/dvold/internal/cut"
	"github.com/dvol/dvold/internal/host/hosttest"
)

// inNetwork is set in the environment of a test that has a network of its own.
const inNetwork = "DVOLD_TEST_NETWORK"

// network is a link to a server. This process and the server each have a network
// namespace of their own.
type network struct {
	server   *exec.Cmd
	received string // the file of what it has received
}

const (
	clientAddress4 = "192.0.2.1"
	serverAddress4 = "192.0.2.2"
	clientAddress6 = "2001:db8::1"
	serverAddress6 = "2001:db8::2"
	serverPort     = "24007"
)

// newNetwork runs the test again, in a network of its own, and returns false;
// the test is done then. There it returns the network.
func newNetwork(t *testing.T) (network, bool) {
	t.Helper()
	hosttest.Root(t)
	_, err := exec.LookPath("ip")
	hosttest.Need(t, "ip", err == nil)
	if os.Getenv(inNetwork) == "" {
		again := exec.CommandContext(t.Context(), testBinary(t), "-test.v", "-test.run=^"+t.Name()+"$")
		again.Env = append(os.Environ(), inNetwork+"=1")
		again.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNET}
		out, err := again.CombinedOutput()
		if err != nil || strings.Contains(string(out), "SKIPPED: ") {
			t.Errorf("in a network of its own: %v\n%s", err, out)
		}
		return network{}, false
	}
	n := network{received: filepath.Join(hosttest.Dir(t), "received")}
	n.server = exec.Command("/proc/self/exe", childArg, "serve", n.received)
	n.server.SysProcAttr = &syscall.SysProcAttr{Unshareflags: unix.CLONE_NEWNET}
	if _, err := n.server.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	hosttest.Start(t, n.server)
	const mac = "02:00:00:00:00:02"
	run(t, "ip", "link", "add", "client", "type", "veth", "peer", "name", "server", "address", mac, "netns", pid(n.server))
	for _, command := range []string{
		"link set lo up", "link set client up",
		"addr add " + clientAddress4 + "/24 dev client", "addr add " + clientAddress6 + "/64 dev client nodad",
		// So that no packet that has passed the filter waits for the server's address, and is sent once the link is up again.
		"neigh add " + serverAddress4 + " lladdr " + mac + " nud permanent dev client",
		"neigh add " + serverAddress6 + " lladdr " + mac + " nud permanent dev client",
	} {
		run(t, append([]string{"ip"}, strings.Fields(command)...)...)
	}
	n.atServer(t, "link set server up")
	n.atServer(t, "addr add "+serverAddress4+"/24 dev server")
	n.atServer(t, "addr add "+serverAddress6+"/64 dev server nodad")
	becomesReachable(t)
	return n, true
}

// atServer runs ip in the server's namespace.
func (n network) atServer(t *testing.T, command string) {
	t.Helper()
	run(t, append([]string{"nsenter", "--net=/proc/" + pid(n.server) + "/ns/net", "ip"}, strings.Fields(command)...)...)
}

// servers is the server's addresses.
func servers() []netip.Prefix {
	return []netip.Prefix{netip.MustParsePrefix(serverAddress4 + "/32"), netip.MustParsePrefix(serverAddress6 + "/128")}
}

// reachable tells whether a connection to the server comes about.
func reachable(address string) bool {
	c, err := net.DialTimeout("tcp", net.JoinHostPort(address, serverPort), 300*time.Millisecond)
	if err != nil {
		return false
	}
	c.Close()
	return true
}

// becomesReachable waits until the server can be reached.
func becomesReachable(t *testing.T) {
	t.Helper()
	within(t, "reachable", func() bool { return reachable(serverAddress4) && reachable(serverAddress6) })
}

// has tells whether the server has received a text.
func (n network) has(t *testing.T, text string) bool {
	t.Helper()
	got, err := os.ReadFile(n.received)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	return strings.Contains(string(got), text)
}

// client starts a process that has sent "first" to the server, and has "second"
// to send when this returns, for the link is down. It works in dir.
func (n network) client(t *testing.T, dir string) *exec.Cmd {
	t.Helper()
	client := start(t, false, "send", dir, serverAddress4, "first", "second")
	within(t, "first", func() bool { return n.has(t, "first") })
	n.disconnect(t, client)
	return client
}

// disconnect takes the link down, and has a client have something to send.
func (n network) disconnect(t *testing.T, client *exec.Cmd) {
	t.Helper()
	n.atServer(t, "link set server down")
	if err := client.Process.Signal(unix.SIGUSR1); err != nil {
		t.Fatal(err)
	}
	within(t, "something to send", func() bool {
		unsent, err := cut.UnsentTo(servers())
		if err != nil {
			t.Fatal(err)
		}
		return len(unsent) > 0
	})
}

func (n network) heal(t *testing.T) {
	t.Helper()
	n.atServer(t, "link set server up")
	n.atServer(t, "addr replace "+serverAddress6+"/64 dev server nodad") // it went with the link
}

// soleVolume is a volume with a file system of its own, whose servers are those.
func soleVolume(t *testing.T, id string) cut.Volume {
	t.Helper()
	return identified(t, cut.Volume{ID: id, Mountpoint: hosttest.Tmpfs(t, ""), Sole: true, Servers: servers()})
}

// That kernels do so is why there is all this.
func TestOrphansSend(t *testing.T) {
	n, ok := newNetwork(t)
	if !ok {
		return
	}
	client := n.client(t, soleVolume(t, "db-0123456789ab").Mountpoint)
	if err := client.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = client.Wait() // reports the kill
	if n.has(t, "second") {
		t.Fatal("the server got it while the link was down")
	}
	n.heal(t)
	within(t, "second, from a dead process", func() bool { return n.has(t, "second") })
}

func TestCutSilencesOrphans(t *testing.T) {
	n, ok := newNetwork(t)
	if !ok {
		return
	}
	v := soleVolume(t, "db-0123456789ab")
	client := n.client(t, v.Mountpoint)
	report := cutNow(t, newCutter(t), v)
	if !killed(t, client) || report.Blocked != "nftables" || len(report.Destroyed) != 1 {
		t.Errorf("client killed: %t, %+v, want the network blocked and one socket destroyed", killed(t, client), report)
	}
	unsent, err := cut.UnsentTo(servers())
	if err != nil || len(unsent) != 0 {
		t.Errorf("got %v, %v, want nothing to send", unsent, err)
	}
	n.heal(t)
	becomesReachable(t)
	if n.has(t, "second") {
		t.Error("the server got what a dead process had to send")
	}
}

// As long as a cut is not verified the network stays blocked, whatever becomes
// of others.
func TestNetworkStaysBlocked(t *testing.T) {
	if _, ok := newNetwork(t); !ok {
		return
	}
	v := soleVolume(t, "db-0123456789ab")
	holder := start(t, false, "open", filepath.Join(v.Mountpoint, "file"))
	c := newCutter(t)
	c.Protect = append(c.Protect, process(t, holder))
	for range 2 { // the second finds the block of the first
		cutFails(t, c, v, "process "+pid(holder))
		for _, address := range []string{serverAddress4, serverAddress6} {
			if reachable(address) {
				t.Errorf("%s is not blocked", address)
			}
		}
		cutNow(t, c, soleVolume(t, "web-ba9876543210"))
		if reachable(serverAddress4) {
			t.Error("the cut of one volume ended the block of another")
		}
	}
	if err := holder.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	cutNow(t, c, v)
	becomesReachable(t)
}

// Of a file system that is the volume's alone who served it is dead, so that
// what others have to send is not the volume's. Of another it may be.
func TestSocketsOfOthers(t *testing.T) {
	n, ok := newNetwork(t)
	if !ok {
		return
	}
	w := onTmpfs(t)
	w.volume.Servers = servers()
	sole := soleVolume(t, "web-ba9876543210")
	client := n.client(t, "/")
	cutNow(t, newCutter(t), sole)
	c := newCutter(t)
	cutFails(t, c, w.volume, "socket to "+serverAddress4)
	if !alive(t, client) {
		t.Error("a process that has nothing of the volume was killed")
	}
	if err := client.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	cutNow(t, c, w.volume)
}

// A block is undone also if an earlier guard made it by a filter that this one has no need of.
func TestBlockByAnotherFilter(t *testing.T) {
	if _, ok := newNetwork(t); !ok {
		return
	}
	for _, f := range cut.Filters() {
		needFilter(t, f.Name())
		v := soleVolume(t, "db-0123456789ab")
		if err := f.Block(t.Context(), v.ID, servers()); err != nil {
			t.Fatal(err)
		}
		if reachable(serverAddress4) {
			t.Fatalf("%s blocks nothing", f.Name())
		}
		cutNow(t, newCutter(t), v)
		becomesReachable(t)
	}
}

func needFilter(t *testing.T, name string) {
	t.Helper()
	if name == "iptables" {
		_, err := exec.LookPath("iptables-restore")
		hosttest.Need(t, "iptables", err == nil)
	}
}

func TestFilters(t *testing.T) {
	if _, ok := newNetwork(t); !ok {
		return
	}
	for _, f := range cut.Filters() {
		t.Run(f.Name(), func(t *testing.T) {
			needFilter(t, f.Name())
			want := func(when string, reachable4, reachable6 bool) {
				t.Helper()
				for address, want := range map[string]bool{serverAddress4: reachable4, serverAddress6: reachable6} {
					if want {
						within(t, when+": reachable: "+address, func() bool { return reachable(address) })
					} else if reachable(address) {
						t.Errorf("%s: %s is reachable", when, address)
					}
				}
			}
			must := func(err error) {
				t.Helper()
				if err != nil {
					t.Fatal(err)
				}
			}
			ctx := t.Context()
			const a, b = "a-0123456789ab", "b-ba9876543210"
			all, only4 := servers(), servers()[:1]
			want("before", true, true)
			must(f.Unblock(ctx, a)) // there is nothing to undo
			must(f.Block(ctx, a, all))
			must(f.Block(ctx, a, all))
			want("blocked", false, false)
			must(f.Block(ctx, b, only4))
			must(f.Unblock(ctx, a))
			want("blocked for one of two volumes", false, true)
			must(f.Unblock(ctx, a))
			must(f.Unblock(ctx, b))
			want("after", true, true)
			// By a wider prefix, and by one that is not the server's.
			must(f.Block(ctx, a, []netip.Prefix{netip.MustParsePrefix("192.0.0.0/16"), netip.MustParsePrefix("2001:db9::/32")}))
			want("blocked by a wider prefix", false, true)
			must(f.Unblock(ctx, a))
			must(f.Block(ctx, a, []netip.Prefix{netip.MustParsePrefix("::ffff:" + serverAddress4 + "/128")}))
			want("blocked by an IPv4 address written as IPv6", false, true)
			must(f.Unblock(ctx, a))
			want("in the end", true, true)
			t.Run("Remedy", func(t *testing.T) {
				program, _, _ := strings.Cut(f.Remedy(a), " ")
				_, err := exec.LookPath(program)
				hosttest.Need(t, program, err == nil)
				must(f.Block(ctx, a, all))
				want("blocked", false, false)
				if out, err := exec.Command("/bin/sh", "-c", f.Remedy(a)).CombinedOutput(); err != nil {
					t.Errorf("%s: %v: %s", f.Remedy(a), err, out)
				}
				want("after what the log says to do", true, true)
				must(f.Unblock(ctx, a))
			})
		})
	}
}

// serve appends what any client sends to a file.
func serve(path string) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", ":"+serverPort)
	if err != nil {
		return err
	}
	fmt.Println("ready")
	for {
		c, err := l.Accept()
		if err != nil {
			return err
		}
		go func() {
			defer c.Close()
			buf := make([]byte, 1024)
			for {
				n, err := c.Read(buf)
				if _, err := f.Write(buf[:n]); err != nil {
					return
				}
				if err != nil {
					return
				}
			}
		}()
	}
}

// send works in a directory, sends a text to the server, and another when it
// gets SIGUSR1.
func send(dir, address, first, second string) error {
	if err := os.Chdir(dir); err != nil {
		return err
	}
	told := make(chan os.Signal, 1)
	signal.Notify(told, unix.SIGUSR1)
	c, err := net.Dial("tcp", net.JoinHostPort(address, serverPort))
	if err != nil {
		return err
	}
	if _, err := io.WriteString(c, first); err != nil {
		return err
	}
	fmt.Println("ready")
	<-told
	if _, err := io.WriteString(c, second); err != nil {
		return err
	}
	select {}
}
