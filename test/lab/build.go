package lab

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// BuildDvold builds dvold in dir, with the race detector, or static as it is
// shipped, and returns the path of the binary.
func BuildDvold(dir string, race bool) (string, error) {
	if race {
		return build(dir, "cmd/dvold", nil, "-race")
	}
	return build(dir, "cmd/dvold", static)
}

// BuildDvoldWithCeph is BuildDvold for hosts that have Ceph's libraries.
func BuildDvoldWithCeph(dir string) (string, error) {
	root, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", module).Output()
	if err != nil {
		return "", fmt.Errorf("build dvold: where is its source? %w", err)
	}
	tags, err := exec.Command(filepath.Join(strings.TrimSpace(string(root)), "hack/ceph-tags")).Output()
	if err != nil {
		return "", fmt.Errorf("build dvold: which libraries of Ceph are there? %w", err)
	}
	if len(tags) == 0 {
		return "", errors.New("build dvold: there are no libraries of Ceph, or there is no C compiler")
	}
	return build(dir, "cmd/dvold", nil, "-tags", strings.TrimSpace(string(tags)))
}

// BuildBeat builds the command beat in dir, static, and returns the path of the
// binary.
func BuildBeat(dir string) (string, error) { return BuildStatic(dir, "test/lab/cmd/beat") }

// BuildStatic builds a command of this module in dir, for containers, and returns
// the path of the binary.
func BuildStatic(dir, command string) (string, error) { return build(dir, command, static) }

// BuildDrill builds the command drill in dir, static, and returns the path of the
// binary.
func BuildDrill(dir string) (string, error) { return build(dir, "test/drill", static) }

// module is this one.
const module = "github.com/dvol/dvold"

// static has no C in a binary.
var static = []string{"CGO_ENABLED=0"}

// build builds a command of this module.
func build(dir, command string, env []string, flags ...string) (string, error) {
	binary := filepath.Join(dir, filepath.Base(command))
	cmd := exec.Command("go", slices.Concat([]string{"build", "-o", binary}, flags, []string{module + "/" + command})...)
	cmd.Env = append(os.Environ(), env...)
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build %s: %w: %s", filepath.Base(command), err, out)
	}
	return binary, nil
}
