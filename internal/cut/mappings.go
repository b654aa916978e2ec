package cut

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"

	"github.com/dvol/dvold/internal/hang"
)

// mappingsPatience is how long the mappings of a process may take to be read.
const mappingsPatience = 200 * time.Millisecond

// mappings looks at the files that the process has mapped.
//
// A process that hangs on a dead storage while its mappings are changed may not
// show them (before Linux 6.17). Then it counts as one without: if they are of
// the volume, its mount can't be taken away, which is noticed. The alternative
// would be that one dead storage keeps all volumes of a host from being cut.
func (e *examination) mappings(ctx context.Context, t thread) error {
	text, err := e.readMappings(ctx, t)
	if errors.Is(err, hang.ErrHangs) {
		return ctx.Err()
	}
	if err != nil {
		return err
	}
	for _, target := range e.targets {
		var before mapping
		device := fmt.Appendf(nil, " %02x:%02x ", target.major, target.minor)
		for rest := text; ; {
			var line []byte
			if line, rest = lineWith(rest, device); line == nil {
				break
			}
			m := parseMapping(line)
			// Most are of text and data of programs, several for each.
			same := m.shared == before.shared && m.path == before.path
			if same || !m.shared && !e.near(m.path) {
				continue
			}
			before = m
			if err := e.mapping(ctx, t, m); err != nil && !vanished(err) || e.why != "" {
				return err
			}
		}
	}
	return nil
}

// readMappings reads /proc/PID/maps, for which the kernel may wait for the
// process.
func (e *examination) readMappings(ctx context.Context, t thread) ([]byte, error) {
	fd, err := unix.Openat(int(t.dir), "maps", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: "maps", Err: err}
	}
	ctx, cancel := context.WithTimeout(ctx, mappingsPatience)
	defer cancel()
	key := fmt.Sprintf("read the mappings of process %d of %d", e.pid, e.start)
	text, err := hang.Call(ctx, &e.c.calls, key, func() ([]byte, error) {
		defer unix.Close(fd)
		return readAll(fd)
	}, nil)
	if errors.Is(err, hang.ErrStillHangs) {
		unix.Close(fd)
	}
	return text, err
}

// mapping looks at one of the files.
func (e *examination) mapping(ctx context.Context, t thread, m mapping) error {
	f := file{link: "map_files/" + m.addresses, writes: m.shared}
	var err error
	if f.path, err = e.dir.link(f.link); err == nil {
		f.mount, err = e.mountOf(e.dir, f.link, f.path)
	}
	if vanished(err) { // as in a process whose first thread has ended
		f.path = m.path
		f.mount, err = e.mountAbove(t, m.path)
	}
	if err != nil || f.mount == 0 {
		return err
	}
	return e.check(ctx, thread{dir: e.dir}, f, "has %s mapped")
}

// mountAbove returns the number of the mount of a target's file system which a
// path of a thread leads through, or 0.
func (e *examination) mountAbove(t thread, path string) (int, error) {
	s, err := e.space(t.dir, "ns/mnt", e.pid)
	if err != nil {
		return 0, err
	}
	best := &mountinfo.Info{}
	for _, m := range e.mounts {
		if m.space == s.name && within(path, m.Mountpoint) && len(m.Mountpoint) > len(best.Mountpoint) {
			best = m.Info
		}
	}
	return best.ID, nil
}

// mapping is a line of /proc/PID/maps; see proc(5).
type mapping struct {
	shared    bool
	path      string
	addresses string // as in the names of /proc/PID/map_files
}

func parseMapping(line []byte) (m mapping) {
	fields := strings.SplitN(strings.TrimSuffix(string(line), "\n"), " ", 6)
	if len(fields) < 6 {
		return mapping{}
	}
	begin, end, _ := strings.Cut(fields[0], "-")
	m.addresses = strings.TrimLeft(begin, "0") + "-" + strings.TrimLeft(end, "0")
	m.shared = strings.HasSuffix(fields[1], "s")
	m.path = strings.TrimLeft(fields[5], " ")
	return m
}

// lineWith returns the first line that has a word, nil if none has, and what
// follows it.
func lineWith(text, word []byte) (line, rest []byte) {
	at := bytes.Index(text, word)
	if at < 0 {
		return nil, nil
	}
	begin := bytes.LastIndexByte(text[:at], '\n') + 1
	end := len(text)
	if n := bytes.IndexByte(text[at:], '\n'); n >= 0 {
		end = at + n + 1
	}
	return text[begin:end], text[end:]
}
