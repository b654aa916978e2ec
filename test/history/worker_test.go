package history_test

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/dvol/dvold/internal/volumes"
	"github.com/dvol/dvold/test/history"
	"github.com/dvol/dvold/test/lab"
)

// tenure is a worker in a container, whose name is its own. Its journal lies on its
// host's disk.
type tenure struct {
	worker string
	host   *lab.Host
	epoch  uint64
	gone   bool // its container is removed
}

func (t *tenure) journal() string { return t.host.Path("history/" + t.worker) }

// last is who has the volume, as far as is known.
func (v *volume) last() *tenure { return v.tenures[len(v.tenures)-1] }

// epochUnknown means that a worker was started and nobody knows in which epoch:
// what it wrote can't be judged.
type epochUnknown struct{ err error }

func (e *epochUnknown) Error() string { return "its epoch is unknown: " + e.err.Error() }

// employ starts a worker for a volume on a host, and finds out in which epoch it
// works: as long as it works, that of the owner's record.
func (r *run) employ(h *lab.Host, v *volume) (*tenure, error) {
	t := &tenure{worker: fmt.Sprintf("%s-%d-%s", v.name, r.number.Add(1), h.Name()), host: h}
	err := h.Run(r.ctx, lab.Container{
		Name: t.worker, Driver: "dvol", Binds: []string{v.name + ":/data", h.Path("history") + ":/history"},
		Command: []string{"/history/worker", t.worker, "/data", "/history/" + t.worker, interval.String()},
	})
	if _, none := os.Stat(t.journal()); err != nil && none != nil {
		h.RemoveContainers(r.ctx, t.worker)
		return nil, err
	}
	found := r.eventually(func() error {
		o, err := r.owner(h, v)
		if err == nil && o.Host != h.Name() {
			return &epochUnknown{fmt.Errorf("the owner is %q, epoch %d", o.Host, o.Epoch)}
		}
		t.epoch = o.Epoch
		return err
	})
	if found != nil {
		return nil, &epochUnknown{errors.Join(err, found)}
	}
	v.tenures = append(v.tenures, t)
	return t, nil
}

// interval is how often a worker works.
const interval = 100 * time.Millisecond

// owner is who owns a volume, as a host knows.
func (r *run) owner(h *lab.Host, v *volume) (volumes.Owner, error) {
	d, err := h.Admin.Inspect(r.ctx, v.name)
	if err != nil {
		return volumes.Owner{}, err
	}
	if d.Owner == nil {
		return volumes.Owner{}, errors.New("it has no owner")
	}
	return *d.Owner, nil
}

// dismiss ends a worker.
func (r *run) dismiss(t *tenure) error {
	if t.gone {
		return nil
	}
	err := t.host.RemoveContainers(r.ctx, t.worker)
	t.gone = err == nil
	return err
}

// dismissed ends a worker of a host that is well again. Until its storage is back, too, the
// engine can't kill who waits for that: a client of CephFS that was cut off for a minute has
// been seen to take longer than the engine's 10 s.
func (r *run) dismissed(t *tenure) error {
	return r.eventually(func() error { return r.dismiss(t) })
}

// running tells whether a worker's container runs.
func (r *run) running(t *tenure) bool {
	is, err := t.host.Container(r.ctx, t.worker)
	return err == nil && is.State.Running
}

// progress waits until a worker has written something that it began after a moment.
func (r *run) progress(t *tenure, after, limit time.Duration) error {
	for deadline := time.Now().Add(limit); ; time.Sleep(100 * time.Millisecond) {
		ops, err := t.ops()
		for i := len(ops) - 1; err == nil && i >= 0 && ops[i].Call > after; i-- {
			if ops[i].Kind == history.Append && ops[i].Return != 0 {
				return nil
			}
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%s writes nothing within %v (%v)", t.worker, limit, err)
		}
	}
}

// ops are a worker's operations so far.
func (t *tenure) ops() ([]history.Op, error) {
	text, err := os.ReadFile(t.journal())
	if errors.Is(err, os.ErrNotExist) { // it was killed before it began
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return history.ParseJournal(string(text))
}

// lookScript prints the register, and the log with something after it: its last line may
// be half there.
const lookScript = "cat /data/register; echo -; cat /data/log; echo ."

// lookBy looks into a volume by a script for a container that has it.
func lookBy(run func(script string) (string, error)) (look history.Look, err error) {
	look.From = lab.SinceBoot()
	out, err := run(lookScript)
	look.To = lab.SinceBoot()
	if err != nil {
		return look, err
	}
	register, log, ok := strings.Cut(out, "-\n")
	if !ok {
		return look, fmt.Errorf("a look saw %q", out)
	}
	look.Register = strings.TrimSpace(register)
	look.Log = strings.Split(log, "\n")
	look.Log = look.Log[:len(look.Log)-1]
	return look, nil
}

// judge judges the history of a volume.
func (r *run) judge(v *volume, look history.Look) error {
	h := history.Volume{Name: v.name, Look: look}
	for _, t := range v.tenures {
		ops, err := t.ops()
		if err != nil {
			return err
		}
		h.Tenures = append(h.Tenures, history.Tenure{Worker: t.worker, Host: t.host.Name(), Epoch: t.epoch, Ops: ops})
	}
	return h.Check()
}
