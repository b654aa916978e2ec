package fuseclient

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os/exec"
	"strings"
	"sync"
	"time"

	"github.com/dvol/dvold/backends"
	"github.com/dvol/dvold/internal/host"
)

// health tells whether the storage behind a shared client answers.
//
// The question is statfs(2) of its root, which the servers have to answer. A process
// of its own asks: whoever has asked a client can't end before it has answered, not
// even by SIGKILL, and dvold has to. No client is asked again before it has.
type health struct {
	name    string // of the file system
	silence string // what it may mean that it doesn't answer
	log     *slog.Logger

	mu       sync.Mutex // guards the fields below
	asked    *question  // that is under way, or nil
	next     time.Time  // when to ask again
	answered time.Time  // when it answered last
	silent   time.Time  // since when nothing was answered; zero while all was
	told     bool       // and the log says so
}

// question is one that a client was asked.
type question struct {
	client host.Process
	done   chan struct{} // closed with the answer
	err    error         // set before that
}

const (
	// AskInterval is how often a shared client is asked.
	AskInterval = 5 * time.Second
	// silentAfter is how long the storage may take until it counts as silent.
	silentAfter = 10 * time.Second
	// answerHolds is how long an answer is believed by those who are about to use the
	// storage.
	answerHolds = time.Second
)

// watch asks the client, if it is time to, and tells the log what is new. It does
// not wait for the answer.
func (h *health) watch(c *Client) {
	h.mu.Lock()
	defer h.mu.Unlock()
	now := time.Now()
	if !now.Before(h.next) {
		h.ask(c, now)
	}
	h.tell(now)
}

// await returns nil if the storage has answered just now, or does within a time.
// What is called while it is silent waits for as long as the client gives the servers,
// perhaps without end, and can't be called off.
func (h *health) await(ctx context.Context, c *Client, wait time.Duration) error {
	h.mu.Lock()
	now := time.Now()
	if now.Sub(h.answered) < answerHolds {
		h.mu.Unlock()
		return nil
	}
	q := h.ask(c, now)
	h.mu.Unlock()
	limit := time.NewTimer(wait)
	defer limit.Stop()
	select {
	case <-q.done:
		return q.err
	case <-ctx.Done():
		return fmt.Errorf("the servers of %s don't answer: %w: %w", h.name, backends.ErrUnavailable, context.Cause(ctx))
	case <-limit.C:
		return fmt.Errorf("the servers of %s don't answer (mount_timeout, %v): %w", h.name, wait, backends.ErrUnavailable)
	}
}

// waiting tells whether the client is being asked: then its file system is in use.
func (h *health) waiting() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.asked != nil
}

// ask begins to, unless the client is being asked. h.mu is held.
func (h *health) ask(c *Client, now time.Time) *question {
	if h.asked != nil && h.asked.client == c.Process {
		return h.asked
	}
	q := &question{client: c.Process, done: make(chan struct{})}
	var said bytes.Buffer
	cmd := exec.Command("stat", "--file-system", c.Mountpoint)
	cmd.Dir, cmd.Env, cmd.Stderr = "/", []string{"LC_ALL=C"}, &said
	h.next = now.Add(AskInterval)
	if err := cmd.Start(); err != nil {
		q.err = fmt.Errorf("ask the storage: %w", err)
		close(q.done)
		return q
	}
	h.asked = q
	if h.silent.IsZero() {
		h.silent = now
	}
	go func() {
		defer close(q.done)
		if err := cmd.Wait(); err != nil {
			text := strings.TrimSpace(said.String())
			q.err = fmt.Errorf("%s: %s: %w", h.silence, text, backends.ErrUnavailable)
		}
		h.mu.Lock()
		defer h.mu.Unlock()
		if h.asked != q { // another client has taken its place
			return
		}
		h.asked = nil
		if q.err == nil {
			h.answers()
		}
	}()
	return q
}

// answers says that all is well. h.mu is held.
func (h *health) answers() {
	if h.told {
		h.log.Info("the storage answers again", "after", time.Since(h.silent).Round(time.Second))
	}
	h.answered, h.silent, h.told = time.Now(), time.Time{}, false
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
	h.asked, h.answered, h.silent, h.told = nil, time.Time{}, time.Time{}, false
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
