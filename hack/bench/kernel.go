package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"
)

// bare is what a mount and its record cost at least: a directory to mount, one
// to mount it at, and a file to write to, on the disk of dvold's state.
type bare struct {
	source, target string
	file           *os.File
	block          [4096]byte
}

func newBare(stateDir string) (*bare, error) {
	dir, err := os.MkdirTemp(filepath.Dir(stateDir), "bare")
	if err != nil {
		return nil, err
	}
	b := &bare{source: filepath.Join(dir, "source"), target: filepath.Join(dir, "target")}
	for _, d := range []string{b.source, b.target} {
		if err := os.Mkdir(d, 0o755); err != nil {
			return nil, err
		}
	}
	b.file, err = os.Create(filepath.Join(dir, "file"))
	return b, err
}

// pair is a bind mount and its unmount, two system calls.
func (b *bare) pair() error {
	if err := unix.Mount(b.source, b.target, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("mount %s: %w", b.target, err)
	}
	if err := unix.Unmount(b.target, unix.UMOUNT_NOFOLLOW); err != nil {
		return fmt.Errorf("unmount %s: %w", b.target, err)
	}
	return nil
}

// sync overwrites 4 KiB and waits until they are on the disk.
func (b *bare) sync() error {
	b.block[0]++
	if _, err := b.file.WriteAt(b.block[:], 0); err != nil {
		return err
	}
	return b.file.Sync()
}

// pairAndSync is pair, then sync.
func (b *bare) pairAndSync() error {
	if err := b.pair(); err != nil {
		return err
	}
	return b.sync()
}

// sleepers are processes that do nothing, each in a mount namespace of its own.
type sleepers []*exec.Cmd

// startSleepers starts n of them.
func startSleepers(n int) (s sleepers, err error) {
	for range n {
		cmd := exec.Command("sleep", "infinity")
		cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: unix.CLONE_NEWNS}
		if err := cmd.Start(); err != nil {
			return nil, errors.Join(err, s.stop())
		}
		s = append(s, cmd)
	}
	return s, nil
}

// stop ends them and waits until they are gone.
func (s sleepers) stop() error {
	for _, cmd := range s {
		if err := cmd.Process.Kill(); err != nil {
			return err
		}
	}
	for _, cmd := range s {
		cmd.Wait() // reports the kill
	}
	return nil
}
