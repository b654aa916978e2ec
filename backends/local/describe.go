package local

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"regexp"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dvol/dvold/backends"
	"github.com/dvol/dvold/internal/host"
)

// descriptionsDir has a file for each description, named after the ID.
const (
	descriptionsDir   = "descriptions"
	descriptionSuffix = ".json"
)

// drafts begins the names, in work, of descriptions that are being written.
// Each draft has a name of its own, for another host may be writing one for the
// same volume. Nobody takes abandoned long to write one: what is older was left
// by a crash.
const (
	drafts    = "description-"
	abandoned = 24 * time.Hour
)

var idPattern = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_.-]{1,199}\.[0-9a-f]{12}$`)

// Describe keeps text with the volumes, in a file that only root can read.
func (p *Pool) Describe(ctx context.Context, id string, text []byte) error {
	if !idPattern.MatchString(id) {
		return fmt.Errorf("describe volume: %q is not the ID of a volume: %w", id, backends.ErrInvalid)
	}
	if err := p.describe(ctx, id+descriptionSuffix, text); err != nil {
		return fmt.Errorf("describe volume %s: %w", id, classify(err))
	}
	return nil
}

func (p *Pool) describe(ctx context.Context, name string, text []byte) error {
	if len(text) > backends.MaxDescription {
		return fmt.Errorf("%d bytes are more than %d: %w", len(text), backends.MaxDescription, backends.ErrInvalid)
	}
	root, err := p.open(ctx)
	if err != nil {
		return err
	}
	defer root.Close()
	if len(text) == 0 {
		return forget(root, name)
	}
	descriptions, work, err := makeDirs(root, descriptionsDir, 0o700)
	if err != nil {
		return err
	}
	defer descriptions.Close()
	defer work.Close()
	written, err := replace(work, descriptions, name, text)
	if err != nil {
		return err
	}
	if err := sweepDrafts(work, written.Add(-abandoned)); err != nil {
		p.log.Warn("a draft that a crash left was kept", "path", work.Name(), "err", err)
	}
	return cmp.Or(descriptions.Sync(), work.Sync())
}

// forget takes the description away, if there is one.
func forget(root *os.File, name string) error {
	descriptions, err := openDir(root, descriptionsDir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer descriptions.Close()
	return cmp.Or(unlink(descriptions, name, 0), descriptions.Sync())
}

// replace puts text into the file name of dir, at once and durably but for
// syncing directories, and returns when, by the clock of the file system.
func replace(work, dir *os.File, name string, text []byte) (time.Time, error) {
	draft := drafts + rand.Text()
	file, err := host.OpenWithin(work, draft, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL, 0o600)
	if err != nil {
		return time.Time{}, err
	}
	written, err := fill(file, text)
	if err = cmp.Or(err, file.Close()); err == nil {
		err = move(work, draft, dir, name)
	}
	if err != nil {
		_ = unlink(work, draft, 0) // else it is swept one day
		return time.Time{}, err
	}
	return written, nil
}

func fill(file *os.File, text []byte) (written time.Time, err error) {
	if err := file.Chmod(0o600); err != nil { // whatever the umask
		return time.Time{}, err
	}
	if _, err := file.Write(text); err != nil {
		return time.Time{}, err
	}
	info, err := file.Stat()
	if err != nil {
		return time.Time{}, err
	}
	return info.ModTime(), file.Sync()
}

// sweepDrafts removes the drafts that were written before.
func sweepDrafts(work *os.File, before time.Time) error {
	return eachName(work, func(name string) error {
		if !strings.HasPrefix(name, drafts) {
			return nil
		}
		var st unix.Stat_t
		err := unix.Fstatat(int(work.Fd()), name, &st, unix.AT_SYMLINK_NOFOLLOW)
		if err != nil || st.Mode&unix.S_IFMT != unix.S_IFREG || !time.Unix(st.Mtim.Unix()).Before(before) {
			return nil // finished meanwhile, foreign or young
		}
		return unlink(work, name, 0)
	})
}

// Descriptions reads all. Files that Describe can't have made are left out.
func (p *Pool) Descriptions(ctx context.Context) (map[string][]byte, error) {
	texts, err := p.descriptions(ctx)
	if err != nil {
		return texts, fmt.Errorf("read descriptions: %w", err)
	}
	return texts, nil
}

func (p *Pool) descriptions(ctx context.Context) (map[string][]byte, error) {
	root, err := p.open(ctx)
	if err != nil {
		return nil, classify(err)
	}
	defer root.Close()
	dir, err := openDir(root, descriptionsDir)
	if errors.Is(err, fs.ErrNotExist) {
		return map[string][]byte{}, nil
	}
	if err != nil {
		return nil, classify(err)
	}
	defer dir.Close()
	texts := make(map[string][]byte)
	var unreadable []error
	err = eachName(dir, func(name string) error {
		id, ok := strings.CutSuffix(name, descriptionSuffix)
		if !ok || !idPattern.MatchString(id) {
			return nil
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		text, err := read(dir, name)
		switch {
		case errors.Is(err, fs.ErrNotExist): // taken away meanwhile
		case err != nil:
			unreadable = append(unreadable, classify(err))
		default:
			texts[id] = text
		}
		return nil
	})
	if err != nil {
		return nil, classify(err)
	}
	return texts, errors.Join(unreadable...)
}

// read returns what is in the file name of dir.
func read(dir *os.File, name string) ([]byte, error) {
	// Whatever was planted there, opening it must not wait.
	file, err := host.OpenWithin(dir, name, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a file", file.Name())
	}
	var text bytes.Buffer
	if _, err := text.ReadFrom(io.LimitReader(file, backends.MaxDescription+1)); err != nil {
		return nil, err
	}
	if text.Len() == 0 || text.Len() > backends.MaxDescription {
		return nil, fmt.Errorf("%s has %d bytes: want 1 to %d", file.Name(), info.Size(), backends.MaxDescription)
	}
	return text.Bytes(), nil
}

// eachName calls f with the name of each entry of dir, until that fails.
func eachName(dir *os.File, f func(name string) error) error {
	for {
		names, err := dir.Readdirnames(batch)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		for _, name := range names {
			if err := f(name); err != nil {
				return err
			}
		}
	}
}
