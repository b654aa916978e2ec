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

// spec is what the administrator calls the image of a volume.
func (p *pool) spec(handle string) string {
	return "rbd/" + p.config.Namespace + "/" + strings.TrimPrefix(handle, "volumes/")
}

// fillImage makes an image with some bytes somewhere, for a volume that is planned.
func (p *pool) fillImage(handle string, at int64, text string) {
	p.t.Helper()
	disk := filepath.Join(p.run, "disk")
	f, err := os.Create(disk)
	if err == nil {
		_, err = f.WriteAt([]byte(text), at)
	}
	if err == nil {
		err = errors.Join(f.Truncate(16<<20), f.Close())
	}
	if err != nil {
		p.t.Fatal(err)
	}
	cephtest.Admin(p.t, "rbd", "import", "--no-progress", disk, p.spec(handle))
}

// An image that was there before, with anything on it, gets no file system.
func TestContentsRefused(t *testing.T) {
	p := newPool(t, nil)
	for what, at := range map[string]int64{"at the beginning": 0, "in the middle": 9 << 20, "at the end": 16<<20 - 10} {
		v := p.plan(backends.Request{ID: id("db")})
		p.fillImage(v.Handle, at, "precious")
		for range 2 {
			err := p.Create(t.Context(), v)
			if !errors.Is(err, backends.ErrInvalid) || !strings.Contains(err.Error(), "contents") {
				t.Errorf("something %s: got %v", what, err)
			}
		}
		if _, err := p.Stat(t.Context(), v.Handle); !errors.Is(err, backends.ErrNotFound) {
			t.Errorf("something %s: then it is there: %v", what, err)
		}
		if text := p.export(v.Handle); string(text[at:at+8]) != "precious" {
			t.Errorf("something %s: it became %q", what, text[at:at+8])
		}
	}
	if got := p.mapped(); len(got) != 0 {
		t.Errorf("mapped is still %q", got)
	}
}

// state is what the pool says of a volume, and setState changes it, as a dvold does
// that is killed then.
func (p *pool) setState(handle, state string) {
	p.t.Helper()
	args := []string{"--pool", "rbd", "--namespace", p.config.Namespace, "setomapval", "dvol.volumes", strings.TrimPrefix(handle, "volumes/"), state}
	cephtest.Admin(p.t, "rados", args...)
}

// A file system that was half made, or made with nothing in it yet, is made again;
// another's in its place is not touched.
func TestFileSystemHalfMade(t *testing.T) {
	const uuid = "0b1d5e2c-9a3f-4f60-8d11-2f9c7b0c4a55"
	formatting := `{"step":"formatting","fs":"ext4","uuid":"` + uuid + `"}`
	p := newPool(t, nil)
	for what, text := range map[string]string{"half": "inode tables and more, without a superblock", "none": ""} {
		v := p.plan(backends.Request{ID: id("db")})
		p.fillImage(v.Handle, 5<<20, text)
		p.setState(v.Handle, formatting)
		if err := p.Mount(t.Context(), v.Handle, p.run, backends.MountOptions{Alone: true}); !errors.Is(err, backends.ErrNotFound) {
			t.Errorf("%s: mounted: %v", what, err)
		}
		if err := p.Create(t.Context(), v); err != nil {
			t.Errorf("%s: %v", what, err)
			continue
		}
		target, _ := p.own(v.Handle)
		p.write(target, "data")
		p.unmount(v.Handle, target)
	}

	// Made completely, but dvold was killed before it said so.
	handle := p.create("whole")
	v := p.plan(backends.Request{ID: strings.TrimPrefix(handle, "volumes/")})
	mine := cephtest.Admin(t, "rados", "--pool", "rbd", "--namespace", p.config.Namespace, "listomapvals", "dvol.volumes")
	if !strings.Contains(mine, "ready") {
		t.Errorf("got states %s", mine)
	}
	p.setState(handle, formatting) // of another file system than is there
	err := p.Create(t.Context(), v)
	if !errors.Is(err, backends.ErrInvalid) || !strings.Contains(err.Error(), "there is a file system") {
		t.Errorf("over another file system: got %v", err)
	}
}

