package gluster_test

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/dvol/dvold/backends"
	"github.com/dvol/dvold/backends/gluster"
	"github.com/dvol/dvold/internal/host"
	"github.com/dvol/dvold/internal/host/hosttest"
)

// pool is one on a directory of its own, with what tests do with it.
type pool struct {
	*gluster.Pool
	t      *testing.T
	run    string
	subdir string // of gv0
}

func newPool(t *testing.T, change func(*gluster.Config)) *pool {
	need(t)
	run, subdir := hosttest.Dir(t), newSubdir(t)
	return &pool{t: t, run: run, subdir: subdir, Pool: open(t, run, func(c *gluster.Config) {
		c.Subdir = subdir
		if change != nil {
			change(c)
		}
	})}
}

// create makes a volume and returns its handle.
func (p *pool) create(name string) string {
	p.t.Helper()
	v, err := p.Plan(p.t.Context(), backends.Request{ID: name + ".0123456789ab"})
	if err == nil {
		err = p.Create(p.t.Context(), v)
	}
	if err != nil {
		p.t.Fatal(err)
	}
	return v.Handle
}

// mount mounts a volume and returns where.
func (p *pool) mount(handle string, o backends.MountOptions) string {
	p.t.Helper()
	target := hosttest.Subdir(p.t, p.run, "mnt-"+filepath.Base(handle))
	if err := p.Mount(p.t.Context(), handle, target, o); err != nil {
		p.t.Fatal(err)
	}
	return target
}

func (p *pool) write(target, text string) {
	p.t.Helper()
	if err := os.WriteFile(filepath.Join(target, "file"), []byte(text), 0o644); err != nil {
		p.t.Fatal(err)
	}
}

func (p *pool) want(target, text string) {
	p.t.Helper()
	if got, err := os.ReadFile(filepath.Join(target, "file")); err != nil || string(got) != text {
		p.t.Fatalf("%s: got %q, %v, want %q", target, got, err, text)
	}
}

// clients are those of the pool that run.
func (p *pool) clients() []host.Process {
	p.t.Helper()
	running, err := gluster.ClientsBelow(filepath.Join(p.run, "gluster", "pool"))
	if err != nil {
		p.t.Fatal(err)
	}
	var all []host.Process
	for _, processes := range running {
		all = append(all, processes...)
	}
	slices.SortFunc(all, func(a, b host.Process) int { return a.PID - b.PID })
	return all
}

func (p *pool) wantClients(n int) []host.Process {
	p.t.Helper()
	all := p.clients()
	if len(all) != n {
		p.t.Fatalf("there are %d clients, want %d", len(all), n)
	}
	return all
}

func (p *pool) eventually(what string, ok func() bool) {
	p.t.Helper()
	within(p.t, what, ok)
}

// within waits until something is so.
func within(t *testing.T, what string, is func() bool) {
	t.Helper()
	for limit := time.Now().Add(time.Minute); !is(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(limit) {
			t.Fatalf("not in time: %s", what)
		}
	}
}
