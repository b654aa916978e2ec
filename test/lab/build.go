package lab

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// BuildDvold builds dvold in dir, with the race detector, or static as it is
// shipped, and returns the path of the binary.
func BuildDvold(dir string, race bool) (string, error) {
	binary := filepath.Join(dir, "dvold")
	args := []string{"build", "-o", binary}
	env := os.Environ()
	if race {
		args = append(args, "-race")
	} else {
		env = append(env, "CGO_ENABLED=0")
	}
	cmd := exec.Command("go", append(args, "github.com/dvol/dvold/cmd/dvold")...)
	cmd.Env = env
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build dvold: %w: %s", err, out)
	}
	return binary, nil
}
