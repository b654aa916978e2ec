package program

import (
	"cmp"
	"context"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Answers returns an error if the storage that a program lies on does not answer
// before ctx ends or the time is over. Such a program must not be begun: as long
// as an execve(2) hangs so does the thread that forked, where the Go runtime can't
// stop it, and with the next garbage collection all of this process.
func Answers(ctx context.Context, path string, timeout time.Duration) error {
	return within(ctx, timeout, "program "+path, func() error { touch(path); return nil })
}

// looks are those at programs which have not come back, by what they are: of one
// that hangs, for the storage that the program lies on is dead, there is one, in
// all of this process, however often it is tried.
var looks = struct {
	mu      sync.Mutex // guards the field below
	running map[string]*look
}{running: make(map[string]*look)}

// look is a call that may hang. Its result is known once it is done.
type look struct {
	done chan struct{}
	err  error
}

// within returns what fn returns, or an error once ctx has ended or the time is
// over. While it hangs calls with the key wait for the same fn.
func within(ctx context.Context, timeout time.Duration, key string, fn func() error) error {
	looks.mu.Lock()
	l := looks.running[key]
	if l == nil {
		l = &look{done: make(chan struct{})}
		looks.running[key] = l
		go func() {
			l.err = fn()
			looks.mu.Lock()
			delete(looks.running, key)
			looks.mu.Unlock()
			close(l.done)
		}()
	}
	looks.mu.Unlock()
	limited, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	select {
	case <-l.done:
		return l.err
	case <-limited.Done():
		return cmp.Or(ctx.Err(), fmt.Errorf("no answer within %v: to look at %s hangs", timeout, key))
	}
}

// touch asks the storage for a program, as execve(2) does before anything of the
// program runs. It is execve's to say what is wrong with it.
func touch(path string) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return
	}
	defer unix.Close(fd)
	_, _ = unix.Read(fd, make([]byte, 4096))
}
