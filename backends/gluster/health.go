package gluster

import (
	"log/slog"
	"os/exec"
	"sync"
	"time"

	"github.com/dvol/dvold/backends"
	"github.com/dvol/dvold/internal/host"
)

// health tells whether the storage behind a shared client answers.
//
// The question is statfs(2) of its root, which the bricks have to answer. A process
// of its own asks: whoever has asked a client can't end before it has answered, not
// even by SIGKILL, and dvold has to. No client is asked again before it has.
type health struct {
	log *slog.Logger

	mu     sync.Mutex // guards the fields below
	asked  *question  // that is under way, or nil
	next   time.Time  // when to ask again
	silent time.Time  // since when nothing was answered; zero while all was
	told   bool       // and the log says so
}

// question is one that a client was asked.
type question struct{ client host.Process }

const (
	// askInterval is how often a client is asked.
	askInterval = 5 * time.Second
	// silentAfter is how long the storage may take until it counts as silent.
	silentAfter = 10 * time.Second
)

// watch asks the client, if it is time to, and tells the log what is new. It does
// not wait for the answer.
func (h *health) watch(c *client) {
	h.mu.Lock()
	defer h.mu.Unlock()
	now := time.Now()
	if waiting := h.asked != nil && h.asked.client == c.Process; !waiting && !now.Before(h.next) {
		h.ask(c, now)
	}
	h.tell(now)
}

// waiting tells whether the client is being asked: then its file system is in use.
func (h *health) waiting() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.asked != nil
}

// ask begins to. h.mu is held.
func (h *health) ask(c *client, now time.Time) {
	cmd := exec.Command("stat", "--file-system", c.mountpoint)
	cmd.Dir = "/"
	h.next = now.Add(askInterval)
	if err := cmd.Start(); err != nil {
		h.log.Debug("the storage can't be asked whether it answers", "err", err)
		return
	}
	q := &question{c.Process}
	h.asked = q
	if h.silent.IsZero() {
		h.silent = now
	}
	go func() {
		err := cmd.Wait()
		h.mu.Lock()
		defer h.mu.Unlock()
		if h.asked != q { // another client has taken its place
			return
		}
		h.asked = nil
		if err == nil {
			h.answered()
		}
	}()
}

// answered says that all is well. h.mu is held.
func (h *health) answered() {
	if h.told {
		h.log.Info("the storage answers again", "after", time.Since(h.silent).Round(time.Second))
	}
	h.silent, h.told = time.Time{}, false
}

// tell tells the log once that the storage is silent. h.mu is held.
func (h *health) tell(now time.Time) {
	if h.silent.IsZero() || h.told || now.Sub(h.silent) < silentAfter {
		return
	}
	h.told = true
	h.log.Warn("the storage does not answer: what is done with its volumes waits or fails", "for", now.Sub(h.silent).Round(time.Second))
}

// failed says that there is no client, though there are volumes for one to serve.
func (h *health) failed() {
	h.mu.Lock()
	defer h.mu.Unlock()
	now := time.Now()
	if h.silent.IsZero() {
		h.silent = now
	}
	h.tell(now)
}

// forget is for a client that is needed no more.
func (h *health) forget() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.asked, h.silent, h.told = nil, time.Time{}, false
}

// lasts is for how long the storage is silent, or 0.
func (h *health) lasts() time.Duration {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.silent.IsZero() || time.Since(h.silent) < silentAfter {
		return 0
	}
	return time.Since(h.silent)
}

var _ backends.Watched = (*Pool)(nil)

// Silent is for how long the storage behind one of the pool's shared clients does
// not answer.
func (p *Pool) Silent() (longest time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, s := range p.clients {
		longest = max(longest, s.health.lasts())
	}
	return longest
}
