//go:build ceph && cgo

package rbd

import (
	"errors"
	"log/slog"
	"os"
	"testing"

	"github.com/dvol/dvold/backends"
	"github.com/dvol/dvold/backends/ceph"
)

// A device is the pool's by a monitor that it was mapped with, however either calls it.
func TestKnows(t *testing.T) {
	for _, test := range []struct {
		own    []string
		mapped string
		want   bool
	}{
		{[]string{"fd00::1"}, "[fd00::1]:6789", true},
		{[]string{"10.0.0.1", "10.0.0.2"}, "10.0.0.9:6789,(1)10.0.0.2:6789", true},
		{[]string{"10.0.0.1:3300"}, "10.0.0.1", true},
		{[]string{"localhost"}, "127.0.0.1:6789", true},
		{[]string{"10.0.0.1"}, "10.0.0.11:6789", false},
		{[]string{"monitor.invalid", "10.0.0.1"}, "10.0.0.1:6789", true},
	} {
		k := krbd{config: Config{Cluster: ceph.Config{Monitors: test.own}}}
		if got, err := k.knows(test.mapped); err != nil || got != test.want {
			t.Errorf("%v, mapped with %s: got %t, %v", test.own, test.mapped, got, err)
		}
	}
	// Who can't tell doesn't say that it is another's.
	k := krbd{config: Config{Cluster: ceph.Config{Monitors: []string{"monitor.invalid"}}}}
	if got, err := k.knows("10.0.0.1:6789"); got || !errors.Is(err, backends.ErrUnavailable) {
		t.Errorf("by a name that is not known: got %t, %v", got, err)
	}
}

// Without the addresses of monitors the kernel maps nothing, and is not taken unless it is asked for.
func TestMapperWithoutMonitors(t *testing.T) {
	c := DefaultConfig()
	c.Cluster.Conf = "/etc/ceph/ceph.conf"
	m, err := newMapper(c, t.TempDir(), slog.New(slog.DiscardHandler))
	if _, ok := m.(*fuseMapper); err != nil || !ok {
		t.Errorf("got %T, %v", m, err)
	}
	c.Mapper = "krbd"
	if err := c.Validate(); err == nil {
		t.Error("krbd with a ceph.conf is valid")
	}
	if _, err := os.Stat(kernelMapper); err != nil {
		t.Log("this kernel has no krbd: by default it is fuse in any case")
	}
}
