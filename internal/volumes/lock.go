package volumes

import (
	"context"
	"sync"
	"time"
)

// locks holds one lock for each name in use. The zero value is ready.
type locks struct {
	mu    sync.Mutex // guards names and the counts in it
	names map[string]*lock
}

type lock struct {
	held  chan struct{} // full while held
	users int           // holder and waiters
}

// acquire waits for the lock of name, or for ctx to end.
func (l *locks) acquire(ctx context.Context, name string) (release func(), err error) {
	k := l.enter(name)
	select {
	case k.held <- struct{}{}:
		return func() { <-k.held; l.leave(name, k) }, nil
	case <-ctx.Done():
		l.leave(name, k)
		return nil, ctx.Err()
	}
}

// try is acquire for those who have something else to do.
func (l *locks) try(name string) (release func(), ok bool) {
	k := l.enter(name)
	select {
	case k.held <- struct{}{}:
		return func() { <-k.held; l.leave(name, k) }, true
	default:
		l.leave(name, k)
		return nil, false
	}
}

// soon is try for those who may have been asked to look by a call that is about
// to end.
func (l *locks) soon(ctx context.Context, name string) (release func(), ok bool) {
	ctx, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
	defer cancel()
	release, err := l.acquire(ctx, name)
	return release, err == nil
}

func (l *locks) enter(name string) *lock {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.names == nil {
		l.names = make(map[string]*lock)
	}
	k := l.names[name]
	if k == nil {
		k = &lock{held: make(chan struct{}, 1)}
		l.names[name] = k
	}
	k.users++
	return k
}

func (l *locks) leave(name string, k *lock) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if k.users--; k.users == 0 {
		delete(l.names, name)
	}
}
