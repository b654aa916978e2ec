package history_test

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/dvol/dvold/test/history"
	"github.com/dvol/dvold/test/lab"
)

// controlPools are unsafe: the fence does nothing. In both the owner goes on: in the
// first until somebody fences it, in the second until its lease is over, sooner than
// which somebody takes the volume.
const controlPools = `  liar: {type: local, path: /shared/liar, shared: true, exclusive: {fence_command: [/bin/true], fence_covers: pool}}
  early: {type: local, path: /shared/early, shared: true, exclusive: {fence_command: [/bin/true], fence_covers: pool, on_session_loss: cut}}
`

// controls has two volumes taken over unsafely, and wants that to be found: else
// nothing that is found sound would prove anything.
func (r *run) controls() error {
	liar, early := &volume{name: "liar"}, &volume{name: "early"}
	r.volumes = []*volume{liar, early}
	h1, h2, taker := r.Host(1), r.Host(2), r.Host(3)
	err := r.each(func(i int, v *volume) error {
		h := []*lab.Host{h1, h2}[i]
		if err := r.create(h, v, v.name); err != nil {
			return err
		}
		t, err := r.employ(h, v)
		if err != nil {
			return err
		}
		return r.progress(t, 0, patience)
	})
	if err == nil {
		err = r.check() // so far nothing is wrong
	}
	if err == nil {
		err = r.hit(history.Round{Hosts: map[int]history.Fault{1: history.CutConsul, 2: history.CutForgot}})
	}
	if err == nil {
		err = r.each(func(_ int, v *volume) error { return r.foundOut(v, taker) })
	}
	err = errors.Join(err, r.mend())
	if err == nil {
		err = r.well()
	}
	if err != nil {
		return fmt.Errorf("controls: %w", err)
	}
	return r.each(func(_ int, v *volume) error { return r.discard(v, taker) })
}

// foundOut has a host take a volume whose owner goes on, and checks that the history
// tells.
func (r *run) foundOut(v *volume, taker *lab.Host) error {
	err := r.eventually(func() error {
		_, err := r.employ(taker, v)
		return err
	})
	if err != nil {
		return err
	}
	began := lab.SinceBoot()
	const wrong = "succeeded after one of epoch 2"
	for deadline := time.Now().Add(lease / 2); ; time.Sleep(100 * time.Millisecond) {
		t := v.last()
		look, err := lookBy(func(script string) (string, error) {
			return t.host.Docker(r.ctx, "exec", t.worker, "sh", "-c", script)
		})
		if err == nil {
			if err = r.judge(v, look); err != nil && strings.Contains(err.Error(), wrong) {
				r.t.Logf("found %v after the takeover: %v", (lab.SinceBoot() - began).Round(time.Millisecond), err)
				return nil
			}
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("two hosts write at once, and nothing is found: %v", err)
		}
	}
}