// dvold is killed at some moments while it makes a volume: the next makes it.
func TestCreateKilled(t *testing.T) {
	if os.Getenv("RBD_TEST_CREATE") != "" {
		createAndHang(t)
		return
	}
	p := newPool(t, nil)
	for _, after := range []time.Duration{50, 200, 400, 600, 800, 1000, 1300, 1600} {
		v := p.plan(backends.Request{ID: id("db")})
		cmd := exec.Command(os.Args[0], "-test.run=^TestCreateKilled$")
		cmd.Env = append(os.Environ(), "RBD_TEST_CREATE="+v.Handle, "RBD_TEST_NAMESPACE="+p.config.Namespace, "RBD_TEST_RUN="+p.run)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(after * time.Millisecond)
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		var err error
		for end := time.Now().Add(60 * time.Second); time.Now().Before(end); time.Sleep(200 * time.Millisecond) {
			// Its mkfs may go on for a moment.
			if err = p.Create(t.Context(), v); !errors.Is(err, backends.ErrInUse) {
				break
			}
		}
		if err != nil {
			t.Errorf("killed after %v ms: %v", int(after), err)
			continue
		}
		target, _ := p.own(v.Handle)
		p.write(target, "data")
		p.unmount(v.Handle, target)
		p.check(v.Handle)
	}
}

// createAndHang makes a volume, in a process that will be killed.
func createAndHang(t *testing.T) {
	c := rbd.DefaultConfig()
	c.Cluster = cephtest.Config(t, "host")
	c.Namespace, c.Mapper, c.Size = os.Getenv("RBD_TEST_NAMESPACE"), mapper(), 16<<20
	p, err := rbd.Open(c, "pool", os.Getenv("RBD_TEST_RUN"), discard())
	if err != nil {
		t.Fatal(err)
	}
	v, err := p.Plan(t.Context(), backends.Request{ID: strings.TrimPrefix(os.Getenv("RBD_TEST_CREATE"), "volumes/")})
	if err == nil {
		err = p.Create(t.Context(), v)
	}
	if err != nil {
		t.Fatal(err)
	}
	time.Sleep(time.Minute)
}

// check has e2fsck look at all of an image.
func (p *pool) check(handle string) {
	p.t.Helper()
	copied := filepath.Join(p.run, "copy")
	cephtest.Admin(p.t, "rbd", "export", "--no-progress", p.spec(handle), copied)
	if out, err := exec.Command("e2fsck", "-f", "-n", copied).CombinedOutput(); err != nil {
		p.t.Errorf("e2fsck: %v: %s", err, out)
	}
	if err := os.Remove(copied); err != nil {
		p.t.Error(err)
	}
}

// A volume that is read only is not written to at all, and one that can't be read so
// is refused.
func TestReadOnly(t *testing.T) {
	p := newPool(t, nil)
	handle := p.create("db")
	target, _ := p.own(handle)
	p.write(target, "data")
	p.unmount(handle, target)
	before := p.export(handle)
	readOnly := backends.MountOptions{ReadOnly: true}
	other := inNamespace(t, p.config.Namespace, nil)
	target, second := p.mount(handle, readOnly), other.mount(handle, readOnly)
	p.want(target, "data")
	other.want(second, "data")
	p.unmount(handle, target)
	other.unmount(handle, second)
	if after := p.export(handle); !bytes.Equal(after, before) {
		t.Error("it was written to")
	}

	// A writer dies: there is a journal to be replayed, which would be a write.
	target, _ = p.own(handle)
	p.write(target, "more")
	p.killClients()
	p.unmount(handle, target)
	err := other.Mount(t.Context(), handle, second, readOnly)
	if !errors.Is(err, backends.ErrUnavailable) || !strings.Contains(err.Error(), "last writer") {
		t.Errorf("mount what has a journal: got %v", err)
	}
	target = p.mount(handle, backends.MountOptions{Alone: true})
	p.want(target, "more")
	p.unmount(handle, target)
	second = other.mount(handle, readOnly)
	other.want(second, "more")
	other.unmount(handle, second)
}

// Two writers at once are refused.
func TestSharedRefused(t *testing.T) {
	p := newPool(t, nil)
	handle := p.create("db")
	err := p.Mount(t.Context(), handle, p.run, backends.MountOptions{})
	if !errors.Is(err, backends.ErrInvalid) || !strings.Contains(err.Error(), "one writer") {
		t.Errorf("got %v", err)
	}
}
