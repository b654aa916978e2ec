package host_test

import (
	"fmt"
	"os"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/dvol/dvold/internal/host"
	"github.com/dvol/dvold/internal/host/hosttest"
)

// However many threads visit another namespace, none is left there when they
// are through: it would keep the namespace, and all that is mounted in it.
func TestNobodyStaysInMountNamespace(t *testing.T) {
	hosttest.Root(t)
	child := startChild(t, true, "wait")
	namespace, err := os.Open(fmt.Sprintf("/proc/%d/ns/mnt", child.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	defer namespace.Close()
	theirs, err := os.Readlink(namespace.Name())
	if err != nil {
		t.Fatal(err)
	}
	var visits sync.WaitGroup
	for range 200 {
		visits.Go(func() {
			err := host.InMountNamespace(namespace, func() error {
				here, err := os.Readlink("/proc/thread-self/ns/mnt")
				if err == nil && here != theirs {
					err = fmt.Errorf("it is %s, want %s", here, theirs)
				}
				if err == nil && unix.Gettid() == os.Getpid() {
					err = fmt.Errorf("the process stands in %s", here)
				}
				return err
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	visits.Wait()
	if now, err := os.Readlink("/proc/self/ns/mnt"); err != nil || now == theirs {
		t.Errorf("the first thread is in %s (%v), where it was only to visit", now, err)
	}
}
