package cut

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/dvol/dvold/internal/host"
)

// holder is a process that can write to a target.
type holder struct {
	host.Process
	command   string
	why       string
	space     string // the mount namespace, by name, if that is why
	protected bool   // it is not killed
}

func (h holder) String() string {
	return fmt.Sprintf("process %d (%s), which %s", h.PID, h.command, h.why)
}

// holders calls fn for each process that can write to a target, as it is found,
// with its directory. Such is one that has something of the target, or serves
// its file system, or lives in a mount namespace that has the volume mounted
// for it.
func (l *look) holders(ctx context.Context, fn func(holder, dir) error) error {
	return eachProcess(ctx, func(p *process) error {
		e := examination{look: l, process: p, protected: l.trusted(p)}
		if err := e.examine(ctx); err != nil {
			return err
		}
		who := p.identity()
		if e.why == "" && e.perhaps != "" {
			return fn(holder{who, p.command, e.perhaps, "", e.protected || !l.counts(ctx, who)}, p.dir)
		}
		delete(l.unknown, who)
		if e.why == "" {
			return nil
		}
		return fn(holder{who, p.command, e.why, e.via, e.protected}, p.dir)
	})
}

// unknownPatience is for how long, at most, the storage may not say whether a process can
// write to the volume: it may only be slow.
const unknownPatience = 3 * time.Second

// counts tells whether a process that can't be told from a writer counts as one by now,
// lest one is overlooked: it has been so for a while, or for half of the time that was left.
func (r *run) counts(ctx context.Context, p host.Process) bool {
	from, ok := r.unknown[p]
	if !ok {
		wait := unknownPatience
		if end, ok := ctx.Deadline(); ok {
			wait = min(wait, time.Until(end)/2)
		}
		r.unknown[p] = time.Now().Add(wait)
		return false
	}
	return time.Now().After(from)
}

// trusted tells whether p is the first process, this one, or one that the
// cutter was given.
func (l *look) trusted(p *process) bool {
	return p.pid == 1 || p.pid == os.Getpid() || slices.Contains(l.c.Protect, p.identity())
}

// engine tells whether a program is one of those that make containers and mount
// volumes. They must not die for a container's sake.
func engine(path string) bool {
	// So it is called if it was upgraded since it was started.
	name := filepath.Base(strings.TrimSuffix(path, deleted))
	switch name {
	case "dockerd", "containerd", "docker-proxy", "dvold":
		return true
	}
	return strings.HasPrefix(name, "containerd-shim") || strings.HasPrefix(name, "systemd")
}

// examination is that of one process.
type examination struct {
	*look
	*process
	protected bool
	why       string // it can write to a target; "" if it can't
	perhaps   string // why it may be able to, if that can't be told
	via       string // the mount namespace, by name, if that is why
}

// examine settles why the process can write, and whether it is protected.
func (e *examination) examine(ctx context.Context) error {
	if e.serving[e.identity()] {
		e.why = "serves the file system"
		return nil
	}
	first := true
	return e.eachThread(func(t thread) error {
		checks := []func(context.Context, thread) error{e.namespace, e.places, e.descriptors}
		switch {
		case !t.files:
			checks = checks[:2]
		case !t.paths:
			checks = checks[2:]
		}
		if first { // what threads share, and who the process is
			checks = slices.Concat([]func(context.Context, thread) error{e.program}, checks, []func(context.Context, thread) error{e.mappings})
			first = false
		}
		for _, check := range checks {
			if e.why != "" {
				return nil
			}
			if err := check(ctx, t); err != nil {
				return err
			}
		}
		return nil
	})
}

// program settles who the process is, by the program it runs and the namespace
// it lives in: in a container, which may run what it likes, a program's name
// protects nobody.
func (e *examination) program(_ context.Context, t thread) error {
	path, err := t.dir.link("exe")
	if err != nil && !vanished(err) { // else the process is about to end
		return err
	}
	if e.protected || !engine(path) {
		return nil
	}
	s, err := e.space(t.dir, "ns/mnt", e.pid)
	e.protected = err == nil && s.victim == ""
	return err
}

// namespace looks at the mount namespace of a thread. Our own threads only
// visit others.
func (e *examination) namespace(_ context.Context, t thread) error {
	s, err := e.space(t.dir, "ns/mnt", e.pid)
	if err != nil || s.victim == "" || e.pid == os.Getpid() {
		return err
	}
	e.why, e.via = s.victim, s.name
	return nil
}

// places looks at the directories and at the program of a thread.
func (e *examination) places(ctx context.Context, t thread) error {
	for _, place := range [...]struct {
		link, verb string
		writes     bool
	}{
		{"cwd", "works in", true},
		{"root", "has as its root directory", true},
		{"exe", "runs", false},
	} {
		f, err := e.follow(t, place.link, place.writes)
		if err == nil && f.mount != 0 {
			err = e.check(ctx, t, f, place.verb+" %s")
		}
		if err != nil || e.why != "" {
			return err
		}
	}
	return nil
}

// follow returns what one of the links of /proc leads to, or the zero file if
// it leads nowhere any more, or to where it does not matter.
func (e *examination) follow(t thread, link string, writes bool) (file, error) {
	path, err := t.dir.link(link)
	if err == nil && (writes || e.near(path)) {
		var mount int
		if mount, err = e.mountOf(t.dir, link, path); err == nil {
			return file{link: link, path: path, mount: mount, writes: writes}, nil
		}
	}
	if vanished(err) {
		err = nil
	}
	return file{}, err
}

// mountOf returns the number of the mount that a link leads to, whose path that
// is, or 0 if that can't be told and does not matter: a storage that is dead may
// let nobody even point at its files.
func (e *examination) mountOf(d dir, link, path string) (int, error) {
	mount, err := d.mount(link)
	if err != nil && !vanished(err) && !e.near(path) {
		return 0, nil
	}
	return mount, err
}
