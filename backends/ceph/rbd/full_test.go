//go:build ceph && cgo

package rbd_test

import (
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dvol/dvold/backends"
	"github.com/dvol/dvold/backends/ceph/cephtest"
	"github.com/dvol/dvold/backends/ceph/rbd"
	"github.com/dvol/dvold/internal/host/hosttest"
)

// A pool that is full says so, and does not keep anybody waiting, whether data alone lies there
// or all that is of a volume.
func TestQuotaOfPool(t *testing.T) {
	var pools []*quotaPool
	for name, change := range map[string]func(*rbd.Config){
		"data alone": func(c *rbd.Config) { c.DataPool = "limited" },
		"all":        func(c *rbd.Config) { c.Pool, c.Namespace = "limited", "" },
	} {
		p := &quotaPool{pool: newPool(t, change), name: name}
		p.used, p.other, p.gone = p.create("db"), p.create("other"), p.create("gone")
		p.target, _ = p.own(p.used)
		pools = append(pools, p)
	}
	cephtest.Admin(t, "ceph", "osd", "pool", "set-quota", "limited", "max_bytes", "4096")
	restore := sync.OnceFunc(func() { cephtest.Admin(t, "ceph", "osd", "pool", "set-quota", "limited", "max_bytes", "0") })
	defer restore()
	for _, p := range pools {
		p.whileFull()
	}
	restore()
	for _, p := range pools {
		p.withRoom()
	}
}

// quotaPool is a pool with a volume that is mounted, and two that are not.
type quotaPool struct {
	*pool
	name              string
	used, other, gone string
	target            string // of used
}

func isFull(err error) bool {
	return errors.Is(err, backends.ErrNoSpace) && strings.Contains(err.Error(), "it is full, or has reached its quota")
}

// soon does something, and tells whether it ended so, which must not take long.
func (p *quotaPool) soon(what string, do func() error, is func(error) bool) bool {
	p.t.Helper()
	begin := time.Now()
	err := do()
	took := time.Since(begin)
	p.t.Logf("%s, %s: %v, after %v", p.name, what, err, took)
	if is(err) && took > 10*time.Second {
		p.t.Errorf("%s, %s: it took %v", p.name, what, took)
	}
	return is(err)
}

func (p *quotaPool) whileFull() {
	t := p.t
	for end := time.Now().Add(60 * time.Second); ; time.Sleep(500 * time.Millisecond) {
		v := p.plan(backends.Request{ID: id("db")})
		if p.soon("create", func() error { return p.Create(t.Context(), v) }, isFull) {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("%s: want ErrNoSpace", p.name)
		}
	}
	connect := func() error {
		identity, err := p.Identity(t.Context(), p.other)
		if err == nil {
			_, err = p.Connect(t.Context(), p.other, identity)
		}
		return err
	}
	mount := func() error {
		return p.Mount(t.Context(), p.other, hosttest.Subdir(t, p.run, "mnt-other"), backends.MountOptions{Alone: true})
	}
	none := func(err error) bool { return err == nil }
	answered := func(err error) bool { return err == nil || isFull(err) } // as there is an object for it already, or not
	for what, test := range map[string]struct {
		do func() error
		is func(error) bool
	}{
		"resize":   {func() error { return p.Resize(t.Context(), p.other, 1<<30) }, isFull},
		"stamp":    {func() error { return p.Stamp(t.Context(), id("other"), []byte("2")) }, answered},
		"describe": {func() error { return p.Describe(t.Context(), id("other"), []byte("text")) }, answered},
		"connect":  {connect, isFull},
		"mount":    {mount, isFull},
		"remove":   {func() error { return p.Remove(t.Context(), p.gone) }, none},
	} {
		if !p.soon(what, test.do, test.is) {
			t.Errorf("%s: %s where the pool is full", p.name, what)
		}
	}
}

func (p *quotaPool) withRoom() {
	v := p.plan(backends.Request{ID: id("db")})
	for end := time.Now().Add(60 * time.Second); ; time.Sleep(500 * time.Millisecond) {
		err := p.Create(p.t.Context(), v)
		if err == nil {
			break
		}
		if !errors.Is(err, backends.ErrNoSpace) || time.Now().After(end) {
			p.t.Fatal(err)
		}
	}
	p.write(p.target, "data")
	p.unmount(p.used, p.target)
	p.unmount(p.other, p.mount(p.other, backends.MountOptions{Alone: true}))
}
