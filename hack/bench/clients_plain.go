package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// plainClient is a process that has mounted the whole file system, as plugins
// start one for each volume. It is started with the options that a shared client of
// dvold's has.
type plainClient struct {
	cmd *exec.Cmd
	dir string // where it is mounted
}

// startPlain starts one more client, whose root answers when startPlain returns.
func (b *clientBench) startPlain() error {
	c := &plainClient{dir: filepath.Join(b.dir, strconv.Itoa(len(b.plain)))}
	if err := os.Mkdir(c.dir, 0o700); err != nil {
		return err
	}
	c.cmd = exec.Command(b.kind.program, b.kind.arguments(c.dir)...)
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // as dvold's: the scheduler treats sessions apart
	if err := c.cmd.Start(); err != nil {
		return err
	}
	b.plain = append(b.plain, c)
	return c.await(b.ctx)
}

// await waits until the client's root answers.
func (c *plainClient) await(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	above, err := os.Stat(filepath.Dir(c.dir))
	if err != nil {
		return err
	}
	for ctx.Err() == nil {
		root, err := os.Stat(c.dir) // waits for the servers once it is mounted
		if err != nil {
			return err
		}
		if root.Sys().(*syscall.Stat_t).Dev != above.Sys().(*syscall.Stat_t).Dev {
			return nil
		}
		pause(ctx, time.Millisecond)
	}
	return fmt.Errorf("a client has mounted nothing: %w", context.Cause(ctx))
}

// stopPlain ends all plain clients.
func (b *clientBench) stopPlain() error {
	var errs []error
	for _, c := range b.plain {
		if err := unix.Unmount(c.dir, unix.UMOUNT_NOFOLLOW); err != nil {
			return &os.PathError{Op: "unmount", Path: c.dir, Err: err}
		}
	}
	for _, c := range b.plain {
		c.cmd.Wait() // it ends with that, perhaps by a signal of its own
		errs = append(errs, os.Remove(c.dir))
	}
	b.plain = nil
	return errors.Join(errs...)
}

// clientsSize is the memory of the plain clients, and that of dvold's, which are
// all others.
func (b *clientBench) clientsSize() (plain, dvol size, err error) {
	isPlain := make(map[int]bool)
	for _, c := range b.plain {
		isPlain[c.cmd.Process.Pid] = true
	}
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		return plain, dvol, err
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if name, _, _ := strings.Cut(string(text), "\x00"); err != nil || filepath.Base(name) != b.kind.program {
			continue
		}
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(file)))
		if err != nil {
			return plain, dvol, err
		}
		one, err := sizeOf(pid, "")
		if err != nil {
			return plain, dvol, err
		}
		sum := &dvol
		if isPlain[pid] {
			sum = &plain
		}
		sum.RSS, sum.Anon, sum.Procs = sum.RSS+one.RSS, sum.Anon+one.Anon, sum.Procs+1
	}
	return plain, dvol, nil
}
