package program

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dvol/dvold/internal/hang"
)

// Answers returns an error if the storage that a program lies on does not answer
// before ctx ends or the time is over. Such a program must not be begun: as long
// as an execve(2) hangs so does the thread that forked, where the Go runtime can't
// stop it, and with the next garbage collection all of this process.
func Answers(ctx context.Context, path string, timeout time.Duration) error {
	return within(ctx, timeout, "program "+path, func() error { touch(path); return nil })
}

// looks are those at programs that may hang: of one whose storage is dead there is one, in
// all of this process, however often it is tried.
var looks hang.Calls

// within returns what fn returns, or an error once ctx has ended or the time is over. While an
// earlier one of that name runs, it waits for that.
func within(ctx context.Context, timeout time.Duration, what string, fn func() error) error {
	limited, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	err := looks.Run(limited, what, fn)
	if errors.Is(err, hang.ErrHangs) {
		return cmp.Or(ctx.Err(), fmt.Errorf("no answer within %v: to look at %s hangs", timeout, what))
	}
	return err
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
