//go:build ceph && cgo

package cephfs_test

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

	"github.com/dvol/dvold/backends/ceph/cephtest"
	"github.com/dvol/dvold/internal/host"
	"github.com/dvol/dvold/internal/host/guesttest"
)

// guestSubdir is the directory that the pools of a guest lie in.
const guestSubdir = "DVOLD_GUEST_SUBDIR"

// guestGroup is the group of sub-volumes of guests.
const guestGroup = "guest"

// inGuest has a test run in a guest that is in the cluster's network, and tells whether
// this is one.
func inGuest(t *testing.T) bool {
	t.Helper()
	if !guesttest.Inside() {
		need(t)
		newGroup(t, guestGroup)
		guesttest.Guest{
			Load: []string{"crypto/cbc", "crypto/ctr", "crypto/gf128mul", "crypto/ghash-generic", "crypto/gcm", "crypto/hmac", "net/ceph/libceph", "fs/netfs/netfs", "fs/ceph/ceph"},
			Tap:  tap(t),
			Env: []string{"CEPH_CLUSTER=" + os.Getenv("CEPH_CLUSTER"), "CEPH_KEYRINGS=" + os.Getenv("CEPH_KEYRINGS"), "CEPH_ADMIN=" + os.Getenv("CEPH_ADMIN"),
				guestSubdir + "=" + newSubdir(t)},
		}.Run(t)
		return false
	}
	if err := unix.Sethostname([]byte("guest")); err != nil {
		t.Fatal(err)
	}
	command(t, "ip", "address", "add", "10.97.0.2/24", "dev", "vec0")
	command(t, "ip", "link", "set", "vec0", "up")
	return true
}

// tap makes a network device by which a guest is in the cluster's network.
func tap(t *testing.T) string {
	t.Helper()
	command(t, "ip", "tuntap", "add", "dev", "guest", "mode", "tap")
	t.Cleanup(func() { command(t, "ip", "link", "delete", "guest") })
	command(t, "ip", "link", "set", "guest", "master", "switch", "up")
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
func noOffloads(t *testing.T, namespace string, devices ...string) {
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

func command(t *testing.T, args ...string) {
	t.Helper()
	if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
		t.Fatalf("%v: %v: %s", args, err, out)
	}
}

// kernelRoot is where all of the guest's directory is mounted.
func kernelRoot(t *testing.T) string {
	t.Helper()
	dir := "/tmp/root"
	mounted, err := host.IsMountpoint(dir)
	if err != nil {
		t.Fatal(err)
	}
	if mounted {
		return dir
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	key, err := exec.Command("ceph-authtool", "--print-key", "--name", "client.files", cephtest.Keyring("files")).Output()
	if err != nil {
		t.Fatal(err)
	}
	command(t, "mount", "-i", "-t", "ceph", os.Getenv("CEPH_CLUSTER")+":/"+os.Getenv(guestSubdir), dir, "-o", "noshare,name=files,secret="+strings.TrimSpace(string(key)))
	return dir
}

func kernelSubdir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp(kernelRoot(t), "pool-")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return filepath.Join(os.Getenv(guestSubdir), filepath.Base(dir))
}

// there is where the guest's other client has a volume.
func (p *pool) there(handle string) string {
	return filepath.Join(kernelRoot(p.t), filepath.Base(p.subdir), handle)
}

// takeCable has the guest cut off from the cluster until the test has ended.
func takeCable(t *testing.T) {
	t.Helper()
	command(t, "ip", "link", "set", "vec0", "down")
	t.Cleanup(func() { command(t, "ip", "link", "set", "vec0", "up") })
}
