package cephfs_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dvol/dvold/backends"
	"github.com/dvol/dvold/backends/ceph/cephfs"
	"github.com/dvol/dvold/backends/ceph/cephtest"
)

// A writer is stopped, though late, also if another host writes to the same volume;
// and goes on once the volume is made larger.
func TestQuota(t *testing.T) {
	const size = 8 << 20
	p := newPool(t, nil)
	v, err := p.Plan(t.Context(), backends.Request{ID: "sized.0123456789ab", Size: size})
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Create(t.Context(), v); err != nil {
		t.Fatal(err)
	}
	here := p.mount(v.Handle, backends.MountOptions{})
	there := filepath.Join(root(t), p.subdir, v.Handle)
	type result struct {
		written int64
		took    time.Duration
		err     error
	}
	results := make(chan result, 2)
	for _, name := range []string{filepath.Join(here, "a"), filepath.Join(there, "b")} {
		go func() {
			begin := time.Now()
			n, err := fill(name, 64*size)
			results <- result{n, time.Since(begin), err}
		}()
	}
	for range 2 {
		r := <-results
		t.Logf("of a size of %d MiB, one of two hosts wrote %d MiB in %v", size>>20, r.written>>20, r.took.Round(time.Millisecond))
		if !errors.Is(r.err, unix.EDQUOT) {
			t.Errorf("it ended with %v", r.err)
		}
	}
	p.eventually("what is used is known", func() bool {
		info, err := p.Stat(t.Context(), v.Handle)
		return err == nil && info.Size == size && info.Used >= size
	})
	if err := p.Resize(t.Context(), v.Handle, size/2); !errors.Is(err, backends.ErrInvalid) {
		t.Errorf("resize below what it holds: %v", err)
	}
	info, err := p.Stat(t.Context(), v.Handle)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Resize(t.Context(), v.Handle, info.Used+size); err != nil {
		t.Fatal(err)
	}
	p.eventually("there is room again", func() bool {
		n, err := fill(filepath.Join(here, "c"), 1<<20)
		return err == nil && n == 1<<20
	})
}

// fill writes to a new file, and flushes it from time to time, until it has that many
// bytes or there is an error.
func fill(name string, most int64) (written int64, err error) {
	f, err := os.Create(name)
	if err != nil {
		return 0, err
	}
	block := make([]byte, 64<<10)
	for err == nil && written < most {
		var n int
		n, err = f.Write(block)
		written += int64(n)
		if err == nil && written%(1<<20) == 0 {
			err = f.Sync()
		}
	}
	return written, errors.Join(err, f.Close())
}

// A user that may not set quotas is told so, and makes volumes without a size.
func TestQuotaRefused(t *testing.T) {
	cephtest.Need(t)
	keyring := filepath.Join(t.TempDir(), "keyring")
	if err := os.WriteFile(keyring, []byte(cephtest.Admin(t, "ceph", "auth", "get-or-create", "client.plain",
		"mon", "allow r", "mds", "allow rw", "osd", "allow rw tag cephfs data=cephfs")), 0o600); err != nil {
		t.Fatal(err)
	}
	p := newPool(t, func(c *cephfs.Config) { c.Cluster.User, c.Cluster.Keyring = "plain", keyring })
	v, err := p.Plan(t.Context(), backends.Request{ID: "sized.0123456789ab", Size: 1 << 20})
	if err == nil {
		err = p.Create(t.Context(), v)
	}
	if !errors.Is(err, backends.ErrInvalid) {
		t.Errorf("a volume with a size: %v", err)
	}
	p.create("data")
}
