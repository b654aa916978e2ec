// Package program runs programs of the operator's choice, within bounds of time
// and memory, and tells whether they can be trusted.
package program

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
	"unicode"
	"unicode/utf8"

	"golang.org/x/sys/unix"

	"github.com/dvol/dvold/internal/hang"
)

// SearchPath is where programs look for others, as an entry of an environment.
const SearchPath = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

const (
	// pipeTime is how long output is read on after the command has ended, for
	// what escaped its process group may keep the pipe open for ever.
	pipeTime = time.Second
	// killTime is how long what was killed may take to be gone. What hangs in
	// the kernel, say on storage that is away, does not go.
	killTime = 5 * time.Second
)

// Run runs argv with the environment env, no input, and nothing inherited, and
// returns the last line that it wrote. Its exit status 0 before ctx ends and the
// timeout is over is success, and nothing else is. In any case its process group
// is gone then, as far as the kernel lets go of it. A program that lies on a
// storage which hangs is not begun, nor is one while an earlier one with this argv
// and env hangs in the kernel, which is ErrStillHangs of package hang.
//
// To stdout goes also what it writes to its standard output, unless that is nil;
// an error from there ends nothing but that.
func Run(ctx context.Context, argv, env []string, timeout time.Duration, stdout io.Writer) (said string, err error) {
	if err := ctx.Err(); err != nil {
		return "", err
	}
	what := strings.Join(slices.Concat(argv, env), "\x00")
	if killed.Left(what) {
		return "", fmt.Errorf("it was killed, and %w: the kernel lets it go once what it waits for answers", hang.ErrStillHangs)
	}
	limited, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	var output tail
	// exec.CommandContext kills one process, and the group of one that it may
	// have reaped by then.
	command := exec.Command(argv[0], argv[1:]...)
	command.Env, command.Dir = env, "/"
	command.Stdout, command.Stderr = &output, &output
	if stdout != nil {
		command.Stdout = io.MultiWriter(&output, stdout)
	}
	command.WaitDelay = pipeTime
	command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := Answers(ctx, command.Path, timeout); err != nil {
		return "", err
	}
	if err := command.Start(); err != nil {
		return "", err
	}
	inTime := awaitExit(limited, command.Process.Pid)
	// Not reaped yet, so that the number is still its group's.
	_ = unix.Kill(-command.Process.Pid, unix.SIGKILL) // there may be nothing left of it

	reaped := make(chan struct{})
	go func() {
		defer close(reaped)
		_ = command.Wait() // ProcessState says it
	}()
	select {
	case <-reaped:
	case <-time.After(killTime):
		leave(ctx, what, reaped)
		return "", cmp.Or(ctx.Err(), fmt.Errorf("no answer within %v, and it hangs in the kernel: process %d", timeout, command.Process.Pid))
	}
	said = output.lastLine()
	switch {
	case ctx.Err() != nil:
		err = ctx.Err()
	case !inTime:
		err = fmt.Errorf("no answer within %v", timeout)
	case !command.ProcessState.Success():
		err = errors.New(command.ProcessState.String())
	}
	if err != nil && said != "" {
		err = fmt.Errorf("%w: %s", err, said)
	}
	return said, err
}

// killed are the programs that were killed and are not gone. Each keeps two threads,
// which nothing can end: of one there is one, however often it is tried.
var killed hang.Calls

// leave notes a program that is not waited for any more, until it is reaped.
func leave(ctx context.Context, what string, reaped <-chan struct{}) {
	ended, cancel := context.WithCancel(ctx)
	cancel()
	_ = killed.Run(ended, what, func() error { <-reaped; return nil }) // it hangs, or another one of it does
}

// awaitExit waits until the process has ended, which leaves it to be reaped, or
// ctx has, and tells whether the process was first.
func awaitExit(ctx context.Context, pid int) bool {
	ended := make(chan error, 1)
	go func() {
		for {
			err := unix.Waitid(unix.P_PID, pid, nil, unix.WEXITED|unix.WNOWAIT, nil)
			if !errors.Is(err, unix.EINTR) {
				ended <- err
				return
			}
		}
	}()
	select {
	case err := <-ended:
		return err == nil && ctx.Err() == nil
	case <-ctx.Done():
		return false
	}
}

// tail keeps the end of what is written to it, at once or not.
type tail struct {
	mu  sync.Mutex // guards end
	end []byte
}

// What a tail keeps, and shows of it, in bytes.
const (
	kept  = 4096
	shown = 200
)

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.end = append(t.end, p[max(0, len(p)-kept):]...)
	if over := len(t.end) - kept; over > 0 {
		t.end = append(t.end[:0], t.end[over:]...)
	}
	return len(p), nil
}

// lastLine returns the last line with anything in it, fit for a message.
func (t *tail) lastLine() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	text := bytes.TrimSpace(t.end)
	return printable(bytes.TrimSpace(text[bytes.LastIndexByte(text, '\n')+1:]))
}

// printable writes what can't be printed as Go does, and cuts what is long.
func printable(text []byte) string {
	const more = "…"
	var b strings.Builder
	end := 0 // of what leaves room for more
	for len(text) > 0 {
		r, size := utf8.DecodeRune(text)
		piece := string(text[:size])
		switch {
		case r == utf8.RuneError && size == 1:
			piece = fmt.Sprintf(`\x%02x`, text[0])
		case !unicode.IsPrint(r):
			piece = strings.Trim(strconv.QuoteRune(r), "'")
		}
		if b.Len()+len(piece) > shown {
			return b.String()[:end] + more
		}
		b.WriteString(piece)
		if b.Len() <= shown-len(more) {
			end = b.Len()
		}
		text = text[size:]
	}
	return b.String()
}
