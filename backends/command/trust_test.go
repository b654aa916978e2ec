package command_test

import (
	"cmp"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dvol/dvold/backends/command"
	"github.com/dvol/dvold/internal/host/hosttest"
)

// What others than root could change, or replace, is not run, neither at the
// start nor later.
func TestTrust(t *testing.T) {
	cases := map[string]struct {
		says  string // "" means that it is fit to run
		spoil func(t *testing.T, dir, fence string) error
	}{
		"fine":            {"", func(*testing.T, string, string) error { return nil }},
		"missing":         {"no such file", func(_ *testing.T, _, fence string) error { return os.Remove(fence) }},
		"not executable":  {"fence is not executable", func(_ *testing.T, _, fence string) error { return os.Chmod(fence, 0o644) }},
		"group may write": {"fence is writable by others than root", func(_ *testing.T, _, fence string) error { return os.Chmod(fence, 0o775) }},
		"all may write":   {"fence is writable by others than root", func(_ *testing.T, _, fence string) error { return os.Chmod(fence, 0o757) }},
		"another's":       {"fence does not belong to root", func(_ *testing.T, _, fence string) error { return os.Chown(fence, 1234, 0) }},
		"a directory": {"fence is not a program", func(_ *testing.T, _, fence string) error {
			return cmp.Or(os.Remove(fence), os.Mkdir(fence, 0o755))
		}},
		"a fifo": {"fence is not a program", func(_ *testing.T, _, fence string) error {
			return cmp.Or(os.Remove(fence), unix.Mkfifo(fence, 0o755))
		}},
		"directory all may write": {"dir is writable by others than root", func(_ *testing.T, dir, _ string) error { return os.Chmod(dir, 0o777) }},
		"sticky directory":        {"", func(_ *testing.T, dir, _ string) error { return unix.Chmod(dir, 0o1777) }},
		"another's directory":     {"dir does not belong to root", func(_ *testing.T, dir, _ string) error { return os.Chown(dir, 1234, 0) }},
		"below a file": {"real is not a directory", func(_ *testing.T, dir, fence string) error {
			return cmp.Or(os.Rename(fence, dir+"/x"), os.Symlink("x/fence", fence), os.Rename(dir+"/x", dir+"/real"), os.Symlink("real", dir+"/x"))
		}},
		"link": {"", func(_ *testing.T, dir, fence string) error {
			return cmp.Or(os.Rename(fence, dir+"/real"), os.Symlink("../dir/./real", fence))
		}},
		"absolute link": {"", func(_ *testing.T, dir, fence string) error {
			return cmp.Or(os.Rename(fence, dir+"/real"), os.Symlink(dir+"/real", fence))
		}},
		"another's link": {"fence does not belong to root", func(_ *testing.T, dir, fence string) error {
			return cmp.Or(os.Rename(fence, dir+"/real"), os.Symlink("real", fence), os.Lchown(fence, 1234, 0))
		}},
		"link through a directory all may write": {"open is writable by others than root", func(t *testing.T, dir, fence string) error {
			open := hosttest.Subdir(t, dir, "open")
			return cmp.Or(os.Chmod(open, 0o777), os.Rename(fence, dir+"/real"), os.Symlink("../real", open+"/fence"), os.Symlink("open/fence", fence))
		}},
		"endless link": {"too many symbolic links", func(_ *testing.T, _, fence string) error {
			return cmp.Or(os.Remove(fence), os.Symlink("fence", fence))
		}},
		"no exec": {"fence is not executable", func(_ *testing.T, dir, _ string) error {
			return cmp.Or(unix.Mount(dir, dir, "", unix.MS_BIND, ""), unix.Mount("", dir, "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_NOEXEC, ""))
		}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			hosttest.Root(t)
			dir := hosttest.Subdir(t, hosttest.Dir(t), "dir")
			fence, ran := filepath.Join(dir, "fence"), filepath.Join(t.TempDir(), "ran")
			if err := os.WriteFile(fence, []byte("#!/bin/sh\necho >"+ran+"\n"), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := c.spoil(t, dir, fence); err != nil {
				t.Fatal(err)
			}
			config := command.Config{Argv: []string{fence}, Timeout: time.Minute, Covers: "host"}
			fenceErr := open("host", fence).Fence(t.Context(), aFence())
			for what, err := range map[string]error{"validate": config.Validate(), "fence": fenceErr} {
				if (err == nil) != (c.says == "") || err != nil && (!strings.Contains(err.Error(), c.says) || strings.Contains(err.Error(), "\n")) {
					t.Errorf("%s: got %v, want %q", what, err, c.says)
				}
			}
			if _, err := os.Stat(ran); (err == nil) != (c.says == "") {
				t.Errorf("it ran: %t", err == nil)
			}
		})
	}
}
