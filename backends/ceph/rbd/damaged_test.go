//go:build ceph && cgo

package rbd_test

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/dvol/dvold/backends"
	"github.com/dvol/dvold/backends/ceph/cephtest"
	"github.com/dvol/dvold/backends/ceph/rbd"
)

// export is all that is on the image of a volume.
func (p *pool) export(handle string) []byte {
	p.t.Helper()
	return []byte(cephtest.Admin(p.t, "rbd", "export", "--no-progress", p.spec(handle), "-"))
}

// replace puts something in the place of the image of a volume. A file system is to be
// looked at thoroughly, as after an error.
func (p *pool) replace(handle string, contents []byte) {
	p.t.Helper()
	disk := filepath.Join(p.run, "disk")
	if err := os.WriteFile(disk, contents, 0o600); err != nil {
		p.t.Fatal(err)
	}
	if out, err := exec.Command("debugfs", "-w", "-R", "set_super_value state 2", disk).CombinedOutput(); err != nil {
		p.t.Fatalf("debugfs: %v: %s", err, out) // of what is none it says so, and does nothing
	}
	cephtest.Admin(p.t, "rbd", "rm", "--no-progress", p.spec(handle))
	cephtest.Admin(p.t, "rbd", "import", "--no-progress", disk, p.spec(handle))
}

// A file system that is damaged, or none that dvold knows, is not mounted, not mended
// beyond what is safe, and above all not made anew.
func TestDamaged(t *testing.T) {
	p := newPool(t, nil)
	handle := p.create("db")
	target, _ := p.own(handle)
	p.write(target, "precious")
	p.unmount(handle, target)
	whole := p.export(handle)
	for what, test := range map[string]struct {
		damage func(disk []byte)
		kind   error
		want   string
	}{
		"a directory of nonsense": {func(disk []byte) {
			at := bytes.Index(disk, []byte("file"))
			if at < 0 {
				t.Fatal("there is no entry of the file")
			}
			block := at / 1024 * 1024
			copy(disk[block:block+1024], bytes.Repeat([]byte{0xff}, 1024))
		}, backends.ErrUnavailable, "mended by hand"},
		"another file system": {func(disk []byte) {
			clear(disk)
			copy(disk[0x10000:], "\x00\x00\x00\x00_BHRfS_M")
		}, backends.ErrInvalid, "no file system that dvold knows"},
		"nothing": {func(disk []byte) { clear(disk) }, backends.ErrInvalid, "no file system that dvold knows"},
	} {
		disk := bytes.Clone(whole)
		test.damage(disk)
		p.replace(handle, disk)
		identity := p.connect(handle)
		for range 2 {
			err := p.Mount(t.Context(), handle, target, backends.MountOptions{Alone: true, Identity: &identity})
			if !errors.Is(err, test.kind) || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("%s: got %v, want %s", what, err, test.want)
			}
		}
		if err := p.Create(t.Context(), p.plan(backends.Request{ID: strings.TrimPrefix(handle, "volumes/")})); err != nil {
			t.Errorf("%s: create what is there: %v", what, err)
		}
		p.unmount(handle, target)
		if now := p.export(handle); what != "a directory of nonsense" && !bytes.Equal(now, disk) {
			t.Errorf("%s: it was written to", what)
		}
	}
	p.replace(handle, whole) // which is mended: there is nothing wrong
	target, _ = p.own(handle)
	p.want(target, "precious")
	p.unmount(handle, target)
}

// What is no volume of dvold's may have an image, too: that is said, with its address.
func TestForeignClient(t *testing.T) {
	p := newPool(t, func(c *rbd.Config) { c.MountTimeout = 2 * time.Second })
	handle := p.create("db")
	foreign := exec.Command("rbd", "--conf", os.Getenv("CEPH_ADMIN"), "watch", p.spec(handle))
	stdin, err := foreign.StdinPipe() // it watches until a line is typed
	if err == nil {
		err = foreign.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	defer foreign.Wait()
	defer stdin.Close()
	var address string
	for end := time.Now().Add(30 * time.Second); address == ""; time.Sleep(100 * time.Millisecond) {
		_, rest, _ := strings.Cut(cephtest.Admin(t, "rbd", "status", p.spec(handle)), "watcher=")
		if address, _, _ = strings.Cut(rest, " "); time.Now().After(end) {
			t.Fatal("nobody watches the image")
		}
	}
	identity, err := p.Identity(t.Context(), handle)
	if err != nil {
		t.Fatal(err)
	}
	for what, call := range map[string]func() error{
		"connect": func() error { _, err := p.Connect(t.Context(), handle, identity); return err },
		"mount":   func() error { return p.Mount(t.Context(), handle, p.run, backends.MountOptions{Alone: true}) },
		"remove":  func() error { return p.Remove(t.Context(), handle) },
	} {
		if err := call(); !errors.Is(err, backends.ErrInUse) || !strings.Contains(err.Error(), address) {
			t.Errorf("%s: got %v, want ErrInUse of %s", what, err, address)
		}
	}
	if listed := cephtest.Admin(t, "ceph", "osd", "blocklist", "ls"); strings.Contains(listed, address) {
		t.Errorf("the foreign client was refused: %q", listed)
	}
}
