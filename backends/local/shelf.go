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

// shelf is a directory of the pool with a text for each of some volumes, in a
// file that is named after the ID and that only root can read.
//
// Texts that are being written lie in work, by names that begin with drafts.
// Each draft has a name of its own, for another host may be writing one for the
// same volume.
type shelf struct{ dir, suffix, drafts string }

// abandoned is how old a draft is that was left by a crash: nobody takes so
// long to write one.
const abandoned = 24 * time.Hour

var idPattern = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_.-]{1,199}\.[0-9a-f]{12}$`)

// file returns the name of the file for the volume.
func (s shelf) file(id string) (string, error) {
	if !idPattern.MatchString(id) {
		return "", fmt.Errorf("that is not the ID of a volume: %w", backends.ErrInvalid)
	}
	return id + s.suffix, nil
}

// id returns the volume that the file name is for.
func (s shelf) id(name string) (id string, ok bool) {
	id, ok = strings.CutSuffix(name, s.suffix)
	return id, ok && idPattern.MatchString(id)
}

// put puts text on the shelf in place of what was there, at once and durably.
// Empty text takes that away.
func (p *Pool) put(ctx context.Context, s shelf, id string, text []byte) error {
	name, err := s.file(id)
	if err != nil {
		return err
	}
	if len(text) > backends.MaxDescription {
		return fmt.Errorf("%d bytes are more than %d: %w", len(text), backends.MaxDescription, backends.ErrInvalid)
	}
	root, err := p.open(ctx)
	if err != nil {
		return err
	}
	defer root.Close()
	if len(text) == 0 {
		return s.takeAway(root, name)
	}
	dir, work, err := makeDirs(root, s.dir, 0o700)
	if err != nil {
		return err
	}
	defer dir.Close()
	defer work.Close()
	written, err := s.replace(work, dir, name, text)
	if err != nil {
		return err
	}
	if err := s.sweep(work, written.Add(-abandoned)); err != nil {
		p.log.Warn("a draft that a crash left was kept", "path", work.Name(), "err", err)
	}
	return cmp.Or(dir.Sync(), work.Sync())
}

// makeDirs makes and opens the directory name of the pool, and the one in which
// what is to lie there is made, if they are missing, durably in any case: an
// earlier call may have been cut short anywhere.
func makeDirs(root *os.File, name string, mode fs.FileMode) (dir, work *os.File, err error) {
	if dir, err = makeDir(root, name, mode); err != nil {
		return nil, nil, err
	}
	if work, err = makeDir(root, workDir, 0o700); err != nil {
		dir.Close()
		return nil, nil, err
	}
	if err := root.Sync(); err != nil {
		dir.Close()
		work.Close()
		return nil, nil, err
	}
	return dir, work, nil
}

// takeAway removes the file name, if there is one.
func (s shelf) takeAway(root *os.File, name string) error {
	dir, err := openDir(root, s.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer dir.Close()
	return cmp.Or(unlink(dir, name, 0), dir.Sync())
}

// replace puts text into the file name of dir, at once and durably but for
// syncing directories, and returns when, by the clock of the file system.
func (s shelf) replace(work, dir *os.File, name string, text []byte) (time.Time, error) {
	draft := s.drafts + rand.Text()
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

// sweep removes the drafts that were written before.
func (s shelf) sweep(work *os.File, before time.Time) error {
	return eachName(work, func(name string) error {
		if !strings.HasPrefix(name, s.drafts) {
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

// get returns the text on the shelf, or nil if there is none.
func (p *Pool) get(ctx context.Context, s shelf, id string) ([]byte, error) {
	name, err := s.file(id)
	if err != nil {
		return nil, err
	}
	root, err := p.open(ctx)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	dir, err := openDir(root, s.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	text, err := readCurrent(dir, name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return text, err
}

// all returns all texts on the shelf by ID. Files that put can't have made are
// left out; texts that can't be read are joined to the error.
func (p *Pool) all(ctx context.Context, s shelf) (map[string][]byte, error) {
	root, err := p.open(ctx)
	if err != nil {
		return nil, classify(err)
	}
	defer root.Close()
	dir, err := openDir(root, s.dir)
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
		id, ok := s.id(name)
		if !ok {
			return nil
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		text, err := readCurrent(dir, name)
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

// readCurrent is read for a file that another host may be replacing. A client of
// a network file system may for a second know it by what it was before: gone,
// which is ESTALE, or missing though the name is there, or still empty.
func readCurrent(dir *os.File, name string) ([]byte, error) {
	missing := 0
	for range replacingTries {
		text, err := read(dir, name)
		if err == nil || !isAny(err, unix.ESTALE, fs.ErrNotExist, errEmpty) {
			return text, err
		}
		// By its path, and not from what is known already: where that turns out to
		// be stale, the kernel asks for the name again; see retry_estale in Linux.
		var st unix.Statx_t
		now := unix.Statx(int(dir.Fd()), name, unix.AT_SYMLINK_NOFOLLOW|unix.AT_STATX_FORCE_SYNC, unix.STATX_SIZE, &st)
		switch {
		case errors.Is(err, fs.ErrNotExist) && errors.Is(now, unix.ENOENT):
			if missing++; missing == missingTries {
				return nil, err
			}
		case errors.Is(err, errEmpty) && now == nil && st.Size == 0:
			return nil, err
		}
		time.Sleep(replacingPause)
	}
	return read(dir, name)
}

// How often, and after what pause, a file is read again that seems to be replaced
// just now; and how often a file must be missing to be taken for it, as one is
// between two steps of a rename that a replicated volume does one by one.
const (
	replacingTries = 200
	replacingPause = 10 * time.Millisecond
	missingTries   = 3
)

// errEmpty means that a file has nothing in it, which put never leaves.
var errEmpty = errors.New("it is empty")

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
	if text.Len() > backends.MaxDescription {
		return nil, fmt.Errorf("%s has %d bytes: want 1 to %d", file.Name(), info.Size(), backends.MaxDescription)
	}
	if text.Len() == 0 {
		return nil, fmt.Errorf("%s: %w", file.Name(), errEmpty)
	}
	// A client that knew another size a moment ago ends there.
	var st unix.Statx_t
	if err := unix.Statx(int(file.Fd()), "", unix.AT_EMPTY_PATH|unix.AT_STATX_FORCE_SYNC, unix.STATX_SIZE, &st); err != nil {
		return nil, &os.PathError{Op: "statx", Path: file.Name(), Err: err}
	}
	if st.Size != uint64(text.Len()) {
		return nil, fmt.Errorf("%s: %w", file.Name(), unix.ESTALE)
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
