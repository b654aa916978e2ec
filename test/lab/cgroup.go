package lab

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// cgroupRoot is the root of version 2, or of the hierarchies of version 1.
const cgroupRoot = "/sys/fs/cgroup"

// removeCgroups removes the cgroups called name, and those below them, from
// every hierarchy of this machine: what engines that were killed leave behind.
// No process may be left in the machine.
func removeCgroups(name string) error {
	tops, err := filepath.Glob(filepath.Join(cgroupRoot, "*", name))
	if err != nil {
		return err
	}
	for _, top := range append(tops, filepath.Join(cgroupRoot, name)) {
		dirs, err := tree(top)
		if err != nil {
			return fmt.Errorf("remove cgroup %s: %w", top, err)
		}
		for _, dir := range slices.Backward(dirs) {
			if err := removeCgroup(dir); err != nil {
				return err
			}
		}
	}
	return nil
}

// tree lists a directory and those below it, each after the one it is in. One
// that is gone is not listed.
func tree(top string) ([]string, error) {
	var dirs []string
	err := filepath.WalkDir(top, func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err == nil && d.IsDir() {
			dirs = append(dirs, path)
		}
		return err
	})
	return dirs, err
}

// removeCgroup removes a cgroup without children. The kernel lets go of its
// processes only a moment after they have ended.
func removeCgroup(dir string) error {
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		err := os.Remove(dir)
		if err == nil || errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("remove cgroup: %w", err)
		}
	}
}
