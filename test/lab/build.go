package lab

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// BuildDvold builds dvold in dir, with the race detector, or static as it is
// shipped, and returns the path of the binary.
func BuildDvold(dir string, race bool) (string, error) { return build(dir, "cmd/dvold", race) }

// BuildBeat builds the command beat in dir, static, and returns the path of the
// binary.
func BuildBeat(dir string) (string, error) { return build(dir, "test/lab/cmd/beat", false) }

// build builds a command of this module.
func build(dir, command string, race bool) (string, error) {
	binary := filepath.Join(dir, filepath.Base(command))
	args := []string{"build", "-o", binary}
	env := os.Environ()
	if race {
		args = append(args, "-race")
	} else {
		env = append(env, "CGO_ENABLED=0")
	}
	cmd := exec.Command("go", append(args, "github.com/dvol/dvold/"+command)...)
	cmd.Env = env
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build %s: %w: %s", filepath.Base(command), err, out)
	}
	return binary, nil
}
