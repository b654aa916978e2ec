package cut

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dvol/dvold/internal/hang"
	"github.com/dvol/dvold/internal/host"
)

// loopPatience is how long a loop device may take to say what it shows.
const loopPatience = 200 * time.Millisecond

// loops returns the files that loop devices show, by the devices' names. The
// kernel has the paths at hand: a device may hang.
func loops() (map[string]string, error) {
	found := make(map[string]string)
	devices, err := filepath.Glob("/sys/block/loop*")
	if err != nil {
		return nil, err
	}
	for _, device := range devices {
		if file, err := host.BackingFile(device); err == nil { // else it shows none
			found[filepath.Base(device)] = file
		}
	}
	return found, nil
}

// suspect takes down which of the loop devices show a file of a target. The
// kernel writes it for them, whatever has become of who made them; so the paths
// are those of before anybody was killed, while there are mounts to tell them
// by.
func (r *run) suspect(ctx context.Context, l *look, devices map[string]string) {
	for name, path := range devices {
		if r.loops[name] == path {
			continue
		}
		for _, m := range l.mounts {
			in, _ := l.inside(file{path: path, mount: m.ID})
			if in && within(path, m.Mountpoint) && r.shows(ctx, name) {
				r.loops[name] = path
			}
		}
	}
}

// shows tells whether a loop device shows a file of a target's file system. One
// that does not say so in time may.
func (r *run) shows(ctx context.Context, name string) bool {
	ctx, cancel := context.WithTimeout(ctx, loopPatience)
	defer cancel()
	device, err := hang.Call(ctx, &r.c.calls, "ask loop device "+name, func() (uint64, error) {
		fd, err := unix.Open("/dev/"+name, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
		if err != nil {
			return 0, err
		}
		defer unix.Close(fd)
		info, err := unix.IoctlLoopGetStatus64(fd)
		if err != nil {
			return 0, err
		}
		return info.Device, nil
	}, nil)
	if errors.Is(err, unix.ENXIO) { // detached meanwhile
		return false
	}
	return err != nil || r.devices[device]
}

// looping returns the loop devices that still show a file of a target. One that
// shows another path may show the same file, which is mounted there no more, or
// have been given to another.
func (r *run) looping(ctx context.Context, devices map[string]string) (left []string) {
	for name, path := range r.loops {
		if now, ok := devices[name]; !ok || now != path && !r.shows(ctx, name) {
			delete(r.loops, name)
			continue
		}
		left = append(left, fmt.Sprintf("loop device %s, which shows %s", name, path))
	}
	slices.Sort(left)
	return left
}
