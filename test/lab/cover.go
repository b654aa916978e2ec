package lab

import (
	"errors"
	"fmt"
	"os"
)

// hide gives the machine, which is down, directories of its own, empty at first,
// in place of this machine's.
func (m *Machine) hide(dirs ...string) error {
	for _, dir := range dirs {
		if err := os.MkdirAll(m.Path(dir), 0o755); err != nil {
			return err
		}
		if err := m.cover(dir); err != nil {
			return err
		}
	}
	return nil
}

// cover has the machine, from its next boot on, see a file of its disk in place
// of this machine's that has the same path.
func (m *Machine) cover(path string) error {
	f, err := os.OpenFile(m.Path("mounts"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(f, m.Path(path), path, "none", "bind")
	return errors.Join(err, f.Close())
}
