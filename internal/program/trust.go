package program

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// maxLinks is where the kernel gives up, too.
const maxLinks = 40

// StillTrusted is CheckTrusted for a program that was trusted before, and may lie
// on a storage that hangs: that is an error once ctx has ended, or the time is over.
func StillTrusted(ctx context.Context, path string, timeout time.Duration) error {
	return within(ctx, timeout, "trusted program "+path, func() error { return CheckTrusted(path) })
}

// CheckTrusted returns an error unless path, which is absolute, is a program
// that can be run and that nobody but root can change or replace: not the file,
// nor a directory or symbolic link on the way to it.
func CheckTrusted(path string) error {
	at, links := "/", 0
	for rest := strings.Split(path, "/"); len(rest) > 0; {
		name := rest[0]
		rest = rest[1:]
		next := filepath.Join(at, name) // also of "..", for there is no link in at
		info, err := os.Lstat(next)
		if err != nil {
			return err
		}
		if err := checkOwner(next, info); err != nil {
			return err
		}
		switch info.Mode().Type() {
		case fs.ModeSymlink:
			to, err := os.Readlink(next)
			if err != nil {
				return err
			}
			if links++; links > maxLinks {
				return fmt.Errorf("%s: too many symbolic links", path)
			}
			if filepath.IsAbs(to) {
				at = "/"
			}
			rest = append(strings.Split(to, "/"), rest...)
		case fs.ModeDir:
			// In a sticky one, such as /tmp, only an owner replaces what is there.
			if err := checkMode(next, info); err != nil && info.Mode()&fs.ModeSticky == 0 {
				return err
			}
			at = next
		default:
			if len(rest) > 0 {
				return fmt.Errorf("%s is not a directory", next)
			}
			return checkProgram(next, info)
		}
	}
	return fmt.Errorf("%s is not a program", path)
}

func checkOwner(path string, info fs.FileInfo) error {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok || st.Uid != 0 {
		return fmt.Errorf("%s does not belong to root, so others could change what is run as root", path)
	}
	return nil
}

func checkProgram(path string, info fs.FileInfo) error {
	if !info.Mode().IsRegular() {
		return fmt.Errorf("%s is not a program", path)
	}
	if err := checkMode(path, info); err != nil {
		return err
	}
	if err := unix.Faccessat(unix.AT_FDCWD, path, unix.X_OK, unix.AT_EACCESS); err != nil {
		return fmt.Errorf("%s is not executable: %w", path, err)
	}
	return nil
}

func checkMode(path string, info fs.FileInfo) error {
	if info.Mode()&0o022 != 0 {
		return fmt.Errorf("%s is writable by others than root, so they could change what is run as root", path)
	}
	return nil
}
