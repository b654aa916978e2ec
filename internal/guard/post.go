package guard

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dvol/dvold/internal/host"
)

// post is the guard's place in the directory of a book: its lock, and the file
// in which it tells dvold that it is there and what it did.
type post struct {
	dir        string
	boot       string
	namespaces []string
	lock       *os.File
	log        *slog.Logger

	changes int           // of the watcher, as published last
	beat    time.Duration // published last
	lost    bool          // the lock, as far as is known
	mute    bool          // the file can't be written
}

// hold waits for the post, and returns nil if ctx ends first.
func hold(ctx context.Context, dir string, log *slog.Logger) (*post, error) {
	boot, err := host.BootID()
	if err != nil {
		return nil, err
	}
	seen, err := namespaces()
	if err != nil {
		return nil, err
	}
	p := &post{dir: dir, boot: boot, namespaces: seen, log: log}
	for waiting := false; ; waiting = true {
		if p.lock, err = take(dir); err != nil {
			return nil, fmt.Errorf("lock the guard's directory %s: %w", dir, err)
		}
		if p.lock != nil {
			return p, nil
		}
		if !waiting {
			log.Info("another guard is there: this one waits for its end", "dir", dir)
		}
		select {
		case <-ctx.Done():
			return nil, nil
		case <-time.After(tick):
		}
	}
}

// take returns the lock of dir, or nil if another process has it.
func take(dir string) (*os.File, error) {
	if err := makeDir(dir); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(filepath.Join(dir, lockFile), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if err == nil && current(f) {
		return f, nil
	}
	if errors.Is(err, unix.EWOULDBLOCK) {
		err = nil
	}
	return nil, errors.Join(err, f.Close())
}

// current tells whether f still is the file at its path.
func current(f *os.File) bool {
	ours, err := f.Stat()
	if err != nil {
		return false
	}
	there, err := os.Stat(f.Name())
	return err == nil && os.SameFile(ours, there)
}

// keep sees to it that the post is still held, also after somebody has emptied
// the directory, and tells whether it is.
func (p *post) keep() bool {
	if current(p.lock) {
		return true
	}
	if !p.lost {
		p.log.Error("somebody removed the guard's lock", "dir", p.dir)
		p.lost = true
	}
	again, err := take(p.dir)
	if err != nil || again == nil {
		return false
	}
	_ = p.lock.Close() // of a file that is gone
	p.lock, p.lost, p.beat = again, false, 0
	return true
}

// left returns what an earlier guard had done.
func (p *post) left() map[string]Outcome {
	f, err := readOutcomes(p.dir, p.boot)
	if err != nil {
		p.log.Warn("what an earlier guard did can't be read", "err", err)
	}
	return f.Outcomes
}

// publish tells dvold what w has done, as soon as that changes, and in any case
// that the guard is there.
func (p *post) publish(now time.Duration, w *watcher) {
	if p.beat != 0 && now-p.beat < beatEvery && p.changes == w.changes {
		return
	}
	text, err := json.Marshal(outcomes{
		Schema: schema, Boot: p.boot, PID: os.Getpid(), Namespaces: p.namespaces, Beat: now, Outcomes: w.outcomes(),
	})
	if err == nil {
		err = write(p.dir, outcomesFile, append(text, '\n'))
	}
	if err != nil && !p.mute {
		p.log.Error("dvold can't be told what the guard does", "err", err)
	}
	if p.mute = err != nil; !p.mute {
		p.beat, p.changes = now, w.changes
	}
}

func (p *post) close() { _ = p.lock.Close() } // unlocks
