package history_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dvol/dvold/test/history"
	"github.com/dvol/dvold/test/lab"
)

// patience bounds each wait for something that should happen in seconds, on a
// machine that has a lot to do.
const patience = 2 * time.Minute

// atOnce is how many volumes there are at a time.
const atOnce = 3

// run is a cluster, and the volumes whose history is made.
type run struct {
	*lab.Cluster
	t       *testing.T
	ctx     context.Context
	volumes []*volume
	number  atomic.Int64 // of the last worker
	count   count

	operator operator
}

// count is what a run has seen.
type count struct{ takeovers, returns, ops, bricks atomic.Int64 }

func (c *count) String() string {
	return fmt.Sprintf("%d takeovers, %d returns, %d operations, %d bricks started anew", c.takeovers.Load(), c.returns.Load(), c.ops.Load(), c.bricks.Load())
}

// volume is a volume of a run.
type volume struct {
	name    string
	tenures []*tenure
}

// rates are how fast the clocks of hosts are: 1% from right, and 2% from each other. What a
// taker waits for a lease (docs/takeover.md) allows for some 10%.
var rates = map[string]float64{"h1": 1.01, "h3": 0.99}

// start starts a cluster of three hosts, whose clocks differ, and three Consul servers
// with that pool, and others besides.
func start(t *testing.T, p pool, more string) *run {
	t.Helper()
	began := time.Now()
	p.options.Hosts, p.options.Servers, p.options.Guard = 3, 3, true
	p.options.Clock, p.options.Rates = clock, rates
	p.options.Configure = func(string) string { return fmt.Sprintf(common, lease, p.line) + more }
	c := lab.ClusterForTest(t, p.options)
	program, err := os.ReadFile(worker)
	if err != nil {
		t.Fatal(err)
	}
	for _, h := range c.Hosts() {
		if err := os.Mkdir(h.Path("history"), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(h.Path("history/worker"), program, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Logf("started in %v", time.Since(began).Round(time.Millisecond))
	return &run{Cluster: c, t: t, ctx: t.Context(), operator: operator{started: make(map[string]time.Time)}}
}

// begin makes new volumes, and a worker for each on a host of its own.
func (r *run) begin(era int) error {
	r.volumes = nil
	for i := range atOnce {
		r.volumes = append(r.volumes, &volume{name: fmt.Sprintf("v%d-%d", i+1, era)})
	}
	return r.each(func(i int, v *volume) error {
		h := r.Host(i%len(r.Hosts()) + 1)
		if err := r.eventually(func() error { return r.create(h, v, "pool") }); err != nil {
			return err
		}
		_, err := r.employ(h, v)
		return err
	})
}

// create makes a volume, whose live owner nobody waits for. A host that has just come
// back may need a moment until it can.
func (r *run) create(h *lab.Host, v *volume, pool string) error {
	return h.CreateVolume(r.ctx, "dvol", v.name, "pool="+pool, "access=exclusive", "mount_wait=1s")
}

// each does something for all volumes at once.
func (r *run) each(do func(int, *volume) error) error {
	errs := make([]error, len(r.volumes))
	var all sync.WaitGroup
	for i, v := range r.volumes {
		all.Go(func() {
			if err := do(i, v); err != nil {
				errs[i] = fmt.Errorf("%s: %w", v.name, err)
			}
		})
	}
	all.Wait()
	return errors.Join(errs...)
}

// round breaks what a round breaks, has hosts take volumes meanwhile, mends all
// and looks at what became of the volumes.
func (r *run) round(x history.Round) error {
	began := lab.SinceBoot()
	if err := r.hit(x); err != nil {
		return err
	}
	mended := make(chan struct{})
	taken := make(chan error, 1)
	go func() {
		taken <- r.each(func(i int, v *volume) error {
			if x.Wants[i] == 0 {
				return nil
			}
			return r.take(r.Host(x.Wants[i]), v, x, mended)
		})
	}()
	ended := false
	err := r.hold(x)
	if !x.Early && x.Cluster != history.StopStorage {
		err, ended = errors.Join(err, <-taken), true
	}
	err = errors.Join(err, r.mend())
	close(mended)
	if !ended {
		err = errors.Join(err, <-taken)
	}
	if err == nil {
		err = r.well()
	}
	healed := lab.SinceBoot()
	if err == nil {
		err = r.each(func(i int, v *volume) error { return r.settle(v, x.Wants[i], healed) })
	}
	if err == nil {
		err = r.check()
	}
	r.t.Logf("%s: %.1f s; %s", x, (lab.SinceBoot() - began).Seconds(), r.owners())
	return err
}

// owners says who has which volume.
func (r *run) owners() string {
	words := ""
	for _, v := range r.volumes {
		t := v.last()
		words += fmt.Sprintf(" %s on %s, epoch %d;", v.name, t.host.Name(), t.epoch)
	}
	return words
}

// take has a host get a volume: from an owner who is silent, by taking it over, else by
// having him give it back. If the owner may be live again it is no error that he
// has it still.
func (r *run) take(h *lab.Host, v *volume, x history.Round, mended <-chan struct{}) error {
	owner := v.last()
	fault := x.Hosts[number(owner.host)]
	if h == owner.host || fault == history.CutStorage || x.Cluster == history.StopStorage && !fault.Silences() {
		return nil // nobody to ask, or nothing to be had
	}
	if !fault.Silences() {
		if err := r.dismiss(owner); err != nil {
			r.t.Logf("%s does not give %s back: %v", owner.host.Name(), v.name, err)
			return nil
		}
	}
	for deadline := time.Now().Add(patience); ; {
		over, began := false, time.Now()
		select {
		case <-mended:
			over = true
		default:
		}
		_, err := r.employ(h, v)
		var unknown *epochUnknown
		switch {
		case err == nil:
			if fault.Silences() && !over {
				r.count.takeovers.Add(1)
			} else {
				r.count.returns.Add(1)
			}
			return nil
		case errors.As(err, &unknown):
			return err
		}
		asked, failure := false, error(nil)
		if x.Cluster != history.StopStorage {
			asked, failure = r.heed(err, began)
		}
		switch {
		case failure != nil:
			return failure
		case asked:
			deadline = time.Now().Add(patience)
		case over:
			r.t.Logf("%s did not get %s: %v", h.Name(), v.name, err)
			return nil
		case time.Now().After(deadline):
			return fmt.Errorf("%s does not get it within %v: %w", h.Name(), patience, err)
		}
		time.Sleep(200 * time.Millisecond)
	}
}

// settle has one worker at a volume that gets on: the last one, or, if that has
// ended, another.
func (r *run) settle(v *volume, wanted int, healed time.Duration) error {
	last := v.last()
	for _, t := range v.tenures[:len(v.tenures)-1] {
		if err := r.dismissed(t); err != nil {
			return err
		}
	}
	if r.running(last) && r.progress(last, healed, 10*time.Second) == nil {
		return nil
	}
	if err := r.dismissed(last); err != nil {
		return err
	}
	h := last.host
	if wanted != 0 {
		h = r.Host(wanted)
	}
	for deadline := time.Now().Add(patience); ; time.Sleep(200 * time.Millisecond) {
		began := time.Now()
		t, err := r.employ(h, v)
		var unknown *epochUnknown
		switch {
		case err == nil:
			return r.progress(t, healed, patience)
		case errors.As(err, &unknown):
			return err
		}
		asked, failure := r.heed(err, began)
		switch {
		case failure != nil:
			return failure
		case asked:
			deadline = time.Now().Add(patience)
		case time.Now().After(deadline):
			return fmt.Errorf("nobody uses it, all is well, and %s does not get it within %v: %w", h.Name(), patience, err)
		}
	}
}

// check looks into all volumes, and judges what they have gone through so far.
func (r *run) check() error {
	return r.each(func(_ int, v *volume) error {
		t := v.last()
		look, err := lookBy(func(script string) (string, error) {
			return t.host.Docker(r.ctx, "exec", t.worker, "sh", "-c", script)
		})
		if err != nil {
			return err
		}
		return r.judge(v, look)
	})
}

// end has another host look into the volumes, where nothing but the storage can
// know what was written, and removes them.
func (r *run) end() error {
	return r.each(func(i int, v *volume) error {
		for _, t := range v.tenures {
			if err := r.dismissed(t); err != nil {
				return err
			}
		}
		others := slices.DeleteFunc(slices.Clone(r.Hosts()), func(h *lab.Host) bool { return h == v.last().host })
		h := others[i%len(others)]
		look, err := lookBy(func(script string) (out string, err error) {
			return out, r.eventually(func() error {
				out, err = h.RunToEnd(r.ctx, lab.Container{Binds: []string{v.name + ":/data"}, Driver: "dvol", Command: []string{"sh", "-c", script}})
				return err
			})
		})
		if err == nil {
			err = r.judge(v, look)
		}
		if err != nil {
			return err
		}
		for _, t := range v.tenures {
			if ops, err := t.ops(); err == nil {
				r.count.ops.Add(int64(len(ops)))
			}
			if err := os.Remove(t.journal()); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
		return r.discard(v, h)
	})
}

// discard ends all workers of a volume and removes it.
func (r *run) discard(v *volume, h *lab.Host) error {
	for _, t := range v.tenures {
		if err := r.dismissed(t); err != nil {
			return err
		}
	}
	return r.eventually(func() error {
		_, err := h.Docker(r.ctx, "volume", "rm", v.name)
		return err
	})
}

// eventually waits until something succeeds.
func (r *run) eventually(do func() error) error {
	for deadline := time.Now().Add(patience); ; time.Sleep(200 * time.Millisecond) {
		err := do()
		if err == nil || time.Now().After(deadline) {
			return err
		}
	}
}

// keep copies what tells how a run has failed to a directory: journals, logs, and
// what the storage has, with its own marks.
func (r *run) keep(dir string) error {
	data := make(map[string]string)
	if r.Storage() != nil {
		data["storage"] = r.Storage().Data(".")
	}
	if r.Gluster() != nil {
		for _, n := range r.Gluster().Nodes() {
			data[n.Name()+"-brick"] = n.Brick(".")
		}
	}
	for name, from := range data {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
		if out, err := exec.Command("cp", "-a", from, filepath.Join(dir, name)).CombinedOutput(); err != nil {
			return fmt.Errorf("keep %s: %w: %s", from, err, out)
		}
	}
	var files []string
	for _, m := range r.Machines() {
		for _, pattern := range []string{"*.log", "var/log/glusterfs/*.log", "var/log/glusterfs/bricks/*.log", "history/*", "etc/lab/reboots"} {
			found, err := filepath.Glob(m.Path(pattern))
			if err != nil {
				return err
			}
			files = append(files, found...)
		}
	}
	for _, file := range files {
		if filepath.Base(file) == "worker" {
			continue
		}
		name, err := filepath.Rel(r.Path("."), file)
		if err != nil {
			return err
		}
		to := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			return err
		}
		text, err := os.ReadFile(file)
		if err == nil {
			err = os.WriteFile(to, text, 0o644)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
