//go:build ceph && cgo

package cephtest

import (
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/dvol/dvold/internal/host/guesttest"
)

// InGuest has a test of the top level run in a guest that is in the cluster's network, and
// tells whether this is one. The guest loads the module of the kernel's client, with what
// that needs, and has variables of the environment, besides those of the cluster. To be called after Need.
func InGuest(t *testing.T, module []string, environment ...string) bool {
	t.Helper()
	if !guesttest.Inside() {
		g := guesttest.Guest{
			Load: append([]string{"crypto/cbc", "crypto/ctr", "crypto/gf128mul", "crypto/ghash-generic", "crypto/gcm", "crypto/hmac", "net/ceph/libceph"}, module...),
			Tap:  tap(t),
			Env:  environment,
		}
		for _, name := range []string{address, "CEPH_KEYRINGS", "CEPH_ADMIN"} {
			g.Env = append(g.Env, name+"="+os.Getenv(name))
		}
		g.Run(t)
		return false
	}
	if err := unix.Sethostname([]byte("guest")); err != nil {
		t.Fatal(err)
	}
	run(t, "ip", "address", "add", "10.97.0.2/24", "dev", "vec0")
	run(t, "ip", "link", "set", "vec0", "up")
	return true
}

// MountCephFS mounts a directory of the CephFS at dir, with the kernel's client, as the user files.
func MountCephFS(t testing.TB, path, dir string) {
	t.Helper()
	run(t, "mount", "-i", "-t", "ceph", os.Getenv(address)+":/"+path, dir, "-o", "noshare,name=files,secret="+Key(t, "files"))
}

// Key is the key of a user.
func Key(t testing.TB, user string) string {
	t.Helper()
	key, err := exec.Command("ceph-authtool", "--print-key", "--name", "client."+user, Keyring(user)).Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(key))
}

// tap makes a network device by which a guest is in the cluster's network.
func tap(t testing.TB) string {
	t.Helper()
	run(t, "ip", "tuntap", "add", "dev", "guest", "mode", "tap")
	t.Cleanup(func() { run(t, "ip", "link", "delete", "guest") })
	run(t, "ip", "link", "set", "guest", "master", "switch", "up")
	pid, err := os.ReadFile(filepath.Join(os.Getenv("WORLD"), "ceph/pid"))
	if err != nil {
		t.Fatal(err)
	}
	noOffloads(t, "/proc/thread-self/ns/net", "guest", "switch", "ceph")
	noOffloads(t, "/proc/"+strings.TrimSpace(string(pid))+"/ns/net", "eth0")
	return "guest"
}

// noOffloads has devices of a network namespace send packets that are complete: UML takes
// them as they are. It is ethtool -K DEVICE gso off tso off sg off tx off.
func noOffloads(t testing.TB, namespace string, devices ...string) {
	t.Helper()
	socket := socketIn(t, namespace) // is of the namespace for good
	defer unix.Close(socket)
	for _, device := range devices {
		for _, feature := range []uint32{unix.ETHTOOL_SGSO, unix.ETHTOOL_STSO, unix.ETHTOOL_SSG, unix.ETHTOOL_STXCSUM} {
			value := [2]uint32{feature, 0}
			request := struct {
				name [unix.IFNAMSIZ]byte
				data unsafe.Pointer
				rest [16]byte
			}{data: unsafe.Pointer(&value)}
			copy(request.name[:], device)
			if _, _, err := unix.Syscall(unix.SYS_IOCTL, uintptr(socket), unix.SIOCETHTOOL, uintptr(unsafe.Pointer(&request))); err != 0 && err != unix.EOPNOTSUPP {
				t.Fatalf("ethtool of %s, %#x: %v", device, feature, err)
			}
		}
	}
}

// socketIn returns a socket in a network namespace. The thread that visits that is back at the
// end: it may be the first, which never ends, and stands for the process in /proc.
func socketIn(t testing.TB, namespace string) int {
	t.Helper()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var namespaces [2]*os.File
	for i, path := range [...]string{"/proc/thread-self/ns/net", namespace} {
		f, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		namespaces[i] = f
	}
	if err := unix.Setns(int(namespaces[1].Fd()), unix.CLONE_NEWNET); err != nil {
		t.Fatal(err)
	}
	socket, failed := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
	if err := unix.Setns(int(namespaces[0].Fd()), unix.CLONE_NEWNET); err != nil {
		panic(err) // nothing may go on there
	}
	if failed != nil {
		t.Fatal(failed)
	}
	return socket
}

func run(t testing.TB, args ...string) {
	t.Helper()
	if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
		t.Fatalf("%v: %v: %s", args, err, out)
	}
}
