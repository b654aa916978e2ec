package host_test

import (
	"net"
	"os"
	"slices"
	"testing"

	"github.com/dvol/dvold/internal/host"
)

func TestConnections(t *testing.T) {
	me, err := host.FindProcess(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	for _, address := range []string{"127.0.0.1:0", "[::1]:0"} {
		l, err := net.Listen("tcp", address)
		if err != nil {
			t.Logf("no %s here: %v", address, err)
			continue
		}
		defer l.Close()
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		want := host.Connection{Local: c.LocalAddr().(*net.TCPAddr).AddrPort(), Remote: c.RemoteAddr().(*net.TCPAddr).AddrPort()}
		all, err := me.Connections()
		if err != nil || !slices.Contains(all, want) {
			t.Errorf("got %v, %v, want %v in it", all, err, want)
		}
		c.Close()
		if all, err := me.Connections(); err != nil || slices.Contains(all, want) {
			t.Errorf("closed: got %v, %v", all, err)
		}
	}
	if all, err := (host.Process{PID: me.PID, Start: me.Start + 1}).Connections(); err != nil || len(all) > 0 {
		t.Errorf("of a process that has ended: got %v, %v", all, err)
	}
}
