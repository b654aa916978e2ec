package hosttest

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// InWorld is for TestMain: it runs this test program once more, with its arguments, in a
// world of its own (see hack/world), where WORLD is in the environment, and returns how that
// has ended. There, script runs it, which sets up what tests need, if it is not empty: a
// path below the root of the module.
func InWorld(script string) (status int) {
	cmd, err := inWorld(script)
	if err == nil {
		err = cmd.Run()
	}
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return cmd.ProcessState.ExitCode()
}

func inWorld(script string) (*exec.Cmd, error) {
	program, err := filepath.Abs(os.Args[0])
	if err != nil {
		return nil, err
	}
	root, err := moduleRoot()
	if err != nil {
		return nil, err
	}
	args := append([]string{program}, os.Args[1:]...)
	if script != "" {
		args = append([]string{filepath.Join(root, script)}, args...)
	}
	cmd := exec.Command(filepath.Join(root, "hack/world"), args...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	return cmd, nil
}

// moduleRoot is the directory with go.mod.
func moduleRoot() (string, error) {
	dir, err := os.Getwd()
	for ; err == nil; dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
		if dir == "/" {
			err = errors.New("there is no go.mod")
		}
	}
	return "", err
}
