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

// Health tells whether the storage behind a shared client answers.
//
// The question is one that the servers have to answer: see Spec.Ask. A process
// of its own asks: whoever has asked a client can't end before it has answered, not
// even by SIGKILL, and dvold has to. No client is asked again before it has.
type Health struct {
	name    string                  // of the file system
	silence string                  // what it may mean that it doesn't answer
	program []string                // that asks
	cutOff  func(host.Process) bool // or nil
	log     *slog.Logger

	mu       sync.Mutex   // guards the fields below
	asked    *question    // that is under way, or nil
	next     time.Time    // when to ask again
	answered time.Time    // when it answered last
	refused  host.Process // the client that was found to be refused last
	silent   time.Time    // since when nothing was answered; zero while all was
	told     bool         // and the log says so
}

// NewHealth returns that of the clients of a file system.
func NewHealth(s Spec, log *slog.Logger) *Health {
	return &Health{name: s.Name, silence: s.Silence, program: s.asking(), cutOff: s.CutOff, log: log}
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
	// AnswerHolds is how long an answer is believed by those who are about to use the
	// storage.
	AnswerHolds = time.Second
)

// Watch asks the client, if it is time to, and tells the log what is new. It does
// not wait for the answer.
func (h *Health) Watch(c *Client) {
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
func (h *Health) await(ctx context.Context, c *Client, wait time.Duration) error {
	h.mu.Lock()
	fresh := time.Since(h.answered) < AnswerHolds
	h.mu.Unlock()
	if fresh {
		return nil
	}
	return h.Ask(ctx, c, wait)
}

// Ask is await that believes no answer but one to come.
func (h *Health) Ask(ctx context.Context, c *Client, wait time.Duration) error {
	h.mu.Lock()
	q := h.ask(c, time.Now())
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

// isRefused tells whether the servers were found to refuse a client.
func (h *Health) isRefused(c *Client) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.refused == c.Process
}

// waiting tells whether the client is being asked: then its file system is in use.
func (h *Health) waiting() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.asked != nil
}

// ask begins to, unless the client is being asked. h.mu is held.
func (h *Health) ask(c *Client, now time.Time) *question {
	if h.asked != nil && h.asked.client == c.Process {
		return h.asked
	}
	q := &question{client: c.Process, done: make(chan struct{})}
	var said bytes.Buffer
	argv := append(h.program[:len(h.program):len(h.program)], c.Mountpoint)
	cmd := exec.Command(argv[0], argv[1:]...)
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
		refused := q.err != nil && h.cutOff != nil && h.cutOff(q.client)
		h.mu.Lock()
		defer h.mu.Unlock()
		if refused {
			h.refused = q.client
		}
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
func (h *Health) answers() {
	if h.told {
		h.log.Info("the storage answers again", "after", time.Since(h.silent).Round(time.Second))
	}
	h.answered, h.silent, h.told = time.Now(), time.Time{}, false
}

// tell tells the log once that the storage is silent. h.mu is held.
func (h *Health) tell(now time.Time) {
	if h.silent.IsZero() || h.told || now.Sub(h.silent) < silentAfter {
		return
	}
	h.told = true
	h.log.Warn("the storage does not answer: what is done with its volumes waits or fails", "for", now.Sub(h.silent).Round(time.Second))
}

// failed says that there is no client, though there are volumes for one to serve.
func (h *Health) failed() {
	h.mu.Lock()
	defer h.mu.Unlock()
	now := time.Now()
	if h.silent.IsZero() {
		h.silent = now
	}
	h.tell(now)
}

// forget is for a client that is needed no more.
func (h *Health) forget() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.asked, h.answered, h.silent, h.told = nil, time.Time{}, time.Time{}, false
}

// Silent is for how long the storage is silent, or 0.
func (h *Health) Silent() time.Duration {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.silent.IsZero() || time.Since(h.silent) < silentAfter {
		return 0
	}
	return time.Since(h.silent)
}
