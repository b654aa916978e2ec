package cephfs

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/dvol/dvold/backends"
	"github.com/dvol/dvold/internal/host"
)

// subvolume is what there is of one.
type subvolume struct {
	dir  *os.File // with .meta and the data
	done bool     // dvold has made it, and finished it
	// uuid is the directory of the data, or "" if why says why there is none.
	uuid string
	why  error
}

// metaFile is what the manager has written down of a sub-volume, as its last step.
const metaFile = ".meta"

// madeAttr is an attribute of the directory of a sub-volume that dvold has made, where no
// container sees it. It is set as the last step.
const madeAttr = "user.dvol.made"

// errUnfinished means that the manager was cut short, or is at work.
var errUnfinished = fmt.Errorf("the manager has not finished the sub-volume, or it is one of the old kind: it has no %s", metaFile)

// inspect returns the sub-volume whose directory dir is, at that path in the file system.
func inspect(dir *os.File, at string) (*subvolume, error) {
	s := &subvolume{dir: dir}
	switch _, err := unix.Fgetxattr(int(dir.Fd()), madeAttr, make([]byte, 64)); {
	case err == nil:
		s.done = true
	case !errors.Is(err, unix.ENODATA):
		return nil, &os.PathError{Op: "getxattr " + madeAttr, Path: dir.Name(), Err: err}
	}
	text, err := readMeta(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		s.why = errUnfinished
	case err != nil:
		return nil, err
	default:
		s.uuid, s.why = parseMeta(text, at)
	}
	return s, nil
}

func (s *subvolume) close() { s.dir.Close() }

// check returns an error unless the sub-volume is complete, and ErrNotFound if it was
// never finished, or is no more. One that dvold makes is not until it has done its part.
func (s *subvolume) check(made bool) error {
	switch {
	case made && !s.done:
		return fmt.Errorf("it is not finished: %w", backends.ErrNotFound)
	case errors.Is(s.why, errUnfinished) && made:
		return fmt.Errorf("%w: %w", s.why, backends.ErrUnavailable)
	case errors.Is(s.why, errUnfinished):
		return fmt.Errorf("%w: %w", s.why, backends.ErrInvalid)
	}
	return s.why
}

// openData opens the directory of the data.
func (s *subvolume) openData() (*os.File, error) {
	if s.why != nil {
		return nil, s.why
	}
	return host.OpenWithin(s.dir, s.uuid, unix.O_RDONLY|unix.O_DIRECTORY, 0)
}

// maxMeta is more than the manager writes, with what users may add.
const maxMeta = 1 << 20

func readMeta(dir *os.File) ([]byte, error) {
	file, err := host.OpenWithin(dir, metaFile, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	return io.ReadAll(io.LimitReader(file, maxMeta))
}

// parseMeta returns the name of the directory with the data of the sub-volume at that
// path, by what the manager wrote with Python's configparser (metadata_manager.py).
func parseMeta(text []byte, at string) (uuid string, err error) {
	values := make(map[string]string)
	global := false
	for lines := bufio.NewScanner(bytes.NewReader(text)); lines.Scan(); {
		line := lines.Text()
		if strings.HasPrefix(line, "[") {
			global = line == "[GLOBAL]"
		} else if key, value, ok := strings.Cut(line, " = "); ok && global {
			values[key] = value
		}
	}
	switch state := values["state"]; state {
	case "complete":
	case "snapshot-retained":
		return "", fmt.Errorf("it was removed, but for its snapshots (ceph fs subvolume snapshot ls): %w", backends.ErrNotFound)
	default:
		return "", fmt.Errorf("the manager says that it is %q (ceph fs subvolume info, ceph fs clone status): %w", state, backends.ErrUnavailable)
	}
	dir, uuid := path.Split(values["path"])
	if path.Clean(dir) != at || uuid == "" || uuid == "." || uuid == ".." {
		return "", fmt.Errorf("the manager says that its data is at %q, which is not in %s: %w", values["path"], at, backends.ErrUnavailable)
	}
	return uuid, nil
}

// checkEmpty returns an error if there is anything in a sub-volume that is not finished
// but what the manager itself puts there.
func (s *subvolume) checkEmpty() error {
	names, err := names(s.dir)
	if err != nil {
		return err
	}
	for _, name := range names {
		if name == metaFile || name == metaFile+".tmp" {
			continue
		}
		dir, err := host.OpenWithin(s.dir, name, unix.O_RDONLY|unix.O_DIRECTORY, 0)
		if errors.Is(err, unix.ENOTDIR) {
			return s.notOurs(name)
		}
		if err != nil {
			return err
		}
		below, err := namesIn(dir)
		if err != nil {
			return err
		}
		if len(below) > 0 {
			return s.notOurs(path.Join(name, below[0]))
		}
	}
	return nil
}

func (s *subvolume) notOurs(name string) error {
	return fmt.Errorf("sub-volume %s has contents that dvold did not put there, as %s: see what it is; rename or remove it: %w", path.Base(s.dir.Name()), name, backends.ErrUnavailable)
}

// names are those of what is in a directory.
func names(dir *os.File) ([]string, error) {
	if _, err := dir.Seek(0, io.SeekStart); err != nil {
		return nil, err
	}
	return dir.Readdirnames(-1)
}

// namesIn is names, and closes the directory.
func namesIn(dir *os.File) ([]string, error) {
	defer dir.Close()
	return names(dir)
}
