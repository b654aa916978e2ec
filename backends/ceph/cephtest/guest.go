//go:build ceph && cgo

package cephtest

import (
	"fmt"
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
	noOffloads(t, "/proc/self/ns/net", "guest", "switch", "ceph")
	noOffloads(t, "/proc/"+strings.TrimSpace(string(pid))+"/ns/net", "eth0")
	return "guest"
}

// noOffloads has devices of a network namespace send packets that are complete: UML takes
// them as they are. It is ethtool -K DEVICE gso off tso off sg off tx off.
func noOffloads(t testing.TB, namespace string, devices ...string) {
	t.Helper()
	ns, err := os.Open(namespace)
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	result := make(chan error)
	go func() {
		runtime.LockOSThread() // it ends with this goroutine
		result <- func() error {
			if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
				return os.NewSyscallError("setns", err)
			}
			socket, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
			if err != nil {
				return os.NewSyscallError("socket", err)
			}
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
						return fmt.Errorf("ethtool of %s, %#x: %w", device, feature, err)
					}
				}
			}
			return nil
		}()
	}()
	if err := <-result; err != nil {
		t.Fatal(err)
	}
}

func run(t testing.TB, args ...string) {
	t.Helper()
	if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
		t.Fatalf("%v: %v: %s", args, err, out)
	}
}
