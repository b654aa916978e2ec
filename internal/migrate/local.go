package migrate

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/dvol/dvold/internal/host"
	"github.com/dvol/dvold/internal/volumes"
)

// dataDir is where a volume of the local driver has its data.
const dataDir = "_data"

// readDir opens a directory to be read without a trace in its access time.
const readDir = unix.O_RDONLY | unix.O_DIRECTORY | unix.O_NOATIME

var anonymous = regexp.MustCompile(`^[0-9a-f]{64}$`)

// isAnonymous tells names that Docker made up.
func isAnonymous(name string) bool { return anonymous.MatchString(name) }

func localPath(dockerRoot, name string) string {
	return filepath.Join(dockerRoot, "volumes", name, dataDir)
}

// localNames lists the volumes of the local driver.
func localNames(dockerRoot string) ([]string, error) {
	entries, err := os.ReadDir(filepath.Join(dockerRoot, "volumes"))
	if err != nil {
		return nil, fmt.Errorf("volumes of Docker's local driver: %w (is %s its data root?)", err, dockerRoot)
	}
	var names []string
	for _, e := range entries {
		if e.IsDir() {
			names = append(names, e.Name())
		}
	}
	slices.Sort(names)
	return names, nil
}

// openLocal opens the data of a volume of the local driver, once that is known
// to be all of the volume.
func openLocal(dockerRoot, name string) (*os.File, error) {
	dir, err := openVolume(dockerRoot, name)
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	data, err := openPlain(dir, dataDir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s is missing (if a --move was interrupted, repeat it, with the same --pool): %w", dir.Name()+"/"+dataDir, volumes.ErrNotFound)
	}
	return data, err
}

// openPlain opens a directory in dir. It returns ErrInvalid for what only leads to one.
func openPlain(dir *os.File, name string) (*os.File, error) {
	f, err := host.OpenWithin(dir, name, readDir, 0)
	switch {
	case errors.Is(err, unix.EXDEV):
		return nil, fmt.Errorf("%s/%s is a mountpoint: unmount it first: %w", dir.Name(), name, volumes.ErrInvalid)
	case errors.Is(err, unix.ELOOP), errors.Is(err, unix.ENOTDIR):
		return nil, fmt.Errorf("%s/%s is not a plain directory: %w", dir.Name(), name, volumes.ErrInvalid)
	}
	return f, err
}

// openVolume opens the directory that Docker keeps the volume in.
func openVolume(dockerRoot, name string) (*os.File, error) {
	if !filepath.IsAbs(dockerRoot) {
		return nil, fmt.Errorf("data root of Docker %q is not an absolute path: %w", dockerRoot, volumes.ErrInvalid)
	}
	if filepath.Base(name) != name || !filepath.IsLocal(name) || name == "." {
		return nil, fmt.Errorf("no name of a volume of Docker's local driver: %w", volumes.ErrInvalid)
	}
	all, err := os.OpenFile(filepath.Join(dockerRoot, "volumes"), readDir, 0)
	if err != nil {
		return nil, fmt.Errorf("volumes of Docker's local driver: %w (is %s its data root?)", err, dockerRoot)
	}
	defer all.Close()
	dir, err := openPlain(all, name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("not among the volumes of Docker's local driver in %s: %w", all.Name(), volumes.ErrNotFound)
	}
	if err != nil {
		return nil, err
	}
	if err := checkPlain(dir); err != nil {
		dir.Close()
		return nil, err
	}
	return dir, nil
}

// localOptions is what the local driver keeps of a volume's options, in
// opts.json; moby volume/local/local_unix.go.
type localOptions struct {
	MountType, MountOpts, MountDevice string
	Quota                             struct{ Size uint64 }
}

// checkPlain returns ErrInvalid for a volume whose options say that its data
// lies elsewhere, or is limited.
func checkPlain(dir *os.File) error {
	f, err := host.OpenWithin(dir, "opts.json", unix.O_RDONLY, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	var o localOptions
	if err := json.NewDecoder(f).Decode(&o); err != nil {
		return fmt.Errorf("read %s: %w: %w", f.Name(), err, volumes.ErrInvalid)
	}
	switch {
	case o.MountType != "" || o.MountDevice != "":
		return fmt.Errorf("its data is not in Docker's directory, for Docker mounts it (type %q, device %q, see %s): %w",
			o.MountType, o.MountDevice, f.Name(), volumes.ErrInvalid)
	case o != localOptions{}:
		return fmt.Errorf("it has options that dvol can't keep (o=%q, size %d, see %s): %w", o.MountOpts, o.Quota.Size, f.Name(), volumes.ErrInvalid)
	}
	return nil
}
