package upkeep

import (
	"sync"
	"time"
)

// Uses knows whether something is in use, and since when it is not: what is expensive to
// bring up stays for a while. Its methods may be called concurrently.
type Uses struct {
	mu    sync.Mutex // guards the fields below
	calls int        // that use it at the moment
	last  time.Time  // when it was last seen in use
}

// NewUses returns those of what was in use just now.
func NewUses() *Uses { return &Uses{last: time.Now()} }

// Enter says that it is in use until leave is called, once.
func (u *Uses) Enter() (leave func()) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.calls++
	return func() {
		u.mu.Lock()
		defer u.mu.Unlock()
		u.calls--
		u.last = time.Now()
	}
}

// Seen says that it is in use just now, by what is no call.
func (u *Uses) Seen() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.last = time.Now()
}

// Idle tells whether it has not been in use for as long as grace.
func (u *Uses) Idle(grace time.Duration) bool { return u.IfIdle(grace, func() {}) }

// IfIdle calls f if it is idle, and tells whether it is. Nobody enters before f has returned.
func (u *Uses) IfIdle(grace time.Duration, f func()) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.calls > 0 || time.Since(u.last) < grace {
		return false
	}
	f()
	return true
}
