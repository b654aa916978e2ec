//go:build ceph && cgo

package rbd_test

import (
	"context"
	"log/slog"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/dvol/dvold/backends"
	"github.com/dvol/dvold/backends/ceph/cephtest"
	"github.com/dvol/dvold/internal/cut"
	"github.com/dvol/dvold/internal/host"
)

// With dvold dead the guard alone cuts a volume off: also of one that was fenced, whose
// client tries for ever and has everybody wait, and of one whose cluster is gone.
func TestCut(t *testing.T) {
	for name, hang := range map[string]func(t *testing.T, p *pool, fence backends.Fence){
		"well": func(*testing.T, *pool, backends.Fence) {},
		"fenced": func(t *testing.T, p *pool, fence backends.Fence) {
			next := inNamespace(t, p.config.Namespace, nil)
			if err := next.Fence(t.Context(), fence); err != nil {
				t.Fatal(err)
			}
		},
		"without the cluster": func(t *testing.T, _ *pool, _ backends.Fence) { cephtest.CutOff(t) },
	} {
		t.Run(name, func(t *testing.T) {
			p := newPool(t, nil)
			handle, other := p.create("db"), p.create("other")
			target, identity := p.own(handle)
			kept, _ := p.own(other)
			p.write(target, "synced")
			mount := cut.Volume{ID: "db.000000000001", Mountpoint: target, Sole: true}
			servers, err := p.Servers(t.Context(), handle, target)
			if err == nil {
				mount, err = mount.Identified()
			}
			if err != nil {
				t.Fatal(err)
			}
			for _, a := range servers {
				mount.Servers = append(mount.Servers, netip.PrefixFrom(a, a.BitLen()))
			}
			if err := p.Pool.Close(); err != nil { // nobody sees to it any more
				t.Fatal(err)
			}
			clients := p.clients()
			writer := exec.Command("sh", "-c", "while :; do echo line >>lines; sync lines; done")
			writer.Dir = target
			if err := writer.Start(); err != nil {
				t.Fatal(err)
			}
			defer writer.Wait()
			defer writer.Process.Kill()
			hang(t, p, victim(handle, identity))
			time.Sleep(time.Second) // for the writer to wait

			cutter := cut.Cutter{Log: slog.New(slog.NewTextHandler(t.Output(), nil))}
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			begin := time.Now()
			report, err := cutter.Cut(ctx, mount)
			t.Logf("cut in %v: %+v", time.Since(begin), report)
			if err != nil {
				t.Fatal(err)
			}
			if err := writer.Wait(); err == nil || !strings.Contains(err.Error(), "killed") {
				t.Errorf("the writer: %v", err)
			}
			if mounted, err := host.IsMountpoint(target); err != nil || mounted {
				t.Errorf("it is still mounted: %v", err)
			}
			if mapper() == "fuse" {
				if now := p.clients(); len(clients) != 2 || len(now) != 1 {
					t.Errorf("clients were %d, and are %d: want that of the other volume alone", len(clients), len(now))
				}
			}
			if name == "without the cluster" {
				return
			}
			p.write(kept, "kept")

			// The next dvold clears up what is left, and goes on.
			again := p.reopen() // two would see to the same clients
			next, err := again.Connect(t.Context(), handle, identity)
			if err != nil {
				t.Fatal(err)
			}
			if got, err := os.ReadFile(filepath.Join(kept, "file")); err != nil || string(got) != "kept" {
				t.Errorf("the other volume has %q, %v", got, err)
			}
			err = again.Mount(t.Context(), handle, target, backends.MountOptions{Alone: true, Identity: &next})
			if err != nil {
				t.Fatal(err)
			}
			again.want(target, "synced")
			again.unmount(handle, target)
			again.unmount(other, kept)
			if got := again.mapped(); len(got) != 0 {
				t.Errorf("mapped is still %q", got)
			}
		})
	}
}
